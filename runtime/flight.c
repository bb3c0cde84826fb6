/*
 * flight.c -- the flight recorder: a ring of the newest events for each P.
 *
 * Only the M that owns a P writes its ring, in the runtime, so that an event is a handful of
 * stores and one that publishes them: no lock, no atomic operation.  Readers copy a record,
 * then look whether the writer has come round meanwhile; if so, the copy does not count.
 * They are a race that is meant.
 *
 * A record has the raw cycle counter; the reader turns it into time by two readings, one from
 * when the recorder was started and one of now.  Stacks are return addresses by frame
 * pointers, names are looked up by who reads.
 *
 * Rings are never freed: a writer may be inside.  Stopping takes the pointer out of the P.
 */

#include "flight.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"

enum { DEFAULT_EVENTS = 2048, MAX_EVENTS = 1 << 20, LAST_LOOK = 256, LAST_MOST = 128 };

struct record {
    uint64_t ticks, goroutine, other;
    uint8_t  kind, why, depth;
    union {
        uintptr_t pcs[BH_FLIGHT_DEPTH];
        char      text[BH_FLIGHT_TEXT];
    };
};

struct rt_flight_ring {
    struct rt_p     *p;
    uint32_t         mask;
    _Atomic uint64_t next; /* events ever */
    struct record    record[];
};

enum { OFF, CHANGING, ON }; /* flight.state */

static struct {
    _Atomic int             state;  /* whoever sets CHANGING owns the rest */
    unsigned                events; /* wanted per P */
    struct rt_flight_ring **rings;  /* of each P, once made: later starts use them again */
    uint64_t ticks; /* a reading of the counter, and the time then, at the first start */
    int64_t  ns;
} flight;

/* The counter; with a virtual clock, that. */
static uint64_t
stamp(void)
{
    return rt_unlikely(rt_sched.simulate) ? (uint64_t)rt_now() : rt_ticks();
}

/* ---- writing -------------------------------------------------------------- */

/* The callers of the function whose frame pointer is fp, behind the n that are there. */
static uint8_t
walk(const struct bh_g *g, uintptr_t fp, uintptr_t *pcs, uint8_t n)
{
    uintptr_t hi = (uintptr_t)g->stack->top;

    while (n < BH_FLIGHT_DEPTH && fp < hi && hi - fp >= 2 * sizeof fp && fp % sizeof fp == 0) {
        const uintptr_t *frame = (const uintptr_t *)fp;

        if (frame[1] == 0 || frame[0] <= fp)
            break;
        pcs[n++] = frame[1];
        fp = frame[0];
    }
    return n;
}

static inline struct record *
open_record(struct rt_flight_ring *r)
{
    uint64_t at = atomic_load_explicit(&r->next, memory_order_relaxed);

    return &r->record[at & r->mask];
}

static inline void
publish(struct rt_flight_ring *r)
{
    atomic_store_explicit(&r->next, atomic_load_explicit(&r->next, memory_order_relaxed) + 1,
                          memory_order_release);
    rt_store_fence(); /* before the next record, which overwrites the oldest */
}

RT_PEEK __attribute__((no_sanitize("address"), noinline)) void
rt_flight_put(struct rt_flight_ring *r, enum bh_flight_kind kind, enum rt_why why,
              uint64_t goroutine, uint64_t other)
{
    struct record *rec = open_record(r);
    struct bh_g   *g = rt_g();

    rec->ticks = stamp();
    rec->goroutine = goroutine;
    rec->other = other;
    rec->kind = (uint8_t)kind;
    rec->why = (uint8_t)why;
    rec->depth = 0;
    if (kind != BH_FLIGHT_START && kind != BH_FLIGHT_END && g != NULL && g->stack != NULL)
        rec->depth = walk(g, (uintptr_t)__builtin_frame_address(0), rec->pcs, 0);
    publish(r);
}

RT_PEEK __attribute__((no_sanitize("address"), noinline)) void
rt_flight_put_create(struct rt_flight_ring *r, const struct bh_g *made)
{
    struct record *rec = open_record(r);
    struct bh_g   *g = rt_g();

    rec->ticks = stamp();
    rec->goroutine = made->created_by;
    rec->other = made->id;
    rec->kind = BH_FLIGHT_CREATE;
    rec->why = RT_WHY_NONE;
    rec->pcs[0] = (uintptr_t)made->fn + 1; /* like a return address */
    rec->depth = 1;
    if (g != NULL && g->stack != NULL)
        rec->depth = walk(g, (uintptr_t)__builtin_frame_address(0), rec->pcs, 1);
    publish(r);
}

RT_PEEK static void
put_text(enum bh_flight_kind kind, uint64_t task, const char *text)
{
    size_t                 n = strnlen(text, BH_FLIGHT_TEXT - 1);
    struct rt_m           *m = rt_enter_any();
    struct rt_flight_ring *r;

    if (m == NULL)
        return;
    r = m->p != NULL ? atomic_load_explicit(&m->p->flight, memory_order_acquire) : NULL;
    if (r != NULL) {
        struct record *rec = open_record(r);

        rec->ticks = stamp();
        rec->goroutine = atomic_load_explicit(&m->g->id, memory_order_relaxed);
        rec->other = task;
        rec->kind = (uint8_t)kind;
        rec->why = RT_WHY_NONE;
        rec->depth = 0;
        for (size_t i = 0; i < n; i++)
            rec->text[i] = text[i];
        rec->text[n] = '\0';
        publish(r);
    }
    rt_exit();
}

void
bh_flight_task(uint64_t task, const char *name)
{
    put_text(BH_FLIGHT_TASK, task, name);
}

void
bh_flight_task_end(uint64_t task)
{
    put_text(BH_FLIGHT_TASK_END, task, "");
}

void
bh_flight_region(uint64_t task, const char *name)
{
    put_text(BH_FLIGHT_REGION, task, name);
}

void
bh_flight_region_end(uint64_t task, const char *name)
{
    put_text(BH_FLIGHT_REGION_END, task, name);
}

void
bh_flight_log(uint64_t task, const char *key, const char *value)
{
    char   text[BH_FLIGHT_TEXT];
    size_t end = strnlen(key, sizeof text - 2), size;

    if (!bh_flight_on())
        return;
    memcpy(text, key, end);
    text[end++] = '=';
    size = strnlen(value, sizeof text - 1 - end);
    memcpy(text + end, value, size);
    text[end + size] = '\0';
    put_text(BH_FLIGHT_LOG, task, text);
}

/* ---- on and off ------------------------------------------------------------ */

static struct rt_flight_ring *
ring_new(struct rt_p *p, unsigned events)
{
    unsigned               size = 64;
    struct rt_flight_ring *r;

    while (size < events)
        size *= 2;
    r = calloc(1, sizeof *r + size * sizeof r->record[0]);
    if (r == NULL)
        return NULL;
    r->p = p;
    r->mask = size - 1;
    return r;
}

/* Returns: 0 or -ENOMEM; then nothing is on. */
static int
give_rings(void)
{
    struct rt_flight_ring **rings = flight.rings;

    if (rings == NULL)
        rings = calloc((size_t)rt_sched.proc_count, sizeof(struct rt_flight_ring *));
    if (rings == NULL)
        return -ENOMEM;
    if (flight.ns == 0) {
        flight.ticks = stamp();
        flight.ns = rt_now();
    }
    __atomic_store_n(&flight.rings, rings, __ATOMIC_RELEASE);
    for (int i = 0; i < rt_sched.proc_count; i++) {
        struct rt_flight_ring *r = rings[i];

        if (r == NULL && (r = ring_new(rt_sched.procs[i], flight.events)) == NULL)
            return -ENOMEM;
        __atomic_store_n(&rings[i], r, __ATOMIC_RELEASE);
    }
    for (int i = 0; i < rt_sched.proc_count; i++)
        atomic_store_explicit(&rt_sched.procs[i]->flight, rings[i], memory_order_release);
    return 0;
}

int
bh_flight_start(unsigned events)
{
    int off = OFF, rc = 0;

    if (!atomic_compare_exchange_strong(&flight.state, &off, CHANGING))
        return 0; /* it is on, or somebody is about to start it */
    flight.events = events == 0 ? DEFAULT_EVENTS : events < MAX_EVENTS ? events : MAX_EVENTS;
    if (rt_sched.running)
        rc = give_rings();
    atomic_store(&flight.state, rc == 0 ? ON : OFF);
    return rc;
}

void
rt_flight_init(void)
{
    if (atomic_load(&flight.state) == ON && give_rings() < 0)
        rt_throw("out of memory for the flight recorder");
}

void
bh_flight_stop(void)
{
    int on = ON;

    if (!atomic_compare_exchange_strong(&flight.state, &on, CHANGING))
        return;
    for (int i = 0; rt_sched.running && i < rt_sched.proc_count; i++)
        atomic_store_explicit(&rt_sched.procs[i]->flight, NULL, memory_order_release);
    atomic_store(&flight.state, OFF);
}

bool
bh_flight_on(void)
{
    return rt_sched.running &&
           atomic_load_explicit(&rt_sched.procs[0]->flight, memory_order_relaxed) != NULL;
}

/* ---- reading ---------------------------------------------------------------- */

static struct rt_flight_ring *
ring_of(int proc)
{
    struct rt_flight_ring **rings = __atomic_load_n(&flight.rings, __ATOMIC_ACQUIRE);

    if (rings == NULL || proc < 0 || proc >= rt_sched.proc_count)
        return NULL;
    return __atomic_load_n(&rings[proc], __ATOMIC_ACQUIRE);
}

/* Copy event number `at`.  Returns: false if it has been overwritten. */
RT_PEEK static bool
copy(struct rt_flight_ring *r, uint64_t at, struct record *to)
{
    const volatile uint64_t *from =
        (const volatile uint64_t *)(const void *)&r->record[at & r->mask];
    uint64_t *word = (uint64_t *)(void *)to;

    for (size_t i = 0; i < sizeof *to / sizeof *word; i++)
        word[i] = from[i];
    rt_fence();
    return at + r->mask >= atomic_load_explicit(&r->next, memory_order_acquire);
}

/* How the counter runs, by the start and now. */
struct rate {
    uint64_t ticks;
    int64_t  ns;
    double   ns_per_tick;
};

static struct rate
rate_now(void)
{
    uint64_t ticks = stamp();
    int64_t  ns = rt_now();
    uint64_t passed = ticks - flight.ticks;

    return (struct rate){ ticks, ns,
                          passed > 0 ? (double)(ns - flight.ns) / (double)passed : 1 };
}

static void
tell(const struct record *rec, int proc, const struct rate *rate, struct bh_flight_event *e)
{
    *e = (struct bh_flight_event){
        .ns = rate->ns -
              (int64_t)((double)(int64_t)(rate->ticks - rec->ticks) * rate->ns_per_tick),
        .proc = proc,
        .kind = rec->kind,
        .goroutine = rec->goroutine,
        .other = rec->other,
        .why = "",
    };
    if (rec->kind >= BH_FLIGHT_TASK) {
        memcpy(e->text, rec->text, sizeof e->text);
        e->text[sizeof e->text - 1] = '\0';
        return;
    }
    if (rec->kind == BH_FLIGHT_STOP)
        e->why = rec->why != RT_WHY_NONE ? rt_why_text(rec->why) : "runnable";
    e->depth = rec->depth <= BH_FLIGHT_DEPTH ? rec->depth : 0;
    memcpy(e->pcs, rec->pcs, (size_t)e->depth * sizeof e->pcs[0]);
}

size_t
bh_flight_read(int proc, uint64_t *cursor, struct bh_flight_event *out, size_t max,
               uint64_t *lost)
{
    struct rt_flight_ring *r = ring_of(proc);
    struct rate            rate;
    size_t                 n = 0;
    uint64_t               next;

    if (r == NULL)
        return 0;
    rate = rate_now();
    next = atomic_load_explicit(&r->next, memory_order_acquire);
    while (*cursor < next && n < max) {
        struct record rec;
        uint64_t      oldest = next > r->mask ? next - r->mask : 0;

        if (*cursor < oldest) {
            if (lost != NULL && *cursor > 0)
                *lost += oldest - *cursor;
            *cursor = oldest;
        }
        if (copy(r, *cursor, &rec)) {
            tell(&rec, proc, &rate, &out[n++]);
            ++*cursor;
        } else {
            next = atomic_load_explicit(&r->next, memory_order_acquire);
        }
    }
    return n;
}

/* Where an event lies, for sorting without its bulk. */
struct found {
    uint64_t ticks, at;
    int      proc;
};

/* Does event number `at` concern the goroutine?  Returns: -1 if it has been overwritten. */
RT_PEEK static int
concerns(struct rt_flight_ring *r, uint64_t at, uint64_t goroutine, uint64_t *ticks)
{
    const volatile struct record *rec = &r->record[at & r->mask];
    bool                          own = rec->goroutine == goroutine;
    bool                          other = rec->other == goroutine && rec->kind < BH_FLIGHT_TASK;

    *ticks = rec->ticks;
    rt_fence();
    if (at + r->mask < atomic_load_explicit(&r->next, memory_order_acquire))
        return -1;
    return own || other;
}

/* The newest `max` of a ring into found, which is sorted, newest first.  Returns: how many there are. */
static int
look_back(struct rt_flight_ring *r, uint64_t goroutine, struct found *found, int count, int max)
{
    uint64_t next = atomic_load_explicit(&r->next, memory_order_acquire);
    uint64_t look = r->mask < LAST_LOOK ? r->mask : LAST_LOOK;
    uint64_t end = next > look ? next - look : 0, ticks;

    for (uint64_t at = next; at-- > end;) {
        int yes = concerns(r, at, goroutine, &ticks), i;

        if (yes < 0 || (count == max && ticks <= found[count - 1].ticks))
            break; /* and so are those before it */
        if (yes == 0)
            continue;
        for (i = count < max ? count++ : count - 1; i > 0 && found[i - 1].ticks < ticks; i--)
            found[i] = found[i - 1];
        found[i] = (struct found){ ticks, at, r->p->id };
    }
    return count;
}

int
bh_flight_last(uint64_t goroutine, struct bh_flight_event *out, int max)
{
    struct rate  rate;
    struct found found[LAST_MOST];
    int          count = 0, n = 0;

    if (max > LAST_MOST)
        max = LAST_MOST;
    for (int proc = 0; max > 0 && rt_sched.running && proc < rt_sched.proc_count; proc++)
        if (ring_of(proc) != NULL)
            count = look_back(ring_of(proc), goroutine, found, count, max);
    if (count > 0)
        rate = rate_now();
    while (count-- > 0) {
        struct record rec;

        if (copy(ring_of(found[count].proc), found[count].at, &rec))
            tell(&rec, found[count].proc, &rate, &out[n++]);
    }
    return n;
}
