/*
 * mutex.c -- mutual exclusion between goroutines.
 *
 * state is flags:
 *
 *     LOCKED    someone holds the mutex
 *     QUEUE     someone changes the list of waiters; held for tens of instructions
 *     WOKEN     a waiter or a spinner is on its way: unlock need not wake another
 *     WAITERS   the list is not empty
 *
 * Without contention a lock is one compare-and-swap 0 -> LOCKED and an unlock
 * the reverse.  Otherwise a goroutine spins a little, if the holder is running
 * on another P and there is nothing else to do here, then queues and parks.
 *
 * An unlock wakes the first waiter, which competes with whoever comes by: they
 * have a running thread and warm caches, so this is faster than fair.  A waiter
 * that loses queues in front again.  Once the first has waited for STARVING_NS the
 * unlock hands the mutex to it, without releasing LOCKED in between, and gives it the
 * P: so a wait is bounded by the queue before it.  Go's starvation mode does
 * the same; here no mode is remembered, the first waiter's age tells.
 *
 * The list belongs to who holds QUEUE.  Invariants:
 *
 *   I1  QUEUE implies LOCKED: it is taken by a holder about to unlock, or by who
 *       found the mutex locked; and no holder can unlock past it
 *   I2  an unlock's last write to the mutex is the one that lets another have it:
 *       the next holder may free its memory
 *   I3  who set WOKEN clears it, when it gets the mutex or queues
 */

#include "waiter.h"

enum { LOCKED = 1, QUEUE = 2, WOKEN = 4, WAITERS = 8 };

enum {
    STARVING_NS = 1000 * 1000,
    SPINS = 4,         /* of SPIN_PAUSES each, before parking (Go's numbers): about a */
    SPIN_PAUSES = 30,  /* microsecond, the price of a park and a wake across threads */
};

static inline uint32_t
state_of(const struct bh_mutex *m)
{
    return atomic_load_explicit(&m->state, memory_order_relaxed);
}

static inline bool
swap_state(struct bh_mutex *m, uint32_t old, uint32_t new)
{
    return atomic_compare_exchange_weak_explicit(&m->state, &old, new, memory_order_acq_rel,
                                                 memory_order_relaxed);
}

static inline void
set_owner(struct bh_mutex *m, struct bh_g *g)
{
    atomic_store_explicit(&m->owner, g, memory_order_relaxed);
}

/* With the deterministic scheduler, others may run before each lock and each unlock. */
static void
point(const char *what)
{
    rt_enter(what);
    rt_point();
    rt_exit();
}

/* ---- lock ------------------------------------------------------------------------ */

/* Is the holder about to unlock, as far as we can see, and have we nothing better to do? */
static bool
pays_to_spin(struct bh_mutex *m, int spins)
{
    struct rt_p *p = rt_m()->p;
    struct bh_g *owner = atomic_load_explicit(&m->owner, memory_order_relaxed);

    return spins < SPINS && rt_sched.proc_count > 1 && owner != NULL &&
           atomic_load_explicit(&owner->state, memory_order_relaxed) == RT_G_RUNNING &&
           atomic_load_explicit(&p->runnext, memory_order_relaxed) == NULL &&
           atomic_load_explicit(&p->runq_head, memory_order_relaxed) ==
               atomic_load_explicit(&p->runq_tail, memory_order_relaxed);
}

static void
release_queue(struct bh_g *g, void *arg)
{
    struct bh_mutex *m = arg;

    (void)g;
    atomic_fetch_and_explicit(&m->state, ~(uint32_t)QUEUE, memory_order_release);
}

/* Park at the end of the list, or in front after a lost race.  QUEUE is held; releases it. */
static void
wait_in_queue(struct bh_mutex *m, struct rt_waiter *w, bool again)
{
    w->ok = false;
    if (again)
        rt_waiters_push_front(&m->waiters, w);
    else
        rt_waiters_push(&m->waiters, w);
    rt_park(release_queue, m, RT_WHY_MUTEX);
}

/* Returns: with the mutex held. */
static __attribute__((noinline)) void
lock_slow(struct bh_mutex *m)
{
    struct rt_waiter w;
    bool             again = false;
    uint32_t         woken = 0; /* WOKEN if it is ours */
    unsigned         tries = 0;
    int              spins = 0;

    w.since = 0;
    w.g = rt_enter("bh_mutex_lock")->g;
    for (;;) {
        uint32_t s = state_of(m);

        if (!(s & LOCKED)) {
            if (swap_state(m, s, (s | LOCKED) & ~woken))
                break;
        } else if (pays_to_spin(m, spins)) {
            if (woken == 0 && (s & WAITERS) && !(s & WOKEN) && swap_state(m, s, s | WOKEN))
                woken = WOKEN;
            for (int i = 0; i < SPIN_PAUSES; i++)
                rt_pause();
            spins++;
        } else if (s & QUEUE) {
            rt_back_off(&tries);
        } else {
            if (w.since == 0)
                w.since = rt_now();
            if (!swap_state(m, s, (s | QUEUE | WAITERS) & ~woken))
                continue;
            wait_in_queue(m, &w, again);
            if (w.ok)
                break; /* handed over, LOCKED all the while */
            again = true;
            woken = WOKEN;
            spins = 0;
        }
    }
    set_owner(m, w.g);
    rt_exit();
}

void
bh_mutex_lock(struct bh_mutex *m)
{
    struct bh_g *g = rt_g();
    uint32_t     none = 0;

    if (rt_unlikely(g == NULL))
        rt_not_a_goroutine("bh_mutex_lock");
    if (rt_unlikely(rt_sched.simulate))
        point("bh_mutex_lock");
    if (rt_likely(atomic_compare_exchange_strong_explicit(
            &m->state, &none, LOCKED, memory_order_acquire, memory_order_relaxed)))
        set_owner(m, g);
    else
        lock_slow(m);
}

bool
bh_mutex_try_lock(struct bh_mutex *m)
{
    struct bh_g *g = rt_g();

    if (rt_unlikely(g == NULL))
        rt_not_a_goroutine("bh_mutex_try_lock");
    point("bh_mutex_try_lock");
    for (;;) {
        uint32_t s = state_of(m);

        if (s & LOCKED)
            return false;
        if (swap_state(m, s, s | LOCKED))
            break;
    }
    set_owner(m, g);
    return true;
}

bool
bh_mutex_held(const struct bh_mutex *m)
{
    return atomic_load_explicit(&m->owner, memory_order_relaxed) == rt_g() && rt_g() != NULL;
}

/* ---- unlock ----------------------------------------------------------------------- */

/*
 * Release the mutex to the first waiter.  QUEUE is held.
 *
 * Starving: it gets the mutex itself, and next its turn on this P.
 */
static void
pass_on(struct bh_mutex *m, int64_t now)
{
    struct rt_waiter *w = rt_waiters_pop(&m->waiters);
    struct bh_g      *g = w->g;
    bool              starving = now - w->since > STARVING_NS;
    uint32_t          clear = QUEUE | (rt_waiters_first(&m->waiters) == NULL ? WAITERS : 0);
    uint32_t          s;

    w->ok = starving;
    if (starving) {
        set_owner(m, g);
        atomic_fetch_and_explicit(&m->state, ~clear, memory_order_acq_rel);
    } else {
        do
            s = state_of(m); /* a spinner may be setting WOKEN */
        while (!swap_state(m, s, (s & ~(clear | LOCKED)) | WOKEN));
    }
    rt_ready(g);
    if (starving)
        rt_yield(RT_WHY_NONE);
}

static __attribute__((noinline)) void
unlock_slow(struct bh_mutex *m)
{
    unsigned tries = 0;
    int64_t  now = 0;

    rt_enter("bh_mutex_unlock");
    for (;;) {
        uint32_t s = state_of(m);

        if (!(s & LOCKED)) {
            rt_exit();
            rt_throw("sync: unlock of unlocked mutex");
        }
        if (s & QUEUE) {
            rt_back_off(&tries);
        } else if (!(s & WAITERS) || (s & WOKEN)) {
            if (swap_state(m, s, s & ~(uint32_t)LOCKED))
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
    uint32_t locked = LOCKED;

    if (rt_unlikely(rt_sched.simulate))
        point("bh_mutex_unlock");
    set_owner(m, NULL);
    if (rt_unlikely(!atomic_compare_exchange_strong_explicit(
            &m->state, &locked, 0, memory_order_release, memory_order_relaxed)))
        unlock_slow(m);
}
