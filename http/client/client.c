/*
 * client.c -- a request's way through redirects and retries.
 *
 *     bh_http_client_do
 *       follow: hop, and again at the place where a redirect points
 *         hop: attempt, and again after a failure that allows it
 *           attempt: take a connection, exchange
 *
 * When may a request be sent again?  Whenever nothing of it has left.  Otherwise the server
 * may have acted on it: then only if doing it twice is the same as once (by method, or an
 * Idempotency-Key), no byte of a reply has come, and the body can be made again.
 *
 *   stale     A connection that had been idle broke before a reply: the server closed
 *             it as our request left.  Tried again at once, and never more often than
 *             there were idle connections.
 *   retry     A dial failed, or a new connection broke, or (retry_statuses) a gateway said it had
 *             no server.  After a delay, at most max_retries times, and only if the client's
 *             budget has a token: every request puts in a part of one, every retry takes a
 *             whole one, so a server that fails gets a tenth more load, not twice as much.
 *
 * See: RFC 9110 sections 9.2.2 and 15.4; RFC 9112 section 9.3.1.  The budget is Finagle's.
 */

#include "hc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/panic.h>

#define MAX_BUDGET 10.0             /* retries saved up at most */
#define MAX_DELAY  (10 * BH_SECOND) /* before a retry; what wants longer is not retried */

/* ---- clients ----------------------------------------------------------------------------- */

static void
fill_defaults(struct bh_http_client_options *o)
{
#define DEFAULT(field, value) ((o->field) = (o->field) != 0 ? (o->field) : (value))
    DEFAULT(max_per_host, 64);
    DEFAULT(max_idle, 128);
    DEFAULT(idle_timeout, 60 * BH_SECOND);
    DEFAULT(connect_timeout, 15 * BH_SECOND);
    DEFAULT(write_timeout, 30 * BH_SECOND);
    DEFAULT(head_timeout, 60 * BH_SECOND);
    DEFAULT(read_timeout, 60 * BH_SECOND);
    DEFAULT(continue_timeout, 1 * BH_SECOND);
    DEFAULT(ping_interval, 15 * BH_SECOND);
    DEFAULT(max_head, 65536);
    DEFAULT(max_fields, 200);
    DEFAULT(max_redirects, 10);
    DEFAULT(max_retries, 2);
    DEFAULT(retry_percent, 10);
    DEFAULT(retry_delay, 50 * BH_MILLISECOND);
#undef DEFAULT
}

static char *
copy(const char *text)
{
    char *own = strdup(text);

    if (own == NULL)
        bh_panic("http: out of memory for a client");
    return own;
}

struct bh_http_client *
bh_http_client_new(const struct bh_http_client_options *options)
{
    struct bh_http_client *c = calloc(1, sizeof *c);

    if (c == NULL)
        bh_panic("http: out of memory for a client");
    if (options != NULL)
        c->o = *options;
    fill_defaults(&c->o);
    c->o.user_agent = copy(c->o.user_agent != NULL ? c->o.user_agent : "bulkhead/" BH_VERSION);
    BH_REQUIRE(ht_is_value(c->o.user_agent, strlen(c->o.user_agent)));
    if (c->o.connect_to != NULL)
        c->o.connect_to = copy(c->o.connect_to);
    c->tls = c->o.tls != NULL ? bh_tls_config_ref(c->o.tls) : bh_tls_config_new();
    if (c->o.tls == NULL && !c->o.no_http2)
        bh_tls_config_set_protocols(c->tls, "h2,http/1.1");
    c->budget = MAX_BUDGET;
    atomic_store(&c->refs, 1);
    hc_sweeping_start(c);
    return c;
}

void
hc_client_unref(struct bh_http_client *c)
{
    if (atomic_fetch_sub(&c->refs, 1) != 1)
        return;
    bh_timer_free(c->sweeper);
    bh_tls_config_unref(c->tls);
    free((void *)(uintptr_t)c->o.user_agent);
    free((void *)(uintptr_t)c->o.connect_to);
    free(c);
}

void
bh_http_client_free(struct bh_http_client *c)
{
    if (c == NULL)
        return;
    if (atomic_load(&c->busy) > 0)
        bh_panic("http: client freed while %llu replies are open",
                 (unsigned long long)atomic_load(&c->busy));
    bh_mutex_lock(&c->lock);
    c->closed = true; /* the sweeper does not arm itself again */
    bh_mutex_unlock(&c->lock);
    bh_http_client_close_idle(c);
    if (bh_timer_stop(c->sweeper))
        hc_client_unref(c);
    hc_client_unref(c);
}

void
bh_http_client_stats(struct bh_http_client *c, struct bh_http_client_stats *stats)
{
    stats->requests = atomic_load(&c->requests);
    stats->sent = atomic_load(&c->sent);
    stats->retries = atomic_load(&c->retries);
    stats->exhausted = atomic_load(&c->exhausted);
    stats->stale = atomic_load(&c->stale);
    stats->dials = atomic_load(&c->dials);
    bh_mutex_lock(&c->lock);
    stats->open = c->open;
    stats->idle = c->idle;
    bh_mutex_unlock(&c->lock);
}

/* ---- responses --------------------------------------------------------------------------- */

static struct hc_res *
res_new(struct bh_ctx *ctx, struct bh_http_client *c, const struct bh_http_req *req)
{
    struct bh_arena *arena = bh_arena_new(0);
    struct hc_res   *x = bh_arena_alloc(arena, sizeof *x);

    x->arena = arena;
    x->c = c;
    x->ctx = bh_ctx_ref(ctx);
    x->pub.s = x;
    x->request = *req;
    x->req = &x->request;
    x->method = req->method != NULL ? req->method : "GET";
    x->with_body = (req->body != NULL && req->body_size > 0) || req->source != NULL;
    x->replayable = req->source == NULL || req->rewind != NULL;
    x->idempotent = hc_is_idempotent(req, x->method);
    atomic_fetch_add(&c->busy, 1);
    return x;
}

static void
res_free(struct hc_res *x)
{
    hc_release(x);
    hc_gunzip_free(x);
    free(x->whole);
    bh_ctx_unref(x->ctx);
    atomic_fetch_sub(&x->c->busy, 1);
    bh_arena_free(x->arena);
}

void
bh_http_res_close(struct bh_http_res *res)
{
    struct hc_res *x = (struct hc_res *)res;

    if (x == NULL)
        return;
    hc_finish(x);
    res_free(x);
}

/* ---- retries ----------------------------------------------------------------------------- */

/* Whether the failure is one of the connection, which another one may not have. */
static bool
is_broken_connection(int error)
{
    switch (error) {
    case BH_EEOF:
    case -ECONNRESET:
    case -EPIPE:
    case -ECONNABORTED:
    case -ECONNREFUSED:
    case -ETIMEDOUT:
    case -EHOSTUNREACH:
    case -ENETUNREACH:
    case -ENETDOWN:
    case -EAGAIN: /* no name server answers */
        return true;
    default:
        return false;
    }
}

/* Whether the request may be sent once more though a part of it may have arrived. */
static bool
may_repeat(const struct hc_res *x)
{
    return !x->answered && x->idempotent && (!x->with_body || x->replayable);
}

/* The server says that it has not looked at the request: why not try at once; once. */
static bool
was_refused(struct hc_res *x, int rc)
{
    if (rc == 0 || !x->refused || x->refusals > 0 || (x->with_body && !x->replayable))
        return false;
    x->refusals++;
    return true;
}

static bool
was_stale(const struct hc_res *x, int rc)
{
    return rc < 0 && x->pub.reused && x->began && is_broken_connection(rc) && may_repeat(x);
}

static bool
is_worth_a_retry(const struct hc_res *x, int rc)
{
    if (x->c->o.no_retries || x->pub.retries >= x->c->o.max_retries)
        return false;
    if (rc < 0)
        return is_broken_connection(rc) &&
               (!x->began || may_repeat(x) || (x->refused && (!x->with_body || x->replayable)));
    return x->c->o.retry_statuses && x->idempotent && (!x->with_body || x->replayable) &&
           (x->head.status >= 502 && x->head.status <= 504);
}

static bool
take_token(struct bh_http_client *c)
{
    bool there;

    bh_mutex_lock(&c->lock);
    there = c->budget >= 1;
    if (there)
        c->budget--;
    bh_mutex_unlock(&c->lock);
    atomic_fetch_add(there ? &c->retries : &c->exhausted, 1);
    return there;
}

static void
put_in_a_part(struct bh_http_client *c)
{
    bh_mutex_lock(&c->lock);
    c->budget += c->o.retry_percent / 100.0;
    if (c->budget > MAX_BUDGET)
        c->budget = MAX_BUDGET;
    bh_mutex_unlock(&c->lock);
}

/* How long to wait before the next retry: doubled each time, less up to a half at random. */
static int64_t
delay_of(struct hc_res *x)
{
    const char *after =
        x->head.status == 503 ? bh_http_res_header(&x->pub, "Retry-After") : NULL;
    int64_t  delay = x->c->o.retry_delay << (x->pub.retries < 16 ? x->pub.retries : 16);
    uint32_t random = 0;

    if (delay > MAX_DELAY)
        delay = MAX_DELAY;
    (void)getrandom(&random, sizeof random, GRND_NONBLOCK);
    delay -= (int64_t)((double)delay / 2 * random / UINT32_MAX);
    if (after != NULL && *after >= '0' && *after <= '9') {
        int64_t wanted = strtol(after, NULL, 10) * BH_SECOND;

        if (wanted > delay || wanted < 0)
            delay = wanted < 0 ? INT64_MAX : wanted;
    }
    return delay;
}

/* Returns: whether to go on with a retry, having waited. */
static bool
retry(struct hc_res *x, int rc)
{
    int64_t delay, until;

    if (!is_worth_a_retry(x, rc))
        return false;
    delay = delay_of(x);
    if (delay > MAX_DELAY)
        return false;
    if (bh_ctx_deadline_at(x->ctx, &until) && until - bh_now() <= delay)
        return false; /* what there is says more than a deadline would */
    if (!take_token(x->c))
        return false;
    if (rc == 0)
        hc_finish(x);
    x->pub.retries++;
    (void)bh_ctx_sleep(x->ctx, delay);
    return true;
}

/* ---- an attempt -------------------------------------------------------------------------- */

/* The source has been read before: back to its start. */
static int
rewind_source(struct hc_res *x)
{
    const struct bh_http_req *req = x->req;
    int                       rc = 0;

    if (x->with_body && req->source != NULL && x->began)
        rc = req->rewind(req->source_arg);
    return rc < 0 ? bh_fail(rc, "http: rewinding the body: %s", bh_error_text(rc)) : 0;
}

static int
attempt(struct hc_res *x)
{
    int rc = rewind_source(x);

    x->answered = x->unsent = x->refused = x->done = false;
    x->head = (struct hc_head){ 0 };
    if (rc < 0)
        return rc;
    x->began = false;
    rc = bh_ctx_err(x->ctx);
    if (rc < 0)
        return bh_fail(rc, "http: %s", bh_error_text(rc));
    rc = hc_take(x->c, x->ctx, &x->url, &x->k);
    if (rc < 0)
        return rc;
    x->pub.reused = x->k->reused;
    rc = x->k->h2 != NULL ? hc_stream_exchange(x) : hc_exchange(x);
    if (rc < 0) {
        x->error = rc;
        hc_release(x);
        return rc;
    }
    hc_body_start(x);
    return 0;
}

static int
hop(struct hc_res *x)
{
    int rc;

    do
        rc = attempt(x);
    while (was_stale(x, rc) || was_refused(x, rc) || retry(x, rc));
    return rc;
}

/* ---- redirects --------------------------------------------------------------------------- */

static bool
is_redirect(int status)
{
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/* Whether what is secret may go from one URL to the other. */
static bool
may_have_secrets(const struct bh_url *from, const struct bh_url *to)
{
    if (bh_url_same_origin(from, to))
        return true;
    return strcmp(from->host, to->host) == 0 && strcmp(from->scheme, "http") == 0 &&
           strcmp(to->scheme, "https") == 0 && from->port == 80 && to->port == 443;
}

static void
change_method(struct hc_res *x)
{
    bool is_post = strcmp(x->method, "POST") == 0, is_head = strcmp(x->method, "HEAD") == 0;

    if ((x->head.status == 303 && !is_head) || (x->head.status <= 302 && is_post)) {
        x->method = "GET";
        x->with_body = false;
        x->idempotent = true;
    }
}

/* Returns: 1 if the request goes on at another URL; 0 if the reply is the last; or an error. */
static int
follow(struct hc_res *x)
{
    const char   *location = bh_http_res_header(&x->pub, "Location");
    struct bh_url to;
    int           rc;

    if (x->c->o.no_redirects || !is_redirect(x->head.status) || location == NULL)
        return 0;
    if (x->pub.redirects == x->c->o.max_redirects)
        return bh_fail(-ELOOP, "http: stopped after %u redirects, at %s", x->pub.redirects,
                       x->url.authority);
    rc = bh_url_resolve(x->arena, &x->url, location, &to);
    if (rc < 0) {
        char *note = bh_arena_print(x->arena, "%s", bh_error_note());

        return bh_fail(rc, "http: redirect by %s: %s", x->url.authority, note);
    }
    if (strcmp(x->url.scheme, "https") == 0 && strcmp(to.scheme, "http") == 0 &&
        !x->c->o.allow_downgrade)
        return bh_fail(-EPERM, "http: redirect from https to http, by %s", x->url.authority);
    change_method(x);
    if (x->with_body && !x->replayable)
        return 0;
    hc_finish(x);
    x->stripped = x->stripped || !may_have_secrets(&x->url, &to);
    to.user = x->url.user;
    to.password = x->url.password;
    x->url = to;
    x->pub.redirects++;
    return 1;
}

/* ---- requests ---------------------------------------------------------------------------- */

/* A response that is nobody's yet. */
struct making {
    struct hc_res *x;
};

static void
end_making(struct making *m)
{
    if (m->x != NULL)
        res_free(m->x);
}

static int
run(struct hc_res *x)
{
    int rc = hc_check(x->req);

    if (rc == 0)
        rc = bh_url_parse(x->arena, x->req->url, &x->url);
    if (rc < 0)
        return rc;
    atomic_fetch_add(&x->c->requests, 1);
    put_in_a_part(x->c);
    do {
        rc = hop(x);
        if (rc == 0)
            rc = follow(x);
    } while (rc == 1);
    if (rc == 0)
        x->pub.url = bh_url_text(x->arena, &x->url);
    return rc;
}

int
bh_http_client_do(struct bh_ctx *ctx, struct bh_http_client *c,
                  const struct bh_http_req *request, struct bh_http_res **res)
{
    struct making m = { NULL };
    int           rc;

    BH_DEFER(end_making, &m);
    m.x = res_new(ctx, c, request);
    rc = run(m.x);
    if (rc < 0)
        return rc;
    *res = &m.x->pub;
    m.x = NULL;
    return 0;
}

int
bh_http_client_get(struct bh_ctx *ctx, struct bh_http_client *c, const char *url,
                   struct bh_http_res **res)
{
    return bh_http_client_do(ctx, c, &(struct bh_http_req){ .url = url }, res);
}

int
bh_http_client_post(struct bh_ctx *ctx, struct bh_http_client *c, const char *url,
                    const char *type, const void *body, size_t size, struct bh_http_res **res)
{
    struct bh_http_req req = { .method = "POST", .url = url, .body = body, .body_size = size };

    req.headers = BH_HTTP_HEADERS("Content-Type", type);
    return bh_http_client_do(ctx, c, &req, res);
}
