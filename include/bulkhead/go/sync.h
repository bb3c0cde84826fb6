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

/* A FIFO of waiting goroutines; private to the runtime. */
struct bh_waitq {
    _Atomic uint32_t  lock;
    uint32_t          count;
    struct rt_waiter *head, *tail;
};

struct bh_mutex {
    _Atomic uint32_t state; /* LOCKED | WOKEN | STARVING | waiter count */
    uint32_t         reserved_;
    struct bh_g     *owner; /* written by the holder; a hint for reports */
    struct bh_waitq  q;
};

/*
 * bh_mutex_lock -- Blocks: until it is free.  A goroutine that waited over 1 ms
 * is handed the lock directly, so no one starves.
 */
void bh_mutex_lock(struct bh_mutex *m);
bool bh_mutex_try_lock(struct bh_mutex *m);
/* bh_mutex_unlock -- fatal: "sync: unlock of unlocked mutex".  May be another goroutine's lock. */
void bh_mutex_unlock(struct bh_mutex *m);
/* bh_mutex_held -- whether this goroutine holds it.  For checks. */
bool bh_mutex_held(const struct bh_mutex *m);

struct bh_rwmutex {
    struct bh_mutex  writers;
    _Atomic int32_t  reader_count; /* negative while a writer waits or holds */
    _Atomic int32_t  reader_wait;  /* readers the waiting writer must outlast */
    struct bh_waitq  readers_q, writer_q;
};

/* bh_rwmutex_* -- many readers or one writer; a waiting writer stops new readers. */
void bh_rwmutex_lock(struct bh_rwmutex *m);
bool bh_rwmutex_try_lock(struct bh_rwmutex *m);
void bh_rwmutex_unlock(struct bh_rwmutex *m);   /* fatal: "sync: Unlock of unlocked RWMutex" */
void bh_rwmutex_rlock(struct bh_rwmutex *m);
bool bh_rwmutex_try_rlock(struct bh_rwmutex *m);
void bh_rwmutex_runlock(struct bh_rwmutex *m); /* fatal: "sync: RUnlock of unlocked RWMutex" */

struct bh_cond {
    struct bh_waitq q;
};

/*
 * bh_cond_wait -- release m, wait for a signal, lock m again.
 * Blocks: until signalled; there are no spurious wake-ups.  m is held on entry and return.
 */
void bh_cond_wait(struct bh_cond *c, struct bh_mutex *m);
void bh_cond_signal(struct bh_cond *c);
void bh_cond_broadcast(struct bh_cond *c);

struct bh_waitgroup {
    _Atomic uint64_t state; /* count << 32 | waiters */
    struct bh_waitq  q;
};

/* bh_waitgroup_add -- Panics: "sync: negative WaitGroup counter"; misuse while waiting. */
void bh_waitgroup_add(struct bh_waitgroup *w, int delta);
void bh_waitgroup_done(struct bh_waitgroup *w);
void bh_waitgroup_wait(struct bh_waitgroup *w); /* Blocks: until the count is 0. */

struct bh_once {
    _Atomic uint32_t done;
    struct bh_mutex  lock;
};

/*
 * bh_once_do -- run fn(arg) the first time only.
 * Counts as done also if fn panics or exits, as in Go.
 * Blocks: until the first call is over.
 */
void bh_once_do(struct bh_once *o, void (*fn)(void *arg), void *arg);

struct bh_semaphore {
    int64_t         available; /* under q.lock; set before use */
    struct bh_waitq q;
};

/* bh_semaphore_init -- permits to hand out.  Panics: if negative. */
void bh_semaphore_init(struct bh_semaphore *s, int64_t permits);
/* bh_semaphore_acquire -- take n permits; first come, first served.  Blocks: until they are there. */
void bh_semaphore_acquire(struct bh_semaphore *s, int64_t n);
bool bh_semaphore_try_acquire(struct bh_semaphore *s, int64_t n);
void bh_semaphore_release(struct bh_semaphore *s, int64_t n);

/*
 * Goroutine-local storage: a key is an address of the caller's.
 *
 * bh_local_set -- value of key on this goroutine; free (may be NULL) is called
 * with it when it is replaced or the goroutine ends.
 */
void  bh_local_set(const void *key, void *value, void (*free)(void *));
void *bh_local_get(const void *key); /* NULL if unset */

#endif
