/*
 * floor.c -- what the kernel alone costs: one loop, one receive and one send per request.
 *
 *     floor PORT
 *
 * Nothing is parsed: whatever arrives is one request.  Edge-triggered, one thread,
 * so that a request costs two system calls and a share of epoll_wait.
 */

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 128 };

/* As long as ours. */
static const char reply[] = "HTTP/1.1 200 OK\r\nDate: Wed, 25 Nov 2026 10:31:07 GMT\r\n"
                            "Content-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";

static int
listen_on(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4096) < 0) {
        perror("floor");
        exit(1);
    }
    return fd;
}

static void
watch(int epoll, int fd, uint32_t events)
{
    struct epoll_event e = { .events = events, .data.fd = fd };

    if (epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0)
        close(fd);
}

static void
answer(int fd)
{
    char    buffer[4096];
    ssize_t n = recv(fd, buffer, sizeof buffer, 0);

    if (n == 0 || (n > 0 && send(fd, reply, sizeof reply - 1, MSG_NOSIGNAL) < 0))
        close(fd);
}

int
main(int argc, char **argv)
{
    struct epoll_event events[EVENTS];
    int                listener = listen_on(argc > 1 ? (int)strtol(argv[1], NULL, 10) : 8080);
    int                epoll = epoll_create1(EPOLL_CLOEXEC);

    watch(epoll, listener, EPOLLIN);
    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS, -1);

        for (int i = 0; i < n; i++) {
            int fd = events[i].data.fd;

            if (fd != listener)
                answer(fd);
            else if ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0)
                watch(epoll, fd, EPOLLIN | EPOLLRDHUP | EPOLLET);
        }
    }
}
