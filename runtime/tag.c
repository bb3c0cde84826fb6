/*
 * tag.c -- what a goroutine works for.
 *
 * A descriptor has room for 32 bits, so g->tag is the number of a cell; 0 means no
 * tag.  Cells lie in chunks that are mapped once and never freed.  A cell in use is
 * immutable and counted: a goroutine that starts another shares its cell with it, and
 * whoever drops the last reference puts it on its thread's list of free ones.  To set
 * a tag is therefore: take a cell from that list, fill it, publish its number, drop
 * the old cell.  No lock and no malloc, but for the first time, and where cells wander
 * from threads that begin requests to threads that end them: then half a list moves
 * to or from the pool.
 *
 * Who reads:
 *
 *   the goroutine itself, also in a signal handler: g->tag names a whole cell at any
 *   moment, and it cannot be reused before the interrupted code goes on;
 *
 *   another thread, while the goroutine runs: the cell may be dropped, reused and
 *   refilled meanwhile.  So `seq` is odd while it is filled and larger afterwards,
 *   and the reader compares g->tag and seq before and after (rt_tag_copy).  Words
 *   are stored with release and loaded with acquire, which costs nothing on x86-64
 *   and spares the fences that ThreadSanitizer does not know.
 *
 *   a profiler outside the process, which has stopped the thread: otel_thread_ctx_v1 points
 *   at the cell of the goroutine that runs, whose first 28 bytes are a record of
 *   OTEP 4947.  Each switch stores it, so it is never that of another goroutine.
 *
 * pool.lock covers the pool's list and the making of chunks; it is held with nothing
 * else.  m->tags belongs to the thread, and no goroutine changes threads in here.
 */

#include "tag.h"

#include <string.h>
#include <sys/mman.h>

enum {
    WORDS = sizeof(struct bh_tag) / sizeof(uint64_t),
    CHUNK_BITS = 10,
    CHUNK_CELLS = 1 << CHUNK_BITS,
    MAX_CHUNKS = 1 << 12, /* four million tags at a time */
    KEEP = 128,           /* free cells a thread keeps; half of them move at a time */
    TRIES = 8,            /* of a reader on another thread */
};

struct cell {
    union {
        struct bh_tag    tag;         /* to who holds a reference */
        _Atomic uint64_t word[WORDS]; /* to who fills it, and to strangers */
    };
    _Atomic uint32_t refs;
    _Atomic uint32_t seq;
    uint32_t         next; /* free lists: number of the next one, or 0 */
    uint32_t         unused;
};

_Static_assert(sizeof(struct bh_tag) == 6 * sizeof(uint64_t), "make() stores six words");
_Static_assert(sizeof(struct cell) == RT_CACHE_LINE, "a cell is a cache line");
_Static_assert(offsetof(struct bh_tag, valid_) == 24 &&
                   offsetof(struct bh_tag, attributes_) == 26 &&
                   __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "OTEP 4947: ids, valid, flags (bit 0 sampled, bit 1 random), bytes of attributes");

/* By this name readers find it in the symbols of the program or the library. */
extern __thread _Atomic(const void *) otel_thread_ctx_v1 __attribute__((visibility("default")));
__thread _Atomic(const void *) otel_thread_ctx_v1;

static _Atomic(struct cell *) chunks[MAX_CHUNKS];

static struct {
    struct rt_lock lock;
    uint32_t       free; /* list of cells */
    uint32_t       used; /* numbers below it have been handed out; 0 never is */
} pool = { .used = 1 };

static inline struct cell *
cell_at(uint32_t number)
{
    struct cell *chunk =
        atomic_load_explicit(&chunks[number >> CHUNK_BITS], memory_order_relaxed);

    return &chunk[number & (CHUNK_CELLS - 1)];
}

/* ---- free cells ------------------------------------------------------------------ */

/* One that was never used; 0: no memory.  Under pool.lock. */
static uint32_t
fresh_cell(void)
{
    uint32_t chunk = pool.used >> CHUNK_BITS;

    if (chunk == MAX_CHUNKS)
        return 0;
    if (atomic_load_explicit(&chunks[chunk], memory_order_relaxed) == NULL) {
        void *p = mmap(NULL, CHUNK_CELLS * sizeof(struct cell), PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (p == MAP_FAILED)
            return 0;
        atomic_store_explicit(&chunks[chunk], p, memory_order_release);
    }
    return pool.used++;
}

/* Fill the thread's list by half.  Returns: a cell's number, taken from it; 0: no memory. */
static __attribute__((noinline)) uint32_t
refill(struct rt_m *m)
{
    uint32_t number = 0;

    rt_lock(&pool.lock);
    for (int i = 0; i < KEEP / 2; i++) {
        number = pool.free;
        if (number != 0)
            pool.free = cell_at(number)->next;
        else if ((number = fresh_cell()) == 0)
            break;
        cell_at(number)->next = m->tags;
        m->tags = number;
        m->tag_count++;
    }
    rt_unlock(&pool.lock);
    number = m->tags;
    if (number != 0) {
        m->tags = cell_at(number)->next;
        m->tag_count--;
    }
    return number;
}

static __attribute__((noinline)) void
trim(struct rt_m *m, uint32_t keep)
{
    rt_lock(&pool.lock);
    while (m->tag_count > keep) {
        uint32_t     number = m->tags;
        struct cell *c = cell_at(number);

        m->tags = c->next;
        m->tag_count--;
        c->next = pool.free;
        pool.free = number;
    }
    rt_unlock(&pool.lock);
}

void
rt_tag_enter(struct rt_m *m)
{
    m->shown = &otel_thread_ctx_v1;
}

void
rt_tag_leave(struct rt_m *m)
{
    trim(m, 0);
}

void
rt_tag_show_cell(struct rt_m *m, uint32_t number)
{
    atomic_store_explicit(m->shown, cell_at(number), memory_order_relaxed);
}

/* Give one reference back. */
static inline void
drop(struct rt_m *m, uint32_t number)
{
    struct cell *c = cell_at(number);

    /* The only reference is ours: nobody else can make another. */
    if (atomic_load_explicit(&c->refs, memory_order_acquire) != 1 &&
        atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    c->next = m->tags;
    m->tags = number;
    if (rt_unlikely(++m->tag_count > KEEP))
        trim(m, KEEP / 2);
}

/* ---- setting --------------------------------------------------------------------- */

/* Word i of a caller's tag; a bad pointer faults here, where it is still the caller's panic. */
static inline uint64_t
word_of(const struct bh_tag *tag, int i)
{
    uint64_t word;

    memcpy(&word, (const char *)tag + (size_t)i * sizeof word, sizeof word);
    return word;
}

/* A cell with this tag and one reference; 0: no memory. */
static inline uint32_t
make(struct rt_m *m, const struct bh_tag *tag)
{
    /* Read before anything is written, and one by one, or gcc copies them through the stack. */
    uint64_t     a = word_of(tag, 0), b = word_of(tag, 1), d = word_of(tag, 2);
    uint64_t     e = word_of(tag, 3), f = word_of(tag, 4), h = word_of(tag, 5);
    uint32_t     number = m->tags, seq;
    struct cell *c;

    if (rt_likely(number != 0)) {
        m->tags = cell_at(number)->next;
        m->tag_count--;
    } else if ((number = refill(m)) == 0) {
        return 0;
    }
    c = cell_at(number);
    seq = atomic_load_explicit(&c->seq, memory_order_relaxed);
    atomic_store_explicit(&c->seq, seq + 1, memory_order_relaxed);
    atomic_store_explicit(&c->word[0], a, memory_order_release);
    atomic_store_explicit(&c->word[1], b, memory_order_release);
    atomic_store_explicit(&c->word[2], d, memory_order_release);
    atomic_store_explicit(&c->word[3], (e & ~(uint64_t)UINT8_MAX) | 1, memory_order_release);
    atomic_store_explicit(&c->word[4], f, memory_order_release);
    atomic_store_explicit(&c->word[5], h, memory_order_release);
    atomic_store_explicit(&c->seq, seq + 2, memory_order_release);
    atomic_store_explicit(&c->refs, 1, memory_order_relaxed);
    return number;
}

void
bh_tag_set(const struct bh_tag *tag)
{
    struct rt_m *m = rt_m();
    struct bh_g *g = m != NULL ? m->g : NULL;
    uint32_t     number = 0, old;

    if (rt_unlikely(g == NULL))
        return;
    old = atomic_load_explicit(&g->tag, memory_order_relaxed);
    if (tag != NULL)
        number = make(m, tag);
    atomic_store_explicit(&g->tag, number, memory_order_release);
    rt_tag_show(m, g);
    if (old != 0)
        drop(m, old);
}

void
rt_tag_inherit(struct bh_g *child, struct bh_g *parent)
{
    uint32_t number = atomic_load_explicit(&parent->tag, memory_order_relaxed);

    (void)atomic_fetch_add_explicit(&cell_at(number)->refs, 1, memory_order_relaxed);
    atomic_store_explicit(&child->tag, number, memory_order_release);
}

void
rt_tag_drop(struct rt_m *m, struct bh_g *g)
{
    uint32_t number = atomic_load_explicit(&g->tag, memory_order_relaxed);

    atomic_store_explicit(&g->tag, 0, memory_order_relaxed);
    rt_tag_show(m, NULL);
    drop(m, number);
}

/* ---- reading --------------------------------------------------------------------- */

const struct bh_tag *
bh_tag_peek(void)
{
    struct bh_g *g = rt_g();
    uint32_t     number = g != NULL ? atomic_load_explicit(&g->tag, memory_order_relaxed) : 0;

    return number != 0 ? &cell_at(number)->tag : NULL;
}

void
bh_tag_get(struct bh_tag *tag)
{
    const struct bh_tag *mine = bh_tag_peek();

    if (mine != NULL)
        *tag = *mine;
    else
        *tag = (struct bh_tag){ .sampled = 0 };
}

void
rt_tag_copy(const struct bh_g *g, struct bh_tag *tag)
{
    uint64_t word[WORDS];

    for (int i = 0; i < TRIES; i++) {
        uint32_t     number = atomic_load_explicit(&g->tag, memory_order_acquire), seq;
        struct cell *c;

        if (number == 0)
            break;
        c = cell_at(number);
        seq = atomic_load_explicit(&c->seq, memory_order_acquire);
        for (int k = 0; k < WORDS; k++)
            word[k] = atomic_load_explicit(&c->word[k], memory_order_acquire);
        if (seq % 2 == 0 && atomic_load_explicit(&c->seq, memory_order_relaxed) == seq &&
            atomic_load_explicit(&g->tag, memory_order_relaxed) == number) {
            memcpy(tag, word, sizeof *tag);
            return;
        }
    }
    *tag = (struct bh_tag){ .sampled = 0 };
}
