/*
 * http_metrics.c -- rate, errors and duration of each route.
 *
 * Names and labels are OpenTelemetry's semantic conventions for HTTP servers.  A route is a
 * template, a method one of a few, so what clients send makes no series.
 *
 * Finding the series of a request by six strings costs as much as all updates together, so
 * they are remembered in a table by the route's address and some small numbers: open
 * addressing, filled by compare-and-swap, never emptied.  The route's text is compared too:
 * another server's route may come to lie at the address of one that is gone.
 */

#include "series.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/once.h>
#include <bulkhead/http/monitor.h>

enum { SLOTS = 2048, PROBES = 8 };

enum fate { FINE, FAILED, PANICKED, ABORTED };

/* What requests have in common whose series are the same. */
struct key {
    const char *route;
    int         method, status, version, fate;
    bool        secure;
};

struct entry {
    struct key        key;
    struct bh_series *duration, *received, *sent;
    char              route[];
};

static _Atomic(struct entry *) entries[SLOTS];

static const char *const methods[] = { "GET",     "HEAD",  "POST",    "PUT",   "DELETE",
                                       "OPTIONS", "PATCH", "CONNECT", "TRACE", "_OTHER" };
enum { METHODS = sizeof methods / sizeof *methods, WITH_BODY = 2 /* GET and HEAD have none */ };
enum { SCHEMES = 2 };
static const char *const schemes[SCHEMES] = { "http", "https" };

static struct {
    struct bh_metric           *duration, *received, *sent;
    _Atomic(struct bh_series *) active[METHODS][SCHEMES]; /* set before `ready` */
    _Atomic bool                ready;
} metrics;

/* ---- registration ---------------------------------------------------------------- */

static const char *const labels[] = {
    "http.request.method",      "url.scheme", "http.route", "http.response.status_code",
    "network.protocol.version", "error.type", NULL
};

/* A metric that can't be had stays NULL: not counted. */
static __attribute__((cold)) void
make_metrics(void *arg)
{
    struct bh_metric *active = NULL;

    (void)arg;
    (void)bh_metric_new(
        &(struct bh_metric_options){ .name = "http.server.request.duration",
                                     .help = "Duration of HTTP server requests.",
                                     .unit = "s",
                                     .kind = BH_HISTOGRAM,
                                     .labels = labels,
                                     .least = 0x1p-17,
                                     .most = 64 },
        &metrics.duration);
    (void)bh_metric_new(
        &(struct bh_metric_options){ .name = "http.server.request.body.size",
                                     .help =
                                         "Size of HTTP server request bodies, as announced.",
                                     .unit = "By",
                                     .kind = BH_HISTOGRAM,
                                     .labels = labels,
                                     .least = 64,
                                     .most = 1 << 30 },
        &metrics.received);
    (void)bh_metric_new(
        &(struct bh_metric_options){ .name = "http.server.response.body.size",
                                     .help = "Size of HTTP server response bodies.",
                                     .unit = "By",
                                     .kind = BH_HISTOGRAM,
                                     .labels = labels,
                                     .least = 64,
                                     .most = 1 << 30 },
        &metrics.sent);
    (void)bh_metric_new(
        &(struct bh_metric_options){
            .name = "http.server.active_requests",
            .help = "Number of HTTP server requests in flight.",
            .unit = "{request}",
            .kind = BH_UPDOWN,
            .labels = (const char *const[]){ "http.request.method", "url.scheme", NULL } },
        &active);
    for (int m = 0; m < METHODS && active != NULL; m++) {
        for (int i = 0; i < SCHEMES; i++)
            atomic_store(&metrics.active[m][i], bh_metric_with(active, methods[m], schemes[i]));
    }
    atomic_store_explicit(&metrics.ready, true, memory_order_release);
}

/* ---- which series ---------------------------------------------------------------- */

static int
method_number(const char *method)
{
    for (int i = 0; i < METHODS - 1; i++) {
        if (methods[i][0] == method[0] && strcmp(methods[i], method) == 0)
            return i;
    }
    return METHODS - 1;
}

/* The path of a pattern: "/items/{id}" of "GET /items/{id}". */
static const char *
template_of(const char *route)
{
    const char *space = strchr(route, ' ');

    return space != NULL ? space + 1 : route;
}

static size_t
hash_key(const struct key *k)
{
    uint64_t h = (uint64_t)(uintptr_t)k->route * UINT64_C(0x9e3779b97f4a7c15);

    h ^= (uint64_t)((((unsigned)k->status * 16 + (unsigned)k->method) * 4 + (unsigned)k->fate) *
                        64 +
                    (unsigned)k->version * 2 + k->secure) *
         UINT64_C(0xd6e8feb86659fd93);
    return (size_t)(h >> 40);
}

static bool
is_of(const struct entry *e, const struct key *k)
{
    return e->key.route == k->route && e->key.status == k->status &&
           e->key.method == k->method && e->key.version == k->version &&
           e->key.fate == k->fate && e->key.secure == k->secure &&
           strcmp(e->route, k->route) == 0;
}

static struct entry *
entry_new(const struct key *k)
{
    static const char *const versions[] = { "1.0", "1.1", "2" };
    size_t                   size = strlen(k->route) + 1;
    struct entry            *e = calloc(1, sizeof *e + size);
    char                     status[16] = "";
    const char              *values[6];

    if (e == NULL)
        return NULL;
    e->key = *k;
    memcpy(e->route, k->route, size);
    if (k->status != 0)
        (void)snprintf(status, sizeof status, "%d", k->status);
    values[0] = methods[k->method];
    values[1] = schemes[k->secure];
    values[2] = template_of(k->route);
    values[3] = status;
    values[4] = versions[k->version >= 20 ? 2 : k->version == 10 ? 0 : 1];
    values[5] = k->fate == PANICKED  ? "panic"
                : k->fate == ABORTED ? "aborted"
                : k->fate == FAILED  ? status
                                     : "";
    e->duration = bh_metric_series(metrics.duration, values, 6);
    e->received = bh_metric_series(metrics.received, values, 6);
    e->sent = bh_metric_series(metrics.sent, values, 6);
    return e;
}

/* Remember an entry in one of the places it may have.  Returns: false if they are taken. */
static bool
remember(struct entry *e, size_t hash)
{
    for (size_t i = 0; i < PROBES; i++) {
        struct entry *there = NULL;

        if (atomic_compare_exchange_strong_explicit(&entries[(hash + i) % SLOTS], &there, e,
                                                    memory_order_acq_rel, memory_order_acquire))
            return true;
    }
    return false;
}

static void
update(const struct entry *e, struct bh_http_call *c, const struct bh_http_outcome *o)
{
    const char *length =
        e->key.method >= WITH_BODY ? bh_http_header(c, "Content-Length") : NULL;

    bh_metric_record(e->duration, (double)o->ns * 1e-9);
    bh_metric_record(e->sent, (double)o->sent);
    if (length != NULL)
        bh_metric_record(e->received, (double)strtoull(length, NULL, 10));
}

static __attribute__((noinline)) void
update_first(const struct key *k, size_t hash, struct bh_http_call *c,
             const struct bh_http_outcome *o)
{
    struct entry *e = entry_new(k);

    if (e == NULL)
        return;
    update(e, c, o);
    if (!remember(e, hash))
        free(e);
}

/* ---- the middleware -------------------------------------------------------------- */

static struct bh_series *
active_of(const struct bh_http_call *c)
{
    return atomic_load_explicit(&metrics.active[method_number(c->method)][c->secure],
                                memory_order_relaxed);
}

static void
started(struct bh_http_call *c, void *arg)
{
    static struct bh_once_func once = { .fn = make_metrics };

    (void)arg;
    if (!atomic_load_explicit(&metrics.ready, memory_order_acquire))
        bh_once_func(&once); /* several first requests may come at once */
    bh_metric_add(active_of(c), 1);
}

static void
done(struct bh_http_call *c, const struct bh_http_outcome *o, void *arg)
{
    const struct key k = {
        .route = o->route,
        .method = method_number(c->method),
        .status = o->status,
        .version = c->version,
        .fate = o->panicked        ? PANICKED
                : o->aborted       ? ABORTED
                : o->status >= 500 ? FAILED
                                   : FINE,
        .secure = c->secure,
    };
    size_t hash = hash_key(&k);

    (void)arg;
    bh_metric_add(active_of(c), -1);
    for (size_t i = 0; i < PROBES; i++) {
        struct entry *e =
            atomic_load_explicit(&entries[(hash + i) % SLOTS], memory_order_acquire);

        if (e == NULL)
            break;
        if (is_of(e, &k)) {
            update(e, c, o);
            return;
        }
    }
    update_first(&k, hash, c, o);
}

int
bh_http_metrics(struct bh_http_call *c, void *arg)
{
    static struct bh_http_meter meter = { .started = started, .done = done };

    (void)arg;
    return bh_http_measure(c, &meter);
}
