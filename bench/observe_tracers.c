/*
 * observe_tracers.c -- what a process pays for tracers outside, while none is there.
 *
 *     probe     ns of a static probe that nobody listens to
 *     publish   ns in which a request's goroutine is tagged with its trace, where eBPF programs
 *               and profilers find it, and untagged
 *
 * A loop with the thing against the same loop without, by turns; of each the best of many
 * rounds counts.
 */

#include <bulkhead/go/tag.h>

#include "runtime.h"

#include "probe.h"

#include "bench.h"

enum { ROUNDS = 40, TIMES = 100 * 1000, PROBES = 8 };

/* The probe's own, which a tracer would count itself into. */
extern volatile unsigned short bulkhead_bench_semaphore;
volatile unsigned short        bulkhead_bench_semaphore
    __attribute__((section(".probes"), visibility("hidden")));

static void
nothing(void)
{
    for (int i = 0; i < TIMES; i++)
        __asm__ volatile("" : "+r"(i) : : "memory");
}

#define PROBE RT_PROBE(bench, 2, i, TIMES)

/* PROBES at a time: a single one hides behind the loop. */
static void
pass_probes(void)
{
    for (int i = 0; i < TIMES; i++) {
        __asm__ volatile("" : "+r"(i) : : "memory");
        PROBE;
        PROBE;
        PROBE;
        PROBE;
        PROBE;
        PROBE;
        PROBE;
        PROBE;
    }
}

static void
publish(void)
{
    struct bh_tag tag = { .trace_id = { 1 }, .span_id = { 2 }, .sampled = 1 };

    for (int i = 0; i < TIMES; i++) {
        __asm__ volatile("" : "+r"(i) : "r"(&tag) : "memory");
        bh_tag_set(&tag);
        bh_tag_set(NULL);
    }
}

static double
once(void (*loop)(void))
{
    int64_t start = bench_now();

    loop();
    return (double)(bench_now() - start) / TIMES;
}

/* per: so many things happen each time. */
static void
measure(const char *metric, void (*loop)(void), int per)
{
    double with = 1e9, without = 1e9;

    for (int i = 0; i < ROUNDS; i++) {
        double w = once(loop), o = once(nothing);

        with = w < with ? w : with;
        without = o < without ? o : without;
    }
    bench_print(metric, (with - without) / per);
}

static void
run_probe(void *args)
{
    (void)args;
    measure("probe_off_ns", pass_probes, PROBES);
}

static void
run_publish(void *args)
{
    (void)args;
    measure("context_publish_ns", publish, 1);
}

int
main(int argc, char **argv)
{
    static const struct bench tests[] = {
        { "probe", 1, run_probe },
        { "publish", 1, run_publish },
        { NULL, 0, NULL },
    };

    return bench_main(tests, argc, argv);
}
