#ifndef BULKHEAD_OBSERVE_OBSERVE_H
#define BULKHEAD_OBSERVE_OBSERVE_H

/*
 * observe.h -- all of the observe layer, switched on with one call.
 *
 *     int main(void)
 *     {
 *         if (bh_observe_start(&(struct bh_observe_options){ .service = "shop" }) < 0)
 *             ...
 *         bh_main(app, NULL);
 *         bh_observe_stop(5 * BH_SECOND);
 *     }
 *
 *     static void app(void *args)
 *     {
 *         struct bh_http_server *s = bh_http_server_new(NULL);
 *
 *         bh_observe_requests(s, NULL);            outermost
 *         bh_http_use(s, bh_http_recover, NULL);
 *         bh_observe_pages(s, NULL);               a route, like others
 *         ...
 *     }
 *
 * Every panic is then captured, counted, logged, reported as a bundle and shown at
 * /debug/bulkhead; every request has a span, metrics and a line in the log; profiles and the
 * flight recorder run all the time; profilers of the whole machine see which service this is and
 * which trace each thread works for.  The parts have headers of their own, and work alone.
 */

#include <stdbool.h>
#include <stdint.h>

#include <bulkhead/http/server.h>
#include <bulkhead/observe/http_trace.h>
#include <bulkhead/observe/log.h>
#include <bulkhead/observe/page.h>

/* Zero means the value beside the field. */
struct bh_observe_options {
    const char *service;   /* its name: OTEL_SERVICE_NAME, or the program's */
    const char *version;   /* of the service; none */
    const char *reports;   /* directory of panic reports, made if need be; NULL: lines only */
    bool        monitor;   /* a process of its own reports crashes; needs reports */
    const char *collector; /* OTLP endpoint, "http://127.0.0.1:4318"; NULL: as
                                        OTEL_EXPORTER_OTLP_ENDPOINT says; without either nothing is sent */
    struct bh_log_options log;    /* the log; log.exported is set if there is a collector */
    bool                  no_log; /* somebody else logs */
    const struct bh_sampler
        *sampler;   /* which traces are recorded: as the environment says; else all */
    bool no_heap;   /* leave the heap profile off */
    bool no_flight; /* leave the flight recorder off */
};

/*
 * bh_observe_start -- before bh_main, while the process has one thread.
 *
 * Sets the hooks of hooks.h; an application's own go into bh_hook_panic.  Memory: 4 MiB for the
 * CPU profile, about 7 MiB for queues and rings, and 256 KiB for each processor.
 * Returns: 0; or the error of the first part that could not start, with a note; the others run.  A
 *          directory of reports that cannot be written is one: panics are lines then.
 */
int bh_observe_start(const struct bh_observe_options *options);

/*
 * bh_observe_stop -- after bh_main: finish reports, flush, end the threads.  timeout: ns for all of it.
 * Returns: 0, or the first error: -ETIMEDOUT, the collector's.
 */
int bh_observe_stop(int64_t timeout);

struct bh_observe_server_options {
    struct bh_http_trace_options trace;       /* trust nobody's traceparent */
    struct bh_http_debug_options debug;       /* who may see /debug and /metrics: this machine */
    bool                         no_requests; /* no log line for each request */
};

/*
 * bh_observe_requests -- observers for spans, reports, metrics and log lines of requests; before
 * all others.  options: NULL for the defaults; lives as long as the server.
 */
void bh_observe_requests(struct bh_http_server                  *s,
                         const struct bh_observe_server_options *options);

/*
 * bh_observe_pages -- the routes /debug/bulkhead, /debug/pprof/, /debug/log (the level) and
 * /metrics, guarded (page.h); after bh_http_recover.
 */
void bh_observe_pages(struct bh_http_server                  *s,
                      const struct bh_observe_server_options *options);

#endif
