/*
 * capture.c -- phase 1 and phase 2 of a panic's report: what is noted where it
 * happens.
 *
 * All of this runs on the panicking goroutine, on top of its stack, perhaps in the
 * few pages that an overflow has left: no memory from elsewhere, no lock, no I/O
 * but one futex to wake the reporter, small frames.
 *
 * Phase 1, at RAISED.  The limiter looks at the innermost return addresses: a
 * panic that has just been reported from there becomes a line in a ring
 * (limiter.c).  Else one of 64 slots is claimed, filled, and made READY.
 * Addresses, not names: the reporter looks them up (reporter.c).
 *
 * Phase 2, at the other steps: the slot is found by the panic's serial number, and
 * what happened is added.  The slot may be taken away meanwhile for another panic,
 * so whoever writes pins it first and then looks at the serial again.  Reading
 * half of the news is harmless: more news follows, and the report is amended again.
 *
 * A panic with a slot of its own stays there after its report is written, until its
 * slot is needed: what is learnt later (recovered after seconds, panicked again,
 * lost) still finds it.  One that ends the process always gets a report.
 */

#include "capture.h"

#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/stack.h>
#include <bulkhead/http/http.h>
#include <bulkhead/observe/report.h>

#include "limiter.h"

enum { KEY_PCS = 32, FATAL_WAIT_MS = 2000 };

struct ob_capture ob_capture;

static int64_t
clock_ns(clockid_t clock)
{
    struct timespec t;

    (void)clock_gettime(clock, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t
ob_now(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

int64_t
ob_time(void)
{
    return clock_ns(CLOCK_REALTIME);
}

void
ob_wake(void)
{
    (void)atomic_fetch_add(&ob_capture.work, 1);
    if (atomic_exchange(&ob_capture.sleeping, 0) != 0)
        (void)syscall(SYS_futex, &ob_capture.work, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, 1, NULL,
                      NULL, 0);
}

static void
add(_Atomic uint64_t *counter)
{
    (void)atomic_fetch_add_explicit(counter, 1, memory_order_relaxed);
}

static void
copy_text(char *to, size_t size, const char *from)
{
    size_t n = from != NULL ? strnlen(from, size - 1) : 0;

    if (n != 0)
        memcpy(to, from, n);
    to[n] = '\0';
}
#define COPY(to, from) copy_text((to), sizeof(to), (from))

/* ---- slots ----------------------------------------------------------------------- */

uint32_t
ob_slot_move(struct ob_slot *s, uint32_t to, bool clear)
{
    uint32_t old = atomic_load(&s->state), kept = ~(uint32_t)OB_STATE;

    if (clear)
        kept &= ~(uint32_t)OB_DIRTY;
    while (!atomic_compare_exchange_weak(&s->state, &old, (old & kept) | to))
        continue;
    return old;
}

static void
outcome_reset(struct ob_outcome *o)
{
    atomic_store_explicit(&o->result, BH_PANIC_RAISED, memory_order_relaxed);
    atomic_store_explicit(&o->contained, false, memory_order_relaxed);
    atomic_store_explicit(&o->lost, false, memory_order_relaxed);
    atomic_store_explicit(&o->hook_failed, false, memory_order_relaxed);
    atomic_store_explicit(&o->by, NULL, memory_order_relaxed);
    atomic_store_explicit(&o->goroutine, 0, memory_order_relaxed);
    atomic_store_explicit(&o->defers, 0, memory_order_relaxed);
    atomic_store_explicit(&o->repanics, 0, memory_order_relaxed);
    atomic_store_explicit(&o->unwind_ns, 0, memory_order_relaxed);
    atomic_store_explicit(&o->reply.known, 0, memory_order_relaxed);
    for (int i = 0; i < OB_DEFERS; i++)
        atomic_store_explicit(&o->defer[i].fn, 0, memory_order_relaxed);
}

/* claim -- a slot for a new panic: a free one, else one whose report is written; NULL: none. */
static struct ob_slot *
claim(uint64_t serial)
{
    static _Atomic uint32_t next;
    uint32_t                start = atomic_fetch_add_explicit(&next, 1, memory_order_relaxed);

    for (int round = 0; round < 2; round++)
        for (uint32_t i = 0; i < OB_SLOTS; i++) {
            uint32_t        at = (start + i) % OB_SLOTS;
            struct ob_slot *s = &ob_capture.slot[at];
            uint32_t        old = round == 0 ? OB_FREE : OB_KEPT;

            if (!atomic_compare_exchange_strong(&s->state, &old, OB_FILLING))
                continue;
            atomic_store(&ob_capture.serial[at], serial);
            atomic_store(&s->written, false);
            outcome_reset(&s->outcome);
            return s;
        }
    return NULL;
}

/* pin -- the slot of this panic, held against being claimed; NULL: it has none. */
static struct ob_slot *
pin(uint64_t serial)
{
    for (int i = 0; i < OB_SLOTS; i++) {
        if (atomic_load_explicit(&ob_capture.serial[i], memory_order_relaxed) != serial)
            continue;
        struct ob_slot *s = &ob_capture.slot[i];
        uint32_t        old = atomic_fetch_add(&s->state, OB_PIN);
        if ((old & OB_STATE) != OB_FILLING && atomic_load(&ob_capture.serial[i]) == serial)
            return s;
        (void)atomic_fetch_sub(&s->state, OB_PIN);
    }
    return NULL;
}

/* unpin -- news: tell the reporter. */
static void
unpin(struct ob_slot *s, bool news)
{
    if (news)
        (void)atomic_fetch_or(&s->state, OB_DIRTY);
    (void)atomic_fetch_sub(&s->state, OB_PIN);
    if (news)
        ob_wake();
}

/* ---- phase 1 --------------------------------------------------------------------- */

/* safe_text -- the text, if it can be had without running code of the application's. */
static const char *
safe_text(const struct bh_panic *p)
{
    const struct bh_kind *k = p->kind;

    if (k == NULL || k == &bh_kind_string || k == &bh_kind_error || k->runtime_error)
        return bh_panic_text(p);
    return k->error == NULL && k->string == NULL ? bh_panic_text(p) : NULL;
}

static void
note_own_text(const struct bh_panic *p, char *text, size_t size)
{
    BH_RECOVER(inner) {
        (void)inner;
        copy_text(text, size, "(its text panicked)");
        return;
    }
    copy_text(text, size, bh_panic_text(p));
}

static void
note_chain(struct ob_raised *r, const struct bh_panic *p)
{
    r->chain_count = r->chain_left_out = 0;
    for (const struct bh_panic *o = p->outer; o != NULL; o = o->outer) {
        struct ob_outer *to = &r->chain[r->chain_count];
        const char      *text = safe_text(o);

        if (r->chain_count == OB_CHAIN) {
            r->chain_left_out++;
            continue;
        }
        r->chain_count++;
        to->serial = o->serial;
        COPY(to->kind, o->kind != NULL ? o->kind->name : "");
        COPY(to->text, text != NULL ? text : "");
    }
}

/* note_place -- what only this goroutine knows, and only now: its deferred calls are still to run. */
static void
note_place(struct ob_raised *r, const struct bh_panic_event *e)
{
    r->register_count = e->register_count < OB_REGISTERS ? e->register_count : OB_REGISTERS;
    if (r->register_count > 0)
        memcpy(r->registers, e->registers, (size_t)r->register_count * sizeof *r->registers);
    r->lock_count = e->step == BH_PANIC_RAISED ? bh_deferred_locks(r->locks, OB_LOCKS) : -1;
    r->stack_used = e->stack_used;
    r->stack_size = e->stack_size;
}

static void
fill(struct ob_raised *r, const struct bh_panic_event *e)
{
    const struct bh_panic *p = e->panic;

    r->serial = p->serial;
    r->goroutine = p->goroutine;
    r->time = ob_time();
    COPY(r->kind, p->kind != NULL ? p->kind->name : "");
    COPY(r->file, p->file);
    r->line = p->line;
    r->signal = p->signal;
    r->code = p->code;
    r->runtime_error = p->kind != NULL && p->kind->runtime_error;
    r->fault_addr = p->fault_addr;
    r->pc = p->pc;
    r->hook_failed = e->hook_failed;
    note_place(r, e);
    if (e->pcs != NULL) {
        r->depth = e->depth < OB_PCS ? e->depth : OB_PCS;
        memcpy(r->pcs, e->pcs, (size_t)r->depth * sizeof r->pcs[0]);
    } else {
        r->depth = bh_stack(r->pcs, OB_PCS);
    }
    note_chain(r, p);
    bh_tag_get(&r->tag);
    COPY(r->name, bh_id() != 0 ? bh_name() : "");
    struct ob_call *call = ob_call_current(p->goroutine);
    r->has_request = call != NULL;
    if (call != NULL) {
        call->serial = p->serial;
        ob_request_note(&r->request, call->call);
    }
    r->now = bh_now();
    r->event_count = bh_flight_on() ? bh_flight_last(p->goroutine, r->event, OB_EVENTS) : 0;
    COPY(r->text, safe_text(p));
}

static void
measured(int64_t ns)
{
    int64_t max = atomic_load_explicit(&ob_capture.capture_max_ns, memory_order_relaxed);

    atomic_store_explicit(&ob_capture.capture_ns, ns, memory_order_relaxed);
    while (ns > max &&
           !atomic_compare_exchange_weak_explicit(&ob_capture.capture_max_ns, &max, ns,
                                                  memory_order_relaxed, memory_order_relaxed))
        continue;
}

static void
put_line(const struct bh_panic *p, const struct ob_line *like)
{
    struct ob_line line = *like;
    struct bh_tag  tag;
    const char    *text = safe_text(p);

    bh_tag_get(&tag);
    line.serial = p->serial;
    line.goroutine = p->goroutine;
    line.time = ob_time();
    line.sampled = tag.sampled;
    line.route = tag.route;
    memcpy(line.trace_id, tag.trace_id, sizeof line.trace_id);
    memcpy(line.span_id, tag.span_id, sizeof line.span_id);
    COPY(line.kind, p->kind != NULL ? p->kind->name : "");
    COPY(line.text, text != NULL ? text : "");
    if (ob_ring_put(&ob_capture.lines, &line, sizeof line) == 0)
        add(&ob_capture.lines_lost);
    else
        ob_wake();
}

/* capture -- forced: with no regard to the limiter.  Returns: the slot, to be published; or NULL. */
static struct ob_slot *
capture(const struct bh_panic_event *e, bool forced)
{
    const struct bh_panic *p = e->panic;
    uintptr_t              pcs[KEY_PCS];
    int64_t                began = ob_now();
    struct ob_line         line = { .why = OB_LINE_NO_SLOT };
    struct ob_slot        *s;
    int                    depth = e->pcs != NULL ? 0 : bh_stack(pcs, KEY_PCS);

    line.key = e->pcs != NULL ? ob_limiter_key(p->kind, e->pcs, e->depth)
                              : ob_limiter_key(p->kind, pcs, depth);
    if (!forced && !ob_limiter_admit(line.key, began, &line.fingerprint)) {
        line.why = OB_LINE_SUPPRESSED;
        add(&ob_capture.suppressed);
        put_line(p, &line);
        measured(ob_now() - began);
        return NULL;
    }
    s = claim(p->serial);
    if (s == NULL) {
        add(&ob_capture.no_slot);
        ob_limiter_forget(line.key);
        put_line(p, &line);
        return NULL;
    }
    s->raised.key = line.key;
    s->raised.mono = began;
    s->raised.forced = forced;
    fill(&s->raised, e);
    s->raised.capture_ns = ob_now() - began;
    measured(s->raised.capture_ns);
    if (safe_text(p) == NULL) /* the application's own code: its time, not ours */
        note_own_text(p, s->raised.text, sizeof s->raised.text);
    return s;
}

/* publish -- from now on the slot is the reporter's, and then whoever's panics next. */
static void
publish(struct ob_slot *s)
{
    (void)ob_slot_move(s, OB_READY, false);
    ob_wake();
}

/* ---- phase 2 --------------------------------------------------------------------- */

static void
note_defer(struct ob_outcome *o, const struct bh_panic_event *e)
{
    int at = e->defers - 1;

    if (at < 0 || at >= OB_DEFERS)
        return;
    if (e->step == BH_PANIC_DEFER) {
        atomic_store_explicit(&o->defer[at].began, ob_now(), memory_order_relaxed);
        atomic_store_explicit(&o->defer[at].ns, -1, memory_order_relaxed);
        atomic_store_explicit(&o->defer[at].recovered, false, memory_order_relaxed);
        atomic_store_explicit(&o->defer[at].fn, e->deferred, memory_order_relaxed);
    } else {
        int64_t began = atomic_load_explicit(&o->defer[at].began, memory_order_relaxed);

        atomic_store_explicit(&o->defer[at].recovered, e->recovered, memory_order_relaxed);
        atomic_store_explicit(&o->defer[at].ns, ob_now() - began, memory_order_relaxed);
    }
}

static void
note_result(struct ob_slot *s, const struct bh_panic_event *e)
{
    struct ob_outcome *o = &s->outcome;

    if (e->step == BH_PANIC_CONTAINED) {
        atomic_store_explicit(&o->contained, true, memory_order_relaxed);
        if (e->by != NULL && strcmp(e->by, "lost") == 0)
            atomic_store_explicit(&o->lost, true, memory_order_relaxed);
    } else {
        atomic_store_explicit(&o->result, e->step, memory_order_relaxed);
        atomic_store_explicit(&o->unwind_ns, ob_now() - s->raised.mono, memory_order_relaxed);
    }
    if (e->step == BH_PANIC_REPANICKED)
        (void)atomic_fetch_add_explicit(&o->repanics, 1, memory_order_relaxed);
    if (e->by != NULL)
        atomic_store_explicit(&o->by, e->by, memory_order_relaxed);
    atomic_store_explicit(&o->goroutine, bh_id(), memory_order_relaxed);
}

static void
settle(struct ob_slot *s, const struct bh_panic_event *e)
{
    struct ob_outcome *o = &s->outcome;

    atomic_store_explicit(&o->defers, e->defers, memory_order_relaxed);
    if (e->hook_failed)
        atomic_store_explicit(&o->hook_failed, true, memory_order_relaxed);
    if (e->step == BH_PANIC_DEFER || e->step == BH_PANIC_DEFER_DONE)
        note_defer(o, e);
    else
        note_result(s, e);
}

/* The process is about to end: give the reporter its time. */
static void
await_report(struct ob_slot *s, uint64_t serial)
{
    for (int ms = 0; ms < FATAL_WAIT_MS; ms++) {
        uint32_t state = atomic_load(&s->state);

        if (!atomic_load(&ob_capture.on) ||
            atomic_load(&ob_capture.serial[s - ob_capture.slot]) != serial)
            return;
        if ((state & OB_STATE) == OB_KEPT && !(state & OB_DIRTY))
            return;
        (void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
}

static void
later(const struct bh_panic_event *e)
{
    bool            minor = e->step == BH_PANIC_DEFER || e->step == BH_PANIC_DEFER_DONE;
    bool            lost = e->step == BH_PANIC_CONTAINED && e->pcs != NULL;
    struct ob_slot *s = pin(e->panic->serial);

    if (s != NULL) {
        settle(s, e);
        unpin(s, !minor);
    } else if (e->step == BH_PANIC_FATAL) {
        s = capture(e, true);
        if (s != NULL) {
            settle(s, e);
            publish(s);
        }
    }
    if (lost)
        put_line(e->panic, &(struct ob_line){ .why = OB_LINE_LOST });
    if (e->step == BH_PANIC_FATAL && s != NULL)
        await_report(s, e->panic->serial);
}

void
ob_reply_settle(uint64_t serial, const struct ob_reply_news *news)
{
    struct ob_slot *s = pin(serial);

    if (s == NULL)
        return;
    atomic_store_explicit(&s->outcome.reply.status, news->status, memory_order_relaxed);
    atomic_store_explicit(&s->outcome.reply.rc, news->rc, memory_order_relaxed);
    atomic_store_explicit(&s->outcome.reply.sent, news->sent, memory_order_relaxed);
    atomic_store_explicit(&s->outcome.reply.aborted, news->aborted, memory_order_relaxed);
    atomic_store_explicit(&s->outcome.reply.known, 1, memory_order_relaxed);
    unpin(s, true);
}

/* ---- the hook -------------------------------------------------------------------- */

/* say -- nobody reports: at least the text of what was contained, in one write. */
static void
say(const struct bh_panic_event *e)
{
    char        line[256];
    const char *text = safe_text(e->panic);
    int         n = snprintf(line, sizeof line, "panic: %.150s [contained by %.40s]\n",
                     text != NULL ? text : e->panic->kind->name, e->by != NULL ? e->by : "?");

    if (n > 0 && write(STDERR_FILENO, line, (size_t)n) < 0)
        return; /* nobody can be told */
}

void
bh_report_event(const struct bh_panic_event *e)
{
    if (e == NULL || e->panic == NULL || e->step < 0 || e->step >= BH_PANIC_STEPS)
        return;
    if (e->panic->kind == &bh_kind_http_abort) {
        if (e->step == BH_PANIC_RAISED)
            add(&ob_capture.aborted);
        return;
    }
    add(&ob_capture.step[e->step]);
    if (e->hook_failed && e->step == BH_PANIC_RAISED)
        add(&ob_capture.hook_failed);
    if (!atomic_load_explicit(&ob_capture.on, memory_order_acquire)) {
        if (e->step == BH_PANIC_CONTAINED)
            say(e);
        return;
    }
    if (e->step == BH_PANIC_RAISED) {
        struct ob_slot *s = capture(e, false);

        if (s != NULL)
            publish(s);
    } else {
        later(e);
    }
}
