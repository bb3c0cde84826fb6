/*
 * lock.c -- how runtime code waits for other threads: spin locks and notes.
 *
 * A spin lock guards tens of instructions and is never held across a switch,
 * so waiting is short unless the kernel has descheduled the holder; then the
 * waiter gives its CPU away.  Unlocking is a plain store: half the price of an
 * unlock that must look for sleepers, on every channel operation.
 *
 * A note is a one-shot event between threads, on a futex.  Clear it, tell the
 * other side, sleep; a wake before the sleep is not lost.
 */

#include "runtime.h"

#include <errno.h>
#include <linux/futex.h>
#include <sched.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    SPIN_ROUNDS = 100,  /* about a microsecond of pausing */
    YIELD_ROUNDS = 50,  /* then give the CPU to a runnable thread */
    NAP_NS = 50 * 1000, /* then sleep: the holder is not running */
};

static inline void
relax(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

void
rt_lock_slow(_Atomic uint32_t *word)
{
    for (unsigned round = 0;; round++) {
        uint32_t free = 0;

        if (atomic_load_explicit(word, memory_order_relaxed) == 0 &&
            atomic_compare_exchange_weak_explicit(word, &free, 1, memory_order_acquire,
                                                  memory_order_relaxed))
            return;
        if (round < SPIN_ROUNDS)
            relax();
        else if (round < SPIN_ROUNDS + YIELD_ROUNDS)
            sched_yield();
        else
            nanosleep(&(struct timespec){ .tv_nsec = NAP_NS }, NULL);
    }
}

static int
futex(_Atomic uint32_t *word, int op, uint32_t value, const struct timespec *timeout)
{
    return (int)syscall(SYS_futex, word, op | FUTEX_PRIVATE_FLAG, value, timeout, NULL, 0);
}

void
rt_note_clear(struct rt_note *n)
{
    atomic_store_explicit(&n->word, 0, memory_order_relaxed);
}

void
rt_note_wake(struct rt_note *n)
{
    atomic_store_explicit(&n->word, 1, memory_order_release);
    futex(&n->word, FUTEX_WAKE, 1, NULL);
}

void
rt_note_sleep(struct rt_note *n)
{
    while (atomic_load_explicit(&n->word, memory_order_acquire) == 0) {
#if defined(RT_TSAN)
        /* It runs signal handlers only inside calls it knows: this one, not futex. */
        static const struct timespec slice = { 0, 20000000 };

        futex(&n->word, FUTEX_WAIT, 0, &slice);
        nanosleep(&(struct timespec){ 0, 1 }, NULL);
#else
        futex(&n->word, FUTEX_WAIT, 0, NULL);
#endif
    }
}

bool
rt_note_sleep_for(struct rt_note *n, int64_t ns)
{
    struct timespec now, left;
    int64_t         end, wait;

    clock_gettime(CLOCK_MONOTONIC, &now);
    end = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec + ns;
    for (wait = ns; wait > 0;) {
        if (atomic_load_explicit(&n->word, memory_order_acquire) != 0)
            return true;
        left = (struct timespec){ wait / 1000000000, wait % 1000000000 };
        futex(&n->word, FUTEX_WAIT, 0, &left);
        clock_gettime(CLOCK_MONOTONIC, &now);
        wait = end - ((int64_t)now.tv_sec * 1000000000 + now.tv_nsec);
    }
    return atomic_load_explicit(&n->word, memory_order_acquire) != 0;
}
