/*
 * ws_frame.c -- WebSocket frames: a decoder that takes bytes as they come.
 *
 *     head --data frame----> payload --(caller takes it)--> head | END of the message
 *          --control frame-> payload, kept ---------------> CONTROL
 *          --not allowed---> BAD
 *
 * A head is checked as soon as its first two bytes are there, so a peer that begins with
 * nonsense is told before it has sent a message.  Text is checked byte by byte as it
 * arrives; a compressed message's text by whoever inflates it (ht_ws_inflated).
 */

#include "ws_frame.h"

#include <string.h>

/* ---- UTF-8 ----------------------------------------------------------------------- */

/* What must come next: its bounds, and how many bytes follow in all. */
#define NEXT(low, high, count) ((uint32_t)((low) << 16 | (high) << 8 | (count)))

/* The state behind a first byte from 0x80 on; 0 if it is none. */
static uint32_t
after_lead(uint8_t c)
{
    if (c < 0xc2)
        return 0;
    if (c < 0xe0)
        return NEXT(0x80, 0xbf, 1);
    if (c < 0xf0)
        return NEXT(c == 0xe0 ? 0xa0 : 0x80, c == 0xed ? 0x9f : 0xbf, 2); /* no surrogates */
    if (c < 0xf5)
        return NEXT(c == 0xf0 ? 0x90 : 0x80, c == 0xf4 ? 0x8f : 0xbf, 3); /* to U+10FFFF */
    return 0;
}

static size_t
skip_ascii(const uint8_t *p, size_t size)
{
    size_t   i = 0;
    uint64_t a, b;

    for (; i + 16 <= size; i += 16) {
        memcpy(&a, p + i, 8);
        memcpy(&b, p + i + 8, 8);
        if (((a | b) & UINT64_C(0x8080808080808080)) != 0)
            break;
    }
    while (i < size && p[i] < 0x80)
        i++;
    return i;
}

bool
ht_utf8_next(uint32_t *state, const void *data, size_t size)
{
    const uint8_t *p = data;
    uint32_t       s = *state;

    for (size_t i = 0; i < size;) {
        if (s == 0) {
            if (p[i] < 0x80) {
                i += skip_ascii(p + i, size - i);
                continue;
            }
            s = after_lead(p[i++]);
            if (s == 0)
                return false;
            continue;
        }
        if (p[i] < s >> 16 || p[i] > (s >> 8 & 0xff))
            return false;
        i++;
        s = (s & 0xff) > 1 ? NEXT(0x80, 0xbf, (s & 0xff) - 1) : 0;
    }
    *state = s;
    return true;
}

/* ---- heads ----------------------------------------------------------------------- */

static enum ht_ws_step
bad(struct ht_ws_decoder *d, int code, const char *why)
{
    d->code = code;
    d->why = why;
    return HT_WS_BAD;
}

/* The first two bytes.  Returns: HT_WS_MORE, all being well; or HT_WS_BAD. */
static enum ht_ws_step
check_start(struct ht_ws_decoder *d)
{
    unsigned opcode = d->head[0] & 0x0f, length = d->head[1] & 0x7f;
    bool     final = (d->head[0] & 0x80) != 0, control = opcode >= 8;

    if ((opcode > HT_WS_BINARY && !control) || opcode > HT_WS_PONG)
        return bad(d, 1002, "unknown kind of frame");
    if ((d->head[0] & 0x30) != 0)
        return bad(d, 1002, "reserved bit set");
    if ((d->head[0] & 0x40) != 0 && (!d->deflate || control || opcode == HT_WS_CONTINUATION))
        return bad(d, 1002, "compressed where that is not allowed");
    if (((d->head[1] & 0x80) != 0) != d->masked)
        return bad(d, 1002, d->masked ? "frame without a mask" : "frame with a mask");
    if (control && !final)
        return bad(d, 1002, "control frame in fragments");
    if (control && length > HT_WS_CONTROL_SIZE)
        return bad(d, 1002, "control frame too long");
    if (!control && (opcode == HT_WS_CONTINUATION) != d->in_message)
        return bad(d, 1002,
                   d->in_message ? "new message inside another" : "continuation of no message");
    return HT_WS_MORE;
}

static size_t
head_length(const struct ht_ws_decoder *d)
{
    unsigned length = d->head[1] & 0x7f;

    return 2u + (length == 126 ? 2u : length == 127 ? 8u : 0u) + (d->masked ? 4u : 0u);
}

/* The head is complete.  Returns: as check_start. */
static enum ht_ws_step
start_frame(struct ht_ws_decoder *d)
{
    const uint8_t *at = d->head + 2;
    uint64_t       length = d->head[1] & 0x7f;
    unsigned       bytes = length == 126 ? 2 : length == 127 ? 8 : 0;

    if (bytes > 0)
        length = 0;
    for (unsigned i = 0; i < bytes; i++)
        length = length << 8 | *at++;
    if ((bytes == 2 && length < 126) || (bytes == 8 && length <= 0xffff))
        return bad(d, 1002, "length not in its shortest form");
    if (length > INT64_MAX)
        return bad(d, 1002, "length over 63 bits");
    if (d->masked)
        memcpy(d->mask, at, 4);
    d->final = (d->head[0] & 0x80) != 0;
    d->opcode = d->head[0] & 0x0f;
    d->left = length;
    d->phase = 0;
    d->head_size = 0;
    d->in_payload = true;
    if (d->opcode == HT_WS_TEXT || d->opcode == HT_WS_BINARY) {
        d->in_message = true;
        d->kind = d->opcode;
        d->compressed = (d->head[0] & 0x40) != 0;
        d->utf8 = 0;
    } else if (d->opcode >= 8) {
        d->control_size = 0;
    }
    return HT_WS_MORE;
}

static enum ht_ws_step
read_head(struct ht_ws_decoder *d, const uint8_t *data, size_t size, size_t *used)
{
    while (*used < size) {
        d->head[d->head_size++] = data[(*used)++];
        if (d->head_size == 2 && check_start(d) == HT_WS_BAD)
            return HT_WS_BAD;
        if (d->head_size >= 2 && d->head_size == head_length(d))
            return start_frame(d);
    }
    return HT_WS_MORE;
}

/* ---- payloads -------------------------------------------------------------------- */

bool
ht_ws_is_close_code(unsigned code)
{
    if (code >= 3000 && code <= 4999)
        return true;
    return code >= 1000 && code <= 1014 && (code < 1004 || code > 1006);
}

/* A control frame is complete. */
static enum ht_ws_step
check_control(struct ht_ws_decoder *d)
{
    uint32_t utf8 = 0;

    d->in_payload = false;
    d->control[d->control_size] = '\0';
    if (d->opcode != HT_WS_CLOSE || d->control_size == 0)
        return HT_WS_CONTROL;
    if (d->control_size == 1 ||
        !ht_ws_is_close_code((unsigned)d->control[0] << 8 | d->control[1]))
        return bad(d, 1002, "bad code in a close");
    if (!ht_utf8_next(&utf8, d->control + 2, d->control_size - 2u) || utf8 != 0)
        return bad(d, 1007, "reason of a close is not UTF-8");
    return HT_WS_CONTROL;
}

static bool
check_text(struct ht_ws_decoder *d, const void *data, size_t n, bool last)
{
    if (d->kind == HT_WS_TEXT && (!ht_utf8_next(&d->utf8, data, n) || (last && d->utf8 != 0))) {
        (void)bad(d, 1007, "text is not UTF-8");
        return false;
    }
    return true;
}

bool
ht_ws_inflated(struct ht_ws_decoder *d, const void *data, size_t n, bool last)
{
    return check_text(d, data, n, last);
}

bool
ht_ws_take(struct ht_ws_decoder *d, void *to, const void *from, size_t n)
{
    if (d->masked)
        ht_ws_mask(to, from, n, d->mask, d->phase);
    else if (to != from)
        memcpy(to, from, n);
    d->phase = (unsigned)(d->phase + n) & 3;
    d->left -= n;
    return d->compressed || check_text(d, to, n, false);
}

enum ht_ws_step
ht_ws_next(struct ht_ws_decoder *d, const uint8_t *data, size_t size, size_t *used)
{
    *used = 0;
    if (d->code != 0)
        return HT_WS_BAD;
    for (;;) {
        if (!d->in_payload) {
            enum ht_ws_step step = read_head(d, data, size, used);

            if (step == HT_WS_BAD || !d->in_payload)
                return step;
        }
        if (d->opcode >= 8) {
            size_t n = size - *used < d->left ? size - *used : (size_t)d->left;

            ht_ws_mask(d->control + d->control_size, data + *used, n,
                       d->masked ? d->mask : (const uint8_t[4]){ 0 }, d->phase);
            d->phase = (unsigned)(d->phase + n) & 3;
            d->control_size += (uint8_t)n;
            d->left -= n;
            *used += n;
            return d->left > 0 ? HT_WS_MORE : check_control(d);
        }
        if (d->left > 0)
            return HT_WS_DATA;
        d->in_payload = false;
        if (d->final) {
            d->in_message = false;
            return d->compressed || check_text(d, NULL, 0, true) ? HT_WS_END : HT_WS_BAD;
        }
    }
}

/* ---- writing --------------------------------------------------------------------- */

size_t
ht_ws_put_head(uint8_t *at, bool final, bool compressed, int opcode, const uint8_t *mask,
               uint64_t length)
{
    unsigned bytes = length < 126 ? 0 : length <= 0xffff ? 2 : 8;
    size_t   n = 2;

    at[0] = (uint8_t)((final ? 0x80 : 0) | (compressed ? 0x40 : 0) | opcode);
    at[1] = (uint8_t)((mask != NULL ? 0x80 : 0) | (bytes == 0   ? length
                                                   : bytes == 2 ? UINT64_C(126)
                                                                : UINT64_C(127)));
    while (bytes > 0)
        at[n++] = (uint8_t)(length >> 8 * --bytes);
    if (mask != NULL) {
        memcpy(at + n, mask, 4);
        n += 4;
    }
    return n;
}

void
ht_ws_mask(void *to, const void *from, size_t n, const uint8_t mask[4], unsigned phase)
{
    const uint8_t *source = from;
    uint8_t       *target = to;
    uint8_t        turned[8];
    uint64_t       pattern, word;
    size_t         i = 0;

    for (unsigned j = 0; j < 8; j++)
        turned[j] = mask[(phase + j) & 3];
    memcpy(&pattern, turned, 8);
    for (; i + 8 <= n; i += 8) {
        memcpy(&word, source + i, 8);
        word ^= pattern;
        memcpy(target + i, &word, 8);
    }
    for (; i < n; i++)
        target[i] = source[i] ^ turned[i & 7];
}
