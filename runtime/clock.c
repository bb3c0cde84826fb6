/*
 * clock.c -- rt_soon: an estimate of the time, for arming timers.
 *
 * Reading the clock is half the cost of arming a timer, and a timer may be late
 * by microseconds but not early.  So each P extrapolates with the cycle counter
 * from the last time it read the clock, for half a millisecond at most, with
 * a rate measured between two readings and rounded up: the estimate is never
 * behind the clock, and ahead by no more than a few microseconds.
 *
 * A reading during which the thread was interrupted is not kept.  The counter is
 * used only where the kernel itself keeps time by it: elsewhere it may differ
 * between CPUs.  With a virtual clock span stays 0, and this is rt_now.
 */

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "runtime.h"

enum {
    SPAN = 1 << 20,        /* ticks: 0.25 to 1 ms */
    READING = 2000,        /* ticks that a clean reading takes at most */
    BASE_MIN_NS = 1000000, /* apart, two readings give the rate within 0.1 % */
    BASE_MAX_NS = 1000000000,
    ROUND_UP = 9,          /* by 1/512: more than readings can be off */
};

/* is_trusted -- does the kernel keep time by this counter? */
static bool
is_trusted(void)
{
#if defined(__x86_64__)
    static _Atomic int known; /* 0: not asked, 1: yes, 2: no */
    int                answer = atomic_load_explicit(&known, memory_order_relaxed);

    if (answer == 0) {
        char    name[8] = "";
        int     fd = open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                          O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, name, sizeof name - 1) : 0;

        if (fd >= 0)
            (void)close(fd);
        answer = n >= 4 && strncmp(name, "tsc\n", 4) == 0 ? 1 : 2;
        atomic_store_explicit(&known, answer, memory_order_relaxed);
    }
    return answer == 1;
#else
    return true; /* the architecture's counter */
#endif
}

/* measure -- the rate, from an older reading and this one.  Leaves 0 where that is impossible. */
static void
measure(struct rt_clock *c, uint64_t ticks, int64_t ns)
{
    int64_t since = ns - c->base_ns;

    if (since < BASE_MIN_NS && c->base_ns != 0)
        return; /* keep what there is */
    c->rate = 0;
    if (since <= BASE_MAX_NS && ticks > c->base_ticks)
        c->rate = ((uint64_t)since << 32) / (ticks - c->base_ticks);
    c->rate += c->rate >> ROUND_UP;
    c->base_ticks = ticks;
    c->base_ns = ns;
}

int64_t
rt_soon_slow(struct rt_clock *c)
{
    uint64_t before = rt_ticks();
    int64_t  ns = rt_now();

    c->span = 0;
    if (rt_sched.simulate || !is_trusted() || rt_ticks() - before > READING)
        return ns;
    measure(c, before, ns);
    c->ticks = before;
    c->ns = ns;
    c->span = c->rate != 0 ? SPAN : 0;
    return ns;
}
