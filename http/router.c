/*
 * router.c -- from method and path to a handler.
 *
 * Patterns are cut at '/' into segments and put into a tree, one level per segment.
 * A node has literal children, sorted for a binary search, at most one {name}
 * child and at most one {name...} leaf; a method's route sits on the node where its
 * pattern ends.
 *
 *     GET /stock/{sku}          "" --- stock --- {} GET
 *     POST /stock/{sku}                          |  POST
 *     GET /stock/new                          new GET
 *
 * Matching tries literal, then {name}, then {name...}, and goes back when a deeper
 * level fails, so POST /stock/new finds {sku}.  A node is visited at most once per
 * match, since its depth is fixed: the time is bounded by the size of the tree.
 *
 * A path that is a pattern of literals, byte by byte, needs no walk: a hash table has
 * the route.  The tree would find the same one, since literals come first.
 *
 * Segments are unescaped after cutting, so that an escaped '/' never changes the
 * shape of a path.  Of two patterns that match a common path, one must be more
 * specific than the other in the sense of Go 1.22: else the server refuses
 * to start, since the choice would depend on nothing the reader can see.
 */

#include "ht.h"

#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/panic.h>

struct ht_node {
    const char             *text; /* of a literal */
    size_t                  length;
    struct ht_node        **literals; /* sorted by length, then bytes */
    int                     literal_count;
    struct ht_node         *param;
    struct ht_node         *rest;
    const struct ht_route **routes; /* that end here */
    int                     route_count;
};

static void *
more(void *array, int count, size_t size)
{
    void *p = realloc(array, (size_t)(count + 1) * size);

    if (p == NULL)
        bh_panic("http: out of memory for routes");
    return p;
}

/* ---- patterns ------------------------------------------------------------------ */

static const char *
parse_segment(struct ht_route *r, char *text)
{
    struct ht_segment *s = &r->segments[r->segment_count];
    size_t             length = strlen(text);

    if (r->segment_count == HT_MAX_SEGMENTS)
        return "too many segments";
    r->segment_count++;
    s->text = text;
    s->kind = HT_LITERAL;
    if (strpbrk(text, "{}") == NULL)
        return NULL;
    if (text[0] != '{' || text[length - 1] != '}' || length < 3)
        return "a {name} must be a whole segment";
    text[length - 1] = '\0';
    s->text = text + 1;
    s->kind = HT_PARAM;
    length -= 2;
    if (length > 3 && strcmp(s->text + length - 3, "...") == 0) {
        text[length - 2] = '\0';
        s->kind = HT_REST;
        length -= 3;
    }
    if (strspn(s->text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") !=
        length)
        return "a {name} consists of letters, digits and _";
    if (++r->param_count > HT_MAX_PARAMS)
        return "too many {name}s";
    for (int i = 0; i < r->segment_count - 1; i++)
        if (r->segments[i].kind != HT_LITERAL && strcmp(r->segments[i].text, s->text) == 0)
            return "the same {name} twice";
    return NULL;
}

/* Cut r->text, "GET /a/{b}", into r's parts.  Returns: what is wrong with it, or NULL. */
static const char *
parse_pattern(struct ht_route *r)
{
    char       *space = strchr(r->text, ' '), *p;
    const char *fault = NULL;

    if (space == NULL || !ht_is_token(r->text, (size_t)(space - r->text)))
        return "it must be \"METHOD /path\"";
    *space = '\0';
    r->method = r->text;
    p = space + 1;
    if (*p != '/')
        return "the path must begin with /";
    if (!ht_is_value(p, strlen(p)) || strpbrk(p, " ?#%") != NULL)
        return "a path is written plainly, without spaces, escapes or a query";
    while (fault == NULL && p != NULL) {
        char *segment = p + 1;

        p = strchr(segment, '/');
        if (p != NULL)
            *p = '\0';
        fault = parse_segment(r, segment);
        if (fault == NULL && p != NULL && r->segments[r->segment_count - 1].kind == HT_REST)
            fault = "{name...} must come last";
    }
    return fault;
}

void
ht_router_add(struct ht_router *r, const char *pattern, bh_http_fn *fn, void *arg,
              const struct ht_place *place)
{
    struct ht_route *route = calloc(1, sizeof *route);

    r->routes = more(r->routes, r->count, sizeof *r->routes);
    if (route == NULL || (route->pattern = strdup(pattern)) == NULL ||
        (route->text = strdup(pattern)) == NULL)
        bh_panic("http: out of memory for routes");
    route->fn = fn;
    route->arg = arg;
    route->place = *place;
    route->fault = parse_pattern(route);
    r->routes[r->count++] = route;
}

/* ---- the tree ------------------------------------------------------------------- */

static struct ht_node *
node_new(const char *text)
{
    struct ht_node *n = calloc(1, sizeof *n);

    if (n == NULL)
        bh_panic("http: out of memory for routes");
    n->text = text;
    n->length = strlen(text);
    return n;
}

static int
compare(size_t a_length, const char *a, size_t b_length, const char *b)
{
    if (a_length != b_length)
        return a_length < b_length ? -1 : 1;
    return memcmp(a, b, a_length);
}

/* Returns: the index of the literal child, or -1 - the index where it belongs. */
static int
find_literal(const struct ht_node *n, const char *text, size_t length)
{
    int lo = 0, hi = n->literal_count;

    while (lo < hi) {
        int                   mid = (lo + hi) / 2;
        const struct ht_node *child = n->literals[mid];
        int                   order = compare(child->length, child->text, length, text);

        if (order == 0)
            return mid;
        if (order < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    return -1 - lo;
}

static struct ht_node *
child_of(struct ht_node *n, const struct ht_segment *s)
{
    struct ht_node **slot = s->kind == HT_PARAM ? &n->param : &n->rest;
    int              at;

    if (s->kind != HT_LITERAL) {
        if (*slot == NULL)
            *slot = node_new("");
        return *slot;
    }
    at = find_literal(n, s->text, strlen(s->text));
    if (at >= 0)
        return n->literals[at];
    at = -1 - at;
    n->literals = more(n->literals, n->literal_count, sizeof(struct ht_node *));
    memmove(n->literals + at + 1, n->literals + at,
            (size_t)(n->literal_count - at) * sizeof(struct ht_node *));
    n->literals[at] = node_new(s->text);
    n->literal_count++;
    return n->literals[at];
}

/* ---- paths without parameters ------------------------------------------------------ */

static const char *
path_of(const struct ht_route *route)
{
    return route->pattern + strlen(route->method) + 1;
}

static bool
is_exact(const struct ht_route *route)
{
    return route->param_count == 0 && strpbrk(path_of(route), "{%") == NULL;
}

/* FNV-1a. */
static uint32_t
hash(const char *text)
{
    uint32_t h = 2166136261U;

    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * 16777619U;
    return h;
}

static void
build_exact(struct ht_router *r)
{
    uint32_t size = 4;

    while (size < 2 * (uint32_t)r->count)
        size *= 2;
    r->exact = calloc(size, sizeof *r->exact);
    if (r->exact == NULL)
        bh_panic("http: out of memory for routes");
    r->exact_mask = size - 1;
    for (int i = 0; i < r->count; i++) {
        uint32_t at;

        if (!is_exact(r->routes[i]))
            continue;
        at = hash(path_of(r->routes[i])) & r->exact_mask;
        while (r->exact[at] != NULL)
            at = (at + 1) & r->exact_mask;
        r->exact[at] = r->routes[i];
    }
}

static const struct ht_route *
find_exact(const struct ht_router *r, const char *method, const char *path)
{
    uint32_t at = hash(path) & r->exact_mask;

    for (; r->exact[at] != NULL; at = (at + 1) & r->exact_mask)
        if (strcmp(path_of(r->exact[at]), path) == 0 && strcmp(r->exact[at]->method, method) == 0)
            return r->exact[at];
    return NULL;
}

void
ht_router_freeze(struct ht_router *r)
{
    if (r->root != NULL)
        return;
    build_exact(r);
    r->root = node_new("");
    for (int i = 0; i < r->count; i++) {
        const struct ht_route *route = r->routes[i];
        struct ht_node        *n = r->root;

        for (int k = 0; k < route->segment_count; k++)
            n = child_of(n, &route->segments[k]);
        n->routes = more(n->routes, n->route_count, sizeof(struct ht_route *));
        n->routes[n->route_count++] = route;
    }
}

static void
node_free(struct ht_node *n)
{
    if (n == NULL)
        return;
    for (int i = 0; i < n->literal_count; i++)
        node_free(n->literals[i]);
    node_free(n->param);
    node_free(n->rest);
    free(n->literals);
    free(n->routes);
    free(n);
}

void
ht_router_free(struct ht_router *r)
{
    node_free(r->root);
    for (int i = 0; i < r->count; i++) {
        free(r->routes[i]->pattern);
        free(r->routes[i]->text);
        free(r->routes[i]);
    }
    free(r->routes);
    free(r->exact);
}

/* ---- matching ---------------------------------------------------------------------- */

struct walk {
    const char      *segments[HT_MAX_SEGMENTS]; /* as sent, for parameters */
    size_t           lengths[HT_MAX_SEGMENTS];
    const char      *plain[HT_MAX_SEGMENTS]; /* unescaped, for literals */
    size_t           plain_lengths[HT_MAX_SEGMENTS];
    int              count;
    const char      *end; /* of the path */
    const char      *method;
    struct ht_match *m;
    void (*each)(const struct ht_route *route, void *arg); /* collect instead of match */
    void *arg;
};

static bool
cut_path(struct walk *w, const char *path, struct bh_arena *arena)
{
    const char *p = path;

    while (p != NULL) {
        const char *segment = p + 1;
        size_t      length;
        int         i = w->count;

        if (i == HT_MAX_SEGMENTS)
            return false;
        p = strchr(segment, '/');
        length = p != NULL ? (size_t)(p - segment) : strlen(segment);
        w->segments[i] = w->plain[i] = segment;
        w->lengths[i] = w->plain_lengths[i] = length;
        w->end = segment + length;
        if (memchr(segment, '%', length) != NULL) {
            char *plain = bh_arena_alloc(arena, length + 1);
            long  plain_length = ht_unescape(plain, segment, length, false);

            if (plain_length < 0)
                return false;
            w->plain[i] = plain;
            w->plain_lengths[i] = (size_t)plain_length;
        }
        w->count++;
    }
    return true;
}

/* At a node where the path ends: does it have the method?  GET stands in for HEAD. */
static bool
take_route(struct walk *w, const struct ht_node *n)
{
    const struct ht_route *get = NULL;

    for (int i = 0; i < n->route_count; i++) {
        const struct ht_route *route = n->routes[i];

        if (w->each != NULL) {
            w->each(route, w->arg);
            continue;
        }
        w->m->path_known = true;
        if (strcmp(route->method, w->method) == 0) {
            w->m->route = route;
            return true;
        }
        if (strcmp(route->method, "GET") == 0)
            get = route;
    }
    if (get != NULL && w->each == NULL && strcmp(w->method, "HEAD") == 0)
        w->m->route = get;
    return w->m != NULL && w->m->route != NULL;
}

static bool
walk_tree(struct walk *w, const struct ht_node *n, int depth, int params)
{
    int at;

    if (depth == w->count)
        return take_route(w, n);
    at = find_literal(n, w->plain[depth], w->plain_lengths[depth]);
    if (at >= 0 && walk_tree(w, n->literals[at], depth + 1, params))
        return true;
    if (n->param != NULL && w->lengths[depth] > 0 &&
        walk_tree(w, n->param, depth + 1, params + 1)) {
        w->m->params[params] = w->segments[depth];
        w->m->lengths[params] = (uint32_t)w->lengths[depth];
        return true;
    }
    if (n->rest != NULL && take_route(w, n->rest)) {
        w->m->params[params] = w->segments[depth];
        w->m->lengths[params] = (uint32_t)(w->end - w->segments[depth]);
        return true;
    }
    return false;
}

void
ht_router_match(const struct ht_router *r, const char *method, const char *path,
                struct bh_arena *arena, struct ht_match *m)
{
    struct walk w;

    m->route = find_exact(r, method, path);
    m->path_known = m->route != NULL;
    if (m->path_known)
        return;
    w.count = 0;
    w.method = method;
    w.m = m;
    w.each = NULL;
    if (cut_path(&w, path, arena))
        (void)walk_tree(&w, r->root, 0, 0);
}

/* ---- Allow ---------------------------------------------------------------------------- */

struct allow {
    struct bh_arena *arena;
    const char      *text;
    bool             get, head, options;
};

static void
allow_method(const struct ht_route *route, void *arg)
{
    struct allow *a = arg;
    size_t        length = strlen(route->method);
    const char   *found = strstr(a->text, route->method);

    /* The same method may come from {name} and from a literal. */
    while (found != NULL && !((found == a->text || found[-1] == ' ') &&
                              (found[length] == '\0' || found[length] == ',')))
        found = strstr(found + 1, route->method);
    a->get |= strcmp(route->method, "GET") == 0;
    a->head |= strcmp(route->method, "HEAD") == 0;
    a->options |= strcmp(route->method, "OPTIONS") == 0;
    if (found == NULL)
        a->text = bh_arena_print(a->arena, "%s%s%s", a->text, *a->text != '\0' ? ", " : "",
                                 route->method);
}

const char *
ht_router_allow(const struct ht_router *r, const char *path, struct bh_arena *arena)
{
    struct allow a = { .arena = arena, .text = "" };
    struct walk  w;

    w.count = 0;
    w.m = NULL;
    w.each = allow_method;
    w.arg = &a;
    if (strcmp(path, "*") == 0)
        return "GET, HEAD, POST, OPTIONS";
    if (cut_path(&w, path, arena))
        (void)walk_tree(&w, r->root, 0, 0);
    return bh_arena_print(arena, "%s%s%s", a.text, a.get && !a.head ? ", HEAD" : "",
                          a.options ? "" : ", OPTIONS");
}
