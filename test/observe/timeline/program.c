/*
 * program.c -- goroutines that do everything the flight recorder sees, for test.py.
 *
 *     program GO_FILE CHROME_FILE LATE_FILE GAPS_FILE
 *
 * LATE_FILE is of a ring that has forgotten the beginning, GAPS_FILE of events that miss others.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/flight.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/timeline.h>

static struct bh_mutex     mutex;
static struct bh_chan     *numbers;
static struct bh_waitgroup done;

static void
produce(void *args)
{
    (void)args;
    for (int i = 0; i < 200; i++)
        bh_send(numbers, &i);
    bh_waitgroup_done(&done);
}

__attribute__((noinline)) static void
consume(void *args)
{
    int n;

    (void)args;
    for (int i = 0; i < 200; i++)
        (void)bh_recv(numbers, &n);
    bh_waitgroup_done(&done);
}

static void
contend(void *args)
{
    (void)args;
    for (int i = 0; i < 50; i++) {
        bh_mutex_lock(&mutex);
        bh_yield();
        bh_mutex_unlock(&mutex);
    }
    bh_waitgroup_done(&done);
}

static void
nap(void *args)
{
    (void)args;
    for (int i = 0; i < 5; i++)
        bh_sleep(BH_MILLISECOND);
    bh_waitgroup_done(&done);
}

static void
pause_thread(void *arg)
{
    (void)arg;
    nanosleep(&(struct timespec){ .tv_nsec = 3000000 }, NULL);
}

static void
block(void *args)
{
    (void)args;
    bh_blocking(pause_thread, NULL);
    bh_waitgroup_done(&done);
}

/* Longer than the monitor allows, and on every processor: it takes one, and gives it to others. */
static void
hog(void *args)
{
    struct timespec from, now;

    (void)args;
    clock_gettime(CLOCK_MONOTONIC, &from);
    do
        clock_gettime(CLOCK_MONOTONIC, &now);
    while ((now.tv_sec - from.tv_sec) * 1000000000 + now.tv_nsec - from.tv_nsec < 40000000);
    bh_waitgroup_done(&done);
}

static void
answer(void *args)
{
    struct bh_conn *c = *(struct bh_conn **)args;
    char            byte;

    while (bh_read(c, &byte, 1) == 1)
        (void)bh_write(c, &byte, 1);
    bh_conn_free(c);
}

static void
talk(void *args)
{
    struct bh_listener *l;
    struct bh_conn     *client, *server;
    char                byte = 'x';

    (void)args;
    if (bh_listen("127.0.0.1:0", &l) < 0 ||
        bh_dial(NULL, bh_listener_address(l), &client) < 0 || bh_accept(l, &server) < 0)
        exit(3);
    bh_go(answer, &server);
    for (int i = 0; i < 20; i++)
        if (bh_write(client, &byte, 1) < 0 || bh_read(client, &byte, 1) != 1)
            exit(3);
    bh_conn_free(client);
    bh_listener_free(l);
    bh_waitgroup_done(&done);
}

static void
request(void *args)
{
    (void)args;
    bh_flight_task(42, "GET /users/{id}");
    bh_flight_region(42, "handler");
    bh_flight_task(42, "again"); /* mistakes, which the reader must not see */
    bh_flight_region_end(42, "never begun");
    bh_flight_log(42, "trace_id", "4bf92f3577b34da6a3ce929d0e0e4736");
    bh_sleep(BH_MILLISECOND);
    bh_flight_region_end(42, "handler");
    bh_flight_task_end(42);
    bh_waitgroup_done(&done);
}

static void
write_file(const char *path, const char *data, size_t size)
{
    FILE *f = fopen(path, "w");

    if (f == NULL || fwrite(data, 1, size, f) != size || fclose(f) != 0) {
        perror(path);
        exit(3);
    }
}

/* What a recorder may have missed, each once: the reader must not notice. */
static void
write_gaps(const char *path)
{
#define EVENT(ns_, proc_, kind_, goroutine_, other_)                                           \
    {                                                                                          \
        .ns = (ns_), .proc = (proc_), .kind = BH_FLIGHT_##kind_, .goroutine = (goroutine_),    \
        .other = (other_), .why = "sleep"                                                      \
    }
    struct bh_flight_event events[] = {
        EVENT(10, 0, START, 1, 0),   EVENT(20, 0, STOP, 1, 0),
        EVENT(30, 0, START, 1, 0),   /* woken by nobody */
        EVENT(40, 0, START, 2, 0),   /* never seen before; the processor was taken from 1 */
        EVENT(50, 1, START, 1, 0),   /* which goes on elsewhere */
        EVENT(60, 1, UNBLOCK, 1, 3), /* waited since before */
        EVENT(70, 0, START, 1, 0),   /* running there, started here */
        EVENT(80, 1, END, 3, 0),     /* ended, and nobody saw it start */
        EVENT(90, 0, CREATE, 9, 4),  /* by one that was not known to run */
        EVENT(95, 0, END, 4, 0),
    };
    struct bh_timeline t = { events, sizeof events / sizeof events[0], 0 };
    char              *data;
    size_t             size;

    if (bh_timeline_go(&t, &data, &size) < 0)
        exit(3);
    write_file(path, data, size);
    free(data);
}

static void
app(void *args)
{
    static bh_fn *const work[] = { produce, consume, contend, contend, contend, nap,
                                   block,   hog,     hog,     hog,     talk,    request };
    char              **files = *(char ***)args, *data;
    struct bh_timeline  t;
    size_t              size;

    numbers = bh_chan_new(sizeof(int), 0);
    if (bh_flight_start(1 << 14) < 0)
        exit(3);
    bh_waitgroup_add(&done, (int)(sizeof work / sizeof work[0]));
    for (size_t i = 0; i < sizeof work / sizeof work[0]; i++)
        bh_go_start_(work[i], NULL, 0);
    bh_waitgroup_wait(&done);
    if (bh_timeline_collect(0, NULL, &t) < 0 || bh_timeline_go(&t, &data, &size) < 0)
        exit(3);
    write_file(files[0], data, size);
    free(data);
    if (bh_timeline_chrome(&t, &data, &size) < 0)
        exit(3);
    write_file(files[1], data, size);
    free(data);
    /* And of a ring that has forgotten the beginning. */
    t.count -= t.count / 3;
    memmove(t.events, t.events + t.count / 2, t.count * sizeof *t.events / 2);
    t.count /= 2;
    if (bh_timeline_go(&t, &data, &size) < 0)
        exit(3);
    write_file(files[2], data, size);
    free(data);
    bh_timeline_free(&t);
    write_gaps(files[3]);
    bh_chan_unref(numbers);
}

int
main(int argc, char **argv)
{
    char **files = argv + 1;

    if (argc != 5)
        return 2;
    return bh_main_with(&(struct bh_options){ .procs = 2 }, app, &files);
}
