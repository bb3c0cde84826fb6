/*
 * limiter.c -- the same panic ten thousand times is one report and a count.
 *
 * What "the same" means is the fingerprint: the type, and the names of the five
 * innermost functions of the program's own.  It does not change with addresses, so
 * it is the same on every machine, and in the next release mostly.  But names take a
 * look into debug information; the panicking goroutine has addresses only.
 *
 * So there are two tables.  `site` is read and written by panicking goroutines: a
 * key, made of the kind and the innermost return addresses, and until when panics
 * with that key need no slot.  `seen` is the reporter's own: fingerprints, and when
 * each had its last full report.  The reporter's verdict sets the site's time:
 *
 *     key new, or its time is up    a slot; others with the key wait for the verdict
 *     full report                   no slots for it for `repeat`
 *     fingerprint reported before   (by another path) until that one's time is up
 *     too many reports this minute  for a second
 *
 * `site` is lock-free.  An entry is a few words that are written one by one: a reader
 * who meets half of it takes a slot too much, or a line instead of a report, once.
 */

#include "limiter.h"

#include <stdatomic.h>
#include <string.h>

enum {
    SITES = 1024,
    PROBES = 8,
    SEEN = 512,
    KEY_DEPTH = 12,
    MINUTE_MAX = 600, /* full reports a minute, at most */
};

#define SECOND ((int64_t)1000000000)

struct site {
    _Atomic uint64_t key; /* 0: empty */
    _Atomic int64_t  until;
    _Atomic uint64_t fingerprint;
};

struct seen {
    uint64_t fingerprint;
    int64_t  last; /* full report */
};

static struct site     site[SITES];
static struct seen     seen[SEEN];
static int64_t         full[MINUTE_MAX]; /* when the latest full reports were, a ring */
static unsigned        full_count;
static _Atomic int64_t repeat;
static int             per_minute;

void
ob_limiter_init(int64_t repeat_ns, int most)
{
    atomic_store(&repeat, repeat_ns);
    per_minute = most < MINUTE_MAX ? most : MINUTE_MAX;
    full_count = 0;
    memset(seen, 0, sizeof seen);
    for (int i = 0; i < SITES; i++) {
        atomic_store(&site[i].key, 0);
        atomic_store(&site[i].until, 0);
        atomic_store(&site[i].fingerprint, 0);
    }
}

/* ---- keys ------------------------------------------------------------------------ */

static uint64_t
mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * 0x9e3779b97f4a7c15U;
    return h ^ h >> 29;
}

uint64_t
ob_limiter_key(const struct bh_kind *kind, const uintptr_t *pcs, int depth)
{
    uint64_t h = mix(0x243f6a8885a308d3U, (uintptr_t)kind);

    for (int i = 0; i < depth && i < KEY_DEPTH; i++)
        h = mix(h, pcs[i]);
    return h != 0 ? h : 1;
}

/* FNV-1a: published, so that other programs can make the same fingerprints. */
static uint64_t
fnv(uint64_t h, const char *text)
{
    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 0x100000001b3U;
    return (h ^ '\n') * 0x100000001b3U;
}

uint64_t
ob_fingerprint(const char *type, const char *const *functions, int count)
{
    uint64_t h = fnv(0xcbf29ce484222325U, type);

    for (int i = 0; i < count; i++)
        h = fnv(h, functions[i]);
    return h != 0 ? h : 1;
}

/* ---- on the panicking goroutine -------------------------------------------------- */

static struct site *
probe(uint64_t key, int i)
{
    return &site[(key + (uint64_t)i) % SITES];
}

static struct site *
find(uint64_t key)
{
    for (int i = 0; i < PROBES; i++)
        if (atomic_load_explicit(&probe(key, i)->key, memory_order_acquire) == key)
            return probe(key, i);
    return NULL;
}

/* insert -- into an empty place, or that of the entry whose time is up first. */
static void
insert(uint64_t key, int64_t until)
{
    struct site *victim = probe(key, 0);
    uint64_t     old;

    for (int i = 0; i < PROBES; i++) {
        struct site *s = probe(key, i);

        old = 0;
        if (atomic_compare_exchange_strong(&s->key, &old, key)) {
            atomic_store(&s->until, until);
            return;
        }
        if (old == key)
            return; /* somebody was quicker */
        if (atomic_load(&s->until) < atomic_load(&victim->until))
            victim = s;
    }
    old = atomic_load(&victim->key);
    if (atomic_compare_exchange_strong(&victim->key, &old, key)) {
        atomic_store(&victim->fingerprint, 0);
        atomic_store(&victim->until, until);
    }
}

bool
ob_limiter_admit(uint64_t key, int64_t now, uint64_t *fingerprint)
{
    struct site *s = find(key);
    int64_t      until, next = now + atomic_load_explicit(&repeat, memory_order_relaxed);

    if (s == NULL) {
        insert(key, next);
        return true;
    }
    until = atomic_load(&s->until);
    if (now >= until && atomic_compare_exchange_strong(&s->until, &until, next))
        return true;
    *fingerprint = atomic_load(&s->fingerprint);
    return false;
}

void
ob_limiter_forget(uint64_t key)
{
    struct site *s = find(key);

    if (s != NULL)
        atomic_store(&s->until, 0);
}

/* ---- on the reporter's thread ---------------------------------------------------- */

/* seen_entry -- of the fingerprint; else a place for it, that of the oldest. */
static struct seen *
seen_entry(uint64_t fingerprint)
{
    struct seen *oldest = &seen[0];

    for (int i = 0; i < SEEN; i++) {
        if (seen[i].fingerprint == fingerprint)
            return &seen[i];
        if (seen[i].last < oldest->last)
            oldest = &seen[i];
    }
    return oldest;
}

static bool
minute_is_full(int64_t now)
{
    if (per_minute == 0)
        return true;
    if (full_count < (unsigned)per_minute)
        return false;
    return now - full[(full_count - (unsigned)per_minute) % MINUTE_MAX] < 60 * SECOND;
}

static void
tell(uint64_t key, uint64_t fingerprint, int64_t until)
{
    struct site *s = find(key);

    if (s == NULL)
        return;
    atomic_store(&s->fingerprint, fingerprint);
    atomic_store(&s->until, until);
}

bool
ob_limiter_judge(uint64_t key, uint64_t fingerprint, int64_t now, bool forced)
{
    struct seen *e = seen_entry(fingerprint);
    int64_t      again = atomic_load(&repeat);
    bool         known = e->fingerprint == fingerprint;

    if (!forced && known && now - e->last < again) {
        tell(key, fingerprint, e->last + again);
        return false;
    }
    if (!forced && minute_is_full(now)) {
        tell(key, fingerprint, now + (again < SECOND ? again : SECOND));
        return false;
    }
    e->fingerprint = fingerprint;
    e->last = now;
    full[full_count++ % MINUTE_MAX] = now;
    tell(key, fingerprint, now + again);
    return true;
}

uint64_t
ob_limiter_fingerprint(uint64_t key)
{
    struct site *s = find(key);

    return s != NULL ? atomic_load(&s->fingerprint) : 0;
}
