/*
 * ws_write.c -- what goes out on a WebSocket: frames, and messages made of them.
 *
 * Everything here is under ws->lock, so a frame is never inside another; a control frame may
 * come between the frames of a message.  A message takes the lock for its whole length,
 * or, begun by bh_ws_start, leaves it in between with its goroutine as ws->writer; others
 * wait for their turn.  That goroutine owns the obligation to finish (bh_own), so a
 * panic there does not leave them waiting: the connection is closed.
 *
 * A compressed message goes out in frames of up to OUT_SIZE, so its size need not be
 * known.  Each piece is flushed; of what the deflater gives the last four bytes are held
 * until more follows, because those of the end are not sent.
 */

#include "ws_conn.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/own.h>
#include <bulkhead/go/panic.h>

enum {
    FIRST_WRITE = 2048,   /* a frame up to this goes out in one write */
    WRITE_SIZE = 65536,   /* most bytes under one write timeout */
    OUT_SIZE = 16384,     /* of compressed bytes; a frame each */
    PACK_LEAST = 64,      /* shorter messages aren't compressed */
    PACK_PIECE = 1 << 20, /* given to zlib at a time */
};

/* ---- frames; under ws->lock ------------------------------------------------------ */

static int
put(struct bh_ws *ws, const uint8_t *data, size_t size)
{
    while (size > 0 && ws->write_error == 0) {
        size_t  piece = size < WRITE_SIZE ? size : WRITE_SIZE;
        ssize_t n = ht_io_write(ws->io, data, piece);

        if (n < 0)
            ws->write_error = (int)n;
        data += piece;
        size -= piece;
    }
    return ws->write_error;
}

/* A client's frames each have a mask that nobody can foresee. */
static const uint8_t *
next_mask(struct bh_ws *ws)
{
    if (ws->masks_left == 0) {
        if (getrandom(ws->masks, sizeof ws->masks, 0) != (ssize_t)sizeof ws->masks)
            bh_panic("ws: no random numbers");
        ws->masks_left = sizeof ws->masks;
    }
    ws->masks_left -= 4;
    return ws->masks + ws->masks_left;
}

static int
put_frame(struct bh_ws *ws, bool final, bool compressed, int opcode, const void *data,
          size_t size)
{
    const uint8_t *at = data, *mask = ws->client ? next_mask(ws) : NULL;
    uint8_t        buffer[FIRST_WRITE];
    size_t         n = ht_ws_put_head(buffer, final, compressed, opcode, mask, size), done = 0;

    do {
        size_t piece = size - done < sizeof buffer - n ? size - done : sizeof buffer - n;

        if (mask != NULL)
            ht_ws_mask(buffer + n, at + done, piece, mask, (unsigned)done & 3);
        else if (piece > 0)
            memcpy(buffer + n, at + done, piece);
        (void)put(ws, buffer, n + piece);
        done += piece;
        n = 0;
    } while (mask != NULL && done < size && ws->write_error == 0);
    return done < size ? put(ws, at + done, size - done) : ws->write_error;
}

/* Once; nothing follows it.  Returns: whether it was the first. */
static bool
put_close(struct bh_ws *ws, int code, const char *reason)
{
    uint8_t  payload[HT_WS_CONTROL_SIZE] = { (uint8_t)(code >> 8), (uint8_t)code };
    size_t   n = reason != NULL ? strnlen(reason, sizeof payload - 2) : 0;
    uint32_t utf8 = 0;

    if (atomic_exchange(&ws->close_sent, true))
        return false;
    while (n > 0 && (!ht_utf8_next(&utf8, reason, n) || utf8 != 0)) {
        utf8 = 0; /* cut between characters */
        n--;
    }
    if (n > 0)
        memcpy(payload + 2, reason, n);
    (void)put_frame(ws, true, false, HT_WS_CLOSE, payload, code == 1005 ? 0 : n + 2);
    bh_cond_broadcast(&ws->turn);
    return true;
}

/* The same for who does not have ws->lock.  Not on a connection that is gone. */
bool
ht_ws_send_close(struct bh_ws *ws, int code, const char *reason)
{
    bh_mutex_lock(&ws->lock);
    BH_DEFER(bh_mutex_unlock, &ws->lock);
    return ws->io != NULL && put_close(ws, code, reason);
}

void
ht_ws_send_control(struct bh_ws *ws, int opcode, const void *data, size_t size)
{
    bh_mutex_lock(&ws->lock);
    BH_DEFER(bh_mutex_unlock, &ws->lock);
    if (!atomic_load(&ws->close_sent))
        (void)put_frame(ws, true, false, opcode, data, size);
}

/* Whether a message may go out now.  Returns: 0 or an error. */
static int
check_open(struct bh_ws *ws)
{
    if (atomic_load(&ws->draining) && ws->io != NULL)
        (void)put_close(ws, 1001, "going away");
    if (atomic_load(&ws->close_sent) || ws->io == NULL)
        return bh_fail(BH_ECLOSED, "ws: the connection is closed");
    if (ws->write_error < 0)
        return bh_fail(ws->write_error, "ws: writing has failed");
    return 0;
}

/* ---- messages; under ws->lock ---------------------------------------------------- */

static int
put_part(struct bh_ws *ws, const void *data, size_t size, bool last)
{
    int opcode = ws->begun ? HT_WS_CONTINUATION : (int)ws->kind;
    int rc;

    rc = put_frame(ws, last, ws->packs && !ws->begun, opcode, data, size);
    ws->begun = true;
    return rc;
}

/* What the deflater gives for what it was fed; the last four bytes are held, or dropped at the end. */
static int
put_packed(struct bh_ws *ws, bool last)
{
    ssize_t n;
    int     rc = 0;

    while (rc == 0 &&
           (n = ht_ws_deflate(&ws->out, ws->packed + ws->held, OUT_SIZE - ws->held)) != 0) {
        size_t have = ws->held + (n > 0 ? (size_t)n : 0);
        bool   done = last && ws->out.flushed;

        if (n < 0)
            return (int)n;
        ws->held = have < 4 ? have : 4;
        if (have > ws->held || done)
            rc = put_part(ws, ws->packed, have - ws->held, done);
        memmove(ws->packed, ws->packed + have - ws->held, ws->held);
    }
    return rc;
}

static int
pack(struct bh_ws *ws, const uint8_t *data, size_t size, bool last)
{
    int rc = 0;

    if (ws->packed == NULL && (ws->packed = malloc(OUT_SIZE)) == NULL)
        bh_panic("ws: out of memory for a compressed message");
    if (size == 0 && last)
        rc = put_part(ws, NULL, 0, true);
    while (size > 0 && rc == 0) {
        size_t piece = size < PACK_PIECE ? size : PACK_PIECE;

        ht_ws_deflate_feed(&ws->out, data, piece);
        data += piece;
        size -= piece;
        rc = put_packed(ws, last && size == 0);
    }
    if (rc < 0 && ws->write_error == 0) { /* half a message can't be taken back */
        (void)put_close(ws, 1011, NULL);
        ws->write_error = rc;
    }
    if (last || rc < 0) {
        ws->held = 0;
        ht_ws_deflate_end(&ws->out);
    }
    return rc;
}

static int
send_part(struct bh_ws *ws, const void *data, size_t size, bool last)
{
    if (!ws->begun)
        ws->packs = ws->terms.on && ws->terms.bits_out > 8 && (!last || size >= PACK_LEAST);
    return ws->packs ? pack(ws, data, size, last) : put_part(ws, data, size, last);
}

/* Until nobody else is in the middle of a message. */
static int
take_turn(struct bh_ws *ws, const char *what)
{
    if (ws->writer == bh_id())
        bh_panic("ws: %s inside a message that bh_ws_start began", what);
    while (ws->writer != 0 && !atomic_load(&ws->close_sent) && ws->io != NULL)
        bh_cond_wait(&ws->turn, &ws->lock);
    return check_open(ws);
}

int
bh_ws_write(struct bh_ws *ws, enum bh_ws_kind kind, const void *data, size_t size)
{
    uint32_t utf8 = 0;
    int      rc;

    if (kind == BH_WS_TEXT && (!ht_utf8_next(&utf8, data, size) || utf8 != 0))
        return bh_fail(-EILSEQ, "ws: the text to write is not UTF-8");
    bh_mutex_lock(&ws->lock);
    BH_DEFER(bh_mutex_unlock, &ws->lock);
    rc = take_turn(ws, "bh_ws_write");
    if (rc < 0)
        return rc;
    ws->kind = kind;
    ws->begun = false;
    return send_part(ws, data, size, true);
}

int
bh_ws_print(struct bh_ws *ws, const char *format, ...)
{
    char   *text = NULL;
    va_list args;
    int     n;

    va_start(args, format);
    n = vasprintf(&text, format, args);
    va_end(args);
    if (n < 0)
        bh_panic("ws: out of memory for a text");
    BH_DEFER(free, text);
    return bh_ws_write(ws, BH_WS_TEXT, text, (size_t)n);
}

/* ---- messages piece by piece ----------------------------------------------------- */

static void
end_turn(struct bh_ws *ws)
{
    ws->writer = 0;
    bh_cond_broadcast(&ws->turn);
}

/* The goroutine is over, its message is not. */
static void
abandon(void *arg)
{
    struct bh_ws *ws = arg;

    bh_mutex_lock(&ws->lock);
    BH_DEFER(bh_mutex_unlock, &ws->lock);
    end_turn(ws);
    if (ws->io != NULL)
        (void)put_close(ws, 1011, NULL);
}

int
bh_ws_start(struct bh_ws *ws, enum bh_ws_kind kind)
{
    int rc;

    bh_mutex_lock(&ws->lock);
    BH_DEFER(bh_mutex_unlock, &ws->lock);
    rc = take_turn(ws, "bh_ws_start");
    if (rc < 0)
        return rc;
    bh_own(abandon, ws);
    ws->writer = bh_id();
    ws->kind = kind;
    ws->begun = false;
    ws->utf8 = 0;
    return 0;
}

static int
add(struct bh_ws *ws, const void *data, size_t size, bool last)
{
    int rc = check_open(ws);

    if (rc < 0)
        return rc;
    if (ws->kind == BH_WS_TEXT &&
        (!ht_utf8_next(&ws->utf8, data, size) || (last && ws->utf8 != 0))) {
        (void)put_close(ws, 1011, NULL);
        return bh_fail(-EILSEQ, "ws: the text to write is not UTF-8");
    }
    return size > 0 || last ? send_part(ws, data, size, last) : 0;
}

int
bh_ws_add(struct bh_ws *ws, const void *data, size_t size)
{
    bh_mutex_lock(&ws->lock);
    BH_DEFER(bh_mutex_unlock, &ws->lock);
    if (ws->writer != bh_id())
        bh_panic("ws: bh_ws_add without bh_ws_start");
    return add(ws, data, size, false);
}

int
bh_ws_finish(struct bh_ws *ws)
{
    int rc;

    bh_mutex_lock(&ws->lock);
    BH_DEFER(bh_mutex_unlock, &ws->lock);
    if (ws->writer != bh_id())
        bh_panic("ws: bh_ws_finish without bh_ws_start");
    rc = add(ws, NULL, 0, true);
    bh_disown(abandon, ws);
    end_turn(ws);
    return rc;
}

void
ht_ws_end_writing(struct bh_ws *ws)
{
    bh_mutex_lock(&ws->lock);
    BH_DEFER(bh_mutex_unlock, &ws->lock);
    if (ws->writer == bh_id())
        bh_disown(abandon, ws);
    ws->io = NULL;
    bh_cond_broadcast(&ws->turn);
    ht_ws_deflate_free(&ws->out);
    free(ws->packed);
}
