/* symbolize_test.c -- names for addresses, kept; and the files that code came from. */

#include "test.h"

#include <bulkhead/go/chan.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/stack.h>
#include <bulkhead/go/timer.h>

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

/* ---- names -------------------------------------------------------------------------- */

static uintptr_t here[8];
static int       here_line;

static inline __attribute__((always_inline)) void
inlined_leaf(void)
{
    here_line = __LINE__ + 1;
    here[0] = 0, bh_stack(here, 8);
    __asm__ volatile("");
}

__attribute__((noinline)) static void
has_inlined(void)
{
    inlined_leaf();
    __asm__ volatile("");
}

TEST(symbolize, inlined_functions_come_first_each_with_its_line)
{
    struct bh_frame f[BH_FRAMES_MAX];
    int             n;

    has_inlined();
    n = bh_symbolize(here[0], f, BH_FRAMES_MAX);
    EXPECT_EQ(n, 2);
    EXPECT_STR(f[0].function, "inlined_leaf");
    EXPECT(f[0].inlined && f[0].entry == 0 && !f[0].runtime);
    EXPECT_EQ(f[0].line, here_line);
    EXPECT_STR(f[1].function, "has_inlined");
    EXPECT(!f[1].inlined && !f[1].runtime);
    EXPECT_EQ(f[1].entry, (uintptr_t)has_inlined);
    EXPECT(strstr(f[1].file, "runtime/symbolize_test.c") != NULL);
    EXPECT(f[1].line > f[0].line);
}

TEST(symbolize, room_for_one_gives_the_innermost)
{
    struct bh_frame f[2] = { [1] = { .line = -1 } };

    has_inlined();
    EXPECT_EQ(bh_symbolize(here[0], f, 1), 1);
    EXPECT_STR(f[0].function, "inlined_leaf");
    EXPECT_EQ(f[1].line, -1);
    EXPECT_EQ(bh_symbolize(here[0], f, 0), 0);
}

TEST(symbolize, address_in_no_file_is_unknown)
{
    struct bh_frame f = { .line = -1 };

    EXPECT_EQ(bh_symbolize(1, &f, 1), 1);
    EXPECT_STR(f.function, "??");
    EXPECT_STR(f.file, "");
    EXPECT_EQ(f.line, 0);
    EXPECT_EQ(f.entry, 0);
    EXPECT_EQ(bh_symbolize(0, &f, 1), 1);
    EXPECT_STR(f.function, "??");
}

TEST(symbolize, runtime_is_told_from_application_and_from_what_it_calls_by_name)
{
    struct bh_frame f;

    bh_symbolize((uintptr_t)bh_goroutines + 1, &f, 1);
    EXPECT_STR(f.function, "bh_goroutines");
    EXPECT(!f.runtime); /* as in a crash report: an entry point the reader knows */
    bh_symbolize((uintptr_t)bh_go_start_ + 1, &f, 1);
    EXPECT(f.runtime);
}

TEST(symbolize, code_without_debug_information_has_its_symbol)
{
    struct bh_frame f;

    bh_symbolize((uintptr_t)getpid + 1, &f, 1);
    EXPECT(strstr(f.function, "getpid") != NULL);
    EXPECT(!f.runtime);
}

TEST(symbolize, answers_and_their_strings_stay)
{
    struct bh_frame first[BH_FRAMES_MAX], again[BH_FRAMES_MAX];
    char            text[256];

    has_inlined();
    bh_symbolize(here[0], first, BH_FRAMES_MAX);
    bh_stack_text(here, 1, text, sizeof text); /* opens and closes a report */
    EXPECT_EQ(bh_symbolize(here[0], again, BH_FRAMES_MAX), 2);
    EXPECT(first[0].function == again[0].function && first[1].function == again[1].function);
    EXPECT(first[0].file == first[1].file);
    EXPECT_STR(first[0].function, "inlined_leaf");
}

/* ---- many at once ---------------------------------------------------------------------- */

enum { MANY = 300, STEP = 31 };
static uintptr_t many[MANY];

static void
fill_many(void)
{
    for (int i = 0; i < MANY; i++)
        many[i] = (uintptr_t)bh_chan_unref + (uintptr_t)(i * STEP);
}

TEST_REAL(symbolize, many_are_looked_up_in_one_go_and_known_afterwards)
{
    struct bh_frame f[BH_FRAMES_MAX];
    int64_t         began, warm = INT64_MAX;

    fill_many();
    began = bh_now();
    bh_symbolize_all(many, MANY);
    printf("symbolize: %d cold: %.1f ms\n", MANY, (double)(bh_now() - began) / 1e6);
    for (int round = 0; round < 20; round++) {
        began = bh_now();
        for (int i = 0; i < MANY; i++)
            EXPECT(bh_symbolize(many[i], f, BH_FRAMES_MAX) >= 1);
        if (bh_now() - began < warm)
            warm = bh_now() - began;
    }
    printf("symbolize: warm %.0f ns each\n", (double)warm / MANY);
    EXPECT((double)warm / MANY < 1000 * test_slow());
}

static void *
ask_all(void *arg)
{
    struct bh_frame f;
    long            wrong = 0;

    for (int i = 0; i < MANY; i++) {
        int at = (i * 7 + (int)(intptr_t)arg * 41) % MANY;

        if (bh_symbolize(many[at], &f, 1) != 1 || f.function == NULL || f.file == NULL)
            wrong++;
    }
    return (void *)wrong;
}

TEST_REAL(symbolize, threads_may_ask_at_the_same_time)
{
    enum { THREADS = 4 };
    pthread_t thread[THREADS];

    fill_many();
    for (intptr_t i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_create(&thread[i], NULL, ask_all, (void *)i), 0);
    for (int i = 0; i < THREADS; i++) {
        void *wrong = NULL;

        pthread_join(thread[i], &wrong);
        EXPECT_EQ((intptr_t)wrong, 0);
    }
}

/* ---- modules ----------------------------------------------------------------------------- */

struct found {
    int       count, with_id;
    uintptr_t last;
    bool      ordered, own, libc;
    int       stop_at;
};

static bool
look_at_module(const struct bh_module *m, void *arg)
{
    struct found *f = arg;
    uintptr_t     pc = (uintptr_t)look_at_module, c = (uintptr_t)getpid;
    char          path[512];
    ssize_t       n = readlink("/proc/self/exe", path, sizeof path - 1);

    path[n > 0 ? n : 0] = '\0';
    f->count++;
    f->ordered &= m->start > f->last && m->end > m->start;
    f->last = m->start;
    f->with_id += strlen(m->build_id) >= 16 &&
                  strspn(m->build_id, "0123456789abcdef") == strlen(m->build_id);
    if (pc >= m->start && pc < m->end)
        f->own = strcmp(m->path, path) == 0;
    if (c >= m->start && c < m->end)
        f->libc = strstr(m->path, "libc.so") != NULL && m->build_id[0] != '\0';
    return f->count != f->stop_at;
}

TEST(symbolize, modules_come_in_order_with_build_ids)
{
    struct found f = { .ordered = true };

    int n = bh_modules(look_at_module, &f);

    EXPECT_EQ(n, f.count);
    EXPECT(f.count >= 3); /* program, libc, loader */
    EXPECT(f.ordered && f.own && f.libc);
    EXPECT(f.with_id >= 2);
}

TEST(symbolize, modules_end_when_asked_to)
{
    struct found f = { .ordered = true, .stop_at = 1 };

    EXPECT_EQ(bh_modules(look_at_module, &f), 1);
    EXPECT_EQ(f.count, 1);
}
