#ifndef BULKHEAD_HTTP_MIDDLEWARE_HELPERS_H
#define BULKHEAD_HTTP_MIDDLEWARE_HELPERS_H

/* helpers.h -- PRIVATE: small things that several stock middlewares do to a call. */

#include <stdbool.h>

#include <bulkhead/http/http.h>

/* ht_request_list -- a field's values, joined with ", " if there are several; NULL if absent. */
const char *ht_request_list(struct bh_http_call *c, const char *name);
/* ht_request_single -- a field's value; NULL if it is absent, or there are several. */
const char *ht_request_single(struct bh_http_call *c, const char *name);
/* ht_reply_varies -- say that the reply depends on this request field. */
void ht_reply_varies(struct bh_http_call *c, const char *name);
/* ht_is_read -- whether the method is GET or HEAD. */
bool ht_is_read(const struct bh_http_call *c);

#endif
