/* timeout_test.c -- requests that take too long, and those that do not. */
#include "http_fixture.h"

#include <errno.h>

#include <bulkhead/go/sync.h>
#include <bulkhead/http/json.h>
#include <bulkhead/http/limits.h>

static char            answer[1 << 20];
static struct bh_chan *go_on, *over;

static struct bh_http_timeout_options brief = { .after = 30 * BH_MILLISECOND, .status = 504 };
static struct bh_http_timeout_options ample = { .after = 5 * BH_SECOND };

#define GET(path)        "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define POST(path, rest) "POST " path " HTTP/1.1\r\nHost: a\r\n" rest

static const char key;

/* ---- handlers -------------------------------------------------------------------- */

static int
quick(struct bh_http_call *c, void *arg)
{
    const char *body;
    ssize_t     size = bh_http_body(c, &body);

    (void)arg;
    EXPECT_EQ(size, 3);
    EXPECT_STR(bh_http_get(c, &key), "outer");
    bh_http_set(c, &key, (char *)(uintptr_t) "inner");
    EXPECT_STR(bh_http_reply_header(c, "X-Outer"), "1");
    bh_http_set_header(c, "X-Outer", "2");
    bh_http_add_header(c, "X-Inner", "3");
    EXPECT_EQ(bh_ctx_err(bh_http_ctx(c)), 0);
    return bh_http_reply(c, 200, "%s %s", bh_http_param(c, "name"), body);
}

/* Replies whatever the client may make of it, once the test lets it. */
static int
slow(struct bh_http_call *c, void *arg)
{
    struct bh_ctx *ctx = bh_http_ctx(c);
    const char    *note = NULL, *body;
    int            code;

    (void)arg;
    bh_recv(bh_ctx_done(ctx), NULL);
    code = bh_ctx_cause(ctx, &note);
    EXPECT_EQ(code, BH_EDEADLINE);
    bh_recv(go_on, NULL);
    if (bh_http_query(c, "panic") != NULL)
        bh_panic("late");
    if (c->method[0] == 'P')
        EXPECT(bh_http_body(c, &body) < 0);
    if (bh_http_query(c, "stream") != NULL) {
        bh_http_start(c, 200, "text/plain", -1);
        EXPECT_EQ(bh_http_flush(c), BH_EDEADLINE);
        EXPECT_EQ(bh_http_write(c, "x", 1), BH_EDEADLINE);
    } else {
        bh_http_reply(c, 200, "too late");
    }
    bh_send(over, &(char){ 0 });
    return 0;
}

static int
stuck_in_body(struct bh_http_call *c, void *arg)
{
    const char *body;
    ssize_t     n = bh_http_body(c, &body);

    (void)arg;
    EXPECT(n == BH_EDEADLINE);
    bh_send(over, &(char){ 0 });
    return (int)n;
}

static int
stream(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_set_header(c, "X-Stream", "1");
    bh_http_print(c, "one,");
    bh_http_flush(c);
    bh_http_print(c, "two");
    if (bh_http_query(c, "stuck") != NULL) {
        bh_recv(go_on, NULL);
        EXPECT_EQ(bh_http_flush(c), BH_EDEADLINE);
        bh_send(over, &(char){ 0 });
    }
    bh_http_trailer(c, "X-End", "fin");
    return 0;
}

static int
crash(struct bh_http_call *c, void *arg)
{
    if (bh_http_query(c, "fault") != NULL)
        *(volatile int *)arg = 1;
    if (bh_http_query(c, "exit") != NULL)
        bh_goexit();
    if (bh_http_query(c, "abort") != NULL)
        bh_http_abort(c);
    if (bh_http_query(c, "error") != NULL)
        return bh_fail(-EIO, "disk");
    bh_panic("in time");
}

static int
outer(struct bh_http_call *c, void *arg)
{
    int rc;

    (void)arg;
    bh_http_set(c, &key, (char *)(uintptr_t) "outer");
    bh_http_set_header(c, "X-Outer", "1");
    rc = bh_http_next(c);
    if (strcmp(c->route, "POST /quick/{name}") == 0)
        EXPECT_STR(bh_http_get(c, &key), "inner");
    if (c->status != 0)
        (void)bh_http_add_header(c, "X-After", "4");
    return rc;
}

static int
bind(struct bh_http_call *c, void *arg)
{
    const struct bh_json *v;
    int                   rc = bh_http_json(c, &v);

    (void)arg;
    return rc < 0 ? rc : bh_http_reply_value(c, 200, v);
}

static void
start(struct fixture *f, struct bh_http_timeout_options *o)
{
    go_on = BH_CHAN(char, 0);
    over = BH_CHAN(char, 0);
    f->s = bh_http_server_new(&(struct bh_http_options){ .half_close = true });
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_use(f->s, outer, NULL);
    bh_http_use(f->s, bh_http_timeout, o);
    bh_http_handle(f->s, "POST /quick/{name}", quick, NULL);
    bh_http_handle(f->s, "GET /slow", slow, NULL);
    bh_http_handle(f->s, "POST /slow", slow, NULL);
    bh_http_handle(f->s, "POST /stuck", stuck_in_body, NULL);
    bh_http_handle(f->s, "POST /bind", bind, NULL);
    bh_http_handle(f->s, "GET /stream", stream, NULL);
    bh_http_handle(f->s, "GET /crash", crash, NULL);
    fixture_start(f);
}

static void
stop(struct fixture *f)
{
    EXPECT_EQ(fixture_stop(f), 0);
    bh_chan_unref(go_on);
    bh_chan_unref(over);
}

/* One request on a connection that stays. */
static void
ask(struct bh_conn *c, const char *request)
{
    send_text(c, request);
    read_reply(c, answer, sizeof answer);
}

/* ---- in time --------------------------------------------------------------------- */

TEST_REAL(timeout, in_time_all_is_as_if_it_were_not_there)
{
    static const char *const requests[] = {
        POST("/quick/a%20b", "Content-Length: 3\r\n\r\nxyz"),
        POST("/quick/a%20b",
             "Transfer-Encoding: chunked\r\n\r\n1\r\nx\r\n2\r\nyz\r\n0\r\n\r\n"),
        POST("/quick/a%20b", "Content-Length: 3\r\nExpect: 100-continue\r\n\r\nxyz"),
    };
    struct fixture f;

    start(&f, &ample);
    for (int round = 0; round < 20; round++) {
        struct bh_conn *c = fixture_dial(&f);

        for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
            struct bh_http_panic report;

            ask(c, requests[i]);
            if (bh_http_panics(f.s, &report, 1) > 0)
                test_failed(__FILE__, __LINE__, "%s", report.text);
            if (i == 2) {
                EXPECT_STR(answer, "HTTP/1.1 100 Continue\r\n\r\n");
                read_reply(c, answer, sizeof answer);
            }
            EXPECT_STARTS(answer, "HTTP/1.1 200 OK\r\n");
            EXPECT_HAS(answer, "X-Outer: 2\r\nX-Inner: 3\r\nX-After: 4\r\n");
            EXPECT_STR(body_of(answer), "a b xyz");
        }
        bh_conn_free(c);
    }
    talk(&f, GET("/none"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 404 ");
    stop(&f);
}

TEST_REAL(timeout, in_time_a_stream_goes_through)
{
    struct fixture f;

    start(&f, &ample);
    talk(&f, GET("/stream"), answer, sizeof answer);
    EXPECT_HAS(answer, "X-Outer: 1\r\n");
    EXPECT_HAS(answer, "X-Stream: 1\r\n");
    EXPECT_HAS(answer, "4\r\none,\r\n3\r\ntwo\r\n0\r\nX-End: fin\r\n\r\n");
    stop(&f);
}

TEST_REAL(timeout, in_time_a_panic_is_the_requests_with_its_own_stack)
{
    static char          stack[8192];
    struct bh_http_panic report;
    struct fixture       f;

    start(&f, &ample);
    talk(&f, GET("/crash?fault"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_EQ(bh_http_panics(f.s, &report, 1), 1);
    EXPECT_STR(report.where, "handler");
    EXPECT_STR(report.outcome, "500");
    EXPECT_STR(report.route, "GET /crash");
    EXPECT_EQ(report.signal, 11);
    bh_http_panic_stack(&report, stack, sizeof stack);
    EXPECT_HAS(stack, "crash(...)");
    talk(&f, GET("/crash"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_EQ(bh_http_panics(f.s, &report, 1), 1);
    EXPECT_STR(report.text, "in time");
    stop(&f);
}

static int
with_field(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "X-Handler", "3");
    return bh_http_reply(c, 200, "ok");
}

static int
crash_after(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)bh_http_next(c);
    bh_panic("after");
}

static int
name_it(struct bh_http_call *c, void *arg)
{
    int rc;

    (void)arg;
    bh_http_set_header(c, "X-Observer", "1");
    rc = bh_http_next(c);
    bh_http_add_header(c, "X-Observer-After", "2");
    return rc;
}

TEST_REAL(timeout, a_panic_behind_an_adopted_reply_leaves_what_observers_say)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_observe(f.s, name_it, NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_use(f.s, crash_after, NULL);
    bh_http_use(f.s, bh_http_timeout, &ample);
    bh_http_handle(f.s, "GET /stream", stream, NULL);
    fixture_start(&f);
    talk(&f, GET("/stream?flush_not"), answer, sizeof answer);
    EXPECT(strstr(answer, "\r\n0\r\n") == NULL);
    EXPECT_EQ(fixture_stop(&f), 0);

    f.s = bh_http_server_new(NULL);
    bh_http_observe(f.s, name_it, NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_use(f.s, crash_after, NULL);
    bh_http_use(f.s, bh_http_timeout, &ample);
    bh_http_handle(f.s, "GET /", with_field, NULL);
    fixture_start(&f);
    talk(&f, GET("/"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_HAS(answer, "X-Observer: 1\r\n");
    EXPECT_HAS(answer, "X-Observer-After: 2\r\n");
    EXPECT(strstr(answer, "X-Handler") == NULL);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(timeout, in_time_other_ends_are_what_they_are_without)
{
    struct fixture f;

    start(&f, &ample);
    talk(&f, GET("/crash?exit"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    talk(&f, POST("/bind", "Content-Length: 3\r\n\r\n[1]"), answer, sizeof answer);
    EXPECT_STR(body_of(answer), "[1]");
    talk(&f, POST("/bind", "Content-Length: 3\r\n\r\n[1}"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 400 ");
    EXPECT_HAS(body_of(answer), "json: ");
    talk(&f, GET("/crash?error"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    talk(&f, GET("/crash?abort"), answer, sizeof answer);
    EXPECT_STR(answer, "");
    stop(&f);
}

/* ---- too late -------------------------------------------------------------------- */

TEST_REAL(timeout, too_late_the_client_has_its_answer_and_the_handler_runs_on)
{
    struct fixture  f;
    struct bh_conn *c;

    start(&f, &brief);
    c = fixture_dial(&f);
    for (int i = 0; i < 3; i++) {
        ask(c, GET("/slow"));
        EXPECT_STARTS(answer, "HTTP/1.1 504 ");
        EXPECT_HAS(answer, "X-Outer: 1\r\n");
        EXPECT_HAS(answer, "X-After: 4\r\n");
        EXPECT_HAS(body_of(answer), "timed out");
        bh_send(go_on, &(char){ 0 }); /* it is still there */
        bh_recv(over, NULL);
    }
    ask(c, GET("/slow?stream"));
    EXPECT_STARTS(answer, "HTTP/1.1 504 ");
    bh_send(go_on, &(char){ 0 });
    bh_recv(over, NULL);
    bh_conn_free(c);
    talk(&f, POST("/slow", "Content-Length: 3\r\n\r\nxyz"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 504 ");
    bh_send(go_on, &(char){ 0 });
    bh_recv(over, NULL);
    stop(&f);
}

TEST_REAL(timeout, a_late_panic_is_reported_as_such)
{
    struct bh_http_panic report;
    struct bh_http_stats stats;
    struct fixture       f;

    start(&f, &brief);
    talk(&f, GET("/slow?panic"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 504 ");
    EXPECT_EQ(bh_http_panics(f.s, &report, 1), 0);
    bh_send(go_on, &(char){ 0 });
    do {
        bh_yield();
        bh_http_stats(f.s, &stats);
    } while (stats.panics == 0);
    while (bh_http_panics(f.s, &report, 1) == 0)
        bh_yield();
    EXPECT_STR(report.where, "late");
    EXPECT_STR(report.text, "late");
    EXPECT_STR(report.route, "GET /slow");
    EXPECT(report.frame_count > 2);
    stop(&f);
}

TEST_REAL(timeout, a_handler_that_waits_for_the_body_is_cut_off_too)
{
    struct fixture  f;
    struct bh_conn *c;

    start(&f, &brief);
    c = fixture_dial(&f);
    send_text(c, POST("/stuck", "Content-Length: 9\r\n\r\nabc"));
    read_reply(c, answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 504 ");
    EXPECT_HAS(answer, "Connection: close\r\n");
    bh_recv(over, NULL);
    bh_conn_free(c);
    stop(&f);
}

TEST_REAL(timeout, a_reply_that_has_begun_is_broken_off)
{
    struct fixture f;

    start(&f, &brief);
    talk(&f, GET("/stream?stuck"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    EXPECT_HAS(answer, "one,");
    EXPECT(strstr(answer, "\r\n0\r\n") == NULL);
    bh_send(go_on, &(char){ 0 });
    bh_recv(over, NULL);
    stop(&f);
}

TEST_REAL(timeout, draining_waits_for_who_is_late)
{
    struct fixture  f;
    struct bh_conn *c;

    start(&f, &brief);
    c = fixture_dial(&f);
    ask(c, GET("/slow"));
    EXPECT_STARTS(answer, "HTTP/1.1 504 ");
    bh_http_stop(f.s);
    bh_conn_free(c);
    bh_sleep(5 * BH_MILLISECOND);
    bh_send(go_on, &(char){ 0 });
    bh_recv(over, NULL);
    stop(&f);
}

/* ---- at the very moment ---------------------------------------------------------- */

static struct bh_http_timeout_options exact = { .after = 300 * BH_MICROSECOND };

static int
about_then(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_sleep(exact.after - 40 * BH_MICROSECOND + (int64_t)(c->id % 8) * 10 * BH_MICROSECOND);
    if (c->id % 5 == 0)
        bh_panic("then");
    if (c->id % 5 == 1) {
        bh_http_start(c, 200, "text/plain", -1);
        bh_http_flush(c);
        bh_http_print(c, "200");
        return 0;
    }
    return bh_http_reply(c, 200, "200");
}

static int counts[3];

static void
race(void *args)
{
    struct fixture *f = *(struct fixture **)args;
    char            reply[1024];
    int             here[3] = { 0 };

    for (int i = 0; i < 400; i++) {
        talk(f, GET("/then"), reply, sizeof reply);
        if (reply[0] == '\0' ||
            (starts_with(reply, "HTTP/1.1 200") && strstr(reply, "chunked") != NULL &&
             strstr(reply, "\r\n0\r\n\r\n") == NULL)) {
            here[2]++; /* broken off */
            continue;
        }
        EXPECT_EQ(count_of(reply, "HTTP/1.1 "), 1);
        if (starts_with(reply, "HTTP/1.1 200"))
            EXPECT_HAS(body_of(reply), "200");
        else
            EXPECT(starts_with(reply, "HTTP/1.1 503") || starts_with(reply, "HTTP/1.1 500"));
        here[starts_with(reply, "HTTP/1.1 200") ? 0 : 1]++;
    }
    for (int i = 0; i < 3; i++)
        __atomic_fetch_add(&counts[i], here[i], __ATOMIC_RELAXED);
}

TEST_REAL(timeout, at_the_very_moment_there_is_one_answer)
{
    struct fixture f = { .s = bh_http_server_new(NULL) }, *pointer = &f;

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_use(f.s, bh_http_timeout, &exact);
    bh_http_handle(f.s, "GET /then", about_then, NULL);
    fixture_start(&f);
    race(&pointer);
    EXPECT(counts[0] + counts[1] + counts[2] == 400);
    EXPECT_EQ(fixture_stop(&f), 0);
}
