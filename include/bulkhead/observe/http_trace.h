#ifndef BULKHEAD_OBSERVE_HTTP_TRACE_H
#define BULKHEAD_OBSERVE_HTTP_TRACE_H

/*
 * http_trace.h -- traces through HTTP: a span for each request served and sent.
 *
 *     static const struct bh_http_trace_options inside = { .trust = BH_TRACE_INTERNAL };
 *
 *     bh_http_observe(s, bh_http_trace, &inside);         before log and metrics
 *     bh_http_use(s, bh_http_recover, NULL);
 *
 * Names are OpenTelemetry's semantic conventions for HTTP.
 */

#include <bulkhead/http/http.h>
#include <bulkhead/observe/trace.h>

struct bh_ctx;
struct bh_http_client;
struct bh_http_req;
struct bh_http_res;

/* ---- served ---------------------------------------------------------------------- */

enum bh_trace_trust {
    BH_TRACE_PUBLIC,   /* anybody can connect: each request begins a trace of its own, sampled by our
                          rules, with a link to the sender's; tracestate and baggage are dropped */
    BH_TRACE_INTERNAL, /* senders are ours: their traces go on, sampled if they are */
};

struct bh_http_trace_options {
    enum bh_trace_trust trust;
    /* Decides per request instead, by the peer's address, say.  May be NULL. */
    bool (*trusts)(struct bh_http_call *c, void *arg);
    void                    *arg;
    const struct bh_sampler *sampler;  /* NULL: the process's */
    bool                     no_query; /* leave out url.query, of which secrets are redacted anyway */
};

/*
 * bh_http_trace -- observer: a server span for each request.  arg: options, or NULL.
 *
 * While it runs, the goroutine is tagged with trace, route and method.  Status 5xx is an
 * error, a panic an error with its kind, exported even if not sampled.
 */
bh_http_fn bh_http_trace;

/*
 * bh_http_span -- the request's span, for attributes, and as a parent; NULL without bh_http_trace.
 * Owns:    the request.  Once the reply is complete it takes nothing more.
 * Threads: one goroutine at a time may tell it something.
 */
struct bh_span *bh_http_span(struct bh_http_call *c);

/* ---- sent ------------------------------------------------------------------------ */

enum { BH_TRACE_HEADERS = 40 }; /* most fields of a request, ours included */

/* Where bh_trace_inject puts the fields: as long-lived as the request. */
struct bh_trace_headers {
    const char *list[2 * BH_TRACE_HEADERS + 1];
    char        parent[BH_TRACEPARENT_SIZE], state[BH_TRACESTATE_SIZE];
};

/*
 * bh_trace_inject -- add traceparent, tracestate and baggage to a request's fields, in place of
 * any it has.
 *
 * span: on whose behalf; NULL: what the goroutine works for, whose tracestate and baggage
 * nobody knows.
 * Returns: 0; -ENOENT, there is no trace, or -ENOSPC, too many fields; the request is as it was.
 * Owns:    *room is borrowed until the request is over.
 */
int bh_trace_inject(const struct bh_span *span, struct bh_http_req *request,
                    struct bh_trace_headers *room);

/*
 * bh_http_client_traced -- bh_http_client_do within a client span, which ends with the head of the
 * reply; the request carries its trace.
 *
 * parent: bh_http_span(c), say; NULL: what the goroutine works for, or a new trace.
 * Returns: as bh_http_client_do.  An error, and a status of 400 or more, is the span's.
 */
int bh_http_client_traced(struct bh_ctx *ctx, struct bh_http_client *client,
                          const struct bh_http_req *request, const struct bh_span *parent,
                          struct bh_http_res **res);

#endif
