/*
 * conn.c -- a connection's life: turns, and idle in between.
 *
 * An idle connection has no goroutine and no memory but its own record: the
 * poller starts a goroutine at the first byte of a request, which has its turn until
 * there is no more input, gives the buffers back (struct ht_kit) and ends.  The
 * last thing it does is to tell the poller; from then on k is another's.
 *
 * The first turn finds out what the connection speaks: what the PROXY protocol says of
 * the client, the TLS handshake, then HTTP/2 if TLS has agreed on it or the client starts
 * with its preface, else HTTP/1.
 *
 * Draining needs idle connections to notice.  k->idle says that one waits for a
 * request; the drainer moves its deadline close (ht_conn_wake), and the state
 * WAKING keeps the connection from going on until that is done, so the short
 * deadline never hits a request in progress.
 */

#include "ht.h"
#include "proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { BUSY, IDLE, WAKING }; /* k->idle */

static void serve_turn(void *arg);

/* ---- idle ------------------------------------------------------------------------ */

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
    free(kit->fields);
    free(kit);
}

struct ht_kit *
ht_kit_take(struct bh_http_server *s)
{
    struct ht_kit *kit = atomic_exchange(&s->hot_kit, NULL);

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
    return kit;
}

/* Keep some for the next connections; give the memory of the rest, and of grown ones, back. */
void
ht_kit_give(struct bh_http_server *s, struct ht_kit *kit)
{
    struct ht_kit *none = NULL;
    bool           kept = false;

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
give_kit(struct ht_conn *k)
{
    struct ht_kit *kit = k->kit;

    k->kit = NULL;
    k->in_start = k->in_end = 0;
    ht_kit_give(k->s, kit);
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
    bh_conn_set_read_deadline(k->io.conn, bh_now() + k->s->o.drain_grace);
    atomic_store(&k->idle, IDLE);
}

int
ht_conn_arm(struct ht_conn *k)
{
    struct bh_go_options o = { .stack_size = k->s->o.stack_size };

    return bh_conn_go_when_readable(k->io.conn, &o, serve_turn, k);
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
        bh_conn_set_read_deadline(k->io.conn, until);
        k->idle_until = until;
    }
    /* Idle first, then look whether it drains: ht_conn_wake comes the other way. */
    atomic_store(&k->idle, IDLE);
    if (atomic_load(&s->draining))
        bh_conn_set_read_deadline(k->io.conn, bh_now() + s->o.drain_grace);
    rc = ht_conn_arm(k);
    if (rc < 0)
        set_busy(k);
    return rc;
}

/* ---- turns ----------------------------------------------------------------------- */

/* One goroutine's time with a connection. */
struct turn {
    struct ht_conn *k;
    bool            idle; /* k went idle: it is no longer ours */
};

/*
 * Whether the input begins with HTTP/2's preface; reads on while that is open.
 * Returns: 1, 0, or -1 if the client is gone or too slow.
 */
static int
has_preface(struct ht_conn *k)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    int64_t           deadline = bh_now() + k->s->o.head_timeout;

    for (;;) {
        size_t have = k->in_end - k->in_start;
        size_t n = have < sizeof preface - 1 ? have : sizeof preface - 1;

        if (memcmp(k->kit->in + k->in_start, preface, n) != 0)
            return 0;
        if (n == sizeof preface - 1)
            return 1;
        if (ht_fill(k, deadline) <= 0)
            return -1;
    }
}

/* HTTP in the clear on a port of TLS: say so, in the clear. */
static void
refuse_plain(struct ht_conn *k)
{
    static const char reply[] = "HTTP/1.1 400 Bad Request\r\nConnection: close\r\n"
                                "Content-Type: text/plain\r\nContent-Length: 30\r\n\r\n"
                                "400 Bad Request: use https://\n";

    bh_tls_free(k->io.tls);
    k->io.tls = NULL;
    (void)ht_out(k, reply, sizeof reply - 1);
    ht_linger(k);
}

/* The first turn of a connection, head_timeout after it came at the latest.  Returns: whether it goes on. */
static bool
greet(struct ht_conn *k)
{
    bool http2 = false;
    int  rc;

    k->greeted = true;
    if (k->s->o.proxy_protocol != NULL && ht_proxy_read(k) < 0)
        return false;
    if (k->from->tls != NULL) {
        if (bh_tls_server(k->from->tls, k->io.conn, &k->io.tls) < 0)
            return false;
        rc = bh_tls_handshake(k->io.tls);
        if (rc == -EPROTONOSUPPORT)
            refuse_plain(k);
        if (rc < 0)
            return false;
        http2 = strcmp(bh_tls_alpn(k->io.tls), "h2") == 0;
    } else if (!k->s->o.no_h2c) {
        int found = has_preface(k);

        if (found < 0)
            return false;
        http2 = found > 0;
    }
    return !http2 || ht_h2_start(k);
}

static void
serve_requests(struct turn *t)
{
    struct ht_conn *k = t->k;
    enum ht_after   after = HT_NEXT;

    set_busy(k);
    if (!k->greeted && !greet(k))
        after = HT_CLOSE;
    if (k->h2 != NULL && after == HT_NEXT) {
        t->idle = true; /* or gone */
        ht_h2_turn(k);
        return;
    }
    while (after == HT_NEXT && (k->in_start < k->in_end || ht_io_pending(&k->io) > 0))
        after = ht_http1_one(k);
    if (after == HT_LINGER)
        ht_linger(k);
    else if (ht_flush(k) < 0 && after == HT_NEXT)
        after = HT_CLOSE;
    if (after == HT_RESET)
        bh_conn_abort(k->io.conn);
    if (after != HT_NEXT)
        return;
    give_kit(k);
    t->idle = go_idle(k) == 0;
}

/* The first bytes of a request, the end of the connection, or a false alarm: stay idle. */
static void
take_turn(void *arg)
{
    struct turn    *t = arg;
    struct ht_conn *k = t->k;
    ssize_t         n;

    if (k->h2 != NULL) {
        t->idle = true; /* or gone */
        ht_h2_turn(k);
        return;
    }
    k->kit = ht_kit_take(k->s);
    ht_make_room(k);
    if (!k->greeted && k->from->tls != NULL) {
        serve_requests(t);
        return;
    }
    n = ht_io_try_read(&k->io, k->kit->in, k->kit->in_size);
    if (n > 0) {
        k->in_end = (uint32_t)n;
        serve_requests(t);
    } else if (n == -EAGAIN) {
        give_kit(k);
        t->idle = ht_conn_arm(k) == 0;
    }
}

void
ht_conn_end(struct ht_conn *k)
{
    struct bh_http_server *s = k->s;
    struct ht_call        *x = k->call;

    if (x != NULL) { /* its chain panicked outside recover, or called bh_goexit */
        if (x->reply == HT_REPLY_COMMITTED)
            bh_conn_abort(k->io.conn);
        if (x->watched)
            bh_conn_set_hangup_ctx(k->io.conn, NULL, false);
        k->call = NULL;
        ht_call_end(x, k->kit);
    }
    bh_mutex_lock(&s->lock);
    ht_client_leave(k);
    if (k->newer != NULL)
        k->newer->older = k->older;
    else if (s->conns == k) /* it may not have been in the list yet */
        s->conns = k->older;
    if (k->older != NULL)
        k->older->newer = k->newer;
    bh_mutex_unlock(&s->lock);
    ht_h2_free(k);
    ht_io_free(&k->io);
    ht_kit_free(s, k->kit);
    free(k->peer);
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
serve_turn(void *arg)
{
    struct turn t;

    t.k = arg;
    t.idle = false;
    BH_DEFER(end_turn, &t);
    (void)ht_guard(t.k->s, &t.k->call, take_turn, &t);
}

void
ht_conn_start(struct ht_conn *k)
{
    if (go_idle(k) < 0)
        ht_conn_end(k);
}

/* ---- for the upper protocols ----------------------------------------------------- */

void
ht_conn_on_drain(struct ht_conn *k, void (*fn)(void *arg), void *arg)
{
    bh_mutex_lock(&k->s->lock);
    k->drain = fn;
    k->drain_arg = arg;
    if (fn != NULL && atomic_load(&k->s->draining))
        fn(arg);
    bh_mutex_unlock(&k->s->lock);
}

const char *
ht_conn_peer(struct ht_conn *k)
{
    return k->peer != NULL ? k->peer : bh_conn_peer(k->io.conn);
}
