/*
 * contention.c -- the block and the mutex profile.
 *
 * Two tables of stacks (base/stacktable.h), each got when its profile is first switched on and
 * kept from then on.
 *
 *     block   rt_park takes the time before and after if rt_block_rate is not 0, and comes here
 *             on the stack of the one that has waited.  A wait of d ns is recorded for certain
 *             if d >= rate, else with probability d / rate, and then as rate / d waits of d ns
 *
 *     mutex   a queued waiter is counted if rt_mutex_fraction is not 0 (contention.h); an unlock
 *             that lets another have the lock comes here, once it has, on the unlocker's
 *             stack.  One in `fraction` is recorded, as so many
 *
 * The stack is read by frame pointers, and with it go the reason and the route of the goroutine's tag.
 * Counts are kept in 1/1024: rate / d is no whole number.
 *
 * After Go's runtime/mprof.go and sema.go.  We differ in what an unlock pays: Go estimates the wait
 * of all in the queue by its two ends, here it is exact.  And waits for descriptors count.
 */

#include "contention.h"

#include <errno.h>

#include <bulkhead/base/stacktable.h>
#include <bulkhead/go/tag.h>

enum {
    ROWS = 4096,
    RATE_MOST = 1000 * 1000 * 1000,
    FRACTION_MOST = 1000 * 1000,
    UNIT = 1024, /* of a count */
};
enum { COUNT, DELAY }; /* counters of a row */

_Atomic int64_t rt_block_rate, rt_mutex_fraction;

static _Atomic(struct bh_stacktable *) blocked, contended;

/* ---- switches ------------------------------------------------------------------------- */

static int
set(_Atomic int64_t *value, int64_t to, _Atomic(struct bh_stacktable *) *table)
{
    struct bh_stacktable *none = NULL, *t;

    if (to != 0 && atomic_load_explicit(table, memory_order_acquire) == NULL) {
        t = bh_stacktable_new(ROWS);
        if (t == NULL)
            return -ENOMEM;
        if (!atomic_compare_exchange_strong(table, &none, t))
            bh_stacktable_free(t);
    }
    atomic_store_explicit(value, to, memory_order_release);
    return 0;
}

int
bh_block_profile_rate(int64_t ns)
{
    return ns < 0 || ns > RATE_MOST ? -EINVAL : set(&rt_block_rate, ns, &blocked);
}

int
bh_mutex_profile_fraction(int64_t n)
{
    return n < 0 || n > FRACTION_MOST ? -EINVAL : set(&rt_mutex_fraction, n, &contended);
}

int64_t
bh_block_profile_rate_get(void)
{
    return atomic_load_explicit(&rt_block_rate, memory_order_relaxed);
}

int64_t
bh_mutex_profile_fraction_get(void)
{
    return atomic_load_explicit(&rt_mutex_fraction, memory_order_relaxed);
}

/* ---- recording ------------------------------------------------------------------------ */

/* Add to the row of the stack that ends with frame fp, of this goroutine. */
static void
record(struct bh_stacktable *t, uintptr_t fp, const char *why, int64_t count, int64_t ns)
{
    uintptr_t            pcs[BH_STACKTABLE_DEPTH];
    struct bh_g         *g = rt_g();
    const struct bh_tag *tag = bh_tag_peek();
    const char          *route = tag != NULL ? tag->route : NULL;
    struct bh_stackrow  *row;
    int                  depth;

    depth = rt_backtrace(0, fp, (uintptr_t)g->stack->lo, (uintptr_t)g->stack->top, pcs,
                         BH_STACKTABLE_DEPTH);
    row = bh_stacktable_row(t, pcs, depth, (uintptr_t)why, (uintptr_t)route);
    bh_stackrow_add(row, COUNT, count);
    bh_stackrow_add(row, DELAY, ns);
}

/* Whether waiting for this is contention. */
static bool
counts(enum rt_why why)
{
    switch (why) {
    case RT_WHY_NONE:
    case RT_WHY_SLEEP:
    case RT_WHY_PREEMPTED:
    case RT_WHY_BLOCKING:
        return false;
    default:
        return true;
    }
}

__attribute__((noinline)) void
rt_block_event(enum rt_why why, int64_t since)
{
    int64_t               rate = bh_block_profile_rate_get(), ns = rt_now() - since;
    int64_t               count = UNIT;
    struct bh_stacktable *t = atomic_load_explicit(&blocked, memory_order_acquire);

    if (rate == 0 || !counts(why) || (rt_g()->flags & RT_G_SYSTEM))
        return;
    if (ns < 1)
        ns = 1;
    if (ns < rate) {
        if (rt_random((uint32_t)rate) >= ns)
            return;
        count = UNIT * rate / ns;
        ns = rate;
    }
    record(t, (uintptr_t)__builtin_frame_address(0), rt_why_text(why), count, ns);
}

__attribute__((noinline)) void
rt_mutex_event(int64_t ns)
{
    int64_t               n = bh_mutex_profile_fraction_get();
    struct bh_stacktable *t = atomic_load_explicit(&contended, memory_order_acquire);

    if (n == 0 || (n > 1 && rt_random((uint32_t)n) != 0))
        return;
    record(t, (uintptr_t)__builtin_frame_address(0), "", n * UNIT, n * ns);
}

/* ---- reading -------------------------------------------------------------------------- */

struct visit {
    bool (*fn)(const struct bh_contention *c, void *arg);
    void *arg;
};

static bool
show(const struct bh_stackrow_view *v, void *arg)
{
    const struct visit        *visit = arg;
    const struct bh_contention c = {
        .pcs = v->pcs,
        .depth = v->depth,
        .why = (const char *)v->a,
        .route = (const char *)v->b,
        .count = (v->counters[COUNT] + UNIT / 2) / UNIT,
        .delay_ns = v->counters[DELAY],
    };

    return visit->fn(&c, visit->arg);
}

static int
each(struct bh_stacktable *t, bool (*fn)(const struct bh_contention *c, void *arg), void *arg)
{
    struct visit visit = { fn, arg };

    return t != NULL ? bh_stacktable_each(t, show, &visit) : 0;
}

int
bh_block_profile(bool (*fn)(const struct bh_contention *c, void *arg), void *arg)
{
    return each(atomic_load_explicit(&blocked, memory_order_acquire), fn, arg);
}

int
bh_mutex_profile(bool (*fn)(const struct bh_contention *c, void *arg), void *arg)
{
    return each(atomic_load_explicit(&contended, memory_order_acquire), fn, arg);
}
