#ifndef BULKHEAD_RUNTIME_RUNQ_H
#define BULKHEAD_RUNTIME_RUNQ_H

/*
 * runq.h -- PRIVATE to proc.c, sched.c, sim.c and sysmon.c: the run queues and
 * what the four say to each other.
 *
 * A P's queue is Go's: a ring that its owner fills at the tail and anyone empties
 * at the head, plus `runnext`, the goroutine the running one just made ready,
 * which runs next and inherits the slice.  We differ in runnext: only the owner
 * touches it, inside the runtime, without an atomic instruction; a thief takes
 * it the way the monitor takes a P (sched.c, raid).
 */

#include "runtime.h"

#include <signal.h>

enum { /* what to do for the context just left, off its stack: m->after_op */
    RT_AFTER_NONE,
    RT_AFTER_UNLOCK, /* release the lock word after_arg */
    RT_AFTER_CALL,   /* after_fn(after_g, after_arg) */
    RT_AFTER_TAIL,   /* after_g to the local queue's tail */
    RT_AFTER_GLOBAL, /* after_g to the global queue */
    RT_AFTER_DEAD,   /* recycle after_g and its stack */
};

/* Ticks are about cycles; both are only triggers for looking closer. */
enum {
    RT_WAKE_TICKS = 150000,  /* ~50 us between wake-ups for a runnext alone */
    RT_TIMER_TICKS = 50000,  /* ~20 us between looks at the clock */
    RT_GLOBAL_EVERY = 61,    /* turns between looks at the global queue (Go's number) */
};

/* proc.c */
void rt_after_switch(struct rt_m *m);
void rt_run_from_g0(struct rt_m *m, struct bh_g *g); /* until the M comes back to its scheduler */
bool rt_prepare(struct rt_m *m, struct bh_g *g);     /* give an unstarted g its stack; false: none left */
void rt_free_g_flush(struct rt_p *p);

/* sched.c */
void         rt_sched_init(const struct bh_options *o);
void         rt_sched_start(void);
struct bh_g *rt_find_runnable(struct rt_m *m);
void         rt_global_put(struct bh_g *g);                     /* takes the lock, wakes a P */
void         rt_global_put_list(struct bh_g *head, struct bh_g *tail, int count);
struct bh_g *rt_global_get(struct rt_p *p);                     /* moves a fair share to p */
void         rt_runq_spill(struct rt_p *p, struct bh_g *g, uint32_t head, uint32_t tail);
void         rt_wake_p(void);                                   /* start a spinning M if a P idles */
void         rt_start_m(struct rt_p *p, bool spinning);         /* p NULL: an idle one, if any */
void         rt_handoff_p(struct rt_p *p);                      /* p has no M: find it one or idle it */
struct rt_p *rt_idle_p_get(void);                               /* under sched.lock */
void         rt_idle_p_put(struct rt_p *p);                     /* under sched.lock */
void         rt_inject(struct rt_glist *list);
/* rt_take_p -- for the monitor, under sched.lock.  Returns: false if m is in the runtime. */
bool         rt_take_p(struct rt_m *m);
noreturn void rt_m_exit(struct rt_m *m);
void         rt_membarrier(void);
void         rt_thread_mask(sigset_t *mask); /* what a thread without goroutines blocks */
struct bh_g *rt_wait_for_locked(struct rt_m *m, struct bh_g *picked);
void         rt_start_locked(struct rt_m *m, struct bh_g *g);
void         rt_ready_runnable(struct rt_m *m, struct bh_g *g); /* queue a runnable g again */

/* sysmon.c */
void rt_sysmon_start(void);
void rt_sysmon_wake(void);

/* sim.c */
void         rt_sim_put(struct bh_g *g);
struct bh_g *rt_sim_take(void);
struct bh_g *rt_sim_wait(struct rt_m *m); /* nothing runnable: advance time, poll, or report deadlock */
uint32_t     rt_sim_random(uint32_t n);

static inline bool
rt_runq_empty(struct rt_p *p)
{
    return atomic_load_explicit(&p->runq_head, memory_order_acquire) ==
               atomic_load_explicit(&p->runq_tail, memory_order_acquire) &&
           atomic_load_explicit(&p->runnext, memory_order_relaxed) == NULL;
}

/* rt_runq_put -- to the tail; half of a full ring goes to the global queue.  Owner only. */
static inline void
rt_runq_put(struct rt_p *p, struct bh_g *g)
{
    uint32_t head = atomic_load_explicit(&p->runq_head, memory_order_acquire);
    uint32_t tail = atomic_load_explicit(&p->runq_tail, memory_order_relaxed);

    if (rt_likely(tail - head < RT_RUNQ_SIZE)) {
        atomic_store_explicit(&p->runq[tail % RT_RUNQ_SIZE], g, memory_order_relaxed);
        atomic_store_explicit(&p->runq_tail, tail + 1, memory_order_release);
        return;
    }
    rt_runq_spill(p, g, head, tail);
}

/* rt_runq_get -- from the head.  Owner only; thieves race through the same compare-and-swap. */
static inline struct bh_g *
rt_runq_get(struct rt_p *p)
{
    uint32_t head = atomic_load_explicit(&p->runq_head, memory_order_acquire);

    for (;;) {
        uint32_t     tail = atomic_load_explicit(&p->runq_tail, memory_order_relaxed);
        struct bh_g *g;

        if (tail == head)
            return NULL;
        g = atomic_load_explicit(&p->runq[head % RT_RUNQ_SIZE], memory_order_relaxed);
        if (atomic_compare_exchange_weak_explicit(&p->runq_head, &head, head + 1,
                                                  memory_order_release, memory_order_acquire))
            return g;
    }
}

/* rt_runq_get_any -- runnext or the ring's head.  Owner only. */
static inline struct bh_g *
rt_runq_get_any(struct rt_p *p)
{
    struct bh_g *g = atomic_load_explicit(&p->runnext, memory_order_relaxed);

    if (g == NULL)
        return rt_runq_get(p);
    atomic_store_explicit(&p->runnext, NULL, memory_order_relaxed);
    return g;
}

#endif
