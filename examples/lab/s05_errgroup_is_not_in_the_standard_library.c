/*
 * Claims (1, table): sync/errgroup is in the standard library, and turns panics
 * into errors.  It is golang.org/x/sync/errgroup, and a member's panic ends the
 * process.  bh_group does what the article wished for.
 */

#include "lab.h"

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/group.h>

static int
panic_member(struct bh_ctx *ctx, void *unused)
{
    (void)ctx;
    (void)unused;
    bh_panic("boom");
}

static void
show(void *unused)
{
    struct bh_group g;

    (void)unused;
    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, panic_member, NULL);
    int err = bh_group_wait(&g);
    truth("waiting for a bh_group whose member panicked gives %s",
          err == BH_EPANIC ? "BH_EPANIC" : bh_error_text(err));
    truth("and the process goes on");
}

int
main(void)
{
    article("the standard library's sync/errgroup turns panics into errors");
    truth("there is no sync/errgroup; golang.org/x/sync/errgroup lets a panic end the process");
    return bh_main(show, NULL);
}
