#ifndef BULKHEAD_BENCH_SERVER_H
#define BULKHEAD_BENCH_SERVER_H

/* server.h -- a server that says hello, for programs that measure what a request costs it. */

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/http/http.h>
#include <bulkhead/http/server.h>

#include "bench.h"

static inline int
bench_hello_(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply_bytes(c, 200, "text/plain", "Hello, World!", 13);
}

static inline void
bench_serve_(void *args)
{
    int rc = bh_http_serve(bh_ctx_background(), *(struct bh_http_server **)args);

    fprintf(stderr, "serve: %d: %s\n", rc, bh_error_note());
    exit(1);
}

/* bench_serve -- GET /hello, to the end of the process.  Returns: the port, the kernel's choice. */
static inline int
bench_serve(struct bh_http_server *s)
{
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /hello", bench_hello_, NULL);
    if (bh_http_listen(s, "127.0.0.1:0") != 0)
        exit(1);
    bh_go(bench_serve_, &s);
    return (int)strtol(strrchr(bh_http_address(s), ':') + 1, NULL, 10);
}

#endif
