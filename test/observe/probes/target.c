/*
 * target.c -- lives through every step a panic can take, for tracers to watch.
 *
 *     target N     the whole story N times, a goroutine each; then, with -, dies of a panic
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

static void
nothing(void *unused)
{
    (void)unused;
}

static void
boom(const char *text)
{
    bh_panic("%s", text);
}

static void
exit_goroutine(void *unused)
{
    (void)unused;
    bh_goexit();
}

static void
recovered(void)
{
    BH_RECOVER(p) {
        return;
    }
    BH_DEFER(nothing, NULL);
    boom("recovered");
}

static void
once_again(void)
{
    BH_RECOVER(p) {
        bh_repanic(p);
    }
    boom("again");
}

static void
repanicked(void)
{
    BH_RECOVER(p) {
        return;
    }
    once_again();
}

static void
replaced(void)
{
    BH_RECOVER(p) {
        return;
    }
    BH_DEFER(boom, "newer");
    boom("replaced");
}

static int
member(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    boom("contained");
    return 0;
}

static void
contained(void)
{
    struct bh_group g;

    bh_group_init(&g, bh_ctx_background());
    bh_group_go(&g, member, NULL);
    (void)bh_group_wait(&g);
}

static void
swallowed(void *args)
{
    struct bh_waitgroup **ended = args;

    BH_DEFER(bh_waitgroup_done, *ended);
    BH_DEFER(exit_goroutine, NULL);
    boom("swallowed");
}

static void
story(void)
{
    struct bh_waitgroup ended = { 0 };

    recovered();
    repanicked();
    replaced();
    contained();
    bh_waitgroup_add(&ended, 1);
    bh_go(swallowed, &(struct bh_waitgroup *){ &ended });
    bh_waitgroup_wait(&ended);
}

static void
run(void *args)
{
    char **argv = args;

    for (int i = (int)strtol(argv[1], NULL, 10); i > 0; i--)
        story();
    bh_sleep(BH_SECOND / 10); /* the last goroutine's end, before the process goes */
    if (argv[2] != NULL)
        boom("fatal");
}

int
main(int argc, char **argv)
{
    return argc < 2 ? 1 : bh_main(run, argv);
}
