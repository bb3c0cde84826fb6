/*
 * json_fuzz.c -- any bytes at all as JSON, and as a text to be put into JSON.
 *
 * What is read must be the same when written out and read again, written the same the
 * second time, and bind to a struct or be refused.  Any text whatever must make JSON that
 * can be read, and be the same there if it is UTF-8.
 */

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/http/json.h>

#define MUST(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "violated at line %d: %s\n", __LINE__, #condition);                \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

static bool
is_number(const struct bh_json *v)
{
    return v->type == BH_JSON_INT || v->type == BH_JSON_NUMBER;
}

/* 1.0 is written as 1, which reads as a whole number. */
static double
number_of(const struct bh_json *v)
{
    return v->type == BH_JSON_INT ? (double)v->integer : v->number;
}

static void
compare(const struct bh_json *a, const struct bh_json *b)
{
    const struct bh_json *m, *n;

    if (is_number(a)) {
        MUST(is_number(b) && number_of(a) == number_of(b));
        MUST(signbit(number_of(a)) == signbit(number_of(b)));
        MUST(a->type != BH_JSON_INT || (b->type == BH_JSON_INT && a->integer == b->integer));
        return;
    }
    MUST(a->type == b->type && a->size == b->size);
    MUST(a->type != BH_JSON_BOOL || a->boolean == b->boolean);
    MUST(a->type != BH_JSON_TEXT || memcmp(a->text, b->text, a->size + 1) == 0);
    if (a->type != BH_JSON_LIST && a->type != BH_JSON_OBJECT)
        return;
    for (m = a->first, n = b->first; m != NULL; m = m->next, n = n->next) {
        MUST(n != NULL && (m->name != NULL) == (n->name != NULL));
        MUST(m->name == NULL || strcmp(m->name, n->name) == 0);
        compare(m, n);
    }
    MUST(n == NULL);
}

static void
bind(struct bh_arena *arena, const struct bh_json *v)
{
    struct item {
        int8_t n;
    };
    struct all {
        const char           *text;
        int64_t               count;
        bool                  flag;
        double                number;
        struct item           inner, *items;
        size_t                item_count;
        const struct bh_json *any;
    } all = { .count = 7 };
    static const struct bh_json_field item[] = { BH_JSON_INT_FIELD("n", struct item, n),
                                                 { 0 } };
    static const struct bh_json_field fields[] = {
        BH_JSON_TEXT_FIELD("text", struct all, text, .max = 5),
        BH_JSON_INT_FIELD("count", struct all, count, .min = 1, .max = 9),
        BH_JSON_BOOL_FIELD("flag", struct all, flag),
        BH_JSON_NUMBER_FIELD("number", struct all, number),
        BH_JSON_OBJECT_FIELD("inner", struct all, inner, item),
        BH_JSON_LIST_FIELD("items", struct all, items, item_count, item, .max = 3),
        BH_JSON_VALUE_FIELD("any", struct all, any, .required = true),
        { 0 },
    };

    if (bh_json_bind(arena, v, fields, &all) < 0)
        return;
    MUST(v->type == BH_JSON_OBJECT && all.any == bh_json_get(v, "any"));
    MUST(all.count >= 1 && all.count <= 9 && all.item_count <= 3);
    MUST(all.text == NULL || strlen(all.text) <= 5 * 4);
}

static void
check_document(struct bh_arena *arena, const char *text, size_t size)
{
    struct bh_json_out    out = { .arena = arena }, second = { .arena = arena };
    const struct bh_json *v, *again;

    if (bh_json_parse(arena, text, size, &v) < 0)
        return;
    bh_json_add_value(&out, NULL, v);
    MUST(bh_json_parse(arena, out.text, out.size, &again) == 0);
    compare(v, again);
    bh_json_print(&second, "%p", (const void *)again);
    MUST(second.size == out.size && memcmp(second.text, out.text, out.size) == 0);
    bind(arena, v);
}

/* As a name too, if it is a string of C's. */
static void
check_text(struct bh_arena *arena, const char *text, size_t size)
{
    struct bh_json_out    out = { .arena = arena }, quoted = { .arena = arena };
    const struct bh_json *v, *first;

    bh_json_print(&out, "{%s:%.*s,\"whole\":%s}", text, (int)(size / 2), text, text);
    MUST(bh_json_parse(arena, out.text, out.size, &v) == 0);
    MUST(v->type == BH_JSON_OBJECT && v->size == 2);
    bh_json_add_bytes(&quoted, NULL, text, size);
    MUST(bh_json_parse(arena, quoted.text, quoted.size, &first) == 0);
    MUST(first->type == BH_JSON_TEXT);
    for (size_t i = 0; i < size; i++)
        if ((text[i] & 0x80) != 0)
            return; /* whether that is UTF-8 is simdjson's to say: check_document */
    MUST(first->size == size && memcmp(first->text, text, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_arena *arena = bh_arena_new(0);
    char            *text = bh_arena_string(arena, (const char *)data, size);

    check_document(arena, text, size);
    check_text(arena, text, size);
    bh_arena_free(arena);
    return 0;
}
