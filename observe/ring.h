#ifndef BULKHEAD_OBSERVE_RING_H
#define BULKHEAD_OBSERVE_RING_H

/*
 * ring.h -- a bounded queue of records: many put, nobody waits, one side takes.
 *
 * Slots of one size; each has a turn number (after D. Vyukov's bounded queue).  At place p,
 * slot p % slots is
 *
 *     turn = p        free: whoever moves `head` from p to p + 1 owns it,
 *     turn = p + 1    copies, and publishes it so; the taker reads it in place,
 *     turn = p + slots    and sets it free for the next round.
 *
 * Between winning a slot and publishing it there is a memcpy and nothing else: a goroutine
 * that died in there would close the queue for good.  So ob_ring_put reads its argument's
 * first and last byte before it begins: a bad pointer faults outside.
 *
 * Putting is lock-free and safe in signal handlers and hooks of panics.  Taking is for one
 * thread at a time (the exporter's lock).
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ob_ring {
    _Alignas(64) _Atomic uint64_t head; /* the next place to be won */
    _Alignas(64) _Atomic uint64_t tail; /* the next to be taken; written by the taker */
    _Alignas(64) uint64_t         mask; /* slots - 1; this and below never change */
    size_t                        slot_size; /* a slot: its turn, then a record */
    size_t                        size;      /* of the memory */
    unsigned char                *memory;
};

/* ob_ring_init -- slots: a power of two.  Returns: 0 or -ENOMEM. */
int  ob_ring_init(struct ob_ring *r, size_t slots, size_t record_size);
void ob_ring_fini(struct ob_ring *r);

/*
 * ob_ring_put -- copy size bytes, at most a record, into the next slot.
 * Returns: its place plus 1, or 0: the ring is full.
 */
uint64_t ob_ring_put(struct ob_ring *r, const void *record, size_t size);

/* ob_ring_peek -- the record at `tail`, for reading until ob_ring_pop frees it; NULL: none is ready. */
const void *ob_ring_peek(struct ob_ring *r);
void        ob_ring_pop(struct ob_ring *r);

static inline uint64_t
ob_ring_count(struct ob_ring *r)
{
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);

    return head > tail ? head - tail : 0;
}

#endif
