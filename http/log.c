/*
 * log.c -- the access log: one line, one write, so that lines of two goroutines
 * never mix; no stdio, whose lock a panic could leave held.
 */

#include "ht.h"

#include <time.h>
#include <unistd.h>

/* Together with the numbers a line is under LINE_SIZE. */
enum { LINE_SIZE = 1024, PATH_SHOWN = 512, QUERY_SHOWN = 256, NOTE_SHOWN = 128, NAME_SHOWN = 32 };

/* Printable, without quotes and backslashes: a log line must not be forged. */
static const bool plain[256] = {
    [' ' ... '!'] = true, ['#' ... '['] = true, [']' ... '~'] = true,
};

/* Adds at most size bytes. */
static char *
put_escaped(char *at, size_t size, const char *text)
{
    static const char hex[] = "0123456789abcdef";
    const char       *end = at + size - 4;

    for (; *text != '\0' && at < end; text++) {
        unsigned char byte = (unsigned char)*text;

        if (plain[byte]) {
            *at++ = *text;
            continue;
        }
        *at++ = '\\';
        *at++ = 'x';
        *at++ = hex[byte >> 4];
        *at++ = hex[byte & 15];
    }
    return at;
}

/* The last `count` digits, with leading zeros. */
static char *
put_digits(char *at, int count, int64_t number)
{
    for (int i = count; i-- > 0; number /= 10)
        at[i] = (char)('0' + number % 10);
    return at + count;
}

static char *
put_time(char *at, struct ht_kit *kit)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    ht_kit_set_time(kit, now.tv_sec);
    at = ht_put(at, kit->stamp);
    *at++ = '.';
    at = put_digits(at, 3, now.tv_nsec / 1000000);
    return ht_put(at, "Z ");
}

/* "GET /a?b HTTP/1.1" */
static char *
put_request(char *at, const struct bh_http_call *c)
{
    *at++ = '"';
    at = put_escaped(at, NAME_SHOWN, c->method);
    *at++ = ' ';
    at = put_escaped(at, PATH_SHOWN, c->path);
    if (c->query[0] != '\0') {
        *at++ = '?';
        at = put_escaped(at, QUERY_SHOWN, c->query);
    }
    at = ht_put(at, c->version < 20 ? " HTTP/1." : " HTTP/2.");
    *at++ = (char)('0' + c->version % 10);
    return ht_put(at, "\" ");
}

static char *
put_outcome(char *at, const struct bh_http_call *c, int64_t elapsed_ns)
{
    int64_t us = elapsed_ns > 0 ? (elapsed_ns + 500) / 1000 : 0;

    at = ht_put_number(at, (uint64_t)c->status);
    at = ht_put(at, c->aborted ? "! " : " ");
    at = ht_put_number(at, c->sent);
    *at++ = ' ';
    at = ht_put_number(at, (uint64_t)(us / 1000000));
    *at++ = '.';
    at = put_digits(at, 6, us % 1000000);
    *at++ = ' ';
    return ht_put_number(at, c->id);
}

static void
write_line(const struct bh_http_call *c, int fd, int64_t elapsed_ns, const char *note)
{
    char  line[LINE_SIZE];
    char *at = put_time(line, c->s->kit);

    at = put_escaped(at, 2 * NAME_SHOWN, c->peer);
    *at++ = ' ';
    at = put_request(at, c);
    at = put_outcome(at, c, elapsed_ns);
    if (*note != '\0') {
        at = ht_put(at, " \"");
        at = put_escaped(at, NOTE_SHOWN, note);
        *at++ = '"';
    }
    *at++ = '\n';
    /* A log that cannot be written must not fail requests. */
    if (write(fd, line, (size_t)(at - line)) < 0)
        return;
}

int
bh_http_access_log(struct bh_http_call *c, void *arg)
{
    int rc = bh_http_next(c);

    write_line(c, arg != NULL ? *(const int *)arg : STDOUT_FILENO, bh_now() - c->started,
               rc < 0 ? bh_error_note() : "");
    return rc;
}
