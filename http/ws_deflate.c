/*
 * ws_deflate.c -- permessage-deflate: a message is a raw DEFLATE stream, flushed, without
 * the four bytes 00 00 ff ff that every flush ends with.
 *
 * Whoever calls says how much output there may be, so that a small message that
 * inflates to a large one costs what was allowed and no more.
 *
 * A peer may also end its stream (a block with the final bit) and append an empty
 * block's first byte; the stream starts anew behind it, with the window as it was.
 *
 * See: RFC 7692, section 7.
 */

#include "ws_frame.h"

#include <errno.h>

enum { MEMORY_LEVEL = 8, LEAST_BITS = 9 }; /* zlib's deflate knows no window of 2^8 */

static unsigned
at_most(size_t size)
{
    return size < 1u << 30 ? (unsigned)size : 1u << 30;
}

/* ---- inflating ------------------------------------------------------------------- */

static int
open_inflate(struct ht_ws_zip *z)
{
    if (z->open)
        return 0;
    if (inflateInit2(&z->z, -(z->bits < LEAST_BITS ? LEAST_BITS : z->bits)) != Z_OK)
        return -ENOMEM;
    z->open = true;
    z->ended = false;
    return 0;
}

void
ht_ws_inflate_feed(struct ht_ws_zip *z, const void *data, size_t size)
{
    z->z.next_in = (z_const Bytef *)(uintptr_t)data;
    z->z.avail_in = at_most(size);
}

void
ht_ws_inflate_last(struct ht_ws_zip *z)
{
    static const uint8_t tail[4] = { 0x00, 0x00, 0xff, 0xff };

    ht_ws_inflate_feed(z, tail, sizeof tail);
}

ssize_t
ht_ws_inflate(struct ht_ws_zip *z, void *out, size_t size)
{
    unsigned room = at_most(size);
    int      rc = open_inflate(z);

    if (rc < 0)
        return rc;
    z->z.next_out = out;
    z->z.avail_out = room;
    do {
        if (z->ended && z->z.avail_in > 0) {
            (void)inflateResetKeep(&z->z);
            z->ended = false;
        }
        rc = z->ended ? Z_BUF_ERROR : inflate(&z->z, Z_SYNC_FLUSH);
        z->ended = z->ended || rc == Z_STREAM_END;
    } while (rc == Z_STREAM_END && z->z.avail_in > 0 && z->z.avail_out > 0);
    if (rc == Z_MEM_ERROR)
        return -ENOMEM;
    if (rc != Z_OK && rc != Z_STREAM_END && rc != Z_BUF_ERROR)
        return -EBADMSG;
    return (ssize_t)(room - z->z.avail_out);
}

int
ht_ws_inflate_end(struct ht_ws_zip *z)
{
    /* Between blocks, at a byte's boundary. */
    bool whole = z->ended || (z->z.data_type & (128 | 63)) == 128;

    if (z->forget)
        ht_ws_inflate_free(z);
    return whole ? 0 : -EBADMSG;
}

void
ht_ws_inflate_free(struct ht_ws_zip *z)
{
    if (z->open)
        (void)inflateEnd(&z->z);
    z->open = false;
}

/* ---- deflating ------------------------------------------------------------------- */

void
ht_ws_deflate_feed(struct ht_ws_zip *z, const void *data, size_t size)
{
    z->z.next_in = (z_const Bytef *)(uintptr_t)data;
    z->z.avail_in = at_most(size);
    z->flushed = false;
}

ssize_t
ht_ws_deflate(struct ht_ws_zip *z, void *out, size_t size)
{
    if (z->flushed)
        return 0;
    if (!z->open && deflateInit2(&z->z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, -z->bits,
                                 MEMORY_LEVEL, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    z->open = true;
    z->z.next_out = out;
    z->z.avail_out = at_most(size);
    (void)deflate(&z->z, Z_SYNC_FLUSH); /* Z_BUF_ERROR: nothing was left to do */
    z->flushed = z->z.avail_out > 0;
    return (ssize_t)(at_most(size) - z->z.avail_out);
}

void
ht_ws_deflate_end(struct ht_ws_zip *z)
{
    if (z->forget)
        ht_ws_deflate_free(z);
}

void
ht_ws_deflate_free(struct ht_ws_zip *z)
{
    if (z->open)
        (void)deflateEnd(&z->z);
    z->open = false;
}
