/*
 * Claim (4.1): keep the panic in goroutine-local storage, and another goroutine
 * can recover it.  The sample does not compile (it stores bytes in a field of
 * addresses), and could not work: each goroutine reads its own empty slot.
 */

#include "lab.h"

#include <bulkhead/go/sync.h>

static int key;

static void
look(void *args)
{
    struct bh_waitgroup **done = args;

    BH_DEFER(bh_waitgroup_done, *done);
    truth("another goroutine's slot holds: %s",
          bh_local_get(&key) != NULL ? "something" : "nothing");
    truth("and its recover gives: %s", text_of(bh_recover()));
}

static void
store_and_ask(void *unused)
{
    struct bh_waitgroup done = { 0 }, *address = &done;

    (void)unused;
    bh_local_set(&key, &key, NULL);
    bh_waitgroup_add(&done, 1);
    bh_go(look, &address);
    bh_waitgroup_wait(&done);
    truth("the panicking goroutine's own recover gives: %s", text_of(bh_recover()));
}

static void
show(void *unused)
{
    (void)unused;
    BH_RETURNS_VOID;
    BH_DEFER(store_and_ask, NULL);
    bh_panic("boom");
}

int
main(void)
{
    article("goroutine-local storage lets another goroutine recover the panic");
    truth("Go has no such storage, and the sample does not compile; here it exists, and:");
    return bh_main(show, NULL);
}
