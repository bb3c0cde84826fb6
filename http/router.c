/*
 * router.c -- from method, host and path to a route.
 *
 * Each host that some pattern names is a site of its own, and what names none is in the
 * site for any host, which comes last: a request looks in that of its very name, then
 * in that of "{sub}." and what follows the first label of its name, then there.
 *
 * In a site, patterns are cut at '/' into segments and put into a tree, one level per segment.
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
 * A route of the request's method wins over that of GET, which stands in for HEAD, and
 * this over one for any method.
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

struct ht_site {
    const char             *host; /* "": any */
    size_t                  length;
    bool                    sub; /* of {sub}.host */
    struct ht_node         *root;
    const struct ht_route **exact; /* routes without parameters in the path, hashed by it */
    uint32_t                exact_mask;
};

enum { SITES = 3 /* that a request can find its route in */ };

void *
ht_more(void *array, int count, size_t size)
{
    void *p = realloc(array, (size_t)(count + 1) * size);

    if (p == NULL)
        bh_panic("http: out of memory for routes");
    return p;
}

struct ht_route *
ht_router_add(struct ht_router *r, const char *prefix, const char *pattern)
{
    struct ht_route *route = calloc(1, sizeof *route);

    r->routes = ht_more(r->routes, r->count, sizeof *r->routes);
    if (route == NULL)
        bh_panic("http: out of memory for routes");
    ht_pattern_route(&route->p, prefix, pattern);
    r->routes[r->count++] = route;
    return route;
}

/* ---- the tree -------------------------------------------------------------------- */

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
    n->literals = ht_more(n->literals, n->literal_count, sizeof(struct ht_node *));
    memmove(n->literals + at + 1, n->literals + at,
            (size_t)(n->literal_count - at) * sizeof(struct ht_node *));
    n->literals[at] = node_new(s->text);
    n->literal_count++;
    return n->literals[at];
}

/* ---- paths without parameters ---------------------------------------------------- */

static bool
is_exact(const struct ht_pattern *p)
{
    return strpbrk(p->path, "{%") == NULL;
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
add_exact(struct ht_site *site, const struct ht_route *route)
{
    uint32_t at = hash(route->p.path) & site->exact_mask;

    while (site->exact[at] != NULL)
        at = (at + 1) & site->exact_mask;
    site->exact[at] = route;
}

/* Of two routes for the same path, which one is for the method?  Either may be NULL. */
static const struct ht_route *
better(const struct ht_route *a, const struct ht_route *b, const char *method)
{
    if (strcmp(b->p.method, method) == 0)
        return b;
    if (*b->p.method == '\0')
        return a != NULL ? a : b;
    if (*method == 'H' && strcmp(b->p.method, "GET") == 0 && strcmp(method, "HEAD") == 0)
        return a != NULL && *a->p.method != '\0' ? a : b;
    return a;
}

static const struct ht_route *
find_exact(const struct ht_site *site, const char *method, const char *path)
{
    const struct ht_route *found = NULL;
    uint32_t               at = hash(path) & site->exact_mask;

    for (; site->exact[at] != NULL; at = (at + 1) & site->exact_mask)
        if (strcmp(site->exact[at]->p.path, path) == 0)
            found = better(found, site->exact[at], method);
    return found;
}

/* ---- sites ----------------------------------------------------------------------- */

static int
site_order(const void *a, const void *b)
{
    const struct ht_site *x = a, *y = b;

    return x->sub != y->sub ? x->sub - y->sub : compare(x->length, x->host, y->length, y->host);
}

/* Returns: the site, or NULL. */
static struct ht_site *
find_site(const struct ht_router *r, const char *host, bool sub)
{
    struct ht_site key = { .host = host, .length = strlen(host), .sub = sub };

    return bsearch(&key, r->sites, (size_t)r->site_count, sizeof key, site_order);
}

static void
make_sites(struct ht_router *r)
{
    uint32_t size = 4;

    while (size < 2 * (uint32_t)r->count)
        size *= 2;
    r->sites = ht_more(NULL, r->count, sizeof *r->sites);
    r->sites[0] = (struct ht_site){ .host = "" };
    r->site_count = 1;
    for (int i = 0; i < r->count; i++) {
        const struct ht_pattern *p = &r->routes[i]->p;

        if (find_site(r, p->host, p->sub != NULL) != NULL)
            continue;
        r->sites[r->site_count++] = (struct ht_site){ .host = p->host,
                                                      .length = strlen(p->host),
                                                      .sub = p->sub != NULL };
        qsort(r->sites, (size_t)r->site_count, sizeof *r->sites, site_order);
    }
    for (int i = 0; i < r->site_count; i++) {
        r->sites[i].root = node_new("");
        r->sites[i].exact = calloc(size, sizeof(struct ht_route *));
        if (r->sites[i].exact == NULL)
            bh_panic("http: out of memory for routes");
        r->sites[i].exact_mask = size - 1;
    }
}

void
ht_router_freeze(struct ht_router *r)
{
    if (r->sites != NULL)
        return;
    make_sites(r);
    for (int i = 0; i < r->count; i++) {
        const struct ht_route *route = r->routes[i];
        struct ht_site        *site = find_site(r, route->p.host, route->p.sub != NULL);
        struct ht_node        *n = site->root;

        if (is_exact(&route->p))
            add_exact(site, route);
        for (int k = 0; k < route->p.segment_count; k++)
            n = child_of(n, &route->p.segments[k]);
        n->routes = ht_more(n->routes, n->route_count, sizeof(struct ht_route *));
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
    for (int i = 0; i < r->site_count; i++) {
        node_free(r->sites[i].root);
        free(r->sites[i].exact);
    }
    for (int i = 0; i < r->count; i++) {
        ht_pattern_fini(&r->routes[i]->p);
        free(r->routes[i]);
    }
    free(r->sites);
    free(r->routes);
}

/*
 * Where to look for a host as it was sent, "EXAMPLE.com:8080", in this order.
 * Returns: how many; *label is what stands for {sub}.
 */
static int
sites_of(const struct ht_router *r, const char *host, struct bh_arena *arena,
         const struct ht_site *sites[SITES], const char **label)
{
    size_t      length;
    char       *name;
    const char *dot;
    int         n = 0;

    *label = NULL;
    if (r->site_count > 1 && (length = strcspn(host, ":")) > 0) {
        name = bh_arena_alloc(arena, length + 1);
        for (size_t i = 0; i < length; i++)
            name[i] = (char)(host[i] >= 'A' && host[i] <= 'Z' ? host[i] | 0x20 : host[i]);
        name[length] = '\0';
        *label = name;
        dot = strchr(name, '.');
        if ((sites[n] = find_site(r, name, false)) != NULL)
            n++;
        if (dot != NULL && dot > name && (sites[n] = find_site(r, dot + 1, true)) != NULL)
            n++;
    }
    sites[n++] = r->sites; /* no name sorts first */
    return n;
}

/* ---- matching -------------------------------------------------------------------- */

struct walk {
    const char      *segments[HT_MAX_SEGMENTS]; /* as sent, for parameters */
    size_t           lengths[HT_MAX_SEGMENTS];
    const char      *plain[HT_MAX_SEGMENTS]; /* unescaped, for literals */
    size_t           plain_lengths[HT_MAX_SEGMENTS];
    int              count;
    const char      *end; /* of the path */
    const char      *method;
    struct bh_arena *arena;
    struct ht_match *m;
    void (*each)(const struct ht_route *route, void *arg); /* collect instead of match */
    void *arg;
};

static bool
cut_path(struct walk *w, const char *path)
{
    const char *p = path;

    w->count = 0;
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
            char *plain = bh_arena_alloc(w->arena, length + 1);
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

/* At a node where the path ends: does it have the method? */
static bool
take_route(struct walk *w, const struct ht_node *n)
{
    const struct ht_route *found = NULL;

    for (int i = 0; i < n->route_count; i++) {
        if (w->each != NULL)
            w->each(n->routes[i], w->arg);
        else
            found = better(found, n->routes[i], w->method);
    }
    if (w->each != NULL)
        return false;
    w->m->path_known |= n->route_count > 0;
    w->m->route = found;
    return found != NULL;
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
ht_router_match(const struct ht_router *r, const char *method, const char *host,
                const char *path, struct bh_arena *arena, struct ht_match *m)
{
    const struct ht_site *sites[SITES];
    const char           *label;
    struct walk           w;
    int                   count = sites_of(r, host, arena, sites, &label);

    m->path_known = false;
    w.count = -1;
    for (int i = 0; i < count; i++) {
        const struct ht_site *site = sites[i];

        if (site->sub) {
            m->params[0] = label;
            m->lengths[0] = (uint32_t)strcspn(label, ".");
        }
        m->route = find_exact(site, method, path);
        if (m->route != NULL)
            return;
        if (w.count < 0) {
            w.method = method;
            w.arena = arena;
            w.m = m;
            w.each = NULL;
            if (!cut_path(&w, path))
                return;
        }
        if (walk_tree(&w, site->root, 0, site->sub))
            return;
    }
}

void
ht_router_each(const struct ht_router *r, const char *host, const char *path,
               struct bh_arena *arena, void (*fn)(const struct ht_route *route, void *arg),
               void            *arg)
{
    const struct ht_site *sites[SITES];
    const char           *label;
    struct walk           w;
    int                   count = sites_of(r, host, arena, sites, &label);

    w.arena = arena;
    w.m = NULL;
    w.each = fn;
    w.arg = arg;
    if (cut_path(&w, path))
        for (int i = 0; i < count; i++)
            (void)walk_tree(&w, sites[i]->root, 0, 0);
}

/* ---- Allow ----------------------------------------------------------------------- */

struct allow {
    struct bh_arena *arena;
    const char      *text;
    bool             get, head, options;
};

static void
allow_method(const struct ht_route *route, void *arg)
{
    struct allow *a = arg;
    size_t        length = strlen(route->p.method);
    const char   *found = strstr(a->text, route->p.method);

    /* The same method may come from {name} and from a literal. */
    while (found != NULL && !((found == a->text || found[-1] == ' ') &&
                              (found[length] == '\0' || found[length] == ',')))
        found = strstr(found + 1, route->p.method);
    a->get |= strcmp(route->p.method, "GET") == 0;
    a->head |= strcmp(route->p.method, "HEAD") == 0;
    a->options |= strcmp(route->p.method, "OPTIONS") == 0;
    if (found == NULL)
        a->text = bh_arena_print(a->arena, "%s%s%s", a->text, *a->text != '\0' ? ", " : "",
                                 route->p.method);
}

const char *
ht_router_allow(const struct ht_router *r, const char *host, const char *path,
                struct bh_arena *arena)
{
    struct allow a = { .arena = arena, .text = "" };

    if (strcmp(path, "*") == 0)
        return "GET, HEAD, POST, OPTIONS";
    ht_router_each(r, host, path, arena, allow_method, &a);
    return bh_arena_print(arena, "%s%s%s", a.text, a.get && !a.head ? ", HEAD" : "",
                          a.options ? "" : ", OPTIONS");
}
