/*
 * address.c -- addresses, blocks of them, and the lists in which proxies name them.
 *
 * Both lists grow on the right, each proxy adding the address it was called from.  So
 * what stands right of the first stranger was written by those we trust, and what
 * stands left of it by the stranger: walked from the right, it cannot lie.
 */

#include "fields.h"

#include <arpa/inet.h>
#include <string.h>
#include <strings.h>

/* ---- addresses ------------------------------------------------------------------- */

static const unsigned char v4_prefix[12] = { [10] = 0xff, [11] = 0xff };

static bool
is_v4(const struct ht_address *a)
{
    return memcmp(a->bytes, v4_prefix, sizeof v4_prefix) == 0;
}

static bool
parse_plain(const char *text, size_t length, struct ht_address *a)
{
    char copy[INET6_ADDRSTRLEN];

    if (length == 0 || length >= sizeof copy || memchr(text, '\0', length) != NULL)
        return false;
    memcpy(copy, text, length);
    copy[length] = '\0';
    if (strchr(copy, ':') != NULL)
        return inet_pton(AF_INET6, copy, a->bytes) == 1;
    memcpy(a->bytes, v4_prefix, sizeof v4_prefix);
    return inet_pton(AF_INET, copy, a->bytes + sizeof v4_prefix) == 1;
}

/* "" or ":443", or RFC 7239's ":_hidden". */
static bool
is_port(const char *text, size_t length)
{
    if (length == 0)
        return true;
    if (text[0] != ':' || length < 2 || length > 32)
        return false;
    for (size_t i = 1; i < length; i++)
        if (!(text[i] >= '0' && text[i] <= '9') && text[1] != '_')
            return false;
    return true;
}

bool
ht_address_parse(const char *text, size_t length, struct ht_address *a)
{
    const char *colon = memchr(text, ':', length), *bracket;
    size_t      n;

    if (length > 0 && text[0] == '[') {
        bracket = memchr(text, ']', length);
        if (bracket == NULL)
            return false;
        n = (size_t)(bracket - text);
        return memchr(text + 1, ':', n - 1) != NULL && parse_plain(text + 1, n - 1, a) &&
               is_port(bracket + 1, length - n - 1);
    }
    /* One colon: a port.  More: IPv6. */
    if (colon == NULL || memchr(colon + 1, ':', length - (size_t)(colon - text) - 1) != NULL)
        return parse_plain(text, length, a);
    n = (size_t)(colon - text);
    return parse_plain(text, n, a) && is_port(colon, length - n);
}

void
ht_address_put(char text[HT_ADDRESS_TEXT], const struct ht_address *a)
{
    if (is_v4(a))
        (void)inet_ntop(AF_INET, a->bytes + sizeof v4_prefix, text, HT_ADDRESS_TEXT);
    else
        (void)inet_ntop(AF_INET6, a->bytes, text, HT_ADDRESS_TEXT);
}

/* ---- blocks ---------------------------------------------------------------------- */

/* How many of the first `bits` bits are the same: all? */
static bool
same_prefix(const unsigned char *a, const unsigned char *b, unsigned bits)
{
    unsigned bytes = bits / 8, rest = bits % 8;

    return memcmp(a, b, bytes) == 0 && (rest == 0 || (a[bytes] ^ b[bytes]) >> (8 - rest) == 0);
}

static bool
is_zero_behind(const struct ht_address *a, unsigned bits)
{
    for (unsigned i = bits; i < 128; i++)
        if ((a->bytes[i / 8] >> (7 - i % 8) & 1) != 0)
            return false;
    return true;
}

bool
ht_block_parse(const char *text, size_t length, struct ht_block *b)
{
    const char *slash = memchr(text, '/', length);
    size_t      n = slash != NULL ? (size_t)(slash - text) : length;
    unsigned    bits = 0, most;
    bool        v6 = memchr(text, ':', n) != NULL;

    if (!parse_plain(text, n, &b->base))
        return false;
    most = v6 ? 128 : 32;
    if (slash == NULL) {
        bits = most;
    } else {
        if (length - n < 2 || length - n > 4 || (slash[1] == '0' && length - n > 2))
            return false;
        for (size_t i = n + 1; i < length; i++) {
            if (text[i] < '0' || text[i] > '9')
                return false;
            bits = bits * 10 + (unsigned)(text[i] - '0');
        }
    }
    if (bits > most)
        return false;
    b->bits = bits + 128 - most;
    return is_zero_behind(&b->base, b->bits);
}

bool
ht_block_has(const struct ht_block *b, const struct ht_address *a)
{
    /* "::/0" is every IPv6 address, and no IPv4 one. */
    if (b->bits < 96 && is_v4(a))
        return false;
    return same_prefix(b->base.bytes, a->bytes, b->bits);
}

bool
ht_blocks_have(const struct ht_blocks *blocks, const struct ht_address *a)
{
    for (size_t i = 0; i < blocks->count; i++)
        if (ht_block_has(&blocks->at[i], a))
            return true;
    return false;
}

/* ---- lists of hops --------------------------------------------------------------- */

enum { MAX_HOPS = 32 }; /* the last ones of a list: no honest chain is longer */

struct span {
    const char *at;
    size_t      length;
};

static struct span
trim(struct span s)
{
    while (s.length > 0 && (s.at[0] == ' ' || s.at[0] == '\t')) {
        s.at++;
        s.length--;
    }
    while (s.length > 0 && (s.at[s.length - 1] == ' ' || s.at[s.length - 1] == '\t'))
        s.length--;
    return s;
}

/*
 * The next part of *rest up to `separator`, but, if quotes mean something here, a quoted one.
 * Returns: false at the end, or at a quote that is not closed.
 */
static bool
next_part(struct span *rest, char separator, bool quotes, struct span *part)
{
    bool   quoted = false;
    size_t i;

    if (rest->at == NULL)
        return false;
    for (i = 0; i < rest->length && (quoted || rest->at[i] != separator); i++) {
        if (rest->at[i] == '"' && quotes)
            quoted = !quoted;
        else if (quoted && rest->at[i] == '\\')
            i++;
    }
    if (quoted || i > rest->length)
        return false;
    *part = trim((struct span){ rest->at, i });
    if (i < rest->length)
        *rest = (struct span){ rest->at + i + 1, rest->length - i - 1 };
    else
        *rest = (struct span){ NULL, 0 };
    return true;
}

/*
 * The last hops, in order.  Returns: how many; 0 if a quote is open at the end: a stranger may have
 * opened it, on the left, to swallow what was added since.
 */
static int
split(const char *value, bool quotes, struct span hops[MAX_HOPS])
{
    struct span rest = { value, strlen(value) }, part;
    int         count = 0;

    while (next_part(&rest, ',', quotes, &part)) {
        if (count == MAX_HOPS)
            memmove(hops, hops + 1, (size_t)--count * sizeof hops[0]);
        hops[count++] = part;
    }
    return rest.at == NULL ? count : 0;
}

/* One step of a walk.  Returns: whether it goes on. */
static bool
step(const struct ht_address *a, const struct ht_blocks *trusted, struct ht_origin *o)
{
    o->address = *a;
    o->known = true;
    return ht_blocks_have(trusted, a);
}

void
ht_x_forwarded_walk(const char *value, const struct ht_blocks *trusted, struct ht_origin *o)
{
    struct span       hops[MAX_HOPS];
    struct ht_address a;

    *o = (struct ht_origin){ 0 };
    for (int i = split(value, false, hops) - 1; i >= 0; i--)
        if (!ht_address_parse(hops[i].at, hops[i].length, &a) || !step(&a, trusted, o))
            break;
}

/* ---- Forwarded ------------------------------------------------------------------- */

/* The value of a pair, quotes off.  Escapes are for nothing we look for: malformed. */
static bool
unquote(struct span *value)
{
    if (value->length > 0 && value->at[0] == '"') {
        if (value->length < 2 || value->at[value->length - 1] != '"')
            return false;
        value->at++;
        value->length -= 2;
    }
    return memchr(value->at, '"', value->length) == NULL &&
           memchr(value->at, '\\', value->length) == NULL;
}

/* The `for` and `proto` of an element.  Returns: false if it is malformed or says either twice. */
static bool
parse_element(struct span element, struct span *source, struct span *proto)
{
    struct span pair;

    *source = *proto = (struct span){ NULL, 0 };
    while (next_part(&element, ';', true, &pair)) {
        const char  *equals = memchr(pair.at, '=', pair.length);
        size_t       n = equals != NULL ? (size_t)(equals - pair.at) : 0;
        struct span *into = NULL, value;

        if (pair.length == 0)
            continue;
        if (n == 0)
            return false;
        value = (struct span){ equals + 1, pair.length - n - 1 };
        if (n == 3 && strncasecmp(pair.at, "for", 3) == 0)
            into = source;
        else if (n == 5 && strncasecmp(pair.at, "proto", 5) == 0)
            into = proto;
        if (into == NULL)
            continue;
        if (into->at != NULL || !unquote(&value))
            return false;
        *into = value;
    }
    return element.at == NULL;
}

void
ht_forwarded_walk(const char *value, const struct ht_blocks *trusted, struct ht_origin *o)
{
    struct span       hops[MAX_HOPS], source, proto;
    struct ht_address a;

    *o = (struct ht_origin){ 0 };
    for (int i = split(value, true, hops) - 1; i >= 0; i--) {
        if (!parse_element(hops[i], &source, &proto))
            break;
        if (proto.at != NULL && proto.length < sizeof o->proto) {
            memcpy(o->proto, proto.at, proto.length);
            o->proto[proto.length] = '\0';
        }
        if (source.at == NULL || !ht_address_parse(source.at, source.length, &a) ||
            !step(&a, trusted, o))
            break;
    }
}
