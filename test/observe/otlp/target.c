/*
 * target.c -- exports every shape there is to the collector that the environment names.
 *
 *     target [COUNT]     also COUNT plain spans
 *     target context     exports nothing, but can be read from outside, until its input ends
 *
 * Prints "signal accepted exported lost" of each signal.
 */

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/export.h>
#include <bulkhead/observe/metrics.h>
#include <bulkhead/observe/record.h>
#include <bulkhead/observe/resource.h>

static void
text(struct bh_span_record *r, enum bh_item_role role, const char *key, const char *value)
{
    (void)bh_item_put(r->items, sizeof r->items, &r->used,
                      &(struct bh_item){ .role = role,
                                         .key = key,
                                         .key_size = strlen(key),
                                         .value = value,
                                         .value_size = strlen(value) });
}

static void
number(struct bh_span_record *r, enum bh_item_role role, enum bh_item_type type,
       const char *key, int64_t value, double real)
{
    (void)bh_item_put(r->items, sizeof r->items, &r->used,
                      &(struct bh_item){ .role = role,
                                         .type = type,
                                         .key = key,
                                         .key_size = strlen(key),
                                         .number = value,
                                         .real = real });
}

static struct bh_span_record
span(const char *name)
{
    struct bh_span_record r = {
        .start_ns = 1732528193123456789,
        .end_ns = 1732528193223456789,
        .trace_id = { 0x4b, 0xf9, 0x2f, 0x35, 0x77, 0xb3, 0x4d, 0xa6, 0xa3, 0xce, 0x92, 0x9d,
                      0x0e, 0x0e, 0x47, 0x36 },
        .span_id = { 0x00, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 0x02, 0xb7 },
        .flags = BH_TRACE_SAMPLED | BH_TRACE_REMOTE_KNOWN | BH_TRACE_REMOTE,
        .kind = BH_SPAN_SERVER,
    };

    text(&r, BH_ITEM_NAME, "", name);
    return r;
}

static void
full_span(void)
{
    struct bh_span_record r = span("GET /old");
    char                  link[24 + 4];

    memcpy(r.parent_id, "parent!!", 8);
    r.status = BH_SPAN_ERROR;
    r.urgent = 1;
    r.lost_attributes = 3;
    r.lost_events = 200;
    r.lost_links = 1;
    text(&r, BH_ITEM_STATE, "", "bh=aws.eu-west-1;2,other=x");
    text(&r, BH_ITEM_ATTRIBUTE, "http.route", "/users/{id}");
    text(&r, BH_ITEM_ATTRIBUTE, "empty", "");
    text(&r, BH_ITEM_ATTRIBUTE, "bad", "caf\xe9 \xff");
    text(&r, BH_ITEM_ATTRIBUTE, "good", "caf\xc3\xa9 \xe2\x82\xac");
    text(&r, BH_ITEM_ATTRIBUTE, "error.type", "panic");
    number(&r, BH_ITEM_ATTRIBUTE, BH_ITEM_INT, "negative", -42, 0);
    number(&r, BH_ITEM_ATTRIBUTE, BH_ITEM_INT, "zero", 0, 0);
    number(&r, BH_ITEM_ATTRIBUTE, BH_ITEM_INT, "large", INT64_MAX, 0);
    number(&r, BH_ITEM_ATTRIBUTE, BH_ITEM_DOUBLE, "double", 0, 0.1);
    number(&r, BH_ITEM_ATTRIBUTE, BH_ITEM_DOUBLE, "infinite", 0, INFINITY);
    number(&r, BH_ITEM_ATTRIBUTE, BH_ITEM_BOOL, "yes", 1, 0);
    number(&r, BH_ITEM_ATTRIBUTE, BH_ITEM_BOOL, "no", 0, 0);
    number(&r, BH_ITEM_EVENT, BH_ITEM_TEXT, "cache miss", 1732528193133456789, 0);
    text(&r, BH_ITEM_SUB_ATTRIBUTE, "key", "user:7");
    text(&r, BH_ITEM_SUB_ATTRIBUTE, "tier", "2");
    number(&r, BH_ITEM_EVENT, BH_ITEM_TEXT, "second", 1732528193143456789, 0);
    memcpy(link, "linked trace id.linkspanv=w", sizeof link);
    (void)bh_item_put(r.items, sizeof r.items, &r.used,
                      &(struct bh_item){ .role = BH_ITEM_LINK,
                                         .key = "",
                                         .value = link,
                                         .value_size = sizeof link - 1,
                                         .number = BH_TRACE_SAMPLED });
    text(&r, BH_ITEM_SUB_ATTRIBUTE, "why", "untrusted");
    text(&r, BH_ITEM_STATUS_TEXT, "", "index out of range [5] with length 3");
    text(&r, BH_ITEM_NAME, "", "GET /users/{id}");
    bh_export_span(&r);
}

static void
logs(void)
{
    _Alignas(8) static char memory[BH_LOG_RECORD_URGENT_MAX];
    struct bh_log_record   *r = bh_log_record_init(memory, sizeof memory, BH_SEVERITY_INFO);
    static const char       stack[] =
        "goroutine 42 [running]:\nmain.handler()\n\tserver.c:120 +0x1d\n";

    bh_log_record_text(r, BH_ITEM_BODY, "", "order placed", 12);
    bh_log_record_text(r, BH_ITEM_ATTRIBUTE, "id", "o-17", 4);
    bh_log_record_put(r, &(struct bh_item){ .role = BH_ITEM_ATTRIBUTE,
                                            .type = BH_ITEM_INT,
                                            .key = "quantity",
                                            .key_size = 8,
                                            .number = 3 });
    bh_export_log(r);

    r = bh_log_record_init(memory, sizeof memory, BH_SEVERITY_ERROR);
    memset(r->trace_id, 0xab, sizeof r->trace_id);
    memset(r->span_id, 0xcd, sizeof r->span_id);
    r->flags = BH_TRACE_SAMPLED;
    r->urgent = 1;
    r->lost_attributes = 1;
    bh_log_record_text(r, BH_ITEM_NAME, "", "exception", 9);
    bh_log_record_text(r, BH_ITEM_ATTRIBUTE, "exception.type", "runtime.Error", 13);
    bh_log_record_text(r, BH_ITEM_ATTRIBUTE, "exception.message", "index out of range", 18);
    bh_log_record_text(r, BH_ITEM_ATTRIBUTE, "exception.stacktrace", stack, sizeof stack - 1);
    bh_export_log(r);

    r = bh_log_record_init(memory, sizeof memory, 0); /* as bare as can be */
    bh_export_log(r);
}

static void
need(int rc)
{
    if (rc < 0) {
        fprintf(stderr, "target: %d: %s\n", rc, bh_error_note());
        exit(1);
    }
}

static void
metrics(void)
{
    static const char *const labels[] = { "http.route", "kind", NULL };
    static const double      bounds[] = { 0.005, 0.1, 1 };
    struct bh_series        *counter, *updown, *gauge, *exponential;
    struct bh_metric        *labelled, *few;

    need(bh_metric_counter("test.counter", "A counter.", &counter));
    need(bh_metric_updown("test.updown", "Goes both ways.", &updown));
    need(bh_metric_gauge("test.gauge", "A reading.", &gauge));
    need(bh_metric_histogram("test.exponential", "Sizes.", "By", &exponential));
    need(bh_metric_new(&(struct bh_metric_options){ .name = "test.explicit",
                                                    .help = "Durations.",
                                                    .unit = "s",
                                                    .kind = BH_HISTOGRAM,
                                                    .labels = labels,
                                                    .bounds = bounds,
                                                    .bound_count = 3 },
                       &labelled));
    need(bh_metric_new(&(struct bh_metric_options){ .name = "test.few",
                                                    .help = "Overflows.",
                                                    .kind = BH_COUNTER,
                                                    .labels = &labels[1],
                                                    .max_series = 1 },
                       &few));
    bh_metric_add(counter, 5);
    bh_metric_add(updown, -7);
    bh_metric_set(gauge, 36.6);
    for (int i = 0; i < 100; i++)
        bh_metric_record(exponential, i * 0.25);
    bh_metric_record(bh_metric_with(labelled, "/a", "x"), 0.05);
    bh_metric_record(bh_metric_with(labelled, "/a", "x"), 5);
    bh_metric_record(bh_metric_with(labelled, "/b", ""), 0.001);
    bh_metric_add(bh_metric_with(few, "first"), 1);
    bh_metric_add(bh_metric_with(few, "second"), 2);
    bh_metric_add(bh_metric_with(few, "third"), 3);
}

static void
run(void *arg)
{
    int                    count = *(int *)arg;
    struct bh_export_stats stats;

    need(bh_export_start(&(struct bh_export_options){ .interval = 3600 * BH_SECOND }));
    metrics();
    full_span();
    logs();
    for (int i = 0; i < count; i++) {
        struct bh_span_record r = span("plain");
        number(&r, BH_ITEM_ATTRIBUTE, BH_ITEM_INT, "i", i, 0);
        bh_export_span(&r);
        if (i % 512 == 511)
            need(bh_export_flush(10 * BH_SECOND));
    }
    int rc = bh_export_stop(10 * BH_SECOND);
    bh_export_stats_read(&stats);
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++) {
        const struct bh_export_counts *c = &stats.signal[s];
        uint64_t                       lost = 0;
        for (int i = 0; i < BH_EXPORT_REASONS; i++)
            lost += c->dropped[i];
        printf("%s %llu %llu %llu\n", bh_export_signal_name((enum bh_export_signal)s),
               (unsigned long long)c->accepted, (unsigned long long)c->exported,
               (unsigned long long)lost);
    }
    printf("stop %d\n", rc);
}

static void
await_end(void *arg)
{
    char byte;

    while (read(STDIN_FILENO, &byte, 1) > 0)
        continue;
    *(bool *)arg = true;
}

/* One goroutine that works for a trace, on a thread that is stuck in a system call. */
static void
show_context(void *args)
{
    struct bh_tag tag = { .sampled = 1, .random = 1 };
    bool          ended = false;

    (void)args;
    memset(tag.trace_id, 0xab, sizeof tag.trace_id);
    memset(tag.span_id, 0xcd, sizeof tag.span_id);
    (void)prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY, 0, 0, 0);
    bh_tag_set(&tag);
    printf("published %d\n", bh_resource_publish());
    (void)fflush(stdout);
    bh_blocking(await_end, &ended);
}

int
main(int argc, char **argv)
{
    if (argc > 1 && strcmp(argv[1], "context") == 0)
        return bh_main(show_context, NULL);
    int count = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0;

    return bh_main(run, &count);
}
