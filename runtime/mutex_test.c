/* mutex_test.c -- mutual exclusion, fairness, hand-over, and who may free it. */

#include "test.h"

#include <pthread.h>
#include <stdlib.h>

#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

static void
settle(void)
{
    for (int i = 0; i < 50; i++)
        bh_yield();
}

/* Wait until every goroutine the test started is gone, and with it what it uses of our stack. */
static void
join_all(void)
{
    while (bh_goroutine_count() > 1)
        bh_yield();
}

struct counter {
    struct bh_mutex     lock;
    struct bh_waitgroup done;
    int                 value; /* under lock */
    int                 inside;
};

/* ---- exclusion ---------------------------------------------------------------------- */

static void
count_up(void *args)
{
    struct counter *c = *(struct counter **)args;

    for (int i = 0; i < 500; i++) {
        bh_mutex_lock(&c->lock);
        EXPECT_EQ(c->inside++, 0);
        EXPECT(bh_mutex_held(&c->lock));
        if (i % 16 == 0)
            bh_yield(); /* park with it held, so that others queue */
        c->value++;
        EXPECT_EQ(--c->inside, 0);
        bh_mutex_unlock(&c->lock);
    }
    bh_waitgroup_done(&c->done);
}

TEST(mutex, only_one_holds_it)
{
    struct counter c = { 0 }, *pointer = &c;

    bh_waitgroup_add(&c.done, 8);
    for (int i = 0; i < 8; i++)
        bh_go(count_up, &pointer);
    bh_waitgroup_wait(&c.done);
    EXPECT_EQ(c.value, 8 * 500);
    EXPECT(bh_mutex_try_lock(&c.lock));
}

TEST(mutex, try_lock_takes_a_free_one_only)
{
    struct bh_mutex m = { 0 };

    EXPECT(bh_mutex_try_lock(&m));
    EXPECT(!bh_mutex_try_lock(&m));
    bh_mutex_unlock(&m);
    EXPECT(bh_mutex_try_lock(&m));
    bh_mutex_unlock(&m);
}

static void
expect_not_held(void *args)
{
    EXPECT(!bh_mutex_held(*(struct bh_mutex **)args));
    bh_mutex_unlock(*(struct bh_mutex **)args);
}

TEST(mutex, held_is_of_the_goroutine_and_another_may_unlock)
{
    struct bh_mutex m = { 0 }, *pointer = &m;

    EXPECT(!bh_mutex_held(&m));
    bh_mutex_lock(&m);
    EXPECT(bh_mutex_held(&m));
    bh_go(expect_not_held, &pointer);
    bh_mutex_lock(&m);
    EXPECT(bh_mutex_held(&m));
    bh_mutex_unlock(&m);
    EXPECT(!bh_mutex_held(&m));
    join_all();
}

static void
panic_holding(struct bh_mutex *m)
{
    bh_mutex_lock(m);
    BH_DEFER(bh_mutex_unlock, m);
    bh_panic("holding it");
}

TEST(mutex, deferred_unlock_releases_it_during_a_panic)
{
    struct bh_mutex m = { 0 };

    EXPECT_PANIC("holding it", panic_holding(&m));
    EXPECT(bh_mutex_try_lock(&m));
}

/* ---- order and fairness ---------------------------------------------------------------- */

struct turn {
    struct bh_mutex *m;
    int             *order, *next, number;
};

static void
take_turn(void *args)
{
    struct turn *t = args;

    bh_mutex_lock(t->m);
    t->order[(*t->next)++] = t->number;
    bh_mutex_unlock(t->m);
}

TEST_SIM(mutex, waiters_get_it_in_the_order_they_came)
{
    enum { N = 8 };
    struct bh_mutex m = { 0 };
    int             order[N], next = 0;

    bh_mutex_lock(&m);
    for (int i = 0; i < N; i++) {
        bh_go(take_turn, &(struct turn){ &m, order, &next, i });
        settle();
    }
    bh_sleep(2 * BH_MILLISECOND); /* all starve now: each is handed it */
    bh_mutex_unlock(&m);
    join_all();
    EXPECT_EQ(next, N);
    for (int i = 0; i < N; i++)
        EXPECT_EQ(order[i], i);
}

struct hog {
    struct bh_mutex     m;
    struct bh_waitgroup done;
    _Atomic bool        stop;
    _Atomic long        rounds;
};

static void
hog(void *args)
{
    struct hog *h = *(struct hog **)args;

    while (!atomic_load(&h->stop)) {
        bh_mutex_lock(&h->m);
        for (int64_t until = bh_now() + 100 * BH_MICROSECOND; bh_now() < until;)
            ;
        atomic_fetch_add(&h->rounds, 1);
        bh_mutex_unlock(&h->m);
    }
    bh_waitgroup_done(&h->done);
}

/* Without the hand-over the hog, which never leaves its thread, always gets there first. */
TEST_REAL(mutex, a_hog_does_not_starve_others)
{
    struct hog h = { 0 }, *pointer = &h;

    bh_waitgroup_add(&h.done, 1);
    bh_go(hog, &pointer);
    while (atomic_load(&h.rounds) == 0)
        bh_yield();
    for (int i = 0; i < 20; i++) {
        int64_t start = bh_now();

        bh_mutex_lock(&h.m);
        /* 1 ms till it starves, one round of the hog's; the rest is for a busy machine */
        EXPECT((double)(bh_now() - start) < 500e6 * test_slow());
        bh_mutex_unlock(&h.m);
        bh_sleep(100 * BH_MICROSECOND);
    }
    atomic_store(&h.stop, true);
    bh_waitgroup_wait(&h.done);
}

static void
relock(void *args)
{
    struct counter *c = *(struct counter **)args;

    for (int i = 0; i < 100; i++) {
        bh_mutex_lock(&c->lock);
        c->value++;
        bh_sleep(2 * BH_MILLISECOND); /* virtual: every waiter starves */
        bh_mutex_unlock(&c->lock);
    }
    bh_waitgroup_done(&c->done);
}

TEST_SIM(mutex, starving_waiters_share_it_evenly)
{
    struct counter c = { 0 }, *pointer = &c;
    int            before;

    bh_waitgroup_add(&c.done, 2);
    bh_go(relock, &pointer);
    bh_go(relock, &pointer);
    settle();
    for (int i = 0; i < 20; i++) {
        before = c.value;
        bh_mutex_lock(&c.lock);
        EXPECT(c.value - before <= 3); /* the holder, and who waited before us */
        bh_mutex_unlock(&c.lock);
        bh_sleep(BH_MICROSECOND);
    }
    bh_waitgroup_wait(&c.done);
    EXPECT_EQ(c.value, 200);
}

/* ---- life --------------------------------------------------------------------------------- */

struct shared {
    struct bh_mutex lock;
    int             refs;
};

static void
drop(void *args)
{
    struct shared *s = *(struct shared **)args;
    int            left;

    bh_mutex_lock(&s->lock);
    left = --s->refs;
    bh_mutex_unlock(&s->lock);
    if (left == 0) {
        memset(s, 0xdd, sizeof *s); /* a late touch of the lock spoils this, or is seen by ASan */
        free(s);
    }
}

TEST(mutex, the_last_holder_may_free_it)
{
    for (int round = 0; round < 100; round++) {
        struct shared *s = calloc(1, sizeof *s);

        s->refs = 6;
        bh_mutex_lock(&s->lock);
        for (int i = 0; i < 5; i++)
            bh_go(drop, &s);
        if (round % 2 == 0)
            settle();
        bh_mutex_unlock(&s->lock);
        drop(&s);
        join_all();
    }
}

/* ---- misuse ---------------------------------------------------------------------------------- */

TEST_DIES(mutex, unlock_of_unlocked, 2, "fatal error: sync: unlock of unlocked mutex")
{
    struct bh_mutex m = { 0 };

    bh_mutex_unlock(&m);
}

static void
unlock(void *m)
{
    bh_mutex_unlock(m);
}

TEST_DIES(mutex, unlock_of_unlocked_cannot_be_recovered, 2,
          "fatal error: sync: unlock of unlocked mutex")
{
    struct bh_mutex m = { 0 };

    BH_RECOVER(p) {
        return;
    }
    BH_DEFER(unlock, &m);
    bh_mutex_lock(&m);
    bh_mutex_unlock(&m);
}

#if !defined(__SANITIZE_THREAD__) /* there an atomic is a call into its library */
TEST_REAL(mutex, null_is_a_panic_of_the_caller)
{
    struct bh_mutex *volatile nowhere = NULL;

    EXPECT_PANIC("runtime error: invalid memory address or nil pointer dereference",
                 bh_mutex_lock(nowhere));
    EXPECT_PANIC("runtime error: invalid memory address or nil pointer dereference",
                 bh_mutex_unlock(nowhere));
}
#endif

static void *
lock_in_thread(void *m)
{
    bh_mutex_lock(m);
    return NULL;
}

TEST_DIES(mutex, locking_on_a_plain_thread_is_fatal, 2,
          "fatal error: bh_mutex_lock: called from a thread that runs no goroutine")
{
    struct bh_mutex m = { 0 };
    pthread_t       thread;

    if (pthread_create(&thread, NULL, lock_in_thread, &m) == 0)
        pthread_join(thread, NULL);
}

TEST_DIES(mutex, deadlock_names_a_mutex, 2, "goroutine 1 [sync.Mutex.Lock]:")
{
    struct bh_mutex m = { 0 };

    bh_mutex_lock(&m);
    bh_mutex_lock(&m);
}
