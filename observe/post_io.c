/*
 * post_io.c -- sockets that do not block, waited for with poll(2) until a deadline; TLS over them.
 *
 * SIGPIPE: plain writes say MSG_NOSIGNAL; OpenSSL's cannot, so whoever uses https blocks the
 * signal on its thread, as the exporter does.
 */

#include "post_io.h"

#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static int64_t
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Wait until the socket is ready for events.  Returns: 0, -ETIMEDOUT, -ECANCELED. */
static int
wait_for(struct ob_post *p, short events)
{
    for (;;) {
        struct pollfd fds[2] = { { .fd = p->fd, .events = events },
                                 { .fd = p->cancel, .events = POLLIN } };
        int64_t       left = p->deadline - now();
        if (left <= 0)
            return -ETIMEDOUT;
        int64_t ms = (left + 999999) / 1000000;
        int     n = poll(fds, 2, ms < INT_MAX ? (int)ms : INT_MAX);
        if (n < 0 && errno != EINTR)
            return -errno;
        if (n > 0 && fds[1].revents != 0)
            return -ECANCELED;
        if (n > 0)
            return 0;
    }
}

/* After an SSL_ call that returned n <= 0.  Returns: 0 to try again, or an error. */
static int
wait_tls(struct ob_post *p, int n)
{
    int saved = errno;

    switch (SSL_get_error(p->ssl, n)) {
    case SSL_ERROR_WANT_READ:
        return wait_for(p, POLLIN);
    case SSL_ERROR_WANT_WRITE:
        return wait_for(p, POLLOUT);
    case SSL_ERROR_ZERO_RETURN:
        return -ENODATA;
    case SSL_ERROR_SYSCALL:
        return saved != 0 ? -saved : -ENODATA;
    default:
        return -EPROTO;
    }
}

static int
dial(struct ob_post *p, const struct addrinfo *a)
{
    int       error = 0;
    socklen_t size = sizeof error;

    p->fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC | SOCK_NONBLOCK, a->ai_protocol);
    if (p->fd < 0)
        return -errno;
    if (connect(p->fd, a->ai_addr, a->ai_addrlen) < 0) {
        if (errno != EINPROGRESS)
            return -errno;
        int rc = wait_for(p, POLLOUT);
        if (rc < 0)
            return rc;
        if (getsockopt(p->fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
            return -errno;
    }
    (void)setsockopt(p->fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
    return -error;
}

/* The peer proves that it is the host of the URL. */
static int
begin_tls(struct ob_post *p, const struct ob_post_target *t)
{
    unsigned char address[sizeof(struct in6_addr)];

    ERR_clear_error();
    p->ssl = SSL_new(t->tls);
    if (p->ssl == NULL || SSL_set_fd(p->ssl, p->fd) != 1)
        return -ENOMEM;
    bool literal =
        inet_pton(AF_INET, t->host, address) == 1 || inet_pton(AF_INET6, t->host, address) == 1;
    int ok = literal
                 ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(p->ssl), t->host)
                 : SSL_set1_host(p->ssl, t->host) && SSL_set_tlsext_host_name(p->ssl, t->host);
    if (ok != 1)
        return -ENOMEM;
    for (;;) {
        errno = 0;
        int n = SSL_connect(p->ssl);
        if (n == 1)
            return 0;
        int rc = wait_tls(p, n);
        if (rc < 0)
            return rc;
        ERR_clear_error();
    }
}

int
ob_post_connect(struct ob_post *p, const struct ob_post_target *target)
{
    struct addrinfo *list, hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_ADDRCONFIG };
    int64_t          deadline = p->deadline;

    if (target->loopback)
        hints.ai_flags = 0; /* also where there is no other network */
    if (getaddrinfo(target->host, target->port, &hints, &list) != 0)
        return -EHOSTUNREACH;
    int rc = -EHOSTUNREACH, count = 0;
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next)
        count++;
    for (const struct addrinfo *a = list; a != NULL; a = a->ai_next, count--) {
        /* An address that swallows everything leaves time for the next one. */
        p->deadline = now() + (deadline - now()) / count;
        rc = dial(p, a);
        p->deadline = deadline;
        if (rc == 0 && target->tls != NULL)
            rc = begin_tls(p, target);
        if (rc == 0 || rc == -ECANCELED)
            break;
        ob_post_close(p);
    }
    freeaddrinfo(list);
    if (rc < 0)
        ob_post_close(p);
    p->target = target;
    return rc;
}

bool
ob_post_stale(struct ob_post *p)
{
    struct pollfd fd = { .fd = p->fd, .events = POLLIN };

    /* TLS may have sent a session ticket: only reading would tell it from an end. */
    if (poll(&fd, 1, 0) == 0)
        return false;
    return p->ssl == NULL || (fd.revents & (POLLHUP | POLLERR)) != 0;
}

int
ob_post_write(struct ob_post *p, const void *data, size_t size, bool more)
{
    const char *from = data;

    while (size > 0) {
        int rc;
        if (p->ssl != NULL) {
            size_t n;
            errno = 0;
            ERR_clear_error();
            if (SSL_write_ex(p->ssl, from, size, &n) == 1) {
                from += n;
                size -= n;
                continue;
            }
            rc = wait_tls(p, 0);
        } else {
            ssize_t n = send(p->fd, from, size, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
            if (n >= 0) {
                from += n;
                size -= (size_t)n;
                continue;
            }
            rc = errno == EAGAIN ? wait_for(p, POLLOUT) : errno == EINTR ? 0 : -errno;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

int
ob_post_fill(struct ob_post *p)
{
    for (;;) {
        int rc = now() < p->deadline ? 0 : -ETIMEDOUT; /* a peer that is never silent, too */

        if (rc < 0)
            return rc;
        if (p->ssl != NULL) {
            size_t n;
            errno = 0;
            ERR_clear_error();
            if (SSL_read_ex(p->ssl, p->buffer, sizeof p->buffer, &n) == 1) {
                p->at = 0;
                p->end = n;
                return 0;
            }
            rc = wait_tls(p, 0);
        } else {
            ssize_t n = recv(p->fd, p->buffer, sizeof p->buffer, 0);
            if (n > 0) {
                p->at = 0;
                p->end = (size_t)n;
                return 0;
            }
            rc = n == 0            ? -ENODATA
                 : errno == EAGAIN ? wait_for(p, POLLIN)
                 : errno == EINTR  ? 0
                                   : -errno;
        }
        if (rc < 0)
            return rc;
    }
}

void
ob_post_init(struct ob_post *p, int cancel)
{
    *p = (struct ob_post){ .fd = -1, .cancel = cancel };
}

void
ob_post_close(struct ob_post *p)
{
    SSL_free(p->ssl);
    p->ssl = NULL;
    if (p->fd >= 0)
        close(p->fd);
    p->fd = -1;
    p->at = p->end = 0;
}
