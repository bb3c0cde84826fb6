#ifndef BULKHEAD_HTTP_H2_H
#define BULKHEAD_HTTP_H2_H

/*
 * h2.h -- PRIVATE: an HTTP/2 connection.
 *
 *     http2.c     its life: turns, workers, draining, the end
 *     h2_in.c     frames in: requests gathered, limits on what costs us more than the client
 *     h2_head.c   a call's method, target and fields from what was gathered
 *     h2_out.c    frames out: the one writer, waiting for windows, deadlines of the waiting
 *     h2_wire.c   the wire of a call: head, body, end
 *
 * libnghttp2 keeps the protocol's state: framing, HPACK, flow control, which frame is
 * allowed when.  It knows nothing of sockets or goroutines; h2->lock is its lock, and that of all
 * fields here unless they say otherwise.  It is never held while reading, writing or in a handler.
 */

#include <nghttp2/nghttp2.h>

#include "ht.h"

enum {
    HT_H2_STREAMS = 128,         /* requests at a time, those included whose client has left */
    HT_H2_WINDOW = 131072,       /* bytes of a request's body that wait for its handler */
    HT_H2_CONN_WINDOW = 1048576, /* the same of all requests together */
    HT_H2_OUT_SIZE = HT_WRITE_SIZE, /* frames gathered before they are written */
    HT_H2_READ_SIZE = 16384,
    HT_H2_TURN_SIZE = 262144, /* input before requests get their turn */
    HT_H2_HEAD_SIZE = 512,    /* header text that needs no memory of its own */
    HT_H2_ACKS = 256,         /* answers to SETTINGS and PING not yet written */
};

/* Header fields: for each two lengths, then name and value with a NUL behind each. */
struct h2_block {
    char    *text;
    uint32_t size, room;
    uint32_t count;  /* fields */
    uint32_t weight; /* as SETTINGS_MAX_HEADER_LIST_SIZE counts */
    bool     over;   /* a limit; what came then is not here */
};

/* A limit on how often: each use moves `at` on, which may not get too far ahead of the clock. */
struct h2_bucket {
    int64_t at;
};

/*
 * A request.  It belongs to libnghttp2 while `open`, and to the queue or the worker that
 * runs it while `busy`; who leaves last frees it.
 */
struct h2_stream {
    struct ht_h2     *h2;
    int32_t           id;
    bool              open, busy;
    bool              has_body;      /* the request, as its worker took it */
    bool              remote_done;   /* the client has sent all */
    bool              submitted;     /* the reply's head is libnghttp2's */
    bool              whole;         /* the reply's body ends with `out` */
    bool              end_sent;      /* and libnghttp2 has all of it */
    bool              late;          /* its goroutine has waited too long */
    bool              reading;       /* it waits for the body of the request */
    int               error;         /* nobody waits for the reply: why */
    struct h2_stream *older, *newer; /* h2->streams */
    struct h2_stream *next;          /* h2->ready */

    struct bh_ctx *ctx;      /* to be ended when the client leaves; borrowed from the call */
    struct bh_cond changed;  /* whatever its goroutine waits for */
    int64_t        deadline; /* of that; 0: it does not wait */

    /* The request's body: [in_start, in_end) has come and is unread. */
    char            *in;
    size_t           in_start, in_end, in_room;
    struct h2_block *trailers; /* of the request, or NULL */

    /* Of the reply, what its goroutine is sending: its memory, which waits until out_left is 0. */
    const char *out;
    size_t      out_left;
    int64_t     size; /* of the body; -1 unknown.  The goroutine's own */
    nghttp2_nv *reply_trailers;
    size_t      reply_trailer_count;

    struct h2_block head;
    char            first[HT_H2_HEAD_SIZE]; /* head.text, if that is enough */
};

struct ht_h2 {
    struct bh_mutex  lock;
    struct ht_conn  *k;
    nghttp2_session *session;
    int              refs;    /* the poller's or the turn's, each worker's, the timer's */
    int              error;   /* dead: nothing goes in or out; why */
    bool             inside;  /* of libnghttp2; a panic there leaves it broken */
    bool             writing; /* somebody will write what there is */
    bool             helping; /* a worker has been started and is not there yet */
    bool             closing; /* the protocol is over: close when all is written */

    struct h2_stream *streams;
    struct h2_stream *ready, **ready_end; /* their heads are complete */
    int               open;               /* streams libnghttp2 knows */
    int               running;            /* those in the queue or with a worker */
    struct h2_stream *gathering;          /* whose header block is coming in */
    struct h2_block  *block;              /* where to; NULL: nowhere */

    char  *out, *spare; /* frames to be written; the other buffer, while it is being written */
    size_t out_size, out_room, spare_room;

    int64_t idle_until;     /* open == 0: when to close */
    int64_t head_until;     /* a header block must be complete by then; 0: none is coming in */
    int64_t deadline;       /* of reading, as last set; 0: none */
    struct bh_timer *timer; /* rings when the first of the waiting is late */
    int64_t          timer_at; /* 0: not armed.  Armed it has a reference */

    struct h2_bucket resets, noise;
    _Atomic bool     drain_wanted; /* set without the lock */
    enum { HT_H2_OPEN, HT_H2_NOTICE, HT_H2_GOAWAY } goaway;
    int64_t notice_until; /* HT_H2_NOTICE: the final GOAWAY goes then at the latest */
};

/* ---- http2.c --------------------------------------------------------------------- */

/*
 * ht_h2_lock -- to be followed by BH_DEFER(ht_h2_unlock, h2).  If it is left by a panic from
 * inside libnghttp2, the connection ends.
 */
void ht_h2_lock(struct ht_h2 *h2);
void ht_h2_unlock(struct ht_h2 *h2);
/* The rest wants the lock.  ht_h2_kill -- the connection is dead: every stream learns it. */
void ht_h2_kill(struct ht_h2 *h2, int error);
/* ht_h2_help -- start a goroutine for what is ready, to run or to write, and nobody does. */
void ht_h2_help(struct ht_h2 *h2);
/* ht_h2_wake -- make the connection have a turn, though nothing comes in. */
void ht_h2_wake(struct ht_h2 *h2);
/* ht_h2_goaway -- the client shall open no more streams. */
void ht_h2_goaway(struct ht_h2 *h2);
void ht_h2_unref(struct ht_h2 *h2);
/* ht_h2_set_deadline -- of reading, as the state of the connection has it. */
void ht_h2_set_deadline(struct ht_h2 *h2);
/* ht_h2_lose -- the stream's client has left: its goroutine and context learn it. */
void ht_h2_lose(struct h2_stream *st, int error);
/* ht_h2_detach -- no worker has st any more. */
void ht_h2_detach(struct h2_stream *st);
void ht_h2_free_stream(struct h2_stream *st);

/* ---- h2_in.c --------------------------------------------------------------------- */

int ht_h2_new_session(struct ht_h2 *h2); /* Returns: 0 or an error of libnghttp2 */
/* ht_h2_feed -- input.  Sets closing if it is bad. */
void ht_h2_feed(struct ht_h2 *h2, const void *data, size_t size);
/* ---- h2_head.c ------------------------------------------------------------------- */

/* ht_h2_take_head -- the call's method, target and fields.  Without the lock.  Returns: 0 or -status. */
int ht_h2_take_head(struct ht_call *x, struct h2_stream *st);
/* ht_h2_take_trailers -- for bh_http_request_trailer. */
void ht_h2_take_trailers(struct ht_call *x, struct h2_stream *st);

/* ---- h2_out.c -------------------------------------------------------------------- */

/* ht_h2_pump -- let libnghttp2 make frames, up to HT_H2_OUT_SIZE. */
void ht_h2_pump(struct ht_h2 *h2);
/*
 * ht_h2_write -- write until there is no more, unless somebody does.  ht_h2_write_some: once;
 * to be followed by ht_h2_help (I2 in http2.c), or another.
 */
void ht_h2_write(struct ht_h2 *h2);
void ht_h2_write_some(struct ht_h2 *h2);
/* ht_h2_wait -- for a change of st, whose goroutine this is.  Returns: 0, or BH_EDEADLINE. */
int  ht_h2_wait(struct h2_stream *st, int64_t deadline);
void ht_h2_on_timer(void *h2);
int  ht_h2_append(struct ht_h2 *h2, const void *data, size_t size);
/* For a body: the functions libnghttp2 calls to get it, st being source->ptr. */
ssize_t ht_h2_read_data(nghttp2_session *session, int32_t id, uint8_t *buffer, size_t length,
                        uint32_t *flags, nghttp2_data_source *source, void *h2);
int     ht_h2_send_data(nghttp2_session *session, nghttp2_frame *frame, const uint8_t *head,
                        size_t length, nghttp2_data_source *source, void *h2);

/* ---- h2_wire.c ------------------------------------------------------------------- */

extern const struct ht_wire ht_http2_wire;
/* ht_h2_fields -- name and value pairs for libnghttp2, in the arena.  Returns: how many. */
size_t ht_h2_fields(struct bh_arena *arena, const struct ht_line *lines, nghttp2_nv **fields,
                    size_t before);

#endif
