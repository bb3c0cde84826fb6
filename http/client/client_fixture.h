#ifndef BULKHEAD_HTTP_CLIENT_FIXTURE_H
#define BULKHEAD_HTTP_CLIENT_FIXTURE_H

/* client_fixture.h -- for tests of the client: a server that shows what arrives. */

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/group.h>
#include <bulkhead/http/client.h>

#include "http_fixture.h"

/* stream_test.c has the same over HTTP/2. */
#ifndef HTTP2
#define HTTP2 false
#endif

/* ---- a server ---------------------------------------------------------------------------- */

FIXTURE int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "hello, %s\n", bh_http_param(c, "name"));
}

/* What arrived, in words. */
FIXTURE int
describe(struct bh_http_call *c, void *arg)
{
    const char *name, *value, *body = "";
    ssize_t     size = bh_http_body(c, &body);

    (void)arg;
    if (size < 0)
        return (int)size;
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_print(c, "%s %s?%s\nfor host %s\n", c->method, c->path, c->query, c->host);
    for (unsigned i = 0; bh_http_header_at(c, i, &name, &value); i++)
        bh_http_print(c, "%s: %s\n", name, value);
    return bh_http_print(c, "[%zd] %.100s trailer %s\n", size, body,
                         bh_http_request_trailer(c, "Sum") ? bh_http_request_trailer(c, "Sum")
                                                           : "none");
}

/* n bytes, by `how`: length, chunks, close. */
FIXTURE int
bytes(struct bh_http_call *c, void *arg)
{
    size_t n = strtoul(bh_http_query(c, "n"), NULL, 10);
    bool   chunks = strcmp(bh_http_query(c, "how"), "chunks") == 0;
    char   block[1000];

    (void)arg;
    bh_http_start(c, 200, "application/octet-stream", chunks ? -1 : (int64_t)n);
    for (size_t i = 0; i < n;) {
        size_t size = n - i < sizeof block ? n - i : sizeof block;

        for (size_t j = 0; j < size; j++)
            block[j] = (char)((i + j) * 7);
        if (bh_http_write(c, block, size) < 0)
            return 0;
        i += size;
    }
    if (chunks)
        (void)bh_http_trailer(c, "Sum", "done");
    return 0;
}

/* Each piece goes back as it comes. */
FIXTURE int
echo(struct bh_http_call *c, void *arg)
{
    char    buffer[5000];
    ssize_t n;

    (void)arg;
    bh_http_start(c, 200, "application/octet-stream", -1);
    while ((n = bh_http_read(c, buffer, sizeof buffer)) > 0)
        if (bh_http_write(c, buffer, (size_t)n) < 0 || bh_http_flush(c) < 0)
            return 0;
    return (int)n;
}

FIXTURE int
refuse(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 403, "no\n");
}

/* /to?status=302&url=... */
FIXTURE int
redirect(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "Location", bh_http_query(c, "url"));
    return bh_http_reply(c, (int)strtol(bh_http_query(c, "status"), NULL, 10), "go there\n");
}

FIXTURE int
loop(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "Location", "/loop");
    return bh_http_reply(c, 302, "again\n");
}

FIXTURE int
sleepy(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)bh_recv(bh_ctx_done(bh_http_ctx(c)), NULL);
    return bh_http_reply(c, 200, "late\n");
}

FIXTURE int
drip(struct bh_http_call *c, void *arg)
{
    bh_http_start(c, 200, "text/plain", 10);
    bh_http_print(c, "12345");
    bh_http_flush(c);
    return sleepy(c, arg);
}

FIXTURE int
busy(struct bh_http_call *c, void *arg)
{
    _Atomic int *left = arg;

    if (atomic_fetch_sub(left, 1) > 0)
        return bh_http_reply(c, 503, "busy\n");
    return bh_http_reply(c, 200, "at last\n");
}

FIXTURE int
put(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 204, "%s", "");
}

/* "hello" in two gzip members, with what is wrong with it. */
FIXTURE int
packed(struct bh_http_call *c, void *arg)
{
    static const char he[] =
        "\x1f\x8b\x08\0\0\0\0\0\2\x03\xcb\x48\x05\0\x87\x66\x25\xd1\x02\0\0\0";
    static const char llo[] =
        "\x1f\x8b\x08\0\0\0\0\0\2\x03\xcb\xc9\xc9\x07\0\x34\xb3\xc9\xaa\x03\0\0\0";
    const char *how = bh_http_query(c, "how"), *accepts = bh_http_header(c, "Accept-Encoding");

    (void)arg;
    if (accepts == NULL || strcmp(accepts, "gzip") != 0)
        return bh_http_reply(c, 200, "plain");
    bh_http_set_header(c, "Content-Encoding", "gzip");
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_write(c, he, sizeof he - 1);
    bh_http_write(c, llo, sizeof llo - 1 - (strcmp(how, "cut") == 0));
    if (strcmp(how, "more") == 0)
        bh_http_write(c, "more", 4);
    return 0;
}

static _Atomic int busy_left;

struct web {
    struct fixture         f;
    struct bh_http_client *c;
    char                   text[512]; /* of the last url */
};

FIXTURE void
web_start(struct web *w, const struct bh_http_client_options *o)
{
    static const char *const methods[] = { "GET", "POST", "PUT", "DELETE", "PATCH" };
    struct bh_http_options so = { .max_body = 64 << 20, .drain_timeout = 20 * BH_MILLISECOND };
    struct bh_http_client_options co = { 0 };
    char                          pattern[40];

    w->f.s = bh_http_server_new(&so);
    bh_http_use(w->f.s, bh_http_recover, NULL);
    bh_http_handle(w->f.s, "GET /hello/{name}", hello, NULL);
    bh_http_handle(w->f.s, "GET /bytes", bytes, NULL);
    bh_http_handle(w->f.s, "POST /echo", echo, NULL);
    bh_http_handle(w->f.s, "POST /refuse", refuse, NULL);
    bh_http_handle(w->f.s, "GET /loop", loop, NULL);
    bh_http_handle(w->f.s, "GET /sleepy", sleepy, NULL);
    bh_http_handle(w->f.s, "GET /drip", drip, NULL);
    bh_http_handle(w->f.s, "GET /busy", busy, &busy_left);
    bh_http_handle(w->f.s, "POST /busy", busy, &busy_left);
    bh_http_handle(w->f.s, "PUT /none", put, NULL);
    bh_http_handle(w->f.s, "GET /packed", packed, NULL);
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++) {
        snprintf(pattern, sizeof pattern, "%s /describe", methods[i]);
        bh_http_handle(w->f.s, pattern, describe, NULL);
        snprintf(pattern, sizeof pattern, "%s /to", methods[i]);
        bh_http_handle(w->f.s, pattern, redirect, NULL);
    }
    fixture_start(&w->f);
    if (o != NULL)
        co = *o;
    co.h2c = HTTP2;
    w->c = bh_http_client_new(&co);
}

FIXTURE void
web_stop(struct web *w)
{
    bh_http_client_free(w->c);
    EXPECT_EQ(fixture_stop(&w->f), 0);
}

FIXTURE const char *
at(struct web *w, const char *path)
{
    snprintf(w->text, sizeof w->text, "http://%s%s", bh_http_address(w->f.s), path);
    return w->text;
}

/* Send; the body's text stays good as long as the reply is open. */
FIXTURE struct bh_http_res *
ok(struct web *w, const struct bh_http_req *req, const char **body)
{
    struct bh_http_res *res = NULL;
    int                 rc = bh_http_client_do(bh_ctx_background(), w->c, req, &res);

    if (rc < 0)
        test_failed(__FILE__, __LINE__, "%s: %s (%s)", req->url, bh_error_text(rc),
                    bh_error_note());
    if (body != NULL && bh_http_res_body(res, 64 << 20, body) < 0)
        test_failed(__FILE__, __LINE__, "%s: body: %s", req->url, bh_error_note());
    return res;
}

FIXTURE struct bh_http_client_stats
stats_of(struct web *w)
{
    struct bh_http_client_stats s;

    bh_http_client_stats(w->c, &s);
    return s;
}

/* Field names are small letters in HTTP/2. */
FIXTURE int
count_any_case(const char *text, const char *part)
{
    int n = 0;

    for (const char *p = strcasestr(text, part); p != NULL; p = strcasestr(p + 1, part))
        n++;
    return n;
}

#define EXPECT_FIELD(text, part)                                                               \
    (strcasestr((text), (part)) != NULL                                                        \
         ? (void)0                                                                             \
         : test_failed(__FILE__, __LINE__, "no \"%s\" in %s", (part), (text)))

/* Connections kept for the next request; one of HTTP/2 is, whatever became of a request. */
FIXTURE uint64_t
kept(struct web *w)
{
    return HTTP2 ? stats_of(w).open : stats_of(w).idle;
}

#define CLOSED (HTTP2 ? 1 : 0)

/* ---- bodies from a function */

struct source {
    size_t at, size, step, fail_at;
    int    rewinds;
    bool   panics;
};

FIXTURE ssize_t
source_read(void *arg, void *buffer, size_t size)
{
    struct source *s = arg;
    size_t         n = s->size - s->at;

    if (s->fail_at > 0 && s->at >= s->fail_at) {
        if (s->panics)
            bh_panic("source broke");
        return -EIO;
    }
    n = n < s->step ? n : s->step;
    n = n < size ? n : size;
    for (size_t i = 0; i < n; i++)
        ((char *)buffer)[i] = (char)((s->at + i) * 7);
    s->at += n;
    return (ssize_t)n;
}

FIXTURE int
source_rewind(void *arg)
{
    struct source *s = arg;

    s->at = 0;
    s->rewinds++;
    return 0;
}

#endif
