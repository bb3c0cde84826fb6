/*
 * content.c -- bytes or a file as a reply: preconditions, ranges, the body.
 *
 *     If-Match ------- no match --> 412        If-None-Match ---- match ------> 304
 *        | absent                                 | absent
 *     If-Unmodified-Since - later --> 412      If-Modified-Since - not later --> 304
 *        |                                        |
 *        +--------------- passed ---------------->+-- Range, If-Range --> 200, 206, 416
 *
 * A field that may come once and comes twice, or is malformed, counts as absent, as
 * RFC 9110 has it for each of these.
 */

#include <bulkhead/http/files.h>

#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include <bulkhead/base/arena.h>

#include "fields.h"
#include "helpers.h"

/* ---- preconditions --------------------------------------------------------------- */

/* The date in a field.  Returns: false if there is none. */
static bool
request_date(struct bh_http_call *c, const char *name, int64_t *time)
{
    const char *value = ht_request_single(c, name);

    return value != NULL && ht_date_parse(value, time);
}

/* Returns: 412, 304, or 0 to go on.  See: RFC 9110 section 13.2.2. */
static int
precondition(struct bh_http_call *c, const struct bh_http_content *content)
{
    const char *list = ht_request_list(c, "If-Match");
    const char *etag = content->etag != NULL ? content->etag : "\"";
    int64_t     date;

    if (list != NULL) {
        if (!ht_etag_in(list, etag, false))
            return 412;
    } else if (content->modified != 0 && request_date(c, "If-Unmodified-Since", &date) &&
               content->modified > date) {
        return 412;
    }
    list = ht_request_list(c, "If-None-Match");
    if (list != NULL)
        return !ht_etag_in(list, etag, true) ? 0 : ht_is_read(c) ? 304 : 412;
    if (content->modified != 0 && ht_is_read(c) &&
        request_date(c, "If-Modified-Since", &date) && content->modified <= date)
        return 304;
    return 0;
}

/* Whether If-Range lets Range count.  A date proves something only if it was over when it was given. */
static bool
range_still_holds(struct bh_http_call *c, const struct bh_http_content *content)
{
    const char *value = bh_http_header(c, "If-Range");
    int64_t     date;

    if (value == NULL)
        return true;
    value = ht_request_single(c, "If-Range");
    if (value == NULL)
        return false;
    if (ht_etag_is_valid(value))
        return content->etag != NULL && ht_etag_in(value, content->etag, false);
    return content->modified != 0 && ht_date_parse(value, &date) && date == content->modified &&
           date < time(NULL) - 1;
}

/* ---- the body -------------------------------------------------------------------- */

static int
add_part(struct bh_http_call *c, const struct bh_http_content *content, struct ht_range r)
{
    if (r.size == 0)
        return 0;
    if (content->data != NULL)
        return bh_http_write(c, (const char *)content->data + r.start, (size_t)r.size);
    return bh_http_send_file(c, content->fd, r.start, r.size);
}

static int
reply_part(struct bh_http_call *c, const struct bh_http_content *content, int status,
           struct ht_range r)
{
    if (content->data != NULL)
        return bh_http_reply_bytes(c, status, content->type,
                                   (const char *)content->data + r.start, (size_t)r.size);
    bh_http_start(c, status, content->type, r.size);
    return add_part(c, content, r);
}

static void
set_content_range(struct bh_http_call *c, int64_t size, struct ht_range r)
{
    (void)bh_http_set_header(
        c, "Content-Range",
        bh_arena_print(c->arena, "bytes %lld-%lld/%lld", (long long)r.start,
                       (long long)(r.start + r.size - 1), (long long)size));
}

/* A text that no file contains but by chance. */
static const char *
make_boundary(struct bh_http_call *c)
{
    uint64_t random[2] = { c->id, (uint64_t)c->started };

    (void)!getrandom(random, sizeof random, GRND_NONBLOCK);
    return bh_arena_print(c->arena, "%016llx%016llx", (unsigned long long)random[0],
                          (unsigned long long)random[1]);
}

static int
reply_parts(struct bh_http_call *c, const struct bh_http_content *content,
            const struct ht_range *ranges, int count)
{
    const char *type = bh_http_reply_header(c, "Content-Type");
    const char *boundary = make_boundary(c), *heads[HT_MAX_RANGES], *end;
    int64_t     length;
    int         rc = 0;

    if (type == NULL)
        type = content->type;
    end = bh_arena_print(c->arena, "\r\n--%s--\r\n", boundary);
    length = (int64_t)strlen(end);
    for (int i = 0; i < count; i++) {
        heads[i] = bh_arena_print(
            c->arena,
            "\r\n--%s\r\nContent-Type: %s\r\nContent-Range: bytes %lld-%lld/%lld\r\n\r\n",
            boundary, type, (long long)ranges[i].start,
            (long long)(ranges[i].start + ranges[i].size - 1), (long long)content->size);
        length += (int64_t)strlen(heads[i]) + ranges[i].size;
    }
    type = bh_arena_print(c->arena, "multipart/byteranges; boundary=%s", boundary);
    (void)bh_http_set_header(c, "Content-Type", type);
    bh_http_start(c, 206, type, length);
    for (int i = 0; i < count && rc == 0; i++) {
        rc = bh_http_write(c, heads[i], strlen(heads[i]));
        if (rc == 0)
            rc = add_part(c, content, ranges[i]);
    }
    return rc == 0 ? bh_http_write(c, end, strlen(end)) : rc;
}

static int
reply_content(struct bh_http_call *c, const struct bh_http_content *content)
{
    const char *value = strcmp(c->method, "GET") == 0 ? ht_request_single(c, "Range") : NULL;
    struct ht_range ranges[HT_MAX_RANGES], whole = { 0, content->size };
    int             count = 0;

    if (value != NULL && content->size > 0 && range_still_holds(c, content))
        count = ht_ranges_parse(value, content->size, ranges);
    if (count == 0)
        return reply_part(c, content, 200, whole);
    if (count > 1)
        return reply_parts(c, content, ranges, count);
    if (count == 1) {
        set_content_range(c, content->size, ranges[0]);
        return reply_part(c, content, 206, ranges[0]);
    }
    (void)bh_http_set_header(
        c, "Content-Range", bh_arena_print(c->arena, "bytes */%lld", (long long)content->size));
    return bh_http_reply(c, 416, "416 %s\n", bh_http_status_text(416));
}

int
bh_http_serve_content(struct bh_http_call *c, const struct bh_http_content *content)
{
    struct bh_http_content with_type = *content;
    char                   date[HT_DATE_SIZE];
    int                    status;

    if (content->etag != NULL && !ht_etag_is_valid(content->etag))
        bh_panic("http: malformed entity tag %s", content->etag);
    if (content->type == NULL)
        with_type.type = "application/octet-stream";
    if (content->etag != NULL)
        (void)bh_http_set_header(c, "ETag", content->etag);
    if (content->modified != 0) {
        ht_date_put(date, content->modified);
        (void)bh_http_set_header(c, "Last-Modified", date);
    }
    status = precondition(c, content);
    if (status == 304)
        return bh_http_reply_bytes(c, 304, NULL, NULL, 0);
    if (status != 0)
        return bh_http_reply(c, status, "%d %s\n", status, bh_http_status_text(status));
    (void)bh_http_set_header(c, "Accept-Ranges", "bytes");
    return reply_content(c, &with_type);
}
