/*
 * chan.c -- channels: bounded queues between goroutines.
 *
 * A channel is a ring of values and two lists of waiting goroutines.  At any
 * time one of these holds:
 *
 *     idle      count in 0..capacity, nobody waits
 *     starved   count = 0,        receivers wait
 *     full      count = capacity, senders wait
 *     closed    no more sends; receivers drain what is left; nobody waits
 *
 * A sender that finds a receiver waiting copies its value straight to where the
 * receiver wants it, and the reverse: between stacks, never through the ring.
 * The goroutine made ready runs next on this P, so a ping-pong is a switch.
 *
 * c->lock protects every field but refs; a goroutine holds several only in
 * select.c, taken in the order of their addresses.  count, closed and the lists'
 * heads are also read without it, to see that an operation would have to wait.
 *
 * Invariants, checked by rt_chan_check in sanitizer builds and with
 * BH_EXPENSIVE:
 *
 *   I1  a sender and a receiver never wait at the same time, unless both are
 *       cases of one select; stale waiters (waiter.h) do not count
 *   I2  if senders wait, the ring is full; if receivers wait, it is empty
 *   I3  an operation does not touch the channel once the other side can know
 *       of it: whoever learns from a channel that it is not needed any more
 *       may drop its last reference at once
 *
 * After Go's runtime/chan.go.  We differ in having no garbage collector, so
 * channels are reference counted; and in copying values by size, not by type.
 */

#include "chan.h"

#include <errno.h>
#include <stdlib.h>

#include <bulkhead/go/error.h>

enum { CHECK_MOST = 64 }; /* waiters rt_chan_check looks at: it runs at every unlock */

/* ---- life ---------------------------------------------------------------------- */

struct bh_chan *
bh_chan_new(size_t size, size_t capacity)
{
    struct bh_chan *c;
    size_t          bytes;

    if (size > UINT32_MAX || capacity > UINT32_MAX ||
        __builtin_mul_overflow(size, capacity, &bytes) || bytes > PTRDIFF_MAX - 2 * sizeof *c)
        rt_panic_plain("makechan: size out of range");
    /* Not on a cache line of its own: an aligned allocation costs ten times as much. */
    c = malloc(sizeof *c + bytes);
    if (c == NULL)
        rt_panic_runtime("out of memory for a channel");
    memset(c, 0, sizeof *c);
    c->size = (uint32_t)size;
    c->capacity = (uint32_t)capacity;
    atomic_init(&c->refs, 1);
    atomic_init(&c->magic, RT_CHAN_MAGIC);
    return c;
}

struct bh_chan *
bh_chan_ref(struct bh_chan *c)
{
    if (c == NULL)
        return NULL;
    rt_chan_valid(c, "bh_chan_ref", 0);
    atomic_fetch_add_explicit(&c->refs, 1, memory_order_relaxed);
    return c;
}

void
bh_chan_unref(struct bh_chan *c)
{
    if (c == NULL)
        return;
    rt_chan_valid(c, "bh_chan_unref", 0);
    if (atomic_fetch_sub_explicit(&c->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (rt_waiters_first(&c->receivers) != NULL || rt_waiters_first(&c->senders) != NULL) {
        atomic_store_explicit(&c->refs, 1, memory_order_relaxed);
        rt_panic_string("bh_chan_unref: the last reference, while a goroutine waits");
    }
    atomic_store_explicit(&c->magic, 0, memory_order_relaxed);
    free(c);
}

size_t
bh_chan_len(struct bh_chan *c)
{
    return c != NULL ? atomic_load_explicit(&c->count, memory_order_relaxed) : 0;
}

size_t
bh_chan_cap(struct bh_chan *c)
{
    return c != NULL ? c->capacity : 0;
}

noreturn void
rt_chan_misuse(struct bh_chan *c, const char *what, size_t size)
{
    if (atomic_load_explicit(&c->magic, memory_order_relaxed) != RT_CHAN_MAGIC)
        bh_panic("%s: not a channel, or one that has been freed", what);
    bh_panic("%s: a value of %zu bytes on a channel of %u-byte values", what, size, c->size);
}

/* ---- checking ------------------------------------------------------------------ */

static bool
stale(const struct rt_waiter *w)
{
    return w->select && atomic_load_explicit(&w->g->select_done, memory_order_relaxed) != 0;
}

/* The goroutine of a list's live waiters: NULL if none, *many if of several. */
static struct bh_g *
live(const struct bh_waitlist *l, bool *many)
{
    struct bh_g *g = NULL;
    int          seen = 0;

    for (struct rt_waiter *w = rt_waiters_first(l); w != NULL && seen < CHECK_MOST; w = w->next) {
        BH_INVARIANT(w->queued);
        BH_INVARIANT(w->next != NULL ? w->next->prev == w : l->tail == w);
        seen++;
        if (stale(w))
            continue;
        if (g != NULL && g != w->g)
            *many = true;
        g = w->g;
    }
    return g;
}

void
rt_chan_check(struct bh_chan *c)
{
    uint32_t     count = rt_chan_count(c);
    bool         many = false;
    struct bh_g *receiver = live(&c->receivers, &many);
    struct bh_g *sender = live(&c->senders, &many);

    BH_INVARIANT(atomic_load_explicit(&c->magic, memory_order_relaxed) == RT_CHAN_MAGIC);
    BH_INVARIANT(count <= c->capacity);
    BH_INVARIANT(c->capacity == 0 || (c->head + count) % c->capacity == c->tail);
    BH_INVARIANT(receiver == NULL || sender == NULL || (receiver == sender && !many)); /* I1 */
    BH_INVARIANT(sender == NULL || count == c->capacity);                              /* I2 */
    BH_INVARIANT(receiver == NULL || count == 0);
    BH_INVARIANT(!atomic_load_explicit(&c->closed, memory_order_relaxed) ||
                 (receiver == NULL && sender == NULL));
}

static inline void
unlock(struct bh_chan *c)
{
    rt_chan_expensive(c);
    rt_unlock(&c->lock);
}

/* ---- send ---------------------------------------------------------------------- */

/* An operation on a NULL channel that may wait does so for ever. */
static noreturn void
wait_for_ever(const char *what, enum rt_why why)
{
    rt_enter(what);
    for (;;)
        rt_park(NULL, NULL, why);
}

void
bh_chan_send(struct bh_chan *c, const void *value, size_t size)
{
    struct bh_g        *g;
    struct rt_waiter   *peer;
    enum rt_chan_result result;
    struct rt_waiter    w;

    if (rt_unlikely(c == NULL))
        wait_for_ever("bh_chan_send", RT_WHY_CHAN_SEND_NIL);
    rt_chan_valid(c, "bh_chan_send", size);
    rt_probe(value, c->size);

    g = rt_enter("bh_chan_send")->g;
    rt_point();
    rt_lock(&c->lock);
    result = rt_chan_put(c, value, &peer);
    if (rt_likely(result == RT_CHAN_WAIT)) {
        w.g = g;
        w.value = (void *)(uintptr_t)value;
        w.select = false;
        rt_waiters_push(&c->senders, &w);
        rt_chan_expensive(c);
        rt_park_unlock(&c->lock.word, RT_WHY_CHAN_SEND);
        if (rt_unlikely(!w.ok))
            result = RT_CHAN_CLOSED;
    } else {
        unlock(c);
        if (peer != NULL)
            rt_chan_wake(peer);
    }
    rt_exit();
    if (rt_unlikely(result == RT_CHAN_CLOSED))
        rt_panic_plain("send on closed channel");
}

bool
bh_chan_try_send(struct bh_chan *c, const void *value, size_t size)
{
    struct rt_waiter   *peer;
    enum rt_chan_result result = RT_CHAN_WAIT;

    if (c != NULL) {
        rt_chan_valid(c, "bh_chan_try_send", size);
        rt_probe(value, c->size);
    }

    rt_enter("bh_chan_try_send");
    rt_point();
    if (c != NULL && !rt_chan_send_waits(c)) {
        rt_lock(&c->lock);
        result = rt_chan_put(c, value, &peer);
        unlock(c);
        if (peer != NULL)
            rt_chan_wake(peer);
    }
    rt_exit();
    if (rt_unlikely(result == RT_CHAN_CLOSED))
        rt_panic_plain("send on closed channel");
    return result == RT_CHAN_DONE;
}

/* The send of timers and plain threads: whoever calls is no goroutine that will soon park. */
static enum rt_chan_result
offer(struct bh_chan *c, const void *value)
{
    struct rt_waiter   *peer;
    enum rt_chan_result result;

    rt_lock(&c->lock);
    result = rt_chan_put(c, value, &peer);
    unlock(c);
    if (peer != NULL) {
        peer->ok = true;
        peer->g->param = peer;
        rt_ready_tail(peer->g);
    }
    return result;
}

bool
rt_chan_offer(struct bh_chan *c, const void *value)
{
    return offer(c, value) == RT_CHAN_DONE;
}

int
bh_chan_send_from_thread(struct bh_chan *c, const void *value, size_t size)
{
    struct rt_m        *m;
    enum rt_chan_result result;

    if (c == NULL)
        return -EAGAIN;
    rt_chan_valid(c, "bh_chan_send_from_thread", size);
    rt_probe(value, c->size);
    m = rt_enter_any();
    if (m == NULL && atomic_load_explicit(&rt_sched.foreign, memory_order_relaxed) == 0)
        atomic_fetch_add(&rt_sched.foreign, 1);
    result = offer(c, value);
    rt_exit_any(m);
    return result == RT_CHAN_DONE ? 0 : result == RT_CHAN_WAIT ? -EAGAIN : BH_ECLOSED;
}

/* ---- receive ------------------------------------------------------------------- */

bool
bh_chan_recv(struct bh_chan *c, void *value, size_t size)
{
    uint32_t            bytes;
    struct bh_g        *g;
    struct rt_waiter   *peer;
    enum rt_chan_result result;
    struct rt_waiter    w;

    if (rt_unlikely(c == NULL))
        wait_for_ever("bh_chan_recv", RT_WHY_CHAN_RECEIVE_NIL);
    bytes = c->size;
    if (rt_likely(value != NULL)) {
        rt_chan_valid(c, "bh_chan_recv", size);
        rt_probe(value, bytes);
    } else {
        rt_chan_valid(c, "bh_chan_recv", 0);
    }

    g = rt_enter("bh_chan_recv")->g;
    rt_point();
    rt_lock(&c->lock);
    result = rt_chan_get(c, value, &peer);
    if (rt_likely(result == RT_CHAN_WAIT)) {
        w.g = g;
        w.value = value;
        w.select = false;
        rt_waiters_push(&c->receivers, &w);
        rt_chan_expensive(c);
        rt_park_unlock(&c->lock.word, RT_WHY_CHAN_RECEIVE);
        if (rt_unlikely(!w.ok))
            result = RT_CHAN_CLOSED;
    } else {
        unlock(c);
        if (peer != NULL)
            rt_chan_wake(peer);
    }
    rt_exit();
    if (rt_likely(result != RT_CHAN_CLOSED))
        return true;
    if (value != NULL && bytes != 0)
        memset(value, 0, bytes);
    return false;
}

bool
bh_chan_try_recv(struct bh_chan *c, void *value, size_t size, bool *ok)
{
    uint32_t            bytes = 0;
    struct rt_waiter   *peer;
    enum rt_chan_result result = RT_CHAN_WAIT;

    if (c != NULL) {
        bytes = c->size;
        rt_chan_valid(c, "bh_chan_try_recv", value != NULL ? size : 0);
        rt_probe(value, value != NULL ? bytes : 0);
    }

    rt_enter("bh_chan_try_recv");
    rt_point();
    if (c != NULL && !rt_chan_recv_waits(c)) {
        rt_lock(&c->lock);
        result = rt_chan_get(c, value, &peer);
        unlock(c);
        if (peer != NULL)
            rt_chan_wake(peer);
    }
    rt_exit();
    if (result == RT_CHAN_WAIT)
        return false;
    if (ok != NULL)
        *ok = result == RT_CHAN_DONE;
    if (result == RT_CHAN_CLOSED && value != NULL && bytes != 0)
        memset(value, 0, bytes);
    return true;
}

/* ---- close ------------------------------------------------------------------------ */

void
rt_wake_all(struct rt_waiter *chain, bool ok)
{
    bool alone = chain != NULL && chain->next == NULL;

    while (chain != NULL) {
        struct rt_waiter *w = chain;
        struct bh_g      *g = w->g;

        chain = w->next;
        w->ok = ok;
        g->param = w;
        if (alone)
            rt_ready(g);
        else
            rt_ready_tail(g);
    }
}

/* Move a list's live waiters to the end of a chain.  Returns: the chain's new end. */
static struct rt_waiter **
drain(struct bh_waitlist *l, struct rt_waiter **end)
{
    struct rt_waiter *w;

    while ((w = rt_chan_pop(l)) != NULL) {
        *end = w;
        end = &w->next;
    }
    return end;
}

bool
rt_chan_close(struct bh_chan *c)
{
    struct rt_waiter *chain = NULL, **end = &chain;

    rt_lock(&c->lock);
    if (atomic_load_explicit(&c->closed, memory_order_relaxed)) {
        unlock(c);
        return false;
    }
    atomic_store_explicit(&c->closed, 1, memory_order_release);
    end = drain(&c->receivers, end);
    end = drain(&c->senders, end);
    *end = NULL;
    unlock(c);
    rt_wake_all(chain, false);
    return true;
}

void
bh_close(struct bh_chan *c)
{
    bool first;

    if (c == NULL)
        rt_panic_plain("close of nil channel");
    rt_chan_valid(c, "bh_close", 0);
    rt_enter("bh_close");
    rt_point();
    first = rt_chan_close(c);
    rt_exit();
    if (!first)
        rt_panic_plain("close of closed channel");
}
