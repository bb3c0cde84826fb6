/*
 * check.c -- what is wrong with a server's chain and routes, before it starts.
 *
 * The chain of every request is
 *
 *     observers ... bh_http_recover, middleware ..., of groups ..., the route's handler
 *
 * and a mistake in it shows only on the day something panics: a middleware outside
 * recover breaks the connection instead of giving a 500, a log inside it never sees
 * the failed requests, a second recover hides the first.  So these are refused, with
 * both places named.
 *
 * Two routes conflict if some path matches both and neither set of paths contains
 * the other.  See: Go 1.22, net/http "Precedence".
 */

#include "ht.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <bulkhead/http/monitor.h>

struct faults {
    char  *text;
    size_t size, length;
    int    count;
};

static void append(struct faults *f, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));
static void fault(struct faults *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
append(struct faults *f, const char *format, va_list args)
{
    size_t room = f->length < f->size ? f->size - f->length : 0;
    int    n = vsnprintf(room > 0 ? f->text + f->length : NULL, room, format, args);

    if (n > 0)
        f->length += (size_t)n;
}

static void
fault(struct faults *f, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    append(f, format, args);
    va_end(args);
    f->count++;
}

/* ---- the chain ------------------------------------------------------------------- */

/* It would not cover the routes that are there already. */
static void
check_late(struct faults *f, const struct ht_step *step)
{
    const struct ht_place *p = &step->place;

    if (step->after != NULL)
        fault(f,
              "%s (%s:%d) is registered after route \"%s\" (%s:%d), which it would not cover: "
              "move it before the first route\n",
              p->name, p->file, p->line, step->after->p.source, step->after->place.file,
              step->after->place.line);
}

/* What is there to see every request, also the ones that fail. */
static bool
only_watches(bh_http_fn *fn)
{
    static bh_http_fn *const known[] = { bh_http_access_log, bh_http_log, bh_http_identify };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i] == fn)
            return true;
    return false;
}

/* before: it runs outside recover. */
static void
check_step(struct faults *f, const struct ht_step *step, const struct ht_step *recover,
           bool before)
{
    const struct ht_place *p = &step->place, *r = &recover->place;

    check_late(f, step);
    if (step == recover)
        return;
    if (step->fn == bh_http_recover)
        fault(f, "%s is registered twice: %s:%d and %s:%d; the inner one hides the outer\n",
              p->name, r->file, r->line, p->file, p->line);
    else if (!step->observer && before)
        fault(f,
              "%s (%s:%d) is registered before bh_http_recover (%s:%d), which would not cover "
              "it: move it behind, or use bh_http_observe if it only watches\n",
              p->name, p->file, p->line, r->file, r->line);
    else if (step->observer && !before)
        fault(f,
              "observer %s (%s:%d) is registered after bh_http_recover (%s:%d), so it would "
              "miss what panics: move it before\n",
              p->name, p->file, p->line, r->file, r->line);
    else if (only_watches(step->fn) && !before)
        fault(f,
              "%s (%s:%d) is registered after bh_http_recover (%s:%d), so it would miss what "
              "panics: use bh_http_observe, before\n",
              p->name, p->file, p->line, r->file, r->line);
}

static void
check_groups(struct faults *f, const struct bh_http_server *s, const struct ht_step *recover)
{
    for (const struct bh_http_group *g = s->root.next; g != NULL; g = g->next) {
        if (g->prefix.fault != NULL && g->parent->prefix.fault == NULL)
            fault(f, "bad prefix \"%s\" (%s:%d): %s\n", g->prefix.source, g->place.file,
                  g->place.line, g->prefix.fault);
        for (int i = 0; i < g->step_count; i++) {
            const struct ht_step *step = &g->steps[i];

            if (recover != NULL) {
                check_step(f, step, recover, false);
            } else {
                check_late(f, step);
                if (step->fn == bh_http_recover)
                    fault(
                        f,
                        "bh_http_recover (%s:%d) is registered in group \"%s\" (%s:%d), which "
                        "covers only part of the server: use it on the server\n",
                        step->place.file, step->place.line, g->prefix.source, g->place.file,
                        g->place.line);
            }
        }
    }
}

/* Returns: the server's recover, or NULL. */
static const struct ht_step *
check_root(struct faults *f, const struct bh_http_server *s)
{
    const struct bh_http_group *root = &s->root;
    const struct ht_route      *first = root->first_route;
    const struct ht_step       *recover = NULL;

    for (int i = 0; i < root->step_count && recover == NULL; i++)
        if (root->steps[i].fn == bh_http_recover)
            recover = &root->steps[i];
    if (recover == NULL) {
        if (first != NULL)
            fault(f,
                  "route \"%s\" (%s:%d) is not covered by bh_http_recover: add "
                  "bh_http_use(server, bh_http_recover, NULL) before the first route\n",
                  first->p.source, first->place.file, first->place.line);
        return NULL;
    }
    if (recover->observer)
        fault(f, "bh_http_recover (%s:%d) is no observer: register it with bh_http_use\n",
              recover->place.file, recover->place.line);
    for (int i = 0; i < root->step_count; i++)
        check_step(f, &root->steps[i], recover, &root->steps[i] < recover);
    return recover;
}

/* ---- routes ---------------------------------------------------------------------- */

enum { A_MORE = 1, B_MORE = 2 }; /* matches something that the other does not */

/*
 * Compare segment by segment.  Returns: -1 if no path matches both; else which of
 * A_MORE and B_MORE hold: 0 the same paths, both: a conflict.
 */
static int
path_relation(const struct ht_pattern *a, const struct ht_pattern *b)
{
    int result = 0;

    for (int i = 0;; i++) {
        const struct ht_segment *x = i < a->segment_count ? &a->segments[i] : NULL;
        const struct ht_segment *y = i < b->segment_count ? &b->segments[i] : NULL;

        if (x == NULL || y == NULL)
            return x == y ? result : -1;
        if (x->kind == HT_REST || y->kind == HT_REST)
            return x->kind == y->kind ? result
                                      : result | (x->kind == HT_REST ? A_MORE : B_MORE);
        if (x->kind == HT_LITERAL && y->kind == HT_LITERAL) {
            if (strcmp(x->text, y->text) != 0)
                return -1;
        } else if (x->kind != y->kind) {
            if ((x->kind == HT_LITERAL ? x : y)->text[0] == '\0')
                return -1; /* a {name} is never empty */
            result |= x->kind == HT_PARAM ? A_MORE : B_MORE;
        }
    }
}

static int
method_relation(const char *a, const char *b)
{
    if (strcmp(a, b) == 0)
        return 0;
    if (*a == '\0' || (strcmp(a, "GET") == 0 && strcmp(b, "HEAD") == 0))
        return A_MORE;
    if (*b == '\0' || (strcmp(b, "GET") == 0 && strcmp(a, "HEAD") == 0))
        return B_MORE;
    return -1;
}

/* Two sites never share a route, whichever request may look into both (router.c). */
static int
relation(const struct ht_pattern *a, const struct ht_pattern *b)
{
    int path, method;

    if (strcmp(a->host, b->host) != 0 || (a->sub != NULL) != (b->sub != NULL))
        return -1;
    path = path_relation(a, b);
    method = method_relation(a->method, b->method);
    return path < 0 || method < 0 ? -1 : path | method;
}

static void
check_routes(struct faults *f, const struct ht_router *r)
{
    for (int i = 0; i < r->count; i++) {
        const struct ht_route *a = r->routes[i];

        if (a->p.fault != NULL && a->group->prefix.fault == NULL)
            fault(f, "bad pattern \"%s\" (%s:%d): %s\n", a->p.source, a->place.file,
                  a->place.line, a->p.fault);
        for (int k = 0; k < i && a->p.fault == NULL; k++) {
            const struct ht_route *b = r->routes[k];
            int                    how = b->p.fault == NULL ? relation(&a->p, &b->p) : -1;

            if (how == 0 || how == (A_MORE | B_MORE))
                fault(f, "route \"%s\" (%s:%d) matches %s \"%s\" (%s:%d)%s\n", a->p.source,
                      a->place.file, a->place.line,
                      how == 0 ? "exactly what" : "some requests that", b->p.source,
                      b->place.file, b->place.line,
                      how == 0 ? " does" : " matches, and neither is more specific");
        }
    }
}

int
bh_http_check(struct bh_http_server *s, char *text, size_t size)
{
    struct faults f = { .text = text, .size = size };

    if (size > 0)
        text[0] = '\0';
    check_groups(&f, s, check_root(&f, s));
    check_routes(&f, &s->router);
    return f.count;
}

/* ---- the table ------------------------------------------------------------------- */

static void line(struct faults *f, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static void
line(struct faults *f, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    append(f, format, args);
    va_end(args);
}

static void
chain_line(struct faults *f, const struct bh_http_group *g)
{
    if (g->parent != NULL)
        chain_line(f, g->parent);
    for (int i = 0; i < g->step_count; i++)
        line(f, "%s%s", f->count++ > 0 ? " > " : "", g->steps[i].place.name);
}

size_t
bh_http_routes(struct bh_http_server *s, char *text, size_t size)
{
    struct faults f = { .text = text, .size = size };
    int           width = 0;

    if (size > 0)
        text[0] = '\0';
    for (int i = 0; i < s->router.count; i++) {
        int length = (int)strlen(s->router.routes[i]->p.source);

        width = length > width && length <= 48 ? length : width;
    }
    for (int i = 0; i < s->router.count; i++) {
        const struct ht_route *r = s->router.routes[i];

        line(&f, "%-*s  %s  %s:%d  (", width, r->p.source, r->place.name, r->place.file,
             r->place.line);
        f.count = 0;
        chain_line(&f, r->group);
        line(&f, ")\n");
    }
    return f.length;
}
