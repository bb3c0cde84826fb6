#ifndef BULKHEAD_GO_HOOKS_H
#define BULKHEAD_GO_HOOKS_H

/*
 * hooks.h -- what higher layers, and applications, may watch.
 *
 * Two kinds.  struct bh_hooks is for one layer above, set once before bh_main: it
 * sees every step in the life of a panic.  bh_hook_panic is for applications: a
 * chain of functions, each told of every panic before any deferred call runs.
 *
 * All of them are called on the goroutine concerned, on top of the panicking stack
 * (or on the thread that raised a fatal error), and must not block.  None can
 * recover a panic.  NULL means nobody cares.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bh_panic;

/*
 * The life of a panic:
 *
 *     raised > user hooks > RAISED > (DEFER > DEFER_DONE)* > RECOVERED
 *                                                          > CONTAINED > RECOVERED
 *                                                          > REPLACED, GOEXIT or FATAL
 *
 * DEFER has no DEFER_DONE if the call panicked or ended the goroutine.  Exactly
 * one of RECOVERED, REPLACED, GOEXIT and FATAL ends it; after bh_repanic the same
 * serial goes on with REPANICKED, in place of RAISED.
 */
enum bh_panic_step {
    BH_PANIC_RAISED,     /* before any deferred call */
    BH_PANIC_DEFER,      /* a deferred call is about to run */
    BH_PANIC_DEFER_DONE, /* it has returned */
    BH_PANIC_RECOVERED,  /* before control lands */
    BH_PANIC_REPANICKED, /* bh_repanic: it goes on, perhaps on another goroutine */
    BH_PANIC_GOEXIT,     /* swallowed: one of its deferred calls ended the goroutine */
    BH_PANIC_CONTAINED,  /* a group or a safe goroutine will recover it; the stack is still there */
    BH_PANIC_FATAL,      /* nobody recovered: the process will end */
    BH_PANIC_REPLACED,   /* a newer panic, raised by a deferred call of it, was recovered further out */
    BH_PANIC_STEPS
};

struct bh_panic_event {
    enum bh_panic_step     step;
    const struct bh_panic *panic;       /* good until the hook returns */
    const char            *by;          /* who recovers: "its group", "bh_go_safe", ...; or NULL */
    uintptr_t              deferred;    /* the function of DEFER and DEFER_DONE */
    int                    defers;      /* deferred calls run so far, the current one included */
    bool                   recovered;   /* DEFER_DONE: this call has recovered it, by bh_recover */
    bool                   hook_failed; /* a hook panicked over it */
    /* RAISED only: the goroutine's stack where it was raised, in bytes. */
    size_t                 stack_used, stack_size;
    /* RAISED only: the registers of a fault, named by bh_register_name; else NULL, 0. */
    const uintptr_t       *registers;
    int                    register_count;
    /* Where it was raised, for a CONTAINED whose stack is gone (by "lost"); else NULL, 0. */
    const uintptr_t       *pcs;
    int                    depth;
};

struct bh_hooks {
    void (*goroutine_start)(uint64_t id);
    void (*goroutine_end)(uint64_t id);
    /*
     * Every step of every panic.  A panic in here is contained, silently, and marks
     * the panic hook_failed.  NULL: a CONTAINED is reported on descriptor 2.
     */
    void (*panic)(const struct bh_panic_event *e);
    void (*crash)(const char *text, int length); /* the first lines of a crash report */
};

/* bh_register_name -- "rax", "x0", ...: register i of a fault.  Returns: NULL if there is none. */
const char *bh_register_name(int i);

/*
 * bh_deferred_locks -- the locks that deferred calls of this goroutine are to release, newest first.
 *
 * When RAISED is told none of these calls has run, so they are what the panic found locked, but
 * for those that nobody deferred to unlock.
 * Returns: how many there are; the first `max` are written.
 */
int bh_deferred_locks(uintptr_t *locks, int max);

/* bh_set_hooks -- copy *hooks.  Fatal once bh_main runs. */
void bh_set_hooks(const struct bh_hooks *hooks);

/* ---- an application's own ------------------------------------------------- */

/* Told of a panic before any deferred call.  p is good until it returns; bh_recover gives it NULL. */
typedef void bh_panic_hook_fn(const struct bh_panic *p, void *arg);

/*
 * bh_hook_panic -- have fn(p, arg) called for every panic, newest hook first.
 *
 * Not called again for a bh_repanic, nor for a panic raised inside a hook.  A hook
 * that panics, or calls bh_goexit, is reported as such (CONTAINED, by "a panic hook")
 * and the next one runs: the panic it was told of goes its way.
 *
 * Hooks cannot be taken out.  They share a budget of time, see below.
 * Returns: 0; -EINVAL without fn; -ENOSPC after 16 hooks.
 * Threads: any, at any time.
 */
int bh_hook_panic(bh_panic_hook_fn *fn, void *arg);

/* What the hooks of bh_hook_panic have cost. */
struct bh_panic_hook_stats {
    uint64_t hooks;       /* in the chain */
    uint64_t panics;      /* for which the chain was run */
    uint64_t failed;      /* calls that panicked */
    uint64_t over_budget; /* panics for which the chain took longer than the budget */
    int64_t  total_ns, worst_ns; /* time of whole chains */
    int64_t  budget_ns;
};
void bh_panic_hook_stats(struct bh_panic_hook_stats *out);

/*
 * bh_panic_hook_set_budget -- how long the chain may take per panic; 1 ms unless set.
 *
 * A hook cannot be interrupted.  Once the budget is spent the hooks that have not
 * run yet still do: the excess is counted, for an alarm.
 */
void bh_panic_hook_set_budget(int64_t budget_ns);

#endif
