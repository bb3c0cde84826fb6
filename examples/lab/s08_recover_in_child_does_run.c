/*
 * Claim (1, 3.1, and the title): a recover deferred inside the new goroutine never
 * runs.  It is the one that does.
 */

#include "lab.h"

#include <bulkhead/go/chan.h>

static void
recover_own(void *unused)
{
    (void)unused;
    truth("recovered in the goroutine: %s", text_of(bh_recover()));
}

static void
handle(void *args)
{
    struct bh_chan **done = args;

    BH_RETURNS_VOID;
    BH_DEFER(bh_close, *done);
    BH_DEFER(recover_own, NULL);
    bh_panic("async handler panic");
}

static void
show(void *unused)
{
    struct bh_chan *done = BH_CHAN(bool, 0);

    (void)unused;
    bh_go(handle, &done);
    bh_recv(done, NULL);
    bh_chan_unref(done);
    truth("main goes on");
}

int
main(void)
{
    article("recover() in a goroutine can never catch the panic");
    truth("it catches its own goroutine's, every time; nobody else's");
    return bh_main(show, NULL);
}
