/*
 * Claim (2.5): gopanic compares each deferred function with the address of
 * recover.  recover has none.  What counts is who calls it.
 */

#include "lab.h"

static void
recover_directly(const char *where)
{
    truth("%s: %s", where, text_of(bh_recover()));
}

static void
recover_one_deeper(const char *where)
{
    recover_directly(where);
}

static void
panic_under(void (*fn)(const char *), const char *where)
{
    BH_RETURNS_VOID;
    BH_DEFER(fn, where);
    bh_panic("boom");
}

static void
show(void *unused)
{
    (void)unused;
    BH_RETURNS_VOID;
    panic_under(recover_directly, "called by the deferred function itself, it gives");
    BH_DEFER(recover_directly, "so the panic goes on, and the caller's deferred function gets");
    panic_under(recover_one_deeper, "called one function deeper, it gives");
}

int
main(void)
{
    article("the runtime compares the deferred function with the address of recover");
    truth("recover has no address: in Go it is a builtin, here a macro");
    return bh_main(show, NULL);
}
