/*
 * h2_out.c -- HTTP/2 frames out: gathered by whoever makes them, written by one at a time.
 *
 * ht_h2_pump lets libnghttp2 turn what has been submitted into frames, in h2->out.  Bodies go
 * there straight from the memory of the goroutine that sends them, which waits, in ht_h2_wait,
 * for the part that no window allows yet; so there are no queues of data, and no copy but this.
 *
 * Who writes takes h2->out along and leaves the other buffer, so that frames can be
 * made meanwhile.  `writing` keeps others out.  Before a goroutine waits for the client it
 * writes, if nobody does: what the client is waiting for may be in there.
 *
 * One timer per connection, armed only while somebody waits, rings for the first who is late.
 */

#include "h2.h"

#include <stdlib.h>
#include <string.h>

/* ---- making frames --------------------------------------------------------------- */

int
ht_h2_append(struct ht_h2 *h2, const void *data, size_t size)
{
    if (size > h2->out_room - h2->out_size) {
        size_t room = h2->out_room == 0 ? 4096 : h2->out_room * 2;
        char  *bigger;

        while (room < h2->out_size + size)
            room *= 2;
        bigger = realloc(h2->out, room);
        if (bigger == NULL)
            return NGHTTP2_ERR_CALLBACK_FAILURE;
        h2->out = bigger;
        h2->out_room = room;
    }
    if (size > 0)
        memcpy(h2->out + h2->out_size, data, size);
    h2->out_size += size;
    return 0;
}

ssize_t
ht_h2_read_data(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length,
                uint32_t *flags, nghttp2_data_source *source, void *arg)
{
    struct h2_stream *st = source->ptr;

    (void)buffer;
    (void)arg;
    if (st->error != 0)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (st->out_left == 0 && !st->whole)
        return NGHTTP2_ERR_DEFERRED;
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (st->whole && st->out_left <= length) {
        *flags |= NGHTTP2_DATA_FLAG_EOF;
        st->end_sent = true;
        length = st->out_left;
        if (st->reply_trailer_count > 0) {
            *flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
            if (nghttp2_submit_trailer(session, id, st->reply_trailers,
                                       st->reply_trailer_count) != 0)
                return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
        }
    }
    return (ssize_t)(length < st->out_left ? length : st->out_left);
}

int
ht_h2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                size_t length, nghttp2_data_source *source, void *arg)
{
    struct ht_h2     *h2 = arg;
    struct h2_stream *st = source->ptr;

    (void)session;
    (void)frame;
    if (length > st->out_left)
        return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    if (ht_h2_append(h2, head, 9) < 0 || ht_h2_append(h2, st->out, length) < 0)
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    st->out += length;
    st->out_left -= length;
    if (st->out_left == 0)
        bh_cond_signal(&st->changed);
    return h2->out_size >= HT_H2_OUT_SIZE ? NGHTTP2_ERR_PAUSE : 0;
}

void
ht_h2_pump(struct ht_h2 *h2)
{
    const uint8_t *data;
    ssize_t        n = 0;

    if (h2->error != 0)
        return;
    h2->inside = true;
    while (h2->out_size < HT_H2_OUT_SIZE &&
           (n = nghttp2_session_mem_send(h2->session, &data)) > 0)
        if (ht_h2_append(h2, data, (size_t)n) < 0)
            n = -1;
    h2->inside = false;
    if (n < 0)
        ht_h2_kill(h2, BH_ECLOSED);
    else if (n == 0 && !nghttp2_session_want_read(h2->session) &&
             !nghttp2_session_want_write(h2->session))
        h2->closing = true;
}

/* ---- writing --------------------------------------------------------------------- */

/* Released while it writes.  Returns: 0, or the error. */
static int
write_once(struct ht_h2 *h2)
{
    char   *data = h2->out;
    size_t  size = h2->out_size, room = h2->out_room;
    ssize_t n;

    h2->out = h2->spare;
    h2->out_room = h2->spare_room;
    h2->out_size = 0;
    h2->spare = NULL;
    h2->spare_room = 0;
    bh_mutex_unlock(&h2->lock);
    n = ht_io_write(&h2->k->io, data, size);
    bh_mutex_lock(&h2->lock);
    h2->spare = data;
    h2->spare_room = room;
    return n < 0 ? (int)n : 0;
}

void
ht_h2_write_some(struct ht_h2 *h2)
{
    int rc;

    if (h2->writing || h2->out_size == 0)
        return;
    h2->writing = true;
    rc = write_once(h2);
    h2->writing = false;
    if (rc < 0) {
        h2->out_size = 0;
        ht_h2_kill(h2, rc);
    }
    ht_h2_pump(h2);
}

void
ht_h2_write(struct ht_h2 *h2)
{
    ht_h2_pump(h2);
    while (h2->out_size > 0 && !h2->writing)
        ht_h2_write_some(h2);
    if (!h2->writing && (h2->closing || h2->error != 0))
        ht_h2_wake(h2);
}

/* ---- waiting --------------------------------------------------------------------- */

static void
arm_timer(struct ht_h2 *h2, int64_t at)
{
    int64_t ns = at - bh_now();

    if (h2->timer_at != 0 && (h2->timer_at <= at || !bh_timer_stop(h2->timer)))
        return; /* or it rings just now, and will look again */
    if (h2->timer_at == 0)
        h2->refs++;
    h2->timer_at = at;
    if (ns < 1)
        ns = 1;
    if (h2->timer == NULL)
        h2->timer = bh_timer_func(ns, ht_h2_on_timer, h2);
    else
        (void)bh_timer_reset(h2->timer, ns);
}

/* The timer's reference is ours. */
void
ht_h2_on_timer(void *arg)
{
    struct ht_h2 *h2 = arg;
    int64_t       now = bh_now(), next = 0;

    bh_mutex_lock(&h2->lock);
    h2->timer_at = 0;
    for (struct h2_stream *st = h2->streams; st != NULL; st = st->older) {
        if (st->deadline == 0)
            continue;
        if (st->deadline <= now) {
            st->late = true;
            bh_cond_signal(&st->changed);
        } else if (next == 0 || st->deadline < next) {
            next = st->deadline;
        }
    }
    if (next != 0 && h2->error == 0)
        arm_timer(h2, next);
    bh_mutex_unlock(&h2->lock);
    ht_h2_unref(h2);
}

int
ht_h2_wait(struct h2_stream *st, int64_t deadline)
{
    struct ht_h2 *h2 = st->h2;

    ht_h2_pump(h2);
    if (h2->out_size > 0 && !h2->writing) {
        ht_h2_write_some(h2);
        return 0;
    }
    arm_timer(h2, deadline);
    st->late = false;
    st->deadline = deadline;
    bh_cond_wait(&st->changed, &h2->lock);
    st->deadline = 0;
    return st->late ? BH_EDEADLINE : 0;
}
