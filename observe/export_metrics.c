/*
 * export_metrics.c -- what the exporter says of itself, by OpenTelemetry's names for SDKs.
 *
 * "processed" is what left the hands of the program: to the queue, or lost before it
 * (error.type). "exported" is what left the queue: arrived, or lost on the way.  bulkhead.otlp.dropped
 * has both, for one alert.
 */

#include "exporter.h"

#include <stdio.h>

#include <bulkhead/observe/metrics.h>

static const char *const item[BH_EXPORT_SIGNALS] = { "span", "log", "metric_data_point" };
static const char *const unit[BH_EXPORT_SIGNALS] = { "{span}", "{log_record}", "{data_point}" };

/* [signal][reason]; the last: no error. */
static struct {
    struct bh_series *processed[BH_EXPORT_REASONS + 1], *exported[BH_EXPORT_REASONS + 1];
    struct bh_series *dropped[BH_EXPORT_REASONS];
    struct bh_series *queued, *capacity, *requests, *failures, *open;
} series[BH_EXPORT_SIGNALS];

/* Lost before the queue, or at the end of it. */
static bool
early(int reason)
{
    return reason == BH_EXPORT_QUEUE_FULL || reason == BH_EXPORT_ALREADY_SHUTDOWN;
}

static void
collect(void *arg)
{
    struct bh_export_stats stats;

    (void)arg;
    bh_export_stats_read(&stats);
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++) {
        const struct bh_export_counts *c = &stats.signal[s];
        for (int r = 0; r < BH_EXPORT_REASONS; r++) {
            bh_metric_set(early(r) ? series[s].processed[r] : series[s].exported[r],
                          (double)c->dropped[r]);
            bh_metric_set(series[s].dropped[r], (double)c->dropped[r]);
        }
        bh_metric_set(series[s].processed[BH_EXPORT_REASONS], (double)c->accepted);
        bh_metric_set(series[s].exported[BH_EXPORT_REASONS], (double)c->exported);
        bh_metric_set(series[s].queued, (double)c->queued);
        bh_metric_set(series[s].capacity, (double)c->capacity);
        bh_metric_set(series[s].requests, (double)c->requests);
        bh_metric_set(series[s].failures, (double)c->failures);
        bh_metric_set(series[s].open, c->open);
    }
}

/* The pulled metric of signal s named before.item.after; *rc keeps the first error. */
static struct bh_metric *
make(int s, const char *before, const char *after, struct bh_metric_options o, int *rc)
{
    char              name[BH_METRIC_NAME];
    struct bh_metric *metric = NULL;

    snprintf(name, sizeof name, "%s%s%s", before, item[s], after);
    o.name = name;
    o.pulled = true;
    int failed = bh_metric_new(&o, &metric);
    *rc = *rc == 0 ? failed : *rc;
    return metric;
}

static const char *const no_labels[] = { NULL }, *const error_label[] = { "error.type", NULL };

/* Those of the SDK, by signal. */
static void
make_signal(int s, int *rc)
{
    struct bh_metric_options o = { .kind = BH_COUNTER, .unit = unit[s], .labels = error_label };
    struct bh_metric        *processed = NULL, *exported;

    o.help = "Handed over, by what became of it: empty, queued.";
    if (s < OB_QUEUES)
        processed = make(s, "otel.sdk.processor.", ".processed", o, rc);
    o.help = "Taken for export, by what became of it: empty, arrived.";
    exported = make(s, "otel.sdk.exporter.", ".exported", o, rc);
    for (int r = 0; r <= BH_EXPORT_REASONS; r++) {
        const char *name =
            r < BH_EXPORT_REASONS ? bh_export_reason_name((enum bh_export_reason)r) : "";
        if (s < OB_QUEUES && (r == BH_EXPORT_REASONS || early(r)))
            series[s].processed[r] = bh_metric_with(processed, name);
        if (r == BH_EXPORT_REASONS || !early(r))
            series[s].exported[r] = bh_metric_with(exported, name);
    }
    if (s >= OB_QUEUES)
        return;
    o.kind = BH_UPDOWN;
    o.labels = no_labels;
    o.help = "In the queue.";
    series[s].queued =
        bh_metric_series(make(s, "otel.sdk.processor.", ".queue.size", o, rc), NULL, 0);
    o.help = "Places in the queue.";
    series[s].capacity =
        bh_metric_series(make(s, "otel.sdk.processor.", ".queue.capacity", o, rc), NULL, 0);
}

/* One of ours, a series for each signal. */
static struct bh_metric *
own(struct bh_metric_options o, int *rc)
{
    static const char *const labels[] = { "signal", "reason", NULL }, *const less[] = {
        "signal", NULL
    };
    struct bh_metric *metric = NULL;

    o.labels = o.labels != NULL ? labels : less;
    o.pulled = true;
    int failed = bh_metric_new(&o, &metric);
    *rc = *rc == 0 ? failed : *rc;
    return metric;
}

int
bh_export_metrics(void)
{
    int               rc = 0;
    struct bh_metric *dropped =
        own((struct bh_metric_options){ .name = "bulkhead.otlp.dropped",
                                        .help = "Telemetry lost, by reason.",
                                        .unit = "{item}",
                                        .labels = error_label },
            &rc);
    struct bh_metric *requests =
        own((struct bh_metric_options){ .name = "bulkhead.otlp.requests",
                                        .help = "Requests to the collector.",
                                        .unit = "{request}" },
            &rc);
    struct bh_metric *failures =
        own((struct bh_metric_options){ .name = "bulkhead.otlp.failures",
                                        .help = "Of these, failed.",
                                        .unit = "{request}" },
            &rc);
    struct bh_metric *open =
        own((struct bh_metric_options){ .name = "bulkhead.otlp.circuit.open",
                                        .help = "1: the collector is left alone.",
                                        .kind = BH_GAUGE },
            &rc);

    for (int s = 0; s < BH_EXPORT_SIGNALS; s++) {
        const char *name = bh_export_signal_name((enum bh_export_signal)s);
        make_signal(s, &rc);
        for (int r = 0; r < BH_EXPORT_REASONS; r++)
            series[s].dropped[r] =
                bh_metric_with(dropped, name, bh_export_reason_name((enum bh_export_reason)r));
        series[s].requests = bh_metric_with(requests, name);
        series[s].failures = bh_metric_with(failures, name);
        series[s].open = bh_metric_with(open, name);
    }
    int failed = bh_metric_collect(collect, NULL);
    return rc == 0 ? failed : rc;
}
