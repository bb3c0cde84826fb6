/* bundle_test.c -- ids, and what is done about directories that others left. */

#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "report.h"

TEST_PLAIN(bundle, ids_sort_by_time_and_in_the_order_they_were_made)
{
    char before[OB_ID + 1] = "", id[OB_ID + 1];

    for (int i = 0; i < 10000; i++) {
        ob_id_make(id, (int64_t)1764061200000 * 1000000 + i * 100000);
        EXPECT(ob_id_valid(id));
        EXPECT(strcmp(before, id) < 0);
        memcpy(before, id, sizeof id);
    }
    ob_id_make(id, 0); /* the clock went back */
    EXPECT(strcmp(before, id) < 0);
}

TEST_PLAIN(bundle, an_id_is_a_ulid)
{
    char id[OB_ID + 1];

    ob_id_make(id, (int64_t)1469918176385 * 1000000);
    EXPECT(strncmp(id, "01ARYZ6S41", 10) == 0); /* the specification's example */
    EXPECT(!ob_id_valid("01ARYZ6S41"));
    EXPECT(!ob_id_valid("01ARYZ6S41TSV4RRFFQ69G5FA."));
    EXPECT(!ob_id_valid("01ARYZ6S41TSV4RRFFQ69G5FAI"));
    EXPECT(ob_id_valid("01ARYZ6S41TSV4RRFFQ69G5FAV"));
}

static void
make(const char *directory, const char *name, const char *file)
{
    char path[OB_PATH];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    EXPECT_EQ(mkdir(path, 0700), 0);
    if (file == NULL)
        return;
    snprintf(path, sizeof path, "%s/%s/%s", directory, name, file);
    int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    EXPECT(fd >= 0);
    EXPECT_EQ(write(fd, "{}", 2), 2);
    close(fd);
}

static bool
there(const char *directory, const char *name)
{
    char path[OB_PATH];

    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

TEST_PLAIN(bundle, what_a_dead_process_left_is_salvaged)
{
    char directory[] = "/tmp/bulkhead_bundle_XXXXXX", mine[64], command[64];

    EXPECT(mkdtemp(directory) != NULL);
    make(directory, ".01ARYZ6S41TSV4RRFFQ69G5FAV.2147483646", "report.json");
    make(directory, ".01ARYZ6S41TSV4RRFFQ69G5FAW.2147483646", "heap.pb.gz");
    snprintf(mine, sizeof mine, ".01ARYZ6S41TSV4RRFFQ69G5FAX.%d", (int)getpid());
    make(directory, mine, "report.json");
    make(directory, ".other", "report.json");
    ob_bundle_salvage(directory);
    EXPECT(there(directory, "01ARYZ6S41TSV4RRFFQ69G5FAV/MANIFEST"));
    EXPECT(!there(directory, ".01ARYZ6S41TSV4RRFFQ69G5FAW.2147483646"));
    EXPECT(!there(directory, "01ARYZ6S41TSV4RRFFQ69G5FAW"));
    EXPECT(there(directory, mine));
    EXPECT(there(directory, ".other/report.json"));
    snprintf(command, sizeof command, "rm -rf '%s'", directory);
    EXPECT_EQ(system(command), 0);
}

/* With ids from..to - 1; each hundredth has a file. */
static void
make_reports(const char *directory, int from, int to)
{
    char id[OB_ID + 1];

    for (int i = from; i < to; i++) {
        snprintf(id, sizeof id, "%026d", i);
        make(directory, id, i % 100 == 0 ? "report.json" : NULL);
    }
}

TEST_PLAIN(bundle, of_too_many_reports_the_oldest_go_whatever_their_size)
{
    char directory[] = "/tmp/bulkhead_bundle_XXXXXX", command[64], id[OB_ID + 1];

    EXPECT(mkdtemp(directory) != NULL);
    make_reports(directory, 1000, 5095);
    make(directory, "0 not a report", NULL);
    EXPECT_EQ(ob_bundle_quota(directory, 1 << 30, ""), 0); /* 4095 of them */
    make_reports(directory, 0, 1000);
    make_reports(directory, 5095, 9500);
    snprintf(id, sizeof id, "%026d", 9499);
    EXPECT_EQ(ob_bundle_quota(directory, 1 << 30, id), 9500 - 4095);
    EXPECT(there(directory, id));
    snprintf(id, sizeof id, "%026d", 9500 - 4095);
    EXPECT(there(directory, id));
    snprintf(id, sizeof id, "%026d", 9500 - 4095 - 1);
    EXPECT(!there(directory, id));
    EXPECT(there(directory, "0 not a report"));
    /* From 5405 on they are there, and 9400 is the last that takes room. */
    EXPECT_EQ(ob_bundle_quota(directory, 0, id), 9400 - 5405 + 1);
    snprintf(command, sizeof command, "rm -rf %s", directory);
    EXPECT_EQ(system(command), 0);
}
