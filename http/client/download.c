/*
 * download.c -- the body of a reply.
 *
 * Bytes are in the connection's buffer first, then come straight into the caller's.  At its
 * end the connection goes back to the pool at once, whenever the response is closed.
 * What ends too early is an error, never a short body: only one without a length and without
 * chunks ends with the connection.
 */

#include "hc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/go/panic.h>

#define RES(res) ((struct hc_res *)(res))

void
hc_body_start(struct hc_res *x)
{
    x->pub.status = x->head.status;
    x->pub.version = x->stream != NULL ? 20 : 10 + x->head.minor;
    x->left = x->head.body == HC_BODY_LENGTH ? x->head.length : 0;
    if (x->head.body == HC_BODY_LENGTH)
        x->pub.length = (int64_t)x->head.length;
    else
        x->pub.length = x->head.body == HC_BODY_NONE && x->stream == NULL ? 0 : -1;
    x->chunked = (struct ht_chunked){ 0 };
    x->trailer_size = 0;
    x->trailers = NULL;
    x->error = 0;
    x->done = x->head.body == HC_BODY_NONE && x->stream == NULL;
    if (x->upload != NULL && x->stream == NULL) {
        hc_upload_head_came(x->upload);
        x->k->read_until = -1;
    }
    if (x->done)
        hc_release(x);
    hc_gunzip_start(x);
}

/* ---- the end ----------------------------------------------------------------------------- */

void
hc_release(struct hc_res *x)
{
    struct hc_conn *k = x->k;
    bool            sent;

    if (k == NULL)
        return;
    sent = hc_upload_end(x); /* it uses the connection */
    if (k->h2 != NULL) {
        hc_stream_end(x);
        return;
    }
    x->k = NULL;
    hc_give(x->c, k, sent && x->done && x->error == 0 && x->head.keep);
}

static ssize_t
body_done(struct hc_res *x)
{
    x->done = true;
    hc_release(x);
    return 0;
}

static ssize_t
body_failed(struct hc_res *x, int code)
{
    x->error = code;
    hc_release(x);
    return code;
}

static ssize_t
cut_short(struct hc_res *x, ssize_t n)
{
    if (n < 0)
        return body_failed(x, (int)n);
    if (x->head.body == HC_BODY_LENGTH)
        (void)bh_fail(BH_EEOF,
                      "http: %s closed the connection %llu bytes before the end of the body",
                      x->url.authority, (unsigned long long)x->left);
    else
        (void)bh_fail(BH_EEOF, "http: %s closed the connection within the body",
                      x->url.authority);
    return body_failed(x, BH_EEOF);
}

/* ---- reading ----------------------------------------------------------------------------- */

static size_t
take_input(struct hc_conn *k, void *buffer, size_t size)
{
    size_t have = k->in_end - k->in_start;

    if (size > have)
        size = have;
    memcpy(buffer, k->in + k->in_start, size);
    k->in_start += size;
    return size;
}

/* From the buffer, or straight from the connection when that is empty. */
static ssize_t
read_bytes(struct hc_res *x, void *buffer, size_t size)
{
    struct hc_conn *k = x->k;

    if (k->in_start < k->in_end)
        return (ssize_t)take_input(k, buffer, size);
    hc_read_deadline(k, x->c->o.read_timeout);
    return hc_read(k, buffer, size);
}

static ssize_t
read_counted(struct hc_res *x, void *buffer, size_t size)
{
    ssize_t n = read_bytes(x, buffer, size < x->left ? size : (size_t)x->left);

    if (n <= 0)
        return cut_short(x, n);
    x->left -= (uint64_t)n;
    if (x->left == 0)
        (void)body_done(x);
    return n;
}

static ssize_t
read_stream(struct hc_res *x, void *buffer, size_t size)
{
    ssize_t n = hc_stream_read(x, buffer, size);

    if (n > 0)
        x->left -= (uint64_t)n < x->left ? (uint64_t)n : x->left;
    return n > 0 ? n : n == 0 ? body_done(x) : body_failed(x, (int)n);
}

static ssize_t
read_until_close(struct hc_res *x, void *buffer, size_t size)
{
    ssize_t n = read_bytes(x, buffer, size);

    return n > 0 ? n : n == 0 ? body_done(x) : cut_short(x, n);
}

/* The decoder has just used these bytes of the trailer section: keep them. */
static void
keep_trailers(struct hc_res *x, const char *data, size_t size)
{
    if (x->trailer_text == NULL)
        x->trailer_text = bh_arena_alloc(x->arena, HT_CHUNK_TRAILERS + 8);
    if (size > HT_CHUNK_TRAILERS + 4 - x->trailer_size)
        size = HT_CHUNK_TRAILERS + 4 - x->trailer_size;
    memcpy(x->trailer_text + x->trailer_size, data, size);
    x->trailer_size += (uint32_t)size;
}

/* Lines that the decoder has found well formed; the last one is empty. */
static void
parse_trailers(struct hc_res *x)
{
    struct hc_line **end = &x->trailers;
    char            *at = x->trailer_text;

    if (at == NULL)
        return;
    at[x->trailer_size] = '\0';
    for (char *next; (next = strstr(at, "\r\n")) != NULL && next != at; at = next + 2) {
        char *colon = memchr(at, ':', (size_t)(next - at)), *value = colon + 1, *last = next;

        value += strspn(value, " \t");
        while (last > value && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        *colon = *last = '\0';
        *end = bh_arena_alloc(x->arena, sizeof **end);
        **end = (struct hc_line){ NULL, at, value };
        end = &(*end)->next;
    }
}

static ssize_t
read_chunked(struct hc_res *x, void *buffer, size_t size)
{
    struct hc_conn *k = x->k;

    for (;;) {
        const char        *data = k->in + k->in_start;
        size_t             used = 0;
        enum ht_chunk_step step =
            ht_chunk_next(&x->chunked, data, k->in_end - k->in_start, &used);
        ssize_t n;

        if (x->chunked.tail > 0)
            keep_trailers(x, data + used - x->chunked.tail, x->chunked.tail);
        k->in_start += used;
        if (step == HT_CHUNK_END) {
            parse_trailers(x);
            return body_done(x);
        }
        if (step == HT_CHUNK_BAD) {
            (void)bh_fail(-EBADMSG, "http: malformed body from %s: %s", x->url.authority,
                          x->chunked.reason);
            return body_failed(x, -EBADMSG);
        }
        if (step == HT_CHUNK_DATA) {
            n = read_bytes(x, buffer, size < x->chunked.left ? size : (size_t)x->chunked.left);
            if (n <= 0)
                return cut_short(x, n);
            ht_chunk_take(&x->chunked, (size_t)n);
            return n;
        }
        hc_read_deadline(k, x->c->o.read_timeout);
        n = hc_fill(k);
        if (n <= 0)
            return cut_short(x, n);
    }
}

ssize_t
hc_read_body(struct hc_res *x, void *buffer, size_t size)
{
    if (x->done || size == 0)
        return 0;
    if (x->stream != NULL)
        return read_stream(x, buffer, size);
    switch (x->head.body) {
    case HC_BODY_LENGTH:
        return read_counted(x, buffer, size);
    case HC_BODY_CHUNKED:
        return read_chunked(x, buffer, size);
    default:
        return read_until_close(x, buffer, size);
    }
}

ssize_t
bh_http_res_read(struct bh_http_res *res, void *buffer, size_t size)
{
    struct hc_res *x = RES(res);
    ssize_t        n;

    if (x->error != 0)
        return bh_fail(x->error, "http: the body of this reply has failed before: %s",
                       bh_error_text(x->error));
    if (x->gunzip == NULL || size == 0)
        return hc_read_body(x, buffer, size);
    n = hc_gunzip_read(x, buffer, size);
    return n < 0 ? body_failed(x, (int)n) : n;
}

/* ---- the whole --------------------------------------------------------------------------- */

/* Room for `size` bytes and a NUL.  Returns: 0 or -ENOMEM. */
static int
make_room(struct hc_res *x, size_t size)
{
    char *whole = realloc(x->whole, size + 1);

    if (whole == NULL)
        return bh_fail(-ENOMEM, "http: out of memory for a body of %zu bytes", size);
    x->whole = whole;
    return 0;
}

ssize_t
bh_http_res_body(struct bh_http_res *res, size_t max, const char **data)
{
    struct hc_res *x = RES(res);
    size_t         size = 0, room = 0;
    ssize_t        n;

    if (!x->done && x->gunzip == NULL && x->left > max)
        return bh_fail(-EMSGSIZE, "http: body of %lld bytes, over the limit of %zu",
                       (long long)x->pub.length, max);
    for (;;) {
        if (size == room) {
            room = room > 0                           ? 2 * room
                   : x->left > 0 && x->gunzip == NULL ? (size_t)x->left + 1
                                                      : 4096;
            room = room > max ? max + 1 : room;
            if (make_room(x, room) < 0)
                return -ENOMEM;
        }
        n = bh_http_res_read(res, x->whole + size, room - size);
        if (n < 0)
            return n;
        if (n == 0)
            break;
        size += (size_t)n;
        if (size > max)
            return bh_fail(-EMSGSIZE, "http: body over the limit of %zu bytes", max);
    }
    x->whole[size] = '\0';
    *data = x->whole;
    return (ssize_t)size;
}

void
hc_finish(struct hc_res *x)
{
    char    rest[4096];
    size_t  read = 0;
    ssize_t n = 1;

    /* Only what has arrived: reading what is there costs less than another connection. */
    if (x->k != NULL && x->stream == NULL)
        x->k->impatient = true;
    while (n > 0 && x->k != NULL && x->stream == NULL && x->upload == NULL && x->head.keep &&
           read < HC_DRAIN_SIZE) {
        n = hc_read_body(x, rest, sizeof rest);
        read += n > 0 ? (size_t)n : 0;
    }
    hc_release(x);
    hc_gunzip_free(x);
}

/* ---- fields ------------------------------------------------------------------------------ */

const char *
bh_http_res_header(struct bh_http_res *res, const char *name)
{
    const struct hc_head *h = &RES(res)->head;
    size_t                length = strlen(name);

    for (unsigned i = 0; i < h->field_count; i++)
        if (ht_name_is(&h->fields[i], name, length))
            return h->fields[i].value;
    return NULL;
}

bool
bh_http_res_header_at(struct bh_http_res *res, unsigned i, const char **name,
                      const char **value)
{
    const struct hc_head *h = &RES(res)->head;

    if (i >= h->field_count)
        return false;
    *name = h->fields[i].name;
    *value = h->fields[i].value;
    return true;
}

const char *
bh_http_res_trailer(struct bh_http_res *res, const char *name)
{
    for (const struct hc_line *t = RES(res)->trailers; t != NULL; t = t->next)
        if (strcasecmp(t->name, name) == 0)
            return t->value;
    return NULL;
}
