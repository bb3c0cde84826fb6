/*
 * post.c -- see post.h.  Requests here; bytes in and out in post_io.c.
 *
 * An answer's body is read to its end, though only its beginning is kept: the next request
 * follows on the same connection.  Over DRAIN_MAX bytes, or without a length, it is closed instead.
 */

#include "post.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "post_io.h"

enum {
    LINE_MAX_ = 4096,    /* of a head, terminator included */
    FIELDS_MAX = 100,    /* of a head */
    DRAIN_MAX = 1 << 20, /* bytes of a body worth reading for a connection */
    INTERIM_MAX = 8,     /* answers of 1xx before the answer */
};

/* What an answer's head said of the rest. */
struct head {
    int64_t length; /* of the body; -1: not said */
    bool    chunked, closes;
};

/* A line without its end.  Returns: its length, or an error. */
static int
read_line(struct ob_post *p, char *line)
{
    int n = 0;

    for (;;) {
        int c = ob_post_byte(p);
        if (c < 0)
            return c == -ENODATA && n > 0 ? -EBADMSG : c;
        if (c == '\n')
            break;
        if (n == LINE_MAX_ - 1)
            return -EBADMSG;
        line[n++] = (char)c;
    }
    if (n > 0 && line[n - 1] == '\r')
        n--;
    line[n] = '\0';
    return n;
}

/* Retry-After: seconds, or a date.  Returns: ns from now, or -1. */
static int64_t
retry_after(const char *value)
{
    char     *end;
    struct tm tm = { 0 };

    if (isdigit((unsigned char)*value)) {
        long seconds = strtol(value, &end, 10);
        return *end != '\0' ? -1 : (int64_t)(seconds < 86400 ? seconds : 86400) * 1000000000;
    }
    end = strptime(value, "%a, %d %b %Y %H:%M:%S GMT", &tm);
    if (end == NULL || *end != '\0')
        return -1;
    int64_t seconds = (int64_t)timegm(&tm) - (int64_t)time(NULL);
    return seconds < 0 ? 0 : (seconds < 86400 ? seconds : 86400) * 1000000000;
}

static int
read_field(char *line, struct head *h, struct ob_post_answer *a)
{
    char *value = strchr(line, ':');

    if (value == NULL || value == line)
        return -EBADMSG;
    *value++ = '\0';
    value += strspn(value, " \t");
    for (size_t n = strlen(value); n > 0 && strchr(" \t", value[n - 1]) != NULL; n--)
        value[n - 1] = '\0';
    if (strcasecmp(line, "Content-Length") == 0) {
        char *end;
        errno = 0;
        long long n = strtoll(value, &end, 10);
        if (!isdigit((unsigned char)*value) || *end != '\0' || errno != 0 ||
            (h->length >= 0 && h->length != n))
            return -EBADMSG;
        h->length = n;
    } else if (strcasecmp(line, "Transfer-Encoding") == 0) {
        if (strcasecmp(value, "chunked") != 0)
            return -EBADMSG;
        h->chunked = true;
    } else if (strcasecmp(line, "Connection") == 0) {
        h->closes = strcasecmp(value, "close") == 0 ||
                    (h->closes && strcasecmp(value, "keep-alive") != 0);
    } else if (strcasecmp(line, "Retry-After") == 0) {
        a->retry_after = retry_after(value);
    }
    return 0;
}

/* Status line and fields. */
static int
read_head(struct ob_post *p, struct head *h, struct ob_post_answer *a)
{
    char line[LINE_MAX_];
    int  n = read_line(p, line);

    if (n < 0)
        return n;
    if (n < 12 || strncmp(line, "HTTP/1.", 7) != 0 || !isdigit((unsigned char)line[7]) ||
        line[8] != ' ' || strspn(line + 9, "0123456789") != 3 ||
        (line[12] != ' ' && line[12] != '\0'))
        return -EBADMSG;
    *h = (struct head){ .length = -1, .closes = line[7] == '0' };
    a->status = (int)strtol(line + 9, NULL, 10);
    a->retry_after = -1;
    for (int fields = 0;; fields++) {
        n = read_line(p, line);
        if (n <= 0)
            return n == -ENODATA ? -EBADMSG : n;
        int rc = fields < FIELDS_MAX ? read_field(line, h, a) : -EBADMSG;
        if (rc < 0)
            return rc;
    }
}

/* n bytes of the body (-1: up to its end). */
static int
read_part(struct ob_post *p, int64_t n, struct ob_post_answer *a)
{
    while (n != 0) {
        if (p->at == p->end) {
            int rc = ob_post_fill(p);
            if (rc < 0)
                return rc == -ENODATA && n < 0 ? 0 : rc;
        }
        size_t have = p->end - p->at;
        if (n > 0 && (int64_t)have > n)
            have = (size_t)n;
        size_t kept = have < sizeof a->body - a->length ? have : sizeof a->body - a->length;
        memcpy(a->body + a->length, p->buffer + p->at, kept);
        a->length += kept;
        a->cut = a->cut || kept < have;
        p->at += have;
        n -= n > 0 ? (int64_t)have : 0;
        if (a->cut && n < 0)
            return 0; /* who sends without an end is not listened to for long */
    }
    return 0;
}

static int
read_chunks(struct ob_post *p, struct ob_post_answer *a)
{
    char    line[LINE_MAX_];
    int64_t total = 0;

    for (;;) {
        char *end;
        int   n = read_line(p, line);
        if (n < 0)
            return n;
        errno = 0;
        long long size = strtoll(line, &end, 16);
        if (!isxdigit((unsigned char)*line) || errno != 0 || size < 0 ||
            (*end != '\0' && *end != ';' && *end != ' '))
            return -EBADMSG;
        if (size == 0)
            break;
        total += size;
        if (total > DRAIN_MAX)
            return -EMSGSIZE;
        int rc = read_part(p, size, a);
        if (rc < 0)
            return rc;
        n = read_line(p, line);
        if (n != 0)
            return n < 0 ? n : -EBADMSG;
    }
    for (int trailers = 0; trailers < FIELDS_MAX; trailers++) {
        int n = read_line(p, line);
        if (n <= 0)
            return n;
    }
    return -EBADMSG;
}

/* The answer; *closes: the connection is not good for another. */
static int
read_answer(struct ob_post *p, struct ob_post_answer *a, bool *closes)
{
    struct head h;
    int         rc = 0;

    a->length = 0;
    a->cut = false;
    for (int i = 0; i <= INTERIM_MAX; i++) {
        rc = read_head(p, &h, a);
        if (rc < 0)
            return rc;
        if (a->status >= 200)
            break;
    }
    if (a->status < 200)
        return -EBADMSG;
    *closes = h.closes;
    if (a->status == 204 || a->status == 304)
        return 0;
    if (h.chunked) {
        rc = read_chunks(p, a);
    } else if (h.length > DRAIN_MAX || h.length < 0) {
        *closes = true;
        rc = read_part(p, h.length < 0 ? -1 : (int64_t)sizeof a->body, a);
    } else {
        rc = read_part(p, h.length, a);
    }
    if (rc == -EMSGSIZE) {
        *closes = true;
        return 0;
    }
    return rc == -ENODATA ? -EBADMSG : rc;
}

static int
write_request(struct ob_post *p, const struct ob_post_target *t, const char *encoding,
              const void *body, size_t size)
{
    char rest[128];
    int  n = snprintf(rest, sizeof rest, "%s%s%sContent-Length: %zu\r\n\r\n",
                     encoding != NULL ? "Content-Encoding: " : "",
                     encoding != NULL ? encoding : "", encoding != NULL ? "\r\n" : "", size);
    int  rc = ob_post_write(p, t->head, strlen(t->head), true);

    if (rc == 0)
        rc = ob_post_write(p, rest, (size_t)n, true);
    return rc == 0 ? ob_post_write(p, body, size, false) : rc;
}

/* Signals differ in path, which does not matter. */
static bool
same_peer(const struct ob_post_target *a, const struct ob_post_target *b)
{
    return a == b || ((a->tls == NULL) == (b->tls == NULL) && strcmp(a->host, b->host) == 0 &&
                      strcmp(a->port, b->port) == 0 && strcmp(a->trust, b->trust) == 0);
}

int
ob_post_send(struct ob_post *p, const struct ob_post_target *target, const char *encoding,
             const void *body, size_t size, int64_t deadline, struct ob_post_answer *answer)
{
    bool closes = true;
    int  rc;

    p->deadline = deadline;
    for (;;) {
        if (p->fd >= 0 && (!same_peer(p->target, target) || ob_post_stale(p)))
            ob_post_close(p);
        bool reused = p->fd >= 0;
        rc = reused ? 0 : ob_post_connect(p, target);
        if (rc < 0)
            break;
        int written = write_request(p, target, encoding, body, size);
        /* A server may answer before it has read everything, and close: look. */
        bool look = written == 0 || written == -EPIPE || written == -ECONNRESET;
        p->at = p->end = 0;
        rc = look ? read_answer(p, answer, &closes) : written;
        if (!reused || p->end != 0 || (rc != -ENODATA && rc != -ECONNRESET && rc != -EPIPE))
            break;
        ob_post_close(p);
    }
    if (rc < 0 || closes || p->at != p->end)
        ob_post_close(p);
    return rc;
}
