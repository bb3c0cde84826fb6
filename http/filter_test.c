/* filter_test.c -- filters of a reply's body; trailers; files. */
#include "http_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static char answer[1 << 20];

/* A filter that puts brackets around the body, and counts. */
struct brackets {
    char     open, close;
    bool     begun;
    unsigned freed, last;
};

static int64_t
brackets_head(struct bh_http_call *c, void *arg, int64_t length)
{
    (void)arg;
    if (c->status == 204 || c->status == 299)
        return BH_HTTP_SKIP;
    bh_http_add_header(c, "X-Length", length < 0 ? "open" : "known");
    return length < 0 ? -1 : length + 2;
}

static int
brackets_body(struct bh_http_call *c, void *arg, const void *data, size_t size,
              enum bh_http_part part)
{
    struct brackets *b = arg;

    if (bh_http_query(c, "filter_panics") != NULL)
        bh_panic("filter");
    if (!b->begun)
        bh_http_pass(c, &b->open, 1, BH_HTTP_MORE);
    b->begun = true;
    bh_http_pass(c, data, size, part == BH_HTTP_LAST ? BH_HTTP_MORE : part);
    if (part != BH_HTTP_LAST)
        return 0;
    b->last++;
    return bh_http_pass(c, &b->close, 1, BH_HTTP_LAST);
}

static unsigned freed, lasts;

static void
brackets_free(void *arg)
{
    struct brackets *b = arg;

    freed++;
    lasts += b->last;
}

static const struct bh_http_filter brackets_filter = { brackets_head, brackets_body,
                                                       brackets_free };

static int
add_brackets(struct bh_http_call *c, void *arg)
{
    const char      *pair = arg;
    struct brackets *b = bh_arena_alloc(c->arena, sizeof *b);

    *b = (struct brackets){ .open = pair[0], .close = pair[1] };
    EXPECT_EQ(bh_http_filter(c, &brackets_filter, b), 0);
    return bh_http_next(c);
}

static int
whole(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "whole");
}

static int
skipped(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 299, "skipped");
}

static int
stream(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_print(c, "one");
    if (bh_http_query(c, "flush") != NULL)
        bh_http_flush(c);
    bh_http_print(c, "two");
    if (bh_http_query(c, "panic") != NULL)
        bh_panic("handler");
    return 0;
}

static int
with_trailers(struct bh_http_call *c, void *arg)
{
    const char *data;
    const char *sum = bh_http_request_trailer(c, "X-Sum");
    ssize_t     n = bh_http_body(c, &data);

    (void)arg;
    EXPECT(sum == NULL); /* not before the body has been read */
    sum = bh_http_request_trailer(c, "x-sum");
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_print(c, "%zd bytes, sum %s, none %d", n, sum != NULL ? sum : "-",
                  bh_http_request_trailer(c, "X-Other") == NULL);
    bh_http_flush(c);
    if (bh_http_query(c, "bad") != NULL)
        bh_http_trailer(c, "Content-Length", "1");
    EXPECT_EQ(bh_http_trailer(c, "X-End", "fin"), c->version == 10 ? -ENOTSUP : 0);
    return 0;
}

static int
send_file(struct bh_http_call *c, void *arg)
{
    int64_t announced = strtoll(bh_http_query(c, "size"), NULL, 10);
    int     fd = open(arg, O_RDONLY | O_CLOEXEC), rc;

    bh_http_start(c, 200, "text/plain", announced);
    if (bh_http_query(c, "flush") != NULL)
        bh_http_flush(c);
    rc = bh_http_send_file(c, fd, 1, announced);
    close(fd);
    return rc;
}

static char file_path[] = "/tmp/bulkhead_filter_XXXXXX";

static void
start(struct fixture *f)
{
    f->s = bh_http_server_new(NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_use(f->s, add_brackets, (char *)(uintptr_t) "<>");
    bh_http_use(f->s, add_brackets, (char *)(uintptr_t) "()");
    bh_http_handle(f->s, "GET /whole", whole, NULL);
    bh_http_handle(f->s, "GET /skipped", skipped, NULL);
    bh_http_handle(f->s, "GET /stream", stream, NULL);
    bh_http_handle(f->s, "GET /file", send_file, file_path);
    fixture_start(f);
}

TEST_REAL(filter, a_whole_reply_is_filtered_from_the_inside_out_and_has_its_new_length)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/whole"), answer, sizeof answer);
    EXPECT_HAS(answer, "Content-Length: 9\r\n");
    EXPECT_EQ(count_of(answer, "X-Length: known\r\n"), 2);
    EXPECT_STR(body_of(answer), "<(whole)>");
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT_EQ(freed, 2);
    EXPECT_EQ(lasts, 2);
}

TEST_REAL(filter, one_that_skips_is_not_asked_again)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/skipped"), answer, sizeof answer);
    EXPECT_STR(body_of(answer), "skipped");
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT_EQ(lasts, 0);
    EXPECT_EQ(freed, 2);
}

TEST_REAL(filter, a_stream_that_fits_the_buffer_is_filtered_whole)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/stream"), answer, sizeof answer);
    EXPECT_HAS(answer, "Content-Length: 10\r\n");
    EXPECT_STR(body_of(answer), "<(onetwo)>");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(filter, a_flushed_stream_passes_in_pieces_and_ends_once)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/stream?flush"), answer, sizeof answer);
    EXPECT_HAS(answer, "Transfer-Encoding: chunked\r\n");
    EXPECT_EQ(count_of(answer, "X-Length: open\r\n"), 2);
    EXPECT_HAS(answer, "1\r\n<\r\n1\r\n(\r\n3\r\none\r\n");
    EXPECT_HAS(answer, "3\r\ntwo\r\n1\r\n)\r\n1\r\n>\r\n0\r\n\r\n");
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT_EQ(lasts, 2);
}

TEST_REAL(filter, head_announces_what_get_would)
{
    struct fixture f;

    start(&f);
    talk(&f, "HEAD /whole HTTP/1.1\r\nHost: a\r\n\r\n", answer, sizeof answer);
    EXPECT_HAS(answer, "Content-Length: 9\r\n");
    EXPECT_STR(body_of(answer), "");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(filter, the_reply_to_a_panic_passes_no_filter)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/stream?panic"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_STR(body_of(answer), "500 Internal Server Error\n");
    talk(&f, GET("/stream?flush&panic"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    EXPECT(strstr(answer, "\r\n0\r\n") == NULL);
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT_EQ(lasts, 0);
    EXPECT_EQ(freed, 4);
}

TEST_REAL(filter, a_panic_in_a_filter_is_a_500_or_breaks_the_transfer)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/whole?filter_panics"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    talk(&f, GET("/stream?flush&filter_panics"), answer, sizeof answer);
    EXPECT(strstr(answer, "\r\n0\r\n") == NULL);
    EXPECT_EQ(fixture_stop(&f), 0);
}

static int
pass_outside(struct bh_http_call *c, void *arg)
{
    (void)arg;
    EXPECT_PANIC("http: bh_http_pass outside a filter", bh_http_pass(c, "", 0, BH_HTTP_MORE));
    bh_http_start(c, 200, NULL, -1);
    bh_http_flush(c);
    EXPECT_EQ(bh_http_filter(c, &brackets_filter, &(struct brackets){ 0 }), -EALREADY);
    bh_http_abort(c);
}

TEST_REAL(filter, too_late_is_an_error_and_passing_outside_a_panic)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /", pass_outside, NULL);
    fixture_start(&f);
    talk(&f, GET("/"), answer, sizeof answer);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- trailers -------------------------------------------------------------------- */

static void
start_trailers(struct fixture *f)
{
    f->s = bh_http_server_new(NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "POST /", with_trailers, NULL);
    fixture_start(f);
}

TEST_REAL(trailers, travel_both_ways)
{
    struct fixture f;

    start_trailers(&f);
    talk(&f,
         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
         "3\r\nabc\r\n0\r\nX-A: b\r\nX-Sum:\t17 \r\n\r\n",
         answer, sizeof answer);
    EXPECT_HAS(answer, "3 bytes, sum 17, none 1");
    EXPECT_HAS(answer, "\r\n0\r\nX-End: fin\r\n\r\n");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(trailers, split_at_every_byte_they_are_the_same)
{
    static const char text[] =
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
        "Connection: close\r\n\r\n1\r\na\r\n0\r\nX-Sum: 17\r\nB: c\r\n\r\n";
    struct fixture f;

    start_trailers(&f);
    for (size_t at = sizeof text - 26; at < sizeof text - 1; at++) {
        struct bh_conn *c = fixture_dial(&f);

        EXPECT_EQ(bh_write(c, text, at), at);
        bh_yield();
        EXPECT(bh_write(c, text + at, sizeof text - 1 - at) > 0);
        read_to_end(c, answer, sizeof answer);
        EXPECT_HAS(answer, "1 bytes, sum 17, none 1");
        bh_conn_free(c);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(trailers, that_frame_are_a_panic_and_http_1_0_has_none)
{
    struct fixture f;

    start_trailers(&f);
    talk(&f, "POST /?bad HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", answer,
         sizeof answer);
    EXPECT(strstr(answer, "\r\n0\r\n") == NULL); /* broken off */
    talk(&f, "POST / HTTP/1.0\r\nContent-Length: 1\r\n\r\nx", answer, sizeof answer);
    EXPECT_HAS(answer, "1 bytes, sum -, none 1");
    EXPECT(strstr(answer, "X-End") == NULL);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- files ----------------------------------------------------------------------- */

static void
make_file(size_t size)
{
    int fd = mkstemp(file_path);

    EXPECT(fd >= 0);
    for (size_t i = 0; i < size; i++)
        EXPECT_EQ(write(fd, &"0123456789"[i % 10], 1), 1);
    close(fd);
}

TEST_REAL(file, goes_out_from_its_offset_with_and_without_filters)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    make_file(5000);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /file", send_file, file_path);
    fixture_start(&f);
    talk(&f, GET("/file?size=4999"), answer, sizeof answer);
    EXPECT_HAS(answer, "Content-Length: 4999\r\n");
    EXPECT_STARTS(body_of(answer), "123456789012");
    EXPECT_EQ(strlen(body_of(answer)), 4999);
    EXPECT_EQ(fixture_stop(&f), 0);

    start(&f);
    talk(&f, GET("/file?size=10"), answer, sizeof answer);
    EXPECT_STR(body_of(answer), "<(1234567890)>");
    EXPECT_EQ(fixture_stop(&f), 0);
    unlink(file_path);
}

TEST_REAL(file, shorter_than_announced_breaks_the_transfer)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    make_file(100);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /file", send_file, file_path);
    fixture_start(&f);
    talk(&f, GET("/file?size=100000") GET("/file?size=5"), answer, sizeof answer);
    EXPECT_EQ(count_of(answer, "HTTP/1.1 "), 1); /* the head is out before the file is read */
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    EXPECT_EQ(strlen(body_of(answer)), 99);
    talk(&f, GET("/file?size=100000&flush") GET("/file?size=5"), answer, sizeof answer);
    EXPECT_EQ(count_of(answer, "HTTP/1.1 "), 1);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    EXPECT(strlen(answer) < 1000);
    EXPECT_EQ(fixture_stop(&f), 0);
    unlink(file_path);
}
