/*
 * netpoll.c -- goroutines wait for descriptors; what does not depend on epoll.
 *
 * A poll descriptor stands for one watched file descriptor.  It has a reading
 * and a writing side, and each side at most one waiting goroutine (net.c
 * serialises).  The kernel reports edges, each once, so a side remembers an
 * edge that nobody waited for:
 *
 *     idle --edge--> ready --wait--> idle (returns at once)
 *     idle --wait--> waiting --edge, deadline, close, cancel--> idle
 *
 * A caller tries its system call first and waits only when told EAGAIN, so a
 * remembered edge costs one idle try at worst and a lost edge is impossible:
 * data that arrives after the try makes a new one.
 *
 * Instead of a goroutine an rt_poll_start may wait: the goroutine is made only when
 * there is something to do, so an idle connection holds none.  It is made after
 * the lock is released; nobody can close pd before, since netfd.c counts it as a
 * call in progress.
 *
 * Deadlines are lazy.  Setting one stores it; the timer, one for both sides, is left
 * alone if it is armed for an earlier time, fires early, looks, and arms itself for
 * the time that is right by then.  So a server that moves a deadline on every
 * request touches no heap.
 *
 * Descriptors are recycled, never freed: an event that the kernel handed out
 * before a descriptor was closed may arrive after.  It carries the sequence
 * number of then, and is dropped if that is not today's.
 *
 * A context may be watched on behalf of a peer that could hang up while nobody reads:
 * the edge that says so makes a goroutine that ends it.
 *
 * pd->lock protects every field but fd and index; `info` may be read without it.
 * Lock order: ctx lock > pd->lock > P timer lock.  pool.lock is taken alone.
 */

#include <errno.h>
#include <stdlib.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>

#include "flight.h"
#include "netpoll.h"

enum {
    SLAB = 256,        /* descriptors made at once */
    MAX_SLABS = 1 << 14, /* 4 million: more than the kernel's default limit of files (1 million) */
};

static struct {
    struct rt_lock          lock; /* the free list and slab_count */
    struct rt_poll         *free;
    uint32_t                slab_count;
    _Atomic(struct rt_poll *) slab[MAX_SLABS];
} pool;

/* ---- the table ---------------------------------------------------------- */

static struct rt_poll *
by_index(uint32_t index)
{
    struct rt_poll *slab = atomic_load_explicit(&pool.slab[index / SLAB], memory_order_acquire);

    return &slab[index % SLAB];
}

uint64_t
rt_poll_tag(const struct rt_poll *pd)
{
    return (uint64_t)pd->seq << 32 | pd->index;
}

/* add_slab -- Returns: false for lack of memory or over the limit. */
static bool
add_slab(void)
{
    struct rt_poll *slab = calloc(SLAB, sizeof *slab);

    if (slab == NULL)
        return false;
    rt_lock(&pool.lock);
    uint32_t n = pool.slab_count;
    if (n == MAX_SLABS) {
        rt_unlock(&pool.lock);
        free(slab);
        return false;
    }
    pool.slab_count++;
    atomic_store_explicit(&pool.slab[n], slab, memory_order_release);
    for (int i = SLAB - 1; i >= 0; i--) {
        slab[i].index = n * SLAB + (uint32_t)i;
        slab[i].next_free = pool.free;
        pool.free = &slab[i];
    }
    rt_unlock(&pool.lock);
    return true;
}

static struct rt_poll *
pool_get(void)
{
    for (;;) {
        rt_lock(&pool.lock);
        struct rt_poll *pd = pool.free;
        if (pd != NULL)
            pool.free = pd->next_free;
        rt_unlock(&pool.lock);
        if (pd != NULL || !add_slab())
            return pd;
    }
}

static void
pool_put(struct rt_poll *pd)
{
    rt_lock(&pool.lock);
    pd->next_free = pool.free;
    pool.free = pd;
    rt_unlock(&pool.lock);
}

/* ---- events ------------------------------------------------------------- */

static void
set_info(struct rt_poll *pd, uint32_t set, uint32_t clear)
{
    uint32_t info = atomic_load_explicit(&pd->info, memory_order_relaxed);

    atomic_store_explicit(&pd->info, (info & ~clear) | set, memory_order_relaxed);
}

/* take_waiter -- whoever waits for that side, no longer waiting.  Under the lock. */
static rt_poll_waiter
take_waiter(struct rt_poll *pd, enum rt_poll_side side)
{
    rt_poll_waiter w = pd->waiter[side];

    pd->waiter[side] = 0;
    return w;
}

/* goroutine_of -- the one that waited, or a new one.  Not under the lock. */
static struct bh_g *
goroutine_of(rt_poll_waiter w)
{
    struct rt_poll_start *s = (struct rt_poll_start *)(w - 1);

    if ((w & 1) == 0)
        return (struct bh_g *)w;
    return rt_make(rt_netfd_started, &s, sizeof s, s->stack_class, RT_WHY_IO);
}

static rt_poll_waiter
edge(struct rt_poll *pd, enum rt_poll_side side)
{
    rt_poll_waiter w = take_waiter(pd, side);

    pd->ready[side] = w == 0;
    return w;
}

static void
append(struct rt_glist *list, struct bh_g *g)
{
    struct rt_m *m = rt_m();

    if (m != NULL)
        rt_flight(m->p, BH_FLIGHT_UNBLOCK, RT_WHY_NONE, 0, g->id);
    g->next = NULL;
    if (list->tail != NULL)
        list->tail->next = g;
    else
        list->head = g;
    list->tail = g;
    list->count++;
}

/* A goroutine's function. */
static void
end_context(void *args)
{
    struct bh_ctx *ctx = *(struct bh_ctx **)args;

    bh_ctx_cancel_cause(ctx, 0, "peer hung up");
    bh_ctx_unref(ctx);
}

/* take_hangup -- the context to end, if these edges end it; the reference too.  Under the lock. */
static struct bh_ctx *
take_hangup(struct rt_poll *pd, struct rt_poll_edges e)
{
    struct rt_hangup *h = pd->hangup;

    if (h == NULL || !(e.gone || (e.half && h->half)))
        return NULL;
    pd->hangup = NULL;
    atomic_fetch_sub(&rt_sched.io_waiters, 1);
    return h->ctx;
}

void
rt_poll_event(uint64_t tag, struct rt_poll_edges e, struct rt_glist *list)
{
    struct rt_poll *pd = by_index((uint32_t)tag);
    rt_poll_waiter  reader = 0, writer = 0;
    struct bh_ctx  *ctx = NULL;

    rt_lock(&pd->lock);
    if (pd->seq == (uint32_t)(tag >> 32)) {
        if (e.hup)
            set_info(pd, RT_POLL_HUP, 0);
        if (e.hup && pd->hangup != NULL)
            ctx = take_hangup(pd, e);
        if (e.readable)
            reader = edge(pd, RT_POLL_READ);
        if (e.writable)
            writer = edge(pd, RT_POLL_WRITE);
    }
    rt_unlock(&pd->lock);
    if (ctx != NULL) {
        append(list, rt_make(end_context, &ctx, sizeof ctx, rt_sched.stack_class, RT_WHY_IO));
        atomic_store_explicit(&rt_sched.urgent, true, memory_order_relaxed);
    }
    if (reader != 0)
        append(list, goroutine_of(reader));
    if (writer != 0)
        append(list, goroutine_of(writer));
}

bool
rt_poll_watch_hangup(struct rt_poll *pd, struct rt_hangup *h)
{
    atomic_fetch_add(&rt_sched.io_waiters, 1);
    rt_lock(&pd->lock);
    pd->hangup = h;
    rt_unlock(&pd->lock);
    return rt_poll_hup(pd);
}

struct rt_hangup *
rt_poll_unwatch_hangup(struct rt_poll *pd)
{
    struct rt_hangup *h;

    rt_lock(&pd->lock);
    h = pd->hangup;
    pd->hangup = NULL;
    rt_unlock(&pd->lock);
    if (h != NULL)
        atomic_fetch_sub(&rt_sched.io_waiters, 1);
    return h;
}

/* unlock_and_wake -- end both sides' waits, after something in `info` changed.  Releases the lock. */
static void
unlock_and_wake(struct rt_poll *pd)
{
    rt_poll_waiter reader = take_waiter(pd, RT_POLL_READ);
    rt_poll_waiter writer = take_waiter(pd, RT_POLL_WRITE);

    rt_unlock(&pd->lock);
    if (reader != 0)
        rt_ready(goroutine_of(reader));
    if (writer != 0)
        rt_ready(goroutine_of(writer));
}

/* ---- waiting ------------------------------------------------------------ */

/* set_waiter -- under the lock. */
static void
set_waiter(struct rt_poll *pd, enum rt_poll_side side, rt_poll_waiter w)
{
    if (pd->waiter[side] != 0)
        rt_throw("two goroutines wait for one side of descriptor %d", pd->fd);
    pd->waiter[side] = w;
}

int
rt_poll_status_slow(struct rt_poll *pd, enum rt_poll_side side)
{
    uint32_t info = atomic_load_explicit(&pd->info, memory_order_relaxed);

    if (info & RT_POLL_CLOSING)
        return BH_ECLOSED;
    if (info & RT_POLL_CANCELED)
        return atomic_load_explicit(&pd->cancel_code, memory_order_relaxed);
    if (info & (1u << side))
        return BH_EDEADLINE;
    return 0;
}

int
rt_poll_wait(struct rt_poll *pd, enum rt_poll_side side)
{
    struct bh_g *g = rt_enter("waiting for a descriptor")->g;
    int          status;

    rt_point();
    rt_lock(&pd->lock);
    status = rt_poll_status(pd, side);
    if (status != 0 || pd->ready[side]) {
        pd->ready[side] = false;
        rt_unlock(&pd->lock);
        rt_exit();
        return status;
    }
    set_waiter(pd, side, (rt_poll_waiter)g);
    /* The runtime's own goroutines keep no program alive (sigqueue.c counts for its own). */
    int counts = (g->flags & RT_G_SYSTEM) == 0;
    atomic_fetch_add(&rt_sched.io_waiters, counts);
    rt_park_unlock(&pd->lock.word, RT_WHY_IO);
    atomic_fetch_sub(&rt_sched.io_waiters, counts);
    rt_lock(&pd->lock);
    status = rt_poll_status(pd, side);
    rt_unlock(&pd->lock);
    rt_exit();
    return status;
}

void
rt_poll_start_when(struct rt_poll *pd, enum rt_poll_side side, struct rt_poll_start *start, bool now)
{
    rt_poll_waiter w = (rt_poll_waiter)start | 1;

    rt_lock(&pd->lock);
    now = now || pd->ready[side] || rt_poll_status(pd, side) != 0;
    pd->ready[side] = false;
    if (!now)
        set_waiter(pd, side, w);
    rt_unlock(&pd->lock);
    if (now)
        rt_ready(goroutine_of(w));
}

/* ---- deadlines ---------------------------------------------------------- */

/* arm -- make the timer fire no later than the deadlines.  Under the lock. */
static void
arm(struct rt_poll *pd)
{
    int64_t at = pd->deadline[RT_POLL_READ], other = pd->deadline[RT_POLL_WRITE];

    if (at == 0 || (other != 0 && other < at))
        at = other;
    if (at == 0 || (pd->armed_at != 0 && pd->armed_at <= at))
        return;
    pd->armed_at = at;
    rt_timer_reset(&pd->timer, at);
}

/* expire -- that side's deadline has passed.  Under the lock.  Returns: who waited. */
static rt_poll_waiter
expire(struct rt_poll *pd, enum rt_poll_side side)
{
    pd->deadline[side] = 0;
    set_info(pd, 1u << side, 0);
    return take_waiter(pd, side);
}

/* deadline_fired -- the timer's fn.  The deadlines may have moved since it was armed. */
static void
deadline_fired(struct rt_timer *t, void *arg, uintptr_t seq)
{
    struct rt_poll *pd = arg;
    rt_poll_waiter  wake[RT_POLL_SIDES] = { 0, 0 };
    int64_t         now = rt_now();

    (void)t;
    (void)seq;
    rt_lock(&pd->lock);
    pd->armed_at = 0;
    for (int side = 0; side < RT_POLL_SIDES; side++)
        if (pd->deadline[side] != 0 && pd->deadline[side] <= now)
            wake[side] = expire(pd, (enum rt_poll_side)side);
    arm(pd);
    rt_unlock(&pd->lock);
    for (int side = 0; side < RT_POLL_SIDES; side++)
        if (wake[side] != 0)
            rt_ready_tail(goroutine_of(wake[side]));
}

void
rt_poll_deadline(struct rt_poll *pd, unsigned sides, int64_t at)
{
    rt_poll_waiter wake[RT_POLL_SIDES] = { 0, 0 };
    struct rt_m   *m = rt_enter("setting a deadline");
    bool           past;

    rt_point();
    /* The estimate is never behind the clock: nearly always it is enough. */
    past = at != 0 && at <= rt_soon(m->p) && at <= rt_now();
    rt_lock(&pd->lock);
    for (int side = 0; side < RT_POLL_SIDES; side++) {
        if ((sides & 1u << side) == 0)
            continue;
        pd->deadline[side] = at;
        if (past)
            wake[side] = expire(pd, (enum rt_poll_side)side);
        else
            set_info(pd, 0, 1u << side);
    }
    arm(pd);
    rt_unlock(&pd->lock);
    for (int side = 0; side < RT_POLL_SIDES; side++)
        if (wake[side] != 0)
            rt_ready(goroutine_of(wake[side]));
    rt_exit();
}

/* ---- life --------------------------------------------------------------- */

int
rt_poll_open(int fd, struct rt_poll **result)
{
    struct rt_poll *pd;
    int             error;

    rt_enter("watching a descriptor");
    rt_netpoll_init();
    pd = pool_get();
    if (pd == NULL) {
        rt_exit();
        return -ENOMEM;
    }
    rt_lock(&pd->lock);
    pd->fd = fd;
    atomic_store_explicit(&pd->info, 0, memory_order_relaxed);
    for (unsigned side = 0; side < RT_POLL_SIDES; side++) {
        pd->ready[side] = false;
        pd->waiter[side] = 0;
        pd->deadline[side] = 0;
    }
    pd->hangup = NULL;
    pd->timer.fn = deadline_fired;
    pd->timer.arg = pd;
    uint64_t tag = rt_poll_tag(pd);
    rt_unlock(&pd->lock);
    error = rt_epoll_add(fd, tag);
    if (error != 0)
        pool_put(pd);
    else
        *result = pd;
    rt_exit();
    return error;
}

void
rt_poll_close(struct rt_poll *pd)
{
    rt_enter("closing a descriptor");
    rt_epoll_del(pd->fd);
    rt_lock(&pd->lock);
    pd->seq++;
    for (int side = 0; side < RT_POLL_SIDES; side++)
        pd->deadline[side] = 0; /* a timer that fires now does not arm itself again */
    rt_unlock(&pd->lock);
    rt_timer_del(&pd->timer);
    pd->armed_at = 0;
    pool_put(pd);
    rt_exit();
}

void
rt_poll_evict(struct rt_poll *pd)
{
    rt_enter("closing a descriptor");
    rt_lock(&pd->lock);
    set_info(pd, RT_POLL_CLOSING, 0);
    unlock_and_wake(pd);
    rt_exit();
}

void
rt_poll_cancel(struct rt_poll *pd, int code)
{
    rt_lock(&pd->lock);
    if (code != 0)
        atomic_store_explicit(&pd->cancel_code, code, memory_order_relaxed);
    set_info(pd, code != 0 ? RT_POLL_CANCELED : 0, RT_POLL_CANCELED);
    if (code != 0)
        unlock_and_wake(pd);
    else
        rt_unlock(&pd->lock);
}
