#ifndef BULKHEAD_OBSERVE_POST_IO_H
#define BULKHEAD_OBSERVE_POST_IO_H

/* post_io.h -- PRIVATE to post*.c: bytes to and from the peer of an ob_post, by its deadline. */

#include <stdbool.h>
#include <stddef.h>

#include "post.h"

/* ob_post_connect -- name, dial, TLS.  p has no connection. */
int ob_post_connect(struct ob_post *p, const struct ob_post_target *target);
/* ob_post_stale -- the idle connection has ended, or was sent something unasked. */
bool ob_post_stale(struct ob_post *p);
/* ob_post_write -- all of it; more: another follows at once. */
int ob_post_write(struct ob_post *p, const void *data, size_t size, bool more);
/* ob_post_fill -- replace what is left in the buffer.  Returns: 0, -ENODATA at the end, an error. */
int ob_post_fill(struct ob_post *p);

/* ob_post_byte -- Returns: the next, or an error. */
static inline int
ob_post_byte(struct ob_post *p)
{
    if (p->at == p->end) {
        int rc = ob_post_fill(p);
        if (rc < 0)
            return rc;
    }
    return p->buffer[p->at++];
}

#endif
