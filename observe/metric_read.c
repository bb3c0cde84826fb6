/*
 * metric_read.c -- reading all metrics: first those who are asked are asked, then series by
 * series.
 *
 * A histogram's count is the sum of its buckets as they were read, so the two always agree, as
 * OpenMetrics demands; its sum may be an update ahead or behind.
 *
 * Who is asked may panic.  On a goroutine that is contained; a thread that runs none, an
 * exporter's say, has a goroutine ask in its place, and waits for it for a second: then what
 * there is must do.
 */

#include "series.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>

enum { MAX_COLLECTORS = 32 };

struct collector {
    void (*_Atomic fn)(void *arg); /* NULL: not there yet */
    void *arg;
};

static struct collector collectors[MAX_COLLECTORS];
static _Atomic int      collector_count;

int
bh_metric_collect(void (*fn)(void *arg), void *arg)
{
    int n = atomic_load(&collector_count);

    if (fn == NULL)
        return bh_fail(-EINVAL, "metric: no function to collect with");
    do {
        if (n == MAX_COLLECTORS)
            return bh_fail(-ENOSPC, "metric: more than %d collectors", n);
    } while (!atomic_compare_exchange_weak(&collector_count, &n, n + 1));
    collectors[n].arg = arg;
    atomic_store_explicit(&collectors[n].fn, fn, memory_order_release);
    return 0;
}

static void
call_contained(struct collector *c, void (*fn)(void *arg))
{
    BH_RECOVER(p) {
        ob_count(&ob_metric_counts.collect_panics);
        return;
    }
    fn(c->arg);
}

static void
collect(void)
{
    int n = atomic_load(&collector_count);

    for (int i = 0; i < n; i++) {
        struct collector *c = &collectors[i];

        void (*fn)(void *arg) = atomic_load_explicit(&c->fn, memory_order_acquire);
        if (fn != NULL)
            call_contained(c, fn);
    }
}

static _Atomic uint32_t asking; /* 1: a goroutine collects for a thread */

static void
end_asking(_Atomic uint32_t *word)
{
    atomic_store(word, 0);
    (void)syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

static void
collect_for_thread(void *args)
{
    (void)args;
    BH_DEFER(end_asking, &asking);
    collect();
}

static void
collect_on_thread(void)
{
    uint32_t              nobody = 0;
    const struct timespec second = { .tv_sec = 1 };

    if (atomic_load(&collector_count) == 0)
        return;
    if (atomic_compare_exchange_strong(&asking, &nobody, 1) &&
        bh_go_from_thread(collect_for_thread, NULL) != 0) {
        atomic_store(&asking, 0); /* no goroutines now: no news of them either */
        return;
    }
    (void)syscall(SYS_futex, &asking, FUTEX_WAIT_PRIVATE, 1, &second, NULL, 0);
}

/* ---- points ---------------------------------------------------------------------- */

/* Room for what a point refers to. */
struct scratch {
    uint64_t           buckets[BH_METRIC_BUCKETS + 1];
    struct bh_exemplar examples[OB_EXAMPLES];
};

static void
read_histogram(struct bh_series *s, struct bh_metric_point *p, struct scratch *room)
{
    for (int i = 0; i <= s->metric->info.bound_count; i++) {
        room->buckets[i] = ob_cell_sum(s->cell + 1 + (uint32_t)i);
        p->count += room->buckets[i];
    }
    p->sum = ob_cell_sum_double(s->cell);
    p->buckets = room->buckets;
}

static struct bh_metric_point
read_series(struct bh_series *s, struct scratch *room)
{
    bool                   is_overflow = s == atomic_load(&s->metric->overflow);
    struct bh_metric_point p = {
        .values = is_overflow ? NULL : s->values,
        .start_ns = s->start_ns,
        .exemplar = room->examples,
    };

    switch (s->takes) {
    case OB_ADD:
    case OB_ADD_SIGNED:
        p.integer = (int64_t)ob_cell_sum(s->cell);
        p.value = (double)p.integer;
        p.whole = true;
        break;
    case OB_RECORD:
        read_histogram(s, &p, room);
        break;
    case OB_SET:
    case OB_SET_GREATER:
        p.value = ob_double(atomic_load_explicit(&s->set, memory_order_relaxed));
        p.whole = s->metric->info.kind != BH_GAUGE && p.value >= -0x1p53 && p.value <= 0x1p53 &&
                  (double)(int64_t)p.value == p.value;
        p.integer = p.whole ? (int64_t)p.value : 0;
        break;
    }
    p.exemplar_count = ob_examples_read(s, room->examples);
    return p;
}

static int
each(bh_metric_visit_fn *fn, void *arg, struct scratch *room)
{
    for (struct bh_metric *m = ob_metric_first(); m != NULL;
         m = atomic_load_explicit(&m->next, memory_order_acquire)) {
        for (struct bh_series *s = atomic_load_explicit(&m->first, memory_order_acquire);
             s != NULL; s = atomic_load_explicit(&s->next, memory_order_acquire)) {
            struct bh_metric_point p = read_series(s, room);

            if (!fn(&m->info, &p, arg))
                return -ECANCELED;
        }
    }
    return 0;
}

/* On a goroutine, where fn may panic, and who collects may end it. */
static int
each_deferred(bh_metric_visit_fn *fn, void *arg, struct scratch *room)
{
    BH_DEFER(free, room);
    collect();
    return each(fn, arg, room);
}

int
bh_metric_each(bh_metric_visit_fn *fn, void *arg)
{
    struct scratch *room = malloc(sizeof *room); /* a stack may be small */
    int             rc;

    if (room == NULL)
        return bh_fail(-ENOMEM, "metrics: no memory to read them");
    if (bh_self() != NULL)
        return each_deferred(fn, arg, room);
    collect_on_thread();
    rc = each(fn, arg, room);
    free(room);
    return rc;
}

void
bh_metric_stats(struct bh_metric_stats *stats)
{
    *stats = (struct bh_metric_stats){
        .overflowed = atomic_load(&ob_metric_counts.overflowed),
        .misused = atomic_load(&ob_metric_counts.misused),
        .lost = atomic_load(&ob_metric_counts.lost),
        .collect_panics = atomic_load(&ob_metric_counts.collect_panics),
    };
    for (struct bh_metric *m = ob_metric_first(); m != NULL;
         m = atomic_load_explicit(&m->next, memory_order_acquire)) {
        stats->metrics++;
        stats->series += atomic_load_explicit(&m->series_count, memory_order_relaxed);
    }
}
