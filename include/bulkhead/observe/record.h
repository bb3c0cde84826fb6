#ifndef BULKHEAD_OBSERVE_RECORD_H
#define BULKHEAD_OBSERVE_RECORD_H

/*
 * record.h -- spans at rest: flat, without pointers, so that a queue can copy them.
 *
 * Fixed fields, then `used` bytes of items: attributes, events, links, texts, each with
 * its own header, in the order they were added.  Only bh_span_record_size(r) bytes of a
 * record mean anything, and no more need be copied.
 *
 * Texts are bytes as the program gave them, perhaps cut: whoever encodes makes UTF-8 of them.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- items ----------------------------------------------------------------------- */

enum bh_item_role {
    BH_ITEM_ATTRIBUTE = 1, /* of the record */
    BH_ITEM_NAME, /* of the span, or of a log record's event; value only.  The newest counts */
    BH_ITEM_STATUS_TEXT,   /* value only.  The newest counts */
    BH_ITEM_STATE,         /* W3C tracestate; value only */
    BH_ITEM_EVENT,         /* key: its name; number: its time, Unix ns */
    BH_ITEM_LINK,          /* value: trace id (16 bytes), span id (8), then its tracestate;
                              number: flags as in a record */
    BH_ITEM_SUB_ATTRIBUTE, /* of the newest event or link before it */
    BH_ITEM_BODY,          /* of a log record */
};

enum bh_item_type { BH_ITEM_TEXT, BH_ITEM_INT, BH_ITEM_DOUBLE, BH_ITEM_BOOL };

/* An item as read; key and value point into the record and have no NUL. */
struct bh_item {
    enum bh_item_role role;
    enum bh_item_type type;
    const char       *key;
    size_t            key_size;
    const char       *value; /* BH_ITEM_TEXT */
    size_t            value_size;
    int64_t           number; /* BH_ITEM_INT, BH_ITEM_BOOL */
    double            real;   /* BH_ITEM_DOUBLE */
};

/* As it lies in a record, unaligned: this, the key, the value (8 bytes unless a text), the text. */
struct bh_item_head {
    uint8_t  role, type;
    uint16_t key_size, value_size;
};

enum { BH_ITEMS = 64, BH_ITEM_KEY = 128 }; /* most items of a record; most bytes of a key */

/*
 * bh_item_next -- the item at *at of a record's items, which is advanced behind it.
 * Returns: false at the end, or where what is there makes no sense.
 */
bool bh_item_next(const char *items, size_t used, size_t *at, struct bh_item *item);

/*
 * bh_item_put -- add an item: texts from value, numbers from number or real.
 *
 * A key over BH_ITEM_KEY bytes is cut, a text to what fits, but not to less than 16 bytes.
 * Returns: false, nothing being done, if there is no room.
 */
bool bh_item_put(char *items, size_t size, uint16_t *used, const struct bh_item *item);

/* ---- spans ----------------------------------------------------------------------- */

enum bh_span_kind { /* as OTLP numbers them */
                    BH_SPAN_INTERNAL = 1,
                    BH_SPAN_SERVER,
                    BH_SPAN_CLIENT,
                    BH_SPAN_PRODUCER,
                    BH_SPAN_CONSUMER,
};

enum bh_span_status { BH_SPAN_UNSET, BH_SPAN_OK, BH_SPAN_ERROR };

enum { /* flags, as OTLP has them: the low byte is that of traceparent */
       BH_TRACE_SAMPLED = 1,
       BH_TRACE_RANDOM = 2,           /* the trace id's last 7 bytes are random */
       BH_TRACE_REMOTE_KNOWN = 0x100, /* the next bit means something */
       BH_TRACE_REMOTE = 0x200,       /* the parent is in another process */
};

enum { BH_SPAN_ITEMS_SIZE = 984 };

struct bh_span_record {
    int64_t       start_ns, end_ns; /* Unix time */
    unsigned char trace_id[16], span_id[8];
    unsigned char parent_id[8]; /* zero: a root */
    uint32_t      flags;
    uint8_t       kind;   /* enum bh_span_kind */
    uint8_t       status; /* enum bh_span_status */
    uint8_t       urgent; /* it panicked: the reserved lane */
    uint8_t       item_count;
    uint16_t      lost_attributes, lost_events, lost_links; /* for want of room */
    uint16_t      used;                                     /* bytes of items */
    char          items[BH_SPAN_ITEMS_SIZE];
};

static inline size_t
bh_span_record_size(const struct bh_span_record *r)
{
    return offsetof(struct bh_span_record, items) + r->used;
}

/* ---- logs ------------------------------------------------------------------------ */

enum {
    BH_LOG_RECORD_MAX = 2040,            /* bytes of a record in all ... */
    BH_LOG_RECORD_URGENT_MAX = 16 << 10, /* ... and of an urgent one, with a stack */
};

/* Severities, as OTLP numbers them; those between are allowed. */
enum bh_severity {
    BH_SEVERITY_TRACE = 1,
    BH_SEVERITY_DEBUG = 5,
    BH_SEVERITY_INFO = 9,
    BH_SEVERITY_WARN = 13,
    BH_SEVERITY_ERROR = 17,
    BH_SEVERITY_FATAL = 21,
};

/*
 * A log record; an exception is one whose name is "exception", with the attributes
 * exception.type, exception.message and exception.stacktrace.
 *
 *     _Alignas(8) char memory[BH_LOG_RECORD_MAX];
 *     struct bh_log_record *r = bh_log_record_init(memory, sizeof memory, BH_SEVERITY_WARN);
 *     bh_log_record_text(r, BH_ITEM_BODY, "", text, strlen(text));
 *     bh_export_log(r);
 */
struct bh_log_record {
    int64_t       time_ns;      /* Unix time */
    unsigned char trace_id[16]; /* zeros: no trace */
    unsigned char span_id[8];
    uint8_t       flags;    /* that of traceparent */
    uint8_t       severity; /* enum bh_severity */
    uint8_t       urgent;   /* a panic: the reserved lane */
    uint8_t       reserved; /* zero */
    uint16_t      lost_attributes;
    uint16_t      size; /* of items */
    uint16_t      used; /* bytes of items */
    char          items[];
};

/*
 * bh_log_record_init -- begin a record in size bytes of memory: now, with the goroutine's tag.
 * Like all here: no malloc, no lock, async-signal-safe.
 */
struct bh_log_record *bh_log_record_init(void *memory, size_t size, int severity);
/* bh_log_record_put -- add an item; counted as lost if there is no room. */
void bh_log_record_put(struct bh_log_record *r, const struct bh_item *item);
/* bh_log_record_text -- the same for a text. */
void bh_log_record_text(struct bh_log_record *r, enum bh_item_role role, const char *key,
                        const char *value, size_t size);

static inline size_t
bh_log_record_size(const struct bh_log_record *r)
{
    return offsetof(struct bh_log_record, items) + r->used;
}

#endif
