/*
 * log.c -- the side of the logger that callers see: a line becomes a record in a ring.
 *
 * The record is built on the caller's stack: the caller's pointers are followed there, so one
 * that is bad faults before the ring is touched, and that is the panic of who passed it.
 * Only then is it copied, whole, into the ring of the thread.  Nothing here parks, so the
 * goroutine is on one thread all the time.
 *
 * No allocation, no lock; a system call at a thread's first line, and where the writer must
 * be woken.
 */

#include "log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/tag.h>

#include "log_ring.h"

enum { LABELS_SHOWN = 256 };

int                 bh_log_level_ = BH_INFO;
static _Atomic bool is_open;

void
ob_log_open(bool open)
{
    atomic_store_explicit(&is_open, open, memory_order_release);
}

/* ---- building a record ----------------------------------------------------------- */

static void
put_text(struct bh_log_record *r, const char *key, const char *text, size_t size)
{
    bh_log_record_text(r, BH_ITEM_ATTRIBUTE, key, text, size);
}

static void
put_number(struct bh_log_record *r, const char *key, enum bh_item_type type, int64_t number,
           double real)
{
    bh_log_record_put(r, &(struct bh_item){ .role = BH_ITEM_ATTRIBUTE,
                                            .type = type,
                                            .key = key,
                                            .key_size = strlen(key),
                                            .number = number,
                                            .real = real });
}

/* Who logs: goroutine and route.  The trace is in the record already. */
static void
put_origin(struct bh_log_record *r)
{
    uint64_t             id = bh_id();
    const struct bh_tag *tag;
    const char          *name;
    char                 labels[LABELS_SHOWN];
    size_t               size;

    if (id == 0)
        return;
    put_number(r, OB_LOG_GOROUTINE, BH_ITEM_INT, (int64_t)id, 0);
    name = bh_name();
    if (*name != '\0')
        put_text(r, OB_LOG_NAME, name, strlen(name));
    size = bh_labels(labels, sizeof labels);
    if (size != 0)
        put_text(r, OB_LOG_LABELS, labels, size);
    tag = bh_tag_peek();
    if (tag != NULL && tag->route != NULL)
        put_text(r, OB_LOG_ROUTE, tag->route, strlen(tag->route));
}

/* OTLP has no numbers beyond int64: as text. */
static void
put_natural(struct bh_log_record *r, const char *key, uint64_t n)
{
    char digits[24], *at = digits + sizeof digits;

    if (n <= INT64_MAX) {
        put_number(r, key, BH_ITEM_INT, (int64_t)n, 0);
        return;
    }
    for (; n != 0; n /= 10)
        *--at = (char)('0' + n % 10);
    put_text(r, key, at, (size_t)(digits + sizeof digits - at));
}

static void
put_field(struct bh_log_record *r, const struct bh_log_field *f)
{
    const char *key = f->key != NULL ? f->key : "(null)", *text = f->text;

    switch (f->type) {
    case BH_FIELD_TEXT_:
        if (text == NULL)
            put_text(r, key, "(null)", 6);
        else
            put_text(r, key, text,
                     f->size == SIZE_MAX ? strnlen(text, BH_LOG_RECORD_MAX) : f->size);
        break;
    case BH_FIELD_INT_:
        put_number(r, key, BH_ITEM_INT, f->integer, 0);
        break;
    case BH_FIELD_UINT_:
        put_natural(r, key, f->natural);
        break;
    case BH_FIELD_DOUBLE_:
        put_number(r, key, BH_ITEM_DOUBLE, 0, f->real);
        break;
    case BH_FIELD_BOOL_:
        put_number(r, key, BH_ITEM_BOOL, f->integer != 0, 0);
        break;
    case BH_FIELD_ERROR_:
        text = bh_error_text((int)f->integer);
        put_text(r, key, text, strlen(text));
        break;
    }
}

void
bh_log_write_(int level, const struct bh_log_field *fields, size_t count)
{
    _Alignas(8) char      memory[BH_LOG_RECORD_MAX];
    struct bh_log_record *r;
    const char           *event = fields[0].text != NULL ? fields[0].text : "(null)";

    if (!atomic_load_explicit(&is_open, memory_order_acquire)) {
        (void)atomic_fetch_add_explicit(&ob_log_dropped[BH_LOG_NOT_STARTED], 1,
                                        memory_order_relaxed);
        return;
    }
    r = bh_log_record_init(memory, sizeof memory,
                           level < BH_TRACE      ? BH_TRACE
                           : level >= BH_LOG_OFF ? BH_FATAL
                                                 : level);
    bh_log_record_text(r, BH_ITEM_BODY, "", event, strnlen(event, BH_LOG_RECORD_MAX / 2));
    put_origin(r);
    for (size_t i = 1; i < count; i++)
        put_field(r, &fields[i]);
    ob_log_wake(ob_log_ring_put(r) || level >= BH_ERROR);
}

/* ---- levels ---------------------------------------------------------------------- */

static const struct {
    int         level;
    const char *name;
} levels[] = {
    { BH_TRACE, "TRACE" }, { BH_DEBUG, "DEBUG" }, { BH_INFO, "INFO" },   { BH_WARN, "WARN" },
    { BH_ERROR, "ERROR" }, { BH_FATAL, "FATAL" }, { BH_LOG_OFF, "OFF" },
};
enum { LEVELS = sizeof levels / sizeof *levels };

void
bh_log_set_level(int level)
{
    if (level >= BH_TRACE && level <= BH_LOG_OFF)
        __atomic_store_n(&bh_log_level_, level, __ATOMIC_RELAXED);
}

int
bh_log_level(void)
{
    return __atomic_load_n(&bh_log_level_, __ATOMIC_RELAXED);
}

int
bh_log_level_of(const char *name)
{
    char *end;
    long  number;

    for (int i = 0; name != NULL && i < LEVELS; i++) {
        if (strcasecmp(name, levels[i].name) == 0)
            return levels[i].level;
    }
    if (name == NULL || *name < '0' || *name > '9')
        return -EINVAL;
    number = strtol(name, &end, 10);
    return *end == '\0' && number >= BH_TRACE && number <= BH_LOG_OFF ? (int)number : -EINVAL;
}

const char *
bh_log_level_name(int level)
{
    int i = 0;

    while (i < LEVELS - 1 && level >= levels[i + 1].level)
        i++;
    return levels[i].name;
}

/* ---- what became of lines -------------------------------------------------------- */

const char *
bh_log_drop_name(enum bh_log_drop drop)
{
    static const char *const names[BH_LOG_DROPS] = {
        "ring_full", "too_many_threads", "not_started",
        "reentrant", "output_failed",    "output_stuck",
    };

    return (unsigned)drop < BH_LOG_DROPS ? names[drop] : "";
}
