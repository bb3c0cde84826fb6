/* ring.c -- see ring.h. */

#include "ring.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

struct slot {
    _Atomic uint64_t turn;
    unsigned char    record[];
};

static struct slot *
slot_at(struct ob_ring *r, uint64_t place)
{
    return (void *)(r->memory + (place & r->mask) * r->slot_size);
}

int
ob_ring_init(struct ob_ring *r, size_t slots, size_t record_size)
{
    *r = (struct ob_ring){ .mask = slots - 1 };
    r->slot_size = (sizeof(struct slot) + record_size + 63) / 64 * 64;
    r->size = slots * r->slot_size;
    void *p = mmap(NULL, r->size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    r->memory = p;
    for (uint64_t i = 0; i < slots; i++)
        atomic_init(&slot_at(r, i)->turn, i);
    return 0;
}

void
ob_ring_fini(struct ob_ring *r)
{
    if (r->memory != NULL)
        munmap(r->memory, r->size);
    r->memory = NULL;
}

/* A ring is larger than caches: have the slot after next, as much as was used of this one, on its way. */
static void
prefetch_for_writing(const struct slot *s, size_t size)
{
    enum { LINE = 64 };

    for (size_t at = 0; at < sizeof *s + size; at += LINE)
        __builtin_prefetch((const char *)s + at, 1);
}

uint64_t
ob_ring_put(struct ob_ring *r, const void *record, size_t size)
{
    const volatile unsigned char *probe = record;
    uint64_t                      place = atomic_load_explicit(&r->head, memory_order_relaxed);

    if (size == 0 || size > r->slot_size - sizeof(struct slot))
        return 0;
    (void)probe[0];
    (void)probe[size - 1];
    for (;;) {
        struct slot *s = slot_at(r, place);
        int64_t ahead = (int64_t)(atomic_load_explicit(&s->turn, memory_order_acquire) - place);
        if (ahead < 0)
            return 0;
        if (ahead > 0) {
            place = atomic_load_explicit(&r->head, memory_order_relaxed);
            continue;
        }
        if (atomic_compare_exchange_weak_explicit(&r->head, &place, place + 1,
                                                  memory_order_relaxed, memory_order_relaxed)) {
            memcpy(s->record, record, size);
            atomic_store_explicit(&s->turn, place + 1, memory_order_release);
            prefetch_for_writing(slot_at(r, place + 2), size);
            return place + 1;
        }
    }
}

/* The records were written by other processors: have the one after next on its way. */
static void
prefetch(const struct slot *s)
{
    enum { LINES = 6, LINE = 64 };

    for (int i = 0; i < LINES; i++)
        __builtin_prefetch((const char *)s + (ptrdiff_t)i * LINE);
}

const void *
ob_ring_peek(struct ob_ring *r)
{
    uint64_t     tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
    struct slot *s = slot_at(r, tail);

    prefetch(slot_at(r, tail + 2));
    return atomic_load_explicit(&s->turn, memory_order_acquire) == tail + 1 ? s->record : NULL;
}

void
ob_ring_pop(struct ob_ring *r)
{
    uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);

    atomic_store_explicit(&slot_at(r, tail)->turn, tail + r->mask + 1, memory_order_release);
    atomic_store_explicit(&r->tail, tail + 1, memory_order_relaxed);
}
