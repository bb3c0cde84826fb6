/*
 * crash_test.c -- each test ends a process in some way and reads what it wrote.
 */

#include "test.h"

#include <bulkhead/go/chan.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TEXT_SIZE = 256 << 10 };

struct ending {
    int  status; /* exit status, or minus the signal */
    char err[TEXT_SIZE], out[TEXT_SIZE];
};

static struct ending ending;

/* What the child does before its main goroutine starts. */
static const char *traceback_level;
static void      (*before_main)(void);

static void
read_back(int fd, char *text)
{
    ssize_t n = pread(fd, text, TEXT_SIZE - 1, 0);

    text[n > 0 ? n : 0] = '\0';
    close(fd);
}

/* run -- fn as the main goroutine of another process; its end is left in `ending`. */
static void
run(bh_fn *fn)
{
    int   err = memfd_create("err", 0), out = memfd_create("out", 0), status;
    pid_t pid;

    fflush(NULL);
    pid = fork();
    if (pid == 0) {
        dup2(err, STDERR_FILENO);
        dup2(out, STDOUT_FILENO);
        close(err);
        close(out);
        if (traceback_level != NULL)
            setenv("BH_TRACEBACK", traceback_level, 1);
        else
            unsetenv("BH_TRACEBACK");
        if (before_main != NULL)
            before_main();
        exit(bh_main_with(&(struct bh_options){ .procs = 2 }, fn, NULL));
    }
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    ending.status = WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    read_back(err, ending.err);
    read_back(out, ending.out);
}

/* first_lines -- what was written before the first empty line. */
static const char *
first_lines(void)
{
    static char text[TEXT_SIZE];
    char       *empty;

    memcpy(text, ending.err, strlen(ending.err) + 1);
    empty = strstr(text, "\n\n");
    if (empty != NULL)
        empty[1] = '\0';
    return text;
}

#define EXPECT_SAYS(text)                                                                      \
    (strstr(ending.err, (text)) != NULL                                                        \
         ? (void)0                                                                             \
         : test_failed(__FILE__, __LINE__, "no \"%s\" in:\n%s", (text), ending.err))
#define EXPECT_SILENT_ON(text)                                                                 \
    (strstr(ending.err, (text)) == NULL                                                        \
         ? (void)0                                                                             \
         : test_failed(__FILE__, __LINE__, "\"%s\" in:\n%s", (text), ending.err))

/* expect_crash -- fn crashes with status 2 and exactly these first lines. */
static void
expect_crash(const char *file, int line, bh_fn *fn, const char *lines)
{
    run(fn);
    test_expect_eq(file, line, "status", "expected", ending.status, 2);
    test_expect_str(file, line, "first lines", "expected", first_lines(), lines);
}
#define EXPECT_CRASH(fn, lines) expect_crash(__FILE__, __LINE__, (fn), (lines))

static volatile int *volatile nil;
static const int      anything = 1;

/* ---- the chain ------------------------------------------------------------ */

static void
panic_with(const char *text)
{
    bh_panic("%s", text);
}

static void
repanic(void *unused)
{
    const struct bh_panic *p = bh_recover();

    (void)unused;
    if (p != NULL)
        bh_repanic(p);
}

static void
replace(const char *text)
{
    (void)bh_recover();
    bh_panic("%s", text);
}

static void
one_panic(void *args)
{
    (void)args;
    bh_panic("boom %d", 1);
}

TEST_PLAIN(crash, uncaught_panic_prints_its_text_and_where)
{
    EXPECT_CRASH(one_panic, "panic: boom 1\n");
    EXPECT_SAYS("panic: boom 1\n\ngoroutine 1 [running]:\none_panic(...)\n\t");
    EXPECT_SAYS("crash_test.c:");
    EXPECT_SILENT_ON("rt_");
    EXPECT_SILENT_ON("main_goroutine");
}

static void
three_deep(void *args)
{
    (void)args;
    BH_DEFER(panic_with, "third");
    BH_DEFER(panic_with, "second");
    bh_panic("first");
}

TEST_PLAIN(crash, panics_in_deferred_calls_print_oldest_first)
{
    EXPECT_CRASH(three_deep, "panic: first\n\tpanic: second\n\tpanic: third\n");
    EXPECT_SAYS("panic_with(...)\n");
    EXPECT_SAYS("panic(...)\n"); /* between the deferred call and the panic site */
    EXPECT_SAYS("three_deep(...)\n");
}

static void
recovered_then_other(void *args)
{
    (void)args;
    BH_RETURNS_VOID;
    BH_DEFER(replace, "wrapped");
    bh_panic("first");
}

TEST_PLAIN(crash, recovered_then_another_value_marks_the_first)
{
    EXPECT_CRASH(recovered_then_other, "panic: first [recovered]\n\tpanic: wrapped\n");
}

static void
recovered_then_same(void *args)
{
    (void)args;
    BH_RETURNS_VOID;
    BH_DEFER(repanic, NULL);
    bh_panic("same");
}

TEST_PLAIN(crash, repanic_takes_one_line)
{
    EXPECT_CRASH(recovered_then_same, "panic: same [recovered, repanicked]\n");
}

static void
repanicked_point(void)
{
    BH_RECOVER(p) {
        bh_repanic(p);
    }
    bh_panic("same");
}

static void
repanic_from_point(void *args)
{
    (void)args;
    repanicked_point();
}

TEST_PLAIN(crash, repanic_from_a_recover_point_takes_one_line)
{
    EXPECT_CRASH(repanic_from_point, "panic: same [recovered, repanicked]\n");
}

static void
two_repanics(void *args)
{
    (void)args;
    BH_RETURNS_VOID;
    BH_DEFER(repanic, NULL);
    recovered_then_same(NULL);
}

TEST_PLAIN(crash, repanicked_through_several_frames_still_takes_one_line)
{
    EXPECT_CRASH(two_repanics, "panic: same [recovered, repanicked]\n");
}

static void
middle(void *args)
{
    (void)args;
    BH_RETURNS_VOID;
    BH_DEFER(repanic, NULL);
    BH_DEFER(replace, "middle");
    bh_panic("inner");
}

static void
repanicked_in_the_middle(void *args)
{
    (void)args;
    BH_RETURNS_VOID;
    BH_DEFER(replace, "outer");
    middle(NULL);
}

TEST_PLAIN(crash, repanic_in_the_middle_of_a_chain)
{
    EXPECT_CRASH(repanicked_in_the_middle, "panic: inner [recovered]\n"
                                           "\tpanic: middle [recovered, repanicked]\n"
                                           "\tpanic: outer\n");
}

static void
sandwich(void *args)
{
    (void)args;
    BH_RETURNS_VOID;
    BH_DEFER(replace, "outer");
    BH_DEFER(replace, "inner");
    bh_panic("outer");
}

TEST_PLAIN(crash, same_text_panicked_anew_is_no_repanic)
{
    EXPECT_CRASH(sandwich,
                 "panic: outer [recovered]\n\tpanic: inner [recovered]\n\tpanic: outer\n");
}

static void
goexit_then_panic(void *args)
{
    (void)args;
    BH_DEFER(panic_with, "hello");
    bh_goexit();
}

TEST_PLAIN(crash, goexit_leaves_no_line)
{
    EXPECT_CRASH(goexit_then_panic, "panic: hello\n");
}

static void
no_landing(void *args)
{
    (void)args;
    BH_DEFER(repanic, NULL); /* without BH_RETURNS */
    bh_panic("kept");
}

TEST_PLAIN(crash, recover_without_a_landing_is_explained)
{
    EXPECT_CRASH(no_landing, "panic: kept\n[bh_recover gave NULL: the function that deferred "
                             "its caller has no BH_RETURNS]\n");
}

/* ---- values --------------------------------------------------------------- */

#define PANICS_WITH(name, statement)                                                           \
    static void name(void *args)                                                               \
    {                                                                                          \
        (void)args;                                                                            \
        statement;                                                                             \
    }

static const char *
say_error(const void *value)
{
    (void)value;
    return "from error";
}

static const char *
say_string(const void *value)
{
    (void)value;
    return "from string";
}

static void
print_my_string(const void *value, char *text, size_t size)
{
    snprintf(text, size, "main.myString(\"%s\")", (const char *)value);
}

static const struct bh_kind both = { "main.both", 0, say_error, say_string, NULL, false };
static const struct bh_kind stringer = { "main.stringer", 0, NULL, say_string, NULL, false };
static const struct bh_kind my_string = { "main.myString", 0, NULL, NULL, print_my_string, false };
static const struct bh_kind my_struct = { "main.myStruct", 0, NULL, NULL, NULL, false };

PANICS_WITH(empty_text, bh_panic_value(&bh_kind_string, ""))
PANICS_WITH(two_lines, bh_panic("one\ntwo\n"))
PANICS_WITH(an_error, bh_panic_value(&bh_kind_error, "an error"))
PANICS_WITH(error_and_string, bh_panic_value(&both, &both))
PANICS_WITH(string_only, bh_panic_value(&stringer, &both))
PANICS_WITH(int_value, bh_panic_value(&bh_kind_int, &(int){ -42 }))
PANICS_WITH(int64_value, bh_panic_value(&bh_kind_int64, &(int64_t){ INT64_MIN }))
PANICS_WITH(uint8_value, bh_panic_value(&bh_kind_uint8, &(uint8_t){ 200 }))
PANICS_WITH(rune_value, bh_panic_value(&bh_kind_int32, &(int32_t){ 'x' }))
PANICS_WITH(uintptr_value, bh_panic_value(&bh_kind_uintptr, &(uintptr_t){ 255 }))
PANICS_WITH(bool_value, bh_panic_value(&bh_kind_bool, &(bool){ true }))
PANICS_WITH(float_value, bh_panic_value(&bh_kind_float64, &(double){ 1.5 }))
PANICS_WITH(complex_value, bh_panic_value(&bh_kind_complex128, ((double[2]){ 1, -2 })))
PANICS_WITH(own_print, bh_panic_value(&my_string, "hi"))
PANICS_WITH(no_print, bh_panic_value(&my_struct, (void *)0xabc0))
PANICS_WITH(nil_value, bh_panic_value(NULL, NULL))

TEST_PLAIN(crash, values_print_as_in_go)
{
    EXPECT_CRASH(empty_text, "panic: \n");
    EXPECT_CRASH(two_lines, "panic: one\n\ttwo\n\t\n");
    EXPECT_CRASH(an_error, "panic: an error\n");
    EXPECT_CRASH(error_and_string, "panic: from error\n");
    EXPECT_CRASH(string_only, "panic: from string\n");
    EXPECT_CRASH(int_value, "panic: -42\n");
    EXPECT_CRASH(int64_value, "panic: -9223372036854775808\n");
    EXPECT_CRASH(uint8_value, "panic: 200\n");
    EXPECT_CRASH(rune_value, "panic: 120\n");
    EXPECT_CRASH(uintptr_value, "panic: 255\n");
    EXPECT_CRASH(bool_value, "panic: true\n");
    EXPECT_CRASH(float_value, "panic: +1.500000e+000\n");
    EXPECT_CRASH(complex_value, "panic: (+1.000000e+000-2.000000e+000i)\n");
    EXPECT_CRASH(own_print, "panic: main.myString(\"hi\")\n");
    EXPECT_CRASH(no_print, "panic: (main.myStruct) 0xabc0\n");
}

TEST_PLAIN(crash, nil_prints_as_a_nil_error)
{
    EXPECT_CRASH(nil_value, "panic: panic called with nil argument\n");
}

/* ---- values whose text is made while printing ------------------------------ */

static const char *
error_panics(const void *value)
{
    (void)value;
    bh_panic("double error");
}

static const char *
error_panics_with_error(const void *value)
{
    (void)value;
    bh_panic_value(&bh_kind_error, "inner");
}

static const char *
error_faults(const void *value)
{
    (void)value;
    return *nil != 0 ? "a" : "b";
}

static const char *
error_recovers(const void *value)
{
    static char text[64]; /* the panic itself is gone with this frame */

    BH_RECOVER(p) {
        snprintf(text, sizeof text, "recovered %s", bh_panic_text(p));
        return text;
    }
    return error_panics(value);
}

static const char *
error_yields(const void *value)
{
    (void)value;
    printf("error was called\n");
    bh_yield();
    bh_sleep(BH_MILLISECOND);
    return "chatty";
}

static const char *
error_exits(const void *value)
{
    (void)value;
    bh_exit(5);
}

static const char *
error_ends_goroutine(const void *value)
{
    (void)value;
    bh_goexit();
}

static const char *
error_counts(const void *value)
{
    static char text[32]; /* the same for every value */

    snprintf(text, sizeof text, "value %d", *(const int *)value);
    return text;
}

#define KIND(name) (&(const struct bh_kind){ "main." #name, 0, name, NULL, NULL, false })
PANICS_WITH(panics_in_error, bh_panic_value(KIND(error_panics), &anything))
PANICS_WITH(panics_with_error, bh_panic_value(KIND(error_panics_with_error), &anything))
PANICS_WITH(faults_in_error, bh_panic_value(KIND(error_faults), &anything))
PANICS_WITH(recovers_in_error, bh_panic_value(KIND(error_recovers), &anything))
PANICS_WITH(yields_in_error, bh_panic_value(KIND(error_yields), &anything))
PANICS_WITH(exits_in_error, bh_panic_value(KIND(error_exits), &anything))
PANICS_WITH(ends_in_error, bh_panic_value(KIND(error_ends_goroutine), &anything))

TEST_PLAIN(crash, panic_while_printing_is_fatal_and_names_the_second)
{
    EXPECT_CRASH(panics_in_error,
                 "fatal error: panic while printing panic value: double error\n");
    EXPECT_CRASH(panics_with_error, "fatal error: panic while printing panic value: type "
                                    "*errors.errorString\n");
    EXPECT_SILENT_ON("inner");
}

TEST_PLAIN(crash, fault_while_printing_is_fatal_with_its_signal)
{
    run(faults_in_error);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("fatal error: panic while printing panic value: type runtime.errorString\n"
                "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x");
}

TEST_PLAIN(crash, error_function_may_recover_its_own_panic)
{
    EXPECT_CRASH(recovers_in_error, "panic: recovered double error\n");
}

TEST_PLAIN(crash, error_function_may_print_and_yield)
{
    EXPECT_CRASH(yields_in_error, "panic: chatty\n");
    EXPECT_STR(ending.out, "error was called\n");
}

TEST_PLAIN(crash, error_function_may_end_the_process)
{
    run(exits_in_error);
    EXPECT_EQ(ending.status, 5);
    EXPECT_STR(ending.err, "");
}

TEST_PLAIN(crash, error_function_that_ends_the_goroutine_cancels_the_crash)
{
    run(ends_in_error);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n");
    EXPECT_SILENT_ON("panic: ");
    EXPECT_SILENT_ON("goroutine 1 ");
}

static void
outlive_child(void *args)
{
    (void)args;
    bh_go(ends_in_error, NULL);
    while (bh_goroutine_count() > 1)
        bh_yield();
    puts("survived");
}

TEST_PLAIN(crash, cancelled_crash_of_a_child_leaves_the_process_alive)
{
    run(outlive_child);
    EXPECT_EQ(ending.status, 0);
    EXPECT_STR(ending.out, "survived\n");
}

static void
panic_with_number(const int *n)
{
    bh_panic_value(KIND(error_counts), n);
}

static void
same_buffer_twice(void *args)
{
    static const int two = 2, one = 1;

    (void)args;
    BH_DEFER(panic_with_number, &two);
    panic_with_number(&one);
}

TEST_PLAIN(crash, texts_from_one_static_buffer_are_kept_apart)
{
    EXPECT_CRASH(same_buffer_twice, "panic: value 1\n\tpanic: value 2\n");
}

/* ---- faults --------------------------------------------------------------- */

PANICS_WITH(null_store, *nil = 1)

/* A store where nothing may be stored; far from nil. */
static void
wild_store(void *args)
{
    volatile int *p = mmap(NULL, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)args;
    p[1] = 1;
}

static void
recovered_store(void)
{
    BH_RECOVER(p) {
        (void)p;
        return;
    }
    *nil = 1;
}

static void
fault_then_other(void *args)
{
    (void)args;
    recovered_store();
    bh_panic("later");
}

static void
fault_repanicked(void *args)
{
    (void)args;
    BH_RETURNS_VOID;
    BH_DEFER(repanic, NULL);
    *nil = 1;
}

static void
fault_replaced(void *args)
{
    (void)args;
    BH_DEFER(panic_with, "other");
    *nil = 1;
}

static const char signal_line[] = "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x";

TEST_PLAIN(crash, signal_line_follows_the_panic_of_a_fault)
{
    run(null_store);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("panic: runtime error: invalid memory address or nil pointer dereference\n[signal "
                "SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x");
    EXPECT_SAYS("\n\ngoroutine 1 [running]:\nnull_store(...)\n");
}

TEST_PLAIN(crash, signal_line_stays_while_the_fault_is_in_the_chain)
{
    run(fault_repanicked);
    EXPECT_SAYS(" [recovered, repanicked]\n[signal SIGSEGV");
    run(fault_replaced);
    EXPECT_SAYS("\tpanic: other\n[signal SIGSEGV");
    EXPECT_SAYS(signal_line);
}

TEST_PLAIN(crash, signal_line_is_gone_after_recovery)
{
    EXPECT_CRASH(fault_then_other, "panic: later\n");
}

#if defined(__x86_64__) /* elsewhere division does not trap */
static volatile int zero;
PANICS_WITH(divides, zero = 7 / zero)

TEST_PLAIN(crash, division_has_no_signal_line)
{
    EXPECT_CRASH(divides, "panic: runtime error: integer divide by zero\n");
}
#endif

TEST_PLAIN(crash, fault_at_a_wild_address_is_fatal)
{
    run(wild_store);
    EXPECT_EQ(ending.status, 2);
    EXPECT(strncmp(ending.err, "unexpected fault address 0x", 27) == 0);
    EXPECT_SAYS("\nfatal error: fault\n[signal SIGSEGV: segmentation violation code=0x2 addr=0x");
    EXPECT_SAYS("\n\ngoroutine 1 [running]:\nwild_store(...)\n");
}

static void
send_signal(void *args)
{
    (void)args;
    raise(SIGSEGV);
}

TEST_PLAIN(crash, sent_segv_is_a_signal_dump_not_a_panic)
{
    run(send_signal);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("SIGSEGV: segmentation violation\nPC=0x");
    EXPECT_SAYS("goroutine 1 [running]:\n");
    EXPECT_SAYS("send_signal(...)\n");
}

static struct bh_chan *never;

static void
wait_for_ever(void *args)
{
    (void)args;
    bh_recv(never, NULL);
}

static void
be_quit(void *args)
{
    (void)args;
    never = BH_CHAN(int, 0);
    bh_go(wait_for_ever, NULL);
    bh_yield();
    kill(getpid(), SIGQUIT);
    bh_sleep(60 * BH_SECOND); /* at rest: a trace caught inside a sanitizer ends there */
}

TEST_PLAIN(crash, sigquit_dumps_every_goroutine)
{
    run(be_quit);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("SIGQUIT: quit\nPC=0x");
    EXPECT_SAYS("goroutine 1 [");
    EXPECT_SAYS("be_quit(...)\n");
    EXPECT_SAYS("[chan receive]:\nwait_for_ever(...)\n");
}

#if !test_sanitized
#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#endif

static void
free_twice(void *args)
{
    void *volatile p = malloc(4000);

    (void)args;
    free(p);
    free(p);
}

TEST_PLAIN(crash, damaged_heap_is_reported_without_it)
{
    if (RUNNING_ON_VALGRIND)
        return; /* it would forgive, and tell */
    run(free_twice);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("SIGABRT: abort\nPC=0x");
    EXPECT_SAYS("free_twice(...)\n");
}
#endif

__attribute__((noinline)) static int
recurse(volatile int *depth)
{
    volatile char pad[64];

    pad[0] = (char)++*depth;
    if (*depth < 0) /* never, but the compiler does not know */
        return 0;
    return recurse(depth) + pad[0];
}

static void
overflow(void *args)
{
    volatile int depth = 0;

    (void)args;
    (void)recurse(&depth);
}

TEST_PLAIN(crash, uncaught_stack_overflow_is_reported_from_what_is_left_of_the_stack)
{
    run(overflow);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("panic: runtime error: stack overflow\n[signal SIGSEGV");
    EXPECT_SAYS("\nrecurse(...)\n");
    EXPECT_SAYS(" frames elided...\n");
    EXPECT_SAYS("\noverflow(...)\n");
}

/* ---- fatal errors --------------------------------------------------------- */

PANICS_WITH(fatal_here, bh_fatal("ledger is\nbroken: %d", 3))

static void
call_fatal(const char *text)
{
    bh_fatal("%s", text);
}

static void
fatal_in_deferred(void *args)
{
    (void)args;
    BH_DEFER(call_fatal, "no way on");
    bh_panic("the cause");
}

TEST_PLAIN(crash, fatal_error_indents_line_breaks)
{
    EXPECT_CRASH(fatal_here, "fatal error: ledger is\n\tbroken: 3\n");
    EXPECT_SAYS("fatal_here(...)\n");
}

TEST_PLAIN(crash, fatal_error_prints_pending_panics_first)
{
    EXPECT_CRASH(fatal_in_deferred, "panic: the cause\n\tfatal error: no way on\n");
}

static void
all_wait(void *args)
{
    (void)args;
    never = BH_CHAN(int, 0);
    bh_go(wait_for_ever, NULL);
    bh_chan_send(NULL, &anything, sizeof anything);
}

TEST_PLAIN(crash, deadlock_lists_every_goroutine_with_its_reason)
{
    EXPECT_CRASH(all_wait, "fatal error: all goroutines are asleep - deadlock!\n");
    EXPECT_SAYS("goroutine 1 [chan send (nil chan)]:\nall_wait(...)\n");
    EXPECT_SAYS("[chan receive]:\nwait_for_ever(...)\n");
    EXPECT_SAYS("created by all_wait in goroutine 1\n");
}

PANICS_WITH(main_ends, bh_goexit())

static void
main_ends_others_wait(void *args)
{
    (void)args;
    never = BH_CHAN(int, 0);
    bh_go(wait_for_ever, NULL);
    bh_goexit();
}

TEST_PLAIN(crash, no_goroutines_is_said_only_when_none_is_left)
{
    EXPECT_CRASH(main_ends, "fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n");
    EXPECT_CRASH(main_ends_others_wait, "fatal error: all goroutines are asleep - deadlock!\n");
}

/* ---- levels --------------------------------------------------------------- */

static void
panic_beside_another(void *args)
{
    (void)args;
    never = BH_CHAN(int, 0);
    bh_go(wait_for_ever, NULL);
    for (int i = 0; i < 200; i++) /* another thread may run it */
        bh_yield();
    bh_panic("x");
}

TEST_PLAIN(crash, level_none_prints_the_panic_lines_only)
{
    traceback_level = "none";
    run(panic_beside_another);
    EXPECT_EQ(ending.status, 2);
    EXPECT_STR(ending.err, "panic: x\n");
    traceback_level = "0";
    run(panic_beside_another);
    EXPECT_STR(ending.err, "panic: x\n");
}

TEST_PLAIN(crash, level_single_shows_only_the_panicking_goroutine)
{
    run(panic_beside_another);
    EXPECT_SILENT_ON("goroutine 2");
    traceback_level = "single";
    run(panic_beside_another);
    EXPECT_SILENT_ON("wait_for_ever");
}

TEST_PLAIN(crash, level_all_shows_all_user_goroutines)
{
    traceback_level = "all";
    run(panic_beside_another);
    EXPECT_SAYS("[chan receive]:\nwait_for_ever(...)\n");
    EXPECT_SILENT_ON("rt_");
    traceback_level = "1";
    run(panic_beside_another);
    EXPECT_SAYS("[chan receive]:\nwait_for_ever(...)\n");
}

TEST_PLAIN(crash, level_system_shows_runtime_frames)
{
    traceback_level = "system";
    run(panic_beside_another);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("enter_goroutine(...)\n");
    EXPECT_SAYS(" pc=0x");
    traceback_level = "2";
    run(panic_beside_another);
    EXPECT_SAYS("enter_goroutine(...)\n");
}

TEST_PLAIN(crash, level_crash_ends_with_sigabrt)
{
    traceback_level = "crash";
    run(panic_beside_another);
    EXPECT_EQ(ending.status, -SIGABRT);
    EXPECT_SAYS("enter_goroutine(...)\n");
}

static void
raise_level(void *args)
{
    (void)args;
    EXPECT_EQ(bh_set_traceback("all"), 0);
    panic_beside_another(NULL);
}

static void
lower_level(void *args)
{
    (void)args;
    EXPECT_EQ(bh_set_traceback("none"), 0);
    EXPECT_EQ(bh_set_traceback("single"), 0);
    EXPECT_EQ(bh_set_traceback("loud"), -EINVAL);
    panic_beside_another(NULL);
}

TEST_PLAIN(crash, set_traceback_raises_but_never_lowers)
{
    run(raise_level);
    EXPECT_SAYS("wait_for_ever(...)\n");
    traceback_level = "all";
    run(lower_level);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("wait_for_ever(...)\n");
}

/* ---- where it goes -------------------------------------------------------- */

static int copy_fd;

static void
set_copy(void)
{
    bh_set_crash_fd(copy_fd);
}

static const char *
copied_text(void)
{
    static char text[TEXT_SIZE];

    read_back(copy_fd, text);
    return text;
}

TEST_PLAIN(crash, second_descriptor_gets_everything)
{
    before_main = set_copy;
    copy_fd = memfd_create("copy", 0);
    run(one_panic);
    EXPECT_STR(copied_text(), ending.err);
    copy_fd = memfd_create("copy", 0);
    run(fatal_here);
    EXPECT_STR(copied_text(), ending.err);
}

static void
close_stderr(void)
{
    close(STDERR_FILENO);
}

TEST_PLAIN(crash, closed_stderr_still_ends_with_status_2)
{
    before_main = close_stderr;
    run(one_panic);
    EXPECT_EQ(ending.status, 2);
    EXPECT_STR(ending.err, "");
}

static void
break_stderr(void)
{
    int ends[2];

    EXPECT_EQ(pipe(ends), 0);
    close(ends[0]);
    dup2(ends[1], STDERR_FILENO);
    close(ends[1]);
    signal(SIGPIPE, SIG_DFL);
}

TEST_PLAIN(crash, stderr_without_a_reader_still_ends_with_status_2)
{
    before_main = break_stderr;
    run(one_panic);
    EXPECT_EQ(ending.status, 2);
}

static void
print_then_panic(void *args)
{
    (void)args;
    printf("not lost");
    bh_panic("x");
}

static void
print_then_exit(void *args)
{
    (void)args;
    printf("not lost");
    bh_exit(7);
}

TEST_PLAIN(crash, what_was_printed_before_is_not_lost)
{
    run(print_then_panic);
    EXPECT_STR(ending.out, "not lost");
    run(print_then_exit);
    EXPECT_EQ(ending.status, 7);
    EXPECT_STR(ending.out, "not lost");
}

static void
write_head(const char *text, int length)
{
    EXPECT(write(STDOUT_FILENO, text, (size_t)length) == length);
}

static void
hook_crash(void)
{
    bh_set_hooks(&(struct bh_hooks){ .crash = write_head });
}

TEST_PLAIN(crash, hook_gets_the_first_lines)
{
    before_main = hook_crash;
    run(three_deep);
    EXPECT_STR(ending.out, "panic: first\n\tpanic: second\n\tpanic: third\n");
}

static void
fault_in_hook(const char *text, int length)
{
    (void)text;
    (void)length;
    *nil = 1;
}

static void
hook_fault(void)
{
    bh_set_hooks(&(struct bh_hooks){ .crash = fault_in_hook });
}

static void
fatal_under_recover(void *args)
{
    BH_RECOVER(p) {
        printf("recovered %s", bh_panic_text(p));
        return;
    }
    fatal_here(args);
}

TEST_PLAIN(crash, fault_while_printing_is_not_recovered)
{
    before_main = hook_fault;
    run(fatal_under_recover);
    EXPECT_EQ(ending.status, 4);
    EXPECT_STR(ending.out, "");
    EXPECT_SAYS("fatal error: ledger is\n\tbroken: 3\n");
    EXPECT_SAYS("panic during panic\n[signal SIGSEGV");
}

TEST_PLAIN(crash, failure_while_printing_ends_with_status_4)
{
    before_main = hook_fault;
    run(wild_store);
    EXPECT_EQ(ending.status, 4);
    EXPECT_SAYS("unexpected fault address 0x");
    EXPECT_SAYS("panic during panic\n[signal SIGSEGV: segmentation violation code=0x1 addr=0x0");
}

/* ---- more than one at a time ---------------------------------------------- */

static _Atomic int ready;

static void
panic_together(void *args)
{
    atomic_fetch_add(&ready, 1);
    while (atomic_load(&ready) < 2)
        continue;
    bh_panic("racer %d\nof two", *(int *)args);
}

static void
race(void *args)
{
    (void)args;
    bh_go(panic_together, &(int){ 1 });
    bh_go(panic_together, &(int){ 2 });
    bh_sleep(10 * BH_SECOND);
}

TEST_PLAIN(crash, two_panics_at_once_print_one_after_the_other)
{
    for (int i = 0; i < 10; i++) {
        run(race);
        EXPECT_EQ(ending.status, 2);
        EXPECT(strncmp(ending.err, "panic: racer ", 13) == 0);
        EXPECT_SAYS("\n\tof two\n\ngoroutine ");
        /* The second, if it is there, is whole. */
        const char *second = strstr(ending.err + 1, "panic: racer ");
        EXPECT(second == NULL || (second[-1] == '\n' && strstr(second, "panic_together(...)\n")));
    }
}

static void
spin(void *args)
{
    (void)args;
    while (atomic_load(&ready) == 0)
        continue;
}

static void
panic_beside_spinners(void *args)
{
    (void)args;
    for (int i = 0; i < 3; i++)
        bh_go(spin, NULL);
    bh_sleep(30 * BH_MILLISECOND);
    bh_panic("x");
}

TEST_PLAIN(crash, spinning_goroutines_do_not_delay_a_crash_and_are_shown)
{
    traceback_level = "all";
    run(panic_beside_spinners);
    EXPECT_EQ(ending.status, 2);
    EXPECT_SAYS("\nspin(...)\n");
}
