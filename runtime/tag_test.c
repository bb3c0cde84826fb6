/* tag_test.c -- what a goroutine works for. */

#include "tag.h"

#include "test.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/sync.h>

static struct bh_tag
tag_of(unsigned n)
{
    struct bh_tag tag = { .sampled = 1, .route = "/a", .method = "GET" };

    memset(tag.trace_id, (int)n, sizeof tag.trace_id);
    memset(tag.span_id, (int)n, sizeof tag.span_id);
    return tag;
}

static bool
is_whole(const struct bh_tag *tag)
{
    struct bh_tag want = tag_of(tag->trace_id[0]);

    want.valid_ = 1;
    return memcmp(tag, &want, sizeof want) == 0;
}

/* What the goroutine that runs now has: its first byte; 0: none. */
static int
mine(void)
{
    const struct bh_tag *peek = bh_tag_peek();
    struct bh_tag        tag;

    bh_tag_get(&tag);
    EXPECT_EQ(peek == NULL ? 0 : peek->trace_id[0], tag.trace_id[0]);
    EXPECT(peek == NULL || is_whole(&tag));
    return tag.trace_id[0];
}

static void
set(unsigned n)
{
    const struct bh_tag tag = tag_of(n);

    bh_tag_set(&tag);
}

TEST(tag, is_none_until_set_and_after_null)
{
    static const struct bh_tag zero;
    struct bh_tag              tag = tag_of(9);

    EXPECT(bh_tag_peek() == NULL);
    bh_tag_get(&tag);
    EXPECT_EQ(memcmp(&tag, &zero, sizeof tag), 0);
    set(7);
    EXPECT_EQ(mine(), 7);
    bh_tag_set(NULL);
    EXPECT_EQ(mine(), 0);
    bh_tag_set(NULL);
    EXPECT_EQ(mine(), 0);
}

TEST(tag, is_a_copy_and_the_last_one_counts)
{
    struct bh_tag tag = tag_of(1);

    bh_tag_set(&tag);
    memset(&tag, 5, sizeof tag);
    EXPECT_EQ(mine(), 1);
    for (unsigned i = 1; i < 1000; i++) {
        set(i % 255 + 1);
        EXPECT_EQ(mine(), (int)(i % 255 + 1));
    }
    bh_tag_set(bh_tag_peek()); /* its own, while it is replaced */
    EXPECT_EQ(mine(), 999 % 255 + 1);
}

TEST_REAL(tag, set_of_a_bad_pointer_is_the_callers_panic)
{
    const struct bh_tag *volatile bad = (const struct bh_tag *)8;

    set(3);
    EXPECT_PANIC("runtime error: invalid memory address or nil pointer dereference",
                 bh_tag_set(bad));
    EXPECT_EQ(mine(), 3);
}

struct expect {
    int             value;
    struct bh_chan *done;
};

static void
expect_inherited(void *args)
{
    struct expect *e = args;

    EXPECT_EQ(mine(), e->value);
    set(99);
    EXPECT_EQ(mine(), 99);
    bh_send(e->done, NULL);
}

TEST(tag, is_inherited_as_it_was_at_the_start)
{
    struct bh_chan *done = bh_chan_new(0, 0);

    BH_DEFER(bh_chan_unref, done);
    set(4);
    bh_go(expect_inherited, &(struct expect){ 4, done });
    set(5); /* later */
    bh_go(expect_inherited, &(struct expect){ 5, done });
    bh_tag_set(NULL);
    bh_go(expect_inherited, &(struct expect){ 0, done });
    for (int i = 0; i < 3; i++)
        (void)bh_recv(done, NULL);
    EXPECT_EQ(mine(), 0);
}

static void
end_tagged(void *args)
{
    set(8);
    bh_send(*(struct bh_chan **)args, NULL);
}

TEST(tag, goes_with_its_goroutine_not_with_the_descriptor)
{
    struct bh_chan *done = bh_chan_new(0, 0);

    BH_DEFER(bh_chan_unref, done);
    for (int i = 0; i < 50; i++) {
        bh_go(end_tagged, &done);
        (void)bh_recv(done, NULL);
        bh_yield();
        bh_go(expect_inherited, &(struct expect){ 0, done });
        (void)bh_recv(done, NULL);
    }
}

/* Each starts two with its tag until the depth is reached, then changes its own. */
struct tree {
    int                  depth, value;
    struct bh_waitgroup *all;
};

static void
grow(void *args)
{
    struct tree t = *(struct tree *)args;

    BH_DEFER(bh_waitgroup_done, t.all);
    EXPECT_EQ(mine(), t.value);
    for (int i = 0; i < 2 && t.depth > 0; i++) {
        bh_waitgroup_add(t.all, 1);
        bh_go(grow, &(struct tree){ t.depth - 1, t.value, t.all });
        if (i == 0)
            bh_yield();
    }
    EXPECT_EQ(mine(), t.value);
    set((unsigned)(t.value % 250 + 1));
    bh_yield();
    EXPECT_EQ(mine(), t.value % 250 + 1);
}

TEST(tag, is_shared_by_many_goroutines_on_many_threads)
{
    struct bh_waitgroup all = { 0 };

    for (int round = 0; round < 20; round++) {
        set((unsigned)round + 1);
        bh_waitgroup_add(&all, 1);
        bh_go(grow, &(struct tree){ 6, round + 1, &all });
    }
    bh_waitgroup_wait(&all);
    EXPECT_EQ(mine(), 20);
}

static void
expect_nothing(void *args)
{
    struct bh_chan *done = *(struct bh_chan **)args;

    EXPECT_EQ(mine(), 0);
    set(1);
    bh_lock_thread(); /* the thread ends with it, and must not keep its free cells */
    bh_send(done, NULL);
}

static void *
plain_thread(void *arg)
{
    set(3);
    EXPECT_EQ(mine(), 0);
    EXPECT_EQ(bh_go_from_thread(expect_nothing, &arg), 0);
    return NULL;
}

TEST_REAL(tag, plain_thread_has_none_and_gives_none)
{
    struct bh_chan *done = bh_chan_new(0, 0);
    pthread_t       thread;

    BH_DEFER(bh_chan_unref, done);
    set(2);
    EXPECT_EQ(pthread_create(&thread, NULL, plain_thread, done), 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0); /* it has started its goroutine */
    (void)bh_recv(done, NULL);
    EXPECT_EQ(mine(), 2);
}

/* ---- read from elsewhere ----------------------------------------------------------- */

static _Atomic int  handled, torn;
static _Atomic bool stop;

static void
handler(int signo)
{
    struct bh_tag tag;

    (void)signo;
    bh_tag_get(&tag);
    if (tag.trace_id[0] == 0 || !is_whole(&tag))
        atomic_fetch_add(&torn, 1);
    atomic_fetch_add(&handled, 1);
}

static void *
pester(void *arg)
{
    pthread_t *thread = arg;

    while (!atomic_load(&stop)) {
        (void)pthread_kill(*thread, SIGPROF);
        (void)sched_yield();
    }
    return NULL;
}

TEST_REAL(tag, signal_handler_sees_a_whole_one)
{
    struct sigaction action = { .sa_handler = handler, .sa_flags = SA_ONSTACK | SA_RESTART };
    pthread_t        self = pthread_self(), thread;
    unsigned         n = 0;

    bh_lock_thread();
    set(1);
    EXPECT_EQ(sigaction(SIGPROF, &action, NULL), 0);
    EXPECT_EQ(pthread_create(&thread, NULL, pester, &self), 0);
    while (atomic_load(&handled) < 2000)
        set(n++ % 200 + 1);
    atomic_store(&stop, true);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    bh_unlock_thread();
    EXPECT_EQ(atomic_load(&torn), 0);
}

static _Atomic uint64_t reads;

static void *
watch(void *arg)
{
    struct bh_tag tag;

    while (!atomic_load(&stop)) {
        rt_tag_copy(arg, &tag);
        if (tag.trace_id[0] == 0) {
            (void)sched_yield(); /* it may always have been disturbed */
            continue;
        }
        if (!is_whole(&tag))
            atomic_fetch_add(&torn, 1);
        atomic_fetch_add(&reads, 1);
    }
    return NULL;
}

TEST_REAL(tag, other_thread_sees_a_whole_one_or_none)
{
    pthread_t thread;
    unsigned  n = 0;

    set(1);
    EXPECT_EQ(pthread_create(&thread, NULL, watch, bh_self()), 0);
    while (atomic_load(&reads) < 2000) {
        set(n++ % 200 + 1);
        if (n % 64 == 0)
            bh_tag_set(NULL);
        if (n % 4096 == 0)
            bh_sleep(1000);
    }
    atomic_store(&stop, true);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(atomic_load(&torn), 0);
}

/* ---- for readers outside the process ------------------------------------------------- */

/* What a profiler that has stopped this thread would find, by OTEP 4947: 28 bytes, or NULL. */
__attribute__((noinline)) static const unsigned char *
record(void)
{
    const unsigned char **shown = dlsym(RTLD_DEFAULT, "otel_thread_ctx_v1");

    EXPECT(shown != NULL);
    return *shown;
}

static void
has_no_record(void *args)
{
    struct bh_chan *done = *(struct bh_chan **)args;

    bh_tag_set(NULL);
    bh_yield();
    EXPECT(record() == NULL);
    bh_send(done, &(int){ 1 });
}

static void
has_its_parents(void *args)
{
    struct bh_chan *done = *(struct bh_chan **)args;

    EXPECT(record() != NULL && record()[0] == 3);
    bh_send(done, &(int){ 1 });
}

TEST(tag, readers_of_the_thread_find_the_record_of_the_goroutine)
{
    static const unsigned char expected[28] = { 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3, 3,
                                                3, 3, 3, 3, 3, 3, 3, 3, 1, 3, 0, 0 };
    struct bh_tag   tag = tag_of(3);
    struct bh_chan *done = BH_CHAN(int, 0);

    EXPECT(record() == NULL);
    tag.random = 1;
    bh_tag_set(&tag);
    EXPECT_EQ(memcmp(record(), expected, sizeof expected), 0);
    bh_go(has_no_record, &done);
    bh_go(has_its_parents, &done);
    for (int i = 0; i < 2; i++) {
        bh_yield();
        EXPECT_EQ(memcmp(record(), expected, sizeof expected), 0);
        bh_recv(done, NULL);
        EXPECT_EQ(memcmp(record(), expected, sizeof expected), 0);
    }
    tag.sampled = 0;
    bh_tag_set(&tag);
    EXPECT_EQ(record()[25], 2);
    bh_tag_set(NULL);
    EXPECT(record() == NULL);
    bh_chan_unref(done);
}

static void *
look_from_a_thread(void *args)
{
    (void)args;
    EXPECT(record() == NULL);
    return NULL;
}

TEST_REAL(tag, plain_threads_have_no_record)
{
    pthread_t thread;

    set(5);
    EXPECT_EQ(pthread_create(&thread, NULL, look_from_a_thread, NULL), 0);
    pthread_join(thread, NULL);
    EXPECT_EQ(record()[0], 5);
}
