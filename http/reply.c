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
 * can still replace it.  After that the wire (ht.h) breaks a failed reply visibly.
 *
 * The body passes the filters, innermost first, then the wire.  A body that is whole
 * before anything is committed passes them into memory (struct ht_collected), so its new
 * length can be announced; bh_http_recover does that for the filters inside it, so a
 * filter that panics is a 500 like any handler.
 */

#include "ht.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <unistd.h>

void
ht_client_left(struct ht_call *x, int code)
{
    if (x->ctx != NULL)
        bh_ctx_cancel_cause(x->ctx, code, "client left");
}

/* What a send said. */
static int
sent(struct ht_call *x, int rc)
{
    if (rc < 0 && x->error == 0) {
        x->error = rc;
        ht_client_left(x, rc);
    }
    return x->error;
}

/* ---- filters --------------------------------------------------------------------- */

/* Bytes that gather in memory. */
struct ht_collected {
    char  *data;
    size_t size, room;
};

static void
collect(struct ht_call *x, const void *data, size_t size)
{
    struct ht_collected *all = x->collected;

    if (size > all->room - all->size) {
        size_t room = all->room * 2 > all->size + size ? all->room * 2 : all->size + size + 512;
        char  *bigger = bh_arena_alloc(x->arena, room);

        if (all->size > 0)
            memcpy(bigger, all->data, all->size);
        all->data = bigger;
        all->room = room;
    }
    if (size > 0)
        memcpy(all->data + all->size, data, size);
    all->size += size;
}

/* Bytes that have passed the filters before f. */
static int
pass(struct ht_call *x, struct ht_filter *f, const void *data, size_t size,
     enum bh_http_part part)
{
    struct ht_filter *before = x->passing;
    int               rc;

    while (f != NULL && !f->active)
        f = f->next;
    if (f != NULL) {
        x->passing = f;
        rc = f->fn->body(&x->pub, f->arg, data, size, part);
        x->passing = before;
        return rc;
    }
    if (part == BH_HTTP_LAST)
        x->ended = true;
    if (x->collected != NULL) {
        collect(x, data, size);
        return 0;
    }
    if (size > 0 && !x->bodyless && x->error == 0)
        (void)sent(x, x->wire->send(x, data, size));
    if (part == BH_HTTP_FLUSH && x->error == 0)
        (void)sent(x, x->wire->flush(x));
    return x->error;
}

int
bh_http_pass(struct bh_http_call *c, const void *data, size_t size, enum bh_http_part part)
{
    struct ht_call *x = ht_own(c);

    if (x->passing == NULL)
        bh_panic("http: bh_http_pass outside a filter");
    return pass(x, x->passing->next, data, size, part);
}

int
bh_http_filter(struct bh_http_call *c, const struct bh_http_filter *fn, void *arg)
{
    struct ht_call   *x = ht_own(c);
    struct ht_filter *f;

    if (fn->free != NULL)
        bh_arena_defer(x->arena, fn->free, arg);
    if (x->reply == HT_REPLY_COMMITTED)
        return -EALREADY;
    f = bh_arena_alloc(x->arena, sizeof *f);
    *f = (struct ht_filter){ .next = x->filters, .fn = fn, .arg = arg };
    x->filters = f;
    return 0;
}

int
bh_http_not_modified(struct bh_http_call *c)
{
    struct ht_call *x = ht_own(c);

    if (x->reply == HT_REPLY_COMMITTED)
        return -EALREADY;
    x->pub.status = 304;
    x->bodyless = true;
    return 0;
}

/* Tell the filters inside `until` what is coming.  Returns: whether any takes part. */
static bool
announce(struct ht_call *x, struct ht_filter *until, int64_t *length)
{
    bool any = false;

    for (struct ht_filter *f = x->filters; f != until; f = f->next) {
        int64_t after = f->fn->head(&x->pub, f->arg, *length);

        f->active = after != BH_HTTP_SKIP;
        any = any || f->active;
        if (f->active)
            *length = after;
    }
    return any;
}

static void
filter_whole(struct ht_call *x, struct ht_filter *until)
{
    bool                given = x->reply == HT_REPLY_GIVEN;
    const void         *body = given ? x->body : x->buffer;
    size_t              size = x->buffered;
    int64_t             length = x->bodyless && !given ? x->length : (int64_t)size;
    struct ht_collected all = { 0 };

    if (x->pub.aborted || x->reply == HT_REPLY_NONE)
        return;
    if (x->reply == HT_REPLY_COMMITTED) {
        x->buffered = 0;
        if (!x->ended)
            (void)pass(x, x->filters, x->buffer, size, BH_HTTP_LAST);
        x->ended = true;
        return;
    }
    if (announce(x, until, &length) && !x->bodyless) {
        struct ht_filter *last = x->filters;

        while (last->next != until)
            last = last->next;
        last->next = NULL;
        x->collected = &all;
        (void)pass(x, x->filters, body, size, BH_HTTP_LAST);
        x->collected = NULL;
        x->ended = false;
        x->body = all.data;
        x->buffered = all.size;
        x->reply = HT_REPLY_GIVEN;
    } else if (x->bodyless) {
        x->length = length;
        x->reply = HT_REPLY_STARTED;
        x->buffered = 0;
    }
    x->filters = until;
}

void
ht_reply_filter(struct ht_call *x, struct ht_filter *until)
{
    if (x->filters != until)
        filter_whole(x, until);
}

/* ---- the head -------------------------------------------------------------------- */

/* size: of the body, or -1 if it has to be found out by reading it. */
static void
commit(struct ht_call *x, int64_t size)
{
    (void)sent(x, x->wire->head(x, size));
    x->reply = HT_REPLY_COMMITTED;
}

/* ---- fields ---------------------------------------------------------------------- */

static void
check_field(const char *name, const char *value)
{
    static const struct {
        const char *name;
        size_t      length;
    } framing[] = { { "Content-Length", 14 },
                    { "Transfer-Encoding", 17 },
                    { "Connection", 10 },
                    { "Date", 4 } };
    size_t length = strlen(name);

    if (!ht_is_token(name, length) || !ht_is_value(value, strlen(value)))
        bh_panic("http: bad header field \"%s\"", name);
    for (size_t i = 0; i < sizeof framing / sizeof framing[0]; i++)
        if (length == framing[i].length && strcasecmp(name, framing[i].name) == 0)
            bh_panic("http: header field %s is the server's to set", framing[i].name);
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

    check_field(name, value);
    if (x->reply == HT_REPLY_COMMITTED)
        return -EALREADY; /* that depends on sizes, so it is no misuse */
    add_line(x, name, value);
    return 0;
}

int
bh_http_set_header(struct bh_http_call *c, const char *name, const char *value)
{
    struct ht_call *x = ht_own(c);
    struct ht_line *l = x->lines;

    check_field(name, value);
    if (x->reply == HT_REPLY_COMMITTED)
        return -EALREADY; /* that depends on sizes, so it is no misuse */
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

const char *
bh_http_reply_header(struct bh_http_call *c, const char *name)
{
    struct ht_call       *x = ht_own(c);
    const struct ht_line *l = x->lines;

    if (strcasecmp(name, "Content-Type") == 0)
        return x->type;
    while (l != NULL && strcasecmp(l->name, name) != 0)
        l = l->next;
    return l != NULL ? l->value : NULL;
}

/* ---- replies at once ------------------------------------------------------------- */

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
    x->bodyless = status == 204 || status == 304 ||
                  (*x->pub.method == 'H' && strcmp(x->pub.method, "HEAD") == 0);
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
static int print_large(struct bh_http_call *c, size_t size, const char *format, va_list args)
    __attribute__((format(printf, 3, 0)));

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

/* ---- replies piece by piece ------------------------------------------------------ */

void
bh_http_start(struct bh_http_call *c, int status, const char *type, int64_t length)
{
    struct ht_call *x = ht_own(c);

    begin(x, status, type);
    x->length = length;
    x->reply = HT_REPLY_STARTED;
}

int
ht_reply_begin(struct ht_call *x, int64_t length)
{
    (void)announce(x, NULL, &length);
    commit(x, length);
    return x->error;
}

int
ht_reply_pass(struct ht_call *x, const void *data, size_t size, enum bh_http_part part)
{
    return pass(x, x->filters, data, size, part);
}

/* The head, and what has gathered behind it. */
static int
commit_started(struct ht_call *x, enum bh_http_part part)
{
    size_t buffered = x->buffered;

    if (x->reply == HT_REPLY_STARTED)
        (void)ht_reply_begin(x, x->length);
    x->buffered = 0;
    return buffered > 0 || part != BH_HTTP_MORE ? pass(x, x->filters, x->buffer, buffered, part)
                                                : x->error;
}

/* Before more of a body: it must have been started, and have room for it. */
static int
check_more(struct ht_call *x, const char *what, uint64_t size)
{
    if (x->reply != HT_REPLY_STARTED && x->reply != HT_REPLY_COMMITTED)
        bh_panic("http: %s without bh_http_start", what);
    if (x->ended)
        bh_panic("http: %s after the chain inside bh_http_recover has ended the body", what);
    if (x->length >= 0 && size > (uint64_t)x->length - x->pub.sent)
        bh_panic("http: body of the reply is longer than the %lld bytes announced",
                 (long long)x->length);
    return x->error < 0 ? bh_fail(x->error, "client left") : 0;
}

int
bh_http_write(struct bh_http_call *c, const void *data, size_t size)
{
    struct ht_call *x = ht_own(c);

    if (check_more(x, "bh_http_write", size) < 0)
        return x->error;
    if (x->buffer == NULL)
        x->buffer = bh_arena_alloc(x->arena, HT_STREAM_SIZE);
    if (size <= HT_STREAM_SIZE - x->buffered) {
        memcpy(x->buffer + x->buffered, data, size);
        x->buffered += size;
    } else {
        (void)commit_started(x, BH_HTTP_MORE);
        (void)pass(x, x->filters, data, size, BH_HTTP_MORE);
    }
    x->pub.sent += size;
    return x->error;
}

/* Through memory, for filters and for wires that know no files. */
static int
copy_file(struct bh_http_call *c, int fd, int64_t offset, int64_t size)
{
    char   *buffer = malloc(HT_WRITE_SIZE);
    ssize_t n;
    int     rc = 0;

    if (buffer == NULL)
        bh_panic("http: out of memory for a file");
    BH_DEFER(free, buffer);
    for (; size > 0 && rc == 0; size -= n, offset += n) {
        n = pread(fd, buffer, size < HT_WRITE_SIZE ? (size_t)size : HT_WRITE_SIZE, offset);
        if (n <= 0)
            return bh_fail(n < 0 ? -errno : -EIO, "http: file shorter than the body announced");
        rc = bh_http_write(c, buffer, (size_t)n);
    }
    return rc;
}

static bool
is_filtered(const struct ht_call *x)
{
    const struct ht_filter *f = x->filters;

    while (f != NULL && !f->active)
        f = f->next;
    return f != NULL;
}

int
bh_http_send_file(struct bh_http_call *c, int fd, int64_t offset, int64_t size)
{
    struct ht_call *x = ht_own(c);
    int             rc = -ENOTSUP;

    if (check_more(x, "bh_http_send_file", (uint64_t)size) < 0)
        return x->error;
    if (x->bodyless) {
        x->pub.sent += (uint64_t)size;
        return 0;
    }
    if (x->wire->send_file != NULL) /* whether it is filtered is known from here on */
        (void)commit_started(x, BH_HTTP_MORE);
    if (x->wire->send_file != NULL && !is_filtered(x))
        rc = x->wire->send_file(x, fd, offset, size);
    if (rc == -ENOTSUP)
        rc = copy_file(c, fd, offset, size);
    else if (sent(x, rc) == 0)
        x->pub.sent += (uint64_t)size;
    if (rc == -EIO && x->reply == HT_REPLY_COMMITTED)
        ht_break(x);
    else if (rc == -EIO)
        ht_reply_error(x, 500, "incomplete reply");
    return rc;
}

int
bh_http_trailer(struct bh_http_call *c, const char *name, const char *value)
{
    struct ht_call *x = ht_own(c);
    struct ht_line *l;

    if (x->reply != HT_REPLY_STARTED && x->reply != HT_REPLY_COMMITTED)
        bh_panic("http: bh_http_trailer without bh_http_start");
    check_field(name, value);
    if (x->length >= 0 || x->pub.version == 10)
        return bh_fail(-ENOTSUP, "http: this reply can have no trailers");
    l = bh_arena_alloc(x->arena, sizeof *l);
    *l = (struct ht_line){ NULL, bh_arena_string(x->arena, name, strlen(name)),
                           bh_arena_string(x->arena, value, strlen(value)) };
    *x->trailers_end = l;
    x->trailers_end = &l->next;
    return 0;
}

/* Longer than fits the stack. */
static int
print_large(struct bh_http_call *c, size_t size, const char *format, va_list args)
{
    char *text = malloc(size);

    if (text == NULL)
        bh_panic("http: out of memory for a text");
    BH_DEFER(free, text);
    (void)vsnprintf(text, size, format, args);
    return bh_http_write(c, text, size - 1);
}

/* Not in the request's memory: a stream may print for days. */
int
bh_http_print(struct bh_http_call *c, const char *format, ...)
{
    char    text[512];
    va_list args;
    int     length, rc;

    va_start(args, format);
    length = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (length < (int)sizeof text)
        return bh_http_write(c, text, length > 0 ? (size_t)length : 0);
    va_start(args, format);
    rc = print_large(c, (size_t)length + 1, format, args);
    va_end(args);
    return rc;
}

int
bh_http_flush(struct bh_http_call *c)
{
    struct ht_call *x = ht_own(c);

    if (x->reply != HT_REPLY_STARTED && x->reply != HT_REPLY_COMMITTED)
        return x->error;
    return commit_started(x, BH_HTTP_FLUSH);
}

/* ---- the end --------------------------------------------------------------------- */

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
    x->trailers = NULL;
    x->trailers_end = &x->trailers;
    x->filters = NULL;
    if (wants_json(x))
        (void)bh_http_reply_json(c, status, "{\"status\":%d,\"error\":%s,\"request\":%llu}\n",
                                 status, reason != NULL ? reason : words,
                                 (unsigned long long)c->id);
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
        ht_reply_error(x, 413, x->body_reason);
        return;
    case -EPROTOTYPE:
        ht_reply_error(x, 415, x->body_reason);
        return;
    case BH_EDEADLINE:
        ht_reply_error(x, 408, NULL);
        return;
    case -EBADMSG:
        ht_reply_error(x, 400, x->body_reason);
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
    ht_reply_settle(x, 0);
    ht_reply_filter(x, NULL);
    if (x->pub.aborted)
        return BH_ECANCELED;
    if (x->upgraded)
        return x->error;
    if (x->reply != HT_REPLY_COMMITTED) {
        bool given = x->reply == HT_REPLY_GIVEN;

        commit(x, given || !x->bodyless ? (int64_t)x->buffered : x->length);
        (void)pass(x, NULL, given ? x->body : x->buffer, x->buffered, BH_HTTP_LAST);
    } else if (!x->ended) {
        (void)pass(x, x->filters, x->buffer, x->buffered, BH_HTTP_LAST);
    }
    return x->error < 0 ? x->error : sent(x, x->wire->end(x));
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
    struct ht_call *x = ht_own(c);

    while (x->sub != NULL) /* what recover compares with */
        x = ht_sub_outer(x->sub);
    bh_panic_value(&bh_kind_http_abort, x);
}
