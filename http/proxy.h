#ifndef BULKHEAD_HTTP_PROXY_H
#define BULKHEAD_HTTP_PROXY_H

/*
 * proxy.h -- PRIVATE: the PROXY protocol, by which a load balancer says whose connection it
 * hands on.  proxy_parse.c reads the header from bytes and knows nothing else, so that a
 * fuzzer can link it alone; proxy.c reads it from a connection.
 *
 * See: "The PROXY protocol, versions 1 & 2", haproxy.org, 2020/03/05.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { HT_PROXY_MAX = 4096 }; /* bytes of a header; the addresses need up to 232, the rest is extras */

struct ht_proxy {
    bool known;     /* it says who the client is; else: whom we see */
    char peer[128]; /* "192.0.2.1:50312", "[2001:db8::1]:50312", "unix:/path" */
    const char *why; /* it is malformed: static text */
};

/* ht_proxy_parse -- Returns: bytes of the header; 0 if more are needed; -1 if it is none. */
long ht_proxy_parse(struct ht_proxy *p, const uint8_t *data, size_t size);
/* ht_proxy_want -- how many bytes may be read behind these and still belong to the header. */
size_t ht_proxy_want(const uint8_t *data, size_t size);

struct ht_conn;
/* ht_proxy_check -- Panics: if one of the sources is neither an address, a block of them, nor "unix". */
void ht_proxy_check(const char *const *sources);
/*
 * ht_proxy_read -- the header, if k's peer is one that sends it; sets k->peer.
 * Returns: 0 to go on, or an error: the connection must be closed.
 * Blocks:  up to head_timeout.
 */
int ht_proxy_read(struct ht_conn *k);

#endif
