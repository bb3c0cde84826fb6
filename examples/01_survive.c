/* 01_survive.c -- four requests, two of which crash; the program does not. */
#include <stdio.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>

struct request { const char *name; int portions; struct bh_waitgroup *done; };

static struct bh_mutex kitchen;

static int
handle(const struct request *r) /* no check of anything */
{
    bh_mutex_lock(&kitchen);
    BH_DEFER(bh_mutex_unlock, &kitchen); /* by return or by crash */
    return r->name[0] * 12 / r->portions;
}

static void
serve(void *args)
{
    struct request *r = args;

    BH_DEFER(bh_waitgroup_done, r->done);
    BH_RECOVER(p) {
        printf("500 %s\n", bh_panic_text(p));
        return;
    }
    printf("200 %s gets %d\n", r->name, handle(r));
}

static void
run(void *args)
{
    struct bh_waitgroup done = { 0 };
    struct request      list[] = { { "ann", 3, &done }, { NULL, 3, &done },
                                   { "bob", 0, &done }, { "eve", 4, &done } };

    (void)args;
    for (int i = 0; i < 4; i++) {
        bh_waitgroup_add(&done, 1);
        bh_go(serve, &list[i]);
    }
    bh_waitgroup_wait(&done);
    printf("still here\n");
}

int
main(void)
{
    return bh_main(run, NULL);
}
