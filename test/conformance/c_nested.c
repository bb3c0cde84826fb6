/*
 * c_nested.c -- C: panics inside panics, re-panics, and values whose own text
 * function misbehaves while the crash is being printed.
 */

#include "cases.h"

#include <stdio.h>
#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/timer.h>

/* func() { defer fn(arg); panic(text) }(), where nothing here recovers */
static void
panic_over(void (*fn)(const char *), const char *arg, const char *text)
{
    BH_DEFER(fn, arg);
    bh_panic("%s", text);
}

/* The same, where fn may recover. */
static void
panic_under(void (*fn)(const char *), const char *arg, const char *text)
{
    BH_RETURNS_VOID;
    BH_DEFER(fn, arg);
    bh_panic("%s", text);
}

TWIN(C01, "panic-in-defer-replaces")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "only the newest");
    panic_over(panic_text, "second", "first");
}

static void
panic_twice_at_point(void)
{
    BH_RECOVER(p) {
        show("only the newest", p);
        return;
    }
    panic_over(panic_text, "second", "first");
}

TWIN(C01_block, "panic-in-defer-replaces-block")
{
    panic_twice_at_point();
}

TWIN(C02, "uncaught-chain-of-two")
{
    BH_DEFER(panic_text, "second");
    bh_panic("first");
}

TWIN(C03, "uncaught-chain-of-three")
{
    BH_DEFER(panic_text, "third");
    BH_DEFER(panic_text, "second");
    bh_panic("first");
}

/* if r := recover(); r != nil { panic(prefix + r) } */
static void
wrap(const char *prefix)
{
    const struct bh_panic *p = bh_recover();

    if (p != NULL)
        bh_panic("%s%s", prefix, bh_panic_text(p));
}

/* if r := recover(); r != nil { panic(r) } */
static void
repanic(const char *unused)
{
    const struct bh_panic *p = bh_recover();

    (void)unused;
    if (p != NULL)
        bh_repanic(p);
}

static void
replace(const char *text)
{
    (void)bh_recover();
    bh_panic("%s", text);
}

TWIN(C04, "recovered-then-other-value")
{
    BH_RETURNS_VOID;
    BH_DEFER(wrap, "wrapped: ");
    bh_panic("first");
}

TWIN(C05, "recovered-then-same-value")
{
    BH_RETURNS_VOID;
    BH_DEFER(repanic, NULL);
    bh_panic("same");
}

/* A panic that the deferred function raises and recovers further down. */
static void
recover_inner(void)
{
    panic_under(show_recovered, "inner", "inner");
}

static void
recover_inner_go_on(const char *line)
{
    recover_inner();
    say("%s", line);
}

static void
recover_inner_then_own(const char *label)
{
    recover_inner();
    show(label, bh_recover());
}

TWIN(C06, "inner-panic-recovered-inside-deferred")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer still sees");
    panic_over(recover_inner_go_on, "deferred goes on", "outer");
}

static void
inner_at_point(const char *line)
{
    BH_RECOVER(p) {
        show("inner", p);
        say("%s", line);
        return;
    }
    bh_panic("inner");
}

static void
outer_at_point(void)
{
    BH_RECOVER(p) {
        show("outer still sees", p);
        return;
    }
    panic_over(inner_at_point, "deferred goes on", "outer");
}

TWIN(C06_block, "inner-panic-recovered-inside-deferred-block")
{
    outer_at_point();
}

TWIN(C07, "inner-recover-then-direct-recover")
{
    panic_under(recover_inner_then_own, "direct", "outer");
    say("ok");
}

static void
show_then_panic(const char *text)
{
    show("first", bh_recover());
    bh_panic("%s", text);
}

TWIN(C09, "recover-first-then-panic-second-in-same-deferred")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    panic_under(show_then_panic, "second", "first");
}

static void
recover_both(const char *text)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, text);
    show("first", bh_recover());
    bh_panic("%s", text);
}

TWIN(C10, "recover-own-second-panic")
{
    panic_under(recover_both, "second", "first");
    say("both recovered");
}

static void
recover_second_only(const char *text)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, text);
    bh_panic("%s", text);
}

TWIN(C11, "second-recovered-first-left")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    panic_under(recover_second_only, "second", "first");
    say("not reached");
}

static void
recover_wrapped(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "r");
    panic_under(wrap, "wrap: ", "bad");
}

TWIN(C12, "old-panics-not-printed-after-full-recovery")
{
    recover_wrapped();
    bh_panic("again");
}

struct saved {
    const char *text;
};

static void
save_then_panic(struct saved *outer)
{
    outer->text = bh_recover()->value;
    bh_panic("inner");
}

static void
panic_with_saved(struct saved *outer)
{
    (void)bh_recover();
    bh_panic_value(&bh_kind_string, outer->text);
}

TWIN(C13, "sandwich")
{
    struct saved outer = { NULL };

    BH_RETURNS_VOID;
    BH_DEFER(panic_with_saved, &outer);
    BH_DEFER(save_then_panic, &outer);
    bh_panic("outer");
}

struct held {
    const struct bh_panic *p;
};

static void
hold_then_panic(struct held *outer)
{
    outer->p = bh_recover();
    bh_panic("inner");
}

static void
repanic_held(struct held *outer)
{
    (void)bh_recover();
    bh_repanic(outer->p);
}

/* Panicked with again, but not as the next one: no [recovered, repanicked]. */
TWIN(C13_repanic, "sandwich-by-repanic")
{
    struct held outer = { NULL };

    BH_RETURNS_VOID;
    BH_DEFER(repanic_held, &outer);
    BH_DEFER(hold_then_panic, &outer);
    bh_panic("outer");
}

static void
panic_middle(void)
{
    panic_under(replace, "middle", "inner");
}

static void
repanic_middle(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(repanic, NULL);
    panic_middle();
}

TWIN(C14, "repanic-in-the-middle")
{
    BH_RETURNS_VOID;
    BH_DEFER(replace, "outer");
    repanic_middle();
}

static void
panic_and_recover(const char *text)
{
    panic_under((void (*)(const char *))recover_quietly, NULL, text);
}

TWIN(C15, "recovered-inner-does-not-print")
{
    BH_DEFER(panic_and_recover, "inner, recovered in place");
    bh_panic("outer, uncaught");
}

/* Values whose Error or String does more than return a text. */
static const char *
panic_in_error(const void *value)
{
    (void)value;
    bh_panic("double error");
}

static const char *
panic_in_string(const void *value)
{
    (void)value;
    bh_panic("double stringer");
}

static const char *
panic_with_error(const void *value)
{
    (void)value;
    bh_panic_value(&bh_kind_error, "an error value");
}

static const char *
chat(const void *value)
{
    (void)value;
    say("Error() was called");
    return "chatty";
}

static const char *
yield(const void *value)
{
    (void)value;
    bh_yield();
    return "yielding";
}

static const char *
exit_with_5(const void *value)
{
    (void)value;
    bh_exit(5);
}

static const char *
end_goroutine(const void *value)
{
    (void)value;
    bh_goexit();
}

static const struct bh_kind bad_error = { .name = "main.badError", .error = panic_in_error };
static const struct bh_kind bad_stringer = { .name = "main.badStringer",
                                             .string = panic_in_string };
static const struct bh_kind worse_error = { .name = "main.worseError",
                                            .error = panic_with_error };
static const struct bh_kind chatty_error = { .name = "main.chattyError", .error = chat };
static const struct bh_kind yielding_error = { .name = "main.yieldingError", .error = yield };
static const struct bh_kind exiting_error = { .name = "main.exitingError",
                                              .error = exit_with_5 };
static const struct bh_kind goexit_error = { .name = "main.goexitError",
                                             .error = end_goroutine };
static const char           some_value;

TWIN(C17, "error-method-panics-while-printing")
{
    bh_panic_value(&bad_error, &some_value);
}

TWIN(C18, "string-method-panics-while-printing")
{
    bh_panic_value(&bad_stringer, &some_value);
}

TWIN(C19, "error-method-panics-with-error-while-printing")
{
    bh_panic_value(&worse_error, &some_value);
}

TWIN(C20, "error-method-writes-output")
{
    bh_panic_value(&chatty_error, &some_value);
}

TWIN(C21, "error-method-yields")
{
    bh_panic_value(&yielding_error, &some_value);
}

TWIN(C22, "error-method-exits")
{
    bh_panic_value(&exiting_error, &some_value);
}

TWIN(C23, "error-method-goexits")
{
    bh_panic_value(&goexit_error, &some_value);
}

/* fmt.Errorf("wrapped: %w", err): a text, and the error it wraps. */
struct wrapped_error {
    const char *text;
    const void *inner;
};

static const char *
wrapped_text(const void *value)
{
    return ((const struct wrapped_error *)value)->text;
}

static const struct bh_kind kind_wrapped = { .name = "*fmt.wrapError", .error = wrapped_text };
static const char           sentinel[] = "sentinel";
static struct wrapped_error wrapped = { "wrapped: sentinel", NULL };

static void
wrap_error(const char *unused)
{
    (void)unused;
    wrapped.inner = bh_recover()->value;
    bh_panic_value(&kind_wrapped, &wrapped);
}

static void
compare_with_sentinel(void *unused)
{
    const struct bh_panic *p = bh_recover();
    const void            *inner = NULL;

    (void)unused;
    if (p->kind == &kind_wrapped)
        inner = ((const struct wrapped_error *)p->value)->inner;
    say("%s %s", yes_no(p->value == sentinel), yes_no(inner == sentinel));
}

static void
panic_with_sentinel(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(wrap_error, NULL);
    bh_panic_value(&bh_kind_error, sentinel);
}

TWIN(C24, "panic-with-recovered-error-keeps-identity")
{
    BH_RETURNS_VOID;
    BH_DEFER(compare_with_sentinel, NULL);
    panic_with_sentinel();
}

struct channel {
    struct bh_chan *chan;
};

static void
tick(void *args)
{
    struct channel *ticks = args;

    for (int i = 0; i < 3; i++)
        bh_send(ticks->chan, &i);
    bh_close(ticks->chan);
}

static void
drain(struct bh_chan *ticks)
{
    int i;

    while (bh_recv(ticks, &i))
        say("other goroutine tick %d", i);
}

static void
drain_while_panicking(struct bh_chan *ticks)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "r");
    BH_DEFER(drain, ticks);
    bh_panic("boom");
}

TWIN(C25, "others-run-while-deferred-blocks")
{
    struct channel ticks = { BH_CHAN(int, 0) };

    bh_go(tick, &ticks);
    drain_while_panicking(ticks.chan);
}

static void
close_and_yield(struct bh_chan *in)
{
    bh_close(in);
    for (int i = 0; i < 50; i++)
        bh_yield();
}

static void
panic_late(void *args)
{
    BH_DEFER(close_and_yield, ((struct channel *)args)->chan);
    bh_panic("late");
}

TWIN(C26, "main-exit-waits-for-a-panicking-goroutine")
{
    struct channel in = { BH_CHAN(bool, 0) };

    bh_go(panic_late, &in);
    bh_recv(in.chan, NULL);
}

static void
close_and_sleep(struct bh_chan *in)
{
    bh_close(in);
    bh_sleep(2 * BH_SECOND);
}

static void
panic_too_late(void *args)
{
    BH_DEFER(close_and_sleep, ((struct channel *)args)->chan);
    bh_panic("too late");
}

TWIN(C27, "main-exit-does-not-wait-for-a-sleeping-deferred")
{
    struct channel in = { BH_CHAN(bool, 0) };

    bh_go(panic_too_late, &in);
    bh_recv(in.chan, NULL);
}

struct text {
    char text[16];
};

static void
keep_text(struct text *kept)
{
    snprintf(kept->text, sizeof kept->text, "%s", bh_panic_text(bh_recover()));
}

static void
panic_number(struct text *kept, int i)
{
    BH_RETURNS_VOID;
    BH_DEFER(keep_text, kept);
    bh_panic("p%d", i);
}

TWIN(C29, "recover-value-used-after-more-panics")
{
    struct text kept[3];

    for (int i = 0; i < 3; i++)
        panic_number(&kept[i], i);
    say("%s %s %s", kept[0].text, kept[1].text, kept[2].text);
}

static void
repanic_through(int frames)
{
    BH_RETURNS_VOID;
    BH_DEFER(repanic, NULL);
    if (frames == 1)
        bh_panic("same");
    repanic_through(frames - 1);
}

TWIN(C30, "same-value-repanicked-through-three-frames")
{
    repanic_through(3);
}

static void
panic_2_then_3(void *unused)
{
    (void)unused;
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "inner");
    BH_DEFER(panic_text, "3");
    bh_panic("2");
}

static void
panic_after_recovery(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(panic_2_then_3, NULL);
    BH_DEFER(show_recovered, "first");
    bh_panic("1");
}

static void
defer_around_it(void)
{
    BH_DEFER(say_text, "still deferred");
    panic_after_recovery();
    say("goes on");
}

/* golang/go#48898: deferred calls were lost after nested recoveries. */
TWIN(C33_ours, "nested-recoveries-lose-no-deferred-call")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    defer_around_it();
    bh_panic("last");
}

static void
panic_while_returning(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "got");
    BH_DEFER(panic_text, "from a deferred during normal return");
}

TWIN(C32, "deferred-recovers-panic-raised-by-later-registered-deferred")
{
    panic_while_returning();
    say("ok");
}

struct meeting {
    struct bh_chan *in_defer, *go2;
};

static void
recover_and_close(struct bh_chan *go2)
{
    (void)bh_recover();
    bh_close(go2);
}

static void
stop_in_defer(struct bh_chan *in_defer)
{
    bh_send(in_defer, &(bool){ true });
    bh_recv(in_defer, NULL);
}

static void
panic_and_stop(void *args)
{
    struct meeting *m = args;

    BH_RETURNS_VOID;
    BH_DEFER(recover_and_close, m->go2);
    BH_DEFER(stop_in_defer, m->in_defer);
    bh_panic("first goroutine");
}

static void
recover_nothing(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "main sees");
}

TWIN(C35, "panicking-flag-is-per-goroutine")
{
    struct meeting m = { BH_CHAN(bool, 0), BH_CHAN(bool, 0) };

    bh_go(panic_and_stop, &m);
    bh_recv(m.in_defer, NULL);
    recover_nothing();
    bh_send(m.in_defer, &(bool){ true });
    bh_recv(m.go2, NULL);
}
