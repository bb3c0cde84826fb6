/* pprof_test.c -- /debug/pprof/ from within; test/observe/pprof has what Go's tool makes of it. */
#include "http_fixture.h"

#include <errno.h>

#include <bulkhead/observe/pprof.h>
#include <bulkhead/observe/profile.h>

static char answer[1 << 18];

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static int
forbid(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_header(c, "Secret") != NULL ? bh_http_next(c)
                                               : bh_http_reply(c, 403, "no\n");
}

static int
named(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%s\n", bh_http_param(c, "name"));
}

TEST_REAL(pprof, in_a_group_it_has_the_groups_prefix_and_middleware)
{
    struct fixture        f = { .s = bh_http_server_new(NULL) };
    struct bh_http_group *g;

    bh_http_use(f.s, bh_http_recover, NULL);
    g = bh_http_group(f.s, "/inside");
    bh_http_use(g, forbid, NULL);
    bh_http_pprof_mount(g);
    fixture_start(&f);
    talk(&f, GET("/inside/debug/pprof/goroutine?debug=1"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 403 ");
    talk(&f,
         "GET /inside/debug/pprof/goroutine?debug=1 HTTP/1.1\r\nHost: a\r\nSecret: x\r\n\r\n",
         answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    EXPECT_HAS(answer, "\r\nX-Content-Type-Options: nosniff\r\n");
    EXPECT_STARTS(body_of(answer), "goroutine profile: total ");
    talk(&f, GET("/debug/pprof/goroutine"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 404 ");
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_cpu_stop();
}

TEST_REAL(pprof, handlers_may_be_added_at_any_time_but_not_twice_nor_without_end)
{
    static char    names[32][8];
    struct fixture f = { .s = bh_http_server_new(NULL) };
    int            rc = 0;

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_pprof_mount(f.s);
    fixture_start(&f);
    talk(&f, GET("/debug/pprof/mine"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 404 ");
    EXPECT_HAS(answer, "\r\nX-Go-Pprof: 1\r\n");
    EXPECT_EQ(bh_pprof_register_handler("mine", "what I have", named, NULL), 0);
    EXPECT_EQ(bh_pprof_register_handler("mine", NULL, named, NULL), -EEXIST);
    EXPECT_EQ(bh_pprof_register_handler("", NULL, named, NULL), -EINVAL);
    EXPECT_EQ(bh_pprof_register_handler("other", NULL, NULL, NULL), -EINVAL);
    talk(&f, GET("/debug/pprof/mine"), answer, sizeof answer);
    EXPECT_STR(body_of(answer), "mine\n");
    talk(&f, GET("/debug/pprof/"), answer, sizeof answer);
    EXPECT_HAS(answer, "<a href=\"mine\">mine</a><td>what I have\n");
    for (int i = 0; i < 32 && rc == 0; i++) {
        (void)snprintf(names[i], sizeof names[i], "n%d", i);
        rc = bh_pprof_register_handler(names[i], NULL, named, NULL);
    }
    EXPECT_EQ(rc, -ENOSPC);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_cpu_stop();
}

TEST_REAL(pprof, a_profile_longer_than_the_request_may_take_is_refused)
{
    struct bh_http_options o = { .request_timeout = 2 * BH_SECOND, .half_close = true };
    struct fixture         f = { .s = bh_http_server_new(&o) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_pprof_mount(f.s);
    fixture_start(&f);
    talk(&f, GET("/debug/pprof/profile?seconds=3"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 400 ");
    EXPECT_STR(body_of(answer), "profile duration exceeds server's request timeout\n");
    talk(&f, GET("/debug/pprof/profile?seconds=1"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_cpu_stop();
}
