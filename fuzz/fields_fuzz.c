/*
 * fields_fuzz.c -- header fields that middleware acts on, with what must hold of any input.
 *
 * The first byte chooses the parser, the second is its parameter, the rest is the field.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fields.h"

#define MUST(cond)                                                                             \
    do {                                                                                       \
        if (!(cond))                                                                           \
            abort();                                                                           \
    } while (0)

static void
fuzz_ranges(const char *value, unsigned parameter)
{
    static const int64_t sizes[] = { 0, 1, 2, 100, 1000, INT64_MAX - 1, INT64_MAX };
    int64_t              size = sizes[parameter % 7], total = 0;
    struct ht_range      r[HT_MAX_RANGES];
    int                  count = ht_ranges_parse(value, size, r);

    MUST(count >= -1 && count <= HT_MAX_RANGES);
    for (int i = 0; i < count; i++) {
        MUST(r[i].start >= 0 && r[i].size > 0 && r[i].start < size &&
             r[i].size <= size - r[i].start);
        MUST(r[i].size <= size - total);
        total += r[i].size;
    }
}

static void
fuzz_tags(const char *value, unsigned parameter)
{
    const char *tag = parameter % 2 != 0 ? "W/\"a\"" : "\"a\"";
    bool        strong = ht_etag_in(value, tag, false);

    MUST(!strong || ht_etag_in(value, tag, true));
    MUST(!strong || parameter % 2 == 0 || value[strspn(value, " \t")] == '*');
    if (ht_etag_is_valid(value))
        MUST(ht_etag_in(value, value, true) &&
             ht_etag_in(value, value, false) == (value[0] == '"'));
}

static void
fuzz_date(const char *value)
{
    char    text[HT_DATE_SIZE];
    int64_t time, again;

    if (!ht_date_parse(value, &time))
        return;
    ht_date_put(text, time);
    MUST(ht_date_parse(text, &again) && again == time);
}

static void
fuzz_codings(const char *value)
{
    static const enum ht_coding all[] = { HT_BR, HT_GZIP, HT_IDENTITY };
    enum ht_coding              coding = ht_coding_choose(value, all);

    MUST(coding == HT_BR || coding == HT_GZIP || coding == HT_IDENTITY);
    if (coding == HT_BR)
        MUST(strcasestr(value, "br") != NULL || strchr(value, '*') != NULL);
    (void)ht_list_has(value, "gzip");
}

static void
fuzz_address(const char *value)
{
    struct ht_address a, again;
    struct ht_block   b;
    char              text[HT_ADDRESS_TEXT];

    if (ht_address_parse(value, strlen(value), &a)) {
        ht_address_put(text, &a);
        MUST(ht_address_parse(text, strlen(text), &again) && memcmp(&a, &again, sizeof a) == 0);
    }
    if (ht_block_parse(value, strlen(value), &b))
        MUST(b.bits <= 128 && (ht_block_has(&b, &b.base) || b.bits < 96));
}

/* Whatever stands left of what a trusted proxy wrote, it must not change what that says. */
static void
fuzz_walks(const char *value)
{
    struct ht_block   block;
    struct ht_blocks  trusted = { &block, 1 };
    struct ht_origin  o;
    struct ht_address honest;
    size_t            room = strlen(value) + 100;
    char             *list = malloc(room);

    MUST(list != NULL && ht_block_parse("10.0.0.0/8", 10, &block));
    MUST(ht_address_parse("192.0.2.1", 9, &honest));
    ht_x_forwarded_walk(value, &trusted, &o);
    ht_forwarded_walk(value, &trusted, &o);
    (void)snprintf(list, room, "%s, 192.0.2.1, 10.0.0.1", value);
    ht_x_forwarded_walk(list, &trusted, &o);
    MUST(o.known && memcmp(&o.address, &honest, sizeof honest) == 0);
    (void)snprintf(list, room, "%s, for=192.0.2.1;by=\"[::1]:80\", for=\"10.0.0.1\"", value);
    ht_forwarded_walk(list, &trusted, &o);
    MUST(!o.known || memcmp(&o.address, &honest, sizeof honest) == 0);
    free(list);
}

static void
fuzz_credentials(const char *value)
{
    char       *room = malloc(strlen(value) + 1);
    const char *user, *password, *token = ht_bearer_parse(value);

    MUST(room != NULL);
    if (ht_basic_parse(value, room, &user, &password))
        MUST(strchr(user, ':') == NULL && user + strlen(user) + 1 == password &&
             password + strlen(password) <= room + strlen(value));
    if (token != NULL)
        MUST(token[0] != '\0' && strpbrk(token, " \t,;\"") == NULL);
    free(room);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char *value;

    if (size < 3)
        return 0;
    value = malloc(size - 1);
    MUST(value != NULL);
    memcpy(value, data + 2, size - 2);
    value[size - 2] = '\0';
    switch (data[0] % 7) {
    case 0:
        fuzz_ranges(value, data[1]);
        break;
    case 1:
        fuzz_tags(value, data[1]);
        break;
    case 2:
        fuzz_date(value);
        break;
    case 3:
        fuzz_codings(value);
        break;
    case 4:
        fuzz_address(value);
        break;
    case 5:
        fuzz_walks(value);
        break;
    case 6:
        fuzz_credentials(value);
        break;
    }
    free(value);
    return 0;
}
