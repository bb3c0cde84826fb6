/*
 * stream.c -- a request on an HTTP/2 connection.
 *
 * The request's goroutine waits on st->changed, with its context and its own times; what it
 * waits for is under the session's lock.  A body in memory is read by whoever makes frames; one
 * from a function has its goroutine (upload.c), which hands over a piece at a time and waits
 * until that is taken.
 *
 * What comes of the reply's body is kept up to the stream's window; reading it opens the window
 * again.  Nobody is asked whether a body is wanted (100-continue): the window bounds what
 * is sent in vain.
 */

#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/panic.h>

/* ---- fields as they come ----------------------------------------------------------------- */

int
hc_block_add(struct hc_block *b, const struct bh_http_client *c, const void *name,
             size_t name_length, const void *value, size_t value_length)
{
    size_t need = name_length + value_length + 2;

    b->weight += name_length + value_length + 32;
    if (b->weight > c->o.max_head || b->count == c->o.max_fields)
        return -EMSGSIZE;
    if (b->size + need > b->room) {
        size_t room = 2 * (b->size + need);
        char  *text = realloc(b->text, room);

        if (text == NULL)
            return -ENOMEM;
        b->text = text;
        b->room = room;
    }
    memcpy(b->text + b->size, name, name_length);
    b->text[b->size + name_length] = '\0';
    memcpy(b->text + b->size + name_length + 1, value, value_length);
    b->text[b->size + need - 1] = '\0';
    b->size += need;
    b->count++;
    return 0;
}

/* The head, in the response's own memory. */
static void
take_head(struct hc_res *x, struct hc_stream *st)
{
    char           *at = bh_arena_copy(x->arena, st->head.text, st->head.size);
    struct hc_head *h = &x->head;

    h->status = st->status;
    h->fields = bh_arena_alloc(x->arena, (st->head.count + 1) * sizeof *h->fields);
    h->field_count = st->head.count;
    for (unsigned i = 0; i < h->field_count; i++) {
        struct ht_field *f = &h->fields[i];

        f->name = at;
        f->name_length = (uint32_t)strlen(at);
        f->value = at + f->name_length + 1;
        f->value_length = (uint32_t)strlen(f->value);
        at = f->value + f->value_length + 1;
        if (ht_name_is(f, "content-length", 14)) { /* libnghttp2 has checked it */
            h->length = strtoull(f->value, NULL, 10);
            h->body = HC_BODY_LENGTH;
        }
    }
    if (strcmp(x->method, "HEAD") == 0 || h->status == 204 || h->status == 304) {
        h->length = 0;
        h->body = HC_BODY_LENGTH;
    }
}

static void
take_trailers(struct hc_res *x, struct hc_stream *st)
{
    struct hc_line **end = &x->trailers;
    char            *at = bh_arena_copy(x->arena, st->trailers.text, st->trailers.size);

    for (unsigned i = 0; i < st->trailers.count; i++) {
        struct hc_line *l = bh_arena_alloc(x->arena, sizeof *l);

        l->name = at;
        l->value = at + strlen(at) + 1;
        at += strlen(l->name) + strlen(l->value) + 2;
        *end = l;
        end = &l->next;
    }
}

/* ---- the request ------------------------------------------------------------------------- */

static nghttp2_nv
pair(const char *name, const char *value)
{
    return (nghttp2_nv){ .name = (uint8_t *)(uintptr_t)name,
                         .value = (uint8_t *)(uintptr_t)value,
                         .namelen = strlen(name),
                         .valuelen = strlen(value) };
}

static const char *
small_letters(struct bh_arena *arena, const char *text)
{
    char *out = bh_arena_copy(arena, text, strlen(text) + 1);

    for (char *p = out; *p != '\0'; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p | 0x20);
    return out;
}

static nghttp2_nv *
request_fields(struct hc_res *x, size_t *count)
{
    const struct hc_line *fields = hc_request_fields(x, false);
    nghttp2_nv           *nv;
    size_t                n = 3;

    for (const struct hc_line *f = fields; f != NULL; f = f->next)
        n++;
    nv = bh_arena_alloc(x->arena, n * sizeof *nv);
    nv[0] = pair(":method", x->method);
    nv[1] = pair(":scheme", x->url.scheme);
    nv[2] = pair(":path", x->url.target);
    n = 3;
    for (const struct hc_line *f = fields; f != NULL; f = f->next)
        nv[n++] = pair(small_letters(x->arena, f->name), f->value);
    *count = n;
    return nv;
}

static struct hc_stream *
new_stream(struct hc_res *x)
{
    const struct bh_http_req *req = x->req;
    struct hc_stream         *st = calloc(1, sizeof *st);

    if (st == NULL)
        bh_panic("http: out of memory for a request");
    st->h2 = x->k->h2;
    st->changed = bh_chan_new(0, 1);
    st->out_end = req->source == NULL || !x->with_body;
    if (x->with_body && req->source == NULL) {
        st->out = req->body;
        st->out_left = req->body_size;
    }
    return st;
}

/* Returns: 0 or an error; then the server has not heard of it. */
static int
submit(struct hc_res *x)
{
    struct hc_h2         *h2 = x->k->h2;
    size_t                count;
    nghttp2_nv           *nv = request_fields(x, &count);
    struct hc_stream     *st = new_stream(x);
    nghttp2_data_provider body = { .source.ptr = st, .read_callback = hc_read_source };
    int32_t               id = NGHTTP2_ERR_START_STREAM_NOT_ALLOWED;

    bh_mutex_lock(&h2->lock);
    st->older = h2->streams;
    if (st->older != NULL)
        st->older->newer = st;
    h2->streams = x->stream = st;
    x->pub.reused = h2->used;
    h2->used = true;
    if (h2->error == 0 && !h2->retired)
        id = nghttp2_submit_request(h2->session, NULL, nv, count, x->with_body ? &body : NULL,
                                    st);
    if (id > 0) {
        st->id = id;
        st->open = true;
        h2->open++;
    } else { /* streams may have run out */
        h2->retired = h2->closing = true;
    }
    hc_h2_unlock(h2);
    if (id > 0)
        return 0;
    x->refused = true;
    return bh_fail(-ECONNRESET, "http: %s takes no more requests on this connection",
                   x->url.authority);
}

/* Under the lock; called by libnghttp2. */
ssize_t
hc_read_source(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length,
               uint32_t *flags, nghttp2_data_source *source, void *h2)
{
    struct hc_stream *st = source->ptr;
    size_t            n = length < st->out_left ? length : st->out_left;
    nghttp2_nv        nv[HC_MAX_TRAILERS];
    size_t            count = 0;

    (void)h2;
    if (st->left)
        return NGHTTP2_ERR_DEFERRED;
    if (n > 0)
        memcpy(buffer, st->out, n);
    st->out += n;
    st->out_left -= n;
    st->out_given += n;
    if (st->out_left > 0)
        return (ssize_t)n;
    bh_cond_broadcast(&st->drained);
    if (!st->out_end)
        return n > 0 ? (ssize_t)n : NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_EOF;
    for (const char *const *t = st->out_trailers; t != NULL && t[0] != NULL; t += 2)
        if (count < HC_MAX_TRAILERS)
            nv[count++] = pair(t[0], t[1]);
    if (count > 0) {
        *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
        if (nghttp2_submit_trailer(session, id, nv, count) != 0)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    (void)bh_try_send(st->changed, NULL);
    return (ssize_t)n;
}

/* Wait, as the upload, until what there is has been taken.  Returns: 0, or -EPIPE if nobody will. */
static int
hand_over(struct hc_stream *st)
{
    struct hc_h2 *h2 = st->h2;
    bool          taken;

    if (st->open)
        (void)nghttp2_session_resume_data(h2->session, st->id);
    hc_h2_unlock(h2);
    bh_mutex_lock(&h2->lock);
    while (st->out_left > 0 && st->open && st->error == 0)
        bh_cond_wait(&st->drained, &h2->lock);
    taken = st->out_left == 0;
    st->out = NULL;
    st->out_left = 0;
    bh_mutex_unlock(&h2->lock);
    return taken ? 0 : bh_fail(-EPIPE, "http: the server takes no more of the body");
}

int
hc_stream_send(struct hc_stream *st, const void *data, size_t size)
{
    bh_mutex_lock(&st->h2->lock);
    st->out = data;
    st->out_left = size;
    return hand_over(st);
}

int
hc_stream_send_end(struct hc_stream *st, const char *const *trailers)
{
    bh_mutex_lock(&st->h2->lock);
    st->out_end = true;
    st->out_trailers = trailers;
    return hand_over(st);
}

void
hc_stream_fail(struct hc_stream *st)
{
    struct hc_h2 *h2 = st->h2;

    bh_mutex_lock(&h2->lock);
    if (st->error == 0 && !st->remote_done)
        st->error = -ECONNRESET;
    if (st->open)
        (void)nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id, NGHTTP2_CANCEL);
    bh_cond_broadcast(&st->drained);
    (void)bh_try_send(st->changed, NULL);
    hc_h2_unlock(h2);
}

/* ---- waiting ----------------------------------------------------------------------------- */

/* Returns: 0; ctx's error; or BH_EDEADLINE when nothing has changed for so long. */
static int
wait_for_change(struct hc_res *x, int64_t timeout)
{
    struct hc_stream *st = x->stream;
    int               rc;

    if (st->timer == NULL)
        st->timer = bh_timer_new(timeout);
    else
        (void)bh_timer_reset(st->timer, timeout);
    switch (bh_select(BH_RECV(st->changed, NULL), BH_RECV(bh_ctx_done(x->ctx), NULL),
                      BH_RECV(bh_timer_chan(st->timer), NULL))) {
    case 0:
        return 0;
    case 1:
        rc = bh_ctx_err(x->ctx);
        return bh_fail(rc, "http: %s: %s", x->url.authority, bh_error_text(rc));
    default:
        return bh_fail(BH_EDEADLINE, "http: %s did not reply in time", x->url.authority);
    }
}

/* Whether all of the request's body has been given to libnghttp2.  Under the lock. */
static bool
is_given(const struct hc_stream *st)
{
    return st->out_end && st->out_left == 0;
}

/* Returns: 0 once the head is there, or the stream is over; or an error of waiting. */
static int
wait_for_head(struct hc_res *x)
{
    struct hc_stream *st = x->stream;
    struct hc_h2     *h2 = st->h2;
    int               rc = 0;

    bh_mutex_lock(&h2->lock);
    while (!st->head_done && st->error == 0 && rc == 0) {
        uint64_t given = st->out_given;
        bool     sending = !is_given(st);

        bh_mutex_unlock(&h2->lock);
        rc = wait_for_change(x, sending ? x->c->o.write_timeout : x->c->o.head_timeout);
        bh_mutex_lock(&h2->lock);
        if (rc == BH_EDEADLINE && sending && st->out_given != given)
            rc = 0;
    }
    bh_mutex_unlock(&h2->lock);
    return rc;
}

/* Why the stream ended early. */
static int
stream_failed(struct hc_res *x)
{
    struct hc_stream *st = x->stream;
    struct hc_h2     *h2 = st->h2;
    uint32_t          code;
    int               error, dead;

    bh_mutex_lock(&h2->lock);
    error = st->error;
    dead = h2->error;
    code = st->code;
    x->refused = st->refused && !st->head_done;
    bh_mutex_unlock(&h2->lock);
    if (error == -EMSGSIZE)
        return bh_fail(error, "http: malformed reply of %s: head too large", x->url.authority);
    if (dead == -EBADMSG)
        return bh_fail(dead, "http: %s broke the rules of HTTP/2", x->url.authority);
    if (error == BH_EEOF)
        return hc_no_reply(x, 0);
    if (dead != 0)
        return bh_fail(error, "http: connection to %s: %s", x->url.authority,
                       bh_error_text(error));
    if (code == NGHTTP2_PROTOCOL_ERROR)
        return bh_fail(-EBADMSG, "http: malformed reply of %s", x->url.authority);
    return bh_fail(error, "http: %s reset the request: %s", x->url.authority,
                   nghttp2_http2_strerror(code));
}

int
hc_stream_exchange(struct hc_res *x)
{
    const char *note;
    int         rc, source;

    atomic_fetch_add(&x->c->sent, 1);
    rc = submit(x);
    x->began = rc == 0;
    if (rc < 0)
        return rc;
    if (x->with_body && x->req->source != NULL)
        hc_upload_start(x);
    rc = wait_for_head(x);
    if (rc == 0 && !x->stream->head_done)
        rc = stream_failed(x);
    source = rc < 0 && x->upload != NULL ? hc_upload_error(x->upload, &note) : 0;
    if (source < 0)
        return bh_fail(source, "http: body of the request: %s", note);
    if (rc < 0)
        return rc;
    x->answered = true;
    take_head(x, x->stream);
    return 0;
}

/* ---- the body of the reply --------------------------------------------------------------- */

/* Move what is there.  Under the lock. */
static ssize_t
take_body(struct hc_stream *st, void *buffer, size_t size)
{
    size_t n = st->in_end - st->in_start;

    if (n > size)
        n = size;
    memcpy(buffer, st->in + st->in_start, n);
    st->in_start += n;
    if (st->open)
        (void)nghttp2_session_consume_stream(st->h2->session, st->id, n);
    return (ssize_t)n;
}

ssize_t
hc_stream_read(struct hc_res *x, void *buffer, size_t size)
{
    struct hc_stream *st = x->stream;
    struct hc_h2     *h2 = st->h2;
    ssize_t           n = 0;
    bool              over;
    int               rc = 0;

    bh_mutex_lock(&h2->lock);
    while (st->in_start == st->in_end && !st->remote_done && st->error == 0 && rc == 0) {
        bh_mutex_unlock(&h2->lock);
        rc = wait_for_change(x, x->c->o.read_timeout);
        bh_mutex_lock(&h2->lock);
    }
    if (st->in_start < st->in_end)
        n = take_body(st, buffer, size);
    over = st->remote_done;
    hc_h2_unlock(h2);
    if (n > 0)
        return n;
    if (!over)
        return rc < 0 ? rc : stream_failed(x);
    if (st->trailers.count > 0)
        take_trailers(x, st);
    return 0;
}

void
hc_stream_end(struct hc_res *x)
{
    struct hc_stream *st = x->stream;
    struct hc_h2     *h2 = x->k->h2;

    x->stream = NULL;
    x->k = NULL;
    if (st != NULL) {
        bh_mutex_lock(&h2->lock);
        if (st->open && (!st->remote_done || !is_given(st)))
            (void)nghttp2_submit_rst_stream(h2->session, NGHTTP2_FLAG_NONE, st->id,
                                            NGHTTP2_CANCEL);
        st->left = true;
        st->out = NULL;
        st->out_left = 0;
        if (!st->open)
            hc_h2_free_stream(st);
        hc_h2_unlock(h2);
    }
    hc_h2_unref(h2);
}
