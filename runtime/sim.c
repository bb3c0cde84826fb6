/*
 * sim.c -- the deterministic scheduler: one thread, seeded order, virtual time.
 *
 * Behind the same interface as the real one: proc.c asks rt_sim_take for the
 * next goroutine and gives it rt_sim_put.  Runnable goroutines are an unordered
 * bag from which a seeded generator draws; calls into the runtime are
 * scheduling points at which it may also decide to yield (rt_sim_point).  The
 * clock stands still while anything can run and then jumps to the next timer;
 * but goroutines that only yield in turn, waiting for time to pass, see it pass.
 * So a run is a function of the seed and the program, and a failing seed replays.
 *
 * The world outside is not simulated: goroutines that wait for descriptors are
 * polled, for real, when nothing else can run and no timer is armed.
 *
 * Only the one M uses this state; no lock.
 */

#include "runq.h"

#include <stdlib.h>

enum {
    YIELD_ONE_IN = 4,     /* scheduling points that switch */
    STEPS_A_TICK = 20000, /* turns without rest before time moves on all the same */
};

static struct {
    struct bh_g **bag;
    size_t        count, cap;
    uint64_t      state;
    uint32_t      steps; /* turns since time last moved */
    bool          seeded;
} sim;

uint32_t
rt_sim_random(uint32_t n)
{
    uint64_t z;

    if (!sim.seeded) {
        sim.seeded = true;
        sim.state = rt_sched.seed;
    }
    /* splitmix64: every seed, 0 and neighbours included, gives its own stream */
    z = sim.state += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    z ^= z >> 31;
    return (uint32_t)(((z >> 32) * n) >> 32);
}

void
rt_sim_put(struct bh_g *g)
{
    if (sim.count == sim.cap) {
        size_t        cap = sim.cap != 0 ? 2 * sim.cap : 64;
        struct bh_g **bag = realloc(sim.bag, cap * sizeof *bag);

        if (bag == NULL)
            rt_throw("out of memory for the simulated run queue");
        sim.bag = bag;
        sim.cap = cap;
    }
    sim.bag[sim.count++] = g;
}

/* Jump to the next timer and fire it.  Returns: false if there is none. */
static bool
advance(struct rt_p *p)
{
    int64_t next = rt_timers_next();

    sim.steps = 0;
    if (next == INT64_MAX)
        return false;
    if (next > rt_sched.sim_now)
        rt_sched.sim_now = next;
    rt_sched.coarse_now = rt_sched.sim_now;
    rt_timers_run(p, rt_sched.sim_now);
    return true;
}

struct bh_g *
rt_sim_take(void)
{
    struct bh_g *g;
    uint32_t     at;

    if (sim.count == 0)
        return NULL;
    if (++sim.steps >= STEPS_A_TICK)
        advance(rt_m()->p);
    at = rt_sim_random((uint32_t)sim.count);
    g = sim.bag[at];
    sim.bag[at] = sim.bag[--sim.count];
    return g;
}

void
rt_sim_point(void)
{
    if (sim.count > 0 && rt_sim_random(YIELD_ONE_IN) == 0)
        rt_yield(RT_WHY_NONE);
}

struct bh_g *
rt_sim_wait(struct rt_m *m)
{
    struct bh_g    *g = rt_sim_take();
    struct rt_glist list;

    if (g != NULL)
        return g;
    if (atomic_load(&rt_sched.io_waiters) != 0) {
        list = rt_netpoll(0);
        rt_inject(&list);
        if (sim.count > 0)
            return NULL;
    }
    if (advance(m->p))
        return NULL;
    if (atomic_load(&rt_sched.io_waiters) == 0 && atomic_load(&rt_sched.foreign) == 0)
        rt_crash_deadlock(atomic_load(&rt_sched.main_exited));
    list = rt_netpoll(-1);
    rt_inject(&list);
    return NULL;
}
