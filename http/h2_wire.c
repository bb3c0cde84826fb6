/*
 * h2_wire.c -- the wire of a call on an HTTP/2 stream.
 *
 * The head is submitted with the first bytes of the body that have to go, or with its end: a
 * reply that is whole when the chain returns takes the connection's lock once.
 *
 * Bytes that a window holds back stay where they are, and so does the goroutine whose memory they
 * are in, for write_timeout per HT_WRITE_SIZE of them.
 *
 * A broken reply is RST_STREAM, which end_call in http2.c sends to all that did not end here.
 */

#include "h2.h"

#include <string.h>
#include <strings.h>
#include <time.h>

/* ---- fields ---------------------------------------------------------------------- */

static void
set_field(nghttp2_nv *f, const char *name, size_t name_length, const char *value,
          size_t value_length)
{
    *f = (nghttp2_nv){ (uint8_t *)(uintptr_t)name, (uint8_t *)(uintptr_t)value, name_length,
                       value_length, NGHTTP2_NV_FLAG_NONE };
}
#define SET(f, name, value, length) set_field((f), (name), sizeof(name) - 1, (value), (length))

/* Of a connection, and meaningless here (RFC 9113, 8.2.2). */
static bool
is_hop_field(const char *name)
{
    static const char *const names[] = { "keep-alive", "proxy-connection", "upgrade" };

    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcasecmp(name, names[i]) == 0)
            return true;
    return false;
}

/* libnghttp2 copies them and makes their names small. */
size_t
ht_h2_fields(struct bh_arena *arena, const struct ht_line *lines, nghttp2_nv **fields,
             size_t before)
{
    size_t count = before;

    for (const struct ht_line *l = lines; l != NULL; l = l->next)
        count++;
    *fields = bh_arena_alloc(arena, (count + 1) * sizeof **fields);
    count = before;
    for (const struct ht_line *l = lines; l != NULL; l = l->next)
        if (!is_hop_field(l->name))
            set_field(&(*fields)[count++], l->name, strlen(l->name), l->value,
                      strlen(l->value));
    return count;
}

/* The date, as the kit has it: "Date: Wed, 25 Nov 2026 10:31:07 GMT\r\n". */
static void
set_date(nghttp2_nv *f, struct ht_kit *kit)
{
    enum { BEFORE = sizeof "Date: " - 1, LENGTH = sizeof "Wed, 25 Nov 2026 10:31:07 GMT" - 1 };
    struct timespec now;

    (void)clock_gettime(CLOCK_REALTIME_COARSE, &now);
    ht_kit_set_time(kit, now.tv_sec);
    SET(f, "date", kit->date + BEFORE, LENGTH);
}

/* A reply's head. */
struct head {
    nghttp2_nv *fields;
    size_t      count;
    char        status[4], length[24];
};

static void
make_head(struct ht_call *x, struct head *h, int64_t size)
{
    enum { OURS = 4 };
    int    status = x->pub.status;
    size_t n = 0;

    h->count = ht_h2_fields(x->arena, x->lines, &h->fields, OURS);
    (void)ht_put_number(h->status, (uint64_t)status);
    SET(&h->fields[n++], ":status", h->status, 3);
    set_date(&h->fields[n++], x->kit);
    if (x->type != NULL)
        SET(&h->fields[n++], "content-type", x->type, strlen(x->type));
    if (size >= 0 && status != 204 && status != 304)
        SET(&h->fields[n++], "content-length", h->length,
            (size_t)(ht_put_number(h->length, (uint64_t)size) - h->length));
    if (n < OURS)
        memmove(&h->fields[n], &h->fields[OURS], (h->count - OURS) * sizeof h->fields[0]);
    h->count -= OURS - n;
}

/* ---- sending --------------------------------------------------------------------- */

/* Why nothing more goes out; 0 if it does. */
static int
lost(const struct h2_stream *st)
{
    return st->error != 0 ? st->error : st->h2->error;
}

/* Hand what st has to libnghttp2: the head if that has not been done, and the news of more data. */
static int
submit(struct h2_stream *st, const struct head *h, bool body)
{
    nghttp2_data_provider data = { { .ptr = st }, ht_h2_read_data };
    nghttp2_session      *session = st->h2->session;

    if (st->submitted)
        return nghttp2_session_resume_data(session, st->id);
    st->submitted = true;
    return nghttp2_submit_response(session, st->id, h->fields, h->count, body ? &data : NULL);
}

/* Returns: 0 once libnghttp2 has all of it, or an error. */
static int
wait_sent(struct ht_call *x, struct h2_stream *st)
{
    int64_t deadline = 0;
    int     rc;

    while ((rc = lost(st)) == 0 && (st->out_left > 0 || (st->whole && !st->end_sent))) {
        if (deadline == 0)
            deadline = bh_now() + x->s->o.write_timeout;
        rc = ht_h2_wait(st, deadline);
        if (rc < 0)
            break;
    }
    st->out_left = 0;
    if (st->h2->out_size >= HT_OUT_SIZE)
        ht_h2_write_some(st->h2);
    if (deadline != 0 || st->h2->out_size >= HT_OUT_SIZE)
        ht_h2_help(st->h2);
    return rc;
}

/* A fault of the handler's memory is to be its own, not that of code that holds the lock. */
static void
touch(const void *data, size_t size)
{
    const volatile char *p = data;

    for (size_t i = 0; i < size; i += 4096)
        (void)p[i];
    if (size > 0)
        (void)p[size - 1];
}

static int
send_head(struct ht_call *x, int64_t size)
{
    struct h2_stream *st = x->stream;

    st->size = size;
    return 0;
}

static int
send_part(struct ht_call *x, const void *data, size_t size)
{
    struct h2_stream *st = x->stream;
    struct ht_h2     *h2 = st->h2;
    struct head       h = { 0 };
    int               rc;

    if (!st->submitted)
        make_head(x, &h, st->size);
    ht_h2_lock(h2);
    BH_DEFER(ht_h2_unlock, h2);
    rc = lost(st);
    if (rc < 0)
        return rc;
    st->out = data;
    st->out_left = size;
    (void)submit(st, &h, true);
    ht_h2_pump(h2);
    return wait_sent(x, st);
}

static int
send_bytes(struct ht_call *x, const void *data, size_t size)
{
    struct h2_stream *st = x->stream;
    const char       *at = data;
    int               rc = 0;

    touch(data, size);
    for (; size > HT_WRITE_SIZE && rc == 0; at += HT_WRITE_SIZE, size -= HT_WRITE_SIZE)
        rc = send_part(x, at, HT_WRITE_SIZE);
    if (rc < 0 || !x->ended || x->filters != NULL)
        return rc < 0 ? rc : send_part(x, at, size);
    st->out = at; /* the end follows at once */
    st->out_left = size;
    return 0;
}

static int
flush(struct ht_call *x)
{
    struct h2_stream *st = x->stream;
    struct ht_h2     *h2 = st->h2;
    int               rc = x->bodyless ? 0 : send_part(x, NULL, 0);

    if (rc < 0)
        return rc;
    ht_h2_lock(h2);
    BH_DEFER(ht_h2_unlock, h2);
    ht_h2_write_some(h2);
    ht_h2_help(h2);
    return lost(st);
}

static int
send_end(struct ht_call *x)
{
    struct h2_stream *st = x->stream;
    struct ht_h2     *h2 = st->h2;
    struct head       h = { 0 };
    bool              body = !x->bodyless && (st->out_left > 0 || x->trailers != NULL);
    int               rc;

    if (!st->submitted)
        make_head(x, &h, st->size);
    if (x->trailers != NULL && !x->bodyless)
        st->reply_trailer_count = ht_h2_fields(x->arena, x->trailers, &st->reply_trailers, 0);
    ht_h2_lock(h2);
    BH_DEFER(ht_h2_unlock, h2);
    rc = lost(st);
    if (rc < 0)
        return rc;
    st->whole = true;
    if (!body && !st->submitted)
        st->end_sent = true; /* with the head */
    (void)submit(st, &h, body);
    ht_h2_pump(h2);
    rc = wait_sent(x, st);
    if (rc < 0)
        return rc;
    x->stream = NULL;
    ht_h2_detach(st);
    return 0;
}

static int
send_interim(struct ht_call *x, int status)
{
    struct h2_stream *st = x->stream;
    struct ht_h2     *h2 = st->h2;
    char              text[4];
    nghttp2_nv        field;

    (void)ht_put_number(text, (uint64_t)status);
    SET(&field, ":status", text, 3);
    ht_h2_lock(h2);
    BH_DEFER(ht_h2_unlock, h2);
    if (lost(st) < 0 || st->submitted)
        return lost(st);
    (void)nghttp2_submit_headers(h2->session, NGHTTP2_FLAG_NONE, st->id, NULL, &field, 1, NULL);
    ht_h2_pump(h2);
    ht_h2_write_some(h2);
    ht_h2_help(h2);
    return lost(st);
}

/* ---- the body of a request ------------------------------------------------------- */

static ssize_t
fail_body(struct ht_call *x, int rc)
{
    return rc == BH_EDEADLINE ? ht_body_fail(x, rc, "too slow")
                              : ht_body_fail(x, rc, "client left");
}

static ssize_t
read_body(struct ht_call *x, void *buffer, size_t size)
{
    struct h2_stream *st = x->stream;
    struct ht_h2     *h2 = st->h2;
    int               rc = 0;

    ht_h2_lock(h2);
    BH_DEFER(ht_h2_unlock, h2);
    while (st->in_start == st->in_end && !st->remote_done) {
        if (rc == 0)
            rc = lost(st);
        if (rc < 0)
            return fail_body(x, rc);
        st->reading = true;
        rc = ht_h2_wait(st, ht_body_deadline(x));
        st->reading = false;
    }
    if (size > st->in_end - st->in_start)
        size = st->in_end - st->in_start;
    if (size > 0) {
        memcpy(buffer, st->in + st->in_start, size);
        st->in_start += size;
        if (h2->error == 0)
            (void)nghttp2_session_consume(h2->session, st->id, size);
    }
    if (st->remote_done && st->in_start == st->in_end) {
        x->body_done = true;
        ht_h2_take_trailers(x, st);
    }
    return (ssize_t)size;
}

/* ---- the client leaves ----------------------------------------------------------- */

static void
watch(struct ht_call *x)
{
    struct h2_stream *st = x->stream;
    int               rc;

    if (st == NULL) /* the reply is out */
        return;
    ht_h2_lock(st->h2);
    st->ctx = x->ctx;
    rc = lost(st);
    ht_h2_unlock(st->h2);
    if (rc < 0)
        ht_client_left(x, rc);
}

static void
interrupt(struct ht_call *x)
{
    struct h2_stream *st = x->stream;

    if (st == NULL)
        return;
    ht_h2_lock(st->h2);
    if (st->reading) {
        st->late = true;
        bh_cond_signal(&st->changed);
    }
    ht_h2_unlock(st->h2);
}

const struct ht_wire ht_http2_wire = {
    .head = send_head,
    .send = send_bytes,
    .flush = flush,
    .end = send_end,
    .interim = send_interim,
    .read = read_body,
    .watch = watch,
    .interrupt = interrupt,
};
