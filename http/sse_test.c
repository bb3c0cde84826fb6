/* sse_test.c -- server-sent events. */
#include "http_fixture.h"

#include <errno.h>

#include <bulkhead/go/sync.h>
#include <bulkhead/http/sse.h>

static char            answer[1 << 16];
static struct bh_chan *ticks, *ended;

#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

static int
stream(struct bh_http_call *c, void *arg)
{
    const int64_t *heartbeat = arg;
    int            number, rc = bh_http_sse(c);

    while (rc == 0 && (rc = bh_http_sse_wait(c, ticks, &number, *heartbeat)) > 0) {
        char text[32];

        snprintf(text, sizeof text, "%d", number);
        rc = bh_http_sse_send(c, &(struct bh_http_event){ .data = text, .id = text });
    }
    if (ended != NULL)
        bh_send(ended, &rc);
    return rc < 0 ? rc : 0;
}

static int
every_form(struct bh_http_call *c, void *arg)
{
    static const struct bh_http_event events[] = {
        { .data = "one" },
        { .data = "a\nb\r\nc\rd\n",
          .event = "lines",
          .id = "7",
          .retry = 1500 * BH_MILLISECOND },
        { .data = "" },
        { .event = "empty" },
        { .id = "" },
    };

    (void)arg;
    EXPECT_EQ(bh_http_sse(c), 0);
    for (size_t i = 0; i < sizeof events / sizeof events[0]; i++)
        EXPECT_EQ(bh_http_sse_send(c, &events[i]), 0);
    EXPECT_EQ(bh_http_sse_comment(c, "ping\nevent: x"), 0);
    EXPECT_PANIC("http: line break in the event of an event",
                 bh_http_sse_send(c, &(struct bh_http_event){ .event = "a\nb" }));
    EXPECT_PANIC("http: line break in the id of an event",
                 bh_http_sse_send(c, &(struct bh_http_event){ .id = "a\rb" }));
    return bh_http_sse_send(c, &(struct bh_http_event){ .data = bh_http_last_event_id(c) });
}

static void
start(struct fixture *f, bh_http_fn *fn, const int64_t *heartbeat)
{
    ticks = BH_CHAN(int, 0);
    f->s = bh_http_server_new(&(struct bh_http_options){ .half_close = ended == NULL });
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /", fn, (int64_t *)(uintptr_t)heartbeat);
    fixture_start(f);
}

/* Until the reply has that text. */
static void
read_until(struct bh_conn *c, const char *text)
{
    size_t used = 0;

    answer[0] = '\0';
    while (strstr(answer, text) == NULL) {
        ssize_t n = bh_read(c, answer + used, sizeof answer - 1 - used);

        EXPECT(n > 0);
        used += (size_t)n;
        answer[used] = '\0';
    }
}

static const int64_t never = 0, often = 5 * BH_MILLISECOND;

TEST_REAL(sse, an_event_has_its_fields_and_a_line_for_each_line)
{
    static char    text[4096];
    struct fixture f;
    size_t         n = 0;

    start(&f, every_form, NULL);
    talk(&f, "GET / HTTP/1.0\r\nHost: a\r\nLast-Event-ID: 41\r\n\r\n", answer, sizeof answer);
    EXPECT_HAS(answer, "Content-Type: text/event-stream\r\n");
    EXPECT_HAS(answer, "Cache-Control: no-store\r\n");
    n += (size_t)snprintf(text + n, sizeof text - n, "data: one\n\n");
    n += (size_t)snprintf(
        text + n, sizeof text - n,
        "event: lines\nid: 7\nretry: 1500\ndata: a\ndata: b\ndata: c\ndata: d\ndata: \n\n");
    n += (size_t)snprintf(text + n, sizeof text - n, "data: \n\nevent: empty\n\nid: \n\n");
    snprintf(text + n, sizeof text - n, ": ping\n: event: x\n\ndata: 41\n\n");
    EXPECT_STR(body_of(answer), text);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(ticks);
}

TEST_REAL(sse, events_come_one_by_one_and_end_when_the_channel_is_closed)
{
    struct fixture  f;
    struct bh_conn *c;

    start(&f, stream, &never);
    c = fixture_dial(&f);
    send_text(c, GET);
    read_until(c, "\r\n\r\n"); /* the head comes before any event */
    for (int i = 1; i <= 3; i++) {
        char text[64];

        bh_send(ticks, &i);
        snprintf(text, sizeof text, "id: %d\ndata: %d\n\n", i, i);
        read_until(c, text);
    }
    bh_close(ticks);
    read_until(c, "0\r\n\r\n");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(ticks);
}

TEST_REAL(sse, a_client_that_leaves_and_a_draining_server_end_it)
{
    struct fixture  f;
    struct bh_conn *c;
    int             rc;

    ended = BH_CHAN(int, 1);
    start(&f, stream, &never);
    c = fixture_dial(&f);
    send_text(c, GET);
    read_until(c, "\r\n\r\n");
    bh_conn_free(c);
    bh_recv(ended, &rc);
    EXPECT_EQ(rc, BH_ECANCELED);
    c = fixture_dial(&f);
    send_text(c, GET);
    read_until(c, "\r\n\r\n");
    bh_http_stop(f.s);
    bh_recv(ended, &rc);
    EXPECT_EQ(rc, 0);
    read_until(c, "0\r\n\r\n"); /* whole */
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(ticks);
    bh_chan_unref(ended);
}

TEST_REAL(sse, a_quiet_stream_beats)
{
    struct fixture  f;
    struct bh_conn *c;

    start(&f, stream, &often);
    c = fixture_dial(&f);
    send_text(c, GET);
    for (int i = 0; i < 3; i++)
        read_until(c, ": \n\n");
    bh_send(ticks, &(int){ 9 });
    read_until(c, "data: 9\n\n");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(ticks);
}
