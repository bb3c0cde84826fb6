/*
 * measure.c -- what became of each request, for whoever counts.
 *
 * A request may end by a return, a panic that escapes (an abort) or bh_goexit: the meter is
 * told by a deferred call, so it hears of every one once.
 */

#include <stdlib.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/monitor.h>

struct measuring {
    struct bh_http_call *c;
    int                  rc;
    void (*done)(struct bh_http_call *c, const struct bh_http_outcome *outcome, void *arg);
    void *arg;
};

static void
tell(struct measuring *m)
{
    struct bh_http_call         *c = m->c;
    const struct bh_http_outcome outcome = {
        .route = c->route,
        .status = c->status,
        .sent = c->sent,
        .ns = bh_now() - c->started,
        .panicked = m->rc == BH_EPANIC,
        .aborted = c->aborted,
    };

    m->done(c, &outcome, m->arg);
}

static int
run(struct measuring *m)
{
    BH_DEFER(tell, m);
    m->rc = bh_http_next(m->c);
    return m->rc;
}

int
bh_http_measure(struct bh_http_call *c, void *arg)
{
    const struct bh_http_meter *meter = arg;
    struct measuring            m = { c, 0, meter->done, meter->arg };

    if (meter->started != NULL)
        meter->started(c, meter->arg);
    return meter->done != NULL ? run(&m) : bh_http_next(c);
}

/* ---- counting -------------------------------------------------------------------- */

static void
add(_Atomic uint64_t *counter, uint64_t n)
{
    (void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static void
count(struct bh_http_call *c, const struct bh_http_outcome *o, void *arg)
{
    struct bh_http_counters *n = arg;
    int                      bucket = 0, digit = o->status / 100;

    (void)c;
    for (int64_t us = o->ns / 1000; us > 0 && bucket < BH_HTTP_LATENCIES - 1; us >>= 1)
        bucket++;
    add(&n->requests, 1);
    add(&n->status[digit <= 5 ? digit : 5], 1);
    add(&n->latency[bucket], 1);
    add(&n->sent, o->sent);
    if (o->panicked)
        add(&n->panics, 1);
    if (o->aborted)
        add(&n->aborted, 1);
    (void)atomic_fetch_sub_explicit(&n->active, 1, memory_order_relaxed);
}

int
bh_http_count(struct bh_http_call *c, void *arg)
{
    struct bh_http_counters *n = arg;
    struct measuring         m = { c, 0, count, n };

    (void)atomic_fetch_add_explicit(&n->active, 1, memory_order_relaxed);
    return run(&m);
}

int64_t
bh_http_latency(const struct bh_http_counters *counters, double part)
{
    uint64_t all = 0, below = 0;

    for (int i = 0; i < BH_HTTP_LATENCIES; i++)
        all += atomic_load_explicit(&counters->latency[i], memory_order_relaxed);
    for (int i = 0; i < BH_HTTP_LATENCIES && all > 0; i++) {
        below += atomic_load_explicit(&counters->latency[i], memory_order_relaxed);
        if ((double)below >= part * (double)all)
            return (INT64_C(1) << i) * BH_MICROSECOND;
    }
    return 0;
}
