/*
 * guard.c -- who may see "/debug/...": this machine, whom the options name, who has the token.
 *
 * Three ways in from outside have to be shut.  A proxy on this machine connects from a loopback
 * address: so a request that was forwarded counts as nobody's, unless bh_http_real_ip has
 * found whose it is.  A page of a stranger, in a browser on this machine, can make requests to
 * loopback addresses: so those that come from another origin are refused.  And such a page can have
 * its own name resolve to a loopback address (DNS rebinding), and then is of the same origin: so
 * names that are not ours are refused.
 */

#include <bulkhead/observe/page.h>

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/http/http.h>
#include <bulkhead/http/security.h>

/* An address as 16 bytes, IPv4 mapped into IPv6. */
struct address {
    unsigned char bytes[16];
};

static bool
parse_address(const char *text, size_t length, struct address *a)
{
    static const unsigned char mapped[12] = { [10] = 0xff, [11] = 0xff };
    char                       copy[INET6_ADDRSTRLEN];

    if (length >= sizeof copy)
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (inet_pton(AF_INET6, copy, a->bytes) == 1)
        return true;
    memcpy(a->bytes, mapped, sizeof mapped);
    return inet_pton(AF_INET, copy, a->bytes + 12) == 1;
}

static bool
same_bits(const struct address *a, const struct address *b, unsigned bits)
{
    unsigned whole = bits / 8, rest = bits % 8;

    return memcmp(a->bytes, b->bytes, whole) == 0 &&
           (rest == 0 || ((a->bytes[whole] ^ b->bytes[whole]) >> (8 - rest)) == 0);
}

/* "10.0.0.0/8", or one address; what is neither has nobody. */
static bool
block_has(const char *block, const struct address *a)
{
    const char    *slash = strchr(block, '/');
    size_t         length = slash != NULL ? (size_t)(slash - block) : strlen(block);
    struct address b;
    unsigned long  bits = 128;
    char          *end;

    if (!parse_address(block, length, &b))
        return false;
    if (slash != NULL) {
        bool v4 = memchr(block, ':', length) == NULL;

        bits = strtoul(slash + 1, &end, 10);
        if (slash[1] < '0' || slash[1] > '9' || *end != '\0' || bits > (v4 ? 32 : 128))
            return false;
        bits += v4 ? 96 : 0;
    }
    return same_bits(a, &b, (unsigned)bits);
}

static bool
is_loopback(const char *ip)
{
    struct address a;

    return parse_address(ip, strlen(ip), &a) &&
           (block_has("127.0.0.0/8", &a) || block_has("::1", &a));
}

/* ---- who asks -------------------------------------------------------------------- */

/* Whether ip is the connection's own peer, "127.0.0.1:50312" or "[::1]:50312". */
static bool
is_peer(struct bh_http_call *c, const char *ip)
{
    const char *peer = c->peer;
    size_t      length = strlen(ip);

    peer += *peer == '[';
    return strncmp(peer, ip, length) == 0 && (peer[length] == ':' || peer[length] == ']');
}

static bool
was_forwarded(struct bh_http_call *c)
{
    return bh_http_header(c, "X-Forwarded-For") != NULL ||
           bh_http_header(c, "Forwarded") != NULL || bh_http_header(c, "X-Real-IP") != NULL;
}

static bool
client_allowed(struct bh_http_call *c, const struct bh_http_debug_options *o)
{
    const char    *ip = bh_http_client_ip(c);
    bool           unix_socket = strcmp(ip, "unix") == 0, own = unix_socket || is_peer(c, ip);
    struct address a;

    if (own && was_forwarded(c))
        return false; /* nobody knows for whom */
    if (unix_socket)
        return true;
    if (own && is_loopback(ip)) /* of others that is hearsay */
        return true;
    if (!parse_address(ip, strlen(ip), &a))
        return false;
    for (const char *const *p = o->peers; p != NULL && *p != NULL; p++)
        if (block_has(*p, &a))
            return true;
    return false;
}

/* ---- by which name --------------------------------------------------------------- */

static bool
name_is(const char *host, size_t length, const char *name)
{
    return strlen(name) == length && strncasecmp(host, name, length) == 0;
}

/* A name that no stranger can have pointed here; an address is none that DNS has changed. */
static bool
host_allowed(struct bh_http_call *c, const struct bh_http_debug_options *o)
{
    const char    *host = c->host;
    size_t         length;
    struct address a;

    if (strcmp(bh_http_client_ip(c), "unix") == 0)
        return true; /* no browser gets here */
    if (*host == '[') {
        length = strcspn(++host, "]");
        return parse_address(host, length, &a);
    }
    length = strcspn(host, ":");
    if (name_is(host, length, "localhost") || parse_address(host, length, &a))
        return true;
    if (length > 10 && strncasecmp(host + length - 10, ".localhost", 10) == 0)
        return true;
    for (const char *const *p = o->hosts; p != NULL && *p != NULL; p++)
        if (name_is(host, length, *p))
            return true;
    return false;
}

/* A page of another origin may lead here, as any link, but not look at what it gets, nor change anything. */
static bool
origin_allowed(struct bh_http_call *c)
{
    const char *origin = bh_http_header(c, "Origin"),
               *site = bh_http_header(c, "Sec-Fetch-Site"),
               *mode = bh_http_header(c, "Sec-Fetch-Mode");

    if (origin != NULL) {
        const char *at = strstr(origin, "://");

        return at != NULL && strcasecmp(at + 3, c->host) == 0;
    }
    if (site == NULL || strcmp(site, "same-origin") == 0 || strcmp(site, "none") == 0)
        return true;
    return strcmp(c->method, "GET") == 0 && mode != NULL && strcmp(mode, "navigate") == 0;
}

/* ---- with what ------------------------------------------------------------------- */

/* In a time that does not tell how much was right. */
static bool
same_secret(const char *given, size_t length, const char *secret)
{
    size_t   size = strlen(secret);
    unsigned differ = length != size;

    for (size_t i = 0; i < length; i++)
        differ |= (unsigned)(given[i] ^ secret[size > 0 ? i % size : 0]);
    return differ == 0;
}

static int
digit_of(char c)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c != '\0' ? strchr(digits, c) : NULL;

    return at != NULL ? (int)(at - digits) : -1;
}

/* Base64.  Returns: bytes in out; -1 for what is none, or too long. */
static int
decode(const char *text, char *out, int room)
{
    unsigned bits = 0;
    int      have = 0, n = 0;

    for (; digit_of(*text) >= 0; text++) {
        bits = bits << 6 | (unsigned)digit_of(*text);
        have += 6;
        if (have < 8)
            continue;
        have -= 8;
        if (n == room)
            return -1;
        out[n++] = (char)(bits >> have);
    }
    return strspn(text, "=") == strlen(text) ? n : -1;
}

static bool
has_token(struct bh_http_call *c, const char *token)
{
    const char *field = bh_http_header(c, "Authorization");
    char        pair[512];
    const char *password;
    int         n;

    if (token == NULL || *token == '\0' || field == NULL)
        return false;
    if (strncasecmp(field, "Bearer ", 7) == 0)
        return same_secret(field + 7, strlen(field + 7), token);
    if (strncasecmp(field, "Basic ", 6) != 0)
        return false;
    n = decode(field + 6, pair, sizeof pair);
    password = n > 0 ? memchr(pair, ':', (size_t)n) : NULL;
    return password != NULL &&
           same_secret(password + 1, (size_t)(pair + n - password - 1), token);
}

static int
refuse(struct bh_http_call *c, const char *why)
{
    return bh_http_reply(c, 403, "403 Forbidden: %s\n", why);
}

int
bh_http_debug_guard(struct bh_http_call *c, void *arg)
{
    static const struct bh_http_debug_options none;
    const struct bh_http_debug_options       *o = arg != NULL ? arg : &none;

    (void)bh_http_set_header(c, "Cache-Control", "no-store");
    (void)bh_http_set_header(c, "X-Content-Type-Options", "nosniff");
    (void)bh_http_set_header(c, "X-Frame-Options", "DENY");
    (void)bh_http_set_header(c, "Referrer-Policy", "no-referrer");
    if (!origin_allowed(c))
        return refuse(c, "another site's page asks");
    if (has_token(c, o->token))
        return bh_http_next(c);
    if (client_allowed(c, o))
        return host_allowed(c, o) ? bh_http_next(c) : refuse(c, "not by this name");
    if (o->token == NULL)
        return refuse(c, "only from this machine");
    (void)bh_http_set_header(c, "WWW-Authenticate", "Basic realm=\"debug\"");
    return bh_http_reply(c, 401, "401 Unauthorized: a token is wanted\n");
}
