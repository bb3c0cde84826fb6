#ifndef BULKHEAD_GO_GROUP_H
#define BULKHEAD_GO_GROUP_H

/*
 * group.h -- goroutines that succeed or fail together.
 *
 *     struct bh_group g;
 *     bh_group_init(&g, ctx);
 *     BH_DEFER(bh_group_join, &g);        (a panic here still waits for them)
 *     bh_group_go(&g, fetch, &(struct fetch){ .url = url });
 *     return bh_group_wait(&g);
 *
 * The first failure cancels g->ctx, is kept, and is what bh_group_wait returns.
 * A member that panics has failed with BH_EPANIC: it is reported at once, with
 * its stack, before bh_group_wait can return, and the process goes on.
 * BH_GROUP_REPANIC raises it in the waiter.  A member that calls bh_goexit has
 * succeeded.
 */

#include <stdbool.h>
#include <stddef.h>

#include <bulkhead/go/go.h>

struct bh_ctx;
struct bh_panic_ctx;

/* A member.  Returns: 0, or a negative error, which is the group's failure. */
typedef int bh_group_fn(struct bh_ctx *ctx, void *args);

struct bh_group_state;
struct bh_group {
    struct bh_ctx         *ctx; /* cancelled at the first failure, and by wait */
    struct bh_group_state *s;   /* private */
    struct bh_panic_ctx   *panic; /* with BH_GROUP_TRANSFER, after wait */
};

enum {
    BH_GROUP_REPANIC = 1,
    /*
     * The first panic is not reported but kept, with its stack: bh_group_wait leaves it
     * in g->panic, for bh_panic_ctx_poll and the rest of transfer.h.  bh_group_join drops
     * it; if nobody has handled it by then it is reported as lost.
     */
    BH_GROUP_TRANSFER = 2,
};

void bh_group_init(struct bh_group *g, struct bh_ctx *parent);
/* bh_group_set_flags -- before the first member. */
void bh_group_set_flags(struct bh_group *g, unsigned flags);
/*
 * bh_group_set_limit -- members at a time; 0: none, negative: no limit.
 * Panics: "errgroup: modify limit while N goroutines in the group are still active".
 */
void bh_group_set_limit(struct bh_group *g, int limit);

/*
 * bh_group_go(g, fn, args) -- start a member; args are copied.  Also after a failure.
 * Blocks: while the limit is reached.
 */
#define bh_group_go(g, fn, ...)                                                                \
    bh_group_start_((g), (fn), (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__), true)
/* bh_group_try_go -- Returns: false if the limit is reached. */
#define bh_group_try_go(g, fn, ...)                                                            \
    bh_group_start_((g), (fn), (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__), false)

/*
 * bh_group_wait -- Returns: 0 or the first failure, its note copied to this goroutine.
 * Blocks: until every member has ended.
 * Owns:   the group is over; its ctx is gone.  Only bh_group_join may follow, and
 *         must with BH_GROUP_TRANSFER.
 * Panics: with BH_GROUP_REPANIC, as the first member that panicked did.
 */
int bh_group_wait(struct bh_group *g);
/* bh_group_join -- cancel, then wait.  A no-op after bh_group_wait.  Never panics. */
void bh_group_join(struct bh_group *g);

/* ---- machinery; nothing below is API --------------------------------------------- */

bool bh_group_start_(struct bh_group *g, bh_group_fn *fn, const void *args, size_t size,
                     bool wait);

#endif
