/*
 * accept.c -- content codings: Accept-Encoding and its weights; comma-separated lists.
 *
 * See: RFC 9110 sections 12.4.2, 12.5.3.
 */

#include "fields.h"

#include <string.h>
#include <strings.h>

static const char *const coding_names[HT_CODINGS] = {
    [HT_IDENTITY] = "identity",
    [HT_GZIP] = "gzip",
    [HT_BR] = "br",
    [HT_ZSTD] = "zstd",
};

const char *
ht_coding_name(enum ht_coding coding)
{
    return coding_names[coding];
}

static bool
is_text(const char *text, size_t length, const char *word)
{
    return strlen(word) == length && strncasecmp(text, word, length) == 0;
}

enum ht_coding
ht_coding_find(const char *name, size_t length)
{
    if (is_text(name, length, "x-gzip"))
        return HT_GZIP;
    for (int i = 0; i < HT_CODINGS; i++)
        if (is_text(name, length, coding_names[i]))
            return (enum ht_coding)i;
    return HT_CODINGS;
}

/* ---- lists ----------------------------------------------------------------------- */

const char *
ht_list_next(const char **at, size_t *length)
{
    const char *start = *at + strspn(*at, " \t,");
    size_t      n = strcspn(start, ",");

    *at = start + n;
    while (n > 0 && (start[n - 1] == ' ' || start[n - 1] == '\t'))
        n--;
    *length = n;
    return n > 0 ? start : NULL;
}

bool
ht_list_has(const char *list, const char *token)
{
    size_t length;

    for (const char *at = list, *item; (item = ht_list_next(&at, &length)) != NULL;)
        if (is_text(item, length, token))
            return true;
    return false;
}

/* ---- weights --------------------------------------------------------------------- */

/* "0.5" in thousandths; -1 if malformed.  At most three decimals. */
static int
parse_weight(const char *text, size_t length)
{
    int weight, digit = 100;

    if (length == 0 || (text[0] != '0' && text[0] != '1') || length > 5)
        return -1;
    weight = (text[0] - '0') * 1000;
    if (length > 1 && text[1] != '.')
        return -1;
    for (size_t i = 2; i < length; i++, digit /= 10) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        weight += (text[i] - '0') * digit;
    }
    return weight <= 1000 ? weight : -1;
}

/* An item "gzip;q=0.5": its weight, and in *name_length the length of its name; -1 if malformed. */
static int
item_weight(const char *item, size_t length, size_t *name_length)
{
    const char *semicolon = memchr(item, ';', length);
    size_t      n = semicolon != NULL ? (size_t)(semicolon - item) : length;
    const char *q, *end = item + length;

    *name_length = n;
    while (*name_length > 0 &&
           (item[*name_length - 1] == ' ' || item[*name_length - 1] == '\t'))
        --*name_length;
    if (semicolon == NULL)
        return 1000;
    q = semicolon + 1;
    while (q < end && (*q == ' ' || *q == '\t'))
        q++;
    if (end - q < 2 || (q[0] != 'q' && q[0] != 'Q') || q[1] != '=')
        return -1;
    return parse_weight(q + 2, (size_t)(end - q - 2));
}

enum ht_coding
ht_coding_choose(const char *value, const enum ht_coding *allowed)
{
    int            weights[HT_CODINGS] = { [0 ... HT_CODINGS - 1] = -1 }, star = -1, best;
    enum ht_coding chosen = HT_IDENTITY;
    size_t         length, name_length;

    if (value == NULL)
        return HT_IDENTITY;
    for (const char *at = value, *item; (item = ht_list_next(&at, &length)) != NULL;) {
        int            weight = item_weight(item, length, &name_length);
        enum ht_coding coding = ht_coding_find(item, name_length);

        if (weight < 0)
            continue;
        if (name_length == 1 && item[0] == '*')
            star = weight;
        else if (coding != HT_CODINGS)
            weights[coding] = weight;
    }
    best = weights[HT_IDENTITY] >= 0 ? weights[HT_IDENTITY] : 0;
    for (; *allowed != HT_IDENTITY; allowed++) {
        int weight = weights[*allowed] >= 0 ? weights[*allowed] : star;

        if (weight > 0 && (weight > best || (weight == best && chosen == HT_IDENTITY))) {
            best = weight;
            chosen = *allowed;
        }
    }
    return chosen;
}
