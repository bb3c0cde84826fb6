/*
 * group.c -- goroutines that succeed or fail together.
 *
 * What members share lives on the heap, counted by the members and the group:
 * the group itself may be a local of a frame that a panic leaves.
 *
 *     bh_group_go:  take a slot > count up > start
 *     a member:     run > fail the group, once > give the slot back > count down
 *
 * Counting down is a member's last act, deferred outside its recover point: when
 * bh_group_wait returns, every panic has been reported and is in s->panic or in
 * s->err.  The first failure alone writes err and note (s->failed decides), the
 * first panic alone s->panic; both are read after the count has come to zero.
 *
 * After Go's errgroup.  We differ in what a panic does: there it ends the process
 * (and Wait may have returned nil before, as its Done is deferred).
 */

#include "contain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/own.h>
#include <bulkhead/go/sync.h>

#include "cold.h"
#include "ctx.h"
#include "transfer.h"

enum { MAGIC = 0x67727031 };
/* A member's block up to this size is built on the caller's stack. */
enum { SMALL_MEMBER = 512 };

struct bh_group_state {
    uint32_t            magic;
    unsigned            flags;
    _Atomic uint32_t    refs;
    _Atomic uint32_t    failed;
    _Atomic int32_t     active; /* members not yet ended */
    bool                limited;
    struct bh_ctx      *ctx;
    struct bh_waitgroup members;
    struct bh_semaphore slots; /* if limited */
    int                 err;
    char                note[RT_NOTE_SIZE];
    _Atomic(struct bh_panic *) panic; /* first of the members', to be raised again */
    struct bh_panic_ctx *transfer;    /* or to be claimed; NULL without the flag */
};

/* What a member's goroutine gets. */
struct member {
    struct bh_group_state *s; /* one reference */
    bh_group_fn           *fn;
    _Alignas(16) unsigned char args[];
};

static struct bh_group_state *
state(const struct bh_group *g)
{
    struct bh_group_state *s = g->s;

    BH_REQUIRE(s != NULL); /* initialized, and not waited for yet */
    if (s->magic != MAGIC)
        bh_fatal("group: its memory is damaged");
    return s;
}

static void
state_unref(struct bh_group_state *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    bh_ctx_unref(s->ctx);
    bh_panic_ctx_unref(s->transfer);
    free(s->panic);
    s->magic = 0;
    free(s);
}

void
bh_group_init(struct bh_group *g, struct bh_ctx *parent)
{
    struct bh_ctx         *ctx = bh_ctx_cancellable(parent);
    struct bh_group_state *s = rt_calloc(1, sizeof *s);

    s->magic = MAGIC;
    s->refs = 1;
    s->ctx = ctx;
    *g = (struct bh_group){ .ctx = ctx, .s = s };
}

void
bh_group_set_flags(struct bh_group *g, unsigned flags)
{
    struct bh_group_state *s = state(g);

    s->flags = flags;
    if ((flags & BH_GROUP_TRANSFER) != 0 && s->transfer == NULL)
        s->transfer = rt_transfer_new();
}

void
bh_group_set_limit(struct bh_group *g, int limit)
{
    struct bh_group_state *s = state(g);
    int                    active = s->active;

    if (active != 0)
        bh_panic_value(&bh_kind_error,
                       bh_print("errgroup: modify limit while %d goroutines in the group are "
                                "still active",
                                active));
    s->limited = limit >= 0;
    if (s->limited)
        bh_semaphore_init(&s->slots, limit);
}

/* ---- members ------------------------------------------------------------- */

static void
fail(struct bh_group_state *s, int err, const char *note)
{
    if (atomic_exchange(&s->failed, 1) != 0)
        return;
    (void)snprintf(s->note, sizeof s->note, "%s", note);
    s->err = err;
    bh_ctx_cancel_cause(s->ctx, err < 0 ? err : 0, s->note);
}

static void
member_panicked(struct bh_group_state *s, const struct bh_panic *p)
{
    char             note[RT_NOTE_SIZE];
    struct bh_panic *kept = (s->flags & BH_GROUP_REPANIC) ? rt_panic_keep(p) : NULL;
    struct bh_panic *none = NULL;

    if (kept != NULL && !atomic_compare_exchange_strong(&s->panic, &none, kept))
        free(kept);
    rt_panic_describe(p, note, sizeof note);
    fail(s, BH_EPANIC, note);
}

static void
member_run(struct member *m)
{
    BH_RECOVER(p) {
        member_panicked(m->s, p);
        return;
    }
    struct rt_contain c = { "its group", rt_g()->panics, m->s->transfer };
    BH_DEFER(rt_contain_report, &c);
    int err = m->fn(m->s->ctx, m->args);
    if (err != 0)
        fail(m->s, err, bh_error_note());
}

/* member_end -- the counts down again; nothing of the group may be touched afterwards. */
static void
member_end(struct bh_group_state *s)
{
    if (s->limited)
        bh_semaphore_release(&s->slots, 1);
    atomic_fetch_sub(&s->active, 1);
    bh_waitgroup_done(&s->members);
    state_unref(s);
}

static void
member_main(void *args)
{
    struct member *m = args;

    BH_DEFER(member_end, m->s);
    member_run(m);
}

/* A member counted but perhaps not started: bh_go may panic. */
struct start {
    struct bh_group_state *s;
    void                  *heap;
    bool                   started;
};

static void
start_end(struct start *st)
{
    free(st->heap);
    if (!st->started)
        member_end(st->s);
}

static bool
take_slot(struct bh_group_state *s, bool wait)
{
    if (!s->limited)
        return true;
    if (!wait)
        return bh_semaphore_try_acquire(&s->slots, 1);
    bh_semaphore_acquire(&s->slots, 1);
    return true;
}

bool
bh_group_start_(struct bh_group *g, bh_group_fn *fn, const void *args, size_t size, bool wait)
{
    struct bh_group_state *s = state(g);
    _Alignas(16) unsigned char small[SMALL_MEMBER];
    struct start st = { .s = s };
    struct member *m = (struct member *)(void *)small;

    BH_REQUIRE(fn != NULL);
    if (!take_slot(s, wait))
        return false;
    atomic_fetch_add(&s->active, 1);
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    bh_waitgroup_add(&s->members, 1);
    BH_DEFER(start_end, &st);

    if (size > sizeof small - sizeof *m)
        m = st.heap = rt_malloc(sizeof *m + size);
    m->s = s;
    m->fn = fn;
    if (size != 0)
        memcpy(m->args, args, size);
    rt_go(NULL, member_main, m, sizeof *m + size, __builtin_return_address(0));
    st.started = true;
    return true;
}

/* ---- waiting ------------------------------------------------------------- */

/* over -- every member has ended.  The caller has the group's reference now. */
static void
over(struct bh_group *g, struct bh_group_state *s)
{
    bh_ctx_cancel(s->ctx);
    g->ctx = rt_ctx_ended();
    g->s = NULL;
    if (s->transfer != NULL) {
        g->panic = bh_panic_ctx_ref(s->transfer);
        rt_transfer_end(s->transfer);
        s->transfer = NULL;
    }
}

/* drop_panic -- the last reference, unless somebody took one: lost if it is not handled. */
static void
drop_panic(struct bh_group *g)
{
    struct bh_panic_ctx *x = g->panic;

    g->panic = NULL;
    bh_panic_ctx_unref(x);
}

int
bh_group_wait(struct bh_group *g)
{
    struct bh_group_state *s = state(g);

    bh_waitgroup_wait(&s->members);
    over(g, s);
    BH_DEFER(state_unref, s);
    if (s->panic != NULL)
        bh_repanic(s->panic);
    return s->err != 0 ? bh_fail(s->err, "%s", s->note) : 0;
}

void
bh_group_join(struct bh_group *g)
{
    struct bh_group_state *s = g->s;

    if (s != NULL) {
        bh_ctx_cancel(s->ctx);
        bh_waitgroup_wait(&s->members);
        over(g, s);
        state_unref(s);
    }
    drop_panic(g);
}
