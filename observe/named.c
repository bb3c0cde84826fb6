/*
 * named.c -- profiles by name: the table, and how one is taken from it.
 *
 * Entries are added under a lock and never change or go, so readers only look at how many
 * there are.
 *
 * What happened during some time is, for most profiles, the difference between two that
 * count since the start; the CPU profile alone waits and looks itself.
 */

#include "named.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/inspect.h>

#include "profile_text.h"

enum { SOURCES_MAX = 32 };

static struct bh_profile_source sources[SOURCES_MAX] = {
    { "goroutine", "stacks of all goroutines", ob_collect_goroutine, NULL, false },
    { "profile", "CPU, ?seconds=30 of it; without seconds= the last 30", ob_collect_cpu, NULL,
      true },
    { "threadcreate", "threads of the runtime, by what made them start", ob_collect_threads,
      NULL, false },
    { "heap", "what was allocated and is not yet freed", ob_collect_heap, NULL, false },
    { "allocs", "what was ever allocated", ob_collect_allocs, NULL, false },
    { "block", "where goroutines wait", ob_collect_block, NULL, false },
    { "mutex", "who holds the locks that others wait for", ob_collect_mutex, NULL, false },
};
static _Atomic int     source_count = 7;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* held by who adds */

static const struct bh_profile_source *
find(const char *name)
{
    int n = atomic_load(&source_count);

    for (int i = 0; i < n; i++)
        if (strcmp(sources[i].name, name) == 0)
            return &sources[i];
    return NULL;
}

int
bh_profile_register(const struct bh_profile_source *s)
{
    int n, rc = 0;

    if (s->name == NULL || s->name[0] == '\0' || s->collect == NULL)
        return -EINVAL;
    (void)pthread_mutex_lock(&lock);
    n = atomic_load(&source_count);
    if (find(s->name) != NULL)
        rc = -EEXIST;
    else if (n == SOURCES_MAX)
        rc = -ENOSPC;
    else {
        sources[n] = *s;
        atomic_store(&source_count, n + 1);
    }
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

void
bh_profile_each(bool (*fn)(const struct bh_profile_source *s, void *arg), void *arg)
{
    const struct bh_profile_source *last = NULL, *next;
    int                             n = atomic_load(&source_count);

    do { /* the next by name */
        next = NULL;
        for (int i = 0; i < n; i++)
            if ((last == NULL || strcmp(sources[i].name, last->name) > 0) &&
                (next == NULL || strcmp(sources[i].name, next->name) < 0))
                next = &sources[i];
        last = next;
    } while (next != NULL && fn(next, arg));
}

/* ---- taking ---------------------------------------------------------------------- */

int64_t
ob_unix_now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

int
ob_wait(int64_t ns, struct bh_ctx *ctx)
{
    struct timespec t = { .tv_sec = ns / 1000000000, .tv_nsec = ns % 1000000000 };

    if (bh_self() != NULL) {
        if (ctx != NULL)
            return bh_ctx_sleep(ctx, ns);
        bh_sleep(ns);
        return 0;
    }
    while (nanosleep(&t, &t) != 0)
        continue;
    return 0;
}

void
ob_hex(const unsigned char id[16], char text[33])
{
    static const char          digits[] = "0123456789abcdef";
    static const unsigned char none[16];

    text[0] = '\0';
    if (memcmp(id, none, sizeof none) == 0)
        return;
    for (int i = 0; i < 16; i++) {
        text[2 * i] = digits[id[i] >> 4];
        text[2 * i + 1] = digits[id[i] & 15];
    }
    text[32] = '\0';
}

/* *p becomes what happens during o->duration. */
static int
difference(const struct bh_profile_source *s, const struct bh_profile_options *o,
           struct bh_profile **p)
{
    struct bh_profile *before, *after;
    int64_t            began = ob_unix_now();
    int                rc = s->collect(o, s->arg, &before);

    if (rc != 0)
        return rc;
    rc = ob_wait(o->duration, o->ctx);
    if (rc == 0)
        rc = s->collect(o, s->arg, &after);
    if (rc == 0) {
        rc = bh_profile_merge(after, before, -1);
        bh_profile_time(after, began, ob_unix_now() - began);
        if (rc == 0)
            *p = after;
        else
            bh_profile_free(after);
    }
    bh_profile_free(before);
    return rc;
}

int
bh_profile_collect(const char *name, const struct bh_profile_options *o, struct bh_profile **p)
{
    static const struct bh_profile_options defaults;
    const struct bh_profile_source        *s = find(name);

    if (s == NULL)
        return -ENOENT;
    if (o == NULL)
        o = &defaults;
    return o->duration > 0 && !s->waits ? difference(s, o, p) : s->collect(o, s->arg, p);
}

int
bh_profile_take(const char *name, const struct bh_profile_options *o,
                struct bh_profile_bytes *bytes)
{
    struct bh_profile *p;
    int                rc;

    if (o != NULL && o->debug >= 2 && strcmp(name, "goroutine") == 0)
        return ob_goroutine_dump(bytes);
    rc = bh_profile_collect(name, o, &p);
    if (rc != 0)
        return rc;
    if (o != NULL && o->debug > 0)
        rc = bh_profile_text(p, name, bytes);
    else
        rc = bh_profile_write(p, o != NULL && o->raw, bytes);
    bh_profile_free(p);
    return rc;
}

static bool
is_inner(struct ob_inner *seen, uintptr_t pc)
{
    struct bh_frame f[BH_FRAMES_MAX];
    unsigned        slot = (unsigned)(pc * 0x9e3779b1u >> 8) % (sizeof seen->pc / sizeof *seen->pc);

    if (seen->pc[slot] != pc) {
        seen->pc[slot] = pc;
        seen->inner[slot] = true;
        for (int n = bh_symbolize(pc, f, BH_FRAMES_MAX); n-- > 0;)
            if (!f[n].runtime || strncmp(f[n].function, "bh_", 3) == 0)
                seen->inner[slot] = false;
    }
    return seen->inner[slot];
}

int
ob_inner_calls(struct ob_inner *seen, const uintptr_t *pcs, int depth)
{
    int n = 0;

    while (n < depth - 1 && is_inner(seen, pcs[n]))
        n++;
    return n;
}
