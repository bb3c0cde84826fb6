/*
 * live.c -- what the page shows: panics as lanes, the runtime, routes, drops.
 *
 * A panic has one of 64 lanes, the oldest being taken, under a lock that the hook only tries: a
 * step that finds it held by a reader is not shown, and counted.  So the hook neither waits nor
 * allocates.  Whose lane it is stands beside the lanes, so that the next step finds it.
 *
 * All the rest is read when somebody looks.
 */

#include "live.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/stack.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/export.h>
#include <bulkhead/observe/log.h>
#include <bulkhead/observe/metrics.h>
#include <bulkhead/observe/page.h>
#include <bulkhead/observe/report.h>

#include "named.h"

/* ---- lanes ----------------------------------------------------------------------- */

enum { LANES = 64, TRIES = 64, STEPS = 24, PCS = 32, FRAMES = 12 };

/* A deferred call, or, without a function, a repanic. */
struct step {
    uintptr_t function;
    int64_t   at, took; /* since it was raised; -1: it has not returned */
};

struct lane {
    uint64_t    serial, goroutine;
    uint64_t    version;       /* of its newest step */
    int64_t     time_ms;       /* Unix time */
    int64_t     raised, ended; /* bh_now; 0: not ended */
    int         defers, steps, depth;
    struct step step[STEPS];
    uintptr_t   pcs[PCS]; /* of who raised it */
    bool        hook_failed, repanicked;
    const char *outcome; /* static; "" while it is on its way */
    const char *by;      /* static; "" */
    char        kind[48], text[200], route[96], trace[33];
};

static struct lane      lanes[LANES];
static atomic_flag      locks[LANES];   /* of the lanes */
static _Atomic uint64_t serials[LANES]; /* of the lanes' panics */
static _Atomic uint64_t begun, version, missed;

uint64_t
ob_live_panics_version(void)
{
    return atomic_load_explicit(&version, memory_order_relaxed);
}

static bool
try_lane(struct lane *l)
{
    for (int i = 0; i < TRIES; i++)
        if (!atomic_flag_test_and_set_explicit(&locks[l - lanes], memory_order_acquire))
            return true;
    return false;
}

static void
leave_lane(struct lane *l)
{
    atomic_flag_clear_explicit(&locks[l - lanes], memory_order_release);
}

static void
copy_text(char *to, size_t size, const char *from)
{
    size_t n = strnlen(from, size - 1);

    memcpy(to, from, n);
    to[n] = '\0';
}
#define COPY(to, from) copy_text((to), sizeof(to), (from))

static void
begin_lane(struct lane *l, const struct bh_panic *p)
{
    struct timespec now;
    struct bh_tag   tag;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    bh_tag_get(&tag);
    l->serial = p->serial;
    l->goroutine = p->goroutine;
    l->time_ms = (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
    l->raised = bh_now();
    l->ended = 0;
    l->defers = l->steps = 0;
    l->depth = bh_stack(l->pcs, PCS);
    l->hook_failed = l->repanicked = false;
    l->outcome = l->by = "";
    COPY(l->kind, p->kind->name);
    COPY(l->text, p->text[0] != '\0' ? p->text : p->kind->name);
    COPY(l->route, tag.route != NULL ? tag.route : "");
    ob_hex(tag.trace_id, l->trace);
}

/* Returns: the index; -1 if it has none. */
static int
find_lane(uint64_t serial)
{
    for (int i = 0; i < LANES; i++)
        if (atomic_load_explicit(&serials[i], memory_order_relaxed) == serial)
            return i;
    return -1;
}

static void
add_step(struct lane *l, const struct bh_panic_event *e)
{
    struct step *s = l->step + l->steps;
    int64_t      at = bh_now() - l->raised;

    if (e->step == BH_PANIC_DEFER_DONE) {
        while (s-- > l->step)
            if (s->function == e->deferred && s->took < 0) {
                s->took = at - s->at;
                return;
            }
    } else if ((e->step == BH_PANIC_DEFER || e->step == BH_PANIC_REPANICKED) &&
               l->steps < STEPS) {
        *s = (struct step){ e->deferred, at, -1 };
        l->steps++;
    }
}

static const char *
outcome_of(enum bh_panic_step step)
{
    switch (step) {
    case BH_PANIC_RECOVERED:
        return "recovered";
    case BH_PANIC_CONTAINED:
        return "contained";
    case BH_PANIC_FATAL:
        return "fatal";
    case BH_PANIC_GOEXIT:
        return "goexit";
    case BH_PANIC_REPLACED:
        return "replaced";
    default:
        return NULL;
    }
}

void
bh_debug_event(const struct bh_panic_event *e)
{
    const struct bh_panic *p = e->panic;
    const char            *outcome = outcome_of(e->step);
    struct lane           *l;
    int                    i;

    if (p->kind == &bh_kind_http_abort)
        return; /* no accident */
    i = find_lane(p->serial);
    if (i < 0 && e->step != BH_PANIC_RAISED && e->step != BH_PANIC_REPANICKED)
        return; /* 64 younger ones have come */
    l = &lanes[i >= 0 ? (uint64_t)i : atomic_fetch_add(&begun, 1) % LANES];
    if (!try_lane(l)) {
        atomic_fetch_add_explicit(&missed, 1, memory_order_relaxed);
        return;
    }
    if (i < 0) {
        begin_lane(l, p);
        atomic_store(&serials[l - lanes], p->serial);
    }
    if (l->serial == p->serial) {
        add_step(l, e);
        l->defers = e->defers > l->defers ? e->defers : l->defers;
        l->hook_failed |= e->hook_failed;
        l->repanicked |= e->step == BH_PANIC_REPANICKED;
        if (outcome != NULL && strcmp(l->outcome, "contained") != 0) {
            l->outcome = outcome;
            l->ended = bh_now();
        }
        if (e->by != NULL)
            l->by = e->by;
        l->version = 1 + atomic_fetch_add_explicit(&version, 1, memory_order_relaxed);
    }
    leave_lane(l);
}

static int
newest_first(const void *a, const void *b)
{
    const struct lane *x = a, *y = b;

    if (x->raised != y->raised)
        return x->raised < y->raised ? 1 : -1;
    return (x->serial < y->serial) - (x->serial > y->serial);
}

static void
put_steps(struct bh_json_out *out, const struct lane *l)
{
    struct bh_frame f[BH_FRAMES_MAX];

    bh_json_open(out, "steps", '[');
    for (int i = 0; i < l->steps; i++) {
        const struct step *s = &l->step[i];
        int                n = 0;

        if (s->function != 0) /* its first instruction, not one behind a call */
            n = bh_symbolize(s->function + 1, f, BH_FRAMES_MAX);
        bh_json_open(out, NULL, '{');
        bh_json_add_text(out, "function", n > 0 ? f[n - 1].function : "");
        bh_json_add_int(out, "at_ns", s->at);
        bh_json_add_int(out, "took_ns", s->took);
        bh_json_close(out, '}');
    }
    bh_json_close(out, ']');
}

static void
put_frame(struct bh_json_out *out, const struct bh_frame *f)
{
    bh_json_open(out, NULL, '{');
    bh_json_add_text(out, "function", f->function);
    bh_json_add_text(out, "file", f->file);
    bh_json_add_int(out, "line", f->line);
    bh_json_add_bool(out, "runtime", f->runtime);
    bh_json_close(out, '}');
}

/* Who raised it; without the hook that noted it, and what the runtime did between. */
static void
put_calls(struct bh_json_out *out, const struct lane *l)
{
    struct bh_frame f[BH_FRAMES_MAX];
    enum { HOOK, RUNTIME, CALLS } where = HOOK; /* in this order, inwards out */
    int shown = 0;

    bh_json_open(out, "frames", '[');
    for (int i = 0; i < l->depth && shown < FRAMES; i++) {
        int n = l->pcs[i] != 0 ? bh_symbolize(l->pcs[i], f, BH_FRAMES_MAX) : 0;

        for (int k = 0; k < n; k++) {
            if (where == HOOK && f[k].runtime)
                where = RUNTIME;
            else if (where == RUNTIME && !f[k].runtime)
                where = CALLS;
            if (where == CALLS) {
                put_frame(out, &f[k]);
                shown++;
            }
        }
    }
    bh_json_close(out, ']');
}

static void
put_lane(struct bh_json_out *out, const struct lane *l, int64_t now)
{
    bh_json_open(out, NULL, '{');
    bh_json_add_int(out, "serial", (int64_t)l->serial);
    bh_json_add_int(out, "goroutine", (int64_t)l->goroutine);
    bh_json_add_int(out, "time_ms", l->time_ms);
    bh_json_add_text(out, "kind", l->kind);
    bh_json_add_text(out, "text", l->text);
    bh_json_add_text(out, "route", l->route);
    bh_json_add_text(out, "trace", l->trace);
    bh_json_add_int(out, "defers", l->defers);
    bh_json_add_bool(out, "hook_failed", l->hook_failed);
    bh_json_add_bool(out, "repanicked", l->repanicked);
    bh_json_add_text(out, "outcome", l->outcome);
    bh_json_add_text(out, "by", l->by);
    bh_json_add_int(out, "took_ns", (l->ended != 0 ? l->ended : now) - l->raised);
    put_steps(out, l);
    put_calls(out, l);
    bh_json_close(out, '}');
}

uint64_t
ob_live_panics(struct bh_json_out *out, uint64_t since)
{
    uint64_t     told = ob_live_panics_version();
    struct lane *copy = bh_arena_alloc(out->arena, sizeof lanes);
    int          count = 0;
    int64_t      now = bh_now();

    for (int i = 0; i < LANES; i++) {
        if (!try_lane(&lanes[i])) {
            told = since; /* once more, next time */
            continue;
        }
        if (lanes[i].serial != 0 && lanes[i].version > since)
            memcpy(&copy[count++], &lanes[i], sizeof lanes[i]);
        leave_lane(&lanes[i]);
    }
    qsort(copy, (size_t)count, sizeof *copy, newest_first);
    bh_json_open(out, NULL, '[');
    for (int i = 0; i < count; i++)
        put_lane(out, &copy[i], now);
    bh_json_close(out, ']');
    return told;
}

/* ---- routes ---------------------------------------------------------------------- */

enum { ROUTES = 200 };

struct route {
    const char                  *method, *path;
    uint64_t                     count, errors;
    double                       sum;
    const struct bh_metric_info *info;
    uint64_t                    *buckets;
};

struct routes {
    struct bh_arena *arena;
    struct route     list[ROUTES];
    int              count;
    uint64_t         cut;
};

static const char *
value_of(const struct bh_metric_info *info, const struct bh_metric_point *p, const char *label)
{
    for (int i = 0; p->values != NULL && i < info->label_count; i++)
        if (strcmp(info->labels[i], label) == 0)
            return p->values[i];
    return "";
}

static struct route *
route_of(struct routes *r, const struct bh_metric_info *info, const char *method,
         const char *path)
{
    struct route *n = r->list;

    for (; n < r->list + r->count; n++)
        if (strcmp(n->method, method) == 0 && strcmp(n->path, path) == 0)
            return n;
    if (r->count == ROUTES) {
        r->cut++;
        return NULL;
    }
    r->count++;
    *n = (struct route){ .method = bh_arena_string(r->arena, method, strlen(method)),
                         .path = bh_arena_string(r->arena, path, strlen(path)),
                         .info = info,
                         .buckets = bh_arena_alloc(r->arena, ((size_t)info->bound_count + 1) *
                                                                 sizeof(uint64_t)) };
    return n;
}

static bool
add_point(const struct bh_metric_info *info, const struct bh_metric_point *p, void *arg)
{
    struct route *n;

    if (strcmp(info->name, "http.server.request.duration") != 0 || info->kind != BH_HISTOGRAM)
        return true;
    n = route_of(arg, info, value_of(info, p, "http.request.method"),
                 value_of(info, p, "http.route"));
    if (n == NULL)
        return true;
    n->count += p->count;
    n->sum += p->sum;
    if (value_of(info, p, "http.response.status_code")[0] == '5' ||
        value_of(info, p, "error.type")[0] != '\0')
        n->errors += p->count;
    for (int i = 0; i <= info->bound_count; i++)
        n->buckets[i] += p->buckets[i];
    return true;
}

/* Seconds that `part` of the requests do not exceed, by the bucket's upper bound. */
static double
quantile(const struct route *n, double part)
{
    uint64_t below = 0, want = (uint64_t)(part * (double)n->count);

    for (int i = 0; i < n->info->bound_count; i++) {
        below += n->buckets[i];
        if (below > want || below == n->count)
            return n->info->bounds[i];
    }
    return n->info->bound_count > 0 ? n->info->bounds[n->info->bound_count - 1] : 0;
}

/* Upper bound in ms, count, and so on, without the empty ones.  Two such lists tell of the time between. */
static void
put_buckets(struct bh_json_out *out, const struct route *n)
{
    int bounds = n->info->bound_count;

    bh_json_open(out, "buckets", '[');
    for (int i = 0; i <= bounds && bounds > 0; i++) {
        if (n->buckets[i] == 0)
            continue;
        bh_json_add_number(out, NULL, n->info->bounds[i < bounds ? i : bounds - 1] * 1000);
        bh_json_add_int(out, NULL, (int64_t)n->buckets[i]);
    }
    bh_json_close(out, ']');
}

/* Returns: how many series are of routes beyond those. */
static uint64_t
put_routes(struct bh_json_out *out)
{
    struct routes *r = bh_arena_alloc(out->arena, sizeof *r);

    r->arena = out->arena;
    (void)bh_metric_each(add_point, r);
    bh_json_open(out, "routes", '[');
    for (int i = 0; i < r->count; i++) {
        const struct route *n = &r->list[i];

        bh_json_open(out, NULL, '{');
        bh_json_add_text(out, "method", n->method);
        bh_json_add_text(out, "route", n->path);
        bh_json_add_int(out, "count", (int64_t)n->count);
        bh_json_add_int(out, "errors", (int64_t)n->errors);
        bh_json_add_number(out, "p50_ms", quantile(n, 0.5) * 1000);
        bh_json_add_number(out, "p99_ms", quantile(n, 0.99) * 1000);
        put_buckets(out, n);
        bh_json_close(out, '}');
    }
    bh_json_close(out, ']');
    return r->cut;
}

/* ---- the rest -------------------------------------------------------------------- */

static void
put_runtime(struct bh_json_out *out)
{
    struct bh_runtime_stats s;

    bh_runtime_stats_read(&s);
    bh_json_open(out, "runtime", '{');
    bh_json_add_int(out, "runnable", s.goroutines[BH_GOROUTINE_RUNNABLE]);
    bh_json_add_int(out, "running", s.goroutines[BH_GOROUTINE_RUNNING]);
    bh_json_add_int(out, "waiting", s.goroutines[BH_GOROUTINE_WAITING]);
    bh_json_add_int(out, "threads", s.threads);
    bh_json_add_int(out, "threads_blocked", s.threads_blocked);
    bh_json_add_int(out, "timers", s.timers);
    bh_json_add_int(out, "io_waiters", s.io_waiters);
    bh_json_add_int(out, "stacks", s.stacks_live);
    bh_json_add_int(out, "spawned", (int64_t)s.spawned_total);
    bh_json_add_int(out, "parked", (int64_t)s.parked_total);
    bh_json_add_int(out, "stolen", (int64_t)s.stolen_total);
    bh_json_add_int(out, "panics", (int64_t)s.panics_total);
    bh_json_add_int(out, "recovered", (int64_t)s.recovered_total);
    bh_json_add_int(out, "contained", (int64_t)s.contained_total);
    bh_json_add_int(out, "faults", (int64_t)s.faults_total);
    bh_json_add_int(out, "overflows", (int64_t)s.overflows_total);
    bh_json_open(out, "run_queues", '[');
    for (int i = 0; i < bh_procs(); i++)
        bh_json_add_int(out, NULL, bh_run_queue_length(i));
    bh_json_close(out, ']');
    bh_json_close(out, '}');
}

static void
put_drop(struct bh_json_out *out, const char *what, const char *reason, uint64_t count)
{
    if (count == 0)
        return;
    bh_json_open(out, NULL, '{');
    bh_json_add_text(out, "what", what);
    bh_json_add_text(out, "reason", reason);
    bh_json_add_int(out, "count", (int64_t)count);
    bh_json_close(out, '}');
}

static void
put_exporter(struct bh_json_out *out, const struct bh_export_stats *sent)
{
    bh_json_open(out, "export", '[');
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++) {
        const struct bh_export_counts *n = &sent->signal[s];

        bh_json_open(out, NULL, '{');
        bh_json_add_text(out, "signal", bh_export_signal_name(s));
        bh_json_add_int(out, "accepted", (int64_t)n->accepted);
        bh_json_add_int(out, "exported", (int64_t)n->exported);
        bh_json_add_int(out, "queued", (int64_t)n->queued);
        bh_json_add_int(out, "failures", (int64_t)n->failures);
        bh_json_add_bool(out, "open", n->open);
        bh_json_close(out, '}');
    }
    bh_json_close(out, ']');
}

static void
put_drops(struct bh_json_out *out, uint64_t routes_cut)
{
    struct bh_log_stats    log;
    struct bh_export_stats sent;
    struct bh_report_stats reports;

    bh_log_stats(&log);
    bh_export_stats_read(&sent);
    bh_report_stats(&reports);
    bh_json_open(out, "drops", '[');
    for (int i = 0; i < BH_LOG_DROPS; i++)
        put_drop(out, "log lines", bh_log_drop_name(i), log.dropped[i]);
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++)
        for (int i = 0; i < BH_EXPORT_REASONS; i++)
            put_drop(out, bh_export_signal_name(s), bh_export_reason_name(i),
                     sent.signal[s].dropped[i]);
    put_drop(out, "steps of panics on this page", "lane busy", atomic_load(&missed));
    put_drop(out, "series of routes on this page", "200 routes are shown", routes_cut);
    bh_json_close(out, ']');
    put_exporter(out, &sent);
    bh_json_open(out, "report", '{');
    bh_json_add_int(out, "full", (int64_t)reports.reports);
    bh_json_add_int(out, "suppressed", (int64_t)reports.suppressed);
    bh_json_add_int(out, "failed", (int64_t)reports.failed);
    bh_json_add_int(out, "capture_ns", reports.capture_ns);
    bh_json_add_int(out, "report_ns", reports.report_ns);
    bh_json_close(out, '}');
}

void
ob_live_state(struct bh_json_out *out)
{
    struct timespec now;
    uint64_t        routes_cut;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    bh_json_open(out, NULL, '{');
    bh_json_add_int(out, "time_ms", (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000);
    bh_json_add_int(out, "pid", getpid());
    put_runtime(out);
    routes_cut = put_routes(out);
    put_drops(out, routes_cut);
    bh_json_close(out, '}');
}

/* ---- goroutines ------------------------------------------------------------------ */

enum { GROUPS = 4096, DEPTH = 48, IDS = 40, NAME = 64, STATES = 48 };

struct group {
    uint64_t    hash; /* 0: free */
    uint64_t    count;
    const char *why;
    int         depth;
    bool        system;
    int64_t     longest;
    uint64_t    ids[IDS];
    char        name[NAME], labels[NAME * 2]; /* of the first */
    uintptr_t   pcs[DEPTH];
};

struct gathering {
    struct group                    *groups; /* by hash */
    const struct ob_goroutine_query *q;
    int64_t                          seen, found, cut;
    int                              states;
    struct {
        const char *why;
        int64_t     count;
    } state[STATES]; /* of all, found or not */
    struct ob_inner inner;
};

static void
count_state(struct gathering *all, const char *why)
{
    int i = 0;

    while (i < all->states && strcmp(all->state[i].why, why) != 0)
        i++;
    if (i == STATES)
        return;
    if (i == all->states)
        all->state[all->states++].why = why;
    all->state[i].count++;
}

/* Does the text have it?  "" is in every text. */
static bool
has(const char *text, const char *search)
{
    return strcasestr(text, search) != NULL;
}

static bool
frames_have(const uintptr_t *pcs, int depth, const char *search)
{
    for (int i = 0; i < depth; i++) {
        struct bh_frame f[BH_FRAMES_MAX];
        int             n = bh_symbolize(pcs[i], f, BH_FRAMES_MAX);

        for (int k = 0; k < n; k++)
            if (has(f[k].function, search) || has(f[k].file, search))
                return true;
    }
    return false;
}

static bool
wanted(const struct bh_goroutine_info *g, const struct ob_goroutine_query *q)
{
    const char *search = q->search;
    char       *end;

    if (*q->state != '\0' && strcmp(g->why, q->state) != 0)
        return false;
    if (*search == '\0' || has(g->name, search) || has(g->labels, search) ||
        has(g->why, search) || (g->tag.route != NULL && has(g->tag.route, search)))
        return true;
    if (strtoull(search, &end, 10) == g->id && end != search && *end == '\0')
        return true;
    return frames_have(g->pcs, g->depth, search);
}

/* By which of the scheduler's ways a goroutine came to wait would only tell apart what is alike. */
static int
own_frames(struct gathering *all, const struct bh_goroutine_info *g, const uintptr_t **pcs)
{
    int first = 0;

    if (g->state == BH_GOROUTINE_WAITING)
        first = ob_inner_calls(&all->inner, g->pcs, g->depth);
    *pcs = g->pcs + first;
    return g->depth - first < DEPTH ? g->depth - first : DEPTH;
}

static bool
gather(const struct bh_goroutine_info *g, void *arg)
{
    struct gathering *all = arg;
    uint64_t          hash = 14695981039346656037U;
    const uintptr_t  *pcs;
    int               depth = own_frames(all, g, &pcs);
    struct group     *n;

    all->seen++;
    count_state(all, g->why);
    if (!wanted(g, all->q))
        return true;
    all->found++;
    hash = (hash ^ (uintptr_t)g->why) * 1099511628211U;
    for (int i = 0; i < depth; i++)
        hash = (hash ^ pcs[i]) * 1099511628211U;
    hash |= 1;
    n = &all->groups[hash % GROUPS];
    for (int tries = 0; n->hash != 0 && n->hash != hash; tries++) {
        if (tries == GROUPS) {
            all->cut++;
            return true;
        }
        n = n + 1 < all->groups + GROUPS ? n + 1 : all->groups;
    }
    if (n->hash == 0) {
        n->hash = hash;
        n->why = g->why;
        n->system = g->system;
        n->depth = depth;
        memcpy(n->pcs, pcs, (size_t)depth * sizeof *n->pcs);
        COPY(n->name, g->name);
        COPY(n->labels, g->labels);
    }
    if (n->count < IDS)
        n->ids[n->count] = g->id;
    n->count++;
    n->longest = g->waiting_ns > n->longest ? g->waiting_ns : n->longest;
    return true;
}

static int
most_first(const void *a, const void *b)
{
    const struct group *x = a, *y = b;

    if (x->count != y->count)
        return x->count < y->count ? 1 : -1;
    return (x->hash < y->hash) - (x->hash > y->hash);
}

static void
put_group(struct bh_json_out *out, const struct group *n)
{
    bh_json_open(out, NULL, '{');
    bh_json_add_int(out, "count", (int64_t)n->count);
    bh_json_add_text(out, "why", n->why);
    bh_json_add_bool(out, "system", n->system);
    bh_json_add_int(out, "longest_ms", n->longest / BH_MILLISECOND);
    bh_json_add_text(out, "name", n->name);
    bh_json_add_text(out, "labels", n->labels);
    bh_json_open(out, "ids", '[');
    for (uint64_t i = 0; i < n->count && i < IDS; i++)
        bh_json_add_int(out, NULL, (int64_t)n->ids[i]);
    bh_json_close(out, ']');
    bh_json_open(out, "frames", '[');
    for (int i = 0; i < n->depth; i++) {
        struct bh_frame f[BH_FRAMES_MAX];
        int             count = bh_symbolize(n->pcs[i], f, BH_FRAMES_MAX);

        for (int k = 0; k < count; k++)
            put_frame(out, &f[k]);
    }
    bh_json_close(out, ']');
    bh_json_close(out, '}');
}

int
ob_live_goroutines(struct bh_json_out *out, const struct ob_goroutine_query *q)
{
    struct gathering all = { .groups = calloc(GROUPS, sizeof(struct group)), .q = q };
    size_t           groups = 0;

    if (all.groups == NULL)
        return -ENOMEM;
    (void)bh_goroutines(gather, &all, DEPTH);
    qsort(all.groups, GROUPS, sizeof *all.groups, most_first);
    while (groups < GROUPS && all.groups[groups].count > 0)
        groups++;
    bh_json_open(out, NULL, '{');
    bh_json_add_int(out, "total", all.seen);
    bh_json_add_int(out, "found", all.found);
    bh_json_add_int(out, "groups_total", (int64_t)groups);
    bh_json_add_int(out, "ungrouped", all.cut);
    bh_json_open(out, "states", '{');
    for (int i = 0; i < all.states; i++)
        bh_json_add_int(out, all.state[i].why, all.state[i].count);
    bh_json_close(out, '}');
    bh_json_open(out, "groups", '[');
    for (size_t i = q->from; i < groups && i - q->from < q->most; i++)
        put_group(out, &all.groups[i]);
    bh_json_close(out, ']');
    bh_json_close(out, '}');
    free(all.groups);
    return 0;
}
