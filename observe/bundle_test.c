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
