/* once_test.c -- once values and functions. */

#include "test.h"

#include <stdatomic.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/once.h>
#include <bulkhead/go/sync.h>

static _Atomic int calls;

static void *
count_and_return(void *arg)
{
    atomic_fetch_add(&calls, 1);
    for (int i = 0; i < 5; i++)
        bh_yield();
    return arg;
}

static void *
count_and_panic(void *arg)
{
    atomic_fetch_add(&calls, 1);
    bh_yield();
    bh_panic("cannot load %s", (const char *)arg);
}

static void
count(void *arg)
{
    (void)arg;
    atomic_fetch_add(&calls, 1);
}

static const struct bh_kind kind_pair = { .name = "main.pair", .size = 8 };

static void
panic_pair(void *arg)
{
    int pair[2] = { 5, 6 };

    (void)arg;
    atomic_fetch_add(&calls, 1);
    bh_panic_value(&kind_pair, pair);
}

static void
exit_here(void *arg)
{
    (void)arg;
    atomic_fetch_add(&calls, 1);
    bh_goexit();
}

TEST(once, value_is_made_once)
{
    int                  x;
    struct bh_once_value o = { .fn = count_and_return, .arg = &x };

    for (int i = 0; i < 3; i++)
        EXPECT(bh_once_value(&o) == &x);
    EXPECT_EQ(calls, 1);
}

struct ask {
    struct bh_once_value *o;
    struct bh_waitgroup  *over;
};

static void
ask(void *args)
{
    struct ask *a = args;

    EXPECT(bh_once_value(a->o) == a->over);
    bh_waitgroup_done(a->over);
}

TEST(once, everyone_who_asks_at_once_gets_the_value)
{
    struct bh_waitgroup  over = { 0 };
    struct bh_once_value o = { .fn = count_and_return, .arg = &over };

    bh_waitgroup_add(&over, 10);
    for (int i = 0; i < 10; i++)
        bh_go(ask, &(struct ask){ &o, &over });
    bh_waitgroup_wait(&over);
    EXPECT_EQ(calls, 1);
}

TEST(once, a_panic_is_the_same_for_every_caller)
{
    static char                 what[] = "config";
    static struct bh_once_value o = { .fn = count_and_panic, .arg = what };

    EXPECT_PANIC("cannot load config", (void)bh_once_value(&o));
    EXPECT_PANIC("cannot load config", (void)bh_once_value(&o));
    EXPECT_EQ(calls, 1);
}

static bool
gives_pair(struct bh_once_func *o)
{
    BH_RECOVER(p) {
        const int *pair = p->value;
        return p->kind == &kind_pair && pair[0] == 5 && pair[1] == 6;
    }
    bh_once_func(o);
    return false;
}

TEST(once, a_panics_value_is_kept_not_only_its_text)
{
    static struct bh_once_func o = { .fn = panic_pair };

    for (int i = 0; i < 3; i++)
        EXPECT(gives_pair(&o));
    EXPECT_EQ(calls, 1);
}

TEST(once, func_runs_once)
{
    struct bh_once_func o = { .fn = count };

    for (int i = 0; i < 3; i++)
        bh_once_func(&o);
    EXPECT_EQ(calls, 1);
}

struct leaver {
    struct bh_once_func *o;
    struct bh_chan      *gone;
};

static void
leave(void *args)
{
    struct leaver *l = args;

    BH_DEFER(bh_close, l->gone);
    bh_once_func(l->o);
    EXPECT(!"reached");
}

TEST(once, after_an_exit_later_callers_panic)
{
    struct bh_once_func o = { .fn = exit_here };
    struct bh_chan     *gone = BH_CHAN(char, 0);

    bh_go(leave, &(struct leaver){ &o, gone });
    bh_recv(gone, NULL);
    EXPECT_PANIC("once: the function called bh_goexit", bh_once_func(&o));
    EXPECT_EQ(calls, 1);
    bh_chan_unref(gone);
}

static void
deeper(void *arg)
{
    (void)arg;
    bh_panic("deep");
}

TEST_DIES(once, the_first_callers_report_has_the_whole_stack, 2, "deeper(")
{
    struct bh_once_func o = { .fn = deeper };

    bh_once_func(&o);
}
