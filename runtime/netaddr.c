/*
 * netaddr.c -- socket addresses from text and back.
 *
 *     host:port   [v6]:port   :port   unix:/path   unix:@abstract
 *
 * A host is a literal or a name; a port a number or a service's name.  Only
 * names go to the resolver (lookup.c).  IPv4 addresses mapped into IPv6, which a
 * socket for both protocols reports, are written as IPv4.
 */

#include "netaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/error.h>

static const char UNIX_PREFIX[] = "unix:";

/* ---- from text ---------------------------------------------------------- */

static int
parse_unix(const char *path, struct rt_addr *a)
{
    size_t length = strlen(path);

    if (length == 0)
        return bh_fail(-EINVAL, "address unix: missing path");
    if (length >= sizeof a->u.un.sun_path)
        return bh_fail(-ENAMETOOLONG, "address unix: path longer than %zu bytes",
                       sizeof a->u.un.sun_path - 1);
    memset(a, 0, sizeof *a);
    a->u.un.sun_family = AF_UNIX;
    memcpy(a->u.un.sun_path, path, length + 1);
    a->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
    if (path[0] == '@') { /* abstract: counted, no NUL */
        a->u.un.sun_path[0] = '\0';
        a->length--;
    }
    return 1;
}

static int
copy_part(const char *text, char *to, size_t size, const char *from, size_t length)
{
    if (length >= size)
        return bh_fail(-EINVAL, "address %.64s: too long", text);
    memcpy(to, from, length);
    to[length] = '\0';
    return 0;
}

/* split -- "host:port" or "[host]:port".  Returns: 0 or -EINVAL with a note. */
static int
split(const char *text, char host[RT_HOST_MAX], char service[RT_SERVICE_MAX])
{
    const char *begin = text, *end, *colon;
    int         error;

    if (text[0] == '[') {
        begin++;
        end = strchr(text, ']');
        if (end == NULL)
            return bh_fail(-EINVAL, "address %.64s: missing ']' in address", text);
        colon = end + 1;
        if (*colon != ':')
            return bh_fail(-EINVAL, "address %.64s: missing port in address", text);
    } else {
        end = colon = strrchr(text, ':');
        if (colon == NULL)
            return bh_fail(-EINVAL, "address %.64s: missing port in address", text);
        if (memchr(text, ':', (size_t)(colon - text)) != NULL)
            return bh_fail(-EINVAL, "address %.64s: too many colons in address", text);
    }
    if (strchr(colon + 1, ':') != NULL)
        return bh_fail(-EINVAL, "address %.64s: too many colons in address", text);
    error = copy_part(text, host, RT_HOST_MAX, begin, (size_t)(end - begin));
    if (error == 0)
        error = copy_part(text, service, RT_SERVICE_MAX, colon + 1, strlen(colon + 1));
    return error;
}

/* port_number -- Returns: 0 to 65535, or -1 if it is a name (-EINVAL: out of range, noted). */
static int
port_number(const char *service)
{
    char *end;
    long  n;

    if (service[0] == '\0' || strspn(service, "0123456789") != strlen(service))
        return service[0] == '\0' ? 0 : -1;
    n = strtol(service, &end, 10);
    if (n > UINT16_MAX)
        return bh_fail(-EINVAL, "address %s: invalid port", service);
    return (int)n;
}

bool
rt_addr_literal(const char *host, struct rt_addr *a)
{
    char        plain[INET6_ADDRSTRLEN];
    const char *zone = strchr(host, '%');
    size_t      length = zone != NULL ? (size_t)(zone - host) : strlen(host);

    if (length >= sizeof plain)
        return false;
    memcpy(plain, host, length);
    plain[length] = '\0';
    memset(a, 0, sizeof *a);
    if (zone == NULL && inet_pton(AF_INET, plain, &a->u.v4.sin_addr) == 1) {
        a->u.v4.sin_family = AF_INET;
        a->length = sizeof a->u.v4;
        return true;
    }
    if (inet_pton(AF_INET6, plain, &a->u.v6.sin6_addr) != 1)
        return false;
    a->u.v6.sin6_family = AF_INET6;
    a->length = sizeof a->u.v6;
    if (zone == NULL)
        return true;
    a->u.v6.sin6_scope_id = if_nametoindex(zone + 1);
    if (a->u.v6.sin6_scope_id == 0)
        a->u.v6.sin6_scope_id = (uint32_t)strtoul(zone + 1, NULL, 10);
    return a->u.v6.sin6_scope_id != 0;
}

void
rt_addr_set_port(struct rt_addr *a, unsigned port)
{
    if (a->u.any.sa_family == AF_INET)
        a->u.v4.sin_port = htons((uint16_t)port);
    else if (a->u.any.sa_family == AF_INET6)
        a->u.v6.sin6_port = htons((uint16_t)port);
}

/* unnamed_host -- all interfaces, or this machine. */
static int
unnamed_host(struct rt_want want, unsigned port, struct rt_addr *list)
{
    int n = 0;

    if (want.passive)
        (void)rt_addr_literal("::", &list[n++]);
    (void)rt_addr_literal(want.passive ? "0.0.0.0" : "127.0.0.1", &list[n++]);
    for (int i = 0; i < n; i++)
        rt_addr_set_port(&list[i], port);
    return n;
}

int
rt_addr_resolve(struct bh_ctx *ctx, const char *text, struct rt_want want,
                struct rt_addr list[RT_ADDR_MAX])
{
    char host[RT_HOST_MAX], service[RT_SERVICE_MAX];
    int  error, port;

    if (strncmp(text, UNIX_PREFIX, sizeof UNIX_PREFIX - 1) == 0)
        return parse_unix(text + sizeof UNIX_PREFIX - 1, &list[0]);
    error = split(text, host, service);
    if (error != 0)
        return error;
    port = port_number(service);
    if (port < -1)
        return port;
    if (port >= 0 && host[0] == '\0')
        return unnamed_host(want, (unsigned)port, list);
    if (port >= 0 && rt_addr_literal(host, &list[0])) {
        rt_addr_set_port(&list[0], (unsigned)port);
        return 1;
    }
    return rt_lookup(ctx, host, service, want, list);
}

/* ---- to text ------------------------------------------------------------ */

void
rt_addr_host(const struct rt_addr *a, char *text, size_t size)
{
    char        zone[IF_NAMESIZE + 1] = "";
    char        host[INET6_ADDRSTRLEN] = "";
    const void *v6 = &a->u.v6.sin6_addr;

    if (a->u.any.sa_family == AF_INET) {
        (void)inet_ntop(AF_INET, &a->u.v4.sin_addr, host, sizeof host);
    } else if (a->u.any.sa_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(v6))
            (void)inet_ntop(AF_INET, (const char *)v6 + 12, host, sizeof host);
        else
            (void)inet_ntop(AF_INET6, v6, host, sizeof host);
        if (a->u.v6.sin6_scope_id != 0) {
            zone[0] = '%';
            if (if_indextoname(a->u.v6.sin6_scope_id, zone + 1) == NULL)
                (void)snprintf(zone, sizeof zone, "%%%u", (unsigned)a->u.v6.sin6_scope_id);
        }
    }
    (void)snprintf(text, size, "%s%s", host, zone);
}

static void
unix_text(const struct rt_addr *a, char *text, size_t size)
{
    size_t      header = offsetof(struct sockaddr_un, sun_path);
    size_t      length = a->length > header ? a->length - header : 0;
    const char *path = a->u.un.sun_path;

    if (length > 0 && path[0] == '\0')
        (void)snprintf(text, size, "unix:@%.*s", (int)(length - 1), path + 1);
    else
        (void)snprintf(text, size, "unix:%.*s", (int)length, path);
}

void
rt_addr_text(const struct rt_addr *a, char *text, size_t size)
{
    char     host[INET6_ADDRSTRLEN + IF_NAMESIZE + 1];
    unsigned port;

    if (a->u.any.sa_family == AF_UNIX) {
        unix_text(a, text, size);
        return;
    }
    rt_addr_host(a, host, sizeof host);
    port = ntohs(a->u.any.sa_family == AF_INET ? a->u.v4.sin_port : a->u.v6.sin6_port);
    (void)snprintf(text, size, strchr(host, ':') != NULL ? "[%s]:%u" : "%s:%u", host, port);
}

const char *
rt_addr_network(int family, int type)
{
    if (family == AF_UNIX)
        return "unix";
    return type == SOCK_DGRAM ? "udp" : "tcp";
}
