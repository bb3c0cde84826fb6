/*
 * exchange.c -- HTTP/1 on a connection: the request out, the reply's head in.
 *
 *     head and a small body --> (wait for 100) --> rest of the body: upload.c --> head of the reply
 *
 * A server may answer before it has read all of a body, and then close.  So a write that fails
 * is not the end: there may be a reply to read, and that is the better answer.
 */

#include "hc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>

enum { TOGETHER = 8192 }; /* a body this small leaves in one write with the head */

/* ---- input ------------------------------------------------------------------------------- */

void
hc_read_deadline(struct hc_conn *k, int64_t timeout)
{
    int64_t until = timeout > 0 ? bh_now_coarse() + timeout : 0;

    /* One that is a little early is good enough, and costs nothing. */
    if (until == k->read_until ||
        (until > k->read_until && k->read_until > 0 && until - k->read_until < timeout / 32))
        return;
    bh_conn_set_read_deadline(k->io.conn, until);
    k->read_until = until;
}

ssize_t
hc_read(struct hc_conn *k, void *buffer, size_t size)
{
    return k->impatient ? ht_io_try_read(&k->io, buffer, size)
                        : ht_io_read(&k->io, buffer, size);
}

ssize_t
hc_fill(struct hc_conn *k)
{
    ssize_t n;

    if (k->in_start == k->in_end)
        k->in_start = k->in_end = 0;
    if (k->in_end == k->in_size && k->in_start > 0) {
        memmove(k->in, k->in + k->in_start, k->in_end - k->in_start);
        k->in_end -= k->in_start;
        k->in_start = 0;
    }
    if (k->in_end == k->in_size) {
        size_t size = k->in_size > 0 ? 2 * k->in_size : HC_BUFFER;
        char  *in = realloc(k->in, size);

        if (in == NULL)
            return bh_fail(-ENOMEM, "http: out of memory");
        k->in = in;
        k->in_size = size;
    }
    n = hc_read(k, k->in + k->in_end, k->in_size - k->in_end);
    if (n > 0)
        k->in_end += (size_t)n;
    return n;
}

/* ---- the head of the reply --------------------------------------------------------------- */

/* A whole head lies at in_start.  Returns: 0 or an error. */
static int
parse_head(struct hc_res *x, size_t size)
{
    struct hc_conn *k = x->k;
    struct hc_head *h = &x->head;
    unsigned        max = h->lines < x->c->o.max_fields ? h->lines : x->c->o.max_fields;
    char           *copy = bh_arena_copy(x->arena, k->in + k->in_start, size);

    h->fields = bh_arena_alloc(x->arena, (max + 1) * sizeof *h->fields);
    k->in_start += size;
    h->seen = h->line = 0;
    h->lines = 0;
    return hc_head_parse(h, copy, size, max, strcmp(x->method, "HEAD") == 0);
}

static int
bad_head(struct hc_res *x, int code)
{
    return bh_fail(code, "http: malformed reply of %s: %s", x->url.authority, x->head.fault);
}

/* The connection ended, or failed, before the head was there. */
int
hc_no_reply(struct hc_res *x, ssize_t n)
{
    const char *note;
    int         error = x->upload != NULL ? hc_upload_error(x->upload, &note) : 0;

    if (error < 0)
        return bh_fail(error, "http: body of the request: %s", note);
    if (n == 0)
        return bh_fail(BH_EEOF, "http: %s closed the connection %s", x->url.authority,
                       x->answered ? "within the head of a reply" : "without a reply");
    if (n == BH_EDEADLINE && bh_ctx_err(x->ctx) == 0)
        return bh_fail(BH_EDEADLINE, "http: %s did not reply in time", x->url.authority);
    return (int)n;
}

/*
 * Read heads up to the real one; or, with `go_ahead`, to a 100.
 * Returns: 0 with the head in x->head; 1 for that 100; or an error.
 */
static int
read_head(struct hc_res *x, bool go_ahead)
{
    const struct ht_limits l = { .head = x->c->o.max_head, .fields = x->c->o.max_fields };
    struct hc_conn        *k = x->k;

    for (unsigned interim = 0;;) {
        long    end = hc_head_find(&x->head, k->in + k->in_start, k->in_end - k->in_start, &l);
        int     rc;
        ssize_t n;

        if (end < 0)
            return bad_head(x, (int)end);
        if (end == 0) {
            n = hc_fill(k);
            if (n <= 0)
                return hc_no_reply(x, n);
            x->answered = true;
            continue;
        }
        rc = parse_head(x, (size_t)end);
        if (rc < 0)
            return bad_head(x, rc);
        if (x->head.status >= 200)
            return 0;
        if (x->head.status == 101)
            return bh_fail(-EBADMSG, "http: %s switched protocols unasked", x->url.authority);
        if (++interim > HC_MAX_INTERIM)
            return bh_fail(-EBADMSG, "http: too many interim replies of %s", x->url.authority);
        if (go_ahead && x->head.status == 100)
            return 1;
    }
}

/* ---- the request ------------------------------------------------------------------------- */

static int
send_bytes(struct hc_res *x, const void *data, size_t size)
{
    ssize_t n = size > 0 ? ht_io_write(&x->k->io, data, size) : 0;

    return n < 0 ? (int)n : 0;
}

/* The head, and the body if it is small and nobody is asked first. */
static int
send_head(struct hc_res *x)
{
    const struct bh_http_req *req = x->req;
    size_t size, body = x->with_body && req->source == NULL ? req->body_size : 0;
    char  *head = hc_request_head(x, &size), *both;

    x->unsent = x->with_body && (req->source != NULL || body > 0);
    if (body == 0 || body > TOGETHER || req->expect_continue)
        return send_bytes(x, head, size);
    both = bh_arena_alloc(x->arena, size + body);
    memcpy(both, head, size);
    memcpy(both + size, req->body, body);
    x->unsent = false;
    return send_bytes(x, both, size + body);
}

static int
send_body(struct hc_res *x)
{
    int rc;

    if (!x->unsent)
        return 0;
    if (x->req->source != NULL || x->req->body_size > HC_INLINE_BODY) {
        hc_read_deadline(x->k, 0); /* the clock of the head starts when it is over */
        hc_upload_start(x);
        return 0;
    }
    rc = send_bytes(x, x->req->body, x->req->body_size);
    x->unsent = rc < 0;
    return rc;
}

/* Ask whether the body is wanted.  Returns: 1 to send it; 0 if the reply is there; or an error. */
static int
ask(struct hc_res *x)
{
    int rc;

    hc_read_deadline(x->k, x->c->o.continue_timeout);
    rc = read_head(x, true);
    return rc == BH_EDEADLINE && bh_ctx_err(x->ctx) == 0 ? 1 : rc;
}

/* A write failed with `error`.  Returns: 0 if there is a reply all the same. */
static int
reply_all_the_same(struct hc_res *x, int error)
{
    char note[256];

    if (error != -EPIPE && error != -ECONNRESET)
        return error;
    stpncpy(note, bh_error_note(), sizeof note - 1);
    note[sizeof note - 1] = '\0';
    x->unsent = true;
    hc_read_deadline(x->k, x->c->o.head_timeout);
    return read_head(x, false) == 0 ? 0 : bh_fail(error, "%s", note);
}

int
hc_exchange(struct hc_res *x)
{
    int rc;

    atomic_fetch_add(&x->c->sent, 1);
    memset(&x->head, 0, sizeof x->head);
    x->began = true;
    rc = send_head(x);
    if (rc == 0 && x->with_body && x->req->expect_continue) {
        rc = ask(x);
        if (rc <= 0)
            return rc;
        rc = 0;
    }
    if (rc == 0)
        rc = send_body(x);
    if (rc < 0)
        return reply_all_the_same(x, rc);
    if (x->upload == NULL)
        hc_read_deadline(x->k, x->c->o.head_timeout);
    return read_head(x, false);
}
