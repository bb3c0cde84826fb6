#ifndef BULKHEAD_OBSERVE_SAMPLER_H
#define BULKHEAD_OBSERVE_SAMPLER_H

/*
 * sampler.h -- which traces are recorded.
 */

#include <stdbool.h>

#include <bulkhead/observe/trace.h>

/* ob_sample -- whether to record a span; parent: 1 its parent is recorded, 0 it is not, -1 a root. */
bool ob_sample(const struct bh_sampler *sampler, const unsigned char trace_id[16], int parent);

#endif
