#ifndef BULKHEAD_RUNTIME_NETTEST_H
#define BULKHEAD_RUNTIME_NETTEST_H

/* nettest.h -- connected pairs and goroutines in calls, for net_test.c and netfd_test.c. */

#include "test.h"

#include <stdlib.h>
#include <sys/socket.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/timer.h>

#define HOUR (3600 * BH_SECOND)

enum { SOME = 128 << 10, LARGE = 8 << 20 };

static inline bool
ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);

    return a >= b && strcmp(text + a - b, end) == 0;
}

/* pair -- the two ends of a connection over `address`. */
static inline void
pair(const char *address, struct bh_conn *ends[2])
{
    struct bh_listener *l;

    EXPECT_EQ(bh_listen(address, &l), 0);
    EXPECT_EQ(bh_dial(NULL, bh_listener_address(l), &ends[0]), 0);
    EXPECT_EQ(bh_accept(l, &ends[1]), 0);
    bh_listener_free(l);
}

static inline void
tcp_pair(struct bh_conn *ends[2])
{
    pair("127.0.0.1:0", ends);
}

static inline void
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

static inline void
read_some(void *args)
{
    struct call *a = args;
    char         byte[16];
    ssize_t      got = bh_read(a->conn, a->buffer != NULL ? a->buffer : byte,
                               a->buffer != NULL ? a->size : sizeof byte);

    bh_send(a->done, &got);
}

static inline void
read_all(void *args)
{
    struct call *a = args;
    ssize_t      got = bh_read_full(a->conn, a->buffer, a->size);

    bh_send(a->done, &got);
}

static inline void
write_all(void *args)
{
    struct call *a = args;
    ssize_t      put = bh_write(a->conn, a->buffer, a->size);

    bh_send(a->done, &put);
}

static inline ssize_t
result(struct bh_chan *done)
{
    ssize_t r;

    bh_recv(done, &r);
    return r;
}

/* let_park -- time for goroutines just started to get stuck in their calls. */
static inline void
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
static inline void
shrink_buffer(struct bh_conn *c)
{
    int size = 4096;

    EXPECT_EQ(setsockopt(bh_conn_fd(c), SOL_SOCKET, SO_SNDBUF, &size, sizeof size), 0);
}

static inline char *
pattern(size_t size)
{
    char *data = malloc(size);

    for (size_t i = 0; i < size; i++)
        data[i] = (char)(i * 31 + i / 251);
    return data;
}

/* send_through -- size bytes from c[0] to c[1], compared. */
static inline void
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

#endif
