/*
 * body.c -- the body of a request, whatever wire it comes by.
 *
 * A body may take body_timeout, plus a second for each body_rate bytes that have
 * come: a slow upload goes on, one byte now and then does not.
 *
 * "Expect: 100-continue" is answered when the handler first reads; a handler that
 * replies without reading spares the client the upload.
 */

#include "ht.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

ssize_t
ht_body_fail(struct ht_call *x, int code, const char *why)
{
    x->body_error = code;
    x->keep = false;
    return bh_fail(code, "body of request %llu: %s", (unsigned long long)x->pub.id, why);
}

int
ht_body_refuse(struct bh_http_call *c, int code, const char *why)
{
    struct ht_call *x = ht_own(c);

    x->body_error = code;
    x->body_reason = why;
    return bh_fail(code, "%s", why);
}

int64_t
ht_body_deadline(const struct ht_call *x)
{
    const struct bh_http_options *o = &x->s->o;

    return x->body_since + o->body_timeout + (int64_t)(x->body_read / o->body_rate) * BH_SECOND;
}

static void
start_body(struct ht_call *x)
{
    x->body_since = bh_now();
    if (x->head.expect && !x->continued && x->reply != HT_REPLY_COMMITTED)
        (void)x->wire->interim(x, 100);
    x->continued = true;
}

static ssize_t
body_read(struct ht_call *x, void *buffer, size_t size)
{
    ssize_t n;

    if (x->body_error < 0)
        return x->body_error;
    if (x->body_done || size == 0)
        return 0;
    if (x->body_since == 0)
        start_body(x);
    n = x->wire->read(x, buffer, size);
    if (n > 0)
        x->body_read += (uint64_t)n;
    return n;
}

/* While it runs the body is what came, so that it can read it. */
static ssize_t
read_through(struct ht_call *x, void *buffer, size_t size)
{
    bh_http_read_fn *reader = x->reader;
    ssize_t          n;

    if (x->body_error < 0)
        return x->body_error;
    if (size == 0)
        return 0;
    x->reader = NULL;
    n = reader(&x->pub, x->reader_arg, buffer, size);
    x->reader = reader;
    x->reader_made += n > 0 ? (uint64_t)n : 0;
    if (x->reader_made > x->max_body)
        return ht_body_fail(x, -EMSGSIZE, "over the limit");
    return n >= 0 || x->body_error < 0 ? n : ht_body_fail(x, -EBADMSG, "cannot be decoded");
}

void
bh_http_read_through(struct bh_http_call *c, bh_http_read_fn *fn, void *arg)
{
    struct ht_call *x = ht_own(c);

    if (x->reader != NULL || x->body_size >= 0)
        bh_panic("http: the body is read already, or through something else");
    x->reader = fn;
    x->reader_arg = arg;
}

ssize_t
bh_http_read(struct bh_http_call *c, void *buffer, size_t size)
{
    struct ht_call *x = ht_own(c);
    ssize_t         n;

    if (x->reader != NULL)
        return read_through(x, buffer, size);
    if (x->body_since == 0 && x->head.body == HT_BODY_LENGTH && x->head.length > x->max_body)
        return ht_body_fail(x, -EMSGSIZE, "over the limit");
    n = body_read(x, buffer, size);
    if (n > 0 && x->body_read > x->max_body)
        return ht_body_fail(x, -EMSGSIZE, "over the limit");
    return n;
}

void
bh_http_limit_body(struct bh_http_call *c, size_t size)
{
    ht_own(c)->max_body = size;
}

/* ---- the whole body -------------------------------------------------------------- */

static void
free_holder(void *arg)
{
    free(*(void **)arg);
}

/* Of a size that is announced and small: straight into the arena. */
static ssize_t
read_known(struct bh_http_call *c, size_t length)
{
    struct ht_call *x = c->s;
    char           *to = bh_arena_raw(x->arena, length + 1);
    size_t          size = 0;
    ssize_t         n;

    do {
        n = bh_http_read(c, to + size, length - size);
        if (n < 0)
            return n;
        size += (size_t)n;
    } while (n > 0 && size < length);
    to[size] = '\0';
    x->body_data = to;
    return (ssize_t)size;
}

/* Memory grows as bytes arrive, not as announced. */
static ssize_t
read_all(struct bh_http_call *c)
{
    struct ht_call *x = c->s;
    char          **holder = bh_arena_alloc(x->arena, sizeof *holder);
    size_t          size = 0, room = 0;
    ssize_t         n;

    *holder = NULL;
    bh_arena_defer(x->arena, free_holder, holder);
    do {
        if (size + 1 >= room) {
            size_t want = room == 0 ? 4096 : room * 2;
            char  *bigger = realloc(*holder, want);

            if (bigger == NULL)
                bh_panic("http: out of memory for a body");
            *holder = bigger;
            room = want;
        }
        n = bh_http_read(c, *holder + size, room - size - 1);
        if (n < 0)
            return n;
        size += (size_t)n;
    } while (n > 0);
    (*holder)[size] = '\0';
    x->body_data = *holder;
    return (ssize_t)size;
}

ssize_t
bh_http_body(struct bh_http_call *c, const char **data)
{
    enum { SMALL = 16384 };
    struct ht_call *x = ht_own(c);

    if (x->body_size < 0) {
        ssize_t n = x->head.body == HT_BODY_LENGTH && x->head.length <= SMALL && x->reader == NULL
                        ? read_known(c, (size_t)x->head.length)
                        : read_all(c);

        if (n < 0)
            return n;
        x->body_size = n;
    }
    *data = x->body_data;
    return x->body_size;
}

/* ---- what the handler left unread ------------------------------------------------ */

bool
ht_body_discard(struct ht_call *x)
{
    char   sink[4096];
    size_t total = 0;

    while (!x->body_done && x->body_error == 0 && total <= HT_DISCARD_SIZE) {
        ssize_t n = body_read(x, sink, sizeof sink);

        total += n > 0 ? (size_t)n : 0;
    }
    return x->body_done && x->body_error == 0;
}

const char *
bh_http_request_trailer(struct bh_http_call *c, const char *name)
{
    const struct ht_line *l = c->s->request_trailers;

    while (l != NULL && strcasecmp(l->name, name) != 0)
        l = l->next;
    return l != NULL ? l->value : NULL;
}
