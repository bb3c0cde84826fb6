/* recover_test.c -- the boundary: panics, half-sent replies, misuse, background work. */
#include "http_fixture.h"

#include <errno.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/sync.h>

#include "ht.h"

enum { SIZE = 1 << 16 };
static char answer[SIZE];
#define H         "Host: a\r\n"
#define GET(path) "GET " path " HTTP/1.1\r\n" H "\r\n"

static int *volatile nowhere;
static volatile int zero;

__attribute__((noinline)) static int
fault_null(void)
{
    return *nowhere;
}

static int
fine(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "fine\n");
}

static int
panics(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "X-Inner", "gone");
    bh_panic("broken %d", 7);
}

static int
nulls(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%d\n", fault_null());
}

static int
divides(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%d\n", 12 / zero); /* 1 / x is done without dividing */
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
    volatile char top = 0;

    (void)arg;
    return bh_http_reply(c, 200, "%d\n", descend(&top, 0));
}

/* Written but not flushed: still replaceable. */
static int
panics_unflushed(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_print(c, "half");
    bh_panic("too late?");
}

static int
panics_chunked(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_print(c, "half");
    bh_http_flush(c);
    bh_panic("half way");
}

static int
panics_with_length(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", 100);
    bh_http_print(c, "half");
    bh_http_flush(c);
    bh_panic("half way");
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
    (void)c;
    (void)arg;
    bh_goexit();
}

static int
replies_twice(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)bh_http_reply(c, 200, "one\n");
    return bh_http_reply(c, 200, "two\n");
}

static int
fails(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    return bh_fail(-EIO, "disk on fire");
}

static int
forgets(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    return 0;
}

static int
promises_more(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", 10);
    bh_http_print(c, "few");
    if (bh_http_query(c, "flush") != NULL)
        bh_http_flush(c);
    return 0;
}

static struct bh_mutex lock;

static int
locks(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_mutex_lock(&lock);
    BH_DEFER(bh_mutex_unlock, &lock);
    if (bh_http_query(c, "crash") != NULL)
        return bh_http_reply(c, 200, "%d\n", fault_null());
    return bh_http_reply(c, 200, "locked\n");
}

static int  observed_status, observed_rc;
static bool observed_abort;
static const struct bh_kind *observed_kind;

static int
observer(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "X-Outer", "kept");
    observed_rc = bh_http_next(c);
    observed_status = c->status;
    observed_abort = c->aborted;
    observed_kind = c->panicked;
    return observed_rc;
}

static int
bad_observer(struct bh_http_call *c, void *arg)
{
    if (bh_http_query(c, "observer") != NULL)
        bh_panic("the observer itself");
    (void)arg;
    return bh_http_next(c);
}

static void
start(struct fixture *f)
{
    f->s = bh_http_server_new(NULL);
    bh_http_observe(f->s, bad_observer, NULL);
    bh_http_observe(f->s, observer, NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /fine", fine, NULL);
    bh_http_handle(f->s, "GET /panic", panics, NULL);
    bh_http_handle(f->s, "GET /null", nulls, NULL);
    bh_http_handle(f->s, "GET /divide", divides, NULL);
    bh_http_handle(f->s, "GET /overflow", overflows, NULL);
    bh_http_handle(f->s, "GET /unflushed", panics_unflushed, NULL);
    bh_http_handle(f->s, "GET /chunked", panics_chunked, NULL);
    bh_http_handle(f->s, "GET /length", panics_with_length, NULL);
    bh_http_handle(f->s, "GET /abort", aborts, NULL);
    bh_http_handle(f->s, "GET /exit", exits, NULL);
    bh_http_handle(f->s, "GET /twice", replies_twice, NULL);
    bh_http_handle(f->s, "GET /fails", fails, NULL);
    bh_http_handle(f->s, "GET /forgets", forgets, NULL);
    bh_http_handle(f->s, "GET /short", promises_more, NULL);
    bh_http_handle(f->s, "GET /lock", locks, NULL);
    fixture_start(f);
}

static struct bh_http_stats
stats_of(struct fixture *f)
{
    struct bh_http_stats stats;

    bh_http_stats(f->s, &stats);
    return stats;
}

static struct bh_http_panic
latest(struct fixture *f)
{
    struct bh_http_panic report;

    EXPECT_EQ(bh_http_panics(f->s, &report, 1), 1);
    return report;
}

TEST_REAL(recover, a_panic_is_a_500_and_the_connection_goes_on)
{
    struct fixture f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, GET("/panic"));
    read_reply(c, answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 Internal Server Error\r\n");
    EXPECT_STR(body_of(answer), "500 Internal Server Error\n");
    EXPECT_HAS(answer, "\r\nX-Outer: kept\r\n");
    EXPECT(strstr(answer, "X-Inner") == NULL);
    EXPECT_EQ(observed_status, 500);
    EXPECT_EQ(observed_rc, BH_EPANIC);
    EXPECT(observed_kind == &bh_kind_string);
    send_text(c, GET("/fine"));
    read_reply(c, answer, SIZE);
    EXPECT_STR(body_of(answer), "fine\n");
    bh_conn_free(c);
    EXPECT_EQ(stats_of(&f).panics, 1);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, answers_json_to_who_asks_for_it)
{
    struct fixture f;

    start(&f);
    talk(&f, "GET /panic HTTP/1.1\r\n" H "Accept: application/json\r\n\r\n", answer, SIZE);
    EXPECT_HAS(answer, "\r\nContent-Type: application/json\r\n");
    EXPECT_STARTS(body_of(answer),
                  "{\"status\":500,\"error\":\"Internal Server Error\",\"request\":");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, the_report_says_what_where_and_for_whom)
{
    static char    stack[8192];
    struct fixture f;

    start(&f);
    talk(&f, GET("/panic?q=1"), answer, SIZE);
    struct bh_http_panic r = latest(&f);
    EXPECT_STR(r.text, "broken 7");
    EXPECT_STR(r.kind, "string");
    EXPECT_STR(r.route, "GET /panic");
    EXPECT_STR(r.target, "/panic");
    EXPECT_STR(r.where, "handler");
    EXPECT_STR(r.outcome, "500");
    EXPECT_EQ(r.number, 1);
    EXPECT_EQ(r.request, 1);
    EXPECT(r.goroutine != 0);
    EXPECT_HAS(r.file, "recover_test.c");
    EXPECT(bh_http_panic_stack(&r, stack, sizeof stack) > 0);
    EXPECT_STARTS(stack, "panics(...)\n\t");
    EXPECT_HAS(stack, "http/recover_test.c:");
    EXPECT_HAS(stack, "bh_http_recover(...)");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, faults_are_500_with_their_stack)
{
    static const char *const paths[] = { GET("/null"), GET("/divide"), GET("/overflow") };
    static const char *const texts[] = {
        "runtime error: invalid memory address or nil pointer dereference",
        "runtime error: integer divide by zero", "runtime error: stack overflow"
    };
    static const char *const tops[] = { "fault_null(...)", "divides(...)", "descend(...)" };
    static char              stack[16384];
    struct fixture           f;

    start(&f);
    for (int i = 0; i < 3; i++) {
#if defined(__aarch64__)
        if (i == 1)
            continue; /* divides by zero without a trap */
#endif
        talk(&f, paths[i], answer, SIZE);
        EXPECT_STARTS(answer, "HTTP/1.1 500 ");
        struct bh_http_panic r = latest(&f);
        EXPECT_STR(r.text, texts[i]);
        EXPECT(r.signal != 0);
        bh_http_panic_stack(&r, stack, sizeof stack);
        EXPECT_STARTS(stack, tops[i]);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, a_thousand_overflows_on_one_connection)
{
    struct fixture f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    for (int i = 0; i < 1000; i++) {
        send_text(c, GET("/overflow"));
        read_reply(c, answer, SIZE);
        EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    }
    send_text(c, GET("/fine"));
    read_reply(c, answer, SIZE);
    EXPECT_STR(body_of(answer), "fine\n");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, what_was_written_but_not_flushed_is_replaced_by_the_500)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/unflushed"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT(strstr(answer, "half") == NULL);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, a_half_sent_chunked_reply_never_gets_its_last_chunk)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/chunked") GET("/fine"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 200 OK\r\n");
    EXPECT_HAS(answer, "\r\n\r\n4\r\nhalf\r\n");
    EXPECT(strstr(answer, "0\r\n\r\n") == NULL);
    EXPECT_EQ(count_of(answer, "HTTP/1.1 "), 1);
    EXPECT(observed_abort && observed_kind != NULL);
    EXPECT_EQ(observed_status, 200);
    EXPECT_STR(latest(&f).outcome, "aborted");
    EXPECT_EQ(stats_of(&f).aborted, 1);
    talk(&f, GET("/fine"), answer, SIZE);
    EXPECT_STR(body_of(answer), "fine\n");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, a_half_sent_reply_of_known_length_stays_short)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/length") GET("/fine"), answer, SIZE);
    EXPECT_HAS(answer, "\r\nContent-Length: 100\r\n");
    EXPECT_STR(body_of(answer), "half");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, in_http_1_0_a_half_sent_reply_ends_in_a_reset)
{
    struct fixture f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, "GET /chunked HTTP/1.0\r\n\r\n");
    EXPECT_EQ(read_to_end(c, answer, SIZE), -ECONNRESET);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, an_abort_is_no_panic_and_sends_nothing)
{
    struct fixture       f;
    struct bh_http_panic report;

    start(&f);
    talk(&f, GET("/abort"), answer, SIZE);
    EXPECT_STR(answer, "");
    EXPECT(observed_abort && observed_kind == NULL);
    EXPECT_EQ(stats_of(&f).panics, 0);
    EXPECT_EQ(stats_of(&f).aborted, 1);
    EXPECT_EQ(bh_http_panics(f.s, &report, 1), 0);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, goexit_in_a_handler_ends_the_connection_only)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/exit"), answer, SIZE);
    EXPECT_STR(answer, "");
    talk(&f, GET("/fine"), answer, SIZE);
    EXPECT_STR(body_of(answer), "fine\n");
    EXPECT_EQ(stats_of(&f).active, 0);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, a_panic_of_an_observer_closes_the_connection_and_is_reported)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/fine?observer"), answer, SIZE);
    EXPECT_STR(answer, "");
    struct bh_http_panic r = latest(&f);
    EXPECT_STR(r.where, "observer");
    EXPECT_STR(r.text, "the observer itself");
    EXPECT(r.frame_count > 0);
    talk(&f, GET("/fine"), answer, SIZE);
    EXPECT_STR(body_of(answer), "fine\n");
    EXPECT_EQ(stats_of(&f).active, 0);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, a_panic_releases_the_lock_that_was_deferred)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/lock?crash"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    talk(&f, GET("/lock"), answer, SIZE);
    EXPECT_STR(body_of(answer), "locked\n");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, a_second_reply_is_a_named_panic)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/twice"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_STR(latest(&f).text,
               "http: second reply to request 1 (GET /twice): it already has status 200");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, an_error_without_a_reply_is_a_500_and_so_is_nothing_at_all)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/fails"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_EQ(observed_rc, -EIO);
    EXPECT_EQ(observed_status, 500);
    talk(&f, GET("/forgets"), answer, SIZE);
    EXPECT_STR(body_of(answer), "500 Internal Server Error: no reply\n");
    EXPECT_EQ(stats_of(&f).panics, 0);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, a_body_shorter_than_announced_is_a_500_or_a_broken_transfer)
{
    struct fixture f;

    start(&f);
    talk(&f, GET("/short"), answer, SIZE);
    EXPECT_STR(body_of(answer), "500 Internal Server Error: incomplete reply\n");
    talk(&f, GET("/short?flush") GET("/fine"), answer, SIZE);
    EXPECT_HAS(answer, "\r\nContent-Length: 10\r\n");
    EXPECT_STR(body_of(answer), "few");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(recover, keeps_the_latest_reports_newest_first)
{
    static struct bh_http_panic reports[2 * BH_HTTP_PANICS_KEPT];
    struct fixture              f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    for (int i = 0; i < BH_HTTP_PANICS_KEPT + 5; i++) {
        send_text(c, GET("/panic"));
        read_reply(c, answer, SIZE);
    }
    bh_conn_free(c);
    EXPECT_EQ(bh_http_panics(f.s, reports, 2 * BH_HTTP_PANICS_KEPT), BH_HTTP_PANICS_KEPT);
    EXPECT_EQ(reports[0].number, BH_HTTP_PANICS_KEPT + 5);
    EXPECT_EQ(reports[BH_HTTP_PANICS_KEPT - 1].number, 6);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- background work ------------------------------------------------------------- */

struct work {
    struct bh_chan *started, *go_on, *done;
};
static struct work work;

struct job {
    int number;
};

static void
job_panics(struct bh_http_call *c, void *args)
{
    struct job *job = args;

    (void)c;
    bh_panic("job %d", job->number);
}

static void
job_reads(struct bh_http_call *c, void *args)
{
    char text[128];

    (void)args;
    bh_send(work.started, &(char){ 0 });
    bh_recv(work.go_on, NULL);
    snprintf(text, sizeof text, "%s %s %s %s %d", c->method, c->path, bh_http_param(c, "name"),
             (char *)bh_arena_print(c->arena, "%s", bh_http_header(c, "x-mark")),
             bh_ctx_err(bh_http_ctx(c)));
    bh_send(work.done, &text);
}

static void
job_replies(struct bh_http_call *c, void *args)
{
    (void)args;
    bh_recv(work.go_on, NULL);
    (void)bh_http_reply(c, 200, "too late\n");
}

static int
starts_job(struct bh_http_call *c, void *arg)
{
    const char *name = bh_http_param(c, "name");

    (void)arg;
    if (strcmp(name, "panics") == 0)
        bh_http_go(c, job_panics, &(struct job){ 5 });
    else if (strcmp(name, "reads") == 0)
        bh_http_go(c, job_reads, NULL);
    else
        bh_http_go(c, job_replies, NULL);
    return bh_http_reply(c, 202, "started\n");
}

static void
start_jobs(struct fixture *f)
{
    work = (struct work){ BH_CHAN(char, 1), BH_CHAN(char, 0), BH_CHAN(char[128], 1) };
    f->s = bh_http_server_new(NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /job/{name}", starts_job, NULL);
    bh_http_handle(f->s, "GET /fine", fine, NULL);
    fixture_start(f);
}

static void
stop_jobs(struct fixture *f)
{
    EXPECT_EQ(fixture_stop(f), 0);
    bh_chan_unref(work.started);
    bh_chan_unref(work.go_on);
    bh_chan_unref(work.done);
}

static void
wait_panics(struct fixture *f, uint64_t n)
{
    struct bh_http_panic report;

    while (stats_of(f).panics < n || bh_http_panics(f->s, &report, 1) == 0)
        bh_yield();
}

TEST_REAL(background, a_panic_costs_neither_the_reply_nor_the_server)
{
    struct fixture f;

    start_jobs(&f);
    talk(&f, GET("/job/panics"), answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 202 Accepted\r\n");
    wait_panics(&f, 1);
    struct bh_http_panic r = latest(&f);
    EXPECT_STR(r.text, "job 5");
    EXPECT_STR(r.where, "background");
    EXPECT_STR(r.outcome, "contained");
    EXPECT_STR(r.route, "GET /job/{name}");
    EXPECT_EQ(r.request, 1);
    talk(&f, GET("/fine"), answer, SIZE);
    EXPECT_STR(body_of(answer), "fine\n");
    stop_jobs(&f);
}

TEST_REAL(background, work_outlives_the_reply_with_the_requests_memory)
{
    static char    text[128];
    struct fixture f;

    start_jobs(&f);
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, "GET /job/reads HTTP/1.1\r\n" H "X-Mark: m\r\n\r\n");
    read_reply(c, answer, SIZE);
    EXPECT_STR(body_of(answer), "started\n");
    bh_recv(work.started, NULL);
    /* The connection goes on with other requests meanwhile. */
    for (int i = 0; i < 10; i++) {
        send_text(c, GET("/fine"));
        read_reply(c, answer, SIZE);
        EXPECT_STR(body_of(answer), "fine\n");
    }
    bh_conn_free(c);
    bh_close(work.go_on);
    bh_recv(work.done, &text);
    EXPECT_STR(text, "GET /job/reads reads m 0");
    stop_jobs(&f);
}

static void
job_waits(struct bh_http_call *c, void *args)
{
    (void)args;
    bh_send(work.started, &(char){ 0 });
    bh_recv(bh_ctx_done(bh_http_ctx(c)), NULL); /* until the server gives up draining */
    bh_send(work.done, &(char[128]){ "told to end" });
}

static int
starts_waiting(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_go(c, job_waits, NULL);
    return bh_http_reply(c, 202, "started\n");
}

TEST_REAL(background, work_is_drained_and_told_when_time_is_up)
{
    static char    text[128];
    struct fixture f = { .s = bh_http_server_new(&(struct bh_http_options){
                             .drain_timeout = 30 * BH_MILLISECOND }) };

    work = (struct work){ BH_CHAN(char, 1), BH_CHAN(char, 0), BH_CHAN(char[128], 1) };
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /wait", starts_waiting, NULL);
    fixture_start(&f);
    talk(&f, GET("/wait"), answer, SIZE);
    EXPECT_STR(body_of(answer), "started\n");
    bh_recv(work.started, NULL);
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT(bh_try_recv(work.done, &text, NULL));
    EXPECT_STR(text, "told to end");
    bh_chan_unref(work.started);
    bh_chan_unref(work.go_on);
    bh_chan_unref(work.done);
}

TEST_REAL(background, replying_after_the_end_is_a_named_panic)
{
    struct fixture f;

    start_jobs(&f);
    talk(&f, GET("/job/replies"), answer, SIZE);
    EXPECT_STR(body_of(answer), "started\n");
    bh_close(work.go_on);
    wait_panics(&f, 1);
    EXPECT_STR(latest(&f).text, "http: reply to request 1 used after the request ended");
    stop_jobs(&f);
}

/* A call kept by a plain goroutine, against the rules, is caught while the server lives. */
static struct bh_http_call *kept;

static int
keeps(struct bh_http_call *c, void *arg)
{
    (void)arg;
    kept = c;
    return bh_http_reply(c, 200, "kept\n");
}

TEST_REAL(background, a_call_kept_too_long_panics_by_name)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /keep", keeps, NULL);
    fixture_start(&f);
    talk(&f, GET("/keep"), answer, SIZE);
    EXPECT_PANIC("http: reply to request 1 used after the request ended",
                 (void)bh_http_reply(kept, 200, "late\n"));
    EXPECT_EQ(fixture_stop(&f), 0);
}
