/*
 * stacktext.c -- a goroutine's own stack: addresses when something happens, names
 * when somebody reads them.
 *
 * The addresses come from frame pointers, in tens of nanoseconds; so a storm of
 * panics can note them all.  A frame interrupted by a fault is known by the
 * entry of rt_sigpanic above it; its address gets one added, so that every one of
 * them can be looked up as a return address: one back.
 *
 * Names are looked up as in a crash report, under the report lock; frames of the
 * runtime are left out, as there.
 */

#include "report.h"

#include <stdio.h>
#include <string.h>

#include <bulkhead/go/stack.h>

enum { SIGPANIC_SIZE = 64 }; /* bytes of rt_sigpanic, at most */

static bool
in_sigpanic(uintptr_t pc)
{
    uintptr_t start = (uintptr_t)rt_sigpanic;

    return pc > start && pc - start < SIGPANIC_SIZE;
}

/* Bring element `first` to the front, keeping the order. */
static void
rotate(uintptr_t *a, int n, int first)
{
    for (; first > 0; first--) {
        uintptr_t head = a[0];

        memmove(a, a + 1, (size_t)(n - 1) * sizeof *a);
        a[n - 1] = head;
    }
}

__attribute__((no_sanitize("address"), no_sanitize("thread"))) int
bh_stack(uintptr_t *pcs, int max)
{
    struct bh_g *g = rt_g();
    uintptr_t    fp = (uintptr_t)__builtin_frame_address(0), hi;
    int          inner = max / 2, count = 0;
    bool         fault = false;

    if (g == NULL || g->stack == NULL || max < 4)
        return 0;
    /* Beyond max: the outer half becomes a ring, behind a 0 that marks the gap. */
    hi = (uintptr_t)g->stack->top;
    while (fp < hi && hi - fp >= 2 * sizeof fp && fp % sizeof fp == 0) {
        const uintptr_t *frame = (const uintptr_t *)fp;

        if (frame[0] == 0 || frame[1] == 0) /* the first function: nobody has called it */
            break;
        pcs[count < max ? count : inner + 1 + (count - max) % (max - inner - 1)] =
            frame[1] + (fault ? 1 : 0);
        count++;
        fault = in_sigpanic(frame[1]);
        if (frame[0] <= fp)
            break;
        fp = frame[0];
    }
    if (count > max) {
        pcs[inner] = 0;
        rotate(pcs + inner + 1, max - inner - 1, (count - max) % (max - inner - 1));
        count = max;
    }
    return count;
}

struct writer {
    char  *text;
    size_t size, used;
};

static void
put(struct writer *w, const char *text)
{
    size_t n = strlen(text);

    if (n > w->size - 1 - w->used)
        n = w->size - 1 - w->used;
    memcpy(w->text + w->used, text, n);
    w->used += n;
    w->text[w->used] = '\0';
}

static void
put_place(struct writer *w, const struct rt_place *p, bool inlined)
{
    char path[RT_PATH_SIZE], line[32];

    put(w, p->function);
    put(w, "(...)\n\t");
    put(w, p->file != NULL ? rt_place_path(p, path) : "?");
    (void)snprintf(line, sizeof line, ":%u%s\n", p->line, inlined ? " (inlined)" : "");
    put(w, line);
}

static void
put_address(struct writer *w, uintptr_t pc)
{
    const struct rt_symbol *s = rt_symbol_find(pc - 1);
    char                    line[64];

    for (int i = 0; i < s->count; i++)
        if (!rt_symbol_is_ours(&s->place[i]))
            put_place(w, &s->place[i], i < s->count - 1);
    if (s->count == 0) {
        (void)snprintf(line, sizeof line, "unknown\n\t%#zx", (size_t)pc);
        put(w, line);
        put(w, s->module != NULL ? " in " : "");
        put(w, s->module != NULL ? s->module->path : "");
        put(w, "\n");
    }
}

size_t
bh_stack_text(const uintptr_t *pcs, int count, char *text, size_t size)
{
    struct writer w = { text, size, 0 };
    char          line[64];

    if (size == 0)
        return 0;
    text[0] = '\0';
    rt_report_begin(-1, -1);
    for (int i = 0, same; i < count; i += same) {
        for (same = 1; i + same < count && pcs[i + same] == pcs[i]; same++)
            continue;
        if (pcs[i] == 0) {
            put(&w, "...frames elided...\n");
            continue;
        }
        put_address(&w, pcs[i]);
        if (same > 1) {
            (void)snprintf(line, sizeof line, "\t... and %d more times\n", same - 1);
            put(&w, line);
        }
    }
    rt_report_end();
    return w.used;
}
