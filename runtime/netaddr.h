#ifndef BULKHEAD_RUNTIME_NETADDR_H
#define BULKHEAD_RUNTIME_NETADDR_H

/* netaddr.h -- PRIVATE: socket addresses and their text.  netaddr.c, lookup.c. */

#include <stdbool.h>
#include <stddef.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

struct bh_ctx;

struct rt_addr {
    socklen_t length;
    union {
        struct sockaddr     any;
        struct sockaddr_in  v4;
        struct sockaddr_in6 v6;
        struct sockaddr_un  un;
    } u;
};

enum {
    RT_ADDR_TEXT = 128,  /* "unix:" and 108 bytes of path is the longest */
    RT_ADDR_MAX = 16,    /* of one host; more are ignored */
    RT_HOST_MAX = 256,   /* a DNS name has at most 253 characters */
    RT_SERVICE_MAX = 64,
};

/* What is wanted of an address text. */
struct rt_want {
    int  type;    /* SOCK_STREAM or SOCK_DGRAM */
    bool passive; /* to listen on: no host means all interfaces, else this one */
};

/*
 * rt_addr_resolve -- the socket addresses that text names.
 * Returns: how many (at least 1), or an error with a note.
 * Blocks:  while a name is looked up; not for literal addresses.
 */
int rt_addr_resolve(struct bh_ctx *ctx, const char *text, struct rt_want want,
                    struct rt_addr list[RT_ADDR_MAX]);

/* rt_addr_literal -- host as an IPv4 or IPv6 literal, zone allowed.  Returns: false if it is none. */
bool rt_addr_literal(const char *host, struct rt_addr *a);
void rt_addr_set_port(struct rt_addr *a, unsigned port);

/* rt_addr_text -- "1.2.3.4:80", "[::1]:80", "unix:/path", "unix:@name", "unix:" if unnamed. */
void rt_addr_text(const struct rt_addr *a, char *text, size_t size);
/* rt_addr_host -- the same without port and brackets; "" for Unix sockets. */
void rt_addr_host(const struct rt_addr *a, char *text, size_t size);
/* rt_addr_network -- "tcp", "udp" or "unix". */
const char *rt_addr_network(int family, int type);

/*
 * rt_lookup -- host and service by the system's resolver, off-thread.  (lookup.c)
 * service may be NULL.  Returns: how many, or an error with a note.
 */
int rt_lookup(struct bh_ctx *ctx, const char *host, const char *service, struct rt_want want,
              struct rt_addr list[RT_ADDR_MAX]);

#endif
