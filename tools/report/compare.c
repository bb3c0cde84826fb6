/*
 * compare.c -- are two reports the same panic, and in what do they differ?
 *
 * Plain values are compared by name, stacks as a whole: the frames in common from the
 * inside, then from the outside, and what lies between them in each.
 */

#include "reports.h"

#include <stdio.h>
#include <string.h>

static bool
same_value(const struct bh_json *a, const struct bh_json *b)
{
    if (a == NULL || b == NULL)
        return a == b;
    if (a->type != b->type)
        return false;
    switch (a->type) {
    case BH_JSON_TEXT:
        return strcmp(a->text, b->text) == 0;
    case BH_JSON_INT:
        return a->integer == b->integer;
    case BH_JSON_NUMBER:
        return a->number == b->number;
    case BH_JSON_BOOL:
        return a->boolean == b->boolean;
    default:
        return true;
    }
}

static void
put_value(const struct bh_json *j)
{
    if (j == NULL)
        (void)printf("(absent)");
    else if (j->type == BH_JSON_TEXT)
        (void)printf("%.120s", j->text);
    else if (j->type == BH_JSON_INT)
        (void)printf("%lld", (long long)j->integer);
    else if (j->type == BH_JSON_NUMBER)
        (void)printf("%g", j->number);
    else if (j->type == BH_JSON_BOOL)
        (void)printf(j->boolean ? "true" : "false");
    else
        (void)printf("null");
}

/* compare_object -- the plain members of both. */
static int
compare_object(const char *name, const struct bh_json *a, const struct bh_json *b)
{
    int differ = 0;

    if (a == NULL || a->type != BH_JSON_OBJECT)
        return 0;
    for (const struct bh_json *m = a->first; m != NULL; m = m->next) {
        const struct bh_json *other = bh_json_get(b, m->name);

        if (m->type == BH_JSON_LIST || m->type == BH_JSON_OBJECT || same_value(m, other))
            continue;
        (void)printf("  %s.%s: ", name, m->name);
        put_value(m);
        (void)printf("  |  ");
        put_value(other);
        (void)putchar('\n');
        differ++;
    }
    return differ;
}

static bool
same_frame(const struct frame *a, const struct frame *b)
{
    return strcmp(a->function, b->function) == 0 && strcmp(a->file, b->file) == 0 &&
           a->line == b->line;
}

/* own_frames -- those that are shown. */
static int
own_frames(const struct report *r, const struct frame *frame[FRAMES_MAX])
{
    int n = 0;

    for (int i = 0; i < r->frames; i++)
        if (!r->frame[i].hidden)
            frame[n++] = &r->frame[i];
    return n;
}

static void
put_frames(const char *sign, const struct frame *const *frame, int first, int end)
{
    for (int i = first; i < end; i++)
        (void)printf("  %s %s %s:%d\n", sign, frame[i]->function, frame[i]->file,
                     frame[i]->line);
}

static bool
compare_stacks(const struct report *a, const struct report *b)
{
    const struct frame *x[FRAMES_MAX], *y[FRAMES_MAX];
    int                 n = own_frames(a, x), m = own_frames(b, y), inner = 0, outer = 0;

    while (inner < n && inner < m && same_frame(x[inner], y[inner]))
        inner++;
    while (outer < n - inner && outer < m - inner &&
           same_frame(x[n - 1 - outer], y[m - 1 - outer]))
        outer++;
    if (inner == n && inner == m)
        return true;
    (void)printf("stack: %d frames in common inside, %d outside\n", inner, outer);
    put_frames("<", x, inner, n - outer);
    put_frames(">", y, inner, m - outer);
    return false;
}

int
command_compare(const char *path_a, const char *path_b)
{
    static const char *const objects[] = { "panic",   "trace",   "goroutine", "http",
                                           "outcome", "service", "build",     "world" };
    struct report           *a, *b;
    int                      differ = 0;

    if (load_report(path_a, &a) < 0 || load_report(path_b, &b) < 0)
        return 2;
    bool same = strcmp(a->fingerprint, b->fingerprint) == 0;
    (void)printf("fingerprint: %s%s%s (%s)\n", a->fingerprint, same ? "" : " | ",
                 same ? "" : b->fingerprint, same ? "the same panic" : "another panic");
    if (compare_stacks(a, b))
        (void)printf("stack: the same\n");
    for (size_t i = 0; i < sizeof objects / sizeof *objects; i++)
        differ += compare_object(objects[i], bh_json_get(a->json, objects[i]),
                                 bh_json_get(b->json, objects[i]));
    (void)printf("%d values differ\n", differ);
    return same ? 0 : 1;
}
