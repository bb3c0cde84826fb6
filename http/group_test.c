/* group_test.c -- groups, hosts and slashes, over real sockets. */
#include "h2_client.h"

static char answer[1 << 16];

#define ARG(text) ((void *)(uintptr_t)(text))

/* Adds its name to a field of the reply: outermost first. */
static int
mark(struct bh_http_call *c, void *arg)
{
    (void)bh_http_add_header(c, "Passed", arg);
    return bh_http_next(c);
}

static int
forbid(struct bh_http_call *c, void *arg)
{
    (void)arg;
    if (bh_http_header(c, "Authorization") != NULL)
        return bh_http_next(c);
    return bh_http_reply(c, 401, "who are you\n");
}

static int
fail(struct bh_http_call *c, void *arg)
{
    (void)arg;
    if (bh_http_query(c, "fail") != NULL)
        bh_panic("group middleware fails");
    return bh_http_next(c);
}

static int
say(struct bh_http_call *c, void *arg)
{
    return bh_http_reply(c, 200, "%s %s", (const char *)arg, c->route);
}

static int
say_param(struct bh_http_call *c, void *arg)
{
    return bh_http_reply(c, 200, "%s", bh_http_param(c, arg));
}

/* fields: further lines of the head. */
static void
ask_with(struct fixture *f, const char *method, const char *host, const char *target,
         const char *fields)
{
    static char request[1024];

    (void)snprintf(request, sizeof request, "%s %s HTTP/1.1\r\nHost: %s\r\n%s\r\n", method,
                   target, host, fields);
    talk(f, request, answer, sizeof answer);
}

static void
ask(struct fixture *f, const char *method, const char *host, const char *target)
{
    ask_with(f, method, host, target, "");
}

/* The marks that the reply has, "a,b". */
static const char *
passed(void)
{
    static char text[128];
    size_t      n = 0;

    text[0] = '\0';
    for (const char *p = answer; (p = strstr(p, "\r\nPassed: ")) != NULL; p += 2)
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%.*s", n > 0 ? "," : "",
                              (int)strcspn(p + 10, "\r"), p + 10);
    return text;
}

static void
start(struct fixture *f, const struct bh_http_options *o)
{
    f->s = bh_http_server_new(o);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_use(f->s, mark, ARG("s"));
}

/* "name name [name] name": the chain around c, and where in it we are.  room: for so many names. */
static const char *
chain_text(struct bh_http_call *c, int room)
{
    static char text[256];
    const char *names[8];
    size_t      n = 0;
    int         at, count = bh_http_chain(c, names, room, &at);

    text[0] = '\0';
    for (int i = 0; i < count && i < room; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, i == at ? "[%s] " : "%s ", names[i]);
    (void)snprintf(text + n, sizeof text - n, "%d of %d", at, count);
    return text;
}

static int
mark_chain(struct bh_http_call *c, void *arg)
{
    (void)bh_http_add_header(c, "Passed", chain_text(c, (int)(intptr_t)arg));
    return bh_http_next(c);
}

static int
say_chain(struct bh_http_call *c, void *arg)
{
    struct bh_conn_tcp tcp;

    (void)arg;
    EXPECT_EQ(bh_http_tcp(c, &tcp), 0);
    EXPECT(tcp.cookie != 0 && tcp.rto_us > 0);
    return bh_http_reply(c, 200, "%s", chain_text(c, 8));
}

#define EXPECT_STATUS(status) EXPECT_STARTS(answer, "HTTP/1.1 " status " ")

TEST_REAL(group, a_call_knows_its_chain)
{
    struct fixture        f;
    struct bh_http_group *api;

    start(&f, NULL);
    bh_http_use(f.s, mark_chain, (void *)(intptr_t)2);
    api = bh_http_group(f.s, "/api");
    bh_http_use(api, fail, NULL);
    bh_http_handle(api, "GET", say_chain, NULL);
    bh_http_handle(f.s, "GET /", say_chain, NULL);
    fixture_start(&f);

    ask(&f, "GET", "h", "/api");
    EXPECT_STR(passed(), "s,bh_http_recover mark 2 of 4");
    EXPECT_STR(body_of(answer), "bh_http_recover mark mark_chain fail 4 of 4");
    ask(&f, "GET", "h", "/");
    EXPECT_STR(passed(), "s,bh_http_recover mark 2 of 3");
    EXPECT_STR(body_of(answer), "bh_http_recover mark mark_chain 3 of 3");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(group, middleware_runs_from_the_server_inwards)
{
    struct fixture        f;
    struct bh_http_group *api, *v1;

    start(&f, NULL);
    api = bh_http_group(f.s, "/api");
    bh_http_use(api, mark, ARG("api"));
    v1 = bh_http_group(api, "/v1");
    bh_http_use(v1, mark, ARG("v1"));
    bh_http_use(v1, mark, ARG("v1b"));
    bh_http_handle(f.s, "GET /", say, ARG("root"));
    bh_http_handle(api, "GET", say, ARG("self"));
    bh_http_handle(api, "GET /a/{x}", say, ARG("a"));
    bh_http_handle(v1, "GET /b", say, ARG("b"));
    fixture_start(&f);

    ask(&f, "GET", "h", "/");
    EXPECT_STR(body_of(answer), "root GET /");
    EXPECT_STR(passed(), "s");
    ask(&f, "GET", "h", "/api");
    EXPECT_STR(body_of(answer), "self GET /api");
    EXPECT_STR(passed(), "s,api");
    ask(&f, "GET", "h", "/api/a/1");
    EXPECT_STR(body_of(answer), "a GET /api/a/{x}");
    EXPECT_STR(passed(), "s,api");
    ask(&f, "GET", "h", "/api/v1/b");
    EXPECT_STR(body_of(answer), "b GET /api/v1/b");
    EXPECT_STR(passed(), "s,api,v1,v1b");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(group, middleware_covers_what_has_no_route_under_its_prefix)
{
    struct fixture        f;
    struct bh_http_group *api, *v1, *tenant, *open;

    start(&f, NULL);
    api = bh_http_group(f.s, "/api");
    bh_http_use(api, mark, ARG("api"));
    v1 = bh_http_group(api, "/v1");
    bh_http_use(v1, mark, ARG("v1"));
    tenant = bh_http_group(f.s, "/{tenant}/v1");
    bh_http_use(tenant, mark, ARG("tenant"));
    open = bh_http_group(api, "");
    bh_http_use(open, mark, ARG("open"));
    bh_http_handle(v1, "GET /b", say, ARG("b"));
    bh_http_handle(open, "GET /c", say, ARG("c"));
    bh_http_handle(api, "POST /c", say, ARG("c"));
    fixture_start(&f);

    ask(&f, "GET", "h", "/api/none");
    EXPECT_STATUS("404");
    EXPECT_STR(passed(), "s,api");
    ask(&f, "GET", "h", "/api/v1/none");
    EXPECT_STR(passed(), "s,api,v1");
    ask(&f, "GET", "h", "/%61pi/v%31/none");
    EXPECT_STR(passed(), "s,api,v1");
    ask(&f, "GET", "h", "/api");
    EXPECT_STR(passed(), "s,api");
    ask(&f, "GET", "h", "/apis/v1");
    EXPECT_STR(passed(), "s,tenant");
    ask(&f, "GET", "h", "/apis");
    EXPECT_STR(passed(), "s");
    ask(&f, "GET", "h", "//v1");
    EXPECT_STR(passed(), "s");

    ask(&f, "DELETE", "h", "/api/v1/b");
    EXPECT_STATUS("405");
    EXPECT_HAS(answer, "\r\nAllow: GET, HEAD, OPTIONS\r\n");
    EXPECT_STR(passed(), "s,api,v1");
    ask(&f, "DELETE", "h", "/api/c");
    EXPECT_STATUS("405");
    EXPECT_HAS(answer, "\r\nAllow: GET, POST, HEAD, OPTIONS\r\n");
    EXPECT_STR(passed(), "s,api"); /* what GET and POST have in common */
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(group, a_preflight_passes_the_middleware_of_the_route_it_is_about)
{
    struct fixture        f;
    struct bh_http_group *open, *closed;

    start(&f, NULL);
    open = bh_http_group(f.s, "");
    bh_http_use(open, mark, ARG("open"));
    closed = bh_http_group(f.s, "");
    bh_http_use(closed, mark, ARG("closed"));
    bh_http_handle(open, "GET /a", say, ARG("a"));
    bh_http_handle(closed, "PUT /a", say, ARG("a"));
    fixture_start(&f);

    ask_with(&f, "OPTIONS", "h", "/a", "Access-Control-Request-Method: GET\r\n");
    EXPECT_STATUS("204");
    EXPECT_STR(passed(), "s,open");
    ask_with(&f, "OPTIONS", "h", "/a", "Access-Control-Request-Method: PUT\r\n");
    EXPECT_STR(passed(), "s,closed");
    ask_with(&f, "OPTIONS", "h", "/a", "Access-Control-Request-Method: DELETE\r\n");
    EXPECT_STR(passed(), "s");
    ask(&f, "OPTIONS", "h", "/a");
    EXPECT_HAS(answer, "\r\nAllow: GET, PUT, HEAD, OPTIONS\r\n");
    EXPECT_STR(passed(), "s");
    ask(&f, "OPTIONS", "h", "*");
    EXPECT_STATUS("204");
    EXPECT_STR(passed(), "s");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(group, who_may_not_enter_does_not_learn_what_is_inside)
{
    struct fixture        f;
    struct bh_http_group *admin;

    start(&f, NULL);
    admin = bh_http_group(f.s, "/admin");
    bh_http_use(admin, forbid, NULL);
    bh_http_handle(admin, "GET /users", say, ARG("users"));
    fixture_start(&f);

    ask(&f, "GET", "h", "/admin/users");
    EXPECT_STATUS("401");
    ask(&f, "GET", "h", "/admin/nothing");
    EXPECT_STATUS("401");
    ask(&f, "PUT", "h", "/admin/users");
    EXPECT_STATUS("401");
    EXPECT(strstr(answer, "Allow") == NULL);
    ask_with(&f, "GET", "h", "/admin/users", "Authorization: x\r\n");
    EXPECT_STATUS("200");
    ask_with(&f, "GET", "h", "/admin/nothing", "Authorization: x\r\n");
    EXPECT_STATUS("404");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(group, a_panic_of_its_middleware_costs_one_500)
{
    struct fixture        f;
    struct bh_http_group *g;
    struct bh_http_panic  report;

    start(&f, NULL);
    g = bh_http_group(f.s, "/g");
    bh_http_use(g, fail, NULL);
    bh_http_handle(g, "GET /a", say, ARG("a"));
    fixture_start(&f);

    ask(&f, "GET", "h", "/g/a?fail");
    EXPECT_STATUS("500");
    EXPECT_EQ(bh_http_panics(f.s, &report, 1), 1);
    EXPECT_STR(report.route, "GET /g/a");
    ask(&f, "GET", "h", "/g/nothing?fail");
    EXPECT_STATUS("500");
    ask(&f, "GET", "h", "/g/a");
    EXPECT_STATUS("200");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(group, a_host_has_routes_and_middleware_of_its_own)
{
    struct fixture        f;
    struct bh_http_group *shop, *tenant;

    start(&f, NULL);
    shop = bh_http_group(f.s, "shop.example/v1");
    bh_http_use(shop, mark, ARG("shop"));
    tenant = bh_http_group(f.s, "{tenant}.example");
    bh_http_use(tenant, mark, ARG("tenant"));
    bh_http_handle(f.s, "GET /a", say, ARG("any"));
    bh_http_handle(shop, "GET /a", say, ARG("shop"));
    bh_http_handle(tenant, "GET /a", say_param, ARG("tenant"));
    bh_http_handle(tenant, "/a/{x}", say_param, ARG("x"));
    fixture_start(&f);

    ask(&f, "GET", "shop.example:8080", "/v1/a");
    EXPECT_STR(body_of(answer), "shop GET shop.example/v1/a");
    EXPECT_STR(passed(), "s,shop");
    ask(&f, "GET", "Bob.Example", "/a");
    EXPECT_STR(body_of(answer), "bob");
    EXPECT_STR(passed(), "s,tenant");
    ask(&f, "BREW", "bob.example", "/a/%2F");
    EXPECT_STR(body_of(answer), "/");
    ask(&f, "GET", "other", "/a");
    EXPECT_STR(body_of(answer), "any GET /a");
    EXPECT_STR(passed(), "s");
    ask(&f, "GET", "SHOP.example:1", "/v1/none");
    EXPECT_STATUS("404");
    EXPECT_STR(passed(), "s,shop");
    ask(&f, "GET", "shop.example", "/none"); /* the prefix of the shop is longer than that */
    EXPECT_STR(passed(), "s,tenant");
    ask(&f, "GET", "a.b.example", "/none");
    EXPECT_STR(passed(), "s");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(group, the_authority_of_http2_is_the_host)
{
    static struct h2_client h;
    static struct h2_reply  reply;
    struct fixture          f;
    struct bh_http_group   *tenant;

    start(&f, NULL);
    tenant = bh_http_group(f.s, "{tenant}.example/v1");
    bh_http_use(tenant, mark, ARG("tenant"));
    bh_http_handle(tenant, "GET", say_param, ARG("tenant"));
    fixture_start(&f);
    h2_open(&h, &f, NULL, 0);
    h2_headers(&h, 1, END_STREAM,
               ":method: GET\n:scheme: http\n:path: /v1\n:authority: Bob.example:80\n");
    EXPECT_EQ(h2_read(&h, 1, &reply), 200);
    EXPECT_STR(reply.body, "bob");
    EXPECT_HAS(reply.fields, "passed: s\npassed: tenant\n");
    h2_headers(&h, 3, END_STREAM,
               ":method: GET\n:scheme: http\n:path: /v1\n:authority: example:80\n");
    EXPECT_EQ(h2_read(&h, 3, &reply), 404);
    h2_close(&h);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(group, slashes_at_the_end_count_unless_redirected)
{
    struct fixture f;

    start(&f, NULL);
    bh_http_handle(f.s, "GET /a", say, ARG("a"));
    fixture_start(&f);
    ask(&f, "GET", "h", "/a/");
    EXPECT_STATUS("404");
    EXPECT_EQ(fixture_stop(&f), 0);

    start(&f, &(struct bh_http_options){ .redirect_slash = true });
    bh_http_handle(f.s, "GET /a", say, ARG("a"));
    bh_http_handle(f.s, "POST /b/", say, ARG("b"));
    bh_http_handle(f.s, "GET /{x}/{y}/", say, ARG("xy"));
    fixture_start(&f);
    ask(&f, "GET", "h", "/a/?q=1&r=2");
    EXPECT_STATUS("308");
    EXPECT_HAS(answer, "\r\nLocation: /a?q=1&r=2\r\n");
    EXPECT_STR(passed(), "s");
    ask(&f, "POST", "h", "/b");
    EXPECT_HAS(answer, "\r\nLocation: /b/\r\n");
    ask(&f, "HEAD", "h", "/a/");
    EXPECT_STATUS("308");
    ask(&f, "GET", "h", "/b");
    EXPECT_STATUS("404");
    ask(&f, "GET", "h", "/a//");
    EXPECT_STATUS("404");
    ask(&f, "GET", "h", "//evil.example"); /* would lead to another host */
    EXPECT_STATUS("404");
    ask(&f, "GET", "h", "/\\evil.example/x");
    EXPECT(strstr(answer, "Location") == NULL);
    ask(&f, "GET", "h", "/c/d");
    EXPECT_HAS(answer, "\r\nLocation: /c/d/\r\n");
    EXPECT_EQ(fixture_stop(&f), 0);
}
