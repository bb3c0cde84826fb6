/* spec_j_test.c -- what becomes of a failing handler, case by case as known from Go's net/http. */
#include "http_spec.h"

#include <errno.h>

#include <bulkhead/http/limits.h>

#include "h2_client.h"
#include "ht.h"

TEST_PLAIN(spec_j, every_row_of_the_table_has_its_test)
{
    expect_table('J', __FILE__);
}

TEST_REAL(J01, a_panic_is_a_500_and_a_report_and_the_server_goes_on)
{
    struct bh_http_panic report;
    struct fixture       f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /panic", panics, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    expect_500_and_alive(&f, GET("/panic"));
    report = spec_report(&f, 1);
    EXPECT_STR(report.text, "handler failed");
    EXPECT_STR(report.route, "GET /panic");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J21, the_report_has_the_place_and_the_stack_of_the_panic)
{
    static char          stack[8192];
    struct bh_http_panic report;
    struct fixture       f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /panic", panics, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    expect_500_and_alive(&f, GET("/panic"));
    report = spec_report(&f, 1);
    EXPECT_HAS(report.file, "http_spec.h");
    EXPECT(report.line > 0);
    (void)bh_http_panic_stack(&report, stack, sizeof stack);
    EXPECT_HAS(stack, "panics(...)");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J02, behind_a_flushed_part_the_last_chunk_never_comes)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /breaks", breaks, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    EXPECT_STARTS(ask_to_end(&f, GET("/breaks")), "HTTP/1.1 200 ");
    EXPECT_STR(body_of(spec_answer), "4\r\nhalf\r\n");
    EXPECT_STR(spec_report(&f, 1).outcome, "aborted");
    expect_alive(&f);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J04, a_body_of_a_length_stays_short_of_it)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /breaks", breaks, NULL);
    fixture_start(&f);
    EXPECT_HAS(ask_to_end(&f, GET("/breaks?length")), "\r\nContent-Length: 100\r\n");
    EXPECT_STR(body_of(spec_answer), "half");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J03, what_was_not_flushed_is_not_sent_but_replaced)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /breaks", breaks, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    expect_500_and_alive(&f, GET("/breaks?kept"));
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J05, an_abort_breaks_the_transfer_and_is_no_panic)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /abort", aborts, NULL);
    bh_http_handle(f.s, "GET /breaks", breaks, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    EXPECT_STR(ask_to_end(&f, GET("/abort")), "");
    EXPECT_STR(body_of(ask_to_end(&f, GET("/breaks?abort"))), "4\r\nhalf\r\n");
    expect_alive(&f);
    EXPECT_EQ(spec_stats(&f).panics, 0);
    EXPECT_EQ(spec_stats(&f).aborted, 2);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J07, panic_nil_is_a_panic_like_any_other)
{
    struct bh_http_panic report;
    struct fixture       f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /nil", panics_nil, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    expect_500_and_alive(&f, GET("/nil"));
    report = spec_report(&f, 1);
    EXPECT_HAS(report.kind, "PanicNilError");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J08, goexit_closes_the_connection_and_is_no_panic)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /exit", exits, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    EXPECT_STR(ask_to_end(&f, GET("/exit")), "");
    expect_alive(&f);
    EXPECT_EQ(spec_stats(&f).panics, 0);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- goroutines of a handler ----------------------------------------------------- */

static void
job_panics(struct bh_http_call *c, void *args)
{
    (void)c;
    (void)args;
    bh_panic("job failed");
}

static int
starts_job(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_go(c, job_panics, NULL);
    return bh_http_reply(c, 200, "started");
}

TEST_REAL(J09, a_panic_of_the_requests_goroutine_is_a_report_with_its_route)
{
    struct bh_http_panic report;
    struct fixture       f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /job", starts_job, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STR(body_of(ask_on(c, GET("/job"))), "started");
    report = spec_report(&f, 1);
    EXPECT_STR(report.where, "background");
    EXPECT_STR(report.route, "GET /job");
    EXPECT_STR(report.text, "job failed");
    EXPECT_STR(body_of(ask_on(c, GET("/fine"))), "fine");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

static void
dies(void *args)
{
    (void)args;
    bh_panic("nobody recovers this");
}

static int
starts_goroutine(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_go(dies, NULL);
    bh_sleep(5 * BH_SECOND);
    return bh_http_reply(c, 200, "never");
}

TEST_DIES(J26, a_bare_goroutine_is_covered_by_no_middleware, 2, "panic: nobody recovers this")
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /go", starts_goroutine, NULL);
    fixture_start(&f);
    ask_to_end(&f, GET("/go"));
}

/* ---- timeouts -------------------------------------------------------------------- */

static struct bh_chan *go_on;

static int
waits_and_panics(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    bh_recv(go_on, NULL);
    bh_panic("after the timeout");
}

static struct bh_http_timeout_options ample = { .after = 5 * BH_SECOND },
                                      brief = { .after = 20 * BH_MILLISECOND };

TEST_REAL(J10, a_panic_before_the_timeout_is_reported_with_its_own_stack)
{
    static char          stack[8192];
    struct bh_http_panic report;
    struct fixture       f;

    spec_server(&f);
    bh_http_use(f.s, bh_http_timeout, &ample);
    bh_http_handle(f.s, "GET /panic", panics, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    expect_500_and_alive(&f, GET("/panic"));
    report = spec_report(&f, 1);
    EXPECT_STR(report.text, "handler failed");
    EXPECT_HAS(report.file, "http_spec.h");
    (void)bh_http_panic_stack(&report, stack, sizeof stack);
    EXPECT_HAS(stack, "panics(...)");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J11, a_panic_after_the_timeout_is_reported_too)
{
    struct bh_http_panic report;
    struct fixture       f;

    go_on = BH_CHAN(char, 0);
    spec_server(&f);
    bh_http_use(f.s, bh_http_timeout, &brief);
    bh_http_handle(f.s, "GET /late", waits_and_panics, NULL);
    fixture_start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STARTS(ask_on(c, GET("/late")), "HTTP/1.1 503 ");
    bh_send(go_on, &(char){ 0 });
    report = spec_report(&f, 1);
    EXPECT_STR(report.text, "after the timeout");
    EXPECT_STR(report.where, "late");
    EXPECT_STR(report.route, "GET /late");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(go_on);
}

/* ---- recovering by oneself ------------------------------------------------------- */

static int
recovers(struct bh_http_call *c, void *arg)
{
    BH_RECOVER(p) {
        return bh_http_reply(c, 500, "mine: %s", bh_panic_text(p));
    }
    (void)arg;
    return bh_http_next(c);
}

static void
start_recovering(struct fixture *f)
{
    spec_server(f);
    bh_http_use(f->s, recovers, NULL);
    bh_http_handle(f->s, "GET /panic", panics, NULL);
    bh_http_handle(f->s, "GET /breaks", breaks, NULL);
    bh_http_handle(f->s, "GET /fine", fine, NULL);
    fixture_start(f);
}

TEST_REAL(J12, a_500_after_half_a_200_breaks_the_transfer)
{
    struct fixture f;

    start_recovering(&f);
    EXPECT_STR(body_of(ask_to_end(&f, GET("/breaks"))), "4\r\nhalf\r\n");
    EXPECT_HAS(spec_report(&f, 1).text, "second reply");
    expect_alive(&f);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J13, recovered_before_any_output_the_reply_is_the_middlewares)
{
    struct fixture f;

    start_recovering(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STARTS(ask_on(c, GET("/panic")), "HTTP/1.1 500 ");
    EXPECT_STR(body_of(spec_answer), "mine: handler failed");
    EXPECT_STR(body_of(ask_on(c, GET("/fine"))), "fine");
    EXPECT_EQ(spec_stats(&f).panics, 0); /* it never came to bh_http_recover */
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- connections ----------------------------------------------------------------- */

static int
upgrades(struct bh_http_call *c, void *arg)
{
    (void)arg;
    if (ht_upgrade(c->s, "test") < 0 || ht_raw_write(c->s, "raw", 3) != 3)
        return -EIO;
    bh_panic("after the upgrade");
}

TEST_REAL(J14, an_upgraded_connection_is_closed_by_a_panic)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /up", upgrades, NULL);
    fixture_start(&f);
    EXPECT_STARTS(ask_to_end(&f, GET("/up")), "HTTP/1.1 101 Switching Protocols\r\n");
    EXPECT_STR(body_of(spec_answer), "raw");
    EXPECT_STR(spec_report(&f, 1).text, "after the upgrade");
    while (spec_stats(&f).open > 0)
        bh_yield();
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J15, the_next_request_on_the_same_connection_works)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /panic", panics, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    struct bh_conn *c = fixture_dial(&f);
    for (int i = 0; i < 10; i++) {
        EXPECT_STARTS(ask_on(c, GET("/panic")), "HTTP/1.1 500 ");
        EXPECT_STR(body_of(ask_on(c, GET("/fine"))), "fine");
    }
    EXPECT_EQ(spec_stats(&f).connections, 1);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(J16, a_handler_called_without_a_chain_panics_into_its_caller)
{
    EXPECT_PANIC("handler failed", (void)panics(NULL, NULL));
}

static int
waits(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_recv(go_on, NULL);
    return bh_http_reply(c, 200, "waited");
}

static struct h2_client h2;
static struct h2_reply  reply;

static void
start_h2(struct fixture *f)
{
    go_on = BH_CHAN(char, 0);
    spec_server(f);
    bh_http_handle(f->s, "GET /panic", panics, NULL);
    bh_http_handle(f->s, "GET /breaks", breaks, NULL);
    bh_http_handle(f->s, "GET /abort", aborts, NULL);
    bh_http_handle(f->s, "GET /waits", waits, NULL);
    fixture_start(f);
    h2_open(&h2, f, NULL, 0);
    h2_get(&h2, 1, "/waits");
}

/* The stream that was open all the time is none the worse for it. */
static void
stop_h2(struct fixture *f)
{
    bh_send(go_on, &(char){ 0 });
    EXPECT_EQ(h2_read(&h2, 1, &reply), 200);
    EXPECT_STR(reply.body, "waited");
    h2_close(&h2);
    EXPECT_EQ(fixture_stop(f), 0);
    bh_chan_unref(go_on);
}

TEST_REAL(J17, in_http2_a_panic_is_a_500_or_a_reset_of_its_stream_only)
{
    struct fixture f;

    start_h2(&f);
    h2_get(&h2, 3, "/panic");
    EXPECT_EQ(h2_read(&h2, 3, &reply), 500);
    EXPECT_EQ(reply.reset, -1);
    h2_get(&h2, 5, "/breaks");
    EXPECT_EQ(h2_read(&h2, 5, &reply), 200);
    EXPECT_EQ(reply.reset, NGHTTP2_INTERNAL_ERROR);
    EXPECT_STR(spec_report(&f, 2).outcome, "aborted");
    stop_h2(&f);
}

TEST_REAL(J18, in_http2_an_abort_resets_its_stream_and_is_no_panic)
{
    struct fixture f;

    start_h2(&f);
    h2_get(&h2, 3, "/abort");
    EXPECT_EQ(h2_read(&h2, 3, &reply), 0);
    EXPECT(reply.reset >= 0);
    EXPECT_EQ(spec_stats(&f).panics, 0);
    stop_h2(&f);
}

/* A backend that sends the head and half of the body, and is gone. */
static void
backend(void *args)
{
    struct bh_listener *l = *(struct bh_listener **)args;
    struct bh_conn     *c;
    char                request[512];

    if (bh_accept(l, &c) < 0)
        return;
    if (bh_read(c, request, sizeof request) > 0)
        send_text(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    bh_conn_free(c);
}

static int
forwards(struct bh_http_call *c, void *arg)
{
    struct bh_conn *back;
    char            piece[512];
    ssize_t         n;
    size_t          got = 0;

    if (bh_dial(bh_http_ctx(c), bh_listener_address(arg), &back) < 0)
        return bh_http_reply(c, 502, "no backend");
    BH_DEFER(bh_conn_free, back);
    send_text(back, GET("/"));
    bh_http_start(c, 200, "text/plain", 100);
    while ((n = bh_read(back, piece, sizeof piece)) > 0) {
        const char *body = n > 0 && got == 0 ? memmem(piece, (size_t)n, "\r\n\r\n", 4) : NULL;
        size_t      skip = body != NULL ? (size_t)(body + 4 - piece) : 0;

        (void)bh_http_write(c, piece + skip, (size_t)n - skip);
        got += (size_t)n - skip;
    }
    if (got < 100) {
        (void)bh_http_flush(c);
        bh_http_abort(c);
    }
    return 0;
}

TEST_REAL(J19, a_proxy_whose_backend_dies_breaks_off_without_a_report)
{
    struct bh_listener *l;
    struct fixture      f;

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    bh_go(backend, &l);
    spec_server(&f);
    bh_http_handle(f.s, "GET /", forwards, l);
    fixture_start(&f);
    EXPECT_STARTS(ask_to_end(&f, GET("/")), "HTTP/1.1 200 OK\r\n");
    EXPECT_STR(body_of(spec_answer), "half");
    EXPECT_EQ(spec_stats(&f).panics, 0);
    EXPECT_EQ(spec_stats(&f).aborted, 1);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_listener_free(l);
}

TEST_REAL(J22, the_500_does_not_wait_for_a_body_that_is_still_unsent)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "POST /panic", panics, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STARTS(
        ask_on(c, "POST /panic HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nsome"),
        "HTTP/1.1 500 ");
    (void)spec_report(&f, 1);
    bh_conn_free(c); /* it never comes: nobody is left waiting for it */
    while (spec_stats(&f).open > 0)
        bh_yield();
    expect_alive(&f);
    EXPECT_EQ(fixture_stop(&f), 0);
}

static void
job_writes(struct bh_http_call *c, void *args)
{
    (void)args;
    bh_recv(go_on, NULL);
    (void)bh_http_write(c, "late", 4);
}

static int
starts_writer(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_go(c, job_writes, NULL);
    return bh_http_reply(c, 200, "early");
}

TEST_REAL(J24, writing_after_the_end_is_a_panic_that_names_the_request)
{
    struct bh_http_panic report;
    struct fixture       f;

    go_on = BH_CHAN(char, 0);
    spec_server(&f);
    bh_http_handle(f.s, "GET /job", starts_writer, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STR(body_of(ask_on(c, GET("/job"))), "early");
    EXPECT_STR(body_of(ask_on(c, GET("/fine"))), "fine");
    bh_send(go_on, &(char){ 0 });
    report = spec_report(&f, 1);
    EXPECT_HAS(report.text, "http: reply to request 1 used ");
    EXPECT_STR(report.route, "GET /job");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(go_on);
}

/* bh_http_serve inside a recovery: Returns: what it did; -1 if a panic came to it. */
static int
serve_recovering(struct bh_http_server *s)
{
    BH_RECOVER(p) {
        return -1;
    }
    return bh_http_serve(bh_ctx_background(), s);
}

static void
serve(void *args)
{
    struct fixture *f = ((struct fixture_serve *)args)->f;
    int             rc = serve_recovering(f->s);

    bh_send(f->done, &rc);
}

TEST_REAL(J25, around_serving_no_panic_of_a_handler_is_seen)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /panic", panics, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    EXPECT_EQ(bh_http_listen(f.s, "127.0.0.1:0"), 0);
    f.done = BH_CHAN(int, 1);
    bh_go(serve, &(struct fixture_serve){ &f });
    expect_500_and_alive(&f, GET("/panic"));
    EXPECT_EQ(fixture_stop(&f), 0);
}
