#ifndef BULKHEAD_HTTP_URL_H
#define BULKHEAD_HTTP_URL_H

/*
 * url.h -- URLs of http and https, read strictly: what two programs could read
 * differently is refused, not repaired.
 *
 *     struct bh_url u;
 *     int rc = bh_url_parse(arena, "https://example.com/a/../b?q=1", &u);
 *     u.host is "example.com", u.port 443, u.target "/b?q=1"
 */

#include <stdbool.h>
#include <stdint.h>

struct bh_arena;

enum { BH_URL_MAX = 8192 }; /* bytes */

struct bh_url {
    const char *scheme;    /* "http" or "https" */
    const char *user;      /* unescaped; NULL without one */
    const char *password;  /* unescaped; NULL without one */
    const char *host;      /* in small letters; an IPv6 address without its brackets */
    const char *authority; /* what Host says: "example.com", "[::1]:8080"; no default port */
    const char *target;    /* "/path?query", escaped where it has to be; at least "/" */
    uint16_t    port;      /* the scheme's if none is given */
};

/*
 * bh_url_parse -- read text, which names scheme and host.
 *
 * The path's "." and ".." are resolved, the fragment is dropped, bytes that may not
 * be sent as they are get escaped.  Hosts are names of letters, digits, '-', '_' and '.',
 * IPv4 addresses of four decimal numbers, or IPv6 addresses in brackets.
 * Returns: 0; -EINVAL, -EPROTONOSUPPORT for another scheme, -ENAMETOOLONG, each noted.
 * Owns:    the strings are in the arena.
 */
int bh_url_parse(struct bh_arena *arena, const char *text, struct bh_url *url);

/*
 * bh_url_resolve -- read text as it stands in a document or a Location of base:
 * absolute, or "//host/path", "/path", "path", "?query", "#fragment", "".
 * User and password are never base's.
 * Returns: as bh_url_parse.
 * See:     RFC 3986 section 5.
 */
int bh_url_resolve(struct bh_arena *arena, const struct bh_url *base, const char *text,
                   struct bh_url *url);

/* bh_url_text -- the whole again, in the arena, without user and password. */
char *bh_url_text(struct bh_arena *arena, const struct bh_url *url);

/* bh_url_same_origin -- the same scheme, host and port. */
bool bh_url_same_origin(const struct bh_url *a, const struct bh_url *b);

/* bh_url_escape -- text as part of a path or query: all but letters, digits and "-._~" as %XX. */
char *bh_url_escape(struct bh_arena *arena, const char *text);

#endif
