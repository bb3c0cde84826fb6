#ifndef BULKHEAD_RUNTIME_REPORT_H
#define BULKHEAD_RUNTIME_REPORT_H

/*
 * report.h -- PRIVATE: writing text about the process's own state, for
 * traceback.c and crash.c.  See report.c.
 */

#include "runtime.h"
#include "symbol.h"

/*
 * RT_PEEK -- reads what belongs to other threads and may change at any time: a
 * race that is meant, and bounded by checks.
 */
#define RT_PEEK __attribute__((no_sanitize("thread")))

/*
 * rt_report_begin, end -- the right to write a report, one thread at a time.
 * Everything goes to fd, and to copy_fd unless it is -1.  In between the
 * thread takes no signal but faults.  Async-signal-safe.
 */
void rt_report_begin(int fd, int copy_fd);
void rt_report_end(void);
/* rt_report_mine -- whether this thread is between the two. */
bool rt_report_mine(void);
/* rt_report_redirect -- where the rest of the report goes. */
void rt_report_redirect(int fd, int copy_fd);

/* rt_put* -- write; between begin and end only. */
void rt_put(const char *text);
void rt_put_number(uint64_t n);
void rt_put_hex(uintptr_t n);        /* 0x1f */
void rt_put_indented(const char *text); /* each line break is followed by a tab */
void rt_put_flush(void);
/* rt_put_signal_line -- "[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x...]"; crash.c. */
void rt_put_signal_line(int signal, int code, uintptr_t address, uintptr_t pc);

/* rt_report_head -- what was put from begin to rt_report_head_end, at most RT_HEAD_SIZE bytes. */
enum { RT_HEAD_SIZE = 2048 };
const char *rt_report_head(int *length);
void        rt_report_head_end(void);

/*
 * Threads that run other goroutines.  A stopped one waits in a signal handler,
 * wherever it was; so nothing may be done meanwhile that needs a lock it may
 * hold.
 *
 * rt_thread_stop  Returns: false if it did not stop in time, or is this thread.
 * rt_thread_regs  where it was stopped.
 */
void rt_thread_init(void);
bool rt_thread_stop(struct rt_m *m);
void rt_thread_go_on(struct rt_m *m);
void rt_thread_regs(struct rt_m *m, struct rt_regs *regs);
/*
 * rt_thread_peek -- what m's thread is doing, without holding it: its signal handler copies
 * registers and stack, and returns.  Nothing of the process is locked meanwhile.
 *
 * Returns: false if it did not answer in time, is asked by others all the time, or has ended.
 * Blocks:  the thread.  Threads: any but m's own.
 */
struct rt_peek {
    _Atomic uint32_t done;
    uint64_t         goroutine; /* that it is on the stack of; 0: none, and nothing below is set */
    struct rt_regs   regs;
    uintptr_t        lo, hi; /* from a bit below the stack pointer, copy[0], to the stack's end */
    size_t           size; /* bytes copied */
    size_t           room;
    unsigned char   *copy;
};
bool rt_thread_peek(struct rt_m *m, struct rt_peek *peek);

/* rt_threads_freeze -- stop all the others, for ever: the process is ending. */
void rt_threads_freeze(void);
bool rt_threads_frozen(void);
bool rt_thread_is_stopped(struct rt_m *m);
/* rt_thread_signals -- block every signal that is not a fault. old may be NULL. */
void rt_thread_block_signals(void *old);

/*
 * rt_walk_frames -- rt_backtrace that says whether frames are missing: beyond max, or beyond code
 * without frame pointers.  Async-signal-safe.
 */
int rt_walk_frames(uintptr_t fp, uintptr_t lo, uintptr_t hi, uintptr_t *pcs, int max, bool *more);

/* traceback.c: whose stack, from where. */
struct rt_origin {
    struct bh_g          *g;    /* NULL: a thread's own stack */
    const struct rt_regs *regs; /* NULL: a parked or unstarted goroutine */
    bool                  exact; /* regs are a signal's, not a call's */
};

enum rt_level { RT_LEVEL_NONE, RT_LEVEL_SINGLE, RT_LEVEL_ALL, RT_LEVEL_SYSTEM, RT_LEVEL_CRASH };
enum rt_level rt_traceback_level(void); /* crash.c */

/* rt_trace -- one goroutine: header, frames, creator.  Everything at level system. */
void rt_trace(const struct rt_origin *o, enum rt_level level);
/* rt_trace_pcs -- a stack that is gone. */
void rt_trace_pcs(const uintptr_t *return_pcs, int count, enum rt_level level);
/* rt_trace_others -- all goroutines but one, each after an empty line. */
void rt_trace_others(struct bh_g *except, enum rt_level level);
/* rt_place_is_hidden -- whether a crash report leaves its frame out: the runtime's inner workings. */
bool rt_place_is_hidden(const struct rt_place *p);
/* rt_trace_raw -- bare addresses of the frames being printed: the printing failed. */
void rt_trace_raw(void);

#endif
