/*
 * request.c -- what goes on the wire: the check of what the caller wants, and the head.
 *
 * Values often come from elsewhere, so a line break in one is an error and no panic.  What
 * frames the message or concerns the connection is ours to say.  Once a redirect has led
 * to another origin, what is secret is left out, for good: coming back does not bring it back.
 */

#include "hc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

enum { METHOD_MAX = 32 };

static bool
is_one_of(const char *name, const char *const *names)
{
    for (; *names != NULL; names++)
        if (strcasecmp(name, *names) == 0)
            return true;
    return false;
}

/* ---- checks ------------------------------------------------------------------------------ */

static const char *const ours[] = {
    "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "TE",
    "Trailer",        "Upgrade",           "Expect",     NULL,
};

static bool
are_too_many(const char *const *trailers)
{
    int count = 0;

    for (; trailers != NULL && trailers[0] != NULL && trailers[1] != NULL; trailers += 2)
        count++;
    return count > HC_MAX_TRAILERS;
}

static int
check_fields(const char *const *list, const char *what)
{
    for (; list != NULL && list[0] != NULL; list += 2) {
        if (list[1] == NULL)
            return bh_fail(-EINVAL, "http: %s %.60s without a value", what, list[0]);
        if (!ht_is_token(list[0], strlen(list[0])))
            return bh_fail(-EINVAL, "http: bad name of a %s", what);
        if (!ht_is_value(list[1], strlen(list[1])))
            return bh_fail(-EINVAL, "http: bad value of %s %.60s", what, list[0]);
        if (is_one_of(list[0], ours))
            return bh_fail(-EINVAL, "http: %s %s is not the caller's to set", what, list[0]);
    }
    return 0;
}

int
hc_check(const struct bh_http_req *req)
{
    const char *method = req->method != NULL ? req->method : "GET";
    int         rc;

    if (!ht_is_token(method, strlen(method)) || strlen(method) > METHOD_MAX)
        return bh_fail(-EINVAL, "http: bad method");
    if (strcmp(method, "CONNECT") == 0)
        return bh_fail(-EINVAL, "http: CONNECT is not offered");
    if (req->url == NULL)
        return bh_fail(-EINVAL, "http: no url");
    if (req->body != NULL && req->source != NULL)
        return bh_fail(-EINVAL, "http: a body both in memory and from a function");
    if (req->trailers != NULL && (req->source == NULL || req->source_length > 0))
        return bh_fail(-EINVAL,
                       "http: trailers need a body from a function, of unknown length");
    if (are_too_many(req->trailers))
        return bh_fail(-EINVAL, "http: more than %d trailers", HC_MAX_TRAILERS);
    rc = check_fields(req->headers, "header field");
    return rc < 0 ? rc : check_fields(req->trailers, "trailer");
}

const char *
hc_request_header(const struct bh_http_req *req, const char *name)
{
    for (const char *const *h = req->headers; h != NULL && h[0] != NULL; h += 2)
        if (strcasecmp(h[0], name) == 0)
            return h[1];
    return NULL;
}

bool
hc_is_idempotent(const struct bh_http_req *req, const char *method)
{
    static const char *const methods[] = { "GET", "HEAD",   "OPTIONS", "TRACE",
                                           "PUT", "DELETE", NULL };

    for (const char *const *m = methods; *m != NULL; m++)
        if (strcmp(method, *m) == 0)
            return true;
    return hc_request_header(req, "Idempotency-Key") != NULL;
}

/* ---- the head ---------------------------------------------------------------------------- */

/* A list that grows in an arena. */
struct list {
    struct bh_arena *arena;
    struct hc_line  *first, **end;
};

static void
add_field(struct list *l, const char *name, const char *value)
{
    struct hc_line *f = bh_arena_alloc(l->arena, sizeof *f);

    *f = (struct hc_line){ NULL, name, value };
    *l->end = f;
    l->end = &f->next;
}

static const char *
basic_credentials(struct bh_arena *arena, const struct bh_url *u)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *plain = bh_arena_print(arena, "%s:%s", u->user, u->password ? u->password : "");
    size_t      size = strlen(plain);
    char *out = bh_arena_alloc(arena, 8 + (size + 2) / 3 * 4), *at = stpcpy(out, "Basic ");

    for (size_t i = 0; i < size; i += 3) {
        uint32_t bits = (uint32_t)(unsigned char)plain[i] << 16;

        if (i + 1 < size)
            bits |= (uint32_t)(unsigned char)plain[i + 1] << 8;
        if (i + 2 < size)
            bits |= (unsigned char)plain[i + 2];
        *at++ = digits[bits >> 18];
        *at++ = digits[bits >> 12 & 63];
        *at++ = i + 1 < size ? digits[bits >> 6 & 63] : '=';
        *at++ = i + 2 < size ? digits[bits & 63] : '=';
    }
    return out;
}

/* Whether a field of the caller's goes along, after the redirects so far. */
static bool
goes_along(const struct hc_res *x, const char *name)
{
    static const char *const secret[] = {
        "Authorization",    "Cookie", "Cookie2", "Proxy-Authorization",
        "WWW-Authenticate", "Host",   NULL
    };
    static const char *const of_body[] = { "Content-Type",     "Content-Encoding",
                                           "Content-Language", "Content-Location",
                                           "Content-Range",    NULL };
    bool                     had_body = x->req->body != NULL || x->req->source != NULL;

    if (x->stripped && is_one_of(name, secret))
        return false;
    return x->with_body || !had_body || !is_one_of(name, of_body);
}

/* How the body is framed; HTTP/2 frames it itself, but the length is worth saying. */
static void
add_framing(struct list *l, const struct hc_res *x, bool http1)
{
    const struct bh_http_req *req = x->req;
    bool expected = strcmp(x->method, "POST") == 0 || strcmp(x->method, "PUT") == 0 ||
                    strcmp(x->method, "PATCH") == 0;
    bool unknown = x->with_body && req->source != NULL && req->source_length <= 0;

    if (unknown && http1)
        add_field(l, "Transfer-Encoding", "chunked");
    if (unknown)
        for (const char *const *h = req->trailers; h != NULL && h[0] != NULL; h += 2)
            add_field(l, "Trailer", h[0]);
    if (!unknown && (x->with_body || expected)) {
        uint64_t length = !x->with_body         ? 0
                          : req->source != NULL ? (uint64_t)req->source_length
                                                : req->body_size;

        add_field(l, "Content-Length",
                  bh_arena_print(l->arena, "%llu", (unsigned long long)length));
    }
    if (x->with_body && req->expect_continue && http1)
        add_field(l, "Expect", "100-continue");
}

struct hc_line *
hc_request_fields(struct hc_res *x, bool http1)
{
    struct list               l = { .arena = x->arena, .end = &l.first };
    const struct bh_http_req *req = x->req;
    const char               *host = x->stripped ? NULL : hc_request_header(req, "Host");

    add_field(&l, http1 ? "Host" : ":authority", host != NULL ? host : x->url.authority);
    if (x->c->o.user_agent[0] != '\0' && hc_request_header(req, "User-Agent") == NULL)
        add_field(&l, "User-Agent", x->c->o.user_agent);
    if (x->url.user != NULL && !x->stripped && hc_request_header(req, "Authorization") == NULL)
        add_field(&l, "Authorization", basic_credentials(x->arena, &x->url));
    if (hc_gunzip_asks(x))
        add_field(&l, "Accept-Encoding", "gzip");
    for (const char *const *h = req->headers; h != NULL && h[0] != NULL; h += 2)
        if (strcasecmp(h[0], "Host") != 0 && goes_along(x, h[0]))
            add_field(&l, h[0], h[1]);
    add_framing(&l, x, http1);
    return l.first;
}

char *
hc_request_head(struct hc_res *x, size_t *size)
{
    const struct hc_line *fields = hc_request_fields(x, true);
    size_t room = strlen(x->method) + strlen(x->url.target) + sizeof "  HTTP/1.1\r\n\r\n";
    char  *text, *at;

    for (const struct hc_line *f = fields; f != NULL; f = f->next)
        room += strlen(f->name) + strlen(f->value) + 4;
    text = bh_arena_alloc(x->arena, room);
    at = stpcpy(stpcpy(stpcpy(stpcpy(text, x->method), " "), x->url.target), " HTTP/1.1\r\n");
    for (const struct hc_line *f = fields; f != NULL; f = f->next)
        at = stpcpy(stpcpy(stpcpy(stpcpy(at, f->name), ": "), f->value), "\r\n");
    *size = (size_t)(stpcpy(at, "\r\n") - text);
    return text;
}
