/* post_target.c -- where requests go: a URL, fields of the request, who is trusted.  See post.h. */

#include "post.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/error.h>
#include <bulkhead/http/url.h>

enum { HEAD_MAX = 16 << 10 }; /* bytes of a request's head */

struct text {
    char  *data; /* HEAD_MAX */
    size_t length;
    bool   full;
};

static void __attribute__((format(printf, 2, 3))) add(struct text *t, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    int n = vsnprintf(t->data + t->length, HEAD_MAX - t->length, format, args);
    va_end(args);
    if (n < 0 || (size_t)n >= HEAD_MAX - t->length)
        t->full = true;
    else
        t->length += (size_t)n;
}

/* What we say ourselves, and nobody may say twice. */
static bool
reserved(const char *name, size_t length)
{
    static const char *const names[] = {
        "Host",         "Connection",       "Content-Length",
        "Content-Type", "Content-Encoding", "Transfer-Encoding",
        "Expect",       "Upgrade"
    };

    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        if (strlen(names[i]) == length && strncasecmp(names[i], name, length) == 0)
            return true;
    }
    return false;
}

static int
hex(char c)
{
    return isdigit((unsigned char)c)    ? c - '0'
           : isxdigit((unsigned char)c) ? tolower(c) - 'a' + 10
                                        : -1;
}

/* One "name=value" of size bytes; white space around both does not count. */
static int
add_field(struct text *t, const char *field, size_t size)
{
    static const char token[] = "!#$%&'*+-.^_`|~0123456789"
                                "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

    while (size > 0 && (*field == ' ' || *field == '\t'))
        field++, size--;
    while (size > 0 && (field[size - 1] == ' ' || field[size - 1] == '\t'))
        size--;
    if (size == 0)
        return 0;
    size_t      name = strspn(field, token);
    const char *from = field + name, *end = field + size;
    while (from < end && (*from == ' ' || *from == '\t'))
        from++;
    if (name == 0 || from >= end || *from != '=' || reserved(field, name))
        return bh_fail(-EINVAL, "header \"%.*s\" for the collector", (int)name, field);
    add(t, "%.*s: ", (int)name, field);
    for (from++; from < end && (*from == ' ' || *from == '\t');)
        from++;
    while (from < end) {
        int c = (unsigned char)*from++;
        if (c == '%') {
            if (end - from < 2 || hex(from[0]) < 0 || hex(from[1]) < 0)
                return bh_fail(-EINVAL, "header \"%.*s\" for the collector: bad escape",
                               (int)name, field);
            c = hex(from[0]) << 4 | hex(from[1]);
            from += 2;
        }
        if (c == 0x7f || (c < 0x20 && c != '\t'))
            return bh_fail(-EINVAL, "header \"%.*s\" for the collector: control character",
                           (int)name, field);
        add(t, "%c", c);
    }
    add(t, "\r\n");
    return 0;
}

static int
make_head(struct ob_post_target *t, const struct bh_url *u, const char *headers)
{
    struct text text = { .data = t->head };

    add(&text, "POST %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: bulkhead/" BH_VERSION "\r\n",
        u->target, u->authority);
    add(&text, "Content-Type: application/x-protobuf\r\n");
    if (u->user != NULL) {
        char plain[512], coded[700];
        int  n = snprintf(plain, sizeof plain, "%s:%s", u->user,
                         u->password != NULL ? u->password : "");
        if (n >= (int)sizeof plain)
            return bh_fail(-EINVAL, "user and password of the collector are too long");
        EVP_EncodeBlock((unsigned char *)coded, (unsigned char *)plain, n);
        add(&text, "Authorization: Basic %s\r\n", coded);
    }
    while (headers != NULL) {
        size_t n = strcspn(headers, ",");
        int    rc = add_field(&text, headers, n);
        if (rc < 0)
            return rc;
        headers = headers[n] == ',' ? headers + n + 1 : NULL;
    }
    return text.full ? bh_fail(-EINVAL, "headers for the collector are too long") : 0;
}

static int
make_tls(struct ob_post_target *t, const struct ob_post_options *o)
{
    t->tls = SSL_CTX_new(TLS_client_method());
    if (t->tls == NULL)
        return bh_fail(-ENOMEM, "no memory for TLS");
    SSL_CTX_set_min_proto_version(t->tls, TLS1_2_VERSION);
    SSL_CTX_set_verify(t->tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(t->tls, SSL_MODE_ENABLE_PARTIAL_WRITE);
    int ok = o->certificate != NULL
                 ? SSL_CTX_load_verify_locations(t->tls, o->certificate, NULL)
                 : SSL_CTX_set_default_verify_paths(t->tls);
    if (ok != 1)
        return bh_fail(-EINVAL, "authorities for the collector: cannot read %s",
                       o->certificate != NULL ? o->certificate : "the system's");
    if ((o->client_certificate == NULL) != (o->client_key == NULL))
        return bh_fail(-EINVAL,
                       "a client's certificate and its key: one of the two is missing");
    if (o->client_key != NULL &&
        (SSL_CTX_use_certificate_chain_file(t->tls, o->client_certificate) != 1 ||
         SSL_CTX_use_PrivateKey_file(t->tls, o->client_key, SSL_FILETYPE_PEM) != 1))
        return bh_fail(-EINVAL, "cannot use %s with key %s", o->client_certificate,
                       o->client_key);
    return 0;
}

static bool
is_loopback(const char *host)
{
    struct in_addr  four;
    struct in6_addr six;

    if (inet_pton(AF_INET, host, &four) == 1)
        return ntohl(four.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, host, &six) == 1)
        return IN6_IS_ADDR_LOOPBACK(&six);
    size_t n = strlen(host);
    return strcmp(host, "localhost") == 0 ||
           (n > 10 && strcmp(host + n - 10, ".localhost") == 0);
}

static const char *
text_or_empty(const char *text)
{
    return text != NULL ? text : "";
}

int
ob_post_target_init(struct ob_post_target *t, const struct ob_post_options *o)
{
    struct bh_arena *arena = bh_arena_new(0);
    struct bh_url    u;

    *t = (struct ob_post_target){ 0 };
    int rc = bh_url_parse(arena, o->url, &u);
    if (rc == 0) {
        t->host = strdup(u.host);
        t->head = calloc(1, HEAD_MAX);
        if (asprintf(&t->port, "%u", u.port) < 0)
            t->port = NULL;
        if (asprintf(&t->trust, "%s\n%s\n%s", text_or_empty(o->certificate),
                     text_or_empty(o->client_certificate), text_or_empty(o->client_key)) < 0)
            t->trust = NULL;
        if (t->trust == NULL || t->host == NULL || t->head == NULL || t->port == NULL)
            rc = bh_fail(-ENOMEM, "no memory for the collector's URL");
    }
    if (rc == 0) {
        t->loopback = is_loopback(u.host);
        rc = make_head(t, &u, o->headers);
    }
    if (rc == 0 && strcmp(u.scheme, "https") == 0)
        rc = make_tls(t, o);
    bh_arena_free(arena);
    if (rc < 0)
        ob_post_target_fini(t);
    return rc;
}

void
ob_post_target_fini(struct ob_post_target *t)
{
    free(t->host);
    free(t->port);
    free(t->head);
    free(t->trust);
    SSL_CTX_free(t->tls);
    *t = (struct ob_post_target){ 0 };
}
