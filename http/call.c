/*
 * call.c -- one request on its way through the chain, and its background work.
 *
 *     refs   1 for the handler's side, 1 for each bh_http_go goroutine.  The
 *            last one ends the context and gives memory and call back.
 *     owner  the connection's goroutine while its chain runs, else 0.  Only the
 *            owner may reply.
 *
 * The chain is the array of its group's steps, from the server's down, and, behind it, a
 * handler; x->step is a cursor that bh_http_next moves on the way in and restores on
 * the way out.
 */

#include "ht.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/go/safe.h>

/* ---- life ------------------------------------------------------------------------ */

static struct ht_call *
take_free(struct bh_http_server *s, struct ht_kit *kit)
{
    struct ht_call *x = kit != NULL ? kit->call : NULL;

    if (x != NULL) {
        kit->call = NULL;
        return x;
    }
    bh_mutex_lock(&s->lock);
    x = s->free_calls;
    if (x != NULL)
        s->free_calls = x->next_free;
    bh_mutex_unlock(&s->lock);
    return x != NULL ? x : calloc(1, sizeof *x);
}

void
ht_call_reset(struct ht_call *x, struct bh_http_server *s, struct bh_arena *arena)
{
    memset((char *)x + offsetof(struct ht_call, s), 0,
           offsetof(struct ht_call, match) - offsetof(struct ht_call, s));
    x->match.route = NULL;
    x->s = s;
    x->arena = arena;
    x->length = -1;
    x->body_size = -1;
    x->max_body = s->o.max_body;
    x->lines_end = &x->lines;
    x->trailers_end = &x->trailers;
}

struct ht_call *
ht_call_new(struct bh_http_server *s, struct ht_kit *kit, const struct ht_wire *wire,
            const char *peer)
{
    bool             has_arena = kit != NULL && kit->arena != NULL;
    struct bh_arena *arena = has_arena ? kit->arena : bh_arena_new(s->o.max_memory);
    struct ht_call  *x = take_free(s, kit);

    if (has_arena)
        kit->arena = NULL;
    if (x == NULL) {
        bh_arena_free(arena);
        bh_panic("http: out of memory for a call");
    }
    ht_call_reset(x, s, arena);
    x->wire = wire;
    x->kit = kit;
    x->pub = (struct bh_http_call){
        .method = "-",
        .path = "-",
        .query = "",
        .host = "",
        .route = "",
        .peer = peer,
        .version = 11,
        .id = atomic_fetch_add_explicit(&s->requests, 1, memory_order_relaxed) + 1,
        .started = bh_now(),
        .arena = x->arena,
        .s = x,
    };
    atomic_store_explicit(&x->refs, 1, memory_order_relaxed);
    atomic_store_explicit(&x->owner, bh_id(), memory_order_release);
    return x;
}

void
ht_call_recycle(struct bh_http_server *s, struct ht_call *x)
{
    bh_mutex_lock(&s->lock);
    x->next_free = s->free_calls;
    s->free_calls = x;
    bh_mutex_unlock(&s->lock);
}

static void
call_release(struct ht_call *x, struct ht_kit *kit)
{
    struct bh_http_server *s = x->s;

    if (x->ctx != NULL)
        bh_ctx_end(x->ctx);
    if (x->work_ctx != NULL)
        bh_ctx_end(x->work_ctx);
    x->ctx = x->work_ctx = NULL;
    if (x->adopted != NULL)
        ht_call_unref(x->adopted);
    x->adopted = NULL;
    if (x->sub != NULL) {
        ht_sub_release(x->sub);
        return;
    }
    if (kit != NULL && kit->arena == NULL) {
        bh_arena_reset(x->arena);
        kit->arena = x->arena;
    } else {
        bh_arena_free(x->arena);
    }
    x->arena = NULL;
    if (kit != NULL && kit->call == NULL)
        kit->call = x;
    else
        ht_call_recycle(s, x);
}

void
ht_call_unref(struct ht_call *x)
{
    if (atomic_fetch_sub_explicit(&x->refs, 1, memory_order_acq_rel) == 1)
        call_release(x, NULL);
}

void
ht_call_end(struct ht_call *x, struct ht_kit *kit)
{
    if (x->at_end != NULL)
        x->at_end(x);
    if (x->adopted != NULL) /* which may have a reference to x */
        ht_call_unref(x->adopted);
    x->adopted = NULL;
    atomic_fetch_add_explicit(&x->s->ended, 1, memory_order_relaxed);
    atomic_store_explicit(&x->owner, 0, memory_order_release);
    x->k = NULL;
    x->kit = NULL;
    /* Nobody but us has a reference: then nobody can take one. */
    if (atomic_load_explicit(&x->refs, memory_order_acquire) == 1 ||
        atomic_fetch_sub_explicit(&x->refs, 1, memory_order_acq_rel) == 1)
        call_release(x, kit);
}

struct ht_call *
ht_own(struct bh_http_call *c)
{
    struct ht_call *x = c->s;
    uint64_t        owner = atomic_load_explicit(&x->owner, memory_order_acquire);

    if (owner == bh_id() && c == &x->pub)
        return x;
    if (owner == 0)
        bh_panic("http: reply to request %llu used after the request ended",
                 (unsigned long long)c->id);
    bh_panic("http: reply to request %llu used by goroutine %llu, which is not its handler",
             (unsigned long long)c->id, (unsigned long long)bh_id());
}

/* ---- the chain ------------------------------------------------------------------- */

struct place {
    struct ht_call *x;
    int             step;
};

static void
go_back(struct place *p)
{
    p->x->step = p->step;
}

int
ht_next(struct ht_call *x)
{
    struct place p = { x, x->step };

    if (p.step > x->step_count)
        bh_panic("http: bh_http_next called by the last step of the chain");
    x->step++;
    /* After a panic too: whoever recovers it may call bh_http_next, and must not skip a step. */
    BH_DEFER(go_back, &p);
    if (p.step < x->step_count)
        return x->chain[p.step].fn(&x->pub, x->chain[p.step].arg);
    return x->handler(&x->pub, x->handler_arg);
}

int
bh_http_next(struct bh_http_call *c)
{
    return ht_next(ht_own(c));
}

int
ht_run(struct ht_call *x, const struct bh_http_group *group, int steps, bh_http_fn *handler,
       void *arg)
{
    x->chain = group->chain;
    x->step = 0;
    x->step_count = steps;
    x->handler = handler;
    x->handler_arg = arg;
    return ht_next(x);
}

int
bh_http_chain(struct bh_http_call *c, const char **names, int max, int *at)
{
    const struct ht_call *x = c->s;

    for (int i = 0; i < x->step_count && i < max; i++)
        names[i] = x->chain[i].name;
    *at = x->step - 1;
    return x->step_count;
}

/* ---- what was asked -------------------------------------------------------------- */

const char *
bh_http_header(struct bh_http_call *c, const char *name)
{
    const struct ht_head *h = &c->s->head;
    size_t                length = strlen(name);

    for (unsigned i = 0; i < h->field_count; i++)
        if (ht_name_is(&h->fields[i], name, length))
            return h->fields[i].value;
    return NULL;
}

bool
bh_http_header_at(struct bh_http_call *c, unsigned i, const char **name, const char **value)
{
    const struct ht_head *h = &c->s->head;

    if (i >= h->field_count)
        return false;
    *name = h->fields[i].name;
    *value = h->fields[i].value;
    return true;
}

const char *
bh_http_param(struct bh_http_call *c, const char *name)
{
    const struct ht_call  *x = c->s;
    const struct ht_route *r = x->match.route;
    int                    param = 0;

    if (r != NULL && r->p.sub != NULL) {
        if (strcmp(r->p.sub, name) == 0)
            return x->params[0];
        param = 1;
    }
    for (int i = 0; r != NULL && i < r->p.segment_count; i++) {
        if (r->p.segments[i].kind == HT_LITERAL)
            continue;
        if (strcmp(r->p.segments[i].text, name) == 0)
            return x->params[param];
        param++;
    }
    bh_panic("http: route \"%s\" has no {%s}", c->route, name);
}

/* One "name=value" of a query; NULL if it is another name or malformed. */
static const char *
query_value(struct bh_arena *arena, const char *pair, size_t length, const char *name)
{
    const char *equals = memchr(pair, '=', length);
    size_t      name_length = equals != NULL ? (size_t)(equals - pair) : length;
    const char *value = equals != NULL ? equals + 1 : pair + length;
    size_t      value_length = length - (size_t)(value - pair);
    char       *text;

    if (memchr(pair, '%', name_length) != NULL || memchr(pair, '+', name_length) != NULL) {
        text = bh_arena_alloc(arena, name_length + 1);
        if (ht_unescape(text, pair, name_length, true) < 0 || strcmp(text, name) != 0)
            return NULL;
    } else if (name_length != strlen(name) || memcmp(pair, name, name_length) != 0) {
        return NULL;
    }
    text = bh_arena_alloc(arena, value_length + 1);
    return ht_unescape(text, value, value_length, true) >= 0 ? text : NULL;
}

const char *
bh_http_query(struct bh_http_call *c, const char *name)
{
    for (const char *p = c->query; *p != '\0';) {
        size_t      length = strcspn(p, "&");
        const char *value = length > 0 ? query_value(c->arena, p, length, name) : NULL;

        if (value != NULL)
            return value;
        p += length + (p[length] == '&');
    }
    return NULL;
}

struct bh_ctx *
bh_http_ctx(struct bh_http_call *c)
{
    struct ht_call *x = c->s;

    if (c != &x->pub)
        return x->work_ctx;
    if (x->ctx == NULL) {
        (void)ht_own(c);
        if (x->sub != NULL)
            x->ctx = ht_sub_ctx(x->sub);
        else if (x->s->o.request_timeout > 0)
            x->ctx = bh_ctx_deadline(x->s->ctx, c->started + x->s->o.request_timeout);
        else
            x->ctx = bh_ctx_cancellable(x->s->ctx);
        if (x->wire->watch != NULL)
            x->wire->watch(x);
    }
    return x->ctx;
}

void
bh_http_set(struct bh_http_call *c, const void *key, void *value)
{
    struct ht_call  *x = ht_own(c);
    struct ht_value *v = bh_arena_alloc(c->arena, sizeof *v);

    *v = (struct ht_value){ .next = x->values, .key = key, .value = value };
    x->values = v;
}

void *
bh_http_get(struct bh_http_call *c, const void *key)
{
    for (const struct ht_value *v = c->s->values; v != NULL; v = v->next)
        if (v->key == key)
            return v->value;
    return NULL;
}

struct bh_http_server *
bh_http_server_of(struct bh_http_call *c)
{
    return c->s->s;
}

int
bh_http_tcp(struct bh_http_call *c, struct bh_conn_tcp *tcp)
{
    struct ht_conn *k = c->s->k;

    return k != NULL && k->io.conn != NULL ? bh_conn_tcp(k->io.conn, tcp) : -ENOTCONN;
}
