/*
 * response_fuzz.c -- any bytes at all as the reply of an HTTP/1 server.
 *
 * Three things must hold:
 *
 *     no crash     under the address and undefined-behaviour sanitizers
 *     no splits    the head ends at the same byte when they arrive one by one
 *     one framing  a reply that we accept, llhttp in strict mode reads as the same one, with
 *                  the same body; it may refuse some, but what both read they read alike
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <llhttp.h>

#include "client/response.h"

enum { MAX_FIELDS = 24, BODY_KEPT = 4096 };

struct reply {
    int      status, complete;
    unsigned fields;
    size_t   body_size;
    char     body[BODY_KEPT];
};

#define MUST(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "violated at line %d: %s\n", __LINE__, #condition);                \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

static const struct ht_limits limits = { .head = 2000, .fields = MAX_FIELDS };

static void
keep_body(struct reply *r, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (r->body_size + i < BODY_KEPT)
            r->body[r->body_size + i] = data[i];
    r->body_size += size;
}

/* ---- ours ------------------------------------------------------------------------------ */

/* Returns: bytes of the body, or -1 if it is malformed or unfinished. */
static long
read_chunked(struct reply *r, const char *data, size_t size)
{
    struct ht_chunked d = { 0 };
    size_t            at = 0, used;

    for (;;) {
        enum ht_chunk_step step = ht_chunk_next(&d, data + at, size - at, &used);

        at += used;
        if (step == HT_CHUNK_END)
            return (long)at;
        if (step == HT_CHUNK_BAD || at == size)
            return -1;
        if (step == HT_CHUNK_DATA) {
            used = size - at < d.left ? size - at : (size_t)d.left;
            keep_body(r, data + at, used);
            ht_chunk_take(&d, used);
            at += used;
        }
    }
}

/* Returns: bytes of the whole reply; 0 if there is none. */
static size_t
read_reply(struct reply *r, const char *data, size_t size)
{
    struct ht_field fields[MAX_FIELDS];
    struct hc_head  h = { .fields = fields }, bytewise = { 0 };
    long            end = hc_head_find(&h, data, size, &limits), body = 0, slow = 0;
    char           *copy;
    int             rc;

    for (size_t i = 0; i <= size && slow == 0; i++)
        slow = hc_head_find(&bytewise, data, i, &limits);
    MUST(slow == end || (slow < 0 && end < 0)); /* too large, or malformed further on */
    MUST(end >= 0 || h.fault != NULL);
    if (end <= 0)
        return 0;
    copy = malloc((size_t)end);
    memcpy(copy, data, (size_t)end);
    rc = hc_head_parse(&h, copy, (size_t)end, MAX_FIELDS, false);
    MUST(rc == 0 || h.fault != NULL);
    for (unsigned i = 0; rc == 0 && i < h.field_count; i++)
        MUST(strlen(fields[i].name) == fields[i].name_length &&
             strlen(fields[i].value) == fields[i].value_length);
    free(copy);
    if (rc < 0)
        return 0;
    r->status = h.status;
    r->fields = h.field_count;
    if (h.body == HC_BODY_CHUNKED)
        body = read_chunked(r, data + end, size - (size_t)end);
    else if (h.body == HC_BODY_LENGTH)
        body = h.length <= size - (size_t)end ? (long)h.length : -1;
    else if (h.body == HC_BODY_CLOSE)
        body = (long)(size - (size_t)end);
    if (body < 0)
        return 0;
    if (h.body == HC_BODY_LENGTH || h.body == HC_BODY_CLOSE)
        keep_body(r, data + end, (size_t)body);
    return (size_t)(end + body);
}

/* ---- llhttp's -------------------------------------------------------------------------- */

static int
on_value_complete(llhttp_t *p)
{
    if ((p->flags & F_TRAILING) == 0)
        ((struct reply *)p->data)->fields++;
    return 0;
}

static int
on_body(llhttp_t *p, const char *at, size_t length)
{
    keep_body(p->data, at, length);
    return 0;
}

/* llhttp leaves it to its caller that some statuses have no body. */
static int
on_headers_complete(llhttp_t *p)
{
    return p->status_code < 200 || p->status_code == 204 || p->status_code == 304;
}

static int
on_complete(llhttp_t *p)
{
    struct reply *r = p->data;

    r->complete++;
    r->status = p->status_code;
    return HPE_PAUSED;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const llhttp_settings_t settings = {
        .on_header_value_complete = on_value_complete,
        .on_headers_complete = on_headers_complete,
        .on_body = on_body,
        .on_message_complete = on_complete,
    };
    static struct reply ours, theirs;
    size_t              used;
    llhttp_errno_t      err;
    llhttp_t            parser;

    ours.fields = theirs.fields = 0;
    ours.body_size = theirs.body_size = 0;
    theirs.complete = 0;
    used = read_reply(&ours, (const char *)data, size);
    if (used == 0)
        return 0;
    llhttp_init(&parser, HTTP_RESPONSE, &settings);
    parser.data = &theirs;
    err = llhttp_execute(&parser, (const char *)data, used);
    if (err == HPE_OK)
        err = llhttp_finish(&parser);
    if (theirs.complete == 0) { /* refused: which it may, but not because it waits for more */
        MUST(err != HPE_OK && err != HPE_INVALID_EOF_STATE);
        return 0;
    }
    MUST(theirs.status == ours.status);
    MUST(theirs.fields == ours.fields);
    if (memchr(data, '\t', used) != NULL)
        return 0; /* "chunked" and a tab is no "chunked" to it, against RFC 9110 section 5.6.3 */
    MUST(theirs.body_size == ours.body_size);
    MUST(memcmp(theirs.body, ours.body,
                ours.body_size < BODY_KEPT ? ours.body_size : BODY_KEPT) == 0);
    return 0;
}
