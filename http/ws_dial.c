/*
 * ws_dial.c -- a WebSocket from the client's side: connect, ask, see that the answer is
 * exactly what was asked for.
 *
 * Whatever the server sends behind its 101 belongs to the WebSocket.  Until the
 * handshake is over the connection has a deadline and dies with the caller's context.
 */

#include "client/response.h"
#include "ws_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/random.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/http.h>
#include <bulkhead/http/url.h>
#include <openssl/evp.h>

enum { HEAD_SIZE = 16384, FIELDS = 100, MEMORY = 1 << 20 };

/* ---- addresses ------------------------------------------------------------------- */

/* ws is http and wss is https, but for the name. */
static int
parse_url(struct bh_arena *arena, const char *text, struct bh_url *url)
{
    bool secure = strncasecmp(text, "wss://", 6) == 0;
    int  rc;

    if (!secure && strncasecmp(text, "ws://", 5) != 0)
        return bh_fail(-EINVAL, "ws: \"%s\" is no ws:// or wss:// address", text);
    rc = bh_url_parse(
        arena, bh_arena_print(arena, secure ? "https%s" : "http%s", strchr(text, ':')), url);
    return rc == 0 && url->user != NULL
               ? bh_fail(-EINVAL, "ws: user and password belong into a header field")
               : rc;
}

/* ---- the request ----------------------------------------------------------------- */

static void
make_key(char key[32])
{
    unsigned char random[16];

    if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random)
        bh_panic("ws: no random numbers");
    (void)EVP_EncodeBlock((unsigned char *)key, random, sizeof random);
}

static int
ask(struct bh_arena *arena, struct bh_ws *ws, const struct bh_url *url, const char *key)
{
    char        offer[HT_WS_TERMS_SIZE];
    const char *text = bh_arena_print(arena,
                                      "GET %s HTTP/1.1\r\nHost: %s\r\nUpgrade: websocket\r\n"
                                      "Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                      "Sec-WebSocket-Key: %s\r\n",
                                      url->target, url->authority, key);
    ssize_t     n;

    for (const char *const *p = ws->o.protocols; p != NULL && *p != NULL; p++)
        text = bh_arena_print(arena, "%s%s%s%s", text,
                              p == ws->o.protocols ? "Sec-WebSocket-Protocol: " : ", ", *p,
                              p[1] == NULL ? "\r\n" : "");
    if (ws->o.deflate) {
        struct ht_ws_terms want = ht_ws_wanted(&ws->o);

        ht_ws_offer(&want, offer);
        text = bh_arena_print(arena, "%sSec-WebSocket-Extensions: %s\r\n", text, offer);
    }
    for (const char *const *h = ws->o.headers; h != NULL && *h != NULL; h++) {
        if (strpbrk(*h, "\r\n") != NULL || strchr(*h, ':') == NULL)
            bh_panic("ws: bad header field \"%s\"", *h);
        text = bh_arena_print(arena, "%s%s\r\n", text, *h);
    }
    text = bh_arena_print(arena, "%s\r\n", text);
    n = ht_io_write(&ws->own, text, strlen(text));
    return n < 0 ? (int)n : 0;
}

/* ---- the answer ------------------------------------------------------------------ */

/* The one value of a field.  Returns: NULL if it is absent; "" if it is there twice. */
static const char *
value_of(const struct hc_head *h, const char *name)
{
    const char *found = NULL;

    for (unsigned i = 0; i < h->field_count; i++)
        if (strcasecmp(h->fields[i].name, name) == 0)
            found = found != NULL ? "" : h->fields[i].value;
    return found;
}

static bool
list_has(const char *list, const char *token)
{
    const char *at;
    size_t      length;

    while (list != NULL && (at = ht_ws_next_token(&list, &length)) != NULL)
        if (length == strlen(token) && strncasecmp(at, token, length) == 0)
            return true;
    return false;
}

static bool
was_offered(const char *const *protocols, const char *name)
{
    for (; protocols != NULL && *protocols != NULL; protocols++)
        if (strcmp(*protocols, name) == 0)
            return true;
    return false;
}

/* Returns: what is wrong with it, or NULL. */
static const char *
check_answer(struct bh_ws *ws, const struct hc_head *h, const char *key)
{
    struct ht_ws_terms want = ht_ws_wanted(&ws->o);
    const char *upgrade = value_of(h, "Upgrade"), *accept = value_of(h, "Sec-WebSocket-Accept"),
               *protocol = value_of(h, "Sec-WebSocket-Protocol"),
               *extensions = value_of(h, "Sec-WebSocket-Extensions");
    char expected[32];

    ht_ws_key(key, expected);
    if (upgrade == NULL || strcasecmp(upgrade, "websocket") != 0 ||
        !list_has(value_of(h, "Connection"), "upgrade"))
        return "the server did not upgrade to WebSocket";
    if (accept == NULL || strcmp(accept, expected) != 0)
        return "the server's Sec-WebSocket-Accept does not answer our key";
    if (protocol != NULL) {
        if (!was_offered(ws->o.protocols, protocol) || strlen(protocol) >= sizeof ws->protocol)
            return "the server chose a subprotocol that was not offered";
        memcpy(ws->protocol, protocol, strlen(protocol) + 1);
    }
    if (extensions != NULL && (!want.on || !ht_ws_agree(extensions, &want, &ws->terms)))
        return "the server chose an extension that was not offered";
    return NULL;
}

/* Reads a head into text, which has HEAD_SIZE bytes.  Returns: bytes read; *end: those of the head. */
static ssize_t
read_answer(struct bh_ws *ws, struct hc_head *h, char *text, size_t *end)
{
    static const struct ht_limits limits = { 1024, HEAD_SIZE, FIELDS };
    size_t                        used = 0;
    ssize_t                       n;
    long                          found;

    do {
        n = ht_io_read(&ws->own, text + used, HEAD_SIZE - used);
        if (n <= 0)
            return n < 0 ? n : bh_fail(-EPROTO, "ws: the server left in the handshake");
        used += (size_t)n;
        found = hc_head_find(h, text, used, &limits);
    } while (found == 0 && used < HEAD_SIZE);
    if (found <= 0 || hc_head_parse(h, text, (size_t)found, FIELDS, false) < 0)
        return bh_fail(-EPROTO, "ws: the server's answer is no HTTP: %s",
                       h->fault != NULL ? h->fault : "too long");
    if (h->status != 101)
        return bh_fail(-EPROTO, "ws: the server answered %d %s", h->status,
                       bh_http_status_text(h->status));
    *end = (size_t)found;
    return (ssize_t)used;
}

/* ---- the whole ------------------------------------------------------------------- */

static void
give_up(struct bh_ws **ws)
{
    if (*ws == NULL)
        return;
    if ((*ws)->own.conn != NULL)
        ht_io_free(&(*ws)->own);
    free(*ws);
}

static int
connect_to(struct bh_arena *arena, struct bh_ctx *ctx, struct bh_ws *ws,
           const struct bh_url *url)
{
    bool        six = strchr(url->host, ':') != NULL;
    const char *address = bh_arena_print(arena, "%s%s%s:%u", six ? "[" : "", url->host,
                                         six ? "]" : "", url->port);
    int         rc = bh_dial(ctx, address, &ws->own.conn);

    if (rc < 0)
        return rc;
    bh_conn_set_ctx(ws->own.conn, ctx);
    if (strcmp(url->scheme, "https") == 0) {
        rc = bh_tls_client(ws->o.tls, ws->own.conn, url->host, &ws->own.tls);
        if (rc == 0)
            rc = bh_tls_handshake(ws->own.tls);
    }
    return rc;
}

static int
handshake(struct bh_arena *arena, struct bh_ws *ws, const struct bh_url *url)
{
    char          *text = bh_arena_alloc(arena, HEAD_SIZE);
    struct hc_head head = { .fields = bh_arena_alloc(arena, FIELDS * sizeof *head.fields) };
    char           key[32];
    const char    *why;
    size_t         end = 0;
    ssize_t        n;
    int            rc;

    make_key(key);
    rc = ask(arena, ws, url, key);
    if (rc < 0)
        return rc;
    n = read_answer(ws, &head, text, &end);
    if (n < 0)
        return (int)n;
    why = check_answer(ws, &head, key);
    if (why != NULL)
        return bh_fail(-EPROTO, "ws: %s", why);
    bh_conn_set_write_timeout(ws->own.conn, 30 * BH_SECOND);
    ht_ws_open(ws, &ws->own, ws->o.ctx, text + end, (size_t)n - end);
    return 0;
}

int
bh_ws_dial(struct bh_ctx *ctx, const char *address, const struct bh_ws_options *options,
           struct bh_ws **ws)
{
    struct bh_arena *arena = bh_arena_new(MEMORY);
    struct bh_ws    *made = NULL;
    struct bh_ctx   *bounded;
    struct bh_url    url;
    int              rc;

    BH_DEFER(bh_arena_free, arena);
    rc = parse_url(arena, address, &url);
    if (rc < 0)
        return rc;
    BH_DEFER(give_up, &made);
    made = calloc(1, sizeof *made);
    if (made == NULL)
        bh_panic("ws: out of memory for a connection");
    made->client = true;
    ht_ws_fill_defaults(&made->o, options);
    bounded = bh_ctx_timeout(ctx, made->o.open_timeout);
    BH_DEFER(bh_ctx_end, bounded);
    rc = connect_to(arena, bounded, made, &url);
    if (rc == 0)
        rc = handshake(arena, made, &url);
    if (rc < 0)
        return rc;
    *ws = made;
    made = NULL;
    return 0;
}

void
bh_ws_free(struct bh_ws *ws)
{
    if (ws == NULL)
        return;
    ht_ws_end(ws, 1000);
    ht_ws_free_message(ws);
    ht_io_free(&ws->own);
    free(ws);
}
