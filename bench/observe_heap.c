/*
 * observe_heap.c -- what the heap, the block, the mutex and the CPU profile cost.
 *
 * Without and with alternate, and of each the best of many rounds counts: on a machine
 * shared with others a mean tells about the others.
 */

#include "bench.h"

#include <dlfcn.h>
#include <signal.h>
#include <sys/syscall.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/contention.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/observe/heap.h>
#include <bulkhead/observe/profile.h>

enum { ROUNDS = 40, PAIRS = 200 * 1000, LIVE = 4096 };

/* ---- what is measured; each returns ns per operation ---------------------------------- */

/* Through pointers, so that both ways can be taken by turns. */
static void *(*allocate)(size_t size);
static void (*release)(void *p);

static double
hot_pair(void)
{
    int64_t start = bench_now();

    for (int i = 0; i < PAIRS; i++) {
        void *p = allocate(128);

        __asm__ volatile("" : "+r"(p) : : "memory");
        release(p);
    }
    return (double)(bench_now() - start) / PAIRS;
}

/* Sizes and lifetimes mixed, thousands live: what the caches say of the filter. */
static double
mixed_pair(void)
{
    static void *live[LIVE];
    uint32_t     random = 1;
    int64_t      start = bench_now();

    for (int i = 0; i < PAIRS; i++) {
        void **slot;

        random = random * 1664525 + 1013904223;
        slot = &live[random >> 20];
        release(*slot);
        *slot = allocate(16 + (random >> 8) % 1000);
    }
    return (double)(bench_now() - start) / PAIRS;
}

static double
lock_pair(void)
{
    struct bh_mutex m = { 0 };
    int64_t         start = bench_now();

    for (int i = 0; i < PAIRS; i++) {
        bh_mutex_lock(&m);
        bh_mutex_unlock(&m);
    }
    return (double)(bench_now() - start) / PAIRS;
}

struct wire {
    struct bh_chan *there, *back;
};

static void
echo(void *args)
{
    struct wire *w = args;
    int          v;

    while (bh_recv(w->there, &v))
        bh_send(w->back, &v);
}

static double
wait_pair(void)
{
    enum { WAITS = 20000 };
    struct wire w = { BH_CHAN(int, 0), BH_CHAN(int, 0) };
    int         v = 0;
    int64_t     start;

    bh_go(echo, &w);
    start = bench_now();
    for (int i = 0; i < WAITS; i++) {
        bh_send(w.there, &v);
        bh_recv(w.back, &v);
    }
    start = bench_now() - start;
    bh_close(w.there);
    while (bh_goroutine_count() > 1)
        bh_yield();
    bh_chan_unref(w.there);
    bh_chan_unref(w.back);
    return (double)start / (2 * WAITS);
}

/* ---- switches ---------------------------------------------------------------------------- */

static void
heap_off(void)
{
    allocate = (void *(*)(size_t))dlsym(RTLD_NEXT, "malloc");
    release = (void (*)(void *))dlsym(RTLD_NEXT, "free");
}

static void
heap_on(void)
{
    if (bh_heap_profile_start(0) != 0)
        exit(1);
    allocate = malloc;
    release = free;
}

static void
contention_off(void)
{
    (void)bh_block_profile_rate(0);
    (void)bh_mutex_profile_fraction(0);
}

static void
contention_on(void)
{
    if (bh_block_profile_rate(10000) != 0 || bh_mutex_profile_fraction(100) != 0)
        exit(1);
}

struct row {
    const char *name;
    double (*measure)(void);
    void (*off)(void), (*on)(void);
};

static const struct row rows[] = {
    { "mutex", lock_pair, contention_off, contention_on }, /* uncontended */
    { "wait", wait_pair, contention_off, contention_on },  /* one in 10 us is sampled */
    { "malloc", hot_pair, heap_off, heap_on },             /* and free, of one size */
    { "malloc_mixed", mixed_pair, heap_off, heap_on },
};

static void
better(double *best, double ns)
{
    if (*best == 0 || ns < *best)
        *best = ns;
}

static void
run(void *args)
{
    (void)args;
    for (const struct row *r = rows; r < rows + sizeof rows / sizeof *rows; r++) {
        double without = 0, with = 0;
        char   metric[64];

        for (int i = 0; i < ROUNDS; i++) {
            r->off();
            better(&without, r->measure());
            r->on();
            better(&with, r->measure());
        }
        r->off();
        (void)snprintf(metric, sizeof metric, "%s_ns", r->name);
        bench_print(metric, without);
        (void)snprintf(metric, sizeof metric, "%s_profiled_more_ns", r->name);
        bench_print(metric, with - without);
    }
}

/* What the kernel would send after a tick. */
static void
sample(void *args)
{
    enum { TICKS = 20000 };
    siginfo_t           tick = { .si_signo = SIGPROF, .si_code = SI_TIMER };
    struct bh_cpu_stats before, after;

    (void)args;
    if (bh_cpu_start() != 0)
        exit(1);
    bh_cpu_stats_read(&before);
    for (int i = 0; i < TICKS; i++)
        (void)syscall(SYS_rt_tgsigqueueinfo, getpid(), (int)syscall(SYS_gettid), SIGPROF,
                      &tick);
    bh_cpu_stats_read(&after);
    bh_cpu_stop();
    double ns = (double)(after.cost - before.cost) / (double)(after.samples - before.samples);
    bench_print("cpu_sample_ns", ns);
    bench_print("cpu_percent_of_a_thread", ns * 99 / 1e7); /* 99 samples a second */
}

static const struct bench tests[] = { { "pairs", 1, run },
                                      { "cpu", 1, sample },
                                      { NULL, 0, NULL } };

int
main(int argc, char **argv)
{
    return bench_main(tests, argc, argv);
}
