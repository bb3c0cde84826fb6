/* ctx_test.c -- contexts: ends, causes, deadlines, values, after-funcs, and their races. */

#include "test.h"

#include <errno.h>

#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#else
#define RUNNING_ON_VALGRIND 0
#endif

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

#include "ctx.h"

#define HOUR (3600 * BH_SECOND)

static bool
is_closed(struct bh_chan *c)
{
    bool ok = true;

    return bh_try_recv(c, (char *)NULL, &ok) && !ok;
}

/* ---- the background ------------------------------------------------------ */

TEST(ctx, background_never_ends)
{
    struct bh_ctx *bg = bh_ctx_background();
    int64_t        at = 77;

    EXPECT(bg == bh_ctx_background());
    EXPECT_EQ(bh_ctx_err(bg), 0);
    EXPECT_EQ(bh_ctx_cause(bg, NULL), 0);
    EXPECT(bh_ctx_done(bg) == NULL);
    EXPECT(!bh_ctx_deadline_at(bg, &at));
    EXPECT_EQ(at, 77);
    EXPECT(bh_ctx_value(bg, &at) == NULL);
    EXPECT(bh_ctx_ref(bg) == bg);
    for (int i = 0; i < 10; i++)
        bh_ctx_unref(bg);
    bh_ctx_end(bg);
    EXPECT_EQ(bh_ctx_err(bg), 0);
}

/* ---- cancelling ---------------------------------------------------------- */

TEST(ctx, cancel_ends_it_once_and_for_ever)
{
    struct bh_ctx *c = bh_ctx_cancellable(bh_ctx_background());

    BH_DEFER(bh_ctx_end, c);
    EXPECT_EQ(bh_ctx_err(c), 0);
    EXPECT(!is_closed(bh_ctx_done(c)));
    bh_ctx_cancel(c);
    EXPECT_EQ(bh_ctx_err(c), BH_ECANCELED);
    EXPECT(is_closed(bh_ctx_done(c)));
    bh_ctx_cancel(c);
    bh_ctx_cancel_cause(c, -EIO, "too late");
    EXPECT_EQ(bh_ctx_err(c), BH_ECANCELED);
    EXPECT_EQ(bh_ctx_cause(c, NULL), BH_ECANCELED);
    EXPECT_STR(bh_error_text(bh_ctx_err(c)), "context canceled");
}

TEST(ctx, done_asked_for_after_the_end_is_closed)
{
    struct bh_ctx *c = bh_ctx_cancellable(bh_ctx_background());

    BH_DEFER(bh_ctx_end, c);
    bh_ctx_cancel(c);
    struct bh_chan *done = bh_ctx_done(c);
    EXPECT(is_closed(done));
    EXPECT(bh_ctx_done(c) == done);
}

TEST(ctx, children_have_ended_when_cancel_returns)
{
    struct bh_ctx *root = bh_ctx_cancellable(bh_ctx_background());
    struct bh_ctx *child[3], *grandchild[3];
    static int     key;

    for (int i = 0; i < 3; i++) {
        child[i] = i == 1 ? bh_ctx_with_value(root, &key, &key) : bh_ctx_timeout(root, HOUR);
        grandchild[i] = bh_ctx_cancellable(child[i]);
        (void)bh_ctx_done(grandchild[i]);
    }
    bh_ctx_cancel(root);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(bh_ctx_err(child[i]), BH_ECANCELED);
        EXPECT_EQ(bh_ctx_err(grandchild[i]), BH_ECANCELED);
        EXPECT(is_closed(bh_ctx_done(child[i])));
        EXPECT(is_closed(bh_ctx_done(grandchild[i])));
    }
    for (int i = 0; i < 3; i++) {
        bh_ctx_end(grandchild[i]);
        bh_ctx_end(child[i]);
    }
    bh_ctx_end(root);
}

TEST(ctx, cancelling_a_child_leaves_parent_and_siblings)
{
    struct bh_ctx *root = bh_ctx_cancellable(bh_ctx_background());
    struct bh_ctx *a = bh_ctx_cancellable(root), *b = bh_ctx_cancellable(root);

    bh_ctx_cancel(a);
    EXPECT_EQ(bh_ctx_err(a), BH_ECANCELED);
    EXPECT_EQ(bh_ctx_err(b), 0);
    EXPECT_EQ(bh_ctx_err(root), 0);
    bh_ctx_end(b);
    EXPECT_EQ(bh_ctx_err(root), 0);
    bh_ctx_end(a);
    bh_ctx_end(root);
}

TEST(ctx, child_of_an_ended_parent_is_born_ended)
{
    struct bh_ctx *root = bh_ctx_cancellable(bh_ctx_background());
    const char    *note;

    bh_ctx_cancel_cause(root, -EIO, "disk gone");
    struct bh_ctx *child = bh_ctx_cancellable(root), *timed = bh_ctx_timeout(root, HOUR);
    EXPECT_EQ(bh_ctx_err(child), BH_ECANCELED);
    EXPECT_EQ(bh_ctx_cause(child, &note), -EIO);
    EXPECT_STR(note, "disk gone");
    EXPECT(is_closed(bh_ctx_done(child)));
    EXPECT_EQ(bh_ctx_err(timed), BH_ECANCELED);
    bh_ctx_end(timed);
    bh_ctx_end(child);
    bh_ctx_end(root);
}

TEST(ctx, a_deep_chain_ends_without_recursion)
{
    enum { DEPTH = 50000 };
    struct bh_ctx *root = bh_ctx_cancellable(bh_ctx_background()), *c = root;

    for (int i = 0; i < DEPTH; i++) {
        struct bh_ctx *child = bh_ctx_cancellable(c);
        if (c != root)
            bh_ctx_unref(c);
        c = child;
    }
    bh_ctx_cancel(root);
    EXPECT_EQ(bh_ctx_err(c), BH_ECANCELED);
    bh_ctx_unref(root);
    bh_ctx_unref(c); /* the last reference to all of them */
}

struct waiter {
    struct bh_ctx  *ctx;
    struct bh_chan *woken;
};

static void
wait_for_end(void *args)
{
    struct waiter *w = args;

    bh_recv(bh_ctx_done(w->ctx), NULL);
    bh_send(w->woken, &(int){ bh_ctx_err(w->ctx) });
}

TEST(ctx, cancel_wakes_everyone_who_waits)
{
    enum { COUNT = 20 };
    struct bh_ctx  *root = bh_ctx_cancellable(bh_ctx_background());
    struct bh_chan *woken = BH_CHAN(int, COUNT);

    for (int i = 0; i < COUNT; i++)
        bh_go(wait_for_end, &(struct waiter){ root, woken });
    bh_yield();
    EXPECT_EQ(bh_chan_len(woken), 0);
    bh_ctx_cancel(root);
    for (int i = 0; i < COUNT; i++) {
        int err = 0;
        bh_recv(woken, &err);
        EXPECT_EQ(err, BH_ECANCELED);
    }
    bh_chan_unref(woken);
    bh_ctx_end(root);
}

/* ---- causes -------------------------------------------------------------- */

TEST(ctx, the_first_cause_stays_and_err_is_still_canceled)
{
    struct bh_ctx *root = bh_ctx_cancellable(bh_ctx_background());
    struct bh_ctx *child = bh_ctx_cancellable(root);
    char           text[] = "first";
    const char    *note = "untouched?";

    EXPECT_EQ(bh_ctx_cause(root, &note), 0);
    EXPECT_STR(note, NULL);
    bh_ctx_cancel_cause(child, -ENOENT, text);
    text[0] = 'X';
    bh_ctx_cancel_cause(root, -EIO, "second");
    EXPECT_EQ(bh_ctx_err(child), BH_ECANCELED);
    EXPECT_EQ(bh_ctx_cause(child, &note), -ENOENT);
    EXPECT_STR(note, "first");
    EXPECT_EQ(bh_ctx_cause(root, &note), -EIO);
    EXPECT_STR(note, "second");
    bh_ctx_end(child);
    bh_ctx_end(root);
}

TEST(ctx, a_cause_of_zero_is_canceled)
{
    struct bh_ctx *c = bh_ctx_cancellable(bh_ctx_background());
    const char    *note = "?";

    BH_DEFER(bh_ctx_end, c);
    bh_ctx_cancel_cause(c, 0, NULL);
    EXPECT_EQ(bh_ctx_cause(c, &note), BH_ECANCELED);
    EXPECT_STR(note, NULL);
}

TEST(ctx, a_cause_outlives_the_handle_it_was_given_through)
{
    struct bh_ctx *root = bh_ctx_cancellable(bh_ctx_background());
    struct bh_ctx *child = bh_ctx_cancellable(root);
    const char    *note;

    bh_ctx_cancel_cause(root, -EIO, "from above");
    bh_ctx_unref(root); /* the child keeps it */
    EXPECT_EQ(bh_ctx_cause(child, &note), -EIO);
    EXPECT_STR(note, "from above");
    bh_ctx_end(child);
}

/* ---- deadlines ----------------------------------------------------------- */

TEST(ctx, a_deadline_ends_it_with_its_own_error)
{
    struct bh_ctx *c = bh_ctx_timeout(bh_ctx_background(), 2 * BH_MILLISECOND);
    struct bh_ctx *child = bh_ctx_cancellable(c);
    int64_t        made = bh_now(), at = 0;

    EXPECT(bh_ctx_deadline_at(child, &at));
    EXPECT(at > 2 * BH_MILLISECOND && at <= made + 2 * BH_MILLISECOND);
    bh_recv(bh_ctx_done(child), NULL);
    EXPECT(bh_now() >= at);
    EXPECT_EQ(bh_ctx_err(c), BH_EDEADLINE);
    EXPECT_EQ(bh_ctx_err(child), BH_EDEADLINE);
    EXPECT_EQ(bh_ctx_cause(child, NULL), BH_EDEADLINE);
    EXPECT_STR(bh_error_text(bh_ctx_err(c)), "context deadline exceeded");
    bh_ctx_cancel(c);
    EXPECT_EQ(bh_ctx_err(c), BH_EDEADLINE);
    bh_ctx_end(child);
    bh_ctx_end(c);
}

TEST(ctx, a_deadline_already_past_ends_it_at_birth)
{
    struct bh_ctx *a = bh_ctx_timeout(bh_ctx_background(), 0);
    struct bh_ctx *b = bh_ctx_deadline(bh_ctx_background(), bh_now() - 1);
    struct bh_ctx *c = bh_ctx_timeout(bh_ctx_background(), INT64_MIN);

    EXPECT_EQ(bh_ctx_err(a), BH_EDEADLINE);
    EXPECT_EQ(bh_ctx_err(b), BH_EDEADLINE);
    EXPECT_EQ(bh_ctx_err(c), BH_EDEADLINE);
    bh_ctx_end(a);
    bh_ctx_end(b);
    bh_ctx_end(c);
}

TEST(ctx, a_parent_cancelled_first_wins_over_a_past_deadline)
{
    struct bh_ctx *root = bh_ctx_cancellable(bh_ctx_background());

    bh_ctx_cancel(root);
    struct bh_ctx *c = bh_ctx_timeout(root, -1);
    EXPECT_EQ(bh_ctx_err(c), BH_ECANCELED);
    bh_ctx_end(c);
    bh_ctx_end(root);
}

TEST_SIM(ctx, the_earlier_deadline_wins_in_either_order)
{
    int64_t        now = bh_now(), at;
    struct bh_ctx *soon = bh_ctx_deadline(bh_ctx_background(), now + BH_SECOND);
    struct bh_ctx *late = bh_ctx_deadline(soon, now + HOUR);
    struct bh_ctx *sooner = bh_ctx_deadline(late, now + BH_MILLISECOND);

    EXPECT(bh_ctx_deadline_at(late, &at));
    EXPECT_EQ(at, now + BH_SECOND);
    EXPECT(bh_ctx_deadline_at(sooner, &at));
    EXPECT_EQ(at, now + BH_MILLISECOND);
    bh_sleep(BH_MILLISECOND);
    EXPECT_EQ(bh_ctx_err(sooner), BH_EDEADLINE);
    EXPECT_EQ(bh_ctx_err(late), 0);
    bh_sleep(BH_SECOND);
    EXPECT_EQ(bh_ctx_err(late), BH_EDEADLINE);
    EXPECT_EQ(bh_ctx_err(soon), BH_EDEADLINE);
    bh_ctx_end(sooner);
    bh_ctx_end(late);
    bh_ctx_end(soon);
}

TEST_SIM(ctx, cancelling_before_the_deadline_disarms_it)
{
    struct bh_ctx *c = bh_ctx_timeout(bh_ctx_background(), BH_SECOND);

    bh_ctx_cancel(c);
    bh_sleep(2 * BH_SECOND);
    EXPECT_EQ(bh_ctx_err(c), BH_ECANCELED);
    bh_ctx_end(c);
}

TEST_SIM(ctx, dropping_it_disarms_it)
{
    for (int i = 0; i < 100; i++)
        bh_ctx_unref(bh_ctx_timeout(bh_ctx_background(), BH_SECOND + i));
    bh_sleep(2 * BH_SECOND); /* a timer left behind would touch freed memory */
    EXPECT(true);
}

TEST_SIM(ctx, a_timeout_too_long_to_add_is_for_ever)
{
    struct bh_ctx *c = bh_ctx_timeout(bh_ctx_background(), INT64_MAX);
    int64_t        at;

    EXPECT(bh_ctx_deadline_at(c, &at));
    EXPECT_EQ(at, INT64_MAX);
    bh_sleep(HOUR);
    EXPECT_EQ(bh_ctx_err(c), 0);
    bh_ctx_end(c);
}

/* ---- values -------------------------------------------------------------- */

static int key1, key2, key3;

TEST(ctx, the_nearest_value_wins)
{
    char           a[] = "a", b[] = "b", c[] = "c";
    struct bh_ctx *v1 = bh_ctx_with_value(bh_ctx_background(), &key1, a);
    struct bh_ctx *v2 = bh_ctx_with_value(v1, &key2, b);
    struct bh_ctx *mid = bh_ctx_cancellable(v2);
    struct bh_ctx *v3 = bh_ctx_with_value(mid, &key1, c);
    struct bh_ctx *nil = bh_ctx_with_value(v3, &key2, NULL);

    EXPECT(bh_ctx_value(v1, &key1) == a);
    EXPECT(bh_ctx_value(mid, &key1) == a);
    EXPECT(bh_ctx_value(v3, &key1) == c);
    EXPECT(bh_ctx_value(v3, &key2) == b);
    EXPECT(bh_ctx_value(nil, &key2) == NULL);
    EXPECT(bh_ctx_value(nil, &key3) == NULL);
    EXPECT_EQ(bh_ctx_err(v3), 0);
    bh_ctx_cancel(mid);
    EXPECT_EQ(bh_ctx_err(v3), BH_ECANCELED);
    EXPECT(bh_ctx_done(v3) == bh_ctx_done(mid));
    EXPECT_EQ(bh_ctx_err(v2), 0);
    bh_ctx_end(nil);
    bh_ctx_end(v3);
    bh_ctx_end(mid);
    bh_ctx_end(v2);
    bh_ctx_end(v1);
}

TEST(ctx, without_cancel_keeps_values_only)
{
    char           a[] = "a";
    struct bh_ctx *v = bh_ctx_with_value(bh_ctx_background(), &key1, a);
    struct bh_ctx *timed = bh_ctx_timeout(v, HOUR);
    struct bh_ctx *cut = bh_ctx_without_cancel(timed);
    struct bh_ctx *below = bh_ctx_cancellable(cut);

    EXPECT(bh_ctx_done(cut) == NULL);
    EXPECT(!bh_ctx_deadline_at(below, NULL));
    bh_ctx_cancel(timed);
    EXPECT_EQ(bh_ctx_err(cut), 0);
    EXPECT_EQ(bh_ctx_err(below), 0);
    EXPECT(bh_ctx_value(below, &key1) == a);
    bh_ctx_cancel(below);
    EXPECT_EQ(bh_ctx_err(below), BH_ECANCELED);
    bh_ctx_end(timed);
    bh_ctx_end(v);
    EXPECT(bh_ctx_value(below, &key1) == a); /* kept alive by its child */
    bh_ctx_end(cut);
    bh_ctx_end(below);
}

/* ---- misuse -------------------------------------------------------------- */

TEST(ctx, misuse_panics_with_gos_texts)
{
    EXPECT_PANIC("cannot create context from nil parent", (void)bh_ctx_cancellable(NULL));
    EXPECT_PANIC("cannot create context from nil parent", (void)bh_ctx_timeout(NULL, 1));
    EXPECT_PANIC("cannot create context from nil parent", (void)bh_ctx_deadline(NULL, 1));
    EXPECT_PANIC("cannot create context from nil parent",
                 (void)bh_ctx_with_value(NULL, &key1, NULL));
    EXPECT_PANIC("cannot create context from nil parent", (void)bh_ctx_without_cancel(NULL));
    EXPECT_PANIC("nil key", (void)bh_ctx_with_value(bh_ctx_background(), NULL, &key1));
}

TEST_REAL(ctx, a_null_context_is_the_callers_panic)
{
    if (RUNNING_ON_VALGRIND) /* would report the reads, rightly */
        return;
    EXPECT_PANIC("runtime error: invalid memory address or nil pointer dereference",
                 (void)bh_ctx_err(NULL));
    EXPECT_PANIC("runtime error: invalid memory address or nil pointer dereference",
                 bh_ctx_cancel(NULL));
    bh_ctx_unref(NULL);
    bh_ctx_end(NULL);
}

static bool
cancel_panics(struct bh_ctx *ctx, int code)
{
    BH_RECOVER(p) {
        return p->line != 0;
    }
    bh_ctx_cancel_cause(ctx, code, NULL);
    return false;
}

TEST(ctx, what_cannot_be_cancelled_by_itself_panics)
{
    struct bh_ctx *v = bh_ctx_with_value(bh_ctx_background(), &key1, &key1);
    struct bh_ctx *c = bh_ctx_cancellable(v);

    EXPECT(cancel_panics(v, 0));
    EXPECT(cancel_panics(bh_ctx_background(), 0));
    EXPECT(cancel_panics(c, 5));
    EXPECT_EQ(bh_ctx_err(c), 0);
    bh_ctx_end(c);
    bh_ctx_end(v);
}

TEST_DIES(ctx, use_after_the_last_unref_is_fatal, 2, "context: used after its last reference")
{
    uint64_t dead[64] = { 0 };

    (void)bh_ctx_err((struct bh_ctx *)(void *)dead);
}

/* ---- sleep --------------------------------------------------------------- */

TEST(ctx, sleep_lasts_its_time)
{
    struct bh_ctx *c = bh_ctx_cancellable(bh_ctx_background());
    int64_t        began = bh_now();

    EXPECT_EQ(bh_ctx_sleep(c, 2 * BH_MILLISECOND), 0);
    EXPECT(bh_now() - began >= 2 * BH_MILLISECOND);
    began = bh_now();
    EXPECT_EQ(bh_ctx_sleep(bh_ctx_background(), 2 * BH_MILLISECOND), 0);
    EXPECT(bh_now() - began >= 2 * BH_MILLISECOND);
    EXPECT_EQ(bh_ctx_sleep(c, 0), 0);
    EXPECT_EQ(bh_ctx_sleep(c, -5), 0);
    bh_ctx_end(c);
}

static void
cancel_soon(void *args)
{
    bh_sleep(BH_MILLISECOND);
    bh_ctx_cancel(*(struct bh_ctx **)args);
}

TEST(ctx, sleep_is_cut_short_by_the_end)
{
    struct bh_ctx *c = bh_ctx_cancellable(bh_ctx_background());
    struct bh_ctx *v = bh_ctx_with_value(c, &key1, NULL);
    struct bh_ctx *timed = bh_ctx_timeout(bh_ctx_background(), BH_MILLISECOND);

    bh_go(cancel_soon, &c);
    EXPECT_EQ(bh_ctx_sleep(v, HOUR), BH_ECANCELED);
    EXPECT_EQ(bh_ctx_sleep(v, HOUR), BH_ECANCELED);
    EXPECT_EQ(bh_ctx_sleep(v, 0), BH_ECANCELED);
    EXPECT_EQ(bh_ctx_sleep(timed, HOUR), BH_EDEADLINE);
    bh_ctx_end(v);
    bh_ctx_end(c);
    bh_ctx_end(timed);
}

/* ---- watches ------------------------------------------------------------- */

struct seen {
    struct rt_ctx_watch w;
    _Atomic int         times;
};

static void
see(struct rt_ctx_watch *w)
{
    atomic_fetch_add(&rt_container(w, struct seen, w)->times, 1);
}

TEST(ctx, a_watch_sees_the_end_once)
{
    struct bh_ctx *c = bh_ctx_cancellable(bh_ctx_background());
    struct seen    a = { .w.fn = see }, b = { .w.fn = see };

    rt_enter("test");
    EXPECT_EQ(rt_ctx_watch(c, &a.w), 0);
    EXPECT_EQ(rt_ctx_watch(c, &b.w), 0);
    EXPECT(rt_ctx_unwatch(c, &b.w));
    rt_exit();
    bh_ctx_cancel(c);
    EXPECT_EQ(a.times, 1);
    EXPECT_EQ(b.times, 0);
    rt_enter("test");
    EXPECT(!rt_ctx_unwatch(c, &a.w));
    EXPECT_EQ(rt_ctx_watch(c, &b.w), BH_ECANCELED);
    EXPECT_EQ(rt_ctx_watch(bh_ctx_background(), &b.w), 0);
    EXPECT(rt_ctx_unwatch(bh_ctx_background(), &b.w));
    rt_exit();
    EXPECT_EQ(b.times, 0);
    bh_ctx_end(c);
}

/* ---- after-funcs --------------------------------------------------------- */

struct after_note {
    struct bh_chan *ran;
    uint64_t        by;
};

static void
note_after(void *arg)
{
    struct after_note *n = arg;

    n->by = bh_id();
    bh_send(n->ran, &(int){ 1 });
}

TEST(after, runs_on_its_own_goroutine_when_the_context_ends)
{
    struct bh_ctx    *c = bh_ctx_cancellable(bh_ctx_background());
    struct after_note n = { BH_CHAN(int, 4), 0 };
    struct bh_after  *a = bh_ctx_after(c, note_after, &n);

    bh_yield();
    EXPECT_EQ(bh_chan_len(n.ran), 0);
    bh_ctx_cancel(c);
    bh_recv(n.ran, NULL);
    EXPECT(n.by != 0 && n.by != bh_id());
    EXPECT(!bh_after_stop(a));
    bh_ctx_end(c);
    bh_chan_unref(n.ran);
}

TEST(after, runs_at_once_if_the_context_has_ended)
{
    struct bh_ctx    *c = bh_ctx_cancellable(bh_ctx_background());
    struct after_note n = { BH_CHAN(int, 4), 0 };

    bh_ctx_cancel(c);
    struct bh_after *a = bh_ctx_after(c, note_after, &n);
    bh_recv(n.ran, NULL);
    EXPECT(n.by != bh_id());
    EXPECT(!bh_after_stop(a));
    bh_ctx_end(c);
    bh_chan_unref(n.ran);
}

TEST(after, runs_at_a_deadline_too)
{
    struct bh_ctx    *c = bh_ctx_timeout(bh_ctx_background(), BH_MILLISECOND);
    struct after_note n = { BH_CHAN(int, 4), 0 };
    struct bh_after  *a = bh_ctx_after(c, note_after, &n);

    bh_recv(n.ran, NULL);
    EXPECT_EQ(bh_ctx_err(c), BH_EDEADLINE);
    EXPECT(!bh_after_stop(a));
    bh_ctx_end(c);
    bh_chan_unref(n.ran);
}

TEST(after, stopped_in_time_it_never_runs)
{
    struct bh_ctx    *c = bh_ctx_cancellable(bh_ctx_background());
    struct after_note n = { BH_CHAN(int, 4), 0 };
    struct bh_after  *a = bh_ctx_after(c, note_after, &n);
    struct bh_after  *b = bh_ctx_after(c, note_after, &n);

    EXPECT(bh_after_stop(a));
    bh_ctx_cancel(c);
    bh_recv(n.ran, NULL);
    for (int i = 0; i < 10; i++)
        bh_yield();
    EXPECT_EQ(bh_chan_len(n.ran), 0);
    EXPECT(!bh_after_stop(b));
    bh_ctx_end(c);
    bh_chan_unref(n.ran);
}

TEST(after, of_a_context_that_never_ends_never_runs)
{
    struct after_note n = { NULL, 0 };

    EXPECT(bh_after_stop(bh_ctx_after(bh_ctx_background(), note_after, &n)));
    EXPECT_EQ(n.by, 0);
}

TEST(after, keeps_its_context_alive_until_the_parent_ends)
{
    struct bh_ctx    *root = bh_ctx_cancellable(bh_ctx_background());
    struct bh_ctx    *c = bh_ctx_cancellable(root);
    struct after_note n = { BH_CHAN(int, 4), 0 };
    struct bh_after  *a = bh_ctx_after(c, note_after, &n);

    bh_ctx_unref(c);
    bh_ctx_cancel(root);
    bh_recv(n.ran, NULL);
    EXPECT(!bh_after_stop(a));
    bh_ctx_end(root);
    bh_chan_unref(n.ran);
}

struct two {
    struct bh_chan *in, *out;
};

static void
wait_for_two(void *arg)
{
    struct two *w = arg;

    bh_recv(w->in, NULL);
    bh_send(w->out, &(int){ 1 });
}

TEST(after, stop_does_not_wait_for_a_run_under_way)
{
    struct bh_ctx   *c = bh_ctx_cancellable(bh_ctx_background());
    struct two       w = { BH_CHAN(int, 0), BH_CHAN(int, 1) };
    struct bh_after *a = bh_ctx_after(c, wait_for_two, &w);

    bh_ctx_cancel(c);
    EXPECT(!bh_after_stop(a));
    EXPECT_EQ(bh_chan_len(w.out), 0);
    bh_ctx_end(c); /* the run holds what it needs */
    bh_send(w.in, &(int){ 1 });
    bh_recv(w.out, NULL);
    bh_chan_unref(w.in);
    bh_chan_unref(w.out);
}

static void
panic_in_after(void *arg)
{
    bh_panic("after %s", (const char *)arg);
}

TEST_DIES(after, a_panic_in_one_ends_the_process, 2, "panic: after all")
{
    struct bh_ctx *c = bh_ctx_cancellable(bh_ctx_background());
    char           all[] = "all";

    bh_ctx_after(c, panic_in_after, all);
    bh_ctx_cancel(c);
    bh_sleep(10 * BH_SECOND);
}

/* ---- many at once -------------------------------------------------------- */

enum { WORKERS = 8 };

struct storm {
    struct bh_ctx      *root;
    struct bh_waitgroup over;
    _Atomic int         ran, stopped, made;
};

static void
count_run(void *arg)
{
    atomic_fetch_add(&((struct storm *)arg)->ran, 1);
}

/* storm_tree -- make, cancel, end and watch a small tree under the shared root. */
static void
storm_tree(struct storm *s, int i)
{
    struct bh_ctx *a = bh_ctx_cancellable(s->root);
    struct bh_ctx *b = bh_ctx_timeout(a, (i % 7) * 20 * BH_MICROSECOND);
    struct bh_ctx *c = bh_ctx_with_value(b, &key1, s);
    struct bh_ctx *d = bh_ctx_cancellable(c);

    atomic_fetch_add(&s->made, 1);
    struct bh_after *after = bh_ctx_after(d, count_run, s);
    if (i % 3 == 0)
        bh_ctx_cancel(a);
    if (i % 5 == 0) {
        int err = bh_ctx_sleep(d, 30 * BH_MICROSECOND);
        EXPECT(err == 0 || bh_ctx_err(d) == err);
    }
    if (i % 4 == 0)
        (void)bh_ctx_done(d);
    bh_ctx_end(a);
    EXPECT(bh_ctx_err(d) != 0);
    EXPECT(bh_ctx_err(b) != 0);
    if (i % 4 == 0)
        EXPECT(is_closed(bh_ctx_done(d)));
    if (bh_after_stop(after))
        atomic_fetch_add(&s->stopped, 1);
    bh_ctx_end(d);
    bh_ctx_end(b);
    bh_ctx_end(c);
}

static void
storm_worker(void *args)
{
    struct storm *s = *(struct storm **)args;

    for (int i = 0; i < 300; i++) {
        storm_tree(s, i);
        if (i % 16 == 0)
            bh_yield();
    }
    bh_waitgroup_done(&s->over);
}

static void
storm(bool cancel_root)
{
    struct storm  s = { .root = bh_ctx_cancellable(bh_ctx_background()) };
    struct storm *arg = &s;

    bh_waitgroup_add(&s.over, WORKERS);
    for (int i = 0; i < WORKERS; i++)
        bh_go(storm_worker, &arg);
    if (cancel_root) {
        bh_sleep(BH_MILLISECOND);
        bh_ctx_cancel(s.root);
    }
    bh_waitgroup_wait(&s.over);
    while (s.ran + s.stopped < s.made)
        bh_yield();
    EXPECT_EQ(s.ran + s.stopped, WORKERS * 300);
    bh_ctx_end(s.root);
}

TEST(ctx, trees_of_many_goroutines_under_one_root)
{
    storm(false);
}

TEST(ctx, trees_of_many_goroutines_while_the_root_is_cancelled)
{
    storm(true);
}

struct race {
    struct bh_ctx      *ctx, *below;
    struct bh_waitgroup over;
    _Atomic int         won;
};

static void
race_cancel(void *args)
{
    struct race *r = *(struct race **)args;
    const char  *note = NULL;
    char         mine[24];

    mine[0] = (char)('a' + bh_id() % 26);
    mine[1] = 0;
    bh_ctx_cancel_cause(r->ctx, -(int)(bh_id() % 1000) - 1, mine);
    /* Whoever cancelled, all below has ended by now. */
    EXPECT_EQ(bh_ctx_err(r->below), BH_ECANCELED);
    int code = bh_ctx_cause(r->below, &note);
    if (code == -(int)(bh_id() % 1000) - 1) {
        EXPECT_STR(note, mine);
        atomic_fetch_add(&r->won, 1);
    }
    bh_waitgroup_done(&r->over);
}

TEST(ctx, of_racing_cancels_one_gives_the_cause)
{
    for (int round = 0; round < 100; round++) {
        struct race    r = { .ctx = bh_ctx_cancellable(bh_ctx_background()) };
        struct race   *arg = &r;
        struct bh_ctx *chain[5] = { r.ctx };

        for (int i = 1; i < 5; i++)
            chain[i] = bh_ctx_cancellable(chain[i - 1]);
        r.below = chain[4];
        bh_waitgroup_add(&r.over, 4);
        for (int i = 0; i < 4; i++)
            bh_go(race_cancel, &arg);
        bh_waitgroup_wait(&r.over);
        EXPECT_EQ(r.won, 1);
        for (int i = 4; i >= 0; i--)
            bh_ctx_end(chain[i]);
    }
}

struct stop_race {
    struct bh_ctx      *ctx;
    struct bh_waitgroup over;
    _Atomic int         ran;
};

static void
stop_race_run(void *arg)
{
    atomic_fetch_add(&((struct stop_race *)arg)->ran, 1);
}

static void
stop_race_cancel(void *args)
{
    struct stop_race *r = *(struct stop_race **)args;

    bh_ctx_cancel(r->ctx);
    bh_waitgroup_done(&r->over);
}

TEST(after, stop_against_cancel_runs_or_stops_never_both)
{
    for (int round = 0; round < 300; round++) {
        struct stop_race  r = { .ctx = bh_ctx_cancellable(bh_ctx_background()) };
        struct stop_race *arg = &r;
        struct bh_after  *a = bh_ctx_after(r.ctx, stop_race_run, &r);

        bh_waitgroup_add(&r.over, 1);
        bh_go(stop_race_cancel, &arg);
        if (round % 2 == 0)
            bh_yield();
        bool stopped = bh_after_stop(a);
        bh_waitgroup_wait(&r.over);
        while (!stopped && r.ran == 0)
            bh_yield();
        EXPECT_EQ(r.ran, stopped ? 0 : 1);
        bh_ctx_end(r.ctx);
    }
}

/* A deadline firing against cancel and the last unref, which frees the timer. */
static void
short_lives(void *args)
{
    struct bh_waitgroup *over = *(struct bh_waitgroup **)args;

    for (int i = 0; i < 2000; i++) {
        struct bh_ctx *c = bh_ctx_timeout(bh_ctx_background(), (i % 50) * BH_MICROSECOND);
        if (i % 3 == 0)
            bh_yield();
        if (i % 2 == 0)
            bh_ctx_end(c);
        else
            bh_ctx_unref(c);
    }
    bh_waitgroup_done(over);
}

TEST(ctx, deadlines_fire_while_contexts_are_freed)
{
    struct bh_waitgroup over = { 0 }, *arg = &over;

    bh_waitgroup_add(&over, 4);
    for (int i = 0; i < 4; i++)
        bh_go(short_lives, &arg);
    bh_waitgroup_wait(&over);
}

static void
sleep_race(void *args)
{
    struct race *r = *(struct race **)args;

    for (int i = 0; i < 50; i++) {
        int err = bh_ctx_sleep(r->ctx, (i % 5) * 10 * BH_MICROSECOND);
        EXPECT(err == 0 || err == BH_ECANCELED);
    }
    EXPECT_EQ(bh_ctx_sleep(r->ctx, HOUR), BH_ECANCELED);
    bh_waitgroup_done(&r->over);
}

TEST(ctx, sleepers_race_with_time_and_cancel)
{
    for (int round = 0; round < 5; round++) {
        struct race  r = { .ctx = bh_ctx_cancellable(bh_ctx_background()) };
        struct race *arg = &r;

        bh_waitgroup_add(&r.over, 10);
        for (int i = 0; i < 10; i++)
            bh_go(sleep_race, &arg);
        bh_sleep(500 * BH_MICROSECOND);
        bh_ctx_cancel(r.ctx);
        bh_waitgroup_wait(&r.over);
        bh_ctx_end(r.ctx);
    }
}
