/*
 * Claim (4.2): SafeGo, which recovers and calls a callback, makes goroutines safe.
 * A callback that is nil, or panics, ends the process all the same: its panic is
 * a new one, raised where nothing is left to recover it.
 */

#include "lab.h"

#include <bulkhead/go/timer.h>

struct safe_go {
    void (*fn)(void);
    void (*on_error)(const struct bh_panic *p);
};

static void
recover_into_callback(const struct safe_go *s)
{
    const struct bh_panic *p = bh_recover();

    if (p != NULL)
        s->on_error(p);
}

static void
safe_go(void *args)
{
    const struct safe_go *s = args;

    BH_RETURNS_VOID;
    BH_DEFER(recover_into_callback, s);
    s->fn();
}

static void
panic_first(void)
{
    bh_panic("first");
}

static void
start_without_callback(void *unused)
{
    (void)unused;
    bh_go(safe_go, &(struct safe_go){ .fn = panic_first, .on_error = NULL });
    bh_sleep(BH_SECOND / 2);
    truth("must not print");
}

int
main(void)
{
    article("SafeGo makes every goroutine safe");
    truth("with a nil callback (or one that panics) the process ends:");
    crash(start_without_callback);
    return 0;
}
