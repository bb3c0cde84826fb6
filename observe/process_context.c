/*
 * process_context.c -- who this process is, for readers outside it: OTEP 4719.
 *
 * A reader finds the mapping by its name in /proc/PID/maps, and in it
 *
 *     header    "OTEL_CTX", version, size of the payload, when it was published, where it is
 *     payload   ProcessContext { 1: Resource, 2: KeyValue ... } in protobuf
 *
 * The signature is written last: before, there is nothing to be read.  A resource does not change
 * once somebody has asked for it, so nothing is ever updated.  The mapping stays as long as the
 * process, and is not a child's.
 *
 * The second field tells readers of threads (OTEP 4947) that there are records, which have no
 * attributes beside the trace's.
 */

#include <bulkhead/observe/resource.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/error.h>

#include "otlp.h"

#ifndef PR_SET_VMA
#define PR_SET_VMA           0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

enum { VERSION = 2, SIZE = 8192, FRAME = 16 /* bytes kept for a tag and a length */ };

struct header {
    _Atomic uint64_t signature;
    uint32_t         version, payload_size;
    uint64_t         published_ns; /* CLOCK_BOOTTIME */
    uint64_t         payload;      /* its address */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pid_t           publisher; /* 0: nobody has */

static const char name[] = "OTEL_CTX";

/* The end of what lies at `to`, written backwards.  Returns: how much. */
static size_t
encode(void *to, size_t size)
{
    static const char key_map[] = "threadlocal.attribute_key_map",
                      schema[] = "threadlocal.schema_version", kind[] = "tlsdesc_v1_dev";
    struct pb w;
    size_t    mark;

    pb_init(&w, to, size);
    mark = pb_begin(&w);
    pb_bytes_always(&w, 5, "", 0); /* an empty array */
    pb_end(&w, 2, mark);
    pb_string(&w, 1, key_map);
    pb_end(&w, 2, mark);
    ob_otlp_attribute(&w, 2, schema, sizeof schema - 1, kind, sizeof kind - 1);
    mark = pb_begin(&w);
    w.start += FRAME;
    ob_otlp_resource(&w);
    w.start -= FRAME;
    pb_end(&w, 1, mark);
    return pb_length(&w);
}

/* Memory that is named by the file behind it, or by the kernel's own means.  Returns: MAP_FAILED. */
static void *
map(void)
{
    int   fd = memfd_create(name, MFD_CLOEXEC);
    void *p = MAP_FAILED;

    if (fd >= 0 && ftruncate(fd, SIZE) == 0)
        p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED)
        p = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (fd >= 0)
        close(fd);
    if (p != MAP_FAILED && madvise(p, SIZE, MADV_DONTFORK) != 0) {
        int saved = errno;

        munmap(p, SIZE);
        errno = saved;
        p = MAP_FAILED;
    }
    return p;
}

static int
publish(void)
{
    struct header  *h = map();
    struct timespec t = { .tv_nsec = 1 };
    uint64_t        signature;

    if (h == MAP_FAILED)
        return bh_fail(-errno, "no memory to publish the resource in");
    (void)clock_gettime(CLOCK_BOOTTIME, &t);
    h->version = VERSION;
    h->payload_size = (uint32_t)encode(h + 1, SIZE - sizeof *h);
    h->payload = (uintptr_t)h + SIZE - h->payload_size;
    h->published_ns = (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
    memcpy(&signature, name, sizeof signature);
    atomic_store_explicit(&h->signature, signature, memory_order_release);
    /* Where it cannot be named so, readers watch for the attempt. */
    (void)prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, h, SIZE, name);
    return 0;
}

int
bh_resource_publish(void)
{
    int rc = 0;

    pthread_mutex_lock(&lock);
    if (publisher != getpid())
        rc = publish();
    if (rc == 0)
        publisher = getpid();
    pthread_mutex_unlock(&lock);
    return rc;
}
