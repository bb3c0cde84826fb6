/* log_record.c -- a log line on its way out.  See record.h. */

#include <bulkhead/observe/record.h>

#include <string.h>
#include <time.h>

#include <bulkhead/go/tag.h>

struct bh_log_record *
bh_log_record_init(void *memory, size_t size, int severity)
{
    struct bh_log_record *r = memory;
    struct timespec       t;
    struct bh_tag         tag;
    size_t                room = size - offsetof(struct bh_log_record, items);

    clock_gettime(CLOCK_REALTIME, &t);
    bh_tag_get(&tag);
    *r = (struct bh_log_record){
        .time_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec,
        .flags = tag.sampled != 0 ? BH_TRACE_SAMPLED : 0,
        .severity = (uint8_t)severity,
        .size = (uint16_t)(room < UINT16_MAX ? room : UINT16_MAX),
    };
    memcpy(r->trace_id, tag.trace_id, sizeof r->trace_id);
    memcpy(r->span_id, tag.span_id, sizeof r->span_id);
    return r;
}

void
bh_log_record_put(struct bh_log_record *r, const struct bh_item *item)
{
    if (!bh_item_put(r->items, r->size, &r->used, item))
        r->lost_attributes += r->lost_attributes < UINT16_MAX;
}

void
bh_log_record_text(struct bh_log_record *r, enum bh_item_role role, const char *key,
                   const char *value, size_t size)
{
    bh_log_record_put(r, &(struct bh_item){ .role = role,
                                            .type = BH_ITEM_TEXT,
                                            .key = key,
                                            .key_size = strlen(key),
                                            .value = value,
                                            .value_size = size });
}
