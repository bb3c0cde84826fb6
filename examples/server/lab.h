#ifndef BULKHEAD_EXAMPLES_SERVER_LAB_H
#define BULKHEAD_EXAMPLES_SERVER_LAB_H

/* lab.h -- the crash lab's routes: requests that crash, and what is seen of it. */

struct bh_http_server;

void lab_routes(struct bh_http_server *s);

#endif
