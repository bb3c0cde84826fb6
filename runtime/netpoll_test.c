/* netpoll_test.c -- the poller by itself. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/timer.h>

#include "netpoll.h"

static struct rt_poll *
watch(int fd)
{
    struct rt_poll *pd = NULL;

    EXPECT_EQ(rt_poll_open(fd, &pd), 0);
    return pd;
}

static void
make_pipe(int fds[2])
{
    EXPECT_EQ(pipe2(fds, O_NONBLOCK | O_CLOEXEC), 0);
}

static void
close_pipe(int fds[2])
{
    close(fds[0]);
    close(fds[1]);
}

/* wait_briefly -- what a wait says that nothing but an edge remembered can end. */
static int
wait_briefly(struct rt_poll *pd)
{
    int status;

    rt_poll_deadline(pd, 1u << RT_POLL_READ, bh_now() + BH_MILLISECOND);
    status = rt_poll_wait(pd, RT_POLL_READ);
    rt_poll_deadline(pd, 1u << RT_POLL_READ, 0);
    return status;
}

TEST(netpoll, edge_is_remembered_once)
{
    int             fds[2];
    struct rt_poll *pd;

    make_pipe(fds);
    pd = watch(fds[0]);
    EXPECT_EQ(write(fds[1], "x", 1), 1);
    EXPECT_EQ(rt_poll_wait(pd, RT_POLL_READ), 0);
    EXPECT_EQ(wait_briefly(pd), BH_EDEADLINE); /* the byte is still there, but no edge */
    EXPECT_EQ(write(fds[1], "x", 1), 1);
    EXPECT_EQ(rt_poll_wait(pd, RT_POLL_READ), 0);
    rt_poll_close(pd);
    close_pipe(fds);
}

TEST_SIM(netpoll, event_for_a_recycled_descriptor_is_dropped)
{
    int             fds[2];
    struct rt_poll *pd, *again;
    struct rt_glist list = { NULL, NULL, 0 };
    uint64_t        stale;

    make_pipe(fds);
    pd = watch(fds[0]);
    stale = rt_poll_tag(pd);
    rt_poll_close(pd);
    again = watch(fds[0]);
    EXPECT(again == pd);
    rt_poll_event(stale, (struct rt_poll_edges){ true, true, true, true, true }, &list);
    EXPECT_EQ(list.count, 0);
    EXPECT(!rt_poll_hup(pd));
    EXPECT_EQ(wait_briefly(pd), BH_EDEADLINE);
    rt_poll_event(rt_poll_tag(pd), (struct rt_poll_edges){ .readable = true }, &list);
    EXPECT_EQ(wait_briefly(pd), 0);
    rt_poll_close(pd);
    close_pipe(fds);
}

TEST(netpoll, recycled_descriptor_starts_afresh)
{
    int             fds[2];
    struct rt_poll *pd;

    make_pipe(fds);
    for (int i = 0; i < 100; i++) {
        pd = watch(fds[0]);
        EXPECT_EQ(rt_poll_status(pd, RT_POLL_READ), 0);
        rt_poll_deadline(pd, 3, 1);
        EXPECT_EQ(rt_poll_status(pd, RT_POLL_READ), BH_EDEADLINE);
        rt_enter("test");
        rt_poll_cancel(pd, BH_ECANCELED);
        rt_exit();
        EXPECT_EQ(rt_poll_status(pd, RT_POLL_WRITE), BH_ECANCELED);
        rt_poll_evict(pd);
        EXPECT_EQ(rt_poll_wait(pd, RT_POLL_READ), BH_ECLOSED);
        rt_poll_close(pd);
    }
    close_pipe(fds);
}

TEST(netpoll, hang_up_is_noted)
{
    int             fds[2];
    struct rt_poll *pd;

    make_pipe(fds);
    pd = watch(fds[0]);
    EXPECT(!rt_poll_hup(pd));
    close(fds[1]);
    EXPECT_EQ(rt_poll_wait(pd, RT_POLL_READ), 0);
    EXPECT(rt_poll_hup(pd));
    rt_poll_close(pd);
    close(fds[0]);
}

TEST(netpoll, what_epoll_refuses_is_an_error)
{
    struct rt_poll *pd;
    int             fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);

    EXPECT_EQ(rt_poll_open(fd, &pd), -EPERM);
    EXPECT_EQ(rt_poll_open(-1, &pd), -EBADF);
    close(fd);
}

TEST(netpoll, waiting_is_counted_and_uncounted)
{
    int             fds[2];
    struct rt_poll *pd;

    make_pipe(fds);
    pd = watch(fds[0]);
    EXPECT_EQ(wait_briefly(pd), BH_EDEADLINE);
    EXPECT_EQ(rt_sched.io_waiters, 0);
    rt_poll_close(pd);
    close_pipe(fds);
}

/* On the deterministic scheduler nobody else polls meanwhile. */
TEST_SIM(netpoll, break_ends_a_wait_but_not_a_look)
{
    struct rt_glist list;

    rt_enter("test");
    rt_netpoll_break();
    rt_netpoll_break();
    list = rt_netpoll(0);
    EXPECT_EQ(list.count, 0);
    list = rt_netpoll(-1); /* returns: the look left the break for it */
    EXPECT_EQ(list.count, 0);
    list = rt_netpoll(BH_MILLISECOND); /* and it was one */
    EXPECT_EQ(list.count, 0);
    rt_exit();
}

TEST_SIM(netpoll, wait_takes_no_longer_than_asked_and_not_much_less)
{
    struct timespec a, b;
    int64_t         ns;

    rt_enter("test");
    clock_gettime(CLOCK_MONOTONIC, &a);
    (void)rt_netpoll(3 * BH_MILLISECOND + 1);
    clock_gettime(CLOCK_MONOTONIC, &b);
    rt_exit();
    ns = (b.tv_sec - a.tv_sec) * BH_SECOND + (b.tv_nsec - a.tv_nsec);
    EXPECT(ns >= 3 * BH_MILLISECOND);
    EXPECT(ns < BH_SECOND);
}

static void
wait_too(void *args)
{
    (void)rt_poll_wait(*(struct rt_poll **)args, RT_POLL_READ);
}

TEST_DIES(netpoll, two_goroutines_on_one_side_are_fatal, 2, "two goroutines wait for one side")
{
    int             fds[2];
    struct rt_poll *pd;

    make_pipe(fds);
    pd = watch(fds[0]);
    bh_go(wait_too, &pd);
    (void)rt_poll_wait(pd, RT_POLL_READ);
}
