/*
 * report_test.c -- panics on the real runtime, and what is in their reports.
 *
 * Each test has a directory of its own.  The hook is set by a constructor, since it
 * must be before bh_main.
 */

#include "test.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/flight.h>
#include <bulkhead/go/group.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/safe.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/json.h>
#include <bulkhead/observe/export.h>
#include <bulkhead/observe/report.h>

#include "collector_fixture.h"
#include "http_fixture.h"

#define WAIT (8 * BH_SECOND)

__attribute__((constructor)) static void
set_hooks(void)
{
    bh_set_hooks(&(struct bh_hooks){ .panic = bh_report_event });
}

/* ---- a directory of reports ---------------------------------------------------------- */

struct place {
    char             directory[64], error[64];
    int              log; /* what is written to the options' fd */
    struct bh_arena *arena;
};

static void
place_remove(struct place *p)
{
    char command[128];

    bh_report_stop();
    bh_arena_free(p->arena);
    close(p->log);
    snprintf(command, sizeof command, "rm -rf '%s'", p->directory);
    EXPECT_EQ(system(command), 0);
}

/* Options of every test, with what `more` adds. */
static void
place_start(struct place *p, const struct bh_report_options *more)
{
    struct bh_report_options o = *more;

    snprintf(p->directory, sizeof p->directory, "%s", "/tmp/bulkhead_report_XXXXXX");
    EXPECT(mkdtemp(p->directory) != NULL);
    p->log = open(p->directory, O_TMPFILE | O_RDWR, 0600);
    EXPECT(p->log >= 0);
    p->arena = bh_arena_new(0);
    o.directory = p->directory;
    o.fd = p->log;
    o.deadline = o.deadline != 0 ? o.deadline : 10 * BH_SECOND;
    EXPECT_EQ(bh_report_start(&o), 0);
}

/* What has been written to the descriptor for lines. */
static const char *
place_lines(struct place *p)
{
    char   *text = bh_arena_alloc(p->arena, 1 << 20);
    ssize_t n = pread(p->log, text, (1 << 20) - 1, 0);

    EXPECT(n >= 0);
    text[n] = '\0';
    return text;
}

static int
place_count(struct place *p, char id[64])
{
    DIR           *d = opendir(p->directory);
    struct dirent *e;
    int            count = 0;

    EXPECT(d != NULL);
    while ((e = readdir(d)) != NULL)
        if (e->d_name[0] != '.') {
            snprintf(id, 64, "%.63s", e->d_name);
            count++;
        }
    closedir(d);
    return count;
}

static const char *
place_file(struct place *p, const char *id, const char *name)
{
    char        path[256];
    struct stat st;

    snprintf(path, sizeof path, "%s/%s/%s", p->directory, id, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return NULL;
    EXPECT_EQ(fstat(fd, &st), 0);
    char *text = bh_arena_alloc(p->arena, (size_t)st.st_size + 1);
    EXPECT_EQ(read(fd, text, (size_t)st.st_size), st.st_size);
    close(fd);
    return text;
}

/* The only report, as JSON. */
static const struct bh_json *
place_report(struct place *p)
{
    char                  id[64];
    const struct bh_json *json = NULL;

    EXPECT(bh_report_flush(WAIT));
    EXPECT_EQ(place_count(p, id), 1);
    const char *text = place_file(p, id, "report.json");
    EXPECT(text != NULL);
    EXPECT_EQ(bh_json_parse(p->arena, text, strlen(text), &json), 0);
    return json;
}

static const char *
text_of(const struct bh_json *j, const char *object, const char *name)
{
    return bh_json_text(bh_json_get(j, object), name, "(absent)");
}

/* ---- things that panic ----------------------------------------------------------------- */

struct boom {
    struct bh_chan *done;
    int             n;
};

static void
tell(struct bh_chan *done)
{
    bh_send(done, &(int){ 1 });
}

__attribute__((noinline)) static void
boom_here(int n)
{
    bh_panic("boom %d", n);
}

static void
boom(struct bh_ctx *ctx, void *args)
{
    struct boom *b = args;

    (void)ctx;
    BH_DEFER(tell, b->done);
    boom_here(b->n);
}

static void
boom_and_wait(struct bh_chan *done, int n)
{
    for (int i = 0; i < n; i++)
        bh_go_safe(bh_ctx_background(), "boomer", boom, &(struct boom){ done, i });
    for (int i = 0; i < n; i++)
        EXPECT(bh_recv(done, NULL));
}

static int
recovers(int (*fn)(const void *arg), const void *arg)
{
    BH_RECOVER(p) {
        (void)p;
        return BH_EPANIC;
    }
    return fn(arg);
}

static int
fault(const void *arg)
{
    return *(const volatile int *)arg;
}

static int
panic_named(const void *arg)
{
    bh_panic("%s", (const char *)arg);
    return 0;
}

/* ---- one report -------------------------------------------------------------------------- */

TEST(report, a_contained_panic_has_a_report_with_its_outcome)
{
    struct place    p;
    struct bh_chan *done = BH_CHAN(int, 1);

    BH_DEFER(bh_chan_unref, done);
    place_start(&p, &(struct bh_report_options){ .service = "shop", .version = "1.2" });
    BH_DEFER(place_remove, &p);
    boom_and_wait(done, 1);
    while (bh_goroutine_count() > 1)
        bh_yield();
    const struct bh_json *j = place_report(&p);
    EXPECT_STR(bh_json_text(j, "schema", ""), "bulkhead.panic/1");
    EXPECT_EQ(bh_json_int(j, "phase", 0), 2);
    EXPECT_STR(text_of(j, "panic", "message"), "boom 0");
    EXPECT_STR(text_of(j, "panic", "kind"), "user");
    EXPECT_STR(text_of(bh_json_get(j, "panic"), "location", "function"), "boom_here");
    EXPECT_STR(text_of(j, "outcome", "result"), "contained");
    EXPECT_STR(text_of(j, "outcome", "by"), "bh_go_safe");
    EXPECT(bh_json_int(bh_json_get(j, "outcome"), "defers_run", 0) >= 1);
    EXPECT(bh_json_int(bh_json_get(j, "outcome"), "unwind_ns", 0) > 0);
    EXPECT_STR(bh_json_text(bh_json_at(bh_json_get(j, "defers"), 0), "function", ""), "tell");
    EXPECT_STR(text_of(j, "goroutine", "name"), "boomer");
    const struct bh_json *g = bh_json_get(j, "goroutine");
    EXPECT(bh_json_int(g, "stack_used", 0) > 0);
    EXPECT(bh_json_int(g, "stack_used", 0) < bh_json_int(g, "stack_size", 0));
    EXPECT_EQ(bh_json_get(g, "held_locks")->size, 0);
    EXPECT_STR(text_of(j, "service", "name"), "shop");
}

TEST_REAL(report, the_text_begins_as_go_s_does)
{
    struct place    p;
    char            id[64];
    struct bh_chan *done = BH_CHAN(int, 1);

    BH_DEFER(bh_chan_unref, done);
    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    boom_and_wait(done, 1);
    (void)place_report(&p);
    EXPECT_EQ(place_count(&p, id), 1);
    const char *text = place_file(&p, id, "report.txt");
    EXPECT(text != NULL);
    EXPECT(strncmp(text, "panic: boom 0\n\ngoroutine ", 25) == 0);
    EXPECT(strstr(text, "[running]:\nboom_here(...)\n\t") != NULL);
    EXPECT(strstr(text, "\noutcome\n  contained by bh_go_safe") != NULL);
    EXPECT(strstr(text, "every frame") != NULL);
    const char *manifest = place_file(&p, id, "MANIFEST");
    EXPECT(manifest != NULL && strncmp(manifest, "bulkhead.bundle/1\n", 18) == 0);
    EXPECT(strstr(manifest, " report.json\n") != NULL);
    EXPECT(strstr(manifest, " report.txt\n") != NULL);
    EXPECT(strstr(place_lines(&p), id) != NULL);
}

TEST_REAL(report, a_fault_knows_its_address)
{
    struct place p;
    char         id[64];

    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(fault, (const void *)0x18), BH_EPANIC);
    const struct bh_json *j = place_report(&p), *panic = bh_json_get(j, "panic");
    EXPECT_STR(bh_json_text(panic, "kind", ""), "fault");
    EXPECT_STR(text_of(panic, "fault", "addr"), "0x18");
    EXPECT_EQ(bh_json_int(bh_json_get(panic, "fault"), "signal", 0), SIGSEGV);
    const struct bh_json *registers = bh_json_get(bh_json_get(panic, "fault"), "registers");
    const char           *pc = bh_register_name(0)[0] == 'r' ? "rip" : "pc";
    EXPECT_STR(bh_json_text(registers, pc, ""), text_of(panic, "fault", "pc"));
    EXPECT_EQ(registers->size, pc[0] == 'r' ? 17 : 33);
    EXPECT(place_count(&p, id) == 1 &&
           strstr(place_file(&p, id, "report.txt"), "\nregisters at the fault\n  ") != NULL);
    EXPECT_STR(text_of(panic, "location", "function"), "fault");
    EXPECT_STR(text_of(j, "outcome", "result"), "recovered");
}

static void
catch_it(void *arg)
{
    (void)arg;
    EXPECT(bh_recover() != NULL);
}

static void
only_tidy(void *arg)
{
    (void)arg;
}

static void
catcher(void)
{
    BH_RETURNS_VOID;
    BH_DEFER(catch_it, NULL);
    BH_DEFER(only_tidy, NULL);
    bh_panic("caught");
}

TEST_REAL(report, a_deferred_call_that_recovers_is_named)
{
    struct place p;
    char         id[64];

    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    catcher();
    const struct bh_json *j = place_report(&p), *defers = bh_json_get(j, "defers");
    EXPECT_STR(text_of(j, "outcome", "result"), "recovered");
    EXPECT_STR(text_of(j, "outcome", "by"), "catch_it");
    EXPECT_EQ(defers->size, 2);
    EXPECT(!bh_json_bool(bh_json_at(defers, 0), "recovered", true));
    EXPECT(bh_json_bool(bh_json_at(defers, 1), "recovered", false));
    EXPECT(place_count(&p, id) == 1 &&
           strstr(place_file(&p, id, "report.txt"), "ns, recovered it\n") != NULL);
}

/* A deferred call that waits, so that the report is written before the outcome is known. */
struct held {
    struct bh_chan *reached, *go_on, *done;
};

static void
hold(struct held *h)
{
    bh_send(h->reached, &(int){ 1 });
    bh_recv(h->go_on, NULL);
}

static void
held_main(struct bh_ctx *ctx, void *args)
{
    struct held *h = args;

    (void)ctx;
    BH_DEFER(tell, h->done);
    BH_DEFER(hold, h);
    bh_panic("held");
}

TEST_REAL(report, it_is_amended_when_the_outcome_comes_later)
{
    struct place p;
    struct held  h = { BH_CHAN(int, 1), BH_CHAN(int, 1), BH_CHAN(int, 1) };

    BH_DEFER(bh_chan_unref, h.reached);
    BH_DEFER(bh_chan_unref, h.go_on);
    BH_DEFER(bh_chan_unref, h.done);
    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    bh_go_safe(bh_ctx_background(), "held", held_main, &h);
    bh_recv(h.reached, NULL);
    const struct bh_json *j = place_report(&p);
    EXPECT_EQ(bh_json_int(j, "phase", 0), 1);
    EXPECT_STR(text_of(j, "outcome", "result"), "unknown");
    bh_send(h.go_on, &(int){ 1 });
    bh_recv(h.done, NULL);
    while (bh_goroutine_count() > 1)
        bh_yield();
    j = place_report(&p);
    EXPECT_EQ(bh_json_int(j, "phase", 0), 2);
    EXPECT_STR(text_of(j, "outcome", "result"), "contained");
    EXPECT_STR(text_of(j, "panic", "message"), "held");
    EXPECT(bh_json_at(bh_json_get(j, "defers"), 1) != NULL);
}

TEST_REAL(report, the_flight_recorder_s_last_events_are_there)
{
    struct place          p;
    const struct bh_json *e;
    bool                  marked = false;

    EXPECT_EQ(bh_flight_start(0), 0);
    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    for (int i = 0; i < 100; i++)
        bh_yield();
    bh_flight_log(7, "step", "of the recipe");
    EXPECT_EQ(recovers(panic_named, "recorded"), BH_EPANIC);
    bh_flight_stop();
    const struct bh_json *events = bh_json_get(place_report(&p), "events");
    EXPECT(bh_json_at(events, 63) != NULL && bh_json_at(events, 64) == NULL);
    int64_t before = INT64_MIN;
    for (uint32_t i = 0; (e = bh_json_at(events, i)) != NULL; i++) {
        EXPECT(bh_json_int(e, "t_ns", 1) <= 0);
        EXPECT(bh_json_int(e, "t_ns", 1) >= before);
        before = bh_json_int(e, "t_ns", 1);
        marked |= strcmp(bh_json_text(e, "ev", ""), "log") == 0 &&
                  strcmp(bh_json_text(e, "text", ""), "step=of the recipe") == 0;
    }
    EXPECT(marked);
}

/* ---- many -------------------------------------------------------------------------------- */

struct storm {
    struct bh_waitgroup *all;
    int                  n;
};

static int
storm_one(const void *arg)
{
    boom_here(*(const int *)arg);
    return 0;
}

static void
storm_main(void *args)
{
    struct storm *s = args;

    BH_DEFER(bh_waitgroup_done, s->all);
    for (int i = 0; i < s->n; i++)
        EXPECT_EQ(recovers(storm_one, &i), BH_EPANIC);
}

TEST_REAL(report, ten_thousand_panics_are_one_report_and_every_one_is_counted)
{
    enum { STORMERS = 100, EACH = 100, ALL = STORMERS * EACH };
    struct place           p;
    struct bh_report_stats stats;
    struct bh_waitgroup    all = { 0 };

    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    bh_waitgroup_add(&all, STORMERS);
    for (int i = 0; i < STORMERS; i++)
        bh_go(storm_main, &(struct storm){ &all, EACH });
    bh_waitgroup_wait(&all);
    EXPECT(bh_report_flush(WAIT));
    bh_report_stats(&stats);
    EXPECT_EQ(stats.raised, ALL);
    EXPECT_EQ(stats.recovered, ALL);
    EXPECT_EQ(stats.reports, 1);
    EXPECT_EQ(stats.suppressed + stats.no_slot, ALL - 1);
    EXPECT_EQ(stats.failed, 0);
    const char *lines = place_lines(&p), *more = strstr(lines, "panic: and ");
    EXPECT(strstr(lines, "suppressed, fingerprint ") != NULL);
    uint64_t said = 0;
    for (const char *at = lines; (at = strstr(at, "suppressed")) != NULL; at++)
        said++;
    for (; more != NULL; more = strstr(more + 1, "panic: and "))
        said += strtoul(more + 11, NULL, 10);
    EXPECT_EQ(said, ALL - 1);
}

static struct bh_kind kinds[200];

static int
panic_of_kind(const void *arg)
{
    bh_panic_value(arg, (const void *)1);
    return 0;
}

static void
make_kinds(void)
{
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        kinds[i].name = "kind";
}

/* A part that waits: the reporter is busy meanwhile. */
static sem_t part_reached, part_go_on;

static int
slow_part(int fd, int64_t deadline, void *arg)
{
    (void)fd;
    (void)deadline;
    (void)arg;
    sem_post(&part_reached);
    while (sem_wait(&part_go_on) != 0)
        continue;
    return 0;
}

static void
sem_take(void *arg)
{
    while (sem_wait(arg) != 0)
        continue;
}

TEST_REAL(report, without_a_free_slot_a_panic_is_a_line)
{
    struct place           p;
    struct bh_report_stats stats;
    int                    count = (int)(sizeof kinds / sizeof *kinds);

    make_kinds();
    sem_init(&part_reached, 0, 0);
    sem_init(&part_go_on, 0, 0);
    EXPECT_EQ(bh_report_add("slow.txt", slow_part, NULL), 0);
    place_start(&p, &(struct bh_report_options){ .per_minute = 1 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(panic_of_kind, &kinds[0]), BH_EPANIC);
    bh_blocking(sem_take, &part_reached);
    for (int i = 1; i < count; i++)
        EXPECT_EQ(recovers(panic_of_kind, &kinds[i]), BH_EPANIC);
    bh_report_stats(&stats);
    EXPECT_EQ(stats.no_slot, count - 64);
    sem_post(&part_go_on);
    EXPECT(bh_report_flush(WAIT));
    bh_report_stats(&stats);
    EXPECT_EQ(stats.reports, 1);
    EXPECT_EQ(stats.suppressed, 63);
    EXPECT(strstr(place_lines(&p), "no slot for a report") != NULL);
}

TEST_REAL(report, a_minute_has_so_many_full_reports)
{
    struct place           p;
    struct bh_report_stats stats;
    static char            names[12][16];
    char                   id[64];

    make_kinds();
    place_start(&p, &(struct bh_report_options){ .per_minute = 3 });
    BH_DEFER(place_remove, &p);
    for (int i = 0; i < 12; i++) {
        snprintf(names[i], sizeof names[i], "kind %d", i);
        kinds[i].name = names[i];
        EXPECT_EQ(recovers(panic_of_kind, &kinds[i]), BH_EPANIC);
        EXPECT(bh_report_flush(WAIT));
    }
    bh_report_stats(&stats);
    EXPECT_EQ(stats.reports, 3);
    EXPECT_EQ(stats.suppressed, 9);
    EXPECT_EQ(place_count(&p, id), 3);
}

static void
sleep_until_closed(void *args)
{
    bh_recv(((struct boom *)args)->done, NULL);
}

/* By two ways, which are one to who looks at the names of the five innermost functions. */
static int (*volatile last_straw)(const void *arg) = panic_named;

static __attribute__((noinline)) int
by_a_way(bool one, int deep)
{
    int rc;

    if (deep > 0) {
        rc = by_a_way(one, deep - 1);
        __asm__ volatile("nop\n nop");
    } else if (one) {
        rc = last_straw("the last straw");
        __asm__ volatile("");
    } else {
        rc = last_straw("the last straw");
        __asm__ volatile("nop");
    }
    return rc;
}

static int
by_this_way(const void *arg)
{
    return by_a_way(*(const bool *)arg, 5);
}

static void
recover_and_die(void *args)
{
    struct place *p = args;

    EXPECT_EQ(bh_report_start(&(struct bh_report_options){
                  .directory = p->directory, .fd = p->log, .deadline = WAIT }),
              0);
    EXPECT_EQ(recovers(by_this_way, &(bool){ true }), BH_EPANIC);
    EXPECT(bh_report_flush(WAIT));
    (void)by_a_way(false, 5);
}

TEST_PLAIN(report, a_panic_that_ends_the_process_is_reported_however_often_it_was)
{
    struct place p;
    char         id[64];
    int          status;
    pid_t        pid;

    place_start(&p, &(struct bh_report_options){ 0 });
    bh_report_stop();
    pid = fork();
    if (pid == 0) {
        (void)close(STDERR_FILENO);
        (void)bh_main(recover_and_die, &p);
        _exit(0);
    }
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 2);
    EXPECT_EQ(place_count(&p, id), 2);
    place_remove(&p);
}

TEST_REAL(report, it_counts_ten_thousand_goroutines)
{
    const int       many = test_sanitized ? 4000 : 10000; /* TSan has room for some 8,000 */
    struct place    p;
    struct bh_chan *gate = BH_CHAN(int, 0);

    BH_DEFER(bh_chan_unref, gate);
    for (int i = 0; i < many; i++)
        bh_go(sleep_until_closed, &(struct boom){ gate, i });
    bh_yield();
    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(panic_named, "among many"), BH_EPANIC);
    const struct bh_json *j = place_report(&p), *world = bh_json_get(j, "world");
    EXPECT(bh_json_int(world, "goroutines", 0) > many);
    const struct bh_json *largest = bh_json_at(bh_json_get(world, "groups"), 0);
    EXPECT(bh_json_int(largest, "count", 0) > many / 2);
    bh_close(gate);
    while (bh_goroutine_count() > 1)
        bh_yield();
}

/* ---- what goes wrong --------------------------------------------------------------------- */

static void
bad_hook(const struct bh_panic *p, void *arg)
{
    (void)arg;
    if (strcmp(p->text, "told to a bad hook") == 0)
        bh_panic("the hook's own");
}

TEST_REAL(report, a_panic_in_a_hook_marks_the_report)
{
    struct place           p;
    struct bh_report_stats stats;
    char                   id[64];

    EXPECT_EQ(bh_hook_panic(bad_hook, NULL), 0);
    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(panic_named, "told to a bad hook"), BH_EPANIC);
    EXPECT(bh_report_flush(WAIT));
    bh_report_stats(&stats);
    EXPECT_EQ(stats.hook_failed, 1);
    EXPECT(place_count(&p, id) >= 1);
    bool marked = false;
    DIR *d = opendir(p.directory);
    EXPECT(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        const char *text =
            e->d_name[0] != '.' ? place_file(&p, e->d_name, "report.json") : NULL;
        const struct bh_json *j;

        if (text == NULL)
            continue;
        EXPECT_EQ(bh_json_parse(p.arena, text, strlen(text), &j), 0);
        if (strcmp(text_of(j, "panic", "message"), "told to a bad hook") == 0)
            marked = bh_json_bool(bh_json_get(j, "outcome"), "hook_failed", false);
    }
    closedir(d);
    EXPECT(marked);
}

TEST_REAL(report, a_directory_that_cannot_be_written_leaves_lines)
{
    struct bh_report_stats stats;
    int                    out[2];
    char                   text[512];

    EXPECT_EQ(pipe(out), 0);
    EXPECT_EQ(bh_report_start(&(struct bh_report_options){ .directory = "/dev/null/reports",
                                                           .fd = out[1] }),
              0);
    EXPECT_EQ(recovers(panic_named, "nowhere to go"), BH_EPANIC);
    EXPECT(bh_report_flush(WAIT));
    bh_report_stop();
    bh_report_stats(&stats);
    EXPECT_EQ(stats.failed, 1);
    EXPECT_EQ(stats.reports, 0);
    close(out[1]);
    ssize_t n = read(out[0], text, sizeof text - 1);
    EXPECT(n > 0);
    text[n] = '\0';
    EXPECT(strstr(text, "panic: nowhere to go [goroutine ") != NULL);
    close(out[0]);
}

TEST_REAL(report, a_full_disk_leaves_nothing_half_done)
{
    struct place           p;
    struct bh_report_stats stats;
    char                   id[64];
    struct rlimit          small = { 2048, 2048 };

    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
    EXPECT_EQ(recovers(panic_named, "no room"), BH_EPANIC);
    EXPECT(bh_report_flush(WAIT));
    bh_report_stats(&stats);
    EXPECT_EQ(stats.failed, 1);
    EXPECT_EQ(place_count(&p, id), 0);
    DIR *d = opendir(p.directory);
    EXPECT(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;)
        EXPECT(strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0);
    closedir(d);
    EXPECT(strstr(place_lines(&p), "panic: no room [goroutine ") != NULL);
    EXPECT(strstr(place_lines(&p), "report not written: File too large]") != NULL);
}

TEST_REAL(report, a_reader_that_stopped_loses_lines_and_hears_how_many)
{
    struct place           p;
    struct bh_report_stats stats;
    struct bh_report_options o = { .deadline = WAIT };
    static char            text[256 * 1024];
    size_t                 used = 0;
    int                    out[2];

    place_start(&p, &(struct bh_report_options){ 0 }); /* for its directory */
    BH_DEFER(place_remove, &p);
    bh_report_stop();
    EXPECT_EQ(pipe2(out, O_NONBLOCK | O_CLOEXEC), 0);
    while (write(out[1], "full\n", 5) > 0)
        continue;
    EXPECT_EQ(fcntl(out[1], F_SETFL, 0), 0);
    o.directory = p.directory;
    o.fd = out[1];
    EXPECT_EQ(bh_report_start(&o), 0);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(recovers(panic_named, "unheard"), BH_EPANIC);
        EXPECT(bh_report_flush(WAIT));
    }
    bh_report_stats(&stats);
    EXPECT_EQ(stats.lines_lost, 3); /* and not those that would have said so */
    while (strstr(text, "not shown") == NULL) {
        ssize_t n = read(out[0], text + used, sizeof text - 1 - used);

        used += n > 0 ? (size_t)n : 0;
        if (n < 0)
            bh_sleep(BH_MILLISECOND);
    }
    EXPECT(strstr(text, "panic: and 3 more, not shown\n") != NULL);
    bh_report_stop();
    close(out[0]);
    close(out[1]);
}

static int
bad_part(int fd, int64_t deadline, void *arg)
{
    (void)deadline;
    (void)arg;
    EXPECT_EQ(write(fd, "half", 4), 4);
    return -EIO;
}

static int
good_part(int fd, int64_t deadline, void *arg)
{
    (void)deadline;
    return write(fd, arg, strlen(arg)) < 0 ? -errno : 0;
}

static int
never_part(int fd, int64_t deadline, void *arg)
{
    (void)fd;
    (void)arg;
    while (bh_now() < deadline)
        continue;
    return 0;
}

TEST_REAL(report, parts_that_fail_or_come_late_are_missing_by_name)
{
    struct place p;
    char         id[64];
    static char  good[] = "good";

    EXPECT_EQ(bh_report_add("../bad", bad_part, NULL), -EINVAL);
    EXPECT_EQ(bh_report_add("report.json", bad_part, NULL), -EINVAL);
    EXPECT_EQ(bh_report_add("bad.txt", bad_part, NULL), 0);
    EXPECT_EQ(bh_report_add("bad.txt", bad_part, NULL), -EEXIST);
    EXPECT_EQ(bh_report_add("good.txt", good_part, good), 0);
    EXPECT_EQ(bh_report_add("never.txt", never_part, NULL), 0);
    EXPECT_EQ(bh_report_add("late.txt", good_part, good), 0);
    place_start(&p, &(struct bh_report_options){ .deadline = BH_SECOND / 2 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(panic_named, "in parts"), BH_EPANIC);
    const struct bh_json *j = place_report(&p);
    EXPECT(!bh_json_bool(j, "complete", true));
    EXPECT_EQ(place_count(&p, id), 1);
    const char *manifest = place_file(&p, id, "MANIFEST");
    EXPECT(strstr(manifest, "missing bad.txt: EIO\n") != NULL);
    EXPECT(strstr(manifest, "missing late.txt: deadline\n") != NULL);
    EXPECT(strstr(manifest, " 4 good.txt\n") != NULL);
    EXPECT(place_file(&p, id, "bad.txt") == NULL);
    EXPECT_STR(place_file(&p, id, "good.txt"), "good");
}

TEST_REAL(report, the_oldest_go_when_the_quota_is_reached)
{
    struct place           p;
    struct bh_report_stats stats;
    static char            names[8][16];
    char                   id[64], other[128];

    make_kinds();
    place_start(&p, &(struct bh_report_options){ .quota = 100 * 1024, .per_minute = 100 });
    BH_DEFER(place_remove, &p);
    snprintf(other, sizeof other, "%s/not a report", p.directory);
    EXPECT_EQ(mkdir(other, 0700), 0);
    for (int i = 0; i < 8; i++) {
        snprintf(names[i], sizeof names[i], "kind %d", i);
        kinds[i].name = names[i];
        EXPECT_EQ(recovers(panic_of_kind, &kinds[i]), BH_EPANIC);
        EXPECT(bh_report_flush(WAIT));
    }
    bh_report_stats(&stats);
    EXPECT_EQ(stats.reports, 8);
    EXPECT(stats.evicted > 0);
    EXPECT_EQ(place_count(&p, id), 8 - (int)stats.evicted + 1);
    EXPECT_EQ(access(other, F_OK), 0);
}

static void
no_listener(const struct bh_report_summary *s, void *arg)
{
    (void)s;
    (void)arg;
}

static uint64_t
seven(void *arg)
{
    (void)arg;
    return 7;
}

TEST_REAL(report, what_is_added_is_there_once)
{
    struct place p;
    int          one, two;

    EXPECT_EQ(bh_report_add_number("seven", seven, NULL), 0);
    EXPECT_EQ(bh_report_add_number("seven", seven, NULL), -EEXIST);
    EXPECT_EQ(bh_report_add_number("se\"ven", seven, NULL), -EINVAL);
    EXPECT_EQ(bh_report_add_number("eight", NULL, NULL), -EINVAL);
    EXPECT_EQ(bh_report_listen(no_listener, &one), 0);
    EXPECT_EQ(bh_report_listen(no_listener, &one), -EEXIST);
    EXPECT_EQ(bh_report_listen(no_listener, &two), 0);
    EXPECT_EQ(bh_report_listen(no_listener, NULL), 0);
    EXPECT_EQ(bh_report_export(), 0);
    EXPECT_EQ(bh_report_export(), 0);
    EXPECT_EQ(bh_report_listen(no_listener, &p), -ENOSPC);
    EXPECT_EQ(bh_report_listen(NULL, NULL), -EINVAL);
    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(panic_named, "with numbers"), BH_EPANIC);
    EXPECT_EQ(bh_json_int(bh_json_get(place_report(&p), "world"), "seven", 0), 7);
}

TEST_PLAIN(report, options_that_make_no_sense_are_refused)
{
    static const char *const many[] = { "1", "2", "3", "4", "5", "6", "7", "8", "9", NULL };

    EXPECT_EQ(bh_report_start(&(struct bh_report_options){ .directory = "" }), -EINVAL);
    EXPECT_EQ(bh_report_start(&(struct bh_report_options){ .per_minute = -2 }), -EINVAL);
    EXPECT_EQ(bh_report_start(&(struct bh_report_options){ .deadline = -1 }), -EINVAL);
    EXPECT_EQ(bh_report_start(&(struct bh_report_options){ .source = many }), -EINVAL);
    EXPECT_EQ(bh_report_listen(NULL, NULL), -EINVAL);
    EXPECT_EQ(bh_report_start(&(struct bh_report_options){ .fd = -1 }), 0);
    EXPECT_EQ(bh_report_start(&(struct bh_report_options){ .fd = -1 }), -EALREADY);
    bh_report_stop();
    bh_report_stop();
    bh_report_event(NULL);
}

/* ---- texts ------------------------------------------------------------------------------- */

TEST_REAL(report, hostile_texts_are_valid_json_and_single_lines)
{
    struct place p;
    char         id[64];

    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(panic_named, "a\"b\\\n\x01\xff\xed\xa0\x80\xc3\xa9\n\nforged: line"),
              BH_EPANIC);
    const struct bh_json *j = place_report(&p);
    EXPECT_STR(
        text_of(j, "panic", "message"),
        "a\"b\\\n\x01\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xc3\xa9\n\nforged: line");
    EXPECT(strstr(place_lines(&p), "\nforged") == NULL);
    EXPECT_EQ(place_count(&p, id), 1);
    EXPECT(strstr(place_file(&p, id, "report.txt"), "\nforged") == NULL);
}

static const char *
own_text(const void *value)
{
    return value == kinds ? "(its text)" : NULL;
}

static const char *
bad_text(const void *value)
{
    (void)value;
    bh_panic("no words for it");
    return NULL;
}

static int
panic_with_kind(const void *arg)
{
    bh_panic_value(arg, kinds);
    return 0;
}

TEST_REAL(report, a_text_of_the_program_s_own_is_taken_and_may_fail)
{
    static const struct bh_kind own = { .name = "main.Own", .error = own_text };
    static const struct bh_kind bad = { .name = "main.Bad", .string = bad_text };
    struct place                p;
    int                         seen = 0;

    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(panic_with_kind, &own), BH_EPANIC);
    EXPECT(bh_report_flush(WAIT));
    EXPECT_EQ(recovers(panic_with_kind, &bad), BH_EPANIC);
    EXPECT(bh_report_flush(WAIT));
    DIR *d = opendir(p.directory);
    EXPECT(d != NULL);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        const char *text =
            e->d_name[0] != '.' ? place_file(&p, e->d_name, "report.json") : NULL;

        seen |= text != NULL && strstr(text, "\"type\":\"main.Own\",\"message\":\"(its text)\"")
                    ? 1
                    : 0;
        seen |=
            text != NULL &&
                    strstr(text, "\"type\":\"main.Bad\",\"message\":\"(its text panicked)\"")
                ? 2
                : 0;
    }
    closedir(d);
    EXPECT_EQ(seen, 3);
}

static int
dig(const void *arg)
{
    volatile char room[512];

    room[0] = 1;
    return arg != NULL ? dig(arg) + room[0] : 0;
}

TEST_REAL(report, a_stack_overflow_has_a_report)
{
    struct place p;

    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(dig, "deeper"), BH_EPANIC);
    const struct bh_json *j = place_report(&p);
    EXPECT_STR(text_of(bh_json_get(j, "panic"), "location", "function"), "dig");
    EXPECT(strstr(text_of(j, "panic", "message"), "stack overflow") != NULL);
    EXPECT_STR(text_of(j, "outcome", "result"), "recovered");
}

TEST_REAL(report, without_a_directory_the_text_goes_to_the_descriptor)
{
    static char     text[64 * 1024];
    struct bh_chan *done = BH_CHAN(int, 1);
    int             out[2];

    BH_DEFER(bh_chan_unref, done);
    EXPECT_EQ(pipe(out), 0);
    EXPECT_EQ(bh_report_start(&(struct bh_report_options){ .fd = out[1] }), 0);
    boom_and_wait(done, 20);
    while (bh_goroutine_count() > 1)
        bh_yield();
    EXPECT(bh_report_flush(WAIT));
    bh_report_stop();
    close(out[1]);
    size_t used = 0;
    for (ssize_t n; (n = read(out[0], text + used, sizeof text - 1 - used)) > 0;)
        used += (size_t)n;
    text[used] = '\0';
    close(out[0]);
    int stacks = 0, lines = 0;
    for (const char *at = text; (at = strstr(at, "boom_here(...)\n")) != NULL; at++)
        stacks++;
    for (const char *at = text; (at = strstr(at, "suppressed")) != NULL; at++)
        lines++;
    EXPECT_EQ(stacks, 1);
    EXPECT_EQ(lines, 19);
}

/* ---- a request --------------------------------------------------------------------------- */

static int
broken_handler(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    bh_panic("handler broke");
    return 0;
}

static struct bh_mutex lock;

static int
locks(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_mutex_lock(&lock);
    BH_DEFER(bh_mutex_unlock, &lock);
    return bh_http_next(c);
}

TEST_REAL(report, a_request_is_named_and_its_secrets_are_not)
{
    static const char *const redact[] = { "X-Customer", NULL };
    struct place             p;
    char                     id[64], reply[2048];
    struct fixture           f = { .s = bh_http_server_new(NULL) };

    place_start(&p, &(struct bh_report_options){ .redact = redact });
    BH_DEFER(place_remove, &p);
    bh_http_observe(f.s, bh_http_report, NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_use(f.s, locks, NULL);
    bh_http_handle(f.s, "GET /broken/{name}", broken_handler, NULL);
    fixture_start(&f);
    struct bh_conn *c = fixture_dial(&f);
    send_text(c,
              "GET /broken/toy?password=hunter2 HTTP/1.1\r\nHost: shop\r\nConnection: close\r\n"
              "Authorization: Bearer hunter2\r\nX-Customer: hunter2\r\nX-Plain: plain\r\n\r\n");
    size_t used = 0;
    for (ssize_t n; (n = bh_read(c, reply + used, sizeof reply - 1 - used)) > 0;)
        used += (size_t)n;
    reply[used] = '\0';
    EXPECT(strncmp(reply, "HTTP/1.1 500", 12) == 0);
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
    const struct bh_json *j = place_report(&p);
    EXPECT_STR(text_of(j, "http", "route"), "GET /broken/{name}");
    EXPECT_STR(text_of(j, "http", "path"), "/broken/toy");
    EXPECT_STR(text_of(j, "outcome", "by"), "bh_http_recover");
    const struct bh_json *http = bh_json_get(j, "http");
    const struct bh_json *steps = bh_json_get(http, "middleware");
    EXPECT_EQ(steps->size, 3);
    EXPECT_STR(bh_json_at(steps, 0)->text, "bh_http_report");
    EXPECT_STR(bh_json_at(steps, 1)->text, "bh_http_recover");
    EXPECT_STR(bh_json_at(steps, 2)->text, "locks");
    EXPECT_EQ(bh_json_int(http, "middleware_at", -1), 3);
    EXPECT(bh_json_int(bh_json_get(http, "conn"), "cookie", 0) > 0);
    EXPECT(bh_json_int(bh_json_get(http, "conn"), "rto_us", 0) > 0);
    char address[32];
    (void)snprintf(address, sizeof address, "0x%llx", (unsigned long long)(uintptr_t)&lock);
    EXPECT_STR(bh_json_at(bh_json_get(bh_json_get(j, "goroutine"), "held_locks"), 0)->text,
               address);
    EXPECT_EQ(bh_json_int(bh_json_get(bh_json_get(j, "outcome"), "reply"), "status", 0), 500);
    EXPECT_EQ(place_count(&p, id), 1);
    const char *json = place_file(&p, id, "report.json"),
               *text = place_file(&p, id, "report.txt");
    EXPECT(strstr(json, "hunter2") == NULL && strstr(text, "hunter2") == NULL);
    EXPECT(strstr(json, "\"X-Plain\",\"plain\"") != NULL ||
           strstr(json, "\"x-plain\",\"plain\"") != NULL);
    EXPECT(strstr(json, "[redacted]") != NULL);
    EXPECT(strstr(text, "\n  through      bh_http_report > bh_http_recover > locks > handler\n"
                        "  connection   round trip ") != NULL);
}

/* ---- for the exporter -------------------------------------------------------------------- */

TEST_REAL(report, a_collector_is_told_as_an_exception)
{
    struct place     p;
    struct collector c;

    collector_start(&c);
    BH_DEFER(collector_stop, &c);
    EXPECT_EQ(bh_export_start(&(struct bh_export_options){ .endpoint = c.url, .quiet = true }),
              0);
    EXPECT_EQ(bh_report_export(), 0);
    place_start(&p, &(struct bh_report_options){ 0 });
    BH_DEFER(place_remove, &p);
    EXPECT_EQ(recovers(panic_named, "for the collector"), BH_EPANIC);
    const struct bh_json *j = place_report(&p);
    EXPECT_EQ(bh_export_stop(WAIT), 0);
    const char *id = bh_json_text(j, "id", "?");
    const char *wanted[] = { "exception.type",
                             "exception.message",
                             "for the collector",
                             "exception.stacktrace",
                             "panic_named(...)",
                             "bulkhead.panic.report_id",
                             id };
    for (size_t i = 0; i < sizeof wanted / sizeof *wanted; i++)
        EXPECT(memmem(c.body, c.body_size, wanted[i], strlen(wanted[i])) != NULL);
}
