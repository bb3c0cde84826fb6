/* decompress_test.c -- compressed request bodies. */
#include "http_fixture.h"

#include <brotli/encode.h>
#include <zlib.h>
#include <zstd.h>

#include <bulkhead/http/compress.h>

enum { SIZE = 100000 };

static char           answer[1 << 16], plain[4 << 20], packed[1 << 20];
static struct fixture f;

/* Says how long the body is, and a sum; ?pieces: read in pieces; ?none: not at all. */
static int
measure(struct bh_http_call *c, void *arg)
{
    const char *data = NULL;
    static char room[100];
    unsigned    sum = 0;
    ssize_t     n = 0, total = 0;

    (void)arg;
    if (bh_http_query(c, "none") != NULL)
        return bh_http_reply(c, 200, "unread");
    if (bh_http_query(c, "pieces") != NULL) {
        while ((n = bh_http_read(c, room, sizeof room)) > 0)
            for (ssize_t i = 0; i < n; i++, total++)
                sum = sum * 31 + (unsigned char)room[i];
    } else {
        total = n = bh_http_body(c, &data);
        for (ssize_t i = 0; i < n; i++)
            sum = sum * 31 + (unsigned char)data[i];
    }
    return n < 0 ? (int)n : bh_http_reply(c, 200, "%zd %u", total, sum);
}

static void
start(size_t max_body)
{
    for (size_t i = 0; i < sizeof plain; i++)
        plain[i] = "The quick brown fox jumps over the lazy dog. "[(i + i / 1000) % 45];
    f.s = bh_http_server_new(&(struct bh_http_options){ .max_body = max_body });
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_use(f.s, bh_http_decompress, NULL);
    bh_http_handle(f.s, "POST /measure", measure, NULL);
    fixture_start(&f);
}

static void
stop(void)
{
    EXPECT_EQ(fixture_stop(&f), 0);
}

static size_t
pack_gzip(size_t size, char *out, size_t room)
{
    z_stream z = { .next_in = (unsigned char *)plain,
                   .avail_in = (uInt)size,
                   .next_out = (unsigned char *)out,
                   .avail_out = (uInt)room };

    EXPECT_EQ(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
    EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
    (void)deflateEnd(&z);
    return room - z.avail_out;
}

static size_t
pack(const char *coding, size_t size)
{
    size_t n = sizeof packed;

    if (strcmp(coding, "gzip") == 0)
        return pack_gzip(size, packed, sizeof packed);
    if (strcmp(coding, "zstd") == 0)
        return ZSTD_compress(packed, sizeof packed, plain, size, 3);
    EXPECT(BrotliEncoderCompress(5, 18, BROTLI_MODE_GENERIC, size, (const uint8_t *)plain, &n,
                                 (uint8_t *)packed));
    return n;
}

/* POST size bytes of packed, and another request behind it.  Returns: the first one's status. */
static int
post(const char *query, const char *coding, size_t size)
{
    static const char next[] =
        "POST /measure HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nConnection: close\r\n\r\nx";
    struct bh_conn *c = fixture_dial(&f);
    char            head[300];

    snprintf(head, sizeof head,
             "POST /measure%s HTTP/1.1\r\nHost: a\r\nContent-Encoding: %s\r\nContent-Length: "
             "%zu\r\n\r\n",
             query, coding, size);
    send_text(c, head);
    if (size > 0)
        (void)bh_write(c, packed, size);
    (void)bh_write(c, next, sizeof next - 1);
    (void)bh_conn_shutdown_write(c);
    (void)read_to_end(c, answer, sizeof answer);
    bh_conn_free(c);
    return atoi(answer + strlen("HTTP/1.1 "));
}

static const char *
expected(size_t size)
{
    static char text[60];
    unsigned    sum = 0;

    for (size_t i = 0; i < size; i++)
        sum = sum * 31 + (unsigned char)plain[i];
    snprintf(text, sizeof text, "\r\n\r\n%zu %u", size, sum);
    return text;
}

static const char *const codings[] = { "gzip", "br", "zstd" };

TEST_REAL(decompress, every_coding_gives_back_what_went_in)
{
    static const size_t sizes[] = { 0, 1, 100, 8192, SIZE, 900000 };

    start(1 << 20);
    for (int i = 0; i < 3; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++)
            for (int pieces = 0; pieces < 2; pieces++) {
                EXPECT_EQ(post(pieces ? "?pieces" : "", codings[i], pack(codings[i], sizes[j])),
                          200);
                EXPECT_HAS(answer, expected(sizes[j]));
                EXPECT_HAS(answer, "\r\n\r\n1 120"); /* and the connection goes on */
            }
    stop();
}

TEST_REAL(decompress, several_parts_are_one_body)
{
    size_t n;

    start(1 << 20);
    n = pack_gzip(SIZE, packed, sizeof packed);
    n += pack_gzip(SIZE, packed + n, sizeof packed - n);
    EXPECT_EQ(post("", "x-gzip", n), 200);
    EXPECT_HAS(answer, "\r\n\r\n200000 ");
    n = ZSTD_compress(packed, sizeof packed, plain, SIZE, 3);
    n += ZSTD_compress(packed + n, sizeof packed - n, plain, SIZE, 3);
    EXPECT_EQ(post("", "zstd", n), 200);
    EXPECT_HAS(answer, "\r\n\r\n200000 ");
    stop();
}

TEST_REAL(decompress, bomb_is_too_large)
{
    start(1 << 20);
    for (int i = 0; i < 3; i++)
        for (int pieces = 0; pieces < 2; pieces++) {
            size_t n = pack(codings[i], sizeof plain);

            EXPECT(n < 1 << 18);
            EXPECT_EQ(post(pieces ? "?pieces" : "", codings[i], n), 413);
        }
    stop();
}

TEST_REAL(decompress, malformed_or_cut_off_is_a_bad_request)
{
    start(1 << 20);
    for (int i = 0; i < 3; i++) {
        size_t n = pack(codings[i], SIZE);

        for (size_t cut = 1; cut < n; cut += n / 13 + 1)
            EXPECT_EQ(post("", codings[i], cut), 400);
        EXPECT_EQ(post("", codings[i], n - 1), 400);
        packed[n] = 'x';
        EXPECT_EQ(post("", codings[i], n + 1), 400);
        for (size_t at = 0; at < 100; at++)
            packed[at] = (char)(at * 37);
        EXPECT_EQ(post("", codings[i], 100), 400);
        EXPECT_EQ(post("", codings[i], 0), 200);
    }
    stop();
}

TEST_REAL(decompress, leaves_alone_what_is_not_compressed_and_refuses_what_it_does_not_know)
{
    start(1 << 20);
    memcpy(packed, plain, 100);
    EXPECT_EQ(post("", "identity", 100), 200);
    EXPECT_HAS(answer, expected(100));
    EXPECT_EQ(post("", "deflate", 100), 415);
    EXPECT_HAS(answer, "Accept-Encoding: gzip, br, zstd\r\n");
    EXPECT_EQ(post("", "gzip, br", 100), 415);
    EXPECT_EQ(post("?none", "gzip", pack("gzip", SIZE)), 200);
    EXPECT_HAS(answer, "unread");
    EXPECT_HAS(answer, "\r\n\r\n1 120");
    stop();
}
