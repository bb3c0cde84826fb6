/*
 * safe.c -- goroutines whose panic is reported, handed over, and ends only them.
 *
 * Two containments, one inside the other: around fn, and around the callback
 * that is told of fn's panic.  What the callback does can so never be worse than
 * what it was told of.
 */

#include "contain.h"

#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/safe.h>

#include "cold.h"

/* A call's block up to this size is built on the caller's stack. */
enum { SMALL_CALL = 512 };

struct call {
    struct bh_ctx *ctx; /* one reference */
    bh_safe_fn    *fn;
    void         (*on_panic)(const struct bh_panic *p, void *arg);
    void          *on_panic_arg;
    _Alignas(16) unsigned char args[];
};

static void
hand_over(struct call *c, const struct bh_panic *p)
{
    BH_RECOVER(inner) {
        (void)inner; /* has been reported */
        return;
    }
    struct rt_contain contain = { "bh_go_safe, in on_panic", rt_g()->panics };
    BH_DEFER(rt_contain_report, &contain);
    c->on_panic(p, c->on_panic_arg);
}

static void
run(struct call *c)
{
    BH_RECOVER(p) {
        if (c->on_panic != NULL)
            hand_over(c, p);
        return;
    }
    struct rt_contain contain = { "bh_go_safe", rt_g()->panics };
    BH_DEFER(rt_contain_report, &contain);
    c->fn(c->ctx, c->args);
}

static void
call_main(void *args)
{
    struct call *c = args;

    BH_DEFER(bh_ctx_unref, c->ctx);
    if (bh_ctx_err(c->ctx) == 0)
        run(c);
}

/* What bh_go_safe gives back if bh_go panics. */
struct start {
    void          *heap;
    struct bh_ctx *ctx; /* NULL once the goroutine has it */
};

static void
start_end(struct start *st)
{
    free(st->heap);
    bh_ctx_unref(st->ctx);
}

void
bh_go_safe_start_(struct bh_ctx *ctx, const struct bh_safe_options *options, bh_safe_fn *fn,
                  const void *args, size_t size)
{
    _Alignas(16) unsigned char small[SMALL_CALL];
    struct call *c = (struct call *)(void *)small;
    struct start st = { NULL, NULL };

    BH_REQUIRE(ctx != NULL);
    BH_REQUIRE(fn != NULL);
    if (bh_ctx_err(ctx) != 0)
        return;
    st.ctx = bh_ctx_ref(ctx);
    BH_DEFER(start_end, &st);
    if (size > sizeof small - sizeof *c)
        c = st.heap = rt_malloc(sizeof *c + size);
    c->ctx = ctx;
    c->fn = fn;
    c->on_panic = options->on_panic;
    c->on_panic_arg = options->on_panic_arg;
    if (size != 0)
        memcpy(c->args, args, size);
    rt_go(&(struct bh_go_options){ .name = options->name, .stack_size = options->stack_size },
          call_main, c, sizeof *c + size, __builtin_return_address(0));
    st.ctx = NULL;
}
