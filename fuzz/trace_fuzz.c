/*
 * trace_fuzz.c -- traceparent, tracestate and baggage, and the items of a record, with what must
 * hold of any input.
 *
 * The first byte chooses the parser, the rest is its input.
 */

#include <stdlib.h>
#include <string.h>

#include <bulkhead/observe/propagate.h>
#include <bulkhead/observe/record.h>

#define MUST(cond)                                                                             \
    do {                                                                                       \
        if (!(cond))                                                                           \
            abort();                                                                           \
    } while (0)

static void
fuzz_parent(const char *value, size_t size)
{
    struct bh_trace_context c, again;
    char                    text[BH_TRACEPARENT_SIZE];

    if (bh_traceparent_parse(value, size, &c) != 0)
        return;
    bh_traceparent_format(text, &c);
    MUST(strlen(text) == BH_TRACEPARENT_SIZE - 1);
    MUST(memcmp(text + 2, value + 2, 51) == 0 && memcmp(value, "ff", 2) != 0);
    MUST(bh_traceparent_parse(text, strlen(text), &again) == 0);
    MUST(memcmp(&c, &again, sizeof c) == 0);
}

static void
fuzz_state(const char *value)
{
    char        out[BH_TRACESTATE_SIZE], again[BH_TRACESTATE_SIZE];
    const char *own;
    size_t      own_size;
    ssize_t     size = bh_tracestate_update(out, value, NULL, NULL);

    if (size < 0) {
        MUST(out[0] == '\0' && bh_tracestate_update(out, value, "bh", "1") == size);
        return;
    }
    MUST((size_t)size == strlen(out) && size < BH_TRACESTATE_SIZE);
    MUST(bh_tracestate_update(again, out, NULL, NULL) == size && strcmp(out, again) == 0);
    size = bh_tracestate_update(out, value, "bh", "x;1");
    MUST(size >= 6 && memcmp(out, "bh=x;1", 6) == 0 && (out[6] == ',' || out[6] == '\0'));
    MUST(bh_tracestate_get(out, "bh", &own, &own_size) && own == out + 3 && own_size == 3);
    MUST(bh_tracestate_update(again, out, "bh", NULL) >= 0);
    MUST(!bh_tracestate_get(again, "bh", &own, &own_size));
}

static void
fuzz_baggage(const char *value)
{
    char out[16];

    if (!bh_baggage_is_valid(value))
        return;
    MUST(strpbrk(value, "\r\n\"\\") == NULL);
    MUST(bh_baggage_get(value, "a", out, sizeof out) < BH_BAGGAGE_MAX);
}

static void
fuzz_items(const char *items, size_t size)
{
    struct bh_item item;
    uint16_t       used = 0;
    char           copy[600];
    bool           fits = true;

    for (size_t at = 0, before = 0; bh_item_next(items, size, &at, &item); before = at) {
        MUST(at > before && at <= size);
        MUST(item.key >= items && item.key + item.key_size <= items + size);
        MUST(item.value >= items && item.value + item.value_size <= items + size);
        if (item.key_size > BH_ITEM_KEY)
            fits = false;
        fits = fits && bh_item_put(copy, sizeof copy, &used, &item);
        MUST(!fits || used == at || used == sizeof copy);
        fits = fits && used == at;
    }
    MUST(!fits || memcmp(copy, items, used) == 0);
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int
LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char *value;

    if (size < 1)
        return 0;
    value = malloc(size); /* the rest, and a NUL for those that want one */
    MUST(value != NULL);
    memcpy(value, data + 1, size - 1);
    value[size - 1] = '\0';
    switch (data[0] % 4) {
    case 0:
        fuzz_parent(value, strlen(value));
        break;
    case 1:
        fuzz_state(value);
        break;
    case 2:
        fuzz_baggage(value);
        break;
    case 3:
        fuzz_items(value, size - 1);
        break;
    }
    free(value);
    return 0;
}
