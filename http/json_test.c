/* json_test.c -- JSON: parsing, binding, building; requests that send it. */
#include "http_fixture.h"

#include <errno.h>
#include <math.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/http/json.h>

static struct bh_arena *arena;

static const struct bh_json *
parse(const char *text)
{
    const struct bh_json *v = NULL;

    EXPECT_EQ(bh_json_parse(arena, text, strlen(text), &v), 0);
    return v;
}

TEST(json, a_document_becomes_a_tree_in_the_order_sent)
{
    const struct bh_json *v;

    arena = bh_arena_new(0);
    v = parse("{\"b\":[1,-2,3.5,1e3,18446744073709551615,true,false,null,\"x\\u00e9\\n\",[],{}]"
              ",\"a\":7}");
    EXPECT_EQ(v->type, BH_JSON_OBJECT);
    EXPECT_EQ(v->size, 2);
    EXPECT_STR(v->first->name, "b");
    EXPECT_EQ(bh_json_int(v, "a", 0), 7);
    v = bh_json_get(v, "b");
    EXPECT_EQ(v->size, 11);
    EXPECT_EQ(bh_json_at(v, 1)->integer, -2);
    EXPECT(bh_json_at(v, 2)->type == BH_JSON_NUMBER && bh_json_at(v, 2)->number == 3.5);
    EXPECT(bh_json_at(v, 3)->type == BH_JSON_NUMBER && bh_json_at(v, 3)->number == 1000);
    EXPECT_EQ(bh_json_at(v, 4)->type, BH_JSON_NUMBER);
    EXPECT(bh_json_at(v, 5)->boolean && !bh_json_at(v, 6)->boolean);
    EXPECT_EQ(bh_json_at(v, 7)->type, BH_JSON_NULL);
    EXPECT_STR(bh_json_at(v, 8)->text, "x\303\251\n");
    EXPECT_EQ(bh_json_at(v, 9)->size, 0);
    EXPECT(bh_json_at(v, 11) == NULL);
    bh_arena_free(arena);
}

TEST(json, what_is_absent_or_of_another_type_is_the_callers_otherwise)
{
    const struct bh_json *v;

    arena = bh_arena_new(0);
    v = parse("{\"n\":1.5,\"i\":2,\"t\":\"x\",\"b\":true}");
    EXPECT_EQ(bh_json_int(v, "n", -1), -1);
    EXPECT(bh_json_number(v, "i", 0) == 2 && bh_json_number(v, "n", 0) == 1.5);
    EXPECT(bh_json_number(v, "t", 9) == 9);
    EXPECT_STR(bh_json_text(v, "t", ""), "x");
    EXPECT_STR(bh_json_text(v, "none", "else"), "else");
    EXPECT(bh_json_bool(v, "b", false) && bh_json_bool(v, "t", true));
    EXPECT(bh_json_get(bh_json_get(v, "i"), "x") == NULL);
    EXPECT(bh_json_get(NULL, "x") == NULL);
    EXPECT(bh_json_at(NULL, 0) == NULL);
    bh_arena_free(arena);
}

TEST(json, what_is_not_json_is_an_error_with_a_note)
{
    static const char *const bad[] = {
        "",      " ",   "{",       "{\"a\":}", "[1,]",         "{\"a\":1,}",  "nul",
        "01",    "1 2", "\"\\x\"", "\"\t\"",   "\"\xff\xfe\"", "\"\\ud800\"", "{'a':1}",
        "[1] x", "+1",  "1e999",   "NaN",      "\"a",          "{1:2}",       "[\"a\" \"b\"]",
    };
    const struct bh_json *v;
    char                  deep[200];

    arena = bh_arena_new(0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        if (bh_json_parse(arena, bad[i], strlen(bad[i]), &v) != -EBADMSG)
            test_failed(__FILE__, __LINE__, "accepted: %s", bad[i]);
        EXPECT_STARTS(bh_error_note(), "json: ");
    }
    memset(deep, '[', 100);
    memset(deep + 100, ']', 100);
    EXPECT_EQ(bh_json_parse(arena, deep, 200, &v), -EBADMSG);
    EXPECT_EQ(bh_json_parse(arena, deep + 40, 120, &v), 0);
    bh_arena_free(arena);
}

/* ---- binding --------------------------------------------------------------------- */

struct item {
    const char *sku;
    int32_t     count;
};

struct address {
    const char *city;
};

struct order {
    const char           *customer;
    int64_t               id;
    int8_t                small;
    double                price;
    bool                  gift;
    struct address        address;
    struct item          *items;
    size_t                item_count;
    const struct bh_json *extra;
};

static const struct bh_json_field item_fields[] = {
    BH_JSON_TEXT_FIELD("sku", struct item, sku, .required = true),
    BH_JSON_INT_FIELD("count", struct item, count, .min = 1, .max = 1000),
    { 0 },
};
static const struct bh_json_field address_fields[] = {
    BH_JSON_TEXT_FIELD("city", struct address, city),
    { 0 },
};
static const struct bh_json_field order_fields[] = {
    BH_JSON_TEXT_FIELD("customer", struct order, customer, .required = true, .max = 5),
    BH_JSON_INT_FIELD("order-id", struct order, id),
    BH_JSON_INT_FIELD("small", struct order, small),
    BH_JSON_NUMBER_FIELD("price", struct order, price, .min = 0.5),
    BH_JSON_BOOL_FIELD("gift", struct order, gift),
    BH_JSON_OBJECT_FIELD("address", struct order, address, address_fields),
    BH_JSON_LIST_FIELD("items", struct order, items, item_count, item_fields, .max = 3),
    BH_JSON_VALUE_FIELD("extra", struct order, extra),
    { 0 },
};

TEST(json, binds_members_to_a_struct)
{
    struct order o = { .small = 7 };

    arena = bh_arena_new(0);
    EXPECT_EQ(bh_json_bind(arena,
                           parse("{\"customer\":\"Zo\303\253\",\"order-id\":9007199254740993,"
                                 "\"price\":2,\"gift\":true,\"address\":{\"city\":\"Ulm\"},"
                                 "\"items\":[{\"sku\":\"a\",\"count\":2},{\"sku\":\"b\"}],"
                                 "\"extra\":null,\"unknown\":[1]}"),
                           order_fields, &o),
              0);
    EXPECT_STR(o.customer, "Zo\303\253");
    EXPECT_EQ(o.id, INT64_C(9007199254740993));
    EXPECT_EQ(o.small, 7); /* absent: kept */
    EXPECT(o.price == 2 && o.gift);
    EXPECT_STR(o.address.city, "Ulm");
    EXPECT_EQ(o.item_count, 2);
    EXPECT_EQ(o.items[0].count, 2);
    EXPECT_STR(o.items[1].sku, "b");
    EXPECT_EQ(o.items[1].count, 0);
    EXPECT_EQ(o.extra->type, BH_JSON_NULL);
    bh_arena_free(arena);
}

TEST(json, an_error_of_binding_names_the_field)
{
    static const char *const rows[][2] = {
        { "[]", "json: must be an object" },
        { "{}", "customer: is missing" },
        { "{\"customer\":null}", "customer: is missing" },
        { "{\"customer\":1}", "customer: must be a text" },
        { "{\"customer\":\"abcdef\"}", "customer: must have at most 5 characters" },
        { "{\"customer\":\"a\\u0000\"}", "customer: may not contain a NUL" },
        { "{\"customer\":\"a\",\"customer\":\"b\"}", "customer: is given twice" },
        { "{\"customer\":\"a\",\"order-id\":1.5}", "order-id: must be a whole number" },
        { "{\"customer\":\"a\",\"small\":128}", "small: is out of range" },
        { "{\"customer\":\"a\",\"price\":\"1\"}", "price: must be a number" },
        { "{\"customer\":\"a\",\"price\":0.25}", "price: must be at least 0.5" },
        { "{\"customer\":\"a\",\"gift\":0}", "gift: must be true or false" },
        { "{\"customer\":\"a\",\"address\":[]}", "address: must be an object" },
        { "{\"customer\":\"a\",\"address\":{\"city\":1}}", "address.city: must be a text" },
        { "{\"customer\":\"a\",\"items\":{}}", "items: must be a list" },
        { "{\"customer\":\"a\",\"items\":[{},{},{},{}]}", "items: must have at most 3 items" },
        { "{\"customer\":\"a\",\"items\":[{\"sku\":\"a\"},7]}", "items[1]: must be an object" },
        { "{\"customer\":\"a\",\"items\":[{\"sku\":\"a\",\"count\":1001}]}",
          "items[0].count: must be at most 1000" },
        { "{\"customer\":\"a\",\"items\":[{\"sku\":\"a\",\"count\":0}]}",
          "items[0].count: must be at least 1" },
    };

    arena = bh_arena_new(0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct order o = { 0 };

        EXPECT_EQ(bh_json_bind(arena, parse(rows[i][0]), order_fields, &o), -EINVAL);
        EXPECT_STR(bh_error_note(), rows[i][1]);
    }
    bh_arena_free(arena);
}

/* ---- building -------------------------------------------------------------------- */

TEST(json, what_is_built_reads_back)
{
    struct bh_json_out    o = { 0 };
    const struct bh_json *v;
    struct bh_json_out    again = { 0 };

    arena = o.arena = again.arena = bh_arena_new(0);
    bh_json_open(&o, NULL, '{');
    bh_json_add_text(&o, "text", "a\"\\\b\f\n\r\t\001\x7f/\303\251");
    bh_json_add_bytes(&o, "nul", "a\0b", 3);
    bh_json_add_text(&o, "none", NULL);
    bh_json_open(&o, "list", '[');
    bh_json_add_int(&o, NULL, INT64_MIN);
    bh_json_add_number(&o, NULL, 0.1);
    bh_json_add_number(&o, NULL, (double)NAN);
    bh_json_add_number(&o, NULL, 1e300);
    bh_json_add_bool(&o, NULL, true);
    bh_json_open(&o, NULL, '{');
    bh_json_close(&o, '}');
    bh_json_close(&o, ']');
    bh_json_add_bool(&o, "no\n", false);
    bh_json_close(&o, '}');
    EXPECT_STR(
        o.text,
        "{\"text\":\"a\\\"\\\\\\b\\f\\n\\r\\t\\u0001\x7f/\303\251\",\"nul\":\"a\\u0000b\","
        "\"none\":null,\"list\":[-9223372036854775808,0.1,null,1e+300,true,{}],"
        "\"no\\n\":false}");
    v = parse(o.text);
    bh_json_add_value(&again, NULL, v);
    EXPECT_STR(again.text, o.text);
    bh_arena_free(arena);
}

/* What is malformed: a lone byte, an overlong NUL, a surrogate, one too large, one cut off. */
TEST(json, a_text_that_is_no_utf8_still_makes_json)
{
    struct bh_json_out o = { 0 };

    arena = o.arena = bh_arena_new(0);
    bh_json_print(&o, "[%s,%s,%s,%.*s]", "a\377b", "\300\200 and more than sixteen bytes",
                  "\355\240\200\364\220\200\200", 4, &"\303\251\303\251\303\251"[1]);
#define BAD "\357\277\275"
    EXPECT_STR(o.text, "[\"a" BAD "b\",\"" BAD BAD
                       " and more than sixteen bytes\",\"" BAD BAD BAD BAD BAD BAD BAD
                       "\",\"" BAD "\303\251" BAD "\"]");
    EXPECT_EQ(parse(o.text)->size, 4);
    bh_arena_free(arena);
}

TEST(json, a_number_that_no_integer_holds_reads_back)
{
    static const double numbers[] = { 0x1p63, -0x1p64, 0x1p64, 1.2345678901234567e20,
                                      -1e22,  -0.0 };
    struct bh_json_out  o;

    arena = bh_arena_new(0);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        o = (struct bh_json_out){ .arena = arena };
        bh_json_add_number(&o, NULL, numbers[i]);
        EXPECT_EQ(parse(o.text)->type, BH_JSON_NUMBER);
        EXPECT(memcmp(&parse(o.text)->number, &numbers[i], sizeof numbers[i]) == 0);
    }
    bh_arena_free(arena);
}

TEST(json, print_quotes_texts_and_knows_its_conversions)
{
    struct bh_json_out    o = { 0 };
    const struct bh_json *v;
    char *volatile none = NULL;

    arena = o.arena = bh_arena_new(0);
    v = parse("[1,{\"a\":\"b\"}]");
    bh_json_print(&o,
                  "{\"s\":%s,\"n\":%s,\"p\":%.*s,\"d\":[%d,%ld,%lld,%zd,%u,%lu,%zu],\"g\":%g,"
                  "\"v\":%p,\"%%\":%p}",
                  "\"", none, 2, "abc", -1, -2L, -3LL, (ssize_t)-4, 5u, 6ul, (size_t)7, 0.25,
                  (const void *)v, (void *)NULL);
    EXPECT_STR(o.text,
               "{\"s\":\"\\\"\",\"n\":null,\"p\":\"ab\",\"d\":[-1,-2,-3,-4,5,6,7],\"g\":0.25,"
               "\"v\":[1,{\"a\":\"b\"}],\"%\":null}");
    EXPECT_PANIC("json: no conversion %x", bh_json_print(&o, "%x", 1u));
    bh_arena_free(arena);
}

/* ---- over HTTP ------------------------------------------------------------------- */

static char answer[1 << 16];

static int
make_order(struct bh_http_call *c, void *arg)
{
    struct order o = { .id = 1 };
    int          rc = bh_http_bind(c, order_fields, &o);

    (void)arg;
    if (rc < 0)
        return rc;
    return bh_http_reply_json(c, 201, "{\"id\":%ld,\"customer\":%s}", o.id, o.customer);
}

static int
echo(struct bh_http_call *c, void *arg)
{
    const struct bh_json *v;
    int                   rc = bh_http_json(c, &v);

    (void)arg;
    return rc < 0 ? rc : bh_http_reply_value(c, 200, v);
}

static void
post(struct fixture *f, const char *path, const char *type, const char *body)
{
    char request[1024];

    snprintf(request, sizeof request,
             "POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s%s%sContent-Length: "
             "%zu\r\n\r\n%s",
             path, type != NULL ? "Content-Type: " : "", type != NULL ? type : "",
             type != NULL ? "\r\n" : "", strlen(body), body);
    talk(f, request, answer, sizeof answer);
}

TEST_PLAIN(json, a_text_of_any_length_with_anything_at_any_place_reads_back)
{
    static const char *const odd[] = { "a", "\"", "\\", "\001", "\037", "\303\251", "\n" };
    char                     text[64];

    for (size_t length = 1; length <= 40; length++)
        for (size_t at = 0; at < length; at++)
            for (size_t i = 0; i < sizeof odd / sizeof odd[0]; i++) {
                struct bh_json_out    o = { 0 }, again = { 0 };
                const struct bh_json *v;
                size_t                n = strlen(odd[i]);

                arena = o.arena = again.arena = bh_arena_new(0);
                memset(text, 'x', sizeof text);
                memcpy(text + at, odd[i], n);
                text[length + n - 1] = '\0';
                bh_json_open(&o, NULL, '{');
                bh_json_add_text(&o, text, text);
                bh_json_add_int(&o, "n", 1);
                bh_json_close(&o, '}');
                v = parse(o.text);
                EXPECT_EQ(strlen(o.text), o.size);
                EXPECT_STR(v->first->name, text);
                EXPECT_STR(v->first->text, text);
                EXPECT_EQ(bh_json_int(v, "n", 0), 1);
                bh_json_add_value(&again, NULL, v);
                EXPECT_STR(again.text, o.text);
                bh_arena_free(arena);
            }
}

/* Writes a parsed {"nnn...":[true,"text"]} again, whose name has so many bytes. */
static void
write_again(size_t name_size, const char *text)
{
    size_t                room = name_size + strlen(text) + 64;
    char                 *name = bh_arena_alloc(arena, name_size + 1);
    char                 *document = bh_arena_alloc(arena, room);
    struct bh_json_out    o = { .arena = arena };
    const struct bh_json *v;

    memset(name, 'n', name_size);
    name[name_size] = '\0';
    (void)snprintf(document, room, "{\"%s\":[true,\"%s\"]}", name, text);
    v = parse(document);
    bh_json_add_value(&o, NULL, v);
    EXPECT_STR(o.text, document);
    EXPECT_STR(v->first->name, name);
}

TEST(json, a_parsed_tree_is_written_with_names_of_any_length)
{
    static const size_t long_names[] = { 4000, 65534, 65535, 65536, 200000 };

    arena = bh_arena_new(0);
    for (size_t size = 0; size < 70; size++)
        write_again(size, "plain");
    for (size_t i = 0; i < sizeof long_names / sizeof long_names[0]; i++)
        write_again(long_names[i], "\\\"");
    bh_arena_free(arena);
}

/* A NUL in a name is part of it, for who writes it; for who looks it up, its end. */
TEST(json, a_name_keeps_its_nul)
{
    struct bh_json_out    o = { .arena = arena = bh_arena_new(0) };
    const struct bh_json *v = parse("{\"a\\u0000b\":1}");

    EXPECT_EQ(v->first->name_size, 3);
    EXPECT_EQ(bh_json_int(v, "a", 0), 1);
    bh_json_add_value(&o, NULL, v);
    EXPECT_STR(o.text, "{\"a\\u0000b\":1}");
    bh_arena_free(arena);
}

TEST(json, a_tree_made_by_hand_is_written)
{
    struct bh_json_out   o = { .arena = arena = bh_arena_new(0) };
    const struct bh_json no = { .type = BH_JSON_BOOL, .name = "no" };
    const struct bh_json text = {
        .type = BH_JSON_TEXT, .size = 2, .text = "hi", .name = "text", .next = &no
    };
    const struct bh_json list = { .type = BH_JSON_LIST, .first = &text };
    const struct bh_json object = { .type = BH_JSON_OBJECT, .first = &text };

    bh_json_open(&o, NULL, '[');
    bh_json_add_value(&o, NULL, &list);
    bh_json_add_value(&o, NULL, &object);
    bh_json_close(&o, ']');
    EXPECT_STR(o.text, "[[\"hi\",false],{\"text\":\"hi\",\"no\":false}]");
    bh_arena_free(arena);
}

TEST_REAL(json, a_request_is_bound_or_refused_with_the_field_named)
{
    struct fixture f = { .s =
                             bh_http_server_new(&(struct bh_http_options){ .max_body = 200 }) };
    char           large[400];

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "POST /orders", make_order, NULL);
    bh_http_handle(f.s, "POST /echo", echo, NULL);
    fixture_start(&f);
    post(&f, "/orders", "application/json", "{\"customer\":\"\\\"\"}");
    EXPECT_STARTS(answer, "HTTP/1.1 201 ");
    EXPECT_HAS(answer, "Content-Type: application/json\r\n");
    EXPECT_STR(body_of(answer), "{\"id\":1,\"customer\":\"\\\"\"}");
    post(&f, "/orders", "application/json; charset=utf-8", "{\"customer\":7}");
    EXPECT_STARTS(answer, "HTTP/1.1 400 ");
    EXPECT_HAS(body_of(answer), "customer: must be a text");
    post(&f, "/orders", "application/json", "{");
    EXPECT_STARTS(answer, "HTTP/1.1 400 ");
    EXPECT_HAS(body_of(answer), "json: ");
    post(&f, "/orders", "text/plain", "{}");
    EXPECT_STARTS(answer, "HTTP/1.1 415 ");
    post(&f, "/echo", "application/problem+json", "[ 1 , \"a\" ]");
    EXPECT_STR(body_of(answer), "[1,\"a\"]");
    memset(large, ' ', sizeof large - 1);
    large[sizeof large - 1] = '\0';
    post(&f, "/echo", NULL, large);
    EXPECT_STARTS(answer, "HTTP/1.1 413 ");
    EXPECT_EQ(fixture_stop(&f), 0);
}
