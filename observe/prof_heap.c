/*
 * prof_heap.c -- the profiles of allocations: "heap" shows first what lives, "allocs" what was
 * ever allocated.  Both have both.
 */

#include "named.h"

#include <errno.h>

#include <bulkhead/observe/heap.h>

struct collecting {
    struct bh_profile *p;
    int                rc;
};

static bool
add(const struct bh_heap_site *s, void *arg)
{
    struct collecting *c = arg;
    const int64_t      values[] = { s->alloc_objects, s->alloc_bytes, s->inuse_objects,
                                    s->inuse_bytes };
    const struct bh_profile_label route = { .key = "route", .text = s->route };

    c->rc = bh_profile_add(c->p, s->pcs, s->depth, values, &route, s->route != NULL ? 1 : 0);
    return c->rc == 0;
}

static int
collect(const char *first, struct bh_profile **p)
{
    static const struct bh_profile_type types[] = {
        { "alloc_objects", "count" },
        { "alloc_space", "bytes" },
        { "inuse_objects", "count" },
        { "inuse_space", "bytes" },
    };
    struct collecting    c = { 0 };
    struct bh_heap_stats stats;

    bh_heap_stats_read(&stats);
    if (stats.rate == 0 && stats.samples == 0)
        return -EAGAIN;
    c.p = bh_profile_new(types, 4);
    if (c.p == NULL)
        return -ENOMEM;
    bh_profile_period(c.p, "space", "bytes", (int64_t)stats.rate);
    bh_profile_default(c.p, first);
    bh_profile_time(c.p, ob_unix_now(), 0);
    (void)bh_heap_profile(add, &c);
    if (c.rc != 0) {
        bh_profile_free(c.p);
        return c.rc;
    }
    *p = c.p;
    return 0;
}

int
ob_collect_heap(const struct bh_profile_options *o, void *arg, struct bh_profile **p)
{
    (void)o;
    (void)arg;
    return collect("inuse_space", p);
}

int
ob_collect_allocs(const struct bh_profile_options *o, void *arg, struct bh_profile **p)
{
    (void)o;
    (void)arg;
    return collect("alloc_space", p);
}
