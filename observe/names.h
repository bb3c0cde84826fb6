#ifndef BH_OBSERVE_NAMES_H
#define BH_OBSERVE_NAMES_H

/*
 * names.h -- strings by number: each is kept once, and the empty one is number 0, as the
 * string table of a profile has it.
 */

#include <stdint.h>

struct ob_names {
    char    **text;
    uint32_t  count, room;
    uint32_t *slots; /* number + 1 by hash; 0: free */
    uint32_t  slot_count;
};

/* ob_names_init -- with "" as number 0.  Returns: 0; -ENOMEM. */
int  ob_names_init(struct ob_names *n);
void ob_names_fini(struct ob_names *n);

/* ob_names_add -- the number of this text, NULL being ""; -ENOMEM. */
int64_t ob_names_add(struct ob_names *n, const char *text);

#endif
