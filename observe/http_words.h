#ifndef BULKHEAD_OBSERVE_HTTP_WORDS_H
#define BULKHEAD_OBSERVE_HTTP_WORDS_H

/*
 * http_words.h -- addresses and queries as attributes have them.
 */

#include <bulkhead/observe/trace.h>

/* ob_put_address -- "host:port", "[::1]:80", "host" or a path into one attribute or two. */
void ob_put_address(struct bh_span *span, const char *key, const char *port_key,
                    const char *address, size_t size);

/*
 * ob_put_query -- a query without the values of names that sound like secrets: "REDACTED".
 * before: a text in front of it, "https://host/path?"; size 0: none.
 */
void ob_put_query(struct bh_span *span, const char *key, const char *before, size_t before_size,
                  const char *query, size_t size);

#endif
