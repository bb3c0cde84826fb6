/* router_test.c -- patterns, precedence, and what the checks at start refuse. */
#include "ht.h"

#include <errno.h>
#include <stdio.h>

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
        ht_router_add(&router, *patterns, nothing, NULL,
                      &(struct ht_place){ "nothing", "f.c", 1 });
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
find(const char *method, const char *path)
{
    static char     text[256];
    struct ht_match m;
    int             n, param = 0;

    ht_router_match(&router, method, path, arena, &m);
    if (m.route == NULL)
        return m.path_known ? "405" : "404";
    n = snprintf(text, sizeof text, "%s", m.route->pattern);
    for (int i = 0; i < m.route->segment_count; i++) {
        if (m.route->segments[i].kind == HT_LITERAL)
            continue;
        n += snprintf(text + n, sizeof text - (size_t)n, " %s=%.*s", m.route->segments[i].text,
                      (int)m.lengths[param], m.params[param]);
        param++;
    }
    return text;
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
    EXPECT_STR(ht_router_allow(&router, "/a", arena), "GET, PUT, POST, HEAD, OPTIONS");
    EXPECT_STR(ht_router_allow(&router, "/b", arena), "POST, OPTIONS");
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

/* ---- the checks ------------------------------------------------------------------------ */

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
    expect_pattern("/a", "METHOD /path");
    expect_pattern("GET a", "must begin with /");
    expect_pattern("G(T /a", "METHOD /path");
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
}

TEST(check, the_table_of_routes_shows_the_chain)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    char                   text[1024];

    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /a/{x}", nothing, NULL);
    bh_http_routes(s, text, sizeof text);
    EXPECT(strstr(text, "bh_http_recover  http/router_test.c:") == text);
    EXPECT(strstr(text, "GET /a/{x}") != NULL);
    EXPECT(strstr(text, " nothing  http/router_test.c:") != NULL);
    bh_http_server_free(s);
}
