/* netfd_test.c -- calls on descriptors that goroutines share: order, close, deadlines, contexts. */

#include "nettest.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/sync.h>

/* ---- streams ------------------------------------------------------------ */

TEST(netfd, bytes_arrive_in_order)
{
    struct bh_conn *c[2];
    char            got[16];

    tcp_pair(c);
    EXPECT_EQ(bh_write(c[0], "hello", 5), 5);
    EXPECT_EQ(bh_write(c[0], ", world", 7), 7);
    EXPECT_EQ(bh_read_full(c[1], got, 12), 12);
    EXPECT(memcmp(got, "hello, world", 12) == 0);
    free_pair(c);
}

TEST(netfd, ends_know_each_others_address)
{
    struct bh_conn *c[2];

    tcp_pair(c);
    EXPECT_STR(bh_conn_local(c[0]), bh_conn_peer(c[1]));
    EXPECT_STR(bh_conn_local(c[1]), bh_conn_peer(c[0]));
    EXPECT(strncmp(bh_conn_peer(c[0]), "127.0.0.1:", 10) == 0);
    free_pair(c);
}

TEST(netfd, reading_waits_for_data)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    char            got[8];

    tcp_pair(c);
    bh_go(read_some, &(struct call){ c[1], done, got, sizeof got });
    let_park();
    EXPECT_EQ(bh_chan_len(done), 0);
    bh_write(c[0], "abc", 3);
    EXPECT_EQ(result(done), 3);
    EXPECT(memcmp(got, "abc", 3) == 0);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, end_of_stream_reads_as_0)
{
    struct bh_conn *c[2];
    char            got[8];

    tcp_pair(c);
    bh_write(c[0], "abc", 3);
    bh_conn_close(c[0]);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 3);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 0);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 0);
    free_pair(c);
}

TEST(netfd, full_read_cut_short_says_how_far_it_came)
{
    struct bh_conn *c[2];
    char            got[8];

    tcp_pair(c);
    bh_write(c[0], "abc", 3);
    bh_conn_close(c[0]);
    EXPECT_EQ(bh_read_full(c[1], got, sizeof got), BH_EEOF);
    EXPECT_STR(bh_error_note(), "read: end of stream after 3 of 8 bytes");
    free_pair(c);
}

struct echo {
    struct bh_conn *conn;
};

static void
send_and_close(void *args)
{
    struct echo *a = args;

    bh_write(a->conn, "abc", 3);
    bh_conn_close(a->conn);
}

/* The end may come with the data or after: a short read must not wait for more either way. */
TEST(netfd, end_of_stream_right_behind_a_short_read_is_seen)
{
    struct bh_conn *c[2];
    char            got[64];

    for (int i = 0; i < 100; i++) {
        tcp_pair(c);
        bh_go(send_and_close, &(struct echo){ c[0] });
        if (i % 2 == 0)
            bh_yield();
        EXPECT_EQ(bh_read(c[1], got, sizeof got), 3);
        EXPECT_EQ(bh_read(c[1], got, sizeof got), 0);
        free_pair(c);
    }
}

/* In one segment they are one edge, which the first read consumes. */
TEST(netfd, end_of_stream_in_the_same_segment_as_a_short_read_is_seen)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    char            got[64];
    int             on = 1;

    tcp_pair(c);
    bh_go(read_some, &(struct call){ c[1], done, NULL, 0 });
    let_park();
    EXPECT_EQ(setsockopt(bh_conn_fd(c[0]), IPPROTO_TCP, TCP_CORK, &on, sizeof on), 0);
    EXPECT_EQ(bh_write(c[0], "abc", 3), 3);
    EXPECT_EQ(bh_conn_shutdown_write(c[0]), 0);
    EXPECT_EQ(result(done), 3);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 0);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, each_of_many_short_reads_is_followed_by_the_next_data)
{
    struct bh_conn *c[2];
    char            got[64];

    tcp_pair(c);
    for (int i = 0; i < 500; i++) {
        EXPECT_EQ(bh_write(c[0], "ping", 4), 4);
        EXPECT_EQ(bh_read(c[1], got, sizeof got), 4);
        EXPECT_EQ(bh_write(c[1], "pong!", 5), 5);
        EXPECT_EQ(bh_read(c[0], got, sizeof got), 5);
    }
    free_pair(c);
}

TEST(netfd, urgent_data_does_not_stop_the_stream)
{
    struct bh_conn *c[2];
    char            got[64];
    int             fd;

    tcp_pair(c);
    fd = bh_conn_fd(c[0]);
    EXPECT_EQ(send(fd, "abc", 3, 0), 3);
    EXPECT_EQ(send(fd, "!", 1, MSG_OOB), 1);
    EXPECT_EQ(send(fd, "def", 3, 0), 3);
    EXPECT_EQ(bh_read_full(c[1], got, 6), 6);
    EXPECT(memcmp(got, "abcdef", 6) == 0);
    free_pair(c);
}

TEST(netfd, half_closed_connection_still_carries_the_other_way)
{
    struct bh_conn *c[2];
    char            got[8];

    tcp_pair(c);
    EXPECT_EQ(bh_conn_shutdown_write(c[0]), 0);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 0);
    EXPECT_EQ(bh_write(c[1], "late", 4), 4);
    EXPECT_EQ(bh_read(c[0], got, sizeof got), 4);
    EXPECT_EQ(bh_write(c[0], "x", 1), -EPIPE);
    free_pair(c);
}

TEST(netfd, abort_is_a_reset_at_the_other_end)
{
    struct bh_conn *c[2];
    char            got[8];

    tcp_pair(c);
    bh_conn_abort(c[0]);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), -ECONNRESET);
    EXPECT(strncmp(bh_error_note(), "read tcp 127.0.0.1:", 19) == 0);
    EXPECT(ends_with(bh_error_note(), ": Connection reset by peer"));
    EXPECT_EQ(bh_read(c[0], got, sizeof got), BH_ECLOSED);
    free_pair(c);
}

TEST(netfd, reset_wakes_a_waiting_reader)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);

    tcp_pair(c);
    bh_go(read_some, &(struct call){ c[1], done, NULL, 0 });
    let_park();
    bh_conn_abort(c[0]);
    EXPECT_EQ(result(done), -ECONNRESET);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, writing_to_a_gone_peer_is_an_error_not_a_signal)
{
    struct bh_conn *c[2];
    ssize_t         put = 0;

    tcp_pair(c);
    bh_conn_abort(c[1]);
    for (int i = 0; i < 1000 && put >= 0; i++)
        put = bh_write(c[0], "x", 1);
    EXPECT(put == -EPIPE || put == -ECONNRESET);
    free_pair(c);
}

TEST(netfd, wait_readable_leaves_the_data)
{
    struct bh_conn *c[2];
    char            got[8];

    tcp_pair(c);
    for (int i = 0; i < 3; i++) {
        bh_write(c[0], "abc", 3);
        EXPECT_EQ(bh_conn_wait_readable(c[1]), 0);
        EXPECT_EQ(bh_conn_wait_readable(c[1]), 0);
        EXPECT_EQ(bh_read(c[1], got, sizeof got), 3);
    }
    bh_conn_close(c[0]);
    EXPECT_EQ(bh_conn_wait_readable(c[1]), 0);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 0);
    free_pair(c);
}

TEST(netfd, readv_fills_buffers_in_turn)
{
    struct bh_conn *c[2];
    char            a[3], b[8];
    struct iovec    iov[2] = { { a, sizeof a }, { b, sizeof b } };

    tcp_pair(c);
    bh_write(c[0], "abcdef", 6);
    EXPECT_EQ(bh_readv(c[1], iov, 2), 6);
    EXPECT(memcmp(a, "abc", 3) == 0 && memcmp(b, "def", 3) == 0);
    free_pair(c);
}

/* ---- large writes ------------------------------------------------------- */

TEST(netfd, large_write_arrives_whole)
{
    struct bh_conn *c[2];

    tcp_pair(c);
    send_through(c, LARGE);
    free_pair(c);
}

TEST(netfd, write_through_a_small_buffer_arrives_whole)
{
    struct bh_conn *c[2];

    tcp_pair(c);
    shrink_buffer(c[0]);
    send_through(c, SOME);
    free_pair(c);
}

struct vector_call {
    struct bh_conn *conn;
    struct bh_chan *done;
    struct iovec   *iov;
    int             count;
};

static void
write_vectors(void *args)
{
    struct vector_call *a = args;
    ssize_t             put = bh_writev(a->conn, a->iov, a->count);

    bh_send(a->done, &put);
}

TEST(netfd, writev_of_many_buffers_arrives_whole_and_leaves_the_array_alone)
{
    enum { COUNT = 150 };
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    struct iovec   *iov = calloc(COUNT, sizeof *iov), *before = calloc(COUNT, sizeof *iov);
    char           *sent = pattern(SOME * 4), *got;
    size_t          total = 0;

    for (int i = 0; i < COUNT; i++) {
        iov[i] = (struct iovec){ sent + total, i % 5 == 0 ? 0 : (size_t)i * 37 };
        total += iov[i].iov_len;
    }
    memcpy(before, iov, COUNT * sizeof *iov);
    got = malloc(total);
    tcp_pair(c);
    shrink_buffer(c[0]);
    bh_go(write_vectors, &(struct vector_call){ c[0], done, iov, COUNT });
    EXPECT_EQ(bh_read_full(c[1], got, total), total);
    EXPECT_EQ(result(done), total);
    EXPECT(memcmp(sent, got, total) == 0);
    EXPECT(memcmp(before, iov, COUNT * sizeof *iov) == 0);
    free(iov);
    free(before);
    free(sent);
    free(got);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, failed_write_notes_how_much_went_out)
{
    struct bh_conn *c[2];
    char           *sent = pattern(4 * LARGE), got[1000];

    tcp_pair(c);
    bh_conn_set_write_deadline(c[0], bh_now() + 20 * BH_MILLISECOND);
    EXPECT_EQ(bh_write(c[0], sent, 4 * LARGE), BH_EDEADLINE);
    EXPECT(strstr(bh_error_note(), "i/o timeout (after ") != NULL);
    EXPECT(ends_with(bh_error_note(), " bytes)"));
    EXPECT_EQ(bh_read_full(c[1], got, sizeof got), sizeof got);
    free(sent);
    free_pair(c);
}

/* ---- several goroutines ------------------------------------------------- */

TEST(netfd, two_readers_take_turns)
{
    enum { SIZE = 10000 };
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    char           *sent = calloc(2, SIZE), *got = malloc(2 * SIZE);
    char            whole[2 * SIZE];

    memset(sent, 'a', 2 * SIZE);
    tcp_pair(c);
    bh_go(read_some, &(struct call){ c[1], done, got, SIZE });
    bh_go(read_some, &(struct call){ c[1], done, got + SIZE, SIZE });
    let_park();
    bh_write(c[0], sent, 7);
    EXPECT_EQ(result(done), 7);
    bh_write(c[0], sent, 9);
    EXPECT_EQ(result(done), 9);
    bh_write(c[0], sent, 2 * SIZE);
    EXPECT_EQ(bh_read_full(c[1], whole, 2 * SIZE), 2 * SIZE);
    free(sent);
    free(got);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, two_writers_do_not_mix)
{
    enum { SIZE = SOME };
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 2);
    char           *a = malloc(SIZE), *b = malloc(SIZE), *got = malloc(2 * SIZE);

    memset(a, 'a', SIZE);
    memset(b, 'b', SIZE);
    tcp_pair(c);
    shrink_buffer(c[0]);
    bh_go(write_all, &(struct call){ c[0], done, a, SIZE });
    bh_go(write_all, &(struct call){ c[0], done, b, SIZE });
    EXPECT_EQ(bh_read_full(c[1], got, 2 * SIZE), 2 * SIZE);
    EXPECT_EQ(result(done), SIZE);
    EXPECT_EQ(result(done), SIZE);
    EXPECT(memcmp(got, got + 1, SIZE - 1) == 0);
    EXPECT(memcmp(got + SIZE, got + SIZE + 1, SIZE - 1) == 0);
    EXPECT(got[0] != got[SIZE]);
    free(a);
    free(b);
    free(got);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, reading_and_writing_go_on_together)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 4);
    char           *data = pattern(LARGE), *got0 = malloc(LARGE), *got1 = malloc(LARGE);

    tcp_pair(c);
    bh_go(write_all, &(struct call){ c[0], done, data, LARGE });
    bh_go(write_all, &(struct call){ c[1], done, data, LARGE });
    bh_go(read_all, &(struct call){ c[0], done, got0, LARGE });
    bh_go(read_all, &(struct call){ c[1], done, got1, LARGE });
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(result(done), LARGE);
    EXPECT(memcmp(data, got0, LARGE) == 0 && memcmp(data, got1, LARGE) == 0);
    free(data);
    free(got0);
    free(got1);
    bh_chan_unref(done);
    free_pair(c);
}

static void
serve_echo(void *args)
{
    struct echo *a = args;
    char         buffer[64];
    ssize_t      got;

    while ((got = bh_read(a->conn, buffer, sizeof buffer)) > 0)
        bh_write(a->conn, buffer, (size_t)got);
    bh_conn_free(a->conn);
}

struct acceptor {
    struct bh_listener *l;
    struct bh_chan     *done;
};

static void
accept_until_closed(void *args)
{
    struct acceptor *a = args;
    struct bh_conn  *c;
    ssize_t          error;

    while ((error = bh_accept(a->l, &c)) == 0)
        bh_go(serve_echo, &(struct echo){ c });
    bh_send(a->done, &error);
}

struct client {
    const char          *address;
    int                  number;
    _Atomic int         *failed;
    struct bh_waitgroup *wg;
    struct bh_chan      *gate;
};

static void
talk(void *args)
{
    struct client  *a = args;
    struct bh_conn *c;
    char            text[16], got[16];
    size_t          n = (size_t)snprintf(text, sizeof text, "client %d", a->number);

    if (bh_dial(NULL, a->address, &c) != 0) {
        fprintf(stderr, "%s\n", bh_error_note());
        atomic_fetch_add(a->failed, 1);
        bh_waitgroup_done(a->wg);
        return;
    }
    bh_recv(a->gate, NULL); /* until all are connected */
    for (int i = 0; i < 3; i++)
        if (bh_write(c, text, n) != (ssize_t)n || bh_read_full(c, got, n) != (ssize_t)n ||
            memcmp(text, got, n) != 0)
            atomic_fetch_add(a->failed, 1);
    bh_conn_free(c);
    bh_waitgroup_done(a->wg);
}

TEST_REAL(netfd, thousand_connections_at_once)
{
    enum { CLIENTS = 1000 };
    struct rlimit       limit;
    struct bh_listener *l;
    struct bh_chan     *done = BH_CHAN(ssize_t, 1), *gate = BH_CHAN(char, 0);
    struct bh_waitgroup wg = { 0 };
    _Atomic int         failed = 0;

    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    EXPECT(limit.rlim_cur > 2 * CLIENTS + 50);
    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    bh_go(accept_until_closed, &(struct acceptor){ l, done });
    bh_waitgroup_add(&wg, CLIENTS);
    for (int i = 0; i < CLIENTS; i++)
        bh_go(talk, &(struct client){ bh_listener_address(l), i, &failed, &wg, gate });
    let_park();
    bh_close(gate);
    bh_waitgroup_wait(&wg);
    EXPECT_EQ(failed, 0);
    bh_listener_close(l);
    EXPECT_EQ(result(done), BH_ECLOSED);
    bh_listener_free(l);
    bh_chan_unref(done);
    bh_chan_unref(gate);
}

/* Numbers of descriptors come back at once here: an event for the old one must not reach the new. */
TEST(netfd, recycled_descriptors_do_not_hear_of_their_past)
{
    struct bh_conn *c[2];
    char            got[8];

    for (int i = 0; i < 200; i++) {
        tcp_pair(c);
        bh_write(c[0], "old", 3);
        bh_write(c[1], "old", 3);
        free_pair(c);
        tcp_pair(c);
        bh_conn_set_read_deadline(c[1], bh_now() + 1);
        EXPECT_EQ(bh_read(c[1], got, sizeof got), BH_EDEADLINE);
        free_pair(c);
    }
}

/* ---- close -------------------------------------------------------------- */

TEST(netfd, close_wakes_a_reader)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);

    tcp_pair(c);
    bh_go(read_some, &(struct call){ c[1], done, NULL, 0 });
    let_park();
    bh_conn_close(c[1]);
    EXPECT_EQ(result(done), BH_ECLOSED);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, close_wakes_everyone_who_queues_to_read)
{
    enum { READERS = 5 };
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, READERS);

    tcp_pair(c);
    for (int i = 0; i < READERS; i++)
        bh_go(read_some, &(struct call){ c[1], done, NULL, 0 });
    let_park();
    bh_conn_close(c[1]);
    for (int i = 0; i < READERS; i++)
        EXPECT_EQ(result(done), BH_ECLOSED);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, close_wakes_a_writer)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    char           *data = calloc(2, LARGE);

    tcp_pair(c);
    bh_go(write_all, &(struct call){ c[0], done, data, 2 * LARGE });
    let_park();
    bh_conn_close(c[0]);
    EXPECT_EQ(result(done), BH_ECLOSED);
    free(data);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, free_with_a_call_in_progress_is_safe)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);

    tcp_pair(c);
    bh_go(read_some, &(struct call){ c[1], done, NULL, 0 });
    let_park();
    bh_conn_close(c[1]);
    EXPECT_EQ(result(done), BH_ECLOSED);
    free_pair(c);
    bh_chan_unref(done);
}

TEST(netfd, calls_after_close_say_so)
{
    struct bh_conn *c[2];
    char            got[8];

    tcp_pair(c);
    bh_conn_close(c[0]);
    bh_conn_close(c[0]);
    EXPECT_EQ(bh_read(c[0], got, sizeof got), BH_ECLOSED);
    EXPECT(ends_with(bh_error_note(), ": use of closed network connection"));
    EXPECT_EQ(bh_write(c[0], "x", 1), BH_ECLOSED);
    EXPECT_EQ(bh_conn_wait_readable(c[0]), BH_ECLOSED);
    EXPECT_EQ(bh_conn_shutdown_write(c[0]), BH_ECLOSED);
    bh_conn_set_deadline(c[0], 1);
    bh_conn_set_ctx(c[0], bh_ctx_background());
    bh_conn_abort(c[0]);
    free_pair(c);
}

/* ---- deadlines ---------------------------------------------------------- */

TEST_SIM(netfd, deadline_is_exact_in_virtual_time)
{
    struct bh_conn *ends[2];
    int64_t         began = bh_now();
    char            byte;

    EXPECT_EQ(bh_pipe(ends), 0);
    bh_conn_set_read_deadline(ends[0], began + HOUR);
    EXPECT_EQ(bh_read(ends[0], &byte, 1), BH_EDEADLINE);
    EXPECT_EQ(bh_now(), began + HOUR);
    EXPECT_STR(bh_error_note(), "read pipe: i/o timeout");
    free_pair(ends);
}

TEST(netfd, read_deadline_ends_a_wait)
{
    struct bh_conn *c[2];
    int64_t         at = bh_now() + 5 * BH_MILLISECOND;
    char            got[8];

    tcp_pair(c);
    bh_conn_set_read_deadline(c[0], at);
    EXPECT_EQ(bh_read(c[0], got, sizeof got), BH_EDEADLINE);
    EXPECT(bh_now() >= at);
    free_pair(c);
}

TEST(netfd, past_deadline_fails_at_once_even_with_data)
{
    struct bh_conn *c[2];
    char            got[8];

    tcp_pair(c);
    bh_write(c[0], "abc", 3);
    EXPECT_EQ(bh_conn_wait_readable(c[1]), 0);
    bh_conn_set_read_deadline(c[1], 1);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), BH_EDEADLINE);
    EXPECT_EQ(bh_write(c[1], "x", 1), 1);
    bh_conn_set_read_deadline(c[1], 0);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 3);
    free_pair(c);
}

TEST_SIM(netfd, deadline_moved_later_during_a_read_counts_from_then)
{
    struct bh_conn *ends[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    int64_t         began = bh_now();

    EXPECT_EQ(bh_pipe(ends), 0);
    bh_conn_set_read_deadline(ends[0], began + BH_SECOND);
    bh_go(read_some, &(struct call){ ends[0], done, NULL, 0 });
    bh_sleep(BH_SECOND / 2);
    bh_conn_set_read_deadline(ends[0], began + HOUR);
    EXPECT_EQ(result(done), BH_EDEADLINE);
    EXPECT_EQ(bh_now(), began + HOUR);
    bh_chan_unref(done);
    free_pair(ends);
}

TEST_SIM(netfd, deadline_moved_earlier_during_a_read_counts_from_then)
{
    struct bh_conn *ends[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    int64_t         began = bh_now();

    EXPECT_EQ(bh_pipe(ends), 0);
    bh_conn_set_read_deadline(ends[0], began + HOUR);
    bh_go(read_some, &(struct call){ ends[0], done, NULL, 0 });
    bh_sleep(BH_SECOND / 2);
    bh_conn_set_read_deadline(ends[0], began + BH_SECOND);
    EXPECT_EQ(result(done), BH_EDEADLINE);
    EXPECT_EQ(bh_now(), began + BH_SECOND);
    bh_chan_unref(done);
    free_pair(ends);
}

TEST_SIM(netfd, deadline_taken_away_during_a_read_does_not_end_it)
{
    struct bh_conn *ends[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);

    EXPECT_EQ(bh_pipe(ends), 0);
    bh_conn_set_read_deadline(ends[0], bh_now() + BH_SECOND);
    bh_go(read_some, &(struct call){ ends[0], done, NULL, 0 });
    bh_sleep(BH_SECOND / 2);
    bh_conn_set_read_deadline(ends[0], 0);
    bh_sleep(10 * BH_SECOND);
    EXPECT_EQ(bh_chan_len(done), 0);
    bh_write(ends[1], "x", 1);
    EXPECT_EQ(result(done), 1);
    bh_chan_unref(done);
    free_pair(ends);
}

TEST(netfd, deadline_set_to_the_past_wakes_a_reader)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);

    tcp_pair(c);
    bh_go(read_some, &(struct call){ c[1], done, NULL, 0 });
    let_park();
    bh_conn_set_deadline(c[1], 1);
    EXPECT_EQ(result(done), BH_EDEADLINE);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, connection_works_after_a_deadline_passed_and_was_moved)
{
    struct bh_conn *c[2];
    char            got[8];

    tcp_pair(c);
    for (int i = 0; i < 5; i++) {
        bh_conn_set_deadline(c[1], bh_now() + BH_MILLISECOND);
        EXPECT_EQ(bh_read(c[1], got, sizeof got), BH_EDEADLINE);
        bh_conn_set_deadline(c[1], 0);
        bh_write(c[0], "abc", 3);
        EXPECT_EQ(bh_read(c[1], got, sizeof got), 3);
    }
    free_pair(c);
}

/* ---- contexts ----------------------------------------------------------- */

TEST(netfd, cancelled_context_ends_a_read)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    struct bh_ctx  *ctx = bh_ctx_cancellable(bh_ctx_background());
    char            got[8];

    tcp_pair(c);
    bh_conn_set_ctx(c[1], ctx);
    bh_go(read_some, &(struct call){ c[1], done, NULL, 0 });
    let_park();
    bh_ctx_cancel(ctx);
    EXPECT_EQ(result(done), BH_ECANCELED);
    EXPECT_EQ(bh_write(c[1], "x", 1), BH_ECANCELED);
    EXPECT(ends_with(bh_error_note(), "context canceled"));
    bh_conn_set_ctx(c[1], NULL);
    bh_write(c[0], "abc", 3);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 3);
    bh_ctx_unref(ctx);
    bh_chan_unref(done);
    free_pair(c);
}

TEST(netfd, context_that_has_ended_fails_calls_at_once)
{
    struct bh_conn *c[2];
    struct bh_ctx  *ctx = bh_ctx_cancellable(bh_ctx_background());
    char            got[8];

    tcp_pair(c);
    bh_write(c[0], "abc", 3);
    bh_ctx_cancel(ctx);
    bh_conn_set_ctx(c[1], ctx);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), BH_ECANCELED);
    bh_ctx_unref(ctx);
    free_pair(c);
}

TEST_SIM(netfd, deadline_of_a_context_ends_a_read_in_time)
{
    struct bh_conn *ends[2];
    int64_t         began = bh_now();
    struct bh_ctx  *ctx = bh_ctx_timeout(bh_ctx_background(), HOUR);
    char            byte;

    EXPECT_EQ(bh_pipe(ends), 0);
    bh_conn_set_ctx(ends[0], ctx);
    EXPECT_EQ(bh_read(ends[0], &byte, 1), BH_EDEADLINE);
    EXPECT_STR(bh_error_note(), "read pipe: context deadline exceeded");
    EXPECT_EQ(bh_now() - began, HOUR);
    bh_ctx_end(ctx);
    free_pair(ends);
}

TEST(netfd, context_may_end_after_the_connection)
{
    struct bh_conn *c[2];
    struct bh_ctx  *ctx = bh_ctx_cancellable(bh_ctx_background());

    tcp_pair(c);
    bh_conn_set_ctx(c[0], ctx);
    bh_conn_set_ctx(c[1], ctx);
    bh_conn_set_ctx(c[1], bh_ctx_background());
    free_pair(c);
    bh_ctx_end(ctx);
}

