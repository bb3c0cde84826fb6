#include "contention.h"
#include "symbol.h"
#include "test.h"

#include <errno.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/go/timer.h>

/* ---- reading: sums over the rows that match --------------------------------------------- */

struct want {
    const char *why;        /* NULL: any */
    void (*in)(void *args); /* a function on the stack; NULL: any */
    const char *route;
    int         rows;
    int64_t     count, ns;
};

static bool
on_stack(const struct bh_contention *c, void (*fn)(void *args))
{
    uintptr_t start, end;

    rt_symbol_open();
    EXPECT(rt_unwind_function(rt_module_of((uintptr_t)fn), (uintptr_t)fn, &start, &end));
    rt_symbol_close();
    for (int i = 0; i < c->depth; i++)
        if (c->pcs[i] > start && c->pcs[i] <= end)
            return true;
    return false;
}

static bool
match(const struct bh_contention *c, void *arg)
{
    struct want *w = arg;

    if (w->why != NULL && strcmp(w->why, c->why) != 0)
        return true;
    if (w->in != NULL && !on_stack(c, w->in))
        return true;
    if (w->route != NULL && (c->route == NULL || strcmp(w->route, c->route) != 0))
        return true;
    w->rows++;
    w->count += c->count;
    w->ns += c->delay_ns;
    return true;
}

static struct want
blocked(const char *why, void (*in)(void *args))
{
    struct want w = { .why = why, .in = in };

    (void)bh_block_profile(match, &w);
    return w;
}

static struct want
contended(void (*in)(void *args))
{
    struct want w = { .in = in };

    (void)bh_mutex_profile(match, &w);
    return w;
}

static void
join_all(void)
{
    while (bh_goroutine_count() > 1)
        bh_sleep(100 * BH_MICROSECOND);
}

/* ---- who waits --------------------------------------------------------------------------- */

static void
receive(void *args)
{
    int got;

    bh_recv(*(struct bh_chan **)args, &got);
}

static void
wait_for_value(int64_t ns)
{
    struct bh_chan *c = BH_CHAN(int, 0);

    BH_DEFER(bh_chan_unref, c);
    bh_go(receive, &c);
    bh_sleep(ns);
    bh_send(c, &(int){ 1 });
    join_all();
}

TEST_SIM(contention, a_wait_is_charged_to_who_waits)
{
    struct want w;

    EXPECT_EQ(bh_block_profile_rate(1), 0);
    wait_for_value(5 * BH_MILLISECOND);
    w = blocked("chan receive", receive);
    EXPECT_EQ(w.rows, 1);
    EXPECT_EQ(w.count, 1);
    EXPECT_EQ(w.ns, 5 * BH_MILLISECOND);
    EXPECT_EQ(blocked(NULL, NULL).count, 1); /* sleeping does not count */
}

TEST_SIM(contention, nothing_is_recorded_unless_asked)
{
    wait_for_value(BH_MILLISECOND);
    EXPECT_EQ(blocked(NULL, NULL).rows, 0);
    EXPECT_EQ(bh_block_profile_rate(1), 0);
    EXPECT_EQ(bh_block_profile_rate_get(), 1);
    EXPECT_EQ(bh_block_profile_rate(0), 0);
    wait_for_value(BH_MILLISECOND);
    EXPECT_EQ(blocked(NULL, NULL).rows, 0);
    EXPECT_EQ(contended(NULL).rows, 0);
}

TEST_SIM(contention, a_rate_out_of_range_is_an_error_and_changes_nothing)
{
    EXPECT_EQ(bh_block_profile_rate(7), 0);
    EXPECT_EQ(bh_block_profile_rate(-1), -EINVAL);
    EXPECT_EQ(bh_block_profile_rate(1000000001), -EINVAL);
    EXPECT_EQ(bh_block_profile_rate_get(), 7);
    EXPECT_EQ(bh_mutex_profile_fraction(3), 0);
    EXPECT_EQ(bh_mutex_profile_fraction(-1), -EINVAL);
    EXPECT_EQ(bh_mutex_profile_fraction(1000001), -EINVAL);
    EXPECT_EQ(bh_mutex_profile_fraction_get(), 3);
}

/* 2,000 waits of 1 ms at a rate of 4 ms: a quarter is seen, and stands for all. */
TEST_SIM(contention, short_waits_are_sampled_without_bias)
{
    enum { WAITS = 2000 };
    struct want w;

    EXPECT_EQ(bh_block_profile_rate(4 * BH_MILLISECOND), 0);
    for (int i = 0; i < WAITS; i++)
        wait_for_value(BH_MILLISECOND);
    w = blocked("chan receive", receive);
    /* The standard deviation is sqrt(2000 * 1/4 * 3/4) * 4 = 77: six of them. */
    EXPECT(w.count > WAITS - 465 && w.count < WAITS + 465);
    EXPECT_EQ(w.count % 4, 0);
    EXPECT_EQ(w.ns, w.count * BH_MILLISECOND);
}

static void
receive_tagged(void *args)
{
    bh_tag_set(&(struct bh_tag){ .route = "/slow" });
    receive(args);
}

TEST_SIM(contention, a_wait_carries_the_route_of_its_goroutine)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    struct want     w = { .route = "/slow" };

    BH_DEFER(bh_chan_unref, c);
    EXPECT_EQ(bh_block_profile_rate(1), 0);
    bh_go(receive_tagged, &c);
    bh_sleep(BH_MILLISECOND);
    bh_send(c, &(int){ 1 });
    join_all();
    (void)bh_block_profile(match, &w);
    EXPECT_EQ(w.count, 1);
}

/* ---- who makes others wait ------------------------------------------------------------- */

struct lock {
    struct bh_mutex   m;
    struct bh_rwmutex rw;
};

static void
lock_once(void *args)
{
    struct lock *l = *(struct lock **)args;

    bh_mutex_lock(&l->m);
    bh_mutex_unlock(&l->m);
}

static __attribute__((noinline)) void
unlock_late(void *args)
{
    bh_mutex_unlock(&((struct lock *)args)->m);
    __asm__ volatile("");
}

/* Three wait, since 6, 4 and 3 ms: whoever unlocks has cost 13 ms. */
TEST_SIM(contention, an_unlock_pays_for_all_who_waited)
{
    static const int spacing[] = { 2, 1, 3 };
    struct lock      l = { 0 }, *pointer = &l;
    struct want      w;

    EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
    bh_mutex_lock(&l.m);
    for (int i = 0; i < 3; i++) {
        bh_go(lock_once, &pointer);
        while (!bh_mutex_held(&l.m) || bh_goroutine_count() != (size_t)i + 2)
            bh_yield();
        bh_sleep(spacing[i] * BH_MILLISECOND);
    }
    unlock_late(&l);
    join_all();
    w = contended(unlock_late);
    EXPECT_EQ(w.rows, 1);
    EXPECT_EQ(w.count, 1);
    EXPECT(w.ns >= 13 * BH_MILLISECOND && w.ns < 14 * BH_MILLISECOND);
    /* The others held it for no time: what had been paid for is not paid again. */
    EXPECT(contended(lock_once).ns < BH_MILLISECOND);
}

static void
lock_long(void *args)
{
    struct lock *l = *(struct lock **)args;

    bh_mutex_lock(&l->m);
    bh_sleep(2 * BH_MILLISECOND);
    bh_mutex_unlock(&l->m);
}

/* Three wait for the first holder, for 5 ms each; then two for the second, one for the third. */
TEST_SIM(contention, each_unlock_pays_for_its_own_holding_only)
{
    struct lock l = { 0 }, *pointer = &l;

    EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
    bh_mutex_lock(&l.m);
    for (int i = 0; i < 3; i++)
        bh_go(lock_long, &pointer);
    bh_sleep(5 * BH_MILLISECOND);
    unlock_late(&l);
    join_all();
    EXPECT_EQ(contended(unlock_late).ns, 15 * BH_MILLISECOND);
    EXPECT_EQ(contended(lock_long).count, 2);
    EXPECT_EQ(contended(lock_long).ns, 6 * BH_MILLISECOND);
}

TEST_SIM(contention, the_waits_of_a_mutex_are_blocks_too)
{
    struct lock l = { 0 }, *pointer = &l;
    struct want w;

    EXPECT_EQ(bh_block_profile_rate(1), 0);
    bh_mutex_lock(&l.m);
    bh_go(lock_once, &pointer);
    bh_sleep(4 * BH_MILLISECOND);
    bh_mutex_unlock(&l.m);
    join_all();
    w = blocked("sync.Mutex.Lock", lock_once);
    EXPECT_EQ(w.count, 1);
    EXPECT_EQ(w.ns, 4 * BH_MILLISECOND);
    EXPECT_EQ(contended(NULL).rows, 0); /* that profile is off */
}

/* Of 800 unlocks that were waited for one in four is drawn, and counts four times. */
TEST_SIM(contention, a_fraction_of_unlocks_stands_for_all)
{
    enum { ROUNDS = 800 };
    struct lock l = { 0 }, *pointer = &l;
    struct want w;

    EXPECT_EQ(bh_mutex_profile_fraction(4), 0);
    for (int i = 0; i < ROUNDS; i++) {
        bh_mutex_lock(&l.m);
        bh_go(lock_once, &pointer);
        bh_sleep(BH_MILLISECOND);
        unlock_late(&l);
        join_all();
    }
    w = contended(unlock_late);
    /* sqrt(800 * 1/4 * 3/4) * 4 = 49: six of them. */
    EXPECT(w.count > ROUNDS - 295 && w.count < ROUNDS + 295);
    EXPECT_EQ(w.count % 4, 0);
    EXPECT_EQ(w.ns, w.count * BH_MILLISECOND);
}

TEST_SIM(contention, waits_that_began_with_it_off_are_nobodys)
{
    struct lock l = { 0 }, *pointer = &l;
    struct want w;

    bh_mutex_lock(&l.m);
    bh_go(lock_once, &pointer);
    bh_sleep(5 * BH_MILLISECOND);
    EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
    bh_go(lock_once, &pointer);
    bh_sleep(2 * BH_MILLISECOND);
    unlock_late(&l);
    join_all();
    w = contended(unlock_late);
    EXPECT_EQ(w.count, 1);
    EXPECT_EQ(w.ns, 2 * BH_MILLISECOND);
}

TEST_SIM(contention, switched_off_while_they_wait_records_nothing)
{
    struct lock l = { 0 }, *pointer = &l;

    EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
    bh_mutex_lock(&l.m);
    bh_go(lock_once, &pointer);
    bh_go(lock_once, &pointer);
    bh_sleep(BH_MILLISECOND);
    EXPECT_EQ(bh_mutex_profile_fraction(0), 0);
    bh_go(lock_once, &pointer);
    bh_sleep(BH_MILLISECOND);
    bh_mutex_unlock(&l.m);
    join_all();
    EXPECT_EQ(contended(NULL).rows, 0);
}

/* ---- readers and writers --------------------------------------------------------------- */

static void
read_once(void *args)
{
    struct lock *l = *(struct lock **)args;

    bh_rwmutex_rlock(&l->rw);
    bh_rwmutex_runlock(&l->rw);
}

static void
write_once(void *args)
{
    struct lock *l = *(struct lock **)args;

    bh_rwmutex_lock(&l->rw);
    bh_rwmutex_unlock(&l->rw);
}

static __attribute__((noinline)) void
end_write(void *args)
{
    bh_rwmutex_unlock(&((struct lock *)args)->rw);
    __asm__ volatile("");
}

static __attribute__((noinline)) void
end_read(void *args)
{
    bh_rwmutex_runlock(&((struct lock *)args)->rw);
    __asm__ volatile("");
}

TEST_SIM(contention, a_writer_pays_for_readers_and_writers)
{
    struct lock l = { 0 }, *pointer = &l;
    struct want w;

    EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
    bh_rwmutex_lock(&l.rw);
    bh_go(read_once, &pointer);
    bh_go(read_once, &pointer);
    bh_sleep(3 * BH_MILLISECOND);
    bh_go(write_once, &pointer);
    bh_sleep(2 * BH_MILLISECOND);
    end_write(&l);
    join_all();
    w = contended(end_write);
    EXPECT_EQ(w.count, 1);
    EXPECT_EQ(w.ns, 2 * 5 * BH_MILLISECOND + 2 * BH_MILLISECOND);
}

TEST_SIM(contention, the_last_reader_pays_for_the_writer)
{
    struct lock l = { 0 }, *pointer = &l;
    struct want w;

    EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
    bh_rwmutex_rlock(&l.rw);
    bh_go(write_once, &pointer);
    bh_sleep(3 * BH_MILLISECOND);
    end_read(&l);
    join_all();
    w = contended(end_read);
    EXPECT_EQ(w.count, 1);
    EXPECT_EQ(w.ns, 3 * BH_MILLISECOND);
}

/* ---- on real threads -------------------------------------------------------------------- */

static void
fight(void *args)
{
    struct lock *l = *(struct lock **)args;

    for (int i = 0; i < 300; i++) {
        bh_mutex_lock(&l->m);
        if (i % 3 == 0)
            bh_yield();
        bh_mutex_unlock(&l->m);
        if (i % 2 == 0)
            bh_rwmutex_lock(&l->rw);
        else
            bh_rwmutex_rlock(&l->rw);
        bh_yield();
        if (i % 2 == 0)
            bh_rwmutex_unlock(&l->rw);
        else
            bh_rwmutex_runlock(&l->rw);
    }
}

/* Each unlock that pays lets somebody go who has waited.  The first to wait for are we. */
TEST(contention, both_profiles_agree_under_load)
{
    enum { FIGHTERS = 8 };
    struct lock l = { 0 }, *pointer = &l;
    struct want mutex, rw, paid;

    EXPECT_EQ(bh_block_profile_rate(1), 0);
    EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
    bh_mutex_lock(&l.m);
    for (int i = 0; i < FIGHTERS; i++)
        bh_go(fight, &pointer);
    while (rt_waiters_first(&l.m.waiters) == NULL)
        bh_sleep(100 * BH_MICROSECOND);
    bh_mutex_unlock(&l.m);
    for (int i = 0; i < 50; i++) { /* readers and switches meanwhile */
        (void)blocked(NULL, NULL);
        EXPECT_EQ(bh_mutex_profile_fraction(1), 0);
        bh_sleep(100 * BH_MICROSECOND);
    }
    join_all();
    mutex = blocked("sync.Mutex.Lock", fight);
    rw = blocked("sync.RWMutex.RLock", fight);
    paid = contended(NULL);
    EXPECT(mutex.count > 0 && mutex.ns > 0);
    EXPECT(paid.count > 0);
    EXPECT(paid.count <= mutex.count + rw.count + blocked("sync.RWMutex.Lock", fight).count);
}
