/* record_test.c -- items of a record, in and out. */

#include <bulkhead/observe/record.h>

#include "test.h"

#include <stdio.h>
#include <stdlib.h>

static bool
put(struct bh_span_record *r, const struct bh_item *item)
{
    return bh_item_put(r->items, sizeof r->items, &r->used, item);
}

static struct bh_item
text(enum bh_item_role role, const char *key, const char *value)
{
    return (struct bh_item){ .role = role,
                             .key = key,
                             .key_size = strlen(key),
                             .value = value,
                             .value_size = strlen(value) };
}

static bool
is(const char *bytes, size_t size, const char *want)
{
    return size == strlen(want) && memcmp(bytes, want, size) == 0;
}

TEST_PLAIN(record, gives_back_what_was_put)
{
    static struct bh_span_record r;
    struct bh_item               item = text(BH_ITEM_ATTRIBUTE, "a", "one");
    size_t                       at = 0;

    EXPECT(put(&r, &item));
    item = (struct bh_item){ .role = BH_ITEM_ATTRIBUTE,
                             .type = BH_ITEM_INT,
                             .key = "nn",
                             .key_size = 2,
                             .number = INT64_MIN };
    EXPECT(put(&r, &item));
    item = (struct bh_item){ .role = BH_ITEM_SUB_ATTRIBUTE,
                             .type = BH_ITEM_DOUBLE,
                             .key = "d",
                             .key_size = 1,
                             .real = 0.25 };
    EXPECT(put(&r, &item));
    item = text(BH_ITEM_EVENT, "exception", "");
    item.number = 42;
    EXPECT(put(&r, &item));
    item = text(BH_ITEM_LINK, "", "0123456789abcdefSSSSSSSSa=1");
    item.number = 0x301;
    EXPECT(put(&r, &item));

    EXPECT(bh_item_next(r.items, r.used, &at, &item));
    EXPECT(item.role == BH_ITEM_ATTRIBUTE && item.type == BH_ITEM_TEXT);
    EXPECT(is(item.key, item.key_size, "a") && is(item.value, item.value_size, "one"));
    EXPECT(bh_item_next(r.items, r.used, &at, &item));
    EXPECT(item.type == BH_ITEM_INT && item.number == INT64_MIN && item.value_size == 0);
    EXPECT(bh_item_next(r.items, r.used, &at, &item));
    EXPECT(item.role == BH_ITEM_SUB_ATTRIBUTE && item.type == BH_ITEM_DOUBLE &&
           item.real == 0.25);
    EXPECT(bh_item_next(r.items, r.used, &at, &item));
    EXPECT(item.role == BH_ITEM_EVENT && item.number == 42);
    EXPECT(is(item.key, item.key_size, "exception"));
    EXPECT(bh_item_next(r.items, r.used, &at, &item));
    EXPECT(item.role == BH_ITEM_LINK && item.number == 0x301);
    EXPECT(is(item.value, item.value_size, "0123456789abcdefSSSSSSSSa=1"));
    EXPECT(!bh_item_next(r.items, r.used, &at, &item));
    EXPECT_EQ(at, r.used);
}

TEST_PLAIN(record, cuts_long_texts_but_not_to_crumbs)
{
    static struct bh_span_record r;
    static char                  huge[70000];
    struct bh_item               item;
    size_t                       at = 0;

    memset(huge, 'x', sizeof huge - 1);
    item = text(BH_ITEM_ATTRIBUTE, huge, "v");
    EXPECT(put(&r, &item));
    EXPECT(bh_item_next(r.items, r.used, &at, &item));
    EXPECT_EQ(item.key_size, BH_ITEM_KEY);
    item = text(BH_ITEM_ATTRIBUTE, "k", huge);
    EXPECT(put(&r, &item));
    EXPECT_EQ(r.used, sizeof r.items);
    EXPECT(bh_item_next(r.items, r.used, &at, &item));
    EXPECT(item.value_size > 500 && item.value[item.value_size - 1] == 'x');

    item = text(BH_ITEM_ATTRIBUTE, "k", "");
    EXPECT(!put(&r, &item));
    r.used -= 6 + 1 + 15;
    item = text(BH_ITEM_ATTRIBUTE, "k", huge);
    EXPECT(!put(&r, &item)); /* fifteen bytes are no text */
    item = text(BH_ITEM_ATTRIBUTE, "k", "123456789012345");
    EXPECT(put(&r, &item)); /* unless that is all there is */
    EXPECT_EQ(bh_span_record_size(&r), sizeof r);
}

TEST_PLAIN(record, link_is_whole_or_absent)
{
    static struct bh_span_record r = { .used = sizeof r.items - 40 };
    const struct bh_item item = text(BH_ITEM_LINK, "", "0123456789abcdefSSSSSSSSabcdef");

    EXPECT(!put(&r, &item));
    EXPECT_EQ(r.used, sizeof r.items - 40);
}

/* Random bytes and cut records: whatever is read lies inside, and reading ends. */
TEST_PLAIN(record, reader_stays_inside_whatever_is_there)
{
    struct bh_item item;
    unsigned       seed = 1;

    for (int round = 0; round < 20000; round++) {
        size_t size = (size_t)rand_r(&seed) % 80, at = 0;
        char  *items = malloc(size + 1); /* the sanitizer sees a byte too far */

        for (size_t i = 0; i < size; i++)
            items[i] = (char)(rand_r(&seed) % (round % 2 == 0 ? 256 : 12));
        for (size_t before = at; bh_item_next(items, size, &at, &item); before = at) {
            EXPECT(at > before && at <= size);
            EXPECT(item.key >= items && item.key + item.key_size <= items + size);
            EXPECT(item.value >= items && item.value + item.value_size <= items + size);
        }
        free(items);
    }
}
