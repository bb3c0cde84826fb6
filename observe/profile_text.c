/*
 * profile_text.c -- profiles to be read by people: Go's ?debug=1, and ?debug=2 of goroutines.
 *
 * First lines and samples have exactly the form of Go's runtime/pprof, which its pprof can
 * still parse.  Our values are already scaled to what really happened, so the sampling rates
 * given there are those that mean "as it is".
 */

#include "profile_text.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/inspect.h>

#include "sample.h"

enum form { COUNTS, HEAP, CONTENTION };

static enum form
form_of(const char *name)
{
    if (strcmp(name, "heap") == 0 || strcmp(name, "allocs") == 0)
        return HEAP;
    if (strcmp(name, "block") == 0 || strcmp(name, "mutex") == 0)
        return CONTENTION;
    return COUNTS;
}

/* The value of a type, by its name, whatever order the types are in. */
static int64_t
value(const struct bh_profile *p, const struct ob_sample *s, const char *type)
{
    for (int i = 0; i < p->type_count; i++)
        if (strcmp(ob_name(p, p->types[i]), type) == 0)
            return s->values[i];
    return 0;
}

static void
put_heap(FILE *out, const struct bh_profile *p, const struct ob_sample *s)
{
    fprintf(out, "%" PRId64 ": %" PRId64 " [%" PRId64 ": %" PRId64 "] @",
            value(p, s, "inuse_objects"), value(p, s, "inuse_space"),
            value(p, s, "alloc_objects"), value(p, s, "alloc_space"));
}

static void
put_head(FILE *out, const struct bh_profile *p, const char *name)
{
    struct ob_sample sum = { 0 };

    for (int i = 0; i < p->type_count; i++)
        sum.values[i] = bh_profile_total(p, i);
    switch (form_of(name)) {
    case COUNTS:
        fprintf(out, "%s profile: total %" PRId64 "\n", name, sum.values[0]);
        break;
    case HEAP:
        fprintf(out, "heap profile: ");
        put_heap(out, p, &sum);
        fprintf(out, " heap/2\n");
        break;
    case CONTENTION:
        fprintf(out, "--- %s:\ncycles/second=1000000000\n",
                strcmp(name, "block") == 0 ? "contention" : name);
        if (strcmp(name, "mutex") == 0)
            fprintf(out, "sampling period=1\n");
        break;
    }
}

/* Go quotes them; the strings are ours or the application's: escape what would break the line. */
static void
put_quoted(FILE *out, const char *text)
{
    fputc('"', out);
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            fprintf(out, "\\%c", *text);
        else if ((unsigned char)*text < ' ' || *text == 0x7f)
            fprintf(out, "\\x%02x", (unsigned char)*text);
        else
            fputc(*text, out);
    }
    fputc('"', out);
}

static void
put_labels(FILE *out, const struct bh_profile *p, const struct ob_sample *s)
{
    for (int i = 0; i < s->label_count; i++) {
        const struct ob_label *l = &s->labels[i];

        fprintf(out, i == 0 ? "# labels: {" : ", ");
        put_quoted(out, ob_name(p, l->key));
        fputc(':', out);
        if (l->text != 0)
            put_quoted(out, ob_name(p, l->text));
        else
            fprintf(out, "%" PRId64, l->number);
    }
    if (s->label_count > 0)
        fprintf(out, "}\n");
}

static void
put_stack(FILE *out, const struct ob_sample *s)
{
    struct bh_frame frames[BH_FRAMES_MAX];

    for (int i = 0; i < s->depth; i++) {
        int n = bh_symbolize(s->pcs[i], frames, BH_FRAMES_MAX);

        for (int k = 0; k < n; k++)
            fprintf(out, "#\t%#zx\t%s+%#zx\t%s:%d\n", (size_t)s->pcs[i], frames[k].function,
                    (size_t)(frames[k].entry != 0 ? s->pcs[i] - frames[k].entry : 0),
                    frames[k].file, frames[k].line);
    }
    fputc('\n', out);
}

static void
put_sample(FILE *out, const struct bh_profile *p, const char *name, const struct ob_sample *s)
{
    switch (form_of(name)) {
    case COUNTS:
        fprintf(out, "%" PRId64 " @", s->values[0]);
        break;
    case HEAP:
        put_heap(out, p, s);
        break;
    case CONTENTION:
        fprintf(out, "%" PRId64 " %" PRId64 " @", value(p, s, "delay"),
                value(p, s, "contentions"));
        break;
    }
    for (int i = 0; i < s->depth; i++)
        fprintf(out, " %#zx", (size_t)s->pcs[i]);
    fputc('\n', out);
    put_labels(out, p, s);
    put_stack(out, s);
}

/* The biggest first, as Go has them. */
static int
by_value(const void *a, const void *b)
{
    const struct ob_sample *const *x = a, *const *y = b;
    int64_t                        m = (*x)->values[0], n = (*y)->values[0];

    return m != n ? (m < n) - (m > n) : (*x > *y) - (*x < *y);
}

int
bh_profile_text(const struct bh_profile *p, const char *name, struct bh_profile_bytes *bytes)
{
    const struct ob_sample **order = malloc((p->count + 1) * sizeof(struct ob_sample *));
    char                    *text = NULL;
    size_t                   size = 0;
    FILE                    *out = order != NULL ? open_memstream(&text, &size) : NULL;
    uint32_t                 n = 0;

    if (out == NULL || p->incomplete) {
        if (out != NULL)
            (void)fclose(out);
        free(text);
        free(order);
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < p->count; i++)
        if (!ob_is_zero(p, &p->samples[i]))
            order[n++] = &p->samples[i];
    qsort(order, n, sizeof *order, by_value);
    put_head(out, p, name);
    for (uint32_t i = 0; i < n; i++)
        put_sample(out, p, name, order[i]);
    free(order);
    return ob_text_done(out, &text, &size, bytes);
}

int
ob_text_done(FILE *out, char **text, size_t *size, struct bh_profile_bytes *bytes)
{
    bool failed = ferror(out) != 0;

    if (fclose(out) != 0 || failed) {
        free(*text);
        return -ENOMEM;
    }
    *bytes = (struct bh_profile_bytes){ (unsigned char *)*text, *size };
    return 0;
}

/* ---- every goroutine's stack ----------------------------------------------------- */

static void
put_place(FILE *out, const struct bh_frame *f, uintptr_t pc)
{
    if (f->file[0] != '\0')
        fprintf(out, "\t%s:%d", f->file, f->line);
    else
        fprintf(out, "\t%#zx", (size_t)pc);
    if (f->inlined)
        fprintf(out, " (inlined)");
    else if (f->entry != 0)
        fprintf(out, " +%#zx", (size_t)(pc - f->entry));
    fputc('\n', out);
}

static void
put_header(FILE *out, const struct bh_goroutine_info *g)
{
    const int64_t minute = INT64_C(60000000000);

    fprintf(out, "goroutine %" PRIu64 " [%s", g->id, g->why);
    if (g->waiting_ns >= minute)
        fprintf(out, ", %" PRId64 " minutes", g->waiting_ns / minute);
    if (g->locked)
        fprintf(out, ", locked to thread");
    if (g->name[0] != '\0')
        fprintf(out, ", name: %s", g->name);
    if (g->labels[0] != '\0')
        fprintf(out, ", labels: %s", g->labels);
    if (g->tag.route != NULL)
        fprintf(out, ", route: %s", g->tag.route);
    fprintf(out, "]:\n");
}

/* A frame of the runtime is left out, except where nothing else is left. */
static bool
put_goroutine(const struct bh_goroutine_info *g, void *arg)
{
    FILE           *out = arg;
    struct bh_frame f[BH_FRAMES_MAX];

    if (g->system)
        return true;
    put_header(out, g);
    for (int i = 0; i < g->depth; i++) {
        int n = bh_symbolize(g->pcs[i], f, BH_FRAMES_MAX);

        for (int k = 0; k < n; k++) {
            if (f[k].runtime && strncmp(f[k].function, "bh_", 3) != 0)
                continue;
            fprintf(out, "%s(...)\n", f[k].function);
            put_place(out, &f[k], g->pcs[i]);
        }
    }
    if (g->truncated)
        fprintf(out, "...additional frames elided...\n");
    if (g->created_pc != 0 && bh_symbolize(g->created_pc, f, BH_FRAMES_MAX) > 0) {
        fprintf(out, "created by %s", f[0].function);
        if (g->created_by != 0)
            fprintf(out, " in goroutine %" PRIu64, g->created_by);
        fputc('\n', out);
        put_place(out, &f[0], g->created_pc);
    }
    fputc('\n', out);
    return true;
}

int
ob_goroutine_dump(struct bh_profile_bytes *bytes)
{
    char  *text = NULL;
    size_t size = 0;
    FILE  *out = open_memstream(&text, &size);

    if (out == NULL)
        return -ENOMEM;
    (void)bh_goroutines(put_goroutine, out, BH_GOROUTINE_DEPTH);
    return ob_text_done(out, &text, &size, bytes);
}
