/* live_test.c -- what the page is told: panics step by step, goroutines, numbers, files. */
#include "http_fixture.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/http/json.h>
#include <bulkhead/observe/metrics.h>
#include <bulkhead/observe/page.h>
#include <bulkhead/observe/profile.h>

#include "live.h"

static char answer[1 << 20];

static int
fine(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "fine\n");
}

static int
broken(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    bh_panic("out of %s", "cheese");
}

/* In place: the serving goroutine keeps f. */
static void
serve_page(struct fixture *f, const struct bh_http_options *o,
           const struct bh_http_debug_options *debug)
{
    f->s = bh_http_server_new(o);
    bh_http_observe(f->s, bh_http_metrics, NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /fine", fine, NULL);
    bh_http_handle(f->s, "GET /broken/{id}", broken, NULL);
    bh_http_debug_mount(f->s, debug);
    fixture_start(f);
}

static void
stop_page(struct fixture *f)
{
    EXPECT_EQ(fixture_stop(f), 0);
    bh_cpu_stop();
}

static const char *
get(struct fixture *f, const char *path)
{
    struct bh_conn *c = fixture_dial(f);
    char            request[300];

    (void)snprintf(request, sizeof request,
                   "GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", path);
    send_text(c, request);
    (void)read_to_end(c, answer, sizeof answer);
    bh_conn_free(c);
    return answer;
}

static const struct bh_json *
parse(struct bh_arena *arena, const char *text, size_t size)
{
    const struct bh_json *v = NULL;

    EXPECT_EQ(bh_json_parse(arena, text, size, &v), 0);
    return v;
}

static const struct bh_json *
get_json(struct fixture *f, struct bh_arena *arena, const char *path)
{
    EXPECT_STARTS(get(f, path), "HTTP/1.1 200 ");
    return parse(arena, body_of(answer), strlen(body_of(answer)));
}

/* ---- panics ---------------------------------------------------------------------- */

static void
step(const struct bh_panic *p, enum bh_panic_step s, uintptr_t deferred, const char *by)
{
    bh_debug_event(&(struct bh_panic_event){
        .step = s, .panic = p, .deferred = deferred, .by = by, .defers = deferred != 0 });
}

static void
clean_up(void *arg)
{
    (void)arg;
}

static const struct bh_json *
lanes(struct bh_arena *arena, uint64_t since)
{
    struct bh_json_out out = { .arena = arena };

    ob_live_panics(&out, since);
    return parse(arena, out.text, out.size);
}

TEST_REAL(live, a_panic_is_told_step_by_step)
{
    struct bh_arena      *arena = bh_arena_new(0);
    struct bh_panic       p = { .kind = &bh_kind_string, .text = "lost \"it\"", .serial = 7 };
    const struct bh_json *list, *l, *s;
    uint64_t              before = ob_live_panics_version();

    step(&p, BH_PANIC_RAISED, 0, NULL);
    l = bh_json_at(lanes(arena, before), 0);
    EXPECT_STR(bh_json_text(l, "text", ""), "lost \"it\"");
    EXPECT_STR(bh_json_text(l, "kind", ""), "string");
    EXPECT_STR(bh_json_text(l, "outcome", "?"), "");
    EXPECT(bh_json_get(l, "frames") != NULL);
    EXPECT_EQ(bh_json_get(l, "steps")->size, 0);

    step(&p, BH_PANIC_DEFER, (uintptr_t)clean_up, NULL);
    s = bh_json_at(bh_json_get(bh_json_at(lanes(arena, before), 0), "steps"), 0);
    EXPECT_STR(bh_json_text(s, "function", ""), "clean_up");
    EXPECT_EQ(bh_json_int(s, "took_ns", 0), -1);
    step(&p, BH_PANIC_DEFER_DONE, (uintptr_t)clean_up, NULL);
    s = bh_json_at(bh_json_get(bh_json_at(lanes(arena, before), 0), "steps"), 0);
    EXPECT(bh_json_int(s, "took_ns", -1) >= 0);

    step(&p, BH_PANIC_RECOVERED, 0, "a test");
    list = lanes(arena, before);
    EXPECT_EQ(list->size, 1);
    l = bh_json_at(list, 0);
    EXPECT_STR(bh_json_text(l, "outcome", ""), "recovered");
    EXPECT_STR(bh_json_text(l, "by", ""), "a test");
    EXPECT_EQ(ob_live_panics_version(), before + 4);
    EXPECT_EQ(lanes(arena, ob_live_panics_version())->size, 0); /* nothing new */
    bh_arena_free(arena);
}

TEST_REAL(live, thousands_of_panics_leave_the_latest_and_odd_ones_do_no_harm)
{
    struct bh_arena      *arena = bh_arena_new(0);
    struct bh_panic       p = { .kind = &bh_kind_string, .text = "" };
    const struct bh_json *list;

    for (p.serial = 1; p.serial <= 5000; p.serial++) {
        step(&p, BH_PANIC_RAISED, 0, NULL);
        for (int i = 0; i < 40; i++) /* more than a lane has room for */
            step(&p, BH_PANIC_DEFER, (uintptr_t)clean_up, NULL);
        step(&p, BH_PANIC_DEFER_DONE, (uintptr_t)fine, NULL); /* of none */
        step(&p, BH_PANIC_FATAL, 0, NULL);
    }
    p.serial = 17; /* long gone: it does not come back */
    step(&p, BH_PANIC_DEFER, (uintptr_t)clean_up, NULL);
    list = lanes(arena, 0);
    EXPECT_EQ(list->size, 64);
    EXPECT_EQ(bh_json_int(bh_json_at(list, 0), "serial", 0), 5000);
    EXPECT_EQ(bh_json_int(bh_json_at(list, 63), "serial", 0), 5000 - 63);
    EXPECT_STR(bh_json_text(bh_json_at(list, 0), "outcome", ""), "fatal");
    EXPECT_EQ(bh_json_get(bh_json_at(list, 0), "steps")->size, 24);
    bh_arena_free(arena);
}

/* ---- goroutines ------------------------------------------------------------------ */

struct waiting {
    struct bh_chan *until;
};

__attribute__((noinline)) static void
wait_in_vain(void *args)
{
    bh_set_name("waiter");
    bh_recv(((struct waiting *)args)->until, NULL);
}

TEST_REAL(live, ten_thousand_goroutines_of_one_kind_are_one_group)
{
    enum { MANY = test_sanitized ? 2000 : 10000 }; /* TSan counts them as threads */
    struct bh_arena      *arena = bh_arena_new(0);
    struct bh_chan       *until = BH_CHAN(int, 0);
    struct fixture        f;
    const struct bh_json *all, *g, *frames;
    bool                  found = false;

    serve_page(&f, NULL, NULL);
    for (int i = 0; i < MANY; i++)
        bh_go(wait_in_vain, &(struct waiting){ until });
    do { /* until all wait */
        bh_yield();
        all = get_json(&f, arena, "/debug/bulkhead/goroutines?search=wait_in_vain");
        g = bh_json_at(bh_json_get(all, "groups"), 0);
    } while (g == NULL || bh_json_int(g, "count", 0) < MANY);
    EXPECT(bh_json_int(all, "total", 0) > MANY);
    EXPECT_EQ(bh_json_int(all, "found", 0), MANY);
    EXPECT_EQ(bh_json_get(all, "groups")->size, 1);
    EXPECT(bh_json_int(bh_json_get(all, "states"), "chan receive", 0) >= MANY);
    EXPECT_STR(bh_json_text(g, "why", ""), "chan receive");
    EXPECT_STR(bh_json_text(g, "name", ""), "waiter");
    EXPECT(strlen(body_of(answer)) < 65536);
    frames = bh_json_get(g, "frames");
    for (uint32_t i = 0; i < frames->size; i++)
        found |=
            strcmp(bh_json_text(bh_json_at(frames, i), "function", ""), "wait_in_vain") == 0;
    EXPECT(found);
    all = get_json(&f, arena, "/debug/bulkhead/goroutines?search=no%20such%20thing");
    EXPECT_EQ(bh_json_int(all, "found", -1), 0);
    all = get_json(&f, arena, "/debug/bulkhead/goroutines?state=select&search=");
    EXPECT(bh_json_int(all, "found", -1) >= 1 && bh_json_int(all, "found", -1) < MANY);
    EXPECT(bh_json_int(bh_json_get(all, "states"), "chan receive", 0) >= MANY);
    all = get_json(&f, arena, "/debug/bulkhead/goroutines?from=100000&search=");
    EXPECT_EQ(bh_json_get(all, "groups")->size, 0);
    bh_close(until);
    while (bh_goroutine_count() > MANY / 2)
        bh_yield();
    bh_chan_unref(until);
    stop_page(&f);
    bh_arena_free(arena);
}

/* ---- the page and its stream ----------------------------------------------------- */

TEST_REAL(live, the_page_needs_nothing_from_elsewhere_and_says_so)
{
    struct fixture f;

    serve_page(&f, NULL, NULL);
    EXPECT_STARTS(get(&f, "/debug/bulkhead"), "HTTP/1.1 200 ");
    EXPECT_HAS(answer, "\r\nContent-Security-Policy: default-src 'none'; ");
    EXPECT(strstr(answer, "unsafe") == NULL);
    EXPECT(strstr(answer, "https:") == NULL && strstr(answer, "=\"//") == NULL);
    EXPECT_STARTS(get(&f, "/debug/bulkhead/page.js"), "HTTP/1.1 200 ");
    EXPECT_HAS(answer, "\r\nContent-Type: text/javascript");
    EXPECT_STARTS(get(&f, "/debug/bulkhead/page.css"), "HTTP/1.1 200 ");
    stop_page(&f);
}

TEST_REAL(live, the_guard_is_before_all_of_it_and_nothing_else)
{
    static const char *const inside[] = {
        "/debug/bulkhead",         "/debug/bulkhead/events", "/debug/bulkhead/goroutines",
        "/debug/bulkhead/nothing", "/debug/pprof/",          "/debug/pprof/goroutine"
    };
    struct fixture f;
    char           request[200];

    serve_page(&f, NULL, NULL);
    for (size_t i = 0; i < sizeof inside / sizeof *inside; i++) {
        (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: evil.example\r\n\r\n",
                       inside[i]);
        (void)talk(&f, request, answer, sizeof answer);
        EXPECT_STARTS(answer, "HTTP/1.1 403 ");
    }
    (void)talk(&f, "GET /fine HTTP/1.1\r\nHost: evil.example\r\n\r\n", answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 200 ");
    (void)talk(&f, "GET /none HTTP/1.1\r\nHost: evil.example\r\n\r\n", answer, sizeof answer);
    EXPECT_STARTS(answer, "HTTP/1.1 404 ");
    stop_page(&f);
}

/* Reads on until the text is there, or nothing more comes. */
static bool
read_until(struct bh_conn *c, const char *text)
{
    size_t  used = 0;
    ssize_t n;

    do {
        n = bh_read(c, answer + used, sizeof answer - 1 - used);
        used += n > 0 ? (size_t)n : 0;
        answer[used] = '\0';
    } while (n > 0 && strstr(answer, text) == NULL && used < sizeof answer - 1);
    return strstr(answer, text) != NULL;
}

#define WATCH "GET /debug/bulkhead/events HTTP/1.1\r\nHost: localhost\r\n\r\n"

TEST_REAL(live, the_stream_tells_of_a_panic_at_once_and_of_routes_in_time)
{
    struct fixture  f;
    struct bh_conn *c;
    struct bh_panic p = { .kind = &bh_kind_string, .text = "seen live", .serial = 1000 };

    serve_page(&f, NULL, NULL);
    c = fixture_dial(&f);
    send_text(c, WATCH);
    EXPECT(read_until(c, "event: state\ndata: {"));
    EXPECT_HAS(answer, "\r\nContent-Type: text/event-stream\r\n");
    step(&p, BH_PANIC_RAISED, 0, NULL);
    EXPECT(read_until(c, "seen live"));
    EXPECT_HAS(get(&f, "/fine"), "fine\n");
    EXPECT_HAS(get(&f, "/broken/1"), "500");
    bh_conn_free(c);
    c = fixture_dial(&f);
    send_text(c, WATCH);
    EXPECT(read_until(c, "\"route\":\"/broken/{id}\",\"count\":1,\"errors\":1,"));
    EXPECT_HAS(answer, "\"buckets\":[");
    bh_conn_free(c);
    stop_page(&f);
}

TEST_REAL(live, a_stream_may_send_more_than_a_request_may_keep)
{
    struct fixture  f;
    struct bh_conn *c;
    struct bh_panic p = { .kind = &bh_kind_string, .text = "again", .serial = 1 };

    serve_page(&f, &(struct bh_http_options){ .max_memory = 32 << 10 }, NULL);
    c = fixture_dial(&f);
    send_text(c, WATCH);
    EXPECT(read_until(c, "event: state\n"));
    for (size_t got = 0; got < 8 * (32 << 10); got += strlen(answer)) {
        for (int k = 0; k < 64; k++, p.serial++)
            step(&p, BH_PANIC_RAISED, 0, NULL);
        EXPECT(read_until(c, "again"));
    }
    bh_conn_free(c);
    stop_page(&f);
}

TEST_REAL(live, a_client_that_does_not_read_is_dropped_and_others_get_its_place)
{
    enum { STREAMS = 16 };
    struct fixture  f;
    struct bh_conn *deaf[STREAMS];
    struct bh_panic p = { .kind = &bh_kind_string, .text = answer };
    bool            full = false, again = false;

    serve_page(&f, &(struct bh_http_options){ .write_timeout = 100 * BH_MILLISECOND }, NULL);
    memset(answer, 'x', 199);
    for (int i = 0; i < STREAMS; i++) {
        deaf[i] = fixture_dial(&f);
        send_text(deaf[i], WATCH);
    }
    while (!full || !again) {
        struct bh_conn *c = fixture_dial(&f);

        send_text(c, WATCH);
        EXPECT(bh_read(c, answer, 15) == 15);
        answer[15] = '\0';
        full |= strcmp(answer, "HTTP/1.1 503 Se") == 0;
        again |= full && strcmp(answer, "HTTP/1.1 200 OK") == 0;
        bh_conn_free(c);
        for (int i = 0; i < 64; i++, p.serial++) { /* more than a socket's buffers take */
            step(&p, BH_PANIC_RAISED, 0, NULL);
            for (int k = 0; k < 24; k++)
                step(&p, BH_PANIC_DEFER, (uintptr_t)clean_up, NULL);
        }
        bh_sleep(20 * BH_MILLISECOND);
    }
    for (int i = 0; i < STREAMS; i++)
        bh_conn_free(deaf[i]);
    stop_page(&f);
}

/* ---- files of reports ------------------------------------------------------------ */

TEST_REAL(live, only_files_of_reports_can_be_fetched)
{
    static char                  folder[] = "bulkhead_live_XXXXXX";
    struct bh_http_debug_options o = { .reports = folder };
    struct bh_arena             *arena = bh_arena_new(0);
    char                         path[200], command[100];
    struct fixture               f;
    int                          fd;

    EXPECT(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof path, "%s/01ARZ3NDEKTSV4RRFFQ69G5FAV", folder);
    EXPECT_EQ(mkdir(path, 0700), 0);
    (void)snprintf(path, sizeof path, "%s/01ARZ3NDEKTSV4RRFFQ69G5FAV/report.txt", folder);
    fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    EXPECT_EQ(write(fd, "panic: oh\n", 10), 10);
    close(fd);
    (void)snprintf(path, sizeof path, "%s/01ARZ3NDEKTSV4RRFFQ69G5FAV/link", folder);
    EXPECT_EQ(symlink("/etc/passwd", path), 0);
    serve_page(&f, NULL, &o);
#define REPORT "/debug/bulkhead/reports/01ARZ3NDEKTSV4RRFFQ69G5FAV/"
    EXPECT_EQ(bh_json_int(get_json(&f, arena, "/debug/bulkhead/reports"), "total", 0), 1);
    EXPECT_HAS(answer, "{\"name\":\"report.txt\",\"size\":10}");
    EXPECT_HAS(answer, "\"serial\":0"); /* not of this process */
    EXPECT_STR(body_of(get(&f, REPORT "report.txt")), "panic: oh\n");
    EXPECT_STARTS(get(&f, REPORT "link"), "HTTP/1.1 404 ");
    EXPECT_STARTS(get(&f, REPORT "none"), "HTTP/1.1 404 ");
    EXPECT_STARTS(get(&f, REPORT "..%2f..%2f..%2f..%2fetc%2fpasswd"), "HTTP/1.1 404 ");
    EXPECT_STARTS(get(&f, "/debug/bulkhead/reports/%2e%2e/observe"), "HTTP/1.1 400 ");
    EXPECT_STARTS(get(&f, "/debug/bulkhead/reports/.hidden/report.txt"), "HTTP/1.1 404 ");
    stop_page(&f);
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    EXPECT_EQ(system(command), 0);
    bh_arena_free(arena);
}

TEST_REAL(live, of_more_reports_than_are_listed_the_latest_are)
{
    static char                  folder[] = "bulkhead_live_XXXXXX";
    struct bh_http_debug_options o = { .reports = folder };
    struct bh_arena             *arena = bh_arena_new(0);
    char                         path[200], command[100];
    struct fixture               f;

    EXPECT(mkdtemp(folder) != NULL);
    for (int i = 0; i < 5000; i++) { /* in no order */
        (void)snprintf(path, sizeof path, "%s/%026d", folder, i * 1237 % 5000);
        EXPECT_EQ(mkdir(path, 0700), 0);
    }
    serve_page(&f, NULL, &o);
    EXPECT_EQ(bh_json_int(get_json(&f, arena, "/debug/bulkhead/reports"), "total", 0), 4096);
    (void)snprintf(path, sizeof path, "\"reports\":[{\"id\":\"%026d\"", 4999);
    EXPECT_HAS(answer, path);
    (void)snprintf(path, sizeof path, "\"%026d\"", 4950);
    EXPECT_HAS(answer, path);
    (void)snprintf(path, sizeof path, "\"%026d\"", 4949);
    EXPECT(strstr(answer, path) == NULL);
    stop_page(&f);
    (void)snprintf(command, sizeof command, "rm -r %s", folder);
    EXPECT_EQ(system(command), 0);
    bh_arena_free(arena);
}
