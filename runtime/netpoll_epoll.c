/*
 * netpoll_epoll.c -- one edge-triggered epoll instance for the process.
 *
 * A descriptor is added once, for both directions, and never modified: edges
 * make re-arming needless.  Any M may poll without waiting; one at a time
 * waits (the scheduler's business), and publishes until when in poll_until, so
 * that a timer armed meanwhile can end the wait in time.
 *
 * rt_netpoll_break ends a wait through an eventfd, at most one write per wait:
 * `breaking` is set until the waiter has seen it.  It makes no lock, no
 * allocation, and no use of the thread's state: good in signal handlers.
 */

#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "netpoll.h"

#define BREAK_TAG UINT64_MAX

enum { EVENTS = 128, NS_PER_MS = 1000000 };

static struct rt_lock   init_lock;
static _Atomic bool     inited;
static int              epoll_fd = -1, break_fd = -1;
static _Atomic uint32_t breaking;
static _Atomic int64_t  poll_until; /* 0: nobody waits */
static _Atomic bool     no_pwait2;

/* ignore_sigpipe -- by a handler, which exec resets; SIG_IGN would be inherited. */
static void
ignore_sigpipe_handler(int number)
{
    (void)number;
}

static void
ignore_sigpipe(void)
{
    struct sigaction old,
        act = { .sa_handler = ignore_sigpipe_handler, .sa_flags = SA_RESTART | SA_ONSTACK };

    if (sigaction(SIGPIPE, NULL, &old) == 0 && (old.sa_flags & SA_SIGINFO) == 0 &&
        old.sa_handler == SIG_DFL)
        (void)sigaction(SIGPIPE, &act, NULL);
}

void
rt_netpoll_init(void)
{
    if (rt_likely(atomic_load_explicit(&inited, memory_order_acquire)))
        return;
    rt_lock(&init_lock);
    if (!atomic_load_explicit(&inited, memory_order_relaxed)) {
        struct epoll_event ev = { .events = EPOLLIN, .data.u64 = BREAK_TAG };

        epoll_fd = epoll_create1(EPOLL_CLOEXEC);
        break_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (epoll_fd < 0 || break_fd < 0 ||
            epoll_ctl(epoll_fd, EPOLL_CTL_ADD, break_fd, &ev) != 0)
            rt_throw("netpoll: cannot set up epoll (error %d)", errno);
        ignore_sigpipe();
        atomic_store_explicit(&inited, true, memory_order_release);
    }
    rt_unlock(&init_lock);
}

bool
rt_netpoll_ready(void)
{
    return atomic_load_explicit(&inited, memory_order_acquire);
}

int
rt_epoll_add(int fd, uint64_t tag)
{
    struct epoll_event ev = {
        .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET,
        .data.u64 = tag,
    };

    return epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &ev) == 0 ? 0 : -errno;
}

void
rt_epoll_del(int fd)
{
    (void)epoll_ctl(epoll_fd, EPOLL_CTL_DEL, fd, NULL);
}

void
rt_netpoll_break(void)
{
    enum { TRIES = 8 };
    uint64_t one = 1;
    int      saved = errno;

    if (!atomic_load_explicit(&inited, memory_order_acquire))
        return;
    if (atomic_exchange_explicit(&breaking, 1, memory_order_seq_cst) == 0) {
        int tries = 0;

        /* EAGAIN: it says so already.  What else an eventfd should not say may not last. */
        while (write(break_fd, &one, sizeof one) < 0 && errno != EAGAIN && tries < TRIES)
            tries += errno != EINTR;
        if (tries == TRIES)
            atomic_store_explicit(&breaking, 0, memory_order_seq_cst);
    }
    errno = saved;
}

void
rt_netpoll_wake_before(int64_t when)
{
    if (rt_unlikely(when < atomic_load_explicit(&poll_until, memory_order_seq_cst)))
        rt_netpoll_break();
}

/* wait_events -- epoll_wait in nanoseconds; < 0: for ever.  Returns: count, 0 also on EINTR. */
static int
wait_events(struct epoll_event *events, int64_t delay_ns)
{
    int n;

    if (delay_ns > 0 && !atomic_load_explicit(&no_pwait2, memory_order_relaxed)) {
        struct timespec ts = { delay_ns / 1000000000, delay_ns % 1000000000 };

        n = epoll_pwait2(epoll_fd, events, EVENTS, &ts, NULL);
        if (n >= 0 || errno == EINTR)
            return n > 0 ? n : 0;
        atomic_store_explicit(&no_pwait2, true, memory_order_relaxed); /* Linux before 5.11 */
    }
    if (delay_ns > 0)
        delay_ns = delay_ns < INT64_C(86400000) * NS_PER_MS
                       ? (delay_ns + NS_PER_MS - 1) / NS_PER_MS
                       : 86400000;
    n = epoll_wait(epoll_fd, events, EVENTS, (int)delay_ns);
    return n > 0 ? n : 0;
}

/* wait_published -- the same, ending early if a timer armed from now on is due earlier. */
static int
wait_published(struct epoll_event *events, int64_t delay_ns)
{
    int64_t now = 0, until = INT64_MAX;
    int     n;

    if (delay_ns > 0) {
        now = rt_now();
        until = now + delay_ns;
    }
    atomic_store_explicit(&poll_until, until, memory_order_seq_cst);
    if (!rt_sched.simulate) {
        int64_t next = rt_timers_next();

        if (next < until) {
            now = rt_now();
            delay_ns = next > now ? next - now : 0;
        }
    }
    n = wait_events(events, delay_ns);
    atomic_store_explicit(&poll_until, 0, memory_order_seq_cst);
    return n;
}

struct rt_glist
rt_netpoll(int64_t delay_ns)
{
    struct rt_glist    list = { NULL, NULL, 0 };
    struct epoll_event events[EVENTS];
    int                n;

    if (!rt_netpoll_ready())
        return list;
    n = delay_ns != 0 ? wait_published(events, delay_ns < 0 ? -1 : delay_ns)
                      : wait_events(events, 0);
    for (int i = 0; i < n; i++) {
        uint32_t ev = events[i].events;
        uint32_t hup = ev & (EPOLLRDHUP | EPOLLHUP | EPOLLERR | EPOLLPRI);

        if (events[i].data.u64 != BREAK_TAG) {
            rt_poll_event(events[i].data.u64,
                          (struct rt_poll_edges){
                              .readable = (ev & EPOLLIN) != 0 || hup != 0,
                              .writable = (ev & (EPOLLOUT | EPOLLHUP | EPOLLERR)) != 0,
                              .hup = hup != 0,
                              .half = (ev & EPOLLRDHUP) != 0,
                              .gone = (ev & (EPOLLHUP | EPOLLERR)) != 0,
                          },
                          &list);
        } else if (delay_ns != 0) { /* else it is meant for another, who waits */
            uint64_t count;

            (void)!read(break_fd, &count, sizeof count);
            atomic_store_explicit(&breaking, 0, memory_order_seq_cst);
        }
    }
    if (list.count > 0)
        rt_count(rt_m(), RT_COUNT_POLLED, (uint64_t)list.count);
    return list;
}
