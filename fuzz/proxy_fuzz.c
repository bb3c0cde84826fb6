/*
 * proxy_fuzz.c -- any bytes at all as a header of the PROXY protocol.
 *
 *     no crash      under the address and undefined-behaviour sanitizers
 *     no splits     a header that is accepted is not before its last byte is there
 *     no overrun    what may be read ahead is never more than the header
 *     clean names   a peer is printable, and an address of the network reads back as one
 */

#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "proxy.h"

#define MUST(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "violated at line %d: %s\n", __LINE__, #condition);                \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

static void
check_peer(const char *peer)
{
    char     host[128], *port;
    uint8_t  address[16];
    unsigned number;

    MUST(strlen(peer) < sizeof((struct ht_proxy *)0)->peer);
    for (const char *c = peer; *c != '\0'; c++)
        MUST(*c > ' ' && *c < 0x7f);
    if (strncmp(peer, "unix:", 5) == 0)
        return;
    (void)snprintf(host, sizeof host, "%s", peer);
    port = strrchr(host, ':');
    MUST(port != NULL && sscanf(port + 1, "%u", &number) == 1 && number <= 65535);
    *port = '\0';
    if (host[0] == '[') {
        MUST(port[-1] == ']');
        port[-1] = '\0';
        MUST(inet_pton(AF_INET6, host + 1, address) == 1);
    } else {
        MUST(inet_pton(AF_INET, host, address) == 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct ht_proxy p, part;
    long            length = ht_proxy_parse(&p, data, size);
    size_t          have = 0;

    MUST(length <= (long)size && length <= HT_PROXY_MAX);
    MUST(length < 0 ? p.why != NULL : p.why == NULL);
    if (length > 0 && p.known)
        check_peer(p.peer);
    while (have < size) { /* as from a connection with TLS behind the header */
        uint8_t *copy = malloc(have + 1);
        long     at;
        size_t   want;

        if (copy == NULL)
            break;
        memcpy(copy, data, have);
        at = ht_proxy_parse(&part, copy, have);
        want = at == 0 ? ht_proxy_want(copy, have) : 0;
        free(copy);
        if (at != 0) {
            MUST(length <= 0 || (at == length && have == (size_t)length));
            break;
        }
        MUST(want > 0 && (length <= 0 || have + want <= (size_t)length));
        have += want;
    }
    return 0;
}
