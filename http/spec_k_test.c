/* spec_k_test.c -- what becomes of a failing handler, case by case as known from gin. */
#include "http_spec.h"

#include <errno.h>
#include <unistd.h>

TEST_PLAIN(spec_k, every_row_of_the_table_has_its_test)
{
    expect_table('K', __FILE__);
}

/* ---- the boundary and its neighbours --------------------------------------------- */

/* "before", "after", "deferred": what a middleware around came to. */
static char trace[128];

static void
note(const char *what)
{
    (void)strcat(trace, what);
}

static void
deferred(void *arg)
{
    (void)arg;
    note("deferred ");
}

static int
traces(struct bh_http_call *c, void *arg)
{
    int rc;

    (void)arg;
    BH_DEFER(deferred, NULL);
    note("before ");
    rc = bh_http_next(c);
    note("after ");
    return rc;
}

static int  seen_status;
static bool seen_aborted;

static int
observes(struct bh_http_call *c, void *arg)
{
    int rc = bh_http_next(c);

    (void)arg;
    seen_status = c->status;
    seen_aborted = c->aborted;
    return rc;
}

static void
start(struct fixture *f)
{
    trace[0] = '\0';
    f->s = bh_http_server_new(NULL);
    bh_http_observe(f->s, observes, NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_use(f->s, traces, NULL);
    bh_http_handle(f->s, "GET /fine", fine, NULL);
    bh_http_handle(f->s, "GET /panic", panics, NULL);
    bh_http_handle(f->s, "GET /nil", panics_nil, NULL);
    bh_http_handle(f->s, "GET /breaks", breaks, NULL);
    bh_http_handle(f->s, "GET /abort", aborts, NULL);
    bh_http_handle(f->s, "GET /exit", exits, NULL);
    fixture_start(f);
}

TEST_REAL(K01, a_panic_is_a_500_with_a_text_on_a_connection_that_goes_on)
{
    struct fixture f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STARTS(ask_on(c, GET("/panic")), "HTTP/1.1 500 Internal Server Error\r\n");
    EXPECT_HAS(body_of(spec_answer), "500 Internal Server Error");
    EXPECT(strstr(spec_answer, "handler failed") == NULL); /* the client's business it is not */
    EXPECT_STR(body_of(ask_on(c, GET("/fine"))), "fine");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K26, the_value_can_be_had_from_the_reports)
{
    struct fixture f;

    start(&f);
    expect_500_and_alive(&f, GET("/panic"));
    EXPECT_STR(spec_report(&f, 1).text, "handler failed");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K02, inside_the_boundary_only_deferred_code_runs_after_a_panic)
{
    struct fixture f;

    start(&f);
    EXPECT_STARTS(ask_to_end(&f, "GET /panic HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
                  "HTTP/1.1 500 ");
    EXPECT_STR(trace, "before deferred ");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K03, outside_the_boundary_all_goes_on_and_sees_500)
{
    struct fixture f;

    start(&f);
    EXPECT_STARTS(ask_to_end(&f, "GET /panic HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
                  "HTTP/1.1 500 ");
    EXPECT_EQ(seen_status, 500);
    EXPECT(!seen_aborted);
    EXPECT_EQ(fixture_stop(&f), 0);
}

static int
serve_faulty(struct bh_http_server *s, char *faults, size_t size)
{
    int rc;

    EXPECT_EQ(bh_http_check(s, faults, size), 1);
    EXPECT_EQ(bh_http_listen(s, "127.0.0.1:0"), 0);
    rc = bh_http_serve(bh_ctx_background(), s);
    bh_http_server_free(s);
    return rc;
}

TEST_REAL(K04, recovery_registered_too_late_is_refused_at_start)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    char                   faults[512];

    bh_http_use(s, traces, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /panic", panics, NULL);
    EXPECT_EQ(serve_faulty(s, faults, sizeof faults), -EINVAL);
    EXPECT_HAS(faults, "traces (http/spec_k_test.c:");
    EXPECT_HAS(faults, "is registered before bh_http_recover (http/spec_k_test.c:");
}

TEST_REAL(K22, no_recovery_at_all_is_refused_at_start)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    char                   faults[512];

    bh_http_handle(s, "GET /panic", panics, NULL);
    EXPECT_EQ(serve_faulty(s, faults, sizeof faults), -EINVAL);
    EXPECT_HAS(faults, "is not covered by bh_http_recover");
}

TEST_REAL(K20, a_second_recovery_is_refused_at_start)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    char                   faults[512];

    bh_http_use(s, bh_http_recover, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /panic", panics, NULL);
    EXPECT_EQ(serve_faulty(s, faults, sizeof faults), -EINVAL);
    EXPECT_HAS(faults, "the inner one hides the outer");
}

/* ---- half a reply ---------------------------------------------------------------- */

TEST_REAL(K05, half_a_reply_is_never_completed)
{
    struct fixture f;

    start(&f);
    EXPECT_STARTS(ask_to_end(&f, GET("/breaks")), "HTTP/1.1 200 ");
    EXPECT_STR(body_of(spec_answer), "4\r\nhalf\r\n");
    expect_alive(&f);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* What the kernel makes of the end of a reply that only that end delimits. */
TEST_REAL(K06, where_the_end_of_the_connection_is_the_end_it_is_a_reset)
{
    struct fixture f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, "GET /breaks HTTP/1.0\r\nHost: a\r\n\r\n");
    EXPECT_EQ(read_to_end(c, spec_answer, sizeof spec_answer), -ECONNRESET);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K24, what_is_logged_is_what_was_on_the_wire)
{
    static char    line[1024];
    int            ends[2];
    struct fixture f;

    EXPECT_EQ(pipe(ends), 0);
    f.s = bh_http_server_new(NULL);
    bh_http_observe(f.s, bh_http_access_log, &ends[1]);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /breaks", breaks, NULL);
    fixture_start(&f);
    EXPECT_STARTS(ask_to_end(&f, GET("/breaks")), "HTTP/1.1 200 ");
    EXPECT_EQ(fixture_stop(&f), 0);
    close(ends[1]);
    EXPECT(read(ends[0], line, sizeof line - 1) > 0);
    EXPECT_HAS(line, "\"GET /breaks HTTP/1.1\" 200! 4 ");
    close(ends[0]);
}

TEST_REAL(K07, fields_of_the_reply_that_failed_are_not_sent_with_the_500)
{
    struct fixture f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STARTS(ask_on(c, GET("/breaks?kept")), "HTTP/1.1 500 ");
    EXPECT(strstr(spec_answer, "Cache-Control") == NULL);
    EXPECT(strstr(spec_answer, "half") == NULL);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- values ---------------------------------------------------------------------- */

static const char *
say_error(const void *value)
{
    return strerrorname_np(*(const int *)value);
}

static const struct bh_kind error_kind = { .name = "net.OpError",
                                           .size = sizeof(int),
                                           .error = say_error };

static int
panics_with_error(struct bh_http_call *c, void *arg)
{
    (void)c;
    bh_panic_value(&error_kind, arg);
}

static void
expect_ordinary(int code, const char *text)
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /error", panics_with_error, &code);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    expect_500_and_alive(&f, GET("/error"));
    EXPECT_STR(spec_report(&f, 1).text, text);
    EXPECT(spec_report(&f, 1).frame_count > 0);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K08, a_panic_with_a_broken_pipe_is_a_panic)
{
    expect_ordinary(EPIPE, "EPIPE");
}

TEST_REAL(K09, a_panic_with_a_reset_is_a_panic)
{
    expect_ordinary(ECONNRESET, "ECONNRESET");
}

static int
panics_if_client_left(struct bh_http_call *c, void *arg)
{
    int rc = 0;

    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    for (int i = 0; i < 1000000 && rc == 0; i++)
        rc = bh_http_write(c, "0123456789abcdef", 16);
    bh_panic("write: %s", bh_error_text(rc));
}

TEST_REAL(K10, that_the_client_has_left_is_known_from_the_write_not_from_a_panics_value)
{
    struct bh_http_panic report;
    struct fixture       f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /writes", panics_if_client_left, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    fixture_start(&f);
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, GET("/writes"));
    EXPECT(bh_read(c, spec_answer, 100) > 0);
    bh_conn_abort(c);
    bh_conn_free(c);
    report = spec_report(&f, 1);
    EXPECT_STARTS(report.text, "write: ");
    EXPECT_STR(report.outcome, "aborted");
    expect_alive(&f);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K11, an_abort_passes_recovery_and_breaks_the_transfer)
{
    struct fixture f;

    start(&f);
    EXPECT_STR(ask_to_end(&f, GET("/abort")), "");
    EXPECT(seen_aborted);
    EXPECT_STR(body_of(ask_to_end(&f, GET("/breaks?abort"))), "4\r\nhalf\r\n");
    EXPECT_EQ(spec_stats(&f).panics, 0);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K12, panic_nil_is_a_500_and_a_report)
{
    struct fixture f;

    start(&f);
    expect_500_and_alive(&f, GET("/nil"));
    EXPECT_HAS(spec_report(&f, 1).kind, "PanicNilError");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K13, goexit_closes_the_connection)
{
    struct fixture f;

    start(&f);
    EXPECT_STR(ask_to_end(&f, GET("/exit")), "");
    EXPECT_STR(trace, "before deferred ");
    expect_alive(&f);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- goroutines ------------------------------------------------------------------ */

static struct bh_chan *told;

static void
job_panics(struct bh_http_call *c, void *args)
{
    (void)c;
    (void)args;
    bh_panic("job failed");
}

static int
recovers_itself(void)
{
    BH_RECOVER(p) {
        return strcmp(bh_panic_text(p), "child failed") == 0;
    }
    bh_panic("child failed");
}

static void
child(void *args)
{
    int recovered = recovers_itself();

    (void)args;
    bh_send(told, &recovered);
}

static int
starts(struct bh_http_call *c, void *arg)
{
    (void)arg;
    if (bh_http_query(c, "child") != NULL)
        bh_go(child, NULL);
    else
        bh_http_go(c, job_panics, NULL);
    return bh_http_reply(c, 200, "started");
}

static void
start_goroutines(struct fixture *f)
{
    spec_server(f);
    bh_http_handle(f->s, "GET /starts", starts, NULL);
    bh_http_handle(f->s, "GET /fine", fine, NULL);
    fixture_start(f);
}

TEST_REAL(K14, a_goroutine_of_the_request_does_not_take_the_process_along)
{
    struct fixture f;

    start_goroutines(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STR(body_of(ask_on(c, GET("/starts"))), "started");
    EXPECT_STR(spec_report(&f, 1).text, "job failed");
    EXPECT_STR(body_of(ask_on(c, GET("/fine"))), "fine");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K15, a_goroutine_that_recovers_by_itself_is_nobody_elses_business)
{
    struct fixture f;
    int            recovered = 0;

    told = BH_CHAN(int, 1);
    start_goroutines(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STR(body_of(ask_on(c, GET("/starts?child"))), "started");
    bh_recv(told, &recovered);
    EXPECT_EQ(recovered, 1);
    EXPECT_STR(body_of(ask_on(c, GET("/fine"))), "fine");
    EXPECT_EQ(spec_stats(&f).panics, 0);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(told);
}

/* ---- a recovery of one's own ----------------------------------------------------- */

static int
recovers(struct bh_http_call *c, void *arg)
{
    BH_RECOVER(p) {
        return bh_http_reply(c, 500, "%s %d", p->kind->name, *(const int *)p->value);
    }
    (void)arg;
    return bh_http_next(c);
}

TEST_REAL(K16, ones_own_recovery_gets_the_value_itself)
{
    struct fixture f;
    int            code = 42;

    spec_server(&f);
    bh_http_use(f.s, recovers, NULL);
    bh_http_handle(f.s, "GET /error", panics_with_error, &code);
    fixture_start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STR(body_of(ask_on(c, GET("/error"))), "net.OpError 42");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

static int handler_runs, guard_runs;

static int
counts(struct bh_http_call *c, void *arg)
{
    (void)arg;
    handler_runs++;
    return bh_http_reply(c, 200, "secret");
}

/* Panics the first time, forbids ever after. */
static int
guards(struct bh_http_call *c, void *arg)
{
    (void)arg;
    if (guard_runs++ == 0)
        bh_panic("guard failed");
    return bh_http_reply(c, 403, "no");
}

static int
next_unless_it_panics(struct bh_http_call *c)
{
    BH_RECOVER(p) {
        return BH_EPANIC;
    }
    return bh_http_next(c);
}

/* Recovers and says nothing; with ?again it has the rest run once more. */
static int
swallows(struct bh_http_call *c, void *arg)
{
    int rc = next_unless_it_panics(c);

    (void)arg;
    if (rc == BH_EPANIC && bh_http_query(c, "again") != NULL)
        return bh_http_next(c);
    return rc == BH_EPANIC ? 0 : rc;
}

TEST_REAL(K17, a_recovery_that_does_nothing_lets_nothing_behind_the_panic_run)
{
    struct fixture f;

    spec_server(&f);
    bh_http_use(f.s, traces, NULL);
    bh_http_use(f.s, swallows, NULL);
    bh_http_use(f.s, guards, NULL);
    bh_http_handle(f.s, "GET /", counts, NULL);
    fixture_start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STARTS(ask_on(c, GET("/")),
                  "HTTP/1.1 500 "); /* there is no reply, and that is said */
    EXPECT_EQ(handler_runs, 0);
    guard_runs = 0;
    EXPECT_STARTS(ask_on(c, GET("/?again")), "HTTP/1.1 403 "); /* the rest is all of the rest */
    EXPECT_EQ(guard_runs, 2);
    EXPECT_EQ(handler_runs, 0);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(K19, a_report_has_nothing_of_the_requests_fields_or_query)
{
    struct bh_http_panic report;
    struct fixture       f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STARTS(
        ask_on(c, "GET /panic?key=SECRET HTTP/1.1\r\nHost: a\r\nAuthorization: SECRET\r\n"
                  "Cookie: id=SECRET\r\nX-Api-Key: SECRET\r\n\r\n"),
        "HTTP/1.1 500 ");
    EXPECT(strstr(spec_answer, "SECRET") == NULL);
    report = spec_report(&f, 1);
    EXPECT_STR(report.target, "/panic");
    EXPECT(memmem(&report, sizeof report, "SECRET", 6) == NULL);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- what cannot be survived ----------------------------------------------------- */

static int
corrupts(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    bh_fatal("broken invariant of shared data");
}

TEST_DIES(K23, a_fatal_error_is_recovered_by_nobody, 2, "fatal error: broken invariant")
{
    struct fixture f;

    spec_server(&f);
    bh_http_handle(f.s, "GET /fatal", corrupts, NULL);
    fixture_start(&f);
    (void)ask_to_end(&f, GET("/fatal"));
}
