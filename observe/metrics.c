/*
 * metrics.c -- the registry: metrics by name, series by the values of their labels.
 *
 * Three kinds of list, all appended to by compare-and-swap on the last link, NULL: the
 * metrics, the series of a metric, and the series of a hash chain.  Who wants to add walks to
 * the end, comparing on the way; if somebody was faster at the end, the walk goes on with
 * what they added.  So a name, or a combination of values, cannot be there twice.  A series
 * is first put on its chain, which makes it the one, then on its metric's list, which shows
 * it to readers.
 *
 * All memory is had before anything is linked; what was for nothing is freed (its cells are
 * lost, which takes two threads that meet a new combination at the same moment).
 *
 * The number of series of a metric is limited: labels made from what clients send would fill
 * the memory.  Beyond the limit all share one series, marked as OpenTelemetry does it.
 */

#include "series.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#include <bulkhead/go/error.h>

enum { MAX_METRICS = 2000, MAX_CHAINS = 1024 };

static _Atomic(struct bh_metric *) metrics;

struct bh_metric *
ob_metric_first(void)
{
    return atomic_load_explicit(&metrics, memory_order_acquire);
}

int64_t
ob_unix_ns(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- series ---------------------------------------------------------------------- */

static enum ob_takes
takes(const struct bh_metric *m)
{
    switch (m->info.kind) {
    case BH_COUNTER:
        return m->pulled ? OB_SET_GREATER : OB_ADD;
    case BH_UPDOWN:
        return m->pulled ? OB_SET : OB_ADD_SIGNED;
    case BH_HISTOGRAM:
        return OB_RECORD;
    case BH_GAUGE:
        break;
    }
    return OB_SET;
}

/* A series that nobody sees yet.  values: NULL for that of the overflow.  Returns: NULL, no memory. */
static struct bh_series *
series_new(struct bh_metric *m, const char *const *values, uint64_t hash)
{
    size_t            count = values != NULL ? (size_t)m->info.label_count : 0, bytes = 0;
    struct bh_series *s;
    char             *text;

    for (size_t i = 0; i < count; i++)
        bytes += 3 * strnlen(values[i], BH_METRIC_VALUE) + 1; /* a bad byte becomes three */
    s = calloc(1, sizeof *s + count * sizeof s->values[0] + bytes);
    if (s == NULL)
        return NULL;
    s->takes = takes(m);
    s->exemplars = m->exemplars;
    s->metric = m;
    s->hash = hash;
    s->start_ns = ob_unix_ns();
    text = (char *)&s->values[count];
    for (size_t i = 0; i < count; i++) {
        size_t room = 3 * strnlen(values[i], BH_METRIC_VALUE) + 1;

        s->values[i] = text;
        text +=
            ob_utf8_copy(text, room < BH_METRIC_VALUE ? room : BH_METRIC_VALUE, values[i]) + 1;
    }
    if ((s->takes == OB_ADD || s->takes == OB_ADD_SIGNED || s->takes == OB_RECORD) &&
        !ob_cells_new(s->takes == OB_RECORD ? (unsigned)m->info.bound_count + 2 : 1,
                      &s->cell)) {
        free(s);
        return NULL;
    }
    return s;
}

static void
show(struct bh_metric *m, struct bh_series *s)
{
    _Atomic(struct bh_series *) *at = &m->first;
    struct bh_series            *there = NULL;

    while (!atomic_compare_exchange_strong_explicit(at, &there, s, memory_order_acq_rel,
                                                    memory_order_acquire)) {
        at = &there->next;
        there = NULL;
    }
}

/* The one for what there is no room for; NULL without memory. */
static struct bh_series *
overflow_of(struct bh_metric *m)
{
    struct bh_series *s = atomic_load_explicit(&m->overflow, memory_order_acquire), *made;

    ob_count(&ob_metric_counts.overflowed);
    if (s != NULL || (made = series_new(m, NULL, 0)) == NULL)
        return s;
    if (atomic_compare_exchange_strong_explicit(&m->overflow, &s, made, memory_order_acq_rel,
                                                memory_order_acquire)) {
        show(m, made);
        return made;
    }
    free(made);
    return s;
}

static uint64_t
hash_values(const char *const *values, size_t count)
{
    uint64_t h = UINT64_C(0x9e3779b97f4a7c15);

    for (size_t i = 0; i < count; i++) {
        for (const char *at = values[i]; *at != '\0'; at++)
            h = (h ^ (unsigned char)*at) * UINT64_C(0x100000001b3);
        h = (h ^ 0xff) * UINT64_C(0x100000001b3);
    }
    return h ^ h >> 32;
}

static bool
same_values(const struct bh_series *s, const char *const *values, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (strcmp(s->values[i], values[i]) != 0)
            return false;
    }
    return true;
}

/* Walk on from *at to the series with these values.  Returns: NULL, with *at the chain's end. */
static struct bh_series *
find(_Atomic(struct bh_series *) **at, uint64_t hash, const char *const *values, size_t count)
{
    struct bh_series *s;

    while ((s = atomic_load_explicit(*at, memory_order_acquire)) != NULL) {
        if (s->hash == hash && same_values(s, values, count))
            return s;
        *at = &s->chain;
    }
    return NULL;
}

static bool
is_clean(const char *text)
{
    char copy[BH_METRIC_VALUE];

    (void)ob_utf8_copy(copy, sizeof copy, text);
    return strcmp(copy, text) == 0;
}

/* Add a series at the end of a chain, or find that somebody else has. */
static struct bh_series *
insert(struct bh_metric *m, _Atomic(struct bh_series *) *at, uint64_t hash,
       const char *const *values)
{
    struct bh_series *made, *there = NULL;

    if (atomic_fetch_add_explicit(&m->series_count, 1, memory_order_relaxed) >= m->max_series) {
        (void)atomic_fetch_sub_explicit(&m->series_count, 1, memory_order_relaxed);
        return overflow_of(m);
    }
    made = series_new(m, values, hash);
    if (made == NULL) {
        (void)atomic_fetch_sub_explicit(&m->series_count, 1, memory_order_relaxed);
        ob_count(&ob_metric_counts.lost);
        return NULL;
    }
    while (!atomic_compare_exchange_strong_explicit(at, &there, made, memory_order_acq_rel,
                                                    memory_order_acquire)) {
        there = find(&at, hash, values, (size_t)m->info.label_count);
        if (there == NULL)
            continue;
        (void)atomic_fetch_sub_explicit(&m->series_count, 1, memory_order_relaxed);
        free(made);
        return there;
    }
    show(m, made);
    return made;
}

static struct bh_series *series_of(struct bh_metric *m, const char *const *values, size_t count,
                                   bool clean);

/* Values that are cut or repaired when they are kept: so they are looked for repaired. */
static __attribute__((noinline)) struct bh_series *
series_of_dirty(struct bh_metric *m, const char *const *values, size_t count)
{
    char        copy[BH_METRIC_LABELS][BH_METRIC_VALUE];
    const char *repaired[BH_METRIC_LABELS];

    for (size_t i = 0; i < count; i++) {
        (void)ob_utf8_copy(copy[i], sizeof copy[i], values[i]);
        repaired[i] = copy[i];
    }
    return series_of(m, repaired, count, true);
}

/* clean: the values are kept as they are. */
static struct bh_series *
series_of(struct bh_metric *m, const char *const *values, size_t count, bool clean)
{
    uint64_t                     hash = hash_values(values, count);
    _Atomic(struct bh_series *) *at = &m->chains[hash & m->chain_mask];
    struct bh_series            *s = find(&at, hash, values, count);

    if (s != NULL)
        return s;
    for (size_t i = 0; i < count && !clean; i++) {
        if (!is_clean(values[i]))
            return series_of_dirty(m, values, count);
    }
    return insert(m, at, hash, values);
}

struct bh_series *
bh_metric_series(struct bh_metric *m, const char *const *values, size_t count)
{
    bool usable = m != NULL && count == (size_t)m->info.label_count;

    for (size_t i = 0; usable && i < count; i++)
        usable = values[i] != NULL;
    if (!usable) {
        ob_count(&ob_metric_counts.misused);
        return NULL;
    }
    return series_of(m, values, count, false);
}

/* ---- metrics --------------------------------------------------------------------- */

/* What a metric is made of, put together before there is a metric. */
struct draft {
    struct bh_metric_info info;
    char                  prometheus[OB_NAME_SIZE], unit[OB_NAME_SIZE];
    char                  label[BH_METRIC_LABELS][BH_METRIC_NAME + 1];
    double                bounds[BH_METRIC_BUCKETS];
};

static int
draft_labels(const struct bh_metric_options *o, struct draft *d)
{
    int n = 0, rc;

    for (; o->labels != NULL && o->labels[n] != NULL; n++) {
        if (n == BH_METRIC_LABELS)
            return bh_fail(-ENOSPC, "metric %s: more than %d labels", o->name, n);
        rc = ob_label_name(o->labels[n], d->label[n]);
        if (rc != 0)
            return rc;
        for (int i = 0; i < n; i++) {
            if (strcmp(d->label[i], d->label[n]) == 0)
                return bh_fail(-EINVAL, "metric %s: label \"%s\" twice", o->name, o->labels[n]);
        }
    }
    d->info.label_count = n;
    d->info.labels = o->labels;
    return 0;
}

static int
draft_metric(const struct bh_metric_options *o, struct draft *d)
{
    int rc;

    if (o == NULL || (unsigned)o->kind > BH_HISTOGRAM || (o->pulled && o->kind == BH_HISTOGRAM))
        return bh_fail(-EINVAL, "metric: no such kind");
    rc = ob_metric_name(o, d->prometheus, d->unit);
    if (rc == 0)
        rc = draft_labels(o, d);
    if (rc == 0 && o->kind == BH_HISTOGRAM) {
        rc = ob_buckets(o, &d->info, d->bounds);
        d->info.bound_count = rc;
        rc = rc > 0 ? 0 : rc;
    }
    d->info.name = o->name;
    d->info.prometheus = d->prometheus;
    d->info.help = o->help;
    d->info.unit = o->unit != NULL ? o->unit : "";
    d->info.prometheus_unit = d->unit;
    d->info.kind = o->kind;
    d->info.bounds = d->bounds;
    return rc;
}

static const char *
copy_text(char **at, const char *text)
{
    size_t size = strlen(text) + 1;
    char  *to = *at;

    memcpy(to, text, size);
    *at += size;
    return to;
}

/* Give the metric its own copies.  room: what metric_size says. */
static void
copy_info(struct bh_metric *m, const struct draft *d, void *room)
{
    size_t       n = (size_t)d->info.label_count, bounds = (size_t)d->info.bound_count;
    double      *bound = room;
    const char **name = (const char **)(bound + bounds);
    char        *text = (char *)(name + 2 * n);

    m->info = d->info;
    m->info.bounds = memcpy(bound, d->bounds, bounds * sizeof *bound);
    m->info.labels = name;
    m->info.prometheus_labels = name + n;
    for (size_t i = 0; i < n; i++) {
        name[i] = copy_text(&text, d->info.labels[i]);
        name[n + i] = copy_text(&text, d->label[i]);
    }
    m->info.name = copy_text(&text, d->info.name);
    m->info.prometheus = copy_text(&text, d->prometheus);
    m->info.unit = copy_text(&text, d->info.unit);
    m->info.prometheus_unit = copy_text(&text, d->unit);
    (void)ob_utf8_copy(text, strlen(d->info.help) * 3 + 1, d->info.help);
    m->info.help = text;
}

static size_t
room_for(const struct draft *d)
{
    size_t size = (size_t)d->info.bound_count * sizeof(double) +
                  2 * (size_t)d->info.label_count * sizeof(char *) + strlen(d->info.name) +
                  strlen(d->prometheus) + strlen(d->info.unit) + strlen(d->unit) +
                  3 * strlen(d->info.help) + 5;

    for (int i = 0; i < d->info.label_count; i++)
        size += strlen(d->info.labels[i]) + strlen(d->label[i]) + 2;
    return size;
}

static struct bh_metric *
metric_new(const struct bh_metric_options *o, const struct draft *d)
{
    unsigned          max = o->max_series != 0 ? o->max_series : BH_METRIC_SERIES;
    size_t            chains = 1, head;
    struct bh_metric *m;

    while (d->info.label_count > 0 && chains < max && chains < MAX_CHAINS)
        chains *= 2;
    head = sizeof *m + chains * sizeof m->chains[0];
    m = calloc(1, head + room_for(d));
    if (m == NULL)
        return NULL;
    m->exemplars = o->exemplars || o->kind == BH_HISTOGRAM;
    m->pulled = o->pulled;
    m->max_series = max;
    m->chain_mask = chains - 1;
    copy_info(m, d, (char *)m + head);
    return m;
}

/* Whether the same was meant: to the same name. */
static bool
is_same(const struct bh_metric *m, const struct bh_metric_options *o, const struct draft *d)
{
    const struct bh_metric_info *a = &m->info, *b = &d->info;

    if (strcmp(a->name, b->name) != 0 || a->kind != b->kind || strcmp(a->unit, b->unit) != 0 ||
        m->pulled != o->pulled || a->label_count != b->label_count ||
        a->bound_count != b->bound_count || a->exponential != b->exponential)
        return false;
    for (int i = 0; i < a->label_count; i++) {
        if (strcmp(a->labels[i], b->labels[i]) != 0)
            return false;
    }
    return memcmp(a->bounds, d->bounds, (size_t)a->bound_count * sizeof(double)) == 0;
}

/* Find it, or add it.  *made: what to add, made when it is needed. */
static int
enter(const struct bh_metric_options *o, const struct draft *d, struct bh_metric **made,
      struct bh_metric **found)
{
    _Atomic(struct bh_metric *) *at = &metrics;
    struct bh_metric            *m;
    int                          count = 0;

    for (;; at = &m->next) {
        m = atomic_load_explicit(at, memory_order_acquire);
        if (m == NULL) {
            if (count == MAX_METRICS)
                return bh_fail(-ENOSPC, "metric %s: more than %d metrics", o->name, count);
            if (*made == NULL && (*made = metric_new(o, d)) == NULL)
                return bh_fail(-ENOMEM, "metric %s: no memory", o->name);
            if (atomic_compare_exchange_strong_explicit(at, &m, *made, memory_order_acq_rel,
                                                        memory_order_acquire)) {
                *found = *made;
                return 0;
            }
        }
        count++;
        if (is_same(m, o, d)) {
            *found = m;
            return 0;
        }
        if (ob_metric_names_clash(&m->info, &d->info))
            return bh_fail(-EEXIST, "metric %s: there is a different %s", o->name,
                           m->info.name);
    }
}

int
bh_metric_new(const struct bh_metric_options *o, struct bh_metric **metric)
{
    struct draft     *d = calloc(1, sizeof *d);
    struct bh_metric *made = NULL, *found = NULL;
    int               rc;

    if (d == NULL)
        return bh_fail(-ENOMEM, "metric: no memory");
    rc = draft_metric(o, d);
    if (rc == 0)
        rc = enter(o, d, &made, &found);
    if (made != found)
        free(made);
    free(d);
    if (rc == 0)
        *metric = found;
    return rc;
}

/* ---- without labels -------------------------------------------------------------- */

static int
only_series(const struct bh_metric_options *o, struct bh_series **series)
{
    struct bh_metric *m;
    struct bh_series *s;
    int               rc = bh_metric_new(o, &m);

    if (rc != 0)
        return rc;
    s = bh_metric_series(m, NULL, 0);
    if (s == NULL)
        return bh_fail(-ENOMEM, "metric %s: no memory", o->name);
    *series = s;
    return 0;
}

int
bh_metric_counter(const char *name, const char *help, struct bh_series **series)
{
    return only_series(
        &(struct bh_metric_options){ .name = name, .help = help, .kind = BH_COUNTER }, series);
}

int
bh_metric_updown(const char *name, const char *help, struct bh_series **series)
{
    return only_series(
        &(struct bh_metric_options){ .name = name, .help = help, .kind = BH_UPDOWN }, series);
}

int
bh_metric_gauge(const char *name, const char *help, struct bh_series **series)
{
    return only_series(
        &(struct bh_metric_options){ .name = name, .help = help, .kind = BH_GAUGE }, series);
}

int
bh_metric_histogram(const char *name, const char *help, const char *unit,
                    struct bh_series **series)
{
    return only_series(
        &(struct bh_metric_options){
            .name = name, .help = help, .unit = unit, .kind = BH_HISTOGRAM },
        series);
}
