#ifndef BULKHEAD_GO_SYNC_H
#define BULKHEAD_GO_SYNC_H

/*
 * sync.h -- mutexes, conditions, wait groups, once, semaphores.
 *
 * All live in the caller's memory, are ready when zeroed, need no destruction,
 * and must not be copied or moved while in use.  They block goroutines, never
 * threads.  Texts of misuse are Go's.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct bh_g;
struct rt_waiter;

/* Waiting goroutines, first in, first out.  Private to the runtime, like every field below. */
struct bh_waitlist {
    _Atomic(struct rt_waiter *) head;
    struct rt_waiter           *tail; /* meaningless while head is NULL */
};

struct bh_mutex {
    _Atomic uintptr_t  state; /* the goroutine that holds it, and flags: see mutex.c */
    struct bh_waitlist waiters;
};

/*
 * bh_mutex_lock -- Blocks: until it is free.  A goroutine that has waited over
 * 1 ms is handed the lock directly, so no one starves.
 */
void bh_mutex_lock(struct bh_mutex *m);
bool bh_mutex_try_lock(struct bh_mutex *m);
/*
 * bh_mutex_unlock -- fatal: "sync: unlock of unlocked mutex".
 *
 * May release another goroutine's lock.  Does not touch the mutex once someone
 * else can have it: the next holder may free it.  Yields to a waiter that
 * starved.
 */
void bh_mutex_unlock(struct bh_mutex *m);
/* bh_mutex_held -- whether this goroutine holds it.  For checks. */
bool bh_mutex_held(const struct bh_mutex *m);

struct bh_rwmutex {
    _Atomic uint32_t       state; /* see rwmutex.c */
    uint32_t               reserved_;
    _Atomic(struct bh_g *) owner; /* the writer that holds it */
    struct bh_waitlist     readers, writers;
};

/* bh_rwmutex_* -- many readers or one writer; a waiting writer stops new readers. */
void bh_rwmutex_lock(struct bh_rwmutex *m);
bool bh_rwmutex_try_lock(struct bh_rwmutex *m);
void bh_rwmutex_unlock(struct bh_rwmutex *m);   /* fatal: "sync: Unlock of unlocked RWMutex" */
void bh_rwmutex_rlock(struct bh_rwmutex *m);
bool bh_rwmutex_try_rlock(struct bh_rwmutex *m);
void bh_rwmutex_runlock(struct bh_rwmutex *m); /* fatal: "sync: RUnlock of unlocked RWMutex" */

struct bh_waitq {
    _Atomic uint32_t   lock;
    uint32_t           reserved_;
    struct bh_waitlist waiters;
};

struct bh_cond {
    struct bh_waitq q;
};

/*
 * bh_cond_wait -- release m, wait for a signal, lock m again.
 * Blocks: until signalled; there are no spurious wake-ups.  m is held on entry and return.
 */
void bh_cond_wait(struct bh_cond *c, struct bh_mutex *m);
void bh_cond_signal(struct bh_cond *c);    /* wakes who has waited longest */
void bh_cond_broadcast(struct bh_cond *c); /* wakes all */

struct bh_waitgroup {
    _Atomic uint64_t state; /* count << 32 | waiters */
    struct bh_waitq  q;
};

/*
 * bh_waitgroup_add -- Panics: "sync: negative WaitGroup counter"; "sync:
 * WaitGroup misuse: Add called concurrently with Wait".
 */
void bh_waitgroup_add(struct bh_waitgroup *w, int delta);
void bh_waitgroup_done(struct bh_waitgroup *w);
/*
 * bh_waitgroup_wait -- Blocks: until the count is 0.
 * Panics: "sync: WaitGroup is reused before previous Wait has returned".
 */
void bh_waitgroup_wait(struct bh_waitgroup *w);

struct bh_once {
    _Atomic uint32_t   state; /* see sema.c */
    uint32_t           reserved_;
    struct bh_waitlist waiters;
};

/*
 * bh_once_do -- run fn(arg) the first time only.
 * Counts as done also if fn panics or exits, as in Go.
 * Blocks: until the first call is over; for ever if that is this goroutine's.
 */
void bh_once_do(struct bh_once *o, void (*fn)(void *arg), void *arg);

struct bh_semaphore {
    int64_t         available; /* under q.lock */
    struct bh_waitq q;
};

/* bh_semaphore_init -- permits to hand out; 0 when zeroed.  Panics: if negative. */
void bh_semaphore_init(struct bh_semaphore *s, int64_t permits);
/*
 * bh_semaphore_acquire -- take n permits; first come, first served, so that a
 * large request is not overtaken for ever by small ones.
 *
 * bh_semaphore_try_acquire also fails while others wait.
 * Blocks: until they are there.  Panics: n < 0; release: too many permits.
 */
void bh_semaphore_acquire(struct bh_semaphore *s, int64_t n);
bool bh_semaphore_try_acquire(struct bh_semaphore *s, int64_t n);
void bh_semaphore_release(struct bh_semaphore *s, int64_t n);

/*
 * Goroutine-local storage: a key is an address of the caller's.
 *
 * bh_local_set -- value of key on this goroutine; free (may be NULL) is called
 * with it when it is replaced or the goroutine ends.  A NULL value unsets the key.
 */
void  bh_local_set(const void *key, void *value, void (*free)(void *));
void *bh_local_get(const void *key); /* NULL if unset */

#endif
