#ifndef BULKHEAD_RUNTIME_CTX_H
#define BULKHEAD_RUNTIME_CTX_H

/* ctx.h -- PRIVATE: being told when a context ends, without a channel or a goroutine. */

#include "runtime.h"

struct bh_ctx;

enum rt_ctx_entry_kind { RT_CTX_CHILD, RT_CTX_AFTER, RT_CTX_WATCH };

/* An entry of a context's list; next is NULL while in none.  Under that context's lock. */
struct rt_ctx_entry {
    struct rt_ctx_entry *next, *prev;
    enum rt_ctx_entry_kind kind;
};

/*
 * fn runs when the context ends, in the runtime or in scheduler code, with the
 * context's lock held and the watch already off the list: it may rt_ready, and
 * must not take another context's lock.
 */
struct rt_ctx_watch {
    struct rt_ctx_entry entry;
    void (*fn)(struct rt_ctx_watch *w);
};

/*
 * rt_ctx_watch -- call w->fn once if ctx ends.  In the runtime.
 * Returns: 0; ctx's error if it has ended: fn will not run.
 * Owns:    w stays the caller's, and ctx must live, until fn ran or rt_ctx_unwatch.
 */
int rt_ctx_watch(struct bh_ctx *ctx, struct rt_ctx_watch *w);

/* rt_ctx_unwatch -- Returns: false if fn has run; it is not running on return either way. */
bool rt_ctx_unwatch(struct bh_ctx *ctx, struct rt_ctx_watch *w);

/* rt_ctx_ended -- a static context that was cancelled; referring to it is free. */
struct bh_ctx *rt_ctx_ended(void);

#endif
