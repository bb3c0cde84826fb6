/* session_test.c -- HTTP/2 against a server that sends frames as given. */

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <bulkhead/go/group.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/http/client.h>

#include "http_fixture.h"

enum type { DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW };
enum { END_STREAM = 1, ACK = 1, END_HEADERS = 4 };
enum { REFUSED_STREAM = 7, INTERNAL_ERROR = 2 };

struct frame {
    enum type     type;
    unsigned      flags, id, size;
    unsigned char payload[17000];
};

/* One connection, seen from the server. */
struct peer {
    struct bh_conn *c;
    int             number; /* of the connection, from 1 */
    struct frame    f;      /* the last one that was read */
};

struct frames {
    struct bh_listener    *l;
    struct bh_http_client *c;
    void (*serve)(struct peer *p);
    struct bh_waitgroup over;
    _Atomic int         connections;
    char                url[64], note[300];
};

static void
send_frame(struct peer *p, enum type type, unsigned flags, unsigned id, const void *payload,
           size_t size)
{
    unsigned char head[9] = {
        (unsigned char)(size >> 16), (unsigned char)(size >> 8), (unsigned char)size,
        (unsigned char)type,         (unsigned char)flags,       (unsigned char)(id >> 24),
        (unsigned char)(id >> 16),   (unsigned char)(id >> 8),   (unsigned char)id
    };

    if (bh_write(p->c, head, 9) == 9 && size > 0)
        (void)bh_write(p->c, payload, size);
}

static void
send_number(struct peer *p, enum type type, unsigned id, unsigned number)
{
    unsigned char payload[8] = { 0 };
    size_t        at = type == GOAWAY ? 4 : 0;

    payload[at + 3] = (unsigned char)number;
    send_frame(p, type, 0, id, payload, at + 4);
}

/* Goes away, having looked at streams up to `last`. */
static void
send_goaway(struct peer *p, unsigned last)
{
    unsigned char payload[8] = { 0, 0, 0, (unsigned char)last };

    send_frame(p, GOAWAY, 0, 0, payload, 8);
}

/* The next frame that is about a stream, or a PING's answer.  Returns: false at the end. */
static bool
next_frame(struct peer *p)
{
    unsigned char head[9];

    do {
        if (bh_read_full(p->c, head, 9) != 9)
            return false;
        p->f.size = (unsigned)head[0] << 16 | (unsigned)head[1] << 8 | head[2];
        p->f.type = head[3];
        p->f.flags = head[4];
        p->f.id = (unsigned)head[7] << 8 | head[8];
        EXPECT(p->f.size <= sizeof p->f.payload);
        if (p->f.size > 0 && bh_read_full(p->c, p->f.payload, p->f.size) != p->f.size)
            return false;
    } while (p->f.type != HEADERS && p->f.type != DATA && p->f.type != RST_STREAM &&
             p->f.type != PING);
    return true;
}

/* Returns: the stream of the next request's head; 0 at the end. */
static unsigned
next_request(struct peer *p)
{
    while (next_frame(p))
        if (p->f.type == HEADERS)
            return p->f.id;
    return 0;
}

/* :status 200, content-length: n */
static void
send_head(struct peer *p, unsigned id, char n, unsigned flags)
{
    const char block[] = { (char)0x88, 0x0f, 0x0d, 1, n };

    send_frame(p, HEADERS, END_HEADERS | flags, id, block, sizeof block);
}

static void
send_ok(struct peer *p, unsigned id)
{
    send_head(p, id, '2', 0);
    send_frame(p, DATA, END_STREAM, id, "ok", 2);
}

/* ---- the fixture ------------------------------------------------------------------------- */

struct meet {
    struct frames  *r;
    struct bh_conn *c;
    int             number;
};

static void
meet(void *arg)
{
    struct meet *m = arg;
    struct peer *p = calloc(1, sizeof *p);
    char         preface[24];

    BH_DEFER(bh_waitgroup_done, &m->r->over);
    BH_DEFER(free, p);
    BH_DEFER(bh_conn_free, m->c);
    p->c = m->c;
    p->number = m->number;
    bh_conn_set_deadline(p->c, bh_now() + 5 * BH_SECOND);
    if (bh_read_full(p->c, preface, sizeof preface) == (ssize_t)sizeof preface) {
        EXPECT(memcmp(preface, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 24) == 0);
        send_frame(p, SETTINGS, 0, 0, NULL, 0);
        send_frame(p, SETTINGS, ACK, 0, NULL, 0);
        m->r->serve(p);
    }
}

static void
meet_all(void *arg)
{
    struct frames  *r = *(struct frames **)arg;
    struct bh_conn *c;

    BH_DEFER(bh_waitgroup_done, &r->over);
    while (bh_accept(r->l, &c) == 0) {
        bh_waitgroup_add(&r->over, 1);
        bh_go(meet, &(struct meet){ r, c, atomic_fetch_add(&r->connections, 1) + 1 });
    }
}

static void
frames_start(struct frames *r, const struct bh_http_client_options *options,
             void (*serve)(struct peer *p))
{
    struct bh_http_client_options o = { .no_retries = true };

    if (options != NULL)
        o = *options;
    o.h2c = true;
    *r = (struct frames){ .serve = serve, .c = bh_http_client_new(&o) };
    EXPECT_EQ(bh_listen("127.0.0.1:0", &r->l), 0);
    snprintf(r->url, sizeof r->url, "http://%s/", bh_listener_address(r->l));
    bh_waitgroup_add(&r->over, 1);
    bh_go(meet_all, &(struct frames *){ r });
}

static void
wait_for_no_connection(struct frames *r)
{
    struct bh_http_client_stats s;

    do {
        bh_yield();
        bh_http_client_stats(r->c, &s);
    } while (s.open > 0);
}

static void
frames_stop(struct frames *r)
{
    bh_http_client_close_idle(r->c);
    wait_for_no_connection(r);
    bh_http_client_free(r->c);
    bh_listener_close(r->l);
    bh_waitgroup_wait(&r->over);
    bh_listener_free(r->l);
}

/* Ask, with the whole body.  Returns: the status, or the error. */
static int
ask(struct frames *r, const struct bh_http_req *request)
{
    struct bh_http_req  req = request != NULL ? *request : (struct bh_http_req){ 0 };
    struct bh_http_res *res = NULL;
    const char         *text;
    int                 rc, status;

    req.url = r->url;
    rc = bh_http_client_do(bh_ctx_background(), r->c, &req, &res);
    snprintf(r->note, sizeof r->note, "%s", bh_error_note());
    if (rc < 0)
        return rc;
    status = res->status;
    rc = (int)bh_http_res_body(res, 100000, &text);
    snprintf(r->note, sizeof r->note, "%s", bh_error_note());
    bh_http_res_close(res);
    return rc < 0 ? rc : status;
}

static const struct bh_http_req post = { .method = "POST", .body = "x", .body_size = 1 };

/* ---- going away -------------------------------------------------------------------------- */

static void
go_away_unread(struct peer *p)
{
    if (p->number > 1) {
        send_ok(p, next_request(p));
        (void)next_request(p);
        return;
    }
    (void)next_request(p);
    send_goaway(p, 0);
    (void)next_request(p);
}

TEST_REAL(session, what_a_goaway_leaves_unread_is_sent_again)
{
    struct frames r;

    frames_start(&r, NULL, go_away_unread);
    EXPECT_EQ(ask(&r, &post), 200);
    EXPECT_EQ(r.connections, 2);
    frames_stop(&r);
}

static void
go_away_later(struct peer *p)
{
    unsigned id = next_request(p);

    send_goaway(p, id);
    send_ok(p, id);
    EXPECT_EQ(next_request(p), 0);
}

TEST_REAL(session, what_was_read_before_a_goaway_is_answered_and_the_next_goes_elsewhere)
{
    struct frames r;

    frames_start(&r, NULL, go_away_later);
    EXPECT_EQ(ask(&r, NULL), 200);
    EXPECT_EQ(ask(&r, &post), 200);
    EXPECT_EQ(r.connections, 2);
    frames_stop(&r);
}

/* ---- resets ------------------------------------------------------------------------------ */

static void
refuse_first(struct peer *p)
{
    send_number(p, RST_STREAM, next_request(p), REFUSED_STREAM);
    send_ok(p, next_request(p));
    (void)next_request(p);
}

TEST_REAL(session, a_refused_request_is_sent_again)
{
    struct frames r;

    frames_start(&r, NULL, refuse_first);
    EXPECT_EQ(ask(&r, &post), 200);
    EXPECT_EQ(r.connections, 1);
    frames_stop(&r);
}

static void
refuse_all(struct peer *p)
{
    unsigned id;

    while ((id = next_request(p)) != 0)
        send_number(p, RST_STREAM, id, REFUSED_STREAM);
}

TEST_REAL(session, but_not_for_ever)
{
    struct bh_http_client_stats s;
    struct frames               r;

    frames_start(&r, NULL, refuse_all);
    EXPECT_EQ(ask(&r, &post), -ECONNRESET);
    EXPECT_HAS(r.note, "reset the request: REFUSED_STREAM");
    bh_http_client_stats(r.c, &s);
    EXPECT_EQ(s.sent, 2);
    frames_stop(&r);
}

static void
break_first(struct peer *p)
{
    unsigned id = next_request(p);

    send_head(p, id, '5', 0);
    send_frame(p, DATA, 0, id, "ok", 2);
    send_number(p, RST_STREAM, id, INTERNAL_ERROR);
    send_ok(p, next_request(p));
    (void)next_request(p);
}

TEST_REAL(session, a_reset_breaks_one_request_only)
{
    struct frames r;

    frames_start(&r, NULL, break_first);
    EXPECT_EQ(ask(&r, NULL), -ECONNRESET);
    EXPECT_HAS(r.note, "INTERNAL_ERROR");
    EXPECT_EQ(ask(&r, NULL), 200);
    EXPECT_EQ(r.connections, 1);
    frames_stop(&r);
}

static void
expect_cancel(struct peer *p)
{
    unsigned id = next_request(p);

    while (next_frame(p) && p->f.type != RST_STREAM)
        continue;
    EXPECT_EQ(p->f.id, id);
    send_ok(p, next_request(p));
    (void)next_request(p);
}

TEST_REAL(session, a_request_that_is_given_up_is_reset)
{
    struct frames       r;
    struct bh_ctx      *ctx = bh_ctx_timeout(bh_ctx_background(), 10 * BH_MILLISECOND);
    struct bh_http_res *res;

    frames_start(&r, NULL, expect_cancel);
    EXPECT_EQ(bh_http_client_get(ctx, r.c, r.url, &res), BH_EDEADLINE);
    bh_ctx_end(ctx);
    EXPECT_EQ(ask(&r, NULL), 200);
    EXPECT_EQ(r.connections, 1);
    frames_stop(&r);
}

/* ---- connections that break -------------------------------------------------------------- */

static void
send_garbage(struct peer *p)
{
    (void)next_request(p);
    (void)bh_write(p->c, "HTTP/1.1 400 Bad Request\r\n\r\n", 28);
    (void)next_request(p);
}

TEST_REAL(session, what_is_no_http2_is_an_error)
{
    struct frames r;

    frames_start(&r, NULL, send_garbage);
    EXPECT_EQ(ask(&r, NULL), -EBADMSG);
    frames_stop(&r);
}

static void
close_in_body(struct peer *p)
{
    unsigned id = next_request(p);

    send_head(p, id, '5', 0);
    send_frame(p, DATA, 0, id, "ok", 2);
}

TEST_REAL(session, a_body_cut_short_is_an_error)
{
    struct frames r;
    int           rc;

    frames_start(&r, NULL, close_in_body);
    rc = ask(&r, NULL);
    EXPECT(rc == BH_EEOF || rc == -ECONNRESET); /* as there is unread input or not */
    frames_stop(&r);
}

static void
close_after_first(struct peer *p)
{
    unsigned id = next_request(p);

    send_ok(p, id);
    if (p->number == 1)
        (void)next_request(p); /* and says nothing to it */
    else
        while ((id = next_request(p)) != 0)
            send_ok(p, id);
}

TEST_REAL(session, a_get_that_meets_a_closing_connection_is_sent_again)
{
    struct frames r;

    frames_start(&r, NULL, close_after_first);
    EXPECT_EQ(ask(&r, NULL), 200);
    EXPECT_EQ(ask(&r, NULL), 200);
    EXPECT_EQ(r.connections, 2);
    frames_stop(&r);
}

static void
close_when_idle(struct peer *p)
{
    send_ok(p, next_request(p));
}

TEST_REAL(session, a_close_while_idle_is_noticed_at_once)
{
    struct frames r;

    frames_start(&r, NULL, close_when_idle);
    for (int i = 1; i <= 3; i++) {
        EXPECT_EQ(ask(&r, &post), 200);
        wait_for_no_connection(&r);
        EXPECT_EQ(r.connections, i);
    }
    frames_stop(&r);
}

static void
answer_all(struct peer *p)
{
    unsigned id;

    while ((id = next_request(p)) != 0)
        send_ok(p, id);
}

TEST_REAL(session, an_unused_connection_is_closed_in_time)
{
    struct bh_http_client_options o = { .idle_timeout = 20 * BH_MILLISECOND };
    struct frames                 r;

    frames_start(&r, &o, answer_all);
    EXPECT_EQ(ask(&r, NULL), 200);
    wait_for_no_connection(&r);
    EXPECT_EQ(ask(&r, NULL), 200);
    frames_stop(&r);
}

/* A whole reply, and how much of it is sent before the end. */
static const unsigned char reply_bytes[] = {
    0, 0, 5, HEADERS, END_HEADERS, 0, 0, 0, 1, 0x88, 0x0f, 0x0d, 1, '2', /* 200, 2 bytes */
    0, 0, 1, DATA,    0,           0, 0, 0, 1, 'o',                      /* in two */
    0, 0, 1, DATA,    END_STREAM,  0, 0, 0, 1, 'k',
};
static size_t reply_cut;
static bool   reply_reset;

static void
cut_reply(struct peer *p)
{
    (void)next_request(p);
    (void)bh_write(p->c, reply_bytes, reply_cut);
    if (reply_reset)
        bh_conn_abort(p->c);
}

TEST_REAL(session, a_reply_cut_or_reset_anywhere_is_an_error)
{
    struct frames r;

    frames_start(&r, NULL, cut_reply);
    for (int reset = 0; reset < 2; reset++) {
        reply_reset = reset == 1;
        for (reply_cut = 1; reply_cut < sizeof reply_bytes; reply_cut++) {
            int rc = ask(&r, &post);

            /* A close is a reset if there is unread input, as a window update of ours. */
            if (rc != BH_EEOF && rc != -ECONNRESET && rc != -EPIPE)
                test_failed(__FILE__, __LINE__, "cut after %zu bytes: %d", reply_cut, rc);
            wait_for_no_connection(&r);
        }
    }
    reply_reset = false;
    EXPECT_EQ(ask(&r, &post), 200);
    frames_stop(&r);
}

/* ---- rules ------------------------------------------------------------------------------- */

static void
expect_pong(struct peer *p)
{
    unsigned id = next_request(p);

    send_frame(p, PING, 0, 0, "12345678", 8);
    while (next_frame(p) && p->f.type != PING)
        continue;
    EXPECT(p->f.flags == ACK && memcmp(p->f.payload, "12345678", 8) == 0);
    send_ok(p, id);
    (void)next_request(p);
}

TEST_REAL(session, a_ping_is_answered)
{
    struct frames r;

    frames_start(&r, NULL, expect_pong);
    EXPECT_EQ(ask(&r, NULL), 200);
    frames_stop(&r);
}

static void
answer_pings_of_the_first(struct peer *p)
{
    unsigned id = next_request(p);

    for (int pings = 0; pings < 3 && next_frame(p);)
        if (p->f.type == PING && p->number == 1) {
            send_frame(p, PING, ACK, 0, p->f.payload, 8);
            pings++;
        }
    send_ok(p, id);
    (void)next_request(p);
}

TEST_REAL(session, silence_is_broken_by_pings_and_without_answer_the_connection)
{
    struct bh_http_client_options o = { .ping_interval = 10 * BH_MILLISECOND,
                                        .no_retries = true };
    struct frames                 r;

    frames_start(&r, &o, answer_pings_of_the_first);
    EXPECT_EQ(ask(&r, &post), 200);
    bh_http_client_close_idle(r.c);
    wait_for_no_connection(&r);
    EXPECT_EQ(ask(&r, &post), -ETIMEDOUT);
    EXPECT_EQ(r.connections, 2);
    frames_stop(&r);
}

static void
lie_about_length(struct peer *p)
{
    unsigned id = next_request(p);

    send_head(p, id, p->number == 1 ? '1' : '3', 0);
    send_frame(p, DATA, END_STREAM, id, "ok", 2);
    (void)next_request(p);
}

TEST_REAL(session, a_body_that_is_not_as_long_as_it_says_is_an_error)
{
    struct frames r;

    frames_start(&r, NULL, lie_about_length);
    EXPECT_EQ(ask(&r, NULL), -EBADMSG);
    frames_stop(&r);
}

static void
push(struct peer *p)
{
    const char promise[] = { 0, 0, 0, 2, (char)0x82, (char)0x84, (char)0x86 };

    send_frame(p, PUSH_PROMISE, END_HEADERS, next_request(p), promise, sizeof promise);
    (void)next_request(p);
}

TEST_REAL(session, a_push_is_an_error)
{
    struct frames r;

    frames_start(&r, NULL, push);
    EXPECT_EQ(ask(&r, NULL), -EBADMSG);
    frames_stop(&r);
}

TEST_REAL(session, heads_have_limits)
{
    struct bh_http_client_options o = { .max_head = 30, .no_retries = true };
    struct frames                 r;

    frames_start(&r, &o, answer_all);
    EXPECT_EQ(ask(&r, NULL), -EMSGSIZE);
    frames_stop(&r);
}

static void
interim(struct peer *p)
{
    const char block[] = { 0x08, 3, '1', '0', '3' };
    unsigned   id = next_request(p);

    for (int i = 0; i < (p->number == 1 ? 16 : 17); i++)
        send_frame(p, HEADERS, END_HEADERS, id, block, sizeof block);
    send_ok(p, id);
    if (p->number == 1)
        send_goaway(p, id);
    (void)next_request(p);
}

TEST_REAL(session, interim_replies_are_passed_over_but_not_for_ever)
{
    struct frames r;

    frames_start(&r, NULL, interim);
    EXPECT_EQ(ask(&r, NULL), 200);
    EXPECT_EQ(ask(&r, NULL), -EBADMSG);
    frames_stop(&r);
}

/* ---- windows ----------------------------------------------------------------------------- */

/* Gives no window, but answers what has no body. */
static void
give_no_window(struct peer *p)
{
    unsigned id;

    while ((id = next_request(p)) != 0)
        if (p->f.flags & END_STREAM)
            send_ok(p, id);
}

struct put {
    struct frames  *r;
    struct bh_chan *done;
};

static void
put_much(void *arg)
{
    struct put          p = *(struct put *)arg;
    struct bh_http_req  req = { .method = "PUT", .body_size = 200000 };
    void               *body = calloc(1, req.body_size);
    struct bh_http_res *res;
    int                 rc;

    req.body = body;
    req.url = p.r->url;
    rc = bh_http_client_do(bh_ctx_background(), p.r->c, &req, &res);
    free(body);
    bh_send(p.done, &rc);
}

TEST_REAL(session, an_upload_without_a_window_ends_in_time_and_holds_up_nobody)
{
    struct bh_http_client_options o = { .write_timeout = 30 * BH_MILLISECOND };
    struct bh_chan               *done = BH_CHAN(int, 1);
    struct frames                 r;
    int                           rc = 0;

    frames_start(&r, &o, give_no_window);
    bh_go(put_much, &(struct put){ &r, done });
    while (!bh_try_recv(done, &rc, NULL))
        EXPECT_EQ(ask(&r, NULL), 200);
    EXPECT_EQ(rc, BH_EDEADLINE);
    EXPECT_EQ(r.connections, 1);
    bh_chan_unref(done);
    frames_stop(&r);
}
