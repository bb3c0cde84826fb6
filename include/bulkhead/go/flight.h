#ifndef BULKHEAD_GO_FLIGHT_H
#define BULKHEAD_GO_FLIGHT_H

/*
 * flight.h -- the flight recorder: what the scheduler did last.
 *
 * Each processor keeps its newest events in a ring of its own; older ones are
 * overwritten.  It costs some tens of nanoseconds an event while it is on and a load
 * while it is off, so it may run always: what led to a panic is then there to be read.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bh_flight_kind {
    BH_FLIGHT_NONE,
    BH_FLIGHT_CREATE,  /* `goroutine` (0: none, the poller) started `other` */
    BH_FLIGHT_START,   /* it runs */
    BH_FLIGHT_STOP,    /* it waits, for `why`; or makes way: why is "runnable" or "preempted" */
    BH_FLIGHT_BLOCK,   /* its thread goes into bh_blocking, without a processor */
    BH_FLIGHT_UNBLOCK, /* `goroutine` (0: none) made `other` runnable */
    BH_FLIGHT_END,     /* it ended */
    BH_FLIGHT_TASK,    /* task number `other` begins; text is its name */
    BH_FLIGHT_TASK_END,
    BH_FLIGHT_REGION, /* of task `other`, on this goroutine; text is its name */
    BH_FLIGHT_REGION_END,
    BH_FLIGHT_LOG, /* text is "key=value", of task `other` */
    BH_FLIGHT_KINDS
};

enum { BH_FLIGHT_DEPTH = 12, BH_FLIGHT_TEXT = 96 };

struct bh_flight_event {
    int64_t             ns; /* as bh_now */
    int                 proc;
    enum bh_flight_kind kind;
    uint64_t            goroutine, other;
    const char         *why; /* static; "" but for STOP */
    int                 depth;
    /*
     * Return addresses for bh_symbolize, innermost first, of CREATE, STOP, BLOCK and UNBLOCK.  The first of
     * CREATE is in the function that the new goroutine runs; behind it, who started it.
     */
    uintptr_t pcs[BH_FLIGHT_DEPTH];
    char      text[BH_FLIGHT_TEXT];
};

/*
 * bh_flight_start -- record.  events: kept per processor, rounded up to a power of two; 0: 2,048, which
 * take 256 KiB; of a later start it does not count.  Before or in bh_main; a no-op when it is on.
 * Returns: 0 or -ENOMEM.
 */
int  bh_flight_start(unsigned events);
void bh_flight_stop(void); /* what is recorded stays */
bool bh_flight_on(void);

/*
 * bh_flight_read -- events of processor 0..bh_procs() - 1, oldest first, from *cursor on, which moves
 * behind them.  Zero the cursor to begin with the oldest.
 *
 * *lost, which may be NULL, counts up those that were overwritten before they were read.
 * Returns: how many were written to out, at most max; 0: no more for now.
 * Threads: any.
 */
size_t bh_flight_read(int proc, uint64_t *cursor, struct bh_flight_event *out, size_t max,
                      uint64_t *lost);

/*
 * bh_flight_last -- the newest events that concern a goroutine, oldest first, over all processors.
 *
 * Looks at the newest 256 events of each: microseconds.  Takes no lock, allocates nothing.
 * Returns: how many were written, at most max and 128.
 */
int bh_flight_last(uint64_t goroutine, struct bh_flight_event *out, int max);

/* ---- marks of the application ----------------------------------------------------- */

/*
 * A task is a piece of work that goroutines do together, such as a request; its number is the
 * caller's choice, not 0.  Regions belong to a goroutine and nest.  Names are cut to BH_FLIGHT_TEXT.
 * All are no-ops on plain threads, and while the recorder is off.
 */
void bh_flight_task(uint64_t task, const char *name);
void bh_flight_task_end(uint64_t task);
void bh_flight_region(uint64_t task, const char *name);
void bh_flight_region_end(uint64_t task, const char *name);
void bh_flight_log(uint64_t task, const char *key, const char *value);

#endif
