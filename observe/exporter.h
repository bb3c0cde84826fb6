#ifndef BULKHEAD_OBSERVE_EXPORTER_H
#define BULKHEAD_OBSERVE_EXPORTER_H

/* exporter.h -- PRIVATE to export*.c: what they share.  The design is told in export.c. */

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/observe/export.h>

#include "otlp.h"
#include "post.h"
#include "ring.h"

enum {
    OB_WORKERS = 2,            /* batches under way at a time */
    OB_URGENT_SLOTS = 64,      /* of each reserved lane */
    OB_BUFFER = 1 << 20,       /* bytes of a request of spans or logs */
    OB_METRICS_MAX = 16 << 20, /* and of metrics */
    OB_QUEUES = 2,             /* signals that have one: spans, logs */
    OB_CIRCUIT_FAILURES = 5,
};

/* ---- configuration (export_config.c) --------------------------------------------- */

struct ob_export_signal {
    bool                  off, gzip;
    int64_t               timeout;
    struct ob_post_target target;
};

struct ob_export_config {
    struct ob_export_signal signal[BH_EXPORT_SIGNALS];
    int64_t                 interval, metric_interval;
    unsigned                batch;
    unsigned                slots[OB_QUEUES];
    bool                    exception_events, quiet;
};

/* ob_export_configure -- options and environment.  Returns: as bh_export_start. */
int  ob_export_configure(struct ob_export_config *c, const struct bh_export_options *options);
void ob_export_unconfigure(struct ob_export_config *c);

/* ---- counters -------------------------------------------------------------------- */

/* For the life of the process; whoever hands something over may still be counting. */
struct ob_export_counts {
    _Atomic uint64_t accepted; /* metrics; a queue's own places tell it for others */
    _Atomic uint64_t exported, requests, failures, bytes, request_ns;
    _Atomic uint64_t dropped[BH_EXPORT_REASONS];
};
extern struct ob_export_counts ob_export_counts[BH_EXPORT_SIGNALS];

static inline void
ob_count(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

/* ---- the exporter ---------------------------------------------------------------- */

/*
 * A collector that failed OB_CIRCUIT_FAILURES times in a row is left alone until `until`; then
 * one attempt is let through, whose fate decides.  Under exporter->lock.
 */
struct ob_circuit {
    int     failures; /* in a row */
    int     trips;    /* in a row: each is longer */
    int64_t until;    /* CLOCK_MONOTONIC; not before.  0: closed */
    bool    tried;    /* opened again since the flush that set it false */
};

struct ob_batch {
    enum bh_export_signal signal;
    const uint8_t        *data;
    size_t                size;
    uint64_t              count;  /* of items */
    uint64_t              serial; /* 0: none */
};

struct ob_worker {
    struct ob_exporter *exporter;
    struct ob_batch     batch; /* under exporter->lock, but for who sends it */
    struct ob_post      post;
    uint8_t            *buffer, *packed; /* OB_BUFFER; the gzipped, as long as it has to be */
    size_t              packed_size;
    uint64_t            random;
};

struct ob_exporter {
    struct ob_export_config config;
    _Atomic int             refs; /* control, each worker, each flush */
    int                     cancel; /* eventfd; readable: everybody stop */
    uint8_t                 resource[4096];
    size_t                  resource_size;

    pthread_mutex_t   lock; /* all below */
    pthread_cond_t    changed; /* a batch is done, a circuit differs, a flush begins, a worker has ended */
    bool              quit;
    int               workers; /* alive */
    uint64_t          until[OB_QUEUES][2]; /* places up to which queues are due */
    uint64_t          serial;  /* of the last batch */
    int64_t           next_tick, next_metrics, next_notice;
    bool              metrics_due;
    unsigned          hurry; /* counts flushes: pauses end */
    int               turn; /* the signal to look at first */
    struct ob_circuit circuit[BH_EXPORT_SIGNALS];
    struct ob_worker  worker[OB_WORKERS];
};

int64_t ob_monotonic(void);

/* ob_export_send -- send w's batch, for as long as its time is; count what became of it. */
void ob_export_send(struct ob_worker *w);

/* ob_circuit_closed -- may an attempt be made?  true claims it, if it is the one let through. */
bool ob_circuit_closed(struct ob_circuit *c, int64_t now, int64_t timeout);

/* ob_collect -- metrics, encoded.  Returns: the request, which the caller frees; NULL. */
uint8_t *ob_collect(struct ob_exporter *e, struct ob_batch *batch);

#endif
