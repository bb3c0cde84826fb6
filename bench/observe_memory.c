/*
 * observe_memory.c -- what being observed holds in memory: growth of what is resident, in MiB.
 *
 *     span_queue   the queue of spans, full
 *     exporter     all of an exporter that cannot send: two queues, what it sends from, threads
 *     symbolizer   when the first address has been named; then, when a thousand have
 *     reporter     from before its start until it has reported ten times, with profiles and the
 *                  symbolizer's names, among 10,000 goroutines
 *
 * Debug information and libraries are read where they lie in the page cache; that is resident,
 * too, though the kernel can take it back.
 */

#include <bulkhead/go/hooks.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/export.h>
#include <bulkhead/observe/record.h>
#include <bulkhead/observe/report.h>

#include "bench.h"
#include "ring.h"

enum { MANY = 10000, PANICS = 10, SLOTS = 4096 /* unless told otherwise */ };

static double
mib_since(int64_t before)
{
    return (double)(bench_resident() - before) / (1 << 20);
}

/* ---- queues ---------------------------------------------------------------------- */

static void
span_queue(void *args)
{
    static struct bh_span_record r;
    struct ob_ring               ring;
    int64_t                      before = bench_resident();

    (void)args;
    if (ob_ring_init(&ring, SLOTS, sizeof r) != 0)
        exit(1);
    while (ob_ring_put(&ring, &r, sizeof r) != 0)
        ;
    bench_print("span_queue_mib", mib_since(before));
    ob_ring_fini(&ring);
}

/* To where nobody listens: the queue fills, and again. */
static void
exporter(void *args)
{
    static struct bh_span_record r = { .trace_id = { 1 }, .span_id = { 1 } };
    int64_t                      before = bench_resident();

    (void)args;
    if (bh_export_start(&(struct bh_export_options){ .endpoint = "http://127.0.0.1:9",
                                                     .quiet = true }) != 0)
        exit(1);
    for (int i = 0; i < 4 * SLOTS; i++)
        bh_export_span(&r);
    bench_print("exporter_mib", mib_since(before));
    bh_export_stop(0);
}

/* ---- the symbolizer -------------------------------------------------------------- */

static void
symbolizer(void *args)
{
    struct bh_frame frames[BH_FRAMES_MAX];
    int64_t         before = bench_resident();

    (void)args;
    (void)bh_symbolize((uintptr_t)symbolizer + 1, frames, BH_FRAMES_MAX);
    bench_print("symbolizer_first_mib", mib_since(before));
    for (uintptr_t i = 0; i < 1000; i++)
        (void)bh_symbolize((uintptr_t)bh_export_start + i * 16, frames, BH_FRAMES_MAX);
    bench_print("symbolizer_1000_mib", mib_since(before));
}

/* ---- the reporter ---------------------------------------------------------------- */

static char directory[] = "/tmp/bulkhead_bench_XXXXXX";

static void
fail(int number)
{
    static struct bh_kind kinds[PANICS];
    static char           names[PANICS][16];

    BH_RECOVER(p) {
        (void)p;
        return;
    }
    (void)snprintf(names[number], sizeof names[number], "kind %d", number);
    kinds[number].name = names[number];
    bh_panic_value(&kinds[number], &kinds[number]);
}

static void
reporter(void *args)
{
    struct bh_report_options o = { .directory = directory, .fd = -1, .per_minute = 600 };
    struct bh_chan          *crowd = bench_crowd(MANY);
    struct bh_report_stats   stats;
    int64_t                  before = bench_resident();

    (void)args;
    if (mkdtemp(directory) == NULL || bh_report_profiles() < 0 || bh_report_timeline() < 0 ||
        bh_report_start(&o) < 0)
        exit(1);
    for (int i = 0; i < PANICS; i++) {
        fail(i);
        if (!bh_report_flush(10 * BH_SECOND))
            exit(1);
    }
    bench_print("reporter_mib", mib_since(before));
    bh_report_stop();
    bench_remove(directory);
    bench_uncrowd(crowd);
    bh_report_stats(&stats);
    if (stats.reports != PANICS)
        exit(1);
}

int
main(int argc, char **argv)
{
    static const struct bench tests[] = {
        { "span_queue", 2, span_queue },
        { "exporter", 2, exporter },
        { "symbolizer", 2, symbolizer },
        { "reporter", 2, reporter },
        { NULL, 0, NULL },
    };

    bh_set_hooks(&(struct bh_hooks){ .panic = bh_report_event });
    return bench_main(tests, argc, argv);
}
