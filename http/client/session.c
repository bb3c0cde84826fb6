/*
 * session.c -- an HTTP/2 connection of the client's.
 *
 *     requests' goroutines --submit--> libnghttp2 --frames--> writer ----> server
 *          ^                                                                 |
 *          +---- changed --------- libnghttp2 <-- turn <-- poller -----------+
 *
 * Nobody but the poller waits for input: at each a goroutine starts, a turn, which reads what is
 * there, feeds libnghttp2, wakes whom it concerns and ends.  So a session that nobody
 * uses has no goroutine, and notices at once when the server closes it.
 * Writing is a goroutine of its own, while there is something to write: a request whose
 * context ends must not be the one that is stuck in the middle of another's frame.  If the
 * server has closed, writing stops, and the turns read on: replies may be on their way.
 *
 * Deadlines of reading drive what happens in silence.  With no stream open it is the end of
 * the idle time: goodbye.  With streams open, a PING; and if that stays unanswered as
 * long again, the connection is dead.
 *
 * GOAWAY: the session is retired at once, so the next request makes a new one; streams the
 * server has not looked at end as refused, and are sent again; the others go on.
 *
 * See: RFC 9113.
 */

#include "session.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>

enum { TURN_READS = 16 }; /* before others get the processor */

static void turn(void *arg);

/* ---- ends -------------------------------------------------------------------------------- */

void
hc_h2_ref(struct hc_h2 *h2)
{
    atomic_fetch_add(&h2->refs, 1);
}

void
hc_h2_unref(struct hc_h2 *h2)
{
    struct bh_http_client *c = h2->c;

    if (atomic_fetch_sub(&h2->refs, 1) != 1)
        return;
    nghttp2_session_del(h2->session);
    h2->session = NULL;
    while (h2->streams != NULL)
        hc_h2_free_stream(h2->streams);
    hc_gone(c, h2->k);
    free(h2->out);
    free(h2);
    hc_client_unref(c);
}

void
hc_h2_free_stream(struct hc_stream *st)
{
    if (st->newer != NULL)
        st->newer->older = st->older;
    else
        st->h2->streams = st->older;
    if (st->older != NULL)
        st->older->newer = st->newer;
    bh_chan_unref(st->changed);
    bh_timer_free(st->timer);
    free(st->head.text);
    free(st->trailers.text);
    free(st->in);
    free(st);
}

/* libnghttp2 is done with it.  Under the lock. */
static void
close_stream(struct hc_stream *st, int error)
{
    st->open = false;
    if (--st->h2->open == 0)
        st->h2->idle_until = bh_now() + st->h2->c->o.idle_timeout;
    if (!st->remote_done && st->error == 0)
        st->error = error;
    bh_cond_broadcast(&st->drained);
    (void)bh_try_send(st->changed, NULL);
    if (st->left)
        hc_h2_free_stream(st);
}

/* The connection is dead.  Under the lock. */
static void
kill_session(struct hc_h2 *h2, int error)
{
    if (h2->error != 0)
        return;
    if (h2->broken)
        error = -EBADMSG;
    h2->error = error;
    h2->retired = true;
    for (struct hc_stream *st = h2->streams, *older; st != NULL; st = older) {
        older = st->older;
        if (st->open)
            close_stream(st, error);
    }
    bh_conn_close(h2->k->io.conn); /* the poller starts the last turn */
}

/* ---- writing ----------------------------------------------------------------------------- */

/* Move frames from libnghttp2 to h2->out.  Under the lock.  Returns: whether there are any. */
static bool
pump(struct hc_h2 *h2)
{
    const uint8_t *data;
    ssize_t        n = 0;

    while (h2->error == 0 && !h2->deaf && h2->out_size < HC_H2_WRITE &&
           (n = nghttp2_session_mem_send(h2->session, &data)) > 0) {
        if (h2->out_size + (size_t)n > h2->out_room) {
            size_t room = h2->out_size + (size_t)n + 4096;
            char  *out = realloc(h2->out, room);

            if (out == NULL) {
                kill_session(h2, -ENOMEM);
                return false;
            }
            h2->out = out;
            h2->out_room = room;
        }
        memcpy(h2->out + h2->out_size, data, (size_t)n);
        h2->out_size += (size_t)n;
    }
    if (n < 0)
        kill_session(h2, -EPROTO);
    return h2->error == 0 && !h2->deaf && h2->out_size > 0;
}

static void
writer(void *args)
{
    struct hc_h2 *h2 = *(struct hc_h2 **)args;

    bh_mutex_lock(&h2->lock);
    while (pump(h2)) {
        char   *out = h2->out;
        size_t  size = h2->out_size, room = h2->out_room;
        ssize_t n;

        h2->out = NULL;
        h2->out_size = h2->out_room = 0;
        bh_mutex_unlock(&h2->lock);
        n = ht_io_write(&h2->k->io, out, size);
        bh_mutex_lock(&h2->lock);
        if (n == -EPIPE || n == -ECONNRESET)
            h2->deaf = h2->retired = true;
        else if (n < 0)
            kill_session(h2, (int)n);
        if (h2->out == NULL && h2->open > 0) {
            h2->out = out;
            h2->out_room = room;
        } else {
            free(out);
        }
    }
    h2->writing = false;
    if (h2->error == 0 &&
        ((h2->closing && h2->open == 0) ||
         (!nghttp2_session_want_read(h2->session) && !nghttp2_session_want_write(h2->session))))
        kill_session(h2, BH_ECLOSED);
    hc_h2_unlock(h2);
    hc_h2_unref(h2);
}

/* Returns: false without memory for a goroutine. */
static bool
launch(struct hc_h2 *h2)
{
    BH_RECOVER(p) {
        (void)p;
        return false;
    }
    bh_go(writer, &h2);
    return true;
}

void
hc_h2_unlock(struct hc_h2 *h2)
{
    bool write = !h2->writing && h2->error == 0 && !h2->deaf &&
                 (nghttp2_session_want_write(h2->session) || (h2->closing && h2->open == 0));
    bool retire = h2->retired;

    if (write) {
        h2->writing = true;
        hc_h2_ref(h2);
    }
    bh_mutex_unlock(&h2->lock);
    if (retire)
        hc_retire(h2);
    if (!write || launch(h2))
        return;
    bh_mutex_lock(&h2->lock);
    kill_session(h2, -ENOMEM);
    bh_mutex_unlock(&h2->lock);
    hc_retire(h2);
    hc_h2_unref(h2);
}

/* ---- what libnghttp2 tells; under the lock ----------------------------------------------- */

static struct hc_stream *
stream_of(nghttp2_session *session, int32_t id)
{
    return nghttp2_session_get_stream_user_data(session, id);
}

static int
on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct hc_stream *st = stream_of(session, frame->hd.stream_id);

    (void)arg;
    if (st != NULL && !st->head_done)
        st->head.size = st->head.weight = st->head.count = 0;
    return 0;
}

static int
on_header(nghttp2_session *session, const nghttp2_frame *frame, const uint8_t *name,
          size_t name_length, const uint8_t *value, size_t value_length, uint8_t flags,
          void *arg)
{
    struct hc_stream *st = stream_of(session, frame->hd.stream_id);
    struct hc_h2     *h2 = arg;
    int               rc;

    (void)flags;
    if (st == NULL || st->left)
        return 0;
    if (!st->head_done && name_length == 7 && memcmp(name, ":status", 7) == 0) {
        st->status =
            (int)strtol((const char *)value, NULL, 10); /* three digits, already checked */
        return 0;
    }
    rc = hc_block_add(st->head_done ? &st->trailers : &st->head, h2->c, name, name_length,
                      value, value_length);
    if (rc == -EMSGSIZE) {
        st->over_limit = true;
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    }
    return rc < 0 ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

/* A block of fields is complete.  Returns: 0 or an error of libnghttp2. */
static int
headers_done(struct hc_stream *st)
{
    if (st->head_done)
        return 0;
    if (st->status >= 200) {
        st->head_done = true;
        return 0;
    }
    return ++st->interim > HC_MAX_INTERIM ? NGHTTP2_ERR_CALLBACK_FAILURE : 0;
}

static int
on_sent(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct hc_stream *st = stream_of(session, frame->hd.stream_id);
    struct hc_h2     *h2 = arg;

    if (st != NULL)
        st->sent = true;
    if (frame->hd.type == NGHTTP2_GOAWAY && frame->goaway.error_code != NGHTTP2_NO_ERROR)
        h2->broken = true;
    return 0;
}

static int
on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *arg)
{
    struct hc_stream *st = stream_of(session, frame->hd.stream_id);
    struct hc_h2     *h2 = arg;
    int               rc = 0;

    if (frame->hd.type == NGHTTP2_GOAWAY)
        h2->retired = h2->closing = true;
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK))
        h2->pinged = false;
    if (st == NULL)
        return 0;
    if (frame->hd.type == NGHTTP2_HEADERS)
        rc = headers_done(st);
    if ((frame->hd.type == NGHTTP2_HEADERS || frame->hd.type == NGHTTP2_DATA) &&
        (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) && st->head_done)
        st->remote_done = true;
    (void)bh_try_send(st->changed, NULL);
    return rc;
}

static int
on_data(nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t size,
        void *arg)
{
    struct hc_stream *st = stream_of(session, id);

    (void)flags;
    (void)arg;
    /* Only the stream's own window waits for its reader: one that is slow holds up no other. */
    (void)nghttp2_session_consume_connection(session, size);
    if (st == NULL || st->left)
        return 0;
    if (st->in_start == st->in_end)
        st->in_start = st->in_end = 0;
    if (st->in_end + size > st->in_room && st->in_start > 0) {
        memmove(st->in, st->in + st->in_start, st->in_end - st->in_start);
        st->in_end -= st->in_start;
        st->in_start = 0;
    }
    if (st->in_end + size > st->in_room) {
        size_t room = 2 * (st->in_end + size);
        char  *in = realloc(st->in, room);

        if (in == NULL)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        st->in = in;
        st->in_room = room;
    }
    memcpy(st->in + st->in_end, data, size);
    st->in_end += size;
    (void)bh_try_send(st->changed, NULL);
    return 0;
}

static int
on_close(nghttp2_session *session, int32_t id, uint32_t code, void *arg)
{
    struct hc_stream *st = stream_of(session, id);

    (void)arg;
    if (st == NULL)
        return 0;
    st->refused = code == NGHTTP2_REFUSED_STREAM || !st->sent;
    st->code = code;
    close_stream(st, st->over_limit ? -EMSGSIZE : -ECONNRESET);
    return 0;
}

/* ---- turns ------------------------------------------------------------------------------- */

/* Nothing came for so long.  Under the lock. */
static void
on_silence(struct hc_h2 *h2)
{
    if (h2->open == 0) {
        if (bh_now() < h2->idle_until)
            return;
        h2->retired = h2->closing = true;
        (void)nghttp2_session_terminate_session(h2->session, NGHTTP2_NO_ERROR);
    } else if (h2->pinged) {
        kill_session(h2, -ETIMEDOUT);
    } else {
        h2->pinged = true;
        (void)nghttp2_submit_ping(h2->session, NGHTTP2_FLAG_NONE, NULL);
    }
}

/* Returns: whether the session lives on. */
static bool
feed(struct hc_h2 *h2, const char *data, ssize_t n)
{
    ssize_t used;

    bh_mutex_lock(&h2->lock);
    if (n == BH_EDEADLINE && h2->error == 0)
        on_silence(h2);
    else if (n <= 0)
        kill_session(h2, n == 0 ? BH_EEOF : (int)n);
    if (n > 0 && h2->error == 0) {
        used = nghttp2_session_mem_recv(h2->session, (const uint8_t *)data, (size_t)n);
        if (used < 0)
            kill_session(h2, -EBADMSG);
    }
    n = h2->error;
    hc_h2_unlock(h2);
    return n == 0;
}

/* When a turn shall come though nothing does. */
static void
set_deadline(struct hc_h2 *h2)
{
    int64_t timeout;

    bh_mutex_lock(&h2->lock);
    timeout =
        h2->open > 0 ? h2->c->o.ping_interval : h2->idle_until - bh_now() + BH_MILLISECOND;
    bh_mutex_unlock(&h2->lock);
    hc_read_deadline(h2->k, timeout > BH_MILLISECOND ? timeout : BH_MILLISECOND);
}

static void
turn(void *arg)
{
    struct hc_h2 *h2 = arg;
    char         *buffer = malloc(HC_H2_READ);
    bool          alive = buffer != NULL;
    ssize_t       n = 0;

    for (int i = 0; alive; i++) {
        if (i % TURN_READS == TURN_READS - 1)
            bh_yield();
        n = ht_io_try_read(&h2->k->io, buffer, HC_H2_READ);
        if (n == -EAGAIN)
            break;
        alive = feed(h2, buffer, n);
        if (n == BH_EDEADLINE)
            h2->k->read_until = -1;
        if (n == BH_EDEADLINE && alive)
            set_deadline(h2);
    }
    if (buffer == NULL)
        (void)feed(h2, NULL, -ENOMEM);
    free(buffer);
    if (alive) {
        set_deadline(h2);
        if (bh_conn_go_when_readable(h2->k->io.conn, NULL, turn, h2) == 0)
            return;
        (void)feed(h2, NULL, BH_ECLOSED);
    }
    hc_h2_unref(h2);
}

/* ---- beginning and end ------------------------------------------------------------------- */

struct hc_conn *
hc_h2_conn(struct hc_h2 *h2)
{
    return h2->k;
}

struct bh_http_client *
hc_h2_client(struct hc_h2 *h2)
{
    return h2->c;
}

bool
hc_h2_is_retired(struct hc_h2 *h2)
{
    bool retired;

    bh_mutex_lock(&h2->lock);
    retired = h2->retired;
    bh_mutex_unlock(&h2->lock);
    return retired;
}

void
hc_h2_close_if_idle(struct hc_h2 *h2)
{
    bh_mutex_lock(&h2->lock);
    if (h2->open == 0 && h2->error == 0) {
        h2->closing = h2->retired = true;
        (void)nghttp2_session_terminate_session(h2->session, NGHTTP2_NO_ERROR);
    }
    hc_h2_unlock(h2);
}

static int
new_session(struct hc_h2 *h2)
{
    nghttp2_session_callbacks   *cb;
    nghttp2_option              *option;
    int                          rc;
    const nghttp2_settings_entry settings[] = {
        { NGHTTP2_SETTINGS_ENABLE_PUSH, 0 },
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, HC_H2_WINDOW },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, (uint32_t)h2->c->o.max_head },
    };

    if (nghttp2_session_callbacks_new(&cb) != 0)
        return -ENOMEM;
    if (nghttp2_option_new(&option) != 0) {
        nghttp2_session_callbacks_del(cb);
        return -ENOMEM;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(cb, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
    nghttp2_session_callbacks_set_on_frame_send_callback(cb, on_sent);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(cb, on_data);
    nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
    nghttp2_option_set_no_auto_window_update(option, 1);
    rc = nghttp2_session_client_new2(&h2->session, cb, h2, option);
    nghttp2_session_callbacks_del(cb);
    nghttp2_option_del(option);
    if (rc == 0)
        rc = nghttp2_submit_settings(h2->session, NGHTTP2_FLAG_NONE, settings,
                                     sizeof settings / sizeof *settings);
    if (rc == 0)
        rc = nghttp2_session_set_local_window_size(h2->session, NGHTTP2_FLAG_NONE, 0,
                                                   HC_H2_CONN_WINDOW);
    return rc == 0 ? 0 : -ENOMEM;
}

int
hc_h2_new(struct bh_http_client *c, struct hc_conn *k)
{
    struct hc_h2 *h2 = calloc(1, sizeof *h2);

    if (h2 == NULL)
        return bh_fail(-ENOMEM, "http: out of memory");
    h2->c = c;
    h2->k = k;
    if (new_session(h2) < 0) {
        nghttp2_session_del(h2->session);
        free(h2);
        return bh_fail(-ENOMEM, "http: out of memory");
    }
    h2->idle_until = bh_now() + c->o.idle_timeout;
    atomic_store(&h2->refs, 2); /* the poller's, and that of the request which has dialled */
    atomic_fetch_add(&c->refs, 1);
    k->h2 = h2;
    turn(h2);
    return 0;
}
