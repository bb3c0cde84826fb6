#ifndef BULKHEAD_OBSERVE_EXPORT_H
#define BULKHEAD_OBSERVE_EXPORT_H

/*
 * export.h -- spans, logs and metrics leave for a collector: OTLP over HTTP, protobuf.
 *
 *     int rc = bh_export_start(&(struct bh_export_options){ .endpoint = "http://127.0.0.1:4318" });
 *     ...
 *     bh_export_flush(5 * BH_SECOND);
 *     bh_export_stop(5 * BH_SECOND);
 *
 * Ended spans and log records are copied into bounded queues, one per signal, and from there
 * threads of the exporter's own send them.  Whatever the collector does (slow, full, gone,
 * hanging), those who hand something over neither wait nor fail: what does not fit is
 * dropped and counted by reason.  Records of panics have queues of their own that ordinary
 * traffic cannot fill.
 *
 * One exporter a process.  Environment variables of OpenTelemetry count where an option is
 * zero: OTEL_EXPORTER_OTLP_[TRACES_|LOGS_|METRICS_]{ENDPOINT, HEADERS, TIMEOUT, COMPRESSION,
 * PROTOCOL, CERTIFICATE, CLIENT_CERTIFICATE, CLIENT_KEY}, OTEL_{TRACES,LOGS,METRICS}_EXPORTER,
 * OTEL_SDK_DISABLED, OTEL_METRIC_EXPORT_INTERVAL, OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bh_span_record;
struct bh_log_record;

enum bh_export_signal { BH_EXPORT_SPANS, BH_EXPORT_LOGS, BH_EXPORT_METRICS, BH_EXPORT_SIGNALS };

/* Why something did not arrive.  bh_export_reason_name has the value of "error.type". */
enum bh_export_reason {
    BH_EXPORT_QUEUE_FULL,       /* the queue of its signal was */
    BH_EXPORT_ALREADY_SHUTDOWN, /* handed over, or still queued, at or after bh_export_stop */
    BH_EXPORT_TOO_LARGE,        /* alone longer than a request may be */
    BH_EXPORT_TIMEOUT,          /* its time ended without an answer */
    BH_EXPORT_CONNECTION,       /* no connection, or it broke, until the time ended */
    BH_EXPORT_UNAVAILABLE,      /* 429, 502, 503 or 504 until the time ended */
    BH_EXPORT_REFUSED,          /* another status: sent again it would fare no better */
    BH_EXPORT_REJECTED,         /* by name, in a partial success */
    BH_EXPORT_REASONS
};

/* Zero means: the environment, else the value beside the field. */
struct bh_export_options {
    const char *endpoint;         /* "http://localhost:4318"; /v1/traces and so on are added */
    const char *url[BH_EXPORT_SIGNALS]; /* of one signal, taken as it is */
    bool        off[BH_EXPORT_SIGNALS]; /* this signal is neither queued nor sent */
    const char *headers;          /* "name=value,name=value", values percent-encoded */
    const char *certificate;      /* PEM file of authorities for https; the system's */
    const char *client_certificate, *client_key; /* PEM files, or none */
    int64_t     timeout;          /* ns for one request and all its retries: 10 s */
    int64_t     interval;         /* ns, the longest a span or log waits to be sent: 1 s */
    int64_t     metric_interval;  /* ns between two collections: 60 s */
    unsigned    batch;            /* spans or logs in a request; so many are sent at once: 512 */
    unsigned    span_slots;       /* queue of spans, a power of two: 4096 */
    unsigned    log_slots;        /* queue of logs, a power of two: 2048 */
    int         gzip;             /* 1: always, -1: never, 0: unless the collector is on this machine */
    bool        exception_events; /* exceptions are log records; also as events of their spans */
    bool        quiet;            /* no line on descriptor 2 about drops, at most one in 10 s */
};

/*
 * bh_export_start -- begin to send.
 *
 * Returns: 0; -EALREADY, also while it is being stopped; -EINVAL (an option or environment variable
 *          makes no sense: the note says which); -EPROTONOSUPPORT (a protocol other than
 *          http/protobuf); -ENOMEM or -EAGAIN (no memory, no thread); errors of reading
 *          certificates.  0 too where OTEL_SDK_DISABLED says so: then nothing is sent.
 * Owns:    nothing of *options (NULL: all defaults) is kept.
 */
int bh_export_start(const struct bh_export_options *options);

/*
 * bh_export_flush -- send all that was handed over before.
 * Returns: 0, all of it has left the queues, arrived or counted as dropped; -ETIMEDOUT, timeout (ns)
 *          came first; -EHOSTUNREACH, the collector is known not to answer and still does not;
 *          -ESHUTDOWN, not started.
 * Blocks:  the goroutine, or the thread where there is none.
 */
int bh_export_flush(int64_t timeout);

/*
 * bh_export_stop -- flush, then end the exporter; what is left is counted as already_shutdown.
 * Returns: as bh_export_flush; whatever it is, the exporter has stopped.
 * Blocks:  likewise; at most a second longer.
 */
int bh_export_stop(int64_t timeout);

/*
 * bh_export_span, bh_export_log -- hand a record over; it is copied.  A no-op before the start.
 *
 * Does not block, allocate, lock or panic: may be called from a hook of a panic.
 * Threads: any.
 */
void bh_export_span(const struct bh_span_record *r);
void bh_export_log(const struct bh_log_record *r);

/* What became of what was handed over, since the process began. */
struct bh_export_stats {
    struct bh_export_counts {
        uint64_t accepted; /* into a queue; metrics: data points collected */
        uint64_t exported; /* and acknowledged by the collector */
        uint64_t dropped[BH_EXPORT_REASONS];
        uint64_t queued;   /* now */
        uint64_t capacity; /* of the queue, reserved slots included */
        uint64_t requests; /* attempts */
        uint64_t failures; /* attempts that failed, whether tried again or not */
        uint64_t bytes;    /* of requests, as sent */
        int64_t  request_ns; /* spent in attempts */
        bool     open;     /* the circuit: the collector failed too often, and is left alone */
    } signal[BH_EXPORT_SIGNALS];
};
/* bh_export_stats_read -- Threads: any. */
void bh_export_stats_read(struct bh_export_stats *stats);

/*
 * bh_export_metrics -- register these as metrics: otel.sdk.processor.* and otel.sdk.exporter.* by
 * OpenTelemetry's conventions, and bulkhead.otlp.*.  Once.
 * Returns: as bh_metric_new.
 */
int bh_export_metrics(void);

const char *bh_export_signal_name(enum bh_export_signal signal); /* "spans", "logs", "metrics" */
const char *bh_export_reason_name(enum bh_export_reason reason); /* "queue_full" */

#endif
