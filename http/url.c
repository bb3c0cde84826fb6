/*
 * url.c -- URLs of http and https.
 *
 *     https://user:password@host:port/path?query#fragment
 *             +------- authority -----+---- target --+
 *
 * Read once from the left, each part up to the byte that ends it, and checked against what
 * the part may hold.  We are stricter than RFC 3986 where programs differ, since
 * one checks a URL and another opens it: no empty or escaped host, no IPv4 address but of
 * four decimal numbers (127.1 and 0x7f000001 are ones to inet_aton), no backslash, white
 * space or control byte anywhere, no '%' without two digits.  We are laxer where
 * there is one meaning: bytes beyond ASCII and a few others in path and query are escaped.
 *
 * A reference is resolved as text: what base has and the reference lacks is put before
 * it, and the whole is read as any other.
 *
 * See: RFC 3986; the host rules are close to WHATWG URL's, "ends in a number".
 */

#include <bulkhead/http/url.h>

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/error.h>

#include "head.h"

enum { HOST_MAX = 253, LABEL_MAX = 63 };

/* Kinds of bytes: in a host's name; in user and password; in path and query, as it is or escaped. */
enum { HOST = 1, USER = 2, PLAIN = 4, ESCAPED = 8, FREE = 16 };

static const uint8_t kinds[256] = {
    ['!'] = USER | PLAIN,
    ['"'] = ESCAPED,
    ['$'] = USER | PLAIN,
    ['%'] = USER | PLAIN,
    ['&'] = USER | PLAIN,
    ['\''] = USER | PLAIN,
    ['('] = USER | PLAIN,
    [')'] = USER | PLAIN,
    ['*'] = USER | PLAIN,
    ['+'] = USER | PLAIN,
    [','] = USER | PLAIN,
    ['-'] = HOST | USER | PLAIN | FREE,
    ['.'] = HOST | USER | PLAIN | FREE,
    ['/'] = PLAIN,
    ['0' ... '9'] = HOST | USER | PLAIN | FREE,
    [':'] = PLAIN,
    [';'] = USER | PLAIN,
    ['<'] = ESCAPED,
    ['='] = USER | PLAIN,
    ['>'] = ESCAPED,
    ['?'] = PLAIN,
    ['@'] = PLAIN,
    ['A' ... 'Z'] = HOST | USER | PLAIN | FREE,
    ['['] = ESCAPED,
    [']'] = ESCAPED,
    ['^'] = ESCAPED,
    ['_'] = HOST | USER | PLAIN | FREE,
    ['`'] = ESCAPED,
    ['a' ... 'z'] = HOST | USER | PLAIN | FREE,
    ['{'] = ESCAPED,
    ['|'] = ESCAPED,
    ['}'] = ESCAPED,
    ['~'] = USER | PLAIN | FREE,
    [0x80 ... 0xff] = ESCAPED,
};

static const char hex[] = "0123456789ABCDEF";

static int
bad(const char *why)
{
    return bh_fail(-EINVAL, "url: %s", why);
}

static bool
is_hex(char c)
{
    return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool
all_of(const char *text, size_t length, unsigned kind)
{
    for (size_t i = 0; i < length; i++)
        if ((kinds[(unsigned char)text[i]] & kind) == 0)
            return false;
    return true;
}

/* Whether each '%' has its two digits. */
static bool
escapes_are_good(const char *text, size_t length)
{
    for (size_t i = 0; i < length; i++)
        if (text[i] == '%' && (i + 2 >= length || !is_hex(text[i + 1]) || !is_hex(text[i + 2])))
            return false;
    return true;
}

/* ---- authority ------------------------------------------------------------------- */

static int
parse_user(struct bh_arena *arena, struct bh_url *u, const char *text, size_t length)
{
    const char *colon = memchr(text, ':', length);
    size_t      user = colon != NULL ? (size_t)(colon - text) : length;
    size_t      password = colon != NULL ? length - user - 1 : 0;
    char       *out;

    if (!all_of(text, user, USER) || (colon != NULL && !all_of(colon + 1, password, USER)))
        return bad("bad byte in user or password");
    out = bh_arena_alloc(arena, length + 2);
    if (ht_unescape(out, text, user, false) < 0)
        return bad("malformed escape in the user");
    u->user = out;
    if (colon == NULL)
        return 0;
    out += strlen(out) + 1;
    if (ht_unescape(out, colon + 1, password, false) < 0)
        return bad("malformed escape in the password");
    u->password = out;
    return 0;
}

/* Whether a host whose last label is a number is "a.b.c.d", as everybody reads it. */
static bool
is_ipv4(const char *host)
{
    struct in_addr a;
    char           again[INET_ADDRSTRLEN];

    return inet_pton(AF_INET, host, &a) == 1 &&
           inet_ntop(AF_INET, &a, again, sizeof again) != NULL && strcmp(again, host) == 0;
}

static bool
ends_in_a_number(const char *host, size_t length)
{
    const char *label;

    if (length > 0 && host[length - 1] == '.')
        length--;
    label = host + length;
    while (label > host && label[-1] != '.')
        label--;
    return length > (size_t)(label - host) && is_digit(*label) &&
           (strspn(label, "0123456789") >= length - (size_t)(label - host) ||
            strncmp(label, "0x", 2) == 0);
}

/* Letters are small already. */
static int
check_name(const char *host, size_t length)
{
    size_t label = 0;

    if (length == 0)
        return bad("no host");
    if (length > HOST_MAX)
        return bad("host too long");
    if (!all_of(host, length, HOST))
        return bad("bad byte in the host");
    for (size_t i = 0; i < length; i++) {
        label = host[i] == '.' ? 0 : label + 1;
        if (label > LABEL_MAX || (label == 0 && (i == 0 || host[i - 1] == '.')))
            return bad("bad label in the host");
    }
    if (ends_in_a_number(host, length) && !is_ipv4(host))
        return bad("host ends in a number, but is no IPv4 address");
    return 0;
}

/* Returns: 0; *end is behind the host. */
static int
parse_host(struct bh_arena *arena, struct bh_url *u, const char *text, size_t length,
           const char **end)
{
    bool            literal = length > 0 && *text == '[';
    const char     *close = literal ? memchr(text, ']', length) : NULL;
    const char     *colon = literal ? NULL : memchr(text, ':', length);
    struct in6_addr a;
    char           *host;

    if (literal) {
        if (close == NULL)
            return bad("no ] behind an IPv6 address");
        host = bh_arena_string(arena, text + 1, (size_t)(close - text - 1));
        if (inet_pton(AF_INET6, host, &a) != 1)
            return bad("bad IPv6 address");
        *end = close + 1;
    } else {
        *end = colon != NULL ? colon : text + length;
        host = bh_arena_string(arena, text, (size_t)(*end - text));
    }
    for (char *p = host; *p != '\0'; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p | 0x20);
    u->host = host;
    return literal ? 0 : check_name(host, (size_t)(*end - text));
}

static int
parse_port(struct bh_url *u, const char *text, size_t length)
{
    unsigned port = 0;

    if (length == 0)
        return 0;
    if (*text != ':' || length < 2 || length > 6)
        return bad("bad port");
    for (size_t i = 1; i < length; i++) {
        if (!is_digit(text[i]))
            return bad("bad port");
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    if (port == 0 || port > 65535)
        return bad("bad port");
    u->port = (uint16_t)port;
    return 0;
}

static int
parse_authority(struct bh_arena *arena, struct bh_url *u, const char *text, size_t length)
{
    const char *at = memrchr(text, '@', length), *end = text + length, *rest = end;
    uint16_t    usual = u->port;
    bool        literal;
    int         rc = 0;

    if (at != NULL) {
        rc = parse_user(arena, u, text, (size_t)(at - text));
        text = at + 1;
    }
    if (rc == 0)
        rc = parse_host(arena, u, text, (size_t)(end - text), &rest);
    if (rc == 0)
        rc = parse_port(u, rest, (size_t)(end - rest));
    if (rc < 0)
        return rc;
    literal = strchr(u->host, ':') != NULL;
    u->authority =
        u->port == usual && !literal
            ? u->host
            : bh_arena_print(arena, u->port == usual ? "%s%s%s" : "%s%s%s:%u",
                             literal ? "[" : "", u->host, literal ? "]" : "", u->port);
    return 0;
}

/* ---- target ---------------------------------------------------------------------- */

/* How many bytes of a segment are a dot, plain or escaped; 0 if it is none. */
static size_t
dot(const char *p, size_t length)
{
    if (length > 0 && *p == '.')
        return 1;
    return length >= 3 && p[0] == '%' && p[1] == '2' && (p[2] | 0x20) == 'e' ? 3 : 0;
}

/* Returns: 1 or 2 if the segment is "." or "..", else 0. */
static int
dots(const char *p, size_t length)
{
    size_t first = dot(p, length), second;

    if (first == 0)
        return 0;
    if (first == length)
        return 1;
    second = dot(p + first, length - first);
    return second > 0 && first + second == length ? 2 : 0;
}

/* Resolve "." and ".." of the path in place; it begins with '/'.  Returns: its new length. */
static size_t
remove_dots(char *path, size_t length)
{
    size_t out = 0, in = 0;

    while (in < length) { /* path[in] is '/' */
        size_t segment = in + 1, end = segment;
        int    n;

        while (end < length && path[end] != '/')
            end++;
        n = dots(path + segment, end - segment);
        if (n == 2)
            while (out > 0 && path[--out] != '/')
                continue;
        if (n == 0) {
            memmove(path + out, path + in, end - in);
            out += end - in;
        } else if (end == length) {
            path[out++] = '/';
        }
        in = end;
    }
    return out;
}

static int
parse_target(struct bh_arena *arena, struct bh_url *u, const char *text)
{
    size_t length = strcspn(text, "#"), n = 0, path;
    char  *out = bh_arena_alloc(arena, 3 * length + 2);

    if (!all_of(text, length, PLAIN | ESCAPED))
        return bad("white space, backslash or control byte in path or query");
    if (!escapes_are_good(text, length))
        return bad("malformed escape in path or query");
    if (*text != '/')
        out[n++] = '/';
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];

        if (kinds[c] & PLAIN) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        }
    }
    out[n] = '\0';
    path = strcspn(out, "?");
    length = remove_dots(out, path);
    memmove(out + length, out + path, n - path + 1);
    u->target = out;
    return 0;
}

/* ---- the whole ------------------------------------------------------------------- */

/* Returns: the length of "scheme:" at the start, 0 if there is none. */
static size_t
scheme_of(const char *text)
{
    size_t n = 0;

    while ((text[n] | 0x20) >= 'a' && (text[n] | 0x20) <= 'z')
        n++;
    if (n == 0)
        return 0;
    n += strspn(text + n, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-.");
    return text[n] == ':' ? n + 1 : 0;
}

static int
parse(struct bh_arena *arena, const char *text, struct bh_url *url)
{
    struct bh_url u = { 0 };
    size_t        scheme = scheme_of(text), authority;
    int           rc;

    if (scheme == 0)
        return bad("no scheme");
    if (scheme == 5 && strncasecmp(text, "http:", 5) == 0) {
        u.scheme = "http";
        u.port = 80;
    } else if (scheme == 6 && strncasecmp(text, "https:", 6) == 0) {
        u.scheme = "https";
        u.port = 443;
    } else {
        return bh_fail(-EPROTONOSUPPORT, "url: scheme is not http or https");
    }
    text += scheme;
    if (strncmp(text, "//", 2) != 0)
        return bad("no // behind the scheme");
    text += 2;
    authority = strcspn(text, "/?#");
    rc = parse_authority(arena, &u, text, authority);
    if (rc == 0)
        rc = parse_target(arena, &u, text + authority);
    if (rc == 0)
        *url = u;
    return rc;
}

int
bh_url_parse(struct bh_arena *arena, const char *text, struct bh_url *url)
{
    if (strlen(text) > BH_URL_MAX)
        return bh_fail(-ENAMETOOLONG, "url: longer than %d bytes", BH_URL_MAX);
    return parse(arena, text, url);
}

int
bh_url_resolve(struct bh_arena *arena, const struct bh_url *base, const char *text,
               struct bh_url *url)
{
    const char *target = base->target;
    size_t      path = strcspn(target, "?"), keep;

    if (strlen(text) > BH_URL_MAX)
        return bh_fail(-ENAMETOOLONG, "url: longer than %d bytes", BH_URL_MAX);
    if (scheme_of(text) > 0)
        return parse(arena, text, url);
    if (strncmp(text, "//", 2) == 0)
        return parse(arena, bh_arena_print(arena, "%s:%s", base->scheme, text), url);
    if (*text == '/')
        keep = 0;
    else if (*text == '?')
        keep = path;
    else if (*text == '#' || *text == '\0')
        keep = strlen(target);
    else
        for (keep = path; target[keep - 1] != '/'; keep--)
            continue;
    return parse(arena,
                 bh_arena_print(arena, "%s://%s%.*s%s", base->scheme, base->authority,
                                (int)keep, target, text),
                 url);
}

char *
bh_url_text(struct bh_arena *arena, const struct bh_url *u)
{
    return bh_arena_print(arena, "%s://%s%s", u->scheme, u->authority, u->target);
}

bool
bh_url_same_origin(const struct bh_url *a, const struct bh_url *b)
{
    return strcmp(a->scheme, b->scheme) == 0 && a->port == b->port &&
           strcmp(a->host, b->host) == 0;
}

char *
bh_url_escape(struct bh_arena *arena, const char *text)
{
    char  *out = bh_arena_alloc(arena, 3 * strlen(text) + 1);
    size_t n = 0;

    for (; *text != '\0'; text++) {
        unsigned char c = (unsigned char)*text;

        if (kinds[c] & FREE) {
            out[n++] = (char)c;
        } else {
            out[n++] = '%';
            out[n++] = hex[c >> 4];
            out[n++] = hex[c & 15];
        }
    }
    out[n] = '\0';
    return out;
}
