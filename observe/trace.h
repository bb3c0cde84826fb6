#ifndef BULKHEAD_OBSERVE_TRACE_PRIVATE_H
#define BULKHEAD_OBSERVE_TRACE_PRIVATE_H

/*
 * trace.h -- PRIVATE: what spans share with the files about them.
 */

#include <string.h>

#include <bulkhead/observe/trace.h>

/* ob_random_ids -- a trace id, unless it is NULL, and a span id.  Never zero.  Threads: any. */
void ob_random_ids(unsigned char trace_id[16], unsigned char span_id[8]);

/* ob_wall -- Unix time of a bh_now(). */
int64_t ob_wall(int64_t now);

/* ob_put -- an item into a recording span's record; what does not fit is counted. */
void ob_put(struct bh_span *span, const struct bh_item *item);

/*
 * ob_text, ob_int -- an attribute whose key is a literal: OB_KEY("http.route").  As bh_span_bytes
 * and bh_span_int, but the key is copied in place, and what does not fit at once is ob_put's.
 */
#define OB_KEY(literal) (literal), sizeof(literal) - 1

static inline __attribute__((always_inline)) char *
ob_place(struct bh_span_record *r, enum bh_item_type type, const char *key, size_t key_size,
         size_t size)
{
    const struct bh_item_head head = { BH_ITEM_ATTRIBUTE, (uint8_t)type, (uint16_t)key_size,
                                       (uint16_t)(type == BH_ITEM_TEXT ? size : 0) };
    char                     *p = r->items + r->used;

    r->item_count++;
    r->used = (uint16_t)(r->used + sizeof head + key_size + size);
    memcpy(p, &head, sizeof head);
    memcpy(p + sizeof head, key, key_size);
    return p + sizeof head + key_size;
}

static inline bool
ob_fits(const struct bh_span_record *r, size_t size)
{
    return r->item_count < BH_ITEMS &&
           size <= sizeof r->items - r->used - sizeof(struct bh_item_head);
}

static inline __attribute__((always_inline)) void
ob_text(struct bh_span *span, const char *key, size_t key_size, const char *value, size_t size)
{
    if (size < sizeof span->record.items && ob_fits(&span->record, key_size + size))
        memcpy(ob_place(&span->record, BH_ITEM_TEXT, key, key_size, size), value, size);
    else
        ob_put(span, &(struct bh_item){ .role = BH_ITEM_ATTRIBUTE,
                                        .key = key,
                                        .key_size = key_size,
                                        .value = value,
                                        .value_size = size });
}

static inline __attribute__((always_inline)) void
ob_int(struct bh_span *span, const char *key, size_t key_size, int64_t value)
{
    if (ob_fits(&span->record, key_size + sizeof value))
        memcpy(ob_place(&span->record, BH_ITEM_INT, key, key_size, sizeof value), &value,
               sizeof value);
    else
        ob_put(span, &(struct bh_item){ .role = BH_ITEM_ATTRIBUTE,
                                        .type = BH_ITEM_INT,
                                        .key = key,
                                        .key_size = key_size,
                                        .number = value });
}

/* ob_processors_run -- call all that there are. */
void ob_processors_run(struct bh_span *span, bool ended);

#endif
