/* guard_test.c -- who is let in to /debug, and who is not. */
#include "http_fixture.h"

#include <stdio.h>
#include <string.h>

#include <bulkhead/http/security.h>
#include <bulkhead/observe/page.h>

static char                    answer[4096];
static struct bh_http_proxies *trusted;

static int
secret(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "seen\n");
}

static int
status_of(struct fixture *f, const char *fields)
{
    char            request[1024];
    struct bh_conn *c = fixture_dial(f);

    (void)snprintf(request, sizeof request, "GET /debug/x HTTP/1.1\r\n%s\r\n", fields);
    send_text(c, request);
    read_reply(c, answer, sizeof answer);
    bh_conn_free(c);
    return (int)strtol(answer + 9, NULL, 10);
}

static struct fixture
serve_guarded(const struct bh_http_debug_options *o, const char *proxies)
{
    struct fixture        f = { .s = bh_http_server_new(NULL) };
    struct bh_http_group *g;

    if (proxies != NULL) {
        trusted = bh_http_proxies_new(&(struct bh_http_proxies_options){ .trusted = proxies });
        bh_http_observe(f.s, bh_http_real_ip, trusted);
    }
    bh_http_use(f.s, bh_http_recover, NULL);
    g = bh_http_group(f.s, "/debug");
    bh_http_use(g, bh_http_debug_guard, (void *)(uintptr_t)o);
    bh_http_handle(g, "GET /x", secret, NULL);
    return f;
}

static void
stop_guarded(struct fixture *f)
{
    EXPECT_EQ(fixture_stop(f), 0);
    bh_http_proxies_free(trusted);
    trusted = NULL;
}

TEST_REAL(guard, this_machine_is_let_in_by_its_own_names)
{
    struct fixture f = serve_guarded(NULL, NULL);

    fixture_start(&f);
    EXPECT_EQ(status_of(&f, "Host: localhost:8080\r\n"), 200);
    EXPECT_HAS(answer, "Cache-Control: no-store\r\n");
    EXPECT_HAS(answer, "X-Frame-Options: DENY\r\n");
    EXPECT_EQ(status_of(&f, "Host: 127.0.0.1\r\n"), 200);
    EXPECT_EQ(status_of(&f, "Host: [::1]:80\r\n"), 200);
    EXPECT_EQ(status_of(&f, "Host: app.localhost\r\n"), 200);
    EXPECT_EQ(status_of(&f, "Host: evil.example\r\n"), 403); /* DNS rebinding */
    EXPECT_EQ(status_of(&f, "Host: localhost.evil.example\r\n"), 403);
    EXPECT_EQ(status_of(&f, "Host: notlocalhost\r\n"), 403);
    stop_guarded(&f);
}

TEST_REAL(guard, what_was_forwarded_is_nobodys)
{
    struct fixture f = serve_guarded(NULL, NULL);

    fixture_start(&f);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nX-Forwarded-For: 127.0.0.1\r\n"), 403);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nForwarded: for=127.0.0.1\r\n"), 403);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nX-Real-IP: 127.0.0.1\r\n"), 403);
    stop_guarded(&f);
}

TEST_REAL(guard, behind_a_trusted_proxy_the_client_counts)
{
    static const char *const                  office[] = { "198.51.100.0/24", NULL };
    static const struct bh_http_debug_options o = { .peers = office };
    struct fixture                            f = serve_guarded(&o, "127.0.0.0/8");

    fixture_start(&f);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nX-Forwarded-For: 198.51.100.7\r\n"), 200);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nX-Forwarded-For: 198.51.101.7\r\n"), 403);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nX-Forwarded-For: nonsense\r\n"), 403);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nX-Forwarded-For: ::1\r\n"), 403); /* hearsay */
    EXPECT_EQ(status_of(&f, "Host: localhost\r\n"), 200);
    stop_guarded(&f);
}

TEST_REAL(guard, what_is_no_block_lets_nobody_in)
{
    static const char *const blocks[] = { "198.51.100.0/-8", "198.51.100.0/33",
                                          "198.51.100.0/",   "198.51.100.0/ 0",
                                          "198.51.100.0/+0", "198.51.100.0/0x",
                                          "0.0.0.0/18446744073709551520",
                                          "::/129",          "::/-1",
                                          "198.51.100/0",    NULL };
    static const struct bh_http_debug_options o = { .peers = blocks };
    struct fixture                            f = serve_guarded(&o, "127.0.0.0/8");

    fixture_start(&f);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nX-Forwarded-For: 198.51.100.7\r\n"), 403);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nX-Forwarded-For: 2001:db8::1\r\n"), 403);
    stop_guarded(&f);
}

TEST_REAL(guard, pages_of_other_sites_may_only_lead_here)
{
    static const char *const                  names[] = { "ops.example", NULL };
    static const struct bh_http_debug_options o = { .hosts = names };
    struct fixture                            f = serve_guarded(&o, NULL);

    fixture_start(&f);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nOrigin: https://evil.example\r\n"), 403);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nOrigin: null\r\n"), 403);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nOrigin: http://localhost\r\n"), 200);
    EXPECT_EQ(status_of(&f, "Host: localhost\r\nSec-Fetch-Site: cross-site\r\n"), 403);
    EXPECT_EQ(
        status_of(
            &f,
            "Host: localhost\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: navigate\r\n"),
        200);
    EXPECT_EQ(status_of(&f, "Host: OPS.example:99\r\nSec-Fetch-Site: same-origin\r\n"), 200);
    stop_guarded(&f);
}

TEST_REAL(guard, a_token_lets_in_from_anywhere)
{
    static const struct bh_http_debug_options o = { .token = "s3cret" };
    struct fixture                            f = serve_guarded(&o, "127.0.0.0/8");

    fixture_start(&f);
#define FAR "Host: shop.example\r\nX-Forwarded-For: 203.0.113.5\r\n"
    EXPECT_EQ(status_of(&f, FAR), 401);
    EXPECT_HAS(answer, "WWW-Authenticate: Basic realm=\"debug\"\r\n");
    EXPECT_EQ(status_of(&f, FAR "Authorization: Bearer s3cret\r\n"), 200);
    EXPECT_EQ(status_of(&f, FAR "Authorization: Bearer s3cre\r\n"), 401);
    EXPECT_EQ(status_of(&f, FAR "Authorization: Bearer s3cretx\r\n"), 401);
    EXPECT_EQ(status_of(&f, FAR "Authorization: Bearer \r\n"), 401);
    EXPECT_EQ(status_of(&f, FAR "Authorization: Basic YW55OnMzY3JldA==\r\n"),
              200);                                                             /* any:s3cret */
    EXPECT_EQ(status_of(&f, FAR "Authorization: Basic YW55Ondyb25n\r\n"), 401); /* any:wrong */
    EXPECT_EQ(status_of(&f, FAR "Authorization: Basic !!!\r\n"), 401);
    stop_guarded(&f);
}

TEST_REAL(guard, a_unix_socket_is_this_machine_but_what_comes_through_it_for_others_is_not)
{
    struct fixture  f = serve_guarded(NULL, NULL);
    struct bh_conn *c;

    EXPECT_EQ(bh_http_listen(f.s, "unix:@bulkhead-guard-test"), 0);
    fixture_start(&f);
    EXPECT_STR(bh_http_address(f.s), "unix:@bulkhead-guard-test");
    EXPECT_EQ(status_of(&f, "Host: whatever\r\n"), 200); /* no browser gets here */
    EXPECT_EQ(status_of(&f, "Host: whatever\r\nX-Forwarded-For: 127.0.0.1\r\n"), 403);
    c = fixture_dial(&f);
    send_text(c, "GET /debug/x HTTP/1.0\r\n\r\n");
    (void)read_to_end(c, answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    bh_conn_free(c);
    stop_guarded(&f);
}

TEST_REAL(guard, credentials_of_no_use_are_not_repeated)
{
    static const struct bh_http_debug_options o = { .token = "s3cret" };
    struct fixture                            f = serve_guarded(&o, "127.0.0.0/8");

    fixture_start(&f);
    EXPECT_EQ(status_of(&f, FAR "Authorization: Bearer hush\r\nCookie: hush=1\r\n"), 401);
    EXPECT(strstr(answer, "hush") == NULL && strstr(answer, "s3cret") == NULL);
    stop_guarded(&f);
}
