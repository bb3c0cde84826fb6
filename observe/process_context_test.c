/* process_context_test.c -- what readers outside the process find, by OTEP 4719. */

#include <bulkhead/observe/resource.h>

#include "test.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "pb.h"

struct context {
    char          signature[8];
    uint32_t      version, size;
    uint64_t      published, payload;
    unsigned char data[8192];
};

/* Reads as a stranger does: by name, from /proc.  Returns: how many there are; *c is the last. */
static int
read_context(struct context *c)
{
    FILE         *maps = fopen("/proc/self/maps", "r");
    int           memory = open("/proc/self/mem", O_RDONLY), count = 0;
    char          line[512];
    unsigned long address;

    EXPECT(maps != NULL && memory >= 0);
    while (fgets(line, sizeof line, maps) != NULL) {
        if (strstr(line, "OTEL_CTX") == NULL)
            continue;
        count++;
        address = strtoul(line, NULL, 16);
        EXPECT_EQ(pread(memory, c, 32, (off_t)address), 32);
        EXPECT(c->size <= sizeof c->data);
        EXPECT_EQ(pread(memory, c->data, c->size, (off_t)c->payload), c->size);
    }
    fclose(maps);
    close(memory);
    return count;
}

/* A KeyValue with a string, as encoders write it, somewhere in the payload. */
static bool
says(const struct context *c, const char *key, const char *value)
{
    unsigned char wanted[512];
    size_t        k = strlen(key), v = strlen(value), n = 0;

    EXPECT(k + v < 120);
    wanted[n++] = 1 << 3 | PB_BYTES;
    wanted[n++] = (unsigned char)k;
    memcpy(wanted + n, key, k);
    n += k;
    wanted[n++] = 2 << 3 | PB_BYTES;
    wanted[n++] = (unsigned char)(v + 2);
    wanted[n++] = 1 << 3 | PB_BYTES;
    wanted[n++] = (unsigned char)v;
    memcpy(wanted + n, value, v);
    n += v;
    return memmem(c->data, c->size, wanted, n) != NULL;
}

TEST_PLAIN(process_context, is_found_by_its_name)
{
    static struct context c;
    uint64_t              published;

    EXPECT_EQ(read_context(&c), 0);
    EXPECT_EQ(bh_resource_set("service.name", "shop"), 0);
    EXPECT_EQ(bh_resource_publish(), 0);
    EXPECT_EQ(read_context(&c), 1);
    EXPECT_EQ(memcmp(c.signature, "OTEL_CTX", 8), 0);
    EXPECT_EQ(c.version, 2);
    EXPECT(c.published != 0);
    EXPECT(says(&c, "service.name", "shop"));
    EXPECT(says(&c, "threadlocal.schema_version", "tlsdesc_v1_dev"));
    EXPECT_EQ(c.data[0], 1 << 3 | PB_BYTES); /* the resource comes first */

    published = c.published;
    EXPECT_EQ(bh_resource_publish(), 0); /* again: nothing new */
    EXPECT_EQ(read_context(&c), 1);
    EXPECT_EQ(c.published, published);
}

TEST_PLAIN(process_context, is_not_a_childs_who_may_have_its_own)
{
    static struct context c;
    int                   status;

    EXPECT_EQ(bh_resource_publish(), 0);
    pid_t child = fork();
    if (child == 0) {
        bool good = read_context(&c) == 0 && bh_resource_publish() == 0 &&
                    read_context(&c) == 1 && says(&c, "telemetry.sdk.language", "c");
        _exit(good ? 0 : 1);
    }
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT_EQ(read_context(&c), 1);
}

/* More than there is room for: as many as fit, and the rest of the message whole. */
TEST_PLAIN(process_context, keeps_what_fits)
{
    static struct context c;
    static char           value[201];
    char                  key[32];

    memset(value, 'v', sizeof value - 1);
    for (int i = 0; i < 100; i++) {
        (void)snprintf(key, sizeof key, "key.%03d", i);
        if (bh_resource_set(key, value) != 0)
            break;
    }
    EXPECT_EQ(bh_resource_publish(), 0);
    EXPECT_EQ(read_context(&c), 1);
    EXPECT(c.size > 7500);
    EXPECT(says(&c, "threadlocal.schema_version", "tlsdesc_v1_dev"));
    EXPECT_EQ(c.data[0], 1 << 3 | PB_BYTES);
}
