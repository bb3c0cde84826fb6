/*
 * inspect.c -- snapshots of goroutines, taken while they run.
 *
 * Nobody is stopped.  Each goroutine is read by itself, by one of four ways:
 *
 *     parked, queued    its stack is read where it lies; see below
 *     not started       its function is all there is
 *     in bh_blocking    from the frame that it left for the blocking call, which
 *                       stays as it is until it comes back (m->blocked_*); a
 *                       signal would make system calls of the application fail
 *     running           its thread is sent a signal; the handler copies registers and
 *                       stack and returns (report.c, rt_thread_peek)
 *
 * A parked goroutine may be readied and run while we read it.  That is found out
 * afterwards, as with a sequence lock, by three words of the descriptor:
 *
 *     g->state   not RUNNING, and the same before and after
 *     g->sp      not RT_SP_LEAVING: set before the state says that it has left, and
 *                replaced by the true one once its registers are saved
 *     g->runs    +1 each time it is switched to, before it runs
 *
 * So equal `runs` and a true `sp` mean that what was read in between is one moment's.
 * What was read otherwise was memory all the same: a stack's slot stays mapped for
 * ever, and its bounds follow from its address alone (rt_stack_of).  Only a goroutine
 * that has used its emergency pages may be so deep that what it stands on can
 * be taken away; its stack is not looked at.
 *
 * Stacks are walked by frame pointers, in a tenth of a microsecond, wherever these are to
 * be trusted (walk.c); else, and in a running goroutine, whose innermost function may
 * not have set its frame up, by the unwind tables over a copy.  There is one copy,
 * for everybody: copy.lock covers it for the time of one walk.
 *
 * Nothing is held while the caller's function runs: it may park, panic, or take as
 * long as it likes.
 */

#include <bulkhead/go/inspect.h>

#include <sched.h>

#include "chan.h"
#include "cold.h"
#include "report.h"
#include "tag.h"
#include "walk.h"

enum {
    TRIES = 100,        /* for a goroutine that is on its way in or out each time */
    PATIENT_TRIES = 20, /* of them without giving way to others */
    LABELS_SIZE = 512,
    COPY_SIZE = 64 << 10 /* bytes of a stack that the tables are used on */
};

/* What is written down about one goroutine; on the caller's stack. */
struct view {
    struct bh_goroutine_info info;
    int                      max_depth;
    char                     name[RT_NAME_SIZE];
    char                     labels[LABELS_SIZE];
    uintptr_t                pcs[BH_GOROUTINE_DEPTH];
};

/* ---- stacks ------------------------------------------------------------------------ */

/* The part of a goroutine's stack that can be read at any time. */
struct range {
    uintptr_t lo, hi;
};

static struct range
readable(const struct rt_stack *s)
{
    uintptr_t slot = rt_stack_of((uintptr_t)s);

    return slot == 0 ? (struct range){ 0, 0 }
                     : (struct range){ slot + RT_STACK_GUARD_PAGES * RT_PAGE, (uintptr_t)s };
}

/* ---- by the tables ----------------------------------------------------------------- */

static struct {
    _Atomic bool lock;
    _Alignas(16) unsigned char bytes[COPY_SIZE];
} copy;

static void
lock_copy(void)
{
    while (atomic_exchange_explicit(&copy.lock, true, memory_order_acquire))
        sched_yield();
}

static void
unlock_copy(void)
{
    atomic_store_explicit(&copy.lock, false, memory_order_release);
}

/* copy_stack -- [sp, hi), or as much as there is room for.  Returns: how much. */
__attribute__((no_sanitize("address"))) RT_PEEK static size_t
copy_stack(uintptr_t sp, uintptr_t hi)
{
    size_t size = hi - sp < COPY_SIZE ? hi - sp : COPY_SIZE;

    for (size_t i = 0; i + sizeof sp <= size; i += sizeof sp)
        *(uintptr_t *)(void *)(copy.bytes + i) = *(const volatile uintptr_t *)(sp + i);
    return size;
}

/* walk_tables -- from where w stands, after `n` addresses.  hi: the true end of the stack. */
static void
walk_tables(struct rt_walk *w, struct view *v, int n, uintptr_t hi)
{
    v->info.depth = n + rt_walk_tables(w, v->pcs + n, v->max_depth - n, &v->info.truncated);
    v->info.truncated |= w->hi < hi;
}

static void
walk_parked_by_tables(uintptr_t sp, uintptr_t hi, struct view *v)
{
    lock_copy();
    struct rt_walk w = { .lo = sp, .hi = sp + copy_stack(sp, hi), .copy = copy.bytes };
    rt_regs_parked(&w.regs, sp, copy.bytes);
    walk_tables(&w, v, 0, hi);
    unlock_copy();
}

/* ---- each of the four --------------------------------------------------------------- */

/* trusted -- whether what frame pointers gave, from address `from` on, is all there is. */
static bool
trusted(const struct view *v, int from)
{
    return (!v->info.truncated || v->info.depth == v->max_depth) &&
           rt_walk_trusted(v->pcs + from, v->info.depth - from);
}

/* walk_parked -- Returns: false if it is about to leave, or has come back. */
__attribute__((no_sanitize("address"))) RT_PEEK static bool
walk_parked(const struct bh_g *g, struct view *v)
{
    uintptr_t    sp = (uintptr_t)__atomic_load_n(&g->sp, __ATOMIC_ACQUIRE);
    struct range r = readable(g->stack);

    if (sp == (uintptr_t)RT_SP_LEAVING)
        return false;
    if (sp == 0) {
        v->pcs[0] = (uintptr_t)g->fn + 1;
        v->info.depth = 1;
        return true;
    }
    /* In its emergency pages; or a mixture, which the caller notices. */
    if (sp < r.lo || sp >= r.hi || r.hi - sp < RT_PARKED_SIZE || sp % sizeof sp != 0) {
        v->info.truncated = true;
        return true;
    }
    struct rt_regs regs;
    rt_regs_parked(&regs, sp, (const void *)sp);
    v->pcs[0] = regs.r[RT_REG_PC];
    v->info.depth = 1 + rt_walk_frames(regs.r[RT_REG_FP], sp, r.hi, v->pcs + 1,
                                       v->max_depth - 1, &v->info.truncated);
    if (!trusted(v, 0))
        walk_parked_by_tables(sp, r.hi, v);
    return true;
}

/* walk_blocked -- of one in bh_blocking: what it called, and the calls from bh_blocking outwards. */
RT_PEEK static bool
walk_blocked(const struct bh_g *g, struct view *v)
{
    struct rt_m *m = g->m;

    if (m == NULL)
        return false;
    uint32_t     blocks = atomic_load_explicit(&m->blocks, memory_order_acquire);
    uintptr_t    fp = m->blocked_fp, pc = m->blocked_pc, fn = m->blocked_fn;
    struct range r = readable(g->stack);
    int          n = 0;

    if (fp < r.lo || fp >= r.hi)
        return false;
    v->pcs[n++] = fn + 1;
    if (n < v->max_depth)
        v->pcs[n++] = pc;
    v->info.depth =
        n + rt_walk_frames(fp, fp, r.hi, v->pcs + n, v->max_depth - n, &v->info.truncated);
    if (!trusted(v, 1)) {
        struct rt_walk w = { .lo = fp, .hi = r.hi };

        rt_regs_set(&w.regs, RT_REG_PC, pc);
        rt_regs_set(&w.regs, RT_REG_FP, fp);
        walk_tables(&w, v, 1, r.hi);
    }
    rt_fence();
    return g->m == m && g->why == RT_WHY_BLOCKING && atomic_load(&m->blocks) == blocks;
}

/* walk_running -- of one that runs on another thread.  One that does not answer is not asked again. */
RT_PEEK static bool
walk_running(const struct bh_g *g, struct view *v)
{
    struct rt_peek peek = { .room = sizeof copy.bytes, .copy = copy.bytes };
    struct rt_m   *m = g->m;
    bool           answered, have;

    if (m == NULL)
        return false;
    lock_copy();
    answered = rt_thread_peek(m, &peek);
    have = answered && peek.goroutine == v->info.id;
    if (have) {
        struct rt_walk w = { .regs = peek.regs,
                             .lo = peek.lo,
                             .hi = peek.lo + peek.size,
                             .copy = peek.copy,
                             .exact = true };
        walk_tables(&w, v, 0, peek.hi);
    }
    unlock_copy();
    if (!answered)
        v->info.truncated = true;
    return have || !answered;
}

/* walk_own -- of the caller itself, from bh_goroutines' caller on. */
static void
walk_own(const struct bh_g *g, struct view *v, uintptr_t own_frame)
{
    uintptr_t hi = (uintptr_t)g->stack;

    v->info.depth =
        rt_walk_frames(own_frame, own_frame, hi, v->pcs, v->max_depth, &v->info.truncated);
    if (!trusted(v, 0)) {
        const uintptr_t *frame = (const uintptr_t *)own_frame;
        struct rt_walk   w = { .lo = own_frame, .hi = hi };

        rt_regs_set(&w.regs, RT_REG_PC, frame[1]);
        rt_regs_set(&w.regs, RT_REG_FP, frame[0]);
        rt_regs_set(&w.regs, RT_REG_SP, own_frame + 2 * sizeof *frame);
        walk_tables(&w, v, 0, hi);
    }
}

/* ---- one goroutine ----------------------------------------------------------------- */

static int
state_of(uint8_t state)
{
    return state == RT_G_RUNNING   ? BH_GOROUTINE_RUNNING
           : state == RT_G_WAITING ? BH_GOROUTINE_WAITING
                                   : BH_GOROUTINE_RUNNABLE;
}

/* waits_for -- an address for what g waits for, the same for all that wait for it. */
RT_PEEK static uint64_t
waits_for(const struct bh_g *g, enum rt_why why)
{
    switch (why) {
    case RT_WHY_CHAN_RECEIVE:
    case RT_WHY_CHAN_SEND:
        return g->param != NULL ? (uintptr_t)g->param - offsetof(struct bh_chan, lock) : 0;
    case RT_WHY_MUTEX:
    case RT_WHY_RWMUTEX_R:
    case RT_WHY_RWMUTEX_W:
    case RT_WHY_ONCE:
    case RT_WHY_SEMACQUIRE:
    case RT_WHY_IO:
        return (uintptr_t)g->param;
    default:
        return 0;
    }
}

/* The name may be changed as we read: so byte by byte, and with an end of our own. */
RT_PEEK static void
read_words(struct bh_g *g, struct view *v)
{
    const volatile char *name = rt_cold_name(g);
    size_t               n = 0;

    v->labels[0] = '\0';
    if (name != NULL)
        for (; n < sizeof v->name - 1 && (v->name[n] = name[n]) != '\0'; n++)
            continue;
    v->name[n] = '\0';
    rt_cold_labels(g, v->labels, sizeof v->labels);
    rt_tag_copy(g, &v->info.tag);
}

/* read_facts -- all but the stack, of one in `state`. */
RT_PEEK static void
read_facts(struct bh_g *g, uint8_t state, struct view *v)
{
    enum rt_why why = (enum rt_why)g->why;

    v->info = (struct bh_goroutine_info){
        .id = v->info.id,
        .created_by = g->created_by,
        .created_pc = (uintptr_t)g->created_pc,
        .state = state_of(state),
        .why = state == RT_G_WAITING || (state == RT_G_RUNNING && why == RT_WHY_BLOCKING)
                   ? rt_why_text(why)
               : state == RT_G_RUNNING ? "running"
                                       : "runnable",
        .name = v->name,
        .labels = v->labels,
        .pcs = v->pcs,
        .system = (g->flags & RT_G_SYSTEM) != 0,
        .locked = (g->flags & RT_G_LOCKED) != 0,
    };
    if (state == RT_G_WAITING) {
        int64_t ns = rt_now() - g->waiting_since;

        v->info.waiting_ns = ns > 0 ? ns : 0;
        v->info.blocked_on = waits_for(g, why);
    }
    read_words(g, v);
}

/* read_once -- Returns: false if it moved meanwhile. */
RT_PEEK static bool
read_once(struct bh_g *g, struct view *v, uintptr_t own_frame)
{
    uint16_t runs = atomic_load_explicit(&g->runs, memory_order_acquire);
    uint8_t  state = atomic_load_explicit(&g->state, memory_order_acquire);
    bool     have = true;

    read_facts(g, state, v);
    if (state == RT_G_RUNNING && g->why == RT_WHY_BLOCKING)
        return (v->max_depth == 0 || walk_blocked(g, v)) && atomic_load(&g->id) == v->info.id;
    if (v->max_depth > 0) {
        if (g == rt_g())
            walk_own(g, v, own_frame);
        else if (state == RT_G_RUNNING)
            have = walk_running(g, v);
        else
            have = walk_parked(g, v);
    }
    rt_fence();
    return have && atomic_load(&g->state) == state && atomic_load(&g->id) == v->info.id &&
           (state == RT_G_RUNNING || atomic_load(&g->runs) == runs);
}

/* If the stack overflows, let it be here: further down a lock would be left behind. */
static __attribute__((noinline)) void
need_stack(void)
{
    char room[8 << 10]; /* taken in steps that touch each page but the last, which is ours to touch */

    room[0] = 0;
    __asm__ volatile("" : : "r"(room) : "memory");
}

/* look -- Returns: false if there is no goroutine in this descriptor (any more). */
RT_PEEK static bool
look(struct bh_g *g, struct view *v, uintptr_t own_frame)
{
    uint64_t id = atomic_load_explicit(&g->id, memory_order_acquire);

    need_stack();
    for (int i = 0; i < TRIES; i++) {
        uint8_t state = atomic_load(&g->state);

        if (id == 0 || state == RT_G_IDLE || state == RT_G_DEAD || atomic_load(&g->id) != id)
            return false;
        v->info.id = id;
        if (read_once(g, v, own_frame))
            return true;
        if (i >= PATIENT_TRIES)
            sched_yield(); /* its thread may have been stopped by the kernel half way */
    }
    v->info.depth = 0;
    v->info.truncated = true;
    return atomic_load(&g->id) == id;
}

/* ---- all of them ------------------------------------------------------------------- */

struct visit {
    bool (*fn)(const struct bh_goroutine_info *g, void *arg);
    void       *arg;
    uintptr_t   own_frame;
    int64_t     count;
    struct view view;
};

static bool
visit(struct bh_g *g, void *arg)
{
    struct visit *to = arg;

    if (!look(g, &to->view, to->own_frame))
        return true;
    to->count++;
    return to->fn(&to->view.info, to->arg);
}

__attribute__((noinline)) int64_t
bh_goroutines(bool (*fn)(const struct bh_goroutine_info *g, void *arg), void *arg,
              int max_depth)
{
    struct visit to;

    if (rt_threads_frozen()) /* in a crash, perhaps with one of our locks: it has its own way */
        return 0;
    to.fn = fn;
    to.arg = arg;
    to.own_frame = (uintptr_t)__builtin_frame_address(0);
    to.count = 0;
    to.view.max_depth = max_depth < 0                    ? 0
                        : max_depth > BH_GOROUTINE_DEPTH ? BH_GOROUTINE_DEPTH
                                                         : max_depth;
    rt_each_g(visit, &to);
    return to.count;
}
