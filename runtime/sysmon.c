/*
 * sysmon.c -- the monitor: a thread without a P that sees what no M can.
 *
 * It wakes every few milliseconds while anything runs and
 *
 *   - takes the P of an M whose goroutine has been in application code for
 *     10 ms while others wait: a busy loop or a blocking system call then
 *     delays nobody.  The goroutine goes on without a P and queues for one at
 *     its next call into the runtime.  No signal, no asynchronous switch;
 *   - asks a goroutine that has kept its P for 10 ms through runtime calls
 *     (two that wake each other, say) to yield;
 *   - polls descriptors if no M has since it last looked; what a peer's hang-up ends
 *     is urgent, and takes a P at once;
 *   - starts a P for work that waits while another idles;
 *   - gives the memory of idle stacks back to the kernel, a little at a time.
 *
 * When all Ps have been idle for a while it sleeps until one is taken.
 *
 * It owns tick_seen and tick_since of every P; the rest under sched.lock.
 * After Go's sysmon and retake.  We differ in taking Ps from application code.
 */

#include "runq.h"

#include <pthread.h>
#include <time.h>

enum {
    PERIOD_NS = 2500 * 1000,     /* between looks */
    SLICE_NS = 10 * 1000 * 1000, /* a goroutine's time before others get the P */
    POLL_NS = 2000 * 1000,       /* longest time without a look at descriptors */
    SCAVENGE_LOOKS = 100,        /* looks between two rounds of giving memory back */
    IDLE_LOOKS = 20,             /* looks at an idle process before sleeping */
};

/* Does anything wait that p's M keeps from running? */
static bool
others_wait(struct rt_p *p, int64_t now)
{
    return !rt_runq_empty(p) || atomic_load(&rt_sched.runq_count) != 0 ||
           atomic_load(&p->timer_first) <= now;
}

/* Look at one P; true if it was taken and needs a new M.  Under sched.lock. */
static bool
retake(struct rt_p *p, int64_t now, int64_t slice)
{
    struct rt_m *m = p->m;
    uint32_t     tick = atomic_load_explicit(&p->tick, memory_order_relaxed);

    if (m == NULL || p->state != RT_P_RUNNING || tick != p->tick_seen) {
        p->tick_seen = tick;
        p->tick_since = now;
        return false;
    }
    if (now - p->tick_since < slice || !others_wait(p, now))
        return false;
    if (rt_take_p(m)) {
        p->tick_since = now;
        return true;
    }
    atomic_fetch_or(&m->attention, RT_ATTENTION_PREEMPT);
    return false;
}

static void
retake_all(int64_t now)
{
    int64_t slice = atomic_exchange(&rt_sched.urgent, false) ? 0 : SLICE_NS;

    for (int i = 0; i < rt_sched.proc_count; i++) {
        struct rt_p *p = rt_sched.procs[i];
        bool         taken;

        rt_lock(&rt_sched.lock);
        taken = retake(p, now, slice);
        rt_unlock(&rt_sched.lock);
        if (taken) {
            slice = SLICE_NS;
            rt_count(NULL, RT_COUNT_HANDED_OFF, 1);
            rt_handoff_p(p);
        }
    }
}

/* The safety net for wake-ups that were not sent: see wake_for_next in proc.c. */
static void
wake_if_work_waits(void)
{
    if (atomic_load(&rt_sched.idle_p_count) == 0)
        return;
    for (int i = 0; i < rt_sched.proc_count; i++)
        if (!rt_runq_empty(rt_sched.procs[i])) {
            rt_wake_p();
            return;
        }
    if (atomic_load(&rt_sched.runq_count) != 0)
        rt_wake_p();
}

static void
poll_if_stale(int64_t now)
{
    int64_t         last = atomic_load(&rt_sched.last_poll);
    struct rt_glist list;

    if (last == 0 || now - last < POLL_NS || atomic_load(&rt_sched.io_waiters) == 0)
        return;
    if (!atomic_compare_exchange_strong(&rt_sched.last_poll, &last, now))
        return;
    atomic_fetch_add(&rt_sched.polling, 1);
    list = rt_netpoll(0);
    rt_inject(&list);
    atomic_fetch_sub(&rt_sched.polling, 1);
}

/* Sleep until a P is taken out of the idle list. */
static void
rest(void)
{
    rt_note_clear(&rt_sched.sysmon_note);
    atomic_store(&rt_sched.sysmon_waiting, true);
    while (atomic_load(&rt_sched.idle_p_count) == rt_sched.proc_count &&
           rt_stack_scavenge(true))
        continue;
    if (atomic_load(&rt_sched.idle_p_count) == rt_sched.proc_count)
        rt_note_sleep(&rt_sched.sysmon_note);
    atomic_store(&rt_sched.sysmon_waiting, false);
}

void
rt_sysmon_wake(void)
{
    if (atomic_exchange(&rt_sched.sysmon_waiting, false))
        rt_note_wake(&rt_sched.sysmon_note);
}

static void *
monitor(void *arg)
{
    int idle = 0, looks = 0;

    (void)arg;
    for (;;) {
        int64_t now;

        nanosleep(&(struct timespec){ .tv_nsec = PERIOD_NS }, NULL);
        if (atomic_load(&rt_sched.crashing) != 0)
            continue; /* the threads are held still (report.c): no P is to be handed on */
        now = rt_now();
        atomic_store_explicit(&rt_sched.coarse_now, now, memory_order_relaxed);
        if (atomic_load(&rt_sched.idle_p_count) == rt_sched.proc_count) {
            if (++idle >= IDLE_LOOKS) {
                rest();
                idle = 0;
            }
            continue;
        }
        idle = 0;
        poll_if_stale(now);
        retake_all(now);
        wake_if_work_waits();
        if (++looks % SCAVENGE_LOOKS == 0)
            rt_stack_scavenge(false);
    }
    return NULL;
}

void
rt_sysmon_start(void)
{
    pthread_attr_t attr;
    pthread_t      thread;
    sigset_t       mask, old;

    rt_thread_mask(&mask);
    pthread_sigmask(SIG_SETMASK, &mask, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 64 * 1024);
    if (pthread_create(&thread, &attr, monitor, NULL) != 0)
        rt_throw("cannot start the monitor thread");
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}
