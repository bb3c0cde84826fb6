/* Requests are decoded by others in test/observe/otlp; here is what they cannot see. */

#include "otlp.h"

#include <string.h>

#include <bulkhead/observe/record.h>

#include "test.h"

static void
add(struct bh_span_record *r, enum bh_item_role role, const char *key, const char *value)
{
    EXPECT(bh_item_put(r->items, sizeof r->items, &r->used,
                       &(struct bh_item){ .role = role,
                                          .key = key,
                                          .key_size = strlen(key),
                                          .value = value,
                                          .value_size = strlen(value) }));
}

static bool
contains(const uint8_t *data, size_t size, const char *bytes, size_t length)
{
    return memmem(data, size, bytes, length) != NULL;
}

TEST_PLAIN(pb, varints_are_the_shortest)
{
    uint8_t   buffer[64];
    struct pb w;

    pb_init(&w, buffer, sizeof buffer);
    pb_uint(&w, 1, 150);
    EXPECT_EQ(pb_length(&w), 3);
    EXPECT(memcmp(pb_data(&w), "\x08\x96\x01", 3) == 0);

    pb_init(&w, buffer, sizeof buffer);
    pb_int(&w, 1, -1);
    EXPECT_EQ(pb_length(&w), 11);
    EXPECT_EQ(pb_data(&w)[10], 1);

    pb_init(&w, buffer, sizeof buffer);
    pb_sint(&w, 1, -2);
    EXPECT(memcmp(pb_data(&w), "\x08\x03", 2) == 0);
}

TEST_PLAIN(pb, defaults_are_left_out_unless_always)
{
    uint8_t   buffer[64];
    struct pb w;

    pb_init(&w, buffer, sizeof buffer);
    pb_uint(&w, 1, 0);
    pb_string(&w, 2, NULL);
    pb_double(&w, 3, 0);
    pb_fixed32(&w, 4, 0);
    EXPECT_EQ(pb_length(&w), 0);
    pb_uint_always(&w, 1, 0);
    EXPECT(memcmp(pb_data(&w), "\x08\x00", 2) == 0);
    pb_double(&w, 3, -0.0);
    EXPECT_EQ(pb_length(&w), 2 + 9);
}

TEST_PLAIN(pb, overflow_stays_until_rewound)
{
    uint8_t   buffer[8];
    struct pb w;

    pb_init(&w, buffer, sizeof buffer);
    pb_string(&w, 1, "four");
    size_t good = pb_length(&w);
    EXPECT_EQ(good, 6);
    pb_string(&w, 1, "four");
    EXPECT(w.overflow);
    pb_uint(&w, 1, 1); /* would fit, but is worthless now */
    EXPECT(w.overflow);
    pb_rewind(&w, good);
    pb_uint(&w, 1, 1);
    EXPECT(!w.overflow);
    EXPECT_EQ(pb_length(&w), 8);
    EXPECT(pb_data(&w) == buffer);
}

TEST_PLAIN(otlp, bytes_that_are_no_utf8_become_question_marks)
{
    static const struct {
        const char *raw, *text;
    } cases[] = {
        { "plain", "plain" },
        { "gr\xc3\xbc\xc3\x9f", "gr\xc3\xbc\xc3\x9f" },
        { "\xe2\x82\xac \xf0\x9f\x98\x80", "\xe2\x82\xac \xf0\x9f\x98\x80" },
        { "a\xff z", "a? z" },
        { "cut \xe2\x82", "cut ??" },
        { "\xc0\xaf overlong", "?? overlong" },
        { "\xed\xa0\x80 surrogate", "??? surrogate" },
        { "\xf4\x90\x80\x80 too high", "???? too high" },
        { "0123456\x80", "0123456?" },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        uint8_t   buffer[64];
        struct pb w;
        pb_init(&w, buffer, sizeof buffer);
        ob_otlp_text(&w, 1, cases[i].raw, strlen(cases[i].raw), false);
        EXPECT_EQ(pb_length(&w), strlen(cases[i].text) + 2);
        EXPECT(memcmp(pb_data(&w) + 2, cases[i].text, strlen(cases[i].text)) == 0);
    }
}

TEST_PLAIN(otlp, what_does_not_fit_changes_nothing)
{
    uint8_t               buffer[400];
    struct ob_otlp        o;
    struct bh_span_record r = {
        .start_ns = 1, .end_ns = 2, .trace_id = { 1 }, .span_id = { 2 }
    };
    size_t   size, before;
    unsigned count = 0;

    add(&r, BH_ITEM_NAME, "", "GET /");
    ob_otlp_begin(&o, buffer, sizeof buffer, "resource", 8);
    do {
        before = pb_length(&o.pb);
        count++;
    } while (ob_otlp_span(&o, &r));
    EXPECT(count > 2);
    EXPECT_EQ(o.count, count - 1);
    EXPECT_EQ(pb_length(&o.pb), before);
    const uint8_t *data = ob_otlp_end(&o, &size);
    EXPECT(data >= buffer);
    EXPECT(!o.pb.overflow);
    EXPECT(size > before);
}

TEST_PLAIN(otlp, of_an_attribute_set_twice_the_last_is_sent)
{
    uint8_t               buffer[4096];
    struct ob_otlp        o;
    struct bh_span_record r = { .trace_id = { 1 }, .span_id = { 2 } };
    size_t                size;

    add(&r, BH_ITEM_ATTRIBUTE, "route", "unknown");
    add(&r, BH_ITEM_ATTRIBUTE, "other", "kept");
    add(&r, BH_ITEM_ATTRIBUTE, "route", "/users");
    ob_otlp_begin(&o, buffer, sizeof buffer, "", 0);
    EXPECT(ob_otlp_span(&o, &r));
    const uint8_t *data = ob_otlp_end(&o, &size);
    EXPECT(contains(data, size, "/users", 6));
    EXPECT(contains(data, size, "kept", 4));
    EXPECT(!contains(data, size, "unknown", 7));
}

TEST_PLAIN(otlp, a_record_that_makes_no_sense_is_still_a_message)
{
    uint8_t               buffer[4096];
    struct ob_otlp        o;
    struct bh_span_record r = { .trace_id = { 1 }, .span_id = { 2 }, .used = 100 };

    memset(r.items, 0xff, sizeof r.items);
    ob_otlp_begin(&o, buffer, sizeof buffer, "", 0);
    EXPECT(ob_otlp_span(&o, &r));
    EXPECT_EQ(o.count, 1);
}

TEST_PLAIN(otlp, partial_success_is_read)
{
    static const char      answer[] = "\x0a\x07\x08\x03\x12\x03"
                                      "bad";
    struct ob_otlp_partial p;

    EXPECT(ob_otlp_read_partial(answer, sizeof answer - 1, &p));
    EXPECT_EQ(p.rejected, 3);
    EXPECT_EQ(p.message_size, 3);
    EXPECT(memcmp(p.message, "bad", 3) == 0);

    EXPECT(ob_otlp_read_partial("", 0, &p));
    EXPECT_EQ(p.rejected, 0);
    for (size_t cut = 1; cut < sizeof answer - 1; cut++)
        EXPECT(!ob_otlp_read_partial(answer, cut, &p));
    EXPECT(!ob_otlp_read_partial("<html>", 6, &p));
    EXPECT(!ob_otlp_read_partial("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", 11, &p));
}
