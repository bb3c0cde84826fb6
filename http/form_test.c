/* form_test.c -- queries, forms, and uploads in several parts. */
#include "http_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/http/form.h>

static char answer[1 << 20], request[1 << 20];

/* ---- pairs ----------------------------------------------------------------------- */

static int
list_query(struct bh_http_call *c, void *arg)
{
    const char *name, *value;

    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    for (unsigned i = 0; bh_http_query_at(c, i, &name, &value); i++)
        bh_http_print(c, "%s=%s;", name, value);
    return 0;
}

static int
list_form(struct bh_http_call *c, void *arg)
{
    const char *name, *value;
    int         n = bh_http_parse_form(c);

    (void)arg;
    if (n < 0)
        return n;
    EXPECT_EQ(bh_http_parse_form(c), n); /* again: the same */
    bh_http_start(c, 200, "text/plain", -1);
    bh_http_print(c, "%d:%s:", n, bh_http_form(c, "a") != NULL ? bh_http_form(c, "a") : "-");
    for (unsigned i = 0; bh_http_form_at(c, i, &name, &value); i++)
        bh_http_print(c, "%s=%s;", name, value);
    return 0;
}

static const char *
post(struct fixture *f, const char *path, const char *type, const char *body, size_t size)
{
    int             n = snprintf(request, sizeof request,
                                 "POST %s HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: %s\r\n"
                                             "Content-Length: %zu\r\n\r\n",
                                 path, type, size);
    struct bh_conn *c = fixture_dial(f);

    memcpy(request + n, body, size);
    EXPECT_EQ(bh_write(c, request, (size_t)n + size), (size_t)n + size);
    (void)read_to_end(c, answer, sizeof answer);
    bh_conn_free(c);
    return body_of(answer);
}

#define FORM "application/x-www-form-urlencoded"

TEST_REAL(form, pairs_of_a_query_come_in_order_without_the_malformed)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /", list_query, NULL);
    fixture_start(&f);
    talk(&f, "GET /?a=1&&b=%zz&c&%61=x+y%26&=v HTTP/1.1\r\nHost: a\r\n\r\n", answer,
         sizeof answer);
    EXPECT_STR(body_of(answer), "a=1;c=;a=x y&;=v;");
    talk(&f, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer, sizeof answer);
    EXPECT_STR(body_of(answer), "");
    EXPECT_EQ(fixture_stop(&f), 0);
}

static int
ask_query(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%s;%s", bh_http_query(c, "a+b"), bh_http_query(c, ""));
}

/* "a+b" stands for "a b", and nothing between two '&' is no pair. */
TEST_REAL(form, a_name_asked_for_is_the_unescaped_one)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /", ask_query, NULL);
    fixture_start(&f);
    talk(&f, "GET /?a+b=1&&a%2bb=2&=3 HTTP/1.1\r\nHost: a\r\n\r\n", answer, sizeof answer);
    EXPECT_STR(body_of(answer), "2;3");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(form, fields_are_unescaped_and_the_first_counts)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "POST /", list_form, NULL);
    fixture_start(&f);
    EXPECT_STR(post(&f, "/", FORM, "a=1+2&b=%C3%A9&a=3", 18), "3:1 2:a=1 2;b=\303\251;a=3;");
    EXPECT_STR(post(&f, "/", FORM "; charset=utf-8", "", 0), "0:-:");
    EXPECT_STR(post(&f, "/", "APPLICATION/x-www-form-urlencoded", "x", 1), "1:-:x=;");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(form, what_no_browser_sends_is_refused)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };
    static char    many[4000];

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "POST /", list_form, NULL);
    fixture_start(&f);
    EXPECT_HAS(post(&f, "/", FORM, "a=%zz", 5), "400 Bad Request: malformed escape in a form");
    EXPECT_HAS(post(&f, "/", FORM, "a=%00", 5), "400 ");
    EXPECT_HAS(post(&f, "/", FORM, "a\0b", 3), "400 ");
    EXPECT_HAS(post(&f, "/", "text/plain", "a=1", 3), "415 ");
    EXPECT_HAS(post(&f, "/", FORM "x", "a=1", 3), "415 ");
    memset(many, '&', sizeof many);
    EXPECT_HAS(post(&f, "/", FORM, many, sizeof many), "400 Bad Request: too many fields");
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- several parts --------------------------------------------------------------- */

static char directory[64] = "/tmp/bulkhead_form_XXXXXX";

/* Says what came: name, file name, type, size of each part; saves files if asked to. */
static int
describe(struct bh_http_call *c, void *arg)
{
    const struct bh_multipart_options o = { .max_size = 600000, .max_parts = 5 };
    struct bh_multipart              *m;
    int                               rc = bh_http_multipart(c, &o, &m);

    (void)arg;
    if (rc < 0)
        return rc;
    bh_http_start(c, 200, "text/plain", -1);
    while ((rc = bh_multipart_next(m)) > 0) {
        const struct bh_multipart_part *p = bh_multipart_part(m);
        const char                     *text = "";
        struct bh_http_upload           u = { -1, 0 };
        struct stat                     st;

        if (bh_http_query(c, "skip") != NULL)
            continue;
        if (p->filename != NULL && bh_http_query(c, "save") != NULL) {
            char path[128];

            rc = bh_multipart_save(m, directory, 100000, &u);
            if (rc < 0)
                break;
            EXPECT_EQ(fstat(u.fd, &st), 0);
            EXPECT_EQ(st.st_size, u.size);
            snprintf(path, sizeof path, "%s/linked", directory);
            EXPECT_EQ(bh_http_upload_link(&u, path), 0);
            EXPECT_EQ(bh_http_upload_link(&u, path), -EEXIST);
            unlink(path);
        } else {
            ssize_t n = bh_multipart_text(m, 200000, &text);

            if (n < 0) {
                rc = (int)n;
                break;
            }
            u.size = n;
        }
        bh_http_print(c, "[%s|%s|%s|%ld|%.8s]", p->name,
                      p->filename != NULL ? p->filename : "-", p->type, (long)u.size, text);
    }
    if (rc < 0)
        bh_http_abort(c);
    EXPECT_EQ(bh_multipart_next(m), 0);
    return 0;
}

/* The same, but errors are the reply. */
static int
strict(struct bh_http_call *c, void *arg)
{
    const struct bh_multipart_options o = { .max_size = 600000, .max_parts = 5 };
    struct bh_multipart              *m;
    const char                       *text;
    char                              one;
    ssize_t                           n;
    int                               rc = bh_http_multipart(c, &o, &m), count = 0;

    (void)arg;
    while (rc >= 0 && (rc = bh_multipart_next(m)) > 0) {
        count++;
        if (bh_http_query(c, "text") != NULL)
            n = bh_multipart_text(m, 10, &text);
        else
            while ((n = bh_multipart_read(m, &one, 1)) > 0)
                continue;
        if (n < 0)
            return (int)n;
    }
    return rc < 0 ? rc : bh_http_reply(c, 200, "%d parts", count);
}

static void
start(struct fixture *f)
{
    f->s = bh_http_server_new(NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "POST /describe", describe, NULL);
    bh_http_handle(f->s, "POST /strict", strict, NULL);
    fixture_start(f);
}

#define TYPE "multipart/form-data; boundary=XX"
#define PART(disposition, text)                                                                \
    "--XX\r\nContent-Disposition: form-data; " disposition "\r\n\r\n" text "\r\n"

TEST_REAL(multipart, parts_come_with_name_filename_type_and_data)
{
    static const char body[] = "preamble\r\n" PART("name=a", "one")
        PART("name=\"b \\\"q\\\"\"", "") "--XX  \r\n"
                                         "content-type: image/png\r\nX-Other: 1\r\n"
                                         "Content-Disposition: form-data; name=\"f\"; "
                                         "filename=\"C:\\\\dir\\\\..\\\\p.png\"\r\n\r\n"
                                         "\r\n--X\r\n--XY\r\n\r\n--XX--\r\nepilogue";
    struct fixture f;

    start(&f);
    EXPECT_STR(
        post(&f, "/describe", TYPE, body, sizeof body - 1),
        "[a|-|text/plain|3|one][b \"q\"|-|text/plain|0|][f|p.png|image/png|13|\r\n--X\r\n-]");
    EXPECT_STR(post(&f, "/describe?skip", TYPE, body, sizeof body - 1), "");
    EXPECT_STR(post(&f, "/describe", "Multipart/Form-Data;boundary=\"XX\"; x=y", "--XX--", 6),
               "");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(multipart, split_at_every_byte_it_is_the_same)
{
    static const char body[] =
        PART("name=a", "1\r\n--X") PART("name=b; filename=\"f\"", "\r\n") "--XX--";
    struct fixture f;
    int            n;

    start(&f);
    n = snprintf(
        request, sizeof request,
        "POST /describe HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: " TYPE
        "\r\nContent-Length: %zu\r\n\r\n%s",
        sizeof body - 1, body);
    for (size_t at = (size_t)n - sizeof body + 1; at < (size_t)n; at++) {
        struct bh_conn *c = fixture_dial(&f);

        EXPECT_EQ(bh_write(c, request, at), at);
        bh_yield();
        EXPECT(bh_write(c, request + at, (size_t)n - at) > 0);
        read_to_end(c, answer, sizeof answer);
        EXPECT_STR(body_of(answer), "[a|-|text/plain|6|1\r\n--X][b|f|text/plain|2|\r\n]");
        bh_conn_free(c);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(multipart, a_large_part_streams_to_a_file_that_leaves_nothing_behind)
{
    static char    body[120000];
    struct fixture f;
    DIR           *d;
    int            n, files = 0;

    EXPECT(mkdtemp(directory) != NULL);
    start(&f);
    n = snprintf(body, sizeof body, PART("name=f; filename=x", ""));
    n -= 2;
    memset(body + n, '-', 90000);
    n += 90000;
    n += snprintf(body + n, sizeof body - (size_t)n, "\r\n--XX--");
    EXPECT_STR(post(&f, "/describe?save", TYPE, body, (size_t)n), "[f|x|text/plain|90000|]");
    EXPECT_HAS(post(&f, "/describe", TYPE, body, (size_t)n), "[f|x|text/plain|90000|--------]");
    /* too large for the file, or for the whole */
    memset(body + 90, '-', 100100);
    snprintf(body + 90 + 100100, 20, "\r\n--XX--");
    post(&f, "/describe?save", TYPE, body, strlen(body));
    EXPECT_STR(answer, "");
    d = opendir(directory);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        files += e->d_name[0] != '.';
    closedir(d);
    EXPECT_EQ(files, 0);
    rmdir(directory);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(multipart, what_is_malformed_or_over_a_limit_is_refused_with_the_reason)
{
    static const struct {
        const char *query, *type, *body, *reply;
    } rows[] = {
        { "", "text/plain", "", "415 " },
        { "", "multipart/form-data", "", "400 Bad Request: multipart without a boundary" },
        { "", "multipart/form-data; boundary=", "", "400 Bad Request: bad boundary" },
        { "", "multipart/form-data; boundary=\"a ", "", "400 " },
        { "", "multipart/form-data; boundary=a; boundary=b", "", "400 " },
        { "", TYPE, "", "400 Bad Request: multipart body without its end" },
        { "", TYPE, "--XX", "400 Bad Request: multipart body without its end" },
        { "", TYPE, "--XX\r\n", "400 Bad Request: multipart body without its end" },
        { "", TYPE, PART("name=a", "x"), "400 Bad Request: multipart body without its end" },
        { "", TYPE, "--XXjunk\r\n", "400 Bad Request: malformed delimiter" },
        { "", TYPE, "--XX\r\n\r\n\r\n--XX--",
          "400 Bad Request: part of a form without a name" },
        { "", TYPE, PART("filename=a", "") "--XX--",
          "400 Bad Request: part of a form without" },
        { "", TYPE, PART("name=\"a", "") "--XX--", "400 " },
        { "", TYPE, PART("name=a; filename=\"", "") "--XX--", "400 " },
        { "", TYPE, "--XX\r\nno colon\r\n\r\n\r\n--XX--", "400 Bad Request: malformed field" },
        { "", TYPE, "--XX\r\nContent-Disposition: attachment; name=a\r\n\r\n\r\n--XX--",
          "400 " },
        { "?text", TYPE, PART("name=a", "0123456789a") "--XX--",
          "413 Content Too Large: field" },
        { "?text", TYPE, PART("name=a", "0123456789") "--XX--", "1 parts" },
        { "", TYPE,
          PART("name=a", "") PART("name=a", "") PART("name=a", "") PART("name=a", "")
              PART("name=a", "") PART("name=a", "") "--XX--",
          "413 Content Too Large: too many parts" },
    };
    static char    large[700000];
    struct fixture f;

    start(&f);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        char path[64];

        snprintf(path, sizeof path, "/strict%s", rows[i].query);
        post(&f, path, rows[i].type, rows[i].body, strlen(rows[i].body));
        if (!starts_with(body_of(answer), rows[i].reply))
            test_failed(__FILE__, __LINE__, "row %zu: \"%s\", not \"%s\"", i, body_of(answer),
                        rows[i].reply);
    }
    memset(large, 'x', sizeof large);
    memcpy(large, "--XX\r\nContent-Type: ", 20);
    EXPECT_HAS(post(&f, "/strict", TYPE, large, 50000),
               "400 Bad Request: fields of a part too large");
    EXPECT_HAS(post(&f, "/strict", TYPE, large, sizeof large), "413 ");
    EXPECT_EQ(fixture_stop(&f), 0);
}
