/*
 * dispatch.c -- what to run for a request: its route, or the reply of the server itself.
 *
 * Middleware applies to every request whose head made sense, observers to the others
 * too; so a refusal, a 404 and the answer to OPTIONS are handlers like any other, at the
 * end of a chain.
 *
 * What escapes the chain (a panic of an observer, of a cleanup, of our own code) is
 * caught by ht_guard, around each connection's turn and each HTTP/2 stream.
 */

#include "ht.h"

#include <string.h>

struct refusal {
    int         status;
    const char *reason;
};

static int
reply_refusal(struct bh_http_call *c, void *arg)
{
    const struct refusal *r = arg;

    ht_reply_error(c->s, r->status, r->reason);
    return 0;
}

static int
reply_options(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)bh_http_set_header(c, "Allow",
                             ht_router_allow(&c->s->s->router, c->host, c->path, c->arena));
    return bh_http_reply_bytes(c, 204, NULL, NULL, 0);
}

static int
reply_wrong_method(struct bh_http_call *c, void *arg)
{
    (void)arg;
    ht_reply_error(c->s, 405, NULL);
    (void)bh_http_set_header(c, "Allow",
                             ht_router_allow(&c->s->s->router, c->host, c->path, c->arena));
    return 0;
}

static int
reply_moved(struct bh_http_call *c, void *arg)
{
    const char *to = arg;

    if (*c->query != '\0')
        to = bh_arena_print(c->arena, "%s?%s", to, c->query);
    (void)bh_http_set_header(c, "Location", to);
    ht_reply_error(c->s, 308, NULL);
    return 0;
}

/*
 * The path with a slash more or less at its end, if that has a route; else NULL.  A path that
 * begins with two slashes would be read as the name of another host.
 */
static const char *
other_slash(struct ht_call *x)
{
    const char     *path = x->pub.path;
    size_t          length = strlen(path);
    struct ht_match m;

    if (!x->s->o.redirect_slash || length < 2 || path[1] == '/' || path[1] == '\\')
        return NULL;
    path = path[length - 1] == '/' ? bh_arena_print(x->arena, "%.*s", (int)length - 1, path)
                                   : bh_arena_print(x->arena, "%s/", path);
    ht_router_match(&x->s->router, x->pub.method, x->pub.host, path, x->arena, &m);
    return m.route != NULL ? path : NULL;
}

void
ht_refuse(struct ht_call *x, int status, const char *reason)
{
    struct refusal r = { status, reason };

    x->keep = false;
    atomic_fetch_add_explicit(&x->s->refused, 1, memory_order_relaxed);
    (void)ht_run(x, &x->s->root, x->s->observer_count, reply_refusal, &r);
}

int
ht_set_target(struct ht_call *x)
{
    struct ht_target target;
    int              status = ht_target_parse(&target, &x->head);

    x->pub.method = x->head.method;
    if (status < 0)
        return status;
    x->pub.path = target.path;
    x->pub.query = target.query;
    x->pub.host = target.host;
    return 0;
}

static void
unescape_params(struct ht_call *x)
{
    const struct ht_match *m = &x->match;

    for (int i = 0; i < m->route->p.param_count; i++) {
        char *text = bh_arena_alloc(x->arena, m->lengths[i] + 1);

        (void)ht_unescape(text, m->params[i], m->lengths[i], false);
        x->params[i] = text;
    }
}

/* What the server itself answers; x has no route. */
static bh_http_fn *
answer_of(struct ht_call *x, void **arg)
{
    static struct refusal not_found = { 404, NULL };
    const char           *to;

    *arg = &not_found;
    if (x->match.path_known)
        return strcmp(x->pub.method, "OPTIONS") == 0 ? reply_options : reply_wrong_method;
    to = other_slash(x);
    if (to == NULL)
        return reply_refusal;
    *arg = (void *)(uintptr_t)to;
    return reply_moved;
}

void
ht_dispatch(struct ht_call *x)
{
    const struct bh_http_group *group = &x->s->root;
    const struct ht_route      *route;
    bh_http_fn                 *fn = reply_options;
    void                       *arg = NULL;

    if (x->pub.path[0] != '*') {
        ht_router_match(&x->s->router, x->pub.method, x->pub.host, x->pub.path, x->arena,
                        &x->match);
        route = x->match.route;
        if (route != NULL) {
            x->pub.route = route->p.source;
            unescape_params(x);
            group = route->group;
            fn = route->fn;
            arg = route->arg;
        } else {
            fn = answer_of(x, &arg);
            group = ht_group_of(x);
        }
    }
    (void)ht_run(x, group, group->chain_length, fn, arg);
}

/* ---- the last boundary ----------------------------------------------------------- */

struct guarded {
    struct bh_http_server *s;
    struct ht_call *const *call;
    void (*fn)(void *);
    void            *arg;
    struct ht_caught caught;
};

static void
escaped(struct guarded *g, const struct bh_panic *p)
{
    struct ht_call *x = *g->call;

    if (x == NULL || p->kind != &bh_kind_http_abort || p->value != x) {
        atomic_fetch_add_explicit(&g->s->panics, 1, memory_order_relaxed);
        ht_report(g->s, x, p, &g->caught, x != NULL ? "observer" : "cleanup", "aborted");
    }
    if (x != NULL)
        ht_break(x);
}

static void
run_noting(struct guarded *g)
{
    BH_DEFER(ht_note_stack, &g->caught);
    g->fn(g->arg);
    g->caught.done = true;
}

static bool
run_guarded(struct guarded *g)
{
    BH_RECOVER(p) {
        escaped(g, p);
        return false;
    }
    run_noting(g);
    return true;
}

bool
ht_guard(struct bh_http_server *s, struct ht_call *const *call, void (*fn)(void *), void *arg)
{
    struct guarded g;

    g.s = s;
    g.call = call;
    g.fn = fn;
    g.arg = arg;
    g.caught.done = false;
    g.caught.frame_count = 0;
    return run_guarded(&g);
}
