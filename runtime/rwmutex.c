/*
 * rwmutex.c -- many readers or one writer.
 *
 * state is flags and a count:
 *
 *     WRITER    a writer holds it
 *     QUEUE     someone changes the lists; held for tens of instructions
 *     WOKEN     a writer was woken and is on its way
 *     WAITERS   a list is not empty: new readers queue
 *     READER    times the number of readers that hold it
 *
 * Without contention every operation is one compare-and-swap.  Neither side
 * starves: a waiting writer stops new readers, and the last of the old ones
 * hands it the lock; a writer's unlock lets in all readers that wait, before
 * the next writer.  Between writers alone it is as in mutex.c: the woken one
 * competes, until it has waited for STARVING_NS.
 *
 * The lists belong to who holds QUEUE.  Invariants:
 *
 *   I1  QUEUE implies WAITERS
 *   I2  while readers hold it, WAITERS means that a writer waits
 *   I3  if someone waits, someone holds it or WOKEN is set: a wake will come
 *   I4  an unlock's last write is the one that lets another have the lock
 */

#include "contention.h"

enum { WRITER = 1, QUEUE = 2, WOKEN = 4, WAITERS = 8, READER = 16 };

enum { STARVING_NS = 1000 * 1000 };

static const uint32_t HELD = ~(uint32_t)(QUEUE | WOKEN | WAITERS);
static const uint32_t READERS_FULL = UINT32_MAX - 2 * READER;

static inline uint32_t
state_of(const struct bh_rwmutex *m)
{
    return atomic_load_explicit(&m->state, memory_order_relaxed);
}

static inline bool
swap_state(struct bh_rwmutex *m, uint32_t old, uint32_t new)
{
    return atomic_compare_exchange_weak_explicit(&m->state, &old, new, memory_order_acq_rel,
                                                 memory_order_relaxed);
}

static inline void
set_owner(struct bh_rwmutex *m, struct bh_g *g)
{
    atomic_store_explicit(&m->owner, g, memory_order_relaxed);
}

/* WAITERS if nobody waits any more: to be cleared.  QUEUE is held. */
static inline uint32_t
none_left(const struct bh_rwmutex *m)
{
    return rt_waiters_first(&m->writers) == NULL && rt_waiters_first(&m->readers) == NULL
               ? WAITERS
               : 0;
}

static void
release_queue(struct bh_g *g, void *arg)
{
    struct bh_rwmutex *m = arg;

    (void)g;
    atomic_fetch_and_explicit(&m->state, ~(uint32_t)QUEUE, memory_order_release);
}

/* Common to all: only goroutines; and others may run first when simulating. */
static inline struct bh_g *
begin(const char *what)
{
    struct bh_g *g = rt_g();

    if (rt_unlikely(g == NULL))
        rt_not_a_goroutine(what);
    if (rt_unlikely(rt_sched.simulate)) {
        rt_enter(what);
        rt_point();
        rt_exit();
    }
    return g;
}

/* ---- readers ------------------------------------------------------------------------ */

static __attribute__((noinline)) void
rlock_slow(struct bh_rwmutex *m)
{
    struct rt_contender c;
    unsigned            tries = 0;

    c.w.g = rt_enter("bh_rwmutex_rlock")->g;
    for (;;) {
        uint32_t s = state_of(m);

        if (!(s & (WRITER | WAITERS))) {
            if (s >= READERS_FULL)
                rt_throw("sync: too many readers of an RWMutex");
            if (swap_state(m, s, s + READER))
                break;
        } else if (s & QUEUE) {
            rt_back_off(&tries);
        } else if (swap_state(m, s, s | QUEUE | WAITERS)) {
            rt_contender_push(&m->readers, &c, false);
            rt_park(release_queue, m, RT_WHY_RWMUTEX_R);
            break; /* whoever woke us has counted us in */
        }
    }
    rt_exit();
}

void
bh_rwmutex_rlock(struct bh_rwmutex *m)
{
    uint32_t s;

    begin("bh_rwmutex_rlock");
    s = state_of(m);
    if (rt_unlikely((s & (WRITER | WAITERS)) || s >= READERS_FULL ||
                    !swap_state(m, s, s + READER)))
        rlock_slow(m);
}

bool
bh_rwmutex_try_rlock(struct bh_rwmutex *m)
{
    begin("bh_rwmutex_try_rlock");
    for (;;) {
        uint32_t s = state_of(m);

        if ((s & (WRITER | WAITERS)) || s >= READERS_FULL)
            return false;
        if (swap_state(m, s, s + READER))
            return true;
    }
}

/* What all in both queues have waited, to be charged to this unlock. */
struct bill {
    bool    due;
    int64_t now, waited;
};

static struct bill
charge(struct bh_rwmutex *m)
{
    struct bill b = { .due = rt_contender_any(&m->writers) || rt_contender_any(&m->readers) };

    if (rt_unlikely(b.due)) {
        b.now = rt_now();
        b.waited =
            rt_contender_charge(&m->writers, b.now) + rt_contender_charge(&m->readers, b.now);
    }
    return b;
}

/* Once the lock is another's. */
static void
pay(const struct bill *b)
{
    if (rt_unlikely(b->due))
        rt_mutex_event(b->waited);
}

/* The last reader leaves and a writer waits: hand it the lock.  QUEUE is held, in state s. */
static void
hand_to_writer(struct bh_rwmutex *m, uint32_t s)
{
    struct bill       bill = charge(m);
    struct rt_waiter *w = rt_contender_pop(&m->writers, bill.now);
    struct bh_g      *g;

    BH_INVARIANT(w != NULL); /* I2 */
    g = w->g;
    w->ok = true;
    set_owner(m, g);
    atomic_fetch_sub_explicit(&m->state, (s & HELD) + QUEUE + none_left(m) - WRITER,
                              memory_order_acq_rel);
    rt_ready(g);
    pay(&bill);
}

static __attribute__((noinline)) void
runlock_slow(struct bh_rwmutex *m)
{
    unsigned tries = 0;

    rt_enter("bh_rwmutex_runlock");
    for (;;) {
        uint32_t s = state_of(m);

        if (s < READER) {
            rt_exit();
            rt_throw("sync: RUnlock of unlocked RWMutex");
        }
        if (s >= 2 * READER || !(s & WAITERS)) {
            if (swap_state(m, s, s - READER))
                break;
        } else if (s & QUEUE) {
            rt_back_off(&tries);
        } else if (swap_state(m, s, s | QUEUE)) {
            hand_to_writer(m, s);
            break;
        }
    }
    rt_exit();
}

void
bh_rwmutex_runlock(struct bh_rwmutex *m)
{
    uint32_t s;

    begin("bh_rwmutex_runlock");
    s = state_of(m);
    if (rt_unlikely(s < READER || (s & WAITERS) || !swap_state(m, s, s - READER)))
        runlock_slow(m);
}

/* ---- writers ------------------------------------------------------------------------ */

static __attribute__((noinline)) void
lock_slow(struct bh_rwmutex *m)
{
    struct rt_contender c;
    bool                again = false;
    uint32_t            woken = 0; /* WOKEN if it is ours */
    unsigned            tries = 0;

    c.w.since = 0;
    c.w.g = rt_enter("bh_rwmutex_lock")->g;
    for (;;) {
        uint32_t s = state_of(m);

        if (!(s & HELD)) {
            if (swap_state(m, s, (s | WRITER) & ~woken))
                break;
        } else if (s & QUEUE) {
            rt_back_off(&tries);
        } else {
            if (c.w.since == 0)
                c.w.since = rt_now();
            if (!swap_state(m, s, (s | QUEUE | WAITERS) & ~woken))
                continue;
            c.w.ok = false;
            rt_contender_push(&m->writers, &c, again);
            rt_park(release_queue, m, RT_WHY_RWMUTEX_W);
            if (c.w.ok)
                break;
            again = true;
            woken = WOKEN;
        }
    }
    set_owner(m, c.w.g);
    rt_exit();
}

void
bh_rwmutex_lock(struct bh_rwmutex *m)
{
    struct bh_g *g = begin("bh_rwmutex_lock");
    uint32_t     none = 0;

    if (rt_likely(atomic_compare_exchange_strong_explicit(
            &m->state, &none, WRITER, memory_order_acquire, memory_order_relaxed)))
        set_owner(m, g);
    else
        lock_slow(m);
}

bool
bh_rwmutex_try_lock(struct bh_rwmutex *m)
{
    struct bh_g *g = begin("bh_rwmutex_try_lock");

    for (;;) {
        uint32_t s = state_of(m);

        if (s & HELD)
            return false;
        if (swap_state(m, s, s | WRITER))
            break;
    }
    set_owner(m, g);
    return true;
}

/* Let in every reader that waits.  QUEUE is held. */
static void
hand_to_readers(struct bh_rwmutex *m)
{
    struct bill       bill = charge(m);
    struct rt_waiter *chain = rt_waiters_take(&m->readers);
    uint32_t          n = 0;

    for (struct rt_waiter *w = chain; w != NULL; w = w->next)
        n++;
    atomic_fetch_add_explicit(&m->state, n * READER - WRITER - QUEUE - none_left(m),
                              memory_order_acq_rel);
    rt_wake_all(chain, true);
    pay(&bill);
}

/* Release the lock to the first writer.  QUEUE is held, nobody is on its way. */
static void
pass_on(struct bh_rwmutex *m)
{
    struct bill       bill = charge(m);
    int64_t           now = bill.due ? bill.now : rt_now();
    struct rt_waiter *w = rt_contender_pop(&m->writers, now);
    struct bh_g      *g = w->g;
    bool              starving = now - w->since > STARVING_NS;

    w->ok = starving;
    if (starving) {
        set_owner(m, g);
        atomic_fetch_sub_explicit(&m->state, QUEUE + none_left(m), memory_order_acq_rel);
    } else {
        atomic_fetch_add_explicit(&m->state, WOKEN - WRITER - QUEUE - none_left(m),
                                  memory_order_acq_rel);
    }
    rt_ready(g);
    pay(&bill);
    if (starving)
        rt_yield(RT_WHY_NONE);
}

static __attribute__((noinline)) void
unlock_slow(struct bh_rwmutex *m)
{
    unsigned tries = 0;

    rt_enter("bh_rwmutex_unlock");
    for (;;) {
        uint32_t s = state_of(m);

        if (!(s & WRITER)) {
            rt_exit();
            rt_throw("sync: Unlock of unlocked RWMutex");
        }
        if (s & QUEUE) {
            rt_back_off(&tries);
        } else if (!(s & WAITERS)) {
            if (swap_state(m, s, s & ~(uint32_t)WRITER))
                break;
        } else if (swap_state(m, s, s | QUEUE)) {
            if (rt_waiters_first(&m->readers) != NULL)
                hand_to_readers(m);
            else if (s & WOKEN)
                atomic_fetch_sub_explicit(&m->state, WRITER + QUEUE, memory_order_acq_rel);
            else
                pass_on(m);
            break;
        }
    }
    rt_exit();
}

void
bh_rwmutex_unlock(struct bh_rwmutex *m)
{
    uint32_t writer = WRITER;

    begin("bh_rwmutex_unlock");
    set_owner(m, NULL);
    if (rt_unlikely(!atomic_compare_exchange_strong_explicit(
            &m->state, &writer, 0, memory_order_release, memory_order_relaxed)))
        unlock_slow(m);
}
