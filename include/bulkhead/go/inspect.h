#ifndef BULKHEAD_GO_INSPECT_H
#define BULKHEAD_GO_INSPECT_H

/*
 * inspect.h -- what the process is doing: its goroutines with their stacks, the
 * scheduler's counters, names for code addresses, the files the code came from.
 *
 * All of it works from any thread, one that the runtime does not know included,
 * while everything else goes on running.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/go/tag.h>

/* ---- goroutines ------------------------------------------------------------------- */

enum { BH_GOROUTINE_RUNNABLE, BH_GOROUTINE_RUNNING, BH_GOROUTINE_WAITING, BH_GOROUTINE_STATES };

enum { BH_GOROUTINE_DEPTH = 128 }; /* the most frames that are looked at */

/* A goroutine at one moment. */
struct bh_goroutine_info {
    uint64_t         id;
    uint64_t         created_by; /* id of the goroutine that started it; 0: none did */
    uintptr_t        created_pc; /* where: a return address; 0 unknown */
    int              state;      /* BH_GOROUTINE_... */
    const char      *why; /* "chan receive", "IO wait", ... of a waiting one; "syscall" inside
                                    bh_blocking; else "runnable", "running".  Static text */
    int64_t          waiting_ns; /* for how long; 0 if it is not waiting */
    const char      *name;       /* "" if unset */
    const char      *labels;     /* "key=value, key=value"; "" if none */
    struct bh_tag    tag;        /* what it works for; zeros: nothing in particular */
    const uintptr_t *pcs;        /* return addresses, innermost first, for bh_symbolize */
    int              depth;      /* how many; 0: the stack could not be had */
    bool             truncated;  /* there are more frames than pcs shows */
    bool             system;     /* the runtime's own */
    bool             locked;     /* to its thread */
    uint64_t         blocked_on; /* the address of what it waits for, to compare; 0 unknown */
};

/*
 * bh_goroutines -- call fn for every goroutine; fn returns false to stop.
 *
 * Each is consistent in itself, but they are seen one after the other: one that
 * ends or begins meanwhile may be missing.  A waiting goroutine is not held up at
 * all, a running one for the microseconds it takes to copy its stack's addresses.
 *
 * max_depth: frames per goroutine, at most BH_GOROUTINE_DEPTH; 0: no stacks, which is
 * several times faster.  fn may do what it likes; *g is good until it returns.
 *
 * Returns: for how many fn was called; 0 while the process crashes.
 * Threads: any.  Not in a signal handler.
 */
int64_t bh_goroutines(bool (*fn)(const struct bh_goroutine_info *g, void *arg), void *arg,
                      int max_depth);

/* ---- names for addresses ---------------------------------------------------------- */

/* One function at an address.  Strings are the caller's to keep: they live for ever. */
struct bh_frame {
    const char *function; /* "??" if unknown */
    const char *file;     /* "" if unknown */
    int         line;     /* 0 if unknown */
    bool        inlined;  /* into the next frame */
    bool        runtime;  /* code of the runtime itself, which a reader mostly wants hidden */
    uintptr_t entry; /* where the function starts, of the one that is not inlined; 0 unknown */
};

enum { BH_FRAMES_MAX = 8 }; /* functions inlined into one another that are told apart */

/*
 * bh_symbolize -- what lies at a return address: one frame, or several where functions were
 * inlined, innermost first.
 *
 * Answers are kept: an address that was asked before costs well under a microsecond.  One that
 * was not costs a look into debug information, milliseconds; bh_symbolize_all asks for
 * many at little more than the price of one.
 *
 * Returns: how many frames were written, at least 1 (if max is).
 * Blocks:  the thread, while it reads debug information; one reader at a time.
 * Threads: any.  Not in a signal handler.
 */
int bh_symbolize(uintptr_t return_pc, struct bh_frame *frames, int max);

/* bh_symbolize_all -- look up the addresses that are not known yet, so that bh_symbolize is quick. */
void bh_symbolize_all(const uintptr_t *return_pcs, size_t count);

/* A file with code in it: the program, a library. */
struct bh_module {
    const char *path;       /* "[vdso]" for the kernel's */
    const char *build_id;   /* in hex; "" if it has none */
    uintptr_t   start, end; /* its code in memory */
    uint64_t    offset;     /* of `start` in the file */
};

/*
 * bh_modules -- call fn for every file with code in it that is mapped now, lowest address
 * first.  fn returns false to stop.
 *
 * Owns:    the strings are good until fn returns.
 * Returns: for how many fn was called.
 */
int bh_modules(bool (*fn)(const struct bh_module *m, void *arg), void *arg);

/* ---- the scheduler's counters ----------------------------------------------------- */

/* Things there are now, and things that happened since the start (`..._total`). */
struct bh_runtime_stats {
    int64_t goroutines[BH_GOROUTINE_STATES]; /* by state, system ones excluded */
    int64_t procs, procs_idle;
    int64_t threads, threads_idle,
        threads_blocked; /* of the runtime's; blocked: in bh_blocking */
    int64_t  run_queue_global;
    int64_t  timers;      /* armed */
    int64_t  io_waiters;  /* goroutines that wait for a descriptor or a signal, and descriptors that
                             start one when there is input, until they are closed */
    int64_t  stacks_live; /* in use by goroutines */
    int64_t  stacks_cached;
    int64_t  stack_bytes; /* address space of both; memory is committed page by page */
    uint64_t spawned_total, parked_total;
    uint64_t stolen_total; /* goroutines that an idle processor took from another's queue */
    uint64_t
        handoffs_total; /* times a processor was taken from a thread that blocks or is busy */
    uint64_t polled_total; /* goroutines that the poller woke */
    /* Panics that have ended, and how; see enum bh_panic_step in hooks.h. */
    uint64_t panics_total, recovered_total, contained_total, repanicked_total, goexit_total;
    uint64_t replaced_total;
    uint64_t faults_total, overflows_total; /* panics by fault, and of them by stack overflow */
};

/*
 * bh_runtime_stats_read -- *out as of now.  Counters are kept per processor or thread and
 * summed here, so a moment's events may be half seen.
 * Threads: any.
 */
void bh_runtime_stats_read(struct bh_runtime_stats *out);

/* bh_run_queue_length -- goroutines in the queue of processor 0..bh_procs() - 1. */
int64_t bh_run_queue_length(int proc);

#endif
