/*
 * cases.c -- `conformance -list` names the twins, `conformance NAME` runs one.
 *
 * One process runs one twin as its main goroutine and ends as a Go program
 * would.  run.sh compares what it prints with what real Go printed.
 */

#include "cases.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/go/sync.h>

enum { MAX_LINE = 1024, UNKNOWN_CASE = 99 };

static struct twin *twins;

void
twin_register(struct twin *t)
{
    struct twin **at = &twins;

    while (*at != NULL && strcmp((*at)->name, t->name) < 0)
        at = &(*at)->next;
    t->next = *at;
    *at = t;
}

/* Not stdio: a twin may die while its line is written, and stdio holds a lock. */
void
say(const char *format, ...)
{
    char    line[MAX_LINE];
    va_list args;

    va_start(args, format);
    int length = vsnprintf(line, sizeof line - 1, format, args);
    va_end(args);
    if (length > (int)sizeof line - 2)
        length = (int)sizeof line - 2;
    line[length] = '\n';
    if (write(STDOUT_FILENO, line, (size_t)length + 1) < 0)
        abort();
}

void
show(const char *label, const struct bh_panic *p)
{
    say("%s: %s (%s)", label, p != NULL ? bh_panic_text(p) : "<nil>",
        p != NULL ? p->kind->name : "<nil>");
}

const char *
yes_no(bool b)
{
    return b ? "true" : "false";
}

static void
describe(const char *label)
{
    const struct bh_panic *p = bh_recover();

    if (p == NULL)
        say("%s => <nil> | <nil> | runtime.Error=false error=false", label);
    else
        say("%s => %s | %s | runtime.Error=%s error=%s", label, bh_panic_text(p), p->kind->name,
            yes_no(p->kind->runtime_error),
            yes_no(p->kind->runtime_error || p->kind->error != NULL));
}

void
caught(const char *label, void (*fn)(void *), void *arg)
{
    BH_RETURNS_VOID;
    BH_DEFER(describe, label);
    fn(arg);
}

struct run {
    void (*fn)(void *);
    void                *arg;
    struct bh_waitgroup *gone;
};

static void
run(void *args)
{
    struct run *r = args;

    BH_DEFER(bh_waitgroup_done, r->gone);
    r->fn(r->arg);
}

void
in_goroutine(void (*fn)(void *), void *arg)
{
    struct bh_waitgroup gone = { 0 };

    bh_waitgroup_add(&gone, 1);
    bh_go(run, &(struct run){ fn, arg, &gone });
    bh_waitgroup_wait(&gone);
}

void
say_text(const char *text)
{
    say("%s", text);
}

void
show_recovered(const char *label)
{
    show(label, bh_recover());
}

void
recover_quietly(void *unused)
{
    (void)unused;
    (void)bh_recover();
}

void
panic_text(const char *text)
{
    bh_panic("%s", text);
}

void *
nil(void)
{
    return NULL;
}

void
nothing(void *unused)
{
    (void)unused;
}

static void
run_twin(void *args)
{
    struct twin *t = args;

    t->body();
    say("[case returned]");
}

int
main(int argc, char **argv)
{
    if (argc < 2 || strcmp(argv[1], "-list") == 0) {
        for (struct twin *t = twins; t != NULL; t = t->next)
            printf("%s\t%s\n", t->name, t->env);
        return 0;
    }
    for (struct twin *t = twins; t != NULL; t = t->next)
        if (strcmp(t->name, argv[1]) == 0)
            return bh_main(run_twin, t);
    printf("unknown case %s\n", argv[1]);
    return UNKNOWN_CASE;
}
