/* sigqueue_test.c -- signals on channels. */

#include "test.h"

#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/timer.h>

TEST(signals, arrive_on_the_channel)
{
    struct bh_chan *c = BH_CHAN(int, 4);
    int             number = 0;

    EXPECT_EQ(bh_signal_notify(c, SIGUSR1), 0);
    EXPECT_EQ(bh_signal_notify(c, SIGTERM), 0);
    kill(getpid(), SIGUSR1);
    bh_recv(c, &number);
    EXPECT_EQ(number, SIGUSR1);
    kill(getpid(), SIGTERM);
    bh_recv(c, &number);
    EXPECT_EQ(number, SIGTERM);
    bh_signal_stop(c);
    bh_chan_unref(c);
}

TEST(signals, wake_a_process_that_waits_for_nothing_else)
{
    struct bh_chan *c = BH_CHAN(int, 1);
    int             number = 0;

    EXPECT_EQ(bh_signal_notify(c, SIGALRM), 0);
    ualarm(20000, 0);
    bh_recv(c, &number);
    EXPECT_EQ(number, SIGALRM);
    bh_signal_stop(c);
    bh_chan_unref(c);
}

TEST(signals, go_to_everyone_who_listens)
{
    struct bh_chan *a = BH_CHAN(int, 1), *b = BH_CHAN(int, 1), *other = BH_CHAN(int, 1);

    EXPECT_EQ(bh_signal_notify(a, SIGUSR1), 0);
    EXPECT_EQ(bh_signal_notify(b, SIGUSR1), 0);
    EXPECT_EQ(bh_signal_notify(other, SIGUSR2), 0);
    kill(getpid(), SIGUSR1);
    bh_recv(a, NULL);
    bh_recv(b, NULL);
    EXPECT_EQ(bh_chan_len(other), 0);
    bh_signal_stop(a);
    bh_signal_stop(b);
    bh_signal_stop(other);
    bh_chan_unref(a);
    bh_chan_unref(b);
    bh_chan_unref(other);
}

TEST(signals, are_dropped_for_a_full_channel)
{
    struct bh_chan *full = BH_CHAN(int, 1), *c = BH_CHAN(int, 1);

    EXPECT_EQ(bh_signal_notify(full, SIGUSR1), 0);
    EXPECT_EQ(bh_signal_notify(c, SIGUSR1), 0);
    for (int i = 0; i < 3; i++) {
        kill(getpid(), SIGUSR1);
        bh_recv(c, NULL);
    }
    EXPECT_EQ(bh_chan_len(full), 1);
    bh_signal_stop(full);
    bh_signal_stop(c);
    bh_chan_unref(full);
    bh_chan_unref(c);
}

TEST(signals, listened_to_twice_on_one_channel_arrive_once)
{
    struct bh_chan *c = BH_CHAN(int, 4);

    EXPECT_EQ(bh_signal_notify(c, SIGUSR1), 0);
    EXPECT_EQ(bh_signal_notify(c, SIGUSR1), 0);
    kill(getpid(), SIGUSR1);
    bh_recv(c, NULL);
    bh_sleep(2 * BH_MILLISECOND);
    EXPECT_EQ(bh_chan_len(c), 0);
    bh_signal_stop(c);
    bh_signal_stop(c);
    bh_chan_unref(c);
}

TEST(signals, on_a_closed_channel_are_dropped)
{
    struct bh_chan *closed = BH_CHAN(int, 1), *c = BH_CHAN(int, 1);

    EXPECT_EQ(bh_signal_notify(closed, SIGUSR1), 0);
    EXPECT_EQ(bh_signal_notify(c, SIGUSR1), 0);
    bh_close(closed);
    kill(getpid(), SIGUSR1);
    bh_recv(c, NULL);
    bh_signal_stop(c);
    bh_signal_stop(closed);
    bh_chan_unref(c);
    bh_chan_unref(closed);
}

TEST_DIES(signals, stop_brings_the_default_action_back, -SIGUSR1, "")
{
    struct bh_chan *c = BH_CHAN(int, 1);

    EXPECT_EQ(bh_signal_notify(c, SIGUSR1), 0);
    kill(getpid(), SIGUSR1);
    bh_recv(c, NULL);
    bh_signal_stop(c);
    kill(getpid(), SIGUSR1);
}

TEST(signals, ignored_before_are_ignored_after)
{
    struct bh_chan  *c = BH_CHAN(int, 1);
    struct sigaction now;

    signal(SIGHUP, SIG_IGN);
    EXPECT_EQ(bh_signal_notify(c, SIGHUP), 0);
    kill(getpid(), SIGHUP);
    bh_recv(c, NULL);
    bh_signal_stop(c);
    EXPECT_EQ(sigaction(SIGHUP, NULL, &now), 0);
    EXPECT(now.sa_handler == SIG_IGN);
    kill(getpid(), SIGHUP);
    bh_chan_unref(c);
}

TEST(signals, of_faults_and_those_that_cannot_be_caught_are_refused)
{
    static const int refused[] = { SIGKILL, SIGSTOP, SIGSEGV, SIGBUS, SIGFPE, SIGILL, 0, -1, 65 };
    struct bh_chan  *c = BH_CHAN(int, 1);

    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++)
        EXPECT_EQ(bh_signal_notify(c, refused[i]), -EINVAL);
    bh_chan_unref(c);
}

TEST_DIES(signals, that_nobody_listens_to_any_more_do_not_hide_a_deadlock, 2,
          "all goroutines are asleep")
{
    struct bh_chan *c = BH_CHAN(int, 1);

    EXPECT_EQ(bh_signal_notify(c, SIGUSR1), 0);
    bh_signal_stop(c);
    bh_recv(c, NULL);
}

TEST_DIES(signals, that_may_come_are_no_deadlock, -SIGALRM, "")
{
    struct bh_chan *c = BH_CHAN(int, 1);

    EXPECT_EQ(bh_signal_notify(c, SIGUSR1), 0);
    alarm(1);
    bh_recv(c, NULL);
}
