#ifndef BH_OBSERVE_NAMED_H
#define BH_OBSERVE_NAMED_H

/* named.h -- the profiles that are there from the start, and what collecting needs. */

#include <bulkhead/observe/profile.h>

bh_profile_fn ob_collect_goroutine, ob_collect_threads, ob_collect_cpu;
bh_profile_fn ob_collect_heap, ob_collect_allocs, ob_collect_block, ob_collect_mutex;

/* ob_wait -- Returns: 0 after ns; the context's error (NULL: none) before. */
int ob_wait(int64_t ns, struct bh_ctx *ctx);

/* ob_unix_now -- nanoseconds since 1970. */
int64_t ob_unix_now(void);

/* ob_hex -- a trace id as text; "" if it is all zero. */
void ob_hex(const unsigned char id[16], char text[33]);

/*
 * ob_inner_calls -- how many calls on top of a stack are the runtime's inner workings, not what
 * applications call; at least one call is left.  seen: of the caller, zero at first; few
 * addresses are met, and each is looked up once.
 */
struct ob_inner {
    uintptr_t pc[64]; /* by hash */
    bool      inner[64];
};
int ob_inner_calls(struct ob_inner *seen, const uintptr_t *pcs, int depth);

#endif
