#ifndef BH_OBSERVE_LIVE_H
#define BH_OBSERVE_LIVE_H

/* live.h -- what the page shows, as JSON: see live.c. */

#include <bulkhead/http/http.h>
#include <bulkhead/http/json.h>

/* ob_live_panics_version -- counts up with every step of a panic. */
uint64_t ob_live_panics_version(void);

/*
 * ob_live_panics -- a list of those that had a step behind version `since`, the newest first.
 * ob_live_state -- an object: everything else that moves.
 */
void ob_live_panics(struct bh_json_out *out, uint64_t since);
void ob_live_state(struct bh_json_out *out);

/*
 * ob_live_goroutines -- an object: goroutines by stack, most first, of those that have `search` (may
 * be "") in a name, label, function, state or as their id.  `from`, `most`: which groups.
 * Returns: 0 or -ENOMEM.  Blocks: reads debug information.
 */
int ob_live_goroutines(struct bh_json_out *out, const char *search, size_t from, size_t most);

#endif
