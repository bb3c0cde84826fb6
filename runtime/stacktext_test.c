/* stacktext_test.c -- a goroutine's own stack, as addresses and as text. */
#include <bulkhead/go/stack.h>

#include <stdio.h>
#include <string.h>

#include "test.h"

enum { MAX = 16 };
static char text[8192];

struct noted {
    uintptr_t pcs[MAX];
    int       count;
};

__attribute__((noinline)) static void
note(struct noted *n)
{
    n->count = bh_stack(n->pcs, MAX);
}

__attribute__((noinline)) static int
deep(struct noted *n, int depth)
{
    volatile int after = depth;

    if (depth == 0)
        note(n);
    else
        deep(n, depth - 1);
    return after;
}

TEST(stacktext, names_the_callers_innermost_first)
{
    struct noted n;

    deep(&n, 0);
    EXPECT(n.count >= 3);
    EXPECT(bh_stack_text(n.pcs, n.count, text, sizeof text) == strlen(text));
    EXPECT(strncmp(text, "note(...)\n\t", 11) == 0);
    EXPECT(strstr(text, "stacktext_test.c:") != NULL);
    EXPECT(strstr(text, "deep(...)\n\t") > strstr(text, "note(...)"));
    EXPECT(strstr(text, "test_stacktext_names_the_callers_innermost_first(...)") != NULL);
}

TEST(stacktext, a_deep_stack_keeps_both_ends)
{
    struct noted n;

    for (int depth = MAX; depth < 3 * MAX; depth++) {
        deep(&n, depth);
        EXPECT_EQ(n.count, MAX);
        EXPECT_EQ(n.pcs[MAX / 2], 0);
        bh_stack_text(n.pcs, n.count, text, sizeof text);
        EXPECT(strncmp(text, "note(...)\n\t", 11) == 0);
        EXPECT(strstr(text, "more times\n...frames elided...\n") != NULL);
        EXPECT(strstr(text, "test_stacktext_a_deep_stack_keeps_both_ends(...)") != NULL);
    }
}

TEST(stacktext, text_is_cut_to_the_room_there_is)
{
    struct noted n;

    deep(&n, 3);
    EXPECT_EQ(bh_stack_text(n.pcs, n.count, text, 10), 9);
    EXPECT_STR(text, "note(...)");
    EXPECT_EQ(bh_stack_text(n.pcs, n.count, text, 0), 0);
}

static void
note_deferred(struct noted *n)
{
    n->count = bh_stack(n->pcs, MAX);
}

static volatile int zero;

static void
fault_or_panic(int how)
{
    static int *volatile nowhere;

    if (how == 0)
        bh_panic("plain");
    else if (how == 1)
        *nowhere = 1;
    else
        *nowhere = 12 / zero;
}

static void
fail_noted(int how, struct noted *n)
{
    BH_DEFER(note_deferred, n);
    fault_or_panic(how);
}

static void catch (int how, struct noted *n)
{
    BH_RECOVER(p) {
        (void)p;
        return;
    }
    fail_noted(how, n);
}

TEST_REAL(stacktext, a_deferred_call_sees_the_panic_and_its_line)
{
    static struct noted n;

    for (int how = 0; how < 3; how++) {
        catch (how, &n);
        bh_stack_text(n.pcs, n.count, text, sizeof text);
        EXPECT(strncmp(text, "note_deferred(...)\n", 19) == 0);
        EXPECT(strstr(text, "fault_or_panic(...)") != NULL);
        EXPECT(strstr(text, "fail_noted(...)") != NULL);
        EXPECT(strstr(text, "unknown") == NULL);
    }
}
