/* safe_test.c -- safe goroutines. */

#include "test.h"

#include <stdatomic.h>
#include <stdio.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/safe.h>
#include <bulkhead/go/timer.h>

#define HOUR (3600 * BH_SECOND)

struct work {
    struct bh_chan *done;
    int             n;
};

static void
send_n(struct bh_ctx *ctx, void *args)
{
    struct work *w = args;

    EXPECT_EQ(bh_ctx_err(ctx), 0);
    bh_send(w->done, &(int){ w->n });
}

static void
send_name_length(struct bh_ctx *ctx, void *args)
{
    struct work *w = args;

    (void)ctx;
    bh_send(w->done, &(int){ (int)strlen(bh_name()) });
}

static void
wait_for_end(struct bh_ctx *ctx, void *args)
{
    struct work *w = args;

    bh_send(w->done, &(int){ bh_ctx_sleep(ctx, HOUR) });
}

static void
panicker(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    bh_panic("boom %d", ((struct work *)args)->n);
}

static void
exiter(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    bh_goexit();
}

/* told -- an on_panic that sends what it was told. */
struct told {
    struct bh_chan *done;
    char            text[64];
    uint64_t        on;
};

static void
tell(const struct bh_panic *p, void *arg)
{
    struct told *t = arg;

    snprintf(t->text, sizeof t->text, "%s", bh_panic_text(p));
    t->on = bh_id();
    EXPECT_EQ(p->goroutine, t->on);
    bh_send(t->done, &(int){ 1 });
}

TEST(safe, runs_fn_with_its_arguments_and_context)
{
    struct bh_chan *done = BH_CHAN(int, 0);
    int             n = 0;

    bh_go_safe(bh_ctx_background(), "worker", send_n, &(struct work){ done, 42 });
    bh_recv(done, &n);
    EXPECT_EQ(n, 42);
    bh_chan_unref(done);
}

TEST(safe, names_the_goroutine)
{
    struct bh_chan *done = BH_CHAN(int, 0);
    int             n = 0;

    bh_go_safe(bh_ctx_background(), "mailer", send_name_length, &(struct work){ done, 0 });
    bh_recv(done, &n);
    EXPECT_EQ(n, 6);
    bh_set_name("parent's");
    bh_go_safe(bh_ctx_background(), NULL, send_name_length, &(struct work){ done, 0 });
    bh_recv(done, &n);
    EXPECT_EQ(n, 8);
    bh_chan_unref(done);
}

TEST(safe, the_contexts_end_can_be_seen_inside)
{
    struct bh_chan *done = BH_CHAN(int, 0);
    struct bh_ctx  *ctx = bh_ctx_cancellable(bh_ctx_background());
    int             err = 0;

    bh_go_safe(ctx, "w", wait_for_end, &(struct work){ done, 0 });
    bh_yield();
    bh_yield();
    bh_ctx_end(ctx); /* our reference: the goroutine has its own */
    while (!bh_try_recv(done, &err, NULL) && bh_goroutine_count() > 1)
        bh_yield();
    EXPECT(err == BH_ECANCELED || err == 0); /* 0: ended before it first ran */
    bh_chan_unref(done);
}

TEST(safe, does_not_run_under_an_ended_context)
{
    struct bh_ctx *ctx = bh_ctx_cancellable(bh_ctx_background());

    bh_ctx_cancel(ctx);
    bh_go_safe(ctx, "w", panicker, &(struct work){ NULL, 1 });
    EXPECT_EQ(bh_goroutine_count(), 1);
    bh_ctx_end(ctx);
}

static void
expect_live(struct bh_ctx *ctx, void *args)
{
    EXPECT_EQ(bh_ctx_err(ctx), 0);
    atomic_fetch_add(*(_Atomic int **)args, 1);
}

TEST_SIM(safe, does_not_run_if_the_context_ends_before_it_starts)
{
    _Atomic int ran = 0, *arg = &ran;

    for (int i = 0; i < 200; i++) {
        struct bh_ctx *ctx = bh_ctx_cancellable(bh_ctx_background());

        bh_go_safe(ctx, "w", expect_live, &arg);
        bh_ctx_end(ctx);
        while (bh_goroutine_count() > 1)
            bh_yield();
    }
    EXPECT(ran < 200); /* every seed has some that were too late */
}

TEST(safe, a_panic_is_handed_to_on_panic)
{
    struct told t = { BH_CHAN(int, 0), "", 0 };

    bh_go_safe_with(bh_ctx_background(),
                    (&(struct bh_safe_options){ .on_panic = tell, .on_panic_arg = &t }), panicker,
                    &(struct work){ NULL, 7 });
    bh_recv(t.done, NULL);
    EXPECT_STR(t.text, "boom 7");
    EXPECT(t.on != bh_id());
    bh_chan_unref(t.done);
}

TEST(safe, a_panic_without_a_callback_ends_only_its_goroutine)
{
    bh_go_safe(bh_ctx_background(), "w", panicker, &(struct work){ NULL, 7 });
    while (bh_goroutine_count() > 1)
        bh_yield();
}

TEST(safe, an_exit_is_no_panic)
{
    struct told t = { NULL, "", 0 };

    bh_go_safe_with(bh_ctx_background(),
                    (&(struct bh_safe_options){ .on_panic = tell, .on_panic_arg = &t }), exiter,
                    NULL);
    while (bh_goroutine_count() > 1)
        bh_yield();
    EXPECT_STR(t.text, "");
}

static void
panicking_callback(const struct bh_panic *p, void *arg)
{
    (void)p;
    atomic_fetch_add((_Atomic int *)arg, 1);
    bh_panic("callback of %s", bh_panic_text(p));
}

TEST(safe, a_panic_in_on_panic_is_contained)
{
    _Atomic int called = 0;

    bh_go_safe_with(
        bh_ctx_background(),
        (&(struct bh_safe_options){ .on_panic = panicking_callback, .on_panic_arg = &called }),
        panicker, &(struct work){ NULL, 7 });
    while (bh_goroutine_count() > 1)
        bh_yield();
    EXPECT_EQ(called, 1);
}

TEST_DIES(safe, both_panics_are_reported, 7,
          "panic: callback of boom 7 [contained by bh_go_safe, in on_panic]")
{
    _Atomic int called = 0;

    bh_go_safe_with(
        bh_ctx_background(),
        (&(struct bh_safe_options){ .on_panic = panicking_callback, .on_panic_arg = &called }),
        panicker, &(struct work){ NULL, 7 });
    while (bh_goroutine_count() > 1)
        bh_yield();
    bh_exit(7);
}

TEST_DIES(safe, a_panic_is_reported_with_its_goroutine, 7,
          "panic: boom 7 [contained by bh_go_safe]\n\ngoroutine ")
{
    bh_go_safe(bh_ctx_background(), "w", panicker, &(struct work){ NULL, 7 });
    while (bh_goroutine_count() > 1)
        bh_yield();
    bh_exit(7);
}

static bool
go_safe_panics(struct bh_ctx *ctx, bh_safe_fn *fn)
{
    BH_RECOVER(p) {
        return p->line != 0;
    }
    bh_go_safe(ctx, "w", fn, NULL);
    return false;
}

TEST(safe, misuse_panics_in_the_spawner)
{
    EXPECT(go_safe_panics(NULL, exiter));
    EXPECT(go_safe_panics(bh_ctx_background(), NULL));
    EXPECT_EQ(bh_goroutine_count(), 1);
}
