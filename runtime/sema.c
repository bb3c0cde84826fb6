/*
 * sema.c -- conditions, wait groups, once and semaphores.
 *
 * Each keeps its waiters in a list under a spin lock of its own: q.lock; for
 * once, the flag QUEUE of its state.  Nobody is readied, and nothing allocated,
 * with it held.
 *
 * A condition's waiter is in the list before the mutex is released, or a
 * signal in between would be lost; so the signal may come before it has parked.
 * Its phase says who is first:
 *
 *     QUEUED --parked--> PARKED --signal--> NOTIFIED, and readied
 *        \--------signal------------------> NOTIFIED: do not park, or come straight back
 *
 * Whoever lets a goroutine go on does not touch the object afterwards, so that
 * it may be freed: a wait group when wait returns, a semaphore when acquire does,
 * a condition when nobody waits, once when do returns.
 */

#include "waiter.h"

/* ---- bh_cond ------------------------------------------------------------------------ */

enum { QUEUED, PARKED, NOTIFIED };

/* Off the stack now.  A signal that came meanwhile left it to us to come back. */
static void
parked(struct bh_g *g, void *arg)
{
    struct rt_waiter *w = arg;
    uint32_t          queued = QUEUED;

    if (!atomic_compare_exchange_strong_explicit(&w->phase, &queued, PARKED, memory_order_acq_rel,
                                                 memory_order_acquire))
        rt_ready(g);
}

void
bh_cond_wait(struct bh_cond *c, struct bh_mutex *m)
{
    struct rt_waiter w;

    rt_touch(&c->q.lock);
    rt_touch(&m->state);
    w.g = rt_enter("bh_cond_wait")->g;
    atomic_init(&w.phase, QUEUED);
    rt_point();
    rt_lock_word(&c->q.lock);
    rt_waiters_push(&c->q.waiters, &w);
    rt_unlock_word(&c->q.lock);
    rt_exit();
    bh_mutex_unlock(m);

    rt_enter("bh_cond_wait");
    rt_point();
    if (atomic_load_explicit(&w.phase, memory_order_acquire) != NOTIFIED)
        rt_park(parked, &w, RT_WHY_COND);
    rt_exit();
    bh_mutex_lock(m);
}

/* w is out of the list: its goroutine goes on, and w with it. */
static void
notify(struct rt_waiter *w, bool alone)
{
    struct bh_g *g = w->g;

    if (atomic_exchange_explicit(&w->phase, NOTIFIED, memory_order_acq_rel) != PARKED)
        return;
    if (alone)
        rt_ready(g);
    else
        rt_ready_tail(g);
}

void
bh_cond_signal(struct bh_cond *c)
{
    struct rt_waiter *w = rt_waiters_first(&c->q.waiters);

    rt_enter("bh_cond_signal");
    rt_point();
    if (w != NULL || rt_sched.simulate) {
        rt_lock_word(&c->q.lock);
        w = rt_waiters_pop(&c->q.waiters);
        rt_unlock_word(&c->q.lock);
        if (w != NULL)
            notify(w, true);
    }
    rt_exit();
}

void
bh_cond_broadcast(struct bh_cond *c)
{
    struct rt_waiter *w = rt_waiters_first(&c->q.waiters), *next;
    bool              alone;

    rt_enter("bh_cond_broadcast");
    rt_point();
    if (w != NULL || rt_sched.simulate) {
        rt_lock_word(&c->q.lock);
        w = rt_waiters_take(&c->q.waiters);
        rt_unlock_word(&c->q.lock);
        alone = w != NULL && w->next == NULL;
        for (; w != NULL; w = next) {
            next = w->next;
            notify(w, alone);
        }
    }
    rt_exit();
}

/* ---- bh_waitgroup --------------------------------------------------------------------- */

static inline uint32_t
waiters_in(uint64_t state)
{
    return (uint32_t)state;
}

static inline int32_t
count_in(uint64_t state)
{
    return (int32_t)(state >> 32);
}

/* The count is 0, in `state`: let the waiters go.  Returns: false on misuse. */
static bool
release_waiters(struct bh_waitgroup *w, uint64_t state)
{
    struct rt_waiter *chain = NULL;
    bool              same;

    rt_enter("bh_waitgroup_done");
    rt_lock_word(&w->q.lock);
    same = atomic_compare_exchange_strong_explicit(&w->state, &state, 0, memory_order_acq_rel,
                                                   memory_order_relaxed);
    if (same)
        chain = rt_waiters_take(&w->q.waiters);
    rt_unlock_word(&w->q.lock);
    rt_wake_all(chain, true);
    rt_exit();
    return same;
}

void
bh_waitgroup_add(struct bh_waitgroup *w, int delta)
{
    uint64_t change = (uint64_t)(int64_t)delta << 32;
    uint64_t state;
    bool     waited_for;

    if (rt_unlikely(rt_g() == NULL))
        rt_not_a_goroutine("bh_waitgroup_add");
    if (rt_unlikely(rt_sched.simulate)) {
        rt_enter("bh_waitgroup_add");
        rt_point();
        rt_exit();
    }
    state = atomic_fetch_add_explicit(&w->state, change, memory_order_acq_rel) + change;
    waited_for = waiters_in(state) != 0;
    if (rt_unlikely(count_in(state) < 0))
        rt_panic_string("sync: negative WaitGroup counter");
    if (rt_unlikely(waited_for && delta > 0 && count_in(state) == delta))
        rt_panic_string("sync: WaitGroup misuse: Add called concurrently with Wait");
    if (count_in(state) > 0 || !waited_for)
        return;
    if (!release_waiters(w, state))
        rt_panic_string("sync: WaitGroup misuse: Add called concurrently with Wait");
}

void
bh_waitgroup_done(struct bh_waitgroup *w)
{
    bh_waitgroup_add(w, -1);
}

/* Count ourselves in and park, unless the count is 0.  Returns: whether we waited. */
static bool
wait_for_zero(struct bh_waitgroup *w)
{
    struct rt_waiter me;
    uint64_t         state;

    me.g = rt_enter("bh_waitgroup_wait")->g;
    rt_point();
    rt_lock_word(&w->q.lock);
    state = atomic_load_explicit(&w->state, memory_order_acquire);
    do {
        if (count_in(state) == 0) {
            rt_unlock_word(&w->q.lock);
            rt_exit();
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&w->state, &state, state + 1,
                                                    memory_order_acq_rel, memory_order_acquire));
    rt_waiters_push(&w->q.waiters, &me);
    rt_park_unlock(&w->q.lock, RT_WHY_SEMACQUIRE);
    rt_exit();
    return true;
}

void
bh_waitgroup_wait(struct bh_waitgroup *w)
{
    if (rt_unlikely(rt_g() == NULL))
        rt_not_a_goroutine("bh_waitgroup_wait");
    if (count_in(atomic_load_explicit(&w->state, memory_order_acquire)) == 0)
        return;
    if (wait_for_zero(w) && atomic_load_explicit(&w->state, memory_order_acquire) != 0)
        rt_panic_string("sync: WaitGroup is reused before previous Wait has returned");
}

/* ---- bh_once --------------------------------------------------------------------------- */

enum { RUNNING = 1, QUEUE = 2, DONE = 4 }; /* bh_once.state; QUEUE implies RUNNING */

static void
release_queue(struct bh_g *g, void *arg)
{
    struct bh_once *o = arg;

    (void)g;
    atomic_store_explicit(&o->state, RUNNING, memory_order_release);
}

/* The first call is over, by return, panic or exit. */
static void
finish(struct bh_once *o)
{
    struct rt_waiter *chain;
    uint32_t          running = RUNNING;
    unsigned          tries = 0;

    rt_enter("bh_once_do");
    rt_point();
    while (!atomic_compare_exchange_weak_explicit(&o->state, &running, RUNNING | QUEUE,
                                                  memory_order_acquire, memory_order_relaxed)) {
        running = RUNNING;
        rt_back_off(&tries);
    }
    chain = rt_waiters_take(&o->waiters);
    atomic_store_explicit(&o->state, DONE, memory_order_release);
    rt_wake_all(chain, true);
    rt_exit();
}

static void
run_once(struct bh_once *o, void (*fn)(void *arg), void *arg)
{
    BH_DEFER(finish, o);
    fn(arg);
}

/* Returns: true if the first call is ours to make; else once it is over. */
static bool
first_or_wait(struct bh_once *o)
{
    struct rt_waiter w;
    unsigned         tries = 0;
    bool             first = false;

    w.g = rt_enter("bh_once_do")->g;
    rt_point();
    for (;;) {
        uint32_t s = atomic_load_explicit(&o->state, memory_order_acquire);

        if (s == DONE)
            break;
        if (s & QUEUE) {
            rt_back_off(&tries);
        } else if (s == 0) {
            first = atomic_compare_exchange_weak_explicit(&o->state, &s, RUNNING,
                                                          memory_order_acquire,
                                                          memory_order_relaxed);
            if (first)
                break;
        } else if (atomic_compare_exchange_weak_explicit(&o->state, &s, RUNNING | QUEUE,
                                                         memory_order_acquire,
                                                         memory_order_relaxed)) {
            rt_waiters_push(&o->waiters, &w);
            rt_park(release_queue, o, RT_WHY_ONCE);
            break;
        }
    }
    rt_exit();
    return first;
}

void
bh_once_do(struct bh_once *o, void (*fn)(void *arg), void *arg)
{
    if (atomic_load_explicit(&o->state, memory_order_acquire) == DONE)
        return;
    if (first_or_wait(o))
        run_once(o, fn, arg);
}

/* ---- bh_semaphore ------------------------------------------------------------------------ */

void
bh_semaphore_init(struct bh_semaphore *s, int64_t permits)
{
    if (permits < 0)
        rt_panic_string("bh_semaphore_init: negative number of permits");
    *s = (struct bh_semaphore){ .available = permits };
}

/* Take n permits, unless they are not there or others wait for theirs.  q.lock is held. */
static inline bool
take(struct bh_semaphore *s, int64_t n)
{
    if (s->available < n || rt_waiters_first(&s->q.waiters) != NULL)
        return false;
    s->available -= n;
    return true;
}

void
bh_semaphore_acquire(struct bh_semaphore *s, int64_t n)
{
    struct rt_waiter w;

    if (rt_unlikely(n < 0))
        rt_panic_string("bh_semaphore_acquire: negative number of permits");
    rt_touch(&s->q.lock);
    w.g = rt_enter("bh_semaphore_acquire")->g;
    rt_point();
    rt_lock_word(&s->q.lock);
    if (rt_likely(take(s, n))) {
        rt_unlock_word(&s->q.lock);
    } else {
        w.n = n;
        rt_waiters_push(&s->q.waiters, &w);
        rt_park_unlock(&s->q.lock, RT_WHY_SEMACQUIRE);
    }
    rt_exit();
}

bool
bh_semaphore_try_acquire(struct bh_semaphore *s, int64_t n)
{
    bool taken;

    if (rt_unlikely(n < 0))
        rt_panic_string("bh_semaphore_try_acquire: negative number of permits");
    rt_touch(&s->q.lock);
    rt_enter("bh_semaphore_try_acquire");
    rt_point();
    rt_lock_word(&s->q.lock);
    taken = take(s, n);
    rt_unlock_word(&s->q.lock);
    rt_exit();
    return taken;
}

/* Move the waiters whose turn it is to a chain.  q.lock is held. */
static struct rt_waiter *
grant(struct bh_semaphore *s)
{
    struct rt_waiter *chain = NULL, **end = &chain, *w;

    while ((w = rt_waiters_first(&s->q.waiters)) != NULL && w->n <= s->available) {
        s->available -= w->n;
        *end = rt_waiters_pop(&s->q.waiters);
        end = &w->next;
    }
    *end = NULL;
    return chain;
}

void
bh_semaphore_release(struct bh_semaphore *s, int64_t n)
{
    struct rt_waiter *chain = NULL;
    bool              overflow;

    if (rt_unlikely(n < 0))
        rt_panic_string("bh_semaphore_release: negative number of permits");
    rt_touch(&s->q.lock);
    rt_enter("bh_semaphore_release");
    rt_point();
    rt_lock_word(&s->q.lock);
    overflow = s->available > INT64_MAX - n;
    if (!overflow) {
        s->available += n;
        chain = grant(s);
    }
    rt_unlock_word(&s->q.lock);
    rt_wake_all(chain, true);
    rt_exit();
    if (overflow)
        rt_panic_string("bh_semaphore_release: too many permits");
}
