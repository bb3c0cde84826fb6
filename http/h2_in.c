/*
 * h2_in.c -- HTTP/2 frames in: header blocks become requests, DATA their bodies.
 *
 * libnghttp2 refuses what RFC 9113 calls malformed: pseudo-header fields that are missing,
 * repeated, unknown or late, fields of a connection, capitals in names, a body that is not as
 * long as announced.  Such a stream is reset.  What we know better than it gets an HTTP
 * status, by the rules of HTTP/1: bad targets and hosts (400), methods (501), sizes (414, 431).
 *
 * Frames that cost the client next to nothing and us more are limited:
 *
 *   streams reset by the client, or by us for its faults (CVE-2023-44487, CVE-2025-8671)
 *                       h2->resets; besides, a request whose client has left keeps its place
 *                       among HT_H2_STREAMS until its handler is done
 *   SETTINGS, PING, PRIORITY, empty DATA (CVE-2019-9511 to 9518)
 *                       h2->noise; unwritten answers, HT_H2_ACKS
 *   CONTINUATION (CVE-2024-27316)
 *                       in number; in size, max_head; in time, head_timeout
 *   a window of zero    write_timeout: h2_wire.c
 */

#include "h2.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
    RESET_BURST = 1000, /* an honest client may give up a page of requests, again and again */
    RESETS_PER_SECOND = 200,
    NOISE_BURST = 4000,
    NOISE_PER_SECOND = 1000,
};

/* ---- limits ---------------------------------------------------------------------- */

/* Returns: whether that was too much. */
static bool
spend(struct h2_bucket *b, int64_t each, int64_t burst)
{
    int64_t now = bh_now_coarse();

    if (b->at < now)
        b->at = now;
    b->at += each;
    return b->at - now > burst * each;
}

static int
count_reset(struct ht_h2 *h2)
{
    if (!spend(&h2->resets, BH_SECOND / RESETS_PER_SECOND, RESET_BURST))
        return 0;
    return nghttp2_session_terminate_session(h2->session, NGHTTP2_ENHANCE_YOUR_CALM);
}

static int
on_begin_frame(nghttp2_session *session, const nghttp2_frame_hd *hd, void *arg)
{
    struct ht_h2 *h2 = arg;

    switch (hd->type) {
    case NGHTTP2_HEADERS:
    case NGHTTP2_CONTINUATION:
    case NGHTTP2_WINDOW_UPDATE: /* one for each DATA frame of ours is usual */
        return 0;
    case NGHTTP2_DATA:
        if (hd->length > 0 || (hd->flags & NGHTTP2_FLAG_END_STREAM) != 0)
            return 0;
        break;
    case NGHTTP2_RST_STREAM:
        return count_reset(h2);
    default:
        break;
    }
    if (!spend(&h2->noise, BH_SECOND / NOISE_PER_SECOND, NOISE_BURST))
        return 0;
    return nghttp2_session_terminate_session(session, NGHTTP2_ENHANCE_YOUR_CALM);
}

/* ---- header blocks --------------------------------------------------------------- */

static int
make_room(struct h2_block *b, size_t size, bool own)
{
    size_t room = b->room * 2 > b->size + size ? b->room * 2 : b->size + size;
    char  *bigger = realloc(own ? b->text : NULL, room);

    if (bigger == NULL)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    if (!own && b->size > 0)
        memcpy(bigger, b->text, b->size);
    b->text = bigger;
    b->room = (uint32_t)room;
    return 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
          size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
          void *arg)
{
    struct ht_h2           *h2 = arg;
    const struct ht_limits *limits = &h2->k->s->limits;
    struct h2_block        *b = h2->block;
    uint32_t                lengths[2] = { (uint32_t)name_length, (uint32_t)value_length };
    size_t                  size = sizeof lengths + name_length + value_length + 2;
    char                   *at;

    (void)session;
    (void)frame;
    (void)flags;
    if (b == NULL || b->over)
        return 0;
    b->weight += (uint32_t)(name_length + value_length + 32);
    b->count++;
    if (b->weight > limits->head ||
        b->count > limits->fields + 4) { /* 4 pseudo-header fields */
        b->over = true;
        return 0;
    }
    if (size > b->room - b->size && make_room(b, size, b->text != h2->gathering->first) < 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    at = b->text + b->size;
    memcpy(at, lengths, sizeof lengths);
    at += sizeof lengths;
    memcpy(at, name, name_length);
    at += name_length;
    *at++ = '\0';
    memcpy(at, value, value_length);
    at[value_length] = '\0';
    b->size += (uint32_t)size;
    return 0;
}

/* A field that is not well formed makes the request malformed; libnghttp2 alone would drop it. */
static int
on_invalid_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
                  size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
                  void *arg)
{
    (void)session;
    (void)frame;
    (void)name;
    (void)name_length;
    (void)value;
    (void)value_length;
    (void)flags;
    (void)arg;
    return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

static struct h2_stream *
new_stream(struct ht_h2 *h2, int32_t id)
{
    struct h2_stream *st = malloc(sizeof *st);

    if (st == NULL)
        return NULL;
    memset(st, 0, offsetof(struct h2_stream, first));
    st->h2 = h2;
    st->id = id;
    st->open = true;
    st->size = -1;
    st->head.text = st->first;
    st->head.room = sizeof st->first;
    st->older = h2->streams;
    if (st->older != NULL)
        st->older->newer = st;
    h2->streams = st;
    h2->open++;
    return st;
}

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct ht_h2     *h2 = arg;
    int32_t           id = frame->hd.stream_id;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(session, id);

    h2->gathering = NULL;
    h2->block = NULL;
    h2->head_until = bh_now_coarse() + h2->k->s->o.head_timeout;
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) {
        if (h2->running >= HT_H2_STREAMS) /* of streams that the client has reset */
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, id,
                                             NGHTTP2_REFUSED_STREAM);
        st = new_stream(h2, id);
        if (st == NULL)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        (void)nghttp2_session_set_stream_user_data(session, id, st);
        h2->block = &st->head;
    } else if (st != NULL && st->trailers == NULL) {
        st->trailers = calloc(1, sizeof *st->trailers);
        if (st->trailers == NULL)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        h2->block = st->trailers;
    }
    h2->gathering = st;
    return 0;
}

/* A head is complete. */
static void
enqueue(struct h2_stream *st)
{
    struct ht_h2          *h2 = st->h2;
    struct bh_http_server *s = h2->k->s;

    st->busy = true;
    st->next = NULL;
    *h2->ready_end = st;
    h2->ready_end = &st->next;
    h2->running++;
    h2->k->requests++;
    if (s->o.max_requests > 0 && h2->k->requests >= s->o.max_requests &&
        h2->goaway != HT_H2_GOAWAY)
        ht_h2_goaway(h2);
}

static int
on_frame_recv(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct ht_h2     *h2 = arg;
    struct h2_stream *st;

    switch (frame->hd.type) {
    case NGHTTP2_HEADERS:
        h2->head_until = 0;
        h2->block = NULL;
        h2->gathering = NULL;
        break;
    case NGHTTP2_DATA:
        break;
    case NGHTTP2_PING:
        if ((frame->hd.flags & NGHTTP2_FLAG_ACK) != 0 && h2->goaway == HT_H2_NOTICE)
            ht_h2_goaway(h2);
        return 0;
    default:
        return 0;
    }
    st = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    if (st == NULL)
        return 0;
    if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0) {
        st->remote_done = true;
        bh_cond_signal(&st->changed);
    }
    if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        enqueue(st);
    return 0;
}

/* ---- bodies ---------------------------------------------------------------------- */

static bool
keep(struct h2_stream *st, const uint8_t *data, size_t size)
{
    if (st->in_start == st->in_end)
        st->in_start = st->in_end = 0;
    if (size > st->in_room - st->in_end) {
        size_t have = st->in_end - st->in_start;

        if (st->in_start > 0) {
            memmove(st->in, st->in + st->in_start, have);
            st->in_start = 0;
            st->in_end = have;
        }
        if (size > st->in_room - have) {
            size_t room = st->in_room * 2 > have + size ? st->in_room * 2 : have + size;
            char  *bigger = realloc(st->in, room);

            if (bigger == NULL)
                return false;
            st->in = bigger;
            st->in_room = room;
        }
    }
    memcpy(st->in + st->in_end, data, size);
    st->in_end += size;
    return true;
}

/* At most a window of it comes, as it is given back by reading. */
static int
on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size,
        void *arg)
{
    struct h2_stream *st = nghttp2_session_get_stream_user_data(session, id);

    (void)flags;
    (void)arg;
    if (st == NULL || !st->busy) /* nobody will read it */
        return nghttp2_session_consume(session, id, size);
    if (!keep(st, data, size))
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    bh_cond_signal(&st->changed);
    return 0;
}

/* ---- the end of streams ---------------------------------------------------------- */

static int
on_stream_close(nghttp2_session *session, int32_t id, uint32_t error_code, void *arg)
{
    struct ht_h2     *h2 = arg;
    struct h2_stream *st = nghttp2_session_get_stream_user_data(session, id);

    (void)error_code;
    if (st == NULL)
        return 0;
    st->open = false;
    if (h2->gathering == st) {
        h2->gathering = NULL;
        h2->block = NULL;
        h2->head_until = 0;
    }
    if (--h2->open == 0) {
        h2->idle_until = bh_now_coarse() + h2->k->s->o.idle_timeout;
        ht_h2_set_deadline(h2);
    }
    if (!st->busy)
        ht_h2_free_stream(st);
    else if (!st->end_sent)
        ht_h2_lose(st, -ECONNRESET);
    return 0;
}

static int
on_frame_send(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct ht_h2     *h2 = arg;
    struct h2_stream *st;
    uint32_t          code;

    switch (frame->hd.type) {
    case NGHTTP2_RST_STREAM: /* ours, for a fault of the client's */
        code = frame->rst_stream.error_code;
        return code != NGHTTP2_NO_ERROR && code != NGHTTP2_INTERNAL_ERROR ? count_reset(h2) : 0;
    case NGHTTP2_HEADERS:
    case NGHTTP2_DATA:
        if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0)
            return 0;
        st = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
        if (st != NULL && !st->remote_done) /* no need to go on sending (RFC 9113, 8.1) */
            return nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id,
                                             NGHTTP2_NO_ERROR);
        return 0;
    default:
        return 0;
    }
}

/* ---- the session ----------------------------------------------------------------- */

static int
set_options(nghttp2_option **options, const struct bh_http_options *o)
{
    size_t frames = o->max_head / 16384 + 2;

    if (nghttp2_option_new(options) != 0)
        return NGHTTP2_ERR_NOMEM;
    nghttp2_option_set_no_auto_window_update(*options, 1);
    nghttp2_option_set_no_closed_streams(*options, 1);
    nghttp2_option_set_max_outbound_ack(*options, HT_H2_ACKS);
    nghttp2_option_set_max_continuations(*options, frames > 8 ? frames : 8);
    /* Ours come first, and say ENHANCE_YOUR_CALM. */
    nghttp2_option_set_stream_reset_rate_limit(*options, 2 * RESET_BURST,
                                               2 * RESETS_PER_SECOND);
    return 0;
}

static int
set_callbacks(nghttp2_session_callbacks **callbacks)
{
    if (nghttp2_session_callbacks_new(callbacks) != 0)
        return NGHTTP2_ERR_NOMEM;
    nghttp2_session_callbacks_set_on_begin_frame_callback(*callbacks, on_begin_frame);
    nghttp2_session_callbacks_set_on_begin_headers_callback(*callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(*callbacks, on_header);
    nghttp2_session_callbacks_set_on_invalid_header_callback(*callbacks, on_invalid_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(*callbacks, on_frame_recv);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(*callbacks, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(*callbacks, on_stream_close);
    nghttp2_session_callbacks_set_on_frame_send_callback(*callbacks, on_frame_send);
    nghttp2_session_callbacks_set_send_data_callback(*callbacks, ht_h2_send_data);
    return 0;
}

static int
submit_settings(struct ht_h2 *h2)
{
    const nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, HT_H2_STREAMS },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HT_H2_WINDOW },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)h2->k->s->o.max_head },
        { NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1 },
    };
    int rc = nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
                                     sizeof settings / sizeof settings[0]);

    return rc != 0 ? rc
                   : nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                           HT_H2_CONN_WINDOW);
}

int
ht_h2_new_session(struct ht_h2 *h2)
{
    nghttp2_option            *options = NULL;
    nghttp2_session_callbacks *callbacks = NULL;
    int                        rc = set_options(&options, &h2->k->s->o);

    if (rc == 0)
        rc = set_callbacks(&callbacks);
    if (rc == 0)
        rc = nghttp2_session_server_new2(&h2->session, callbacks, h2, options);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(options);
    if (rc == 0 && (rc = submit_settings(h2)) != 0)
        nghttp2_session_del(h2->session);
    return rc;
}

void
ht_h2_feed(struct ht_h2 *h2, const void *data, size_t size)
{
    ssize_t n;

    h2->inside = true;
    n = nghttp2_session_mem_recv(h2->session, data, size);
    h2->inside = false;
    if (n >= 0)
        return;
    (void)nghttp2_session_terminate_session(
        h2->session, n == NGHTTP2_ERR_FLOODED            ? NGHTTP2_ENHANCE_YOUR_CALM
                     : n == NGHTTP2_ERR_BAD_CLIENT_MAGIC ? NGHTTP2_PROTOCOL_ERROR
                                                         : NGHTTP2_INTERNAL_ERROR);
    ht_h2_pump(h2);
    h2->closing = true;
}
