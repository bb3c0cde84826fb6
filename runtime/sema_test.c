/* sema_test.c -- conditions, wait groups, once, semaphores. */

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

/* ---- conditions --------------------------------------------------------------------- */

struct box { /* a bounded buffer of one, the classic use */
    struct bh_mutex     lock;
    struct bh_cond      not_empty, not_full;
    struct bh_waitgroup done;
    bool                full;
    int                 value;
    long                sum;
};

static void
put_in_box(void *args)
{
    struct box *b = *(struct box **)args;

    for (int i = 1; i <= 200; i++) {
        bh_mutex_lock(&b->lock);
        while (b->full)
            bh_cond_wait(&b->not_full, &b->lock);
        b->full = true;
        b->value = i;
        bh_mutex_unlock(&b->lock);
        bh_cond_signal(&b->not_empty);
    }
    bh_waitgroup_done(&b->done);
}

static void
take_from_box(void *args)
{
    struct box *b = *(struct box **)args;

    for (int i = 1; i <= 200; i++) {
        bh_mutex_lock(&b->lock);
        while (!b->full)
            bh_cond_wait(&b->not_empty, &b->lock);
        b->full = false;
        b->sum += b->value;
        bh_cond_signal(&b->not_full);
        bh_mutex_unlock(&b->lock);
    }
    bh_waitgroup_done(&b->done);
}

TEST(cond, no_signal_is_lost)
{
    struct box b = { 0 }, *pointer = &b;

    bh_waitgroup_add(&b.done, 6);
    for (int i = 0; i < 3; i++) {
        bh_go(put_in_box, &pointer);
        bh_go(take_from_box, &pointer);
    }
    bh_waitgroup_wait(&b.done);
    EXPECT_EQ(b.sum, 3 * 200 * 201 / 2);
}

struct line {
    struct bh_mutex lock;
    struct bh_cond  cond;
    int             waiting, woken, order[16];
};

struct in_line {
    struct line *l;
    int          number;
};

static void
stand_in_line(void *args)
{
    struct in_line *me = args;

    bh_mutex_lock(&me->l->lock);
    me->l->waiting++;
    bh_cond_wait(&me->l->cond, &me->l->lock);
    me->l->order[me->l->woken++] = me->number;
    bh_mutex_unlock(&me->l->lock);
}

/* Blocks: until `count` stand in line. */
static void
fill_line(struct line *l, int count)
{
    for (int i = 0; i < count; i++) {
        bh_go(stand_in_line, &(struct in_line){ l, i });
        for (bool in = false; !in; bh_yield()) {
            bh_mutex_lock(&l->lock);
            in = l->waiting == i + 1;
            bh_mutex_unlock(&l->lock);
        }
    }
}

static int
woken(struct line *l)
{
    int n;

    bh_mutex_lock(&l->lock);
    n = l->woken;
    bh_mutex_unlock(&l->lock);
    return n;
}

TEST(cond, signal_wakes_one_and_the_longest_waiting_first)
{
    enum { N = 6 };
    struct line l = { 0 };

    fill_line(&l, N);
    for (int i = 0; i < N; i++) {
        settle();
        EXPECT_EQ(woken(&l), i);
        bh_cond_signal(&l.cond);
        while (woken(&l) != i + 1)
            bh_yield();
        EXPECT_EQ(l.order[i], i);
    }
    bh_cond_signal(&l.cond); /* nobody there: forgotten */
    bh_cond_broadcast(&l.cond);
    join_all();
}

TEST(cond, broadcast_wakes_all_who_wait_and_no_later_one)
{
    enum { N = 6 };
    struct line l = { 0 };

    fill_line(&l, N);
    bh_cond_broadcast(&l.cond);
    while (woken(&l) != N)
        bh_yield();
    l.waiting = 0;
    fill_line(&l, 1);
    settle();
    EXPECT_EQ(woken(&l), N);
    bh_cond_broadcast(&l.cond);
    while (woken(&l) != N + 1)
        bh_yield();
    join_all();
}

struct flag {
    struct bh_mutex     lock;
    struct bh_cond      cond;
    struct bh_waitgroup done;
    _Atomic bool        set;
};

enum { FLAGS = 20000 };

static void
wait_for_flags(void *args)
{
    struct flag *f = *(struct flag **)args;

    for (int i = 0; i < FLAGS; i++) {
        bh_mutex_lock(&f->lock);
        while (!atomic_load(&f->set))
            bh_cond_wait(&f->cond, &f->lock);
        atomic_store(&f->set, false);
        bh_mutex_unlock(&f->lock);
    }
    bh_waitgroup_done(&f->done);
}

/* The signal comes from another thread, at any time while the waiter goes to sleep. */
TEST_REAL(cond, signal_while_parking_is_not_lost)
{
    struct flag f = { 0 }, *pointer = &f;

    bh_waitgroup_add(&f.done, 1);
    bh_go(wait_for_flags, &pointer);
    for (int i = 0; i < FLAGS; i++) {
        for (int spins = 0; atomic_load(&f.set); spins++) {
            if (spins > 20000)
                bh_yield();
        }
        for (volatile int delay = i % 200; delay > 0; delay--)
            ;
        bh_mutex_lock(&f.lock);
        atomic_store(&f.set, true);
        bh_mutex_unlock(&f.lock);
        bh_cond_signal(&f.cond);
    }
    bh_waitgroup_wait(&f.done);
}

TEST_DIES(cond, wait_without_the_mutex_is_fatal, 2, "fatal error: sync: unlock of unlocked mutex")
{
    struct line l = { 0 };

    bh_cond_wait(&l.cond, &l.lock);
}

TEST_DIES(cond, deadlock_names_a_condition, 2, "goroutine 1 [sync.Cond.Wait]:")
{
    struct line l = { 0 };

    bh_mutex_lock(&l.lock);
    bh_cond_wait(&l.cond, &l.lock);
}

/* ---- wait groups ------------------------------------------------------------------------ */

struct work {
    struct bh_waitgroup *group;
    _Atomic int         *sum;
};

static void
do_work(void *args)
{
    struct work *w = args;

    BH_DEFER(bh_waitgroup_done, w->group);
    atomic_fetch_add(w->sum, 1);
    bh_yield();
    atomic_fetch_add(w->sum, 1);
}

TEST(waitgroup, wait_returns_when_all_are_done_and_it_can_be_reused)
{
    struct bh_waitgroup group = { 0 };
    _Atomic int         sum = 0;

    bh_waitgroup_wait(&group);
    for (int round = 1; round <= 50; round++) {
        bh_waitgroup_add(&group, 5);
        for (int i = 0; i < 5; i++)
            bh_go(do_work, &(struct work){ &group, &sum });
        bh_waitgroup_wait(&group);
        EXPECT_EQ(atomic_load(&sum), round * 10);
    }
}

struct waits {
    struct bh_waitgroup *first, *second;
    _Atomic int         *returned;
};

static void
wait_then_done(void *args)
{
    struct waits *w = args;

    bh_waitgroup_wait(w->first);
    atomic_fetch_add(w->returned, 1);
    bh_waitgroup_done(w->second);
}

TEST(waitgroup, wakes_every_waiter)
{
    struct bh_waitgroup first = { 0 }, second = { 0 };
    _Atomic int         returned = 0;

    bh_waitgroup_add(&first, 1);
    bh_waitgroup_add(&second, 10);
    for (int i = 0; i < 10; i++)
        bh_go(wait_then_done, &(struct waits){ &first, &second, &returned });
    settle();
    EXPECT_EQ(atomic_load(&returned), 0);
    bh_waitgroup_done(&first);
    bh_waitgroup_wait(&second);
    EXPECT_EQ(atomic_load(&returned), 10);
}

static void
only_done(void *args)
{
    bh_waitgroup_done(*(struct bh_waitgroup **)args);
}

TEST(waitgroup, may_be_freed_when_wait_returns)
{
    for (int i = 0; i < 200; i++) {
        struct bh_waitgroup *group = calloc(1, sizeof *group);

        bh_waitgroup_add(group, 1);
        bh_go(only_done, &group);
        if (i % 2 == 0)
            bh_yield();
        bh_waitgroup_wait(group);
        memset((void *)group, 0xdd, sizeof *group);
        free(group);
    }
}

TEST(waitgroup, below_zero_is_an_ordinary_panic)
{
    struct bh_waitgroup group = { 0 };

    EXPECT_PANIC("sync: negative WaitGroup counter", bh_waitgroup_done(&group));
    group = (struct bh_waitgroup){ 0 };
    bh_waitgroup_add(&group, 2);
    EXPECT_PANIC("sync: negative WaitGroup counter", bh_waitgroup_add(&group, -3));
}

static void
wait_noting_panic(void *args)
{
    struct waits *w = args;

    BH_DEFER(bh_waitgroup_done, w->second);
    BH_RECOVER(p) {
        EXPECT_STR(bh_panic_text(p), "sync: WaitGroup is reused before previous Wait has returned");
        atomic_fetch_add(w->returned, 1);
        return;
    }
    bh_waitgroup_wait(w->first);
}

TEST_SIM(waitgroup, reuse_before_wait_returned_panics_in_wait)
{
    struct bh_waitgroup first = { 0 }, second = { 0 };
    _Atomic int         caught = 0;

    for (int i = 0; i < 100; i++) {
        bh_waitgroup_add(&first, 1);
        bh_waitgroup_add(&second, 1);
        bh_go(wait_noting_panic, &(struct waits){ &first, &second, &caught });
        settle();
        bh_waitgroup_done(&first);
        bh_waitgroup_add(&first, 1); /* mostly before the waiter, now runnable, has run */
        bh_waitgroup_wait(&second);
        bh_waitgroup_done(&first);
    }
    EXPECT(atomic_load(&caught) > 50);
}

TEST_DIES(waitgroup, deadlock_names_a_wait, 2, "goroutine 1 [semacquire]:")
{
    struct bh_waitgroup group = { 0 };

    bh_waitgroup_add(&group, 1);
    bh_waitgroup_wait(&group);
}

/* ---- once ----------------------------------------------------------------------------------- */

struct first {
    struct bh_once      once;
    struct bh_waitgroup done;
    _Atomic int         calls, finished;
};

static void
call_slowly(void *args)
{
    struct first *f = args;

    atomic_fetch_add(&f->calls, 1);
    settle();
    atomic_store(&f->finished, 1);
}

static void
do_once(void *args)
{
    struct first *f = *(struct first **)args;

    bh_once_do(&f->once, call_slowly, f);
    EXPECT_EQ(atomic_load(&f->finished), 1);
    bh_waitgroup_done(&f->done);
}

TEST(once, one_calls_and_all_wait_for_it)
{
    struct first f = { 0 }, *pointer = &f;

    bh_waitgroup_add(&f.done, 10);
    for (int i = 0; i < 10; i++)
        bh_go(do_once, &pointer);
    bh_waitgroup_wait(&f.done);
    bh_once_do(&f.once, call_slowly, &f);
    EXPECT_EQ(atomic_load(&f.calls), 1);
}

static void
panic_once(void *args)
{
    atomic_fetch_add(&((struct first *)args)->calls, 1);
    bh_panic("in once");
}

TEST(once, panic_counts_as_done)
{
    struct first f = { 0 };

    EXPECT_PANIC("in once", bh_once_do(&f.once, panic_once, &f));
    bh_once_do(&f.once, panic_once, &f);
    EXPECT_EQ(atomic_load(&f.calls), 1);
}

static void
exit_once(void *args)
{
    atomic_fetch_add(&((struct first *)args)->calls, 1);
    bh_goexit();
}

static void
do_exit_once(void *args)
{
    struct first *f = *(struct first **)args;

    BH_DEFER(bh_waitgroup_done, &f->done);
    bh_once_do(&f->once, exit_once, f);
    EXPECT(atomic_load(&f->calls) == 1);
}

TEST(once, goexit_counts_as_done)
{
    struct first f = { 0 }, *pointer = &f;

    bh_waitgroup_add(&f.done, 4);
    for (int i = 0; i < 4; i++)
        bh_go(do_exit_once, &pointer);
    bh_waitgroup_wait(&f.done);
    EXPECT_EQ(atomic_load(&f.calls), 1);
}

static void
do_again(void *args)
{
    struct first *f = args;

    bh_once_do(&f->once, do_again, f);
}

TEST_DIES(once, calling_itself_is_a_deadlock, 2, "fatal error: all goroutines are asleep - deadlock!")
{
    struct first f = { 0 };

    bh_once_do(&f.once, do_again, &f);
}

/* ---- semaphores ------------------------------------------------------------------------------ */

struct pool {
    struct bh_semaphore permits;
    struct bh_waitgroup done;
    _Atomic int         used, most;
    int                 size;
};

struct user {
    struct pool *p;
    int          n;
};

static void
use_pool(void *args)
{
    struct user *u = args;
    struct pool *p = u->p;

    for (int i = 0; i < 100; i++) {
        int now;

        bh_semaphore_acquire(&p->permits, u->n);
        now = atomic_fetch_add(&p->used, u->n) + u->n;
        EXPECT(now <= p->size);
        if (now > atomic_load(&p->most))
            atomic_store(&p->most, now);
        bh_yield();
        atomic_fetch_sub(&p->used, u->n);
        bh_semaphore_release(&p->permits, u->n);
    }
    bh_waitgroup_done(&p->done);
}

TEST(semaphore, never_gives_more_than_there_are)
{
    struct pool p = { .size = 4 };

    bh_semaphore_init(&p.permits, p.size);
    bh_waitgroup_add(&p.done, 8);
    for (int i = 0; i < 8; i++)
        bh_go(use_pool, &(struct user){ &p, 1 + i % 4 });
    bh_waitgroup_wait(&p.done);
    EXPECT(atomic_load(&p.most) > 1);
    EXPECT(bh_semaphore_try_acquire(&p.permits, 4));
    EXPECT(!bh_semaphore_try_acquire(&p.permits, 1));
}

struct taker {
    struct bh_semaphore *s;
    struct bh_chan      *log;
    int                  n;
};

static void
take_and_log(void *args)
{
    struct taker *t = args;

    bh_semaphore_acquire(t->s, t->n);
    bh_send(t->log, &t->n);
}

TEST_SIM(semaphore, large_request_is_not_overtaken)
{
    struct bh_semaphore s;
    struct bh_chan     *log = BH_CHAN(int, 4);
    int                 got;

    BH_DEFER(bh_chan_unref, log);
    bh_semaphore_init(&s, 3);
    bh_semaphore_acquire(&s, 2);
    bh_go(take_and_log, &(struct taker){ &s, log, 3 });
    settle();
    bh_go(take_and_log, &(struct taker){ &s, log, 1 });
    settle();
    EXPECT_EQ(bh_chan_len(log), 0);
    EXPECT(!bh_semaphore_try_acquire(&s, 1)); /* one is there, but others wait */
    bh_semaphore_release(&s, 2);
    bh_recv(log, &got);
    EXPECT_EQ(got, 3);
    bh_semaphore_release(&s, 1);
    bh_recv(log, &got);
    EXPECT_EQ(got, 1);
    join_all();
}

TEST(semaphore, release_serves_as_many_as_it_can)
{
    struct bh_semaphore s = { 0 };
    struct bh_chan     *log = BH_CHAN(int, 8);
    int                 got;

    BH_DEFER(bh_chan_unref, log);
    for (int i = 0; i < 5; i++)
        bh_go(take_and_log, &(struct taker){ &s, log, 1 });
    settle();
    bh_semaphore_release(&s, 5);
    for (int i = 0; i < 5; i++)
        bh_recv(log, &got);
    EXPECT(!bh_semaphore_try_acquire(&s, 1));
    EXPECT(bh_semaphore_try_acquire(&s, 0));
    join_all();
}

TEST(semaphore, misuse_panics)
{
    struct bh_semaphore s;

    EXPECT_PANIC("bh_semaphore_init: negative number of permits", bh_semaphore_init(&s, -1));
    bh_semaphore_init(&s, INT64_MAX);
    EXPECT_PANIC("bh_semaphore_acquire: negative number of permits", bh_semaphore_acquire(&s, -1));
    EXPECT_PANIC("bh_semaphore_try_acquire: negative number of permits",
                 (void)bh_semaphore_try_acquire(&s, -1));
    EXPECT_PANIC("bh_semaphore_release: negative number of permits", bh_semaphore_release(&s, -1));
    EXPECT_PANIC("bh_semaphore_release: too many permits", bh_semaphore_release(&s, 1));
    EXPECT(bh_semaphore_try_acquire(&s, INT64_MAX));
}

TEST_DIES(semaphore, deadlock_names_an_acquire, 2, "goroutine 1 [semacquire]:")
{
    struct bh_semaphore s = { 0 };

    bh_semaphore_acquire(&s, 1);
}
