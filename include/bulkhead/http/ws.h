#ifndef BULKHEAD_HTTP_WS_H
#define BULKHEAD_HTTP_WS_H

/*
 * ws.h -- WebSocket: messages both ways, by plain reads and writes.
 *
 *     static int
 *     echo(struct bh_http_call *c, void *arg)
 *     {
 *         struct bh_ws *ws;
 *         struct bh_ws_message m;
 *         int rc = bh_ws_accept(c, NULL, &ws);
 *
 *         if (rc < 0)
 *             return rc;
 *         while (bh_ws_read(ws, &m) == 0)
 *             bh_ws_write(ws, m.kind, m.data, m.size);
 *         return 0;
 *     }
 *     ...
 *     bh_http_handle(s, "GET /echo", echo, NULL);
 *
 * Pings are answered, and sent to a peer that is silent, while a goroutine is in
 * bh_ws_read: keep one there.  When the handler returns, the connection is closed
 * with 1000; if it panics, with 1011; when the server drains, with 1001, and reads and
 * writes fail with BH_ECLOSED.
 *
 * One goroutine may read while any number write: those of the request (bh_http_go) too.
 * See: RFC 6455, RFC 7692.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bh_ctx;
struct bh_http_call;
struct bh_tls_config;
struct bh_ws;

enum bh_ws_kind { BH_WS_TEXT = 1, BH_WS_BINARY = 2 };

struct bh_ws_message {
    enum bh_ws_kind kind;
    const char     *data; /* NUL-terminated; good until the next bh_ws_read */
    size_t          size;
};

/* Times in ns; zero means the default.  Lists end with NULL. */
struct bh_ws_options {
    const char *const *protocols;     /* subprotocols, best first; NULL: none */
    const char *const *origins;       /* of pages that may connect: "https://example.com", or "*";
                                         NULL: pages of this very host */
    size_t             max_message;   /* bytes, for bh_ws_read: 1 MiB; closes with 1009 */
    bool               deflate;       /* compress, if the peer can: costs up to 300 KiB a connection */
    bool               no_takeover;   /* ... each message by itself: memory only while one travels */
    int                window_bits;   /* ... with windows of at most 2^9 to 2^15 bytes: 15 */
    int64_t            ping_interval; /* of silence, before a ping: 30 s; negative: never */
    int64_t            pong_timeout;  /* for a sign of life after it: 20 s */
    int64_t            close_timeout; /* for the peer's close after ours: 5 s */
    int64_t            write_timeout; /* for each 64 KiB: the server's; of a client 30 s */
    struct bh_ctx     *ctx;           /* reads and writes fail when it ends; may be NULL */

    /* Of a client only. */
    const char *const    *headers;      /* "Name: value" */
    int64_t               open_timeout; /* to connect and be accepted: 10 s */
    struct bh_tls_config *tls;          /* for wss; NULL: the system's authorities */
};

/*
 * bh_ws_accept -- make the request a WebSocket.  options NULL: all defaults.
 *
 * Refused: what is no WebSocket handshake (426, 400), and other origins' pages (403).
 * From here on the handler must not reply.
 * Returns: 0; or an error, the request being answered already: return it.
 * Owns:    *ws ends with the request.
 */
int bh_ws_accept(struct bh_http_call *c, const struct bh_ws_options *options, struct bh_ws **ws);

/*
 * bh_ws_dial -- connect to "ws://host:port/path" or "wss://...".
 * Returns: 0; -EINVAL for a bad address; -EPROTO if the server would not, with its status in
 *          the note; errors of bh_dial and of TLS.
 * Owns:    *ws is the caller's, until bh_ws_free.
 */
int bh_ws_dial(struct bh_ctx *ctx, const char *url, const struct bh_ws_options *options,
               struct bh_ws **ws);
/* bh_ws_free -- close as bh_ws_close with 1000, and free.  Of bh_ws_dial only; NULL is a no-op. */
void bh_ws_free(struct bh_ws *ws);

/* bh_ws_protocol -- the subprotocol agreed on, "" if none. */
const char *bh_ws_protocol(const struct bh_ws *ws);
/* bh_ws_compresses -- whether permessage-deflate has been agreed on. */
bool bh_ws_compresses(const struct bh_ws *ws);

/* ---- reading --------------------------------------------------------------------- */

/*
 * bh_ws_read -- the next message.
 *
 * Returns: 0; BH_EEOF if the peer closed (bh_ws_close_code); BH_ECLOSED if this side did, or
 *          the server drains; -EPROTO, -EILSEQ (text that is not UTF-8), -EMSGSIZE, the peer
 *          having been told; -ETIMEDOUT if it gives no sign of life; -ECONNRESET if it
 *          left without closing; BH_EDEADLINE at the read deadline, after which reading may
 *          go on; the context's error.  Each but that one is final.
 * Blocks:  until there is one.
 */
int bh_ws_read(struct bh_ws *ws, struct bh_ws_message *message);

/*
 * bh_ws_read_some -- the next bytes of a message of any size, and its kind.
 *
 * Text may end anywhere, also inside a character.
 * Returns: bytes, at least 1; 0 at the end of the message; errors as bh_ws_read.
 * Panics:  on a size of 0.
 */
ssize_t bh_ws_read_some(struct bh_ws *ws, enum bh_ws_kind *kind, void *buffer, size_t size);

/* bh_ws_set_read_deadline -- absolute, bh_now; 0 for none.  Also while another goroutine reads. */
void bh_ws_set_read_deadline(struct bh_ws *ws, int64_t at_ns);

/* ---- writing --------------------------------------------------------------------- */

/*
 * bh_ws_write -- a message.  bh_ws_print -- a text.
 *
 * Returns: 0; -EILSEQ, nothing being sent, for text that is not UTF-8; BH_ECLOSED after a close
 *          of either side, or if the server drains; errors of writing, which are final.
 * Blocks:  while others write, or the peer is slow.
 */
int bh_ws_write(struct bh_ws *ws, enum bh_ws_kind kind, const void *data, size_t size);
int bh_ws_print(struct bh_ws *ws, const char *format, ...) __attribute__((format(printf, 2, 3)));

/*
 * bh_ws_start, bh_ws_add, bh_ws_finish -- a message piece by piece, each sent at once.
 *
 * Other goroutines' messages wait meanwhile.  If this one ends before the message does,
 * the connection is closed with 1011.
 * Returns: as bh_ws_write.
 * Panics:  start, or bh_ws_write, in a started message; add and finish without one.
 */
int bh_ws_start(struct bh_ws *ws, enum bh_ws_kind kind);
int bh_ws_add(struct bh_ws *ws, const void *data, size_t size);
int bh_ws_finish(struct bh_ws *ws);

/* ---- closing --------------------------------------------------------------------- */

/*
 * bh_ws_close -- say that this side is done, and why, and wait for the peer to say so too.
 *
 * reason: UTF-8; cut to 123 bytes; may be NULL.  What the peer sends meanwhile is dropped.
 * Returns: 0; -ETIMEDOUT if it does not answer in time; -ECONNRESET if it just left.
 * Panics:  on a code that may not be sent, such as 1005, 1006 or 1015; yours are 4000 to 4999.
 */
int bh_ws_close(struct bh_ws *ws, int code, const char *reason);

/* bh_ws_close_code -- as the peer closed: 1005 if it gave none, 1006 if it has not. */
int         bh_ws_close_code(const struct bh_ws *ws);
const char *bh_ws_close_reason(const struct bh_ws *ws); /* "" if it gave none */

#endif
