#ifndef BULKHEAD_RUNTIME_BLAME_H
#define BULKHEAD_RUNTIME_BLAME_H

/*
 * blame.h -- PRIVATE to signal.c: whose fault is it, the application's or libc's,
 * and may libc be left where it stands?
 */

#include <stdbool.h>
#include <stdint.h>

#include "symbol.h"

void rt_blame_init(void);

/* rt_blame_is_application -- whether pc is outside libc, the loader, allocators and sanitizers. */
bool rt_blame_is_application(uintptr_t pc);

/*
 * rt_blame_leave -- if w stands in libc, walk it out to the application's frame.
 *
 * w's pc is then inside the call instruction there.  *slot is where libc will
 * find its return address to there, NULL if unknown or w stood in no libc.
 * Returns: false if libc may hold a lock, or we cannot tell.
 */
bool rt_blame_leave(struct rt_walk *w, uintptr_t **slot);

/*
 * rt_blame_outer -- may libc be left where it called back the frames from `fp` outwards?
 *
 * Yes for a comparison called by qsort, no for a callback of dl_iterate_phdr,
 * which holds the loader's lock.  Follows frame pointers: where there are none
 * it sees nothing, and says yes.
 */
bool rt_blame_outer(uintptr_t fp, uintptr_t lo, uintptr_t hi);

#endif
