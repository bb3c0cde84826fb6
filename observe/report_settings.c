/*
 * report_settings.c -- starting and stopping the reports, and their options.
 *
 * Capturing (capture.c) begins last and ends first: what is raised in between finds
 * everything in place.  The slots and the ring of lines are never freed: a goroutine
 * may be in them at any time.
 */

#include "report.h"

#include <errno.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/go.h>

#include "limiter.h"
#include "reporter.h"

#define SECOND ((int64_t)1000000000)

struct ob_settings ob_settings;

static void
copy(char *to, size_t size, const char *from)
{
    size_t n = from != NULL ? strnlen(from, size - 1) : 0;

    if (n != 0)
        memcpy(to, from, n);
    to[n] = '\0';
}
#define COPY(to, from) copy((to), sizeof(to), (from))

static const char *
program_name(void)
{
    return program_invocation_short_name != NULL ? program_invocation_short_name : "";
}

static void
name_instance(struct ob_settings *s, const char *given)
{
    char host[64];

    if (given != NULL) {
        COPY(s->instance, given);
        return;
    }
    if (gethostname(host, sizeof host) != 0)
        host[0] = '\0';
    host[sizeof host - 1] = '\0';
    (void)snprintf(s->instance, sizeof s->instance, "%s:%d", host, (int)getpid());
}

static bool
sensible(const struct bh_report_options *o)
{
    int names = 0, sources = 0;

    for (const char *const *n = o->redact; n != NULL && *n != NULL; n++)
        names++;
    for (const char *const *n = o->source; n != NULL && *n != NULL; n++)
        sources++;
    return o->level >= 0 && o->level <= BH_REPORT_FULL && o->repeat >= 0 && o->deadline >= 0 &&
           o->per_minute >= -1 && names <= OB_REDACTED && sources <= OB_SOURCES &&
           (o->directory == NULL ||
            (o->directory[0] != '\0' && strlen(o->directory) < sizeof ob_settings.directory));
}

static void
set(struct ob_settings *s, const struct bh_report_options *o)
{
    bool files = o->directory != NULL;

    *s = (struct ob_settings){ .files = files, .colours = o->colours, .raw = o->raw };
    COPY(s->directory, o->directory);
    COPY(s->service, o->service != NULL ? o->service : program_name());
    COPY(s->version, o->version);
    name_instance(s, o->instance);
    s->quota = o->quota != 0 ? o->quota : (uint64_t)256 << 20;
    s->repeat = o->repeat != 0 ? o->repeat : 60 * SECOND;
    s->deadline = o->deadline != 0 ? o->deadline : SECOND / 4;
    s->per_minute = o->per_minute == 0 ? 10 : o->per_minute > 0 ? o->per_minute : 0;
    s->fd = o->fd != 0 ? o->fd : STDERR_FILENO;
    s->level = o->level != 0 ? o->level : files ? BH_REPORT_FULL : BH_REPORT_SHORT;
    s->monitor = o->monitor && files;
    for (const char *const *n = o->redact; n != NULL && *n != NULL; n++)
        COPY(s->redact[s->redact_count++], *n);
    s->source_count = o->source != NULL ? 0 : -1;
    for (const char *const *n = o->source; n != NULL && *n != NULL; n++)
        COPY(s->source[s->source_count++], *n);
}

/* Whoever has made it CHANGING owns the rest. */
static _Atomic int state;
enum { OFF, CHANGING, ON };

static bool
change_from(int from)
{
    return atomic_compare_exchange_strong(&state, &from, CHANGING);
}

int
bh_report_start(const struct bh_report_options *options)
{
    static const struct bh_report_options none;
    static bool                           ring;
    const struct bh_report_options       *o = options != NULL ? options : &none;
    int                                   rc = 0;

    if (!sensible(o))
        return -EINVAL;
    if (!change_from(OFF))
        return -EALREADY;
    set(&ob_settings, o);
    ob_limiter_init(ob_settings.repeat, ob_settings.per_minute);
    if (!ring)
        rc = ob_ring_init(&ob_capture.lines, OB_LINES, sizeof(struct ob_line));
    ring = ring || rc == 0;
    if (rc == 0 && ob_settings.files)
        ob_bundle_salvage(ob_settings.directory);
    if (rc == 0 && ob_settings.monitor)
        rc = ob_monitor_start();
    if (rc == 0)
        rc = ob_reporter_start();
    if (rc < 0)
        ob_monitor_stop();
    else
        atomic_store(&ob_capture.on, true);
    atomic_store(&state, rc < 0 ? OFF : ON);
    return rc;
}

static void
stop(void *unused)
{
    (void)unused;
    ob_reporter_stop(2 * SECOND);
    ob_monitor_stop();
}

void
bh_report_stop(void)
{
    if (!change_from(ON))
        return;
    atomic_store(&ob_capture.on, false);
    if (bh_self() != NULL)
        bh_blocking(stop, NULL);
    else
        stop(NULL);
    atomic_store(&state, OFF);
}

/* ---- waiting ----------------------------------------------------------------------- */

struct flush {
    int64_t ns;
    bool    done;
};

static void
flush(void *arg)
{
    struct flush *f = arg;
    int64_t       until = ob_now() + f->ns;

    while (!(f->done = ob_reporter_idle()) && ob_now() < until)
        (void)nanosleep(&(struct timespec){ .tv_nsec = 200000 }, NULL);
}

bool
bh_report_flush(int64_t ns)
{
    struct flush f = { ns, false };

    if (bh_self() != NULL)
        bh_blocking(flush, &f);
    else
        flush(&f);
    return f.done;
}

void
bh_report_stats(struct bh_report_stats *s)
{
    *s = (struct bh_report_stats){
        .raised = atomic_load(&ob_capture.step[BH_PANIC_RAISED]),
        .recovered = atomic_load(&ob_capture.step[BH_PANIC_RECOVERED]),
        .repanicked = atomic_load(&ob_capture.step[BH_PANIC_REPANICKED]),
        .contained = atomic_load(&ob_capture.step[BH_PANIC_CONTAINED]),
        .fatal = atomic_load(&ob_capture.step[BH_PANIC_FATAL]),
        .goexit = atomic_load(&ob_capture.step[BH_PANIC_GOEXIT]),
        .aborted = atomic_load(&ob_capture.aborted),
        .hook_failed = atomic_load(&ob_capture.hook_failed),
        .suppressed = atomic_load(&ob_capture.suppressed),
        .no_slot = atomic_load(&ob_capture.no_slot),
        .lines_lost = atomic_load(&ob_capture.lines_lost),
        .capture_ns = atomic_load(&ob_capture.capture_ns),
        .capture_max_ns = atomic_load(&ob_capture.capture_max_ns),
    };
    ob_reporter_stats(s);
}
