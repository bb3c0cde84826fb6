/*
 * realip.c -- the client's address and scheme, as trusted proxies say.
 *
 * Believing a field that anybody can send would let clients choose who they are, so
 * nobody is believed by default, and of the fields only the one the proxies are known
 * to write.  address.c walks the list.
 */

#include <bulkhead/http/security.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/base/arena.h>

#include "fields.h"
#include "helpers.h"

enum { MAX_BLOCKS = 64 };

struct bh_http_proxies {
    struct bh_http_proxies_options o; /* o.trusted is NULL */
    struct ht_block                at[MAX_BLOCKS];
    struct ht_blocks               blocks;
    bool                           unix_too;
};

/* What was found out about a call. */
struct client {
    const char *ip, *scheme; /* NULL: as the connection has it */
};
static const char client_key;

struct bh_http_proxies *
bh_http_proxies_new(const struct bh_http_proxies_options *options)
{
    struct bh_http_proxies *p = calloc(1, sizeof *p);
    const char             *list = options->trusted != NULL ? options->trusted : "";
    size_t                  length;

    if (p == NULL)
        bh_panic("http: out of memory for proxies");
    p->o = *options;
    p->o.trusted = NULL;
    p->blocks.at = p->at;
    for (const char *item; (item = ht_list_next(&list, &length)) != NULL;) {
        if (length == 4 && memcmp(item, "unix", 4) == 0) {
            p->unix_too = true;
            continue;
        }
        if (p->blocks.count == MAX_BLOCKS ||
            !ht_block_parse(item, length, &p->at[p->blocks.count])) {
            free(p);
            bh_panic("http: \"%.*s\" is no block of addresses", (int)length, item);
        }
        p->blocks.count++;
    }
    return p;
}

void
bh_http_proxies_free(struct bh_http_proxies *p)
{
    free(p);
}

/* ---- the walk -------------------------------------------------------------------- */

/* The peer's address; a zone ("%eth0") does not count. */
static bool
peer_address(const struct bh_http_call *c, struct ht_address *a)
{
    size_t      length = strlen(c->peer), zone = strcspn(c->peer, "%");
    const char *address = c->peer + (c->peer[0] == '[');

    if (zone < length)
        return ht_address_parse(address, zone - (size_t)(address - c->peer), a);
    return ht_address_parse(c->peer, length, a);
}

static bool
is_unix(const struct bh_http_call *c)
{
    return c->peer[0] == '\0' || c->peer[0] == '@' || strncmp(c->peer, "unix", 4) == 0;
}

static bool
peer_is_trusted(const struct bh_http_proxies *p, const struct bh_http_call *c)
{
    struct ht_address a;

    if (is_unix(c))
        return p->unix_too;
    return peer_address(c, &a) && ht_blocks_have(&p->blocks, &a);
}

static void
walk(const struct bh_http_proxies *p, struct bh_http_call *c, struct ht_origin *o)
{
    const char *value;

    *o = (struct ht_origin){ 0 };
    switch (p->o.field) {
    case BH_HTTP_X_FORWARDED_FOR:
        value = ht_request_list(c, "X-Forwarded-For");
        if (value != NULL)
            ht_x_forwarded_walk(value, &p->blocks, o);
        break;
    case BH_HTTP_FORWARDED:
        value = ht_request_list(c, "Forwarded");
        if (value != NULL)
            ht_forwarded_walk(value, &p->blocks, o);
        break;
    case BH_HTTP_X_REAL_IP:
        value = ht_request_single(c, "X-Real-IP");
        o->known = value != NULL && ht_address_parse(value, strlen(value), &o->address);
        break;
    }
}

/* What the nearest proxy, the last to write, says. */
static const char *
x_forwarded_proto(struct bh_http_call *c)
{
    const char *list = ht_request_list(c, "X-Forwarded-Proto"), *last = NULL;
    size_t      length = 0, n;

    if (list == NULL)
        return "";
    for (const char *item; (item = ht_list_next(&list, &n)) != NULL; length = n)
        last = item;
    return last != NULL ? bh_arena_string(c->arena, last, length) : "";
}

static const char *
known_scheme(const char *proto)
{
    if (strcasecmp(proto, "https") == 0 || strcasecmp(proto, "wss") == 0)
        return "https";
    return strcasecmp(proto, "http") == 0 || strcasecmp(proto, "ws") == 0 ? "http" : NULL;
}

int
bh_http_real_ip(struct bh_http_call *c, void *arg)
{
    const struct bh_http_proxies *p = arg;
    struct ht_origin              o;
    struct client                *client;

    if (peer_is_trusted(p, c)) {
        client = bh_arena_alloc(c->arena, sizeof *client);
        walk(p, c, &o);
        if (o.known) {
            char text[HT_ADDRESS_TEXT];

            ht_address_put(text, &o.address);
            client->ip = bh_arena_string(c->arena, text, strlen(text));
        }
        if (!p->o.no_proto)
            client->scheme =
                known_scheme(p->o.field == BH_HTTP_FORWARDED ? o.proto : x_forwarded_proto(c));
        bh_http_set(c, &client_key, client);
    }
    return bh_http_next(c);
}

/* ---- what came of it ------------------------------------------------------------- */

const char *
bh_http_client_ip(struct bh_http_call *c)
{
    const struct client *client = bh_http_get(c, &client_key);
    struct ht_address    a;
    char                 text[HT_ADDRESS_TEXT];

    if (client != NULL && client->ip != NULL)
        return client->ip;
    /* IPv4, as nearly always: it is printed so already, and need not be read and printed again. */
    size_t digits = strspn(c->peer, "0123456789.");
    if (digits > 0 && c->peer[digits] == ':')
        return bh_arena_string(c->arena, c->peer, digits);
    if (is_unix(c) || !peer_address(c, &a))
        return "unix";
    ht_address_put(text, &a);
    return bh_arena_string(c->arena, text, strlen(text));
}

const char *
bh_http_scheme(struct bh_http_call *c)
{
    const struct client *client = bh_http_get(c, &client_key);

    if (client != NULL && client->scheme != NULL)
        return client->scheme;
    return c->secure ? "https" : "http";
}
