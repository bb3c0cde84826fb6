/*
 * walk.c -- walking the stacks of a living process by its unwind tables, and when that
 * is not needed.
 *
 * Frame pointers are a hundred times faster than tables, but code compiled without them
 * breaks the chain or, worse, leaves frames out without a trace: libc calls back, and
 * the register still holds the frame of libc's caller.  The tables know: at each
 * return address they say by which rule to find the caller.  So each address is tried
 * once, on a made-up frame of which nothing but the frame pointer is known; if the
 * tables then find what was laid there, the frame pointer is to be trusted at that address,
 * for ever.  Verdicts are kept in `verdicts`, a cache indexed by hash:
 *
 *     address | TRUSTED      or the bare address
 *
 * A word is read and written whole, so it needs no lock, and a lost one is found again.
 *
 * Modules come from the loader, which counts as much as a goroutine's stack of this
 * work: the one that was found last is kept.  walk.lock covers it; it is a leaf but for
 * the loader's own lock.
 */

#include "walk.h"

#include <link.h>
#include <sched.h>

#include "runtime.h"

enum { VERDICTS = 4096 };
#define TRUSTED (UINT64_C(1) << 63) /* no address of a process has it */

static _Atomic uint64_t verdicts[VERDICTS];

static struct {
    _Atomic bool     lock;
    struct rt_module module; /* the one found last */
} walk;

static void
lock_walk(void)
{
    while (atomic_exchange_explicit(&walk.lock, true, memory_order_acquire))
        sched_yield();
    walk.module = (struct rt_module){ 0 }; /* what was found before may be unloaded by now */
}

static void
unlock_walk(void)
{
    atomic_store_explicit(&walk.lock, false, memory_order_release);
}

/* ---- modules ------------------------------------------------------------------------ */

struct search {
    uintptr_t pc;
    bool      found;
};

static int
consider(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct search   *s = arg;
    struct rt_module m = { .lo = UINTPTR_MAX, .bias = info->dlpi_addr };

    (void)size;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t start = info->dlpi_addr + p->p_vaddr, end = start + p->p_memsz;

        if (p->p_type == PT_GNU_EH_FRAME)
            m.unwind = start;
        if (p->p_type != PT_LOAD)
            continue;
        m.lo = start < m.lo ? start : m.lo;
        m.hi = end > m.hi ? end : m.hi;
        if ((p->p_flags & PF_X) != 0 && s->pc >= start && s->pc < end) {
            m.text_lo = start;
            m.text_hi = end;
        }
    }
    s->found = m.text_hi != 0;
    if (s->found)
        walk.module = m;
    return s->found;
}

/* module_of -- the module with code at pc, or NULL.  Under the lock. */
static const struct rt_module *
module_of(uintptr_t pc)
{
    struct search s = { pc, false };

    if (pc >= walk.module.text_lo && pc < walk.module.text_hi)
        return &walk.module;
    dl_iterate_phdr(consider, &s);
    return s.found ? &walk.module : NULL;
}

/* ---- verdicts ------------------------------------------------------------------------- */

/* judge -- do the tables, knowing the frame pointer only, go where it points?  Under the lock. */
static bool
judge(uintptr_t pc)
{
    enum { WORDS = 64, UP = 0x1000, BACK = 0x2000 };
    uintptr_t frame[WORDS] = { UP, BACK };
    uintptr_t fp = (uintptr_t)frame;
    bool      end = false;

    const struct rt_module *m = module_of(pc - 1);
    if (m == NULL)
        return false;
    struct rt_walk w = { .lo = fp, .hi = fp + sizeof frame };
    rt_regs_set(&w.regs, RT_REG_PC, pc);
    rt_regs_set(&w.regs, RT_REG_FP, fp);
#if defined(__aarch64__)
    rt_regs_set(&w.regs, RT_REG_SP, fp); /* the pair lies at the bottom of the frame */
#endif
    if (!rt_unwind_step(m, &w, &end))
        return end; /* the outermost function: there is no caller to miss */
    return w.regs.r[RT_REG_FP] == UP && w.regs.r[RT_REG_PC] == BACK;
}

bool
rt_walk_trusted(const uintptr_t *pcs, int count)
{
    for (int i = 0; i < count; i++) {
        _Atomic uint64_t *kept =
            &verdicts[((pcs[i] * UINT64_C(0x9e3779b97f4a7c15)) >> 40) % VERDICTS];
        uint64_t verdict = atomic_load_explicit(kept, memory_order_relaxed);

        if ((verdict & ~TRUSTED) != pcs[i] || verdict == 0) {
            lock_walk();
            verdict = pcs[i] | (judge(pcs[i]) ? TRUSTED : 0);
            unlock_walk();
            atomic_store_explicit(kept, verdict, memory_order_relaxed);
        }
        if ((verdict & TRUSTED) == 0)
            return false;
    }
    return true;
}

/* ---- by the tables ---------------------------------------------------------------------- */

int
rt_walk_tables(struct rt_walk *w, uintptr_t *pcs, int max, bool *more)
{
    int n = 0;

    lock_walk();
    *more = true;
    while (*more && n < max) {
        pcs[n++] = w->regs.r[RT_REG_PC] + (w->exact ? 1 : 0);
        *more = rt_walk_next_in(w, module_of);
    }
    unlock_walk();
    return n;
}
