/*
 * fibers.c -- what goroutines cost.  peers/go/fibers.go and peers/boost/fibers.cc
 * are the same tests, as their users would write them.
 *
 *     yield      two goroutines take turns
 *     spawn      start, run and end an empty goroutine, 100 at a time
 *     pingpong   a round trip over two unbuffered channels, one P
 *     cross      the same, each end pinned to a thread of its own
 *     skynet1    a tree of ten children each, a million leaves, one P; skynet2: two
 *     forkjoin1  a binary tree of depth 17, 500 steps of xorshift a leaf; forkjoin2
 *     select     receive from four channels that are all ready, and refill
 *     mutex      lock and unlock, nobody else there
 *     timer      make, arm, cancel and free a timer;  rearm: arm and cancel one
 *     park       a million goroutines blocked on a channel: time and memory each
 *     queued     memory of one that has not run yet
 *     hog        how long a busy loop on the only P keeps another goroutine waiting
 */

#include <bulkhead/go/chan.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

#include "bench.h"

enum {
    YIELDS = 2500000,
    SPAWNS = 1000000,
    TRIPS = 1000000,
    CROSS_TRIPS = 20000,
    LEAVES = 1000000,
    DEPTH = 17,
    LEAF_STEPS = 500,
    SELECTS = 2000000,
    LOCKS = 50000000,
    TIMERS = 2000000,
    PARKED = 1000000,
    QUEUED = 20480, /* whole slabs of descriptors */
    HOGS = 20
};

struct job { struct bh_waitgroup *done; };

/* ---- yield, spawn -------------------------------------------------------- */

static void
yielder(void *args)
{
    struct job *j = args;

    for (int i = 0; i < YIELDS; i++)
        bh_yield();
    bh_waitgroup_done(j->done);
}

static void
run_yield(void *args)
{
    struct bh_waitgroup done = { 0 };
    int64_t             start = bench_now();

    (void)args;
    bh_waitgroup_add(&done, 2);
    bh_go(yielder, &(struct job){ &done });
    bh_go(yielder, &(struct job){ &done });
    bh_waitgroup_wait(&done);
    bench_print("yield_ns", (double)(bench_now() - start) / (2.0 * YIELDS));
}

static void
nothing(void *args)
{
    struct job *j = args;

    bh_waitgroup_done(j->done);
}

static void
run_spawn(void *args)
{
    int64_t start = bench_now();

    (void)args;
    for (int i = 0; i < SPAWNS / 100; i++) {
        struct bh_waitgroup done = { 0 };

        bh_waitgroup_add(&done, 100);
        for (int k = 0; k < 100; k++)
            bh_go(nothing, &(struct job){ &done });
        bh_waitgroup_wait(&done);
    }
    bench_print("spawn_ns", (double)(bench_now() - start) / SPAWNS);
}

/* ---- channels ------------------------------------------------------------- */

struct ends { struct bh_chan *in, *out; int trips; bool pinned; };

static void
ponger(void *args)
{
    struct ends *e = args;

    if (e->pinned)
        bh_lock_thread();
    for (int i = 0; i < e->trips; i++) {
        int ball;

        bh_recv(e->in, &ball);
        bh_send(e->out, &ball);
    }
    if (e->pinned)
        bh_unlock_thread();
}

static double
trip_ns(int trips, bool pinned)
{
    struct bh_chan *there = BH_CHAN(int, 0), *back = BH_CHAN(int, 0);
    int64_t         start;

    if (pinned)
        bh_lock_thread();
    bh_go(ponger, &(struct ends){ there, back, trips, pinned });
    start = bench_now();
    for (int i = 0; i < trips; i++) {
        int ball;

        bh_send(there, &i);
        bh_recv(back, &ball);
    }
    return (double)(bench_now() - start) / trips;
}

static void
run_pingpong(void *args)
{
    (void)args;
    bench_print("pingpong_ns", trip_ns(TRIPS, false));
}

static void
run_cross(void *args)
{
    (void)args;
    bench_print("cross_us", trip_ns(CROSS_TRIPS, true) / 1e3);
}

static void
run_select(void *args)
{
    struct bh_chan *c[4];
    int64_t         start;

    (void)args;
    for (int i = 0; i < 4; i++) {
        c[i] = BH_CHAN(int, 1);
        bh_send(c[i], &i);
    }
    start = bench_now();
    for (int i = 0; i < SELECTS; i++) {
        int got, which;

        which = bh_select(BH_RECV(c[0], &got), BH_RECV(c[1], &got), BH_RECV(c[2], &got),
                          BH_RECV(c[3], &got));
        bh_send(c[which], &got);
    }
    bench_print("select_ns", (double)(bench_now() - start) / SELECTS);
}

/* ---- trees ---------------------------------------------------------------- */

struct node { struct bh_chan *up; int64_t number, size; };

static void
skynet(void *args)
{
    struct node    *n = args;
    struct bh_chan *sums;
    int64_t         sum = 0, part;

    if (n->size == 1) {
        bh_send(n->up, &n->number);
        return;
    }
    sums = BH_CHAN(int64_t, 0);
    for (int i = 0; i < 10; i++)
        bh_go(skynet, &(struct node){ sums, n->number + i * (n->size / 10), n->size / 10 });
    for (int i = 0; i < 10; i++) {
        bh_recv(sums, &part);
        sum += part;
    }
    bh_chan_unref(sums);
    bh_send(n->up, &sum);
}

static void
run_skynet(void *args)
{
    struct bh_chan *top = BH_CHAN(int64_t, 0);
    int64_t         start = bench_now(), sum;

    (void)args;
    bh_go(skynet, &(struct node){ top, 0, LEAVES });
    bh_recv(top, &sum);
    if (sum != (int64_t)LEAVES * (LEAVES - 1) / 2)
        abort();
    bench_print(bh_procs() == 1 ? "skynet_1p_ms" : "skynet_2p_ms",
                (double)(bench_now() - start) / 1e6);
}

static uint64_t
work(uint64_t x, int steps)
{
    for (int i = 0; i < steps; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

struct fork { struct bh_waitgroup *done; uint64_t *result; int depth; };

static void
forkjoin(void *args)
{
    struct fork *f = args;

    if (f->depth == 0) {
        *f->result = work(UINT64_C(88172645463325252), LEAF_STEPS);
    } else {
        struct bh_waitgroup done = { 0 };
        uint64_t            left, right;

        bh_waitgroup_add(&done, 2);
        bh_go(forkjoin, &(struct fork){ &done, &left, f->depth - 1 });
        bh_go(forkjoin, &(struct fork){ &done, &right, f->depth - 1 });
        bh_waitgroup_wait(&done);
        *f->result = left + right;
    }
    bh_waitgroup_done(f->done);
}

static void
run_forkjoin(void *args)
{
    struct bh_waitgroup done = { 0 };
    uint64_t            result = 0;
    int64_t             start = bench_now();

    (void)args;
    bh_waitgroup_add(&done, 1);
    bh_go(forkjoin, &(struct fork){ &done, &result, DEPTH });
    bh_waitgroup_wait(&done);
    if (result != work(UINT64_C(88172645463325252), LEAF_STEPS) << DEPTH)
        abort();
    bench_print(bh_procs() == 1 ? "forkjoin_1p_ms" : "forkjoin_2p_ms",
                (double)(bench_now() - start) / 1e6);
}

/* ---- mutex, timer ---------------------------------------------------------- */

static struct bh_mutex lock;
static volatile int    guarded;

static void
run_mutex(void *args)
{
    int64_t start = bench_now();

    (void)args;
    for (int i = 0; i < LOCKS; i++) {
        bh_mutex_lock(&lock);
        guarded = i;
        bh_mutex_unlock(&lock);
    }
    bench_print("mutex_ns", (double)(bench_now() - start) / LOCKS);
}

static void
run_timer(void *args)
{
    int64_t start = bench_now();

    (void)args;
    for (int i = 0; i < TIMERS; i++) {
        struct bh_timer *t = bh_timer_new(3600 * BH_SECOND);

        bh_timer_stop(t);
        bh_timer_free(t);
    }
    bench_print("timer_ns", (double)(bench_now() - start) / TIMERS);
}

static void
run_rearm(void *args)
{
    struct bh_timer *t = bh_timer_new(3600 * BH_SECOND);
    int64_t          start = bench_now();

    (void)args;
    for (int i = 0; i < TIMERS; i++) {
        bh_timer_reset(t, 3600 * BH_SECOND);
        bh_timer_stop(t);
    }
    bench_print("rearm_ns", (double)(bench_now() - start) / TIMERS);
    bh_timer_free(t);
}

/* ---- memory ---------------------------------------------------------------- */

struct sleeper { struct bh_chan *gate; struct bh_waitgroup *done; };

static void
sleeper(void *args)
{
    struct sleeper *s = args;

    bh_recv(s->gate, NULL);
    bh_waitgroup_done(s->done);
}

static void
run_park(void *args)
{
    struct bh_chan     *gate = BH_CHAN(int, 0);
    struct bh_waitgroup done = { 0 };
    int64_t             before, start;

    (void)args;
    bench_warm((size_t)6 << 30);
    before = bench_resident();
    start = bench_now();
    bh_waitgroup_add(&done, PARKED);
    for (int i = 0; i < PARKED; i++) {
        bh_go(sleeper, &(struct sleeper){ gate, &done });
        if (i % 100 == 99)
            bh_yield(); /* they run as they come, as under load */
    }
    bh_yield();
    bench_print("park_us", (double)(bench_now() - start) / PARKED / 1e3);
    bench_print("park_bytes", (double)(bench_resident() - before) / PARKED);
    start = bench_now();
    bh_close(gate);
    bh_waitgroup_wait(&done);
    bench_print("wake_ns", (double)(bench_now() - start) / PARKED);
}

static _Atomic int started;

static void
unstarted(void *args)
{
    struct job *j = args;

    started++;
    bh_waitgroup_done(j->done);
}

/*
 * Fewer than a time slice can start, so that none of them has run when we look.
 * If some have all the same (the machine was busy), nothing is printed.
 */
static void
run_queued(void *args)
{
    struct bh_waitgroup done = { 0 };
    int64_t             before, bytes;

    (void)args;
    bh_waitgroup_add(&done, QUEUED);
    (void)bench_resident(); /* touch what it needs itself */
    bh_sleep(BH_MILLISECOND); /* begin with a whole slice */
    before = bench_resident();
    for (int i = 0; i < QUEUED; i++)
        bh_go(unstarted, &(struct job){ &done });
    bytes = bench_resident() - before;
    if (started == 0)
        bench_print("queued_bytes", (double)bytes / QUEUED);
    bh_waitgroup_wait(&done);
}

/* ---- a busy loop ------------------------------------------------------------ */

static void
hog(void *args)
{
    struct job *j = args;
    int64_t     end = bench_now() + 100 * BH_MILLISECOND;

    while (bench_now() < end)
        work(1, 1000);
    bh_waitgroup_done(j->done);
}

static void
run_hog(void *args)
{
    int64_t worst = 0;

    (void)args;
    for (int i = 0; i < HOGS; i++) {
        struct bh_waitgroup done = { 0 };
        int64_t             start;

        bh_waitgroup_add(&done, 1);
        bh_go(hog, &(struct job){ &done });
        start = bench_now();
        bh_yield();
        if (bench_now() - start > worst)
            worst = bench_now() - start;
        bh_waitgroup_wait(&done);
    }
    bench_print("hog_ms", (double)worst / 1e6);
}

int
main(int argc, char **argv)
{
    static const struct bench tests[] = {
        { "yield", 1, run_yield },       { "spawn", 1, run_spawn },
        { "pingpong", 1, run_pingpong }, { "cross", 2, run_cross },
        { "skynet1", 1, run_skynet },    { "skynet2", 2, run_skynet },
        { "forkjoin1", 1, run_forkjoin }, { "forkjoin2", 2, run_forkjoin },
        { "select", 1, run_select },     { "mutex", 1, run_mutex },
        { "timer", 1, run_timer },       { "rearm", 1, run_rearm },
        { "park", 1, run_park },         { "queued", 1, run_queued },
        { "hog", 1, run_hog },           { NULL, 0, NULL },
    };

    return bench_main(tests, argc, argv);
}
