/*
 * select.c -- carry out exactly one of several channel operations.
 *
 *     peek      which cases look ready, without locks; draw one, lock its
 *               channel alone and try it.  Most selects end here
 *     look      lock every channel, in the order of their addresses: now the
 *               answer is exact.  Draw among the ready; else take the default
 *     wait      still holding all locks, queue a waiter in every channel; park,
 *               which releases them
 *     clean up  whoever woke us has removed its waiter; remove the others, one
 *               lock at a time
 *
 * The first that wants one of our waiters must win g->select_done, so one case
 * runs.  A draw among the ready ones, whatever order they stand in, is what
 * makes the choice uniform.
 *
 * Memory: one waiter and two indexes per case, on our stack for up to 64 cases
 * and from malloc beyond, got before any lock is taken.
 *
 * The moment a channel is unlocked its other side may wake us, and we may run
 * elsewhere while unlock_all still works.  It reads this stack: so it must be
 * done before we return.  It is: we return only after taking the lock of every
 * channel but the one that woke us, and unlock_all reads nothing after its last
 * unlock.
 *
 * After Go's runtime/select.go.  We differ in peeking first and in cleaning up
 * under one lock at a time.
 */

#include "chan.h"

#include <stdlib.h>

enum {
    SMALL = 8,         /* cases on a frame of half a kilobyte */
    MEDIUM = 64,       /* on one of three */
    MOST = 65536,      /* indexes are 16 bits; Go's reflect.Select stops there too */
    INSERTION_MOST = 12, /* sorting fewer than this, insertion beats a heap */
};

struct select {
    struct bh_case   *cases;
    size_t            count;
    struct rt_waiter *waiters; /* one per case */
    uint16_t         *order;   /* cases with a channel, later by its address */
    uint16_t         *ready;
    uint32_t          n;       /* of order */
    int               fallback; /* index of the BH_DEFAULT, or -1 */
    uint32_t          bytes;    /* of the values of the case that ran */
    enum rt_chan_result result;
};

/* ---- the order of locking -------------------------------------------------------- */

static inline struct bh_chan *
chan_at(const struct select *s, uint32_t i)
{
    return s->cases[s->order[i]].chan;
}

static inline bool
before(const struct select *s, uint16_t a, uint16_t b)
{
    return (uintptr_t)s->cases[a].chan < (uintptr_t)s->cases[b].chan;
}

static void
sift_down(struct select *s, uint32_t at, uint32_t n)
{
    uint16_t moving = s->order[at];

    for (uint32_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && before(s, s->order[child], s->order[child + 1]))
            child++;
        if (!before(s, moving, s->order[child]))
            break;
        s->order[at] = s->order[child];
    }
    s->order[at] = moving;
}

/* Sort by channel; in place and O(n log n): there is no memory to ask for. */
static void
sort_order(struct select *s)
{
    if (s->n <= INSERTION_MOST) {
        for (uint32_t i = 1; i < s->n; i++) {
            uint16_t moving = s->order[i];
            uint32_t at = i;

            for (; at > 0 && before(s, moving, s->order[at - 1]); at--)
                s->order[at] = s->order[at - 1];
            s->order[at] = moving;
        }
        return;
    }
    for (uint32_t i = s->n / 2; i-- > 0;)
        sift_down(s, i, s->n);
    for (uint32_t end = s->n; end-- > 1;) {
        uint16_t largest = s->order[0];

        s->order[0] = s->order[end];
        s->order[end] = largest;
        sift_down(s, 0, end);
    }
}

static void
lock_all(struct select *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        if (i == 0 || chan_at(s, i) != chan_at(s, i - 1))
            rt_lock(&chan_at(s, i)->lock);
    }
}

/* See the top: nothing of s may be read after the last unlock. */
static void
unlock_all(struct select *s)
{
    for (uint32_t i = s->n; i-- > 0;) {
        struct bh_chan *c = chan_at(s, i);

        if (i == 0 || chan_at(s, i - 1) != c) {
            rt_chan_expensive(c);
            rt_unlock(&c->lock);
        }
    }
}

static void
unlock_all_parked(struct bh_g *g, void *arg)
{
    (void)g;
    unlock_all(arg);
}

/* ---- one case ----------------------------------------------------------------------- */

static inline bool
looks_ready(const struct bh_case *k)
{
    return k->kind == BH_CASE_SEND ? !rt_chan_send_waits(k->chan) : !rt_chan_recv_waits(k->chan);
}

/* Do it if it need not wait.  Its channel is locked. */
static inline void
attempt(struct select *s, const struct bh_case *k, struct rt_waiter **peer)
{
    s->bytes = k->chan->size;
    s->result = k->kind == BH_CASE_SEND ? rt_chan_put(k->chan, k->value, peer)
                                        : rt_chan_get(k->chan, k->value, peer);
}

/* Cases that look ready, into s->ready. */
static inline uint32_t
collect(struct select *s)
{
    uint32_t n = 0;

    for (uint32_t i = 0; i < s->n; i++) {
        if (looks_ready(&s->cases[s->order[i]]))
            s->ready[n++] = s->order[i];
    }
    return n;
}

/* ---- the steps ------------------------------------------------------------------------ */

/* Returns: the index of the case that ran, or -1. */
static inline int
peek(struct select *s)
{
    uint32_t              n = collect(s);
    struct rt_waiter     *peer;
    const struct bh_case *k;
    int                   at;

    if (n == 0)
        return -1;
    at = s->ready[n > 1 ? rt_random(n) : 0];
    k = &s->cases[at];
    rt_lock(&k->chan->lock);
    attempt(s, k, &peer);
    rt_chan_expensive(k->chan);
    rt_unlock(&k->chan->lock);
    if (peer != NULL)
        rt_chan_wake(peer);
    return s->result != RT_CHAN_WAIT ? at : -1;
}

/* The same with every channel locked; unlocks them if a case ran. */
static int
look(struct select *s)
{
    struct rt_waiter *peer;

    for (uint32_t n = collect(s); n > 0;) {
        uint32_t drawn = n > 1 ? rt_random(n) : 0;
        int      at = s->ready[drawn];

        attempt(s, &s->cases[at], &peer);
        if (s->result != RT_CHAN_WAIT) {
            unlock_all(s);
            if (peer != NULL)
                rt_chan_wake(peer);
            return at;
        }
        /* Its only partner was a select that another channel has won: draw again. */
        s->ready[drawn] = s->ready[--n];
    }
    return -1;
}

static void
queue_all(struct select *s, struct bh_g *g)
{
    atomic_store_explicit(&g->select_done, 0, memory_order_relaxed);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct bh_case *k = &s->cases[s->order[i]];
        struct rt_waiter     *w = &s->waiters[s->order[i]];

        w->g = g;
        w->value = k->value;
        w->bytes = k->chan->size;
        w->select = true;
        rt_waiters_push(k->kind == BH_CASE_SEND ? &k->chan->senders : &k->chan->receivers, w);
    }
}

/*
 * Remove what is still queued.  The channel that woke us is left alone, unless
 * another case waits in it too: it may be gone (chan.c, I3).
 */
static void
clean_up(struct select *s, const struct rt_waiter *winner)
{
    for (uint32_t i = 0, end; i < s->n; i = end) {
        struct bh_chan *c = chan_at(s, i);

        for (end = i + 1; end < s->n && chan_at(s, end) == c; end++)
            ;
        if (end == i + 1 && &s->waiters[s->order[i]] == winner)
            continue;
        rt_lock(&c->lock);
        for (uint32_t j = i; j < end; j++) {
            struct rt_waiter *w = &s->waiters[s->order[j]];
            bool              send = s->cases[s->order[j]].kind == BH_CASE_SEND;

            if (w->queued)
                rt_waiters_remove(send ? &c->senders : &c->receivers, w);
        }
        rt_chan_expensive(c);
        rt_unlock(&c->lock);
    }
}

/* With every channel locked: wait until one of them wakes us. */
static int
wait_for_one(struct select *s, struct bh_g *g)
{
    struct rt_waiter *winner;

    queue_all(s, g);
    rt_park(unlock_all_parked, s, RT_WHY_SELECT);
    winner = g->param;
    s->result = winner->ok ? RT_CHAN_DONE : RT_CHAN_CLOSED;
    s->bytes = winner->bytes;
    clean_up(s, winner);
    return (int)(winner - s->waiters);
}

/* Returns: the index of the case that ran, its outcome in s->result. */
static int
run(struct select *s)
{
    struct bh_g *g;
    int          at;

    for (size_t i = 0; i < s->count; i++) {
        if (s->cases[i].chan != NULL &&
            (s->cases[i].kind == BH_CASE_SEND || s->cases[i].kind == BH_CASE_RECV))
            s->order[s->n++] = (uint16_t)i;
    }
    g = rt_enter("bh_select")->g;
    rt_point();
    at = peek(s);
    if (at < 0) {
        sort_order(s);
        lock_all(s);
        at = look(s);
        if (at < 0 && s->fallback >= 0) {
            unlock_all(s);
            at = s->fallback;
        } else if (at < 0) {
            at = wait_for_one(s, g);
        }
    }
    rt_exit();
    return at;
}

/* ---- memory for it ---------------------------------------------------------------------- */

static __attribute__((noinline)) int
run_small(struct select *s)
{
    struct rt_waiter waiters[SMALL];
    uint16_t         order[SMALL], ready[SMALL];

    s->waiters = waiters;
    s->order = order;
    s->ready = ready;
    return run(s);
}

static __attribute__((noinline)) int
run_medium(struct select *s)
{
    struct rt_waiter waiters[MEDIUM];
    uint16_t         order[MEDIUM], ready[MEDIUM];

    s->waiters = waiters;
    s->order = order;
    s->ready = ready;
    return run(s);
}

static __attribute__((noinline)) int
run_large(struct select *s)
{
    int at;

    s->waiters = malloc(s->count * (sizeof *s->waiters + 2 * sizeof *s->order));
    if (s->waiters == NULL)
        rt_panic_runtime("out of memory for a select");
    s->order = (uint16_t *)(void *)(s->waiters + s->count);
    s->ready = s->order + s->count;
    at = run(s);
    free(s->waiters);
    return at;
}

/* ---- bh_select_n --------------------------------------------------------------------------- */

/* After the runtime is left: what the case that ran gives its caller. */
static inline void
finish(const struct select *s, const struct bh_case *k)
{
    if (k->kind == BH_CASE_RECV) {
        if (s->result == RT_CHAN_CLOSED && k->value != NULL && s->bytes != 0)
            memset(k->value, 0, s->bytes);
        if (k->ok != NULL)
            *k->ok = s->result == RT_CHAN_DONE;
    } else if (s->result == RT_CHAN_CLOSED) {
        rt_panic_plain("send on closed channel");
    }
}

/* Is it sound?  Panics, or faults on its pointer, in the caller's state. */
static inline void
check(const struct bh_case *k)
{
    if (k->chan == NULL)
        return;
    rt_chan_valid(k->chan, "bh_select", k->value != NULL ? k->size : 0);
    if (k->value != NULL || k->kind == BH_CASE_SEND)
        rt_probe(k->value, k->chan->size);
}

/* One operation and perhaps a default: no select at all (as Go compiles it). */
static int
only(struct bh_case *k, int at, int fallback)
{
    bool ok = true, done = true;

    if (k->kind == BH_CASE_SEND) {
        if (fallback >= 0)
            done = bh_chan_try_send(k->chan, k->value, k->size);
        else
            bh_chan_send(k->chan, k->value, k->size);
    } else {
        if (fallback >= 0)
            done = bh_chan_try_recv(k->chan, k->value, k->size, &ok);
        else
            ok = bh_chan_recv(k->chan, k->value, k->size);
        if (done && k->ok != NULL)
            *k->ok = ok;
    }
    return done ? at : fallback;
}

/* No operation: the default, or nothing for ever. */
static int
none(int fallback)
{
    rt_enter("bh_select");
    rt_point();
    while (fallback < 0)
        rt_park(NULL, NULL, RT_WHY_SELECT_NO_CASES);
    rt_exit();
    return fallback;
}

int
bh_select_n(struct bh_case *cases, size_t count)
{
    struct select s = { .cases = cases, .count = count, .fallback = -1 };
    size_t        operations = 0, last = 0;
    int           at;

    if (rt_unlikely(count > MOST))
        rt_panic_string("bh_select: too many cases (at most 65536)");
    for (size_t i = 0; i < count; i++) {
        switch (cases[i].kind) {
        case BH_CASE_NONE:
            break;
        case BH_CASE_DEFAULT:
            if (s.fallback >= 0)
                rt_panic_string("bh_select: two defaults");
            s.fallback = (int)i;
            break;
        default:
            check(&cases[i]);
            operations++;
            last = i;
            break;
        }
    }
    if (operations == 0)
        return none(s.fallback);
    if (operations == 1)
        return only(&cases[last], (int)last, s.fallback);
    at = count <= SMALL ? run_small(&s) : count <= MEDIUM ? run_medium(&s) : run_large(&s);
    if (at != s.fallback)
        finish(&s, &cases[at]);
    return at;
}
