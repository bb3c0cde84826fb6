/*
 * stack_test.c -- stacks: their layout and guards, where they come from when the
 * kernel refuses its best means, and where they go when there are too many.
 */

#include "test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/sync.h>

#include "runtime.h"

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND 0
#endif

enum { ADVICE_GUARD_INSTALL = 102 };

static struct rt_p *
new_p(void)
{
    static struct rt_p  all[16];
    static _Atomic(int) used;

    return &all[used++];
}

/* Does the page trap?  The kernel says so without a fault of ours. */
static bool
traps(const char *at)
{
    int  fd[2];
    bool result;

    EXPECT_EQ(pipe(fd), 0);
    result = write(fd[1], at, 1) < 0 && errno == EFAULT;
    close(fd[0]);
    close(fd[1]);
    return result;
}

static uintptr_t
top_page(const struct rt_stack *s)
{
    return ((uintptr_t)s->top - 1) & ~(uintptr_t)(RT_PAGE - 1);
}

/* ---- layout ----------------------------------------------------------------- */

TEST_PLAIN(stack, class_holds_what_was_asked_for)
{
    static const size_t sizes[] = {
        1, 30 << 10, 64 << 10, 100000, 256 << 10, 1 << 20, 8 << 20
    };

    rt_stack_init(0);
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct rt_p     *p = new_p();
        uint8_t          c = rt_stack_class(sizes[i]);
        struct rt_stack *s = rt_stack_get(p, c);

        EXPECT(rt_stack_usable(c) >= sizes[i]);
        EXPECT((size_t)(s->top - (s->soft + RT_PAGE)) >= rt_stack_usable(c));
        EXPECT_EQ(s->size_class, c);
    }
}

TEST_PLAIN(stack, size_zero_means_the_default)
{
    rt_stack_init(0);
    EXPECT_EQ(rt_stack_class(0), 0);
    rt_stack_init(256 << 10);
    EXPECT_EQ(rt_stack_class(0), rt_stack_class(256 << 10));
    EXPECT(rt_stack_class(0) > 0);
}

TEST_PLAIN(stack, size_beyond_all_classes_gives_the_largest)
{
    rt_stack_init(0);
    EXPECT_EQ(rt_stack_class((size_t)1 << 40), RT_STACK_CLASSES - 1);
}

TEST_PLAIN(stack, header_and_first_frames_share_a_page)
{
    struct rt_p *p = new_p();

    rt_stack_init(0);
    for (int i = 0; i < 100; i++) {
        struct rt_stack *s = rt_stack_get(p, 0);

        EXPECT_EQ((uintptr_t)s & ~(uintptr_t)(RT_PAGE - 1), top_page(s));
        EXPECT_EQ((uintptr_t)s->top % 16, 0);
        EXPECT((uintptr_t)s->top - top_page(s) >= 3 * 1024 - RT_CACHE_LINE);
    }
}

TEST_PLAIN(stack, neighbours_have_tops_of_different_colours)
{
    struct rt_p *p = new_p();
    bool         seen[RT_PAGE / RT_CACHE_LINE] = { false };
    int          colours = 0;

    rt_stack_init(0);
    for (int i = 0; i < 16; i++)
        seen[(uintptr_t)rt_stack_get(p, 0)->top % RT_PAGE / RT_CACHE_LINE] = true;
    for (size_t i = 0; i < sizeof seen; i++)
        colours += seen[i];
    EXPECT_EQ(colours, 16);
}

TEST_PLAIN(stack, any_address_in_it_leads_to_its_stack)
{
    struct rt_p *p = new_p();
    int          local;

    rt_stack_init(0);
    for (uint8_t c = 0; c < RT_STACK_CLASSES; c++) {
        struct rt_stack *s = rt_stack_get(p, c);

        EXPECT_EQ(rt_stack_of((uintptr_t)s->lo), (uintptr_t)s->lo);
        EXPECT_EQ(rt_stack_of((uintptr_t)s->soft), (uintptr_t)s->lo);
        EXPECT_EQ(rt_stack_of((uintptr_t)s->top - 1), (uintptr_t)s->lo);
        EXPECT_EQ(rt_stack_of((uintptr_t)s), (uintptr_t)s->lo);
        EXPECT(rt_stack_of((uintptr_t)s->lo - 1) != (uintptr_t)s->lo);
    }
    EXPECT_EQ(rt_stack_of((uintptr_t)&local), 0);
    EXPECT_EQ(rt_stack_of(0), 0);
}

/* ---- guards ------------------------------------------------------------------- */

static void
expect_guards(const struct rt_stack *s, int open_from_page)
{
    for (int i = 0; i < RT_STACK_GUARD_PAGES; i++)
        EXPECT_EQ(traps(s->lo + i * RT_PAGE), i < open_from_page);
    EXPECT(!traps(s->soft + RT_PAGE));
    EXPECT(!traps(s->top - 1));
}

static void
lift_and_arm(struct rt_stack *s)
{
    expect_guards(s, RT_STACK_GUARD_PAGES);
    EXPECT(rt_stack_lift_half(s));
    expect_guards(s, RT_STACK_HALF_PAGE);
    EXPECT(rt_stack_lift_soft(s));
    expect_guards(s, 1);
    memset(s->lo + RT_PAGE, 1, (size_t)(s->top - s->lo) - RT_PAGE);
    EXPECT(!s->guarded);
    EXPECT(rt_stack_arm_soft(s));
    EXPECT(s->guarded);
    expect_guards(s, RT_STACK_GUARD_PAGES);
}

TEST_PLAIN(stack, every_stack_is_guarded_below)
{
    struct rt_p *p = new_p();

    rt_stack_init(0);
    for (uint8_t c = 0; c < RT_STACK_CLASSES; c++)
        for (int i = 0; i < 3; i++)
            lift_and_arm(rt_stack_get(p, c));
}

TEST_PLAIN(stack, stack_put_back_with_lifted_guard_is_armed_again)
{
    struct rt_p     *p = new_p();
    struct rt_stack *s;

    rt_stack_init(0);
    s = rt_stack_get(p, 0);
    EXPECT(rt_stack_lift_soft(s));
    rt_stack_put(p, s);
    EXPECT(rt_stack_get(p, 0) == s);
    expect_guards(s, RT_STACK_GUARD_PAGES);
}

/*
 * Make a system call fail from now on, if its third argument is `third` or that
 * is negative.  Returns: false if the kernel cannot do that (an emulator).
 */
static bool
refuse(int call, long third, int error)
{
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 3),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2])),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)third, 0, third < 0 ? 0 : 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (uint32_t)error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof filter / sizeof *filter, filter };

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

TEST_PLAIN(stack, guards_are_there_when_process_madvise_is_refused)
{
    struct rt_p *p = new_p();

    if (!refuse(SYS_process_madvise, -1, EPERM))
        return;
    rt_stack_init(0);
    EXPECT_EQ(rt_stack_limit(), INT64_MAX);
    for (int i = 0; i < 100; i++)
        lift_and_arm(rt_stack_get(p, 0));
}

/* As on Linux before 6.13, or in an emulator that has no seccomp. */
static void
refuse_guard_markers(void)
{
    if (refuse(SYS_process_madvise, -1, ENOSYS))
        EXPECT(refuse(SYS_madvise, ADVICE_GUARD_INSTALL, EINVAL));
    rt_stack_init(0);
}

TEST_PLAIN(stack, guards_are_there_on_an_older_kernel)
{
    struct rt_p *p = new_p();

    refuse_guard_markers();
    EXPECT(rt_stack_limit() < INT64_MAX);
    for (int i = 0; i < 100; i++)
        lift_and_arm(rt_stack_get(p, 0));
}

static long
read_number(const char *path)
{
    char  text[32] = "";
    FILE *f = fopen(path, "r");

    EXPECT(f != NULL && fgets(text, sizeof text, f) != NULL);
    fclose(f);
    return strtol(text, NULL, 10);
}

TEST_PLAIN(stack, limit_of_an_older_kernel_is_reported_and_gives_null)
{
    struct rt_p *p = new_p();
    long         maps = read_number("/proc/sys/vm/max_map_count"), count = 0;
    char         said[400] = "";
    int          fd[2], terminal;
    int64_t      limit;
    void *volatile block;

    if (maps > 200000 || RUNNING_ON_VALGRIND)
        return; /* would take too long, or has a limit of its own */
    refuse_guard_markers();
    limit = rt_stack_limit();
    EXPECT(limit > maps / 3 && limit < maps / 2);
    EXPECT_EQ(pipe(fd), 0);
    terminal = dup(STDERR_FILENO);
    dup2(fd[1], STDERR_FILENO);
    while (rt_stack_get(p, 0) != NULL)
        count++;
    EXPECT(rt_stack_get(p, 0) == NULL);
    dup2(terminal, STDERR_FILENO);
    close(terminal);
    EXPECT_EQ(count, limit);
    EXPECT(read(fd[0], said, sizeof said - 1) > 0);
    EXPECT(strstr(said, "no more goroutine stacks") != NULL);
    EXPECT(strstr(said, "max_map_count") != NULL);
    EXPECT(strchr(said, '\n') == strrchr(said, '\n')); /* once */
    block = malloc(10 << 20); /* mappings were left for the application */
    EXPECT(block != NULL);
    free(block);
    close(fd[0]);
    close(fd[1]);
}

/* ---- many, and few --------------------------------------------------------------- */

static int
count_mappings(void)
{
    FILE *f = fopen("/proc/self/maps", "r");
    int   n = 0, c;

    EXPECT(f != NULL);
    while ((c = getc(f)) != EOF)
        n += c == '\n';
    fclose(f);
    return n;
}

TEST_PLAIN(stack, more_stacks_than_mappings_can_be_had)
{
    enum { COUNT = 70000 };
    static struct rt_stack *all[COUNT];
    struct rt_p            *p = new_p();
    int                     before;

    rt_stack_init(0);
    if (rt_stack_limit() < COUNT)
        return; /* Linux before 6.13 */
    before = count_mappings();
    for (int i = 0; i < COUNT; i++) {
        all[i] = rt_stack_get(p, 0);
        EXPECT(all[i] != NULL);
    }
    EXPECT(count_mappings() < before + 50);
    for (int i = 0; i < COUNT; i += 1000)
        expect_guards(all[i], RT_STACK_GUARD_PAGES);
    for (int i = 0; i < COUNT; i++)
        rt_stack_put(p, all[i]);
    EXPECT(rt_stack_get(p, 0) != NULL);
}

TEST_PLAIN(stack, little_address_space_means_fewer_stacks)
{
    struct rt_p  *p = new_p();
    struct rlimit limit = { 2UL << 30, 2UL << 30 };
    long          count = 0;

    if (test_sanitized)
        return; /* has reserved terabytes */
    rt_stack_init(0);
    EXPECT_EQ(setrlimit(RLIMIT_AS, &limit), 0);
    while (rt_stack_get(p, 0) != NULL)
        count++;
    EXPECT(count > 10000 && count < 32768);
    EXPECT(rt_stack_get(p, 0) == NULL);
}

/* ---- reuse -------------------------------------------------------------------------- */

TEST_PLAIN(stack, last_one_given_back_is_taken_first)
{
    struct rt_p     *p = new_p();
    struct rt_stack *a, *b;

    rt_stack_init(0);
    a = rt_stack_get(p, 0);
    b = rt_stack_get(p, 0);
    EXPECT(a != b);
    rt_stack_put(p, a);
    rt_stack_put(p, b);
    EXPECT(rt_stack_get(p, 0) == b);
    EXPECT(rt_stack_get(p, 0) == a);
}

TEST_PLAIN(stack, flushed_stacks_are_found_by_another_processor)
{
    struct rt_p     *p = new_p(), *q = new_p();
    struct rt_stack *s;

    rt_stack_init(0);
    s = rt_stack_get(p, 0);
    rt_stack_put(p, s);
    rt_stack_flush(p);
    EXPECT_EQ(p->stack_count[0], 0);
    EXPECT(p->stacks[0] == NULL);
    EXPECT(rt_stack_get(q, 0) == s);
}

static long
lazily_free_kib(void)
{
    char  line[256];
    long  kib = -1;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");

    EXPECT(f != NULL);
    while (fgets(line, sizeof line, f) != NULL)
        sscanf(line, "LazyFree: %ld", &kib);
    fclose(f);
    return kib;
}

TEST_PLAIN(stack, memory_of_stacks_that_nobody_wants_is_given_to_the_kernel)
{
    enum { COUNT = 20000 };
    static struct rt_stack *all[COUNT];
    struct rt_p            *p = new_p();

    rt_stack_init(0);
    for (int i = 0; i < COUNT; i++)
        all[i] = rt_stack_get(p, 0);
    EXPECT_EQ(lazily_free_kib(), 0);
    for (int i = 0; i < COUNT; i++)
        rt_stack_put(p, all[i]);
    if (rt_stack_limit() < COUNT * 2 || RUNNING_ON_VALGRIND)
        return;               /* an emulator, which knows nothing of MADV_FREE */
    rt_stack_scavenge(false); /* was not idle before this */
    EXPECT_EQ(lazily_free_kib(), 0);
    while (rt_stack_scavenge(false))
        continue;
    EXPECT(lazily_free_kib() / 4 > COUNT * 9 / 10);
    for (int i = 0; i < COUNT; i++) { /* and they are whole again when taken */
        struct rt_stack *s = rt_stack_get(p, 0);

        EXPECT_EQ(rt_stack_of((uintptr_t)s), (uintptr_t)s->lo);
        memset(s->top - 2000, 7, 2000);
        if (i % 1000 == 0)
            expect_guards(s, RT_STACK_GUARD_PAGES);
    }
}

enum { THREADS = 4, ROUNDS = 20000, HELD = 64 };

/* Take and give back at random; two owners of one stack would see each other's mark. */
static void *
churn(void *seed)
{
    struct rt_p     *p = new_p();
    struct rt_stack *held[HELD] = { NULL };
    unsigned         random = *(unsigned *)seed;
    uintptr_t        mark = (uintptr_t)seed;

    for (int i = 0; i < ROUNDS; i++) {
        struct rt_stack **s;

        random = random * 1103515245 + 12345;
        s = &held[random >> 16 & (HELD - 1)];
        if (*s == NULL) {
            *s = rt_stack_get(p, random >> 30 & 1);
            EXPECT(*s != NULL);
            ((uintptr_t *)(void *)(*s)->top)[-1] = mark;
        } else {
            EXPECT_EQ(((uintptr_t *)(void *)(*s)->top)[-1], mark);
            rt_stack_put(p, *s);
            *s = NULL;
        }
        if (i % 4096 == 0)
            rt_stack_flush(p);
    }
    return NULL;
}

TEST_PLAIN(stack, processors_never_share_a_stack)
{
    pthread_t threads[THREADS];
    unsigned  seeds[THREADS];

    rt_stack_init(0);
    for (unsigned i = 0; i < THREADS; i++) {
        seeds[i] = i;
        EXPECT_EQ(pthread_create(&threads[i], NULL, churn, &seeds[i]), 0);
    }
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
}

/* ---- as the scheduler uses them -------------------------------------------------------- */

struct wait_args {
    struct bh_chan         *gate;
    _Atomic(struct bh_g *) *self;
};

static void
wait_at_gate(void *args)
{
    struct wait_args *a = args;
    int               got;

    *a->self = bh_self();
    bh_recv(a->gate, &got);
}

static int
resident_pages(const struct rt_stack *s)
{
    unsigned char page[64];
    int           n = 0;
    char         *from = s->soft + RT_PAGE;
    size_t        pages = (top_page(s) + RT_PAGE - (uintptr_t)from) / RT_PAGE;

    EXPECT(pages <= sizeof page);
    EXPECT_EQ(mincore(from, pages * RT_PAGE, page), 0);
    for (size_t i = 0; i < pages; i++)
        n += page[i] & 1;
    return n;
}

TEST_REAL(stack, parked_goroutine_keeps_one_page)
{
    enum { COUNT = 200 };
    static _Atomic(struct bh_g *) all[COUNT];
    struct bh_chan               *gate = BH_CHAN(int, 0);
    int                           pages = 0;

    for (int i = 0; i < COUNT; i++)
        bh_go(wait_at_gate, &(struct wait_args){ .gate = gate, .self = &all[i] });
    for (int i = 0; i < COUNT; i++)
        while (atomic_load(&all[i]) == NULL || atomic_load(&all[i]->state) != RT_G_WAITING)
            bh_yield();
    for (int i = 0; i < COUNT; i++)
        pages += resident_pages(all[i]->stack);
    /* One of them may have started a thread or given a row of stacks their guards. */
    if (!test_sanitized)
        EXPECT(pages >= COUNT && pages <= COUNT + COUNT / 20);
    bh_close(gate);
}
