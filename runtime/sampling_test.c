/* sampling_test.c -- what a signal has interrupted; which threads there are. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/sampling.h>

enum { MAX = 64 };

static uintptr_t             pcs[MAX];
static int                   depth, room = MAX;
static struct bh_interrupted what;

static void
on_signal(int sig, siginfo_t *info, void *ucontext)
{
    (void)sig;
    (void)info;
    depth = bh_stack_interrupted(ucontext, pcs, room, &what);
}

static void
watch(void)
{
    struct sigaction act = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    EXPECT_EQ(sigaction(SIGPROF, &act, NULL), 0);
}

/* Which frame of pcs is in this function, -1 if none is. */
static int
frame_of(const char *function)
{
    struct bh_frame f[BH_FRAMES_MAX];

    for (int i = 0; i < depth; i++)
        for (int k = bh_symbolize(pcs[i], f, BH_FRAMES_MAX) - 1; k >= 0; k--)
            if (strcmp(f[k].function, function) == 0)
                return i;
    return -1;
}

static void
nothing(void)
{
}

__attribute__((noinline)) static void
victim(void)
{
    raise(SIGPROF);
    __asm__ volatile("");
}

__attribute__((noinline)) static void
caller_of_victim(void)
{
    victim();
    __asm__ volatile("");
}

TEST_REAL(sampling, whoever_called_libc_is_not_left_out)
{
    int at;

    EXPECT_EQ(bh_sampling_begin(nothing, nothing), 0);
    watch();
    for (int i = 0; i < 2; i++) { /* the second time its rules are known */
        caller_of_victim();
        at = frame_of("victim");
        EXPECT(at > 0); /* libc's own are inside it */
        EXPECT_EQ(frame_of("caller_of_victim"), at + 1);
        EXPECT_EQ(what.goroutine, bh_id());
        EXPECT(!what.scheduler && !what.truncated);
    }
    bh_sampling_end();
}

TEST_REAL(sampling, room_for_few_frames_is_not_overrun)
{
    EXPECT_EQ(bh_sampling_begin(nothing, nothing), 0);
    watch();
    room = 2;
    pcs[2] = 77;
    caller_of_victim();
    EXPECT_EQ(depth, 2);
    EXPECT_EQ(pcs[2], 77);
    EXPECT(what.truncated);
    room = 0;
    caller_of_victim();
    EXPECT_EQ(depth, 0);
}

#if defined(__x86_64__)
/* A trap at its first instruction, where no frame is there yet. */
__attribute__((naked, noinline)) static void
without_a_frame(void)
{
    __asm__ volatile("push %rbp\n\tmov %rsp, %rbp\n\tpop %rbp\n\tret");
}

static uintptr_t callers[8]; /* the second frame, at each step */
static int       steps;

static void
on_step(int sig, siginfo_t *info, void *ucontext)
{
    uintptr_t pc, start = (uintptr_t)without_a_frame;
    int       n = bh_stack_interrupted(ucontext, pcs, MAX, &what);

    (void)sig;
    (void)info;
    pc = pcs[0] - 1;
    if (pc >= start && pc < start + 6 && steps < 8)
        callers[steps++] = n > 1 ? pcs[1] : 0;
}

__attribute__((noinline)) static void
stepped(void)
{
    __asm__ volatile("pushf; orl $0x100, (%%rsp); popf" : : : "cc", "memory");
    without_a_frame();
    __asm__ volatile("pushf; andl $~0x100, (%%rsp); popf" : : : "cc", "memory");
}

TEST_REAL(sampling, a_frame_that_is_not_complete_keeps_its_caller)
{
    struct sigaction act = { .sa_sigaction = on_step, .sa_flags = SA_SIGINFO | SA_ONSTACK };

    EXPECT_EQ(sigaction(SIGTRAP, &act, NULL), 0);
    stepped();
    EXPECT_EQ(steps, 4);
    for (int i = 0; i < steps; i++) {
        pcs[0] = callers[i];
        depth = callers[i] != 0;
        EXPECT_EQ(frame_of("stepped"), 0);
    }
}
#endif

static void *
plain_thread(void *arg)
{
    (void)arg;
    victim();
    return NULL;
}

TEST_REAL(sampling, of_a_plain_thread_the_innermost_frame_is_known)
{
    pthread_t t;

    watch();
    EXPECT_EQ(pthread_create(&t, NULL, plain_thread, NULL), 0);
    EXPECT_EQ(pthread_join(t, NULL), 0);
    EXPECT_EQ(depth, 1);
    EXPECT_EQ(what.goroutine, 0);
}

/* ---- threads --------------------------------------------------------------------- */

static atomic_int started, ended;

static void
on_start(void)
{
    started++;
}

static void
on_end(void)
{
    ended++;
}

static atomic_int  holding;
static atomic_bool release;

static void
block_thread(void *arg)
{
    (void)arg;
    holding++;
    while (!release)
        sched_yield();
    holding--;
}

static void
hold(void *args)
{
    (void)args;
    bh_blocking(block_thread, NULL);
}

/* More threads blocked than there can be without starting some. */
static void
hold_threads(void)
{
    for (int i = 0; i < 2 * bh_procs(); i++)
        bh_go(hold, NULL);
    while (holding < 2 * bh_procs())
        bh_sleep(100000);
}

static void
release_threads(void)
{
    release = true;
    while (holding > 0)
        bh_sleep(100000);
}

struct pinned {
    struct bh_chan *done;
};

static void
end_with_the_thread(void *args)
{
    bh_lock_thread();
    bh_close(((struct pinned *)args)->done);
}

TEST_REAL(sampling, threads_are_told_of_when_they_start_and_end)
{
    struct bh_chan *done = BH_CHAN(int, 0);

    EXPECT_EQ(bh_sampling_begin(on_start, on_end), 0);
    EXPECT_EQ(bh_sampling_begin(on_start, on_end), -EBUSY);
    bh_go(end_with_the_thread, &(struct pinned){ done });
    EXPECT(!bh_recv(done, NULL));
    while (ended == 0) /* the thread ends a little later than its goroutine */
        bh_sleep(100000);
    hold_threads();
    EXPECT(started >= 1);
    release_threads();
    bh_sampling_end();
    bh_chan_unref(done);
}

struct looking {
    int self, found, with_stack;
};

static bool
look(const struct bh_thread_info *t, void *arg)
{
    struct looking *l = arg;

    EXPECT(t->tid > 0);
    l->found += t->tid == l->self;
    l->with_stack += t->depth > 0;
    return true;
}

TEST_REAL(sampling, threads_are_listed_with_what_made_them_start)
{
    struct looking l = { .self = (int)syscall(SYS_gettid) };

    hold_threads();
    bh_threads(look, &l);
    EXPECT_EQ(l.found, 1);
    EXPECT(l.with_stack > 0);
    release_threads();
}
