#ifndef BULKHEAD_OBSERVE_TRACE_PRIVATE_H
#define BULKHEAD_OBSERVE_TRACE_PRIVATE_H

/*
 * trace.h -- PRIVATE: what spans share with the files about them.
 */

#include <bulkhead/observe/trace.h>

/* ob_random_ids -- a trace id, unless it is NULL, and a span id.  Never zero.  Threads: any. */
void ob_random_ids(unsigned char trace_id[16], unsigned char span_id[8]);

/* ob_wall -- Unix time of a bh_now(). */
int64_t ob_wall(int64_t now);

/* ob_put -- an item into a recording span's record; what does not fit is counted. */
void ob_put(struct bh_span *span, const struct bh_item *item);

/* ob_processors_run -- call all that there are. */
void ob_processors_run(struct bh_span *span, bool ended);

#endif
