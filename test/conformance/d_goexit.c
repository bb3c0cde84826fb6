/*
 * d_goexit.c -- D: bh_goexit runs every deferred call, no recover sees it, and
 * no recovery of a panic raised on the way can stop it.
 */

#include "cases.h"

#include <stdio.h>

#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

static void
goexit(void *unused)
{
    (void)unused;
    bh_goexit();
}

static void
goexit_over_two(void *unused)
{
    (void)unused;
    BH_RETURNS_VOID;
    BH_DEFER(say_text, "registered 1st");
    BH_DEFER(show_recovered, "recover during Goexit");
    bh_goexit();
    say("not reached");
}

TWIN(D01, "goexit-runs-defers-recover-is-nil")
{
    in_goroutine(goexit_over_two, NULL);
    say("main goes on");
}

static void
goexit_past_point(void *unused)
{
    (void)unused;
    BH_RECOVER(p) {
        show("must not print", p);
        return;
    }
    BH_DEFER(say_text, "registered 1st");
    bh_goexit();
}

TWIN(D01_block, "goexit-passes-a-block")
{
    in_goroutine(goexit_past_point, NULL);
    say("main goes on");
}

static void
goexit_inner(void)
{
    BH_DEFER(say_text, "inner deferred");
    bh_goexit();
}

static void
goexit_from_below(void *unused)
{
    (void)unused;
    BH_DEFER(say_text, "outer deferred");
    goexit_inner();
    say("not reached");
}

TWIN(D02, "goexit-unwinds-callers-too")
{
    in_goroutine(goexit_from_below, NULL);
}

static void
sleep_and_say(void *unused)
{
    (void)unused;
    bh_sleep(20 * BH_MILLISECOND);
    say("other goroutine ends");
}

TWIN(D03, "goexit-on-main-then-others-end")
{
    bh_go(sleep_and_say, NULL);
    BH_DEFER(say_text, "main's deferred");
    bh_goexit();
}

static void
sleep_and_exit(void *unused)
{
    (void)unused;
    bh_sleep(20 * BH_MILLISECOND);
    say("exit 0");
    bh_exit(0);
}

TWIN(D04, "goexit-on-main-then-os-exit")
{
    bh_go(sleep_and_exit, NULL);
    bh_goexit();
}

TWIN(D05, "panic-in-deferred-during-goexit-uncaught")
{
    BH_DEFER(panic_text, "hello");
    bh_goexit();
}

static void
panic_during_goexit(void)
{
    BH_DEFER(panic_text, "hello");
    bh_goexit();
}

static void
recover_during_goexit(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "recovered");
    panic_during_goexit();
}

static void
goexit_recovered_by_outer(void *unused)
{
    (void)unused;
    BH_DEFER(say_text, "goroutine top deferred");
    recover_during_goexit();
    say("must not print: Goexit continues");
}

TWIN(D07, "panic-during-goexit-recovered-by-outer-frame")
{
    in_goroutine(goexit_recovered_by_outer, NULL);
    say("goroutine ended");
}

static void
recover_during_goexit_at_point(void)
{
    BH_RECOVER(p) {
        show("recovered", p);
        return;
    }
    panic_during_goexit();
}

static void
goexit_recovered_at_point(void *unused)
{
    (void)unused;
    BH_DEFER(say_text, "goroutine top deferred");
    recover_during_goexit_at_point();
    say("must not print: Goexit continues");
}

TWIN(D07_block, "panic-during-goexit-recovered-by-outer-block")
{
    in_goroutine(goexit_recovered_at_point, NULL);
    say("goroutine ended");
}

static void
recover_and_panic_in_one_frame(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "recovered");
    BH_DEFER(panic_text, "hello");
    bh_goexit();
}

static void
goexit_recovered_in_place(void *unused)
{
    (void)unused;
    BH_DEFER(say_text, "top deferred");
    recover_and_panic_in_one_frame();
    say("must not print");
}

TWIN(D08, "same-frame-recover-then-goexit-continues")
{
    in_goroutine(goexit_recovered_in_place, NULL);
}

static void
swallow_panic(void *unused)
{
    (void)unused;
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "later defer sees");
    BH_DEFER(goexit, NULL);
    bh_panic("swallowed by Goexit");
}

TWIN(D09, "goexit-inside-deferred-during-panic")
{
    in_goroutine(swallow_panic, NULL);
    say("process survives");
}

static void
goexit_in_panic(void *unused)
{
    (void)unused;
    BH_DEFER(goexit, NULL);
    bh_panic("hello");
}

TWIN(D11, "goexit-in-panic-on-main")
{
    bh_go(goexit_in_panic, NULL);
    bh_goexit();
}

static void
goexit_in_once(void *once)
{
    bh_once_do(once, goexit, NULL);
}

static void
say_must_not(void *unused)
{
    (void)unused;
    say("must not print");
}

TWIN(D13, "once-counts-goexit-as-done")
{
    struct bh_once once = { 0 };

    in_goroutine(goexit_in_once, &once);
    bh_once_do(&once, say_must_not, NULL);
    say("done");
}

static void
panic_in_once(struct bh_once *once)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "first");
    bh_once_do(once, (void (*)(void *))panic_text, (void *)(uintptr_t) "in once");
}

TWIN(D14, "once-counts-panic-as-done")
{
    struct bh_once once = { 0 };

    panic_in_once(&once);
    bh_once_do(&once, say_must_not, NULL);
    say("done");
}

struct probe {
    const char *label;
    void (*fn)(void *);
    bool normal, recovered;
};

static void
say_how_it_ended(const struct probe *p)
{
    say("%s %s", p->label,
        p->normal      ? "returned normally"
        : p->recovered ? "panicked"
                       : "called Goexit");
}

static void
probe_call(struct probe *p)
{
    BH_RETURNS_VOID;
    BH_DEFER(recover_quietly, NULL);
    p->fn(NULL);
    p->normal = true;
}

static void
probe(void *args)
{
    struct probe *p = args;

    BH_DEFER(say_how_it_ended, p);
    probe_call(p);
    p->recovered = true; /* after a return or a recovered panic, never after bh_goexit */
}

static void
panic_1(void *unused)
{
    (void)unused;
    bh_panic_value(&bh_kind_int, &(int){ 1 });
}

static void
panic_nil(void *unused)
{
    (void)unused;
    bh_panic_value(NULL, NULL);
}

TWIN(D15, "telling-return-panicnil-and-goexit-apart")
{
    in_goroutine(probe, &(struct probe){ .label = "return:", .fn = nothing });
    in_goroutine(probe, &(struct probe){ .label = "panic(1):", .fn = panic_1 });
    in_goroutine(probe, &(struct probe){ .label = "panic(nil):", .fn = panic_nil });
    in_goroutine(probe, &(struct probe){ .label = "Goexit:", .fn = goexit });
}

static void
panic_again(const char *prefix)
{
    const struct bh_panic *p = bh_recover();

    if (p != NULL)
        bh_panic("%s%s", prefix, bh_panic_text(p));
}

static void
panic_and_again(const char *text)
{
    BH_RETURNS_VOID;
    BH_DEFER(panic_again, "again: ");
    bh_panic("%s", text);
}

TWIN(D16, "repanic-of-recovered-during-goexit")
{
    BH_DEFER(panic_and_again, "first");
    bh_goexit();
}

static const char *
end_goroutine(const void *value)
{
    (void)value;
    bh_goexit();
}

static void
panic_with_goexit_error(void *unused)
{
    static const struct bh_kind goexit_error = { .name = "main.goexitError",
                                                 .error = end_goroutine };

    (void)unused;
    bh_panic_value(&goexit_error, &goexit_error);
}

TWIN(D17, "error-method-goexit-in-child-loses-the-crash")
{
    bh_go(panic_with_goexit_error, NULL);
    bh_sleep(50 * BH_MILLISECOND);
    say("process survived an uncaught panic");
}

static void
goexit_locked(void *unused)
{
    (void)unused;
    bh_lock_thread();
    bh_goexit();
}

TWIN(D18, "goexit-in-locked-thread-goroutine")
{
    in_goroutine(goexit_locked, NULL);
    say("ok");
}
