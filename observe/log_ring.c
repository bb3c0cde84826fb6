/* log_ring.c -- lines on their way; see log_ring.h for how. */

#include "log_ring.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WORD = 8 };
#define SKIP UINT64_MAX

struct ob_log_ring ob_log_rings[OB_RINGS];
_Atomic uint64_t   ob_log_dropped[BH_LOG_DROPS];

static char  *memory; /* of all rings; set once, before a thread may log */
static size_t ring_size;

static __thread struct ob_log_ring *mine __attribute__((tls_model("initial-exec")));

static char *
bytes_of(const struct ob_log_ring *ring)
{
    return memory + (size_t)(ring - ob_log_rings) * ring_size;
}

int
ob_log_rings_make(size_t size)
{
    void *p;

    if (memory != NULL)
        return 0;
    p = mmap(NULL, size * OB_RINGS, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    ring_size = size;
    memory = p;
    return 0;
}

/* ---- putting --------------------------------------------------------------------- */

static __attribute__((noinline, cold)) struct ob_log_ring *
take_ring(void)
{
    int32_t self = (int32_t)syscall(SYS_gettid);

    for (int i = 0; i < OB_RINGS; i++) {
        int32_t free_owner = 0;

        if (atomic_compare_exchange_strong_explicit(&ob_log_rings[i].owner, &free_owner, self,
                                                    memory_order_acquire,
                                                    memory_order_relaxed)) {
            mine = &ob_log_rings[i];
            return mine;
        }
    }
    return NULL;
}

/* Only the owner counts here: no locked instruction. */
static inline void
count(_Atomic uint64_t *n)
{
    atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + 1,
                          memory_order_relaxed);
}

/* Is there room for need bytes at place head?  `seen` avoids reading the reader's cache line. */
static inline bool
has_room(struct ob_log_ring *ring, uint64_t head, size_t need)
{
    uint64_t tail = atomic_load_explicit(&ring->tail_seen, memory_order_relaxed);

    if (head + need - tail <= ring_size)
        return true;
    tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    atomic_store_explicit(&ring->tail_seen, tail, memory_order_relaxed);
    return head + need - tail <= ring_size;
}

/* Returns: as ob_log_ring_put. */
static inline bool
put(struct ob_log_ring *ring, const struct bh_log_record *r, size_t size)
{
    size_t   need = WORD + (size + WORD - 1) / WORD * WORD, at, skip;
    uint64_t head, word = need;

    head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    at = head & (ring_size - 1);
    skip = ring_size - at < need ? ring_size - at : 0;
    if (!has_room(ring, head, skip + need)) {
        count(&ring->dropped[BH_LOG_RING_FULL]);
        return true;
    }
    if (r->lost_attributes != 0)
        count(&ring->cut);
    if (skip != 0) {
        memcpy(bytes_of(ring) + at, &(uint64_t){ SKIP }, WORD);
        at = 0;
    }
    memcpy(bytes_of(ring) + at, &word, WORD);
    memcpy(bytes_of(ring) + at + WORD, r, size);
    head += skip + need;
    atomic_store_explicit(&ring->head, head, memory_order_release);
    return !has_room(ring, head, ring_size / 2);
}

bool
ob_log_ring_put(const struct bh_log_record *r)
{
    struct ob_log_ring *ring = mine != NULL ? mine : take_ring();
    size_t              size = bh_log_record_size(r);
    bool                wake;

    if (ring == NULL) {
        (void)atomic_fetch_add_explicit(&ob_log_dropped[BH_LOG_NO_RING], 1,
                                        memory_order_relaxed);
        return true;
    }
    if (atomic_load_explicit(&ring->busy, memory_order_relaxed)) {
        (void)atomic_fetch_add_explicit(&ob_log_dropped[BH_LOG_REENTRANT], 1,
                                        memory_order_relaxed);
        return false;
    }
    /* From here to the end only our own memory is touched: nothing can fault. */
    atomic_store_explicit(&ring->busy, true, memory_order_relaxed);
    atomic_signal_fence(memory_order_seq_cst);
    wake = put(ring, r, size);
    atomic_signal_fence(memory_order_seq_cst);
    atomic_store_explicit(&ring->busy, false, memory_order_relaxed);
    return wake;
}

/* ---- taking ---------------------------------------------------------------------- */

const struct bh_log_record *
ob_log_ring_first(struct ob_log_ring *ring, uint64_t head)
{
    uint64_t    tail = atomic_load_explicit(&ring->tail, memory_order_relaxed), word;
    const char *bytes = bytes_of(ring);
    size_t      at = tail & (ring_size - 1);

    if (tail == head)
        return NULL;
    memcpy(&word, bytes + at, WORD);
    if (word == SKIP) {
        atomic_store_explicit(&ring->tail, tail + ring_size - at, memory_order_release);
        at = 0;
    }
    return (const struct bh_log_record *)(const void *)(bytes + at + WORD);
}

void
ob_log_ring_pop(struct ob_log_ring *ring)
{
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed), word;

    memcpy(&word, bytes_of(ring) + (tail & (ring_size - 1)), WORD);
    atomic_store_explicit(&ring->tail, tail + word, memory_order_release);
}

void
ob_log_rings_reap(void)
{
    for (int i = 0; i < OB_RINGS; i++) {
        struct ob_log_ring *ring = &ob_log_rings[i];
        int32_t             owner = atomic_load_explicit(&ring->owner, memory_order_relaxed);

        if (owner == 0 || atomic_load_explicit(&ring->head, memory_order_acquire) !=
                              atomic_load_explicit(&ring->tail, memory_order_relaxed))
            continue;
        if (syscall(SYS_tgkill, getpid(), owner, 0) != 0 && errno == ESRCH)
            atomic_store_explicit(&ring->owner, 0, memory_order_release);
    }
}

uint64_t
ob_log_rings_waiting(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < OB_RINGS; i++) {
        uint64_t tail = atomic_load_explicit(&ob_log_rings[i].tail, memory_order_acquire);

        sum += atomic_load_explicit(&ob_log_rings[i].head, memory_order_acquire) - tail;
    }
    return sum;
}
