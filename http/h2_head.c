/*
 * h2_head.c -- from the header block of a stream to the head of a call.
 *
 * libnghttp2 has checked what makes a request malformed; here the rules of HTTP/1 apply, by the same
 * code (target.c), so that a request means the same whatever brought it:
 *
 *     :method, :path      the request line
 *     :authority          Host; a host field beside it must agree, and is dropped
 *     cookie, in crumbs   one field (RFC 9113, 8.2.3)
 *     content-length      the body's length; without one it is like a chunked body
 *
 * Runs on the request's goroutine, without the connection's lock: the block does not change any more.
 */

#include "h2.h"

#include <string.h>
#include <strings.h>

/* Name and value of the next field, both NUL-terminated. */
static bool
next_field(char **at, const char *end, struct ht_field *f)
{
    uint32_t lengths[2];

    if (*at >= end)
        return false;
    memcpy(lengths, *at, sizeof lengths);
    *at += sizeof lengths;
    *f = (struct ht_field){ *at, *at + lengths[0] + 1, lengths[0], lengths[1] };
    *at = f->value + lengths[1] + 1;
    return true;
}

static int
refuse(struct ht_head *h, int status, const char *reason)
{
    h->reason = reason;
    return -status;
}

/* What matters of a request's fields besides the fields themselves. */
struct gathered {
    struct ht_field *authority, *cookie; /* in the call's fields; or NULL */
    struct ht_field  host, scheme;
    size_t           cookies; /* bytes of them all, joined */
    unsigned         cookie_count, expects;
    bool             expect_known;
};

static bool
is(const struct ht_field *f, const char *name, size_t length)
{
    return f->name_length == length && memcmp(f->name, name, length) == 0;
}
#define IS(f, name) is((f), (name), sizeof(name) - 1)

static void
take_pseudo(struct ht_head *h, struct gathered *g, const struct ht_field *f)
{
    if (IS(f, ":method")) {
        h->method = f->value;
        h->method_length = f->value_length;
    } else if (IS(f, ":path")) {
        h->target = f->value;
        h->target_length = f->value_length;
    } else if (IS(f, ":authority")) { /* known to handlers by HTTP/1's name */
        static char host[] = "host";

        g->authority = &h->fields[h->field_count++];
        *g->authority = (struct ht_field){ host, f->value, 4, f->value_length };
    } else if (IS(f, ":scheme")) {
        g->scheme = *f;
    }
}

static void
take_field(struct ht_head *h, struct gathered *g, const struct ht_field *f)
{
    struct ht_field *mine = &h->fields[h->field_count];

    if (IS(f, "host")) {
        if (g->authority != NULL) { /* to be compared, not kept */
            g->host = *f;
            return;
        }
        h->host = f->value;
    } else if (IS(f, "cookie")) {
        g->cookie_count++;
        g->cookies += f->value_length + 2;
        if (g->cookie != NULL)
            return;
        g->cookie = mine;
    } else if (IS(f, "content-length")) { /* libnghttp2 has seen that it is a number, and one */
        for (uint32_t i = 0; i < f->value_length; i++)
            h->length = h->length * 10 + (uint64_t)(f->value[i] - '0');
        h->body = HT_BODY_LENGTH;
    } else if (IS(f, "expect")) {
        g->expects++;
        g->expect_known =
            f->value_length == 12 && strncasecmp(f->value, "100-continue", 12) == 0;
    }
    *mine = *f;
    h->field_count++;
}

/* A client may send cookies as several fields; there is but one for handlers (RFC 9113, 8.2.3). */
static void
join_cookies(struct ht_call *x, struct gathered *g, char *text, const char *end)
{
    char           *joined = bh_arena_alloc(x->arena, g->cookies + 1), *to = joined;
    struct ht_field f;

    while (next_field(&text, end, &f)) {
        if (!IS(&f, "cookie"))
            continue;
        if (to != joined)
            to = ht_put(to, "; ");
        memcpy(to, f.value, f.value_length);
        to += f.value_length;
    }
    g->cookie->value = joined;
    g->cookie->value_length = (uint32_t)(to - joined);
}

static int
check_head(struct ht_call *x, const struct gathered *g)
{
    struct ht_head *h = &x->head;

    if (!ht_is_method(h->method, h->method_length))
        return refuse(h, ht_is_token(h->method, h->method_length) ? 501 : 400, "bad method");
    if (strcmp(h->method, "CONNECT") == 0)
        return refuse(h, 501, "CONNECT is not offered");
    if (h->target == NULL || !ht_is_target(h->target, h->target_length))
        return refuse(h, 400, "bad request target");
    if (h->target[0] != '/' && strcmp(h->target, "*") != 0)
        return refuse(h, 400, "bad request target");
    if (h->method_length + h->target_length + sizeof "  HTTP/2.0" - 1 > x->s->limits.line)
        return refuse(h, 414, "request line too long");
    if (g->scheme.value == NULL ||
        (strcasecmp(g->scheme.value, "https") != 0 && strcasecmp(g->scheme.value, "http") != 0))
        return refuse(h, 400, "bad scheme");
    if (g->authority != NULL) {
        h->host = g->authority->value;
        if (g->host.value != NULL && strcasecmp(g->host.value, h->host) != 0)
            return refuse(h, 400, "host differs from :authority");
    }
    if (g->expects > 0) {
        if (g->expects > 1 || !g->expect_known)
            return refuse(h, 417, "unknown expectation");
        h->expect = h->body != HT_BODY_NONE;
    }
    return 0;
}

int
ht_h2_take_head(struct ht_call *x, struct h2_stream *st)
{
    const struct h2_block *b = &st->head;
    struct ht_head        *h = &x->head;
    struct gathered        g = { 0 };
    struct ht_field        f;
    char                  *text, *at;
    int                    rc;

    x->body_done = !st->has_body;
    x->keep = true;
    if (b->over)
        return refuse(h, 431, "header fields too large");
    h->fields = bh_arena_alloc(x->arena, (b->count + 1) * sizeof *h->fields + b->size);
    text = (char *)(h->fields + b->count + 1);
    memcpy(text, b->text, b->size);
    h->minor = 1;
    h->keep = true;
    if (st->has_body)
        h->body = HT_BODY_CHUNKED; /* of unknown length, unless a field says it */
    for (at = text; next_field(&at, text + b->size, &f);) {
        if (f.name[0] == ':')
            take_pseudo(h, &g, &f);
        else
            take_field(h, &g, &f);
    }
    if (!st->has_body || (h->body == HT_BODY_LENGTH && h->length == 0))
        h->body = HT_BODY_NONE;
    x->body_done = h->body == HT_BODY_NONE;
    if (g.cookie_count > 1)
        join_cookies(x, &g, text, text + b->size);
    rc = check_head(x, &g);
    return rc < 0 ? rc : ht_set_target(x);
}

void
ht_h2_take_trailers(struct ht_call *x, struct h2_stream *st)
{
    struct h2_block *b = st->trailers;
    struct ht_line **end = &x->request_trailers;
    struct ht_field  f;
    char            *text, *at;

    if (b == NULL || b->over)
        return;
    text = bh_arena_copy(x->arena, b->text, b->size);
    for (at = text; next_field(&at, text + b->size, &f);) {
        struct ht_line *l = bh_arena_alloc(x->arena, sizeof *l);

        *l = (struct ht_line){ NULL, f.name, f.value };
        *end = l;
        end = &l->next;
    }
}
