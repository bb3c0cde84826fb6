/*
 * http_trace.c -- a server span for each request.
 *
 * As an observer it stands outside bh_http_recover: it sees the 500 of a panic, and requests
 * too malformed for a route.  The span lies in the request's memory, because handlers and
 * background goroutines may name it as a parent after the reply has gone.
 *
 * What came with the request is read in one pass over its fields.  A second traceparent makes
 * both worthless; several fields of tracestate or baggage are one list.  Whether they are
 * believed is a question of trust: see bh_trace_trust.
 *
 * Attributes are set at the end, once it is known whether anybody will see them: an
 * unsampled request that panics has them all.
 */

#include <bulkhead/observe/http_trace.h>

#include <string.h>
#include <strings.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/http/security.h>

#include "hop.h"
#include "http_words.h"
#include "route.h"
#include "trace.h"

static const char key;

struct serving {
    struct bh_http_call                *c;
    const struct bh_http_trace_options *o;
    struct bh_span                     *span;
    const struct ob_route              *route; /* or NULL */
    const char *method, *peer;                 /* the peer before any middleware knew better */
    int         rc;
};

/* What came with the request. */
struct arrived {
    const char             *parent, *state, *baggage;
    int                     parents;
    bool                    valid;
    struct bh_trace_context context;
};

/* ---- what comes in --------------------------------------------------------------- */

static const char *
joined(struct bh_http_call *c, const char *list, const char *more)
{
    return list == NULL ? more : bh_arena_print(c->arena, "%s,%s", list, more);
}

static void
read_fields(struct bh_http_call *c, struct arrived *a)
{
    const char *name, *value;

    for (unsigned i = 0; bh_http_header_at(c, i, &name, &value); i++) {
        char first = (char)(name[0] | 0x20);

        if (first == 't' && strcasecmp(name, "traceparent") == 0) {
            a->parent = value;
            a->parents++;
        } else if (first == 't' && strcasecmp(name, "tracestate") == 0) {
            a->state = joined(c, a->state, value);
        } else if (first == 'b' && strcasecmp(name, "baggage") == 0) {
            a->baggage = joined(c, a->baggage, value);
        }
    }
    a->valid =
        a->parents == 1 && bh_traceparent_parse(a->parent, strlen(a->parent), &a->context) == 0;
}

/* The sender's lists, as far as they can be used. */
static void
take_lists(struct bh_http_call *c, const struct arrived *a, struct bh_span_options *o)
{
    char    state[BH_TRACESTATE_SIZE];
    ssize_t size = -1;

    if (a->state != NULL && a->valid)
        size = bh_tracestate_update(state, a->state, NULL, NULL);
    if (size > 0)
        o->state = bh_arena_string(c->arena, state, (size_t)size);
    if (a->baggage != NULL && bh_baggage_is_valid(a->baggage))
        o->baggage = a->baggage;
}

static bool
is_trusted(struct bh_http_call *c, const struct bh_http_trace_options *o)
{
    return o->trusts != NULL ? o->trusts(c, o->arg) : o->trust == BH_TRACE_INTERNAL;
}

static void
start(struct serving *s)
{
    struct bh_http_call *c = s->c;
    struct arrived       a = { .parents = 0 };
    bool                 trusted = is_trusted(c, s->o);

    struct bh_span_options o = {
        .kind = BH_SPAN_SERVER,
        .root = true,
        .started = c->started,
        .sampler = s->o->sampler,
        .route = s->route != NULL ? s->route->path : NULL,
        .method = s->method,
    };
    read_fields(c, &a);
    if (trusted && a.valid) {
        o.root = false;
        o.remote = &a.context;
    }
    if (trusted)
        take_lists(c, &a, &o);
    bh_span_start(s->span, s->method, &o);
    if (!trusted && a.valid)
        bh_span_link(s->span, &a.context, NULL);
    bh_http_set(c, &key, s->span);
}

/* ---- what is said ---------------------------------------------------------------- */

static void
name_span(struct serving *s)
{
    const char *method = s->method[0] == '_' ? "HTTP" : s->method;

    if (s->route == NULL)
        bh_span_name(s->span, method);
    else if (s->route->name != NULL && strcmp(s->route->method, method) == 0)
        bh_span_name(s->span, s->route->name);
    else /* HEAD of a GET, or a route of any method */
        bh_span_name(s->span, bh_arena_print(s->c->arena, "%s %s", method, s->route->path));
}

static void
describe_peer(struct bh_span *span, struct bh_http_call *c)
{
    const char *client = bh_http_client_ip(c);
    size_t      size = strlen(client);

    if (strncmp(c->peer + (c->peer[0] == '['), client, size) == 0) {
        ob_put_address(span, OB_CLIENT, c->peer, strlen(c->peer));
    } else { /* a proxy speaks for it */
        ob_text(span, OB_KEY("client.address"), client, size);
        ob_put_address(span, OB_PEER, c->peer, strlen(c->peer));
    }
}

/* The span is being recorded and has not ended: see ob_text. */
static void
describe_request(struct serving *s)
{
    struct bh_http_call *c = s->c;
    struct bh_span      *span = s->span;
    const char          *agent, *scheme = bh_http_scheme(c);
    struct bh_conn_tcp   tcp;

    ob_text(span, OB_KEY("http.request.method"), s->method, strlen(s->method));
    if (s->method[0] == '_')
        ob_text(span, OB_KEY("http.request.method_original"), c->method,
                strnlen(c->method, 32));
    if (s->route != NULL)
        ob_text(span, OB_KEY("http.route"), s->route->path, strlen(s->route->path));
    ob_text(span, OB_KEY("url.path"), c->path, strnlen(c->path, 255));
    ob_text(span, OB_KEY("url.scheme"), scheme, strlen(scheme));
    if (c->query[0] != '\0' && !s->o->no_query)
        ob_put_query(span, "url.query", "", 0, c->query, strlen(c->query));
    if (c->host[0] != '\0')
        ob_put_address(span, OB_SERVER, c->host, strlen(c->host));
    describe_peer(span, c);
    if (span->colored && bh_http_tcp(c, &tcp) == 0)
        ob_hop_connection(span, &tcp);
    ob_put_version(span, c->version);
    agent = bh_http_header(c, "User-Agent");
    if (agent != NULL)
        ob_text(span, OB_KEY("user_agent.original"), agent, strnlen(agent, 128));
}

static void
describe_outcome(struct serving *s)
{
    struct bh_http_call *c = s->c;
    struct bh_span      *span = s->span;
    const char           status[] = { (char)('0' + c->status / 100 % 10),
                                      (char)('0' + c->status / 10 % 10), (char)('0' + c->status % 10) };

    if (c->status != 0)
        ob_int(span, OB_KEY("http.response.status_code"), c->status);
    ob_int(span, OB_KEY("http.response.body.size"), (int64_t)c->sent);
    if (c->panicked != NULL || span->record.urgent)
        return; /* says why already */
    if (c->status >= 500)
        ob_text(span, OB_KEY("error.type"), status, sizeof status);
    else if (c->aborted)
        ob_text(span, OB_KEY("error.type"), "aborted", 7);
    if (c->status >= 500 || c->aborted)
        bh_span_status(span, BH_SPAN_ERROR, s->rc < 0 ? bh_error_text(s->rc) : NULL);
}

static void
finish(struct serving *s)
{
    struct bh_http_call   *c = s->c;
    const struct bh_panic *passing = bh_panicking();

    if (c->panicked != NULL)
        bh_span_panicked(s->span, c->panicked->name,
                         s->rc == BH_EPANIC ? bh_error_note() : NULL);
    else if (passing != NULL && passing->serial != s->span->panic)
        bh_span_panicked(s->span, passing->kind->name, passing->text);
    if (s->span->recording) {
        name_span(s);
        describe_request(s);
        describe_outcome(s);
    }
    bh_span_end(s->span);
}

int
bh_http_trace(struct bh_http_call *c, void *arg)
{
    static const struct bh_http_trace_options none;
    struct serving                            s = {
                                   .c = c,
                                   .o = arg != NULL ? arg : &none,
                                   .span = bh_arena_raw(c->arena, sizeof *s.span),
                                   .route = ob_route(c->route),
                                   .method = ob_method(c->method),
    };

    start(&s);
    BH_DEFER(finish, &s);
    s.rc = bh_http_next(c);
    return s.rc;
}

struct bh_span *
bh_http_span(struct bh_http_call *c)
{
    return bh_http_get(c, &key);
}
