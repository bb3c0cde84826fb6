/*
 * accesslog.c -- the access log in formats that other programs read.
 *
 * One line, one write, as in bh_http_access_log, which is the plain format.  Every text of
 * the client's is escaped, so that no line can be forged; in JSON by its own rules.
 */

#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/json.h>
#include <bulkhead/http/monitor.h>
#include <bulkhead/http/security.h>
#include <bulkhead/http/server.h>

enum { MAX_TEXT = 2048 }; /* bytes shown of one text */

/* For between quotes, and for words: printable, without quotes, backslashes and, in words, spaces. */
static const char *
escaped(struct bh_http_call *c, const char *text, bool word)
{
    size_t length = strnlen(text, MAX_TEXT);
    char  *to = bh_arena_alloc(c->arena, 4 * length + 2), *at = to;

    for (size_t i = 0; i < length; i++) {
        unsigned char byte = (unsigned char)text[i];

        if (byte > ' ' - (word ? 0 : 1) && byte < 0x7f && byte != '"' && byte != '\\')
            *at++ = (char)byte;
        else
            at += snprintf(at, 5, "\\x%02x", byte);
    }
    *at = '\0';
    return *to != '\0' ? to : "-";
}

static const char *
protocol(const struct bh_http_call *c)
{
    return c->version == 20 ? "HTTP/2.0" : c->version == 11 ? "HTTP/1.1" : "HTTP/1.0";
}

static const char *
common(struct bh_http_call *c, bool combined)
{
    const char *user = bh_http_user(c), *referer = bh_http_header(c, "referer");
    const char *agent = bh_http_header(c, "user-agent");
    char        when[64], size[24] = "-", more[2] = "";
    time_t      now = time(NULL);
    struct tm   tm;

    gmtime_r(&now, &tm);
    (void)strftime(when, sizeof when, "%d/%b/%Y:%H:%M:%S +0000", &tm);
    if (c->sent > 0)
        snprintf(size, sizeof size, "%llu", (unsigned long long)c->sent);
    if (c->query[0] != '\0')
        more[0] = '?';
    return bh_arena_print(
        c->arena, "%s - %s [%s] \"%s %s%s%s %s\" %d %s%s%s%s%s%s\n", bh_http_client_ip(c),
        user != NULL ? escaped(c, user, true) : "-", when, escaped(c, c->method, true),
        escaped(c, c->path, true), more, more[0] != '\0' ? escaped(c, c->query, true) : "",
        protocol(c), c->status, size, combined ? " \"" : "",
        combined ? escaped(c, referer != NULL ? referer : "", false) : "",
        combined ? "\" \"" : "", combined ? escaped(c, agent != NULL ? agent : "", false) : "",
        combined ? "\"" : "");
}

static const char *
json(struct bh_http_call *c, int64_t ns, const char *note)
{
    struct bh_json_out out = { .arena = c->arena };
    struct timespec    now;
    char               when[64];
    struct tm          tm;
    size_t             n;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &tm);
    n = strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(when + n, sizeof when - n, ".%06ldZ", now.tv_nsec / 1000);
    bh_json_open(&out, NULL, '{');
    bh_json_add_text(&out, "time", when);
    bh_json_add_text(&out, "client", bh_http_client_ip(c));
    bh_json_add_text(&out, "method", c->method);
    bh_json_add_text(&out, "path", c->path);
    bh_json_add_text(&out, "query", c->query);
    bh_json_add_text(&out, "host", c->host);
    bh_json_add_text(&out, "protocol", protocol(c));
    bh_json_add_text(&out, "route", c->route);
    bh_json_add_int(&out, "status", c->status);
    bh_json_add_int(&out, "bytes", (int64_t)c->sent);
    bh_json_add_number(&out, "seconds", (double)(ns / 1000) / 1e6);
    bh_json_add_text(&out, "request", bh_http_request_id(c));
    bh_json_add_int(&out, "number", (int64_t)c->id);
    bh_json_add_bool(&out, "aborted", c->aborted);
    bh_json_add_text(&out, "error", *note != '\0' ? note : NULL);
    bh_json_close(&out, '}');
    return bh_arena_print(c->arena, "%s\n", out.text);
}

struct logging {
    struct bh_http_call              *c;
    const struct bh_http_log_options *o;
    int                               rc;
};

static void
write_line(struct logging *l)
{
    struct bh_http_call *c = l->c;
    const char          *note = l->rc < 0 ? bh_error_note() : "", *line;
    int                  fd = l->o->fd != 0 ? l->o->fd : STDOUT_FILENO;

    line = l->o->format == BH_HTTP_LOG_JSON ? json(c, bh_now() - c->started, note)
                                            : common(c, l->o->format == BH_HTTP_LOG_COMBINED);
    /* A log that cannot be written must not fail requests. */
    if (write(fd, line, strlen(line)) < 0)
        return;
}

int
bh_http_log(struct bh_http_call *c, void *arg)
{
    struct logging l = { c, arg, 0 };
    int            fd = l.o->fd != 0 ? l.o->fd : STDOUT_FILENO;

    if (l.o->format == BH_HTTP_LOG_PLAIN)
        return bh_http_access_log(c, &fd);
    BH_DEFER(write_line, &l);
    l.rc = bh_http_next(c);
    return l.rc;
}
