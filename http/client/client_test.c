/* client_test.c -- the client against our own server. */

#include <errno.h>
#include <stdatomic.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/own.h>
#include <bulkhead/http/client.h>

#include "http_fixture.h"

/* stream_test.c has the same over HTTP/2. */
#ifndef HTTP2
#define HTTP2 false
#endif

/* ---- a server ---------------------------------------------------------------------------- */

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "hello, %s\n", bh_http_param(c, "name"));
}

/* What arrived, in words. */
static int
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
static int
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
static int
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

static int
refuse(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 403, "no\n");
}

/* /to?status=302&url=... */
static int
redirect(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "Location", bh_http_query(c, "url"));
    return bh_http_reply(c, atoi(bh_http_query(c, "status")), "go there\n");
}

static int
loop(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "Location", "/loop");
    return bh_http_reply(c, 302, "again\n");
}

static int
sleepy(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)bh_recv(bh_ctx_done(bh_http_ctx(c)), NULL);
    return bh_http_reply(c, 200, "late\n");
}

static int
drip(struct bh_http_call *c, void *arg)
{
    bh_http_start(c, 200, "text/plain", 10);
    bh_http_print(c, "12345");
    bh_http_flush(c);
    return sleepy(c, arg);
}

static int
busy(struct bh_http_call *c, void *arg)
{
    _Atomic int *left = arg;

    if (atomic_fetch_sub(left, 1) > 0)
        return bh_http_reply(c, 503, "busy\n");
    return bh_http_reply(c, 200, "at last\n");
}

static int
put(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 204, "%s", "");
}

static _Atomic int busy_left;

struct web {
    struct fixture         f;
    struct bh_http_client *c;
    char                   text[512]; /* of the last url */
};

static void
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

static void
web_stop(struct web *w)
{
    bh_http_client_free(w->c);
    EXPECT_EQ(fixture_stop(&w->f), 0);
}

static const char *
at(struct web *w, const char *path)
{
    snprintf(w->text, sizeof w->text, "http://%s%s", bh_http_address(w->f.s), path);
    return w->text;
}

/* Send; the body's text stays good as long as the reply is open. */
static struct bh_http_res *
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

static struct bh_http_client_stats
stats_of(struct web *w)
{
    struct bh_http_client_stats s;

    bh_http_client_stats(w->c, &s);
    return s;
}

/* Field names are small letters in HTTP/2. */
static int
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
static uint64_t
kept(struct web *w)
{
    return HTTP2 ? stats_of(w).open : stats_of(w).idle;
}

#define CLOSED (HTTP2 ? 1 : 0)

/* ---- requests and replies ---------------------------------------------------------------- */

TEST_REAL(client, a_get_brings_status_headers_and_body)
{
    struct web          w;
    struct bh_http_res *res;
    const char         *body, *name, *value;

    web_start(&w, NULL);
    EXPECT_EQ(bh_http_client_get(bh_ctx_background(), w.c, at(&w, "/hello/you#top"), &res), 0);
    EXPECT_EQ(res->status, 200);
    EXPECT_EQ(res->version, HTTP2 ? 20 : 11);
    EXPECT_EQ(res->length, 11);
    EXPECT_STR(res->url, at(&w, "/hello/you"));
    EXPECT_STR(bh_http_res_header(res, "content-length"), "11");
    EXPECT(bh_http_res_header(res, "x-none") == NULL);
    EXPECT(bh_http_res_header_at(res, 0, &name, &value));
    EXPECT(!bh_http_res_header_at(res, 100, &name, &value));
    EXPECT_EQ(bh_http_res_body(res, 100, &body), 11);
    EXPECT_STR(body, "hello, you\n");
    EXPECT_EQ(bh_http_res_read(res, &(char){ 0 }, 1), 0);
    bh_http_res_close(res);
    bh_http_res_close(NULL);
    web_stop(&w);
}

TEST_REAL(client, a_status_is_no_error)
{
    struct web          w;
    struct bh_http_res *res;

    web_start(&w, NULL);
    EXPECT_EQ(bh_http_client_get(bh_ctx_background(), w.c, at(&w, "/none"), &res), 0);
    EXPECT_EQ(res->status, 405);
    bh_http_res_close(res);
    web_stop(&w);
}

TEST_REAL(client, a_request_carries_method_headers_and_body)
{
    struct web          w;
    struct bh_http_res *res;
    const char         *body;
    struct bh_http_req  req = { .method = "PUT", .body = "content", .body_size = 7 };

    web_start(&w, NULL);
    req.url = at(&w, "/describe?a=b");
    req.headers = BH_HTTP_HEADERS("X-One", "1", "Content-Type", "text/x");
    res = ok(&w, &req, &body);
    EXPECT_STARTS(body, "PUT /describe?a=b\n");
    EXPECT_FIELD(body, "host 127.0.0.1:");
    EXPECT_FIELD(body, "User-Agent: bulkhead/");
    EXPECT_FIELD(body, "X-One: 1\nContent-Type: text/x\nContent-Length: 7\n[7] content");
    bh_http_res_close(res);
    res = ok(&w, &(struct bh_http_req){ .method = "POST", .url = at(&w, "/describe") }, &body);
    EXPECT_FIELD(body, "Content-Length: 0\n[0]");
    bh_http_res_close(res);
    res = ok(&w,
             &(struct bh_http_req){
                 .url = at(&w, "/describe"),
                 .headers = BH_HTTP_HEADERS("Host", "other.example", "User-Agent", "me") },
             &body);
    EXPECT_HAS(body, "host other.example\n");
    EXPECT_FIELD(body, "User-Agent: me\n");
    EXPECT_EQ(count_any_case(body, "host other"), 1);
    EXPECT_EQ(count_any_case(body, "User-Agent"), 1);
    EXPECT_EQ(count_any_case(body, "Content-Length"), 0);
    bh_http_res_close(res);
    EXPECT_EQ(bh_http_client_post(bh_ctx_background(), w.c, at(&w, "/describe"), "text/y",
                                  "abc", 3, &res),
              0);
    EXPECT(bh_http_res_body(res, 1000, &body) > 0);
    EXPECT_FIELD(body, "Content-Type: text/y\nContent-Length: 3\n[3] abc");
    bh_http_res_close(res);
    web_stop(&w);
}

TEST_REAL(client, credentials_in_the_url_become_a_field)
{
    struct web          w;
    struct bh_http_res *res;
    const char         *body;
    char                url[100];

    web_start(&w, NULL);
    snprintf(url, sizeof url, "http://Aladdin:open%%20sesame@%s/describe",
             bh_http_address(w.f.s));
    res = ok(&w, &(struct bh_http_req){ .url = url }, &body);
    EXPECT_FIELD(body, "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\n");
    EXPECT_STR(res->url, at(&w, "/describe"));
    bh_http_res_close(res);
    res = ok(
        &w,
        &(struct bh_http_req){ .url = url, .headers = BH_HTTP_HEADERS("authorization", "x") },
        &body);
    EXPECT_FIELD(body, "authorization: x\n");
    EXPECT_EQ(count_any_case(body, "Basic"), 0);
    bh_http_res_close(res);
    web_stop(&w);
}

TEST_REAL(client, requests_that_cannot_be_sent_are_errors)
{
    struct web          w;
    struct bh_http_res *res = NULL;
    struct bh_ctx      *ctx = bh_ctx_background();
    const char *const   bad[][4] = { { "X-A\r\n", "b", NULL },
                                     { "A", "b\r\nC: d", NULL },
                                     { "A B", "c", NULL },
                                     { "", "c", NULL },
                                     { "A", NULL, NULL },
                                     { "Content-Length", "1", NULL },
                                     { "transfer-encoding", "chunked", NULL },
                                     { "Connection", "close", NULL },
                                     { "A", "b\001", NULL } };

    web_start(&w, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT_EQ(
            bh_http_client_do(
                ctx, w.c, &(struct bh_http_req){ .url = at(&w, "/"), .headers = bad[i] }, &res),
            -EINVAL);
    EXPECT_EQ(bh_http_client_do(
                  ctx, w.c, &(struct bh_http_req){ .url = at(&w, "/"), .method = "A B" }, &res),
              -EINVAL);
    EXPECT_EQ(
        bh_http_client_do(
            ctx, w.c, &(struct bh_http_req){ .url = at(&w, "/"), .method = "CONNECT" }, &res),
        -EINVAL);
    EXPECT_EQ(bh_http_client_do(ctx, w.c, &(struct bh_http_req){ .method = "GET" }, &res),
              -EINVAL);
    EXPECT_EQ(bh_http_client_get(ctx, w.c, "http://a b/", &res), -EINVAL);
    EXPECT_EQ(bh_http_client_get(ctx, w.c, "ftp://a/", &res), -EPROTONOSUPPORT);
    EXPECT(res == NULL);
    EXPECT_EQ(stats_of(&w).sent, 0);
    web_stop(&w);
}

static void
expect_bytes(struct web *w, const char *how, size_t n, size_t step)
{
    struct bh_http_res *res;
    char                path[60], *buffer = malloc(step);
    size_t              have = 0;
    ssize_t             got;

    snprintf(path, sizeof path, "/bytes?how=%s&n=%zu", how, n);
    res = ok(w, &(struct bh_http_req){ .url = at(w, path) }, NULL);
    while ((got = bh_http_res_read(res, buffer, step)) > 0)
        for (ssize_t i = 0; i < got; i++, have++)
            EXPECT_EQ(buffer[i], (char)(have * 7));
    EXPECT_EQ(got, 0);
    EXPECT_EQ(have, n);
    if (strcmp(how, "chunks") == 0 && n > 20000)
        EXPECT_STR(bh_http_res_trailer(res, "sum"), "done");
    EXPECT(bh_http_res_trailer(res, "other") == NULL);
    bh_http_res_close(res);
    free(buffer);
}

TEST_REAL(client, bodies_of_any_size_come_whole)
{
    static const size_t sizes[] = { 0, 1, 4095, 4096, 16384, 100000, 3000000 };
    struct web          w;

    web_start(&w, NULL);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        expect_bytes(&w, "length", sizes[i], 7000);
        expect_bytes(&w, "chunks", sizes[i], 7000);
        expect_bytes(&w, "chunks", sizes[i], 1 << 20);
        if (sizes[i] < 20000)
            expect_bytes(&w, "chunks", sizes[i], 1);
    }
    EXPECT_EQ(stats_of(&w).dials, 1);
    web_stop(&w);
}

TEST_REAL(client, a_whole_body_has_a_limit)
{
    struct web          w;
    struct bh_http_res *res;
    const char         *body;

    web_start(&w, NULL);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/bytes?how=length&n=5000") }, NULL);
    EXPECT_EQ(bh_http_res_body(res, 4999, &body), -EMSGSIZE);
    EXPECT_EQ(bh_http_res_body(res, 5000, &body), 5000);
    bh_http_res_close(res);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/bytes?how=chunks&n=50000") }, NULL);
    EXPECT_EQ(bh_http_res_body(res, 49999, &body), -EMSGSIZE);
    bh_http_res_close(res);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/bytes?how=chunks&n=50000") }, NULL);
    EXPECT_EQ(bh_http_res_body(res, 50000, &body), 50000);
    bh_http_res_close(res);
    web_stop(&w);
}

TEST_REAL(client, head_and_204_have_no_body)
{
    struct web          w;
    struct bh_http_res *res;
    const char         *body;

    web_start(&w, NULL);
    res = ok(&w, &(struct bh_http_req){ .method = "HEAD", .url = at(&w, "/hello/you") }, &body);
    EXPECT_EQ(res->length, 0);
    EXPECT_STR(body, "");
    EXPECT_STR(bh_http_res_header(res, "Content-Length"), "11");
    bh_http_res_close(res);
    res = ok(&w, &(struct bh_http_req){ .method = "PUT", .url = at(&w, "/none") }, &body);
    EXPECT_EQ(res->status, 204);
    EXPECT_STR(body, "");
    bh_http_res_close(res);
    EXPECT_EQ(stats_of(&w).dials, 1);
    web_stop(&w);
}

/* ---- bodies of requests ------------------------------------------------------------------ */

struct source {
    size_t at, size, step, fail_at;
    int    rewinds;
    bool   panics;
};

static ssize_t
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

static int
source_rewind(void *arg)
{
    struct source *s = arg;

    s->at = 0;
    s->rewinds++;
    return 0;
}

static void
expect_echo(struct web *w, const struct bh_http_req *req, size_t size)
{
    const char         *body;
    struct bh_http_res *res = ok(w, req, NULL);

    EXPECT_EQ(bh_http_res_body(res, 64 << 20, &body), size);
    for (size_t i = 0; i < size; i++)
        if (body[i] != (char)(i * 7))
            test_failed(__FILE__, __LINE__, "byte %zu differs", i);
    bh_http_res_close(res);
}

TEST_REAL(client, bodies_are_sent_from_memory_and_from_functions)
{
    static const size_t sizes[] = { 1, 8191, 8193, 65536, 65537, 2000000 };
    struct web          w;
    struct source       s = { .step = 10000 };
    struct bh_http_req  req = { .method = "POST" };
    char               *data = malloc(sizes[5]);

    web_start(&w, NULL);
    req.url = at(&w, "/echo");
    for (size_t i = 0; i < sizes[5]; i++)
        data[i] = (char)(i * 7);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        req.source = NULL;
        req.body = data;
        req.body_size = sizes[i];
        expect_echo(&w, &req, sizes[i]);
        req.body = NULL;
        req.source = source_read;
        req.source_arg = &s;
        s.size = sizes[i];
        s.at = 0;
        req.source_length = -1;
        expect_echo(&w, &req, sizes[i]);
        s.at = 0;
        req.source_length = (int64_t)sizes[i];
        expect_echo(&w, &req, sizes[i]);
        EXPECT(sizes[i] > 100000 ||
               stats_of(&w).dials == 1); /* the server closes after large ones */
    }
    free(data);
    web_stop(&w);
}

TEST_REAL(client, trailers_follow_a_body_in_chunks)
{
    struct web          w;
    struct bh_http_res *res;
    const char         *body, *trailers[] = { "Sum", "", NULL };
    struct source       s = { .size = 10, .step = 3 };
    struct bh_http_req  req = { .method = "POST", .source = source_read, .source_arg = &s };

    web_start(&w, NULL);
    req.url = at(&w, "/describe");
    req.trailers = trailers;
    trailers[1] = "7";
    res = ok(&w, &req, &body);
    if (!HTTP2)
        EXPECT_FIELD(body, "Transfer-Encoding: chunked\n");
    EXPECT_FIELD(body, "Trailer: Sum\n");
    EXPECT_HAS(body, "[10]");
    EXPECT_HAS(body, "trailer 7\n");
    bh_http_res_close(res);
    s.at = 0;
    trailers[1] = "a\r\nb";
    EXPECT_EQ(bh_http_client_do(bh_ctx_background(), w.c, &req, &res), -EINVAL);
    web_stop(&w);
}

TEST_REAL(client, a_source_that_fails_fails_the_request)
{
    struct web          w;
    struct bh_http_res *res = NULL;
    struct source       s = { .size = 100000, .step = 1000, .fail_at = 50000 };
    struct bh_http_req  req = { .method = "POST", .source = source_read, .source_arg = &s };

    web_start(&w, NULL);
    req.url = at(&w, "/describe");
    EXPECT_EQ(bh_http_client_do(bh_ctx_background(), w.c, &req, &res), -EIO);
    EXPECT_HAS(bh_error_note(), "body of the request");
    s.at = 0;
    req.source_length = 100000;
    EXPECT_EQ(bh_http_client_do(bh_ctx_background(), w.c, &req, &res), -EIO);
    s.at = 0;
    s.fail_at = 0;
    req.source_length = 100001;
    EXPECT_EQ(bh_http_client_do(bh_ctx_background(), w.c, &req, &res), -EINVAL);
    EXPECT_HAS(bh_error_note(), "shorter than its length");
    EXPECT(res == NULL);
    EXPECT_EQ(stats_of(&w).open, CLOSED);
    web_stop(&w);
}

TEST_REAL(client, a_source_that_panics_fails_only_the_request)
{
    struct web          w;
    struct bh_http_res *res = NULL;
    struct source       s = { .size = 100000, .step = 1000, .fail_at = 50000, .panics = true };
    struct bh_http_req  req = { .method = "POST", .source = source_read, .source_arg = &s };

    web_start(&w, NULL);
    req.url = at(&w, "/describe");
    EXPECT_EQ(bh_http_client_do(bh_ctx_background(), w.c, &req, &res), BH_EPANIC);
    EXPECT_EQ(stats_of(&w).open, CLOSED);
    web_stop(&w);
}

TEST_REAL(client, a_body_can_be_asked_for_first)
{
    struct web          w;
    struct bh_http_res *res;
    const char         *body;
    struct source       s = { .size = 100000, .step = 1000 };
    struct bh_http_req  req = { .method = "POST", .source = source_read, .source_arg = &s };

    web_start(&w, NULL);
    req.expect_continue = true;
    req.url = at(&w, "/echo");
    expect_echo(&w, &req, 100000);
    EXPECT_EQ(kept(&w), 1);
    s.at = 0;
    req.url = at(&w, "/refuse");
    res = ok(&w, &req, &body);
    EXPECT_EQ(res->status, 403);
    EXPECT_STR(body, "no\n");
    EXPECT(HTTP2 || s.at == 0); /* nobody read it; in HTTP/2 nobody asks */
    bh_http_res_close(res);
    EXPECT_EQ(stats_of(&w).open, CLOSED);
    web_stop(&w);
}

TEST_REAL(client, a_reply_before_the_end_of_the_body_is_a_reply)
{
    struct web          w;
    struct bh_http_res *res;
    struct source       s = { .size = 20 << 20, .step = 1 << 20 };
    struct bh_http_req  req = { .method = "POST", .source = source_read, .source_arg = &s };

    web_start(&w, NULL);
    req.url = at(&w, "/refuse");
    res = ok(&w, &req, NULL);
    EXPECT_EQ(res->status, 403);
    bh_http_res_close(res);
    web_stop(&w);
}

/* ---- the pool ---------------------------------------------------------------------------- */

TEST_REAL(client, connections_serve_again)
{
    struct web          w;
    struct bh_http_res *res;
    const char         *body;

    web_start(&w, NULL);
    for (int i = 0; i < 5; i++) {
        res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/hello/you") }, &body);
        EXPECT_EQ(res->reused, i > 0);
        EXPECT_EQ(kept(&w), 1); /* given back at the end of the body */
        bh_http_res_close(res);
    }
    EXPECT_EQ(stats_of(&w).dials, 1);
    bh_http_client_close_idle(w.c);
    EXPECT_EQ(stats_of(&w).open, CLOSED);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/hello/you") }, &body);
    EXPECT(!res->reused);
    bh_http_res_close(res);
    web_stop(&w);
}

TEST_REAL(client, a_small_rest_of_a_body_is_read_away_a_large_one_is_not)
{
    struct web          w;
    struct bh_http_res *res;
    char                byte;

    web_start(&w, NULL);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/bytes?how=length&n=3000") }, NULL);
    EXPECT_EQ(bh_http_res_read(res, &byte, 1), 1);
    bh_http_res_close(res);
    EXPECT_EQ(kept(&w), 1);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/bytes?how=length&n=30000000") }, NULL);
    EXPECT_EQ(bh_http_res_read(res, &byte, 1), 1);
    bh_http_res_close(res);
    EXPECT_EQ(stats_of(&w).open, CLOSED);
    web_stop(&w);
}

static int
one_get(struct bh_ctx *ctx, void *arg)
{
    struct web         *w = *(struct web **)arg;
    struct bh_http_res *res;
    const char         *body;
    char                url[100];
    int                 rc;

    for (int i = 0; i < 20; i++) {
        snprintf(url, sizeof url, "http://%s/hello/you", bh_http_address(w->f.s));
        rc = bh_http_client_get(ctx, w->c, url, &res);
        if (rc < 0)
            return rc;
        EXPECT_EQ(bh_http_res_body(res, 100, &body), 11);
        bh_http_res_close(res);
    }
    return 0;
}

TEST_REAL(client, requests_wait_for_a_connection_at_the_limit)
{
    struct bh_http_client_options o = { .max_per_host = 3 };
    struct web                    w, *arg = &w;
    struct bh_group               g;

    web_start(&w, &o);
    bh_group_init(&g, bh_ctx_background());
    for (int i = 0; i < 20; i++)
        bh_group_go(&g, one_get, &arg);
    EXPECT_EQ(bh_group_wait(&g), 0);
    EXPECT(stats_of(&w).dials <= 3);
    EXPECT_EQ(stats_of(&w).requests, 400);
    EXPECT_EQ(kept(&w), stats_of(&w).open);
    web_stop(&w);
}

#if !HTTP2

TEST_REAL(client, waiting_for_a_connection_ends_with_the_context)
{
    struct bh_http_client_options o = { .max_per_host = 1 };
    struct web                    w;
    struct bh_http_res           *res, *second = NULL;
    struct bh_ctx *ctx = bh_ctx_timeout(bh_ctx_background(), 20 * BH_MILLISECOND);
    const char    *body;

    web_start(&w, &o);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/hello/you") }, NULL);
    EXPECT_EQ(bh_http_client_get(ctx, w.c, at(&w, "/hello/me"), &second), BH_EDEADLINE);
    EXPECT_HAS(bh_error_note(), "waiting for one of 1 connections");
    bh_ctx_end(ctx);
    EXPECT(bh_http_res_body(res, 100, &body) > 0);
    second = ok(&w, &(struct bh_http_req){ .url = at(&w, "/hello/me") }, &body);
    EXPECT_STR(body, "hello, me\n");
    bh_http_res_close(second);
    bh_http_res_close(res);
    EXPECT_EQ(stats_of(&w).dials, 1);
    web_stop(&w);
}

TEST_REAL(client, unused_connections_are_closed_in_time_and_beyond_a_number)
{
    struct bh_http_client_options o = { .idle_timeout = 20 * BH_MILLISECOND, .max_idle = 2 };
    struct web                    w;
    struct bh_http_res           *res[4];
    const char                   *body;

    web_start(&w, &o);
    for (int i = 0; i < 4; i++)
        res[i] = ok(&w, &(struct bh_http_req){ .url = at(&w, "/hello/you") }, NULL);
    EXPECT_EQ(stats_of(&w).open, 4);
    for (int i = 0; i < 4; i++) {
        EXPECT(bh_http_res_body(res[i], 100, &body) > 0);
        bh_http_res_close(res[i]);
    }
    EXPECT(stats_of(&w).open <= 2);
    while (stats_of(&w).open > 0)
        bh_sleep(BH_MILLISECOND);
    web_stop(&w);
}

#endif

TEST_REAL(client, a_client_in_use_is_not_freed)
{
    struct web          w;
    struct bh_http_res *res;

    web_start(&w, NULL);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/hello/you") }, NULL);
    EXPECT_PANIC("http: client freed while 1 replies are open", bh_http_client_free(w.c));
    bh_http_res_close(res);
    web_stop(&w);
}

/* ---- contexts ---------------------------------------------------------------------------- */

TEST_REAL(client, a_deadline_ends_the_wait_for_the_head_and_for_the_body)
{
    struct web          w;
    struct bh_http_res *res = NULL;
    struct bh_ctx      *ctx = bh_ctx_timeout(bh_ctx_background(), 20 * BH_MILLISECOND);
    const char         *body;

    web_start(&w, NULL);
    EXPECT_EQ(bh_http_client_get(ctx, w.c, at(&w, "/sleepy"), &res), BH_EDEADLINE);
    EXPECT_EQ(bh_http_client_get(ctx, w.c, at(&w, "/sleepy"), &res),
              BH_EDEADLINE); /* over before */
    bh_ctx_end(ctx);
    ctx = bh_ctx_timeout(bh_ctx_background(), 50 * BH_MILLISECOND);
    EXPECT_EQ(bh_http_client_get(ctx, w.c, at(&w, "/drip"), &res), 0);
    EXPECT_EQ(bh_http_res_body(res, 100, &body), BH_EDEADLINE);
    EXPECT_EQ(bh_http_res_read(res, &(char){ 0 }, 1), BH_EDEADLINE); /* stays so */
    bh_http_res_close(res);
    bh_ctx_end(ctx);
    EXPECT_EQ(stats_of(&w).open, CLOSED);
    web_stop(&w);
}

struct cancel {
    struct bh_ctx *ctx;
};

static void
cancel_soon(void *arg)
{
    bh_sleep(10 * BH_MILLISECOND);
    bh_ctx_cancel(((struct cancel *)arg)->ctx);
}

TEST_REAL(client, cancelling_ends_a_request)
{
    struct web          w;
    struct bh_http_res *res = NULL;
    struct bh_ctx      *ctx = bh_ctx_cancellable(bh_ctx_background());

    web_start(&w, NULL);
    bh_go(cancel_soon, &(struct cancel){ ctx });
    EXPECT_EQ(bh_http_client_get(ctx, w.c, at(&w, "/sleepy"), &res), BH_ECANCELED);
    EXPECT(res == NULL);
    bh_ctx_end(ctx);
    web_stop(&w);
}

TEST_REAL(client, a_context_that_ended_later_leaves_the_connection_good)
{
    struct web          w;
    struct bh_http_res *res;
    struct bh_ctx      *ctx = bh_ctx_cancellable(bh_ctx_background());
    const char         *body;

    web_start(&w, NULL);
    EXPECT_EQ(bh_http_client_get(ctx, w.c, at(&w, "/hello/you"), &res), 0);
    EXPECT(bh_http_res_body(res, 100, &body) > 0);
    bh_ctx_cancel(ctx);
    bh_http_res_close(res);
    bh_ctx_unref(ctx);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/hello/you") }, &body);
    EXPECT(res->reused);
    bh_http_res_close(res);
    web_stop(&w);
}

TEST_REAL(client, the_clients_own_times_end_a_request)
{
    struct bh_http_client_options o = { .head_timeout = 20 * BH_MILLISECOND,
                                        .read_timeout = 20 * BH_MILLISECOND };
    struct web                    w;
    struct bh_http_res           *res = NULL;
    const char                   *body;

    web_start(&w, &o);
    EXPECT_EQ(bh_http_client_get(bh_ctx_background(), w.c, at(&w, "/sleepy"), &res),
              BH_EDEADLINE);
    EXPECT_HAS(bh_error_note(), "did not reply in time");
    EXPECT_EQ(bh_http_client_get(bh_ctx_background(), w.c, at(&w, "/drip"), &res), 0);
    EXPECT_EQ(bh_http_res_body(res, 100, &body), BH_EDEADLINE);
    bh_http_res_close(res);
    web_stop(&w);
}

static void
panic_with_a_reply_open(struct web *w)
{
    struct bh_http_res *res = ok(w, &(struct bh_http_req){ .url = at(w, "/drip") }, NULL);

    BH_DEFER(bh_http_res_close, res);
    bh_panic("oops");
}

TEST_REAL(client, a_panic_with_a_reply_open_leaks_nothing)
{
    struct web w;

    web_start(&w, NULL);
    EXPECT_PANIC("oops", panic_with_a_reply_open(&w));
    EXPECT_EQ(stats_of(&w).open, CLOSED);
    web_stop(&w); /* would panic */
}

/* ---- redirects --------------------------------------------------------------------------- */

static struct bh_http_res *
redirected(struct web *w, const char *method, int status, const char **body)
{
    char               path[64];
    struct bh_http_req req = { .method = method, .body = "content", .body_size = 7 };

    snprintf(path, sizeof path, "/to?status=%d&url=/describe%%3Fx", status);
    req.url = at(w, path);
    req.headers = BH_HTTP_HEADERS("Content-Type", "text/x", "Cookie", "c", "X", "y");
    return ok(w, &req, body);
}

TEST_REAL(client, redirects_keep_or_change_the_method)
{
    static const struct {
        const char *method;
        int         status;
        const char *then;
    } cases[] = {
        { "POST", 301, "GET" },    { "POST", 302, "GET" },      { "POST", 303, "GET" },
        { "POST", 307, "POST" },   { "POST", 308, "POST" },     { "PUT", 301, "PUT" },
        { "PUT", 303, "GET" },     { "DELETE", 302, "DELETE" }, { "DELETE", 307, "DELETE" },
        { "PATCH", 308, "PATCH" },
    };
    struct web          w;
    struct bh_http_res *res;
    const char         *body;

    web_start(&w, NULL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        bool same = strcmp(cases[i].method, cases[i].then) == 0;

        res = redirected(&w, cases[i].method, cases[i].status, &body);
        EXPECT_STARTS(body, cases[i].then);
        EXPECT_HAS(body, " /describe?x\n");
        EXPECT_FIELD(body, "Cookie: c\n");
        EXPECT_EQ(count_any_case(body, "Content-Type: text/x"), same);
        EXPECT_EQ(count_any_case(body, "Content-Length: 7"), same);
        EXPECT_EQ(count_of(body, "[7] content"), same);
        EXPECT_EQ(res->redirects, 1);
        EXPECT_STR(res->url, at(&w, "/describe?x"));
        bh_http_res_close(res);
    }
    EXPECT_EQ(stats_of(&w).dials, 1);
    web_stop(&w);
}

TEST_REAL(client, a_source_is_rewound_for_a_redirect_or_the_redirect_is_the_reply)
{
    struct web          w;
    struct bh_http_res *res;
    const char         *body;
    struct source       s = { .size = 10, .step = 3 };
    struct bh_http_req  req = { .method = "POST", .source = source_read, .source_arg = &s };

    web_start(&w, NULL);
    req.url = at(&w, "/to?status=307&url=/describe");
    res = ok(&w, &req, &body);
    EXPECT_EQ(res->status, 307);
    EXPECT_STR(body, "go there\n");
    bh_http_res_close(res);
    s.at = 0;
    req.rewind = source_rewind;
    res = ok(&w, &req, &body);
    EXPECT_EQ(res->status, 200);
    EXPECT_HAS(body, "[10]");
    EXPECT_EQ(s.rewinds, 1);
    bh_http_res_close(res);
    web_stop(&w);
}

TEST_REAL(client, redirects_end)
{
    struct bh_http_client_options o = { .no_redirects = true };
    struct web                    w;
    struct bh_http_client        *plain;
    struct bh_http_res           *res = NULL;

    web_start(&w, NULL);
    EXPECT_EQ(bh_http_client_get(bh_ctx_background(), w.c, at(&w, "/loop"), &res), -ELOOP);
    EXPECT_EQ(stats_of(&w).sent, 11);
    EXPECT_EQ(bh_http_client_get(bh_ctx_background(), w.c, at(&w, "/to?status=302&url=ftp://x"),
                                 &res),
              -EPROTONOSUPPORT);
    EXPECT_EQ(
        bh_http_client_get(bh_ctx_background(), w.c, at(&w, "/to?status=302&url=//x:y/"), &res),
        -EINVAL);
    EXPECT(res == NULL);
    plain = bh_http_client_new(&o);
    EXPECT_EQ(bh_http_client_get(bh_ctx_background(), plain, at(&w, "/loop"), &res), 0);
    EXPECT_EQ(res->status, 302);
    bh_http_res_close(res);
    bh_http_client_free(plain);
    web_stop(&w);
}

TEST_REAL(client, secrets_do_not_follow_to_another_origin_nor_back)
{
    struct web          w, other;
    struct bh_http_res *res;
    const char         *body;
    char                path[300];
    struct bh_http_req  req = { 0 };

    web_start(&w, NULL);
    web_start(&other, NULL);
    req.headers =
        BH_HTTP_HEADERS("authorization", "a", "Cookie", "c", "X", "y", "Host", "named.example");
    snprintf(path, sizeof path, "/to?status=302&url=http://%s/describe",
             bh_http_address(other.f.s));
    req.url = at(&w, path);
    res = ok(&w, &req, &body);
    EXPECT_EQ(count_any_case(body, "uthorization"), 0);
    EXPECT_EQ(count_any_case(body, "Cookie"), 0);
    EXPECT_FIELD(body, "X: y\n");
    EXPECT_EQ(count_of(body, "named.example"), 0);
    EXPECT_HAS(body, bh_http_address(other.f.s));
    bh_http_res_close(res);
    /* there and back again */
    snprintf(path, sizeof path,
             "/to?status=302&url=http://%s/to%%3Fstatus%%3D302%%26url%%3Dhttp://%s/describe",
             bh_http_address(other.f.s), bh_http_address(w.f.s));
    req.url = at(&w, path);
    res = ok(&w, &req, &body);
    EXPECT_EQ(res->redirects, 2);
    EXPECT_EQ(count_any_case(body, "uthorization"), 0);
    EXPECT_EQ(count_any_case(body, "Cookie"), 0);
    bh_http_res_close(res);
    /* credentials of the URL are secret as well */
    snprintf(path, sizeof path, "http://u:p@%s/to?status=302&url=http://%s/describe",
             bh_http_address(w.f.s), bh_http_address(other.f.s));
    res = ok(&w, &(struct bh_http_req){ .url = path }, &body);
    EXPECT_EQ(count_any_case(body, "Authorization"), 0);
    bh_http_res_close(res);
    snprintf(path, sizeof path, "http://u:p@%s/to?status=302&url=/describe",
             bh_http_address(w.f.s));
    res = ok(&w, &(struct bh_http_req){ .url = path }, &body);
    EXPECT_FIELD(body, "Authorization: Basic dTpw\n");
    bh_http_res_close(res);
    web_stop(&other);
    web_stop(&w);
}

/* ---- retries ----------------------------------------------------------------------------- */

TEST_REAL(client, statuses_are_retried_if_wanted)
{
    struct bh_http_client_options o = { .retry_statuses = true, .retry_delay = BH_MILLISECOND };
    struct web                    w;
    struct bh_http_res           *res;
    const char                   *body;

    web_start(&w, &o);
    busy_left = 2;
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/busy") }, &body);
    EXPECT_STR(body, "at last\n");
    EXPECT_EQ(res->retries, 2);
    bh_http_res_close(res);
    busy_left = 3;
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/busy") }, &body);
    EXPECT_STR(body, "busy\n"); /* three times is enough */
    bh_http_res_close(res);
    busy_left = 1;
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/busy"), .method = "POST" }, &body);
    EXPECT_STR(body, "busy\n"); /* a POST is not sent twice ... */
    bh_http_res_close(res);
    busy_left = 1;
    res = ok(&w,
             &(struct bh_http_req){ .url = at(&w, "/busy"),
                                    .method = "POST",
                                    .headers = BH_HTTP_HEADERS("Idempotency-Key", "k") },
             &body);
    EXPECT_STR(body, "at last\n"); /* ... but with a key */
    bh_http_res_close(res);
    web_stop(&w);
}

TEST_REAL(client, retries_have_a_budget)
{
    struct bh_http_client_options o = { .retry_statuses = true, .retry_delay = 1 };
    struct web                    w;

    web_start(&w, &o);
    busy_left = 1000000;
    for (int i = 0; i < 100; i++)
        bh_http_res_close(ok(&w, &(struct bh_http_req){ .url = at(&w, "/busy") }, NULL));
    EXPECT(stats_of(&w).retries >= 18 &&
           stats_of(&w).retries <= 20); /* 10 saved up, 10 earned */
    EXPECT(stats_of(&w).exhausted > 0);
    EXPECT_EQ(stats_of(&w).sent, 100 + stats_of(&w).retries);
    web_stop(&w);
}

/* ---- inside a handler -------------------------------------------------------------------- */

static int
relay(struct bh_http_call *c, void *arg)
{
    struct web         *w = arg;
    struct bh_http_res *res;
    char                url[100], buffer[3000];
    ssize_t             n;
    int                 rc;

    snprintf(url, sizeof url, "http://%s/%s?%s", bh_http_address(w->f.s),
             bh_http_param(c, "rest"), c->query);
    rc = bh_http_client_get(bh_http_ctx(c), w->c, url, &res);
    if (rc < 0)
        return bh_http_reply(c, 502, "%s\n", bh_error_note());
    BH_DEFER(bh_http_res_close, res);
    bh_http_start(c, res->status, bh_http_res_header(res, "Content-Type"), res->length);
    while ((n = bh_http_res_read(res, buffer, sizeof buffer)) > 0)
        if (bh_http_write(c, buffer, (size_t)n) < 0)
            return 0;
    return n < 0 ? (int)n : 0;
}

TEST_REAL(client, a_handler_may_use_it)
{
    struct web          w, front = { 0 };
    struct bh_http_res *res;
    const char         *body;

    web_start(&w, NULL);
    front.f.s = bh_http_server_new(NULL);
    bh_http_use(front.f.s, bh_http_recover, NULL);
    bh_http_handle(front.f.s, "GET /{rest...}", relay, &w);
    fixture_start(&front.f);
    front.c = bh_http_client_new(NULL);
    res = ok(&front, &(struct bh_http_req){ .url = at(&front, "/bytes?how=length&n=300000") },
             &body);
    EXPECT_EQ(res->length, 300000);
    bh_http_res_close(res);
    web_stop(&front);
    web_stop(&w);
}
