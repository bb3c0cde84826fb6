#include "test.h"

#include <errno.h>
#include <stdlib.h>

#include <bulkhead/observe/heap.h>
#include <bulkhead/observe/profile.h>

enum { ALLOC_OBJECTS, ALLOC_SPACE, INUSE_OBJECTS, INUSE_SPACE };

static __attribute__((noinline)) void *
allocate(size_t size)
{
    void *p = malloc(size);

    __asm__ volatile("" : "+r"(p));
    return p;
}

TEST_REAL(prof_heap, a_profile_that_was_not_started_is_an_error)
{
    struct bh_profile *p = NULL;

    EXPECT_EQ(bh_profile_collect("heap", NULL, &p), -EAGAIN);
    EXPECT_EQ(bh_profile_collect("allocs", NULL, &p), -EAGAIN);
    EXPECT(p == NULL);
}

TEST_REAL(prof_heap, both_profiles_have_the_totals)
{
    static const char *const names[] = { "heap", "allocs" };

    if (test_sanitized)
        return; /* heap_test.c says what there is then */
    EXPECT_EQ(bh_heap_profile_start(0), 0);
    for (int i = 0; i < 2; i++) {
        struct bh_profile *before, *after;
        void              *kept = allocate(100 * BH_HEAP_RATE);

        EXPECT_EQ(bh_profile_collect(names[i], NULL, &before), 0);
        free(kept);
        kept = allocate(200 * BH_HEAP_RATE);
        EXPECT_EQ(bh_profile_collect(names[i], NULL, &after), 0);
        EXPECT_EQ(bh_profile_merge(after, before, -1), 0);
        /* What was freed has gone, and what came is there: others allocate little. */
        EXPECT(bh_profile_total(after, ALLOC_SPACE) >= 200ll * BH_HEAP_RATE);
        EXPECT(bh_profile_total(after, ALLOC_SPACE) < 220ll * BH_HEAP_RATE);
        EXPECT(llabs(bh_profile_total(after, INUSE_SPACE) - 100ll * BH_HEAP_RATE) <
               20ll * BH_HEAP_RATE);
        bh_profile_free(before);
        bh_profile_free(after);
        free(kept);
    }
}

TEST_REAL(prof_heap, it_can_be_written)
{
    struct bh_profile_bytes bytes;
    void                   *kept;

    if (test_sanitized)
        return;
    EXPECT_EQ(bh_heap_profile_start(1), 0);
    kept = allocate(1000);
    EXPECT_EQ(bh_profile_take("heap", NULL, &bytes), 0);
    EXPECT(bytes.size > 20 && bytes.data[0] == 0x1f && bytes.data[1] == 0x8b);
    free(bytes.data);
    EXPECT_EQ(bh_profile_take("heap", &(struct bh_profile_options){ .debug = 1 }, &bytes), 0);
    EXPECT(memmem(bytes.data, bytes.size, "allocate", 8) != NULL);
    free(bytes.data);
    free(kept);
}
