/*
 * route.c -- routes and methods in memory that stays.
 *
 * A tag outlives its request and even its server: profiles and reports name routes long
 * after.  So each pattern is taken apart and kept once, for ever, by its text; programs have
 * few.  A second table in front finds it by the pattern's address, which spares
 * hashing the text.  The text is compared all the same: another server's pattern may come
 * to lie at that address.
 *
 * Both tables are read without a lock; `lock` is for adding.
 */

#include "route.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { SLOTS = 4096, MOST = SLOTS / 2, FRONT = 512, MAX_PATTERN = 1024 };

static _Atomic(const struct ob_route *) by_text[SLOTS], by_address[FRONT];
static pthread_mutex_t                  lock = PTHREAD_MUTEX_INITIALIZER;
static int                              count; /* under the lock */

static uint32_t
hash_of(const char *text)
{
    uint32_t hash = 2166136261u; /* FNV-1a */

    for (; *text != '\0'; text++)
        hash = (hash ^ (unsigned char)*text) * 16777619u;
    return hash;
}

/* One block: the route, then its texts.  NULL: no memory. */
static const struct ob_route *
take_apart(const char *pattern)
{
    size_t           size = strlen(pattern) + 1;
    const char      *space = strchr(pattern, ' '), *path = strchr(pattern, '/');
    size_t           method = space != NULL ? (size_t)(space - pattern) : 0;
    size_t           path_size = path != NULL ? strlen(path) + 1 : 0;
    struct ob_route *r = malloc(sizeof *r + size + (method + 1) * 2 + path_size);

    if (r == NULL || path == NULL) {
        free(r);
        return NULL;
    }
    char *at = (char *)(r + 1);
    *r = (struct ob_route){ .pattern = at };
    memcpy(at, pattern, size);
    r->path = at + (path - pattern);
    at += size;
    if (method > 0) {
        r->method = at;
        memcpy(at, pattern, method);
        at[method] = '\0';
        at += method + 1;
        r->name = at;
        memcpy(at, pattern, method);
        at[method] = ' ';
        memcpy(at + method + 1, path, path_size);
    }
    return r;
}

static const struct ob_route *
look(const char *pattern, uint32_t hash, uint32_t *slot)
{
    for (uint32_t i = 0; i < SLOTS; i++) {
        const struct ob_route *r;

        *slot = (hash + i) % SLOTS;
        r = atomic_load_explicit(&by_text[*slot], memory_order_acquire);
        if (r == NULL || strcmp(r->pattern, pattern) == 0)
            return r;
    }
    return NULL; /* not reached: half of the slots stay free */
}

static const struct ob_route *
add(const char *pattern, uint32_t hash)
{
    uint32_t               slot;
    const struct ob_route *r;

    pthread_mutex_lock(&lock);
    r = look(pattern, hash, &slot);
    if (r == NULL && count < MOST && (r = take_apart(pattern)) != NULL) {
        atomic_store_explicit(&by_text[slot], r, memory_order_release);
        count++;
    }
    pthread_mutex_unlock(&lock);
    return r;
}

static __attribute__((noinline)) const struct ob_route *
find(const char *pattern, _Atomic(const struct ob_route *) *front)
{
    uint32_t               hash, slot;
    const struct ob_route *r;

    if (strnlen(pattern, MAX_PATTERN) == MAX_PATTERN)
        return NULL;
    hash = hash_of(pattern);
    r = look(pattern, hash, &slot);
    if (r == NULL)
        r = add(pattern, hash);
    if (r != NULL)
        atomic_store_explicit(front, r, memory_order_release);
    return r;
}

const struct ob_route *
ob_route(const char *pattern)
{
    _Atomic(const struct ob_route *) *front;
    const struct ob_route            *r;

    if (pattern == NULL || pattern[0] == '\0')
        return NULL;
    front = &by_address[((uintptr_t)pattern >> 4 ^ (uintptr_t)pattern >> 13) % FRONT];
    r = atomic_load_explicit(front, memory_order_acquire);
    return r != NULL && strcmp(r->pattern, pattern) == 0 ? r : find(pattern, front);
}

const char *
ob_method(const char *method)
{
    static const char *const known[] = { "GET",     "POST",  "PUT",     "DELETE", "HEAD",
                                         "OPTIONS", "PATCH", "CONNECT", "TRACE" };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(method, known[i]) == 0)
            return known[i];
    return "_OTHER";
}
