/* oracle_llhttp.c -- llhttp, in strict mode. */

#include <string.h>

#include <llhttp.h>

#include "oracle.h"

static int
on_begin(llhttp_t *p)
{
    begin_request(current(p->data));
    return 0;
}

static int
on_url(llhttp_t *p, const char *at, size_t length)
{
    struct request *r = current(p->data);
    size_t          have = strlen(r->target);

    snprintf(r->target + have, sizeof r->target - have, "%.*s", (int)length, at);
    return 0;
}

static int
on_value_complete(llhttp_t *p)
{
    /* Trailers come when the body is done: those are not fields of the head. */
    if ((p->flags & F_TRAILING) == 0)
        current(p->data)->fields++;
    return 0;
}

static int
on_body(llhttp_t *p, const char *at, size_t length)
{
    keep_body(current(p->data), at, length);
    return 0;
}

static int
on_complete(llhttp_t *p)
{
    struct seen *s = p->data;

    snprintf(current(s)->method, sizeof current(s)->method, "%s",
             llhttp_method_name((llhttp_method_t)p->method));
    s->count++;
    return 0;
}

static llhttp_errno_t
feed(llhttp_t *p, const char *data, size_t size)
{
    llhttp_errno_t err = llhttp_execute(p, data, size);

    while (err == HPE_PAUSED_UPGRADE) { /* it goes on in HTTP/1.1 */
        const char *end = llhttp_get_error_pos(p);

        size -= (size_t)(end - data);
        data = end;
        llhttp_resume_after_upgrade(p);
        err = llhttp_execute(p, data, size);
    }
    return err;
}

bool
llhttp_reads(struct seen *s, const char *data, size_t size, size_t split)
{
    static const llhttp_settings_t settings = {
        .on_message_begin = on_begin,
        .on_url = on_url,
        .on_header_value_complete = on_value_complete,
        .on_body = on_body,
        .on_message_complete = on_complete,
    };
    llhttp_errno_t err;
    llhttp_t       parser;

    s->count = 0;
    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = s;
    err = feed(&parser, data, split);
    if (err == HPE_OK)
        err = feed(&parser, data + split, size - split);
    /* A tab behind a length or a coding is more than it takes, against RFC 9110 section 5.6.3. */
    MUST(err == HPE_OK || err == HPE_INVALID_CHUNK_SIZE || err == HPE_STRICT ||
         err == HPE_INVALID_METHOD || err == HPE_INVALID_CONSTANT ||
         (memchr(data, '\t', size) != NULL &&
          (err == HPE_INVALID_CONTENT_LENGTH || err == HPE_INVALID_TRANSFER_ENCODING)));
    return err == HPE_OK;
}
