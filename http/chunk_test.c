/* chunk_test.c -- chunked bodies: what is decoded, what is refused, at every split. */
#include "head.h"

#include <stdio.h>

#include "test.h"

struct result {
    enum ht_chunk_step step;
    char               body[256];
    size_t             length, used;
    const char        *reason;
};

/* Decode text, given in two pieces. */
static struct result
decode(const char *text, size_t size, size_t split)
{
    struct ht_chunked d = { 0 };
    struct result     r = { 0 };
    size_t            limit = split;

    for (;;) {
        size_t used, n;

        r.step = ht_chunk_next(&d, text + r.used, limit - r.used, &used);
        r.used += used;
        if (r.step == HT_CHUNK_DATA && r.used < limit) {
            n = limit - r.used < d.left ? limit - r.used : (size_t)d.left;
            memcpy(r.body + r.length, text + r.used, n);
            r.length += n;
            r.used += n;
            ht_chunk_take(&d, n);
        } else if ((r.step == HT_CHUNK_MORE || r.step == HT_CHUNK_DATA) && limit < size) {
            limit = size;
        } else {
            r.reason = d.reason;
            r.body[r.length] = '\0';
            return r;
        }
    }
}

struct vector {
    const char *text;
    size_t      size;
    const char *body; /* NULL: refused */
    const char *reason;
};
#define OK(text, body)                                                                         \
    {                                                                                          \
        text, sizeof(text) - 1, body, NULL                                                     \
    }
#define NO(reason, text)                                                                       \
    {                                                                                          \
        text, sizeof(text) - 1, NULL, reason                                                   \
    }

static const struct vector vectors[] = {
    OK("0\r\n\r\n", ""),
    OK("5\r\nhello\r\n0\r\n\r\n", "hello"),
    OK("5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world"),
    OK("A\r\n0123456789\r\n00000\r\n\r\n", "0123456789"),
    OK("5;name=value\r\nhello\r\n0;x\r\n\r\n", "hello"),
    OK("5;q=\"a b\"\r\nhello\r\n0\r\n\r\n", "hello"),
    OK("2\r\n\r\n\r\n0\r\n\r\n", "\r\n"),
    OK("1\r\na\r\n0\r\nTrailer: x\r\nB:\r\n\r\n", "a"),
    NO("bad chunk size", "\r\n\r\n"),
    NO("bad chunk size", "5 \r\nhello\r\n0\r\n\r\n"),
    NO("bad chunk size", " 5\r\nhello\r\n0\r\n\r\n"),
    NO("bad chunk size", "0x5\r\nhello\r\n0\r\n\r\n"),
    NO("bad chunk size", "+5\r\nhello\r\n0\r\n\r\n"),
    NO("bad chunk size", "5\nhello\r\n0\r\n\r\n"),
    NO("bad chunk size", "g\r\n"),
    NO("bad chunk size", ";x\r\n"),
    NO("chunk size too large", "00000000000000005\r\nhello\r\n"),
    NO("chunk size too large", "fffffffffffffffff\r\n"),
    NO("carriage return without line feed", "5\rhello\r\n"),
    OK("5;a;b=c;d=\"\"\r\nhello\r\n0\r\n\r\n", "hello"),
    NO("bad chunk extension", "5;\r\nhello\r\n"),
    NO("bad chunk extension", "5; a\r\nhello\r\n"),
    NO("bad chunk extension", "5;a=\r\nhello\r\n"),
    NO("bad chunk extension", "5;a=b c\r\nhello\r\n"),
    NO("bad chunk extension", "5;a=\"b\"c\r\nhello\r\n"),
    NO("bad chunk extension", "5;a=\"b\\\"c\"\r\nhello\r\n"),
    NO("bad chunk extension", "5;a=\"b\r\nhello\r\n"),
    NO("bad chunk extension", "5;a\nhello\r\n0\r\n\r\n"),
    NO("bad chunk extension", "5;\x01\r\nhello\r\n"),
    NO("carriage return without line feed", "5;a\rb\r\nhello\r\n"),
    NO("chunk longer than its size", "5\r\nhello!\r\n0\r\n\r\n"),
    NO("chunk longer than its size", "5\r\nhello\n0\r\n\r\n"),
    NO("carriage return without line feed", "5\r\nhello\r0\r\n\r\n"),
    NO("framing field in the trailers", "0\r\nContent-Length: 3\r\n\r\n"),
    NO("framing field in the trailers", "0\r\nA: b\r\ntransfer-ENCODING:chunked\r\n\r\n"),
    OK("0\r\nContent-Lengths: 3\r\nX-Content-Length: 3\r\n\r\n", ""),
    NO("bad trailer name", "0\r\n x\r\n\r\n"),
    NO("bad trailer name", "0\r\n:x\r\n\r\n"),
    NO("bad trailer name", "0\r\nab c: x\r\n\r\n"),
    NO("bad trailer name", "0\r\n\n"),
    NO("control byte in a trailer", "0\r\na: b\nc: d\r\n\r\n"),
    NO("control byte in a trailer", "0\r\na: \x01\r\n\r\n"),
    NO("carriage return without line feed", "0\r\na: b\rc\r\n\r\n"),
    NO("carriage return without line feed", "0\r\n\r\r\n"),
};

TEST_PLAIN(chunk, vectors_are_judged_the_same_at_every_split)
{
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        const struct vector *v = &vectors[i];

        for (size_t split = 0; split <= v->size; split++) {
            struct result r = decode(v->text, v->size, split);

            if (r.step != (v->body != NULL ? HT_CHUNK_END : HT_CHUNK_BAD))
                test_failed(__FILE__, __LINE__, "vector %zu %s: step %d (%s)", i, v->text,
                            r.step, r.reason);
            if (v->body != NULL) {
                EXPECT_STR(r.body, v->body);
                EXPECT_EQ(r.used, v->size);
            } else {
                EXPECT_STR(r.reason, v->reason);
            }
        }
    }
}

TEST_PLAIN(chunk, an_unfinished_body_wants_more)
{
    static const char text[] = "5\r\nhello\r\n0\r\n\r";

    for (size_t size = 0; size < sizeof text; size++) {
        struct result r = decode(text, size, size);

        EXPECT(r.step == HT_CHUNK_MORE || r.step == HT_CHUNK_DATA);
    }
}

TEST_PLAIN(chunk, what_follows_the_body_is_left_alone)
{
    static const char text[] = "1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n";
    struct result     r = decode(text, sizeof text - 1, sizeof text - 1);

    EXPECT_EQ(r.step, HT_CHUNK_END);
    EXPECT_STR(text + r.used, "GET / HTTP/1.1\r\n");
}

TEST_PLAIN(chunk, extensions_are_limited_over_the_whole_body)
{
    struct ht_chunked  d = { 0 };
    enum ht_chunk_step step = HT_CHUNK_MORE;
    int                chunks = 0;

    while (step != HT_CHUNK_BAD) {
        static const char chunk[] = "1;0123456789\r\n";
        size_t            used;

        step = ht_chunk_next(&d, chunk, sizeof chunk - 1, &used);
        if (step == HT_CHUNK_DATA) {
            ht_chunk_take(&d, 1);
            step = ht_chunk_next(&d, "\r\n", 2, &used);
        }
        chunks++;
    }
    EXPECT_STR(d.reason, "chunk extensions too long");
    EXPECT(chunks > 100 && chunks < HT_CHUNK_EXTENSIONS / 10);
}

TEST_PLAIN(chunk, trailers_are_limited)
{
    struct ht_chunked  d = { 0 };
    size_t             used, total = 0;
    enum ht_chunk_step step = ht_chunk_next(&d, "0\r\n", 3, &used);

    while (step == HT_CHUNK_MORE) {
        step = ht_chunk_next(&d, "abc: 0123456789\r\n", 17, &used);
        total += used;
    }
    EXPECT_EQ(step, HT_CHUNK_BAD);
    EXPECT_STR(d.reason, "trailers too long");
    EXPECT(total > HT_CHUNK_TRAILERS / 2);
}
