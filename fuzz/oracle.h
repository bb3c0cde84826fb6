#ifndef FUZZ_ORACLE_H
#define FUZZ_ORACLE_H

/*
 * oracle.h -- a stream of requests as a parser of HTTP/1 that others wrote reads it.
 * One file for each: their headers do not go together.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#define MUST(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "violated at %s:%d: %s\n", __FILE__, __LINE__, #condition);        \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

enum { MAX_REQUESTS = 32, BODY_KEPT = 4096 };

struct request {
    char     method[32], target[512];
    unsigned fields;
    size_t   body_size;
    char     body[BODY_KEPT];
};

struct seen {
    int            count; /* complete */
    bool           in_name;
    struct request request[MAX_REQUESTS + 1];
};

static inline struct request *
current(struct seen *s)
{
    return &s->request[s->count < MAX_REQUESTS ? s->count : MAX_REQUESTS];
}

static inline void
begin_request(struct request *r)
{
    r->target[0] = '\0';
    r->fields = 0;
    r->body_size = 0;
}

static inline void
keep_body(struct request *r, const char *data, size_t size)
{
    for (size_t i = 0; i < size; i++)
        if (r->body_size + i < BODY_KEPT)
            r->body[r->body_size + i] = data[i];
    r->body_size += size;
}

/*
 * Feed it requests that we accepted, in two pieces.  Offers to upgrade are declined.
 * Returns: whether it accepts them too; if not, the reason is one of those known.
 */
bool llhttp_reads(struct seen *s, const char *data, size_t size, size_t split);
bool http_parser_reads(struct seen *s, const char *data, size_t size, size_t split);

#endif
