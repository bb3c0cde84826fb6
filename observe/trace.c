/*
 * trace.c -- a span from its start to its record.
 *
 *     start: parent > ids > sampled? > hop > tag      every span
 *            clock, processors                        recorded ones only
 *     end:   tag back > a panic passes? > record > bh_export_span
 *
 * The parent is, in this order, one in another process, a span that is named, the span
 * that the goroutine's tag names.  A tag says everything a child needs except the
 * tracestate and the baggage, which only named parents hand on.
 *
 * The record is filled in place, in the caller's frame.  Its fixed part always is, its
 * items only if the span is recorded; the name is a pointer until the end.  So a span that is
 * not sampled can still be recorded when a panic leaves it.
 *
 * One clock is read at each end, the monotonic one: durations never shrink.  Unix time is
 * that plus an offset, which is measured again every second, so that it follows the
 * machine's clock when that is set.  A span that is not recorded takes its start from the coarse
 * clock, or from whoever has read the other already.
 *
 * Ids come from a generator per thread (xoroshiro128++, D. Blackman and S. Vigna),
 * seeded from the kernel, and again in the child of a fork.
 */

#include "trace.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/export.h>

#include "hop.h"
#include "sampler.h"

enum { MAX_PROCESSORS = 8 };

static _Atomic uint64_t forced, lost, processor_panics;

/* ---- ids ------------------------------------------------------------------------- */

static _Atomic unsigned forks = 1;

static __thread struct {
    uint64_t s[2];
    unsigned seeded; /* value of `forks` then; 0 never */
} rng __attribute__((tls_model("initial-exec")));

static void
count_fork(void)
{
    atomic_fetch_add(&forks, 1);
}

__attribute__((constructor)) static void
watch_forks(void)
{
    (void)pthread_atfork(NULL, NULL, count_fork);
}

static __attribute__((noinline)) void
seed(void)
{
    struct timespec t;

    if (getrandom(rng.s, sizeof rng.s, GRND_NONBLOCK) != sizeof rng.s) {
        (void)clock_gettime(CLOCK_REALTIME, &t); /* early in a machine's life */
        rng.s[0] = (uint64_t)t.tv_sec << 32 ^ (uint64_t)t.tv_nsec ^ (uint64_t)getpid() << 16;
        rng.s[1] = (uintptr_t)&rng;
    }
    rng.s[1] |= 1; /* not both zero */
    rng.seeded = atomic_load_explicit(&forks, memory_order_relaxed);
}

static inline uint64_t
rotate(uint64_t x, int n)
{
    return x << n | x >> (64 - n);
}

static inline uint64_t
next_random(void)
{
    uint64_t a = rng.s[0], b = rng.s[1], result = rotate(a + b, 17) + a;

    b ^= a;
    rng.s[0] = rotate(a, 49) ^ b ^ b << 21;
    rng.s[1] = rotate(b, 28);
    return result;
}

/* Not inlined: a goroutine that moves between two calls must find the other thread's state. */
__attribute__((noinline)) void
ob_random_ids(unsigned char trace_id[16], unsigned char span_id[8])
{
    uint64_t word;

    if (rng.seeded != atomic_load_explicit(&forks, memory_order_relaxed))
        seed();
    if (trace_id != NULL) {
        word = next_random();
        memcpy(trace_id, &word, 8);
        while ((word = next_random()) == 0)
            continue;
        memcpy(trace_id + 8, &word, 8);
    }
    while ((word = next_random()) == 0)
        continue;
    memcpy(span_id, &word, 8);
}

/* ---- time ------------------------------------------------------------------------ */

static _Atomic int64_t wall_offset, wall_until;

static __attribute__((noinline)) void
measure_offset(int64_t now)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME, &t);
    atomic_store(&wall_offset, (int64_t)t.tv_sec * BH_SECOND + t.tv_nsec - now);
    atomic_store(&wall_until, now + BH_SECOND);
}

int64_t
ob_wall(int64_t now)
{
    if (now >= atomic_load_explicit(&wall_until, memory_order_relaxed))
        measure_offset(bh_now());
    return now + atomic_load_explicit(&wall_offset, memory_order_relaxed);
}

/* ---- start ----------------------------------------------------------------------- */

static inline bool
is_zero(const unsigned char *id, size_t size)
{
    uint64_t word, all = 0;

    for (size_t i = 0; i < size; i += sizeof word) {
        memcpy(&word, id + i, sizeof word);
        all |= word;
    }
    return all == 0;
}

/* Copies what the parent says.  Returns: 1, its trace is recorded; 0, it is not; -1: a root. */
static inline int
take_parent(struct bh_span *s, const struct bh_span_options *o)
{
    struct bh_span_record *r = &s->record;
    const struct bh_tag   *tag = &s->outer;

    r->flags = BH_TRACE_REMOTE_KNOWN;
    s->hop = 0;
    if (o->root) {
        return -1;
    } else if (o->remote != NULL) {
        memcpy(r->trace_id, o->remote->trace_id, sizeof r->trace_id);
        memcpy(r->parent_id, o->remote->span_id, sizeof r->parent_id);
        r->flags |= BH_TRACE_REMOTE | (o->remote->flags & BH_TRACE_RANDOM);
        s->hop = 1;
        return o->remote->flags & BH_TRACE_SAMPLED;
    } else if (o->parent != NULL) {
        memcpy(r->trace_id, o->parent->record.trace_id, sizeof r->trace_id);
        memcpy(r->parent_id, o->parent->record.span_id, sizeof r->parent_id);
        r->flags |= o->parent->record.flags & BH_TRACE_RANDOM;
        s->state = s->state != NULL ? s->state : o->parent->state;
        s->baggage = s->baggage != NULL ? s->baggage : o->parent->baggage;
        s->hop = o->parent->hop;
        return o->parent->sampled;
    } else if (!is_zero(tag->trace_id, sizeof tag->trace_id)) {
        memcpy(r->trace_id, tag->trace_id, sizeof r->trace_id);
        memcpy(r->parent_id, tag->span_id, sizeof r->parent_id);
        r->flags |= tag->random ? BH_TRACE_RANDOM : 0;
        s->hop = tag->hop;
        return tag->sampled != 0;
    }
    return -1;
}

static inline void
set_tag(struct bh_span *s, const struct bh_span_options *o)
{
    struct bh_tag tag = {
        .sampled = s->sampled,
        .random = (s->record.flags & BH_TRACE_RANDOM) != 0,
        .hop = s->hop,
        .route = o->route != NULL ? o->route : s->outer.route,
        .method = o->method != NULL ? o->method : s->outer.method,
    };

    memcpy(tag.trace_id, s->record.trace_id, sizeof tag.trace_id);
    memcpy(tag.span_id, s->record.span_id, sizeof tag.span_id);
    bh_tag_set(&tag);
}

void
bh_span_start(struct bh_span *span, const char *name, const struct bh_span_options *options)
{
    static const struct bh_span_options none;
    const struct bh_span_options       *o = options != NULL ? options : &none;
    const struct bh_panic              *panic = bh_panicking();
    struct bh_span_record              *r = &span->record;
    int                                 parent;

    bh_tag_get(&span->outer);
    span->name = name;
    span->state = o->state;
    span->baggage = o->baggage;
    span->panic = panic != NULL ? panic->serial : 0;
    span->ended = span->colored = false;
    memset(r, 0, offsetof(struct bh_span_record, items));
    r->kind = (uint8_t)(o->kind != 0 ? o->kind : BH_SPAN_INTERNAL);

    parent = take_parent(span, o);
    ob_random_ids(parent < 0 ? r->trace_id : NULL, r->span_id);
    if (parent < 0)
        r->flags |= BH_TRACE_RANDOM;
    span->sampled = span->recording = ob_sample(o->sampler, r->trace_id, parent);
    if (span->sampled)
        r->flags |= BH_TRACE_SAMPLED;
    if (o->started != 0)
        span->started = o->started;
    else
        span->started = span->recording ? bh_now() : bh_now_coarse();
    if (o->remote != NULL && o->state != NULL)
        ob_hop_arrive(span);
    span->tagged = !o->detached;
    if (span->tagged)
        set_tag(span, o);
    if (span->recording)
        ob_processors_run(span, false);
}

/* ---- what it is told ------------------------------------------------------------- */

void
ob_put(struct bh_span *span, const struct bh_item *item)
{
    struct bh_span_record *r = &span->record;

    if (!span->recording || span->ended)
        return;
    if (r->item_count < BH_ITEMS && bh_item_put(r->items, sizeof r->items, &r->used, item)) {
        r->item_count++;
        return;
    }
    if (item->role == BH_ITEM_EVENT)
        r->lost_events++;
    else if (item->role == BH_ITEM_LINK)
        r->lost_links++;
    else
        r->lost_attributes++;
    atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
}

static void
put_text(struct bh_span *span, enum bh_item_role role, const char *key, const char *value,
         size_t size)
{
    if (value == NULL || !span->recording || span->ended)
        return;
    ob_put(span, &(struct bh_item){ .role = role,
                                    .key = key,
                                    .key_size = strlen(key),
                                    .value = value,
                                    .value_size = size });
}

void
bh_span_bytes(struct bh_span *span, const char *key, const char *value, size_t size)
{
    put_text(span, BH_ITEM_ATTRIBUTE, key, value, size);
}

void
bh_span_text(struct bh_span *span, const char *key, const char *value)
{
    if (value != NULL && span->recording)
        put_text(span, BH_ITEM_ATTRIBUTE, key, value, strlen(value));
}

void
bh_span_detail(struct bh_span *span, const char *key, const char *value)
{
    if (value != NULL && span->recording)
        put_text(span, BH_ITEM_SUB_ATTRIBUTE, key, value, strlen(value));
}

static void
put_number(struct bh_span *span, const char *key, struct bh_item item)
{
    if (!span->recording)
        return;
    item.role = BH_ITEM_ATTRIBUTE;
    item.key = key;
    item.key_size = strlen(key);
    ob_put(span, &item);
}

void
bh_span_int(struct bh_span *span, const char *key, int64_t value)
{
    put_number(span, key, (struct bh_item){ .type = BH_ITEM_INT, .number = value });
}

void
bh_span_double(struct bh_span *span, const char *key, double value)
{
    put_number(span, key, (struct bh_item){ .type = BH_ITEM_DOUBLE, .real = value });
}

void
bh_span_bool(struct bh_span *span, const char *key, bool value)
{
    put_number(span, key, (struct bh_item){ .type = BH_ITEM_BOOL, .number = value });
}

void
bh_span_name(struct bh_span *span, const char *name)
{
    if (!span->ended)
        span->name = name;
}

void
bh_span_status(struct bh_span *span, enum bh_span_status status, const char *text)
{
    if (span->record.status == BH_SPAN_OK || span->ended)
        return;
    span->record.status = (uint8_t)status;
    if (status == BH_SPAN_ERROR && text != NULL)
        put_text(span, BH_ITEM_STATUS_TEXT, "", text, strlen(text));
}

void
bh_span_event(struct bh_span *span, const char *name)
{
    if (!span->recording)
        return;
    ob_put(span, &(struct bh_item){ .role = BH_ITEM_EVENT,
                                    .key = name,
                                    .key_size = strlen(name),
                                    .number = ob_wall(bh_now()) });
}

void
bh_span_link(struct bh_span *span, const struct bh_trace_context *to, const char *state)
{
    char   value[24 + BH_TRACESTATE_SIZE];
    size_t size = state != NULL ? strnlen(state, BH_TRACESTATE_SIZE - 1) : 0;

    if (!span->recording)
        return;
    memcpy(value, to->trace_id, 16);
    memcpy(value + 16, to->span_id, 8);
    if (size > 0)
        memcpy(value + 24, state, size);
    ob_put(span,
           &(struct bh_item){ .role = BH_ITEM_LINK,
                              .value = value,
                              .value_size = 24 + size,
                              .number = to->flags | BH_TRACE_REMOTE_KNOWN | BH_TRACE_REMOTE });
}

void
bh_span_panicked(struct bh_span *span, const char *kind, const char *text)
{
    struct bh_span_record *r = &span->record;

    if (span->ended || r->urgent)
        return;
    if (!span->recording) {
        span->recording = true;
        atomic_fetch_add_explicit(&forced, 1, memory_order_relaxed);
    }
    r->urgent = 1;
    r->flags |= BH_TRACE_SAMPLED;
    r->status = BH_SPAN_ERROR;
    bh_span_text(span, "error.type", kind);
    if (text != NULL)
        put_text(span, BH_ITEM_STATUS_TEXT, "", text, strnlen(text, 128));
}

/* ---- end ------------------------------------------------------------------------- */

/* The tag is ours unless the span ends elsewhere, or out of order. */
static inline void
restore_tag(const struct bh_span *s)
{
    const struct bh_tag *tag = bh_tag_peek();

    if (tag == NULL || memcmp(tag->span_id, s->record.span_id, sizeof tag->span_id) != 0)
        return;
    bool none = is_zero(s->outer.trace_id, sizeof s->outer.trace_id) &&
                s->outer.route == NULL && s->outer.method == NULL;
    bh_tag_set(none ? NULL : &s->outer);
}

static void
finish(struct bh_span *span)
{
    struct bh_span_record *r = &span->record;
    int64_t                now = bh_now();

    ob_processors_run(span, true);
    r->start_ns = ob_wall(span->started);
    r->end_ns = r->start_ns + (now > span->started ? now - span->started : 0);
    if (span->name != NULL)
        put_text(span, BH_ITEM_NAME, "", span->name, strlen(span->name));
    if (span->state != NULL && span->state[0] != '\0')
        put_text(span, BH_ITEM_STATE, "", span->state, strlen(span->state));
    bh_export_span(r);
}

void
bh_span_end(struct bh_span *span)
{
    const struct bh_panic *panic = bh_panicking();

    if (span->ended)
        return;
    if (panic != NULL && panic->serial != span->panic)
        bh_span_panicked(span, panic->kind->name, panic->text);
    if (span->tagged)
        restore_tag(span);
    if (span->recording)
        finish(span);
    span->ended = true;
    span->recording = false;
}

/* ---- looking --------------------------------------------------------------------- */

void
bh_span_context(const struct bh_span *span, struct bh_trace_context *context)
{
    memcpy(context->trace_id, span->record.trace_id, sizeof context->trace_id);
    memcpy(context->span_id, span->record.span_id, sizeof context->span_id);
    context->flags = (uint8_t)((span->record.flags & BH_TRACE_RANDOM) |
                               (span->sampled ? BH_TRACE_SAMPLED : 0));
}

bool
bh_trace_current(struct bh_trace_context *context)
{
    const struct bh_tag *tag = bh_tag_peek();

    if (tag == NULL || is_zero(tag->trace_id, sizeof tag->trace_id))
        return false;
    memcpy(context->trace_id, tag->trace_id, sizeof context->trace_id);
    memcpy(context->span_id, tag->span_id, sizeof context->span_id);
    context->flags =
        (uint8_t)((tag->sampled ? BH_TRACE_SAMPLED : 0) | (tag->random ? BH_TRACE_RANDOM : 0));
    return true;
}

void
bh_trace_stats_read(struct bh_trace_stats *stats)
{
    stats->forced = atomic_load_explicit(&forced, memory_order_relaxed);
    stats->lost = atomic_load_explicit(&lost, memory_order_relaxed);
    stats->processor_panics = atomic_load_explicit(&processor_panics, memory_order_relaxed);
}

/* ---- processors ------------------------------------------------------------------ */

/* Filled from the front, under the lock; `count` says how many may be called. */
static struct {
    pthread_mutex_t          lock;
    _Atomic unsigned         count;
    struct bh_span_processor list[MAX_PROCESSORS];
} processors = { .lock = PTHREAD_MUTEX_INITIALIZER };

int
bh_trace_process(const struct bh_span_processor *processor)
{
    struct bh_span_processor copy = *processor; /* a bad pointer faults before the lock */
    int                      rc = -ENOSPC;

    pthread_mutex_lock(&processors.lock);
    unsigned count = atomic_load(&processors.count);
    if (count < MAX_PROCESSORS) {
        processors.list[count] = copy;
        atomic_store(&processors.count, count + 1);
        rc = 0;
    }
    pthread_mutex_unlock(&processors.lock);
    return rc;
}

static void
run_one(const struct bh_span_processor *p, struct bh_span *span, bool ended)
{
    void (*fn)(struct bh_span *, void *) = ended ? p->ended : p->started;

    if (fn != NULL)
        fn(span, p->arg);
}

static void
run_guarded(const struct bh_span_processor *p, struct bh_span *span, bool ended)
{
    BH_RECOVER(panic) {
        atomic_fetch_add_explicit(&processor_panics, 1, memory_order_relaxed);
        return;
    }
    run_one(p, span, ended);
}

void
ob_processors_run(struct bh_span *span, bool ended)
{
    unsigned count = atomic_load_explicit(&processors.count, memory_order_acquire);

    for (unsigned i = 0; i < count; i++)
        if (bh_self() != NULL)
            run_guarded(&processors.list[i], span, ended);
        else
            run_one(&processors.list[i], span, ended); /* plain threads have no panics */
}
