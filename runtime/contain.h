#ifndef BULKHEAD_RUNTIME_CONTAIN_H
#define BULKHEAD_RUNTIME_CONTAIN_H

/* contain.h -- PRIVATE to group.c, safe.c and once.c: panics that are not the end. */

#include "runtime.h"

struct bh_panic_ctx;

/*
 * What a function that recovers everything keeps in its frame, so that the
 * report is made on top of the panicking stack:
 *
 *     BH_RECOVER(p) { ... }
 *     struct rt_contain c = { "group member", rt_g()->panics, NULL };
 *     BH_DEFER(rt_contain_report, &c);
 */
struct rt_contain {
    const char      *by;
    struct rt_panic *older; /* in flight before: not ours to report */
    /* If not NULL: the first is kept there, for somebody to claim, and not reported yet. */
    struct bh_panic_ctx *transfer;
};

/* rt_contain_report -- if a panic brought us here, tell the hook, or descriptor 2. */
void rt_contain_report(struct rt_contain *c);

/* rt_panic_say -- p's text into text[size], whatever its kind's functions do. */
void rt_panic_say(const struct bh_panic *p, char *text, size_t size);

/* rt_panic_describe -- its text, goroutine and place: the note of a BH_EPANIC. */
void rt_panic_describe(const struct bh_panic *p, char *text, size_t size);

/* rt_panic_keep -- a copy by malloc; NULL without memory. */
struct bh_panic *rt_panic_keep(const struct bh_panic *p);

#endif
