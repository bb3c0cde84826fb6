/*
 * a_recover_scope.c -- A: where recover works.
 *
 * Only straight in the function that the panic itself called, and once.  A
 * helper below it, a deferred call of a deferred call, another goroutine: nil.
 */

#include "cases.h"

#include <stdio.h>
#include <string.h>

#include <bulkhead/go/chan.h>

/* func() { defer fn(arg); panic("boom") }() */
static void
boom_under(void (*fn)(const char *), const char *arg)
{
    BH_RETURNS_VOID;
    BH_DEFER(fn, arg);
    bh_panic("boom");
}

/* func() { defer fn(arg); panic(n) }() */
static void
panic_under(void (*fn)(void *), void *arg, int n)
{
    BH_RETURNS_VOID;
    BH_DEFER(fn, arg);
    bh_panic_value(&bh_kind_int, &n);
}

TWIN(A01, "recover-in-deferred-closure")
{
    boom_under(show_recovered, "got");
    say("caller goes on");
}

static void
boom_at_point(void)
{
    BH_RECOVER(p) {
        show("got", p);
        return;
    }
    bh_panic("boom");
}

TWIN(A01_block, "recover-in-block")
{
    boom_at_point();
    say("caller goes on");
}

static void
defer_without_panic(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "in defer, no panic");
}

TWIN(A02, "recover-when-not-panicking")
{
    show("plain", bh_recover());
    defer_without_panic();
}

/* One call too deep when a deferred function calls it, inlined or not. */
static const struct bh_panic *
grab(void)
{
    return bh_recover();
}

static void
show_grabbed(const char *label)
{
    show(label, grab());
}

TWIN(A03, "recover-in-helper-called-by-deferred")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    boom_under(show_grabbed, "helper");
    say("not reached");
}

TWIN(A04, "named-function-is-the-deferred-one")
{
    boom_under(show_recovered, "deferred named func got");
    say("caller goes on");
}

/* bh_recover is a macro: what Go's `defer recover()` defers is the function behind it. */
static void
boom_under_recover_itself(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(bh_recover_at_, (uintptr_t)__builtin_dwarf_cfa());
    bh_panic("boom");
}

TWIN(A05, "defer-recover-builtin-directly")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    boom_under_recover_itself();
    say("not reached");
}

static void
end_with_deferred_panic(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(panic_text, "from defer panic");
    say("body ends");
}

TWIN(A07, "defer-panic-builtin")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    end_with_deferred_panic();
    say("not reached");
}

/* Go's methods: of a pointer, of a value, of a large value; C has only the pointer. */
struct tagged {
    const char *tag;
};

static void
ptr_catch(void *self)
{
    struct tagged *t = self;
    char           label[64];

    snprintf(label, sizeof label, "ptr method %s", t->tag);
    show(label, bh_recover());
}

static void
value_catch(void *self)
{
    struct tagged *t = self;
    char           label[64];

    snprintf(label, sizeof label, "value method %s", t->tag);
    show(label, bh_recover());
}

static void
big_catch(void *self)
{
    (void)self;
    show("big value method", bh_recover());
}

TWIN(A08, "pointer-method-deferred")
{
    struct tagged p = { "p" };

    panic_under(ptr_catch, &p, 1);
    say("ok");
}

/* An interface value: methods and the thing they are called on. */
struct catcher {
    const struct catcher_methods {
        void (*catch)(void *self);
    } *methods;
    void *self;
};

static const struct catcher_methods tagged_value_methods = { value_catch };
static const struct catcher_methods tagged_ptr_methods = { ptr_catch };
static const struct catcher_methods big_methods = { big_catch };

static void
panic_under_catcher(const struct catcher *c, int n)
{
    BH_RETURNS_VOID;
    BH_DEFER(c->methods->catch, c->self);
    bh_panic_value(&bh_kind_int, &n);
}

struct embedder {
    struct tagged *inner;
};

TWIN(A09, "interface-value-method-wrapper")
{
    struct tagged   v = { "v" }, embedded = { "embedded" };
    unsigned char   big[512] = { 0 };
    struct embedder e = { &embedded };

    panic_under_catcher(&(struct catcher){ &tagged_value_methods, &v }, 2);
    panic_under_catcher(&(struct catcher){ &big_methods, big }, 3);
    panic_under_catcher(&(struct catcher){ &tagged_ptr_methods, e.inner }, 4);
    say("ok");
}

TWIN(A10, "method-value-deferred")
{
    struct tagged  mv = { "mv" }, mexpr = { "mexpr" };
    struct catcher bound = { &tagged_value_methods, &mv };
    void (*method)(void *) = ptr_catch;

    panic_under(bound.methods->catch, bound.self, 5);
    panic_under(method, &mexpr, 6);
    say("ok");
}

struct answer {
    struct bh_chan *done;
};

static void
send_recovered(struct bh_chan *done)
{
    const struct bh_panic *p = bh_recover();

    bh_send(done, &p);
}

static void
recover_plainly(void *args)
{
    const struct bh_panic *p = bh_recover();

    bh_send(((struct answer *)args)->done, &p);
}

static void
recover_deferred(void *args)
{
    BH_RETURNS_VOID;
    BH_DEFER(send_recovered, ((struct answer *)args)->done);
}

static void
ask_other_goroutines(const char *unused)
{
    struct answer          a = { BH_CHAN(const struct bh_panic *, 0) };
    const struct bh_panic *p;

    (void)unused;
    BH_DEFER(bh_chan_unref, a.done);
    bh_go(recover_plainly, &a);
    bh_recv(a.done, &p);
    show("other goroutine", p);
    bh_go(recover_deferred, &a);
    bh_recv(a.done, &p);
    show("other goroutine, deferred", p);
}

TWIN(A12, "recover-in-goroutine-started-by-deferred")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    boom_under(ask_other_goroutines, NULL);
}

static void
call_recoverer(const char *label)
{
    show_recovered(label);
}

TWIN(A13, "recover-in-closure-invoked-by-deferred")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    boom_under(call_recoverer, "inner literal");
}

static void
recover_twice(const char *unused)
{
    (void)unused;
    show("first", bh_recover());
    show("second", bh_recover());
}

TWIN(A14, "second-recover-is-nil")
{
    boom_under(recover_twice, NULL);
    say("ok");
}

static void
show_argument(const struct bh_panic *p)
{
    show("argument evaluated early", p);
}

static void
boom_under_early_argument(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_argument, bh_recover()); /* evaluated now, when nothing panics */
    bh_panic("boom");
}

TWIN(A15, "recover-as-deferred-argument")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    boom_under_early_argument();
}

static void
defer_recoverer(const char *label)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, label);
}

TWIN(A17, "recover-two-defers-deep")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    boom_under(defer_recoverer, "depth 2");
    say("not reached");
}

static void
call_deferrer(const char *label)
{
    defer_recoverer(label);
}

TWIN(A18, "defer-in-function-called-by-deferred")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    boom_under(call_deferrer, "callee's deferred");
    say("not reached");
}

static void
show_through_pointer(const char *label)
{
    const struct bh_panic *(*volatile f)(void) = grab;

    show(label, f());
}

TWIN(A20, "recover-stored-as-function-value")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "outer");
    boom_under(show_through_pointer, "through function value");
}

TWIN(A21, "function-value-itself-deferred")
{
    void (*volatile f)(const char *) = show_recovered;

    boom_under(f, "function value");
    say("ok");
}

static void
boom_under_two(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(show_recovered, "registered first, runs last");
    BH_DEFER(show_recovered, "registered last, runs first");
    bh_panic("boom");
}

TWIN(A24, "recover-in-two-defers-first-wins")
{
    boom_under_two();
}
