/*
 * blame.c -- whose fault: the application's or libc's, and is libc to be left?
 *
 * A function that is jumped out of must not hold a lock: after a recovered fault
 * inside printf every other thread's printf blocks for ever.  But strlen(NULL)
 * holds none, and is the caller's fault.  So we keep lists of libc's functions
 * that hold no lock while they touch their caller's memory or call it back, and
 * treat every other as if it held one.  Where the application's call into libc
 * counts, not the function that happened to fault: strlen called by printf is
 * printf.
 *
 * Which function a pc lies in must be known without libc's local symbols, which
 * are stripped: strlen is a choice of five variants with private names.  The
 * loader tells the entry of the one it has chosen (dlsym); .eh_frame tells where
 * that function starts and ends.  The ranges are put in a sorted table at the
 * start, so that a handler needs a binary search and no lock.
 *
 * Some functions jump into a private one that does the work (strtol).  Then pc
 * lies in no function of the table, but the application's call instruction
 * still names the one it called: called_by reads it there.
 *
 * Libraries are found once, before the first goroutine.  What is loaded later is
 * application code; allocators and sanitizers count as libc.  In a static
 * program everything is application code.
 */

#include "blame.h"

#include <dlfcn.h>
#include <link.h>
#include <string.h>

#include "runtime.h"

enum { LIBRARY_MAX = 16, RANGE_MAX = 512, WALK_MAX = 32, FRAMES_MAX = 4096 };

static struct rt_module libraries[LIBRARY_MAX];
static int              library_count;
static uintptr_t        libraries_lo = UINTPTR_MAX, libraries_hi; /* all lie in between */

enum locks { MAY_LOCK, ALLOCATES, LOCK_FREE };

struct range {
    uintptr_t  lo, hi;
    enum locks locks;
};
static struct range ranges[RANGE_MAX]; /* the functions listed below, by address */
static int          range_count;

/* Beginnings of file names. */
static const char *const library_names[] = {
    "libc.so", "libc-2",     "ld-linux",    "ld-2",        "ld-musl",     "libpthread",
    "libdl.",  "linux-vdso", "libjemalloc", "libtcmalloc", "libmimalloc", "libasan",
    "libtsan", "libubsan",   "liblsan",     "libclang_rt", "vgpreload",
};

/* Functions of libc that take no lock, nor does anything they call. */
/* clang-format off */
static const char *const lock_free[] = {
    "bcmp", "bcopy", "bzero", "explicit_bzero", "memccpy", "memchr", "memcmp", "memcpy",
    "memfrob", "memmem", "memmove", "mempcpy", "memrchr", "memset", "rawmemchr", "swab",
    "index", "rindex", "stpcpy", "stpncpy", "strcasecmp", "strcasecmp_l", "strcasestr",
    "strcat", "strchr", "strchrnul", "strcmp", "strcpy", "strcspn", "strlen", "strncasecmp",
    "strncasecmp_l", "strncat", "strncmp", "strncpy", "strnlen", "strpbrk", "strrchr", "strsep",
    "strspn", "strstr", "strtok", "strtok_r", "strverscmp", "strlcpy", "strlcat", "wcscat",
    "wcschr", "wcscmp", "wcscpy", "wcscspn", "wcslen", "wcsncat", "wcsncmp", "wcsncpy",
    "wcsnlen", "wcspbrk", "wcsrchr", "wcsspn", "wcsstr", "wcstok", "wmemchr", "wmemcmp",
    "wmemcpy", "wmemmove", "wmemset", "__memcpy_chk", "__memmove_chk", "__mempcpy_chk",
    "__memset_chk", "__stpcpy_chk", "__stpncpy_chk", "__strcat_chk", "__strcpy_chk",
    "__strncat_chk", "__strncpy_chk", "__explicit_bzero_chk", "atof", "atoi", "atol", "atoll",
    "strtod", "strtof", "strtold", "strtol", "strtoll", "strtoul", "strtoull", "strtoimax",
    "strtoumax", "__isoc23_strtol", "__isoc23_strtoll", "__isoc23_strtoul", "__isoc23_strtoull",
    "a64l", "div", "ldiv", "lldiv", "imaxdiv", "inet_aton", "inet_addr", "inet_ntop",
    "inet_pton", "basename", "__xpg_basename", "dirname", "time", "gettimeofday",
    "clock_gettime", "sigaddset", "sigdelset", "sigismember", "sigemptyset", "sigfillset",
    "getenv", "bsearch", "lfind", "lsearch", "tfind", "twalk", "twalk_r", "insque", "remque",
};

/* Those that take none themselves, but allocate memory. */
static const char *const allocating[] = {
    "qsort", "qsort_r", "strcoll", "strdup", "strndup", "strxfrm", "tdelete", "tsearch",
    "wcscoll", "wcsdup", "wcsxfrm",
};
/* clang-format on */

/* ---- the tables ------------------------------------------------------------ */

static const struct rt_module *
library_of(uintptr_t pc)
{
    if (rt_likely(pc < libraries_lo || pc >= libraries_hi))
        return NULL;
    for (int i = 0; i < library_count; i++)
        if (pc >= libraries[i].text_lo && pc < libraries[i].text_hi)
            return &libraries[i];
    return NULL;
}

bool
rt_blame_is_application(uintptr_t pc)
{
    return library_of(pc) == NULL;
}

/* Kernel code that the kernel maps into every process: it has no locks. */
static bool
is_vdso(const struct rt_module *m)
{
    return strncmp(m->path, "linux-vdso", 10) == 0;
}

static const char *
watched_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    const char *name = slash != NULL ? slash + 1 : path;

    for (size_t i = 0; i < sizeof library_names / sizeof *library_names; i++)
        if (strncmp(name, library_names[i], strlen(library_names[i])) == 0)
            return library_names[i];
    return NULL;
}

static int
add_library(struct dl_phdr_info *info, size_t size, void *arg)
{
    const char       *name = info->dlpi_name != NULL ? watched_name(info->dlpi_name) : NULL;
    struct rt_module *m = &libraries[library_count];

    (void)size;
    (void)arg;
    if (name == NULL || library_count == LIBRARY_MAX)
        return 0;
    *m = (struct rt_module){ .lo = UINTPTR_MAX, .text_lo = UINTPTR_MAX, .path = name };
    m->bias = info->dlpi_addr;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t lo = info->dlpi_addr + p->p_vaddr, hi = lo + p->p_memsz;

        if (p->p_type == PT_GNU_EH_FRAME)
            m->unwind = lo;
        if (p->p_type != PT_LOAD)
            continue;
        m->lo = lo < m->lo ? lo : m->lo;
        m->hi = hi > m->hi ? hi : m->hi;
        if (p->p_flags & PF_X) {
            m->text_lo = lo < m->text_lo ? lo : m->text_lo;
            m->text_hi = hi > m->text_hi ? hi : m->text_hi;
        }
    }
    libraries_lo = m->text_lo < libraries_lo ? m->text_lo : libraries_lo;
    libraries_hi = m->text_hi > libraries_hi ? m->text_hi : libraries_hi;
    library_count++;
    return 0;
}

/* Put the function at `entry` in the table, if it is one of a watched library. */
static void
add_function(uintptr_t entry, enum locks locks)
{
    const struct rt_module *m = library_of(entry);
    struct range            r = { .locks = locks };
    int                     i = range_count;

    if (m == NULL || range_count == RANGE_MAX || !rt_unwind_function(m, entry, &r.lo, &r.hi))
        return;
    while (i > 0 && ranges[i - 1].lo > r.lo)
        i--;
    if (i > 0 && ranges[i - 1].lo == r.lo)
        return;
    memmove(&ranges[i + 1], &ranges[i], (size_t)(range_count - i) * sizeof r);
    ranges[i] = r;
    range_count++;
}

static void
add_functions(const char *const *names, size_t count, void *libc, enum locks locks)
{
    for (size_t i = 0; i < count; i++) {
        /* Twice: an interceptor of a sanitizer may stand before libc's own. */
        add_function((uintptr_t)dlsym(RTLD_DEFAULT, names[i]), locks);
        if (libc != NULL)
            add_function((uintptr_t)dlsym(libc, names[i]), locks);
    }
}

static enum locks
locks_of(uintptr_t pc)
{
    int lo = 0, hi = range_count; /* the first range beyond pc is in [lo, hi] */

    while (lo < hi) {
        int middle = (lo + hi) / 2;

        if (ranges[middle].lo <= pc)
            lo = middle + 1;
        else
            hi = middle;
    }
    return lo > 0 && pc < ranges[lo - 1].hi ? ranges[lo - 1].locks : MAY_LOCK;
}

void
rt_blame_init(void)
{
    void *libc;

    library_count = range_count = 0;
    dl_iterate_phdr(add_library, NULL);
    if (library_count == 0)
        return;
    libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
    add_functions(lock_free, sizeof lock_free / sizeof *lock_free, libc, LOCK_FREE);
    add_functions(allocating, sizeof allocating / sizeof *allocating, libc, ALLOCATES);
    if (libc != NULL)
        dlclose(libc);
}

/* ---- walking --------------------------------------------------------------- */

#if defined(__x86_64__)

static int32_t
displacement(uintptr_t at)
{
    int32_t n;

    memcpy(&n, (const void *)at, sizeof n);
    return n;
}

/* What the call instruction before `back` calls, through a PLT or not; 0 if unclear. */
static uintptr_t
called_by(uintptr_t back)
{
    const unsigned char *p = (const unsigned char *)back;
    uintptr_t            to;

    if (p[-6] == 0xff && p[-5] == 0x15) /* call *slot(%rip) */
        return *(const uintptr_t *)(back + (uintptr_t)(intptr_t)displacement(back - 4));
    if (p[-5] != 0xe8) /* call */
        return 0;
    to = back + (uintptr_t)(intptr_t)displacement(back - 4);
    p = (const unsigned char *)to;
    if (p[0] == 0xf3 && p[1] == 0x0f && p[2] == 0x1e && p[3] == 0xfa) /* endbr64 */
        p += 4;
    if (p[0] == 0xf2) /* bnd */
        p++;
    if (p[0] != 0xff || p[1] != 0x25) /* jmp *slot(%rip) */
        return to;
    to = (uintptr_t)p + 6;
    return *(const uintptr_t *)(to + (uintptr_t)(intptr_t)displacement(to - 4));
}

/* Where the return address lay that the frame whose caller is w used. */
static uintptr_t *
return_slot(const struct rt_walk *inner, const struct rt_walk *w)
{
    (void)inner;
    return (uintptr_t *)(w->regs.r[RT_REG_SP] - sizeof(uintptr_t));
}

#elif defined(__aarch64__)

static uint32_t
instruction(uintptr_t at)
{
    uint32_t n;

    memcpy(&n, (const void *)at, sizeof n);
    return n;
}

static uintptr_t
called_by(uintptr_t back)
{
    uint32_t  call = instruction(back - 4), page, load;
    uintptr_t to;
    int64_t   pages;

    if (call >> 26 != 0x25) /* bl */
        return 0;
    to = back - 4 + (uintptr_t)(intptr_t)((int32_t)(call << 6) >> 4);
    page = instruction(to);
    if (page == 0xd503245f) { /* bti c */
        to += 4;
        page = instruction(to);
    }
    load = instruction(to + 4);
    /* adrp x16, page; ldr x17, [x16, #offset] */
    if ((page & 0x9f00001f) != 0x90000010 || (load & 0xffc003ff) != 0xf9400211)
        return to;
    pages = ((int32_t)((page >> 5 & 0x7ffff) << 13) >> 13) * 4 + (int32_t)(page >> 29 & 3);
    return *(const uintptr_t *)((to & ~(uintptr_t)0xfff) + (uintptr_t)(pages * RT_PAGE) +
                                (load >> 10 & 0xfff) * sizeof(uintptr_t));
}

static uintptr_t *
return_slot(const struct rt_walk *inner, const struct rt_walk *w)
{
    uintptr_t *slot = (uintptr_t *)(inner->regs.r[RT_REG_FP] + sizeof(uintptr_t));

    if ((uintptr_t)slot < inner->regs.r[RT_REG_SP] || (uintptr_t)slot >= w->regs.r[RT_REG_SP])
        return NULL;
    return *slot == w->regs.r[RT_REG_PC] ? slot : NULL;
}

#endif

bool
rt_blame_leave(struct rt_walk *w, uintptr_t **slot)
{
    bool                    inner = true; /* all frames but the outermost are lock-free */
    bool                    end = false;
    enum locks              outermost = LOCK_FREE;
    const struct rt_module *m;

    *slot = NULL;
    for (int i = 0; i < WALK_MAX; i++) {
        uintptr_t      pc = w->regs.r[RT_REG_PC] - (w->exact ? 0 : 1);
        struct rt_walk before = *w;

        m = library_of(pc);
        if (m == NULL) {
            if (outermost == MAY_LOCK)
                outermost = locks_of(called_by(pc + 1));
            w->regs.r[RT_REG_PC] = pc;
            w->exact = true;
            return outermost == LOCK_FREE || (outermost == ALLOCATES && inner);
        }
        inner = inner && outermost == LOCK_FREE;
        outermost = is_vdso(m) ? LOCK_FREE : locks_of(pc);
        if (!rt_unwind_step(m, w, &end))
            return false;
        *slot = return_slot(&before, w);
    }
    return false;
}

/* Code that returns to pc in libc was called back: does the function that did hold no lock? */
static bool
leave_caller(uintptr_t pc, uintptr_t *fp, uintptr_t sp, uintptr_t lo, uintptr_t hi)
{
    struct rt_walk w = { .lo = lo, .hi = hi };
    bool           end = false;

    rt_regs_set(&w.regs, RT_REG_PC, pc);
    rt_regs_set(&w.regs, RT_REG_SP, sp);
    rt_regs_set(&w.regs, RT_REG_FP, *fp);
    for (int i = 0; i < WALK_MAX; i++) {
        uintptr_t               at = w.regs.r[RT_REG_PC] - 1;
        const struct rt_module *m = library_of(at);

        if (!rt_unwind_step(m, &w, &end))
            return false;
        *fp = w.regs.r[RT_REG_FP];
        if (library_of(w.regs.r[RT_REG_PC] - 1) == NULL)
            return locks_of(at) != MAY_LOCK ||
                   locks_of(called_by(w.regs.r[RT_REG_PC])) != MAY_LOCK;
    }
    return false;
}

/* Frames lie between variables, where a sanitizer sees nothing that may be read. */
__attribute__((no_sanitize("address"), no_sanitize("thread"))) bool
rt_blame_outer(uintptr_t fp, uintptr_t lo, uintptr_t hi)
{
    for (int i = 0; i < FRAMES_MAX; i++) {
        uintptr_t next, back;

        if (fp < lo || fp > hi - 2 * sizeof fp || fp % sizeof fp != 0)
            return true;
        next = ((const uintptr_t *)fp)[0];
        back = ((const uintptr_t *)fp)[1];
        if (rt_unlikely(library_of(back) != NULL) &&
            !leave_caller(back, &next, fp + 2 * sizeof fp, lo, hi))
            return false;
        if (next <= fp)
            return true;
        fp = next;
    }
    return true;
}
