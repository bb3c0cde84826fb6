/* sendfile_test.c -- from a file to a socket. */
#include "nettest.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <bulkhead/go/error.h>

/* A file without a name, of the pattern. */
static int
file_of(size_t size)
{
    char  path[] = "/tmp/bh-sendfile-test-XXXXXX";
    int   fd = mkstemp(path);
    char *data = pattern(size);

    unlink(path);
    EXPECT_EQ(write(fd, data, size), size);
    free(data);
    return fd;
}

struct sending {
    struct bh_conn *conn;
    struct bh_chan *done;
    int             fd;
    int64_t         offset;
    size_t          size;
};

static void
send_one(void *args)
{
    struct sending *a = args;
    ssize_t         put = bh_sendfile(a->conn, a->fd, a->offset, a->size);

    bh_send(a->done, &put);
}

static void
arrives(const char *address, size_t offset, size_t size)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    int             fd = file_of(offset + size + 10);
    char           *expected = pattern(offset + size), *got = malloc(size + 1);

    pair(address, c);
    bh_go(send_one, &(struct sending){ c[0], done, fd, (int64_t)offset, size });
    EXPECT_EQ(bh_read_full(c[1], got, size), size);
    EXPECT_EQ(result(done), size);
    EXPECT(memcmp(got, expected + offset, size) == 0);
    EXPECT_EQ(lseek(fd, 0, SEEK_CUR), offset + size + 10);
    free_pair(c);
    free(expected);
    free(got);
    bh_chan_unref(done);
    close(fd);
}

TEST(sendfile, part_of_a_file_arrives)
{
    arrives("127.0.0.1:0", 7, 1000);
}

TEST(sendfile, file_larger_than_the_buffers_arrives)
{
    arrives("127.0.0.1:0", 4097, LARGE);
    arrives("unix:@bh-sendfile-test", 1, LARGE);
}

TEST(sendfile, nothing_is_sent_of_nothing)
{
    struct bh_conn *c[2];
    int             fd = file_of(10);

    tcp_pair(c);
    EXPECT_EQ(bh_sendfile(c[0], fd, 5, 0), 0);
    free_pair(c);
    close(fd);
}

TEST(sendfile, shorter_file_is_an_error_behind_its_bytes)
{
    struct bh_conn *c[2];
    char            got[8];
    int             fd = file_of(10);

    tcp_pair(c);
    EXPECT_EQ(bh_sendfile(c[0], fd, 4, 100), -EIO);
    EXPECT(ends_with(bh_error_note(), "(after 6 bytes)"));
    EXPECT_EQ(bh_read_full(c[1], got, 6), 6);
    free_pair(c);
    close(fd);
}

TEST(sendfile, bad_descriptor_is_an_error)
{
    struct bh_conn *c[2];

    tcp_pair(c);
    EXPECT_EQ(bh_sendfile(c[0], -1, 0, 100), -EBADF);
    free_pair(c);
}

TEST(sendfile, peer_that_left_is_an_error_and_no_signal)
{
    struct bh_conn *c[2];
    int             fd = file_of(LARGE);
    ssize_t         put;

    pair("unix:@bh-sendfile-test", c);
    bh_conn_free(c[1]);
    put = bh_sendfile(c[0], fd, 0, LARGE);
    EXPECT_EQ(put, -EPIPE);
    bh_conn_free(c[0]);
    close(fd);
}

TEST(sendfile, close_ends_one_that_waits)
{
    struct bh_conn *c[2];
    struct bh_chan *done = BH_CHAN(ssize_t, 1);
    int             fd = file_of(LARGE);

    tcp_pair(c);
    shrink_buffer(c[0]);
    bh_go(send_one, &(struct sending){ c[0], done, fd, 0, LARGE });
    let_park();
    bh_conn_close(c[0]);
    EXPECT_EQ(result(done), BH_ECLOSED);
    free_pair(c);
    bh_chan_unref(done);
    close(fd);
}

TEST_REAL(sendfile, deadline_and_write_timeout_end_one_that_waits)
{
    struct bh_conn *c[2];
    int             fd = file_of(LARGE);

    tcp_pair(c);
    shrink_buffer(c[0]);
    bh_conn_set_write_deadline(c[0], bh_now() + 5 * BH_MILLISECOND);
    EXPECT_EQ(bh_sendfile(c[0], fd, 0, LARGE), BH_EDEADLINE);
    bh_conn_set_write_deadline(c[0], 0);
    bh_conn_set_write_timeout(c[0], 5 * BH_MILLISECOND);
    EXPECT_EQ(bh_sendfile(c[0], fd, 0, LARGE), BH_EDEADLINE);
    free_pair(c);
    close(fd);
}
