/*
 * metric_name.c -- names of metrics and labels: which are good, and what Prometheus calls them.
 *
 * After OpenTelemetry's "Prometheus and OpenMetrics Compatibility": what is no letter, digit,
 * "_" or ":" becomes "_", several of them one; the unit, spelled out, is appended unless it
 * is there; a counter's "_total" belongs to its sample, not to its name.
 */

#include "series.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>

#include <bulkhead/go/error.h>

#include "utf8.h"

static const char *const units[][2] = {
    { "s", "seconds" },      { "ms", "milliseconds" }, { "us", "microseconds" },
    { "ns", "nanoseconds" }, { "min", "minutes" },     { "h", "hours" },
    { "d", "days" },         { "By", "bytes" },        { "KiBy", "kibibytes" },
    { "MiBy", "mebibytes" }, { "GiBy", "gibibytes" },  { "Cel", "celsius" },
    { "Hz", "hertz" },       { "%", "percent" },       { "V", "volts" },
    { "W", "watts" },        { "J", "joules" },        { "g", "grams" },
    { "m", "meters" },
};

static bool
ends_with(const char *text, const char *end)
{
    size_t a = strlen(text), b = strlen(end);

    return a >= b && strcmp(text + a - b, end) == 0;
}

/* Letters, digits and single "_"s of text.  Returns: the end. */
static char *
put_plain(char *to, const char *end, const char *text)
{
    char last = '\0';

    for (; *text != '\0' && to < end; text++) {
        char c = isalnum((unsigned char)*text) ? *text : '_';

        if (c != '_' || last != '_')
            *to++ = c;
        last = c;
    }
    *to = '\0';
    return to;
}

/* What Prometheus calls a unit; "" for none. */
static void
translate_unit(const struct bh_metric_options *o, char *to)
{
    *to = '\0';
    if (o->unit == NULL || *o->unit == '\0' || *o->unit == '{')
        return;
    if (strcmp(o->unit, "1") == 0) {
        (void)snprintf(to, OB_NAME_SIZE, "%s", o->kind == BH_GAUGE ? "ratio" : "");
        return;
    }
    for (size_t i = 0; i < sizeof units / sizeof *units; i++) {
        if (strcmp(o->unit, units[i][0]) == 0) {
            (void)snprintf(to, OB_NAME_SIZE, "%s", units[i][1]);
            return;
        }
    }
    (void)put_plain(to, to + BH_METRIC_NAME / 2, o->unit);
}

/* Of the form `first` then `rest`, ASCII. */
static bool
is_name(const char *name, const char *extra)
{
    if (name == NULL || !isalpha((unsigned char)*name))
        return false;
    for (const char *at = name; *at != '\0'; at++) {
        if ((!isalnum((unsigned char)*at) && strchr(extra, *at) == NULL) ||
            at - name >= BH_METRIC_NAME)
            return false;
    }
    return true;
}

static bool
is_printable(const char *text)
{
    for (; *text != '\0'; text++) {
        if (*text < ' ' || *text > '~')
            return false;
    }
    return true;
}

int
ob_metric_name(const struct bh_metric_options *o, char *to, char *unit)
{
    size_t length;

    if (!is_name(o->name, "_.-/"))
        return bh_fail(-EINVAL, "metric: bad name \"%s\"",
                       o->name != NULL ? o->name : "(NULL)");
    if (o->help == NULL || *o->help == '\0')
        return bh_fail(-EINVAL, "metric %s: no help", o->name);
    if (o->unit != NULL && (strlen(o->unit) > 63 || !is_printable(o->unit)))
        return bh_fail(-EINVAL, "metric %s: bad unit", o->name);
    translate_unit(o, unit);
    length = (size_t)(put_plain(to, to + BH_METRIC_NAME, o->name) - to);
    if (o->kind == BH_COUNTER && ends_with(to, "_total") && length > 6)
        to[length -= 6] = '\0';
    if (*unit != '\0' && !ends_with(to, unit))
        (void)snprintf(to + length, OB_NAME_SIZE - length, "_%s", unit);
    return 0;
}

int
ob_label_name(const char *name, char *to)
{
    if (name != NULL && *name == '_' && name[1] != '_' && is_name(name + 1, "_.-/"))
        ;
    else if (!is_name(name, "_.-/"))
        return bh_fail(-EINVAL, "metric: bad label \"%s\"", name != NULL ? name : "(NULL)");
    (void)put_plain(to, to + BH_METRIC_NAME, name);
    if (strcmp(to, "le") == 0 || strcmp(to, "quantile") == 0 ||
        strcmp(to, "otel_metric_overflow") == 0)
        return bh_fail(-EINVAL, "metric: label \"%s\" is reserved", name);
    return 0;
}

/* ---- clashes --------------------------------------------------------------------- */

/* What a metric's name and those of its samples end with. */
static const char *const *
suffixes(enum bh_metric_kind kind)
{
    static const char *const counter[] = { "", "_total", "_created", NULL };
    static const char *const histogram[] = {
        "", "_bucket", "_sum", "_count", "_created", NULL
    };
    static const char *const gauge[] = { "", NULL };

    return kind == BH_COUNTER ? counter : kind == BH_HISTOGRAM ? histogram : gauge;
}

static bool
same_joined(const char *a, const char *a_end, const char *b, const char *b_end)
{
    size_t a_size = strlen(a), b_size = strlen(b);

    if (a_size + strlen(a_end) != b_size + strlen(b_end))
        return false;
    if (a_size > b_size)
        return same_joined(b, b_end, a, a_end);
    return strncmp(b, a, a_size) == 0 && strncmp(b + a_size, a_end, b_size - a_size) == 0 &&
           strcmp(a_end + (b_size - a_size), b_end) == 0;
}

bool
ob_metric_names_clash(const struct bh_metric_info *a, const struct bh_metric_info *b)
{
    const char *p = a->prometheus, *q = b->prometheus;

    for (; *p != '\0' && *q != '\0'; p++, q++) {
        if (*p != *q) /* nearly always: no ends make them equal */
            return false;
    }
    for (const char *const *x = suffixes(a->kind); *x != NULL; x++) {
        for (const char *const *y = suffixes(b->kind); *y != NULL; y++) {
            if (same_joined(a->prometheus, *x, b->prometheus, *y))
                return true;
        }
    }
    return false;
}

/* ---- values ---------------------------------------------------------------------- */

size_t
ob_utf8_copy(char *to, size_t size, const char *text)
{
    char *at = to;

    while (*text != '\0') {
        size_t n = ob_utf8_length((const unsigned char *)text, SIZE_MAX);
        size_t put = n != 0 ? n : 3;

        if ((size_t)(at - to) + put >= size)
            break;
        memcpy(at, n != 0 ? text : "\xef\xbf\xbd", put); /* U+FFFD */
        at += put;
        text += n != 0 ? n : 1;
    }
    *at = '\0';
    return (size_t)(at - to);
}
