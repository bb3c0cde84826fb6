/*
 * mutex.c -- mutual exclusion between goroutines.
 *
 * state is the address of the goroutine that holds the mutex, 0 if none does,
 * and in its low bits:
 *
 *     QUEUE     someone changes the list of waiters; held for tens of instructions
 *     WOKEN     a waiter or a spinner is on its way: unlock need not wake another
 *     WAITERS   the list is not empty
 *
 * Without contention a lock is one compare-and-swap from 0 to the goroutine and
 * an unlock the reverse.  Otherwise a goroutine spins a little, if the holder is
 * running on another P and there is nothing else to do here, then queues and
 * parks.
 *
 * An unlock wakes the first waiter, which competes with whoever comes by: they
 * have a running thread and warm caches, so this is faster than fair.  A waiter
 * that loses queues in front again.  Once the first has waited for STARVING_NS
 * the unlock makes it the holder, without a moment when the mutex is free, and
 * gives it the P: so a wait is bounded by the queue before it.  Go's starvation
 * mode does the same; here no mode is remembered, the first waiter's age tells.
 *
 * The list belongs to who holds QUEUE.  Invariants:
 *
 *   I1  QUEUE implies a holder: it is taken by a holder about to unlock, or by
 *       who found the mutex held; and no holder can unlock past it
 *   I2  an unlock's last write to the mutex is the one that lets another have it:
 *       the next holder may free its memory
 *   I3  who set WOKEN clears it, when it gets the mutex or queues
 */

#include "contention.h"

#define QUEUE   ((uintptr_t)1)
#define WOKEN   ((uintptr_t)2)
#define WAITERS ((uintptr_t)4)
#define FLAGS   (QUEUE | WOKEN | WAITERS)

enum {
    STARVING_NS = 1000 * 1000,
    SPINS = 4,        /* of SPIN_PAUSES each, before parking (Go's numbers): about a */
    SPIN_PAUSES = 30, /* microsecond, the price of a park and a wake across threads */
};

_Static_assert(_Alignof(struct bh_g) > FLAGS,
               "a goroutine's address leaves room for the flags");

static inline uintptr_t
state_of(const struct bh_mutex *m)
{
    return atomic_load_explicit(&m->state, memory_order_relaxed);
}

static inline struct bh_g *
holder(uintptr_t state)
{
    return (struct bh_g *)(state & ~FLAGS);
}

static inline bool
swap_state(struct bh_mutex *m, uintptr_t old, uintptr_t new)
{
    return atomic_compare_exchange_weak_explicit(&m->state, &old, new, memory_order_acq_rel,
                                                 memory_order_relaxed);
}

/* One try from a state without flags: the fast paths. */
static inline bool
swap_plain(struct bh_mutex *m, struct bh_g *old, struct bh_g *new, memory_order order)
{
    uintptr_t expected = (uintptr_t)old;

    return atomic_compare_exchange_strong_explicit(&m->state, &expected, (uintptr_t) new, order,
                                                   memory_order_relaxed);
}

/* ---- lock ------------------------------------------------------------------------ */

/* Is the holder about to unlock, as far as we can see, and have we nothing better to do? */
static bool
pays_to_spin(uintptr_t state, int spins)
{
    struct rt_p *p = rt_m()->p;

    return spins < SPINS && rt_sched.proc_count > 1 &&
           atomic_load_explicit(&holder(state)->state, memory_order_relaxed) == RT_G_RUNNING &&
           atomic_load_explicit(&p->runnext, memory_order_relaxed) == NULL &&
           atomic_load_explicit(&p->runq_head, memory_order_relaxed) ==
               atomic_load_explicit(&p->runq_tail, memory_order_relaxed);
}

static void
release_queue(struct bh_g *g, void *arg)
{
    struct bh_mutex *m = arg;

    (void)g;
    atomic_fetch_and_explicit(&m->state, ~QUEUE, memory_order_release);
}

/* Park at the end of the list, or in front after a lost race.  QUEUE is held; releases it. */
static void
wait_in_queue(struct bh_mutex *m, struct rt_contender *c, bool again)
{
    c->w.ok = false;
    rt_contender_push(&m->waiters, c, again);
    rt_park(release_queue, m, RT_WHY_MUTEX);
}

/* In the runtime.  Returns: with the mutex held. */
static void
contend(struct bh_mutex *m, struct bh_g *g)
{
    struct rt_contender c;
    bool                again = false;
    uintptr_t           woken = 0; /* WOKEN if it is ours */
    unsigned            tries = 0;
    int                 spins = 0;

    c.w.g = g;
    c.w.since = 0;
    for (;;) {
        uintptr_t s = state_of(m);

        if (holder(s) == NULL) {
            if (swap_state(m, s, (s | (uintptr_t)g) & ~woken))
                return;
        } else if (pays_to_spin(s, spins)) {
            if (woken == 0 && (s & WAITERS) && !(s & WOKEN) && swap_state(m, s, s | WOKEN))
                woken = WOKEN;
            for (int i = 0; i < SPIN_PAUSES; i++)
                rt_pause();
            spins++;
        } else if (s & QUEUE) {
            rt_back_off(&tries);
        } else {
            if (c.w.since == 0)
                c.w.since = rt_now();
            if (!swap_state(m, s, (s | QUEUE | WAITERS) & ~woken))
                continue;
            wait_in_queue(m, &c, again);
            if (c.w.ok)
                return; /* made the holder by who unlocked */
            again = true;
            woken = WOKEN;
            spins = 0;
        }
    }
}

/* Everything but the common case. */
static __attribute__((noinline)) void
lock_slow(struct bh_mutex *m)
{
    struct bh_g *g;

    rt_touch(&m->state);
    g = rt_enter("bh_mutex_lock")->g;
    rt_point();
    contend(m, g);
    rt_exit();
}

void
bh_mutex_lock(struct bh_mutex *m)
{
    struct bh_g *g = rt_g();

    if (rt_unlikely(g == NULL || rt_sched.simulate ||
                    !swap_plain(m, NULL, g, memory_order_acquire)))
        lock_slow(m);
}

bool
bh_mutex_try_lock(struct bh_mutex *m)
{
    struct bh_g *g = rt_enter("bh_mutex_try_lock")->g;

    rt_point();
    rt_exit();
    for (;;) {
        uintptr_t s = state_of(m);

        if (holder(s) != NULL)
            return false;
        if (swap_state(m, s, s | (uintptr_t)g))
            return true;
    }
}

bool
bh_mutex_held(const struct bh_mutex *m)
{
    struct bh_g *g = holder(state_of(m));

    return g != NULL && g == rt_g();
}

/* ---- unlock ----------------------------------------------------------------------- */

/*
 * Release the mutex to the first waiter.  QUEUE is held, by the holder.
 *
 * Starving: it becomes the holder, and has the next turn on this P.
 */
static void
pass_on(struct bh_mutex *m, int64_t now)
{
    bool              profiled = rt_contender_any(&m->waiters);
    int64_t           waited = rt_contender_charge(&m->waiters, now);
    struct rt_waiter *w = rt_contender_pop(&m->waiters, now);
    struct bh_g      *g = w->g;
    bool              starving = now - w->since > STARVING_NS;
    uintptr_t         left = rt_waiters_first(&m->waiters) != NULL ? WAITERS : 0;
    uintptr_t         s;

    w->ok = starving;
    do
        s = state_of(m); /* a spinner may be setting WOKEN */
    while (!swap_state(m, s, starving ? (uintptr_t)g | left | (s & WOKEN) : left | WOKEN));
    rt_ready(g);
    if (rt_unlikely(profiled))
        rt_mutex_event(waited);
    if (starving)
        rt_yield(RT_WHY_NONE);
}

static __attribute__((noinline)) void
unlock_slow(struct bh_mutex *m)
{
    unsigned tries = 0;
    int64_t  now = 0;

    rt_touch(&m->state);
    rt_enter("bh_mutex_unlock");
    rt_point();
    for (;;) {
        uintptr_t s = state_of(m);

        if (holder(s) == NULL) {
            rt_exit();
            rt_throw("sync: unlock of unlocked mutex");
        }
        if (s & QUEUE) {
            rt_back_off(&tries);
        } else if (!(s & WAITERS) || (s & WOKEN)) {
            if (swap_state(m, s, s & FLAGS))
                break;
        } else {
            if (now == 0)
                now = rt_now();
            if (swap_state(m, s, s | QUEUE)) {
                pass_on(m, now);
                break;
            }
        }
    }
    rt_exit();
}

void
bh_mutex_unlock(struct bh_mutex *m)
{
    struct bh_g *g = rt_g();

    if (rt_unlikely(g == NULL || rt_sched.simulate ||
                    !swap_plain(m, g, NULL, memory_order_release)))
        unlock_slow(m);
}
