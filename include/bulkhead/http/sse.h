#ifndef BULKHEAD_HTTP_SSE_H
#define BULKHEAD_HTTP_SSE_H

/*
 * sse.h -- server-sent events: a reply that goes on while there is something to tell.
 *
 *     struct tick t;
 *     int rc = bh_http_sse(c);
 *     while (rc == 0 && (rc = bh_http_sse_wait(c, ticks, &t, 15 * BH_SECOND)) > 0)
 *         rc = bh_http_sse_send(c, &(struct bh_http_event){ .id = t.id, .data = t.text });
 *     return rc < 0 ? rc : 0;
 *
 * The handler's goroutine blocks in plain calls, and ends when the client has left or the
 * server drains.  A browser comes back by itself, and says what it saw last.
 *
 * See: WHATWG HTML, server-sent events.
 */

#include <stdint.h>

#include <bulkhead/http/http.h>

struct bh_chan;

struct bh_http_event {
    const char *data;  /* any number of lines; NULL: none */
    const char *event; /* its type; NULL: "message" */
    const char *id;    /* NULL: none; "": forget the last one */
    int64_t     retry; /* ns after which a client shall come back; 0: unsaid */
};

/* bh_http_last_event_id -- of a client that comes back; "" if it is new. */
const char *bh_http_last_event_id(struct bh_http_call *c);

/* bh_http_sse -- begin the reply.  Returns: 0, or as bh_http_flush. */
int bh_http_sse(struct bh_http_call *c);

/*
 * bh_http_sse_send -- send one, now.  bh_http_sse_comment -- what clients ignore: keeps proxies awake.
 * Returns: 0; or a negative error once the client is gone.
 * Panics:  without bh_http_sse; on a line break or NUL in event or id, as that would forge another.
 */
int bh_http_sse_send(struct bh_http_call *c, const struct bh_http_event *e);
int bh_http_sse_comment(struct bh_http_call *c, const char *text);

/*
 * bh_http_sse_wait -- for a value from a channel; every `heartbeat` ns (0: never) an empty comment.
 *
 * Returns: 1, *value (may be NULL) being the next; 0 if the channel is closed, or the server drains;
 *          BH_ECANCELED, BH_EDEADLINE or an error of writing, if the client has left or time is up.
 */
int bh_http_sse_wait(struct bh_http_call *c, struct bh_chan *channel, void *value, int64_t heartbeat);

#endif
