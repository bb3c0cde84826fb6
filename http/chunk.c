/*
 * chunk.c -- the framing of a chunked body, byte by byte, strictly.
 *
 *     SIZE --digits--> AFTER_SIZE ---CR--> SIZE_LF --LF--> DATA -> DATA_CR -> DATA_LF -+
 *                        |  ';'                  |                                    |
 *                        +-> EXT_* --------CR----+ size 0: TRAILER <------ next SIZE --+
 *
 *     TRAILER --CR--> END_LF --LF--> DONE
 *        +--name--> TRAILER_NAME --':'--> TRAILER_VALUE --CR--> TRAILER_LF --> TRAILER
 *
 * A size is 1 to 16 hexadecimal digits, at once followed by CR LF or ';'.  No
 * bare CR or LF, no control byte, no white space around a size: each of these is read
 * differently by some server, which is how requests are smuggled.  Extensions
 * (name, name=token, name="text") are checked, counted against a limit, and dropped;
 * so are trailers, whose bytes the caller may keep; ones that would frame a message are
 * refused.
 * See: RFC 9112 section 7.1.
 */

#include "head.h"

#include <string.h>

enum {
    SIZE,
    AFTER_SIZE,
    EXT_NAME,  /* behind ';' or in a name */
    EXT_VALUE, /* behind '=' or in a token */
    EXT_TEXT,  /* inside quotes */
    EXT_END,   /* behind them */
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
    d->first = true;
    return c == ';' ? EXT_NAME : bad(d, "bad chunk size");
}

/* What may follow a name, a token or a quoted text that is not empty. */
static uint8_t
after_extension(struct ht_chunked *d, char c)
{
    if (c == '\r')
        return SIZE_LF;
    return c == ';' ? EXT_NAME : bad(d, "bad chunk extension");
}

static uint8_t
in_extension(struct ht_chunked *d, char c)
{
    bool first = d->first;

    if (++d->extensions > HT_CHUNK_EXTENSIONS)
        return bad(d, "chunk extensions too long");
    d->first = c == ';' || c == '=';
    switch (d->state) {
    case EXT_NAME:
        if (ht_is_token(&c, 1))
            return EXT_NAME;
        if (first)
            return bad(d, "bad chunk extension");
        return c == '=' ? EXT_VALUE : after_extension(d, c);
    case EXT_VALUE:
        if (first && c == '"')
            return EXT_TEXT;
        if (ht_is_token(&c, 1))
            return EXT_VALUE;
        return first ? bad(d, "bad chunk extension") : after_extension(d, c);
    case EXT_TEXT:
        if (c == '"')
            return EXT_END;
        if (c < ' ' || c > '~' || c == '\\' || c == ',') /* escapes; llhttp takes no comma */
            return bad(d, "bad chunk extension");
        return EXT_TEXT;
    default:
        return after_extension(d, c);
    }
}

/* Fields that say where a message or the connection ends have no business behind it. */
static bool
frames(const struct ht_chunked *d)
{
    const struct ht_field f = { .name = (char *)(uintptr_t)d->name,
                                .name_length = d->name_length };

    return ht_name_is(&f, "content-length", 14) || ht_name_is(&f, "transfer-encoding", 17) ||
           ht_name_is(&f, "connection", 10);
}

static uint8_t
in_trailer_name(struct ht_chunked *d, char c)
{
    if (c == ':' && d->state == TRAILER_NAME)
        return frames(d) ? bad(d, "framing field in the trailers") : TRAILER_VALUE;
    if (!ht_is_token(&c, 1))
        return bad(d, "bad trailer name");
    if (d->name_length < sizeof d->name)
        d->name[d->name_length++] = c;
    return TRAILER_NAME;
}

static uint8_t
in_trailer(struct ht_chunked *d, char c)
{
    if (++d->trailers > HT_CHUNK_TRAILERS)
        return bad(d, "trailers too long");
    switch (d->state) {
    case TRAILER:
        d->name_length = 0;
        return c == '\r' ? END_LF : in_trailer_name(d, c);
    case TRAILER_NAME:
        return in_trailer_name(d, c);
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
    case EXT_NAME:
    case EXT_VALUE:
    case EXT_TEXT:
    case EXT_END:
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

    d->tail = 0;
    while (at < size && d->state != DATA && d->state != DONE && d->state != BAD) {
        d->tail += d->state >= TRAILER;
        d->state = step(d, data[at++]);
    }
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
