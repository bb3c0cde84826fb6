/*
 * http_fuzz.c -- any bytes at all as a stream of HTTP/1 requests.
 *
 * Three things must hold:
 *
 *     no crash     under the address and undefined-behaviour sanitizers
 *     no splits    the bytes give the same requests when they arrive one by one, or in two
 *                  pieces, wherever they are cut
 *     one framing  what we accept, llhttp in strict mode and http_parser read as the same
 *                  requests with the same bodies.  They may refuse some (methods they have
 *                  not heard of, a few chunk extensions), but what both read they read alike
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "head.h"
#include "oracle.h"

enum { MAX_FIELDS = 24 };

struct stream {
    int            count;
    bool           refused, complete; /* the last one may be unfinished */
    size_t         used;              /* bytes of complete requests */
    struct request request[MAX_REQUESTS];
};

static const struct ht_limits limits = { .line = 500, .head = 2000, .fields = MAX_FIELDS };

/* ---- ours ---------------------------------------------------------------------------- */

/* Where the stream is cut in two pieces; NULL: it comes one byte at a time. */
static const char *cut;

/* Returns: how many of the bytes are there next, `seen` being there. */
static size_t
more(const char *data, size_t seen, size_t size)
{
    if (cut == NULL)
        return seen + (seen < size);
    return data + seen < cut && cut < data + size ? (size_t)(cut - data) : size;
}

/* Returns: bytes of the body, or -1 if refused, -2 if unfinished. */
static long
read_chunked(struct request *r, const char *data, size_t size)
{
    struct ht_chunked d = { 0 };
    size_t            used = 0, seen = 0, n;

    for (;;) {
        switch (ht_chunk_next(&d, data + used, seen - used, &n)) {
        case HT_CHUNK_END:
            return (long)(used + n);
        case HT_CHUNK_BAD:
            MUST(d.reason != NULL);
            return -1;
        case HT_CHUNK_DATA:
            used += n;
            n = seen - used < d.left ? seen - used : (size_t)d.left;
            if (n > 0) {
                keep_body(r, data + used, n);
                ht_chunk_take(&d, n);
                used += n;
                continue;
            }
            break;
        case HT_CHUNK_MORE:
            used += n;
            break;
        }
        if (seen == size)
            return -2;
        seen = more(data, seen, size);
    }
}

static long
read_head(struct ht_finder *f, struct ht_head *h, struct ht_field *fields, char *data,
          size_t size)
{
    size_t seen = more(data, 0, size);

    for (;;) {
        long end = ht_head_read(f, h, data, seen, fields, &limits);

        if (end != 0 || seen == size)
            return end;
        seen = more(data, seen, size);
    }
}

/* Returns: bytes used by one request, 0 if the stream ends here. */
static size_t
read_request(struct stream *s, char *data, size_t size)
{
    struct request  *r = &s->request[s->count];
    struct ht_field  fields[MAX_FIELDS];
    struct ht_finder f = { 0 };
    struct ht_target target;
    struct ht_head   head;
    char             copy[2048];
    long             end = read_head(&f, &head, fields, data, size), body = 0;

    if (end <= 0) {
        s->refused = end < 0;
        MUST(end == 0 || head.reason != NULL);
        return 0;
    }
    MUST((size_t)end - f.start <= sizeof copy);
    memcpy(copy, data + f.start, (size_t)end - f.start);
    ht_head_move(&head, data + f.start, copy);
    if (snprintf(r->target, sizeof r->target, "%s", head.target) < 0 ||
        ht_target_parse(&target, &head) < 0) {
        MUST(head.reason != NULL);
        s->refused = true;
        return 0;
    }
    MUST(strlen(target.path) + strlen(target.query) <= head.target_length + 1);
    snprintf(r->method, sizeof r->method, "%s", head.method);
    r->fields = head.field_count;
    r->body_size = 0;
    if (head.body == HT_BODY_LENGTH) {
        body = head.length <= size - (size_t)end ? (long)head.length : -2;
        if (body > 0)
            keep_body(r, data + end, (size_t)body);
    } else if (head.body == HT_BODY_CHUNKED) {
        body = read_chunked(r, data + end, size - (size_t)end);
    }
    if (body < 0) {
        s->refused = body == -1;
        return 0;
    }
    s->complete = !head.keep;
    s->count++;
    return (size_t)(end + body);
}

static void
read_stream(struct stream *s, char *data, size_t size, const char *cut_at)
{
    size_t n;

    cut = cut_at;
    memset(s, 0, offsetof(struct stream, request));
    while (s->count < MAX_REQUESTS && !s->complete && !s->refused &&
           (n = read_request(s, data + s->used, size - s->used)) > 0)
        s->used += n;
}

/* ---- the others' --------------------------------------------------------------------- */

typedef bool reads_fn(struct seen *s, const char *data, size_t size, size_t split);

/* What they accept they must read as we do. */
static void
compare(const struct stream *ours, const char *data, size_t split, reads_fn *reads)
{
    static struct seen seen;
    bool               all = reads(&seen, data, ours->used, split);

    MUST(all ? seen.count == ours->count : seen.count < ours->count);
    for (int i = 0; i < seen.count; i++) {
        const struct request *a = &ours->request[i], *b = &seen.request[i];

        MUST(strcmp(a->method, b->method) == 0);
        MUST(strcmp(a->target, b->target) == 0);
        MUST(a->fields == b->fields);
        MUST(a->body_size == b->body_size);
        MUST(memcmp(a->body, b->body, a->body_size < BODY_KEPT ? a->body_size : BODY_KEPT) ==
             0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must_be_same(const struct stream *a, const struct stream *b)
{
    MUST(a->count == b->count && a->used == b->used && a->refused == b->refused);
    for (int i = 0; i < a->count; i++)
        MUST(a->request[i].body_size == b->request[i].body_size);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { CUTS = 24 }; /* all of a short input, else some, others each time */
    static struct stream whole, pieces;
    size_t               stride = size / CUTS + 1, sum = 0;
    char                *copy = malloc(size + 1);

    if (copy == NULL)
        return 0;
    memcpy(copy, data, size);
    read_stream(&whole, copy, size, copy);
    read_stream(&pieces, copy, size, NULL);
    must_be_same(&whole, &pieces);
    for (size_t i = 0; i < size; i++)
        sum += data[i];
    for (size_t at = sum % stride; at < size; at += stride) {
        read_stream(&pieces, copy, size, copy + at);
        must_be_same(&whole, &pieces);
        if (at < whole.used) {
            compare(&whole, copy, at, llhttp_reads);
            compare(&whole, copy, at, http_parser_reads);
        }
    }
    free(copy);
    return 0;
}
