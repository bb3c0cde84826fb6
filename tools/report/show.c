/*
 * show.c -- list: a line for each report.  show: one, to read.  merge: several folders
 * (of several machines, say), by fingerprint.
 */

#include "reports.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void
put_place(const struct report *r)
{
    if (r->location >= 0) {
        const struct frame *f = &r->frame[r->location];
        const char         *slash = strrchr(f->file, '/');

        (void)printf("%s %s:%d", f->function, slash != NULL ? slash + 1 : f->file, f->line);
    }
}

static int
load_all(int count, char **paths, struct report ***all)
{
    int total = 0;

    *all = NULL;
    for (int i = 0; i < count; i++) {
        struct report **some;
        int             n = load_folder(paths[i], &some);

        if (n < 0)
            return -1;
        struct report **both = bh_arena_alloc(arena, (size_t)(total + n + 1) * sizeof *both);
        if (total > 0)
            memcpy(both, *all, (size_t)total * sizeof *both);
        memcpy(both + total, some, (size_t)n * sizeof *both);
        *all = both;
        total += n;
    }
    return total;
}

int
command_list(int count, char **paths)
{
    struct report **all;
    int             n = load_all(count, paths, &all);

    for (int i = 0; i < n; i++) {
        (void)printf("%s  %.19sZ  %s  %-10s  %.60s  ", all[i]->id, all[i]->time,
                     all[i]->fingerprint, all[i]->outcome, all[i]->message);
        put_place(all[i]);
        (void)putchar('\n');
    }
    return n < 0;
}

/* ---- merge --------------------------------------------------------------------------- */

static int
by_fingerprint(const void *a, const void *b)
{
    const struct report *const *x = a, *const *y = b;
    int                         order = strcmp((*x)->fingerprint, (*y)->fingerprint);

    return order != 0 ? order : strcmp((*x)->id, (*y)->id);
}

struct bunch {
    int first, count;
};

static int
by_count(const void *a, const void *b)
{
    const struct bunch *x = a, *y = b;

    return x->count != y->count ? (x->count < y->count ? 1 : -1) : x->first - y->first;
}

/* put_outcomes -- "3 recovered, 1 fatal" */
static void
put_outcomes(struct report **some, int count)
{
    const char *comma = "";

    for (int i = 0; i < count; i++) {
        int same = 0, before = 0;

        for (int k = 0; k < count; k++)
            if (strcmp(some[k]->outcome, some[i]->outcome) == 0) {
                same++;
                before += k < i;
            }
        if (before == 0) {
            (void)printf("%s%d %s", comma, same, some[i]->outcome);
            comma = ", ";
        }
    }
}

int
command_merge(int count, char **paths)
{
    struct report **all;
    int             n = load_all(count, paths, &all), bunches = 0;

    if (n <= 0)
        return n < 0;
    struct bunch *bunch = bh_arena_alloc(arena, (size_t)n * sizeof *bunch);
    qsort(all, (size_t)n, sizeof *all, by_fingerprint);
    for (int i = 0; i < n; i++) {
        if (i == 0 || strcmp(all[i]->fingerprint, all[i - 1]->fingerprint) != 0)
            bunch[bunches++].first = i;
        bunch[bunches - 1].count++;
    }
    qsort(bunch, (size_t)bunches, sizeof *bunch, by_count);
    for (int i = 0; i < bunches; i++) {
        struct report **some = all + bunch[i].first, *last = some[bunch[i].count - 1];

        (void)printf("%s  %d reports, %.19sZ to %.19sZ  ", last->fingerprint, bunch[i].count,
                     some[0]->time, last->time);
        put_outcomes(some, bunch[i].count);
        (void)printf("\n    %s: %.100s\n    ", last->type, last->message);
        put_place(last);
        (void)printf("\n    latest: %s\n", last->path);
    }
    (void)printf("%d reports, %d fingerprints\n", n, bunches);
    return 0;
}

/* ---- show ---------------------------------------------------------------------------- */

static void
put_frame(const struct frame *f)
{
    if (f->pc == 0 && f->function[0] == '\0')
        (void)printf("...frames elided...\n");
    else if (f->function[0] == '\0')
        (void)printf("0x%llx\n\t?\n", (unsigned long long)f->pc);
    else
        (void)printf("%s(...)\n\t%s:%d%s\n", f->function, f->file[0] != '\0' ? f->file : "?",
                     f->line, f->inlined ? " (inlined)" : "");
}

static void
put_snippet(const struct frame *f)
{
    const struct bh_json *line;

    if (f->snippet == NULL)
        return;
    (void)printf("\n%s:%d\n", f->file, f->line);
    for (uint32_t i = 0; (line = bh_json_at(f->snippet, i)) != NULL; i++)
        if (line->type == BH_JSON_TEXT)
            (void)printf("%s%5d | %.120s\n", f->snippet_line + (int)i == f->line ? ">" : " ",
                         f->snippet_line + (int)i, line->text);
}

static void
put_value(const struct bh_json *j)
{
    switch (j->type) {
    case BH_JSON_TEXT:
        (void)printf("%.200s", j->text);
        break;
    case BH_JSON_INT:
        (void)printf("%lld", (long long)j->integer);
        break;
    case BH_JSON_NUMBER:
        (void)printf("%g", j->number);
        break;
    case BH_JSON_BOOL:
        (void)printf(j->boolean ? "yes" : "no");
        break;
    case BH_JSON_LIST:
        for (const struct bh_json *m = j->first; m != NULL; m = m->next)
            (void)printf("%.100s%s", m->text, m->next != NULL ? ", " : "");
        break;
    default:
        (void)printf("-");
        break;
    }
}

/* is_plain -- one value, or a list of texts. */
static bool
is_plain(const struct bh_json *j)
{
    if (j->type != BH_JSON_LIST)
        return j->type != BH_JSON_OBJECT && j->type != BH_JSON_NULL;
    for (const struct bh_json *m = j->first; m != NULL; m = m->next)
        if (m->type != BH_JSON_TEXT)
            return false;
    return j->first != NULL;
}

/* put_object -- its plain members, "name value" a line. */
static void
put_object(const char *title, const struct bh_json *object)
{
    if (object == NULL || object->type != BH_JSON_OBJECT)
        return;
    (void)printf("\n%s\n", title);
    for (const struct bh_json *m = object->first; m != NULL; m = m->next)
        if (is_plain(m)) {
            (void)printf("  %-14s ", m->name);
            put_value(m);
            (void)putchar('\n');
        }
}

static void
put_defers(const struct bh_json *defers)
{
    const struct bh_json *d;

    for (uint32_t i = 0; (d = bh_json_at(defers, i)) != NULL; i++)
        (void)printf("  %-14s %s, %s\n", "deferred", bh_json_text(d, "function", "?"),
                     bh_json_bool(d, "recovered", false)  ? "recovered it"
                     : bh_json_bool(d, "returned", false) ? "returned"
                                                          : "did not return");
}

static void
put_head(const struct report *r)
{
    const struct bh_json *panic = bh_json_get(r->json, "panic");
    const struct bh_json *fault = bh_json_get(panic, "fault");

    (void)printf("panic: %.500s", r->message[0] != '\0' ? r->message : r->type);
    if (fault != NULL && fault->type == BH_JSON_OBJECT)
        (void)printf("\n[signal %lld code=0x%llx addr=%s pc=%s]",
                     (long long)bh_json_int(fault, "signal", 0),
                     (unsigned long long)bh_json_int(fault, "code", 0),
                     bh_json_text(fault, "addr", "?"), bh_json_text(fault, "pc", "?"));
    (void)printf("\n\ngoroutine %lld [running]:\n",
                 (long long)bh_json_int(bh_json_get(r->json, "goroutine"), "id", 0));
}

static void
put_everything(const struct report *r)
{
    const struct bh_json *modules = bh_json_get(bh_json_get(r->json, "build"), "modules"), *m;

    (void)printf("\nevery frame\n");
    for (int i = 0; i < r->frames; i++)
        (void)printf("  0x%llx %s %s:%d%s\n", (unsigned long long)r->frame[i].pc,
                     r->frame[i].function[0] != '\0' ? r->frame[i].function : "?",
                     r->frame[i].file[0] != '\0' ? r->frame[i].file : "?", r->frame[i].line,
                     i == r->location ? "  <- here" : "");
    put_object("registers at the fault",
               bh_json_get(bh_json_get(bh_json_get(r->json, "panic"), "fault"), "registers"));
    (void)printf("\nmodules\n");
    for (uint32_t i = 0; (m = bh_json_at(modules, i)) != NULL; i++)
        (void)printf("  %s-%s %s %s\n", bh_json_text(m, "start", ""),
                     bh_json_text(m, "end", ""), bh_json_text(m, "build_id", "-"),
                     bh_json_text(m, "file", ""));
}

static void
show(const struct report *r, int level)
{
    int shown = 0;

    put_head(r);
    for (int i = 0; i < r->frames; i++)
        if (!r->frame[i].hidden) {
            put_frame(&r->frame[i]);
            shown++;
        }
    for (int i = 0; shown == 0 && i < r->frames; i++)
        put_frame(&r->frame[i]);
    if (level >= 2) {
        if (r->location >= 0)
            put_snippet(&r->frame[r->location]);
        (void)printf("\nreport\n  %-14s %s\n  %-14s %s\n  %-14s %s\n", "id", r->id, "time",
                     r->time, "fingerprint", r->fingerprint);
        put_object("service", bh_json_get(r->json, "service"));
        put_object("trace", bh_json_get(r->json, "trace"));
        put_object("goroutine", bh_json_get(r->json, "goroutine"));
        put_object("request", bh_json_get(r->json, "http"));
        put_object("connection", bh_json_get(bh_json_get(r->json, "http"), "conn"));
        put_object("process", bh_json_get(r->json, "world"));
    }
    if (level >= 3)
        put_everything(r);
    put_object("outcome", bh_json_get(r->json, "outcome"));
    put_defers(bh_json_get(r->json, "defers"));
}

int
command_show(int count, char **paths, int level)
{
    int status = 0;

    for (int i = 0; i < count; i++) {
        struct report *r;

        if (load_report(paths[i], &r) < 0) {
            status = 1;
            continue;
        }
        if (i > 0)
            (void)printf("\n----\n\n");
        show(r, level);
    }
    return status;
}
