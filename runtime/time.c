/*
 * time.c -- timers: a heap of them on every P, and sleep.
 *
 * Each P keeps its timers in a 4-ary min heap by `when`.  A timer knows its
 * place in the heap, so cancelling is O(log n); and moving one to a later time,
 * which is what a server does with a deadline on every request, only notes the
 * new time: the heap keeps the old key, too early and therefore safe, and the
 * timer is put right when that key reaches the top.
 *
 *     not armed (slot 0) --reset--> armed (slot > 0) --due--> fn runs
 *                        <--cancel--
 *
 * Stopping a public timer is lazier still: `when` becomes NEVER, which is only
 * another later time.  The timer leaves the heap when its key comes up, or when
 * it is freed; armed again before that, it is where it belongs.
 *
 * p->timer_lock protects the heap and every field of the timers whose `p` is
 * that P, armed or not.  A timer that is not armed moves home: `p` changes
 * while the old home's lock is held, so who locks t->p and still finds it
 * there afterwards owns the timer.
 *
 * fn is called without the lock.  p->timer_firing names the timer meanwhile:
 * that is how rt_timer_del waits, without touching a timer that its own fn may
 * have freed.  One M at a time fires a P's timers; a second one leaves.
 *
 * p->timer_first mirrors the top key, for readers without the lock: an M about
 * to sleep publishes until when (netpoll.c) and then reads timer_first; whoever
 * arms a timer writes timer_first and then reads until when the M sleeps.  One
 * of the two sees the other.
 *
 * The heap's memory is reserved once and committed by touch, so that growing
 * needs no copy, no allocation under the lock, and cannot fail half way.
 *
 * Invariants:
 *   I1  slot i's key <= the keys of its children 4i+1..4i+4
 *   I2  timers[t->slot - 1].timer == t, and its key <= t->when
 */

#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/timer.h>

#include "netpoll.h"
#include "runtime.h"

#define NEVER INT64_MAX /* when, of a timer in the heap that is not armed */

enum {
    ARITY = 4,
    MAX_TIMERS = 1 << 24, /* of one P: 256 MiB of address space */
    RESERVE = MAX_TIMERS * sizeof(struct rt_timer_slot) + RT_CACHE_LINE,
    /* Four children of 16 bytes fill a cache line, if index 1 begins one. */
    SKEW = RT_CACHE_LINE - sizeof(struct rt_timer_slot),
};

/* ---- the heap ---------------------------------------------------------- */

/* reserve -- give p its heap, once.  Without the lock. */
static void
reserve(struct rt_p *p)
{
    char *memory = mmap(NULL, RESERVE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

    if (memory == MAP_FAILED)
        rt_throw("timers: cannot reserve memory for a heap");
    rt_lock(&p->timer_lock);
    if (p->timer_cap == 0) {
        p->timers = (struct rt_timer_slot *)(void *)(memory + SKEW);
        p->timer_cap = MAX_TIMERS;
        memory = NULL;
    }
    rt_unlock(&p->timer_lock);
    if (memory != NULL)
        munmap(memory, RESERVE);
}

static void
place(struct rt_p *p, uint32_t i, struct rt_timer_slot s)
{
    p->timers[i] = s;
    s.timer->slot = i + 1;
}

static void
sift_up(struct rt_p *p, uint32_t i, struct rt_timer_slot s)
{
    while (i > 0) {
        uint32_t parent = (i - 1) / ARITY;

        if (p->timers[parent].key <= s.key)
            break;
        place(p, i, p->timers[parent]);
        i = parent;
    }
    place(p, i, s);
}

static void
sift_down(struct rt_p *p, uint32_t i, struct rt_timer_slot s)
{
    for (;;) {
        uint32_t first = i * ARITY + 1, last = first + ARITY, least = first;

        if (first >= p->timer_count)
            break;
        if (last > p->timer_count)
            last = p->timer_count;
        for (uint32_t c = first + 1; c < last; c++)
            if (p->timers[c].key < p->timers[least].key)
                least = c;
        if (p->timers[least].key >= s.key)
            break;
        place(p, i, p->timers[least]);
        i = least;
    }
    place(p, i, s);
}

static bool
is_armed(const struct rt_timer *t)
{
    return t->slot != 0 && t->when != NEVER;
}

/* count_live -- one more (1) or fewer (-1) is armed.  Under the lock. */
static void
count_live(struct rt_p *p, int change)
{
    uint32_t live = atomic_load_explicit(&p->timer_live, memory_order_relaxed);

    atomic_store_explicit(&p->timer_live, live + (uint32_t)change, memory_order_relaxed);
}

static void
publish_first(struct rt_p *p)
{
    int64_t first = p->timer_count > 0 ? p->timers[0].key : INT64_MAX;
    int64_t old = atomic_load_explicit(&p->timer_first, memory_order_relaxed);

    /* Later: whoever sees the old value only looks too early. */
    if (first > old)
        atomic_store_explicit(&p->timer_first, first, memory_order_release);
    else if (first < old)
        atomic_store_explicit(&p->timer_first, first, memory_order_seq_cst);
}

/* heap_insert -- Returns: whether t is first now. */
static bool
heap_insert(struct rt_p *p, struct rt_timer *t)
{
    if (rt_unlikely(p->timer_count == MAX_TIMERS))
        rt_throw("timers: more than %d on one processor", MAX_TIMERS);
    sift_up(p, p->timer_count++, (struct rt_timer_slot){ t->when, t });
    publish_first(p);
    return t->slot == 1;
}

static void
heap_remove(struct rt_p *p, struct rt_timer *t)
{
    uint32_t             i = t->slot - 1;
    struct rt_timer_slot moved = p->timers[--p->timer_count];

    t->slot = 0;
    if (i == p->timer_count) {
        if (i == 0)
            publish_first(p);
        return;
    }
    if (i > 0 && moved.key < p->timers[(i - 1) / ARITY].key)
        sift_up(p, i, moved);
    else
        sift_down(p, i, moved);
    publish_first(p);
}

/* heap_advance -- t, in the heap, is due before its key.  Returns: whether it is first. */
static bool
heap_advance(struct rt_p *p, struct rt_timer *t)
{
    sift_up(p, t->slot - 1, (struct rt_timer_slot){ t->when, t });
    publish_first(p);
    return t->slot == 1;
}

/* ---- arming and cancelling ---------------------------------------------- */

/* lock_home -- lock the P that t belongs to.  Returns: it, or NULL if there is none yet. */
static struct rt_p *
lock_home(struct rt_timer *t)
{
    for (;;) {
        struct rt_p *p = atomic_load_explicit(&t->p, memory_order_acquire);

        if (p == NULL)
            return NULL;
        rt_lock(&p->timer_lock);
        if (rt_likely(atomic_load_explicit(&t->p, memory_order_relaxed) == p))
            return p;
        rt_unlock(&p->timer_lock);
    }
}

/* lock_here -- the same; a timer that is not armed moves to the P we run on. */
static struct rt_p *
lock_here(struct rt_timer *t)
{
    struct rt_p *here = rt_m()->p;

    if (rt_unlikely(here->timer_cap == 0)) {
        rt_netpoll_init();
        reserve(here);
    }
    for (;;) {
        struct rt_p *p = lock_home(t);

        /* While fn runs, rt_timer_del waits at the old home. */
        if (p == here || (p != NULL && (t->slot != 0 || p->timer_firing == t)))
            return p;
        if (p != NULL) {
            atomic_store_explicit(&t->p, here, memory_order_release);
            rt_unlock(&p->timer_lock);
        } else {
            struct rt_p *none = NULL;

            atomic_compare_exchange_strong_explicit(&t->p, &none, here, memory_order_release,
                                                    memory_order_relaxed);
        }
    }
}

/* arm -- period < 0 keeps the one it has. */
static bool
arm(struct rt_timer *t, int64_t when, int64_t period)
{
    struct rt_p *p = lock_here(t);
    bool         armed = is_armed(t), first = false;

    if (when <= 0)
        when = 1; /* 0 is "no timer" in timer_first */
    if (when == NEVER)
        when--;
    t->when = when;
    if (period >= 0)
        t->period = period;
    if (t->slot == 0)
        first = heap_insert(p, t);
    else if (when < p->timers[t->slot - 1].key)
        first = heap_advance(p, t);
    if (!armed)
        count_live(p, 1);
    rt_unlock(&p->timer_lock);
    /* From here on t may have fired and be gone. */
    if (first)
        rt_netpoll_wake_before(when);
    return armed;
}

bool
rt_timer_reset(struct rt_timer *t, int64_t when)
{
    return arm(t, when, -1);
}

void
rt_timer_add(struct rt_timer *t)
{
    arm(t, t->when, -1);
}

/* remove -- out of the heap, if it is in one.  Under the lock.  Returns: whether it was armed. */
static bool
remove(struct rt_p *p, struct rt_timer *t)
{
    bool armed = is_armed(t);

    if (armed)
        count_live(p, -1);
    if (t->slot != 0)
        heap_remove(p, t);
    return armed;
}

/* wait_for_fn -- until fn of a timer that fires is over, unless we are in it.  Under the lock. */
static void
wait_for_fn(struct rt_p *p, const struct rt_timer *t)
{
    while (rt_unlikely(p->timer_firing == t) && p->timer_runner != rt_m()) {
        rt_unlock(&p->timer_lock);
        sched_yield();
        rt_lock(&p->timer_lock);
    }
}

bool
rt_timer_cancel(struct rt_timer *t)
{
    struct rt_p *p = lock_home(t);
    bool         armed;

    if (p == NULL)
        return false;
    armed = remove(p, t);
    rt_unlock(&p->timer_lock);
    return armed;
}

bool
rt_timer_del(struct rt_timer *t)
{
    struct rt_p *p = lock_home(t);
    bool         armed;

    if (p == NULL)
        return false;
    armed = remove(p, t);
    wait_for_fn(p, t);
    rt_unlock(&p->timer_lock);
    return armed;
}

/* disarm -- as rt_timer_del, but t may stay in the heap and must not be freed yet. */
static bool
disarm(struct rt_timer *t)
{
    struct rt_p *p = lock_home(t);
    bool         armed = is_armed(t);

    if (armed) {
        t->when = NEVER;
        count_live(p, -1);
    }
    wait_for_fn(p, t);
    rt_unlock(&p->timer_lock);
    return armed;
}

/* ---- firing ------------------------------------------------------------- */

/* take_due -- the timer on top if it is due, removed or armed again.  Under the lock. */
static struct rt_timer *
take_due(struct rt_p *p, int64_t now)
{
    while (p->timer_count > 0 && p->timers[0].key <= now) {
        struct rt_timer *t = p->timers[0].timer;

        if (t->when == NEVER) {
            heap_remove(p, t);
            continue;
        }
        if (t->when > now) {
            sift_down(p, 0, (struct rt_timer_slot){ t->when, t });
            continue;
        }
        if (t->period > 0) {
            t->when += t->period * (1 + (now - t->when) / t->period);
            sift_down(p, 0, (struct rt_timer_slot){ t->when, t });
            publish_first(p);
        } else {
            heap_remove(p, t);
            count_live(p, -1);
        }
        return t;
    }
    publish_first(p);
    return NULL;
}

int64_t
rt_timers_run(struct rt_p *p, int64_t now)
{
    int64_t          first = atomic_load_explicit(&p->timer_first, memory_order_relaxed);
    struct rt_timer *t;

    if (rt_likely(first > now || first == 0))
        return first == 0 ? INT64_MAX : first;
    rt_lock(&p->timer_lock);
    if (p->timer_runner == NULL) {
        p->timer_runner = rt_m();
        while ((t = take_due(p, now)) != NULL) {
            void     (*fn)(struct rt_timer *, void *, uintptr_t) = t->fn;
            void      *arg = t->arg;
            uintptr_t  seq = t->seq;

            p->timer_firing = t;
            rt_unlock(&p->timer_lock);
            fn(t, arg, seq);
            rt_lock(&p->timer_lock);
            p->timer_firing = NULL;
        }
        p->timer_runner = NULL;
    }
    first = p->timer_count > 0 ? p->timers[0].key : INT64_MAX;
    rt_unlock(&p->timer_lock);
    return first;
}

int64_t
rt_timers_next(void)
{
    int64_t next = INT64_MAX;

    for (int i = 0; i < rt_sched.proc_count; i++) {
        int64_t first = atomic_load_explicit(&rt_sched.procs[i]->timer_first,
                                             memory_order_seq_cst);

        if (first != 0 && first < next)
            next = first;
    }
    return next;
}

bool
rt_timers_armed(void)
{
    for (int i = 0; i < rt_sched.proc_count; i++)
        if (atomic_load(&rt_sched.procs[i]->timer_live) != 0)
            return true;
    return false;
}

/* ---- sleep -------------------------------------------------------------- */

/* after -- now plus ns, for ever if that overflows.  In the runtime. */
static int64_t
after(struct rt_m *m, int64_t ns)
{
    int64_t when;

    if (ns < 0)
        ns = 0;
    return __builtin_add_overflow(rt_soon(m->p), ns, &when) ? NEVER - 1 : when;
}

static void
wake_sleeper(struct rt_timer *t, void *arg, uintptr_t seq)
{
    (void)t;
    (void)seq;
    rt_ready_tail(arg);
}

/* arm_sleep -- off the sleeper's stack: the timer may fire before this returns. */
static void
arm_sleep(struct bh_g *g, void *arg)
{
    (void)g;
    rt_timer_add(arg);
}

void
bh_sleep(int64_t ns)
{
    if (ns <= 0)
        return;
    rt_enter("bh_sleep");
    rt_point();
    struct rt_timer t = { .when = after(rt_m(), ns), .fn = wake_sleeper, .arg = rt_g() };
    rt_park(arm_sleep, &t, RT_WHY_SLEEP);
    rt_exit();
}

/* ---- public timers ------------------------------------------------------ */

/*
 * The channel holds one value.  A timer that is not armed is drained before it
 * is armed again, so that a value received after a stop or reset belongs to the
 * new arming (Go 1.23's rule).
 */
struct bh_timer {
    struct rt_timer t;
    bool            ticker;
    struct bh_chan *chan; /* NULL for bh_timer_func */
    void          (*fn)(void *arg);
    void           *arg;
    void           *created_pc;
};

struct call {
    void (*fn)(void *arg);
    void  *arg;
};

static void
run_call(void *args)
{
    struct call *c = args;

    c->fn(c->arg);
}

static void
fire_func(struct rt_timer *rt, void *arg, uintptr_t seq)
{
    struct bh_timer *t = arg;
    struct call      c = { t->fn, t->arg };

    (void)rt;
    (void)seq;
    rt_spawn(run_call, &c, sizeof c, 0, t->created_pc);
}

static void
fire_chan(struct rt_timer *rt, void *arg, uintptr_t seq)
{
    struct bh_timer *t = arg;
    int64_t          now = rt_now();

    (void)rt;
    (void)seq;
    (void)rt_chan_offer(t->chan, &now);
}

static struct bh_timer *
timer_new(void *created_pc)
{
    struct bh_timer *t = malloc(sizeof *t); /* half the price of calloc */

    if (t == NULL)
        rt_panic_runtime("out of memory for a timer");
    memset(t, 0, sizeof *t);
    t->created_pc = created_pc;
    t->t.arg = t;
    return t;
}

/* timer_start -- Returns: whether it was armed. */
static bool
timer_start(struct bh_timer *t, int64_t ns)
{
    bool armed;

    rt_enter("bh_timer");
    rt_point();
    armed = arm(&t->t, after(rt_m(), ns), t->ticker ? ns : 0);
    rt_exit();
    return armed;
}

static struct bh_timer *
chan_timer(int64_t ns, bool ticker, void *created_pc)
{
    struct bh_timer *t = timer_new(created_pc);

    t->t.fn = fire_chan;
    t->ticker = ticker;
    t->chan = BH_CHAN(int64_t, 1);
    timer_start(t, ns);
    return t;
}

struct bh_timer *
bh_timer_new(int64_t ns)
{
    return chan_timer(ns, false, __builtin_return_address(0));
}

struct bh_timer *
bh_ticker_new(int64_t ns)
{
    if (ns <= 0)
        bh_panic("non-positive interval for NewTicker");
    return chan_timer(ns, true, __builtin_return_address(0));
}

struct bh_timer *
bh_timer_func(int64_t ns, void (*fn)(void *arg), void *arg)
{
    struct bh_timer *t = timer_new(__builtin_return_address(0));

    t->t.fn = fire_func;
    t->fn = fn;
    t->arg = arg;
    timer_start(t, ns);
    return t;
}

struct bh_chan *
bh_timer_chan(struct bh_timer *t)
{
    return t->chan;
}

/* drain -- forget a value nobody received. */
static void
drain(struct bh_timer *t)
{
    if (t->chan != NULL && bh_chan_len(t->chan) > 0)
        (void)bh_try_recv(t->chan, (int64_t *)NULL, NULL);
}

bool
bh_timer_stop(struct bh_timer *t)
{
    bool armed;

    BH_REQUIRE(t->t.fn != NULL);
    rt_enter("bh_timer_stop");
    rt_point();
    armed = disarm(&t->t);
    rt_exit();
    if (rt_unlikely(!armed || t->ticker))
        drain(t);
    return armed;
}

bool
bh_timer_reset(struct bh_timer *t, int64_t ns)
{
    bool armed = false;

    BH_REQUIRE(t->t.fn != NULL);
    if (t->ticker && ns <= 0)
        bh_panic("non-positive interval for Ticker.Reset");
    if (t->chan != NULL && rt_unlikely(bh_chan_len(t->chan) > 0))
        armed = bh_timer_stop(t);
    return timer_start(t, ns) || armed;
}

void
bh_timer_free(struct bh_timer *t)
{
    if (t == NULL)
        return;
    BH_REQUIRE(t->t.fn != NULL);
    rt_enter("bh_timer_free");
    rt_timer_del(&t->t);
    rt_exit();
    t->t.fn = NULL;
    bh_chan_unref(t->chan);
    free(t);
}
