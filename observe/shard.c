/*
 * shard.c -- cells: numbers that each thread adds to on its own.
 *
 * A cell has a number, and a place in every thread's shard.  Only its thread writes there,
 * with a plain load, add and store: no locked instruction, no shared cache line.  The value
 * is the sum over all shards.  A goroutine cannot change threads in the midst of it, since it
 * calls nothing that parks.
 *
 *     cell number:  chunk (11 bits), index in it (10 bits)
 *     shard:        chunks, made when the thread first touches one
 *
 * A thread that ends leaves its shard, with all it has counted, on the list, for the next
 * thread to go on with.  Shards and chunks are never freed, so reading needs no lock either.
 *
 * A signal handler may not update metrics: it could come between the load and the store.
 */

#include "series.h"

#include <pthread.h>
#include <stdlib.h>

#include <bulkhead/go/tag.h>

enum { CHUNK_BITS = 10, CHUNK_CELLS = 1 << CHUNK_BITS, MAX_CHUNKS = 2048 };

struct chunk {
    _Atomic uint64_t cell[CHUNK_CELLS];
};

struct shard {
    _Atomic(struct chunk *) chunks[MAX_CHUNKS];
    _Atomic bool            taken; /* a thread has it */
    struct shard           *next;  /* does not change once it is on the list */
};

static _Atomic(struct shard *) shards;
static _Atomic uint32_t        cells_used;

static __thread struct shard *mine __attribute__((tls_model("initial-exec")));

struct ob_metric_counts ob_metric_counts;

/* ---- shards and threads ------------------------------------------------------------ */

static pthread_key_t  at_exit;
static pthread_once_t at_exit_once = PTHREAD_ONCE_INIT;

static void
leave(void *p)
{
    struct shard *s = p;

    mine = NULL;
    atomic_store_explicit(&s->taken, false, memory_order_release);
}

static void
make_key(void)
{
    (void)pthread_key_create(&at_exit, leave);
}

static struct shard *
adopt(void)
{
    struct shard *s = atomic_load_explicit(&shards, memory_order_acquire);

    for (; s != NULL; s = s->next) {
        bool taken = atomic_load_explicit(&s->taken, memory_order_relaxed);

        if (!taken && atomic_compare_exchange_strong_explicit(
                          &s->taken, &taken, true, memory_order_acquire, memory_order_relaxed))
            return s;
    }
    s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    atomic_store_explicit(&s->taken, true, memory_order_relaxed);
    s->next = atomic_load_explicit(&shards, memory_order_acquire);
    while (!atomic_compare_exchange_weak_explicit(&shards, &s->next, s, memory_order_acq_rel,
                                                  memory_order_acquire))
        ;
    return s;
}

/* The cell, where the quick way found none.  Returns: NULL without memory. */
static __attribute__((noinline, cold)) _Atomic uint64_t *
make_cell(uint32_t number)
{
    struct chunk *c;

    if (mine == NULL) {
        (void)pthread_once(&at_exit_once, make_key);
        mine = adopt();
        if (mine == NULL || pthread_setspecific(at_exit, mine) != 0) {
            if (mine != NULL)
                leave(mine);
            return NULL;
        }
    }
    c = atomic_load_explicit(&mine->chunks[number >> CHUNK_BITS], memory_order_relaxed);
    if (c == NULL) {
        c = calloc(1, sizeof *c);
        if (c == NULL)
            return NULL;
        atomic_store_explicit(&mine->chunks[number >> CHUNK_BITS], c, memory_order_release);
    }
    return &c->cell[number % CHUNK_CELLS];
}

static inline _Atomic uint64_t *
cell_of(uint32_t number)
{
    struct shard *s = mine;

    if (__builtin_expect(s != NULL, 1)) {
        struct chunk *c =
            atomic_load_explicit(&s->chunks[number >> CHUNK_BITS], memory_order_relaxed);
        if (__builtin_expect(c != NULL, 1))
            return &c->cell[number % CHUNK_CELLS];
    }
    return make_cell(number);
}

bool
ob_cells_new(unsigned count, uint32_t *first)
{
    uint32_t used = atomic_load_explicit(&cells_used, memory_order_relaxed), start;

    do {
        start = used;
        if (start % CHUNK_CELLS + count > CHUNK_CELLS) /* all in one chunk */
            start = (start | (CHUNK_CELLS - 1)) + 1;
        if (start + count > MAX_CHUNKS * CHUNK_CELLS)
            return false;
    } while (!atomic_compare_exchange_weak_explicit(
        &cells_used, &used, start + count, memory_order_relaxed, memory_order_relaxed));
    *first = start;
    return true;
}

/* ---- reading --------------------------------------------------------------------- */

static uint64_t
read_cell(const struct shard *s, uint32_t number)
{
    struct chunk *c =
        atomic_load_explicit(&s->chunks[number >> CHUNK_BITS], memory_order_acquire);

    return c != NULL
               ? atomic_load_explicit(&c->cell[number % CHUNK_CELLS], memory_order_relaxed)
               : 0;
}

uint64_t
ob_cell_sum(uint32_t cell)
{
    uint64_t sum = 0;

    for (struct shard *s = atomic_load_explicit(&shards, memory_order_acquire); s != NULL;
         s = s->next)
        sum += read_cell(s, cell);
    return sum;
}

double
ob_cell_sum_double(uint32_t cell)
{
    double sum = 0;

    for (struct shard *s = atomic_load_explicit(&shards, memory_order_acquire); s != NULL;
         s = s->next)
        sum += ob_double(read_cell(s, cell));
    return sum;
}

/* ---- updates --------------------------------------------------------------------- */

/* Is this goroutine's request traced, so that it may be an example? */
static inline bool
is_traced(void)
{
    const struct bh_tag *tag = bh_tag_peek();

    return tag != NULL && tag->sampled != 0;
}

static inline void
add(_Atomic uint64_t *cell, uint64_t n)
{
    atomic_store_explicit(cell, atomic_load_explicit(cell, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

void
bh_metric_add(struct bh_series *s, int64_t n)
{
    _Atomic uint64_t *cell;

    if (s == NULL)
        return;
    if (s->takes != OB_ADD_SIGNED && (s->takes != OB_ADD || n < 0)) {
        ob_count(&ob_metric_counts.misused);
        return;
    }
    cell = cell_of(s->cell);
    if (cell == NULL) {
        ob_count(&ob_metric_counts.lost);
        return;
    }
    add(cell, (uint64_t)n);
    if (s->exemplars && is_traced())
        ob_example_keep(s, 0, (double)n);
}

void
bh_metric_record(struct bh_series *s, double value)
{
    const struct bh_metric_info *info;
    _Atomic uint64_t            *cells;
    double                       sum;
    int                          bucket;

    if (s == NULL)
        return;
    if (s->takes != OB_RECORD || value != value) {
        ob_count(&ob_metric_counts.misused);
        return;
    }
    info = &s->metric->info;
    cells = cell_of(s->cell);
    if (cells == NULL) {
        ob_count(&ob_metric_counts.lost);
        return;
    }
    bucket = ob_bucket_of(info, value);
    add(&cells[bucket + 1], 1);
    sum = ob_double(atomic_load_explicit(cells, memory_order_relaxed)) + value;
    atomic_store_explicit(cells, ob_bits(sum), memory_order_relaxed);
    if (is_traced())
        ob_example_keep(s, bucket, value);
}

void
bh_metric_set(struct bh_series *s, double value)
{
    uint64_t old;

    if (s == NULL)
        return;
    if (s->takes == OB_SET) {
        atomic_store_explicit(&s->set, ob_bits(value), memory_order_relaxed);
        return;
    }
    if (s->takes != OB_SET_GREATER || !(value >= 0)) {
        ob_count(&ob_metric_counts.misused);
        return;
    }
    old = atomic_load_explicit(&s->set, memory_order_relaxed);
    while (value > ob_double(old) &&
           !atomic_compare_exchange_weak_explicit(&s->set, &old, ob_bits(value),
                                                  memory_order_relaxed, memory_order_relaxed))
        ;
}
