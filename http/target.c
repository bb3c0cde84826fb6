/*
 * target.c -- request targets and hosts: what is asked for, of whom.
 *
 * Four forms (RFC 9112 section 3.2): "/path?query" is the ordinary one;
 * "http://host/path", sent to proxies, must be understood by every server, and
 * its authority must then be that of the Host field; "*" goes with OPTIONS only; and
 * "host:port" with CONNECT, which we do not offer.
 *
 * A path may not contain "." or ".." as a segment, plain or escaped, nor
 * a NUL or a malformed escape: a client resolves those before sending, so who sends
 * them is probing.
 */

#include "head.h"

#include <string.h>
#include <strings.h>

static int
refuse(struct ht_head *h, int status, const char *reason)
{
    h->reason = reason;
    return -status;
}

static int
hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

long
ht_unescape(char *out, const char *text, size_t length, bool plus)
{
    size_t n = 0;

    for (size_t i = 0; i < length; i++) {
        char c = text[i];

        if (c == '%') {
            int high = i + 2 < length ? hex_digit(text[i + 1]) : -1;
            int low = i + 2 < length ? hex_digit(text[i + 2]) : -1;

            if (high < 0 || low < 0)
                return -1;
            c = (char)(high << 4 | low);
            i += 2;
        } else if (c == '+' && plus) {
            c = ' ';
        }
        if (c == '\0')
            return -1;
        out[n++] = c;
    }
    out[n] = '\0';
    return (long)n;
}

/* ---- host ------------------------------------------------------------------------ */

static const bool host_bytes[256] = {
    ['!'] = true, ['$' ... '.'] = true, ['0' ... '9'] = true,
    [';'] = true, ['='] = true,         ['A' ... 'Z'] = true,
    ['_'] = true, ['a' ... 'z'] = true, ['~'] = true,
};

static bool
is_port(const char *text, size_t length)
{
    unsigned port = 0;

    if (length > 5)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return false;
        port = port * 10 + (unsigned)(text[i] - '0');
    }
    return port <= 65535;
}

/* reg-name, IPv4 or [IPv6], then optionally ':' and a port that may be empty. */
static bool
is_host(const char *text, size_t length)
{
    size_t i = 0;

    if (length > 0 && text[0] == '[') {
        for (i = 1; i < length && text[i] != ']'; i++)
            if (hex_digit(text[i]) < 0 && text[i] != ':' && text[i] != '.')
                return false;
        if (i < 3 || i == length)
            return false;
        i++;
    } else {
        while (i < length && host_bytes[(unsigned char)text[i]])
            i++;
        if (i == 0)
            return false;
    }
    return i == length || (text[i] == ':' && is_port(text + i + 1, length - i - 1));
}

/* ---- path ------------------------------------------------------------------------ */

static bool
is_escaped_dot(const char *p)
{
    return p[0] == '%' && p[1] == '2' && (p[2] == 'e' || p[2] == 'E');
}

/* "." or "..", each dot plain or as %2e. */
static bool
is_dots(const char *p, size_t length)
{
    int dots = 0;

    while (length > 0) {
        size_t step = *p == '.' ? 1 : length >= 3 && is_escaped_dot(p) ? 3 : 0;

        if (step == 0 || ++dots > 2)
            return false;
        p += step;
        length -= step;
    }
    return dots > 0;
}

static const char *
path_fault(const char *path)
{
    const char *segment = path + 1;

    for (const char *p = path;; p++) {
        if (p > path && (*p == '/' || *p == '\0')) {
            if (is_dots(segment, (size_t)(p - segment)))
                return "dot segment in the path";
            segment = p + 1;
        }
        if (*p == '\0')
            return NULL;
        if (*p == '%') {
            if (hex_digit(p[1]) < 0 || hex_digit(p[2]) < 0)
                return "malformed escape in the path";
            if (p[1] == '0' && p[2] == '0')
                return "NUL in the path";
        }
    }
}

/* ---- the whole ------------------------------------------------------------------- */

/* http://authority[/path][?query]: the path starts behind the authority. */
static int
absolute_form(struct ht_target *t, struct ht_head *h, char *authority)
{
    size_t length = strcspn(authority, "/?");
    char  *rest = authority + length;

    if (!is_host(authority, length))
        return refuse(h, 400, "bad host in the request target");
    if (h->host != NULL &&
        (strlen(h->host) != length || strncasecmp(h->host, authority, length)))
        return refuse(h, 400, "Host differs from the request target");
    /* Moved one byte to the left, so that a NUL fits between it and the path. */
    memmove(authority - 1, authority, length);
    authority[length - 1] = '\0';
    t->host = authority - 1;
    if (*rest == '\0' || *rest == '?') {
        /* No path means "/": overwrite the byte left of the rest. */
        if (*rest == '\0') {
            t->path = "/";
            return 0;
        }
        *rest = '\0';
        t->path = "/";
        t->query = rest + 1;
        return 0;
    }
    t->path = rest;
    return 0;
}

static int
find_form(struct ht_target *t, struct ht_head *h)
{
    char *target = h->target;

    if (*h->method == 'C' &&
        strcmp(h->method, "CONNECT") == 0) /* with a path too: others see no body behind it */
        return refuse(h, 501, "CONNECT is not offered");
    if (*target == '/') {
        t->path = target;
        return 0;
    }
    if (strcmp(target, "*") == 0) {
        t->path = target;
        return strcmp(h->method, "OPTIONS") == 0 ? 0 : refuse(h, 400, "bad request target");
    }
    if (strncasecmp(target, "http://", 7) == 0)
        return absolute_form(t, h, target + 7);
    if (strncasecmp(target, "https://", 8) == 0)
        return absolute_form(t, h, target + 8);
    return refuse(h, 400, "bad request target");
}

int
ht_target_parse(struct ht_target *t, struct ht_head *h)
{
    const char *fault;
    char       *mark;
    int         rc;

    if (h->host != NULL && !h->host_good && !is_host(h->host, strlen(h->host)))
        return refuse(h, 400, "bad Host");
    *t = (struct ht_target){ .query = "", .host = h->host != NULL ? h->host : "" };
    rc = find_form(t, h);
    if (rc < 0 || *t->path != '/' || h->target_plain)
        return rc;
    mark = strchr(t->path, '?');
    if (mark != NULL) {
        *mark = '\0';
        t->query = mark + 1;
    }
    fault = path_fault(t->path);
    return fault == NULL ? 0 : refuse(h, 400, fault);
}
