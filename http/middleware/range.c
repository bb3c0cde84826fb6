/*
 * range.c -- what a client has and what it wants of a file: entity tags, dates, ranges.
 *
 * See: RFC 9110 sections 5.6.7, 8.8, 13, 14.
 */

#include "fields.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

/* ---- ranges ---------------------------------------------------------------------- */

/* Digits at *at; a number too large is as good as the largest.  Returns: -1 if there are none. */
static int64_t
take_number(const char **at)
{
    const char *start = *at;
    int64_t     n = 0;

    for (; **at >= '0' && **at <= '9'; ++*at)
        n = n > (INT64_MAX - 9) / 10 ? INT64_MAX : n * 10 + (**at - '0');
    return *at > start ? n : -1;
}

/*
 * "0-99", "100-", "-5" at *at.
 * Returns: 1; 0 if nothing of it is there; -1 if malformed.
 */
static int
take_range(const char **at, int64_t size, struct ht_range *r)
{
    int64_t first = take_number(at), last;

    if (**at != '-')
        return -1;
    ++*at;
    last = take_number(at);
    if (first < 0 && last < 0)
        return -1;
    if (first < 0) { /* the last bytes */
        if (last == 0 || size == 0)
            return 0;
        r->size = last < size ? last : size;
        r->start = size - r->size;
        return 1;
    }
    if (last >= 0 && last < first)
        return -1;
    if (first >= size)
        return 0;
    r->start = first;
    r->size = (last < 0 || last >= size ? size : last + 1) - first;
    return 1;
}

int
ht_ranges_parse(const char *value, int64_t size, struct ht_range ranges[HT_MAX_RANGES])
{
    int64_t total = 0;
    int     count = 0, named = 0;

    if (strncasecmp(value, "bytes", 5) != 0)
        return 0;
    value += 5 + strspn(value + 5, " \t");
    if (*value++ != '=')
        return 0;
    for (;;) {
        struct ht_range r;
        int             found;

        value += strspn(value, " \t");
        if (*value == '\0')
            break;
        if (*value == ',') {
            value++;
            continue;
        }
        if (named++ == HT_MAX_RANGES)
            return 0;
        found = take_range(&value, size, &r);
        value += strspn(value, " \t");
        if (found < 0 || (*value != ',' && *value != '\0'))
            return 0;
        if (found == 0)
            continue;
        if (r.size > size - total)
            return 0;
        total += r.size;
        ranges[count++] = r;
    }
    return count > 0 ? count : named > 0 ? -1 : 0;
}

/* ---- entity tags ----------------------------------------------------------------- */

/* Behind one tag at the start of text; NULL if there is none. */
static const char *
skip_tag(const char *text)
{
    if (text[0] == 'W' && text[1] == '/')
        text += 2;
    if (*text++ != '"')
        return NULL;
    while ((unsigned char)*text > ' ' && *text != '"' && *text != 0x7f)
        text++;
    return *text == '"' ? text + 1 : NULL;
}

bool
ht_etag_is_valid(const char *tag)
{
    const char *end = skip_tag(tag);

    return end != NULL && *end == '\0';
}

bool
ht_etag_in(const char *list, const char *tag, bool weak)
{
    bool   tag_weak = tag[0] == 'W';
    size_t length = strlen(tag + 2 * tag_weak);

    list += strspn(list, " \t");
    if (*list == '*')
        return list[1 + strspn(list + 1, " \t")] == '\0';
    for (const char *end;; list = end) {
        bool list_weak;

        list += strspn(list, " \t,");
        end = skip_tag(list);
        if (end == NULL)
            return false;
        list_weak = *list == 'W';
        list += 2 * list_weak;
        if ((size_t)(end - list) == length && memcmp(list, tag + 2 * tag_weak, length) == 0 &&
            (weak || (!tag_weak && !list_weak)))
            return true;
        end += strspn(end, " \t");
        if (*end != ',')
            return false;
    }
}

/* ---- dates ----------------------------------------------------------------------- */

static const char days[7][10] = { "Sunday",   "Monday", "Tuesday", "Wednesday",
                                  "Thursday", "Friday", "Saturday" };
static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                    "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };

void
ht_date_put(char text[HT_DATE_SIZE], int64_t time)
{
    static const int64_t first = -INT64_C(62167219200), last = INT64_C(253402300799);
    time_t    t = time < first ? first : time > last ? last : time; /* years 0 to 9999 */
    struct tm tm;

    gmtime_r(&t, &tm);
    (void)snprintf(text, HT_DATE_SIZE, "%.3s, %02u %.3s %04u %02u:%02u:%02u GMT",
                   days[tm.tm_wday], (unsigned)tm.tm_mday % 100, months[tm.tm_mon],
                   (unsigned)(tm.tm_year + 1900) % 10000, (unsigned)tm.tm_hour % 100,
                   (unsigned)tm.tm_min % 100, (unsigned)tm.tm_sec % 100);
}

/* Exactly `count` digits.  Returns: the number, or -1. */
static int
take_digits(const char **at, int count)
{
    int n = 0;

    for (int i = 0; i < count; i++, ++*at) {
        if (**at < '0' || **at > '9')
            return -1;
        n = n * 10 + (**at - '0');
    }
    return n;
}

static bool
take_text(const char **at, const char *text)
{
    size_t n = strlen(text);

    if (strncmp(*at, text, n) != 0)
        return false;
    *at += n;
    return true;
}

static int
take_month(const char **at)
{
    for (int i = 0; i < 12; i++)
        if (take_text(at, months[i]))
            return i;
    return -1;
}

static bool
take_time(const char **at, struct tm *m)
{
    m->tm_hour = take_digits(at, 2);
    if (m->tm_hour < 0 || !take_text(at, ":"))
        return false;
    m->tm_min = take_digits(at, 2);
    if (m->tm_min < 0 || !take_text(at, ":"))
        return false;
    m->tm_sec = take_digits(at, 2);
    return m->tm_sec >= 0;
}

/* "25 Nov 2026" or, separated by '-', "25-Nov-26". */
static bool
take_date(const char **at, const char *separator, int year_digits, struct tm *m)
{
    m->tm_mday = take_digits(at, 2);
    if (m->tm_mday < 0 || !take_text(at, separator))
        return false;
    m->tm_mon = take_month(at);
    if (m->tm_mon < 0 || !take_text(at, separator))
        return false;
    m->tm_year = take_digits(at, year_digits);
    return m->tm_year >= 0;
}

/* "Nov  6 08:49:37 1994", behind the day's name. */
static bool
take_asctime(const char **at, struct tm *m)
{
    m->tm_mon = take_month(at);
    if (m->tm_mon < 0 || !take_text(at, " "))
        return false;
    m->tm_mday = take_text(at, " ") ? take_digits(at, 1) : take_digits(at, 2);
    if (m->tm_mday < 0 || !take_text(at, " ") || !take_time(at, m) || !take_text(at, " "))
        return false;
    m->tm_year = take_digits(at, 4);
    return m->tm_year >= 0;
}

/* Which form it is, the name of the day tells.  Two digits of a year: RFC 850, 1970 to 2069. */
static bool
take_moment(const char *at, struct tm *m)
{
    for (int i = 0; i < 7; i++) {
        const char *start = at;
        char        name[4] = { days[i][0], days[i][1], days[i][2], '\0' };

        if (take_text(&at, days[i])) {
            if (!take_text(&at, ", ") || !take_date(&at, "-", 2, m))
                return false;
            m->tm_year += m->tm_year < 70 ? 2000 : 1900;
            return take_text(&at, " ") && take_time(&at, m) && strcmp(at, " GMT") == 0;
        }
        at = start;
        if (!take_text(&at, name))
            continue;
        if (take_text(&at, ", "))
            return take_date(&at, " ", 4, m) && take_text(&at, " ") && take_time(&at, m) &&
                   strcmp(at, " GMT") == 0;
        return take_text(&at, " ") && take_asctime(&at, m) && *at == '\0';
    }
    return false;
}

bool
ht_date_parse(const char *text, int64_t *time)
{
    static const char lengths[12] = { 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    struct tm         m = { 0 };
    bool              leap;

    if (!take_moment(text, &m))
        return false;
    leap = (m.tm_year % 4 == 0 && m.tm_year % 100 != 0) || m.tm_year % 400 == 0;
    if (m.tm_mday < 1 || m.tm_mday > lengths[m.tm_mon] ||
        (m.tm_mon == 1 && m.tm_mday == 29 && !leap))
        return false;
    if (m.tm_hour > 23 || m.tm_min > 59 || m.tm_sec > 60)
        return false;
    m.tm_year -= 1900;
    *time = timegm(&m);
    return true;
}
