/*
 * observe_flight.c -- what the flight recorder costs: a yield has two events, with stacks.
 *
 * Each is the best of several rounds: the rest is other processes' doing.
 */

#include <bulkhead/go/flight.h>

#include "bench.h"

enum { ROUNDS = 40, YIELDS = 20000 };

static volatile bool over;

static void
partner(void *args)
{
    (void)args;
    while (!over)
        bh_yield();
}

/* ns for one goroutine's turn, of two that take turns. */
static double
turn(void)
{
    int64_t best = INT64_MAX;

    for (int i = 0; i < ROUNDS; i++) {
        int64_t start = bench_now(), took;

        for (int k = 0; k < YIELDS; k++)
            bh_yield();
        took = bench_now() - start;
        best = took < best ? took : best;
    }
    return (double)best / YIELDS / 2;
}

static void
run(void *args)
{
    double  off, on;
    int64_t start;

    (void)args;
    bh_go(partner, &(int){ 0 });
    off = turn();
    if (bh_flight_start(0) < 0)
        exit(1);
    on = turn();
    bench_print("flight_off_turn_ns", off);
    bench_print("flight_on_turn_ns", on);
    bench_print("flight_event_ns", (on - off) / 2);
    start = bench_now();
    for (int i = 0; i < YIELDS; i++)
        bh_flight_log(1, "key", "a value of some length");
    bench_print("flight_log_ns", (double)(bench_now() - start) / YIELDS);
    over = true;
    bh_yield();
}

static const struct bench tests[] = { { "flight", 1, run }, { NULL, 0, NULL } };

int
main(int argc, char **argv)
{
    return bench_main(tests, argc, argv);
}
