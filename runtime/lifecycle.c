/*
 * lifecycle.c -- the life of a panic, told to whoever watches.
 *
 *     panic.c, contain.c, crash.c  --rt_panic_tell-->  a counter of the thread
 *                                                      a static probe (probe.h)
 *                                                      hooks.panic, the layer above
 *                raise_panic  --rt_panic_run_chain-->  hooks of bh_hook_panic
 *
 * With nobody watching a step costs a load, and the last a counter: they are
 * inline in lifecycle.h, what is here is its slow path.
 *
 * Everything runs on top of the panicking stack, the panic being the newest of its
 * goroutine's records.  A hook is application code and may itself panic, so each
 * call has a recover point of its own.  The records say who must not be called
 * again meanwhile: a panic below a record with in_chain does not run the chain, one
 * below a record with in_hook is not told to hooks.panic.  bh_goexit, which no point
 * stops, is turned into a panic there (panic.c).  bh_recover gives a hook NULL, as
 * no deferred call is being run for the panic it was told of.
 *
 * The chain is an array that only grows: a slot is written, then counted.
 * registering protects the two steps from each other; readers take no lock.
 */

#include "lifecycle.h"

#include <errno.h>
#include <time.h>

#include <bulkhead/go/sync.h>

#include "contain.h"
#include "report.h"

enum { MAX_HOOKS = 16, SERIAL_BLOCK = 64, DEFAULT_BUDGET_NS = 1000000 };

struct hook {
    bh_panic_hook_fn *fn;
    void             *arg;
};

_Atomic uint32_t rt_panic_hook_count;

static struct {
    struct hook      slot[MAX_HOOKS];
    struct rt_lock   registering;
    _Atomic uint64_t panics, failed, over_budget;
    _Atomic int64_t  total_ns, worst_ns, budget_ns;
} chain = { .budget_ns = DEFAULT_BUDGET_NS };

/* Two bytes each, within rt_probe_words. */
#define PLACE_SEMAPHORE(name)                                                                  \
    "\t.hidden bulkhead_" #name "_semaphore\n"                                                 \
    "\t.globl bulkhead_" #name "_semaphore\n"                                                  \
    "bulkhead_" #name "_semaphore:\n"                                                          \
    "\t.2byte 0\n"
__asm__("\t.pushsection .probes, \"aw\", %progbits\n"
        "\t.balign 8\n"
        "\t.hidden rt_probe_words\n"
        "\t.globl rt_probe_words\n"
        "rt_probe_words:\n" RT_PROBES(PLACE_SEMAPHORE) "\t.balign 8\n"
                                                       "\t.popsection\n");

#define ADD_SIZE(name) +sizeof(unsigned short)
_Static_assert(RT_PROBES(ADD_SIZE) <= sizeof(uint64_t[RT_PROBE_WORDS]), "a word is missing");

/* ---- serials -------------------------------------------------------------- */

/* Threads take numbers in blocks, so that panicking in parallel shares no cache line. */
uint64_t
rt_panic_serials(struct rt_m *m)
{
    static _Atomic uint64_t next = 1;
    uint64_t serial = atomic_fetch_add_explicit(&next, SERIAL_BLOCK, memory_order_relaxed);

    m->serial_end = serial + SERIAL_BLOCK;
    return serial;
}

/* ---- in flight ------------------------------------------------------------ */

RT_PEEK static bool
panicking(struct bh_g *g, void *found)
{
    const struct rt_panic *p = __atomic_load_n(&g->panics, __ATOMIC_RELAXED);

    if (p == NULL || p->goexit)
        return true;
    *(struct bh_g **)found = g;
    return false;
}

bool
rt_panics_in_flight(void)
{
    struct bh_g *found = NULL;

    rt_each_g(panicking, &found);
    return found != NULL;
}

/* ---- the layer above, and probes ------------------------------------------ */

/* The text as far as it is known without running the kind's functions. */
static const char *
known_text(const struct bh_panic *p)
{
    return p->text[0] != '\0' ? p->text : p->kind->name;
}

static void
probe(const struct rt_panic *r, enum bh_panic_step step)
{
    const struct bh_panic *p = &r->pub;
    const char            *text = known_text(p), *by = r->by != NULL ? r->by : "";
    uintptr_t              fn = r->record != NULL ? (uintptr_t)r->record->fn : 0;

    switch (step) {
    case BH_PANIC_RAISED:
        RT_PROBE(panic__raised, 4, p->serial, p->goroutine, text, p->pc);
        break;
    case BH_PANIC_DEFER:
        RT_PROBE(panic__defer, 4, p->serial, p->goroutine, fn, r->defers);
        break;
    case BH_PANIC_DEFER_DONE:
        RT_PROBE(panic__defer__done, 4, p->serial, p->goroutine, fn, r->defers);
        break;
    case BH_PANIC_RECOVERED:
        RT_PROBE(panic__recovered, 4, p->serial, p->goroutine, by, r->defers);
        break;
    case BH_PANIC_REPANICKED:
        RT_PROBE(panic__repanicked, 4, p->serial, p->goroutine, text, p->pc);
        break;
    case BH_PANIC_GOEXIT:
        RT_PROBE(panic__goexit, 4, p->serial, p->goroutine, text, r->defers);
        break;
    case BH_PANIC_CONTAINED:
        RT_PROBE(panic__contained, 4, p->serial, p->goroutine, by, text);
        break;
    case BH_PANIC_FATAL:
        RT_PROBE(panic__fatal, 4, p->serial, p->goroutine, text, p->pc);
        break;
    case BH_PANIC_REPLACED:
        RT_PROBE(panic__replaced, 4, p->serial, p->goroutine, text, r->defers);
        break;
    case BH_PANIC_STEPS:
        break;
    }
}

/* Whether a hook of the layer above is at work over an older panic of this goroutine. */
static bool
inside_hook(const struct rt_panic *p)
{
    for (p = p->link; p != NULL; p = p->link)
        if (p->in_hook)
            return true;
    return false;
}

static bool
call_hook(struct rt_panic *p, const struct bh_panic_event *e)
{
    BH_RECOVER(inner) {
        p->hook_failed = true;
        return false;
    }
    rt_sched.hooks.panic(e);
    return true;
}

bool
rt_panic_tell_hook(struct rt_panic *p, const struct bh_panic_event *e)
{
    bool took;

    if (rt_sched.hooks.panic == NULL || inside_hook(p))
        return false;
    p->in_hook = true;
    took = call_hook(p, e);
    p->in_hook = false;
    return took;
}

static bool
call_late_hook(const struct bh_panic_event *e)
{
    BH_RECOVER(inner) {
        return false;
    }
    rt_sched.hooks.panic(e);
    return true;
}

bool
rt_panic_tell_late(const struct bh_panic_event *e)
{
    const char *text = known_text(e->panic);

    RT_PROBE(panic__contained, 4, e->panic->serial, e->panic->goroutine, e->by, text);
    if (rt_sched.hooks.panic == NULL)
        return false;
    if (rt_g() != NULL)
        return call_late_hook(e);
    rt_sched.hooks.panic(e); /* a plain thread, where nothing can panic */
    return true;
}

/* note_place -- where it was raised: what is still there before any deferred call. */
static void
note_place(struct bh_panic_event *e, const struct rt_panic *p)
{
    const struct rt_stack *s = rt_g()->stack;

    e->stack_used = (uintptr_t)s->top - p->frame;
    e->stack_size = (size_t)(s->top - s->soft) - RT_PAGE;
    e->registers = p->registers;
    e->register_count = p->registers != NULL ? RT_FAULT_REGISTERS : 0;
}

bool
rt_panic_tell_slow(struct rt_panic *p, enum bh_panic_step step)
{
    bool                  in_call = step == BH_PANIC_DEFER || step == BH_PANIC_DEFER_DONE;
    struct bh_panic_event e = {
        .step = step,
        .panic = &p->pub,
        .by = p->by,
        .deferred = in_call ? (uintptr_t)p->record->fn : 0,
        .defers = p->defers,
        .recovered = p->recovered,
        .hook_failed = p->hook_failed,
    };

    probe(p, step);
    if (step == BH_PANIC_RAISED)
        note_place(&e, p);
    return rt_panic_tell_hook(p, &e);
}

/* ---- what a hook may ask -------------------------------------------------- */

const char *
bh_register_name(int i)
{
#if defined(__x86_64__)
    static const char *const names[] = { "rax", "rdx", "rcx", "rbx", "rsi", "rdi",
                                         "rbp", "rsp", "r8",  "r9",  "r10", "r11",
                                         "r12", "r13", "r14", "r15", "rip" };
#elif defined(__aarch64__)
    static const char *const names[] = { "x0",  "x1",  "x2",  "x3",  "x4",  "x5",  "x6",
                                         "x7",  "x8",  "x9",  "x10", "x11", "x12", "x13",
                                         "x14", "x15", "x16", "x17", "x18", "x19", "x20",
                                         "x21", "x22", "x23", "x24", "x25", "x26", "x27",
                                         "x28", "x29", "x30", "sp",  "pc" };
#endif
    _Static_assert(sizeof names / sizeof names[0] == RT_FAULT_REGISTERS, "one name each");

    return i >= 0 && i < RT_FAULT_REGISTERS ? names[i] : NULL;
}

/* Does it unlock its argument? */
static bool
unlocks(void (*fn)(uintptr_t))
{
    void (*plain)(void) = (void (*)(void))fn;

    return plain == (void (*)(void))bh_mutex_unlock ||
           plain == (void (*)(void))bh_rwmutex_unlock ||
           plain == (void (*)(void))bh_rwmutex_runlock;
}

int
bh_deferred_locks(uintptr_t *locks, int max)
{
    const struct bh_g *g = rt_g();
    int                count = 0;

    for (const struct bh_record *r = g != NULL ? g->defers : NULL; r != NULL; r = r->older) {
        if ((r->kind != BH_RECORD_DEFER && r->kind != BH_RECORD_LATE) || !unlocks(r->fn))
            continue;
        if (count < max)
            locks[count] = r->arg;
        count++;
    }
    return count;
}

/* ---- the chain ------------------------------------------------------------ */

static int64_t
now_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t); /* not bh_now: a simulation's time stands still */
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void
call_application(const struct hook *h, struct rt_panic *p)
{
    BH_RECOVER(inner) {
        p->hook_failed = true;
        atomic_fetch_add_explicit(&chain.failed, 1, memory_order_relaxed);
        return;
    }
    struct rt_contain c = { "a panic hook", p, NULL };
    BH_DEFER(rt_contain_report, &c);
    h->fn(&p->pub, h->arg);
}

static void
account(int64_t ns)
{
    int64_t worst = atomic_load_explicit(&chain.worst_ns, memory_order_relaxed);

    atomic_fetch_add_explicit(&chain.panics, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&chain.total_ns, ns, memory_order_relaxed);
    if (ns > atomic_load_explicit(&chain.budget_ns, memory_order_relaxed))
        atomic_fetch_add_explicit(&chain.over_budget, 1, memory_order_relaxed);
    while (ns > worst && !atomic_compare_exchange_weak(&chain.worst_ns, &worst, ns))
        continue;
}

void
rt_panic_run_chain(struct rt_panic *p)
{
    uint32_t count = atomic_load_explicit(&rt_panic_hook_count, memory_order_acquire);
    const struct rt_panic *older;
    int64_t                start;

    for (older = p->link; older != NULL; older = older->link)
        if (older->in_chain || older->in_hook)
            return;
    start = now_ns();
    p->in_chain = true;
    while (count-- > 0)
        call_application(&chain.slot[count], p);
    p->in_chain = false;
    account(now_ns() - start);
}

bool
rt_panic_in_hook(const struct rt_panic *p)
{
    for (; p != NULL; p = p->link)
        if (p->in_chain || p->in_hook)
            return true;
    return false;
}

int
bh_hook_panic(bh_panic_hook_fn *fn, void *arg)
{
    struct rt_m *m;
    uint32_t     count;

    if (fn == NULL)
        return -EINVAL;
    m = rt_enter_any();
    rt_lock(&chain.registering);
    count = atomic_load_explicit(&rt_panic_hook_count, memory_order_relaxed);
    if (count < MAX_HOOKS) {
        chain.slot[count] = (struct hook){ fn, arg };
        atomic_store_explicit(&rt_panic_hook_count, count + 1, memory_order_release);
    }
    rt_unlock(&chain.registering);
    rt_exit_any(m);
    return count < MAX_HOOKS ? 0 : -ENOSPC;
}

void
bh_panic_hook_set_budget(int64_t budget_ns)
{
    atomic_store(&chain.budget_ns, budget_ns);
}

void
bh_panic_hook_stats(struct bh_panic_hook_stats *out)
{
    *out = (struct bh_panic_hook_stats){
        .hooks = atomic_load(&rt_panic_hook_count),
        .panics = atomic_load(&chain.panics),
        .failed = atomic_load(&chain.failed),
        .over_budget = atomic_load(&chain.over_budget),
        .total_ns = atomic_load(&chain.total_ns),
        .worst_ns = atomic_load(&chain.worst_ns),
        .budget_ns = atomic_load(&chain.budget_ns),
    };
}
