/* http2_rules_test.c -- HTTP/2: what is refused and how, what is limited, what crashes and ends. */
#include "h2_client.h"

#include <errno.h>

#include <bulkhead/go/sync.h>
#include <bulkhead/http/limits.h>

static struct h2_client one;
static struct h2_reply  reply;
static struct bh_chan  *go_on, *events;

/* ---- handlers -------------------------------------------------------------------- */

static void
tell(char event)
{
    bh_send(events, &event);
}

static char
told(void)
{
    char event = 0;

    EXPECT(bh_recv(events, &event));
    return event;
}

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "hello\n");
}

static int
echo(struct bh_http_call *c, void *arg)
{
    const char *data;
    ssize_t     size = bh_http_body(c, &data);

    (void)arg;
    return size < 0 ? (int)size : bh_http_reply(c, 200, "%zd\n", size);
}

/* Says 'b', waits to be told to go on or for its client to leave, says 'f' or 'l'. */
static int
waits(struct bh_http_call *c, void *arg)
{
    enum { GO, GONE };
    struct bh_ctx *ctx = bh_http_ctx(c);

    (void)arg;
    tell('b');
    if (bh_select([GO] = BH_RECV(go_on, NULL), [GONE] = BH_RECV(bh_ctx_done(ctx), NULL)) ==
        GONE) {
        tell('l');
        return bh_ctx_err(ctx);
    }
    tell('f');
    return bh_http_reply(c, 200, "waited\n");
}

/* Does not care whether its client leaves. */
static int
stubborn(struct bh_http_call *c, void *arg)
{
    (void)arg;
    tell('b');
    (void)bh_recv(go_on, NULL);
    return bh_http_reply(c, 200, "done\n");
}

static int *volatile nowhere;

static int
panics(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)c;
    bh_panic("broken");
}

static int
faults(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%d\n", *nowhere);
}

__attribute__((noinline)) static int
descend(volatile char *above, int depth)
{
    volatile char here[512];

    here[0] = *above;
    return depth < 0 ? 0 : descend(here, depth + 1) + here[0];
}

static int
overflows(struct bh_http_call *c, void *arg)
{
    char here = 0;

    (void)arg;
    return bh_http_reply(c, 200, "%d\n", descend(&here, 0));
}

/* A body that is not there: it faults when the wire takes it. */
static int
bad_body(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply_bytes(c, 200, "text/plain", (const char *)(uintptr_t)64, 30000);
}

static int
panics_late(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_print(c, "half");
    (void)bh_http_flush(c);
    bh_panic("broken late");
}

static int
aborts(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_abort(c);
}

static int
exits(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)c;
    bh_goexit();
}

static int
short_of(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", 100);
    bh_http_print(c, "half");
    return bh_http_flush(c);
}

/* More than a window of it, at once. */
static int
fills_the_window(struct bh_http_call *c, void *arg)
{
    static char data[100000];

    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    return bh_http_write(c, data, sizeof data);
}

static void
make_server(struct fixture *f, struct bh_http_options *o)
{
    go_on = BH_CHAN(char, 0);
    events = BH_CHAN(char, 1024);
    f->s = bh_http_server_new(o);
    bh_http_use(f->s, bh_http_recover, NULL);
}

static void
add_routes(struct fixture *f)
{
    bh_http_handle(f->s, "GET /hello", hello, NULL);
    bh_http_handle(f->s, "POST /echo", echo, NULL);
    bh_http_handle(f->s, "GET /waits", waits, NULL);
    bh_http_handle(f->s, "POST /waits", waits, NULL);
    bh_http_handle(f->s, "GET /stubborn", stubborn, NULL);
    bh_http_handle(f->s, "GET /panics", panics, NULL);
    bh_http_handle(f->s, "GET /faults", faults, NULL);
    bh_http_handle(f->s, "GET /overflows", overflows, NULL);
    bh_http_handle(f->s, "GET /bad-body", bad_body, NULL);
    bh_http_handle(f->s, "GET /panics-late", panics_late, NULL);
    bh_http_handle(f->s, "GET /aborts", aborts, NULL);
    bh_http_handle(f->s, "GET /exits", exits, NULL);
    bh_http_handle(f->s, "GET /short", short_of, NULL);
    bh_http_handle(f->s, "GET /fills-the-window", fills_the_window, NULL);
    fixture_start(f);
    h2_open(&one, f, NULL, 0);
}

static void
start_with(struct fixture *f, struct bh_http_options *o)
{
    make_server(f, o);
    add_routes(f);
}

static void
start(struct fixture *f)
{
    start_with(f, NULL);
}

static void
stop(struct fixture *f)
{
    h2_close(&one);
    EXPECT_EQ(fixture_stop(f), 0);
    bh_chan_unref(go_on);
    bh_chan_unref(events);
}

/* The connection is in order. */
static void
expect_alive(uint32_t id)
{
    h2_get(&one, id, "/hello");
    EXPECT_EQ(h2_read(&one, id, &reply), 200);
}

/* ---- what is malformed ----------------------------------------------------------- */

TEST_REAL(http2_rules, malformed_request_is_reset_and_the_next_one_answered)
{
#define G H2_GET("/hello")
    static const char *const cases[] = {
        G "X-Capital: 1\n",
        G "connection: close\n",
        G "keep-alive: 1\n",
        G "proxy-connection: close\n",
        G "transfer-encoding: chunked\n",
        G "upgrade: h2c\n",
        G "te: gzip\n",
        G "te: trailers, gzip\n",
        G ":path: /again\n",
        G ":method: GET\n",
        G "x-one: 1\n:scheme: http\n",
        G ":unknown: 1\n",
        G ":status: 200\n",
        G "content-length: 5\n", /* and there is none */
        G "content-length: x\n",
        G "content-length: -1\n",
        G "content-length: 0\ncontent-length: 0\n",
        G "bad name: 1\n",
        G "bad\x01name: 1\n",
        G "x-bad: a\rb\n",
        G "x-bad: a\x01\n",
        G "x-bad:  leading\n",
        G "x-bad: trailing \n",
        G "host: a.test\nhost: a.test\n",
        ":scheme: http\n:path: /hello\n:authority: a.test\n",
        ":method: GET\n:path: /hello\n:authority: a.test\n",
        ":method: GET\n:scheme: http\n:authority: a.test\n",
        ":method: GET\n:scheme: http\n:path: \n:authority: a.test\n",
        ":method: GET\n:scheme: http\n:path: hello\n:authority: a.test\n",
        ":method: GET\n:scheme: http\n:path: http://a.test/hello\n:authority: a.test\n",
        ":method: GET\n:scheme: http\n:path: *\n:authority: a.test\n",
        ":method: GET\n:scheme: http\n:path: /hello\n",
        ":method: GET\n:scheme: http\n:path: /hello\n:authority: a b\n",
        ":method: CONNECT\n:scheme: http\n:path: /hello\n:authority: a.test:443\n",
        "x-one: 1\n",
    };
    struct fixture f;
    uint32_t       id = 1;

    start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++, id += 2) {
        h2_headers(&one, id, END_STREAM, cases[i]);
        (void)h2_read(&one, id, &reply);
        if (reply.reset != NGHTTP2_PROTOCOL_ERROR || reply.status != 0)
            test_failed(__FILE__, __LINE__, "reset %d, status %d for\n%s", reply.reset,
                        reply.status, cases[i]);
    }
    (void)h2_send(&one, HEADERS, 5, id, "\x82\x86\x84\x41\1a\0\0\1x", 10); /* no name */
    (void)h2_read(&one, id, &reply);
    EXPECT_EQ(reply.reset, NGHTTP2_PROTOCOL_ERROR);
    expect_alive(id + 2);
    stop(&f);
}

TEST_REAL(http2_rules, body_of_another_length_than_announced_is_reset)
{
    struct fixture f;

    start(&f);
    h2_headers(&one, 1, 0, H2_HEAD("POST", "/echo") "content-length: 5\n");
    EXPECT(h2_send(&one, DATA, END_STREAM, 1, "1234", 4));
    EXPECT_EQ(h2_read(&one, 1, &reply), 0);
    EXPECT_EQ(reply.reset, NGHTTP2_PROTOCOL_ERROR);
    h2_headers(&one, 3, 0, H2_HEAD("POST", "/echo") "content-length: 5\n");
    EXPECT(h2_send(&one, DATA, 0, 3, "123456", 6));
    EXPECT_EQ(h2_read(&one, 3, &reply), 0);
    EXPECT_EQ(reply.reset, NGHTTP2_PROTOCOL_ERROR);
    h2_headers(&one, 5, 0, H2_HEAD("POST", "/echo"));
    h2_headers(&one, 5, END_STREAM, ":path: /trailers\n");
    EXPECT_EQ(h2_read(&one, 5, &reply), 0);
    EXPECT_EQ(reply.reset, NGHTTP2_PROTOCOL_ERROR);
    expect_alive(7);
    stop(&f);
}

TEST_REAL(http2_rules, request_that_makes_no_sense_gets_the_status_it_has_in_http1)
{
#define REST ":scheme: http\n:authority: a.test\n"
    static const struct {
        int         status;
        const char *lines;
    } cases[] = {
        { 400, ":method: GET\n:path: /a/../b\n" REST },
        { 400, ":method: GET\n:path: /a/%2e%2e/b\n" REST },
        { 400, ":method: GET\n:path: /%zz\n" REST },
        { 400, ":method: GET\n:path: /%00\n" REST },
        { 400, ":method: GET\n:path: /a#b\n" REST },
        { 400, ":method: GET\n:path: /\x80\n" REST },
        { 400, ":method: GET\n:scheme: http\n:path: /hello\n:authority: a.test:99999\n" },
        { 400, ":method: GET\n:scheme: http\n:path: /hello\n:authority: u@a.test\n" },
        { 400, ":method: GET\n:scheme: ftp\n:path: /hello\n:authority: a.test\n" },
        { 400, H2_GET("/hello") "host: b.test\n" },
        { 501, ":method: get\n:path: /hello\n" REST },
        { 501, ":method: CONNECT\n:authority: a.test:443\n" },
        { 405, H2_HEAD("DELETE", "/hello") },
        { 404, H2_GET("/nowhere") },
        { 204, H2_HEAD("OPTIONS", "/hello") },
        { 204, ":method: OPTIONS\n:path: *\n" REST },
        { 417, H2_GET("/hello") "expect: magic\n" },
    };
    struct fixture f;
    uint32_t       id = 1;

    start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++, id += 2) {
        h2_headers(&one, id, END_STREAM, cases[i].lines);
        (void)h2_read(&one, id, &reply);
        if (reply.status != cases[i].status)
            test_failed(__FILE__, __LINE__, "reset %d, status %d for\n%s", reply.reset,
                        reply.status, cases[i].lines);
    }
    expect_alive(id);
    stop(&f);
}

static char lines[65536];

/* Returns: the length of lines, with text and n bytes of `fill` put behind the first `at`. */
static size_t
put_lines(size_t at, const char *text, char fill, size_t n)
{
    size_t length = strlen(text);

    EXPECT(at + length + n + 2 < sizeof lines);
    memcpy(lines + at, text, length);
    memset(lines + at + length, fill, n);
    memcpy(lines + at + length + n, "\n", 2);
    return at + length + n + 1;
}

TEST_REAL(http2_rules, heads_over_the_limits_are_414_and_431)
{
    struct fixture f;
    char           field[16];
    size_t         n;

    start(&f);
    (void)put_lines(0, ":method: GET\n:scheme: http\n:authority: a\n:path: /", 'p', 9000);
    h2_headers(&one, 1, END_STREAM, lines);
    EXPECT_EQ(h2_read(&one, 1, &reply), 414);
    n = put_lines(0, H2_GET("/hello") "x-a: ", '1', 1);
    for (int i = 0; i < 100; i++) {
        snprintf(field, sizeof field, "x-%d: ", i);
        n = put_lines(n, field, '1', 1);
    }
    h2_headers(&one, 3, END_STREAM, lines);
    EXPECT_EQ(h2_read(&one, 3, &reply), 431);
    (void)put_lines(0, H2_GET("/hello") "x-a: ", 'a', 12000);
    h2_headers(&one, 5, END_STREAM, lines);
    EXPECT_EQ(h2_read(&one, 5, &reply), 200);
    stop(&f);
}

/* 40,000 bytes of a field, in three frames. */
TEST_REAL(http2_rules, head_that_continues_over_the_limit_is_431)
{
    static uint8_t block[H2_BLOCK];
    struct fixture f;
    size_t         size;

    start(&f);
    (void)put_lines(0, H2_GET("/hello") "x-a: ", 'a', 40000);
    size = h2_block(block, lines);
    EXPECT(h2_send(&one, HEADERS, END_STREAM, 1, block, 16384));
    EXPECT(h2_send(&one, CONTINUATION, 0, 1, block + 16384, 16384));
    EXPECT(h2_send(&one, CONTINUATION, END_HEADERS, 1, block + 32768, size - 32768));
    EXPECT_EQ(h2_read(&one, 1, &reply), 431);
    expect_alive(3);
    stop(&f);
}

/* ---- what ends a connection ------------------------------------------------------ */

struct wrong {
    const char *what;
    int         code; /* of GOAWAY; -2: any */
    int         type, flags;
    uint32_t    id;
    const char *payload;
    size_t      size;
};

TEST_REAL(http2_rules, frames_that_break_the_protocol_end_the_connection)
{
    static char               big[20000];
    static const struct wrong cases[] = {
        { "DATA on no stream", 1, DATA, 0, 0, "x", 1 },
        { "DATA on an idle stream", 1, DATA, 0, 7, "x", 1 },
        { "HEADERS on no stream", 1, HEADERS, 5, 0, "\x82", 1 },
        { "HEADERS of an even stream", 1, HEADERS, 5, 2, "\x82\x84\x86", 3 },
        { "HEADERS padded beyond their end", 1, HEADERS, 0xd, 1, "\x09\x82\x84\x86", 4 },
        { "an index that no table has", 9, HEADERS, 5, 1, "\xff\xff\x7f", 3 },
        { "index 0", 9, HEADERS, 5, 1, "\x80", 1 },
        { "a literal cut off", 9, HEADERS, 5, 1, "\x00\x05xy", 4 },
        { "a table size beyond what was agreed", 9, HEADERS, 5, 1, "\x3f\xff\xff\x7f", 4 },
        { "CONTINUATION of nothing", 1, CONTINUATION, 4, 1, "\x82", 1 },
        { "RST_STREAM on an idle stream", 1, RST_STREAM, 0, 7, "\0\0\0\0", 4 },
        { "RST_STREAM on no stream", 1, RST_STREAM, 0, 0, "\0\0\0\0", 4 },
        { "RST_STREAM of 3 bytes", 6, RST_STREAM, 0, 1, "\0\0\0", 3 },
        { "SETTINGS on a stream", 1, SETTINGS, 0, 1, "", 0 },
        { "SETTINGS of 5 bytes", 6, SETTINGS, 0, 0, "\0\1\0\0\0", 5 },
        { "SETTINGS acknowledged with content", 6, SETTINGS, 1, 0, "\0\1\0\0\0\0", 6 },
        { "a push enabled by 2", 1, SETTINGS, 0, 0, "\0\2\0\0\0\2", 6 },
        { "a window over 2^31-1", 3, SETTINGS, 0, 0, "\0\4\x80\0\0\0", 6 },
        { "a frame size under 2^14", 1, SETTINGS, 0, 0, "\0\5\0\0\x3f\xff", 6 },
        { "PUSH_PROMISE", 1, PUSH_PROMISE, 4, 1, "\0\0\0\2\x82", 5 },
        { "PING of 7 bytes", 6, PING, 0, 0, "1234567", 7 },
        { "PING on a stream", 1, PING, 0, 1, "12345678", 8 },
        { "GOAWAY on a stream", 1, GOAWAY, 0, 1, "\0\0\0\0\0\0\0\0", 8 },
        { "WINDOW_UPDATE by 0", 1, WINDOW_UPDATE, 0, 0, "\0\0\0\0", 4 },
        { "WINDOW_UPDATE beyond 2^31-1", 3, WINDOW_UPDATE, 0, 0, "\x7f\xff\xff\xff", 4 },
        { "WINDOW_UPDATE of 3 bytes", 6, WINDOW_UPDATE, 0, 0, "\0\0\1", 3 },
        { "WINDOW_UPDATE on an idle stream", 1, WINDOW_UPDATE, 0, 7, "\0\0\0\1", 4 },
        { "a frame over 2^14", 6, DATA, 0, 1, big, sizeof big },
    };
    struct fixture f;

    start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const struct wrong *w = &cases[i];
        int                 code;

        h2_close(&one);
        h2_open(&one, &f, NULL, 0);
        (void)h2_send(&one, w->type, w->flags, w->id, w->payload, w->size);
        code = h2_read_to_end(&one);
        if (code != w->code)
            test_failed(__FILE__, __LINE__, "GOAWAY %d for %s", code, w->what);
    }
    h2_close(&one);
    h2_open(&one, &f, NULL, 0);
    expect_alive(1);
    stop(&f);
}

TEST_REAL(http2_rules, header_block_is_interrupted_by_nothing)
{
    struct fixture f;

    start(&f);
    EXPECT(h2_send(&one, HEADERS, END_STREAM, 1, "\x82", 1));
    EXPECT(h2_send(&one, PING, 0, 0, "12345678", 8));
    EXPECT_EQ(h2_read_to_end(&one), NGHTTP2_PROTOCOL_ERROR);
    h2_close(&one);
    h2_open(&one, &f, NULL, 0);
    expect_alive(5);
    h2_get(&one, 3, "/hello"); /* an id that was passed over is closed: no request */
    expect_alive(7);
    stop(&f);
}

TEST_REAL(http2_rules, unknown_frames_and_settings_are_ignored)
{
    struct fixture f;

    start(&f);
    EXPECT(h2_send(&one, 0x77, 0xff, 0, "whatever", 8));
    EXPECT(h2_send(&one, SETTINGS, 0, 0, "\x33\x33\0\0\0\1", 6));
    EXPECT(h2_send(&one, PRIORITY, 0, 9, "\0\0\0\x03\x10", 5));
    EXPECT(h2_send(&one, 0x10, 0, 0, "\0\0\0\1u=0", 7)); /* PRIORITY_UPDATE */
    expect_alive(1);
    stop(&f);
}

/* ---- floods ---------------------------------------------------------------------- */

static const struct {
    const char *what;
    int         type, flags;
    uint32_t    id;
    const char *payload;
    size_t      size;
} noises[] = {
    { "PING", PING, 0, 0, "12345678", 8 },
    { "SETTINGS", SETTINGS, 0, 0, "", 0 },
    { "PRIORITY", PRIORITY, 0, 9, "\0\0\0\0\0", 5 },
};

TEST_REAL(http2_rules, frames_that_say_nothing_are_limited)
{
    enum { COUNT = 20000 };
    static uint8_t all[COUNT * 17];
    struct fixture f;

    start(&f);
    for (size_t i = 0; i < sizeof noises / sizeof noises[0]; i++) {
        uint8_t *at = all;
        int      code;

        for (int j = 0; j < COUNT; j++)
            at = h2_make(at, noises[i].type, noises[i].flags, noises[i].id, noises[i].payload,
                         noises[i].size);
        (void)bh_write(one.c, all, (size_t)(at - all));
        code = h2_read_to_end(&one);
        if (code != NGHTTP2_ENHANCE_YOUR_CALM)
            test_failed(__FILE__, __LINE__, "GOAWAY %d for %s", code, noises[i].what);
        h2_close(&one);
        h2_open(&one, &f, NULL, 0);
    }
    expect_alive(1);
    stop(&f);
}

TEST_REAL(http2_rules, empty_data_is_limited)
{
    struct fixture f;
    bool           sent = true;

    start(&f);
    h2_headers(&one, 1, 0, H2_HEAD("POST", "/echo"));
    for (int i = 0; i < 20000 && sent; i++)
        sent = h2_send(&one, DATA, 0, 1, NULL, 0);
    EXPECT_EQ(h2_read_to_end(&one), NGHTTP2_ENHANCE_YOUR_CALM);
    stop(&f);
}

TEST_REAL(http2_rules, continuation_without_end_is_limited)
{
    struct fixture f;
    bool           sent = true;

    start(&f);
    EXPECT(h2_send(&one, HEADERS, END_STREAM, 1, "\x82", 1));
    for (int i = 0; i < 100 && sent; i++)
        sent = h2_send(&one, CONTINUATION, 0, 1, "\x00\x01x\x01y", 5);
    EXPECT(h2_read_to_end(&one) > 0);
    stop(&f);
}

TEST_REAL(http2_rules, rapid_reset_ends_the_connection_and_no_handler_runs_twice_over)
{
    struct fixture f;
    bool           sent = true;
    uint32_t       id = 1;

    start(&f);
    for (; id < 20000 && sent; id += 2) {
        h2_get(&one, id, "/hello");
        h2_send32(&one, RST_STREAM, id, NGHTTP2_CANCEL);
        sent = h2_send(&one, WINDOW_UPDATE, 0, 0, "\0\0\0\1", 4);
    }
    EXPECT_EQ(h2_read_to_end(&one), NGHTTP2_ENHANCE_YOUR_CALM);
    h2_close(&one);
    h2_open(&one, &f, NULL, 0);
    expect_alive(1);
    stop(&f);
}

/* The client makes us reset its streams: the same attack by another way. */
TEST_REAL(http2_rules, resets_that_the_client_provokes_are_limited_too)
{
    struct fixture f;
    bool           closed = false;

    start(&f);
    for (uint32_t id = 1; id < 20000 && !closed; id += 2) {
        h2_get(&one, id, "/stubborn");
        h2_send32(&one, WINDOW_UPDATE, id, 0x7fffffff);
        (void)h2_read(&one, id, &reply);
        EXPECT_EQ(reply.status, 0);
        closed = reply.closed;
    }
    EXPECT_EQ(reply.goaway, NGHTTP2_ENHANCE_YOUR_CALM);
    bh_close(go_on);
    stop(&f);
}

TEST_REAL(http2_rules, request_whose_client_has_left_keeps_its_place_until_it_is_done)
{
    enum { STREAMS = 128 };
    struct fixture f;
    uint32_t       id = 1;

    start(&f);
    for (; id < 2 * STREAMS; id += 2)
        h2_get(&one, id, "/stubborn");
    for (int i = 0; i < STREAMS; i++)
        EXPECT_EQ(told(), 'b');
    for (id = 1; id < 2 * STREAMS; id += 2)
        h2_send32(&one, RST_STREAM, id, NGHTTP2_CANCEL);
    h2_get(&one, id, "/hello");
    EXPECT_EQ(h2_read(&one, id, &reply), 0);
    EXPECT_EQ(reply.reset, NGHTTP2_REFUSED_STREAM);
    bh_close(go_on);
    do { /* as soon as one of them is done */
        id += 2;
        h2_get(&one, id, "/hello");
    } while (h2_read(&one, id, &reply) == 0 && reply.reset == NGHTTP2_REFUSED_STREAM);
    EXPECT_EQ(reply.status, 200);
    stop(&f);
}

TEST_REAL(http2_rules, more_streams_than_allowed_are_refused)
{
    enum { STREAMS = 128 };
    struct fixture f;

    start(&f);
    for (uint32_t i = 0; i < STREAMS; i++)
        h2_get(&one, 2 * i + 1, "/waits");
    for (int i = 0; i < STREAMS; i++)
        EXPECT_EQ(told(), 'b');
    h2_get(&one, 2 * STREAMS + 1, "/hello");
    EXPECT_EQ(h2_read(&one, 2 * STREAMS + 1, &reply), 0);
    EXPECT_EQ(reply.reset, NGHTTP2_REFUSED_STREAM);
    for (int i = 0; i < STREAMS; i++)
        bh_send(go_on, &(char){ 0 });
    stop(&f);
}

/* ---- crashes --------------------------------------------------------------------- */

TEST_REAL(http2_rules, crash_is_a_500_of_its_stream)
{
    static const char *const paths[] = { "/panics", "/faults", "/overflows" };
    struct fixture           f;
    uint32_t                 id = 3;

    start(&f);
    h2_get(&one, 1, "/waits");
    EXPECT_EQ(told(), 'b');
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++, id += 2) {
        h2_get(&one, id, paths[i]);
        EXPECT_EQ(h2_read(&one, id, &reply), 500);
    }
    bh_send(go_on, &(char){ 0 });
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    stop(&f);
}

TEST_REAL(http2_rules, reply_that_breaks_is_a_reset_of_its_stream)
{
    static const char *const paths[] = { "/panics-late", "/aborts", "/exits", "/short",
                                         "/bad-body" };
    struct fixture           f;
    uint32_t                 id = 3;

    start(&f);
    h2_get(&one, 1, "/waits");
    EXPECT_EQ(told(), 'b');
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++, id += 2) {
        h2_get(&one, id, paths[i]);
        (void)h2_read(&one, id, &reply);
        if (reply.reset != NGHTTP2_INTERNAL_ERROR || reply.ended)
            test_failed(__FILE__, __LINE__, "%s: status %d, reset %d", paths[i], reply.status,
                        reply.reset);
    }
    expect_alive(id);
    bh_send(go_on, &(char){ 0 });
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    stop(&f);
}

TEST_REAL(http2_rules, storm_of_crashes_loses_no_other_request)
{
    enum { ROUNDS = 100, BATCH = 50 };
    static const char *const paths[] = { "/hello", "/panics", "/hello", "/faults", "/exits" };
    static uint8_t           all[BATCH * 128];
    struct fixture           f;
    int                      good = 0, bad = 0, reset = 0;
    uint32_t                 id = 1;

    start(&f);
    for (int round = 0; round < ROUNDS; round++) {
        uint8_t *at = all;
        int      over = 0;

        for (int i = 0; i < BATCH; i++, id += 2) {
            char    text[256];
            uint8_t block[256];

            snprintf(text, sizeof text, ":method: GET\n:path: %s\n" REST, paths[i % 5]);
            at = h2_make(at, HEADERS, 5, id, block, h2_block(block, text));
        }
        EXPECT_EQ(bh_write(one.c, all, (size_t)(at - all)), at - all);
        while (over < BATCH) {
            memset(&reply, 0, sizeof reply);
            switch (h2_step(&one, &reply, one.f.id)) {
            case CLOSED:
                EXPECT(!"closed");
                break;
            case DATA:
                over += (one.f.flags & END_STREAM) != 0;
                good += memcmp(one.f.payload, "hello\n", 6) == 0;
                bad += memcmp(one.f.payload, "500 ", 4) == 0;
                break;
            case RST_STREAM:
                reset++;
                over++;
                break;
            default:
                break;
            }
        }
    }
    EXPECT_EQ(good, ROUNDS * BATCH * 2 / 5);
    EXPECT_EQ(bad, ROUNDS * BATCH * 2 / 5);
    EXPECT_EQ(reset, ROUNDS * BATCH / 5);
    stop(&f);
}

/* ---- chaos ----------------------------------------------------------------------- */

struct rude {
    struct fixture      *f;
    struct bh_waitgroup *done;
    unsigned             seed;
};

static unsigned
next(unsigned *seed)
{
    return (*seed = *seed * 1664525u + 1013904223u) >> 8;
}

/* Opens connections, asks for anything, resets some of it, and leaves without a word. */
static void
be_rude(void *args)
{
    static const char *const paths[] = { "/hello",       "/panics", "/exits",
                                         "/panics-late", "/waits",  "/aborts" };
    struct rude             *r = args;
    uint8_t                  out[4096], block[256];

    BH_DEFER(bh_waitgroup_done, r->done);
    for (int round = 0; round < 40; round++) {
        struct bh_conn *c = fixture_dial(r->f);
        uint8_t        *at = out;
        uint32_t        id = 1;

        send_text(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        at = h2_make(at, SETTINGS, 0, 0, NULL, 0);
        for (unsigned n = next(&r->seed) % 20; n > 0; n--, id += 2) {
            char text[128];
            bool post = next(&r->seed) % 4 == 0;

            snprintf(text, sizeof text, ":method: %s\n:path: %s\n" REST, post ? "POST" : "GET",
                     post ? "/echo" : paths[next(&r->seed) % 6]);
            at = h2_make(at, HEADERS, post ? 4 : 5, id, block, h2_block(block, text));
            if (post && next(&r->seed) % 2 == 0)
                at = h2_make(at, DATA, (int)(next(&r->seed) % 2), id, "some bytes", 10);
            if (next(&r->seed) % 4 == 0)
                at = h2_make(at, RST_STREAM, 0, id, "\0\0\0\x8", 4);
            if (next(&r->seed) % 4 == 0) {
                (void)bh_write(c, out, (size_t)(at - out));
                at = out;
            }
            if (next(&r->seed) % 8 == 0)
                bh_yield();
        }
        (void)bh_write(c, out, (size_t)(at - out));
        if (next(&r->seed) % 2 == 0)
            (void)bh_read(c, out, sizeof out);
        if (next(&r->seed) % 2 == 0)
            bh_conn_abort(c);
        bh_conn_free(c);
    }
}

TEST_REAL(http2_rules, rude_clients_leave_nothing_behind)
{
    enum { CLIENTS = 16 };
    struct bh_http_stats stats;
    struct bh_waitgroup  done = { 0 };
    struct fixture       f;

    start(&f);
    bh_chan_unref(events);
    events = BH_CHAN(char, 100000);
    bh_waitgroup_add(&done, CLIENTS);
    for (unsigned i = 0; i < CLIENTS; i++)
        bh_go(be_rude, &(struct rude){ &f, &done, i });
    bh_waitgroup_wait(&done);
    expect_alive(1);
    do { /* all but `one` have ended, with their requests */
        bh_http_stats(f.s, &stats);
        bh_yield();
    } while (stats.open > 1 || stats.active > 0);
    stop(&f);
}

/* ---- clients that leave ---------------------------------------------------------- */

TEST_REAL(http2_rules, reset_ends_the_context_of_its_request)
{
    struct fixture f;

    start(&f);
    h2_get(&one, 1, "/waits");
    h2_headers(&one, 3, 0, H2_HEAD("POST", "/waits"));
    EXPECT(h2_send(&one, DATA, 0, 3, "unread", 6));
    EXPECT_EQ(told(), 'b');
    EXPECT_EQ(told(), 'b');
    h2_send32(&one, RST_STREAM, 1, NGHTTP2_CANCEL);
    EXPECT_EQ(told(), 'l');
    h2_send32(&one, RST_STREAM, 3, NGHTTP2_CANCEL);
    EXPECT_EQ(told(), 'l');
    expect_alive(5);
    stop(&f);
}

TEST_REAL(http2_rules, disconnect_ends_the_contexts_of_all_its_requests)
{
    enum { COUNT = 10 };
    struct fixture f;
    int64_t        begun;

    start(&f);
    for (uint32_t i = 0; i < COUNT; i++)
        h2_get(&one, 2 * i + 1, "/waits");
    h2_headers(&one, 2 * COUNT + 1, 0, H2_HEAD("POST", "/echo"));
    for (int i = 0; i < COUNT; i++)
        EXPECT_EQ(told(), 'b');
    begun = bh_now();
    bh_conn_close(one.c);
    for (int i = 0; i < COUNT; i++)
        EXPECT_EQ(told(), 'l');
    EXPECT(bh_now() - begun < 500 * BH_MILLISECOND);
    stop(&f);
}

TEST_REAL(http2_rules, idle_connection_is_closed_and_so_is_one_with_half_a_head)
{
    struct fixture f;

    start_with(&f, &(struct bh_http_options){ .idle_timeout = 150 * BH_MILLISECOND,
                                              .head_timeout = 150 * BH_MILLISECOND });
    expect_alive(1);
    EXPECT_EQ(h2_read_to_end(&one), NGHTTP2_NO_ERROR);
    h2_close(&one);
    h2_open(&one, &f, NULL, 0);
    expect_alive(1);
    h2_get(&one, 3, "/stubborn");
    EXPECT_EQ(told(), 'b');
    EXPECT(h2_send(&one, HEADERS, END_STREAM, 5, "\x82", 1));
    EXPECT_EQ(h2_read_to_end(&one), NGHTTP2_NO_ERROR);
    bh_close(go_on);
    stop(&f);
}

/* Its rest waits for a body, or for a window: the first is answered for, the second let finish. */
TEST_REAL(http2_rules, timed_request_is_answered_in_time)
{
    static struct bh_http_timeout_options limit = { .after = 100 * BH_MILLISECOND };
    struct fixture                        f;

    make_server(&f, NULL);
    bh_http_use(f.s, bh_http_timeout, &limit);
    add_routes(&f);
    h2_headers(&one, 1, 0, H2_HEAD("POST", "/echo"));
    h2_get(&one, 3, "/hello");
    EXPECT_EQ(h2_read(&one, 3, &reply), 200);
    (void)h2_read(&one, 1, &reply);
    EXPECT(reply.status == 503 || reply.status == 408); /* the handler may answer that */
    h2_get(&one, 5, "/panics");
    EXPECT_EQ(h2_read(&one, 5, &reply), 500);
    h2_get(&one, 7, "/fills-the-window");
    memset(&reply, 0, sizeof reply);
    reply.reset = -1;
    while (reply.size < 65000)
        EXPECT(h2_step(&one, &reply, 7) != CLOSED);
    bh_sleep(300 * BH_MILLISECOND); /* a time in which nothing may happen */
    h2_send32(&one, WINDOW_UPDATE, 7, 1 << 20);
    h2_send32(&one, WINDOW_UPDATE, 0, 1 << 20);
    while (!reply.ended && reply.reset < 0)
        EXPECT(h2_step(&one, &reply, 7) != CLOSED);
    EXPECT_EQ(reply.size, 100000);
    EXPECT(reply.ended);
    stop(&f);
}

TEST_REAL(http2_rules, busy_connection_is_not_idle)
{
    struct fixture f;

    start_with(&f, &(struct bh_http_options){ .idle_timeout = 50 * BH_MILLISECOND,
                                              .head_timeout = 50 * BH_MILLISECOND });
    h2_get(&one, 1, "/waits");
    EXPECT_EQ(told(), 'b');
    bh_sleep(200 * BH_MILLISECOND); /* a time in which nothing may happen */
    bh_send(go_on, &(char){ 0 });
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    stop(&f);
}

/* ---- the server ends it ---------------------------------------------------------- */

TEST_REAL(http2_rules, connection_takes_max_requests_and_says_which_was_the_last)
{
    struct fixture f;

    start_with(&f, &(struct bh_http_options){ .max_requests = 3 });
    for (uint32_t id = 1; id < 9; id += 2)
        h2_get(&one, id, "/hello");
    EXPECT_EQ(h2_read(&one, 5, &reply), 200);
    EXPECT_EQ(h2_read_to_end(&one) <= 0, 1);
    stop(&f);
}

/* A notice that refuses nothing; requests on their way are still answered; then the final word. */
TEST_REAL(http2_rules, draining_refuses_no_request_that_was_on_its_way)
{
    struct fixture f;

    start(&f);
    h2_get(&one, 1, "/waits");
    EXPECT_EQ(told(), 'b');
    bh_http_stop(f.s);
    while (h2_next(&one) != GOAWAY)
        EXPECT(one.f.type != CLOSED);
    EXPECT_EQ(h2_get32(one.f.payload), 0x7fffffff);
    EXPECT_EQ(h2_get32(one.f.payload + 4), NGHTTP2_NO_ERROR);
    expect_alive(3);
    while (h2_next(&one) != PING) /* of which there was one: answered now or by the timer */
        if (one.f.type == GOAWAY)
            break;
    if (one.f.type == PING) {
        EXPECT(h2_send(&one, PING, ACK, 0, one.f.payload, 8));
        while (h2_next(&one) != GOAWAY)
            EXPECT(one.f.type != CLOSED);
    }
    EXPECT_EQ(h2_get32(one.f.payload), 3);
    bh_send(go_on, &(char){ 0 });
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    EXPECT_EQ(h2_read_to_end(&one), -1);
    stop(&f);
}

TEST_REAL(http2_rules, draining_ends_an_idle_connection)
{
    struct fixture f;
    int            last;

    start(&f);
    expect_alive(1);
    bh_http_stop(f.s);
    last = h2_read_to_end(&one);
    EXPECT_EQ(last, NGHTTP2_NO_ERROR);
    stop(&f);
}

TEST_REAL(http2_rules, what_does_not_end_while_draining_is_cancelled)
{
    struct fixture f;

    start_with(&f, &(struct bh_http_options){ .drain_timeout = 100 * BH_MILLISECOND });
    h2_get(&one, 1, "/waits");
    h2_headers(&one, 3, 0, H2_HEAD("POST", "/echo"));
    EXPECT_EQ(told(), 'b');
    bh_http_stop(f.s);
    EXPECT_EQ(told(), 'l');
    stop(&f);
}
