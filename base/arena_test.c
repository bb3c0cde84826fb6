#include "test.h"

#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

TEST_PLAIN(arena, memory_is_zeroed_and_aligned)
{
    struct bh_arena *a = bh_arena_new(0);

    for (size_t size = 0; size < 300; size++) {
        char *p = bh_arena_alloc(a, size);
        EXPECT_EQ((uintptr_t)p % 16, 0);
        for (size_t i = 0; i < size; i++)
            EXPECT_EQ(p[i], 0);
        memset(p, 0xff, size);
    }
    bh_arena_free(a);
}

TEST_PLAIN(arena, memory_is_zeroed_again_after_a_reset)
{
    struct bh_arena *a = bh_arena_new(0);

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 50; i++) {
            char *p = bh_arena_alloc(a, 500);
            for (int k = 0; k < 500; k++)
                EXPECT_EQ(p[k], 0);
            memset(p, 0xff, 500);
        }
        bh_arena_reset(a);
        EXPECT_EQ(bh_arena_used(a), 0);
    }
    bh_arena_free(a);
}

TEST_PLAIN(arena, allocations_do_not_overlap_across_blocks)
{
    enum { COUNT = 2000 };
    static unsigned char *at[COUNT];
    static size_t         size[COUNT];
    struct bh_arena      *a = bh_arena_new(0);
    uint32_t              random = 1;
    size_t                sum = 0;

    for (int i = 0; i < COUNT; i++) {
        random = random * 1103515245 + 12345;
        size[i] = (random >> 16) % (i % 100 == 0 ? 100000 : 400);
        sum += size[i];
        at[i] = bh_arena_alloc(a, size[i]);
        memset(at[i], i & 0xff, size[i]);
    }
    EXPECT_EQ(bh_arena_used(a), sum);
    for (int i = 0; i < COUNT; i++)
        for (size_t k = 0; k < size[i]; k++)
            EXPECT_EQ(at[i][k], i & 0xff);
    bh_arena_free(a);
}

TEST_PLAIN(arena, copies_strings_and_bytes)
{
    struct bh_arena *a = bh_arena_new(0);

    EXPECT_STR(bh_arena_string(a, "hello, world", 5), "hello");
    EXPECT_STR(bh_arena_string(a, NULL, 0), "");
    EXPECT_EQ(memcmp(bh_arena_copy(a, "a\0b", 3), "a\0b", 3), 0);
    EXPECT(bh_arena_copy(a, NULL, 0) != NULL);
    EXPECT_STR(bh_arena_print(a, "%d %s", 42, "answers"), "42 answers");
    EXPECT_STR(bh_arena_print(a, "%s", ""), "");
    EXPECT_EQ(strlen(bh_arena_print(a, "%20000d", 1)), 20000);
    bh_arena_free(a);
}

static char order[16];

static void
note(void *arg)
{
    strncat(order, arg, 1);
}

TEST_PLAIN(arena, cleanups_run_newest_first_at_free)
{
    static char      a_[] = "a", b_[] = "b", c_[] = "c";
    struct bh_arena *a = bh_arena_new(0);

    bh_arena_defer(a, note, a_);
    bh_arena_defer(a, note, b_);
    bh_arena_defer(a, note, c_);
    EXPECT_EQ(bh_arena_used(a), 0);
    bh_arena_free(a);
    EXPECT_STR(order, "cba");
}

TEST_PLAIN(arena, a_reset_keeps_a_block_that_is_not_large)
{
    struct bh_arena *a = bh_arena_new(20 * 1024);
    char            *kept;

    (void)bh_arena_raw(a, 2010);
    kept = bh_arena_raw(a, 2010);
    bh_arena_reset(a);
    EXPECT((char *)bh_arena_alloc(a, 2010) == kept); /* in the second block */
    for (int i = 0; i < 6; i++)
        memset(bh_arena_raw(a, 2010), i, 2010);
    bh_arena_reset(a);
    for (int i = 0; i < 6; i++)
        memset(bh_arena_raw(a, 2010), i, 2010); /* within the budget again */
    EXPECT_EQ(bh_arena_used(a), 6 * 2010);
    bh_arena_free(a);
}

TEST_PLAIN(arena, reset_runs_cleanups_once)
{
    static char      x[] = "x", y[] = "y";
    struct bh_arena *a = bh_arena_new(0);

    bh_arena_defer(a, note, x);
    bh_arena_reset(a);
    EXPECT_STR(order, "x");
    bh_arena_defer(a, note, y);
    bh_arena_free(a);
    EXPECT_STR(order, "xy");
}

static void
defer_one_more(void *arg)
{
    static char z[] = "z";

    memset(bh_arena_alloc(arg, 5000), 1, 5000);
    bh_arena_defer(arg, note, z);
}

TEST_PLAIN(arena, a_cleanup_may_allocate_and_defer)
{
    struct bh_arena *a = bh_arena_new(0);

    bh_arena_defer(a, defer_one_more, a);
    bh_arena_free(a);
    EXPECT_STR(order, "z");
}

TEST_PLAIN(arena, freeing_nothing_is_a_no_op)
{
    bh_arena_free(NULL);
}

static bool over;

static void
leave(size_t size, int over_budget)
{
    (void)size;
    over = over_budget;
    _exit(over_budget ? 0 : 3);
}

TEST_PLAIN(arena, within_its_budget_it_serves)
{
    struct bh_arena *a = bh_arena_new(64 * 1024);

    bh_set_no_memory(leave);
    for (int i = 0; i < 48; i++)
        bh_arena_alloc(a, 1000);
    bh_arena_free(a);
    bh_set_no_memory(NULL);
}

TEST_PLAIN(arena, a_reset_gives_the_budget_back)
{
    struct bh_arena *a = bh_arena_new(64 * 1024);

    bh_set_no_memory(leave);
    for (int round = 0; round < 10; round++) {
        bh_arena_alloc(a, 40 * 1024);
        bh_arena_reset(a);
    }
    bh_arena_free(a);
    bh_set_no_memory(NULL);
}

/* Exits with 0 in leave(); falling through is the failure. */
TEST_PLAIN(arena, over_its_budget_it_calls_the_hook)
{
    struct bh_arena *a = bh_arena_new(64 * 1024);

    bh_set_no_memory(leave);
    for (int i = 0; i < 66; i++)
        bh_arena_alloc(a, 1000);
    test_failed(__FILE__, __LINE__, "the budget did not hold: %zu bytes", bh_arena_used(a));
}

static void
leave_happy(size_t size, int over_budget)
{
    EXPECT(size >= SIZE_MAX / 2);
    EXPECT_EQ(over_budget, 0);
    _exit(0);
}

TEST_PLAIN(arena, an_absurd_size_is_out_of_memory_not_an_overflow)
{
    struct bh_arena *a = bh_arena_new(0);

    bh_set_no_memory(leave_happy);
    bh_arena_alloc(a, SIZE_MAX - 3);
    test_failed(__FILE__, __LINE__, "got more than there is");
}

#ifdef WITH_ASAN
int __asan_address_is_poisoned(void const volatile *address);

TEST_PLAIN(arena, what_is_not_handed_out_is_poisoned)
{
    struct bh_arena *a = bh_arena_new(0);
    char            *p = bh_arena_alloc(a, 24);

    EXPECT(!__asan_address_is_poisoned(p + 23));
    EXPECT(__asan_address_is_poisoned(p + 24));
    EXPECT(__asan_address_is_poisoned(p + 40));
    char *q = bh_arena_alloc(a, 8);
    EXPECT(__asan_address_is_poisoned(q - 1));
    bh_arena_reset(a);
    EXPECT(__asan_address_is_poisoned(p));
    bh_arena_free(a);
}
#endif
