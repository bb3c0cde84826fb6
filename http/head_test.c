/* head_test.c -- request heads: what is accepted, what is refused and how, at every split. */
#include "head.h"

#include <stdio.h>
#include <stdlib.h>

#include "test.h"

static const struct ht_limits limits = { .line = 256, .head = 1024, .fields = 8 };

struct parsed {
    int            status; /* 0, or what it was refused with */
    struct ht_head head;
    const char    *reason;
    size_t         end;
};

static struct ht_field fields[16];
static char            bytes[1 << 16];

/* As a connection does it: find the end, then parse.  Status -1: wants more. */
static struct parsed
parse(const char *text, size_t size)
{
    struct parsed    p = { 0 };
    struct ht_finder f = { 0 };
    struct ht_target target;
    long             end = ht_head_find(&f, text, size, &limits);
    int              rc;

    p.reason = f.reason;
    if (end <= 0) {
        p.status = end == 0 ? -1 : (int)-end;
        return p;
    }
    p.end = (size_t)end;
    memcpy(bytes, text + f.start, (size_t)end - f.start);
    rc = ht_head_parse(&p.head, bytes, (size_t)end - f.start, fields, 16);
    if (rc == 0)
        rc = ht_target_parse(&target, &p.head);
    p.status = -rc;
    p.reason = p.head.reason;
    return p;
}

struct vector {
    const char  *text;
    size_t       size;
    int          status;
    const char  *reason;
    enum ht_body body;
    uint64_t     length;
};
#define OK(text, ...)                                                                          \
    {                                                                                          \
        text, sizeof(text) - 1, 0, NULL, __VA_ARGS__                                           \
    }
#define NO(status, reason, text)                                                               \
    {                                                                                          \
        text, sizeof(text) - 1, status, reason, HT_BODY_NONE, 0                                \
    }
#define H "Host: a.example\r\n"

static const struct vector vectors[] = {
    OK("GET / HTTP/1.1\r\n" H "\r\n", HT_BODY_NONE, 0),
    OK("\r\nGET / HTTP/1.1\r\n" H "\r\n", HT_BODY_NONE, 0),
    OK("GET / HTTP/1.0\r\n\r\n", HT_BODY_NONE, 0),
    OK("GET /a/b?c=d&e=%20 HTTP/1.1\r\n" H "Accept:\r\nX-Y:\t v \t\r\n\r\n", HT_BODY_NONE, 0),
    OK("POST / HTTP/1.1\r\n" H "Content-Length: 0\r\n\r\n", HT_BODY_NONE, 0),
    OK("POST / HTTP/1.1\r\n" H "content-LENGTH:17\r\n\r\n", HT_BODY_LENGTH, 17),
    OK("POST / HTTP/1.1\r\n" H "Content-Length: 0017 \r\n\r\n", HT_BODY_LENGTH, 17),
    OK("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n", HT_BODY_CHUNKED, 0),
    OK("POST / HTTP/1.1\r\n" H "Transfer-Encoding: Chunked\r\n\r\n", HT_BODY_CHUNKED, 0),
    OK("GET http://a.example/x HTTP/1.1\r\n" H "\r\n", HT_BODY_NONE, 0),
    OK("GET http://a.example HTTP/1.1\r\n" H "\r\n", HT_BODY_NONE, 0),
    OK("GET http://a.example?q HTTP/1.1\r\n" H "\r\n", HT_BODY_NONE, 0),
    OK("OPTIONS * HTTP/1.1\r\n" H "\r\n", HT_BODY_NONE, 0),
    OK("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", HT_BODY_NONE, 0),
    OK("GET / HTTP/1.1\r\nHost: a.example:\r\n\r\n", HT_BODY_NONE, 0),
    OK("GET / HTTP/1.1\r\n" H "X: \x80\xff obs-text\r\n\r\n", HT_BODY_NONE, 0),
    OK("GET /... HTTP/1.1\r\n" H "\r\n", HT_BODY_NONE, 0),

    /* framing */
    NO(400, "both Content-Length and Transfer-Encoding",
       "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"),
    NO(400, "both Content-Length and Transfer-Encoding",
       "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n"),
    NO(400, "both Content-Length and Transfer-Encoding",
       "POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\nContent-Length: 3\r\n\r\n"),
    NO(400, "repeated Content-Length",
       "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 3\r\n\r\n"),
    NO(400, "repeated Content-Length",
       "POST / HTTP/1.1\r\n" H "Content-Length: 3\r\nContent-Length: 4\r\n\r\n"),
    NO(400, "bad Content-Length", "POST / HTTP/1.1\r\n" H "Content-Length: 3, 3\r\n\r\n"),
    NO(400, "bad Content-Length", "POST / HTTP/1.1\r\n" H "Content-Length: +3\r\n\r\n"),
    NO(400, "bad Content-Length", "POST / HTTP/1.1\r\n" H "Content-Length: -3\r\n\r\n"),
    NO(400, "bad Content-Length", "POST / HTTP/1.1\r\n" H "Content-Length: 0x3\r\n\r\n"),
    NO(400, "bad Content-Length", "POST / HTTP/1.1\r\n" H "Content-Length: 3 3\r\n\r\n"),
    NO(400, "bad Content-Length", "POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"),
    NO(400, "bad Content-Length",
       "POST / HTTP/1.1\r\n" H "Content-Length: 18446744073709551617\r\n\r\n"),
    NO(400, "unknown transfer coding",
       "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip\r\n\r\n"),
    NO(400, "unknown transfer coding",
       "POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"),
    NO(400, "unknown transfer coding",
       "POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked, identity\r\n\r\n"),
    NO(400, "unknown transfer coding",
       "POST / HTTP/1.1\r\n" H
       "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"),
    NO(400, "unknown transfer coding", "POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n"),
    NO(400, "unknown transfer coding",
       "POST / HTTP/1.1\r\n" H "Transfer-Encoding: \"chunked\"\r\n\r\n"),
    NO(400, "Transfer-Encoding in HTTP/1.0",
       "POST / HTTP/1.0\r\n" H "Transfer-Encoding: chunked\r\n\r\n"),
    NO(417, "unknown expectation", "POST / HTTP/1.1\r\n" H "Expect: 200-ok\r\n\r\n"),

    /* lines */
    NO(400, "line feed without carriage return", "GET / HTTP/1.1\nHost: a\n\n"),
    NO(400, "line feed without carriage return", "GET / HTTP/1.1\r\nHost: a\n\r\n"),
    NO(400, "line feed without carriage return", "\nGET / HTTP/1.1\r\n" H "\r\n"),
    NO(400, "empty lines before the request line", "\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"),
    NO(400, "control byte in a header field", "GET / HTTP/1.1\r\n" H "A: b\rC: d\r\n\r\n"),
    NO(400, "control byte in a header field", "GET / HTTP/1.1\r\n" H "A: b\r\r\n\r\n"),
    NO(400, "control byte in a header field", "GET / HTTP/1.1\r\n" H "A: b\0c\r\n\r\n"),
    NO(400, "control byte in a header field", "GET / HTTP/1.1\r\n" H "A: b\x7f\r\n\r\n"),
    NO(400, "control byte in a header field",
       "GET / HTTP/1.1\r\n" H "A: 12345678\x01"
       "9\r\n\r\n"),
    NO(400, "header field continued on the next line",
       "GET / HTTP/1.1\r\n" H "A: b\r\n c\r\n\r\n"),
    NO(400, "header field continued on the next line",
       "GET / HTTP/1.1\r\n" H "A: b\r\n\tc\r\n\r\n"),
    NO(400, "header field continued on the next line", "GET / HTTP/1.1\r\n Host: a\r\n\r\n"),
    NO(400, "bad header field name", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
    NO(400, "bad header field name", "GET / HTTP/1.1\r\nHost\t: a\r\n\r\n"),
    NO(400, "bad header field name", "GET / HTTP/1.1\r\n" H ": a\r\n\r\n"),
    NO(400, "bad header field name", "GET / HTTP/1.1\r\n" H "no colon\r\n\r\n"),
    NO(400, "bad header field name", "GET / HTTP/1.1\r\n" H "a\0b: c\r\n\r\n"),
    NO(400, "bad header field name", "GET / HTTP/1.1\r\n" H "(a): c\r\n\r\n"),
    NO(400, "bad header field name", "GET / HTTP/1.1\r\n" H "\xc3\xa9: c\r\n\r\n"),

    /* request line */
    NO(400, "bad method", "GE(T / HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad method", " GET / HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad method", "GET\t/ HTTP/1.1\r\n" H "\r\n"),
    NO(501, "method not implemented", "get / HTTP/1.1\r\n" H "\r\n"),
    NO(501, "method not implemented", "G|ET / HTTP/1.1\r\n" H "\r\n"),
    NO(501, "method not implemented", "PRI / HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad request target", "GET  / HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad HTTP version", "GET /  HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad HTTP version", "GET / HTTP/1.1 \r\n" H "\r\n"),
    NO(400, "bad HTTP version", "GET / x HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad HTTP version", "GET / http/1.1\r\n" H "\r\n"),
    NO(400, "bad HTTP version", "GET / HTTP/1.10\r\n" H "\r\n"),
    NO(400, "no HTTP version", "GET /\r\n" H "\r\n"),
    NO(505, "HTTP version not supported", "GET / HTTP/2.0\r\n" H "\r\n"),
    NO(505, "HTTP version not supported", "GET / HTTP/1.2\r\n" H "\r\n"),
    NO(505, "HTTP version not supported", "GET / HTTP/0.9\r\n" H "\r\n"),

    /* target and host */
    NO(400, "bad request target",
       "GET /a\x01"
       "b HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad request target", "GET /\xc3\xa9 HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad request target", "GET /a#b HTTP/1.1\r\n" H "\r\n"),
    NO(400, NULL, "GET a HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad request target", "GET * HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad request target", "GET ftp://a.example/ HTTP/1.1\r\n" H "\r\n"),
    NO(501, "CONNECT is not offered", "CONNECT a.example:443 HTTP/1.1\r\n" H "\r\n"),
    NO(501, "CONNECT is not offered", "CONNECT /a HTTP/1.1\r\n" H "Content-Length: 1\r\n\r\nx"),
    NO(400, "dot segment in the path", "GET /a/../b HTTP/1.1\r\n" H "\r\n"),
    NO(400, "dot segment in the path", "GET /.. HTTP/1.1\r\n" H "\r\n"),
    NO(400, "dot segment in the path", "GET /./b HTTP/1.1\r\n" H "\r\n"),
    NO(400, "dot segment in the path", "GET /a/%2e%2E/b HTTP/1.1\r\n" H "\r\n"),
    NO(400, "dot segment in the path", "GET /a/.%2e HTTP/1.1\r\n" H "\r\n"),
    NO(400, "malformed escape in the path", "GET /%zz HTTP/1.1\r\n" H "\r\n"),
    NO(400, "malformed escape in the path", "GET /%2 HTTP/1.1\r\n" H "\r\n"),
    NO(400, "NUL in the path", "GET /a%00b HTTP/1.1\r\n" H "\r\n"),
    NO(400, "no Host", "GET / HTTP/1.1\r\n\r\n"),
    NO(400, "more than one Host", "GET / HTTP/1.1\r\n" H H "\r\n"),
    NO(400, "more than one Host", "GET / HTTP/1.0\r\n" H H "\r\n"),
    NO(400, "bad Host", "GET / HTTP/1.1\r\nHost:\r\n\r\n"),
    NO(400, "bad Host", "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"),
    NO(400, "bad Host", "GET / HTTP/1.1\r\nHost: a@b\r\n\r\n"),
    NO(400, "bad Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
    NO(400, "bad Host", "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n"),
    NO(400, "bad Host", "GET / HTTP/1.1\r\nHost: a:99999\r\n\r\n"),
    NO(400, "bad Host", "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"),
    NO(400, "bad Host", "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"),
    NO(400, "bad host in the request target", "GET http:///x HTTP/1.1\r\n" H "\r\n"),
    NO(400, "bad host in the request target", "GET http://u@a.example/ HTTP/1.1\r\n" H "\r\n"),
    NO(400, "Host differs from the request target",
       "GET http://b.example/ HTTP/1.1\r\n" H "\r\n"),

    /* limits */
    NO(431, "too many header fields",
       "GET / HTTP/1.1\r\n" H "A:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\nA:\r\n\r\n"),
};

TEST_PLAIN(head, vectors_are_judged_as_they_should_be)
{
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        const struct vector *v = &vectors[i];
        struct parsed        p = parse(v->text, v->size);

        if (p.status != v->status ||
            (v->reason != NULL && (p.reason == NULL || strcmp(p.reason, v->reason) != 0)))
            test_failed(__FILE__, __LINE__, "vector %zu %s: status %d (%s), expected %d (%s)",
                        i, v->text, p.status, p.reason, v->status, v->reason);
        if (v->status == 0) {
            EXPECT_EQ(p.head.body, v->body);
            EXPECT_EQ(p.head.length, v->length);
            EXPECT_EQ(p.end, v->size);
        }
    }
}

TEST_PLAIN(head, is_found_the_same_at_every_split)
{
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        const struct vector *v = &vectors[i];
        struct ht_finder     whole = { 0 };
        long                 expected = ht_head_find(&whole, v->text, v->size, &limits);

        for (size_t split = 0; split <= v->size; split++) {
            struct ht_finder f = { 0 };
            long             end = ht_head_find(&f, v->text, split, &limits);

            if (end == 0)
                end = ht_head_find(&f, v->text, v->size, &limits);
            EXPECT_EQ(end, expected);
            EXPECT_EQ(f.start, whole.start);
            EXPECT_EQ(f.lines, whole.lines);
        }
    }
}

TEST_PLAIN(head, gives_method_target_and_trimmed_fields)
{
    static const char text[] = "PUT /x?y=1 HTTP/1.1\r\nHost: h\r\nA:  b c\t \r\nEmpty:\r\n\r\n";
    struct parsed     p = parse(text, sizeof text - 1);

    EXPECT_EQ(p.status, 0);
    EXPECT_STR(p.head.method, "PUT");
    EXPECT_EQ(p.head.minor, 1);
    EXPECT_EQ(p.head.field_count, 3);
    EXPECT_STR(fields[1].name, "A");
    EXPECT_STR(fields[1].value, "b c");
    EXPECT_STR(fields[2].value, "");
    EXPECT(ht_name_is(&fields[1], "a", 1));
    EXPECT(!ht_name_is(&fields[1], "ab", 2));
}

static bool
keeps(const char *text)
{
    struct parsed p = parse(text, strlen(text));

    EXPECT_EQ(p.status, 0);
    return p.head.keep;
}

TEST_PLAIN(head, decides_whether_the_connection_may_go_on)
{
    EXPECT(keeps("GET / HTTP/1.1\r\n" H "\r\n"));
    EXPECT(!keeps("GET / HTTP/1.1\r\n" H "Connection: close\r\n\r\n"));
    EXPECT(!keeps("GET / HTTP/1.1\r\n" H "Connection: x , CLOSE\r\n\r\n"));
    EXPECT(!keeps("GET / HTTP/1.1\r\n" H
                  "Connection: x\r\nConnection: close, keep-alive\r\n\r\n"));
    EXPECT(keeps("GET / HTTP/1.1\r\n" H "Connection: closed, close-not\r\n\r\n"));
    EXPECT(!keeps("GET / HTTP/1.0\r\n\r\n"));
    EXPECT(keeps("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
    EXPECT(!keeps("GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n"));
}

TEST_PLAIN(head, limits_the_request_line_before_it_is_complete)
{
    static char      text[2048];
    struct ht_finder f = { 0 };

    memset(text, 'a', sizeof text);
    EXPECT_EQ(ht_head_find(&f, text, 256, &limits), 0);
    text[256] = '\r';
    EXPECT_EQ(ht_head_find(&f, text, 257, &limits), 0);
    text[256] = 'a';
    EXPECT_EQ(ht_head_find(&f, text, 257, &limits), -414);
}

TEST_PLAIN(head, limits_the_whole_before_it_is_complete)
{
    static char      text[2048];
    struct ht_finder f = { 0 };
    int              start = snprintf(text, sizeof text, "GET / HTTP/1.1\r\nA: ");

    memset(text + start, 'a', sizeof text - (size_t)start);
    EXPECT_EQ(ht_head_find(&f, text, 1024, &limits), 0);
    EXPECT_EQ(ht_head_find(&f, text, 1025, &limits), -431);
}

/*
 * A front server might read a mangled field as Transfer-Encoding and one behind it
 * not, or the other way round.  So of all one-byte manglings of the field, beside a
 * Content-Length, those we accept must be fields of another name, plainly.
 */
static void
mangle(const char *before, unsigned byte, const char *after, int *accepted)
{
    static char text[512];
    int         n =
        snprintf(text, sizeof text, "POST / HTTP/1.1\r\n" H "Content-Length: 5\r\n%s", before);
    struct parsed p;

    text[n++] = (char)byte;
    n += snprintf(text + n, sizeof text - (size_t)n, "%s\r\n\r\n", after);
    p = parse(text, (size_t)n);
    if (p.status == 0) {
        (*accepted)++;
        EXPECT_EQ(p.head.body, HT_BODY_LENGTH);
        for (unsigned i = 0; i < p.head.field_count; i++) {
            EXPECT(!ht_name_is(&fields[i], "transfer-encoding", 17));
            EXPECT(ht_is_token(fields[i].name, fields[i].name_length));
        }
    }
}

TEST_PLAIN(head, no_one_byte_mangling_of_transfer_encoding_passes_beside_a_length)
{
    int accepted = 0;

    for (unsigned byte = 0; byte < 256; byte++) {
        mangle("", byte, "Transfer-Encoding: chunked", &accepted);
        mangle("Transfer", byte, "Encoding: chunked", &accepted);
        mangle("Transfer-Encoding", byte, ": chunked", &accepted);
        mangle("Transfer-Encoding", byte, "chunked", &accepted);
        mangle("Transfer-Encoding:", byte, "chunked", &accepted);
        mangle("Transfer-Encoding: ", byte, "chunked", &accepted);
        mangle("Transfer-Encoding: chunked", byte, "", &accepted);
        mangle("Transfer-Encoding: chunked, ", byte, "", &accepted);
        mangle("X: y", byte, "Transfer-Encoding: chunked", &accepted);
        mangle("X: y\r\n", byte, "Transfer-Encoding: chunked", &accepted);
    }
    /* Names with one more, or another, token byte; and "X: y?Transfer-Encoding: chunked". */
    EXPECT(accepted > 0);
}
