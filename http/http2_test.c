/* http2_test.c -- requests and replies on HTTP/2 streams. */
#include "h2_client.h"

#include <errno.h>
#include <sys/wait.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/http/tls.h>

static struct h2_client one;
static struct h2_reply  reply;

/* ---- handlers -------------------------------------------------------------------- */

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "hello %s %d\n", c->host, c->version);
}

static int
echo(struct bh_http_call *c, void *arg)
{
    const char *data;
    ssize_t     size = bh_http_body(c, &data);

    (void)arg;
    return size < 0 ? (int)size : bh_http_reply_bytes(c, 200, "text/plain", data, (size_t)size);
}

/* So many bytes, as written piece by piece; each byte says where it is. */
static int
large(struct bh_http_call *c, void *arg)
{
    enum { PIECE = 40000 };
    static char pattern[PIECE + 256];
    size_t      left = strtoul(bh_http_param(c, "size"), NULL, 10);

    (void)arg;
    for (size_t i = 0; i < sizeof pattern; i++)
        pattern[i] = (char)i;
    bh_http_start(c, 200, "application/octet-stream", -1);
    for (size_t at = 0; left > 0;) {
        size_t n = left < PIECE ? left : PIECE;
        int    rc = bh_http_write(c, pattern + at % 256, n);

        if (rc < 0)
            return rc;
        at += n;
        left -= n;
    }
    return 0;
}

static int
whole(struct bh_http_call *c, void *arg)
{
    size_t size = strtoul(bh_http_param(c, "size"), NULL, 10);
    char  *data = bh_arena_alloc(c->arena, size);

    (void)arg;
    for (size_t i = 0; i < size; i++)
        data[i] = (char)i;
    return bh_http_reply_bytes(c, 200, "application/octet-stream", data, size);
}

/* What the request had, field by field. */
static int
show(struct bh_http_call *c, void *arg)
{
    const char *name, *value;

    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_print(c, "%s %s?%s host=%s\n", c->method, c->path, c->query, c->host);
    for (unsigned i = 0; bh_http_header_at(c, i, &name, &value); i++)
        bh_http_print(c, "%s=%s\n", name, value);
    return 0;
}

static int
trailers(struct bh_http_call *c, void *arg)
{
    const char *data, *sum;

    (void)arg;
    EXPECT(bh_http_body(c, &data) >= 0);
    sum = bh_http_request_trailer(c, "sum");
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_print(c, "%s", data);
    (void)bh_http_trailer(c, "Result", sum != NULL ? sum : "none");
    return 0;
}

static int
status_of(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)bh_http_set_header(c, "ETag", "\"1\"");
    return bh_http_reply_bytes(c, atoi(bh_http_param(c, "status")), NULL, NULL, 0);
}

/* Waits for the word, or for its client to leave. */
static struct bh_chan *go_on, *events;
enum { BEGUN = 'b', LEFT = 'l', FINISHED = 'f' };

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
waits(struct bh_http_call *c, void *arg)
{
    struct bh_ctx *ctx = bh_http_ctx(c);
    enum { GO, GONE };

    (void)arg;
    tell(BEGUN);
    if (bh_select([GO] = BH_RECV(go_on, NULL), [GONE] = BH_RECV(bh_ctx_done(ctx), NULL)) ==
        GONE) {
        tell(LEFT);
        return bh_ctx_err(ctx);
    }
    tell(FINISHED);
    return bh_http_reply(c, 200, "waited\n");
}

static int
streams(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/event-stream", -1);
    for (int i = 0; i < 3; i++) {
        bh_http_print(c, "event %d\n", i);
        EXPECT_EQ(bh_http_flush(c), 0);
        bh_recv(go_on, NULL);
    }
    return 0;
}

/* Writes for as long as it can. */
static int
endless(struct bh_http_call *c, void *arg)
{
    static char data[20000];
    int         rc = 0;

    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    while (rc == 0)
        rc = bh_http_write(c, data, sizeof data);
    tell(LEFT);
    return rc;
}

static void
make_server(struct fixture *f, struct bh_http_options *o)
{
    go_on = BH_CHAN(char, 0);
    events = BH_CHAN(char, 1024);
    f->s = bh_http_server_new(o);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /hello", hello, NULL);
    bh_http_handle(f->s, "POST /echo", echo, NULL);
    bh_http_handle(f->s, "GET /large/{size}", large, NULL);
    bh_http_handle(f->s, "GET /whole/{size}", whole, NULL);
    bh_http_handle(f->s, "GET /show", show, NULL);
    bh_http_handle(f->s, "POST /trailers", trailers, NULL);
    bh_http_handle(f->s, "GET /status/{status}", status_of, NULL);
    bh_http_handle(f->s, "GET /waits", waits, NULL);
    bh_http_handle(f->s, "GET /streams", streams, NULL);
    bh_http_handle(f->s, "GET /endless", endless, NULL);
}

static void
start_with(struct fixture *f, struct bh_http_options *o)
{
    make_server(f, o);
    fixture_start(f);
}

static void
start(struct fixture *f)
{
    start_with(f, NULL);
    h2_open(&one, f, NULL, 0);
}

static void
stop(struct fixture *f)
{
    if (one.c != NULL)
        h2_close(&one);
    one.c = NULL;
    EXPECT_EQ(fixture_stop(f), 0);
    bh_chan_unref(go_on);
    bh_chan_unref(events);
}

/* ---- replies --------------------------------------------------------------------- */

TEST_REAL(http2, request_is_answered_and_the_next_ones_too)
{
    struct fixture f;

    start(&f);
    for (uint32_t id = 1; id < 21; id += 2) {
        h2_get(&one, id, "/hello");
        EXPECT_EQ(h2_read(&one, id, &reply), 200);
        EXPECT_STR(reply.body, "hello a.test 20\n");
        EXPECT_HAS(reply.fields, "content-length: 16\n");
        EXPECT_HAS(reply.fields, "content-type: text/plain; charset=utf-8\n");
        EXPECT_HAS(reply.fields, "date: ");
        EXPECT(strstr(reply.fields, "connection") == NULL);
        EXPECT_EQ(reply.reset, -1);
    }
    h2_get(&one, 21, "/nowhere");
    EXPECT_EQ(h2_read(&one, 21, &reply), 404);
    stop(&f);
}

TEST_REAL(http2, http1_is_still_spoken_on_the_same_port)
{
    struct fixture f;
    char           answer[1024];

    start(&f);
    talk(&f, "GET /hello HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n", answer,
         sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 200 OK\r\n");
    EXPECT_HAS(answer, "hello b 11\n");
    talk(&f, "PRI * HTTP/1.1\r\nHost: b\r\n\r\n", answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 501 ");
    stop(&f);
}

TEST_REAL(http2, preface_is_not_taken_where_it_is_not_wanted)
{
    struct fixture f;
    char           answer[1024];

    start_with(&f, &(struct bh_http_options){ .no_h2c = true });
    talk(&f, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 505 ");
    stop(&f);
}

TEST_REAL(http2, many_requests_in_one_write_are_all_answered)
{
    enum { COUNT = 100 };
    static uint8_t all[COUNT * 128];
    uint8_t        block[128], *at = all;
    size_t         size = h2_block(block, H2_GET("/hello"));
    struct fixture f;
    int            ended = 0;

    start(&f);
    for (uint32_t i = 0; i < COUNT; i++)
        at = h2_make(at, HEADERS, END_STREAM | END_HEADERS, 2 * i + 1, block, size);
    EXPECT_EQ(bh_write(one.c, all, (size_t)(at - all)), at - all);
    memset(&reply, 0, sizeof reply);
    while (ended < COUNT) {
        EXPECT(h2_step(&one, &reply, 0) != CLOSED);
        ended += one.f.type == DATA && (one.f.flags & END_STREAM) != 0;
    }
    stop(&f);
}

TEST_REAL(http2, requests_that_wait_hold_up_no_others)
{
    enum { COUNT = 20 };
    struct fixture f;

    start(&f);
    for (uint32_t i = 0; i < COUNT; i++)
        h2_get(&one, 2 * i + 1, "/waits");
    for (int i = 0; i < COUNT; i++)
        EXPECT_EQ(told(), BEGUN);
    h2_get(&one, 101, "/hello");
    EXPECT_EQ(h2_read(&one, 101, &reply), 200);
    for (uint32_t i = 0; i < COUNT; i++) {
        bh_send(go_on, &(char){ 0 });
        EXPECT_EQ(told(), FINISHED);
    }
    for (int ended = 0; ended < COUNT;) {
        EXPECT(h2_step(&one, &reply, 0) != CLOSED);
        ended += one.f.type == DATA && (one.f.flags & END_STREAM) != 0;
    }
    stop(&f);
}

TEST_REAL(http2, quick_reply_is_not_held_up_by_a_slow_one_of_the_same_batch)
{
    uint8_t        all[512], block[128], *at = all;
    struct fixture f;

    start(&f);
    at = h2_make(at, HEADERS, 5, 1, block, h2_block(block, H2_GET("/hello")));
    at = h2_make(at, HEADERS, 5, 3, block, h2_block(block, H2_GET("/waits")));
    EXPECT_EQ(bh_write(one.c, all, (size_t)(at - all)), at - all);
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    EXPECT_EQ(told(), BEGUN);
    bh_send(go_on, &(char){ 0 });
    EXPECT_EQ(h2_read(&one, 3, &reply), 200);
    EXPECT_STR(reply.body, "waited\n");
    stop(&f);
}

TEST_REAL(http2, idle_connection_has_no_goroutine)
{
    struct fixture f;
    size_t         before;

    start(&f);
    h2_get(&one, 1, "/hello");
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    h2_close(&one);
    before = bh_goroutine_count();
    h2_open(&one, &f, NULL, 0);
    h2_get(&one, 1, "/hello");
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    while (bh_goroutine_count() > before)
        bh_yield();
    stop(&f);
}

TEST_REAL(http2, replies_without_a_body_end_with_their_head)
{
    static const struct {
        const char *lines;
        int         status;
        const char *length;
    } cases[] = {
        { H2_HEAD("HEAD", "/hello"), 200, "content-length: 16\n" },
        { H2_GET("/status/204"), 204, NULL },
        { H2_GET("/status/304"), 304, NULL },
        { H2_GET("/status/200"), 200, "content-length: 0\n" },
    };
    struct fixture f;

    start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        uint32_t id = (uint32_t)(2 * i + 1);

        h2_headers(&one, id, END_STREAM, cases[i].lines);
        EXPECT_EQ(h2_read(&one, id, &reply), cases[i].status);
        EXPECT_EQ(reply.frames, 0);
        if (cases[i].length != NULL)
            EXPECT_HAS(reply.fields, cases[i].length);
        else
            EXPECT(strstr(reply.fields, "content-length") == NULL);
    }
    stop(&f);
}

/* Read a body of `size` bytes, giving windows back as asked, and check each byte. */
static void
read_pattern(uint32_t id, size_t size, size_t piece, uint32_t grant)
{
    size_t at = 0, granted = 0;

    memset(&reply, 0, sizeof reply);
    while (!reply.ended) {
        EXPECT(h2_step(&one, &reply, id) != CLOSED);
        if (one.f.type != DATA || one.f.id != id)
            continue;
        for (size_t i = 0; i < one.f.size; i++, at++)
            EXPECT_EQ(one.f.payload[i], (uint8_t)(at % piece + (at / piece * piece) % 256));
        granted += one.f.size;
        if (granted >= grant) {
            h2_send32(&one, WINDOW_UPDATE, 0, (uint32_t)granted);
            h2_send32(&one, WINDOW_UPDATE, id, (uint32_t)granted);
            granted = 0;
        }
    }
    EXPECT_EQ(at, size);
}

TEST_REAL(http2, large_bodies_arrive_whole_through_windows_of_any_size)
{
    struct fixture f;

    start(&f);
    h2_get(&one, 1, "/large/1000000");
    read_pattern(1, 1000000, 40000, 30000);
    h2_get(&one, 3, "/whole/1000000");
    read_pattern(3, 1000000, 1000000, 1);
    h2_close(&one);
    h2_open(&one, &f, (uint32_t[]){ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 7 }, 1);
    h2_get(&one, 1, "/large/5000");
    read_pattern(1, 5000, 40000, 1);
    stop(&f);
}

TEST_REAL(http2, what_is_flushed_arrives_before_the_end)
{
    struct fixture f;

    start(&f);
    h2_get(&one, 1, "/streams");
    memset(&reply, 0, sizeof reply);
    for (size_t i = 0; i < 3; i++) {
        while (reply.frames == i)
            EXPECT(h2_step(&one, &reply, 1) != CLOSED);
        EXPECT(!reply.ended);
        bh_send(go_on, &(char){ 0 });
    }
    while (!reply.ended)
        EXPECT(h2_step(&one, &reply, 1) != CLOSED);
    EXPECT_STR(reply.body, "event 0\nevent 1\nevent 2\n");
    stop(&f);
}

TEST_REAL(http2, client_that_gives_no_window_is_cut_off_and_its_siblings_are_not)
{
    struct fixture f;

    start_with(&f, &(struct bh_http_options){ .write_timeout = 200 * BH_MILLISECOND });
    h2_open(&one, &f, NULL, 0);
    h2_get(&one, 1, "/endless");
    h2_get(&one, 3, "/waits");
    EXPECT_EQ(told(), BEGUN);
    EXPECT_EQ(told(), LEFT);
    memset(&reply, 0, sizeof reply);
    reply.reset = -1;
    while (reply.reset < 0)
        EXPECT(h2_step(&one, &reply, 1) != CLOSED);
    EXPECT_EQ(reply.reset, NGHTTP2_INTERNAL_ERROR);
    h2_send32(&one, WINDOW_UPDATE, 0, 100000);
    bh_send(go_on, &(char){ 0 });
    EXPECT_EQ(h2_read(&one, 3, &reply), 200);
    stop(&f);
}

TEST_REAL(http2, client_that_does_not_read_is_cut_off)
{
    struct fixture f;
    uint32_t       wide[] = { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0x7fffffff };

    start_with(&f, &(struct bh_http_options){ .write_timeout = 200 * BH_MILLISECOND });
    h2_open(&one, &f, wide, 1);
    h2_send32(&one, WINDOW_UPDATE, 0, 0x70000000);
    h2_get(&one, 1, "/endless");
    h2_get(&one, 3, "/waits");
    EXPECT_EQ(told(), BEGUN);
    EXPECT_EQ(told(), LEFT);
    EXPECT_EQ(told(), LEFT);
    stop(&f);
}

/* ---- requests -------------------------------------------------------------------- */

TEST_REAL(http2, fields_are_seen_as_in_http1)
{
    struct fixture f;

    start(&f);
    h2_headers(
        &one, 1, END_STREAM,
        H2_GET("/show?q=%20") "cookie: a=1\nx-one: 1\ncookie: b=2\nx-empty: \ncookie: c=3\n");
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    EXPECT_STR(reply.body, "GET /show?q=%20 host=a.test\nhost=a.test\ncookie=a=1; b=2; c=3\n"
                           "x-one=1\nx-empty=\n");
    h2_headers(&one, 3, END_STREAM,
               ":method: GET\n:scheme: http\n:path: /show\nhost: b.test\nte: trailers\n");
    EXPECT_EQ(h2_read(&one, 3, &reply), 200);
    EXPECT_STR(reply.body, "GET /show? host=b.test\nhost=b.test\nte=trailers\n");
    h2_headers(&one, 5, END_STREAM, H2_GET("/show") "host: A.test\n");
    EXPECT_EQ(h2_read(&one, 5, &reply), 200);
    EXPECT_STR(reply.body, "GET /show? host=a.test\nhost=a.test\n");
    stop(&f);
}

TEST_REAL(http2, fields_that_compress_and_continue_are_read)
{
    /* :method GET, :scheme http, /hello indexed in passing, :authority; in three frames. */
    static const uint8_t block[] = { 0x82, 0x86, 0x44, 6,   '/', 'h', 'e', 'l', 'l',
                                     'o',  0x41, 6,    'a', '.', 't', 'e', 's', 't' };
    static const uint8_t again[] = { 0x82, 0x86, 0xbf, 0xbe };
    struct fixture       f;

    start(&f);
    EXPECT(h2_send(&one, HEADERS, END_STREAM, 1, block, 5));
    EXPECT(h2_send(&one, CONTINUATION, 0, 1, block + 5, 1));
    EXPECT(h2_send(&one, CONTINUATION, END_HEADERS, 1, block + 6, sizeof block - 6));
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    EXPECT(h2_send(&one, HEADERS, END_STREAM | END_HEADERS, 3, again, sizeof again));
    EXPECT_EQ(h2_read(&one, 3, &reply), 200);
    EXPECT_STR(reply.body, "hello a.test 20\n");
    stop(&f);
}

/* size bytes of body, keeping to the windows that the server has told. */
static void
send_body(uint32_t id, size_t size)
{
    static char chunk[16384];
    long        stream = 131072, conn = 1048576 - 1000;

    memset(chunk, 'x', sizeof chunk);
    while (size > 0) {
        size_t n = size < sizeof chunk ? size : sizeof chunk;

        if (stream >= (long)n && conn >= (long)n) {
            EXPECT(h2_send(&one, DATA, size == n ? END_STREAM : 0, id, chunk, n));
            stream -= (long)n;
            conn -= (long)n;
            size -= n;
            continue;
        }
        EXPECT(h2_next(&one) != CLOSED);
        if (one.f.type == WINDOW_UPDATE && one.f.id == id)
            stream += (long)h2_get32(one.f.payload);
        if (one.f.type == WINDOW_UPDATE && one.f.id == 0)
            conn += (long)h2_get32(one.f.payload);
    }
}

TEST_REAL(http2, bodies_are_read_and_the_windows_given_back)
{
    struct fixture f;

    start_with(&f, &(struct bh_http_options){ .max_body = 8 << 20 });
    h2_open(&one, &f, (uint32_t[]){ NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0x7fffffff }, 1);
    h2_send32(&one, WINDOW_UPDATE, 0, 0x70000000);
    h2_get(&one, 11, "/hello"); /* with it, settings are agreed */
    EXPECT_EQ(h2_read(&one, 11, &reply), 200);
    h2_headers(&one, 13, 0, H2_HEAD("POST", "/echo") "content-length: 3000000\n");
    send_body(13, 3000000);
    EXPECT_EQ(h2_read(&one, 13, &reply), 200);
    EXPECT_EQ(reply.size, 3000000);
    h2_headers(&one, 15, 0, H2_HEAD("POST", "/echo"));
    EXPECT(h2_send(&one, DATA, 0, 15, "some", 4));
    EXPECT(h2_send(&one, DATA, 0x8 | END_STREAM, 15, "\3 thing\0\0\0", 10)); /* padded */
    EXPECT_EQ(h2_read(&one, 15, &reply), 200);
    EXPECT_STR(reply.body, "some thing");
    h2_headers(&one, 17, 0, H2_HEAD("POST", "/echo") "content-length: 0\n");
    EXPECT(h2_send(&one, DATA, END_STREAM, 17, NULL, 0));
    EXPECT_EQ(h2_read(&one, 17, &reply), 200);
    EXPECT_EQ(reply.size, 0);
    stop(&f);
}

TEST_REAL(http2, trailers_travel_both_ways)
{
    struct fixture f;

    start(&f);
    h2_headers(&one, 1, 0, H2_HEAD("POST", "/trailers"));
    EXPECT(h2_send(&one, DATA, 0, 1, "body", 4));
    h2_headers(&one, 1, END_STREAM, "sum: 42\n");
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    EXPECT_STR(reply.body, "body");
    EXPECT_STR(reply.trailers, "result: 42\n");
    h2_headers(&one, 3, END_STREAM, H2_HEAD("POST", "/trailers"));
    EXPECT_EQ(h2_read(&one, 3, &reply), 200);
    EXPECT_STR(reply.trailers, "result: none\n");
    stop(&f);
}

TEST_REAL(http2, client_that_expects_100_gets_it_when_the_body_is_read)
{
    struct fixture f;

    start(&f);
    h2_headers(&one, 1, 0, H2_HEAD("POST", "/echo") "expect: 100-continue\n");
    memset(&reply, 0, sizeof reply);
    while (reply.interim == 0)
        EXPECT(h2_step(&one, &reply, 1) != CLOSED);
    EXPECT_EQ(reply.interim, 100);
    EXPECT(h2_send(&one, DATA, END_STREAM, 1, "then", 4));
    EXPECT_EQ(h2_read(&one, 1, &reply), 200);
    EXPECT_STR(reply.body, "then");
    h2_headers(&one, 3, 0, H2_GET("/hello") "expect: 100-continue\n");
    EXPECT_EQ(h2_read(&one, 3, &reply), 200);
    EXPECT_EQ(reply.interim, 0);
    stop(&f);
}

/* The reply is whole, so the rest of the body is not wanted; the connection goes on. */
TEST_REAL(http2, body_over_the_limit_is_413_and_not_wanted)
{
    static char    chunk[16384];
    struct fixture f;

    start_with(&f, &(struct bh_http_options){ .max_body = 10000 });
    h2_open(&one, &f, NULL, 0);
    h2_headers(&one, 1, 0, H2_HEAD("POST", "/echo") "content-length: 100000\n");
    EXPECT_EQ(h2_read(&one, 1, &reply), 413);
    while (reply.reset < 0)
        EXPECT(h2_step(&one, &reply, 1) != CLOSED);
    EXPECT_EQ(reply.reset, NGHTTP2_NO_ERROR);
    EXPECT(h2_send(&one, DATA, 0, 1, chunk, sizeof chunk)); /* on its way meanwhile */
    h2_headers(&one, 3, 0, H2_HEAD("POST", "/echo"));
    EXPECT(h2_send(&one, DATA, END_STREAM, 3, chunk, sizeof chunk));
    EXPECT_EQ(h2_read(&one, 3, &reply), 413);
    h2_get(&one, 5, "/hello");
    EXPECT_EQ(h2_read(&one, 5, &reply), 200);
    stop(&f);
}

TEST_REAL(http2, body_that_comes_too_slowly_is_408)
{
    struct fixture f;

    start_with(&f, &(struct bh_http_options){ .body_timeout = 100 * BH_MILLISECOND });
    h2_open(&one, &f, NULL, 0);
    h2_headers(&one, 1, 0, H2_HEAD("POST", "/echo"));
    EXPECT(h2_send(&one, DATA, 0, 1, "x", 1));
    EXPECT_EQ(h2_read(&one, 1, &reply), 408);
    stop(&f);
}

/* ---- clients that no one here wrote ---------------------------------------------- */

static char command[2048];

static void
run(void *arg)
{
    int status = system(arg);

    if (status != 0)
        test_failed(__FILE__, __LINE__, "status %d of: %s", status, (char *)arg);
}

static void
with_server(struct fixture *f, const char *script)
{
    snprintf(command, sizeof command, "U=http://%s; %s", bh_http_address(f->s), script);
    bh_blocking(run, command);
}

TEST_REAL(http2, curl_nghttp_and_h2load_get_their_replies)
{
    struct fixture f;

    start(&f);
    with_server(&f, "C='curl -sS --http2-prior-knowledge --max-time 5'; "
                    "test \"$($C $U/hello $U/hello | sort -u | sed 's/127.*:[0-9]*/me/')\" = "
                    "'hello me 20' && "
                    "test \"$($C -d 'some body' $U/echo)\" = 'some body' && "
                    "test \"$($C -I -o /dev/null -w '%{http_version} %{http_code}' $U/hello)\" "
                    "= '2 200' && "
                    "test \"$($C $U/large/3000000 | wc -c)\" = 3000000");
    with_server(&f,
                "nghttp -nv --no-dep $U/hello $U/whole/300000 | grep -c END_STREAM >/dev/null");
    with_server(&f, "h2load -n 2000 -c 4 -m 50 $U/hello | "
                    "grep -q '2000 succeeded, 0 failed, 0 errored' && "
                    "h2load -n 60 -c 2 -m 10 $U/whole/200000 | "
                    "grep -q '60 succeeded, 0 failed, 0 errored'");
    stop(&f);
}

TEST_REAL(http2, strict_client_of_pythons_finds_nothing_wrong)
{
    struct fixture f;

    start(&f);
    with_server(&f, "/usr/bin/python3 test/h2_client.py ${U#http://}");
    stop(&f);
}

TEST_REAL(http2, is_agreed_on_through_tls)
{
    static char           directory[] = "/tmp/bulkhead_h2_XXXXXX";
    char                  certificate[64], key[64];
    struct bh_tls_config *config = bh_tls_config_new();
    struct fixture        f;

    EXPECT(mkdtemp(directory) != NULL);
    snprintf(certificate, sizeof certificate, "%s/a.pem", directory);
    snprintf(key, sizeof key, "%s/a.key", directory);
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
             "-keyout %s -out %s -subj /CN=a -addext subjectAltName=IP:127.0.0.1 2>/dev/null",
             key, certificate);
    bh_blocking(run, command);
    EXPECT_EQ(bh_tls_config_add_certificate(config, certificate, key), 0);
    bh_tls_config_set_protocols(config, "h2,http/1.1");
    make_server(&f, NULL);
    EXPECT_EQ(bh_http_listen_tls(f.s, "127.0.0.1:0", config), 0);
    f.done = BH_CHAN(int, 1);
    bh_go(fixture_serve, &(struct fixture_serve){ &f });
    snprintf(
        command, sizeof command,
        "U=https://%s; cd %s; C='curl -sS --cacert a.pem --max-time 5'; "
        "test \"$($C --http2 -o out -w '%%{http_version}' $U/hello)\" = 2 && "
        "grep -q ' 20$' out && "
        "test \"$($C --http1.1 -w '%%{http_version}' $U/hello -o out)\" = 1.1 && "
        "test \"$($C --http2 $U/large/3000000 | wc -c)\" = 3000000 && "
        "head -c 700000 /dev/zero >in && "
        "test \"$($C --http2 --data-binary @in $U/echo | wc -c)\" = 700000 && "
        "h2load -n 2000 -c 4 -m 50 $U/hello | grep -q '2000 succeeded, 0 failed, 0 errored'",
        bh_http_address(f.s), directory);
    bh_blocking(run, command);
    stop(&f);
    bh_tls_config_unref(config);
    snprintf(command, sizeof command, "rm -r %s", directory);
    bh_blocking(run, command);
}
