#ifndef BULKHEAD_BASE_ARENA_H
#define BULKHEAD_BASE_ARENA_H

/*
 * arena.h -- memory with one lifetime: allocate freely, release at once.
 * Not thread-safe: one owner at a time.
 */

#include <stdarg.h>
#include <stddef.h>

struct bh_arena;

/*
 * Called when memory is short: over_budget says whose limit it was.  Must not
 * return.  The runtime sets it to a panic; the default aborts.
 */
typedef void bh_no_memory_fn(size_t size, int over_budget);
void bh_set_no_memory(bh_no_memory_fn *fn);

/* bh_arena_new -- budget: most bytes it may hold (4 KiB always fit), 0 for no limit. */
struct bh_arena *bh_arena_new(size_t budget);
/*
 * bh_arena_free -- run the cleanups, newest first, and free all; NULL is a no-op.
 * If a cleanup does not return (a panic), calling it again goes on with the rest.
 */
void bh_arena_free(struct bh_arena *a);
/* bh_arena_reset -- as new, but that it keeps up to 20 KiB for the next use. */
void bh_arena_reset(struct bh_arena *a);

/* bh_arena_alloc -- zeroed, aligned for any type; never NULL. */
void *bh_arena_alloc(struct bh_arena *a, size_t size);
/* bh_arena_raw -- the same, not zeroed. */
void *bh_arena_raw(struct bh_arena *a, size_t size);
void *bh_arena_copy(struct bh_arena *a, const void *data, size_t size);
char *bh_arena_string(struct bh_arena *a, const char *text, size_t length); /* NUL added */
char *bh_arena_print(struct bh_arena *a, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
char *bh_arena_vprint(struct bh_arena *a, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

/* bh_arena_defer -- call fn(arg) when the arena is reset or freed. */
void bh_arena_defer(struct bh_arena *a, void (*fn)(void *arg), void *arg);

/* bh_arena_used -- bytes handed out since made or reset. */
size_t bh_arena_used(const struct bh_arena *a);

#endif
