/* drain_test.c -- stopping: nobody loses a request, nothing is left; and no descriptors left. */
#include "http_fixture.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <bulkhead/go/sync.h>

#include "ht.h"

#define GET(path) "GET " path " HTTP/1.1\r\nHost: a\r\n\r\n"

static char            answer[1 << 16];
static struct bh_chan *entered, *go_on;

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "hello");
}

/* Ends when it is told to, or when the server drains. */
static int
streams(struct bh_http_call *c, void *arg)
{
    enum { TICK, DRAINING };
    struct bh_chan *draining = bh_http_draining(bh_http_server_of(c));

    (void)arg;
    bh_http_start(c, 200, "text/event-stream", -1);
    bh_http_print(c, "data: begin\n\n");
    (void)bh_http_flush(c);
    bh_send(entered, &(char){ 0 });
    while (bh_select([TICK] = BH_RECV(go_on, NULL), [DRAINING] = BH_RECV(draining, NULL)) ==
           TICK)
        bh_http_print(c, "data: tick\n\n");
    bh_http_print(c, "data: end\n\n");
    return 0;
}

/* Listens to nobody but go_on. */
static int
stubborn(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_send(entered, &(char){ 0 });
    bh_recv(go_on, NULL);
    return bh_http_reply(c, 200, "at last");
}

static void
tell(void *arg)
{
    bh_close(arg);
}

/* Upgraded: ends when told that the server drains. */
static int
upgrades(struct bh_http_call *c, void *arg)
{
    struct bh_chan *told = BH_CHAN(char, 0);

    (void)arg;
    BH_DEFER(bh_chan_unref, told);
    if (ht_upgrade(c->s, "test") < 0)
        return -EIO;
    ht_conn_on_drain(c->s->k, tell, told);
    bh_send(entered, &(char){ 0 });
    bh_recv(told, NULL);
    ht_conn_on_drain(c->s->k, NULL, NULL);
    (void)ht_raw_write(c->s, "bye", 3);
    return 0;
}

static void
start(struct fixture *f, const struct bh_http_options *o)
{
    entered = BH_CHAN(char, 0);
    go_on = BH_CHAN(char, 0);
    f->s = bh_http_server_new(o);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /hello", hello, NULL);
    bh_http_handle(f->s, "GET /stream", streams, NULL);
    bh_http_handle(f->s, "GET /stubborn", stubborn, NULL);
    bh_http_handle(f->s, "GET /up", upgrades, NULL);
    fixture_start(f);
}

static int
stop(struct fixture *f)
{
    int rc = fixture_stop(f);

    bh_chan_unref(entered);
    bh_chan_unref(go_on);
    return rc;
}

/* ---- under load ------------------------------------------------------------------ */

struct load {
    struct fixture      *f;
    struct bh_waitgroup *done;
    _Atomic int         *replies, *closes, *lost;
};

/* Returns: whether a reply came; sets *last if it says that it is the last one. */
static bool
ask(struct bh_conn *c, bool *last)
{
    static const char request[] = GET("/hello");
    char              text[1024];
    size_t            used = 0;
    ssize_t           n;

    if (bh_write(c, request, sizeof request - 1) < 0)
        return false;
    do {
        n = bh_read(c, text + used, sizeof text - 1 - used);
        if (n <= 0)
            return false;
        used += (size_t)n;
        text[used] = '\0';
    } while (used < 5 || strcmp(text + used - 5, "hello") != 0);
    *last = strstr(text, "\r\nConnection: close\r\n") != NULL;
    return true;
}

/* One request after another, on connections as long as they last, until none can be had. */
static void
client(void *args)
{
    struct load    *l = args;
    struct bh_conn *c;

    BH_DEFER(bh_waitgroup_done, l->done);
    while (bh_dial(bh_ctx_background(), bh_http_address(l->f->s), &c) == 0) {
        bool last = false;

        bh_conn_set_deadline(c, bh_now() + 5 * BH_SECOND);
        while (!last) {
            if (!ask(c, &last)) {
                atomic_fetch_add(l->lost, 1);
                break;
            }
            atomic_fetch_add(l->replies, 1);
        }
        atomic_fetch_add(l->closes, last);
        bh_conn_free(c);
    }
}

TEST_REAL(drain, under_load_no_request_is_lost)
{
    enum { CLIENTS = 32 };
    _Atomic int         replies = 0, closes = 0, lost = 0;
    struct bh_waitgroup done = { 0 };
    struct fixture      f;

    start(&f, &(struct bh_http_options){ .drain_grace = BH_SECOND });
    bh_waitgroup_add(&done, CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        bh_go(client, &(struct load){ &f, &done, &replies, &closes, &lost });
    while (atomic_load(&replies) < 2000)
        bh_sleep(BH_MILLISECOND);
    bh_http_stop(f.s);
    bh_waitgroup_wait(&done);
    EXPECT_EQ(atomic_load(&lost), 0);
    EXPECT(atomic_load(&closes) >= CLIENTS);
    EXPECT_EQ(stop(&f), 0);
}

/* ---- whoever is there ------------------------------------------------------------ */

TEST_REAL(drain, idle_connections_are_closed_in_less_than_100_ms)
{
    struct bh_conn *c[20];
    struct fixture  f;
    int64_t         before;

    start(&f, NULL);
    for (int i = 0; i < 20; i++) {
        c[i] = fixture_dial(&f);
        if (i % 2 == 0) /* the others have not even begun */
            continue;
        send_text(c[i], GET("/hello"));
        read_reply(c[i], answer, sizeof answer);
    }
    before = bh_now();
    EXPECT_EQ(stop(&f), 0);
    EXPECT((double)(bh_now() - before) < 100e6 * test_slow());
    for (int i = 0; i < 20; i++) {
        EXPECT_EQ(read_to_end(c[i], answer, sizeof answer), 0);
        EXPECT_STR(answer, "");
        bh_conn_free(c[i]);
    }
}

TEST_REAL(drain, a_request_on_its_way_is_answered_and_told_that_it_is_the_last)
{
    struct fixture f;

    start(&f, &(struct bh_http_options){ .drain_grace = 2 * BH_SECOND });
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, GET("/hello"));
    read_reply(c, answer, sizeof answer);
    EXPECT(strstr(answer, "Connection: close") == NULL);
    bh_http_stop(f.s);
    while (!atomic_load(&f.s->draining))
        bh_yield();
    send_text(c, GET("/hello"));
    EXPECT_EQ(read_to_end(c, answer, sizeof answer), 0);
    EXPECT_STR(body_of(answer), "hello");
    EXPECT_HAS(answer, "\r\nConnection: close\r\n");
    bh_conn_free(c);
    EXPECT_EQ(stop(&f), 0);
}

TEST_REAL(drain, a_stream_is_told_and_ends_whole)
{
    struct fixture f;
    int64_t        before = bh_now();

    start(&f, NULL);
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, GET("/stream"));
    bh_recv(entered, NULL);
    bh_send(go_on, &(char){ 0 });
    bh_http_stop(f.s);
    EXPECT_EQ(read_to_end(c, answer, sizeof answer), 0);
    EXPECT_HAS(answer, "data: tick\n\n");
    EXPECT_HAS(answer, "data: end\n\n\r\n0\r\n\r\n");
    bh_conn_free(c);
    EXPECT_EQ(stop(&f), 0);
    EXPECT(bh_now() - before < 5 * BH_SECOND); /* not at drain_timeout */
}

TEST_REAL(drain, an_upgraded_connection_is_told_and_says_goodbye)
{
    struct fixture f;

    start(&f, NULL);
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, GET("/up"));
    bh_recv(entered, NULL);
    bh_http_stop(f.s);
    EXPECT_EQ(read_to_end(c, answer, sizeof answer), 0);
    EXPECT_STARTS(answer, "HTTP/1.1 101 ");
    EXPECT_STR(body_of(answer), "bye");
    bh_conn_free(c);
    EXPECT_EQ(stop(&f), 0);
}

TEST_REAL(drain, who_does_not_end_in_time_is_said_so_and_left_alone)
{
    struct fixture f;
    int            rc = 0;

    start(&f, &(struct bh_http_options){ .drain_timeout = 20 * BH_MILLISECOND });
    struct bh_conn *c = fixture_dial(&f);
    send_text(c, GET("/stubborn"));
    bh_recv(entered, NULL);
    bh_http_stop(f.s);
    bh_recv(f.done, &rc);
    EXPECT_EQ(rc, -ETIMEDOUT);
    EXPECT_EQ(read_to_end(c, answer, sizeof answer),
              0); /* its connection is closed all the same */
    EXPECT_STR(answer, "");
    bh_conn_free(c);
    bh_close(go_on);
    while (atomic_load(&f.s->open) > 0)
        bh_yield();
    bh_chan_unref(f.done);
    bh_http_server_free(f.s);
    bh_chan_unref(entered);
    bh_chan_unref(go_on);
}

/* ---- signals --------------------------------------------------------------------- */

static void
ask_stubborn(void *args)
{
    struct bh_conn *c;

    if (bh_dial(bh_ctx_background(), *(const char **)args, &c) == 0) {
        send_text(c, GET("/stubborn"));
        (void)bh_read(c, answer, sizeof answer);
    }
}

static void
signal_twice(void *args)
{
    struct bh_http_server *s = *(struct bh_http_server **)args;

    bh_recv(entered, NULL);
    (void)kill(getpid(), SIGTERM);
    while (!atomic_load(&s->draining))
        bh_sleep(BH_MILLISECOND);
    (void)fputs("draining\n", stderr);
    (void)kill(getpid(), SIGINT);
}

TEST_DIES(drain, a_second_signal_is_immediate, 128 + SIGINT, "draining")
{
    struct fixture f = { .s = bh_http_server_new(NULL) };
    const char    *address;

    entered = BH_CHAN(char, 0);
    go_on = BH_CHAN(char, 0);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /stubborn", stubborn, NULL);
    EXPECT_EQ(bh_http_listen(f.s, "127.0.0.1:0"), 0);
    address = bh_http_address(f.s);
    bh_go(signal_twice, &f.s);
    bh_go(ask_stubborn, &address);
    (void)bh_http_serve_until_signal(f.s);
}

/* ---- without descriptors --------------------------------------------------------- */

enum { SOCKETS = 8, FILLERS = 200 };

/* Raw, since nothing that needs a descriptor works here. */
static void
ask_raw(int fd, const struct sockaddr_in *to)
{
    struct timeval limit = { .tv_sec = 3 };
    size_t         used = 0;
    ssize_t        n;

    EXPECT_EQ(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit), 0);
    EXPECT_EQ(connect(fd, (const struct sockaddr *)to, sizeof *to), 0);
    EXPECT_EQ(send(fd, GET("/hello"), sizeof GET("/hello") - 1, 0), sizeof GET("/hello") - 1);
    (void)shutdown(fd, SHUT_WR);
    while ((n = recv(fd, answer + used, sizeof answer - 1 - used, 0)) > 0)
        used += (size_t)n;
    answer[used] = '\0';
}

TEST_REAL(drain, without_descriptors_clients_are_told_503_and_the_listener_survives)
{
    struct sockaddr_in   to = { .sin_family = AF_INET };
    int                  sockets[SOCKETS + 1], fillers[FILLERS], n = 0;
    struct rlimit        limit;
    struct bh_http_stats stats;
    struct fixture       f;

    start(&f, NULL);
    EXPECT_EQ(inet_pton(AF_INET, "127.0.0.1", &to.sin_addr), 1);
    to.sin_port = htons((uint16_t)atoi(strrchr(bh_http_address(f.s), ':') + 1));
    talk(&f, GET("/hello"), answer,
         sizeof answer); /* the acceptor is there, with its reserve */
    EXPECT_STR(body_of(answer), "hello");
    for (int i = 0; i <= SOCKETS; i++)
        sockets[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = 128;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    while (n < FILLERS && (fillers[n] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0)
        n++;
    EXPECT(n < FILLERS);
    for (int i = 0; i < SOCKETS; i++) {
        ask_raw(sockets[i], &to);
        EXPECT_STARTS(answer, "HTTP/1.1 503 ");
        EXPECT_HAS(answer, "\r\nRetry-After: 1\r\n");
    }
    bh_http_stats(f.s, &stats);
    EXPECT_EQ(stats.turned_away, SOCKETS);
    while (n > 0)
        close(fillers[--n]);
    ask_raw(sockets[SOCKETS], &to);
    EXPECT_STR(body_of(answer), "hello");
    for (int i = 0; i <= SOCKETS; i++)
        close(sockets[i]);
    EXPECT_EQ(stop(&f), 0);
}
