/* inspect_test.c -- snapshots of goroutines in every state, while everything goes on. */

#include "test.h"

#include <bulkhead/go/chan.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "runtime.h"

/* settle -- let the other goroutines get to where they wait. */
static void
settle(void)
{
    for (int i = 0; i < 200; i++)
        bh_yield();
}

/*
 * Functions to be told apart by address alone: none is larger than its alignment, and
 * what else may be on the same stack is so aligned, too.
 */
enum { APART_SIZE = 512 };
#define APART __attribute__((noinline, aligned(512)))

static bool
within(uintptr_t return_pc, void (*fn)(void))
{
    return return_pc > (uintptr_t)fn && return_pc - (uintptr_t)fn <= APART_SIZE;
}

/* ---- finding one ---------------------------------------------------------------- */

/* A copy of what a snapshot said about one goroutine. */
struct seen {
    const char              *name; /* whom to look for */
    int                      times;
    struct bh_goroutine_info info;
    char                     labels[256], why[64];
    uintptr_t                pcs[BH_GOROUTINE_DEPTH];
};

static bool
note(const struct bh_goroutine_info *g, void *arg)
{
    struct seen *s = arg;

    if (strcmp(g->name, s->name) != 0)
        return true;
    s->times++;
    s->info = *g;
    snprintf(s->labels, sizeof s->labels, "%s", g->labels);
    snprintf(s->why, sizeof s->why, "%s", g->why);
    memcpy(s->pcs, g->pcs, (size_t)g->depth * sizeof *s->pcs);
    return true;
}

APART static struct seen
look_for(const char *name, int max_depth)
{
    struct seen s = { .name = name };

    bh_goroutines(note, &s, max_depth);
    return s;
}

static bool
shows(const struct seen *s, void (*fn)(void))
{
    for (int i = 0; i < s->info.depth; i++)
        if (within(s->pcs[i], fn))
            return true;
    return false;
}
#define EXPECT_SHOWS(s, fn) EXPECT(shows((s), (void (*)(void))(fn)))

/* ---- each state ------------------------------------------------------------------- */

struct waits {
    struct bh_chan *chan;
};

APART static void
receive_deeper(struct bh_chan *c)
{
    bh_recv(c, NULL);
    __asm__ volatile("");
}

APART static void
receive(void *args)
{
    struct waits *w = args;

    receive_deeper(w->chan);
}

TEST(inspect, parked_goroutine_shows_its_frames_its_reason_and_what_it_waits_for)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    struct seen     s;

    bh_set_label("route", "/orders");
    bh_set_label("tenant", "7");
    bh_go_with(&(struct bh_go_options){ .name = "waiter" }, receive, &(struct waits){ c });
    settle();
    s = look_for("waiter", BH_GOROUTINE_DEPTH);
    EXPECT_EQ(s.times, 1);
    EXPECT_EQ(s.info.state, BH_GOROUTINE_WAITING);
    EXPECT_STR(s.why, "chan receive");
    EXPECT_STR(s.labels, "route=/orders, tenant=7");
    EXPECT_EQ(s.info.created_by, bh_id());
    EXPECT_EQ(s.info.blocked_on, (uintptr_t)c);
    EXPECT(s.info.created_pc != 0 && !s.info.system && !s.info.locked && !s.info.truncated);
    EXPECT_SHOWS(&s, receive_deeper);
    EXPECT_SHOWS(&s, receive);
    bh_close(c);
    settle();
    EXPECT_EQ(look_for("waiter", 1).times, 0);
    bh_chan_unref(c);
}

TEST(inspect, caller_shows_itself_running_from_its_call_on)
{
    struct seen s;

    bh_set_name("me");
    s = look_for("me", BH_GOROUTINE_DEPTH);
    EXPECT_EQ(s.times, 1);
    EXPECT_EQ(s.info.id, bh_id());
    EXPECT_EQ(s.info.state, BH_GOROUTINE_RUNNING);
    EXPECT_STR(s.why, "running");
    EXPECT(within(s.pcs[0], (void (*)(void))look_for));
    EXPECT(s.info.depth >= 3);
    EXPECT_EQ(s.info.waiting_ns, 0);
    EXPECT(!s.info.truncated);
}

TEST(inspect, depth_is_limited_and_said_to_be)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    struct seen     all, two, none;

    bh_go_with(&(struct bh_go_options){ .name = "waiter" }, receive, &(struct waits){ c });
    settle();
    all = look_for("waiter", 1000);
    two = look_for("waiter", 2);
    none = look_for("waiter", 0);
    EXPECT(all.info.depth > 2 && !all.info.truncated);
    EXPECT_EQ(two.info.depth, 2);
    EXPECT(two.info.truncated);
    EXPECT_EQ(two.pcs[0], all.pcs[0]);
    EXPECT_EQ(two.pcs[1], all.pcs[1]);
    EXPECT_EQ(none.info.depth, 0);
    EXPECT_STR(none.why, "chan receive");
    EXPECT_EQ(look_for("waiter", all.info.depth).info.truncated, false);
    EXPECT_EQ(look_for("waiter", all.info.depth - 1).info.truncated, true);
    bh_close(c);
    settle();
    bh_chan_unref(c);
}

TEST_SIM(inspect, queued_and_unstarted_goroutine_shows_its_function)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    struct seen     s;

    bh_go_with(&(struct bh_go_options){ .name = "new" }, receive, &(struct waits){ c });
    s = look_for("new", 8);
    if (strcmp(s.why, "runnable") == 0) { /* the scheduler may have let it run */
        EXPECT_EQ(s.info.state, BH_GOROUTINE_RUNNABLE);
        EXPECT_EQ(s.info.depth, 1);
        EXPECT_EQ(s.pcs[0], (uintptr_t)receive + 1);
    }
    bh_close(c);
    settle();
    bh_chan_unref(c);
}

TEST_SIM(inspect, waiting_time_is_told)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    struct seen     s;

    bh_go_with(&(struct bh_go_options){ .name = "waiter" }, receive, &(struct waits){ c });
    settle();
    bh_sleep(3 * BH_SECOND);
    s = look_for("waiter", 0);
    EXPECT(s.info.waiting_ns >= 3 * BH_SECOND && s.info.waiting_ns < 4 * BH_SECOND);
    bh_close(c);
    settle();
    bh_chan_unref(c);
}

/* ---- beneath code without frame pointers ------------------------------------------- */

static struct bh_chan *sorting;
static int             sorted_by;

APART static int
compare_patiently(const void *a, const void *b)
{
    if (sorted_by++ == 0)
        bh_recv(sorting, NULL);
    return *(const int *)a - *(const int *)b;
}

APART static void
sort_slowly(void *args)
{
    int numbers[] = { 5, 3, 4, 1, 2 };

    (void)args;
    qsort(numbers, 5, sizeof *numbers, compare_patiently);
    __asm__ volatile("" : : "r"(numbers) : "memory");
}

TEST(inspect, goroutine_parked_beneath_libc_shows_who_called_libc)
{
    struct seen s;

    sorting = BH_CHAN(int, 0);
    bh_go_with(&(struct bh_go_options){ .name = "sorter" }, sort_slowly, NULL);
    settle();
    s = look_for("sorter", BH_GOROUTINE_DEPTH);
    EXPECT_SHOWS(&s, compare_patiently);
    EXPECT_SHOWS(&s, sort_slowly);
    EXPECT(!s.info.truncated);
    bh_close(sorting);
    settle();
    bh_chan_unref(sorting);
}

/* ---- those that run --------------------------------------------------------------- */

static _Atomic bool stop, started;

APART static void
spin_deeper(void)
{
    atomic_store(&started, true);
    while (!atomic_load(&stop))
        __asm__ volatile("");
}

APART static void
spin(void *args)
{
    (void)args;
    spin_deeper();
    __asm__ volatile("");
}

static void
wait_for(_Atomic bool *flag)
{
    while (!atomic_load(flag))
        bh_sleep(BH_MILLISECOND);
}

TEST_REAL(inspect, running_goroutine_shows_where_it_runs)
{
    struct seen s;

    bh_go_with(&(struct bh_go_options){ .name = "spinner" }, spin, NULL);
    wait_for(&started);
    s = look_for("spinner", BH_GOROUTINE_DEPTH);
    atomic_store(&stop, true);
    EXPECT_EQ(s.info.state, BH_GOROUTINE_RUNNING);
    EXPECT_STR(s.why, "running");
    EXPECT_SHOWS(&s, spin_deeper);
    EXPECT_SHOWS(&s, spin); /* although its callee, a leaf, has no frame */
    EXPECT(!s.info.truncated);
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
}

#if defined(__x86_64__) && !defined(RT_TSAN) /* which keeps signals back from foreign code */
/* As compilers have it: once popped, the caller's frame pointer is still said to lie on the stack. */
void inspect_test_epilogue(_Atomic bool *entered, _Atomic bool *until);
__asm__(".text\n"
        ".p2align 9\n"
        ".type inspect_test_epilogue, @function\n"
        "inspect_test_epilogue:\n"
        ".cfi_startproc\n"
        "push %rbp\n"
        ".cfi_def_cfa_offset 16\n"
        ".cfi_offset rbp, -16\n"
        "mov %rsp, %rbp\n"
        ".cfi_def_cfa_register rbp\n"
        "pop %rbp\n"
        ".cfi_def_cfa rsp, 8\n"
        "movb $1, (%rdi)\n"
        "1: cmpb $0, (%rsi)\n"
        "je 1b\n"
        "ret\n"
        ".cfi_endproc\n"
        ".size inspect_test_epilogue, .-inspect_test_epilogue\n"
        ".p2align 9\n");

static void
return_slowly(void *args)
{
    (void)args;
    inspect_test_epilogue(&started, &stop);
    __asm__ volatile("");
}

TEST_REAL(inspect, goroutine_about_to_return_shows_all_its_callers)
{
    struct seen s;

    bh_go_with(&(struct bh_go_options){ .name = "returner" }, return_slowly, NULL);
    wait_for(&started);
    s = look_for("returner", BH_GOROUTINE_DEPTH);
    atomic_store(&stop, true);
    EXPECT_SHOWS(&s, inspect_test_epilogue);
    EXPECT_SHOWS(&s, return_slowly);
    EXPECT(s.info.depth >= 3); /* its caller's caller, the runtime's first function, as well */
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
}
#endif

static void
spin_deaf(void *args)
{
    sigset_t all, old;

    (void)args;
    bh_lock_thread();
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old);
    spin_deeper();
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    bh_unlock_thread();
}

TEST_REAL(inspect, thread_that_does_not_answer_costs_one_wait_and_its_stack)
{
    struct seen s;
    int64_t     began;

    bh_go_with(&(struct bh_go_options){ .name = "deaf" }, spin_deaf, NULL);
    wait_for(&started);
    began = bh_now();
    s = look_for("deaf", BH_GOROUTINE_DEPTH);
    EXPECT(bh_now() - began < (int64_t)(BH_SECOND * test_slow()));
    atomic_store(&stop, true);
    EXPECT_EQ(s.times, 1);
    EXPECT_STR(s.why, "running");
    EXPECT(s.info.locked && s.info.truncated);
    EXPECT_EQ(s.info.depth, 0);
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
}

static int pipes[2];
static int read_result;
static void
read_pipe(void *arg)
{
    char byte;

    atomic_store(&started, true);
    read_result = poll(&(struct pollfd){ .fd = *(int *)arg, .events = POLLIN }, 1, 10000);
    if (read_result == 1)
        read_result = (int)read(*(int *)arg, &byte, 1);
}

APART static void
block(void *args)
{
    (void)args;
    bh_blocking(read_pipe, &pipes[0]);
    atomic_store(&stop, true);
}

TEST_REAL(inspect, blocked_goroutine_shows_its_call_and_is_not_interrupted)
{
    struct seen s;

    EXPECT_EQ(pipe(pipes), 0);
    bh_go_with(&(struct bh_go_options){ .name = "blocker" }, block, NULL);
    wait_for(&started);
    for (int i = 0; i < 20; i++) {
        s = look_for("blocker", BH_GOROUTINE_DEPTH);
        EXPECT_EQ(s.info.state, BH_GOROUTINE_RUNNING);
        EXPECT_STR(s.why, "syscall");
        EXPECT_EQ(s.pcs[0], (uintptr_t)read_pipe + 1);
        EXPECT_SHOWS(&s, bh_blocking);
        EXPECT_SHOWS(&s, block);
        EXPECT(!s.info.truncated);
        bh_sleep(BH_MILLISECOND); /* until it is in poll, which no signal handler restarts */
    }
    EXPECT_EQ(write(pipes[1], "x", 1), 1);
    wait_for(&stop);
    EXPECT_EQ(read_result, 1);
    close(pipes[0]);
    close(pipes[1]);
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
}

/* ---- from a plain thread ------------------------------------------------------------ */

static struct seen  thread_saw_spinner, thread_saw_waiter, thread_saw_main;
static _Atomic bool thread_done;

static void *
inspecting_thread(void *arg)
{
    (void)arg;
    thread_saw_spinner = look_for("spinner", BH_GOROUTINE_DEPTH);
    thread_saw_waiter = look_for("waiter", BH_GOROUTINE_DEPTH);
    thread_saw_main = look_for("main", BH_GOROUTINE_DEPTH);
    atomic_store(&thread_done, true);
    return NULL;
}

TEST_REAL(inspect, plain_thread_sees_all_goroutines)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    pthread_t       thread;

    bh_go_with(&(struct bh_go_options){ .name = "waiter" }, receive, &(struct waits){ c });
    bh_go_with(&(struct bh_go_options){ .name = "spinner" }, spin, NULL);
    wait_for(&started);
    bh_set_name("main");
    settle();
    EXPECT_EQ(pthread_create(&thread, NULL, inspecting_thread, NULL), 0);
    wait_for(&thread_done);
    pthread_join(thread, NULL);
    atomic_store(&stop, true);
    EXPECT_SHOWS(&thread_saw_spinner, spin_deeper);
    EXPECT_SHOWS(&thread_saw_waiter, receive_deeper);
    EXPECT_EQ(thread_saw_main.times, 1);
    EXPECT_EQ(thread_saw_main.info.id, bh_id());
    bh_close(c);
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
    bh_chan_unref(c);
}

/* ---- consistency --------------------------------------------------------------------- */

/*
 * A goroutine waits alternately in two functions, at equal depth.  A snapshot that mixed
 * two waits would show the one's inner frame beside the other's outer one.  Many frames
 * between the two give it the time to.
 */
enum { BETWEEN = 80 };

struct pair {
    struct bh_chan *ask, *answer;
};

static int descend(int depth, int (*inner)(struct bh_chan *c), struct bh_chan *c);
static int (*volatile go_down)(int             depth, int (*inner)(struct bh_chan *c),
                               struct bh_chan *c) = descend;

APART static int
descend(int depth, int (*inner)(struct bh_chan *c), struct bh_chan *c)
{
    return depth > 0 ? go_down(depth - 1, inner, c) + 1 : inner(c) + 1;
}

#define WAIT_IN(name)                                                                          \
    APART static int name##_inner(struct bh_chan *c)                                           \
    {                                                                                          \
        return bh_recv(c, NULL) + 1;                                                           \
    }                                                                                          \
    APART static int name##_outer(struct bh_chan *c)                                           \
    {                                                                                          \
        return go_down(BETWEEN, name##_inner, c) + 1;                                          \
    }
WAIT_IN(left)
WAIT_IN(right)

APART static void
alternate(void *args)
{
    struct pair *p = args;

    while (!atomic_load(&stop)) {
        left_outer(p->ask);
        bh_send(p->answer, &(int){ 0 });
        right_outer(p->ask);
        bh_send(p->answer, &(int){ 0 });
    }
    bh_close(p->answer);
}

static void
drive(void *args)
{
    struct pair *p = args;

    while (bh_send(p->ask, &(int){ 0 }), bh_recv(p->answer, NULL))
        ;
    bh_close(p->ask);
    bh_chan_unref(p->ask);
    bh_chan_unref(p->answer);
}

struct sides {
    int left, right, mixed;
};

static bool
check_sides(const struct bh_goroutine_info *g, void *arg)
{
    struct sides *count = arg;
    struct seen   s = { .name = "alternator" };
    bool          left[2], right[2];

    note(g, &s);
    left[0] = shows(&s, (void (*)(void))left_inner);
    left[1] = shows(&s, (void (*)(void))left_outer);
    right[0] = shows(&s, (void (*)(void))right_inner);
    right[1] = shows(&s, (void (*)(void))right_outer);
    count->left += left[0] && left[1];
    count->right += right[0] && right[1];
    /* One caught on its way may be in the outer function alone. */
#if defined(                                                                                   \
    RT_TSAN) /* gives a handler the registers of one moment and the stack of a later one */
    if (strcmp(g->why, "running") == 0)
        return true;
#endif
    if ((left[0] && !left[1]) || (right[0] && !right[1]) || (left[1] && right[1])) {
        count->mixed++;
        fprintf(stderr, "%s:", g->why);
        for (int i = 0; i < g->depth; i++)
            fprintf(stderr, " %#zx", (size_t)g->pcs[i]);
        fprintf(stderr, "\n");
    }
    return true;
}

static struct sides sides;

static void *
check_until_enough(void *arg)
{
    enum { ENOUGH = 5000 };
    int64_t until = bh_now() + 2 * BH_SECOND;

    (void)arg;
    while ((sides.left < ENOUGH || sides.right < ENOUGH) && bh_now() < until)
        bh_goroutines(check_sides, &sides, BH_GOROUTINE_DEPTH);
    atomic_store(&stop, true);
    return NULL;
}

TEST_REAL(inspect, no_stack_is_a_mixture_of_two_waits)
{
    struct pair p = { BH_CHAN(int, 1), BH_CHAN(int, 0) };
    pthread_t   thread;

    EXPECT_EQ(pthread_create(&thread, NULL, check_until_enough, NULL), 0);
    bh_go_with(&(struct bh_go_options){ .name = "alternator" }, alternate, &p);
    bh_go(drive, &(struct pair){ bh_chan_ref(p.ask), bh_chan_ref(p.answer) });
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
    pthread_join(thread, NULL);
    EXPECT(sides.left > 0 && sides.right > 0);
    EXPECT_EQ(sides.mixed, 0);
    bh_chan_unref(p.ask);
    bh_chan_unref(p.answer);
}

/* ---- how long it takes ----------------------------------------------------------------- */

static bool
count_frames(const struct bh_goroutine_info *g, void *arg)
{
    *(int64_t *)arg += g->depth;
    return true;
}

TEST_REAL(inspect, ten_thousand_parked_goroutines_take_milliseconds)
{
    enum { MANY = test_sanitized ? 500 : 10000 };
    struct bh_chan *c = BH_CHAN(int, 0);
    int64_t         best = INT64_MAX, frames = 0;

    for (int i = 0; i < MANY; i++)
        bh_go(receive, &(struct waits){ c });
    settle();
    for (int i = 0; i < 10; i++) {
        int64_t began = bh_now();

        frames = 0;
        EXPECT(bh_goroutines(count_frames, &frames, BH_GOROUTINE_DEPTH) > MANY);
        if (bh_now() - began < best)
            best = bh_now() - began;
    }
    EXPECT(frames > MANY * 3);
    printf("inspect: %d goroutines, %lld frames, %.2f ms\n", MANY, (long long)frames,
           (double)best / 1e6);
    EXPECT(best < (int64_t)(20 * BH_MILLISECOND * test_slow()));
    bh_close(c);
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
    bh_chan_unref(c);
}

/* ---- at the end of the stack, and beside readers ------------------------------------- */

static bool
ignore(const struct bh_goroutine_info *g, void *arg)
{
    (void)g;
    (void)arg;
    return true;
}

/* Bytes: more than a snapshot takes, and less than any of its frames.  How deep it goes varies. */
enum { FULL = 24 << 10, STEP = 32, ROUNDS = 8 };

/* Looks when no more than left bytes of the stack are. */
__attribute__((noinline)) static void
look_with(uintptr_t left)
{
    volatile char here[STEP];

    here[0] = 0;
    if ((uintptr_t)here - (uintptr_t)rt_g()->stack->soft - 4096 > left)
        look_with(left);
    else
        (void)bh_goroutines(ignore, NULL, BH_GOROUTINE_DEPTH);
    __asm__ volatile("" : : "r"(here[0]));
}

static bool
overflows_with(uintptr_t left)
{
    BH_RECOVER(p) {
        return true;
    }
    look_with(left);
    return false;
}

static _Atomic bool over;

static void
keep_busy(void *args)
{
    (void)args;
    while (!over)
        continue;
}

/* Wherever the stack ends, no lock is left behind: each snapshot would wait for it for ever. */
TEST_REAL(inspect, snapshot_that_overflows_the_stack_leaves_nothing_locked)
{
    int overflows = 0;

    if (test_sanitized)
        test_skip("a sanitizer has frames of its own sizes");
    bh_go_start_(keep_busy, NULL, 0); /* running: read by the tables */
    for (int round = 0; round < ROUNDS; round++)
        for (uintptr_t left = STEP; left <= FULL; left += STEP)
            overflows += overflows_with(left);
    EXPECT(overflows > 0 && overflows < ROUNDS * (FULL / STEP));
    EXPECT(bh_goroutines(ignore, NULL, BH_GOROUTINE_DEPTH) >= 2);
    over = true;
    while (bh_goroutine_count() > 1)
        bh_yield();
}

static _Atomic bool looked_enough;

static void *
look_all_the_time(void *arg)
{
    (void)arg;
    while (!looked_enough)
        (void)bh_goroutines(ignore, NULL, 0);
    return NULL;
}

TEST_REAL(inspect, own_labels_are_there_while_others_look)
{
    pthread_t thread;
    char      text[64];
    int       missing = 0;

    bh_set_label("request", "42");
    EXPECT_EQ(pthread_create(&thread, NULL, look_all_the_time, NULL), 0);
    for (int i = 0; i < 100000; i++)
        missing += bh_labels(text, sizeof text) != strlen("request=42");
    looked_enough = true;
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(missing, 0);
}
