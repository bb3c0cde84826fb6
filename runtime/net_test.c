/* net_test.c -- sockets and pipes, on real ones of this machine. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

#define HOUR (3600 * BH_SECOND)

/* ---- helpers ------------------------------------------------------------ */

static bool
ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);

    return a >= b && strcmp(text + a - b, end) == 0;
}

/* pair -- the two ends of a connection over `address`. */
static void
pair(const char *address, struct bh_conn *ends[2])
{
    struct bh_listener *l;

    EXPECT_EQ(bh_listen(address, &l), 0);
    EXPECT_EQ(bh_dial(NULL, bh_listener_address(l), &ends[0]), 0);
    EXPECT_EQ(bh_accept(l, &ends[1]), 0);
    bh_listener_free(l);
}

static void
tcp_pair(struct bh_conn *ends[2])
{
    pair("127.0.0.1:0", ends);
}

static void
free_pair(struct bh_conn *ends[2])
{
    bh_conn_free(ends[0]);
    bh_conn_free(ends[1]);
}

/* What a goroutine that calls into the network reports. */
struct call {
    struct bh_conn *conn;
    struct bh_chan *done; /* of ssize_t */
    char           *buffer;
    size_t          size;
};

static void
read_some(void *args)
{
    struct call *a = args;
    char         byte[16];
    ssize_t      got = bh_read(a->conn, a->buffer != NULL ? a->buffer : byte,
                               a->buffer != NULL ? a->size : sizeof byte);

    bh_send(a->done, &got);
}

static void
read_all(void *args)
{
    struct call *a = args;
    ssize_t      got = bh_read_full(a->conn, a->buffer, a->size);

    bh_send(a->done, &got);
}

static void
write_all(void *args)
{
    struct call *a = args;
    ssize_t      put = bh_write(a->conn, a->buffer, a->size);

    bh_send(a->done, &put);
}

static ssize_t
result(struct bh_chan *done)
{
    ssize_t r;

    bh_recv(done, &r);
    return r;
}

/* let_park -- time for goroutines just started to get stuck in their calls. */
static void
let_park(void)
{
    for (int i = 0; i < 20; i++)
        bh_yield();
    bh_sleep(2 * BH_MILLISECOND);
}

/*
 * Small enough for a write of SOME to take many steps.  Each costs a delayed
 * acknowledgement, 40 ms; with a small receive buffer as well TCP would crawl.
 */
static void
shrink_buffer(struct bh_conn *c)
{
    int size = 4096;

    EXPECT_EQ(setsockopt(bh_conn_fd(c), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
}

static char *
pattern(size_t size)
{
    char *data = malloc(size);

    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 31 + i / 251);
    return data;
}

/* ---- streams ------------------------------------------------------------ */

TEST(net, bytes_arrive_in_order)
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

TEST(net, ends_know_each_others_address)
{
    struct bh_conn *c[2];

    tcp_pair(c);
    EXPECT_STR(bh_conn_local(c[0]), bh_conn_peer(c[1]));
    EXPECT_STR(bh_conn_local(c[1]), bh_conn_peer(c[0]));
    EXPECT(strncmp(bh_conn_peer(c[0]), "127.0.0.1:", 10) == 0);
    free_pair(c);
}

TEST(net, reading_waits_for_data)
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

TEST(net, end_of_stream_reads_as_0)
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

TEST(net, full_read_cut_short_says_how_far_it_came)
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

/* The end may come with the data or after; a short read must not wait for more either way. */
TEST(net, end_of_stream_right_behind_a_short_read_is_seen)
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

TEST(net, each_of_many_short_reads_is_followed_by_the_next_data)
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

TEST(net, urgent_data_does_not_stop_the_stream)
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

TEST(net, half_closed_connection_still_carries_the_other_way)
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

TEST(net, abort_is_a_reset_at_the_other_end)
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

TEST(net, reset_wakes_a_waiting_reader)
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

TEST(net, writing_to_a_gone_peer_is_an_error_not_a_signal)
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

TEST(net, wait_readable_leaves_the_data)
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

TEST(net, readv_fills_buffers_in_turn)
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

enum { SOME = 128 << 10, LARGE = 8 << 20 };

/* send_through -- size bytes from c[0] to c[1], compared. */
static void
send_through(struct bh_conn *c[2], size_t size)
{
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    char           *sent = pattern(size), *got = malloc(size);

    bh_go(write_all, &(struct call){ c[0], done, sent, size });
    EXPECT_EQ(bh_read_full(c[1], got, size), size);
    EXPECT_EQ(result(done), size);
    EXPECT(memcmp(sent, got, size) == 0);
    free(sent);
    free(got);
    bh_chan_unref(done);
}

TEST(net, large_write_arrives_whole)
{
    struct bh_conn *c[2];

    tcp_pair(c);
    send_through(c, LARGE);
    free_pair(c);
}

TEST(net, write_through_a_small_buffer_arrives_whole)
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

TEST(net, writev_of_many_buffers_arrives_whole_and_leaves_the_array_alone)
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

TEST(net, failed_write_notes_how_much_went_out)
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

TEST(net, two_readers_take_turns)
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

TEST(net, two_writers_do_not_mix)
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

TEST(net, reading_and_writing_go_on_together)
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

TEST_REAL(net, thousand_connections_at_once)
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
TEST(net, recycled_descriptors_do_not_hear_of_their_past)
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

TEST(net, close_wakes_a_reader)
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

TEST(net, close_wakes_everyone_who_queues_to_read)
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

TEST(net, close_wakes_a_writer)
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

TEST(net, free_with_a_call_in_progress_is_safe)
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

TEST(net, calls_after_close_say_so)
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

TEST_PLAIN(net, free_of_nothing_is_nothing)
{
    bh_conn_free(NULL);
    bh_listener_free(NULL);
}

/* ---- deadlines ---------------------------------------------------------- */

TEST_SIM(net, deadline_is_exact_in_virtual_time)
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

TEST(net, read_deadline_ends_a_wait)
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

TEST(net, past_deadline_fails_at_once_even_with_data)
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

TEST_SIM(net, deadline_moved_later_during_a_read_counts_from_then)
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

TEST_SIM(net, deadline_moved_earlier_during_a_read_counts_from_then)
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

TEST_SIM(net, deadline_taken_away_during_a_read_does_not_end_it)
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

TEST(net, deadline_set_to_the_past_wakes_a_reader)
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

TEST(net, connection_works_after_a_deadline_passed_and_was_moved)
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

TEST(net, accept_has_a_deadline_too)
{
    struct bh_listener *l;
    struct bh_conn     *c;

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    bh_listener_set_deadline(l, bh_now() + BH_MILLISECOND);
    EXPECT_EQ(bh_accept(l, &c), BH_EDEADLINE);
    bh_listener_free(l);
}

/* ---- contexts ----------------------------------------------------------- */

TEST(net, cancelled_context_ends_a_read)
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

TEST(net, context_that_has_ended_fails_calls_at_once)
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

TEST_SIM(net, deadline_of_a_context_ends_a_read_in_time)
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

TEST(net, context_may_end_after_the_connection)
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

/* ---- dialling ----------------------------------------------------------- */

TEST(net, dialling_where_nobody_listens_is_refused)
{
    struct bh_listener *l;
    struct bh_conn     *c = NULL;
    char                address[64];

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    snprintf(address, sizeof address, "%s", bh_listener_address(l));
    bh_listener_free(l);
    EXPECT_EQ(bh_dial(NULL, address, &c), -ECONNREFUSED);
    EXPECT(strncmp(bh_error_note(), "dial tcp 127.0.0.1:", 19) == 0);
    EXPECT(ends_with(bh_error_note(), ": Connection refused"));
    EXPECT(c == NULL);
}

TEST(net, dialling_with_an_ended_context_does_nothing)
{
    struct bh_listener *l;
    struct bh_conn     *c = NULL;
    struct bh_ctx      *ctx = bh_ctx_cancellable(bh_ctx_background());

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    bh_ctx_cancel(ctx);
    EXPECT_EQ(bh_dial(ctx, bh_listener_address(l), &c), BH_ECANCELED);
    EXPECT(c == NULL);
    bh_listener_free(l);
    bh_ctx_unref(ctx);
}

/* A full backlog lets connects hang: the kernel drops their first packet. */
TEST_REAL(net, context_ends_a_hanging_dial)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t          length = sizeof a;
    int                fd = socket(AF_INET, SOCK_STREAM, 0), error = 0, count = 0;
    struct bh_conn    *c[16];
    char               address[32];
    int64_t            began = bh_now();

    EXPECT_EQ(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    EXPECT_EQ(listen(fd, 0), 0);
    EXPECT_EQ(getsockname(fd, (struct sockaddr *)&a, &length), 0);
    snprintf(address, sizeof address, "127.0.0.1:%d", ntohs(a.sin_port));
    while (error == 0 && count < 16) {
        struct bh_ctx *ctx = bh_ctx_timeout(bh_ctx_background(), 100 * BH_MILLISECOND);

        error = bh_dial(ctx, address, &c[count]);
        count += error == 0;
        bh_ctx_end(ctx);
    }
    EXPECT_EQ(error, BH_EDEADLINE);
    EXPECT(bh_now() - began < 5 * BH_SECOND);
    while (count > 0)
        bh_conn_free(c[--count]);
    close(fd);
}

TEST(net, dialling_a_name_reaches_this_machine)
{
    struct bh_listener *l;
    struct bh_conn     *c;
    char                address[64];

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    snprintf(address, sizeof address, "localhost%s", strrchr(bh_listener_address(l), ':'));
    EXPECT_EQ(bh_dial(NULL, address, &c), 0);
    bh_conn_free(c);
    snprintf(address, sizeof address, "%s", strrchr(bh_listener_address(l), ':'));
    EXPECT_EQ(bh_dial(NULL, address, &c), 0);
    bh_conn_free(c);
    bh_listener_free(l);
}

TEST(net, bad_addresses_are_named)
{
    struct bh_conn *c;

    EXPECT_EQ(bh_dial(NULL, "127.0.0.1", &c), -EINVAL);
    EXPECT_STR(bh_error_note(), "address 127.0.0.1: missing port in address");
    EXPECT_EQ(bh_dial(NULL, "unix:", &c), -EINVAL);
    EXPECT_EQ(bh_dial(NULL, "127.0.0.1:70000", &c), -EINVAL);
    EXPECT_STR(bh_error_note(), "address 70000: invalid port");
}

/* ---- listening ---------------------------------------------------------- */

TEST(net, close_wakes_accept)
{
    struct bh_listener *l;
    struct bh_chan     *done = BH_CHAN(ssize_t, 1);

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    bh_go(accept_until_closed, &(struct acceptor){ l, done });
    let_park();
    bh_listener_close(l);
    EXPECT_EQ(result(done), BH_ECLOSED);
    bh_listener_free(l);
    bh_chan_unref(done);
}

TEST(net, port_in_use_is_an_error)
{
    struct bh_listener *l, *second;

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    EXPECT_EQ(bh_listen(bh_listener_address(l), &second), -EADDRINUSE);
    EXPECT(ends_with(bh_error_note(), ": Address already in use"));
    bh_listener_free(l);
}

TEST(net, listening_everywhere_takes_both_protocols)
{
    struct bh_listener *l;
    struct bh_conn     *c, *s;
    char                address[64];

    EXPECT_EQ(bh_listen(":0", &l), 0);
    snprintf(address, sizeof address, "127.0.0.1%s", strrchr(bh_listener_address(l), ':'));
    EXPECT_EQ(bh_dial(NULL, address, &c), 0);
    EXPECT_EQ(bh_accept(l, &s), 0);
    EXPECT_STR(bh_conn_peer(s), bh_conn_local(c)); /* not ::ffff:127.0.0.1 */
    bh_conn_free(c);
    bh_conn_free(s);
    bh_listener_free(l);
}

TEST(net, listener_adopts_a_listening_descriptor)
{
    int                 fd = socket(AF_INET, SOCK_STREAM, 0);
    struct bh_listener *l;
    struct bh_conn     *c, *s;
    char                address[64];

    EXPECT_EQ(bh_listen_fd(fd, &l), -EINVAL);
    EXPECT_EQ(listen(fd, 1), 0);
    EXPECT_EQ(bh_listen_fd(fd, &l), 0);
    EXPECT_EQ(bh_listener_fd(l), fd);
    snprintf(address, sizeof address, "127.0.0.1%s", strrchr(bh_listener_address(l), ':'));
    EXPECT_EQ(bh_dial(NULL, address, &c), 0);
    EXPECT_EQ(bh_accept(l, &s), 0);
    bh_conn_free(c);
    bh_conn_free(s);
    bh_listener_free(l);
}

TEST_REAL(net, accept_without_descriptors_fails_and_works_again_later)
{
    struct bh_listener *l;
    struct bh_conn     *c, *s = NULL;
    struct rlimit       limit, low;
    int                 next;

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    EXPECT_EQ(bh_dial(NULL, bh_listener_address(l), &c), 0);
    getrlimit(RLIMIT_NOFILE, &limit);
    next = dup(0);
    close(next);
    low = (struct rlimit){ (rlim_t)next, limit.rlim_max };
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &low), 0);
    EXPECT_EQ(bh_accept(l, &s), -EMFILE);
    EXPECT(ends_with(bh_error_note(), ": Too many open files"));
    EXPECT_EQ(setrlimit(RLIMIT_NOFILE, &limit), 0);
    EXPECT_EQ(bh_accept(l, &s), 0);
    bh_conn_free(c);
    bh_conn_free(s);
    bh_listener_free(l);
}

/* ---- unix sockets ------------------------------------------------------- */

/* socket_path -- unused, in a directory of its own would be overkill: the pid makes it unique. */
static const char *
socket_path(char path[64])
{
    snprintf(path, 64, "unix:/tmp/bh-net-test-%d", (int)getpid());
    unlink(path + 5);
    return path;
}

TEST(net, unix_socket_carries_bytes_and_its_file_goes_with_the_listener)
{
    struct bh_conn *c[2];
    char            path[64], got[8];

    pair(socket_path(path), c);
    EXPECT_EQ(access(path + 5, F_OK), -1);
    EXPECT_STR(bh_conn_peer(c[0]), path);
    EXPECT_EQ(bh_write(c[0], "abc", 3), 3);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 3);
    bh_conn_close(c[0]);
    EXPECT_EQ(bh_read(c[1], got, sizeof got), 0);
    free_pair(c);
}

TEST(net, abstract_unix_socket_carries_bytes)
{
    struct bh_conn *c[2];
    char            name[64], got[8];

    snprintf(name, sizeof name, "unix:@bh-net-test-%d", (int)getpid());
    pair(name, c);
    EXPECT_STR(bh_conn_peer(c[0]), name);
    EXPECT_EQ(bh_write(c[1], "abc", 3), 3);
    EXPECT_EQ(bh_read(c[0], got, sizeof got), 3);
    free_pair(c);
}

TEST(net, stale_socket_file_is_told_from_one_in_use)
{
    struct sockaddr_un  a = { .sun_family = AF_UNIX };
    struct bh_listener *l;
    char                path[64];
    int                 fd = socket(AF_UNIX, SOCK_STREAM, 0);

    socket_path(path);
    strcpy(a.sun_path, path + 5);
    EXPECT_EQ(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
    EXPECT_EQ(listen(fd, 1), 0);
    EXPECT_EQ(bh_listen(path, &l), -EADDRINUSE);
    EXPECT(ends_with(bh_error_note(), ": Address already in use"));
    close(fd);
    EXPECT_EQ(bh_listen(path, &l), -EADDRINUSE);
    EXPECT(ends_with(bh_error_note(), "is gone; remove it"));
    unlink(path + 5);
    EXPECT_EQ(bh_listen(path, &l), 0);
    bh_listener_free(l);
}

TEST(net, too_long_unix_path_is_an_error)
{
    struct bh_listener *l;
    char                path[256];

    memset(path, 'x', sizeof path);
    memcpy(path, "unix:/", 6);
    path[sizeof path - 1] = '\0';
    EXPECT_EQ(bh_listen(path, &l), -ENAMETOOLONG);
}

/* ---- datagrams ---------------------------------------------------------- */

TEST(net, datagrams_keep_their_bounds_and_sender)
{
    struct bh_conn *a, *b;
    char            got[16], peer[64];

    EXPECT_EQ(bh_listen_packet("127.0.0.1:0", &a), 0);
    EXPECT_EQ(bh_listen_packet("127.0.0.1:0", &b), 0);
    EXPECT_EQ(bh_send_to(a, "one", 3, bh_conn_local(b)), 3);
    EXPECT_EQ(bh_send_to(a, "", 0, bh_conn_local(b)), 0);
    EXPECT_EQ(bh_send_to(a, "three", 5, bh_conn_local(b)), 5);
    EXPECT_EQ(bh_recv_from(b, got, sizeof got, peer, sizeof peer), 3);
    EXPECT_STR(peer, bh_conn_local(a));
    EXPECT_EQ(bh_recv_from(b, got, sizeof got, NULL, 0), 0);
    EXPECT_EQ(bh_recv_from(b, got, 2, NULL, 0), 2); /* the rest is lost */
    bh_conn_set_read_deadline(b, bh_now() + BH_MILLISECOND);
    EXPECT_EQ(bh_recv_from(b, got, sizeof got, NULL, 0), BH_EDEADLINE);
    bh_conn_free(a);
    bh_conn_free(b);
}

TEST(net, connected_datagram_socket_reads_and_writes)
{
    struct bh_conn *server, *client;
    char            got[16], peer[64];

    EXPECT_EQ(bh_listen_packet("127.0.0.1:0", &server), 0);
    EXPECT_EQ(bh_dial_packet(bh_conn_local(server), &client), 0);
    EXPECT_EQ(bh_write(client, "ping", 4), 4);
    EXPECT_EQ(bh_recv_from(server, got, sizeof got, peer, sizeof peer), 4);
    EXPECT_EQ(bh_send_to(server, "pong!", 5, peer), 5);
    EXPECT_EQ(bh_read(client, got, sizeof got), 5);
    bh_conn_free(server);
    bh_conn_free(client);
}

TEST(net, datagram_socket_for_all_interfaces_speaks_ipv4)
{
    struct bh_conn *all, *one;
    char            got[16], peer[64], address[64];

    EXPECT_EQ(bh_listen_packet(":0", &all), 0);
    EXPECT_EQ(bh_listen_packet("127.0.0.1:0", &one), 0);
    snprintf(address, sizeof address, "127.0.0.1%s", strrchr(bh_conn_local(all), ':'));
    EXPECT_EQ(bh_send_to(one, "ping", 4, address), 4);
    EXPECT_EQ(bh_recv_from(all, got, sizeof got, peer, sizeof peer), 4);
    EXPECT_STR(peer, bh_conn_local(one));
    EXPECT_EQ(bh_send_to(all, "pong", 4, peer), 4);
    EXPECT_EQ(bh_recv_from(one, got, sizeof got, NULL, 0), 4);
    bh_conn_free(all);
    bh_conn_free(one);
}

/* ---- pipes and adopted descriptors -------------------------------------- */

TEST(net, pipe_carries_bytes_and_ends)
{
    struct bh_conn *ends[2];
    char            got[8];

    EXPECT_EQ(bh_pipe(ends), 0);
    EXPECT_EQ(bh_write(ends[1], "abc", 3), 3);
    EXPECT_EQ(bh_read(ends[0], got, sizeof got), 3);
    bh_conn_close(ends[1]);
    EXPECT_EQ(bh_read(ends[0], got, sizeof got), 0);
    EXPECT_STR(bh_conn_peer(ends[0]), "");
    free_pair(ends);
}

TEST(net, pipe_without_a_reader_is_an_error_not_a_signal)
{
    struct bh_conn *ends[2];

    EXPECT_EQ(bh_pipe(ends), 0);
    bh_conn_close(ends[0]);
    EXPECT_EQ(bh_write(ends[1], "x", 1), -EPIPE);
    EXPECT_STR(bh_error_note(), "write pipe: Broken pipe");
    free_pair(ends);
}

TEST(net, large_write_into_a_pipe_waits_for_its_reader)
{
    struct bh_conn *ends[2];
    struct bh_conn *reversed[2];

    EXPECT_EQ(bh_pipe(ends), 0);
    reversed[0] = ends[1];
    reversed[1] = ends[0];
    send_through(reversed, LARGE);
    free_pair(ends);
}

TEST(net, connection_adopts_a_socket)
{
    struct bh_conn *c;
    int             fds[2];
    char            got[8];

    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    EXPECT_EQ(bh_conn_new(fds[0], &c), 0);
    EXPECT_EQ(bh_conn_fd(c), fds[0]);
    EXPECT(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
    EXPECT(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    EXPECT_EQ(write(fds[1], "abc", 3), 3);
    EXPECT_EQ(bh_read(c, got, sizeof got), 3);
    close(fds[1]);
    EXPECT_EQ(bh_read(c, got, sizeof got), 0);
    bh_conn_free(c);
}

TEST(net, regular_file_cannot_be_adopted)
{
    char            path[] = "/tmp/bh-net-test-XXXXXX";
    int             fd = mkstemp(path);
    struct bh_conn *c;

    unlink(path);
    EXPECT_EQ(bh_conn_new(fd, &c), -EPERM);
    EXPECT(ends_with(bh_error_note(), "cannot be waited for"));
    close(fd);
    EXPECT_EQ(bh_conn_new(-1, &c), -EBADF);
}

TEST_DIES(net, waiting_for_nothing_that_can_come_is_no_deadlock, -14, "")
{
    struct bh_conn *ends[2];
    char            byte;

    alarm(1);
    EXPECT_EQ(bh_pipe(ends), 0);
    bh_read(ends[0], &byte, 1);
}
