/*
 * report_text.c -- a report to read.
 *
 * It begins as Go's do, so that what parses those parses this:
 *
 *     panic: TEXT
 *     [signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x55...]
 *
 *     goroutine 42 [running]:
 *     main.fn(...)
 *             /src/fn.c:41
 *
 * with the program's own frames only.  What follows depends on the level: the source
 * around the panic, request, deferred calls, the process; then every frame with its
 * address, the goroutines in groups, modules, and how to open the other files.
 * Phase 2 stands last, behind `text_fixed`.
 */

#include "report.h"

#include <signal.h>
#include <string.h>
#include <time.h>

enum { GROUPS = 40, TEXT_END = OB_TEXT_SIZE - 32 * 1024, SECOND_NS = 1000000000 };

#define RED    "\033[31m"
#define BOLD   "\033[1m"
#define DIM    "\033[2m"
#define NORMAL "\033[0m"

struct page {
    struct ob_report *r;
    struct ob_sheet  *s;
    bool              colours;
};

static void
colour(const struct page *p, const char *code)
{
    if (p->colours)
        ob_put(p->s, code);
}

static void
heading(const struct page *p, const char *text)
{
    colour(p, BOLD);
    ob_print(p->s, "\n%s\n", text);
    colour(p, NORMAL);
}

/* put_indented -- a text of several lines shall not look like lines of ours. */
static void
put_indented(struct ob_sheet *s, const char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '\n')
            ob_put(s, "\n\t");
        else if ((unsigned char)*text < 0x20 && *text != '\t')
            ob_print(s, "\\x%02x", (unsigned char)*text);
        else
            ob_put_bytes(s, text, 1);
}

/* ---- as Go prints it ----------------------------------------------------------------- */

static const char *
signal_name(int signal)
{
    switch (signal) {
    case SIGSEGV:
        return "SIGSEGV: segmentation violation";
    case SIGBUS:
        return "SIGBUS: bus error";
    case SIGFPE:
        return "SIGFPE: floating-point exception";
    case SIGILL:
        return "SIGILL: illegal instruction";
    case SIGABRT:
        return "SIGABRT: abort";
    case SIGTRAP:
        return "SIGTRAP: trace trap";
    default:
        return "signal";
    }
}

static void
put_message(const struct page *p)
{
    const struct ob_raised *raised = &p->r->slot->raised;

    for (int i = raised->chain_count - 1; i >= 0; i--) {
        ob_put(p->s, "panic: ");
        put_indented(p->s, raised->chain[i].text);
        ob_put(p->s, "\n\t");
    }
    colour(p, RED);
    ob_put(p->s, "panic: ");
    put_indented(p->s, raised->text[0] != '\0' ? raised->text : raised->kind);
    colour(p, NORMAL);
    ob_put(p->s, "\n");
    if (raised->signal != 0)
        ob_print(p->s, "[signal %s code=0x%x addr=0x%llx pc=0x%llx]\n",
                 signal_name(raised->signal), (unsigned)raised->code,
                 (unsigned long long)raised->fault_addr, (unsigned long long)raised->pc);
}

static void
put_place(const struct page *p, const struct ob_frame *f)
{
    if (f->pc == 0) {
        ob_put(p->s, "...frames elided...\n");
    } else if (f->function[0] == '\0') {
        ob_print(p->s, "0x%llx\n\t%s\n", (unsigned long long)f->pc,
                 f->module >= 0 ? p->r->module[f->module].path : "?");
    } else {
        ob_print(p->s, "%s(...)\n\t%s:%d%s\n", f->function, f->file[0] != '\0' ? f->file : "?",
                 f->line, f->inlined ? " (inlined)" : "");
    }
}

static void
put_created(const struct page *p)
{
    const struct ob_world *w = &p->r->world;
    struct bh_frame        f[BH_FRAMES_MAX];

    if (w->ancestors == 0 || w->ancestor[0].pc == 0 || ob_settings.raw)
        return;
    if (bh_symbolize(w->ancestor[0].pc, f, BH_FRAMES_MAX) > 0)
        ob_print(p->s, "created by %s in goroutine %llu\n\t%s:%d\n", f[0].function,
                 (unsigned long long)w->ancestor[0].id, f[0].file, f[0].line);
}

static void
put_stack(const struct page *p)
{
    const struct ob_report *r = p->r;
    int                     shown = 0;

    ob_print(p->s, "\ngoroutine %llu [running]:\n",
             (unsigned long long)r->slot->raised.goroutine);
    for (int i = 0; i < r->frames; i++)
        if (!r->frame[i].hidden || r->frame[i].pc == 0) {
            put_place(p, &r->frame[i]);
            shown++;
        }
    for (int i = 0; shown == 0 && i < r->frames; i++) /* none is the program's own */
        put_place(p, &r->frame[i]);
    put_created(p);
}

/* ---- more ---------------------------------------------------------------------------- */

static void
put_source(const struct page *p)
{
    static char            lines[OB_SNIPPET_LINES][OB_SNIPPET_WIDTH];
    const struct ob_frame *f = p->r->location >= 0 ? &p->r->frame[p->r->location] : NULL;
    int first, n = f != NULL ? ob_snippet(f->file, f->line, &first, lines) : 0;

    if (n == 0)
        return;
    ob_print(p->s, "\n%s:%d\n", f->file, f->line);
    for (int i = 0; i < n; i++) {
        bool here = first + i == f->line;

        colour(p, here ? RED : DIM);
        ob_print(p->s, "%s%5d | %s\n", here ? ">" : " ", first + i, lines[i]);
        colour(p, NORMAL);
    }
}

static void
put_identity(const struct page *p)
{
    const struct ob_raised    *raised = &p->r->slot->raised;
    static const struct bh_tag none;
    time_t                     seconds = (time_t)(raised->time / SECOND_NS);
    struct tm                  t;
    char                       text[32] = "";

    if (gmtime_r(&seconds, &t) != NULL)
        (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &t);
    heading(p, "report");
    ob_print(p->s,
             "  id           %s\n  time         %s.%09lldZ\n  type         %s\n"
             "  fingerprint  %s\n",
             p->r->id, text, (long long)(raised->time % SECOND_NS), raised->kind,
             p->r->fingerprint);
    ob_print(p->s, "  service      %s %s (%s)\n", ob_settings.service, ob_settings.version,
             ob_settings.instance);
    if (p->r->earlier[0] != '\0')
        ob_print(p->s, "  earlier      %s\n", p->r->earlier);
    if (memcmp(raised->tag.trace_id, none.trace_id, sizeof none.trace_id) != 0) {
        ob_put(p->s, "  trace        ");
        ob_put_hex(p->s, raised->tag.trace_id, sizeof raised->tag.trace_id);
        ob_put(p->s, "\n  span         ");
        ob_put_hex(p->s, raised->tag.span_id, sizeof raised->tag.span_id);
        ob_put(p->s, "\n");
    }
    if (raised->name[0] != '\0')
        ob_print(p->s, "  goroutine    %s\n", raised->name);
    if (p->r->world.labels[0] != '\0')
        ob_print(p->s, "  labels       %s\n", p->r->world.labels);
    if (raised->stack_size > 0)
        ob_print(p->s, "  stack        %zu of %zu bytes\n", raised->stack_used,
                 raised->stack_size);
    for (int i = 0; i < raised->lock_count && i < OB_LOCKS; i++)
        ob_print(p->s, "  holds        0x%llx\n", (unsigned long long)raised->locks[i]);
}

/* The middleware, up to where the panic was, and the connection. */
static void
put_way(const struct page *p, const struct ob_request *q)
{
    int shown = q->step_count < OB_CHAIN_STEPS ? q->step_count : OB_CHAIN_STEPS;

    ob_put(p->s, "  through      ");
    for (int i = 0; i < shown && i <= q->step; i++)
        ob_print(p->s, "%s%s", i > 0 ? " > " : "", q->steps[i]);
    ob_put(p->s, q->step >= shown ? " > handler\n" : "\n");
    if (q->has_tcp)
        ob_print(p->s, "  connection   round trip %u us, %u segments sent again, %u lost\n",
                 q->tcp.rtt_us, q->tcp.retransmits, q->tcp.lost);
}

static void
put_request(const struct page *p)
{
    const struct ob_request *q = &p->r->slot->raised.request;

    if (!p->r->slot->raised.has_request)
        return;
    heading(p, "request");
    ob_put(p->s, "  ");
    put_indented(p->s, q->room + q->method);
    ob_put(p->s, " ");
    put_indented(p->s, q->room + q->path);
    ob_print(p->s,
             " HTTP/%d.%d\n  route        %s\n  client       %s\n  number       %llu\n"
             "  reply so far %d, %llu bytes\n",
             q->version / 10, q->version % 10, q->room + q->route, q->room + q->peer,
             (unsigned long long)q->id, q->status, (unsigned long long)q->sent);
    put_way(p, q);
    for (int i = 0; i < q->header_count; i++) {
        ob_put(p->s, "    ");
        put_indented(p->s, q->room + q->header[i].name);
        ob_put(p->s, ": ");
        put_indented(p->s, q->room + q->header[i].value);
        ob_put(p->s, "\n");
    }
}

static void
put_process(const struct page *p)
{
    const struct ob_world *w = &p->r->world;

    heading(p, "process");
    ob_print(p->s, "  %lld goroutines:", (long long)w->count);
    for (int i = 0; i < w->states; i++)
        ob_print(p->s, "%s %lld %s", i > 0 ? "," : "", (long long)w->by_state[i].count,
                 w->by_state[i].state);
    ob_print(p->s, "\n  run queues:");
    for (int i = 0; i < w->queues; i++)
        ob_print(p->s, " %lld", (long long)w->queue[i]);
    ob_print(p->s, "; %lld threads, %d descriptors, %zu bytes of heap in use\n",
             (long long)w->stats.threads, w->fds, w->heap_in_use);
    for (int i = 0; i < w->numbers; i++)
        ob_print(p->s, "  %s %llu\n", w->number[i].name,
                 (unsigned long long)w->number[i].value);
    for (int i = 0; i < w->ranks; i++)
        ob_print(p->s, "  goroutine %llu: %s, %s\n", (unsigned long long)w->ranked[i].id,
                 w->ranked[i].why,
                 w->ranked[i].at >= 0 ? w->goroutine[w->ranked[i].at].state : "ended");
}

/* ---- everything ---------------------------------------------------------------------- */

static void
put_every_frame(const struct page *p)
{
    heading(p, "every frame");
    for (int i = 0; i < p->r->frames && p->s->used < TEXT_END; i++) {
        const struct ob_frame *f = &p->r->frame[i];

        colour(p, f->hidden ? DIM : NORMAL);
        ob_print(p->s, "  0x%llx %s %s:%d%s%s\n", (unsigned long long)f->pc,
                 f->function[0] != '\0' ? f->function : "?", f->file[0] != '\0' ? f->file : "?",
                 f->line, f->inlined ? " (inlined)" : "",
                 i == p->r->location ? "  <- here" : "");
    }
    colour(p, NORMAL);
}

static void
put_registers(const struct page *p)
{
    const struct ob_raised *raised = &p->r->slot->raised;

    if (raised->register_count == 0)
        return;
    heading(p, "registers at the fault");
    for (int i = 0; i < raised->register_count; i++)
        ob_print(p->s, "  %-3s 0x%016llx%s", bh_register_name(i),
                 (unsigned long long)raised->registers[i],
                 i % 3 == 2 || i + 1 == raised->register_count ? "\n" : "");
}

static void
put_events(const struct page *p)
{
    const struct ob_raised *raised = &p->r->slot->raised;

    if (raised->event_count == 0)
        return;
    heading(p, "what the goroutine did last");
    for (int i = 0; i < raised->event_count; i++) {
        const struct bh_flight_event *e = &raised->event[i];

        ob_print(p->s, "  %10.3f ms  %-10s", (double)(e->ns - raised->now) / 1e6,
                 ob_event_name(e->kind));
        if (e->goroutine != raised->goroutine)
            ob_print(p->s, " by %llu", (unsigned long long)e->goroutine);
        else if (e->other != 0)
            ob_print(p->s, " %llu", (unsigned long long)e->other);
        ob_print(p->s, " %s", e->why != NULL ? e->why : "");
        put_indented(p->s, e->text);
        ob_put(p->s, "\n");
    }
}

static void
put_groups(const struct page *p)
{
    const struct ob_world *w = &p->r->world;
    int                    shown = 0;

    heading(p, "goroutines");
    for (; shown < w->groups && shown < GROUPS && p->s->used < TEXT_END; shown++) {
        const struct ob_group *g = &w->group[shown];

        ob_print(p->s, "  %lld [%s], such as %llu%s\n", (long long)g->count, g->state,
                 (unsigned long long)g->id, g->system ? ", system" : "");
        for (int i = 0; i < g->depth; i++) {
            struct bh_frame f[BH_FRAMES_MAX];
            int             n = ob_settings.raw ? 0 : bh_symbolize(g->pcs[i], f, BH_FRAMES_MAX);

            if (n == 0)
                ob_print(p->s, "    0x%llx\n", (unsigned long long)g->pcs[i]);
            for (int k = 0; k < n; k++)
                if (!f[k].runtime)
                    ob_print(p->s, "    %s %s:%d\n", f[k].function, f[k].file, f[k].line);
        }
    }
    if (shown < w->groups || w->ungrouped > 0)
        ob_print(p->s, "  and %d more groups, %lld goroutines beside them\n", w->groups - shown,
                 (long long)w->ungrouped);
}

static void
put_modules(const struct page *p)
{
    heading(p, "modules");
    for (int i = 0; i < p->r->modules; i++) {
        const struct ob_module *m = &p->r->module[i];

        ob_print(p->s, "  0x%llx-0x%llx %s %s\n", (unsigned long long)m->start,
                 (unsigned long long)m->end, m->build_id[0] != '\0' ? m->build_id : "-",
                 m->path);
    }
    heading(p, "files");
    ob_put(p->s, "  *.pb.gz      go tool pprof -http=: FILE\n"
                 "  trace.out    go tool trace FILE\n"
                 "  trace.json   ui.perfetto.dev, or chrome://tracing\n"
                 "  report.json  bh_report show DIRECTORY\n");
    for (int i = 0; i < p->r->missing_count; i++)
        ob_print(p->s, "  missing: %s (%s)\n", p->r->missing[i].what, p->r->missing[i].why);
}

/* ---- what phase 2 changes -------------------------------------------------------------- */

static void
put_defers(const struct page *p)
{
    const struct ob_known *k = &p->r->known;

    if (k->defer_count == 0)
        return;
    heading(p, "deferred calls");
    for (int i = 0; i < k->defer_count; i++)
        if (k->defer[i].ns >= 0)
            ob_print(p->s, "  %s, %lld ns%s\n", k->defer[i].name, (long long)k->defer[i].ns,
                     k->defer[i].recovered ? ", recovered it" : "");
        else
            ob_print(p->s, "  %s, did not return\n", k->defer[i].name);
    if (k->defers > k->defer_count)
        ob_print(p->s, "  and %d more\n", k->defers - k->defer_count);
}

static void
put_rest(const struct page *p)
{
    const struct ob_known *k = &p->r->known;
    const char            *result = ob_result_name(k);

    put_defers(p);
    heading(p, "outcome");
    ob_print(p->s, "  %s", result[0] != '\0' ? result : "not known yet");
    if (k->by != NULL)
        ob_print(p->s, " by %s", k->by);
    if (result[0] != '\0')
        ob_print(p->s, " after %lld us, %d deferred calls run",
                 (long long)(k->unwind_ns / 1000), k->defers);
    ob_print(p->s, "%s\n", k->hook_failed ? "; a hook panicked over it" : "");
    if (k->reply_known)
        ob_print(p->s, "  reply: %d, %llu bytes%s\n", k->status, (unsigned long long)k->sent,
                 k->aborted ? ", broken off" : "");
}

/* ---- whole ----------------------------------------------------------------------------- */

void
ob_text_write(struct ob_report *r, enum bh_report_level level, bool colours)
{
    struct page p = { r, &r->text, colours };

    r->text.used = 0;
    r->text.cut = false;
    put_message(&p);
    put_stack(&p);
    if (level >= BH_REPORT_MEDIUM) {
        put_source(&p);
        put_identity(&p);
        put_request(&p);
        put_process(&p);
    }
    if (level >= BH_REPORT_FULL) {
        put_every_frame(&p);
        put_registers(&p);
        put_events(&p);
        put_groups(&p);
        put_modules(&p);
    }
    r->text_fixed = r->text.used;
    put_rest(&p);
}

void
ob_text_write_rest(struct ob_report *r, bool colours)
{
    struct page p = { r, &r->text, colours };

    r->text.used = 0;
    r->text.cut = false;
    put_rest(&p);
}
