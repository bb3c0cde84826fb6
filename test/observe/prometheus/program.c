/*
 * program.c -- a server with metrics of every kind, for Prometheus to scrape.
 *
 * Prints its address, serves until its input ends.
 */

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/http/server.h>
#include <bulkhead/observe/log.h>
#include <bulkhead/observe/metrics.h>

static struct bh_series *work_time, *work_done;

/* Each request is one of a trace of its own. */
static int
work(struct bh_http_call *c, void *arg)
{
    struct bh_tag tag = { .span_id = { 0xf0, 1 }, .sampled = 1, .route = c->route };

    (void)arg;
    tag.trace_id[0] = 0xab;
    for (int i = 0; i < 8; i++)
        tag.trace_id[15 - i] = (unsigned char)(c->id >> 8 * i);
    bh_tag_set(&tag);
    bh_metric_record(work_time, 0.03);
    bh_metric_add(work_done, 1);
    return bh_http_reply(c, 200, "done\n");
}

static int
fail(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_panic("a bug in %s", c->route);
}

/* What a format can get wrong: escapes, limits, numbers that are none. */
static void
make_odd_ones(void)
{
    static const char *const labels[] = { "some.label", "other", NULL };
    static const double      bounds[] = { -1, 0, 1e-9, 2.5, 1e15 };
    struct bh_metric        *m;
    struct bh_series        *s;

    if (bh_metric_new(&(struct bh_metric_options){ .name = "odd.labels",
                                                   .help = "Odd \\ \"values\"\nof labels.",
                                                   .kind = BH_UPDOWN,
                                                   .labels = labels,
                                                   .max_series = 5 },
                      &m) != 0)
        exit(1);
    bh_metric_add(bh_metric_with(m, "a\"b\\c\ne", "{},= #"), 1);
    bh_metric_add(bh_metric_with(m, "\xc3\xa4\xf0\x9f\x98\x80", "\xff\xfe"), 2);
    bh_metric_add(bh_metric_with(m, "", ""), -3);
    for (int i = 0; i < 9; i++) {
        char number[16];

        (void)snprintf(number, sizeof number, "%d", i);
        bh_metric_add(bh_metric_with(m, "many", number), 1);
    }
    if (bh_metric_gauge("odd.infinity", "A gauge at its end.", &s) == 0)
        bh_metric_set(s, __builtin_inf());
    if (bh_metric_gauge("odd.nothing", "A gauge without a value.", &s) == 0)
        bh_metric_set(s, __builtin_nan(""));
    if (bh_metric_new(&(struct bh_metric_options){ .name = "odd.bounds",
                                                   .help = "Bounds of all signs.",
                                                   .unit = "By",
                                                   .kind = BH_HISTOGRAM,
                                                   .bounds = bounds,
                                                   .bound_count = 5 },
                      &m) != 0)
        exit(1);
    for (int i = 0; i < 5; i++)
        bh_metric_record(bh_metric_series(m, NULL, 0), bounds[i]);
}

static void
wait_for_end(void *arg)
{
    char byte;

    while (read(STDIN_FILENO, &byte, 1) > 0)
        ;
    bh_http_stop(*(struct bh_http_server **)arg);
}

static void
await_end(void *args)
{
    bh_blocking(wait_for_end, args);
}

static void
serve(void *args)
{
    struct bh_http_server   *s = bh_http_server_new(NULL);
    struct bh_metric        *m;
    struct bh_metric_options done = {
        .name = "work.done", .help = "Pieces of work.", .kind = BH_COUNTER, .exemplars = true
    };

    (void)args;
    if (bh_log_start(NULL) != 0 || bh_runtime_metrics() != 0 ||
        bh_metric_histogram("work.duration", "Duration of work.", "s", &work_time) != 0 ||
        bh_metric_new(&done, &m) != 0)
        exit(1);
    work_done = bh_metric_series(m, NULL, 0);
    make_odd_ones();
    bh_http_observe(s, bh_http_metrics, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /metrics", bh_http_metrics_page, NULL);
    bh_http_handle(s, "GET /jobs/{id}", work, NULL);
    bh_http_handle(s, "GET /fail", fail, NULL);
    if (bh_http_listen(s, "127.0.0.1:0") != 0)
        exit(1);
    printf("%s\n", bh_http_address(s));
    (void)fflush(stdout);
    bh_go(await_end, &s);
    (void)bh_http_serve(bh_ctx_background(), s);
    bh_http_server_free(s);
}

int
main(void)
{
    return bh_main(serve, NULL);
}
