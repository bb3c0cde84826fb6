#ifndef BULKHEAD_OBSERVE_LOG_H
#define BULKHEAD_OBSERVE_LOG_H

/*
 * log.h -- structured log lines that cannot hurt who writes them.
 *
 *     int rc = bh_log_start(&(struct bh_log_options){ .level = BH_INFO });
 *     ...
 *     bh_log(BH_INFO, "order placed", BH_STR("id", id), BH_INT("quantity", 3));
 *
 *     {"time":"2026-11-25T10:09:53.123456Z","level":"INFO","event":"order placed","id":"o-17",
 *      "quantity":3,"goroutine":42,"trace_id":"4bf92f...","span_id":"00f067..."}
 *
 * bh_log copies the line into a ring of its thread and returns: it never blocks, allocates,
 * locks or panics.  A thread of the logger's own formats and writes.  If the output hangs,
 * fails or is full, lines are dropped and counted by reason; the log says how many once it
 * can.  The goroutine's id, name and labels, and the ids of its request's trace, are on every
 * line.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

/* As OpenTelemetry numbers severities; those between are allowed. */
enum bh_log_level {
    BH_TRACE = 1,
    BH_DEBUG = 5,
    BH_INFO = 9,
    BH_WARN = 13,
    BH_ERROR = 17,
    BH_FATAL = 21, /* does not end the process */
    BH_LOG_OFF = 25,
};

/* ---- writing --------------------------------------------------------------------- */

enum {
    BH_FIELD_TEXT_,
    BH_FIELD_INT_,
    BH_FIELD_UINT_,
    BH_FIELD_DOUBLE_,
    BH_FIELD_BOOL_,
    BH_FIELD_ERROR_
};

/* One of a line's values; made by the macros below. */
struct bh_log_field {
    const char *key;
    int         type; /* of what is below */
    size_t      size; /* of text; SIZE_MAX: to its NUL */
    union {
        const char *text;
        int64_t     integer;
        uint64_t    natural;
        double      real;
    };
};

#define BH_STR(key_, text_) BH_BYTES(key_, text_, SIZE_MAX) /* NULL: "(null)" */
#define BH_BYTES(key_, text_, size_)                                                           \
    ((struct bh_log_field){ (key_), BH_FIELD_TEXT_, (size_), { .text = (text_) } })
#define BH_INT(key_, n) ((struct bh_log_field){ (key_), BH_FIELD_INT_, 0, { .integer = (n) } })
#define BH_UINT(key_, n)                                                                       \
    ((struct bh_log_field){ (key_), BH_FIELD_UINT_, 0, { .natural = (n) } })
#define BH_DOUBLE(key_, d)                                                                     \
    ((struct bh_log_field){ (key_), BH_FIELD_DOUBLE_, 0, { .real = (d) } })
#define BH_BOOL(key_, b)                                                                       \
    ((struct bh_log_field){ (key_), BH_FIELD_BOOL_, 0, { .integer = (b) } })
/* BH_ERR -- field "error": a code in words (error.h). */
#define BH_ERR(code)                                                                           \
    ((struct bh_log_field){ "error", BH_FIELD_ERROR_, 0, { .integer = (code) } })

/*
 * bh_log(level, event, fields ...) -- log a line.  event: what happened, always the same words.
 *
 * level is evaluated twice, the rest not at all when it is off.  Some 2000 bytes are kept of a
 * line: fields that do not fit are cut or left out.
 * Threads: any; not in a signal handler, where nothing happens within another bh_log.
 */
#define bh_log(level, event, ...)                                                              \
    (bh_log_is_on(level)                                                                       \
         ? bh_log_write_((level), BH_FIELDS_(event __VA_OPT__(, ) __VA_ARGS__),                \
                         sizeof(BH_FIELDS_(event __VA_OPT__(, ) __VA_ARGS__)) /                \
                             sizeof(struct bh_log_field))                                      \
         : (void)0)

/* ---- levels ---------------------------------------------------------------------- */

/* bh_log_set_level -- lines below it are not made.  At any time; out of range: nothing happens. */
void bh_log_set_level(int level);
int  bh_log_level(void);
/* bh_log_level_of -- "debug", in either case, or a number.  Returns: -EINVAL for another word. */
int         bh_log_level_of(const char *name);
const char *bh_log_level_name(int level); /* "INFO"; static */

/* ---- HTTP ------------------------------------------------------------------------ */

/*
 * bh_http_log_requests -- observer: a line for each request when it is over; INFO, or ERROR from
 * status 500 on.  The query is not logged.  arg: unused.
 */
bh_http_fn bh_http_log_requests;

/*
 * bh_http_log_level -- handler: GET tells the level, PUT or POST sets it to the query's
 * "level". arg: unused.  Whoever may call it can fill the disk: not for the public.
 */
bh_http_fn bh_http_log_level;

/* ---- life ------------------------------------------------------------------------ */

enum bh_log_format { BH_LOG_AUTO, BH_LOG_JSON, BH_LOG_CONSOLE };

/* Zero means the value beside the field. */
struct bh_log_options {
    int                fd;        /* 2; not closed */
    enum bh_log_format format;    /* for people if fd is a terminal, else JSON */
    int                level;     /* BH_INFO */
    size_t             ring_size; /* bytes a thread's lines may wait in: 256 KiB */
    bool               exported;  /* records go to bh_export_log, too */
    bool               signals;   /* SIGUSR1: a step more is logged, SIGUSR2: a step less */
};

/*
 * bh_log_start -- begin to write.  Lines logged before are dropped.
 *
 * Returns: 0; -EALREADY; -EINVAL, a level or size out of range; -EBADF, a descriptor that is
 *          not open; -ENOMEM, -EAGAIN: no memory or thread; noted.
 * Threads: one at a time, as bh_log_stop.
 */
int bh_log_start(const struct bh_log_options *options);

/*
 * bh_log_flush -- wait until all that was logged before is written or dropped.
 * Returns: 0; -ETIMEDOUT; -ESHUTDOWN if the logger does not run.
 * Blocks:  the goroutine (or thread), for at most timeout ns.
 */
int bh_log_flush(int64_t timeout);

/* bh_log_stop -- flush, then end the logger.  Returns, Blocks: as bh_log_flush; up to 1 s more. */
int bh_log_stop(int64_t timeout);

/*
 * bh_log_crash -- write what waits, then a line with text; for the hook of crashes (hooks.h).
 * Waits half a second at most for the logger's thread or the output.  Async-signal-safe.
 */
void bh_log_crash(const char *text, int length);

/* ---- what became of lines -------------------------------------------------------- */

enum bh_log_drop {
    BH_LOG_RING_FULL,     /* the output is slower than the lines come */
    BH_LOG_NO_RING,       /* more threads log than there are rings (128) */
    BH_LOG_NOT_STARTED,   /* before bh_log_start, or after bh_log_stop */
    BH_LOG_REENTRANT,     /* a signal handler interrupted a bh_log */
    BH_LOG_OUTPUT_FAILED, /* the descriptor is closed, the disk is full, ... */
    BH_LOG_OUTPUT_STUCK,  /* it takes nothing, and lines had to go on to the exporter */
    BH_LOG_DROPS
};

struct bh_log_stats {
    uint64_t written; /* lines */
    uint64_t bytes;
    uint64_t exported;
    uint64_t dropped[BH_LOG_DROPS];
    uint64_t cut;     /* lines whose fields did not all fit */
    uint64_t waiting; /* bytes in the rings now */
};
void        bh_log_stats(struct bh_log_stats *stats);
const char *bh_log_drop_name(enum bh_log_drop drop); /* "ring_full"; static */

/* ---- machinery; nothing below is API --------------------------------------------- */

#define BH_FIELDS_(event, ...)                                                                 \
    (const struct bh_log_field[])                                                              \
    {                                                                                          \
        BH_STR("", event) __VA_OPT__(, ) __VA_ARGS__                                           \
    }

extern int bh_log_level_;

static inline bool
bh_log_is_on(int level)
{
    return level >= __atomic_load_n(&bh_log_level_, __ATOMIC_RELAXED);
}

/* fields[0] is the event. */
void bh_log_write_(int level, const struct bh_log_field *fields, size_t count);

#endif
