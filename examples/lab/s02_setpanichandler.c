/*
 * Claim (4.1): runtime.SetPanicHandler, since Go 1.22, sets a handler that every
 * panic goes through.  No Go release has it.  Here a hook may watch panics, and
 * only watch.
 */

#include "lab.h"

#include <bulkhead/go/hooks.h>

static void
watch(const struct bh_panic *p, void *unused)
{
    (void)unused;
    truth("the hook saw: %s", bh_panic_text(p));
    truth("recover in the hook gives: %s", text_of(bh_recover()));
}

static void
recover_it(const char *what)
{
    truth("%s: %s", what, text_of(bh_recover()));
}

static void
show(void *unused)
{
    (void)unused;
    BH_RETURNS_VOID;
    BH_DEFER(recover_it, "the deferred function recovers it afterwards");
    bh_panic("boom");
}

int
main(void)
{
    article("runtime.SetPanicHandler catches every goroutine's panics, since Go 1.22");
    truth("Go has no such function: a program that names it does not compile");
    bh_hook_panic(watch, NULL);
    return bh_main(show, NULL);
}
