/* time_test.c -- sleep, timers and tickers; the heap itself. */

#include "test.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

#include "runtime.h"

#define HOUR (3600 * BH_SECOND)

static int64_t
real_now(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * BH_SECOND + ts.tv_nsec;
}

/* ---- sleep -------------------------------------------------------------- */

TEST_SIM(sleep, an_hour_passes_in_no_time_and_exactly)
{
    int64_t began = bh_now(), really = real_now();

    bh_sleep(HOUR);
    EXPECT_EQ(bh_now() - began, HOUR);
    EXPECT(real_now() - really < 5 * BH_SECOND);
}

TEST(sleep, lasts_at_least_as_long_as_asked)
{
    int64_t began = bh_now();

    bh_sleep(3 * BH_MILLISECOND);
    EXPECT(bh_now() - began >= 3 * BH_MILLISECOND);
}

TEST_SIM(sleep, of_nothing_or_less_returns_at_once)
{
    int64_t began = bh_now();

    bh_sleep(0);
    bh_sleep(-HOUR);
    EXPECT_EQ(bh_now(), began);
}

struct sleeper {
    int64_t         ns;
    struct bh_chan *done;
};

static void
sleep_then_send(void *args)
{
    struct sleeper *a = args;

    bh_sleep(a->ns);
    bh_send(a->done, &a->ns);
}

TEST(sleep, wakes_goroutines_in_order_of_time)
{
    enum { COUNT = 20 };
    struct bh_chan *done = BH_CHAN(int64_t, COUNT);
    int64_t         got;

    for (int i = 0; i < COUNT; i++)
        bh_go(sleep_then_send,
              &(struct sleeper){ (1 + i * 7 % COUNT) * 4 * BH_MILLISECOND, done });
    for (int i = 0; i < COUNT; i++) {
        bh_recv(done, &got);
        if (rt_sched.simulate)
            EXPECT_EQ(got, (i + 1) * 4 * BH_MILLISECOND);
    }
    bh_chan_unref(done);
}

TEST(sleep, of_thousands_of_goroutines_at_once)
{
    enum { COUNT = test_sanitized ? 1000 : 10000 };
    struct bh_chan *done = BH_CHAN(int64_t, COUNT);

    for (int i = 0; i < COUNT; i++)
        bh_go(sleep_then_send, &(struct sleeper){ 1 + i * INT64_C(997) % 5000000, done });
    for (int i = 0; i < COUNT; i++)
        bh_recv(done, NULL);
    bh_chan_unref(done);
}

static void
nap(void *args)
{
    struct bh_chan *done = *(struct bh_chan **)args;

    for (int i = 0; i < 3000; i++)
        bh_sleep(1 + i * 7919 % 60000);
    bh_send(done, &(int64_t){ 0 });
}

/* Processors go idle all the time here, each time with a timer just armed beside them. */
TEST_REAL(sleep, of_many_short_naps_is_never_missed)
{
    struct bh_chan *done = BH_CHAN(int64_t, 3);

    for (int i = 0; i < 3; i++)
        bh_go(nap, &done);
    for (int i = 0; i < 3; i++)
        bh_recv(done, NULL);
    bh_chan_unref(done);
}

TEST_SIM(sleep, for_ever_does_not_overflow)
{
    struct bh_chan  *done = BH_CHAN(int64_t, 1);
    struct bh_timer *t = bh_timer_new(INT64_MAX);

    bh_go(sleep_then_send, &(struct sleeper){ HOUR, done });
    bh_recv(done, NULL);
    EXPECT(bh_timer_stop(t));
    bh_timer_free(t);
    bh_chan_unref(done);
}

/* ---- timers ------------------------------------------------------------- */

TEST(timer, sends_the_time_once_it_is_due)
{
    int64_t          began = bh_now(), at = 0;
    struct bh_timer *t = bh_timer_new(2 * BH_MILLISECOND);

    EXPECT(bh_recv(bh_timer_chan(t), &at));
    EXPECT(at - began >= 2 * BH_MILLISECOND);
    EXPECT(!bh_timer_stop(t));
    bh_timer_free(t);
}

TEST(timer, does_not_fire_once_stopped)
{
    struct bh_timer *t = bh_timer_new(2 * BH_MILLISECOND);

    EXPECT(bh_timer_stop(t));
    EXPECT(!bh_timer_stop(t));
    bh_sleep(5 * BH_MILLISECOND);
    EXPECT_EQ(bh_chan_len(bh_timer_chan(t)), 0);
    bh_timer_free(t);
}

TEST(timer, may_be_armed_for_the_past)
{
    struct bh_timer *t = bh_timer_new(-BH_SECOND);

    bh_recv(bh_timer_chan(t), NULL);
    bh_timer_free(t);
}

TEST_SIM(timer, moved_later_fires_at_the_later_time)
{
    int64_t          began = bh_now(), at;
    struct bh_timer *t = bh_timer_new(BH_SECOND);

    EXPECT(bh_timer_reset(t, HOUR));
    bh_sleep(2 * BH_SECOND);
    EXPECT_EQ(bh_chan_len(bh_timer_chan(t)), 0);
    bh_recv(bh_timer_chan(t), &at);
    EXPECT_EQ(at - began, HOUR);
    bh_timer_free(t);
}

TEST_SIM(timer, moved_earlier_fires_at_the_earlier_time)
{
    int64_t          began = bh_now(), at;
    struct bh_timer *t = bh_timer_new(HOUR);

    EXPECT(bh_timer_reset(t, BH_SECOND));
    bh_recv(bh_timer_chan(t), &at);
    EXPECT_EQ(at - began, BH_SECOND);
    bh_timer_free(t);
}

TEST(timer, reset_after_it_fired_delivers_no_stale_value)
{
    struct bh_timer *t = bh_timer_new(1);
    int64_t          at, began;

    bh_sleep(2 * BH_MILLISECOND);
    EXPECT_EQ(bh_chan_len(bh_timer_chan(t)), 1);
    began = bh_now();
    EXPECT(!bh_timer_reset(t, 3 * BH_MILLISECOND));
    bh_recv(bh_timer_chan(t), &at);
    EXPECT(at - began >= 3 * BH_MILLISECOND);
    bh_timer_free(t);
}

TEST(timer, stop_after_it_fired_delivers_no_stale_value)
{
    struct bh_timer *t = bh_timer_new(1);

    bh_sleep(2 * BH_MILLISECOND);
    EXPECT(!bh_timer_stop(t));
    EXPECT_EQ(bh_chan_len(bh_timer_chan(t)), 0);
    bh_timer_free(t);
}

TEST_PLAIN(timer, free_of_nothing_is_nothing)
{
    bh_timer_free(NULL);
}

static void
send_id(void *arg)
{
    struct bh_chan *c = arg;

    bh_send(c, &(uint64_t){ bh_id() });
}

TEST(timer, func_runs_on_a_goroutine_of_its_own)
{
    struct bh_chan  *c = BH_CHAN(uint64_t, 0);
    struct bh_timer *t = bh_timer_func(BH_MILLISECOND, send_id, c);
    uint64_t         id = 0;

    EXPECT(bh_timer_chan(t) == NULL);
    bh_recv(c, &id);
    EXPECT(id != 0 && id != bh_id());
    EXPECT(!bh_timer_stop(t));
    bh_timer_free(t);
    bh_chan_unref(c);
}

static _Atomic(struct bh_timer *) freed_by_itself;

static void
free_itself(void *arg)
{
    (void)arg;
    bh_timer_free(freed_by_itself);
    freed_by_itself = NULL;
}

TEST(timer, may_be_freed_by_its_own_function)
{
    freed_by_itself = bh_timer_func(BH_MILLISECOND, free_itself, NULL);
    while (freed_by_itself != NULL)
        bh_sleep(BH_MILLISECOND);
}

static _Atomic int fired;

static void
count_up(void *arg)
{
    (void)arg;
    atomic_fetch_add(&fired, 1);
}

TEST(timer, stop_and_fire_exclude_each_other)
{
    enum { ROUNDS = 500 };
    int stopped = 0;

    for (int i = 0; i < ROUNDS; i++) {
        struct bh_timer *t = bh_timer_func(i % 7 * 1000, count_up, NULL);

        for (int spin = 0; spin < i % 50; spin++)
            bh_yield();
        stopped += bh_timer_stop(t);
        bh_timer_free(t);
    }
    for (int i = 0; i < 1000 && fired + stopped < ROUNDS; i++)
        bh_sleep(BH_MILLISECOND);
    EXPECT_EQ(fired + stopped, ROUNDS);
}

struct hammer {
    struct bh_timer     *t;
    struct bh_waitgroup *wg;
};

static void
hammer(void *args)
{
    struct hammer *a = args;

    for (int i = 0; i < 2000; i++) {
        if (i % 3 == 0)
            bh_timer_stop(a->t);
        else
            bh_timer_reset(a->t, i % 5 * 1000);
        (void)bh_try_recv(bh_timer_chan(a->t), (int64_t *)NULL, NULL);
        if (i % 16 == 0)
            bh_yield();
    }
    bh_waitgroup_done(a->wg);
}

TEST(timer, survives_goroutines_that_stop_and_reset_it_at_once)
{
    struct bh_waitgroup wg = { 0 };
    struct bh_timer    *t = bh_timer_new(1);

    bh_waitgroup_add(&wg, 4);
    for (int i = 0; i < 4; i++)
        bh_go(hammer, &(struct hammer){ t, &wg });
    bh_waitgroup_wait(&wg);
    bh_timer_reset(t, BH_MILLISECOND);
    bh_recv(bh_timer_chan(t), NULL);
    bh_timer_free(t);
}

/* ---- tickers ------------------------------------------------------------ */

TEST_SIM(ticker, ticks_at_exact_intervals)
{
    int64_t          began = bh_now(), at;
    struct bh_timer *t = bh_ticker_new(BH_SECOND);

    for (int i = 1; i <= 5; i++) {
        bh_recv(bh_timer_chan(t), &at);
        EXPECT_EQ(at - began, i * BH_SECOND);
    }
    bh_timer_free(t);
}

TEST_SIM(ticker, drops_ticks_for_a_slow_receiver)
{
    int64_t          began = bh_now(), at;
    struct bh_timer *t = bh_ticker_new(BH_SECOND);

    bh_sleep(10 * BH_SECOND + BH_SECOND / 2);
    bh_recv(bh_timer_chan(t), &at); /* the first, kept */
    EXPECT_EQ(at - began, BH_SECOND);
    bh_recv(bh_timer_chan(t), &at);
    EXPECT_EQ(at - began, 11 * BH_SECOND);
    bh_timer_free(t);
}

TEST_SIM(ticker, reset_changes_the_interval)
{
    struct bh_timer *t = bh_ticker_new(HOUR);
    int64_t          began = bh_now(), at;

    EXPECT(bh_timer_reset(t, BH_SECOND));
    for (int i = 1; i <= 3; i++) {
        bh_recv(bh_timer_chan(t), &at);
        EXPECT_EQ(at - began, i * BH_SECOND);
    }
    bh_timer_free(t);
}

TEST(ticker, stop_ends_the_ticks)
{
    struct bh_timer *t = bh_ticker_new(BH_MILLISECOND);

    bh_recv(bh_timer_chan(t), NULL);
    EXPECT(bh_timer_stop(t));
    bh_sleep(5 * BH_MILLISECOND);
    EXPECT_EQ(bh_chan_len(bh_timer_chan(t)), 0);
    bh_timer_free(t);
}

TEST(ticker, of_no_interval_panics)
{
    EXPECT_PANIC("non-positive interval for NewTicker", bh_ticker_new(0));
}

TEST(ticker, reset_to_no_interval_panics)
{
    struct bh_timer *t = bh_ticker_new(HOUR);

    EXPECT_PANIC("non-positive interval for Ticker.Reset", bh_timer_reset(t, 0));
    bh_timer_free(t);
}

/* ---- the heap ----------------------------------------------------------- */

static void
check_heap(struct rt_p *p)
{
    uint32_t live = 0;

    rt_lock(&p->timer_lock);
    for (uint32_t i = 0; i < p->timer_count; i++) {
        struct rt_timer_slot *s = &p->timers[i];

        live += s->timer->when != INT64_MAX;
        EXPECT_EQ(s->timer->slot, i + 1);
        EXPECT(s->key <= s->timer->when);
        EXPECT(s->timer->p == p);
        if (i > 0)
            EXPECT(p->timers[(i - 1) / 4].key <= s->key);
    }
    EXPECT_EQ(p->timer_live, live);
    EXPECT_EQ(p->timer_first, p->timer_count > 0 ? p->timers[0].key : INT64_MAX);
    rt_unlock(&p->timer_lock);
}

static void
check_heaps(void)
{
    for (int i = 0; i < rt_sched.proc_count; i++)
        if (rt_sched.procs[i]->timer_cap != 0)
            check_heap(rt_sched.procs[i]);
}

TEST_SIM(heap, keeps_its_order_through_arming_moving_and_cancelling)
{
    enum { COUNT = 1000, STEPS = 20000 };
    struct bh_timer **t = calloc(COUNT, sizeof *t);
    bool             *armed = calloc(COUNT, sizeof *armed);

    for (int i = 0; i < COUNT; i++) {
        t[i] = bh_timer_new((1 + rt_random(1000)) * HOUR);
        armed[i] = true;
    }
    for (int step = 0; step < STEPS; step++) {
        uint32_t i = rt_random(COUNT);

        if (rt_random(3) == 0) {
            EXPECT_EQ(bh_timer_stop(t[i]), armed[i]);
            armed[i] = false;
        } else {
            EXPECT_EQ(bh_timer_reset(t[i], (1 + rt_random(1000)) * HOUR), armed[i]);
            armed[i] = true;
        }
        if (step % 100 == 0)
            check_heaps();
    }
    for (int i = 0; i < COUNT; i++)
        bh_timer_free(t[i]);
    check_heaps();
    free(t);
    free(armed);
}

static int64_t last_fired;
static int     fired_count;

static void
note_order(struct rt_timer *t, void *arg, uintptr_t seq)
{
    (void)arg;
    (void)seq;
    EXPECT(t->when >= last_fired);
    last_fired = t->when;
    fired_count++;
}

TEST_SIM(heap, fires_a_hundred_thousand_timers_in_order)
{
    enum { COUNT = 100000 };
    struct rt_timer *t = calloc(COUNT, sizeof *t);
    int              cancelled = 0;

    rt_enter("test");
    for (int i = 0; i < COUNT; i++) {
        t[i].fn = note_order;
        t[i].when = rt_now() + 1 + rt_random(1000000);
        rt_timer_add(&t[i]);
    }
    for (int i = 0; i < COUNT; i += 3)
        cancelled += rt_timer_del(&t[i]);
    for (int i = 1; i < COUNT; i += 3)
        EXPECT(rt_timer_reset(&t[i], t[i].when + 500000));
    rt_exit();
    check_heaps();
    bh_sleep(BH_SECOND);
    EXPECT_EQ(fired_count, COUNT - cancelled);
    free(t);
}

TEST_DIES(timer, stopped_does_not_hide_a_deadlock, 2, "all goroutines are asleep")
{
    struct bh_timer *t = bh_timer_new(HOUR);

    bh_timer_stop(t);
    bh_recv(bh_timer_chan(t), NULL);
}

/* ---- the clock estimate -------------------------------------------------- */

TEST_REAL(clock, estimate_is_never_behind_and_hardly_ahead)
{
    int64_t ahead = 0;

    if (test_emulated())
        test_skip("an emulator's cycle counter and clock are made apart");
    for (int i = 0; i < 200000; i++) {
        rt_enter("test");
        int64_t before = rt_now(), soon = rt_soon(rt_m()->p), now = rt_now();
        rt_exit();
        EXPECT(soon >= before);
        if (soon - now > ahead)
            ahead = soon - now;
        if (i % 1000 == 0)
            bh_yield();
    }
    EXPECT(ahead < 20 * BH_MICROSECOND);
}

TEST_SIM(clock, estimate_is_exact_in_virtual_time)
{
    for (int i = 0; i < 100; i++) {
        rt_enter("test");
        EXPECT_EQ(rt_soon(rt_m()->p), rt_now());
        rt_exit();
        bh_sleep(i * 1234567);
    }
}

/* ---- who fires them ----------------------------------------------------- */

TEST_REAL(timer, due_before_an_idle_processor_meant_to_wake_is_in_time)
{
    struct bh_chan  *done = BH_CHAN(int64_t, 1);
    struct bh_timer *far = bh_timer_new(HOUR);
    int64_t          began;

    bh_sleep(20 * BH_MILLISECOND); /* the others sleep until `far` by now */
    began = bh_now();
    bh_go(sleep_then_send, &(struct sleeper){ 5 * BH_MILLISECOND, done });
    bh_recv(done, NULL);
    EXPECT(bh_now() - began < 500 * BH_MILLISECOND);
    bh_timer_free(far);
    bh_chan_unref(done);
}

TEST_REAL(timer, of_a_processor_busy_with_application_code_fires_elsewhere)
{
    struct bh_timer *t = bh_timer_func(2 * BH_MILLISECOND, count_up, NULL);
    int64_t          began = real_now(), limit = BH_SECOND * (int64_t)test_slow();

    while (fired == 0 && real_now() - began < 2 * limit)
        ; /* no call into the runtime */
    EXPECT(real_now() - began < limit);
    EXPECT_EQ(fired, 1);
    bh_timer_free(t);
}

/* Two timers of the runtime's: one's function takes long, another goroutine deletes it. */
static _Atomic int  slow_state;
static _Atomic bool slow_held; /* it takes until this is false, or five seconds */

static void
slow_fire(struct rt_timer *t, void *arg, uintptr_t seq)
{
    int64_t began = real_now();

    (void)t;
    (void)arg;
    (void)seq;
    slow_state = 1;
    while (real_now() - began < 20 * BH_MILLISECOND ||
           (slow_held && real_now() - began < 5 * BH_SECOND))
        ;
    slow_state = 2;
}

TEST_REAL(timer, deleting_waits_for_a_function_that_runs)
{
    struct rt_timer t = { .fn = slow_fire };

    rt_enter("test");
    t.when = rt_now() + BH_MILLISECOND;
    rt_timer_add(&t);
    rt_exit();
    while (slow_state == 0)
        ; /* another M fires it */
    rt_enter("test");
    EXPECT(!rt_timer_del(&t));
    EXPECT_EQ(slow_state, 2);
    rt_exit();
}

TEST_REAL(timer, cancelling_does_not_wait)
{
    struct rt_timer t = { .fn = slow_fire };

    slow_held = true;
    rt_enter("test");
    t.when = rt_now() + BH_MILLISECOND;
    rt_timer_add(&t);
    rt_exit();
    while (slow_state == 0)
        ;
    rt_enter("test");
    EXPECT(!rt_timer_cancel(&t));
    EXPECT_EQ(slow_state, 1);
    slow_held = false;
    rt_timer_del(&t);
    rt_exit();
}

/* ---- the coarse clock ---------------------------------------------------- */

TEST(clock, the_coarse_one_is_not_ahead_and_little_behind)
{
    int64_t before = bh_now();
    int64_t coarse = bh_now_coarse();

    EXPECT(coarse <= bh_now());
    EXPECT(before - coarse < 100 * BH_MILLISECOND);
}

TEST_SIM(clock, the_coarse_one_is_virtual_too)
{
    bh_sleep(HOUR);
    EXPECT_EQ(bh_now_coarse(), bh_now());
}
