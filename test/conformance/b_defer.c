/*
 * b_defer.c -- B: when deferred calls run, with what arguments, and what a
 * function returns after a recovery.
 *
 * Go's defer belongs to the function, BH_DEFER to the block; where Go defers in a
 * loop, an `if` or a block, the twin uses BH_DEFER_LATE, which belongs to the
 * function too (docs/adr/0001-defer-is-block-scoped.md).
 */

#include "cases.h"

#include <stdio.h>
#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

static void
say_deferred(int i)
{
    say("deferred %d", i);
}

TWIN(B01, "lifo-order")
{
    BH_DEFER_SCOPE;
    for (int i = 0; i < 3; i++)
        BH_DEFER_LATE(say_deferred, i);
    say("body");
}

static void
say_argument(int n)
{
    say("argument %d", n);
}

static void
say_captured(const int *n)
{
    say("captured %d", *n);
}

TWIN(B02, "arguments-evaluated-at-defer-statement")
{
    int n = 1;

    BH_DEFER(say_argument, n);
    BH_DEFER(say_captured, &n);
    n = 2;
    say("body %d", n);
}

static void
say_value_receiver(int n)
{
    say("value receiver %d", n);
}

static void
say_pointer_receiver(const int *n)
{
    say("pointer receiver %d", *n);
}

TWIN(B03, "receiver-evaluated-at-defer-statement")
{
    struct counter {
        int n;
    } c = { 1 };

    BH_DEFER(say_value_receiver, c.n);
    BH_DEFER(say_pointer_receiver, &c.n);
    c.n = 2;
}

static const char *
trace(const char *name)
{
    say("enter %s", name);
    return name;
}

static void
untrace(const char *name)
{
    say("leave %s", name);
}

static void
traced(void)
{
    BH_DEFER(untrace, trace("f"));
    say("body");
}

TWIN(B04, "nested-call-argument-evaluated-early")
{
    traced();
}

static void
defer_if(bool on)
{
    BH_DEFER_SCOPE;
    BH_DEFER_LATE(say_text, "always");
    if (on)
        BH_DEFER_LATE(say_text, "only when on");
    say("on = %s", yes_no(on));
}

TWIN(B06, "conditional-defer")
{
    defer_if(true);
    defer_if(false);
}

static void
defer_in_block(void)
{
    BH_DEFER_SCOPE;
    {
        BH_DEFER_LATE(say_text, "deferred in block");
    }
    say("block is over");
}

TWIN(B07, "defer-in-block-runs-at-function-end")
{
    defer_in_block();
    say("function is over");
}

static void
say_seen(const int *i)
{
    say("closure sees %d", *i);
}

/* One variable for the whole loop, as up to Go 1.21. */
static void
defer_captures(void)
{
    int i;

    BH_DEFER_SCOPE;
    for (i = 0; i < 3; i++)
        BH_DEFER_LATE(say_seen, &i);
}

TWIN(B08, "loop-variable-capture")
{
    defer_captures();
}

static int
unnamed_result(void)
{
    int result = 0;

    BH_RETURNS(result);
    BH_DEFER(recover_quietly, NULL);
    bh_panic("x");
}

static void
recover_and_set_8(int *n)
{
    (void)bh_recover();
    *n = 8;
}

static int
unnamed_after_assign(void)
{
    int result = 0;

    BH_RETURNS(result);
    int n = 7;
    BH_DEFER(recover_and_set_8, &n);
    bh_panic("x");
}

TWIN(B09, "unnamed-result-after-recover")
{
    int a = unnamed_result();
    int b = unnamed_after_assign();

    say("%d %d", a, b);
}

struct named {
    int  n;
    char error[64];
};

static void
convert(struct named *result)
{
    const struct bh_panic *p = bh_recover();

    if (p != NULL)
        snprintf(result->error, sizeof result->error, "converted: %s", bh_panic_text(p));
}

static struct named
named_set_by_defer(void)
{
    struct named result = { 0 };

    BH_RETURNS(result);
    BH_DEFER(convert, &result);
    result.n = 7;
    bh_panic("x");
}

TWIN(B10, "named-result-after-recover")
{
    struct named r = named_set_by_defer();

    say("%d %s", r.n, r.error);
}

static void
increment(int *n)
{
    (*n)++;
}

/* A result that outlives the return statement is an output parameter in C. */
static void
return_then_defer(int *n)
{
    BH_DEFER(increment, n);
    *n = 41;
}

static int
return_unnamed_then_defer(void)
{
    int n = 41;

    BH_DEFER(increment, &n);
    return n;
}

TWIN(B11, "return-value-changed-by-defer")
{
    int named;

    return_then_defer(&named);
    say("%d %d", named, return_unnamed_then_defer());
}

static void
recover_in_the_middle(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(say_text, "registered 1st");
    BH_DEFER(show_recovered, "2nd");
    BH_DEFER(say_text, "registered 3rd");
    bh_panic("boom");
}

TWIN(B14, "remaining-defers-of-frame-run-after-recover")
{
    recover_in_the_middle();
    say("caller goes on");
}

static void
h(void)
{
    BH_DEFER(say_text, "h deferred");
    bh_panic("boom");
}

static void
g(void)
{
    BH_DEFER(say_text, "g deferred");
    h();
    say("g resumed - must not happen");
}

static void
f(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "f recovered");
    g();
    say("f resumed after g - must not happen");
}

TWIN(B16, "frames-in-between-do-not-resume")
{
    f();
    say("caller of f goes on");
}

static void
f_with_point(void)
{
    BH_RECOVER(p) {
        show("f recovered", p);
        return;
    }
    g();
    say("f resumed after g - must not happen");
}

TWIN(B16_block, "frames-in-between-do-not-resume-block")
{
    f_with_point();
    say("caller of f goes on");
}

static void
defer_nil(void)
{
    void (*volatile f_nil)(const char *) = NULL;

    BH_RETURNS_VOID;
    BH_DEFER(say_text, "other defer still runs");
    BH_DEFER(f_nil, NULL);
    say("defer statement of a nil func is fine");
}

TWIN(B17, "deferred-nil-func-panics-when-run")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    defer_nil();
    say("not reached");
}

struct catcher {
    void (*catch)(void *self);
};

static void
defer_method_of_nil(void)
{
    struct catcher *c = nil();

    BH_RETURNS_VOID;
    BH_DEFER(say_text, "registered before: runs");
    BH_DEFER(c->catch, NULL);
    say("not reached");
}

TWIN(B18, "deferred-nil-interface-method-panics-at-statement")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    defer_method_of_nil();
}

static int
boom_int(void)
{
    bh_panic("in return expression");
}

static void
say_never(int n)
{
    say("never registered %d", n);
}

static void
defer_with_panicking_argument(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(say_never, boom_int());
    say("not reached");
}

TWIN(B19, "argument-panics-so-nothing-is-registered")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    defer_with_panicking_argument();
}

TWIN(B20, "os-exit-skips-defers")
{
    BH_DEFER(say_text, "must not print");
    bh_exit(3);
}

TWIN(B21, "os-exit-inside-deferred-during-panic")
{
    BH_DEFER(say_text, "must not print");
    BH_DEFER(bh_exit, 7);
    bh_panic("boom");
}

/* Go's log.Fatal and log.Panicf, without a time in front. */
static void
log_fatal(const char *text)
{
    dprintf(2, "%s\n", text);
    bh_exit(1);
}

static void
log_panic(const char *text, int n)
{
    dprintf(2, "%s %d\n", text, n);
    bh_panic("%s %d", text, n);
}

TWIN(B22, "log-fatal")
{
    BH_DEFER(say_text, "must not print");
    log_fatal("fatal log");
}

TWIN(B23, "log-panic")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "recovered");
    log_panic("log panic", 1);
}

struct sleeper {
    struct bh_chan *started;
};

static void
sleep_an_hour(void *args)
{
    struct sleeper *s = args;

    BH_DEFER(say_text, "must not print");
    bh_send(s->started, &(bool){ true });
    bh_sleep(3600 * BH_SECOND);
}

TWIN(B24, "main-return-drops-goroutine-defers")
{
    struct sleeper s = { BH_CHAN(bool, 0) };

    bh_go(sleep_an_hour, &s);
    bh_recv(s.started, NULL);
}

static int
nine(const char *text)
{
    say("%s", text);
    return 9;
}

static void
defer_nine(void)
{
    BH_DEFER(nine, "ran");
}

TWIN(B25, "deferred-result-discarded")
{
    defer_nine();
}

static void
boom_while_locked(struct bh_mutex *mu)
{
    BH_RETURNS_VOID;
    BH_DEFER(recover_quietly, NULL);
    bh_mutex_lock(mu);
    BH_DEFER(bh_mutex_unlock, mu);
    bh_panic("boom");
}

TWIN(B26, "mutex-unlock-by-defer-on-panic")
{
    struct bh_mutex mu = { 0 };

    boom_while_locked(&mu);
    bh_mutex_lock(&mu);
    say("lock is free again");
}
