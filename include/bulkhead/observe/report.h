#ifndef BULKHEAD_OBSERVE_REPORT_H
#define BULKHEAD_OBSERVE_REPORT_H

/*
 * report.h -- what is known of a panic, kept as a directory of files.
 *
 *     bh_set_hooks(&(struct bh_hooks){ .panic = bh_report_event });
 *     bh_report_start(&(struct bh_report_options){ .directory = "reports" });
 *     bh_main(serve, NULL);
 *     bh_report_stop();
 *
 * A panic is captured where it is raised, before any deferred call, in microseconds;
 * a thread of its own makes the report; and when the panic has been recovered, or not,
 * the report learns of that.  A report is a directory, named after its id:
 *
 *     report.json   everything, schema bulkhead.panic/1 (docs/panic-report.schema.json)
 *     report.txt    the same to read, beginning as Go's reports do
 *     ...           profiles and traces, see bh_report_add
 *     MANIFEST      the files, their sizes and SHA-256; what is missing, and why
 *
 * The same panic again within a minute is one line on a descriptor, and a count.  A
 * crash is reported by a process of its own (the monitor), which outlives it.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

struct bh_panic_event;

enum bh_report_level {
    BH_REPORT_SHORT = 1, /* the program's own frames, deferred calls, what became of it */
    BH_REPORT_MEDIUM,    /* and the source around the innermost, request, world */
    BH_REPORT_FULL,   /* and every frame, module and group of goroutines */
};

/* Zero means the default beside the field. */
struct bh_report_options {
    const char *directory;      /* of the reports, made if needed; NULL: lines only, no files */
    const char *service;        /* its name; the program's */
    const char *version;        /* of the service; "" */
    const char *instance;       /* which of many; host name and process id */
    uint64_t    quota;          /* bytes of all reports, of which there are 4,095 at most: 256 MiB; the
                                  oldest go first */
    int64_t     repeat;         /* ns in which a fingerprint has one full report: 60 s */
    int         per_minute;     /* full reports: 10; -1: none */
    int64_t     deadline;       /* ns for one: 250 ms; what is not ready then is missing */
    int         fd;             /* gets a line for each panic: 2; -1: none */
    enum bh_report_level level; /* of report.txt: BH_REPORT_FULL */
    bool                 colours; /* in report.txt */
    bool monitor; /* have a process that reports crashes; start it before any thread */
    bool raw;     /* addresses only: bh_report names them later, by build id */
    const char *const
        *redact; /* header fields never shown, beside Authorization, Cookie and the
                                  like; NULL at the end */
    const char *const *source; /* directories whose sources may be quoted; NULL: where they were
                                  compiled.  An empty list: none */
};

/*
 * bh_report_start -- begin to capture and to report.  Again, after a stop, is allowed.
 *
 * Returns: 0; -EALREADY, also while it is being stopped; -EINVAL for options that make no sense;
 *          -errno if the thread, the monitor or their memory cannot be had.  A directory that
 *          cannot be written is no error: reports are then lines, and bh_report_stats counts the
 *          failures.
 * Owns:    copies *options.
 * Threads: any; with a monitor, while the process has one thread.
 */
int bh_report_start(const struct bh_report_options *options);

/* bh_report_stop -- finish the reports under way, within 2 s, and end the thread and the monitor. */
void bh_report_stop(void);

/* bh_report_flush -- wait until what has been raised is written.  Returns: false after `ns`. */
bool bh_report_flush(int64_t ns);

/*
 * bh_report_event -- the hook: hand every struct bh_panic_event here (bh_hooks.panic).
 *
 *     bh_set_hooks(&(struct bh_hooks){ .panic = bh_report_event });    before bh_main
 *
 * While nothing is started, a contained panic is a line on descriptor 2.  Blocks at
 * BH_PANIC_FATAL only: up to 2 s, for the report.
 */
void bh_report_event(const struct bh_panic_event *e);

/* ---- what else goes into a bundle ------------------------------------------------ */

/*
 * A file of a report: writes to fd, before the deadline (CLOCK_MONOTONIC, ns).
 * Returns: 0, or a negative error, which leaves the file out and says so.
 * Threads: called on the reporter's thread; may allocate, may not panic.
 */
typedef int bh_report_part_fn(int fd, int64_t deadline, void *arg);
/* bh_report_add -- Returns: 0; -EINVAL for a bad name; -EEXIST; -ENOSPC beyond 16.  name: static. */
int bh_report_add(const char *name, bh_report_part_fn *fn, void *arg);

/*
 * bh_report_profiles -- add the profiles that are recorded: goroutine, cpu, heap, block and mutex;
 * of the last three also what changed since the report before.  Returns: 0 or -ENOSPC.
 */
int bh_report_profiles(void);
/* bh_report_timeline -- add what the flight recorder holds: trace.out, trace.json.  Returns: likewise. */
int bh_report_timeline(void);

/* A number of the "world" of a report: queued log lines, dropped spans. */
typedef uint64_t bh_report_number_fn(void *arg);
/* bh_report_add_number -- Returns: 0; -EINVAL for a bad name; -EEXIST; -ENOSPC beyond 16.  name: static. */
int bh_report_add_number(const char *name, bh_report_number_fn *fn, void *arg);

/* A panic, as told to who wants to log or count it; the pointers are good until fn returns. */
struct bh_report_summary {
    const char   *id;          /* "" without a report of its own */
    const char   *fingerprint; /* 16 hexadecimal digits */
    const char   *type, *message;
    const char   *stack;   /* text; "" if suppressed */
    const char   *outcome; /* "recovered", "contained", "fatal", ... ; "" if not known yet */
    const char   *route;   /* "" without */
    uint64_t      serial, goroutine;
    int64_t       time;                     /* ns since 1970 */
    unsigned char trace_id[16], span_id[8]; /* zero without */
    bool          sampled, suppressed;
};
typedef void bh_report_listener_fn(const struct bh_report_summary *s, void *arg);
/* bh_report_export -- each is a log record "exception" for bh_export_log.  Returns: 0 or -ENOSPC. */
int bh_report_export(void);
/*
 * bh_report_listen -- called on the reporter's thread, for each panic.
 * Returns: 0; -EEXIST for what listens already with this arg; -ENOSPC beyond 4.
 */
int bh_report_listen(bh_report_listener_fn *fn, void *arg);

/* ---- the request ----------------------------------------------------------------- */

/*
 * bh_http_report -- observer: panics of this request know it, and what became of its reply.
 *
 *     bh_http_observe(s, bh_http_report, NULL);
 */
bh_http_fn bh_http_report;

/* ---- what happened --------------------------------------------------------------- */

struct bh_report_stats {
    uint64_t raised, recovered, repanicked, contained, fatal, goexit;
    uint64_t aborted;                    /* bh_http_abort: counted, not reported */
    uint64_t hook_failed;                /* panics in hooks */
    uint64_t reports;                    /* full ones */
    uint64_t amended;                    /* which learned their outcome later */
    uint64_t suppressed;                 /* by the limiter */
    uint64_t no_slot;                    /* raised while 64 others were waiting */
    uint64_t lines_lost;                 /* not even a line */
    uint64_t failed;                     /* could not be written */
    uint64_t evicted;                    /* reports removed for the quota */
    uint64_t late;                       /* parts that missed the deadline */
    int64_t  capture_ns, capture_max_ns; /* the latest, the longest */
    int64_t  report_ns, report_max_ns;
};
void bh_report_stats(struct bh_report_stats *stats);

#endif
