/*
 * request.c -- what goes on the wire: the check of what the caller wants, and the head.
 *
 * Values often come from elsewhere, so a line break in one is an error and no panic.  What
 * frames the message or concerns the connection is ours to say.  Once a redirect has led
 * to another origin, what is secret is left out, for good: coming back does not bring it back.
 */

#include "client/hc.h"

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

/* ---- checks --------------------------------------------------------------------- */

static const char *const ours[] = {
    "Content-Length", "Transfer-Encoding", "Connection", "Keep-Alive", "Proxy-Connection", "TE",
    "Trailer",        "Upgrade",           "Expect",     NULL,
};

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

/* ---- the head ----------------------------------------------------------------------- */

/* A text that grows in an arena. */
struct text {
    struct bh_arena *arena;
    char            *at;
    size_t           size, room;
};

static void
add(struct text *t, const char *data)
{
    size_t size = strlen(data);

    if (t->size + size > t->room) {
        size_t room = t->room * 2 + size + 512;
        char  *at = bh_arena_alloc(t->arena, room);

        if (t->size > 0)
            memcpy(at, t->at, t->size);
        t->at = at;
        t->room = room;
    }
    memcpy(t->at + t->size, data, size);
    t->size += size;
}

static void
add_field(struct text *t, const char *name, const char *value)
{
    add(t, name);
    add(t, ": ");
    add(t, value);
    add(t, "\r\n");
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

static void
add_framing(struct text *t, const struct hc_res *x)
{
    const struct bh_http_req *req = x->req;
    bool expected = strcmp(x->method, "POST") == 0 || strcmp(x->method, "PUT") == 0 ||
                    strcmp(x->method, "PATCH") == 0;

    if (x->with_body && req->source != NULL && req->source_length <= 0) {
        add_field(t, "Transfer-Encoding", "chunked");
        for (const char *const *h = req->trailers; h != NULL && h[0] != NULL; h += 2)
            add_field(t, "Trailer", h[0]);
    } else if (x->with_body || expected) {
        uint64_t length = !x->with_body         ? 0
                          : req->source != NULL ? (uint64_t)req->source_length
                                                : req->body_size;

        add_field(t, "Content-Length",
                  bh_arena_print(t->arena, "%llu", (unsigned long long)length));
    }
    if (x->with_body && req->expect_continue)
        add_field(t, "Expect", "100-continue");
}

char *
hc_request_head(struct hc_res *x, size_t *size)
{
    struct text               t = { .arena = x->arena };
    const struct bh_http_req *req = x->req;
    const char               *host = x->stripped ? NULL : hc_request_header(req, "Host");

    add(&t, x->method);
    add(&t, " ");
    add(&t, x->url.target);
    add(&t, " HTTP/1.1\r\n");
    add_field(&t, "Host", host != NULL ? host : x->url.authority);
    if (x->c->o.user_agent[0] != '\0' && hc_request_header(req, "User-Agent") == NULL)
        add_field(&t, "User-Agent", x->c->o.user_agent);
    if (x->url.user != NULL && !x->stripped && hc_request_header(req, "Authorization") == NULL)
        add_field(&t, "Authorization", basic_credentials(x->arena, &x->url));
    for (const char *const *h = req->headers; h != NULL && h[0] != NULL; h += 2)
        if (strcasecmp(h[0], "Host") != 0 && goes_along(x, h[0]))
            add_field(&t, h[0], h[1]);
    add_framing(&t, x);
    add(&t, "\r\n");
    *size = t.size;
    return t.at;
}
