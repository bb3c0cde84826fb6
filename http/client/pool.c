/*
 * pool.c -- connections by origin.
 *
 *     hc_take --> idle? ---- still open ----> taken
 *                  |  \---- closed by the server: dropped, try again
 *                  no
 *                  +--> fewer than max_per_host open: dial
 *                  +--> else wait: for one that is given back, or leave to dial
 *
 * An idle connection is a record in two lists, its host's (newest first: the one that is
 * most likely still open) and the client's (by age); there is no goroutine, and no buffer.  A
 * timer sweeps, while there are any, and closes those unused for too long and those
 * the server has closed.  Before use a connection is looked at once more, so only a close that
 * crosses with the request is left to the retries.
 *
 * host->open counts connections that exist or are being dialled; that is what max_per_host
 * limits.  Who waits is served in order, by handing over a connection or a place, so
 * nobody comes in between.
 */

#include "hc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>

enum { SWEEPS = 4 }; /* in an idle_timeout */

/* ---- lists; all under c->lock ---------------------------------------------------------- */

static unsigned
bucket_of(const char *name, uint16_t port)
{
    uint32_t hash = 2166136261u ^ port;

    for (; *name != '\0'; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619u;
    return (hash ^ hash >> 16) % HC_BUCKETS;
}

/* Returns: the origin's record, one user more; NULL without memory. */
static struct hc_host *
find_host(struct bh_http_client *c, const struct bh_url *url)
{
    struct hc_host **bucket = &c->hosts[bucket_of(url->host, url->port)], *h;
    bool             tls = strcmp(url->scheme, "https") == 0;
    size_t           size = strlen(url->host) + 1;

    for (h = *bucket; h != NULL; h = h->next)
        if (h->port == url->port && h->tls == tls && strcmp(h->name, url->host) == 0)
            break;
    if (h == NULL) {
        h = calloc(1, sizeof *h + size);
        if (h == NULL)
            return NULL;
        h->tls = tls;
        h->port = url->port;
        h->waiters_end = &h->waiters;
        memcpy(h->name, url->host, size);
        h->next = *bucket;
        *bucket = h;
    }
    h->users++;
    return h;
}

static void
drop_host_if_unused(struct bh_http_client *c, struct hc_host *h)
{
    struct hc_host **p = &c->hosts[bucket_of(h->name, h->port)];

    if (h->open > 0 || h->users > 0 || h->h2 != NULL)
        return;
    while (*p != h)
        p = &(*p)->next;
    *p = h->next;
    free(h);
}

static void
unlink_idle(struct bh_http_client *c, struct hc_conn *k)
{
    if (k->newer != NULL)
        k->newer->older = k->older;
    else
        k->host->idle = k->older;
    if (k->older != NULL)
        k->older->newer = k->newer;
    *(k->all_newer != NULL ? &k->all_newer->all_older : &c->newest) = k->all_older;
    *(k->all_older != NULL ? &k->all_older->all_newer : &c->oldest) = k->all_newer;
    c->idle--;
}

static void
link_idle(struct bh_http_client *c, struct hc_conn *k)
{
    k->newer = k->all_newer = NULL;
    k->older = k->host->idle;
    k->all_older = c->newest;
    if (k->older != NULL)
        k->older->newer = k;
    *(c->newest != NULL ? &c->newest->all_newer : &c->oldest) = k;
    k->host->idle = c->newest = k;
    c->idle++;
}

/* Serve who has waited longest, with k or, NULL, with a place that is taken already. */
static bool
grant(struct hc_host *h, struct hc_conn *k)
{
    struct hc_waiter *w = h->waiters;

    if (w == NULL)
        return false;
    if (k != NULL && k->h2 != NULL)
        hc_h2_ref(k->h2);
    h->waiters = w->next;
    if (h->waiters == NULL)
        h->waiters_end = &h->waiters;
    w->conn = k;
    w->granted = true;
    bh_send(w->ready, NULL);
    return true;
}

/* A connection of h, or a place to have one, is gone. */
static void
place_is_free(struct bh_http_client *c, struct hc_host *h)
{
    if (grant(h, NULL))
        return;
    h->open--;
    c->open--;
    drop_host_if_unused(c, h);
}

/* Whether connections of h may turn out to be HTTP/2: then only one is dialled at a time. */
static bool
may_be_h2(struct bh_http_client *c, struct hc_host *h)
{
    return h->tls ? !c->o.no_http2 && !h->http1 : c->o.h2c;
}

/* ---- ends -------------------------------------------------------------------------------- */

static void
free_conn(struct hc_conn *k)
{
    ht_io_free(&k->io);
    free(k->in);
    free(k);
}

/* Close a connection that is in no list. */
static void
discard(struct bh_http_client *c, struct hc_conn *k)
{
    struct hc_host *h = k->host;

    free_conn(k);
    bh_mutex_lock(&c->lock);
    place_is_free(c, h);
    bh_mutex_unlock(&c->lock);
}

/* Close a list that was unlinked, by all_older. */
static void
discard_all(struct bh_http_client *c, struct hc_conn *k)
{
    for (struct hc_conn *next; k != NULL; k = next) {
        next = k->all_older;
        discard(c, k);
    }
}

/* Whether the server has said nothing while k was idle; a close says something. */
static bool
is_quiet(struct hc_conn *k)
{
    char byte;

    return ht_io_try_read(&k->io, &byte, 1) == -EAGAIN;
}

/* ---- sweeping ---------------------------------------------------------------------------- */

static int64_t
sweep_interval(struct bh_http_client *c)
{
    int64_t ns = c->o.idle_timeout / SWEEPS;

    return ns > BH_MILLISECOND ? ns : BH_MILLISECOND;
}

static void
sweep(void *arg)
{
    struct bh_http_client *c = arg;
    struct hc_conn        *gone = NULL;
    int64_t                since = bh_now() - c->o.idle_timeout;
    bool                   again;

    bh_mutex_lock(&c->lock);
    for (struct hc_conn *k = c->oldest, *newer; k != NULL; k = newer) {
        newer = k->all_newer;
        if (k->idle_since > since && is_quiet(k))
            continue;
        unlink_idle(c, k);
        k->all_older = gone;
        gone = k;
    }
    again = c->sweeping = c->idle > 0 && !c->closed;
    if (again)
        (void)bh_timer_reset(c->sweeper, sweep_interval(c));
    bh_mutex_unlock(&c->lock);
    discard_all(c, gone);
    if (!again)
        hc_client_unref(c);
}

/* Under c->lock: there is an idle connection now. */
static void
see_to_sweeping(struct bh_http_client *c)
{
    if (c->sweeping)
        return;
    c->sweeping = true;
    atomic_fetch_add(&c->refs, 1);
    (void)bh_timer_reset(c->sweeper, sweep_interval(c));
}

void
hc_sweeping_start(struct bh_http_client *c)
{
    c->sweeping = true;
    atomic_fetch_add(&c->refs, 1);
    c->sweeper = bh_timer_func(sweep_interval(c), sweep, c);
}

/* Take a session away from its host, with the pool's reference.  Returns: NULL if there is none. */
static struct hc_h2 *
take_session(struct bh_http_client *c)
{
    struct hc_h2 *h2 = NULL;

    bh_mutex_lock(&c->lock);
    for (int i = 0; i < HC_BUCKETS && h2 == NULL; i++)
        for (struct hc_host *h = c->hosts[i]; h != NULL && h2 == NULL; h = h->next) {
            h2 = h->h2;
            h->h2 = NULL;
        }
    bh_mutex_unlock(&c->lock);
    return h2;
}

void
bh_http_client_close_idle(struct bh_http_client *c)
{
    struct hc_conn *gone;
    struct hc_h2   *h2;

    while ((h2 = take_session(c)) != NULL) {
        hc_h2_close_if_idle(h2);
        hc_h2_unref(h2);
    }

    bh_mutex_lock(&c->lock);
    gone = c->newest;
    for (struct hc_conn *k = gone; k != NULL; k = k->all_older)
        k->host->idle = NULL;
    c->newest = c->oldest = NULL;
    c->idle = 0;
    bh_mutex_unlock(&c->lock);
    discard_all(c, gone);
}

/* ---- giving back ------------------------------------------------------------------------- */

static void
unwatch(struct hc_conn *k)
{
    if (k->watched)
        bh_conn_set_ctx(k->io.conn, NULL);
    k->watched = false;
    if (k->read_until != 0)
        bh_conn_set_read_deadline(k->io.conn, 0);
    k->read_until = 0;
}

void
hc_retire(struct hc_h2 *h2)
{
    struct bh_http_client *c = hc_h2_client(h2);
    struct hc_host        *h = hc_h2_conn(h2)->host;
    bool                   current;

    bh_mutex_lock(&c->lock);
    current = h->h2 == h2;
    if (current)
        h->h2 = NULL;
    bh_mutex_unlock(&c->lock);
    if (current)
        hc_h2_unref(h2);
}

void
hc_gone(struct bh_http_client *c, struct hc_conn *k)
{
    discard(c, k);
}

void
hc_give(struct bh_http_client *c, struct hc_conn *k, bool reusable)
{
    struct hc_conn *out = NULL;

    if (k->h2 != NULL) {
        hc_h2_unref(k->h2);
        return;
    }

    /* Bytes behind the reply belong to no request: the server has lost count. */
    if (!reusable || k->in_start < k->in_end || (ht_io_pending(&k->io) > 0 && !is_quiet(k))) {
        discard(c, k);
        return;
    }
    unwatch(k);
    free(k->in);
    k->in = NULL;
    k->in_size = k->in_start = k->in_end = 0;
    k->reused = true;
    k->impatient = false;
    k->idle_since = bh_now();
    bh_mutex_lock(&c->lock);
    if (!grant(k->host, k)) {
        link_idle(c, k);
        if (c->idle > c->o.max_idle || c->closed) {
            out = c->oldest;
            unlink_idle(c, out);
        }
        if (c->idle > 0)
            see_to_sweeping(c);
    }
    bh_mutex_unlock(&c->lock);
    if (out != NULL)
        discard(c, out);
}

/* ---- dialling ---------------------------------------------------------------------------- */

/* What a dial holds until it has become a connection. */
struct dial {
    struct bh_http_client *c;
    struct hc_host        *h;
    struct hc_conn        *k; /* NULL once handed over */
    bool                   done;
};

static void
end_dial(struct dial *d)
{
    if (d->done)
        return;
    if (d->k != NULL)
        free_conn(d->k);
    bh_mutex_lock(&d->c->lock);
    d->h->probing = d->h->waiters != NULL && may_be_h2(d->c, d->h); /* by who gets the place */
    place_is_free(d->c, d->h);
    bh_mutex_unlock(&d->c->lock);
}

/* k is there, and it is known what it speaks: others may have waited for that. */
static void
tell_others(struct bh_http_client *c, struct hc_host *h, struct hc_conn *k)
{
    bh_mutex_lock(&c->lock);
    h->probing = false;
    h->http1 = k->h2 == NULL;
    if (k->h2 != NULL && h->h2 == NULL) {
        h->h2 = k->h2;
        hc_h2_ref(k->h2);
    }
    while (h->h2 != NULL && grant(h, k))
        continue;
    while (h->h2 == NULL && h->waiters != NULL && h->open < c->o.max_per_host) {
        h->open++;
        c->open++;
        (void)grant(h, NULL);
    }
    bh_mutex_unlock(&c->lock);
    if (k->h2 != NULL && hc_h2_is_retired(k->h2))
        hc_retire(k->h2);
}

static int
start_tls(struct bh_http_client *c, struct hc_conn *k)
{
    char   name[256], note[200];
    size_t length = strlen(k->host->name);
    int    rc;

    if (length > 1 && k->host->name[length - 1] == '.') /* certificates are without */
        length--;
    snprintf(name, sizeof name, "%.*s", (int)length, k->host->name);
    rc = bh_tls_client(c->tls, k->io.conn, name, &k->io.tls);
    if (rc == 0)
        rc = bh_tls_handshake(k->io.tls);
    if (rc == 0)
        return 0;
    snprintf(note, sizeof note, "%s", bh_error_note());
    return bh_fail(rc, "https://%s: %s", k->host->name, note);
}

static int
connect_to(struct bh_http_client *c, struct bh_ctx *ctx, struct hc_conn *k)
{
    char           text[320];
    const char    *address = c->o.connect_to;
    struct bh_ctx *limited = bh_ctx_timeout(ctx, c->o.connect_timeout);
    int            rc;

    BH_DEFER(bh_ctx_end, limited);
    if (address == NULL) {
        snprintf(text, sizeof text, strchr(k->host->name, ':') != NULL ? "[%s]:%u" : "%s:%u",
                 k->host->name, k->host->port);
        address = text;
    }
    atomic_fetch_add(&c->dials, 1);
    rc = bh_dial(limited, address, &k->io.conn);
    if (rc < 0)
        return rc;
    bh_conn_set_write_timeout(k->io.conn, c->o.write_timeout);
    if (k->host->tls) {
        bh_conn_set_ctx(k->io.conn, limited);
        rc = start_tls(c, k);
        bh_conn_set_ctx(k->io.conn, NULL);
    }
    if (rc == 0 && (k->host->tls ? strcmp(bh_tls_alpn(k->io.tls), "h2") == 0 : c->o.h2c))
        rc = hc_h2_new(c, k);
    return rc;
}

/* h has a place for it.  Returns: 0 or an error, the place being given up. */
static int
dial(struct bh_http_client *c, struct bh_ctx *ctx, struct hc_host *h, struct hc_conn **result)
{
    struct dial d = { .c = c, .h = h };
    int         rc;

    BH_DEFER(end_dial, &d);
    d.k = calloc(1, sizeof *d.k);
    if (d.k == NULL)
        return bh_fail(-ENOMEM, "http: out of memory");
    d.k->host = h;
    rc = connect_to(c, ctx, d.k);
    if (rc < 0)
        return rc;
    d.done = true;
    tell_others(c, h, d.k);
    *result = d.k;
    return 0;
}

/* ---- taking ------------------------------------------------------------------------------ */

/* A look at a host, which stays as long. */
struct visit {
    struct bh_http_client *c;
    struct hc_host        *h;
    struct hc_waiter       w;
    bool                   waiting; /* w is in h's list, or was granted what is not yet taken */
};

/* Under c->lock: stop waiting.  Returns: the connection that had been granted, or NULL. */
static struct hc_conn *
stop_waiting(struct visit *v)
{
    struct hc_waiter **p = &v->h->waiters;

    if (!v->waiting)
        return NULL;
    if (v->w.granted) {
        if (v->w.conn == NULL)
            place_is_free(v->c, v->h);
        return v->w.conn;
    }
    while (*p != &v->w)
        p = &(*p)->next;
    *p = v->w.next;
    if (*p == NULL)
        v->h->waiters_end = p;
    return NULL;
}

static void
end_visit(struct visit *v)
{
    struct bh_http_client *c = v->c;
    struct hc_conn        *k;

    bh_mutex_lock(&c->lock);
    k = stop_waiting(v);
    bh_mutex_unlock(&c->lock);
    if (k != NULL)
        hc_give(c, k, true);
    bh_chan_unref(v->w.ready);
    bh_mutex_lock(&c->lock);
    v->h->users--;
    drop_host_if_unused(c, v->h);
    bh_mutex_unlock(&c->lock);
}

/* Returns: whether there is something now: *k idle, or NULL and a place to dial. */
static bool
find_place(struct visit *v, struct hc_conn **k)
{
    struct bh_http_client *c = v->c;
    struct hc_host        *h = v->h;

    if (h->h2 != NULL) {
        *k = hc_h2_conn(h->h2);
        hc_h2_ref(h->h2);
        return true;
    }
    *k = h->idle;
    if (*k != NULL) {
        unlink_idle(c, *k);
        return true;
    }
    if (h->open >= c->o.max_per_host || h->probing)
        return false;
    h->probing = may_be_h2(c, h);
    h->open++;
    c->open++;
    return true;
}

/* The same, or wait for it.  Returns: whether there is something already. */
static bool
find_place_or_wait(struct visit *v, struct hc_conn **k)
{
    if (find_place(v, k))
        return true;
    v->w.next = NULL;
    v->w.granted = false;
    *v->h->waiters_end = &v->w;
    v->h->waiters_end = &v->w.next;
    v->waiting = true;
    return false;
}

/* Returns: 0 with *k a connection, or NULL and a place to dial; or ctx's error. */
static int
take_place(struct bh_ctx *ctx, struct visit *v, struct hc_conn **k)
{
    struct bh_http_client *c = v->c;
    bool                   found;

    bh_mutex_lock(&c->lock);
    found = find_place(v, k);
    bh_mutex_unlock(&c->lock);
    if (found)
        return 0;
    if (v->w.ready == NULL)
        v->w.ready = bh_chan_new(0, 1);
    bh_mutex_lock(&c->lock);
    found = find_place_or_wait(v, k);
    bh_mutex_unlock(&c->lock);
    if (found)
        return 0;
    if (bh_select(BH_RECV(v->w.ready, NULL), BH_RECV(bh_ctx_done(ctx), NULL)) == 1)
        return bh_fail(bh_ctx_err(ctx), "http: waiting for one of %u connections: %s",
                       c->o.max_per_host, bh_error_text(bh_ctx_err(ctx)));
    *k = v->w.conn;
    v->waiting = false;
    return 0;
}

int
hc_take(struct bh_http_client *c, struct bh_ctx *ctx, const struct bh_url *url,
        struct hc_conn **k)
{
    struct visit v = { .c = c };
    int          rc;

    bh_mutex_lock(&c->lock);
    v.h = find_host(c, url);
    bh_mutex_unlock(&c->lock);
    if (v.h == NULL)
        return bh_fail(-ENOMEM, "http: out of memory");
    BH_DEFER(end_visit, &v);
    for (;;) {
        rc = take_place(ctx, &v, k);
        if (rc < 0 || *k == NULL || (*k)->h2 != NULL || is_quiet(*k))
            break;
        atomic_fetch_add(&c->stale, 1);
        discard(c, *k);
    }
    if (rc == 0 && *k == NULL)
        rc = dial(c, ctx, v.h, k);
    if (rc == 0 && (*k)->h2 == NULL && bh_ctx_done(ctx) != NULL) {
        bh_conn_set_ctx((*k)->io.conn, ctx);
        (*k)->watched = true;
    }
    return rc;
}
