#include <bulkhead/observe/export.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/own.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/metrics.h>
#include <bulkhead/observe/record.h>

#include "collector_fixture.h"
#include "test.h"

static struct collector collector;

static void
stop_all(void *arg)
{
    (void)arg;
    (void)bh_export_stop(0);
    collector_stop(&collector);
}

/* An exporter of spans and logs that sends to the collector. */
static void
start_all(enum collector_mode mode, struct bh_export_options options)
{
    collector_start(&collector);
    collector.mode = mode;
    if (options.endpoint == NULL)
        options.endpoint = collector.url;
    options.off[BH_EXPORT_METRICS] = true;
    options.quiet = true;
    EXPECT_EQ(bh_export_start(&options), 0);
}

static void
put_spans(int count, bool urgent)
{
    struct bh_span_record r = {
        .start_ns = 1, .end_ns = 2, .trace_id = { 1 }, .span_id = { 1 }
    };

    r.urgent = urgent;
    (void)bh_item_put(
        r.items, sizeof r.items, &r.used,
        &(struct bh_item){ .role = BH_ITEM_NAME, .key = "", .value = "x", .value_size = 1 });
    for (int i = 0; i < count; i++)
        bh_export_span(&r);
}

static void
put_log(bool urgent, size_t stack)
{
    static _Alignas(8) char memory[BH_LOG_RECORD_URGENT_MAX];
    static char             text[BH_LOG_RECORD_URGENT_MAX];
    struct bh_log_record   *r = bh_log_record_init(memory, sizeof memory, BH_SEVERITY_ERROR);

    memset(text, 'x', sizeof text);
    r->urgent = urgent;
    bh_log_record_text(r, BH_ITEM_NAME, "", "exception", 9);
    if (stack > 0)
        bh_log_record_text(r, BH_ITEM_ATTRIBUTE, "exception.stacktrace", text, stack);
    bh_export_log(r);
}

static struct bh_export_counts
counts(enum bh_export_signal s)
{
    struct bh_export_stats stats;

    bh_export_stats_read(&stats);
    return stats.signal[s];
}

static uint64_t
lost(enum bh_export_signal s)
{
    struct bh_export_counts c = counts(s);
    uint64_t                sum = 0;

    for (int i = 0; i < BH_EXPORT_REASONS; i++)
        sum += c.dropped[i];
    return sum;
}

/* Nothing vanishes: what was accepted has arrived, is lost by name, or still waits. */
static void
expect_all_accounted(enum bh_export_signal s, uint64_t handed_over)
{
    struct bh_export_counts c = counts(s);

    EXPECT_EQ(c.exported + lost(s) + c.queued, handed_over);
}

/* Until fn of the figures holds; a test that waits in vain is ended by the runner. */
#define WAIT_UNTIL(condition)                                                                  \
    while (!(condition))                                                                       \
    bh_sleep(BH_MILLISECOND)

TEST_REAL(export, a_flush_delivers_everything)
{
    start_all(COLLECTOR_OK, (struct bh_export_options){ .interval = 3600 * BH_SECOND });
    BH_DEFER(stop_all, NULL);
    put_spans(1000, false);
    put_spans(3, true);
    put_log(false, 0);
    put_log(true, 10000);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(collector.items, 1005);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).exported, 1003);
    EXPECT_EQ(counts(BH_EXPORT_LOGS).exported, 2);
    EXPECT_EQ(lost(BH_EXPORT_SPANS) + lost(BH_EXPORT_LOGS), 0);
    EXPECT(collector.connections <= 2);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0); /* nothing to do is done at once */
}

TEST_REAL(export, a_full_batch_goes_without_waiting_for_the_interval)
{
    start_all(COLLECTOR_OK, (struct bh_export_options){ .interval = 3600 * BH_SECOND });
    BH_DEFER(stop_all, NULL);
    put_spans(511, false);
    EXPECT_EQ(collector.requests, 0);
    put_spans(1, false);
    WAIT_UNTIL(collector.items == 512);
}

TEST_REAL(export, the_interval_brings_the_rest)
{
    start_all(COLLECTOR_OK, (struct bh_export_options){ .interval = 50 * BH_MILLISECOND });
    BH_DEFER(stop_all, NULL);
    put_spans(1, false);
    WAIT_UNTIL(collector.items == 1);
    put_log(false, 0);
    WAIT_UNTIL(collector.items == 2);
}

TEST_REAL(export, a_panic_does_not_wait)
{
    start_all(COLLECTOR_OK, (struct bh_export_options){ .interval = 3600 * BH_SECOND });
    BH_DEFER(stop_all, NULL);
    put_log(true, 100);
    WAIT_UNTIL(collector.items == 1);
    put_spans(1, true);
    WAIT_UNTIL(collector.items == 2);
}

TEST_REAL(export, ordinary_traffic_cannot_fill_the_lane_of_panics)
{
    start_all(COLLECTOR_HANGS, (struct bh_export_options){ .span_slots = 64,
                                                           .batch = 16,
                                                           .interval = 10 * BH_MILLISECOND });
    BH_DEFER(stop_all, NULL);
    put_spans(16, false);
    put_spans(16, false);
    WAIT_UNTIL(collector.requests == 2); /* both workers are stuck now */
    put_spans(500, false);
    uint64_t full = counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_QUEUE_FULL];
    EXPECT_EQ(full, 500 - 64);
    put_spans(64, true);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_QUEUE_FULL], full);
    put_spans(1, true);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_QUEUE_FULL], full + 1);
    EXPECT_EQ(bh_export_stop(50 * BH_MILLISECOND), -ETIMEDOUT);
    expect_all_accounted(BH_EXPORT_SPANS, 16 + 16 + 500 + 65);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).queued, 0);
}

TEST_REAL(export, unavailable_is_tried_again)
{
    start_all(COLLECTOR_OK, (struct bh_export_options){ 0 });
    BH_DEFER(stop_all, NULL);
    collector.fail_first = 2;
    put_spans(7, false);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(collector.requests, 3);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).exported, 7);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).failures, 2);
    EXPECT_EQ(lost(BH_EXPORT_SPANS), 0);
}

TEST_REAL(export, retry_after_is_kept)
{
    start_all(COLLECTOR_LATER, (struct bh_export_options){ 0 });
    BH_DEFER(stop_all, NULL);
    put_spans(1, true);
    WAIT_UNTIL(collector.requests == 1);
    int64_t begin = bh_now();
    collector.mode = COLLECTOR_OK;
    WAIT_UNTIL(collector.requests == 2);
    EXPECT(bh_now() - begin >= 900 * BH_MILLISECOND);
    WAIT_UNTIL(counts(BH_EXPORT_SPANS).exported == 1);
}

TEST_REAL(export, other_statuses_are_not_tried_again)
{
    start_all(COLLECTOR_INVALID, (struct bh_export_options){ 0 });
    BH_DEFER(stop_all, NULL);
    put_spans(9, false);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(collector.requests, 1);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_REFUSED], 9);
}

TEST_REAL(export, partial_success_is_success_with_rejected_ones)
{
    start_all(COLLECTOR_PARTIAL, (struct bh_export_options){ 0 });
    BH_DEFER(stop_all, NULL);
    put_spans(9, false);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(collector.requests, 1);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).exported, 7);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_REJECTED], 2);
    put_spans(1, false); /* it may not reject more than there was */
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).exported, 7);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_REJECTED], 3);
}

TEST_REAL(export, hanging_and_dripping_end_at_the_deadline)
{
    static const enum collector_mode modes[] = { COLLECTOR_HANGS, COLLECTOR_DRIPS };

    start_all(COLLECTOR_OK, (struct bh_export_options){ .timeout = 100 * BH_MILLISECOND });
    BH_DEFER(stop_all, NULL);
    for (unsigned i = 0; i < 2; i++) {
        collector.mode = modes[i];
        put_spans(5, false);
        EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
        EXPECT_EQ(counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_TIMEOUT], 5 * (i + 1));
    }
    collector.mode = COLLECTOR_OK;
    put_spans(5, false);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).exported, 5);
}

/* The last attempt may also have met the deadline. */
static uint64_t
unreachable(void)
{
    struct bh_export_counts c = counts(BH_EXPORT_SPANS);

    return c.dropped[BH_EXPORT_CONNECTION] + c.dropped[BH_EXPORT_TIMEOUT];
}

TEST_REAL(export, empty_replies_and_refusals_count_as_connections)
{
    start_all(COLLECTOR_EMPTY, (struct bh_export_options){ .timeout = 300 * BH_MILLISECOND });
    BH_DEFER(stop_all, NULL);
    put_spans(5, false);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT(collector.requests >= 2);
    EXPECT_EQ(unreachable(), 5);
    shutdown(collector.listener, SHUT_RDWR);
    put_spans(5, false);
    int rc = bh_export_flush(5 * BH_SECOND);
    EXPECT(rc == 0 || rc == -EHOSTUNREACH);
    WAIT_UNTIL(unreachable() == 10);
}

TEST_REAL(export, a_dead_collector_is_left_alone_then_asked_once)
{
    start_all(COLLECTOR_UNAVAILABLE,
              (struct bh_export_options){ .interval = 10 * BH_MILLISECOND });
    BH_DEFER(stop_all, NULL);
    put_spans(1, false);
    WAIT_UNTIL(counts(BH_EXPORT_SPANS).open);
    EXPECT_EQ(collector.requests, 5);
    put_spans(100, false);
    bh_sleep(200 * BH_MILLISECOND); /* twenty intervals: it is not asked */
    EXPECT_EQ(collector.requests, 5);

    EXPECT_EQ(bh_export_flush(5 * BH_SECOND),
              -EHOSTUNREACH); /* one attempt, whoever makes it */
    EXPECT_EQ(collector.requests, 6);
    EXPECT(counts(BH_EXPORT_SPANS).open);

    collector.mode = COLLECTOR_OK;
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT(!counts(BH_EXPORT_SPANS).open);
    /* The one in hand may have come to its end meanwhile. */
    EXPECT(counts(BH_EXPORT_SPANS).exported >= 100);
    expect_all_accounted(BH_EXPORT_SPANS, 101);
}

TEST_REAL(export, stop_flushes_then_counts_what_is_late)
{
    start_all(COLLECTOR_OK, (struct bh_export_options){ .interval = 3600 * BH_SECOND });
    BH_DEFER(stop_all, NULL);
    put_spans(10, false);
    EXPECT_EQ(bh_export_stop(5 * BH_SECOND), 0);
    EXPECT_EQ(collector.items, 10);
    put_spans(3, false);
    put_log(true, 0);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_ALREADY_SHUTDOWN], 3);
    EXPECT_EQ(counts(BH_EXPORT_LOGS).dropped[BH_EXPORT_ALREADY_SHUTDOWN], 1);
    EXPECT_EQ(bh_export_stop(BH_SECOND), -ESHUTDOWN);
    EXPECT_EQ(bh_export_flush(BH_SECOND), -ESHUTDOWN);
}

TEST_REAL(export, stop_keeps_its_deadline_while_the_collector_hangs)
{
    start_all(COLLECTOR_HANGS, (struct bh_export_options){ .interval = BH_MILLISECOND });
    BH_DEFER(stop_all, NULL);
    put_spans(2000, false);
    WAIT_UNTIL(collector.requests == 2);
    int64_t begin = bh_now();
    EXPECT_EQ(bh_export_stop(100 * BH_MILLISECOND), -ETIMEDOUT);
    EXPECT(bh_now() - begin < (int64_t)(900 * test_slow()) * BH_MILLISECOND);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_ALREADY_SHUTDOWN], 2000);
}

static void
stop_slowly(void *args)
{
    (void)args;
    (void)bh_export_stop(300 * BH_MILLISECOND);
}

TEST_REAL(export, it_is_not_started_while_it_is_being_stopped)
{
    start_all(COLLECTOR_HANGS, (struct bh_export_options){ .interval = BH_MILLISECOND });
    BH_DEFER(stop_all, NULL);
    put_spans(2, false);
    WAIT_UNTIL(collector.requests == 1);
    bh_go_start_(stop_slowly, NULL, 0);
    WAIT_UNTIL(bh_export_flush(0) == -ESHUTDOWN);
    EXPECT_EQ(bh_export_start(NULL), -EALREADY);
    EXPECT(strstr(bh_error_note(), "stopped") != NULL);
    WAIT_UNTIL(bh_goroutine_count() == 1);
    EXPECT_EQ(bh_export_start(&(struct bh_export_options){ .endpoint = collector.url }), 0);
}

/* It says what is lost to who reads it, and waits for nobody who does not. */
TEST_REAL(export, a_stuck_standard_error_holds_nothing_up)
{
    int  pipe_of[2], saved = dup(STDERR_FILENO);
    char byte = 0, text[8192];

    EXPECT_EQ(pipe2(pipe_of, O_NONBLOCK), 0);
    while (write(pipe_of[1], &byte, 1) == 1)
        continue;
    EXPECT_EQ(fcntl(pipe_of[1], F_SETFL, 0), 0);
    collector_start(&collector);
    BH_DEFER(collector_stop, &collector);
    collector.mode = COLLECTOR_INVALID;
    EXPECT_EQ(bh_export_start(&(struct bh_export_options){
                  .endpoint = collector.url, .off = { [BH_EXPORT_METRICS] = true } }),
              0);
    EXPECT(dup2(pipe_of[1], STDERR_FILENO) == STDERR_FILENO);
    put_spans(7, false);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(lost(BH_EXPORT_SPANS), 7);
    while (read(pipe_of[0], text, sizeof text) > 0)
        continue;
    EXPECT_EQ(bh_export_stop(5 * BH_SECOND), 0);
    EXPECT(dup2(saved, STDERR_FILENO) == STDERR_FILENO);
    ssize_t n = read(pipe_of[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    EXPECT_STR(text, "bulkhead: telemetry lost: 7 spans (refused)\n");
    close(saved);
    close(pipe_of[0]);
    close(pipe_of[1]);
}

TEST_REAL(export, it_can_be_started_again)
{
    start_all(COLLECTOR_OK, (struct bh_export_options){ 0 });
    BH_DEFER(stop_all, NULL);
    EXPECT_EQ(bh_export_start(NULL), -EALREADY);
    for (int i = 1; i <= 3; i++) {
        put_spans(4, false);
        EXPECT_EQ(bh_export_stop(5 * BH_SECOND), 0);
        EXPECT_EQ(collector.items, 4 * (unsigned)i);
        EXPECT_EQ(bh_export_start(&(struct bh_export_options){
                      .endpoint = collector.url, .off = { [BH_EXPORT_METRICS] = true } }),
                  0);
    }
}

TEST_REAL(export, before_the_start_nothing_is_kept)
{
    put_spans(3, true);
    put_log(false, 0);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).accepted + lost(BH_EXPORT_SPANS), 0);
    EXPECT_EQ(bh_export_flush(BH_SECOND), -ESHUTDOWN);
    EXPECT_EQ(bh_export_stop(BH_SECOND), -ESHUTDOWN);
}

TEST_REAL(export, records_too_large_are_counted)
{
    start_all(COLLECTOR_OK, (struct bh_export_options){ 0 });
    BH_DEFER(stop_all, NULL);
    put_log(false, 10000);
    struct bh_span_record r = { .used = 60000 };
    bh_export_span(&r);
    EXPECT_EQ(counts(BH_EXPORT_LOGS).dropped[BH_EXPORT_TOO_LARGE], 1);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).dropped[BH_EXPORT_TOO_LARGE], 1);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(collector.requests, 0);
}

TEST_REAL(export, metrics_are_collected_by_a_flush)
{
    struct bh_series *series;

    EXPECT_EQ(bh_metric_counter("test.things", "Things.", &series), 0);
    bh_metric_add(series, 3);
    collector_start(&collector);
    BH_DEFER(stop_all, NULL);
    EXPECT_EQ(bh_export_start(
                  &(struct bh_export_options){ .endpoint = collector.url, .quiet = true }),
              0);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT(collector.items >= 1);
    EXPECT(counts(BH_EXPORT_METRICS).exported >= 1);
    EXPECT(strstr(collector.head, "POST /v1/metrics ") == collector.head);
    EXPECT(memmem(collector.body, collector.body_size, "test.things", 11) != NULL);
}

static void
end_here(void *arg)
{
    (void)arg;
    bh_goexit();
}

TEST_REAL(export, a_collecting_function_that_ends_its_goroutine_costs_no_time)
{
    collector_start(&collector);
    BH_DEFER(stop_all, NULL);
    EXPECT_EQ(bh_metric_collect(end_here, NULL), 0);
    EXPECT_EQ(bh_export_start(
                  &(struct bh_export_options){ .endpoint = collector.url, .quiet = true }),
              0);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
}

TEST_REAL(export, what_is_lost_is_a_metric_by_reason)
{
    char  *text;
    size_t size;

    EXPECT_EQ(bh_export_metrics(), 0);
    start_all(COLLECTOR_INVALID, (struct bh_export_options){ 0 });
    BH_DEFER(stop_all, NULL);
    put_spans(9, false);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(bh_export_stop(5 * BH_SECOND), 0);
    put_spans(2, false);
    EXPECT_EQ(bh_metric_text(false, &text, &size), 0);
    static const char *const lines[] = {
        "\notel_sdk_processor_span_processed_total{error_type=\"\"} 9\n",
        "\notel_sdk_processor_span_processed_total{error_type=\"already_shutdown\"} 2\n",
        "\notel_sdk_exporter_span_exported_total{error_type=\"refused\"} 9\n",
        "\notel_sdk_exporter_span_exported_total{error_type=\"\"} 0\n",
        "\notel_sdk_processor_span_queue_capacity 4160\n",
        "\nbulkhead_otlp_dropped_total{signal=\"spans\",reason=\"refused\"} 9\n",
        "\nbulkhead_otlp_requests_total{signal=\"spans\"} 1\n",
        "\nbulkhead_otlp_circuit_open{signal=\"logs\"} 0\n",
    };
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        if (strstr(text, lines[i]) == NULL)
            test_failed(__FILE__, __LINE__, "no %s in %s", lines[i], strstr(text, "otel_sdk"));
    }
    free(text);
}

TEST_REAL(export, gzip_is_used_if_told_so)
{
    start_all(COLLECTOR_UNAVAILABLE, (struct bh_export_options){ .gzip = 1 });
    BH_DEFER(stop_all, NULL);
    put_spans(500, false);
    WAIT_UNTIL(collector.requests >= 1);
    EXPECT(strstr(collector.head, "\r\nContent-Encoding: gzip\r\n") != NULL);
    EXPECT(memcmp(collector.body, "\x1f\x8b", 2) == 0);
    EXPECT(collector.body_size < 5000);
}

TEST_REAL(export, the_environment_counts_where_options_are_silent)
{
    collector_start(&collector);
    BH_DEFER(stop_all, NULL);
    setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1", 1);
    char url[80];
    snprintf(url, sizeof url, "%s/in?x=y", collector.url);
    setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", url, 1);
    setenv("OTEL_EXPORTER_OTLP_HEADERS", "a=generic", 1);
    setenv("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "a=special", 1);
    setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", 1);
    setenv("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "none", 1);
    setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf", 1);
    setenv("OTEL_LOGS_EXPORTER", "none", 1);
    setenv("OTEL_METRICS_EXPORTER", "none", 1);
    setenv("OTEL_BSP_MAX_QUEUE_SIZE", "100", 1);
    EXPECT_EQ(bh_export_start(NULL), 0);
    put_spans(1, false);
    put_log(false, 0);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(collector.items, 1);
    EXPECT(strstr(collector.head, "POST /in?x=y HTTP") == collector.head);
    EXPECT(strstr(collector.head, "\r\na: special\r\n") != NULL);
    EXPECT(strstr(collector.head, "gzip") == NULL);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).capacity, 128 + 64);
    EXPECT_EQ(counts(BH_EXPORT_LOGS).accepted, 0);
}

TEST_REAL(export, a_disabled_sdk_starts_and_sends_nothing)
{
    EXPECT_EQ(bh_export_start(&(struct bh_export_options){ .quiet = true }), 0);
    EXPECT_EQ(bh_export_stop(BH_SECOND), 0);
    setenv("OTEL_SDK_DISABLED", "TRUE", 1);
    EXPECT_EQ(bh_export_start(NULL), 0);
    put_spans(1, false);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).accepted + lost(BH_EXPORT_SPANS), 0);
    EXPECT_EQ(bh_export_flush(BH_SECOND), 0);
    EXPECT_EQ(bh_export_stop(BH_SECOND), 0);
}

/* A queue costs memory only where its records go out. */
TEST_REAL(export, what_is_off_has_no_queue_until_it_is_on)
{
    struct bh_export_options only_spans = {
        .off = { [BH_EXPORT_LOGS] = true, [BH_EXPORT_METRICS] = true }, .quiet = true
    };

    EXPECT_EQ(bh_export_start(&only_spans), 0);
    EXPECT(counts(BH_EXPORT_SPANS).capacity > 0);
    EXPECT_EQ(counts(BH_EXPORT_LOGS).capacity, 0);
    put_log(false, 0);
    put_log(true, 0);
    EXPECT_EQ(counts(BH_EXPORT_LOGS).accepted + lost(BH_EXPORT_LOGS), 0);
    EXPECT_EQ(bh_export_stop(BH_SECOND), 0);
    put_log(true, 0);
    EXPECT_EQ(lost(BH_EXPORT_LOGS), 0);
    start_all(COLLECTOR_OK, (struct bh_export_options){ 0 });
    BH_DEFER(stop_all, NULL);
    put_log(false, 0);
    put_log(true, 0);
    EXPECT_EQ(bh_export_flush(5 * BH_SECOND), 0);
    EXPECT_EQ(counts(BH_EXPORT_LOGS).exported, 2);
}

TEST_REAL(export, mistakes_in_the_environment_are_errors)
{
    static const struct {
        const char *name, *value;
        int         rc;
    } cases[] = {
        { "OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", -EPROTONOSUPPORT },
        { "OTEL_EXPORTER_OTLP_LOGS_PROTOCOL", "http/json", -EPROTONOSUPPORT },
        { "OTEL_EXPORTER_OTLP_TIMEOUT", "10s", -EINVAL },
        { "OTEL_EXPORTER_OTLP_TIMEOUT", "0", -EINVAL },
        { "OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4318", -EPROTONOSUPPORT },
        { "OTEL_EXPORTER_OTLP_COMPRESSION", "zstd", -EINVAL },
        { "OTEL_EXPORTER_OTLP_HEADERS", "oops", -EINVAL },
        { "OTEL_TRACES_EXPORTER", "zipkin", -EINVAL },
        { "OTEL_METRIC_EXPORT_INTERVAL", "-5", -EINVAL },
        { "OTEL_BSP_MAX_QUEUE_SIZE", "99999999999", -EINVAL },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        setenv(cases[i].name, cases[i].value, 1);
        EXPECT_EQ(bh_export_start(NULL), cases[i].rc);
        EXPECT(bh_error_note()[0] != '\0');
        unsetenv(cases[i].name);
    }
    EXPECT_EQ(bh_export_start(&(struct bh_export_options){ .timeout = -1 }), -EINVAL);
    EXPECT_EQ(bh_export_start(&(struct bh_export_options){ .span_slots = 1u << 30 }), -EINVAL);
}

/* ---- many threads, and a stop in the middle --------------------------------------- */

enum { THREADS = 4, EACH = 5000 };

static void *
hand_over(void *arg)
{
    (void)arg;
    for (int i = 0; i < EACH; i++)
        put_spans(1, i % 1000 == 0);
    return NULL;
}

TEST_REAL(export, what_many_threads_hand_over_is_accounted_for_through_a_stop)
{
    pthread_t thread[THREADS];

    start_all(COLLECTOR_OK, (struct bh_export_options){ .interval = 5 * BH_MILLISECOND });
    BH_DEFER(stop_all, NULL);
    for (int i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_create(&thread[i], NULL, hand_over, NULL), 0);
    WAIT_UNTIL(counts(BH_EXPORT_SPANS).accepted > 1000);
    (void)bh_export_stop(5 * BH_SECOND);
    for (int i = 0; i < THREADS; i++)
        pthread_join(thread[i], NULL);
    expect_all_accounted(BH_EXPORT_SPANS, THREADS * EACH);
    EXPECT_EQ(counts(BH_EXPORT_SPANS).exported, collector.items);
}
