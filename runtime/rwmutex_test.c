/* rwmutex_test.c -- many readers or one writer, in Go's order. */

#include "test.h"

#include <stdlib.h>

#include <bulkhead/go/chan.h>
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

TEST(rwmutex, readers_share_and_exclude_writers)
{
    struct bh_rwmutex m = { 0 };

    bh_rwmutex_rlock(&m);
    bh_rwmutex_rlock(&m);
    EXPECT(bh_rwmutex_try_rlock(&m));
    EXPECT(!bh_rwmutex_try_lock(&m));
    bh_rwmutex_runlock(&m);
    bh_rwmutex_runlock(&m);
    EXPECT(!bh_rwmutex_try_lock(&m));
    bh_rwmutex_runlock(&m);
    EXPECT(bh_rwmutex_try_lock(&m));
    EXPECT(!bh_rwmutex_try_lock(&m));
    EXPECT(!bh_rwmutex_try_rlock(&m));
    bh_rwmutex_unlock(&m);
    bh_rwmutex_lock(&m);
    bh_rwmutex_unlock(&m);
}

struct actors {
    struct bh_rwmutex   m;
    struct bh_waitgroup done;
    _Atomic int         readers, writers;
    long                value; /* under m */
};

static void
write_often(void *args)
{
    struct actors *a = *(struct actors **)args;

    for (int i = 0; i < 150; i++) {
        if (i % 5 != 0 || !bh_rwmutex_try_lock(&a->m))
            bh_rwmutex_lock(&a->m);
        EXPECT_EQ(atomic_fetch_add(&a->writers, 1), 0);
        EXPECT_EQ(atomic_load(&a->readers), 0);
        a->value++;
        if (i % 8 == 0)
            bh_yield();
        atomic_fetch_sub(&a->writers, 1);
        bh_rwmutex_unlock(&a->m);
    }
    bh_waitgroup_done(&a->done);
}

static void
read_often(void *args)
{
    struct actors *a = *(struct actors **)args;

    for (int i = 0; i < 150; i++) {
        long before;

        if (i % 5 != 0 || !bh_rwmutex_try_rlock(&a->m))
            bh_rwmutex_rlock(&a->m);
        atomic_fetch_add(&a->readers, 1);
        EXPECT_EQ(atomic_load(&a->writers), 0);
        before = a->value;
        if (i % 8 == 0)
            bh_yield();
        EXPECT_EQ(a->value, before);
        atomic_fetch_sub(&a->readers, 1);
        bh_rwmutex_runlock(&a->m);
    }
    bh_waitgroup_done(&a->done);
}

TEST(rwmutex, no_writer_beside_anyone)
{
    enum { READERS = 6, WRITERS = 4 };
    struct actors a = { 0 }, *pointer = &a;

    bh_waitgroup_add(&a.done, READERS + WRITERS);
    for (int i = 0; i < READERS; i++)
        bh_go(read_often, &pointer);
    for (int i = 0; i < WRITERS; i++)
        bh_go(write_often, &pointer);
    bh_waitgroup_wait(&a.done);
    EXPECT_EQ(a.value, WRITERS * 150);
    EXPECT(bh_rwmutex_try_lock(&a.m));
}

/* ---- order --------------------------------------------------------------------------- */

struct step {
    struct bh_rwmutex *m;
    struct bh_chan    *log;
    char               name;
};

static void
write_step(void *args)
{
    struct step *s = args;

    bh_rwmutex_lock(s->m);
    bh_send(s->log, &s->name);
    bh_rwmutex_unlock(s->m);
}

static void
read_step(void *args)
{
    struct step *s = args;

    bh_rwmutex_rlock(s->m);
    bh_send(s->log, &s->name);
    bh_yield();
    bh_rwmutex_runlock(s->m);
}

static char
next(struct bh_chan *log)
{
    char name = 0;

    bh_recv(log, &name);
    return name;
}

TEST_SIM(rwmutex, waiting_writer_stops_new_readers)
{
    struct bh_rwmutex m = { 0 };
    struct bh_chan   *log = BH_CHAN(char, 8);

    BH_DEFER(bh_chan_unref, log);
    bh_rwmutex_rlock(&m);
    bh_go(write_step, &(struct step){ &m, log, 'w' });
    settle();
    EXPECT(!bh_rwmutex_try_rlock(&m));
    bh_go(read_step, &(struct step){ &m, log, 'r' });
    settle();
    EXPECT_EQ(bh_chan_len(log), 0);
    bh_rwmutex_runlock(&m);
    EXPECT_EQ(next(log), 'w');
    EXPECT_EQ(next(log), 'r');
    join_all();
}

TEST_SIM(rwmutex, waiting_readers_go_before_the_next_writer)
{
    struct bh_rwmutex m = { 0 };
    struct bh_chan   *log = BH_CHAN(char, 8);

    BH_DEFER(bh_chan_unref, log);
    bh_rwmutex_lock(&m);
    bh_go(write_step, &(struct step){ &m, log, 'w' });
    settle();
    bh_go(read_step, &(struct step){ &m, log, 'r' });
    bh_go(read_step, &(struct step){ &m, log, 'r' });
    settle();
    bh_rwmutex_unlock(&m);
    EXPECT_EQ(next(log), 'r');
    EXPECT_EQ(next(log), 'r');
    EXPECT_EQ(next(log), 'w');
    join_all();
}

TEST_SIM(rwmutex, starving_writers_get_it_in_the_order_they_came)
{
    struct bh_rwmutex m = { 0 };
    struct bh_chan   *log = BH_CHAN(char, 8);

    BH_DEFER(bh_chan_unref, log);
    bh_rwmutex_lock(&m);
    for (char name = 'a'; name < 'g'; name++) {
        bh_go(write_step, &(struct step){ &m, log, name });
        settle();
    }
    bh_sleep(2 * BH_MILLISECOND);
    bh_rwmutex_unlock(&m);
    for (char name = 'a'; name < 'g'; name++)
        EXPECT_EQ(next(log), name);
    join_all();
}

struct hog {
    struct bh_rwmutex m;
    _Atomic bool      stop;
    _Atomic long      rounds;
};

static void
hog(void *args)
{
    struct hog *h = *(struct hog **)args;

    while (!atomic_load(&h->stop)) {
        bh_rwmutex_lock(&h->m);
        for (int64_t until = bh_now() + 100 * BH_MICROSECOND; bh_now() < until;)
            ;
        atomic_fetch_add(&h->rounds, 1);
        bh_rwmutex_unlock(&h->m);
    }
}

TEST_REAL(rwmutex, a_hog_does_not_starve_other_writers)
{
    struct hog h = { 0 }, *pointer = &h;

    bh_go(hog, &pointer);
    while (atomic_load(&h.rounds) == 0)
        bh_yield();
    for (int i = 0; i < 20; i++) {
        int64_t start = bh_now();

        bh_rwmutex_lock(&h.m);
        EXPECT((double)(bh_now() - start) < 500e6 * test_slow());
        bh_rwmutex_unlock(&h.m);
        bh_sleep(100 * BH_MICROSECOND);
    }
    atomic_store(&h.stop, true);
    join_all();
}

/* ---- life ------------------------------------------------------------------------------ */

struct shared {
    struct bh_rwmutex lock;
    _Atomic int       refs;
};

static void
drop(void *args)
{
    struct shared *s = *(struct shared **)args;
    int            left;

    if (atomic_load(&s->refs) % 2) {
        bh_rwmutex_lock(&s->lock);
        left = atomic_fetch_sub(&s->refs, 1) - 1;
        bh_rwmutex_unlock(&s->lock);
    } else {
        bh_rwmutex_rlock(&s->lock);
        bh_rwmutex_runlock(&s->lock);
        bh_rwmutex_lock(&s->lock);
        left = atomic_fetch_sub(&s->refs, 1) - 1;
        bh_rwmutex_unlock(&s->lock);
    }
    if (left == 0) {
        memset((void *)s, 0xdd, sizeof *s);
        free(s);
    }
}

TEST(rwmutex, the_last_holder_may_free_it)
{
    for (int round = 0; round < 100; round++) {
        struct shared *s = calloc(1, sizeof *s);

        atomic_store(&s->refs, 6);
        bh_rwmutex_rlock(&s->lock);
        for (int i = 0; i < 5; i++)
            bh_go(drop, &s);
        if (round % 2 == 0)
            settle();
        bh_rwmutex_runlock(&s->lock);
        drop(&s);
        join_all();
    }
}

/* ---- misuse ------------------------------------------------------------------------------- */

TEST_DIES(rwmutex, runlock_of_unlocked, 2, "fatal error: sync: RUnlock of unlocked RWMutex")
{
    struct bh_rwmutex m = { 0 };

    bh_rwmutex_runlock(&m);
}

TEST_DIES(rwmutex, runlock_while_a_writer_holds_it, 2,
          "fatal error: sync: RUnlock of unlocked RWMutex")
{
    struct bh_rwmutex m = { 0 };

    bh_rwmutex_lock(&m);
    bh_rwmutex_runlock(&m);
}

TEST_DIES(rwmutex, unlock_of_unlocked, 2, "fatal error: sync: Unlock of unlocked RWMutex")
{
    struct bh_rwmutex m = { 0 };

    bh_rwmutex_unlock(&m);
}

TEST_DIES(rwmutex, unlock_while_readers_hold_it, 2,
          "fatal error: sync: Unlock of unlocked RWMutex")
{
    struct bh_rwmutex m = { 0 };

    bh_rwmutex_rlock(&m);
    bh_rwmutex_unlock(&m);
}

TEST_DIES(rwmutex, deadlock_names_a_writer, 2, "goroutine 1 [sync.RWMutex.Lock]:")
{
    struct bh_rwmutex m = { 0 };

    bh_rwmutex_rlock(&m);
    bh_rwmutex_lock(&m);
}

TEST_DIES(rwmutex, deadlock_names_a_reader, 2, "goroutine 1 [sync.RWMutex.RLock]:")
{
    struct bh_rwmutex m = { 0 };

    bh_rwmutex_lock(&m);
    bh_rwmutex_rlock(&m);
}
