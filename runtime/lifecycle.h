#ifndef BULKHEAD_RUNTIME_LIFECYCLE_H
#define BULKHEAD_RUNTIME_LIFECYCLE_H

/* lifecycle.h -- PRIVATE: the steps in the life of a panic, told to whoever watches. */

#include "probe.h"
#include "runtime.h"

extern _Atomic uint32_t rt_panic_hook_count; /* of bh_hook_panic */

/* rt_panic_tell_slow -- probe and hook.  Returns: whether hooks.panic took it. */
bool rt_panic_tell_slow(struct rt_panic *p, enum bh_panic_step step);
/* rt_panic_tell_hook -- hooks.panic only.  Returns: whether it is there and did not panic. */
bool rt_panic_tell_hook(struct rt_panic *p, const struct bh_panic_event *e);
/* rt_panic_tell_late -- the same for a panic that is over.  Any thread. */
bool rt_panic_tell_late(const struct bh_panic_event *e);
/* rt_panic_run_chain -- the hooks of bh_hook_panic. */
void rt_panic_run_chain(struct rt_panic *p);
/* rt_panic_in_hook -- p or an older record of the goroutine runs a hook of either sort. */
bool rt_panic_in_hook(const struct rt_panic *p);

/* rt_panic_serials -- take a block of numbers.  Returns: its first. */
uint64_t rt_panic_serials(struct rt_m *m);

static inline uint64_t
rt_panic_serial(struct rt_m *m)
{
    if (rt_unlikely(m->serial == m->serial_end))
        m->serial = rt_panic_serials(m);
    return m->serial++;
}

/* rt_panics_in_flight -- does some goroutine run deferred calls of a panic? */
bool rt_panics_in_flight(void);

/* rt_panic_watched -- does anybody want to be told?  Asked once per panic. */
static inline bool
rt_panic_watched(void)
{
    /* Goroutine probes too: nobody gains from telling them apart. */
    return ((uintptr_t)rt_sched.hooks.panic | rt_probe_words[0] | rt_probe_words[1] |
            rt_probe_words[2]) != 0;
}

/*
 * rt_panic_count -- in the counters of this thread, which it alone writes.
 *
 * Panics are counted as they end, apart by whether bh_repanic began them: so each
 * costs one store, and every sum of counters only grows.  A record that a newer one
 * of bh_repanic carries on counts under REPANICKED.  CONTAINED is counted on its own.
 * stats.c adds up.
 */
static inline void
rt_panic_count(const struct rt_panic *p, enum bh_panic_step step)
{
    _Atomic uint64_t *n = &rt_m()->panic_ends[step][p->again];

    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* rt_panic_tell -- a step that is not the end of p. */
static inline void
rt_panic_tell(struct rt_panic *p, enum bh_panic_step step)
{
    if (rt_unlikely(p->watched))
        (void)rt_panic_tell_slow(p, step);
}

/* rt_panic_over -- how p ends. */
static inline void
rt_panic_over(struct rt_panic *p, enum bh_panic_step step)
{
    p->told = true;
    rt_panic_count(p, step);
    rt_panic_tell(p, step);
}

#endif
