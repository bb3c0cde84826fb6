/*
 * threads.c -- the profile of threads: what made the runtime start them.
 *
 * Mostly code that blocked its thread: bh_blocking, or a busy loop whose processor was taken.  Those
 * whose beginning is not known any more, in a program of very many, count as bh_main's.
 */

#include "named.h"

#include <errno.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/sampling.h>

struct collecting {
    struct bh_profile *p;
    int                rc;
};

static bool
add_thread(const struct bh_thread_info *t, void *arg)
{
    const uintptr_t    bh_main_starts = (uintptr_t)bh_main_with + 1;
    struct collecting *c = arg;
    int64_t            one = 1;

    c->rc = bh_profile_add(c->p, t->depth > 0 ? t->pcs : &bh_main_starts,
                           t->depth > 0 ? t->depth : 1, &one, NULL, 0);
    return c->rc == 0;
}

int
ob_collect_threads(const struct bh_profile_options *o, void *arg, struct bh_profile **p)
{
    static const struct bh_profile_type type = { "threadcreate", "count" };
    struct collecting                   c = { bh_profile_new(&type, 1), 0 };

    (void)o;
    (void)arg;
    if (c.p == NULL)
        return -ENOMEM;
    bh_profile_period(c.p, "threadcreate", "count", 1);
    bh_profile_time(c.p, ob_unix_now(), 0);
    bh_threads(add_thread, &c);
    if (c.rc != 0) {
        bh_profile_free(c.p);
        return c.rc;
    }
    *p = c.p;
    return 0;
}
