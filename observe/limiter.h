#ifndef BULKHEAD_OBSERVE_LIMITER_H
#define BULKHEAD_OBSERVE_LIMITER_H

/* limiter.h -- which panics get a report of their own.  See limiter.c. */

#include <stdbool.h>
#include <stdint.h>

struct bh_kind;

/* ob_limiter_init -- forget everything.  per_minute: full reports, 0 for none. */
void ob_limiter_init(int64_t repeat_ns, int per_minute);

/* ---- on the panicking goroutine -------------------------------------------------- */

/* ob_limiter_key -- of the kind and the innermost return addresses; never 0. */
uint64_t ob_limiter_key(const struct bh_kind *kind, const uintptr_t *pcs, int depth);
/*
 * ob_limiter_admit -- whether a panic with this key is worth a slot.  *fingerprint: if not, of the
 * panic reported instead; 0 while that is not known.
 */
bool ob_limiter_admit(uint64_t key, int64_t now, uint64_t *fingerprint);
/* ob_limiter_forget -- what was admitted got no slot: the next one may try again. */
void ob_limiter_forget(uint64_t key);

/* ---- on the reporter's thread ---------------------------------------------------- */

/* ob_fingerprint -- of a type and function names, innermost first.  Never 0. */
uint64_t ob_fingerprint(const char *type, const char *const *functions, int count);

/* ob_limiter_judge -- whether it gets a full report now; and tell ob_limiter_admit. */
bool ob_limiter_judge(uint64_t key, uint64_t fingerprint, int64_t now, bool forced);

/* ob_limiter_fingerprint -- of what was judged with this key lately; 0: not known. */
uint64_t ob_limiter_fingerprint(uint64_t key);

#endif
