/* reply_test.c -- replies as they go over the wire; bodies, queries, values, the log. */
#include "http_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>

enum { SIZE = 1 << 22 };
static char answer[SIZE];
#define H         "Host: a\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" H "\r\n"

static char large[1 << 20];

static int
small_stream(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    for (int i = 0; i < 10; i++)
        bh_http_print(c, "%d,", i);
    return 0;
}

static int
long_stream(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    for (int i = 0; i < 50000; i++)
        bh_http_print(c, "line %d\n", i);
    return 0;
}

static int
known_length(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 201, "text/plain", 20000);
    for (int i = 0; i < 20; i++)
        bh_http_write(c, large, 1000);
    return 0;
}

static int
too_long(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", 3);
    bh_http_write(c, "abcd", 4);
    return 0;
}

static int
large_bytes(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply_bytes(c, 200, "text/plain", large, sizeof large);
}

static int
with_headers(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "X-One", "1");
    bh_http_set_header(c, "x-one", "2");
    bh_http_add_header(c, "Set-Cookie", "a=1");
    bh_http_add_header(c, "Set-Cookie", "b=2");
    bh_http_set_header(c, "Content-Type", "text/x-own");
    return bh_http_reply(c, 200, "ok");
}

static int
bad_header(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, bh_http_query(c, "name"), bh_http_query(c, "value"));
    return bh_http_reply(c, 200, "ok");
}

static int
queries(struct bh_http_call *c, void *arg)
{
    const char *a = bh_http_query(c, "a"), *b = bh_http_query(c, "b c");

    (void)arg;
    return bh_http_reply(c, 200, "%s|%s|%s", a != NULL ? a : "-", b != NULL ? b : "-",
                         c->query);
}

static int
uploads(struct bh_http_call *c, void *arg)
{
    char    piece[1000];
    size_t  total = 0;
    ssize_t n;

    (void)arg;
    while ((n = bh_http_read(c, piece, sizeof piece)) > 0)
        total += (size_t)n;
    return n < 0 ? (int)n : bh_http_reply(c, 200, "%zu bytes", total);
}

static int
body_twice(struct bh_http_call *c, void *arg)
{
    const char *a, *b;
    ssize_t     n = bh_http_body(c, &a);

    (void)arg;
    EXPECT_EQ(bh_http_body(c, &b), n);
    return bh_http_reply(c, 200, "%d %zd %s", a == b, n, b);
}

static int
says_host(struct bh_http_call *c, void *arg)
{
    const char *name, *value;
    unsigned    fields = 0;

    (void)arg;
    while (bh_http_header_at(c, fields, &name, &value))
        fields++;
    return bh_http_reply(c, 200, "%s %s %u %s", c->host, c->path, fields,
                         bh_http_header(c, "missing") == NULL ? "none" : "some");
}

static int key, added_after;

static int
adds_value(struct bh_http_call *c, void *arg)
{
    int rc;

    bh_http_set(c, &key, arg);
    rc = bh_http_next(c);
    added_after = bh_http_set_header(c, "X-After", "added");
    return rc;
}

static int
shows_value(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%s", (const char *)bh_http_get(c, &key));
}

static int
nexts(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_next(c);
}

static int
params(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%s|%s", bh_http_param(c, "a"), bh_http_param(c, "rest"));
}

static int
no_content(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply_bytes(c, 204, NULL, NULL, 0);
}

static void
start(struct fixture *f)
{
    static char value[] = "from outside";

    memset(large, 'L', sizeof large);
    f->s = bh_http_server_new(NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_use(f->s, adds_value, value);
    bh_http_handle(f->s, "GET /small", small_stream, NULL);
    bh_http_handle(f->s, "GET /long", long_stream, NULL);
    bh_http_handle(f->s, "GET /known", known_length, NULL);
    bh_http_handle(f->s, "GET /toolong", too_long, NULL);
    bh_http_handle(f->s, "GET /large", large_bytes, NULL);
    bh_http_handle(f->s, "GET /headers", with_headers, NULL);
    bh_http_handle(f->s, "GET /badheader", bad_header, NULL);
    bh_http_handle(f->s, "GET /query", queries, NULL);
    bh_http_handle(f->s, "POST /upload", uploads, NULL);
    bh_http_handle(f->s, "POST /twice", body_twice, NULL);
    bh_http_handle(f->s, "GET /host", says_host, NULL);
    bh_http_handle(f->s, "GET /value", shows_value, NULL);
    bh_http_handle(f->s, "GET /next", nexts, NULL);
    bh_http_handle(f->s, "GET /params/{a}/{rest...}", params, NULL);
    bh_http_handle(f->s, "GET /nothing", no_content, NULL);
    fixture_start(f);
}

static struct bh_http_panic
latest(struct fixture *f)
{
    struct bh_http_panic report;

    EXPECT_EQ(bh_http_panics(f->s, &report, 1), 1);
    return report;
}

/* The body of a chunked reply, in place.  Returns: its size. */
static size_t
unchunk(char *body)
{
    char *in = body, *out = body, *end;

    for (;;) {
        size_t n = strtoul(in, &end, 16);

        EXPECT(end != in && end[0] == '\r' && end[1] == '\n');
        if (n == 0) {
            EXPECT_STR(end, "\r\n\r\n");
            *out = '\0';
            return (size_t)(out - body);
        }
        memmove(out, end + 2, n);
        out += n;
        in = end + 2 + n;
        EXPECT(in[0] == '\r' && in[1] == '\n');
        in += 2;
    }
}

TEST_REAL(reply, a_stream_that_fits_the_buffer_has_a_length)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/small"), answer, SIZE);
    EXPECT_HAS(answer, "\r\nContent-Length: 20\r\n");
    EXPECT_STR(body_of(answer), "0,1,2,3,4,5,6,7,8,9,");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(reply, a_longer_one_is_chunked_and_ends_with_the_last_chunk)
{
    struct fixture f;
    size_t         size = 0;

    start(&f);
    talk(&f, GET("/long"), answer, SIZE);
    EXPECT_HAS(answer, "\r\nTransfer-Encoding: chunked\r\n");
    EXPECT(strstr(answer, "Content-Length") == NULL);
    char *body = strstr(answer, "\r\n\r\n") + 4;
    EXPECT_EQ(unchunk(body), 538890);
    EXPECT_EQ(added_after, -EALREADY);
    for (int i = 0; i < 50000; i++) {
        char line[32];
        int  n = snprintf(line, sizeof line, "line %d\n", i);

        EXPECT(memcmp(body + size, line, (size_t)n) == 0);
        size += (size_t)n;
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(reply, to_http_1_0_a_stream_ends_with_the_connection)
{
    struct fixture f;

    start(&f);
    EXPECT_EQ(talk(&f, "GET /long HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", answer, SIZE),
              0);
    EXPECT(strstr(answer, "chunked") == NULL && strstr(answer, "Content-Length") == NULL);
    EXPECT_HAS(answer, "\r\nConnection: close\r\n");
    EXPECT_EQ(strlen(body_of(answer)), 538890);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(reply, head_of_a_stream_sends_no_body_in_any_form)
{
    struct fixture f;

    start(&f);
    talk(&f, "HEAD /long HTTP/1.1\r\n" H "\r\nHEAD /known HTTP/1.1\r\n" H "\r\n" GET("/value"),
         answer, SIZE);
    EXPECT_EQ(count_of(answer, "HTTP/1.1 20"), 3);
    EXPECT_EQ(count_of(answer, "line "), 0);
    EXPECT_HAS(answer, "\r\nContent-Length: 20000\r\n");
    EXPECT_STR(answer + strlen(answer) - 16, "\r\n\r\nfrom outside");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(reply, a_known_length_is_sent_and_may_not_be_exceeded)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/known") GET("/value"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 201 Created\r\n");
    EXPECT_HAS(answer, "\r\nContent-Length: 20000\r\n");
    EXPECT_EQ(strstr(body_of(answer), "HTTP/1.1 200 OK\r\n") - body_of(answer), 20000);
    talk(&f, GET("/toolong"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_STR(latest(&f).text, "http: body of the reply is longer than the 3 bytes announced");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(reply, a_megabyte_arrives_whole_to_a_slow_reader)
{
    struct fixture f;
    size_t         used = 0;
    ssize_t        n;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, "GET /large HTTP/1.1\r\n" H "Connection: close\r\n\r\n");
    while ((n = bh_read(c, answer + used, 9973)) > 0) {
        used += (size_t)n;
        bh_yield();
    }
    EXPECT_EQ(n, 0);
    answer[used] = '\0';
    EXPECT_EQ(strlen(body_of(answer)), sizeof large);
    EXPECT_EQ(strspn(body_of(answer), "L"), sizeof large);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(reply, fields_are_replaced_or_added_also_after_the_handler)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/headers"), answer, SIZE);
    EXPECT_HAS(answer, "\r\nX-One: 2\r\n");
    EXPECT_EQ(count_of(answer, "X-One"), 1);
    EXPECT_HAS(answer, "\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n");
    EXPECT_HAS(answer, "\r\nContent-Type: text/x-own\r\n");
    EXPECT_HAS(answer, "\r\nX-After: added\r\n");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(reply, fields_that_split_or_frame_are_panics)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/badheader?name=X&value=a%0d%0aY:b"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_STR(latest(&f).text, "http: bad header field \"X\"");
    talk(&f, GET("/badheader?name=X%20Y&value=a"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    talk(&f, GET("/badheader?name=content-length&value=3"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_STR(latest(&f).text, "http: header field Content-Length is the server's to set");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(reply, no_content_has_neither_body_nor_length)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/nothing") GET("/value"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 204 No Content\r\n");
    EXPECT_STARTS(body_of(answer), "HTTP/1.1 200 OK\r\n");
    EXPECT_EQ(count_of(answer, "Content-Length"), 1);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- what a handler sees --------------------------------------------------------- */

TEST_REAL(call, query_values_are_unescaped_and_the_first_counts)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/query?x=0&a=1+2%263&a=4&b%20c=%C3%A9"), answer, SIZE);
    EXPECT_STR(body_of(answer), "1 2&3|\xc3\xa9|x=0&a=1+2%263&a=4&b%20c=%C3%A9");
    talk(&f, GET("/query?a=%zz&b+c"), answer, SIZE);
    EXPECT_STR(body_of(answer), "-||a=%zz&b+c");
    talk(&f, GET("/query"), answer, SIZE);
    EXPECT_STR(body_of(answer), "-|-|");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(call, parameters_are_unescaped_after_cutting)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/params/a%2Fb%20c/x/y%2fz/"), answer, SIZE);
    EXPECT_STR(body_of(answer), "a/b c|x/y/z/");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(call, the_authority_of_an_absolute_target_is_the_host)
{
    struct fixture f;

    start(&f);
    talk(&f,
         "GET http://Example.org:80/host?q HTTP/1.1\r\nHost: example.org:80\r\nA: b\r\n\r\n",
         answer, SIZE);
    EXPECT_STR(body_of(answer), "Example.org:80 /host 2 none");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(call, values_reach_later_steps)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/value"), answer, SIZE);
    EXPECT_STR(body_of(answer), "from outside");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(call, next_from_the_last_step_is_a_named_panic)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/next"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_STR(latest(&f).text, "http: bh_http_next called by the last step of the chain");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(call, a_body_is_read_in_pieces_or_kept_whole)
{
    struct fixture f;
    static char    request[1 << 20];
    int            n;

    start(&f);
    n = snprintf(request, sizeof request,
                 "POST /upload HTTP/1.1\r\n" H "Content-Length: 300000\r\n\r\n");
    memset(request + n, 'x', 300000);
    memcpy(request + n + 300000, GET("/value"), sizeof GET("/value"));
    talk(&f, request, answer, SIZE);
    EXPECT_HAS(answer, "\r\n\r\n300000 bytesHTTP/1.1 200 OK\r\n");
    talk(&f, "POST /twice HTTP/1.1\r\n" H "Content-Length: 5\r\n\r\nhello", answer, SIZE);
    EXPECT_STR(body_of(answer), "1 5 hello");
    talk(&f, "POST /twice HTTP/1.1\r\n" H "\r\n", answer, SIZE);
    EXPECT_STR(body_of(answer), "1 0 ");
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- the log --------------------------------------------------------------------- */

TEST_REAL(log, a_line_says_who_asked_what_and_what_became_of_it)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };
    char           line[1024];
    int            ends[2];

    EXPECT_EQ(pipe2(ends, O_CLOEXEC), 0);
    bh_http_observe(f.s, bh_http_access_log, &ends[1]);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /value", shows_value, NULL);
    bh_http_handle(f.s, "GET /next", nexts, NULL);
    fixture_start(&f);

    talk(&f, GET("/next?a=\"b"), answer, SIZE);
    EXPECT((line[read(ends[0], line, sizeof line - 1)] = '\0') == 0);
    EXPECT_HAS(line, "Z 127.0.0.1:");
    EXPECT_HAS(line, " \"GET /next?a=\\x22b HTTP/1.1\" 500 26 0.0");
    EXPECT_HAS(line, " 1 \"http: bh_http_next called by the last step of the chain\"\n");

    talk(&f, "GET / HTTP/1.1\r\nBad Header: x\r\n\r\n", answer, SIZE);
    memset(line, 0, sizeof line);
    EXPECT(read(ends[0], line, sizeof line - 1) > 0);
    EXPECT_HAS(line, " \"- - HTTP/1.1\" 400 ");
    EXPECT_EQ(count_of(line, "\n"), 1);
    EXPECT_EQ(fixture_stop(&f), 0);
    close(ends[0]);
    close(ends[1]);
}

/* ---- signals --------------------------------------------------------------------- */

struct serving {
    struct bh_http_server *s;
    struct bh_chan        *done;
};

static void
serve_until_signal(void *args)
{
    struct serving *a = args;
    int             rc = bh_http_serve_until_signal(a->s);

    bh_send(a->done, &rc);
}

TEST_REAL(signals, sigterm_drains_and_returns)
{
    struct fixture f = { .s = bh_http_server_new(NULL), .done = BH_CHAN(int, 1) };
    int            rc = -1;

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /nothing", no_content, NULL);
    EXPECT_EQ(bh_http_listen(f.s, "127.0.0.1:0"), 0);
    bh_go(serve_until_signal, &(struct serving){ f.s, f.done });
    talk(&f, GET("/nothing"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 204 ");
    EXPECT_EQ(kill(getpid(), SIGTERM), 0);
    EXPECT(bh_recv(f.done, &rc));
    EXPECT_EQ(rc, 0);
    bh_chan_unref(f.done);
    bh_http_server_free(f.s);
}

TEST_REAL(listen, a_taken_address_is_an_error)
{
    struct fixture         f;
    struct bh_http_server *other = bh_http_server_new(NULL);

    start(&f);
    EXPECT_EQ(bh_http_listen(other, bh_http_address(f.s)), -EADDRINUSE);
    bh_http_server_free(other);
    EXPECT_EQ(fixture_stop(&f), 0);
}

static int
stream_much(struct bh_http_call *c, void *arg)
{
    char row[3000];

    (void)arg;
    memset(row, 'x', sizeof row - 1);
    row[sizeof row - 1] = '\0';
    bh_http_start(c, 200, "text/plain", -1);
    for (int i = 0; i < 500; i++) {
        bh_http_print(c, "line %d of many\n", i);
        bh_http_print(c, "%s\n", row);
    }
    return 0;
}

TEST_REAL(reply, a_stream_of_any_length_does_not_use_up_the_requests_memory)
{
    static char    all[2 << 20];
    struct fixture f = { .s = bh_http_server_new(
                             &(struct bh_http_options){ .max_memory = 64 << 10 }) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /much", stream_much, NULL);
    fixture_start(&f);
    (void)talk(&f, "GET /much HTTP/1.0\r\nHost: a\r\n\r\n", all, sizeof all);
    EXPECT_STARTS(all, "HTTP/1.1 200 ");
    EXPECT_HAS(all, "line 499 of many\nxxx");
    EXPECT_EQ(strlen(strstr(all, "\r\n\r\n") + 4) > 500 * 3000, true);
    EXPECT_EQ(fixture_stop(&f), 0);
}
