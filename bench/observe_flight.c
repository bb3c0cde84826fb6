/*
 * observe_flight.c -- what the flight recorder costs.
 *
 *     flight    ns of a yield, of two events with a stack, without it and with; ns of a log
 *     request   events of an HTTP request that the server waited for, and what they are of the
 *               10 us that a processor has for each of 100,000 in a second
 *
 * Each time is the best of several rounds: the rest is other processes' doing.
 */

#include <arpa/inet.h>
#include <sys/socket.h>

#include <bulkhead/go/flight.h>

#include "server.h"

enum { ROUNDS = 40, YIELDS = 20000, REQUESTS = 100, EVENTS = 2048 };

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

/* ns of an event. */
static double
measure(double *off, double *on)
{
    bh_go(partner, NULL);
    *off = turn();
    if (bh_flight_start(0) < 0) /* as in production */
        exit(1);
    *on = turn();
    over = true;
    bh_yield();
    return (*on - *off) / 2;
}

static void
run(void *args)
{
    double  off, on, event = measure(&off, &on);
    int64_t start;

    (void)args;
    bench_print("flight_off_turn_ns", off);
    bench_print("flight_on_turn_ns", on);
    bench_print("flight_event_ns", event);
    start = bench_now();
    for (int i = 0; i < YIELDS; i++)
        bh_flight_log(1, "key", "a value of some length");
    bench_print("flight_log_ns", (double)(bench_now() - start) / YIELDS);
}

/* ---- requests -------------------------------------------------------------------- */

/* A client that is no goroutine; each time the server has gone to rest before it asks again. */
static void
ask(void *arg)
{
    static const char  request[] = "GET /hello HTTP/1.1\r\nHost: localhost\r\n\r\n";
    struct sockaddr_in a = { .sin_family = AF_INET,
                             .sin_port = htons(*(uint16_t *)arg),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    char               reply[4096];

    if (connect(fd, (struct sockaddr *)&a, sizeof a) != 0)
        exit(1);
    for (int i = 0; i < REQUESTS; i++) {
        nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
        if (send(fd, request, sizeof request - 1, 0) < 0 ||
            recv(fd, reply, sizeof reply, 0) <= 0)
            exit(1);
    }
    close(fd);
}

/* New events of all processors. */
static int
events(uint64_t *cursor)
{
    static struct bh_flight_event e[EVENTS];
    int                           count = 0;

    for (int p = 0; p < bh_procs(); p++)
        for (size_t n; (n = bh_flight_read(p, &cursor[p], e, EVENTS, NULL)) > 0;)
            count += (int)n;
    return count;
}

static void
run_request(void *args)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    double                 off, on, ns = measure(&off, &on), each;
    uint64_t               cursor[8] = { 0 };
    uint16_t               port;

    (void)args;
    port = (uint16_t)bench_serve(s);
    bh_blocking(ask, &port); /* what happens once */
    (void)events(cursor);
    bh_blocking(ask, &port);
    each = (double)events(cursor) / REQUESTS;
    bench_print("flight_request_events", each);
    bench_print("flight_percent_of_10_us", each * ns / 10e3 * 100);
}

static const struct bench tests[] = { { "flight", 1, run },
                                      { "request", 1, run_request },
                                      { NULL, 0, NULL } };

int
main(int argc, char **argv)
{
    return bench_main(tests, argc, argv);
}
