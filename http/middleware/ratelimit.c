/*
 * ratelimit.c -- so many requests a second for each key.
 *
 * A bucket is one number: the time at which it would be full again if nothing more came.  A
 * request moves that on by the time that one of them is worth; if it would lie more than a
 * whole bucket ahead, the request is refused.  (The generic cell rate algorithm.)
 *
 * Buckets are in shards, by the hash of their key, each with its lock, its table and its
 * list by last use; over its share of max_keys a shard forgets the bucket used longest ago,
 * which is the fullest it has.  Hashes are keyed by a random number, so that nobody can
 * make keys that collide.
 *
 * An IPv6 address counts with its /64, since that is what one client gets.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/limits.h>
#include <bulkhead/http/security.h>

enum { SHARDS = 16 };

struct bucket {
    struct bucket *next_in_slot;
    struct bucket *newer, *older; /* by last use */
    uint64_t       hash;
    int64_t        full_at;
    char           key[];
};

struct shard {
    struct bh_mutex lock;
    struct bucket **slots;
    struct bucket  *newest, *oldest;
    unsigned        count, mask, max;
};

struct bh_http_rate {
    struct bh_http_rate_options o;
    int64_t                     each, whole; /* ns: of one request, of a full bucket */
    uint64_t                    seed;
    struct shard                shards[SHARDS];
};

static void *
need(void *memory)
{
    if (memory == NULL)
        bh_panic("http: out of memory for a rate limit");
    return memory;
}

struct bh_http_rate *
bh_http_rate_new(const struct bh_http_rate_options *options)
{
    struct bh_http_rate *r;

    if (!(options->per_second > 0))
        bh_panic("http: a rate limit needs a rate");
    r = need(calloc(1, sizeof *r));
    r->o = *options;
    if (r->o.burst == 0)
        r->o.burst = options->per_second > 1 ? (unsigned)options->per_second : 1;
    if (r->o.max_keys == 0)
        r->o.max_keys = 100000;
    if (r->o.status == 0)
        r->o.status = 429;
    r->each = (int64_t)((double)BH_SECOND / options->per_second);
    r->whole = r->each * r->o.burst;
    if (getrandom(&r->seed, sizeof r->seed, 0) != sizeof r->seed)
        bh_panic("http: no random number: %s", strerror(errno));
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &r->shards[i];
        unsigned      size = 16;

        s->max = r->o.max_keys / SHARDS > 0 ? r->o.max_keys / SHARDS : 1;
        while (size < s->max && size < 1u << 20)
            size *= 2;
        s->mask = size - 1;
        s->slots = need(calloc(size, sizeof *s->slots));
    }
    return r;
}

void
bh_http_rate_free(struct bh_http_rate *r)
{
    if (r == NULL)
        return;
    for (int i = 0; i < SHARDS; i++) {
        for (struct bucket *b = r->shards[i].newest, *older; b != NULL; b = older) {
            older = b->older;
            free(b);
        }
        free(r->shards[i].slots);
    }
    free(r);
}

/* ---- buckets: with the shard's lock ---------------------------------------------- */

static uint64_t
hash_of(uint64_t seed, const char *key)
{
    uint64_t h = seed;

    for (; *key != '\0'; key++) {
        h = (h ^ (unsigned char)*key) * UINT64_C(0x9e3779b97f4a7c15);
        h ^= h >> 29;
    }
    return h ^ h >> 32;
}

static void
unlink_bucket(struct shard *s, struct bucket *b)
{
    *(b->newer != NULL ? &b->newer->older : &s->newest) = b->older;
    *(b->older != NULL ? &b->older->newer : &s->oldest) = b->newer;
}

static void
put_newest(struct shard *s, struct bucket *b)
{
    b->newer = NULL;
    b->older = s->newest;
    *(s->newest != NULL ? &s->newest->newer : &s->oldest) = b;
    s->newest = b;
}

static void
forget(struct shard *s, struct bucket *b)
{
    struct bucket **at = &s->slots[b->hash & s->mask];

    while (*at != b)
        at = &(*at)->next_in_slot;
    *at = b->next_in_slot;
    unlink_bucket(s, b);
    s->count--;
    free(b);
}

static struct bucket *
find(struct shard *s, uint64_t hash, const char *key)
{
    struct bucket *b = s->slots[hash & s->mask];
    size_t         size = strlen(key) + 1;

    while (b != NULL && (b->hash != hash || strcmp(b->key, key) != 0))
        b = b->next_in_slot;
    if (b != NULL) {
        unlink_bucket(s, b);
        put_newest(s, b);
        return b;
    }
    if (s->count == s->max)
        forget(s, s->oldest);
    b = malloc(sizeof *b + size);
    if (b == NULL)
        return NULL;
    b->hash = hash;
    b->full_at = 0;
    memcpy(b->key, key, size);
    b->next_in_slot = s->slots[hash & s->mask];
    s->slots[hash & s->mask] = b;
    put_newest(s, b);
    s->count++;
    return b;
}

/*
 * Take one from key's bucket.  Returns: 0, or ns until there is one; *full_in: ns until it
 * is full.  Without memory for a new one, nobody is refused.
 */
static int64_t
take(struct bh_http_rate *r, const char *key, int64_t *full_in)
{
    uint64_t       hash = hash_of(r->seed, key);
    struct shard  *s = &r->shards[hash >> 60];
    int64_t        now = bh_now(), wait = 0;
    struct bucket *b;

    *full_in = 0;
    bh_mutex_lock(&s->lock);
    b = find(s, hash, key);
    if (b != NULL) {
        if (b->full_at < now)
            b->full_at = now;
        if (b->full_at + r->each - now > r->whole)
            wait = b->full_at + r->each - now - r->whole;
        else
            b->full_at += r->each;
        *full_in = b->full_at - now;
    }
    bh_mutex_unlock(&s->lock);
    return wait;
}

/* ---- the middleware -------------------------------------------------------------- */

/* The client's address, an IPv6 one without its last half. */
static const char *
client_key(struct bh_http_call *c)
{
    const char     *ip = bh_http_client_ip(c);
    struct in6_addr a;

    if (ip == NULL || inet_pton(AF_INET6, ip, &a) != 1)
        return ip;
    return bh_arena_print(c->arena, "%02x%02x%02x%02x%02x%02x%02x%02x/64", a.s6_addr[0],
                          a.s6_addr[1], a.s6_addr[2], a.s6_addr[3], a.s6_addr[4], a.s6_addr[5],
                          a.s6_addr[6], a.s6_addr[7]);
}

static long long
seconds_up(int64_t ns)
{
    return (ns + BH_SECOND - 1) / BH_SECOND;
}

static void
set_number(struct bh_http_call *c, const char *name, long long number)
{
    char text[24];

    snprintf(text, sizeof text, "%lld", number);
    (void)bh_http_set_header(c, name, text);
}

int
bh_http_rate_limit(struct bh_http_call *c, void *arg)
{
    struct bh_http_rate *r = arg;
    const char          *key = r->o.key != NULL ? r->o.key(c, r->o.key_arg) : client_key(c);
    int64_t              wait, full_in;

    if (key == NULL)
        return bh_http_next(c);
    wait = take(r, key, &full_in);
    set_number(c, "RateLimit-Limit", r->o.burst);
    set_number(c, "RateLimit-Remaining", (r->whole - full_in) / r->each);
    set_number(c, "RateLimit-Reset", seconds_up(full_in));
    if (wait == 0)
        return bh_http_next(c);
    set_number(c, "Retry-After", seconds_up(wait));
    return bh_http_reply(c, r->o.status, "%d %s\n", r->o.status,
                         bh_http_status_text(r->o.status));
}
