#ifndef BULKHEAD_GO_PANIC_H
#define BULKHEAD_GO_PANIC_H

/*
 * panic.h -- defer, panic and recover, with Go's rules.
 *
 *     BH_DEFER(fn, arg)     call fn(arg) when the enclosing block ends;
 *                           BH_DEFER_LATE: when the function does
 *     bh_panic(...)         stop the normal flow; deferred calls run, newest first
 *     BH_RECOVER(p) {...}   first statement of a function: handle a panic here
 *     bh_recover()          Go's own form, inside a deferred call; needs
 *     BH_RETURNS(result)    ... in the function that deferred it
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

struct bh_g;
struct bh_panic;
struct bh_record;

/*
 * A kind of panic value: its Go type name and how it is printed.
 *
 * error and string return the text of the value at `value` (error wins, as in
 * Go); they may yield, print, or panic.  Without them print writes the value
 * in the fashion of Go's print; without any, "(name) 0xADDRESS".
 */
struct bh_kind {
    const char *name;
    size_t      size; /* bytes copied into the panic, at most 16; 0: the pointer is kept */
    const char *(*error)(const void *value);     /* like an Error method */
    const char *(*string)(const void *value);    /* like a String method */
    void (*print)(const void *value, char *text, size_t size);
    bool        runtime_error;                   /* implements runtime.Error */
};

extern const struct bh_kind bh_kind_string;        /* value is const char * */
extern const struct bh_kind bh_kind_runtime_error; /* faults, failed checks; value is const char * */
extern const struct bh_kind bh_kind_nil;           /* bh_panic_value(NULL, NULL): PanicNilError */
extern const struct bh_kind bh_kind_int, bh_kind_int64, bh_kind_uint8, bh_kind_int32, bh_kind_uintptr;
extern const struct bh_kind bh_kind_bool, bh_kind_float64, bh_kind_complex128, bh_kind_error;

enum { BH_PANIC_TEXT = 512 }; /* bytes kept of a formatted text, its NUL included */

struct bh_panic {
    const struct bh_kind *kind;
    const void           *value; /* what was panicked with; see kind */
    const char           *text;  /* formatted message, never NULL; see bh_panic_text */
    const char           *file;  /* where bh_panic stood, or NULL for a fault */
    int                   line;
    int                   signal;     /* SIGSEGV, SIGFPE, SIGBUS, or 0 */
    int                   code;       /* its si_code */
    uintptr_t             fault_addr; /* the address touched */
    uintptr_t             pc;         /* where it was raised or faulted */
    uint64_t              goroutine;  /* id of the goroutine it was raised on */
    uint64_t              serial;     /* its number in this process, from 1; bh_repanic keeps it */
    const struct bh_panic *outer;     /* the panic this one interrupted, or NULL */
    unsigned char         payload_[16];
    char                  buffer_[BH_PANIC_TEXT];
};

/*
 * bh_panic -- stop this goroutine's normal flow with a formatted text.
 *
 * Deferred calls run newest first, on top of this stack, until one recovers or
 * a BH_RECOVER point in some caller takes control.  With neither, the process
 * reports and ends with status 2.  Not for expected conditions: return errors.
 */
#define bh_panic(...) bh_panic_at_(__FILE__, __LINE__, __VA_ARGS__)

/*
 * bh_panic_value -- panic with any value, printed by the rules of its kind.
 *
 * A value of kind->size bytes is copied; otherwise the pointer is kept and must
 * outlive the panic.  A NULL kind is Go's panic(nil): a PanicNilError.
 */
#define bh_panic_value(kind, value) bh_panic_value_at_(__FILE__, __LINE__, (kind), (value))

/* bh_repanic -- carry a recovered panic on outward: same value, marked "[recovered, repanicked]". */
noreturn void bh_repanic(const struct bh_panic *p);

/*
 * bh_panicking -- the panic whose deferred calls this goroutine is running, the newest; or NULL.
 *
 * For deferred calls that say how their function ended.  It recovers nothing.
 * Owns:    borrowed until the deferred call returns.
 * Threads: any; NULL on one that runs no goroutine.
 */
const struct bh_panic *bh_panicking(void);

/*
 * bh_panic_text -- the text of a panic as Go's %v prints its value.
 *
 * Calls the kind's error or string function.  Returns: never NULL.
 */
const char *bh_panic_text(const struct bh_panic *p);

/*
 * BH_DEFER -- call fn(arg) when the enclosing block ends, by return or by panic.
 *
 * fn takes one argument of at most a word; arg is evaluated now.  A record in
 * the caller's frame: no allocation, so it cannot fail.  Unlike Go's, its scope
 * is the block, not the function.  A NULL fn panics when it runs.
 *
 *     bh_mutex_lock(&s->lock);
 *     BH_DEFER(bh_mutex_unlock, &s->lock);
 */
#define BH_DEFER(fn, arg) BH_DEFER_(BH_UNIQUE(bh_defer_), fn, arg)

/*
 * BH_DEFER_LATE -- call fn(arg) when the enclosing BH_DEFER_SCOPE ends: Go's function scope.
 *
 * For calls deferred in a loop or a branch, any number of them, run newest
 * first; their order to the function's own BH_DEFERs is not kept.  Each takes a
 * little memory.  BH_DEFER_SCOPE stands at the function's top, after a
 * BH_RECOVER or BH_RETURNS.
 *
 *     BH_DEFER_SCOPE;
 *     for (int i = 0; i < n; i++)
 *         BH_DEFER_LATE(bh_conn_free, dial(i));
 *
 * Panics: without memory; then nothing is registered.
 */
#define BH_DEFER_SCOPE                                                                         \
    __attribute__((cleanup(bh_defer_scope_end_))) struct bh_record bh_scope_;                  \
    bh_defer_scope_push_(&bh_scope_)
#define BH_DEFER_LATE(fn, arg)                                                                 \
    ((void)sizeof(((fn)(arg), 0)), /* type check */                                            \
     bh_defer_late_(&bh_scope_, (void (*)(uintptr_t))(void (*)(void))(fn), (uintptr_t)(arg),    \
                    bh_landing_))

/*
 * BH_RECOVER -- if anything below panics, continue here instead.
 *
 * First statement of its function.  The block runs in this function's frame,
 * after every deferred call below it has run, and must end in return.  Nothing
 * below may assign to variables that the block reads.
 *
 *     BH_RECOVER(p) {
 *         return bh_fail(BH_EPANIC, "%s", bh_panic_text(p));
 *     }
 *
 * During bh_goexit the block does not run.  If a panic raised by a deferred
 * call during bh_goexit lands here, the exit goes on when the block returns.
 * Owns: p lives in this frame, good until the function returns.
 */
#define BH_RECOVER(p) BH_RECOVER_(p, BH_UNIQUE(bh_point_))

/*
 * BH_RETURNS, BH_RETURNS_VOID -- let deferred calls of this function recover.
 *
 * First statement after the result's declaration.  After bh_recover() in a call
 * deferred by this function, the older deferred calls run in normal mode and
 * the function returns the current value of `result`: Go's named results.
 *
 *     int err = 0;
 *     BH_RETURNS(err);
 *     BH_DEFER(catch, &err);
 */
#define BH_RETURNS(result)                                                                     \
    BH_LANDING_                                                                                \
    __asm__ volatile("" : : "r"(&(result)) : "memory");                                        \
    if (bh_checkpoint_(&bh_landing_store_.at) != 0) {                                          \
        __asm__ volatile("" : "+m"(result) : : "memory");                                      \
        return (result);                                                                       \
    }
#define BH_RETURNS_VOID                                                                        \
    BH_LANDING_                                                                                \
    if (bh_checkpoint_(&bh_landing_store_.at) != 0)                                            \
        return;

/*
 * bh_recover -- the panic being handled, or NULL.
 *
 * Gives it only when called directly by a deferred call that the panic itself
 * runs, on the same goroutine, for the newest panic, once; and only if the
 * deferring function has BH_RETURNS.  Otherwise NULL, and the panic goes on.
 * Owns: borrowed until the deferred call returns.
 * See:  Go spec, "Handling panics"; spec A.
 */
#define bh_recover() bh_recover_at_((uintptr_t)__builtin_dwarf_cfa())

/*
 * bh_panic_on_fault -- make faults at any address panics on this goroutine.
 *
 * Off: an address beyond the first 64 KiB is a fatal error, since memory may
 * be damaged.  Not inherited.  Returns: the old setting.
 * See: Go, debug.SetPanicOnFault.
 */
bool bh_panic_on_fault(bool enable);

/*
 * bh_set_traceback -- "none", "single", "all", "system" or "crash": what a crash
 * prints.  Can raise the level of BH_TRACEBACK, not lower it.
 * Returns: 0, or -EINVAL for another word.
 */
int bh_set_traceback(const char *level);

/* bh_set_crash_fd -- copy crash texts to this descriptor too; -1 for none. */
void bh_set_crash_fd(int fd);

/*
 * bh_fatal -- report and end the process with status 2: no deferred call runs.
 * For broken shared state; cannot be recovered.
 */
noreturn void bh_fatal(const char *format, ...) __attribute__((format(printf, 1, 2), cold));

/*
 * BH_REQUIRE -- the caller kept the contract; else panic with the text.
 * BH_INVARIANT -- we kept ours; else fatal.
 */
#define BH_REQUIRE(cond)                                                                       \
    ((cond) ? (void)0 : bh_require_failed_(__FILE__, __LINE__, __func__, #cond))
#define BH_INVARIANT(cond)                                                                     \
    ((cond) ? (void)0 : bh_invariant_failed_(__FILE__, __LINE__, __func__, #cond))

/* ---- machinery; nothing below is API --------------------------------------------- */

#define BH_CAT2_(a, b) a##b
#define BH_CAT_(a, b) BH_CAT2_(a, b)
#define BH_UNIQUE(stem) BH_CAT_(stem, __COUNTER__)

struct bh_landing;

struct bh_record {
    struct bh_record  *older;
    void             (*fn)(uintptr_t); /* NULL kinds below: see enum */
    uintptr_t          arg;
    struct bh_g       *g;
    struct bh_landing *landing; /* of the deferring function, or NULL */
    uint32_t           kind;
};
enum { BH_RECORD_DEFER, BH_RECORD_LATE, BH_RECORD_SCOPE, BH_RECORD_POINT, BH_RECORD_LANDING };

#if defined(__x86_64__)
struct bh_checkpoint { uintptr_t reg[8]; };
#elif defined(__aarch64__)
struct bh_checkpoint { uintptr_t reg[22]; };
#else
#error "bulkhead supports x86-64 and aarch64"
#endif

/* Used while frames are unwound on the way to the landing (BH_UNWIND). */
struct bh_unwind_ {
    _Alignas(16) uintptr_t word[6];
};

struct bh_point {
    struct bh_record     rec;
    struct bh_checkpoint at;
    struct bh_unwind_    unwind;
    bool                 resume_goexit;
    struct bh_panic      panic; /* filled when a panic lands here */
};

struct bh_landing {
    struct bh_record     rec;
    struct bh_checkpoint at;
    struct bh_unwind_    unwind;
};

/* What BH_DEFER names where its function has no BH_RETURNS. */
#define bh_landing_none_ ((struct bh_landing *)0)
static struct bh_landing *const bh_landing_ __attribute__((unused)) = bh_landing_none_;

#define BH_DEFER_(d, fn_, arg_)                                                                \
    __attribute__((cleanup(bh_defer_end_))) struct bh_record d;                                \
    d.fn = (void (*)(uintptr_t))(void (*)(void))(fn_);                                         \
    d.arg = (uintptr_t)(arg_);                                                                 \
    d.landing = bh_landing_;                                                                   \
    d.kind = BH_RECORD_DEFER;                                                                  \
    (void)sizeof(((fn_)(arg_), 0)); /* type check */                                           \
    bh_record_push_(&d)

#define BH_RECOVER_(p, pt)                                                                     \
    __attribute__((cleanup(bh_point_end_))) struct bh_point pt;                                \
    bh_point_push_(&pt);                                                                       \
    if (bh_checkpoint_(&pt.at) != 0)                                                           \
        for (const struct bh_panic *p __attribute__((unused)) = &pt.panic;;                    \
             bh_point_fell_through_())

#define BH_LANDING_                                                                            \
    __attribute__((cleanup(bh_landing_end_))) struct bh_landing bh_landing_store_;             \
    _Pragma("GCC diagnostic push") _Pragma("GCC diagnostic ignored \"-Wshadow\"")              \
    struct bh_landing *const bh_landing_ __attribute__((unused)) = &bh_landing_store_;         \
    _Pragma("GCC diagnostic pop")                                                              \
    bh_landing_push_(&bh_landing_store_);

noreturn void bh_panic_at_(const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 3, 4), cold));
noreturn void bh_panic_value_at_(const char *file, int line, const struct bh_kind *kind,
                                 const void *value) __attribute__((cold));
noreturn void bh_require_failed_(const char *file, int line, const char *func, const char *text);
noreturn void bh_invariant_failed_(const char *file, int line, const char *func, const char *text);
noreturn void bh_point_fell_through_(void);
int  bh_checkpoint_(struct bh_checkpoint *c) __attribute__((returns_twice));
void bh_record_push_(struct bh_record *r);
void bh_defer_end_(struct bh_record *r);
void bh_defer_scope_push_(struct bh_record *scope);
void bh_defer_scope_end_(struct bh_record *scope);
void bh_defer_late_(struct bh_record *scope, void (*fn)(uintptr_t), uintptr_t arg,
                    struct bh_landing *landing);
void bh_point_push_(struct bh_point *p);
void bh_point_end_(struct bh_point *p);
void bh_landing_push_(struct bh_landing *l);
void bh_landing_end_(struct bh_landing *l);
/* returns_twice, though it does not: inlined or split, the caller would lose its frame (A03). */
const struct bh_panic *bh_recover_at_(uintptr_t cfa) __attribute__((returns_twice));

#endif
