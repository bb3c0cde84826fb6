/*
 * observe_panic.c -- what reporting adds to a panic.
 *
 *     capture      us before the first deferred call, of a panic that gets a report; and ms
 *                  that the reporter's thread works on it
 *     capture_10k  the same among 10,000 goroutines
 *     pause_10k    us, the longest that a busy goroutine is held up while a report, with
 *                  profiles, is made among 10,000; and as long without one, when it is the
 *                  machine's doing: the shortest of the rounds, and the median
 *     suppressed   us of a panic and recover that the limiter leaves without a report
 *     off          us of one with nothing started, for comparison
 *
 * Run with a name as argument; prints "metric<TAB>value".  Reports go to a directory that is
 * removed again.
 */

#include <stdatomic.h>

#include <bulkhead/go/flight.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/report.h>

#include "bench.h"

enum { MANY = 10000, ROUNDS = 30, SUPPRESSED = 20000 };

static struct bh_kind kinds[ROUNDS];
static char           directory[] = "/tmp/bulkhead_bench_XXXXXX";

static int
raise_kind(const struct bh_kind *kind)
{
    BH_RECOVER(p) {
        (void)p;
        return 1;
    }
    bh_panic_value(kind, (const void *)1);
    return 0;
}

static void
start(void)
{
    if (bh_flight_start(0) < 0) /* as in production */
        exit(1);
    struct bh_report_options o = { .directory = directory, .fd = -1, .per_minute = 600 };

    if (mkdtemp(directory) == NULL || bh_report_start(&o) < 0)
        exit(1);
}

static void
stop(void)
{
    bh_report_stop();
    bench_remove(directory);
}

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return x < y ? -1 : x > y;
}

/* reports -- a panic of a new kind each time; the medians. */
static void
reports(const char *capture_name, const char *reporter_name)
{
    static char            names[ROUNDS][16];
    double                 capture[ROUNDS], reporter[ROUNDS];
    struct bh_report_stats stats;

    start();
    for (int i = 0; i < ROUNDS; i++) {
        (void)snprintf(names[i], sizeof names[i], "kind %d", i);
        kinds[i].name = names[i];
        for (int k = 0; k < 100; k++)
            bh_yield(); /* events to be noted */
        (void)raise_kind(&kinds[i]);
        if (!bh_report_flush(10 * BH_SECOND))
            exit(1);
        bh_report_stats(&stats);
        capture[i] = (double)stats.capture_ns / 1e3;
        reporter[i] = (double)stats.report_ns / 1e6;
    }
    stop();
    qsort(capture, ROUNDS, sizeof *capture, by_value);
    qsort(reporter, ROUNDS, sizeof *reporter, by_value);
    bench_print(capture_name, capture[ROUNDS / 2]);
    bench_print(reporter_name, reporter[ROUNDS / 2]);
}

static void
run_one(void *args)
{
    (void)args;
    reports("observe_capture_us", "observe_reporter_ms");
}

static void
run_many(void *args)
{
    struct bh_chan *crowd = bench_crowd(MANY);

    (void)args;
    reports("observe_capture_10k_us", "observe_reporter_10k_ms");
    bench_uncrowd(crowd);
}

/* ---- pauses ---------------------------------------------------------------------- */

static _Atomic bool    over;
static _Atomic int64_t longest; /* ns */

static void
nothing(void *args)
{
    (void)args;
}

/* Busy as a server is: it starts goroutines and makes way.  How long did it ever take? */
static void
watch(void *args)
{
    int64_t last = bench_now();

    (void)args;
    while (!atomic_load(&over)) {
        bh_go(nothing, NULL);
        bh_yield();
        int64_t now = bench_now();
        if (now - last > atomic_load(&longest))
            atomic_store(&longest, now - last);
        last = now;
    }
}

/*
 * A pause that the reporter makes is in every report.  One that the kernel makes, which gives
 * the reporter's thread its share of a busy processor, is not in the shortest.
 */
static void
print_pauses(const char *which, double *pause)
{
    char metric[64];

    qsort(pause, ROUNDS, sizeof *pause, by_value);
    (void)snprintf(metric, sizeof metric, "observe_pause_10k%s_us", which);
    bench_print(metric, pause[0]);
    (void)snprintf(metric, sizeof metric, "observe_pause_10k%s_median_us", which);
    bench_print(metric, pause[ROUNDS / 2]);
}

static void
run_pause(void *args)
{
    static char            names[ROUNDS][16];
    struct bh_chan        *crowd = bench_crowd(MANY);
    double                 reporting[ROUNDS], quiet[ROUNDS];
    struct bh_report_stats stats;

    (void)args;
    if (bh_report_profiles() < 0 || bh_report_timeline() < 0)
        exit(1);
    start();
    bh_go(watch, NULL);
    for (int i = 0; i < ROUNDS; i++) {
        (void)snprintf(names[i], sizeof names[i], "kind %d", i);
        kinds[i].name = names[i];
        (void)raise_kind(&kinds[i]);
        atomic_store(&longest, 0); /* what raising takes is measured elsewhere */
        if (!bh_report_flush(10 * BH_SECOND))
            exit(1);
        reporting[i] = (double)atomic_load(&longest) / 1e3;
        bh_report_stats(&stats);
        atomic_store(&longest, 0);
        bh_sleep(stats.report_ns); /* as long without */
        quiet[i] = (double)atomic_load(&longest) / 1e3;
    }
    print_pauses("", reporting);
    print_pauses("_quiet", quiet);
    atomic_store(&over, true);
    stop();
    bench_uncrowd(crowd);
}

/* ---- suppressed ------------------------------------------------------------------ */

/* each_us -- of so many panics of one kind. */
static double
each_us(int count)
{
    int64_t began = bench_now();

    for (int i = 0; i < count; i++)
        (void)raise_kind(&kinds[0]);
    return (double)(bench_now() - began) / 1e3 / count;
}

static void
run_off(void *args)
{
    (void)args;
    kinds[0].name = "kind";
    bench_print("observe_off_us", each_us(SUPPRESSED));
}

static void
run_suppressed(void *args)
{
    (void)args;
    kinds[0].name = "kind";
    start();
    (void)raise_kind(&kinds[0]);
    if (!bh_report_flush(10 * BH_SECOND))
        exit(1);
    bench_print("observe_suppressed_us", each_us(SUPPRESSED));
    stop();
}

int
main(int argc, char **argv)
{
    static const struct bench tests[] = {
        { "capture", 2, run_one },
        { "capture_10k", 2, run_many },
        { "pause_10k", 2, run_pause },
        { "suppressed", 2, run_suppressed },
        { "off", 2, run_off },
        { NULL, 0, NULL },
    };

    bh_set_hooks(&(struct bh_hooks){ .panic = bh_report_event });
    return bench_main(tests, argc, argv);
}
