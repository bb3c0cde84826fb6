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
    (void)bh_http_set_header(c, "Allow", ht_router_allow(&c->s->s->router, c->path, c->arena));
    return bh_http_reply_bytes(c, 204, NULL, NULL, 0);
}

static int
reply_wrong_method(struct bh_http_call *c, void *arg)
{
    (void)arg;
    ht_reply_error(c->s, 405, NULL);
    (void)bh_http_set_header(c, "Allow", ht_router_allow(&c->s->s->router, c->path, c->arena));
    return 0;
}

void
ht_refuse(struct ht_call *x, int status, const char *reason)
{
    struct refusal r = { status, reason };

    x->keep = false;
    atomic_fetch_add_explicit(&x->s->refused, 1, memory_order_relaxed);
    (void)ht_run(x, x->s->observer_count, reply_refusal, &r);
}

int
ht_set_target(struct ht_call *x)
{
    struct ht_target target;
    int              status = ht_target_parse(&target, &x->head);

    if (status < 0)
        return status;
    x->pub.method = x->head.method;
    x->pub.path = target.path;
    x->pub.query = target.query;
    x->pub.host = target.host;
    return 0;
}

static void
unescape_params(struct ht_call *x)
{
    const struct ht_match *m = &x->match;

    for (int i = 0; i < m->route->param_count; i++) {
        char *text = bh_arena_alloc(x->arena, m->lengths[i] + 1);

        (void)ht_unescape(text, m->params[i], m->lengths[i], false);
        x->params[i] = text;
    }
}

void
ht_dispatch(struct ht_call *x)
{
    struct bh_http_server *s = x->s;
    struct refusal         not_found = { 404, NULL };
    bh_http_fn            *fn = reply_refusal;
    void                  *arg = &not_found;

    if (x->pub.path[0] == '*') {
        fn = reply_options;
    } else {
        ht_router_match(&s->router, x->pub.method, x->pub.path, x->arena, &x->match);
        if (x->match.route != NULL) {
            x->pub.route = x->match.route->pattern;
            unescape_params(x);
            fn = x->match.route->fn;
            arg = x->match.route->arg;
        } else if (x->match.path_known) {
            fn = strcmp(x->pub.method, "OPTIONS") == 0 ? reply_options : reply_wrong_method;
        }
    }
    (void)ht_run(x, s->step_count, fn, arg);
}

/* ---- the last boundary ------------------------------------------------------------------ */

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
