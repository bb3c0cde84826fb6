/* spec_l_test.c -- what becomes of a failing handler, case by case as known from echo and chi. */
#include "http_spec.h"

#include <errno.h>

#include "ht.h"

TEST_PLAIN(spec_l, every_row_of_the_table_has_its_test)
{
    expect_table('L', __FILE__);
}

/* Half upgraded: `protocol` is accepted, then it fails. */
static int
upgrades(struct bh_http_call *c, void *arg)
{
    (void)arg;
    if (ht_upgrade(c->s, "test") < 0)
        return -EIO;
    (void)ht_raw_write(c->s, "raw", 3);
    bh_panic("after the upgrade");
}

static void
start(struct fixture *f)
{
    spec_server(f);
    bh_http_handle(f->s, "GET /fine", fine, NULL);
    bh_http_handle(f->s, "GET /panic", panics, NULL);
    bh_http_handle(f->s, "GET /breaks", breaks, NULL);
    bh_http_handle(f->s, "GET /abort", aborts, NULL);
    bh_http_handle(f->s, "GET /up", upgrades, NULL);
    fixture_start(f);
}

TEST_REAL(L01, who_asks_for_json_gets_the_500_as_json)
{
    struct fixture f;

    start(&f);
    struct bh_conn *c = fixture_dial(&f);
    EXPECT_STARTS(
        ask_on(c, "GET /panic HTTP/1.1\r\nHost: a\r\nAccept: application/json\r\n\r\n"),
        "HTTP/1.1 500 ");
    EXPECT_HAS(spec_answer, "\r\nContent-Type: application/json\r\n");
    EXPECT_STARTS(body_of(spec_answer), "{");
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(L02, an_abort_is_not_made_a_500)
{
    struct fixture f;

    start(&f);
    EXPECT_STR(ask_to_end(&f, GET("/abort")), "");
    EXPECT_EQ(spec_stats(&f).panics, 0);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(L03, a_reply_that_is_on_its_way_is_broken_off)
{
    struct fixture f;

    start(&f);
    EXPECT_STR(body_of(ask_to_end(&f, GET("/breaks"))), "4\r\nhalf\r\n");
    expect_alive(&f);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(L04, a_panic_is_a_500_that_says_so)
{
    struct fixture f;

    start(&f);
    expect_500_and_alive(&f, GET("/panic"));
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(L05, an_abort_is_no_empty_200)
{
    struct fixture f;

    start(&f);
    EXPECT_STR(ask_to_end(&f, GET("/abort")), "");
    EXPECT_EQ(spec_stats(&f).aborted, 1);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(L06, of_half_a_body_the_client_can_tell_that_it_is_half)
{
    struct fixture f;

    start(&f);
    EXPECT_STR(body_of(ask_to_end(&f, GET("/breaks?length"))), "half");
    EXPECT_HAS(spec_answer, "\r\nContent-Length: 100\r\n");
    EXPECT_STR(spec_report(&f, 1).outcome, "aborted");
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(L07, an_upgraded_connection_gets_no_reply_however_the_upgrade_was_asked_for)
{
    static const char *const fields[] = {
        "Connection: Upgrade\r\n",
        "Connection: upgrade\r\n",
        "connection: keep-alive, Upgrade\r\n",
        "Connection: UPGRADE\r\nConnection: x\r\n",
        "", /* none at all: it is the state that counts */
    };
    static char    request[256];
    struct fixture f;

    start(&f);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        (void)snprintf(request, sizeof request,
                       "GET /up HTTP/1.1\r\nHost: a\r\nUpgrade: test\r\n%s\r\n", fields[i]);
        EXPECT_STARTS(ask_to_end(&f, request), "HTTP/1.1 101 ");
        EXPECT_STR(body_of(spec_answer), "raw");
        EXPECT_STR(spec_report(&f, i + 1).text, "after the upgrade");
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}
