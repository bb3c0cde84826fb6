#ifndef BULKHEAD_OBSERVE_PROPAGATE_H
#define BULKHEAD_OBSERVE_PROPAGATE_H

/*
 * propagate.h -- what one process tells the next about the trace they share: the fields
 * traceparent, tracestate and baggage.
 *
 * Pure functions of texts: no allocation, no goroutine.
 * See: W3C Trace Context, level 2; W3C Baggage.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A span of some process. */
struct bh_trace_context {
    unsigned char trace_id[16], span_id[8];
    uint8_t       flags; /* BH_TRACE_SAMPLED, BH_TRACE_RANDOM */
};

enum {
    BH_TRACEPARENT_SIZE = 56, /* with its NUL */
    BH_TRACESTATE_SIZE = 513, /* the same; what we send on */
    BH_TRACESTATE_MEMBERS = 32,
    BH_BAGGAGE_MEMBERS = 64,
    BH_BAGGAGE_MAX = 8192,
};

/*
 * bh_traceparent_parse -- the field's value, without white space around it.
 *
 * Of version 00 it has 55 characters; a later version may go on behind a "-", and its flags
 * that we know are taken.  Version ff, upper case and ids of zeros are errors.
 * Returns: 0; -EBADMSG, *context untouched.
 */
int bh_traceparent_parse(const char *value, size_t size, struct bh_trace_context *context);

/* bh_traceparent_format -- "00-<trace id>-<span id>-<flags>" and a NUL. */
void bh_traceparent_format(char                           out[BH_TRACEPARENT_SIZE],
                           const struct bh_trace_context *context);

/*
 * bh_tracestate_update -- the list to send on, and a NUL.
 *
 * state, the list as it came, of any number of fields joined by ","; NULL for none.  The
 * member `key` moves to the left with `value`; value NULL removes it, key NULL changes nothing.
 * Of others with the same key the first stays.  Over 32 members or 512 bytes, those over 128 bytes
 * go first, then the rightmost.
 * Returns: the length; -EBADMSG, out being "" then: one member is malformed, or there are over
 *          32; -EINVAL: key or value is none.
 */
ssize_t bh_tracestate_update(char out[BH_TRACESTATE_SIZE], const char *state, const char *key,
                             const char *value);

/* bh_tracestate_get -- a member's value, in state, without a NUL.  Returns: false without it. */
bool bh_tracestate_get(const char *state, const char *key, const char **value, size_t *size);

/* bh_baggage_is_valid -- whether the list is well formed, within 64 members and 8,192 bytes. */
bool bh_baggage_is_valid(const char *baggage);

/*
 * bh_baggage_get -- the value of name in a valid list, its percent-encoding undone, cut to size.
 * Returns: its length; -ENOENT without it.
 */
ssize_t bh_baggage_get(const char *baggage, const char *name, char *out, size_t size);

#endif
