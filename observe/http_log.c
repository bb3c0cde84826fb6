/*
 * http_log.c -- the logger and HTTP: a line for each request, and the level by a request.
 *
 * The line is logged when the chain has ended, by a return, a panic or an abort: see
 * bh_http_measure.  It goes the way of all lines, so an output that hangs holds up no request.
 */

#include "log.h"

#include <string.h>

#include <bulkhead/http/monitor.h>

static void
done(struct bh_http_call *c, const struct bh_http_outcome *o, void *arg)
{
    int level = o->status >= 500 || o->panicked ? BH_ERROR : o->aborted ? BH_WARN : BH_INFO;

    (void)arg;
    bh_log(level, "request", BH_STR("method", c->method), BH_STR("path", c->path),
           BH_STR("pattern", o->route), BH_INT("status", o->status), BH_UINT("sent", o->sent),
           BH_DOUBLE("ms", (double)o->ns / 1e6), BH_STR("peer", c->peer),
           BH_UINT("request", c->id),
           BH_STR("outcome", o->panicked  ? "panicked"
                             : o->aborted ? "aborted"
                                          : "replied"));
}

int
bh_http_log_requests(struct bh_http_call *c, void *arg)
{
    static struct bh_http_meter meter = { .done = done };

    (void)arg;
    return bh_http_measure(c, &meter);
}

int
bh_http_log_level(struct bh_http_call *c, void *arg)
{
    const char *wanted = bh_http_query(c, "level");
    int         level = bh_log_level_of(wanted);

    (void)arg;
    if (strcmp(c->method, "PUT") == 0 || strcmp(c->method, "POST") == 0) {
        if (level < 0)
            return bh_http_reply(c, 400,
                                 "level: trace, debug, info, warn, error, fatal or off\n");
        bh_log_set_level(level);
    } else if (strcmp(c->method, "GET") != 0 && strcmp(c->method, "HEAD") != 0) {
        (void)bh_http_set_header(c, "Allow", "GET, HEAD, POST, PUT");
        return bh_http_reply(c, 405, "method not allowed\n");
    }
    return bh_http_reply_json(c, 200, "{\"level\":%s}", bh_log_level_name(bh_log_level()));
}
