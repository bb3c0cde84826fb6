/*
 * record.c -- items of a record, in and out.
 *
 * An item is a head of six bytes, its key, and its value: 8 bytes of a number, or a text; an
 * event's or link's number stands before its text.  Nothing is aligned, everything is
 * copied by memcpy.  Writers are hooks of panics too: no malloc, no lock, no stdio.
 */

#include <bulkhead/observe/record.h>

#include <string.h>

enum { LEAST_TEXT = 16 };

_Static_assert(sizeof(struct bh_item_head) == 6, "no padding");
_Static_assert(sizeof(struct bh_span_record) <= 1126, "1.1 KiB a span in the queue");

static bool
has_number(unsigned role, unsigned type)
{
    return type != BH_ITEM_TEXT || role == BH_ITEM_EVENT || role == BH_ITEM_LINK;
}

bool
bh_item_next(const char *items, size_t used, size_t *at, struct bh_item *item)
{
    struct bh_item_head head;
    size_t              left = *at <= used ? used - *at : 0, number;
    const char         *p = items + *at + sizeof head;

    if (left < sizeof head)
        return false;
    memcpy(&head, items + *at, sizeof head);
    left -= sizeof head;
    number = has_number(head.role, head.type) ? sizeof item->number : 0;
    if (left < (size_t)head.key_size + number + head.value_size)
        return false;
    *item = (struct bh_item){ .role = head.role, .type = head.type, .key = p };
    item->key_size = head.key_size;
    p += head.key_size;
    if (number != 0 && head.type == BH_ITEM_DOUBLE)
        memcpy(&item->real, p, sizeof item->real);
    else if (number != 0)
        memcpy(&item->number, p, sizeof item->number);
    item->value = p + number;
    item->value_size = head.value_size;
    *at = (size_t)(item->value + head.value_size - items);
    return true;
}

bool
bh_item_put(char *items, size_t size, uint16_t *used, const struct bh_item *item)
{
    size_t room = size - *used, key = item->key_size, text = item->value_size;
    size_t number = has_number(item->role, item->type) ? sizeof item->number : 0;
    char  *p = items + *used;

    if (key > BH_ITEM_KEY)
        key = BH_ITEM_KEY;
    if (room < sizeof(struct bh_item_head) + key + number)
        return false;
    room -= sizeof(struct bh_item_head) + key + number;
    if (text > room) {
        if (room < LEAST_TEXT || item->role == BH_ITEM_LINK)
            return false;
        text = room;
    }
    const struct bh_item_head head = { (uint8_t)item->role, (uint8_t)item->type, (uint16_t)key,
                                       (uint16_t)text };
    memcpy(p, &head, sizeof head);
    p += sizeof head;
    if (key > 0)
        memcpy(p, item->key, key);
    p += key;
    if (number != 0 && item->type == BH_ITEM_DOUBLE)
        memcpy(p, &item->real, sizeof item->real);
    else if (number != 0)
        memcpy(p, &item->number, sizeof item->number);
    p += number;
    if (text > 0)
        memcpy(p, item->value, text);
    *used = (uint16_t)(*used + sizeof head + key + number + text);
    return true;
}
