/*
 * arena.c -- memory with one lifetime.
 *
 * An arena is a list of blocks, newest first.  Allocating bumps an offset in the
 * newest; when it does not fit there comes a new one, twice the size of the last
 * up to LARGEST_BLOCK.  Something big gets a block of its own, put second, so
 * that the rest of the current block is still used.  The arena itself lives at
 * the start of its first block: making one is one malloc.
 *
 *     newest block          older                first
 *     [ used | free ]  ->  [ used        ]  ->  [ struct bh_arena | used ]
 *
 * Cleanups are a list inside the arena.  Each leaves the list before it is
 * called: if one does not return (a panic of a higher layer), calling
 * bh_arena_free again goes on with the rest.
 *
 * The budget counts whole blocks: it bounds what the arena takes from malloc.
 *
 * Under AddressSanitizer everything not handed out is poisoned, a gap after
 * each allocation included.
 */

#include <bulkhead/base/arena.h>

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define WITH_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define WITH_ASAN 1
#endif
#endif

#ifdef WITH_ASAN
/* Not by their header: there they take const, and gcc warns of reading fresh memory. */
void __asan_poison_memory_region(void volatile *p, size_t size);
void __asan_unpoison_memory_region(void volatile *p, size_t size);
#define poison(p, n)   __asan_poison_memory_region((p), (n))
#define unpoison(p, n) __asan_unpoison_memory_region((p), (n))
enum { GAP = 16 };
#else
#define poison(p, n)   ((void)(p), (void)(n))
#define unpoison(p, n) ((void)(p), (void)(n))
enum { GAP = 0 };
#endif

enum {
    ALIGN = 16,
    FIRST_BLOCK = 4096 - 32, /* with malloc's own header, a page */
    LARGEST_BLOCK = 64 * 1024,
    KEPT_BLOCK = 16 * 1024, /* at most, when it is reset */
    BIG_SHARE = 4,          /* what is over 1/4 of the next block gets its own */
};

struct block {
    struct block *older;
    size_t        size; /* bytes at data */
    size_t        used;
    size_t        pad;
    _Alignas(ALIGN) char data[];
};

struct cleanup {
    struct cleanup *older;
    void (*fn)(void *arg);
    void *arg;
};

struct bh_arena {
    struct block   *newest;
    struct cleanup *cleanups;
    size_t          budget; /* 0: none */
    size_t          held;   /* bytes of all blocks */
    size_t          given;  /* bytes handed out */
    size_t          next_size;
};

/* ---- running out --------------------------------------------------------- */

static void
abort_no_memory(size_t size, int over_budget)
{
    (void)fprintf(stderr, "arena: %s, %zu bytes wanted\n",
                  over_budget ? "over budget" : "out of memory", size);
    abort();
}

static bh_no_memory_fn *no_memory = abort_no_memory;

void
bh_set_no_memory(bh_no_memory_fn *fn)
{
    no_memory = fn != NULL ? fn : abort_no_memory;
}

static void
run_out(size_t size, int over_budget)
{
    no_memory(size, over_budget);
    abort(); /* it must not return */
}

/* ---- blocks -------------------------------------------------------------- */

static size_t
round_up(size_t n)
{
    return (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
}

static struct block *
block_new(size_t size)
{
    struct block *b = malloc(sizeof *b + size);

    if (b == NULL)
        run_out(size, 0);
    b->older = NULL;
    b->size = size;
    b->used = 0;
    poison(b->data, size);
    return b;
}

static void
block_free(struct block *b)
{
    unpoison(b->data, b->size);
    free(b);
}

static struct block *
first_block(struct bh_arena *a)
{
    return (struct block *)((char *)a - offsetof(struct block, data));
}

struct bh_arena *
bh_arena_new(size_t budget)
{
    struct block *b = block_new(FIRST_BLOCK);

    b->used = round_up(sizeof(struct bh_arena)) + GAP;
    struct bh_arena *a = (struct bh_arena *)b->data;
    unpoison(a, sizeof *a);
    *a = (struct bh_arena){
        .newest = b, .budget = budget, .held = FIRST_BLOCK, .next_size = 2 * FIRST_BLOCK
    };
    return a;
}

/* add_block -- room for size more bytes.  Returns: the block that has it. */
static struct block *
add_block(struct bh_arena *a, size_t size)
{
    size_t room = SIZE_MAX / 2;

    if (a->budget != 0)
        room = a->budget > a->held ? a->budget - a->held : 0;
    if (size > room)
        run_out(size, a->budget != 0);

    bool          big = size > a->next_size / BIG_SHARE;
    size_t        want = big ? size : a->next_size < room ? a->next_size : room & ~(size_t)15;
    struct block *b = block_new(want < size ? size : want);

    a->held += b->size;
    if (big) {
        b->older = a->newest->older;
        a->newest->older = b;
    } else {
        b->older = a->newest;
        a->newest = b;
        if (a->next_size < LARGEST_BLOCK)
            a->next_size *= 2;
    }
    return b;
}

/* ---- allocating ---------------------------------------------------------- */

static void *
take(struct bh_arena *a, size_t size)
{
    if (size > SIZE_MAX / 2)
        run_out(size, 0);

    size_t        span = round_up(size != 0 ? size : 1) + GAP;
    struct block *b = a->newest;

    if (span > b->size - b->used)
        b = add_block(a, span);
    void *p = b->data + b->used;
    b->used += span;
    a->given += size;
    unpoison(p, size);
    return p;
}

void *
bh_arena_alloc(struct bh_arena *a, size_t size)
{
    return memset(take(a, size), 0, size);
}

void *
bh_arena_raw(struct bh_arena *a, size_t size)
{
    return take(a, size);
}

void *
bh_arena_copy(struct bh_arena *a, const void *data, size_t size)
{
    void *p = take(a, size);

    return size != 0 ? memcpy(p, data, size) : p;
}

char *
bh_arena_string(struct bh_arena *a, const char *text, size_t length)
{
    char *s = take(a, length < SIZE_MAX ? length + 1 : length);

    if (length != 0)
        memcpy(s, text, length);
    s[length] = 0;
    return s;
}

char *
bh_arena_vprint(struct bh_arena *a, const char *format, va_list args)
{
    va_list again;

    va_copy(again, args);
    int length = vsnprintf(NULL, 0, format, args);
    if (length < 0)
        length = 0;
    char *s = take(a, (size_t)length + 1);
    s[0] = 0;
    (void)vsnprintf(s, (size_t)length + 1, format, again);
    va_end(again);
    return s;
}

char *
bh_arena_print(struct bh_arena *a, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    char *s = bh_arena_vprint(a, format, args);
    va_end(args);
    return s;
}

size_t
bh_arena_used(const struct bh_arena *a)
{
    return a->given;
}

/* ---- the end ------------------------------------------------------------- */

void
bh_arena_defer(struct bh_arena *a, void (*fn)(void *arg), void *arg)
{
    struct cleanup *c = take(a, sizeof *c);

    a->given -= sizeof *c; /* ours, not the caller's */
    *c = (struct cleanup){ a->cleanups, fn, arg };
    a->cleanups = c;
}

static void
run_cleanups(struct bh_arena *a)
{
    while (a->cleanups != NULL) {
        struct cleanup *c = a->cleanups;
        a->cleanups = c->older;
        c->fn(c->arg);
    }
}

static void
free_blocks_but(struct bh_arena *a, const struct block *kept)
{
    struct block *first = first_block(a);

    for (struct block *b = a->newest, *older; b != NULL; b = older) {
        older = b->older;
        if (b != first && b != kept)
            block_free(b);
    }
}

static void
empty_block(struct block *b, struct block *older, size_t used)
{
    b->older = older;
    b->used = used;
    poison(b->data + used, b->size - used);
}

/* Whoever needed more than the first block is likely to need it again: one more is kept. */
void
bh_arena_reset(struct bh_arena *a)
{
    struct block *first = first_block(a), *kept;

    run_cleanups(a);
    kept = a->newest;
    if (kept->size > KEPT_BLOCK)
        kept = first;
    free_blocks_but(a, kept);
    empty_block(first, NULL, round_up(sizeof *a) + GAP);
    if (kept != first)
        empty_block(kept, first, 0);
    a->newest = kept;
    a->held = first->size + (kept != first ? kept->size : 0);
    a->given = 0;
    a->next_size = 2 * kept->size;
}

void
bh_arena_free(struct bh_arena *a)
{
    if (a == NULL)
        return;
    run_cleanups(a);
    free_blocks_but(a, NULL);
    block_free(first_block(a));
}
