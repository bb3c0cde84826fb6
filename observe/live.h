#ifndef BH_OBSERVE_LIVE_H
#define BH_OBSERVE_LIVE_H

/* live.h -- what the page shows, as JSON: see live.c. */

#include <bulkhead/http/http.h>
#include <bulkhead/http/json.h>

/* ob_live_panics_version -- counts up with every step of a panic. */
uint64_t ob_live_panics_version(void);

/*
 * ob_live_panics -- a list of those that had a step behind version `since`, the newest first.
 * Returns: the version up to which all was told, for the next `since`.
 */
uint64_t ob_live_panics(struct bh_json_out *out, uint64_t since);

/* ob_live_state -- an object: everything else that moves. */
void ob_live_state(struct bh_json_out *out);

/* Which goroutines: those with `search` in a name, label, function, route, state or as id. */
struct ob_goroutine_query {
    const char *search, *state; /* "": any; the state, exactly */
    size_t      from, most;     /* which groups */
};

/*
 * ob_live_goroutines -- an object: goroutines by stack, most first; all states there are.
 * Returns: 0 or -ENOMEM.  Blocks: reads debug information.
 */
int ob_live_goroutines(struct bh_json_out *out, const struct ob_goroutine_query *q);

#endif
