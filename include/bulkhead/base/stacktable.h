#ifndef BULKHEAD_BASE_STACKTABLE_H
#define BULKHEAD_BASE_STACKTABLE_H

/*
 * stacktable.h -- counters per call stack, for profilers: which calls led to how much.
 *
 * A fixed number of rows, got at once and never moved.  Adding takes no lock and allocates
 * nothing, so it may be done from inside an allocator, in a signal handler, and in
 * the child of a fork; several may add, and another read, at the same time.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bh_stacktable;
struct bh_stackrow;

enum { BH_STACKTABLE_DEPTH = 64, BH_STACKTABLE_COUNTERS = 4 };

/*
 * bh_stacktable_new -- a table of this many rows, a power of two.
 * Returns: NULL without memory, or if rows is none.
 */
struct bh_stacktable *bh_stacktable_new(size_t rows);
void                  bh_stacktable_free(struct bh_stacktable *t); /* NULL is allowed */

/*
 * bh_stacktable_row -- the row of this stack, made if there is none.
 *
 * pcs: return addresses, innermost first; what exceeds BH_STACKTABLE_DEPTH is cut at the
 * outer end.  a, b: any two words that tell rows with the same stack apart.
 * Returns: the row; in a full table the one without a stack that takes all the rest.
 *          Two who make the same row at once may get one each: readers add them up.
 * Threads: any.  Async-signal-safe.
 */
struct bh_stackrow *bh_stacktable_row(struct bh_stacktable *t, const uintptr_t *pcs, int depth,
                                      uintptr_t a, uintptr_t b);

/* bh_stackrow_add -- change one of its counters.  Threads: any.  Async-signal-safe. */
void bh_stackrow_add(struct bh_stackrow *row, int counter, int64_t n);

struct bh_stackrow_view {
    const uintptr_t *pcs; /* good as long as the table */
    int              depth;
    uintptr_t        a, b;
    int64_t          counters[BH_STACKTABLE_COUNTERS];
};

/*
 * bh_stacktable_each -- call fn for every row; fn returns false to stop.
 * Returns: for how many it was called.
 */
int bh_stacktable_each(struct bh_stacktable *t,
                       bool (*fn)(const struct bh_stackrow_view *v, void *arg), void *arg);

#endif
