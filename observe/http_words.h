#ifndef BULKHEAD_OBSERVE_HTTP_WORDS_H
#define BULKHEAD_OBSERVE_HTTP_WORDS_H

/*
 * http_words.h -- addresses and queries as attributes have them.
 */

#include <bulkhead/observe/trace.h>

/* Whose address: server.address and server.port, and so on. */
enum ob_who { OB_SERVER, OB_CLIENT, OB_PEER };

/*
 * All of these are for a span that is being recorded.
 *
 * ob_put_address -- "host:port", "[::1]:80", "host" or a path as one attribute or two.
 */
void ob_put_address(struct bh_span *span, enum ob_who who, const char *address, size_t size);

/* ob_put_version -- 10, 11 or 20 as network.protocol.version. */
void ob_put_version(struct bh_span *span, int version);

/*
 * ob_put_query -- a query without the values of names that sound like secrets: "REDACTED".
 * before: a text in front of it, "https://host/path?"; size 0: none.
 */
void ob_put_query(struct bh_span *span, const char *key, const char *before, size_t before_size,
                  const char *query, size_t size);

#endif
