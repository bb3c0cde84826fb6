/*
 * metrics_sweep_test.c -- counting and logging with every allocation failing in turn.
 *
 * Nothing may crash; what could not be made is an error value or a loss that is counted, and the
 * next try makes it.
 */

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bulkhead/go/tag.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/log.h>
#include <bulkhead/observe/metrics.h>

#include "faults.h"
#include "test.h"

/* Everything that may allocate, with new names each time.  Returns: whether all of it went well. */
static bool
count(int round)
{
    static const char *const labels[] = { "a", "b", NULL };
    struct bh_metric        *m = NULL;
    struct bh_series        *s = NULL, *h = NULL, *over;
    struct bh_metric_options o = { .help = "Help.", .labels = labels, .max_series = 1 };
    char                     name[3][32], *text = NULL;
    size_t                   size = 0;
    bool                     well = true;

    for (int i = 0; i < 3; i++)
        (void)snprintf(name[i], sizeof name[i], "m%d.n%d.x", round, i);
    o.name = name[0];
    well &= bh_metric_new(&o, &m) == 0;
    s = bh_metric_with(m, "1", "\xff");
    bh_metric_add(s, 1);
    over = bh_metric_with(m, "2", "3");
    bh_metric_add(over, 1);
    well &= s != NULL && over != NULL;
    well &= bh_metric_counter(name[1], "Help.", &s) == 0;
    well &= bh_metric_histogram(name[2], "Help.", "s", &h) == 0;
    bh_metric_record(h, 1);
    well &= bh_metric_text(true, &text, &size) == 0;
    free(text);
    return well;
}

TEST_REAL(metrics, any_allocation_may_fail)
{
    int failed = 0;

    bh_tag_set(&(struct bh_tag){ .trace_id = { 1 }, .sampled = 1 });
    for (int nth = 1;; nth++) {
        fault_arm(FAULT_ALLOCATE, nth, ENOMEM);
        (void)count(nth);
        if (fault_disarm() == 0)
            break;
        failed++;
        EXPECT(count(nth)); /* the same names: what failed is made now */
    }
    EXPECT(failed >= 8);
}

static void *
add_three(void *arg)
{
    for (int i = 0; i < 3; i++)
        bh_metric_add(arg, 1);
    return NULL;
}

static bool
look(const struct bh_metric_info *info, const struct bh_metric_point *p, void *arg)
{
    (void)info;
    *(int64_t *)arg = p->integer;
    return true;
}

/* A thread begins without cells: the nth allocation of its first update fails. */
static void
expect_lost(int nth, uint64_t lost)
{
    struct bh_series      *s = NULL;
    struct bh_metric_stats stats;
    pthread_t              thread;
    int64_t                value = 0;

    EXPECT_EQ(bh_metric_counter("c", "Help.", &s), 0);
    fault_arm(FAULT_ALLOCATE, nth, ENOMEM);
    EXPECT_EQ(pthread_create(&thread, NULL, add_three, s), 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(fault_disarm(), lost);
    bh_metric_stats(&stats);
    EXPECT_EQ(stats.lost, lost);
    EXPECT_EQ(bh_metric_each(look, &value), 0);
    EXPECT_EQ(value, 3 - (int64_t)lost);
}

TEST_REAL(metrics, a_threads_shard_may_find_no_memory)
{
    expect_lost(1, 1);
}

TEST_REAL(metrics, a_threads_cells_may_find_no_memory)
{
    expect_lost(2, 1);
}

TEST_REAL(metrics, a_threads_first_update_allocates_twice)
{
    expect_lost(3, 0);
}

TEST_REAL(log, a_start_without_memory_or_thread_is_an_error_value)
{
    int fd = memfd_create("log", MFD_CLOEXEC);

    fault_arm(FAULT_MMAP, 1, ENOMEM);
    EXPECT_EQ(bh_log_start(&(struct bh_log_options){ .fd = fd }), -ENOMEM);
    EXPECT_EQ(fault_disarm(), 1);
    fault_arm(FAULT_THREAD, 1, EAGAIN);
    EXPECT_EQ(bh_log_start(&(struct bh_log_options){ .fd = fd }), -EAGAIN);
    EXPECT_EQ(fault_disarm(), 1);
    for (int nth = 1;; nth++) {
        int rc;

        fault_arm(FAULT_ALLOCATE, nth, ENOMEM);
        rc = bh_log_start(&(struct bh_log_options){ .fd = fd });
        if (rc == 0) {
            bh_log(BH_INFO, "line", BH_INT("nth", nth));
            EXPECT_EQ(bh_log_stop(5 * BH_SECOND), 0);
        }
        if (fault_disarm() == 0)
            break;
    }
    EXPECT(lseek(fd, 0, SEEK_CUR) > 0);
    (void)close(fd);
}
