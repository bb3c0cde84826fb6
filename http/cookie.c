/*
 * cookie.c -- cookies in and out, plain and signed.
 *
 * A signed value is
 *
 *     base64url(value) "." expiry in hexadecimal "." base64url(code)
 *
 * where the code is HMAC-SHA256, by a key, of the name, a NUL, and what stands before it;
 * so that neither value, name nor end can be changed without a key.  The code is compared
 * in constant time, with every key, before anything of the value is looked at.
 *
 * See: RFC 6265.
 */

#include <bulkhead/http/cookie.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include <bulkhead/base/arena.h>

#include "ht.h"

enum { MIN_KEY = 16, MAC = 32, DEFAULT_AGE = 30 * 24 * 3600 };

/* ---- what the client sent -------------------------------------------------------- */

/* cookie-octet of RFC 6265, and what browsers send besides: space and comma. */
static bool
is_octet(char c)
{
    return c > ' ' - 1 && c != 0x7f && c != '"' && c != ';' && c != '\\';
}

/*
 * name=value at p, of length bytes.  Returns: the value in the arena, or NULL if it is
 * another or malformed.
 */
static const char *
value_of(struct bh_arena *arena, const char *p, size_t length, const char *name)
{
    size_t      name_length = strlen(name);
    const char *value = p + name_length + 1;

    if (length <= name_length || p[name_length] != '=' || memcmp(p, name, name_length) != 0)
        return NULL;
    length -= name_length + 1;
    if (length >= 2 && value[0] == '"' && value[length - 1] == '"') {
        value++;
        length -= 2;
    }
    for (size_t i = 0; i < length; i++)
        if (!is_octet(value[i]))
            return NULL;
    return bh_arena_string(arena, value, length);
}

const char *
bh_http_cookie(struct bh_http_call *c, const char *name)
{
    const char *field, *text;

    for (unsigned i = 0; bh_http_header_at(c, i, &field, &text); i++) {
        if (strcasecmp(field, "cookie") != 0)
            continue;
        for (const char *p = text; *p != '\0'; p += *p == ';') {
            const char *value, *end;

            p += strspn(p, " \t");
            end = p + strcspn(p, ";");
            value = value_of(c->arena, p, (size_t)(end - p), name);
            if (value != NULL)
                return value;
            p = end;
        }
    }
    return NULL;
}

/* ---- what is set ----------------------------------------------------------------- */

/* A path or domain: any printable character but the one that ends it. */
static bool
is_attribute(const char *text)
{
    for (; *text != '\0'; text++)
        if (*text < ' ' || *text == 0x7f || *text == ';')
            return false;
    return true;
}

static bool
is_value(const char *text)
{
    for (; *text != '\0'; text++)
        if (!is_octet(*text) || *text == ' ' || *text == ',')
            return false;
    return true;
}

static bool
starts(const char *text, const char *prefix)
{
    return strncmp(text, prefix, strlen(prefix)) == 0;
}

int
bh_http_set_cookie(struct bh_http_call *c, const struct bh_http_cookie *k)
{
    static const char *const same_site[] = { "Lax", "Strict", "None" };
    const char              *path = k->path != NULL ? k->path : "/";
    bool                     host = starts(k->name, "__Host-");
    bool secure = k->secure || c->secure || host || starts(k->name, "__Secure-") ||
                  k->same_site == BH_HTTP_CROSS_SITE;
    char age[48] = "";

    if (!ht_is_token(k->name, strlen(k->name)))
        bh_panic("http: \"%s\" can't be the name of a cookie", k->name);
    if (host && (k->domain != NULL || strcmp(path, "/") != 0))
        bh_panic("http: cookie %s may have neither a domain nor a path", k->name);
    if (!is_value(k->value))
        return bh_fail(-EINVAL, "http: value of cookie %s holds what a cookie can't", k->name);
    if (!is_attribute(path) || path[0] != '/')
        return bh_fail(-EINVAL, "http: bad path of cookie %s", k->name);
    if (k->domain != NULL && !is_attribute(k->domain))
        return bh_fail(-EINVAL, "http: bad domain of cookie %s", k->name);
    if (k->max_age != 0)
        snprintf(age, sizeof age, "; Max-Age=%lld",
                 k->max_age > 0 ? (long long)k->max_age : 0LL);
    return bh_http_add_header(
        c, "Set-Cookie",
        bh_arena_print(c->arena, "%s=%s; Path=%s%s%s%s%s%s; SameSite=%s", k->name, k->value,
                       path, k->domain != NULL ? "; Domain=" : "",
                       k->domain != NULL ? k->domain : "", age, secure ? "; Secure" : "",
                       k->scripts ? "" : "; HttpOnly", same_site[k->same_site]));
}

/* ---- signed ---------------------------------------------------------------------- */

/* base64url without padding.  out has room for size * 4 / 3 + 4. */
static void
encode(char *out, const void *data, size_t size)
{
    int n = EVP_EncodeBlock((unsigned char *)out, data, (int)size);

    while (n > 0 && out[n - 1] == '=')
        n--;
    out[n] = '\0';
    for (char *p = out; *p != '\0'; p++)
        *p = *p == '+' ? '-' : *p == '/' ? '_' : *p;
}

/* Returns: bytes in out, which has room for length; -1 if malformed. */
static long
decode(unsigned char *out, const char *text, size_t length)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t bits = 0;
    int      have = 0;
    long     n = 0;

    for (size_t i = 0; i < length; i++) {
        const char *digit = memchr(digits, text[i], 64);

        if (digit == NULL)
            return -1;
        bits = bits << 6 | (uint32_t)(digit - digits);
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (unsigned char)(bits >> have);
        }
    }
    return have < 6 && (bits & ((1u << have) - 1)) == 0 ? n : -1;
}

static void
sign(unsigned char mac[MAC], const char *key, const char *name, const char *text, size_t size)
{
    size_t   name_size = strlen(name) + 1;
    unsigned length = MAC;
    char    *all = malloc(name_size + size);
    bool     done;

    if (all == NULL)
        bh_panic("http: out of memory for a signature");
    memcpy(all, name, name_size);
    memcpy(all + name_size, text, size);
    done = HMAC(EVP_sha256(), key, (int)strlen(key), (unsigned char *)all, name_size + size,
                mac, &length) != NULL;
    free(all);
    if (!done)
        bh_panic("http: HMAC-SHA256 failed");
}

static void
check_keys(const char *const *keys)
{
    if (keys[0] == NULL)
        bh_panic("http: no key for signed cookies");
    for (int i = 0; keys[i] != NULL; i++)
        if (strlen(keys[i]) < MIN_KEY)
            bh_panic("http: key %d for signed cookies is shorter than %d bytes", i, MIN_KEY);
}

int
bh_http_sign_cookie(struct bh_http_call *c, const char *const *keys,
                    const struct bh_http_cookie *cookie)
{
    struct bh_http_cookie k = *cookie;
    size_t                size = strlen(k.value), length, room = size * 4 / 3 + 96;
    char                 *text = bh_arena_alloc(c->arena, room);
    int64_t               age = k.max_age > 0 ? k.max_age : DEFAULT_AGE;
    unsigned char         mac[MAC];

    check_keys(keys);
    encode(text, k.value, size);
    length = strlen(text);
    length += (size_t)snprintf(text + length, room - length, ".%llx",
                               (unsigned long long)(time(NULL) + age));
    sign(mac, keys[0], k.name, text, length);
    text[length] = '.';
    encode(text + length + 1, mac, MAC);
    k.value = text;
    return bh_http_set_cookie(c, &k);
}

static bool
is_signed(const char *const *keys, const char *name, const char *text, size_t size,
          const unsigned char *given)
{
    unsigned char mac[MAC];
    bool          good = false;

    for (int i = 0; keys[i] != NULL; i++) {
        sign(mac, keys[i], name, text, size);
        good |= CRYPTO_memcmp(mac, given, MAC) == 0;
    }
    return good;
}

const char *
bh_http_signed_cookie(struct bh_http_call *c, const char *const *keys, const char *name)
{
    const char   *text = bh_http_cookie(c, name), *dot, *last;
    unsigned char given[MAC + 8], *value;
    long          size;

    check_keys(keys);
    if (text == NULL || (last = strrchr(text, '.')) == NULL ||
        (dot = memchr(text, '.', (size_t)(last - text))) == NULL)
        return NULL;
    if (strlen(last + 1) > 44 || decode(given, last + 1, strlen(last + 1)) != MAC ||
        !is_signed(keys, name, text, (size_t)(last - text), given))
        return NULL;
    if (strtoull(dot + 1, NULL, 16) <= (unsigned long long)time(NULL))
        return NULL;
    value = bh_arena_alloc(c->arena, (size_t)(dot - text) + 1);
    size = decode(value, text, (size_t)(dot - text));
    if (size < 0)
        return NULL;
    value[size] = '\0';
    return (const char *)value;
}
