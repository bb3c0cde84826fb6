/*
 * observe_trace.c -- what a span costs who makes it: with six attributes, sampled and not.
 *
 * The exporter runs, against a port where nobody listens: its queue fills, empties by
 * dropping, and is never waited for.
 */

#include <bulkhead/observe/export.h>
#include <bulkhead/observe/trace.h>

#include "bench.h"

enum { SPANS = 100000, ROUNDS = 20 };

static uint32_t took[SPANS];

static void
one(const char *route)
{
    struct bh_span span;

    bh_span_start(&span, "GET /users/{id}", NULL);
    bh_span_text(&span, "http.route", route);
    bh_span_text(&span, "http.request.method", "GET");
    bh_span_text(&span, "url.path", "/users/17");
    bh_span_int(&span, "http.response.status_code", 200);
    bh_span_text(&span, "client.address", "127.0.0.1");
    bh_span_bool(&span, "cached", false);
    bh_span_end(&span);
}

static int
by_size(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void
sampled(void *args)
{
    (void)args;
    (void)bh_trace_set_sampler(&(struct bh_sampler){ .how = BH_SAMPLE_ALWAYS });
    if (bh_export_start(
            &(struct bh_export_options){ .endpoint = "http://127.0.0.1:9", .quiet = true }) < 0)
        exit(1);
    for (int i = 0; i < SPANS; i++) {
        int64_t start = bench_now();

        one("/users/{id}");
        took[i] = (uint32_t)(bench_now() - start);
        if (i % 512 == 511) /* 20,000 a second or so */
            nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
    qsort(took, SPANS, sizeof took[0], by_size);
    bench_print("span_p50_ns", took[SPANS / 2]);
    bench_print("span_p99_ns", took[SPANS / 100 * 99]);
    (void)bh_export_stop(1);
}

static void
unsampled(void *args)
{
    int64_t best = INT64_MAX;

    (void)args;
    (void)bh_trace_set_sampler(&(struct bh_sampler){ .how = BH_SAMPLE_NEVER });
    for (int r = 0; r < ROUNDS; r++) {
        int64_t start = bench_now(), ns;

        for (int i = 0; i < SPANS / ROUNDS; i++)
            one("/users/{id}");
        ns = bench_now() - start;
        best = ns < best ? ns : best;
    }
    bench_print("span_unsampled_ns", (double)best / (SPANS / ROUNDS));
}

static const struct bench tests[] = { { "sampled", 2, sampled },
                                      { "unsampled", 1, unsampled },
                                      { NULL, 0, NULL } };

int
main(int argc, char **argv)
{
    return bench_main(tests, argc, argv);
}
