/*
 * crossing_test.c -- a context that ends and a panic, at the same time.
 *
 * The table: each way of starting a goroutine, ended by each means, its context cancelled
 * at each moment.  In every row all that was deferred runs, whatever was cancelled, and the
 * panic is told in exactly one way.  Then what does not fit a table: parents that are gone,
 * children that are late, callbacks that panic themselves.
 */

#include "test.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/safe.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/go/transfer.h>

#define HOUR (3600 * BH_SECOND)

/* ---- the table --------------------------------------------------------------- */

enum how { SAFE, GROUP, TRANSFER };

enum cancelled {
    NEVER,
    BEFORE,   /* before the start */
    WAITING,  /* while it waits for that; then it does what it does */
    WALKING,  /* by one of its deferred calls, during the panic or the return */
    CALLBACK, /* by on_panic */
    AFTER,    /* once it has ended */
};

enum act { RETURNS, PANICS, EXITS, PANICS_TWICE, CALLBACK_PANICS };

struct row {
    enum how       how;
    enum cancelled cancelled;
    enum act       act;
    int            deferred;  /* calls run, of 3: none if it never ran */
    int            told;      /* calls of on_panic */
    int            contained; /* panics reported as such */
    int            result;    /* GROUP: what wait gives; TRANSFER: the state at the end */
};

#define STATE(name) BH_PANIC_##name

static const struct row rows[] = {
    { SAFE, NEVER, RETURNS, 3, 0, 0, 0 },
    { SAFE, NEVER, PANICS, 3, 1, 1, 0 },
    { SAFE, NEVER, EXITS, 3, 0, 0, 0 },
    { SAFE, NEVER, PANICS_TWICE, 3, 1, 1, 0 },
    { SAFE, NEVER, CALLBACK_PANICS, 3, 1, 2, 0 },
    { SAFE, BEFORE, PANICS, 0, 0, 0, 0 },
    { SAFE, WAITING, RETURNS, 3, 0, 0, 0 },
    { SAFE, WAITING, PANICS, 3, 1, 1, 0 },
    { SAFE, WAITING, EXITS, 3, 0, 0, 0 },
    { SAFE, WAITING, PANICS_TWICE, 3, 1, 1, 0 },
    { SAFE, WAITING, CALLBACK_PANICS, 3, 1, 2, 0 },
    { SAFE, WALKING, RETURNS, 3, 0, 0, 0 },
    { SAFE, WALKING, PANICS, 3, 1, 1, 0 },
    { SAFE, WALKING, EXITS, 3, 0, 0, 0 },
    { SAFE, WALKING, PANICS_TWICE, 3, 1, 1, 0 },
    { SAFE, CALLBACK, PANICS, 3, 1, 1, 0 },
    { SAFE, CALLBACK, CALLBACK_PANICS, 3, 1, 2, 0 },
    { SAFE, AFTER, PANICS, 3, 1, 1, 0 },

    { GROUP, NEVER, RETURNS, 3, 0, 0, 0 },
    { GROUP, NEVER, PANICS, 3, 0, 1, BH_EPANIC },
    { GROUP, NEVER, EXITS, 3, 0, 0, 0 },
    { GROUP, NEVER, PANICS_TWICE, 3, 0, 1, BH_EPANIC },
    { GROUP, BEFORE, RETURNS, 3, 0, 0, 0 }, /* a member always runs: it looks itself */
    { GROUP, BEFORE, PANICS, 3, 0, 1, BH_EPANIC },
    { GROUP, WAITING, RETURNS, 3, 0, 0, 0 },
    { GROUP, WAITING, PANICS, 3, 0, 1, BH_EPANIC },
    { GROUP, WAITING, EXITS, 3, 0, 0, 0 },
    { GROUP, WAITING, PANICS_TWICE, 3, 0, 1, BH_EPANIC },
    { GROUP, WALKING, RETURNS, 3, 0, 0, 0 },
    { GROUP, WALKING, PANICS, 3, 0, 1, BH_EPANIC },
    { GROUP, WALKING, EXITS, 3, 0, 0, 0 },
    { GROUP, WALKING, PANICS_TWICE, 3, 0, 1, BH_EPANIC },
    { GROUP, AFTER, PANICS, 3, 0, 1, BH_EPANIC },

    { TRANSFER, NEVER, RETURNS, 3, 0, 0, STATE(CLEAN) },
    { TRANSFER, NEVER, PANICS, 3, 1, 1, STATE(UNHANDLED) },
    { TRANSFER, NEVER, EXITS, 3, 0, 0, STATE(CLEAN) },
    { TRANSFER, NEVER, CALLBACK_PANICS, 3, 1, 2, STATE(UNHANDLED) },
    { TRANSFER, BEFORE, PANICS, 0, 0, 0, STATE(CLEAN) },
    { TRANSFER, WAITING, RETURNS, 3, 0, 0, STATE(CLEAN) },
    { TRANSFER, WAITING, PANICS, 3, 1, 1, STATE(UNHANDLED) },
    { TRANSFER, WAITING, PANICS_TWICE, 3, 1, 1, STATE(UNHANDLED) },
    { TRANSFER, WALKING, RETURNS, 3, 0, 0, STATE(CLEAN) },
    { TRANSFER, WALKING, PANICS, 3, 1, 1, STATE(UNHANDLED) },
    { TRANSFER, WALKING, EXITS, 3, 0, 0, STATE(CLEAN) },
    { TRANSFER, CALLBACK, PANICS, 3, 1, 1, STATE(UNHANDLED) },
    { TRANSFER, AFTER, PANICS, 3, 1, 1, STATE(UNHANDLED) },
};

/* One row being tried. */
struct trial {
    const struct row *row;
    struct bh_ctx    *ctx;
    struct bh_chan *started, *ended; /* closed by the child: in fn; by its last deferred call */
    _Atomic int     deferred, told;
};

static void
deferred(struct trial *t)
{
    t->deferred++;
}

static void
cancels(struct trial *t)
{
    t->deferred++;
    if (t->row->cancelled == WALKING)
        bh_ctx_cancel(t->ctx);
    /* What waits under a context in here is not kept from what it is deferred for. */
    EXPECT_EQ(bh_ctx_sleep(t->ctx, 0), bh_ctx_err(t->ctx));
}

static void
panics_twice(struct trial *t)
{
    t->deferred++;
    if (t->row->act == PANICS_TWICE)
        bh_panic("again");
}

static void
act(struct trial *t)
{
    BH_DEFER(deferred, t);
    BH_DEFER(cancels, t);
    BH_DEFER(panics_twice, t);
    switch (t->row->act) {
    case RETURNS:
        return;
    case EXITS:
        bh_goexit();
    case PANICS:
    case PANICS_TWICE:
    case CALLBACK_PANICS:
        bh_panic("boom");
    }
}

static void
child(struct bh_ctx *ctx, void *args)
{
    struct trial *t = *(struct trial **)args;

    BH_DEFER(bh_close, t->ended);
    bh_close(t->started);
    if (t->row->cancelled == WAITING)
        (void)bh_recv(bh_ctx_done(ctx), NULL);
    act(t);
}

static int
member(struct bh_ctx *ctx, void *args)
{
    child(ctx, args);
    return 0;
}

static void
on_panic(const struct bh_panic *p, void *arg)
{
    struct trial *t = arg;

    EXPECT_STR(bh_panic_text(p), t->row->act == PANICS_TWICE ? "again" : "boom");
    t->told++;
    if (t->row->cancelled == CALLBACK)
        bh_ctx_cancel(t->ctx);
    if (t->row->act == CALLBACK_PANICS)
        bh_panic("in the callback");
}

static void
others_ended(void)
{
    while (bh_goroutine_count() > 1)
        bh_yield();
}

static void
cancel_when_due(struct trial *t)
{
    if (t->row->cancelled != WAITING)
        return;
    (void)bh_recv(t->started, NULL);
    bh_ctx_cancel(t->ctx);
}

static int
try_group(struct trial *t)
{
    struct bh_group g;

    bh_group_init(&g, t->ctx);
    bh_group_go(&g, member, &t);
    cancel_when_due(t);
    return bh_group_wait(&g);
}

static int
try_transfer(struct trial *t, const struct bh_safe_options *options)
{
    struct bh_panic_ctx *x = bh_go_transfer_with(t->ctx, options, child, &t);
    int                  state;

    BH_DEFER(bh_panic_ctx_unref, x);
    cancel_when_due(t);
    (void)bh_recv(bh_panic_ctx_done(x), NULL);
    state = (int)bh_panic_ctx_state(x);
    if (bh_panic_ctx_poll(x))
        bh_panic_ctx_handled(x);
    return state;
}

static int
try_row(struct trial *t)
{
    struct bh_safe_options options = { .on_panic = on_panic, .on_panic_arg = t };

    if (t->row->cancelled == BEFORE)
        bh_ctx_cancel(t->ctx);
    switch (t->row->how) {
    case GROUP:
        return try_group(t);
    case TRANSFER:
        return try_transfer(t, &options);
    case SAFE:
        bh_go_safe_with(t->ctx, &options, child, &t);
        if (t->row->deferred > 0) {
            cancel_when_due(t);
            (void)bh_recv(t->ended, NULL);
        }
    }
    return 0;
}

static int
contained_so_far(void)
{
    struct bh_runtime_stats s;

    bh_runtime_stats_read(&s);
    return (int)s.contained_total;
}

static void
check_row(const struct row *r)
{
    struct trial t = { .row = r, .started = bh_chan_new(0, 0), .ended = bh_chan_new(0, 0) };
    int          contained = contained_so_far(), result;

    BH_DEFER(bh_chan_unref, t.started);
    BH_DEFER(bh_chan_unref, t.ended);
    t.ctx = bh_ctx_cancellable(bh_ctx_background());
    BH_DEFER(bh_ctx_unref, t.ctx);
    result = try_row(&t);
    others_ended();
    if (r->cancelled == AFTER)
        bh_ctx_cancel(t.ctx);
    contained = contained_so_far() - contained;
    if (result != r->result || t.deferred != r->deferred || t.told != r->told ||
        contained != r->contained)
        test_failed(__FILE__, __LINE__,
                    "row %td: result %d, deferred %d, told %d, contained %d; expected %d, %d, "
                    "%d, %d",
                    r - rows, result, t.deferred, t.told, contained, r->result, r->deferred,
                    r->told, r->contained);
    EXPECT_EQ(bh_ctx_err(t.ctx), r->cancelled == NEVER ? 0 : BH_ECANCELED);
}

TEST(crossing, table_of_cancel_and_panic_holds)
{
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        check_row(&rows[i]);
}

/* ---- the parent is gone ------------------------------------------------------- */

struct late {
    struct bh_chan *started, *go_on; /* closed by it, waited for by it; or NULL */
    _Atomic int    *deferred;
    const char     *text;
};

static void
count(_Atomic int *n)
{
    ++*n;
}

static void
late_panicker(struct bh_ctx *ctx, void *args)
{
    const struct late *l = args;

    BH_DEFER(count, l->deferred);
    if (l->started != NULL)
        bh_close(l->started);
    (void)bh_recv(bh_ctx_done(ctx), NULL);
    if (l->go_on != NULL)
        (void)bh_recv(l->go_on, NULL);
    BH_DEFER(count, l->deferred);
    bh_panic("%s", l->text);
}

static int
late_member(struct bh_ctx *ctx, void *args)
{
    late_panicker(ctx, args);
    return 0;
}

static void
parent_of_safe(struct bh_ctx *ctx, void *args)
{
    struct bh_ctx *own = bh_ctx_cancellable(ctx);

    BH_DEFER(bh_ctx_end, own); /* the child's only sign */
    bh_go_safe(own, "child", late_panicker, (struct late *)args);
    (void)bh_recv(((struct late *)args)->started, NULL);
    bh_panic("the parent's");
}

TEST(crossing, child_outlives_a_parent_that_panicked)
{
    _Atomic int     deferred = 0;
    struct bh_chan *started = bh_chan_new(0, 0);
    int             contained = contained_so_far();

    BH_DEFER(bh_chan_unref, started);
    bh_go_safe(bh_ctx_background(), "parent", parent_of_safe,
               &(struct late){ started, NULL, &deferred, "the child's" });
    others_ended();
    EXPECT_EQ(deferred, 2);
    EXPECT_EQ(contained_so_far() - contained, 2);
}

static void
parent_of_transfer(struct bh_ctx *ctx, void *args)
{
    struct bh_ctx *own = bh_ctx_cancellable(ctx);

    BH_DEFER(bh_ctx_end, own);
    struct bh_panic_ctx *x = bh_go_transfer(own, "child", late_panicker, (struct late *)args);
    BH_DEFER(bh_panic_ctx_unref, x);
    (void)bh_recv(((struct late *)args)->started, NULL);
    bh_goexit();
}

TEST_DIES(crossing, panic_of_a_child_whose_parent_exited_is_lost_with_notice, 7,
          "panic: orphan [lost: nobody handled it]")
{
    _Atomic int     deferred = 0;
    struct bh_chan *started = bh_chan_new(0, 0), *go_on = bh_chan_new(0, 0);

    bh_go_safe(bh_ctx_background(), "parent", parent_of_transfer,
               &(struct late){ started, go_on, &deferred, "orphan" });
    (void)bh_recv(started, NULL);
    while (bh_goroutine_count() != 2) /* the parent is going */
        bh_yield();
    bh_close(go_on);
    others_ended();
    EXPECT_EQ(deferred, 2);
    bh_exit(7);
}

static int
panics_before_wait(struct late *l)
{
    struct bh_group g;

    BH_RECOVER(p) {
        EXPECT_STR(bh_panic_text(p), "the waiter's");
        return 1;
    }
    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g); /* cancels, and waits: nobody is left alone */
    bh_group_go(&g, late_member, l);
    bh_group_go(&g, late_member, l);
    bh_panic("the waiter's");
}

TEST(crossing, waiter_that_panics_cancels_and_outlasts_its_members)
{
    _Atomic int deferred = 0;
    int         contained = contained_so_far();

    EXPECT_EQ(panics_before_wait(&(struct late){ NULL, NULL, &deferred, "a member's" }), 1);
    EXPECT_EQ(deferred, 4);
    EXPECT_EQ(contained_so_far() - contained, 2);
}

/* ---- the child is late --------------------------------------------------------- */

static int
fails(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    return bh_fail(-EIO, "first");
}

TEST(crossing, member_that_panics_after_the_failure_is_waited_for)
{
    _Atomic int     deferred = 0;
    struct bh_group g;
    int             contained = contained_so_far();

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, late_member, &(struct late){ NULL, NULL, &deferred, "late" });
    bh_group_go(&g, fails, NULL);
    EXPECT_EQ(bh_group_wait(&g), -EIO);
    EXPECT_STR(bh_error_note(), "first");
    EXPECT_EQ(deferred, 2);
    EXPECT_EQ(contained_so_far() - contained, 1);
}

static void
sleeps(struct bh_ctx *ctx)
{
    EXPECT_EQ(bh_ctx_sleep(ctx, HOUR), BH_EDEADLINE);
}

static void
sleeps_past_deadline(struct bh_ctx *ctx, void *args)
{
    _Atomic int *deferred = *(_Atomic int **)args;

    BH_DEFER(count, deferred);
    BH_DEFER(sleeps, ctx); /* the deadline comes while the panic runs deferred calls */
    BH_DEFER(count, deferred);
    bh_panic("boom");
}

TEST_SIM(crossing, deadline_that_comes_during_the_panic_skips_nothing)
{
    _Atomic int    deferred = 0;
    struct bh_ctx *ctx = bh_ctx_timeout(bh_ctx_background(), BH_SECOND);
    int64_t        start = bh_now();

    BH_DEFER(bh_ctx_end, ctx);
    struct bh_panic_ctx *x =
        bh_go_transfer(ctx, "child", sleeps_past_deadline, &(_Atomic int *){ &deferred });
    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(bh_panic_ctx_join(x));
    bh_panic_ctx_handled(x);
    EXPECT_EQ(deferred, 2);
    EXPECT_EQ(bh_now() - start, BH_SECOND);
}

/* ---- callbacks ------------------------------------------------------------------ */

static void
panic_with(void *text)
{
    bh_panic("%s", (const char *)text);
}

TEST_DIES(crossing, panic_of_a_callback_of_the_context_is_uncaught, 2, "panic: after the end")
{
    struct bh_ctx *ctx = bh_ctx_cancellable(bh_ctx_background());

    (void)bh_ctx_after(ctx, panic_with, (void *)(uintptr_t) "after the end");
    bh_ctx_cancel(ctx);
    bh_sleep(HOUR);
}

static void
cancels_all(const struct bh_panic *p, void *ctx)
{
    (void)p;
    bh_ctx_cancel(ctx);
}

TEST(crossing, panic_hook_may_cancel)
{
    _Atomic int     deferred = 0;
    struct bh_ctx  *ctx = bh_ctx_cancellable(bh_ctx_background());
    struct bh_ctx  *ended = bh_ctx_cancellable(bh_ctx_background());
    struct bh_chan *started = bh_chan_new(0, 0);

    BH_DEFER(bh_chan_unref, started);
    BH_DEFER(bh_ctx_end, ctx);
    BH_DEFER(bh_ctx_end, ended);
    EXPECT_EQ(bh_hook_panic(cancels_all, ctx), 0);
    struct bh_panic_ctx *x = bh_go_transfer(ended, "child", late_panicker,
                                            &(struct late){ started, NULL, &deferred, "boom" });
    BH_DEFER(bh_panic_ctx_unref, x);
    (void)bh_recv(started, NULL);
    bh_ctx_cancel(ended);
    EXPECT(bh_panic_ctx_join(x));
    bh_panic_ctx_handled(x);
    EXPECT_EQ(deferred, 2);
    EXPECT_EQ(bh_ctx_err(ctx), BH_ECANCELED);
}

/* ---- at the same moment ---------------------------------------------------------- */

enum { ROUNDS = 50, MEMBERS = 4 };

static int
canceller(struct bh_ctx *unused, void *args)
{
    (void)unused;
    bh_ctx_cancel(*(struct bh_ctx **)args);
    return 0;
}

struct racer {
    _Atomic int *deferred;
    int          yields;
};

static int
racer(struct bh_ctx *ctx, void *args)
{
    const struct racer *r = args;

    (void)ctx;
    BH_DEFER(count, r->deferred);
    BH_DEFER(count, r->deferred);
    for (int i = 0; i < r->yields; i++)
        bh_yield();
    bh_panic("race");
}

static void
race(int round)
{
    _Atomic int     deferred = 0;
    struct bh_ctx  *ctx = bh_ctx_cancellable(bh_ctx_background());
    struct bh_group g;

    BH_DEFER(bh_ctx_end, ctx);
    bh_group_init(&g, ctx);
    BH_DEFER(bh_group_join, &g);
    bh_group_set_flags(&g, BH_GROUP_TRANSFER);
    for (int i = 0; i < MEMBERS; i++)
        bh_group_go(&g, racer, &(struct racer){ &deferred, (round + i) % 3 });
    bh_group_go(&g, canceller, &ctx);
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC); /* a parent that ends is no failure of a member */
    EXPECT_EQ(deferred, 2 * MEMBERS);
    EXPECT(bh_panic_ctx_poll(g.panic));
    bh_panic_ctx_handled(g.panic);
}

TEST(crossing, race_of_cancel_and_panics_loses_nothing)
{
    int contained = contained_so_far();

    for (int i = 0; i < ROUNDS; i++)
        race(i);
    EXPECT_EQ(contained_so_far() - contained, ROUNDS * MEMBERS);
}
