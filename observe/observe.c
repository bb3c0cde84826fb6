/*
 * observe.c -- puts the parts of the layer together; knows all of them, none knows it.
 *
 * Order matters twice.  At start: what others report to comes first (exporter, log), then what
 * reports; the monitor is forked while there is one thread.  In a server: the span is
 * outermost, so that whatever is inside carries its trace; the log line is innermost, so that
 * it tells what the others did not change any more.
 */

#include <bulkhead/observe/observe.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/go/contention.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/flight.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/export.h>
#include <bulkhead/observe/heap.h>
#include <bulkhead/observe/metrics.h>
#include <bulkhead/observe/profile.h>
#include <bulkhead/observe/report.h>
#include <bulkhead/observe/resource.h>
#include <bulkhead/observe/timeline.h>
#include <bulkhead/observe/trace.h>

#include "named.h"
#include "report.h"

/* Waiting is recorded about once in so long; of unlocks with waiters, one in so many. */
enum { BLOCK_RATE_NS = 1000000, MUTEX_FRACTION = 100 };

static struct {
    bool log, reports, exporter; /* running */
    int  error;                  /* the first */
    char why[256];               /* its note */
} state;

/* ---- panics ---------------------------------------------------------------------- */

static void
on_panic(const struct bh_panic_event *e)
{
    if (e->step == BH_PANIC_RAISED && bh_flight_on())
        bh_flight_log(0, "panic", e->panic->text);
    bh_report_event(e);
    bh_panic_metrics(e);
    bh_debug_event(e);
}

/* The line is the reporter's thread's: of which trace is one of its fields. */
static void
log_panic(const struct bh_report_summary *s, void *arg)
{
    char trace[33];

    (void)arg;
    ob_hex(s->trace_id, trace);
    bh_log(BH_ERROR, "panic", BH_STR("message", s->message), BH_STR("type", s->type),
           BH_STR("outcome", s->outcome), BH_STR("report", s->id),
           BH_STR("fingerprint", s->fingerprint), BH_STR("http_route", s->route),
           BH_STR("of_trace", trace), BH_UINT("raised_on", s->goroutine),
           BH_BOOL("suppressed", s->suppressed));
}

static uint64_t
lines_dropped(void *arg)
{
    struct bh_log_stats stats;
    uint64_t            sum = 0;

    (void)arg;
    bh_log_stats(&stats);
    for (int i = 0; i < BH_LOG_DROPS; i++)
        sum += stats.dropped[i];
    return sum;
}

static uint64_t
exports_dropped(void *arg)
{
    struct bh_export_stats stats;
    uint64_t               sum = 0;

    (void)arg;
    bh_export_stats_read(&stats);
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++)
        for (int i = 0; i < BH_EXPORT_REASONS; i++)
            sum += stats.signal[s].dropped[i];
    return sum;
}

/* ---- the process ----------------------------------------------------------------- */

/* Of a part that leaves a note when it fails.  about: what the note does not say. */
static void
note(const char *about, int rc)
{
    if (rc >= 0 || state.error != 0)
        return;
    state.error = rc;
    (void)snprintf(state.why, sizeof state.why, "%s%s", about, bh_error_note());
}

/* Of one that does not. */
static void
note_of(const char *part, int rc)
{
    if (rc < 0 && rc != -EEXIST) /* what an earlier start has registered */
        note("", bh_fail(rc, "%s: %s", part, bh_error_text(rc)));
}

static void
start_exporter(const struct bh_observe_options *o)
{
    bool wanted = o->collector != NULL || getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != NULL;
    int  rc;

    if (!wanted)
        return;
    rc = bh_export_start(&(struct bh_export_options){ .endpoint = o->collector });
    note("collector: ", rc);
    state.exporter = rc == 0;
    if (state.exporter)
        note_of("panics to the collector", bh_report_export());
    note("", bh_export_metrics());
}

static void
start_log(const struct bh_observe_options *o)
{
    struct bh_log_options log = o->log;

    log.exported = log.exported || state.exporter;
    if (!o->no_log) {
        int rc = bh_log_start(&log);

        note("", rc);
        state.log = rc == 0;
    }
}

static void
start_reports(const struct bh_observe_options *o)
{
    struct bh_report_options r = { .directory = o->reports,
                                   .service = o->service,
                                   .version = o->version,
                                   .monitor = o->monitor && o->reports != NULL };
    int                      rc;

    if (!o->no_log)
        r.fd = -1; /* the log has its line */
    rc = bh_report_start(&r);
    note_of("panic reports", rc);
    state.reports = rc == 0;
    if (state.reports && o->reports != NULL)
        note_of(o->reports, ob_bundle_place(o->reports));
    note_of("profiles of reports", bh_report_profiles());
    if (!o->no_flight)
        note_of("timelines of reports", bh_report_timeline());
    note_of("numbers", bh_report_add_number("log_lines_dropped", lines_dropped, NULL));
    note_of("numbers", bh_report_add_number("otlp_dropped", exports_dropped, NULL));
    if (!o->no_log)
        note_of("panics to the log", bh_report_listen(log_panic, NULL));
}

static void
start_profiles(const struct bh_observe_options *o)
{
    note_of("block profile", bh_block_profile_rate(BLOCK_RATE_NS));
    note_of("mutex profile", bh_mutex_profile_fraction(MUTEX_FRACTION));
    if (!o->no_heap) {
        int rc = bh_heap_profile_start(0);

        note_of("heap profile", rc == -ENOTSUP ? 0 : rc); /* with a sanitizer: the page says so */
    }
    if (!o->no_flight)
        note_of("flight recorder", bh_flight_start(0));
    note_of("timeline", bh_timeline_register());
    note_of("cpu profile", bh_cpu_start());
}

int
bh_observe_start(const struct bh_observe_options *options)
{
    static const struct bh_observe_options none;
    const struct bh_observe_options       *o = options != NULL ? options : &none;

    state.error = 0;
    if (o->service != NULL)
        note("", bh_resource_set("service.name", o->service));
    if (o->version != NULL)
        note("", bh_resource_set("service.version", o->version));
    bh_set_hooks(&(struct bh_hooks){ .panic = on_panic, .crash = bh_log_crash });
    start_reports(o); /* first: the monitor is forked from a process with one thread */
    note_of("resource", bh_resource_publish());
    start_exporter(o);
    start_log(o);
    note("", bh_runtime_metrics());
    note("", bh_trace_set_sampler(o->sampler));
    start_profiles(o);
    return state.error < 0 ? bh_fail(state.error, "%s", state.why) : 0;
}

static int64_t
left_of(int64_t until)
{
    int64_t left = until - bh_now();

    return left > 0 ? left : 0;
}

int
bh_observe_stop(int64_t timeout)
{
    int64_t until = bh_now() + timeout;
    int     error = 0, rc;

    if (state.reports)
        bh_report_stop();
    if (state.log && (rc = bh_log_stop(left_of(until))) < 0)
        error = rc;
    if (state.exporter && (rc = bh_export_stop(left_of(until))) < 0 && error == 0)
        error = rc;
    bh_flight_stop();
    bh_cpu_stop();
    bh_heap_profile_stop();
    (void)bh_block_profile_rate(0);
    (void)bh_mutex_profile_fraction(0);
    state.reports = state.log = state.exporter = false;
    return error;
}

/* ---- a server -------------------------------------------------------------------- */

static void
end_task(struct bh_http_call *c)
{
    bh_flight_task_end(c->id);
}

/* The request as a task of the timeline, with the trace it belongs to. */
static int
mark_request(struct bh_http_call *c, void *arg)
{
    struct bh_tag tag;
    char          id[33];

    (void)arg;
    if (!bh_flight_on())
        return bh_http_next(c);
    bh_tag_get(&tag);
    ob_hex(tag.trace_id, id);
    bh_flight_task(c->id, *c->route != '\0' ? c->route : c->method);
    BH_DEFER(end_task, c);
    bh_flight_log(c->id, "trace_id", id);
    return bh_http_next(c);
}

static const struct bh_observe_server_options no_options;

void
bh_observe_requests(struct bh_http_server *s, const struct bh_observe_server_options *options)
{
    const struct bh_observe_server_options *o = options != NULL ? options : &no_options;

    bh_http_observe(s, bh_http_trace, (void *)(uintptr_t)&o->trace);
    bh_http_observe(s, mark_request, NULL);
    bh_http_observe(s, bh_http_report, NULL);
    bh_http_observe(s, bh_http_metrics, NULL);
    if (!o->no_requests)
        bh_http_observe(s, bh_http_log_requests, NULL);
}

void
bh_observe_pages(struct bh_http_server *s, const struct bh_observe_server_options *options)
{
    const struct bh_observe_server_options *o = options != NULL ? options : &no_options;
    struct bh_http_group                   *g = bh_http_group(s, "");

    bh_http_use(g, bh_http_debug_guard, (void *)(uintptr_t)&o->debug);
    bh_http_handle(g, "GET /metrics", bh_http_metrics_page, NULL);
    bh_http_handle(g, "/debug/log", bh_http_log_level, NULL);
    bh_http_debug_mount(s, &o->debug);
}
