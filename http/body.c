/*
 * body.c -- the body of a request: of known length, or chunked.
 *
 * Bytes come from the connection's input buffer first, then from the socket.  A
 * body may take body_timeout, plus a second for each body_rate bytes that have
 * come: a slow upload goes on, one byte now and then does not.
 *
 * "Expect: 100-continue" is answered when the handler first reads; a handler that
 * replies without reading spares the client the upload.
 */

#include "ht.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void
ht_body_init(struct ht_call *x)
{
    x->body_left = x->head.length;
    x->body_done = x->head.body == HT_BODY_NONE;
    x->body_size = -1;
}

static ssize_t
body_fail(struct ht_call *x, int code, const char *why)
{
    x->body_error = code;
    x->keep = false;
    return bh_fail(code, "body of request %llu: %s", (unsigned long long)x->pub.id, why);
}

static ssize_t
body_ended(struct ht_call *x, ssize_t n)
{
    if (n == BH_EDEADLINE)
        return body_fail(x, BH_EDEADLINE, "too slow");
    return body_fail(x, n == 0 ? BH_EEOF : (int)n, "client left");
}

static int64_t
body_deadline(const struct ht_call *x)
{
    const struct bh_http_options *o = &x->s->o;

    return x->body_since + o->body_timeout + (int64_t)(x->body_read / o->body_rate) * BH_SECOND;
}

/* More input into the connection's buffer. */
static ssize_t
body_fill(struct ht_call *x)
{
    ssize_t n = ht_fill(x->k, body_deadline(x));

    return n > 0 ? n : body_ended(x, n);
}

static size_t
take_input(struct ht_conn *k, void *buffer, size_t size)
{
    size_t have = k->in_end - k->in_start, n = size < have ? size : have;

    memcpy(buffer, k->kit->in + k->in_start, n);
    k->in_start += n;
    return n;
}

/* From the buffer, or straight from the socket when that is empty. */
static ssize_t
read_plain(struct ht_call *x, void *buffer, size_t size)
{
    struct ht_conn *k = x->k;
    ssize_t         n;

    if (size > x->body_left)
        size = (size_t)x->body_left;
    if (k->in_start < k->in_end) {
        n = (ssize_t)take_input(k, buffer, size);
    } else {
        (void)ht_flush(k);
        bh_conn_set_read_deadline(k->io, body_deadline(x));
        n = bh_read(k->io, buffer, size);
        if (n <= 0)
            return body_ended(x, n);
    }
    x->body_left -= (uint64_t)n;
    x->body_done = x->body_left == 0;
    return n;
}

static ssize_t
read_chunked(struct ht_call *x, void *buffer, size_t size)
{
    struct ht_conn *k = x->k;

    for (;;) {
        size_t             used = 0;
        enum ht_chunk_step step =
            ht_chunk_next(&x->chunked, k->kit->in + k->in_start, k->in_end - k->in_start, &used);
        ssize_t n;

        k->in_start += used;
        switch (step) {
        case HT_CHUNK_END:
            x->body_done = true;
            return 0;
        case HT_CHUNK_BAD:
            return body_fail(x, -EBADMSG, x->chunked.reason);
        case HT_CHUNK_DATA:
            if (k->in_start < k->in_end) {
                if (size > x->chunked.left)
                    size = (size_t)x->chunked.left;
                n = (ssize_t)take_input(k, buffer, size);
                ht_chunk_take(&x->chunked, (size_t)n);
                return n;
            }
            break;
        case HT_CHUNK_MORE:
            break;
        }
        n = body_fill(x);
        if (n < 0)
            return n;
    }
}

static void
start_body(struct ht_call *x)
{
    x->body_since = bh_now();
    if (x->head.expect && !x->continued && x->reply != HT_REPLY_COMMITTED) {
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";

        (void)ht_out(x->k, go_on, sizeof go_on - 1);
        (void)ht_flush(x->k);
    }
    x->continued = true;
}

static ssize_t
body_read(struct ht_call *x, void *buffer, size_t size)
{
    ssize_t n;

    if (x->body_error < 0)
        return x->body_error;
    if (x->body_done || size == 0)
        return 0;
    if (x->body_since == 0)
        start_body(x);
    n = x->head.body == HT_BODY_CHUNKED ? read_chunked(x, buffer, size)
                                        : read_plain(x, buffer, size);
    if (n > 0)
        x->body_read += (uint64_t)n;
    return n;
}

ssize_t
bh_http_read(struct bh_http_call *c, void *buffer, size_t size)
{
    struct ht_call *x = ht_own(c);
    ssize_t         n = body_read(x, buffer, size);

    if (n > 0 && x->body_read > x->s->o.max_body)
        return body_fail(x, -EMSGSIZE, "over the limit");
    return n;
}

/* ---- the whole body -------------------------------------------------------------- */

static void
free_holder(void *arg)
{
    free(*(void **)arg);
}

ssize_t
bh_http_body(struct bh_http_call *c, const char **data)
{
    struct ht_call *x = ht_own(c);
    size_t          limit = x->s->o.max_body, size = 0, room = 0;
    char          **holder;
    ssize_t         n;

    if (x->body_size < 0) {
        if (x->head.body == HT_BODY_LENGTH && x->head.length > limit)
            return body_fail(x, -EMSGSIZE, "over the limit");
        holder = bh_arena_alloc(x->arena, sizeof *holder);
        bh_arena_defer(x->arena, free_holder, holder);
        /* Grown as bytes arrive, not as announced. */
        do {
            if (size + 1 >= room) {
                size_t want = room == 0 ? 4096 : room * 2;
                char  *bigger = realloc(*holder, want);

                if (bigger == NULL)
                    bh_panic("http: out of memory for a body");
                *holder = bigger;
                room = want;
            }
            n = bh_http_read(c, *holder + size, room - size - 1);
            if (n < 0)
                return n;
            size += (size_t)n;
        } while (n > 0);
        (*holder)[size] = '\0';
        x->body_data = *holder;
        x->body_size = (ssize_t)size;
    }
    *data = x->body_data;
    return x->body_size;
}

/* ---- what the handler left unread -------------------------------------------------- */

bool
ht_body_is_short(const struct ht_call *x)
{
    if (x->body_done)
        return true;
    if (x->body_error < 0 || (x->head.expect && !x->continued))
        return false;
    return x->head.body == HT_BODY_CHUNKED || x->body_left <= HT_DISCARD_SIZE;
}

bool
ht_body_discard(struct ht_call *x)
{
    char   sink[4096];
    size_t total = 0;

    while (!x->body_done && x->body_error == 0 && total <= HT_DISCARD_SIZE) {
        ssize_t n = body_read(x, sink, sizeof sink);

        total += n > 0 ? (size_t)n : 0;
    }
    return x->body_done && x->body_error == 0;
}
