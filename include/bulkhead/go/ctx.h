#ifndef BULKHEAD_GO_CTX_H
#define BULKHEAD_GO_CTX_H

/*
 * ctx.h -- contexts carry a deadline, a cancellation and values down a call
 * tree.  Pass one first, never store it.
 *
 *     struct bh_ctx *c = bh_ctx_timeout(ctx, 2 * BH_SECOND);
 *     BH_DEFER(bh_ctx_end, c);
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bh_chan;
struct bh_ctx;

/* bh_ctx_background -- the root: never ends, no values.  Static. */
struct bh_ctx *bh_ctx_background(void);

/*
 * bh_ctx_cancellable, bh_ctx_deadline, bh_ctx_timeout, bh_ctx_with_value -- a child of
 * parent.
 *
 * Ends when parent ends, when cancelled, or at its deadline (monotonic ns, see
 * bh_now; an earlier one of the parent's wins).  A value cannot be cancelled by
 * itself: it ends with its parent.
 * Owns:   the caller holds one reference; the child holds one on parent.
 * Panics: "cannot create context from nil parent"; "nil key".
 */
struct bh_ctx *bh_ctx_cancellable(struct bh_ctx *parent);
struct bh_ctx *bh_ctx_deadline(struct bh_ctx *parent, int64_t at_ns);
struct bh_ctx *bh_ctx_timeout(struct bh_ctx *parent, int64_t timeout_ns);
struct bh_ctx *bh_ctx_with_value(struct bh_ctx *parent, const void *key, void *value);
/* bh_ctx_without_cancel -- parent's values, never ends.  See: Go 1.21. */
struct bh_ctx *bh_ctx_without_cancel(struct bh_ctx *parent);

/*
 * bh_ctx_cancel -- end ctx and all below it; a no-op once it has ended.
 *
 * When it returns, everything below has ended.  Stops no goroutine: they watch.
 * Panics: on a context that cannot be cancelled by itself.
 */
void bh_ctx_cancel(struct bh_ctx *ctx);
/*
 * bh_ctx_cancel_cause -- the same, saying why: the first call's cause stays.
 * code: a negative error, 0 for BH_ECANCELED; note: copied, may be NULL.
 */
void bh_ctx_cancel_cause(struct bh_ctx *ctx, int code, const char *note);

struct bh_ctx *bh_ctx_ref(struct bh_ctx *ctx);
void           bh_ctx_unref(struct bh_ctx *ctx); /* NULL is a no-op; does not cancel */
/* bh_ctx_end -- cancel if it can be, then unref: what to defer on the line after making one. */
void bh_ctx_end(struct bh_ctx *ctx);

/* bh_ctx_done -- closed when ctx ends; NULL if it never can.  Borrowed from ctx. */
struct bh_chan *bh_ctx_done(struct bh_ctx *ctx);

/* bh_ctx_err -- 0 while live, then BH_ECANCELED or BH_EDEADLINE for ever. */
int bh_ctx_err(struct bh_ctx *ctx);

/*
 * bh_ctx_cause -- 0 while live, then the cause's code.
 * *note (may be NULL) gets its text, good while ctx is, or NULL.
 */
int bh_ctx_cause(struct bh_ctx *ctx, const char **note);

/* bh_ctx_deadline_at -- whether there is a deadline; *at_ns gets it. */
bool bh_ctx_deadline_at(struct bh_ctx *ctx, int64_t *at_ns);

/* bh_ctx_value -- the nearest value under key, or NULL. */
void *bh_ctx_value(struct bh_ctx *ctx, const void *key);

struct bh_after;
/*
 * bh_ctx_after -- run fn(arg) on a goroutine of its own when ctx ends; at once if it has.
 * Owns: the handle, until bh_after_stop.
 */
struct bh_after *bh_ctx_after(struct bh_ctx *ctx, void (*fn)(void *arg), void *arg);
/*
 * bh_after_stop -- forget it.  Also when it has run: this frees the handle.
 * Returns: whether it prevented the run.  Does not wait for one under way.
 */
bool bh_after_stop(struct bh_after *a);

/* bh_ctx_sleep -- Returns: 0 after ns, or bh_ctx_err if ctx ended first. */
int bh_ctx_sleep(struct bh_ctx *ctx, int64_t ns);

#endif
