/*
 * sampling.c -- what a profiler's signal has interrupted.
 *
 * Nearly all code here and in applications keeps frame pointers, and following them is a few
 * nanoseconds a frame.  Two places lack them: a function of a library, libc most of all, and
 * the first and last instructions of any function, where its frame is not there yet, or no
 * longer.  There a walk by frame pointers would leave out the caller.  So:
 *
 *     while in a library      by the tables of .eh_frame, a few hundred ns a frame
 *     interrupted elsewhere   look at the instruction: is the frame complete?
 *     from then on            by frame pointers
 *
 * A search in cold tables takes microseconds, and the same few places of a library are interrupted
 * again and again: `rules` keeps what was found, by address.  It has no lock.  Each entry is two
 * words, the first of them the address xor the second: a mixture of two writers' words fits
 * no address.
 *
 * The tables are found once, in bh_sampling_begin, as a handler cannot ask the loader.  The first
 * module is the program; the one that we lie in, if another, is no "library" either.
 *
 * The stack read is the goroutine's or, in the scheduler, the thread's own.  In the middle of a
 * switch, or on the stack of another signal's handler, the stack pointer is in neither: then
 * the innermost frame must do.
 *
 * `hooks` and the tables are written by bh_sampling_begin alone, before `begun` says so; the
 * notes of who started a thread by whoever starts it, before the thread runs.
 */

#include "sampling.h"

#include <errno.h>
#include <link.h>
#include <string.h>

#include <bulkhead/go/sampling.h>

#include "report.h"
#include "symbol.h"

enum { MODULES_MAX = 64, LIBRARY_STEPS = 16, NOTES_MAX = 1024, NOTE_DEPTH = 10 };

static struct rt_module modules[MODULES_MAX]; /* of libraries */
static int              module_count;
static uintptr_t        modules_lo, modules_hi; /* all lie in between */

enum { IDLE, BEGINNING, BEGUN };
static _Atomic int             begun;
static _Atomic(void (*)(void)) thread_start, thread_end;

/* ---- libraries ------------------------------------------------------------------- */

/* The program, and ourselves if we are a library. */
static bool
is_ours(const struct rt_module *m)
{
    uintptr_t here = (uintptr_t)bh_stack_interrupted;

    return here >= m->text_lo && here < m->text_hi;
}

static int
add_module(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct rt_module m = { .lo = UINTPTR_MAX, .text_lo = UINTPTR_MAX, .path = "" };
    bool            *first = arg;

    (void)size;
    m.bias = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + p->p_vaddr, hi = lo + p->p_memsz;

        if (p->p_type == PT_GNU_EH_FRAME)
            m.unwind = lo;
        if (p->p_type != PT_LOAD)
            continue;
        m.lo = lo < m.lo ? lo : m.lo;
        m.hi = hi > m.hi ? hi : m.hi;
        if ((p->p_flags & PF_X) != 0) {
            m.text_lo = lo < m.text_lo ? lo : m.text_lo;
            m.text_hi = hi > m.text_hi ? hi : m.text_hi;
        }
    }
    if (!*first && m.text_hi != 0 && !is_ours(&m) && module_count < MODULES_MAX) {
        modules_lo = m.text_lo < modules_lo ? m.text_lo : modules_lo;
        modules_hi = m.text_hi > modules_hi ? m.text_hi : modules_hi;
        modules[module_count++] = m;
    }
    *first = false;
    return 0;
}

static const struct rt_module *
library_of(uintptr_t pc)
{
    if (pc < modules_lo || pc >= modules_hi)
        return NULL;
    for (int i = 0; i < module_count; i++)
        if (pc >= modules[i].text_lo && pc < modules[i].text_hi)
            return &modules[i];
    return NULL;
}

/* ---- the threads ----------------------------------------------------------------- */

int
bh_sampling_begin(void (*start)(void), void (*end)(void))
{
    bool first = true;
    int  idle = IDLE;

    if (!atomic_compare_exchange_strong(&begun, &idle, BEGINNING))
        return -EBUSY;
    module_count = 0;
    modules_lo = UINTPTR_MAX;
    modules_hi = 0;
    (void)dl_iterate_phdr(add_module, &first);
    atomic_store(&thread_end, end);
    atomic_store(&thread_start, start);
    atomic_store(&begun, BEGUN);
    return 0;
}

void
bh_sampling_end(void)
{
    atomic_store(&thread_start, NULL);
    atomic_store(&thread_end, NULL);
    atomic_store(&begun, IDLE);
}

void
rt_sampling_start(void)
{
    void (*fn)(void) = atomic_load(&thread_start);

    if (fn != NULL)
        fn();
}

void
rt_sampling_end(void)
{
    void (*fn)(void) = atomic_load(&thread_end);

    if (fn != NULL)
        fn();
}

static struct {
    _Atomic int depth;
    uintptr_t   pcs[NOTE_DEPTH];
} notes[NOTES_MAX]; /* by number of the M */

void
rt_sampling_create(const struct rt_m *m)
{
    struct rt_m *self = rt_m();
    uintptr_t    fp = (uintptr_t)__builtin_frame_address(0), hi;
    int          depth;

    if (m->id >= NOTES_MAX || self == NULL)
        return;
    hi = self->stack_hi;
    if (self->g != NULL && self->g->stack != NULL && fp >= (uintptr_t)self->g->stack->lo &&
        fp < (uintptr_t)self->g->stack->top)
        hi = (uintptr_t)self->g->stack->top;
    depth = rt_backtrace(0, fp, fp, hi, notes[m->id].pcs, NOTE_DEPTH);
    atomic_store(&notes[m->id].depth, depth);
}

void
bh_threads(bool (*fn)(const struct bh_thread_info *t, void *arg), void *arg)
{
    for (struct rt_m *m = rt_sched.all_m; m != NULL; m = m->all_next) {
        struct bh_thread_info t = { .tid = atomic_load(&m->tid) };

        if (m->id < NOTES_MAX) {
            t.depth = atomic_load(&notes[m->id].depth);
            t.pcs = notes[m->id].pcs;
        }
        if (t.tid != 0 && !fn(&t, arg))
            return;
    }
}

/* ---- interrupted ----------------------------------------------------------------- */

#if defined(__x86_64__)

/*
 * Where the return address lies if the frame at pc is not complete, or no longer; 0: it is
 * complete.  Right for what our compilers write; where they scheduled something in
 * between, one caller is missing from one sample.
 */
RT_PEEK static uintptr_t
bare_return(const struct rt_regs *r)
{
    static const unsigned char endbr64[] = { 0xf3, 0x0f, 0x1e, 0xfa };
    const unsigned char       *p = (const unsigned char *)r->r[RT_REG_PC];
    uintptr_t                  sp = r->r[RT_REG_SP];

    if (*p == 0xc3 || *p == 0x55) /* ret; push %rbp */
        return sp;
    if (p[0] == 0x48 && ((p[1] == 0x89 && p[2] == 0xe5) || (p[1] == 0x8b && p[2] == 0xec)))
        return sp + sizeof sp; /* mov %rsp,%rbp: it is pushed already */
    return memcmp(p, endbr64, sizeof endbr64) == 0 ? sp : 0;
}

#else

/* The return address is in a register until the frame is there: the tables know. */
static uintptr_t
bare_return(const struct rt_regs *r)
{
    (void)r;
    return 0;
}

#endif

/* The stack that sp is in, from sp on: [sp, *hi).  Returns: false if it is none of the thread's. */
RT_PEEK static bool
find_stack(const struct rt_m *m, uintptr_t sp, uintptr_t *hi, struct bh_interrupted *what)
{
    const struct bh_g     *g = m->g;
    const struct rt_stack *stack = g != NULL ? g->stack : NULL;

    if (stack != NULL && sp >= (uintptr_t)stack->lo && sp < (uintptr_t)stack->top) {
        *hi = (uintptr_t)stack->top;
        what->goroutine =
            atomic_load_explicit(&((struct bh_g *)(uintptr_t)g)->id, memory_order_relaxed);
        return true;
    }
    what->scheduler = true;
    *hi = m->stack_hi;
    return sp >= m->stack_lo && sp < m->stack_hi;
}

enum {
    RULES = 1024,
    KNOWN_BIT = 62,
    BY_FP_BIT = 61,
    FP_SHIFT = 24,
    OFFSET_MASK = (1 << 24) - 1
};
static struct {
    _Atomic uint64_t key, rule;
} rules[RULES];

/* The rule for pc, which is in m.  Returns: false if the tables say something more intricate. */
static bool
plain_rule(const struct rt_module *m, uintptr_t pc, struct rt_plain_rule *r)
{
    unsigned i = (unsigned)(pc ^ pc >> 10) % RULES;
    uint64_t word = atomic_load_explicit(&rules[i].rule, memory_order_relaxed);

    if ((word >> KNOWN_BIT & 1) != 0 &&
        (atomic_load_explicit(&rules[i].key, memory_order_relaxed) ^ word) == pc) {
        r->by_fp = (word >> BY_FP_BIT & 1) != 0;
        r->cfa = (uint32_t)word & OFFSET_MASK;
        r->fp = (uint32_t)(word >> FP_SHIFT) & OFFSET_MASK;
        return true;
    }
    if (!rt_unwind_plain(m, pc, r))
        return false;
    word = UINT64_C(1) << KNOWN_BIT | (uint64_t)r->by_fp << BY_FP_BIT |
           (uint64_t)r->fp << FP_SHIFT | r->cfa;
    atomic_store_explicit(&rules[i].key, pc ^ word, memory_order_relaxed);
    atomic_store_explicit(&rules[i].rule, word, memory_order_relaxed);
    return true;
}

/* One frame outwards by a plain rule.  Returns: false, w being as before, if that leads nowhere. */
__attribute__((no_sanitize("address"))) RT_PEEK static bool
step_plainly(struct rt_walk *w, const struct rt_plain_rule *r)
{
    uintptr_t base = w->regs.r[r->by_fp ? RT_REG_FP : RT_REG_SP], cfa = base + r->cfa;

    if ((r->by_fp && (w->regs.known >> RT_REG_FP & 1) == 0) || base < w->lo || cfa > w->hi ||
        cfa <= w->regs.r[RT_REG_SP] || cfa % sizeof cfa != 0 || cfa - w->lo < sizeof cfa ||
        r->fp > cfa - w->lo)
        return false;
    w->regs.r[RT_REG_PC] = *(const uintptr_t *)(cfa - sizeof cfa);
    if (r->fp >= sizeof cfa)
        rt_regs_set(&w->regs, RT_REG_FP, *(const uintptr_t *)(cfa - r->fp));
    w->regs.r[RT_REG_SP] = cfa;
    /* What else is in registers is not followed. */
    w->regs.known &=
        UINT64_C(1) << RT_REG_PC | UINT64_C(1) << RT_REG_SP | UINT64_C(1) << RT_REG_FP;
    w->exact = false;
    return true;
}

/* Out of the library that was interrupted, by its tables.  Returns: how many pcs. */
RT_PEEK static int
leave_library(struct rt_walk *w, uintptr_t *pcs, int count, int max)
{
    const struct rt_module *m = library_of(w->regs.r[RT_REG_PC]);
    struct rt_plain_rule    rule;
    bool                    end = false;

    for (int i = 0; i < LIBRARY_STEPS && m != NULL && count < max; i++) {
        uintptr_t pc = w->regs.r[RT_REG_PC] - (w->exact ? 0 : 1);

        if (!(plain_rule(m, pc, &rule) && step_plainly(w, &rule)) &&
            !rt_unwind_step(m, w, &end))
            break;
        if (w->regs.r[RT_REG_PC] == 0)
            break;
        pcs[count++] = w->regs.r[RT_REG_PC];
        m = library_of(w->regs.r[RT_REG_PC] - 1);
    }
    return count;
}

__attribute__((no_sanitize("address"))) RT_PEEK int
bh_stack_interrupted(const void *ucontext, uintptr_t *pcs, int max, struct bh_interrupted *what)
{
    struct rt_m   *m = rt_m();
    struct rt_walk w = { .exact = true };
    uintptr_t      at;
    int            count = 0;

    *what = (struct bh_interrupted){ 0 };
    if (max < 1)
        return 0;
    rt_regs_context(&w.regs, ucontext);
    pcs[count++] = w.regs.r[RT_REG_PC] + 1;
    if (m == NULL || !find_stack(m, w.regs.r[RT_REG_SP], &w.hi, what))
        return count;
    w.lo = w.regs.r[RT_REG_SP];
    if (atomic_load_explicit(&begun, memory_order_acquire) == BEGUN &&
        library_of(w.regs.r[RT_REG_PC]) != NULL) {
        count = leave_library(&w, pcs, count, max);
    } else if (w.regs.r[RT_REG_PC] >= RT_PAGE && (at = bare_return(&w.regs)) >= w.lo &&
               at % sizeof at == 0 && w.hi - at >= sizeof at && at < w.hi && count < max) {
        pcs[count++] = *(const uintptr_t *)at;
    }
    if ((w.regs.known >> RT_REG_FP & 1) != 0)
        count += rt_backtrace(0, w.regs.r[RT_REG_FP], w.lo, w.hi, pcs + count, max - count);
    what->truncated = count == max;
    return count;
}
