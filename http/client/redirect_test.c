/* redirect_test.c -- the client sent elsewhere, sent back, trying again; and inside a handler. */

#include "client_fixture.h"

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
