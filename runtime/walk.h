#ifndef BULKHEAD_RUNTIME_WALK_H
#define BULKHEAD_RUNTIME_WALK_H

/*
 * walk.h -- PRIVATE: the stacks of a living process, for whoever may wait for a lock.
 */

#include "symbol.h"

/*
 * rt_walk_trusted -- whether, by the unwind tables, frame pointers lead from every one of these
 * return addresses to its caller.  What was asked before costs nanoseconds.
 * Threads: any.  Not in a signal handler.
 */
bool rt_walk_trusted(const uintptr_t *pcs, int count);

/*
 * rt_walk_tables -- return addresses from where w stands outwards, by the tables.  An address
 * that is an instruction's own gets one added, to be looked up one back as the others.
 *
 * Returns: how many, at most max; *more: there would be others.
 * Threads: any.  Not in a signal handler.
 */
int rt_walk_tables(struct rt_walk *w, uintptr_t *pcs, int max, bool *more);

#endif
