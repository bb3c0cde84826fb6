/*
 * ws_accept.c -- the server's side of a WebSocket's handshake, and its tie to the request.
 *
 * The socket is the request's: ht_call_end calls end_request on the goroutine that serves,
 * whether the handler returned or panicked, while the connection is still there.  The
 * struct is in the request's memory, so goroutines of bh_http_go may use it to their end.
 */

#include "ht.h"
#include "ws_conn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

/* ---- fields of the request ------------------------------------------------------- */

/* The one value of a field.  Returns: NULL if it is absent or there twice. */
static const char *
only_value(struct bh_http_call *c, const char *name)
{
    const char *found = NULL, *field, *value;

    for (unsigned i = 0; bh_http_header_at(c, i, &field, &value); i++)
        if (strcasecmp(field, name) == 0) {
            if (found != NULL)
                return NULL;
            found = value;
        }
    return found;
}

/* Whether one of the lists under this name has the token, as `compare` (strncmp) finds. */
static bool
has_token(struct bh_http_call *c, const char *name, const char *token,
          int (*compare)(const char *, const char *, size_t))
{
    const char *field, *value, *at;
    size_t      length;

    for (unsigned i = 0; bh_http_header_at(c, i, &field, &value); i++)
        if (strcasecmp(field, name) == 0)
            while ((at = ht_ws_next_token(&value, &length)) != NULL)
                if (length == strlen(token) && compare(at, token, length) == 0)
                    return true;
    return false;
}

/* Base64 of 16 bytes. */
static bool
is_key(const char *key)
{
    static const char base64[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

    return key != NULL && strspn(key, base64) == 22 && strcmp(key + 22, "==") == 0 &&
           strchr("AQgw", key[21]) != NULL;
}

/* Pages tell their origin; programs that are no browser need not. */
static bool
may_connect(struct bh_http_call *c, const char *const *origins)
{
    const char *origin = only_value(c, "Origin"), *host;

    if (bh_http_header(c, "Origin") == NULL)
        return true;
    if (origin == NULL)
        return false;
    if (origins == NULL) {
        host = strstr(origin, "://");
        return host != NULL && strcasecmp(host + 3, c->host) == 0;
    }
    for (; *origins != NULL; origins++)
        if (strcmp(*origins, "*") == 0 || strcasecmp(*origins, origin) == 0)
            return true;
    return false;
}

/* ---- agreeing -------------------------------------------------------------------- */

static int
refuse(struct bh_http_call *c, int status, const char *why)
{
    if (status == 426) {
        (void)bh_http_set_header(c, "Upgrade", "websocket");
        (void)bh_http_set_header(c, "Sec-WebSocket-Version", "13");
    }
    (void)bh_http_reply(c, status, "%d %s: %s\n", status, bh_http_status_text(status), why);
    return bh_fail(-EPROTO, "ws: %s", why);
}

/* Returns: 0; or an error, with a reply. */
static int
check_request(struct bh_http_call *c, const struct bh_ws_options *o)
{
    const char *version = only_value(c, "Sec-WebSocket-Version");

    if (c->version != 11)
        return refuse(c, 400, "a WebSocket needs HTTP/1.1");
    if (!has_token(c, "Upgrade", "websocket", strncasecmp) ||
        !has_token(c, "Connection", "upgrade", strncasecmp))
        return refuse(c, 426, "this is a WebSocket");
    if (version == NULL || strcmp(version, "13") != 0)
        return refuse(c, 426, "only version 13 of WebSocket");
    if (strcmp(c->method, "GET") != 0 || !c->s->body_done ||
        !is_key(only_value(c, "Sec-WebSocket-Key")))
        return refuse(c, 400, "bad handshake of a WebSocket");
    if (!may_connect(c, o->origins))
        return refuse(c, 403, "not from that origin");
    return 0;
}

static void
choose_protocol(struct bh_http_call *c, struct bh_ws *ws)
{
    for (const char *const *p = ws->o.protocols; p != NULL && *p != NULL; p++)
        if (has_token(c, "Sec-WebSocket-Protocol", *p, strncmp)) {
            BH_REQUIRE(strlen(*p) < sizeof ws->protocol);
            memcpy(ws->protocol, *p, strlen(*p) + 1);
            (void)bh_http_set_header(c, "Sec-WebSocket-Protocol", *p);
            return;
        }
}

static void
choose_compression(struct bh_http_call *c, struct bh_ws *ws)
{
    struct ht_ws_terms want = ht_ws_wanted(&ws->o);
    const char        *field, *value;
    char               text[HT_WS_TERMS_SIZE];

    for (unsigned i = 0; want.on && bh_http_header_at(c, i, &field, &value); i++)
        if (strcasecmp(field, "Sec-WebSocket-Extensions") == 0 &&
            ht_ws_choose(value, &want, &ws->terms, text)) {
            (void)bh_http_set_header(c, "Sec-WebSocket-Extensions", text);
            return;
        }
}

/* ---- the request and the socket -------------------------------------------------- */

static void
end_request(struct ht_call *x)
{
    ht_conn_on_drain(x->k, NULL, NULL);
    ht_ws_end(x->at_end_arg, x->pub.aborted                 ? 1011
                             : atomic_load(&x->s->draining) ? 1001
                                                            : 1000);
}

/* The buffers of HTTP are of no more use. */
static void
empty_kit(struct ht_kit *kit)
{
    free(kit->in);
    free(kit->out);
    free(kit->fields);
    kit->in = kit->out = NULL;
    kit->fields = NULL;
    kit->in_size = kit->out_size = 0;
}

static void
open_on(struct bh_ws *ws, struct ht_call *x)
{
    struct ht_conn *k = x->k;

    ht_ws_open(ws, &k->io, ws->o.ctx != NULL ? ws->o.ctx : x->s->ctx, k->kit->in + k->in_start,
               k->in_end - k->in_start);
    k->in_start = k->in_end = 0;
    empty_kit(k->kit);
    x->at_end_arg = ws;
    x->at_end = end_request;
    bh_arena_defer(x->arena, ht_ws_free_message, ws);
    ht_conn_on_drain(k, ht_ws_drain, ws);
}

int
bh_ws_accept(struct bh_http_call *c, const struct bh_ws_options *options, struct bh_ws **ws)
{
    struct ht_call      *x = ht_own(c);
    struct bh_ws_options o;
    struct bh_ws        *made;
    char                 answer[32];
    int                  rc;

    ht_ws_fill_defaults(&o, options);
    rc = check_request(c, &o);
    if (rc < 0)
        return rc;
    made = memset(bh_arena_alloc(x->arena, sizeof *made), 0, sizeof *made);
    made->o = o;
    choose_protocol(c, made);
    choose_compression(c, made);
    ht_ws_key(only_value(c, "Sec-WebSocket-Key"), answer);
    (void)bh_http_set_header(c, "Sec-WebSocket-Accept", answer);
    rc = ht_upgrade(x, "websocket");
    if (rc < 0)
        return rc;
    open_on(made, x);
    *ws = made;
    return 0;
}
