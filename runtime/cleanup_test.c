/*
 * cleanup_test.c -- BH_UNWIND: foreign cleanups run between a panic and its landing.
 * Compiled with -fexceptions, so that this file's own frames have cleanups.
 */

#include "test.h"

static char   trail[64];
static size_t trail_length;

static void
mark(int letter)
{
    trail[trail_length++] = (char)letter;
    trail[trail_length] = '\0';
}

static void
mark_at(const char *letter)
{
    mark(*letter);
}

#define ON_LEAVING(name, letter) __attribute__((cleanup(mark_at), unused)) char name = (letter)

static __attribute__((noinline)) void
inner(int panics)
{
    ON_LEAVING(a, 'i');
    BH_DEFER(mark, 'd');
    if (panics)
        bh_panic("leave");
    mark('?');
}

static __attribute__((noinline)) int
outer(int panics)
{
    BH_RECOVER(p) {
        mark('r');
        return -1;
    }
    ON_LEAVING(b, 'o');
    BH_DEFER(mark, 'e');
    inner(panics);
    return 0;
}

/* In a program of its own, since the setting is read once. */
static int
in_unwinding_process(bh_fn *fn, void *args)
{
    return bh_main_with(&(struct bh_options){ .unwind = true }, fn, args);
}

static void
panic_main(void *args)
{
    (void)args;
    EXPECT_EQ(outer(1), -1);
    /* Deferred calls first, on top of the stack; then the frames are left, innermost first.
     * The landing's own frame ends in the ordinary way, as it does without BH_UNWIND. */
    EXPECT_STR(trail, "deir");
}

TEST_PLAIN(cleanup, skipped_frames_run_their_cleanups)
{
    EXPECT_EQ(in_unwinding_process(panic_main, NULL), 0);
}

static void
often_main(void *args)
{
    (void)args;
    EXPECT_EQ(outer(0), 0);
    EXPECT_STR(trail, "?dieo");
    for (int i = 0; i < 1000; i++) {
        trail_length = 0;
        EXPECT_EQ(outer(1), -1);
    }
    EXPECT_STR(trail, "deir");
}

TEST_PLAIN(cleanup, a_thousand_unwindings_leave_nothing_behind)
{
    EXPECT_EQ(in_unwinding_process(often_main, NULL), 0);
}

static void
set_minus_one(int *result)
{
    if (bh_recover() != NULL)
        *result = -1;
}

static __attribute__((noinline)) int
go_form(void)
{
    int result = 0;

    BH_RETURNS(result);
    BH_DEFER(set_minus_one, &result);
    inner(1);
    return result;
}

static void
landing_main(void *args)
{
    (void)args;
    EXPECT_EQ(go_form(), -1);
    EXPECT_STR(trail, "di");
}

TEST_PLAIN(cleanup, a_landing_unwinds_too)
{
    EXPECT_EQ(in_unwinding_process(landing_main, NULL), 0);
}

TEST_REAL(cleanup, without_the_setting_frames_are_skipped)
{
    EXPECT_EQ(outer(1), -1);
    EXPECT_STR(trail, "der");
}
