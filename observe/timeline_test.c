/* timeline_test.c -- timelines: gathered, written in two formats, served. */
#include "http_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/flight.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/json.h>
#include <bulkhead/observe/pprof.h>
#include <bulkhead/observe/timeline.h>

static void
yield_often(void *args)
{
    (void)args;
    for (int i = 0; i < 20; i++)
        bh_yield();
}

static void
make_events(void)
{
    for (int i = 0; i < 5; i++)
        bh_go_start_(yield_often, NULL, 0);
    while (bh_goroutine_count() > 1)
        bh_yield();
}

TEST(timeline, what_the_recorder_holds_comes_by_time)
{
    struct bh_timeline t;

    EXPECT_EQ(bh_timeline_collect(0, NULL, &t), -EAGAIN);
    EXPECT_EQ(bh_flight_start(0), 0);
    make_events();
    EXPECT_EQ(bh_timeline_collect(0, NULL, &t), 0);
    EXPECT(t.count > 100);
    for (size_t i = 1; i < t.count; i++)
        EXPECT(t.events[i].ns >= t.events[i - 1].ns);
    bh_timeline_free(&t);
    EXPECT(t.events == NULL);
    bh_flight_stop();
}

TEST(timeline, with_a_duration_only_what_happens_from_now_on)
{
    struct bh_timeline t;
    int64_t            from;

    EXPECT_EQ(bh_flight_start(0), 0);
    make_events();
    from = bh_now();
    EXPECT_EQ(bh_timeline_collect(20 * BH_MILLISECOND, NULL, &t), 0);
    EXPECT(t.count > 0 && t.events[0].ns >= from - BH_MILLISECOND);
    EXPECT(bh_now() - from >= 20 * BH_MILLISECOND);
    bh_timeline_free(&t);
    bh_flight_stop();
}

TEST(timeline, the_context_ends_the_waiting)
{
    struct bh_ctx     *ctx = bh_ctx_cancellable(bh_ctx_background());
    struct bh_timeline t;

    EXPECT_EQ(bh_flight_start(0), 0);
    bh_ctx_cancel(ctx);
    EXPECT_EQ(bh_timeline_collect(3600 * BH_SECOND, ctx, &t), bh_ctx_err(ctx));
    EXPECT(t.events == NULL);
    bh_ctx_end(ctx);
    bh_flight_stop();
}

static struct bh_flight_event
event(int64_t ns, int proc, enum bh_flight_kind kind, uint64_t goroutine, uint64_t other)
{
    return (struct bh_flight_event){ .ns = ns,
                                     .proc = proc,
                                     .kind = kind,
                                     .goroutine = goroutine,
                                     .other = other,
                                     .why = "sleep" };
}

/* Bytes of Go's format after the header: one batch, known events. */
TEST_PLAIN(timeline, go_gets_a_header_and_one_batch_for_each_processor)
{
    struct bh_flight_event e[] = {
        event(100, 0, BH_FLIGHT_START, 7, 0), event(200, 0, BH_FLIGHT_STOP, 7, 0),
        event(300, 0, BH_FLIGHT_END, 8, 0), /* which nobody has seen before */
    };
    struct bh_timeline t = { e, 3, 0 };
    char              *data;
    size_t             size;

    EXPECT_EQ(bh_timeline_go(&t, &data, &size), 0);
    EXPECT(size > 60 && memcmp(data, "go 1.19 trace\0\0\0", 16) == 0);
    EXPECT_EQ((unsigned char)data[16], 1 | 1 << 6); /* batch */
    EXPECT_EQ(data[17], 0);                         /* of processor 0 */
    EXPECT_EQ(data[18], 1);                         /* from tick 1 */
    free(data);
    t.count = 0;
    EXPECT_EQ(bh_timeline_go(&t, &data, &size), 0);
    EXPECT(size >= 16);
    free(data);
}

TEST_PLAIN(timeline, chrome_gets_slices_and_tasks)
{
    struct bh_flight_event e[] = {
        event(1000, 0, BH_FLIGHT_START, 7, 0),
        event(1500, 0, BH_FLIGHT_TASK, 7, 0x2a),
        event(3500, 0, BH_FLIGHT_STOP, 7, 0),
        event(4000, 1, BH_FLIGHT_START, 9, 0),
    };
    struct bh_timeline    t = { e, 4, 0 };
    struct bh_arena      *arena = bh_arena_new(0);
    const struct bh_json *v, *all;
    char                 *data;
    size_t                size;
    int                   slices = 0;

    (void)snprintf(e[1].text, sizeof e[1].text, "GET /\"quoted\"");
    EXPECT_EQ(bh_timeline_chrome(&t, &data, &size), 0);
    EXPECT_EQ(bh_json_parse(arena, data, size, &v), 0);
    all = bh_json_get(v, "traceEvents");
    for (const struct bh_json *m = all->first; m != NULL; m = m->next) {
        const char *phase = bh_json_text(m, "ph", "");

        if (strcmp(phase, "X") == 0 && slices++ == 0) {
            EXPECT_STR(bh_json_text(m, "name", ""), "goroutine 7");
            EXPECT(bh_json_number(m, "dur", 0) == 2.5);
        } else if (strcmp(phase, "b") == 0) {
            EXPECT_STR(bh_json_text(m, "name", ""), "GET /\"quoted\"");
            EXPECT_STR(bh_json_text(m, "id", ""), "0x2a");
        }
    }
    EXPECT_EQ(slices, 2); /* one is still running */
    free(data);
    bh_arena_free(arena);
}

static char answer[1 << 20];

/* Whoever closes a side has left, which would end the request's context. */
static const char *
get(struct fixture *f, const char *path)
{
    struct bh_conn *c = fixture_dial(f);
    char            request[200];

    (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: a\r\n\r\n", path);
    send_text(c, request);
    (void)read_reply(c, answer, sizeof answer);
    bh_conn_free(c);
    return answer;
}

TEST_REAL(timeline, the_page_gives_both_formats_and_refuses_nonsense)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /trace", bh_http_timeline, NULL);
    fixture_start(&f);
    EXPECT_STARTS(get(&f, "/trace?seconds=0"), "HTTP/1.1 404 ");
    EXPECT_EQ(bh_flight_start(0), 0);
    EXPECT_STARTS(get(&f, "/trace?seconds=x"), "HTTP/1.1 400 ");
    EXPECT_STARTS(get(&f, "/trace?seconds=61"), "HTTP/1.1 400 ");
    EXPECT_STARTS(get(&f, "/trace?format=xml"), "HTTP/1.1 400 ");
    EXPECT_STARTS(get(&f, "/trace?seconds=0.05"), "HTTP/1.1 200 ");
    EXPECT_HAS(get(&f, "/trace?seconds=0&format=chrome"), "\"traceEvents\":[");
    bh_flight_stop();
    EXPECT_EQ(fixture_stop(&f), 0);
}
