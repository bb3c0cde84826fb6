/*
 * Claim (3.3): a goroutine whose context is cancelled may be ended before its
 * deferred calls run.  Nothing outside can end a goroutine.
 */

#include "lab.h"

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/sync.h>

enum { ATTEMPTS = 20000 };

struct attempt {
    struct bh_ctx       *ctx;
    struct bh_waitgroup *gone;
    int                  i, *recovered;
};

static void
count(int *recovered)
{
    if (bh_recover() != NULL)
        (*recovered)++;
}

/* Cancelled while it is parked, while it yields, or while it is new or spins: then it panics. */
static void
wait_and_panic(void *args)
{
    struct attempt *a = args;

    BH_RETURNS_VOID;
    BH_DEFER(bh_waitgroup_done, a->gone);
    BH_DEFER(count, a->recovered);
    switch (a->i % 3) {
    case 0:
        bh_ctx_sleep(a->ctx, INT64_MAX);
        break;
    case 1:
        while (bh_ctx_err(a->ctx) == 0)
            bh_yield();
        break;
    case 2:
        while (bh_ctx_err(a->ctx) == 0)
            continue;
        break;
    }
    bh_panic("after cancel");
}

static void
show(void *unused)
{
    int recovered = 0;

    (void)unused;
    for (int i = 0; i < ATTEMPTS; i++) {
        struct bh_ctx      *ctx = bh_ctx_cancellable(bh_ctx_background());
        struct bh_waitgroup gone = { 0 };

        bh_waitgroup_add(&gone, 1);
        bh_go(wait_and_panic, &(struct attempt){ ctx, &gone, i, &recovered });
        if (i % 3 != 2)
            bh_yield(); /* so that it has begun */
        bh_ctx_cancel(ctx);
        bh_waitgroup_wait(&gone);
        bh_ctx_unref(ctx);
    }
    truth("deferred calls that ran and recovered: %d of %d", recovered, ATTEMPTS);
}

int
main(void)
{
    article("cancelling the context may end a goroutine before its deferred calls run");
    truth("a context only tells; the goroutine ends itself");
    return bh_main(show, NULL);
}
