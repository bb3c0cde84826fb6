/*
 * export_send.c -- one batch on its way: attempts, pauses, the circuit.
 *
 *     2xx                          arrived, but for what a partial success rejects
 *     429, 502, 503, 504,          again: after Retry-After if said, else a pause that doubles,
 *     no connection, broken off    with jitter, so that a fleet does not come back in step
 *     everything else              dropped
 *
 * A batch has one deadline for all of it.  A pause that would end behind it is not begun.
 */

#include "exporter.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include <bulkhead/go/timer.h>

enum { FIRST_PAUSE_MS = 100, MAX_PAUSE_MS = 5000, OPEN_MS = 5000, MAX_OPEN_MS = 60000 };

/* xorshift64*: jitter needs no more. */
static uint64_t
random_below(struct ob_worker *w, uint64_t n)
{
    w->random ^= w->random >> 12;
    w->random ^= w->random << 25;
    w->random ^= w->random >> 27;
    return (w->random * 0x2545f4914f6cdd1d >> 32) % n;
}

/* From half of base * 2^times to all of it, at most max; ms in, ns out. */
static int64_t
growing(struct ob_worker *w, int64_t base, int times, int64_t max)
{
    int64_t ms = base << (times < 10 ? times : 10);

    ms = ms < max ? ms : max;
    return ms * BH_MILLISECOND / 2 +
           (int64_t)random_below(w, (uint64_t)(ms * BH_MILLISECOND / 2));
}

/* ---- the circuit (exporter->lock held) ------------------------------------------- */

bool
ob_circuit_closed(struct ob_circuit *c, int64_t now, int64_t timeout)
{
    if (c->until == 0)
        return true;
    if (now < c->until)
        return false;
    c->until = now + timeout; /* nobody else, until this attempt is through */
    return true;
}

static void
circuit_result(struct ob_worker *w, bool success)
{
    struct ob_exporter *e = w->exporter;
    struct ob_circuit  *c = &e->circuit[w->batch.signal];

    pthread_mutex_lock(&e->lock);
    if (success) {
        *c = (struct ob_circuit){ 0 };
    } else if (++c->failures >= OB_CIRCUIT_FAILURES) {
        c->until = ob_monotonic() + growing(w, OPEN_MS, c->trips++, MAX_OPEN_MS);
        c->tried = true;
    }
    pthread_cond_broadcast(&e->changed);
    pthread_mutex_unlock(&e->lock);
}

/* ---- attempts -------------------------------------------------------------------- */

/* The batch gzipped; level 1, as most of the gain costs least.  Returns: false without memory. */
static bool
pack(struct ob_worker *w, size_t *size)
{
    z_stream z = { 0 };

    if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return false;
    size_t bound = deflateBound(&z, w->batch.size);
    if (bound > w->packed_size) {
        free(w->packed);
        w->packed = malloc(bound);
        w->packed_size = w->packed != NULL ? bound : 0;
    }
    z.next_in = (Bytef *)(uintptr_t)w->batch.data;
    z.avail_in = (uInt)w->batch.size;
    z.next_out = w->packed;
    z.avail_out = (uInt)w->packed_size;
    bool ok = w->packed != NULL && deflate(&z, Z_FINISH) == Z_STREAM_END;
    *size = z.total_out;
    deflateEnd(&z);
    return ok;
}

struct attempt {
    enum { ARRIVED, AGAIN, HOPELESS, STOPPED } result;
    enum bh_export_reason reason;
    int64_t               retry_after; /* ns; -1 */
    uint64_t              rejected;
};

static struct attempt
judge(int rc, const struct ob_post_answer *a, uint64_t count)
{
    struct attempt         t = { .result = AGAIN, .retry_after = -1 };
    struct ob_otlp_partial partial;

    if (rc < 0) {
        t.reason = rc == -ETIMEDOUT ? BH_EXPORT_TIMEOUT : BH_EXPORT_CONNECTION;
        if (rc == -ECANCELED) {
            t.result = STOPPED;
            t.reason = BH_EXPORT_ALREADY_SHUTDOWN;
        }
        return t;
    }
    if (a->status >= 200 && a->status < 300) {
        t.result = ARRIVED;
        if (!a->cut && ob_otlp_read_partial(a->body, a->length, &partial) &&
            partial.rejected > 0)
            t.rejected =
                (uint64_t)partial.rejected < count ? (uint64_t)partial.rejected : count;
        return t;
    }
    t.retry_after = a->retry_after;
    t.reason = BH_EXPORT_UNAVAILABLE;
    if (a->status != 429 && a->status != 502 && a->status != 503 && a->status != 504) {
        t.result = HOPELESS;
        t.reason = BH_EXPORT_REFUSED;
    }
    return t;
}

static struct attempt
make_attempt(struct ob_worker *w, bool packed, const void *data, size_t size, int64_t deadline)
{
    const struct ob_export_signal *g = &w->exporter->config.signal[w->batch.signal];
    struct ob_export_counts       *counts = &ob_export_counts[w->batch.signal];
    struct ob_post_answer          answer;
    int64_t                        begin = ob_monotonic();

    int rc = ob_post_send(&w->post, &g->target, packed ? "gzip" : NULL, data, size, deadline,
                          &answer);
    struct attempt t = judge(rc, &answer, w->batch.count);
    ob_count(&counts->requests, 1);
    ob_count(&counts->bytes, size);
    ob_count(&counts->request_ns, (uint64_t)(ob_monotonic() - begin));
    if (t.result != ARRIVED)
        ob_count(&counts->failures, 1);
    circuit_result(w, t.result == ARRIVED);
    return t;
}

/*
 * After a failure, wait for the next attempt: for the pause, unless a flush is in a hurry, and
 * for the circuit.  Returns: false if that is not before the deadline, or the exporter stops.
 */
static bool
wait_turn(struct ob_worker *w, struct attempt *t, int64_t pause, int64_t deadline)
{
    struct ob_exporter *e = w->exporter;
    struct ob_circuit  *c = &e->circuit[w->batch.signal];
    int64_t             next = ob_monotonic() + pause;
    bool                may = false;

    pthread_mutex_lock(&e->lock);
    for (unsigned hurry = e->hurry; !e->quit;) {
        int64_t now = ob_monotonic();
        if (hurry != e->hurry)
            next = now;
        hurry = e->hurry;
        int64_t when = next > c->until ? next : c->until;
        if (when >= deadline)
            break;
        if (when <= now) {
            may = ob_circuit_closed(c, now, deadline - now);
            break;
        }
        struct timespec at = { .tv_sec = when / BH_SECOND, .tv_nsec = when % BH_SECOND };
        pthread_cond_timedwait(&e->changed, &e->lock, &at);
    }
    if (e->quit)
        *t = (struct attempt){ .result = STOPPED, .reason = BH_EXPORT_ALREADY_SHUTDOWN };
    pthread_mutex_unlock(&e->lock);
    return may && t->result != STOPPED;
}

void
ob_export_send(struct ob_worker *w)
{
    const struct ob_export_signal *g = &w->exporter->config.signal[w->batch.signal];
    struct ob_export_counts       *counts = &ob_export_counts[w->batch.signal];
    int64_t                        deadline = ob_monotonic() + g->timeout;
    const void                    *data = w->batch.data;
    size_t                         size = w->batch.size, packed_size;
    bool                           packed = g->gzip && pack(w, &packed_size);
    struct attempt                 t;

    if (packed) {
        data = w->packed;
        size = packed_size;
    }
    for (int times = 0;; times++) {
        t = make_attempt(w, packed, data, size, deadline);
        if (t.result != AGAIN)
            break;
        int64_t pause = growing(w, FIRST_PAUSE_MS, times, MAX_PAUSE_MS);
        if (t.retry_after > 0) /* not before, and not all of us at that moment */
            pause = t.retry_after + (int64_t)random_below(w, FIRST_PAUSE_MS * BH_MILLISECOND);
        if (!wait_turn(w, &t, pause, deadline))
            break;
    }
    if (t.result == ARRIVED) {
        ob_count(&counts->exported, w->batch.count - t.rejected);
        ob_count(&counts->dropped[BH_EXPORT_REJECTED], t.rejected);
    } else {
        ob_count(&counts->dropped[t.reason], w->batch.count);
    }
}
