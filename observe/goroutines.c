/*
 * goroutines.c -- the profile of goroutines: how many are where, and what for.
 *
 * Those with the same stack, state, route and labels are one sample; `labelled` adds what
 * tells them apart.  The runtime's own goroutines are left out, as everywhere.
 *
 * A stack begins with the function of the runtime that was called, bh_chan_recv say: by which of the
 * scheduler's ways it was left from there would only tell apart what is alike.
 */

#include "named.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/inspect.h>

struct collecting {
    struct bh_profile               *p;
    const struct bh_profile_options *o;
    int                              rc;
    struct ob_inner                  seen;
};

enum { TEXT_MAX = 16 * (128 + 128 + 3) }; /* labels of a goroutine: bh_set_label's limits */

/* "key=value, key=value" in text, which is cut up, into labels.  Returns: how many. */
static int
split_labels(char *text, struct bh_profile_label *labels, int max)
{
    int n = 0;

    while (n < max && *text != '\0') {
        char *end = strstr(text, ", "), *equals;

        if (end != NULL)
            *end = '\0';
        equals = strchr(text, '=');
        if (equals != NULL) {
            *equals = '\0';
            labels[n++] = (struct bh_profile_label){ .key = text, .text = equals + 1 };
        }
        if (end == NULL)
            break;
        text = end + 2;
    }
    return n;
}

static bool
add_goroutine(const struct bh_goroutine_info *g, void *arg)
{
    struct collecting      *c = arg;
    struct bh_profile_label l[BH_PROFILE_LABELS];
    char                    trace[33], own[TEXT_MAX];
    int64_t                 one = 1;
    size_t                  size = strlen(g->labels);
    int                     n = 0, first = 0;

    if (g->system)
        return true;
    if (g->state == BH_GOROUTINE_WAITING)
        first = ob_inner_calls(&c->seen, g->pcs, g->depth);
    l[n++] = (struct bh_profile_label){ .key = "state", .text = g->why };
    if (g->tag.route != NULL)
        l[n++] = (struct bh_profile_label){ .key = "route", .text = g->tag.route };
    if (g->name[0] != '\0')
        l[n++] = (struct bh_profile_label){ .key = "name", .text = g->name };
    if (c->o->labelled) {
        ob_hex(g->tag.trace_id, trace);
        if (trace[0] != '\0')
            l[n++] = (struct bh_profile_label){ .key = "trace_id", .text = trace };
        l[n++] = (struct bh_profile_label){ .key = "goid", .number = (int64_t)g->id };
        l[n++] =
            (struct bh_profile_label){ .key = "created_by", .number = (int64_t)g->created_by };
    }
    if (size > 0) {
        size = size < sizeof own ? size : sizeof own - 1;
        memcpy(own, g->labels, size);
        own[size] = '\0';
        n += split_labels(own, l + n, BH_PROFILE_LABELS - n);
    }
    if (g->depth == 0 && g->created_pc != 0) /* where it was started, for lack of better */
        c->rc = bh_profile_add(c->p, &g->created_pc, 1, &one, l, n);
    else
        c->rc = bh_profile_add(c->p, g->pcs + first, g->depth - first, &one, l, n);
    return c->rc == 0;
}

int
ob_collect_goroutine(const struct bh_profile_options *o, void *arg, struct bh_profile **p)
{
    static const struct bh_profile_type type = { "goroutine", "count" };
    struct collecting                   c = { .p = bh_profile_new(&type, 1), .o = o };

    (void)arg;
    if (c.p == NULL)
        return -ENOMEM;
    bh_profile_period(c.p, "goroutine", "count", 1);
    bh_profile_time(c.p, ob_unix_now(), 0);
    (void)bh_goroutines(add_goroutine, &c, BH_PROFILE_DEPTH);
    if (c.rc != 0) {
        bh_profile_free(c.p);
        return c.rc;
    }
    *p = c.p;
    return 0;
}
