/*
 * proc.c -- the life of a goroutine: started, run, parked, readied, ended.
 *
 *             bh_go                  picked                 fn returns
 *     IDLE ----------> RUNNABLE ----------------> RUNNING ------------> DEAD -> IDLE
 *                         ^          park |          ^
 *                         |               v          |
 *                         +---- ready - WAITING      +-- yield: through RUNNABLE
 *
 * A goroutine that stops running switches straight to the next one; only when
 * this P has nothing local does it go through the M's own stack, where the
 * scheduler looks further (sched.c).  What must happen to the context that was
 * left -- release its lock, queue it, free it -- happens after the switch, on
 * the stack of whoever comes next: before that its registers are not yet saved
 * and nobody else may run it (rt_after_switch).
 *
 * A goroutine gets its stack when it first runs, never when it is started: a
 * queued one costs its descriptor.  One that ends gives its hot stack straight
 * to the next one if that has not started yet.
 *
 * I1  a G is in at most one queue; its `next` belongs to that queue
 * I2  only the M that runs a G writes its plain fields
 * I3  m->in_rt is set whenever a switch happens
 *
 * After Go's runtime/proc.go.  We differ in switching without the scheduler's
 * stack, in giving stacks late, and in owner-only runnext (runq.h).
 */

#include "cold.h"
#include "contention.h"
#include "flight.h"
#include "lifecycle.h"
#include "runq.h"
#include "tag.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#if defined(RT_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#include <sanitizer/lsan_interface.h>
#endif
#if defined(RT_TSAN)
#include <sanitizer/tsan_interface.h>
#endif

enum {
    SLAB_COUNT = 1024,       /* descriptors mapped at a time */
    MAX_SLABS = 1 << 16,     /* 64 million goroutines */
    FREE_G_MOST = 512,       /* descriptors a P keeps; half of it moves at a time */
    ID_BLOCK = 64,           /* goroutine ids a P takes at a time */
    MAIN_EXIT_YIELDS = 1000, /* main's patience with panics in flight (Go's number) */
};

__attribute__((tls_model("initial-exec"))) __thread struct rt_m *rt_tls_m;

_Atomic(struct rt_g_slab *) rt_g_slabs;

static struct {
    struct rt_lock   lock;
    struct bh_g     *head; /* idle descriptors */
    uint32_t         slab_count;
    _Atomic uint64_t last_id;
} pool;

static struct rt_g_slab slab_table[MAX_SLABS]; /* pages of it that are not used cost nothing */

/* ---- sanitizers: tell them about every stack switch --------------------- */

#if defined(RT_ASAN)
static void
leave_to(struct rt_m *m, struct bh_g *from, struct bh_g *to, bool dying)
{
    void **fake = dying ? NULL : from != NULL ? &from->fiber : &m->asan_fake;

    if (to != NULL)
        __sanitizer_start_switch_fiber(fake, to->stack->lo,
                                       (size_t)(to->stack->top - to->stack->lo));
    else
        __sanitizer_start_switch_fiber(fake, (void *)m->stack_lo, m->stack_hi - m->stack_lo);
}
static void
arrived(struct rt_m *m, struct bh_g *self)
{
    __sanitizer_finish_switch_fiber(self != NULL ? self->fiber : m->asan_fake, NULL, NULL);
}
#elif defined(RT_TSAN)
/* Inlined: a function would begin on one fiber's shadow stack and end on another's. */
static inline __attribute__((always_inline)) void
leave_to(struct rt_m *m, struct bh_g *from, struct bh_g *to, bool dying)
{
    (void)from;
    (void)dying;
    __tsan_switch_to_fiber(to != NULL ? to->fiber : m->fiber, 0);
}
#define arrived(m, self) ((void)0)
#else
#define leave_to(m, from, to, dying) ((void)0)
#define arrived(m, self)             ((void)0)
#endif

/* ---- descriptors --------------------------------------------------------- */

/* Map a new slab.  Under pool.lock; false: no memory. */
static bool
pool_grow(void)
{
    struct rt_g_slab *slab = &slab_table[pool.slab_count];
    struct bh_g      *g;

    if (pool.slab_count == MAX_SLABS)
        return false;
    g = mmap(NULL, SLAB_COUNT * sizeof *g, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
             -1, 0);
    if (g == MAP_FAILED)
        return false;
#if defined(RT_ASAN)
    /* What only a descriptor points at is not lost. */
    __lsan_register_root_region(g, SLAB_COUNT * sizeof *g);
#endif
    pool.slab_count++;
    slab->g = g;
    slab->count = SLAB_COUNT;
    slab->next = atomic_load_explicit(&rt_g_slabs, memory_order_relaxed);
    atomic_store_explicit(&rt_g_slabs, slab, memory_order_release);
    return true;
}

/* Take one descriptor from the pool: a recycled one, or the newest slab's next.  Under pool.lock. */
static struct bh_g *
pool_take(void)
{
    struct rt_g_slab *slab = atomic_load_explicit(&rt_g_slabs, memory_order_relaxed);
    struct bh_g      *g = pool.head;
    uint32_t          used;

    if (g != NULL) {
        pool.head = g->next;
        return g;
    }
    if (slab == NULL ||
        atomic_load_explicit(&slab->used, memory_order_relaxed) == slab->count) {
        if (!pool_grow())
            return NULL;
        slab = atomic_load_explicit(&rt_g_slabs, memory_order_relaxed);
    }
    used = atomic_load_explicit(&slab->used, memory_order_relaxed);
    atomic_store_explicit(&slab->used, used + 1, memory_order_release);
    return &slab->g[used];
}

static void
pool_put(struct bh_g *g)
{
    rt_lock(&pool.lock);
    g->next = pool.head;
    pool.head = g;
    rt_unlock(&pool.lock);
}

static struct bh_g *
free_g_refill(struct rt_p *p)
{
    struct bh_g *g, *got;

    rt_lock(&pool.lock);
    got = pool_take();
    for (int i = 1;
         p != NULL && got != NULL && i < FREE_G_MOST / 8 && (g = pool_take()) != NULL; i++) {
        g->next = p->free_g;
        p->free_g = g;
        p->free_g_count++;
    }
    rt_unlock(&pool.lock);
    return got;
}

static struct bh_g *
free_g_get(struct rt_p *p)
{
    struct bh_g *g;

    if (rt_unlikely(p == NULL || p->free_g == NULL))
        return free_g_refill(p);
    g = p->free_g;
    p->free_g = g->next;
    p->free_g_count--;
    return g;
}

/* Give descriptors beyond `keep` back to the pool. */
static void
free_g_trim(struct rt_p *p, uint32_t keep)
{
    rt_lock(&pool.lock);
    while (p->free_g_count > keep) {
        struct bh_g *g = p->free_g;

        p->free_g = g->next;
        p->free_g_count--;
        g->next = pool.head;
        pool.head = g;
    }
    rt_unlock(&pool.lock);
}

static void
free_g_put(struct rt_p *p, struct bh_g *g)
{
    g->next = p->free_g;
    p->free_g = g;
    if (rt_unlikely(++p->free_g_count > FREE_G_MOST))
        free_g_trim(p, FREE_G_MOST / 2);
}

void
rt_each_g(bool (*fn)(struct bh_g *g, void *arg), void *arg)
{
    struct rt_g_slab *slab = atomic_load_explicit(&rt_g_slabs, memory_order_acquire);

    for (; slab != NULL; slab = slab->next) {
        uint32_t used = atomic_load_explicit(&slab->used, memory_order_acquire);

        for (uint32_t i = 0; i < used; i++)
            if (atomic_load_explicit(&slab->g[i].id, memory_order_relaxed) != 0 &&
                !fn(&slab->g[i], arg))
                return;
    }
}

/* ---- starting ------------------------------------------------------------ */

static uint64_t
next_id(struct rt_p *p)
{
    if (p == NULL)
        return atomic_fetch_add(&pool.last_id, 1) + 1;
    if (p->next_id == p->last_id) {
        p->next_id = atomic_fetch_add(&pool.last_id, ID_BLOCK);
        p->last_id = p->next_id + ID_BLOCK;
    }
    return ++p->next_id;
}

static inline void
wake_for_next(struct rt_p *p)
{
    uint64_t now;

    if (rt_likely(atomic_load_explicit(&rt_sched.idle_p_count, memory_order_relaxed) == 0 ||
                  atomic_load_explicit(&rt_sched.spinning, memory_order_relaxed) != 0))
        return;
    /* The waker usually parks within a microsecond and runs it itself: waking
     * a thread costs more.  Now and then we do, in case it does not. */
    now = rt_ticks();
    if (now < p->wake_at)
        return;
    p->wake_at = now + RT_WAKE_TICKS;
    rt_wake_p();
}

static inline void
wake_for_queue(void)
{
    /* Pairs with a spinning M that gives up, then looks at the queues again. */
    if (rt_sched.proc_count > 1)
        rt_fence();
    if (atomic_load_explicit(&rt_sched.idle_p_count, memory_order_relaxed) != 0 &&
        atomic_load_explicit(&rt_sched.spinning, memory_order_relaxed) == 0)
        rt_wake_p();
}

/* Make g run next on p; what was next goes to the tail. */
static inline void
put_next(struct rt_p *p, struct bh_g *g)
{
    struct bh_g *old;

    if (rt_unlikely(rt_sched.simulate)) {
        rt_sim_put(g);
        return;
    }
    old = atomic_load_explicit(&p->runnext, memory_order_relaxed);
    atomic_store_explicit(&p->runnext, g, memory_order_release);
    if (old == NULL) {
        wake_for_next(p);
        return;
    }
    rt_runq_put(p, old);
    wake_for_queue();
}

static void
fill(struct bh_g *g, bh_fn *fn, unsigned flags, void *created_pc)
{
    g->sp = NULL;
    g->m = NULL;
    g->why = RT_WHY_NONE;
    g->flags = (uint8_t)flags;
    g->stack_class = rt_sched.stack_class;
    g->lock_depth = 0;
    g->stack = NULL;
    g->defers = NULL;
    g->panics = NULL;
    g->fn = fn;
    g->created_pc = created_pc;
    atomic_store_explicit(&g->state, RT_G_RUNNABLE, memory_order_relaxed);
}

/* A filled descriptor whose arguments are copied or taken over; NULL: no memory. */
static struct bh_g *
new_g(struct rt_p *p, bh_fn *fn, unsigned flags, void *created_pc)
{
    struct bh_g *g = free_g_get(p);

    if (rt_unlikely(g == NULL))
        return NULL;
    fill(g, fn, flags, created_pc);
    return g;
}

static void
count_and_name(struct rt_p *p, struct bh_g *g, struct bh_g *parent)
{
    g->created_by =
        parent != NULL ? atomic_load_explicit(&parent->id, memory_order_relaxed) : 0;
    if (rt_unlikely(parent != NULL && parent->cold != NULL))
        rt_cold_inherit(g, parent);
    if (rt_unlikely(parent != NULL &&
                    atomic_load_explicit(&parent->tag, memory_order_relaxed) != 0))
        rt_tag_inherit(g, parent);
    atomic_store_explicit(&g->id, next_id(p), memory_order_release);
    rt_flight_create(p, g);
    if (!(g->flags & RT_G_SYSTEM))
        atomic_fetch_add_explicit(&rt_sched.g_count, 1, memory_order_relaxed);
}

/* Fault on the caller's bad pointer here, where it is still the caller's panic. */
static inline void
touch(const void *args, size_t size)
{
    const volatile char *bytes = args;

    if (size > 0) {
        (void)bytes[0];
        (void)bytes[size - 1];
    }
}

/* The goroutine's own copy of large arguments, or NULL for those kept inline. */
static void *
copy_large(const void *args, size_t size)
{
    void *copy;

    if (rt_likely(size <= RT_G_INLINE_ARGS))
        return NULL;
    copy = rt_malloc(size);
    memcpy(copy, args, size);
    return copy;
}

static inline void
set_args(struct bh_g *g, const void *args, size_t size, void *large)
{
    if (rt_unlikely(large != NULL)) {
        g->flags |= RT_G_HEAP_ARGS;
        g->args = large;
    } else {
        g->args = g->inline_args;
        if (size > 0)
            memcpy(g->inline_args, args, size);
    }
}

static void
apply(const struct bh_go_options *o, struct bh_g *g)
{
    if (o->stack_size != 0)
        g->stack_class = rt_stack_class(o->stack_size);
    if (o->name != NULL)
        rt_cold_set_name(g, o->name);
}

/* set_left -- it runs no more, as `state` says; its stack pointer is still to be saved. */
static inline void
set_left(struct bh_g *g, enum rt_g_state state, enum rt_why why)
{
    g->why = (uint8_t)why;
    g->sp = RT_SP_LEAVING;
    rt_store_fence();
    atomic_store_explicit(&g->state, (uint8_t)state, memory_order_relaxed);
}

static inline void
set_waiting(struct bh_g *g, enum rt_why why, void *what)
{
    g->param = what;
    g->waiting_since = atomic_load_explicit(&rt_sched.coarse_now, memory_order_relaxed);
    set_left(g, RT_G_WAITING, why);
}

/* A new goroutine, in no queue; in the runtime on return.  Panics in the caller. */
static inline struct bh_g *
create(const struct bh_go_options *o, bh_fn *fn, const void *args, size_t size, void *pc)
{
    void        *large;
    struct rt_m *m;
    struct bh_g *g;

    if (rt_unlikely(fn == NULL))
        rt_throw("go of nil func value");
    touch(args, size);
    large = copy_large(args, size);
    if (rt_unlikely(atomic_load_explicit(&rt_sched.g_count, memory_order_relaxed) >=
                    rt_sched.g_limit)) {
        free(large);
        rt_panic_runtime("no stack can be had for a new goroutine");
    }

    m = rt_enter("bh_go");
    g = new_g(m->p, fn, 0, pc);
    if (rt_unlikely(g == NULL)) {
        rt_exit();
        free(large);
        rt_panic_runtime("out of memory");
    }
    set_args(g, args, size, large);
    count_and_name(m->p, g, m->g);
    if (rt_unlikely(o != NULL))
        apply(o, g);
    rt_count(m, RT_COUNT_SPAWNED, 1);
    return g;
}

void
rt_go(const struct bh_go_options *o, bh_fn *fn, const void *args, size_t size, void *pc)
{
    struct bh_g *g = create(o, fn, args, size, pc);

    put_next(rt_m()->p, g);
    rt_point();
    rt_exit();
}

struct bh_g *
rt_make(bh_fn *fn, const void *args, size_t size, uint8_t stack_class, enum rt_why why)
{
    struct rt_m *m = rt_m();
    struct rt_p *p = m != NULL ? m->p : NULL;
    struct bh_g *g = new_g(p, fn, 0, NULL);

    if (rt_unlikely(g == NULL))
        rt_throw("out of memory for a goroutine");
    set_args(g, args, size, NULL);
    count_and_name(p, g, NULL);
    g->stack_class = stack_class;
    set_waiting(g, why, NULL);
    g->sp = NULL;
    rt_count(m, RT_COUNT_SPAWNED, 1);
    return g;
}

void
bh_go_start_(bh_fn *fn, const void *args, size_t size)
{
    rt_go(NULL, fn, args, size, __builtin_return_address(0));
}

void
bh_go_start_with_(const struct bh_go_options *o, bh_fn *fn, const void *args, size_t size)
{
    rt_go(o, fn, args, size, __builtin_return_address(0));
}

struct bh_g *
rt_spawn(bh_fn *fn, const void *args, size_t size, unsigned flags, void *pc)
{
    struct rt_m *m = rt_m();
    struct rt_p *p = m != NULL ? m->p : NULL;
    void        *large = copy_large(args, size);
    struct bh_g *g = new_g(p, fn, flags, pc);

    if (g == NULL)
        rt_throw("out of memory for a goroutine");
    set_args(g, args, size, large);
    count_and_name(p, g, m != NULL ? m->g : NULL);
    rt_count(m, RT_COUNT_SPAWNED, 1);
    if (p != NULL)
        put_next(p, g);
    else
        rt_global_put(g);
    return g;
}

int
bh_go_start_from_thread_(bh_fn *fn, const void *args, size_t size)
{
    if (!rt_sched.running || atomic_load(&rt_sched.main_done))
        return -ESHUTDOWN;
    if (bh_self() != NULL) {
        rt_go(NULL, fn, args, size, __builtin_return_address(0));
        return 0;
    }
    if (fn == NULL)
        rt_throw("go of nil func value");
    atomic_store(&rt_sched.foreign, 1);
    (void)rt_spawn(fn, args, size, 0, __builtin_return_address(0));
    return 0;
}

/* ---- running --------------------------------------------------------------- */

static noreturn void end_goroutine(void);

/* Tells debuggers and unwinders that nobody called this function. */
#if defined(__x86_64__)
#define LAST_FRAME __asm__ volatile(".cfi_undefined rip")
#else
#define LAST_FRAME __asm__ volatile(".cfi_undefined x30")
#endif

/* The first function on every goroutine's stack. */
static noreturn void
enter_goroutine(void)
{
    struct rt_m *m = rt_m();
    struct bh_g *g = m->g;

    LAST_FRAME;
    arrived(m, g);
    rt_after_switch(m);
    RT_PROBE(goroutine__start, 3, atomic_load(&g->id), g->fn, g->created_by);
    if (rt_unlikely(rt_sched.hooks.goroutine_start != NULL))
        rt_sched.hooks.goroutine_start(g->id);
    rt_exit();
    g->fn(g->args);
    end_goroutine();
}

/* Lay out a fresh stack so that rt_switch to it starts enter_goroutine. */
static void
lay_out(struct bh_g *g, struct rt_stack *s)
{
    uintptr_t *sp = (uintptr_t *)(void *)s->top;

#if defined(__x86_64__)
    enum { DEFAULT_MXCSR = 0x1f80, DEFAULT_X87 = 0x37f };

    *--sp = 0; /* return address of enter_goroutine: ends backtraces */
    *--sp = (uintptr_t)enter_goroutine;
    for (int i = 0; i < 6; i++)
        *--sp = 0;
    *--sp = DEFAULT_MXCSR | (uintptr_t)DEFAULT_X87 << 32;
#else
    sp -= 22;
    memset(sp, 0, 22 * sizeof *sp);
    sp[1] = (uintptr_t)enter_goroutine;
#endif
    g->stack = s;
    g->sp = sp;
}

bool
rt_prepare(struct rt_m *m, struct bh_g *g)
{
    struct rt_stack *s = rt_stack_get(m->p, g->stack_class);

    if (s == NULL)
        return false;
    lay_out(g, s);
#if defined(RT_ASAN)
    g->fiber = NULL;
#elif defined(RT_TSAN)
    g->fiber = __tsan_create_fiber(0);
#endif
    return true;
}

/* Recycle an ended goroutine: everything but its stack. */
static void
recycle(struct rt_p *p, struct bh_g *g)
{
    atomic_store_explicit(&g->id, 0, memory_order_relaxed);
    atomic_store_explicit(&g->state, RT_G_IDLE, memory_order_relaxed);
    g->stack = NULL;
    if (p != NULL)
        free_g_put(p, g);
    else
        pool_put(g);
}

/* Finish what the context we came from could not do on its own stack. */
void
rt_after_switch(struct rt_m *m)
{
    struct bh_g *g = m->after_g;
    uint32_t     op = m->after_op;

    m->after_op = RT_AFTER_NONE;
    switch (op) {
    case RT_AFTER_NONE:
        break;
    case RT_AFTER_UNLOCK:
        rt_unlock_word(m->after_arg);
        break;
    case RT_AFTER_CALL:
        m->after_fn(g, m->after_arg);
        break;
    case RT_AFTER_TAIL:
        if (rt_unlikely(rt_sched.simulate))
            rt_sim_put(g);
        else
            rt_runq_put(m->p, g);
        break;
    case RT_AFTER_GLOBAL:
        rt_global_put(g);
        break;
    case RT_AFTER_DEAD:
#if defined(RT_TSAN)
        __tsan_destroy_fiber(g->fiber);
#endif
        rt_stack_put(m->p, g->stack);
        recycle(m->p, g);
        break;
    }
}

/* The next local goroutine, or NULL if the scheduler must look around. */
static inline struct bh_g *
next_local(struct rt_p *p)
{
    struct bh_g *g;

    if (rt_unlikely(rt_sched.simulate))
        return rt_sim_take();
    if (rt_unlikely(atomic_load_explicit(&p->timer_first, memory_order_relaxed) != INT64_MAX) &&
        rt_ticks() >= p->timers_at)
        return NULL;
    g = atomic_load_explicit(&p->runnext, memory_order_relaxed);
    if (g != NULL) {
        atomic_store_explicit(&p->runnext, NULL, memory_order_relaxed);
        return g;
    }
    atomic_store_explicit(&p->tick, p->tick + 1, memory_order_relaxed);
    if (rt_unlikely(p->tick % RT_GLOBAL_EVERY == 0 &&
                    atomic_load_explicit(&rt_sched.runq_count, memory_order_relaxed) != 0))
        return NULL;
    return rt_runq_get(p);
}

static inline void
set_running(struct rt_m *m, struct bh_g *g)
{
    m->g = g;
    g->m = m;
    rt_tag_show(m, g);
    atomic_store_explicit(&g->state, RT_G_RUNNING, memory_order_relaxed);
    atomic_store_explicit(&g->runs, (uint16_t)(g->runs + 1), memory_order_relaxed);
    rt_store_fence();
    rt_flight(m->p, BH_FLIGHT_START, RT_WHY_NONE, g->id, 0);
}

/* Leave `from` for `to`, whose stack is ready. */
static inline void
switch_g(struct rt_m *m, struct bh_g *from, struct bh_g *to)
{
    set_running(m, to);
    leave_to(m, from, to, false);
    rt_switch(&from->sp, to->sp);
    m = rt_m();
    arrived(m, m->g);
    rt_after_switch(m);
}

/* Leave `from` for the scheduler on the M's own stack. */
static void
switch_g0(struct rt_m *m, struct bh_g *from)
{
    m->g = NULL;
    rt_tag_show(m, NULL);
    leave_to(m, from, NULL, false);
    rt_switch(&from->sp, m->g0_sp);
    m = rt_m();
    arrived(m, m->g);
    rt_after_switch(m);
}

void
rt_run_from_g0(struct rt_m *m, struct bh_g *g)
{
    set_running(m, g);
    leave_to(m, NULL, g, false);
    rt_switch(&m->g0_sp, g->sp);
    arrived(m, NULL);
    rt_after_switch(m);
}

/* Can `next` be switched to directly?  Else the scheduler gets it through m->next_g. */
static inline bool
direct(struct rt_m *m, struct bh_g *next)
{
    if (rt_unlikely(next->flags & RT_G_LOCKED) || rt_unlikely(m->locked_g != NULL)) {
        m->next_g = next;
        return false;
    }
    if (next->sp == NULL && !rt_prepare(m, next)) {
        m->next_g = next; /* no stack left: the scheduler puts it back and waits for one */
        return false;
    }
    return true;
}

/* Stop running g; m->after_* says what becomes of it. */
static inline void
reschedule(struct rt_m *m, struct bh_g *g)
{
    struct bh_g *next;

    rt_count(m, RT_COUNT_PARKED, 1);
    if (!(g->flags & RT_G_LOCKED))
        g->m = NULL;
    next = rt_likely(m->p != NULL) ? next_local(m->p) : NULL;
    if (rt_likely(next != NULL) && rt_likely(direct(m, next)))
        switch_g(m, g, next);
    else
        switch_g0(m, g);
}

static inline void
park(void (*after)(struct bh_g *g, void *arg), void *arg, enum rt_why why)
{
    struct rt_m *m = rt_m();
    struct bh_g *g = m->g;

    rt_flight(m->p, BH_FLIGHT_STOP, why, g->id, 0);
    set_waiting(g, why, arg);
    m->after_op = after != NULL ? RT_AFTER_CALL : RT_AFTER_NONE;
    m->after_g = g;
    m->after_fn = after;
    m->after_arg = arg;
    reschedule(m, g);
}

static inline void
park_unlock(_Atomic uint32_t *lock_word, enum rt_why why)
{
    struct rt_m *m = rt_m();
    struct bh_g *g = m->g;

    rt_flight(m->p, BH_FLIGHT_STOP, why, g->id, 0);
    set_waiting(g, why, lock_word);
    m->after_op = RT_AFTER_UNLOCK;
    m->after_g = g;
    m->after_arg = lock_word;
    reschedule(m, g);
}

/* The same for the block profile; apart, so that parking without it costs a branch more at most. */
static __attribute__((noinline)) void
park_profiled(void (*after)(struct bh_g *g, void *arg), void *arg, enum rt_why why)
{
    int64_t since = rt_now();

    park(after, arg, why);
    rt_block_event(why, since);
}

static __attribute__((noinline)) void
park_unlock_profiled(_Atomic uint32_t *lock_word, enum rt_why why)
{
    int64_t since = rt_now();

    park_unlock(lock_word, why);
    rt_block_event(why, since);
}

void
rt_park(void (*after)(struct bh_g *g, void *arg), void *arg, enum rt_why why)
{
    if (rt_block_profiled())
        park_profiled(after, arg, why);
    else
        park(after, arg, why);
}

void
rt_park_unlock(_Atomic uint32_t *lock_word, enum rt_why why)
{
    if (rt_block_profiled())
        park_unlock_profiled(lock_word, why);
    else
        park_unlock(lock_word, why);
}

static inline void
set_runnable(struct rt_m *m, struct bh_g *g)
{
    if (rt_unlikely(atomic_load_explicit(&g->state, memory_order_relaxed) != RT_G_WAITING))
        rt_throw("ready: goroutine %llu is not waiting but in state %u",
                 (unsigned long long)g->id, (unsigned)g->state);
    g->why = RT_WHY_NONE;
    atomic_store_explicit(&g->state, RT_G_RUNNABLE, memory_order_relaxed);
    if (m != NULL)
        rt_flight(m->p, BH_FLIGHT_UNBLOCK, RT_WHY_NONE, m->g != NULL ? m->g->id : 0, g->id);
}

void
rt_ready(struct bh_g *g)
{
    struct rt_m *m = rt_m();

    set_runnable(m, g);
    if (rt_likely(m != NULL && m->p != NULL))
        put_next(m->p, g);
    else
        rt_global_put(g);
}

void
rt_ready_tail(struct bh_g *g)
{
    struct rt_m *m = rt_m();

    set_runnable(m, g);
    if (rt_unlikely(m == NULL || m->p == NULL)) {
        rt_global_put(g);
    } else if (rt_unlikely(rt_sched.simulate)) {
        rt_sim_put(g);
    } else {
        rt_runq_put(m->p, g);
        wake_for_queue();
    }
}

void
rt_ready_runnable(struct rt_m *m, struct bh_g *g)
{
    if (m->p != NULL)
        put_next(m->p, g);
    else
        rt_global_put(g);
}

void
rt_yield(enum rt_why why)
{
    struct rt_m *m = rt_m();
    struct bh_g *g = m->g;
    struct bh_g *next = m->locked_g == NULL ? next_local(m->p) : NULL;

    rt_flight(m->p, BH_FLIGHT_STOP, why, g->id, 0);
    set_left(g, RT_G_RUNNABLE, why);
    if (!(g->flags & RT_G_LOCKED))
        g->m = NULL;
    m->after_g = g;
    if (rt_likely(next != NULL) && rt_likely(direct(m, next))) {
        m->after_op = RT_AFTER_TAIL;
        switch_g(m, g, next);
    } else {
        /* Nothing local: the global queue, so that the scheduler looks there,
         * at the timers and at the poller before it comes back to us. */
        m->after_op = rt_sched.simulate ? RT_AFTER_TAIL : RT_AFTER_GLOBAL;
        switch_g0(m, g);
    }
}

void
bh_yield(void)
{
    rt_enter("bh_yield");
    rt_yield(RT_WHY_NONE);
    rt_exit();
}

/* ---- ending ----------------------------------------------------------------- */

#if !defined(RT_ASAN) && !defined(RT_TSAN)
/* Reuse the dying goroutine's stack for `next`, which has none yet and wants the same size. */
static noreturn void
restart(struct rt_m *m, struct bh_g *dying, struct bh_g *next)
{
    struct rt_stack *s = dying->stack;

    next->stack = s;
    next->sp = s->top;
    recycle(m->p, dying);
    set_running(m, next);
    rt_start(s->top, enter_goroutine);
}
#endif

static noreturn void
end_goroutine(void)
{
    struct bh_g *g = bh_self();
    struct bh_g *next;
    struct rt_m *m;

    if (rt_unlikely(g->cold != NULL))
        rt_cold_release(g);
    if (rt_unlikely(g->flags & RT_G_HEAP_ARGS))
        free(g->args);
    RT_PROBE(goroutine__end, 1, atomic_load(&g->id));
    if (rt_unlikely(rt_sched.hooks.goroutine_end != NULL))
        rt_sched.hooks.goroutine_end(g->id);

    m = rt_enter("goroutine end");
    BH_INVARIANT(g->defers == NULL);
    if (rt_unlikely(atomic_load_explicit(&g->tag, memory_order_relaxed) != 0))
        rt_tag_drop(m, g);
    if (!(g->flags & RT_G_SYSTEM))
        atomic_fetch_sub_explicit(&rt_sched.g_count, 1, memory_order_relaxed);
    atomic_store_explicit(&g->state, RT_G_DEAD, memory_order_relaxed);
    rt_flight(m->p, BH_FLIGHT_END, RT_WHY_NONE, g->id, 0);

    next = rt_likely(!(g->flags & RT_G_LOCKED)) ? next_local(m->p) : NULL;
#if !defined(RT_ASAN) && !defined(RT_TSAN)
    if (next != NULL && next->sp == NULL && next->stack_class == g->stack_class &&
        !(next->flags & RT_G_LOCKED) &&
        atomic_load_explicit(&g->stack->guarded, memory_order_relaxed) != 0)
        restart(m, g, next);
#endif
    if (rt_unlikely(g->flags & RT_G_LOCKED)) {
        m->locked_g = NULL;
        m->exiting = true;
    }
    m->after_op = RT_AFTER_DEAD;
    m->after_g = g;
    if (next != NULL && direct(m, next)) {
        set_running(m, next);
        leave_to(m, g, next, true);
        rt_jump(next->sp);
    }
    m->g = NULL;
    rt_tag_show(m, NULL);
    leave_to(m, g, NULL, true);
    rt_jump(m->g0_sp);
}

/* bh_goexit's last step (panic.c): every deferred call has run. */
noreturn void
rt_goroutine_end(void)
{
    struct bh_g *g = bh_self();

    if (g->flags & RT_G_MAIN) {
        /* The main goroutine is gone but the program lives on. */
        atomic_store(&rt_sched.main_exited, true);
    }
    end_goroutine();
}

/* ---- main --------------------------------------------------------------------- */

struct main_call {
    bh_fn *fn;
    void  *args;
};

static void
main_goroutine(void *args)
{
    struct main_call *call = args;

    call->fn(call->args);
    rt_cold_release(bh_self());
    /* A panic in flight elsewhere gets a bounded chance to finish and print. */
    for (int i = 0; i < MAIN_EXIT_YIELDS && rt_panics_in_flight(); i++)
        bh_yield();
    while (atomic_load(&rt_sched.crashing) != 0)
        rt_note_sleep_for(&(struct rt_note){ 0 }, 1000000000);
    rt_main_done();
}

int
bh_main_with(const struct bh_options *options, bh_fn *fn, void *args)
{
    static const struct bh_options none;
    struct main_call               call = { fn, args };

    if (rt_sched.running || rt_sched.main_done || rt_m() != NULL)
        rt_throw("bh_main: called twice, or from a goroutine");
    rt_sched_init(options != NULL ? options : &none);
    (void)rt_spawn(main_goroutine, &call, sizeof call, RT_G_MAIN, NULL);
    rt_sched_start();
    rt_note_sleep(&rt_sched.main_note);
    if (options != NULL && options->report_leaks)
        rt_report_leaks(2);
    return 0;
}

int
bh_main(bh_fn *fn, void *args)
{
    return bh_main_with(NULL, fn, args);
}

/* ---- small questions ------------------------------------------------------------ */

noreturn void
rt_not_a_goroutine(const char *what)
{
    struct rt_m *m = rt_m();

    if (m != NULL)
        rt_throw("%s: called from the scheduler", what);
    rt_throw("%s: called from a thread that runs no goroutine", what);
}

__attribute__((noinline)) struct bh_g *
bh_self(void)
{
    return rt_g();
}

uint64_t
bh_id(void)
{
    struct bh_g *g = rt_g();

    return g != NULL ? atomic_load_explicit(&g->id, memory_order_relaxed) : 0;
}

size_t
bh_goroutine_count(void)
{
    return (size_t)atomic_load(&rt_sched.g_count);
}

int
bh_procs(void)
{
    return rt_sched.proc_count;
}

void
bh_set_hooks(const struct bh_hooks *hooks)
{
    if (rt_sched.running)
        rt_throw("bh_set_hooks: the runtime runs already");
    rt_sched.hooks = *hooks;
}
