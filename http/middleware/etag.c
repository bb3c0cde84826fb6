/*
 * etag.c -- entity tags of replies that are whole in memory, and 304 for what the client has.
 *
 * A filter: the body comes to it in one piece exactly if it is whole, and then nothing
 * has been sent yet.  The hash is no cryptographic one: who can choose bodies that collide
 * can only make his own clients keep an older one of them.
 */

#include <bulkhead/http/compress.h>

#include <string.h>

#include <bulkhead/base/arena.h>

#include "fields.h"
#include "helpers.h"

/* ---- the hash -------------------------------------------------------------------- */

static uint64_t
mix(uint64_t a, uint64_t b)
{
    unsigned __int128 product = (unsigned __int128)a * b;

    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Two lanes of 64 bits, over 16 bytes at a time; the length goes in at the end. */
static void
hash(const unsigned char *data, size_t size, uint64_t out[2])
{
    uint64_t a = 0x9e3779b97f4a7c15, b = 0xc2b2ae3d27d4eb4f, words[2];
    size_t   left = size;

    while (left > 0) {
        size_t n = left < sizeof words ? left : sizeof words;

        memset(words, 0, sizeof words);
        memcpy(words, data, n);
        a = mix(a ^ words[0], words[1] ^ 0x165667b19e3779f9) + b;
        b = mix(b ^ words[1], words[0] ^ 0x27d4eb2f165667c5) ^ a;
        data += n;
        left -= n;
    }
    out[0] = mix(a ^ size, 0xa0761d6478bd642f);
    out[1] = mix(b + size, 0xe7037ed1a0b428db);
}

/* ---- the filter ------------------------------------------------------------------ */

struct tagging {
    bool begun;
};

static int64_t
etag_head(struct bh_http_call *c, void *arg, int64_t length)
{
    const char *caching = bh_http_reply_header(c, "Cache-Control");

    (void)arg;
    if (c->status != 200 || length < 0 || strcmp(c->method, "GET") != 0 ||
        bh_http_reply_header(c, "ETag") != NULL ||
        (caching != NULL && ht_list_has(caching, "no-store")))
        return BH_HTTP_SKIP;
    return length;
}

static int
etag_body(struct bh_http_call *c, void *arg, const void *data, size_t size,
          enum bh_http_part part)
{
    struct tagging *f = arg;
    bool            whole = !f->begun && part == BH_HTTP_LAST;
    const char     *list, *tag;
    uint64_t        sum[2];

    f->begun = true;
    if (!whole)
        return bh_http_pass(c, data, size, part);
    hash(data, size, sum);
    tag = bh_arena_print(c->arena, "\"%016llx%016llx\"", (unsigned long long)sum[0],
                         (unsigned long long)sum[1]);
    list = ht_request_list(c, "If-None-Match");
    if (bh_http_set_header(c, "ETag", tag) == 0 && list != NULL &&
        ht_etag_in(list, tag, true) && bh_http_not_modified(c) == 0)
        return bh_http_pass(c, NULL, 0, part);
    return bh_http_pass(c, data, size, part);
}

int
bh_http_etag(struct bh_http_call *c, void *arg)
{
    static const struct bh_http_filter filter = { .head = etag_head, .body = etag_body };

    (void)arg;
    (void)bh_http_filter(c, &filter, bh_arena_alloc(c->arena, sizeof(struct tagging)));
    return bh_http_next(c);
}
