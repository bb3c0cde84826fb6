#include "ring.h"

#include <pthread.h>
#include <sched.h>

#include "test.h"

TEST_PLAIN(ring, records_come_out_in_the_order_they_went_in)
{
    struct ob_ring r;

    EXPECT_EQ(ob_ring_init(&r, 4, sizeof(int)), 0);
    for (int round = 0; round < 5; round++) {
        for (int i = 0; i < 3; i++)
            EXPECT_EQ(ob_ring_put(&r, &(int){ round * 3 + i }, sizeof(int)), round * 3 + i + 1);
        EXPECT_EQ(ob_ring_count(&r), 3);
        for (int i = 0; i < 3; i++) {
            EXPECT_EQ(*(const int *)ob_ring_peek(&r), round * 3 + i);
            ob_ring_pop(&r);
        }
        EXPECT(ob_ring_peek(&r) == NULL);
    }
    ob_ring_fini(&r);
}

TEST_PLAIN(ring, a_full_one_takes_nothing_until_one_is_popped)
{
    struct ob_ring r;

    EXPECT_EQ(ob_ring_init(&r, 2, sizeof(int)), 0);
    EXPECT(ob_ring_put(&r, &(int){ 1 }, sizeof(int)) != 0);
    EXPECT(ob_ring_put(&r, &(int){ 2 }, sizeof(int)) != 0);
    EXPECT_EQ(ob_ring_put(&r, &(int){ 3 }, sizeof(int)), 0);
    EXPECT_EQ(ob_ring_count(&r), 2);
    ob_ring_pop(&r);
    EXPECT(ob_ring_put(&r, &(int){ 3 }, sizeof(int)) != 0);
    EXPECT_EQ(*(const int *)ob_ring_peek(&r), 2);
    ob_ring_fini(&r);
}

TEST_PLAIN(ring, what_is_larger_than_a_slot_is_refused)
{
    struct ob_ring r;
    char           big[1024] = { 0 };

    EXPECT_EQ(ob_ring_init(&r, 2, 100), 0);
    EXPECT_EQ(ob_ring_put(&r, big, sizeof big), 0);
    EXPECT_EQ(ob_ring_put(&r, big, 0), 0);
    EXPECT_EQ(ob_ring_count(&r), 0);
    ob_ring_fini(&r);
}

/* A bad pointer faults before a place is won: the ring goes on. */
TEST_REAL(ring, a_bad_record_leaves_it_usable)
{
    struct ob_ring r;
    const int *volatile bad = NULL;

    EXPECT_EQ(ob_ring_init(&r, 2, sizeof(int)), 0);
    EXPECT_PANIC("runtime error: invalid memory address or nil pointer dereference",
                 ob_ring_put(&r, bad, sizeof(int)));
    EXPECT(ob_ring_put(&r, &(int){ 7 }, sizeof(int)) != 0);
    EXPECT_EQ(*(const int *)ob_ring_peek(&r), 7);
    ob_ring_fini(&r);
}

enum { WRITERS = 4, EACH = 20000, WORDS = 16 };

static struct ob_ring shared;

static void *
writer(void *arg)
{
    uint32_t record[WORDS], id = (uint32_t)(uintptr_t)arg;

    for (uint32_t i = 0; i < EACH; i++) {
        for (int w = 0; w < WORDS; w++)
            record[w] = id << 24 | i;
        while (ob_ring_put(&shared, record, sizeof record) == 0)
            sched_yield();
    }
    return NULL;
}

TEST_PLAIN(ring, many_writers_lose_and_tear_nothing)
{
    pthread_t thread[WRITERS];
    uint32_t  next[WRITERS] = { 0 };

    EXPECT_EQ(ob_ring_init(&shared, 8, WORDS * sizeof(uint32_t)), 0);
    for (uintptr_t i = 0; i < WRITERS; i++)
        EXPECT_EQ(pthread_create(&thread[i], NULL, writer, (void *)i), 0);
    for (int got = 0; got < WRITERS * EACH;) {
        const uint32_t *record = ob_ring_peek(&shared);
        if (record == NULL) {
            sched_yield();
            continue;
        }
        for (int w = 1; w < WORDS; w++)
            EXPECT_EQ(record[w], record[0]);
        EXPECT_EQ(record[0] & 0xffffff, next[record[0] >> 24]++);
        ob_ring_pop(&shared);
        got++;
    }
    for (int i = 0; i < WRITERS; i++)
        pthread_join(thread[i], NULL);
    EXPECT(ob_ring_peek(&shared) == NULL);
    ob_ring_fini(&shared);
}
