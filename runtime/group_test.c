/* group_test.c -- groups: waiting, failing, limits, panics of members. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/timer.h>

#define HOUR (3600 * BH_SECOND)

/* ---- members ------------------------------------------------------------- */

struct add {
    _Atomic int *sum;
    int          n;
};

static int
add(struct bh_ctx *ctx, void *args)
{
    struct add *a = args;

    EXPECT_EQ(bh_ctx_err(ctx), 0);
    bh_yield();
    atomic_fetch_add(a->sum, a->n);
    return 0;
}

struct outcome {
    int             err;
    const char     *note;
    struct bh_chan *go;   /* wait for it first; NULL: not */
    struct bh_chan *told; /* close it on the way out; NULL: not */
};

static void
close_if_any(struct bh_chan *c)
{
    if (c != NULL)
        bh_close(c);
}

static int
end_with(struct bh_ctx *ctx, void *args)
{
    struct outcome *o = args;

    (void)ctx;
    BH_DEFER(close_if_any, o->told);
    if (o->go != NULL)
        bh_recv(o->go, NULL);
    return o->err != 0 ? bh_fail(o->err, "%s", o->note) : 0;
}

static int
until_cancelled(struct bh_ctx *ctx, void *args)
{
    _Atomic int *seen = *(_Atomic int **)args;
    int          err = bh_ctx_sleep(ctx, HOUR);

    atomic_fetch_add(seen, 1);
    return bh_fail(err, "stopped");
}

static int
panicker(struct bh_ctx *ctx, void *args)
{
    struct outcome *o = args;

    (void)ctx;
    BH_DEFER(close_if_any, o->told);
    if (o->go != NULL)
        bh_recv(o->go, NULL);
    bh_panic("boom %s", o->note);
}

static int
exiter(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    bh_goexit();
}

/* ---- success ------------------------------------------------------------- */

TEST(group, wait_returns_when_every_member_has_ended)
{
    struct bh_group g;
    _Atomic int     sum = 0;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    for (int i = 1; i <= 100; i++)
        bh_group_go(&g, add, &(struct add){ &sum, i });
    EXPECT_EQ(bh_group_wait(&g), 0);
    EXPECT_EQ(sum, 5050);
}

TEST(group, of_nobody_is_a_success)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    EXPECT_EQ(bh_group_wait(&g), 0);
    bh_group_join(&g);
}

TEST(group, wait_cancels_the_context_even_after_success)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    struct bh_ctx *ctx = bh_ctx_ref(g.ctx);
    EXPECT_EQ(bh_group_wait(&g), 0);
    EXPECT_EQ(bh_ctx_err(ctx), BH_ECANCELED);
    EXPECT_EQ(bh_ctx_err(g.ctx), BH_ECANCELED); /* an ended one stays in its place */
    struct bh_ctx *child = bh_ctx_timeout(g.ctx, HOUR);
    EXPECT_EQ(bh_ctx_err(child), BH_ECANCELED);
    bh_ctx_end(child);
    bh_ctx_cancel(g.ctx);
    bh_ctx_unref(ctx);
}

struct big {
    char bytes[3000];
};

static int
check_big(struct bh_ctx *ctx, void *args)
{
    struct big *b = args;

    (void)ctx;
    for (size_t i = 0; i < sizeof b->bytes; i++)
        EXPECT_EQ(b->bytes[i], (char)(i * 7));
    return 0;
}

TEST(group, arguments_of_any_size_are_copied)
{
    struct bh_group g;
    struct big      b;

    for (size_t i = 0; i < sizeof b.bytes; i++)
        b.bytes[i] = (char)(i * 7);
    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, check_big, &b);
    memset(&b, 0, sizeof b);
    EXPECT_EQ(bh_group_wait(&g), 0);
}

struct more {
    struct bh_group *g;
    _Atomic int     *sum;
    int              depth;
};

static int
spawn_more(struct bh_ctx *ctx, void *args)
{
    struct more *a = args;

    (void)ctx;
    atomic_fetch_add(a->sum, 1);
    for (int i = 0; i < 2 && a->depth > 0; i++) {
        struct more child = { a->g, a->sum, a->depth - 1 };
        bh_group_go(a->g, spawn_more, &child);
    }
    return 0;
}

TEST(group, members_may_start_members)
{
    struct bh_group g;
    _Atomic int     sum = 0;
    struct more     a = { &g, &sum, 6 };

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, spawn_more, &a);
    EXPECT_EQ(bh_group_wait(&g), 0);
    EXPECT_EQ(sum, 127);
}

/* ---- failure ------------------------------------------------------------- */

TEST(group, the_first_failure_is_what_wait_returns_with_its_note)
{
    struct bh_group g;
    struct bh_chan *failed;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    failed = bh_ctx_done(g.ctx); /* closed once the first failure is the group's */
    bh_group_go(&g, end_with, &(struct outcome){ -EIO, "second", failed, NULL });
    bh_group_go(&g, end_with, &(struct outcome){ 0, "", failed, NULL });
    bh_group_go(&g, end_with, &(struct outcome){ -ENOENT, "no file x", NULL, NULL });
    struct bh_ctx *ctx = bh_ctx_ref(g.ctx);
    bh_recv(bh_ctx_done(ctx), NULL);
    EXPECT_EQ(bh_group_wait(&g), -ENOENT);
    EXPECT_STR(bh_error_note(), "no file x");
    const char *note;
    EXPECT_EQ(bh_ctx_err(ctx), BH_ECANCELED);
    EXPECT_EQ(bh_ctx_cause(ctx, &note), -ENOENT);
    EXPECT_STR(note, "no file x");
    bh_ctx_unref(ctx);
}

TEST(group, the_first_failure_cancels_the_others_and_wait_waits_for_them)
{
    struct bh_group g;
    _Atomic int     seen = 0, *arg = &seen;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    for (int i = 0; i < 5; i++)
        bh_group_go(&g, until_cancelled, &arg);
    bh_group_go(&g, end_with, &(struct outcome){ -EIO, "disk", NULL, NULL });
    EXPECT_EQ(bh_group_wait(&g), -EIO);
    EXPECT_EQ(seen, 5);
}

TEST(group, a_member_may_start_after_a_failure)
{
    struct bh_group g;
    struct bh_chan *over = BH_CHAN(char, 0);

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, end_with, &(struct outcome){ -EIO, "", NULL, NULL });
    bh_recv(bh_ctx_done(g.ctx), NULL);
    bh_group_go(&g, end_with, &(struct outcome){ 0, "", NULL, over });
    bh_recv(over, NULL);
    EXPECT_EQ(bh_group_wait(&g), -EIO);
    bh_chan_unref(over);
}

TEST(group, ends_with_its_parent)
{
    struct bh_group g;
    struct bh_ctx  *parent = bh_ctx_timeout(bh_ctx_background(), BH_MILLISECOND);
    _Atomic int     seen = 0, *arg = &seen;

    bh_group_init(&g, parent);
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, until_cancelled, &arg);
    EXPECT_EQ(bh_group_wait(&g), BH_EDEADLINE);
    bh_ctx_end(parent);
}

TEST(group, a_member_that_exits_has_succeeded)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    struct bh_ctx *ctx = bh_ctx_ref(g.ctx);
    bh_group_go(&g, exiter, NULL);
    for (int i = 0; i < 20; i++)
        bh_yield();
    EXPECT_EQ(bh_ctx_err(ctx), 0);
    EXPECT_EQ(bh_group_wait(&g), 0);
    bh_ctx_unref(ctx);
}

/* ---- join ---------------------------------------------------------------- */

TEST(group, join_cancels_and_waits)
{
    struct bh_group g;
    _Atomic int     seen = 0, *arg = &seen;

    bh_group_init(&g, bh_ctx_background());
    for (int i = 0; i < 3; i++)
        bh_group_go(&g, until_cancelled, &arg);
    bh_group_join(&g);
    EXPECT_EQ(seen, 3);
    bh_group_join(&g);
}

static void
panic_with_members(_Atomic int *seen)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    for (int i = 0; i < 3; i++)
        bh_group_go(&g, until_cancelled, &seen);
    bh_panic("the caller's own");
}

TEST(group, join_in_a_deferred_call_waits_during_a_panic)
{
    static _Atomic int seen;

    EXPECT_PANIC("the caller's own", panic_with_members(&seen));
    EXPECT_EQ(seen, 3);
}

/* ---- limits -------------------------------------------------------------- */

struct crowd {
    _Atomic int now, most;
};

static int
be_there(struct bh_ctx *ctx, void *args)
{
    struct crowd *c = *(struct crowd **)args;
    int           now = atomic_fetch_add(&c->now, 1) + 1, most = c->most;

    (void)ctx;
    while (most < now && !atomic_compare_exchange_weak(&c->most, &most, now))
        continue;
    for (int i = 0; i < 5; i++)
        bh_yield();
    atomic_fetch_sub(&c->now, 1);
    return 0;
}

TEST(group, a_limit_bounds_members_at_a_time)
{
    struct bh_group g;
    struct crowd    c = { 0, 0 }, *arg = &c;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_set_limit(&g, 3);
    for (int i = 0; i < 40; i++)
        bh_group_go(&g, be_there, &arg);
    EXPECT_EQ(bh_group_wait(&g), 0);
    EXPECT(c.most >= 1 && c.most <= 3);
}

TEST(group, try_go_refuses_when_full_and_serves_when_not)
{
    struct bh_group g;
    struct bh_chan *go = BH_CHAN(char, 0), *told = BH_CHAN(char, 0);

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    EXPECT(bh_group_try_go(&g, end_with, &(struct outcome){ 0, "", NULL, told }));
    bh_recv(told, NULL);
    bh_chan_unref(told);
    EXPECT_EQ(bh_group_wait(&g), 0);

    bh_group_init(&g, bh_ctx_background());
    bh_group_set_limit(&g, 1);
    EXPECT(bh_group_try_go(&g, end_with, &(struct outcome){ 0, "", go, NULL }));
    EXPECT(!bh_group_try_go(&g, end_with, &(struct outcome){ -EIO, "", NULL, NULL }));
    bh_close(go);
    while (!bh_group_try_go(&g, end_with, &(struct outcome){ -ENOENT, "", NULL, NULL }))
        bh_yield();
    EXPECT_EQ(bh_group_wait(&g), -ENOENT);
    bh_chan_unref(go);
}

TEST(group, a_limit_of_zero_admits_none_and_a_negative_one_all)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_set_limit(&g, 0);
    EXPECT(!bh_group_try_go(&g, exiter, NULL));
    bh_group_set_limit(&g, -1);
    EXPECT(bh_group_try_go(&g, exiter, NULL));
    EXPECT_EQ(bh_group_wait(&g), 0);
}

TEST_DIES(group, go_with_a_limit_of_zero_waits_for_ever, 2,
          "fatal error: all goroutines are asleep - deadlock!")
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_set_limit(&g, 0);
    bh_group_go(&g, exiter, NULL);
}

TEST(group, changing_the_limit_while_members_run_panics)
{
    struct bh_group g;
    struct bh_chan *go = BH_CHAN(char, 0);

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_set_limit(&g, 5);
    for (int i = 0; i < 2; i++)
        bh_group_go(&g, end_with, &(struct outcome){ 0, "", go, NULL });
    EXPECT_PANIC("errgroup: modify limit while 2 goroutines in the group are still active",
                 bh_group_set_limit(&g, 7));
    bh_close(go);
    EXPECT_EQ(bh_group_wait(&g), 0);
    bh_chan_unref(go);
}

/* ---- panics of members --------------------------------------------------- */

TEST(group, a_panic_is_a_failure_with_text_and_place)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, panicker, &(struct outcome){ 0, "one", NULL, NULL });
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC);
    EXPECT(strncmp(bh_error_note(), "boom one [goroutine ", 20) == 0);
    EXPECT(strstr(bh_error_note(), "group_test.c:") != NULL);
}

TEST(group, a_panic_cancels_the_others)
{
    struct bh_group g;
    _Atomic int     seen = 0, *arg = &seen;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, until_cancelled, &arg);
    bh_group_go(&g, panicker, &(struct outcome){ 0, "", NULL, NULL });
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC);
    EXPECT_EQ(seen, 1);
}

static int
fault_null(struct bh_ctx *ctx, void *args)
{
    volatile int *volatile nil = NULL;

    (void)ctx;
    (void)args;
    return *nil;
}

TEST_REAL(group, a_fault_is_a_failure_too)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, fault_null, NULL);
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC);
    EXPECT(strstr(bh_error_note(), "invalid memory address or nil pointer") != NULL);
}

static int
overflow(struct bh_ctx *ctx, void *args)
{
    volatile char frame[2000];

    frame[0] = 1;
    if (bh_ctx_err(ctx) != 0)
        return 0;
    return overflow(ctx, args) + frame[0];
}

TEST_REAL(group, a_stack_overflow_is_a_failure_too)
{
    struct bh_group g;

    if (test_sanitized)
        return;
    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, overflow, NULL);
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC);
    EXPECT(strstr(bh_error_note(), "overflow") != NULL);
}

static void
wait_repanicking(void)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_set_flags(&g, BH_GROUP_REPANIC);
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, panicker, &(struct outcome){ 0, "again", NULL, NULL });
    (void)bh_group_wait(&g);
}

TEST(group, repanic_raises_it_in_the_waiter)
{
    EXPECT_PANIC("boom again", wait_repanicking());
}

static void
wait_for_a_late_panic(void)
{
    struct bh_group g;
    struct bh_chan *failed = BH_CHAN(char, 0);

    BH_DEFER(bh_chan_unref, failed);
    bh_group_init(&g, bh_ctx_background());
    bh_group_set_flags(&g, BH_GROUP_REPANIC);
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, panicker, &(struct outcome){ 0, "late", bh_ctx_done(g.ctx), NULL });
    bh_group_go(&g, end_with, &(struct outcome){ -EIO, "early", NULL, failed });
    (void)bh_group_wait(&g);
}

TEST(group, repanic_does_not_lose_a_panic_after_a_failure)
{
    EXPECT_PANIC("boom late", wait_for_a_late_panic());
}

static const struct bh_kind kind_point = { .name = "main.point", .size = 8 };

static int
panic_value(struct bh_ctx *ctx, void *args)
{
    int point[2] = { 3, 4 };

    (void)ctx;
    (void)args;
    bh_panic_value(&kind_point, point);
}

static bool
repanics_value(void)
{
    BH_RECOVER(p) {
        const int *point = p->value;
        return p->kind == &kind_point && point[0] == 3 && point[1] == 4;
    }
    struct bh_group g;
    bh_group_init(&g, bh_ctx_background());
    bh_group_set_flags(&g, BH_GROUP_REPANIC);
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, panic_value, NULL);
    (void)bh_group_wait(&g);
    return false;
}

TEST(group, repanic_keeps_the_value)
{
    EXPECT(repanics_value());
}

static const char *
panicking_text(const void *value)
{
    bh_panic("no text for %p", value);
}

static const struct bh_kind kind_nasty = { .name = "main.nasty", .error = panicking_text };

static int
panic_nastily(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    bh_panic_value(&kind_nasty, NULL);
}

TEST(group, a_value_whose_text_panics_is_contained_too)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, panic_nastily, NULL);
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC);
    EXPECT(strstr(bh_error_note(), "(its text panicked: no text for (nil))") != NULL);
}

static void
panic_deferred(void *text)
{
    bh_panic("%s", (const char *)text);
}

static int
exit_then_panic(struct bh_ctx *ctx, void *args)
{
    static char text[] = "while exiting";

    (void)ctx;
    (void)args;
    BH_DEFER(panic_deferred, text);
    bh_goexit();
}

TEST(group, a_panic_during_goexit_is_a_failure)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, exit_then_panic, NULL);
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC);
    EXPECT(strncmp(bh_error_note(), "while exiting", 13) == 0);
}

/* ---- reports ------------------------------------------------------------- */

static void
fail_group(bh_group_fn *fn)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, fn, &(struct outcome){ 0, "reported", NULL, NULL });
    (void)bh_group_wait(&g);
}

TEST_DIES(report, of_a_contained_panic_is_out_before_wait_returns, 7,
          "panic: boom reported [contained by its group]\n\ngoroutine ")
{
    fail_group(panicker);
    bh_exit(7);
}

TEST_DIES(report, of_a_contained_panic_shows_the_panicking_frame, 7, "group_test.c:")
{
    bh_set_traceback("all");
    fail_group(panicker);
    bh_exit(7);
}

TEST_DIES(report, of_a_contained_fault_has_the_signal_line, 7,
          "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x")
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, fault_null, NULL);
    (void)bh_group_wait(&g);
    bh_exit(7);
}

TEST_DIES(report, of_a_repanic_nobody_recovers_names_the_value, 2,
          "panic: boom again [recovered, repanicked]")
{
    wait_repanicking();
}

static char     hook_text[64], hook_by[64];
static uint64_t hook_on;

static void
contained(const struct bh_panic_event *e)
{
    if (e->step != BH_PANIC_CONTAINED)
        return;
    snprintf(hook_text, sizeof hook_text, "%s", bh_panic_text(e->panic));
    snprintf(hook_by, sizeof hook_by, "%s", e->by);
    hook_on = bh_id() == e->panic->goroutine ? bh_id() : 0;
}

static void
fail_once(void *args)
{
    (void)args;
    fail_group(panicker);
}

TEST_PLAIN(report, of_a_contained_panic_is_left_to_the_hook_if_there_is_one)
{
    int  pipe_fds[2];
    char byte;

    EXPECT_EQ(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    EXPECT_EQ(dup2(pipe_fds[1], 2), 2);
    bh_set_hooks(&(struct bh_hooks){ .panic = contained });
    EXPECT_EQ(bh_main(fail_once, NULL), 0);
    EXPECT_STR(hook_text, "boom reported");
    EXPECT_STR(hook_by, "its group");
    EXPECT(hook_on != 0);
    EXPECT(read(pipe_fds[0], &byte, 1) < 0); /* nothing on descriptor 2 */
    close(pipe_fds[0]);
    close(pipe_fds[1]);
}

/* Late: after a failure has decided what wait returns. */
TEST_DIES(report, of_a_late_panic_is_not_lost, 7, "panic: boom late [contained by its group]")
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, panicker, &(struct outcome){ 0, "late", bh_ctx_done(g.ctx), NULL });
    bh_group_go(&g, end_with, &(struct outcome){ -EIO, "early", NULL, NULL });
    bh_exit(bh_group_wait(&g) == -EIO ? 7 : 1);
}

/* ---- misuse -------------------------------------------------------------- */

static bool
waits_twice_panics(struct bh_group *g)
{
    BH_RECOVER(p) {
        return strstr(bh_panic_text(p), "s != NULL") != NULL;
    }
    (void)bh_group_wait(g);
    return false;
}

TEST(group, use_after_wait_panics)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    EXPECT_EQ(bh_group_wait(&g), 0);
    EXPECT(waits_twice_panics(&g));
    EXPECT_PANIC("cannot create context from nil parent", bh_group_init(&g, NULL));
}

/* ---- many at once -------------------------------------------------------- */

static int
storm_member(struct bh_ctx *ctx, void *args)
{
    int i = *(int *)args;

    if (i % 3 == 0)
        bh_yield();
    if (i % 10 == 9)
        return bh_fail(-i, "%d", i);
    if (i % 10 == 4)
        (void)bh_ctx_sleep(ctx, HOUR);
    return 0;
}

TEST(group, many_groups_of_many_members)
{
    for (int round = 0; round < 50; round++) {
        struct bh_group g;
        char            text[16];

        bh_group_init(&g, bh_ctx_background());
        if (round % 2 == 0)
            bh_group_set_limit(&g, 4);
        for (int i = 0; i < 40; i++)
            bh_group_go(&g, storm_member, &i);
        int err = bh_group_wait(&g);
        EXPECT(err < 0 && -err % 10 == 9);
        snprintf(text, sizeof text, "%d", -err);
        EXPECT_STR(bh_error_note(), text);
    }
}
