/* url_test.c -- URLs: what each part becomes, what is refused, how references resolve. */

#include <errno.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/error.h>
#include <bulkhead/http/url.h>

#include "test.h"

static struct bh_url
good(struct bh_arena *arena, const char *text)
{
    struct bh_url u = { 0 };

    if (bh_url_parse(arena, text, &u) != 0)
        test_failed(__FILE__, __LINE__, "\"%s\" refused: %s", text, bh_error_note());
    return u;
}

static const char *
target(struct bh_arena *arena, const char *rest)
{
    return good(arena, bh_arena_print(arena, "http://h%s", rest)).target;
}

TEST_REAL(url, parts_are_taken_apart)
{
    struct bh_arena *arena = bh_arena_new(0);
    struct bh_url    u;

    BH_DEFER(bh_arena_free, arena);
    u = good(arena, "HTTPS://a%40b:p%3Aw@Example.COM:8443/x/y?q=1&r=/?#frag");
    EXPECT_STR(u.scheme, "https");
    EXPECT_STR(u.user, "a@b");
    EXPECT_STR(u.password, "p:w");
    EXPECT_STR(u.host, "example.com");
    EXPECT_STR(u.authority, "example.com:8443");
    EXPECT_EQ(u.port, 8443);
    EXPECT_STR(u.target, "/x/y?q=1&r=/?");
    u = good(arena, "http://example.com");
    EXPECT(u.user == NULL && u.password == NULL);
    EXPECT_EQ(u.port, 80);
    EXPECT_STR(u.target, "/");
    EXPECT_STR(good(arena, "http://example.com:80/").authority, "example.com");
    EXPECT_STR(good(arena, "https://example.com:80/").authority, "example.com:80");
    EXPECT_STR(good(arena, "http://u@h/").user, "u");
    EXPECT(good(arena, "http://u@h/").password == NULL);
    EXPECT_STR(good(arena, "http://u:@h/").password, "");
}

TEST_REAL(url, hosts_may_be_addresses)
{
    struct bh_arena *arena = bh_arena_new(0);
    struct bh_url    u;

    BH_DEFER(bh_arena_free, arena);
    u = good(arena, "http://[::1]:8080/");
    EXPECT_STR(u.host, "::1");
    EXPECT_STR(u.authority, "[::1]:8080");
    EXPECT_STR(good(arena, "http://[2001:DB8::1]").authority, "[2001:db8::1]");
    EXPECT_STR(good(arena, "http://127.0.0.1:1").host, "127.0.0.1");
    EXPECT_STR(good(arena, "http://example.com./").host, "example.com.");
    EXPECT_STR(good(arena, "http://1a.b2c/").host, "1a.b2c");
    EXPECT_STR(good(arena, "http://a_b-c/").host, "a_b-c");
}

TEST_REAL(url, targets_are_made_fit_to_send)
{
    struct bh_arena *arena = bh_arena_new(0);

    BH_DEFER(bh_arena_free, arena);
    EXPECT_STR(target(arena, "?x"), "/?x");
    EXPECT_STR(target(arena, "#x"), "/");
    EXPECT_STR(target(arena, "/a#b?c"), "/a");
    EXPECT_STR(target(arena, "/a/./b/../c"), "/a/c");
    EXPECT_STR(target(arena, "/a/%2E%2e/c"), "/c");
    EXPECT_STR(target(arena, "/../../c"), "/c");
    EXPECT_STR(target(arena, "/a/.."), "/");
    EXPECT_STR(target(arena, "/a/b/.."), "/a/");
    EXPECT_STR(target(arena, "/a/."), "/a/");
    EXPECT_STR(target(arena, "/a//b/...?/../"), "/a//b/...?/../");
    EXPECT_STR(target(arena, "/\xc3\xa9\"<>|?{}"), "/%C3%A9%22%3C%3E%7C?%7B%7D");
    EXPECT_STR(target(arena, "/a%20b"), "/a%20b");
    EXPECT_STR(bh_url_escape(arena, "a b/\xc3\xa9~"), "a%20b%2F%C3%A9~");
}

static const char *const doubtful[] = {
    "",
    "example.com",
    "/path",
    "//host/",
    "http:",
    "http:/",
    "http:host",
    "http://",
    "http:///path",
    "http://?q",
    "http://:80/",
    "http://user@/",
    "http://a b/",
    " http://a/",
    "http://a/b c",
    "http://a/\t",
    "http://a/\r\nHost: b",
    "http://a\\b/",
    "http://a/\\b",
    "http://a/\x7f",
    "http://a%2eb/",
    "http://\xc3\xa9/",
    "http://a..b/",
    "http://.a/",
    "http://a/%",
    "http://a/%1",
    "http://a/%zz",
    "http://a:/",
    "http://a:0/",
    "http://a:65536/",
    "http://a:99999999/",
    "http://a:8o/",
    "http://a:+80/",
    "http://a:80:80/",
    "http://127.1/",
    "http://0x7f000001/",
    "http://2130706433/",
    "http://127.0.0.01/",
    "http://1.2.3.4.5/",
    "http://1.2.3.4./",
    "http://a.0x1/",
    "http://[::1/",
    "http://[::1]x/",
    "http://[]/",
    "http://[127.0.0.1]/",
    "http://[fe80::1%25eth0]/",
    "http://::1/",
    "http://a@b@c/",
    "http://a:b:c@d/",
    "http://%zz@d/",
    "http://a%00@d/",
    "http://u:p%@d/",
};

TEST_REAL(url, what_two_could_read_differently_is_refused)
{
    struct bh_arena *arena = bh_arena_new(0);
    struct bh_url    u;
    char             label[80];

    BH_DEFER(bh_arena_free, arena);
    for (size_t i = 0; i < sizeof doubtful / sizeof *doubtful; i++)
        if (bh_url_parse(arena, doubtful[i], &u) != -EINVAL)
            test_failed(__FILE__, __LINE__, "\"%s\" was read", doubtful[i]);
    EXPECT_EQ(bh_url_parse(arena, "ftp://a/", &u), -EPROTONOSUPPORT);
    EXPECT_EQ(bh_url_parse(arena, "javascript:alert(1)", &u), -EPROTONOSUPPORT);
    memset(label, 'a', sizeof label);
    EXPECT_EQ(bh_url_parse(arena, bh_arena_print(arena, "http://%.63s/", label), &u), 0);
    EXPECT_EQ(bh_url_parse(arena, bh_arena_print(arena, "http://%.64s/", label), &u), -EINVAL);
    EXPECT_EQ(bh_url_parse(arena, bh_arena_print(arena, "http://h/%0*d", 9000, 0), &u),
              -ENAMETOOLONG);
}

/* The examples of RFC 3986 section 5.4 that are of http, and a few more. */
TEST_REAL(url, references_are_resolved_against_a_base)
{
    static const char *const cases[][2] = {
        { "g", "http://a/b/c/g" },
        { "./g", "http://a/b/c/g" },
        { "g/", "http://a/b/c/g/" },
        { "/g", "http://a/g" },
        { "//g", "http://g/" },
        { "?y", "http://a/b/c/d;p?y" },
        { "g?y", "http://a/b/c/g?y" },
        { "#s", "http://a/b/c/d;p?q" },
        { "g#s", "http://a/b/c/g" },
        { ";x", "http://a/b/c/;x" },
        { "", "http://a/b/c/d;p?q" },
        { ".", "http://a/b/c/" },
        { "./", "http://a/b/c/" },
        { "..", "http://a/b/" },
        { "../g", "http://a/b/g" },
        { "../..", "http://a/" },
        { "../../g", "http://a/g" },
        { "../../../g", "http://a/g" },
        { "/./g", "http://a/g" },
        { "/../g", "http://a/g" },
        { "g.", "http://a/b/c/g." },
        { "..g", "http://a/b/c/..g" },
        { "./../g", "http://a/b/g" },
        { "g;x=1/../y", "http://a/b/c/y" },
        { "g?y/../x", "http://a/b/c/g?y/../x" },
        { "https://e:1/f", "https://e:1/f" },
        { "HTTP://e", "http://e/" },
    };
    struct bh_arena *arena = bh_arena_new(0);
    struct bh_url    base, u;

    BH_DEFER(bh_arena_free, arena);
    base = good(arena, "http://user:pw@a/b/c/d;p?q");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        EXPECT_EQ(bh_url_resolve(arena, &base, cases[i][0], &u), 0);
        EXPECT_STR(bh_url_text(arena, &u), cases[i][1]);
        EXPECT(u.user == NULL);
    }
    EXPECT_EQ(bh_url_resolve(arena, &base, "mailto:x@y", &u), -EPROTONOSUPPORT);
    EXPECT_EQ(bh_url_resolve(arena, &base, "//h:x/", &u), -EINVAL);
    EXPECT_EQ(bh_url_resolve(arena, &base, "a b", &u), -EINVAL);
    EXPECT_EQ(bh_url_resolve(arena, &base, "http:g", &u), -EINVAL);
}

TEST_REAL(url, an_origin_is_scheme_host_and_port)
{
    struct bh_arena *arena = bh_arena_new(0);
    struct bh_url    a;

    BH_DEFER(bh_arena_free, arena);
    a = good(arena, "http://a/x");
    struct bh_url same = good(arena, "http://A:80/y"), port = good(arena, "http://a:81/x"),
                  scheme = good(arena, "https://a:80/x"), host = good(arena, "http://b/x");

    EXPECT(bh_url_same_origin(&a, &same));
    EXPECT(!bh_url_same_origin(&a, &port));
    EXPECT(!bh_url_same_origin(&a, &scheme));
    EXPECT(!bh_url_same_origin(&a, &host));
}
