#ifndef BULKHEAD_RUNTIME_CHAN_H
#define BULKHEAD_RUNTIME_CHAN_H

/* chan.h -- PRIVATE to chan.c and select.c: a channel's fields and its two steps. */

#include "waiter.h"

#include <string.h>

#include <bulkhead/go/chan.h>

enum { RT_CHAN_MAGIC = 0x43686e31 };

struct bh_chan { /* what senders and receivers touch comes first, in 64 bytes */
    _Atomic uint32_t   magic;
    struct rt_lock     lock;
    uint32_t           size;      /* bytes of a value */
    uint32_t           capacity;  /* values the ring holds */
    _Atomic uint32_t   count;     /* values in it; written under lock */
    _Atomic uint32_t   closed;    /* the same */
    uint32_t           head;      /* index of the oldest value */
    uint32_t           tail;      /* index of the next free place */
    struct bh_waitlist receivers, senders;
    _Atomic uint32_t   refs;
    _Alignas(16) unsigned char ring[];
};

enum rt_chan_result { RT_CHAN_DONE, RT_CHAN_WAIT, RT_CHAN_CLOSED };

/* Panic for a call's bad arguments.  Outside the runtime. */
noreturn void rt_chan_misuse(struct bh_chan *c, const char *what, size_t size) __attribute__((cold));

void rt_chan_check(struct bh_chan *c);

/* In test builds, check the invariants of a channel about to be unlocked. */
#if defined(BH_EXPENSIVE) || defined(RT_ASAN) || defined(RT_TSAN)
#define rt_chan_expensive(c) rt_chan_check(c)
#else
#define rt_chan_expensive(c) ((void)0)
#endif

/* Is this the channel it claims to be, and the size its values have?  0: `void *`, trusted. */
static inline void
rt_chan_valid(struct bh_chan *c, const char *what, size_t size)
{
    if (rt_unlikely(atomic_load_explicit(&c->magic, memory_order_relaxed) != RT_CHAN_MAGIC) ||
        rt_unlikely(size != c->size && size != 0))
        rt_chan_misuse(c, what, size);
}

/* Common sizes without a call. */
static inline void
rt_chan_copy(void *to, const void *from, uint32_t size)
{
    if (rt_likely(size == 8))
        memcpy(to, from, 8);
    else if (size == 4)
        memcpy(to, from, 4);
    else if (size == 16)
        memcpy(to, from, 16);
    else if (size == 1)
        memcpy(to, from, 1);
    else if (size == 2)
        memcpy(to, from, 2);
    else if (size != 0)
        memcpy(to, from, size);
}

/* The first waiter whose goroutine is really to be had. */
static inline struct rt_waiter *
rt_chan_pop(struct bh_waitlist *l)
{
    struct rt_waiter *w;

    while ((w = rt_waiters_pop(l)) != NULL && rt_unlikely(w->select)) {
        uint32_t none = 0;

        if (atomic_compare_exchange_strong_explicit(&w->g->select_done, &none, 1,
                                                    memory_order_relaxed, memory_order_relaxed))
            break;
    }
    return w;
}

static inline unsigned char *
rt_chan_slot(struct bh_chan *c, uint32_t index)
{
    return c->ring + (size_t)index * c->size;
}

static inline uint32_t
rt_chan_after(const struct bh_chan *c, uint32_t index)
{
    return index + 1 == c->capacity ? 0 : index + 1;
}

static inline uint32_t
rt_chan_count(struct bh_chan *c)
{
    return atomic_load_explicit(&c->count, memory_order_relaxed);
}

/*
 * rt_chan_put -- the send, if it need not wait.  c is locked.
 *
 * *peer becomes the receiver that got the value, for the caller to wake
 * after unlocking.
 */
static inline enum rt_chan_result
rt_chan_put(struct bh_chan *c, const void *value, struct rt_waiter **peer)
{
    struct rt_waiter *w;
    uint32_t          count = rt_chan_count(c);

    *peer = NULL;
    if (rt_unlikely(atomic_load_explicit(&c->closed, memory_order_relaxed)))
        return RT_CHAN_CLOSED;
    if ((w = rt_chan_pop(&c->receivers)) != NULL) {
        if (rt_likely(w->value != NULL))
            rt_chan_copy(w->value, value, c->size);
        *peer = w;
        return RT_CHAN_DONE;
    }
    if (count == c->capacity)
        return RT_CHAN_WAIT;
    rt_chan_copy(rt_chan_slot(c, c->tail), value, c->size);
    c->tail = rt_chan_after(c, c->tail);
    atomic_store_explicit(&c->count, count + 1, memory_order_relaxed);
    return RT_CHAN_DONE;
}

/*
 * rt_chan_get -- the receive, if it need not wait.  c is locked.
 *
 * With a sender waiting on a full ring, its value takes the place freed at the
 * tail, so that order is kept.  *peer: as above, the sender.
 */
static inline enum rt_chan_result
rt_chan_get(struct bh_chan *c, void *value, struct rt_waiter **peer)
{
    uint32_t          count = rt_chan_count(c);
    struct rt_waiter *w = rt_chan_pop(&c->senders);

    *peer = w;
    if (count == 0) {
        if (w == NULL)
            return atomic_load_explicit(&c->closed, memory_order_relaxed) ? RT_CHAN_CLOSED
                                                                          : RT_CHAN_WAIT;
        if (rt_likely(value != NULL))
            rt_chan_copy(value, w->value, c->size);
        return RT_CHAN_DONE;
    }
    if (rt_likely(value != NULL))
        rt_chan_copy(value, rt_chan_slot(c, c->head), c->size);
    c->head = rt_chan_after(c, c->head);
    if (w == NULL) {
        atomic_store_explicit(&c->count, count - 1, memory_order_relaxed);
        return RT_CHAN_DONE;
    }
    rt_chan_copy(rt_chan_slot(c, c->tail), w->value, c->size);
    c->tail = rt_chan_after(c, c->tail);
    return RT_CHAN_DONE;
}

/* Hand the goroutine back its turn.  c may be gone by now: the peer may have freed it. */
static inline void
rt_chan_wake(struct rt_waiter *w)
{
    struct bh_g *g = w->g;

    w->ok = true;
    g->param = w;
    rt_ready(g);
}

/*
 * rt_chan_send_waits, rt_chan_recv_waits -- would it have to wait?  Without the lock.
 *
 * True was true at some moment of the call.  A closed channel never opens
 * again: so a sender looks at `closed` before the rest, a receiver after.
 */
static inline bool
rt_chan_send_waits(struct bh_chan *c)
{
    return !atomic_load_explicit(&c->closed, memory_order_acquire) &&
           atomic_load_explicit(&c->count, memory_order_acquire) == c->capacity &&
           atomic_load_explicit(&c->receivers.head, memory_order_acquire) == NULL;
}

static inline bool
rt_chan_recv_waits(struct bh_chan *c)
{
    return atomic_load_explicit(&c->count, memory_order_acquire) == 0 &&
           atomic_load_explicit(&c->senders.head, memory_order_acquire) == NULL &&
           !atomic_load_explicit(&c->closed, memory_order_acquire);
}

#endif
