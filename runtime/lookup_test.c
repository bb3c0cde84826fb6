/* lookup_test.c -- host names.  Only names that need no network. */

#include "test.h"

#include <errno.h>
#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

#include "netaddr.h"

TEST(lookup, literal_address_is_its_own_answer)
{
    char a[4][64];

    EXPECT_EQ(bh_lookup(NULL, "192.0.2.7", a, 4), 1);
    EXPECT_STR(a[0], "192.0.2.7");
    EXPECT_EQ(bh_lookup(NULL, "2001:db8:0::1", a, 4), 1);
    EXPECT_STR(a[0], "2001:db8::1");
}

TEST(lookup, literal_address_needs_no_live_context)
{
    struct bh_ctx *ctx = bh_ctx_cancellable(bh_ctx_background());
    char           a[1][64];

    bh_ctx_cancel(ctx);
    EXPECT_EQ(bh_lookup(ctx, "192.0.2.7", a, 1), 1);
    bh_ctx_unref(ctx);
}

TEST(lookup, localhost_is_this_machine)
{
    char a[8][64];
    int  n = bh_lookup(NULL, "localhost", a, 8);

    EXPECT(n >= 1);
    for (int i = 0; i < n; i++)
        EXPECT(strcmp(a[i], "127.0.0.1") == 0 || strcmp(a[i], "::1") == 0);
}

TEST(lookup, writes_no_more_than_asked)
{
    char a[2][64] = { "", "untouched" };

    EXPECT_EQ(bh_lookup(NULL, "localhost", a, 1), 1);
    EXPECT_STR(a[1], "untouched");
}

TEST(lookup, impossible_names_have_no_host)
{
    char a[1][64], name[300];

    EXPECT_EQ(bh_lookup(NULL, "", a, 1), BH_ENOHOST);
    EXPECT_EQ(bh_lookup(NULL, "two..dots", a, 1), BH_ENOHOST);
    EXPECT_STR(bh_error_note(), "lookup two..dots: no such host");
    memset(name, 'a', sizeof name);
    name[sizeof name - 1] = '\0';
    EXPECT_EQ(bh_lookup(NULL, name, a, 1), BH_ENOHOST);
}

TEST(lookup, ended_context_is_not_waited_past)
{
    struct bh_ctx *ctx = bh_ctx_cancellable(bh_ctx_background());
    char           a[1][64];

    bh_ctx_cancel(ctx);
    EXPECT_EQ(bh_lookup(ctx, "localhost", a, 1), BH_ECANCELED);
    EXPECT_STR(bh_error_note(), "lookup localhost: context canceled");
    bh_ctx_unref(ctx);
}

struct asker {
    struct bh_ctx       *ctx;
    _Atomic int         *bad;
    struct bh_waitgroup *wg;
};

static void
ask(void *args)
{
    struct asker *a = args;
    char          addresses[1][64];
    int           n = bh_lookup(a->ctx, "localhost", addresses, 1);

    if (n != 1 && n != BH_ECANCELED)
        atomic_fetch_add(a->bad, 1);
    bh_waitgroup_done(a->wg);
}

static void
ask_many(struct bh_ctx *ctx)
{
    struct bh_waitgroup wg = { 0 };
    _Atomic int         bad = 0;

    bh_waitgroup_add(&wg, 100);
    for (int i = 0; i < 100; i++)
        bh_go(ask, &(struct asker){ ctx, &bad, &wg });
    bh_yield();
    if (ctx != NULL)
        bh_ctx_cancel(ctx);
    bh_waitgroup_wait(&wg);
    EXPECT_EQ(bad, 0);
}

TEST(lookup, more_at_once_than_may_run_all_get_their_answer)
{
    ask_many(NULL);
}

TEST(lookup, callers_that_give_up_leave_nothing_behind)
{
    struct bh_ctx *ctx = bh_ctx_cancellable(bh_ctx_background());

    ask_many(ctx);
    bh_ctx_unref(ctx);
}

TEST(lookup, name_of_a_service_is_its_port)
{
    struct rt_addr list[RT_ADDR_MAX];
    char           text[RT_ADDR_TEXT];

    EXPECT(rt_addr_resolve(NULL, "127.0.0.1:http", (struct rt_want){ .type = SOCK_STREAM },
                           list) >= 1);
    rt_addr_text(&list[0], text, sizeof text);
    EXPECT_STR(text, "127.0.0.1:80");
}

TEST(lookup, unknown_service_is_an_error)
{
    struct rt_addr list[RT_ADDR_MAX];

    EXPECT_EQ(rt_addr_resolve(NULL, "127.0.0.1:nosuch", (struct rt_want){ .type = SOCK_STREAM },
                              list), -EINVAL);
    EXPECT_STR(bh_error_note(), "lookup tcp/nosuch: unknown port");
}

TEST(lookup, to_listen_on_a_name_prefers_ipv4)
{
    struct rt_addr list[RT_ADDR_MAX];

    EXPECT(rt_addr_resolve(NULL, "localhost:80",
                           (struct rt_want){ .type = SOCK_STREAM, .passive = true }, list) >= 1);
    EXPECT_EQ(list[0].u.any.sa_family, AF_INET);
}
