#ifndef BH_OBSERVE_PROFILE_TEXT_H
#define BH_OBSERVE_PROFILE_TEXT_H

/* profile_text.h -- text made in memory: see profile_text.c. */

#include <stdio.h>

#include <bulkhead/observe/profile.h>

/* ob_text_done -- close a stream of open_memstream; *bytes get its text.  Returns: 0; -ENOMEM. */
int ob_text_done(FILE *out, char **text, size_t *size, struct bh_profile_bytes *bytes);

/* ob_goroutine_dump -- every goroutine with its stack, as in a crash report. */
int ob_goroutine_dump(struct bh_profile_bytes *bytes);

#endif
