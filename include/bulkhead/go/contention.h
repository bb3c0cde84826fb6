#ifndef BULKHEAD_GO_CONTENTION_H
#define BULKHEAD_GO_CONTENTION_H

/*
 * contention.h -- where goroutines wait, and who makes them wait.
 *
 * The block profile is charged to who waited: how often and for how long, in a
 * channel operation, a select, for a lock, a condition, a descriptor.  The mutex profile is
 * charged to who held the lock: the stack that unlocks pays for what all
 * others have waited until then.  So the first says where requests are slow, the second why.
 *
 * Both are off at first, and then cost one branch where something waits anyway.  Sleeping
 * does not count, nor do goroutines of the runtime.  As in Go, both are estimates
 * without bias: what is left out by sampling is made up for by what is not.
 */

#include <stdbool.h>
#include <stdint.h>

/*
 * bh_block_profile_rate -- record about one wait per `ns` nanoseconds spent waiting: each
 * that lasted so long, and shorter ones by chance in proportion.  1 records all, 0 none.
 *
 * Returns: 0; -ENOMEM; -EINVAL if it is negative or over 1 s.
 * Threads: any.
 */
int bh_block_profile_rate(int64_t ns);

/*
 * bh_mutex_profile_fraction -- record one in n of the unlocks that somebody waited for.  1 records
 * all, 0 none.
 *
 * Returns: 0; -ENOMEM; -EINVAL if it is negative or over a million.
 * Threads: any.
 */
int bh_mutex_profile_fraction(int64_t n);

/* What one stack has waited, or made others wait, since recording began. */
struct bh_contention {
    const uintptr_t *pcs;   /* return addresses, innermost first; good for ever */
    int              depth; /* 0: stacks for which there was no more room, together */
    const char *why; /* "chan receive", "sync.Mutex.Lock", ...; static.  Of the block profile */
    const char *route; /* from the goroutine's tag (tag.h); NULL: none */
    int64_t     count, delay_ns;
};

/*
 * bh_block_profile, bh_mutex_profile -- call fn for every stack; fn returns false to stop.
 *
 * One stack may come in several parts.  What happens meanwhile may be half counted.
 * Returns: for how many fn was called.
 * Threads: any.
 */
int bh_block_profile(bool (*fn)(const struct bh_contention *c, void *arg), void *arg);
int bh_mutex_profile(bool (*fn)(const struct bh_contention *c, void *arg), void *arg);

/* bh_block_profile_rate_get, bh_mutex_profile_fraction_get -- as set; 0: off. */
int64_t bh_block_profile_rate_get(void);
int64_t bh_mutex_profile_fraction_get(void);

#endif
