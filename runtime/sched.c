/*
 * sched.c -- threads, processors, and where an M finds its next goroutine.
 *
 * An M without local work looks, in this order: timers that are due, its own
 * queue, the global queue, the poller, other Ps' queues (stealing half).  While
 * it looks it is `spinning`; at most half of the busy Ps have a spinner, and
 * whoever makes work available starts one if there is none and a P idles.  A
 * spinner that finds work starts the next one, so wake-ups fan out by need.
 *
 * An M that finds nothing gives its P back, looks once more at everything (work
 * may have come in between: see put_next in proc.c, which looks at `spinning`
 * after queueing), then sleeps: one M in the poller until the next timer, the
 * others on their notes.
 *
 * Taking a P from an M that runs application code (rt_take_p): the monitor sets
 * the M's attention, makes every thread of the process pass a memory barrier,
 * and then looks at in_rt.  Set: the M may be using the P, give up.  Clear: its
 * next rt_enter sees the attention and waits for sched.lock, which we hold.
 * Stealing runnext (raid) is the same without keeping the P.
 *
 * sched.lock protects the idle lists, the global queue, and which M has which P.
 * Nothing else is locked under it.
 *
 * After Go's runtime/proc.go: schedule, findRunnable, startm, handoffp, wakep.
 */

#include "cold.h"
#include "flight.h"
#include "runq.h"
#include "sampling.h"
#include "tag.h"

#include <errno.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#if defined(RT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

enum {
    MAX_PROCS = 1024,
    MAX_THREADS = 10000, /* Go's limit: beyond it something leaks blocked threads */
    STEAL_ROUNDS = 4,
};

struct rt_sched rt_sched = { .proc_count = 1 };

static sigset_t main_mask; /* of the thread that called bh_main */

/* ---- how many processors ---------------------------------------------------- */

/* CPUs that the cgroup's quota allows, rounded up; 0: no quota. */
static int
cgroup_cpus(void)
{
    char      quota[32];
    long long period, most;
    FILE     *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    int       n;

    if (f == NULL)
        return 0;
    n = fscanf(f, "%31s %lld", quota, &period);
    fclose(f);
    if (n != 2 || period <= 0 || (most = strtoll(quota, NULL, 10)) <= 0)
        return 0;
    return (int)((most + period - 1) / period);
}

static int
default_procs(void)
{
    const char *text = getenv("BH_MAXPROCS");
    cpu_set_t   set;
    int         cpus = 1, quota = cgroup_cpus();

    if (text != NULL && *text != '\0') {
        char *end;
        long  n = strtol(text, &end, 10);

        if (*end != '\0' || n < 1 || n > MAX_PROCS)
            rt_throw("BH_MAXPROCS=%s: not a number from 1 to %d", text, MAX_PROCS);
        return (int)n;
    }
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        cpus = CPU_COUNT(&set);
    return quota > 0 && quota < cpus ? quota : cpus;
}

static bool
seed_from_environment(uint64_t *seed)
{
    const char *text = getenv("BH_SIM_SEED");
    char       *end;

    if (text == NULL || *text == '\0')
        return false;
    *seed = strtoull(text, &end, 0);
    if (*end != '\0')
        rt_throw("BH_SIM_SEED=%s: not a number", text);
    return true;
}

static bool
wants_unwind(void)
{
    const char *text = getenv("BH_UNWIND");

    if (text == NULL || *text == '\0' || strcmp(text, "0") == 0)
        return false;
    if (strcmp(text, "1") != 0)
        rt_throw("BH_UNWIND=%s: neither 0 nor 1", text);
    return true;
}

static struct rt_p *
new_p(int id)
{
    struct rt_p *p = aligned_alloc(RT_CACHE_LINE, (sizeof *p + RT_CACHE_LINE - 1) /
                                                      RT_CACHE_LINE * RT_CACHE_LINE);

    if (p == NULL)
        rt_throw("out of memory for processor %d", id);
    memset(p, 0, sizeof *p);
    p->id = id;
    p->random = rt_sched.seed * 0x9e3779b97f4a7c15u + (uint64_t)id + 1;
    atomic_store(&p->timer_first, INT64_MAX);
    return p;
}

static bool
membarrier_works(void)
{
    return syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0) == 0;
}

void
rt_membarrier(void)
{
    syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
}

void
rt_sched_init(const struct bh_options *o)
{
    uint64_t seed = o->seed;

    rt_sched.simulate = seed_from_environment(&seed) || o->simulate;
    rt_sched.seed = rt_sched.simulate ? seed : (uint64_t)rt_now();
    rt_sched.unwind = o->unwind || wants_unwind();
    rt_sched.proc_count = rt_sched.simulate ? 1 : o->procs > 0 ? o->procs : default_procs();
    if (rt_sched.proc_count > MAX_PROCS)
        rt_throw("procs: %d is over %d", rt_sched.proc_count, MAX_PROCS);
    rt_sched.sim_now = 1000000000; /* not 0: that means "never" in places */
    rt_sched.coarse_now = rt_sched.simulate ? rt_sched.sim_now : rt_now(); /* not running yet */
    rt_sched.last_poll = rt_now();
    rt_sched.membarrier = membarrier_works();
    pthread_sigmask(SIG_SETMASK, NULL, &main_mask);
    rt_memory_init();
    rt_stack_init(o->stack_size);
    rt_sched.stack_class = rt_stack_class(0);
    rt_sched.g_limit = rt_stack_limit();
    rt_crash_init();
    rt_signal_init();
    rt_netpoll_init();
    rt_sched.procs = rt_calloc((size_t)rt_sched.proc_count, sizeof *rt_sched.procs);
    for (int i = rt_sched.proc_count; i-- > 0;) {
        rt_sched.procs[i] = new_p(i);
        rt_idle_p_put(rt_sched.procs[i]);
    }
    rt_flight_init();
    rt_sched.running = true;
}

void
rt_sched_start(void)
{
    if (!rt_sched.simulate)
        rt_sysmon_start();
    rt_start_m(NULL, false);
}

int64_t
rt_now(void)
{
    struct timespec t;

    if (rt_unlikely(rt_sched.simulate && rt_sched.running))
        return rt_sched.sim_now;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int64_t
bh_now(void)
{
    return rt_now();
}

int64_t
bh_now_coarse(void)
{
    struct timespec t;

    if (rt_unlikely(rt_sched.simulate))
        return rt_now();
    clock_gettime(CLOCK_MONOTONIC_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

uint32_t
rt_random(uint32_t n)
{
    struct rt_m *m = rt_m();
    uint64_t    *x;

    if (rt_unlikely(rt_sched.simulate))
        return rt_sim_random(n);
    x = m != NULL && m->p != NULL ? &m->p->random : m != NULL ? &m->random : NULL;
    if (x == NULL)
        return (uint32_t)(rt_ticks() % n);
    *x ^= *x << 13;
    *x ^= *x >> 7;
    *x ^= *x << 17;
    return (uint32_t)(((*x >> 32) * n) >> 32);
}

/* ---- idle processors (under sched.lock) ---------------------------------------- */

struct rt_p *
rt_idle_p_get(void)
{
    struct rt_p *p = rt_sched.idle_p;

    if (p != NULL) {
        rt_sched.idle_p = p->idle_next;
        atomic_fetch_sub(&rt_sched.idle_p_count, 1);
        if (rt_unlikely(atomic_load_explicit(&rt_sched.sysmon_waiting, memory_order_relaxed)))
            rt_sysmon_wake();
    }
    return p;
}

void
rt_idle_p_put(struct rt_p *p)
{
    p->m = NULL;
    p->state = RT_P_IDLE;
    p->idle_next = rt_sched.idle_p;
    rt_sched.idle_p = p;
    atomic_fetch_add(&rt_sched.idle_p_count, 1);
}

/* Give p to m.  Under sched.lock, or for an M nobody else knows yet. */
static void
acquire(struct rt_m *m, struct rt_p *p)
{
    BH_INVARIANT(m->p == NULL && p->m == NULL);
    p->m = m;
    p->state = RT_P_RUNNING;
    m->p = p;
}

/* ---- the global queue ------------------------------------------------------------ */

/*
 * Whoever takes a batch from this list chases pointers through descriptors that
 * have left the caches.  So a spilled one also names the one AHEAD places on, to
 * be fetched early, in a field that only a waiting goroutine uses.
 */
enum { AHEAD = 8 };

static void
set_ahead(struct bh_g *g, struct bh_g *ahead)
{
    g->waiting_since = (int64_t)(intptr_t)ahead;
}

static const void *
ahead_of(const struct bh_g *g)
{
    return (const void *)(intptr_t)g->waiting_since; /* or a time: a useless fetch */
}

static void
global_append(struct bh_g *head, struct bh_g *tail, int count)
{
    tail->next = NULL;
    if (rt_sched.runq_tail != NULL)
        rt_sched.runq_tail->next = head;
    else
        rt_sched.runq_head = head;
    rt_sched.runq_tail = tail;
    atomic_fetch_add(&rt_sched.runq_count, count);
}

void
rt_global_put_list(struct bh_g *head, struct bh_g *tail, int count)
{
    rt_lock(&rt_sched.lock);
    global_append(head, tail, count);
    rt_unlock(&rt_sched.lock);
}

void
rt_global_put(struct bh_g *g)
{
    if (rt_sched.simulate) {
        rt_sim_put(g);
        return;
    }
    rt_global_put_list(g, g, 1);
    rt_wake_p();
}

/* A fair share of the global queue: one to return, the others into p's queue. */
struct bh_g *
rt_global_get(struct rt_p *p)
{
    struct bh_g *first, *g;
    uint32_t     tail = atomic_load_explicit(&p->runq_tail, memory_order_relaxed);
    uint32_t     room = RT_RUNQ_SIZE - (tail - atomic_load(&p->runq_head));
    int32_t      n, taken = 1;

    if (atomic_load_explicit(&rt_sched.runq_count, memory_order_relaxed) == 0)
        return NULL;
    rt_lock(&rt_sched.lock);
    first = g = rt_sched.runq_head;
    if (first == NULL) {
        rt_unlock(&rt_sched.lock);
        return NULL;
    }
    n = atomic_load(&rt_sched.runq_count) / rt_sched.proc_count + 1;
    if (n > RT_RUNQ_SIZE / 2)
        n = RT_RUNQ_SIZE / 2;
    for (g = g->next; taken < n && (uint32_t)taken <= room && g != NULL; g = g->next, taken++) {
        __builtin_prefetch(ahead_of(g));
        atomic_store_explicit(&p->runq[tail++ % RT_RUNQ_SIZE], g, memory_order_relaxed);
    }
    rt_sched.runq_head = g;
    if (g == NULL)
        rt_sched.runq_tail = NULL;
    atomic_fetch_sub(&rt_sched.runq_count, taken);
    rt_unlock(&rt_sched.lock);
    atomic_store_explicit(&p->runq_tail, tail, memory_order_release);
    return first;
}

/* p's ring is full: move half of it, then g, to the global queue. */
void
rt_runq_spill(struct rt_p *p, struct bh_g *g, uint32_t head, uint32_t tail)
{
    struct bh_g *batch[RT_RUNQ_SIZE / 2 + 1];
    uint32_t     n = (tail - head) / 2;

    for (uint32_t i = 0; i < n; i++)
        batch[i] =
            atomic_load_explicit(&p->runq[(head + i) % RT_RUNQ_SIZE], memory_order_relaxed);
    if (!atomic_compare_exchange_strong(&p->runq_head, &head, head + n)) {
        rt_runq_put(p, g); /* a thief made room */
        return;
    }
    batch[n] = g;
    for (uint32_t i = 0; i < n; i++) {
        batch[i]->next = batch[i + 1];
        set_ahead(batch[i], batch[i + AHEAD <= n ? i + AHEAD : n]);
    }
    rt_global_put_list(batch[0], batch[n], (int)n + 1);
}

void
rt_inject(struct rt_glist *list)
{
    if (list->head == NULL)
        return;
    if (rt_sched.simulate) {
        for (struct bh_g *g = list->head, *next; g != NULL; g = next) {
            next = g->next;
            rt_sim_put(g);
        }
        return;
    }
    rt_global_put_list(list->head, list->tail, list->count);
    for (int i = 0; i < list->count && atomic_load(&rt_sched.idle_p_count) > 0; i++)
        rt_wake_p();
}

/* ---- stealing ----------------------------------------------------------------------- */

/* Half of the victim's ring into ours.  Returns: one of them to run. */
static struct bh_g *
steal_half(struct rt_p *p, struct rt_p *victim)
{
    uint32_t our_tail = atomic_load_explicit(&p->runq_tail, memory_order_relaxed);

    for (;;) {
        uint32_t     head = atomic_load_explicit(&victim->runq_head, memory_order_acquire);
        uint32_t     tail = atomic_load_explicit(&victim->runq_tail, memory_order_acquire);
        uint32_t     n = tail - head;
        struct bh_g *g;

        n -= n / 2;
        if (n == 0)
            return NULL;
        if (n > RT_RUNQ_SIZE / 2)
            continue; /* head and tail read at different times */
        for (uint32_t i = 0; i < n; i++)
            atomic_store_explicit(&p->runq[(our_tail + i) % RT_RUNQ_SIZE],
                                  atomic_load_explicit(&victim->runq[(head + i) % RT_RUNQ_SIZE],
                                                       memory_order_relaxed),
                                  memory_order_relaxed);
        if (!atomic_compare_exchange_strong(&victim->runq_head, &head, head + n))
            continue;
        rt_count(rt_m(), RT_COUNT_STOLEN, n);
        g = atomic_load_explicit(&p->runq[(our_tail + n - 1) % RT_RUNQ_SIZE],
                                 memory_order_relaxed);
        atomic_store_explicit(&p->runq_tail, our_tail + n - 1, memory_order_release);
        return g;
    }
}

/* Is victim's M in application code right now?  Under sched.lock; its rt_enter then waits for us. */
static bool
stop_at_entry(struct rt_m *m, uint32_t why)
{
    atomic_fetch_or(&m->attention, why);
    rt_membarrier();
    return atomic_load_explicit(&m->in_rt, memory_order_acquire) == 0;
}

/* Take runnext from a P whose goroutine is busy with its own code. */
static struct bh_g *
raid(struct rt_p *victim)
{
    struct bh_g *g = NULL;
    struct rt_m *m;

    if (!rt_sched.membarrier ||
        atomic_load_explicit(&victim->runnext, memory_order_relaxed) == NULL)
        return NULL;
    rt_lock(&rt_sched.lock);
    m = victim->m;
    if (m != NULL && atomic_load_explicit(&m->in_rt, memory_order_relaxed) == 0 &&
        atomic_load_explicit(&m->attention, memory_order_relaxed) == 0) {
        if (stop_at_entry(m, RT_ATTENTION_RAID)) {
            g = atomic_load_explicit(&victim->runnext, memory_order_relaxed);
            atomic_store_explicit(&victim->runnext, NULL, memory_order_relaxed);
        }
        atomic_fetch_and(&m->attention, ~(uint32_t)RT_ATTENTION_RAID);
    }
    rt_unlock(&rt_sched.lock);
    return g;
}

static struct bh_g *
steal(struct rt_m *m)
{
    struct rt_p *p = m->p;
    int          count = rt_sched.proc_count;

    for (int round = 0; round < STEAL_ROUNDS; round++) {
        bool     last = round == STEAL_ROUNDS - 1;
        uint32_t start = rt_random((uint32_t)count);

        for (int i = 0; i < count; i++) {
            struct rt_p *victim = rt_sched.procs[(start + (uint32_t)i) % (uint32_t)count];
            struct bh_g *g;

            if (victim == p)
                continue;
            if (last && atomic_load(&victim->timer_first) <= rt_now()) {
                rt_timers_run(victim, rt_now());
                if ((g = rt_runq_get_any(p)) != NULL)
                    return g;
            }
            g = steal_half(p, victim);
            if (g == NULL && last)
                g = raid(victim);
            if (g != NULL)
                return g;
        }
    }
    return NULL;
}

/* ---- threads ---------------------------------------------------------------------------- */

/* Run goroutines until the process ends. */
static void
schedule(struct rt_m *m)
{
    for (;;) {
        struct bh_g *g = m->next_g;

        m->next_g = NULL;
        if (m->locked_g != NULL)
            g = rt_wait_for_locked(m, g);
        else if (g == NULL)
            g = rt_find_runnable(m);
        if (g->flags & RT_G_LOCKED && g->m != m) {
            rt_start_locked(m, g);
            continue;
        }
        if (g->sp == NULL && !rt_prepare(m, g)) {
            rt_global_put(g); /* no stack now; one will be given back */
            sched_yield();
            continue;
        }
        rt_run_from_g0(m, g);
        if (rt_unlikely(m->exiting))
            rt_m_exit(m);
    }
}

static void *
thread_main(void *arg)
{
    struct rt_m   *m = arg;
    pthread_attr_t attr;
    void          *lo;
    size_t         size;

    rt_tls_m = m;
    atomic_store(&m->tid, (int)syscall(SYS_gettid));
    if (pthread_getattr_np(pthread_self(), &attr) == 0) {
        if (pthread_attr_getstack(&attr, &lo, &size) == 0) {
            m->stack_lo = (uintptr_t)lo;
            m->stack_hi = (uintptr_t)lo + size;
        }
        pthread_attr_destroy(&attr);
    }
#if defined(RT_TSAN)
    m->fiber = __tsan_get_current_fiber();
#endif
    rt_tag_enter(m);
    rt_signal_thread_init(m);
    rt_sampling_start();
    schedule(m);
    return NULL;
}

/* A new M, in the list of all, not started. */
static struct rt_m *
new_m(struct rt_p *p, bool spinning)
{
    struct rt_m *m = rt_calloc(1, sizeof *m);

    m->random = rt_ticks() | 1;
    atomic_store(&m->in_rt,
                 1); /* from birth: the monitor must not take its P before it starts */
    m->spinning = spinning;
    rt_lock(&rt_sched.lock);
    m->id = atomic_fetch_add(&rt_sched.m_count, 1);
    m->all_next = rt_sched.all_m;
    rt_sched.all_m = m;
    acquire(m, p);
    rt_unlock(&rt_sched.lock);
    if (m->id >= MAX_THREADS)
        rt_throw("thread exhaustion: the program exceeds %d threads", MAX_THREADS);
    return m;
}

/* Never blocked: faults (the kernel kills a thread that blocks its own), profilers, dumps. */
static void
open_mask(sigset_t *mask)
{
    static const int open[] = { SIGSEGV, SIGBUS,  SIGFPE, SIGILL,
                                SIGTRAP, SIGABRT, SIGSYS, SIGPROF };

    for (size_t i = 0; i < sizeof open / sizeof open[0]; i++)
        sigdelset(mask, open[i]);
    for (int i = SIGRTMIN; i <= SIGRTMAX; i++)
        sigdelset(mask, i);
}

void
rt_thread_mask(sigset_t *mask)
{
    sigfillset(mask);
    open_mask(mask);
}

static void
start_thread(struct rt_m *m)
{
    pthread_attr_t attr;
    pthread_t      thread;
    sigset_t       mask, old;
    int            rc;

    rt_sampling_create(m);
    /* As bh_main's thread, not as the goroutine that happens to start us: children inherit it. */
    mask = main_mask;
    open_mask(&mask);
    pthread_sigmask(SIG_SETMASK, &mask, &old);
    pthread_attr_init(&attr);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attr, 256 * 1024);
    rc = pthread_create(&thread, &attr, thread_main, m);
    pthread_attr_destroy(&attr);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc != 0)
        rt_throw("cannot start a thread: %s", strerror(rc));
}

/* Run p, or an idle P if p is NULL (then nothing happens when none idles), on an idle or new M. */
void
rt_start_m(struct rt_p *p, bool spinning)
{
    struct rt_m *m;

    rt_lock(&rt_sched.lock);
    if (p == NULL && (p = rt_idle_p_get()) == NULL) {
        rt_unlock(&rt_sched.lock);
        if (spinning)
            atomic_fetch_sub(&rt_sched.spinning, 1);
        return;
    }
    m = rt_sched.idle_m;
    if (m != NULL) {
        rt_sched.idle_m = m->idle_next;
        atomic_fetch_sub(&rt_sched.m_idle, 1);
        m->spinning = spinning;
        m->next_p = p;
        p->m = NULL;
        rt_unlock(&rt_sched.lock);
        rt_note_wake(&m->park);
        return;
    }
    rt_unlock(&rt_sched.lock);
    start_thread(new_m(p, spinning));
}

void
rt_wake_p(void)
{
    int32_t none = 0;

    if (rt_sched.simulate || atomic_load(&rt_sched.idle_p_count) == 0)
        return;
    /* One spinner is enough: it starts the next when it finds work. */
    if (atomic_load(&rt_sched.spinning) != 0 ||
        !atomic_compare_exchange_strong(&rt_sched.spinning, &none, 1))
        return;
    rt_start_m(NULL, true);
}

/* Sleep until somebody gives this M a P.  It has none now. */
static void
stop_m(struct rt_m *m)
{
    rt_lock(&rt_sched.lock);
    m->idle_next = rt_sched.idle_m;
    rt_sched.idle_m = m;
    atomic_fetch_add(&rt_sched.m_idle, 1);
    rt_unlock(&rt_sched.lock);
    rt_note_sleep(&m->park);
    rt_note_clear(&m->park);
    rt_lock(&rt_sched.lock);
    acquire(m, m->next_p);
    m->next_p = NULL;
    rt_unlock(&rt_sched.lock);
}

void
rt_handoff_p(struct rt_p *p)
{
    bool busy = !rt_runq_empty(p) || atomic_load(&rt_sched.runq_count) != 0 ||
                atomic_load(&p->timer_first) <= rt_now();

    /* Everybody else is busy and nobody looks for work: keep this P looking. */
    if (!busy && atomic_load(&rt_sched.idle_p_count) == 0 &&
        atomic_load(&rt_sched.spinning) == 0) {
        int32_t none = 0;

        if (atomic_compare_exchange_strong(&rt_sched.spinning, &none, 1)) {
            rt_start_m(p, true);
            return;
        }
    }
    if (busy) {
        rt_start_m(p, false);
        return;
    }
    rt_lock(&rt_sched.lock);
    rt_idle_p_put(p);
    rt_unlock(&rt_sched.lock);
    if (!rt_runq_empty(p) || atomic_load(&rt_sched.runq_count) != 0)
        rt_wake_p();
    if (rt_timers_next() == INT64_MAX && atomic_load(&rt_sched.io_waiters) == 0)
        return;
    if (atomic_load(&rt_sched.last_poll) != 0)
        rt_wake_p(); /* nobody is in the poller: we were the last one awake */
    else
        rt_netpoll_break(); /* the sleeper must take this P's timers into account */
}

/* ---- finding work ------------------------------------------------------------------------- */

static void
stop_spinning(struct rt_m *m)
{
    m->spinning = false;
    if (atomic_fetch_sub(&rt_sched.spinning, 1) == 1)
        rt_wake_p(); /* work may be left for one more */
}

static struct bh_g *
take_first(struct rt_glist *list)
{
    struct bh_g *g = list->head;

    if (g == NULL)
        return NULL;
    list->head = g->next;
    if (--list->count == 0)
        list->tail = NULL;
    rt_inject(list);
    return g;
}

static struct bh_g *
poll_now(void)
{
    int64_t         last = atomic_load(&rt_sched.last_poll);
    struct rt_glist list;

    if (atomic_load(&rt_sched.io_waiters) == 0 || last == 0)
        return NULL;
    list = rt_netpoll(0);
    /* Not a plain store: meanwhile an M may have gone to wait in the poller, and set 0. */
    (void)atomic_compare_exchange_strong(&rt_sched.last_poll, &last, rt_now());
    return take_first(&list);
}

/* One look at everything that needs a P. */
static struct bh_g *
look(struct rt_m *m)
{
    struct rt_p *p = m->p;
    struct bh_g *g;

    if (atomic_load_explicit(&p->timer_first, memory_order_relaxed) != INT64_MAX) {
        int64_t now = rt_now();

        p->timers_at = rt_ticks() + RT_TIMER_TICKS;
        if (atomic_load_explicit(&p->timer_first, memory_order_relaxed) <= now)
            rt_timers_run(p, now);
    }
    if (p->tick % RT_GLOBAL_EVERY == 0 && (g = rt_global_get(p)) != NULL)
        return g;
    if ((g = rt_runq_get_any(p)) != NULL || (g = rt_global_get(p)) != NULL ||
        (g = poll_now()) != NULL)
        return g;
    if (rt_sched.proc_count == 1)
        return NULL;
    if (!m->spinning) {
        int32_t busy = rt_sched.proc_count - atomic_load(&rt_sched.idle_p_count);

        if (2 * atomic_load(&rt_sched.spinning) >= busy)
            return NULL;
        m->spinning = true;
        atomic_fetch_add(&rt_sched.spinning, 1);
    }
    return steal(m);
}

/* After giving the P back: did work come meanwhile?  Then take a P again. */
static bool
look_again(struct rt_m *m)
{
    bool work = atomic_load(&rt_sched.runq_count) != 0;

    for (int i = 0; i < rt_sched.proc_count && !work; i++)
        work = !rt_runq_empty(rt_sched.procs[i]) &&
               atomic_load_explicit(&rt_sched.procs[i]->runq_head, memory_order_relaxed) !=
                   atomic_load_explicit(&rt_sched.procs[i]->runq_tail, memory_order_relaxed);
    if (!work)
        return false;
    rt_lock(&rt_sched.lock);
    {
        struct rt_p *p = rt_idle_p_get();

        if (p != NULL)
            acquire(m, p);
    }
    rt_unlock(&rt_sched.lock);
    if (m->p == NULL)
        return false;
    m->spinning = true;
    atomic_fetch_add(&rt_sched.spinning, 1);
    return true;
}

/* Every goroutine waits for another: nothing can ever happen again. */
static bool
deadlocked(void)
{
    return atomic_load(&rt_sched.idle_p_count) == rt_sched.proc_count &&
           atomic_load(&rt_sched.blocking) == 0 && atomic_load(&rt_sched.io_waiters) == 0 &&
           atomic_load(&rt_sched.foreign) == 0 && atomic_load(&rt_sched.runq_count) == 0 &&
           atomic_load(&rt_sched.crashing) == 0 && !atomic_load(&rt_sched.main_done) &&
           !rt_timers_armed();
}

/*
 * Report a deadlock; but an M on its way out of the poller may carry work: it shall
 * look.  Under the lock, since whoever regains a P, or queues a goroutine, does that
 * under it before it stops counting as blocking or polling.
 */
static void
check_deadlock(void)
{
    bool dead, polling;

    rt_lock(&rt_sched.lock);
    dead = deadlocked();
    polling = atomic_load(&rt_sched.polling) != 0;
    rt_unlock(&rt_sched.lock);
    if (dead && polling)
        rt_netpoll_break();
    else if (dead)
        rt_crash_deadlock(atomic_load(&rt_sched.main_exited));
}

/* Sleep in the poller until a descriptor or a timer is ready.  Returns with a P, or without one. */
static struct bh_g *
poll_and_wait(struct rt_m *m)
{
    int64_t         next = rt_timers_next(), now, delay = -1;
    struct rt_glist list;
    struct rt_p    *p;

    if (next != INT64_MAX) {
        now = rt_now();
        delay = next > now ? next - now : 0;
    }
    atomic_fetch_add(&rt_sched.polling, 1);
    list = rt_netpoll(delay);
    atomic_store(&rt_sched.last_poll, rt_now());
    rt_lock(&rt_sched.lock);
    p = rt_idle_p_get();
    if (p != NULL)
        acquire(m, p);
    rt_unlock(&rt_sched.lock);
    if (p == NULL)
        rt_inject(&list);
    atomic_fetch_sub(&rt_sched.polling, 1);
    return p != NULL ? take_first(&list) : NULL;
}

/* The M goes to rest: in the poller if that place is free and of use, else on its note. */
static struct bh_g *
rest(struct rt_m *m)
{
    struct rt_p *p = m->p;
    struct bh_g *g;
    int64_t      poll;

    rt_lock(&rt_sched.lock);
    if (atomic_load(&rt_sched.runq_count) != 0) {
        rt_unlock(&rt_sched.lock);
        return NULL; /* with its P: look again */
    }
    m->p = NULL;
    rt_idle_p_put(p);
    rt_unlock(&rt_sched.lock);
    if (m->spinning) {
        m->spinning = false;
        atomic_fetch_sub(&rt_sched.spinning, 1);
        if (look_again(m))
            return NULL;
    }
    check_deadlock();
    if ((atomic_load(&rt_sched.io_waiters) != 0 || rt_timers_next() != INT64_MAX) &&
        (poll = atomic_exchange(&rt_sched.last_poll, 0)) != 0) {
        g = poll_and_wait(m);
        if (m->p != NULL)
            return g;
    }
    stop_m(m);
    return NULL;
}

struct bh_g *
rt_find_runnable(struct rt_m *m)
{
    for (;;) {
        struct bh_g *g;

        if (rt_unlikely(atomic_load_explicit(&rt_sched.main_done, memory_order_relaxed)))
            rt_note_sleep(&(struct rt_note){ 0 }); /* the process is ending */
        if (rt_unlikely(m->p == NULL)) {
            check_deadlock(); /* the others may have rested while we counted as blocking */
            stop_m(m);
            continue;
        }
        if (rt_unlikely(rt_sched.simulate)) {
            g = rt_sim_wait(m);
        } else {
            g = look(m);
            if (g == NULL)
                g = rest(m);
        }
        if (g != NULL) {
            if (m->spinning)
                stop_spinning(m);
            atomic_store_explicit(&m->p->tick, m->p->tick + 1, memory_order_relaxed);
            return g;
        }
    }
}

noreturn void
rt_main_done(void)
{
    rt_enter("main"); /* first: it may wait for a P, and from now on nobody gives one */
    atomic_store(&rt_sched.main_done, true);
    rt_note_wake(&rt_sched.main_note);
    rt_park(NULL, NULL, RT_WHY_NONE);
    __builtin_unreachable();
}

/* ---- losing and regaining a P ------------------------------------------------------------- */

bool
rt_take_p(struct rt_m *m)
{
    struct rt_p *p = m->p;

    if (!rt_sched.membarrier || !stop_at_entry(m, RT_ATTENTION_TAKEN)) {
        atomic_fetch_and(&m->attention, ~(uint32_t)RT_ATTENTION_TAKEN);
        return false;
    }
    m->p = NULL;
    p->m = NULL;
    atomic_fetch_add(&rt_sched.blocking, 1);
    return true;
}

static void
to_global(struct bh_g *g, void *arg)
{
    (void)arg;
    atomic_store_explicit(&g->state, RT_G_RUNNABLE, memory_order_relaxed);
    rt_global_put(g);
    atomic_fetch_sub(&rt_sched.blocking, 1); /* only now: see deadlocked */
}

/* Without a P: get an idle one, or queue for one. */
static void
regain(struct rt_m *m)
{
    struct rt_p *p;

    rt_lock(&rt_sched.lock);
    atomic_fetch_and(&m->attention, ~(uint32_t)RT_ATTENTION_TAKEN);
    p = rt_idle_p_get();
    if (p != NULL)
        acquire(m, p);
    rt_unlock(&rt_sched.lock);
    if (p != NULL) {
        atomic_fetch_sub(&rt_sched.blocking, 1);
        rt_flight(p, BH_FLIGHT_START, RT_WHY_NONE, m->g->id, 0);
    } else {
        rt_park(to_global, NULL, RT_WHY_PREEMPTED);
    }
}

struct rt_m *
rt_attend(struct rt_m *m)
{
    uint32_t attention;

    if (rt_unlikely(atomic_load(&m->attention) & RT_ATTENTION_OVERFLOW))
        rt_overflow_attend(m);
    rt_lock(&rt_sched.lock); /* a raid or taking in progress ends first */
    attention = atomic_load(&m->attention);
    atomic_fetch_and(&m->attention, ~(uint32_t)RT_ATTENTION_PREEMPT);
    rt_unlock(&rt_sched.lock);
    if (attention & RT_ATTENTION_TAKEN)
        regain(m);
    else if (attention & RT_ATTENTION_PREEMPT)
        rt_yield(RT_WHY_PREEMPTED);
    return rt_m();
}

void
rt_block_begin(enum rt_why why)
{
    struct rt_m *m = rt_m();
    struct rt_p *p = m->p;

    if (rt_sched.simulate) {
        rt_exit();
        return;
    }
    /* Our caller's frames stay as they are until it comes back. */
    m->blocked_fp = *(const uintptr_t *)__builtin_frame_address(0);
    m->blocked_pc = (uintptr_t)__builtin_return_address(0);
    atomic_store_explicit(&m->blocks, m->blocks + 1, memory_order_release);
    rt_store_fence();
    m->g->why = (uint8_t)why;
    rt_flight(p, BH_FLIGHT_BLOCK, why, m->g->id, 0);
    rt_lock(&rt_sched.lock);
    atomic_fetch_or(&m->attention, RT_ATTENTION_TAKEN);
    m->p = NULL;
    p->m = NULL;
    atomic_fetch_add(&rt_sched.blocking, 1);
    rt_unlock(&rt_sched.lock);
    rt_count(m, RT_COUNT_HANDED_OFF, 1);
    rt_handoff_p(p);
    rt_exit();
}

void
rt_block_end(void)
{
    struct rt_m *m = rt_enter("bh_blocking");

    m->g->why = RT_WHY_NONE;
    rt_store_fence(); /* before m->blocked_* of the next time */
}

void
bh_blocking(void (*fn)(void *arg), void *arg)
{
    rt_enter("bh_blocking")->blocked_fn = (uintptr_t)fn;
    rt_block_begin(RT_WHY_BLOCKING);
    fn(arg);
    rt_block_end();
    rt_exit();
}

/* ---- goroutines pinned to their thread ------------------------------------------------------ */

void
bh_lock_thread(void)
{
    struct rt_m *m = rt_enter("bh_lock_thread");
    struct bh_g *g = m->g;

    if (g->lock_depth == UINT8_MAX)
        rt_throw("bh_lock_thread: nested too deeply");
    g->lock_depth++;
    if (!rt_sched.simulate) {
        g->flags |= RT_G_LOCKED;
        m->locked_g = g;
    }
    rt_exit();
}

void
bh_unlock_thread(void)
{
    struct rt_m *m = rt_enter("bh_unlock_thread");
    struct bh_g *g = m->g;

    if (g->lock_depth > 0 && --g->lock_depth == 0) {
        g->flags &= (uint8_t)~RT_G_LOCKED;
        m->locked_g = NULL;
    }
    rt_exit();
}

/* m's own goroutine parked or ended; `picked` is what it left us, if anything. */
struct bh_g *
rt_wait_for_locked(struct rt_m *m, struct bh_g *picked)
{
    struct bh_g *locked = m->locked_g;
    struct rt_p *p = m->p;

    if (picked != NULL && picked != locked)
        rt_ready_runnable(m, picked);
    if (picked == locked)
        return locked;
    if (p != NULL) {
        rt_lock(&rt_sched.lock);
        m->p = NULL;
        p->m = NULL;
        rt_unlock(&rt_sched.lock);
        rt_handoff_p(p);
    }
    rt_note_sleep(&m->park);
    rt_note_clear(&m->park);
    rt_lock(&rt_sched.lock);
    acquire(m, m->next_p);
    m->next_p = NULL;
    rt_unlock(&rt_sched.lock);
    return locked;
}

/* g may only run on its own M: hand our P over to it. */
void
rt_start_locked(struct rt_m *m, struct bh_g *g)
{
    struct rt_m *home = g->m;
    struct rt_p *p = m->p;

    rt_lock(&rt_sched.lock);
    m->p = NULL;
    p->m = NULL;
    home->next_p = p;
    rt_unlock(&rt_sched.lock);
    rt_note_wake(&home->park);
    stop_m(m);
}

/* A locked goroutine ended: its thread, whose state is unknown, ends with it. */
noreturn void
rt_m_exit(struct rt_m *m)
{
    struct rt_p            *p = m->p;
    _Atomic(struct rt_m *) *at;

    rt_tag_leave(m);
    rt_lock(&rt_sched.lock);
    m->p = NULL;
    p->m = NULL;
    for (at = &rt_sched.all_m; *at != m;)
        at = &(*at)->all_next;
    atomic_store(at, m->all_next);
    rt_stats_leave(m);
    rt_unlock(&rt_sched.lock);
    rt_handoff_p(p);
    rt_sampling_end();
    rt_signal_thread_fini(m);
    rt_tls_m = NULL;
    /* The descriptor stays: a late reader of g->m may still look at it. */
    pthread_exit(NULL);
}
