#ifndef BULKHEAD_RUNTIME_CONTENTION_H
#define BULKHEAD_RUNTIME_CONTENTION_H

/*
 * contention.h -- PRIVATE: what waits cost, and whom.  See contention.c.
 */

#include <bulkhead/go/contention.h>

#include "waiter.h"

extern _Atomic int64_t rt_block_rate;     /* ns; 0: off */
extern _Atomic int64_t rt_mutex_fraction; /* one in so many; 0: off */

/* rt_block_profiled -- whether a wait shall be timed. */
static inline bool
rt_block_profiled(void)
{
    return rt_unlikely(atomic_load_explicit(&rt_block_rate, memory_order_relaxed) != 0);
}

/* rt_block_event -- this goroutine has waited since then.  In the runtime. */
void rt_block_event(enum rt_why why, int64_t since);
/* rt_mutex_event -- this goroutine has unlocked what others waited for, ns in all.  In the runtime. */
void rt_mutex_event(int64_t ns);

/*
 * A place in a lock's queue, and what is needed to charge the wait of all in it to whoever
 * unlocks: without walking the queue, since a queue may be long and is locked.
 *
 * If n waiters wait since t1...tn, then at time T they have waited n * T - (t1 + ... + tn).  n
 * and the sum are kept in the last waiter of the queue.  Whoever unlocks takes that much, and
 * sets the sum to n * T, as if all had come just now: so the next one pays for his share only.
 * Who began to wait with the profile off is not counted.
 */
struct rt_contender {
    struct rt_waiter w; /* first: lists point at it */
    bool             counted;
    uint32_t         n;   /* of the last: waiters that are counted */
    uint64_t         sum; /* of the last: of the times since when, modulo 2^64 */
};

static inline struct rt_contender *
rt_contender_last(const struct bh_waitlist *l)
{
    return rt_waiters_first(l) != NULL ? rt_container(l->tail, struct rt_contender, w) : NULL;
}

static inline void
rt_contender_push(struct bh_waitlist *l, struct rt_contender *c, bool front)
{
    struct rt_contender *last = rt_contender_last(l);

    c->n = 0;
    c->sum = 0;
    c->counted = atomic_load_explicit(&rt_mutex_fraction, memory_order_relaxed) != 0;
    if (front) {
        rt_waiters_push_front(l, &c->w);
    } else {
        rt_waiters_push(l, &c->w);
        if (last != NULL) {
            c->n = last->n;
            c->sum = last->sum;
        }
        last = c;
    }
    if (last == NULL)
        last = c;
    if (rt_unlikely(c->counted)) {
        last->n++;
        last->sum += (uint64_t)rt_now();
    }
}

/* rt_contender_any -- whether anyone in the queue is counted. */
static inline bool
rt_contender_any(const struct bh_waitlist *l)
{
    const struct rt_contender *last = rt_contender_last(l);

    return last != NULL && last->n != 0;
}

/* rt_contender_charge -- Returns: ns that those in the queue have waited and nobody has paid for. */
static inline int64_t
rt_contender_charge(struct bh_waitlist *l, int64_t now)
{
    struct rt_contender *last = rt_contender_last(l);
    uint64_t             all;
    int64_t              ns;

    if (last == NULL || last->n == 0)
        return 0;
    all = last->n * (uint64_t)now;
    ns = (int64_t)(all - last->sum);
    last->sum = all;
    return ns > 0 ? ns : 0; /* who came after `now` was read */
}

/* rt_contender_pop -- the first, after rt_contender_charge with the same `now`. */
static inline struct rt_waiter *
rt_contender_pop(struct bh_waitlist *l, int64_t now)
{
    struct rt_contender *last = rt_contender_last(l);
    struct rt_waiter    *w = rt_waiters_pop(l);

    if (w != NULL && rt_unlikely(rt_container(w, struct rt_contender, w)->counted)) {
        last->n--;
        last->sum -= (uint64_t)now;
    }
    return w;
}

#endif
