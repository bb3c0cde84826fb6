/*
 * stack.c -- goroutine stacks: where they come from and where they go back to.
 *
 * Stacks are slots of equal stride in a few large mappings (slabs), reserved
 * with MAP_NORESERVE and committed page by page as they are touched.  There is
 * one set of slabs for each size class; each new slab of a class is twice the
 * size of the one before.  A slot, low to high:
 *
 *     hard guard   1 page    always traps; a fault here is fatal
 *     emergency    4 pages   traps until an overflow; then deferred calls run here
 *     soft guard   1 page    traps until an overflow
 *     usable       ...       grows down into the soft guard
 *     header       64 bytes  struct rt_stack, at the top, coloured
 *
 * The header and the frames of a parked goroutine share the top page, so that
 * a parked goroutine costs one page.  Tops are spread over the page in 64-byte
 * steps by slot number (the colour): otherwise the frames of all parked
 * goroutines would compete for the same sets of the cache.
 *
 * A free stack is in one of four places, tried in this order:
 *
 *     P's cache    a LIFO list, no lock
 *     hot          the class's shared LIFO list, in batches; memory still committed
 *     cold         slot numbers only; their memory is given to the kernel
 *                  (MADV_FREE), header included, which is why they are numbers
 *     fresh        P's own run of slots with guards that nobody has used
 *
 * and then the next slots of the slab get their guards.  A P spills half its
 * cache to hot as one batch, and takes one back.  The monitor moves from hot to
 * cold, now and then, what has not been wanted since it last looked (the low-water
 * mark), but for a small reserve: goroutines never wait for that.
 *
 * Guards.  MADV_GUARD_INSTALL (Linux 6.13) puts them into the page tables
 * without splitting the mapping: a million guarded stacks are a handful of
 * mappings.  They are installed for many slots at once by process_madvise, or
 * one by one where that is refused.  On older kernels mprotect does it; then
 * each stack costs two of the kernel's vm.max_map_count mappings, so we count
 * them, say so once when there are no more, and give NULL.
 *
 * Locks: class->lock protects the class's lists and its place in the slab;
 * it is the innermost lock.  Slab descriptors are written before slab_count
 * says that they exist and never change or go away, so rt_stack_of needs no
 * lock and may run in a signal handler; only their cold lists change, under
 * the class's lock.  No system call is made under a lock.
 */

#include "runtime.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#if defined(__has_include)
#if __has_include(<valgrind/valgrind.h>)
#include <valgrind/valgrind.h>
#endif
#endif
#ifndef RUNNING_ON_VALGRIND
#define RUNNING_ON_VALGRIND             0
#define VALGRIND_STACK_REGISTER(lo, hi) 0
#endif
#ifdef RT_ASAN
#include <sanitizer/asan_interface.h>
#else
#define __asan_unpoison_memory_region(start, size) ((void)(start), (void)(size))
#endif

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE  103
#endif
#ifndef PIDFD_SELF_THREAD_GROUP
#define PIDFD_SELF_THREAD_GROUP (-10001)
#endif
#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif

enum {
    GUARD_SIZE = RT_STACK_GUARD_PAGES * RT_PAGE,
    LIFT_SIZE = GUARD_SIZE - RT_PAGE, /* emergency pages and soft guard */
    COLOURS = 16,
    COLOUR_STEP = RT_CACHE_LINE,
    OVERHEAD = 32 * 1024, /* of a slot beyond its usable size: guards, header, colour, rest */
    MAX_SLABS = 512,
    SCAVENGE = 1024, /* stacks made cold in one go: about 1 ms */
    MAX_BATCH = 64,  /* slots per process_madvise; the list is on a goroutine's stack */
};

_Static_assert(sizeof(struct rt_stack) <= RT_CACHE_LINE, "the header is one cache line");
_Static_assert(GUARD_SIZE + COLOURS * COLOUR_STEP + RT_CACHE_LINE <= OVERHEAD, "overhead");

#if defined(__x86_64__)
enum { CHECKPOINT_SP = 6 }; /* in bh_checkpoint.reg: see switch_*.S */
#elif defined(__aarch64__)
enum { CHECKPOINT_SP = 20 };
#endif

static const size_t FIRST_SLAB = (size_t)1 << 30;
static const size_t LAST_SLAB = (size_t)1 << 38;
static const size_t RESERVE = (size_t)64 << 20; /* left in hot: bytes of address space */

/* Class 0 is for the many; the others hold a round number of usable bytes. */
static const size_t strides[RT_STACK_CLASSES] = {
    64 << 10,
    (64 << 10) + OVERHEAD,
    (128 << 10) + OVERHEAD,
    (256 << 10) + OVERHEAD,
    (512 << 10) + OVERHEAD,
    (1 << 20) + OVERHEAD,
    (8 << 20) + OVERHEAD,
    (64 << 20) + OVERHEAD,
};

struct slab {
    char     *base;
    char     *end;        /* of the slots */
    uint32_t *cold;       /* slot numbers; behind the slots */
    uint32_t  cold_count; /* under the class's lock */
    uint8_t   size_class;
};

struct class {
    struct rt_lock   lock;
    struct rt_stack *hot;        /* batches */
    _Atomic uint32_t hot_count;  /* stacks */
    uint32_t         hot_low;    /* least hot_count since the monitor looked */
    _Atomic uint32_t cold_count; /* sum over the class's slabs */
    char            *next, *end; /* slots of the newest slab without guards */
    size_t           slab_size;  /* to ask for next time */
    uint32_t         made;       /* slots taken from slabs */
};

enum guard_mode { GUARD_BATCHED, GUARD_MADVISE, GUARD_MPROTECT };

static struct class classes[RT_STACK_CLASSES];
static struct slab      slabs[MAX_SLABS];
static _Atomic uint32_t slab_count;
static struct rt_lock   slab_lock; /* appending to slabs; inside no class's lock */
static uint8_t          default_class;
static _Atomic int      guard_mode;
static _Atomic long     mprotect_left; /* stacks that mprotect may still guard */
static _Atomic bool     said_limit;

/* ---- classes ------------------------------------------------------------ */

size_t
rt_stack_usable(uint8_t size_class)
{
    return strides[size_class] - (size_class == 0 ? OVERHEAD - RT_PAGE : OVERHEAD);
}

uint8_t
rt_stack_class(size_t usable_size)
{
    uint8_t c = 0;

    if (usable_size == 0)
        return default_class;
    while (c < RT_STACK_CLASSES - 1 && rt_stack_usable(c) < usable_size)
        c++;
    return c;
}

/* How many stacks of a class a P keeps, and moves at a time. */
static uint32_t
cache_batch(uint8_t c)
{
    size_t n = ((size_t)2 << 20) / strides[c];

    return n < 1 ? 1 : (uint32_t)n;
}

/* ---- slabs -------------------------------------------------------------- */

static struct slab *
slab_of(uintptr_t addr)
{
    uint32_t n = atomic_load_explicit(&slab_count, memory_order_acquire);

    while (n-- > 0)
        if (addr >= (uintptr_t)slabs[n].base && addr < (uintptr_t)slabs[n].end)
            return &slabs[n];
    return NULL;
}

uintptr_t
rt_stack_of(uintptr_t addr)
{
    struct slab *s = slab_of(addr);

    return s == NULL ? 0 : addr - (addr - (uintptr_t)s->base) % strides[s->size_class];
}

/* Bytes of the cold list, whole pages. */
static size_t
list_size(const struct slab *s)
{
    size_t slots = (size_t)(s->end - s->base) / strides[s->size_class];

    return (slots * sizeof(uint32_t) + RT_PAGE - 1) & ~(size_t)(RT_PAGE - 1);
}

/* Map a slab of at most `size` bytes, less if the kernel will not give so much. */
static bool
map_slab(uint8_t c, size_t size, struct slab *out)
{
    size_t stride = strides[c];

    for (; size / stride >= 1; size /= 2) {
        size_t length = size / stride * stride;

        *out = (struct slab){ .end = (char *)length, .size_class = c };
        out->base = mmap(NULL, length + list_size(out), PROT_READ | PROT_WRITE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (out->base == MAP_FAILED)
            continue;
        out->end = out->base + length;
        out->cold = (uint32_t *)(void *)out->end;
        /* A huge page would commit the whole of a stack, and its neighbours'. */
        (void)madvise(out->base, length, MADV_NOHUGEPAGE);
        return true;
    }
    return false;
}

/* Give the class a new slab, unless another thread has just done so. */
static bool
grow(uint8_t c)
{
    struct class *class = &classes[c];
    struct slab s;
    size_t      size;
    uint32_t    n;
    bool        mine;

    rt_lock(&class->lock);
    size = class->slab_size != 0 ? class->slab_size : FIRST_SLAB;
    rt_unlock(&class->lock);
    if (!map_slab(c, size > strides[c] * 4 ? size : strides[c] * 4, &s))
        return false;
    rt_lock(&class->lock);
    mine = class->next == class->end;
    if (mine) {
        rt_lock(&slab_lock);
        n = atomic_load_explicit(&slab_count, memory_order_relaxed);
        mine = n < MAX_SLABS;
        if (mine) {
            slabs[n] = s;
            atomic_store_explicit(&slab_count, n + 1, memory_order_release);
            class->next = s.base;
            class->end = s.end;
            class->slab_size = size < LAST_SLAB ? size * 2 : size;
        }
        rt_unlock(&slab_lock);
    }
    n = class->next != class->end;
    rt_unlock(&class->lock);
    if (!mine)
        munmap(s.base, (size_t)(s.end - s.base) + list_size(&s));
    return n != 0;
}

/* ---- guards ------------------------------------------------------------- */

static void
say_limit(void)
{
    char     text[200];
    uint32_t made = 0;
    int      n;

    if (atomic_exchange(&said_limit, true))
        return;
    for (int c = 0; c < RT_STACK_CLASSES; c++)
        made += classes[c].made;
    n = snprintf(text, sizeof text,
                 "bulkhead: no more goroutine stacks: %u guarded by mprotect is the limit here "
                 "(raise vm.max_map_count, or use Linux 6.13)\n",
                 made);
    (void)!write(STDERR_FILENO, text, (size_t)n);
}

/* The kernel has no guard markers: count what mprotect can give. */
static void
fall_back_to_mprotect(void)
{
    char text[32] = "";
    long maps = 65530;
    int  fd = open("/proc/sys/vm/max_map_count", O_RDONLY | O_CLOEXEC);

    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) > 0) {
            maps = 0;
            for (const char *p = text; *p >= '0' && *p <= '9'; p++)
                maps = maps * 10 + (*p - '0');
        }
        close(fd);
    }
    /* Two mappings a stack; leave some for the application, at least 1,024. */
    atomic_store(&mprotect_left, maps < 4096 ? maps / 4 : (maps - 1024 - maps / 16) / 2);
    atomic_store(&guard_mode, GUARD_MPROTECT);
}

/* Advise `count` ranges of equal size.  False: errno says why. */
static bool
advise(const struct iovec *ranges, uint32_t count, int advice)
{
    ssize_t whole = (ssize_t)(count * ranges[0].iov_len);

    if (atomic_load_explicit(&guard_mode, memory_order_relaxed) == GUARD_BATCHED && count > 1) {
        if (syscall(SYS_process_madvise, PIDFD_SELF_THREAD_GROUP, ranges, (size_t)count, advice,
                    0) == whole)
            return true;
        atomic_store(&guard_mode, GUARD_MADVISE);
    }
    for (uint32_t i = 0; i < count; i++)
        if (madvise(ranges[i].iov_base, ranges[i].iov_len, advice) != 0)
            return false;
    return true;
}

/* Guard `count` slots.  Returns: how many of them, from the first, are guarded. */
static uint32_t
guard(char *first, size_t stride, uint32_t count)
{
    struct iovec ranges[MAX_BATCH];

    if (atomic_load(&guard_mode) != GUARD_MPROTECT) {
        for (uint32_t i = 0; i < count; i++)
            ranges[i] = (struct iovec){ first + i * stride, GUARD_SIZE };
        return advise(ranges, count, MADV_GUARD_INSTALL) ? count : 0;
    }
    for (uint32_t i = 0; i < count; i++)
        if (atomic_fetch_sub(&mprotect_left, 1) <= 0 ||
            mprotect(first + i * stride, GUARD_SIZE, PROT_NONE) != 0) {
            atomic_fetch_add(&mprotect_left, 1);
            say_limit();
            return i;
        }
    return count;
}

/* Open or close the pages from the `first` one to the soft guard.  Async-signal-safe. */
static bool
set_guards(struct rt_stack *s, int first, bool close)
{
    char  *from = s->lo + first * RT_PAGE;
    size_t size = (size_t)(RT_STACK_GUARD_PAGES - first) * RT_PAGE;

    if (atomic_load(&guard_mode) == GUARD_MPROTECT)
        return mprotect(from, size, close ? PROT_NONE : PROT_READ | PROT_WRITE) == 0;
    return madvise(from, size, close ? MADV_GUARD_INSTALL : MADV_GUARD_REMOVE) == 0;
}

static void
note_guards(struct rt_stack *s, bool all, bool half_open)
{
    atomic_store_explicit(&s->guarded, all, memory_order_relaxed);
    s->half_open = half_open;
}

bool
rt_stack_lift_soft(struct rt_stack *s)
{
    if (!set_guards(s, 1, false))
        return false;
    note_guards(s, false, false);
    return true;
}

bool
rt_stack_lift_half(struct rt_stack *s)
{
    if (!set_guards(s, RT_STACK_HALF_PAGE, false))
        return false;
    note_guards(s, false, true);
    return true;
}

bool
rt_stack_arm_soft(struct rt_stack *s)
{
    if (!set_guards(s, 1, true))
        return false;
    note_guards(s, true, false);
    return true;
}

/*
 * One system call and the landing, without touching the stack in between: its
 * pages are gone after the call.  The stack pointer is moved to the landing
 * frame first, so that a signal in between finds a stack.
 */
void
rt_stack_land(struct rt_stack *s, const struct bh_checkpoint *at)
{
    bool      protect = atomic_load(&guard_mode) == GUARD_MPROTECT;
    long      call = protect ? SYS_mprotect : SYS_madvise;
    long      advice = protect ? PROT_NONE : MADV_GUARD_INSTALL;
    uintptr_t sp = at->reg[CHECKPOINT_SP];

    if (sp < (uintptr_t)s->soft + 2 * RT_PAGE || sp > (uintptr_t)s->top)
        return;
    __asan_unpoison_memory_region(s->lo + RT_PAGE, LIFT_SIZE);
    note_guards(s, true, false);
#if defined(__x86_64__)
    __asm__ volatile("movq %[sp], %%rsp\n\tsyscall\n\tmovq %[at], %%rdi\n\tjmp rt_resume"
                     :
                     : [sp] "r"(sp), [at] "b"(at), "a"(call), "D"(s->lo + RT_PAGE),
                       "S"((long)LIFT_SIZE), "d"(advice)
                     : "rcx", "r11", "memory");
#elif defined(__aarch64__)
    register long  x8 __asm__("x8") = call;
    register void *x0 __asm__("x0") = s->lo + RT_PAGE;
    register long  x1 __asm__("x1") = LIFT_SIZE;
    register long  x2 __asm__("x2") = advice;

    __asm__ volatile("mov sp, %[sp]\n\tsvc #0\n\tmov x0, %[at]\n\tb rt_resume"
                     : "+r"(x0)
                     : [sp] "r"(sp), [at] "r"(at), "r"(x8), "r"(x1), "r"(x2)
                     : "memory");
#endif
    __builtin_unreachable();
}

/* Let the kernel read a page.  An emulator may accept the advice and ignore it. */
static bool
traps(const char *page)
{
    enum { KERNEL_SIGSET_SIZE = 8 };

    return syscall(SYS_rt_sigprocmask, SIG_BLOCK, page, NULL, KERNEL_SIGSET_SIZE) != 0 &&
           errno == EFAULT;
}

void
rt_stack_init(size_t default_size)
{
    char *page;

    if (sysconf(_SC_PAGESIZE) != RT_PAGE)
        rt_throw("page size %ld is not supported", sysconf(_SC_PAGESIZE));
    default_class = default_size == 0 ? 0 : rt_stack_class(default_size);
    page = mmap(NULL, RT_PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        rt_throw("out of memory");
    if (madvise(page, RT_PAGE, MADV_GUARD_INSTALL) != 0)
        fall_back_to_mprotect();
    else if (RUNNING_ON_VALGRIND) /* has no process_madvise, and dies of a pointer to a guard */
        atomic_store(&guard_mode, GUARD_MADVISE);
    else if (!traps(page))
        fall_back_to_mprotect();
    munmap(page, RT_PAGE);
}

int64_t
rt_stack_limit(void)
{
    return atomic_load(&guard_mode) == GUARD_MPROTECT ? atomic_load(&mprotect_left) : INT64_MAX;
}

/* ---- slots -------------------------------------------------------------- */

/* Write the header of a slot that has none: fresh or cold. */
static struct rt_stack *
make(uint8_t c, char *lo)
{
    size_t colour = ((size_t)(lo - slab_of((uintptr_t)lo)->base) / strides[c]) % COLOURS;
    char  *hi = lo + strides[c];
    struct rt_stack *s = (struct rt_stack *)(void *)(hi - colour * COLOUR_STEP - RT_CACHE_LINE);

    s->lo = lo;
    s->soft = lo + GUARD_SIZE - RT_PAGE;
    s->top = (char *)s;
    s->size_class = c;
    note_guards(s, true, false);
    s->valgrind_id = VALGRIND_STACK_REGISTER(lo, hi);
    return s;
}

/* The next run of slots of the class, guarded, becomes P's own. */
static bool
refill_fresh(struct rt_p *p, uint8_t c)
{
    struct class *class = &classes[c];
    size_t   stride = strides[c];
    uint32_t n, guarded;
    char    *first;

    for (;;) {
        rt_lock(&class->lock);
        /* Few at first, then a quarter of what there is. */
        n = class->made / 4;
        n = n < cache_batch(c) / 2 ? cache_batch(c) / 2 : n;
        n = n < 1 ? 1 : n > MAX_BATCH ? MAX_BATCH : n;
        if (n > (uint32_t)((size_t)(class->end - class->next) / stride))
            n = (uint32_t)((size_t)(class->end - class->next) / stride);
        first = class->next;
        if (n > 0)
            class->next += n * stride;
        class->made += n;
        rt_unlock(&class->lock);
        if (n > 0)
            break;
        if (!grow(c))
            return false;
    }
    guarded = guard(first, stride, n);
    p->fresh[c] = first;
    p->fresh_end[c] = first + guarded * stride;
    return p->fresh[c] != p->fresh_end[c];
}

/* Take a batch from hot.  Returns: its first, with its batch_count; or NULL. */
static struct rt_stack *
take_hot(struct class *class)
{
    struct rt_stack *first;
    uint32_t         left;

    if (atomic_load_explicit(&class->hot_count, memory_order_relaxed) == 0)
        return NULL;
    rt_lock(&class->lock);
    first = class->hot;
    if (first != NULL) {
        class->hot = first->batch;
        left = atomic_load(&class->hot_count) - first->batch_count;
        atomic_store_explicit(&class->hot_count, left, memory_order_relaxed);
        if (left < class->hot_low)
            class->hot_low = left;
    }
    rt_unlock(&class->lock);
    return first;
}

/* A cold slot of the class, or NULL. */
static char *
take_cold(uint8_t c)
{
    struct class *class = &classes[c];
    char    *lo = NULL;
    uint32_t n = atomic_load_explicit(&slab_count, memory_order_acquire);

    if (atomic_load_explicit(&class->cold_count, memory_order_relaxed) == 0)
        return NULL;
    rt_lock(&class->lock);
    while (lo == NULL && n-- > 0) {
        struct slab *s = &slabs[n];

        if (s->size_class == c && s->cold_count > 0) {
            lo = s->base + s->cold[--s->cold_count] * strides[c];
            atomic_fetch_sub_explicit(&class->cold_count, 1, memory_order_relaxed);
        }
    }
    rt_unlock(&class->lock);
    return lo;
}

struct rt_stack *
rt_stack_get(struct rt_p *p, uint8_t c)
{
    struct rt_stack *s;
    char            *lo;

    s = p->stacks[c];
    if (rt_unlikely(s == NULL)) {
        s = take_hot(&classes[c]);
        if (s != NULL)
            p->stack_count[c] = s->batch_count;
    }
    if (rt_likely(s != NULL)) {
        p->stacks[c] = s->next;
        p->stack_count[c]--;
        return s;
    }
    lo = take_cold(c);
    if (lo == NULL) {
        if (p->fresh[c] == p->fresh_end[c] && !refill_fresh(p, c))
            return NULL;
        lo = p->fresh[c];
        p->fresh[c] += strides[c];
    }
    return make(c, lo);
}

/* ---- giving back -------------------------------------------------------- */

/* Move n stacks, the least recently cached ones, from P's cache to hot. */
static void
spill(struct rt_p *p, uint8_t c, uint32_t n)
{
    struct class *class = &classes[c];
    struct rt_stack **link = &p->stacks[c], *first;
    uint32_t          kept = p->stack_count[c] - n;

    for (uint32_t i = 0; i < kept; i++)
        link = &(*link)->next;
    first = *link;
    *link = NULL;
    p->stack_count[c] = kept;
    first->batch_count = n;
    rt_lock(&class->lock);
    first->batch = class->hot;
    class->hot = first;
    atomic_fetch_add_explicit(&class->hot_count, n, memory_order_relaxed);
    rt_unlock(&class->lock);
}

void
rt_stack_put(struct rt_p *p, struct rt_stack *s)
{
    uint8_t c = s->size_class;

    if (rt_unlikely(atomic_load_explicit(&s->guarded, memory_order_relaxed) == 0))
        (void)rt_stack_arm_soft(s);
    /* Frames that were left by a jump leave their red zones behind. */
    __asan_unpoison_memory_region(s->lo + RT_PAGE, (size_t)(s->top - s->lo) - RT_PAGE);
    s->next = p->stacks[c];
    p->stacks[c] = s;
    if (rt_unlikely(++p->stack_count[c] > 2 * cache_batch(c)))
        spill(p, c, cache_batch(c));
}

void
rt_stack_flush(struct rt_p *p)
{
    for (uint8_t c = 0; c < RT_STACK_CLASSES; c++)
        if (p->stack_count[c] > 0)
            spill(p, c, p->stack_count[c]);
}

/* ---- the monitor's part ---------------------------------------------------- */

/* Give the memory of a batch of stacks to the kernel, and keep their numbers. */
static void
chill(uint8_t c, struct rt_stack *first)
{
    struct class *class = &classes[c];
    struct iovec ranges[MAX_BATCH];
    uint32_t     n = 0;

    do {
        ranges[n++] = (struct iovec){ first->lo + GUARD_SIZE, strides[c] - GUARD_SIZE };
        first = first->next;
    } while (first != NULL && n < MAX_BATCH);
    (void)advise(ranges, n, MADV_FREE);
    for (uint32_t i = 0; i < n; i++) {
        struct slab *slab = slab_of((uintptr_t)ranges[i].iov_base);
        size_t       slot = (size_t)((char *)ranges[i].iov_base - slab->base) / strides[c];

        rt_lock(&class->lock);
        slab->cold[slab->cold_count++] = (uint32_t)slot;
        atomic_fetch_add_explicit(&class->cold_count, 1, memory_order_relaxed);
        rt_unlock(&class->lock);
    }
}

static bool
scavenge(uint8_t c, bool idle)
{
    struct class *class = &classes[c];
    uint32_t unwanted, reserve = (uint32_t)(RESERVE / strides[c]), done = 0;

    rt_lock(&class->lock);
    unwanted = idle ? atomic_load(&class->hot_count) : class->hot_low;
    rt_unlock(&class->lock);
    while (unwanted > reserve && done < SCAVENGE) {
        struct rt_stack *first = take_hot(class);
        uint32_t         n;

        if (first == NULL)
            break;
        n = first->batch_count;
        chill(c, first);
        done += n;
        unwanted = unwanted > n ? unwanted - n : 0;
    }
    rt_lock(&class->lock);
    class->hot_low = atomic_load_explicit(&class->hot_count, memory_order_relaxed);
    rt_unlock(&class->lock);
    return unwanted > reserve;
}

bool
rt_stack_scavenge(bool idle)
{
    bool more = false;

    if (RUNNING_ON_VALGRIND)
        return false; /* a cold stack would be registered again */
    for (uint8_t c = 0; c < RT_STACK_CLASSES; c++)
        more |= scavenge(c, idle);
    return more;
}

/* ---- counting -------------------------------------------------------------- */

/* Other threads write these as we read. */
__attribute__((no_sanitize("thread"))) void
rt_stack_count(int64_t *live, int64_t *cached, int64_t *bytes)
{
    *live = *cached = *bytes = 0;
    for (uint8_t c = 0; c < RT_STACK_CLASSES; c++) {
        struct class *class = &classes[c];
        int64_t       free = (int64_t)atomic_load(&class->hot_count);
        int64_t       made, unused = (int64_t)atomic_load(&class->cold_count);

        rt_lock(&class->lock);
        made = class->made;
        rt_unlock(&class->lock);
        for (int i = 0; i < rt_sched.proc_count; i++) {
            const struct rt_p *p = rt_sched.procs[i];

            free += p->stack_count[c];
            unused += (p->fresh_end[c] - p->fresh[c]) / (int64_t)strides[c];
        }
        if (made < free + unused)
            made = free + unused; /* read at different times */
        *cached += free;
        *live += made - free - unused;
        *bytes += (made - unused) * (int64_t)strides[c];
    }
}
