/* oracle_http_parser.c -- http_parser, llhttp's predecessor: another reading of the same rules. */

#include <string.h>

#include <http_parser.h>

#include "oracle.h"

static int
on_begin(http_parser *p)
{
    struct seen *s = p->data;

    s->in_name = false;
    begin_request(current(s));
    return 0;
}

static int
on_url(http_parser *p, const char *at, size_t length)
{
    struct request *r = current(p->data);
    size_t          have = strlen(r->target);

    snprintf(r->target + have, sizeof r->target - have, "%.*s", (int)length, at);
    return 0;
}

/* A name may come in pieces. */
static int
on_field(http_parser *p, const char *at, size_t length)
{
    struct seen *s = p->data;

    (void)at, (void)length;
    if (!s->in_name && (p->flags & F_TRAILING) == 0)
        current(s)->fields++;
    s->in_name = true;
    return 0;
}

static int
on_value(http_parser *p, const char *at, size_t length)
{
    (void)at, (void)length;
    ((struct seen *)p->data)->in_name = false;
    return 0;
}

static int
on_headers_complete(http_parser *p)
{
    p->upgrade = 0; /* it goes on in HTTP/1.1 */
    return 0;
}

static int
on_body(http_parser *p, const char *at, size_t length)
{
    keep_body(current(p->data), at, length);
    return 0;
}

static int
on_complete(http_parser *p)
{
    struct seen *s = p->data;

    snprintf(current(s)->method, sizeof current(s)->method, "%s",
             http_method_str((enum http_method)p->method));
    s->count++;
    return 0;
}

bool
http_parser_reads(struct seen *s, const char *data, size_t size, size_t split)
{
    static const http_parser_settings settings = {
        .on_message_begin = on_begin,
        .on_url = on_url,
        .on_header_field = on_field,
        .on_header_value = on_value,
        .on_headers_complete = on_headers_complete,
        .on_body = on_body,
        .on_message_complete = on_complete,
    };
    enum http_errno err;
    http_parser     parser;

    s->count = 0;
    http_parser_init(&parser, HTTP_REQUEST);
    parser.data = s;
    (void)http_parser_execute(&parser, &settings, data, split);
    err = HTTP_PARSER_ERRNO(&parser);
    if (err == HPE_OK && size > split) { /* nothing at all would be the end */
        (void)http_parser_execute(&parser, &settings, data + split, size - split);
        err = HTTP_PARSER_ERRNO(&parser);
    }
    /* A name that only begins with Transfer-Encoding makes it doubt the framing; a tab behind a
     * length is more than it takes. */
    MUST(err == HPE_OK || err == HPE_INVALID_METHOD || err == HPE_INVALID_TRANSFER_ENCODING ||
         err == HPE_UNEXPECTED_CONTENT_LENGTH ||
         (err == HPE_INVALID_CONTENT_LENGTH && memchr(data, '\t', size) != NULL));
    return err == HPE_OK;
}
