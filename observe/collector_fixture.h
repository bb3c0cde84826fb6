#ifndef BULKHEAD_OBSERVE_COLLECTOR_FIXTURE_H
#define BULKHEAD_OBSERVE_COLLECTOR_FIXTURE_H

/*
 * collector_fixture.h -- a collector for tests, on a thread of its own, that behaves as it is told.
 *
 *     struct collector c;
 *     collector_start(&c);
 *     BH_DEFER(collector_stop, &c);
 *     c.mode = COLLECTOR_UNAVAILABLE;
 *
 * It reads each request whole, keeps the last one, counts its items, and answers by mode.
 */

#include <arpa/inet.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum collector_mode {
    COLLECTOR_OK,
    COLLECTOR_PARTIAL,     /* 200, two items rejected */
    COLLECTOR_UNAVAILABLE, /* 503 */
    COLLECTOR_LATER,       /* 429, Retry-After: 1 */
    COLLECTOR_INVALID,     /* 400 */
    COLLECTOR_EMPTY,       /* closes without an answer */
    COLLECTOR_HANGS,       /* never answers */
    COLLECTOR_DRIPS,       /* a byte of the first line every 20 ms, for ever */
    COLLECTOR_NOISE,       /* answers with what is no HTTP */
    COLLECTOR_CHUNKED,     /* 200 in chunks */
    COLLECTOR_CLOSES,      /* 200, Connection: close */
};

enum { COLLECTOR_PEERS = 8, COLLECTOR_ROOM = 2 << 20 };

struct collector_peer {
    int    fd;
    bool   dripping;
    char  *data; /* COLLECTOR_ROOM */
    size_t length;
};

struct collector {
    int                   listener, stop;
    uint16_t              port;
    char                  url[64];
    pthread_t             thread;
    _Atomic int           mode;
    _Atomic unsigned      fail_first; /* so many answers are 503, whatever the mode */
    _Atomic unsigned      requests, connections;
    _Atomic uint64_t      items;
    _Atomic uint64_t      bytes;
    struct collector_peer peer[COLLECTOR_PEERS];

    pthread_mutex_t lock; /* the last request */
    char            head[8192];
    uint8_t        *body; /* COLLECTOR_ROOM */
    size_t          body_size;
};

static inline bool
collector_varint(const uint8_t **p, const uint8_t *end, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; *p < end && shift < 64; shift += 7) {
        uint8_t byte = *(*p)++;
        *v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* How many fields 1.2.2 there are: spans, log records, metrics. */
static inline uint64_t
collector_items(const uint8_t *p, size_t size, int depth)
{
    const uint8_t *end = p + size;
    uint64_t       tag, length, count = 0;

    while (p < end && collector_varint(&p, end, &tag) && (tag & 7) == 2 &&
           collector_varint(&p, end, &length) && length <= (uint64_t)(end - p)) {
        if (tag >> 3 == (depth == 0 ? 1 : 2))
            count += depth == 2 ? 1 : collector_items(p, length, depth + 1);
        p += length;
    }
    return count;
}

static inline void
collector_answer(struct collector *c, struct collector_peer *p)
{
    static const char *const answers[] = {
        [COLLECTOR_OK] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        [COLLECTOR_PARTIAL] = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x0a\x02\x08\x02",
        [COLLECTOR_UNAVAILABLE] =
            "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 2\r\n\r\nno",
        [COLLECTOR_LATER] = "HTTP/1.1 429 Slow\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n",
        [COLLECTOR_INVALID] = "HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n",
        [COLLECTOR_NOISE] = "220 mail.example.com ESMTP\r\n\r\n",
        [COLLECTOR_CHUNKED] = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
                              "2\r\n\x0a\x02\r\n2;x=y\r\n\x08\x01\r\n0\r\nX: y\r\n\r\n",
        [COLLECTOR_CLOSES] =
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
    };
    int         mode = c->mode;
    const char *text;

    if (c->fail_first > 0) {
        c->fail_first--;
        mode = COLLECTOR_UNAVAILABLE;
    }
    text = answers[mode];
    if (mode == COLLECTOR_DRIPS)
        p->dripping = true;
    if (text != NULL)
        (void)!send(p->fd, text, strlen(text), MSG_NOSIGNAL);
    if (mode == COLLECTOR_EMPTY || mode == COLLECTOR_CLOSES)
        shutdown(p->fd, SHUT_RDWR);
}

/* A whole request? */
static inline void
collector_look(struct collector *c, struct collector_peer *p)
{
    char *end = memmem(p->data, p->length, "\r\n\r\n", 4), *field;

    if (end == NULL)
        return;
    size_t head = (size_t)(end - p->data) + 4;
    field = memmem(p->data, head, "Content-Length: ", 16);
    size_t size = field != NULL ? strtoul(field + 16, NULL, 10) : 0;
    if (p->length < head + size)
        return;
    pthread_mutex_lock(&c->lock);
    memcpy(c->head, p->data, head < sizeof c->head ? head : sizeof c->head - 1);
    c->head[head < sizeof c->head ? head : sizeof c->head - 1] = '\0';
    memcpy(c->body, p->data + head, size);
    c->body_size = size;
    pthread_mutex_unlock(&c->lock);
    c->requests++;
    c->bytes += size;
    if (c->mode == COLLECTOR_OK && c->fail_first == 0)
        c->items += collector_items(c->body, size, 0);
    p->length = 0;
    collector_answer(c, p);
}

static inline void
collector_read(struct collector *c, struct collector_peer *p)
{
    ssize_t n = recv(p->fd, p->data + p->length, COLLECTOR_ROOM - p->length, 0);

    if (n <= 0) {
        close(p->fd);
        p->fd = -1;
        p->length = 0;
        p->dripping = false;
        return;
    }
    p->length += (size_t)n;
    collector_look(c, p);
}

static inline void
collector_accept(struct collector *c)
{
    int fd = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);

    c->connections++;
    for (int i = 0; i < COLLECTOR_PEERS; i++) {
        if (c->peer[i].fd < 0) {
            c->peer[i].fd = fd;
            return;
        }
    }
    close(fd);
}

static inline void *
collector_run(void *arg)
{
    struct collector *c = arg;

    for (;;) {
        struct pollfd fds[COLLECTOR_PEERS + 2] = { { .fd = c->stop, .events = POLLIN },
                                                   { .fd = c->listener, .events = POLLIN } };
        for (int i = 0; i < COLLECTOR_PEERS; i++)
            fds[i + 2] = (struct pollfd){ .fd = c->peer[i].fd, .events = POLLIN };
        poll(fds, COLLECTOR_PEERS + 2, 20);
        if (fds[0].revents != 0)
            return NULL;
        for (int i = 0; i < COLLECTOR_PEERS; i++) {
            if (fds[i + 2].revents != 0)
                collector_read(c, &c->peer[i]);
            else if (c->peer[i].dripping)
                (void)!send(c->peer[i].fd, "y", 1, MSG_NOSIGNAL);
        }
        if (fds[1].revents != 0)
            collector_accept(c);
    }
}

static inline void
collector_start(struct collector *c)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t          size = sizeof a;

    memset(c, 0, sizeof *c);
    c->stop = eventfd(0, EFD_CLOEXEC);
    c->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(c->listener, (struct sockaddr *)&a, sizeof a) < 0 || listen(c->listener, 16) < 0 ||
        getsockname(c->listener, (struct sockaddr *)&a, &size) < 0)
        abort();
    c->port = ntohs(a.sin_port);
    snprintf(c->url, sizeof c->url, "http://127.0.0.1:%u", c->port);
    c->body = malloc(COLLECTOR_ROOM);
    for (int i = 0; i < COLLECTOR_PEERS; i++)
        c->peer[i] = (struct collector_peer){ .fd = -1, .data = malloc(COLLECTOR_ROOM) };
    pthread_mutex_init(&c->lock, NULL);
    pthread_create(&c->thread, NULL, collector_run, c);
}

static inline void
collector_stop(void *arg)
{
    struct collector *c = arg;

    (void)!write(c->stop, &(uint64_t){ 1 }, sizeof(uint64_t));
    pthread_join(c->thread, NULL);
    for (int i = 0; i < COLLECTOR_PEERS; i++) {
        if (c->peer[i].fd >= 0)
            close(c->peer[i].fd);
        free(c->peer[i].data);
    }
    free(c->body);
    close(c->listener);
    close(c->stop);
}

#endif
