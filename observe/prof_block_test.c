#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/contention.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/profile.h>

enum { CONTENTIONS, DELAY };

static void
join_all(void)
{
    while (bh_goroutine_count() > 1)
        bh_sleep(100 * BH_MICROSECOND);
}

static __attribute__((noinline)) void
wait_for_it(void *args)
{
    int got;

    bh_recv(*(struct bh_chan **)args, &got);
    __asm__ volatile("");
}

static void
lock_it(void *args)
{
    struct bh_mutex *m = *(struct bh_mutex **)args;

    bh_mutex_lock(m);
    bh_mutex_unlock(m);
}

static __attribute__((noinline)) void
hold_it(struct bh_mutex *m)
{
    bh_mutex_lock(m);
    bh_go(lock_it, &m);
    bh_sleep(4 * BH_MILLISECOND);
    bh_mutex_unlock(m);
    __asm__ volatile("");
}

static void
contend(void)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    struct bh_mutex m = { 0 };

    bh_go(wait_for_it, &c);
    bh_sleep(3 * BH_MILLISECOND);
    bh_send(c, &(int){ 1 });
    hold_it(&m);
    join_all();
    bh_chan_unref(c);
}

static void
expect_in_text(const char *name, const char *text, bool there)
{
    struct bh_profile_bytes bytes;

    EXPECT_EQ(bh_profile_take(name, &(struct bh_profile_options){ .debug = 1 }, &bytes), 0);
    EXPECT_EQ(memmem(bytes.data, bytes.size, text, strlen(text)) != NULL, there);
    free(bytes.data);
}

TEST_SIM(prof_block, they_have_the_totals)
{
    struct bh_profile *p;

    EXPECT_EQ(bh_block_profile_rate(1), 0);
    EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
    contend();
    EXPECT_EQ(bh_profile_collect("block", NULL, &p), 0);
    EXPECT_EQ(bh_profile_total(p, CONTENTIONS), 2);
    EXPECT_EQ(bh_profile_total(p, DELAY), 7 * BH_MILLISECOND);
    bh_profile_free(p);
    EXPECT_EQ(bh_profile_collect("mutex", NULL, &p), 0);
    EXPECT_EQ(bh_profile_total(p, CONTENTIONS), 1);
    EXPECT_EQ(bh_profile_total(p, DELAY), 4 * BH_MILLISECOND);
    bh_profile_free(p);
}

TEST_SIM(prof_block, a_stack_begins_with_what_the_program_called)
{
    EXPECT_EQ(bh_block_profile_rate(1), 0);
    EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
    contend();
    expect_in_text("block", "bh_chan_recv", true);
    expect_in_text("block", "wait_for_it", true);
    expect_in_text("block", "bh_mutex_lock", true);
    expect_in_text("block", "rt_park", false);
    expect_in_text("block", "lock_slow", false);
    expect_in_text("mutex", "bh_mutex_unlock", true);
    expect_in_text("mutex", "hold_it", true);
    expect_in_text("mutex", "unlock_slow", false);
}

TEST_SIM(prof_block, a_profile_that_was_not_started_is_an_error)
{
    struct bh_profile *p = NULL;

    EXPECT_EQ(bh_profile_collect("block", NULL, &p), -EAGAIN);
    EXPECT_EQ(bh_profile_collect("mutex", NULL, &p), -EAGAIN);
    EXPECT(p == NULL);
    EXPECT_EQ(bh_block_profile_rate(1), 0);
    EXPECT_EQ(bh_profile_collect("block", NULL, &p), 0); /* on, and nobody has waited */
    EXPECT_EQ(bh_profile_count(p), 0);
    bh_profile_free(p);
}
