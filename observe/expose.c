/*
 * expose.c -- all metrics as text: Prometheus's format 0.0.4, or OpenMetrics 1.0.
 *
 *     0.0.4                                   OpenMetrics
 *     # HELP shop_orders_total Orders.        # HELP shop_orders Orders.
 *     # TYPE shop_orders_total counter        # TYPE shop_orders counter
 *     shop_orders_total 7                     shop_orders_total 7 # {trace_id="..."} 1 1795563254.123
 *                                             # EOF
 *
 * Exponential histograms are shown with the bounds that are powers of two: the fine ones are
 * for OTLP.  OpenMetrics has exemplars and units, and writes a whole bound as "1.0".  Samples
 * "_created" are left out: Prometheus makes a series of each, twice the number for nothing.
 *
 * Numbers are written the same in every locale.  The text is made in memory, as a scraper that
 * is slow must see one moment, and its length.
 */

#include "series.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>

#define ZLIB_CONST
#include <zlib.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>

struct text {
    char                        *data;
    size_t                       size, room;
    bool                         failed; /* for want of memory */
    bool                         openmetrics;
    const struct bh_metric_info *last;
};

/* ---- bytes ----------------------------------------------------------------------- */

static bool
has_room(struct text *t, size_t more)
{
    size_t room = t->room;
    char  *data;

    if (t->room - t->size >= more)
        return true;
    while (room - t->size < more)
        room = room * 2 + 4096;
    data = realloc(t->data, room);
    if (data == NULL) {
        t->failed = true;
        return false;
    }
    t->data = data;
    t->room = room;
    return true;
}

static void
put_bytes(struct text *t, const char *bytes, size_t size)
{
    if (!has_room(t, size))
        return;
    memcpy(t->data + t->size, bytes, size);
    t->size += size;
}

static void
put(struct text *t, const char *words)
{
    put_bytes(t, words, strlen(words));
}

/* Backslashes and line ends are escaped, and quotes where they would end the text. */
static void
put_escaped(struct text *t, const char *value, bool quotes)
{
    if (!has_room(t, 2 * strlen(value)))
        return;
    for (; *value != '\0'; value++) {
        bool escape = *value == '\\' || *value == '\n' || (quotes && *value == '"');

        if (escape)
            t->data[t->size++] = '\\';
        t->data[t->size++] = *value == '\n' ? 'n' : *value;
    }
}

static void
put_integer(struct text *t, int64_t n)
{
    char digits[32];

    put_bytes(t, digits, (size_t)snprintf(digits, sizeof digits, "%lld", (long long)n));
}

/* The shortest of two lengths that reads back the same; a locale's decimal sign becomes a point. */
static void
put_double(struct text *t, double d)
{
    char digits[64], *to = digits;

    if (d != d || __builtin_isinf(d)) {
        put(t, d != d ? "NaN" : d > 0 ? "+Inf" : "-Inf");
        return;
    }
    (void)snprintf(digits, sizeof digits, "%.15g", d);
    if (strtod(digits, NULL) != d)
        (void)snprintf(digits, sizeof digits, "%.17g", d);
    for (const char *from = digits; *from != '\0'; from++) {
        if (strchr("0123456789+-e", *from) != NULL)
            *to++ = *from;
        else if (to == digits || to[-1] != '.')
            *to++ = '.';
    }
    put_bytes(t, digits, (size_t)(to - digits));
}

static void
put_bound(struct text *t, double bound)
{
    size_t start = t->size;

    put_double(t, bound);
    if (!t->openmetrics || t->failed)
        return;
    for (size_t i = start; i < t->size; i++) {
        if (strchr(".ef", t->data[i]) != NULL) /* a fraction, an exponent, "+Inf" */
            return;
    }
    put(t, ".0");
}

static void
put_hex(struct text *t, const unsigned char *bytes, size_t size)
{
    static const char digit[] = "0123456789abcdef";

    if (!has_room(t, 2 * size))
        return;
    for (size_t i = 0; i < size; i++) {
        t->data[t->size++] = digit[bytes[i] >> 4];
        t->data[t->size++] = digit[bytes[i] & 15];
    }
}

/* ---- samples --------------------------------------------------------------------- */

static void
put_head(struct text *t, const struct bh_metric_info *m)
{
    static const char *const types[] = { "counter", "gauge", "gauge", "histogram" };
    const char              *end = m->kind == BH_COUNTER && !t->openmetrics ? "_total" : "";

    put(t, "# HELP ");
    put(t, m->prometheus);
    put(t, end);
    put(t, " ");
    put_escaped(t, m->help, t->openmetrics);
    put(t, "\n# TYPE ");
    put(t, m->prometheus);
    put(t, end);
    put(t, " ");
    put(t, types[m->kind]);
    if (t->openmetrics && m->prometheus_unit[0] != '\0') {
        put(t, "\n# UNIT ");
        put(t, m->prometheus);
        put(t, " ");
        put(t, m->prometheus_unit);
    }
    put(t, "\n");
}

static void
put_label(struct text *t, char *mark, const char *name, const char *value)
{
    put_bytes(t, mark, 1);
    *mark = ',';
    put(t, name);
    put(t, "=\"");
    put_escaped(t, value, true);
    put(t, "\"");
}

/* "name_end{labels,le="bound"} ".  bound: NULL for none. */
static void
put_name(struct text *t, const struct bh_metric_info *m, const struct bh_metric_point *p,
         const char *end, const double *bound)
{
    char mark = '{';

    put(t, m->prometheus);
    put(t, end);
    if (p->values == NULL)
        put_label(t, &mark, "otel_metric_overflow", "true");
    for (int i = 0; p->values != NULL && i < m->label_count; i++)
        put_label(t, &mark, m->prometheus_labels[i], p->values[i]);
    if (bound != NULL) {
        put_bytes(t, &mark, 1);
        mark = ',';
        put(t, "le=\"");
        put_bound(t, *bound);
        put(t, "\"");
    }
    put(t, mark == ',' ? "} " : " ");
}

/* The end of a sample's line, with its exemplar.  index: which one. */
static void
put_end(struct text *t, const struct bh_metric_point *p, int index)
{
    const struct bh_exemplar *x =
        index < p->exemplar_count ? &p->exemplar[index] : &(struct bh_exemplar){ .time_ns = 0 };
    char time[32];

    if (t->openmetrics && x->time_ns != 0) {
        put(t, " # {trace_id=\"");
        put_hex(t, x->trace_id, sizeof x->trace_id);
        put(t, "\",span_id=\"");
        put_hex(t, x->span_id, sizeof x->span_id);
        put(t, "\"} ");
        put_double(t, x->value);
        (void)snprintf(time, sizeof time, " %lld.%03d", (long long)(x->time_ns / 1000000000),
                       (int)(x->time_ns % 1000000000 / 1000000));
        put(t, time);
    }
    put(t, "\n");
}

static void
put_bucket(struct text *t, const struct bh_metric_info *m, const struct bh_metric_point *p,
           double bound, uint64_t count, int index)
{
    put_name(t, m, p, "_bucket", &bound);
    put_integer(t, (int64_t)count);
    put_end(t, p, index);
}

static void
put_histogram(struct text *t, const struct bh_metric_info *m, const struct bh_metric_point *p)
{
    int      step = ob_text_step(m), shown = 0;
    uint64_t count = 0;

    for (int i = 0; i < m->bound_count; i++) {
        count += p->buckets[i];
        if (i % step == 0)
            put_bucket(t, m, p, m->bounds[i], count, shown++);
    }
    put_bucket(t, m, p, __builtin_inf(), p->count, shown);
    put_name(t, m, p, "_sum", NULL);
    put_double(t, p->sum);
    put(t, "\n");
    put_name(t, m, p, "_count", NULL);
    put_integer(t, (int64_t)p->count);
    put(t, "\n");
}

static bool
visit(const struct bh_metric_info *m, const struct bh_metric_point *p, void *arg)
{
    struct text *t = arg;

    if (m != t->last)
        put_head(t, m);
    t->last = m;
    if (m->kind == BH_HISTOGRAM) {
        put_histogram(t, m, p);
    } else {
        put_name(t, m, p, m->kind == BH_COUNTER ? "_total" : "", NULL);
        if (p->whole)
            put_integer(t, p->integer);
        else
            put_double(t, p->value);
        put_end(t, p, m->kind == BH_COUNTER ? 0 : p->exemplar_count);
    }
    return !t->failed;
}

int
bh_metric_text(bool openmetrics, char **text, size_t *size)
{
    struct text t = { .openmetrics = openmetrics };

    t.failed = bh_metric_each(visit, &t) != 0;
    if (openmetrics)
        put(&t, "# EOF\n");
    put_bytes(&t, "", 1);
    if (t.failed) {
        free(t.data);
        return bh_fail(-ENOMEM, "metrics: no memory for the text");
    }
    *text = t.data;
    *size = t.size - 1;
    return 0;
}

/* ---- the page -------------------------------------------------------------------- */

/* The thousandths of a ";q=0.75" among the parameters from at to end; 1000 without. */
static int
quality(const char *at, const char *end)
{
    int q = 0, unit = 100;

    while (at != NULL && at < end) {
        at += 1 + strspn(at + 1, " \t");
        if (strncasecmp(at, "q=", 2) == 0)
            break;
        at = memchr(at, ';', (size_t)(end - at));
    }
    if (at == NULL || at >= end || at[2] != '0')
        return 1000;
    for (at += at[3] == '.' ? 4 : 3; at < end && *at >= '0' && *at <= '9'; at++, unit /= 10)
        q += (*at - '0') * unit;
    return q;
}

/* How much a field of preferences wants something, in thousandths; -1 if it is not named. */
static int
wanted(const char *list, const char *what)
{
    size_t size = strlen(what);
    int    best = -1;

    for (const char *at = list, *end; at != NULL && *at != '\0'; at = end + (*end == ',')) {
        at += strspn(at, " \t");
        end = at + strcspn(at, ",");
        if (strcspn(at, " \t;,") == size && strncasecmp(at, what, size) == 0) {
            int q = quality(memchr(at, ';', (size_t)(end - at)), end);

            best = q > best ? q : best;
        }
    }
    return best;
}

struct packed {
    unsigned char *data;
    size_t         size;
};

static int
pack(const char *text, size_t size, struct packed *out)
{
    z_stream z = { .next_in = (const unsigned char *)text, .avail_in = (unsigned)size };
    size_t   room;
    int      rc;

    if (size > UINT32_MAX / 2 ||
        deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        return -ENOMEM;
    room = deflateBound(&z, size);
    out->data = malloc(room);
    z.next_out = out->data;
    z.avail_out = (unsigned)room;
    rc = out->data != NULL ? deflate(&z, Z_FINISH) : Z_MEM_ERROR;
    out->size = room - z.avail_out;
    (void)deflateEnd(&z);
    return rc == Z_STREAM_END ? 0 : -ENOMEM;
}

static int
send_body(struct bh_http_call *c, const char *type, const void *data, size_t size)
{
    bh_http_start(c, 200, type, (int64_t)size);
    return bh_http_write(c, data, size);
}

int
bh_http_metrics_page(struct bh_http_call *c, void *arg)
{
    const char   *accept = bh_http_header(c, "Accept");
    int           om = wanted(accept, "application/openmetrics-text");
    bool          openmetrics = om > 0 && om >= wanted(accept, "text/plain");
    const char   *type = openmetrics
                             ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                             : "text/plain; version=0.0.4; charset=utf-8";
    struct packed packed = { .size = 0 };
    char         *text = NULL;
    size_t        size = 0;
    int           rc = bh_metric_text(openmetrics, &text, &size);

    (void)arg;
    if (rc != 0)
        return rc;
    BH_DEFER(free, text);
    (void)bh_http_set_header(c, "Vary", "Accept, Accept-Encoding");
    if (wanted(bh_http_header(c, "Accept-Encoding"), "gzip") <= 0 ||
        pack(text, size, &packed) != 0) {
        free(packed.data);
        return send_body(c, type, text, size);
    }
    BH_DEFER(free, packed.data);
    (void)bh_http_set_header(c, "Content-Encoding", "gzip");
    return send_body(c, type, packed.data, packed.size);
}
