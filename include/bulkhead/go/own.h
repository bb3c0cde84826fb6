#ifndef BULKHEAD_GO_OWN_H
#define BULKHEAD_GO_OWN_H

/*
 * own.h -- what a goroutine owns is released when it ends, however it ends:
 * memory from its arena, descriptors, anything with a release function.
 * Released newest first, after the last deferred call.
 */

#include <stddef.h>

struct bh_arena;

/* bh_goroutine_arena -- this goroutine's arena, made on first use.  Gone when it ends. */
struct bh_arena *bh_goroutine_arena(void);

/* bh_alloc -- zeroed bytes from it, aligned for any type.  Panics: out of memory. */
void *bh_alloc(size_t size);
/* bh_print -- a formatted string in it. */
char *bh_print(const char *format, ...) __attribute__((format(printf, 1, 2)));

/*
 * bh_own -- call release(ptr) when this goroutine ends.
 *
 * A panic in release does not keep the others from running, and nobody is left to
 * recover it.  Panics: out of memory; ptr has been released then.
 */
void bh_own(void (*release)(void *ptr), void *ptr);
/* bh_disown -- forget the newest such entry; a no-op if there is none. */
void bh_disown(void (*release)(void *ptr), void *ptr);
/* bh_own_fd -- close fd when this goroutine ends.  Returns: fd. */
int  bh_own_fd(int fd);
void bh_disown_fd(int fd);

#endif
