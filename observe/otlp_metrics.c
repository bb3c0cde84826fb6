/*
 * otlp_metrics.c -- the registry as a request.  See otlp.h.
 *
 * bh_metric_each hands over series by series, those of a metric after one another.  A metric
 * is begun when its first series comes and closed, name last, when the next metric's does.
 * All is cumulative.
 *
 * Exponential histograms: our first bucket holds everything up to the first bound, so it is the
 * zero bucket, and that bound its threshold.  What is above the last bound is counted in
 * the bucket above it, the nearest one that OTLP can name.
 */

#include "otlp.h"

#include <errno.h>
#include <string.h>

#include <bulkhead/observe/metrics.h>

enum { CUMULATIVE = 2 };

struct writer {
    struct ob_otlp              *o;
    const struct bh_metric_info *info;         /* the one that is open */
    size_t                       metric, data; /* marks */
    int64_t                      time_ns;
};

static void
labels(struct pb *w, uint32_t field, const struct bh_metric_info *info,
       const struct bh_metric_point *p)
{
    if (p->values == NULL) {
        size_t mark = pb_begin(w), value = mark;
        pb_uint_always(w, 2, 1);
        pb_end(w, 2, value);
        pb_string(w, 1, "otel.metric.overflow");
        pb_end(w, field, mark);
        return;
    }
    /* An empty value is none, as to Prometheus. */
    for (int i = info->label_count - 1; i >= 0; i--) {
        if (p->values[i][0] != '\0')
            ob_otlp_attribute(w, field, info->labels[i], strlen(info->labels[i]), p->values[i],
                              strlen(p->values[i]));
    }
}

static void
exemplars(struct pb *w, uint32_t field, const struct bh_metric_point *p)
{
    for (int i = p->exemplar_count - 1; i >= 0; i--) {
        const struct bh_exemplar *e = &p->exemplar[i];
        if (e->time_ns == 0)
            continue;
        size_t mark = pb_begin(w);
        pb_bytes(w, 5, e->trace_id, sizeof e->trace_id);
        pb_bytes(w, 4, e->span_id, sizeof e->span_id);
        pb_double_always(w, 3, e->value);
        pb_fixed64(w, 2, (uint64_t)e->time_ns);
        pb_end(w, field, mark);
    }
}

static void
number(struct writer *m, const struct bh_metric_point *p)
{
    struct pb *w = &m->o->pb;
    size_t     mark = pb_begin(w);

    labels(w, 7, m->info, p);
    if (p->whole)
        pb_fixed64_always(w, 6, (uint64_t)p->integer);
    exemplars(w, 5, p);
    if (!p->whole)
        pb_double_always(w, 4, p->value);
    pb_fixed64(w, 3, (uint64_t)m->time_ns);
    if (m->info->kind != BH_GAUGE)
        pb_fixed64(w, 2, (uint64_t)p->start_ns);
    pb_end(w, 1, mark);
}

static void
explicit_histogram(struct writer *m, const struct bh_metric_point *p)
{
    struct pb *w = &m->o->pb;
    int        bounds = m->info->bound_count;
    size_t     mark = pb_begin(w), packed;

    labels(w, 9, m->info, p);
    exemplars(w, 8, p);
    packed = pb_begin(w);
    for (int i = bounds - 1; i >= 0; i--)
        pb_raw64(w, pb_double_bits(m->info->bounds[i]));
    if (bounds > 0)
        pb_end(w, 7, packed);
    packed = pb_begin(w);
    for (int i = bounds; i >= 0; i--)
        pb_raw64(w, p->buckets[i]);
    pb_end(w, 6, packed);
    pb_double_always(w, 5, p->sum);
    pb_fixed64(w, 4, p->count);
    pb_fixed64(w, 3, (uint64_t)m->time_ns);
    pb_fixed64(w, 2, (uint64_t)p->start_ns);
    pb_end(w, 1, mark);
}

static void
exponential_histogram(struct writer *m, const struct bh_metric_point *p)
{
    const struct bh_metric_info *info = m->info;
    struct pb                   *w = &m->o->pb;
    int                          first = 1, last = info->bound_count;
    size_t                       mark = pb_begin(w);

    while (first <= last && p->buckets[first] == 0)
        first++;
    while (last >= first && p->buckets[last] == 0)
        last--;
    pb_double(w, 14, info->bound_count > 0 ? info->bounds[0] : 0);
    exemplars(w, 11, p);
    if (first <= last) {
        size_t positive = pb_begin(w);
        for (int i = last; i >= first; i--)
            pb_varint(w, p->buckets[i]);
        pb_end(w, 2, positive);
        pb_sint(w, 1, info->offset + first - 1);
        pb_end(w, 8, positive);
    }
    pb_fixed64(w, 7, p->buckets[0]);
    pb_sint(w, 6, info->scale);
    pb_double_always(w, 5, p->sum);
    pb_fixed64(w, 4, p->count);
    pb_fixed64(w, 3, (uint64_t)m->time_ns);
    pb_fixed64(w, 2, (uint64_t)p->start_ns);
    labels(w, 1, info, p);
    pb_end(w, 1, mark);
}

/* Which member of Metric's oneof. */
static uint32_t
member(const struct bh_metric_info *info)
{
    switch (info->kind) {
    case BH_GAUGE:
        return 5;
    case BH_HISTOGRAM:
        return info->exponential ? 10 : 9;
    default:
        return 7;
    }
}

/* What stands behind the points, and so is written first. */
static void
open_metric(struct writer *m, const struct bh_metric_info *info)
{
    struct pb *w = &m->o->pb;

    m->info = info;
    m->metric = m->data = pb_begin(w);
    if (info->kind == BH_COUNTER)
        pb_uint(w, 3, 1); /* is_monotonic */
    if (info->kind != BH_GAUGE)
        pb_uint(w, 2, CUMULATIVE);
}

static void
close_metric(struct writer *m)
{
    struct pb                   *w = &m->o->pb;
    const struct bh_metric_info *info = m->info;

    if (info == NULL)
        return;
    pb_end(w, member(info), m->data);
    ob_otlp_text(w, 3, info->unit, strlen(info->unit), false);
    ob_otlp_text(w, 2, info->help, strlen(info->help), false);
    ob_otlp_text(w, 1, info->name, strlen(info->name), false);
    pb_end(w, 2, m->metric);
    m->info = NULL;
}

static bool
visit(const struct bh_metric_info *info, const struct bh_metric_point *point, void *arg)
{
    struct writer *m = arg;

    if (info != m->info) {
        close_metric(m);
        open_metric(m, info);
    }
    if (info->kind != BH_HISTOGRAM)
        number(m, point);
    else if (info->exponential)
        exponential_histogram(m, point);
    else
        explicit_histogram(m, point);
    m->o->count++;
    return !m->o->pb.overflow;
}

int
ob_otlp_metrics(struct ob_otlp *o, int64_t time_ns)
{
    struct writer m = { .o = o, .time_ns = time_ns };
    int           rc = bh_metric_each(visit, &m);

    close_metric(&m);
    return o->pb.overflow ? -EMSGSIZE : rc;
}
