/*
 * http1.c -- HTTP/1.0 and 1.1 on a connection: request heads in, replies out.
 *
 *     first byte --> head --complete--> chain --> reply --> rest of body --> next
 *                     |                             |
 *                     +--refused                    +--not keep--> linger --> closed
 *
 * Pipelined requests wait in the input buffer; their replies gather in the output
 * buffer, which is flushed when it is full and before anybody waits for input.
 *
 * After a reply that ends the connection while the client may still be sending,
 * closing at once would make the kernel send a reset, which can destroy the reply
 * on its way.  So: end our side, read on for a bounded time and size, then close.
 *
 * A body of unknown length goes out chunked, or in HTTP/1.0 until the connection ends.
 * The only honest end of a failed reply is one that the client can tell from
 * success: no final chunk, fewer bytes than announced, or, where the end of the
 * connection ends the body, a reset.
 */

#include "ht.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- input ----------------------------------------------------------------------- */

void
ht_make_room(struct ht_conn *k)
{
    struct ht_kit *kit = k->kit;
    char          *bigger;

    if (k->in_start == k->in_end) {
        k->in_start = k->in_end = 0;
    } else if (k->in_start > 0 && k->in_end == kit->in_size) {
        memmove(kit->in, kit->in + k->in_start, k->in_end - k->in_start);
        k->in_end -= k->in_start;
        k->in_start = 0;
    }
    if (k->in_end < kit->in_size)
        return;
    bigger = realloc(kit->in, kit->in_size == 0 ? HT_IN_SIZE : kit->in_size * 2);
    if (bigger == NULL)
        bh_panic("http: out of memory for input");
    kit->in_size = kit->in_size == 0 ? HT_IN_SIZE : kit->in_size * 2;
    kit->in = bigger;
}

ssize_t
ht_fill(struct ht_conn *k, int64_t deadline)
{
    ssize_t n;

    if (ht_flush(k) < 0)
        return k->error;
    ht_make_room(k);
    k->idle_until = 0;
    bh_conn_set_read_deadline(k->io.conn, deadline);
    n = ht_io_read(&k->io, k->kit->in + k->in_end, k->kit->in_size - k->in_end);
    if (n > 0)
        k->in_end += (uint32_t)n;
    return n;
}

static size_t
take_input(struct ht_conn *k, void *buffer, size_t size)
{
    size_t have = k->in_end - k->in_start, n = size < have ? size : have;

    memcpy(buffer, k->kit->in + k->in_start, n);
    k->in_start += (uint32_t)n;
    return n;
}

void
ht_linger(struct ht_conn *k)
{
    int64_t deadline = bh_now() + HT_LINGER_TIME;
    size_t  total = 0;
    ssize_t n = 1;

    if (ht_flush(k) < 0 || ht_io_end(&k->io) < 0)
        return;
    while (n > 0 && total < HT_LINGER_SIZE) {
        k->in_start = k->in_end = 0;
        n = ht_fill(k, deadline);
        total += n > 0 ? (size_t)n : 0;
    }
}

/* ---- output ---------------------------------------------------------------------- */

static int
write_out(struct ht_conn *k, const char *data, size_t size)
{
    while (size > 0 && k->error == 0) {
        size_t  piece = size < HT_WRITE_SIZE ? size : HT_WRITE_SIZE;
        ssize_t n = ht_io_write(&k->io, data, piece);

        if (n < 0) {
            k->error = (int)n;
            if (k->call != NULL)
                ht_client_left(k->call, (int)n);
            break;
        }
        data += piece;
        size -= piece;
    }
    return k->error;
}

int
ht_flush(struct ht_conn *k)
{
    size_t length = k->out_length;

    k->out_length = 0;
    return length > 0 ? write_out(k, k->kit->out, length) : k->error;
}

/* Room for size bytes behind k->out_length. */
static void
reserve(struct ht_conn *k, size_t size)
{
    char *bigger;

    if (k->kit->out_size - k->out_length >= size)
        return;
    (void)ht_flush(k);
    if (k->kit->out_size >= size)
        return;
    if (size < HT_OUT_SIZE)
        size = HT_OUT_SIZE;
    bigger = realloc(k->kit->out, size);
    if (bigger == NULL)
        bh_panic("http: out of memory for output");
    k->kit->out = bigger;
    k->kit->out_size = size;
}

int
ht_out(struct ht_conn *k, const void *data, size_t size)
{
    if (size >= HT_OUT_SIZE) {
        (void)ht_flush(k);
        return write_out(k, data, size);
    }
    reserve(k, size);
    memcpy(k->kit->out + k->out_length, data, size);
    k->out_length += (uint32_t)size;
    return k->error;
}

/* ---- the head of a reply --------------------------------------------------------- */

void
ht_kit_set_time(struct ht_kit *kit, int64_t second)
{
    time_t    t = (time_t)second;
    struct tm tm;

    if (second == kit->second)
        return;
    kit->second = second;
    gmtime_r(&t, &tm);
    (void)strftime(kit->date, sizeof kit->date, "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
    (void)strftime(kit->stamp, sizeof kit->stamp, "%Y-%m-%dT%H:%M:%S", &tm);
}

/* A literal, without calling strlen. */
#define PUT(at, text) ((char *)memcpy((at), (text), sizeof(text) - 1) + sizeof(text) - 1)

static char *
put_status(char *at, int status)
{
    if (status == 200)
        return PUT(at, "HTTP/1.1 200 OK\r\n");
    at = ht_put_number(PUT(at, "HTTP/1.1 "), (uint64_t)status);
    *at++ = ' ';
    return PUT(ht_put(at, bh_http_status_text(status)), "\r\n");
}

static char *
put_date(char *at, struct ht_kit *kit)
{
    enum { LENGTH = sizeof "Date: Wed, 25 Nov 2026 10:31:07 GMT\r\n" - 1 };
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    ht_kit_set_time(kit, now.tv_sec);
    memcpy(at, kit->date, LENGTH);
    return at + LENGTH;
}

char *
ht_put(char *at, const char *text)
{
    size_t n = strlen(text);

    memcpy(at, text, n);
    return at + n;
}

char *
ht_put_number(char *at, uint64_t number)
{
    char *end = at + 1;

    for (uint64_t n = number; n >= 10; n /= 10)
        end++;
    at = end;
    do
        *--at = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    return end;
}

static char *
put_fields(char *at, const struct ht_line *l)
{
    for (; l != NULL; l = l->next) {
        at = PUT(ht_put(at, l->name), ": ");
        at = PUT(ht_put(at, l->value), "\r\n");
    }
    return PUT(at, "\r\n");
}

static size_t
fields_size(const struct ht_line *l)
{
    size_t size = 2;

    for (; l != NULL; l = l->next)
        size += strlen(l->name) + strlen(l->value) + 4;
    return size;
}

/* Worth reading away, for the sake of the connection. */
static bool
body_is_short(const struct ht_call *x)
{
    if (x->body_done)
        return true;
    if (x->body_error < 0 || (x->head.expect && !x->continued))
        return false;
    return x->head.body == HT_BODY_CHUNKED || x->body_left <= HT_DISCARD_SIZE;
}

/* Whether the connection may go on, now that the head is about to say so. */
static void
decide_keep(struct ht_call *x, int64_t size)
{
    const struct bh_http_options *o = &x->s->o;

    x->send_chunked = size < 0 && x->pub.version == 11 && !x->bodyless;
    x->ends_conn = size < 0 && !x->send_chunked && !x->bodyless;
    x->keep = x->keep && !x->ends_conn &&
              !atomic_load_explicit(&x->s->draining, memory_order_relaxed) &&
              (o->max_requests == 0 || x->k->requests < o->max_requests) && body_is_short(x);
}

static int
send_head(struct ht_call *x, int64_t size)
{
    enum { FIXED = 256 }; /* all but the type and the fields */
    struct ht_conn *k = x->k;
    int             status = x->pub.status;
    size_t          type = x->type != NULL ? strlen(x->type) : 0;
    char           *at;

    decide_keep(x, size);
    reserve(k, FIXED + type + fields_size(x->lines));
    at = put_status(k->kit->out + k->out_length, status);
    at = put_date(at, k->kit);
    if (x->type != NULL) {
        at = memcpy(PUT(at, "Content-Type: "), x->type, type);
        at = PUT(at + type, "\r\n");
    }
    if (x->send_chunked)
        at = PUT(at, "Transfer-Encoding: chunked\r\n");
    else if (size >= 0 && status != 204 && status != 304)
        at = PUT(ht_put_number(PUT(at, "Content-Length: "), (uint64_t)size), "\r\n");
    if (!x->keep)
        at = PUT(at, "Connection: close\r\n");
    else if (x->pub.version == 10)
        at = PUT(at, "Connection: keep-alive\r\n");
    at = put_fields(at, x->lines);
    k->out_length = (uint32_t)(at - k->kit->out);
    return k->error;
}

/* ---- the body of a reply --------------------------------------------------------- */

static int
send_bytes(struct ht_call *x, const void *data, size_t size)
{
    char  line[24];
    char *at = line;

    if (!x->send_chunked)
        return ht_out(x->k, data, size);
    at += snprintf(line, sizeof line, "%zx\r\n", size);
    (void)ht_out(x->k, line, (size_t)(at - line));
    (void)ht_out(x->k, data, size);
    return ht_out(x->k, "\r\n", 2);
}

static int
send_file(struct ht_call *x, int fd, int64_t offset, int64_t size)
{
    struct ht_conn *k = x->k;
    ssize_t         n;

    if (x->send_chunked || k->io.tls != NULL)
        return -ENOTSUP;
    if (ht_flush(k) < 0)
        return k->error;
    n = bh_sendfile(k->io.conn, fd, offset, (size_t)size);
    if (n < 0)
        k->error = (int)n;
    return n < 0 ? (int)n : 0;
}

static int
send_end(struct ht_call *x)
{
    struct ht_conn *k = x->k;
    char           *at;

    if (!x->send_chunked)
        return k->error;
    reserve(k, 8 + fields_size(x->trailers));
    at = put_fields(PUT(k->kit->out + k->out_length, "0\r\n"), x->trailers);
    k->out_length = (uint32_t)(at - k->kit->out);
    return k->error;
}

static int
flush(struct ht_call *x)
{
    return ht_flush(x->k);
}

static int
send_interim(struct ht_call *x, int status)
{
    char  line[64];
    char *at = PUT(put_status(line, status), "\r\n");

    (void)ht_out(x->k, line, (size_t)(at - line));
    return ht_flush(x->k);
}

/* ---- the body of a request ------------------------------------------------------- */

static ssize_t
body_ended(struct ht_call *x, ssize_t n)
{
    if (n == BH_EDEADLINE)
        return ht_body_fail(x, BH_EDEADLINE, "too slow");
    return ht_body_fail(x, n == 0 ? BH_EEOF : (int)n, "client left");
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
        k->idle_until = 0;
        bh_conn_set_read_deadline(k->io.conn, ht_body_deadline(x));
        n = ht_io_read(&k->io, buffer, size);
        if (n <= 0)
            return body_ended(x, n);
    }
    x->body_left -= (uint64_t)n;
    x->body_done = x->body_left == 0;
    return n;
}

/* The decoder has just used these bytes of the trailer section: keep them. */
static void
keep_trailers(struct ht_call *x, const char *data, size_t size)
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
parse_trailers(struct ht_call *x)
{
    struct ht_line **end = &x->request_trailers;
    char            *at = x->trailer_text;

    if (at == NULL)
        return;
    at[x->trailer_size] = '\0';
    for (char *next; (next = strstr(at, "\r\n")) != NULL && next != at; at = next + 2) {
        char           *colon = memchr(at, ':', (size_t)(next - at)), *value;
        struct ht_line *l;

        if (colon == NULL)
            continue;
        l = bh_arena_alloc(x->arena, sizeof *l);
        value = colon + 1 + strspn(colon + 1, " \t");
        *colon = *next = '\0';
        for (char *last = next; last > value && (last[-1] == ' ' || last[-1] == '\t'); last--)
            last[-1] = '\0';
        *l = (struct ht_line){ NULL, at, value };
        *end = l;
        end = &l->next;
    }
}

static ssize_t
read_chunked(struct ht_call *x, void *buffer, size_t size)
{
    struct ht_conn *k = x->k;

    for (;;) {
        const char        *data = k->kit->in + k->in_start;
        size_t             used = 0;
        enum ht_chunk_step step =
            ht_chunk_next(&x->chunked, data, k->in_end - k->in_start, &used);
        ssize_t n;

        if (x->chunked.tail > 0)
            keep_trailers(x, data + used - x->chunked.tail, x->chunked.tail);
        k->in_start += (uint32_t)used;
        switch (step) {
        case HT_CHUNK_END:
            parse_trailers(x);
            x->body_done = true;
            return 0;
        case HT_CHUNK_BAD:
            x->body_reason = x->chunked.reason;
            return ht_body_fail(x, -EBADMSG, x->chunked.reason);
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
        n = ht_fill(k, ht_body_deadline(x));
        if (n <= 0)
            return body_ended(x, n);
    }
}

static ssize_t
read_body(struct ht_call *x, void *buffer, size_t size)
{
    return x->head.body == HT_BODY_CHUNKED ? read_chunked(x, buffer, size)
                                           : read_plain(x, buffer, size);
}

static void
watch(struct ht_call *x)
{
    x->watched = true;
    bh_conn_set_hangup_ctx(x->k->io.conn, x->ctx, !x->s->o.half_close);
}

/* Whoever sets a deadline next, to read on, replaces it. */
static void
interrupt(struct ht_call *x)
{
    x->k->idle_until = 0;
    bh_conn_set_read_deadline(x->k->io.conn, bh_now());
}

const struct ht_wire ht_http1_wire = {
    .head = send_head,
    .send = send_bytes,
    .send_file = send_file,
    .flush = flush,
    .end = send_end,
    .interim = send_interim,
    .read = read_body,
    .watch = watch,
    .interrupt = interrupt,
};

/* ---- upgrade --------------------------------------------------------------------- */

int
ht_upgrade(struct ht_call *x, const char *protocol)
{
    struct ht_conn *k = x->k;
    char           *at;

    if (x->wire != &ht_http1_wire || x->pub.version < 11 || !x->body_done)
        return bh_fail(-ENOTSUP,
                       "http: only an HTTP/1.1 request without a body can be upgraded");
    BH_REQUIRE(x->reply == HT_REPLY_NONE);
    reserve(k, 128 + strlen(protocol) + fields_size(x->lines));
    at = PUT(k->kit->out + k->out_length, "HTTP/1.1 101 Switching Protocols\r\n"
                                          "Connection: Upgrade\r\nUpgrade: ");
    at = PUT(ht_put(at, protocol), "\r\n");
    at = put_fields(at, x->lines);
    k->out_length = (uint32_t)(at - k->kit->out);
    x->pub.status = 101;
    x->reply = HT_REPLY_COMMITTED;
    x->bodyless = x->ended = x->upgraded = true;
    x->keep = false;
    k->idle_until = 0;
    bh_conn_set_read_deadline(k->io.conn, 0);
    return ht_flush(k);
}

ssize_t
ht_raw_read(struct ht_call *x, void *buffer, size_t size)
{
    struct ht_conn *k = x->k;

    if (k->in_start < k->in_end)
        return (ssize_t)take_input(k, buffer, size);
    return ht_io_read(&k->io, buffer, size);
}

ssize_t
ht_raw_write(struct ht_call *x, const void *data, size_t size)
{
    return ht_io_write(&x->k->io, data, size);
}

/* ---- a request and its reply ----------------------------------------------------- */

/*
 * Returns: the offset behind the head, from in_start, its start being in f; 0 if the client
 * is gone; a negative status with h->reason set.
 */
static long
read_head(struct ht_conn *k, struct ht_finder *f, struct ht_head *h)
{
    struct ht_kit *kit = k->kit;
    int64_t        deadline = 0;
    ssize_t        n;
    long           end;

    if (kit->fields == NULL &&
        (kit->fields = calloc(k->s->o.max_fields, sizeof *kit->fields)) == NULL)
        bh_panic("http: out of memory for header fields");
    memset(f, 0, sizeof *f);
    for (;;) {
        end = ht_head_read(f, h, kit->in + k->in_start, k->in_end - k->in_start, kit->fields,
                           &k->s->limits);
        if (end != 0)
            return end;
        if (deadline == 0)
            deadline = bh_now() + k->s->o.head_timeout;
        n = ht_fill(k, deadline);
        if (n == BH_EDEADLINE) {
            h->reason = "request head too slow";
            return -408;
        }
        if (n <= 0)
            return 0;
    }
}

/* The head's bytes move into the call's memory.  Returns: 0, or a negative status. */
static int
take_head(struct ht_call *x, const char *data, size_t size)
{
    struct ht_head *h = &x->head;
    char *copy = bh_arena_raw(x->arena, size + h->field_count * sizeof *h->fields + 8);
    int   status;

    /* The fields first: they want alignment. */
    memcpy(copy, h->fields, h->field_count * sizeof *h->fields);
    h->fields = (struct ht_field *)(void *)copy;
    copy += h->field_count * sizeof *h->fields;
    memcpy(copy, data, size);
    ht_head_move(h, data, copy);
    /* Most clients name the host that the one before did. */
    h->host_good = h->host != NULL && *h->host != '\0' && strcmp(h->host, x->kit->host) == 0;
    status = ht_set_target(x);
    if (status < 0)
        return status;
    if (h->host != NULL && !h->host_good && strlen(h->host) < sizeof x->kit->host)
        memcpy(x->kit->host, h->host, strlen(h->host) + 1);
    x->pub.version = 10 + h->minor;
    x->keep = h->keep;
    x->body_left = h->length;
    x->body_done = h->body == HT_BODY_NONE;
    return 0;
}

/* How the connection goes on, its call being over. */
static enum ht_after
after_reply(struct ht_call *x, int error)
{
    const struct ht_conn *k = x->k;

    if (x->pub.aborted)
        return x->reply == HT_REPLY_COMMITTED && x->ends_conn ? HT_RESET : HT_CLOSE;
    if (error < 0 || x->upgraded)
        return HT_CLOSE;
    if (!x->keep) /* done with a client that expects nothing more, or in the middle of something */
        return x->body_done && x->head.method != NULL && !x->head.keep &&
                       k->in_start == k->in_end
                   ? HT_CLOSE
                   : HT_LINGER;
    return x->body_done || ht_body_discard(x) ? HT_NEXT : HT_LINGER;
}

/* What was wrong with a head may be anything; a reply to HEAD has no body all the same. */
static void
refuse_head(struct ht_call *x, const char *data, size_t size, const struct ht_head *h,
            int status)
{
    if (size >= 5 && memcmp(data, "HEAD ", 5) == 0)
        x->pub.method = "HEAD";
    ht_refuse(x, status, h->reason);
}

enum ht_after
ht_http1_one(struct ht_conn *k)
{
    struct ht_finder f;
    enum ht_after    after;
    struct ht_head   head;
    struct ht_call  *x;
    long             end = read_head(k, &f, &head);

    if (end == 0)
        return HT_CLOSE;
    k->requests++;
    x = ht_call_new(k->s, k->kit, &ht_http1_wire, ht_conn_peer(k));
    x->k = k;
    x->pub.secure = k->io.tls != NULL;
    k->call = x;
    if (end > 0) {
        int status;

        x->head = head;
        status = take_head(x, k->kit->in + k->in_start + f.start, (size_t)end - f.start);
        k->in_start += (uint32_t)end;
        if (status < 0)
            ht_refuse(x, -status, x->head.reason);
        else
            ht_dispatch(x);
    } else {
        size_t at = k->in_start + f.start;

        refuse_head(x, k->kit->in + at, k->in_end - at, &head, (int)-end);
    }
    after = after_reply(x, ht_reply_finish(x));
    if (x->watched)
        bh_conn_set_hangup_ctx(k->io.conn, NULL, false);
    k->call = NULL;
    ht_call_end(x, k->kit);
    return after;
}
