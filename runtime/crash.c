/*
 * crash.c -- how a process ends that cannot go on: what is written, and the
 * status.
 *
 *     event                    first line                          then
 *     uncaught panic           panic: TEXT                         this goroutine
 *     fatal error              fatal error: TEXT                   all goroutines
 *     fault, not recoverable   fatal error: fault, [signal ...]    all goroutines
 *     deadlock                 fatal error: all goroutines ...     all goroutines
 *     SIGQUIT, sent signals    SIGQUIT: quit, PC=...               all, registers
 *
 * All end with status 2 (SIGABRT at level "crash").  BH_TRACEBACK, raised by
 * bh_set_traceback, says how much is shown: "none", "single" (the default; all
 * goroutines for fatal errors), "all", "system" (the runtime's frames and
 * goroutines too), "crash" (as system, and a core).
 *
 * The texts of panic values are taken before anything else, by calling their
 * error or string functions on the panicking goroutine, as in Go: they may
 * print, yield, exit the process, or end the goroutine, which cancels the crash.
 *
 * Then one thread at a time prints (report.c), while the others are held still:
 * a second crash waits for the first to finish and prints after it.  A failure of
 * the printing itself ends the process with status 4, failing again with 5.
 *
 * After Go's runtime/panic.go (printpanics, startpanic_m, dopanic_m), with the
 * choices of newer versions: repanics on one line (1.25), line breaks indented
 * (1.23), pending panics before a fatal error (1.26).
 */

#include "report.h"
#include "lifecycle.h"

#include <bulkhead/go/panic.h>

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

enum { STATUS_CRASH = 2, STATUS_AGAIN = 4, STATUS_THIRD = 5, HANDOVER_SECONDS = 5, FATAL_SIZE = 1024 };

static struct {
    _Atomic int level; /* enum rt_level */
    _Atomic int copy_fd;
    _Atomic int failing; /* threads that print a crash or wait to */
    _Atomic int depth;   /* failures of the thread that prints */
} crash = { .level = RT_LEVEL_SINGLE, .copy_fd = -1 };

/* ---- settings ------------------------------------------------------------- */

/* parse_level -- a word or Go's number for it; -1 for anything else. */
static int
parse_level(const char *word)
{
    static const struct {
        const char   *word;
        enum rt_level level;
    } levels[] = {
        { "none", RT_LEVEL_NONE },     { "0", RT_LEVEL_NONE },    { "single", RT_LEVEL_SINGLE },
        { "all", RT_LEVEL_ALL },       { "1", RT_LEVEL_ALL },     { "system", RT_LEVEL_SYSTEM },
        { "2", RT_LEVEL_SYSTEM },      { "crash", RT_LEVEL_CRASH },
    };

    for (size_t i = 0; i < sizeof levels / sizeof *levels; i++)
        if (strcmp(levels[i].word, word) == 0)
            return (int)levels[i].level;
    return -1;
}

enum rt_level
rt_traceback_level(void)
{
    return (enum rt_level)atomic_load(&crash.level);
}

int
bh_set_traceback(const char *level)
{
    int wanted = parse_level(level), now = atomic_load(&crash.level);

    if (wanted < 0)
        return -EINVAL;
    while (wanted > now && !atomic_compare_exchange_weak(&crash.level, &now, wanted))
        continue;
    return 0;
}

void
bh_set_crash_fd(int fd)
{
    atomic_store(&crash.copy_fd, fd);
}

/* ---- beginning and ending a crash ----------------------------------------- */

static const char *
signal_name(int signal)
{
    switch (signal) {
    case SIGSEGV: return "SIGSEGV: segmentation violation";
    case SIGBUS: return "SIGBUS: bus error";
    case SIGFPE: return "SIGFPE: floating-point exception";
    case SIGILL: return "SIGILL: illegal instruction";
    case SIGABRT: return "SIGABRT: abort";
    case SIGTRAP: return "SIGTRAP: trace trap";
    case SIGSYS: return "SIGSYS: bad system call";
    case SIGQUIT: return "SIGQUIT: quit";
    default: return "signal";
    }
}

void
rt_put_signal_line(int signal, int code, uintptr_t address, uintptr_t pc)
{
    rt_put("[signal ");
    rt_put(signal_name(signal));
    rt_put(" code=");
    rt_put_hex((unsigned)code);
    rt_put(" addr=");
    rt_put_hex(address);
    rt_put(" pc=");
    rt_put_hex(pc);
    rt_put("]\n");
}

/* fail_again -- the printing failed: say what can be said without any work, and go. */
static noreturn void
fail_again(int depth, const struct rt_fault *fault)
{
    if (depth > 2)
        _exit(STATUS_THIRD);
    rt_put("\npanic during panic\n");
    if (fault != NULL)
        rt_put_signal_line(fault->signal, fault->code, fault->addr, fault->pc);
    rt_trace_raw();
    rt_put_flush();
    _exit(STATUS_AGAIN);
}

/* begin -- the right to print, with everyone else held still.  fault: what brought us here, or NULL. */
static void
begin(const struct rt_fault *fault)
{
    rt_thread_block_signals(NULL);
    atomic_fetch_add(&rt_sched.crashing, 1);
    if (rt_report_mine()) {
        int depth = atomic_fetch_add(&crash.depth, 1) + 1;

        if (depth > 1)
            fail_again(depth, fault);
        /* It was writing a dump; this is worse. */
        rt_report_redirect(STDERR_FILENO, atomic_load(&crash.copy_fd));
    } else {
        atomic_fetch_add(&crash.failing, 1);
        rt_report_begin(STDERR_FILENO, atomic_load(&crash.copy_fd));
        atomic_store(&crash.depth, 1);
    }
    rt_threads_freeze();
}

/* die -- of SIGABRT, so that the kernel writes a core.  Not by abort, which is ours (signal.c). */
static noreturn void
die(void)
{
    sigset_t abort_only;

    signal(SIGABRT, SIG_DFL);
    sigemptyset(&abort_only);
    sigaddset(&abort_only, SIGABRT);
    pthread_sigmask(SIG_UNBLOCK, &abort_only, NULL);
    raise(SIGABRT);
    _exit(STATUS_CRASH);
}

/* flush_if_free -- what the program printed before; a thread may have been stopped inside stdio. */
static void
flush_if_free(FILE *f)
{
    if (ftrylockfile(f) == 0) {
        fflush_unlocked(f);
        funlockfile(f);
    }
}

/* end -- sound: the C library can be trusted. */
static noreturn void
end(bool sound)
{
    int         length;
    const char *head = rt_report_head(&length);

    rt_put_flush();
    if (rt_sched.hooks.crash != NULL)
        rt_sched.hooks.crash(head, length);
    if (sound)
        flush_if_free(stdout);
    if (rt_traceback_level() == RT_LEVEL_CRASH)
        die();
    if (atomic_fetch_sub(&crash.failing, 1) > 1) {
        atomic_store(&crash.depth, 0); /* another goroutine crashed meanwhile: let it print */
        rt_report_end();
        rt_thread_block_signals(NULL);
        nanosleep(&(struct timespec){ .tv_sec = HANDOVER_SECONDS }, NULL);
    }
    _exit(STATUS_CRASH);
}

/* end_message -- the lines that say what happened are complete: out with them first. */
static void
end_message(void)
{
    rt_put_flush();
    rt_report_head_end();
}

/* ---- traces --------------------------------------------------------------- */

/* Where the crash happened. */
struct site {
    struct rt_regs regs;
    bool           exact; /* regs are a signal's */
    bool           all;   /* show the others even at level "single" */
};

/* goroutine_at -- the goroutine on whose stack the site is, or NULL: a thread's own. */
static struct bh_g *
goroutine_at(const struct site *s)
{
    struct rt_m    *m = rt_m();
    struct bh_g    *g = m != NULL ? m->g : NULL;
    struct rt_stack *stack = g != NULL ? g->stack : NULL;
    uintptr_t        sp = s->regs.r[RT_REG_SP];

    return stack != NULL && sp >= (uintptr_t)stack->lo && sp < (uintptr_t)stack->top ? g : NULL;
}

static void
put_traces(const struct site *s)
{
    enum rt_level level = rt_traceback_level(), own = level;
    struct rt_m  *m = rt_m();
    struct bh_g  *g = goroutine_at(s);

    if (level == RT_LEVEL_NONE)
        return;
    /* A failure of the runtime itself is about the runtime's frames. */
    if (m != NULL && atomic_load(&m->in_rt) != 0 && own < RT_LEVEL_SYSTEM)
        own = RT_LEVEL_SYSTEM;
    rt_put("\n");
    rt_trace(&(struct rt_origin){ g, &s->regs, s->exact }, own);
    if (s->all || level >= RT_LEVEL_ALL)
        rt_trace_others(g, level);
}

/* ---- the chain of panics -------------------------------------------------- */

/* take_text -- keep the value's text in the record.  Runs application code. */
static void
take_text(struct bh_panic *p)
{
    const char *text = bh_panic_text(p);
    size_t      size;

    if (text == NULL)
        text = "<nil>";
    /* It may lie in a buffer that the next call of the same function reuses. */
    size = strlen(text) + 1;
    if (text != p->buffer_ && p->value != p->buffer_ && size <= sizeof p->buffer_)
        text = memcpy(p->buffer_, text, size);
    p->text = text;
}

/* panicked_while_printing -- fatal; the value that was to be printed is never shown. */
static noreturn void
panicked_while_printing(const struct bh_panic *p)
{
    struct site site = { .all = true };

    rt_regs_caller(&site.regs);
    begin(NULL);
    rt_put("fatal error: panic while printing panic value");
    rt_put(p->kind == &bh_kind_string ? ": " : ": type ");
    rt_put_indented(p->kind == &bh_kind_string ? p->value : p->kind->name);
    rt_put("\n");
    if (p->signal != 0)
        rt_put_signal_line(p->signal, p->code, p->fault_addr, p->pc);
    end_message();
    put_traces(&site);
    end(true);
}

/* take_texts -- newest first.  Does not return if one of them panics, or ends the goroutine. */
static void
take_texts(struct bh_g *g)
{
    BH_RECOVER(p) {
        panicked_while_printing(p);
    }
    for (struct rt_panic *p = g->panics; p != NULL; p = p->link)
        if (!p->goexit)
            take_text(&p->pub);
}

/* safe_text -- the text if it can be had without running application code, else NULL. */
static const char *
safe_text(const struct bh_panic *p)
{
    const struct bh_kind *k = p->kind;
    bool                  calls = k->error != NULL || k->string != NULL;

    if (calls && !k->runtime_error && k != &bh_kind_string && k != &bh_kind_error)
        return NULL;
    return bh_panic_text(p);
}

static void
put_panic(const struct rt_panic *p, bool texts_taken)
{
    const char *text = texts_taken ? p->pub.text : safe_text(&p->pub);

    rt_put("panic: ");
    if (text != NULL) {
        rt_put_indented(text);
    } else {
        rt_put("(");
        rt_put(p->pub.kind->name);
        rt_put(") ");
        rt_put_hex((uintptr_t)p->pub.value);
    }
    if (p->repanicked)
        rt_put(" [recovered, repanicked]");
    else if (p->recovered)
        rt_put(" [recovered]");
    rt_put("\n");
}

/* carries -- whether `again` is a bh_repanic of the older panic p. */
static bool
carries(const struct rt_panic *again, const struct rt_panic *p)
{
    const struct bh_panic *a = &again->pub, *b = &p->pub;

    if (!again->repanicked || !p->recovered || a->kind != b->kind)
        return false;
    if (a->value == a->payload_ && b->value == b->payload_)
        return memcmp(a->payload_, b->payload_, sizeof a->payload_) == 0;
    if (a->value == a->buffer_ && b->value == b->buffer_)
        return strcmp(a->buffer_, b->buffer_) == 0;
    return a->value == b->value;
}

/* put_chain -- the panics in flight, oldest first.  Returns: whether there were any. */
static bool
put_chain(const struct rt_panic *newest, bool texts_taken)
{
    const struct rt_panic *end = NULL, *p, *newer;
    bool                   any = false;

    /* The list runs the other way.  It is short; walk it again for each line. */
    while (newest != end) {
        newer = NULL;
        for (p = newest; p->link != end; p = p->link)
            newer = p;
        end = p;
        if (p->goexit || (newer != NULL && carries(newer, p)))
            continue;
        if (any && !(p->link != NULL && p->link->goexit))
            rt_put("\t");
        put_panic(p, texts_taken);
        any = true;
    }
    return any;
}

/* put_chain_signal -- of the newest fault in the chain, unless a check stands for it in Go. */
static void
put_chain_signal(const struct rt_panic *p)
{
    for (; p != NULL; p = p->link)
        if (!p->goexit && (p->pub.signal == SIGSEGV || p->pub.signal == SIGBUS)) {
            rt_put_signal_line(p->pub.signal, p->pub.code, p->pub.fault_addr, p->pub.pc);
            return;
        }
}

/* put_recover_hint -- why a bh_recover did nothing. */
static void
put_recover_hint(const struct rt_panic *p)
{
    for (; p != NULL; p = p->link)
        if (p->no_landing) {
            rt_put("[bh_recover gave NULL: the function that deferred its caller has no "
                   "BH_RETURNS]\n");
            return;
        }
}

noreturn void
rt_crash_panic(struct bh_g *g)
{
    struct site site = { .all = false };

    take_texts(g);
    rt_panic_tell(g->panics, BH_PANIC_FATAL);
    rt_regs_caller(&site.regs);
    begin(NULL);
    put_chain(g->panics, true);
    put_chain_signal(g->panics);
    put_recover_hint(g->panics);
    end_message();
    put_traces(&site);
    end(true);
}

/* ---- fatal errors --------------------------------------------------------- */

static noreturn void
fatal(const char *text, struct site *site)
{
    struct rt_m *m = rt_m();

    site->all = true;
    begin(NULL);
    if (m != NULL && m->g != NULL && put_chain(m->g->panics, false))
        rt_put("\t");
    rt_put("fatal error: ");
    rt_put_indented(text);
    rt_put("\n");
    if (m != NULL && m->g != NULL)
        put_chain_signal(m->g->panics);
    end_message();
    put_traces(site);
    end(true);
}

noreturn void
rt_throw(const char *format, ...)
{
    struct site site;
    char        text[FATAL_SIZE];
    va_list     args;

    rt_regs_caller(&site.regs);
    site.exact = false;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fatal(text, &site);
}

noreturn void
bh_fatal(const char *format, ...)
{
    struct site site;
    char        text[FATAL_SIZE];
    va_list     args;

    rt_regs_caller(&site.regs);
    site.exact = false;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    fatal(text, &site);
}

noreturn void
rt_crash_deadlock(bool main_exited)
{
    static _Atomic bool said;
    bool                none_left = main_exited && atomic_load(&rt_sched.g_count) == 0;

    while (atomic_exchange(&said, true))
        nanosleep(&(struct timespec){ .tv_sec = HANDOVER_SECONDS }, NULL); /* two Ms saw it */
    begin(NULL);
    rt_put(none_left ? "fatal error: no goroutines (main called runtime.Goexit) - deadlock!\n"
                     : "fatal error: all goroutines are asleep - deadlock!\n");
    end_message();
    if (rt_traceback_level() != RT_LEVEL_NONE)
        rt_trace_others(NULL, rt_traceback_level());
    end(true);
}

/* ---- signals -------------------------------------------------------------- */

static void
put_registers(const void *context)
{
    const ucontext_t *uc = context;

#if defined(__x86_64__)
    static const struct {
        const char *name;
        int         index;
    } registers[] = {
        { "rax    ", REG_RAX }, { "rbx    ", REG_RBX }, { "rcx    ", REG_RCX },
        { "rdx    ", REG_RDX }, { "rdi    ", REG_RDI }, { "rsi    ", REG_RSI },
        { "rbp    ", REG_RBP }, { "rsp    ", REG_RSP }, { "r8     ", REG_R8 },
        { "r9     ", REG_R9 },  { "r10    ", REG_R10 }, { "r11    ", REG_R11 },
        { "r12    ", REG_R12 }, { "r13    ", REG_R13 }, { "r14    ", REG_R14 },
        { "r15    ", REG_R15 }, { "rip    ", REG_RIP }, { "rflags ", REG_EFL },
    };

    rt_put("\n");
    for (size_t i = 0; i < sizeof registers / sizeof *registers; i++) {
        rt_put(registers[i].name);
        rt_put_hex((uintptr_t)uc->uc_mcontext.gregs[registers[i].index]);
        rt_put("\n");
    }
#elif defined(__aarch64__)
    rt_put("\n");
    for (unsigned i = 0; i < 31; i++) {
        rt_put("r");
        rt_put_number(i);
        rt_put(i < 10 ? "     " : "    ");
        rt_put_hex((uintptr_t)uc->uc_mcontext.regs[i]);
        rt_put("\n");
    }
    rt_put("sp     ");
    rt_put_hex((uintptr_t)uc->uc_mcontext.sp);
    rt_put("\npc     ");
    rt_put_hex((uintptr_t)uc->uc_mcontext.pc);
    rt_put("\n");
#endif
}

/* put_signal -- a signal that is no error of the program's: a quit key, kill. */
static void
put_signal(const struct rt_fault *fault)
{
    struct rt_m *m = rt_m();

    rt_put(signal_name(fault->signal));
    rt_put("\nPC=");
    rt_put_hex(fault->pc);
    rt_put(" m=");
    rt_put_number(m != NULL ? (unsigned)m->id : 0);
    rt_put(" sigcode=");
    if (fault->code < 0)
        rt_put("-");
    rt_put_number((unsigned)(fault->code < 0 ? -fault->code : fault->code));
    if (fault->code > 0) {
        rt_put(" addr=");
        rt_put_hex(fault->addr);
    }
    rt_put("\n");
}

noreturn void
rt_crash_fault(const struct rt_fault *fault, void *ucontext, const char *text)
{
    struct site   site = { .exact = true, .all = true };
    enum rt_level level = rt_traceback_level();

    rt_regs_context(&site.regs, ucontext);
    begin(fault);
    if (text == NULL) {
        put_signal(fault);
    } else {
        if (strcmp(text, "fault") == 0) {
            rt_put("unexpected fault address ");
            rt_put_hex(fault->addr);
            rt_put("\n");
        }
        rt_put("fatal error: ");
        rt_put(text);
        rt_put("\n");
        rt_put_signal_line(fault->signal, fault->code, fault->addr, fault->pc);
    }
    end_message();
    if (fault->signal == SIGQUIT && rt_m() == NULL && level < RT_LEVEL_SYSTEM && level > RT_LEVEL_NONE)
        rt_trace_others(NULL, level); /* the thread that took the signal says nothing */
    else
        put_traces(&site);
    if (level != RT_LEVEL_NONE)
        put_registers(ucontext);
    end(false);
}

/* ---- the rest ------------------------------------------------------------- */

/*
 * Go's os.Exit ends at once; its output is not buffered, ours is.  So what was
 * printed to the standard streams is written out, unless another thread is
 * inside them.  Not exit(3): its handlers and the flushing of every stream wait
 * for locks that stopped or blocked goroutines hold.
 */
noreturn void
bh_exit(int status)
{
    /* A crash that has begun is how the process ends: its text must not be cut. */
    while (atomic_load(&crash.failing) != 0 && !rt_report_mine())
        pause();
    flush_if_free(stdout);
    flush_if_free(stderr);
    _exit(status);
}

void
rt_crash_init(void)
{
    const char *word = getenv("BH_TRACEBACK");
    int         level = word != NULL ? parse_level(word) : -1;

    /* "none" is below the default, so it counts only when the environment says it. */
    if (level == RT_LEVEL_NONE && rt_traceback_level() == RT_LEVEL_SINGLE)
        atomic_store(&crash.level, level);
    else if (level >= 0)
        (void)bh_set_traceback(word);
    rt_thread_init();
}
