#ifndef BULKHEAD_GO_TIMER_H
#define BULKHEAD_GO_TIMER_H

/* timer.h -- timers and tickers.  Times are monotonic nanoseconds (bh_now). */

#include <stdbool.h>
#include <stdint.h>

#define BH_MICROSECOND INT64_C(1000)
#define BH_MILLISECOND INT64_C(1000000)
#define BH_SECOND      INT64_C(1000000000)

struct bh_chan;
struct bh_timer;

/*
 * bh_timer_new -- a timer that sends the time (int64_t) on bh_timer_chan after ns.
 * bh_timer_func -- one that runs fn(arg) on a goroutine of its own.
 * bh_ticker_new -- one that sends every ns; drops ticks for a slow receiver.
 *
 * Owns:   the caller, until bh_timer_free.
 * Panics: a ticker of ns <= 0, "non-positive interval for NewTicker".
 */
struct bh_timer *bh_timer_new(int64_t ns);
struct bh_timer *bh_timer_func(int64_t ns, void (*fn)(void *arg), void *arg);
struct bh_timer *bh_ticker_new(int64_t ns);
struct bh_chan  *bh_timer_chan(struct bh_timer *t); /* borrowed; NULL for bh_timer_func */
/*
 * bh_timer_stop -- Returns: whether it was still armed.  A function that has started runs on.
 * bh_timer_reset -- arm again, ns from now; a ticker's new interval.  Returns: as bh_timer_stop.
 *
 * A value sent before is discarded: what is received afterwards belongs to the new arming.
 * See: Go 1.23.
 */
bool bh_timer_stop(struct bh_timer *t);
bool bh_timer_reset(struct bh_timer *t, int64_t ns);
/* bh_timer_free -- stop and free; its function may do it.  NULL is a no-op. */
void bh_timer_free(struct bh_timer *t);

#endif
