#ifndef BULKHEAD_OBSERVE_HOP_H
#define BULKHEAD_OBSERVE_HOP_H

/*
 * hop.h -- from cloud to cloud.
 */

#include <bulkhead/observe/trace.h>

enum { OB_HOP_SIZE = 112 }; /* a member's value, with its NUL */

/* ob_hop_arrive -- span's parent is remote and span->state came with it: count the hop, colour it. */
void ob_hop_arrive(struct bh_span *span);

/* ob_hop_connection -- what came by this connection: only for a span that is `colored`. */
struct bh_conn_tcp;
void ob_hop_connection(struct bh_span *span, const struct bh_conn_tcp *tcp);

/* ob_hop_leave -- the value to send on a request of this hop, now.  Returns: false: none. */
bool ob_hop_leave(unsigned hop, char value[OB_HOP_SIZE]);

#endif
