#ifndef BULKHEAD_GO_TAG_H
#define BULKHEAD_GO_TAG_H

/*
 * tag.h -- what a goroutine works for: which request, of which trace.
 *
 * A tag is set by whoever begins the work, a middleware say, and inherited by the
 * goroutines started from then on.  Loggers, profilers, snapshots and reports read
 * it, so that what they say can be joined with the trace.
 *
 * So can profilers outside the process: a tag begins as OpenTelemetry's record of a thread's
 * context does (OTEP 4947), and the thread-local otel_thread_ctx_v1 points at that of the
 * goroutine that the thread runs.
 */

#include <stdint.h>

struct bh_tag {
    unsigned char trace_id[16]; /* all zero: none */
    unsigned char span_id[8];
    uint8_t       valid_;       /* set by bh_tag_set */
    unsigned      sampled : 1;  /* the trace is recorded here */
    unsigned      random : 1;   /* its id's last 7 bytes are */
    uint16_t      attributes_;  /* zero */
    uint8_t       hop;          /* how many processes it had passed when it came here */
    uint8_t       reserved_[3]; /* zero */
    const char   *route;        /* lives for ever: static or interned; NULL unknown */
    const char   *method;       /* the same */
};

/*
 * bh_tag_set -- tag this goroutine, and those it starts later, with a copy of *tag; NULL: none.
 *
 * Without memory the goroutine goes untagged: losing a label must not stop its work.
 * Threads: any; on one that runs no goroutine nothing happens.
 */
void bh_tag_set(const struct bh_tag *tag);

/*
 * bh_tag_get -- this goroutine's tag into *tag; zeros if it has none.
 * Threads: any.  Async-signal-safe.
 */
void bh_tag_get(struct bh_tag *tag);

/*
 * bh_tag_peek -- this goroutine's tag without a copy.
 *
 * What it points at does not change while this goroutine keeps the tag.
 * Returns: NULL without a tag, and on a thread that runs no goroutine.
 * Owns:    borrowed until this goroutine sets another tag or ends.
 * Threads: any.  Async-signal-safe.
 */
const struct bh_tag *bh_tag_peek(void);

#endif
