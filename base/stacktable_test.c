#include "test.h"

#include <pthread.h>
#include <stdatomic.h>

#include <bulkhead/base/stacktable.h>

static const uintptr_t STACK[] = { 0x1000, 0x2000, 0x3000 };

struct sum {
    int              rows;
    int64_t          counter[BH_STACKTABLE_COUNTERS];
    const uintptr_t *pcs;
    int              depth, least_depth;
    int              most; /* rows to look at */
};

static bool
add_up(const struct bh_stackrow_view *v, void *arg)
{
    struct sum *s = arg;

    if (s->rows == 0 || v->depth < s->least_depth)
        s->least_depth = v->depth;
    s->rows++;
    for (int i = 0; i < BH_STACKTABLE_COUNTERS; i++)
        s->counter[i] += v->counters[i];
    s->pcs = v->pcs;
    s->depth = v->depth;
    return s->most == 0 || s->rows < s->most;
}

static struct sum
sum_of(struct bh_stacktable *t)
{
    struct sum s = { 0 };
    int        called = bh_stacktable_each(t, add_up, &s);

    EXPECT_EQ(called, s.rows);
    return s;
}

TEST_PLAIN(stacktable, the_same_stack_is_counted_in_one_row)
{
    struct bh_stacktable *t = bh_stacktable_new(16);
    struct sum            s;

    bh_stackrow_add(bh_stacktable_row(t, STACK, 3, 7, 8), 0, 5);
    bh_stackrow_add(bh_stacktable_row(t, STACK, 3, 7, 8), 0, 6);
    bh_stackrow_add(bh_stacktable_row(t, STACK, 3, 7, 8), 3, -1);
    s = sum_of(t);
    EXPECT_EQ(s.rows, 1);
    EXPECT_EQ(s.counter[0], 11);
    EXPECT_EQ(s.counter[3], -1);
    EXPECT_EQ(s.depth, 3);
    EXPECT_EQ(s.pcs[2], 0x3000);
    bh_stacktable_free(t);
}

TEST_PLAIN(stacktable, another_depth_or_word_is_another_row)
{
    struct bh_stacktable *t = bh_stacktable_new(64);
    struct bh_stackrow   *row = bh_stacktable_row(t, STACK, 3, 1, 2);

    EXPECT(row != bh_stacktable_row(t, STACK, 2, 1, 2));
    EXPECT(row != bh_stacktable_row(t, STACK, 3, 2, 1));
    EXPECT(row != bh_stacktable_row(t, STACK, 3, 1, 3));
    EXPECT(row != bh_stacktable_row(t, STACK + 1, 2, 1, 2));
    EXPECT(row == bh_stacktable_row(t, STACK, 3, 1, 2));
    bh_stacktable_free(t);
}

TEST_PLAIN(stacktable, a_full_table_loses_stacks_but_no_counts)
{
    struct bh_stacktable *t = bh_stacktable_new(16);
    struct sum            s;

    for (uintptr_t i = 0; i < 1000; i++)
        bh_stackrow_add(bh_stacktable_row(t, &i, 1, 0, 0), 1, 3);
    s = sum_of(t);
    EXPECT_EQ(s.rows, 17);
    EXPECT_EQ(s.counter[1], 3000);
    EXPECT_EQ(s.least_depth, 0);
    bh_stacktable_free(t);
}

TEST_PLAIN(stacktable, too_deep_a_stack_keeps_its_inner_calls)
{
    struct bh_stacktable *t = bh_stacktable_new(16);
    uintptr_t             deep[BH_STACKTABLE_DEPTH + 10];
    struct sum            s;

    for (int i = 0; i < BH_STACKTABLE_DEPTH + 10; i++)
        deep[i] = 100 + (uintptr_t)i;
    bh_stackrow_add(bh_stacktable_row(t, deep, BH_STACKTABLE_DEPTH + 10, 0, 0), 0, 1);
    bh_stackrow_add(bh_stacktable_row(t, deep, -1, 0, 0), 0, 0);
    s = sum_of(t);
    EXPECT_EQ(s.rows, 1); /* the other has counted nothing */
    EXPECT_EQ(s.depth, BH_STACKTABLE_DEPTH);
    EXPECT_EQ(s.pcs[0], 100);
    bh_stacktable_free(t);
}

TEST_PLAIN(stacktable, a_reader_may_stop)
{
    struct bh_stacktable *t = bh_stacktable_new(16);
    struct sum            s = { .most = 2 };

    for (uintptr_t i = 0; i < 8; i++)
        bh_stackrow_add(bh_stacktable_row(t, &i, 1, 0, 0), 0, 1);
    EXPECT_EQ(bh_stacktable_each(t, add_up, &s), 2);
    bh_stacktable_free(t);
}

TEST_PLAIN(stacktable, a_size_that_is_no_power_of_two_is_refused)
{
    EXPECT(bh_stacktable_new(0) == NULL);
    EXPECT(bh_stacktable_new(12) == NULL);
    EXPECT(bh_stacktable_new(SIZE_MAX / 2 + 1) == NULL);
    bh_stacktable_free(NULL);
}

enum { THREADS = 4, ROUNDS = 20000, STACKS = 100 };

static void *
adder(void *arg)
{
    struct bh_stacktable *t = arg;

    for (uintptr_t i = 0; i < ROUNDS; i++)
        bh_stackrow_add(bh_stacktable_row(t, &(uintptr_t){ i % STACKS }, 1, 0, 0), 0, 1);
    return NULL;
}

static bool
each_is_whole(const struct bh_stackrow_view *v, void *arg)
{
    int *seen = arg;

    EXPECT_EQ(v->depth, 1);
    EXPECT(v->pcs[0] < STACKS);
    seen[v->pcs[0]] += (int)v->counters[0];
    return true;
}

TEST_PLAIN(stacktable, threads_lose_nothing_and_a_reader_sees_whole_rows)
{
    struct bh_stacktable *t = bh_stacktable_new(1024);
    pthread_t             threads[THREADS];
    int                   seen[STACKS] = { 0 };

    for (int i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_create(&threads[i], NULL, adder, t), 0);
    for (int i = 0; i < 100; i++)
        (void)bh_stacktable_each(t, each_is_whole, (int[STACKS]){ 0 });
    for (int i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_join(threads[i], NULL), 0);
    (void)bh_stacktable_each(t, each_is_whole, seen);
    for (int i = 0; i < STACKS; i++)
        EXPECT_EQ(seen[i], THREADS * ROUNDS / STACKS);
    bh_stacktable_free(t);
}
