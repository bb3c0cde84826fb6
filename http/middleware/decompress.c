/*
 * decompress.c -- compressed request bodies, delivered as what they stand for.
 *
 *     bh_http_read --> decoder <-- 8 KiB at a time <-- the body as it came
 *
 * The decoder stops when the reader's buffer is full, so what a small body may grow to
 * costs nothing before it is asked for, and is counted against the limit of bodies as it
 * is made.  Memory is bounded by the windows: 32 KiB, 16 MiB (brotli's largest), 8 MiB.
 */

#include <bulkhead/http/compress.h>

#include <brotli/decode.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include <bulkhead/base/arena.h>

#include "fields.h"
#include "helpers.h"

enum { IN_SIZE = 8192, GZIP_WINDOW = 15 + 16, ZSTD_WINDOW = 23 };

struct decompressing {
    enum ht_coding       coding;
    bool                 is_gzip; /* z is to be ended */
    z_stream             z;
    BrotliDecoderState  *br;
    ZSTD_DCtx           *zstd;
    const unsigned char *at; /* what is left of in */
    size_t               left;
    bool                 begun, ended; /* of what came: a byte, all */
    bool                 complete;     /* the decoder is at the end of a stream */
    unsigned char        in[IN_SIZE];
};

static void
free_decoder(void *arg)
{
    struct decompressing *d = arg;

    if (d->is_gzip)
        (void)inflateEnd(&d->z);
    if (d->br != NULL)
        BrotliDecoderDestroyInstance(d->br);
    (void)ZSTD_freeDCtx(d->zstd);
}

static void
make_decoder(struct decompressing *d)
{
    if (d->coding == HT_GZIP)
        d->is_gzip = inflateInit2(&d->z, GZIP_WINDOW) == Z_OK;
    else if (d->coding == HT_BR)
        d->br = BrotliDecoderCreateInstance(NULL, NULL, NULL);
    else if ((d->zstd = ZSTD_createDCtx()) != NULL)
        (void)ZSTD_DCtx_setParameter(d->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW);
    if (!d->is_gzip && d->br == NULL && d->zstd == NULL)
        bh_panic("http: out of memory for a decompressor");
}

/* ---- steps ----------------------------------------------------------------------- */

/* Each takes input and fills up to size bytes.  Returns: how many, or -EBADMSG. */

static ssize_t
step_gzip(struct decompressing *d, unsigned char *out, size_t size)
{
    uInt room = size < UINT32_MAX ? (uInt)size : UINT32_MAX;
    int  rc;

    if (d->complete && (d->left == 0 || inflateReset(&d->z) != Z_OK))
        return 0; /* else another member follows */
    d->z.next_in = (unsigned char *)(uintptr_t)d->at;
    d->z.avail_in = (uInt)d->left;
    d->z.next_out = out;
    d->z.avail_out = room;
    rc = inflate(&d->z, Z_NO_FLUSH);
    d->at += d->left - d->z.avail_in;
    d->left = d->z.avail_in;
    d->complete = rc == Z_STREAM_END;
    return rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR
               ? (ssize_t)(room - d->z.avail_out)
               : -EBADMSG;
}

static ssize_t
step_br(struct decompressing *d, unsigned char *out, size_t size)
{
    size_t              room = size;
    BrotliDecoderResult rc;

    if (d->complete)
        return d->left == 0 ? 0 : -EBADMSG;
    rc = BrotliDecoderDecompressStream(d->br, &d->left, &d->at, &room, &out, NULL);
    d->complete = rc == BROTLI_DECODER_RESULT_SUCCESS;
    return rc != BROTLI_DECODER_RESULT_ERROR ? (ssize_t)(size - room) : -EBADMSG;
}

static ssize_t
step_zstd(struct decompressing *d, unsigned char *out, size_t size)
{
    ZSTD_inBuffer  from = { d->at, d->left, 0 };
    ZSTD_outBuffer to = { out, size, 0 };
    size_t         hint;

    if (d->complete && d->left == 0)
        return 0;
    hint = ZSTD_decompressStream(d->zstd, &to, &from);
    d->at += from.pos;
    d->left -= from.pos;
    d->complete = hint == 0;
    return !ZSTD_isError(hint) ? (ssize_t)to.pos : -EBADMSG;
}

static ssize_t
read_decompressed(struct bh_http_call *c, void *arg, void *buffer, size_t size)
{
    struct decompressing *d = arg;
    ssize_t               n;

    for (;;) {
        n = d->coding == HT_GZIP ? step_gzip(d, buffer, size)
            : d->coding == HT_BR ? step_br(d, buffer, size)
                                 : step_zstd(d, buffer, size);
        if (n != 0)
            return n;
        if (d->left > 0)
            continue; /* a header, or the end of a part */
        if (d->ended)
            return d->complete || !d->begun ? 0 : -EBADMSG;
        n = bh_http_read(c, d->in, sizeof d->in);
        if (n < 0)
            return n;
        d->at = d->in;
        d->left = (size_t)n;
        d->begun = d->begun || n > 0;
        d->ended = n == 0;
    }
}

int
bh_http_decompress(struct bh_http_call *c, void *arg)
{
    const char           *value = ht_request_list(c, "Content-Encoding");
    struct decompressing *d;
    enum ht_coding        coding;

    (void)arg;
    if (value == NULL || strcasecmp(value, "identity") == 0)
        return bh_http_next(c);
    coding = ht_coding_find(value, strlen(value));
    if (coding == HT_CODINGS) {
        (void)bh_http_set_header(c, "Accept-Encoding", "gzip, br, zstd");
        return bh_http_reply(c, 415, "415 %s\n", bh_http_status_text(415));
    }
    d = bh_arena_alloc(c->arena, sizeof *d);
    d->coding = coding;
    bh_arena_defer(c->arena, free_decoder, d);
    make_decoder(d);
    bh_http_read_through(c, read_decompressed, d);
    return bh_http_next(c);
}
