/* stats_test.c -- the scheduler's numbers agree with what was done. */

#include "test.h"

#include <bulkhead/go/chan.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/safe.h>
#include <bulkhead/go/timer.h>

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "runtime.h"

static struct bh_runtime_stats
read_stats(void)
{
    struct bh_runtime_stats s;

    bh_runtime_stats_read(&s);
    return s;
}

static void
settle(void)
{
    for (int i = 0; i < 200; i++)
        bh_yield();
}

struct waits {
    struct bh_chan *chan;
};

static void
receive(void *args)
{
    struct waits *w = args;

    bh_recv(w->chan, NULL);
}

TEST_PLAIN(stats, before_the_start_all_is_zero)
{
    struct bh_runtime_stats s = read_stats(), zero = { 0 };

    EXPECT_EQ(memcmp(&s, &zero, sizeof s), 0);
    EXPECT_EQ(bh_run_queue_length(0), 0);
}

TEST(stats, goroutines_are_counted_by_state_with_their_stacks_and_parks)
{
    enum { MANY = 50 };
    struct bh_chan         *c = BH_CHAN(int, 0);
    struct bh_runtime_stats before = read_stats(), during, after;

    for (int i = 0; i < MANY; i++)
        bh_go(receive, &(struct waits){ c });
    settle();
    while ((during = read_stats()).goroutines[BH_GOROUTINE_WAITING] < MANY)
        bh_yield();
    EXPECT_EQ(during.goroutines[BH_GOROUTINE_WAITING], MANY);
    EXPECT_EQ(during.goroutines[BH_GOROUTINE_RUNNING], 1);
    EXPECT_EQ(during.spawned_total - before.spawned_total, MANY);
    EXPECT(during.parked_total - before.parked_total >= MANY);
    EXPECT(during.stacks_live >= MANY + 1);
    EXPECT(during.stack_bytes >= (MANY + 1) * (64 << 10));
    EXPECT_EQ(during.procs, bh_procs());
    EXPECT(during.threads >= 1 && during.threads_idle < during.threads);
    bh_close(c);
    settle();
    while (bh_goroutine_count() > 1)
        bh_yield();
    after = read_stats();
    EXPECT_EQ(after.goroutines[BH_GOROUTINE_WAITING], 0);
    EXPECT(after.stacks_live <= during.stacks_live - MANY + 2);
    EXPECT_EQ(after.spawned_total, during.spawned_total);
    bh_chan_unref(c);
}

TEST_SIM(stats, timers_are_counted_while_armed)
{
    int64_t          before = read_stats().timers;
    struct bh_timer *t = bh_timer_new(BH_SECOND);

    EXPECT_EQ(read_stats().timers, before + 1);
    bh_timer_stop(t);
    EXPECT_EQ(read_stats().timers, before);
    bh_timer_free(t);
}

/* ---- panics -------------------------------------------------------------------------------- */

static void
recovered_panic(void)
{
    BH_RECOVER(p) {
        (void)p;
        return;
    }
    bh_panic("on purpose");
}

static volatile int *volatile nowhere;

static void
recovered_fault(void)
{
    BH_RECOVER(p) {
        (void)p;
        return;
    }
    *nowhere = 1;
}

TEST(stats, panics_are_counted_by_outcome)
{
    struct bh_runtime_stats before = read_stats(), after;

    recovered_panic();
    recovered_panic();
    after = read_stats();
    EXPECT_EQ(after.panics_total - before.panics_total, 2);
    EXPECT_EQ(after.recovered_total - before.recovered_total, 2);
    EXPECT_EQ(after.faults_total, before.faults_total);
    EXPECT_EQ(after.contained_total, before.contained_total);
}

TEST_REAL(stats, faults_and_overflows_are_counted)
{
    struct bh_runtime_stats before = read_stats(), after;

    recovered_fault();
    after = read_stats();
    EXPECT_EQ(after.faults_total - before.faults_total, 1);
    EXPECT_EQ(after.panics_total - before.panics_total, 1);
    EXPECT_EQ(after.overflows_total, before.overflows_total);
}

static int (*volatile again)(
    volatile char *above); /* so that the compiler does not see the end */

__attribute__((noinline)) static int
too_deep(volatile char *above)
{
    volatile char here[512];

    here[0] = above != NULL ? above[0] : 0;
    return again(here) + here[0];
}

static void
recovered_overflow(void)
{
    BH_RECOVER(p) {
        (void)p;
        return;
    }
    again = too_deep;
    (void)too_deep(NULL);
}

TEST_REAL(stats, stack_overflow_counts_as_both)
{
    struct bh_runtime_stats before = read_stats(), after;

    recovered_overflow();
    after = read_stats();
    EXPECT_EQ(after.overflows_total - before.overflows_total, 1);
    EXPECT_EQ(after.faults_total - before.faults_total, 1);
}

/* ---- threads ----------------------------------------------------------------------------- */

static _Atomic bool inside, leave;

static void
wait_inside(void *arg)
{
    (void)arg;
    atomic_store(&inside, true);
    while (!atomic_load(&leave))
        sched_yield();
}

static void
block(void *args)
{
    (void)args;
    bh_blocking(wait_inside, NULL);
}

TEST_REAL(stats, blocking_call_is_a_handoff_and_a_blocked_thread)
{
    struct bh_runtime_stats before = read_stats(), during;

    bh_go(block, NULL);
    while (!atomic_load(&inside))
        bh_sleep(BH_MILLISECOND);
    during = read_stats();
    atomic_store(&leave, true);
    EXPECT(during.handoffs_total > before.handoffs_total);
    EXPECT(during.threads_blocked >= 1);
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
    while (read_stats().threads_blocked != 0)
        bh_sleep(BH_MILLISECOND);
}

static void
count_and_end_with_thread(void *args)
{
    (void)args;
    bh_lock_thread(); /* never unlocked: the thread ends with the goroutine */
    recovered_panic();
}

TEST_REAL(stats, what_an_ended_thread_counted_stays)
{
    struct bh_runtime_stats before = read_stats();

    for (int i = 0; i < 10; i++)
        bh_go(count_and_end_with_thread, NULL);
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
    for (int i = 0; i < 1000 && read_stats().threads > before.threads; i++)
        bh_sleep(BH_MILLISECOND);
    EXPECT_EQ(read_stats().panics_total - before.panics_total, 10);
    EXPECT_EQ(read_stats().recovered_total - before.recovered_total, 10);
}

static struct bh_runtime_stats from_thread;

static void *
read_on_thread(void *arg)
{
    (void)arg;
    bh_runtime_stats_read(&from_thread);
    return NULL;
}

TEST_REAL(stats, plain_thread_reads_the_same)
{
    pthread_t thread;

    EXPECT_EQ(pthread_create(&thread, NULL, read_on_thread, NULL), 0);
    pthread_join(thread, NULL);
    EXPECT_EQ(from_thread.goroutines[BH_GOROUTINE_RUNNING], 1);
    EXPECT_EQ(from_thread.spawned_total, read_stats().spawned_total);
}

/* ---- queues --------------------------------------------------------------------------------- */

static void
nothing(void *args)
{
    (void)args;
}

TEST_REAL(stats, queued_goroutines_are_in_a_queue)
{
    int64_t queued = 0;

    for (int i = 0; i < 1000; i++)
        bh_go(nothing, NULL);
    for (int i = 0; i < bh_procs(); i++)
        queued += bh_run_queue_length(i);
    queued += read_stats().run_queue_global;
    EXPECT(queued <= 1000);
    EXPECT_EQ(bh_run_queue_length(-1), 0);
    EXPECT_EQ(bh_run_queue_length(bh_procs()), 0);
    while (bh_goroutine_count() > 1)
        bh_yield();
}
