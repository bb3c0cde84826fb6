/*
 * signal_test.c -- every row of the table of faults: which are panics, with which
 * text and place, and which end the process.  Built and run with both compilers,
 * optimized and not (test/faults.mk).
 */

#include "test.h"

#include <assert.h>
#include <errno.h>
#include <limits.h>
#include <link.h>
#include <pthread.h>
#include <search.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/sync.h>

#include "runtime.h"

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#endif

#define NIL "runtime error: invalid memory address or nil pointer dereference"

/* The code whose faults are looked at stands in a section of its own: is a pc in it? */
#define FAULTY __attribute__((noinline, noclone, section("faulty")))
#if defined(__clang__)
#undef FAULTY
#define FAULTY __attribute__((noinline, section("faulty")))
#endif
extern const char __start_faulty[], __stop_faulty[];

static bool
is_faulty(uintptr_t pc)
{
    return pc >= (uintptr_t)__start_faulty && pc < (uintptr_t)__stop_faulty;
}

/* clang puts its sanitizers into the program: libc's functions are then the application's. */
#if defined(__clang__)
enum { LIBC_IS_HIDDEN = test_sanitized };
#else
enum { LIBC_IS_HIDDEN = false };
#endif

struct item {
    char name[24];
    int  count;
};

/* What the compiler must not know. */
static struct item *volatile no_item;
static const char *volatile no_text;
static void (*volatile no_function)(void);
static char *volatile bad_address = (char *)0x7e9000000000; /* sanitizers can map it */
static volatile int zero, minus_one = -1, sink;

/* Run fn; false if it panicked, which leaves *panic. */
static __attribute__((noinline)) bool
survives_or(struct bh_panic *panic, void (*fn)(void))
{
    BH_RECOVER(p) {
        *panic = *p;
        return false;
    }
    fn();
    return true;
}

/* What the last panic on the main goroutine said. */
static struct bh_panic last;

static bool
survives(void (*fn)(void))
{
    return survives_or(&last, fn);
}

/* Functions, so that loops around them need no volatile counters. */
static void
expect_panic(const char *text, void (*fn)(void))
{
    struct bh_panic panic;

    EXPECT(!survives_or(&panic, fn));
    EXPECT_STR(panic.buffer_, text);
}

static void
expect_overflow(void (*fn)(void))
{
    expect_panic("runtime error: stack overflow", fn);
}

/* ---- memory ---------------------------------------------------------------- */

/* clang-format off */
FAULTY static void load(void) { sink = *(volatile int *)no_item; }
FAULTY static void store(void) { *(volatile int *)no_item = 1; }
FAULTY static void load_field(void) { sink = no_item->count; }
FAULTY static void call_null(void) { no_function(); sink = 1; }
FAULTY static void call_field(void) { ((void (*)(void))((char *)no_item + 0x100))(); sink = 1; }
/* clang-format on */

TEST_REAL(signal, load_from_null_is_a_panic)
{
    EXPECT_PANIC(NIL, load());
}

TEST_REAL(signal, store_to_null_is_a_panic)
{
    EXPECT_PANIC(NIL, store());
}

TEST_REAL(signal, panic_tells_signal_address_and_pc)
{
    EXPECT(!survives(load_field));
    EXPECT_EQ(last.signal, SIGSEGV);
    EXPECT_EQ(last.code, SEGV_MAPERR);
    EXPECT_EQ(last.fault_addr, offsetof(struct item, count));
    EXPECT(is_faulty(last.pc));
    EXPECT(last.kind == &bh_kind_runtime_error);
    EXPECT(last.file == NULL);
}

TEST_REAL(signal, call_of_a_null_function_is_a_panic_of_its_caller)
{
    EXPECT(!survives(call_null));
    EXPECT_STR(last.buffer_, NIL);
    EXPECT(is_faulty(last.pc));
    EXPECT(!survives(call_field));
    EXPECT_EQ(last.fault_addr, 0x100);
    EXPECT(is_faulty(last.pc));
}

/* Memory that may not be touched: a sanitizer, too, lets the processor find out. */
static void
load_bad(void)
{
    mmap(bad_address, RT_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    sink = *(volatile char *)bad_address;
}

static void
call_bad(void)
{
    ((void (*)(void)) * (void *volatile *)&bad_address)();
    sink = 1;
}

/* Not an address at all: x86 reports 0 for it. */
__attribute__((no_sanitize("address"), no_sanitize("thread"))) static void
load_impossible(void)
{
    sink = *(volatile char *)(1ULL << 52);
}

TEST_DIES(signal, fault_at_another_address_is_fatal, 2,
          "unexpected fault address 0x7e9000000000")
{
    survives(load_bad);
}

TEST_DIES(signal, fault_at_another_address_is_called_a_fault, 2, "fatal error: fault")
{
    survives(load_bad);
}

TEST_DIES(signal, call_of_another_address_is_fatal, 2, "fatal error: fault")
{
    survives(call_bad);
}

#if defined(__x86_64__)
TEST_DIES(signal, impossible_address_is_not_taken_for_null, 2, "fatal error: fault")
{
    survives(load_impossible);
}
#endif

TEST_REAL(signal, any_fault_is_a_panic_for_a_goroutine_that_asked)
{
    EXPECT(!bh_panic_on_fault(true));
    EXPECT(!survives(load_bad));
    EXPECT_STR(last.buffer_, NIL);
    EXPECT_EQ(last.fault_addr, (uintptr_t)bad_address);
    EXPECT(!survives(call_bad));
    EXPECT(!survives(load_impossible));
    EXPECT(bh_panic_on_fault(false));
    EXPECT(!bh_panic_on_fault(false));
}

static void
fault_in_child(void *args)
{
    (void)args;
    survives(load_bad);
}

TEST_DIES(signal, panic_on_fault_is_not_inherited, 2, "fatal error: fault")
{
    bh_panic_on_fault(true);
    bh_go(fault_in_child, NULL);
    bh_sleep(10000000000);
}

TEST_DIES(signal, panic_on_fault_ends_when_switched_off, 2, "fatal error: fault")
{
    bh_panic_on_fault(true);
    bh_panic_on_fault(false);
    survives(load_bad);
}

static char *mapping;

static void
load_beyond_file(void)
{
    sink = mapping[RT_PAGE];
}

TEST_REAL(signal, file_that_became_shorter_is_a_panic)
{
    FILE *f = tmpfile();

    EXPECT(f != NULL && ftruncate(fileno(f), 2 * RT_PAGE) == 0);
    mapping = mmap(NULL, 2 * RT_PAGE, PROT_READ, MAP_SHARED, fileno(f), 0);
    EXPECT(mapping != MAP_FAILED);
    EXPECT_EQ(mapping[RT_PAGE], 0);
    EXPECT(ftruncate(fileno(f), RT_PAGE) == 0);
    EXPECT(!survives(load_beyond_file));
    EXPECT_STR(last.buffer_,
               "runtime error: bus error: access beyond the end of a mapped file");
    EXPECT_EQ(last.signal, SIGBUS);
    EXPECT_EQ(last.fault_addr, (uintptr_t)mapping + RT_PAGE);
    munmap(mapping, 2 * RT_PAGE);
    fclose(f);
}

/* ---- integers ---------------------------------------------------------------- */

#if defined(__x86_64__)

static volatile int      int_min = INT_MIN;
static volatile long     long_min = LONG_MIN, long_zero, long_minus_one = -1;
static volatile short    short_zero;
static volatile uint64_t divisors[4];

/* clang-format off */
FAULTY static void divide(void) { sink = 7 / zero; }
FAULTY static void remainder_(void) { sink = 7 % zero; }
FAULTY static void divide_long(void) { sink = (int)(7 / long_zero); }
FAULTY static void divide_unsigned(void) { sink = (int)(7u / (unsigned)zero); }
FAULTY static void divide_overflows(void) { sink = int_min / minus_one; }
FAULTY static void remainder_overflows(void) { sink = int_min % minus_one; }
FAULTY static void divide_long_overflows(void) { sink = (int)(long_min / long_minus_one); }
/* clang-format on */

TEST_REAL(signal, division_by_zero_is_a_panic)
{
    EXPECT(!survives(divide));
    EXPECT_STR(last.buffer_, "runtime error: integer divide by zero");
    EXPECT_EQ(last.signal, SIGFPE);
    EXPECT(is_faulty(last.pc));
    EXPECT_PANIC("runtime error: integer divide by zero", remainder_());
    EXPECT_PANIC("runtime error: integer divide by zero", divide_long());
    EXPECT_PANIC("runtime error: integer divide by zero", divide_unsigned());
}

TEST_REAL(signal, least_integer_by_minus_one_is_called_overflow)
{
    if (RUNNING_ON_VALGRIND)
        return; /* does not trap there */
    EXPECT_PANIC("runtime error: integer overflow", divide_overflows());
    EXPECT_PANIC("runtime error: integer overflow", remainder_overflows());
    EXPECT_PANIC("runtime error: integer overflow", divide_long_overflows());
}

/* Divide rdx:rax, all of whose bits are given, by what the instruction says. */
#define DIVIDE(high, low, instruction, ...)                                                    \
    __asm__ volatile(instruction                                                               \
                     :                                                                         \
                     : "d"(high), "a"(low), ##__VA_ARGS__                                      \
                     : "rcx", "r9", "r12", "r13", "cc")
#define EXPECT_ZERO(...)     EXPECT_PANIC("runtime error: integer divide by zero", __VA_ARGS__)
#define EXPECT_OVERFLOW(...) EXPECT_PANIC("runtime error: integer overflow", __VA_ARGS__)

TEST_REAL(signal, divisor_is_found_however_it_is_addressed)
{
    static volatile int64_t table[3] = { -1, 0, -1 };
    uintptr_t               t = (uintptr_t)table;

    if (RUNNING_ON_VALGRIND)
        return;
    EXPECT_ZERO(DIVIDE(-1L, LONG_MIN, "idivq 8(%2)", "r"(t)));
    EXPECT_OVERFLOW(DIVIDE(-1L, LONG_MIN, "idivq 16(%2)", "r"(t)));
    EXPECT_ZERO(DIVIDE(-1L, LONG_MIN, "idivq (%2,%3,8)", "r"(t), "r"(1L)));
    EXPECT_OVERFLOW(DIVIDE(-1L, LONG_MIN, "idivq (%2,%3,8)", "r"(t), "r"(2L)));
    EXPECT_ZERO(DIVIDE(-1L, LONG_MIN, "idivq 1024(%2,%3,4)", "r"(t - 1024), "r"(2L)));
    EXPECT_ZERO(DIVIDE(0L, 1L, "movq %2, %%r13; idivq 8(%%r13)", "r"(t)));
    EXPECT_ZERO(DIVIDE(0L, 1L, "movq %2, %%r13; movl $1, %%r9d; idivq (%%r13,%%r9,8)", "r"(t)));
    EXPECT_OVERFLOW(DIVIDE(-1, INT_MIN, "movq %2, %%r12; idivl (%%r12)", "r"(t)));
    EXPECT_OVERFLOW(DIVIDE(-1, INT_MIN, "movl $-1, %%r9d; idivl %%r9d"));
    EXPECT_ZERO(DIVIDE(0, 1, "idivw %2", "m"(short_zero)));
    EXPECT_ZERO(DIVIDE(0, 1, "movb $0, %%ch; idivb %%ch"));
    EXPECT_OVERFLOW(DIVIDE(0, 0x1000, "movw $0x0100, %%cx; divb %%ch"));
    EXPECT_ZERO(DIVIDE(0L, 1L, "divq %2", "m"(divisors[2])));
    EXPECT_OVERFLOW(DIVIDE(1L, 0L, "divq %2", "r"(1L)));
}

#endif

/* ---- stack overflow ------------------------------------------------------------ */

/* Not a tail call, and no way for the compiler to see the end. */
FAULTY static int
recurse(int n)
{
    volatile char pad[100];

    pad[0] = (char)n;
    return n == minus_one ? 0 : recurse(n + 1) + pad[0];
}

FAULTY static int
recurse_large(int n)
{
    volatile char pad[40000];

    pad[0] = (char)n;
    return n == minus_one ? 0 : recurse_large(n + 1) + pad[0];
}

/* clang-format off */
static void overflow(void) { sink = recurse(0); }
static void overflow_large(void) { sink = recurse_large(0); }
/* clang-format on */

TEST_REAL(signal, stack_overflow_is_a_panic)
{
    EXPECT(!survives(overflow));
    EXPECT_STR(last.buffer_, "runtime error: stack overflow");
    EXPECT(is_faulty(last.pc));
    EXPECT_EQ(last.signal, SIGSEGV);
}

TEST_REAL(signal, goroutine_survives_a_thousand_overflows)
{
    for (int i = 0; i < 1000; i++)
        expect_overflow(overflow);
}

TEST_REAL(signal, frames_larger_than_the_guard_do_not_jump_over_it)
{
    for (int i = 0; i < 20; i++)
        expect_overflow(overflow_large);
}

static void
overflow_often(void *done)
{
    for (int i = 0; i < 20; i++) {
        expect_overflow(overflow);
        expect_overflow(overflow_large);
    }
    bh_waitgroup_done(*(struct bh_waitgroup **)done);
}

TEST_REAL(signal, stacks_of_every_size_overflow_and_recover)
{
    static const size_t sizes[] = { 1, 64 << 10, 256 << 10, 1 << 20, 8 << 20 };
    struct bh_waitgroup wg = { 0 }, *done = &wg;

    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct bh_go_options options = { .stack_size = sizes[i] };

        bh_waitgroup_add(&wg, 1);
        bh_go_with(&options, overflow_often, &done);
    }
    bh_waitgroup_wait(&wg);
}

static void *volatile blocks[1 << 16];

/* The deepest frame, which touches the guard first, is mostly one of malloc's. */
static int
recurse_malloc(int n)
{
    int deeper;

    if (n == minus_one)
        return 0;
    blocks[n] = malloc(100);
    snprintf(blocks[n], 100, "%d %s", n, "level");
    deeper = recurse_malloc(n + 1);
    return deeper + *(char *)blocks[n];
}

static struct bh_mutex mutex;
static struct bh_chan *channel;

static int
recurse_runtime(int n)
{
    int got = 0;

    if (n == minus_one)
        return 0;
    bh_mutex_lock(&mutex);
    bh_mutex_unlock(&mutex);
    bh_try_send(channel, &n);
    bh_try_recv(channel, &got, &(bool){ false });
    return recurse_runtime(n + 1) + got;
}

/* clang-format off */
static void overflow_malloc(void) { sink = recurse_malloc(0); }
static void overflow_runtime(void) { sink = recurse_runtime(0); }
/* clang-format on */

static void *
allocate_on_thread(void *arg)
{
    for (int i = 0; i < 1000; i++)
        free(malloc((size_t)i));
    return arg;
}

TEST_REAL(signal, overflow_inside_malloc_is_a_panic_once_malloc_is_done)
{
    pthread_t thread;

    if (RUNNING_ON_VALGRIND)
        return; /* see below */
    for (int i = 0; i < 200; i++) {
        expect_overflow(overflow_malloc);
        for (int n = 0; blocks[n] != NULL; n++) {
            free(blocks[n]);
            blocks[n] = NULL;
        }
    }
    EXPECT_EQ(pthread_create(&thread, NULL, allocate_on_thread, NULL), 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
}

TEST_REAL(signal, overflow_inside_the_runtime_is_a_panic_at_the_next_call)
{
#if defined(RT_TSAN)
    test_skip("the runtime's own loads and stores call into TSan's library");
#endif
    if (RUNNING_ON_VALGRIND)
        return; /* a push that faulted there has moved rsp, and cannot be repeated */
    channel = BH_CHAN(int, 1);
    for (int i = 0; i < 200; i++) {
        expect_overflow(overflow_runtime);
        if (bh_mutex_held(&mutex)) /* it was the call of unlock that overflowed */
            bh_mutex_unlock(&mutex);
    }
    bh_chan_unref(channel);
}

static void
overflow_again(void *unused)
{
    (void)unused;
    overflow();
}

static int
recurse_with_defer(int n)
{
    BH_DEFER(overflow_again, NULL);
    if (n == minus_one)
        return 0;
    return recurse_with_defer(n + 1) + n;
}

TEST_DIES(signal, overflow_of_the_emergency_pages_is_fatal, 2, "fatal error: stack overflow")
{
    sink = recurse_with_defer(0);
}

static void
overflow_and_recover(void *unused)
{
    (void)unused;
    expect_overflow(overflow);
}

static void
panic_with_deferred_overflow(void)
{
    BH_DEFER(overflow_and_recover, NULL);
    bh_panic("first");
}

TEST_REAL(signal, deferred_call_of_a_panic_may_overflow_and_recover)
{
    for (int i = 0; i < 100; i++)
        EXPECT_PANIC("first", panic_with_deferred_overflow());
}

/* ---- panics in panics ------------------------------------------------------------- */

static void
load_deferred(void *unused)
{
    (void)unused;
    load();
}

static void
panic_then_load(void)
{
    BH_DEFER(load_deferred, NULL);
    bh_panic("first");
}

TEST_REAL(signal, fault_in_a_deferred_call_replaces_the_panic)
{
    EXPECT(!survives(panic_then_load));
    EXPECT_STR(last.buffer_, NIL);
    EXPECT_EQ(last.signal, SIGSEGV);
}

static void
load_and_recover(void *unused)
{
    (void)unused;
    expect_panic(NIL, load);
}

static void
panic_with_recovered_load(void)
{
    BH_DEFER(load_and_recover, NULL);
    bh_panic("first");
}

TEST_REAL(signal, fault_recovered_inside_a_deferred_call_leaves_the_panic)
{
    EXPECT_PANIC("first", panic_with_recovered_load());
}

static int
overflow_with_deferred_load(int n)
{
    volatile char pad[100];

    pad[0] = (char)n;
    if (n == minus_one)
        return 0;
    if (n == 100) {
        BH_DEFER(load_and_recover, NULL);
        return overflow_with_deferred_load(n + 1) + pad[0];
    }
    return overflow_with_deferred_load(n + 1) + pad[0];
}

static void
overflow_with_load(void)
{
    sink = overflow_with_deferred_load(0);
}

TEST_REAL(signal, fault_in_the_emergency_pages_is_a_panic_too)
{
    for (int i = 0; i < 100; i++)
        expect_overflow(overflow_with_load);
}

static void
fault_often(void *done)
{
    for (int i = 0; i < 2000; i++) {
        expect_panic(NIL, load);
        if (i % 16 == 0)
            bh_yield();
    }
    bh_waitgroup_done(*(struct bh_waitgroup **)done);
}

TEST_REAL(signal, goroutines_fault_at_the_same_time)
{
    struct bh_waitgroup wg = { 0 }, *done = &wg;

    for (int i = 0; i < 8; i++) {
        bh_waitgroup_add(&wg, 1);
        bh_go(fault_often, &done);
    }
    bh_waitgroup_wait(&wg);
}

/* ---- inside libc ------------------------------------------------------------------- */

static char *volatile no_buffer;
static void *volatile result;
static volatile size_t none;
static int (*volatile call_strcmp)(const char *, const char *) = strcmp;

/* clang-format off */
FAULTY static void strlen_null(void) { sink = (int)strlen(no_text); }
FAULTY static void strcmp_null(void) { sink = strcmp("a", no_text); }
FAULTY static void strcmp_pointer(void) { sink = call_strcmp("a", no_text); } /* no name */
FAULTY static void strcasecmp_null(void) { sink = strcasecmp("a", no_text); }
FAULTY static void memcpy_null(void) { memcpy(no_buffer, "01234567", 8 + none); sink = 1; }
FAULTY static void memset_large(void) { memset(no_buffer, 0, 40000 + none); sink = 1; }
FAULTY static void memmove_null(void) { memmove(no_buffer, no_text + 8, 900 + none); sink = 1; }
FAULTY static void strcpy_null(void) { strcpy(no_buffer, "not so short a text"); sink = 1; }
FAULTY static void strstr_null(void) { result = strstr(no_text, "ab"); }
FAULTY static void strdup_null(void) { result = strdup(no_text); }
FAULTY static void strtol_null(void) { sink = (int)strtol(no_text, NULL, 10); }
FAULTY static void atoi_null(void) { sink = atoi(no_text); }
FAULTY static void memchr_null(void) { result = memchr(no_text, 'x', 100 + none); }
/* clang-format on */

TEST_REAL(signal, bad_pointer_given_to_a_string_function_is_its_callers_panic)
{
    static void (*const calls[])(void) = {
        strlen_null,  strcmp_null,  strcmp_pointer, strcasecmp_null, memcpy_null,
        memset_large, memmove_null, strcpy_null,    strstr_null,     strdup_null,
        strtol_null,  atoi_null,    memchr_null,
    };

    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        bool nameless = calls[i] == strcmp_pointer || calls[i] == strdup_null;

        if (nameless && (test_sanitized || RUNNING_ON_VALGRIND))
            continue; /* an interceptor calls nameless functions */
        if (survives(calls[i]))
            test_failed(__FILE__, __LINE__, "call %zu does not panic", i);
        EXPECT_STR(last.buffer_, NIL);
        if (!is_faulty(last.pc) && !LIBC_IS_HIDDEN)
            test_failed(__FILE__, __LINE__, "call %zu: pc %#zx is not the caller's", i,
                        last.pc);
    }
}

static volatile bool use_bad_address;

/* The value that a format like %s follows, out of what the caller checks. */
static void
print_bad(void)
{
    if (LIBC_IS_HIDDEN)
        rt_throw("unexpected signal inside libc");
    printf("%s\n", use_bad_address ? bad_address : (char *)(uintptr_t)(1 + zero));
}

TEST_DIES(signal, fault_inside_printf_is_fatal, 2, "unexpected signal inside libc")
{
    survives(print_bad);
}

static int
compare(const void *a, const void *b)
{
    if (((const struct item *)a)->count == 50)
        load();
    return ((const struct item *)a)->count - ((const struct item *)b)->count;
}

static struct item items[20000];

static void
sort_some(void)
{
    qsort(items, 100, sizeof *items, compare);
}

static void
sort_many(void)
{
    qsort(items, sizeof items / sizeof *items, sizeof *items, compare);
}

#if defined(__x86_64__)
static int
compare_divides(const void *a, const void *b)
{
    (void)b;
    return ((const struct item *)a)->count / zero;
}
#endif

static int
compare_overflows(const void *a, const void *b)
{
    (void)a;
    (void)b;
    return recurse(0);
}

#if defined(__x86_64__)
static void
sort_divides(void)
{
    qsort(items, 100, sizeof *items, compare_divides);
}
#endif

static void
sort_overflows(void)
{
    qsort(items, 100, sizeof *items, compare_overflows);
}

static void
search_loads(void)
{
    struct item key = { .count = 50 };

    sink = bsearch(&key, items, 100, sizeof *items, compare) != NULL;
}

TEST_REAL(signal, fault_in_a_comparison_called_by_qsort_is_a_panic)
{
    for (int i = 0; i < 20000; i++)
        items[i].count = i * 7919 % 20000;
    for (int i = 0; i < 100; i++)
        items[i].count = 100 - i;
    EXPECT_PANIC(NIL, sort_some());
    EXPECT_PANIC(NIL, sort_many());
    EXPECT_PANIC(NIL, search_loads());
    expect_overflow(sort_overflows);
#if defined(__x86_64__)
    EXPECT_PANIC("runtime error: integer divide by zero", sort_divides());
#endif
    free(malloc(1000));
}

static int
look_at_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)info;
    (void)size;
    (void)arg;
    load();
    return 0;
}

static void
look_at_modules(void)
{
    if (LIBC_IS_HIDDEN)
        rt_throw("unexpected signal inside libc");
    dl_iterate_phdr(look_at_module, NULL);
}

TEST_DIES(signal, fault_called_back_under_the_loaders_lock_is_fatal, 2,
          "unexpected signal inside libc")
{
    survives(look_at_modules);
}

static int
overflow_at_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)info;
    (void)size;
    (void)arg;
    overflow();
    return 0;
}

static void
overflow_at_modules(void)
{
    if (LIBC_IS_HIDDEN)
        rt_throw("stack overflow");
    dl_iterate_phdr(overflow_at_module, NULL);
}

TEST_DIES(signal, overflow_called_back_under_the_loaders_lock_is_fatal, 2,
          "fatal error: stack overflow")
{
    survives(overflow_at_modules);
}

/* ---- assert and abort ----------------------------------------------------------------- */

static void
assert_false(void)
{
    assert(zero == 1);
}

TEST_REAL(signal, failed_assert_is_a_panic)
{
    EXPECT(!survives(assert_false));
    EXPECT(strstr(last.buffer_, "Assertion `zero == 1' failed.") != NULL);
    EXPECT(strstr(last.buffer_, "assert_false") != NULL);
    EXPECT(strstr(last.file, "signal_test.c") != NULL);
    EXPECT(last.line > 0);
}

static void
assert_perror_fails(void)
{
    assert_perror(ENOENT);
}

TEST_REAL(signal, failed_assert_perror_is_a_panic)
{
    EXPECT(!survives(assert_perror_fails));
    EXPECT(strstr(last.buffer_, "Unexpected error: No such file or directory.") != NULL);
}

TEST_REAL(signal, abort_is_a_panic)
{
    EXPECT_PANIC("abort called", abort());
}

static int
compare_asserts(const void *a, const void *b)
{
    assert(a == b);
    return 0;
}

static void
sort_asserts(void)
{
    qsort(items, 100, sizeof *items, compare_asserts);
}

TEST_REAL(signal, assert_in_a_comparison_called_by_qsort_is_a_panic)
{
    EXPECT(!survives(sort_asserts));
    EXPECT(strstr(last.buffer_, "Assertion `a == b' failed.") != NULL);
}

static void *
assert_on_thread(void *unused)
{
    assert(unused != NULL);
    return NULL;
}

static void *
abort_on_thread(void *unused)
{
    (void)unused;
    abort();
}

static void
join(void *(*fn)(void *))
{
    pthread_t thread;

    EXPECT_EQ(pthread_create(&thread, NULL, fn, NULL), 0);
    pthread_join(thread, NULL);
}

TEST_DIES(signal, assert_on_a_plain_thread_is_fatal, 2, "Assertion `unused != NULL' failed.")
{
    join(assert_on_thread);
}

TEST_DIES(signal, abort_on_a_plain_thread_is_fatal, 2, "SIGABRT: abort")
{
    join(abort_on_thread);
}

TEST_DIES(signal, failed_check_inside_malloc_is_fatal, 2, "SIGABRT: abort")
{
    char *volatile p = malloc(100);

    if (test_sanitized || RUNNING_ON_VALGRIND)
        raise(SIGABRT); /* their malloc makes its own report */
    EXPECT(p != NULL);
    free(p + 16 + zero);
}

static int
assert_at_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    (void)info;
    (void)size;
    assert(arg != NULL);
    return 0;
}

static void
assert_at_modules(void)
{
    if (LIBC_IS_HIDDEN)
        raise(SIGABRT);
    dl_iterate_phdr(assert_at_module, NULL);
}

TEST_DIES(signal, assert_called_back_under_the_loaders_lock_is_fatal, 2, "SIGABRT: abort")
{
    survives(assert_at_modules);
}

noreturn void __stack_chk_fail(void);
void         *__memcpy_chk(void *to, const void *from, size_t size, size_t room);

TEST_DIES(signal, smashed_stack_is_fatal, 2, "SIGABRT: abort")
{
    survives(__stack_chk_fail);
}

static void
copy_too_much(void)
{
    char small[8];

    if (test_sanitized || RUNNING_ON_VALGRIND)
        raise(SIGABRT); /* they see it first */
    __memcpy_chk(small, "0123456789", (size_t)(10 + zero), sizeof small);
    sink = small[0];
}

TEST_DIES(signal, failed_check_of_fortify_is_fatal, 2, "SIGABRT: abort")
{
    survives(copy_too_much);
}

/* ---- not the application's -------------------------------------------------------- */

TEST_DIES(signal, fault_signal_sent_by_kill_is_not_a_panic, 2,
          "SIGSEGV: segmentation violation")
{
    BH_RECOVER(p) {
        return;
    }
    raise(SIGSEGV);
}

static void
load_inside_the_runtime(void)
{
    rt_enter("test");
    load();
}

TEST_DIES(signal, fault_inside_the_runtime_is_fatal, 2,
          "unexpected signal during runtime execution")
{
    survives(load_inside_the_runtime);
}

static void
load_in_handler(int sig)
{
    (void)sig;
    load();
}

TEST_DIES(signal, fault_in_a_signal_handler_is_fatal, 2,
          "unexpected signal during runtime execution")
{
    struct sigaction action = { .sa_handler = load_in_handler, .sa_flags = SA_ONSTACK };

#if defined(RT_TSAN)
    load_inside_the_runtime(); /* the sanitizer blocks all signals in a handler */
#endif
    sigaction(SIGPROF, &action, NULL);
    BH_RECOVER(p) {
        return;
    }
    raise(SIGPROF);
}

TEST_DIES(signal, fault_in_a_signal_handler_on_the_goroutines_stack_is_fatal, 2, "fatal error:")
{
    struct sigaction action = { .sa_handler = load_in_handler };

#if defined(RT_TSAN)
    load_inside_the_runtime();
#endif
    sigaction(SIGPROF, &action, NULL);
    BH_RECOVER(p) {
        return;
    }
    raise(SIGPROF);
}

static void *
load_on_thread(void *unused)
{
    load();
    return unused;
}

TEST_DIES(signal, fault_on_a_plain_thread_is_fatal, 2, "SIGSEGV")
{
    if (test_sanitized)
        raise(SIGSEGV); /* the sanitizer's handler was there first, and reports it */
    join(load_on_thread);
}

static void
trap(void)
{
    __builtin_trap();
}

#if defined(__x86_64__)
#define TRAP "SIGILL: illegal instruction"
#else
#define TRAP "SIGTRAP: trace trap"
#endif

TEST_DIES(signal, trap_is_fatal, 2, TRAP)
{
    survives(trap);
}

TEST_DIES(signal, uncaught_fault_ends_the_process_with_its_text, 2, "panic: " NIL)
{
    load();
}

TEST_REAL(signal, writing_to_a_closed_pipe_does_not_kill)
{
    int fd[2];

    EXPECT_EQ(pipe(fd), 0);
    close(fd[0]);
    EXPECT_EQ(write(fd[1], "x", 1), -1);
    EXPECT_EQ(errno, EPIPE);
    close(fd[1]);
}

/* ---- the handler leaves no trace --------------------------------------------------- */

TEST_REAL(signal, recovered_fault_leaves_the_signal_mask_alone)
{
    sigset_t before, after;

    pthread_sigmask(SIG_SETMASK, NULL, &before);
    EXPECT(!survives(load));
    pthread_sigmask(SIG_SETMASK, NULL, &after);
    for (int i = 1; i < 32; i++)
        EXPECT_EQ(sigismember(&before, i), sigismember(&after, i));
    EXPECT(!sigismember(&after, SIGSEGV));
}
