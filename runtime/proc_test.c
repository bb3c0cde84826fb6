/*
 * proc_test.c -- starting, yielding, ending, pinning goroutines; and what happens
 * when one keeps its processor to itself.
 */

#include "test.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/timer.h>

static _Atomic int done;

static void
wait_done(int n)
{
    while (atomic_load(&done) < n)
        bh_yield();
}

struct sum {
    int  a, b;
    int *result;
};

static void
add(void *args)
{
    struct sum *s = args;

    *s->result = s->a + s->b;
    atomic_fetch_add(&done, 1);
}

TEST(proc, arguments_are_copied_at_the_start)
{
    int        result = 0;
    struct sum s = { 3, 4, &result };

    bh_go(add, &s);
    s.a = 100;
    wait_done(1);
    EXPECT_EQ(result, 7);
}

struct large {
    char bytes[5000];
    int *result;
};

static void
add_up(void *args)
{
    struct large *l = args;
    int           sum = 0;

    EXPECT_EQ((uintptr_t)args % _Alignof(max_align_t), 0);
    for (size_t i = 0; i < sizeof l->bytes; i++)
        sum += l->bytes[i];
    *l->result = sum;
    atomic_fetch_add(&done, 1);
}

TEST(proc, large_arguments_are_copied_too)
{
    static struct large l;
    int                 result = 0;

    memset(l.bytes, 1, sizeof l.bytes);
    l.result = &result;
    bh_go(add_up, &l);
    memset(l.bytes, 2, sizeof l.bytes);
    wait_done(1);
    EXPECT_EQ(result, 5000);
}

static void
count_once(void *args)
{
    (void)args;
    atomic_fetch_add(&done, 1);
}

TEST(proc, ten_thousand_goroutines_all_run)
{
    int n = test_sanitized ? 500 : 10000; /* a sanitizer's own fiber takes a millisecond */

    for (int i = 0; i < n; i++)
        bh_go(count_once, NULL);
    wait_done(n);
}

TEST(proc, ids_start_at_one_and_differ)
{
    EXPECT_EQ(bh_id(), 1);
    EXPECT(bh_self() != NULL);
}

static void
spawn_tree(void *args)
{
    int depth = *(int *)args;

    if (depth > 0)
        for (int i = 0; i < 2; i++)
            bh_go(spawn_tree, &(int){ depth - 1 });
    atomic_fetch_add(&done, 1);
}

TEST(proc, goroutines_start_goroutines)
{
    bh_go(spawn_tree, &(int){ test_sanitized ? 6 : 10 });
    wait_done((1 << (test_sanitized ? 7 : 11)) - 1);
}

TEST_SIM(proc, sleeping_takes_virtual_time_only)
{
    int64_t start = bh_now();

    bh_sleep(3600 * BH_SECOND);
    EXPECT_EQ(bh_now() - start, 3600 * BH_SECOND);
}

static void
take_number(void *args)
{
    *(int *)*(int **)args = atomic_fetch_add(&done, 1);
}

/* The order in which 16 goroutines ran, as digits of a number. */
static uint64_t
order_of_run(void)
{
    int      ranks[16];
    uint64_t order = 0;

    for (int i = 0; i < 16; i++) {
        int *rank = &ranks[i];

        bh_go(take_number, &rank);
    }
    wait_done(16);
    for (int i = 0; i < 16; i++)
        order = order * 16 + (uint64_t)ranks[i];
    return order;
}

TEST_SIM(proc, the_seed_decides_the_order)
{
    /* Not first in, first out, nor last in: a permutation drawn from the seed. */
    uint64_t order = order_of_run();

    EXPECT(order != 0x0123456789abcdef);
    EXPECT(order != 0xfedcba9876543210);
}

/* ---- processors that are kept ---------------------------------------------------- */

static _Atomic bool stop;

static void
spin(void *args)
{
    (void)args;
    while (!atomic_load_explicit(&stop, memory_order_relaxed))
        ;
    atomic_fetch_add(&done, 1);
}

TEST_REAL(proc, busy_loops_on_every_processor_do_not_stop_the_others)
{
    int n = bh_procs() + 1;

    for (int i = 0; i < n; i++)
        bh_go(spin, NULL);
    for (int i = 0; i < 10; i++)
        bh_yield();
    bh_sleep(BH_MILLISECOND);
    bh_go(count_once, NULL);
    wait_done(1);
    atomic_store(&stop, true);
    wait_done(n + 1);
}

static void
raw_sleep(void *args)
{
    (void)args;
    nanosleep(&(struct timespec){ .tv_nsec = 200000000 }, NULL);
    atomic_fetch_add(&done, 1);
}

TEST_REAL(proc, a_raw_blocking_call_keeps_no_processor)
{
    int n = bh_procs();

    for (int i = 0; i < n; i++)
        bh_go(raw_sleep, NULL);
    for (int i = 0; i < 10; i++)
        bh_yield();
    EXPECT(atomic_load(&done) < n);
    wait_done(n);
}

static void
nap(void *arg)
{
    nanosleep(&(struct timespec){ .tv_nsec = 20000000 }, NULL);
    atomic_fetch_add((_Atomic int *)arg, 1);
}

static void
call_blocking(void *args)
{
    (void)args;
    bh_blocking(nap, &done);
}

TEST_REAL(proc, blocking_calls_run_side_by_side)
{
    int64_t start = bh_now();

    for (int i = 0; i < 50; i++)
        bh_go(call_blocking, NULL);
    wait_done(50);
    /* One after the other they would take a second. */
    EXPECT(bh_now() - start < 700 * BH_MILLISECOND * (int64_t)test_slow());
}

TEST(proc, blocking_returns_what_the_call_did)
{
    _Atomic int count = 0;

    bh_blocking(nap, &count);
    EXPECT_EQ(atomic_load(&count), 1);
}

/* ---- signals ------------------------------------------------------------------------ */

TEST_DIES(proc, a_signal_raised_on_a_goroutine_arrives, -SIGTERM, "")
{
    raise(SIGTERM);
    bh_sleep(BH_SECOND);
}

static void
run_child(void *arg)
{
    /* Its mask must let SIGTERM through, or it would live to say so. */
    *(int *)arg = system("kill -TERM $$; exit 7");
}

TEST_REAL(proc, children_inherit_an_open_signal_mask)
{
    int status = 0;

    bh_blocking(run_child, &status);
    EXPECT(WIFSIGNALED(status) || WEXITSTATUS(status) == 128 + SIGTERM);
}

/* ---- pinning ------------------------------------------------------------------------ */

static void
stay(void *args)
{
    pid_t home;

    (void)args;
    bh_lock_thread();
    home = (pid_t)syscall(SYS_gettid);
    for (int i = 0; i < 200; i++) {
        bh_yield();
        EXPECT_EQ((pid_t)syscall(SYS_gettid), home);
    }
    bh_unlock_thread();
    atomic_fetch_add(&done, 1);
}

TEST_REAL(proc, a_locked_goroutine_stays_on_its_thread)
{
    for (int i = 0; i < 4; i++)
        bh_go(stay, NULL);
    for (int i = 0; i < 50; i++)
        bh_go(count_once, NULL);
    wait_done(54);
}

static void
end_locked(void *args)
{
    (void)args;
    bh_lock_thread();
    atomic_fetch_add(&done, 1);
}

TEST_REAL(proc, a_thread_ends_with_its_locked_goroutine)
{
    for (int i = 0; i < 20; i++)
        bh_go(end_locked, NULL);
    wait_done(20);
    while (bh_goroutine_count() > 1)
        bh_yield();
}

static void *
foreign_thread(void *arg)
{
    (void)arg;
    for (int i = 0; i < 100; i++)
        EXPECT_EQ(bh_go_from_thread(count_once, NULL), 0);
    return NULL;
}

TEST_REAL(proc, plain_threads_can_start_goroutines)
{
    pthread_t thread;

    EXPECT_EQ(pthread_create(&thread, NULL, foreign_thread, NULL), 0);
    wait_done(100);
    pthread_join(thread, NULL);
}

static void *
yield_on_thread(void *arg)
{
    (void)arg;
    bh_yield();
    return NULL;
}

TEST_DIES(proc, a_plain_thread_cannot_yield, 2,
          "bh_yield: called from a thread that runs no goroutine")
{
    pthread_t thread;

    pthread_create(&thread, NULL, yield_on_thread, NULL);
    pthread_join(thread, NULL);
}

TEST_DIES(proc, starting_nothing_is_fatal, 2, "fatal error: go of nil func value")
{
    bh_fn *volatile nothing = NULL;

    bh_go(nothing, NULL);
}

TEST_DIES(proc, a_second_main_is_fatal, 2, "bh_main: called twice")
{
    bh_main(count_once, NULL);
}

static void
goexit_main_child(void *args)
{
    (void)args;
    for (int i = 0; i < 10; i++)
        bh_yield();
}

TEST_DIES(proc, when_main_has_exited_and_nobody_is_left, 2,
          "fatal error: no goroutines (main called runtime.Goexit) - deadlock!")
{
    bh_go(goexit_main_child, NULL);
    bh_goexit();
}
