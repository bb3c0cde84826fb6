/*
 * rate.c -- how long replies take at a constant rate of requests.
 *
 *     rate PORT PATH REQUESTS_PER_SECOND SECONDS CONNECTIONS
 *
 * Requests are due at fixed times, shared by the connections in turn, and a reply's time
 * counts from when its request was due, whether or not the connection was free then: a server
 * that stalls pays for all that should have come meanwhile.  Busy, so that timers add nothing.
 * Prints, tab-separated, microseconds: median, 99 %, 99.9 %, maximum.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { MAX_CONNECTIONS = 1024, WARM_UP_MS = 500 };

struct connection {
    int     fd;
    bool    busy;
    int64_t due;  /* of the request that is out, or of the next */
    size_t  got;  /* bytes of the reply */
    size_t  want; /* bytes of a whole one; 0: not known yet */
    char    head[4096];
};

static struct connection connections[MAX_CONNECTIONS];
static char              request[512];
static size_t            request_size;
static int64_t          *times;
static size_t            time_count, time_room;

static int64_t
now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void
die(const char *what)
{
    fprintf(stderr, "rate: %s: %s\n", what, strerror(errno));
    exit(1);
}

static void
open_connection(struct connection *c, int epoll, int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
    int                on = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&a, sizeof a) < 0)
        die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &e) < 0)
        die("epoll_ctl");
}

static void
ask(struct connection *c)
{
    if (send(c->fd, request, request_size, MSG_NOSIGNAL) != (ssize_t)request_size)
        die("send");
    c->busy = true;
    c->got = 0;
}

/* The first reply says how long each of them is.  Returns: whether this one is whole. */
static bool
take(struct connection *c)
{
    ssize_t n =
        recv(c->fd, c->head + (c->want == 0 ? c->got : 0), sizeof c->head - 1 - c->got, 0);
    char *end, *length;

    if (n <= 0)
        die("the server closed");
    c->got += (size_t)n;
    if (c->want == 0) {
        c->head[c->got] = '\0';
        end = strstr(c->head, "\r\n\r\n");
        length = strcasestr(c->head, "content-length: ");
        if (end == NULL || length == NULL || strncmp(c->head + 9, "200", 3) != 0)
            die("reply");
        c->want = (size_t)(end + 4 - c->head) + strtoul(length + 16, NULL, 10);
    }
    return c->got >= c->want;
}

static void
note(int64_t ns)
{
    if (time_count < time_room)
        times[time_count++] = ns;
}

static void
run(int epoll, int count, int64_t each, int64_t begun, int64_t until)
{
    struct epoll_event events[64];
    int64_t            measured = begun + WARM_UP_MS * INT64_C(1000000);

    for (int i = 0; i < count; i++)
        connections[i].due = begun + each * i / count;
    for (int64_t at = now(); at < until; at = now()) {
        int n = epoll_wait(epoll, events, 64, 0);

        at = now();
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;

            if (!take(c))
                continue;
            if (c->due >= measured)
                note(at - c->due);
            c->busy = false;
            c->due += each;
        }
        for (int i = 0; i < count; i++)
            if (!connections[i].busy && connections[i].due <= at)
                ask(&connections[i]);
    }
}

static int
by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static double
percentile(double part)
{
    return (double)times[(size_t)(part * (double)(time_count - 1))] / 1000;
}

int
main(int argc, char **argv)
{
    int     port, rate, seconds, count, epoll = epoll_create1(EPOLL_CLOEXEC);
    int64_t begun;

    if (argc != 6) {
        fprintf(stderr, "usage: rate PORT PATH REQUESTS_PER_SECOND SECONDS CONNECTIONS\n");
        return 2;
    }
    port = (int)strtol(argv[1], NULL, 10);
    rate = (int)strtol(argv[3], NULL, 10);
    seconds = (int)strtol(argv[4], NULL, 10);
    count = (int)strtol(argv[5], NULL, 10);
    if (rate < 1 || count < 1 || count > MAX_CONNECTIONS || seconds < 1)
        return 2;
    request_size = (size_t)snprintf(request, sizeof request,
                                    "GET %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", argv[2]);
    time_room = (size_t)rate * (size_t)(seconds + 1);
    times = calloc(time_room, sizeof *times);
    if (times == NULL)
        die("memory");
    for (int i = 0; i < count; i++)
        open_connection(&connections[i], epoll, port);
    begun = now() + 1000000;
    run(epoll, count, INT64_C(1000000000) * count / rate, begun,
        begun + seconds * INT64_C(1000000000));
    if (time_count == 0)
        die("no replies");
    qsort(times, time_count, sizeof *times, by_size);
    printf("%.1f\t%.1f\t%.1f\t%.1f\n", percentile(0.5), percentile(0.99), percentile(0.999),
           percentile(1));
    return 0;
}
