/* cold_test.c -- names, labels, locals, owned things, the arena, running out of memory. */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/chan.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/own.h>
#include <bulkhead/go/sync.h>

#include "cold.h"

/* run -- fn on a goroutine of its own, until it has ended and released what it owns. */
struct run {
    bh_fn               *fn;
    void                *args;
    struct bh_waitgroup *over;
};

static void
run_done(void *waitgroup)
{
    bh_waitgroup_done(waitgroup);
}

static void
run_main(void *args)
{
    struct run r = *(struct run *)args;

    /* The last of all: the arena goes after owned things and locals, its oldest entry last. */
    bh_arena_defer(bh_goroutine_arena(), run_done, r.over);
    r.fn(r.args);
}

static void
run(bh_fn *fn, void *args)
{
    struct bh_waitgroup over = { 0 };

    bh_waitgroup_add(&over, 1);
    bh_go(run_main, &(struct run){ fn, args, &over });
    bh_waitgroup_wait(&over);
}

/* ---- names --------------------------------------------------------------- */

TEST(name, is_empty_until_set_and_is_copied)
{
    char name[] = "first";

    EXPECT_STR(bh_name(), "");
    bh_set_name(name);
    name[0] = 'X';
    EXPECT_STR(bh_name(), "first");
    bh_set_name(NULL);
    EXPECT_STR(bh_name(), "");
}

TEST(name, is_cut_to_63_bytes)
{
    char name[200];

    memset(name, 'a', sizeof name);
    name[199] = 0;
    bh_set_name(name);
    EXPECT_EQ(strlen(bh_name()), 63);
}

static void
copy_name(void *args)
{
    snprintf(*(char **)args, RT_NAME_SIZE, "%s", bh_name());
}

TEST(name, is_inherited_unless_one_is_given)
{
    char  text[64] = "?";
    char *to = text;

    bh_set_name("parent");
    run(copy_name, &to);
    EXPECT_STR(text, "parent");

    struct bh_waitgroup over = { 0 };
    bh_waitgroup_add(&over, 1);
    bh_go_with((&(struct bh_go_options){ .name = "own" }), run_main,
               &(struct run){ copy_name, &to, &over });
    bh_waitgroup_wait(&over);
    EXPECT_STR(text, "own");
}

static void
name_self(void *args)
{
    (void)args;
    bh_set_name("gone");
    bh_set_label("k", "gone");
    (void)bh_fail(-1, "gone");
    bh_local_set(&errno, args, NULL);
}

static void
expect_clean(void *args)
{
    (void)args;
    EXPECT_STR(bh_name(), "");
    EXPECT_STR(bh_label("k"), NULL);
    EXPECT_STR(bh_error_note(), "");
    EXPECT(bh_local_get(&errno) == NULL);
}

TEST(cold, a_recycled_goroutine_remembers_nothing)
{
    int something;

    for (int i = 0; i < 20; i++) {
        run(name_self, &something);
        run(expect_clean, NULL);
    }
}

/* ---- labels -------------------------------------------------------------- */

TEST(label, set_replaced_and_removed)
{
    EXPECT_STR(bh_label("route"), NULL);
    bh_set_label("route", "/a");
    bh_set_label("user", "42");
    EXPECT_STR(bh_label("route"), "/a");
    bh_set_label("route", "/b");
    EXPECT_STR(bh_label("route"), "/b");
    EXPECT_STR(bh_label("user"), "42");
    bh_set_label("route", NULL);
    EXPECT_STR(bh_label("route"), NULL);
    EXPECT_STR(bh_label("user"), "42");
    bh_set_label("nothing", NULL);
    bh_set_label("empty", "");
    EXPECT_STR(bh_label("empty"), "");
}

TEST(label, all_at_once_cut_to_size)
{
    char text[32] = "old";

    EXPECT_EQ(bh_labels(text, sizeof text), 0);
    EXPECT_STR(text, "");
    bh_set_label("route", "/a");
    bh_set_label("user", "42");
    EXPECT_EQ(bh_labels(text, sizeof text), strlen("route=/a, user=42"));
    EXPECT_STR(text, "route=/a, user=42");
    EXPECT_EQ(bh_labels(text, 8), 7);
    EXPECT_STR(text, "route=/");
    EXPECT_EQ(bh_labels(text, 0), 0);
}

struct label_check {
    const char *expected;
};

static void
check_then_change_label(void *args)
{
    struct label_check *c = args;

    EXPECT_STR(bh_label("k"), c->expected);
    bh_set_label("k", "child's");
    EXPECT_STR(bh_label("k"), "child's");
}

TEST(label, is_inherited_and_then_apart)
{
    bh_set_label("k", "old");
    run(check_then_change_label, &(struct label_check){ "old" });
    EXPECT_STR(bh_label("k"), "old");
    bh_set_label("k", "new");
    run(check_then_change_label, &(struct label_check){ "new" });
}

TEST(label, limits_are_panics)
{
    char key[8], text[200];

    memset(text, 'x', sizeof text);
    text[128] = 0;
    for (int i = 0; i < 16; i++) {
        snprintf(key, sizeof key, "k%d", i);
        bh_set_label(key, text);
    }
    EXPECT_PANIC("bh_set_label: more than 16 labels", bh_set_label("k16", "v"));
    bh_set_label("k15", "replacing is fine");
    text[128] = 'x';
    text[129] = 0;
    EXPECT_PANIC("bh_set_label: key or value longer than 128 bytes", bh_set_label("k0", text));
    EXPECT_PANIC("bh_set_label: key or value longer than 128 bytes", bh_set_label(text, "v"));
    EXPECT_STR(bh_label("k15"), "replacing is fine");
}

TEST(label, text_for_reports_is_cut_to_size)
{
    char text[64];

    EXPECT_EQ(rt_cold_labels(bh_self(), text, sizeof text), 0);
    EXPECT_STR(text, "");
    bh_set_label("a", "1");
    bh_set_label("b", "2");
    EXPECT_EQ(rt_cold_labels(bh_self(), text, sizeof text), 8);
    EXPECT_STR(text, "a=1, b=2");
    EXPECT_EQ(rt_cold_labels(bh_self(), text, 4), 3);
    EXPECT_STR(text, "a=1");
}

static void
relabel(void *args)
{
    char value[16];

    for (int i = 0; i < 2000; i++) {
        snprintf(value, sizeof value, "%d", i);
        bh_set_label("k", value);
        if (i % 100 == 0)
            bh_yield();
    }
    atomic_store((_Atomic int *)*(void **)args, 1);
}

static bool
read_labels(struct bh_g *g, void *arg)
{
    char text[300];

    (void)arg;
    if (rt_cold_labels(g, text, sizeof text) != 0)
        EXPECT(strncmp(text, "k=", 2) == 0);
    return true;
}

TEST_REAL(label, may_be_read_by_a_dump_while_it_changes)
{
    _Atomic int over = 0;
    void       *arg = &over;

    bh_set_label("k", "0");
    bh_go(relabel, &arg);
    while (atomic_load(&over) == 0) {
        rt_each_g(read_labels, NULL);
        bh_yield();
    }
}

/* ---- locals -------------------------------------------------------------- */

static char order[64];

static void
note(void *text)
{
    size_t length = strlen(order);

    snprintf(order + length, sizeof order - length, "%s", (const char *)text);
}

static char a_[] = "a", b_[] = "b", c_[] = "c", r_[] = "r", one_[] = "1";
static int  key1, key2;

TEST(local, is_this_goroutines_own)
{
    EXPECT(bh_local_get(&key1) == NULL);
    bh_local_set(&key1, a_, NULL);
    bh_local_set(&key2, b_, NULL);
    EXPECT(bh_local_get(&key1) == a_);
    EXPECT(bh_local_get(&key2) == b_);
    bh_local_set(&key1, NULL, NULL);
    EXPECT(bh_local_get(&key1) == NULL);
    EXPECT(bh_local_get(&key2) == b_);
}

TEST(local, free_is_called_when_replaced_or_unset_but_not_when_kept)
{
    bh_local_set(&key1, a_, note);
    bh_local_set(&key1, a_, note);
    EXPECT_STR(order, "");
    bh_local_set(&key1, b_, note);
    EXPECT_STR(order, "a");
    bh_local_set(&key1, NULL, NULL);
    EXPECT_STR(order, "ab");
}

static void
set_many_locals(void *args)
{
    static int keys[100];

    for (int i = 0; i < 100; i++)
        bh_local_set(&keys[i], &keys[i], NULL);
    for (int i = 0; i < 100; i++)
        EXPECT(bh_local_get(&keys[i]) == &keys[i]);
    bh_local_set(args, a_, note);
}

TEST(local, free_is_called_at_the_goroutines_end)
{
    run(set_many_locals, &key1);
    bh_yield(); /* locals go after owned things, one of which woke us */
    while (order[0] == 0)
        bh_yield();
    EXPECT_STR(order, "a");
    EXPECT(bh_local_get(&key1) == NULL);
}

/* ---- owned things -------------------------------------------------------- */

static void
own_three(void *args)
{
    (void)args;
    bh_own(note, a_);
    bh_own(note, b_);
    bh_own(note, c_);
}

TEST(own, released_newest_first)
{
    run(own_three, NULL);
    EXPECT_STR(order, "cba");
}

TEST_PLAIN(own, released_when_the_main_goroutine_returns)
{
    EXPECT_EQ(bh_main(own_three, NULL), 0);
    EXPECT_STR(order, "cba");
}

static void
own_then_exit(void *args)
{
    bh_own(note, a_);
    BH_DEFER(note, b_);
    if (args == NULL)
        bh_goexit();
}

TEST(own, released_after_goexit_and_its_deferred_calls)
{
    run(own_then_exit, NULL);
    EXPECT_STR(order, "ba");
}

static void
recover_at_top(void *args)
{
    (void)args;
    BH_RECOVER(p) {
        (void)p;
        note(r_);
        return;
    }
    bh_own(note, a_);
    bh_panic("boom");
}

TEST(own, released_after_a_panic_recovered_at_the_top)
{
    run(recover_at_top, NULL);
    EXPECT_STR(order, "ra");
}

static void
own_and_disown(void *args)
{
    (void)args;
    bh_own(note, a_);
    bh_own(note, b_);
    bh_own(note, a_);
    bh_disown(note, a_); /* the newest a */
    bh_disown(note, c_); /* none: a no-op */
    for (int i = 0; i < 50; i++) {
        bh_own(note, c_);
        bh_disown(note, c_);
    }
}

TEST(own, disown_forgets_the_newest_such_entry)
{
    run(own_and_disown, NULL);
    EXPECT_STR(order, "ba");
}

static void
own_more(void *arg)
{
    (void)arg;
    note(one_);
    bh_own(note, b_);
    bh_local_set(&key1, c_, note);
    (void)bh_alloc(100);
}

static void
own_what_owns_more(void *args)
{
    (void)args;
    bh_own(note, a_);
    bh_own(own_more, NULL);
}

TEST(own, a_release_may_own_more)
{
    run(own_what_owns_more, NULL);
    while (order[3] == 0)
        bh_yield();
    EXPECT_STR(order, "1bac");
}

static void
own_fds(void *args)
{
    int *fds = *(int **)args;

    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    EXPECT_EQ(bh_own_fd(fds[0]), fds[0]);
    EXPECT_EQ(bh_own_fd(fds[1]), fds[1]);
    bh_disown_fd(fds[1]);
}

TEST(own, descriptors_are_closed)
{
    int  fds[2];
    int *to = fds;

    run(own_fds, &to);
    EXPECT(fcntl(fds[0], F_GETFD) < 0);
    EXPECT(fcntl(fds[1], F_GETFD) >= 0);
    close(fds[1]);
}

static void
panicking_release(void *arg)
{
    (void)arg;
    bh_panic("release failed");
}

static void
say(void *text)
{
    fprintf(stderr, "released %s\n", (const char *)text);
}

static void
own_badly(void *args)
{
    (void)args;
    bh_local_set(&key1, c_, say);
    bh_own(say, a_);
    bh_own(panicking_release, NULL);
    bh_own(say, b_);
}

TEST_DIES(own, a_panicking_release_is_an_uncaught_panic, 2, "panic: release failed")
{
    bh_go(own_badly, NULL);
    bh_sleep(INT64_C(10000000000));
}

TEST_DIES(own, a_panicking_release_does_not_keep_the_rest, 2,
          "released b\nreleased a\nreleased c\n")
{
    bh_go(own_badly, NULL);
    bh_sleep(INT64_C(10000000000));
}

static void
own_nothing(bool *panicked)
{
    BH_RECOVER(p) {
        *panicked = strstr(bh_panic_text(p), "release != NULL") != NULL;
        return;
    }
    bh_own(NULL, a_);
}

TEST(own, a_null_release_is_misuse)
{
    bool panicked = false;

    own_nothing(&panicked);
    EXPECT(panicked);
}

/* ---- the arena ----------------------------------------------------------- */

static void
fill_arena(void *args)
{
    char *text = bh_print("%s-%d", "text", 7);
    char *bytes = bh_alloc(100000);

    (void)args;
    for (int i = 0; i < 100000; i++)
        EXPECT_EQ(bytes[i], 0);
    EXPECT_STR(text, "text-7");
    bh_arena_defer(bh_goroutine_arena(), note, a_);
    bh_own(note, b_);
}

TEST(arena, of_a_goroutine_goes_with_it_after_what_it_owns)
{
    run(fill_arena, NULL);
    while (order[1] == 0)
        bh_yield();
    EXPECT_STR(order, "ba");
}

TEST_DIES(arena, a_panicking_cleanup_does_not_keep_the_rest, 2, "released a\n")
{
    bh_arena_defer(bh_goroutine_arena(), say, a_);
    bh_arena_defer(bh_goroutine_arena(), panicking_release, NULL);
    bh_goexit();
}

TEST(arena, over_budget_is_a_panic_and_the_arena_survives)
{
    struct bh_arena *a = bh_arena_new(8192);

    EXPECT_PANIC("runtime error: memory budget exceeded", bh_arena_alloc(a, 100000));
    EXPECT(bh_arena_alloc(a, 100) != NULL);
    bh_arena_free(a);
}

/* ---- running out of memory ----------------------------------------------- */

/* field -- a number from /proc/self/status. */
static long
field(const char *name)
{
    FILE *f = fopen("/proc/self/status", "r");
    char  line[256];
    long  n = -1;

    EXPECT(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        if (strncmp(line, name, strlen(name)) == 0)
            n = strtol(line + strlen(name), NULL, 10);
    fclose(f);
    return n;
}

static void
limit_memory(void)
{
    struct rlimit l = { ((rlim_t)field("VmSize:") << 10) + (64 << 20), RLIM_INFINITY };
    EXPECT_EQ(setrlimit(RLIMIT_AS, &l), 0);
}

static void *eaten; /* a chain */

static noreturn void
eat(void)
{
    for (;;) {
        void **p = rt_malloc(64 * 1024);
        *p = eaten;
        eaten = p;
    }
}

/* Deterministic only: there the runtime starts no threads, which need memory, too. */
TEST_SIM(memory, running_out_is_a_panic_that_can_be_recovered)
{
    if (test_sanitized || test_emulated())
        return;
    limit_memory();
    EXPECT_PANIC("runtime error: out of memory", eat());
    EXPECT_PANIC("runtime error: out of memory", eat());
}

enum { TOO_MANY_BITS = 56 };

TEST(memory, asking_for_too_much_is_a_panic_that_can_be_recovered)
{
    if (test_sanitized) /* their malloc ends the process instead */
        return;
    EXPECT_PANIC("runtime error: out of memory", (void)rt_malloc((size_t)1 << TOO_MANY_BITS));
    void *p = rt_malloc(100);
    EXPECT(p != NULL);
    free(p);
    EXPECT_PANIC("runtime error: out of memory", (void)bh_alloc((size_t)1 << TOO_MANY_BITS));
}

TEST_DIES(memory, running_out_is_reported, 2, "panic: runtime error: out of memory")
{
    if (test_sanitized)
        rt_out_of_memory();
    (void)rt_malloc((size_t)1 << TOO_MANY_BITS);
}

TEST(memory, an_overflowing_count_is_out_of_memory)
{
    EXPECT_PANIC("runtime error: out of memory", rt_calloc(SIZE_MAX / 2, 4));
}

/* ---- from plain threads -------------------------------------------------- */

TEST_DIES(cold, off_goroutines_it_is_a_fatal_error, 2,
          "bh_set_name: called from a thread that runs no goroutine")
{
    pthread_t t;

    pthread_create(&t, NULL, (void *(*)(void *))(void (*)(void))bh_set_name, a_);
    pthread_join(t, NULL);
}
