#ifndef BULKHEAD_GO_TRANSFER_H
#define BULKHEAD_GO_TRANSFER_H

/*
 * transfer.h -- the panic of a goroutine as a value that another one takes over.
 *
 *     struct bh_panic_ctx *child = bh_go_transfer(ctx, "indexer", build_index, &args);
 *
 *     BH_DEFER(bh_panic_ctx_unref, child);
 *     ...
 *     if (bh_panic_ctx_join(child)) {                (it panicked, and it is ours)
 *         use(bh_panic_ctx_text(child));
 *         bh_panic_ctx_handled(child);
 *     }
 *
 * One for each goroutine started so, whether it panics or not:
 *
 *     RUNNING ---ends---> CLEAN
 *             --panics--> UNHANDLED --claim, once--> CLAIMED --handled--> HANDLED
 *
 * poll and join claim: of all who ask, one is told, and the panic is its
 * responsibility.  A panic that is not HANDLED when the last reference goes, because
 * nobody asked or because the one who did went down itself, is reported as lost,
 * with the stack it was raised on: to the hook panic (CONTAINED, by "lost"), or on
 * descriptor 2.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include <bulkhead/go/safe.h>

struct bh_chan;
struct bh_ctx;
struct bh_panic;
struct bh_panic_ctx;

enum bh_panic_state {
    BH_PANIC_RUNNING,   /* the goroutine has not ended */
    BH_PANIC_CLEAN,     /* it ended without a panic, or never ran as ctx had ended */
    BH_PANIC_UNHANDLED,
    BH_PANIC_CLAIMED,
    BH_PANIC_HANDLED,
};

/*
 * bh_go_transfer(ctx, name, fn, args) -- bh_go_safe, with a panic of fn kept for whoever claims it.
 *
 * It is reported when it is lost only; hooks see it CONTAINED, by "transfer", where it happens.
 * Returns: the reference of the caller.
 * Panics: on a NULL ctx; where bh_go does.
 */
#define bh_go_transfer(ctx, name_, fn, ...)                                                    \
    bh_go_transfer_start_((ctx), &(struct bh_safe_options){ .name = (name_) }, (fn),           \
                          (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__))

/* bh_go_transfer_with(ctx, options, fn, args) -- the same with settings, on_panic among them. */
#define bh_go_transfer_with(ctx, options, fn, ...)                                             \
    bh_go_transfer_start_((ctx), (options), (fn), (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__))

/*
 * bh_panic_ctx_new -- a panic that a BH_RECOVER block has caught, for another goroutine to claim.
 *
 * Returns: UNHANDLED, with one reference; without a stack, as that is gone.
 * Panics:  without memory.
 */
struct bh_panic_ctx *bh_panic_ctx_new(const struct bh_panic *p);

/* bh_panic_ctx_ref -- Returns: x.  Unref: NULL is fine; the last one may report, see above. */
struct bh_panic_ctx *bh_panic_ctx_ref(struct bh_panic_ctx *x);
void                 bh_panic_ctx_unref(struct bh_panic_ctx *x);

/*
 * bh_panic_ctx_poll -- claim the panic, if there is one and nobody has.
 * Returns: whether the caller has it now.
 * Threads: any.
 */
bool bh_panic_ctx_poll(struct bh_panic_ctx *x);

/*
 * bh_panic_ctx_join -- wait for the goroutine to end, then poll.
 * Blocks: until it has ended, its deferred calls included.
 */
bool bh_panic_ctx_join(struct bh_panic_ctx *x);

/* bh_panic_ctx_done -- a channel closed when the goroutine has ended: for select.  Borrowed. */
struct bh_chan *bh_panic_ctx_done(const struct bh_panic_ctx *x);

/* bh_panic_ctx_handled -- the claimed panic has been dealt with.  Panics: if it is not claimed. */
void bh_panic_ctx_handled(struct bh_panic_ctx *x);

/*
 * bh_panic_ctx_raise -- go on with the claimed panic on this goroutine: same value, same serial.
 *
 * HANDLED from here on: whoever recovers it has it.  Panics: if it is not claimed.
 */
noreturn void bh_panic_ctx_raise(struct bh_panic_ctx *x);

enum bh_panic_state bh_panic_ctx_state(const struct bh_panic_ctx *x);

/*
 * What is known of the panic: good as long as the reference; NULL, 0 until it is UNHANDLED or more.
 *
 * _text   as bh_panic_text gave it on the panicking goroutine
 * _panic  kind, place, goroutine, serial.  A value that was not copied may be gone.
 * _stack  return addresses for bh_symbolize, innermost first; Returns: how many
 * _time   when it was raised, ns since 1970
 */
const char            *bh_panic_ctx_text(const struct bh_panic_ctx *x);
const struct bh_panic *bh_panic_ctx_panic(const struct bh_panic_ctx *x);
int                    bh_panic_ctx_stack(const struct bh_panic_ctx *x, const uintptr_t **pcs);
int64_t                bh_panic_ctx_time(const struct bh_panic_ctx *x);

/* ---- machinery; nothing below is API --------------------------------------------- */

struct bh_panic_ctx *bh_go_transfer_start_(struct bh_ctx *ctx,
                                           const struct bh_safe_options *options,
                                           bh_safe_fn *fn, const void *args, size_t size);

#endif
