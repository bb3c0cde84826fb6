#ifndef BULKHEAD_HTTP_MONITOR_H
#define BULKHEAD_HTTP_MONITOR_H

/*
 * monitor.h -- middleware that watches: request ids, logs, counts; and health checks.
 *
 *     bh_http_observe(s, bh_http_identify, NULL);
 *     bh_http_observe(s, bh_http_log, &(struct bh_http_log_options){ .format = BH_HTTP_LOG_JSON });
 *     bh_http_observe(s, bh_http_count, &counters);
 *     bh_http_use(s, bh_http_recover, NULL);
 *     bh_http_handle(s, "GET /healthz", bh_http_healthz, NULL);
 *     bh_http_handle(s, "GET /readyz", bh_http_readyz, health);
 *
 * Observers, so that they see the 500 of a panic too.  Options live as long as the server.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

struct bh_ctx;

/* ---- request ids ----------------------------------------------------------------- */

struct bh_http_identify_options {
    const char *header; /* "X-Request-Id" */
    bool        trust;  /* keep the id that came with the request, if it is well formed */
};

/*
 * bh_http_identify -- give each request an id, and its reply the field.  arg: options, or NULL.
 *
 * Made ids are unique across restarts.  One that is kept has 1 to 64 letters, digits and "._-".
 */
bh_http_fn bh_http_identify;
/* bh_http_request_id -- the id; "" without bh_http_identify. */
const char *bh_http_request_id(struct bh_http_call *c);

/* ---- access log ------------------------------------------------------------------ */

enum bh_http_log_format {
    BH_HTTP_LOG_PLAIN,    /* as bh_http_access_log */
    BH_HTTP_LOG_COMMON,   /* the Common Log Format */
    BH_HTTP_LOG_COMBINED, /* the same with Referer and User-Agent */
    BH_HTTP_LOG_JSON,     /* an object a line: time, peer, method, path, query, protocol, status, ... */
};

struct bh_http_log_options {
    enum bh_http_log_format format;
    int                     fd; /* 0: standard output */
};

/* bh_http_log -- a line for each request.  arg: options.  Hostile bytes are escaped. */
bh_http_fn bh_http_log;

/* ---- measuring ------------------------------------------------------------------- */

struct bh_http_outcome {
    const char *route;   /* pattern; "" if none matched */
    int         status;  /* 0 if there was no reply */
    uint64_t    sent;    /* bytes of body */
    int64_t     ns;      /* from the complete head to the end of the chain */
    bool        panicked, aborted;
};

struct bh_http_meter {
    void (*started)(struct bh_http_call *c, void *arg); /* either may be NULL */
    void (*done)(struct bh_http_call *c, const struct bh_http_outcome *outcome, void *arg);
    void  *arg;
};

/*
 * bh_http_measure -- call a meter for each request, done also if it ends by a panic.  arg:
 * struct bh_http_meter.
 */
bh_http_fn bh_http_measure;

enum { BH_HTTP_LATENCIES = 32 };

/* What bh_http_count counts; zero it first, read it at any time. */
struct bh_http_counters {
    _Atomic uint64_t requests, panics, aborted, sent;
    _Atomic int64_t  active;
    _Atomic uint64_t status[6]; /* by the first digit; [0]: no reply */
    _Atomic uint64_t latency[BH_HTTP_LATENCIES]; /* [i]: below 2^i microseconds, and not below 2^(i-1) */
};

/* bh_http_count -- a meter that counts.  arg: struct bh_http_counters. */
bh_http_fn bh_http_count;
/*
 * bh_http_latency -- the duration that a part (0.99) of the requests do not exceed, ns, by
 * buckets; 0 without any.
 */
int64_t bh_http_latency(const struct bh_http_counters *counters, double part);

/* ---- health ---------------------------------------------------------------------- */

/* bh_http_healthz -- handler: 200 while the process serves. */
bh_http_fn bh_http_healthz;

struct bh_http_health;
/* A check.  ctx ends after its time.  Returns: 0, or a negative error with a note. */
typedef int bh_http_check_fn(struct bh_ctx *ctx, void *arg);

struct bh_http_health *bh_http_health_new(void);
void                   bh_http_health_free(struct bh_http_health *h); /* NULL is a no-op */
/* bh_http_health_add -- before serving.  name: static.  timeout: ns, 0 for 1 s. */
void bh_http_health_add(struct bh_http_health *h, const char *name, bh_http_check_fn *fn, void *arg,
                        int64_t timeout);
/*
 * bh_http_readyz -- handler: 200 if every check passes and the server does not drain, else 503;
 * with a list of the checks in JSON.  A check that panics has failed.  arg: the bh_http_health, or NULL.
 */
bh_http_fn bh_http_readyz;

#endif
