/*
 * stacktable.c -- counters per call stack.
 *
 * An open hash table in one mapping, which is never grown: a stack's rows are the
 * PROBES that follow its hash, and when none of them is free, the row `rest` takes it.  A row's
 * key says what it is:
 *
 *     FREE --claimed by compare-and-swap--> FILLING --filled in--> the stack's hash
 *
 * From then on everything but the counters stays as it is; there is no way back.  Who
 * meets a row that is FILLING does not wait, since its writer may be a thread that
 * we interrupt, or that a fork has left behind: he takes the next.  So a stack may get two
 * rows.  That happens rarely, and readers add up anyway.
 *
 * Pages of rows that were never used cost nothing.
 */

#include <bulkhead/base/stacktable.h>

#include <stdatomic.h>
#include <string.h>
#include <sys/mman.h>

enum { FREE = 0, FILLING = 1, PROBES = 64 };

struct bh_stackrow {
    _Atomic uint64_t key;
    uintptr_t        a, b;
    _Atomic int64_t  counters[BH_STACKTABLE_COUNTERS];
    int              depth;
    uintptr_t        pcs[BH_STACKTABLE_DEPTH];
};

struct bh_stacktable {
    size_t             row_count;
    struct bh_stackrow rest;
    struct bh_stackrow rows[];
};

static size_t
size_of(size_t rows)
{
    return sizeof(struct bh_stacktable) + rows * sizeof(struct bh_stackrow);
}

struct bh_stacktable *
bh_stacktable_new(size_t rows)
{
    struct bh_stacktable *t;

    if (rows == 0 || (rows & (rows - 1)) != 0 || rows > SIZE_MAX / 2 / sizeof t->rest)
        return NULL;
    t = mmap(NULL, size_of(rows), PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (t == MAP_FAILED)
        return NULL;
    t->row_count = rows;
    return t;
}

void
bh_stacktable_free(struct bh_stacktable *t)
{
    if (t != NULL)
        munmap(t, size_of(t->row_count));
}

static uint64_t
hash(const uintptr_t *pcs, int depth, uintptr_t a, uintptr_t b)
{
    uint64_t h = (a * 0x9e3779b97f4a7c15) ^ (b * 0xc2b2ae3d27d4eb4f) ^ (uint64_t)depth;

    for (int i = 0; i < depth; i++) {
        h = (h ^ pcs[i]) * 0x9fb21c651e98df25;
        h ^= h >> 32;
    }
    return h > FILLING ? h : h + 2;
}

static inline bool
same(const struct bh_stackrow *row, const uintptr_t *pcs, int depth, uintptr_t a, uintptr_t b)
{
    return row->depth == depth && row->a == a && row->b == b &&
           memcmp(row->pcs, pcs, (size_t)depth * sizeof *pcs) == 0;
}

struct bh_stackrow *
bh_stacktable_row(struct bh_stacktable *t, const uintptr_t *pcs, int depth, uintptr_t a,
                  uintptr_t b)
{
    uint64_t h;

    if (depth < 0)
        depth = 0;
    if (depth > BH_STACKTABLE_DEPTH)
        depth = BH_STACKTABLE_DEPTH;
    h = hash(pcs, depth, a, b);
    for (size_t i = 0; i < PROBES; i++) {
        struct bh_stackrow *row = &t->rows[(h + i) & (t->row_count - 1)];
        uint64_t            key = atomic_load_explicit(&row->key, memory_order_acquire);

        if (key == FREE && atomic_compare_exchange_strong_explicit(&row->key, &key, FILLING,
                                                                   memory_order_acquire,
                                                                   memory_order_acquire)) {
            row->a = a;
            row->b = b;
            row->depth = depth;
            memcpy(row->pcs, pcs, (size_t)depth * sizeof *pcs);
            atomic_store_explicit(&row->key, h, memory_order_release);
            return row;
        }
        if (key == h && same(row, pcs, depth, a, b))
            return row;
    }
    return &t->rest;
}

void
bh_stackrow_add(struct bh_stackrow *row, int counter, int64_t n)
{
    atomic_fetch_add_explicit(&row->counters[counter], n, memory_order_relaxed);
}

/* Copy what it counts.  Returns: whether that is anything. */
static bool
view(struct bh_stackrow *row, struct bh_stackrow_view *v)
{
    bool any = false;

    *v = (struct bh_stackrow_view){ row->pcs, row->depth, row->a, row->b, { 0 } };
    for (int i = 0; i < BH_STACKTABLE_COUNTERS; i++) {
        v->counters[i] = atomic_load_explicit(&row->counters[i], memory_order_relaxed);
        any |= v->counters[i] != 0;
    }
    return any;
}

int
bh_stacktable_each(struct bh_stacktable *t,
                   bool (*fn)(const struct bh_stackrow_view *v, void *arg), void *arg)
{
    struct bh_stackrow_view v;
    int                     count = 0;

    for (size_t i = 0; i < t->row_count; i++) {
        struct bh_stackrow *row = &t->rows[i];

        if (atomic_load_explicit(&row->key, memory_order_acquire) > FILLING && view(row, &v)) {
            count++;
            if (!fn(&v, arg))
                return count;
        }
    }
    if (view(&t->rest, &v)) {
        count++;
        (void)fn(&v, arg);
    }
    return count;
}
