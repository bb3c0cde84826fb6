/*
 * i_cross.c -- I: a panic stays on its goroutine and ends the process; contexts
 * never stop a goroutine.
 */

#include "cases.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

struct channel {
    struct bh_chan *chan;
};

struct context {
    struct bh_ctx *ctx;
};

static void
panic_child(void *unused)
{
    (void)unused;
    bh_panic("child");
}

/* err.Error(), or <nil> */
static const char *
error_text(int code)
{
    return code == 0 ? "<nil>" : bh_error_text(code);
}

TWIN(I01, "parent-recover-does-not-catch-child")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "parent recovered - must not print");
    bh_go(panic_child, NULL);
    bh_sleep(BH_SECOND);
    say("must not print");
}

static void
recover_if_any(const char *label)
{
    const struct bh_panic *p = bh_recover();

    if (p != NULL)
        show(label, p);
}

static void
recover_own(void *args)
{
    BH_RETURNS_VOID;
    BH_DEFER(bh_close, ((struct channel *)args)->chan);
    BH_DEFER(recover_if_any, "Recovered in goroutine");
    bh_panic("async handler panic");
}

TWIN(I02, "child-recovers-its-own")
{
    struct channel done = { BH_CHAN(bool, 0) };

    bh_go(recover_own, &done);
    bh_recv(done.chan, NULL);
    say("parent goes on");
}

static void
close_and_block(void *args)
{
    BH_DEFER(say_text, "other goroutine's deferred must not run");
    bh_close(((struct channel *)args)->chan);
    bh_select_n(NULL, 0);
}

static void
panic_with_deferred(void *unused)
{
    (void)unused;
    BH_DEFER(say_text, "crashing goroutine's own deferred runs");
    bh_panic("child");
}

TWIN(I03, "child-crash-skips-everyone-elses-defers")
{
    struct channel other = { BH_CHAN(bool, 0) };

    BH_DEFER(say_text, "main's deferred must not run");
    bh_go(close_and_block, &other);
    bh_recv(other.chan, NULL);
    bh_go(panic_with_deferred, NULL);
    bh_select_n(NULL, 0);
}

struct text {
    char text[32];
};

static void
send_text(struct bh_chan *res)
{
    struct text            t = { "" };
    const struct bh_panic *p = bh_recover();

    if (p != NULL)
        snprintf(t.text, sizeof t.text, "%s", bh_panic_text(p));
    bh_send(res, &t);
}

static void
panic_and_send(void *args)
{
    BH_RETURNS_VOID;
    BH_DEFER(send_text, ((struct channel *)args)->chan);
    bh_panic("child value");
}

TWIN(I04, "value-by-channel-and-repanic")
{
    struct channel res = { BH_CHAN(struct text, 1) };
    struct text    t;

    BH_RETURNS_VOID;
    bh_go(panic_and_send, &res);
    BH_DEFER(show_recovered, "parent recovered");
    bh_recv(res.chan, &t);
    if (t.text[0] != '\0')
        bh_panic("%s", t.text);
}

static void
panic_timer(void *unused)
{
    (void)unused;
    bh_panic("timer");
}

TWIN(I05, "timer-callback-panic-kills-process")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "must not print");
    bh_timer_func(BH_MILLISECOND, panic_timer, NULL);
    bh_sleep(BH_SECOND);
    say("must not print");
}

static void
work_after_cancel(void *ctx)
{
    BH_DEFER(say_text, "deferred runs at the normal time");
    say("ctx.Err: %s", error_text(bh_ctx_err(ctx)));
    bh_sleep(20 * BH_MILLISECOND);
    say("still running after cancel");
}

TWIN(I07, "cancel-does-not-stop-a-goroutine")
{
    struct bh_ctx *ctx = bh_ctx_cancellable(bh_ctx_background());

    BH_DEFER(bh_ctx_end, ctx);
    bh_ctx_cancel(ctx);
    in_goroutine(work_after_cancel, ctx);
}

struct attempt {
    struct bh_ctx *ctx;
    bool           ok;
};

static void
note_recovered(struct attempt *a)
{
    const struct bh_panic *p = bh_recover();

    a->ok = p != NULL && strcmp(bh_panic_text(p), "context canceled") == 0;
}

static void
cancel(void *args)
{
    struct context *c = args;

    bh_ctx_end(c->ctx);
}

static void
wait_then_panic(void *attempt)
{
    struct attempt *a = attempt;

    BH_RETURNS_VOID;
    BH_DEFER(note_recovered, a);
    bh_go(cancel, &(struct context){ bh_ctx_ref(a->ctx) });
    bh_recv(bh_ctx_done(a->ctx), NULL);
    bh_panic("context canceled");
}

TWIN(I08, "cancel-then-panic-then-recover")
{
    for (int i = 0; i < 1000; i++) {
        struct attempt a = { bh_ctx_cancellable(bh_ctx_background()), false };

        in_goroutine(wait_then_panic, &a);
        bh_ctx_end(a.ctx);
        if (!a.ok)
            say("lost a panic at %d", i);
    }
    say("recovered 1000 of 1000");
}

static void
wait_done_and_panic(void *args)
{
    bh_recv(bh_ctx_done(((struct context *)args)->ctx), NULL);
    bh_panic("context canceled");
}

TWIN(I09, "cancel-then-panic-uncaught")
{
    struct context c = { bh_ctx_cancellable(bh_ctx_background()) };

    bh_go(wait_done_and_panic, &c);
    bh_ctx_cancel(c.ctx);
    bh_sleep(BH_SECOND);
    say("must not print");
}

/* The article's SafeGo: looks at the context once, then recovers into a callback. */
struct safe_go {
    struct bh_ctx *ctx;
    void (*fn)(struct safe_go *s);
    struct bh_chan *errs, *done;
};

static void
on_error(struct bh_chan *errs)
{
    const struct bh_panic *p = bh_recover();
    struct text            t;

    if (p == NULL)
        return;
    snprintf(t.text, sizeof t.text, "%s%s",
             p->kind->error != NULL ? "" : "panic: ", bh_panic_text(p));
    bh_send(errs, &t);
}

static void
safe_go(void *args)
{
    struct safe_go *s = args;

    BH_RETURNS_VOID;
    BH_DEFER(on_error, s->errs);
    if (bh_ctx_err(s->ctx) != 0)
        return;
    s->fn(s);
}

static void
cancel_and_finish(struct safe_go *s)
{
    bh_ctx_cancel(s->ctx);
    bh_sleep(20 * BH_MILLISECOND);
    say("fn ran to its end after cancel");
    bh_close(s->done);
}

static void
panic_typed(struct safe_go *s)
{
    (void)s;
    bh_panic_value(&bh_kind_error, "typed");
}

static void
panic_3(struct safe_go *s)
{
    (void)s;
    bh_panic_value(&bh_kind_int, &(int){ 3 });
}

TWIN(I10, "safego-checks-ctx-only-once")
{
    struct bh_ctx  *ctx = bh_ctx_cancellable(bh_ctx_background());
    struct bh_chan *done = BH_CHAN(bool, 0), *errs = BH_CHAN(struct text, 1);
    struct text     t;

    BH_DEFER(bh_ctx_end, ctx);
    bh_go(safe_go, &(struct safe_go){ ctx, cancel_and_finish, NULL, done });
    bh_recv(done, NULL);
    bh_go(safe_go, &(struct safe_go){ bh_ctx_background(), panic_typed, errs, NULL });
    bh_recv(errs, &t);
    say("%s", t.text);
    bh_go(safe_go, &(struct safe_go){ bh_ctx_background(), panic_3, errs, NULL });
    bh_recv(errs, &t);
    say("%s", t.text);
}

TWIN(I13, "panic-in-one-goroutine-while-main-is-blocked")
{
    bh_go(panic_child, NULL);
    bh_recv(BH_CHAN(int, 0), NULL); /* no deadlock report: the panic comes first */
}

static void
cancellable_of_nil(void *unused)
{
    (void)unused;
    bh_ctx_end(bh_ctx_cancellable(NULL));
}

static void
value_of_nil(void *unused)
{
    static int key;

    (void)unused;
    bh_ctx_end(bh_ctx_with_value(NULL, &key, &key));
}

static void
value_under_nil_key(void *unused)
{
    (void)unused;
    bh_ctx_end(bh_ctx_with_value(bh_ctx_background(), NULL, NULL));
}

TWIN(I15_ours, "context-argument-panics")
{
    caught("nil parent WithCancel", cancellable_of_nil, NULL);
    caught("nil parent WithValue", value_of_nil, NULL);
    caught("nil key", value_under_nil_key, NULL);
}

TWIN(I16, "context-cancel-facts")
{
    struct bh_ctx *p = bh_ctx_cancellable(bh_ctx_background());
    struct bh_ctx *c = bh_ctx_cancellable(p);
    struct bh_ctx *d = bh_ctx_timeout(p, 10 * BH_MILLISECOND);

    bh_ctx_cancel(c);
    bh_ctx_cancel(c); /* idempotent */
    say("child: %s parent: %s", error_text(bh_ctx_err(c)), error_text(bh_ctx_err(p)));
    bh_recv(bh_ctx_done(d), NULL);
    say("deadline: %s %s", error_text(bh_ctx_err(d)), yes_no(bh_ctx_err(d) == BH_EDEADLINE));
    say("Timeout(): %s", yes_no(bh_ctx_err(d) != BH_ECANCELED)); /* one code says it */
    bh_ctx_cancel(p);
    bh_ctx_cancel(d);
    say("parent: %s deadline child keeps first: %s", error_text(bh_ctx_err(p)),
        error_text(bh_ctx_err(d)));
    struct bh_ctx *g = bh_ctx_cancellable(p);
    BH_DEFER(bh_ctx_end, g);
    say("child of a cancelled parent: %s", error_text(bh_ctx_err(g)));
    bh_ctx_unref(d);
    bh_ctx_unref(c);
    bh_ctx_unref(p);
}

static void
panic_early(void *unused)
{
    (void)unused;
    bh_panic("early child");
}

TWIN(I17, "init-like-goroutine-crash-before-main-work")
{
    bh_go(panic_early, NULL);
    for (;;)
        bh_yield();
}

static void
spin(void *unused)
{
    (void)unused;
    for (;;)
        __asm__ volatile("");
}

static void
sleep_and_panic(void *args)
{
    bh_sleep(10 * BH_MILLISECOND);
    bh_panic("%s", ((struct text *)args)->text);
}

TWIN(I18, "preempted-busy-loop-does-not-block-a-crash")
{
    bh_go(spin, NULL);
    bh_go(sleep_and_panic, &(struct text){ "while another spins" });
    bh_select_n(NULL, 0);
}

TWIN(I19, "blocked-syscall-does-not-block-a-crash")
{
    int  fds[2];
    char b;

    bh_go(sleep_and_panic, &(struct text){ "while main is in a syscall" });
    if (pipe(fds) != 0 || read(fds[0], &b, 1) < 0)
        say("not reached");
}

TWIN(I21, "cancel-parent-visible-to-children-at-return")
{
    enum { KIDS = 50 };
    struct bh_ctx *p = bh_ctx_cancellable(bh_ctx_background()), *kids[KIDS];
    int            n = 0;

    for (int i = 0; i < KIDS; i++)
        kids[i] = bh_ctx_cancellable(p);
    bh_ctx_cancel(p);
    for (int i = 0; i < KIDS; i++)
        n += bh_ctx_err(kids[i]) == BH_ECANCELED;
    say("children cancelled when cancel() returned: %d", n);
    for (int i = 0; i < KIDS; i++)
        bh_ctx_end(kids[i]);
    bh_ctx_unref(p);
}

struct waiting {
    struct bh_waitgroup *wg;
};

static void
panic_then_done(void *args)
{
    BH_DEFER(bh_waitgroup_done, ((struct waiting *)args)->wg);
    bh_panic("in child");
}

TWIN(I22, "waitgroup-done-deferred-then-main-returns")
{
    static struct bh_waitgroup wg;

    bh_waitgroup_add(&wg, 1);
    bh_go(panic_then_done, &(struct waiting){ &wg });
    bh_waitgroup_wait(&wg);
}

TWIN(I23, "waitgroup-done-deferred-then-os-exit-RACY")
{
    static struct bh_waitgroup wg;

    bh_waitgroup_add(&wg, 1);
    bh_go(panic_then_done, &(struct waiting){ &wg });
    bh_waitgroup_wait(&wg);
    bh_exit(0);
}

static const char *
cause_text(struct bh_ctx *ctx)
{
    const char *note = NULL;
    int         code = bh_ctx_cause(ctx, &note);

    return note != NULL && note[0] != '\0' ? note : error_text(code);
}

TWIN(I25, "cancel-cause")
{
    struct bh_ctx *c = bh_ctx_cancellable(bh_ctx_background());
    struct bh_ctx *n = bh_ctx_cancellable(bh_ctx_background());

    BH_DEFER(bh_ctx_end, c);
    BH_DEFER(bh_ctx_end, n);
    say("before: %s", cause_text(c));
    bh_ctx_cancel_cause(c, -EIO, "first");
    bh_ctx_cancel_cause(c, -EIO, "second");
    say("Err: %s Cause: %s", error_text(bh_ctx_err(c)), cause_text(c));
    bh_ctx_cancel_cause(n, 0, NULL);
    say("nil cause: %s", cause_text(n));
}

struct after {
    struct bh_chan *ran;
    uint64_t        registrar;
};

static void
tell_ran(void *arg)
{
    struct after *a = arg;

    bh_send(a->ran, &(bool){ bh_id() != a->registrar });
}

TWIN(I26, "context-afterfunc")
{
    struct after   a = { BH_CHAN(bool, 1), bh_id() };
    struct bh_ctx *c = bh_ctx_cancellable(bh_ctx_background());
    bool           other;

    BH_DEFER(bh_ctx_end, c);
    struct bh_after *stopped = bh_ctx_after(c, tell_ran, &a);
    say("stopped in time: %s", yes_no(bh_after_stop(stopped)));
    struct bh_after *waiting = bh_ctx_after(c, tell_ran, &a);
    bh_ctx_cancel(c);
    bh_recv(a.ran, &other);
    say("ran on its own goroutine: %s", yes_no(other));
    say("stopped in time: %s", yes_no(bh_after_stop(waiting)));
    struct bh_after *late = bh_ctx_after(c, tell_ran, &a);
    bh_recv(a.ran, &other);
    say("ran at once, already done: %s", yes_no(other));
    bh_after_stop(late);
}
