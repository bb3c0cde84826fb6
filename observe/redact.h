#ifndef BULKHEAD_OBSERVE_REDACT_H
#define BULKHEAD_OBSERVE_REDACT_H

/* redact.h -- header fields whose values nobody shall read in a report. */

#include <stdbool.h>

/* ob_redacted -- whether a field of this name is one.  No lock, no memory. */
bool ob_redacted(const char *name);

#endif
