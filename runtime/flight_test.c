/* flight_test.c -- the flight recorder: what it keeps, in which order, and what it forgets. */
#include "test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/flight.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/sync.h>

enum { MOST = 4096 };

static struct bh_flight_event events[MOST];

static int
by_time(const void *a, const void *b)
{
    const struct bh_flight_event *x = a, *y = b;

    return (x->ns > y->ns) - (x->ns < y->ns);
}

/* All that is kept, oldest first. */
static size_t
read_all(void)
{
    size_t n = 0;

    for (int p = 0; p < bh_procs(); p++) {
        uint64_t cursor = 0;

        n += bh_flight_read(p, &cursor, events + n, MOST - n, NULL);
    }
    qsort(events, n, sizeof events[0], by_time);
    return n;
}

/* The first from `from` on; n if there is none. */
static size_t
find(size_t from, size_t n, enum bh_flight_kind kind, uint64_t goroutine, uint64_t other)
{
    while (from < n && !(events[from].kind == kind && events[from].goroutine == goroutine &&
                         events[from].other == other))
        from++;
    return from;
}

struct pair {
    struct bh_chan *c;
    uint64_t       *id;
};

static void __attribute__((noinline)) receiver(void *args)
{
    struct pair *p = args;
    int          value;

    *p->id = bh_id();
    (void)bh_recv(p->c, &value);
    __asm__ volatile("");
}

TEST(flight, a_goroutines_life_is_recorded_in_order)
{
    struct bh_chan *c = bh_chan_new(sizeof(int), 0);
    uint64_t        id = 0, me = bh_id();
    size_t          n, at;
    bool            named = false;

    EXPECT_EQ(bh_flight_start(1024), 0);
    EXPECT(bh_flight_on());
    bh_go(receiver, &(struct pair){ c, &id });
    while (id == 0)
        bh_yield();
    bh_yield();
    bh_send(c, &(int){ 1 });
    while (bh_goroutine_count() > 1)
        bh_yield();
    bh_flight_stop();
    EXPECT(!bh_flight_on());

    n = read_all();
    at = find(0, n, BH_FLIGHT_CREATE, me, id);
    EXPECT(at < n);
    at = find(at, n, BH_FLIGHT_START, id, 0);
    EXPECT(at < n);
    at = find(0, n, BH_FLIGHT_END, id, 0);
    EXPECT(at < n);
    at = find(0, n, BH_FLIGHT_STOP, id, 0);
    while (at < n && strcmp(events[at].why, "chan receive") != 0) /* it may make way before */
        at = find(at + 1, n, BH_FLIGHT_STOP, id, 0);
    EXPECT(at < n);
    for (int i = 0; i < events[at].depth; i++) {
        struct bh_frame f[BH_FRAMES_MAX];
        int             count = bh_symbolize(events[at].pcs[i], f, BH_FRAMES_MAX);

        for (int k = 0; k < count; k++)
            named = named || strcmp(f[k].function, "receiver") == 0;
    }
    EXPECT(named);
    at = find(at, n, BH_FLIGHT_UNBLOCK, me, id);
    EXPECT(at < n);
    bh_chan_unref(c);
}

TEST(flight, what_is_older_than_the_ring_is_lost_and_counted)
{
    uint64_t cursor = 0, lost = 0;
    size_t   n = 0, got;

    EXPECT_EQ(bh_flight_start(64), 0);
    for (int i = 0; i < 3; i++)
        bh_yield();
    for (int p = 0; p < bh_procs(); p++) {
        cursor = 0;
        n += bh_flight_read(p, &cursor, events, MOST, &lost);
    }
    EXPECT(n > 0 && lost == 0);
    cursor = 0;
    bh_lock_thread(); /* the marks below stay on few processors */
    for (int i = 0; i < 5000; i++)
        bh_flight_log(1, "i", "x");
    for (int p = 0; p < bh_procs(); p++) {
        cursor = 1; /* as if the first had been read */
        got = bh_flight_read(p, &cursor, events, MOST, &lost);
        EXPECT(got <= 64);
    }
    EXPECT(lost >= 5000 - 64 * (uint64_t)bh_procs() - 64);
    bh_unlock_thread();
    bh_flight_stop();
}

TEST(flight, marks_of_the_application_are_kept_and_cut)
{
    char   large[300];
    size_t n, at;

    memset(large, 'v', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    bh_flight_task(7, "before"); /* off: nothing */
    EXPECT_EQ(bh_flight_start(0), 0);
    EXPECT_EQ(bh_flight_start(16), 0); /* on already */
    bh_flight_task(7, "GET /users/{id}");
    bh_flight_region(7, "handler");
    bh_flight_log(7, "key", large);
    bh_flight_region_end(7, "handler");
    bh_flight_task_end(7);
    bh_flight_stop();
    bh_flight_task(7, "after");
    n = read_all();
    at = find(0, n, BH_FLIGHT_TASK, bh_id(), 7);
    EXPECT(at < n);
    EXPECT_STR(events[at].text, "GET /users/{id}");
    at = find(at, n, BH_FLIGHT_REGION, bh_id(), 7);
    EXPECT(at < n);
    at = find(at, n, BH_FLIGHT_LOG, bh_id(), 7);
    EXPECT(at < n && strncmp(events[at].text, "key=vvv", 7) == 0);
    EXPECT_EQ(strlen(events[at].text), BH_FLIGHT_TEXT - 1);
    at = find(at, n, BH_FLIGHT_REGION_END, bh_id(), 7);
    at = find(at, n, BH_FLIGHT_TASK_END, bh_id(), 7);
    EXPECT(at < n);
    EXPECT(find(0, n, BH_FLIGHT_TASK, bh_id(), 8) == n);
}

TEST(flight, the_last_events_of_a_goroutine_are_its_newest)
{
    struct bh_flight_event last[4];

    EXPECT_EQ(bh_flight_last(bh_id(), last, 4), 0); /* never started */
    EXPECT_EQ(bh_flight_start(0), 0);
    for (int i = 0; i < 10; i++)
        bh_flight_log(1, "n", (const char[]){ (char)('0' + i), '\0' });
    EXPECT_EQ(bh_flight_last(bh_id(), last, 4), 4);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(last[i].text[2], '6' + i);
    EXPECT_EQ(bh_flight_last(bh_id() + 1000, last, 4), 0);
    EXPECT_EQ(bh_flight_last(bh_id(), last, 0), 0);
    bh_flight_stop();
}

static void
busy(void *args)
{
    struct bh_waitgroup *w = *(struct bh_waitgroup **)args;

    for (int i = 0; i < 2000; i++)
        bh_yield();
    bh_waitgroup_done(w);
}

/* Readers beside writers: what is read is whole, and each processor's in its order. */
TEST_REAL(flight, readers_beside_writers_see_whole_events)
{
    struct bh_waitgroup w = { 0 }, *pointer = &w;
    uint64_t            cursor[64] = { 0 }, seen = 0;

    EXPECT_EQ(bh_flight_start(256), 0);
    bh_waitgroup_add(&w, 8);
    for (int i = 0; i < 8; i++)
        bh_go(busy, &pointer);
    for (int round = 0; round < 300; round++) {
        for (int p = 0; p < bh_procs() && p < 64; p++) {
            size_t n = bh_flight_read(p, &cursor[p], events, MOST, NULL);

            seen += n;
            for (size_t i = 0; i < n; i++) {
                EXPECT(events[i].kind > BH_FLIGHT_NONE && events[i].kind < BH_FLIGHT_KINDS);
                EXPECT(events[i].goroutine != 0 || events[i].other != 0);
                EXPECT(i == 0 || events[i].ns >= events[i - 1].ns);
            }
        }
        bh_yield();
    }
    bh_waitgroup_wait(&w);
    EXPECT(seen > 1000);
    bh_flight_stop();
}

TEST(flight, there_is_nothing_to_read_of_a_processor_that_is_not)
{
    uint64_t cursor = 0;

    EXPECT_EQ(bh_flight_read(-1, &cursor, events, 1, NULL), 0);
    EXPECT_EQ(bh_flight_read(bh_procs(), &cursor, events, 1, NULL), 0);
    EXPECT_EQ(bh_flight_read(0, &cursor, events, 1, NULL), 0); /* never on */
}
