/* content_test.c -- replies with validators and ranges, from bytes and from files. */
#include "http_fixture.h"

#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/http/files.h>

#define DATE    "Sun, 06 Nov 1994 08:49:37 GMT"
#define LATER   "Sun, 06 Nov 1994 08:49:38 GMT"
#define EARLIER "Sun, 06 Nov 1994 08:49:36 GMT"

static char       answer[1 << 16];
static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz";
static int        file;

/* 26 letters, from memory or, with ?file, a file; ?weak, ?bare, ?now, ?empty. */
static int
letters(struct bh_http_call *c, void *arg)
{
    struct bh_http_content content = { .data = alphabet,
                                       .fd = file,
                                       .size = 26,
                                       .type = "text/x-letters",
                                       .etag = "\"v1\"",
                                       .modified = 784111777 };

    (void)arg;
    if (bh_http_query(c, "file") != NULL)
        content.data = NULL;
    if (bh_http_query(c, "weak") != NULL)
        content.etag = "W/\"v1\"";
    if (bh_http_query(c, "bare") != NULL) {
        content.etag = content.type = NULL;
        content.modified = 0;
    }
    if (bh_http_query(c, "bad") != NULL)
        content.etag = "v1";
    if (bh_http_query(c, "now") != NULL)
        content.modified = strtoll(bh_http_query(c, "now"), NULL, 10);
    if (bh_http_query(c, "empty") != NULL)
        content.size = 0;
    if (bh_http_query(c, "long") != NULL)
        content.size = 100;
    return bh_http_serve_content(c, &content);
}

static struct fixture f;

static void
start(void)
{
    char path[] = "/tmp/bulkhead_content_XXXXXX";

    file = mkstemp(path);
    unlink(path);
    EXPECT_EQ(write(file, alphabet, 26), 26);
    f.s = bh_http_server_new(NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /letters", letters, NULL);
    bh_http_handle(f.s, "PUT /letters", letters, NULL);
    fixture_start(&f);
}

static void
stop(void)
{
    EXPECT_EQ(fixture_stop(&f), 0);
    close(file);
}

/* The reply to "METHOD target" with header lines. */
static const char *
ask(const char *request, const char *fields)
{
    char text[4096];

    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n",
             request, fields);
    talk(&f, text, answer, sizeof answer);
    return answer;
}

static int
status(const char *request, const char *fields)
{
    return atoi(ask(request, fields) + strlen("HTTP/1.1 "));
}

TEST_REAL(content, is_whole_with_its_validators)
{
    start();
    EXPECT_STARTS(ask("GET /letters", ""), "HTTP/1.1 200 OK\r\n");
    EXPECT_HAS(answer, "Content-Length: 26\r\n");
    EXPECT_HAS(answer, "Content-Type: text/x-letters\r\n");
    EXPECT_HAS(answer, "ETag: \"v1\"\r\n");
    EXPECT_HAS(answer, "Last-Modified: " DATE "\r\n");
    EXPECT_HAS(answer, "Accept-Ranges: bytes\r\n");
    EXPECT_STR(body_of(answer), alphabet);
    EXPECT_STR(body_of(ask("GET /letters?file", "")), alphabet);
    EXPECT_EQ(status("GET /letters?bare", ""), 200);
    EXPECT_HAS(answer, "application/octet-stream");
    EXPECT(strstr(answer, "ETag") == NULL && strstr(answer, "Last-Modified") == NULL);
    EXPECT_EQ(status("GET /letters?empty&file", ""), 200);
    EXPECT_HAS(answer, "Content-Length: 0\r\n");
    EXPECT_EQ(status("GET /letters?bad", ""), 500);
    stop();
}

TEST_REAL(content, head_says_what_get_would)
{
    start();
    EXPECT_EQ(status("HEAD /letters?file", ""), 200);
    EXPECT_HAS(answer, "Content-Length: 26\r\n");
    EXPECT_STR(body_of(answer), "");
    EXPECT_EQ(status("HEAD /letters", "Range: bytes=0-1\r\n"), 200);
    EXPECT_HAS(answer, "Content-Length: 26\r\n");
    EXPECT_EQ(status("HEAD /letters", "If-None-Match: \"v1\"\r\n"), 304);
    stop();
}

TEST_REAL(content, that_the_client_has_is_304)
{
    start();
    EXPECT_EQ(status("GET /letters", "If-None-Match: \"v1\"\r\n"), 304);
    EXPECT_HAS(answer, "ETag: \"v1\"\r\n");
    EXPECT(strstr(answer, "Content-Length") == NULL);
    EXPECT_STR(body_of(answer), "");
    EXPECT_EQ(status("GET /letters", "If-None-Match: \"v0\"\r\nIf-None-Match: W/\"v1\"\r\n"),
              304);
    EXPECT_EQ(status("GET /letters", "If-None-Match: *\r\n"), 304);
    EXPECT_EQ(status("GET /letters?weak", "If-None-Match: \"v1\"\r\n"), 304);
    EXPECT_EQ(status("GET /letters", "If-Modified-Since: " DATE "\r\n"), 304);
    EXPECT_EQ(status("GET /letters", "If-Modified-Since: " LATER "\r\n"), 304);
    EXPECT_EQ(status("GET /letters", "Range: bytes=0-1\r\nIf-None-Match: \"v1\"\r\n"), 304);
    stop();
}

TEST_REAL(content, that_the_client_has_not_is_sent)
{
    start();
    EXPECT_EQ(status("GET /letters", "If-None-Match: \"v2\"\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "If-None-Match: v1\r\n"), 200);
    EXPECT_EQ(status("GET /letters?bare", "If-None-Match: \"v1\"\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "If-Modified-Since: " EARLIER "\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "If-Modified-Since: yesterday\r\n"), 200);
    EXPECT_EQ(status("GET /letters?bare", "If-Modified-Since: " LATER "\r\n"), 200);
    EXPECT_EQ(status("GET /letters",
                     "If-Modified-Since: " DATE "\r\nIf-Modified-Since: " DATE "\r\n"),
              200);
    /* A tag overrules the date. */
    EXPECT_EQ(
        status("GET /letters", "If-None-Match: \"v2\"\r\nIf-Modified-Since: " LATER "\r\n"),
        200);
    stop();
}

TEST_REAL(content, precondition_that_fails_is_412)
{
    start();
    EXPECT_EQ(status("GET /letters", "If-Match: \"v2\"\r\n"), 412);
    EXPECT_EQ(status("GET /letters?weak", "If-Match: W/\"v1\"\r\n"), 412);
    EXPECT_EQ(status("GET /letters?bare", "If-Match: \"v1\"\r\n"), 412);
    EXPECT_EQ(status("GET /letters", "If-Match:\r\n"), 412);
    EXPECT_EQ(status("GET /letters", "If-Unmodified-Since: " EARLIER "\r\n"), 412);
    EXPECT_EQ(status("PUT /letters", "Content-Length: 0\r\nIf-None-Match: *\r\n"), 412);
    EXPECT_EQ(status("GET /letters", "If-Match: \"v2\"\r\nIf-None-Match: \"v1\"\r\n"), 412);
    stop();
}

TEST_REAL(content, precondition_that_holds_lets_the_request_pass)
{
    start();
    EXPECT_EQ(status("GET /letters", "If-Match: \"v0\", \"v1\"\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "If-Match: *\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "If-Unmodified-Since: " DATE "\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "If-Unmodified-Since: soon\r\n"), 200);
    /* A tag overrules the date. */
    EXPECT_EQ(
        status("GET /letters", "If-Match: \"v1\"\r\nIf-Unmodified-Since: " EARLIER "\r\n"),
        200);
    EXPECT_EQ(status("GET /letters", "If-Match: \"v1\"\r\nIf-None-Match: \"v1\"\r\n"), 304);
    stop();
}

TEST_REAL(content, range_is_206)
{
    start();
    EXPECT_EQ(status("GET /letters", "Range: bytes=1-3\r\n"), 206);
    EXPECT_HAS(answer, "Content-Range: bytes 1-3/26\r\n");
    EXPECT_HAS(answer, "Content-Length: 3\r\n");
    EXPECT_STR(body_of(answer), "bcd");
    EXPECT_STR(body_of(ask("GET /letters?file", "Range: bytes=-2\r\n")), "yz");
    EXPECT_STR(body_of(ask("GET /letters?file", "Range: bytes=24-,100-\r\n")), "yz");
    EXPECT_EQ(status("GET /letters", "Range: bytes=26-\r\n"), 416);
    EXPECT_HAS(answer, "Content-Range: bytes */26\r\n");
    EXPECT_EQ(status("GET /letters?empty", "Range: bytes=0-\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "Range: bytes=3-1\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "Range: bytes=1-1\r\nRange: bytes=2-2\r\n"), 200);
    EXPECT_EQ(status("PUT /letters", "Content-Length: 0\r\nRange: bytes=1-1\r\n"), 200);
    stop();
}

TEST_REAL(content, range_counts_only_if_if_range_holds)
{
    char now[64];

    start();
    EXPECT_EQ(status("GET /letters", "Range: bytes=1-3\r\nIf-Range: \"v1\"\r\n"), 206);
    EXPECT_EQ(status("GET /letters", "Range: bytes=1-3\r\nIf-Range: " DATE "\r\n"), 206);
    EXPECT_EQ(status("GET /letters", "Range: bytes=1-3\r\nIf-Range: \"v2\"\r\n"), 200);
    EXPECT_EQ(status("GET /letters?weak", "Range: bytes=1-3\r\nIf-Range: W/\"v1\"\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "Range: bytes=1-3\r\nIf-Range: " LATER "\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "Range: bytes=1-3\r\nIf-Range: v1\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "Range: bytes=1-3\r\nIf-Range: \"v1\", \"v2\"\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "Range: bytes=99-\r\nIf-Range: \"v2\"\r\n"), 200);
    /* A date that may not be over yet says nothing. */
    snprintf(now, sizeof now, "GET /letters?now=%lld", (long long)time(NULL) + 60);
    ask(now, "");
    EXPECT_HAS(answer, "Last-Modified: ");
    {
        char fields[128];

        snprintf(fields, sizeof fields, "Range: bytes=1-3\r\nIf-Range: %.29s\r\n",
                 strstr(answer, "Last-Modified: ") + 15);
        EXPECT_EQ(status(now, fields), 200);
    }
    stop();
}

static void
expect_parts(const char *target)
{
    char        boundary[64], end[80];
    const char *type;
    size_t      announced;

    EXPECT_EQ(status(target, "Range: bytes=0-1, 24-, 5-5\r\n"), 206);
    type = strstr(answer, "Content-Type: multipart/byteranges; boundary=");
    EXPECT(type != NULL);
    snprintf(boundary, sizeof boundary, "%.32s", strchr(type, '=') + 1);
    EXPECT(strstr(answer, "\r\nContent-Range: bytes 0-1/26\r\n\r\nab\r\n--") != NULL);
    EXPECT(strstr(answer, "\r\nContent-Range: bytes 24-25/26\r\n\r\nyz\r\n--") != NULL);
    EXPECT(strstr(answer, "\r\nContent-Range: bytes 5-5/26\r\n\r\nf\r\n--") != NULL);
    EXPECT_EQ(count_of(body_of(answer), "Content-Type: text/x-letters\r\n"), 3);
    EXPECT_EQ(count_of(body_of(answer), boundary), 4);
    snprintf(end, sizeof end, "\r\n--%s--\r\n", boundary);
    EXPECT_STR(strstr(answer, end), end);
    announced = strtoul(strstr(answer, "Content-Length: ") + 16, NULL, 10);
    EXPECT_EQ(strlen(body_of(answer)), announced);
}

TEST_REAL(content, several_ranges_are_parts)
{
    start();
    expect_parts("GET /letters");
    expect_parts("GET /letters?file");
    EXPECT_EQ(status("GET /letters", "Range: bytes=0-,0-,0-\r\n"), 200);
    EXPECT_EQ(status("GET /letters", "Range: bytes=99-,100-\r\n"), 416);
    stop();
}

TEST_REAL(content, file_that_is_shorter_breaks_the_transfer)
{
    start();
    EXPECT_EQ(status("GET /letters?file&long", ""), 200);
    EXPECT_HAS(answer, "Content-Length: 100\r\n");
    EXPECT_STR(body_of(answer), alphabet);
    EXPECT_EQ(status("GET /letters?file&long", "Range: bytes=20-29\r\n"), 206);
    EXPECT_STR(body_of(answer), "uvwxyz");
    EXPECT_EQ(status("GET /letters?file&long", "Range: bytes=20-29,0-1\r\n"), 206);
    EXPECT(strstr(answer, "--\r\n") == NULL);
    stop();
}
