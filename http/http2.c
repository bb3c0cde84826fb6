/*
 * http2.c -- the life of an HTTP/2 connection, and the goroutines that work for it.
 *
 * An idle connection has no goroutine: the poller starts one when there is input, for a turn.
 * It reads what is there, feeds libnghttp2, leaves the connection to the poller again, and
 * only then works: it runs the requests whose heads are complete.  So input is
 * always looked at, and a client that leaves is noticed, whatever the handlers do.
 *
 *     poller --input--> turn --------> poller         the connection's own reference
 *                         |
 *                         +--> worker: next request, next request, ..., write, end
 *                                 |
 *                                 +--> helper: the same, should this one block
 *
 * A handler may block, so every request needs a goroutine of its own; but most do not, and
 * starting one for each costs more than many handlers do.  So a worker that takes a request while
 * others wait, or while frames wait to be written, first starts one helper, which gets its
 * turn when the worker blocks, or finds nothing left to do.  At any time:
 *
 *   I1  if requests wait, a worker is between two requests, or `helping` is set
 *   I2  if frames wait in h2->out, the same, or somebody is writing
 *
 * What frames a batch of requests makes is written at once, when the batch is done.
 *
 * Draining goes in two steps (RFC 9113 section 6.8): a GOAWAY that refuses nothing yet, and a PING;
 * when that is answered, or a second later, the client has read it, and the GOAWAY that counts
 * goes out.  The connection closes after its last stream.
 */

#include "h2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/tag.h>

#define NOTICE_TIME BH_SECOND

/* ---- streams --------------------------------------------------------------------- */

void
ht_h2_lose(struct h2_stream *st, int error)
{
    if (st->error == 0)
        st->error = error;
    if (st->ctx != NULL)
        bh_ctx_cancel_cause(st->ctx, error, "client left");
    bh_cond_signal(&st->changed);
}

void
ht_h2_free_stream(struct h2_stream *st)
{
    struct ht_h2 *h2 = st->h2;

    if (st->in_start < st->in_end && h2->error == 0)
        (void)nghttp2_session_consume_connection(h2->session, st->in_end - st->in_start);
    if (st->newer != NULL)
        st->newer->older = st->older;
    else
        h2->streams = st->older;
    if (st->older != NULL)
        st->older->newer = st->newer;
    if (st->trailers != NULL)
        free(st->trailers->text);
    free(st->trailers);
    if (st->head.text != st->first)
        free(st->head.text);
    free(st->in);
    free(st);
}

void
ht_h2_detach(struct h2_stream *st)
{
    struct ht_h2 *h2 = st->h2;

    st->busy = false;
    st->ctx = NULL;
    h2->running--;
    if (!st->open || h2->error != 0)
        ht_h2_free_stream(st);
}

static struct h2_stream *
take_ready(struct ht_h2 *h2)
{
    struct h2_stream *st = h2->ready;

    if (st == NULL)
        return NULL;
    h2->ready = st->next;
    if (h2->ready == NULL)
        h2->ready_end = &h2->ready;
    return st;
}

/* ---- the lock, and the end ------------------------------------------------------- */

void
ht_h2_lock(struct ht_h2 *h2)
{
    bh_mutex_lock(&h2->lock);
}

void
ht_h2_unlock(struct ht_h2 *h2)
{
    if (!bh_mutex_held(&h2->lock))
        return;
    if (h2->inside)
        ht_h2_kill(h2, BH_EPANIC);
    bh_mutex_unlock(&h2->lock);
}

void
ht_h2_kill(struct ht_h2 *h2, int error)
{
    struct h2_stream *st, *older;

    if (h2->error != 0)
        return;
    h2->error = error;
    h2->gathering = NULL;
    h2->block = NULL;
    while ((st = take_ready(h2)) != NULL) {
        st->busy = false;
        h2->running--;
    }
    for (st = h2->streams; st != NULL; st = older) {
        older = st->older;
        if (st->busy)
            ht_h2_lose(st, error);
        else
            ht_h2_free_stream(st);
    }
    if (h2->timer_at != 0 && bh_timer_stop(h2->timer)) {
        h2->timer_at = 0;
        h2->refs--; /* not the last: the caller has one */
    }
}

void
ht_h2_free(struct ht_conn *k)
{
    struct ht_h2 *h2 = k->h2;

    if (h2 == NULL)
        return;
    k->h2 = NULL;
    nghttp2_session_del(h2->session);
    h2->error = BH_ECLOSED;
    while (h2->streams != NULL)
        ht_h2_free_stream(h2->streams);
    bh_timer_free(h2->timer);
    free(h2->out);
    free(h2->spare);
    free(h2);
}

void
ht_h2_unref(struct ht_h2 *h2)
{
    bool last;

    bh_mutex_lock(&h2->lock);
    last = --h2->refs == 0;
    bh_mutex_unlock(&h2->lock);
    if (last)
        ht_conn_end(h2->k);
}

/* ---- deadlines of the connection ------------------------------------------------- */

void
ht_h2_wake(struct ht_h2 *h2)
{
    h2->deadline = bh_now();
    bh_conn_set_read_deadline(h2->k->io.conn, h2->deadline);
}

/* The first of two times, 0 being never. */
static int64_t
earlier(int64_t a, int64_t b)
{
    return a == 0 || (b != 0 && b < a) ? b : a;
}

void
ht_h2_set_deadline(struct ht_h2 *h2)
{
    int64_t until = earlier(h2->head_until, h2->open == 0 ? h2->idle_until : 0);
    int64_t slack = h2->k->s->o.idle_timeout / 32;

    if (h2->goaway == HT_H2_NOTICE)
        until = earlier(until, h2->notice_until);
    /* One that comes too early is a turn for nothing; moving it for each request costs more. */
    if (until != 0 &&
        (h2->deadline == 0 || until < h2->deadline || until - h2->deadline > slack)) {
        h2->deadline = until;
        bh_conn_set_read_deadline(h2->k->io.conn, until);
    }
    /* The drainer may have set its own before this one. */
    if (atomic_load(&h2->drain_wanted) && h2->goaway == HT_H2_OPEN)
        ht_h2_wake(h2);
}

/* The deadline of reading has passed: for what?  Reading can go on. */
static void
on_deadline(struct ht_h2 *h2)
{
    int64_t now = bh_now();

    h2->deadline = 0;
    bh_conn_set_read_deadline(h2->k->io.conn, 0);
    if (h2->error != 0 || h2->closing)
        return;
    if ((h2->head_until != 0 && now >= h2->head_until) ||
        (h2->open == 0 && now >= h2->idle_until))
        (void)nghttp2_session_terminate_session(h2->session, NGHTTP2_NO_ERROR);
    if (h2->goaway == HT_H2_NOTICE && now >= h2->notice_until)
        ht_h2_goaway(h2);
}

/* ---- draining -------------------------------------------------------------------- */

void
ht_h2_goaway(struct ht_h2 *h2)
{
    h2->goaway = HT_H2_GOAWAY;
    (void)nghttp2_submit_goaway(h2->session, NGHTTP2_FLAG_NONE,
                                nghttp2_session_get_last_proc_stream_id(h2->session),
                                NGHTTP2_NO_ERROR, NULL, 0);
}

/* Under the server's lock. */
static void
drain(void *arg)
{
    struct ht_conn *k = arg;

    atomic_store(&k->h2->drain_wanted, true);
    bh_conn_set_read_deadline(k->io.conn, bh_now());
}

static void
announce_drain(struct ht_h2 *h2)
{
    h2->goaway = HT_H2_NOTICE;
    h2->notice_until = bh_now() + NOTICE_TIME;
    (void)nghttp2_submit_shutdown_notice(h2->session);
    (void)nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL);
}

/* ---- workers --------------------------------------------------------------------- */

struct worker {
    struct ht_h2     *h2;
    struct ht_kit    *kit; /* for its calls, or NULL */
    struct h2_stream *st;  /* being served */
    struct ht_call   *call;
    bool              done; /* it was not ended by a handler's bh_goexit */
};

/* Ends the call and its stream, however the handler ended. */
static void
end_call(struct worker *w)
{
    struct ht_h2   *h2 = w->h2;
    struct ht_call *x = w->call;

    if (x == NULL || x->stream != NULL) { /* the wire has not seen a good end */
        struct h2_stream *st = w->st;

        ht_h2_lock(h2);
        BH_DEFER(ht_h2_unlock, h2);
        st->out_left = 0;
        if (st->open && h2->error == 0) {
            ht_h2_lose(st, BH_ECANCELED);
            (void)nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id,
                                            NGHTTP2_INTERNAL_ERROR);
            ht_h2_pump(h2);
        }
        ht_h2_detach(st);
    }
    w->st = NULL;
    w->call = NULL;
    if (x != NULL)
        ht_call_end(x, w->kit);
}

static void
run_call(void *arg)
{
    struct worker         *w = arg;
    struct ht_conn        *k = w->h2->k;
    struct bh_http_server *s = k->s;
    struct ht_call        *x;
    int                    status;

    if (w->kit == NULL)
        w->kit = ht_kit_take(s);
    x = w->call = ht_call_new(s, w->kit, &ht_http2_wire, ht_conn_peer(k));
    x->k = k;
    x->stream = w->st;
    x->pub.version = 20;
    x->pub.secure = k->io.tls != NULL;
    status = ht_h2_take_head(x, w->st);
    if (status < 0)
        ht_refuse(x, -status, x->head.reason);
    else
        ht_dispatch(x);
    (void)ht_reply_finish(x);
}

static void
serve(struct worker *w)
{
    BH_DEFER(end_call, w);
    (void)ht_guard(w->h2->k->s, &w->call, run_call, w);
}

static void
end_worker(struct worker *w)
{
    struct ht_h2 *h2 = w->h2;

    if (w->kit != NULL)
        ht_kit_give(h2->k->s, w->kit);
    if (!w->done) { /* I1 and I2 */
        ht_h2_lock(h2);
        ht_h2_help(h2);
        ht_h2_unlock(h2);
    }
    ht_h2_unref(h2);
}

static void
give_buffers_back(struct ht_h2 *h2)
{
    if (h2->open > 0 || h2->out_size > 0 || h2->writing)
        return;
    free(h2->out);
    free(h2->spare);
    h2->out = h2->spare = NULL;
    h2->out_room = h2->spare_room = 0;
}

/* Run what is ready, then write.  The caller has taken a reference, which ends with it, as does kit. */
static void
work(struct ht_h2 *h2, struct ht_kit *kit)
{
    struct worker w = { .h2 = h2, .kit = kit };

    BH_DEFER(end_worker, &w);
    bh_mutex_lock(&h2->lock);
    while ((w.st = take_ready(h2)) != NULL) {
        if (!w.st->open) { /* reset meanwhile */
            ht_h2_detach(w.st);
            continue;
        }
        w.st->has_body = !w.st->remote_done || w.st->in_start < w.st->in_end;
        ht_h2_help(h2);
        bh_mutex_unlock(&h2->lock);
        serve(&w);
        bh_mutex_lock(&h2->lock);
    }
    ht_h2_write(h2);
    give_buffers_back(h2);
    w.done = true;
    bh_mutex_unlock(&h2->lock);
}

static void
help(void *args)
{
    struct ht_h2 *h2 = *(struct ht_h2 **)args;

    bh_tag_set(NULL); /* that of the request which made it necessary */
    bh_mutex_lock(&h2->lock);
    h2->helping = false;
    bh_mutex_unlock(&h2->lock);
    work(h2, NULL);
}

/* Returns: false without memory for a goroutine. */
static bool
launch(struct ht_h2 *h2)
{
    struct bh_go_options o = { .stack_size = h2->k->s->o.stack_size };

    BH_RECOVER(p) {
        (void)p;
        return false;
    }
    bh_go_with(&o, help, &h2);
    return true;
}

void
ht_h2_help(struct ht_h2 *h2)
{
    if (h2->helping || (h2->ready == NULL && (h2->out_size == 0 || h2->writing)))
        return;
    h2->helping = true;
    h2->refs++;
    if (!launch(h2)) { /* then who is here does it, later */
        h2->helping = false;
        h2->refs--;
    }
}

/* ---- turns ----------------------------------------------------------------------- */

struct h2_turn {
    struct ht_h2  *h2;
    struct ht_kit *kit;
    bool           armed; /* the connection is the poller's again */
};

/* Returns: 0; 1 if no more input is wanted. */
static int
feed(struct ht_h2 *h2, const char *data, size_t size)
{
    ht_h2_lock(h2);
    BH_DEFER(ht_h2_unlock, h2);
    if (h2->error == 0 && !h2->closing)
        ht_h2_feed(h2, data, size);
    return h2->error != 0 || h2->closing;
}

/* All there is.  Returns: 0; 1 as feed; or why there will be no more. */
static int
read_input(struct ht_h2 *h2)
{
    char   buffer[HT_H2_READ_SIZE];
    size_t total = 0;
    int    rc = 0;

    while (rc == 0) {
        ssize_t n = ht_io_try_read(&h2->k->io, buffer, sizeof buffer);

        if (n == -EAGAIN)
            return 0;
        if (n == BH_EDEADLINE) {
            bh_mutex_lock(&h2->lock);
            on_deadline(h2);
            bh_mutex_unlock(&h2->lock);
            continue;
        }
        if (n <= 0)
            return n == 0 ? BH_EEOF : (int)n;
        rc = feed(h2, buffer, (size_t)n);
        total += (size_t)n;
        /* After less than there was room for, the poller knows better than another read. */
        if (((size_t)n < sizeof buffer || total >= HT_H2_TURN_SIZE) &&
            !ht_io_pending(&h2->k->io))
            break;
    }
    return rc;
}

/* What input and time have brought.  Returns: whether the connection goes on, with a worker's reference. */
static bool
settle(struct ht_h2 *h2)
{
    ht_h2_lock(h2);
    BH_DEFER(ht_h2_unlock, h2);
    if (h2->error == 0) {
        if (atomic_load(&h2->drain_wanted) && h2->goaway == HT_H2_OPEN)
            announce_drain(h2);
        ht_h2_pump(h2);
        ht_h2_set_deadline(h2);
    }
    if (h2->error != 0 || (h2->closing && !h2->writing))
        return false;
    h2->refs++;
    return true;
}

/* The protocol has ended: the last frames, then the connection, in a way that lets them arrive. */
static void
close_slowly(struct h2_turn *t)
{
    struct ht_h2   *h2 = t->h2;
    struct ht_conn *k = h2->k;

    bh_mutex_lock(&h2->lock);
    ht_h2_kill(h2, BH_ECLOSED);
    ht_h2_write(h2);
    bh_mutex_unlock(&h2->lock);
    if (t->kit == NULL)
        t->kit = ht_kit_take(k->s);
    k->kit = t->kit;
    ht_make_room(k);
    ht_linger(k);
    k->kit = NULL;
}

static void
end_turn(struct h2_turn *t)
{
    struct ht_h2 *h2 = t->h2;

    if (t->kit != NULL)
        ht_kit_give(h2->k->s, t->kit);
    if (t->armed)
        return;
    bh_mutex_lock(&h2->lock);
    ht_h2_kill(h2, BH_ECLOSED);
    bh_mutex_unlock(&h2->lock);
    bh_conn_close(h2->k->io.conn);
    ht_h2_unref(h2);
}

static void
take_turn(struct h2_turn *t)
{
    struct ht_h2   *h2 = t->h2;
    struct ht_conn *k = h2->k;
    struct ht_kit  *kit;
    int             rc = 0;

    if (k->in_start < k->in_end) /* what conn.c has read */
        rc = feed(h2, t->kit->in + k->in_start, k->in_end - k->in_start);
    k->in_start = k->in_end = 0;
    if (rc == 0)
        rc = read_input(h2);
    if (rc < 0) {
        bh_mutex_lock(&h2->lock);
        ht_h2_kill(h2, rc);
        bh_mutex_unlock(&h2->lock);
    }
    if (!settle(h2)) {
        if (h2->closing)
            close_slowly(t);
        return;
    }
    t->armed = true;
    kit = t->kit;
    t->kit = NULL;
    if (ht_conn_arm(k) < 0) {
        t->armed = false;
        bh_mutex_lock(&h2->lock);
        ht_h2_kill(h2, BH_ECLOSED);
        bh_mutex_unlock(&h2->lock);
    }
    work(h2, kit);
}

void
ht_h2_turn(struct ht_conn *k)
{
    struct h2_turn t = { .h2 = k->h2, .kit = k->kit };

    k->kit = NULL;
    BH_DEFER(end_turn, &t);
    take_turn(&t);
}

bool
ht_h2_start(struct ht_conn *k)
{
    struct ht_h2 *h2 = calloc(1, sizeof *h2);

    if (h2 == NULL)
        return false;
    h2->k = k;
    h2->refs = 1;
    h2->ready_end = &h2->ready;
    h2->idle_until = bh_now_coarse() + k->s->o.head_timeout;
    if (ht_h2_new_session(h2) < 0) {
        free(h2);
        return false;
    }
    k->h2 = h2;
    ht_conn_on_drain(k, drain, k);
    return true;
}
