#ifndef BULKHEAD_OBSERVE_TRACE_H
#define BULKHEAD_OBSERVE_TRACE_H

/*
 * trace.h -- spans: what was done, when, for which trace, and how it ended.
 *
 *     struct bh_span span;
 *     bh_span_start(&span, "read cache", NULL);
 *     BH_DEFER(bh_span_end, &span);
 *     bh_span_text(&span, "cache.key", key);
 *
 * A span lives in the caller's frame; nothing on its way allocates, locks or fails.  While it
 * runs it is the goroutine's tag (tag.h), so that spans started within, also by goroutines started
 * within, are its children, and logs, profiles and reports name it.  Ended, its record is
 * copied for the exporter (export.h).
 *
 * A span that is not sampled costs its ids, and nothing it is told is kept.  But if a panic
 * leaves it, it is exported all the same, with status error and the panic's kind; the trace's
 * id does not change.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/go/tag.h>
#include <bulkhead/observe/propagate.h>
#include <bulkhead/observe/record.h>

struct bh_panic;
struct bh_span;

/* ---- which traces are recorded --------------------------------------------------- */

enum bh_sampling {
    BH_SAMPLE_DEFAULT, /* as OTEL_TRACES_SAMPLER and OTEL_TRACES_SAMPLER_ARG say; else always */
    BH_SAMPLE_ALWAYS,
    BH_SAMPLE_NEVER,
    BH_SAMPLE_RATIO, /* `ratio` of the traces, chosen by the trace id alone: everybody agrees */
};

struct bh_sampler {
    enum bh_sampling how;           /* of roots */
    double           ratio;         /* 0 to 1 */
    bool             ignore_parent; /* else a span is recorded if its parent is */
};

/*
 * bh_trace_set_sampler -- for the whole process, from now on.  NULL: the default.
 * Returns: 0; -EINVAL, a ratio that is none, with a note; the environment's mistakes too.
 */
int bh_trace_set_sampler(const struct bh_sampler *sampler);

/* ---- spans ----------------------------------------------------------------------- */

struct bh_span_options {
    enum bh_span_kind              kind;   /* 0: internal */
    const struct bh_span          *parent; /* NULL: what the goroutine works for, or a root */
    const struct bh_trace_context *remote; /* the parent is in another process */
    const char *state;    /* its tracestate, well formed; sent on by bh_trace_inject */
    const char *baggage;  /* likewise */
    bool        root;     /* whatever the goroutine works for */
    bool        detached; /* leave the goroutine's tag alone: the span may end elsewhere */
    int64_t     started;  /* bh_now() then; 0: now */
    const struct bh_sampler *sampler;        /* NULL: the process's */
    const char              *route, *method; /* of the tag; static.  NULL: as it is */
};

/*
 * bh_span_start -- begin *span, whatever was in it.  options may be NULL.
 * Owns: name, state and baggage are borrowed until the span ends; parent is only looked at.
 */
void bh_span_start(struct bh_span *span, const char *name,
                   const struct bh_span_options *options);

/*
 * bh_span_end -- it is over; a second time nothing happens.
 * The goroutine's tag is again what it was before the start.
 */
void bh_span_end(struct bh_span *span);

/*
 * Attributes.  Of one that is set twice, readers take the last.  What does not fit the record
 * is counted there.  Nothing happens on a span that is not recorded, or has ended.
 */
void bh_span_text(struct bh_span *span, const char *key, const char *value); /* NULL: nothing */
void bh_span_bytes(struct bh_span *span, const char *key, const char *value, size_t size);
void bh_span_int(struct bh_span *span, const char *key, int64_t value);
void bh_span_double(struct bh_span *span, const char *key, double value);
void bh_span_bool(struct bh_span *span, const char *key, bool value);

/* bh_span_name -- another name, borrowed until the end. */
void bh_span_name(struct bh_span *span, const char *name);
/* bh_span_status -- text, which may be NULL, says more about an error.  OK is final. */
void bh_span_status(struct bh_span *span, enum bh_span_status status, const char *text);

/* bh_span_event -- something happened now; bh_span_detail: an attribute of the newest event or link. */
void bh_span_event(struct bh_span *span, const char *name);
void bh_span_link(struct bh_span *span, const struct bh_trace_context *to, const char *state);
void bh_span_detail(struct bh_span *span, const char *key, const char *value);

/*
 * bh_span_panicked -- it failed by a panic of this kind: status error, error.type, recorded now
 * even if not sampled, and exported by the reserved lane.  text may be NULL.
 * bh_span_end does so by itself while a panic passes; this is for panics that somebody further in
 * has recovered.
 */
void bh_span_panicked(struct bh_span *span, const char *kind, const char *text);

/* bh_span_context -- what another process would be told. */
void bh_span_context(const struct bh_span *span, struct bh_trace_context *context);
/* bh_trace_current -- what this goroutine works for.  Returns: false if nothing. */
bool bh_trace_current(struct bh_trace_context *context);

/* ---- processors ------------------------------------------------------------------ */

/*
 * Called for every span that is recorded: started, before bh_span_start returns; ended, while
 * attributes can still be added.  Must not block.  A panic in one is contained, and
 * counted.
 */
struct bh_span_processor {
    void (*started)(struct bh_span *span, void *arg); /* either may be NULL */
    void (*ended)(struct bh_span *span, void *arg);
    void *arg;
};

/* bh_trace_process -- add one, for ever; copied.  Returns: 0; -ENOSPC after 8. */
int bh_trace_process(const struct bh_span_processor *processor);

/*
 * bh_trace_color -- tell on each request where it comes from, and on spans when it crossed clouds.
 *
 * With this process's cloud, "aws.eu-west-1" (NULL: of the resource; "" turns it off), requests
 * carry the tracestate member bh=<cloud>;<hops>;<time sent>.  A span whose remote parent was in
 * another cloud gets bulkhead.hop.color (the same for each ordered pair of clouds), .index, .from,
 * .to and .delay_us, from its sending to its start by the two clocks; bh_http_trace adds what the
 * kernel knows of the connection, .rtt_us and .retransmits, and the clocks' estimated .skew_us.
 * Returns: 0; -EINVAL: no tracestate can have that; -ENOENT: the resource knows no cloud; -ENOMEM.
 */
int bh_trace_color(const char *cloud);

/* ---- what happened --------------------------------------------------------------- */

struct bh_trace_stats {
    uint64_t forced; /* spans exported though not sampled: a panic left them */
    uint64_t lost;   /* attributes, events, links that did not fit their records */
    uint64_t processor_panics;
};
/* bh_trace_stats_read -- Threads: any. */
void bh_trace_stats_read(struct bh_trace_stats *stats);

/* ---- machinery; nothing below is API --------------------------------------------- */

struct bh_span {
    const char           *name, *state, *baggage;
    struct bh_tag         outer;   /* the goroutine's before */
    int64_t               started; /* bh_now() */
    uint64_t              panic;   /* serial of one in flight at the start */
    uint8_t               hop;
    bool                  recording, sampled, tagged, ended;
    bool                  colored; /* it crossed clouds, hop_delay_us ago; 0 unknown */
    int64_t               hop_delay_us;
    struct bh_span_record record; /* its items only while recording */
};

#endif
