/*
 * background.c -- goroutines that belong to a request but not to its reply.
 *
 * Each holds a reference to the call, so the request's memory and context stay; and
 * has its own copy of the public part with its own arena, so that two goroutines
 * never allocate from one.  bh_go_safe contains a panic; what is added here is
 * whose panic it was.  The goroutine owns the whole (bh_own), so it is released
 * after fn's deferred calls and the report, however fn ended.
 */

#include "ht.h"

#include <bulkhead/go/own.h>
#include <bulkhead/go/safe.h>

struct background {
    struct ht_call     *x;
    struct bh_http_call view;
    bh_http_go_fn      *fn;
    void               *args;
    struct ht_caught    caught;
};

static void
background_end(void *arg)
{
    struct background     *b = arg;
    struct ht_call        *x = b->x;
    struct bh_http_server *s = x->s;

    bh_arena_free(b->view.arena); /* b lives in it */
    ht_call_unref(x);
    ht_server_background_ended(s);
}

static void
background_panicked(const struct bh_panic *p, void *arg)
{
    struct background *b = arg;

    atomic_fetch_add_explicit(&b->x->s->panics, 1, memory_order_relaxed);
    ht_report(b->x->s, b->x, p, &b->caught, "background", "contained");
}

static void
background_main(struct bh_ctx *ctx, void *args)
{
    struct background *b = *(struct background **)args;

    (void)ctx; /* never ends: b must be released even if the request's has */
    bh_own(background_end, b);
    BH_DEFER(ht_note_stack, &b->caught);
    if (bh_ctx_err(b->x->work_ctx) == 0)
        b->fn(&b->view, b->args);
    b->caught.done = true;
}

static void
start(struct background *b, const char *name)
{
    BH_RECOVER(p) {
        background_end(b);
        bh_repanic(p); /* no goroutine can be had: the handler's panic */
    }
    bh_go_safe_with(bh_ctx_background(),
                    (&(struct bh_safe_options){ .name = name,
                                                .stack_size = b->x->s->o.stack_size,
                                                .on_panic = background_panicked,
                                                .on_panic_arg = b }),
                    background_main, &b);
}

void
bh_http_go_start_(struct bh_http_call *c, const char *name, bh_http_go_fn *fn, const void *args,
                  size_t size)
{
    struct ht_call    *x = c->s;
    struct bh_arena   *arena;
    struct background *b;

    BH_REQUIRE(fn != NULL);
    if (x->work_ctx == NULL) /* else a background goroutine starts another */
        x->work_ctx = bh_ctx_cancellable(x->s->ctx);
    arena = bh_arena_new(x->s->o.max_memory);
    b = bh_arena_alloc(arena, sizeof *b);
    b->x = x;
    b->view = *c;
    b->view.arena = arena;
    b->fn = fn;
    b->args = size > 0 ? bh_arena_copy(arena, args, size) : NULL;
    atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
    atomic_fetch_add(&x->s->background, 1);
    start(b, name);
}
