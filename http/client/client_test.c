/* client_test.c -- the client against our own server: requests, bodies, connections, contexts. */

#include "client_fixture.h"

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

TEST_REAL(client, compressed_bodies_are_unpacked_if_wanted)
{
    struct bh_http_client_options o = { .gzip = true };
    struct web                    w;
    struct bh_http_res           *res;
    const char                   *body;

    web_start(&w, &o);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/packed?how=well") }, NULL);
    EXPECT(bh_http_res_header(res, "Content-Encoding") == NULL);
    EXPECT_EQ(res->length, -1);
    EXPECT_EQ(bh_http_res_body(res, 5, &body), 5);
    EXPECT_STR(body, "hello");
    bh_http_res_close(res);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/packed?how=well") }, NULL);
    for (int i = 0; i < 5; i++) {
        char byte;

        EXPECT_EQ(bh_http_res_read(res, &byte, 1), 1);
        EXPECT_EQ(byte, "hello"[i]);
    }
    bh_http_res_close(res);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/packed?how=cut") }, NULL);
    EXPECT_EQ(bh_http_res_body(res, 100, &body), -EBADMSG);
    bh_http_res_close(res);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/packed?how=more") }, NULL);
    EXPECT_EQ(bh_http_res_body(res, 100, &body), -EBADMSG);
    bh_http_res_close(res);
    res = ok(&w, &(struct bh_http_req){ .url = at(&w, "/packed?how=well") }, NULL);
    EXPECT_EQ(bh_http_res_body(res, 4, &body), -EMSGSIZE);
    bh_http_res_close(res);
    /* a request that speaks of it, or of ranges, is on its own */
    res = ok(&w,
             &(struct bh_http_req){ .url = at(&w, "/packed?how=well"),
                                    .headers = BH_HTTP_HEADERS("Accept-Encoding", "br") },
             &body);
    EXPECT_STR(body, "plain");
    bh_http_res_close(res);
    res = ok(&w,
             &(struct bh_http_req){ .url = at(&w, "/packed?how=well"),
                                    .headers = BH_HTTP_HEADERS("Range", "bytes=0-") },
             &body);
    EXPECT_STR(body, "plain");
    bh_http_res_close(res);
    web_stop(&w);
}

/* ---- bodies of requests ------------------------------------------------------------------ */

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
