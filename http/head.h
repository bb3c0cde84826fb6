#ifndef BULKHEAD_HTTP_HEAD_H
#define BULKHEAD_HTTP_HEAD_H

/*
 * head.h -- PRIVATE: reading an HTTP/1 request head, target and chunked body
 * from bytes.  These three (head.c, target.c, chunk.c) know nothing of sockets,
 * goroutines or panics, so that a fuzzer can link them alone.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What to refuse.  See struct bh_http_options for the meaning and the defaults. */
struct ht_limits {
    size_t   line;   /* bytes of the request line */
    size_t   head;   /* bytes of the whole head, blank line included */
    unsigned fields; /* header fields */
};

/*
 * ht_head_find -- look for the end of a head in bytes that arrive piecemeal.
 *
 * Zero *f before each request, keep it between calls; the bytes already seen
 * must not change.  One empty line before the request line is skipped.
 * Returns: the offset behind the head, its start in f->start; 0 if more
 * bytes are needed; or a negative HTTP status.
 */
struct ht_finder {
    size_t   start; /* of the request line: 0, or 2 behind an empty line */
    size_t   line;  /* start of the line being read */
    size_t   seen;  /* bytes already searched for a line feed */
    unsigned lines; /* complete ones, the empty first one excluded */
    const char *reason; /* of a negative result: static text */
};
long ht_head_find(struct ht_finder *f, const char *data, size_t size, const struct ht_limits *l);

struct ht_field {
    char    *name, *value; /* NUL-terminated, in the head's bytes; the value is trimmed */
    uint32_t name_length, value_length;
};

enum ht_body { HT_BODY_NONE, HT_BODY_LENGTH, HT_BODY_CHUNKED };

struct ht_head {
    char       *method; /* NUL-terminated, as are all strings here */
    char       *target;
    size_t      method_length, target_length;
    int         minor; /* HTTP/1.0 or HTTP/1.1 */
    struct ht_field *fields;
    unsigned    field_count;
    const char *host; /* the field's value; NULL without one */
    bool        host_good;    /* set by who knows: this very text has been found good before */
    bool        target_plain; /* no '%', '.' or '?' in it: nothing to split or to refuse */
    enum ht_body body;
    uint64_t    length; /* HT_BODY_LENGTH: bytes to come */
    bool        keep;   /* the client allows another request on the connection */
    bool        expect; /* Expect: 100-continue */
    const char *reason; /* why it was refused: static text */
};

/*
 * ht_head_parse -- parse `data`, one complete head as ht_head_find delimits it.
 *
 * Puts NULs into data.  `fields` has room for `max` of them.
 * Returns: 0, or a negative HTTP status with h->reason set.
 */
int ht_head_parse(struct ht_head *h, char *data, size_t size, struct ht_field *fields,
                  unsigned max);

/*
 * ht_head_read -- both, for bytes that usually are a complete head: the fast way.
 *
 * `fields` has room for l->fields of them.  Changes nothing in data; nothing in h is
 * NUL-terminated before ht_head_move.
 * Returns: as ht_head_find, with h->reason set too.
 */
long ht_head_read(struct ht_finder *f, struct ht_head *h, char *data, size_t size,
                  struct ht_field *fields, const struct ht_limits *l);
/* ht_head_move -- the bytes of h have been copied from `from` to `to`: follow, and put the NULs. */
void ht_head_move(struct ht_head *h, const char *from, char *to);

/* ht_name_is -- a field's name, ignoring case. */
bool ht_name_is(const struct ht_field *f, const char *name, size_t length);
/* ht_is_token -- a non-empty token of RFC 9110 section 5.6.2. */
bool ht_is_token(const char *text, size_t length);
/* ht_is_method, ht_is_target -- only bytes that a method or a target has in HTTP/1, and not empty. */
bool ht_is_method(const char *text, size_t length);
bool ht_is_target(const char *text, size_t length);
/* ht_is_value -- may be sent as a field's value: no control byte but tab. */
bool ht_is_value(const char *text, size_t length);

/* ---- target.c -------------------------------------------------------------------- */

struct ht_target {
    const char *path;  /* as sent, without the query; "*" for OPTIONS * */
    const char *query; /* behind the '?', "" without one */
    const char *host;  /* the authority that counts, "" if there is none */
};

/*
 * ht_target_parse -- split and check h's target and host.  May put NULs into it.
 * Returns: 0, or a negative HTTP status with h->reason set.
 */
int ht_target_parse(struct ht_target *t, struct ht_head *h);

/*
 * ht_unescape -- decode %XX (and '+' as space, if plus) from text into out, which
 * has room for length + 1.
 * Returns: the decoded length, NUL added; -1 on a malformed escape or a NUL byte.
 */
long ht_unescape(char *out, const char *text, size_t length, bool plus);

/* ---- chunk.c --------------------------------------------------------------------- */

/*
 * ht_chunk_next -- decode one step of a chunked body.
 *
 * Zero *d first.  Consumes framing from data; when it returns HT_CHUNK_DATA,
 * the next d->left bytes (or those of them that have arrived) are body: take
 * them, and tell with ht_chunk_take.
 * Returns: a step, *used bytes having been consumed.
 */
enum ht_chunk_step { HT_CHUNK_MORE, HT_CHUNK_DATA, HT_CHUNK_END, HT_CHUNK_BAD };
enum { HT_CHUNK_EXTENSIONS = 4096, HT_CHUNK_TRAILERS = 8192 }; /* bytes in a whole body */

struct ht_chunked {
    uint64_t left;       /* of the current chunk's data */
    uint32_t extensions; /* bytes of them so far */
    uint32_t trailers;   /* bytes of them so far */
    uint32_t tail;       /* the last bytes that the last call used: of the trailer section */
    uint8_t  state;
    uint8_t  digits;
    bool     first; /* in an extension: nothing of this part yet */
    uint8_t  name_length; /* of the trailer, at most sizeof name */
    char     name[18];
    const char *reason; /* of HT_CHUNK_BAD: static text */
};
enum ht_chunk_step ht_chunk_next(struct ht_chunked *d, const char *data, size_t size, size_t *used);
void               ht_chunk_take(struct ht_chunked *d, size_t size);

#endif
