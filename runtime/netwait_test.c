/*
 * netwait_test.c -- goroutines that start when a descriptor is ready.
 */

#include "test.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <sys/socket.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/timer.h>

struct wait {
    struct bh_conn *ends[2];
    _Atomic int     started;
    ssize_t         got;
    char            bytes[8];
};

static void
read_some(void *arg)
{
    struct wait *w = arg;

    w->got = bh_read(w->ends[0], w->bytes, sizeof w->bytes);
    atomic_store(&w->started, 1);
}

static void
open_pipe(struct wait *w)
{
    EXPECT_EQ(bh_pipe(w->ends), 0);
    atomic_store(&w->started, 0);
}

static void
close_pipe(struct wait *w)
{
    bh_conn_free(w->ends[0]);
    bh_conn_free(w->ends[1]);
}

static void
wait_started(struct wait *w)
{
    while (atomic_load(&w->started) == 0)
        bh_yield();
}

TEST_REAL(netwait, a_goroutine_starts_when_data_comes)
{
    struct wait w;

    open_pipe(&w);
    EXPECT_EQ(bh_conn_go_when_readable(w.ends[0], NULL, read_some, &w), 0);
    for (int i = 0; i < 100; i++)
        bh_yield();
    EXPECT_EQ(atomic_load(&w.started), 0);
    EXPECT_EQ(bh_write(w.ends[1], "hello", 5), 5);
    wait_started(&w);
    EXPECT_EQ(w.got, 5);
    close_pipe(&w);
}

TEST_REAL(netwait, it_starts_at_once_when_data_is_there)
{
    struct wait w;

    open_pipe(&w);
    EXPECT_EQ(bh_write(w.ends[1], "x", 1), 1);
    EXPECT_EQ(bh_conn_go_when_readable(w.ends[0], NULL, read_some, &w), 0);
    wait_started(&w);
    EXPECT_EQ(w.got, 1);
    close_pipe(&w);
}

TEST_REAL(netwait, it_starts_when_the_last_read_left_something)
{
    struct wait w;
    char        bytes[4];

    open_pipe(&w);
    EXPECT_EQ(bh_write(w.ends[1], "abcdefg", 7), 7);
    EXPECT_EQ(bh_read(w.ends[0], bytes, sizeof bytes), 4);
    EXPECT_EQ(bh_conn_go_when_readable(w.ends[0], NULL, read_some, &w), 0);
    wait_started(&w);
    EXPECT_EQ(w.got, 3);
    close_pipe(&w);
}

TEST_REAL(netwait, it_starts_at_the_deadline)
{
    struct wait w;

    open_pipe(&w);
    bh_conn_set_read_deadline(w.ends[0], bh_now() + 5 * BH_MILLISECOND);
    EXPECT_EQ(bh_conn_go_when_readable(w.ends[0], NULL, read_some, &w), 0);
    wait_started(&w);
    EXPECT_EQ(w.got, BH_EDEADLINE);
    close_pipe(&w);
}

TEST_REAL(netwait, it_starts_when_the_connection_is_closed)
{
    struct wait w;

    open_pipe(&w);
    EXPECT_EQ(bh_conn_go_when_readable(w.ends[0], NULL, read_some, &w), 0);
    bh_conn_close(w.ends[0]);
    wait_started(&w);
    EXPECT_EQ(w.got, BH_ECLOSED);
    close_pipe(&w);
}

TEST_REAL(netwait, a_closed_connection_is_refused)
{
    struct wait w;

    open_pipe(&w);
    bh_conn_close(w.ends[0]);
    EXPECT_EQ(bh_conn_go_when_readable(w.ends[0], NULL, read_some, &w), BH_ECLOSED);
    EXPECT_EQ(atomic_load(&w.started), 0);
    close_pipe(&w);
}

struct echo {
    struct bh_conn *c;
    _Atomic int    *turns;
    _Atomic bool    ended;
};

static void
echo_turn(void *arg)
{
    struct echo *e = arg;
    char         byte;

    if (bh_read(e->c, &byte, 1) != 1) {
        atomic_store(&e->ended, true);
        return;
    }
    EXPECT_EQ(bh_write(e->c, &byte, 1), 1);
    atomic_fetch_add(e->turns, 1);
    EXPECT_EQ(bh_conn_go_when_readable(e->c, NULL, echo_turn, e), 0);
}

TEST_REAL(netwait, a_connection_can_start_a_goroutine_for_each_message)
{
    enum { TURNS = 2000 };
    struct bh_listener *l;
    struct bh_conn     *client, *server;
    struct echo         e;
    _Atomic int         turns = 0;
    char                byte = 'a';

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    EXPECT_EQ(bh_dial(NULL, bh_listener_address(l), &client), 0);
    EXPECT_EQ(bh_accept(l, &server), 0);
    e.c = server;
    e.turns = &turns;
    atomic_store(&e.ended, false);
    EXPECT_EQ(bh_conn_go_when_readable(server, NULL, echo_turn, &e), 0);
    for (int i = 0; i < TURNS; i++) {
        EXPECT_EQ(bh_write(client, &byte, 1), 1);
        EXPECT_EQ(bh_read(client, &byte, 1), 1);
    }
    EXPECT_EQ(atomic_load(&turns), TURNS);
    while (bh_goroutine_count() > 1) /* the last turn's: waiting takes none */
        bh_yield();
    bh_conn_free(client);
    while (!atomic_load(&e.ended))
        bh_yield();
    bh_conn_free(server);
    bh_listener_free(l);
}

static void
open_tcp(struct wait *w)
{
    struct bh_listener *l;

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    EXPECT_EQ(bh_dial(NULL, bh_listener_address(l), &w->ends[1]), 0);
    EXPECT_EQ(bh_accept(l, &w->ends[0]), 0);
    bh_listener_free(l);
    atomic_store(&w->started, 0);
}

/* Data and end in one segment are one edge, which the first read consumes. */
TEST_REAL(netwait, it_starts_at_once_when_the_end_came_with_the_data_before)
{
    struct wait w;
    int         on = 1;

    open_tcp(&w);
    EXPECT_EQ(bh_conn_go_when_readable(w.ends[0], NULL, read_some, &w), 0);
    EXPECT_EQ(setsockopt(bh_conn_fd(w.ends[1]), IPPROTO_TCP, TCP_CORK, &on, sizeof on), 0);
    EXPECT_EQ(bh_write(w.ends[1], "abc", 3), 3);
    EXPECT_EQ(bh_conn_shutdown_write(w.ends[1]), 0);
    wait_started(&w);
    EXPECT_EQ(w.got, 3);
    atomic_store(&w.started, 0);
    EXPECT_EQ(bh_conn_go_when_readable(w.ends[0], NULL, read_some, &w), 0);
    wait_started(&w);
    EXPECT_EQ(w.got, 0);
    close_pipe(&w);
}

/* Fill the socket until a write fails.  Returns: how. */
static ssize_t
write_until_it_fails(struct bh_conn *c)
{
    static const char zeros[1 << 16];
    ssize_t           n;

    do
        n = bh_write(c, zeros, sizeof zeros);
    while (n > 0);
    return n;
}

static void
read_all(void *args)
{
    struct bh_conn *c = *(struct bh_conn **)args;
    char            bytes[4096];

    while (bh_read(c, bytes, sizeof bytes) > 0)
        continue;
}

TEST_REAL(netwait, a_write_timeout_ends_a_write_that_waits)
{
    struct wait w;

    open_tcp(&w);
    bh_conn_set_write_timeout(w.ends[0], 5 * BH_MILLISECOND);
    EXPECT_EQ(write_until_it_fails(w.ends[0]), BH_EDEADLINE);
    close_pipe(&w);
}

TEST_REAL(netwait, a_write_timeout_is_over_when_the_write_is)
{
    struct wait w;

    open_tcp(&w);
    bh_conn_set_write_timeout(w.ends[0], 5 * BH_MILLISECOND);
    EXPECT_EQ(write_until_it_fails(w.ends[0]), BH_EDEADLINE);
    bh_go(read_all, &w.ends[1]);
    while (bh_write(w.ends[0], "x", 1) != 1) /* there is room again, sooner or later */
        bh_yield();
    bh_sleep(10 * BH_MILLISECOND);
    EXPECT_EQ(bh_write(w.ends[0], "x", 1), 1);
    bh_conn_free(w.ends[0]);
    while (bh_goroutine_count() > 1)
        bh_yield();
    bh_conn_free(w.ends[1]);
}
