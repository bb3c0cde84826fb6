#ifndef BULKHEAD_HTTP_MIDDLEWARE_FIELDS_H
#define BULKHEAD_HTTP_MIDDLEWARE_FIELDS_H

/*
 * fields.h -- PRIVATE: reading the header fields that stock middleware acts on.
 *
 *     range.c        Range; lists of entity tags; dates
 *     accept.c       Accept-Encoding
 *     address.c      addresses and blocks of them; Forwarded, X-Forwarded-For
 *     credentials.c  Authorization
 *
 * These four know nothing of goroutines or requests, so that a fuzzer can link them
 * alone.  What they read is hostile: none of it may cost more than time linear in its
 * length, and what is malformed counts as absent or is refused, never guessed at.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- range.c --------------------------------------------------------------------- */

/* A field asking for more is ignored: the whole is cheaper to send than such a mosaic. */
enum { HT_MAX_RANGES = 16 };

struct ht_range {
    int64_t start, size;
};

/*
 * ht_ranges_parse -- what a Range field asks of `size` bytes.
 *
 * Ranges outside are dropped.  Returns: how many are left; 0: the field is to be ignored,
 * being malformed, of another unit, or asking for more than there is; -1: nothing it
 * names is there (416).
 * See: RFC 9110 section 14.
 */
int ht_ranges_parse(const char *value, int64_t size, struct ht_range ranges[HT_MAX_RANGES]);

/*
 * ht_etag_in -- whether a list of If-Match or If-None-Match names tag ("\"x\"", "W/\"x\"").
 *
 * weak: compare weakly, else strongly.  "*" names every tag.  What follows a malformed
 * entry is not looked at.
 * See: RFC 9110 section 8.8.3.2.
 */
bool ht_etag_in(const char *list, const char *tag, bool weak);
/* ht_etag_is_valid -- one tag and nothing else. */
bool ht_etag_is_valid(const char *tag);

enum { HT_DATE_SIZE = 30 };
/* ht_date_put -- "Wed, 25 Nov 2026 10:31:07 GMT" of a Unix time. */
void ht_date_put(char text[HT_DATE_SIZE], int64_t time);
/* ht_date_parse -- any of the three forms of RFC 9110 section 5.6.7.  Returns: whether it is one. */
bool ht_date_parse(const char *text, int64_t *time);

/* ---- accept.c -------------------------------------------------------------------- */

enum ht_coding { HT_IDENTITY, HT_GZIP, HT_BR, HT_ZSTD, HT_CODINGS };

/*
 * ht_coding_choose -- the best coding for an Accept-Encoding field.
 *
 * value: NULL if there is none.  allowed: codings to choose from, the preferred first, up to
 * HT_IDENTITY.  Of equal weights the earlier wins; identity, unless weighed itself, loses
 * against all.  If the client accepts none, identity.
 */
enum ht_coding ht_coding_choose(const char *value, const enum ht_coding *allowed);
/* ht_coding_name -- "gzip"; ht_coding_find -- by name of any case; HT_CODINGS if unknown. */
const char    *ht_coding_name(enum ht_coding coding);
enum ht_coding ht_coding_find(const char *name, size_t length);

/* ht_list_has -- whether a comma-separated list has the token, ignoring case. */
bool ht_list_has(const char *list, const char *token);
/* ht_list_next -- the next item of a list, trimmed; *at moves on.  Returns: NULL at the end. */
const char *ht_list_next(const char **at, size_t *length);

/* ---- address.c ------------------------------------------------------------------- */

/* IPv4 as ::ffff:a.b.c.d, so that the two ways to write one address are one. */
struct ht_address {
    unsigned char bytes[16];
};

struct ht_block {
    struct ht_address base;
    unsigned          bits; /* of 128 */
};

enum { HT_ADDRESS_TEXT = 46 };

/* ht_address_parse -- "10.0.0.1", "::1", "[::1]", either of the first and last with ":port". */
bool ht_address_parse(const char *text, size_t length, struct ht_address *a);
void ht_address_put(char text[HT_ADDRESS_TEXT], const struct ht_address *a);
/* ht_block_parse -- "10.0.0.0/8", "fd00::/8", or one address.  Bits behind the prefix must be 0. */
bool ht_block_parse(const char *text, size_t length, struct ht_block *b);
bool ht_block_has(const struct ht_block *b, const struct ht_address *a);

struct ht_blocks {
    const struct ht_block *at;
    size_t                 count;
};
bool ht_blocks_have(const struct ht_blocks *blocks, const struct ht_address *a);

/* Who a chain of proxies says the client is. */
struct ht_origin {
    bool              known; /* address is set */
    struct ht_address address;
    char              proto[8]; /* "https"; of Forwarded only; "" if not said */
};

/*
 * ht_forwarded_walk, ht_x_forwarded_walk -- from the right, pass the trusted.
 *
 * The list is what trusted proxies and, further left, anybody wrote.  The address found
 * is the first that is not trusted, else the last that could be read: a malformed entry,
 * "unknown" or "_hidden" ends the walk.
 * See: RFC 7239.
 */
void ht_forwarded_walk(const char *value, const struct ht_blocks *trusted, struct ht_origin *o);
void ht_x_forwarded_walk(const char *value, const struct ht_blocks *trusted,
                         struct ht_origin *o);

/* ---- credentials.c --------------------------------------------------------------- */

/*
 * ht_basic_parse -- user and password of "Basic dXNlcjpwYXNz", NUL-terminated in room,
 * which has strlen(value) + 1 bytes.
 * Returns: false if it is something else or malformed: bad base64, no colon, control bytes.
 * See: RFC 7617.
 */
bool ht_basic_parse(const char *value, char *room, const char **user, const char **password);
/* ht_bearer_parse -- the token of "Bearer token"; NULL if it is none or malformed.  See: RFC 6750. */
const char *ht_bearer_parse(const char *value);
/* ht_scheme_is -- whether an Authorization field begins with this scheme. */
bool ht_scheme_is(const char *value, const char *scheme);

#endif
