/* profile_sweep_test.c -- profiles with every allocation failing in turn. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <bulkhead/observe/profile.h>

#include "faults.h"

static const struct bh_profile_type types[] = { { "objects", "count" }, { "space", "bytes" } };

/* 300 samples, so that everything grows once at least.  Returns: 0 or an error; p has `added`. */
static int
fill(struct bh_profile *p, int64_t *added)
{
    for (int i = 0; i < 300; i++) {
        uintptr_t stack[] = { (uintptr_t)i + 4096, (uintptr_t)bh_profile_new + 1 };
        int64_t   values[] = { 1, i };
        char      text[16];
        struct bh_profile_label l = { .key = "n", .text = text };
        int                     rc;

        (void)snprintf(text, sizeof text, "%d", i % 100);
        rc = bh_profile_add(p, stack, 2, values, &l, 1);
        if (rc != 0)
            return rc;
        (*added)++;
    }
    return 0;
}

/* Returns: whether all of it went well; what failed did so with -ENOMEM and left sense behind. */
static bool
build_and_write(void)
{
    struct bh_profile_bytes bytes = { 0 };
    struct bh_profile      *p = bh_profile_new(types, 2), *q = bh_profile_new(types, 2);
    int64_t                 added = 0;
    int                     rc = p != NULL && q != NULL ? fill(p, &added) : -ENOMEM;

    if (p != NULL)
        EXPECT_EQ(bh_profile_total(p, 0), added);
    if (rc == 0)
        rc = bh_profile_merge(q, p, 2);
    if (rc == 0)
        EXPECT_EQ(bh_profile_total(q, 0), 600);
    if (rc == 0)
        rc = bh_profile_text(q, "goroutine", &bytes);
    free(bytes.data);
    bytes.data = NULL;
    if (rc == 0)
        rc = bh_profile_write(q, true, &bytes);
    EXPECT(rc == 0 || rc == -ENOMEM);
    EXPECT((rc == 0) == (bytes.data != NULL));
    free(bytes.data);
    bh_profile_free(p);
    bh_profile_free(q);
    return rc == 0;
}

TEST_REAL(profile, any_allocation_may_fail)
{
    int nth = 1;

    for (;; nth++) {
        bool well;

        fault_arm(FAULT_ALLOCATE, nth, ENOMEM);
        well = build_and_write();
        if (fault_disarm() == 0) {
            EXPECT(well);
            break;
        }
    }
    EXPECT(nth > 30);
}

TEST_REAL(profile, one_that_cannot_be_collected_is_an_error)
{
    static const char *const names[] = { "goroutine", "threadcreate", "profile" };

    EXPECT_EQ(bh_cpu_start(), 0);
    for (int i = 0; i < 3; i++) {
        struct bh_profile_bytes bytes;
        int                     rc = -ENOMEM;

        EXPECT_EQ(bh_profile_take(names[i], NULL, &bytes), 0); /* names are known now */
        free(bytes.data);
        for (int nth = 1; rc != 0; nth++) {
            fault_arm(FAULT_ALLOCATE, nth, ENOMEM);
            rc = bh_profile_take(names[i], NULL, &bytes);
            if (fault_disarm() == 0)
                EXPECT_EQ(rc, 0);
            else if (rc == 0)
                rc = 1; /* it could be done without */
            else
                EXPECT_EQ(rc, -ENOMEM);
            if (rc >= 0)
                free(bytes.data);
        }
    }
    bh_cpu_stop();
}

TEST_REAL(profile, the_cpu_profile_needs_memory_for_its_ring)
{
    struct bh_cpu_stats s;

    fault_arm(FAULT_MMAP, 1, ENOMEM);
    EXPECT_EQ(bh_cpu_start(), -ENOMEM);
    EXPECT_EQ(fault_disarm(), 1);
    bh_cpu_stats_read(&s);
    EXPECT(!s.on && s.threads == 0);
    EXPECT_EQ(bh_cpu_start(), 0);
    bh_cpu_stop();
}
