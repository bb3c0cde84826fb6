/*
 * recover.c -- one broken handler costs one 500: the recovery boundary, and the
 * latest reports.
 *
 * Landed in bh_http_recover, the panicking stack is gone.  So a deferred call, which
 * runs while it is still there, notes the return addresses; names are looked up
 * only when somebody reads the report.  A storm of panics thus costs
 * addresses, not symbol tables.
 *
 * Fields that the chain inside had added to the reply are dropped with it; those of
 * observers outside stay.
 */

#include "ht.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include <bulkhead/go/stack.h>

void
ht_note_stack(struct ht_caught *caught)
{
    int count;

    if (caught->done)
        return;
    count = bh_stack(caught->frames, BH_HTTP_PANIC_FRAMES) - 1;
    if (count > 0) /* without this very function */
        memmove(caught->frames, caught->frames + 1, (size_t)count * sizeof caught->frames[0]);
    caught->frame_count = count > 0 ? count : 0;
}

/* ---- the middleware -------------------------------------------------------------- */

struct boundary {
    struct ht_caught  caught;
    struct ht_call   *x;
    struct ht_line   *lines;
    struct ht_line  **lines_end; /* as they were on entry */
    struct ht_filter *filters;
};

static int
answer_panic(struct boundary *b, const struct bh_panic *p)
{
    struct ht_call *x = b->x;
    bool            committed = x->reply == HT_REPLY_COMMITTED;

    if (p->kind == &bh_kind_http_abort && p->value == x) {
        ht_break(x);
        return BH_ECANCELED;
    }
    x->pub.panicked = p->kind;
    atomic_fetch_add_explicit(&x->s->panics, 1, memory_order_relaxed);
    ht_report(x->s, x, p, x->carried != NULL ? x->carried : &b->caught, "handler",
              committed ? "aborted" : "500");
    if (committed) {
        ht_break(x);
    } else {
        x->lines = b->lines;
        *b->lines_end = NULL;
        x->lines_end = b->lines_end;
        ht_reply_error(x, 500, NULL);
        x->filters = b->filters;
    }
    x->collected = NULL;
    x->passing = NULL;
    return bh_fail(BH_EPANIC, "%s", p->text);
}

static int
run_inside(struct boundary *b)
{
    int rc;

    BH_DEFER(ht_note_stack, &b->caught);
    rc = ht_next(b->x);
    ht_reply_settle(b->x, rc);
    ht_reply_filter(b->x, b->filters);
    b->caught.done = true;
    return rc;
}

/* *b is filled in by the caller: what the block reads may not change behind BH_RECOVER. */
static int
run_guarded(struct boundary *b)
{
    BH_RECOVER(p) {
        return answer_panic(b, p);
    }
    return run_inside(b);
}

int
bh_http_recover(struct bh_http_call *c, void *arg)
{
    struct boundary b;

    (void)arg;
    b.x = ht_own(c);
    b.caught.done = false;
    b.caught.frame_count = 0;
    b.lines = b.x->lines;
    b.lines_end = b.x->lines_end;
    b.filters = b.x->filters;
    return run_guarded(&b);
}

/* ---- reports --------------------------------------------------------------------- */

static void
copy_text(char *to, size_t size, const char *from)
{
    size_t n = strnlen(from != NULL ? from : "", size - 1);

    memcpy(to, from != NULL ? from : "", n);
    to[n] = '\0';
}
#define COPY(to, from) copy_text((to), sizeof(to), (from))

void
ht_report(struct bh_http_server *s, const struct ht_call *x, const struct bh_panic *p,
          const struct ht_caught *caught, const char *where, const char *outcome)
{
    struct ht_reports    *all = &s->reports;
    struct bh_http_panic *r;
    const char           *text = bh_panic_text(p); /* may call out: before the lock */
    struct timespec       now;

    (void)clock_gettime(CLOCK_REALTIME, &now);
    bh_mutex_lock(&all->lock);
    r = &all->kept[all->count % BH_HTTP_PANICS_KEPT];
    r->number = ++all->count;
    r->time_ms = now.tv_sec * 1000 + now.tv_nsec / 1000000;
    r->request = x != NULL ? x->pub.id : 0;
    r->goroutine = p->goroutine;
    r->signal = p->signal;
    r->line = p->line;
    r->fault_addr = p->fault_addr;
    COPY(r->where, where);
    COPY(r->outcome, outcome);
    COPY(r->route, x != NULL ? x->pub.route : NULL);
    COPY(r->target, x != NULL ? x->pub.path : NULL);
    COPY(r->kind, p->kind != NULL ? p->kind->name : "");
    COPY(r->file, p->file);
    COPY(r->text, text);
    r->frame_count = caught->frame_count;
    memcpy(r->frames, caught->frames, (size_t)caught->frame_count * sizeof r->frames[0]);
    bh_mutex_unlock(&all->lock);
}

int
bh_http_panics(struct bh_http_server *s, struct bh_http_panic *reports, int max)
{
    struct ht_reports *all = &s->reports;
    int                n = 0;

    bh_mutex_lock(&all->lock);
    for (uint64_t i = all->count; i > 0 && n < max && all->count - i < BH_HTTP_PANICS_KEPT; i--)
        reports[n++] = all->kept[(i - 1) % BH_HTTP_PANICS_KEPT];
    bh_mutex_unlock(&all->lock);
    return n;
}

size_t
bh_http_panic_stack(const struct bh_http_panic *report, char *text, size_t size)
{
    return bh_stack_text(report->frames, report->frame_count, text, size);
}
