/*
 * rude_test.c -- the client against servers that break off, dawdle, lie and talk too much.
 *
 * Each is a script: what to do with the first connection, the second, ...  A line of it
 * answers one request.
 */

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/http/client.h>

#include "http_fixture.h"

enum then { STAY, CLOSE, RESET, MUTE };

struct line {
    const char *text; /* to send when a request is there; NULL: the end of the script */
    enum then   then; /* STAY: for the next request; MUTE: until the test is over */
    size_t      size; /* of text; 0: all */
    size_t      step; /* bytes in a write; 0: all */
    bool        deaf; /* does not read the request's body */
};

struct rude {
    struct bh_listener    *l;
    const struct line     *script;
    struct bh_waitgroup    over;
    struct bh_chan        *bye; /* closed at the end */
    _Atomic int            connections, ended, requests;
    struct bh_http_client *c;
    char                   url[64], note[300];
};

struct meet {
    struct rude    *r;
    struct bh_conn *c;
};

/* A request's head, and of its body what a Content-Length says.  Returns: false at the end. */
static bool
read_request(struct bh_conn *c, bool deaf)
{
    char        head[4096] = "", rest[4096];
    size_t      used = 0, left = 0;
    const char *length;

    while (strstr(head, "\r\n\r\n") == NULL) {
        if (used == sizeof head - 1 || bh_read(c, head + used, 1) <= 0)
            return false;
        head[++used] = '\0';
    }
    length = strstr(head, "Content-Length: ");
    if (length != NULL && !deaf)
        left = strtoul(length + 16, NULL, 10);
    while (left > 0) {
        ssize_t n = bh_read(c, rest, left < sizeof rest ? left : sizeof rest);

        if (n <= 0)
            return false;
        left -= (size_t)n;
    }
    return true;
}

static void
answer(struct bh_conn *c, const struct line *line)
{
    size_t size = line->size > 0 ? line->size : strlen(line->text);
    size_t step = line->step > 0 ? line->step : size;

    for (size_t i = 0; i < size; i += step) {
        if (bh_write(c, line->text + i, size - i < step ? size - i : step) < 0)
            return;
        if (step < size)
            bh_yield();
    }
}

static void
count_end(struct rude *r)
{
    atomic_fetch_add(&r->ended, 1);
}

static void
meet(void *arg)
{
    struct rude       *r = ((struct meet *)arg)->r;
    struct bh_conn    *c = ((struct meet *)arg)->c;
    const struct line *line;

    BH_DEFER(bh_waitgroup_done, &r->over);
    BH_DEFER(count_end, r);
    BH_DEFER(bh_conn_free, c);
    bh_conn_set_deadline(c, bh_now() + 5 * BH_SECOND);
    do {
        if (!read_request(c, r->script[atomic_load(&r->requests)].deaf))
            return;
        line = &r->script[atomic_fetch_add(&r->requests, 1)];
        if (line->text == NULL)
            test_failed(__FILE__, __LINE__, "a request too many");
        answer(c, line);
    } while (line->then == STAY);
    if (line->then == MUTE)
        (void)bh_recv(r->bye, NULL);
    if (line->then == RESET)
        bh_conn_abort(c);
}

static void
meet_all(void *arg)
{
    struct rude    *r = *(struct rude **)arg;
    struct bh_conn *c;

    BH_DEFER(bh_waitgroup_done, &r->over);
    while (bh_accept(r->l, &c) == 0) {
        atomic_fetch_add(&r->connections, 1);
        bh_waitgroup_add(&r->over, 1);
        bh_go(meet, &(struct meet){ r, c });
    }
}

static void
rude_start(struct rude *r, const struct bh_http_client_options *o, const struct line *script)
{
    *r = (struct rude){ .script = script, .c = bh_http_client_new(o) };
    r->bye = bh_chan_new(0, 0);
    EXPECT_EQ(bh_listen("127.0.0.1:0", &r->l), 0);
    snprintf(r->url, sizeof r->url, "http://%s/", bh_listener_address(r->l));
    bh_waitgroup_add(&r->over, 1);
    bh_go(meet_all, &(struct rude *){ r });
}

static void
rude_stop(struct rude *r)
{
    struct bh_http_client_stats s;

    bh_http_client_close_idle(r->c);
    bh_http_client_stats(r->c, &s);
    EXPECT_EQ(s.open, 0);
    bh_http_client_free(r->c);
    bh_close(r->bye);
    bh_listener_close(r->l);
    bh_waitgroup_wait(&r->over);
    bh_listener_free(r->l);
    bh_chan_unref(r->bye);
}

/* Ask; of a reply the whole body.  Returns: its status, or the error, with the note in r. */
static int
ask(struct rude *r, const struct bh_http_req *request, char *body)
{
    struct bh_http_req  req = request != NULL ? *request : (struct bh_http_req){ 0 };
    struct bh_http_res *res = NULL;
    const char         *text;
    int                 rc, status;

    req.url = r->url;
    rc = bh_http_client_do(bh_ctx_background(), r->c, &req, &res);
    snprintf(r->note, sizeof r->note, "%s", bh_error_note());
    if (rc < 0) {
        EXPECT(res == NULL);
        return rc;
    }
    status = res->status;
    rc = (int)bh_http_res_body(res, 100000, &text);
    snprintf(r->note, sizeof r->note, "%s", bh_error_note());
    if (rc >= 0 && body != NULL)
        strcpy(body, text);
    bh_http_res_close(res);
    return rc < 0 ? rc : status;
}

/* What a client says to one reply, sent on a connection that then ends. */
static int
ask_once(const char *text, size_t size, enum then then, size_t step, char *body)
{
    const struct line             script[] = { { text, then, size, step, false }, { 0 } };
    struct bh_http_client_options o = { .no_retries = true };
    struct rude                   r;
    int                           rc;

    rude_start(&r, &o, script);
    rc = ask(&r, NULL, body);
    EXPECT_EQ(r.requests, 1);
    rude_stop(&r);
    return rc;
}

#define OK "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
static const struct bh_http_req post = { .method = "POST", .body = "x", .body_size = 1 };

/* ---- replies that are none --------------------------------------------------------------- */

#define BOTH                                                                                   \
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"               \
    "2\r\nok\r\n0\r\n\r\n"

TEST_REAL(rude, malformed_replies_are_errors)
{
    static const char *const texts[] = {
        "garbage",
        "SSH-2.0-OpenSSH_9.2\r\n",
        "HTTP/1.1 200 OK\n\nbody",
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        BOTH,
        "HTTP/1.1 200 OK\r\nA: b\r\n c: d\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2 \r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n11111111111111111\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    };

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        int rc = ask_once(texts[i], 0, MUTE, 0, NULL);

        if (rc != -EBADMSG)
            test_failed(__FILE__, __LINE__, "\"%s\" gave %d", texts[i], rc);
    }
}

TEST_REAL(rude, a_reply_may_come_byte_by_byte)
{
    static const char *const texts[] = {
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;a=b\r\no\r\n01\r\nk\r\n0\r\nT: "
        "x\r\n\r\n",
        "HTTP/1.0 200 OK\r\n\r\nok",
        "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nConnection: "
        "close\r\n\r\nok",
    };
    char body[16];

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        EXPECT_EQ(ask_once(texts[i], 0, CLOSE, 1, body), 200);
        EXPECT_STR(body, "ok");
    }
}

/* The shortest reply that is whole: everything shorter must be an error. */
static void
cut_everywhere(const char *text, enum then then)
{
    size_t size = strlen(text);

    EXPECT_EQ(ask_once(text, size, CLOSE, 0, NULL), 200);
    for (size_t i = 1; i < size; i++) {
        int rc = ask_once(text, i, then, 0, NULL);

        if (then == CLOSE ? rc != BH_EEOF : rc != BH_EEOF && rc != -ECONNRESET)
            test_failed(__FILE__, __LINE__, "cut after %zu bytes: %d", i, rc);
    }
}

TEST_REAL(rude, a_reply_cut_anywhere_is_an_error)
{
    cut_everywhere("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", CLOSE);
    cut_everywhere(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        CLOSE);
}

TEST_REAL(rude, a_reply_reset_anywhere_is_an_error)
{
    cut_everywhere("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", RESET);
    cut_everywhere(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nA: b\r\n\r\n",
        RESET);
}

TEST_REAL(rude, a_reset_does_not_end_a_body_without_length)
{
    const char *text = "HTTP/1.1 200 OK\r\n\r\nhello";

    EXPECT_EQ(ask_once(text, 0, CLOSE, 0, NULL), 200);
    EXPECT_EQ(ask_once(text, 0, RESET, 0, NULL), -ECONNRESET);
}

TEST_REAL(rude, heads_have_limits)
{
    char       *text = calloc(1, 80000), *at = stpcpy(text, "HTTP/1.1 200 OK\r\n");
    struct rude r;
    struct line script[] = {
        { "HTTP/1.1 200 OK\r\nA: b\r\nA: b\r\nA: b\r\n\r\n", MUTE, 0, 0, false }, { 0 }
    };
    struct bh_http_client_options o = { .max_fields = 2 };

    memset(stpcpy(at, "A: "), 'b', 70000);
    EXPECT_EQ(ask_once(text, 0, MUTE, 0, NULL), -EMSGSIZE);
    free(text);
    rude_start(&r, &o, script);
    EXPECT_EQ(ask(&r, NULL, NULL), -EMSGSIZE);
    rude_stop(&r);
}

TEST_REAL(rude, interim_replies_are_passed_over_but_not_for_ever)
{
    char text[2000] = "", body[16];

    for (int i = 0; i < 16; i++)
        strcat(text, "HTTP/1.1 102 Processing\r\n\r\n");
    strcat(text, OK);
    EXPECT_EQ(ask_once(text, 0, CLOSE, 0, body), 200);
    EXPECT_STR(body, "ok");
    memmove(text + 27, text, strlen(text) + 1); /* one more */
    EXPECT_EQ(ask_once(text, 0, CLOSE, 0, NULL), -EBADMSG);
}

TEST_REAL(rude, a_slow_head_is_too_late)
{
    const struct line script[] = { { "HTTP/1.1 200 OK\r\n", MUTE, 0, 0, false }, { 0 } };
    struct bh_http_client_options o = { .head_timeout = 20 * BH_MILLISECOND };
    struct rude                   r;

    rude_start(&r, &o, script);
    EXPECT_EQ(ask(&r, NULL, NULL), BH_EDEADLINE);
    EXPECT_HAS(r.note, "did not reply in time");
    rude_stop(&r);
}

/* ---- kept connections -------------------------------------------------------------------- */

TEST_REAL(rude, bytes_behind_a_reply_are_not_the_next_reply)
{
    const struct line script[] = { { OK "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
                                     STAY, 0, 0, 0 },
                                   { OK, STAY, 0, 0, 0 },
                                   { 0 } };
    struct rude       r;
    char              body[16];

    rude_start(&r, NULL, script);
    EXPECT_EQ(ask(&r, NULL, body), 200);
    EXPECT_STR(body, "ok");
    EXPECT_EQ(ask(&r, NULL, body), 200);
    EXPECT_STR(body, "ok");
    EXPECT_EQ(r.connections, 2);
    rude_stop(&r);
}

/* Wait until the server has closed all connections so far; on one machine that is known at once. */
static void
wait_for_end(struct rude *r)
{
    while (atomic_load(&r->ended) < atomic_load(&r->connections))
        bh_yield();
}

TEST_REAL(rude, a_close_while_idle_is_noticed_before_use)
{
    const struct line             script[] = { { OK, CLOSE, 0, 0, 0 },
                                               { OK, RESET, 0, 0, 0 },
                                               { OK "HTTP/1.1 408 Request Timeout\r\n\r\n", CLOSE, 46, 40,
                                                 0 },
                                               { OK, STAY, 0, 0, 0 },
                                               { 0 } };
    struct bh_http_client_options o = { .no_retries = true };
    struct rude                   r;
    struct bh_http_client_stats   s;

    rude_start(&r, &o, script);
    for (int i = 0; i < 4; i++) {
        EXPECT_EQ(ask(&r, &post, NULL), 200); /* not even a POST fails */
        wait_for_end(&r);
    }
    EXPECT_EQ(r.connections, 4);
    bh_http_client_stats(r.c, &s);
    EXPECT_EQ(s.dials, 4);
    rude_stop(&r);
}

TEST_REAL(rude, a_close_that_crosses_the_request_is_retried_if_it_may_be)
{
    const struct line             script[] = { { OK, STAY, 0, 0, 0 },
                                               { "", CLOSE, 0, 0, 0 }, /* GET, again */
                                               { OK, STAY, 0, 0, 0 },
                                               { "", RESET, 0, 0, 0 }, /* with a key, again */
                                               { OK, STAY, 0, 0, 0 },
                                               { "", CLOSE, 0, 0, 0 }, /* POST: an error */
                                               { 0 } };
    struct bh_http_client_options o = { .no_retries = true };
    struct bh_http_req            keyed = post;
    struct rude                   r;
    int                           rc;

    keyed.headers = BH_HTTP_HEADERS("Idempotency-Key", "1");
    rude_start(&r, &o, script);
    EXPECT_EQ(ask(&r, NULL, NULL), 200);
    EXPECT_EQ(ask(&r, NULL, NULL), 200);
    EXPECT_EQ(r.connections, 2);
    EXPECT_EQ(ask(&r, &keyed, NULL), 200);
    EXPECT_EQ(r.connections, 3);
    rc = ask(&r, &post, NULL);
    EXPECT(rc == BH_EEOF || rc == -ECONNRESET);
    EXPECT_EQ(r.requests, 6);
    rude_stop(&r);
}

TEST_REAL(rude, a_reply_that_began_is_not_asked_for_again)
{
    const struct line script[] = { { OK, STAY, 0, 0, 0 }, { "H", CLOSE, 0, 0, 0 }, { 0 } };
    struct rude       r;

    rude_start(&r, NULL, script);
    EXPECT_EQ(ask(&r, NULL, NULL), 200);
    EXPECT_EQ(ask(&r, NULL, NULL), BH_EEOF);
    rude_stop(&r);
}

TEST_REAL(rude, a_sweep_finds_what_the_server_closed)
{
    const struct line             script[] = { { OK, CLOSE, 0, 0, 0 }, { 0 } };
    struct bh_http_client_options o = { .idle_timeout = 200 * BH_MILLISECOND };
    struct bh_http_client_stats   s;
    struct rude                   r;
    int64_t                       start = bh_now();

    rude_start(&r, &o, script);
    EXPECT_EQ(ask(&r, NULL, NULL), 200);
    do {
        bh_sleep(BH_MILLISECOND);
        bh_http_client_stats(r.c, &s);
    } while (s.open > 0);
    EXPECT(bh_now() - start < 150 * BH_MILLISECOND || test_slow() > 1);
    rude_stop(&r);
}

/* ---- new connections --------------------------------------------------------------------- */

TEST_REAL(rude, a_new_connection_that_breaks_is_retried_with_a_delay)
{
    const struct line             script[] = { { "", CLOSE, 0, 0, 0 },
                                               { "", RESET, 0, 0, 0 },
                                               { OK, CLOSE, 0, 0, 0 },
                                               { "", CLOSE, 0, 0, 0 },
                                               { 0 } };
    struct bh_http_client_options o = { .retry_delay = 4 * BH_MILLISECOND };
    struct bh_http_client_stats   s;
    struct rude                   r;
    int64_t                       start = bh_now();

    rude_start(&r, &o, script);
    EXPECT_EQ(ask(&r, NULL, NULL), 200);
    EXPECT(bh_now() - start >= (2 + 4) * BH_MILLISECOND); /* halves of 4 and 8 at least */
    bh_http_client_stats(r.c, &s);
    EXPECT_EQ(s.retries, 2);
    wait_for_end(&r);
    EXPECT_EQ(ask(&r, &post, NULL), BH_EEOF); /* it may have been carried out */
    EXPECT_EQ(r.requests, 4);
    rude_stop(&r);
}

TEST_REAL(rude, where_nobody_listens_any_request_is_retried)
{
    struct bh_http_client_options o = { .retry_delay = 1 };
    struct bh_http_client_stats   s;
    struct rude                   r;

    rude_start(&r, &o, NULL);
    bh_listener_close(r.l);
    EXPECT_EQ(ask(&r, &post, NULL), -ECONNREFUSED);
    bh_http_client_stats(r.c, &s);
    EXPECT_EQ(s.dials, 3);
    EXPECT_EQ(s.sent, 0);
    rude_stop(&r);
}

/* ---- uploads ----------------------------------------------------------------------------- */

static ssize_t
endless(void *arg, void *buffer, size_t size)
{
    *(size_t *)arg += size;
    memset(buffer, 'x', size);
    return (ssize_t)size;
}

TEST_REAL(rude, a_refusal_that_closes_is_read_though_writing_fails)
{
    const struct line script[] = {
        { "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno", CLOSE,
          0, 0, true },
        { 0 }
    };
    size_t             given = 0;
    struct bh_http_req req = { .method = "PUT", .source = endless, .source_arg = &given };
    struct rude        r;
    char               body[16];
    int                rc;

    rude_start(&r, NULL, script);
    rc = ask(&r, &req, body);
    EXPECT(rc == 413 || rc == -ECONNRESET ||
           rc == -EPIPE); /* the reset may overtake the reply */
    EXPECT_EQ(r.requests, 1);
    rude_stop(&r);
}

TEST_REAL(rude, a_reply_stops_an_upload_that_nobody_reads)
{
    const struct line script[] = {
        { "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", MUTE, 0, 0, true }, { 0 }
    };
    size_t             given = 0;
    struct bh_http_req req = { .method = "PUT", .source = endless, .source_arg = &given };
    struct rude        r;
    char               body[16];

    rude_start(&r, NULL, script);
    EXPECT_EQ(ask(&r, &req, body), 413);
    EXPECT_STR(body, "no");
    rude_stop(&r);
}

TEST_REAL(rude, a_deadline_ends_an_upload_that_nobody_reads)
{
    const struct line   script[] = { { "", MUTE, 0, 0, true }, { 0 } };
    size_t              given = 0, size = 32 << 20;
    struct bh_http_req  req = { .method = "PUT", .source = endless, .source_arg = &given };
    struct bh_http_res *res = NULL;
    struct bh_ctx      *ctx = bh_ctx_timeout(bh_ctx_background(), 50 * BH_MILLISECOND);
    struct rude         r;

    rude_start(&r, NULL, script);
    req.url = r.url;
    EXPECT_EQ(bh_http_client_do(ctx, r.c, &req, &res), BH_EDEADLINE);
    bh_ctx_end(ctx);
    rude_stop(&r);
    rude_start(&r, NULL, script);
    ctx = bh_ctx_timeout(bh_ctx_background(), 50 * BH_MILLISECOND);
    req = (struct bh_http_req){ .method = "PUT", .url = r.url, .body_size = size };
    req.body = calloc(1, size);
    EXPECT_EQ(bh_http_client_do(ctx, r.c, &req, &res), BH_EDEADLINE);
    free((void *)(uintptr_t)req.body);
    bh_ctx_end(ctx);
    rude_stop(&r);
}

TEST_REAL(rude, who_never_says_continue_gets_the_body_in_the_end)
{
    const struct line             script[] = { { OK, STAY, 0, 0, 0 }, { 0 } };
    struct bh_http_client_options o = { .continue_timeout = 5 * BH_MILLISECOND };
    struct bh_http_req            req = post;
    struct rude                   r;

    req.expect_continue = true;
    rude_start(&r, &o, script);
    EXPECT_EQ(ask(&r, &req, NULL), 200);
    EXPECT_EQ(r.connections, 1);
    rude_stop(&r);
}
