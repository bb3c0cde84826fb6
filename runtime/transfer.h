#ifndef BULKHEAD_RUNTIME_TRANSFER_H
#define BULKHEAD_RUNTIME_TRANSFER_H

/* transfer.h -- PRIVATE to contain.c, group.c and safe.c: filling a bh_panic_ctx. */

#include <bulkhead/go/transfer.h>

struct rt_panic;

/* rt_transfer_new -- RUNNING, one reference.  Panics without memory. */
struct bh_panic_ctx *rt_transfer_new(void);

/*
 * rt_transfer_take -- keep a panic and its stack, on top of which the caller runs.
 * Not seen by others before rt_transfer_end.  Returns: false if x has one already.
 */
bool rt_transfer_take(struct bh_panic_ctx *x, const struct rt_panic *r);

/* rt_transfer_end -- the goroutine, or every member, has ended: UNHANDLED or CLEAN.  Drops its reference. */
void rt_transfer_end(struct bh_panic_ctx *x);

#endif
