/*
 * log_format.c -- a log record as text: JSON for machines, or a line for people.
 *
 *     {"time":"2026-11-25T10:09:53.123456Z","level":"INFO","event":"order placed","id":"o-17",
 *      "goroutine":42,"name":"worker","labels":"tenant=a","trace_id":"...","span_id":"..."}
 *
 *     10:09:53.123456 INFO  order placed  id=o-17 quantity=3  goroutine=42 trace=4bf92f...
 *
 * Runs on the writer's thread, and at a crash in a signal handler: so numbers are made here,
 * without stdio, whose decimal sign depends on the locale besides.  Doubles show up to 15
 * digits.
 *
 * Texts are bytes as the program gave them, and must not forge a line or a terminal's state:
 * what is not UTF-8 becomes U+FFFD, control characters are escaped.
 */

#include "log.h"

#include <string.h>

#include "utf8.h"

struct out {
    char             *at, *end; /* what does not fit is left out */
    enum ob_log_style style;
};

/* ---- characters and numbers ------------------------------------------------------- */

static void
put_byte(struct out *o, char c)
{
    if (o->at < o->end)
        *o->at++ = c;
}

static void
put(struct out *o, const char *text)
{
    while (*text != '\0')
        put_byte(o, *text++);
}

static void
put_digits(struct out *o, uint64_t n, int least)
{
    char digits[24];
    int  count = 0;

    for (; n != 0 || count < least; n /= 10)
        digits[count++] = (char)('0' + n % 10);
    while (count > 0)
        put_byte(o, digits[--count]);
}

static void
put_integer(struct out *o, int64_t n)
{
    if (n < 0)
        put_byte(o, '-');
    put_digits(o, n < 0 ? -(uint64_t)n : (uint64_t)n, 1);
}

static void
put_hex(struct out *o, const unsigned char *bytes, size_t size)
{
    static const char digit[] = "0123456789abcdef";

    for (size_t i = 0; i < size; i++) {
        put_byte(o, digit[bytes[i] >> 4]);
        put_byte(o, digit[bytes[i] & 15]);
    }
}

/* Scale a positive number to 15 digits before the point.  Returns: the exponent of the first digit. */
static int
scale(long double *d)
{
    static const long double power[] = { 1e1L,  1e2L,  1e4L,   1e8L,  1e16L,
                                         1e32L, 1e64L, 1e128L, 1e256L };
    int                      exponent = 14;

    for (int i = 8; i >= 0; i--) {
        if (*d >= 1e15L * (power[i] / 10)) {
            *d /= power[i];
            exponent += 1 << i;
        }
    }
    for (int i = 8; i >= 0; i--) {
        if (*d * power[i] < 1e15L) {
            *d *= power[i];
            exponent -= 1 << i;
        }
    }
    return exponent;
}

static void
put_double(struct out *o, double value)
{
    long double d = value < 0 ? -value : value;
    char        digit[15];
    uint64_t    n;
    int         exponent, count = 15;

    if (value != value || d > 0x1.fffffffffffffp1023L) {
        put(o, o->style == OB_LOG_JSON ? "null"
               : value != value        ? "NaN"
               : value > 0             ? "+Inf"
                                       : "-Inf");
        return;
    }
    if (value < 0)
        put_byte(o, '-');
    exponent = d == 0 ? 0 : scale(&d);
    n = (uint64_t)(d + 0.5L);
    if (n == UINT64_C(1000000000000000)) { /* rounded up to 16 digits */
        n /= 10;
        exponent++;
    }
    for (int i = 14; i >= 0; i--, n /= 10)
        digit[i] = (char)('0' + n % 10);
    while (count > 1 && digit[count - 1] == '0')
        count--;
    if (exponent >= 0 && exponent < 15) {
        for (int i = 0; i < count || i <= exponent; i++) {
            if (i == exponent + 1)
                put_byte(o, '.');
            put_byte(o, i < count ? digit[i] : '0');
        }
        return;
    }
    if (exponent < 0 && exponent > -5) {
        put(o, "0.");
        for (int i = -1; i > exponent; i--)
            put_byte(o, '0');
        for (int i = 0; i < count; i++)
            put_byte(o, digit[i]);
        return;
    }
    for (int i = 0; i < count; i++) {
        if (i == 1)
            put_byte(o, '.');
        put_byte(o, digit[i]);
    }
    put_byte(o, 'e');
    put_integer(o, exponent);
}

/* ---- texts ----------------------------------------------------------------------- */

static void
put_escape(struct out *o, unsigned char c)
{
    static const char letters[] = "\bb\tt\nn\ff\rr\"\"\\\\";

    for (const char *l = letters; *l != '\0'; l += 2) {
        if ((unsigned char)*l == c) {
            put_byte(o, '\\');
            put_byte(o, l[1]);
            return;
        }
    }
    put(o, "\\u00");
    put_hex(o, &c, 1);
}

/* The inside of a quoted text. */
static void
put_escaped(struct out *o, const char *text, size_t size)
{
    for (size_t i = 0, n; i < size; i += n != 0 ? n : 1) {
        const unsigned char *at = (const unsigned char *)text + i;

        n = ob_utf8_length(at, size - i);
        if (*at < ' ' || *at == '"' || *at == '\\' || *at == 0x7f ||
            (n == 2 && at[0] == 0xc2 && at[1] < 0xa0)) /* C1: a terminal obeys them */
            put_escape(o, n == 2 ? at[1] : *at);
        else if (n == 0)
            put(o, "\xef\xbf\xbd");
        else if ((size_t)(o->end - o->at) >= n) {
            memcpy(o->at, at, n);
            o->at += n;
        }
    }
}

static void
put_quoted(struct out *o, const char *text, size_t size)
{
    put_byte(o, '"');
    put_escaped(o, text, size);
    put_byte(o, '"');
}

/* A word as it is; else quoted. */
static void
put_word(struct out *o, const char *text, size_t size)
{
    bool is_word = size > 0;

    for (size_t i = 0; i < size && is_word; i++)
        is_word = text[i] > ' ' && text[i] < 0x7f && text[i] != '"' && text[i] != '=' &&
                  text[i] != '\\';
    if (!is_word) {
        put_quoted(o, text, size);
        return;
    }
    put_escaped(o, text, size);
}

static void
put_value(struct out *o, const struct bh_item *item)
{
    switch (item->type) {
    case BH_ITEM_TEXT:
        if (o->style == OB_LOG_JSON)
            put_quoted(o, item->value, item->value_size);
        else
            put_word(o, item->value, item->value_size);
        break;
    case BH_ITEM_INT:
        put_integer(o, item->number);
        break;
    case BH_ITEM_DOUBLE:
        put_double(o, item->real);
        break;
    case BH_ITEM_BOOL:
        put(o, item->number != 0 ? "true" : "false");
        break;
    }
}

/* ---- time ------------------------------------------------------------------------ */

/* Days since 1970 as a date: after H. Hinnant, "chrono-compatible low-level date algorithms". */
static void
put_date(struct out *o, int64_t days)
{
    int64_t z = days + 719468, era = z / 146097, doe = z % 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    int64_t day = doy - (153 * mp + 2) / 5 + 1, month = mp < 10 ? mp + 3 : mp - 9;

    put_digits(o, (uint64_t)(yoe + era * 400 + (month <= 2)), 4);
    put_byte(o, '-');
    put_digits(o, (uint64_t)month, 2);
    put_byte(o, '-');
    put_digits(o, (uint64_t)day, 2);
}

static void
put_time(struct out *o, int64_t ns)
{
    int64_t seconds = ns / 1000000000 % 86400;

    put_digits(o, (uint64_t)(seconds / 3600), 2);
    put_byte(o, ':');
    put_digits(o, (uint64_t)(seconds / 60 % 60), 2);
    put_byte(o, ':');
    put_digits(o, (uint64_t)(seconds % 60), 2);
    put_byte(o, '.');
    put_digits(o, (uint64_t)(ns % 1000000000 / 1000), 6);
}

/* ---- lines ----------------------------------------------------------------------- */

static bool
is_key(const struct bh_item *item, const char *key)
{
    return item->key_size == strlen(key) && memcmp(item->key, key, item->key_size) == 0;
}

/* What the line calls an item of ours; NULL: it is the caller's. */
static const char *
short_key(const struct bh_item *item)
{
    static const char *const keys[][2] = { { OB_LOG_GOROUTINE, "goroutine" },
                                           { OB_LOG_NAME, "name" },
                                           { OB_LOG_LABELS, "labels" },
                                           { OB_LOG_ROUTE, "route" } };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (is_key(item, keys[i][0]))
            return keys[i][1];
    }
    return NULL;
}

/* A caller's field may not stand for one of ours. */
static bool
is_reserved(const struct bh_item *item)
{
    static const char *const keys[] = { "time",   "level", "event",    "goroutine", "name",
                                        "labels", "route", "trace_id", "span_id",   "cut" };

    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
        if (is_key(item, keys[i]))
            return true;
    }
    return false;
}

static void
put_key(struct out *o, const struct bh_item *item)
{
    const char *ours = short_key(item);
    bool        json = o->style == OB_LOG_JSON;

    put(o, json ? ",\"" : " ");
    if (ours == NULL && is_reserved(item))
        put(o, "field.");
    if (ours != NULL)
        put(o, ours);
    else
        put_escaped(o, item->key, item->key_size);
    put(o, json ? "\":" : "=");
}

/* Fields, or what is said of every line.  Returns: nothing. */
static void
put_items(struct out *o, const struct bh_log_record *r, bool ours)
{
    struct bh_item item;

    for (size_t at = 0; bh_item_next(r->items, r->used, &at, &item);) {
        if (item.role != BH_ITEM_ATTRIBUTE || (short_key(&item) != NULL) != ours)
            continue;
        put_key(o, &item);
        put_value(o, &item);
    }
}

static void
put_event(struct out *o, const struct bh_log_record *r)
{
    struct bh_item item;

    for (size_t at = 0; bh_item_next(r->items, r->used, &at, &item);) {
        if (item.role == BH_ITEM_BODY) {
            if (o->style == OB_LOG_JSON)
                put_quoted(o, item.value, item.value_size);
            else
                put_escaped(o, item.value, item.value_size);
            return;
        }
    }
    put(o, o->style == OB_LOG_JSON ? "\"\"" : "");
}

static bool
is_zero(const unsigned char *bytes, size_t size)
{
    unsigned char any = 0;

    for (size_t i = 0; i < size; i++)
        any |= bytes[i];
    return any == 0;
}

static void
put_ids(struct out *o, const struct bh_log_record *r)
{
    bool json = o->style == OB_LOG_JSON;

    if (is_zero(r->trace_id, sizeof r->trace_id))
        return;
    put(o, json ? ",\"trace_id\":\"" : " trace=");
    put_hex(o, r->trace_id, sizeof r->trace_id);
    put(o, json ? "\",\"span_id\":\"" : " span=");
    put_hex(o, r->span_id, sizeof r->span_id);
    if (json)
        put_byte(o, '"');
}

static void
put_cut(struct out *o, const struct bh_log_record *r)
{
    if (r->lost_attributes == 0)
        return;
    put(o, o->style == OB_LOG_JSON ? ",\"cut\":" : " cut=");
    put_digits(o, r->lost_attributes, 1);
}

static void
put_json(struct out *o, const struct bh_log_record *r)
{
    put(o, "{\"time\":\"");
    put_date(o, r->time_ns / 86400000000000);
    put_byte(o, 'T');
    put_time(o, r->time_ns);
    put(o, "Z\",\"level\":\"");
    put(o, bh_log_level_name(r->severity));
    put(o, "\",\"event\":");
    put_event(o, r);
    put_items(o, r, false);
    put_items(o, r, true);
    put_ids(o, r);
    put_cut(o, r);
    put_byte(o, '}');
}

static void
put_plain(struct out *o, const struct bh_log_record *r)
{
    static const char *const colours[] = { "\x1b[2m",  "\x1b[2m",  "\x1b[32m",
                                           "\x1b[33m", "\x1b[31m", "\x1b[1;31m" };
    const char              *level = bh_log_level_name(r->severity);
    bool                     coloured = o->style == OB_LOG_COLOURED;

    put_time(o, r->time_ns);
    put_byte(o, ' ');
    if (coloured)
        put(o, colours[r->severity >= BH_FATAL ? 5 : (r->severity - 1) / 4]);
    put(o, level);
    put(o, &"      "[strlen(level)]);
    if (coloured)
        put(o, "\x1b[0m");
    put_event(o, r);
    put_byte(o, ' ');
    put_items(o, r, false);
    if (coloured)
        put(o, "\x1b[2m");
    put_byte(o, ' ');
    put_items(o, r, true);
    put_ids(o, r);
    put_cut(o, r);
    if (coloured)
        put(o, "\x1b[0m");
}

size_t
ob_log_format(char *text, const struct bh_log_record *r, enum ob_log_style style)
{
    struct out o = { text, text + OB_LOG_TEXT_MAX - 1, style };

    if (style == OB_LOG_JSON)
        put_json(&o, r);
    else
        put_plain(&o, r);
    *o.at++ = '\n';
    return (size_t)(o.at - text);
}
