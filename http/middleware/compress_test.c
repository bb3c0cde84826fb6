/* compress_test.c -- compression and tags of replies, read back with other people's decoders. */
#include "http_fixture.h"

#include <fcntl.h>
#include <unistd.h>

#include <brotli/decode.h>
#include <zlib.h>
#include <zstd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/http/compress.h>
#include <bulkhead/http/files.h>

static char                     answer[1 << 21], plain[1 << 21];
static size_t                   answer_size;
static struct fixture           f;
static struct bh_http_compress *compress_;

/* ---- a server -------------------------------------------------------------------- */

static char *
text_of(struct bh_http_call *c, size_t size)
{
    char *text = bh_arena_alloc(c->arena, size + 1);

    for (size_t i = 0; i < size; i++)
        text[i] = "The quick brown fox jumps over the lazy dog. "[(i + i / 1000) % 45];
    return text;
}

static size_t
size_of(struct bh_http_call *c)
{
    const char *size = bh_http_query(c, "size");

    return size != NULL ? strtoul(size, NULL, 10) : 10000;
}

/* In one piece; ?size, ?type, ?status, ?set=Name:value. */
static int
whole(struct bh_http_call *c, void *arg)
{
    const char *type = bh_http_query(c, "type"), *status = bh_http_query(c, "status");
    const char *set = bh_http_query(c, "set");

    (void)arg;
    if (set != NULL)
        bh_http_set_header(c, bh_arena_string(c->arena, set, strcspn(set, ":")),
                           strchr(set, ':') + 1);
    return bh_http_reply_bytes(c, status != NULL ? atoi(status) : 200,
                               type != NULL ? type : "text/html; charset=utf-8",
                               text_of(c, size_of(c)), size_of(c));
}

/* Piece by piece, of unknown length or with ?length; ?panic, ?short in the middle. */
static int
stream(struct bh_http_call *c, void *arg)
{
    size_t size = size_of(c), piece = 700;
    char  *text = text_of(c, size);

    (void)arg;
    bh_http_start(c, 200, "text/plain",
                  bh_http_query(c, "length") != NULL ? (int64_t)size : -1);
    for (size_t at = 0; at < size; at += piece) {
        (void)bh_http_write(c, text + at, size - at < piece ? size - at : piece);
        if (bh_http_query(c, "flush") != NULL)
            (void)bh_http_flush(c);
        if (at > size / 2 && bh_http_query(c, "panic") != NULL)
            bh_panic("in the middle");
        if (at > size / 2 && bh_http_query(c, "short") != NULL)
            return 0;
    }
    return 0;
}

static struct bh_chan *event_go;

/* Two events, the second when the test says so. */
static int
events(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/event-stream", -1);
    bh_http_print(c, "data: one\n\n");
    bh_http_flush(c);
    bh_recv(event_go, NULL);
    bh_http_print(c, "data: two\n\n");
    return 0;
}

static void
start(const struct bh_http_compress_options *o, bool tags)
{
    f.s = bh_http_server_new(NULL);
    compress_ = bh_http_compress_new(o);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_use(f.s, bh_http_compress, compress_);
    if (tags)
        bh_http_use(f.s, bh_http_etag, NULL);
    bh_http_handle(f.s, "GET /whole", whole, NULL);
    bh_http_handle(f.s, "POST /whole", whole, NULL);
    bh_http_handle(f.s, "GET /stream", stream, NULL);
    bh_http_handle(f.s, "GET /events", events, NULL);
    fixture_start(&f);
}

static void
stop(void)
{
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_http_compress_free(compress_);
}

/* Reads to the end, NULs and all. */
static void
ask(const char *request, const char *fields)
{
    struct bh_conn *c = fixture_dial(&f);
    char            text[4096];
    ssize_t         n;

    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n",
             request, fields);
    send_text(c, text);
    for (answer_size = 0;
         (n = bh_read(c, answer + answer_size, sizeof answer - 1 - answer_size)) > 0;)
        answer_size += (size_t)n;
    answer[answer_size] = '\0';
    bh_conn_free(c);
}

static void
ask_for(const char *request, const char *coding)
{
    char fields[200];

    snprintf(fields, sizeof fields, "Accept-Encoding: %s\r\n", coding);
    ask(request, fields);
}

/* The body without its chunks.  Returns: false if the last one is missing. */
static bool
unchunk(char *body, size_t *size)
{
    char *from = body, *to = body, *end = body + *size;

    for (;;) {
        size_t n = from < end ? strtoul(from, &from, 16) : 0;

        if (end - from < 2 || (size_t)(end - from) < n + 4) {
            *size = (size_t)(to - body);
            return false;
        }
        from += 2;
        memmove(to, from, n);
        to += n;
        from += n + 2;
        if (n == 0)
            break;
    }
    *size = (size_t)(to - body);
    return true;
}

static size_t
gunzip(const char *data, size_t size)
{
    z_stream z = { .next_in = (unsigned char *)(uintptr_t)data,
                   .avail_in = (uInt)size,
                   .next_out = (unsigned char *)plain,
                   .avail_out = sizeof plain };

    EXPECT_EQ(inflateInit2(&z, 15 + 16), Z_OK);
    EXPECT_EQ(inflate(&z, Z_SYNC_FLUSH) >= 0, 1);
    (void)inflateEnd(&z);
    return sizeof plain - z.avail_out;
}

/* The body, decoded as its head says, into plain.  Returns: its size. */
static size_t
decode(void)
{
    char  *body = (char *)(uintptr_t)body_of(answer);
    size_t size = answer_size - (size_t)(body - answer), n = sizeof plain;

    if (strstr(answer, "Transfer-Encoding: chunked") != NULL)
        EXPECT(unchunk(body, &size));
    else
        EXPECT_EQ(strtoul(strstr(answer, "Content-Length: ") + 16, NULL, 10), size);
    if (strstr(answer, "Content-Encoding: gzip\r\n") != NULL)
        n = gunzip(body, size);
    else if (strstr(answer, "Content-Encoding: br\r\n") != NULL)
        EXPECT_EQ(BrotliDecoderDecompress(size, (uint8_t *)body, &n, (uint8_t *)plain),
                  BROTLI_DECODER_RESULT_SUCCESS);
    else if (strstr(answer, "Content-Encoding: zstd\r\n") != NULL)
        n = ZSTD_decompress(plain, sizeof plain, body, size);
    else
        memcpy(plain, body, n = size);
    EXPECT(n < sizeof plain);
    plain[n] = '\0';
    return n;
}

static void
expect_text(size_t size)
{
    EXPECT_EQ(decode(), size);
    for (size_t i = 0; i < size; i++)
        if (plain[i] != "The quick brown fox jumps over the lazy dog. "[(i + i / 1000) % 45])
            test_failed(__FILE__, __LINE__, "byte %zu is wrong", i);
}

#define NOT(part) EXPECT(strstr(answer, (part)) == NULL)

/* ---- what is compressed ---------------------------------------------------------- */

static const char *const names[] = { "gzip", "br", "zstd" };

TEST_REAL(compress, every_coding_gives_back_what_went_in)
{
    static const size_t sizes[] = { 1024, 8192, 10000, 300000, 1500000 };
    char                request[100], field[100];

    start(NULL, false);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        for (size_t j = 0; j < sizeof sizes / sizeof sizes[0]; j++)
            for (int streamed = 0; streamed < 3; streamed++) {
                snprintf(request, sizeof request, "GET /%s?size=%zu%s",
                         streamed ? "stream" : "whole", sizes[j],
                         streamed == 2 ? "&flush" : "");
                snprintf(field, sizeof field, "Content-Encoding: %s\r\n", names[i]);
                ask_for(request, names[i]);
                EXPECT_STARTS(answer, "HTTP/1.1 200 OK\r\n");
                EXPECT_HAS(answer, field);
                EXPECT_HAS(answer, "Vary: Accept-Encoding\r\n");
                EXPECT(streamed == 2 || answer_size < sizes[j]);
                expect_text(sizes[j]);
            }
    stop();
}

TEST_REAL(compress, every_level_fits_the_stack)
{
    for (int level = 1; level <= 19; level++) {
        start(&(struct bh_http_compress_options){ .gzip_level = level < 9 ? level : 9,
                                                  .br_level = level < 11 ? level : 11,
                                                  .zstd_level = level },
              false);
        for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
            ask_for("GET /whole?size=50000", names[i]);
            expect_text(50000);
        }
        stop();
    }
}

TEST_REAL(compress, is_chosen_by_weights_and_preference)
{
    start(NULL, false);
    ask_for("GET /whole", "gzip, deflate, br, zstd");
    EXPECT_HAS(answer, "Content-Encoding: zstd\r\n");
    ask_for("GET /whole", "gzip;q=1, br;q=0.9, zstd;q=0");
    EXPECT_HAS(answer, "Content-Encoding: gzip\r\n");
    ask("GET /whole", "Accept-Encoding: zstd;q=0\r\nAccept-Encoding: *\r\n");
    EXPECT_HAS(answer, "Content-Encoding: br\r\n");
    stop();
    start(&(struct bh_http_compress_options){ .codings = "gzip" }, false);
    ask_for("GET /whole", "br, zstd, gzip;q=0.1");
    EXPECT_HAS(answer, "Content-Encoding: gzip\r\n");
    stop();
}

TEST_REAL(compress, is_not_done_for_who_does_not_take_it_but_said_to_vary)
{
    static const char *const fields[] = { "",
                                          "Accept-Encoding:\r\n",
                                          "Accept-Encoding: identity\r\n",
                                          "Accept-Encoding: gzip;q=0\r\n",
                                          "Accept-Encoding: deflate\r\n",
                                          "Accept-Encoding: identity;q=0\r\n" };

    start(NULL, false);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        ask("GET /whole", fields[i]);
        NOT("Content-Encoding");
        EXPECT_HAS(answer, "Vary: Accept-Encoding\r\n");
        expect_text(10000);
    }
    stop();
}

TEST_REAL(compress, leaves_alone_what_is_not_worth_it_or_must_not_change)
{
    static const char *const requests[] = { "size=1023",
                                            "type=image/png",
                                            "type=texts/html",
                                            "set=Content-Encoding:br",
                                            "set=Content-Range:bytes+0-1/5",
                                            "set=Cache-Control:private,+no-transform",
                                            "status=206" };
    char                     request[200];

    start(NULL, false);
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        snprintf(request, sizeof request, "GET /whole?%s", requests[i]);
        ask_for(request, "gzip");
        NOT("Content-Encoding: gzip");
        NOT("Vary");
        EXPECT_EQ(strtoul(strstr(answer, "Content-Length: ") + 16, NULL, 10),
                  i == 0 ? 1023 : 10000);
    }
    ask_for("GET /whole?type=application/problem%2bjson;+x=y", "gzip");
    EXPECT_HAS(answer, "Content-Encoding: gzip\r\n");
    ask_for("GET /whole?status=404", "gzip");
    EXPECT_HAS(answer, "Content-Encoding: gzip\r\n");
    stop();
}

TEST_REAL(compress, head_is_that_of_get_without_a_body)
{
    start(NULL, false);
    ask_for("HEAD /whole", "gzip");
    EXPECT_HAS(answer, "Content-Encoding: gzip\r\n");
    EXPECT_HAS(answer, "Vary: Accept-Encoding\r\n");
    NOT("Content-Length: 10000");
    EXPECT_STR(body_of(answer), "");
    ask_for("HEAD /whole?size=10", "gzip");
    EXPECT_HAS(answer, "Content-Length: 10\r\n");
    stop();
}

TEST_REAL(compress, makes_strong_tags_weak)
{
    start(NULL, false);
    ask_for("GET /whole?set=ETag:\"a\"", "gzip");
    EXPECT_HAS(answer, "ETag: W/\"a\"\r\n");
    ask_for("GET /whole?set=ETag:W/\"a\"", "gzip");
    EXPECT_HAS(answer, "ETag: W/\"a\"\r\n");
    ask_for("GET /whole?set=ETag:\"a\"", "identity");
    EXPECT_HAS(answer, "ETag: \"a\"\r\n");
    ask("GET /whole?set=ETag:\"a\"&status=304",
        "Accept-Encoding: gzip\r\nIf-None-Match: W/\"a\"\r\n");
    EXPECT_HAS(answer, "ETag: W/\"a\"\r\n");
    ask("GET /whole?set=ETag:\"a\"&status=304",
        "Accept-Encoding: gzip\r\nIf-None-Match: \"a\"\r\n");
    EXPECT_HAS(answer, "ETag: \"a\"\r\n");
    ask_for("GET /whole?set=Accept-Ranges:bytes", "gzip");
    EXPECT_HAS(answer, "Accept-Ranges: none\r\n");
    ask_for("GET /whole?set=Vary:accept-encoding", "gzip");
    NOT("Vary: Accept-Encoding");
    stop();
}

/* ---- streams --------------------------------------------------------------------- */

TEST_REAL(compress, a_flush_lets_through_all_there_is)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct bh_conn *c;
        char            text[200];
        size_t          size = 0;
        int             blank = 0;

        event_go = BH_CHAN(char, 1);
        start(NULL, false);
        c = fixture_dial(&f);
        snprintf(text, sizeof text,
                 "GET /events HTTP/1.1\r\nHost: a\r\nAccept-Encoding: %s\r\n\r\n", names[i]);
        send_text(c, text);
        /* The head, then the first event's chunk to the last byte; the handler waits meanwhile. */
        while (blank < 1) {
            EXPECT_EQ(bh_read(c, answer + size, 1), 1);
            answer[++size] = '\0';
            blank += size > 4 && strcmp(answer + size - 4, "\r\n\r\n") == 0;
        }
        EXPECT_HAS(answer, names[i]);
        do {
            EXPECT_EQ(bh_read(c, answer + size, 1), 1);
            answer[++size] = '\0';
        } while (answer[size - 1] != '\n');
        {
            char  *chunk = (char *)(uintptr_t)body_of(answer);
            size_t n = strtoul(chunk, NULL, 16), out = sizeof plain;

            EXPECT_EQ(bh_read_full(c, answer, n), n);
            if (i == 0) {
                out = gunzip(answer, n);
            } else if (i == 1) {
                BrotliDecoderState *d = BrotliDecoderCreateInstance(NULL, NULL, NULL);
                const uint8_t      *in = (uint8_t *)answer;
                uint8_t            *to = (uint8_t *)plain;
                size_t              left = n, room = sizeof plain;

                (void)BrotliDecoderDecompressStream(d, &left, &in, &room, &to, NULL);
                BrotliDecoderDestroyInstance(d);
                out = sizeof plain - room;
            } else {
                ZSTD_DCtx     *d = ZSTD_createDCtx();
                ZSTD_inBuffer  in = { answer, n, 0 };
                ZSTD_outBuffer to = { plain, sizeof plain, 0 };

                (void)ZSTD_decompressStream(d, &to, &in);
                ZSTD_freeDCtx(d);
                out = to.pos;
            }
            plain[out] = '\0';
            EXPECT_STR(plain, "data: one\n\n");
        }
        bh_close(event_go);
        EXPECT(bh_read(c, answer, sizeof answer) > 0);
        bh_conn_free(c);
        stop();
        bh_chan_unref(event_go);
    }
}

TEST_REAL(compress, a_failed_stream_does_not_look_whole)
{
    start(NULL, false);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        ask_for("GET /stream?size=100000&panic", names[i]);
        EXPECT_STARTS(answer, "HTTP/1.1 200 ");
        EXPECT(answer_size < 5 || strcmp(answer + answer_size - 5, "0\r\n\r\n") != 0);
        ask_for("GET /stream?size=100000&length&short", names[i]);
        EXPECT(strcmp(answer + answer_size - 5, "0\r\n\r\n") != 0);
        ask_for("GET /stream?size=2000&panic", names[i]);
        EXPECT_STARTS(answer, "HTTP/1.1 500 ");
        NOT("Content-Encoding");
    }
    ask_for("GET /whole", "gzip"); /* with an encoder that was left in the middle */
    expect_text(10000);
    stop();
}

TEST_REAL(compress, of_known_length_is_sent_as_of_unknown)
{
    start(NULL, false);
    ask_for("GET /stream?size=100000&length", "gzip");
    NOT("Content-Length");
    expect_text(100000);
    stop();
}

/* "ETag: ...\r\n" of the last answer as a field If-None-Match. */
static const char *
its_tag(void)
{
    static char field[200];
    const char *tag = strstr(answer, "ETag: ");

    EXPECT(tag != NULL);
    snprintf(field, sizeof field, "If-None-Match: %.*s\r\n", (int)strcspn(tag + 6, "\r"),
             tag + 6);
    return field;
}

TEST_REAL(compress, files_are_compressed_and_their_ranges_are_not)
{
    struct bh_http_files *files;
    char                  top[] = "/tmp/bulkhead_compress_XXXXXX", path[100], fields[300];
    int                   fd;

    EXPECT(mkdtemp(top) != NULL);
    snprintf(path, sizeof path, "%s/x.txt", top);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    for (int i = 0; i < 100000; i++)
        EXPECT_EQ(
            write(fd, &"The quick brown fox jumps over the lazy dog. "[(i + i / 1000) % 45], 1),
            1);
    close(fd);
    EXPECT_EQ(bh_http_files_new(&(struct bh_http_files_options){ .root = top }, &files), 0);
    f.s = bh_http_server_new(NULL);
    compress_ = bh_http_compress_new(NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_use(f.s, bh_http_compress, compress_);
    bh_http_handle(f.s, "GET /{path...}", bh_http_files, files);
    fixture_start(&f);
    ask_for("GET /x.txt", "gzip");
    EXPECT_HAS(answer, "Content-Encoding: gzip\r\n");
    EXPECT_HAS(answer, "ETag: W/\"");
    EXPECT_HAS(answer, "Accept-Ranges: none\r\n");
    EXPECT(answer_size < 20000);
    expect_text(100000);
    snprintf(fields, sizeof fields, "Accept-Encoding: gzip\r\n%s", its_tag());
    ask("GET /x.txt", fields);
    EXPECT_STARTS(answer, "HTTP/1.1 304 ");
    EXPECT_HAS(answer, "ETag: W/\"");
    ask("GET /x.txt", "Accept-Encoding: gzip\r\nRange: bytes=0-8999\r\n");
    EXPECT_STARTS(answer, "HTTP/1.1 206 ");
    NOT("Content-Encoding");
    EXPECT_HAS(answer, "ETag: \"");
    expect_text(9000);
    ask_for("HEAD /x.txt", "gzip");
    EXPECT_HAS(answer, "Content-Encoding: gzip\r\n");
    NOT("Content-Length");
    stop();
    bh_http_files_free(files);
    unlink(path);
    rmdir(top);
}

TEST_PLAIN(compress, of_nothing_is_freed)
{
    bh_http_compress_free(NULL);
}

TEST_REAL(compress, wrong_options_panic)
{
    EXPECT_PANIC(
        "http: unknown content coding \"deflate\"",
        bh_http_compress_new(&(struct bh_http_compress_options){ .codings = "gzip, deflate" }));
    EXPECT_PANIC("http: compression level 12 is not between 1 and 11",
                 bh_http_compress_new(&(struct bh_http_compress_options){ .br_level = 12 }));
}

/* ---- tags ------------------------------------------------------------------------ */

TEST_REAL(etag, that_the_client_has_makes_a_304)
{
    char both[300];

    start(NULL, true);
    ask("GET /whole", "");
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    ask("GET /whole", its_tag());
    EXPECT_STARTS(answer, "HTTP/1.1 304 ");
    EXPECT_HAS(answer, "ETag: \"");
    NOT("Content-Length");
    EXPECT_STR(body_of(answer), "");
    ask("GET /whole?size=10001", its_tag());
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    expect_text(10001);
    ask_for("GET /whole", "gzip");
    EXPECT_HAS(answer, "ETag: W/\"");
    snprintf(both, sizeof both, "Accept-Encoding: gzip\r\n%s", its_tag());
    ask("GET /whole", both);
    EXPECT_STARTS(answer, "HTTP/1.1 304 ");
    EXPECT_HAS(answer, "ETag: W/\"");
    EXPECT_STR(body_of(answer), "");
    stop();
}

TEST_REAL(etag, differs_for_bodies_that_differ)
{
    static const char *const requests[] = { "size=1",  "size=15", "size=16",
                                            "size=17", "size=0",  "size=32" };
    static char              tags[6][60];
    char                     request[100];

    start(NULL, true);
    for (int i = 0; i < 6; i++) {
        snprintf(request, sizeof request, "GET /whole?%s", requests[i]);
        ask(request, "");
        snprintf(tags[i], sizeof tags[i], "%.40s", strstr(answer, "ETag: "));
        for (int j = 0; j < i; j++)
            EXPECT(strcmp(tags[i], tags[j]) != 0);
        ask(request, "");
        EXPECT_HAS(answer, tags[i]);
    }
    stop();
}

TEST_REAL(etag, is_left_to_the_handler_and_not_made_for_streams)
{
    start(NULL, true);
    ask("GET /whole?set=ETag:\"mine\"", "");
    EXPECT_HAS(answer, "ETag: \"mine\"\r\n");
    EXPECT_EQ(count_of(answer, "ETag"), 1);
    ask("GET /whole?status=404", "");
    NOT("ETag");
    ask("GET /whole?set=Cache-Control:no-store", "");
    NOT("ETag");
    ask("GET /stream?size=100000", "");
    NOT("ETag");
    ask("GET /stream?size=100000&length", "");
    NOT("ETag");
    ask("POST /whole", "Content-Length: 0\r\n");
    NOT("ETag");
    ask("HEAD /whole", "");
    NOT("ETag");
    ask("GET /stream?size=2000", "");
    EXPECT_HAS(answer, "ETag: ");
    ask("GET /stream?size=2000", its_tag());
    EXPECT_STARTS(answer, "HTTP/1.1 304 ");
    stop();
}
