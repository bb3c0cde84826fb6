#include "test.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/chan.h>
#include <bulkhead/go/stack.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/observe/heap.h>

/* A sanitizer has an allocator of its own: there all that can be seen is that it is left alone. */
#define START(rate)                                                                            \
    do {                                                                                       \
        int started = bh_heap_profile_start(rate);                                             \
                                                                                               \
        EXPECT_EQ(started, test_sanitized ? -ENOTSUP : 0);                                     \
        if (started != 0)                                                                      \
            return;                                                                            \
    } while (0)

/* ---- reading: sums over the sites with a function on their stack ---------------------------- */

struct want {
    const char *in;    /* the function; NULL: any */
    const char *route; /* NULL: any */
    int         sites;
    int64_t     alloc_objects, alloc_bytes, inuse_objects, inuse_bytes;
};

/* The calls at an address as text, looked up once. */
static const char *
text_at(uintptr_t pc)
{
    static struct {
        uintptr_t pc;
        char      text[1024];
    } known[512];
    size_t at = pc % 509;

    while (known[at].pc != pc && known[at].pc != 0)
        at = (at + 1) % 512;
    if (known[at].pc == 0) {
        known[at].pc = pc;
        (void)bh_stack_text(&pc, 1, known[at].text, sizeof known[at].text);
    }
    return known[at].text;
}

static bool
on_stack(const struct bh_heap_site *s, const char *function)
{
    char call[64];

    (void)snprintf(call, sizeof call, "%s(...)", function);
    for (int i = 0; i < s->depth; i++)
        if (strstr(text_at(s->pcs[i]), call) != NULL)
            return true;
    return false;
}

static bool
match(const struct bh_heap_site *s, void *arg)
{
    struct want *w = arg;

    if (w->in != NULL && !on_stack(s, w->in))
        return true;
    if (w->route != NULL && (s->route == NULL || strcmp(w->route, s->route) != 0))
        return true;
    w->sites++;
    w->alloc_objects += s->alloc_objects;
    w->alloc_bytes += s->alloc_bytes;
    w->inuse_objects += s->inuse_objects;
    w->inuse_bytes += s->inuse_bytes;
    return true;
}

static struct want
sites(const char *in)
{
    struct want w = { .in = in };

    (void)bh_heap_profile(match, &w);
    return w;
}

/* ---- everything, exactly ------------------------------------------------------------------ */

static __attribute__((noinline)) void *
allocate_here(size_t size)
{
    void *p = malloc(size);

    __asm__ volatile("" : "+r"(p));
    return p;
}

static __attribute__((noinline)) void *
allocate_there(size_t size)
{
    void *p = allocate_here(size);

    __asm__ volatile("" : "+r"(p));
    return p;
}

TEST_REAL(heap, at_rate_1_it_is_exact)
{
    void        *p[10];
    struct want  w;
    volatile int ten = 10; /* unrolled, they would be ten places */

    START(1);
    for (int i = 0; i < ten; i++)
        p[i] = allocate_there(1000);
    for (int i = 0; i < 4; i++)
        free(p[i]);
    w = sites("allocate_there");
    EXPECT_EQ(w.alloc_objects, 10);
    EXPECT_EQ(w.alloc_bytes, 10000);
    EXPECT_EQ(w.inuse_objects, 6);
    EXPECT_EQ(w.inuse_bytes, 6000);
    EXPECT_EQ(w.sites, 1);
    for (int i = 4; i < 10; i++)
        free(p[i]);
    EXPECT_EQ(sites("allocate_there").inuse_objects, 0);
}

TEST_REAL(heap, the_innermost_call_is_the_one_that_allocates)
{
    struct want w = { .in = "our_malloc" };
    void       *p;

    START(1);
    p = allocate_here(10);
    (void)bh_heap_profile(match, &w);
    EXPECT_EQ(w.sites, 0); /* the machinery does not show */
    EXPECT_EQ(sites("allocate_here").inuse_bytes, 10);
    free(p);
}

static __attribute__((noinline)) void *
every_kind(int kind, size_t size)
{
    void *p = NULL;

    switch (kind) {
    case 0:
        p = malloc(size);
        break;
    case 1:
        p = calloc(size / 10, 10);
        break;
    case 2:
        p = realloc(NULL, size);
        break;
    case 3:
        p = aligned_alloc(64, size);
        break;
    case 4:
        EXPECT_EQ(posix_memalign(&p, 4096, size), 0);
        break;
    case 5:
        p = reallocarray(NULL, size / 10, 10);
        break;
    }
    __asm__ volatile("" : "+r"(p));
    return p;
}

TEST_REAL(heap, every_kind_of_allocation_is_seen_once)
{
    enum { KINDS = 6 };
    void       *p[KINDS];
    struct want w;

    START(1);
    for (int i = 0; i < KINDS; i++)
        p[i] = every_kind(i, 640);
    w = sites("every_kind");
    EXPECT_EQ(w.inuse_objects, KINDS);
    EXPECT_EQ(w.inuse_bytes, KINDS * 640);
    for (int i = 0; i < KINDS; i++)
        free(p[i]);
    EXPECT_EQ(sites("every_kind").inuse_bytes, 0);
}

static __attribute__((noinline)) char *
duplicate(const char *text)
{
    char *copy = strdup(text);

    __asm__ volatile("" : "+r"(copy));
    return copy;
}

/* The C library's own calls are redirected too.  It has no frame pointers: the nearest call is lost. */
TEST_REAL(heap, what_the_c_library_allocates_is_seen)
{
    struct want before, after;
    char       *copy;

    START(1);
    before = sites(NULL);
    copy = duplicate("a string of 24 letters..");
    after = sites(NULL);
    EXPECT(after.inuse_bytes - before.inuse_bytes >= 25);
    free(copy);
}

static __attribute__((noinline)) void *
grow(void *p, size_t size)
{
    p = realloc(p, size);
    __asm__ volatile("" : "+r"(p));
    return p;
}

TEST_REAL(heap, realloc_moves_the_charge)
{
    void *p;

    START(1);
    p = grow(allocate_here(100), 5000);
    EXPECT_EQ(sites("allocate_here").inuse_bytes, 0);
    EXPECT_EQ(sites("grow").inuse_objects, 1);
    EXPECT_EQ(sites("grow").inuse_bytes, 5000);
    free(p);
    EXPECT_EQ(sites("grow").inuse_bytes, 0);
}

TEST_REAL(heap, a_realloc_that_fails_changes_nothing)
{
    void           *p, *q;
    volatile size_t too_much = PTRDIFF_MAX;

    START(1);
    p = allocate_here(100);
    q = realloc(p, too_much);
    EXPECT(q == NULL);
    EXPECT_EQ(errno, ENOMEM);
    EXPECT_EQ(sites("allocate_here").inuse_bytes, 100);
    free(p);
    EXPECT_EQ(sites("allocate_here").inuse_bytes, 0);
}

TEST_REAL(heap, a_realloc_to_nothing_frees)
{
    void *p;

    START(1);
    p = allocate_here(100);
    p = realloc(p, 0);
    EXPECT(p == NULL);
    EXPECT_EQ(sites("allocate_here").inuse_bytes, 0);
}

TEST_REAL(heap, an_allocation_that_fails_is_none)
{
    volatile size_t too_much = PTRDIFF_MAX / 2;
    void           *p;

    START(1);
    p = allocate_here(too_much);
    EXPECT(p == NULL);
    EXPECT_EQ(errno, ENOMEM);
    p = calloc(too_much, 16);
    __asm__ volatile("" : "+r"(p)); /* compilers think that it succeeds */
    EXPECT(p == NULL);
    EXPECT_EQ(sites("allocate_here").sites, 0);
    p = allocate_here(7);
    EXPECT_EQ(sites("allocate_here").alloc_bytes, 7); /* and it goes on */
    free(p);
}

TEST_REAL(heap, stopped_it_samples_no_more_but_notices_frees)
{
    void                *p, *q;
    struct bh_heap_stats stats;

    START(1);
    p = allocate_here(100);
    bh_heap_profile_stop();
    q = allocate_here(100);
    EXPECT_EQ(sites("allocate_here").alloc_objects, 1);
    bh_heap_stats_read(&stats);
    EXPECT_EQ(stats.rate, 0);
    free(p);
    free(q);
    EXPECT_EQ(sites("allocate_here").inuse_objects, 0);
    EXPECT_EQ(sites("allocate_here").alloc_objects, 1);
}

TEST_REAL(heap, before_it_starts_there_is_nothing)
{
    struct bh_heap_stats stats;

    EXPECT_EQ(bh_heap_profile(match, &(struct want){ 0 }), 0);
    bh_heap_stats_read(&stats);
    EXPECT_EQ(stats.rate, 0);
    EXPECT_EQ(stats.samples, 0);
}

TEST_REAL(heap, a_site_carries_the_route_of_its_goroutine)
{
    struct want w = { .route = "/users/:id" };
    void       *p;

    START(1);
    bh_tag_set(&(struct bh_tag){ .route = "/users/:id" });
    p = allocate_here(300);
    bh_tag_set(NULL);
    (void)bh_heap_profile(match, &w);
    EXPECT_EQ(w.inuse_bytes, 300);
    free(p);
}

static __attribute__((noinline)) struct bh_arena *
fill_arena(void)
{
    struct bh_arena *a = bh_arena_new(0);

    for (int i = 0; i < 100; i++)
        (void)bh_arena_alloc(a, 1000);
    return a;
}

TEST_REAL(heap, an_arena_is_charged_by_the_block_and_cleared_at_once)
{
    struct bh_arena *a;

    START(1);
    a = fill_arena();
    EXPECT(sites("fill_arena").inuse_bytes >= 100 * 1000);
    bh_arena_free(a);
    EXPECT_EQ(sites("fill_arena").inuse_bytes, 0);
}

/* ---- samples, within their bounds ----------------------------------------------------------- */

enum { RATE = 64 * 1024 };

/*
 * n allocations of `size` that are kept.  The number of samples is binomial with p = 1 - e^-(size/rate),
 * so that of the estimate is sqrt(n (1 - p) / p) off.  Six of those: once in half a billion.
 */
static void
expect_estimate(int n, size_t size)
{
    void      **p = malloc((size_t)n * sizeof *p);
    double      chance = 1 - exp(-(double)size / RATE);
    double      bound = 6 * sqrt(n * (1 - chance) / chance) + n / 1000.0 + 1;
    struct want w;

    for (int i = 0; i < n; i++)
        p[i] = allocate_here(size);
    w = sites("allocate_here");
    EXPECT(fabs((double)w.alloc_objects - n) <= bound);
    EXPECT(fabs((double)w.alloc_bytes - (double)n * (double)size) <= bound * (double)size);
    EXPECT_EQ(w.inuse_objects, w.alloc_objects);
    EXPECT_EQ(w.inuse_bytes, w.alloc_bytes);
    for (int i = 0; i < n / 2; i++)
        free(p[i]);
    w = sites("allocate_here");
    EXPECT(fabs((double)w.inuse_objects - n / 2.0) <= bound);
    for (int i = n / 2; i < n; i++)
        free(p[i]);
    w = sites("allocate_here");
    EXPECT_EQ(w.inuse_objects, 0);
    EXPECT_EQ(w.inuse_bytes, 0);
    free(p);
}

TEST_REAL(heap, small_allocations_are_estimated_without_bias)
{
    START(RATE);
    expect_estimate(400 * 1000, 200);
}

/* About the rate, where weights are near 1.6: to round them would be a quarter off. */
TEST_REAL(heap, allocations_about_the_rate_are_estimated_without_bias)
{
    START(RATE);
    expect_estimate(4000, RATE);
}

TEST_REAL(heap, large_allocations_are_exact)
{
    void       *p[8];
    struct want w;

    START(RATE);
    for (int i = 0; i < 8; i++)
        p[i] = allocate_here(100 * RATE);
    w = sites("allocate_here");
    EXPECT_EQ(w.alloc_objects, 8);
    EXPECT_EQ(w.alloc_bytes, 8 * 100 * RATE);
    for (int i = 0; i < 8; i++)
        free(p[i]);
}

/* A mix of sizes whose sum is a multiple of the rate: every RATE bytes would always hit the same. */
TEST_REAL(heap, a_rhythm_of_sizes_does_not_fool_it)
{
    enum { ROUNDS = 4000 };
    struct want small, large;
    double      chance = 1 - exp(-(RATE - 512.0) / RATE);

    START(RATE);
    for (int i = 0; i < ROUNDS; i++) {
        free(allocate_there(RATE - 512));
        free(every_kind(0, 512));
    }
    large = sites("allocate_there");
    small = sites("every_kind");
    EXPECT(fabs((double)large.alloc_objects - ROUNDS) <=
           6 * sqrt(ROUNDS * (1 - chance) / chance));
    chance = 1 - exp(-512.0 / RATE);
    EXPECT(fabs((double)small.alloc_objects - ROUNDS) <=
           6 * sqrt(ROUNDS * (1 - chance) / chance));
    EXPECT_EQ(large.inuse_objects + small.inuse_objects, 0);
}

/* ---- threads and forks ------------------------------------------------------------------------ */

enum { THREADS = 4, ROUNDS = 20000, KEPT = 64 };

static __attribute__((noinline)) void *
churn(void *arg)
{
    void *kept[KEPT] = { NULL };

    (void)arg;
    for (int i = 0; i < ROUNDS; i++) {
        int at = i * 7 % KEPT;

        if (i % 5 == 0 && kept[at] != NULL) {
            kept[at] = realloc(kept[at], 64 + (size_t)(i % 1000));
        } else {
            free(kept[at]);
            kept[at] = malloc(16 + (size_t)(i % 2000));
        }
        memset(kept[at], i, 16);
    }
    for (int i = 0; i < KEPT; i++)
        free(kept[i]);
    return NULL;
}

TEST_REAL(heap, threads_that_free_all_leave_nothing)
{
    pthread_t            threads[THREADS];
    struct bh_heap_stats stats;

    START(256); /* many samples, many collisions */
    for (int i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_create(&threads[i], NULL, churn, NULL), 0);
    for (int i = 0; i < 20; i++)
        (void)sites(NULL);
    for (int i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_join(threads[i], NULL), 0);
    bh_heap_stats_read(&stats);
    EXPECT(stats.samples > 1000);
    EXPECT_EQ(sites("churn").inuse_objects, 0);
    EXPECT_EQ(sites("churn").inuse_bytes, 0);
    EXPECT(sites("churn").alloc_objects > THREADS * ROUNDS / 2);
}

static void
free_it(void *args)
{
    free(*(void **)args);
}

TEST_REAL(heap, another_thread_may_free)
{
    enum { N = 1000 };

    START(1);
    for (int i = 0; i < N; i++) {
        void *p = allocate_here(100);

        bh_go(free_it, &p);
        if (i % 10 == 0)
            bh_yield();
    }
    while (bh_goroutine_count() > 1)
        bh_yield();
    EXPECT_EQ(sites("allocate_here").alloc_objects, N);
    EXPECT_EQ(sites("allocate_here").inuse_objects, 0);
}

/* More than there are places for: counted as lost, and no inuse is invented. */
TEST_REAL(heap, too_many_live_samples_are_lost_not_wrong)
{
    enum { N = 100 * 1000 };
    void               **p;
    struct bh_heap_stats stats;
    struct want          w;

    START(1);
    p = malloc(N * sizeof *p);
    for (int i = 0; i < N; i++)
        p[i] = allocate_here(16);
    bh_heap_stats_read(&stats);
    w = sites("allocate_here");
    EXPECT_EQ(w.alloc_objects, N);
    EXPECT(stats.lost > 0);
    EXPECT(w.inuse_objects + (int64_t)stats.lost >= N);
    EXPECT(w.inuse_objects < N);
    for (int i = 0; i < N; i++)
        free(p[i]);
    EXPECT_EQ(sites("allocate_here").inuse_objects, 0);
    free(p);
}

static _Atomic bool stop;

static void *
sample_always(void *arg)
{
    while (!atomic_load(&stop)) {
        for (int i = 0; i < 100; i++)
            free(malloc(100));
        (void)sched_yield(); /* an emulator may run one thread at a time */
    }
    return arg;
}

TEST_REAL(heap, a_fork_in_the_middle_of_a_sample_leaves_the_child_going)
{
    pthread_t threads[2];

    START(1);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(pthread_create(&threads[i], NULL, sample_always, NULL), 0);
    for (int i = 0; i < 20; i++) {
        int   status = -1;
        pid_t pid = fork();

        if (pid == 0) {
            for (int k = 0; k < 200; k++)
                free(allocate_here((size_t)k));
            _exit(sites(NULL).alloc_objects > 0 ? 0 : 1);
        }
        EXPECT(pid > 0);
        EXPECT_EQ(waitpid(pid, &status, 0), pid);
        EXPECT_EQ(status, 0);
    }
    atomic_store(&stop, true);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(pthread_join(threads[i], NULL), 0);
}

static __attribute__((noinline)) void
deep(int n)
{
    if (n > 0)
        deep(n - 1);
    else
        free(allocate_here(50));
    __asm__ volatile("");
}

static bool
longest(const struct bh_heap_site *s, void *arg)
{
    int *most = arg;

    if (s->depth > *most && on_stack(s, "deep"))
        *most = s->depth;
    return true;
}

TEST_REAL(heap, a_deep_stack_keeps_its_inner_calls)
{
    int most = 0;

    START(1);
    deep(500);
    (void)bh_heap_profile(longest, &most);
    EXPECT_EQ(most, 64);
    EXPECT_EQ(sites("allocate_here").alloc_objects, 1);
}
