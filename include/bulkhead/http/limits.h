#ifndef BULKHEAD_HTTP_LIMITS_H
#define BULKHEAD_HTTP_LIMITS_H

/*
 * limits.h -- middleware that keeps requests within bounds: of time, size, rate and number.
 *
 *     bh_http_use(s, bh_http_recover, NULL);
 *     bh_http_use(s, bh_http_timeout, &(struct bh_http_timeout_options){ .after = 5 * BH_SECOND });
 *     bh_http_use(s, bh_http_body_limit, &(struct bh_http_body_limit_options){ .size = 10 << 20 });
 *
 * All of it belongs behind bh_http_recover; what a limit holds is given back if a handler
 * behind it panics.  Options must live as long as the server.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

/* ---- time ------------------------------------------------------------------------ */

struct bh_http_timeout_options {
    int64_t after;  /* ns; 0: no limit */
    int     status; /* of the reply: 503 */
};

/*
 * bh_http_timeout -- answer for a handler that takes too long.  arg: the options.
 *
 * The rest of the chain runs on a goroutine of its own.  In time, all is as if it were
 * not there: replies, panics (with their stack) and context.  Too late, the client gets the
 * status at once; the context ends with BH_EDEADLINE, and the handler runs on alone: its reply
 * goes nowhere, reading the body and writing fail, and a panic is reported as "late".
 * If part of its reply is out already, the transfer is broken off.
 *
 * The server counts such a handler as background work when it drains.  A connection can't be
 * upgraded inside.
 * Returns: what the rest returned, or BH_EDEADLINE.
 */
bh_http_fn bh_http_timeout;

/* ---- size ------------------------------------------------------------------------ */

struct bh_http_body_limit_options {
    size_t size; /* bytes */
};

/* bh_http_body_limit -- of request bodies behind it, instead of the server's: 413.  arg: the options. */
bh_http_fn bh_http_body_limit;

/* ---- rate ------------------------------------------------------------------------ */

/*
 * Who a request counts for: text that lives as long as the call; NULL: nobody, it is let
 * through.
 */
typedef const char *bh_http_key_fn(struct bh_http_call *c, void *arg);

/* Zero means the default beside the field. */
struct bh_http_rate_options {
    double          per_second; /* of each key; needed */
    unsigned        burst;      /* at once, after a pause: one second's, at least 1 */
    bh_http_key_fn *key;        /* the client's address (see bh_http_client_ip) */
    void           *key_arg;
    unsigned        max_keys;   /* known at a time: 100,000; then the quietest is forgotten */
    int             status;     /* 429 */
};

struct bh_http_rate;

/*
 * bh_http_rate_new -- a token bucket for each key.  Owns: the caller, until
 * bh_http_rate_free.  Panics: without a rate.
 */
struct bh_http_rate *bh_http_rate_new(const struct bh_http_rate_options *options);
void                 bh_http_rate_free(struct bh_http_rate *r); /* NULL is a no-op */

/*
 * bh_http_rate_limit -- refuse what exceeds the rate, with Retry-After.  arg: the bh_http_rate.
 * Replies get RateLimit-Limit, RateLimit-Remaining and RateLimit-Reset (seconds).
 */
bh_http_fn bh_http_rate_limit;

/* ---- number ---------------------------------------------------------------------- */

/* Zero means the default beside the field. */
struct bh_http_concurrency_options {
    unsigned limit;    /* requests behind it at a time; needed */
    unsigned queue;    /* that wait for a place: 4 times the limit; more are refused */
    int64_t  max_wait; /* ns a request may wait: 1 s; then it is refused */
    int64_t  target;   /* ns of waiting that is normal: 50 ms; see below */
    int      status;   /* 503 */
};

struct bh_http_concurrency;

struct bh_http_concurrency *
     bh_http_concurrency_new(const struct bh_http_concurrency_options *options);
void bh_http_concurrency_free(struct bh_http_concurrency *l); /* NULL is a no-op */

/*
 * bh_http_concurrency_limit -- so many at a time.  arg: the bh_http_concurrency.
 *
 * The others wait, first come first served.  If for 100 ms everybody has waited longer than
 * the target, the queue is standing: until it is empty again, the newest is served first and
 * nobody waits longer than the target, since who has waited long has often left.
 * A client that leaves while waiting loses its place.  Refusals have Retry-After: 1.
 */
bh_http_fn bh_http_concurrency_limit;

/* bh_http_concurrency_now -- how many run, and how many wait. */
void bh_http_concurrency_now(struct bh_http_concurrency *l, unsigned *running, unsigned *waiting);

#endif
