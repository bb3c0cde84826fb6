#ifndef BULKHEAD_GO_SAFE_H
#define BULKHEAD_GO_SAFE_H

/*
 * safe.h -- goroutines whose panic is reported, handed over, and ends only them.
 *
 *     bh_go_safe(ctx, "mailer", send_mail, &(struct mail){ .to = address });
 *
 * For work that outlives its caller and that nobody waits for; where someone
 * waits, use a group (group.h).
 */

#include <stddef.h>

#include <bulkhead/go/go.h>

struct bh_ctx;
struct bh_panic;

/* What runs.  ctx: the one passed to bh_go_safe, good until fn returns; watch it. */
typedef void bh_safe_fn(struct bh_ctx *ctx, void *args);

struct bh_safe_options {
    const char *name;       /* of the goroutine; copied; NULL inherits */
    size_t      stack_size; /* as in bh_go_options */
    /*
     * Called on the goroutine with the panic that ended fn, after its deferred
     * calls and after the report.  p is good until it returns.  A panic in here is
     * reported as that, and contained too.
     */
    void (*on_panic)(const struct bh_panic *p, void *arg);
    void  *on_panic_arg;
};

/*
 * bh_go_safe(ctx, name, fn, args) -- bh_go, with a panic of fn contained.
 *
 * The panic is reported at once, with the stack it was raised on: to the hook
 * panic (CONTAINED), or on descriptor 2.  If ctx has ended before the goroutine first
 * runs, fn is not called.
 *
 * Owns:   *args is copied, as in bh_go; a reference on ctx is held meanwhile.
 * Panics: on a NULL ctx; where bh_go does.
 */
#define bh_go_safe(ctx, name_, fn, ...)                                                        \
    bh_go_safe_start_((ctx), &(struct bh_safe_options){ .name = (name_) }, (fn),               \
                      (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__))

/* bh_go_safe_with(ctx, options, fn, args) -- the same with settings, which are copied. */
#define bh_go_safe_with(ctx, options, fn, ...)                                                 \
    bh_go_safe_start_((ctx), (options), (fn), (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__))

/* ---- machinery; nothing below is API --------------------------------------------- */

void bh_go_safe_start_(struct bh_ctx *ctx, const struct bh_safe_options *options, bh_safe_fn *fn,
                       const void *args, size_t size);

#endif
