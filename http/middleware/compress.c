/*
 * compress.c -- compression of replies: which, by what, and the filter that does it.
 *
 *     head:  worth it? --> Vary --> what does the client take? --> Content-Encoding
 *     body:  bytes --> encoder --> buffer of 8 KiB --> on
 *
 * The encoder is made for the first byte of a body, so replies without one cost none. It
 * is expensive to make (a quarter of a megabyte to clear), so those that can be used again
 * wait in a pool; the filter's free function puts them there however the call ended.
 * z->lock protects the pool only.
 *
 * An entity tag promises bytes.  Compressed ones are not the same from one version of a
 * compressor to the next, so a strong tag becomes weak, in the 304 too if that is the tag
 * the client has.
 */

#include <bulkhead/http/compress.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/sync.h>

#include "encoder.h"
#include "fields.h"
#include "helpers.h"

enum { POOLED = 8, OUT_SIZE = 8192, MIN_SIZE = 1024 };

static const char default_codings[] = "zstd, br, gzip";
static const char default_types[] =
    "text/*, *+json, *+xml, application/json, application/xml, application/javascript, "
    "application/yaml, application/toml, application/x-ndjson, application/wasm, font/otf, "
    "font/ttf, image/bmp, image/x-icon";

struct bh_http_compress {
    enum ht_coding codings[HT_CODINGS]; /* up to HT_IDENTITY */
    char          *types;
    int64_t        min_size;
    int            levels[HT_CODINGS];

    struct bh_mutex    lock;
    struct ht_encoder *pool[HT_CODINGS][POOLED];
    int                pooled[HT_CODINGS];
};

/* ---- life ------------------------------------------------------------------------ */

static void
read_codings(struct bh_http_compress *z, const char *list)
{
    size_t length;
    int    count = 0;

    for (const char *item; (item = ht_list_next(&list, &length)) != NULL;) {
        enum ht_coding coding = ht_coding_find(item, length);

        if (coding == HT_CODINGS || coding == HT_IDENTITY || count == HT_CODINGS - 1)
            bh_panic("http: unknown content coding \"%.*s\"", (int)length, item);
        z->codings[count++] = coding;
    }
    z->codings[count] = HT_IDENTITY;
}

static int
level(int wanted, int usual, int most)
{
    if (wanted < 0 || wanted > most)
        bh_panic("http: compression level %d is not between 1 and %d", wanted, most);
    return wanted != 0 ? wanted : usual;
}

/* Panics for options that are wrong: before anything is allocated. */
static void
read_options(struct bh_http_compress *z, const struct bh_http_compress_options *o)
{
    z->min_size = o->min_size != 0 ? o->min_size : MIN_SIZE;
    read_codings(z, o->codings != NULL ? o->codings : default_codings);
    z->levels[HT_GZIP] = level(o->gzip_level, 5, 9);
    z->levels[HT_BR] = level(o->br_level, 4, 11);
    z->levels[HT_ZSTD] = level(o->zstd_level, 3, 19);
}

struct bh_http_compress *
bh_http_compress_new(const struct bh_http_compress_options *options)
{
    static const struct bh_http_compress_options defaults;
    struct bh_http_compress                      read = { 0 }, *z;

    if (options == NULL)
        options = &defaults;
    read_options(&read, options);
    z = malloc(sizeof *z);
    if (z == NULL ||
        (read.types = strdup(options->types != NULL ? options->types : default_types)) == NULL)
        bh_panic("http: out of memory for compression");
    *z = read;
    return z;
}

void
bh_http_compress_free(struct bh_http_compress *z)
{
    if (z == NULL)
        return;
    for (int i = 0; i < HT_CODINGS; i++)
        while (z->pooled[i] > 0)
            ht_encoder_free(z->pool[i][--z->pooled[i]]);
    free(z->types);
    free(z);
}

/* ---- the pool -------------------------------------------------------------------- */

static struct ht_encoder *
take_encoder(struct bh_http_compress *z, enum ht_coding coding, int64_t size)
{
    struct ht_encoder *e = NULL;

    bh_mutex_lock(&z->lock);
    if (z->pooled[coding] > 0)
        e = z->pool[coding][--z->pooled[coding]];
    bh_mutex_unlock(&z->lock);
    if (e != NULL && ht_encoder_reuse(e, size))
        return e;
    if (e != NULL)
        ht_encoder_free(e);
    return ht_encoder_new(coding, z->levels[coding], size);
}

static void
give_encoder(struct bh_http_compress *z, struct ht_encoder *e)
{
    enum ht_coding coding = ht_encoder_coding(e);

    bh_mutex_lock(&z->lock);
    if (coding != HT_BR && z->pooled[coding] < POOLED) {
        z->pool[coding][z->pooled[coding]++] = e;
        e = NULL;
    }
    bh_mutex_unlock(&z->lock);
    if (e != NULL)
        ht_encoder_free(e);
}

/* ---- what to compress ------------------------------------------------------------ */

/* An item may end or begin with "*"; parameters do not count. */
static bool
type_is_in(const char *list, const char *type)
{
    size_t length = strcspn(type, "; \t"), n;

    for (const char *item; (item = ht_list_next(&list, &n)) != NULL;) {
        if (item[n - 1] == '*' && length >= n - 1 && strncasecmp(item, type, n - 1) == 0)
            return true;
        if (item[0] == '*' && length >= n - 1 &&
            strncasecmp(item + 1, type + length - (n - 1), n - 1) == 0)
            return true;
        if (n == length && strncasecmp(item, type, n) == 0)
            return true;
    }
    return false;
}

static bool
could_compress(const struct bh_http_compress *z, struct bh_http_call *c, int64_t length)
{
    const char *type = bh_http_reply_header(c, "Content-Type");
    const char *caching = bh_http_reply_header(c, "Cache-Control");

    return c->status >= 200 && c->status != 204 && c->status != 206 && c->status != 304 &&
           type != NULL && (length < 0 || length >= z->min_size) &&
           bh_http_reply_header(c, "Content-Encoding") == NULL &&
           bh_http_reply_header(c, "Content-Range") == NULL &&
           (caching == NULL || !ht_list_has(caching, "no-transform")) &&
           type_is_in(z->types, type);
}

static void
weaken_tag(struct bh_http_call *c)
{
    const char *tag = bh_http_reply_header(c, "ETag");

    if (tag != NULL && tag[0] == '"')
        (void)bh_http_set_header(c, "ETag", bh_arena_print(c->arena, "W/%s", tag));
}

/* A 304 names the tag that the client has: the weak one, if we compressed. */
static void
weaken_known_tag(struct bh_http_call *c)
{
    const char *tag = bh_http_reply_header(c, "ETag");
    const char *list = ht_request_list(c, "If-None-Match"), *weak;

    if (tag == NULL || tag[0] != '"' || list == NULL)
        return;
    weak = bh_arena_print(c->arena, "W/%s", tag);
    if (!ht_etag_in(list, tag, false) && strstr(list, weak) != NULL)
        (void)bh_http_set_header(c, "ETag", weak);
}

/* ---- the filter ------------------------------------------------------------------ */

struct compressing {
    struct bh_http_compress *z;
    enum ht_coding           coding;
    int64_t                  length;  /* of the body as it comes; -1: unknown */
    struct ht_encoder       *encoder; /* NULL: no byte has come yet */
    unsigned char           *out;
    size_t                   used;
};

static int64_t
compress_head(struct bh_http_call *c, void *arg, int64_t length)
{
    struct compressing *f = arg;

    if (c->status == 304)
        weaken_known_tag(c);
    if (!could_compress(f->z, c, length))
        return BH_HTTP_SKIP;
    ht_reply_varies(c, "Accept-Encoding");
    f->coding = ht_coding_choose(ht_request_list(c, "Accept-Encoding"), f->z->codings);
    if (f->coding == HT_IDENTITY)
        return BH_HTTP_SKIP;
    f->length = length;
    (void)bh_http_set_header(c, "Content-Encoding", ht_coding_name(f->coding));
    if (bh_http_reply_header(c, "Accept-Ranges") != NULL)
        (void)bh_http_set_header(c, "Accept-Ranges", "none");
    weaken_tag(c);
    return -1;
}

static void
begin_body(struct bh_http_call *c, struct compressing *f)
{
    f->out = bh_arena_alloc(c->arena, OUT_SIZE);
    f->encoder = take_encoder(f->z, f->coding, f->length);
    weaken_tag(c); /* a filter inside may have made one of the body */
}

static int
compress_body(struct bh_http_call *c, void *arg, const void *data, size_t size,
              enum bh_http_part part)
{
    static const enum ht_encode how[] = { [BH_HTTP_MORE] = HT_ENCODE_MORE,
                                          [BH_HTTP_FLUSH] = HT_ENCODE_FLUSH,
                                          [BH_HTTP_LAST] = HT_ENCODE_END };
    struct compressing         *f = arg;
    const unsigned char        *in = data;
    bool                        done = false;
    int                         rc = 0;

    if (c->status == 304) { /* a filter inside has made it one */
        weaken_known_tag(c);
        return bh_http_pass(c, NULL, 0, part);
    }
    if (f->encoder == NULL)
        begin_body(c, f);
    while (!done && rc == 0) {
        unsigned char *at = f->out + f->used;
        size_t         room = OUT_SIZE - f->used;

        done = ht_encoder_step(f->encoder, how[part], &in, &size, &at, &room);
        f->used = OUT_SIZE - room;
        if (done && part != BH_HTTP_MORE) {
            rc = bh_http_pass(c, f->out, f->used, part);
            f->used = 0;
        } else if (room == 0) {
            rc = bh_http_pass(c, f->out, f->used, BH_HTTP_MORE);
            f->used = 0;
        }
    }
    return rc;
}

static void
compress_free(void *arg)
{
    struct compressing *f = arg;

    if (f->encoder != NULL)
        give_encoder(f->z, f->encoder);
}

int
bh_http_compress(struct bh_http_call *c, void *arg)
{
    static const struct bh_http_filter filter = { compress_head, compress_body, compress_free };
    struct compressing                *f = bh_arena_alloc(c->arena, sizeof *f);

    f->z = arg;
    (void)bh_http_filter(c, &filter, f);
    return bh_http_next(c);
}
