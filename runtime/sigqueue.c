/*
 * sigqueue.c -- signals of the operating system, delivered on channels.
 *
 * The handler may run at any instruction of any thread, so it does three things
 * that are always safe: set the signal's bit, write to an eventfd, restore
 * errno.  A goroutine of the runtime's waits for the eventfd like for any
 * descriptor, takes the bits, and offers each signal to those who listen.
 * Arrivals of one signal between two of its turns are one, as in Unix.
 *
 * q.lock, a goroutine's mutex, protects the listeners and the dispositions;
 * delivery holds it too: after bh_signal_stop nothing more arrives.  The
 * disposition a signal had before its first listener returns after its last.
 *
 * While anybody listens, the process waits for the world outside: no deadlock is
 * reported (rt_sched.io_waiters).
 */

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/sync.h>

#include "chan.h"
#include "netpoll.h"

enum { SIGNALS = 64 };

struct listener {
    struct listener *next;
    struct bh_chan  *chan; /* one reference */
    uint64_t         mask; /* bit n - 1: signal n */
};

static _Atomic uint64_t pending;
static int              wake_fd = -1;

static struct {
    struct bh_mutex  lock;
    struct listener *list;
    int              listeners[SIGNALS + 1];
    struct sigaction before[SIGNALS + 1];
    struct rt_poll  *poll; /* of wake_fd; NULL: not started */
} q;

static uint64_t
bit(int number)
{
    return UINT64_C(1) << (number - 1);
}

/* ---- delivery ----------------------------------------------------------- */

/* on_signal -- the handler. */
static void
on_signal(int number)
{
    uint64_t one = 1;
    int      saved = errno;

    atomic_fetch_or_explicit(&pending, bit(number), memory_order_release);
    (void)!write(wake_fd, &one, sizeof one);
    errno = saved;
}

/* deliver -- to everyone who listens.  With q.lock. */
static void
deliver(int number)
{
    for (struct listener *l = q.list; l != NULL; l = l->next) {
        if ((l->mask & bit(number)) == 0)
            continue;
        rt_enter("delivering a signal");
        (void)rt_chan_offer(l->chan, &number);
        rt_exit();
    }
}

static void
signal_loop(void *args)
{
    uint64_t count;

    (void)args;
    for (;;) {
        while (read(wake_fd, &count, sizeof count) < 0)
            (void)rt_poll_wait(q.poll, RT_POLL_READ);
        uint64_t arrived = atomic_exchange_explicit(&pending, 0, memory_order_acquire);
        bh_mutex_lock(&q.lock);
        for (int n = 1; n <= SIGNALS; n++)
            if (arrived & bit(n))
                deliver(n);
        bh_mutex_unlock(&q.lock);
    }
}

/* ---- listening ---------------------------------------------------------- */

/* start -- the eventfd and the goroutine, once.  With q.lock.  Returns: 0 or -errno. */
static int
start(void)
{
    int error;

    if (q.poll != NULL)
        return 0;
    if (wake_fd < 0)
        wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (wake_fd < 0)
        return -errno;
    error = rt_poll_open(wake_fd, &q.poll);
    if (error != 0)
        return error;
    rt_enter("bh_signal_notify");
    (void)rt_spawn(signal_loop, NULL, 0, RT_G_SYSTEM, NULL);
    rt_exit();
    return 0;
}

static bool
is_ours(int number)
{
    switch (number) {
    case SIGKILL:
    case SIGSTOP:
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
    case SIGTRAP:
    case SIGABRT:
    case SIGSYS:
        return true;
    default:
        return number < 1 || number > SIGNALS;
    }
}

/* watch, unwatch -- one listener more or fewer.  With q.lock. */
static int
watch(int number)
{
    struct sigaction act = { .sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK };

    sigfillset(&act.sa_mask);
    if (q.listeners[number] == 0 && sigaction(number, &act, &q.before[number]) != 0)
        return -errno;
    q.listeners[number]++;
    atomic_fetch_add(&rt_sched.io_waiters, 1);
    return 0;
}

static void
unwatch(int number)
{
    if (--q.listeners[number] == 0)
        (void)sigaction(number, &q.before[number], NULL);
    atomic_fetch_sub(&rt_sched.io_waiters, 1);
}

/* find -- the listener with channel c, made if it is new.  With q.lock.  NULL: no memory. */
static struct listener *
find(struct bh_chan *c)
{
    struct listener *l;

    for (l = q.list; l != NULL; l = l->next)
        if (l->chan == c)
            return l;
    l = calloc(1, sizeof *l);
    if (l != NULL) {
        l->chan = bh_chan_ref(c);
        l->next = q.list;
        q.list = l;
    }
    return l;
}

static int
notify(struct bh_chan *c, int number)
{
    int              error = start();
    struct listener *l;

    if (error != 0)
        return error;
    l = find(c);
    if (l == NULL)
        return -ENOMEM;
    if (l->mask & bit(number))
        return 0;
    error = watch(number);
    if (error == 0)
        l->mask |= bit(number);
    return error;
}

int
bh_signal_notify(struct bh_chan *c, int number)
{
    int error = -EINVAL;

    rt_chan_valid(c, "bh_signal_notify", sizeof number);
    if (!is_ours(number)) {
        bh_mutex_lock(&q.lock);
        error = notify(c, number);
        bh_mutex_unlock(&q.lock);
    }
    return error == 0 ? 0 : bh_fail(error, "signal %d: %s", number, bh_error_text(error));
}

void
bh_signal_stop(struct bh_chan *c)
{
    struct listener *gone = NULL;

    bh_mutex_lock(&q.lock);
    for (struct listener **at = &q.list; *at != NULL; at = &(*at)->next) {
        if ((*at)->chan != c)
            continue;
        gone = *at;
        *at = gone->next;
        for (int n = 1; n <= SIGNALS; n++)
            if (gone->mask & bit(n))
                unwatch(n);
        break;
    }
    bh_mutex_unlock(&q.lock);
    if (gone != NULL)
        bh_chan_unref(gone->chan);
    free(gone);
}
