/*
 * group.c -- routes that have a prefix and middleware in common.
 *
 * The server itself is the outermost group.  Until serving starts each group only notes its
 * own steps; ht_groups_freeze then lays down, for each group, the steps from the server's to
 * its own in one array.  A route runs the array of its group, so that a request
 * pays for a deep nest what it pays for none.
 *
 * A request without a route is answered by the server at the end of such a chain too, so
 * that whoever may not see a route may not learn that it exists either.  Whose chain:
 *
 *     the path has routes, but not for this method: that of the route which a preflight is
 *         about, else what the groups of all these routes have in common
 *     it has none: that of the group with the longest prefix that it begins with; of several
 *         such groups, what they have in common
 */

#include "ht.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/go/panic.h>

/* ---- making ---------------------------------------------------------------------- */

void
ht_groups_init(struct bh_http_server *s)
{
    s->root = (struct bh_http_group){ .s = s, .prefix = { .source = NULL, .host = "" } };
    s->groups_end = &s->root.next;
}

struct bh_http_group *
bh_http_root_(struct bh_http_server *s)
{
    return &s->root;
}

struct bh_http_group *
bh_http_itself_(struct bh_http_group *g)
{
    return g;
}

static const char *
prefix_of(const struct bh_http_group *g)
{
    return g->prefix.source != NULL ? g->prefix.source : "";
}

struct bh_http_group *
bh_http_group_(struct bh_http_group *parent, const char *prefix, const char *file, int line)
{
    struct bh_http_server *s = parent->s;
    struct bh_http_group  *g = calloc(1, sizeof *g);

    BH_REQUIRE(!atomic_load(&s->serving));
    if (g == NULL)
        bh_panic("http: out of memory for routes");
    ht_pattern_prefix(&g->prefix, prefix_of(parent), prefix);
    if (parent->prefix.fault != NULL)
        g->prefix.fault = parent->prefix.fault;
    g->s = s;
    g->parent = parent;
    g->depth = parent->depth + 1;
    g->place = (struct ht_place){ "group", file, line };
    *s->groups_end = g;
    s->groups_end = &g->next;
    return g;
}

static void
add_step(struct bh_http_group *g, const struct ht_step *step)
{
    BH_REQUIRE(g->step_count < HT_MAX_STEPS);
    BH_REQUIRE(!atomic_load(&g->s->serving));
    g->steps = ht_more(g->steps, g->step_count, sizeof *g->steps);
    g->steps[g->step_count++] = *step;
    if (step->observer)
        g->s->observer_count = g->step_count;
}

void
bh_http_use_(struct bh_http_group *g, bh_http_fn *fn, void *arg, const char *name,
             const char *file, int line)
{
    add_step(g, &(struct ht_step){ fn, arg, { name, file, line }, false, g->first_route });
}

void
bh_http_observe_(struct bh_http_server *s, bh_http_fn *fn, void *arg, const char *name,
                 const char *file, int line)
{
    add_step(&s->root,
             &(struct ht_step){ fn, arg, { name, file, line }, true, s->root.first_route });
}

void
bh_http_handle_(struct bh_http_group *g, const char *pattern, bh_http_fn *fn, void *arg,
                const char *name, const char *file, int line)
{
    struct ht_route *route;

    BH_REQUIRE(!atomic_load(&g->s->serving));
    route = ht_router_add(&g->s->router, prefix_of(g), pattern);
    route->fn = fn;
    route->arg = arg;
    route->group = g;
    route->place = (struct ht_place){ name, file, line };
    for (; g != NULL; g = g->parent)
        if (g->first_route == NULL)
            g->first_route = route;
}

static void
make_chain(struct bh_http_group *g)
{
    const struct bh_http_group *parent = g->parent; /* made before g, and frozen before it */
    int                         inherited = parent != NULL ? parent->chain_length : 0;

    g->chain_length = inherited + g->step_count;
    g->chain = ht_more(NULL, g->chain_length, sizeof *g->chain);
    for (int i = 0; i < inherited; i++)
        g->chain[i] = parent->chain[i];
    for (int i = 0; i < g->step_count; i++)
        g->chain[inherited + i] = (struct ht_link){
            g->steps[i].fn, g->steps[i].arg, g->steps[i].place.name };
}

void
ht_groups_freeze(struct bh_http_server *s)
{
    for (struct bh_http_group *g = &s->root; g != NULL && g->chain == NULL; g = g->next)
        make_chain(g);
}

void
ht_groups_free(struct bh_http_server *s)
{
    struct bh_http_group *next;

    for (struct bh_http_group *g = &s->root; g != NULL; g = next) {
        next = g->next;
        free(g->steps);
        free(g->chain);
        ht_pattern_fini(&g->prefix);
        if (g != &s->root)
            free(g);
    }
}

/* ---- requests without a route ---------------------------------------------------- */

/* The innermost group that has both inside; either may be NULL. */
static const struct bh_http_group *
common(const struct bh_http_group *a, const struct bh_http_group *b)
{
    if (a == NULL || b == NULL)
        return a != NULL ? a : b;
    while (a != b) {
        if (a->depth >= b->depth)
            a = a->parent;
        else
            b = b->parent;
    }
    return a;
}

static void
join_group(const struct ht_route *route, void *arg)
{
    const struct bh_http_group **group = arg;

    *group = common(*group, route->group);
}

/*
 * How closely the host is named: 2 by itself, 1 by what follows its first label, 0 not at
 * all; -1: another.
 */
static int
host_rank(const struct ht_pattern *p, const char *host)
{
    size_t length = strcspn(host, ":"), label = strcspn(host, ".:");

    if (*p->host == '\0')
        return 0;
    if (p->sub != NULL) {
        if (label == 0 || label >= length)
            return -1;
        host += label + 1;
        length -= label + 1;
    }
    if (strlen(p->host) != length || strncasecmp(p->host, host, length) != 0)
        return -1;
    return p->sub != NULL ? 1 : 2;
}

static bool
segment_is(const struct ht_segment *s, const char *text, size_t length, struct bh_arena *arena)
{
    char *plain;
    long  plain_length;

    if (s->kind == HT_PARAM)
        return length > 0;
    if (memchr(text, '%', length) == NULL)
        return strlen(s->text) == length && memcmp(s->text, text, length) == 0;
    plain = bh_arena_alloc(arena, length + 1);
    plain_length = ht_unescape(plain, text, length, false);
    return plain_length >= 0 && strlen(s->text) == (size_t)plain_length &&
           memcmp(s->text, plain, (size_t)plain_length) == 0;
}

static bool
path_begins(const char *path, const struct ht_pattern *p, struct bh_arena *arena)
{
    for (int i = 0; i < p->segment_count; i++) {
        size_t length;

        if (*path != '/')
            return false;
        length = strcspn(path + 1, "/");
        if (!segment_is(&p->segments[i], path + 1, length, arena))
            return false;
        path += 1 + length;
    }
    return true;
}

/* Which of two prefixes of a request says more about it: > 0 if a does. */
static int
closer(const struct ht_pattern *a, const struct ht_pattern *b, const char *host)
{
    int order = host_rank(a, host) - host_rank(b, host);

    if (order == 0)
        order = a->segment_count - b->segment_count;
    for (int i = 0; order == 0 && i < a->segment_count; i++)
        order = (int)b->segments[i].kind - (int)a->segments[i].kind;
    return order;
}

/* The group whose prefix the path begins with. */
static const struct bh_http_group *
group_of_prefix(const struct ht_call *x)
{
    const struct bh_http_group *found = &x->s->root;
    const char                 *host = x->pub.host;

    for (const struct bh_http_group *g = found->next; g != NULL; g = g->next) {
        int order;

        if (host_rank(&g->prefix, host) < 0 || !path_begins(x->pub.path, &g->prefix, x->arena))
            continue;
        order = closer(&g->prefix, &found->prefix, host);
        if (order >= 0)
            found = order > 0 ? g : common(g, found);
    }
    return found;
}

const struct bh_http_group *
ht_group_of(struct ht_call *x)
{
    const struct ht_router     *r = &x->s->router;
    const struct bh_http_group *g = NULL;
    const char                 *wanted = NULL;
    struct ht_match             m;

    if (!x->match.path_known)
        return group_of_prefix(x);
    if (strcmp(x->pub.method, "OPTIONS") == 0)
        wanted = bh_http_header(&x->pub, "Access-Control-Request-Method");
    if (wanted != NULL) {
        ht_router_match(r, wanted, x->pub.host, x->pub.path, x->arena, &m);
        if (m.route != NULL)
            return m.route->group;
    }
    ht_router_each(r, x->pub.host, x->pub.path, x->arena, join_group, &g);
    return g;
}
