/*
 * export_collect.c -- metrics, read for a request.
 *
 * Callbacks of the registry are the program's: they may use the runtime, and their panics are
 * contained on goroutines only.  So they run on one, if the runtime runs, and the
 * exporter's thread waits for it, not for ever.  The job is shared and counted: a goroutine that
 * was not waited for writes into memory that is its own by then.
 */

#include "exporter.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>

enum { FIRST_SIZE = 64 << 10 };

struct job {
    _Atomic int     refs;
    pthread_mutex_t lock; /* done, gone */
    pthread_cond_t  changed;
    bool            done;
    uint8_t         resource[sizeof((struct ob_exporter *)NULL)->resource];
    size_t          resource_size;
    /* The goroutine's until done, then the waiter's. */
    uint8_t        *memory;
    struct ob_batch batch;
};

static void
unref(struct job *j)
{
    if (atomic_fetch_sub(&j->refs, 1) != 1)
        return;
    pthread_cond_destroy(&j->changed);
    pthread_mutex_destroy(&j->lock);
    free(j->memory);
    free(j);
}

/* Larger and larger, until it fits. */
static void
encode(struct job *j)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    for (size_t size = FIRST_SIZE; size <= OB_METRICS_MAX; size *= 4) {
        struct ob_otlp o;
        free(j->memory);
        j->memory = malloc(size);
        if (j->memory == NULL)
            return;
        ob_otlp_begin(&o, j->memory, size, j->resource, j->resource_size);
        int rc = ob_otlp_metrics(&o, (int64_t)t.tv_sec * BH_SECOND + t.tv_nsec);
        if (rc != -EMSGSIZE) {
            j->batch.count = rc == 0 ? o.count : 0;
            j->batch.data = ob_otlp_end(&o, &j->batch.size);
            return;
        }
        if (size * 4 > OB_METRICS_MAX)
            ob_count(&ob_export_counts[BH_EXPORT_METRICS].dropped[BH_EXPORT_TOO_LARGE],
                     o.count);
    }
}

static void
finish(void *arg)
{
    struct job *j = arg;

    pthread_mutex_lock(&j->lock);
    j->done = true;
    pthread_cond_signal(&j->changed);
    pthread_mutex_unlock(&j->lock);
    unref(j);
}

/* However it ends: a callback may call bh_goexit. */
static void
run(void *arg)
{
    struct job *j = *(struct job **)arg;

    BH_DEFER(finish, j);
    encode(j);
}

static struct job *
job_new(struct ob_exporter *e)
{
    struct job        *j = calloc(1, sizeof *j);
    pthread_condattr_t attributes;

    if (j == NULL)
        return NULL;
    atomic_init(&j->refs, 2);
    pthread_mutex_init(&j->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&j->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    for (size_t i = 0; i < e->resource_size; i++)
        j->resource[i] = e->resource[i];
    j->resource_size = e->resource_size;
    return j;
}

uint8_t *
ob_collect(struct ob_exporter *e, struct ob_batch *batch)
{
    int64_t         deadline = ob_monotonic() + e->config.signal[BH_EXPORT_METRICS].timeout;
    struct timespec t = { .tv_sec = deadline / BH_SECOND, .tv_nsec = deadline % BH_SECOND };
    struct job     *j = job_new(e);
    uint8_t        *memory = NULL;

    batch->count = 0;
    if (j == NULL)
        return NULL;
    if (bh_go_from_thread(run, &j) < 0) {
        encode(j);
        finish(j);
    }
    pthread_mutex_lock(&j->lock);
    while (!j->done && pthread_cond_timedwait(&j->changed, &j->lock, &t) == 0)
        ;
    if (j->done) {
        memory = j->memory;
        j->memory = NULL;
        batch->data = j->batch.data;
        batch->size = j->batch.size;
        batch->count = j->batch.count;
        ob_count(&ob_export_counts[BH_EXPORT_METRICS].accepted, batch->count);
    }
    pthread_mutex_unlock(&j->lock);
    unref(j);
    return memory;
}
