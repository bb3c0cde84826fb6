/* limiter_test.c -- which panics get a report of their own, and what "the same" means. */

#include "test.h"

#include <bulkhead/go/panic.h>

#include "limiter.h"

#define SECOND ((int64_t)1000000000)

static const uintptr_t pcs[] = { 0x1000, 0x2000, 0x3000, 0x4000 };

TEST_PLAIN(limiter, the_first_is_admitted_and_the_next_when_its_time_is_up)
{
    uint64_t key = ob_limiter_key(&bh_kind_int, pcs, 4), fingerprint = 1;

    ob_limiter_init(60 * SECOND, 10);
    EXPECT(ob_limiter_admit(key, 100 * SECOND, &fingerprint));
    EXPECT(!ob_limiter_admit(key, 100 * SECOND, &fingerprint));
    EXPECT_EQ(fingerprint, 0);
    EXPECT(ob_limiter_judge(key, 77, 100 * SECOND, false));
    EXPECT(!ob_limiter_admit(key, 159 * SECOND, &fingerprint));
    EXPECT_EQ(fingerprint, 77);
    EXPECT(ob_limiter_admit(key, 160 * SECOND, &fingerprint));
    EXPECT(ob_limiter_judge(key, 77, 160 * SECOND, false));
}

TEST_PLAIN(limiter, one_fingerprint_by_two_paths_is_one_report)
{
    uint64_t a = ob_limiter_key(&bh_kind_int, pcs, 4), b = ob_limiter_key(&bh_kind_int, pcs, 3);
    uint64_t fingerprint;

    ob_limiter_init(60 * SECOND, 10);
    EXPECT(a != b);
    EXPECT(ob_limiter_admit(a, SECOND, &fingerprint));
    EXPECT(ob_limiter_judge(a, 5, SECOND, false));
    EXPECT(ob_limiter_admit(b, 31 * SECOND, &fingerprint));
    EXPECT(!ob_limiter_judge(b, 5, 31 * SECOND, false));
    EXPECT(!ob_limiter_admit(b, 60 * SECOND, &fingerprint));
    EXPECT_EQ(fingerprint, 5);
    EXPECT(ob_limiter_admit(b, 61 * SECOND, &fingerprint));
}

TEST_PLAIN(limiter, a_minute_has_so_many_full_reports)
{
    ob_limiter_init(60 * SECOND, 2);
    EXPECT(ob_limiter_judge(1, 1, 100 * SECOND, false));
    EXPECT(ob_limiter_judge(2, 2, 110 * SECOND, false));
    EXPECT(!ob_limiter_judge(3, 3, 120 * SECOND, false));
    EXPECT(
        ob_limiter_judge(4, 4, 120 * SECOND, true)); /* the end of the process is always told */
    EXPECT(!ob_limiter_judge(3, 3, 169 * SECOND, false));
    EXPECT(ob_limiter_judge(3, 3, 171 * SECOND, false));
    ob_limiter_init(60 * SECOND, 0);
    EXPECT(!ob_limiter_judge(1, 1, 100 * SECOND, false));
}

TEST_PLAIN(limiter, one_without_a_slot_may_try_again)
{
    uint64_t fingerprint;

    ob_limiter_init(60 * SECOND, 10);
    EXPECT(ob_limiter_admit(9, SECOND, &fingerprint));
    ob_limiter_forget(9);
    EXPECT(ob_limiter_admit(9, SECOND, &fingerprint));
}

TEST_PLAIN(limiter, more_places_than_it_has_room_for_are_still_told_apart)
{
    uint64_t fingerprint;
    int      admitted = 0;

    ob_limiter_init(60 * SECOND, 10);
    for (uint64_t key = 1; key <= 10000; key++)
        admitted += ob_limiter_admit(key, (int64_t)key, &fingerprint);
    EXPECT_EQ(admitted, 10000);
    EXPECT(!ob_limiter_admit(10000, 10001, &fingerprint));
}

TEST_PLAIN(limiter, a_fingerprint_is_the_same_everywhere)
{
    static const char *const names[] = { "parse", "handle", "serve" };
    static const char *const other[] = { "parseh", "andle", "serve" };

    /* FNV-1a over "E\nparse\nhandle\nserve\n". */
    EXPECT_EQ(ob_fingerprint("E", names, 3), 0x6ee8838a81b46c7cU);
    EXPECT(ob_fingerprint("E", other, 3) != ob_fingerprint("E", names, 3));
    EXPECT(ob_fingerprint("F", names, 3) != ob_fingerprint("E", names, 3));
}
