/*
 * lifecycle_test.c -- what hooks are told of a panic, step by step.
 *
 * hooks.panic is set before bh_main only, so its tests are plain processes that run
 * a scene under it and compare the story: a word a step, with the number of the
 * panic in order of appearance (the same serial is the same number).
 */

#include "lifecycle.h"
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

/* ---- the story ------------------------------------------------------------- */

enum { MAX_SERIALS = 8 };

static char                  story[512];
static uint64_t              serials[MAX_SERIALS];
static struct bh_panic_event last[BH_PANIC_STEPS];
static char                  last_by[32];
static uint64_t              landed; /* serial of the last panic that a scene recovered */

static int
number(uint64_t serial)
{
    int i = 0;

    while (i < MAX_SERIALS - 1 && serials[i] != 0 && serials[i] != serial)
        i++;
    serials[i] = serial;
    return i;
}

static void
say(const char *word, int n)
{
    size_t length = strlen(story);

    (void)snprintf(story + length, sizeof story - length, "%s%s %d", length != 0 ? ", " : "",
                   word, n);
}

static void
watch(const struct bh_panic_event *e)
{
    static const char *const words[] = {
        [BH_PANIC_RAISED] = "raised",       [BH_PANIC_DEFER] = "defer",
        [BH_PANIC_DEFER_DONE] = "done",     [BH_PANIC_RECOVERED] = "recovered",
        [BH_PANIC_REPANICKED] = "again",    [BH_PANIC_GOEXIT] = "goexit",
        [BH_PANIC_CONTAINED] = "contained", [BH_PANIC_FATAL] = "fatal",
        [BH_PANIC_REPLACED] = "replaced",
    };

    last[e->step] = *e;
    if (e->by != NULL)
        (void)snprintf(last_by, sizeof last_by, "%s", e->by);
    say(words[e->step], number(e->panic->serial));
}

static void
expect_story(bh_fn *scene, const char *expected)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = watch });
    EXPECT_EQ(bh_main(scene, NULL), 0);
    EXPECT_STR(story, expected);
}

/* ---- deferred calls -------------------------------------------------------- */

static void
nothing(void *unused)
{
    (void)unused;
}

static void
panic_again(const char *text)
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
carry_on(void *unused)
{
    const struct bh_panic *p = bh_recover();

    (void)unused;
    EXPECT(p != NULL);
    bh_repanic(p);
}

static void
recover_and_panic(const char *text)
{
    EXPECT(bh_recover() != NULL);
    bh_panic("%s", text);
}

static void
boom(void)
{
    bh_panic("boom");
}

/* ---- the layer's hook ------------------------------------------------------ */

static void
two_deferred(void *unused)
{
    (void)unused;
    BH_RECOVER(p) {
        landed = p->serial;
        return;
    }
    BH_DEFER(nothing, NULL);
    BH_DEFER(nothing, NULL);
    boom();
}

TEST_PLAIN(hook, sees_each_deferred_call_and_the_recovery)
{
    expect_story(two_deferred, "raised 0, defer 0, done 0, defer 0, done 0, recovered 0");
    EXPECT_EQ(landed, serials[0]);
    EXPECT_EQ(last[BH_PANIC_RAISED].defers, 0);
    EXPECT_EQ(last[BH_PANIC_DEFER].defers, 2);
    EXPECT_EQ(last[BH_PANIC_DEFER].deferred, (uintptr_t)nothing);
    EXPECT_EQ(last[BH_PANIC_DEFER_DONE].deferred, (uintptr_t)nothing);
    EXPECT_EQ(last[BH_PANIC_RECOVERED].deferred, 0);
    EXPECT_EQ(last[BH_PANIC_RECOVERED].defers, 2);
    EXPECT(last[BH_PANIC_RECOVERED].by == NULL);
    EXPECT(!last[BH_PANIC_RECOVERED].hook_failed);
}

static void
deferred_panics(void *unused)
{
    (void)unused;
    BH_RECOVER(p) {
        EXPECT_STR(bh_panic_text(p), "second");
        return;
    }
    BH_DEFER(panic_again, "second");
    boom();
}

TEST_PLAIN(hook, sees_a_panic_replaced_by_that_of_its_deferred_call)
{
    expect_story(deferred_panics, "raised 0, defer 0, raised 1, recovered 1, replaced 0");
}

static void
recover_and_repanic(void)
{
    BH_RECOVER(p) {
        bh_repanic(p);
    }
    boom();
}

static void
repanic_at_a_point(void *unused)
{
    (void)unused;
    BH_RECOVER(p) {
        landed = p->serial;
        return;
    }
    recover_and_repanic();
}

TEST_PLAIN(hook, sees_a_repanic_as_the_same_panic)
{
    expect_story(repanic_at_a_point, "raised 0, recovered 0, again 0, recovered 0");
    EXPECT_EQ(landed, serials[0]);
}

static void
repanic_in_a_deferred_call(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(carry_on, NULL);
    boom();
}

static void
repanic_in_flight(void *unused)
{
    (void)unused;
    BH_RECOVER(p) {
        return;
    }
    repanic_in_a_deferred_call();
}

TEST_PLAIN(hook, tells_one_end_of_a_panic_carried_on_in_flight)
{
    expect_story(repanic_in_flight, "raised 0, defer 0, again 0, recovered 0");
}

static void
another_in_a_deferred_call(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(recover_and_panic, "another");
    boom();
}

static void
recovered_then_another(void *unused)
{
    (void)unused;
    BH_RECOVER(p) {
        return;
    }
    another_in_a_deferred_call();
}

TEST_PLAIN(hook, sees_both_recovered_if_the_recovering_call_panics)
{
    expect_story(recovered_then_another,
                 "raised 0, defer 0, raised 1, recovered 1, recovered 0");
}

static void
exits_while_panicking(void *args)
{
    struct bh_waitgroup **ended = args;

    BH_DEFER(bh_waitgroup_done, *ended);
    BH_DEFER(exit_goroutine, NULL);
    boom();
}

static void
goexit_scene(void *unused)
{
    struct bh_waitgroup ended = { 0 };

    (void)unused;
    bh_waitgroup_add(&ended, 1);
    bh_go(exits_while_panicking, &(struct bh_waitgroup *){ &ended });
    bh_waitgroup_wait(&ended);
    while (rt_panics_in_flight())
        bh_yield();
}

TEST_PLAIN(hook, sees_a_goexit_swallow_a_panic)
{
    expect_story(goexit_scene, "raised 0, defer 0, goexit 0");
}

static int
member(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    boom();
    return 0;
}

static void
wait_for_repanic(void *unused)
{
    struct bh_group g;

    (void)unused;
    BH_RECOVER(p) {
        landed = p->serial;
        return;
    }
    bh_group_init(&g, bh_ctx_background());
    BH_DEFER(bh_group_join, &g);
    bh_group_set_flags(&g, BH_GROUP_REPANIC);
    bh_group_go(&g, member, NULL);
    (void)bh_group_wait(&g);
}

TEST_PLAIN(hook, follows_a_panic_from_a_member_to_the_waiter)
{
    expect_story(wait_for_repanic, "raised 0, defer 0, contained 0, done 0, recovered 0, "
                                   "again 0, defer 0, done 0, defer 0, done 0, recovered 0");
    EXPECT_STR(last_by, "its group");
    EXPECT_EQ(landed, serials[0]);
    EXPECT(last[BH_PANIC_CONTAINED].pcs == NULL);
}

static void
expect_fatal_story(const char *text, int length)
{
    EXPECT_EQ(strncmp(text, "panic: boom\n", (size_t)length), 0);
    EXPECT_STR(story, "raised 0, defer 0, done 0, fatal 0");
    _exit(0);
}

static void
fatal_scene(void *unused)
{
    (void)unused;
    BH_DEFER(nothing, NULL);
    boom();
}

TEST_PLAIN(hook, sees_what_ends_the_process)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = watch, .crash = expect_fatal_story });
    (void)bh_main(fatal_scene, NULL);
    EXPECT(false);
}

/* ---- what is known where it was raised ------------------------------------- */

static struct bh_mutex   outer_lock, inner_lock, forgotten_lock;
static struct bh_rwmutex shared_lock;
static uintptr_t         locks[2], address_register;
static int               lock_count;
static size_t            used, size;
static uintptr_t         fault_pc;
static bool              has_registers;

static void
look(const struct bh_panic_event *e)
{
    if (e->step != BH_PANIC_RAISED)
        return;
    lock_count = bh_deferred_locks(locks, 2);
    used = e->stack_used;
    size = e->stack_size;
    has_registers = e->registers != NULL;
    for (int i = 0; i < e->register_count; i++) {
        if (strcmp(bh_register_name(i), "rip") == 0 || strcmp(bh_register_name(i), "pc") == 0)
            fault_pc = e->registers[i];
        if (e->registers[i] == 0x1234)
            address_register = e->registers[i];
    }
    EXPECT_EQ(e->panic->signal != 0 ? e->panic->pc : 0, fault_pc);
    EXPECT(bh_register_name(e->register_count == 0 ? -1 : e->register_count) == NULL);
}

static void
recovered_from(void (*fn)(void))
{
    BH_RECOVER(p) {
        (void)p;
        return;
    }
    fn();
}

static void
panic_locked(void)
{
    bh_mutex_lock(&outer_lock);
    BH_DEFER(bh_mutex_unlock, &outer_lock);
    BH_DEFER(nothing, NULL);
    bh_rwmutex_rlock(&shared_lock);
    BH_DEFER(bh_rwmutex_runlock, &shared_lock);
    bh_mutex_lock(&inner_lock);
    BH_DEFER(bh_mutex_unlock, &inner_lock);
    bh_mutex_lock(&forgotten_lock);
    bh_panic("locked");
}

__attribute__((noinline)) static void
fault(void)
{
    char      deep[3000];
    uintptr_t address = 0x1234;

    __asm__ volatile("" : "+r"(address) : "r"(deep) : "memory");
    *(volatile int *)address = 1;
}

static void
three_places(void *unused)
{
    (void)unused;
    recovered_from(panic_locked);
    EXPECT_EQ(lock_count, 3);
    EXPECT_EQ(locks[0], (uintptr_t)&inner_lock); /* newest first, as many as there is room for */
    EXPECT_EQ(locks[1], (uintptr_t)&shared_lock);
    EXPECT(!has_registers);
    bh_mutex_unlock(&forgotten_lock);

    size_t before = used;
    EXPECT(before > 0 && before < size);
    EXPECT(size > 16 << 10);
    recovered_from(fault);
    EXPECT_EQ(lock_count, 0);
    EXPECT(has_registers && fault_pc != 0);
    EXPECT_EQ(address_register, 0x1234);
    EXPECT(used > 3000 && used < size);
}

TEST_PLAIN(hook, is_told_where_it_was_raised)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = look });
    EXPECT_EQ(bh_main(three_places, NULL), 0);
    EXPECT_EQ(bh_deferred_locks(locks, 2), 0); /* a plain thread has none */
}

/* ---- a hook that fails ----------------------------------------------------- */

static void
watch_and_panic(const struct bh_panic_event *e)
{
    watch(e);
    if (e->step == BH_PANIC_RAISED || e->step == BH_PANIC_DEFER)
        bh_panic("the hook's own");
}

static void
hook_panics(void *unused)
{
    two_deferred(unused);
    EXPECT(!rt_panics_in_flight());
}

TEST_PLAIN(hook, that_panics_is_contained_and_not_told_of_it)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = watch_and_panic });
    EXPECT_EQ(bh_main(hook_panics, NULL), 0);
    EXPECT_STR(story, "raised 0, defer 0, done 0, defer 0, done 0, recovered 0");
    EXPECT(!last[BH_PANIC_RAISED].hook_failed);
    EXPECT(last[BH_PANIC_DEFER].hook_failed);
    EXPECT(last[BH_PANIC_RECOVERED].hook_failed);
}

static void
watch_and_exit(const struct bh_panic_event *e)
{
    watch(e);
    bh_goexit();
}

TEST_PLAIN(hook, cannot_end_the_goroutine)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = watch_and_exit });
    EXPECT_EQ(bh_main(two_deferred, NULL), 0);
    EXPECT_STR(story, "raised 0, defer 0, done 0, defer 0, done 0, recovered 0");
}

static int *volatile nil;

static void
watch_badly(const struct bh_panic_event *e)
{
    watch(e);
    if (e->step == BH_PANIC_RAISED)
        *nil = 1;
}

TEST_PLAIN(hook, may_even_fault)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = watch_badly });
    EXPECT_EQ(bh_main(two_deferred, NULL), 0);
    EXPECT_STR(story, "raised 0, defer 0, done 0, defer 0, done 0, recovered 0");
}

/* ---- an application's hooks ------------------------------------------------ */

static void
note(const struct bh_panic *p, void *arg)
{
    EXPECT(bh_recover() == NULL);
    EXPECT_EQ(p->goroutine, bh_id());
    say(arg, (int)strlen(bh_panic_text(p)));
}

static int
add_hook(bh_panic_hook_fn *fn, const char *word)
{
    return bh_hook_panic(fn, (void *)(uintptr_t)word);
}

static void
deferred_note(const char *word)
{
    say(word, 0);
}

static void
recovered(void)
{
    BH_RECOVER(p) {
        return;
    }
    BH_DEFER(deferred_note, "deferred");
    boom();
}

TEST(chain, runs_before_deferred_calls_newest_first)
{
    EXPECT_EQ(add_hook(note, "old"), 0);
    EXPECT_EQ(add_hook(note, "new"), 0);
    recovered();
    EXPECT_STR(story, "new 4, old 4, deferred 0");
}

TEST(chain, is_not_run_again_for_a_repanic)
{
    add_hook(note, "told");
    repanic_at_a_point(NULL);
    repanic_in_flight(NULL);
    EXPECT_STR(story, "told 4, told 4");
}

static void
panic_in_hook(const struct bh_panic *p, void *arg)
{
    (void)p;
    bh_panic("%s", (const char *)arg);
}

static void
exit_in_hook(const struct bh_panic *p, void *arg)
{
    (void)p;
    (void)arg;
    bh_goexit();
}

TEST(chain, goes_on_after_a_hook_that_panics_or_exits)
{
    struct bh_panic_hook_stats stats;

    add_hook(note, "first");
    add_hook(panic_in_hook, "oops");
    bh_hook_panic(exit_in_hook, NULL);
    add_hook(note, "last");
    recovered();
    EXPECT_STR(story, "last 4, first 4, deferred 0");
    bh_panic_hook_stats(&stats);
    EXPECT_EQ(stats.hooks, 4);
    EXPECT_EQ(stats.panics, 1);
    EXPECT_EQ(stats.failed, 2);
}

static void
failing_chain(void *unused)
{
    add_hook(panic_in_hook, "oops");
    two_deferred(unused);
}

TEST_PLAIN(chain, shows_the_panic_of_a_hook_as_contained)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = watch });
    EXPECT_EQ(bh_main(failing_chain, NULL), 0);
    /* The hook's own comes first: the panic it was told of is announced after the chain. */
    EXPECT_STR(story, "raised 0, defer 0, contained 0, done 0, recovered 0, "
                      "raised 1, defer 1, done 1, defer 1, done 1, recovered 1");
    EXPECT_STR(last_by, "a panic hook");
    EXPECT(last[BH_PANIC_RAISED].hook_failed);
}

TEST(chain, has_room_for_sixteen)
{
    EXPECT_EQ(bh_hook_panic(NULL, NULL), -EINVAL);
    for (int i = 0; i < 16; i++)
        EXPECT_EQ(add_hook(note, "x"), 0);
    EXPECT_EQ(add_hook(note, "x"), -ENOSPC);
}

static void
slow(const struct bh_panic *p, void *arg)
{
    (void)p;
    (void)arg;
    nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
}

TEST(chain, is_measured_against_its_budget)
{
    struct bh_panic_hook_stats stats;

    bh_panic_hook_stats(&stats);
    EXPECT_EQ(stats.budget_ns, BH_MILLISECOND);
    bh_panic_hook_set_budget(60 * BH_SECOND);
    bh_hook_panic(slow, NULL);
    recovered();
    bh_panic_hook_stats(&stats);
    EXPECT_EQ(stats.over_budget, 0);
    bh_panic_hook_set_budget(BH_MILLISECOND);
    recovered();
    bh_panic_hook_stats(&stats);
    EXPECT_EQ(stats.over_budget, 1);
    EXPECT(stats.worst_ns >= 2 * BH_MILLISECOND);
    EXPECT(stats.total_ns >= 4 * BH_MILLISECOND);
}

/* ---- serials and counters -------------------------------------------------- */

enum { PANICKERS = 32, PANICS = 40 };

static uint64_t    seen[PANICKERS * PANICS];
static _Atomic int seen_count;

static void
recover_one(void)
{
    BH_RECOVER(p) {
        seen[atomic_fetch_add(&seen_count, 1)] = p->serial;
        return;
    }
    boom();
}

static int
panic_often(struct bh_ctx *ctx, void *args)
{
    (void)ctx;
    (void)args;
    for (int i = 0; i < PANICS; i++) {
        recover_one();
        if (i % 8 == 0)
            bh_yield();
    }
    return 0;
}

static int
by_number(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof x);
    memcpy(&y, b, sizeof y);
    return x < y ? -1 : x > y;
}

TEST(serial, is_unique_over_goroutines)
{
    struct bh_group         g;
    struct bh_runtime_stats s;

    bh_group_init(&g, bh_ctx_background());
    for (int i = 0; i < PANICKERS; i++)
        bh_group_go(&g, panic_often, NULL);
    EXPECT_EQ(bh_group_wait(&g), 0);
    EXPECT_EQ(seen_count, PANICKERS * PANICS);
    qsort(seen, PANICKERS * PANICS, sizeof *seen, by_number);
    EXPECT(seen[0] > 0);
    for (int i = 1; i < PANICKERS * PANICS; i++)
        EXPECT(seen[i - 1] != seen[i]);
    bh_runtime_stats_read(&s);
    EXPECT_EQ(s.panics_total, PANICKERS * PANICS);
    EXPECT_EQ(s.recovered_total, PANICKERS * PANICS);
}

TEST(counters, tell_how_panics_ended)
{
    struct bh_runtime_stats s;

    two_deferred(NULL);
    deferred_panics(NULL);        /* 2 raised; one replaced */
    repanic_at_a_point(NULL);     /* 1 raised, recovered, repanicked, recovered */
    repanic_in_flight(NULL);      /* 1 raised, repanicked, recovered */
    recovered_then_another(NULL); /* 2 raised, recovered */
    goexit_scene(NULL);           /* 1 raised, swallowed */
    bh_runtime_stats_read(&s);
    EXPECT_EQ(s.panics_total, 8);
    EXPECT_EQ(s.repanicked_total, 2);
    EXPECT_EQ(s.recovered_total, 7);
    EXPECT_EQ(s.replaced_total, 1);
    EXPECT_EQ(s.goexit_total, 1);
    EXPECT_EQ(s.contained_total, 0);
}

static void
expect_in_flight(void *unused)
{
    (void)unused;
    EXPECT(rt_panics_in_flight());
}

static void
look_while_panicking(void)
{
    BH_RECOVER(p) {
        return;
    }
    BH_DEFER(expect_in_flight, NULL);
    boom();
}

TEST(counters, know_a_panic_in_flight)
{
    EXPECT(!rt_panics_in_flight());
    look_while_panicking();
    EXPECT(!rt_panics_in_flight());
}
