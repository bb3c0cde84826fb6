/* walk_test.c -- where frame pointers are to be trusted, and walks by the tables where not. */

#include "test.h"

#include <bulkhead/go/stack.h>

#include <stdlib.h>
#include <unistd.h>

#include "walk.h"

enum { DEPTH = 32 };

static uintptr_t by_pointers[DEPTH], by_tables[DEPTH];
static int       pointers, tables;
static bool      more;

/* ---- verdicts ------------------------------------------------------------------------- */

TEST(walk, frame_pointers_of_our_own_code_are_trusted)
{
    uintptr_t pcs[DEPTH];
    int       n = bh_stack(pcs, DEPTH);

    EXPECT(n >= 2);
    EXPECT(rt_walk_trusted(pcs, n));
    EXPECT(rt_walk_trusted(pcs, n)); /* from memory */
    EXPECT(rt_walk_trusted(pcs, 0));
}

TEST(walk, code_without_frame_pointers_is_not_trusted_nor_a_stack_with_it)
{
    uintptr_t pcs[DEPTH];
    int       n = bh_stack(pcs, DEPTH);
    uintptr_t libc = (uintptr_t)getpid + 2; /* it sets no frame up */

    for (int i = 0; i < 2; i++) {
        EXPECT(!rt_walk_trusted(&libc, 1));
        EXPECT(rt_walk_trusted(pcs, n));
    }
    pcs[n - 1] = libc;
    EXPECT(!rt_walk_trusted(pcs, n));
}

TEST(walk, address_of_no_code_is_not_trusted)
{
    EXPECT(!rt_walk_trusted(&(uintptr_t){ 0 }, 1));
    EXPECT(!rt_walk_trusted(&(uintptr_t){ 1 }, 1));
    EXPECT(!rt_walk_trusted(&(uintptr_t){ (uintptr_t)&more }, 1));
}

/* ---- walks ------------------------------------------------------------------------------ */

/* walk_from_here -- both ways, from our caller on. */
__attribute__((noinline)) static void
walk_from_here(int max)
{
    const uintptr_t *frame = __builtin_frame_address(0);
    struct rt_walk   w = { .lo = (uintptr_t)frame, .hi = (uintptr_t)frame + 16384 };

    rt_regs_caller(&w.regs);
    pointers = bh_stack(by_pointers, DEPTH);
    tables = rt_walk_tables(&w, by_tables, max, &more);
}

TEST(walk, tables_agree_with_frame_pointers_where_these_are_to_be_trusted)
{
    walk_from_here(DEPTH);
    EXPECT_EQ(tables, pointers - 1); /* bh_stack begins with its own caller */
    EXPECT(!more);
    for (int i = 0; i < tables; i++)
        EXPECT_EQ(by_tables[i], by_pointers[i + 1]);
}

TEST(walk, a_walk_cut_short_says_so)
{
    walk_from_here(1);
    EXPECT_EQ(tables, 1);
    EXPECT(more);
}

static int
compare(const void *a, const void *b)
{
    if (tables == 0)
        walk_from_here(DEPTH);
    return *(const int *)a - *(const int *)b;
}

TEST(walk, tables_see_libc_calling_back)
{
    int numbers[] = { 2, 1, 3 };

    walk_from_here(DEPTH);
    int       direct = tables;
    uintptr_t outer =
        by_tables[tables - 2]; /* of our caller's caller: its call is one and the same */
    tables = 0;
    qsort(numbers, 3, sizeof *numbers, compare);
#if defined(__x86_64__) /* there it has no frame pointers; and sanitizers sort by themselves */
    EXPECT(test_sanitized || !rt_walk_trusted(by_tables, tables));
#endif
    EXPECT(tables > direct + 1); /* compare, and at least one function of libc */
    EXPECT_EQ(by_tables[tables - 2], outer);
}
