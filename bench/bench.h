#ifndef BULKHEAD_BENCH_BENCH_H
#define BULKHEAD_BENCH_BENCH_H

/*
 * bench.h -- what the benchmark programs share: a clock, memory in use, a crowd, a
 * table of tests.  A program runs the one test named on its command line and prints
 * "metric<TAB>value" for each thing it measured.
 */

#include <ftw.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/inspect.h>

struct bench {
    const char *name;
    int         procs; /* Ps it runs on */
    bh_fn      *run;   /* the main goroutine */
};

static inline int64_t
bench_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* bench_resident -- bytes of this process that are in memory. */
static inline int64_t
bench_resident(void)
{
    FILE *f = fopen("/proc/self/statm", "r");
    long  pages = 0;

    if (f == NULL || fscanf(f, "%*s %ld", &pages) != 1)
        exit(1);
    fclose(f);
    return (int64_t)pages * sysconf(_SC_PAGESIZE);
}

/*
 * bench_warm -- use this much memory and give it back.  A virtual machine's host may
 * have taken pages that were free for a while; getting them again costs ten times
 * what a page costs, and whoever runs first would pay.
 */
static inline void
bench_warm(size_t size)
{
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (p != MAP_FAILED)
        munmap(p, size);
}

static inline void
bench_crowd_wait_(void *args)
{
    (void)bh_recv(*(struct bh_chan **)args, NULL);
}

/* bench_crowd -- count goroutines that wait, with their stacks; bench_uncrowd ends them. */
static inline struct bh_chan *
bench_crowd(int count)
{
    struct bh_chan         *gate = BH_CHAN(int, 0);
    struct bh_runtime_stats s;

    for (int i = 0; i < count; i++)
        bh_go(bench_crowd_wait_, &gate);
    do {
        bh_sleep(1000000);
        bh_runtime_stats_read(&s);
    } while (s.goroutines[BH_GOROUTINE_WAITING] < count);
    return gate;
}

static inline void
bench_uncrowd(struct bh_chan *gate)
{
    bh_close(gate);
    while (bh_goroutine_count() > 1)
        bh_yield();
    bh_chan_unref(gate);
}

static inline int
bench_remove_one_(const char *path, const struct stat *status, int type, struct FTW *where)
{
    (void)status, (void)type, (void)where;
    return remove(path);
}

/* bench_remove -- a directory with all that is in it. */
static inline void
bench_remove(const char *directory)
{
    (void)nftw(directory, bench_remove_one_, 8, FTW_DEPTH | FTW_PHYS);
}

static inline void
bench_print(const char *metric, double value)
{
    printf("%s\t%.4g\n", metric, value);
}

/* bench_main -- run the test that argv names.  Returns: the exit status. */
static inline int
bench_main(const struct bench *tests, int argc, char **argv)
{
    for (const struct bench *t = tests; argc == 2 && t->name != NULL; t++) {
        if (strcmp(t->name, argv[1]) == 0)
            return bh_main_with(&(struct bh_options){ .procs = t->procs }, t->run, NULL);
    }
    fprintf(stderr, "usage: %s TEST, one of:", argv[0]);
    for (const struct bench *t = tests; t->name != NULL; t++)
        fprintf(stderr, " %s", t->name);
    fprintf(stderr, "\n");
    return 2;
}

#endif
