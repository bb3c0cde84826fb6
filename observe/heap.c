/*
 * heap.c -- the heap profile: sampling allocations.
 *
 * Started, it redirects what all modules import of the C library's allocator (imports.c) to the
 * functions at the end of this file, which call the real one and look whether it is time for
 * a sample.
 *
 * Which.  Imagine that every byte allocated is marked with probability 1/R, independently.  The
 * distance to the next mark is exponentially distributed, so each thread draws one and
 * counts it down by what it allocates: `left`.  An allocation of n bytes with a mark in it, which
 * has probability 1 - e^(-n/R), is a sample, and stands for 1 / (1 - e^(-n/R)) of its kind: this is
 * right on average for any mix of sizes, as taking every R bytes would not be.
 *
 * Samples are added to the row of their stack (base/stacktable.h).  For those that live, a table
 * has the address, the row, and what was added, to be subtracted when it is freed:
 *
 *     marks   one byte per hash of an address: how many sampled allocations with this hash live.  A
 *             free looks here, and is done if it is 0, as all but few are
 *     places  the WINDOW places from the hash on may hold it.  A place is FREE, TAKEN by someone
 *             who is filling or emptying it, or has the address
 *
 * Freeing takes the place before the real free, since after it another thread may get the
 * same address.  A realloc that fails puts it back.
 *
 * Nothing here locks or allocates: so it may run wherever an allocation may, and a fork at any
 * moment leaves the child able to go on.  A place or row being filled just then stays TAKEN.
 *
 * Stacks are walked along frame pointers: on goroutines by bh_stack, else between here and the end
 * of the thread's stack.  Code without frame pointers (much of libc) makes a walk skip a call or
 * end early, but not read outside of the stack; and what is no code's address ends it.
 *
 * After Go's runtime/mprof.go and tcmalloc's sampler.  We differ in being right for small counts
 * (weights have ten binary places), and in needing no lock.
 */

#include <bulkhead/observe/heap.h>

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <time.h>

#include <bulkhead/base/stacktable.h>
#include <bulkhead/go/stack.h>
#include <bulkhead/go/tag.h>

#include "imports.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define unlikely(x) __builtin_expect(!!(x), 0)

enum {
    ROWS = 8192,
    HASH_BITS = 16,
    MARKS = 1 << HASH_BITS,
    WINDOW = 16,
    UNIT = 1024,              /* of a weight */
    IDLE_BYTES = 1024 * 1024, /* how soon a thread looks again while it is stopped */
    OWN_FRAMES = 2,           /* sample, and the function called in malloc's place */
    STRIDE_MOST = 256 * 1024, /* no frame is larger, on a thread's stack */
};

enum { ALLOC_OBJECTS, ALLOC_BYTES, INUSE_OBJECTS, INUSE_BYTES }; /* counters of a row */

enum { FREE = 0, TAKEN = 1 }; /* place.address */

struct place {
    _Atomic uintptr_t   address;
    struct bh_stackrow *row;
    int64_t             weight, bytes; /* as added to the row */
};

static _Atomic uint8_t marks[MARKS];
static struct place   *places; /* MARKS + WINDOW */

static struct {
    pthread_mutex_t                 starting;
    _Atomic(struct bh_stacktable *) stacks;
    _Atomic size_t                  rate; /* 0: stopped */
    _Atomic uint64_t                samples, freed, lost, threads;
} heap = { .starting = PTHREAD_MUTEX_INITIALIZER };

/* One thread's distance to the next mark. */
static __thread __attribute__((tls_model("initial-exec"))) struct {
    size_t   left; /* an allocation of so many bytes is sampled */
    size_t   rate; /* that it was drawn for; 0: none was */
    uint64_t random;
} mine;

/* What we stand in front of. */
static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);
static void *(*real_memalign)(size_t, size_t);
static void *(*real_aligned_alloc)(size_t, size_t);
static int (*real_posix_memalign)(void **, size_t, size_t);

/* ---- chance -------------------------------------------------------------------------- */

/* Without libm: a runtime's users need not link it, and it could be anything. */
static double
natural_log(double x)
{
    uint64_t bits;
    int      exponent;
    double   s, square;

    memcpy(&bits, &x, sizeof bits);
    exponent = (int)(bits >> 52) - 1023;
    bits = (bits & 0xfffffffffffff) | UINT64_C(1023) << 52;
    memcpy(&x, &bits, sizeof x); /* in [1, 2) */
    s = (x - 1) / (x + 1);
    square = s * s;
    return exponent * 0.69314718055994531 +
           2 * s *
               (1 + square * (1.0 / 3 + square * (1.0 / 5 + square * (1.0 / 7 + square / 9))));
}

/* 1 - e^-x for x >= 0, to seven digits. */
static double
one_less_power(double x)
{
    double y = x / 1024, power;

    if (x > 40)
        return 1;
    if (x < 1e-4)
        return x - x * x / 2;
    power = 1 - y + y * y / 2 - y * y * y / 6;
    for (int i = 0; i < 10; i++)
        power *= power;
    return 1 - power;
}

static uint64_t
draw(void)
{
    if (mine.random == 0) {
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        mine.random = ((uint64_t)t.tv_nsec << 32) ^ (uint64_t)(uintptr_t)&mine ^
                      (atomic_fetch_add(&heap.threads, 1) + 1) * 0x9e3779b97f4a7c15;
        mine.random |= 1;
    }
    mine.random ^= mine.random << 13;
    mine.random ^= mine.random >> 7;
    mine.random ^= mine.random << 17;
    return mine.random * 0x2545f4914f6cdd1d;
}

/* Draw the distance to the next mark. */
static void
set_left(size_t rate)
{
    mine.rate = rate;
    if (rate == 0)
        mine.left = IDLE_BYTES;
    else if (rate == 1)
        mine.left = 1;
    else /* 53 bits in (0, 1] */
        mine.left =
            1 + (size_t)(-natural_log((double)((draw() >> 11) + 1) * 0x1p-53) * (double)rate);
}

/* How many allocations of this size the sample stands for, in UNITs. */
static double
weight_of(size_t size, size_t rate)
{
    return rate == 1 ? 1 : 1 / one_less_power((double)size / (double)rate);
}

/* ---- stacks -------------------------------------------------------------------------- */

/* The calls of a plain thread, or one in the scheduler; fp is in its stack. */
static int
thread_stack(uintptr_t fp, uintptr_t *pcs, int max)
{
    uintptr_t end =
        (uintptr_t)pthread_self(); /* glibc keeps it above the stack, but for main's */
    int count = 0;

    if (fp >= end)
        end = getauxval(AT_RANDOM); /* lies above main's */
    while (count < max && fp < end && end - fp >= 2 * sizeof fp && fp % sizeof fp == 0) {
        const uintptr_t *frame = (const uintptr_t *)fp;

        if (!ob_is_code(frame[1]))
            break;
        pcs[count++] = frame[1];
        if (frame[0] <= fp || frame[0] - fp > STRIDE_MOST)
            break;
        fp = frame[0];
    }
    return count;
}

/*
 * The calls that led to the allocation function, innermost first.  Inlined: frames are counted.
 * Returns: how many of pcs, from *first on.
 */
static inline __attribute__((always_inline)) int
stack_of(uintptr_t fp, uintptr_t *pcs, int max, int *first)
{
    int count = bh_stack(pcs, max), n = 0;

    *first = 1; /* its first is in our caller */
    if (count == 0) {
        *first = 0;
        count = thread_stack(fp, pcs, max);
    }
    *first += OWN_FRAMES - 1;
    while (*first + n < count && ob_is_code(pcs[*first + n]))
        n++;
    return n;
}

/* ---- samples that live ------------------------------------------------------------------ */

static inline size_t
hash(const void *p)
{
    return (size_t)(((uint64_t)(uintptr_t)p >> 4) * 0x9e3779b97f4a7c15 >> (64 - HASH_BITS));
}

/* Whether it may have been sampled. */
static inline bool
marked(const void *p)
{
    return unlikely(atomic_load_explicit(&marks[hash(p)], memory_order_relaxed) != 0);
}

static bool
take(struct place *place, uintptr_t what)
{
    return atomic_compare_exchange_strong_explicit(&place->address, &what, TAKEN,
                                                   memory_order_acquire, memory_order_relaxed);
}

static void
release(struct place *place, uintptr_t to)
{
    atomic_store_explicit(&place->address, to, memory_order_release);
}

/* Returns: false if there is no place. */
static bool
keep(void *p, struct bh_stackrow *row, int64_t weight, int64_t bytes)
{
    size_t h = hash(p);

    for (size_t i = h; i < h + WINDOW; i++) {
        struct place *place = &places[i];

        if (atomic_load_explicit(&place->address, memory_order_relaxed) != FREE ||
            !take(place, FREE))
            continue;
        place->row = row;
        place->weight = weight;
        place->bytes = bytes;
        atomic_fetch_add_explicit(&marks[h], 1, memory_order_relaxed);
        bh_stackrow_add(row, INUSE_OBJECTS, weight);
        bh_stackrow_add(row, INUSE_BYTES, bytes);
        release(place, (uintptr_t)p);
        return true;
    }
    return false;
}

/* Take the place of p, which is about to be freed.  Returns: NULL if it was not sampled. */
static __attribute__((noinline)) struct place *
find(void *p)
{
    size_t h = hash(p);

    for (size_t i = h; p != NULL && i < h + WINDOW; i++)
        if (atomic_load_explicit(&places[i].address, memory_order_relaxed) == (uintptr_t)p &&
            take(&places[i], (uintptr_t)p))
            return &places[i];
    return NULL;
}

/* It has been freed, or is about to be: from here on somebody else may get p. */
static void
forget(struct place *place, const void *p)
{
    bh_stackrow_add(place->row, INUSE_OBJECTS, -place->weight);
    bh_stackrow_add(place->row, INUSE_BYTES, -place->bytes);
    atomic_fetch_sub_explicit(&marks[hash(p)], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&heap.freed, 1, memory_order_relaxed);
    release(place, FREE);
}

/* ---- sampling --------------------------------------------------------------------------- */

/* Add it to its stack's row, and to those that live. */
static inline __attribute__((always_inline)) void
record(void *p, size_t size, size_t rate, uintptr_t fp)
{
    uintptr_t            pcs[2 * (BH_STACKTABLE_DEPTH + OWN_FRAMES + 1)];
    int                  first, depth = stack_of(fp, pcs, sizeof pcs / sizeof *pcs, &first);
    const struct bh_tag *tag = bh_tag_peek();
    uintptr_t            route = tag != NULL ? (uintptr_t)tag->route : 0;
    struct bh_stackrow  *row = bh_stacktable_row(heap.stacks, pcs + first, depth, route, 0);
    double               stands_for = weight_of(size, rate);
    int64_t              weight = (int64_t)(stands_for * UNIT);
    int64_t              bytes = (int64_t)(stands_for * (double)size);

    bh_stackrow_add(row, ALLOC_OBJECTS, weight);
    bh_stackrow_add(row, ALLOC_BYTES, bytes);
    atomic_fetch_add_explicit(&heap.samples, 1, memory_order_relaxed);
    if (!keep(p, row, weight, bytes))
        atomic_fetch_add_explicit(&heap.lost, 1, memory_order_relaxed);
}

/* `left` has run out, with an allocation at p.  Called by the functions below, and no deeper. */
static __attribute__((noinline, cold)) void
sample(void *p, size_t size)
{
    size_t rate = mine.rate;

    if (p == NULL)
        return;
    set_left(atomic_load_explicit(&heap.rate, memory_order_acquire));
    if (rate == 0) { /* it was only time to look: begin with this one */
        if (size < mine.left) {
            mine.left -= size;
            return;
        }
        rate = mine.rate;
        set_left(rate);
    }
    if (mine.rate != 0)
        record(p, size, rate, (uintptr_t)__builtin_frame_address(0));
}

/* The size decides alone, so that one over all limits, which fails, is no trouble. */
#define COUNT_DOWN(p, size)                                                                    \
    do {                                                                                       \
        if (unlikely((size) >= mine.left))                                                     \
            sample((p), (size));                                                               \
        else                                                                                   \
            mine.left -= (size);                                                               \
    } while (0)

/* ---- in place of the C library's ---------------------------------------------------------- */

static void *
our_malloc(size_t size)
{
    void *p = real_malloc(size);

    COUNT_DOWN(p, size);
    return p;
}

static void *
our_calloc(size_t count, size_t size)
{
    void  *p = real_calloc(count, size);
    size_t all = count * size; /* if this overflows p is NULL */

    COUNT_DOWN(p, all);
    return p;
}

static void
our_free(void *p)
{
    if (marked(p)) {
        struct place *place = find(p);

        if (place != NULL)
            forget(place, p);
    }
    real_free(p);
}

static void *
our_realloc(void *old, size_t size)
{
    struct place *place = marked(old) ? find(old) : NULL;
    void         *p = real_realloc(old, size);

    if (place != NULL) {
        if (p != NULL || size == 0)
            forget(place, old);
        else
            release(place, (uintptr_t)old);
    }
    COUNT_DOWN(p, size);
    return p;
}

static void *
our_memalign(size_t alignment, size_t size)
{
    void *p = real_memalign(alignment, size);

    COUNT_DOWN(p, size);
    return p;
}

static void *
our_aligned_alloc(size_t alignment, size_t size)
{
    void *p = real_aligned_alloc(alignment, size);

    COUNT_DOWN(p, size);
    return p;
}

static int
our_posix_memalign(void **to, size_t alignment, size_t size)
{
    int error = real_posix_memalign(to, alignment, size);

    if (error == 0)
        COUNT_DOWN(*to, size);
    return error;
}

/* ---- switches ---------------------------------------------------------------------------- */

static struct ob_import imports[] = {
    { "malloc", (void *)our_malloc, NULL },
    { "free", (void *)our_free, NULL },
    { "calloc", (void *)our_calloc, NULL },
    { "realloc", (void *)our_realloc, NULL },
    { "memalign", (void *)our_memalign, NULL },
    { "aligned_alloc", (void *)our_aligned_alloc, NULL },
    { "posix_memalign", (void *)our_posix_memalign, NULL },
};
enum { IMPORTS = sizeof imports / sizeof *imports };

static int
find_real(void)
{
    if (real_free != NULL)
        return 0;
    if (ob_imports_find(imports, IMPORTS) != IMPORTS)
        return -ENOTSUP;
    memcpy(&real_malloc, &imports[0].theirs, sizeof real_malloc);
    memcpy(&real_free, &imports[1].theirs, sizeof real_free);
    memcpy(&real_calloc, &imports[2].theirs, sizeof real_calloc);
    memcpy(&real_realloc, &imports[3].theirs, sizeof real_realloc);
    memcpy(&real_memalign, &imports[4].theirs, sizeof real_memalign);
    memcpy(&real_aligned_alloc, &imports[5].theirs, sizeof real_aligned_alloc);
    memcpy(&real_posix_memalign, &imports[6].theirs, sizeof real_posix_memalign);
    return 0;
}

static int
get_memory(void)
{
    void *memory;

    if (heap.stacks == NULL)
        heap.stacks = bh_stacktable_new(ROWS);
    if (heap.stacks == NULL)
        return -ENOMEM;
    if (places != NULL)
        return 0;
    memory = mmap(NULL, (MARKS + WINDOW) * sizeof *places, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED)
        return -ENOMEM;
    places = memory;
    return 0;
}

/* Of modules that were loaded since, too.  heap.starting is held. */
static int
redirect(void)
{
    int n = ob_imports_redirect(imports, IMPORTS);

    return n < 0 ? n : 0;
}

int
bh_heap_profile_start(size_t rate)
{
    int error;

    if (SANITIZED)
        return -ENOTSUP;
    (void)pthread_mutex_lock(&heap.starting);
    error = find_real();
    if (error == 0)
        error = get_memory();
    if (error == 0)
        error = redirect();
    if (error == 0)
        atomic_store_explicit(&heap.rate, rate != 0 ? rate : BH_HEAP_RATE,
                              memory_order_release);
    (void)pthread_mutex_unlock(&heap.starting);
    return error;
}

void
bh_heap_profile_stop(void)
{
    atomic_store_explicit(&heap.rate, 0, memory_order_relaxed);
}

/* ---- reading ------------------------------------------------------------------------------ */

struct visit {
    bool (*fn)(const struct bh_heap_site *s, void *arg);
    void *arg;
};

static int64_t
whole(int64_t weight)
{
    return (weight + UNIT / 2) / UNIT;
}

static bool
show(const struct bh_stackrow_view *v, void *arg)
{
    const struct visit       *visit = arg;
    const struct bh_heap_site s = {
        .pcs = v->pcs,
        .depth = v->depth,
        .route = (const char *)v->a,
        .alloc_objects = whole(v->counters[ALLOC_OBJECTS]),
        .alloc_bytes = v->counters[ALLOC_BYTES],
        .inuse_objects = whole(v->counters[INUSE_OBJECTS]),
        .inuse_bytes = v->counters[INUSE_BYTES],
    };

    return visit->fn(&s, visit->arg);
}

int
bh_heap_profile(bool (*fn)(const struct bh_heap_site *s, void *arg), void *arg)
{
    struct visit          visit = { fn, arg };
    struct bh_stacktable *stacks;

    /* Only tried: the lock may be held for ever, in the child of a fork. */
    if (atomic_load_explicit(&heap.rate, memory_order_relaxed) != 0 &&
        pthread_mutex_trylock(&heap.starting) == 0) {
        (void)redirect();
        (void)pthread_mutex_unlock(&heap.starting);
    }
    stacks = heap.stacks;
    return stacks != NULL ? bh_stacktable_each(stacks, show, &visit) : 0;
}

void
bh_heap_stats_read(struct bh_heap_stats *stats)
{
    uint64_t freed = atomic_load_explicit(&heap.freed, memory_order_acquire);
    uint64_t lost = atomic_load_explicit(&heap.lost, memory_order_acquire);
    uint64_t samples = atomic_load_explicit(&heap.samples, memory_order_acquire);

    *stats = (struct bh_heap_stats){
        .rate = atomic_load_explicit(&heap.rate, memory_order_relaxed),
        .samples = samples,
        .live = samples - lost - freed,
        .lost = lost,
    };
}
