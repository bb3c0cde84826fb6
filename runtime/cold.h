#ifndef BULKHEAD_RUNTIME_COLD_H
#define BULKHEAD_RUNTIME_COLD_H

/*
 * cold.h -- PRIVATE: the rarely used part of a goroutine, and memory that
 * cannot fail.
 */

#include "runtime.h"

enum { RT_NAME_SIZE = 64, RT_NOTE_SIZE = 256, RT_LABEL_MAX = 16, RT_LABEL_LENGTH = 128 };

/* An immutable set of labels, shared by the goroutines that inherited it. */
struct rt_labels {
    _Atomic uint32_t refs;
    uint32_t         count;
    size_t           size;   /* bytes of text */
    char             text[]; /* key NUL value NUL, count times */
};

struct rt_owned {
    void (*release)(void *ptr);
    void  *ptr;
};

struct rt_local {
    const void *key;
    void       *value;
    void      (*release)(void *value); /* may be NULL */
};

/* Only the goroutine itself writes; `lock` is for dumps by others. */
struct rt_cold {
    struct rt_lock    lock;   /* covers `labels`, never held while calling out */
    struct rt_labels *labels; /* NULL: none */
    struct rt_owned  *owned;  /* oldest first */
    struct rt_local  *locals;
    uint32_t          owned_count, owned_cap;
    uint32_t          local_count, local_cap;
    struct bh_arena  *arena; /* NULL until used */
    char              name[RT_NAME_SIZE];
    char              note[RT_NOTE_SIZE]; /* of bh_fail */
};

/* rt_cold_try -- rt_cold, but NULL when there is no memory for it. */
struct rt_cold *rt_cold_try(struct bh_g *g);

/* rt_cold_set_name -- name g, which is not running yet or is the caller. */
void rt_cold_set_name(struct bh_g *g, const char *name);

/*
 * rt_cold_labels -- g's labels as "key=value, key=value", cut to size.
 * Returns: bytes written before the NUL.  Async-signal-safe: gives up if the lock is busy.
 */
size_t rt_cold_labels(struct bh_g *g, char *text, size_t size);

/* rt_memory_init -- lay in the reserve; running out of memory is a panic from now on. */
void rt_memory_init(void);

/*
 * rt_malloc -- malloc that panics "out of memory" instead of returning NULL.
 * The reserve is given up first, so that the panic can be raised and reported.
 * Outside the runtime only, and without locks.
 */
void *rt_malloc(size_t size) __attribute__((malloc, returns_nonnull));
void *rt_calloc(size_t count, size_t size) __attribute__((malloc, returns_nonnull));
noreturn void rt_out_of_memory(void);

/* rt_note_text -- where this goroutine's or thread's note is kept; NULL without memory. */
char *rt_note_text(void);

#endif
