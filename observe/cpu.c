/*
 * cpu.c -- the CPU profile: what the threads did in the last 30 s.
 *
 * Each thread has a timer on its own CPU clock that sends it SIGPROF after every 1/99 s of work,
 * so an idle process is not disturbed at all.  (99, not 100: work that beats in
 * step with a round number would be seen too often or never.)  The handler notes the stack,
 * the goroutine and what it works for (tag.h), and puts them in the ring:
 *
 *     head: numbers are drawn by adding one           slots[number % slot_count]
 *     slot.turn: 2n + 1 while number n is written, 2n + 2 when it is complete
 *
 * The ring is the process's, not a thread's: what is used up in 30 s is bounded by the number of
 * processors, however many threads there are, and a thread that ends leaves its samples
 * behind.  Ninety-nine additions a second and processor to one counter are no contention.
 * Readers copy a slot and then look again at its turn; they stop nobody.  (No fences: each
 * word is stored behind the odd turn, and read before the second look.)
 *
 * The runtime tells of its threads (sampling.h); those that are there before, and plain ones,
 * are found in /proc/self/task whenever a profile begins.
 *
 * `lock` protects the list of timers.  It may be taken on a thread that has no goroutine yet,
 * and is never held across anything that waits.
 *
 * Once installed, the handler stays: a late SIGPROF would end the process otherwise.  So does
 * the ring, which a handler may still be writing to.
 */

#include "named.h"

#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/sampling.h>
#include <bulkhead/go/tag.h>

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

enum {
    RATE = 99, /* samples a second of CPU time */
    PERIOD = 1000000000 / RATE,
    SLOTS_MIN = 4096,
    SLOTS_MAX = 32768, /* 16 MiB: of many processors, all busy, less than 30 s are kept */
    DEPTH = 57,        /* makes a slot 512 bytes */
    WORD = 8
};

static const int64_t SECOND = 1000000000;
static const int64_t INTERRUPTED = 50000; /* ns: longer, and the thread lost its processor */
static const int64_t KEPT = 30 * SECOND;

struct sample {
    int64_t       time; /* CLOCK_MONOTONIC */
    uint64_t      goroutine;
    unsigned char trace_id[16];
    const char   *route;
    uint32_t      weight; /* how many ticks it stands for */
    uint16_t      depth;
    uint16_t      scheduler;
    uintptr_t     pcs[DEPTH];
};

enum { WORDS = sizeof(struct sample) / WORD, HEAD_WORDS = offsetof(struct sample, pcs) / WORD };

struct slot {
    _Atomic uint64_t turn;
    _Atomic uint64_t words[WORDS];
};
_Static_assert(sizeof(struct slot) == 512, "whole cache lines");

static struct {
    struct slot     *slots; /* NULL until the first start */
    uint64_t         slot_count;
    int64_t          portion; /* ns: a longer profile is read in parts, before the ring is full */
    _Atomic uint64_t head;
    _Atomic uint64_t dropped, cut, cost, overruns;
    _Atomic bool     on;
    int64_t          since; /* older samples are of an earlier start */
} ring;

struct timer {
    int     tid;
    timer_t id;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct timer   *timers;
static int             timer_count, timer_room;

static int64_t
now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * SECOND + t.tv_nsec;
}

/* ---- writing: the signal handler ------------------------------------------------- */

/* Only what is used: the head, and `depth` addresses. */
static void
put(const struct sample *s)
{
    uint64_t     n = atomic_fetch_add_explicit(&ring.head, 1, memory_order_relaxed), word;
    struct slot *slot = &ring.slots[n & (ring.slot_count - 1)];
    uint64_t     turn = atomic_load_explicit(&slot->turn, memory_order_relaxed);

    /* Another one still writes there, a whole round behind: leave it alone. */
    if ((turn & 1) != 0 ||
        !atomic_compare_exchange_strong_explicit(&slot->turn, &turn, 2 * n + 1,
                                                 memory_order_acquire, memory_order_relaxed)) {
        atomic_fetch_add_explicit(&ring.dropped, 1, memory_order_relaxed);
        return;
    }
    for (int i = 0; i < HEAD_WORDS + s->depth; i++) {
        memcpy(&word, (const char *)s + (size_t)i * WORD, sizeof word);
        atomic_store_explicit(&slot->words[i], word, memory_order_release);
    }
    atomic_store_explicit(&slot->turn, 2 * n + 2, memory_order_release);
}

static void
on_tick(int sig, siginfo_t *info, void *ucontext)
{
    struct sample         s;
    struct bh_interrupted what;
    const struct bh_tag  *tag;
    int64_t               took;

    (void)sig;
    if (!atomic_load_explicit(&ring.on, memory_order_acquire) || info->si_code != SI_TIMER)
        return;
    s.time = now();
    s.depth = (uint16_t)bh_stack_interrupted(ucontext, s.pcs, DEPTH, &what);
    s.goroutine = what.goroutine;
    s.scheduler = what.scheduler;
    s.weight = 1 + (info->si_overrun > 0 ? (uint32_t)info->si_overrun : 0);
    tag = what.goroutine != 0 ? bh_tag_peek() : NULL;
    s.route = tag != NULL ? tag->route : NULL;
    memset(s.trace_id, 0, sizeof s.trace_id);
    if (tag != NULL)
        memcpy(s.trace_id, tag->trace_id, sizeof s.trace_id);
    put(&s);
    if (s.weight > 1)
        atomic_fetch_add_explicit(&ring.overruns, s.weight - 1, memory_order_relaxed);
    if (what.truncated)
        atomic_fetch_add_explicit(&ring.cut, 1, memory_order_relaxed);
    took = now() - s.time;
    if (took < INTERRUPTED)
        atomic_fetch_add_explicit(&ring.cost, (uint64_t)took, memory_order_relaxed);
}

/* ---- timers ---------------------------------------------------------------------- */

/* The CPU clock of any thread of ours: how the kernel numbers them; see clock_getcpuclockid(3). */
static clockid_t
cpu_clock(int tid)
{
    const unsigned per_thread = 4, sched = 2;

    return (clockid_t)(~(unsigned)tid << 3 | per_thread | sched);
}

static int
find_timer(int tid)
{
    for (int i = 0; i < timer_count; i++)
        if (timers[i].tid == tid)
            return i;
    return -1;
}

static void
drop_timer(int i)
{
    (void)timer_delete(timers[i].id);
    timers[i] = timers[--timer_count];
}

/* Returns: 0, also if the thread is gone already; or an error. */
static int
add_timer(int tid)
{
    struct sigevent   e = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGPROF };
    struct itimerspec every = { { 0, PERIOD }, { 0, PERIOD } };
    struct timer      t = { .tid = tid };

    if (timer_count == timer_room) {
        int           room = timer_room + 64;
        struct timer *more = realloc(timers, (size_t)room * sizeof *more);

        if (more == NULL)
            return -ENOMEM;
        timers = more;
        timer_room = room;
    }
    e.sigev_notify_thread_id = tid;
    if (timer_create(cpu_clock(tid), &e, &t.id) != 0)
        return errno == EINVAL && tid != getpid() ? 0 : -errno;
    if (timer_settime(t.id, 0, &every, NULL) != 0) {
        (void)timer_delete(t.id);
        return 0;
    }
    timers[timer_count++] = t;
    return 0;
}

/* A number may be used again: what an earlier thread of it had is no good. */
static void
on_thread_start(void)
{
    int tid = (int)syscall(SYS_gettid), i;

    (void)pthread_mutex_lock(&lock);
    i = find_timer(tid);
    if (i >= 0)
        drop_timer(i);
    if (atomic_load(&ring.on))
        (void)add_timer(tid);
    (void)pthread_mutex_unlock(&lock);
}

static void
on_thread_end(void)
{
    int i;

    (void)pthread_mutex_lock(&lock);
    i = find_timer((int)syscall(SYS_gettid));
    if (i >= 0)
        drop_timer(i);
    (void)pthread_mutex_unlock(&lock);
}

/* Give every thread that is there a timer, and take it from those that are gone.  Under lock. */
static int
find_threads(void)
{
    DIR           *d = opendir("/proc/self/task");
    struct dirent *e;
    int            rc = 0, kept = 0;

    if (d == NULL)
        return add_timer((int)syscall(SYS_gettid));
    for (int i = timer_count - 1; i >= 0; i--)
        if (syscall(SYS_tgkill, getpid(), timers[i].tid, 0) != 0)
            drop_timer(i);
    while ((e = readdir(d)) != NULL) {
        int tid = (int)strtol(e->d_name, NULL, 10), error;

        if (tid <= 0)
            continue;
        error = find_timer(tid) < 0 ? add_timer(tid) : 0;
        kept += error == 0;
        rc = error != 0 ? error : rc;
    }
    (void)closedir(d);
    return kept > 0 ? 0 : rc;
}

/* ---- starting and stopping ------------------------------------------------------- */

static int
make_ring(void)
{
    cpu_set_t set;
    uint64_t  count = SLOTS_MIN;
    int       cpus = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    void     *at;

    if (ring.slots != NULL)
        return 0;
    while (count < SLOTS_MAX && count < (uint64_t)cpus * RATE * 30 * 11 / 10)
        count *= 2;
    /* With its pages: a handler that has to wait for one takes ten times as long. */
    at = mmap(NULL, count * sizeof *ring.slots, PROT_READ | PROT_WRITE,
              MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (at == MAP_FAILED)
        return -ENOMEM;
    ring.slot_count = count;
    ring.portion = (int64_t)count * PERIOD / (2 * cpus);
    ring.slots = at;
    return 0;
}

/* Everything but what a fault is told by waits for the handler. */
static int
install_handler(void)
{
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT };
    struct sigaction old,
        act = { .sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK };

    if (sigaction(SIGPROF, NULL, &old) != 0)
        return -errno;
    if ((old.sa_flags & SA_SIGINFO) != 0
            ? old.sa_sigaction != on_tick
            : old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN)
        return -EBUSY;
    (void)sigfillset(&act.sa_mask);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        (void)sigdelset(&act.sa_mask, faults[i]);
    return sigaction(SIGPROF, &act, NULL) != 0 ? -errno : 0;
}

static void
stop(void)
{
    atomic_store(&ring.on, false);
    bh_sampling_end();
    while (timer_count > 0)
        drop_timer(timer_count - 1);
    free(timers);
    timers = NULL;
    timer_room = 0;
}

static int
start(void)
{
    int rc = make_ring();

    if (rc == 0)
        rc = install_handler();
    if (rc == 0)
        rc = bh_sampling_begin(on_thread_start, on_thread_end);
    if (rc != 0)
        return rc;
    ring.since = now();
    atomic_store(&ring.on, true);
    rc = find_threads();
    if (rc != 0)
        stop();
    return rc;
}

int
bh_cpu_start(void)
{
    int rc = 0;

    (void)pthread_mutex_lock(&lock);
    if (!atomic_load(&ring.on))
        rc = start();
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

void
bh_cpu_stop(void)
{
    (void)pthread_mutex_lock(&lock);
    if (atomic_load(&ring.on))
        stop();
    (void)pthread_mutex_unlock(&lock);
}

void
bh_cpu_stats_read(struct bh_cpu_stats *stats)
{
    (void)pthread_mutex_lock(&lock);
    stats->on = atomic_load(&ring.on);
    stats->threads = timer_count;
    (void)pthread_mutex_unlock(&lock);
    stats->dropped = atomic_load(&ring.dropped);
    stats->samples = atomic_load(&ring.head) - stats->dropped;
    stats->ticks = stats->samples + atomic_load(&ring.overruns);
    stats->cut = atomic_load(&ring.cut);
    stats->cost = atomic_load(&ring.cost);
}

/* ---- reading --------------------------------------------------------------------- */

/* Returns: false if sample n is not complete, or not there any more. */
static bool
read_sample(uint64_t n, struct sample *s)
{
    struct slot *slot = &ring.slots[n & (ring.slot_count - 1)];

    if (atomic_load_explicit(&slot->turn, memory_order_acquire) != 2 * n + 2)
        return false;
    for (size_t i = 0; i < WORDS; i++) {
        uint64_t word = atomic_load_explicit(&slot->words[i], memory_order_acquire);

        memcpy((char *)s + i * WORD, &word, sizeof word);
    }
    return atomic_load_explicit(&slot->turn, memory_order_relaxed) == 2 * n + 2;
}

static int
add_sample(struct bh_profile *p, const struct sample *s, bool labelled)
{
    struct bh_profile_label l[4];
    int64_t                 values[] = { s->weight, (int64_t)s->weight * PERIOD };
    char                    trace[33];
    int                     n = 0;

    ob_hex(s->trace_id, trace);
    if (s->route != NULL)
        l[n++] = (struct bh_profile_label){ .key = "route", .text = s->route };
    if (trace[0] != '\0')
        l[n++] = (struct bh_profile_label){ .key = "trace_id", .text = trace };
    if (s->scheduler)
        l[n++] = (struct bh_profile_label){ .key = "runtime", .text = "scheduler" };
    if (labelled && s->goroutine != 0)
        l[n++] = (struct bh_profile_label){ .key = "goid", .number = (int64_t)s->goroutine };
    return bh_profile_add(p, s->pcs, s->depth, values, l, n);
}

/* What the ring has of from <= time < to. */
static int
add_window(struct bh_profile *p, int64_t from, int64_t to, bool labelled)
{
    uint64_t head = atomic_load_explicit(&ring.head, memory_order_acquire);
    uint64_t n = head > ring.slot_count ? head - ring.slot_count : 0;
    int      rc = 0;

    for (; rc == 0 && n < head; n++) {
        struct sample s;

        if (read_sample(n, &s) && s.time >= from && s.time < to)
            rc = add_sample(p, &s, labelled);
    }
    return rc;
}

/* From now on, for o->duration; the ring is read before it can be full. */
static int
follow(struct bh_profile *p, const struct bh_profile_options *o, int64_t from)
{
    int64_t end = from + o->duration, at = from;
    int     rc = 0;

    while (rc == 0 && at < end) {
        int64_t next = end - at > ring.portion ? at + ring.portion : end, wait = next - now();

        if (wait > 0)
            rc = ob_wait(wait, o->ctx);
        if (rc == 0)
            rc = add_window(p, at, next, o->labelled);
        at = next;
    }
    return rc;
}

int
ob_collect_cpu(const struct bh_profile_options *o, void *arg, struct bh_profile **p)
{
    static const struct bh_profile_type types[] = { { "samples", "count" },
                                                    { "cpu", "nanoseconds" } };
    struct bh_profile *new;
    int64_t to = now(), from = to - KEPT, unix_now = ob_unix_now();
    int     rc;

    (void)arg;
    if (!atomic_load(&ring.on))
        return -EAGAIN;
    new = bh_profile_new(types, 2);
    if (new == NULL)
        return -ENOMEM;
    (void)pthread_mutex_lock(&lock);
    if (atomic_load(&ring.on))
        (void)find_threads(); /* plain threads started since */
    (void)pthread_mutex_unlock(&lock);
    bh_profile_period(new, "cpu", "nanoseconds", PERIOD);
    if (o->duration > 0) {
        bh_profile_time(new, unix_now, o->duration);
        rc = follow(new, o, to);
    } else {
        from = from > ring.since ? from : ring.since;
        bh_profile_time(new, unix_now - (to - from), to - from);
        rc = add_window(new, from, to, o->labelled);
    }
    if (rc != 0) {
        bh_profile_free(new);
        return rc;
    }
    *p = new;
    return 0;
}
