/* net_test.c -- dialling and listening, all kinds of sockets, pipes: on real ones of this machine. */

#include "nettest.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>

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

struct accept_call {
    struct bh_listener *l;
    struct bh_chan     *done;
};

static void
accept_one(void *args)
{
    struct accept_call *a = args;
    struct bh_conn     *c;
    ssize_t             error = bh_accept(a->l, &c);

    bh_send(a->done, &error);
}

TEST(net, close_wakes_accept)
{
    struct bh_listener *l;
    struct bh_chan     *done = BH_CHAN(ssize_t, 1);

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    bh_go(accept_one, &(struct accept_call){ l, done });
    let_park();
    bh_listener_close(l);
    EXPECT_EQ(result(done), BH_ECLOSED);
    bh_listener_free(l);
    bh_chan_unref(done);
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
    struct bh_conn     *c, *second, *s = NULL;
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
    /* valgrind has accepted the first one, and closed it to keep to the limit: dial another */
    EXPECT_EQ(bh_dial(NULL, bh_listener_address(l), &second), 0);
    EXPECT_EQ(bh_accept(l, &s), 0);
    bh_conn_free(c);
    bh_conn_free(second);
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
    snprintf(path, sizeof path, "unix:pid=%d,uid=%d", (int)getpid(), (int)getuid());
    EXPECT_STR(bh_conn_peer(c[1]), path);
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
    EXPECT_EQ(bh_conn_tcp(c, &(struct bh_conn_tcp){ 0 }), -ENOTSUP);
    EXPECT(fcntl(fds[0], F_GETFL) & O_NONBLOCK);
    EXPECT(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    EXPECT_EQ(write(fds[1], "abc", 3), 3);
    EXPECT_EQ(bh_read(c, got, sizeof got), 3);
    close(fds[1]);
    EXPECT_EQ(bh_read(c, got, sizeof got), 0);
    bh_conn_close(c);
    EXPECT_EQ(bh_conn_tcp(c, &(struct bh_conn_tcp){ 0 }), BH_ECLOSED);
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

TEST_PLAIN(net, free_of_nothing_is_nothing)
{
    bh_conn_free(NULL);
    bh_listener_free(NULL);
}
