/*
 * http_words.c -- addresses and queries as attributes have them.
 *
 * Everything here comes from a client.  Nothing is copied beyond what an attribute should
 * hold, and nothing of a query that may be a secret: rather too many names are redacted than
 * one too few.
 */

#include "http_words.h"

#include <string.h>

#include "trace.h"

enum { QUERY_SIZE = 384 };

/* ---- addresses ------------------------------------------------------------------- */

static void
put_host(struct bh_span *span, enum ob_who who, const char *host, size_t size)
{
    if (size > 255)
        size = 255;
    if (who == OB_SERVER)
        ob_text(span, OB_KEY("server.address"), host, size);
    else if (who == OB_CLIENT)
        ob_text(span, OB_KEY("client.address"), host, size);
    else
        ob_text(span, OB_KEY("network.peer.address"), host, size);
}

static void
put_port(struct bh_span *span, enum ob_who who, int64_t port)
{
    if (who == OB_SERVER)
        ob_int(span, OB_KEY("server.port"), port);
    else if (who == OB_CLIENT)
        ob_int(span, OB_KEY("client.port"), port);
    else
        ob_int(span, OB_KEY("network.peer.port"), port);
}

void
ob_put_address(struct bh_span *span, enum ob_who who, const char *address, size_t size)
{
    size_t  host = size, digits = size;
    int64_t port = 0, unit = 1;

    /* The port from its end, as long as there are digits. */
    while (digits > 0 && address[digits - 1] >= '0' && address[digits - 1] <= '9' &&
           unit <= 10000) {
        port += (address[--digits] - '0') * unit;
        unit *= 10;
    }
    /* One colon, or one behind a bracket: several without brackets are IPv6 itself. */
    if (digits > 0 && address[digits - 1] == ':' && port > 0 && port <= 65535 &&
        (address[0] == '[' ? digits > 1 && address[digits - 2] == ']'
                           : memchr(address, ':', digits - 1) == NULL))
        host = digits - 1;
    else
        port = 0;
    if (host >= 2 && address[0] == '[' && address[host - 1] == ']') {
        address++;
        host -= 2;
    }
    if (host > 0)
        put_host(span, who, address, host);
    if (port > 0)
        put_port(span, who, port);
}

void
ob_put_version(struct bh_span *span, int version)
{
    if (version == 11)
        ob_text(span, OB_KEY("network.protocol.version"), "1.1", 3);
    else if (version == 20)
        ob_text(span, OB_KEY("network.protocol.version"), "2", 1);
    else
        ob_text(span, OB_KEY("network.protocol.version"), "1.0", 3);
}

/* ---- queries --------------------------------------------------------------------- */

static bool
contains(const char *text, size_t size, const char *word)
{
    size_t length = strlen(word);

    for (size_t i = 0; i + length <= size; i++)
        if (strncasecmp(text + i, word, length) == 0)
            return true;
    return false;
}

static bool
is_secret(const char *name, size_t size)
{
    static const char
        *const parts[] = { "token",     "secret", "passw",  "signature", "credential",
                           "session",   "auth",   "apikey", "api_key",   "api-key",
                           "accesskey", "%" /* says something else once decoded */ };
    static const char *const whole[] = { "sig", "key", "code", "jwt", "pwd", "pin", "otp" };

    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (contains(name, size, parts[i]))
            return true;
    for (size_t i = 0; i < sizeof whole / sizeof whole[0]; i++)
        if (size == strlen(whole[i]) && strncasecmp(name, whole[i], size) == 0)
            return true;
    return false;
}

struct out {
    char   text[QUERY_SIZE];
    size_t size;
};

static void
add(struct out *o, const char *text, size_t size)
{
    size_t room = sizeof o->text - o->size;

    if (size > room)
        size = room;
    memcpy(o->text + o->size, text, size);
    o->size += size;
}

void
ob_put_query(struct bh_span *span, const char *key, const char *before, size_t before_size,
             const char *query, size_t size)
{
    const char *end = query + size;
    struct out  o;

    o.size = 0;
    add(&o, before, before_size);
    for (const char *at = query; at < end && o.size < sizeof o.text;) {
        const char *to = at, *equals = NULL;

        for (; to < end && *to != '&' && *to != ';'; to++)
            if (*to == '=' && equals == NULL)
                equals = to;
        if (equals != NULL && is_secret(at, (size_t)(equals - at))) {
            add(&o, at, (size_t)(equals + 1 - at));
            add(&o, "REDACTED", 8);
        } else {
            add(&o, at, (size_t)(to - at));
        }
        if (to < end)
            add(&o, to, 1);
        at = to + 1;
    }
    bh_span_bytes(span, key, o.text, o.size);
}
