/*
 * encoder.c -- zlib, brotli and zstd behind one function.
 *
 * Windows are kept small, 128 KiB to 256 KiB, so that many streams at a time fit into
 * memory; bodies of the web gain little from larger ones.
 */

#include "encoder.h"

#include <brotli/encode.h>
#include <stdlib.h>
#include <zlib.h>
#include <zstd.h>

#include <bulkhead/go/panic.h>

enum { GZIP_WINDOW = 15 + 16, GZIP_MEMORY = 8, BR_WINDOW = 18, ZSTD_WINDOW = 17 };

struct ht_encoder {
    enum ht_coding      coding;
    z_stream            z;
    BrotliEncoderState *br;
    ZSTD_CCtx          *zstd;
};

/* A failed encoder would leave half a body that looks whole. */
static void
require(bool good)
{
    if (!good)
        bh_panic("http: a compressor failed");
}

static void
begin_zstd(struct ht_encoder *e, int64_t size)
{
    if (size >= 0)
        require(!ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(e->zstd, (unsigned long long)size)));
}

static void
make_br(struct ht_encoder *e, int level, int64_t size)
{
    e->br = BrotliEncoderCreateInstance(NULL, NULL, NULL);
    require(e->br != NULL &&
            BrotliEncoderSetParameter(e->br, BROTLI_PARAM_QUALITY, (uint32_t)level) &&
            BrotliEncoderSetParameter(e->br, BROTLI_PARAM_LGWIN, BR_WINDOW));
    if (size >= 0 && size <= UINT32_MAX)
        (void)BrotliEncoderSetParameter(e->br, BROTLI_PARAM_SIZE_HINT, (uint32_t)size);
}

static void
make_zstd(struct ht_encoder *e, int level, int64_t size)
{
    e->zstd = ZSTD_createCCtx();
    require(e->zstd != NULL &&
            !ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, level)) &&
            !ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_windowLog, ZSTD_WINDOW)));
    begin_zstd(e, size);
}

struct ht_encoder *
ht_encoder_new(enum ht_coding coding, int level, int64_t size)
{
    struct ht_encoder *e = calloc(1, sizeof *e);

    require(e != NULL);
    e->coding = coding;
    if (coding == HT_GZIP)
        require(deflateInit2(&e->z, level, Z_DEFLATED, GZIP_WINDOW, GZIP_MEMORY,
                             Z_DEFAULT_STRATEGY) == Z_OK);
    else if (coding == HT_BR)
        make_br(e, level, size);
    else
        make_zstd(e, level, size);
    return e;
}

bool
ht_encoder_reuse(struct ht_encoder *e, int64_t size)
{
    if (e->coding == HT_GZIP)
        return deflateReset(&e->z) == Z_OK;
    if (e->coding != HT_ZSTD || ZSTD_isError(ZSTD_CCtx_reset(e->zstd, ZSTD_reset_session_only)))
        return false;
    begin_zstd(e, size);
    return true;
}

void
ht_encoder_free(struct ht_encoder *e)
{
    if (e->coding == HT_GZIP)
        (void)deflateEnd(&e->z);
    if (e->br != NULL)
        BrotliEncoderDestroyInstance(e->br);
    (void)ZSTD_freeCCtx(e->zstd);
    free(e);
}

enum ht_coding
ht_encoder_coding(const struct ht_encoder *e)
{
    return e->coding;
}

/* ---- steps ----------------------------------------------------------------------- */

static uInt
at_most(size_t size)
{
    return size < UINT32_MAX ? (uInt)size : UINT32_MAX;
}

static bool
step_gzip(z_stream *z, enum ht_encode how, const unsigned char **in, size_t *in_size,
          unsigned char **at, size_t *room)
{
    static const int flush[] = { Z_NO_FLUSH, Z_SYNC_FLUSH, Z_FINISH };
    uInt             take = at_most(*in_size), put = at_most(*room);
    int              rc;

    z->next_in = (unsigned char *)(uintptr_t)*in;
    z->avail_in = take;
    z->next_out = *at;
    z->avail_out = put;
    rc = deflate(z, take == *in_size ? flush[how] : Z_NO_FLUSH);
    require(rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR);
    *in_size -= take - z->avail_in;
    *room -= put - z->avail_out;
    *in = z->next_in;
    *at = z->next_out;
    if (how == HT_ENCODE_END)
        return rc == Z_STREAM_END;
    return *in_size == 0 && (how == HT_ENCODE_MORE || *room > 0);
}

static bool
step_br(BrotliEncoderState *br, enum ht_encode how, const unsigned char **in, size_t *in_size,
        unsigned char **at, size_t *room)
{
    static const BrotliEncoderOperation operations[] = { BROTLI_OPERATION_PROCESS,
                                                         BROTLI_OPERATION_FLUSH,
                                                         BROTLI_OPERATION_FINISH };

    require(BrotliEncoderCompressStream(br, operations[how], in_size, in, room, at, NULL));
    if (how == HT_ENCODE_END)
        return BrotliEncoderIsFinished(br);
    return *in_size == 0 && (how == HT_ENCODE_MORE || !BrotliEncoderHasMoreOutput(br));
}

static bool
step_zstd(ZSTD_CCtx *zstd, enum ht_encode how, const unsigned char **in, size_t *in_size,
          unsigned char **at, size_t *room)
{
    static const ZSTD_EndDirective directives[] = { ZSTD_e_continue, ZSTD_e_flush, ZSTD_e_end };
    ZSTD_inBuffer                  from = { *in, *in_size, 0 };
    ZSTD_outBuffer                 to = { *at, *room, 0 };
    size_t left = ZSTD_compressStream2(zstd, &to, &from, directives[how]);

    require(!ZSTD_isError(left));
    *in += from.pos;
    *in_size -= from.pos;
    *at += to.pos;
    *room -= to.pos;
    return *in_size == 0 && (how == HT_ENCODE_MORE || left == 0);
}

bool
ht_encoder_step(struct ht_encoder *e, enum ht_encode how, const unsigned char **in,
                size_t *in_size, unsigned char **at, size_t *room)
{
    if (e->coding == HT_GZIP)
        return step_gzip(&e->z, how, in, in_size, at, room);
    if (e->coding == HT_BR)
        return step_br(e->br, how, in, in_size, at, room);
    return step_zstd(e->zstd, how, in, in_size, at, room);
}
