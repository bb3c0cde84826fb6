#ifndef BULKHEAD_OBSERVE_PROFILE_H
#define BULKHEAD_OBSERVE_PROFILE_H

/*
 * profile.h -- profiles in the format of pprof: build one, name one, take one by name.
 *
 *     struct bh_profile_bytes bytes;
 *
 *     if (bh_profile_take("goroutine", NULL, &bytes) == 0) {
 *         write(fd, bytes.data, bytes.size);
 *         free(bytes.data);
 *     }
 *
 * A profile is a bag of samples.  A sample is a stack, labels, and as many values as the
 * profile has types; samples that agree in stack and labels are added up.
 *
 * Nothing here panics: misuse and want of memory are error values.  All of it may be called
 * from goroutines and plain threads alike, but a struct bh_profile by one at a time.
 *
 * See: github.com/google/pprof, proto/profile.proto.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bh_ctx;
struct bh_profile;

enum { BH_PROFILE_TYPES = 4, BH_PROFILE_DEPTH = 128, BH_PROFILE_LABELS = 16 };

/* ---- take one by name ------------------------------------------------------------ */

struct bh_profile_bytes {
    unsigned char *data; /* free(3) it */
    size_t         size;
};

/* Zero means the default. */
struct bh_profile_options {
    int64_t duration;   /* ns: what happens from now on, for so long; else all that is known:
                                of the CPU profile the last 30 s */
    int     debug;      /* text instead: 1 as Go's ?debug=1; 2, of goroutines, a dump */
    bool    raw;        /* addresses only, for symbolising elsewhere by build id */
    bool    labelled;   /* also the labels goid, trace_id and created_by of each goroutine:
                                then every one is a sample of its own */
    struct bh_ctx *ctx; /* ends the waiting for `duration`; goroutines only */
};

/*
 * bh_profile_take -- the profile `name` as bytes: gzip of the protocol buffer, or text.
 *
 * Names: "goroutine", "threadcreate", "profile" (CPU); "heap", "allocs", "block", "mutex".
 * Returns: 0; -ENOENT for an unknown name; -EAGAIN if it is not being recorded; -ENOMEM; or
 *          the context's error.
 * Owns:    the caller frees bytes->data.
 * Blocks:  for o->duration; and it reads debug information.
 */
int bh_profile_take(const char *name, const struct bh_profile_options *o,
                    struct bh_profile_bytes *bytes);

/*
 * bh_profile_collect -- the same, not yet encoded.
 * Owns: the caller calls bh_profile_free(*p).
 */
int bh_profile_collect(const char *name, const struct bh_profile_options *o,
                       struct bh_profile **p);

/* ---- name one -------------------------------------------------------------------- */

/*
 * A named profile.  collect makes a new profile of all since the start, which the caller
 * frees; of `o` it heeds `labelled`, and ctx and duration if `waits`.  Returns: 0 or an error.
 */
typedef int bh_profile_fn(const struct bh_profile_options *o, void *arg, struct bh_profile **p);

struct bh_profile_source {
    const char    *name;  /* "heap"; all strings static */
    const char    *about; /* a line for the index page */
    bh_profile_fn *collect;
    void          *arg;
    bool           waits; /* waits for o->duration itself; else a difference of two is made */
};

/*
 * bh_profile_register -- add a profile to the table.  *s is copied.
 * Returns: 0; -EEXIST if the name is taken; -ENOSPC if the table is full; -EINVAL.
 */
int bh_profile_register(const struct bh_profile_source *s);

/* bh_profile_each -- every named profile, by name.  fn returns false to stop. */
void bh_profile_each(bool (*fn)(const struct bh_profile_source *s, void *arg), void *arg);

/* ---- build one ------------------------------------------------------------------- */

struct bh_profile_type {
    const char *type, *unit; /* "inuse_space", "bytes" */
};

/*
 * bh_profile_new -- an empty profile whose samples have `count` values of these types.
 * Owns:    the caller, until bh_profile_free.
 * Returns: NULL without memory, or if count is not in 1..BH_PROFILE_TYPES.
 */
struct bh_profile *bh_profile_new(const struct bh_profile_type *types, int count);
void               bh_profile_free(struct bh_profile *p); /* NULL is allowed */

/* bh_profile_period -- what one sample stands for: every `period` units of this type. */
void bh_profile_period(struct bh_profile *p, const char *type, const char *unit,
                       int64_t period);
/* bh_profile_time -- when it began (Unix time), and how long it took; both ns. */
void bh_profile_time(struct bh_profile *p, int64_t began, int64_t duration);
/* bh_profile_default -- the type that a viewer shows first. */
void bh_profile_default(struct bh_profile *p, const char *type);
/* bh_profile_comment -- a line about the profile.  At most 8; copied. */
void bh_profile_comment(struct bh_profile *p, const char *text);

struct bh_profile_label {
    const char *key;
    const char *text; /* NULL: a number */
    int64_t     number;
    const char *unit; /* of the number; may be NULL */
};

/*
 * bh_profile_add -- add values to the sample with this stack and these labels.
 *
 * pcs are return addresses, innermost first; of an instruction that was itself
 * interrupted, give its address plus 1.  No stack is the stack of one 0.  What exceeds
 * BH_PROFILE_DEPTH is cut at the outer end, and labels beyond BH_PROFILE_LABELS are left out.
 * Strings are copied.
 * Returns: 0; -ENOMEM, after which the profile is as before.
 */
int bh_profile_add(struct bh_profile *p, const uintptr_t *pcs, int depth, const int64_t *values,
                   const struct bh_profile_label *labels, int label_count);

/*
 * bh_profile_merge -- add `times` times the samples of q: 1 for a sum, -1 for what changed
 * since q.  Samples that become zero are not written.
 * Returns: 0; -EINVAL if their types differ; -ENOMEM.
 */
int bh_profile_merge(struct bh_profile *p, const struct bh_profile *q, int64_t times);

/* bh_profile_total -- the sum of one value over all samples. */
int64_t bh_profile_total(const struct bh_profile *p, int type);
/* bh_profile_count -- how many samples. */
int bh_profile_count(const struct bh_profile *p);

/*
 * bh_profile_write -- encode as pprof reads it, compressed.
 * Returns: 0; -ENOMEM.
 * Owns:    the caller frees bytes->data.
 * Blocks:  unless raw, it reads debug information.
 */
int bh_profile_write(const struct bh_profile *p, bool raw, struct bh_profile_bytes *bytes);

/* bh_profile_text -- the form of Go's ?debug=1; `name` chooses its first lines.  As above. */
int bh_profile_text(const struct bh_profile *p, const char *name,
                    struct bh_profile_bytes *bytes);

/* ---- the CPU profile ------------------------------------------------------------- */

/*
 * bh_cpu_start -- sample every thread's stack after each 1/99 s of CPU time that it uses.
 *
 * What it keeps are the last 30 s, in memory allocated here.  Uses SIGPROF.
 * Returns: 0, also if it is on; -EBUSY if the program handles SIGPROF itself; -ENOMEM; or
 *          what timer_create(2) says.
 */
int bh_cpu_start(void);
/* bh_cpu_stop -- stop, and forget.  Any thread, once nobody takes the profile. */
void bh_cpu_stop(void);

struct bh_cpu_stats {
    bool     on;
    int      threads; /* that have a timer */
    uint64_t samples; /* taken */
    uint64_t ticks; /* that they stand for: a thread deep in the kernel gets several at once */
    uint64_t dropped; /* the ring was busy */
    uint64_t cut;     /* deeper than what is kept */
    uint64_t
        cost; /* ns spent in taking them, without those during which the thread lost its processor */
};
void bh_cpu_stats_read(struct bh_cpu_stats *stats);

#endif
