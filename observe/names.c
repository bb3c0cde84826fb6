/*
 * names.c -- strings by number, for encoders that refer to them so.
 *
 * An open-addressed hash table of numbers beside the array of texts; both double.  After a
 * failed allocation the table is as before.  One user at a time.
 */

#include "names.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static uint32_t
hash_text(const char *text)
{
    uint64_t h = UINT64_C(0xcbf29ce484222325);

    for (; *text != '\0'; text++)
        h = (h ^ (unsigned char)*text) * UINT64_C(0x100000001b3);
    return (uint32_t)(h ^ h >> 32);
}

/* The slot that has this text, or the free one where it belongs. */
static uint32_t *
find(const struct ob_names *n, const char *text)
{
    uint32_t i = hash_text(text) & (n->slot_count - 1);

    while (n->slots[i] != 0 && strcmp(n->text[n->slots[i] - 1], text) != 0)
        i = (i + 1) & (n->slot_count - 1);
    return &n->slots[i];
}

/* Room for one more: slots stay at most half full. */
static int
grow(struct ob_names *n)
{
    uint32_t  room = n->room == 0 ? 64 : 2 * n->room;
    char    **text;
    uint32_t *slots;

    if (n->count < n->room)
        return 0;
    slots = calloc(2 * (size_t)room, sizeof *slots);
    if (slots == NULL)
        return -ENOMEM;
    text = realloc(n->text, room * sizeof *text);
    if (text == NULL) {
        free(slots);
        return -ENOMEM;
    }
    free(n->slots);
    n->text = text;
    n->room = room;
    n->slots = slots;
    n->slot_count = 2 * room;
    for (uint32_t i = 0; i < n->count; i++)
        *find(n, n->text[i]) = i + 1;
    return 0;
}

int64_t
ob_names_add(struct ob_names *n, const char *text)
{
    uint32_t *slot;
    size_t    size;

    if (text == NULL || *text == '\0') {
        if (n->count > 0)
            return 0;
        text = "";
    }
    if (grow(n) != 0)
        return -ENOMEM;
    slot = find(n, text);
    if (*slot != 0)
        return *slot - 1;
    size = strlen(text) + 1;
    n->text[n->count] = malloc(size);
    if (n->text[n->count] == NULL)
        return -ENOMEM;
    memcpy(n->text[n->count], text, size);
    *slot = ++n->count;
    return *slot - 1;
}

int
ob_names_init(struct ob_names *n)
{
    *n = (struct ob_names){ 0 };
    if (ob_names_add(n, "") == 0)
        return 0;
    ob_names_fini(n);
    return -ENOMEM;
}

void
ob_names_fini(struct ob_names *n)
{
    for (uint32_t i = 0; i < n->count; i++)
        free(n->text[i]);
    free(n->text);
    free(n->slots);
    *n = (struct ob_names){ 0 };
}
