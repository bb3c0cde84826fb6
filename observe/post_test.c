#include "post.h"

#include <errno.h>
#include <time.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/own.h>

#include "collector_fixture.h"
#include "test.h"

static int64_t
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

struct fixture {
    struct collector      collector;
    struct ob_post_target target;
    struct ob_post        post;
    struct ob_post_answer answer;
};

static void
close_fixture(void *arg)
{
    struct fixture *f = arg;

    ob_post_close(&f->post);
    ob_post_target_fini(&f->target);
    collector_stop(&f->collector);
}

static void
open_fixture(struct fixture *f, const char *headers)
{
    collector_start(&f->collector);
    EXPECT_EQ(
        ob_post_target_init(&f->target, &(struct ob_post_options){ .url = f->collector.url,
                                                                   .headers = headers }),
        0);
    ob_post_init(&f->post, -1);
}

static int
send_it(struct fixture *f, int ms)
{
    return ob_post_send(&f->post, &f->target, NULL, "body", 4, now() + (int64_t)ms * 1000000,
                        &f->answer);
}

TEST_REAL(post, an_answer_leaves_the_connection_for_the_next)
{
    static struct fixture f;

    open_fixture(&f, NULL);
    BH_DEFER(close_fixture, &f);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(send_it(&f, 5000), 0);
        EXPECT_EQ(f.answer.status, 200);
    }
    EXPECT_EQ(f.collector.requests, 3);
    EXPECT_EQ(f.collector.connections, 1);
    EXPECT_EQ(f.collector.body_size, 4);
}

TEST_REAL(post, bodies_in_chunks_and_by_length_are_kept)
{
    static struct fixture f;

    open_fixture(&f, NULL);
    BH_DEFER(close_fixture, &f);
    f.collector.mode = COLLECTOR_CHUNKED;
    for (int i = 0; i < 2; i++) {
        EXPECT_EQ(send_it(&f, 5000), 0);
        EXPECT_EQ(f.answer.length, 4);
        EXPECT(memcmp(f.answer.body, "\x0a\x02\x08\x01", 4) == 0);
    }
    f.collector.mode = COLLECTOR_UNAVAILABLE;
    EXPECT_EQ(send_it(&f, 5000), 0);
    EXPECT_EQ(f.answer.status, 503);
    EXPECT_EQ(f.answer.length, 2);
    f.collector.mode = COLLECTOR_LATER;
    EXPECT_EQ(send_it(&f, 5000), 0);
    EXPECT_EQ(f.answer.retry_after, 1000000000);
    EXPECT_EQ(f.collector.connections, 1);
}

TEST_REAL(post, a_connection_closed_meanwhile_is_replaced)
{
    static struct fixture f;

    open_fixture(&f, NULL);
    BH_DEFER(close_fixture, &f);
    f.collector.mode = COLLECTOR_CLOSES;
    EXPECT_EQ(send_it(&f, 5000), 0);
    EXPECT(f.post.fd < 0); /* it said so */
    f.collector.mode = COLLECTOR_OK;
    EXPECT_EQ(send_it(&f, 5000), 0);
    shutdown(f.post.fd, SHUT_RDWR); /* as if it had gone without a word */
    EXPECT_EQ(send_it(&f, 5000), 0);
    EXPECT_EQ(f.collector.connections, 3);
}

TEST_REAL(post, rude_servers_are_errors)
{
    static struct fixture f;

    open_fixture(&f, NULL);
    BH_DEFER(close_fixture, &f);
    f.collector.mode = COLLECTOR_EMPTY;
    EXPECT_EQ(send_it(&f, 5000), -ENODATA);
    f.collector.mode = COLLECTOR_NOISE;
    EXPECT_EQ(send_it(&f, 5000), -EBADMSG);
    EXPECT(f.post.fd < 0);
}

TEST_REAL(post, silence_and_drips_end_at_the_deadline)
{
    static struct fixture f;

    open_fixture(&f, NULL);
    BH_DEFER(close_fixture, &f);
    static const int modes[] = { COLLECTOR_HANGS, COLLECTOR_DRIPS };
    for (int i = 0; i < 2; i++) {
        f.collector.mode = modes[i];
        int64_t begin = now();
        EXPECT_EQ(send_it(&f, 200), -ETIMEDOUT);
        EXPECT(now() - begin >= 200000000);
        EXPECT(now() - begin < 2000000000);
    }
}

TEST_REAL(post, a_port_nobody_listens_on_refuses)
{
    static struct fixture f;

    open_fixture(&f, NULL);
    BH_DEFER(close_fixture, &f);
    shutdown(f.collector.listener, SHUT_RDWR); /* no longer listens */
    EXPECT_EQ(send_it(&f, 5000), -ECONNREFUSED);
}

TEST_REAL(post, cancel_ends_a_wait_at_once)
{
    static struct fixture f;
    int                   cancel = eventfd(1, EFD_CLOEXEC);

    open_fixture(&f, NULL);
    BH_DEFER(close_fixture, &f);
    f.collector.mode = COLLECTOR_HANGS;
    ob_post_init(&f.post, cancel);
    EXPECT_EQ(send_it(&f, 60000), -ECANCELED);
    close(cancel);
}

TEST_REAL(post, headers_are_decoded_and_sent)
{
    static struct fixture f;

    open_fixture(&f, "api-key=a%20b%2Cc, x-tenant = blue ,");
    BH_DEFER(close_fixture, &f);
    EXPECT_EQ(send_it(&f, 5000), 0);
    EXPECT(strstr(f.collector.head, "POST / HTTP/1.1\r\n") == f.collector.head);
    EXPECT(strstr(f.collector.head, "\r\napi-key: a b,c\r\n") != NULL);
    EXPECT(strstr(f.collector.head, "\r\nx-tenant: blue\r\n") != NULL);
    EXPECT(strstr(f.collector.head, "\r\nContent-Type: application/x-protobuf\r\n") != NULL);
}

TEST_PLAIN(post, headers_that_would_break_the_request_are_refused)
{
    static const char *const bad[] = { "no value",         "=x",           "a b=c",
                                       "x=a%0d%0aEvil:1",  "x=%zz",        "x=%4",
                                       "Content-Length=5", "host=example", "x=a\nb" };

    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct ob_post_target t;
        EXPECT_EQ(ob_post_target_init(&t, &(struct ob_post_options){ .url = "http://localhost/",
                                                                     .headers = bad[i] }),
                  -EINVAL);
        EXPECT(t.head == NULL);
    }
}

TEST_PLAIN(post, targets_know_what_is_local)
{
    static const struct {
        const char *url;
        bool        loopback, tls;
    } cases[] = {
        { "http://localhost:4318/v1/traces", true, false },
        { "http://127.8.9.1:1", true, false },
        { "http://[::1]:4318/", true, false },
        { "https://otlp.example.com/x", false, true },
        { "http://10.0.0.1:4318", false, false },
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct ob_post_target t;
        EXPECT_EQ(ob_post_target_init(&t, &(struct ob_post_options){ .url = cases[i].url }), 0);
        EXPECT_EQ(t.loopback, cases[i].loopback);
        EXPECT_EQ(t.tls != NULL, cases[i].tls);
        ob_post_target_fini(&t);
    }
    struct ob_post_target t;
    EXPECT(ob_post_target_init(&t, &(struct ob_post_options){ .url = "localhost:4318" }) < 0);
    EXPECT_EQ(
        ob_post_target_init(&t, &(struct ob_post_options){ .url = "https://localhost",
                                                           .certificate = "/nowhere.pem" }),
        -EINVAL);
}
