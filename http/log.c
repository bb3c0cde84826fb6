/*
 * log.c -- the access log: one line, one write, so that lines of two goroutines
 * never mix; no stdio, whose lock a panic could leave held.
 */

#include "ht.h"

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_SIZE = 1024, PATH_SHOWN = 512 };

/* Printable, without quotes and backslashes: a log line must not be forged. */
static void
escape(char *out, size_t size, const char *text)
{
    size_t n = 0;

    for (; *text != '\0' && n + 5 < size; text++) {
        if (*text == '"' || *text == '\\' || *text < ' ' || *text > '~')
            n += (size_t)snprintf(out + n, 5, "\\x%02x", (unsigned char)*text);
        else
            out[n++] = *text;
    }
    out[n] = '\0';
}

static void
write_line(const struct bh_http_call *c, int fd, int64_t elapsed, const char *note)
{
    char line[LINE_SIZE], path[PATH_SHOWN], query[PATH_SHOWN / 2], time[40], why[128];
    struct timespec now;
    struct tm       tm;
    int             n;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    (void)strftime(time, sizeof time, "%Y-%m-%dT%H:%M:%S", &tm);
    escape(path, sizeof path, c->path);
    escape(query, sizeof query, c->query);
    escape(why, sizeof why, note);
    n = snprintf(
        line, sizeof line, "%s.%03ldZ %s \"%s %s%s%s HTTP/1.%d\" %d%s %llu %.6f %llu%s%s%s\n",
        time, now.tv_nsec / 1000000, c->peer, c->method, path, c->query[0] != '\0' ? "?" : "",
        query, c->version % 10, c->status, c->aborted ? "!" : "", (unsigned long long)c->sent,
        (double)elapsed / 1e9, (unsigned long long)c->id, *why != '\0' ? " \"" : "", why,
        *why != '\0' ? "\"" : "");
    if (n >= LINE_SIZE)
        n = LINE_SIZE - 1;
    /* A log that cannot be written must not fail requests. */
    if (write(fd, line, (size_t)n) < 0)
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
