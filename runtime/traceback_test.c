/* traceback_test.c -- what a dump says about goroutines in each state. */

#include "test.h"

#include <bulkhead/go/chan.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "runtime.h"

enum { TEXT_SIZE = 256 << 10 };

/* dump -- what bh_dump writes; good until the next. */
static const char *
dump(void)
{
    static char text[TEXT_SIZE];
    int         fd = memfd_create("dump", 0);
    ssize_t     n;

    bh_dump(fd);
    n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    close(fd);
    return text;
}

#define EXPECT_DUMP(dumped, part)                                                              \
    (strstr((dumped), (part)) != NULL                                                          \
         ? (void)0                                                                             \
         : test_failed(__FILE__, __LINE__, "no \"%s\" in:\n%s", (part), (dumped)))

/* settle -- let the other goroutines get to where they wait. */
static void
settle(void)
{
    for (int i = 0; i < 200; i++)
        bh_yield();
}

/* until_dumped -- dump until the part is there; a goroutine on another thread needs a moment. */
static void
until_dumped(const char *part)
{
    const char *text = dump();

    for (int i = 0; i < 2000 && strstr(text, part) == NULL; i++) {
        bh_sleep(BH_MILLISECOND);
        text = dump();
    }
    EXPECT_DUMP(text, part);
}

/* ---- texts ---------------------------------------------------------------- */

TEST_PLAIN(traceback, every_wait_reason_has_a_text)
{
    for (int why = 0; why < RT_WHY_COUNT; why++)
        EXPECT(strcmp(rt_why_text((enum rt_why)why), "unknown wait reason") != 0);
    EXPECT_STR(rt_why_text(RT_WHY_CHAN_RECEIVE), "chan receive");
    EXPECT_STR(rt_why_text(RT_WHY_CHAN_SEND_NIL), "chan send (nil chan)");
    EXPECT_STR(rt_why_text(RT_WHY_SELECT_NO_CASES), "select (no cases)");
    EXPECT_STR(rt_why_text(RT_WHY_COUNT), "unknown wait reason");
}

/* ---- frame pointers ------------------------------------------------------- */

TEST_PLAIN(traceback, frame_pointers_are_followed_to_the_end_marker)
{
    uintptr_t stack[8] = { 0 }, pcs[8];
    uintptr_t lo = (uintptr_t)stack, hi = (uintptr_t)(stack + 8);

    stack[0] = (uintptr_t)&stack[2];
    stack[1] = 101;
    stack[2] = (uintptr_t)&stack[5];
    stack[3] = 102;
    stack[5] = 0; /* the first frame */
    stack[6] = 103;
    EXPECT_EQ(rt_backtrace(100, lo, lo, hi, pcs, 8), 4);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(pcs[i], 100 + i);
    EXPECT_EQ(rt_backtrace(100, lo, lo, hi, pcs, 2), 2);
    EXPECT_EQ(rt_backtrace(0, lo, lo, hi, pcs, 8), 3);
    EXPECT_EQ(rt_backtrace(100, lo, lo, hi, pcs, 0), 0);
}

TEST_PLAIN(traceback, frame_pointers_out_of_bounds_or_backwards_end_the_walk)
{
    uintptr_t stack[8] = { 0 }, pcs[8];
    uintptr_t lo = (uintptr_t)stack, hi = (uintptr_t)(stack + 8);

    stack[2] = (uintptr_t)&stack[0]; /* down */
    stack[3] = 101;
    stack[1] = 102;
    EXPECT_EQ(rt_backtrace(100, (uintptr_t)&stack[2], lo, hi, pcs, 8), 2);
    stack[2] = (uintptr_t)&stack[2]; /* itself */
    EXPECT_EQ(rt_backtrace(100, (uintptr_t)&stack[2], lo, hi, pcs, 8), 2);
    EXPECT_EQ(rt_backtrace(100, hi, lo, hi, pcs, 8), 1);
    EXPECT_EQ(rt_backtrace(100, hi - 8, lo, hi, pcs, 8), 1); /* its return address lies outside */
    EXPECT_EQ(rt_backtrace(100, lo - 16, lo, hi, pcs, 8), 1);
    EXPECT_EQ(rt_backtrace(100, lo + 1, lo, hi, pcs, 8), 1);
    EXPECT_EQ(rt_backtrace(100, UINTPTR_MAX - 7, lo, hi, pcs, 8), 1);
}

/* ---- goroutines in each state --------------------------------------------- */

struct waits {
    struct bh_chan *chan;
};

static void
receive(void *args)
{
    struct waits *w = args;

    bh_recv(w->chan, NULL);
}

__attribute__((noinline)) static void
receive_deeper(struct bh_chan *c)
{
    bh_recv(c, NULL);
}

static void
receive_in_callee(void *args)
{
    struct waits *w = args;

    receive_deeper(w->chan);
}

TEST(traceback, parked_goroutine_shows_its_reason_its_frames_and_its_creator)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    const char     *text;

    bh_go(receive_in_callee, &(struct waits){ c });
    settle();
    text = dump();
    EXPECT_DUMP(text, "goroutine 1 [running]:\n");
    EXPECT_DUMP(text, " [chan receive]:\nreceive_deeper(...)\n\t");
    EXPECT_DUMP(text, "\nreceive_in_callee(...)\n\t");
    EXPECT_DUMP(text, "\ncreated by test_traceback_parked_goroutine_shows_its_reason_its_frames_and_"
                      "its_creator in goroutine 1\n\t");
    EXPECT_DUMP(text, "traceback_test.c:");
    bh_close(c);
    settle();
    bh_chan_unref(c);
}

TEST(traceback, runtime_frames_are_left_out)
{
    struct bh_chan *c = BH_CHAN(int, 0);

    bh_go(receive, &(struct waits){ c });
    settle();
    EXPECT(strstr(dump(), "rt_") == NULL);
    EXPECT(strstr(dump(), "enter_goroutine") == NULL);
    EXPECT(strstr(dump(), "main_goroutine(...)\n\t/") != NULL); /* the test program's, not the runtime's */
    bh_close(c);
    settle();
    bh_chan_unref(c);
}

TEST(traceback, goroutine_that_has_not_started_shows_its_function)
{
    struct bh_chan *c = BH_CHAN(int, 0);

    if (rt_sched.simulate) { /* or else another thread may start it */
        bh_go(receive, &(struct waits){ c });
        if (strstr(dump(), " [runnable]:\n") != NULL)
            EXPECT_DUMP(dump(), " [runnable]:\nreceive(...)\n");
    }
    bh_close(c);
    settle();
    bh_chan_unref(c);
}

TEST_SIM(traceback, long_waits_are_counted_in_minutes)
{
    struct bh_chan *c = BH_CHAN(int, 0);

    bh_go(receive, &(struct waits){ c });
    settle();
    bh_sleep(59 * BH_SECOND);
    EXPECT_DUMP(dump(), " [chan receive]:\n");
    bh_sleep(2 * BH_SECOND);
    EXPECT_DUMP(dump(), " [chan receive, 1 minutes]:\n");
    bh_sleep(119 * BH_SECOND);
    EXPECT_DUMP(dump(), " [chan receive, 3 minutes]:\n");
    bh_close(c);
    settle();
    bh_chan_unref(c);
}

static void
be_somebody(void *args)
{
    struct waits *w = args;

    bh_set_name("somebody");
    bh_set_label("route", "/hello");
    bh_lock_thread();
    bh_recv(w->chan, NULL);
    bh_unlock_thread();
}

TEST_REAL(traceback, header_has_thread_lock_name_and_labels)
{
    struct bh_chan *c = BH_CHAN(int, 0);

    bh_go(be_somebody, &(struct waits){ c });
    settle();
    until_dumped(" [chan receive, locked to thread, name: somebody, labels: route=/hello]:\n");
    bh_close(c);
    settle();
    bh_chan_unref(c);
}

static _Atomic bool stop;

__attribute__((noinline)) static void
spin_here(void)
{
    while (!atomic_load(&stop))
        continue;
}

static void
spin(void *args)
{
    (void)args;
    spin_here();
}

TEST_REAL(traceback, goroutine_that_runs_on_another_thread_is_stopped_and_walked)
{
    bh_go(spin, NULL);
    until_dumped(" [running]:\nspin_here(...)\n");
    until_dumped("\nspin(...)\n");
    atomic_store(&stop, true);
}

static void
sleep_in_kernel(void *unused)
{
    (void)unused;
    while (!atomic_load(&stop))
        nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
}

static void
block(void *args)
{
    (void)args;
    bh_blocking(sleep_in_kernel, NULL);
}

TEST_REAL(traceback, blocking_call_is_a_syscall)
{
    bh_go(block, NULL);
    until_dumped(" [syscall]:\n");
    until_dumped("\nsleep_in_kernel(...)\n");
    until_dumped("\nbh_blocking(...)\n");
    atomic_store(&stop, true);
}

__attribute__((noinline)) static int
recurse_and_dump(int n, const char **text)
{
    volatile int pad = n;

    if (n == 0)
        *text = dump();
    else
        (void)recurse_and_dump(n - 1, text);
    return pad;
}

TEST(traceback, deep_stack_shows_both_ends)
{
    const char *text;

    (void)recurse_and_dump(130, &text);
    EXPECT_DUMP(text, " frames elided...\n");
    EXPECT_DUMP(text, "\ndump(...)\n");
    EXPECT_DUMP(text, "\ntest_traceback_deep_stack_shows_both_ends(...)\n");
    (void)recurse_and_dump(20, &text);
    EXPECT(strstr(text, "elided") == NULL);
}

static void
dump_when_panicking(const char **text)
{
    *text = dump();
}

static void
panic_with_dump(const char **text)
{
    BH_RECOVER(p) {
        (void)p;
        return;
    }
    BH_DEFER(dump_when_panicking, text);
    bh_panic("x");
}

TEST(traceback, deferred_call_sees_the_panic_and_its_site_below_it)
{
    const char *text = NULL;

    panic_with_dump(&text);
    const char *deferred = strstr(text, "\ndump_when_panicking(...)\n");
    const char *panic = strstr(text, "\npanic(...)\n\t");
    const char *site = strstr(text, "\npanic_with_dump(...)\n");
    EXPECT(deferred != NULL && panic != NULL && site != NULL);
    EXPECT(deferred < panic && panic < site);
    EXPECT(strstr(dump(), "\npanic(...)\n") == NULL);
}

static struct bh_mutex mutex;

static void
lock(void *args)
{
    (void)args;
    bh_mutex_lock(&mutex);
    bh_mutex_unlock(&mutex);
}

TEST(traceback, mutex_waiter_shows_the_library_call)
{
    bh_mutex_lock(&mutex);
    bh_go(lock, NULL);
    settle();
    until_dumped(" [sync.Mutex.Lock]:\nbh_mutex_lock(...)\n\t");
    bh_mutex_unlock(&mutex);
    settle();
}

static void
churn(void *args)
{
    struct waits *w = args;

    while (!atomic_load(&stop)) {
        if (!bh_recv(w->chan, NULL))
            break;
    }
}

TEST_REAL(traceback, dumping_while_goroutines_run_start_and_end_is_safe)
{
    struct bh_chan *c = BH_CHAN(int, 0);

    for (int i = 0; i < 20; i++)
        bh_go(churn, &(struct waits){ c });
    for (int i = 0; i < 200; i++) {
        for (int n = 0; n < 20; n++)
            bh_send(c, &n);
        bh_go(receive, &(struct waits){ c });
        EXPECT(strncmp(dump(), "goroutine 1 [running]:\n", 23) == 0);
    }
    atomic_store(&stop, true);
    bh_close(c);
}

#if defined(__x86_64__) && !defined(RT_TSAN) /* which keeps signals back from foreign code */
/* As compilers have it: once popped, the caller's frame pointer is still said to lie on the stack. */
void traceback_test_epilogue(_Atomic bool *entered, _Atomic bool *until);
__asm__(".text\n"
        ".p2align 9\n"
        ".type traceback_test_epilogue, @function\n"
        "traceback_test_epilogue:\n"
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
        ".size traceback_test_epilogue, .-traceback_test_epilogue\n"
        ".p2align 9\n");

static _Atomic bool returning, may_return;

__attribute__((noinline)) static void
return_slowly(void *args)
{
    (void)args;
    traceback_test_epilogue(&returning, &may_return);
    __asm__ volatile("");
}

static void
call_it(void *args)
{
    return_slowly(args);
    __asm__ volatile("");
}

TEST_REAL(traceback, goroutine_about_to_return_shows_all_its_callers)
{
    bh_go(call_it, NULL);
    while (!atomic_load(&returning))
        bh_sleep(BH_MILLISECOND);
    until_dumped("traceback_test_epilogue(...)\n");
    EXPECT_DUMP(dump(), "\ncall_it(...)\n\t");
    atomic_store(&may_return, true);
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
}
#endif

/* ---- leaks ---------------------------------------------------------------- */

static void
leave_one_behind(void *args)
{
    struct waits w = { BH_CHAN(int, 0) };

    (void)args;
    bh_go(receive, &w);
    settle();
}

static void
leave_none_behind(void *args)
{
    (void)args;
}

/* leaks_of -- what a process whose main goroutine is fn says at its end. */
static const char *
leaks_of(bh_fn *fn)
{
    static char text[TEXT_SIZE];
    int         fd = memfd_create("err", 0), status;
    pid_t       pid = fork();

    if (pid == 0) {
        dup2(fd, STDERR_FILENO);
        _exit(bh_main_with(&(struct bh_options){ .report_leaks = true }, fn, NULL));
    }
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    ssize_t n = pread(fd, text, sizeof text - 1, 0);
    text[n > 0 ? n : 0] = '\0';
    close(fd);
    return text;
}

TEST_PLAIN(traceback, leak_report_names_who_is_left)
{
    const char *text = leaks_of(leave_one_behind);

    EXPECT_DUMP(text, "leak: 1 goroutine is still alive\n\ngoroutine ");
    EXPECT_DUMP(text, " [chan receive]:\nreceive(...)\n");
    EXPECT_DUMP(text, "created by leave_one_behind in goroutine 1\n");
}

TEST_PLAIN(traceback, leak_report_is_empty_without_leaks)
{
    EXPECT_STR(leaks_of(leave_none_behind), "");
}
