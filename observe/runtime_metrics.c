/*
 * runtime_metrics.c -- what the runtime counts, and the registry itself, as metrics.
 *
 * All are pulled: one reading of bh_runtime_stats sets them, when somebody looks.  Tables say
 * which field is which metric.
 *
 * Panics are told by the hook, since only it knows kind and outcome together.  It may run
 * anywhere, so it adds to atomics made beforehand; a panic is rare.
 */

#include "series.h"

#include <stdio.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/tag.h>

/* A field of struct bh_runtime_stats, all of which have eight bytes, and its metric. */
struct field {
    const char         *name, *help, *unit;
    enum bh_metric_kind kind;
    size_t              offset;
    const char         *label, *value; /* or NULL */
};

#define FIELD(f) offsetof(struct bh_runtime_stats, f)

static const struct field fields[] = {
    { "bulkhead.goroutines", "Goroutines by state.", "{goroutine}", BH_UPDOWN,
      FIELD(goroutines[BH_GOROUTINE_RUNNABLE]), "state", "runnable" },
    { "bulkhead.goroutines", "Goroutines by state.", "{goroutine}", BH_UPDOWN,
      FIELD(goroutines[BH_GOROUTINE_RUNNING]), "state", "running" },
    { "bulkhead.goroutines", "Goroutines by state.", "{goroutine}", BH_UPDOWN,
      FIELD(goroutines[BH_GOROUTINE_WAITING]), "state", "waiting" },
    { "bulkhead.goroutine.starts", "Goroutines started.", "{goroutine}", BH_COUNTER,
      FIELD(spawned_total), NULL, NULL },
    { "bulkhead.goroutine.parks", "Times a goroutine began to wait.", "{park}", BH_COUNTER,
      FIELD(parked_total), NULL, NULL },
    { "bulkhead.processors", "Processors that run goroutines.", "{processor}", BH_UPDOWN,
      FIELD(procs), NULL, NULL },
    { "bulkhead.processors.idle", "Processors without work.", "{processor}", BH_UPDOWN,
      FIELD(procs_idle), NULL, NULL },
    { "bulkhead.threads", "Threads of the runtime.", "{thread}", BH_UPDOWN, FIELD(threads),
      NULL, NULL },
    { "bulkhead.threads.idle", "Threads without a processor to run.", "{thread}", BH_UPDOWN,
      FIELD(threads_idle), NULL, NULL },
    { "bulkhead.threads.blocked", "Threads in blocking calls.", "{thread}", BH_UPDOWN,
      FIELD(threads_blocked), NULL, NULL },
    { "bulkhead.scheduler.steals", "Times a goroutine was taken from another processor.",
      "{steal}", BH_COUNTER, FIELD(stolen_total), NULL, NULL },
    { "bulkhead.scheduler.handoffs", "Times a processor was taken from a busy thread.",
      "{handoff}", BH_COUNTER, FIELD(handoffs_total), NULL, NULL },
    { "bulkhead.timers", "Armed timers.", "{timer}", BH_UPDOWN, FIELD(timers), NULL, NULL },
    { "bulkhead.poller.waiters", "Goroutines that wait for a descriptor.", "{goroutine}",
      BH_UPDOWN, FIELD(io_waiters), NULL, NULL },
    { "bulkhead.poller.events", "Goroutines woken by the poller.", "{event}", BH_COUNTER,
      FIELD(polled_total), NULL, NULL },
    { "bulkhead.stacks", "Stacks of goroutines.", "{stack}", BH_UPDOWN, FIELD(stacks_live),
      "state", "live" },
    { "bulkhead.stacks", "Stacks of goroutines.", "{stack}", BH_UPDOWN, FIELD(stacks_cached),
      "state", "cached" },
    { "bulkhead.stack.size", "Address space of stacks.", "By", BH_UPDOWN, FIELD(stack_bytes),
      NULL, NULL },
    { "bulkhead.panics.raised", "Panics raised.", "{panic}", BH_COUNTER, FIELD(panics_total),
      NULL, NULL },
    { "bulkhead.panics.recovered", "Panics recovered.", "{panic}", BH_COUNTER,
      FIELD(recovered_total), NULL, NULL },
    { "bulkhead.panics.contained", "Panics contained by a group or a safe goroutine.",
      "{panic}", BH_COUNTER, FIELD(contained_total), NULL, NULL },
    { "bulkhead.faults", "Panics raised by faults.", "{panic}", BH_COUNTER, FIELD(faults_total),
      NULL, NULL },
    { "bulkhead.stack.overflows", "Stack overflows.", "{panic}", BH_COUNTER,
      FIELD(overflows_total), NULL, NULL },
};
enum { FIELDS = sizeof fields / sizeof *fields, QUEUES = 256 };

static struct bh_series           *field_series[FIELDS];
static struct bh_metric           *run_queue;
static _Atomic(struct bh_series *) queue_series[QUEUES + 1]; /* [0]: the global one */

/* ---- the registry itself --------------------------------------------------------- */

static const struct field own_fields[] = {
    { "bulkhead.metrics.series", "Series there are.", "{series}", BH_UPDOWN,
      offsetof(struct bh_metric_stats, series), NULL, NULL },
    { "bulkhead.metrics.overflows", "Times a metric had too many series.", "{time}", BH_COUNTER,
      offsetof(struct bh_metric_stats, overflowed), NULL, NULL },
    { "bulkhead.metrics.misuses", "Updates that made no sense.", "{update}", BH_COUNTER,
      offsetof(struct bh_metric_stats, misused), NULL, NULL },
    { "bulkhead.metrics.losses", "Updates lost for want of memory.", "{update}", BH_COUNTER,
      offsetof(struct bh_metric_stats, lost), NULL, NULL },
    { "bulkhead.metrics.collect_panics", "Collectors that panicked.", "{panic}", BH_COUNTER,
      offsetof(struct bh_metric_stats, collect_panics), NULL, NULL },
};
enum { OWN_FIELDS = sizeof own_fields / sizeof *own_fields };

static struct bh_series *own_series[OWN_FIELDS];

static void
set_fields(const struct field *f, struct bh_series *const *series, int count, const void *stats)
{
    for (int i = 0; i < count; i++) {
        int64_t n;

        memcpy(&n, (const char *)stats + f[i].offset, sizeof n);
        bh_metric_set(series[i], (double)n);
    }
}

static int
make_fields(const struct field *f, struct bh_series **series, int count)
{
    int first = 0;

    for (int i = 0; i < count; i++) {
        const char *const        labels[] = { f[i].label, NULL };
        struct bh_metric_options o = {
            .name = f[i].name,
            .help = f[i].help,
            .unit = f[i].unit,
            .kind = f[i].kind,
            .labels = labels,
            .pulled = true,
        };
        struct bh_metric *m = NULL;
        int               rc = bh_metric_new(&o, &m);

        if (rc == 0)
            series[i] = bh_metric_series(m, &f[i].value, f[i].label != NULL);
        if (first == 0)
            first = rc;
    }
    return first;
}

/* ---- panics ---------------------------------------------------------------------- */

enum kind { USER, RUNTIME, FAULT, KINDS };
enum outcome { RECOVERED, CONTAINED, REPANICKED, REPLACED, GOEXIT, FATAL, LOST, OUTCOMES };

static const char *const kind_names[KINDS] = { "user", "runtime", "fault" };
static const char *const outcome_names[OUTCOMES] = { "recovered", "contained", "repanicked",
                                                     "replaced",  "goexit",    "fatal",
                                                     "lost" };

static _Atomic uint64_t            panics[KINDS][OUTCOMES];
static _Atomic(struct bh_series *) panic_series[KINDS][OUTCOMES];

static int
make_panics(void)
{
    static const char *const labels[] = { "kind", "outcome", NULL };
    struct bh_metric        *m;
    int rc = bh_metric_new(&(struct bh_metric_options){ .name = "bulkhead.panics",
                                                        .help = "Panics by kind and outcome.",
                                                        .unit = "{panic}",
                                                        .kind = BH_COUNTER,
                                                        .labels = labels,
                                                        .exemplars = true,
                                                        .pulled = true },
                           &m);

    for (int k = 0; k < KINDS && rc == 0; k++) {
        for (int o = 0; o < OUTCOMES; o++) {
            struct bh_series *s = bh_metric_with(m, kind_names[k], outcome_names[o]);

            if (s != NULL && ob_examples_make(s) != NULL)
                atomic_store(&panic_series[k][o], s);
        }
    }
    return rc;
}

/* Returns: OUTCOMES while it is not known. */
static enum outcome
outcome_of(const struct bh_panic_event *e)
{
    switch (e->step) {
    case BH_PANIC_RECOVERED:
        return e->by != NULL ? CONTAINED : RECOVERED;
    case BH_PANIC_REPANICKED:
        return REPANICKED;
    case BH_PANIC_REPLACED:
        return REPLACED;
    case BH_PANIC_GOEXIT:
        return GOEXIT;
    case BH_PANIC_FATAL:
        return FATAL;
    case BH_PANIC_CONTAINED:
        return e->pcs != NULL ? LOST : OUTCOMES; /* else it will be RECOVERED, too */
    default:
        return OUTCOMES;
    }
}

void
bh_panic_metrics(const struct bh_panic_event *e)
{
    enum outcome      o = outcome_of(e);
    enum kind         k = e->panic->signal != 0                                     ? FAULT
                          : e->panic->kind != NULL && e->panic->kind->runtime_error ? RUNTIME
                                                                                    : USER;
    struct bh_series *s;

    if (o == OUTCOMES)
        return;
    ob_count(&panics[k][o]);
    s = atomic_load(&panic_series[k][o]);
    if (s != NULL)
        ob_example_keep(s, 0, 1);
}

/* ---- reading --------------------------------------------------------------------- */

static void
set_queues(const struct bh_runtime_stats *stats)
{
    int count = bh_procs();

    for (int i = 0; i <= count && i <= QUEUES; i++) {
        struct bh_series *series = atomic_load(&queue_series[i]);
        char              name[16] = "global";

        if (i > 0)
            (void)snprintf(name, sizeof name, "%d", i - 1);
        if (series == NULL)
            atomic_store(&queue_series[i], series = bh_metric_with(run_queue, name));
        bh_metric_set(series,
                      (double)(i == 0 ? stats->run_queue_global : bh_run_queue_length(i - 1)));
    }
}

static void
collect(void *arg)
{
    struct bh_runtime_stats stats;
    struct bh_metric_stats  own;

    (void)arg;
    bh_runtime_stats_read(&stats);
    set_fields(fields, field_series, FIELDS, &stats);
    set_queues(&stats);
    bh_metric_stats(&own);
    set_fields(own_fields, own_series, OWN_FIELDS, &own);
    for (int k = 0; k < KINDS; k++) {
        for (int o = 0; o < OUTCOMES; o++)
            bh_metric_set(atomic_load(&panic_series[k][o]), (double)atomic_load(&panics[k][o]));
    }
}

int
bh_runtime_metrics(void)
{
    static _Atomic bool registered;
    int                 rc;

    if (atomic_exchange(&registered, true))
        return 0;
    rc = make_fields(fields, field_series, FIELDS);
    if (rc == 0)
        rc = make_fields(own_fields, own_series, OWN_FIELDS);
    if (rc == 0)
        rc = make_panics();
    if (rc == 0)
        rc = bh_metric_new(
            &(struct bh_metric_options){ .name = "bulkhead.run_queue.length",
                                         .help =
                                             "Goroutines that wait for a processor, by queue.",
                                         .unit = "{goroutine}",
                                         .kind = BH_UPDOWN,
                                         .labels = (const char *const[]){ "queue", NULL },
                                         .pulled = true },
            &run_queue);
    return rc == 0 ? bh_metric_collect(collect, NULL) : rc;
}
