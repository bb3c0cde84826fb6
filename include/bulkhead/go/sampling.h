#ifndef BULKHEAD_GO_SAMPLING_H
#define BULKHEAD_GO_SAMPLING_H

/*
 * sampling.h -- for a profiler that interrupts threads by a signal: which threads there
 * are, and what an interrupted one was doing.
 */

#include <stdbool.h>
#include <stdint.h>

/* Where a signal came in. */
struct bh_interrupted {
    uint64_t goroutine; /* whose code it was; 0: the scheduler's, or of a plain thread */
    bool     scheduler; /* the runtime's, on a stack of its own */
    bool     truncated; /* there are more frames */
};

/*
 * bh_stack_interrupted -- the calls that a signal has interrupted.
 *
 * ucontext is the third argument of the handler.  pcs get return addresses, innermost
 * first; the interrupted instruction's own address is given plus 1, so that all can be looked up
 * alike.  Where compilers keep no frame pointers, as in libc, the tables of the libraries that
 * bh_sampling_begin has seen are used; on plain threads only the innermost frame is known.
 *
 * Returns: how many, at most max.
 * Threads: any.  Async-signal-safe; takes no lock, and a few hundred nanoseconds.
 */
int bh_stack_interrupted(const void *ucontext, uintptr_t *pcs, int max,
                         struct bh_interrupted *what);

/*
 * bh_sampling_begin -- be told of the threads that the runtime starts and ends from now on.
 *
 * Each function runs on the thread concerned, must be brief, and must not use the
 * runtime.  The threads that are there already are not told of.
 * Returns: 0; -EBUSY if somebody else has begun.
 * Threads: any, before bh_main too.
 */
int  bh_sampling_begin(void (*thread_start)(void), void (*thread_end)(void));
void bh_sampling_end(void);

struct bh_thread_info {
    int tid; /* the kernel's number */
    const uintptr_t
        *pcs;   /* what made the runtime start it: return addresses, innermost first */
    int  depth; /* 0: bh_main did, or it is not known any more */
};

/* bh_threads -- every thread of the runtime; fn returns false to stop.  Threads: any. */
void bh_threads(bool (*fn)(const struct bh_thread_info *t, void *arg), void *arg);

#endif
