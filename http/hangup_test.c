/* hangup_test.c -- a client that leaves ends the context of its request. */
#include "http_fixture.h"

#include <errno.h>

#include <bulkhead/go/sync.h>

static char            answer[1 << 16];
static struct bh_chan *entered, *ended;

/* Says that it runs, waits for the end of its context, and says why that ended. */
static int
wait_for_end(struct bh_http_call *c, void *arg)
{
    struct bh_ctx *ctx = bh_http_ctx(c);
    const char    *note = NULL;
    int            code;

    (void)arg;
    bh_send(entered, &(char){ 0 });
    if (bh_http_query(c, "spin") != NULL)
        while (bh_ctx_err(ctx) == 0)
            continue;
    bh_recv(bh_ctx_done(ctx), NULL);
    code = bh_ctx_cause(ctx, &note);
    EXPECT_EQ(code, BH_ECANCELED);
    EXPECT_STR(note, "peer hung up");
    bh_send(ended, &code);
    return bh_http_reply(c, 200, "too late");
}

static int
quick(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%d", bh_ctx_err(bh_http_ctx(c)));
}

static void
start(struct fixture *f, const struct bh_http_options *o)
{
    entered = BH_CHAN(char, 0);
    ended = BH_CHAN(int, 0);
    f->s = bh_http_server_new(o);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "POST /wait", wait_for_end, NULL);
    bh_http_handle(f->s, "GET /quick", quick, NULL);
    fixture_start(f);
}

static void
stop(struct fixture *f)
{
    EXPECT_EQ(fixture_stop(f), 0);
    bh_chan_unref(entered);
    bh_chan_unref(ended);
}

enum how { CLOSE, RESET, HALF };

/* Ask, and leave while the handler runs. */
static void
leave(struct fixture *f, const char *request, enum how how)
{
    struct bh_conn *c = fixture_dial(f);
    int             code;

    send_text(c, request);
    bh_recv(entered, NULL);
    if (how == HALF)
        EXPECT_EQ(bh_conn_shutdown_write(c), 0);
    else if (how == RESET)
        bh_conn_abort(c);
    else
        bh_conn_close(c);
    bh_recv(ended, &code);
    EXPECT_EQ(code, BH_ECANCELED);
    bh_conn_free(c);
}

#define POST(path, rest) "POST " path " HTTP/1.1\r\nHost: a\r\n" rest

TEST_REAL(hangup, ends_the_context_whatever_is_unread)
{
    static const char *const requests[] = {
        POST("/wait", "Content-Length: 0\r\n\r\n"),
        POST("/wait", "Content-Length: 100\r\n\r\n"),
        POST("/wait", "Content-Length: 100\r\n\r\nabc"),
        POST("/wait", "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        POST("/wait", "Content-Length: 0\r\n\r\nGET /quick HTTP/1.1\r\nHost: a\r\n\r\n"),
    };
    struct fixture f;

    start(&f, NULL);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++)
        for (enum how how = CLOSE; how <= HALF; how++)
            leave(&f, requests[i], how);
    stop(&f);
}

TEST_REAL(hangup, ends_it_while_the_handler_computes)
{
    struct fixture f;

    start(&f, NULL);
    leave(&f, POST("/wait?spin", "Content-Length: 0\r\n\r\n"), CLOSE);
    leave(&f, POST("/wait?spin", "Content-Length: 9\r\n\r\n"), RESET);
    stop(&f);
}

TEST_REAL(hangup, that_came_before_anybody_watched_counts_too)
{
    struct fixture  f;
    struct bh_conn *c;
    int             code;

    start(&f, NULL);
    c = fixture_dial(&f);
    send_text(c, POST("/wait", "Content-Length: 0\r\n\r\n"));
    EXPECT_EQ(bh_conn_shutdown_write(c), 0);
    bh_recv(entered, NULL);
    bh_recv(ended, &code);
    bh_conn_free(c);
    stop(&f);
}

TEST_REAL(hangup, of_one_side_is_none_if_so_decided)
{
    struct fixture f;

    start(&f, &(struct bh_http_options){ .half_close = true });
    talk(&f, "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n", answer, sizeof answer);
    EXPECT_STR(body_of(answer), "0");
    leave(&f, POST("/wait", "Content-Length: 9\r\n\r\n"), RESET);
    stop(&f);
}

TEST_REAL(hangup, of_an_earlier_request_is_forgotten)
{
    struct fixture  f;
    struct bh_conn *c;

    start(&f, NULL);
    c = fixture_dial(&f);
    for (int i = 0; i < 100; i++) {
        send_text(c, "GET /quick HTTP/1.1\r\nHost: a\r\n\r\n");
        read_reply(c, answer, sizeof answer);
        EXPECT_STR(body_of(answer), "0");
    }
    bh_conn_free(c);
    stop(&f);
}
