#ifndef BULKHEAD_OBSERVE_OTLP_H
#define BULKHEAD_OBSERVE_OTLP_H

/*
 * otlp.h -- OTLP 1.x requests in protobuf: spans, logs, metrics.
 *
 * The three requests have one shape, with the same numbers:
 *
 *     request { 1: { 1: resource, 2: { 1: scope, 2: span | log | metric ... } } }
 *
 * Written backwards (pb.h), the items come first and the frame last, so an item can be added as
 * long as there is room for it and for the frame:
 *
 *     ob_otlp_begin(&o, buffer, size, &resource);
 *     while (... && ob_otlp_span(&o, record)) ...
 *     data = ob_otlp_end(&o, &length);
 *
 * Output is canonical: official decoders that encode again get the same bytes.  Texts
 * become UTF-8, a byte that is none '?': strict decoders refuse the whole request otherwise.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "pb.h"

struct bh_log_record;
struct bh_span_record;

struct ob_otlp {
    struct pb   pb;
    const void *resource;             /* an encoded Resource, borrowed */
    size_t      resource_size, frame; /* frame: bytes kept for what stands before the items */
    uint64_t    count;                /* of items; metrics: data points */
    bool        exception_events;     /* may be set after the beginning */
};

void ob_otlp_begin(struct ob_otlp *o, void *buffer, size_t size, const void *resource,
                   size_t resource_size);
/* ob_otlp_span, ob_otlp_log -- Returns: false, nothing being changed, if it does not fit. */
bool ob_otlp_span(struct ob_otlp *o, const struct bh_span_record *r);
bool ob_otlp_log(struct ob_otlp *o, const struct bh_log_record *r);
/*
 * ob_otlp_metrics -- all of the registry, read at time_ns.
 * Returns: 0, -EMSGSIZE if the buffer is too small, or an error of bh_metric_each.
 */
int ob_otlp_metrics(struct ob_otlp *o, int64_t time_ns);
/* ob_otlp_end -- the request, which lies in the buffer. */
const uint8_t *ob_otlp_end(struct ob_otlp *o, size_t *size);

/* ---- parts ----------------------------------------------------------------------- */

/* ob_otlp_text -- a string field; empty: left out, unless always. */
void ob_otlp_text(struct pb *w, uint32_t field, const char *text, size_t size, bool always);
/* ob_otlp_attribute -- a KeyValue with a string. */
void ob_otlp_attribute(struct pb *w, uint32_t field, const char *key, size_t key_size,
                       const char *value, size_t size);

/* ob_otlp_resource -- the fields of a Resource, as many attributes as there is room for. */
void ob_otlp_resource(struct pb *w);

/* What a collector that answered 200 says: a partial success. */
struct ob_otlp_partial {
    int64_t     rejected;
    const char *message; /* in the answer; no NUL */
    size_t      message_size;
};
/* ob_otlp_read_partial -- Returns: whether data is a well-formed response. */
bool ob_otlp_read_partial(const void *data, size_t size, struct ob_otlp_partial *partial);

#endif
