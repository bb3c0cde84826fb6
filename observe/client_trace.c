/*
 * client_trace.c -- the trace goes on in whoever answers a request of ours.
 *
 * The fields are put into room of the caller's, with the pointers of the request's own
 * fields before them: no memory is taken.  The tracestate is the span's with our own member at
 * its left; where somebody else's list is too long for that, it goes without us.
 */

#include <bulkhead/observe/http_trace.h>

#include <errno.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/http/client.h>

#include "hop.h"
#include "http_words.h"
#include "route.h"

/* ---- fields ---------------------------------------------------------------------- */

static bool
is_ours(const char *name)
{
    return strcasecmp(name, "traceparent") == 0 || strcasecmp(name, "tracestate") == 0 ||
           strcasecmp(name, "baggage") == 0;
}

/* Copies the request's own fields.  Returns: where the list ends; -1: too many. */
static int
copy_fields(const struct bh_http_req *request, struct bh_trace_headers *room)
{
    int n = 0;

    for (const char *const *p = request->headers; p != NULL && p[0] != NULL; p += 2) {
        if (is_ours(p[0]))
            continue;
        if (n == 2 * (BH_TRACE_HEADERS - 3))
            return -1;
        room->list[n++] = p[0];
        room->list[n++] = p[1];
    }
    return n;
}

static void
write_state(const struct bh_span *span, struct bh_trace_headers *room)
{
    const struct bh_tag *tag = bh_tag_peek();
    unsigned             hop = span != NULL ? span->hop : tag != NULL ? tag->hop : 0;
    const char          *state = span != NULL ? span->state : NULL;
    char                 own[OB_HOP_SIZE];

    if (ob_hop_leave(hop, own) && bh_tracestate_update(room->state, state, "bh", own) >= 0)
        return;
    /* Another's colour would be wrong one process further on. */
    (void)bh_tracestate_update(room->state, state, "bh", NULL);
}

int
bh_trace_inject(const struct bh_span *span, struct bh_http_req *request,
                struct bh_trace_headers *room)
{
    struct bh_trace_context context;
    int                     n;

    if (span != NULL)
        bh_span_context(span, &context);
    else if (!bh_trace_current(&context))
        return -ENOENT;
    n = copy_fields(request, room);
    if (n < 0)
        return -ENOSPC;
    bh_traceparent_format(room->parent, &context);
    room->list[n++] = "traceparent";
    room->list[n++] = room->parent;
    write_state(span, room);
    if (room->state[0] != '\0') {
        room->list[n++] = "tracestate";
        room->list[n++] = room->state;
    }
    if (span != NULL && span->baggage != NULL) {
        room->list[n++] = "baggage";
        room->list[n++] = span->baggage;
    }
    room->list[n] = NULL;
    request->headers = room->list;
    return 0;
}

/* ---- spans ----------------------------------------------------------------------- */

/* The URL without user and password, and without secrets in its query. */
static void
describe_url(struct bh_span *span, const char *url)
{
    char        before[256];
    const char *scheme = strstr(url, "://"), *host, *end, *at, *query;
    size_t      size;

    if (scheme == NULL)
        return;
    host = scheme + 3;
    end = host + strcspn(host, "/?#");
    at = memrchr(host, '@', (size_t)(end - host));
    if (at != NULL)
        host = at + 1;
    ob_put_address(span, OB_SERVER, host, (size_t)(end - host));
    query = host + strcspn(host, "?#");

    size = (size_t)(scheme + 3 - url);
    if (size > 16)
        return;
    memcpy(before, url, size);
    size_t more = (size_t)(query - host);
    if (more > sizeof before - size - 1)
        more = sizeof before - size - 1;
    memcpy(before + size, host, more);
    size += more;
    if (*query == '?')
        before[size++] = *query++;
    ob_put_query(span, "url.full", before, size, query, strcspn(query, "#"));
}

static const char *
name_of(int rc)
{
    static const struct {
        int         rc;
        const char *name;
    } ours[] = {
        { BH_EPANIC, "panic" },           { BH_EDEADLINE, "timeout" },
        { BH_ECANCELED, "canceled" },     { BH_EEOF, "unexpected_eof" },
        { BH_ENOHOST, "host_not_found" },
    };
    const char *name;

    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        if (ours[i].rc == rc)
            return ours[i].name;
    name = strerrorname_np(-rc);
    return name != NULL ? name : "_OTHER";
}

static void
describe_reply(struct bh_span *span, const struct bh_http_res *res)
{
    const char status[] = { (char)('0' + res->status / 100 % 10),
                            (char)('0' + res->status / 10 % 10), (char)('0' + res->status % 10),
                            '\0' };

    bh_span_int(span, "http.response.status_code", res->status);
    ob_put_version(span, res->version);
    if (res->retries > 0)
        bh_span_int(span, "http.request.resend_count", res->retries);
    if (res->status < 400)
        return;
    bh_span_text(span, "error.type", status);
    bh_span_status(span, BH_SPAN_ERROR, NULL);
}

int
bh_http_client_traced(struct bh_ctx *ctx, struct bh_http_client *client,
                      const struct bh_http_req *request, const struct bh_span *parent,
                      struct bh_http_res **res)
{
    const char             *sent = request->method != NULL ? request->method : "GET";
    const char             *method = ob_method(sent);
    struct bh_http_req      copy = *request;
    struct bh_trace_headers room;
    struct bh_span          span;
    int                     rc;

    bh_span_start(&span, method[0] == '_' ? "HTTP" : method,
                  &(struct bh_span_options){ .kind = BH_SPAN_CLIENT, .parent = parent });
    BH_DEFER(bh_span_end, &span);
    bh_span_text(&span, "http.request.method", method);
    if (method[0] == '_')
        bh_span_bytes(&span, "http.request.method_original", sent, strnlen(sent, 32));
    if (span.recording && request->url != NULL)
        describe_url(&span, request->url);
    (void)bh_trace_inject(&span, &copy, &room); /* with too many fields it goes without */
    rc = bh_http_client_do(ctx, client, &copy, res);
    if (rc < 0) {
        bh_span_text(&span, "error.type", name_of(rc));
        bh_span_status(&span, BH_SPAN_ERROR, bh_error_note());
    } else if (span.recording) {
        describe_reply(&span, *res);
    }
    return rc;
}
