/*
 * report.c -- what reports need: the right to write one, the writing itself, and
 * holding other threads still.
 *
 * A report may be about a process that is dying of a damaged heap, in a signal
 * handler.  So nothing here allocates, uses stdio, or takes a lock of libc or of the
 * runtime.  One lock, `owner`, covers all static memory of report.c, traceback.c,
 * symbol.c, dwarf.c and unwind.c.  It is held from rt_report_begin to
 * rt_report_end, outside every other lock; a thread that crashes while it holds the lock
 * finds that out (rt_report_mine) instead of waiting for itself.
 *
 * To see the stack of a goroutine that runs on another thread, that thread is
 * sent a real-time signal.  m->capture_state, one word per M:
 *
 *              ask                 handler              go on
 *     FREE ----------> ASKED ---------------> STOPPED ----------> FREE
 *       ^                |  no answer in time
 *       +----------------+
 *
 * Both sides move it by compare and exchange, so a handler that comes late finds
 * FREE and returns.  m->capture is the handler's context, valid while STOPPED.
 *
 * Who only wants to know where a thread is (rt_thread_peek) need not hold it: the
 * handler itself takes the question from m->peek, writes the answer and returns.
 * The question lives on the asker's stack; whoever takes it out of m->peek, the
 * handler or an asker out of patience, is the one who may end it.
 */

#include "report.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum {
    OUT_SIZE = 4096,
    STOP_NS = 100 * 1000 * 1000, /* patience with a thread that is asked to stop */
    FREEZE_NS = 200 * 1000 * 1000, /* with all of them */
    WRITE_WAIT_MS = 1000 /* with a full, non-blocking descriptor */
};

static _Atomic uint32_t owner; /* thread id; 0: free */
static bool             frozen;
static struct {
    int    fd, copy_fd;
    size_t used, head_used;
    bool   collect_head;
    bool   capturing; /* RT_G_CAPTURING was set before */
    char   text[OUT_SIZE];
    char   head[RT_HEAD_SIZE];
    sigset_t signals; /* blocked before */
} out;

static uint32_t
self(void)
{
    return (uint32_t)syscall(SYS_gettid);
}

static void
futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t ns)
{
    struct timespec t = { ns / 1000000000, ns % 1000000000 };

    syscall(SYS_futex, word, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, value, &t, NULL, 0);
}

static void
futex_wake(_Atomic uint32_t *word)
{
    syscall(SYS_futex, word, FUTEX_WAKE | FUTEX_PRIVATE_FLAG, INT32_MAX, NULL, NULL, 0);
}

/* ---- the right to write --------------------------------------------------- */

void
rt_thread_block_signals(void *old)
{
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS };
    sigset_t         all;

    sigfillset(&all);
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        sigdelset(&all, faults[i]);
    pthread_sigmask(SIG_SETMASK, &all, old);
}

/* guard -- while we write, a fault of ours must not become a panic: nobody would end the report. */
static void
guard(bool on)
{
    struct bh_g *g = rt_g();

    if (g == NULL)
        return;
    if (on) {
        out.capturing = (g->flags & RT_G_CAPTURING) != 0;
        g->flags |= RT_G_CAPTURING;
    } else if (!out.capturing) {
        g->flags &= (uint8_t)~RT_G_CAPTURING;
    }
}

bool
rt_report_mine(void)
{
    return atomic_load(&owner) == self();
}

void
rt_report_redirect(int fd, int copy_fd)
{
    rt_put_flush();
    out.fd = fd;
    out.copy_fd = copy_fd;
}

void
rt_report_begin(int fd, int copy_fd)
{
    sigset_t old;
    uint32_t me = self(), holder = 0;

    rt_thread_block_signals(&old);
    while (!atomic_compare_exchange_strong(&owner, &holder, me)) {
        futex_wait(&owner, holder, 100000000);
        holder = 0;
    }
    out.signals = old;
    guard(true);
    out.fd = fd;
    out.copy_fd = copy_fd;
    out.used = out.head_used = 0;
    out.collect_head = true;
    rt_symbol_open();
}

void
rt_report_end(void)
{
    sigset_t old = out.signals;

    rt_put_flush();
    rt_symbol_close();
    guard(false);
    atomic_store(&owner, 0);
    futex_wake(&owner);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

/* ---- writing -------------------------------------------------------------- */

static void
write_all(int fd, const char *text, size_t length)
{
    while (length > 0) {
        ssize_t n = write(fd, text, length);

        if (n > 0) {
            text += n;
            length -= (size_t)n;
        } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
            return; /* closed, or the other end has gone: nobody can be told */
        } else if (errno == EAGAIN) {
            struct pollfd p = { .fd = fd, .events = POLLOUT };

            if (poll(&p, 1, WRITE_WAIT_MS) == 0)
                return;
        }
    }
}

void
rt_put_flush(void)
{
    write_all(out.fd, out.text, out.used);
    if (out.copy_fd >= 0 && out.copy_fd != out.fd)
        write_all(out.copy_fd, out.text, out.used);
    out.used = 0;
}

static void
put_bytes(const char *text, size_t length)
{
    if (out.collect_head) {
        size_t n = length <= RT_HEAD_SIZE - out.head_used ? length : RT_HEAD_SIZE - out.head_used;

        memcpy(out.head + out.head_used, text, n);
        out.head_used += n;
    }
    while (length > 0) {
        if (out.used == OUT_SIZE)
            rt_put_flush();
        size_t n = length <= OUT_SIZE - out.used ? length : OUT_SIZE - out.used;
        memcpy(out.text + out.used, text, n);
        out.used += n;
        text += n;
        length -= n;
    }
}

void
rt_put(const char *text)
{
    put_bytes(text, strlen(text));
}

static void
put_digits(uint64_t n, unsigned base)
{
    char   digits[24];
    size_t at = sizeof digits;

    do {
        digits[--at] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n > 0);
    put_bytes(digits + at, sizeof digits - at);
}

void
rt_put_number(uint64_t n)
{
    put_digits(n, 10);
}

void
rt_put_hex(uintptr_t n)
{
    rt_put("0x");
    put_digits(n, 16);
}

void
rt_put_indented(const char *text)
{
    for (const char *end; (end = strchr(text, '\n')) != NULL; text = end + 1) {
        put_bytes(text, (size_t)(end + 1 - text));
        rt_put("\t");
    }
    rt_put(text);
}

const char *
rt_report_head(int *length)
{
    *length = (int)out.head_used;
    return out.head;
}

void
rt_report_head_end(void)
{
    out.collect_head = false;
}

/* ---- other threads -------------------------------------------------------- */

enum { FREE, ASKED, STOPPED };

static int
stop_signal(void)
{
    return SIGRTMIN + 1;
}

/* What comes before what.  Not RT_PEEK: a sanitizer shall see it, and that nothing else orders the two. */
static void
set_done(struct rt_peek *peek, bool done)
{
    atomic_store(&peek->done, done);
}

static bool
is_done(struct rt_peek *peek)
{
    return atomic_load(&peek->done) != 0;
}

/* answer_peek -- from the signal handler on m's own thread: whose stack, and what is on it. */
__attribute__((no_sanitize("address"))) RT_PEEK static void
answer_peek(struct rt_m *m, const void *ucontext)
{
    struct rt_peek *peek = atomic_exchange(&m->peek, NULL);
    struct bh_g    *g = m->g;

    if (peek == NULL || is_done(peek))
        return;
    rt_regs_context(&peek->regs, ucontext);
    uintptr_t sp = peek->regs.r[RT_REG_SP];
    peek->goroutine = 0;
    if (g != NULL && g->stack != NULL && sp >= (uintptr_t)g->stack->lo &&
        sp < (uintptr_t)g->stack) {
        peek->goroutine = atomic_load(&g->id);
        peek->hi = (uintptr_t)g->stack;
        peek->lo = rt_walk_lo(sp) & ~(sizeof sp - 1);
        peek->size = peek->hi - peek->lo < peek->room ? peek->hi - peek->lo : peek->room;
        for (size_t i = 0; i + sizeof sp <= peek->size; i += sizeof sp)
            *(uintptr_t *)(void *)(peek->copy + i) = *(const volatile uintptr_t *)(peek->lo + i);
    }
    set_done(peek, true);
    futex_wake(&peek->done); /* *peek may be gone by now: it is but an address to the kernel */
}

RT_PEEK static void
on_stop(int signal, siginfo_t *info, void *ucontext)
{
    int          saved = errno;
    struct rt_m *m = rt_m();
    uint32_t     asked = ASKED;

    (void)signal;
    (void)info;
    if (m == NULL)
        return;
    if (atomic_load(&m->peek) != NULL)
        answer_peek(m, ucontext);
    m->capture = ucontext;
    if (atomic_compare_exchange_strong(&m->capture_state, &asked, STOPPED)) {
        futex_wake(&m->capture_state);
        while (atomic_load(&m->capture_state) == STOPPED)
            futex_wait(&m->capture_state, STOPPED, 1000000000);
    }
    errno = saved;
}

void
rt_thread_init(void)
{
    struct sigaction sa = { .sa_sigaction = on_stop, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART };

    sigfillset(&sa.sa_mask);
    sigdelset(&sa.sa_mask, SIGSEGV);
    sigdelset(&sa.sa_mask, SIGBUS);
    sigaction(stop_signal(), &sa, NULL);
}

static int64_t
real_now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

RT_PEEK static bool
ask(struct rt_m *m)
{
    uint32_t free = FREE;

    if (m->tid == 0 || (uint32_t)m->tid == self())
        return false;
    if (!atomic_compare_exchange_strong(&m->capture_state, &free, ASKED))
        return free == STOPPED;
    if (syscall(SYS_tgkill, getpid(), m->tid, stop_signal()) == 0)
        return true;
    atomic_store(&m->capture_state, FREE);
    return false;
}

RT_PEEK static bool
await(struct rt_m *m, int64_t until)
{
    uint32_t asked = ASKED;

    for (;;) {
        int64_t left = until - real_now();

        if (atomic_load(&m->capture_state) == STOPPED)
            return true;
        if (left <= 0)
            return !atomic_compare_exchange_strong(&m->capture_state, &asked, FREE) &&
                   asked == STOPPED;
        futex_wait(&m->capture_state, ASKED, left);
    }
}

RT_PEEK bool
rt_thread_stop(struct rt_m *m)
{
    return ask(m) && await(m, real_now() + STOP_NS);
}

RT_PEEK bool
rt_thread_peek(struct rt_m *m, struct rt_peek *peek)
{
    struct rt_peek *none = NULL, *ours = peek;
    int64_t         until = real_now() + STOP_NS;

    if (m->tid == 0 || (uint32_t)m->tid == self())
        return false;
    set_done(peek, false);
    while (!atomic_compare_exchange_strong(&m->peek, &none, peek)) { /* another one asks */
        if (real_now() > until)
            return false;
        none = NULL;
        sched_yield();
    }
    bool sent = syscall(SYS_tgkill, getpid(), m->tid, stop_signal()) == 0;
    while (!is_done(peek)) {
        int64_t left = until - real_now();

        /* Once the handler has it, it will be done: for as long as it may take. */
        if ((!sent || left <= 0) && atomic_compare_exchange_strong(&m->peek, &ours, NULL))
            return false;
        ours = peek;
        futex_wait(&peek->done, 0, left > 0 ? left : 1000000);
    }
    return true;
}

RT_PEEK void
rt_thread_go_on(struct rt_m *m)
{
    atomic_store(&m->capture_state, FREE);
    futex_wake(&m->capture_state);
}

RT_PEEK void
rt_thread_regs(struct rt_m *m, struct rt_regs *regs)
{
    rt_regs_context(regs, m->capture);
}

RT_PEEK bool
rt_thread_is_stopped(struct rt_m *m)
{
    return atomic_load(&m->capture_state) == STOPPED;
}

bool
rt_threads_frozen(void)
{
    return frozen;
}

RT_PEEK void
rt_threads_freeze(void)
{
    int64_t until;

    frozen = true;

    for (struct rt_m *m = rt_sched.all_m; m != NULL; m = m->all_next)
        (void)ask(m);
    until = real_now() + FREEZE_NS;
    for (struct rt_m *m = rt_sched.all_m; m != NULL; m = m->all_next)
        if (atomic_load(&m->capture_state) != FREE)
            (void)await(m, until);
}
