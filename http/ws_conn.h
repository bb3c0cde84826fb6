#ifndef BULKHEAD_HTTP_WS_CONN_H
#define BULKHEAD_HTTP_WS_CONN_H

/*
 * ws_conn.h -- PRIVATE: a WebSocket.
 *
 *     ws_accept.c, ws_dial.c --handshake done--> ws.c, ws_write.c --> ws_frame.c, ws_deflate.c
 */

#include <stdatomic.h>

#include <bulkhead/go/sync.h>
#include <bulkhead/http/ws.h>

#include "io.h"
#include "ws_frame.h"

/* See ws.c for who may touch what. */
struct bh_ws {
    struct bh_ws_options o; /* defaults filled in */
    struct ht_ws_terms   terms;
    bool                 client;
    struct ht_io        *io;  /* the connection's, or own */
    struct ht_io         own; /* of a client */
    struct bh_ctx       *ctx; /* a reference, or NULL */
    char                 protocol[64];

    /* Said to the reader from elsewhere; then its deadline is moved close. */
    _Atomic bool    draining, close_sent;
    _Atomic int64_t read_deadline; /* the user's */

    struct bh_mutex      read_lock; /* up to the empty line */
    struct ht_ws_decoder d;
    struct ht_ws_zip     in;
    uint8_t             *input;
    size_t               input_size, start, end; /* not used: [start, end) */
    bool                 inflating, at_tail; /* the inflater has input; its last */
    uint64_t             allowed;            /* more bytes of this message */
    char                *message;
    size_t               message_room, partial; /* partial: of a message that is coming */
    bool                 gone; /* the peer; or it has been silent too long */
    int                  read_error; /* final */
    int64_t              heard, pinged, armed, close_deadline; /* 0: none */
    int                  close_code;
    char                 close_reason[HT_WS_CONTROL_SIZE];

    struct bh_mutex  lock; /* what is written, to the end */
    struct bh_cond   turn; /* writer has become 0 */
    uint64_t         writer; /* goroutine with a started message; 0: none */
    bool             begun, packs; /* the message: its first frame is out; it is compressed */
    enum bh_ws_kind  kind;
    uint32_t         utf8;
    struct ht_ws_zip out;
    uint8_t         *packed; /* compressed bytes; the first `held` wait for what follows */
    size_t           held;
    int              write_error; /* final */
    uint8_t          masks[64];
    size_t           masks_left;
};

/* ht_ws_fill_defaults -- o may be NULL.  Panics: on window_bits out of range. */
void ht_ws_fill_defaults(struct bh_ws_options *to, const struct bh_ws_options *o);
/* ht_ws_wanted -- what the options want of compression. */
struct ht_ws_terms ht_ws_wanted(const struct bh_ws_options *o);
/* ht_ws_key -- what answers the 24 bytes of a key. */
void ht_ws_key(const char *key, char text[32]);
/*
 * ht_ws_open -- after the handshake, with o, terms and client set in zeroed memory.  ctx may be
 * NULL; data: bytes that came behind the handshake.
 */
void ht_ws_open(struct bh_ws *ws, struct ht_io *io, struct bh_ctx *ctx, const void *data,
                size_t size);
/* ht_ws_send_close -- unless one has been sent already.  Returns: whether it was the first. */
bool ht_ws_send_close(struct bh_ws *ws, int code, const char *reason);
/* ht_ws_send_control -- unless the close has been sent. */
void ht_ws_send_control(struct bh_ws *ws, int opcode, const void *data, size_t size);
/* ht_ws_end_writing -- let go of the connection; under read_lock. */
void ht_ws_end_writing(struct bh_ws *ws);
/* ht_ws_drain -- tell the peer soon; may not block. */
void ht_ws_drain(void *ws);
/* ht_ws_end -- close with code, wait for the peer's close, let go of the connection. */
void ht_ws_end(struct bh_ws *ws, int code);
void ht_ws_free_message(void *ws); /* what bh_ws_read has given */

#endif
