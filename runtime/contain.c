/*
 * contain.c -- what groups and safe goroutines share: a panic is reported where
 * it happens, then lives on as a value.
 *
 * A BH_RECOVER block runs after the panicking frames are gone.  The report needs
 * them, so it is made by a deferred call of the frame that will recover: the
 * last to run before control lands, on top of the intact stack.
 *
 * Reports are made one at a time, under a mutex that may be waited for: the
 * goroutine is in no hurry, and half a report inside another is worth nothing.
 */

#include "contain.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/go/sync.h>

#include "cold.h"

enum { DESCRIPTION_SIZE = BH_PANIC_TEXT + 256 };

/* ---- texts --------------------------------------------------------------- */

void
rt_panic_say(const struct bh_panic *p, char *text, size_t size)
{
    BH_RECOVER(inner) { /* a kind's function is application code */
        (void)snprintf(text, size, "(printing the panic value panicked, too: %s)", inner->text);
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

/* ---- the report ------------------------------------------------------------ */

static struct bh_mutex report_lock;

static void
write_all(int fd, const char *text, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, text, size);
        if (n <= 0)
            return; /* nowhere to complain to */
        text += n;
        size -= (size_t)n;
    }
}

static void
write_report(const struct bh_panic *p, const char *by)
{
    char         text[DESCRIPTION_SIZE], labels[256];
    struct bh_g *g = rt_g();

    rt_panic_say(p, text, BH_PANIC_TEXT);
    size_t length = strlen(text);
    length += (size_t)snprintf(text + length, sizeof text - length, " [contained by %s]\n", by);
    bh_mutex_lock(&report_lock);
    BH_DEFER(bh_mutex_unlock, &report_lock);
    write_all(STDERR_FILENO, "panic: ", 7);
    write_all(STDERR_FILENO, text, length);
    if (rt_cold_labels(g, labels, sizeof labels - 1) != 0) {
        strcat(labels, "\n");
        write_all(STDERR_FILENO, "labels: ", 8);
        write_all(STDERR_FILENO, labels, strlen(labels));
    }
    write_all(STDERR_FILENO, "\n", 1);
    rt_print_goroutine(STDERR_FILENO, g, true);
    write_all(STDERR_FILENO, "\n", 1);
}

void
rt_contain_report(struct rt_contain *c)
{
    struct rt_panic *r = rt_g()->panics;

    if (r == c->older || r == NULL || r->goexit || r->recovered)
        return;
    if (rt_sched.hooks.panic_contained != NULL)
        rt_sched.hooks.panic_contained(&r->pub, c->by);
    else
        write_report(&r->pub, c->by);
}

/* ---- keeping ------------------------------------------------------------------ */

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
