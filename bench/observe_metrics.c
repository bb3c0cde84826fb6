/*
 * observe_metrics.c -- what counting and logging cost who counts and logs.
 *
 * Each is the best of several rounds: the rest is other processes' doing.
 */

#include <fcntl.h>
#include <sys/mman.h>

#include <bulkhead/go/tag.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/log.h>
#include <bulkhead/observe/metrics.h>

#include "bench.h"

enum { ROUNDS = 40, CALLS = 20000 };

/* Print the price of one of the CALLS that once(arg) makes. */
static void
measure(const char *metric, void (*once)(void *arg), void *arg)
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = bench_now(), took;

        once(arg);
        took = bench_now() - start;
        best = took < best ? took : best;
    }
    bench_print(metric, (double)best / CALLS);
}

/* ---- metrics --------------------------------------------------------------------- */

static struct bh_series *counter, *updown, *gauge, *duration, *received, *sent;
static struct bh_metric *labelled;

static void
make_metrics(void)
{
    static const char *const labels[] = { "method", "route", "status", NULL };

    if (bh_metric_counter("c", "Help.", &counter) != 0 ||
        bh_metric_updown("u", "Help.", &updown) != 0 ||
        bh_metric_gauge("g", "Help.", &gauge) != 0 ||
        bh_metric_histogram("d", "Help.", "s", &duration) != 0 ||
        bh_metric_histogram("r", "Help.", "By", &received) != 0 ||
        bh_metric_histogram("s", "Help.", "By", &sent) != 0 ||
        bh_metric_new(
            &(struct bh_metric_options){
                .name = "l", .help = "Help.", .kind = BH_COUNTER, .labels = labels },
            &labelled) != 0)
        exit(1);
}

static void
add(void *arg)
{
    for (int i = 0; i < CALLS; i++)
        bh_metric_add(arg, 1);
}

static void
set(void *arg)
{
    for (int i = 0; i < CALLS; i++)
        bh_metric_set(arg, i);
}

static void
record(void *arg)
{
    for (int i = 0; i < CALLS; i++)
        bh_metric_record(arg, i * 1e-6);
}

static void
find(void *arg)
{
    for (int i = 0; i < CALLS; i++)
        bh_metric_add(bh_metric_with(arg, "GET", "/items/{id}", "200"), 1);
}

/* The five of a request: in flight and out again, duration, two sizes. */
static void
request(void *arg)
{
    (void)arg;
    for (int i = 0; i < CALLS; i++) {
        bh_metric_add(updown, 1);
        bh_metric_add(updown, -1);
        bh_metric_record(duration, i * 1e-6);
        bh_metric_record(received, i);
        bh_metric_record(sent, i);
    }
}

static void
metrics(void *args)
{
    (void)args;
    make_metrics();
    measure("counter_ns", add, counter);
    measure("gauge_ns", set, gauge);
    measure("histogram_ns", record, duration);
    measure("lookup_ns", find, labelled);
    measure("request_ns", request, NULL);
    bh_tag_set(&(struct bh_tag){ .trace_id = { 1 }, .sampled = 1 });
    measure("request_traced_ns", request, NULL);
}

/* ---- logs ------------------------------------------------------------------------ */

static void
log_bare(void *arg)
{
    (void)arg;
    for (int i = 0; i < CALLS; i++)
        bh_log(BH_INFO, "something happened");
}

static void
log_fields(void *arg)
{
    (void)arg;
    for (int i = 0; i < CALLS; i++)
        bh_log(BH_INFO, "order placed", BH_STR("id", "o-1234567"), BH_INT("quantity", i),
               BH_DOUBLE("price", 9.75), BH_BOOL("paid", true));
}

static void
log_off(void *arg)
{
    for (int i = 0; i < CALLS; i++)
        bh_log(BH_DEBUG, "nothing", BH_STR("text", (const char *)arg), BH_INT("i", i));
}

/* Lines that fit the ring: the writer is left time between rounds. */
static void
measure_lines(const char *metric, void (*once)(void *arg))
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = bench_now(), took;

        once(NULL);
        took = bench_now() - start;
        best = took < best ? took : best;
        if (bh_log_flush(10 * BH_SECOND) != 0)
            exit(1);
    }
    bench_print(metric, (double)best / CALLS);
}

static uint64_t
dropped(void)
{
    struct bh_log_stats stats;

    bh_log_stats(&stats);
    return stats.dropped[BH_LOG_RING_FULL];
}

static void
logs(void *args)
{
    int     fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    int64_t start;

    (void)args;
    if (bh_log_start(&(struct bh_log_options){ .fd = fd, .ring_size = 16 << 20 }) != 0)
        exit(1);
    measure("log_off_ns", log_off, NULL);
    measure_lines("log_ns", log_bare);
    measure_lines("log_fields_ns", log_fields);
    if (dropped() != 0)
        exit(1);
    start = bench_now();
    for (int i = 0; i < 10; i++) {
        log_fields(NULL);
        if (bh_log_flush(10 * BH_SECOND) != 0)
            exit(1);
    }
    bench_print("log_written_ns", (double)(bench_now() - start) / CALLS / 10);
    (void)bh_log_stop(BH_SECOND);
}

/* An output that hangs: all rings are full. */
static void
drops(void *args)
{
    int fds[2];

    (void)args;
    if (pipe2(fds, O_CLOEXEC) != 0 ||
        bh_log_start(&(struct bh_log_options){ .fd = fds[1] }) != 0)
        exit(1);
    for (int i = 0; i < 10 || dropped() < CALLS; i++)
        log_fields(NULL);
    measure("log_dropped_ns", log_fields, NULL);
    (void)bh_log_stop(BH_MILLISECOND);
}

int
main(int argc, char **argv)
{
    static const struct bench tests[] = {
        { "metrics", 1, metrics }, { "logs", 2, logs }, { "drops", 2, drops }, { NULL, 0, NULL }
    };

    return bench_main(tests, argc, argv);
}
