/*
 * clients.c -- how many connections each client has, for max_per_client.
 *
 * A client is an IPv4 address or the /64 of an IPv6 one, which is what one subscriber gets.
 * Those that have connections are in a table with chains; s->lock protects it and the counts.
 * Nothing is kept, nor done, without a limit.
 */

#include "ht.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

enum { BITS = 12 /* of a hash */ };

struct ht_client {
    struct ht_client *next;
    uint64_t          key;
    unsigned          count; /* of connections */
};

/* "192.0.2.1:80" or "[2001:db8::1]:80".  Returns: false for what is neither. */
static bool
key_of(const char *peer, uint64_t *key)
{
    const char     *colon = strrchr(peer, ':');
    char            text[INET6_ADDRSTRLEN + 1];
    size_t          length = colon != NULL ? (size_t)(colon - peer) : 0;
    struct in6_addr six;
    struct in_addr  four;

    if (length > 2 && peer[0] == '[') {
        peer++;
        length -= 2;
    }
    if (length == 0 || length >= sizeof text)
        return false;
    memcpy(text, peer, length);
    text[length] = '\0';
    text[strcspn(text, "%")] = '\0'; /* without the scope */
    if (inet_pton(AF_INET, text, &four) == 1) {
        *key = four.s_addr;
        return true;
    }
    if (inet_pton(AF_INET6, text, &six) != 1)
        return false;
    if (IN6_IS_ADDR_V4MAPPED(&six)) {
        memcpy(&four, six.s6_addr + 12, sizeof four);
        *key = four.s_addr;
    } else {
        memcpy(key, six.s6_addr, sizeof *key);
    }
    return true;
}

/* Returns: where the client is linked in, or the end of its chain. */
static struct ht_client **
find(struct ht_client **table, uint64_t key)
{
    struct ht_client **at = &table[key * 0x9e3779b97f4a7c15U >> (64 - BITS)];

    while (*at != NULL && (*at)->key != key)
        at = &(*at)->next;
    return at;
}

static bool
enter(struct bh_http_server *s, uint64_t key)
{
    struct ht_client **at;

    if (s->clients == NULL)
        s->clients = calloc((size_t)1 << BITS, sizeof(struct ht_client *));
    if (s->clients == NULL)
        return false;
    at = find(s->clients, key);
    if (*at == NULL && (*at = calloc(1, sizeof **at)) == NULL)
        return false;
    (*at)->key = key;
    if ((*at)->count >= s->o.max_per_client)
        return false;
    (*at)->count++;
    return true;
}

bool
ht_client_enter(struct ht_conn *k)
{
    struct bh_http_server *s = k->s;
    uint64_t               key;

    if (s->o.max_per_client == 0 || !key_of(bh_conn_peer(k->io.conn), &key))
        return true;
    bh_mutex_lock(&s->lock);
    k->counted = enter(s, key);
    bh_mutex_unlock(&s->lock);
    return k->counted;
}

void
ht_client_leave(struct ht_conn *k)
{
    struct ht_client **at, *client;
    uint64_t           key;

    if (!k->counted || !key_of(bh_conn_peer(k->io.conn), &key))
        return;
    at = find(k->s->clients, key);
    client = *at;
    if (--client->count == 0) {
        *at = client->next;
        free(client);
    }
}
