/* transfer_test.c -- panics that another goroutine claims, and those that nobody does. */

#include "lifecycle.h"
#include "test.h"

#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/go/transfer.h>

struct child {
    struct bh_chan *go_on; /* waits for it to be closed, if not NULL */
    int             n;
};

__attribute__((noinline)) static void
raise_here(int n)
{
    bh_panic("boom %d", n);
}

static void
panicker(struct bh_ctx *ctx, void *args)
{
    const struct child *c = args;

    (void)ctx;
    if (c->go_on != NULL)
        (void)bh_recv(c->go_on, NULL);
    raise_here(c->n);
}

static void
worker(struct bh_ctx *ctx, void *args)
{
    const struct child *c = args;

    (void)ctx;
    if (c->go_on != NULL)
        (void)bh_recv(c->go_on, NULL);
}

static void
exiter(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    bh_goexit();
}

static struct bh_panic_ctx *
start(bh_safe_fn *fn, struct bh_chan *go_on, int n)
{
    return bh_go_transfer(bh_ctx_background(), "child", fn, &(struct child){ go_on, n });
}

/* ---- claiming -------------------------------------------------------------- */

TEST(transfer, child_that_returns_leaves_nothing_to_claim)
{
    struct bh_panic_ctx *x = start(worker, NULL, 0);
    const uintptr_t     *pcs;

    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(!bh_panic_ctx_join(x));
    EXPECT_EQ(bh_panic_ctx_state(x), BH_PANIC_CLEAN);
    EXPECT(bh_panic_ctx_text(x) == NULL);
    EXPECT(bh_panic_ctx_panic(x) == NULL);
    EXPECT_EQ(bh_panic_ctx_stack(x, &pcs), 0);
    EXPECT_EQ(bh_panic_ctx_time(x), 0);
}

TEST(transfer, join_gives_the_panic_with_where_it_came_from)
{
    struct bh_panic_ctx *x = start(panicker, NULL, 3);
    const uintptr_t     *pcs;
    struct bh_frame      frame;

    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(bh_panic_ctx_join(x));
    EXPECT_STR(bh_panic_ctx_text(x), "boom 3");
    EXPECT(bh_panic_ctx_panic(x)->goroutine != bh_id());
    EXPECT(bh_panic_ctx_panic(x)->serial > 0);
    EXPECT(bh_panic_ctx_panic(x)->outer == NULL);
    EXPECT(bh_panic_ctx_time(x) > INT64_C(1000000000) * BH_SECOND);
    EXPECT(bh_panic_ctx_stack(x, &pcs) >= 3);
    EXPECT(bh_symbolize(pcs[0], &frame, 1) > 0);
    EXPECT_STR(frame.function, "raise_here");
    EXPECT(bh_symbolize(pcs[1], &frame, 1) > 0);
    EXPECT_STR(frame.function, "panicker");
    bh_panic_ctx_handled(x);
    EXPECT_EQ(bh_panic_ctx_state(x), BH_PANIC_HANDLED);
}

static int *volatile nil;

__attribute__((noinline)) static void
fault_here(void)
{
    *nil = 1;
}

static void
faulter(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    fault_here();
}

TEST_REAL(transfer, stack_of_a_fault_begins_where_it_faulted)
{
    struct bh_panic_ctx *x = start(faulter, NULL, 0);
    const uintptr_t     *pcs;
    struct bh_frame      frame;

    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(bh_panic_ctx_join(x));
    EXPECT(bh_panic_ctx_panic(x)->signal != 0);
    EXPECT(bh_panic_ctx_stack(x, &pcs) >= 3);
    EXPECT(bh_symbolize(pcs[0], &frame, 1) > 0);
    EXPECT_STR(frame.function, "fault_here");
    bh_panic_ctx_handled(x);
}

TEST(transfer, poll_claims_once_and_not_before_the_end)
{
    struct bh_chan      *go_on = bh_chan_new(0, 0);
    struct bh_panic_ctx *x = start(panicker, go_on, 1);

    BH_DEFER(bh_chan_unref, go_on);
    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(!bh_panic_ctx_poll(x));
    EXPECT_EQ(bh_panic_ctx_state(x), BH_PANIC_RUNNING);
    EXPECT(bh_panic_ctx_text(x) == NULL);
    bh_close(go_on);
    (void)bh_recv(bh_panic_ctx_done(x), NULL);
    EXPECT_EQ(bh_panic_ctx_state(x), BH_PANIC_UNHANDLED);
    EXPECT(bh_panic_ctx_poll(x));
    EXPECT(!bh_panic_ctx_poll(x));
    EXPECT(!bh_panic_ctx_join(x));
    bh_panic_ctx_handled(x);
    EXPECT(!bh_panic_ctx_poll(x));
}

TEST(transfer, goexit_is_not_a_panic)
{
    struct bh_panic_ctx *x = start(exiter, NULL, 0);

    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(!bh_panic_ctx_join(x));
    EXPECT_EQ(bh_panic_ctx_state(x), BH_PANIC_CLEAN);
}

TEST(transfer, child_of_an_ended_context_is_not_run)
{
    struct bh_ctx *ctx = bh_ctx_cancellable(bh_ctx_background());

    BH_DEFER(bh_ctx_unref, ctx);
    bh_ctx_cancel(ctx);
    struct bh_panic_ctx *x = bh_go_transfer(ctx, "child", panicker, &(struct child){ NULL, 1 });
    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(!bh_panic_ctx_join(x));
    EXPECT_EQ(bh_panic_ctx_state(x), BH_PANIC_CLEAN);
}

TEST(transfer, handled_needs_a_claim)
{
    struct bh_panic_ctx *x = start(panicker, NULL, 1);

    BH_DEFER(bh_panic_ctx_unref, x);
    (void)bh_recv(bh_panic_ctx_done(x), NULL);
    EXPECT_PANIC("bh_panic_ctx_handled: the panic is not claimed", bh_panic_ctx_handled(x));
    EXPECT(bh_panic_ctx_join(x));
    bh_panic_ctx_handled(x);
    EXPECT_PANIC("bh_panic_ctx_handled: the panic is not claimed", bh_panic_ctx_handled(x));
}

static uint64_t
serial_when_raised(struct bh_panic_ctx *x)
{
    BH_RECOVER(p) {
        EXPECT_STR(bh_panic_text(p), "boom 5");
        EXPECT_EQ(p->goroutine, bh_id());
        return p->serial;
    }
    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(bh_panic_ctx_join(x));
    bh_panic_ctx_raise(x);
}

TEST(transfer, raise_goes_on_with_it_here)
{
    struct bh_panic_ctx *x = start(panicker, NULL, 5);
    uint64_t             serial = serial_when_raised(bh_panic_ctx_ref(x));

    EXPECT_EQ(serial, bh_panic_ctx_panic(x)->serial);
    EXPECT_EQ(bh_panic_ctx_state(x), BH_PANIC_HANDLED);
    bh_panic_ctx_unref(x);
}

static struct bh_panic_ctx *catch (int n)
{
    BH_RECOVER(p) {
        return bh_panic_ctx_new(p);
    }
    raise_here(n);
    return NULL;
}

TEST(transfer, caught_panic_can_be_handed_on)
{
    struct bh_panic_ctx *x = catch (4);
    const uintptr_t     *pcs;

    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(bh_panic_ctx_join(x));
    EXPECT_STR(bh_panic_ctx_text(x), "boom 4");
    EXPECT_EQ(bh_panic_ctx_stack(x, &pcs), 0);
    bh_panic_ctx_handled(x);
}

static const char *
panicking_text(const void *value)
{
    (void)value;
    bh_panic("no text");
}

static void
nasty(struct bh_ctx *ctx, void *args)
{
    static const struct bh_kind kind = { .name = "main.nasty", .error = panicking_text };

    (void)ctx;
    (void)args;
    bh_panic_value(&kind, NULL);
}

TEST(transfer, survives_a_value_whose_text_panics)
{
    struct bh_panic_ctx *x = start(nasty, NULL, 0);

    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(bh_panic_ctx_join(x));
    EXPECT_STR(bh_panic_ctx_text(x), "(its text panicked: no text)");
    bh_panic_ctx_handled(x);
}

static void
count_panic(const struct bh_panic *p, void *arg)
{
    (void)p;
    ++*(int *)arg;
}

TEST(transfer, tells_on_panic_before_it_is_done)
{
    int                  told = 0;
    struct bh_panic_ctx *x = bh_go_transfer_with(
        bh_ctx_background(),
        (&(struct bh_safe_options){ .on_panic = count_panic, .on_panic_arg = &told }), panicker,
        &(struct child){ NULL, 1 });

    BH_DEFER(bh_panic_ctx_unref, x);
    EXPECT(bh_panic_ctx_join(x));
    EXPECT_EQ(told, 1);
    bh_panic_ctx_handled(x);
}

/* ---- lost ------------------------------------------------------------------ */

static void
lose(struct bh_panic_ctx *x)
{
    (void)bh_recv(bh_panic_ctx_done(x), NULL);
    bh_panic_ctx_unref(x);
}

TEST_DIES(lost, panic_is_reported_by_the_last_reference, 7,
          "panic: boom 6 [lost: nobody handled it]")
{
    lose(start(panicker, NULL, 6));
    bh_yield();
    bh_exit(7);
}

TEST_DIES(lost, panic_is_reported_with_its_stack, 7, "raise_here(...)")
{
    lose(start(panicker, NULL, 6));
    bh_yield();
    bh_exit(7);
}

TEST_DIES(lost, panic_claimed_but_not_handled_is_reported, 7,
          "panic: boom 8 [lost: nobody handled it]")
{
    struct bh_panic_ctx *x = start(panicker, NULL, 8);

    EXPECT(bh_panic_ctx_join(x));
    bh_panic_ctx_unref(x);
    bh_yield();
    bh_exit(7);
}

static char        lost_text[64];
static int         lost_depth;
static _Atomic int lost_count, contained_count;

static void
watch(const struct bh_panic_event *e)
{
    if (e->step != BH_PANIC_CONTAINED)
        return;
    if (strcmp(e->by, "lost") != 0) {
        EXPECT_STR(e->by, "transfer");
        contained_count++;
        return;
    }
    if (lost_count++ != 0)
        return;
    (void)snprintf(lost_text, sizeof lost_text, "%s", bh_panic_text(e->panic));
    lost_depth = e->depth;
}

static void *
unref_thread(void *x)
{
    bh_panic_ctx_unref(x);
    return NULL;
}

static void
lose_on_a_thread(void *unused)
{
    struct bh_panic_ctx *x = start(panicker, NULL, 9);
    pthread_t            thread;

    (void)unused;
    (void)bh_recv(bh_panic_ctx_done(x), NULL);
    while (bh_goroutine_count() > 1) /* the child's reference is gone then */
        bh_yield();
    EXPECT_EQ(pthread_create(&thread, NULL, unref_thread, x), 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(lost_count, 1);
}

TEST_PLAIN(lost, panic_is_told_to_the_hook_from_any_thread)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = watch });
    EXPECT_EQ(bh_main(lose_on_a_thread, NULL), 0);
    EXPECT_STR(lost_text, "boom 9");
    EXPECT(lost_depth >= 3);
    EXPECT_EQ(contained_count, 1);
}

static void
fail_on_lost(const struct bh_panic_event *e)
{
    if (e->step == BH_PANIC_CONTAINED && strcmp(e->by, "lost") == 0)
        bh_panic("the hook's own");
}

static void
lose_one(void *unused)
{
    (void)unused;
    lose(start(panicker, NULL, 2));
    while (bh_goroutine_count() > 1)
        bh_yield();
}

TEST_PLAIN(lost, panic_is_written_if_the_hook_fails)
{
    int     fds[2];
    char    text[256] = "";
    ssize_t length;

    EXPECT_EQ(pipe(fds), 0);
    EXPECT_EQ(dup2(fds[1], STDERR_FILENO), STDERR_FILENO);
    bh_set_hooks(&(struct bh_hooks){ .panic = fail_on_lost });
    EXPECT_EQ(bh_main(lose_one, NULL), 0);
    length = read(fds[0], text, sizeof text - 1);
    EXPECT(length > 0);
    EXPECT(strstr(text, "panic: boom 2 [lost: nobody handled it]") != NULL);
    close(fds[0]);
    close(fds[1]);
}

/* ---- groups ----------------------------------------------------------------- */

static int
member(struct bh_ctx *ctx, void *args)
{
    panicker(ctx, args);
    return 0;
}

static void
start_group(struct bh_group *g)
{
    bh_group_init(g, bh_ctx_background());
    bh_group_set_flags(g, BH_GROUP_TRANSFER);
}

TEST(group, hands_its_first_panic_to_the_waiter)
{
    struct bh_group  g;
    const uintptr_t *pcs;

    start_group(&g);
    BH_DEFER(bh_group_join, &g);
    bh_group_go(&g, member, &(struct child){ NULL, 1 });
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC);
    EXPECT(bh_panic_ctx_poll(g.panic));
    EXPECT_STR(bh_panic_ctx_text(g.panic), "boom 1");
    EXPECT(bh_panic_ctx_stack(g.panic, &pcs) >= 3);
    bh_panic_ctx_handled(g.panic);
}

TEST(group, without_a_panic_has_none_to_claim)
{
    struct bh_group g;

    start_group(&g);
    EXPECT_EQ(bh_group_wait(&g), 0);
    EXPECT(!bh_panic_ctx_poll(g.panic));
    bh_group_join(&g);
    EXPECT(g.panic == NULL);
}

TEST_DIES(group, panic_that_the_waiter_ignores_is_lost, 7,
          "panic: boom 1 [lost: nobody handled it]")
{
    struct bh_group g;

    start_group(&g);
    bh_group_go(&g, member, &(struct child){ NULL, 1 });
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC);
    bh_group_join(&g);
    bh_exit(7);
}

TEST_DIES(group, second_panic_is_reported_where_it_happens, 7,
          "panic: boom 2 [contained by its group]")
{
    struct bh_group g;
    struct bh_chan *go_on = bh_chan_new(0, 0);

    start_group(&g);
    bh_group_go(&g, member, &(struct child){ NULL, 1 });
    bh_group_go(&g, member, &(struct child){ go_on, 2 });
    (void)bh_recv(bh_ctx_done(g.ctx), NULL); /* the first has failed the group */
    bh_close(go_on);
    EXPECT_EQ(bh_group_wait(&g), BH_EPANIC);
    EXPECT(bh_panic_ctx_poll(g.panic));
    EXPECT_STR(bh_panic_ctx_text(g.panic), "boom 1");
    bh_panic_ctx_handled(g.panic);
    bh_group_join(&g);
    bh_exit(7);
}

/* ---- from many goroutines --------------------------------------------------- */

enum { ROUNDS = 60, CLAIMERS = 6 };

struct round {
    struct bh_panic_ctx *x;
    int                  number;
};

static _Atomic int claims[ROUNDS], handled_count;

/* Each holds a reference.  Every third round nobody asks; every other winner does not handle. */
static int
claimer(struct bh_ctx *ctx, void *args)
{
    const struct round *r = args;

    (void)ctx;
    BH_DEFER(bh_panic_ctx_unref, r->x);
    if (r->number % 3 == 0)
        return 0;
    bool mine = r->number % 2 == 0 ? bh_panic_ctx_join(r->x) : bh_panic_ctx_poll(r->x);
    bh_yield();
    if (!mine)
        return 0;
    claims[r->number]++;
    if (r->number % 4 != 0) {
        bh_panic_ctx_handled(r->x);
        handled_count++;
    }
    return 0;
}

static void
hammer(void *unused)
{
    struct bh_group g;

    (void)unused;
    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    for (int i = 0; i < ROUNDS; i++) {
        struct bh_panic_ctx *x = start(panicker, NULL, i);

        for (int k = 0; k < CLAIMERS; k++)
            bh_group_go(&g, claimer, &(struct round){ bh_panic_ctx_ref(x), i });
        bh_panic_ctx_unref(x);
    }
    EXPECT_EQ(bh_group_wait(&g), 0);
    while (bh_goroutine_count() > 1)
        bh_yield();
    for (int i = 0; i < ROUNDS; i++) {
        EXPECT(claims[i] <= 1);
        if (i % 3 == 0)
            EXPECT_EQ(claims[i], 0);
        else if (i % 2 == 0)
            EXPECT_EQ(claims[i], 1);
    }
    /* What was not handled was lost, each once. */
    EXPECT_EQ(contained_count, ROUNDS);
    EXPECT_EQ(lost_count + handled_count, ROUNDS);
    EXPECT(lost_count >= ROUNDS / 3);
    EXPECT(handled_count > 0);
}

static void
run_hammer(const struct bh_options *options)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = watch });
    EXPECT_EQ(bh_main_with(options, hammer, NULL), 0);
}

TEST_PLAIN(hammer, claims_once_or_loses_once_on_the_real_scheduler)
{
    run_hammer(NULL);
}

#define HAMMER_SEED(seed_)                                                                     \
    TEST_PLAIN(hammer, claims_once_or_loses_once_with_seed_##seed_)                            \
    {                                                                                          \
        run_hammer(&(struct bh_options){ .simulate = true, .seed = (seed_) });                 \
    }
HAMMER_SEED(1)
HAMMER_SEED(2)
HAMMER_SEED(3)
HAMMER_SEED(4)
HAMMER_SEED(5)
