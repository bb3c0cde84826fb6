/* bodylimit.c -- how large the bodies of some requests may be. */

#include <stdlib.h>

#include <bulkhead/http/limits.h>

int
bh_http_body_limit(struct bh_http_call *c, void *arg)
{
    const struct bh_http_body_limit_options *o = arg;
    const char                              *length = bh_http_header(c, "content-length");

    bh_http_limit_body(c, o->size);
    /* What is announced as too large need not be begun with; the rest shows in reading. */
    if (length != NULL && strtoull(length, NULL, 10) > o->size)
        return bh_http_reply(c, 413, "413 %s: at most %zu bytes\n", bh_http_status_text(413),
                             o->size);
    return bh_http_next(c);
}
