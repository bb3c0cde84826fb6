/*
 * h_runtime_errors.c -- H: run-time errors that can be recovered, with their
 * texts and types.
 */

#include "cases.h"

#include <limits.h>
#include <stdint.h>
#include <stdio.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

struct shape {
    double (*area)(struct shape *self);
};

static int *volatile nil_int;
static struct shape *volatile nil_shape;
static struct {
    int pad, x;
} *volatile nil_struct;
static long (*volatile nil_large)[1 << 20];
static void (*volatile nil_func)(void);

static void
load(void *unused)
{
    (void)unused;
    say("%d", *nil_int);
}

static void
store(void *unused)
{
    (void)unused;
    *nil_int = 1;
}

/* 4 MiB from nil: no longer a nil pointer to the processor. */
static void
store_far(void *unused)
{
    (void)unused;
    BH_DEFER(bh_panic_on_fault, bh_panic_on_fault(true));
    (*nil_large)[1 << 19] = 1;
}

static void
store_field(void *unused)
{
    (void)unused;
    nil_struct->x = 1;
}

static void
call_nil(void *unused)
{
    (void)unused;
    nil_func();
}

static void
call_nil_method(void *unused)
{
    (void)unused;
    nil_shape->area(nil_shape);
}

TWIN(H01, "nil-dereference")
{
    caught("load", load, NULL);
    caught("store", store, NULL);
    caught("large offset", store_far, NULL);
    caught("field", store_field, NULL);
    caught("nil func", call_nil, NULL);
    caught("nil interface method", call_nil_method, NULL);
}

static volatile int64_t zero, one = 1, minimum = INT64_MIN, minus_one = -1;
static volatile double  zero_f;

static void
divide(void *unused)
{
    (void)unused;
    say("%ld", (long)(one / zero));
}

static void
remainder_of(void *unused)
{
    (void)unused;
    say("%ld", (long)(one % zero));
}

static void
divide_f(void *unused)
{
    (void)unused;
    say("%s", 1 / zero_f > 1e308 ? "+Inf" : "finite");
}

static void
divide_minimum(void *unused)
{
    (void)unused;
    say("%ld %ld", (long)(minimum / minus_one), (long)(minimum % minus_one));
}

TWIN(H02, "division")
{
    caught("div", divide, NULL);
    caught("mod", remainder_of, NULL);
    caught("float div is no panic", divide_f, NULL);
    caught("min / -1 is no panic", divide_minimum, NULL);
}

static void
close_chan(void *c)
{
    bh_close(c);
}

static void
send_1(void *c)
{
    bh_send(c, &(int){ 1 });
}

static void
select_send(void *chan)
{
    struct bh_chan *c = chan;
    int             value = 1;

    if (bh_select(BH_SEND(c, &value), BH_DEFAULT) == 1)
        say("default");
}

static void
receive(void *c)
{
    int  value = 7;
    bool ok = bh_recv((struct bh_chan *)c, &value);

    say("%d %s", value, yes_no(ok));
}

static void
make_negative(void *unused)
{
    (void)unused;
    bh_chan_unref(BH_CHAN(int, (size_t)minus_one));
}

TWIN(H06, "channels")
{
    struct bh_chan *c = BH_CHAN(int, 1);

    bh_close(c);
    caught("close of closed", close_chan, c);
    caught("send on closed", send_1, c);
    caught("select send on closed", select_send, c);
    caught("receive from closed is fine", receive, c);
    caught("close of nil", close_chan, NULL);
    caught("negative size", make_negative, NULL);
}

static void
add_negative(void *unused)
{
    struct bh_waitgroup wg = { 0 };

    (void)unused;
    bh_waitgroup_add(&wg, -1);
}

static void
make_ticker(void *unused)
{
    (void)unused;
    bh_timer_free(bh_ticker_new(0));
}

TWIN(H12_ours, "library-panics")
{
    caught("WaitGroup", add_negative, NULL);
    caught("time.NewTicker", make_ticker, NULL);
}

static void
panic_error_x(void *unused)
{
    (void)unused;
    bh_panic_value(&bh_kind_error, "x");
}

static void
panic_x(void *unused)
{
    (void)unused;
    bh_panic("x");
}

TWIN(H13, "user-error-is-not-runtime-error")
{
    caught("errorf", panic_error_x, NULL);
    caught("string", panic_x, NULL);
}
