/* ws_test.c -- WebSockets over real sockets: handshakes, messages, rules, limits, ends. */
#include "http_fixture.h"

#include <errno.h>

#include <bulkhead/go/sync.h>
#include <bulkhead/http/ws.h>

#include "ws_frame.h"

enum { SIZE = 1 << 16 };
static char answer[SIZE];

static struct bh_ws_options options; /* of the echo */
static struct bh_chan      *ended;   /* what its last read returned */

/* Says everything back. */
static int
echo(struct bh_http_call *c, void *arg)
{
    struct bh_ws_message m;
    struct bh_ws        *ws;
    int                  rc = bh_ws_accept(c, &options, &ws);

    (void)arg;
    if (rc < 0)
        return rc;
    while ((rc = bh_ws_read(ws, &m)) == 0)
        (void)bh_ws_write(ws, m.kind, m.data, m.size);
    if (ended != NULL)
        (void)bh_try_send(ended, &rc);
    return 0;
}

static int
echo_some(struct bh_http_call *c, void *arg)
{
    enum bh_ws_kind kind;
    struct bh_ws   *ws;
    char            piece[1000];
    ssize_t         n;
    int             rc = bh_ws_accept(c, &options, &ws);

    (void)arg;
    if (rc < 0)
        return rc;
    while ((n = bh_ws_read_some(ws, &kind, piece, sizeof piece)) >= 0) {
        EXPECT_EQ(bh_ws_start(ws, kind), 0);
        for (; n > 0; n = bh_ws_read_some(ws, &kind, piece, sizeof piece))
            (void)bh_ws_add(ws, piece, (size_t)n);
        (void)bh_ws_finish(ws);
    }
    return 0;
}

static int
fall(struct bh_http_call *c, void *arg)
{
    struct bh_ws_message m;
    struct bh_ws        *ws;

    if (bh_ws_accept(c, NULL, &ws) < 0 || bh_ws_read(ws, &m) < 0)
        return 0;
    return *(volatile int *)arg; /* NULL */
}

static void
start_with(struct fixture *f, const struct bh_http_options *o)
{
    f->s = bh_http_server_new(o);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /echo", echo, NULL);
    bh_http_handle(f->s, "POST /echo", echo, NULL);
    bh_http_handle(f->s, "GET /some", echo_some, NULL);
    bh_http_handle(f->s, "GET /fall", fall, NULL);
    fixture_start(f);
}

static void
start(struct fixture *f)
{
    start_with(f, NULL);
}

static struct bh_ws *
dial(struct fixture *f, const char *path, const struct bh_ws_options *o)
{
    struct bh_ws *ws = NULL;
    char          url[100];

    snprintf(url, sizeof url, "ws://%s%s", bh_http_address(f->s), path);
    if (bh_ws_dial(bh_ctx_background(), url, o, &ws) != 0)
        test_failed(__FILE__, __LINE__, "dial %s: %s", url, bh_error_note());
    bh_ws_set_read_deadline(ws, bh_now() + 8 * BH_SECOND);
    return ws;
}

/* ---- raw bytes ------------------------------------------------------------------- */

#define UPGRADE "Host: a\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n"
#define KEY     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define HELLO   "GET /echo HTTP/1.1\r\n" UPGRADE KEY VERSION

static struct bh_conn *
shake_hands(struct fixture *f, const char *more)
{
    struct bh_conn *c = fixture_dial(f);

    send_text(c, HELLO);
    send_text(c, more);
    send_text(c, "\r\n");
    read_reply(c, answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 101 Switching Protocols\r\n");
    return c;
}

/* A frame as a client sends it. */
static size_t
put_frame(uint8_t *at, bool final, bool rsv1, int opcode, const void *data, size_t size)
{
    static const uint8_t mask[4] = { 0x12, 0x34, 0x56, 0x78 };
    size_t               n = ht_ws_put_head(at, final, rsv1, opcode, mask, size);

    ht_ws_mask(at + n, data, size, mask, 0);
    return n + size;
}

static void
send_frame(struct bh_conn *c, bool final, int opcode, const void *data, size_t size)
{
    static uint8_t frame[1 << 17];
    size_t         n = put_frame(frame, final, false, opcode, data, size);

    EXPECT_EQ(bh_write(c, frame, n), n);
}

/* The server's next frame, unmasked and in one piece.  Returns: its opcode; -1 at the end. */
static int
read_frame(struct bh_conn *c, char *data, size_t *size)
{
    uint8_t head[2], opcode;
    size_t  n;

    if (bh_read_full(c, head, 2) != 2)
        return -1;
    opcode = head[0] & 0x0f;
    EXPECT((head[0] & 0x80) != 0 && (head[1] & 0x80) == 0);
    n = head[1];
    if (n == 126) {
        EXPECT_EQ(bh_read_full(c, head, 2), 2);
        n = (size_t)head[0] << 8 | head[1];
    }
    EXPECT(n < SIZE);
    if (n > 0)
        EXPECT_EQ(bh_read_full(c, data, n), n);
    data[n] = '\0';
    *size = n;
    return opcode;
}

/* What the server closes with, once it does: everything before is left out. */
static int
close_code(struct bh_conn *c)
{
    size_t size = 0;
    int    opcode;

    do
        opcode = read_frame(c, answer, &size);
    while (opcode >= 0 && opcode != HT_WS_CLOSE);
    if (opcode < 0)
        return 1006;
    return size < 2 ? 1005 : (uint8_t)answer[0] << 8 | (uint8_t)answer[1];
}

/* ---- handshakes ------------------------------------------------------------------ */

TEST_REAL(ws, answers_the_handshake_of_the_rfc)
{
    struct fixture f;

    start(&f);
    struct bh_conn *c = shake_hands(&f, "");
    EXPECT_HAS(answer, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n");
    EXPECT_HAS(answer, "\r\nUpgrade: websocket\r\n");
    EXPECT_HAS(answer, "\r\nConnection: Upgrade\r\n");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws, refuses_what_is_no_handshake_and_goes_on_in_http)
{
    static const struct {
        const char *head, *status;
    } cases[] = {
        { "GET /echo HTTP/1.1\r\nHost: a\r\n", "426" },
        { "GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n" KEY
              VERSION,
          "426" },
        { "GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n" KEY VERSION, "426" },
        { "GET /echo HTTP/1.1\r\n" UPGRADE KEY "Sec-WebSocket-Version: 8\r\n", "426" },
        { "GET /echo HTTP/1.1\r\n" UPGRADE KEY, "426" },
        { "GET /echo HTTP/1.1\r\n" UPGRADE VERSION, "400" },
        { "GET /echo HTTP/1.1\r\n" UPGRADE VERSION KEY KEY, "400" },
        { "GET /echo HTTP/1.1\r\n" UPGRADE VERSION "Sec-WebSocket-Key: short\r\n", "400" },
        { "GET /echo HTTP/1.1\r\n" UPGRADE VERSION
          "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZR==\r\n",
          "400" },
        { "POST /echo HTTP/1.1\r\nContent-Length: 0\r\n" UPGRADE VERSION KEY, "400" },
        { HELLO "Origin: https://elsewhere.example\r\n", "403" },
        { HELLO "Origin: null\r\n", "403" },
        { HELLO "Origin: http://a\r\nOrigin: http://b\r\n", "403" },
    };
    struct fixture f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char start_of[32];

        send_text(c, cases[i].head);
        send_text(c, "\r\n");
        read_reply(c, answer, SIZE);
        snprintf(start_of, sizeof start_of, "HTTP/1.1 %s ", cases[i].status);
        EXPECT_STARTS(answer, start_of);
        if (strcmp(cases[i].status, "426") == 0) {
            EXPECT_HAS(answer, "\r\nUpgrade: websocket\r\n");
            EXPECT_HAS(answer, "\r\nSec-WebSocket-Version: 13\r\n");
        }
    }
    bh_conn_free(c);
    talk(&f, "GET /echo HTTP/1.0\r\n" UPGRADE KEY VERSION "\r\n", answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 400 ");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws, lets_pages_of_its_own_host_and_of_listed_origins_in)
{
    struct fixture f;

    start(&f);
    bh_conn_free(shake_hands(&f, "Origin: https://A\r\n"));
    options.origins =
        (const char *const[]){ "https://x.example", "https://y.example:8443", NULL };
    bh_conn_free(shake_hands(&f, "Origin: https://y.example:8443\r\n"));
    talk(&f, HELLO "Origin: https://a\r\n\r\n", answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 403 ");
    options.origins = (const char *const[]){ "*", NULL };
    bh_conn_free(shake_hands(&f, "Origin: null\r\n"));
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws, agrees_on_the_servers_favourite_subprotocol)
{
    struct fixture f;

    options.protocols = (const char *const[]){ "chat.v2", "chat.v1", NULL };
    start(&f);
    struct bh_ws *ws =
        dial(&f, "/echo",
             &(struct bh_ws_options){
                 .protocols = (const char *const[]){ "chat.v0", "chat.v1", "chat.v2", NULL } });
    EXPECT_STR(bh_ws_protocol(ws), "chat.v2");
    bh_ws_free(ws);
    ws = dial(&f, "/echo",
              &(struct bh_ws_options){ .protocols = (const char *const[]){ "Chat.V2", NULL } });
    EXPECT_STR(bh_ws_protocol(ws), "");
    bh_ws_free(ws);
    bh_conn_free(
        shake_hands(&f, "Sec-WebSocket-Protocol: a\r\nSec-WebSocket-Protocol: chat.v1\r\n"));
    EXPECT_HAS(answer, "\r\nSec-WebSocket-Protocol: chat.v1\r\n");
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* Some other server: takes one connection, reads once, says this, leaves. */
struct other {
    struct bh_listener *l;
    const char         *reply;
};

static void
answer_with(void *args)
{
    struct other   *o = args;
    struct bh_conn *c = NULL;
    char            request[2000];

    EXPECT_EQ(bh_accept(o->l, &c), 0);
    EXPECT(bh_read(c, request, sizeof request) > 0);
    send_text(c, o->reply);
    bh_conn_free(c);
}

TEST_REAL(ws, a_client_sees_through_servers_that_do_not_speak_it)
{
    static const struct {
        const char *reply, *note;
    } cases[] = {
        { "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "404 Not Found" },
        { "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
          "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
          "does not answer our key" },
        { "HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
          "did not upgrade" },
        { "SSH-2.0-OpenSSH_9.2\r\n\r\n", "no HTTP" },
        { "HTTP/1.1 101 Switching", "left in the handshake" },
    };
    struct bh_listener *l = NULL;

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bh_ws *ws = NULL;
        char          url[64];

        bh_go(answer_with, &(struct other){ l, cases[i].reply });
        snprintf(url, sizeof url, "ws://%s/", bh_listener_address(l));
        EXPECT_EQ(bh_ws_dial(bh_ctx_background(), url, NULL, &ws), -EPROTO);
        EXPECT_HAS(bh_error_note(), cases[i].note);
    }
    struct bh_ws *ws = NULL;
    EXPECT_EQ(bh_ws_dial(bh_ctx_background(), "http://127.0.0.1/", NULL, &ws), -EINVAL);
    EXPECT_EQ(bh_ws_dial(bh_ctx_background(), "ws://a b/", NULL, &ws), -EINVAL);
    bh_listener_free(l);
}

/* ---- messages -------------------------------------------------------------------- */

static void
fill(char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        data[i] = (char)('a' + (i * i / 9 + i) % 26);
}

static void
expect_echo(struct bh_ws *ws, enum bh_ws_kind kind, const char *data, size_t size)
{
    struct bh_ws_message m = { 0 };

    EXPECT_EQ(bh_ws_write(ws, kind, data, size), 0);
    if (bh_ws_read(ws, &m) != 0)
        test_failed(__FILE__, __LINE__, "%zu bytes: %s", size, bh_error_note());
    EXPECT_EQ(m.kind, kind);
    EXPECT_EQ(m.size, size);
    EXPECT_EQ(memcmp(m.data, data, size), 0);
    EXPECT_EQ(m.data[size], 0);
}

TEST_REAL(ws, messages_of_every_size_come_back_as_they_were)
{
    static const size_t               sizes[] = { 0,     1,     63,    64,     125,    126,
                                                  127,   4081,  4082,  4096,   16379,  16380,
                                                  65535, 65536, 65537, 200000, 1 << 20 };
    static char                       data[1 << 20];
    static const struct bh_ws_options kinds[] = {
        { 0 },
        { .deflate = true },
        { .deflate = true, .no_takeover = true, .window_bits = 9 },
    };
    struct fixture f;

    fill(data, sizeof data);
    start(&f);
    for (int both = 0; both < 9; both++) {
        options = kinds[both / 3];
        struct bh_ws *ws = dial(&f, both % 2 ? "/echo" : "/some", &kinds[both % 3]);
        EXPECT_EQ(bh_ws_compresses(ws), both / 3 > 0 && both % 3 > 0);
        for (size_t i = 0; i < sizeof sizes / sizeof sizes[0]; i++)
            expect_echo(ws, i % 2 ? BH_WS_TEXT : BH_WS_BINARY, data, sizes[i]);
        EXPECT_EQ(bh_ws_close(ws, 1000, "done"), 0);
        EXPECT_EQ(bh_ws_close_code(ws), 1000);
        bh_ws_free(ws);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws, fragments_with_pings_between_make_one_message_at_any_split)
{
    static uint8_t bytes[4096];
    struct fixture f;
    unsigned       seed = 7;
    size_t         n = 0, size;

    n += put_frame(bytes + n, false, false, HT_WS_TEXT, "\xe2\x82", 2);
    n += put_frame(bytes + n, true, false, HT_WS_PING, "one", 3);
    n += put_frame(bytes + n, false, false, HT_WS_CONTINUATION, "", 0);
    n += put_frame(bytes + n, true, false, HT_WS_PONG, "nobody asked", 12);
    n += put_frame(bytes + n, true, false, HT_WS_PING, "", 0);
    n += put_frame(bytes + n, true, false, HT_WS_CONTINUATION, "\xac!", 2);
    n += put_frame(bytes + n, true, false, HT_WS_BINARY, "\0\xff", 2);
    n += put_frame(bytes + n, true, false, HT_WS_CLOSE, "\x0f\xa0over", 6);
    start(&f);
    for (int round = 0; round < 40; round++) {
        struct bh_conn *c = shake_hands(&f, "");
        for (size_t at = 0, piece; at < n; at += piece) {
            seed = seed * 1103515245 + 12345;
            piece = round == 0 ? 1 : round == 1 ? n : 1 + (seed >> 16) % 12;
            piece = piece < n - at ? piece : n - at;
            EXPECT_EQ(bh_write(c, bytes + at, piece), piece);
            bh_yield();
        }
        EXPECT_EQ(read_frame(c, answer, &size), HT_WS_PONG);
        EXPECT_STR(answer, "one");
        EXPECT_EQ(read_frame(c, answer, &size), HT_WS_PONG);
        EXPECT_EQ(size, 0);
        EXPECT_EQ(read_frame(c, answer, &size), HT_WS_TEXT);
        EXPECT_STR(answer, "\xe2\x82\xac!");
        EXPECT_EQ(read_frame(c, answer, &size), HT_WS_BINARY);
        EXPECT_EQ(size, 2);
        EXPECT_EQ(close_code(c), 4000);
        EXPECT_EQ(bh_read(c, answer, 1), 0); /* it ends the connection, too */
        bh_conn_free(c);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws, bytes_behind_the_handshake_are_frames_already)
{
    static uint8_t bytes[10000];
    static char    data[8000];
    struct fixture f;
    size_t         n = sizeof HELLO "\r\n" - 1, size;

    fill(data, sizeof data);
    memcpy(bytes, HELLO "\r\n", n);
    n += put_frame(bytes + n, true, false, HT_WS_TEXT, data, sizeof data);
    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_EQ(bh_write(c, bytes, n), n);
    read_reply(c, answer, SIZE);
    EXPECT_STARTS(answer, "HTTP/1.1 101 ");
    EXPECT_EQ(read_frame(c, answer, &size), HT_WS_TEXT);
    EXPECT_EQ(size, sizeof data);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- rules ----------------------------------------------------------------------- */

TEST_REAL(ws, who_breaks_the_rules_is_told_by_code)
{
    static const struct {
        const char *what, *bytes;
        size_t      size;
        int         code;
    } cases[] = {
#undef CASE
#define CASE(what, code, bytes) { what, bytes, sizeof(bytes) - 1, code }
        CASE("an unmasked frame", 1002, "\x81\x01x"),
        CASE("RSV1 without an extension", 1002, "\xc1\x80\0\0\0\0"),
        CASE("RSV3", 1002, "\x91\x80\0\0\0\0"),
        CASE("opcode 3", 1002, "\x83\x80\0\0\0\0"),
        CASE("opcode 11", 1002, "\x8b\x80\0\0\0\0"),
        CASE("a ping of 126 bytes", 1002, "\x89\xfe\x00\x7e\0\0\0\0"),
        CASE("half a ping", 1002, "\x09\x80\0\0\0\0"),
        CASE("a continuation first", 1002, "\x80\x80\0\0\0\0"),
        CASE("text inside text", 1002, "\x01\x80\0\0\0\0\x81\x80\0\0\0\0"),
        CASE("bad UTF-8", 1007, "\x81\x82\0\0\0\0\xc0\x80"),
        CASE("UTF-8 that breaks off", 1007, "\x81\x81\0\0\0\0\xe2"),
        CASE("bad UTF-8 in the first fragment", 1007, "\x01\x84\0\0\0\0\xed\xa0\x80x"),
        CASE("a close without a code", 1005, "\x88\x80\0\0\0\0"),
        CASE("a close of one byte", 1002, "\x88\x81\0\0\0\0\x03"),
        CASE("close 1006", 1002, "\x88\x82\0\0\0\0\x03\xee"),
        CASE("close 3000", 3000, "\x88\x82\0\0\0\0\x0b\xb8"),
        CASE("a close with a bad reason", 1007, "\x88\x83\0\0\0\0\x03\xe8\x80"),
        CASE("a frame of 2 MiB", 1009, "\x82\xff\0\0\0\0\x00\x20\0\0\0\0\0\0"),
        CASE("a frame of 2^62", 1009, "\x82\xff\x40\0\0\0\0\0\0\0\0\0\0\0"),
        CASE("a frame of 2^63", 1002, "\x82\xff\x80\0\0\0\0\0\0\0\0\0\0\0"),
    };
    struct fixture f;

    start(&f);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bh_conn *c = shake_hands(&f, "");
        EXPECT_EQ(bh_write(c, cases[i].bytes, cases[i].size), cases[i].size);
        int code = close_code(c);
        if (code != cases[i].code)
            test_failed(__FILE__, __LINE__, "%s: %d", cases[i].what, code);
        EXPECT_EQ(bh_read(c, answer, 1), 0);
        bh_conn_free(c);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws, nothing_behind_a_close_is_answered)
{
    struct fixture f;

    ended = BH_CHAN(int, 1);
    start(&f);
    struct bh_conn *c = shake_hands(&f, "");
    static uint8_t  bytes[100];
    size_t          n = put_frame(bytes, true, false, HT_WS_CLOSE, "\x03\xe8", 2), size;
    int             rc = 0;
    n += put_frame(bytes + n, true, false, HT_WS_TEXT, "late", 4);
    n += put_frame(bytes + n, true, false, HT_WS_PING, "", 0);
    EXPECT_EQ(bh_write(c, bytes, n), n);
    EXPECT_EQ(read_frame(c, answer, &size), HT_WS_CLOSE);
    EXPECT_EQ(read_frame(c, answer, &size), -1);
    bh_conn_free(c);
    EXPECT(bh_recv(ended, &rc));
    EXPECT_EQ(rc, BH_EEOF);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(ended);
}

TEST_REAL(ws, a_peer_that_just_leaves_is_no_close)
{
    struct fixture f;
    int            rc = 0;

    ended = BH_CHAN(int, 1);
    start(&f);
    bh_conn_free(shake_hands(&f, ""));
    EXPECT(bh_recv(ended, &rc));
    EXPECT_EQ(rc, -ECONNRESET);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(ended);
}

/* ---- limits ---------------------------------------------------------------------- */

TEST_REAL(ws, a_message_may_have_just_so_many_bytes_whatever_its_fragments)
{
    static char    data[2000];
    struct fixture f;

    options.max_message = 1000;
    start(&f);
    struct bh_ws *ws = dial(&f, "/echo", NULL);
    expect_echo(ws, BH_WS_BINARY, data, 1000);
    bh_ws_free(ws);
    for (int many = 0; many < 2; many++) {
        struct bh_conn *c = shake_hands(&f, "");
        if (many)
            for (int i = 0; i < 11; i++)
                send_frame(c, i == 10, i == 0 ? HT_WS_BINARY : 0, data, 91);
        else
            send_frame(c, true, HT_WS_BINARY, data, 1001);
        EXPECT_EQ(close_code(c), 1009);
        bh_conn_free(c);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws, a_small_message_cannot_inflate_beyond_the_limit)
{
    static uint8_t   small[1 << 16], frame[1 << 17];
    static char      zeros[1 << 20];
    struct ht_ws_zip z = { .bits = 15 };
    struct fixture   f;
    size_t           n = 0;
    ssize_t          got;

    for (int i = 0; i < 20; i++) { /* 20 MiB of zeros in 20 KiB */
        ht_ws_deflate_feed(&z, zeros, sizeof zeros);
        while ((got = ht_ws_deflate(&z, small + n, sizeof small - n)) > 0)
            n += (size_t)got;
    }
    ht_ws_deflate_free(&z);
    n = put_frame(frame, true, true, HT_WS_BINARY, small, n - 4);
    options.deflate = true;
    start(&f);
    struct bh_conn *c = shake_hands(&f, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    EXPECT_HAS(answer, "\r\nSec-WebSocket-Extensions: permessage-deflate\r\n");
    EXPECT_EQ(bh_write(c, frame, n), n);
    EXPECT_EQ(close_code(c), 1009);
    bh_conn_free(c);
    c = shake_hands(&f, "Sec-WebSocket-Extensions: permessage-deflate\r\n");
    n = put_frame(frame, true, true, HT_WS_BINARY, "\xff\xff\xff", 3);
    EXPECT_EQ(bh_write(c, frame, n), n);
    EXPECT_EQ(close_code(c), 1007);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- times ----------------------------------------------------------------------- */

TEST_REAL(ws, a_silent_peer_is_pinged_and_one_that_is_dead_given_up)
{
    struct fixture f;
    size_t         size;
    int            rc = 0;

    options.ping_interval = 40 * BH_MILLISECOND;
    options.pong_timeout = 100 * BH_MILLISECOND;
    ended = BH_CHAN(int, 1);
    start(&f);
    struct bh_conn *c = shake_hands(&f, "");
    for (int i = 0; i < 5; i++) {
        EXPECT_EQ(read_frame(c, answer, &size), HT_WS_PING);
        send_frame(c, true, HT_WS_PONG, answer, size);
    }
    EXPECT_EQ(read_frame(c, answer, &size), HT_WS_PING);
    EXPECT(bh_recv(ended, &rc));
    EXPECT_EQ(rc, -ETIMEDOUT);
    EXPECT(bh_read(c, answer, 1) <= 0);
    bh_conn_free(c);

    struct bh_ws        *ws = dial(&f, "/echo", NULL); /* our client answers */
    struct bh_ws_message m;
    bh_ws_set_read_deadline(ws, bh_now() + 400 * BH_MILLISECOND);
    EXPECT_EQ(bh_ws_read(ws, &m), BH_EDEADLINE);
    bh_ws_set_read_deadline(ws, 0);
    expect_echo(ws, BH_WS_TEXT, "still there", 11);
    bh_ws_free(ws);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(ended);
}

TEST_REAL(ws, reading_goes_on_after_a_deadline_in_the_middle_of_a_message)
{
    struct bh_ws_message m = { 0 };
    struct fixture       f;

    start(&f);
    struct bh_ws *ws = dial(&f, "/some", NULL);
    EXPECT_EQ(bh_ws_start(ws, BH_WS_TEXT), 0);
    EXPECT_EQ(bh_ws_add(ws, "one ", 4), 0);
    bh_ws_set_read_deadline(ws, bh_now() + 30 * BH_MILLISECOND);
    EXPECT_EQ(bh_ws_read(ws, &m), BH_EDEADLINE);
    EXPECT_EQ(bh_ws_add(ws, "two", 3), 0);
    EXPECT_EQ(bh_ws_finish(ws), 0);
    bh_ws_set_read_deadline(ws, 0);
    EXPECT_EQ(bh_ws_read(ws, &m), 0);
    EXPECT_STR(m.data, "one two");
    bh_ws_free(ws);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws, a_context_ends_reading)
{
    struct bh_ctx       *ctx = bh_ctx_timeout(bh_ctx_background(), 50 * BH_MILLISECOND);
    struct bh_ws_message m;
    struct fixture       f;

    start(&f);
    struct bh_ws *ws = dial(&f, "/echo", &(struct bh_ws_options){ .ctx = ctx });
    EXPECT_EQ(bh_ws_read(ws, &m), BH_EDEADLINE);
    EXPECT_EQ(bh_ws_read(ws, &m), BH_EDEADLINE);
    bh_ws_free(ws);
    bh_ctx_end(ctx);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- ends ------------------------------------------------------------------------ */

TEST_REAL(ws, a_handler_that_panics_closes_with_1011_and_sends_no_http)
{
    struct bh_ws_message m;
    struct fixture       f;

    start(&f);
    for (int i = 0; i < 100; i++) {
        struct bh_ws *ws = dial(&f, "/fall", NULL);
        EXPECT_EQ(bh_ws_write(ws, BH_WS_TEXT, "x", 1), 0);
        EXPECT_EQ(bh_ws_read(ws, &m), BH_EEOF);
        EXPECT_EQ(bh_ws_close_code(ws), 1011);
        bh_ws_free(ws);
    }
    struct bh_http_stats stats;
    bh_http_stats(f.s, &stats);
    EXPECT_EQ(stats.panics, 100);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws, draining_tells_every_peer_1001_and_waits_for_it)
{
    enum { COUNT = 20 };
    struct bh_ws_message m;
    struct bh_ws        *ws[COUNT];
    struct fixture       f;
    int                  rc = -1;

    options.close_timeout = 8 * BH_SECOND;
    ended = BH_CHAN(int, COUNT);
    start(&f);
    for (int i = 0; i < COUNT; i++)
        ws[i] = dial(&f, i % 2 ? "/echo" : "/some", NULL);
    for (int i = 0; i < COUNT; i++)
        expect_echo(ws[i], BH_WS_TEXT, "x", 1);
    bh_http_stop(f.s);
    for (int i = 0; i < COUNT; i++) {
        EXPECT_EQ(bh_ws_read(ws[i], &m), BH_EEOF);
        EXPECT_EQ(bh_ws_close_code(ws[i]), 1001);
        bh_ws_free(ws[i]);
    }
    EXPECT(bh_recv(ended, &rc));
    EXPECT_EQ(rc, BH_ECLOSED);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(ended);
}

TEST_REAL(ws, draining_does_not_wait_long_for_a_peer_that_never_closes)
{
    struct fixture f;
    int64_t        before;

    options.close_timeout = 100 * BH_MILLISECOND;
    start(&f);
    struct bh_conn *c = shake_hands(&f, "");
    before = bh_now();
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT(bh_now() - before < 2 * BH_SECOND);
    EXPECT_EQ(close_code(c), 1001);
    bh_conn_free(c);
}

static int
bye(struct bh_http_call *c, void *arg)
{
    struct bh_ws *ws;

    if (bh_ws_accept(c, &options, &ws) < 0)
        return 0;
    *(int *)arg = bh_ws_close(ws, 4321, "so long");
    EXPECT_EQ(bh_ws_write(ws, BH_WS_TEXT, "x", 1), BH_ECLOSED);
    return 0;
}

TEST_REAL(ws, either_side_closes_with_a_code_and_a_reason)
{
    struct bh_ws_message m;
    struct fixture       f;
    static int           result = -1;

    f.s = bh_http_server_new(NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /bye", bye, &result);
    fixture_start(&f);
    struct bh_ws *ws = dial(&f, "/bye", NULL);
    EXPECT_EQ(bh_ws_read(ws, &m), BH_EEOF);
    EXPECT_EQ(bh_ws_close_code(ws), 4321);
    EXPECT_STR(bh_ws_close_reason(ws), "so long");
    EXPECT_EQ(bh_ws_write(ws, BH_WS_TEXT, "x", 1), BH_ECLOSED);
    EXPECT_EQ(bh_ws_read(ws, &m), BH_EEOF);
    EXPECT_PANIC("ws: code 1006 may not be sent in a close", (void)bh_ws_close(ws, 1006, NULL));
    bh_ws_free(ws);
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT_EQ(result, 0);
}

/* ---- several goroutines ---------------------------------------------------------- */

enum { WRITERS = 8, EACH = 50 };
static struct bh_waitgroup writing;

struct writer {
    struct bh_ws *ws;
    int           number;
};

/* Messages of one letter: whole ones, and some in pieces. */
static void
write_many(struct bh_http_call *c, void *args)
{
    struct writer *w = args;
    char           data[300];

    (void)c;
    memset(data, 'a' + w->number, sizeof data);
    for (int i = 0; i < EACH; i++)
        if (i % 3 == 0) {
            EXPECT_EQ(bh_ws_start(w->ws, BH_WS_TEXT), 0);
            for (int piece = 0; piece < 3; piece++) {
                EXPECT_EQ(bh_ws_add(w->ws, data, 100), 0);
                bh_yield();
            }
            EXPECT_EQ(bh_ws_finish(w->ws), 0);
        } else {
            EXPECT_EQ(bh_ws_write(w->ws, BH_WS_TEXT, data, sizeof data), 0);
        }
    bh_waitgroup_done(&writing);
}

static int
many_write(struct bh_http_call *c, void *arg)
{
    struct bh_ws *ws;

    (void)arg;
    if (bh_ws_accept(c, &options, &ws) < 0)
        return 0;
    bh_waitgroup_add(&writing, WRITERS);
    for (int i = 0; i < WRITERS; i++)
        bh_http_go(c, write_many, &(struct writer){ ws, i });
    bh_waitgroup_wait(&writing);
    return 0;
}

TEST_REAL(ws, messages_of_many_goroutines_do_not_mix)
{
    struct fixture f;

    f.s = bh_http_server_new(NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /many", many_write, NULL);
    fixture_start(&f);
    for (int deflate = 0; deflate < 2; deflate++) {
        struct bh_ws_message m;
        int                  count = 0, rc;

        options.deflate = deflate;
        struct bh_ws *ws = dial(&f, "/many", &options);
        while ((rc = bh_ws_read(ws, &m)) == 0) {
            EXPECT_EQ(m.size, 300);
            EXPECT_EQ(strspn(m.data, (const char[]){ m.data[0], 0 }), 300);
            count++;
        }
        EXPECT_EQ(rc, BH_EEOF);
        EXPECT_EQ(bh_ws_close_code(ws), 1000);
        EXPECT_EQ(count, WRITERS * EACH);
        bh_ws_free(ws);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

static struct bh_chan *go_on, *result;

static void
fall_in_a_message(struct bh_http_call *c, void *args)
{
    struct writer *w = args;

    (void)c;
    EXPECT_EQ(bh_ws_start(w->ws, BH_WS_TEXT), 0);
    EXPECT_EQ(bh_ws_add(w->ws, "half", 4), 0);
    bh_panic("in the middle");
}

static void
outlive(struct bh_http_call *c, void *args)
{
    struct writer       *w = args;
    struct bh_ws_message m;
    int                  rc;

    (void)c;
    (void)bh_recv(go_on, NULL);
    rc = bh_ws_write(w->ws, BH_WS_TEXT, "x", 1);
    bh_send(result, &rc);
    rc = bh_ws_read(w->ws, &m);
    bh_send(result, &rc);
    rc = bh_ws_close(w->ws, 1000, NULL);
    bh_send(result, &rc);
}

static int
background(struct bh_http_call *c, void *arg)
{
    struct bh_ws_message m;
    struct bh_ws        *ws;

    if (bh_ws_accept(c, &options, &ws) < 0)
        return 0;
    if (arg == NULL) {
        bh_http_go(c, outlive, &(struct writer){ ws, 0 });
        return 0;
    }
    bh_http_go(c, fall_in_a_message, &(struct writer){ ws, 0 });
    while (bh_ws_read(ws, &m) == 0)
        EXPECT_EQ(bh_ws_write(ws, BH_WS_TEXT, "whole", 5),
                  BH_ECLOSED); /* not inside the other */
    return 0;
}

TEST_REAL(ws, goroutines_that_fall_or_outlive_the_handler_do_no_harm)
{
    struct bh_ws_message m;
    struct fixture       f;
    int                  rc = 0;

    go_on = BH_CHAN(char, 0);
    result = BH_CHAN(int, 3);
    f.s = bh_http_server_new(NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /outlive", background, NULL);
    bh_http_handle(f.s, "GET /half", background, &f);
    fixture_start(&f);
    struct bh_ws *ws = dial(&f, "/half", NULL);
    EXPECT_EQ(bh_ws_read(ws, &m), BH_EEOF);
    EXPECT_EQ(bh_ws_close_code(ws), 1011);
    bh_ws_free(ws);

    ws = dial(&f, "/outlive", NULL);
    EXPECT_EQ(bh_ws_read(ws, &m), BH_EEOF);
    bh_ws_free(ws);
    bh_close(go_on);
    for (int i = 0; i < 3; i++) {
        EXPECT(bh_recv(result, &rc));
        EXPECT_EQ(rc, BH_ECLOSED);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(go_on);
    bh_chan_unref(result);
}

TEST_REAL(ws, misuse_is_a_panic_with_its_name_and_bad_text_an_error)
{
    struct fixture f;

    start(&f);
    struct bh_ws *volatile ws = dial(&f, "/echo", NULL);
    EXPECT_PANIC("ws: bh_ws_add without bh_ws_start", (void)bh_ws_add(ws, "x", 1));
    EXPECT_PANIC("ws: bh_ws_finish without bh_ws_start", (void)bh_ws_finish(ws));
    EXPECT_EQ(bh_ws_write(ws, BH_WS_TEXT, "\xc0", 1), -EILSEQ);
    expect_echo(ws, BH_WS_TEXT, "fine", 4);
    EXPECT_EQ(bh_ws_print(ws, "%d and %s", 1, "two"), 0);
    EXPECT_EQ(bh_ws_start(ws, BH_WS_TEXT), 0);
    EXPECT_PANIC("ws: bh_ws_write inside a message that bh_ws_start began",
                 (void)bh_ws_write(ws, BH_WS_TEXT, "x", 1));
    EXPECT_PANIC("ws: bh_ws_start inside a message that bh_ws_start began",
                 (void)bh_ws_start(ws, BH_WS_TEXT));
    EXPECT_EQ(bh_ws_add(ws, "\xff", 1), -EILSEQ);
    bh_ws_free(ws);
    EXPECT_EQ(fixture_stop(&f), 0);
}
