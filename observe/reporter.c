/*
 * reporter.c -- the thread that turns captured panics into reports.
 *
 * It waits on a futex that capture.c wakes, and then serves, in this order: slots
 * that are READY (a panic), slots that are KEPT and DIRTY (news about one that is
 * written), lines.  One report is made at a time, in memory of its own that is there
 * from the start:
 *
 *     names > fingerprint > limiter says: a line
 *                         > or a report: the world > JSON, text > parts > MANIFEST
 *
 * The JSON is written before the parts (profiles and so on), so that a process that dies
 * meanwhile leaves the essential; and again after them if some are missing.  A part
 * is told the deadline; one that comes after it is not started.
 *
 * It runs on a plain thread with all signals blocked.  It takes locks of libc's and of the
 * symbol tables; what panics never waits for it, except one that ends the process,
 * and that for two seconds at most.
 */

#include "reporter.h"

#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "limiter.h"
#include "parts.h"
#include "report.h"

enum {
    STACK_TEXT = 16 * 1024, /* of a listener's summary */
    BATCH = 4096,           /* bytes written at once: a pipe takes them whole */
    LINE_TEXT = 200,        /* of a panic's text */
    RECENT = 128,
    WRITE_WAIT_MS = 200,
};

static struct {
    pthread_t        thread;
    bool             running;
    _Atomic bool     stop, busy;
    _Atomic int64_t  stop_by;
    struct ob_report report;
    struct ob_sheet  lines;
    char             lines_memory[BATCH];
    unsigned         panics_in;                 /* `lines`: so many */
    uint64_t         lost_in, lines_lost_told; /* what the notice in there says; the last one said */
    struct {
        uint64_t serial;
        char     id[OB_ID + 1];
    } recent[RECENT];
    unsigned        recent_count;
    pthread_mutex_t recent_lock; /* both; for others, who only read */
    struct {
        size_t json_fixed, text_fixed;
    } kept[OB_SLOTS];
    _Atomic uint64_t reports, amended, suppressed, failed, evicted, late;
    _Atomic int64_t  report_ns, report_max_ns;
} reporter = { .recent_lock = PTHREAD_MUTEX_INITIALIZER };

void
ob_report_miss(struct ob_report *r, const char *what, const char *why)
{
    for (int i = 0; i < r->missing_count; i++)
        if (strcmp(r->missing[i].what, what) == 0)
            return;
    if (r->missing_count < OB_MISSING)
        r->missing[r->missing_count++] = (struct ob_missing){ what, why };
}

/* ---- lines --------------------------------------------------------------------------- */

/* put_out -- whoever reads may have stopped; then text is lost, not panics.  Returns: false. */
static bool
put_out(const char *text, size_t size)
{
    struct pollfd p = { .fd = ob_settings.fd, .events = POLLOUT };

    while (p.fd >= 0 && size > 0) {
        size_t  piece = size < BATCH ? size : BATCH;
        ssize_t n = poll(&p, 1, WRITE_WAIT_MS) == 1 ? write(p.fd, text, piece) : -1;

        if (n <= 0)
            return false;
        text += n;
        size -= (size_t)n;
    }
    return true;
}

static void
lines_out(void)
{
    struct ob_sheet *s = &reporter.lines;

    if (!put_out(s->text, s->used))
        (void)atomic_fetch_add(&ob_capture.lines_lost, reporter.panics_in);
    else if (reporter.lost_in != 0)
        reporter.lines_lost_told = reporter.lost_in;
    reporter.panics_in = 0;
    reporter.lost_in = 0;
    s->used = 0;
}

static void
put_clean(struct ob_sheet *s, const char *text)
{
    for (const char *end = text + LINE_TEXT; *text != '\0' && text < end; text++)
        if ((unsigned char)*text < 0x20 || *text == 0x7f)
            ob_print(s, "\\x%02x", (unsigned char)*text);
        else
            ob_put_bytes(s, text, 1);
}

/* line_begin -- room for a line of its own. */
static struct ob_sheet *
line_begin(void)
{
    if (reporter.lines.used > BATCH - 1024)
        lines_out();
    return &reporter.lines;
}

static void
line_suppressed(const struct ob_line *l)
{
    static const char *const why[] = { "suppressed", "no slot for a report", "lost" };
    struct ob_sheet         *s = line_begin();

    reporter.panics_in++;
    ob_put(s, "panic: ");
    put_clean(s, l->text[0] != '\0' ? l->text : l->kind);
    ob_print(s, " [goroutine %llu, %s", (unsigned long long)l->goroutine, why[l->why]);
    if (l->fingerprint != 0)
        ob_print(s, ", fingerprint %016llx", (unsigned long long)l->fingerprint);
    ob_put(s, "]\n");
}

/* line_report -- failed: why a report could not be written, or 0. */
static void
line_report(const struct ob_report *r, bool full, int failed)
{
    const struct ob_raised *p = &r->slot->raised;
    struct ob_sheet        *s = line_begin();
    const char             *result = ob_result_name(&r->known);

    reporter.panics_in++;
    ob_put(s, "panic: ");
    put_clean(s, p->text[0] != '\0' ? p->text : p->kind);
    ob_print(s, " [goroutine %llu", (unsigned long long)p->goroutine);
    if (result[0] != '\0')
        ob_print(s, ", %s", result);
    if (r->known.by != NULL)
        ob_print(s, " by %s", r->known.by);
    if (r->location >= 0)
        ob_print(s, ", %s:%d", r->frame[r->location].file, r->frame[r->location].line);
    ob_print(s, ", fingerprint %s", r->fingerprint);
    if (failed < 0)
        ob_print(s, ", report not written: %s]\n", strerrordesc_np(-failed));
    else if (!full)
        ob_put(s, ", suppressed]\n");
    else if (ob_settings.files)
        ob_print(s, ", report %s/%s]\n", ob_settings.directory, r->id);
    else
        ob_put(s, "]\n");
}

/* ---- summaries ----------------------------------------------------------------------- */

static const char *
stack_text(const struct ob_report *r)
{
    static char     memory[STACK_TEXT];
    struct ob_sheet s;

    ob_sheet_init(&s, memory, sizeof memory);
    for (int i = 0; i < r->frames && !s.cut; i++)
        if (!r->frame[i].hidden)
            ob_print(&s, "%s(...)\n\t%s:%d\n", r->frame[i].function, r->frame[i].file,
                     r->frame[i].line);
    return memory;
}

static void
tell_report(const struct ob_report *r, bool full)
{
    const struct ob_raised  *p = &r->slot->raised;
    struct bh_report_summary s = {
        .id = full ? r->id : "",
        .fingerprint = r->fingerprint,
        .type = p->kind,
        .message = p->text,
        .stack = stack_text(r),
        .outcome = ob_result_name(&r->known),
        .route = p->tag.route != NULL ? p->tag.route : "",
        .serial = p->serial,
        .goroutine = p->goroutine,
        .time = p->time,
        .sampled = p->tag.sampled != 0,
        .suppressed = !full,
    };

    memcpy(s.trace_id, p->tag.trace_id, sizeof s.trace_id);
    memcpy(s.span_id, p->tag.span_id, sizeof s.span_id);
    ob_listeners_tell(&s);
}

static void
tell_line(const struct ob_line *l)
{
    char fingerprint[24] = "";

    if (l->fingerprint != 0)
        (void)snprintf(fingerprint, sizeof fingerprint, "%016llx",
                       (unsigned long long)l->fingerprint);
    struct bh_report_summary s = {
        .id = "",
        .fingerprint = fingerprint,
        .type = l->kind,
        .message = l->text,
        .stack = "",
        .outcome = l->why == OB_LINE_LOST ? "lost" : "",
        .route = l->route != NULL ? l->route : "",
        .serial = l->serial,
        .goroutine = l->goroutine,
        .time = l->time,
        .sampled = l->sampled != 0,
        .suppressed = true,
    };

    memcpy(s.trace_id, l->trace_id, sizeof s.trace_id);
    memcpy(s.span_id, l->span_id, sizeof s.span_id);
    ob_listeners_tell(&s);
}

static bool
serve_lines(void)
{
    const struct ob_line *l;
    int                   count = 0;

    while (count < 64 && (l = ob_ring_peek(&ob_capture.lines)) != NULL) {
        struct ob_line line = *l;

        ob_ring_pop(&ob_capture.lines);
        if (line.fingerprint == 0) /* its like was being looked at then */
            line.fingerprint = ob_limiter_fingerprint(line.key);
        line_suppressed(&line);
        tell_line(&line);
        count++;
    }
    uint64_t lost = atomic_load(&ob_capture.lines_lost);
    if (count == 0 && lost != reporter.lines_lost_told) {
        ob_print(line_begin(), "panic: and %llu more, not shown\n",
                 (unsigned long long)(lost - reporter.lines_lost_told));
        reporter.lost_in = lost;
    }
    return count > 0;
}

/* ---- a report ------------------------------------------------------------------------ */

static void
remember(const struct ob_report *r)
{
    unsigned at = reporter.recent_count++ % RECENT;

    pthread_mutex_lock(&reporter.recent_lock);
    reporter.recent[at].serial = r->slot->raised.serial;
    memcpy(reporter.recent[at].id, r->id, sizeof r->id);
    pthread_mutex_unlock(&reporter.recent_lock);
}

uint64_t
ob_report_serial(const char *id)
{
    uint64_t serial = 0;

    pthread_mutex_lock(&reporter.recent_lock);
    for (int i = 0; i < RECENT && serial == 0; i++)
        if (strcmp(reporter.recent[i].id, id) == 0)
            serial = reporter.recent[i].serial;
    pthread_mutex_unlock(&reporter.recent_lock);
    return serial;
}

static void
find_earlier(struct ob_report *r)
{
    r->earlier[0] = '\0';
    for (int i = 0; i < RECENT; i++)
        if (reporter.recent[i].serial == r->slot->raised.serial &&
            reporter.recent[i].id[0] != '\0')
            memcpy(r->earlier, reporter.recent[i].id, sizeof r->earlier);
}

static int
write_texts(struct ob_report *r)
{
    int rc;

    ob_json_write(r);
    ob_text_write(r, ob_settings.level, ob_settings.colours);
    rc = ob_bundle_write(r, "report.json", &r->json);
    return rc < 0 ? rc : ob_bundle_write(r, "report.txt", &r->text);
}

static int
write_bundle(struct ob_report *r)
{
    int rc = ob_bundle_begin(r), missing;

    if (rc < 0)
        return rc;
    rc = write_texts(r);
    missing = r->missing_count;
    if (rc == 0) {
        int late = ob_parts_write(r);

        (void)atomic_fetch_add(&reporter.late, (uint64_t)late);
        if (r->missing_count != missing)
            rc = write_texts(r);
    }
    if (rc == 0)
        rc = ob_bundle_end(r);
    if (rc < 0)
        ob_bundle_abandon(r);
    return rc;
}

static void
measured(int64_t ns)
{
    atomic_store(&reporter.report_ns, ns);
    if (ns > atomic_load(&reporter.report_max_ns))
        atomic_store(&reporter.report_max_ns, ns);
}

/* take_outcome -- all that is known; news from now on make the slot dirty again. */
static void
take_outcome(struct ob_report *r, struct ob_slot *s)
{
    (void)atomic_fetch_and(&s->state, ~(uint32_t)OB_DIRTY);
    ob_known_read(&r->known, &s->outcome);
    if (r->slot->raised.hook_failed)
        r->known.hook_failed = true;
}

/* make_report -- Returns: 0, or why it could not be written. */
static int
make_report(struct ob_report *r, struct ob_slot *s)
{
    int rc = 0;

    ob_id_make(r->id, s->raised.time);
    find_earlier(r);
    ob_world_read(&r->world, &s->raised);
    ob_numbers_read(&r->world);
    take_outcome(r, s);
    if (r->known.result == BH_PANIC_FATAL)
        ob_monitor_tell(r->id);
    if (!ob_settings.files) {
        ob_text_write(r, ob_settings.level, ob_settings.colours);
        lines_out();
        if (!put_out(r->text.text, r->text.used))
            (void)atomic_fetch_add(&ob_capture.lines_lost, 1);
    } else if ((rc = write_bundle(r)) < 0) {
        (void)atomic_fetch_add(&reporter.failed, 1);
        r->id[0] = '\0';
    } else {
        int evicted = ob_bundle_quota(ob_settings.directory, ob_settings.quota, r->id);

        (void)atomic_fetch_add(&reporter.evicted, (uint64_t)evicted);
    }
    memcpy(s->id, r->id, sizeof r->id);
    remember(r);
    (void)atomic_fetch_add(&reporter.reports, r->id[0] != '\0');
    return rc;
}

/* Nobody recovered it: it has a report, whatever the limiter says. */
static bool
is_fatal(struct ob_slot *s)
{
    return s->raised.forced || atomic_load(&s->outcome.result) == BH_PANIC_FATAL;
}

static void
serve_ready(struct ob_slot *s)
{
    struct ob_report *r = &reporter.report;
    uint64_t          fingerprint;
    int64_t           began = ob_now();
    bool              full;
    int               failed = 0;

    r->slot = s;
    r->began = began;
    r->deadline = began + ob_settings.deadline;
    r->missing_count = 0;
    r->id[0] = s->id[0] = '\0';
    ob_modules_read(r);
    ob_frames_read(r);
    ob_fingerprint_make(r, &fingerprint);
    memcpy(s->fingerprint, r->fingerprint, sizeof s->fingerprint);
    full = ob_limiter_judge(s->raised.key, fingerprint, began, is_fatal(s));
    if (full) {
        failed = make_report(r, s);
        measured(ob_now() - began);
    } else {
        take_outcome(r, s);
        (void)atomic_fetch_add(&reporter.suppressed, 1);
    }
    if (!full || ob_settings.files) /* else the text has been written there */
        line_report(r, full, failed);
    tell_report(r, full);
    reporter.kept[s - ob_capture.slot].json_fixed = r->json_fixed;
    reporter.kept[s - ob_capture.slot].text_fixed = r->text_fixed;
    atomic_store(&s->written, true);
}

/* serve_news -- something was learnt about a panic whose report is written. */
static void
serve_news(struct ob_slot *s)
{
    struct ob_report *r = &reporter.report;
    size_t            json = reporter.kept[s - ob_capture.slot].json_fixed;
    size_t            text = reporter.kept[s - ob_capture.slot].text_fixed;
    char              path[OB_PATH];
    int               rc;

    if (s->id[0] == '\0' && is_fatal(s)) {
        serve_ready(s); /* it was suppressed */
        return;
    }
    r->slot = s;
    take_outcome(r, s);
    if (r->known.result == BH_PANIC_FATAL)
        ob_monitor_tell(s->id);
    if (s->id[0] == '\0' || !ob_settings.files)
        return;
    ob_json_write_rest(r);
    rc = ob_bundle_amend(s->id, "report.json", json, &r->json);
    ob_text_write_rest(r, ob_settings.colours);
    if (rc == 0)
        rc = ob_bundle_amend(s->id, "report.txt", text, &r->text);
    if (rc == 0)
        rc = ob_path_join(path, ob_settings.directory, s->id);
    if (rc == 0)
        rc = ob_bundle_manifest(path, NULL, 0);
    /* Somebody, or the quota, may have removed it. */
    (void)atomic_fetch_add(rc == 0 ? &reporter.amended : &reporter.failed, rc != -ENOENT);
}

/* ---- the thread ------------------------------------------------------------------------ */

/* serve_slots -- those in this state.  Returns: whether there was one. */
static bool
serve_slots(uint32_t state, uint32_t flag, void (*serve)(struct ob_slot *s))
{
    bool any = false;

    for (int i = 0; i < OB_SLOTS; i++) {
        struct ob_slot *s = &ob_capture.slot[i];
        uint32_t        now = atomic_load(&s->state);

        /* Pinned by the goroutine that writes the news: move keeps that, and so do we. */
        while ((now & OB_STATE) == state && (now & flag) == flag)
            if (atomic_compare_exchange_weak(&s->state, &now,
                                             (now & ~(uint32_t)OB_STATE) | OB_BUSY)) {
                serve(s);
                (void)ob_slot_move(s, OB_KEPT, false);
                any = true;
                break;
            }
    }
    return any;
}

static bool
serve_all(void)
{
    bool any = serve_slots(OB_READY, 0, serve_ready);

    any = serve_slots(OB_KEPT, OB_DIRTY, serve_news) || any;
    any = serve_lines() || any;
    lines_out();
    return any;
}

static void
wait_for_work(uint32_t seen)
{
    struct timespec second = { .tv_sec = 1 };

    atomic_store(&ob_capture.sleeping, 1);
    if (atomic_load(&ob_capture.work) == seen && !atomic_load(&reporter.stop))
        (void)syscall(SYS_futex, &ob_capture.work, FUTEX_WAIT | FUTEX_PRIVATE_FLAG, seen,
                      &second, NULL, 0);
    atomic_store(&ob_capture.sleeping, 0);
}

static void *
reporter_main(void *arg)
{
    struct bh_frame f[BH_FRAMES_MAX];

    (void)arg;
    (void)pthread_setname_np(pthread_self(), "bh-reporter");
    if (!ob_settings.raw) /* the symbol tables are read now, not at the first panic */
        (void)bh_symbolize((uintptr_t)reporter_main + 1, f, BH_FRAMES_MAX);
    for (;;) {
        uint32_t seen = atomic_load(&ob_capture.work);
        bool     any;

        atomic_store(&reporter.busy, true);
        any = serve_all();
        atomic_store(&reporter.busy, false);
        if (atomic_load(&reporter.stop) && (!any || ob_now() > atomic_load(&reporter.stop_by)))
            return NULL;
        if (!any)
            wait_for_work(seen);
    }
}

/* get_memory -- once; it is kept for the next start. */
static int
get_memory(void)
{
    struct ob_report *r = &reporter.report;

    if (r->json.text == NULL) {
        char *json = malloc(OB_JSON_SIZE), *text = malloc(OB_TEXT_SIZE);

        if (json == NULL || text == NULL) {
            free(json);
            free(text);
            return -ENOMEM;
        }
        ob_sheet_init(&r->json, json, OB_JSON_SIZE);
        ob_sheet_init(&r->text, text, OB_TEXT_SIZE);
        ob_sheet_init(&reporter.lines, reporter.lines_memory, sizeof reporter.lines_memory);
    }
    return ob_world_init(&r->world);
}

int
ob_reporter_start(void)
{
    sigset_t all, old;
    int      rc = get_memory();

    if (rc < 0)
        return rc;
    atomic_store(&reporter.stop, false);
    sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    rc = pthread_create(&reporter.thread, NULL, reporter_main, NULL);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    reporter.running = rc == 0;
    return -rc;
}

void
ob_reporter_stop(int64_t within)
{
    if (!reporter.running)
        return;
    atomic_store(&reporter.stop_by, ob_now() + within);
    atomic_store(&reporter.stop, true);
    ob_wake();
    (void)pthread_join(reporter.thread, NULL);
    reporter.running = false;
}

bool
ob_reporter_idle(void)
{
    uint32_t work = atomic_load(&ob_capture.work);

    if (atomic_load(&reporter.busy) || ob_ring_count(&ob_capture.lines) > 0)
        return false;
    for (int i = 0; i < OB_SLOTS; i++) {
        uint32_t state = atomic_load(&ob_capture.slot[i].state);

        if ((state & OB_STATE) == OB_FILLING || (state & OB_STATE) == OB_READY ||
            (state & OB_STATE) == OB_BUSY || (state & OB_DIRTY) != 0)
            return false;
    }
    return !atomic_load(&reporter.busy) && atomic_load(&ob_capture.work) == work;
}

void
ob_reporter_stats(struct bh_report_stats *s)
{
    s->reports = atomic_load(&reporter.reports);
    s->amended = atomic_load(&reporter.amended);
    s->suppressed += atomic_load(&reporter.suppressed);
    s->failed = atomic_load(&reporter.failed);
    s->evicted = atomic_load(&reporter.evicted);
    s->late = atomic_load(&reporter.late);
    s->report_ns = atomic_load(&reporter.report_ns);
    s->report_max_ns = atomic_load(&reporter.report_max_ns);
}
