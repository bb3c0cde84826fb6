#ifndef BULKHEAD_RUNTIME_SYMBOL_H
#define BULKHEAD_RUNTIME_SYMBOL_H

/*
 * symbol.h -- PRIVATE: what lies at a code address (symbol.c, dwarf.c), and who
 * called it (unwind.c).
 *
 * Made for a process that is dying: no malloc, no lock, no loader, only open,
 * read and mmap, and memory laid in beforehand; so that it may run in a signal
 * handler after the heap has been destroyed.  The price is one user at a time:
 * whoever calls these holds the report lock (crash.c).
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    RT_MODULE_MAX = 192, /* files with code in them: program, libraries */
    RT_INLINE_MAX = 8,   /* functions inlined into each other at one address */
    RT_PATH_SIZE = 512
};

struct rt_bytes {
    const unsigned char *at, *end;
};

/* The DWARF sections of a file; empty where missing or compressed. */
struct rt_debug {
    struct rt_bytes info, aranges, abbrev, line, str, line_str, str_offsets, addr, ranges, rnglists;
};

struct rt_module {
    uintptr_t   lo, hi; /* all its mappings lie in between */
    uintptr_t   text_lo, text_hi;
    bool        headers_read; /* bias and unwind are known */
    uintptr_t   bias;   /* address in memory - address in the file */
    uintptr_t   unwind; /* .eh_frame_hdr in memory; 0: none */
    uintptr_t   frames, frames_end; /* then .eh_frame itself */
    const char *path;
    uint64_t    inode;
    int         opened; /* the file: 0 not tried, 1 mapped, -1 cannot be had */

    struct rt_bytes image; /* the file, mapped */
    struct rt_bytes symbols, strings;
    struct rt_debug debug;
};

/* A source-level place.  Strings lie in the module's file: good until rt_symbol_close. */
struct rt_place {
    const char *function;
    const char *root, *dir, *file; /* parts of the path; see rt_place_path */
    unsigned    line;              /* 0: unknown, or code that stands for no line */
};

struct rt_symbol {
    uintptr_t               pc;
    const struct rt_module *module; /* NULL: not in any file */
    uintptr_t               entry;  /* where its function starts; 0: unknown */
    int                     count;  /* places known; 0 if nothing is */
    struct rt_place         place[RT_INLINE_MAX]; /* innermost first; all but the last are inlined */
};

/* rt_symbol_open, close -- look at what is mapped now; unmap files. */
void rt_symbol_open(void);
void rt_symbol_close(void);

/* rt_symbol_find -- never NULL; good until the next call. */
const struct rt_symbol *rt_symbol_find(uintptr_t pc);

/* rt_module_of -- the module with code at pc, or NULL. */
const struct rt_module *rt_module_of(uintptr_t pc);

/* rt_mapping_end -- where the memory mapped around an address ends; 0: nothing is mapped there. */
uintptr_t rt_mapping_end(uintptr_t address);

/* rt_place_path -- join the parts of the path. Returns: text. */
const char *rt_place_path(const struct rt_place *p, char text[RT_PATH_SIZE]);

/* rt_symbol_is_ours -- whether the place lies in the runtime's own sources, tests excluded. */
bool rt_symbol_is_ours(const struct rt_place *p);

/* rt_dwarf_find -- fill s->place and s->count for an address in the file. (dwarf.c) */
bool rt_dwarf_find(const struct rt_debug *d, uint64_t address, struct rt_symbol *s);
void rt_dwarf_forget(void); /* files are being unmapped */

/* ---- unwind.c ----------------------------------------------------------- */

#if defined(__x86_64__)
enum { RT_REG_FP = 6, RT_REG_SP = 7, RT_REG_PC = 16, RT_REG_COUNT = 17 };
#elif defined(__aarch64__)
enum { RT_REG_FP = 29, RT_REG_LR = 30, RT_REG_SP = 31, RT_REG_PC = 32, RT_REG_COUNT = 33 };
#endif

/* The registers of a frame, by DWARF number; those whose bit in `known` is 0 are lost. */
struct rt_regs {
    uint64_t  known;
    uintptr_t r[RT_REG_COUNT];
};

/*
 * A walk outwards from regs.  Only [lo, hi) of the stack is read, in `copy` if
 * that is set (then copy[0] is the byte at lo).
 */
struct rt_walk {
    struct rt_regs       regs;
    uintptr_t            lo, hi;
    const unsigned char *copy;
    bool                 exact; /* regs.pc is an instruction itself, not a return address */
};

/*
 * rt_walk_lo -- where a walk that begins at sp may begin to read: the page of sp, and of it at
 * most what a function may use below its stack pointer.  Compilers go on saying that a
 * register lies on the stack after they have popped it.
 */
static inline uintptr_t
rt_walk_lo(uintptr_t sp)
{
    enum { RED_ZONE = 128, PAGE = 4096 };
    uintptr_t page = sp & ~(uintptr_t)(PAGE - 1);

    return sp - page > RED_ZONE ? sp - RED_ZONE : page;
}

/* rt_walk_next -- step to the caller.  Returns: false at the end, or when nothing plausible is there. */
bool rt_walk_next(struct rt_walk *w);

/*
 * rt_walk_next_in -- the same by modules that the caller knows: for whoever does not hold the
 * report lock.  module_of: the module with code at pc, or NULL.
 */
typedef const struct rt_module *rt_module_fn(uintptr_t pc);
bool rt_walk_next_in(struct rt_walk *w, rt_module_fn *module_of);

/*
 * rt_unwind_step -- the same by the tables of a known module, for a handler that
 * may not use rt_module_of: no state, so any number of users.
 * Returns: false if the tables do not help; *end: because they say that this is the last frame.
 */
bool rt_unwind_step(const struct rt_module *m, struct rt_walk *w, bool *end);

/*
 * What the tables say of most places: the CFA is the stack or the frame pointer plus `cfa`, the
 * return address lies below it, and the caller's frame pointer `fp` below; 0: it is unchanged.
 */
struct rt_plain_rule {
    bool     by_fp;
    uint32_t cfa, fp; /* less than 2^23 */
};

/* rt_unwind_plain -- the rule for the code at pc.  Returns: false if it is not so plain. */
bool rt_unwind_plain(const struct rt_module *m, uintptr_t pc, struct rt_plain_rule *rule);

/* rt_unwind_function -- where the function at pc starts and ends.  Returns: false if unknown. */
bool rt_unwind_function(const struct rt_module *m, uintptr_t pc, uintptr_t *start, uintptr_t *end);

static inline void
rt_regs_set(struct rt_regs *regs, int reg, uintptr_t value)
{
    regs->r[reg] = value;
    regs->known |= UINT64_C(1) << reg;
}

/* rt_regs_parked -- of a goroutine that rt_switch left at sp (stack memory at `at`). */
void rt_regs_parked(struct rt_regs *regs, uintptr_t sp, const void *at);
/* rt_regs_context -- of a signal handler's third argument. */
void rt_regs_context(struct rt_regs *regs, const void *ucontext);
enum { RT_PARKED_SIZE = 176 }; /* bytes that rt_regs_parked may read */

/* rt_regs_caller -- of the function that calls the function this is written in. */
#define rt_regs_caller(regs)                                                                   \
    do {                                                                                       \
        (regs)->known = 0;                                                                     \
        rt_regs_set((regs), RT_REG_PC, (uintptr_t)__builtin_return_address(0));                \
        rt_regs_set((regs), RT_REG_SP, (uintptr_t)__builtin_dwarf_cfa());                      \
        rt_regs_set((regs), RT_REG_FP, *(const uintptr_t *)__builtin_frame_address(0));        \
    } while (0)

#endif
