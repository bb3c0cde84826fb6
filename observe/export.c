/*
 * export.c -- from ended spans and log lines to requests for a collector.
 *
 *     any thread                        OB_WORKERS threads
 *     bh_export_span --> ring   --+
 *                   urgent ring --+--> encode a batch --> send, send again --> counted
 *     bh_export_log  --> ring   --+    (lock held)        (lock not held)
 *                   urgent ring --+
 *     the registry ---------------+    every metric_interval
 *
 * Handing over is lock-free and ends in a counter at worst.  The rings and the counters live as
 * long as the process, since nobody can tell when the last caller has left them; they are made by
 * the first start that sends what they hold.
 *
 * A queue is due when it holds a batch, or when `until` says so, the place up to which it must be
 * emptied: a tick (every interval) or a flush sets it to the ring's head; urgent ones always are.
 * Workers sleep on a futex, `alarm`.  Whoever fills a batch, or hands over something urgent,
 * rings it, but only if a worker sleeps: the caller pays for a system call once in 512
 * spans at most.  A ring that is missed costs an interval, not a record.
 *
 * Workers are plain threads, which block: no fault of the scheduler's stops them, and none of
 * theirs is a goroutine's.  Each sends one batch at a time over its own connection, so
 * two are under way.  While a collector hangs both are stuck, up to the deadline of their
 * batches, the queue fills, and what does not fit is counted.
 *
 * exporter->lock is held for picking and encoding (some 0.1 ms), never for I/O or metrics, whose
 * callbacks are the program's.  `control` makes start and stop exclude each other, and guards
 * `current`; it is taken before the lock and not held while waiting.
 *
 * An ob_exporter is counted: control, each flush and each worker hold a reference.  A worker that
 * does not end in time (only the resolver of names can do that) keeps it and ends some day.
 * The rings have one taker at a time, under the lock of an exporter: so the next one is not
 * started before the last has stopped.
 */

#include "exporter.h"

#include <errno.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/futex.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/record.h>

enum { STACK = 256 << 10, NOTICE_SECONDS = 10 };

enum phase { NEVER, RUNNING, STOPPED };

static struct {
    _Atomic int      phase;
    _Atomic unsigned off; /* bit per signal */
    _Atomic unsigned batch;
    struct ob_ring   ring[OB_QUEUES][2]; /* [signal][urgent] */
    _Alignas(64) _Atomic int sleepers;   /* workers that want the alarm */
    _Atomic bool     rung;               /* and nobody has looked since */
    _Atomic uint32_t alarm;
} queues;

struct ob_export_counts ob_export_counts[BH_EXPORT_SIGNALS];

static pthread_mutex_t     control = PTHREAD_MUTEX_INITIALIZER;
static struct ob_exporter *current;
static bool                stopping; /* somebody has taken it, to stop it */

int64_t
ob_monotonic(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * BH_SECOND + t.tv_nsec;
}

/* ---- handing over ---------------------------------------------------------------- */

/*
 * Wake workers that sleep: `count` of them.  One that was rung and does not run yet will look at
 * everything, so it is not rung again.
 */
static void
ring_alarm(int count)
{
    if (atomic_load(&queues.sleepers) == 0 || atomic_exchange(&queues.rung, true))
        return;
    int saved = errno;
    atomic_fetch_add(&queues.alarm, 1);
    syscall(SYS_futex, &queues.alarm, FUTEX_WAKE_PRIVATE, count, NULL, NULL, 0);
    errno = saved;
}

/* All of them, whether or not one is on its way already. */
static void
ring_all(void)
{
    atomic_store(&queues.rung, false);
    ring_alarm(INT_MAX);
}

static void
drop(enum bh_export_signal s, enum bh_export_reason why, uint64_t n)
{
    ob_count(&ob_export_counts[s].dropped[why], n);
}

static void
put(enum bh_export_signal s, const void *record, size_t size, size_t most, bool urgent)
{
    int             phase = atomic_load_explicit(&queues.phase, memory_order_acquire);
    struct ob_ring *r = queues.ring[s];

    if (phase == NEVER ||
        (atomic_load_explicit(&queues.off, memory_order_acquire) & 1u << s) != 0)
        return;
    if (phase == STOPPED) {
        drop(s, BH_EXPORT_ALREADY_SHUTDOWN, 1);
        return;
    }
    if (urgent && ob_ring_put(&r[1], record, size) != 0) {
        ring_alarm(1);
        return;
    }
    if (size > most) {
        drop(s, urgent ? BH_EXPORT_QUEUE_FULL : BH_EXPORT_TOO_LARGE, 1);
        return;
    }
    uint64_t place = ob_ring_put(&r[0], record, size);
    if (place == 0)
        drop(s, BH_EXPORT_QUEUE_FULL, 1);
    else if (urgent || place - atomic_load_explicit(&r[0].tail, memory_order_relaxed) >=
                           atomic_load_explicit(&queues.batch, memory_order_relaxed))
        ring_alarm(1);
}

void
bh_export_span(const struct bh_span_record *r)
{
    put(BH_EXPORT_SPANS, r, bh_span_record_size(r), sizeof *r, r->urgent != 0);
}

void
bh_export_log(const struct bh_log_record *r)
{
    put(BH_EXPORT_LOGS, r, bh_log_record_size(r), BH_LOG_RECORD_MAX, r->urgent != 0);
}

/* ---- picking a batch (exporter->lock held) --------------------------------------- */

static uint64_t
place(_Atomic uint64_t *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

/* Everything that is queued now is due. */
static void
all_due(struct ob_exporter *e)
{
    for (int s = 0; s < OB_QUEUES; s++) {
        for (int u = 0; u < 2; u++)
            e->until[s][u] = place(&queues.ring[s][u].head);
    }
}

static bool
is_due(struct ob_exporter *e, int s)
{
    struct ob_ring *r = queues.ring[s];

    if (e->config.signal[s].off)
        return false;
    if (s >= OB_QUEUES)
        return e->metrics_due;
    if (ob_ring_peek(&r[1]) != NULL)
        return true;
    return ob_ring_peek(&r[0]) != NULL &&
           (place(&r[0].tail) < e->until[s][0] || ob_ring_count(&r[0]) >= e->config.batch);
}

/* Move records into the request, urgent ones first. */
static void
fill(struct ob_exporter *e, int s, struct ob_otlp *o)
{
    o->exception_events = e->config.exception_events;
    for (int u = 1; u >= 0; u--) {
        struct ob_ring *r = &queues.ring[s][u];
        const void     *record;
        while (o->count < e->config.batch && (record = ob_ring_peek(r)) != NULL) {
            bool fits = s == BH_EXPORT_SPANS ? ob_otlp_span(o, record) : ob_otlp_log(o, record);
            if (!fits && o->count > 0)
                return;
            if (!fits)
                drop((enum bh_export_signal)s, BH_EXPORT_TOO_LARGE, 1);
            ob_ring_pop(r);
        }
    }
}

/* Find work for w.  Returns: whether w->batch is some; metrics are still to be collected then. */
static bool
pick(struct ob_worker *w)
{
    struct ob_exporter *e = w->exporter;
    int64_t             now = ob_monotonic();

    if (now >= e->next_tick) {
        all_due(e);
        e->next_tick = now + e->config.interval;
    }
    if (now >= e->next_metrics) {
        e->metrics_due = true;
        e->next_metrics = now + e->config.metric_interval;
    }
    for (int i = 0; i < BH_EXPORT_SIGNALS; i++) {
        int s = (e->turn + i) % BH_EXPORT_SIGNALS;
        if (!is_due(e, s) ||
            !ob_circuit_closed(&e->circuit[s], now, e->config.signal[s].timeout))
            continue;
        struct ob_otlp o;
        w->batch = (struct ob_batch){ .signal = (enum bh_export_signal)s };
        if (s < OB_QUEUES) {
            ob_otlp_begin(&o, w->buffer, OB_BUFFER, e->resource, e->resource_size);
            fill(e, s, &o);
            w->batch.count = o.count;
            if (o.count == 0)
                continue; /* all too large */
            w->batch.data = ob_otlp_end(&o, &w->batch.size);
        } else {
            e->metrics_due = false;
        }
        w->batch.serial = ++e->serial;
        e->turn = (s + 1) % BH_EXPORT_SIGNALS;
        return true;
    }
    return false;
}

/* When pick may succeed, if nobody rings the alarm. */
static int64_t
next_time(struct ob_exporter *e)
{
    int64_t next = e->next_tick < e->next_metrics ? e->next_tick : e->next_metrics;

    for (int s = 0; s < BH_EXPORT_SIGNALS; s++) {
        if (is_due(e, s) && e->circuit[s].until < next)
            next = e->circuit[s].until;
    }
    return next;
}

/* ---- saying so ------------------------------------------------------------------- */

/* A line about what was lost since the last, at most one in NOTICE_SECONDS.  Lock held. */
static void
notice(struct ob_exporter *e, int64_t now)
{
    static uint64_t told[BH_EXPORT_SIGNALS]
                        [BH_EXPORT_REASONS]; /* by this one place, under the lock */
    uint64_t      count[BH_EXPORT_SIGNALS][BH_EXPORT_REASONS];
    struct pollfd out = { .fd = STDERR_FILENO, .events = POLLOUT };
    char          text[2048]; /* for all there can be, each with 20 digits */
    int           n = 0;

    if (e->config.quiet || now < e->next_notice)
        return;
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++) {
        for (int w = 0; w < BH_EXPORT_REASONS; w++) {
            count[s][w] = place(&ob_export_counts[s].dropped[w]);
            if (count[s][w] == told[s][w])
                continue;
            n += snprintf(text + n, sizeof text - (size_t)n, "%s%" PRIu64 " %s (%s)",
                          n == 0 ? "bulkhead: telemetry lost: " : ", ",
                          count[s][w] - told[s][w],
                          bh_export_signal_name((enum bh_export_signal)s),
                          bh_export_reason_name((enum bh_export_reason)w));
        }
    }
    if (n == 0)
        return;
    text[n++] = '\n';
    e->next_notice = now + NOTICE_SECONDS * BH_SECOND;
    /* Whoever reads may have stopped: then the next one says it all.  A ready pipe takes it whole. */
    if (poll(&out, 1, 0) != 1)
        return;
    if (write(STDERR_FILENO, text, (size_t)n) < 0)
        e->config.quiet = true;
    memcpy(told, count, sizeof told);
}

/* ---- workers --------------------------------------------------------------------- */

static void
unref(struct ob_exporter *e)
{
    if (atomic_fetch_sub(&e->refs, 1) != 1)
        return;
    ob_export_unconfigure(&e->config);
    for (int i = 0; i < OB_WORKERS; i++) {
        if (e->worker[i].buffer != NULL)
            munmap(e->worker[i].buffer, OB_BUFFER);
    }
    if (e->cancel >= 0)
        close(e->cancel);
    pthread_cond_destroy(&e->changed);
    pthread_mutex_destroy(&e->lock);
    free(e);
}

/* Sleep until the alarm, or `next`. */
static void
sleep_until(int64_t next, uint32_t heard)
{
    int64_t         left = next - ob_monotonic();
    struct timespec t = { .tv_sec = left / BH_SECOND, .tv_nsec = left % BH_SECOND };

    if (left > 0)
        syscall(SYS_futex, &queues.alarm, FUTEX_WAIT_PRIVATE, heard, &t, NULL, 0);
}

/* The batch that pick found.  No lock. */
static void
deliver(struct ob_worker *w)
{
    uint8_t *memory = NULL;

    if (w->batch.signal == BH_EXPORT_METRICS)
        memory = ob_collect(w->exporter, &w->batch);
    if (w->batch.count > 0)
        ob_export_send(w);
    free(memory);
}

/* Pick, or sleep.  Lock held, but not while sleeping.  Returns: whether there is a batch. */
static bool
await(struct ob_worker *w)
{
    struct ob_exporter *e = w->exporter;

    notice(e, ob_monotonic());
    if (pick(w))
        return true;
    uint32_t heard = atomic_load(&queues.alarm);
    atomic_fetch_add(&queues.sleepers, 1); /* and look again: what comes from now on rings */
    atomic_store(&queues.rung, false);
    bool found = pick(w);
    if (!found) {
        int64_t next = next_time(e);
        pthread_mutex_unlock(&e->lock);
        sleep_until(next, heard);
        pthread_mutex_lock(&e->lock);
    }
    atomic_fetch_sub(&queues.sleepers, 1);
    atomic_store(&queues.rung, false);
    return found;
}

static void *
work(void *arg)
{
    struct ob_worker   *w = arg;
    struct ob_exporter *e = w->exporter;

    ob_post_init(&w->post, e->cancel);
    pthread_mutex_lock(&e->lock);
    while (!e->quit) {
        if (!await(w))
            continue;
        pthread_mutex_unlock(&e->lock);
        deliver(w);
        pthread_mutex_lock(&e->lock);
        w->batch.serial = 0;
        pthread_cond_broadcast(&e->changed);
    }
    ob_post_close(&w->post);
    free(w->packed);
    e->workers--;
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
    unref(e);
    return NULL;
}

/* Signals are the program's; only faults of our own stay open, to be reported as such. */
static int
start_workers(struct ob_exporter *e)
{
    pthread_attr_t attributes;
    pthread_t      thread;
    sigset_t       all, old;
    int            rc = 0;

    sigfillset(&all);
    const int faults[] = { SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP };
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    pthread_mutex_lock(&e->lock);
    for (int i = 0; i < OB_WORKERS && rc == 0; i++) {
        e->worker[i].exporter = e;
        atomic_fetch_add(&e->refs, 1);
        rc = -pthread_create(&thread, &attributes, work, &e->worker[i]);
        if (rc == 0) {
            e->workers++;
            (void)pthread_setname_np(thread, i == 0 ? "bh-export-0" : "bh-export-1");
        } else {
            unref(e);
        }
    }
    rc = e->workers > 0 ? 0 : rc; /* one is enough */
    pthread_mutex_unlock(&e->lock);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    pthread_attr_destroy(&attributes);
    return rc;
}

/* ---- start ----------------------------------------------------------------------- */

static int
make_rings(const struct ob_export_config *c)
{
    static const size_t sizes[OB_QUEUES][2] = {
        { sizeof(struct bh_span_record), sizeof(struct bh_span_record) },
        { BH_LOG_RECORD_MAX, BH_LOG_RECORD_URGENT_MAX },
    };

    for (int s = 0; s < OB_QUEUES; s++) {
        for (int u = 0; u < 2 && !c->signal[s].off; u++) {
            struct ob_ring *r = &queues.ring[s][u];
            if (r->memory == NULL &&
                ob_ring_init(r, u == 0 ? c->slots[s] : OB_URGENT_SLOTS, sizes[s][u]) < 0)
                return bh_fail(-ENOMEM, "no memory for the exporter's queues");
        }
    }
    return 0;
}

static void
encode_resource(struct ob_exporter *e)
{
    struct pb w;

    pb_init(&w, e->resource, sizeof e->resource);
    ob_otlp_resource(&w); /* 4 KiB of it should be enough for anybody */
    e->resource_size = pb_length(&w);
    memmove(e->resource, pb_data(&w), e->resource_size);
}

static int
prepare(struct ob_exporter *e)
{
    pthread_condattr_t attributes;
    int64_t            now = ob_monotonic();

    atomic_init(&e->refs, 1);
    pthread_mutex_init(&e->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&e->changed, &attributes);
    pthread_condattr_destroy(&attributes);
    e->next_tick = now + e->config.interval;
    e->next_metrics = now + e->config.metric_interval;
    e->cancel = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (e->cancel < 0)
        return bh_fail(-errno, "no descriptor for the exporter");
    for (int i = 0; i < OB_WORKERS; i++) {
        struct ob_worker *w = &e->worker[i];
        void             *p =
            mmap(NULL, OB_BUFFER, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return bh_fail(-ENOMEM, "no memory for the exporter's requests");
        w->buffer = p;
        if (getrandom(&w->random, sizeof w->random, GRND_NONBLOCK) < 0 || w->random == 0)
            w->random = (uint64_t)now + (uint64_t)i + 1;
    }
    encode_resource(e);
    return make_rings(&e->config);
}

static int
start(const struct bh_export_options *options)
{
    struct ob_exporter *e;
    unsigned            off = 0;

    if (current != NULL || stopping)
        return bh_fail(-EALREADY, stopping ? "the exporter is being stopped"
                                           : "the exporter has been started");
    e = calloc(1, sizeof *e);
    if (e == NULL)
        return bh_fail(-ENOMEM, "no memory for the exporter");
    int rc = ob_export_configure(&e->config, options);
    if (rc < 0) {
        free(e);
        return rc;
    }
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++)
        off |= e->config.signal[s].off ? 1u << s : 0;
    rc = prepare(e);
    if (rc == 0) {
        atomic_store(&queues.off, off);
        atomic_store(&queues.batch, e->config.batch);
    }
    if (rc == 0 && off != (1u << BH_EXPORT_SIGNALS) - 1) {
        rc = start_workers(e);
        if (rc == 0)
            atomic_store_explicit(&queues.phase, RUNNING, memory_order_release);
        else
            (void)bh_fail(rc, "no thread for the exporter");
    }
    if (rc < 0)
        unref(e);
    else
        current = e;
    return rc;
}

int
bh_export_start(const struct bh_export_options *options)
{
    pthread_mutex_lock(&control);
    int rc = start(options);
    pthread_mutex_unlock(&control);
    return rc;
}

/* ---- flush and stop -------------------------------------------------------------- */

struct flush {
    struct ob_exporter *e;
    int64_t             deadline;
    bool                stop;
    int                 rc;
};

/* What a flush waits for: the places of its beginning, then batches begun until they were reached. */
struct goal {
    uint64_t until[OB_QUEUES][2];
    uint64_t serial; /* 0: queues have not been emptied up to there */
};

/* Is it reached?  *dead: what is missing is all for collectors that do not answer. */
static bool
reached(struct ob_exporter *e, struct goal *g, bool *dead)
{
    bool pending = e->metrics_due;

    *dead = true;
    if (e->metrics_due)
        *dead = e->circuit[BH_EXPORT_METRICS].tried;
    for (int s = 0; s < OB_QUEUES; s++) {
        for (int u = 0; u < 2; u++) {
            if (place(&queues.ring[s][u].tail) < g->until[s][u]) {
                pending = true;
                *dead = *dead && e->circuit[s].tried;
            }
        }
    }
    if (!pending && g->serial == 0)
        g->serial = e->serial;
    for (int i = 0; i < OB_WORKERS; i++) {
        const struct ob_batch *b = &e->worker[i].batch;
        if (b->serial != 0 && (g->serial == 0 || b->serial <= g->serial)) {
            pending = true;
            *dead = *dead && e->circuit[b->signal].tried;
        }
    }
    return !pending;
}

static int
flush(struct ob_exporter *e, int64_t deadline)
{
    struct goal     g = { 0 };
    struct timespec t = { .tv_sec = deadline / BH_SECOND, .tv_nsec = deadline % BH_SECOND };
    bool            dead;
    int             rc = 0;

    pthread_mutex_lock(&e->lock);
    all_due(e);
    memcpy(g.until, e->until, sizeof g.until);
    e->metrics_due = !e->config.signal[BH_EXPORT_METRICS].off;
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++) {
        e->circuit[s].tried = false;
        if (e->circuit[s].until != 0)
            e->circuit[s].until = 1; /* one attempt, now */
    }
    e->hurry++;
    pthread_cond_broadcast(&e->changed);
    ring_all();
    while (!reached(e, &g, &dead) && rc == 0) {
        if (dead)
            rc = -EHOSTUNREACH;
        else if (e->quit)
            rc = -ESHUTDOWN;
        else if (pthread_cond_timedwait(&e->changed, &e->lock, &t) == ETIMEDOUT)
            rc = reached(e, &g, &dead) ? 0 : -ETIMEDOUT;
    }
    pthread_mutex_unlock(&e->lock);
    return rc;
}

/* What is left in the queues will not be sent. */
static void
abandon(void)
{
    for (int s = 0; s < OB_QUEUES; s++) {
        for (int u = 0; u < 2; u++) {
            struct ob_ring *r = &queues.ring[s][u];

            while (r->memory != NULL && ob_ring_peek(r) != NULL) {
                ob_ring_pop(r);
                drop((enum bh_export_signal)s, BH_EXPORT_ALREADY_SHUTDOWN, 1);
            }
        }
    }
}

static void
stop(struct ob_exporter *e)
{
    int64_t         deadline = ob_monotonic() + BH_SECOND;
    struct timespec t = { .tv_sec = deadline / BH_SECOND, .tv_nsec = deadline % BH_SECOND };

    pthread_mutex_lock(&e->lock);
    e->quit = true;
    (void)!write(e->cancel, &(uint64_t){ 1 }, sizeof(uint64_t));
    ring_all();
    pthread_cond_broadcast(&e->changed);
    while (e->workers > 0 && pthread_cond_timedwait(&e->changed, &e->lock, &t) == 0)
        ;
    abandon();
    e->next_notice = 0;
    notice(e, 0);
    pthread_mutex_unlock(&e->lock);
}

/* A reference to the exporter; take: from `current`, so that there is none any more. */
static struct ob_exporter *
acquire(bool take)
{
    pthread_mutex_lock(&control);
    struct ob_exporter *e = current;
    if (e != NULL && take) {
        current = NULL;
        stopping = true;
        if (atomic_load(&queues.phase) == RUNNING)
            atomic_store(&queues.phase, STOPPED);
    } else if (e != NULL) {
        atomic_fetch_add(&e->refs, 1);
    }
    pthread_mutex_unlock(&control);
    return e;
}

static void
run_flush(void *arg)
{
    struct flush *f = arg;

    f->rc = flush(f->e, f->deadline);
    if (f->stop) {
        stop(f->e);
        pthread_mutex_lock(&control);
        stopping = false;
        pthread_mutex_unlock(&control);
    }
    unref(f->e);
}

static int
flush_or_stop(int64_t timeout, bool and_stop)
{
    int64_t      now = ob_monotonic();
    struct flush f = { .e = acquire(and_stop), .stop = and_stop };

    if (f.e == NULL)
        return bh_fail(-ESHUTDOWN, "the exporter is not running");
    f.deadline = timeout < INT64_MAX - now ? now + timeout : INT64_MAX;
    if (bh_self() != NULL)
        bh_blocking(run_flush, &f);
    else
        run_flush(&f);
    return f.rc;
}

int
bh_export_flush(int64_t timeout)
{
    return flush_or_stop(timeout, false);
}

int
bh_export_stop(int64_t timeout)
{
    return flush_or_stop(timeout, true);
}

/* ---- figures --------------------------------------------------------------------- */

void
bh_export_stats_read(struct bh_export_stats *stats)
{
    bool open[BH_EXPORT_SIGNALS] = { false };

    struct ob_exporter *e = acquire(false);
    if (e != NULL) {
        pthread_mutex_lock(&e->lock);
        for (int s = 0; s < BH_EXPORT_SIGNALS; s++)
            open[s] = e->circuit[s].until != 0;
        pthread_mutex_unlock(&e->lock);
        unref(e);
    }
    *stats = (struct bh_export_stats){ 0 };
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++) {
        struct bh_export_counts *to = &stats->signal[s];
        struct ob_export_counts *from = &ob_export_counts[s];
        to->accepted = place(&from->accepted);
        for (int u = 0; u < 2 && s < OB_QUEUES; u++) {
            struct ob_ring *r = &queues.ring[s][u];
            to->accepted += place(&r->head);
            to->queued += ob_ring_count(r);
            to->capacity += r->memory != NULL ? r->mask + 1 : 0;
        }
        to->exported = place(&from->exported);
        to->requests = place(&from->requests);
        to->failures = place(&from->failures);
        to->bytes = place(&from->bytes);
        to->request_ns = (int64_t)place(&from->request_ns);
        for (int i = 0; i < BH_EXPORT_REASONS; i++)
            to->dropped[i] = place(&from->dropped[i]);
        to->open = open[s];
    }
}

const char *
bh_export_signal_name(enum bh_export_signal signal)
{
    static const char *const names[] = { "spans", "logs", "metrics" };

    return signal < BH_EXPORT_SIGNALS ? names[signal] : "unknown";
}

const char *
bh_export_reason_name(enum bh_export_reason reason)
{
    static const char *const names[] = { "queue_full", "already_shutdown", "too_large",
                                         "timeout",    "connection",       "unavailable",
                                         "refused",    "rejected" };

    return reason < BH_EXPORT_REASONS ? names[reason] : "unknown";
}
