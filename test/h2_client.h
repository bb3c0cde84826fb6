#ifndef BULKHEAD_TEST_H2_CLIENT_H
#define BULKHEAD_TEST_H2_CLIENT_H

/*
 * h2_client.h -- for tests of HTTP/2: a client that sends the frames it is told to, right or
 * wrong.  It writes header fields as plain literals, and reads them with libnghttp2's HPACK.
 */

#include <nghttp2/nghttp2.h>

#include "http_fixture.h"

enum {
    DATA,
    HEADERS,
    PRIORITY,
    RST_STREAM,
    SETTINGS,
    PUSH_PROMISE,
    PING,
    GOAWAY,
    WINDOW_UPDATE,
    CONTINUATION,
    END_STREAM = 1,
    ACK = 1,
    END_HEADERS = 4,
    CLOSED = -1, /* a frame's type when the server has closed */
    H2_BLOCK = 1 << 17,
};

struct h2_frame {
    int      type, flags;
    uint32_t id, size;
    uint8_t  payload[H2_BLOCK];
};

struct h2_client {
    struct bh_conn      *c;
    nghttp2_hd_inflater *inflater;
    struct h2_frame      f; /* the latest */
};

/* What has come on one stream. */
struct h2_reply {
    int    status, interim; /* 0: none */
    int    reset;           /* code of RST_STREAM, or -1 */
    int    goaway;          /* code of a GOAWAY that came meanwhile, or -1 */
    bool   ended, closed;   /* END_STREAM; the connection has been closed */
    size_t frames, size;    /* DATA frames, bytes in them */
    char   fields[4096];    /* "name: value\n" */
    char   trailers[1024];
    char   body[2048]; /* its beginning */
};

FIXTURE void
h2_put32(uint8_t *to, uint32_t number)
{
    for (int i = 0; i < 4; i++)
        to[i] = (uint8_t)(number >> (24 - 8 * i));
}

FIXTURE uint32_t
h2_get32(const uint8_t *from)
{
    return (uint32_t)from[0] << 24 | (uint32_t)from[1] << 16 | (uint32_t)from[2] << 8 | from[3];
}

/* A frame into memory.  Returns: behind it. */
FIXTURE uint8_t *
h2_make(uint8_t *to, int type, int flags, uint32_t id, const void *payload, size_t size)
{
    h2_put32(to, (uint32_t)size << 8 | (uint32_t)type);
    to[4] = (uint8_t)flags;
    h2_put32(to + 5, id);
    if (size > 0)
        memcpy(to + 9, payload, size);
    return to + 9 + size;
}

/* Returns: whether the server took it. */
FIXTURE bool
h2_send(struct h2_client *h, int type, int flags, uint32_t id, const void *payload, size_t size)
{
    static uint8_t frame[H2_BLOCK + 9];
    size_t         whole = (size_t)(h2_make(frame, type, flags, id, payload, size) - frame);

    return bh_write(h->c, frame, whole) == (ssize_t)whole;
}

FIXTURE void
h2_send32(struct h2_client *h, int type, uint32_t id, uint32_t number)
{
    uint8_t payload[4];

    h2_put32(payload, number);
    (void)h2_send(h, type, 0, id, payload, 4);
}

/* One field, as a literal that is not indexed.  Returns: behind it. */
FIXTURE uint8_t *
h2_literal(uint8_t *to, const char *text, size_t size)
{
    if (size < 127) {
        *to++ = (uint8_t)size;
    } else {
        size_t left = size - 127;

        *to++ = 127;
        for (; left >= 128; left >>= 7)
            *to++ = (uint8_t)(left | 128);
        *to++ = (uint8_t)left;
    }
    memcpy(to, text, size);
    return to + size;
}

/* "name: value\n" lines, of which a name may begin with a colon.  Returns: the block's size. */
FIXTURE size_t
h2_block(uint8_t *to, const char *lines)
{
    uint8_t *at = to;

    while (*lines != '\0') {
        const char *colon = strstr(lines + 1, ": "), *end = strchr(lines, '\n');

        EXPECT(colon != NULL && end != NULL && colon < end);
        *at++ = 0;
        at = h2_literal(at, lines, (size_t)(colon - lines));
        at = h2_literal(at, colon + 2, (size_t)(end - colon - 2));
        lines = end + 1;
    }
    return (size_t)(at - to);
}

FIXTURE void
h2_headers(struct h2_client *h, uint32_t id, int flags, const char *lines)
{
    static uint8_t block[H2_BLOCK];

    (void)h2_send(h, HEADERS, flags | END_HEADERS, id, block, h2_block(block, lines));
}

#define H2_HEAD(method, path)                                                                  \
    ":method: " method "\n:scheme: http\n:path: " path "\n:authority: a.test\n"
#define H2_GET(path) H2_HEAD("GET", path)

FIXTURE void
h2_get(struct h2_client *h, uint32_t id, const char *path)
{
    char lines[512];

    snprintf(lines, sizeof lines,
             ":method: GET\n:scheme: http\n:path: %s\n:authority: a.test\n", path);
    h2_headers(h, id, END_STREAM, lines);
}

/* Preface and settings: identifier and value pairs. */
FIXTURE void
h2_open(struct h2_client *h, struct fixture *f, const uint32_t *settings, size_t count)
{
    uint8_t payload[64];

    memset(h, 0, offsetof(struct h2_client, f));
    h->c = fixture_dial(f);
    EXPECT_EQ(nghttp2_hd_inflate_new(&h->inflater), 0);
    send_text(h->c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    for (size_t i = 0; i < count; i++) {
        payload[6 * i] = 0;
        payload[6 * i + 1] = (uint8_t)settings[2 * i];
        h2_put32(payload + 6 * i + 2, settings[2 * i + 1]);
    }
    EXPECT(h2_send(h, SETTINGS, 0, 0, payload, 6 * count));
}

FIXTURE void
h2_close(struct h2_client *h)
{
    nghttp2_hd_inflate_del(h->inflater);
    bh_conn_free(h->c);
}

/* The next frame; settings are acknowledged.  Returns: its type, or CLOSED. */
FIXTURE int
h2_next(struct h2_client *h)
{
    uint8_t head[9];

    if (bh_read_full(h->c, head, 9) < 0)
        return h->f.type = CLOSED;
    h->f.size = h2_get32(head) >> 8;
    h->f.type = head[3];
    h->f.flags = head[4];
    h->f.id = h2_get32(head + 5);
    EXPECT(h->f.size <= sizeof h->f.payload);
    if (bh_read_full(h->c, h->f.payload, h->f.size) < 0)
        return h->f.type = CLOSED;
    if (h->f.type == SETTINGS && (h->f.flags & ACK) == 0)
        (void)h2_send(h, SETTINGS, ACK, 0, NULL, 0);
    return h->f.type;
}

/* The latest frame's fields, into r: all blocks must be read, in order. */
FIXTURE void
h2_read_block(struct h2_client *h, struct h2_reply *r)
{
    const uint8_t *at = h->f.payload;
    size_t         size = h->f.size;
    char          *to = r->status != 0 ? r->trailers : r->fields;
    size_t         room = r->status != 0 ? sizeof r->trailers : sizeof r->fields;

    *to = '\0';
    for (;;) {
        nghttp2_nv nv;
        int        flags = 0;
        ssize_t    n = nghttp2_hd_inflate_hd2(h->inflater, &nv, &flags, at, size, 1);

        EXPECT(n >= 0);
        at += n;
        size -= (size_t)n;
        if ((flags & NGHTTP2_HD_INFLATE_FINAL) != 0)
            break;
        if ((flags & NGHTTP2_HD_INFLATE_EMIT) == 0)
            continue;
        if (nv.namelen == 7 && memcmp(nv.name, ":status", 7) == 0) {
            int status = (int)strtol((const char *)nv.value, NULL, 10);

            if (status < 200)
                r->interim = status;
            else
                r->status = status;
            continue;
        }
        snprintf(to + strlen(to), room - strlen(to), "%.*s: %.*s\n", (int)nv.namelen, nv.name,
                 (int)nv.valuelen, nv.value);
    }
    nghttp2_hd_inflate_end_headers(h->inflater);
}

/* Take the next frame into account.  Returns: its type. */
FIXTURE int
h2_step(struct h2_client *h, struct h2_reply *r, uint32_t id)
{
    static struct h2_reply other;
    int                    type = h2_next(h);
    size_t                 have, n;

    switch (type) {
    case CLOSED:
        r->closed = true;
        break;
    case HEADERS:
        if (h->f.id != id)
            memset(&other, 0, sizeof other);
        h2_read_block(h, h->f.id == id ? r : &other);
        break;
    case DATA:
        if (h->f.id != id)
            break;
        have = strlen(r->body);
        n = sizeof r->body - 1 - have;
        n = h->f.size < n ? h->f.size : n;
        memcpy(r->body + have, h->f.payload, n);
        r->body[have + n] = '\0';
        r->size += h->f.size;
        r->frames++;
        break;
    case RST_STREAM:
        if (h->f.id == id)
            r->reset = (int)h2_get32(h->f.payload);
        break;
    case GOAWAY:
        r->goaway = (int)h2_get32(h->f.payload + 4);
        break;
    default:
        break;
    }
    if ((type == HEADERS || type == DATA) && h->f.id == id && (h->f.flags & END_STREAM) != 0)
        r->ended = true;
    return type;
}

/* Read until the stream is over.  Returns: the status; 0 if there is none. */
FIXTURE int
h2_read(struct h2_client *h, uint32_t id, struct h2_reply *r)
{
    memset(r, 0, sizeof *r);
    r->reset = r->goaway = -1;
    while (!r->ended && !r->closed && r->reset < 0)
        (void)h2_step(h, r, id);
    return r->status;
}

/* Read until the server closes.  Returns: the code of the last GOAWAY, or -1. */
FIXTURE int
h2_read_to_end(struct h2_client *h)
{
    static struct h2_reply r;

    r.goaway = -1;
    while (h2_step(h, &r, 0) != CLOSED)
        continue;
    return r.goaway;
}

#endif
