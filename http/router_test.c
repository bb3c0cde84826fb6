/* router_test.c -- patterns, precedence, and what the checks at start refuse. */
#include "ht.h"

#include <errno.h>
#include <stdio.h>

#include <bulkhead/http/monitor.h>

#include "test.h"

static int
nothing(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    return 0;
}

static struct ht_router router;
static struct bh_arena *arena;

static void
with_routes(const char *const *patterns)
{
    memset(&router, 0, sizeof router);
    for (; *patterns != NULL; patterns++)
        (void)ht_router_add(&router, "", *patterns);
    ht_router_freeze(&router);
    arena = bh_arena_new(0);
}

static void
drop_routes(void)
{
    ht_router_free(&router);
    bh_arena_free(arena);
}

/* "PATTERN name=value ..." of what matched, "405" or "404". */
static const char *
find_at(const char *method, const char *host, const char *path)
{
    static char              text[256];
    const struct ht_pattern *p;
    struct ht_match          m;
    int                      n, param = 0;

    ht_router_match(&router, method, host, path, arena, &m);
    if (m.route == NULL)
        return m.path_known ? "405" : "404";
    p = &m.route->p;
    n = snprintf(text, sizeof text, "%s", p->source);
    if (p->sub != NULL)
        n += snprintf(text + n, sizeof text - (size_t)n, " %s=%.*s", p->sub, (int)m.lengths[0],
                      m.params[0]);
    param = p->sub != NULL;
    for (int i = 0; i < p->segment_count; i++) {
        if (p->segments[i].kind == HT_LITERAL)
            continue;
        n += snprintf(text + n, sizeof text - (size_t)n, " %s=%.*s", p->segments[i].text,
                      (int)m.lengths[param], m.params[param]);
        param++;
    }
    return text;
}

static const char *
find(const char *method, const char *path)
{
    return find_at(method, "a.example:80", path);
}

static const char *
allow(const char *host, const char *path)
{
    return ht_router_allow(&router, host, path, arena);
}

TEST_PLAIN(router, literal_wins_over_name_which_wins_over_rest)
{
    with_routes((const char *const[]){ "GET /a/b", "GET /a/{x}", "GET /{r...}", NULL });
    EXPECT_STR(find("GET", "/a/b"), "GET /a/b");
    EXPECT_STR(find("GET", "/a/c"), "GET /a/{x} x=c");
    EXPECT_STR(find("GET", "/a/c/d"), "GET /{r...} r=a/c/d");
    EXPECT_STR(find("GET", "/b"), "GET /{r...} r=b");
    EXPECT_STR(find("GET", "/"), "GET /{r...} r=");
    drop_routes();
}

TEST_PLAIN(router, goes_back_when_a_deeper_level_fails)
{
    with_routes((const char *const[]){ "GET /a/b/c", "GET /a/{x}/d", "GET /{y}/{z}/e",
                                       "POST /a/b/f", "GET /{y}/b/{g...}", NULL });
    EXPECT_STR(find("GET", "/a/b/c"), "GET /a/b/c");
    EXPECT_STR(find("GET", "/a/b/d"), "GET /a/{x}/d x=b");
    EXPECT_STR(find("GET", "/a/b/e"), "GET /{y}/b/{g...} y=a g=e");
    EXPECT_STR(find("GET", "/a/q/e"), "GET /{y}/{z}/e y=a z=q");
    EXPECT_STR(find("POST", "/a/b/f"), "POST /a/b/f");
    EXPECT_STR(find("GET", "/a/q/f"), "404");
    drop_routes();
}

TEST_PLAIN(router, a_name_needs_a_segment_and_slashes_count)
{
    with_routes(
        (const char *const[]){ "GET /a/{x}", "GET /b/", "GET /", "GET /f/{r...}", NULL });
    EXPECT_STR(find("GET", "/a/"), "404");
    EXPECT_STR(find("GET", "/a"), "404");
    EXPECT_STR(find("GET", "/a/x/"), "404");
    EXPECT_STR(find("GET", "/b"), "404");
    EXPECT_STR(find("GET", "/b/"), "GET /b/");
    EXPECT_STR(find("GET", "/"), "GET /");
    EXPECT_STR(find("GET", "//"), "404");
    EXPECT_STR(find("GET", "/f"), "404");
    EXPECT_STR(find("GET", "/f/"), "GET /f/{r...} r=");
    EXPECT_STR(find("GET", "/f//x"), "GET /f/{r...} r=/x");
    drop_routes();
}

TEST_PLAIN(router, escapes_match_literals_but_do_not_cut_segments)
{
    with_routes((const char *const[]){ "GET /stock/{sku}", "GET /stock/all", NULL });
    EXPECT_STR(find("GET", "/st%6fck/%61ll"), "GET /stock/all");
    EXPECT_STR(find("GET", "/stock/a%2Fb"), "GET /stock/{sku} sku=a%2Fb");
    EXPECT_STR(find("GET", "/stock%2Fall"), "404");
    drop_routes();
}

TEST_PLAIN(router, tells_a_wrong_method_from_an_unknown_path)
{
    with_routes((const char *const[]){ "GET /a", "POST /{x}", "PUT /a", NULL });
    EXPECT_STR(find("DELETE", "/a"), "405");
    EXPECT_STR(find("POST", "/a"), "POST /{x} x=a");
    EXPECT_STR(find("HEAD", "/a"), "GET /a");
    EXPECT_STR(find("HEAD", "/b"), "405");
    EXPECT_STR(find("DELETE", "/a/b"), "404");
    EXPECT_STR(allow("", "/a"), "GET, PUT, POST, HEAD, OPTIONS");
    EXPECT_STR(allow("", "/b"), "POST, OPTIONS");
    drop_routes();
}

TEST_PLAIN(router, finds_its_way_among_many_literals)
{
    static char        text[300][24];
    static const char *patterns[301];

    for (int i = 0; i < 300; i++) {
        snprintf(text[i], sizeof text[i], "GET /r%d/x", i * 7 % 300);
        patterns[i] = text[i];
    }
    with_routes(patterns);
    for (int i = 0; i < 300; i++)
        EXPECT_STR(find("GET", text[i] + 4), text[i]);
    EXPECT_STR(find("GET", "/r300/x"), "404");
    drop_routes();
}

TEST_PLAIN(router, a_path_of_too_many_segments_matches_nothing)
{
    static char path[200];

    with_routes((const char *const[]){ "GET /{r...}", NULL });
    for (int i = 0; i < 2 * HT_MAX_SEGMENTS; i += 2)
        memcpy(path + i, "/a", 2);
    EXPECT_STR(find("GET", path) + 0,
               "GET /{r...} r=a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a/a");
    memcpy(path + 2 * HT_MAX_SEGMENTS, "/a", 3);
    EXPECT_STR(find("GET", path), "404");
    drop_routes();
}

TEST_PLAIN(router, without_a_method_any_one_matches_but_a_named_one_wins)
{
    with_routes((const char *const[]){ "/a", "GET /a", "/{x}", "/b/{y}", "GET /b/{y}", NULL });
    EXPECT_STR(find("GET", "/a"), "GET /a");
    EXPECT_STR(find("HEAD", "/a"), "GET /a");
    EXPECT_STR(find("BREW", "/a"), "/a");
    EXPECT_STR(find("OPTIONS", "/c"), "/{x} x=c");
    EXPECT_STR(find("GET", "/b/c"), "GET /b/{y} y=c");
    EXPECT_STR(find("HEAD", "/b/c"), "GET /b/{y} y=c");
    EXPECT_STR(find("PUT", "/b/c"), "/b/{y} y=c");
    drop_routes();
}

TEST_PLAIN(router, a_head_route_wins_over_get)
{
    with_routes((const char *const[]){ "GET /a", "HEAD /a", "HEAD /{x}", "GET /{x}", NULL });
    EXPECT_STR(find("HEAD", "/a"), "HEAD /a");
    EXPECT_STR(find("HEAD", "/b"), "HEAD /{x} x=b");
    EXPECT_STR(find("GET", "/b"), "GET /{x} x=b");
    drop_routes();
}

TEST_PLAIN(router, looks_first_where_the_host_is_named)
{
    with_routes((const char *const[]){ "GET /a", "GET /{r...}", "GET Example.com/a",
                                       "GET {sub}.example.com/a", "POST www.example.com/a",
                                       "PUT {t}.org/a/{x}", NULL });
    EXPECT_STR(find_at("GET", "example.com", "/a"), "GET Example.com/a");
    EXPECT_STR(find_at("GET", "EXAMPLE.COM:8080", "/a"), "GET Example.com/a");
    EXPECT_STR(find_at("GET", "example.com", "/b"), "GET /{r...} r=b");
    EXPECT_STR(find_at("GET", "Bob.example.com", "/a"), "GET {sub}.example.com/a sub=bob");
    EXPECT_STR(find_at("HEAD", "bob.example.com:1", "/a"), "GET {sub}.example.com/a sub=bob");
    EXPECT_STR(find_at("GET", "x.bob.example.com", "/a"), "GET /a");
    EXPECT_STR(find_at("GET", ".example.com", "/a"), "GET /a");
    EXPECT_STR(find_at("GET", "www.example.com", "/a"), "GET {sub}.example.com/a sub=www");
    EXPECT_STR(find_at("POST", "www.example.com", "/a"), "POST www.example.com/a");
    EXPECT_STR(find_at("POST", "bob.example.com", "/a"), "405");
    EXPECT_STR(find_at("PUT", "a.org", "/a/b"), "PUT {t}.org/a/{x} t=a x=b");
    EXPECT_STR(find_at("GET", "[::1]:80", "/a"), "GET /a");
    EXPECT_STR(find_at("GET", "", "/a"), "GET /a");
    EXPECT_STR(allow("www.example.com", "/a"), "POST, GET, HEAD, OPTIONS");
    EXPECT_STR(allow("a.org", "/a/b"), "PUT, GET, HEAD, OPTIONS");
    drop_routes();
}

TEST_PLAIN(router, finds_its_way_among_many_hosts)
{
    static char        text[100][32];
    static const char *patterns[101];

    for (int i = 0; i < 100; i++) {
        snprintf(text[i], sizeof text[i], "GET h%d.example/a", i * 7 % 100);
        patterns[i] = text[i];
    }
    with_routes(patterns);
    for (int i = 0; i < 100; i++) {
        char host[32];

        snprintf(host, sizeof host, "%.*s", (int)strlen(text[i]) - 6, text[i] + 4);
        EXPECT_STR(find_at("GET", host, "/a"), text[i]);
    }
    EXPECT_STR(find_at("GET", "h100.example", "/a"), "404");
    drop_routes();
}

/* ---- against a matcher that tries every route -------------------------------------- */

static uint64_t seed = 1;

static unsigned
dice(unsigned sides)
{
    seed = seed * 6364136223846793005U + 1442695040888963407U;
    return (unsigned)(seed >> 33) % sides;
}

/* "GET a.x/b/{p0}/{r...}", of few different words. */
static void
make_pattern(char *to, size_t size)
{
    static const char *const methods[] = { "", "GET ", "HEAD ", "POST " };
    static const char *const hosts[] = { "", "", "a.x", "{h}.x", "x" };
    static const char *const words[] = { "a", "b", "", "{p}", "{p}", "{r...}" };
    int                      n = snprintf(to, size, "%s%s", methods[dice(4)], hosts[dice(5)]);

    for (unsigned i = 0, depth = 1 + dice(3); i < depth; i++) {
        const char *word = words[dice(i + 1 < depth ? 5 : 6)];

        if (strcmp(word, "{p}") == 0)
            n += snprintf(to + n, size - (size_t)n, "/{p%u}", i);
        else
            n += snprintf(to + n, size - (size_t)n, "/%s", word);
    }
}

/* "0" for a literal, "1" for {name}, "2" for {name...}: what sorts first wins.  NULL: no match. */
static const char *
kinds_of(const struct ht_pattern *p, const char *path, char *to)
{
    char *begin = to;

    for (int i = 0; i < p->segment_count; i++) {
        size_t length = strcspn(path + 1, "/");

        if (*path != '/')
            return NULL;
        *to++ = (char)('0' + (int)p->segments[i].kind);
        if (p->segments[i].kind == HT_REST)
            path = "";
        else if (p->segments[i].kind == HT_PARAM && length == 0)
            return NULL;
        else if (p->segments[i].kind == HT_LITERAL &&
                 (strlen(p->segments[i].text) != length ||
                  memcmp(p->segments[i].text, path + 1, length) != 0))
            return NULL;
        else
            path += 1 + length;
    }
    *to = '\0';
    return *path == '\0' ? begin : NULL;
}

static int
method_rank(const char *pattern, const char *method)
{
    return strcmp(pattern, method) == 0                                 ? 0
           : strcmp(pattern, "GET") == 0 && strcmp(method, "HEAD") == 0 ? 1
           : *pattern == '\0'                                           ? 2
                                                                        : 9;
}

static int
host_rank(const struct ht_pattern *p, const char *host)
{
    const char *dot = strchr(host, '.');

    if (*p->host == '\0')
        return 2;
    if (p->sub == NULL)
        return strcmp(p->host, host) == 0 ? 0 : 9;
    return dot != NULL && dot > host && strcmp(p->host, dot + 1) == 0 ? 1 : 9;
}

/* The rank of a route, smaller is better, as text; "" if it does not match. */
static const char *
rank(const struct ht_pattern *p, const char *method, const char *host, const char *path)
{
    static char text[2][40];
    static int  at;
    char        kinds[HT_MAX_SEGMENTS + 1];
    int         m = method_rank(p->method, method), h = host_rank(p, host);

    at = !at;
    if (kinds_of(p, path, kinds) == NULL || m == 9 || h == 9)
        return "";
    snprintf(text[at], sizeof text[at], "%d%s/%d", h, kinds, m);
    return text[at];
}

static void
try_path(const char *method, const char *host, const char *path)
{
    const struct ht_route *best = NULL;
    struct ht_match        m;
    char                   best_rank[40] = "~";

    for (int i = 0; i < router.count; i++) {
        const char *r = rank(&router.routes[i]->p, method, host, path);

        if (*r != '\0' && strcmp(r, best_rank) < 0) {
            best = router.routes[i];
            snprintf(best_rank, sizeof best_rank, "%s", r);
        }
    }
    ht_router_match(&router, method, host, path, arena, &m);
    if (m.route != best && (m.route == NULL || best == NULL ||
                            strcmp(rank(&m.route->p, method, host, path), best_rank) != 0))
        test_failed(__FILE__, __LINE__, "%s %s%s: %s instead of %s", method, host, path,
                    m.route != NULL ? m.route->p.source : "none",
                    best != NULL ? best->p.source : "none");
}

TEST_PLAIN(router, finds_what_trying_every_route_finds)
{
    static const char *const methods[] = { "GET", "HEAD", "POST", "PUT" };
    static const char *const hosts[] = { "a.x", "b.x", "x", "y", "", "b.a.x", ".x" };
    static const char *const words[] = { "a", "b", "", "c" };

    for (int round = 0; round < 300; round++) {
        static char        text[12][64];
        static const char *patterns[13];

        for (int i = 0; i < 12; i++) {
            make_pattern(text[i], sizeof text[i]);
            patterns[i] = text[i];
        }
        with_routes(patterns);
        for (int i = 0; i < 100; i++) {
            char path[32];
            int  n = 0;

            for (unsigned k = 0, depth = 1 + dice(3); k < depth; k++)
                n += snprintf(path + n, sizeof path - (size_t)n, "/%s", words[dice(4)]);
            try_path(methods[dice(4)], hosts[dice(7)], path);
        }
        drop_routes();
    }
}

static const char *
in_group(const char *prefix, const char *pattern)
{
    static char       text[64];
    struct ht_pattern p;
    const char       *fault;

    ht_pattern_route(&p, prefix, pattern);
    fault = p.fault;
    snprintf(text, sizeof text, "%s", p.source);
    ht_pattern_fini(&p);
    return fault != NULL ? fault : text;
}

TEST_PLAIN(router, a_route_of_a_group_stands_behind_the_prefix)
{
    EXPECT_STR(in_group("/api", "GET /x"), "GET /api/x");
    EXPECT_STR(in_group("/api", "/x"), "/api/x");
    EXPECT_STR(in_group("/api", "GET"), "GET /api");
    EXPECT_STR(in_group("/api", ""), "/api");
    EXPECT_STR(in_group("/{a}", "GET /{a}"), "the same {name} twice");
    EXPECT_STR(in_group("{a}.b/c", "GET /{a}"), "the same {name} twice");
    EXPECT_STR(in_group("h.example", "GET /x"), "GET h.example/x");
    EXPECT_STR(in_group("h.example", "GET"), "the path must begin with /");
    EXPECT_STR(in_group("/api", "GET h.example/x"),
               "in a group with a prefix the path must begin with /");
    EXPECT_STR(in_group("", "GET h.example/x"), "GET h.example/x");
    EXPECT_STR(in_group("", "GET"), "the path must begin with /");
    EXPECT_STR(in_group("", " /x"), "a method is a word in capitals");
    EXPECT_STR(in_group("", ""), "the path must begin with /");
}

/* ---- the checks ------------------------------------------------------------------ */

#define EXPECT_FAULTS(s, n, part)                                                              \
    do {                                                                                       \
        char faults_[2048];                                                                    \
        int  count_ = bh_http_check((s), faults_, sizeof faults_);                             \
        if (count_ != (n) || strstr(faults_, (part)) == NULL)                                  \
            test_failed(__FILE__, __LINE__, "%d faults, %d expected with \"%s\":\n%s", count_, \
                        (n), (part), faults_);                                                 \
    } while (0)

static int
wrap(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_next(c);
}

TEST(check, a_good_chain_has_no_faults)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_observe(s, bh_http_access_log, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_use(s, wrap, NULL);
    bh_http_handle(s, "GET /", nothing, NULL);
    bh_http_handle(s, "GET /{x}", nothing, NULL);
    bh_http_handle(s, "POST /{x}", nothing, NULL);
    EXPECT_FAULTS(s, 0, "");
    bh_http_server_free(s);
}

TEST(check, routes_without_recover_are_refused)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_use(s, wrap, NULL);
    bh_http_handle(s, "GET /a", nothing, NULL);
    EXPECT_FAULTS(s, 1, "route \"GET /a\" (http/router_test.c:");
    EXPECT_FAULTS(s, 1, "is not covered by bh_http_recover");
    EXPECT_EQ(bh_http_listen(s, "127.0.0.1:0"), 0);
    EXPECT_EQ(bh_http_serve(bh_ctx_background(), s), -EINVAL);
    EXPECT(strstr(bh_error_note(), "bh_http_recover") != NULL);
    bh_http_server_free(s);
}

TEST(check, recover_twice_is_refused_with_both_places)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    char                   both[128];
    int                    first = __LINE__ + 1;
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_use(s, bh_http_recover, NULL);

    snprintf(both, sizeof both, "twice: http/router_test.c:%d and http/router_test.c:%d", first,
             first + 1);
    EXPECT_FAULTS(s, 1, both);
    bh_http_server_free(s);
}

TEST(check, recover_behind_what_it_should_cover_is_refused)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_use(s, wrap, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    EXPECT_FAULTS(s, 1, "wrap (http/router_test.c:");
    EXPECT_FAULTS(s, 1, "is registered before bh_http_recover (http/router_test.c:");
    bh_http_server_free(s);
}

TEST(check, recover_behind_a_route_is_refused)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_handle(s, "GET /a", nothing, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    EXPECT_FAULTS(s, 1, "is registered after route \"GET /a\" (http/router_test.c:");
    bh_http_server_free(s);
}

TEST(check, an_observer_inside_recover_is_refused)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_use(s, bh_http_recover, NULL);
    bh_http_observe(s, bh_http_access_log, NULL);
    EXPECT_FAULTS(s, 1, "observer bh_http_access_log (http/router_test.c:");
    bh_http_server_free(s);
}

TEST(check, recover_as_an_observer_is_refused)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_observe(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /a", nothing, NULL);
    EXPECT_FAULTS(s, 1, "is no observer");
    bh_http_server_free(s);
}

static void
expect_pattern(const char *pattern, const char *fault)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, pattern, nothing, NULL);
    EXPECT_FAULTS(s, 1, fault);
    EXPECT_FAULTS(s, 1, pattern);
    bh_http_server_free(s);
}

TEST(check, bad_patterns_are_refused)
{
    expect_pattern("GET a", "must begin with /");
    expect_pattern("G(T /a", "a word in capitals");
    expect_pattern("get /a", "a word in capitals");
    expect_pattern("CONNECT /a", "not offered");
    expect_pattern("GET /a/../b", "no request has");
    expect_pattern("GET a.example:80/b", "without a port");
    expect_pattern("GET a.{b}.c/d", "without a port");
    expect_pattern("GET {b}/d", "first label");
    expect_pattern("GET {b}x.c/d", "first label");
    expect_pattern("GET {b-c}.d/e", "letters, digits");
    expect_pattern("GET {a}.b/{a}", "twice");
    expect_pattern("GET {a}.z/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", "too many {name}s");
    expect_pattern("GET /a b", "without spaces");
    expect_pattern("GET /a?b", "without spaces, escapes or a query");
    expect_pattern("GET /a{b}", "whole segment");
    expect_pattern("GET /{}", "whole segment");
    expect_pattern("GET /{a-b}", "letters, digits");
    expect_pattern("GET /{a}/{a}", "twice");
    expect_pattern("GET /{a...}/b", "must come last");
    expect_pattern("GET /{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/{i}", "too many {name}s");
}

static void
expect_conflict(const char *a, const char *b, const char *fault)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, a, nothing, NULL);
    bh_http_handle(s, b, nothing, NULL);
    EXPECT_FAULTS(s, fault != NULL ? 1 : 0, fault != NULL ? fault : "");
    bh_http_server_free(s);
}

TEST(check, routes_of_which_neither_is_more_specific_conflict)
{
    expect_conflict("GET /a", "GET /a", "exactly what");
    expect_conflict("GET /a/{x}", "GET /a/{y}", "exactly what");
    expect_conflict("GET /{x}/b", "GET /a/{y}", "neither is more specific");
    expect_conflict("GET /a/{r...}", "GET /{x}/b", "neither is more specific");
    expect_conflict("GET /a", "POST /a", NULL);
    expect_conflict("GET /a/{x}", "GET /a/b", NULL);
    expect_conflict("GET /a/{x}", "GET /a/", NULL);
    expect_conflict("GET /{x}/b", "GET /a/c", NULL);
    expect_conflict("GET /{r...}", "GET /a/{x}", NULL);
    expect_conflict("GET /a/{r...}", "GET /a/", NULL);
    expect_conflict("GET /{x}/{y}", "GET /a/b/c", NULL);
    expect_conflict("/a", "/a", "exactly what");
    expect_conflict("/a", "GET /a", NULL);
    expect_conflict("/a/{x}", "GET /a/b", NULL);
    expect_conflict("/a/b", "GET /a/{x}", "neither is more specific");
    expect_conflict("HEAD /a/{x}", "GET /a/b", "neither is more specific");
    expect_conflict("HEAD /a/b", "GET /a/{x}", NULL);
    expect_conflict("GET h.example/a", "GET H.Example/a", "exactly what");
    expect_conflict("GET {x}.example/a", "GET {y}.example/a", "exactly what");
    expect_conflict("GET {x}.example/a", "GET a.example/a", NULL);
    expect_conflict("GET h.example/{x}/b", "GET /a/{y}", NULL);
    expect_conflict("GET h.example/{x}/b", "GET h.example/a/{y}", "neither is more specific");
}

TEST(check, recover_in_a_group_is_refused)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_use(s, bh_http_recover, NULL);
    bh_http_use(bh_http_group(s, "/api"), bh_http_recover, NULL);
    EXPECT_FAULTS(s, 1, "bh_http_recover is registered twice: http/router_test.c:");
    bh_http_server_free(s);

    s = bh_http_server_new(NULL);
    bh_http_use(bh_http_group(s, "/api"), bh_http_recover, NULL);
    EXPECT_FAULTS(s, 1, "is registered in group \"/api\" (http/router_test.c:");
    bh_http_server_free(s);
}

TEST(check, middleware_behind_a_route_of_its_group_is_refused)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    struct bh_http_group  *api, *v1;

    bh_http_use(s, bh_http_recover, NULL);
    api = bh_http_group(s, "/api");
    v1 = bh_http_group(api, "/v1");
    bh_http_handle(v1, "GET /a", nothing, NULL);
    bh_http_use(bh_http_group(s, "/other"), wrap, NULL);
    bh_http_use(bh_http_group(api, "/v2"), wrap, NULL);
    EXPECT_FAULTS(s, 0, "");
    bh_http_use(v1, wrap, NULL);
    EXPECT_FAULTS(s, 1, "wrap (http/router_test.c:");
    EXPECT_FAULTS(s, 1, "is registered after route \"GET /api/v1/a\" (http/router_test.c:");
    bh_http_use(api, wrap, NULL);
    bh_http_use(s, wrap, NULL);
    EXPECT_FAULTS(s, 3, "move it before the first route");
    bh_http_server_free(s);
}

TEST(check, what_watches_and_would_miss_panics_is_refused)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_use(s, bh_http_recover, NULL);
    bh_http_use(bh_http_group(s, "/api"), bh_http_access_log, NULL);
    bh_http_use(s, bh_http_identify, NULL);
    EXPECT_FAULTS(s, 2, "bh_http_access_log (http/router_test.c:");
    EXPECT_FAULTS(s, 2, "bh_http_identify (http/router_test.c:");
    EXPECT_FAULTS(s, 2, "use bh_http_observe, before");
    bh_http_server_free(s);
}

static void
expect_prefix(const char *prefix, const char *fault)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    struct bh_http_group  *g = bh_http_group(s, prefix);

    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(bh_http_group(g, "/in"), "GET /a", nothing, NULL);
    EXPECT_FAULTS(s, fault != NULL ? 1 : 0, fault != NULL ? fault : "");
    if (fault != NULL)
        EXPECT_FAULTS(s, 1, "bad prefix \"");
    bh_http_server_free(s);
}

TEST(check, bad_prefixes_are_refused_once)
{
    expect_prefix("/", "does not end with /");
    expect_prefix("/api/", "does not end with /");
    expect_prefix("GET /api", "no method");
    expect_prefix("/{r...}", "no {name...}");
    expect_prefix("/a%20", "plainly");
    expect_prefix("a b", "no method");
    expect_prefix("", NULL);
    expect_prefix("/a/{b}", NULL);
    expect_prefix("{sub}.example.com", NULL);
    expect_prefix("example.com/a", NULL);
}

TEST(check, routes_of_two_groups_conflict_too)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(bh_http_group(s, "/a"), "GET /b", nothing, NULL);
    bh_http_handle(bh_http_group(bh_http_group(s, "/a"), "/b"), "GET", nothing, NULL);
    EXPECT_FAULTS(s, 1, "route \"GET /a/b\" (http/router_test.c:");
    EXPECT_FAULTS(s, 1, "exactly what \"GET /a/b\" (http/router_test.c:");
    bh_http_server_free(s);
}

TEST(check, the_table_of_routes_shows_the_chain_of_each)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    struct bh_http_group  *g;
    char                   text[1024], small[8];
    size_t                 length;

    bh_http_observe(s, bh_http_access_log, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /a/{x}", nothing, NULL);
    g = bh_http_group(bh_http_group(s, "b.example/v1"), "");
    bh_http_use(g, wrap, NULL);
    bh_http_handle(g, "POST", nothing, NULL);
    length = bh_http_routes(s, text, sizeof text);
    EXPECT_EQ(length, strlen(text));
    EXPECT(strstr(text, "GET /a/{x}         nothing  http/router_test.c:") == text);
    EXPECT(strstr(text, "  (bh_http_access_log > bh_http_recover)\nPOST b.example/v1  nothing  "
                        "http/router_test.c:") != NULL);
    EXPECT(strstr(text, "  (bh_http_access_log > bh_http_recover > wrap)\n") != NULL);
    EXPECT_EQ(bh_http_routes(s, small, sizeof small), length);
    EXPECT_EQ(strlen(small), sizeof small - 1);
    bh_http_server_free(s);
}
