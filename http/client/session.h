#ifndef BULKHEAD_HTTP_CLIENT_SESSION_H
#define BULKHEAD_HTTP_CLIENT_SESSION_H

/* session.h -- PRIVATE: HTTP/2 of the client; what session.c and stream.c share. */

#include <nghttp2/nghttp2.h>

#include "hc.h"

enum {
    HC_H2_WINDOW = 262144,       /* bytes of a body that wait for its reader */
    HC_H2_CONN_WINDOW = 4194304, /* on the way, of all bodies */
    HC_H2_READ = 16384,
    HC_H2_WRITE = 65536, /* frames gathered before a write */
};
#define HC_H2_PING                                                                             \
    (15 * BH_SECOND) /* of silence, with requests open; and then for the answer */

/* Fields as they come: name and value, each with a NUL. */
struct hc_block {
    char    *text;
    size_t   size, room;
    size_t   weight; /* as SETTINGS_MAX_HEADER_LIST_SIZE counts */
    unsigned count;
};

/*
 * A request.  libnghttp2 has it while `open`, the request's goroutine until it leaves
 * (`left`); who is last frees it.  All under h2->lock.
 */
struct hc_stream {
    struct hc_h2     *h2;
    struct hc_stream *older, *newer; /* h2->streams */
    int32_t           id;
    bool              open, left;
    bool              sent; /* its head has been written, or is about to be */
    bool              head_done, remote_done;
    bool              refused; /* the server has not looked at it */
    bool              over_limit;
    int               error; /* it ended before remote_done: why */
    uint32_t          code;  /* of -ECONNRESET: HTTP/2's */
    int               status;
    unsigned          interim;
    struct bh_chan   *changed; /* of bare signals, capacity 1: for the request's goroutine */
    struct bh_timer  *timer;   /* of its waits; made when needed */

    struct hc_block head, trailers;
    char           *in; /* body: [in_start, in_end) has come and is unread */
    size_t          in_start, in_end, in_room;

    /* The request's body: `out` is the sender's memory, which waits on `drained` until out_left is 0. */
    const char        *out;
    size_t             out_left;
    uint64_t           out_given; /* to libnghttp2, so far */
    bool               out_end;   /* nothing comes behind `out` */
    const char *const *out_trailers;
    struct bh_cond     drained;
};

/* A connection. */
struct hc_h2 {
    struct bh_http_client *c;
    struct hc_conn        *k;
    _Atomic unsigned       refs; /* the poller's, the writer's, the pool's, each request's */

    struct bh_mutex
        lock; /* of all below, libnghttp2 included; not held while reading or writing */
    nghttp2_session  *session;
    struct hc_stream *streams;
    unsigned          open;    /* streams of libnghttp2's */
    int               error;   /* dead: why */
    bool              writing; /* a writer is there, or on its way */
    bool    deaf;       /* the server reads no more; what it sent before may still be there */
    bool    closing;    /* close when all is written and no stream is open */
    bool    retired;    /* takes no more requests; the pool has been told, or will be */
    bool    used;       /* a request has been made */
    bool    broken;     /* the server broke the rules, and we have said so */
    bool    pinged;     /* and not answered */
    int64_t idle_until; /* open == 0: when to close */
    char   *out;        /* frames to write; the writer's, while it writes */
    size_t  out_size, out_room;
};

/* hc_h2_unlock -- unlock, start a writer if there is something to write, tell the pool if it is retired. */
void hc_h2_unlock(struct hc_h2 *h2);
/* hc_h2_free_stream -- under the lock. */
void hc_h2_free_stream(struct hc_stream *st);

/* stream.c, called by libnghttp2's callbacks. */
int hc_block_add(struct hc_block *b, const struct bh_http_client *c, const void *name,
                 size_t name_length, const void *value, size_t value_length);
/* hc_read_source -- the body of a request, for nghttp2_data_provider. */
ssize_t hc_read_source(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length,
                       uint32_t *flags, nghttp2_data_source *source, void *h2);

#endif
