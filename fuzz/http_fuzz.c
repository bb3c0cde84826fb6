/*
 * http_fuzz.c -- any bytes at all as a stream of HTTP/1 requests.
 *
 * Three things must hold:
 *
 *     no crash     under the address and undefined-behaviour sanitizers
 *     no splits    the bytes give the same requests when they arrive one by one
 *     one framing  what we accept, llhttp in strict mode reads as the same requests with
 *                  the same bodies.  It may refuse some (methods it has not heard of, a
 *                  few chunk extensions), but what both read they read alike
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <llhttp.h>

#include "head.h"

enum { MAX_REQUESTS = 32, MAX_FIELDS = 24, BODY_KEPT = 4096 };

struct request {
    char     method[32], target[512];
    unsigned fields;
    size_t   body_size;
    char     body[BODY_KEPT];
};

struct stream {
    int            count;
    bool           refused, complete; /* the last one may be unfinished */
    size_t         used;              /* bytes of complete requests */
    struct request request[MAX_REQUESTS];
};

#define MUST(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "violated at line %d: %s\n", __LINE__, #condition);                \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

static const struct ht_limits limits = { .line = 500, .head = 2000, .fields = MAX_FIELDS };

static void
keep_body(struct request *r, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (r->body_size + i < BODY_KEPT)
            r->body[r->body_size + i] = data[i];
    r->body_size += size;
}

/* ---- ours, seeing at most `step` more bytes at a time ------------------------------ */

static size_t
more(size_t seen, size_t size, size_t step)
{
    return size - seen < step ? size : seen + step;
}

/* Returns: bytes of the body, or -1 if refused, -2 if unfinished. */
static long
read_chunked(struct request *r, const char *data, size_t size, size_t step)
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
        seen = more(seen, size, step);
    }
}

static long
read_head(struct ht_finder *f, struct ht_head *h, struct ht_field *fields, char *data,
          size_t size, size_t step)
{
    size_t seen = step == 1 ? 0 : size;

    for (;;) {
        long end = ht_head_read(f, h, data, seen, fields, &limits);

        if (end != 0 || seen == size)
            return end;
        seen = more(seen, size, step);
    }
}

/* Returns: bytes used by one request, 0 if the stream ends here. */
static size_t
read_request(struct stream *s, char *data, size_t size, size_t step)
{
    struct request  *r = &s->request[s->count];
    struct ht_field  fields[MAX_FIELDS];
    struct ht_finder f = { 0 };
    struct ht_target target;
    struct ht_head   head;
    char             copy[2048];
    long             end = read_head(&f, &head, fields, data, size, step), body = 0;

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
        body = read_chunked(r, data + end, size - (size_t)end, step);
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
read_stream(struct stream *s, char *data, size_t size, size_t step)
{
    size_t n;

    memset(s, 0, offsetof(struct stream, request));
    while (s->count < MAX_REQUESTS && !s->complete && !s->refused &&
           (n = read_request(s, data + s->used, size - s->used, step)) > 0)
        s->used += n;
}

/* ---- llhttp's ----------------------------------------------------------------------- */

struct seen {
    int            count; /* complete */
    struct request request[MAX_REQUESTS + 1];
};

static struct request *
current(llhttp_t *p)
{
    struct seen *s = p->data;

    return &s->request[s->count < MAX_REQUESTS ? s->count : MAX_REQUESTS];
}

static int
on_begin(llhttp_t *p)
{
    struct request *r = current(p);

    r->target[0] = '\0';
    r->fields = 0;
    r->body_size = 0;
    return 0;
}

static int
on_url(llhttp_t *p, const char *at, size_t length)
{
    struct request *r = current(p);
    size_t          have = strlen(r->target);

    snprintf(r->target + have, sizeof r->target - have, "%.*s", (int)length, at);
    return 0;
}

static int
on_value_complete(llhttp_t *p)
{
    /* Trailers come when the body is done: those are not fields of the head. */
    if ((p->flags & F_TRAILING) == 0)
        current(p)->fields++;
    return 0;
}

static int
on_body(llhttp_t *p, const char *at, size_t length)
{
    keep_body(current(p), at, length);
    return 0;
}

static int
on_complete(llhttp_t *p)
{
    snprintf(current(p)->method, sizeof current(p)->method, "%s",
             llhttp_method_name((llhttp_method_t)p->method));
    ((struct seen *)p->data)->count++;
    return 0;
}

static void
compare_with_llhttp(const struct stream *ours, const char *data)
{
    static const llhttp_settings_t settings = {
        .on_message_begin = on_begin,
        .on_url = on_url,
        .on_header_value_complete = on_value_complete,
        .on_body = on_body,
        .on_message_complete = on_complete,
    };
    static struct seen seen;
    const char        *at = data;
    size_t             left = ours->used;
    llhttp_errno_t     err;
    llhttp_t           parser;

    seen.count = 0;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &seen;
    err = llhttp_execute(&parser, at, left);
    while (err == HPE_PAUSED_UPGRADE) { /* an offer that we decline: it goes on in HTTP/1.1 */
        const char *end = llhttp_get_error_pos(&parser);

        left -= (size_t)(end - at);
        at = end;
        llhttp_resume_after_upgrade(&parser);
        err = llhttp_execute(&parser, at, left);
    }
    MUST(err == HPE_OK || err == HPE_INVALID_CHUNK_SIZE || err == HPE_STRICT ||
         err == HPE_INVALID_METHOD || err == HPE_INVALID_CONSTANT);
    MUST(err == HPE_OK ? seen.count == ours->count : seen.count < ours->count);
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

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct stream whole, bytewise;
    char                *copy = malloc(size + 1);

    if (copy == NULL)
        return 0;
    memcpy(copy, data, size);
    read_stream(&whole, copy, size, size);
    read_stream(&bytewise, copy, size, 1);
    MUST(whole.count == bytewise.count);
    MUST(whole.used == bytewise.used);
    MUST(whole.refused == bytewise.refused);
    for (int i = 0; i < whole.count; i++)
        MUST(whole.request[i].body_size == bytewise.request[i].body_size);
    compare_with_llhttp(&whole, copy);
    free(copy);
    return 0;
}
