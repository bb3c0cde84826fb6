/*
 * ws.c -- a WebSocket once it is open: messages in, and its end.  What goes out: ws_write.c.
 *
 * Bytes come in under ws->read_lock and go out under ws->lock; the reader takes the second
 * while it has the first, to answer pings and closes.  Neither protects what does not
 * change (options, terms), nor the flags that others set for the reader.
 *
 * The reader sleeps in a read whose deadline is the nearest of: the user's, the next
 * ping's, the pong's that is awaited.  Who wants its attention (a drain, a close by
 * another goroutine, a new deadline) sets a flag, then moves the connection's deadline to now.
 * The reader sets its deadline first and looks at the flags then, so none is missed.
 *
 *     open --bh_ws_close, drain, end of the handler, a fault of the peer--> close sent --+
 *       |                                                                                +--> over
 *       +--the peer's close, answered----------------------------------------------------+
 *
 * After a close has been sent nothing else is; who waits for the peer's (await_close) drops
 * what comes before it.  The handler's end (ht_ws_end) takes the connection away: goroutines
 * of the request that still have ws get BH_ECLOSED.
 */

#include "ws_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <openssl/evp.h>

enum {
    IN_SIZE = 4096,         /* input buffer */
    MESSAGE_KEPT = 1 << 16, /* a larger message's buffer goes when the next comes */
};

/* ---- waiting for input; under ws->read_lock -------------------------------------- */

/* Make the reader look at the flags. */
static void
kick(struct bh_ws *ws)
{
    bh_conn_set_read_deadline(ws->io->conn, bh_now());
}

static int64_t
nearest(int64_t a, int64_t b)
{
    return a == 0 ? b : b == 0 ? a : a < b ? a : b;
}

static int64_t
next_deadline(const struct bh_ws *ws, int64_t user)
{
    if (ws->close_deadline != 0)
        return ws->close_deadline;
    if (ws->pinged != 0)
        return nearest(ws->pinged + ws->o.pong_timeout, user);
    return nearest(ws->o.ping_interval > 0 ? ws->heard + ws->o.ping_interval : 0, user);
}

/* The deadline of the next read.  One that is a little early is good enough, and costs nothing. */
static void
arm(struct bh_ws *ws)
{
    int64_t slack = ws->o.ping_interval / 8, user, next;

    do {
        user = atomic_load(&ws->read_deadline);
        next = next_deadline(ws, user);
        if (next == ws->armed ||
            (ws->armed != 0 && next > ws->armed && next - ws->armed < slack))
            return;
        bh_conn_set_read_deadline(ws->io->conn, next);
        ws->armed = next;
    } while (user != atomic_load(&ws->read_deadline)); /* its kick may have come before */
}

/* Returns: 0, or why reading ends though there may be input. */
static int
look_at_flags(struct bh_ws *ws)
{
    if (ws->close_deadline != 0) /* await_close */
        return 0;
    if (atomic_load(&ws->draining))
        (void)ht_ws_send_close(ws, 1001, "going away");
    if (atomic_load(&ws->close_sent))
        return bh_fail(BH_ECLOSED, "ws: the connection is closed");
    return 0;
}

/* A read's deadline has passed, if not for a kick.  Returns: 0 to go on, or an error. */
static int
deadline_passed(struct bh_ws *ws)
{
    int64_t now = bh_now(), user = atomic_load(&ws->read_deadline);
    int     ended = ws->ctx != NULL && ws->close_deadline == 0 ? bh_ctx_err(ws->ctx) : 0;

    ws->armed = 0;
    if (ended < 0)
        return ended;
    if (ws->close_deadline != 0)
        return now < ws->close_deadline
                   ? 0
                   : bh_fail(-ETIMEDOUT, "ws: no close from the peer in time");
    if (user != 0 && now >= user)
        return bh_fail(BH_EDEADLINE, "ws: read deadline");
    if (ws->pinged != 0 && now >= ws->pinged + ws->o.pong_timeout) {
        ws->gone = true;
        bh_conn_abort(ws->io->conn);
        return bh_fail(-ETIMEDOUT, "ws: the peer gives no sign of life");
    }
    if (ws->pinged == 0 && ws->o.ping_interval > 0 &&
        now >= ws->heard + ws->o.ping_interval - ws->o.ping_interval / 8) {
        ht_ws_send_control(ws, HT_WS_PING, NULL, 0);
        ws->pinged = now;
    }
    return 0;
}

/* Blocks until there are bytes.  Returns: how many, or an error. */
static ssize_t
receive(struct bh_ws *ws, void *to, size_t size)
{
    for (;;) {
        ssize_t n;
        int     rc;

        arm(ws);
        rc = look_at_flags(ws);
        if (rc < 0)
            return rc;
        n = ht_io_read(ws->io, to, size);
        if (n > 0) {
            ws->heard = bh_now_coarse();
            ws->pinged = 0;
            return n;
        }
        if (n == BH_EDEADLINE) {
            rc = deadline_passed(ws);
            if (rc < 0)
                return rc;
            continue;
        }
        ws->gone = ws->ctx == NULL || bh_ctx_err(ws->ctx) == 0;
        return n < 0 ? n : bh_fail(-ECONNRESET, "ws: the peer left without closing");
    }
}

/* ---- reading; under ws->read_lock ------------------------------------------------ */

/* The peer broke the rules: tell it.  Returns: an error. */
static int
fail(struct bh_ws *ws, int code, const char *why)
{
    (void)ht_ws_send_close(ws, code, why);
    ws->d.code = code; /* no more is read as frames */
    ws->d.why = why;
    return bh_fail(code == 1007 ? -EILSEQ : code == 1009 ? -EMSGSIZE : -EPROTO, "ws: %s", why);
}

static int
closed_by_peer(struct bh_ws *ws)
{
    const struct ht_ws_decoder *d = &ws->d;

    ws->close_code = d->control_size >= 2 ? d->control[0] << 8 | d->control[1] : 1005;
    if (d->control_size > 2)
        memcpy(ws->close_reason, d->control + 2, d->control_size - 1u);
    if (!ht_ws_send_close(ws, ws->close_code, NULL))
        return BH_ECLOSED;
    return bh_fail(BH_EEOF, "ws: the peer closed: %d %s", ws->close_code, ws->close_reason);
}

/* Returns: 0 to go on. */
static int
control_came(struct bh_ws *ws)
{
    if (ws->d.opcode == HT_WS_CLOSE)
        return closed_by_peer(ws);
    if (ws->d.opcode == HT_WS_PING)
        ht_ws_send_control(ws, HT_WS_PONG, ws->d.control, ws->d.control_size);
    return 0;
}

static int
fill(struct bh_ws *ws)
{
    ssize_t n = receive(ws, ws->input, ws->input_size);

    if (n < 0)
        return (int)n;
    ws->start = 0;
    ws->end = (size_t)n;
    return 0;
}

/* From what the inflater has.  Returns: bytes; 0 if there are none yet or, *end, any more; an error. */
static ssize_t
take_inflated(struct bh_ws *ws, void *to, size_t size, bool *end)
{
    ssize_t n = ht_ws_inflate(&ws->in, to, size);

    if (n < 0)
        return n == -ENOMEM ? fail(ws, 1011, "out of memory")
                            : fail(ws, 1007, "bad compressed data");
    if (n > 0)
        return ht_ws_inflated(&ws->d, to, (size_t)n, false) ? n
                                                            : fail(ws, ws->d.code, ws->d.why);
    ws->inflating = false;
    if (!ws->at_tail)
        return 0;
    ws->at_tail = false;
    if (ht_ws_inflate_end(&ws->in) < 0)
        return fail(ws, 1007, "compressed data breaks off");
    if (!ht_ws_inflated(&ws->d, NULL, 0, true))
        return fail(ws, ws->d.code, ws->d.why);
    *end = true;
    return 0;
}

/* d->left bytes of a message are next.  Returns: bytes; 0 if there are none yet; an error. */
static ssize_t
take_data(struct bh_ws *ws, void *to, size_t size)
{
    struct ht_ws_decoder *d = &ws->d;
    size_t                n = ws->end - ws->start;
    void                 *from = ws->input + ws->start;

    if (d->left < n)
        n = (size_t)d->left;
    if (d->compressed) {
        if (n == 0)
            return fill(ws);
        (void)ht_ws_take(d, from, from, n);
        ht_ws_inflate_feed(&ws->in, from, n);
        ws->inflating = true;
        ws->start += n;
        return 0;
    }
    if (d->left > ws->allowed)
        return fail(ws, 1009, "message too large");
    if (n == 0) { /* past our buffer */
        ssize_t got = receive(ws, to, size < d->left ? size : (size_t)d->left);

        if (got < 0)
            return got;
        n = (size_t)got;
        from = to;
    } else {
        n = n < size ? n : size;
        ws->start += n;
    }
    return ht_ws_take(d, to, from, n) ? (ssize_t)n : fail(ws, d->code, d->why);
}

/* Returns: bytes; 0 at the end of a message; an error. */
static ssize_t
read_some(struct bh_ws *ws, void *to, size_t size)
{
    bool    end = false;
    ssize_t n = 0;

    while (n == 0 && !end) {
        size_t used;

        if (ws->inflating) {
            n = take_inflated(ws, to, size, &end);
            continue;
        }
        switch (ht_ws_next(&ws->d, ws->input + ws->start, ws->end - ws->start, &used)) {
        case HT_WS_MORE:
            n = fill(ws);
            continue;
        case HT_WS_DATA:
            ws->start += used;
            n = take_data(ws, to, size);
            continue;
        case HT_WS_CONTROL:
            ws->start += used;
            n = control_came(ws);
            continue;
        case HT_WS_BAD:
            n = fail(ws, ws->d.code, ws->d.why);
            continue;
        case HT_WS_END:
            ws->start += used;
            end = !ws->d.compressed;
            ws->inflating = ws->at_tail = !end;
            if (!end)
                ht_ws_inflate_last(&ws->in);
        }
    }
    if (n < 0 && n != BH_EDEADLINE)
        ws->read_error = (int)n;
    return n;
}

ssize_t
bh_ws_read_some(struct bh_ws *ws, enum bh_ws_kind *kind, void *buffer, size_t size)
{
    ssize_t n;

    BH_REQUIRE(size > 0);
    bh_mutex_lock(&ws->read_lock);
    BH_DEFER(bh_mutex_unlock, &ws->read_lock);
    if (ws->read_error < 0)
        return ws->read_error;
    ws->allowed = UINT64_MAX;
    n = read_some(ws, buffer, size);
    if (n >= 0)
        *kind = (enum bh_ws_kind)ws->d.kind;
    return n;
}

/* Room for at least one byte more, but never for more than one over the limit. */
static void
grow_message(struct bh_ws *ws)
{
    size_t room = ws->message_room == 0 ? 1024 : ws->message_room * 2;
    char  *bigger;

    if (room > ws->o.max_message + 2)
        room = ws->o.max_message + 2;
    bigger = realloc(ws->message, room);
    if (bigger == NULL)
        bh_panic("ws: out of memory for a message of %zu bytes", room);
    ws->message = bigger;
    ws->message_room = room;
}

int
bh_ws_read(struct bh_ws *ws, struct bh_ws_message *message)
{
    ssize_t n;

    bh_mutex_lock(&ws->read_lock);
    BH_DEFER(bh_mutex_unlock, &ws->read_lock);
    if (ws->read_error < 0)
        return ws->read_error;
    if (ws->partial == 0 && ws->message_room > MESSAGE_KEPT)
        ht_ws_free_message(ws);
    for (;;) {
        if (ws->message_room - ws->partial < 2)
            grow_message(ws);
        ws->allowed = ws->o.max_message - ws->partial;
        n = read_some(ws, ws->message + ws->partial, ws->message_room - ws->partial - 1);
        if (n <= 0)
            break;
        ws->partial += (size_t)n;
        if (ws->partial > ws->o.max_message)
            return ws->read_error = fail(ws, 1009, "message too large");
    }
    if (n < 0)
        return (int)n;
    ws->message[ws->partial] = '\0';
    *message = (struct bh_ws_message){ (enum bh_ws_kind)ws->d.kind, ws->message, ws->partial };
    ws->partial = 0;
    return 0;
}

/* ---- closing --------------------------------------------------------------------- */

/* Our close is out: until the peer's, its end, or the time is up.  Under ws->read_lock. */
static int
await_close(struct bh_ws *ws)
{
    char    sink[1024];
    ssize_t n = 1;

    if (ws->close_code != 1006)
        return 0;
    if (ws->gone || ws->close_deadline != 0)
        return ws->gone ? -ECONNRESET : -ETIMEDOUT;
    ws->close_deadline = bh_now() + ws->o.close_timeout;
    if (ws->d.code != 0) { /* no frames any more: show the peer our end, wait for its */
        (void)ht_io_end(ws->io);
        while (n > 0)
            n = receive(ws, sink, sizeof sink);
    } else {
        ws->allowed = UINT64_MAX;
        while (n >= 0)
            n = read_some(ws, sink, sizeof sink);
    }
    ws->read_error = BH_ECLOSED;
    return ws->close_code != 1006 ? 0 : (int)n;
}

/* Wait for a reader to leave, then for the peer. */
static int
finish(struct bh_ws *ws)
{
    bh_mutex_lock(&ws->read_lock);
    BH_DEFER(bh_mutex_unlock, &ws->read_lock);
    return ws->io == NULL ? BH_ECLOSED : await_close(ws);
}

static void
kick_if_open(struct bh_ws *ws)
{
    bh_mutex_lock(&ws->lock);
    BH_DEFER(bh_mutex_unlock, &ws->lock);
    if (ws->io != NULL)
        kick(ws);
}

int
bh_ws_close(struct bh_ws *ws, int code, const char *reason)
{
    if (!ht_ws_is_close_code((unsigned)code))
        bh_panic("ws: code %d may not be sent in a close", code);
    (void)ht_ws_send_close(ws, code, reason);
    kick_if_open(ws);
    return finish(ws);
}

void
bh_ws_set_read_deadline(struct bh_ws *ws, int64_t at_ns)
{
    atomic_store(&ws->read_deadline, at_ns);
    kick_if_open(ws);
}

int
bh_ws_close_code(const struct bh_ws *ws)
{
    return ws->close_code;
}

const char *
bh_ws_close_reason(const struct bh_ws *ws)
{
    return ws->close_reason;
}

const char *
bh_ws_protocol(const struct bh_ws *ws)
{
    return ws->protocol;
}

bool
bh_ws_compresses(const struct bh_ws *ws)
{
    return ws->terms.on;
}

/* ---- for the handshakes ---------------------------------------------------------- */

void
ht_ws_fill_defaults(struct bh_ws_options *to, const struct bh_ws_options *o)
{
    *to = o != NULL ? *o : (struct bh_ws_options){ 0 };
#define DEFAULT(field, value)                                                                  \
    if (to->field == 0)                                                                        \
    to->field = (value)
    DEFAULT(max_message, 1 << 20);
    DEFAULT(window_bits, 15);
    DEFAULT(ping_interval, 30 * BH_SECOND);
    DEFAULT(pong_timeout, 20 * BH_SECOND);
    DEFAULT(close_timeout, 5 * BH_SECOND);
    DEFAULT(open_timeout, 10 * BH_SECOND);
#undef DEFAULT
    BH_REQUIRE(to->window_bits >= 9 && to->window_bits <= 15);
}

struct ht_ws_terms
ht_ws_wanted(const struct bh_ws_options *o)
{
    return (struct ht_ws_terms){
        .on = o->deflate,
        .forget_in = o->no_takeover,
        .forget_out = o->no_takeover,
        .bits_in = o->window_bits,
        .bits_out = o->window_bits,
    };
}

void
ht_ws_key(const char *key, char text[32])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char     all[24 + sizeof guid], hash[EVP_MAX_MD_SIZE];

    memcpy(all, key, 24);
    memcpy(all + 24, guid, sizeof guid);
    if (EVP_Digest(all, sizeof all - 1, hash, NULL, EVP_sha1(), NULL) != 1)
        bh_panic("ws: no SHA-1");
    (void)EVP_EncodeBlock((unsigned char *)text, hash, 20);
}

void
ht_ws_open(struct bh_ws *ws, struct ht_io *io, struct bh_ctx *ctx, const void *data,
           size_t size)
{
    ws->io = io;
    ws->ctx = ctx != NULL ? bh_ctx_ref(ctx) : NULL;
    ws->d.masked = !ws->client;
    ws->d.deflate = ws->terms.on;
    ws->in = (struct ht_ws_zip){ .bits = ws->terms.bits_in, .forget = ws->terms.forget_in };
    ws->out = (struct ht_ws_zip){ .bits = ws->terms.bits_out, .forget = ws->terms.forget_out };
    ws->close_code = 1006;
    ws->heard = bh_now_coarse();
    ws->input_size = size > IN_SIZE ? size : IN_SIZE;
    ws->input = malloc(ws->input_size);
    if (ws->input == NULL)
        bh_panic("ws: out of memory for input");
    memcpy(ws->input, data, size);
    ws->end = size;
    if (ws->o.write_timeout > 0)
        bh_conn_set_write_timeout(io->conn, ws->o.write_timeout);
    bh_conn_set_ctx(io->conn, ctx);
}

void
ht_ws_drain(void *arg)
{
    struct bh_ws *ws = arg;

    atomic_store(&ws->draining, true);
    kick(ws);
}

void
ht_ws_free_message(void *arg)
{
    struct bh_ws *ws = arg;

    free(ws->message);
    ws->message = NULL;
    ws->message_room = 0;
}

/* Nobody reads any more; nobody is to write. */
static void
detach(struct bh_ws *ws)
{
    bh_mutex_lock(&ws->read_lock);
    BH_DEFER(bh_mutex_unlock, &ws->read_lock);
    ht_ws_end_writing(ws);
    ws->read_error = BH_ECLOSED;
    ht_ws_inflate_free(&ws->in);
    free(ws->input);
    bh_ctx_unref(ws->ctx);
    ws->ctx = NULL;
}

void
ht_ws_end(struct bh_ws *ws, int code)
{
    bh_conn_set_ctx(ws->io->conn,
                    NULL); /* it may have ended; the peer shall hear of it all the same */
    (void)ht_ws_send_close(ws, code, NULL);
    kick_if_open(ws);
    (void)finish(ws);
    detach(ws);
}
