#ifndef BULKHEAD_OBSERVE_TIMELINE_H
#define BULKHEAD_OBSERVE_TIMELINE_H

/*
 * timeline.h -- what the scheduler did, for tools that draw it.
 *
 *     struct bh_timeline t;
 *
 *     if (bh_timeline_collect(0, NULL, &t) == 0) {
 *         rc = bh_timeline_go(&t, &data, &size);           go tool trace FILE
 *         rc = bh_timeline_chrome(&t, &data, &size);       chrome://tracing, ui.perfetto.dev
 *         bh_timeline_free(&t);
 *     }
 *
 * The events are those of the flight recorder (go/flight.h), which must be on.
 */

#include <stddef.h>
#include <stdint.h>

#include <bulkhead/go/flight.h>
#include <bulkhead/http/http.h>

struct bh_ctx;

struct bh_timeline {
    struct bh_flight_event *events; /* by time */
    size_t                  count;
    uint64_t                lost; /* overwritten before they were read, or too many to keep */
};

/*
 * bh_timeline_collect -- what the recorder holds, or, with a duration (ns), all from now on for so long.
 *
 * Returns: 0; -EAGAIN if the recorder is off; -ENOMEM; or ctx's error.
 * Owns:    bh_timeline_free(t).
 * Blocks:  for duration; then only on goroutines.  ctx, which may be NULL, ends that.
 */
int  bh_timeline_collect(int64_t duration, struct bh_ctx *ctx, struct bh_timeline *t);
void bh_timeline_free(struct bh_timeline *t);

/*
 * bh_timeline_go -- the execution trace of Go 1.19, which `go tool trace` reads.
 * bh_timeline_chrome -- Chrome's trace events as JSON, which chrome://tracing and Perfetto read.
 *
 * Whatever the recorder has missed is made up for: a goroutine that runs has been made
 * runnable before, even if nobody saw it.
 * Returns: 0 or -ENOMEM.
 * Owns:    free(*data).
 * Blocks:  reads debug information.
 */
int bh_timeline_go(const struct bh_timeline *t, char **data, size_t *size);
int bh_timeline_chrome(const struct bh_timeline *t, char **data, size_t *size);

/*
 * bh_http_timeline -- handler: ?seconds=N (default 1; 0: what the recorder holds), ?format=chrome.
 * bh_http_pprof_mount has it as /debug/pprof/trace once bh_timeline_register was called.
 */
bh_http_fn bh_http_timeline;
int bh_timeline_register(void); /* Returns: 0, also again; or an error of bh_pprof_register_handler */

#endif
