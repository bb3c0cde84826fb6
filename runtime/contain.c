/*
 * contain.c -- what groups and safe goroutines share: a panic is reported where
 * it happens, then lives on as a value.
 *
 * A BH_RECOVER block runs after the panicking frames are gone.  The report needs
 * them, so it is made by a deferred call of the frame that will recover: the
 * last to run before control lands, on top of the intact stack.
 *
 * The text is taken first: a kind's functions are application code, and may not
 * run while the report has the descriptor.
 */

#include "contain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lifecycle.h"
#include "report.h"
#include "transfer.h"

/* ---- texts --------------------------------------------------------------- */

void
rt_panic_say(const struct bh_panic *p, char *text, size_t size)
{
    BH_RECOVER(inner) { /* a kind's function is application code */
        (void)snprintf(text, size, "(its text panicked: %s)",
                       inner->text[0] != 0 ? inner->text : inner->kind->name);
        return;
    }
    (void)snprintf(text, size, "%s", bh_panic_text(p));
}

void
rt_panic_describe(const struct bh_panic *p, char *text, size_t size)
{
    rt_panic_say(p, text, size);

    size_t length = strlen(text);
    if (p->file != NULL)
        (void)snprintf(text + length, size - length, " [goroutine %llu, %s:%d]",
                       (unsigned long long)p->goroutine, p->file, p->line);
    else
        (void)snprintf(text + length, size - length, " [goroutine %llu, pc=0x%llx]",
                       (unsigned long long)p->goroutine, (unsigned long long)p->pc);
}

/* ---- the report ---------------------------------------------------------- */

static void
write_report(const struct bh_panic *p, const char *by)
{
    char           text[BH_PANIC_TEXT];
    struct rt_regs regs;

    rt_panic_say(p, text, sizeof text);
    rt_regs_caller(&regs);
    rt_report_begin(STDERR_FILENO, -1);
    rt_put("panic: ");
    rt_put_indented(text);
    rt_put(" [contained by ");
    rt_put(by);
    rt_put("]\n");
    if (p->signal != 0)
        rt_put_signal_line(p->signal, p->code, p->fault_addr, p->pc);
    if (rt_traceback_level() != RT_LEVEL_NONE) {
        rt_put("\n");
        rt_trace(&(struct rt_origin){ rt_g(), &regs, false }, rt_traceback_level());
        rt_put("\n");
    }
    rt_report_end();
}

void
rt_contain_report(struct rt_contain *c)
{
    struct rt_panic *r = rt_g()->panics;

    if (r == c->older || r == NULL || r->goexit || r->recovered)
        return;
    bool kept = c->transfer != NULL && rt_transfer_take(c->transfer, r);
    r->by = kept ? "transfer" : c->by;
    rt_panic_count(r, BH_PANIC_CONTAINED);
    if ((!r->watched || !rt_panic_tell_slow(r, BH_PANIC_CONTAINED)) && !kept)
        write_report(&r->pub, c->by);
}

/* ---- keeping ------------------------------------------------------------- */

struct bh_panic *
rt_panic_keep(const struct bh_panic *p)
{
    struct bh_panic *kept = malloc(sizeof *kept);

    if (kept != NULL) {
        rt_panic_move(kept, p);
        kept->outer = NULL; /* in frames that will be gone */
    }
    return kept;
}
