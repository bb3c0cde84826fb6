/*
 * log_writer.c -- the thread that turns records into lines and writes them.
 *
 *     forever:  drain    under `draining`: the oldest record of all rings, again and again, into
 *                        the buffer (and to the exporter), until rings are empty or it is full
 *               write    what the output takes, without ever getting stuck in it
 *               nap      10 ms; after a second without lines, sleep until woken
 *
 * Callers wake the thread only for what cannot wait (errors, a ring half full), or out of
 * sleep. A wake-up that is missed, by the store and the load passing each other, costs a
 * second at most.
 *
 * The output may be anything: a pipe whose reader is stopped, a full disk, a closed
 * descriptor.  poll says when it takes bytes, and to what may block no more than a page is
 * written at a time, which a pipe that is ready takes whole.  Its mode is not changed: others
 * have it open too.  When it fails, what is in the buffer is lost and counted, and tried anew
 * with the next lines.  While it takes nothing, lines stay in the rings and then are dropped
 * by who logs; but if they are exported too, the thread goes on draining for the exporter's
 * sake, and counts them as OUTPUT_STUCK.
 *
 * At a crash bh_log_crash drains in place of the thread: it waits shortly for `draining`,
 * never gives it back, and writes by itself.  If it is the thread that crashed, it need not
 * wait.
 */

#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/observe/export.h>
#include <bulkhead/observe/metrics.h>

#include "log_ring.h"

enum { BUFFER = 64 << 10, PAGE = 4096, REAP_ROUNDS = 100, MIN_RING = 4096 };
#define NAP_NS    INT64_C(10000000)
#define SECOND_NS INT64_C(1000000000)
#define TELL_NS   (10 * SECOND_NS) /* between two lines about drops */
#define CRASH_NS  (SECOND_NS / 2)

enum rest { AWAKE, NAPPING, ASLEEP }; /* what the thread does */
enum went { WROTE, STUCK, FAILED };

static struct {
    pthread_t         thread;
    _Atomic bool      running; /* start and stop, one at a time */
    int               fd;
    bool              plain_file; /* a write to it does not hang */
    bool              exported, has_signals;
    enum ob_log_style style;
    _Atomic bool      stopping, crashing, finished;
    _Atomic uint32_t  rest;
    _Atomic int32_t   draining; /* thread id of who drains and writes; 0: nobody */
    _Atomic uint64_t  emptied;  /* rounds after which nothing was left in the buffer */
    _Atomic uint64_t  written, bytes, sent;

    /* Of who drains. */
    char     buffer[BUFFER];
    size_t   used, done;  /* from done to used is to be written */
    unsigned lines;       /* ends of lines in there */
    bool     in_line;     /* the output ends in the midst of a line */
    bool     owes_end;    /* so the buffer begins with its end, which is not counted */
    int64_t  stuck_since; /* 0: it is not */
    uint64_t told;        /* drops that the log tells of */
    int64_t  told_at;
} w;

static int64_t
now(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * SECOND_NS + t.tv_nsec;
}

static void
count(_Atomic uint64_t *n, uint64_t more)
{
    (void)atomic_fetch_add_explicit(n, more, memory_order_relaxed);
}

/* ---- sleeping -------------------------------------------------------------------- */

void
ob_log_wake(bool urgent)
{
    uint32_t rest = atomic_load_explicit(&w.rest, memory_order_relaxed);

    if (__builtin_expect(rest == AWAKE || (rest == NAPPING && !urgent), 1))
        return;
    if (atomic_exchange_explicit(&w.rest, AWAKE, memory_order_relaxed) != AWAKE)
        (void)syscall(SYS_futex, &w.rest, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
}

static void
doze(enum rest rest, int64_t ns)
{
    struct timespec t = { ns / SECOND_NS, ns % SECOND_NS };

    atomic_store_explicit(&w.rest, rest, memory_order_relaxed);
    (void)syscall(SYS_futex, &w.rest, FUTEX_WAIT_PRIVATE, rest, &t, NULL, 0);
    atomic_store_explicit(&w.rest, AWAKE, memory_order_relaxed);
}

/* For others who wait for the thread. */
static void
pause_caller(void)
{
    if (bh_self() != NULL)
        bh_sleep(SECOND_NS / 1000);
    else
        (void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
}

/* ---- draining -------------------------------------------------------------------- */

/* Rings with lines, and the oldest of each. */
struct heads {
    int count;
    struct {
        struct ob_log_ring         *ring;
        uint64_t                    head;
        const struct bh_log_record *first;
    } at[OB_RINGS];
};

static void
look(struct heads *h)
{
    h->count = 0;
    for (int i = 0; i < OB_RINGS; i++) {
        struct ob_log_ring *ring = &ob_log_rings[i];
        uint64_t            head = atomic_load_explicit(&ring->head, memory_order_acquire);
        const struct bh_log_record *first = ob_log_ring_first(ring, head);

        if (first == NULL)
            continue;
        h->at[h->count].ring = ring;
        h->at[h->count].head = head;
        h->at[h->count++].first = first;
    }
}

/* The oldest line of all; -1 if there is none.  (Few threads log much: a search will do.) */
static int
oldest(const struct heads *h)
{
    int best = -1;

    for (int i = 0; i < h->count; i++) {
        if (best < 0 || h->at[i].first->time_ns < h->at[best].first->time_ns)
            best = i;
    }
    return best;
}

static void
advance(struct heads *h, int i)
{
    ob_log_ring_pop(h->at[i].ring);
    h->at[i].first = ob_log_ring_first(h->at[i].ring, h->at[i].head);
    if (h->at[i].first == NULL)
        h->at[i] = h->at[--h->count];
}

static void
add_line(const struct bh_log_record *r)
{
    w.used += ob_log_format(w.buffer + w.used, r, w.style);
    w.lines++;
}

static bool
is_full(void)
{
    return w.used + OB_LOG_TEXT_MAX + 1 > BUFFER;
}

/* Returns: how many lines left the rings. */
static unsigned
drain(bool exported)
{
    static struct heads h; /* of who drains; a crash may have little stack */
    unsigned            taken = 0;

    look(&h);
    for (int i; (i = oldest(&h)) >= 0; advance(&h, i)) {
        bool stuck = is_full();

        if (stuck && (!exported || w.stuck_since == 0 || now() - w.stuck_since < SECOND_NS))
            break;
        if (exported) {
            bh_export_log(h.at[i].first);
            count(&w.sent, 1);
        }
        if (stuck)
            count(&ob_log_dropped[BH_LOG_OUTPUT_STUCK], 1);
        else
            add_line(h.at[i].first);
        taken++;
    }
    return taken;
}

/* ---- writing --------------------------------------------------------------------- */

/* So much was written.  Returns: how many lines are complete by it. */
static unsigned
advance_output(size_t size)
{
    unsigned lines = 0;

    for (size_t i = 0; i < size; i++)
        lines += w.buffer[w.done + i] == '\n';
    if (w.owes_end) {
        w.owes_end = false;
        lines--;
    }
    w.done += size;
    w.in_line = w.buffer[w.done - 1] != '\n';
    w.lines -= lines < w.lines ? lines : w.lines;
    return lines;
}

static void
compact(void)
{
    if (w.done == 0)
        return;
    w.used -= w.done;
    memmove(w.buffer, w.buffer + w.done, w.used);
    w.done = 0;
}

/* What there is is lost.  The next line begins a line. */
static void
lose(enum bh_log_drop why)
{
    count(&ob_log_dropped[why], w.lines);
    w.used = w.done = 0;
    w.lines = 0;
    w.owes_end = w.in_line;
    if (w.owes_end)
        w.buffer[w.used++] = '\n';
    w.stuck_since = 0;
}

/* Write what is there, waiting for at most ns until some of it is taken. */
static enum went
write_some(int64_t ns)
{
    struct pollfd p = { .fd = w.fd, .events = POLLOUT };
    size_t        left = w.used - w.done, size = w.plain_file || left < PAGE ? left : PAGE;
    ssize_t       n;
    int           ready = w.plain_file ? 1 : poll(&p, 1, (int)(ns / 1000000));

    if (ready == 0 || (ready < 0 && errno == EINTR))
        return STUCK;
    n = write(w.fd, w.buffer + w.done, size);
    if (n < 0 && (errno == EINTR || errno == EAGAIN))
        return STUCK;
    if (n <= 0) {
        lose(BH_LOG_OUTPUT_FAILED);
        return FAILED;
    }
    count(&w.written, advance_output((size_t)n));
    count(&w.bytes, (uint64_t)n);
    return WROTE;
}

/* Write all of it, or what is possible without waiting for longer than ns. */
static enum went
write_all(int64_t ns)
{
    enum went went = WROTE;

    while (w.lines > 0 && went == WROTE)
        went = write_some(ns);
    if (went != STUCK)
        w.stuck_since = 0;
    else if (w.stuck_since == 0)
        w.stuck_since = now();
    return went;
}

/* ---- telling of drops ------------------------------------------------------------ */

static uint64_t
dropped(enum bh_log_drop why)
{
    uint64_t n = atomic_load_explicit(&ob_log_dropped[why], memory_order_relaxed);

    for (int i = 0; i < OB_RINGS; i++)
        n += atomic_load_explicit(&ob_log_rings[i].dropped[why], memory_order_relaxed);
    return n;
}

/* A line that says how many were dropped, if that is news. */
static void
tell_drops(void)
{
    _Alignas(8) char      memory[512];
    struct bh_log_record *r;
    uint64_t              n[BH_LOG_DROPS], sum = 0;
    int64_t               t = now();

    if (is_full() || (w.told_at != 0 && t - w.told_at < TELL_NS))
        return;
    for (int i = 0; i < BH_LOG_DROPS; i++)
        sum += n[i] = dropped((enum bh_log_drop)i);
    if (sum == w.told)
        return;
    w.told = sum;
    w.told_at = t;
    r = bh_log_record_init(memory, sizeof memory, BH_WARN);
    bh_log_record_text(r, BH_ITEM_BODY, "", "log lines dropped", 17);
    for (int i = 0; i < BH_LOG_DROPS; i++) {
        const char *name = bh_log_drop_name((enum bh_log_drop)i);

        if (n[i] != 0)
            bh_log_record_put(r, &(struct bh_item){ .role = BH_ITEM_ATTRIBUTE,
                                                    .type = BH_ITEM_INT,
                                                    .key = name,
                                                    .key_size = strlen(name),
                                                    .number = (int64_t)n[i] });
    }
    add_line(r);
}

/* ---- the thread ------------------------------------------------------------------ */

/* Returns: false where a crash has taken over: for ever. */
static bool
begin_draining(void)
{
    int32_t nobody = 0;

    return !atomic_load(&w.crashing) &&
           atomic_compare_exchange_strong(&w.draining, &nobody, (int32_t)syscall(SYS_gettid));
}

static void *
run(void *arg)
{
    int64_t last_line = now();

    (void)arg;
    for (unsigned round = 0; begin_draining(); round++) {
        bool      stopping = atomic_load(&w.stopping), more;
        unsigned  taken;
        enum went went;

        compact();
        taken = drain(w.exported);
        more = is_full();
        tell_drops();
        went = write_all(stopping ? 0 : SECOND_NS / 20);
        if (w.lines == 0)
            (void)atomic_fetch_add(&w.emptied, 1);
        atomic_store(&w.draining, 0);
        if (stopping && (taken == 0 || went == STUCK))
            break;
        if (taken > 0)
            last_line = now();
        if (taken == 0 || round % REAP_ROUNDS == 0)
            ob_log_rings_reap();
        if (!more && !stopping && went != STUCK) { /* else it has waited in poll */
            bool idle = now() - last_line > SECOND_NS;

            doze(idle ? ASLEEP : NAPPING, idle ? SECOND_NS : NAP_NS);
        }
    }
    if (atomic_load(&w.stopping) && !atomic_load(&w.crashing))
        lose(BH_LOG_OUTPUT_STUCK);
    atomic_store(&w.finished, true);
    return NULL;
}

/* ---- a crash --------------------------------------------------------------------- */

/* Become who drains.  Returns: false if the thread does not let go: it hangs in the output. */
static bool
take_over(void)
{
    int32_t self = (int32_t)syscall(SYS_gettid);
    int64_t end = now() + CRASH_NS;

    ob_log_open(false);
    for (;;) {
        int32_t owner = 0;

        if (atomic_compare_exchange_strong(&w.draining, &owner, self) || owner == self)
            return true;
        if (now() > end)
            return false;
        (void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    }
}

void
bh_log_crash(const char *text, int length)
{
    static _Alignas(8) char memory[BH_LOG_RECORD_MAX];
    int64_t                 end = now() + CRASH_NS;
    struct bh_log_record   *r;
    unsigned                taken;

    if (!w.running || atomic_exchange(&w.crashing, true) || !take_over())
        return;
    if (w.done > w.used ||
        w.used > BUFFER) /* the thread itself has crashed, in the midst of it */
        w.done = w.used = w.lines = 0;
    do {
        compact();
        taken = drain(false);
    } while (write_all(SECOND_NS / 20) == WROTE && taken > 0 && now() < end);
    compact();
    if (is_full() || length < 0)
        return;
    r = bh_log_record_init(memory, sizeof memory, BH_FATAL);
    bh_log_record_text(r, BH_ITEM_BODY, "", "crash", 5);
    bh_log_record_text(r, BH_ITEM_ATTRIBUTE, "text", text, (size_t)length);
    add_line(r);
    (void)write_all(SECOND_NS / 20);
}

/* ---- metrics and signals ----------------------------------------------------------- */

static struct {
    struct bh_series *written, *bytes, *dropped[BH_LOG_DROPS];
} metrics;

static void
collect(void *arg)
{
    struct bh_log_stats stats;

    (void)arg;
    bh_log_stats(&stats);
    bh_metric_set(metrics.written, (double)stats.written);
    bh_metric_set(metrics.bytes, (double)stats.bytes);
    for (int i = 0; i < BH_LOG_DROPS; i++)
        bh_metric_set(metrics.dropped[i], (double)stats.dropped[i]);
}

/* A log without metrics is still a log: errors do not matter. */
static void
make_metrics(void)
{
    struct bh_metric_options o = { .kind = BH_COUNTER, .pulled = true };
    struct bh_metric        *m = NULL;

    if (metrics.written != NULL)
        return;
    o.name = "bulkhead.log.lines";
    o.help = "Log lines written.";
    o.unit = "{line}";
    if (bh_metric_new(&o, &m) == 0)
        metrics.written = bh_metric_series(m, NULL, 0);
    o.name = "bulkhead.log.size";
    o.help = "Bytes of log lines written.";
    o.unit = "By";
    if (bh_metric_new(&o, &m) == 0)
        metrics.bytes = bh_metric_series(m, NULL, 0);
    o.name = "bulkhead.log.dropped";
    o.help = "Log lines dropped, by reason.";
    o.unit = "{line}";
    o.labels = (const char *const[]){ "reason", NULL };
    if (bh_metric_new(&o, &m) == 0) {
        for (int i = 0; i < BH_LOG_DROPS; i++)
            metrics.dropped[i] = bh_metric_with(m, bh_log_drop_name((enum bh_log_drop)i));
    }
    (void)bh_metric_collect(collect, NULL);
}

/* One step of levels: SIGUSR1 logs more, SIGUSR2 less. */
static void
step_level(int number)
{
    int level = bh_log_level(), step = BH_DEBUG - BH_TRACE;

    level += number == SIGUSR1 ? -step : step;
    if (level < BH_TRACE || level > BH_FATAL)
        return;
    bh_log_set_level(level);
}

static void
listen_to_signals(bool on)
{
    struct sigaction a = { .sa_flags = SA_RESTART | SA_ONSTACK };

    a.sa_handler = on ? step_level : SIG_DFL;
    (void)sigaction(SIGUSR1, &a, NULL);
    (void)sigaction(SIGUSR2, &a, NULL);
}

/* ---- life ------------------------------------------------------------------------ */

/* Take over what the options say.  Returns: 0 or an error, noted. */
static int
configure(const struct bh_log_options *o)
{
    size_t      size = o->ring_size != 0 ? o->ring_size : 256 << 10, power = MIN_RING;
    int         fd = o->fd != 0 ? o->fd : STDERR_FILENO;
    struct stat status;
    bool        people;

    if ((unsigned)o->format > BH_LOG_CONSOLE || o->level < 0 || o->level > BH_LOG_OFF ||
        size < MIN_RING || size > 64 << 20)
        return bh_fail(-EINVAL, "log: an option is out of range");
    if (fstat(fd, &status) != 0)
        return bh_fail(-errno, "log: descriptor %d", fd);
    while (power < size)
        power *= 2;
    if (ob_log_rings_make(power) != 0)
        return bh_fail(-ENOMEM, "log: no memory for rings");
    people = o->format == BH_LOG_CONSOLE || (o->format == BH_LOG_AUTO && isatty(fd));
    w.style = !people ? OB_LOG_JSON : isatty(fd) ? OB_LOG_COLOURED : OB_LOG_PLAIN;
    if (fd != w.fd) { /* what the other one still wants is nothing to this one */
        w.in_line = w.owes_end = false;
        w.used = 0;
    }
    w.fd = fd;
    w.plain_file = S_ISREG(status.st_mode);
    w.exported = o->exported;
    w.has_signals = o->signals;
    return 0;
}

static int
start_thread(void)
{
    sigset_t all, old;
    int      rc;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&w.thread, NULL, run, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    if (rc == 0)
        (void)pthread_setname_np(w.thread, "bh-log");
    return -rc;
}

int
bh_log_start(const struct bh_log_options *options)
{
    static const struct bh_log_options defaults;
    const struct bh_log_options       *o = options != NULL ? options : &defaults;
    int                                rc;

    if (w.running)
        return bh_fail(-EALREADY, "log: it runs");
    rc = configure(o);
    if (rc != 0)
        return rc;
    atomic_store(&w.stopping, false);
    atomic_store(&w.finished, false);
    rc = start_thread();
    if (rc != 0)
        return bh_fail(rc, "log: no thread");
    w.running = true;
    bh_log_set_level(o->level != 0 ? o->level : BH_INFO);
    if (w.has_signals)
        listen_to_signals(true);
    make_metrics();
    ob_log_open(true);
    return 0;
}

/* Whether all rings are drained up to these places. */
static bool
is_past(const uint64_t heads[OB_RINGS])
{
    for (int i = 0; i < OB_RINGS; i++) {
        if (atomic_load_explicit(&ob_log_rings[i].tail, memory_order_acquire) < heads[i])
            return false;
    }
    return true;
}

int
bh_log_flush(int64_t timeout)
{
    uint64_t heads[OB_RINGS], emptied = 0;
    int64_t  end = now() + timeout;
    bool     past = false;

    if (!w.running)
        return bh_fail(-ESHUTDOWN, "log: it does not run");
    for (int i = 0; i < OB_RINGS; i++)
        heads[i] = atomic_load_explicit(&ob_log_rings[i].head, memory_order_acquire);
    for (;;) {
        ob_log_wake(true);
        if (past && atomic_load(&w.emptied) != emptied)
            return 0;
        if (!past && is_past(heads)) {
            /* They are written, or in the buffer of the round that ends next. */
            emptied = atomic_load(&w.emptied);
            past = true;
        }
        if (now() >= end || atomic_load(&w.finished))
            return bh_fail(-ETIMEDOUT, "log: the output did not take all lines in time");
        pause_caller();
    }
}

int
bh_log_stop(int64_t timeout)
{
    int64_t end;
    int     rc;

    if (!w.running)
        return bh_fail(-ESHUTDOWN, "log: it does not run");
    ob_log_open(false);
    rc = bh_log_flush(timeout);
    end = now() + SECOND_NS;
    atomic_store(&w.stopping, true);
    while (!atomic_load(&w.finished) && now() < end) {
        ob_log_wake(true);
        pause_caller();
    }
    if (!atomic_load(&w.finished)) /* it hangs in the output: the next start would meet it */
        return bh_fail(-ETIMEDOUT, "log: the output hangs");
    (void)pthread_join(w.thread, NULL);
    if (w.has_signals)
        listen_to_signals(false);
    w.running = false;
    return rc;
}

void
bh_log_stats(struct bh_log_stats *stats)
{
    *stats = (struct bh_log_stats){
        .written = atomic_load(&w.written),
        .bytes = atomic_load(&w.bytes),
        .exported = atomic_load(&w.sent),
        .waiting = ob_log_rings_waiting(),
    };
    for (int i = 0; i < BH_LOG_DROPS; i++)
        stats->dropped[i] = dropped((enum bh_log_drop)i);
    for (int i = 0; i < OB_RINGS; i++)
        stats->cut += atomic_load_explicit(&ob_log_rings[i].cut, memory_order_relaxed);
}
