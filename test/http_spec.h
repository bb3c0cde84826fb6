#ifndef BULKHEAD_TEST_HTTP_SPEC_H
#define BULKHEAD_TEST_HTTP_SPEC_H

/*
 * http_spec.h -- for the cases of docs/http-conformance.md: what net/http, gin, echo and chi do when
 * a handler fails, and what we do.  A test is called after its row: TEST_REAL(J01, sentence).
 */

#include "http_fixture.h"

#include <bulkhead/go/sync.h>

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"
#define ARG(text) ((void *)(uintptr_t)(text))

static char spec_answer[1 << 16];

/* ---- handlers ------------------------------------------------------------------- */

FIXTURE int
fine(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "fine");
}

FIXTURE int
panics(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    bh_panic("handler failed");
}

FIXTURE int
panics_nil(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    bh_panic_value(NULL, NULL);
}

FIXTURE int
exits(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    bh_goexit();
}

FIXTURE int
aborts(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_abort(c);
}

/* Half of a body, unless ?kept flushed; of a length if ?length; then ?abort or a panic. */
FIXTURE int
breaks(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "Cache-Control", "max-age=60");
    bh_http_start(c, 200, "text/plain", bh_http_query(c, "length") != NULL ? 100 : -1);
    bh_http_print(c, "half");
    if (bh_http_query(c, "kept") == NULL)
        bh_http_flush(c);
    if (bh_http_query(c, "abort") != NULL)
        bh_http_abort(c);
    bh_panic("half way");
}

/* ---- a server and a client ---------------------------------------------------------- */

/* With bh_http_recover; the test adds what it is about, and starts it. */
FIXTURE void
spec_server(struct fixture *f)
{
    f->s = bh_http_server_new(NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
}

FIXTURE struct bh_http_stats
spec_stats(struct fixture *f)
{
    struct bh_http_stats stats;

    bh_http_stats(f->s, &stats);
    return stats;
}

/* The report of the n-th panic, once it is there. */
FIXTURE struct bh_http_panic
spec_report(struct fixture *f, uint64_t n)
{
    struct bh_http_panic report;

    while (bh_http_panics(f->s, &report, 1) == 0 || report.number < n)
        bh_yield();
    EXPECT_EQ(report.number, n);
    return report;
}

/* Ask on a connection that stays open.  Returns: the reply. */
FIXTURE const char *
ask_on(struct bh_conn *c, const char *request)
{
    send_text(c, request);
    read_reply(c, spec_answer, sizeof spec_answer);
    return spec_answer;
}

/* A request on a connection that must end with it.  Returns: all that came. */
FIXTURE const char *
ask_to_end(struct fixture *f, const char *request)
{
    struct bh_conn *c = fixture_dial(f);

    send_text(c, request);
    (void)read_to_end(c, spec_answer, sizeof spec_answer);
    bh_conn_free(c);
    return spec_answer;
}

/* A panic is a 500 on a connection that goes on. */
FIXTURE void
expect_500_and_alive(struct fixture *f, const char *request)
{
    struct bh_conn *c = fixture_dial(f);

    EXPECT_STARTS(ask_on(c, request), "HTTP/1.1 500 ");
    EXPECT_STR(body_of(ask_on(c, GET("/fine"))), "fine");
    bh_conn_free(c);
}

FIXTURE void
expect_alive(struct fixture *f)
{
    EXPECT_STR(
        body_of(ask_to_end(f, "GET /fine HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")),
        "fine");
}

/* ---- the table ------------------------------------------------------------------------- */

FIXTURE char *
read_text(const char *path)
{
    static char text[2][1 << 17];
    static int  at;
    char       *to = text[at++ % 2];
    FILE       *file = fopen(path, "r");
    size_t      n;

    if (file == NULL)
        test_failed(__FILE__, __LINE__, "no %s: tests run from the top folder", path);
    n = fread(to, 1, sizeof text[0] - 1, file);
    fclose(file);
    EXPECT(n < sizeof text[0] - 1);
    to[n] = '\0';
    return to;
}

/* Every "| J01 |" of the table has a test, and every test a row. */
FIXTURE void
expect_table(char letter, const char *source)
{
    const char *table = read_text("docs/http-conformance.md"), *tests = read_text(source);
    int         rows = 0;

    for (int i = 0; i < 100; i++) {
        char row[16], test[16];
        bool has_row, has_test;

        snprintf(row, sizeof row, "\n| %c%02d |", letter, i);
        snprintf(test, sizeof test, "(%c%02d, ", letter, i);
        has_row = strstr(table, row) != NULL;
        has_test = strstr(tests, test) != NULL;
        if (has_row != has_test)
            test_failed(__FILE__, __LINE__, "%c%02d has %s", letter, i,
                        has_row ? "a row but no test" : "a test but no row");
        rows += has_row;
    }
    EXPECT(rows >= 7);
}

#endif
