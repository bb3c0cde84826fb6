/*
 * http_words.c -- addresses and queries as attributes have them.
 *
 * Everything here comes from a client.  Nothing is copied beyond what an attribute should
 * hold, and nothing of a query that may be a secret: rather too many names are redacted than
 * one too few.
 */

#include "http_words.h"

#include <string.h>

enum { QUERY_SIZE = 384 };

/* ---- addresses ------------------------------------------------------------------- */

void
ob_put_address(struct bh_span *span, const char *key, const char *port_key, const char *address,
               size_t size)
{
    const char *colon = memrchr(address, ':', size);
    size_t      host = size;
    int64_t     port = 0;

    /* One colon, or one behind a bracket: several without brackets are IPv6 itself. */
    if (colon != NULL && (colon == memchr(address, ':', size) ||
                          (address[0] == '[' && colon > address && colon[-1] == ']'))) {
        const char *digits = colon + 1, *end = address + size;

        while (digits < end && *digits >= '0' && *digits <= '9' && port <= 65535)
            port = port * 10 + (*digits++ - '0');
        if (digits == end)
            host = (size_t)(colon - address);
        else
            port = 0;
    }
    if (host >= 2 && address[0] == '[' && address[host - 1] == ']') {
        address++;
        host -= 2;
    }
    if (host > 0)
        bh_span_bytes(span, key, address, host < 255 ? host : 255);
    if (port > 0 && port <= 65535)
        bh_span_int(span, port_key, port);
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

    if (!span->recording)
        return;
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
