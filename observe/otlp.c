/* otlp.c -- spans and logs.  See otlp.h; metrics are in otlp_metrics.c. */

#include "otlp.h"

#include <stdlib.h>
#include <string.h>

#include <bulkhead/observe/record.h>
#include <bulkhead/observe/resource.h>

#include "utf8.h"

enum { FRAME = 128 }; /* scope, tags and lengths around the items */

/* ---- texts ----------------------------------------------------------------------- */

static bool
ascii(const char *text, size_t size)
{
    uint64_t all = 0, word;

    if (size < sizeof word) {
        for (size_t i = 0; i < size; i++)
            all |= (unsigned char)text[i];
        return (all & 0x80) == 0;
    }
    for (size_t i = 0; i + sizeof word <= size; i += sizeof word) {
        memcpy(&word, text + i, sizeof word);
        all |= word;
    }
    memcpy(&word, text + size - sizeof word, sizeof word); /* the rest, with some again */
    return ((all | word) & 0x8080808080808080) == 0;
}

void
ob_otlp_text(struct pb *w, uint32_t field, const char *text, size_t size, bool always)
{
    if (size == 0 && !always)
        return;
    pb_raw(w, text, size);
    if (!ascii(text, size) && !w->overflow) {
        for (size_t i = 0, n; i < size; i += n) {
            n = ob_utf8_length(w->at + i, size - i);
            if (n == 0) {
                w->at[i] = '?';
                n = 1;
            }
        }
    }
    pb_varint(w, size);
    pb_tag(w, field, PB_BYTES);
}

static void
key_and_end(struct pb *w, uint32_t field, const char *key, size_t key_size, size_t value,
            size_t mark)
{
    pb_end(w, 2, value);
    ob_otlp_text(w, 1, key, key_size, false);
    pb_end(w, field, mark);
}

void
ob_otlp_attribute(struct pb *w, uint32_t field, const char *key, size_t key_size,
                  const char *value, size_t size)
{
    size_t mark = pb_begin(w);

    ob_otlp_text(w, 1, value, size, true);
    key_and_end(w, field, key, key_size, mark, mark);
}

static void
attribute(struct pb *w, uint32_t field, const struct bh_item *i)
{
    size_t mark = pb_begin(w);

    switch (i->type) {
    case BH_ITEM_TEXT:
        ob_otlp_text(w, 1, i->value, i->value_size, true);
        break;
    case BH_ITEM_INT:
        pb_uint_always(w, 3, (uint64_t)i->number);
        break;
    case BH_ITEM_DOUBLE:
        pb_double_always(w, 4, i->real);
        break;
    case BH_ITEM_BOOL:
        pb_uint_always(w, 2, i->number != 0);
        break;
    }
    key_and_end(w, field, i->key, i->key_size, mark, mark);
}

void
ob_otlp_resource(struct pb *w)
{
    size_t                     count;
    const struct bh_attribute *a = bh_resource(&count);

    for (size_t i = count; i > 0; i--) {
        size_t before = pb_length(w);
        if (a[i - 1].number) {
            pb_uint_always(w, 3, (uint64_t)strtoll(a[i - 1].value, NULL, 10));
            pb_end(w, 2, before);
            pb_string(w, 1, a[i - 1].key);
            pb_end(w, 1, before);
        } else {
            ob_otlp_attribute(w, 1, a[i - 1].key, strlen(a[i - 1].key), a[i - 1].value,
                              strlen(a[i - 1].value));
        }
        if (w->overflow)
            pb_rewind(w, before);
    }
}

/* ---- items ----------------------------------------------------------------------- */

struct items {
    int            count;
    struct bh_item at[BH_ITEMS];
};

static void
read_items(struct items *all, const char *items, size_t used)
{
    size_t at = 0;

    all->count = 0;
    while (all->count < BH_ITEMS && bh_item_next(items, used, &at, &all->at[all->count]))
        all->count++;
}

static const struct bh_item *
newest(const struct items *all, enum bh_item_role role)
{
    for (int i = all->count - 1; i >= 0; i--) {
        if (all->at[i].role == role)
            return &all->at[i];
    }
    return NULL;
}

static void
text_of(struct pb *w, uint32_t field, const struct bh_item *i)
{
    if (i != NULL)
        ob_otlp_text(w, field, i->value, i->value_size, false);
}

static bool
same_key(const struct bh_item *a, const struct bh_item *b)
{
    return a->role == b->role && a->key_size == b->key_size &&
           memcmp(a->key, b->key, a->key_size) == 0;
}

/* Attributes of the whole: keys are unique in OTLP, and the newest counts. */
static void
attributes(struct pb *w, uint32_t field, const struct items *all)
{
    for (int i = all->count - 1; i >= 0; i--) {
        bool again = false;

        if (all->at[i].role != BH_ITEM_ATTRIBUTE)
            continue;
        for (int j = i + 1; j < all->count && !again; j++)
            again = same_key(&all->at[i], &all->at[j]);
        if (!again)
            attribute(w, field, &all->at[i]);
    }
}

static void
sub_attributes(struct pb *w, uint32_t field, const struct items *all, int owner)
{
    int end = owner + 1;

    while (end < all->count && all->at[end].role != BH_ITEM_EVENT &&
           all->at[end].role != BH_ITEM_LINK)
        end++;
    for (int i = end - 1; i > owner; i--) {
        if (all->at[i].role == BH_ITEM_SUB_ATTRIBUTE)
            attribute(w, field, &all->at[i]);
    }
}

/* ---- spans ----------------------------------------------------------------------- */

static void
links(struct pb *w, const struct items *all)
{
    for (int i = all->count - 1; i >= 0; i--) {
        const struct bh_item *link = &all->at[i];
        if (link->role != BH_ITEM_LINK || link->value_size < 24)
            continue;
        size_t mark = pb_begin(w);
        pb_fixed32(w, 6, (uint32_t)link->number);
        sub_attributes(w, 4, all, i);
        ob_otlp_text(w, 3, link->value + 24, link->value_size - 24, false);
        pb_bytes(w, 2, link->value + 16, 8);
        pb_bytes(w, 1, link->value, 16);
        pb_end(w, 13, mark);
    }
}

/* For backends that look for exceptions in spans: what the span knows of its panic. */
static void
exception_event(struct pb *w, const struct bh_span_record *r, const struct items *all)
{
    static const char     message[] = "exception.message", type[] = "exception.type";
    const struct bh_item  wanted = { .role = BH_ITEM_ATTRIBUTE,
                                     .key = "error.type",
                                     .key_size = 10 };
    const struct bh_item *text = newest(all, BH_ITEM_STATUS_TEXT), *kind = NULL;
    size_t                mark = pb_begin(w);

    for (int i = 0; i < all->count; i++) {
        if (same_key(&all->at[i], &wanted))
            kind = &all->at[i];
    }
    if (text != NULL)
        ob_otlp_attribute(w, 3, message, sizeof message - 1, text->value, text->value_size);
    if (kind != NULL)
        ob_otlp_attribute(w, 3, type, sizeof type - 1, kind->value, kind->value_size);
    pb_string(w, 2, "exception");
    pb_fixed64(w, 1, (uint64_t)r->end_ns);
    pb_end(w, 11, mark);
}

static void
events(struct pb *w, const struct items *all)
{
    for (int i = all->count - 1; i >= 0; i--) {
        const struct bh_item *event = &all->at[i];
        if (event->role != BH_ITEM_EVENT)
            continue;
        size_t mark = pb_begin(w);
        sub_attributes(w, 3, all, i);
        ob_otlp_text(w, 2, event->key, event->key_size, false);
        pb_fixed64(w, 1, (uint64_t)event->number);
        pb_end(w, 11, mark);
    }
}

static bool
zero(const unsigned char *id, size_t size)
{
    unsigned char all = 0;

    for (size_t i = 0; i < size; i++)
        all |= id[i];
    return all == 0;
}

static void
span(struct pb *w, const struct bh_span_record *r, bool exception_events)
{
    struct items all;
    size_t       mark = pb_begin(w);

    read_items(&all, r->items, r->used);
    pb_fixed32(w, 16, r->flags);
    if (r->status != BH_SPAN_UNSET) {
        size_t status = pb_begin(w);
        pb_uint(w, 3, r->status);
        text_of(w, 2, r->status == BH_SPAN_ERROR ? newest(&all, BH_ITEM_STATUS_TEXT) : NULL);
        pb_end(w, 15, status);
    }
    pb_uint(w, 14, r->lost_links);
    links(w, &all);
    pb_uint(w, 12, r->lost_events);
    if (exception_events && r->urgent)
        exception_event(w, r, &all);
    events(w, &all);
    pb_uint(w, 10, r->lost_attributes);
    attributes(w, 9, &all);
    pb_fixed64(w, 8, (uint64_t)r->end_ns);
    pb_fixed64(w, 7, (uint64_t)r->start_ns);
    pb_uint(w, 6, r->kind);
    text_of(w, 5, newest(&all, BH_ITEM_NAME));
    if (!zero(r->parent_id, sizeof r->parent_id))
        pb_bytes(w, 4, r->parent_id, sizeof r->parent_id);
    text_of(w, 3, newest(&all, BH_ITEM_STATE));
    pb_bytes(w, 2, r->span_id, sizeof r->span_id);
    pb_bytes(w, 1, r->trace_id, sizeof r->trace_id);
    pb_end(w, 2, mark);
}

/* ---- logs ------------------------------------------------------------------------ */

static void
severity(struct pb *w, unsigned number)
{
    static const char *const names[] = { "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL" };

    if (number >= 1 && number <= 24)
        pb_string(w, 3, names[(number - 1) / 4]);
    pb_uint(w, 2, number);
}

static void
log_record(struct pb *w, const struct bh_log_record *r)
{
    struct items          all;
    const struct bh_item *body;
    size_t                mark = pb_begin(w);

    read_items(&all, r->items, r->used);
    text_of(w, 12, newest(&all, BH_ITEM_NAME));
    pb_fixed64(w, 11, (uint64_t)r->time_ns); /* who observed it is who made it */
    if (!zero(r->trace_id, sizeof r->trace_id)) {
        pb_bytes(w, 10, r->span_id, sizeof r->span_id);
        pb_bytes(w, 9, r->trace_id, sizeof r->trace_id);
        pb_fixed32(w, 8, r->flags);
    }
    pb_uint(w, 7, r->lost_attributes);
    attributes(w, 6, &all);
    body = newest(&all, BH_ITEM_BODY);
    if (body != NULL) {
        size_t value = pb_begin(w);
        ob_otlp_text(w, 1, body->value, body->value_size, true);
        pb_end(w, 5, value);
    }
    severity(w, r->severity);
    pb_fixed64(w, 1, (uint64_t)r->time_ns);
    pb_end(w, 2, mark);
}

/* ---- requests -------------------------------------------------------------------- */

void
ob_otlp_begin(struct ob_otlp *o, void *buffer, size_t size, const void *resource,
              size_t resource_size)
{
    *o = (struct ob_otlp){ .resource = resource, .resource_size = resource_size };
    pb_init(&o->pb, buffer, size);
    o->frame = FRAME + resource_size < size ? FRAME + resource_size : size;
    o->pb.start += o->frame; /* items end here */
}

static bool
added(struct ob_otlp *o, size_t before)
{
    if (o->pb.overflow) {
        pb_rewind(&o->pb, before);
        return false;
    }
    o->count++;
    return true;
}

bool
ob_otlp_span(struct ob_otlp *o, const struct bh_span_record *r)
{
    size_t before = pb_length(&o->pb);

    span(&o->pb, r, o->exception_events);
    return added(o, before);
}

bool
ob_otlp_log(struct ob_otlp *o, const struct bh_log_record *r)
{
    size_t before = pb_length(&o->pb);

    log_record(&o->pb, r);
    return added(o, before);
}

const uint8_t *
ob_otlp_end(struct ob_otlp *o, size_t *size)
{
    struct pb *w = &o->pb;

    w->start -= o->frame;
    size_t scope = pb_begin(w);
    pb_string(w, 2, BH_VERSION);
    pb_string(w, 1, "bulkhead");
    pb_end(w, 1, scope);
    pb_end(w, 2, 0);
    pb_bytes_always(w, 1, o->resource, o->resource_size);
    pb_end(w, 1, 0);
    *size = pb_length(w);
    return pb_data(w);
}

/* ---- answers --------------------------------------------------------------------- */

struct reader {
    const uint8_t *at, *end;
};

static bool
read_varint(struct reader *r, uint64_t *v)
{
    *v = 0;
    for (unsigned shift = 0; shift < 64 && r->at < r->end; shift += 7) {
        uint8_t byte = *r->at++;
        *v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return true;
    }
    return false;
}

/* A field: *v is its number, or the length of the bytes at *bytes. */
static bool
read_field(struct reader *r, uint64_t *tag, uint64_t *v, const uint8_t **bytes)
{
    if (!read_varint(r, tag))
        return false;
    switch (*tag & 7) {
    case PB_VARINT:
        return read_varint(r, v);
    case PB_FIXED64:
        *v = 8;
        break;
    case PB_FIXED32:
        *v = 4;
        break;
    case PB_BYTES:
        if (!read_varint(r, v))
            return false;
        break;
    default:
        return false;
    }
    if (*v > (uint64_t)(r->end - r->at))
        return false;
    *bytes = r->at;
    r->at += *v;
    return true;
}

bool
ob_otlp_read_partial(const void *data, size_t size, struct ob_otlp_partial *partial)
{
    struct reader  outer = { data, (const uint8_t *)data + size };
    uint64_t       tag, v;
    const uint8_t *bytes = NULL;

    *partial = (struct ob_otlp_partial){ 0 };
    while (outer.at < outer.end) {
        if (!read_field(&outer, &tag, &v, &bytes))
            return false;
        if (tag != (1 << 3 | PB_BYTES))
            continue;
        struct reader inner = { bytes, bytes + v };
        while (inner.at < inner.end) {
            if (!read_field(&inner, &tag, &v, &bytes))
                return false;
            if (tag == (1 << 3 | PB_VARINT))
                partial->rejected = (int64_t)v;
            if (tag == (2 << 3 | PB_BYTES)) {
                partial->message = (const char *)bytes;
                partial->message_size = v;
            }
        }
    }
    return true;
}
