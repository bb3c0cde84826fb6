#ifndef BULKHEAD_HTTP_COMPRESS_H
#define BULKHEAD_HTTP_COMPRESS_H

/*
 * compress.h -- middleware that makes replies smaller: compression, and 304 for what the
 * client has already.
 *
 *     bh_http_use(s, bh_http_compress, compress);     outside
 *     bh_http_use(s, bh_http_etag, NULL);             inside: one tag for all codings
 */

#include <stdint.h>

#include <bulkhead/http/http.h>

struct bh_http_compress;

/* Zero means the default beside the field. */
struct bh_http_compress_options {
    const char *codings; /* to offer, the preferred first: "zstd, br, gzip" */
    const char     *
        types; /* of bodies worth it, "*" ending or beginning an item: text, JSON, XML, scripts, SVG, wasm */
    int64_t min_size;   /* bytes from which on it is worth it: 1024 */
    int     gzip_level; /* 1 to 9: 5 */
    int     br_level;   /* 1 to 11: 4 */
    int     zstd_level; /* 1 to 19: 3 */
};

/*
 * bh_http_compress_new -- Owns: the caller, until bh_http_compress_free, after the server is freed.
 * Panics: on a coding it does not know, or a level out of range.
 */
struct bh_http_compress *bh_http_compress_new(const struct bh_http_compress_options *options);
void bh_http_compress_free(struct bh_http_compress *z); /* NULL is a no-op */

/*
 * bh_http_compress -- middleware: compress bodies, as Accept-Encoding wishes.  arg: struct bh_http_compress.
 *
 * Leaves alone what has a Content-Encoding or a Content-Range, says "no-transform", is of
 * another type or too small.  Where it could compress it adds "Vary: Accept-Encoding"; where it
 * does, strong entity tags become weak.  A flush of the reply flushes the encoder.
 */
bh_http_fn bh_http_compress;

/*
 * bh_http_decompress -- middleware: deliver request bodies of gzip, br and zstd decompressed.  arg: unused.
 *
 * Other codings are refused, 415.  What is malformed or cut off is -EBADMSG when read, 400; the limit of
 * bodies counts for the decompressed bytes, so a bomb is 413.  Content-Encoding and Content-Length stay.
 */
bh_http_fn bh_http_decompress;

/*
 * bh_http_etag -- middleware: tag replies of 200 to GET that are whole in memory, by their
 * bytes; 304 instead, if the client has it.  arg: unused.
 *
 * Leaves alone what has a tag already, and what is streamed or says "no-store".  The work of making
 * the reply is done all the same.
 */
bh_http_fn bh_http_etag;

#endif
