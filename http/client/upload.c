/*
 * upload.c -- a body that is sent while the reply may already come.
 *
 * A server may answer before it has all of the body: to refuse it, or because it answers as
 * it reads.  So a body that does not fit the socket's buffer has a goroutine of its own; it
 * only writes to the connection, and the request's goroutine only reads.
 *
 *     running --> given (the last write has begun) --> over: u->done
 *
 * If the function that makes the body fails, the connection is reset, so that the server does
 * not take what it has for the whole.  If writing fails, nothing is done: whoever reads
 * will see a reply or the same failure.  On HTTP/2 the same happens to a stream.
 *
 * u->lock makes one of two moments the later one: the end of the upload, which starts
 * the clock of the head, and the head itself, which stops it.
 */

#include "hc.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/safe.h>

enum {
    CHUNK_ROOM = 12, /* for a chunk's size before its bytes */
    STACK = 256 * 1024,
};
enum { RUNNING, SENT, WRITE_FAILED, SOURCE_FAILED };
#define LAST_WRITE                                                                             \
    (1 * BH_SECOND) /* how long the end of a body may still take when the reply is complete */

struct hc_upload {
    struct hc_res  *x;
    struct bh_chan *done;   /* closed when it is over */
    char           *buffer; /* of a source: CHUNK_ROOM, HC_UPLOAD_BUFFER, 2 */
    struct bh_mutex lock;
    bool            head_came;
    _Atomic bool    given;   /* the last write has begun */
    _Atomic int     outcome; /* RUNNING, then one of the others */
    int             error;   /* of SOURCE_FAILED */
    char            note[200];
};

struct upload_args {
    struct hc_upload *u;
};

/* The server must not take what it has for the whole. */
static void
break_off(struct hc_upload *u)
{
    if (u->x->stream != NULL)
        hc_stream_fail(u->x->stream);
    else
        bh_conn_abort(u->x->k->io.conn);
}

static int
source_failed(struct hc_upload *u, int error, const char *note)
{
    u->error = error;
    snprintf(u->note, sizeof u->note, "%s", note);
    atomic_store(&u->outcome, SOURCE_FAILED);
    break_off(u);
    return error;
}

/* ---- writing ----------------------------------------------------------------------------- */

static int
write_bytes(struct hc_upload *u, const void *data, size_t size)
{
    ssize_t n = ht_io_write(&u->x->k->io, data, size);

    return n < 0 ? (int)n : 0;
}

/* n bytes at u->buffer + CHUNK_ROOM.  last: known to be so. */
static int
send_piece(struct hc_upload *u, size_t n, bool counted, bool last)
{
    char size[CHUNK_ROOM + 1], *data = u->buffer + CHUNK_ROOM;
    int  digits;

    atomic_store(&u->given, last);
    if (u->x->stream != NULL)
        return hc_stream_send(u->x->stream, data, n);
    if (counted)
        return write_bytes(u, data, n);
    digits = snprintf(size, sizeof size, "%zx\r\n", n);
    memcpy(data - digits, size, (size_t)digits);
    memcpy(data + n, "\r\n", 2);
    return write_bytes(u, data - digits, (size_t)digits + n + 2);
}

static bool
are_good(const char *const *trailers)
{
    for (const char *const *t = trailers; t != NULL && t[0] != NULL; t += 2)
        if (t[1] == NULL || !ht_is_value(t[1], strlen(t[1])))
            return false;
    return true;
}

/* The last chunk, with the trailers.  Returns: malloc'ed text. */
static char *
last_chunk(const char *const *trailers, size_t *size)
{
    size_t need = sizeof "0\r\n\r\n";
    char  *text, *at;

    for (const char *const *t = trailers; t != NULL && t[0] != NULL; t += 2)
        need += strlen(t[0]) + strlen(t[1]) + sizeof ": \r\n";
    text = malloc(need);
    if (text == NULL)
        return NULL;
    at = stpcpy(text, "0\r\n");
    for (const char *const *t = trailers; t != NULL && t[0] != NULL; t += 2)
        at = stpcpy(stpcpy(stpcpy(stpcpy(at, t[0]), ": "), t[1]), "\r\n");
    *size = (size_t)(stpcpy(at, "\r\n") - text);
    return text;
}

static int
send_end(struct hc_upload *u, bool counted)
{
    const char *const *trailers = u->x->req->trailers;
    size_t             size = 0;
    char              *text;
    int                rc;

    atomic_store(&u->given, true);
    if (!are_good(trailers))
        return source_failed(u, -EINVAL, "bad trailers");
    if (u->x->stream != NULL)
        return hc_stream_send_end(u->x->stream, trailers);
    if (counted)
        return 0;
    text = last_chunk(trailers, &size);
    if (text == NULL)
        return source_failed(u, -ENOMEM, "out of memory");
    rc = write_bytes(u, text, size);
    free(text);
    return rc;
}

static int
send_source(struct hc_upload *u)
{
    const struct bh_http_req *req = u->x->req;
    bool                      counted = req->source_length > 0;
    int64_t                   left = counted ? req->source_length : INT64_MAX;

    while (left > 0) {
        size_t  size = left < HC_UPLOAD_BUFFER ? (size_t)left : HC_UPLOAD_BUFFER;
        ssize_t n = req->source(req->source_arg, u->buffer + CHUNK_ROOM, size);
        int     rc;

        BH_REQUIRE(n <= (ssize_t)size);
        if (n < 0)
            return source_failed(u, (int)n, bh_error_text((int)n));
        if (n == 0 && counted)
            return source_failed(u, -EINVAL, "shorter than its length");
        if (n == 0)
            break;
        left -= counted ? n : 0;
        rc = send_piece(u, (size_t)n, counted, left == 0);
        if (rc < 0)
            return rc;
    }
    return send_end(u, counted);
}

static int
send_all(struct hc_upload *u)
{
    if (u->x->req->source != NULL)
        return send_source(u);
    atomic_store(&u->given, true);
    return write_bytes(u, u->x->req->body, u->x->req->body_size);
}

/* ---- the goroutine ----------------------------------------------------------------------- */

static void
upload_over(struct hc_upload *u)
{
    if (atomic_load(&u->outcome) == RUNNING) /* by a panic or bh_goexit of the source */
        (void)source_failed(u, BH_EPANIC, "its function panicked or ended its goroutine");
    bh_mutex_lock(&u->lock);
    if (!u->head_came && u->x->stream == NULL)
        bh_conn_set_read_deadline(u->x->k->io.conn, bh_now() + u->x->c->o.head_timeout);
    bh_mutex_unlock(&u->lock);
    bh_close(u->done);
}

static void
upload(struct bh_ctx *ctx, void *args)
{
    struct hc_upload *u = ((struct upload_args *)args)->u;
    int               rc, running = RUNNING;

    (void)ctx;
    BH_DEFER(upload_over, u);
    rc = send_all(u);
    (void)atomic_compare_exchange_strong(&u->outcome, &running, rc < 0 ? WRITE_FAILED : SENT);
}

void
hc_upload_start(struct hc_res *x)
{
    struct bh_safe_options o = { .name = "http upload", .stack_size = STACK };
    struct hc_upload      *u = calloc(1, sizeof *u + CHUNK_ROOM + HC_UPLOAD_BUFFER + 2);

    if (u == NULL)
        bh_panic("http: out of memory for an upload");
    u->x = x;
    u->buffer = (char *)(u + 1);
    u->done = bh_chan_new(0, 0);
    x->upload = u;
    bh_go_safe_with(bh_ctx_background(), &o, upload, &(struct upload_args){ u });
}

/* ---- from the request's goroutine -------------------------------------------------------- */

void
hc_upload_head_came(struct hc_upload *u)
{
    bh_mutex_lock(&u->lock);
    u->head_came = true;
    bh_mutex_unlock(&u->lock);
}

int
hc_upload_error(struct hc_upload *u, const char **note)
{
    if (atomic_load(&u->outcome) != SOURCE_FAILED)
        return 0;
    *note = u->note;
    return u->error;
}

/* Whether it ends soon by itself. */
static bool
is_over(struct hc_upload *u)
{
    struct bh_timer *timer;
    bool             over = false;

    if (bh_try_recv(u->done, NULL, NULL))
        return true;
    if (!atomic_load(&u->given))
        return false;
    timer = bh_timer_new(LAST_WRITE);
    over = bh_select(BH_RECV(u->done, NULL), BH_RECV(bh_timer_chan(timer), NULL)) == 0;
    bh_timer_free(timer);
    return over;
}

bool
hc_upload_end(struct hc_res *x)
{
    struct hc_upload *u = x->upload;
    bool              sent;

    if (u == NULL)
        return !x->unsent;
    if (!is_over(u)) {
        break_off(u);
        (void)bh_recv(u->done, NULL);
    }
    sent = atomic_load(&u->outcome) == SENT;
    x->upload = NULL;
    bh_chan_unref(u->done);
    free(u);
    return sent;
}
