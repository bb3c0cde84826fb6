/*
 * pb.h -- protobuf, written backwards: a message's length is known once it is written.
 *
 * A nested message stands behind its length, and the length is a varint of unknown
 * width; writers that go forwards measure everything first or move bytes afterwards.
 * This one fills its buffer from the end towards the start: contents first, then the
 * length, then the tag.  One pass, no allocation, no lock: it may run in the hook of a
 * panic.  So the LAST field of a message is written FIRST:
 *
 *     struct pb w;
 *     pb_init(&w, buffer, sizeof(buffer));
 *     size_t mark = pb_begin(&w);
 *     pb_string(&w, 2, "second");
 *     pb_uint(&w, 1, 150);
 *     pb_end(&w, 7, mark);                field 7 is the message {1: 150, 2: "second"}
 *     pb_data(&w), pb_length(&w)          what to send; it ends where the buffer ends
 *
 * Too small a buffer sets `overflow`, sticky; the bytes are worthless then.  To keep
 * what fitted, note pb_length() before a part, and pb_rewind() to it.
 *
 * Canonical as the official encoders write it: shortest varints, zero and empty fields
 * left out, except where a function's name ends in _always (members of a oneof, and
 * fields declared `optional`, exist by being present).
 * Structs live on their owner's stack: no function here is meant for two threads.
 */
#ifndef BULKHEAD_OBSERVE_PB_H
#define BULKHEAD_OBSERVE_PB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum pb_wire { PB_VARINT = 0, PB_FIXED64 = 1, PB_BYTES = 2, PB_FIXED32 = 5 };

struct pb {
    uint8_t *start, *at, *end; /* at..end is what has been written */
    bool     overflow;
};

static inline void
pb_init(struct pb *w, void *buffer, size_t size)
{
    w->start = buffer;
    w->end = w->at = w->start + size;
    w->overflow = false;
}

static inline size_t
pb_length(const struct pb *w)
{
    return (size_t)(w->end - w->at);
}

static inline const uint8_t *
pb_data(const struct pb *w)
{
    return w->at;
}

/* Forget all that was written since pb_length() was `length`, an overflow included. */
static inline void
pb_rewind(struct pb *w, size_t length)
{
    w->at = w->end - length;
    w->overflow = false;
}

static inline bool
pb_room(struct pb *w, size_t size)
{
    if (w->overflow || (size_t)(w->at - w->start) < size) {
        w->overflow = true;
        return false;
    }
    w->at -= size;
    return true;
}

/* Bytes without a tag. */
static inline void
pb_raw(struct pb *w, const void *data, size_t size)
{
    if (size != 0 && pb_room(w, size)) {
        memcpy(w->at, data, size);
    }
}

/* A varint without a tag: as in a packed field, written between pb_begin and pb_end. */
static inline void
pb_varint(struct pb *w, uint64_t v)
{
    if (v < 0x80) {
        if (pb_room(w, 1)) {
            *w->at = (uint8_t)v;
        }
        return;
    }
    uint8_t bytes[10];
    size_t  n = 0;
    do {
        bytes[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    } while (v != 0);
    bytes[n - 1] &= 0x7f;
    pb_raw(w, bytes, n);
}

static inline void
pb_tag(struct pb *w, uint32_t field, enum pb_wire wire)
{
    pb_varint(w, (uint64_t)field << 3 | wire);
}

static inline void
pb_uint_always(struct pb *w, uint32_t field, uint64_t v)
{
    pb_varint(w, v);
    pb_tag(w, field, PB_VARINT);
}

/* uint32, uint64, bool and enumerations; int64 too: a negative one takes ten bytes. */
static inline void
pb_uint(struct pb *w, uint32_t field, uint64_t v)
{
    if (v != 0) {
        pb_uint_always(w, field, v);
    }
}

static inline void
pb_int(struct pb *w, uint32_t field, int64_t v)
{
    pb_uint(w, field, (uint64_t)v);
}

/* sint32, sint64: zigzag. */
static inline void
pb_sint(struct pb *w, uint32_t field, int64_t v)
{
    pb_uint(w, field, ((uint64_t)v << 1) ^ (uint64_t)(v >> 63));
}

static inline uint64_t
pb_little64(uint64_t v)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    v = __builtin_bswap64(v);
#endif
    return v;
}

/* A fixed64, sfixed64 or (its bits) double without a tag: for packed fields. */
static inline void
pb_raw64(struct pb *w, uint64_t v)
{
    v = pb_little64(v);
    pb_raw(w, &v, sizeof(v));
}

static inline void
pb_fixed64_always(struct pb *w, uint32_t field, uint64_t v)
{
    pb_raw64(w, v);
    pb_tag(w, field, PB_FIXED64);
}

static inline void
pb_fixed64(struct pb *w, uint32_t field, uint64_t v)
{
    if (v != 0) {
        pb_fixed64_always(w, field, v);
    }
}

static inline void
pb_fixed32(struct pb *w, uint32_t field, uint32_t v)
{
    if (v != 0) {
        uint8_t bytes[4] = { (uint8_t)v, (uint8_t)(v >> 8), (uint8_t)(v >> 16),
                             (uint8_t)(v >> 24) };
        pb_raw(w, bytes, sizeof(bytes));
        pb_tag(w, field, PB_FIXED32);
    }
}

static inline uint64_t
pb_double_bits(double v)
{
    uint64_t bits;
    memcpy(&bits, &v, sizeof(bits));
    return bits;
}

static inline void
pb_double_always(struct pb *w, uint32_t field, double v)
{
    pb_fixed64_always(w, field, pb_double_bits(v));
}

/* -0.0 is not the default: like the official encoders we compare bits. */
static inline void
pb_double(struct pb *w, uint32_t field, double v)
{
    pb_fixed64(w, field, pb_double_bits(v));
}

static inline void
pb_bytes_always(struct pb *w, uint32_t field, const void *data, size_t size)
{
    pb_raw(w, data, size);
    pb_varint(w, size);
    pb_tag(w, field, PB_BYTES);
}

static inline void
pb_bytes(struct pb *w, uint32_t field, const void *data, size_t size)
{
    if (size != 0) {
        pb_bytes_always(w, field, data, size);
    }
}

/* NULL counts as empty. */
static inline void
pb_string(struct pb *w, uint32_t field, const char *s)
{
    pb_bytes(w, field, s, s == NULL ? 0 : strlen(s));
}

/* A message, or a packed field: everything between these two is its contents. */
static inline size_t
pb_begin(const struct pb *w)
{
    return pb_length(w);
}

/* Empty messages are written: a set field and an absent one differ. */
static inline void
pb_end(struct pb *w, uint32_t field, size_t mark)
{
    pb_varint(w, pb_length(w) - mark);
    pb_tag(w, field, PB_BYTES);
}

#endif
