/* monitor_test.c -- request ids, log formats, measuring, health. */
#include "http_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/http/json.h>
#include <bulkhead/http/monitor.h>

static char answer[1 << 16], line[1 << 16];

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static int
handler(struct bh_http_call *c, void *arg)
{
    (void)arg;
    if (bh_http_query(c, "panic") != NULL)
        bh_panic("broken \"thing\"");
    if (bh_http_query(c, "abort") != NULL)
        bh_http_abort(c);
    if (bh_http_query(c, "exit") != NULL)
        bh_goexit();
    return bh_http_reply(c, 200, "%s", bh_http_request_id(c));
}

/* ---- ids ------------------------------------------------------------------------- */

static void
start_ids(struct fixture *f, struct bh_http_identify_options *o)
{
    f->s = bh_http_server_new(NULL);
    bh_http_observe(f->s, bh_http_identify, o);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /", handler, NULL);
    fixture_start(f);
}

/* Returns: the id in the reply's field, which is the handler's too. */
static const char *
id_of(struct fixture *f, const char *request, const char *header, char id[128])
{
    char        start[64];
    const char *at;

    talk(f, request, answer, sizeof answer);
    snprintf(start, sizeof start, "\r\n%s: ", header);
    at = strstr(answer, start);
    EXPECT(at != NULL);
    at += strlen(start);
    snprintf(id, 128, "%.*s", (int)strcspn(at, "\r"), at);
    if (starts_with(answer, "HTTP/1.1 200"))
        EXPECT_STR(body_of(answer), id);
    return id;
}

TEST_REAL(request_id, is_made_for_each_request_and_kept_only_from_the_trusted)
{
    static struct bh_http_identify_options trusting = { .header = "X-Trace", .trust = true };
    struct fixture                         f;
    char                                   a[128], b[128];

    start_ids(&f, NULL);
    id_of(&f, GET("/"), "X-Request-Id", a);
    id_of(&f, "GET / HTTP/1.1\r\nHost: a\r\nX-Request-Id: mine\r\n\r\n", "X-Request-Id", b);
    EXPECT(strcmp(a, b) != 0 && strcmp(b, "mine") != 0);
    EXPECT(strncmp(a, b, 11) == 0 && strlen(a) >= 12);
    id_of(&f, GET("/?panic"), "X-Request-Id", a); /* on the 500 too */
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    id_of(&f, "nonsense\r\n\r\n", "X-Request-Id", a);
    EXPECT_STARTS(answer, "HTTP/1.1 400 ");
    EXPECT_EQ(fixture_stop(&f), 0);

    start_ids(&f, &trusting);
    EXPECT_STR(
        id_of(&f, "GET / HTTP/1.1\r\nHost: a\r\nX-Trace: mine.1_2-3\r\n\r\n", "X-Trace", a),
        "mine.1_2-3");
    EXPECT(strcmp(id_of(&f, "GET / HTTP/1.1\r\nHost: a\r\nX-Trace: a b\r\n\r\n", "X-Trace", a),
                  "a b"));
    EXPECT(
        strcmp(id_of(&f, "GET / HTTP/1.1\r\nHost: a\r\nX-Trace:\r\n\r\n", "X-Trace", a), ""));
    EXPECT(strlen(id_of(
               &f,
               "GET / HTTP/1.1\r\nHost: a\r\nX-Trace: "
               "01234567890123456789012345678901234567890123456789012345678901234\r\n\r\n",
               "X-Trace", a)) < 60);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(request_id, without_the_middleware_is_empty)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /", handler, NULL);
    fixture_start(&f);
    talk(&f, GET("/"), answer, sizeof answer);
    EXPECT_STR(body_of(answer), "");
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- logs ------------------------------------------------------------------------ */

/* The line that a request leaves. */
static const char *
line_of(enum bh_http_log_format format, const char *request)
{
    struct bh_http_log_options o = { .format = format };
    struct fixture             f = { .s = bh_http_server_new(NULL) };
    int                        fds[2];
    ssize_t                    n;

    EXPECT_EQ(pipe(fds), 0);
    o.fd = fds[1];
    bh_http_observe(f.s, bh_http_identify, NULL);
    bh_http_observe(f.s, bh_http_log, &o);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /{rest...}", handler, NULL);
    fixture_start(&f);
    talk(&f, request, answer, sizeof answer);
    EXPECT_EQ(fixture_stop(&f), 0);
    n = read(fds[0], line, sizeof line - 1);
    EXPECT(n > 0);
    line[n] = '\0';
    EXPECT_EQ(count_of(line, "\n"), 1);
    close(fds[0]);
    close(fds[1]);
    return line;
}

TEST_REAL(log, common_and_combined_lines_have_their_form)
{
    static const char request[] = "GET /a%22b?q=\" HTTP/1.1\r\nHost: a\r\n"
                                  "Referer: http://x/\"\\\r\nUser-Agent: ua \xff\r\n\r\n";

    EXPECT_STARTS(line_of(BH_HTTP_LOG_COMMON, request), "127.0.0.1 - - [");
    EXPECT_HAS(line, " +0000] \"GET /a%22b?q=\\x22 HTTP/1.1\" 200 1");
    EXPECT(strstr(line, "ua") == NULL);
    line_of(BH_HTTP_LOG_COMBINED, request);
    EXPECT_HAS(line, " \"http://x/\\x22\\x5c\" \"ua \\xff\"\n");
    line_of(BH_HTTP_LOG_COMBINED, GET("/?abort"));
    EXPECT_HAS(line, "\"GET /?abort HTTP/1.1\" 0 - \"-\" \"-\"\n");
    line_of(BH_HTTP_LOG_COMMON, "bad\r\n\r\n");
    EXPECT_HAS(line, "\"- - HTTP/1.1\" 400 ");
    EXPECT_HAS(line_of(BH_HTTP_LOG_PLAIN, GET("/x")), "\"GET /x HTTP/1.1\" 200 ");
}

TEST_REAL(log, json_lines_can_be_parsed_whatever_the_client_sends)
{
    struct bh_arena      *arena = bh_arena_new(0);
    const struct bh_json *v;

    line_of(BH_HTTP_LOG_JSON, "GET /a?panic&\"\\ HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_STARTS(answer, "HTTP/1.1 500 ");
    EXPECT_EQ(bh_json_parse(arena, line, strlen(line), &v), 0);
    EXPECT_STR(bh_json_text(v, "method", NULL), "GET");
    EXPECT_STR(bh_json_text(v, "path", NULL), "/a");
    EXPECT_STR(bh_json_text(v, "query", NULL), "panic&\"\\");
    EXPECT_STR(bh_json_text(v, "route", NULL), "GET /{rest...}");
    EXPECT_STR(bh_json_text(v, "client", NULL), "127.0.0.1");
    EXPECT_STR(bh_json_text(v, "error", NULL), "broken \"thing\"");
    EXPECT_EQ(bh_json_int(v, "status", 0), 500);
    EXPECT(strlen(bh_json_text(v, "request", "")) > 10);
    EXPECT(bh_json_number(v, "seconds", -1) >= 0);
    bh_arena_free(arena);
}

/* ---- measuring ------------------------------------------------------------------- */

static int                    begun, ended;
static struct bh_http_outcome last;

static void
on_started(struct bh_http_call *c, void *arg)
{
    EXPECT_STR(arg, "meter");
    EXPECT(c->method != NULL);
    begun++;
}

static void
on_done(struct bh_http_call *c, const struct bh_http_outcome *o, void *arg)
{
    EXPECT_STR(arg, "meter");
    EXPECT(c->route == o->route);
    ended++;
    last = *o;
}

TEST_REAL(measure, every_request_ends_once_however_it_ends)
{
    static struct bh_http_meter    meter = { on_started, on_done, (char *)(uintptr_t) "meter" };
    static struct bh_http_meter    nothing;
    static struct bh_http_counters n;
    struct fixture                 f = { .s = bh_http_server_new(NULL) };

    bh_http_observe(f.s, bh_http_measure, &meter);
    bh_http_observe(f.s, bh_http_measure, &nothing);
    bh_http_observe(f.s, bh_http_count, &n);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /", handler, NULL);
    fixture_start(&f);
    EXPECT_EQ(bh_http_latency(&n, 0.5), 0);
    talk(&f, GET("/"), answer, sizeof answer);
    EXPECT(last.status == 200 && !last.panicked && !last.aborted && last.ns > 0);
    talk(&f, GET("/none"), answer, sizeof answer);
    EXPECT(last.status == 404 && last.sent > 0);
    talk(&f, GET("/?panic"), answer, sizeof answer);
    EXPECT(last.status == 500 && last.panicked);
    talk(&f, GET("/?abort"), answer, sizeof answer);
    EXPECT(last.aborted);
    talk(&f, GET("/?exit"), answer, sizeof answer);
    talk(&f, "nonsense\r\n\r\n", answer, sizeof answer);
    EXPECT(last.status == 400);
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT_EQ(begun, 6);
    EXPECT_EQ(ended, 6);
    EXPECT_EQ(n.requests, 6);
    EXPECT_EQ(n.active, 0);
    EXPECT_EQ(n.status[2], 1);
    EXPECT_EQ(n.status[4], 2);
    EXPECT_EQ(n.panics, 1);
    EXPECT(n.aborted >= 1);
    EXPECT(bh_http_latency(&n, 0.99) >= BH_MICROSECOND);
    EXPECT(bh_http_latency(&n, 0.99) >= bh_http_latency(&n, 0.1));
}

/* ---- health ---------------------------------------------------------------------- */

static int verdict;

static int
check(struct bh_ctx *ctx, void *arg)
{
    EXPECT_EQ(bh_ctx_err(ctx), 0);
    if (verdict == 1)
        return bh_fail(-EIO, "disk %s is gone", (const char *)arg);
    if (verdict == 2)
        bh_panic("check broken");
    if (verdict == 3)
        bh_recv(bh_ctx_done(ctx), NULL);
    return bh_ctx_err(ctx);
}

TEST_REAL(health, is_ready_while_every_check_passes)
{
    struct bh_http_health *h = bh_http_health_new();
    struct fixture         f = { .s = bh_http_server_new(
                                     &(struct bh_http_options){ .half_close = true }) };

    bh_http_health_add(h, "disk", check, (char *)(uintptr_t) "A", 20 * BH_MILLISECOND);
    bh_http_health_add(h, "other", check, (char *)(uintptr_t) "B", 0);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /healthz", bh_http_healthz, NULL);
    bh_http_handle(f.s, "GET /readyz", bh_http_readyz, h);
    bh_http_handle(f.s, "GET /empty", bh_http_readyz, NULL);
    fixture_start(&f);
    talk(&f, GET("/healthz"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    talk(&f, GET("/empty"), answer, sizeof answer);
    EXPECT_STR(body_of(answer), "{\"checks\":[],\"draining\":false,\"ready\":true}");
    talk(&f, GET("/readyz"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    EXPECT_HAS(answer, "Cache-Control: no-store\r\n");
    EXPECT_HAS(answer, "{\"name\":\"disk\",\"ok\":true,");
    verdict = 1;
    talk(&f, GET("/readyz"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 503 ");
    EXPECT_HAS(answer, "\"error\":\"disk B is gone\"");
    EXPECT_HAS(answer, "\"ready\":false");
    verdict = 2;
    talk(&f, GET("/readyz"), answer, sizeof answer);
    EXPECT_HAS(answer, "\"error\":\"panic: check broken\"");
    verdict = 0;
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_http_health_free(h);
}

TEST_REAL(health, a_check_that_takes_too_long_has_failed)
{
    struct bh_http_health *h = bh_http_health_new();
    struct fixture         f = { .s = bh_http_server_new(
                                     &(struct bh_http_options){ .half_close = true }) };

    bh_http_health_add(h, "slow", check, NULL, 20 * BH_MILLISECOND);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /readyz", bh_http_readyz, h);
    fixture_start(&f);
    verdict = 3;
    talk(&f, GET("/readyz"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 503 ");
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_http_health_free(h);
}

static int
readiness_while_draining(struct bh_http_call *c, void *arg)
{
    bh_http_stop(bh_http_server_of(c));
    return bh_http_readyz(c, arg);
}

TEST_REAL(health, a_draining_server_is_not_ready)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /", readiness_while_draining, NULL);
    fixture_start(&f);
    talk(&f, GET("/"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 503 ");
    EXPECT_HAS(answer, "\"draining\":true");
    EXPECT_EQ(fixture_stop(&f), 0);
}
