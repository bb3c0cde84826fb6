/*
 * stats.c -- the scheduler's numbers, for metrics and reports.
 *
 * What happens on hot paths is counted by each M for itself, with plain adds
 * (rt_count); here they are summed.  sched.lock keeps the list of Ms as it is meanwhile;
 * what an M that ends has counted is added to `gone` under the same lock.  Things that
 * exist now are read where they are kept, one after the other: close to each other in
 * time, not one moment.
 */

#include <bulkhead/go/inspect.h>

#include <string.h>

#include "report.h"

/* Sums of one kind or the other: events of the scheduler, ends of panics (lifecycle.h). */
struct sums {
    uint64_t counts[RT_COUNTERS];
    uint64_t ends[BH_PANIC_STEPS][2];
};

static struct sums gone; /* under sched.lock */

static void
add_m(struct sums *s, const struct rt_m *m)
{
    for (int i = 0; i < RT_COUNTERS; i++)
        s->counts[i] += atomic_load_explicit(&m->counts[i], memory_order_relaxed);
    for (int i = 0; i < BH_PANIC_STEPS; i++)
        for (int again = 0; again < 2; again++)
            s->ends[i][again] +=
                atomic_load_explicit(&m->panic_ends[i][again], memory_order_relaxed);
}

static void
add_panics(struct bh_runtime_stats *s, const struct sums *sum)
{
    const uint64_t(*ends)[2] = sum->ends;

    /* A CONTAINED goes on to be RECOVERED, and is no end. */
    s->contained_total = ends[BH_PANIC_CONTAINED][0] + ends[BH_PANIC_CONTAINED][1];
    s->recovered_total = ends[BH_PANIC_RECOVERED][0] + ends[BH_PANIC_RECOVERED][1];
    s->replaced_total = ends[BH_PANIC_REPLACED][0] + ends[BH_PANIC_REPLACED][1];
    s->goexit_total = ends[BH_PANIC_GOEXIT][0] + ends[BH_PANIC_GOEXIT][1];
    s->panics_total = ends[BH_PANIC_RECOVERED][0] + ends[BH_PANIC_REPLACED][0] +
                      ends[BH_PANIC_GOEXIT][0] + ends[BH_PANIC_REPANICKED][0];
    s->repanicked_total = ends[BH_PANIC_RECOVERED][1] + ends[BH_PANIC_REPLACED][1] +
                          ends[BH_PANIC_GOEXIT][1] + ends[BH_PANIC_REPANICKED][1];
}

void
rt_stats_leave(struct rt_m *m)
{
    add_m(&gone, m);
}

/* add_up -- all counters.  Returns: how many Ms there are. */
static int64_t
add_up(struct sums *s)
{
    struct rt_m *self = rt_enter_any();
    int64_t      threads = 0;

    rt_lock(&rt_sched.lock);
    *s = gone;
    for (const struct rt_m *m = rt_sched.all_m; m != NULL; m = m->all_next, threads++)
        add_m(s, m);
    rt_unlock(&rt_sched.lock);
    rt_exit_any(self);
    for (int i = 0; i < RT_COUNTERS; i++)
        s->counts[i] += atomic_load_explicit(&rt_sched.counts[i], memory_order_relaxed);
    return threads;
}

RT_PEEK static bool
count_state(struct bh_g *g, void *arg)
{
    int64_t *states = arg;

    if ((g->flags & RT_G_SYSTEM) != 0)
        return true;
    switch ((enum rt_g_state)atomic_load_explicit(&g->state, memory_order_relaxed)) {
    case RT_G_RUNNABLE:
        states[BH_GOROUTINE_RUNNABLE]++;
        break;
    case RT_G_RUNNING:
        states[BH_GOROUTINE_RUNNING]++;
        break;
    case RT_G_WAITING:
        states[BH_GOROUTINE_WAITING]++;
        break;
    case RT_G_IDLE:
    case RT_G_DEAD:
        break;
    }
    return true;
}

static int64_t
timers_armed(void)
{
    int64_t count = 0;

    for (int i = 0; i < rt_sched.proc_count; i++)
        count += atomic_load_explicit(&rt_sched.procs[i]->timer_live, memory_order_relaxed);
    return count;
}

void
bh_runtime_stats_read(struct bh_runtime_stats *out)
{
    struct bh_runtime_stats s = { .procs = rt_sched.proc_count };
    struct sums             sum;

    if (rt_sched.procs == NULL) { /* before bh_main */
        *out = (struct bh_runtime_stats){ 0 };
        return;
    }
    rt_each_g(count_state, s.goroutines);
    s.procs_idle = atomic_load(&rt_sched.idle_p_count);
    s.threads = add_up(&sum);
    s.threads_idle = atomic_load(&rt_sched.m_idle);
    s.threads_blocked = atomic_load(&rt_sched.blocking);
    s.run_queue_global = atomic_load(&rt_sched.runq_count);
    s.timers = timers_armed();
    s.io_waiters = atomic_load(&rt_sched.io_waiters);
    rt_stack_count(&s.stacks_live, &s.stacks_cached, &s.stack_bytes);
    s.spawned_total = sum.counts[RT_COUNT_SPAWNED];
    s.parked_total = sum.counts[RT_COUNT_PARKED];
    s.stolen_total = sum.counts[RT_COUNT_STOLEN];
    s.handoffs_total = sum.counts[RT_COUNT_HANDED_OFF];
    s.polled_total = sum.counts[RT_COUNT_POLLED];
    s.faults_total = sum.counts[RT_COUNT_FAULTS];
    s.overflows_total = sum.counts[RT_COUNT_OVERFLOWS];
    add_panics(&s, &sum);
    *out = s;
}

int64_t
bh_run_queue_length(int proc)
{
    if (rt_sched.procs == NULL || proc < 0 || proc >= rt_sched.proc_count)
        return 0;
    const struct rt_p *p = rt_sched.procs[proc];
    uint32_t           head = atomic_load_explicit(&p->runq_head, memory_order_relaxed);
    uint32_t           count = atomic_load_explicit(&p->runq_tail, memory_order_relaxed) - head;

    return (count <= RT_RUNQ_SIZE ? (int64_t)count : 0) +
           (atomic_load_explicit(&p->runnext, memory_order_relaxed) != NULL);
}
