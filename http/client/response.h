#ifndef BULKHEAD_HTTP_CLIENT_RESPONSE_H
#define BULKHEAD_HTTP_CLIENT_RESPONSE_H

/* response.h -- PRIVATE: the head of a response, from bytes. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "head.h"

enum hc_body {
    HC_BODY_NONE,
    HC_BODY_LENGTH,
    HC_BODY_CHUNKED,
    HC_BODY_CLOSE, /* it ends with the connection */
};

struct hc_head {
    size_t           seen, line; /* of the search for its end; zero these for each head */
    unsigned         lines;      /* found so far */
    int              status, minor;
    struct ht_field *fields; /* the caller's, before hc_head_parse */
    unsigned         field_count;
    enum hc_body     body;
    uint64_t         length;
    bool             keep;  /* another request may follow on the connection */
    const char      *fault; /* of a negative result: static text */
};

/*
 * hc_head_find -- look for the end of a head in bytes that arrive piecemeal.
 *
 * Zero h->seen, line and lines before each head; the bytes already seen must not change.
 * Returns: the offset behind it; 0 if more bytes are needed; -EBADMSG or -EMSGSIZE.
 */
long hc_head_find(struct hc_head *h, const char *data, size_t size, const struct ht_limits *l);

/*
 * hc_head_parse -- read one whole head, as hc_head_find delimits it; puts NULs into data.
 *
 * h->fields has room for max of them.  head_request: it answers HEAD.
 * Returns: 0, -EBADMSG or -EMSGSIZE.
 */
int hc_head_parse(struct hc_head *h, char *data, size_t size, unsigned max, bool head_request);

#endif
