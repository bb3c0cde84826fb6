#ifndef BULKHEAD_OBSERVE_METRICS_H
#define BULKHEAD_OBSERVE_METRICS_H

/*
 * metrics.h -- counters, gauges and histograms, and how to read them all.
 *
 *     static struct bh_series *orders;
 *
 *     int rc = bh_metric_counter("shop.orders", "Orders placed.", &orders);
 *     ...
 *     bh_metric_add(orders, 1);
 *
 * With labels, a metric has a series for each combination of their values:
 *
 *     static const char *const labels[] = { "kind", NULL };
 *     struct bh_metric *m;
 *     int rc = bh_metric_new(&(struct bh_metric_options){ .name = "shop.order.size", .unit = "By",
 *                  .help = "Size of orders.", .kind = BH_HISTOGRAM, .labels = labels }, &m);
 *     ...
 *     bh_metric_record(bh_metric_with(m, "express"), 1024);
 *
 * Nothing here panics, blocks or ends the process, whatever it is given: what can't be done
 * is an error value, what can't be counted is counted as lost.  A NULL series may be
 * updated: nothing happens.  Metrics and series live as long as the process.
 *
 * Names are OpenTelemetry's ("http.server.request.duration", unit "s"); Prometheus sees them
 * by its rules ("http_server_request_duration_seconds").  Any thread may call anything.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

struct bh_metric; /* a name and its series */
struct bh_series; /* one number, or one histogram */

enum bh_metric_kind {
    BH_COUNTER,   /* a whole number that only grows */
    BH_UPDOWN,    /* a whole number, the sum of what is added: requests in flight */
    BH_GAUGE,     /* a reading that is set: a temperature */
    BH_HISTOGRAM, /* how many of which size */
};

enum {
    BH_METRIC_LABELS = 12,   /* of a metric, at most */
    BH_METRIC_NAME = 128,    /* bytes of a name, at most */
    BH_METRIC_VALUE = 256,   /* bytes of a label's value; the rest is cut off */
    BH_METRIC_SERIES = 1000, /* of a metric, unless it says otherwise */
    BH_METRIC_BOUNDS = 64,   /* of a histogram that names its own, at most */
    BH_METRIC_BUCKETS = 500, /* of any, at most */
};

/* Strings and arrays are copied.  Zero means the default beside the field. */
struct bh_metric_options {
    const char         *name; /* letter first, then letters, digits and "._-/" */
    const char         *help; /* a sentence */
    const char         *unit; /* of UCUM: "s", "By", "1", "{request}"; NULL: none */
    enum bh_metric_kind kind;
    const char *const  *labels;     /* names, NULL at the end; NULL: none */
    unsigned            max_series; /* BH_METRIC_SERIES; further ones are one overflow series */
    /*
     * Buckets of a histogram.  Without bounds they are exponential, eight to a doubling (an
     * error under 4.5 %), from least to most, both rounded outward to powers of two.
     */
    const double *bounds; /* ascending; a bucket holds values <= its bound */
    int           bound_count;
    double        least, most; /* 1e-6 and 64 */
    /*
     * Keep an example of a traced request for each bucket, or for the counter: its trace id
     * and value.  Always so for a histogram.
     */
    bool exemplars;
    bool
        pulled; /* not a histogram; its value is told by bh_metric_set, see bh_metric_collect */
};

/*
 * bh_metric_new -- register a metric, or find the one of that name.
 *
 * Returns: 0; -EEXIST if the name, or one it has in Prometheus, is taken by a different metric
 *          (other kind, labels, unit or buckets), -EINVAL for a bad name, label, unit or
 *          bound, -ENOSPC for too many metrics or labels, -ENOMEM; noted.
 */
int bh_metric_new(const struct bh_metric_options *options, struct bh_metric **metric);

/* The same for a metric without labels: its only series. */
int bh_metric_counter(const char *name, const char *help, struct bh_series **series);
int bh_metric_updown(const char *name, const char *help, struct bh_series **series);
int bh_metric_gauge(const char *name, const char *help, struct bh_series **series);
int bh_metric_histogram(const char *name, const char *help, const char *unit,
                        struct bh_series **series);

/*
 * bh_metric_with(metric, value, ...) -- the series with these values, in the labels' order.
 *
 * bh_metric_series: values from an array.  Worth keeping: finding it costs some 50 ns.
 * Returns: the overflow series where there would be too many; NULL for a wrong number of
 *          values, a NULL among them, or no memory.
 */
#define bh_metric_with(metric, ...)                                                            \
    bh_metric_series((metric), (const char *const[]){ __VA_ARGS__ },                           \
                     sizeof((const char *const[]){ __VA_ARGS__ }) / sizeof(char *))
struct bh_series *bh_metric_series(struct bh_metric *metric, const char *const *values,
                                   size_t count);

/* bh_metric_add -- to a counter (n >= 0) or an updown. */
void bh_metric_add(struct bh_series *series, int64_t n);
/* bh_metric_set -- a gauge's reading, or a pulled metric's value; a counter never goes back. */
void bh_metric_set(struct bh_series *series, double value);
/* bh_metric_record -- a value of a histogram.  NaN is lost. */
void bh_metric_record(struct bh_series *series, double value);

/*
 * bh_metric_collect -- have fn(arg) called before metrics are read, to set pulled ones.
 *
 * It runs on a goroutine; two readers at a time call it twice at a time.  A panic in it is
 * contained and counted.
 * Returns: 0, -EINVAL without fn, -ENOSPC after 32 of them.
 */
int bh_metric_collect(void (*fn)(void *arg), void *arg);

/* ---- reading --------------------------------------------------------------------- */

struct bh_metric_info {
    const char *name;       /* "http.server.request.duration" */
    const char *prometheus; /* "http_server_request_duration_seconds", without "_total" */
    const char *help;
    const char *unit;            /* of UCUM; "" none */
    const char *prometheus_unit; /* "seconds"; "" none */
    enum bh_metric_kind kind;
    const char *const *labels, *const *prometheus_labels;
    int           label_count;
    int           bound_count; /* of a histogram; it has one bucket more */
    const double *bounds;
    /*
     * Exponential: bounds[i] is 2^((offset + i) / 2^scale).  To OpenTelemetry the first
     * bucket is the one of zero, up to bounds[0], and `offset` that of the others.
     */
    bool exponential;
    int  scale, offset;
};

struct bh_exemplar {
    unsigned char trace_id[16], span_id[8];
    double        value;
    int64_t       time_ns; /* Unix time; 0: no exemplar */
};

struct bh_metric_point {
    const char *const *values;   /* of the labels; NULL for the overflow series */
    int64_t            start_ns; /* Unix time since when it counts */
    double             value;    /* but of a histogram */
    bool               whole;    /* it is `integer`, exactly */
    int64_t            integer;
    uint64_t           count; /* of a histogram: the sum of its buckets */
    double             sum;
    const uint64_t    *buckets; /* bound_count + 1, not cumulative; [i]: values <= bounds[i] */
    const struct bh_exemplar *exemplar;       /* of a counter, one; of a histogram ... */
    int                       exemplar_count; /* ... so many, time_ns 0 where there is none */
};

/*
 * bh_metric_each -- read everything: fn for each series, those of a metric after one another.
 *
 * Series being updated meanwhile are read at some moment during the call.  fn may do
 * anything; it stops the reading by false.  What it is given is good until it
 * returns, *info for ever.
 * Returns: 0; -ECANCELED if fn stopped it; -ENOMEM, noted.
 */
typedef bool bh_metric_visit_fn(const struct bh_metric_info  *info,
                                const struct bh_metric_point *point, void *arg);
int          bh_metric_each(bh_metric_visit_fn *fn, void *arg);

/* What the registry says of itself; also metrics, "bulkhead.metrics...". */
struct bh_metric_stats {
    uint64_t metrics, series;
    uint64_t overflowed; /* times the overflow series was given out */
    uint64_t misused;    /* updates of another kind, negative, NaN; wrong numbers of labels */
    uint64_t lost;       /* updates for want of memory */
    uint64_t collect_panics;
};
void bh_metric_stats(struct bh_metric_stats *stats);

/* ---- what is measured for you ---------------------------------------------------- */

/*
 * bh_http_metrics -- observer: rate, errors and duration of each route, requests in flight,
 * sizes; by OpenTelemetry's conventions for HTTP servers.  Inside bh_http_trace, its
 * exemplars are the traces of requests.  arg: unused.
 */
bh_http_fn bh_http_metrics;

/* bh_runtime_metrics -- register what the runtime, and the registry, count.  Returns: as bh_metric_new. */
int bh_runtime_metrics(void);

/*
 * bh_panic_metrics -- count a panic by kind and outcome, when that is known; for the hook of
 * panics (hooks.h).  Does not block, allocate or lock.
 */
struct bh_panic_event;
void bh_panic_metrics(const struct bh_panic_event *e);

/*
 * bh_http_metrics_page -- handler: all metrics, as text for Prometheus, or OpenMetrics for who
 * accepts it; gzipped for who accepts that.  arg: unused.
 *
 *     bh_http_handle(s, "GET /metrics", bh_http_metrics_page, NULL);
 */
bh_http_fn bh_http_metrics_page;

/*
 * bh_metric_text -- the same text.  Owns: the caller frees *text.
 * Returns: 0 or -ENOMEM.
 */
int bh_metric_text(bool openmetrics, char **text, size_t *size);

#endif
