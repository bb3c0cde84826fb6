/* http_trace_test.c -- spans of requests served and sent. */

#include <bulkhead/observe/http_trace.h>

#include "http_fixture.h"
#include "trace_fixture.h"

#include <errno.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/http/client.h>
#include <bulkhead/http/security.h>

#include "route.h"

#define TRACE  "0af7651916cd43dd8448eb211c80319c"
#define SPAN   "b7ad6b7169203331"
#define PARENT "traceparent: 00-" TRACE "-" SPAN "-01\r\n"
#define GET_WITH(path, fields)                                                                 \
    "GET " path " HTTP/1.1\r\nHost: shop.example:8080\r\n" fields "\r\n"

static const struct bh_http_trace_options inside = { .trust = BH_TRACE_INTERNAL };

static char                   answer[1 << 14];
static struct bh_tag          tag;
static char                   state[600], baggage[200];
static struct bh_chan        *background;
static struct bh_http_server *other; /* asked by /ask */
static int *volatile nowhere;

/* ---- a server -------------------------------------------------------------------- */

static void
work(struct bh_http_call *c, void *args)
{
    struct bh_span span;

    (void)args;
    bh_span_start(&span, "background", &(struct bh_span_options){ .parent = bh_http_span(c) });
    bh_span_end(&span);
    bh_send(background, &(char){ 0 });
}

static int
handler(struct bh_http_call *c, void *arg)
{
    struct bh_span *span = bh_http_span(c);

    (void)arg;
    bh_tag_get(&tag);
    (void)snprintf(state, sizeof state, "%s", span->state != NULL ? span->state : "none");
    (void)snprintf(baggage, sizeof baggage, "%s",
                   span->baggage != NULL ? span->baggage : "none");
    bh_span_text(span, "app", "mine");
    if (bh_http_query(c, "panic") != NULL)
        bh_panic("broken %s", "thing");
    if (bh_http_query(c, "null") != NULL)
        return *nowhere;
    if (bh_http_query(c, "abort") != NULL)
        bh_http_abort(c);
    if (bh_http_query(c, "exit") != NULL)
        bh_goexit();
    if (bh_http_query(c, "fail") != NULL)
        return -EIO;
    if (bh_http_query(c, "background") != NULL)
        bh_http_go(c, work, NULL);
    return bh_http_reply(c, bh_http_query(c, "missing") != NULL ? 404 : 200, "fine\n");
}

static void
start(struct fixture *f, const struct bh_http_trace_options *o)
{
    f->s = bh_http_server_new(NULL);
    bh_http_observe(f->s, bh_http_trace, (struct bh_http_trace_options *)(uintptr_t)o);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /users/{id}", handler, NULL);
    bh_http_handle(f->s, "/any/{rest...}", handler, NULL);
    bh_http_handle(f->s, "GET api.example/v1/{x}", handler, NULL);
    fixture_start(f);
}

static const struct bh_span_record *
ask(struct fixture *f, const char *request)
{
    atomic_store(&exported, 0);
    memset(got, 0, sizeof got);
    (void)talk(f, request, answer, sizeof answer);
    EXPECT_EQ(exported, 1);
    return &got[0];
}

static const char *
hex(const unsigned char *id, size_t size)
{
    static char out[40];

    for (size_t i = 0; i < size; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", id[i]);
    return out;
}

static const unsigned char zero[16];

/* ---- what a span says ------------------------------------------------------------ */

TEST_REAL(http_trace, request_is_described_by_the_conventions)
{
    struct fixture               f;
    const struct bh_span_record *r;

    start(&f, NULL);
    r = ask(&f, GET_WITH("/users/7?a=1&token=abc&b", "User-Agent: probe/1\r\n"));
    EXPECT_EQ(r->kind, BH_SPAN_SERVER);
    EXPECT_EQ(r->status, BH_SPAN_UNSET);
    EXPECT_STR(text(r, BH_ITEM_NAME, ""), "GET /users/{id}");
    EXPECT_STR(attribute(r, "http.request.method"), "GET");
    EXPECT_STR(attribute(r, "http.route"), "/users/{id}");
    EXPECT_STR(attribute(r, "url.path"), "/users/7");
    EXPECT_STR(attribute(r, "url.query"), "a=1&token=REDACTED&b");
    EXPECT_STR(attribute(r, "url.scheme"), "http");
    EXPECT_STR(attribute(r, "server.address"), "shop.example");
    EXPECT_EQ(number(r, "server.port"), 8080);
    EXPECT_STR(attribute(r, "client.address"), "127.0.0.1");
    EXPECT(number(r, "client.port") > 0);
    EXPECT(attribute(r, "network.peer.address") == NULL); /* the same */
    EXPECT_STR(attribute(r, "network.protocol.version"), "1.1");
    EXPECT_STR(attribute(r, "user_agent.original"), "probe/1");
    EXPECT_EQ(number(r, "http.response.status_code"), 200);
    EXPECT_EQ(number(r, "http.response.body.size"), 5);
    EXPECT(attribute(r, "error.type") == NULL);
    EXPECT_STR(attribute(r, "app"), "mine");
    EXPECT(r->end_ns > r->start_ns && r->end_ns - r->start_ns < 5 * BH_SECOND);
    EXPECT_EQ(r->lost_attributes, 0);

    EXPECT(memcmp(tag.trace_id, r->trace_id, 16) == 0);
    EXPECT_STR(tag.route, "/users/{id}");
    EXPECT_STR(tag.method, "GET");
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT_STR(tag.route, "/users/{id}"); /* the server is gone, it is not */
}

TEST_REAL(http_trace, span_is_named_by_method_and_route_not_by_what_was_sent)
{
    struct fixture               f;
    const struct bh_span_record *r;

    start(&f, &(struct bh_http_trace_options){ .no_query = true });
    r = ask(&f, "HEAD /users/7?a=1 HTTP/1.0\r\n\r\n");
    EXPECT_STR(text(r, BH_ITEM_NAME, ""), "HEAD /users/{id}");
    EXPECT_STR(attribute(r, "network.protocol.version"), "1.0");
    EXPECT(attribute(r, "url.query") == NULL && attribute(r, "server.address") == NULL);
    r = ask(&f, "PROPFIND /any/a/b HTTP/1.1\r\nHost: a\r\n\r\n");
    EXPECT_STR(text(r, BH_ITEM_NAME, ""), "HTTP /any/{rest...}");
    EXPECT_STR(attribute(r, "http.request.method"), "_OTHER");
    EXPECT_STR(attribute(r, "http.request.method_original"), "PROPFIND");
    r = ask(&f, "GET /v1/x HTTP/1.1\r\nHost: api.example\r\n\r\n");
    EXPECT_STR(text(r, BH_ITEM_NAME, ""), "GET /v1/{x}");
    EXPECT_STR(attribute(r, "http.route"), "/v1/{x}");
    r = ask(&f, GET_WITH("/nowhere", ""));
    EXPECT_STR(text(r, BH_ITEM_NAME, ""), "GET");
    EXPECT(attribute(r, "http.route") == NULL && r->status == BH_SPAN_UNSET);
    EXPECT_EQ(number(r, "http.response.status_code"), 404);
    r = ask(&f, "GARBAGE\r\n\r\n");
    EXPECT_STR(text(r, BH_ITEM_NAME, ""), "HTTP");
    EXPECT_EQ(number(r, "http.response.status_code"), 400);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(http_trace, errors_are_those_of_the_server)
{
    struct fixture               f;
    const struct bh_span_record *r;

    start(&f, NULL);
    r = ask(&f, GET_WITH("/users/7?missing", ""));
    EXPECT(r->status == BH_SPAN_UNSET && attribute(r, "error.type") == NULL);
    r = ask(&f, GET_WITH("/users/7?fail", ""));
    EXPECT_EQ(r->status, BH_SPAN_ERROR);
    EXPECT_STR(attribute(r, "error.type"), "500");
    r = ask(&f, GET_WITH("/users/7?abort", ""));
    EXPECT(r->status == BH_SPAN_ERROR && r->urgent == 0);
    EXPECT_STR(attribute(r, "error.type"), "aborted");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(http_trace, panic_is_an_error_with_its_kind_sampled_or_not)
{
    static const struct bh_sampler never_ever = { .how = BH_SAMPLE_NEVER };
    struct bh_http_trace_options   o = { .sampler = NULL };
    struct fixture                 f;
    const struct bh_span_record   *r;

    for (int sampled = 1; sampled >= 0; sampled--) {
        o.sampler = sampled ? NULL : &never_ever;
        start(&f, &o);
        r = ask(&f, GET_WITH("/users/7?panic", ""));
        EXPECT(r->status == BH_SPAN_ERROR && r->urgent == 1);
        EXPECT_STR(attribute(r, "error.type"), "string");
        EXPECT_STR(text(r, BH_ITEM_STATUS_TEXT, ""), "broken thing");
        EXPECT_STR(attribute(r, "http.route"), "/users/{id}");
        EXPECT_EQ(number(r, "http.response.status_code"), 500);
        EXPECT_STR(text(r, BH_ITEM_NAME, ""), "GET /users/{id}");
        EXPECT((r->flags & BH_TRACE_SAMPLED) != 0);
        EXPECT_EQ(attribute(r, "app") != NULL, sampled);
        EXPECT_EQ(tag.sampled, sampled);
        r = ask(&f, GET_WITH("/users/7?null", ""));
        EXPECT(strstr(attribute(r, "error.type"), "runtime.Error") != NULL ||
               strstr(attribute(r, "error.type"), "runtime") != NULL);
        (void)talk(&f, GET_WITH("/users/7", ""), answer, sizeof answer);
        EXPECT_EQ(exported, 1 + sampled);
        EXPECT_EQ(fixture_stop(&f), 0);
    }
}

TEST_REAL(http_trace, goroutine_that_ends_within_still_has_its_span)
{
    struct fixture f;

    start(&f, NULL);
    (void)ask(&f, GET_WITH("/users/7?exit", ""));
    EXPECT_STR(attribute(&got[0], "http.route"), "/users/{id}");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(http_trace, background_work_names_the_request_as_parent)
{
    struct fixture f;
    int            request = 0;

    background = BH_CHAN(char, 1);
    start(&f, NULL);
    (void)talk(&f, GET_WITH("/users/7?background", ""), answer, sizeof answer);
    (void)bh_recv(background, &(char){ 0 });
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_chan_unref(background);
    EXPECT_EQ(exported, 2);
    request = got[0].kind == BH_SPAN_SERVER ? 0 : 1;
    EXPECT(memcmp(got[1 - request].parent_id, got[request].span_id, 8) == 0);
    EXPECT(memcmp(got[1 - request].trace_id, got[request].trace_id, 16) == 0);
}

/* ---- trust ----------------------------------------------------------------------- */

TEST_REAL(http_trace, inside_the_senders_trace_goes_on)
{
    struct fixture               f;
    const struct bh_span_record *r;

    start(&f, &inside);
    r = ask(&f, GET_WITH("/users/7", PARENT "tracestate: a=1\r\nbaggage: k=v\r\n"
                                            "TraceState: b=2\r\nBaggage: l=w\r\n"));
    EXPECT_STR(hex(r->trace_id, 16), TRACE);
    EXPECT_STR(hex(r->parent_id, 8), SPAN);
    EXPECT((r->flags & BH_TRACE_REMOTE) != 0);
    EXPECT_STR(text(r, BH_ITEM_STATE, ""), "a=1,b=2");
    EXPECT_STR(state, "a=1,b=2");
    EXPECT_STR(baggage, "k=v,l=w");

    /* not sampled there: not here */
    atomic_store(&exported, 0);
    (void)talk(&f, GET_WITH("/users/7", "traceparent: 00-" TRACE "-" SPAN "-00\r\n"), answer,
               sizeof answer);
    EXPECT_EQ(exported, 0);
    EXPECT_STR(hex(tag.trace_id, 16), TRACE);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(http_trace, inside_what_breaks_a_rule_is_not_used)
{
    static const char *const bad[] = {
        GET_WITH("/users/7", "traceparent: 00-" TRACE "-" SPAN "-01-x\r\ntracestate: a=1\r\n"),
        GET_WITH("/users/7", PARENT PARENT "tracestate: a=1\r\n"), /* twice, even the same */
        GET_WITH("/users/7", "tracestate: a=1\r\n"),
        GET_WITH("/users/7", "trace-parent: 00-" TRACE "-" SPAN "-01\r\n"),
    };
    struct fixture               f;
    const struct bh_span_record *r;
    struct bh_item               link;

    start(&f, &inside);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        r = ask(&f, bad[i]);
        EXPECT(strcmp(hex(r->trace_id, 16), TRACE) != 0);
        EXPECT(memcmp(r->parent_id, zero, 8) == 0 && (r->flags & BH_TRACE_REMOTE) == 0);
        EXPECT(!find(r, BH_ITEM_LINK, "", &link));
        EXPECT_STR(state, "none");
    }
    r = ask(&f, GET_WITH("/users/7", PARENT "tracestate: a=1,A=2\r\nbaggage: k v\r\n"));
    EXPECT_STR(hex(r->trace_id, 16), TRACE);
    EXPECT_STR(state, "none");
    EXPECT_STR(baggage, "none");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(http_trace, in_public_the_senders_trace_is_only_linked)
{
    struct fixture               f;
    const struct bh_span_record *r;
    struct bh_item               link;

    start(&f, NULL);
    r = ask(&f, GET_WITH("/users/7", PARENT "tracestate: a=1\r\nbaggage: k=v\r\n"));
    EXPECT(strcmp(hex(r->trace_id, 16), TRACE) != 0);
    EXPECT(memcmp(r->parent_id, zero, 8) == 0 && (r->flags & BH_TRACE_REMOTE) == 0);
    EXPECT(find(r, BH_ITEM_LINK, "", &link) && link.value_size == 24);
    EXPECT_STR(hex((const unsigned char *)link.value, 16), TRACE);
    EXPECT_STR(hex((const unsigned char *)link.value + 16, 8), SPAN);
    EXPECT_STR(state, "none");
    EXPECT_STR(baggage, "none");
    /* nor is its wish not to be sampled, or to be */
    r = ask(&f, GET_WITH("/users/7", "traceparent: 00-" TRACE "-" SPAN "-00\r\n"));
    EXPECT((r->flags & BH_TRACE_SAMPLED) != 0);
    r = ask(&f, GET_WITH("/users/7", "traceparent: junk\r\n"));
    EXPECT(!find(r, BH_ITEM_LINK, "", &link));
    EXPECT_EQ(fixture_stop(&f), 0);
}

static bool
trusts(struct bh_http_call *c, void *arg)
{
    return bh_http_header(c, arg) != NULL;
}

TEST_REAL(http_trace, trust_can_be_decided_per_request)
{
    char                         field[] = "x-inside";
    struct bh_http_trace_options o = { .trusts = trusts, .arg = field };
    struct fixture               f;

    start(&f, &o);
    EXPECT_STR(hex(ask(&f, GET_WITH("/users/7", PARENT "X-Inside: 1\r\n"))->trace_id, 16),
               TRACE);
    EXPECT(strcmp(hex(ask(&f, GET_WITH("/users/7", PARENT))->trace_id, 16), TRACE) != 0);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(http_trace, request_from_another_cloud_tells_of_its_connection)
{
    struct fixture               f;
    const struct bh_span_record *r;

    EXPECT_EQ(bh_trace_color("aws.eu-west-1"), 0);
    start(&f, &inside);
    r = ask(&f, GET_WITH("/users/7", PARENT "tracestate: bh=gcp.x;3;1\r\n"));
    EXPECT_EQ(number(r, "bulkhead.hop.index"), 3);
    EXPECT_STR(attribute(r, "bulkhead.hop.from"), "gcp.x");
    EXPECT(number(r, "bulkhead.hop.rtt_us") > 0 && number(r, "bulkhead.hop.retransmits") == 0);
    EXPECT_EQ(number(r, "bulkhead.hop.skew_us"),
              number(r, "bulkhead.hop.delay_us") - number(r, "bulkhead.hop.rtt_us") / 2);
    r = ask(&f, GET_WITH("/users/7", PARENT "tracestate: bh=aws.eu-west-1;3\r\n"));
    EXPECT(attribute(r, "bulkhead.hop.from") == NULL);
    EXPECT_EQ(fixture_stop(&f), 0);

    start(&f, NULL); /* of strangers nothing is believed */
    r = ask(&f, GET_WITH("/users/7", PARENT "tracestate: bh=gcp.x;3;1\r\n"));
    EXPECT(attribute(r, "bulkhead.hop.from") == NULL);
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- routes and secrets ---------------------------------------------------------- */

TEST_PLAIN(http_trace, routes_are_kept_once_by_their_text)
{
    char                   a[] = "GET /a/{b}", again[] = "GET /a/{b}", long_one[2000];
    const struct ob_route *r = ob_route(a);

    EXPECT_STR(r->path, "/a/{b}");
    EXPECT_STR(r->name, "GET /a/{b}");
    EXPECT_STR(r->method, "GET");
    EXPECT(ob_route(again) == r && ob_route(a) == r && r->pattern != a);
    memcpy(a, "PUT /x/{b}", sizeof a); /* another text at that address */
    EXPECT_STR(ob_route(a)->path, "/x/{b}");
    EXPECT_STR(ob_route("POST {h}.example/p")->name, "POST /p");
    EXPECT(ob_route("/any")->name == NULL && ob_route("/any")->method == NULL);
    EXPECT_STR(ob_route("/any")->path, "/any");
    EXPECT(ob_route("") == NULL && ob_route(NULL) == NULL && ob_route("no path") == NULL);
    memset(long_one, '/', sizeof long_one - 1);
    long_one[sizeof long_one - 1] = '\0';
    EXPECT(ob_route(long_one) == NULL);
    for (int i = 0; i < 5000; i++) { /* more than there is room for */
        char path[32];

        (void)snprintf(path, sizeof path, "GET /%d", i);
        r = ob_route(path);
        EXPECT(i < 2000 ? strcmp(r->pattern, path) == 0 : r == NULL || i < 2048);
    }
    EXPECT_STR(ob_route(again)->path, "/a/{b}");
}

static const struct {
    const char *sent, *said;
} queries[] = {
    { "a=1&b=2", "a=1&b=2" },
    { "a", "a" },
    { "sig=abc&a=1", "sig=REDACTED&a=1" },
    { "X-Goog-Signature=abc", "X-Goog-Signature=REDACTED" },
    { "AWSAccessKeyId=abc;x=1", "AWSAccessKeyId=REDACTED;x=1" },
    { "access_token=a=b=c&PASSWORD=p", "access_token=REDACTED&PASSWORD=REDACTED" },
    { "to%6ben=abc", "to%6ben=REDACTED" },
    { "key=abc&monkey=1&keyword=2", "key=REDACTED&monkey=1&keyword=2" },
    { "token&a=token", "token&a=token" },
    { "&&=x&", "&&=x&" },
};

TEST_REAL(http_trace, secrets_of_queries_are_redacted)
{
    struct fixture f;
    char           request[256];

    start(&f, NULL);
    for (size_t i = 0; i < sizeof queries / sizeof queries[0]; i++) {
        (void)snprintf(request, sizeof request, "GET /users/7?%s HTTP/1.1\r\nHost: a\r\n\r\n",
                       queries[i].sent);
        EXPECT_STR(attribute(ask(&f, request), "url.query"), queries[i].said);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

static const struct {
    const char *host, *address;
    int         port;
} hosts[] = {
    { "a.example", "a.example", 0 },
    { "a.example:80", "a.example", 80 },
    { "[::1]:8080", "::1", 8080 },
    { "[::1]", "::1", 0 },
    { "127.0.0.1:65535", "127.0.0.1", 65535 },
};

TEST_REAL(http_trace, host_is_split_into_address_and_port)
{
    struct fixture f;
    char           request[256];
    struct bh_item item;

    start(&f, NULL);
    for (size_t i = 0; i < sizeof hosts / sizeof hosts[0]; i++) {
        (void)snprintf(request, sizeof request, "GET /users/7 HTTP/1.1\r\nHost: %s\r\n\r\n",
                       hosts[i].host);
        const struct bh_span_record *r = ask(&f, request);
        EXPECT_STR(attribute(r, "server.address"), hosts[i].address);
        EXPECT_EQ(find(r, BH_ITEM_ATTRIBUTE, "server.port", &item) ? item.number : 0,
                  hosts[i].port);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(http_trace, client_behind_a_proxy_is_told_from_the_peer)
{
    struct bh_http_proxies *proxies =
        bh_http_proxies_new(&(struct bh_http_proxies_options){ .trusted = "127.0.0.1" });
    struct fixture               f;
    const struct bh_span_record *r;

    BH_DEFER(bh_http_proxies_free, proxies);
    f.s = bh_http_server_new(NULL);
    bh_http_observe(f.s, bh_http_trace, NULL);
    bh_http_observe(f.s, bh_http_real_ip, proxies);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /users/{id}", handler, NULL);
    fixture_start(&f);
    r = ask(&f, GET_WITH("/users/7", "X-Forwarded-For: 192.0.2.9\r\n"));
    EXPECT_STR(attribute(r, "client.address"), "192.0.2.9");
    EXPECT_STR(attribute(r, "network.peer.address"), "127.0.0.1");
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- sent ------------------------------------------------------------------------ */

static const char *
field(const struct bh_http_req *request, const char *name)
{
    const char *value = NULL;

    for (const char *const *p = request->headers; p != NULL && *p != NULL; p += 2)
        if (strcmp(p[0], name) == 0) {
            EXPECT(value == NULL); /* once */
            value = p[1];
        }
    return value;
}

TEST(http_trace, injected_fields_replace_those_there)
{
    struct bh_http_req request = { .headers = BH_HTTP_HEADERS("Accept", "*/*", "traceparent",
                                                              "old", "TraceState", "old=1") };
    struct bh_trace_headers room;
    struct bh_span          span;
    char                    want[BH_TRACEPARENT_SIZE];
    struct bh_trace_context context;

    EXPECT_EQ(bh_trace_inject(NULL, &request, &room), -ENOENT);
    EXPECT_STR(field(&request, "traceparent"), "old");
    bh_span_start(
        &span, "n",
        &(struct bh_span_options){ .remote = &sender, .state = "a=1", .baggage = "k=v" });
    EXPECT_EQ(bh_trace_inject(&span, &request, &room), 0);
    bh_span_context(&span, &context);
    bh_traceparent_format(want, &context);
    EXPECT_STR(field(&request, "traceparent"), want);
    EXPECT_STR(field(&request, "tracestate"), "a=1");
    EXPECT_STR(field(&request, "baggage"), "k=v");
    EXPECT_STR(field(&request, "Accept"), "*/*");
    EXPECT(field(&request, "TraceState") == NULL);

    EXPECT_EQ(bh_trace_color("aws.eu-west-1"), 0);
    request.headers = NULL;
    EXPECT_EQ(bh_trace_inject(&span, &request, &room), 0);
    EXPECT(strncmp(field(&request, "tracestate"), "bh=aws.eu-west-1;2;", 19) == 0);
    EXPECT(strstr(field(&request, "tracestate"), ",a=1") != NULL);
    EXPECT_EQ(bh_trace_color(""), 0);

    request.headers = NULL; /* by the tag alone */
    EXPECT_EQ(bh_trace_inject(NULL, &request, &room), 0);
    EXPECT_STR(field(&request, "traceparent"), want);
    EXPECT(field(&request, "tracestate") == NULL && field(&request, "baggage") == NULL);
    bh_span_end(&span);
}

TEST(http_trace, too_many_fields_go_without)
{
    const char             *list[2 * BH_TRACE_HEADERS + 1] = { NULL };
    struct bh_http_req      request = { .headers = list };
    struct bh_trace_headers room;
    struct bh_span          span;

    for (int i = 0; i < 2 * (BH_TRACE_HEADERS - 3); i++)
        list[i] = "x";
    bh_span_start(&span, "n", NULL);
    EXPECT_EQ(bh_trace_inject(&span, &request, &room), 0);
    request.headers = list;
    list[2 * (BH_TRACE_HEADERS - 3)] = list[2 * (BH_TRACE_HEADERS - 3) + 1] = "x";
    EXPECT_EQ(bh_trace_inject(&span, &request, &room), -ENOSPC);
    EXPECT(request.headers == list);
    bh_span_end(&span);
}

static struct bh_http_client *client;

static int
ask_other(struct bh_http_call *c, void *arg)
{
    struct bh_http_res *res;
    int                 rc;

    (void)arg;
    rc = bh_http_client_traced(
        bh_http_ctx(c), client,
        &(struct bh_http_req){ .url = bh_arena_print(c->arena, "http://u:p@%s/users/9?key=k%s",
                                                     bh_http_address(other),
                                                     bh_http_query(c, "fail") ? "&fail" : "") },
        bh_http_span(c), &res);
    if (rc < 0)
        return rc;
    BH_DEFER(bh_http_res_close, res);
    return bh_http_reply(c, 200, "%d", res->status);
}

TEST_REAL(http_trace, trace_goes_on_from_server_to_server)
{
    struct fixture               behind, front;
    const struct bh_span_record *served, *sent, *first;
    struct bh_conn              *c;
    char                         url[128];

    start(&behind, &inside);
    other = behind.s;
    client = bh_http_client_new(NULL);
    front.s = bh_http_server_new(NULL);
    bh_http_observe(front.s, bh_http_trace, (struct bh_http_trace_options *)(uintptr_t)&inside);
    bh_http_use(front.s, bh_http_recover, NULL);
    bh_http_handle(front.s, "GET /ask", ask_other, NULL);
    fixture_start(&front);

    c = fixture_dial(&front); /* one that ends its sending would count as gone */
    send_text(c, GET_WITH("/ask?fail", PARENT "tracestate: a=1\r\nbaggage: k=v\r\n"));
    read_reply(c, answer, sizeof answer);
    bh_conn_free(c);
    EXPECT_STR(body_of(answer), "500");
    EXPECT_EQ(exported, 3);
    served = &got[0];
    sent = &got[1];
    first = &got[2];
    EXPECT(served->kind == BH_SPAN_SERVER && sent->kind == BH_SPAN_CLIENT &&
           first->kind == BH_SPAN_SERVER);
    EXPECT_STR(hex(served->trace_id, 16), TRACE);
    EXPECT(memcmp(served->parent_id, sent->span_id, 8) == 0);
    EXPECT(memcmp(sent->parent_id, first->span_id, 8) == 0);
    EXPECT_STR(hex(first->parent_id, 8), SPAN);
    EXPECT_STR(state, "a=1");
    EXPECT_STR(baggage, "k=v");

    EXPECT_STR(text(sent, BH_ITEM_NAME, ""), "GET");
    (void)snprintf(url, sizeof url, "http://%s/users/9?key=REDACTED&fail",
                   bh_http_address(behind.s));
    EXPECT_STR(attribute(sent, "url.full"), url);
    EXPECT_STR(attribute(sent, "server.address"), "127.0.0.1");
    EXPECT(number(sent, "server.port") > 0);
    EXPECT_EQ(number(sent, "http.response.status_code"), 500);
    EXPECT_STR(attribute(sent, "error.type"), "500");
    EXPECT_EQ(sent->status, BH_SPAN_ERROR);
    EXPECT_EQ(fixture_stop(&front), 0);
    bh_http_client_free(client);
    EXPECT_EQ(fixture_stop(&behind), 0);
}

TEST_REAL(http_trace, request_that_fails_says_how)
{
    struct bh_http_res *res;

    client = bh_http_client_new(&(struct bh_http_client_options){ .no_retries = true });
    EXPECT_EQ(bh_http_client_traced(bh_ctx_background(), client,
                                    &(struct bh_http_req){ .url = "http://127.0.0.1:1/" }, NULL,
                                    &res),
              -ECONNREFUSED);
    EXPECT_STR(attribute(&got[0], "error.type"), "ECONNREFUSED");
    EXPECT_EQ(got[0].status, BH_SPAN_ERROR);
    EXPECT_EQ(bh_http_client_traced(
                  bh_ctx_background(), client,
                  &(struct bh_http_req){ .method = "BREW", .url = "nonsense" }, NULL, &res),
              -EINVAL);
    EXPECT_STR(attribute(&got[1], "error.type"), "EINVAL");
    EXPECT_STR(attribute(&got[1], "http.request.method"), "_OTHER");
    EXPECT_EQ(exported, 2);
    EXPECT(bh_tag_peek() == NULL);
    bh_http_client_free(client);
}
