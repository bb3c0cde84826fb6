/*
 * Experiment (2.4): one program is said to show both a panic in main and a panic
 * in a goroutine.  The second stands behind the first in the same function, so
 * it never starts.
 */

#include "lab.h"

#include <bulkhead/go/timer.h>

static void
recovered(const char *scenario)
{
    const struct bh_panic *p = bh_recover();

    if (p != NULL)
        truth("%s scenario recovered: %s", scenario, bh_panic_text(p));
}

static void
second(void *unused)
{
    (void)unused;
    BH_RETURNS_VOID;
    BH_DEFER(recovered, "second");
    bh_panic("second");
}

static void
first_then_second(void)
{
    volatile bool panics = true; /* so that the compiler keeps what follows */

    BH_RETURNS_VOID;
    BH_DEFER(recovered, "first");
    if (panics)
        bh_panic("first");
    bh_go(second, NULL);
    bh_sleep(50 * BH_MILLISECOND);
}

static void
show(void *unused)
{
    (void)unused;
    first_then_second();
    bh_sleep(50 * BH_MILLISECOND);
    truth("nothing more happens: what follows a panic in its function is never reached");
}

int
main(void)
{
    article("the program shows first the main goroutine's panic, then a child's");
    return bh_main(show, NULL);
}
