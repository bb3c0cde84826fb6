/*
 * sse.c -- server-sent events: lines of "field: value", and an empty line behind each event.
 *
 * Each event is one write and one flush, so that a filter that compresses passes it on at once.
 */

#include <bulkhead/http/sse.h>

#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/json.h>
#include <bulkhead/http/server.h>

const char *
bh_http_last_event_id(struct bh_http_call *c)
{
    const char *id = bh_http_header(c, "last-event-id");

    return id != NULL ? id : "";
}

int
bh_http_sse(struct bh_http_call *c)
{
    (void)bh_http_set_header(c, "Cache-Control", "no-store");
    (void)bh_http_set_header(c, "X-Accel-Buffering",
                             "no"); /* nginx in front shall not gather */
    bh_http_start(c, 200, "text/event-stream", -1);
    return bh_http_flush(c);
}

static int
print_field(struct bh_http_call *c, const char *name, const char *value)
{
    if (value == NULL)
        return 0;
    if (strpbrk(value, "\r\n") != NULL)
        bh_panic("http: line break in the %s of an event", name);
    return bh_http_print(c, "%s: %s\n", name, value);
}

/* A "data:" for each line: CR LF, LF and CR end one, as a client would have it. */
static int
print_lines(struct bh_http_call *c, const char *prefix, const char *text)
{
    int rc = 0;

    for (bool more = true; more && rc == 0;) {
        size_t length = strcspn(text, "\r\n");

        rc = bh_http_print(c, "%s%.*s\n", prefix, (int)length, text);
        text += length;
        more = *text != '\0';
        text += text[0] == '\r' && text[1] == '\n' ? 2 : more;
    }
    return rc;
}

int
bh_http_sse_send(struct bh_http_call *c, const struct bh_http_event *e)
{
    int rc = print_field(c, "event", e->event);

    if (rc == 0)
        rc = print_field(c, "id", e->id);
    if (rc == 0 && e->retry > 0)
        rc = bh_http_print(c, "retry: %lld\n", (long long)(e->retry / BH_MILLISECOND));
    if (rc == 0 && e->data != NULL)
        rc = print_lines(c, "data: ", e->data);
    if (rc == 0)
        rc = bh_http_write(c, "\n", 1);
    return rc == 0 ? bh_http_flush(c) : rc;
}

int
bh_http_sse_comment(struct bh_http_call *c, const char *text)
{
    int rc = print_lines(c, ": ", text);

    if (rc == 0)
        rc = bh_http_write(c, "\n", 1);
    return rc == 0 ? bh_http_flush(c) : rc;
}

/* Until something happens.  Returns: as bh_http_sse_wait, or 2 for a heartbeat. */
static int
wait_once(struct bh_http_call *c, struct bh_chan *channel, void *value, struct bh_chan *beat)
{
    enum { VALUE, GONE, DRAINING, BEAT };
    struct bh_ctx *ctx = bh_http_ctx(c);
    bool           open = true;

    switch (bh_select([VALUE] = BH_RECV_OK(channel, value, &open),
                      [GONE] = BH_RECV(bh_ctx_done(ctx), NULL),
                      [DRAINING] = BH_RECV(bh_http_draining(bh_http_server_of(c)), NULL),
                      [BEAT] = BH_RECV(beat, NULL))) {
    case VALUE:
        return open;
    case GONE:
        return bh_ctx_err(ctx);
    case DRAINING:
        return 0;
    default:
        return 2;
    }
}

int
bh_http_sse_wait(struct bh_http_call *c, struct bh_chan *channel, void *value,
                 int64_t heartbeat)
{
    struct bh_timer *ticker = heartbeat > 0 ? bh_ticker_new(heartbeat) : NULL;
    int              rc;

    BH_DEFER(bh_timer_free, ticker);
    do {
        rc = wait_once(c, channel, value, ticker != NULL ? bh_timer_chan(ticker) : NULL);
        if (rc == 2 && bh_http_sse_comment(c, "") < 0)
            return BH_ECANCELED;
    } while (rc == 2);
    return rc;
}
