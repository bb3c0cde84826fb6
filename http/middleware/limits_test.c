/* limits_test.c -- limits of size, rate and number. */
#include "http_fixture.h"

#include <errno.h>

#include <bulkhead/go/sync.h>
#include <bulkhead/http/limits.h>

static char            answer[1 << 16];
static struct bh_chan *entered, *leave;

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "hello");
}

static int
echo(struct bh_http_call *c, void *arg)
{
    const char *body;
    ssize_t     n = bh_http_body(c, &body);

    (void)arg;
    return n < 0 ? (int)n : bh_http_reply(c, 200, "%s", body);
}

static int
crash(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    bh_panic("crash");
}

/* ---- size ------------------------------------------------------------------------ */

TEST_REAL(body_limit, counts_instead_of_the_servers)
{
    static struct bh_http_body_limit_options ten = { .size = 10 };
    struct fixture f = { .s = bh_http_server_new(&(struct bh_http_options){ .max_body = 5 }) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_use(f.s, bh_http_body_limit, &ten);
    bh_http_handle(f.s, "POST /", echo, NULL);
    fixture_start(&f);
    talk(&f, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789", answer,
         sizeof answer);
    EXPECT_STR(body_of(answer), "0123456789");
    talk(&f, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n0123456789a", answer,
         sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 413 ");
    EXPECT_HAS(body_of(answer), "at most 10 bytes");
    talk(&f,
         "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
         "b\r\n0123456789a\r\n0\r\n\r\n",
         answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 413 ");
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- rate ------------------------------------------------------------------------ */

static const char *
key_from_query(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_query(c, "key");
}

static void
start_rate(struct fixture *f, struct bh_http_rate *r)
{
    f->s = bh_http_server_new(NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_use(f->s, bh_http_rate_limit, r);
    bh_http_handle(f->s, "GET /", hello, NULL);
    bh_http_handle(f->s, "GET /crash", crash, NULL);
    fixture_start(f);
}

TEST_REAL(rate_limit, refuses_what_exceeds_the_burst_and_says_when_to_come_back)
{
    struct bh_http_rate *r = bh_http_rate_new(&(struct bh_http_rate_options){
        .per_second = 0.01, .burst = 3, .key = key_from_query });
    struct fixture       f;

    start_rate(&f, r);
    for (int i = 2; i >= 0; i--) {
        char field[64];

        talk(&f, i == 1 ? GET("/crash?key=a") : GET("/?key=a"), answer, sizeof answer);
        EXPECT_STARTS(answer, i == 1 ? "HTTP/1.1 500 " : "HTTP/1.1 200 ");
        snprintf(field, sizeof field, "RateLimit-Remaining: %d\r\n", i);
        if (i != 1)
            EXPECT_HAS(answer, field);
    }
    talk(&f, GET("/?key=a"), answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 429 Too Many Requests\r\n");
    EXPECT_HAS(answer, "RateLimit-Limit: 3\r\nRateLimit-Remaining: 0\r\n");
    EXPECT_HAS(answer, "Retry-After: 100\r\n");
    talk(&f, GET("/?key=b"), answer, sizeof answer); /* another's bucket is full */
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    for (int i = 0; i < 10; i++) { /* and who has no key has no limit */
        talk(&f, GET("/"), answer, sizeof answer);
        EXPECT_STARTS(answer, "HTTP/1.1 200 ");
        EXPECT(strstr(answer, "RateLimit") == NULL);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_http_rate_free(r);
}

TEST_REAL(rate_limit, lets_in_again_what_it_is_worth)
{
    struct bh_http_rate *r = bh_http_rate_new(
        &(struct bh_http_rate_options){ .per_second = 200, .burst = 1, .status = 503 });
    struct fixture f;
    int            good = 0, bad = 0;
    int64_t        begun, took;

    start_rate(&f, r); /* by the client's address: it is always the same */
    begun = bh_now();
    while (good < 20) {
        talk(&f, GET("/"), answer, sizeof answer);
        good += starts_with(answer, "HTTP/1.1 200 ");
        bad += starts_with(answer, "HTTP/1.1 503 ");
    }
    took = bh_now() - begun;
    EXPECT(bad > 0);
    EXPECT(took >= 19 * 5 * BH_MILLISECOND);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_http_rate_free(r);
}

TEST_REAL(rate_limit, forgets_the_quietest_key_when_there_are_too_many)
{
    struct bh_http_rate *r = bh_http_rate_new(&(struct bh_http_rate_options){
        .per_second = 0.01, .burst = 1, .key = key_from_query, .max_keys = 32 });
    struct fixture       f;
    char                 request[128];
    int                  refused = 0;

    start_rate(&f, r);
    for (int i = 0; i < 500; i++) {
        snprintf(request, sizeof request, GET("/?key=%d"), i);
        talk(&f, request, answer, sizeof answer);
        EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    }
    for (int i = 0; i < 500; i++) {
        snprintf(request, sizeof request, GET("/?key=%d"), 499 - i);
        talk(&f, request, answer, sizeof answer);
        refused += starts_with(answer, "HTTP/1.1 429 ");
    }
    EXPECT(refused > 0 && refused <= 32);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_http_rate_free(r);
}

TEST_REAL(rate_limit, without_a_rate_is_a_panic)
{
    EXPECT_PANIC("http: a rate limit needs a rate",
                 bh_http_rate_new(&(struct bh_http_rate_options){ 0 }));
}

/* ---- number ---------------------------------------------------------------------- */

static int
hold(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_send(entered, &(char){ 0 });
    bh_recv(leave, NULL);
    if (bh_http_query(c, "crash") != NULL)
        bh_panic("crash");
    return bh_http_reply(c, 200, "%s", c->query);
}

static void
start_number(struct fixture *f, struct bh_http_concurrency *l)
{
    entered = BH_CHAN(char, 0);
    leave = BH_CHAN(char, 0);
    f->s = bh_http_server_new(NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_use(f->s, bh_http_concurrency_limit, l);
    bh_http_handle(f->s, "GET /", hold, NULL);
    fixture_start(f);
}

static void
stop_number(struct fixture *f, struct bh_http_concurrency *l)
{
    EXPECT_EQ(fixture_stop(f), 0);
    bh_http_concurrency_free(l);
    bh_chan_unref(entered);
    bh_chan_unref(leave);
}

static void
wait_numbers(struct bh_http_concurrency *l, unsigned running, unsigned waiting)
{
    unsigned r, w;

    do {
        bh_yield();
        bh_http_concurrency_now(l, &r, &w);
    } while (r != running || w != waiting);
}

static struct bh_conn *
send_get(struct fixture *f, const char *request)
{
    struct bh_conn *c = fixture_dial(f);

    send_text(c, request);
    return c;
}

static const char *
read_from(struct bh_conn *c)
{
    read_reply(c, answer, sizeof answer);
    bh_conn_free(c);
    return answer;
}

TEST_REAL(concurrency, the_queue_is_served_in_order_and_what_does_not_fit_is_refused)
{
    struct bh_http_concurrency *l =
        bh_http_concurrency_new(&(struct bh_http_concurrency_options){
            .limit = 1, .queue = 2, .max_wait = 5 * BH_SECOND, .target = 5 * BH_SECOND });
    struct fixture  f;
    struct bh_conn *c[3];
    const char     *requests[] = { GET("/?0"), GET("/?1&crash"), GET("/?2") };

    start_number(&f, l);
    for (int i = 0; i < 3; i++) {
        c[i] = send_get(&f, requests[i]);
        if (i == 0)
            bh_recv(entered, NULL);
        wait_numbers(l, 1, (unsigned)i);
    }
    read_from(send_get(&f, GET("/?3")));
    EXPECT_STARTS(answer, "HTTP/1.1 503 Service Unavailable\r\n");
    EXPECT_HAS(answer, "Retry-After: 1\r\n");
    for (int i = 0; i < 3; i++) {
        if (i > 0)
            bh_recv(entered, NULL);
        bh_send(leave, &(char){ 0 });
        read_from(c[i]);
        EXPECT_STARTS(answer, i == 1 ? "HTTP/1.1 500 " : "HTTP/1.1 200 ");
        if (i != 1)
            EXPECT_STR(body_of(answer), i == 0 ? "0" : "2");
    }
    wait_numbers(l, 0, 0);
    stop_number(&f, l);
}

TEST_REAL(concurrency, who_waits_too_long_loses_the_place)
{
    struct bh_http_concurrency *l =
        bh_http_concurrency_new(&(struct bh_http_concurrency_options){
            .limit = 1, .max_wait = 20 * BH_MILLISECOND, .target = 5 * BH_SECOND });
    struct fixture  f;
    struct bh_conn *first;

    start_number(&f, l);
    first = send_get(&f, GET("/?0"));
    bh_recv(entered, NULL);
    read_from(send_get(&f, GET("/?1")));
    EXPECT_STARTS(answer, "HTTP/1.1 503 ");
    wait_numbers(l, 1, 0);
    bh_send(leave, &(char){ 0 });
    read_from(first);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    wait_numbers(l, 0, 0);
    stop_number(&f, l);
}

TEST_REAL(concurrency, who_leaves_loses_the_place)
{
    struct bh_http_concurrency *l =
        bh_http_concurrency_new(&(struct bh_http_concurrency_options){
            .limit = 1, .max_wait = 5 * BH_SECOND, .target = 5 * BH_SECOND });
    struct fixture  f;
    struct bh_conn *first, *second;

    start_number(&f, l);
    first = send_get(&f, GET("/?0"));
    bh_recv(entered, NULL);
    second = send_get(&f, GET("/?1"));
    wait_numbers(l, 1, 1);
    bh_conn_free(second);
    wait_numbers(l, 1, 0);
    bh_send(leave, &(char){ 0 });
    read_from(first);
    wait_numbers(l, 0, 0);
    stop_number(&f, l);
}

TEST_REAL(concurrency, of_a_standing_queue_the_newest_is_served_and_the_old_are_refused)
{
    struct bh_http_concurrency *l =
        bh_http_concurrency_new(&(struct bh_http_concurrency_options){
            .limit = 1, .queue = 10, .max_wait = 5 * BH_SECOND, .target = BH_MILLISECOND });
    struct fixture  f;
    struct bh_conn *first, *old[3], *fresh;

    start_number(&f, l);
    first = send_get(&f, GET("/?0"));
    bh_recv(entered, NULL);
    for (unsigned i = 0; i < 3; i++) {
        old[i] = send_get(&f, GET("/?old"));
        wait_numbers(l, 1, i + 1);
    }
    bh_sleep(150 * BH_MILLISECOND); /* longer than a burst */
    bh_send(leave, &(char){ 0 });
    read_from(first);
    for (int i = 0; i < 3; i++) {
        read_from(old[i]);
        EXPECT_STARTS(answer, "HTTP/1.1 503 ");
    }
    wait_numbers(l, 0, 0);
    fresh = send_get(&f, GET("/?fresh"));
    bh_recv(entered, NULL);
    bh_send(leave, &(char){ 0 });
    read_from(fresh);
    EXPECT_STR(body_of(answer), "fresh");
    wait_numbers(l, 0, 0);
    stop_number(&f, l);
}

TEST_REAL(concurrency, without_a_limit_is_a_panic)
{
    EXPECT_PANIC("http: a concurrency limit needs a limit",
                 bh_http_concurrency_new(&(struct bh_http_concurrency_options){ 0 }));
}
