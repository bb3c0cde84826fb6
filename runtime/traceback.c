/*
 * traceback.c -- stacks as text, in the shape of Go's:
 *
 *     goroutine 7 [chan receive, 2 minutes]:
 *     serve(...)
 *             /src/app/serve.c:41 +0x6d
 *     created by main_goroutine in goroutine 1
 *             /src/app/main.c:12 +0x20
 *
 * First the frames are collected, then printed: collecting only reads memory
 * (unwind.c), so a goroutine that runs on another thread is held for
 * microseconds, and what was collected survives if printing fails.
 *
 * Where a walk starts depends on what the goroutine does:
 *
 *     the caller itself      in the caller of the function that asked
 *     runs on another M      where a signal stopped that thread (report.c)
 *     parked or queued       from what rt_switch saved at g->sp.  It may be readied
 *                            and run meanwhile, so the stack is copied first, and the
 *                            copy counts only if the goroutine did not move
 *     not started            its function is all there is
 *
 * Frames of the runtime are left out below level "system", as Go does, except
 * the entry points that an application calls by name, and the panics under
 * way: bh_panic and its kin print as "panic(...)" between the deferred call and
 * the function that panicked.
 *
 * All static memory here is under the report lock.
 */

#include "cold.h"
#include "report.h"

#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    SHOWN_FRAMES = 50,       /* at each end of a deep stack, as in Go */
    MOST_FRAMES = 1 << 20,   /* a walk longer than this is not a stack */
    COPY_SIZE = 256 << 10,   /* bytes of a parked goroutine's stack that are looked at */
    COPY_TRIES = 3,
    LABELS_SIZE = 512
};
#define MINUTE_NS INT64_C(60000000000)

const char *
rt_why_text(enum rt_why why)
{
    static const char *const text[RT_WHY_COUNT] = {
        [RT_WHY_NONE] = "waiting",
        [RT_WHY_CHAN_RECEIVE] = "chan receive",
        [RT_WHY_CHAN_RECEIVE_NIL] = "chan receive (nil chan)",
        [RT_WHY_CHAN_SEND] = "chan send",
        [RT_WHY_CHAN_SEND_NIL] = "chan send (nil chan)",
        [RT_WHY_SELECT] = "select",
        [RT_WHY_SELECT_NO_CASES] = "select (no cases)",
        [RT_WHY_SLEEP] = "sleep",
        [RT_WHY_IO] = "IO wait",
        [RT_WHY_SEMACQUIRE] = "semacquire",
        [RT_WHY_MUTEX] = "sync.Mutex.Lock",
        [RT_WHY_RWMUTEX_R] = "sync.RWMutex.RLock",
        [RT_WHY_RWMUTEX_W] = "sync.RWMutex.Lock",
        [RT_WHY_COND] = "sync.Cond.Wait",
        [RT_WHY_ONCE] = "sync.Once.Do",
        [RT_WHY_PREEMPTED] = "preempted",
        [RT_WHY_BLOCKING] = "syscall",
    };

    return (unsigned)why < RT_WHY_COUNT && text[why] != NULL ? text[why] : "unknown wait reason";
}

__attribute__((no_sanitize("address"), no_sanitize("thread"))) int
rt_backtrace(uintptr_t pc, uintptr_t fp, uintptr_t lo, uintptr_t hi, uintptr_t *pcs, int max)
{
    int count = 0;

    if (max > 0 && pc != 0)
        pcs[count++] = pc;
    while (count < max && fp >= lo && fp < hi && hi - fp >= 2 * sizeof fp && fp % sizeof fp == 0) {
        const uintptr_t *frame = (const uintptr_t *)fp;

        if (frame[1] == 0)
            break;
        pcs[count++] = frame[1];
        if (frame[0] <= fp)
            break;
        fp = frame[0];
    }
    return count;
}

__attribute__((no_sanitize("address"), no_sanitize("thread"))) int
rt_walk_frames(uintptr_t fp, uintptr_t lo, uintptr_t hi, uintptr_t *pcs, int max, bool *more)
{
    int count = 0;

    *more = true;
    while (fp >= lo && fp < hi && hi - fp >= 2 * sizeof fp && fp % sizeof fp == 0) {
        const volatile uintptr_t *frame = (const volatile uintptr_t *)fp;
        uintptr_t                 up = frame[0], pc = frame[1];

        if (pc == 0 || up == 0) { /* the first function: nobody has called it */
            *more = false;
            break;
        }
        if (count == max)
            break;
        pcs[count++] = pc;
        if (up <= fp)
            break;
        fp = up;
    }
    return count;
}

/* ---- collecting ----------------------------------------------------------- */

struct frame {
    uintptr_t pc, sp;
    bool      exact; /* pc is an instruction, not a return address */
};

static struct {
    int          count;                      /* of all frames */
    struct frame first[SHOWN_FRAMES];
    struct frame last[SHOWN_FRAMES];         /* frame i is at i % SHOWN_FRAMES */
} frames;

static void
add_frame(struct frame f)
{
    if (frames.count < SHOWN_FRAMES)
        frames.first[frames.count] = f;
    else
        frames.last[frames.count % SHOWN_FRAMES] = f;
    frames.count++;
}

static void
collect(struct rt_walk *w)
{
    frames.count = 0;
    do
        add_frame((struct frame){ w->regs.r[RT_REG_PC], w->regs.r[RT_REG_SP], w->exact });
    while (frames.count < MOST_FRAMES && rt_walk_next(w));
}

/* collect_from -- of a thread that holds still, on the stack that sp is in and that ends at hi. */
static void
collect_from(const struct rt_regs *regs, bool exact, uintptr_t hi)
{
    uintptr_t      lo = rt_walk_lo(regs->r[RT_REG_SP]);
    struct rt_walk w = { .regs = *regs, .lo = lo, .hi = hi, .exact = exact };

    collect(&w);
}

static void
collect_function(uintptr_t pc)
{
    struct rt_walk w = { .exact = true };

    rt_regs_set(&w.regs, RT_REG_PC, pc);
    frames.count = 0;
    add_frame((struct frame){ w.regs.r[RT_REG_PC], w.regs.r[RT_REG_SP], w.exact });
}

/* copy_memory -- of our own process, where another thread may unmap it at any time. */
__attribute__((no_sanitize("address"), no_sanitize("thread"))) static bool
copy_memory(void *to, uintptr_t from, size_t size)
{
    struct iovec here = { to, size }, there = { (void *)from, size };

    if (process_vm_readv(getpid(), &here, 1, &there, 1, 0) == (ssize_t)size)
        return true;
    /* Not allowed in some sandboxes.  Stacks stay mapped as long as their goroutine lives. */
    for (size_t i = 0; i < size / sizeof(uintptr_t); i++)
        ((uintptr_t *)to)[i] = ((const volatile uintptr_t *)from)[i];
    return true;
}

/* collect_parked -- Returns: false if it runs by now. */
RT_PEEK static bool
collect_parked(struct bh_g *g, uint64_t id)
{
    static _Alignas(16) unsigned char copy[COPY_SIZE];
    uint32_t         state = atomic_load(&g->state);
    struct rt_stack *stack = g->stack;
    uintptr_t        sp = (uintptr_t)g->sp;

    if (sp == 0 || stack == NULL) {
        collect_function((uintptr_t)g->fn);
        return atomic_load(&g->id) == id;
    }
    uintptr_t top = (uintptr_t)stack->top;
    if (sp >= top || top - sp < RT_PARKED_SIZE || (sp & 7) != 0)
        return false;
    uintptr_t size = top - sp <= COPY_SIZE ? top - sp : COPY_SIZE;
    if (!copy_memory(copy, sp, size))
        return false;
    rt_fence();
    if (atomic_load(&g->id) != id || atomic_load(&g->state) != state || g->stack != stack ||
        (uintptr_t)g->sp != sp)
        return false;

    struct rt_walk w = { .lo = sp, .hi = sp + size, .copy = copy };
    rt_regs_parked(&w.regs, sp, copy);
    collect(&w);
    return true;
}

RT_PEEK static bool
on_stack_of(const struct bh_g *g, uintptr_t sp)
{
    return g->stack != NULL && sp >= (uintptr_t)g->stack->lo && sp < (uintptr_t)g->stack->top;
}

/* collect_stopped -- of a goroutine whose stack the stopped thread m is on. */
RT_PEEK static bool
collect_stopped(const struct bh_g *g, struct rt_m *m)
{
    struct rt_regs regs;

    rt_thread_regs(m, &regs);
    if (!on_stack_of(g, regs.r[RT_REG_SP]))
        return false;
    collect_from(&regs, true, (uintptr_t)g->stack->top);
    return true;
}

/* collect_running -- of a goroutine on another thread. */
RT_PEEK static bool
collect_running(struct bh_g *g)
{
    struct rt_m *m = g->m;
    bool         ok;

    if (m == NULL || !rt_thread_stop(m))
        return false;
    ok = m->g == g && collect_stopped(g, m);
    rt_thread_go_on(m);
    return ok;
}

/*
 * collect_frozen -- in a crash, when every thread was stopped for good wherever
 * it was: in the middle of a switch, too, where state, m->g and the stack that is in use
 * need not agree.  The stack decides; one that no thread is on is as it was parked.
 */
RT_PEEK static bool
collect_frozen(struct bh_g *g)
{
    for (struct rt_m *m = rt_sched.all_m; m != NULL; m = m->all_next)
        if (rt_thread_is_stopped(m) && collect_stopped(g, m))
            return true;
    return collect_parked(g, atomic_load(&g->id));
}

/* ---- printing frames ------------------------------------------------------ */

/* What becomes of a function's frame below level "system". */
enum show { SHOW, HIDE, SHOW_AS_PANIC };

static bool
starts_with_one_of(const char *name, const char *const *prefix)
{
    for (; *prefix != NULL; prefix++)
        if (strncmp(name, *prefix, strlen(*prefix)) == 0)
            return true;
    return false;
}

static enum show
how_to_show(const struct rt_place *p)
{
    static const char *const panics[] = { "bh_panic_at_", "bh_panic_value_at_", "bh_repanic",
                                          "bh_require_failed_", "rt_panic_", NULL };
    /* What are statements in Go. */
    static const char *const statements[] = { "bh_chan_", "bh_select", "bh_close", "bh_go_start_",
                                              "bh_panic", "bh_fatal", "bh_invariant_failed_",
                                              "bh_dump", "bh_main", NULL };

    if (!rt_symbol_is_ours(p))
        return SHOW;
    if (starts_with_one_of(p->function, panics))
        return SHOW_AS_PANIC;
    if (strncmp(p->function, "bh_", 3) != 0 || starts_with_one_of(p->function, statements))
        return HIDE;
    return p->function[strlen(p->function) - 1] != '_' ? SHOW : HIDE;
}

bool
rt_place_is_hidden(const struct rt_place *p)
{
    return how_to_show(p) != SHOW;
}

static void
put_place(const struct rt_place *p)
{
    char path[RT_PATH_SIZE];

    rt_put(p->file != NULL ? rt_place_path(p, path) : "?");
    rt_put(":");
    rt_put_number(p->line);
}

/* put_address -- where pc lies, for lack of a line. */
static void
put_address(const struct rt_symbol *s, uintptr_t pc)
{
    if (s->module == NULL) {
        rt_put_hex(pc);
    } else {
        rt_put(s->module->path);
        rt_put("+");
        rt_put_hex(pc - s->module->bias);
    }
}

static void
put_offset(const struct rt_symbol *s, uintptr_t pc)
{
    if (s->entry != 0) {
        rt_put(" +");
        rt_put_hex(pc - s->entry);
    }
}

static void
put_registers_of(const struct frame *f, const struct frame *caller)
{
    if (caller != NULL) {
        rt_put(" fp=");
        rt_put_hex(caller->sp);
    }
    rt_put(" sp=");
    rt_put_hex(f->sp);
    rt_put(" pc=");
    rt_put_hex(f->pc);
}

struct printing {
    enum rt_level level;
    bool          shown_any;    /* a frame that is not the runtime's */
    bool          panic_before; /* the last line was a panic */
};

/* put_frame -- Every function at one pc: inlined ones first.  caller may be NULL. */
static void
put_frame(const struct frame *f, const struct frame *caller, struct printing *p)
{
    const struct rt_symbol *s = rt_symbol_find(f->pc - (f->exact ? 0 : 1));
    bool                    system = p->level >= RT_LEVEL_SYSTEM;

    if (s->count == 0 || s->place[0].file == NULL) {
        if (s->count > 0 && !system && how_to_show(&s->place[0]) != SHOW)
            return;
        rt_put(s->count > 0 ? s->place[0].function : "??");
        rt_put("(...)\n\t");
        put_address(s, f->pc);
        put_offset(s, f->pc);
        if (system)
            put_registers_of(f, caller);
        rt_put("\n");
        p->shown_any = true;
        return;
    }
    for (int i = 0; i < s->count; i++) {
        const struct rt_place *place = &s->place[i];
        enum show              show = how_to_show(place);
        bool                   inlined = i < s->count - 1;

        if (!system && (show == HIDE || (show == SHOW_AS_PANIC && (!p->shown_any || p->panic_before))))
            continue;
        rt_put(show == SHOW_AS_PANIC ? "panic" : place->function);
        rt_put("(...)\n\t");
        put_place(place);
        if (inlined)
            rt_put(" (inlined)");
        else
            put_offset(s, f->pc);
        if (system && !inlined)
            put_registers_of(f, caller);
        rt_put("\n");
        p->shown_any = true;
        p->panic_before = show == SHOW_AS_PANIC;
    }
}

static const struct frame *
frame_at(int i)
{
    return i >= frames.count ? NULL : i < SHOWN_FRAMES ? &frames.first[i] : &frames.last[i % SHOWN_FRAMES];
}

static void
put_frames(enum rt_level level)
{
    struct printing p = { .level = level };
    int             elided = frames.count - 2 * SHOWN_FRAMES;

    for (int i = 0; i < frames.count; i++) {
        if (i == SHOWN_FRAMES && elided > 0) {
            rt_put("...");
            rt_put_number((uint64_t)elided);
            rt_put(" frames elided...\n");
            i += elided;
        }
        put_frame(frame_at(i), frame_at(i + 1), &p);
    }
}

void
rt_trace_raw(void)
{
    for (int i = 0; i < frames.count && i < SHOWN_FRAMES; i++) {
        rt_put(i == 0 ? "frames: " : " ");
        rt_put_hex(frames.first[i].pc);
    }
    if (frames.count > 0)
        rt_put("\n");
}

/* ---- printing goroutines -------------------------------------------------- */

RT_PEEK static void
put_state(const struct bh_g *g, uint32_t state)
{
    enum rt_why why = (enum rt_why)g->why;
    int64_t     minutes = 0;

    if (state == RT_G_RUNNABLE) {
        rt_put("runnable");
    } else if (state == RT_G_RUNNING) {
        rt_put(why == RT_WHY_BLOCKING ? rt_why_text(why) : "running");
    } else if (state == RT_G_WAITING) {
        rt_put(rt_why_text(why));
        minutes = (rt_now() - g->waiting_since) / MINUTE_NS;
    } else {
        rt_put("dead");
    }
    if (minutes >= 1) {
        rt_put(", ");
        rt_put_number((uint64_t)minutes);
        rt_put(" minutes"); /* Go's plural, also for one */
    }
}

RT_PEEK static void
put_header(struct bh_g *g, uint64_t id, uint32_t state)
{
    const char *name = rt_cold_name(g);
    char        labels[LABELS_SIZE];

    rt_put("goroutine ");
    rt_put_number(id);
    rt_put(" [");
    put_state(g, state);
    if ((g->flags & RT_G_LOCKED) != 0)
        rt_put(", locked to thread");
    if (name != NULL && name[0] != 0) {
        rt_put(", name: ");
        rt_put(name);
    }
    if (rt_cold_labels(g, labels, sizeof labels) > 0) {
        rt_put(", labels: ");
        rt_put(labels);
    }
    rt_put("]:\n");
}

RT_PEEK static void
put_creator(const struct bh_g *g)
{
    uintptr_t pc = (uintptr_t)g->created_pc;

    if (pc == 0)
        return;
    const struct rt_symbol *s = rt_symbol_find(pc - 1);
    rt_put("created by ");
    rt_put(s->count > 0 ? s->place[0].function : "??");
    if (g->created_by != 0) {
        rt_put(" in goroutine ");
        rt_put_number(g->created_by);
    }
    rt_put("\n\t");
    if (s->count > 0 && s->place[0].file != NULL)
        put_place(&s->place[0]);
    else
        put_address(s, pc);
    put_offset(s, pc);
    rt_put("\n");
}

/* trace_other -- a goroutine that is not the caller's. */
RT_PEEK static void
trace_other(struct bh_g *g, enum rt_level level)
{
    uint64_t id = atomic_load(&g->id);
    bool     have = false;

    frames.count = 0;
    for (int i = 0; i < COPY_TRIES && !have && id != 0; i++) {
        if (rt_threads_frozen())
            have = collect_frozen(g);
        else if (atomic_load(&g->state) == RT_G_RUNNING)
            have = collect_running(g);
        else
            have = collect_parked(g, id);
    }
    put_header(g, id, atomic_load(&g->state));
    if (have)
        put_frames(level);
    else
        rt_put("\tgoroutine running on other thread; stack unavailable\n");
    if ((g->flags & RT_G_MAIN) == 0)
        put_creator(g);
}

void
rt_trace(const struct rt_origin *o, enum rt_level level)
{
    uintptr_t sp = o->regs != NULL ? o->regs->r[RT_REG_SP] : 0;

    if (o->regs == NULL) {
        trace_other(o->g, level);
        return;
    }
    if (o->g != NULL && on_stack_of(o->g, sp))
        collect_from(o->regs, o->exact, (uintptr_t)o->g->stack->top);
    else
        collect_from(o->regs, o->exact, rt_mapping_end(sp));
    if (o->g == NULL) {
        rt_put("runtime stack:\n");
        put_frames(RT_LEVEL_SYSTEM);
        return;
    }
    put_header(o->g, atomic_load(&o->g->id), RT_G_RUNNING);
    put_frames(level);
    if ((o->g->flags & RT_G_MAIN) == 0)
        put_creator(o->g);
}

void
rt_trace_pcs(const uintptr_t *return_pcs, int count, enum rt_level level)
{
    frames.count = 0;
    for (int i = 0; i < count; i++)
        add_frame((struct frame){ return_pcs[i], 0, false });
    put_frames(level);
}

struct others {
    struct bh_g  *except;
    enum rt_level level;
    bool          first; /* nothing printed before: no empty line */
};

RT_PEEK static bool
trace_one(struct bh_g *g, void *arg)
{
    struct others *o = arg;
    uint32_t       state = atomic_load(&g->state);

    if (g == o->except || state == RT_G_IDLE || state == RT_G_DEAD ||
        ((g->flags & RT_G_SYSTEM) != 0 && o->level < RT_LEVEL_SYSTEM))
        return true;
    if (!o->first)
        rt_put("\n");
    o->first = false;
    trace_other(g, o->level);
    return true;
}

void
rt_trace_others(struct bh_g *except, enum rt_level level)
{
    struct others o = { except, level, false };

    rt_each_g(trace_one, &o);
}

/* ---- for the application -------------------------------------------------- */

void
bh_dump(int fd)
{
    struct bh_g   *g = bh_self();
    struct rt_regs regs;

    rt_regs_caller(&regs);
    rt_report_begin(fd, -1);
    if (g != NULL)
        rt_trace(&(struct rt_origin){ g, &regs, false }, rt_traceback_level());
    struct others o = { g, rt_traceback_level(), g == NULL };
    rt_each_g(trace_one, &o);
    rt_report_end();
}

RT_PEEK static bool
count_one(struct bh_g *g, void *arg)
{
    uint32_t state = atomic_load(&g->state);

    if (g != bh_self() && (g->flags & (RT_G_SYSTEM | RT_G_MAIN)) == 0 && state != RT_G_IDLE &&
        state != RT_G_DEAD)
        ++*(uint64_t *)arg;
    return true;
}

RT_PEEK static bool
find_main(struct bh_g *g, void *arg)
{
    if ((g->flags & RT_G_MAIN) != 0)
        *(struct bh_g **)arg = g;
    return (g->flags & RT_G_MAIN) == 0;
}

void
rt_report_leaks(int fd)
{
    struct bh_g *ended = NULL; /* the main goroutine, whose descriptor is still there */
    uint64_t     count = 0;

    rt_each_g(find_main, &ended);
    rt_each_g(count_one, &count);
    if (count == 0)
        return;
    rt_report_begin(fd, -1);
    rt_put("leak: ");
    rt_put_number(count);
    rt_put(count == 1 ? " goroutine is still alive\n" : " goroutines are still alive\n");
    rt_trace_others(ended, RT_LEVEL_ALL);
    rt_report_end();
}
