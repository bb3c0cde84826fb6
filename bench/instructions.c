/*
 * instructions.c -- operations that observing adds to a program, for instructions.sh to count.
 *
 *     instructions OPERATION COUNT
 *
 * A time depends on who else uses the machine; how many instructions a path has, hardly on
 * anything.  Valgrind counts those of each thread, and two runs with different COUNTs differ by
 * the operation alone, if it is always the same thread that does it.  So there is one
 * processor, and the goroutine is locked to the thread it begins on, the process's second.
 * Only where goroutines take turns is it let go; they keep the processor, and so the thread.
 *
 * Exporter, writer and reporter have threads of their own, which are not counted, and leave
 * ours alone: queues have room for everything, and nothing is due.
 */

#include <fcntl.h>
#include <stdlib.h>

#include <bulkhead/go/flight.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/export.h>
#include <bulkhead/observe/heap.h>
#include <bulkhead/observe/log.h>
#include <bulkhead/observe/metrics.h>
#include <bulkhead/observe/report.h>
#include <bulkhead/observe/trace.h>

#include "bench.h"

enum { SPANS = 1 << 14, LOG_RING = 16 << 20 };

struct operation {
    const char *name;
    void (*begin)(void); /* not counted; NULL: nothing */
    void (*once)(int i);
};

static void
check(bool good)
{
    if (good)
        return;
    fprintf(stderr, "instructions: cannot begin\n");
    exit(1);
}

static void
nothing(int i)
{
    (void)i;
}

/* ---- spans ----------------------------------------------------------------------- */

static void
begin_recorded(void)
{
    check(bh_trace_set_sampler(&(struct bh_sampler){ .how = BH_SAMPLE_ALWAYS }) == 0);
    check(bh_export_start(&(struct bh_export_options){ .endpoint = "http://127.0.0.1:9",
                                                       .interval = 3600 * BH_SECOND,
                                                       .span_slots = SPANS,
                                                       .batch = SPANS,
                                                       .quiet = true }) == 0);
}

static void
begin_unsampled(void)
{
    check(bh_trace_set_sampler(&(struct bh_sampler){ .how = BH_SAMPLE_NEVER }) == 0);
}

/* With six attributes. */
static void
span(int i)
{
    struct bh_span s;

    bh_span_start(&s, "GET /users/{id}", NULL);
    bh_span_text(&s, "http.route", "/users/{id}");
    bh_span_text(&s, "http.request.method", "GET");
    bh_span_text(&s, "url.path", "/users/17");
    bh_span_int(&s, "http.response.status_code", 200);
    bh_span_text(&s, "client.address", "127.0.0.1");
    bh_span_bool(&s, "cached", i < 0);
    bh_span_end(&s);
}

static struct bh_tag work = { .trace_id = { 1 }, .span_id = { 2 }, .sampled = 1 };

static void
publish(int i)
{
    work.hop = (uint8_t)i;
    bh_tag_set(&work);
    bh_tag_set(NULL);
}

/* ---- metrics --------------------------------------------------------------------- */

static struct bh_series *requests, *in_flight, *duration, *received, *sent;

static void
begin_metrics(void)
{
    check(bh_metric_counter("c", "Help.", &requests) == 0);
    check(bh_metric_updown("u", "Help.", &in_flight) == 0);
    check(bh_metric_histogram("d", "Help.", "s", &duration) == 0);
    check(bh_metric_histogram("r", "Help.", "By", &received) == 0);
    check(bh_metric_histogram("s", "Help.", "By", &sent) == 0);
}

static void
begin_metrics_traced(void)
{
    begin_metrics();
    bh_tag_set(&work);
}

static void
counter(int i)
{
    (void)i;
    bh_metric_add(requests, 1);
}

static void
five_metrics(int i)
{
    bh_metric_add(in_flight, 1);
    bh_metric_add(in_flight, -1);
    bh_metric_record(duration, i * 1e-6);
    bh_metric_record(received, i);
    bh_metric_record(sent, i);
}

/* ---- logs ------------------------------------------------------------------------ */

static void
begin_log(void)
{
    int fd = open("/dev/null", O_WRONLY | O_CLOEXEC);

    check(bh_log_start(&(struct bh_log_options){ .fd = fd, .ring_size = LOG_RING }) == 0);
}

static void
log_line(int i)
{
    bh_log(BH_INFO, "order placed", BH_STR("id", "o-1234567"), BH_INT("quantity", i),
           BH_DOUBLE("price", 9.75), BH_BOOL("paid", true));
}

static void
log_off(int i)
{
    bh_log(BH_DEBUG, "nothing", BH_INT("i", i));
}

/* ---- the flight recorder --------------------------------------------------------- */

static void
partner(void *args)
{
    (void)args;
    for (;;)
        bh_yield();
}

static void
begin_turns(void)
{
    bh_go(partner, &(int){ 0 });
}

static void
begin_turns_recorded(void)
{
    check(bh_flight_start(0) == 0);
    begin_turns();
}

/* Ours and the partner's: two stops and two starts, four events. */
static void
turn(int i)
{
    (void)i;
    bh_yield();
}

/* ---- the heap profile ------------------------------------------------------------ */

static void
begin_heap(void)
{
    check(bh_heap_profile_start(0) == 0);
}

static void
pair(int i)
{
    void *p = malloc((size_t)(64 + i % 64));

    __asm__ volatile("" : "+r"(p) : : "memory");
    free(p);
}

/* ---- panics ---------------------------------------------------------------------- */

static void
recovered(int i)
{
    static const struct bh_kind kind = { .name = "kind" };

    BH_RECOVER(p) {
        (void)p;
        return;
    }
    bh_panic_value(&kind, &work);
    (void)i;
}

/* The first has its report; what comes after is the same again. */
static void
begin_suppressed(void)
{
    check(bh_report_start(&(struct bh_report_options){ .fd = -1 }) == 0);
    recovered(0);
    check(bh_report_flush(30 * BH_SECOND));
}

/* ---- all of it ------------------------------------------------------------------- */

static const struct operation operations[] = {
    { "nothing", NULL, nothing },
    { "span_recorded", begin_recorded, span },
    { "span_unsampled", begin_unsampled, span },
    { "context_publish", NULL, publish },
    { "counter", begin_metrics, counter },
    { "five_metrics", begin_metrics, five_metrics },
    { "five_metrics_traced", begin_metrics_traced, five_metrics },
    { "log_line", begin_log, log_line },
    { "log_off", NULL, log_off },
    { "turns", begin_turns, turn },
    { "turns_recorded", begin_turns_recorded, turn },
    { "malloc_pair", NULL, pair },
    { "malloc_pair_profiled", begin_heap, pair },
    { "panic", NULL, recovered },
    { "panic_suppressed", begin_suppressed, recovered },
};

static const struct operation *chosen;
static long                    count;

static void
run(void *args)
{
    (void)args;
    bh_lock_thread();
    if (chosen->begin != NULL)
        chosen->begin();
    if (chosen->once == turn)
        bh_unlock_thread();
    for (int i = 0; i < count; i++)
        chosen->once(i);
    bh_exit(0);
}

int
main(int argc, char **argv)
{
    enum { OPERATIONS = sizeof operations / sizeof *operations };

    for (int i = 0; argc == 3 && i < OPERATIONS; i++)
        if (strcmp(operations[i].name, argv[1]) == 0)
            chosen = &operations[i];
    if (chosen == NULL) {
        fprintf(stderr, "usage: instructions OPERATION COUNT\n");
        return 2;
    }
    count = strtol(argv[2], NULL, 10);
    bh_set_hooks(&(struct bh_hooks){ .panic = bh_report_event });
    return bh_main_with(&(struct bh_options){ .procs = 1 }, run, NULL);
}
