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
#include "transfer.h"

/* A call's block up to this size is built on the caller's stack. */
enum { SMALL_CALL = 512 };

struct call {
    struct bh_ctx *ctx; /* one reference */
    bh_safe_fn    *fn;
    void         (*on_panic)(const struct bh_panic *p, void *arg);
    void          *on_panic_arg;
    struct bh_panic_ctx *transfer; /* one reference, or NULL */
    _Alignas(16) unsigned char args[];
};

static void
hand_over(struct call *c, const struct bh_panic *p)
{
    BH_RECOVER(inner) {
        (void)inner; /* has been reported */
        return;
    }
    struct rt_contain contain = { "bh_go_safe, in on_panic", rt_g()->panics, NULL };
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
    struct rt_contain contain = { "bh_go_safe", rt_g()->panics, c->transfer };
    BH_DEFER(rt_contain_report, &contain);
    c->fn(c->ctx, c->args);
}

static void
end_transfer(struct bh_panic_ctx *x)
{
    if (x != NULL)
        rt_transfer_end(x);
}

static void
call_main(void *args)
{
    struct call *c = args;

    BH_DEFER(end_transfer, c->transfer);
    BH_DEFER(bh_ctx_unref, c->ctx);
    if (bh_ctx_err(c->ctx) == 0)
        run(c);
}

/* What is given back if bh_go panics. */
struct start {
    void                *heap;
    struct bh_ctx       *ctx; /* NULL once the goroutine has it */
    struct bh_panic_ctx *transfer; /* with both references: the caller will not get its own */
};

static void
start_end(struct start *st)
{
    free(st->heap);
    bh_ctx_unref(st->ctx);
    bh_panic_ctx_unref(st->transfer);
    bh_panic_ctx_unref(st->transfer);
}

/* What both forms have in common; pc: what "created by" shows. */
struct order {
    struct bh_ctx                *ctx;
    const struct bh_safe_options *options;
    bh_safe_fn                   *fn;
    const void                   *args;
    size_t                        size;
    void                         *pc;
};

/* start -- transfer: NULL, or with a reference for the goroutine. */
static void
start(const struct order *o, struct bh_panic_ctx *transfer)
{
    _Alignas(16) unsigned char small[SMALL_CALL];
    struct call *c = (struct call *)(void *)small;
    struct start st = { NULL, bh_ctx_ref(o->ctx), transfer };
    BH_DEFER(start_end, &st);

    if (o->size > sizeof small - sizeof *c)
        c = st.heap = rt_malloc(sizeof *c + o->size);
    c->ctx = o->ctx;
    c->fn = o->fn;
    c->on_panic = o->options->on_panic;
    c->on_panic_arg = o->options->on_panic_arg;
    c->transfer = transfer;
    if (o->size != 0)
        memcpy(c->args, o->args, o->size);
    rt_go(&(struct bh_go_options){ .name = o->options->name,
                                   .stack_size = o->options->stack_size },
          call_main, c, sizeof *c + o->size, o->pc);
    st.ctx = NULL;
    st.transfer = NULL;
}

void
bh_go_safe_start_(struct bh_ctx *ctx, const struct bh_safe_options *options, bh_safe_fn *fn,
                  const void *args, size_t size)
{
    BH_REQUIRE(ctx != NULL);
    BH_REQUIRE(fn != NULL);
    if (bh_ctx_err(ctx) == 0)
        start(&(struct order){ ctx, options, fn, args, size, __builtin_return_address(0) }, NULL);
}

struct bh_panic_ctx *
bh_go_transfer_start_(struct bh_ctx *ctx, const struct bh_safe_options *options, bh_safe_fn *fn,
                      const void *args, size_t size)
{
    struct bh_panic_ctx *x;

    BH_REQUIRE(ctx != NULL);
    BH_REQUIRE(fn != NULL);
    x = rt_transfer_new();
    if (bh_ctx_err(ctx) == 0)
        start(&(struct order){ ctx, options, fn, args, size, __builtin_return_address(0) },
              bh_panic_ctx_ref(x));
    else
        rt_transfer_end(bh_panic_ctx_ref(x));
    return x;
}
