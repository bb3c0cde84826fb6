/*
 * report_profiles.c -- the profiles of a bundle.
 *
 * They have been recorded all along; a panic only reads them.  Of those that count
 * since the start (heap, block, mutex) the difference to the previous report is
 * written too, FILE_delta.pb.gz: it shows what led to this one.
 */

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include <bulkhead/observe/profile.h>
#include <bulkhead/observe/report.h>

static int
write_profile(int fd, const struct bh_profile *p)
{
    struct bh_profile_bytes bytes;
    int                     rc = bh_profile_write(p, false, &bytes);

    if (rc < 0)
        return rc;
    for (size_t done = 0; rc == 0 && done < bytes.size;) {
        ssize_t n = write(fd, bytes.data + done, bytes.size - done);

        if (n > 0)
            done += (size_t)n;
        else if (n == 0 || errno != EINTR)
            rc = n == 0 ? -EIO : -errno;
    }
    free(bytes.data);
    return rc;
}

/* All that is known of a profile; arg: its name. */
static int
whole(int fd, int64_t deadline, void *arg)
{
    struct bh_profile *p;
    int                rc = bh_profile_collect(arg, NULL, &p);

    (void)deadline;
    if (rc < 0)
        return rc;
    rc = write_profile(fd, p);
    bh_profile_free(p);
    return rc;
}

struct delta {
    char               name[8];
    struct bh_profile *before; /* NULL: there has been no report */
};

/* What has changed since the report before. */
static int
since(int fd, int64_t deadline, void *arg)
{
    struct delta      *d = arg;
    struct bh_profile *now;
    int                rc = bh_profile_collect(d->name, NULL, &now), again;

    (void)deadline;
    if (rc < 0)
        return rc;
    if (d->before != NULL)
        rc = bh_profile_merge(now, d->before, -1);
    if (rc == 0)
        rc = write_profile(fd, now);
    /* And back, to be what the next one is compared with. */
    again = d->before != NULL ? bh_profile_merge(now, d->before, 1) : 0;
    bh_profile_free(d->before);
    d->before = again == 0 ? now : NULL;
    if (again < 0)
        bh_profile_free(now);
    return rc < 0 ? rc : again;
}

int
bh_report_profiles(void)
{
    static struct delta heap = { "heap", NULL }, block = { "block", NULL },
                        mutex = { "mutex", NULL };
    static char goroutine[] = "goroutine", cpu[] = "profile";
    static const struct {
        const char        *file;
        bh_report_part_fn *fn;
        void              *arg;
    } parts[] = {
        { "goroutine.pb.gz", whole, goroutine }, { "cpu.pb.gz", whole, cpu },
        { "heap.pb.gz", whole, heap.name },      { "heap_delta.pb.gz", since, &heap },
        { "block.pb.gz", whole, block.name },    { "block_delta.pb.gz", since, &block },
        { "mutex.pb.gz", whole, mutex.name },    { "mutex_delta.pb.gz", since, &mutex },
    };

    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        int rc = bh_report_add(parts[i].file, parts[i].fn, parts[i].arg);

        if (rc < 0 && rc != -EEXIST)
            return rc;
    }
    return 0;
}
