/*
 * ws_fuzz.c -- any bytes at all as frames of a WebSocket, and as its extensions.
 *
 * The first byte says which side we are, whether messages may be compressed, and how the
 * rest is cut into pieces.  Three things must hold:
 *
 *     no crash    under the address and undefined-behaviour sanitizers
 *     no splits   the bytes give the same messages when they arrive one by one
 *     one truth   without compression, libwslay hears the same messages and refuses the same
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <wslay/wslay.h>

#include "ws_frame.h"

enum { HEARD = 64, KEPT = 1 << 16, LARGEST = 1 << 20 };

#define MUST(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "violated at line %d: %s\n", __LINE__, #condition);                \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

/* What was heard: messages, pings, pongs, a close. */
struct heard {
    int    count;
    int    opcodes[HEARD];
    size_t ends[HEARD]; /* in data */
    size_t size;
    char   data[KEPT];
    bool   refused, closed, large;
    bool   undecided; /* the end came inside a head or a close frame */
};

static void
keep(struct heard *h, const void *data, size_t size)
{
    if (size > KEPT - h->size)
        h->large = true;
    else if (size > 0)
        memcpy(h->data + h->size, data, size);
    if (!h->large)
        h->size += size;
}

static void
note(struct heard *h, int opcode)
{
    if (h->count == HEARD)
        h->large = true;
    if (h->large)
        return;
    h->opcodes[h->count] = opcode;
    h->ends[h->count++] = h->size;
    h->closed = opcode == HT_WS_CLOSE;
}

/* ---- ours ------------------------------------------------------------------------------ */

struct listener {
    struct ht_ws_decoder d;
    struct ht_ws_zip     in;
    struct heard        *h;
    size_t               before; /* where the current message begins */
};

/* Returns: whether it can go on. */
static bool
inflate_all(struct listener *l, bool last)
{
    char    out[997];
    ssize_t n;

    while ((n = ht_ws_inflate(&l->in, out, sizeof out)) > 0) {
        if (!ht_ws_inflated(&l->d, out, (size_t)n, false))
            return false;
        keep(l->h, out, (size_t)n);
        if (l->h->large)
            return false;
    }
    return n == 0 &&
           (!last || (ht_ws_inflate_end(&l->in) == 0 && ht_ws_inflated(&l->d, NULL, 0, true)));
}

static bool
take(struct listener *l, const uint8_t *data, size_t n)
{
    uint8_t copy[4096];

    MUST(n <= sizeof copy && n <= l->d.left);
    if (!ht_ws_take(&l->d, copy, data, n))
        return false;
    if (!l->d.compressed) {
        keep(l->h, copy, n);
        return true;
    }
    ht_ws_inflate_feed(&l->in, copy, n);
    return inflate_all(l, false);
}

/* Control frames inside a message are told of before it: their bytes go before its own. */
static void
take_control(struct listener *l)
{
    struct heard *h = l->h;
    char          part[KEPT];
    size_t        size = h->size - l->before;

    memcpy(part, h->data + l->before, size);
    h->size = l->before;
    keep(h, l->d.control, l->d.control_size);
    note(h, l->d.opcode);
    l->before = h->size;
    keep(h, part, size);
}

/* Returns: false at the end. */
static bool
step(struct listener *l, const uint8_t *data, size_t size, size_t *used)
{
    size_t n;

    switch (ht_ws_next(&l->d, data, size, used)) {
    case HT_WS_MORE:
        MUST(*used == size);
        return false;
    case HT_WS_DATA:
        if (l->d.left > LARGEST)
            l->h->large = true;
        n = size - *used < l->d.left ? size - *used : (size_t)l->d.left;
        n = n < 4096 ? n : 4096;
        if (n == 0 || l->h->large)
            return false;
        l->h->refused = !take(l, data + *used, n);
        *used += n;
        return !l->h->refused;
    case HT_WS_END:
        if (l->d.compressed) {
            ht_ws_inflate_last(&l->in);
            l->h->refused = !inflate_all(l, true);
        }
        if (!l->h->refused)
            note(l->h, l->d.kind);
        l->before = l->h->size;
        return !l->h->refused;
    case HT_WS_CONTROL:
        take_control(l);
        return !l->h->closed;
    case HT_WS_BAD:
        MUST(l->d.why != NULL && l->d.code != 0);
        l->h->refused = true;
        return false;
    }
    return false;
}

static void
listen_to(struct heard *h, struct ht_ws_decoder d, bool forget, const uint8_t *data,
          size_t size, size_t piece)
{
    struct listener l = { .d = d, .h = h, .in = { .bits = 15, .forget = forget } };
    size_t          at = 0, seen = 0, used;

    memset(h, 0, sizeof *h);
    while (at < size && !h->refused && !h->closed && !h->large) {
        seen = size - seen < piece ? size : seen + piece;
        while (step(&l, data + at, seen - at, &used) && !h->large)
            at += used;
        at += used;
        if (seen == size && !h->refused && !h->closed && used == 0)
            break;
    }
    ht_ws_inflate_free(&l.in);
    h->undecided = l.d.in_payload ? l.d.opcode == HT_WS_CLOSE : l.d.head_size > 0;
    if (h->size > l.before)
        h->size = l.before; /* of a message that did not end */
}

static void
compare(const struct heard *a, const struct heard *b)
{
    if (a->large || b->large)
        return;
    MUST(a->count == b->count);
    for (int i = 0; i < a->count; i++)
        MUST(a->opcodes[i] == b->opcodes[i] && a->ends[i] == b->ends[i]);
    MUST(a->size == b->size && memcmp(a->data, b->data, a->size) == 0);
    MUST(a->refused == b->refused);
}

/* ---- wslay's ----------------------------------------------------------------------------- */

struct feeding {
    struct heard  *h;
    const uint8_t *data;
    size_t         left;
};

static ssize_t
on_recv(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, int flags, void *arg)
{
    struct feeding *f = arg;
    size_t          n = len < f->left ? len : f->left;

    (void)flags;
    if (n == 0) {
        wslay_event_set_error(ctx, WSLAY_ERR_WOULDBLOCK);
        return -1;
    }
    memcpy(buf, f->data, n);
    f->data += n;
    f->left -= n;
    return (ssize_t)n;
}

static ssize_t
on_send(wslay_event_context_ptr ctx, const uint8_t *data, size_t len, int flags, void *arg)
{
    (void)ctx, (void)data, (void)flags, (void)arg;
    return (ssize_t)len;
}

static int
on_genmask(wslay_event_context_ptr ctx, uint8_t *buf, size_t len, void *arg)
{
    (void)ctx, (void)arg;
    memset(buf, 0, len);
    return 0;
}

static void
on_message(wslay_event_context_ptr ctx, const struct wslay_event_on_msg_recv_arg *m, void *arg)
{
    struct feeding *f = arg;

    (void)ctx;
    if (f->h->closed || f->h->refused)
        return;
    if (m->opcode == WSLAY_CONNECTION_CLOSE && m->msg_length == 1) {
        f->h->refused = true; /* half a code: it does not mind, we do */
        return;
    }
    keep(f->h, m->msg, m->msg_length);
    note(f->h, m->opcode);
}

static void
listen_with_wslay(struct heard *h, bool server, const uint8_t *data, size_t size)
{
    static const struct wslay_event_callbacks callbacks = { on_recv, on_send, on_genmask, NULL,
                                                            NULL,    NULL,    on_message };
    struct feeding                            f = { h, data, size };
    wslay_event_context_ptr                   ctx;

    memset(h, 0, sizeof *h);
    MUST((server ? wslay_event_context_server_init
                 : wslay_event_context_client_init)(&ctx, &callbacks, &f) == 0);
    wslay_event_config_set_max_recv_msg_length(ctx, LARGEST);
    if (wslay_event_recv(ctx) != 0 || !wslay_event_get_read_enabled(ctx))
        h->refused = !h->closed;
    wslay_event_context_free(ctx);
}

static bool
is_younger_code(const struct heard *h)
{
    size_t         start = h->count > 1 ? h->ends[h->count - 2] : 0;
    const uint8_t *code = (const uint8_t *)h->data + start;

    return h->closed && h->size >= start + 2 && code[0] == 1012 >> 8 &&
           code[1] >= (1012 & 255) &&
           code[1] <= (1014 & 255); /* registered since it was written */
}

/*
 * It looks at a head once that is complete, we at its first two bytes: give it the rest.
 * It looks at lengths and closes as the bytes come, we when they are complete.
 */
static void
compare_with_wslay(const struct heard *ours, bool server, const uint8_t *data, size_t size)
{
    static struct heard theirs;
    uint8_t            *longer = malloc(size + 16);

    if (longer == NULL || is_younger_code(ours)) {
        free(longer);
        return;
    }
    memcpy(longer, data, size);
    memset(longer + size, 0xff, 16);
    listen_with_wslay(&theirs, server, longer, size + (ours->refused ? 16 : 0));
    if (ours->undecided && !ours->refused)
        theirs.refused = false;
    compare(ours, &theirs);
    free(longer);
}

/* ---- extensions ------------------------------------------------------------------------- */

static void
negotiate(const uint8_t *data, size_t size)
{
    struct ht_ws_terms all = { .bits_in = 15, .bits_out = 15 }, terms, agreed;
    char              *field = malloc(size + 1), text[HT_WS_TERMS_SIZE];

    if (field == NULL)
        return;
    memcpy(field, data, size);
    field[size] = '\0';
    if (ht_ws_choose(field, &all, &terms, text)) {
        MUST(terms.bits_in >= 8 && terms.bits_in <= 15);
        MUST(terms.bits_out >= 9 && terms.bits_out <= 15);
        MUST(ht_ws_agree(text, &all, &agreed));
        MUST(agreed.forget_in == terms.forget_out && agreed.forget_out == terms.forget_in);
        MUST(agreed.bits_in == terms.bits_out && agreed.bits_out == terms.bits_in);
    }
    (void)ht_ws_agree(field, &all, &agreed);
    free(field);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct heard  whole, pieces;
    struct ht_ws_decoder d = { 0 };

    if (size == 0)
        return 0;
    d.masked = (data[0] & 1) != 0;
    d.deflate = (data[0] & 2) != 0;
    listen_to(&whole, d, (data[0] & 4) != 0, data + 1, size - 1, size);
    listen_to(&pieces, d, (data[0] & 4) != 0, data + 1, size - 1, 1 + (data[0] >> 4));
    compare(&whole, &pieces);
    if (!d.deflate) {
        compare_with_wslay(&whole, d.masked, data + 1, size - 1);
    } else if (size < 300) {
        negotiate(data + 1, size - 1);
    }
    return 0;
}
