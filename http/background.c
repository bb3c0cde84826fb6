/*
 * background.c -- goroutines that belong to a request but not to its reply.
 *
 * Each holds a reference to the call, so the request's memory and context stay; and
 * has its own copy of the public part with its own arena, so that two goroutines
 * never allocate from one.  A panic is kept as a report, like a handler's, and nothing is
 * printed: looking up names costs milliseconds, and clients may be able to cause many.
 * The whole is released by a deferred call, which can't fail, behind fn's own and the
 * report, however fn ended.
 */

#include "ht.h"

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
background_panicked(struct background *b, const struct bh_panic *p)
{
    atomic_fetch_add_explicit(&b->x->s->panics, 1, memory_order_relaxed);
    ht_report(b->x->s, b->x, p, &b->caught, "background", "contained");
}

static void
run_noting(struct background *b)
{
    BH_DEFER(ht_note_stack, &b->caught);
    if (bh_ctx_err(b->x->work_ctx) == 0)
        b->fn(&b->view, b->args);
    b->caught.done = true;
}

static void
run_guarded(struct background *b)
{
    BH_RECOVER(p) {
        background_panicked(b, p);
        return;
    }
    run_noting(b);
}

static void
background_main(void *args)
{
    struct background *b = *(struct background **)args;

    BH_DEFER(background_end, b);
    run_guarded(b);
}

static void
start(struct background *b, const char *name)
{
    BH_RECOVER(p) {
        background_end(b);
        bh_repanic(p); /* no goroutine can be had: the handler's panic */
    }
    bh_go_with((&(struct bh_go_options){ .name = name, .stack_size = b->x->s->o.stack_size }),
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
