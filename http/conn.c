/*
 * conn.c -- a connection: requests one after another, idle in between.
 *
 *     idle --first byte--> head --complete--> chain --> reply --> rest of body -+
 *      ^                    |                                                  |
 *      +--------------------|---------------------- keep ---------------------+
 *                           +--refused, or not keep--> linger --> closed
 *
 * An idle connection has no goroutine and no memory but its own record: the
 * poller starts a goroutine at the first byte of a request, which serves until
 * there is no more input, gives the buffers back (struct ht_kit) and ends.  The
 * last thing it does is to tell the poller; from then on k is another's.
 *
 * Pipelined requests wait in the input buffer; their replies gather in the output
 * buffer, which is flushed when it is full and before anybody waits for input.
 *
 * After a reply that ends the connection while the client may still be sending,
 * closing at once would make the kernel send a reset, which can destroy the reply
 * on its way.  So: end our side, read on for a bounded time and size, then close.
 *
 * Draining needs idle connections to notice.  k->idle says that one waits for a
 * request; the drainer moves its deadline close (ht_conn_wake), and the state
 * WAKING keeps the connection from going on until that is done, so the short
 * deadline never hits a request in progress.
 */

#include "ht.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUSY, IDLE, WAKING };            /* k->idle */
#define WAKE_GRACE (5 * BH_MILLISECOND) /* for a request that is on its way */

static void serve_turns(void *arg);

/* ---- input -------------------------------------------------------------------------- */

/* Room behind in_end: move what is there to the front, or get a larger buffer. */
static void
make_room(struct ht_conn *k)
{
    struct ht_kit *kit = k->kit;
    char          *bigger;

    if (k->in_start == k->in_end) {
        k->in_start = k->in_end = 0;
    } else if (k->in_start > 0 && k->in_end == kit->in_size) {
        memmove(kit->in, kit->in + k->in_start, k->in_end - k->in_start);
        k->in_end -= k->in_start;
        k->in_start = 0;
    }
    if (k->in_end < kit->in_size)
        return;
    bigger = realloc(kit->in, kit->in_size == 0 ? HT_IN_SIZE : kit->in_size * 2);
    if (bigger == NULL)
        bh_panic("http: out of memory for input");
    kit->in_size = kit->in_size == 0 ? HT_IN_SIZE : kit->in_size * 2;
    kit->in = bigger;
}

static ssize_t
took(struct ht_conn *k, ssize_t n)
{
    if (n > 0)
        k->in_end += (size_t)n;
    return n;
}

ssize_t
ht_fill(struct ht_conn *k, int64_t deadline)
{
    if (ht_flush(k) < 0)
        return k->error;
    make_room(k);
    k->idle_until = 0;
    bh_conn_set_read_deadline(k->io, deadline);
    return took(k, bh_read(k->io, k->kit->in + k->in_end, k->kit->in_size - k->in_end));
}

/* ---- idle --------------------------------------------------------------------------- */

void
ht_kit_free(struct bh_http_server *s, struct ht_kit *kit)
{
    if (kit == NULL)
        return;
    if (kit->call != NULL)
        ht_call_recycle(s, kit->call);
    bh_arena_free(kit->arena);
    free(kit->in);
    free(kit->out);
    free(kit);
}

static void
take_kit(struct ht_conn *k)
{
    struct bh_http_server *s = k->s;
    struct ht_kit         *kit = atomic_exchange(&s->hot_kit, NULL);

    if (kit == NULL) {
        bh_mutex_lock(&s->lock);
        kit = s->kits;
        if (kit != NULL) {
            s->kits = kit->next;
            s->kit_count--;
        }
        bh_mutex_unlock(&s->lock);
    }
    if (kit == NULL && (kit = calloc(1, sizeof *kit)) == NULL)
        bh_panic("http: out of memory for a connection");
    k->kit = kit;
}

/* Keep some for the next connections; give the memory of the rest, and of grown ones, back. */
static void
give_kit(struct ht_conn *k)
{
    struct bh_http_server *s = k->s;
    struct ht_kit         *kit = k->kit;
    struct ht_kit         *none = NULL;
    bool                   kept = false;

    k->kit = NULL;
    k->in_start = k->in_end = 0;
    if (kit->in_size <= HT_IN_SIZE && kit->out_size <= HT_OUT_SIZE) {
        if (atomic_compare_exchange_strong(&s->hot_kit, &none, kit))
            return;
        bh_mutex_lock(&s->lock);
        kept = s->kit_count < HT_MAX_KITS;
        if (kept) {
            kit->next = s->kits;
            s->kits = kit;
            s->kit_count++;
        }
        bh_mutex_unlock(&s->lock);
    }
    if (!kept)
        ht_kit_free(s, kit);
}

static void
set_busy(struct ht_conn *k)
{
    uint32_t idle = IDLE;

    while (!atomic_compare_exchange_weak(&k->idle, &idle, BUSY)) {
        idle = IDLE;
        bh_yield();
    }
}

void
ht_conn_wake(struct ht_conn *k)
{
    uint32_t idle = IDLE;

    if (!atomic_compare_exchange_strong(&k->idle, &idle, WAKING))
        return;
    bh_conn_set_read_deadline(k->io, bh_now() + WAKE_GRACE);
    atomic_store(&k->idle, IDLE);
}

/* Let the poller continue with k when there is input.  Returns: 0, and k is no longer ours; or an error. */
static int
wait_for_input(struct ht_conn *k)
{
    struct bh_go_options o = { .stack_size = k->s->o.stack_size };

    return bh_conn_go_when_readable(k->io, &o, serve_turns, k);
}

/* The same from a busy connection: from now on the drainer may wake it. */
static int
go_idle(struct ht_conn *k)
{
    struct bh_http_server *s = k->s;
    int64_t                timeout = k->requests == 0 ? s->o.head_timeout : s->o.idle_timeout;
    int64_t                until = bh_now_coarse() + timeout;
    int                    rc;

    /* A deadline that is a little early is good enough, and costs nothing. */
    if (until < k->idle_until || until - k->idle_until > timeout / 32) {
        bh_conn_set_read_deadline(k->io, until);
        k->idle_until = until;
    }
    /* Idle first, then look whether it drains: ht_conn_wake comes the other way. */
    atomic_store(&k->idle, IDLE);
    if (atomic_load(&s->draining))
        bh_conn_set_read_deadline(k->io, bh_now() + WAKE_GRACE);
    rc = wait_for_input(k);
    if (rc < 0)
        set_busy(k);
    return rc;
}

/*
 * Returns: the offset behind the head, from in_start; 0 if the client is gone; a
 * negative status with f->reason set.
 */
static long
read_head(struct ht_conn *k, struct ht_finder *f)
{
    int64_t deadline = 0;
    ssize_t n;
    long    end;

    memset(f, 0, sizeof *f);
    for (;;) {
        end = ht_head_find(f, k->kit->in + k->in_start, k->in_end - k->in_start, &k->s->limits);
        if (end != 0)
            return end;
        if (deadline == 0)
            deadline = bh_now() + k->s->o.head_timeout;
        n = ht_fill(k, deadline);
        if (n == BH_EDEADLINE) {
            f->reason = "request head too slow";
            return -408;
        }
        if (n <= 0)
            return 0;
    }
}

/* ---- what to run --------------------------------------------------------------------- */

struct refusal {
    int         status;
    const char *reason;
};

static int
reply_refusal(struct bh_http_call *c, void *arg)
{
    const struct refusal *r = arg;

    ht_reply_error(c->s, r->status, r->reason);
    return 0;
}

static int
reply_options(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)bh_http_set_header(c, "Allow", ht_router_allow(&c->s->s->router, c->path, c->arena));
    return bh_http_reply_bytes(c, 204, NULL, NULL, 0);
}

static int
reply_wrong_method(struct bh_http_call *c, void *arg)
{
    (void)arg;
    ht_reply_error(c->s, 405, NULL);
    (void)bh_http_set_header(c, "Allow", ht_router_allow(&c->s->s->router, c->path, c->arena));
    return 0;
}

static int
run_refusal(struct ht_call *x, int status, const char *reason)
{
    struct refusal r = { status, reason };

    x->keep = false;
    atomic_fetch_add_explicit(&x->s->refused, 1, memory_order_relaxed);
    return ht_run(x, x->s->observer_count, reply_refusal, &r);
}

static void
unescape_params(struct ht_call *x)
{
    const struct ht_match *m = &x->match;

    for (int i = 0; i < m->route->param_count; i++) {
        char *text = bh_arena_alloc(x->arena, m->lengths[i] + 1);

        (void)ht_unescape(text, m->params[i], m->lengths[i], false);
        x->params[i] = text;
    }
}

static int
run_route(struct ht_call *x)
{
    struct bh_http_server *s = x->s;
    struct refusal         not_found = { 404, NULL }, too_large = { 413, NULL };

    if (x->head.body == HT_BODY_LENGTH && x->head.length > s->o.max_body)
        return ht_run(x, s->step_count, reply_refusal, &too_large);
    if (x->pub.path[0] == '*')
        return ht_run(x, s->step_count, reply_options, NULL);
    ht_router_match(&s->router, x->pub.method, x->pub.path, x->arena, &x->match);
    if (x->match.route != NULL) {
        x->pub.route = x->match.route->pattern;
        unescape_params(x);
        return ht_run(x, s->step_count, x->match.route->fn, x->match.route->arg);
    }
    if (x->match.path_known)
        return ht_run(x, s->step_count,
                      strcmp(x->pub.method, "OPTIONS") == 0 ? reply_options : reply_wrong_method,
                      NULL);
    return ht_run(x, s->step_count, reply_refusal, &not_found);
}

/* Returns: 0, or a negative status.  The head's bytes move into the call's memory. */
static int
parse_call(struct ht_call *x, const struct ht_finder *f, const char *data, size_t size)
{
    struct ht_target target;
    unsigned         fields = f->lines - 1;
    char            *copy = bh_arena_copy(x->arena, data, size);
    int              status =
        ht_head_parse(&x->head, copy, size,
                      bh_arena_alloc(x->arena, (fields + 1) * sizeof(struct ht_field)), fields);

    if (status == 0)
        status = ht_target_parse(&target, &x->head);
    if (status < 0)
        return status;
    x->pub.method = x->head.method;
    x->pub.path = target.path;
    x->pub.query = target.query;
    x->pub.host = target.host;
    x->pub.version = 10 + x->head.minor;
    x->keep = x->head.keep;
    ht_body_init(x);
    return 0;
}

/* ---- the loop -------------------------------------------------------------------------- */

enum after { NEXT, CLOSE, LINGER, RESET };

/* How the connection goes on, its call being over. */
static enum after
after_reply(struct ht_call *x, int error)
{
    const struct ht_conn *k = x->k;
    bool ends_body = x->reply == HT_REPLY_COMMITTED && x->length < 0 && !x->send_chunked;

    if (x->pub.aborted)
        return ends_body ? RESET : CLOSE;
    if (error < 0)
        return CLOSE;
    if (!x->keep) /* done with a client that expects nothing more, or in the middle of something */
        return x->body_done && x->head.method != NULL && !x->head.keep &&
                       k->in_start == k->in_end
                   ? CLOSE
                   : LINGER;
    return x->body_done || ht_body_discard(x) ? NEXT : LINGER;
}

static enum after
serve_one(struct ht_conn *k)
{
    struct bh_http_server *s = k->s;
    struct ht_finder       f;
    enum after             after;
    struct ht_call        *x;
    long                   end = read_head(k, &f);

    if (end == 0)
        return CLOSE;
    k->requests++;
    atomic_fetch_add_explicit(&s->requests, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&s->active, 1, memory_order_relaxed);
    x = ht_call_new(k);
    if (end > 0) {
        int status =
            parse_call(x, &f, k->kit->in + k->in_start + f.start, (size_t)end - f.start);

        k->in_start += (size_t)end;
        if (status < 0)
            (void)run_refusal(x, -status, x->head.reason);
        else
            (void)run_route(x);
    } else {
        (void)run_refusal(x, (int)-end, f.reason);
    }
    after = after_reply(x, ht_reply_finish(x));
    atomic_fetch_sub_explicit(&s->active, 1, memory_order_relaxed);
    ht_call_end(x);
    return after;
}

static void
linger(struct ht_conn *k)
{
    int64_t deadline = bh_now() + HT_LINGER_TIME;
    size_t  total = 0;
    ssize_t n = 1;

    if (ht_flush(k) < 0 || bh_conn_shutdown_write(k->io) < 0)
        return;
    while (n > 0 && total < HT_LINGER_SIZE) {
        k->in_start = k->in_end = 0;
        n = ht_fill(k, deadline);
        total += n > 0 ? (size_t)n : 0;
    }
}

/* A panic outside the recovery boundary: in an observer, a cleanup, or our own code. */
static void
outside_panicked(struct ht_conn *k, const struct bh_panic *p, const struct ht_caught *caught)
{
    struct ht_call *x = k->call;

    if (x == NULL || p->kind != &bh_kind_http_abort || p->value != x) {
        atomic_fetch_add_explicit(&k->s->panics, 1, memory_order_relaxed);
        ht_report(k->s, x, p, caught, x != NULL ? "observer" : "cleanup", "aborted");
    }
    if (x != NULL)
        ht_break(x);
}

/* One goroutine's time with a connection. */
struct turn {
    struct ht_conn  *k;
    bool             idle; /* k went idle: it is no longer ours */
    struct ht_caught caught;
};

static void
serve_requests(struct turn *t)
{
    struct ht_conn *k = t->k;
    enum after      after;

    set_busy(k);
    do
        after = serve_one(k);
    while (after == NEXT && k->in_start < k->in_end);
    if (after == LINGER)
        linger(k);
    else if (ht_flush(k) < 0 && after == NEXT)
        after = CLOSE;
    if (after == RESET)
        bh_conn_abort(k->io);
    if (after != NEXT)
        return;
    give_kit(k);
    t->idle = go_idle(k) == 0;
}

/* The first bytes of a request, the end of the connection, or a false alarm: stay idle. */
static void
serve_watched(struct turn *t)
{
    struct ht_conn *k = t->k;
    ssize_t         n;

    BH_DEFER(ht_note_stack, &t->caught);
    take_kit(k);
    make_room(k);
    n = took(k, bh_try_read(k->io, k->kit->in, k->kit->in_size));
    if (n > 0) {
        serve_requests(t);
    } else if (n == -EAGAIN) {
        give_kit(k);
        t->idle = wait_for_input(k) == 0;
    }
    t->caught.done = true;
}

static void
serve_guarded(struct turn *t)
{
    BH_RECOVER(p) {
        outside_panicked(t->k, p, &t->caught);
        return;
    }
    serve_watched(t);
}

void
ht_conn_end(struct ht_conn *k)
{
    struct bh_http_server *s = k->s;

    if (k->call != NULL) { /* its chain panicked outside recover, or called bh_goexit */
        if (k->call->reply == HT_REPLY_COMMITTED)
            bh_conn_abort(k->io);
        atomic_fetch_sub_explicit(&s->active, 1, memory_order_relaxed);
        ht_call_end(k->call);
    }
    bh_mutex_lock(&s->lock);
    if (k->newer != NULL)
        k->newer->older = k->older;
    else if (s->conns == k) /* it may not have been in the list yet */
        s->conns = k->older;
    if (k->older != NULL)
        k->older->newer = k->newer;
    bh_mutex_unlock(&s->lock);
    bh_conn_free(k->io);
    ht_kit_free(s, k->kit);
    free(k);
    ht_server_conn_ended(s);
}

static void
end_turn(struct turn *t)
{
    if (!t->idle)
        ht_conn_end(t->k);
}

/* There is input, or the deadline has passed, or the connection is closed. */
static void
serve_turns(void *arg)
{
    struct turn t;

    t.k = arg;
    t.idle = false;
    t.caught.done = false;
    t.caught.frame_count = 0;
    BH_DEFER(end_turn, &t);
    serve_guarded(&t);
}

void
ht_conn_start(struct ht_conn *k)
{
    if (go_idle(k) < 0)
        ht_conn_end(k);
}
