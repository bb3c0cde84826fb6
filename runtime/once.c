/*
 * once.c -- functions that run once, and whose outcome is the same for every
 * caller.
 *
 *     NEW --fn returns--> VALUE      every caller gets it
 *         --fn panics---> PANICKED   the first caller sees the panic itself, later
 *                                    ones a new panic with the same value
 *         --bh_goexit---> GONE       later callers panic; Go leaves this open
 *
 * The panic is copied by a deferred call, without recovering it: so the first
 * caller's report has the whole stack.  state_ is written under once_'s lock and
 * read after bh_once_do has returned or gone by.
 */

#include "contain.h"

#include <bulkhead/go/once.h>

#include "cold.h"

enum state { NEW, VALUE, PANICKED, GONE };

struct keeper {
    int              *state;
    struct bh_panic **panic;
};

/* keep -- deferred around fn: what became of it? */
static void
keep(struct keeper *k)
{
    struct rt_panic *r = rt_g()->panics;

    if (*k->state == VALUE)
        return;
    if (r == NULL || r->goexit) {
        *k->state = GONE;
        return;
    }
    *k->panic = rt_panic_keep(&r->pub);
    *k->state = PANICKED;
}

static noreturn void
panic_again(int state, const struct bh_panic *kept)
{
    if (state != PANICKED)
        rt_panic_string("once: the function called bh_goexit");
    if (kept == NULL)
        rt_panic_string("once: the function panicked, and there was no memory to say how");
    bh_panic_value_at_(kept->file, kept->line, kept->kind, kept->value);
}

static void
run_value(void *arg)
{
    struct bh_once_value *o = arg;
    struct keeper         k = { &o->state_, &o->panic_ };

    BH_DEFER(keep, &k);
    o->value_ = o->fn(o->arg);
    o->state_ = VALUE;
}

void *
bh_once_value(struct bh_once_value *o)
{
    bh_once_do(&o->once_, run_value, o);
    if (o->state_ != VALUE)
        panic_again(o->state_, o->panic_);
    return o->value_;
}

static void
run_func(void *arg)
{
    struct bh_once_func *o = arg;
    struct keeper        k = { &o->state_, &o->panic_ };

    BH_DEFER(keep, &k);
    o->fn(o->arg);
    o->state_ = VALUE;
}

void
bh_once_func(struct bh_once_func *o)
{
    bh_once_do(&o->once_, run_func, o);
    if (o->state_ != VALUE)
        panic_again(o->state_, o->panic_);
}
