/* cpu_test.c -- the CPU profile: who gets the samples, and what they say. */
#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/observe/profile.h>

static const int64_t MILLISECOND = 1000000;

static int64_t
cpu_time(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Work for so long, of this thread's CPU time. */
__attribute__((noinline)) static void
burn(int64_t ns)
{
    int64_t         end = cpu_time() + ns;
    volatile double sink = 0;

    while (cpu_time() < end)
        for (int i = 0; i < 2000; i++)
            sink = sink * 1.01 + i;
}

static char *
text_of(struct bh_profile *p)
{
    struct bh_profile_bytes b;

    EXPECT_EQ(bh_profile_text(p, "profile", &b), 0);
    return (char *)b.data;
}

TEST_REAL(cpu, what_a_request_burns_is_seen_with_its_route)
{
    struct bh_profile *p;
    char              *text;

    EXPECT_EQ(bh_profile_collect("profile", NULL, &p), -EAGAIN);
    EXPECT_EQ(bh_cpu_start(), 0);
    EXPECT_EQ(bh_cpu_start(), 0);
    bh_tag_set(&(struct bh_tag){ .trace_id = { 0xcd }, .route = "GET /burn" });
    burn(400 * MILLISECOND);
    bh_tag_set(NULL);
    EXPECT_EQ(bh_profile_collect("profile", NULL, &p), 0);
    EXPECT(bh_profile_total(p, 0) >= 30); /* 39 to 40 */
    EXPECT(bh_profile_total(p, 0) <= 45);
    EXPECT_EQ(bh_profile_total(p, 1), bh_profile_total(p, 0) * (1000000000 / 99));
    text = text_of(p);
    EXPECT(strstr(text, "\tburn+0x") != NULL);
    EXPECT(strstr(text, "\"route\":\"GET /burn\"") != NULL);
    EXPECT(strstr(text, "\"trace_id\":\"cd000000000000000000000000000000\"") != NULL);
    free(text);
    bh_profile_free(p);
    bh_cpu_stop();
    EXPECT_EQ(bh_profile_collect("profile", NULL, &p), -EAGAIN);
}

static void *
burn_on_thread(void *arg)
{
    (void)arg;
    burn(150 * MILLISECOND);
    return NULL;
}

TEST_REAL(cpu, plain_threads_are_found_when_a_profile_begins)
{
    struct bh_profile_options o = { .duration = 1 };
    struct bh_profile        *p;
    struct bh_cpu_stats       before, after;
    pthread_t                 t;

    EXPECT_EQ(bh_cpu_start(), 0);
    EXPECT_EQ(pthread_create(&t, NULL, burn_on_thread, NULL), 0);
    bh_cpu_stats_read(&before);
    EXPECT_EQ(bh_profile_collect("profile", &o, &p), 0);
    bh_profile_free(p);
    bh_cpu_stats_read(&after);
    EXPECT(after.threads > before.threads);
    EXPECT_EQ(pthread_join(t, NULL), 0);
    EXPECT_EQ(bh_profile_collect("profile", NULL, &p), 0);
    EXPECT(bh_profile_total(p, 0) >= 10);
    bh_profile_free(p);
    bh_cpu_stats_read(&after);
    EXPECT_EQ(after.threads, before.threads); /* and forgotten when they are gone */
    bh_cpu_stop();
}

static atomic_int at_work;

static void
block_thread(void *arg)
{
    (void)arg;
    at_work++;
    burn(100 * MILLISECOND);
}

struct job {
    struct bh_chan *done;
};

static void
work(void *args)
{
    bh_blocking(block_thread, NULL);
    bh_send(((struct job *)args)->done, &(int){ 1 });
}

TEST_REAL(cpu, threads_that_start_later_are_sampled_from_their_first_tick)
{
    int                 n = 2 * bh_procs() + 1, one;
    struct bh_chan     *done = BH_CHAN(int, 0);
    struct bh_cpu_stats before, after;
    struct bh_profile  *p;

    EXPECT_EQ(bh_cpu_start(), 0);
    bh_cpu_stats_read(&before);
    for (int i = 0; i < n; i++)
        bh_go(work, &(struct job){ done });
    for (int i = 0; i < n; i++)
        bh_recv(done, &one);
    bh_cpu_stats_read(&after);
    EXPECT(after.threads > before.threads);
    EXPECT_EQ(bh_profile_collect("profile", NULL, &p), 0);
    EXPECT(bh_profile_total(p, 0) >= 7 * n); /* 9 or 10 each */
    bh_profile_free(p);
    bh_cpu_stop();
    bh_chan_unref(done);
}

TEST_REAL(cpu, of_a_duration_only_that_is_shown)
{
    struct bh_profile_options o = { .duration = 20 * MILLISECOND };
    struct bh_profile        *p;
    char                     *text;

    EXPECT_EQ(bh_cpu_start(), 0);
    burn(100 * MILLISECOND);
    EXPECT_EQ(bh_profile_collect("profile", &o, &p), 0); /* asleep */
    text = text_of(p);
    EXPECT(strstr(text, "\tburn+0x") == NULL);
    free(text);
    bh_profile_free(p);
    bh_cpu_stop();
}

TEST_REAL(cpu, waiting_for_a_duration_ends_with_the_context)
{
    struct bh_ctx            *ctx = bh_ctx_timeout(bh_ctx_background(), MILLISECOND);
    struct bh_profile_options o = { .duration = 3600 * 1000 * MILLISECOND, .ctx = ctx };
    struct bh_profile        *p;

    EXPECT_EQ(bh_cpu_start(), 0);
    EXPECT(bh_profile_collect("profile", &o, &p) < 0);
    bh_cpu_stop();
    bh_ctx_end(ctx);
}

static void
mine(int sig)
{
    (void)sig;
}

TEST_REAL(cpu, a_programs_own_handler_is_left_alone)
{
    EXPECT(signal(SIGPROF, mine) != SIG_ERR);
    EXPECT_EQ(bh_cpu_start(), -EBUSY);
    EXPECT(signal(SIGPROF, SIG_DFL) == mine);
    EXPECT_EQ(bh_cpu_start(), 0);
    bh_cpu_stop();
    raise(SIGPROF); /* late: must not be the end of us */
}

#if defined(__SANITIZE_THREAD__)
#define delays_signals true
#else
#define delays_signals false
#endif

/* What the kernel would send after a tick. */
static void
send_tick(void)
{
    if (delays_signals)
        test_skip("ThreadSanitizer delays signals, and makes one of several");
    siginfo_t tick = { .si_signo = SIGPROF, .si_code = SI_TIMER };

    EXPECT_EQ(
        syscall(SYS_rt_tgsigqueueinfo, getpid(), (int)syscall(SYS_gettid), SIGPROF, &tick), 0);
}

TEST_REAL(cpu, a_sample_costs_little_and_is_counted)
{
    enum { TICKS = 5000 };
    struct bh_cpu_stats before, s;

    EXPECT_EQ(bh_cpu_start(), 0);
    bh_cpu_stats_read(&before);
    for (int i = 0; i < TICKS; i++)
        send_tick();
    raise(SIGPROF); /* not of a timer: ignored */
    bh_cpu_stats_read(&s);
    EXPECT(s.samples - before.samples >= TICKS);
    EXPECT(s.samples - before.samples <= TICKS + 100); /* there are real ones, too */
    EXPECT(s.ticks >= s.samples);
    EXPECT_EQ(s.dropped, 0);
    if (test_slow() <= 1 && !test_sanitized)
        EXPECT(s.cost / s.samples < 3000); /* ns; 150 if nobody else uses the processor */
    bh_cpu_stop();
}

TEST_REAL(cpu, what_is_older_than_the_ring_is_forgotten_not_misread)
{
    enum { TICKS = 40000 }; /* more than any ring has */
    struct bh_profile *p;

    EXPECT_EQ(bh_cpu_start(), 0);
    for (int i = 0; i < TICKS; i++)
        send_tick();
    EXPECT_EQ(bh_profile_collect("profile", NULL, &p), 0);
    EXPECT(bh_profile_total(p, 0) >= 4096);
    EXPECT(bh_profile_total(p, 0) <= 32768 + 1000);
    EXPECT_EQ(bh_profile_total(p, 1), bh_profile_total(p, 0) * (1000000000 / 99));
    bh_profile_free(p);
    bh_cpu_stop();
}
