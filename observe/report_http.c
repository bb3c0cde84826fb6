/*
 * report_http.c -- which request a goroutine is in, for the report of a panic.
 *
 * The middleware writes its call into a table by goroutine id, a word and a pointer
 * a request; the hook of a panic on that goroutine finds it there.  Two goroutines
 * may want the same place: then the later one's requests stay unknown, which costs
 * a report its request and nothing else.  A goroutine only reads the place it wrote.
 */

#include "capture.h"

#include <string.h>
#include <strings.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/observe/report.h>

#include "redact.h"

enum { PLACES = 4096 };

static struct place {
    _Atomic uint64_t          goroutine; /* 0: free */
    _Atomic(struct ob_call *) call;
} places[PLACES];

struct ob_call *
ob_call_current(uint64_t goroutine)
{
    struct place *p = &places[goroutine % PLACES];

    if (goroutine == 0 ||
        atomic_load_explicit(&p->goroutine, memory_order_relaxed) != goroutine)
        return NULL;
    return atomic_load_explicit(&p->call, memory_order_relaxed);
}

/* ---- what is noted ------------------------------------------------------------------- */

/* keep -- a text in the request's room.  Returns: its offset; 0 if there is no room. */
static uint16_t
keep(struct ob_request *r, const char *text, size_t most)
{
    size_t n = strnlen(text != NULL ? text : "", most), at = r->used;

    if (n == 0 || at + n + 1 > sizeof r->room)
        return 0;
    memcpy(r->room + at, text, n);
    r->room[at + n] = '\0';
    r->used = (uint16_t)(at + n + 1);
    return (uint16_t)at;
}

void
ob_request_note(struct ob_request *r, struct bh_http_call *c)
{
    const char *name, *value;

    r->room[0] = '\0';
    r->used = 1;
    r->header_count = r->headers_left_out = 0;
    r->id = c->id;
    r->age = bh_now() - c->started;
    r->version = c->version;
    r->status = c->status;
    r->secure = c->secure;
    r->sent = c->sent;
    r->step_count = bh_http_chain(c, r->steps, OB_CHAIN_STEPS, &r->step);
    r->has_tcp = bh_http_tcp(c, &r->tcp) == 0;
    r->method = keep(r, c->method, 32);
    r->path = keep(r, c->path, 256);
    r->host = keep(r, c->host, 128);
    r->route = keep(r, c->route, 128);
    r->peer = keep(r, c->peer, 64);
    for (unsigned i = 0; bh_http_header_at(c, i, &name, &value); i++) {
        uint16_t at = r->header_count;

        if (at == OB_HEADERS || (r->header[at].name = keep(r, name, 64)) == 0) {
            r->headers_left_out++;
            continue;
        }
        r->header[at].value = keep(r, ob_redacted(name) ? "[redacted]" : value, 128);
        r->header_count++;
    }
}

/* ---- the middleware ------------------------------------------------------------------ */

struct watch {
    struct ob_call  call;
    struct place   *place; /* NULL: taken by another */
    uint64_t        outer_goroutine;
    struct ob_call *outer_call;
    int             rc;
};

static void
leave(struct watch *w)
{
    struct bh_http_call *c = w->call.call;

    if (w->place != NULL) {
        atomic_store_explicit(&w->place->call, w->outer_call, memory_order_relaxed);
        atomic_store_explicit(&w->place->goroutine, w->outer_goroutine, memory_order_relaxed);
    }
    if (w->call.serial != 0)
        ob_reply_settle(w->call.serial,
                        &(struct ob_reply_news){ c->status, w->rc, c->sent, c->aborted });
}

/* enter -- take this goroutine's place; a request inside another's (a test's, say) gives it back. */
static void
enter(struct watch *w)
{
    uint64_t      self = bh_id(), owner = 0;
    struct place *p = &places[self % PLACES];

    if (!atomic_compare_exchange_strong_explicit(&p->goroutine, &owner, self,
                                                 memory_order_relaxed, memory_order_relaxed) &&
        owner != self)
        return;
    w->place = p;
    w->outer_goroutine = owner;
    w->outer_call = owner == self ? atomic_load_explicit(&p->call, memory_order_relaxed) : NULL;
    atomic_store_explicit(&p->call, &w->call, memory_order_relaxed);
}

static int
run(struct watch *w)
{
    BH_DEFER(leave, w);
    w->rc = bh_http_next(w->call.call);
    return w->rc;
}

int
bh_http_report(struct bh_http_call *c, void *arg)
{
    struct watch w = { .call = { c, 0 }, .rc = BH_EPANIC };

    (void)arg;
    enter(&w);
    return run(&w);
}
