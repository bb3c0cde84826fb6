#ifndef BULKHEAD_RUNTIME_WAITER_H
#define BULKHEAD_RUNTIME_WAITER_H

/*
 * waiter.h -- PRIVATE to channels, select and the locks: a goroutine's place in
 * a queue, and the queue.
 *
 * A waiter lives on the waiting goroutine's stack, so waiting allocates nothing
 * and the other side can reach where a value is to go.  It is good until its
 * goroutine runs again: whoever removes it from its list owns it up to the
 * rt_ready, and must not look at it afterwards.
 *
 * A select waits in several lists at once.  Whoever removes one of its waiters
 * must still win the goroutine (g->select_done); a waiter that loses is stale:
 * dropped by the next one who finds it, or by its own goroutine.
 */

#include "runtime.h"

#include <sched.h>

#include <bulkhead/go/sync.h>

struct rt_waiter {
    struct rt_waiter *next, *prev;
    struct bh_g      *g;
    union {
        void   *value; /* channels: where the value comes from or goes to; NULL: nowhere */
        int64_t since; /* locks: when it began to wait */
        int64_t n;     /* semaphores: permits wanted */
    };
    union {
        uint32_t         bytes; /* select: size of the channel's values */
        _Atomic uint32_t phase; /* conditions: see sema.c */
    };
    bool             select; /* one of several of its goroutine */
    bool             queued; /* in a list; under the list's lock */
    bool             ok;     /* woken with a value, or holding the lock */
};

/* ---- lists: first in, first out; guarded by whoever owns them ----------------- */

static inline struct rt_waiter *
rt_waiters_first(const struct bh_waitlist *l)
{
    return atomic_load_explicit(&l->head, memory_order_relaxed);
}

static inline void
rt_waiters_push(struct bh_waitlist *l, struct rt_waiter *w)
{
    w->next = NULL;
    w->queued = true;
    if (rt_waiters_first(l) == NULL) {
        w->prev = NULL;
        atomic_store_explicit(&l->head, w, memory_order_relaxed);
    } else {
        w->prev = l->tail;
        l->tail->next = w;
    }
    l->tail = w;
}

static inline void
rt_waiters_push_front(struct bh_waitlist *l, struct rt_waiter *w)
{
    struct rt_waiter *first = rt_waiters_first(l);

    w->next = first;
    w->prev = NULL;
    w->queued = true;
    if (first == NULL)
        l->tail = w;
    else
        first->prev = w;
    atomic_store_explicit(&l->head, w, memory_order_relaxed);
}

static inline struct rt_waiter *
rt_waiters_pop(struct bh_waitlist *l)
{
    struct rt_waiter *w = rt_waiters_first(l);

    if (w == NULL)
        return NULL;
    if (w->next != NULL)
        w->next->prev = NULL;
    atomic_store_explicit(&l->head, w->next, memory_order_relaxed);
    w->queued = false;
    return w;
}

/* Remove a queued waiter from anywhere. */
static inline void
rt_waiters_remove(struct bh_waitlist *l, struct rt_waiter *w)
{
    if (w->prev != NULL)
        w->prev->next = w->next;
    else
        atomic_store_explicit(&l->head, w->next, memory_order_relaxed);
    if (w->next != NULL)
        w->next->prev = w->prev;
    else
        l->tail = w->prev;
    w->queued = false;
}

/* Take the whole list; walk it by `next`. */
static inline struct rt_waiter *
rt_waiters_take(struct bh_waitlist *l)
{
    struct rt_waiter *first = rt_waiters_first(l);

    atomic_store_explicit(&l->head, NULL, memory_order_relaxed);
    return first;
}

/* ---- waking -------------------------------------------------------------------- */

/*
 * rt_wake_all -- ready every waiter of a taken chain, in order.
 *
 * A single one runs next; many go to the end of the queue, so that the one
 * that waited longest runs first.
 */
void rt_wake_all(struct rt_waiter *chain, bool ok);

/* ---- waiting for a bit ------------------------------------------------------------ */

static inline void
rt_pause(void)
{
#if defined(__x86_64__)
    __builtin_ia32_pause();
#else
    __asm__ volatile("yield");
#endif
}

/* rt_back_off -- between tries for a flag held for tens of instructions; `tries` starts at 0. */
static inline void
rt_back_off(unsigned *tries)
{
    if (++*tries < 100)
        rt_pause();
    else
        sched_yield();
}

/* rt_probe -- fault on the caller's bad pointer here, where it is the caller's panic. */
static inline void
rt_probe(const void *pointer, size_t size)
{
    const volatile char *bytes = pointer;

    if (size != 0) {
        (void)bytes[0];
        (void)bytes[size - 1];
    }
}

/* rt_touch -- the same for an atomic that others may be writing; never optimised away. */
#define rt_touch(atomic)                                                                       \
    ((void)atomic_load_explicit((volatile __typeof__(*(atomic)) *)(atomic), memory_order_relaxed))

#endif
