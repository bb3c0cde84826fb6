#ifndef BULKHEAD_HTTP_WS_FRAME_H
#define BULKHEAD_HTTP_WS_FRAME_H

/*
 * ws_frame.h -- PRIVATE: WebSocket frames, their compression and its negotiation, from
 * bytes to bytes.  These files (ws_frame.c, ws_deflate.c, ws_extension.c) know nothing of
 * sockets, goroutines or panics, so that a fuzzer can link them alone.
 *
 * See: RFC 6455, RFC 7692.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <zlib.h>

enum { HT_WS_CONTINUATION = 0, HT_WS_TEXT = 1, HT_WS_BINARY = 2 };
enum { HT_WS_CLOSE = 8, HT_WS_PING = 9, HT_WS_PONG = 10 };
enum { HT_WS_HEAD_SIZE = 14, HT_WS_CONTROL_SIZE = 125 };

/* ---- UTF-8, piece by piece ------------------------------------------------------- */

/*
 * ht_utf8_next -- whether these bytes go on well.  *state: 0 at first, and again
 * wherever the text may end.
 */
bool ht_utf8_next(uint32_t *state, const void *data, size_t size);

/* ---- reading --------------------------------------------------------------------- */

/*
 * What is being read: a message in frames, control frames between them.  Set masked and
 * deflate; the rest starts as zeros.
 */
struct ht_ws_decoder {
    bool masked;  /* frames must be, those of a client; else they must not be */
    bool deflate; /* messages may be compressed */

    bool     in_message, compressed;
    uint8_t  kind; /* of the message: HT_WS_TEXT or HT_WS_BINARY */
    uint32_t utf8;

    bool     in_payload, final;
    uint8_t  opcode;
    uint8_t  mask[4];
    unsigned phase; /* which byte of the mask comes next */
    uint64_t left;  /* of the payload */
    uint8_t  head[HT_WS_HEAD_SIZE], head_size;

    uint8_t control[HT_WS_CONTROL_SIZE + 1]; /* payload of a control frame */
    uint8_t control_size;

    int         code; /* HT_WS_BAD: what to close with */
    const char *why;  /* and in words: static text */
};

enum ht_ws_step {
    HT_WS_MORE,    /* all is used: more bytes are needed */
    HT_WS_DATA,    /* up to d->left bytes of the message come now: ht_ws_take */
    HT_WS_END,     /* the message is complete */
    HT_WS_CONTROL, /* d->opcode, control, control_size; a close is well formed */
    HT_WS_BAD,     /* d->code, d->why; nothing more can be read */
};
/* ht_ws_next -- go on in data; *used: how much of it is done with. */
enum ht_ws_step ht_ws_next(struct ht_ws_decoder *d, const uint8_t *data, size_t size,
                           size_t *used);
/*
 * ht_ws_take -- the next n <= d->left bytes of the message, from -> to, which may be the same.
 * Returns: false if that is no text as it should be: as HT_WS_BAD.
 */
bool ht_ws_take(struct ht_ws_decoder *d, void *to, const void *from, size_t n);
/* ht_ws_inflated -- the same check for bytes of a compressed message; last: there are no more. */
bool ht_ws_inflated(struct ht_ws_decoder *d, const void *data, size_t n, bool last);

/* ---- writing --------------------------------------------------------------------- */

/* ht_ws_put_head -- mask: 4 bytes, or NULL.  Returns: bytes written to `at`, at most HT_WS_HEAD_SIZE. */
size_t ht_ws_put_head(uint8_t *at, bool final, bool compressed, int opcode, const uint8_t *mask,
                      uint64_t length);
/* ht_ws_mask -- from XOR mask -> to, which may be the same; phase: of the first byte. */
void ht_ws_mask(void *to, const void *from, size_t n, const uint8_t mask[4], unsigned phase);
/* ht_ws_is_close_code -- whether it may stand in a close frame. */
bool ht_ws_is_close_code(unsigned code);

/* ---- compression ----------------------------------------------------------------- */

/* What has been agreed on; seen from one side. */
struct ht_ws_terms {
    bool on;
    bool forget_in, forget_out; /* no context takeover */
    int  bits_in, bits_out;     /* 8 to 15 */
};

/* One direction.  Its memory is there from its first message on; without takeover, during one. */
struct ht_ws_zip {
    z_stream z;
    bool     open, ended, flushed;
    bool     forget;
    int      bits;
};

/*
 * ht_ws_inflate_feed -- bytes of a message; they must stay until used.
 * ht_ws_inflate_last -- the message has no more.
 * ht_ws_inflate -- what they give.  Returns: bytes, 0 if all input is used; -EBADMSG; -ENOMEM.
 * ht_ws_inflate_end -- the message is over.  Returns: 0, or -EBADMSG if it broke off in the middle.
 */
void    ht_ws_inflate_feed(struct ht_ws_zip *z, const void *data, size_t size);
void    ht_ws_inflate_last(struct ht_ws_zip *z);
ssize_t ht_ws_inflate(struct ht_ws_zip *z, void *out, size_t size);
int     ht_ws_inflate_end(struct ht_ws_zip *z);

/*
 * ht_ws_deflate_feed -- bytes to compress, and flush.
 * ht_ws_deflate -- what they give, size > 6.  Returns: bytes, 0 when that was all; -ENOMEM.
 * ht_ws_deflate_end -- the message is over.
 *
 * A message's last four bytes are always 00 00 ff ff, and are not sent.
 */
void    ht_ws_deflate_feed(struct ht_ws_zip *z, const void *data, size_t size);
ssize_t ht_ws_deflate(struct ht_ws_zip *z, void *out, size_t size);
void    ht_ws_deflate_end(struct ht_ws_zip *z);

void ht_ws_inflate_free(struct ht_ws_zip *z);
void ht_ws_deflate_free(struct ht_ws_zip *z);

/* ---- negotiation ----------------------------------------------------------------- */

enum { HT_WS_TERMS_SIZE = 160 }; /* room for a field of ours */

/*
 * ht_ws_choose -- the server's side: the first offer in `field`, a value of
 * Sec-WebSocket-Extensions, that is one of permessage-deflate and can be met.
 * want: bits_out and bits_in at most these; forgetting at least where it says so.
 * Returns: whether there is one: then in *terms, and what to answer in text.
 */
bool ht_ws_choose(const char *field, const struct ht_ws_terms *want, struct ht_ws_terms *terms,
                  char text[HT_WS_TERMS_SIZE]);
/* ht_ws_offer -- the client's side: the offer that `want` makes. */
void ht_ws_offer(const struct ht_ws_terms *want, char text[HT_WS_TERMS_SIZE]);
/* ht_ws_agree -- what the server answered to that offer.  Returns: whether it makes sense. */
bool ht_ws_agree(const char *field, const struct ht_ws_terms *want, struct ht_ws_terms *terms);

/* ht_ws_next_token -- the next element of a list of tokens, "a, b"; NULL at its end. */
const char *ht_ws_next_token(const char **at, size_t *length);

#endif
