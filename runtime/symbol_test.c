/* symbol_test.c -- names, lines and callers, compared with what other tools and the compiler say. */

#include "test.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "symbol.h"

__attribute__((noinline)) static uintptr_t
here(void)
{
    return (uintptr_t)__builtin_return_address(0);
}

static const struct rt_symbol *
symbol_before(uintptr_t return_address)
{
    return rt_symbol_find(return_address - 1);
}

TEST_PLAIN(symbol, static_function_has_its_name_file_and_line)
{
    char      path[RT_PATH_SIZE];
    uintptr_t pc = here();
    unsigned  line = __LINE__ - 1;

    rt_symbol_open();
    const struct rt_symbol *s = symbol_before(pc);
    EXPECT_EQ(s->count, 1);
    EXPECT_STR(s->place[0].function, __func__);
    EXPECT_EQ(s->place[0].line, line);
    EXPECT_STR(strrchr(rt_place_path(&s->place[0], path), '/'), "/symbol_test.c");
    EXPECT(s->entry != 0 && s->entry < pc);
    EXPECT(!rt_symbol_is_ours(&s->place[0])); /* a test beside the runtime is application code */
    rt_symbol_close();
}

TEST_PLAIN(symbol, runtime_source_is_known_as_ours)
{
    rt_symbol_open();
    const struct rt_symbol *s = rt_symbol_find((uintptr_t)rt_symbol_find);
    EXPECT_STR(s->place[s->count - 1].function, "rt_symbol_find");
    EXPECT(rt_symbol_is_ours(&s->place[s->count - 1]));
    rt_symbol_close();
}

__attribute__((always_inline)) static inline uintptr_t
inner(void)
{
    return here();
}

__attribute__((always_inline)) static inline uintptr_t
outer(void)
{
    return inner();
}

TEST_PLAIN(symbol, inlined_functions_are_listed_innermost_first)
{
    uintptr_t pc = outer();
    unsigned  line = __LINE__ - 1;

    rt_symbol_open();
    const struct rt_symbol *s = symbol_before(pc);
    EXPECT_EQ(s->count, 3);
    EXPECT_STR(s->place[0].function, "inner");
    EXPECT_STR(s->place[1].function, "outer");
    EXPECT_STR(s->place[2].function, __func__);
    EXPECT_EQ(s->place[2].line, line);
    rt_symbol_close();
}

TEST_PLAIN(symbol, library_function_without_debug_information_has_its_name)
{
    uintptr_t lfind_at = (uintptr_t)dlsym(RTLD_DEFAULT, "lfind");

    rt_symbol_open();
    const struct rt_symbol *s = rt_symbol_find(lfind_at + 1);
    EXPECT(s->module != NULL);
    EXPECT_EQ(s->count, 1);
    EXPECT_STR(s->place[0].function, "lfind");
    EXPECT_EQ(s->entry, lfind_at);
    rt_symbol_close();
}

TEST_PLAIN(symbol, address_outside_all_files_is_unknown)
{
    rt_symbol_open();
    EXPECT_EQ(rt_symbol_find(0)->count, 0);
    EXPECT_EQ(rt_symbol_find(0x10)->count, 0);
    EXPECT(rt_symbol_find((uintptr_t)&errno)->module == NULL);
    rt_symbol_close();
}

TEST_PLAIN(symbol, answers_are_the_same_after_closing_and_opening)
{
    for (int i = 0; i < 3; i++) {
        rt_symbol_open();
        EXPECT_STR(rt_symbol_find((uintptr_t)here)->place[0].function, "here");
        rt_symbol_close();
    }
}

TEST_PLAIN(symbol, path_parts_are_joined_from_the_last_absolute_one)
{
    char text[RT_PATH_SIZE], huge[2 * RT_PATH_SIZE];

#define PATH(...) rt_place_path(&(struct rt_place){ "f", __VA_ARGS__, 1 }, text)
    EXPECT_STR(PATH("/src", "runtime", "a.c"), "/src/runtime/a.c");
    EXPECT_STR(PATH("/src", NULL, "a.c"), "/src/a.c");
    EXPECT_STR(PATH("/src", "/usr/include", "a.h"), "/usr/include/a.h");
    EXPECT_STR(PATH("/src", "x", "/abs/a.c"), "/abs/a.c");
    EXPECT_STR(PATH("/src/", "x", "a.c"), "/src/x/a.c");
    EXPECT_STR(PATH(NULL, NULL, "a.c"), "a.c");
    memset(huge, 'x', sizeof huge - 1);
    huge[sizeof huge - 1] = '\0';
    EXPECT_EQ(strlen(PATH(huge, huge, "a.c")), RT_PATH_SIZE - 1);
}

/* ---- against binutils ------------------------------------------------------- */

enum { ASKED_MAX = 400, ANSWER_SIZE = 4096 };

/* our_answer -- as addr2line -fi prints it: a line with the function, a line with file:line, ... */
static void
our_answer(const struct rt_symbol *s, char *text)
{
    char   path[RT_PATH_SIZE];
    size_t used = 0;

    for (int i = 0; i < s->count; i++)
        used += (size_t)snprintf(text + used, ANSWER_SIZE - used, "%s\n%s:%u\n",
                                 s->place[i].function, rt_place_path(&s->place[i], path),
                                 s->place[i].line);
}

/* their_answer -- the lines up to the next address, without notes in parentheses. */
static void
their_answer(FILE *f, char *line, char *text)
{
    size_t used = 0;

    text[0] = '\0';
    while (fgets(line, ANSWER_SIZE, f) != NULL && strncmp(line, "0x", 2) != 0) {
        char *note = strstr(line, " (discriminator");

        if (note != NULL)
            memcpy(note, "\n", 2);
        used += (size_t)snprintf(text + used, ANSWER_SIZE - used, "%s", line);
    }
}

static int
line_count(const char *text)
{
    int count = 0;

    for (; (text = strchr(text, '\n')) != NULL; text++)
        count++;
    return count;
}

/* cut_to_place -- leave the innermost file:line. */
static void
cut_to_place(char *text)
{
    char *place = strchr(text, '\n') + 1;

    *strchr(place, '\n') = '\0';
    memmove(text, place, strlen(place) + 1);
}

#if defined(__x86_64__)
#define MACHINE "x86_64"
#else
#define MACHINE "aarch64"
#endif

/*
 * Addresses all over this program, all of whose code has debug information.
 * Compared are those that addr2line has a line for.
 */
TEST_PLAIN(symbol, agrees_with_addr2line)
{
    static uintptr_t asked[ASKED_MAX];
    static char      ours[ANSWER_SIZE], theirs[ANSWER_SIZE], line[ANSWER_SIZE];
    static char      command[ASKED_MAX * 20 + 2 * RT_PATH_SIZE];
    int              compared = 0;

    static const char ask[] = "test $(uname -m) = " MACHINE " && addr2line -v >/dev/null 2>&1";
    if (system(ask) != 0) /* allowed: fixed text */
        return; /* no binutils here, or not for this program (an emulator) */
    rt_symbol_open();
    const struct rt_module *m = rt_module_of((uintptr_t)here);
    uintptr_t step = (m->text_hi - m->text_lo) / ASKED_MAX;
    char      program[RT_PATH_SIZE] = "";
    EXPECT(readlink("/proc/self/exe", program, sizeof program - 1) > 0);
    size_t used = (size_t)snprintf(command, sizeof command, "addr2line -fia -e '%s'", program);
    for (int i = 0; i < ASKED_MAX; i++) {
        asked[i] = m->text_lo + (uintptr_t)i * step;
        used += (size_t)snprintf(command + used, sizeof command - used, " 0x%lx",
                                 (unsigned long)(asked[i] - m->bias));
    }
    FILE *f = popen(command, "r"); /* allowed: numbers of our own making */
    EXPECT(f != NULL && fgets(line, sizeof line, f) != NULL);
    for (int i = 0; i < ASKED_MAX; i++) {
        const struct rt_symbol *s = rt_symbol_find(asked[i]);

        their_answer(f, line, theirs);
        if (strstr(theirs, "??") != NULL || strstr(theirs, ":?") != NULL || s->entry == 0 ||
            strstr(theirs, ".isra") != NULL || strstr(theirs, ".part") != NULL)
            continue;
        our_answer(s, ours);
        if (strstr(ours, ".h:") != NULL)
            continue; /* binutils 2.40 names the .c file for what stands in a header */
        if (line_count(ours) != line_count(theirs)) { /* binutils 2.40 misses some of clang's inlining */
            EXPECT(line_count(ours) > line_count(theirs));
            cut_to_place(ours);
            cut_to_place(theirs);
        }
        EXPECT_STR(ours, theirs);
        compared++;
    }
    pclose(f);
    EXPECT(compared > ASKED_MAX / 4);
    rt_symbol_close();
}

/* ---- callers ---------------------------------------------------------------- */

enum { WALK_MAX = 64 };
static const char *walked[WALK_MAX];
static int         walked_count;

__attribute__((noinline)) static void
walk(void)
{
    struct rt_walk w = { .exact = false };

    rt_symbol_open();
    rt_regs_caller(&w.regs);
    w.lo = w.regs.r[RT_REG_SP];
    w.hi = rt_mapping_end(w.lo);
    walked_count = 0;
    do {
        const struct rt_symbol *s = symbol_before(w.regs.r[RT_REG_PC]);

        walked[walked_count++] = s->count > 0 ? strdup(s->place[s->count - 1].function) : "?";
    } while (walked_count < WALK_MAX && rt_walk_next(&w));
    rt_symbol_close();
}

static int
walk_and_compare(const void *a, const void *b)
{
    if (walked_count == 0)
        walk();
    return *(const int *)a - *(const int *)b;
}

TEST_PLAIN(unwind, callback_of_qsort_is_walked_through_libc)
{
    int v[] = { 3, 1, 2 };
    int i = 0;

    qsort(v, 3, sizeof v[0], walk_and_compare);
    EXPECT_STR(walked[0], "walk_and_compare");
    while (i < walked_count && strcmp(walked[i], __func__) != 0)
        i++;
    EXPECT(i > 1 && i < walked_count);
    while (i < walked_count && strcmp(walked[i], "main") != 0)
        i++;
    EXPECT(i < walked_count);
}

#if defined(__GNUC__) && !defined(__clang__)
#define WITHOUT_FRAME_POINTER __attribute__((noinline, optimize("omit-frame-pointer")))
#else
#define WITHOUT_FRAME_POINTER __attribute__((noinline))
#endif

WITHOUT_FRAME_POINTER static int
frameless(int n)
{
    volatile char pad[48];

    pad[0] = (char)n;
    if (n == 0)
        walk();
    else
        (void)frameless(n - 1);
    return pad[0];
}

TEST_PLAIN(unwind, functions_without_frame_pointers_are_walked)
{
    (void)frameless(3);
    for (int i = 0; i < 4; i++)
        EXPECT_STR(walked[i], "frameless");
    EXPECT_STR(walked[4], __func__);
}

TEST_PLAIN(unwind, walk_stays_inside_its_bounds)
{
    uintptr_t      stack[8] = { 0 };
    struct rt_walk w = { .lo = (uintptr_t)stack, .hi = (uintptr_t)(stack + 8) };

    /* A frame pointer into nowhere, one that points down, one just over the end. */
    const uintptr_t bad[] = { 0x10, (uintptr_t)stack - 800, (uintptr_t)(stack + 7),
                              (uintptr_t)stack + 1 };
    rt_symbol_open();
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        w.regs.known = 0;
        rt_regs_set(&w.regs, RT_REG_PC, (uintptr_t)stack); /* no table there */
        rt_regs_set(&w.regs, RT_REG_SP, (uintptr_t)stack);
        rt_regs_set(&w.regs, RT_REG_FP, bad[i]);
        w.exact = false;
        EXPECT(!rt_walk_next(&w));
    }
    rt_symbol_close();
}

/* Entries of the PLT among them, whose CFA is given by an expression. */
TEST_PLAIN(unwind, every_address_that_has_a_table_can_be_stepped_from)
{
    enum { STRIDE = 3 };
    static uintptr_t stack[8192];
    int              stepped = 0;

    rt_symbol_open();
    const struct rt_module *m = rt_module_of((uintptr_t)here);
    for (uintptr_t pc = m->text_lo; pc < m->text_hi; pc += STRIDE) {
        struct rt_walk w = { .lo = (uintptr_t)stack, .hi = (uintptr_t)(stack + 8192), .exact = true };
        bool           end = false;
        uintptr_t      start, limit;

        if (!rt_unwind_function(m, pc, &start, &limit))
            continue;
        for (int i = 0; i < RT_REG_COUNT; i++)
            rt_regs_set(&w.regs, i, (uintptr_t)(stack + 4096));
        rt_regs_set(&w.regs, RT_REG_PC, pc);
        if (!rt_unwind_step(m, &w, &end) && !end)
            test_failed(__FILE__, __LINE__, "no step from %#lx", (unsigned long)(pc - m->bias));
        stepped++;
    }
    EXPECT(stepped > 1000);
    rt_symbol_close();
}

TEST_PLAIN(unwind, function_is_found_without_the_search_table_too)
{
    const uintptr_t functions[] = { (uintptr_t)here, (uintptr_t)walk, (uintptr_t)rt_symbol_find };

    rt_symbol_open();
    (void)rt_symbol_find((uintptr_t)here); /* opens the file */
    struct rt_module without = *rt_module_of((uintptr_t)here);
    without.unwind = 0; /* as in a static program */
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        const struct rt_module *with = rt_module_of(functions[i]);
        uintptr_t               start[2], end[2];

        EXPECT(with->unwind != 0 && rt_unwind_function(with, functions[i], &start[0], &end[0]));
        EXPECT(rt_unwind_function(&without, functions[i], &start[1], &end[1]));
        EXPECT_EQ(start[0], functions[i]);
        EXPECT_EQ(start[0], start[1]);
        EXPECT_EQ(end[0], end[1]);
    }
    EXPECT(!rt_unwind_function(&without, without.text_hi, &(uintptr_t){ 0 }, &(uintptr_t){ 0 }));
    rt_symbol_close();
}
