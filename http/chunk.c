/*
 * chunk.c -- the framing of a chunked body, byte by byte, strictly.
 *
 *     SIZE --digits--> AFTER_SIZE ---CR--> SIZE_LF --LF--> DATA -> DATA_CR -> DATA_LF -+
 *                        |  ';'                  |                                    |
 *                        +-> EXTENSION ---CR-----+ size 0: TRAILER <------ next SIZE --+
 *
 *     TRAILER --CR--> END_LF --LF--> DONE
 *        +--name--> TRAILER_NAME --':'--> TRAILER_VALUE --CR--> TRAILER_LF --> TRAILER
 *
 * A size is 1 to 16 hexadecimal digits, at once followed by CR LF or ';'.  No
 * bare CR or LF, no control byte, no white space around a size: each of these is read
 * differently by some server, which is how requests are smuggled.  Extensions and
 * trailers are checked, counted against a limit, and dropped.
 * See: RFC 9112 section 7.1.
 */

#include "head.h"

#include <string.h>

enum {
    SIZE,
    AFTER_SIZE,
    EXTENSION,
    SIZE_LF,
    DATA,
    DATA_CR,
    DATA_LF,
    TRAILER,
    TRAILER_NAME,
    TRAILER_VALUE,
    TRAILER_LF,
    END_LF,
    DONE,
    BAD
};

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

static uint8_t
bad(struct ht_chunked *d, const char *reason)
{
    d->reason = reason;
    return BAD;
}

static uint8_t
in_size(struct ht_chunked *d, char c)
{
    int digit = hex_value(c);

    if (digit >= 0) {
        if (++d->digits > 16 || d->left > UINT64_MAX >> 4)
            return bad(d, "chunk size too large");
        d->left = d->left << 4 | (uint64_t)digit;
        return AFTER_SIZE;
    }
    if (d->digits == 0)
        return bad(d, "bad chunk size");
    if (c == '\r')
        return SIZE_LF;
    return c == ';' ? EXTENSION : bad(d, "bad chunk size");
}

static uint8_t
in_extension(struct ht_chunked *d, char c)
{
    if (++d->extensions > HT_CHUNK_EXTENSIONS)
        return bad(d, "chunk extensions too long");
    if (c == '\r')
        return SIZE_LF;
    return ht_is_value(&c, 1) ? EXTENSION : bad(d, "bad chunk extension");
}

static uint8_t
in_trailer(struct ht_chunked *d, char c)
{
    if (++d->trailers > HT_CHUNK_TRAILERS)
        return bad(d, "trailers too long");
    switch (d->state) {
    case TRAILER:
        if (c == '\r')
            return END_LF;
        return ht_is_token(&c, 1) ? TRAILER_NAME : bad(d, "bad trailer name");
    case TRAILER_NAME:
        if (c == ':')
            return TRAILER_VALUE;
        return ht_is_token(&c, 1) ? TRAILER_NAME : bad(d, "bad trailer name");
    default:
        if (c == '\r')
            return TRAILER_LF;
        return ht_is_value(&c, 1) ? TRAILER_VALUE : bad(d, "control byte in a trailer");
    }
}

/* The line feed that must follow a CR; then: to which state. */
static uint8_t
line_feed(struct ht_chunked *d, char c, uint8_t then)
{
    return c == '\n' ? then : bad(d, "carriage return without line feed");
}

static uint8_t
step(struct ht_chunked *d, char c)
{
    switch (d->state) {
    case SIZE:
    case AFTER_SIZE:
        return in_size(d, c);
    case EXTENSION:
        return in_extension(d, c);
    case SIZE_LF:
        return line_feed(d, c, d->left > 0 ? DATA : TRAILER);
    case DATA_CR:
        return c == '\r' ? DATA_LF : bad(d, "chunk longer than its size");
    case DATA_LF:
        d->digits = 0;
        return line_feed(d, c, SIZE);
    case TRAILER:
    case TRAILER_NAME:
    case TRAILER_VALUE:
        return in_trailer(d, c);
    case TRAILER_LF:
        return line_feed(d, c, TRAILER);
    case END_LF:
        return line_feed(d, c, DONE);
    default:
        return d->state;
    }
}

enum ht_chunk_step
ht_chunk_next(struct ht_chunked *d, const char *data, size_t size, size_t *used)
{
    size_t at = 0;

    while (at < size && d->state != DATA && d->state != DONE && d->state != BAD)
        d->state = step(d, data[at++]);
    *used = at;
    switch (d->state) {
    case DATA:
        return HT_CHUNK_DATA;
    case DONE:
        return HT_CHUNK_END;
    case BAD:
        return HT_CHUNK_BAD;
    default:
        return HT_CHUNK_MORE;
    }
}

void
ht_chunk_take(struct ht_chunked *d, size_t size)
{
    d->left -= size;
    if (d->left == 0)
        d->state = DATA_CR;
}
