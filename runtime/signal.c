/*
 * signal.c -- hardware faults become panics, where that is safe.
 *
 * The kernel runs on_fault on the thread's alternate stack: the goroutine's own
 * may be used up.  If the fault can be a panic, the handler does not raise it
 * there.  It edits the saved context as if the faulting instruction had called
 * rt_sigpanic, and returns: the kernel restores the signal mask, the alternate
 * stack is free again, and the panic is raised by an ordinary call on the
 * goroutine's own stack, with the faulting frame as its caller:
 *
 *     goroutine's stack                          alternate stack
 *
 *     app_function      <- sp at the fault       on_fault  - edits the context
 *     128 bytes         red zone, kept              |
 *     faulting pc       <- new sp                   v
 *     rt_sigpanic       <---------------------- sigreturn
 *     rt_sigpanic_c
 *     rt_panic_fault
 *
 * No system call is made on this way but the kernel's own two.  What happened
 * travels in `pending`, one per thread: nothing else can run on the thread
 * between sigreturn and rt_sigpanic_c.
 *
 * A fault is a panic only if all hold (check_place):
 *
 *   F1  the kernel raised it, not kill(2): si_code > 0
 *   F2  the thread runs a goroutine, and sp is inside its stack
 *   F3  it is not inside the runtime (m->in_rt), nor capturing another panic
 *   F4  no lock of libc may be held: see blame.c
 *
 * Then the kind decides (classify):
 *
 *     SIGSEGV in the first 64 KiB         nil dereference
 *     SIGSEGV on this goroutine's guard   stack overflow, if there is room left
 *     SIGFPE, integer                     divide by zero, or overflow
 *     SIGBUS past a mapped file's end     bus error
 *     any other                           fatal, or a panic if the goroutine asked
 *
 * A call of a NULL function faults at pc 0 with nothing but a return address
 * pushed; it is turned back into its caller.
 *
 * A stack overflow opens the emergency pages (stack.c), so that the panic and the
 * deferred calls have room, and is over when control lands above them
 * (rt_stack_land).  The instruction that happens to touch the guard first is
 * often not the application's, but the deepest thing it calls: malloc, or a
 * channel operation.  There a panic is unsafe, but its end is near.  So:
 *
 *     in libc         open all pages and let it finish; its return address now
 *                     leads to rt_overflow_return, which raises the panic
 *     in the runtime  open half of the pages and let it finish; the next entry
 *                     into the runtime (rt_attend), or the second half of the
 *                     guard, raises the panic
 *
 * assert and abort called by application code on a goroutine are panics too: we
 * define both symbols, and the linker prefers ours to libc's.  abort called by
 * libc itself (malloc's checks, stack protector, fortify) does not come here:
 * it raises SIGABRT, which is fatal.
 *
 * On plain threads the handler that was there before ours is called, if any.
 *
 * After Go's runtime/signal_unix.go and sigpanic.  We differ in recovering stack
 * overflows, and in knowing a C library.
 */

#include "runtime.h"

#include <assert.h>
#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "blame.h"

#if defined(__has_include)
#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#endif
#endif
#ifndef VALGRIND_MAKE_MEM_UNDEFINED
#define VALGRIND_MAKE_MEM_UNDEFINED(start, size) ((void)(start), (void)(size))
#endif

static const uintptr_t NIL_LIMIT = 64 << 10; /* mmap_min_addr: nothing is ever mapped below */

enum {
    RED_ZONE = 128,
    PANIC_ROOM = 8 << 10,      /* stack that a panic and its deferred calls need at least */
    OVERFLOW_REACH = 16 << 10, /* how far below sp a touched guard still is an overflow */
    ALT_STACK_SIZE = 64 << 10, /* for the handler and a crash report; plus the kernel's frame */
};

static const char text_nil[] = "invalid memory address or nil pointer dereference";
static const char text_divide[] = "integer divide by zero";
static const char text_integer[] = "integer overflow";
static const char text_float[] = "floating point error";
static const char text_overflow[] = "stack overflow";
static const char text_bus[] = "bus error: access beyond the end of a mapped file";
static const char text_fault[] = "fault";
static const char text_runtime[] = "unexpected signal during runtime execution";
static const char text_libc[] = "unexpected signal inside libc, which may hold a lock";

enum verdict {
    PANIC,  /* of the goroutine, with fault.text */
    RESUME, /* let it go on: the panic comes later */
    FATAL,  /* of the process, with fault.text; NULL: just name the signal */
};

struct event {
    struct rt_fault  fault;
    struct rt_m     *m;
    struct bh_g     *g;
    struct rt_stack *stack;
    struct rt_walk   at; /* the frame that is to panic */
};

/* What rt_sigpanic_c raises.  Not a dynamic thread-local, whose first use may call malloc. */
_Static_assert((int)RT_FAULT_REGISTERS == (int)RT_REG_COUNT, "one array is copied to the other");
static __thread struct rt_fault pending __attribute__((tls_model("initial-exec")));

static struct sigaction old_actions[NSIG];

/* Code that works on stacks as memory, where a sanitizer sees nothing that may be touched. */
#define RAW __attribute__((no_sanitize("address"), no_sanitize("thread")))

/* ---- the saved context -------------------------------------------------------- */

noreturn void rt_sigpanic_c(void);

struct rt_landing {   /* of rt_overflow_return */
    uintptr_t pc;     /* inside the call that is to panic */
    uintptr_t resume; /* or, if not 0, where to go on as if nothing had happened */
};
struct rt_landing rt_overflow_landed(void);

#if defined(__x86_64__)

/* Return from the signal into rt_sigpanic, as if `at` had called it. */
RAW static void
call_sigpanic(ucontext_t *uc, const struct rt_walk *at)
{
    greg_t    *r = uc->uc_mcontext.gregs;
    uintptr_t  direction = 0x400;
    uintptr_t *sp = (uintptr_t *)(at->regs.r[RT_REG_SP] - RED_ZONE) - 1;

    /* Valgrind does not see a stack pointer move in a saved context. */
    VALGRIND_MAKE_MEM_UNDEFINED((char *)sp - RED_ZONE, RED_ZONE + sizeof *sp + RED_ZONE);
    *sp = at->regs.r[RT_REG_PC];
    r[REG_RSP] = (greg_t)sp;
    r[REG_RBP] = (greg_t)at->regs.r[RT_REG_FP];
    r[REG_RIP] = (greg_t)rt_sigpanic;
    r[REG_EFL] &= ~(greg_t)direction; /* clear at calls, says the ABI */
}

/* The innermost frame has pushed nothing yet: make its caller the one that is to panic. */
RAW static void
drop_call(struct rt_walk *at)
{
    at->regs.r[RT_REG_PC] = *(const uintptr_t *)at->regs.r[RT_REG_SP] - 1;
    at->regs.r[RT_REG_SP] += sizeof(uintptr_t);
}

/* The value of an instruction's r/m operand; p is at its ModRM byte. */
static bool
read_operand(const unsigned char *p, unsigned rex, unsigned size, const struct rt_regs *regs,
             uint64_t *value)
{
    /* DWARF's register numbers, by the instruction's. */
    static const int number[16] = { 0, 2, 1, 3, 7, 6, 4, 5, 8, 9, 10, 11, 12, 13, 14, 15 };
    unsigned         mod = p[0] >> 6, rm = p[0] & 7;
    uintptr_t        address = 0;
    int32_t          offset = 0;

    *value = 0;
    p++;
    if (mod == 3) {
        bool high = size == 1 && rex == 0 && rm >= 4; /* ah, ch, dh, bh */

        *value = regs->r[number[high ? rm - 4 : rm | (rex & 1) << 3]] >> (high ? 8 : 0);
        *value &= UINT64_MAX >> (64 - 8 * size);
        return true;
    }
    if (rm == 4) { /* a second byte: base + (index << scale) */
        unsigned base = p[0] & 7, index = (p[0] >> 3 & 7) | (rex & 2) << 2;

        if (index != 4)
            address = regs->r[number[index]] << (p[0] >> 6);
        if (mod == 0 && base == 5)
            mod = 2;
        else
            address += regs->r[number[base | (rex & 1) << 3]];
        p++;
    } else if (mod == 0 && rm == 5) { /* relative to the next instruction */
        address = (uintptr_t)p + 4;
        mod = 2;
    } else {
        address = regs->r[number[rm | (rex & 1) << 3]];
    }
    if (mod == 1)
        offset = (int8_t)p[0];
    else if (mod == 2)
        memcpy(&offset, p, sizeof offset);
    memcpy(value, (const void *)(address + (uintptr_t)(intptr_t)offset), size);
    return true;
}

/* The processor does not say whether a division was by zero or did not fit. */
static bool
divisor_is_zero(const struct rt_regs *regs)
{
    const unsigned char *p = (const unsigned char *)regs->r[RT_REG_PC];
    unsigned             size = 4, rex = 0;
    uint64_t             divisor;

    for (; *p == 0x66 || *p == 0x2e || *p == 0x3e || *p == 0xf2 || *p == 0xf3; p++)
        if (*p == 0x66)
            size = 2;
    if (*p >> 4 == 4) {
        rex = *p++;
        if (rex & 8)
            size = 8;
    }
    if (*p == 0xf6)
        size = 1;
    else if (*p != 0xf7)
        return true; /* not div or idiv: say what is likely */
    return !read_operand(p + 1, rex, size, regs, &divisor) || divisor == 0;
}

#elif defined(__aarch64__)

RAW static void
call_sigpanic(ucontext_t *uc, const struct rt_walk *at)
{
    mcontext_t *r = &uc->uc_mcontext;
    uintptr_t   sp = at->regs.r[RT_REG_SP] - 16;

    VALGRIND_MAKE_MEM_UNDEFINED((char *)sp, 16);
    *(uintptr_t *)sp = at->regs.r[RT_REG_LR];
    r->sp = sp;
    r->regs[29] = at->regs.r[RT_REG_FP];
    r->regs[30] = at->regs.r[RT_REG_PC];
    r->pc = (uintptr_t)rt_sigpanic;
}

static void
drop_call(struct rt_walk *at)
{
    at->regs.r[RT_REG_PC] = at->regs.r[RT_REG_LR] - 1;
}

/* Integer division does not trap on this processor; what does is the compiler's own check. */
static bool
divisor_is_zero(const struct rt_regs *regs)
{
    (void)regs;
    return true;
}

#endif

/* ---- where did it happen ------------------------------------------------------ */

static enum verdict
fatal(struct event *e, const char *text)
{
    e->fault.text = text;
    return FATAL;
}

/* sp is inside the goroutine's stack, and what is above it can be read. */
static bool
on_own_stack(const struct event *e)
{
    uintptr_t sp = e->at.regs.r[RT_REG_SP];

    return e->stack != NULL && sp >= (uintptr_t)e->stack->lo && sp <= (uintptr_t)e->stack->top;
}

/* The lowest address of the stack that does not trap now. */
static uintptr_t
lowest_open(const struct rt_stack *s)
{
    if (atomic_load_explicit(&s->guarded, memory_order_relaxed))
        return (uintptr_t)s->soft + RT_PAGE;
    return (uintptr_t)(s->lo + RT_PAGE * (s->half_open ? RT_STACK_HALF_PAGE : 1));
}

static bool
is_overflow(const struct event *e)
{
    uintptr_t sp = e->at.regs.r[RT_REG_SP];

    return e->fault.signal == SIGSEGV && e->fault.addr >= (uintptr_t)e->stack->lo &&
           e->fault.addr < lowest_open(e->stack) && sp <= e->fault.addr + OVERFLOW_REACH;
}

/* Walk out of libc.  Returns: whether it may be left, there and where it called us back. */
static bool
leave_libc(struct event *e, uintptr_t **slot)
{
    bool left;

    e->at.lo = lowest_open(e->stack);
    e->at.hi = (uintptr_t)e->stack->top;
    left = rt_blame_leave(&e->at, slot);
    if (rt_blame_is_application(e->at.regs.r[RT_REG_PC]) &&
        !rt_blame_outer(e->at.regs.r[RT_REG_FP], e->at.lo, e->at.hi)) {
        *slot = NULL;
        return false;
    }
    return left;
}

/* A call of an address where there is no code: pc is the address of the fault. */
static void
undo_wild_call(struct event *e)
{
    uintptr_t pc = e->at.regs.r[RT_REG_PC], sp = e->at.regs.r[RT_REG_SP];

    if (pc != e->fault.addr || e->fault.signal != SIGSEGV)
        return;
    if (sp < lowest_open(e->stack) || sp > (uintptr_t)e->stack->top - sizeof sp ||
        sp % sizeof sp != 0)
        return;
    drop_call(&e->at);
}

/* ---- stack overflow ------------------------------------------------------------- */

static enum verdict
overflow_in_runtime(struct event *e)
{
    struct rt_stack *s = e->stack;
    bool             armed = atomic_load_explicit(&s->guarded, memory_order_relaxed) != 0;

    if (!(armed ? rt_stack_lift_half(s) : rt_stack_lift_soft(s)))
        return fatal(e, text_overflow);
    e->g->flags |= RT_G_IN_EMERGENCY;
    atomic_fetch_or(&e->m->attention, RT_ATTENTION_OVERFLOW);
    return RESUME;
}

RAW static enum verdict
judge_overflow(struct event *e)
{
    struct rt_stack *s = e->stack;
    uintptr_t       *slot;

    if (e->fault.addr < (uintptr_t)s->lo + RT_PAGE || (e->g->flags & RT_G_CAPTURING))
        return fatal(e, text_overflow);
    if (atomic_load_explicit(&e->m->in_rt, memory_order_relaxed) != 0)
        return overflow_in_runtime(e);
    if (!rt_stack_lift_soft(s))
        return fatal(e, text_overflow);
    e->g->flags |= RT_G_IN_EMERGENCY;
    e->fault.text = text_overflow;
    if (leave_libc(e, &slot)) {
        e->fault.pc = e->at.regs.r[RT_REG_PC];
        if (e->at.regs.r[RT_REG_SP] < (uintptr_t)s->lo + RT_PAGE + PANIC_ROOM)
            return fatal(e, text_overflow);
        return PANIC;
    }
    if (slot == NULL || !rt_blame_is_application(e->at.regs.r[RT_REG_PC]))
        return fatal(e, text_overflow);
    s->overflow_pc = e->at.regs.r[RT_REG_PC];
    s->overflow_addr = e->fault.addr;
    *slot = (uintptr_t)rt_overflow_return;
    return RESUME;
}

/*
 * Where a libc function that overflowed returns to: instead of its caller, which
 * is to panic.  Unless that function has brought us into the runtime:
 * ThreadSanitizer's atomic operations are functions, and one of them sets in_rt.
 */
struct rt_landing
rt_overflow_landed(void)
{
    struct rt_m     *m = rt_m();
    struct rt_stack *s = m->g->stack;

    if (rt_unlikely(atomic_load_explicit(&m->in_rt, memory_order_relaxed) != 0)) {
        atomic_fetch_or(&m->attention, RT_ATTENTION_OVERFLOW);
        return (struct rt_landing){ .resume = s->overflow_pc + 1 };
    }
    pending =
        (struct rt_fault){ .signal = SIGSEGV, .code = SEGV_ACCERR, .text = text_overflow };
    pending.addr = s->overflow_addr;
    pending.pc = s->overflow_pc;
    return (struct rt_landing){ .pc = s->overflow_pc };
}

void
rt_overflow_attend(struct rt_m *m)
{
    struct rt_stack *s = m->g->stack;
    uintptr_t        here = (uintptr_t)__builtin_frame_address(0);
    struct rt_fault  fault = { .signal = SIGSEGV, .code = SEGV_ACCERR, .text = text_overflow };

    atomic_fetch_and(&m->attention, ~(uint32_t)RT_ATTENTION_OVERFLOW);
    if (here >= (uintptr_t)s->soft + RT_PAGE || here < (uintptr_t)s->lo ||
        !rt_stack_lift_soft(s))
        return; /* another goroutine's, or it has come back up */
    fault.addr = here;
    fault.pc = (uintptr_t)__builtin_return_address(0);
    rt_exit();
    rt_panic_fault(&fault);
}

/* ---- what kind is it -------------------------------------------------------------- */

static enum verdict
classify(struct event *e)
{
    struct rt_fault *f = &e->fault;
    bool             mapping = f->code == SEGV_MAPERR || f->code == SEGV_ACCERR;

    if (f->signal == SIGSEGV && mapping && f->addr < NIL_LIMIT) {
        f->text = text_nil;
    } else if (f->signal == SIGFPE) {
        if (f->code == FPE_INTDIV || f->code == FPE_INTOVF)
            f->text = divisor_is_zero(&e->at.regs) ? text_divide : text_integer;
        else
            f->text = text_float;
    } else if (f->signal == SIGBUS && f->code == BUS_ADRERR) {
        f->text = text_bus;
        f->wild = true;
    } else if (e->g->flags & RT_G_PANIC_ON_FAULT) {
        f->text = text_nil; /* Go's text for this, too */
        f->wild = true;
    } else {
        return fatal(e, text_fault);
    }
    return PANIC;
}

static enum verdict
judge(struct event *e)
{
    enum verdict verdict;
    uintptr_t   *slot;

    if (e->fault.code <= 0)
        return fatal(e, NULL);
    if (e->g == NULL)
        return fatal(e, text_runtime);
    if (!on_own_stack(e)) /* on the thread's stack, or past the end of the goroutine's */
        return fatal(e,
                     rt_stack_of(e->at.regs.r[RT_REG_SP]) != 0 ? text_overflow : text_runtime);
    if (is_overflow(e))
        return judge_overflow(e);
    if (atomic_load_explicit(&e->m->in_rt, memory_order_relaxed) != 0 ||
        (e->g->flags & RT_G_CAPTURING))
        return fatal(e, text_runtime);
    undo_wild_call(e);
    verdict = classify(e);
    if (verdict == PANIC && !leave_libc(e, &slot))
        return fatal(e, text_libc);
    e->fault.pc = e->at.regs.r[RT_REG_PC];
    return verdict;
}

/* ---- handlers ------------------------------------------------------------------------ */

/* A plain thread: what was there before us decides.  Returns: false if nothing was. */
static bool
forward(int sig, siginfo_t *info, void *uc)
{
    const struct sigaction *old = &old_actions[sig];

    if (old->sa_flags & SA_SIGINFO)
        old->sa_sigaction(sig, info, uc);
    else if (old->sa_handler != SIG_DFL && old->sa_handler != SIG_IGN)
        old->sa_handler(sig);
    else
        return false;
    return true;
}

static void
on_fault(int sig, siginfo_t *info, void *uc)
{
    int          saved_errno = errno;
    struct rt_m *m = rt_m();
    struct event e;

    if (m == NULL && forward(sig, info, uc))
        return;
    memset(&e, 0, sizeof e);
    e.m = m;
    e.g = m != NULL ? m->g : NULL;
    e.stack = e.g != NULL ? e.g->stack : NULL;
    rt_regs_context(&e.at.regs, uc);
    e.at.exact = true;
    e.fault = (struct rt_fault){ .signal = sig,
                                 .code = info->si_code,
                                 .addr = (uintptr_t)info->si_addr,
                                 .pc = e.at.regs.r[RT_REG_PC],
                                 .has_registers = true };
    memcpy(e.fault.registers, e.at.regs.r, sizeof e.fault.registers);
    switch (judge(&e)) {
    case PANIC:
        pending = e.fault;
        call_sigpanic(uc, &e.at);
        break;
    case RESUME:
        break;
    case FATAL:
        rt_crash_fault(&e.fault, uc, e.fault.text);
    }
    errno = saved_errno;
}

/* On the goroutine, called by rt_sigpanic. */
noreturn void
rt_sigpanic_c(void)
{
    struct rt_fault fault = pending;

    rt_panic_fault(&fault);
}

/* Signals that are never a panic: illegal instruction, abort, a quit key. */
static void
on_fatal(int sig, siginfo_t *info, void *uc)
{
    struct rt_walk  w;
    struct rt_fault fault = { .signal = sig, .code = info->si_code };

    if (rt_m() == NULL && sig != SIGQUIT && forward(sig, info, uc))
        return;
    rt_regs_context(&w.regs, uc);
    fault.pc = w.regs.r[RT_REG_PC];
    fault.addr = info->si_code > 0 ? (uintptr_t)info->si_addr : 0;
    rt_crash_fault(&fault, uc, NULL);
}

static void
install(int sig, void (*handler)(int, siginfo_t *, void *))
{
    struct sigaction action = { .sa_sigaction = handler,
                                .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER };

    sigemptyset(&action.sa_mask);
    sigaction(sig, &action, &old_actions[sig]);
}

void
rt_signal_init(void)
{
    static const int faults[] = { SIGSEGV, SIGBUS, SIGFPE };
    static const int fatals[] = { SIGILL, SIGTRAP, SIGSYS, SIGABRT, SIGQUIT };

    rt_blame_init();
    for (size_t i = 0; i < sizeof faults / sizeof *faults; i++)
        install(faults[i], on_fault);
    for (size_t i = 0; i < sizeof fatals / sizeof *fatals; i++)
        install(fatals[i], on_fatal);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- alternate stacks ------------------------------------------------------------------- */

/* At the low end of the mapping, above its guard page: what to put back. */
struct alt_stack {
    size_t  size; /* of the mapping */
    stack_t old;
};

void
rt_signal_thread_init(struct rt_m *m)
{
    size_t            frame = getauxval(AT_MINSIGSTKSZ); /* vector registers make it large */
    size_t            size = ALT_STACK_SIZE + ((frame + RT_PAGE - 1) & ~(size_t)(RT_PAGE - 1));
    char             *map;
    struct alt_stack *alt;
    stack_t           now;

    map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
               -1, 0);
    if (map == MAP_FAILED || mprotect(map, RT_PAGE, PROT_NONE) != 0)
        rt_throw("out of memory for a signal stack");
    alt = (struct alt_stack *)(void *)(map + RT_PAGE);
    alt->size = size;
    now = (stack_t){ .ss_sp = (char *)(alt + 1), .ss_size = size - RT_PAGE - sizeof *alt };
    if (sigaltstack(&now, &alt->old) != 0)
        rt_throw("sigaltstack: error %d", errno);
    m->alt_stack = alt;
}

void
rt_signal_thread_fini(struct rt_m *m)
{
    struct alt_stack *alt = m->alt_stack;

    m->alt_stack = NULL;
    if (alt == NULL)
        return;
    (void)sigaltstack(&alt->old, NULL);
    munmap((char *)alt - RT_PAGE, alt->size);
}

/* ---- assert and abort ------------------------------------------------------------- */

/* Weak: in a static program libc's own may be needed as well, and then wins. */
#define INTERPOSED __attribute__((weak))

/* May this thread panic here, at the call of a function that must not return? */
static bool
may_panic(void)
{
    struct rt_m *m = rt_m();
    struct bh_g *g = m != NULL ? m->g : NULL;
    uintptr_t    here = (uintptr_t)__builtin_frame_address(0);

    return g != NULL && g->stack != NULL && here > (uintptr_t)g->stack->lo &&
           here < (uintptr_t)g->stack->top && !(g->flags & RT_G_CAPTURING) &&
           atomic_load_explicit(&m->in_rt, memory_order_relaxed) == 0 &&
           rt_blame_outer(here, here, (uintptr_t)g->stack->top);
}

static noreturn void
libc_abort(void)
{
    void (*next)(void) = (void (*)(void))dlsym(RTLD_NEXT, "abort");

    if (next != NULL)
        next();
    signal(SIGABRT, SIG_DFL); /* a static program */
    raise(SIGABRT);
    _Exit(127);
}

INTERPOSED noreturn void
abort(void)
{
    if (may_panic() && rt_blame_is_application((uintptr_t)__builtin_return_address(0)))
        rt_panic_string("abort called");
    libc_abort();
}

INTERPOSED void
__assert_fail(const char *assertion, const char *file, unsigned line, const char *function)
{
    const char *in = function != NULL ? function : "?";

    if (may_panic())
        bh_panic_at_(file, (int)line, "%s:%u: %s: Assertion `%s' failed.", file, line, in,
                     assertion);
    dprintf(STDERR_FILENO, "%s: %s:%u: %s: Assertion `%s' failed.\n",
            program_invocation_short_name, file, line, in, assertion);
    libc_abort();
}

INTERPOSED void
__assert_perror_fail(int error, const char *file, unsigned line, const char *function)
{
    const char *in = function != NULL ? function : "?";

    if (may_panic())
        bh_panic_at_(file, (int)line, "%s:%u: %s: Unexpected error: %s.", file, line, in,
                     strerrordesc_np(error));
    dprintf(STDERR_FILENO, "%s: %s:%u: %s: Unexpected error: %s.\n",
            program_invocation_short_name, file, line, in, strerrordesc_np(error));
    libc_abort();
}
