/*
 * net.c -- listeners and connections: the API above netfd.c.
 *
 * A listener and a connection are each a netfd with what only they need.  An
 * address text is resolved (netaddr.c), a socket made non-blocking and
 * close-on-exec in one call, and from then on everything goes through netfd.c.
 *
 * Options are set on the listening socket; Linux hands them to what it accepts,
 * so that an accept costs one system call.
 *
 * The local address's text is made when asked for, and kept.  The peer's is made at the
 * start, since the kernel forgets it with the peer, and nearly always fits.
 */

#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>

#include "netaddr.h"
#include "netfd.h"

enum {
    BACKLOG = 4096,     /* the kernel's default limit */
    KEEPALIVE_S = 15,   /* idle time before, and between, probes: Go's */
    KEEPALIVE_COUNT = 9,
};

enum { LISTENER_MAGIC = 0x6c73746e, CONN_MAGIC = 0x636f6e6e };

struct bh_listener {
    struct rt_netfd n;
    uint32_t        magic;
    char            address[RT_ADDR_TEXT];
};

struct bh_conn {
    struct rt_netfd n;
    uint32_t        magic;
    char            short_text[28]; /* "255.255.255.255:65535" takes 22 */
    char           *peer_text;      /* that, or malloc'ed; NULL: unknown */
};

static struct bh_conn *
check_conn(struct bh_conn *c)
{
    BH_REQUIRE(c->magic == CONN_MAGIC);
    return c;
}

static struct bh_listener *
check_listener(struct bh_listener *l)
{
    BH_REQUIRE(l->magic == LISTENER_MAGIC);
    return l;
}

/* ---- errors ------------------------------------------------------------- */

/* explain -- what a code means here: a deadline of the connection is a timeout. */
static const char *
explain(struct rt_netfd *n, int code)
{
    if (code == BH_EDEADLINE && !rt_netfd_has_ctx(n))
        return "i/o timeout";
    return bh_error_text(code);
}

/* conn_fail -- note "read tcp 127.0.0.1:80: connection reset by peer".  Returns: code. */
static int
conn_fail(struct bh_conn *c, const char *what, int code)
{
    const char *network = c->n.type == 0 ? "pipe" : rt_addr_network(c->n.family, c->n.type);
    const char *peer = bh_conn_peer(c);

    return bh_fail(code, "%s %s%s%s: %s", what, network, peer[0] != '\0' ? " " : "", peer,
                   explain(&c->n, code));
}

/* ---- sockets ------------------------------------------------------------ */

static int
get_option(int fd, int level, int name)
{
    int       value = 0;
    socklen_t length = sizeof value;

    return getsockopt(fd, level, name, &value, &length) == 0 ? value : -errno;
}

static void
set_option(int fd, int level, int name, int value)
{
    (void)setsockopt(fd, level, name, &value, sizeof value);
}

/* set_stream_options -- no delay for small writes; notice peers that vanished. */
static void
set_stream_options(int fd, int family)
{
    if (family == AF_UNIX)
        return;
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEPALIVE_COUNT);
}

static int
make_nonblocking(int fd)
{
    int flags = fcntl(fd, F_GETFL);

    if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0 ||
        fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
        return -errno;
    return 0;
}

/* ---- connections -------------------------------------------------------- */

static void
release_conn(struct rt_netfd *n)
{
    struct bh_conn *c = rt_container(n, struct bh_conn, n);

    c->magic = 0;
    if (c->peer_text != c->short_text)
        free(c->peer_text);
    free(c);
}

/* conn_make -- fd becomes a connection.  Returns: 0, or -errno; fd is then still the caller's. */
static int
conn_make(int fd, int family, int type, struct bh_conn **result)
{
    struct bh_conn *c = calloc(1, sizeof *c);
    int             error;

    if (c == NULL)
        return -ENOMEM;
    c->magic = CONN_MAGIC;
    c->n.fd = fd;
    c->n.family = (uint8_t)family;
    c->n.type = (uint8_t)type;
    c->n.release = release_conn;
    error = rt_netfd_init(&c->n);
    if (error != 0)
        free(c);
    else
        *result = c;
    return error;
}

static void
set_peer_text(struct bh_conn *c, const char *text)
{
    size_t size = strlen(text) + 1;

    c->peer_text = size <= sizeof c->short_text ? c->short_text : malloc(size);
    if (c->peer_text != NULL)
        memcpy(c->peer_text, text, size);
}

static void
set_peer(struct bh_conn *c, const struct rt_addr *a)
{
    char text[RT_ADDR_TEXT];

    rt_addr_text(a, text, sizeof text);
    set_peer_text(c, text);
}

/* set_accepted_peer -- the caller of a Unix socket has no address, but a process. */
static void
set_accepted_peer(struct bh_conn *c, const struct rt_addr *a)
{
    struct ucred who;
    socklen_t    size = sizeof who;
    char         text[RT_ADDR_TEXT];

    if (a->u.any.sa_family != AF_UNIX || a->length > offsetof(struct sockaddr_un, sun_path) ||
        getsockopt(c->n.fd, SOL_SOCKET, SO_PEERCRED, &who, &size) != 0) {
        set_peer(c, a);
        return;
    }
    (void)snprintf(text, sizeof text, "unix:pid=%d,uid=%u", (int)who.pid, (unsigned)who.uid);
    set_peer_text(c, text);
}

/* ask_peer -- from the kernel, for sockets that came connected. */
static void
ask_peer(struct bh_conn *c)
{
    struct rt_addr a = { .length = sizeof a.u };

    if (getpeername(c->n.fd, &a.u.any, &a.length) == 0)
        set_peer(c, &a);
}

int
bh_conn_new(int fd, struct bh_conn **conn)
{
    int type = get_option(fd, SOL_SOCKET, SO_TYPE);
    int family = 0, error;

    if (type == -ENOTSOCK)
        type = 0;
    else if (type >= 0)
        family = get_option(fd, SOL_SOCKET, SO_DOMAIN);
    error = type < 0 ? type : make_nonblocking(fd);
    if (error == 0)
        error = conn_make(fd, family, type, conn);
    if (error != 0)
        return bh_fail(error, "descriptor %d: %s", fd,
                       error == -EPERM ? "cannot be waited for" : bh_error_text(error));
    atomic_store_explicit(&(*conn)->n.exposed, true, memory_order_relaxed);
    ask_peer(*conn);
    return 0;
}

int
bh_pipe(struct bh_conn *ends[2])
{
    struct bh_conn *made[2] = { NULL, NULL };
    int             fds[2], error = 0;

    if (pipe2(fds, O_CLOEXEC | O_NONBLOCK) != 0) {
        error = -errno;
        return bh_fail(error, "pipe: %s", bh_error_text(error));
    }
    for (int i = 0; i < 2; i++) {
        int e = conn_make(fds[i], 0, 0, &made[i]);

        if (e != 0) {
            (void)close(fds[i]);
            error = e;
        }
    }
    if (error != 0) {
        bh_conn_free(made[0]);
        bh_conn_free(made[1]);
        return bh_fail(error, "pipe: %s", bh_error_text(error));
    }
    ends[0] = made[0];
    ends[1] = made[1];
    return 0;
}

void
bh_conn_close(struct bh_conn *c)
{
    rt_netfd_close(&check_conn(c)->n);
}

void
bh_conn_free(struct bh_conn *c)
{
    if (c == NULL)
        return;
    bh_conn_close(c);
    rt_netfd_unref(&c->n);
}

void
bh_conn_abort(struct bh_conn *c)
{
    struct linger now = { .l_onoff = 1, .l_linger = 0 };

    if (rt_netfd_begin(&check_conn(c)->n) != 0)
        return;
    if (c->n.type == SOCK_STREAM)
        (void)setsockopt(c->n.fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    rt_netfd_close(&c->n);
    rt_netfd_end(&c->n);
}

int
bh_conn_shutdown_write(struct bh_conn *c)
{
    int error = rt_netfd_begin(&check_conn(c)->n);

    if (error == 0) {
        error = shutdown(c->n.fd, SHUT_WR) == 0 ? 0 : -errno;
        rt_netfd_end(&c->n);
    }
    return error == 0 ? 0 : conn_fail(c, "shutdown", error);
}

int
bh_conn_fd(struct bh_conn *c)
{
    atomic_store_explicit(&check_conn(c)->n.exposed, true, memory_order_relaxed);
    return c->n.fd;
}

void
bh_conn_set_deadline(struct bh_conn *c, int64_t at_ns)
{
    rt_netfd_set_deadline(&check_conn(c)->n, 1u << RT_POLL_READ | 1u << RT_POLL_WRITE, at_ns);
}

void
bh_conn_set_read_deadline(struct bh_conn *c, int64_t at_ns)
{
    rt_netfd_set_deadline(&check_conn(c)->n, 1u << RT_POLL_READ, at_ns);
}

void
bh_conn_set_write_deadline(struct bh_conn *c, int64_t at_ns)
{
    rt_netfd_set_deadline(&check_conn(c)->n, 1u << RT_POLL_WRITE, at_ns);
}

void
bh_conn_set_write_timeout(struct bh_conn *c, int64_t ns)
{
    rt_netfd_set_write_timeout(&check_conn(c)->n, ns);
}

void
bh_conn_set_ctx(struct bh_conn *c, struct bh_ctx *ctx)
{
    rt_netfd_set_ctx(&check_conn(c)->n, ctx);
}

/* ---- names of ends ------------------------------------------------------ */

/* Of n, whose own lock is held: made once, and kept. */
static const char *
local_text(struct rt_netfd *n, char **kept)
{
    struct rt_addr a = { .length = sizeof a.u };
    char           text[RT_ADDR_TEXT];

    if (*kept == NULL && n->type != 0 && rt_netfd_begin(n) == 0) {
        if (getsockname(n->fd, &a.u.any, &a.length) == 0) {
            rt_addr_text(&a, text, sizeof text);
            *kept = strdup(text);
        }
        rt_netfd_end(n);
    }
    return *kept != NULL ? *kept : "";
}

const char *
bh_conn_local(struct bh_conn *c)
{
    struct rt_netfd_more *more = rt_netfd_more(&check_conn(c)->n);
    const char           *text;

    if (more == NULL)
        return "";
    bh_mutex_lock(&more->lock);
    text = local_text(&c->n, &more->local_text);
    bh_mutex_unlock(&more->lock);
    return text;
}

const char *
bh_conn_peer(struct bh_conn *c)
{
    return check_conn(c)->peer_text != NULL ? c->peer_text : "";
}

int
bh_conn_tcp(struct bh_conn *c, struct bh_conn_tcp *tcp)
{
    struct tcp_info info = { .tcpi_rtt = 0 };
    uint64_t        cookie = 0;
    socklen_t       size = sizeof info, cookie_size = sizeof cookie;
    int             rc = rt_netfd_begin(&check_conn(c)->n);

    if (rc != 0)
        return rc; /* its number may be another's by now */
    if (getsockopt(c->n.fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0)
        rc = -ENOTSUP;
    (void)getsockopt(c->n.fd, SOL_SOCKET, SO_COOKIE, &cookie, &cookie_size);
    rt_netfd_end(&c->n);
    if (rc != 0)
        return rc;
    *tcp = (struct bh_conn_tcp){
        .rtt_us = info.tcpi_rtt,
        .rtt_var_us = info.tcpi_rttvar,
        .rto_us = info.tcpi_rto,
        .retransmits = info.tcpi_total_retrans,
        .lost = info.tcpi_lost,
        .cookie = cookie,
    };
    return 0;
}

/* ---- reading and writing ------------------------------------------------ */

ssize_t
bh_read(struct bh_conn *c, void *buffer, size_t size)
{
    ssize_t got = rt_netfd_read(&check_conn(c)->n, buffer, size);

    return rt_likely(got >= 0) ? got : conn_fail(c, "read", (int)got);
}

ssize_t
bh_try_read(struct bh_conn *c, void *buffer, size_t size)
{
    ssize_t got = rt_netfd_try_read(&check_conn(c)->n, buffer, size);

    return got >= 0 || got == -EAGAIN ? got : conn_fail(c, "read", (int)got);
}

ssize_t
bh_readv(struct bh_conn *c, const struct iovec *iov, int count)
{
    ssize_t got = rt_netfd_readv(&check_conn(c)->n, iov, count);

    return rt_likely(got >= 0) ? got : conn_fail(c, "read", (int)got);
}

ssize_t
bh_read_full(struct bh_conn *c, void *buffer, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t got = bh_read(c, (char *)buffer + have, size - have);

        if (got < 0)
            return got;
        if (got == 0)
            return bh_fail(BH_EEOF, "read: end of stream after %zu of %zu bytes", have, size);
        have += (size_t)got;
    }
    return (ssize_t)size;
}

static int
write_fail(struct bh_conn *c, int error, size_t written)
{
    conn_fail(c, "write", error);
    if (written > 0)
        bh_fail(error, "%s (after %zu bytes)", bh_error_note(), written);
    return error;
}

ssize_t
bh_writev(struct bh_conn *c, const struct iovec *iov, int count)
{
    size_t written = 0;
    int    error = rt_netfd_writev(&check_conn(c)->n, iov, count, &written);

    return rt_likely(error == 0) ? (ssize_t)written : write_fail(c, error, written);
}

ssize_t
bh_write(struct bh_conn *c, const void *data, size_t size)
{
    size_t written = 0;
    int    error = rt_netfd_write(&check_conn(c)->n, data, size, &written);

    return rt_likely(error == 0) ? (ssize_t)written : write_fail(c, error, written);
}

ssize_t
bh_sendfile(struct bh_conn *c, int fd, int64_t offset, size_t size)
{
    size_t written = 0;
    int    error = rt_netfd_sendfile(&check_conn(c)->n, fd, offset, size, &written);

    return rt_likely(error == 0) ? (ssize_t)written : write_fail(c, error, written);
}

int
bh_conn_wait_readable(struct bh_conn *c)
{
    int error = rt_netfd_wait_readable(&check_conn(c)->n);

    return error == 0 ? 0 : conn_fail(c, "wait", error);
}

int
bh_conn_go_when_readable(struct bh_conn *c, const struct bh_go_options *o, bh_fn *fn, void *arg)
{
    int error = rt_netfd_go_when_readable(&check_conn(c)->n, o != NULL ? o->stack_size : 0, fn, arg);

    return error == 0 ? 0 : conn_fail(c, "wait", error);
}

void
bh_conn_set_hangup_ctx(struct bh_conn *c, struct bh_ctx *ctx, bool half)
{
    rt_netfd_set_hangup_ctx(&check_conn(c)->n, ctx, half);
}

/* ---- datagrams ---------------------------------------------------------- */

struct datagram {
    void          *data;
    size_t         size;
    struct rt_addr peer;
};

static ssize_t
call_recv_from(struct rt_netfd *n, void *arg)
{
    struct datagram *d = arg;
    ssize_t          got;

    d->peer.length = sizeof d->peer.u;
    got = recvfrom(n->fd, d->data, d->size, 0, &d->peer.u.any, &d->peer.length);
    return got < 0 ? -errno : got;
}

static ssize_t
call_send_to(struct rt_netfd *n, void *arg)
{
    struct datagram *d = arg;
    ssize_t          put = sendto(n->fd, d->data, d->size, MSG_NOSIGNAL, &d->peer.u.any,
                                  d->peer.length);

    return put < 0 ? -errno : put;
}

/* datagram_call -- one of the two, with its side's lock held. */
static ssize_t
datagram_call(struct rt_netfd *n, enum rt_poll_side side, rt_netfd_call *call,
              struct datagram *d)
{
    struct bh_mutex *lock = side == RT_POLL_READ ? &n->read_lock : &n->write_lock;
    ssize_t          result = rt_netfd_begin(n);

    if (result != 0)
        return result;
    bh_mutex_lock(lock);
    result = rt_netfd_do(n, side, call, d);
    bh_mutex_unlock(lock);
    rt_netfd_end(n);
    return result;
}

ssize_t
bh_recv_from(struct bh_conn *c, void *buffer, size_t size, char *peer, size_t peer_size)
{
    struct datagram d = { .data = buffer, .size = size };
    ssize_t         got = datagram_call(&check_conn(c)->n, RT_POLL_READ, call_recv_from, &d);

    if (got < 0)
        return conn_fail(c, "read", (int)got);
    if (peer_size > 0)
        rt_addr_text(&d.peer, peer, peer_size);
    return got;
}

/* map_to_v6 -- an IPv4 address, as a socket for both protocols wants it. */
static void
map_to_v6(struct rt_addr *a)
{
    struct rt_addr mapped = { .length = sizeof mapped.u.v6 };
    unsigned char *to = mapped.u.v6.sin6_addr.s6_addr;

    mapped.u.v6.sin6_family = AF_INET6;
    mapped.u.v6.sin6_port = a->u.v4.sin_port;
    to[10] = to[11] = 0xff;
    memcpy(to + 12, &a->u.v4.sin_addr, 4);
    *a = mapped;
}

ssize_t
bh_send_to(struct bh_conn *c, const void *data, size_t size, const char *peer)
{
    struct datagram d = { .data = (void *)(uintptr_t)data, .size = size };
    struct rt_addr  list[RT_ADDR_MAX];
    ssize_t         put;
    int             n = rt_addr_resolve(NULL, peer, (struct rt_want){ .type = SOCK_DGRAM }, list);

    check_conn(c);
    if (n < 0)
        return n;
    d.peer = list[0];
    if (c->n.family == AF_INET6 && d.peer.u.any.sa_family == AF_INET)
        map_to_v6(&d.peer);
    put = datagram_call(&c->n, RT_POLL_WRITE, call_send_to, &d);
    if (put < 0)
        return bh_fail((int)put, "write udp %s: %s", peer, explain(&c->n, (int)put));
    return put;
}

/* ---- listening ---------------------------------------------------------- */

static void
release_listener(struct rt_netfd *n)
{
    struct bh_listener *l = rt_container(n, struct bh_listener, n);

    l->magic = 0;
    free(l);
}

/* listener_make -- fd, listening, becomes a listener.  Returns: as conn_make. */
static int
listener_make(int fd, int family, struct bh_listener **result)
{
    struct bh_listener *l = calloc(1, sizeof *l);
    struct rt_addr      a = { .length = sizeof a.u };
    int                 error;

    if (l == NULL)
        return -ENOMEM;
    l->magic = LISTENER_MAGIC;
    l->n.fd = fd;
    l->n.family = (uint8_t)family;
    l->n.type = SOCK_STREAM;
    l->n.release = release_listener;
    error = rt_netfd_init(&l->n);
    if (error != 0) {
        free(l);
        return error;
    }
    if (getsockname(fd, &a.u.any, &a.length) == 0)
        rt_addr_text(&a, l->address, sizeof l->address);
    *result = l;
    return 0;
}

/* bind_to -- a socket bound to a.  Returns: descriptor or -errno. */
static int
bind_to(const struct rt_addr *a, int type)
{
    int family = a->u.any.sa_family;
    int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int error;

    if (fd < 0)
        return -errno;
    if (family == AF_INET6)
        set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY,
                   !IN6_IS_ADDR_UNSPECIFIED(&a->u.v6.sin6_addr));
    if (type == SOCK_STREAM && family != AF_UNIX)
        set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    if (bind(fd, &a->u.any, a->length) == 0)
        return fd;
    error = -errno;
    (void)close(fd);
    return error;
}

/* bind_first -- to the first address that is to be had, IPv4 before IPv6 but for [::]. */
static int
bind_first(const struct rt_addr *list, int count, int type)
{
    int fd = -EADDRNOTAVAIL;

    for (int i = 0; i < count; i++) {
        fd = bind_to(&list[i], type);
        if (fd >= 0 || (fd != -EAFNOSUPPORT && fd != -EADDRNOTAVAIL))
            break;
    }
    return fd;
}

/* is_stale -- does a socket file exist to which nobody listens? */
static bool
is_stale(const struct rt_addr *a)
{
    int  fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool stale;

    if (fd < 0)
        return false;
    stale = connect(fd, &a->u.any, a->length) != 0 && errno == ECONNREFUSED;
    (void)close(fd);
    return stale;
}

static int
listen_fail(const char *address, const struct rt_addr *a, int error)
{
    if (error == -EADDRINUSE && a->u.any.sa_family == AF_UNIX && is_stale(a))
        return bh_fail(error, "listen %s: the socket file is left over from a process that is "
                              "gone; remove it", address);
    return bh_fail(error, "listen %s: %s", address, bh_error_text(error));
}

int
bh_listen(const char *address, struct bh_listener **listener)
{
    struct rt_addr list[RT_ADDR_MAX];
    int            fd, family, error;
    int            n = rt_addr_resolve(NULL, address,
                                       (struct rt_want){ SOCK_STREAM, .passive = true }, list);

    if (n < 0)
        return n;
    fd = bind_first(list, n, SOCK_STREAM);
    if (fd < 0)
        return listen_fail(address, &list[0], fd);
    family = get_option(fd, SOL_SOCKET, SO_DOMAIN);
    set_stream_options(fd, family);
    error = listen(fd, BACKLOG) == 0 ? 0 : -errno;
    if (error == 0)
        error = listener_make(fd, family, listener);
    if (error != 0) {
        (void)close(fd);
        return listen_fail(address, &list[0], error);
    }
    if (family == AF_UNIX && list[0].u.un.sun_path[0] != '\0') {
        struct rt_netfd_more *more = rt_netfd_more(&(*listener)->n);

        if (more != NULL)
            more->unlink_path = strdup(list[0].u.un.sun_path);
    }
    return 0;
}

int
bh_listen_fd(int fd, struct bh_listener **listener)
{
    int listening = get_option(fd, SOL_SOCKET, SO_ACCEPTCONN);
    int error = listening < 0 ? listening : listening == 0 ? -EINVAL : make_nonblocking(fd);

    if (error == 0)
        error = listener_make(fd, get_option(fd, SOL_SOCKET, SO_DOMAIN), listener);
    if (error != 0)
        return bh_fail(error, "listen on descriptor %d: %s", fd, bh_error_text(error));
    return 0;
}

/* is_passing -- errors of one connection, gone before it was accepted.  See: accept(2). */
static bool
is_passing(int error)
{
    return error == -ECONNABORTED || error == -EPROTO || error == -ENETDOWN ||
           error == -ENOPROTOOPT || error == -EHOSTDOWN || error == -ENONET ||
           error == -EHOSTUNREACH || error == -EOPNOTSUPP || error == -ENETUNREACH;
}

static ssize_t
call_accept(struct rt_netfd *n, void *arg)
{
    struct rt_addr *peer = arg;
    int             fd;

    peer->length = sizeof peer->u;
    fd = accept4(n->fd, &peer->u.any, &peer->length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0)
        return fd;
    return is_passing(-errno) ? -EINTR : -errno;
}

int
bh_accept(struct bh_listener *l, struct bh_conn **conn)
{
    struct rt_addr peer;
    ssize_t        fd = rt_netfd_begin(&check_listener(l)->n);
    int            error;

    if (fd == 0) {
        bh_mutex_lock(&l->n.read_lock);
        fd = rt_netfd_do(&l->n, RT_POLL_READ, call_accept, &peer);
        bh_mutex_unlock(&l->n.read_lock);
        rt_netfd_end(&l->n);
    }
    if (fd < 0)
        return bh_fail((int)fd, "accept %s: %s", l->address, explain(&l->n, (int)fd));
    error = conn_make((int)fd, l->n.family, SOCK_STREAM, conn);
    if (error != 0) {
        (void)close((int)fd);
        return bh_fail(error, "accept %s: %s", l->address, bh_error_text(error));
    }
    set_accepted_peer(*conn, &peer);
    return 0;
}

const char *
bh_listener_address(struct bh_listener *l)
{
    return check_listener(l)->address;
}

int
bh_listener_fd(struct bh_listener *l)
{
    return check_listener(l)->n.fd;
}

void
bh_listener_set_deadline(struct bh_listener *l, int64_t at_ns)
{
    rt_netfd_set_deadline(&check_listener(l)->n, 1u << RT_POLL_READ, at_ns);
}

void
bh_listener_close(struct bh_listener *l)
{
    rt_netfd_close(&check_listener(l)->n);
}

void
bh_listener_free(struct bh_listener *l)
{
    if (l == NULL)
        return;
    bh_listener_close(l);
    rt_netfd_unref(&l->n);
}

/* ---- dialling ----------------------------------------------------------- */

/*
 * connect_result -- whether a connect in progress is over.
 * Returns: 0, its error, or -EAGAIN: an edge that meant something else.
 */
static ssize_t
call_connect_result(struct rt_netfd *n, void *arg)
{
    struct rt_addr a = { .length = sizeof a.u };
    int            error = get_option(n->fd, SOL_SOCKET, SO_ERROR);

    (void)arg;
    if (error != 0)
        return error < 0 ? error : -error;
    if (getpeername(n->fd, &a.u.any, &a.length) == 0)
        return 0;
    return errno == ENOTCONN ? -EAGAIN : -errno;
}

/* to_itself -- a port of this machine, dialled while nobody listens, may connect to itself. */
static bool
to_itself(int fd, const struct rt_addr *a)
{
    struct rt_addr local = { .length = sizeof local.u };

    if (a->u.any.sa_family == AF_UNIX || getsockname(fd, &local.u.any, &local.length) != 0)
        return false;
    if (a->u.any.sa_family == AF_INET)
        return local.u.v4.sin_port == a->u.v4.sin_port &&
               local.u.v4.sin_addr.s_addr == a->u.v4.sin_addr.s_addr;
    return local.u.v6.sin6_port == a->u.v6.sin6_port &&
           memcmp(&local.u.v6.sin6_addr, &a->u.v6.sin6_addr, sizeof a->u.v6.sin6_addr) == 0;
}

/* dial_wait -- wait for a connect in progress. */
static int
dial_wait(struct bh_ctx *ctx, struct bh_conn *c)
{
    ssize_t error;

    if (rt_netfd_more(&c->n) == NULL) /* whose panic below would leave c behind */
        return -ENOMEM;
    rt_netfd_set_ctx(&c->n, ctx);
    error = rt_netfd_do(&c->n, RT_POLL_WRITE, call_connect_result, NULL);
    rt_netfd_set_ctx(&c->n, NULL);
    return (int)error;
}

/* dial_one -- Returns: 0 or a code, without a note. */
static int
dial_one(struct bh_ctx *ctx, const struct rt_addr *a, int type, struct bh_conn **conn)
{
    int             family = a->u.any.sa_family;
    int             fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int             error;
    bool            pending = false;
    struct bh_conn *c = NULL;

    if (fd < 0)
        return -errno;
    /* Watched only from here on: epoll calls a socket that never connected hung up. */
    error = connect(fd, &a->u.any, a->length) == 0 ? 0 : -errno;
    if (error == -EINPROGRESS || error == -EINTR) {
        pending = true;
        error = 0;
    }
    if (error == 0)
        error = conn_make(fd, family, type, &c);
    if (error != 0) {
        (void)close(fd);
        return error;
    }
    if (pending)
        error = dial_wait(ctx, c);
    if (error == 0 && type == SOCK_STREAM && to_itself(fd, a))
        error = -ECONNREFUSED;
    if (error != 0) {
        bh_conn_free(c);
        return error;
    }
    if (type == SOCK_STREAM)
        set_stream_options(fd, family);
    set_peer(c, a);
    *conn = c;
    return 0;
}

static int
dial(struct bh_ctx *ctx, const char *address, int type, struct bh_conn **conn)
{
    struct rt_addr list[RT_ADDR_MAX];
    char           text[RT_ADDR_TEXT];
    int            first = 0, failed = 0;
    int            n = rt_addr_resolve(ctx, address, (struct rt_want){ .type = type }, list);

    if (n < 0)
        return n;
    for (int i = 0; i < n; i++) {
        int error = ctx != NULL ? bh_ctx_err(ctx) : 0;

        if (error == 0)
            error = dial_one(ctx, &list[i], type, conn);
        if (error == 0)
            return 0;
        if (first == 0) {
            first = error;
            failed = i;
        }
        if (ctx != NULL && bh_ctx_err(ctx) != 0) {
            first = bh_ctx_err(ctx);
            break;
        }
    }
    rt_addr_text(&list[failed], text, sizeof text);
    return bh_fail(first, "dial %s %s: %s", rt_addr_network(list[0].u.any.sa_family, type), text,
                   bh_error_text(first));
}

int
bh_dial(struct bh_ctx *ctx, const char *address, struct bh_conn **conn)
{
    return dial(ctx, address, SOCK_STREAM, conn);
}

int
bh_dial_packet(const char *address, struct bh_conn **conn)
{
    return dial(NULL, address, SOCK_DGRAM, conn);
}

int
bh_listen_packet(const char *address, struct bh_conn **conn)
{
    struct rt_addr list[RT_ADDR_MAX];
    int            fd, error;
    int            n = rt_addr_resolve(NULL, address,
                                       (struct rt_want){ SOCK_DGRAM, .passive = true }, list);

    if (n < 0)
        return n;
    fd = bind_first(list, n, SOCK_DGRAM);
    if (fd < 0)
        return listen_fail(address, &list[0], fd);
    error = conn_make(fd, get_option(fd, SOL_SOCKET, SO_DOMAIN), SOCK_DGRAM, conn);
    if (error != 0) {
        (void)close(fd);
        return listen_fail(address, &list[0], error);
    }
    return 0;
}
