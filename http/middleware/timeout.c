/*
 * timeout.c -- a handler that takes too long costs its reply, not its client's time.
 *
 *     request's goroutine  --start--> waits --------------------> adopts the reply, goes on
 *                                       |                    ^
 *     child: the rest of the chain   ---|--------- done -----+
 *                                       |
 *                                       +--deadline--> answers 503; the child is detached
 *
 * The child has a call of its own, y, with its own arena, reply and cursor; it shares the
 * parsed head of the request's call x, and holds a reference to x.  So there is no moment at
 * which two goroutines write one reply: y's is adopted whole, or never.
 *
 * What reaches the connection (reading the body, a reply that is flushed) goes through
 * the wire of y, which forwards to x under t->lock, unless it has been detached; x's
 * owner is the child meanwhile.  Detaching takes the same lock.  A child that waits inside for
 * the client's bytes is woken by the wire's interrupt; one that waits for a slow reader
 * is let finish: its reply is out, so there is no other to give.
 *
 * A panic in time is raised again in the request's goroutine, so that bh_http_recover sees it:
 * the child waits in its recovery until it has been copied, and its stack is noted beside.
 *
 * References to y: the request's (until its reply is out), the child's, and those of background
 * goroutines.  The whole is recycled with its arena, channels and timer: in time, nothing
 * is allocated.
 */

#include <stdlib.h>
#include <string.h>

#include <bulkhead/http/limits.h>

#include "ht.h"

enum {
    RUNNING,
    FINISHED, /* in time */
    DETACHED, /* too late: nothing of the child counts any more */
};

struct ht_sub {
    struct ht_sub   *next; /* in the server's list */
    struct ht_call  *x, *y;
    struct bh_arena *arena;  /* of y */
    struct bh_chan  *done;   /* the child has finished, or panicked; room for one */
    struct bh_chan  *copied; /* its panic is the request's now */
    struct bh_timer *timer;
    int64_t timer_at; /* when it rings; 0: not armed.  Left alone if that is early enough */
    int64_t deadline;

    struct bh_mutex lock; /* of what the wire does; DETACHED is set under it */
    _Atomic int     state;

    int                    rc; /* of the chain, and why */
    char                  *note;
    const struct bh_panic *panic;
    struct ht_caught       caught;
};

/* ---- y's wire: x's, while that is allowed ---------------------------------------- */

static int
gone(void)
{
    return bh_fail(BH_EDEADLINE, "http: the request has timed out");
}

/* y's reply is about to begin: what x shall say. */
static void
show(struct ht_call *x, const struct ht_call *y)
{
    x->pub.status = y->pub.status;
    x->pub.sent = y->pub.sent;
    x->bodyless = y->bodyless;
    x->length = y->length;
    x->type = y->type;
    x->lines = y->lines;
    x->lines_end = y->lines != NULL ? y->lines_end : &x->lines;
}

static int
send_head(struct ht_call *y, int64_t size)
{
    struct ht_sub *t = y->sub;

    bh_mutex_lock(&t->lock);
    BH_DEFER(bh_mutex_unlock, &t->lock);
    if (atomic_load(&t->state) == DETACHED)
        return gone();
    show(t->x, y);
    return ht_reply_begin(t->x, size);
}

static int
send_part(struct ht_call *y, const void *data, size_t size, enum bh_http_part part)
{
    struct ht_sub *t = y->sub;

    bh_mutex_lock(&t->lock);
    BH_DEFER(bh_mutex_unlock, &t->lock);
    return atomic_load(&t->state) == DETACHED ? gone() : ht_reply_pass(t->x, data, size, part);
}

static int
send_bytes(struct ht_call *y, const void *data, size_t size)
{
    return send_part(y, data, size, BH_HTTP_MORE);
}

static int
flush(struct ht_call *y)
{
    return send_part(y, NULL, 0, BH_HTTP_FLUSH);
}

/* x's reading answers Expect when it begins, and the request's goroutine ends the reply. */
static int
send_interim(struct ht_call *y, int status)
{
    (void)y;
    (void)status;
    return 0;
}

static int
send_end(struct ht_call *y)
{
    return y->error;
}

static ssize_t
read_body(struct ht_call *y, void *buffer, size_t size)
{
    struct ht_sub  *t = y->sub;
    struct ht_call *x = t->x;
    ssize_t         n;

    bh_mutex_lock(&t->lock);
    BH_DEFER(bh_mutex_unlock, &t->lock);
    if (atomic_load(&t->state) == DETACHED)
        return ht_body_fail(y, gone(), "timed out");
    x->max_body = y->max_body;
    n = bh_http_read(&x->pub, buffer, size);
    y->body_done = n == 0;
    y->body_error = x->body_error;
    y->body_reason = x->body_reason;
    y->request_trailers = x->request_trailers;
    return n;
}

static const struct ht_wire timed_wire = {
    .head = send_head,
    .send = send_bytes,
    .flush = flush,
    .end = send_end,
    .interim = send_interim,
    .read = read_body,
};

/* ---- y's context ----------------------------------------------------------------- */

struct bh_ctx *
ht_sub_ctx(struct ht_sub *t)
{
    struct ht_call *y = t->y;

    bh_mutex_lock(&t->lock);
    BH_DEFER(bh_mutex_unlock, &t->lock);
    if (atomic_load(&t->state) == DETACHED) {
        y->ctx = bh_ctx_cancellable(y->s->ctx);
        bh_ctx_cancel_cause(y->ctx, BH_EDEADLINE, "request timed out");
    } else {
        y->ctx = bh_ctx_deadline(bh_http_ctx(&t->x->pub), t->deadline);
    }
    return y->ctx;
}

/* ---- life ------------------------------------------------------------------------ */

struct ht_sub *
ht_sub_free(struct ht_sub *t)
{
    struct ht_sub *next = t->next;

    bh_chan_unref(t->done);
    bh_chan_unref(t->copied);
    bh_timer_free(t->timer);
    bh_arena_free(t->arena);
    free(t->y);
    free(t);
    return next;
}

struct ht_call *
ht_sub_outer(const struct ht_sub *t)
{
    return t->x;
}

void
ht_sub_release(struct ht_sub *t)
{
    struct ht_call        *x = t->x;
    struct bh_http_server *s = x->s;
    struct ht_sub         *none = NULL;

    bh_arena_reset(t->arena);
    t->y->arena = NULL;
    t->next = NULL;
    if (!atomic_compare_exchange_strong(&s->hot_sub, &none, t)) {
        bh_mutex_lock(&s->lock);
        t->next = s->free_subs;
        s->free_subs = t;
        bh_mutex_unlock(&s->lock);
    }
    ht_call_unref(x);
}

static struct ht_sub *
new_sub(struct bh_http_server *s)
{
    struct ht_sub *t = calloc(1, sizeof *t);

    if (t == NULL || (t->y = calloc(1, sizeof *t->y)) == NULL)
        bh_panic("http: out of memory for a timed call");
    t->arena = bh_arena_new(s->o.max_memory);
    t->done = BH_CHAN(char, 1);
    t->copied = BH_CHAN(char, 1);
    t->timer = bh_timer_new(BH_SECOND);
    (void)bh_timer_stop(t->timer);
    return t;
}

static struct ht_sub *
take_sub(struct bh_http_server *s)
{
    struct ht_sub *t = atomic_exchange(&s->hot_sub, NULL);

    if (t != NULL)
        return t;
    bh_mutex_lock(&s->lock);
    t = s->free_subs;
    if (t != NULL)
        s->free_subs = t->next;
    bh_mutex_unlock(&s->lock);
    return t != NULL ? t : new_sub(s);
}

/* The fields of the reply so far: y may replace or add to them, x keeps its own. */
static void
copy_lines(struct ht_call *y, const struct ht_line *from)
{
    for (; from != NULL; from = from->next) {
        struct ht_line *l = bh_arena_alloc(y->arena, sizeof *l);

        *l = (struct ht_line){ NULL, from->name, from->value };
        *y->lines_end = l;
        y->lines_end = &l->next;
    }
}

/* Where the chain is, and what it knows, for a goroutine of its own. */
static struct ht_sub *
make_sub(struct ht_call *x)
{
    struct ht_sub  *t = take_sub(x->s);
    struct ht_call *y = t->y;

    t->x = x;
    atomic_store_explicit(&t->state, RUNNING, memory_order_relaxed);
    t->rc = 0;
    t->note = NULL;
    t->panic = NULL;
    t->caught.done = false;
    t->caught.frame_count = 0;
    ht_call_reset(y, x->s, t->arena);
    y->sub = t;
    y->wire = &timed_wire;
    y->pub = x->pub;
    y->pub.arena = t->arena;
    y->pub.s = y;
    y->head = x->head;
    y->match = x->match;
    memcpy(y->params, x->params, sizeof y->params);
    y->chain = x->chain;
    y->step = x->step;
    y->step_count = x->step_count;
    y->handler = x->handler;
    y->handler_arg = x->handler_arg;
    y->values = x->values;
    y->max_body = x->max_body;
    y->body_done = x->body_done;
    y->body_error = x->body_error;
    y->request_trailers = x->request_trailers;
    y->type = x->type;
    copy_lines(y, x->lines);
    atomic_store_explicit(&y->owner, 0, memory_order_relaxed);
    atomic_store_explicit(&y->refs, 2, memory_order_relaxed);
    atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
    return t;
}

/* ---- the child ------------------------------------------------------------------- */

/* It has ended.  Returns: whether that was in time. */
static bool
in_time(struct ht_sub *t)
{
    int running = RUNNING;

    return atomic_compare_exchange_strong(&t->state, &running, FINISHED);
}

static void
run_chain(struct ht_sub *t)
{
    struct ht_call *y = t->y;

    BH_DEFER(ht_note_stack, &t->caught);
    t->rc = ht_next(y);
    if (t->rc < 0) {
        const char *note = bh_error_note();

        t->note = bh_arena_string(y->arena, note, strlen(note));
    }
    if (y->reply != HT_REPLY_NONE) {
        ht_reply_settle(y, t->rc);
        ht_reply_filter(y, NULL);
    }
    t->caught.done = true;
}

/* In time, it counts as background work from here on: it may outlive the request a little. */
static void
child_panicked(struct ht_sub *t, const struct bh_panic *p)
{
    struct bh_http_server *s = t->y->s;

    t->panic = p;
    atomic_fetch_add(&s->background, 1);
    if (in_time(t)) {
        bh_send(t->done, &(char){ 0 });
        bh_recv(t->copied, NULL);
        return;
    }
    atomic_fetch_sub(&s->background, 1); /* as who is late it counts already */
    atomic_fetch_add_explicit(&s->panics, 1, memory_order_relaxed);
    ht_report(s, t->y, p, &t->caught, "late", "contained");
}

static void
run_guarded(struct ht_sub *t)
{
    BH_RECOVER(p) {
        child_panicked(t, p);
        return;
    }
    run_chain(t);
}

/*
 * However it has ended.  In time, the reference goes before the request's goroutine is told,
 * and nothing but the channel is touched after: the server may be freed by then.
 */
static void
child_over(struct ht_sub *t)
{
    struct ht_call        *y = t->y;
    struct bh_http_server *s = y->s;
    struct bh_chan        *done = bh_chan_ref(t->done);

    atomic_store_explicit(&y->owner, 0, memory_order_release);
    if (t->panic == NULL && in_time(t)) {
        atomic_fetch_sub_explicit(&y->refs, 1, memory_order_acq_rel); /* never the last */
        bh_send(done, &(char){ 0 });
    } else {
        ht_call_unref(y);
        ht_server_background_ended(s);
    }
    bh_chan_unref(done);
}

static void
child_main(void *args)
{
    struct ht_sub *t = *(struct ht_sub **)args;

    BH_DEFER(child_over, t);
    atomic_store_explicit(&t->y->owner, bh_id(), memory_order_release);
    atomic_store_explicit(&t->x->owner, bh_id(), memory_order_release);
    run_guarded(t);
}

/* ---- the request's goroutine ----------------------------------------------------- */

static void
start_child(struct ht_sub *t)
{
    BH_RECOVER(p) {
        ht_call_unref(t->y);
        ht_call_unref(t->y);
        bh_repanic(p); /* no goroutine can be had */
    }
    bh_go_with((&(struct bh_go_options){ .stack_size = t->x->s->o.stack_size }), child_main,
               &t);
}

/* From now on nothing of the child counts.  Returns: false if it has just finished. */
static bool
detach(struct ht_sub *t)
{
    struct ht_call *x = t->x;
    int             running = RUNNING;
    bool            late;

    while (!bh_mutex_try_lock(&t->lock)) { /* it waits for the client */
        if (x->wire->interrupt != NULL)
            x->wire->interrupt(x);
        bh_sleep(BH_MILLISECOND);
    }
    atomic_fetch_add(&x->s->background, 1); /* before the child can end it */
    late = atomic_compare_exchange_strong(&t->state, &running, DETACHED);
    if (!late)
        atomic_fetch_sub(&x->s->background, 1);
    if (late && t->y->ctx != NULL)
        bh_ctx_cancel_cause(t->y->ctx, BH_EDEADLINE, "request timed out");
    bh_mutex_unlock(&t->lock);
    return late;
}

static int
answer_late(struct ht_sub *t, const struct bh_http_timeout_options *o)
{
    struct ht_call *x = t->x, *y = t->y;
    double          seconds = (double)o->after / (double)BH_SECOND;
    uint64_t        id = x->pub.id;

    x->keep = x->keep && x->body_done;
    if (x->reply == HT_REPLY_COMMITTED)
        ht_break(x);
    else
        ht_reply_error(x, o->status != 0 ? o->status : 503, "timed out");
    ht_call_unref(y);
    return bh_fail(BH_EDEADLINE, "http: request %llu timed out after %g s",
                   (unsigned long long)id, seconds);
}

static void
let_go(struct ht_sub *t)
{
    bh_send(t->copied, &(char){ 0 });
}

/* Panic as the child did; what it holds is let go when that has been copied. */
static noreturn void
raise_again(struct ht_sub *t)
{
    struct ht_call *x = t->x;

    x->carried = bh_arena_copy(x->arena, &t->caught, sizeof t->caught);
    x->adopted = t->y;
    BH_DEFER(let_go, t);
    bh_repanic(t->panic);
}

/* The child's reply is the request's. */
static int
adopt(struct ht_sub *t)
{
    struct ht_call *x = t->x, *y = t->y;

    x->adopted = y;
    x->values = y->values;
    x->body_error = y->body_error;
    x->body_reason = y->body_reason;
    if (y->pub.aborted)
        ht_break(x);
    if (y->reply != HT_REPLY_NONE) {
        show(x, y);
        x->reply = y->reply;
        x->body = y->body;
        x->buffer = y->buffer;
        x->buffered = y->buffered;
        x->trailers = y->trailers;
        x->trailers_end = y->trailers != NULL ? y->trailers_end : &x->trailers;
    }
    return t->rc < 0 ? bh_fail(t->rc, "%s", t->note) : t->rc;
}

/* The timer may be armed for an earlier request, and rings in vain then: seldom, unlike requests. */
static void
arm(struct ht_sub *t, int64_t now)
{
    if (t->timer_at != 0 && t->timer_at <= t->deadline)
        return;
    t->timer_at = t->deadline;
    (void)bh_timer_reset(t->timer, t->deadline - now);
}

/* Returns: false at the deadline. */
static bool
wait_for_child(struct ht_sub *t)
{
    enum { DONE, RING };
    int64_t now;

    while (bh_select([DONE] = BH_RECV(t->done, NULL), [RING] = BH_RECV(bh_timer_chan(t->timer),
                                                                       NULL)) == RING) {
        t->timer_at = 0;
        now = bh_now();
        if (now >= t->deadline)
            return false;
        arm(t, now);
    }
    return true;
}

int
bh_http_timeout(struct bh_http_call *c, void *arg)
{
    const struct bh_http_timeout_options *o = arg;
    struct ht_call                       *x = ht_own(c);
    struct ht_sub                        *t;
    uint64_t                              self = bh_id();
    int64_t                               now;
    bool                                  late;

    if (o->after <= 0)
        return ht_next(x);
    now = bh_now();
    t = make_sub(x);
    t->deadline = now + o->after;
    arm(t, now);
    start_child(t);
    late = !wait_for_child(t);
    if (late && !detach(t)) {
        bh_recv(t->done, NULL);
        late = false;
    }
    atomic_store_explicit(&x->owner, self, memory_order_release);
    if (late)
        return answer_late(t, o);
    if (t->panic != NULL)
        raise_again(t);
    return adopt(t);
}
