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
 * Deadlines are lazy.  Setting one stores it; a timer that is already armed for
 * an earlier time is left alone, fires early, looks, and arms itself for
 * the time that is right by then.  So a server that moves a deadline on every
 * request touches no heap.
 *
 * Descriptors are recycled, never freed: an event that the kernel handed out
 * before a descriptor was closed may arrive after.  It carries the sequence
 * number of then, and is dropped if that is not today's.
 *
 * pd->lock protects every field but fd and index; `info` may be read without it.
 * Lock order: ctx lock > pd->lock > P timer lock.  pool.lock is taken alone.
 */

#include <errno.h>
#include <stdlib.h>

#include <bulkhead/go/error.h>

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
static struct bh_g *
take_waiter(struct rt_poll *pd, enum rt_poll_side side)
{
    struct bh_g *g = pd->side[side].g;

    pd->side[side].g = NULL;
    return g;
}

static void
edge(struct rt_poll *pd, enum rt_poll_side side, struct rt_glist *list)
{
    struct bh_g *g = take_waiter(pd, side);

    if (g == NULL) {
        pd->side[side].ready = true;
        return;
    }
    g->next = NULL;
    if (list->tail != NULL)
        list->tail->next = g;
    else
        list->head = g;
    list->tail = g;
    list->count++;
}

void
rt_poll_event(uint64_t tag, bool readable, bool writable, bool hup, struct rt_glist *list)
{
    struct rt_poll *pd = by_index((uint32_t)tag);

    rt_lock(&pd->lock);
    if (pd->seq == (uint32_t)(tag >> 32)) {
        if (hup)
            set_info(pd, RT_POLL_HUP, 0);
        if (readable)
            edge(pd, RT_POLL_READ, list);
        if (writable)
            edge(pd, RT_POLL_WRITE, list);
    }
    rt_unlock(&pd->lock);
}

/* unlock_and_wake -- end both sides' waits, after something in `info` changed.  Releases the lock. */
static void
unlock_and_wake(struct rt_poll *pd)
{
    struct bh_g *reader = take_waiter(pd, RT_POLL_READ);
    struct bh_g *writer = take_waiter(pd, RT_POLL_WRITE);

    rt_unlock(&pd->lock);
    if (reader != NULL)
        rt_ready(reader);
    if (writer != NULL)
        rt_ready(writer);
}

/* ---- waiting ------------------------------------------------------------ */

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
    if (status != 0 || pd->side[side].ready) {
        pd->side[side].ready = false;
        rt_unlock(&pd->lock);
        rt_exit();
        return status;
    }
    if (pd->side[side].g != NULL)
        rt_throw("two goroutines wait for one side of descriptor %d", pd->fd);
    pd->side[side].g = g;
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
rt_poll_ready_when(struct rt_poll *pd, enum rt_poll_side side, struct bh_g *g)
{
    bool now;

    rt_lock(&pd->lock);
    now = pd->side[side].ready || rt_poll_status(pd, side) != 0;
    pd->side[side].ready = false;
    if (!now) {
        if (pd->side[side].g != NULL)
            rt_throw("two goroutines wait for one side of descriptor %d", pd->fd);
        pd->side[side].g = g;
    }
    rt_unlock(&pd->lock);
    if (now)
        rt_ready(g);
}

/* ---- deadlines ---------------------------------------------------------- */

/* arm -- make the timer fire no later than the deadline.  Under the lock. */
static void
arm(struct rt_poll *pd, enum rt_poll_side side)
{
    int64_t at = pd->side[side].deadline, armed_at = pd->side[side].armed_at;

    if (at == 0 || (armed_at != 0 && armed_at <= at))
        return;
    pd->side[side].armed_at = at;
    rt_timer_reset(&pd->side[side].timer, at);
}

/* deadline_fired -- the timer's fn.  The deadline may have moved since it was armed. */
static void
deadline_fired(struct rt_timer *t, void *arg, uintptr_t side)
{
    struct rt_poll *pd = arg;
    struct bh_g    *g = NULL;

    (void)t;
    rt_lock(&pd->lock);
    pd->side[side].armed_at = 0;
    if (pd->side[side].deadline != 0) {
        if (pd->side[side].deadline <= rt_now()) {
            set_info(pd, 1u << side, 0);
            g = take_waiter(pd, (enum rt_poll_side)side);
        } else {
            arm(pd, (enum rt_poll_side)side);
        }
    }
    rt_unlock(&pd->lock);
    if (g != NULL)
        rt_ready_tail(g);
}

void
rt_poll_deadline(struct rt_poll *pd, unsigned sides, int64_t at)
{
    struct bh_g *wake[RT_POLL_SIDES] = { NULL, NULL };

    rt_enter("setting a deadline");
    rt_point();
    bool past = at != 0 && at <= rt_now();
    rt_lock(&pd->lock);
    for (int side = 0; side < RT_POLL_SIDES; side++) {
        if ((sides & 1u << side) == 0)
            continue;
        pd->side[side].deadline = at;
        if (past) {
            set_info(pd, 1u << side, 0);
            wake[side] = take_waiter(pd, (enum rt_poll_side)side);
        } else {
            set_info(pd, 0, 1u << side);
            arm(pd, (enum rt_poll_side)side);
        }
    }
    rt_unlock(&pd->lock);
    for (int side = 0; side < RT_POLL_SIDES; side++)
        if (wake[side] != NULL)
            rt_ready(wake[side]);
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
        pd->side[side].ready = false;
        pd->side[side].deadline = 0;
        pd->side[side].timer.fn = deadline_fired;
        pd->side[side].timer.arg = pd;
        pd->side[side].timer.seq = side;
    }
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
        pd->side[side].deadline = 0; /* a timer that fires now does not arm itself again */
    rt_unlock(&pd->lock);
    for (int side = 0; side < RT_POLL_SIDES; side++) {
        rt_timer_del(&pd->side[side].timer);
        pd->side[side].armed_at = 0;
    }
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
