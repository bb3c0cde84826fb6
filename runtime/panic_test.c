/*
 * panic_test.c -- defer, panic, recover, goexit.  The full catalogue of Go's rules
 * is test/conformance; here is what is ours: blocks, points, landings, limits.
 */

#include "test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/panic.h>

/* What happened, in order, one letter an event. */
static char   trail[64];
static size_t trail_length;

static void
mark(int letter)
{
    trail[trail_length++] = (char)letter;
    trail[trail_length] = '\0';
}

static void
start_trail(void)
{
    trail_length = 0;
    trail[0] = '\0';
}

static int
deferring(int panics)
{
    BH_RECOVER(p) {
        mark('r');
        return -1;
    }
    BH_DEFER(mark, 'a');
    {
        BH_DEFER(mark, 'b');
        mark('1');
    }
    BH_DEFER(mark, 'c');
    if (panics)
        bh_panic("stop");
    return 0;
}

TEST(panic, deferred_calls_run_at_the_end_of_their_block)
{
    start_trail();
    EXPECT_EQ(deferring(0), 0);
    EXPECT_STR(trail, "1bca");
}

TEST(panic, deferred_calls_run_before_the_recover_block)
{
    start_trail();
    EXPECT_EQ(deferring(1), -1);
    EXPECT_STR(trail, "1bcar");
}

static void
catch_and_set(void *arg)
{
    const struct bh_panic *p = bh_recover();

    mark(p != NULL ? 'R' : 'n');
    if (p != NULL)
        *(int *)arg = -5;
}

static int
deferring_late(int panics)
{
    BH_RECOVER(p) {
        mark('r');
        return -1;
    }
    BH_DEFER_SCOPE;
    for (int i = 0; i < 3; i++) {
        BH_DEFER(mark, '0' + i);
        BH_DEFER_LATE(mark, 'a' + i);
    }
    mark('|');
    if (panics)
        bh_panic("stop");
    return 0;
}

TEST(panic, late_calls_run_at_the_end_of_the_function)
{
    start_trail();
    EXPECT_EQ(deferring_late(0), 0);
    EXPECT_STR(trail, "012|cba");
}

TEST(panic, late_calls_run_in_a_panic_in_the_order_of_registration)
{
    start_trail();
    EXPECT_EQ(deferring_late(1), -1);
    EXPECT_STR(trail, "012|cbar");
}

static int
lands_late(void)
{
    int result = 0;

    BH_RETURNS(result);
    BH_DEFER_SCOPE;
    BH_DEFER_LATE(mark, '1');
    BH_DEFER_LATE(catch_and_set, &result);
    BH_DEFER_LATE(mark, '2');
    bh_panic("late");
}

TEST(panic, a_late_call_can_recover)
{
    start_trail();
    EXPECT_EQ(lands_late(), -5);
    EXPECT_STR(trail, "2R1");
}

static int
panics_in_block(void)
{
    BH_RECOVER(p) {
        bh_panic("second after %s", bh_panic_text(p));
    }
    bh_panic("first");
}

TEST(panic, a_panic_in_the_recover_block_goes_outward)
{
    EXPECT_PANIC("second after first", panics_in_block());
}

static int
repanics(void)
{
    BH_RECOVER(p) {
        bh_repanic(p);
    }
    bh_panic("carried %d", 7);
}

TEST(panic, a_repanicked_value_keeps_its_text)
{
    EXPECT_PANIC("carried 7", repanics());
}

static char kept[BH_PANIC_TEXT + 8];

static int
keeps_text(const char *text)
{
    BH_RECOVER(p) {
        strcpy(kept, bh_panic_text(p));
        return p->line;
    }
    bh_panic("%s", text);
}

TEST(panic, a_long_text_is_cut_not_overrun)
{
    char text[2 * BH_PANIC_TEXT];

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    EXPECT(keeps_text(text) > 0);
    EXPECT_EQ(strlen(kept), BH_PANIC_TEXT - 1);
}

static int
landing(int panics)
{
    int result = 1;

    BH_RETURNS(result);
    BH_DEFER(mark, 'o');
    BH_DEFER(catch_and_set, &result);
    BH_DEFER(mark, 'y');
    if (panics)
        bh_panic("landed");
    result = 2;
    return result;
}

TEST(panic, bh_recover_returns_the_result_as_the_deferred_call_set_it)
{
    start_trail();
    EXPECT_EQ(landing(1), -5);
    EXPECT_STR(trail, "yRo");
}

TEST(panic, bh_recover_is_null_on_a_normal_return)
{
    start_trail();
    EXPECT_EQ(landing(0), 2);
    EXPECT_STR(trail, "yno");
}

static int
no_landing(void)
{
    int result = 0;

    BH_DEFER(catch_and_set, &result);
    bh_panic("not caught here");
    return result;
}

TEST(panic, bh_recover_is_null_where_the_function_has_no_landing)
{
    start_trail();
    EXPECT_PANIC("not caught here", no_landing());
    EXPECT_STR(trail, "n");
}

static __attribute__((noinline)) const struct bh_panic *
helper_recovers(void)
{
    const struct bh_panic *p = bh_recover();

    __asm__ volatile("" ::: "memory");
    return p;
}

static void
through_helper(void *arg)
{
    (void)arg;
    mark(helper_recovers() != NULL ? 'R' : 'n');
}

static int
helper_landing(void)
{
    int result = 0;

    BH_RETURNS(result);
    BH_DEFER(through_helper, NULL);
    bh_panic("too deep");
}

TEST(panic, bh_recover_in_a_helper_of_the_deferred_call_is_null)
{
    start_trail();
    EXPECT_PANIC("too deep", helper_landing());
    EXPECT_STR(trail, "n");
}

static void
panics_when_called(const char *text)
{
    bh_panic("%s", text);
}

static int
older_panics(void)
{
    int result = 0;

    BH_RETURNS(result);
    BH_DEFER(panics_when_called, "from an older call");
    BH_DEFER(catch_and_set, &result);
    bh_panic("recovered");
}

TEST(panic, an_older_deferred_call_that_panics_after_recovery_starts_afresh)
{
    EXPECT_PANIC("from an older call", older_panics());
}

struct exits {
    _Atomic bool deferred, after;
};

static void
set_true(void *flag)
{
    *(_Atomic bool *)flag = true;
}

static void
exits(void *args)
{
    struct exits *e = *(struct exits **)args;

    BH_DEFER(set_true, &e->deferred);
    bh_goexit();
}

TEST(panic, goexit_runs_deferred_calls_and_ends_only_its_goroutine)
{
    struct exits e = { false, false }, *p = &e;

    bh_go(exits, &p);
    while (!e.deferred)
        bh_yield();
    EXPECT(!e.after);
}

static void
point_in_exit(struct exits *e)
{
    BH_RECOVER(p) {
        e->deferred = true;
        return;
    }
    BH_DEFER(panics_when_called, "raised during the exit");
    bh_goexit();
}

static void
exit_goes_on(void *args)
{
    struct exits *e = *(struct exits **)args;

    point_in_exit(e);
    e->after = true;
}

TEST(panic, a_recovered_panic_does_not_cancel_goexit)
{
    struct exits e = { false, false }, *p = &e;

    bh_go(exit_goes_on, &p);
    while (bh_goroutine_count() > 1)
        bh_yield();
    EXPECT(e.deferred);
    EXPECT(!e.after);
}

static int deep(int n);

static int (*volatile again)(int) = deep; /* the compiler cannot prove that it never returns */

static int
deep(int n)
{
    BH_DEFER(mark, '.');
    if (n <= 0)
        panics_when_called("bottom");
    return again(n - 1) + 1;
}

TEST(panic, every_frame_between_panic_and_recovery_runs_its_calls)
{
    start_trail();
    EXPECT_PANIC("bottom", deep(20));
    EXPECT_EQ(trail_length, 21);
}

TEST(panic, a_thousand_panics_leave_nothing_behind)
{
    for (int i = 0; i < 1000; i++) {
        start_trail();
        EXPECT_PANIC("bottom", deep(5));
    }
}

static const char *
point_text(const void *value)
{
    static char text[32];
    const int  *v = value;

    snprintf(text, sizeof text, "(%d, %d)", v[0], v[1]);
    return text;
}

static const struct bh_kind point_kind = { .name = "main.point",
                                           .size = 2 * sizeof(int),
                                           .string = point_text };

static void
panic_with_local(void)
{
    int local[2] = { 3, 4 };

    bh_panic_value(&point_kind, local);
}

TEST(panic, a_small_value_is_copied_out_of_the_panicking_frame)
{
    EXPECT_PANIC("(3, 4)", panic_with_local());
}

TEST(panic, a_null_kind_is_a_nil_panic)
{
    EXPECT_PANIC("panic called with nil argument", bh_panic_value(NULL, NULL));
}

TEST(panic, numbers_print_as_go_prints_them)
{
    EXPECT_PANIC("+1.500000e+000", bh_panic_value(&bh_kind_float64, &(double){ 1.5 }));
    EXPECT_PANIC("-2.500000e-123", bh_panic_value(&bh_kind_float64, &(double){ -2.5e-123 }));
    EXPECT_PANIC("+Inf", bh_panic_value(&bh_kind_float64, &(double){ 1e308 * 10 }));
    EXPECT_PANIC("(+1.000000e+000-2.000000e+000i)",
                 bh_panic_value(&bh_kind_complex128, ((double[]){ 1, -2 })));
    EXPECT_PANIC("-7", bh_panic_value(&bh_kind_int64, &(int64_t){ -7 }));
    EXPECT_PANIC("true", bh_panic_value(&bh_kind_bool, &(bool){ true }));
}

TEST(panic, a_failed_requirement_says_which)
{
    int volatile zero = 0;

    BH_RECOVER(p) {
        EXPECT(strstr(bh_panic_text(p), "requirement failed: zero == 1") != NULL);
        EXPECT(p->line > 0);
        return;
    }
    BH_REQUIRE(zero == 1);
    EXPECT(false);
}

static uint64_t seen[4];
static int      seen_count;

static void
note_panicking(void *arg)
{
    const struct bh_panic *p = bh_panicking();

    (void)arg;
    seen[seen_count++] = p != NULL ? p->serial : 0;
}

static void
note_twice(void *arg)
{
    BH_RECOVER(p) {
        note_panicking(arg); /* the inner one is over, the outer is not */
        return;
    }
    BH_DEFER(note_panicking, arg);
    bh_panic("inner");
}

static void
panic_noted(void)
{
    BH_DEFER(note_twice, NULL);
    BH_DEFER(note_panicking, NULL);
    bh_panic("outer");
}

static void
exit_noted(void *args)
{
    (void)args;
    BH_DEFER(note_panicking, NULL);
    bh_goexit();
}

TEST(panic, deferred_calls_can_ask_what_passes)
{
    EXPECT(bh_panicking() == NULL);
    EXPECT_PANIC("outer", panic_noted());
    EXPECT_EQ(seen_count, 3);
    EXPECT(seen[0] != 0 && seen[1] > seen[0] && seen[2] == seen[0]);
    EXPECT(bh_panicking() == NULL);
    bh_go(exit_noted, NULL);
    while (seen_count < 4)
        bh_yield();
    EXPECT_EQ(seen[3], 0); /* an exit is none */
    bh_yield();
}

TEST_DIES(panic, an_uncaught_panic_ends_the_process, 2, "panic: nobody listens")
{
    bh_panic("nobody listens");
}

TEST_DIES(panic, a_failed_invariant_is_fatal, 2, "fatal error: invariant failed: 1 == 2")
{
    BH_RECOVER(p) {
        exit(0);
    }
    BH_INVARIANT(1 == 2);
}

static int
falls_through(void)
{
    BH_RECOVER(p) {
        mark('f');
    }
    bh_panic("x");
}

TEST_DIES(panic, a_recover_block_must_end_in_return, 2, "must end in return")
{
    falls_through();
}
