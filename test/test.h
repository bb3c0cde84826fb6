#ifndef BULKHEAD_TEST_TEST_H
#define BULKHEAD_TEST_TEST_H

/*
 * test.h -- what a test file needs.  One program per X_test.c, linked with test.c.
 *
 *     TEST(chan, closed_channel_still_delivers_what_was_sent)
 *     {
 *         struct bh_chan *c = BH_CHAN(int, 1);
 *         int got = 0;
 *
 *         BH_DEFER(bh_chan_unref, c);
 *         bh_send(c, &(int){ 7 });
 *         bh_close(c);
 *         EXPECT(bh_recv(c, &got));
 *         EXPECT_EQ(got, 7);
 *     }
 *
 * Five kinds, by what the body needs:
 *
 *     TEST         main goroutine; on the real scheduler and on the deterministic
 *                  one with several seeds
 *     TEST_REAL    the real scheduler only: sockets, faults, threads
 *     TEST_SIM     the deterministic one only: virtual clock
 *     TEST_PLAIN   no runtime at all
 *     TEST_DIES    real scheduler; the process must end with `status` (negative:
 *                  by that signal) having printed `text`
 *
 * Each run is a process of its own.  It fails if it ends with another status,
 * outlives its time, or leaves a goroutine or a descriptor behind.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdnoreturn.h>
#include <string.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>

#define TEST(suite, name)       TEST_DEFINE_(suite, name, TEST_BOTH_, &test_runtime_, 0, NULL)
#define TEST_REAL(suite, name)  TEST_DEFINE_(suite, name, TEST_REAL_, &test_runtime_, 0, NULL)
#define TEST_SIM(suite, name)   TEST_DEFINE_(suite, name, TEST_SIM_, &test_runtime_, 0, NULL)
#define TEST_PLAIN(suite, name) TEST_DEFINE_(suite, name, TEST_PLAIN_, NULL, 0, NULL)
#define TEST_DIES(suite, name, status, text)                                                   \
    TEST_DEFINE_(suite, name, TEST_DIES_, &test_runtime_, status, text)

/* Each prints place and values, and ends the test process, if it does not hold. */
#define EXPECT(cond) ((cond) ? (void)0 : test_failed(__FILE__, __LINE__, "EXPECT(%s)", #cond))

/* EXPECT_EQ -- two integers (or pointers) are equal. */
#define EXPECT_EQ(a, b)                                                                        \
    test_expect_eq(__FILE__, __LINE__, #a, #b, (long long)(a), (long long)(b))

/* EXPECT_STR -- two strings are equal; NULL equals only NULL. */
#define EXPECT_STR(a, b) test_expect_str(__FILE__, __LINE__, #a, #b, (a), (b))

/*
 * EXPECT_PANIC -- the statement panics with exactly this text (bh_panic_text).
 *
 * Locals that the statement changes and later code reads must be volatile.
 */
#define EXPECT_PANIC(expected, ...)                                                            \
    do {                                                                                       \
        struct bh_point test_point_;                                                           \
        bh_point_push_(&test_point_);                                                          \
        if (bh_checkpoint_(&test_point_.at) == 0) {                                            \
            __VA_ARGS__;                                                                       \
            test_failed(__FILE__, __LINE__, "no panic from %s; expected \"%s\"", #__VA_ARGS__, \
                        expected);                                                             \
        }                                                                                      \
        test_expect_str(__FILE__, __LINE__, "panic of " #__VA_ARGS__, "expected",              \
                        bh_panic_text(&test_point_.panic), expected);                          \
        bh_point_end_(&test_point_);                                                           \
    } while (0)

/* test_failed -- say why, and end the test process with status 1.  Threads: any. */
noreturn void test_failed(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));

/* test_skip -- this run says nothing: name the reason, once.  Not a way to make a test pass. */
noreturn void test_skip(const char *why);

/* test_slow -- how many times slower than usual this run is: TEST_TIMEOUT, at least 1. */
double test_slow(void);

/* test_emulated -- whether an emulator runs this: its signals, clocks and limits are its own. */
bool test_emulated(void);

/* test_sanitized -- whether built with a sanitizer that slows or replaces memory. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define test_sanitized 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define test_sanitized 1
#endif
#endif
#ifndef test_sanitized
#define test_sanitized 0
#endif

/* ---- machinery --------------------------------------------------------- */

enum test_kind { TEST_BOTH_, TEST_REAL_, TEST_SIM_, TEST_PLAIN_, TEST_DIES_ };

/*
 * The runtime as the runner calls it.  Reached through the tests that need it,
 * so that a program of TEST_PLAINs links without the runtime.
 */
struct test_runtime {
    int (*main)(const struct bh_options *options, bh_fn *fn, void *args);
    size_t (*goroutines)(void);
    void (*yield)(void);
    void (*sleep)(int64_t ns);
    void (*dump)(int fd);
};

#define test_runtime_                                                                          \
    (const struct test_runtime)                                                                \
    {                                                                                          \
        bh_main_with, bh_goroutine_count, bh_yield, bh_sleep, bh_dump                          \
    }

struct test {
    const char                *suite, *name;
    enum test_kind             kind;
    const struct test_runtime *runtime;
    int                        status; /* TEST_DIES */
    const char                *text;
    void                     (*body)(void);
    struct test               *next;
};

void test_register(struct test *t);
void test_expect_eq(const char *file, int line, const char *a_text, const char *b_text,
                    long long a, long long b);
void test_expect_str(const char *file, int line, const char *a_text, const char *b_text,
                     const char *a, const char *b);

#define TEST_DEFINE_(suite, name, kind, runtime, status, text)                                 \
    static void test_##suite##_##name(void);                                                   \
    static struct test test_entry_##suite##_##name = {                                         \
        #suite, #name, kind, runtime, status, text, test_##suite##_##name, NULL                \
    };                                                                                         \
    __attribute__((constructor)) static void test_add_##suite##_##name(void)                   \
    {                                                                                          \
        test_register(&test_entry_##suite##_##name);                                           \
    }                                                                                          \
    static void test_##suite##_##name(void)

#endif
