#ifndef BULKHEAD_OBSERVE_HEAP_H
#define BULKHEAD_OBSERVE_HEAP_H

/*
 * heap.h -- who allocates, and what of it is still there: the heap profile.
 *
 * Started, it samples the C library's allocation functions, whoever calls them: this program,
 * its libraries, the C library itself.  Every byte allocated has the same chance to be seen,
 * one in `rate`; from what is seen the whole is estimated without bias.
 *
 * Until it is started nothing is in the way of an allocation.  From then on a malloc and its free
 * cost a few nanoseconds more together.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BH_HEAP_RATE = 512 * 1024 };

/*
 * bh_heap_profile_start -- sample one in `rate` bytes allocated; 0: BH_HEAP_RATE; 1: everything.
 *
 * Calls of the allocation functions are redirected in every module that is loaded now; in one
 * loaded later, when this is called again or the profile is read.  Called again it also
 * changes the rate: each thread goes over to it with its next sample.
 *
 * Returns: 0; -ENOMEM; -ENOTSUP in a program linked statically, or with a sanitizer that
 *          has allocation functions of its own.
 * Threads: any.
 */
int bh_heap_profile_start(size_t rate);

/* bh_heap_profile_stop -- sample no more.  What was sampled is still noticed when it is freed. */
void bh_heap_profile_stop(void);

/* What one stack has allocated since the start, estimated; and what of it is not yet freed. */
struct bh_heap_site {
    const uintptr_t *pcs;   /* return addresses, innermost first; good for ever */
    int              depth; /* 0: stacks for which there was no more room, together */
    const char      *route; /* from the goroutine's tag (go/tag.h); NULL: none */
    int64_t          alloc_objects, alloc_bytes;
    int64_t          inuse_objects, inuse_bytes;
};

/*
 * bh_heap_profile -- call fn for every stack; fn returns false to stop.
 *
 * One stack may come in several parts.  What happens meanwhile may be half counted.
 * Returns: for how many fn was called.
 * Threads: any.
 */
int bh_heap_profile(bool (*fn)(const struct bh_heap_site *s, void *arg), void *arg);

struct bh_heap_stats {
    size_t   rate;    /* 0: off */
    uint64_t samples; /* taken */
    uint64_t live;    /* of them not yet freed */
    uint64_t lost;    /* not kept: too many were live.  They count as freed at once */
};
void bh_heap_stats_read(struct bh_heap_stats *stats);

#endif
