/*
 * credentials.c -- reading the Authorization field: Basic and Bearer.
 */

#include "fields.h"

#include <string.h>
#include <strings.h>

bool
ht_scheme_is(const char *value, const char *scheme)
{
    size_t length = strlen(scheme);

    return strncasecmp(value, scheme, length) == 0 &&
           (value[length] == ' ' || value[length] == '\0');
}

/* What follows "Scheme "; NULL if it is another scheme, or nothing follows. */
static const char *
behind_scheme(const char *value, const char *scheme)
{
    if (!ht_scheme_is(value, scheme) || value[strlen(scheme)] == '\0')
        return NULL;
    value += strlen(scheme);
    return value + strspn(value, " ");
}

/* ---- Basic ----------------------------------------------------------------------- */

static int
base64_digit(unsigned char c)
{
    if (c >= 'A' && c <= 'Z')
        return c - 'A';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 26;
    if (c >= '0' && c <= '9')
        return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Padded, and with no stray bits, so that a secret has one spelling.  Returns: bytes, or -1. */
static long
base64_decode(unsigned char *out, const char *text)
{
    size_t   length = strlen(text), digits = length;
    uint32_t bits = 0;
    int      have = 0;
    long     n = 0;

    if (length % 4 != 0)
        return -1;
    while (digits > 0 && length - digits < 2 && text[digits - 1] == '=')
        digits--;
    for (size_t i = 0; i < digits; i++) {
        int digit = base64_digit((unsigned char)text[i]);

        if (digit < 0)
            return -1;
        bits = bits << 6 | (uint32_t)digit;
        have += 6;
        if (have >= 8) {
            have -= 8;
            out[n++] = (unsigned char)(bits >> have);
        }
    }
    return (bits & ((1u << have) - 1)) == 0 ? n : -1;
}

bool
ht_basic_parse(const char *value, char *room, const char **user, const char **password)
{
    const char *text = behind_scheme(value, "Basic");
    long        n = text != NULL ? base64_decode((unsigned char *)room, text) : -1;
    char       *colon;

    if (n < 0)
        return false;
    room[n] = '\0';
    for (long i = 0; i < n; i++)
        if ((unsigned char)room[i] < ' ' || room[i] == 0x7f)
            return false;
    colon = strchr(room, ':');
    if (colon == NULL)
        return false;
    *colon = '\0';
    *user = room;
    *password = colon + 1;
    return true;
}

/* ---- Bearer ---------------------------------------------------------------------- */

const char *
ht_bearer_parse(const char *value)
{
    const char *token = behind_scheme(value, "Bearer"), *p = token;

    if (token == NULL)
        return NULL;
    while (base64_digit((unsigned char)*p) >= 0 || (*p != '\0' && strchr("-._~", *p) != NULL))
        p++;
    if (p == token)
        return NULL;
    p += strspn(p, "=");
    return *p == '\0' ? token : NULL;
}
