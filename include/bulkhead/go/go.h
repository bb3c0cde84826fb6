#ifndef BULKHEAD_GO_GO_H
#define BULKHEAD_GO_GO_H

/*
 * go.h -- goroutines: start them, yield, sleep, end, name them, and leave the
 * scheduler for code that blocks.
 *
 *     struct greet { const char *whom; };
 *
 *     static void
 *     greet(void *args)
 *     {
 *         struct greet *a = args;
 *         printf("hello, %s\n", a->whom);
 *     }
 *
 *     bh_go(greet, &(struct greet){ .whom = "world" });
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>

/* What a goroutine runs.  `args` is the goroutine's own copy. */
typedef void bh_fn(void *args);

struct bh_g; /* a goroutine; opaque */

/*
 * bh_main -- run fn as the main goroutine.
 *
 * When fn returns, panics in flight on other goroutines get a bounded time to
 * finish and report, then the runtime stops: other goroutines are not waited
 * for and their deferred calls do not run, as in Go.
 *
 * Returns: 0.  Does not return from an uncaught panic (exit status 2).
 * Blocks:  the calling thread.
 * Panics:  fatal if called twice in one process, or from a goroutine.
 * Threads: the process's first thread.
 */
int bh_main(bh_fn *fn, void *args);

/* Settings of bh_main_with; zero means the default named beside the field. */
struct bh_options {
    int    procs;          /* Ps; default BH_MAXPROCS, else CPUs by affinity and cgroup */
    size_t stack_size;     /* bytes a goroutine may use; default 64 KiB less guards */
    bool   simulate;       /* deterministic scheduler; also by BH_SIM_SEED in the environment */
    uint64_t seed;         /* its seed; BH_SIM_SEED wins */
    bool   unwind;         /* run C cleanup attributes and C++ destructors of -fexceptions code
                              between a panic and where it lands; also by BH_UNWIND=1; slow */
    bool   report_leaks;   /* at the end, list goroutines still alive on descriptor 2 */
};

/* bh_main_with -- bh_main with settings. */
int bh_main_with(const struct bh_options *options, bh_fn *fn, void *args);

/*
 * bh_go(fn, args) -- start fn on a new goroutine.
 *
 * *args is copied before bh_go returns, so it may be a local or a compound
 * literal; fn receives the address of the copy, aligned for any type and good
 * until fn returns.  NULL passes no arguments.  Pointers inside *args are not
 * followed: what they point at must outlive fn.
 *
 *     bh_go(serve, &(struct serve){ .conn = conn, .log = log });
 *
 * Panics:  "go of nil func value" is fatal; no memory panics in the caller.
 * See:     Go spec, "Go statements".
 */
#define bh_go(fn, ...) bh_go_start_((fn), (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__))

/* Settings of bh_go_with. */
struct bh_go_options {
    const char *name;       /* shown in dumps and reports; copied; NULL inherits */
    size_t      stack_size; /* bytes usable; rounded up to a class; 0 for the default */
};

/* bh_go_with(options, fn, args) -- bh_go with settings. */
#define bh_go_with(options, fn, ...)                                                           \
    bh_go_start_with_((options), (fn), (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__))

/*
 * bh_go_from_thread(fn, args) -- bh_go for a thread the runtime does not know.
 *
 * Threads: any thread, while bh_main runs.
 * Returns: 0, or -ESHUTDOWN if the runtime is not running.
 */
#define bh_go_from_thread(fn, ...)                                                             \
    bh_go_start_from_thread_((fn), (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__))

/* bh_yield -- let other goroutines run.  Blocks: until rescheduled. */
void bh_yield(void);

/* bh_sleep -- pause for at least ns nanoseconds; 0 or less returns at once. */
void bh_sleep(int64_t ns);

/*
 * bh_goexit -- end this goroutine after running its deferred calls.
 *
 * Recover returns NULL in them.  On the main goroutine: the others go on, and
 * when none is left the process dies with "no goroutines (main called
 * runtime.Goexit) - deadlock!".
 * See: Go, runtime.Goexit; spec D.
 */
noreturn void bh_goexit(void);

/*
 * bh_blocking -- run fn(arg) where it may block the thread.
 *
 * The processor is given to another thread at once, so a long read(2), fsync
 * or foreign call delays nobody.  Code that forgets this is only slower to
 * give way: the monitor takes the processor after 10 ms.
 * Blocks: the goroutine, until fn is done and a processor is free.
 */
void bh_blocking(void (*fn)(void *arg), void *arg);

/*
 * bh_lock_thread, bh_unlock_thread -- pin this goroutine to its thread.
 *
 * Until as many unlocks as locks, nothing else runs on that thread: for
 * foreign code that keeps state in thread-locals.  If the goroutine ends
 * while locked, the thread ends with it.
 */
void bh_lock_thread(void);
void bh_unlock_thread(void);

/* bh_self -- this goroutine, or NULL on a thread that is not running one. */
struct bh_g *bh_self(void);

/* bh_id -- this goroutine's number, from 1 (main); 0 off goroutines. */
uint64_t bh_id(void);

/* bh_set_name, bh_name -- the goroutine's name; copied, at most 63 bytes.  "" if unset. */
void        bh_set_name(const char *name);
const char *bh_name(void);

/*
 * bh_set_label -- attach key=value to this goroutine and those it starts later.
 *
 * Shown in dumps, reports and profiles.  A NULL value removes the key.
 * Owns:   copies both.
 * Panics: on more than 16 labels, or a key or value over 128 bytes.
 */
void        bh_set_label(const char *key, const char *value);
const char *bh_label(const char *key); /* NULL if unset; good until changed */
/* bh_labels -- all, as "key=value, key=value", cut to size.  Returns: length; 0 off goroutines. */
size_t      bh_labels(char *text, size_t size);

/* bh_now -- monotonic nanoseconds; virtual time under the deterministic scheduler. */
int64_t bh_now(void);
/* bh_now_coarse -- the same, some milliseconds behind, for a fraction of the price. */
int64_t bh_now_coarse(void);

/* bh_goroutine_count -- goroutines that exist now, this one included. */
size_t bh_goroutine_count(void);

/* bh_procs -- how many processors (Ps) run goroutines. */
int bh_procs(void);

/* bh_dump -- write every goroutine's state and stack to descriptor fd. */
void bh_dump(int fd);

/*
 * bh_exit -- end the process with status; no deferred call runs.
 * See: Go, os.Exit.
 */
noreturn void bh_exit(int status);

/* ---- machinery; nothing below is API --------------------------------------------- */

#define BH_ARGS_SIZE_(...)                                                                     \
    _Generic((__VA_ARGS__), void *: 0, const void *: 0, default: sizeof *(__VA_ARGS__))

void bh_go_start_(bh_fn *fn, const void *args, size_t size);
void bh_go_start_with_(const struct bh_go_options *o, bh_fn *fn, const void *args, size_t size);
int  bh_go_start_from_thread_(bh_fn *fn, const void *args, size_t size);

#endif
