/*
 * Claim (2.4): a child goroutine's unrecovered panic ends that goroutine, silently,
 * and the others go on.  It ends the process.
 */

#include "lab.h"

#include <bulkhead/go/timer.h>

static void
panic_child(void *unused)
{
    (void)unused;
    bh_panic("child");
}

static void
outlive_child(void *unused)
{
    (void)unused;
    bh_go(panic_child, NULL);
    bh_sleep(BH_SECOND / 2);
    truth("main still runs");
}

int
main(void)
{
    article("a child's unrecovered panic ends that goroutine silently; the others go on");
    truth("it ends the whole process, with a text and status 2:");
    crash(outlive_child);
    return 0;
}
