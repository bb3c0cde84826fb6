/*
 * program.c -- allocates, waits and contends in known amounts, then writes its profiles into the
 * folder that argv[1] names.  check.py compares what Go's pprof says of them.
 */

#include <stdio.h>
#include <stdlib.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/contention.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/heap.h>
#include <bulkhead/observe/profile.h>

enum { KEPT = 32 * 1024, BLOCK = 4096, CHURNED = 64 * 1024, WAITS = 20 };

static const char *folder;

static void
write_profile(const char *name)
{
    struct bh_profile_bytes bytes;
    char                    path[4096];
    FILE                   *f;

    if (bh_profile_take(name, NULL, &bytes) != 0)
        exit(3);
    (void)snprintf(path, sizeof path, "%s/%s.pb.gz", folder, name);
    f = fopen(path, "wb");
    if (f == NULL || fwrite(bytes.data, 1, bytes.size, f) != bytes.size || fclose(f) != 0)
        exit(4);
    free(bytes.data);
}

static __attribute__((noinline)) void
keep_much(void **kept)
{
    for (int i = 0; i < KEPT; i++)
        kept[i] = malloc(BLOCK);
    __asm__ volatile("" : : "r"(kept) : "memory");
}

static __attribute__((noinline)) void
churn_much(void)
{
    for (int i = 0; i < CHURNED; i++) {
        void *p = malloc(BLOCK);

        __asm__ volatile("" : "+r"(p));
        free(p);
    }
}

static __attribute__((noinline)) void
wait_for_value(void *args)
{
    struct bh_chan *c = *(struct bh_chan **)args;
    int             got;

    bh_tag_set(&(struct bh_tag){ .route = "/slow" });
    while (bh_recv(c, &got))
        ;
    __asm__ volatile("");
}

static __attribute__((noinline)) void
hold_lock(struct bh_mutex *m)
{
    bh_mutex_lock(m);
    bh_sleep(10 * BH_MILLISECOND);
    bh_mutex_unlock(m);
    __asm__ volatile("");
}

static void
want_lock(void *args)
{
    struct bh_mutex *m = *(struct bh_mutex **)args;

    for (int i = 0; i < WAITS; i++) {
        bh_mutex_lock(m);
        bh_mutex_unlock(m);
        bh_sleep(BH_MILLISECOND);
    }
}

static void
contend(void)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    struct bh_mutex m = { 0 }, *pointer = &m;

    bh_go(wait_for_value, &c);
    for (int i = 0; i < WAITS; i++) {
        bh_sleep(10 * BH_MILLISECOND);
        bh_send(c, &i);
    }
    bh_close(c);
    bh_go(want_lock, &pointer);
    for (int i = 0; i < WAITS; i++)
        hold_lock(&m);
    while (bh_goroutine_count() > 1)
        bh_sleep(BH_MILLISECOND);
    bh_chan_unref(c);
}

static void
run(void *args)
{
    void **kept = calloc(KEPT, sizeof *kept);

    (void)args;
    if (kept == NULL || bh_heap_profile_start(32 * 1024) != 0)
        exit(3);
    if (bh_block_profile_rate(1) != 0 || bh_mutex_profile_fraction(1) != 0)
        exit(3);
    keep_much(kept);
    churn_much();
    contend();
    write_profile("heap");
    write_profile("allocs");
    write_profile("block");
    write_profile("mutex");
    for (int i = 0; i < KEPT; i++)
        free(kept[i]);
    free(kept);
}

int
main(int argc, char **argv)
{
    if (argc != 2)
        return 2;
    folder = argv[1];
    return bh_main(run, NULL);
}
