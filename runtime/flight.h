#ifndef BULKHEAD_RUNTIME_FLIGHT_H
#define BULKHEAD_RUNTIME_FLIGHT_H

/* flight.h -- PRIVATE: putting events into the flight recorder.  flight.c has the design. */

#include <bulkhead/go/flight.h>

#include "runtime.h"

void rt_flight_put(struct rt_flight_ring *r, enum bh_flight_kind kind, enum rt_why why,
                   uint64_t goroutine, uint64_t other);

/* rt_flight -- an event of p, which is the caller's.  In the runtime.  p may be NULL. */
static inline void
rt_flight(struct rt_p *p, enum bh_flight_kind kind, enum rt_why why, uint64_t goroutine,
          uint64_t other)
{
    struct rt_flight_ring *r;

    if (p != NULL &&
        rt_unlikely((r = atomic_load_explicit(&p->flight, memory_order_acquire)) != NULL))
        rt_flight_put(r, kind, why, goroutine, other);
}

void rt_flight_put_create(struct rt_flight_ring *r, const struct bh_g *made);

/* rt_flight_create -- the same for a goroutine that has just been made. */
static inline void
rt_flight_create(struct rt_p *p, const struct bh_g *made)
{
    struct rt_flight_ring *r;

    if (p != NULL &&
        rt_unlikely((r = atomic_load_explicit(&p->flight, memory_order_acquire)) != NULL))
        rt_flight_put_create(r, made);
}

/* rt_flight_init -- the Ps are there: give them their rings, if that was asked for. */
void rt_flight_init(void);

#endif
