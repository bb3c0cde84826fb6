#ifndef BULKHEAD_OBSERVE_LOG_RING_H
#define BULKHEAD_OBSERVE_LOG_RING_H

/*
 * log_ring.h -- lines on their way from the threads that log to the thread that writes.
 *
 * Each thread that logs has a ring of bytes to itself: it alone moves `head`, and who drains,
 * one at a time, alone moves `tail`.  Both only grow; a place is the remainder by the size, a
 * power of two.  A line is a word with its size, then a struct bh_log_record, rounded up to 8
 * bytes and never broken over the ring's end: a word SKIP there sends the reader to the
 * beginning.
 *
 * Rings are made when the logger first starts and are never freed.  A thread takes one when
 * it first logs.  Nobody is told when a thread ends: who drains asks the kernel now and then
 * about the owners of empty rings.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/observe/log.h>
#include <bulkhead/observe/record.h>

enum { OB_RINGS = 128 };

struct ob_log_ring {
    _Alignas(64) _Atomic uint64_t head;
    _Atomic uint64_t tail_seen;                  /* by the owner: tail is at least that */
    _Atomic bool     busy;                       /* the owner is between reserve and commit */
    _Atomic uint64_t dropped[BH_LOG_DROPS], cut; /* by the owner */
    _Atomic int32_t  owner;                      /* its thread id; 0: free */
    _Alignas(64) _Atomic uint64_t tail;
};

extern struct ob_log_ring ob_log_rings[OB_RINGS];
extern _Atomic uint64_t   ob_log_dropped[BH_LOG_DROPS]; /* not in a ring */

/* ob_log_rings_make -- once; size: a power of two.  Returns: 0 or -ENOMEM. */
int ob_log_rings_make(size_t size);
/*
 * ob_log_ring_put -- copy a record into this thread's ring, or count it as dropped.
 * Returns: whether who drains should be woken now: the ring is half full.
 */
bool ob_log_ring_put(const struct bh_log_record *r);
/* ob_log_ring_first -- the oldest record of a ring before `head`, which the caller has read; NULL: none. */
const struct bh_log_record *ob_log_ring_first(struct ob_log_ring *ring, uint64_t head);
/* ob_log_ring_pop -- give its place free. */
void ob_log_ring_pop(struct ob_log_ring *ring);
/* ob_log_rings_reap -- free the rings of threads that have ended. */
void ob_log_rings_reap(void);
/* ob_log_rings_waiting -- bytes in all rings. */
uint64_t ob_log_rings_waiting(void);

#endif
