/*
 * report_timeline.c -- the flight recorder's content in a bundle: trace.out for go tool
 * trace, trace.json for Chrome and Perfetto.
 *
 * It goes on recording while the report is made, so the end of it is the report
 * itself; the events about the panicking goroutine were noted with the panic.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <bulkhead/observe/report.h>
#include <bulkhead/observe/timeline.h>

typedef int encode_fn(const struct bh_timeline *t, char **data, size_t *size);

static int
write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);

        if (n <= 0 && errno != EINTR)
            return n == 0 ? -EIO : -errno;
        if (n > 0) {
            data += n;
            size -= (size_t)n;
        }
    }
    return 0;
}

static int
write_timeline(int fd, encode_fn *encode)
{
    struct bh_timeline t;
    char              *data;
    size_t             size;
    int                rc = bh_timeline_collect(0, NULL, &t);

    if (rc < 0)
        return rc;
    rc = encode(&t, &data, &size);
    bh_timeline_free(&t);
    if (rc < 0)
        return rc;
    rc = write_all(fd, data, size);
    free(data);
    return rc;
}

static int
for_go(int fd, int64_t deadline, void *arg)
{
    (void)deadline;
    (void)arg;
    return write_timeline(fd, bh_timeline_go);
}

static int
for_chrome(int fd, int64_t deadline, void *arg)
{
    (void)deadline;
    (void)arg;
    return write_timeline(fd, bh_timeline_chrome);
}

int
bh_report_timeline(void)
{
    int rc = bh_report_add("trace.out", for_go, NULL);

    if (rc == 0 || rc == -EEXIST)
        rc = bh_report_add("trace.json", for_chrome, NULL);
    return rc == -EEXIST ? 0 : rc;
}
