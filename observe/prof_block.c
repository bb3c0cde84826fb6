/*
 * prof_block.c -- the profiles of contention: "block" says who waits, "mutex" who makes others
 * wait (go/contention.h).
 *
 * The runtime's inner workings on top of a stack are left out: it begins with what the program
 * called, bh_chan_recv say, as in Go.
 */

#include "named.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/contention.h>
#include <bulkhead/go/inspect.h>

struct collecting {
    struct bh_profile *p;
    bool               raw;
    int                rc;
    struct ob_inner    seen;
};

/* Where the runtime's inner calls of a stack may be. */
enum { INNER_MOST = 12 };

struct gathering {
    uintptr_t *pcs; /* NULL: only count them */
    size_t     count, room;
};

static bool
gather(const struct bh_contention *c, void *arg)
{
    struct gathering *g = arg;

    for (int i = 0; i < c->depth && i < INNER_MOST; i++, g->count++)
        if (g->count < g->room)
            g->pcs[g->count] = c->pcs[i];
    return true;
}

static bool
add(const struct bh_contention *c, void *arg)
{
    struct collecting      *to = arg;
    struct bh_profile_label l[2];
    const int64_t           values[] = { c->count, c->delay_ns };
    int skip = to->raw ? 0 : ob_inner_calls(&to->seen, c->pcs, c->depth), n = 0;

    if (c->why[0] != '\0')
        l[n++] = (struct bh_profile_label){ .key = "why", .text = c->why };
    if (c->route != NULL)
        l[n++] = (struct bh_profile_label){ .key = "route", .text = c->route };
    to->rc = bh_profile_add(to->p, c->pcs + skip, c->depth - skip, values, l, n);
    return to->rc == 0;
}

typedef int each_fn(bool (*fn)(const struct bh_contention *c, void *arg), void *arg);

/* Look up all addresses at once: one at a time takes milliseconds each. */
static void
prepare(each_fn *each)
{
    struct gathering g = { 0 };

    (void)each(gather, &g);
    g.room = g.count;
    g.count = 0;
    g.pcs = calloc(g.room + 1, sizeof *g.pcs);
    if (g.pcs == NULL)
        return;
    (void)each(gather, &g);
    bh_symbolize_all(g.pcs, g.count < g.room ? g.count : g.room);
    free(g.pcs);
}

/* To see whether there is any. */
static bool
stop(const struct bh_contention *c, void *arg)
{
    (void)c;
    (void)arg;
    return false;
}

static int
collect(each_fn *each, int64_t rate, const struct bh_profile_options *o, struct bh_profile **p)
{
    static const struct bh_profile_type types[] = {
        { "contentions", "count" },
        { "delay", "nanoseconds" },
    };
    struct collecting c = { .raw = o->raw };

    if (rate == 0 && each(stop, NULL) == 0)
        return -EAGAIN;
    if (!o->raw)
        prepare(each);
    c.p = bh_profile_new(types, 2);
    if (c.p == NULL)
        return -ENOMEM;
    bh_profile_period(c.p, "contentions", "count", 1);
    bh_profile_default(c.p, "delay");
    bh_profile_time(c.p, ob_unix_now(), 0);
    (void)each(add, &c);
    if (c.rc != 0) {
        bh_profile_free(c.p);
        return c.rc;
    }
    *p = c.p;
    return 0;
}

int
ob_collect_block(const struct bh_profile_options *o, void *arg, struct bh_profile **p)
{
    (void)arg;
    return collect(bh_block_profile, bh_block_profile_rate_get(), o, p);
}

int
ob_collect_mutex(const struct bh_profile_options *o, void *arg, struct bh_profile **p)
{
    (void)arg;
    return collect(bh_mutex_profile, bh_mutex_profile_fraction_get(), o, p);
}
