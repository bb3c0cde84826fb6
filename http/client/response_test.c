/* response_test.c -- heads of replies: what is read, and what is refused. */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "response.h"

#include "test.h"

static const struct ht_limits limits = { .head = 2000, .fields = 10 };

/* Owns: h's strings are in a static buffer.  Returns: the offset behind the head, 0, or an error. */
static long
read_head_as(struct hc_head *h, const char *text, size_t size, bool head_request)
{
    static char            data[8192];
    static struct ht_field fields[10];
    long                   end;

    memset(h, 0, sizeof *h);
    h->fields = fields;
    memcpy(data, text, size);
    end = hc_head_find(h, data, size, &limits);
    if (end > 0) {
        int rc = hc_head_parse(h, data, (size_t)end, limits.fields, head_request);

        return rc < 0 ? rc : end;
    }
    return end;
}

static long
read_head(struct hc_head *h, const char *text)
{
    return read_head_as(h, text, strlen(text), false);
}

TEST_PLAIN(response, a_head_is_read)
{
    struct hc_head h;
    const char    *text = "HTTP/1.1 200 OK then\r\nA: b\r\nEmpty:\r\nc-D: \t x  y \t\r\n"
                          "Content-Length: 12\r\n\r\nbody";

    EXPECT_EQ(read_head(&h, text), strlen(text) - 4);
    EXPECT_EQ(h.status, 200);
    EXPECT_EQ(h.minor, 1);
    EXPECT_EQ(h.field_count, 4);
    EXPECT_STR(h.fields[0].name, "A");
    EXPECT_STR(h.fields[0].value, "b");
    EXPECT_STR(h.fields[1].value, "");
    EXPECT_STR(h.fields[2].name, "c-D");
    EXPECT_STR(h.fields[2].value, "x  y");
    EXPECT_EQ(h.body, HC_BODY_LENGTH);
    EXPECT_EQ(h.length, 12);
    EXPECT(h.keep);
}

TEST_PLAIN(response, a_reason_may_be_missing)
{
    struct hc_head h;

    EXPECT(read_head(&h, "HTTP/1.1 200\r\n\r\n") > 0);
    EXPECT(read_head(&h, "HTTP/1.1 200 \r\n\r\n") > 0);
    EXPECT(read_head(&h, "HTTP/1.1 599 \xe4\xb8\x8d\r\n\r\n") > 0);
    EXPECT_EQ(h.status, 599);
}

TEST_PLAIN(response, a_head_may_come_byte_by_byte)
{
    struct hc_head  h = { 0 };
    struct ht_field fields[10];
    char            text[] = "HTTP/1.1 200 OK\r\nA: b\r\nTransfer-Encoding: Chunked\r\n\r\nx";
    size_t          size = strlen(text) - 1;

    for (size_t i = 0; i < size; i++)
        EXPECT_EQ(hc_head_find(&h, text, i, &limits), 0);
    EXPECT_EQ(hc_head_find(&h, text, size + 1, &limits), size);
    EXPECT_EQ(h.lines, 3);
    h.fields = fields;
    EXPECT_EQ(hc_head_parse(&h, text, size, 10, false), 0);
    EXPECT_EQ(h.body, HC_BODY_CHUNKED);
}

TEST_PLAIN(response, what_could_be_read_in_two_ways_is_refused)
{
    static const char *const texts[] = {
        "x",
        "\r\nHTTP/1.1 200 OK\r\n\r\n",
        " HTTP/1.1 200 OK\r\n\r\n",
        "http/1.1 200 OK\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "HTTP/1.1  200 OK\r\n\r\n",
        "HTTP/1.1\t200 OK\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/1.1 2x0 OK\r\n\r\n",
        "HTTP/1.1 +20 OK\r\n\r\n",
        "HTTP/1.1 099 OK\r\n\r\n",
        "HTTP/1.1 600 OK\r\n\r\n",
        "HTTP/1.1 200OK\r\n\r\n",
        "HTTP/1.1 200\tOK\r\n\r\n",
        "HTTP/1.1 200 O\001K\r\n\r\n",
        "HTTP/1.1 200 OK\n\r\n",
        "HTTP/1.1 200 OK\r\n\n",
        "HTTP/1.1 200 OK\r\nA: b\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\r\n\r\n",
        "HTTP/1.1 200 OK\r\n\rA: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\rc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA : b\r\n\r\n",
        "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: b\r\n\tc\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA\r\n\r\n",
        "HTTP/1.1 200 OK\r\n: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA(: b\r\n\r\n",
        "HTTP/1.1 200 OK\r\nA: \x7f\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0x1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1, 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 9999999999999999999\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, identity\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: \r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    };
    struct hc_head h;

    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        if (read_head(&h, texts[i]) != -EBADMSG)
            test_failed(__FILE__, __LINE__, "\"%s\" was read", texts[i]);
        EXPECT(h.fault != NULL);
    }
    EXPECT_EQ(read_head_as(&h, "HTTP/1.1 200 OK\r\nA: \0\r\n\r\n", 25, false), -EBADMSG);
}

TEST_PLAIN(response, heads_have_limits)
{
    struct hc_head h;
    char           text[4096];
    int            n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\nA: %01950d", 0);

    EXPECT_EQ(read_head(&h, text), 0);
    snprintf(text + n, sizeof text - (size_t)n, "%0100d", 0);
    EXPECT_EQ(read_head(&h, text), -EMSGSIZE);
    n = snprintf(text, sizeof text, "HTTP/1.1 200 OK\r\n");
    for (int i = 0; i < 10; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "A: b\r\n");
    snprintf(text + n, sizeof text - (size_t)n, "\r\n");
    EXPECT(read_head(&h, text) > 0);
    snprintf(text + n, sizeof text - (size_t)n, "A: b\r\n\r\n");
    EXPECT_EQ(read_head(&h, text), -EMSGSIZE);
}

static enum hc_body
body_of_head(struct hc_head *h, const char *rest, bool head_request)
{
    char text[500];

    snprintf(text, sizeof text, "HTTP/1.%s\r\n\r\n", rest);
    EXPECT(read_head_as(h, text, strlen(text), head_request) > 0);
    return h->body;
}

/* See: RFC 9112 section 6.3. */
TEST_PLAIN(response, status_method_and_fields_say_where_the_body_ends)
{
    struct hc_head h;

    EXPECT_EQ(body_of_head(&h, "1 200 OK", false), HC_BODY_CLOSE);
    EXPECT(!h.keep);
    EXPECT_EQ(body_of_head(&h, "1 200 OK\r\nContent-Length: 0", false), HC_BODY_NONE);
    EXPECT(h.keep);
    EXPECT_EQ(body_of_head(&h, "1 200 OK\r\nContent-Length: 5", true), HC_BODY_NONE);
    EXPECT(h.keep);
    EXPECT_EQ(body_of_head(&h, "1 200 OK\r\nTransfer-Encoding: chunked", true), HC_BODY_NONE);
    EXPECT(h.keep);
    EXPECT_EQ(body_of_head(&h, "1 304 Not Modified\r\nContent-Length: 5", false), HC_BODY_NONE);
    EXPECT(h.keep);
    EXPECT_EQ(body_of_head(&h, "1 204 No Content", false), HC_BODY_NONE);
    EXPECT(h.keep);
    EXPECT_EQ(body_of_head(&h, "1 204 No Content\r\nContent-Length: 0", false), HC_BODY_NONE);
    EXPECT(h.keep);
    /* No body, but who announces one may send it: the connection is not used again. */
    EXPECT_EQ(body_of_head(&h, "1 204 No Content\r\nContent-Length: 5", false), HC_BODY_NONE);
    EXPECT(!h.keep);
    EXPECT_EQ(body_of_head(&h, "1 204 No Content\r\nTransfer-Encoding: chunked", false),
              HC_BODY_NONE);
    EXPECT(!h.keep);
    EXPECT_EQ(body_of_head(&h, "1 100 Continue", false), HC_BODY_NONE);
    EXPECT(h.keep);
}

TEST_PLAIN(response, connection_and_version_say_whether_it_is_kept)
{
    struct hc_head h;

    (void)body_of_head(&h, "1 200 OK\r\nContent-Length: 0\r\nConnection: close", false);
    EXPECT(!h.keep);
    (void)body_of_head(&h, "1 200 OK\r\nContent-Length: 0\r\nConnection: x, CLOSE ,y", false);
    EXPECT(!h.keep);
    (void)body_of_head(&h, "1 200 OK\r\nContent-Length: 0\r\nConnection: closed", false);
    EXPECT(h.keep);
    (void)body_of_head(&h, "0 200 OK\r\nContent-Length: 0", false);
    EXPECT(!h.keep);
    (void)body_of_head(&h, "0 200 OK\r\nContent-Length: 0\r\nConnection: Keep-Alive", false);
    EXPECT(h.keep);
    (void)body_of_head(&h, "0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive, close",
                       false);
    EXPECT(!h.keep);
}
