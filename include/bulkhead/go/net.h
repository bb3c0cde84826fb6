#ifndef BULKHEAD_GO_NET_H
#define BULKHEAD_GO_NET_H

/*
 * net.h -- sockets, pipes and signals for goroutines.  Calls block the
 * goroutine, not its thread, until done, the deadline, or close.
 *
 *     struct bh_listener *l;
 *     int err = bh_listen("127.0.0.1:8080", &l);
 *     if (err != 0)
 *         return err;
 *     BH_DEFER(bh_listener_free, l);
 *     struct bh_conn *c;
 *     while (bh_accept(l, &c) == 0)
 *         bh_go(serve, &(struct serve){ c });
 *
 * Addresses are text: "127.0.0.1:8080", "[::1]:80", "localhost:http", ":8080"
 * (all interfaces), "unix:/path", "unix:@abstract".
 * Errors: -errno, BH_EDEADLINE, BH_ECANCELED, BH_ECLOSED, BH_ENOHOST, each with a note.
 *
 * One goroutine may read while another writes.  Two reads of one connection
 * (or two writes, or accepts) take turns, in order of arrival.  Closing is
 * allowed at any time; freeing only once nobody starts another call.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include <bulkhead/go/go.h>

struct bh_chan;
struct bh_ctx;
struct bh_listener;
struct bh_conn;

/*
 * bh_listen -- a stream listener, close-on-exec, address reused.
 *
 * A Unix socket's file is removed when the listener is closed.  One left over by
 * a process that died is -EADDRINUSE, and the note says so.
 * Owns: *listener is the caller's, until bh_listener_free.
 */
int bh_listen(const char *address, struct bh_listener **listener);
/* bh_listen_fd -- adopt a listening descriptor; on failure it stays the caller's. */
int bh_listen_fd(int fd, struct bh_listener **listener);
/*
 * bh_accept -- the next connection.
 * Returns: 0; -EMFILE, -ENFILE, -ENOBUFS or -ENOMEM at once: pause before trying again.
 * Owns:    *conn is the caller's, until bh_conn_free.
 */
int bh_accept(struct bh_listener *l, struct bh_conn **conn);
/* bh_listener_address -- "host:port" as bound.  Returns: text in l. */
const char *bh_listener_address(struct bh_listener *l);
int  bh_listener_fd(struct bh_listener *l); /* borrowed */
/* bh_listener_close -- waiting accepts get BH_ECLOSED.  bh_listener_free -- close, free; NULL is a no-op. */
void bh_listener_close(struct bh_listener *l);
void bh_listener_free(struct bh_listener *l);
/* bh_listener_set_deadline -- absolute, bh_now; 0 for none. */
void bh_listener_set_deadline(struct bh_listener *l, int64_t at_ns);

/* bh_dial -- connect; names are looked up off-thread; ctx (may be NULL) bounds it all. */
int bh_dial(struct bh_ctx *ctx, const char *address, struct bh_conn **conn);
/* bh_listen_packet, bh_dial_packet -- UDP, "127.0.0.1:0". */
int bh_listen_packet(const char *address, struct bh_conn **conn);
int bh_dial_packet(const char *address, struct bh_conn **conn);
/* bh_conn_new -- adopt a pollable descriptor (pipe, socket), made non-blocking; if it fails, not. */
int bh_conn_new(int fd, struct bh_conn **conn);
/* bh_pipe -- ends[0] reads what ends[1] writes. */
int bh_pipe(struct bh_conn *ends[2]);

/* bh_read -- Returns: bytes; 0 at the end of the stream, or for a size of 0; or an error. */
ssize_t bh_read(struct bh_conn *c, void *buffer, size_t size);
/* bh_try_read -- bh_read of what is there now; -EAGAIN, without a note, if that is nothing. */
ssize_t bh_try_read(struct bh_conn *c, void *buffer, size_t size);
/* bh_read_full -- exactly size bytes; BH_EEOF if the stream ends before. */
ssize_t bh_read_full(struct bh_conn *c, void *buffer, size_t size);
/* bh_write -- all of it.  Returns: size, or an error; the note says how much went out. */
ssize_t bh_write(struct bh_conn *c, const void *data, size_t size);
ssize_t bh_readv(struct bh_conn *c, const struct iovec *iov, int count);
ssize_t bh_writev(struct bh_conn *c, const struct iovec *iov, int count);
/*
 * bh_sendfile -- size bytes of the file fd, from offset, uncopied.  Waits for the socket; not for
 * the disk as a goroutine should, so a cold file may hold up its thread.  Its position stays.
 * Returns: size; -EIO if the file is shorter, what there is having been sent; or as bh_write.
 */
ssize_t bh_sendfile(struct bh_conn *c, int fd, int64_t offset, size_t size);
/*
 * bh_recv_from, bh_send_to -- one datagram; peer is text of at most `peer_size`, 64 will do.
 * What does not fit the buffer is lost.
 */
ssize_t bh_recv_from(struct bh_conn *c, void *buffer, size_t size, char *peer, size_t peer_size);
ssize_t bh_send_to(struct bh_conn *c, const void *data, size_t size, const char *peer);

/* Deadlines are absolute (bh_now), 0 for none; they wake waiting calls with BH_EDEADLINE. */
void bh_conn_set_deadline(struct bh_conn *c, int64_t at_ns);
void bh_conn_set_read_deadline(struct bh_conn *c, int64_t at_ns);
void bh_conn_set_write_deadline(struct bh_conn *c, int64_t at_ns);
/*
 * bh_conn_set_write_timeout -- each write may wait this long in all, in whole ms; 0: for ever.
 * Cheaper than a deadline per write, and instead of one.  Not for datagrams.
 */
void bh_conn_set_write_timeout(struct bh_conn *c, int64_t ns);
/* bh_conn_set_ctx -- calls in progress and later ones fail with ctx's error once it ends; NULL for none. */
void bh_conn_set_ctx(struct bh_conn *c, struct bh_ctx *ctx);

/*
 * bh_conn_set_hangup_ctx -- cancel ctx once the peer hangs up, though nobody reads and bytes
 * are left; NULL to watch no more.  One at a time; set by one goroutine at a time.
 *
 * half: also when the peer only ends its own sending, as most that are gone do; without it, when
 * the connection is reset or ended both ways.  Costs no system call.
 * Owns:   a reference to ctx, until it is replaced, ends by this, or c is closed.
 */
void bh_conn_set_hangup_ctx(struct bh_conn *c, struct bh_ctx *ctx, bool half);

/* bh_conn_fd -- borrowed.  Costs later reads a system call each: others may read from it too. */
int         bh_conn_fd(struct bh_conn *c);
const char *bh_conn_local(struct bh_conn *c); /* text in c */
/* bh_conn_peer -- the other's; "unix:pid=4242,uid=1000" of one who has come to a Unix socket. */
const char *bh_conn_peer(struct bh_conn *c);
/* What the kernel knows of a TCP connection. */
struct bh_conn_tcp {
    uint32_t rtt_us, rtt_var_us; /* smoothed round trip, and how it varies */
    uint32_t rto_us;             /* it sends again after that */
    uint32_t retransmits;        /* segments sent again, in all */
    uint32_t lost;               /* segments now thought lost */
    uint64_t cookie;             /* the kernel's number of the socket, as BPF programs see it */
};
/* bh_conn_tcp -- Returns: 0; -ENOTSUP, it is no TCP; BH_ECLOSED. */
int  bh_conn_tcp(struct bh_conn *c, struct bh_conn_tcp *tcp);
int  bh_conn_shutdown_write(struct bh_conn *c);
/* bh_conn_wait_readable -- until readable, the deadline or close.  Returns: 0 or an error. */
int  bh_conn_wait_readable(struct bh_conn *c);
/*
 * bh_conn_go_when_readable -- start fn(arg) on a new goroutine once c is readable, its read deadline
 * passes, or it is closed: until then there is none, and nothing that counts as one.
 * Nobody else may read from c until fn runs.  Of *options (NULL: none) stack_size counts.
 * Returns: 0, or BH_ECLOSED; then fn will not run.
 */
int bh_conn_go_when_readable(struct bh_conn *c, const struct bh_go_options *options, bh_fn *fn,
                             void *arg);
/* bh_conn_abort -- close with a reset, so that the peer cannot take it for a clean end. */
void bh_conn_abort(struct bh_conn *c);
/* bh_conn_close -- waiting calls get BH_ECLOSED.  bh_conn_free -- close and free; NULL is a no-op. */
void bh_conn_close(struct bh_conn *c);
void bh_conn_free(struct bh_conn *c);

/*
 * bh_lookup -- addresses of a host, by the system's resolver, off-thread.
 * Returns: how many were written; BH_ENOHOST; -EAGAIN if no name server answers; ctx's error.
 */
int bh_lookup(struct bh_ctx *ctx, const char *host, char addresses[][64], int max);

/*
 * bh_signal_notify -- send each arrival of signal `number` (int) on c, dropping it if c is full.
 * bh_signal_stop -- no more of any; what a signal did before returns when nobody listens.
 * Returns: 0; -EINVAL for SIGKILL, SIGSTOP and those of faults.
 * Owns:    a reference on c, until bh_signal_stop.
 * Panics:  if c is not a channel of int.
 */
int  bh_signal_notify(struct bh_chan *c, int number);
void bh_signal_stop(struct bh_chan *c);

#endif
