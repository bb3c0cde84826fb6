/*
 * reply.c -- the reply: kept until the chain has returned, or streamed.
 *
 *     NONE --bh_http_reply*--> GIVEN ------------------------+
 *       |                                                    +--finish--> sent
 *       +--bh_http_start--> STARTED --fits the buffer--------+
 *                              |
 *                              +--flush or full--> COMMITTED --finish--> sent
 *                                                      |
 *                                                      +--panic, short--> broken
 *
 * Until COMMITTED no byte of this reply is in the connection's output, so an error
 * can still replace it.  After that the only honest end of a failed reply is one
 * that the client can tell from success: no final chunk, fewer bytes than
 * announced, or, where the end of the connection ends the body (HTTP/1.0), a reset.
 *
 * Output gathers in the kit's `out`, so that pipelined replies leave in one write: it is
 * flushed when it is full and before the connection waits for input.
 */

#include "ht.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* ---- output ------------------------------------------------------------------------- */

static int
write_out(struct ht_conn *k, const char *data, size_t size)
{
    while (size > 0 && k->error == 0) {
        size_t  piece = size < HT_WRITE_SIZE ? size : HT_WRITE_SIZE;
        ssize_t n;

        n = bh_write(k->io, data, piece);
        if (n < 0) {
            k->error = (int)n;
            if (k->call != NULL && k->call->ctx != NULL)
                bh_ctx_cancel_cause(k->call->ctx, (int)n, "client left");
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
    k->out_length += size;
    return k->error;
}

/* ---- head --------------------------------------------------------------------------- */

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
    char   digits[20];
    size_t n = sizeof digits;

    do
        digits[--n] = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    memcpy(at, digits + n, sizeof digits - n);
    return at + sizeof digits - n;
}

static char *
put_field(char *at, const char *name, const char *value)
{
    at = ht_put(at, name);
    at = PUT(at, ": ");
    at = ht_put(at, value);
    return PUT(at, "\r\n");
}

/* Everything in a head that is not a field the handler added. */
enum { HEAD_FIXED = 256 };

static size_t
head_room(const struct ht_call *x)
{
    size_t size = HEAD_FIXED + (x->type != NULL ? strlen(x->type) : 0);

    for (const struct ht_line *l = x->lines; l != NULL; l = l->next)
        size += strlen(l->name) + strlen(l->value) + 4;
    return size;
}

/* Whether the connection may go on, now that the head is about to say so. */
static void
decide_keep(struct ht_call *x)
{
    const struct bh_http_options *o = &x->s->o;

    x->keep = x->keep && !atomic_load_explicit(&x->s->draining, memory_order_relaxed) &&
              (o->max_requests == 0 || x->k->requests < o->max_requests) && ht_body_is_short(x);
}

/* size: of the body, or -1 if it has to be found out by reading it. */
static void
commit(struct ht_call *x, int64_t size)
{
    struct ht_conn *k = x->k;
    int             status = x->pub.status;
    char           *at;

    decide_keep(x);
    x->send_chunked = size < 0 && x->pub.version == 11 && !x->bodyless;
    if (size < 0 && !x->send_chunked && !x->bodyless)
        x->keep = false;
    reserve(k, head_room(x));
    at = put_status(k->kit->out + k->out_length, status);
    at = put_date(at, k->kit);
    if (x->type != NULL)
        at = PUT(ht_put(PUT(at, "Content-Type: "), x->type), "\r\n");
    if (x->send_chunked)
        at = PUT(at, "Transfer-Encoding: chunked\r\n");
    else if (size >= 0 && status != 204 && status != 304)
        at = PUT(ht_put_number(PUT(at, "Content-Length: "), (uint64_t)size), "\r\n");
    if (!x->keep)
        at = PUT(at, "Connection: close\r\n");
    else if (x->pub.version == 10)
        at = PUT(at, "Connection: keep-alive\r\n");
    for (const struct ht_line *l = x->lines; l != NULL; l = l->next)
        at = put_field(at, l->name, l->value);
    at = PUT(at, "\r\n");
    k->out_length = (size_t)(at - k->kit->out);
    x->length = size;
    x->reply = HT_REPLY_COMMITTED;
}

static int
send_body(struct ht_call *x, const void *data, size_t size)
{
    char  line[24];
    char *at = line;

    if (x->bodyless || size == 0)
        return x->k->error;
    if (!x->send_chunked)
        return ht_out(x->k, data, size);
    at += snprintf(line, sizeof line, "%zx\r\n", size);
    (void)ht_out(x->k, line, (size_t)(at - line));
    (void)ht_out(x->k, data, size);
    return ht_out(x->k, "\r\n", 2);
}

/* ---- fields -------------------------------------------------------------------------- */

/* Returns: -EALREADY if it is too late: that depends on sizes, so it is no misuse. */
static int
check_field(const struct ht_call *x, const char *name, const char *value)
{
    static const struct {
        const char *name;
        size_t      length;
    } framing[] = { { "Content-Length", 14 }, { "Transfer-Encoding", 17 },
                    { "Connection", 10 }, { "Date", 4 } };
    size_t length = strlen(name);

    if (!ht_is_token(name, length) || !ht_is_value(value, strlen(value)))
        bh_panic("http: bad header field \"%s\"", name);
    for (size_t i = 0; i < sizeof framing / sizeof framing[0]; i++)
        if (length == framing[i].length && strcasecmp(name, framing[i].name) == 0)
            bh_panic("http: header field %s is the server's to set", framing[i].name);
    return x->reply == HT_REPLY_COMMITTED ? -EALREADY : 0;
}

static void
add_line(struct ht_call *x, const char *name, const char *value)
{
    struct ht_line *l = bh_arena_alloc(x->arena, sizeof *l);

    l->name = bh_arena_string(x->arena, name, strlen(name));
    l->value = bh_arena_string(x->arena, value, strlen(value));
    *x->lines_end = l;
    x->lines_end = &l->next;
}

int
bh_http_add_header(struct bh_http_call *c, const char *name, const char *value)
{
    struct ht_call *x = ht_own(c);

    if (check_field(x, name, value) < 0)
        return -EALREADY;
    add_line(x, name, value);
    return 0;
}

int
bh_http_set_header(struct bh_http_call *c, const char *name, const char *value)
{
    struct ht_call *x = ht_own(c);
    struct ht_line *l = x->lines;

    if (check_field(x, name, value) < 0)
        return -EALREADY;
    if (strcasecmp(name, "Content-Type") == 0) {
        x->type = bh_arena_string(x->arena, value, strlen(value));
        return 0;
    }
    while (l != NULL && strcasecmp(l->name, name) != 0)
        l = l->next;
    if (l == NULL)
        add_line(x, name, value);
    else
        l->value = bh_arena_string(x->arena, value, strlen(value));
    return 0;
}

/* ---- replies at once ------------------------------------------------------------------ */

static void
begin(struct ht_call *x, int status, const char *type)
{
    if (x->reply != HT_REPLY_NONE)
        bh_panic("http: second reply to request %llu (%s %s): it already has status %d",
                 (unsigned long long)x->pub.id, x->pub.method, x->pub.path, x->pub.status);
    if (status < 200 || status > 999)
        bh_panic("http: status %d is none of a reply", status);
    if (x->type == NULL)
        x->type = type;
    x->pub.status = status;
    x->bodyless = status == 204 || status == 304 || strcmp(x->pub.method, "HEAD") == 0;
}

int
bh_http_reply_bytes(struct bh_http_call *c, int status, const char *type, const void *data,
                    size_t size)
{
    struct ht_call *x = ht_own(c);

    begin(x, status, type);
    x->body = data;
    x->buffered = size;
    x->pub.sent = size;
    x->reply = HT_REPLY_GIVEN;
    return 0;
}

static void reply_printed(struct bh_http_call *c, int status, const char *type,
                          const char *format, va_list args)
    __attribute__((format(printf, 4, 0)));

static void
reply_printed(struct bh_http_call *c, int status, const char *type, const char *format,
              va_list args)
{
    char *text = bh_arena_vprint(ht_own(c)->arena, format, args);

    (void)bh_http_reply_bytes(c, status, type, text, strlen(text));
}

int
bh_http_reply(struct bh_http_call *c, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    reply_printed(c, status, "text/plain; charset=utf-8", format, args);
    va_end(args);
    return 0;
}

int
bh_http_reply_json(struct bh_http_call *c, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    reply_printed(c, status, "application/json", format, args);
    va_end(args);
    return 0;
}

/* ---- replies piece by piece -------------------------------------------------------------- */

void
bh_http_start(struct bh_http_call *c, int status, const char *type, int64_t length)
{
    struct ht_call *x = ht_own(c);

    begin(x, status, type);
    x->length = length;
    x->reply = HT_REPLY_STARTED;
}

/* The head, and what has gathered behind it. */
static int
commit_started(struct ht_call *x)
{
    size_t buffered = x->buffered;

    if (x->reply == HT_REPLY_STARTED)
        commit(x, x->length);
    x->buffered = 0;
    return send_body(x, x->buffer, buffered);
}

int
bh_http_write(struct bh_http_call *c, const void *data, size_t size)
{
    struct ht_call *x = ht_own(c);

    if (x->reply != HT_REPLY_STARTED && x->reply != HT_REPLY_COMMITTED)
        bh_panic("http: bh_http_write without bh_http_start");
    if (x->length >= 0 && x->pub.sent + size > (uint64_t)x->length)
        bh_panic("http: body of the reply is longer than the %lld bytes announced",
                 (long long)x->length);
    if (x->k->error < 0)
        return bh_fail(x->k->error, "client left");
    if (x->buffer == NULL)
        x->buffer = bh_arena_alloc(x->arena, HT_STREAM_SIZE);
    if (size <= HT_STREAM_SIZE - x->buffered) {
        memcpy(x->buffer + x->buffered, data, size);
        x->buffered += size;
    } else {
        (void)commit_started(x);
        (void)send_body(x, data, size);
    }
    x->pub.sent += size;
    return x->k->error;
}

int
bh_http_print(struct bh_http_call *c, const char *format, ...)
{
    va_list args;
    char   *text;

    va_start(args, format);
    text = bh_arena_vprint(ht_own(c)->arena, format, args);
    va_end(args);
    return bh_http_write(c, text, strlen(text));
}

int
bh_http_flush(struct bh_http_call *c)
{
    struct ht_call *x = ht_own(c);

    if (x->reply == HT_REPLY_STARTED || x->reply == HT_REPLY_COMMITTED)
        (void)commit_started(x);
    return ht_flush(x->k);
}

/* ---- the end ------------------------------------------------------------------------------- */

static bool
wants_json(struct ht_call *x)
{
    const char *accept = bh_http_header(&x->pub, "accept");

    return accept != NULL && strstr(accept, "application/json") != NULL;
}

void
ht_reply_error(struct ht_call *x, int status, const char *reason)
{
    struct bh_http_call *c = &x->pub;
    const char          *words = bh_http_status_text(status);

    if (x->reply == HT_REPLY_COMMITTED)
        return;
    x->reply = HT_REPLY_NONE;
    x->type = NULL;
    x->length = -1;
    x->buffered = 0;
    if (wants_json(x))
        (void)bh_http_reply_json(c, status,
                                 "{\"status\":%d,\"error\":\"%s\",\"request\":%llu}\n", status,
                                 reason != NULL ? reason : words, (unsigned long long)c->id);
    else
        (void)bh_http_reply(c, status, "%d %s%s%s\n", status, words, reason != NULL ? ": " : "",
                            reason != NULL ? reason : "");
}

/* What an error without a reply becomes. */
static void
reply_to_error(struct ht_call *x, int rc)
{
    switch (x->body_error) {
    case 0:
        ht_reply_error(x, 500, rc == 0 ? "no reply" : NULL);
        return;
    case -EMSGSIZE:
        ht_reply_error(x, 413, NULL);
        return;
    case BH_EDEADLINE:
        ht_reply_error(x, 408, NULL);
        return;
    case -EBADMSG:
        ht_reply_error(x, 400, x->chunked.reason);
        return;
    default:
        ht_break(x); /* nobody is there to read it */
        return;
    }
}

void
ht_reply_settle(struct ht_call *x, int rc)
{
    bool is_short = x->length >= 0 && !x->bodyless && x->pub.sent != (uint64_t)x->length;

    if (x->pub.aborted)
        return;
    if (x->reply == HT_REPLY_NONE)
        reply_to_error(x, rc);
    else if (x->reply == HT_REPLY_STARTED && is_short)
        ht_reply_error(x, 500, "incomplete reply");
    else if (x->reply == HT_REPLY_COMMITTED && is_short)
        ht_break(x);
}

int
ht_reply_finish(struct ht_call *x)
{
    struct ht_conn *k = x->k;

    ht_reply_settle(x, 0);
    if (x->pub.aborted)
        return BH_ECANCELED;
    switch (x->reply) {
    case HT_REPLY_GIVEN:
        commit(x, (int64_t)x->buffered);
        return send_body(x, x->body, x->buffered);
    case HT_REPLY_STARTED:
        commit(x, x->bodyless ? x->length : (int64_t)x->buffered);
        return send_body(x, x->buffer, x->buffered);
    default:
        (void)send_body(x, x->buffer, x->buffered);
        if (x->send_chunked)
            (void)ht_out(k, "0\r\n\r\n", 5);
        return k->error;
    }
}

void
ht_break(struct ht_call *x)
{
    if (x->pub.aborted)
        return;
    x->pub.aborted = true;
    x->keep = false;
    atomic_fetch_add_explicit(&x->s->aborted, 1, memory_order_relaxed);
}

const struct bh_kind bh_kind_http_abort = { .name = "http.abort" };

noreturn void
bh_http_abort(struct bh_http_call *c)
{
    bh_panic_value(&bh_kind_http_abort, ht_own(c));
}
