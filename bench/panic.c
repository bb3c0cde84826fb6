/*
 * panic.c -- what panics, faults and their preparation cost.  peers/go/panic.go is
 * the same.
 *
 *     one       panic and recover in one frame
 *     null      load from NULL, recover
 *     frames    panic under 50 frames, each with a deferred call; recover at the top
 *     bare      the same without deferred calls
 *     overflow  run out of stack, recover (Go cannot)
 *     defer     what a BH_DEFER adds to a call;  point: what a BH_RECOVER adds
 */

#include <bulkhead/go/panic.h>

#include "bench.h"

enum { PANICS = 1000000, FAULTS = 100000, OVERFLOWS = 20000, CALLS = 100000000, DEPTH = 50 };

static volatile int sink;
static int *volatile nowhere;
static volatile bool always = true; /* the compiler must not see that nothing returns */

#define NOT_INLINED __attribute__((noinline))

static void
touch(int *counter)
{
    ++*counter;
}

NOT_INLINED static int
raise_int(int x)
{
    if (always)
        bh_panic_value(&bh_kind_int, &x);
    return x;
}

NOT_INLINED static int
one(int x)
{
    BH_RECOVER(p) {
        sink = p->line;
        return 1;
    }
    if (always)
        bh_panic_value(&bh_kind_int, &x);
    return x;
}

NOT_INLINED static int
null(int x)
{
    BH_RECOVER(p) {
        sink = p->signal;
        return x;
    }
    return *nowhere;
}

NOT_INLINED static int
descend(int depth, int *counter)
{
    BH_DEFER(touch, counter);
    if (depth == 0)
        return raise_int(depth);
    return descend(depth - 1, counter) + 1;
}

NOT_INLINED static int
frames(int x)
{
    int counter = x;

    BH_RECOVER(p) {
        sink = p->line;
        return 1;
    }
    return descend(DEPTH - 1, &counter);
}

NOT_INLINED static int
descend_bare(int depth)
{
    if (depth == 0)
        return raise_int(depth);
    return descend_bare(depth - 1) + 1;
}

NOT_INLINED static int
bare(int x)
{
    BH_RECOVER(p) {
        sink = p->line;
        return x;
    }
    return descend_bare(DEPTH - 1);
}

NOT_INLINED static int
endless(volatile int *above)
{
    volatile int here = *above + 1;

    return always ? endless(&here) + here : here;
}

NOT_INLINED static int
overflow(int x)
{
    volatile int start = x;

    BH_RECOVER(p) {
        sink = p->signal;
        return 1;
    }
    return endless(&start);
}

static double
each(int (*fn)(int), int count)
{
    int64_t start = bench_now();

    for (int i = 0; i < count; i++)
        fn(i);
    return (double)(bench_now() - start) / count;
}

NOT_INLINED static int
plain(int x)
{
    sink = x;
    return x;
}

static int counter;

NOT_INLINED static int
deferring(int x)
{
    BH_DEFER(touch, &counter);
    sink = x;
    return x;
}

/* What deferring does, without the record: the call itself is not defer's cost. */
NOT_INLINED static int
calling(int x)
{
    sink = x;
    touch(&counter);
    return x;
}

NOT_INLINED static int
pointed(int x)
{
    BH_RECOVER(p) {
        sink = p->line;
        return 1;
    }
    sink = x;
    return x;
}

/* The least of several: what is left is the code's own cost, not the machine's noise. */
static double
least(int (*fn)(int))
{
    double best = each(fn, CALLS / 10);

    for (int i = 1; i < 10; i++) {
        double t = each(fn, CALLS / 10);

        best = t < best ? t : best;
    }
    return best;
}

static void
run_one(void *args)
{
    (void)args;
    bench_print("panic_one_ns", each(one, PANICS));
}

static void
run_null(void *args)
{
    (void)args;
    bench_print("panic_null_ns", each(null, FAULTS));
}

static void
run_frames(void *args)
{
    (void)args;
    bench_print("panic_50_frames_ns", each(frames, PANICS / 10));
}

static void
run_bare(void *args)
{
    (void)args;
    bench_print("panic_50_bare_ns", each(bare, PANICS / 10));
}

static void
run_overflow(void *args)
{
    (void)args;
    bench_print("panic_overflow_ns", each(overflow, OVERFLOWS));
}

static void
run_defer(void *args)
{
    (void)args;
    bench_print("defer_ns", least(deferring) - least(calling));
}

static void
run_point(void *args)
{
    (void)args;
    bench_print("point_ns", least(pointed) - least(plain));
}

int
main(int argc, char **argv)
{
    static const struct bench tests[] = {
        { "one", 1, run_one },     { "null", 1, run_null },         { "frames", 1, run_frames },
        { "bare", 1, run_bare },   { "overflow", 1, run_overflow }, { "defer", 1, run_defer },
        { "point", 1, run_point }, { NULL, 0, NULL },
    };

    return bench_main(tests, argc, argv);
}
