#ifndef BULKHEAD_OBSERVE_REPORT_PRIVATE_H
#define BULKHEAD_OBSERVE_REPORT_PRIVATE_H

/*
 * report.h -- a report on its way from a slot to a directory.  All of it belongs to
 * the reporter's thread.
 */

#include <bulkhead/go/inspect.h>
#include <bulkhead/observe/report.h>

#include "capture.h"
#include "sheet.h"

enum {
    OB_FRAMES = 192,
    OB_MODULES = 64,
    OB_GROUPS = 128, /* of goroutines with the same stack */
    OB_GROUP_PCS = 24,
    OB_RANKED = 16,
    OB_ANCESTORS = 8,
    OB_STATES = 24,
    OB_QUEUES = 64,
    OB_MISSING = 24,
    OB_NUMBERS = 16,
    OB_PARTS = 16,
    OB_REDACTED = 32,
    OB_SOURCES = 8,
    OB_ID = 26,     /* characters of a report's id */
    OB_SNIPPET = 2, /* lines of source before and after */
    OB_JSON_SIZE = 256 * 1024,
    OB_TEXT_SIZE = 512 * 1024,
};

/* A copy of the options, with defaults filled in. */
struct ob_settings {
    char                 directory[512], service[128], version[64], instance[128];
    uint64_t             quota;
    int64_t              repeat, deadline;
    int                  per_minute, fd;
    bool                 files, colours, raw, monitor;
    enum bh_report_level level;
    char                 redact[OB_REDACTED][64];
    int                  redact_count;
    char                 source[OB_SOURCES][256];
    int                  source_count; /* -1: anywhere */
};
extern struct ob_settings ob_settings;

struct ob_frame {
    uintptr_t   pc;
    int         module; /* -1: none */
    int         line;
    const char *function, *file; /* "" unknown */
    bool        inlined, in_app, hidden;
};

struct ob_module {
    char      path[200], build_id[64];
    uintptr_t start, end;
    uint64_t  offset;
    bool      system; /* the C library and the like */
};

struct ob_goroutine {
    uint64_t    id, created_by;
    uintptr_t   created_pc;
    const char *state; /* static */
    int64_t     waiting_ns;
    uint64_t    blocked_on;
    bool        same_trace, same_route, system;
};

struct ob_group {
    uint64_t    hash;
    int64_t     count;
    uint64_t    id; /* of one of them */
    const char *state;
    uintptr_t   pcs[OB_GROUP_PCS], created_pc;
    int         depth;
    bool        system;
};

/* What the whole process was doing.  Goroutines: in the reporter's memory, `taken` of them. */
struct ob_world {
    int64_t              count, taken;
    struct ob_goroutine *goroutine;
    struct {
        const char *state;
        int64_t     count;
    } by_state[OB_STATES];
    int             states;
    struct ob_group group[OB_GROUPS];
    int             groups;
    int64_t         ungrouped;
    struct {
        uint64_t    id;
        const char *why;
        int         at; /* in goroutine[]; -1: it has ended */
    } ranked[OB_RANKED];
    int ranks;
    struct {
        uint64_t  id;
        uintptr_t pc; /* where it started the one before */
    } ancestor[OB_ANCESTORS];
    int                     ancestors;
    bool                    self_known; /* the panicking goroutine was still there */
    char                    labels[1024];
    char                    state[32];
    struct bh_runtime_stats stats;
    int64_t                 queue[OB_QUEUES];
    int                     queues, fds;
    size_t                  heap_in_use;
    struct {
        const char *name;
        uint64_t    value;
    } number[OB_NUMBERS];
    int     numbers;
    int64_t ns; /* what looking cost */
};

/* Phase 2, as it was at one moment. */
struct ob_known {
    enum bh_panic_step result;
    bool               contained, lost, hook_failed;
    const char        *by; /* NULL: not known */
    uint64_t           goroutine;
    int                defers, repanics;
    int64_t            unwind_ns;
    struct {
        uintptr_t   fn;
        int64_t     ns;
        bool        recovered; /* the panic, by bh_recover */
        const char *name;
    } defer[OB_DEFERS];
    int      defer_count;
    bool     reply_known, aborted;
    int      status, rc;
    uint64_t sent;
};

struct ob_missing {
    const char *what, *why; /* static */
};

struct ob_report {
    const struct ob_slot *slot;
    struct ob_known       known;
    char                  id[OB_ID + 1], fingerprint[24];
    char                  earlier[OB_ID + 1]; /* report of the same panic, before it went on */
    int64_t               began, deadline;    /* CLOCK_MONOTONIC */
    struct ob_frame       frame[OB_FRAMES];
    int                   frames, location; /* index of the frame that panicked; -1 none */
    struct ob_module      module[OB_MODULES];
    int                   modules;
    struct ob_world       world;
    struct ob_missing     missing[OB_MISSING];
    int                   missing_count;
    struct ob_sheet       json, text;
    size_t                json_fixed, text_fixed; /* up to here phase 2 changes nothing */
};

void ob_report_miss(struct ob_report *r, const char *what, const char *why);
void ob_known_read(struct ob_known *k, struct ob_outcome *o);
/* ob_result_name -- "recovered", "contained", "fatal", ...; "" while it is not known. */
const char *ob_result_name(const struct ob_known *k);
bool        ob_result_final(const struct ob_known *k);
const char *ob_event_name(enum bh_flight_kind kind);

/* frames.c */
void ob_modules_read(struct ob_report *r);
void ob_frames_read(struct ob_report *r);
int  ob_module_at(const struct ob_report *r, uintptr_t pc); /* -1: none */
void ob_fingerprint_make(struct ob_report *r, uint64_t *fingerprint);
/* ob_function_name -- of the code at a function's own address. */
const char *ob_function_name(uintptr_t entry);

/* snippet.c -- the line and those around it.  Returns: how many lines were put, 0: not to be had. */
enum { OB_SNIPPET_LINES = 2 * OB_SNIPPET + 1, OB_SNIPPET_WIDTH = 120 };
int ob_snippet(const char *file, int line, int *first,
               char lines[OB_SNIPPET_LINES][OB_SNIPPET_WIDTH]);

/* world.c */
int  ob_world_init(struct ob_world *w); /* its memory, once */
void ob_world_read(struct ob_world *w, const struct ob_raised *raised);

/* report_json.c, report_text.c -- whole; or only what phase 2 changes, after `fixed`. */
void ob_json_write(struct ob_report *r);
void ob_json_write_rest(struct ob_report *r);
void ob_text_write(struct ob_report *r, enum bh_report_level level, bool colours);
void ob_text_write_rest(struct ob_report *r, bool colours);
/* ob_json_string -- quoted; at most `most` bytes of it.  Returns: how many were left out. */
size_t ob_json_string(struct ob_sheet *s, const char *text, size_t most);

/* bundle.c */
enum { OB_PATH = 1024 };
/* ob_path_join -- directory/name.  Returns: 0 or -ENAMETOOLONG. */
int  ob_path_join(char path[OB_PATH], const char *directory, const char *name);
void ob_id_make(char id[OB_ID + 1], int64_t time_ns);
bool ob_id_valid(const char *name);
/* ob_bundle_place -- make the directory of all.  Returns: 0, or why no report could be written there. */
int ob_bundle_place(const char *directory);
/* ob_bundle_file -- a file of these bytes.  Returns: 0 or an error. */
int  ob_bundle_file(const char *directory, const char *name, const void *data, size_t size);
int  ob_bundle_begin(struct ob_report *r); /* a temporary directory */
int  ob_bundle_write(struct ob_report *r, const char *name, const struct ob_sheet *s);
int  ob_bundle_part_open(struct ob_report *r, const char *name); /* a descriptor, or an error */
/* ob_bundle_part_close -- rc: how writing went; a failure removes the file.  Returns: rc, or its own. */
int  ob_bundle_part_close(struct ob_report *r, const char *name, int fd, int rc);
int  ob_bundle_end(struct ob_report *r); /* MANIFEST; under its own name */
void ob_bundle_abandon(struct ob_report *r);
/* ob_bundle_amend -- replace what follows `fixed` of a file of a finished report by the sheet. */
int ob_bundle_amend(const char *id, const char *name, size_t fixed,
                    const struct ob_sheet *rest);
int ob_bundle_manifest(const char *directory, const struct ob_missing *missing, int count);
/* ob_bundle_quota -- remove the oldest until the rest fit, and are fewer than 4096.  Returns: how many. */
int ob_bundle_quota(const char *directory, uint64_t quota, const char *newest);
/* ob_bundle_salvage -- what a process that is gone had not finished. */
void ob_bundle_salvage(const char *directory);

/* monitor.c */
int  ob_monitor_start(void);
void ob_monitor_stop(void);
/* ob_monitor_tell -- the id of the report that describes the crash to come. */
void ob_monitor_tell(const char *id);

#endif
