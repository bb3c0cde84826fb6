#ifndef BULKHEAD_RUNTIME_RUNTIME_H
#define BULKHEAD_RUNTIME_RUNTIME_H

/*
 * runtime.h -- PRIVATE: the goroutine (G), the thread (M), the processor (P),
 * and the vocabulary of the scheduler.
 *
 * A G is work.  An M is an operating system thread.  A P is the right to run
 * goroutines and the resources for it: run queue, stack cache, timers.  An M
 * needs a P to run the scheduler or to touch any P's data, but none to run a
 * goroutine's own code: so the monitor (sysmon.c) may take the P of an M that
 * has been in application code for too long, without the M's help.
 *
 * What makes that safe is m->in_rt.  Every public function that touches
 * scheduler state brackets itself:
 *
 *     rt_enter();                        now in the runtime: our P is ours
 *     ... rt_lock, rt_ready, rt_park ...
 *     rt_exit();                         back in application code
 *
 * The monitor sets m->attention, issues a process-wide memory barrier
 * (membarrier), and takes the P only if m->in_rt is 0; rt_enter sets in_rt, then
 * looks at attention.  One of the two sees the other.  in_rt is a flag of the
 * thread, not a count: runtime code never calls a public bracketed function
 * from inside a bracket, and a goroutine that parks resumes with it set.
 *
 * A fault while in_rt is set is fatal: shared state may be half changed.  So
 * functions touch the caller's pointers BEFORE rt_enter: a NULL mutex is then
 * a panic of the caller, not the end of the process.
 *
 * Lock order, outermost first:
 *
 *     ctx lock > chan locks (by address) > a mutex's queue > pd lock (netpoll.c)
 *         > P timer lock > sched.lock > stack class lock
 *
 * rt_lock is a spin lock: hold it for tens of instructions, never park, call
 * out, or allocate with malloc while holding one.
 *
 * Checklist: adding a wait reason?  Also its text in traceback.c.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/panic.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define RT_ASAN 1
#elif __has_feature(thread_sanitizer)
#define RT_TSAN 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) && !defined(RT_ASAN)
#define RT_ASAN 1
#elif defined(__SANITIZE_THREAD__) && !defined(RT_TSAN)
#define RT_TSAN 1
#endif

#define rt_likely(x)   __builtin_expect(!!(x), 1)
#define rt_unlikely(x) __builtin_expect(!!(x), 0)
#define rt_barrier()   __asm__ volatile("" : : : "memory")
#define rt_container(ptr, type, field) ((type *)((char *)(ptr) - offsetof(type, field)))

enum { RT_CACHE_LINE = 64, RT_PAGE = 4096 };

/* rt_fence -- a full memory barrier; ThreadSanitizer has no atomic_thread_fence. */
static inline void
rt_fence(void)
{
#if defined(__x86_64__)
    __asm__ volatile("lock; orl $0, (%%rsp)" : : : "memory", "cc");
#else
    __asm__ volatile("dmb ish" : : : "memory");
#endif
}

/* rt_store_fence -- stores before it are seen before stores after it.  Free where stores keep their order. */
static inline void
rt_store_fence(void)
{
#if defined(__x86_64__)
    rt_barrier();
#else
    __asm__ volatile("dmb ishst" : : : "memory");
#endif
}

/* ---- locks (lock.c) --------------------------------------------------- */

struct rt_lock {
    _Atomic uint32_t word; /* 0 free, 1 held */
};

void rt_lock_slow(_Atomic uint32_t *word);

static inline void
rt_lock_word(_Atomic uint32_t *word)
{
    uint32_t free = 0;

    if (rt_unlikely(!atomic_compare_exchange_strong_explicit(word, &free, 1, memory_order_acquire,
                                                            memory_order_relaxed)))
        rt_lock_slow(word);
}

static inline void
rt_unlock_word(_Atomic uint32_t *word)
{
    atomic_store_explicit(word, 0, memory_order_release);
}

#define rt_lock(l)   rt_lock_word(&(l)->word)
#define rt_unlock(l) rt_unlock_word(&(l)->word)

/* A note: one thread sleeps until another wakes it.  Clear before each use. */
struct rt_note {
    _Atomic uint32_t word;
};
void rt_note_clear(struct rt_note *n);
void rt_note_wake(struct rt_note *n);
void rt_note_sleep(struct rt_note *n);
bool rt_note_sleep_for(struct rt_note *n, int64_t ns); /* false: time is up */

/* ---- G ---------------------------------------------------------------- */

enum rt_g_state {
    RT_G_IDLE,     /* in a free list; no id */
    RT_G_RUNNABLE, /* in a run queue, or about to be put in one */
    RT_G_RUNNING,  /* its code runs on g->m */
    RT_G_WAITING,  /* parked for g->why; whoever holds the wait's lock may ready it */
    RT_G_DEAD,     /* ended; its descriptor is being recycled */
};

enum rt_why { /* texts in traceback.c, Go's where Go has one */
    RT_WHY_NONE,
    RT_WHY_CHAN_RECEIVE,
    RT_WHY_CHAN_RECEIVE_NIL,
    RT_WHY_CHAN_SEND,
    RT_WHY_CHAN_SEND_NIL,
    RT_WHY_SELECT,
    RT_WHY_SELECT_NO_CASES,
    RT_WHY_SLEEP,
    RT_WHY_IO,
    RT_WHY_SEMACQUIRE, /* wait group, semaphore: Go prints "semacquire" */
    RT_WHY_MUTEX,      /* "sync.Mutex.Lock" */
    RT_WHY_RWMUTEX_R,  /* "sync.RWMutex.RLock" */
    RT_WHY_RWMUTEX_W,  /* "sync.RWMutex.Lock" */
    RT_WHY_COND,       /* "sync.Cond.Wait" */
    RT_WHY_ONCE,
    RT_WHY_PREEMPTED, /* P was taken; waits for another */
    RT_WHY_BLOCKING,  /* inside bh_blocking: "syscall" */
    RT_WHY_COUNT
};

enum { /* g->flags */
    RT_G_LOCKED = 1,         /* bh_lock_thread: runs on g->locked_m only */
    RT_G_PANIC_ON_FAULT = 2, /* bh_panic_on_fault */
    RT_G_IN_EMERGENCY = 4,   /* its soft guard is lifted (stack.c) */
    RT_G_SYSTEM = 8,         /* the runtime's own; hidden from dumps and deadlock checks */
    RT_G_MAIN = 16,
    RT_G_HEAP_ARGS = 32,     /* args were malloc'ed */
    RT_G_CAPTURING = 64,     /* a panic is being captured: a second fault is fatal */
};

enum { RT_G_INLINE_ARGS = 64 };

/* g->sp of a goroutine that is not running any more but still on its stack. */
#define RT_SP_LEAVING ((void *)1)

struct rt_m;
struct rt_p;
struct rt_peek;
struct rt_stack;
struct rt_cold;
struct rt_panic;
struct rt_flight_ring;

/*
 * Three cache lines.  Descriptors live in slabs that are never freed, so a
 * stale pointer still points at a G: compare ids.
 */
struct bh_g {
    void                 *sp;     /* saved stack pointer while not running; NULL: not started;
                                     RT_SP_LEAVING: about to be saved */
    struct bh_g          *next;   /* run queue, free list or wait list: one at a time */
    struct rt_m          *m;      /* thread it runs on; NULL while not running */
    _Atomic uint8_t       state;  /* enum rt_g_state */
    uint8_t               why;    /* enum rt_why; written before parking */
    uint8_t               flags;
    uint8_t               stack_class; /* stack.c; given at first run */
    uint8_t               lock_depth;  /* bh_lock_thread nesting */
    _Atomic uint16_t      runs;   /* times it was switched to, modulo 2^16: inspect.c */
    struct rt_stack      *stack;  /* NULL until first run */
    struct bh_record     *defers; /* newest first; only this goroutine touches it */
    struct rt_panic      *panics; /* panic and goexit records in flight, newest first */
    _Atomic uint64_t      id;     /* 0 while idle */

    bh_fn        *fn;
    void         *args;  /* inline_args or malloc'ed */
    void         *param; /* waiting: rt_park's arg; then the waker's word: which case woke it */
    struct rt_cold *cold; /* names, labels, locals, owned things: cold.c; NULL until needed */
    void         *created_pc;    /* return address of bh_go */
    uint64_t      created_by;    /* id of the goroutine that called it */
    int64_t       waiting_since; /* ns, of the current wait; for "[chan receive, 2 minutes]" */
    _Atomic uint32_t select_done; /* a select's cases race to set it */
    _Atomic uint32_t tag;         /* what it works for: a cell of tag.c; 0: none */

    _Alignas(16) unsigned char inline_args[RT_G_INLINE_ARGS];
#if defined(RT_ASAN) || defined(RT_TSAN)
    void *fiber; /* sanitizer's view of this stack */
#endif
};

/*
 * Descriptors live in slabs, newest slab first; `used` ones have been handed out at least once.
 * A slab's own record is kept apart, so that 1,024 descriptors fill its 48 pages.
 */
struct rt_g_slab {
    struct rt_g_slab *next;
    struct bh_g      *g;
    _Atomic uint32_t  used;
    uint32_t          count;
};
extern _Atomic(struct rt_g_slab *) rt_g_slabs;

/* ---- M ---------------------------------------------------------------- */

enum { /* m->attention: why rt_enter must take the slow path */
    RT_ATTENTION_TAKEN = 1,   /* the monitor took our P */
    RT_ATTENTION_PREEMPT = 2, /* ran for 10 ms: yield */
    RT_ATTENTION_RAID = 4,    /* a thief looks at our runnext: wait for it */
    RT_ATTENTION_OVERFLOW = 8, /* the stack overflowed inside the runtime: panic (signal.c) */
};

enum rt_counter { /* what happened so far: stats.c */
    RT_COUNT_SPAWNED,
    RT_COUNT_PARKED,
    RT_COUNT_STOLEN,
    RT_COUNT_HANDED_OFF,
    RT_COUNT_POLLED,
    RT_COUNT_FAULTS,
    RT_COUNT_OVERFLOWS,
    RT_COUNTERS
};

struct rt_m {
    struct bh_g     *g;         /* goroutine it runs, or NULL in the scheduler */
    struct rt_p     *p;         /* NULL without one */
    _Atomic uint32_t in_rt;     /* see top */
    _Atomic uint32_t attention; /* RT_ATTENTION_* */

    /* What to do for the context we just left, once off its stack (proc.c). */
    struct bh_g     *after_g;
    uint32_t         after_op;
    void           (*after_fn)(struct bh_g *g, void *arg);
    void            *after_arg;

    void            *g0_sp;    /* scheduler context while a goroutine runs */
    struct rt_note   park;     /* idle Ms sleep here */
    struct rt_m     *idle_next; /* sched.idle_m */
    _Atomic(struct rt_m *) all_next; /* dumps walk the list without the lock */
    struct bh_g     *locked_g; /* bh_lock_thread */
    struct rt_p     *next_p;   /* handed over by whoever wakes us */
    struct bh_g     *next_g;   /* picked by the goroutine that left, for the scheduler to start */
    bool             exiting;  /* its locked goroutine ended: the thread ends too */
    bool             spinning; /* looking for work; counted in sched.spinning */
    int              id;
    _Atomic int      tid;      /* kernel thread id; 0 until it runs */
    uint64_t         random;
    uint32_t         tags, tag_count; /* free cells of tag.c: number of the first, how many */
    _Atomic(const void *) *shown;     /* this thread's otel_thread_ctx_v1: tag.h */
    void            *alt_stack; /* signal.c */
    uintptr_t        stack_lo, stack_hi; /* the thread's own stack (g0) */
    uint64_t         serial, serial_end; /* of panics, taken in blocks: lifecycle.h */
    _Atomic uint64_t panic_ends[BH_PANIC_STEPS][2]; /* lifecycle.h; only this M writes */
    _Atomic uint64_t counts[RT_COUNTERS];           /* the same */
    _Atomic uint32_t capture_state; /* report.c: held still while its stack is read */
    void            *capture;       /* report.c: its ucontext_t meanwhile */
    _Atomic(struct rt_peek *) peek; /* report.c: asked where it is */
    /* Inside bh_blocking, where the goroutine left for it: inspect.c. */
    _Atomic uint32_t blocks;        /* times */
    uintptr_t        blocked_pc, blocked_fp, blocked_fn;
#if defined(RT_ASAN) || defined(RT_TSAN)
    void *fiber;
    void *asan_fake;
#endif
};

/* The current M; NULL on foreign threads.  asm volatile: never cached across a switch. */
extern __thread struct rt_m *rt_tls_m;

static inline struct rt_m *
rt_m(void)
{
    struct rt_m *m;
#if defined(__x86_64__)
    uintptr_t offset;
    __asm__ volatile("movq rt_tls_m@gottpoff(%%rip), %0\n\tmovq %%fs:(%0), %1"
                     : "=&r"(offset), "=r"(m));
#elif defined(__aarch64__)
    uintptr_t offset;
    __asm__ volatile("adrp %0, :gottprel:rt_tls_m\n\tldr %0, [%0, #:gottprel_lo12:rt_tls_m]\n\t"
                     "mrs %1, tpidr_el0\n\tldr %1, [%1, %0]"
                     : "=&r"(offset), "=&r"(m));
#endif
    return m;
}

static inline struct bh_g *
rt_g(void)
{
    struct rt_m *m = rt_m();

    return rt_likely(m != NULL) ? m->g : NULL;
}

/* ---- entering and leaving --------------------------------------------- */

struct rt_m  *rt_attend(struct rt_m *m);              /* slow path of rt_enter */
noreturn void rt_not_a_goroutine(const char *what);   /* fatal: called from a plain thread */

/* rt_enter -- into the runtime, from a goroutine.  The goroutine may have moved: use what is returned. */
static inline struct rt_m *
rt_enter(const char *what)
{
    struct rt_m *m = rt_m();

    if (rt_unlikely(m == NULL || m->g == NULL))
        rt_not_a_goroutine(what);
    atomic_store_explicit(&m->in_rt, 1, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    if (rt_unlikely(atomic_load_explicit(&m->attention, memory_order_relaxed) != 0))
        m = rt_attend(m);
    return m;
}

/* rt_enter_any -- the same, but NULL (and nothing to leave) on a plain thread. */
static inline struct rt_m *
rt_enter_any(void)
{
    struct rt_m *m = rt_m();

    return m != NULL && m->g != NULL ? rt_enter("") : NULL;
}

static inline void
rt_exit(void)
{
    atomic_store_explicit(&rt_m()->in_rt, 0, memory_order_release);
}

static inline void
rt_exit_any(struct rt_m *m)
{
    if (m != NULL)
        rt_exit();
}

/* ---- scheduler (proc.c) ----------------------------------------------- */

/*
 * rt_park -- stop running this goroutine until rt_ready.
 *
 * after(g, arg) runs once the goroutine is off its stack, still in the
 * runtime: typically it releases the lock under which the wait was
 * published.  Only then may anyone ready it.
 * Blocks: until readied.  The goroutine may come back on another M.
 */
void rt_park(void (*after)(struct bh_g *g, void *arg), void *arg, enum rt_why why);

/* rt_park_unlock -- rt_park, releasing a lock word (the common case, and faster). */
void rt_park_unlock(_Atomic uint32_t *lock_word, enum rt_why why);

/*
 * rt_ready -- make a parked goroutine runnable, next on this P.
 * Threads: inside rt_enter, in scheduler code, or on a plain thread.
 */
void rt_ready(struct bh_g *g);

/* rt_ready_tail -- the same, at the end of the queue: for batches and timers. */
void rt_ready_tail(struct bh_g *g);

/* rt_yield -- to the end of the queue.  In the runtime. */
void rt_yield(enum rt_why why);

/* rt_go -- bh_go for runtime code outside the runtime; pc: what "created by" shows.  o may be NULL. */
void rt_go(const struct bh_go_options *o, bh_fn *fn, const void *args, size_t size, void *pc);

/* rt_spawn -- start fn, in the runtime.  System goroutines are not counted as alive. */
noreturn void rt_goroutine_end(void); /* panic.c: a goexit has run every deferred call */
noreturn void rt_main_done(void);     /* main returned: stop the scheduler, wake bh_main */
void rt_report_leaks(int fd);         /* traceback.c */
struct bh_g *rt_spawn(bh_fn *fn, const void *args, size_t size, unsigned flags, void *created_pc);

/* rt_point -- a scheduling point of the deterministic scheduler: may yield.  Nothing otherwise. */
#define rt_point()                                                                             \
    do {                                                                                       \
        if (rt_unlikely(rt_sched.simulate))                                                    \
            rt_sim_point();                                                                    \
    } while (0)
void rt_sim_point(void);

/*
 * rt_make -- a new goroutine without a parent, waiting for rt_ready.  In the runtime or in
 * scheduler code; fatal without memory.  size: at most RT_G_INLINE_ARGS.
 */
struct bh_g *rt_make(bh_fn *fn, const void *args, size_t size, uint8_t stack_class,
                     enum rt_why why);

int64_t  rt_now(void);         /* monotonic ns; virtual when simulating */
uint32_t rt_random(uint32_t n); /* uniform in [0, n); seeded when simulating */

/* rt_handoff -- give up this M's P (about to block).  Inside rt_enter; leaves it. */
void rt_block_begin(enum rt_why why);
/* rt_block_end -- back from blocking: Blocks: until there is a P.  In the runtime afterwards. */
void rt_block_end(void);

/* Every goroutine, for dumps and gdb: fn returns false to stop.  Descriptors may change meanwhile. */
void rt_each_g(bool (*fn)(struct bh_g *g, void *arg), void *arg);

/* rt_ticks -- a cheap cycle counter of unknown rate: for deciding when to look at a clock. */
static inline uint64_t
rt_ticks(void)
{
#if defined(__x86_64__)
    return __builtin_ia32_rdtsc();
#else
    uint64_t t;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(t));
    return t << 5; /* tens of MHz: scale to the order of cycles */
#endif
}

/* ---- stacks (stack.c) ------------------------------------------------- */

/*
 * Low to high: hard guard (1 page), emergency (4 pages), soft guard (1 page),
 * usable, then this header in the top page.  Until an overflow all six low pages
 * trap; lifting the soft guard opens the emergency pages too.  A signal handler
 * maps an address to its stack by arithmetic alone: rt_stack_of.
 */
enum {
    RT_STACK_EMERGENCY_PAGES = 4,
    RT_STACK_HALF_PAGE = 1 + RT_STACK_EMERGENCY_PAGES / 2, /* first of the upper half */
    RT_STACK_GUARD_PAGES = 1 + RT_STACK_EMERGENCY_PAGES + 1
};

struct rt_stack {
    struct rt_stack *next;    /* free list */
    char            *lo;      /* lowest address, of the hard guard */
    char            *soft;    /* the soft guard's page; usable from the page above it */
    char            *top;     /* initial stack pointer: 16-byte aligned, coloured */
    uint8_t          size_class;
    _Atomic uint8_t  guarded;   /* all guards are there */
    uint8_t          half_open; /* guards are lifted down to its RT_STACK_HALF_PAGE only */
    uint32_t         valgrind_id;
    union {
        struct { /* in use: of an overflow inside libc (signal.c) */
            uintptr_t overflow_pc, overflow_addr;
        };
        struct { /* free, first of its batch: the next batch, and how many are in this one */
            struct rt_stack *batch;
            uint32_t         batch_count;
        };
    };
};

void             rt_stack_init(size_t default_size);
uint8_t          rt_stack_class(size_t usable_size); /* 0 size: the default class */
int64_t          rt_stack_limit(void); /* how many stacks the kernel can guard; INT64_MAX: no limit */
size_t           rt_stack_usable(uint8_t size_class); /* bytes a goroutine has at least */
struct rt_stack *rt_stack_get(struct rt_p *p, uint8_t size_class); /* NULL: none can be had */
void             rt_stack_put(struct rt_p *p, struct rt_stack *s);
void             rt_stack_flush(struct rt_p *p);     /* give P's cache back to the pool */
/*
 * rt_stack_scavenge -- give the kernel memory of free stacks that nobody wanted since the last
 * call, or of any if nothing runs.  A bounded amount.  Returns: whether there is more.
 * Threads: the monitor.
 */
bool rt_stack_scavenge(bool idle);
/* rt_stack_lift_soft / arm_soft -- remove or reinstall the soft guard.  Async-signal-safe. */
bool rt_stack_lift_soft(struct rt_stack *s);
bool rt_stack_lift_half(struct rt_stack *s); /* only the upper half: a second overflow is noticed */
bool rt_stack_arm_soft(struct rt_stack *s);
/*
 * rt_stack_land -- rt_resume for a goroutine whose soft guard is lifted: arms it on the way.
 * Arming takes away the emergency pages, which its caller may be running on.  Returns only
 * if the landing frame is itself in them: then nothing is done.
 */
void rt_stack_land(struct rt_stack *s, const struct bh_checkpoint *at);
/* rt_stack_count -- stacks in use and in caches, and bytes of address space of both; roughly. */
void rt_stack_count(int64_t *live, int64_t *cached, int64_t *bytes);
/* rt_stack_of -- lowest address of the stack that addr lies in, guards included, or 0.  Async-signal-safe. */
uintptr_t rt_stack_of(uintptr_t addr);

/* ---- P ---------------------------------------------------------------- */

/* A cheap estimate of the time (clock.c): valid for `span` ticks from `ticks` on. */
struct rt_clock {
    uint64_t ticks, span;
    int64_t  ns;            /* at `ticks` */
    uint64_t rate;          /* ns per tick << 32 */
    uint64_t base_ticks;    /* an older pair, to measure the rate by */
    int64_t  base_ns;
};

enum { RT_RUNQ_SIZE = 256, RT_STACK_CLASSES = 8 };
enum rt_p_state { RT_P_IDLE, RT_P_RUNNING };

struct rt_timer;

struct rt_p {
    int               id;
    uint32_t          state;     /* enum rt_p_state; under sched.lock */
    struct rt_m      *m;         /* its M while running */
    struct rt_p      *idle_next;
    _Atomic uint32_t  tick;      /* +1 per goroutine run with a fresh slice; the monitor watches it */
    int64_t           tick_since; /* sysmon.c's: when it saw `tick` change */
    uint32_t          tick_seen;

    _Alignas(RT_CACHE_LINE) _Atomic(struct bh_g *) runnext; /* runs next, inherits the slice */
    _Atomic uint32_t runq_head;  /* thieves and the owner take here */
    _Atomic(struct rt_flight_ring *) flight; /* flight.c; NULL: off */
    _Alignas(RT_CACHE_LINE) _Atomic uint32_t runq_tail; /* only the owner adds */
    _Atomic(struct bh_g *) runq[RT_RUNQ_SIZE];

    _Alignas(RT_CACHE_LINE) struct bh_g *free_g; /* descriptors */
    uint32_t         free_g_count;
    struct rt_stack *stacks[RT_STACK_CLASSES];   /* stack cache */
    uint32_t         stack_count[RT_STACK_CLASSES];
    char            *fresh[RT_STACK_CLASSES];    /* guarded but never used: a run of slots */
    char            *fresh_end[RT_STACK_CLASSES];
    uint64_t         wake_at;    /* ticks: rate limit of wake-ups for runnext */
    uint64_t         timers_at;  /* ticks: look at the timers from then on */
    uint64_t         next_id, last_id; /* goroutine ids taken in blocks */
    uint64_t         random;

    /* Timers: a 4-ary min heap by `when` (time.c). */
    struct rt_lock    timer_lock;
    struct rt_timer_slot *timers;
    uint32_t          timer_count, timer_cap;
    _Atomic uint32_t  timer_live;   /* those of them that are armed; written under timer_lock */
    _Atomic int64_t   timer_first;  /* key of timers[0]; INT64_MAX or 0: none */
    struct rt_timer  *timer_firing; /* its fn runs now, on timer_runner; under timer_lock */
    struct rt_m      *timer_runner;
    struct rt_clock   clock;

};

/* ---- the scheduler's shared state (sched.c) ---------------------------- */

struct rt_sched {
    struct rt_lock    lock; /* idle lists, global queue, P states */
    int               proc_count;
    struct rt_p     **procs;
    struct rt_m      *idle_m;
    struct rt_p      *idle_p;
    _Atomic int32_t   idle_p_count;
    _Atomic int32_t   spinning;
    struct bh_g      *runq_head, *runq_tail; /* global queue */
    _Atomic int32_t   runq_count;
    _Atomic(struct rt_m *) all_m;
    _Atomic int32_t   m_count;
    _Atomic int32_t   m_idle;      /* under lock: Ms parked without work */
    _Atomic int64_t   g_count;     /* alive, system ones excluded */
    _Atomic int32_t   io_waiters;  /* goroutines waiting for descriptors or signals, and what starts some */
    _Atomic bool      urgent;      /* something was readied that shall not wait for a slice's end */
    _Atomic int32_t   foreign;     /* plain threads have used the runtime: no deadlock reports */
    _Atomic int32_t   blocking;    /* Ms in bh_blocking */
    _Atomic int32_t   polling;     /* threads in the poller, or on the way out of it with work */
    _Atomic int32_t   crashing;    /* somebody prints a crash: main must not exit under it */
    _Atomic int64_t   last_poll;   /* ns; 0 while an M blocks in the poller */
    _Atomic int64_t   coarse_now;  /* ns, at most a monitor period old; stamps waits */
    _Atomic bool      sysmon_waiting; /* all Ps idle: the monitor sleeps */
    struct rt_note    sysmon_note;
    struct rt_note    main_note;   /* wakes bh_main's thread */
    _Atomic bool      main_done;
    _Atomic bool      main_exited; /* main called bh_goexit */
    bool              simulate;
    bool              unwind;      /* run foreign cleanups between panic and landing (cleanup.c) */
    uint8_t           stack_class; /* of goroutines that ask for none */
    int64_t           g_limit;     /* goroutines that can have a guarded stack */
    bool              running;
    bool              membarrier;  /* hand-off of busy Ms is possible */
    uint64_t          seed;
    int64_t           sim_now;
    struct bh_hooks   hooks;
    _Atomic uint64_t  counts[RT_COUNTERS]; /* by threads that are no M */
};
extern struct rt_sched rt_sched;

/* rt_count -- add n to a counter of m, which is the caller's and may be NULL. */
static inline void
rt_count(struct rt_m *m, enum rt_counter counter, uint64_t n)
{
    if (rt_likely(m != NULL))
        atomic_store_explicit(&m->counts[counter],
                              atomic_load_explicit(&m->counts[counter], memory_order_relaxed) + n,
                              memory_order_relaxed);
    else
        atomic_fetch_add_explicit(&rt_sched.counts[counter], n, memory_order_relaxed);
}

void rt_stats_leave(struct rt_m *m); /* stats.c: m ends, what it counted stays.  Under sched.lock */

/* ---- channels for runtime code (chan.c): inside rt_enter or in scheduler code -- */

struct bh_chan;

/* rt_chan_offer -- send without waiting.  Returns: false if full or closed. */
bool rt_chan_offer(struct bh_chan *c, const void *value);
/* rt_chan_close -- Returns: false if it was closed already. */
bool rt_chan_close(struct bh_chan *c);

/* ---- timers (time.c) -------------------------------------------------- */

/*
 * fn runs in scheduler code, without locks held, on the P that owns the timer:
 * it may rt_ready, must not park, block or panic.
 */
struct rt_timer {
    int64_t      when;   /* ns, bh_now */
    int64_t      period; /* > 0: re-armed by itself */
    void       (*fn)(struct rt_timer *t, void *arg, uintptr_t seq);
    void        *arg;
    uintptr_t    seq;    /* the arming's number, for stale fires */
    _Atomic(struct rt_p *) p; /* whose lock protects it and whose heap it is or was in; NULL: never armed */
    uint32_t     slot;   /* 1 + its index in that heap; 0: not armed */
};

/* One place of the heap: the key beside the pointer, so that sifting stays in the array. */
struct rt_timer_slot {
    int64_t          key; /* <= timer->when: a later `when` moves it only once it is on top */
    struct rt_timer *timer;
};

/*
 * Zero a timer before first use.  A one-shot timer may be freed by its own fn or
 * by whoever fn wakes: nothing touches it after fn is called.
 */
void    rt_timer_add(struct rt_timer *t); /* in the runtime; t not armed */
bool    rt_timer_reset(struct rt_timer *t, int64_t when); /* arm or move; true: was armed */
/* rt_timer_del -- Returns: true if it was armed and will not fire.  Unless fn calls it, fn is over. */
bool    rt_timer_del(struct rt_timer *t);
/* rt_timer_cancel -- the same without waiting for fn: for callers holding a lock that fn takes. */
bool    rt_timer_cancel(struct rt_timer *t);
/* rt_timers_run -- fire what is due on p.  Returns: the next `when`, INT64_MAX if none. */
int64_t rt_timers_run(struct rt_p *p, int64_t now);
int64_t rt_timers_next(void); /* when to look again, over all Ps; INT64_MAX: never */
bool    rt_timers_armed(void); /* any?  Exact while nobody arms: stopped ones may linger in the heap */

/* rt_soon -- now, or up to some us later, for a third of the price (clock.c).  In the runtime. */
int64_t rt_soon_slow(struct rt_clock *c);
static inline int64_t
rt_soon(struct rt_p *p)
{
    struct rt_clock *c = &p->clock;
    uint64_t         ticks = rt_ticks() - c->ticks;

    if (rt_unlikely(ticks >= c->span))
        return rt_soon_slow(c);
    return c->ns + (int64_t)((ticks * c->rate) >> 32);
}

/* ---- poller (netpoll.c) ----------------------------------------------- */

struct rt_glist { struct bh_g *head, *tail; int count; };

void            rt_netpoll_init(void);
bool            rt_netpoll_ready(void); /* somebody has used it */
/* rt_netpoll -- goroutines whose descriptors became ready.  delay_ns: 0 no wait, < 0 for ever. */
struct rt_glist rt_netpoll(int64_t delay_ns);
void            rt_netpoll_break(void); /* end a waiting rt_netpoll; any thread, async-signal-safe */

/* ---- panics (panic.c), reports (crash.c, traceback.c), faults (signal.c) ---- */

struct rt_panic { /* lives in the frame of the panic call */
    struct bh_panic  pub;
    struct rt_panic *link;      /* older record */
    uintptr_t        frame;     /* address of the raising frame: what is below is newer */
    uintptr_t        cfa;       /* CFA of the deferred call being run, 0 between calls */
    struct bh_record *record;   /* that call's record */
    const char      *by;        /* who contains it, once that is known */
    const uintptr_t *registers; /* of a fault: RT_FAULT_REGISTERS of them; else NULL */
    int              defers;    /* deferred calls run so far */
    bool             goexit, recovered, repanicked, no_landing;
    bool             again;       /* bh_repanic began it */
    bool             watched;     /* somebody wants its steps (lifecycle.c) */
    bool             told;        /* how it ends; or a newer record goes on in its place */
    bool             in_chain;    /* runs application hooks */
    bool             in_hook;     /* runs hooks.panic */
    bool             hook_failed; /* one of them panicked */
};

/* rt_call_deferred -- fn(arg), storing the CFA that fn will have.  switch_*.S */
void rt_call_deferred(void (*fn)(uintptr_t), uintptr_t arg, uintptr_t *cfa);

#if defined(__x86_64__)
enum { RT_FAULT_REGISTERS = 17 }; /* by DWARF number, as in struct rt_regs */
#elif defined(__aarch64__)
enum { RT_FAULT_REGISTERS = 33 };
#endif

/* rt_panic_fault -- from sigpanic, on the goroutine's stack: raise what the handler recorded. */
struct rt_fault {
    uintptr_t registers[RT_FAULT_REGISTERS];
    bool      has_registers;
    int       signal, code;
    uintptr_t addr, pc;
    const char *text; /* "invalid memory address or nil pointer dereference", ... */
    bool        wild; /* at an address that is not nil */
};
noreturn void rt_panic_fault(const struct rt_fault *fault);
/* rt_panic_move -- copy a panic to where it outlives its raiser's frame; `outer` still points there. */
void rt_panic_move(struct bh_panic *to, const struct bh_panic *from);
/* rt_panic_text -- a runtime error: "runtime error: " is added if the kind says so. */
noreturn void rt_panic_runtime(const char *text);
/* rt_panic_plain -- chan and sync misuse: implements runtime.Error, no prefix. */
noreturn void rt_panic_plain(const char *text);
/* rt_panic_string -- an ordinary string value, as library code panics. */
noreturn void rt_panic_string(const char *text);
/* rt_throw -- fatal error with Go's text; leaves the runtime's locks alone. */
noreturn void rt_throw(const char *format, ...) __attribute__((format(printf, 1, 2), cold));

/* crash.c */
noreturn void rt_crash_panic(struct bh_g *g);                /* uncaught: print the chain, end with 2 */
noreturn void rt_crash_fault(const struct rt_fault *fault, void *ucontext, const char *text);
noreturn void rt_crash_deadlock(bool main_exited);
void          rt_crash_init(void);

/* traceback.c */
/* rt_backtrace -- return addresses from frame pointer fp, stopping at the stack's end.  Async-signal-safe. */
int  rt_backtrace(uintptr_t pc, uintptr_t fp, uintptr_t lo, uintptr_t hi, uintptr_t *pcs, int max);
const char *rt_why_text(enum rt_why why);

/* signal.c */
void rt_signal_init(void);
void rt_signal_thread_init(struct rt_m *m); /* alternate stack */
void rt_signal_thread_fini(struct rt_m *m);
/* rt_overflow_attend -- the stack overflowed in an earlier runtime call: panics if we are still that deep. */
void rt_overflow_attend(struct rt_m *m);

/* cold.c -- names, labels, locals, owned things, error notes */
struct rt_cold *rt_cold(struct bh_g *g);                /* made on first use */
void rt_cold_inherit(struct bh_g *child, struct bh_g *parent);
void rt_cold_release(struct bh_g *g); /* at the end: run releases, in application state */
const char *rt_cold_name(struct bh_g *g);

/* cleanup.c -- unwind to the frame of `at`, running cleanups; then last(g, at), which must land. */
typedef void rt_land_fn(struct bh_g *g, const struct bh_checkpoint *at);
noreturn void rt_unwind_to(struct bh_g *g, const struct bh_checkpoint *at, struct bh_unwind_ *store,
                           rt_land_fn *last);

/* switch_*.S */
void rt_switch(void **save, void *to);       /* save callee-saved registers; return on `to` */
noreturn void rt_jump(void *to);             /* the same without saving */
noreturn void rt_start(void *top, void (*entry)(void)); /* run entry on a fresh stack */
noreturn void rt_resume(const struct bh_checkpoint *at); /* land: bh_checkpoint_ returns 1 */
void rt_sigpanic(void);                      /* entered by sigreturn */
void rt_overflow_return(void);               /* entered by a libc function's return */

#endif
