#ifndef BULKHEAD_OBSERVE_TRACE_FIXTURE_H
#define BULKHEAD_OBSERVE_TRACE_FIXTURE_H

/*
 * trace_fixture.h -- for tests of spans: an exporter that keeps the records, and questions to them.
 */

#include <stdatomic.h>
#include <string.h>

#include <bulkhead/observe/export.h>
#include <bulkhead/observe/trace.h>

#include "test.h"

/* Not every test uses all of it. */
#define SPANS static __attribute__((unused))

/* ---- in place of the exporter ---------------------------------------------------- */

static struct bh_span_record got[64];
static _Atomic int           exported;

void
bh_export_span(const struct bh_span_record *r)
{
    int n = atomic_fetch_add(&exported, 1);

    if (n < 64)
        memcpy(&got[n], r, bh_span_record_size(r));
}

/* The last item of this role and key; false: none. */
SPANS bool
find(const struct bh_span_record *r, enum bh_item_role role, const char *key,
     struct bh_item *out)
{
    struct bh_item item;
    bool           any = false;

    for (size_t at = 0; bh_item_next(r->items, r->used, &at, &item);)
        if (item.role == role && item.key_size == strlen(key) &&
            memcmp(item.key, key, item.key_size) == 0) {
            *out = item;
            any = true;
        }
    return any;
}

SPANS const char *
text(const struct bh_span_record *r, enum bh_item_role role, const char *key)
{
    static char    copy[1024];
    struct bh_item item;

    if (!find(r, role, key, &item))
        return NULL;
    memcpy(copy, item.value, item.value_size);
    copy[item.value_size] = '\0';
    return copy;
}

SPANS const char *
attribute(const struct bh_span_record *r, const char *key)
{
    return text(r, BH_ITEM_ATTRIBUTE, key);
}

SPANS int64_t
number(const struct bh_span_record *r, const char *key)
{
    struct bh_item item;

    EXPECT(find(r, BH_ITEM_ATTRIBUTE, key, &item) && item.type == BH_ITEM_INT);
    return item.number;
}

SPANS const struct bh_sampler never = { .how = BH_SAMPLE_NEVER };

SPANS const struct bh_trace_context sender = { { 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14,
                                                 15, 16 },
                                               { 21, 22, 23, 24, 25, 26, 27, 28 },
                                               BH_TRACE_SAMPLED };

#endif
