/*
 * observe_heap.c -- what the heap, the block and the mutex profile cost.
 *
 *     heap     a malloc and its free, without and with sampling at 512 KiB
 *     lock     a lock and its unlock that nobody waits for
 *     wait     a goroutine that waits for another and is woken
 *
 * One line each: what, without, with, the difference, its budget if it has one; all in ns.
 * Without and with alternate, and of each the best of many rounds counts: on a machine
 * shared with others a mean tells about the others.
 */

#include "bench.h"

#include <bulkhead/go/chan.h>
#include <bulkhead/go/contention.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/observe/heap.h>

enum { ROUNDS = 40, PAIRS = 200 * 1000, LIVE = 4096 };

/* ---- what is measured; each returns ns per operation ---------------------------------- */

static double
hot_pair(void)
{
    int64_t start = bench_now();

    for (int i = 0; i < PAIRS; i++) {
        void *p = malloc(128);

        __asm__ volatile("" : "+r"(p) : : "memory");
        free(p);
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
        free(*slot);
        *slot = malloc(16 + (random >> 8) % 1000);
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
heap_on(void)
{
    if (bh_heap_profile_start(0) != 0)
        exit(1);
}

static void
contention_on(void)
{
    if (bh_block_profile_rate(10000) != 0 || bh_mutex_profile_fraction(100) != 0)
        exit(1);
}

static void
contention_off(void)
{
    (void)bh_block_profile_rate(0);
    (void)bh_mutex_profile_fraction(0);
}

static double
best_of(double (*fn)(void), int rounds)
{
    double best = fn();

    for (int i = 1; i < rounds; i++) {
        double ns = fn();

        best = ns < best ? ns : best;
    }
    return best;
}

static void
row(const char *what, double without, double with, double budget)
{
    printf("%-28s %8.2f %8.2f %8.2f", what, without, with, with - without);
    if (budget > 0)
        printf("   budget %.0f%s", budget, with - without <= budget ? "" : "   OVER");
    printf("\n");
}

static void
run(void *args)
{
    double hot, mixed, off, on;

    (void)args;
    printf("%-28s %8s %8s %8s\n", "ns", "without", "with", "more");
    off = on = 1e9;
    for (int i = 0; i < ROUNDS / 4; i++) {
        double ns;

        contention_off();
        ns = best_of(lock_pair, 4);
        off = ns < off ? ns : off;
        contention_on();
        ns = best_of(lock_pair, 4);
        on = ns < on ? ns : on;
    }
    row("mutex, uncontended", off, on, 5);
    contention_off();
    off = best_of(wait_pair, ROUNDS / 4);
    contention_on();
    on = best_of(wait_pair, ROUNDS / 4);
    contention_off();
    row("wait, one in 10 us sampled", off, on, 0);

    (void)mixed_pair();
    hot = best_of(hot_pair, ROUNDS);
    mixed = best_of(mixed_pair, ROUNDS);
    heap_on(); /* there is no way back: only to sampling nothing */
    row("malloc and free, one size", hot, best_of(hot_pair, ROUNDS), 5);
    row("malloc and free, mixed", mixed, best_of(mixed_pair, ROUNDS), 5);
}

int
main(void)
{
    return bh_main_with(&(struct bh_options){ .procs = 1 }, run, NULL);
}
