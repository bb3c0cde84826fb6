/*
 * self.c -- tests that end in every way a test can, so that check.sh can see what
 * the runner makes of it.  A runner that lets everything pass would pass itself.
 */

#include "test.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>

TEST_PLAIN(plain, passes)
{
    EXPECT(1 + 1 == 2);
    EXPECT_EQ(3, 3);
    EXPECT_STR("a", "a");
    EXPECT_STR(NULL, NULL);
}

TEST_PLAIN(plain, expect_fails)
{
    EXPECT(1 + 1 == 3);
}

TEST_PLAIN(plain, expect_eq_fails)
{
    EXPECT_EQ(2 + 2, 5);
}

TEST_PLAIN(plain, expect_str_fails)
{
    EXPECT_STR("a", NULL);
}

TEST_PLAIN(plain, killed)
{
    raise(SIGKILL);
}

TEST_PLAIN(plain, hangs)
{
    for (;;)
        pause();
}

TEST_PLAIN(plain, leaks_a_descriptor)
{
    EXPECT(open("/dev/null", O_RDONLY) >= 0);
}

TEST_PLAIN(plain, skipped)
{
    test_skip("for no reason");
}

TEST_PLAIN(plain, exits_by_itself)
{
    exit(3);
}

TEST(both, passes)
{
    EXPECT_PANIC("said so", bh_panic("said so"));
    bh_yield();
}

TEST(both, other_panic)
{
    EXPECT_PANIC("said so", bh_panic("said otherwise"));
}

TEST(both, no_panic)
{
    EXPECT_PANIC("said so", bh_yield());
}

TEST(both, uncaught_panic)
{
    bh_panic("nobody recovers");
}

static void
waits(void *args)
{
    bh_recv(*(struct bh_chan **)args, NULL);
}

TEST_REAL(real, leaks_a_goroutine)
{
    struct bh_chan *never = BH_CHAN(int, 0);

    bh_go(waits, &never);
}

/* Goes wrong when a goroutine started later overtakes: with some seeds only. */
static int order[2], ran;

static void
notes(void *args)
{
    order[ran++] = *(int *)args;
}

TEST_SIM(sim, fails_with_some_seeds)
{
    bh_go(notes, &(int){ 1 });
    bh_go(notes, &(int){ 2 });
    while (ran < 2)
        bh_yield();
    EXPECT_EQ(order[0], 1);
}

TEST_DIES(dies, as_expected, 2, "panic: as told")
{
    bh_panic("as told");
}

TEST_DIES(dies, by_a_signal, -SIGKILL, "")
{
    raise(SIGKILL);
}

TEST_DIES(dies, with_another_status, 3, "panic: as told")
{
    bh_panic("as told");
}

TEST_DIES(dies, with_another_text, 2, "panic: as told")
{
    bh_panic("as not told");
}

TEST_DIES(dies, not_at_all, 2, "")
{
}
