/*
 * m_sync.c -- M: goroutines that belong together.
 *
 * Go's errgroup is bh_group.  A member's panic ends a Go program; in a group of
 * ours it fails the group (docs/adr/0008-a-group-keeps-its-members-panics.md).
 */

#include "cases.h"

#include <errno.h>
#include <stdio.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/once.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

struct channel {
    struct bh_chan *chan;
};

/* What Wait returned: the error's text, or <nil>. */
static const char *
error_text(int code)
{
    if (code == 0)
        return "<nil>";
    return code == BH_EPANIC ? "BH_EPANIC" : bh_error_note();
}

static const char *
ctx_text(int code)
{
    return code == 0 ? "<nil>" : bh_error_text(code);
}

static int
succeed(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    return 0;
}

static int
panic_in_group(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    bh_panic("in the group");
}

TWIN(M01, "errgroup-panic-kills-the-process")
{
    struct bh_group g;

    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "must not print");
    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, panic_in_group, NULL);
    say("Wait: %s", error_text(bh_group_wait(&g)));
}

static int
fail_first(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    return bh_fail(-EIO, "first");
}

static int
fail_after_cancel(struct bh_ctx *ctx, void *args)
{
    bh_recv(bh_ctx_done(ctx), NULL);
    bh_send(((struct channel *)args)->chan, &(int){ bh_ctx_err(ctx) });
    return bh_fail(-EIO, "second");
}

TWIN(M02, "errgroup-first-error-and-cancel")
{
    struct channel  slow = { BH_CHAN(int, 1) };
    struct bh_group g;
    int             saw;

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, fail_first, NULL);
    bh_group_go(&g, fail_after_cancel, &slow);
    say("Wait: %s", error_text(bh_group_wait(&g)));
    bh_recv(slow.chan, &saw);
    say("sibling saw: %s", ctx_text(saw));
}

TWIN(M03, "errgroup-context-cancelled-after-success-too")
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, succeed, NULL);
    struct bh_ctx *ctx = bh_ctx_ref(g.ctx);
    int            err = bh_group_wait(&g);
    say("Wait: %s ctx: %s", error_text(err), ctx_text(bh_ctx_err(ctx)));
    bh_ctx_unref(ctx);
}

static int
goexit(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    bh_goexit();
}

TWIN(M04, "errgroup-goexit-counts-as-nil")
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, goexit, NULL);
    struct bh_ctx *ctx = bh_ctx_ref(g.ctx);
    int            err = bh_group_wait(&g);
    say("Wait: %s ctx: %s", error_text(err), ctx_text(bh_ctx_err(ctx)));
    bh_ctx_unref(ctx);
}

static int
fail_quickly(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    return bh_fail(-EIO, "quick failure");
}

static int
outlast_cancel(struct bh_ctx *ctx, void *args)
{
    (void)args;
    bh_recv(bh_ctx_done(ctx), NULL);
    bh_sleep(50 * BH_MILLISECOND);
    say("sibling ran to its end after cancel");
    return 0;
}

TWIN(M05, "errgroup-cancel-does-not-kill-siblings")
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, fail_quickly, NULL);
    bh_group_go(&g, outlast_cancel, NULL);
    int64_t start = bh_now();
    int     err = bh_group_wait(&g);
    say("Wait: %s waited for the sibling: %s", error_text(err),
        yes_no(bh_now() - start >= 50 * BH_MILLISECOND));
}

static int
hold(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    bh_recv(((struct channel *)args)->chan, NULL);
    return 0;
}

TWIN(M07, "errgroup-setlimit-while-active")
{
    struct channel  held = { BH_CHAN(bool, 0) };
    struct bh_group g;

    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "recovered");
    bh_group_init(&g, bh_ctx_background());
    bh_group_set_limit(&g, 2);
    BH_DEFER(bh_close, held.chan);
    bh_group_go(&g, hold, &held);
    bh_group_set_limit(&g, 3);
}

TWIN(M08, "errgroup-trygo-and-limit")
{
    struct channel  held = { BH_CHAN(bool, 0) };
    struct bh_group g, none;

    bh_group_init(&g, bh_ctx_background());
    bh_group_set_limit(&g, 1);
    bool first = bh_group_try_go(&g, hold, &held);
    bool second = bh_group_try_go(&g, succeed, NULL);
    say("%s %s", yes_no(first), yes_no(second));
    bh_close(held.chan);
    bh_group_wait(&g);
    bh_group_init(&none, bh_ctx_background());
    bh_group_set_limit(&none, 0);
    say("%s", yes_no(bh_group_try_go(&none, succeed, NULL)));
    bh_group_wait(&none);
}

struct own_group {
    struct bh_group *g;
};

static int
go_in_own_group(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    bh_group_go(((struct own_group *)args)->g, succeed, NULL);
    return 0;
}

TWIN(M09, "errgroup-deadlock-when-go-blocks-on-own-limit")
{
    static struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_set_limit(&g, 1);
    bh_group_go(&g, go_in_own_group, &(struct own_group){ &g });
    bh_group_wait(&g);
}

static int
panic_before_exit(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    bh_panic("done runs in a defer, before the crash");
}

TWIN(M13, "errgroup-panic-races-with-wait-and-exit")
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, panic_before_exit, NULL);
    bh_group_wait(&g);
    bh_exit(0);
}

static void
wait_and_recover(struct bh_group *g)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "Wait panicked");
    bh_group_wait(g);
}

/* What conc's WaitGroup does, and x/sync did in two releases (M14, M15). */
TWIN(M15_ours, "group-repanic-in-the-waiter")
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_set_flags(&g, BH_GROUP_REPANIC);
    bh_group_go(&g, panic_in_group, NULL);
    wait_and_recover(&g);
    say("the process goes on");
}

static void
panic_in_once(void *unused)
{
    (void)unused;
    bh_panic("boom");
}

static void
call_once(struct bh_once_func *f)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "call");
    bh_once_func(f);
}

TWIN(M16, "oncefunc-panics-the-same-in-every-call")
{
    struct bh_once_func f = { .fn = panic_in_once };

    call_once(&f);
    call_once(&f);
}
