/* observe_test.c -- the whole layer, switched on with one call, around a server that panics. */
#include "http_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/observe/export.h>
#include <bulkhead/observe/log.h>
#include <bulkhead/observe/observe.h>
#include <bulkhead/observe/report.h>

#include "collector_fixture.h"

static char answer[1 << 21];
static char folder[] = "/tmp/bulkhead_observe_XXXXXX";

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
    bh_panic("the shelf %d is empty", 7);
}

static const char *
get(struct fixture *f, const char *path)
{
    struct bh_conn *c = fixture_dial(f);
    char            request[200];

    (void)snprintf(request, sizeof request, "GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n", path);
    send_text(c, request);
    (void)read_reply(c, answer, sizeof answer);
    bh_conn_free(c);
    return answer;
}

static void
serve(void *args)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    (void)args;
    bh_observe_requests(f.s, NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_observe_pages(f.s, NULL);
    bh_http_handle(f.s, "GET /fine", fine, NULL);
    bh_http_handle(f.s, "GET /broken/{id}", broken, NULL);
    fixture_start(&f);
    EXPECT_STARTS(get(&f, "/fine"), "HTTP/1.1 200 ");
    EXPECT_STARTS(get(&f, "/broken/9"), "HTTP/1.1 500 ");
    EXPECT(bh_report_flush(5 * BH_SECOND));
    EXPECT_HAS(get(&f, "/metrics"), "http_server_request_duration_seconds_count{");
    EXPECT_HAS(answer, "http_route=\"/broken/{id}\"");
    EXPECT_HAS(answer, "bulkhead_panics_total{");
    EXPECT_STARTS(get(&f, "/debug/bulkhead"), "HTTP/1.1 200 ");
    EXPECT_STARTS(get(&f, "/debug/pprof/goroutine?debug=1"), "HTTP/1.1 200 ");
    EXPECT_HAS(answer, "goroutine profile: total ");
    EXPECT_STARTS(get(&f, "/debug/pprof/block?debug=1"), "HTTP/1.1 200 ");
    EXPECT_STARTS(get(&f, "/debug/pprof/trace?seconds=0"), "HTTP/1.1 200 ");
    EXPECT_STARTS(get(&f, "/debug/log"), "HTTP/1.1 200 ");
    EXPECT_EQ(fixture_stop(&f), 0);
}

static void
read_file(const char *path, char *text, size_t size)
{
    int     fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, size - 1) : -1;

    EXPECT(n >= 0);
    text[n > 0 ? n : 0] = '\0';
    if (fd >= 0)
        close(fd);
}

/* The only report's directory. */
static void
find_report(char *path, size_t size)
{
    DIR           *d = opendir(folder);
    struct dirent *e;
    int            found = 0;

    EXPECT(d != NULL);
    while (d != NULL && (e = readdir(d)) != NULL)
        if (e->d_name[0] != '.') {
            (void)snprintf(path, size, "%s/%s", folder, e->d_name);
            found++;
        }
    EXPECT_EQ(found, 1);
    closedir(d);
}

TEST_PLAIN(observe, one_call_sees_a_panic_from_every_side)
{
    char path[400], file[500], log_path[100];
    int  log;

    EXPECT(mkdtemp(folder) != NULL);
    (void)snprintf(log_path, sizeof log_path, "%s/.log", folder);
    log = open(log_path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    EXPECT(log >= 0);
    EXPECT_EQ(bh_observe_start(&(struct bh_observe_options){
                  .service = "shelves", .reports = folder, .log = { .fd = log } }),
              0);
    EXPECT_EQ(bh_main(serve, NULL), 0);
    EXPECT_EQ(bh_observe_stop(5 * BH_SECOND), 0);
    close(log);

    read_file(log_path, answer, sizeof answer);
    EXPECT_HAS(answer, "\"message\":\"the shelf 7 is empty\"");
    EXPECT_HAS(answer, "\"route\":\"/broken/{id}\"");
    EXPECT_HAS(answer, "\"trace_id\":\"");
    find_report(path, sizeof path);
    (void)snprintf(file, sizeof file, "%s/report.json", path);
    read_file(file, answer, sizeof answer);
    EXPECT_HAS(answer, "the shelf 7 is empty");
    EXPECT_HAS(answer, "\"shelves\"");
    EXPECT_HAS(answer, "\"recovered\"");
    (void)snprintf(file, sizeof file, "%s/trace.out", path);
    read_file(file, answer, sizeof answer);
    EXPECT_STARTS(answer, "go 1.19 trace");
    (void)snprintf(file, sizeof file, "rm -rf %s", folder);
    EXPECT_EQ(system(file), 0);
}

static void
serve_one_panic(void *args)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    (void)args;
    bh_observe_requests(f.s, NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /broken/{id}", broken, NULL);
    fixture_start(&f);
    EXPECT_STARTS(get(&f, "/broken/9"), "HTTP/1.1 500 ");
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* Its span, its log lines and the exception; not only on this machine. */
TEST_PLAIN(observe, a_collector_hears_of_a_panic)
{
    struct bh_export_stats sent;
    struct collector       c;

    collector_start(&c);
    EXPECT_EQ(bh_observe_start(
                  &(struct bh_observe_options){ .collector = c.url, .log = { .fd = 2 } }),
              0);
    EXPECT_EQ(bh_main(serve_one_panic, NULL), 0);
    EXPECT_EQ(bh_observe_stop(5 * BH_SECOND), 0);
    bh_export_stats_read(&sent);
    EXPECT_EQ(sent.signal[BH_EXPORT_SPANS].exported, 1);
    EXPECT_EQ(sent.signal[BH_EXPORT_LOGS].exported, 3); /* request, panic, exception */
    collector_stop(&c);
}

TEST_PLAIN(observe, a_part_that_cannot_start_is_said_and_the_others_run)
{
    EXPECT_EQ(bh_observe_start(&(struct bh_observe_options){
                  .collector = "ftp://nowhere", .log = { .fd = 2 }, .no_flight = true }),
              -EPROTONOSUPPORT);
    EXPECT_STR(bh_error_note(), "collector: url: scheme is not http or https");
    bh_log(BH_INFO, "still here");
    EXPECT_EQ(bh_log_flush(BH_SECOND), 0);
    EXPECT_EQ(bh_observe_stop(BH_SECOND), 0);
}

TEST_PLAIN(observe, a_directory_that_no_report_can_go_to_is_said_at_once)
{
    EXPECT_EQ(bh_observe_start(&(struct bh_observe_options){ .reports = "/dev/null/reports",
                                                             .log = { .fd = 2 } }),
              -ENOTDIR);
    EXPECT_STR(bh_error_note(), "/dev/null/reports: Not a directory");
    EXPECT_EQ(bh_observe_stop(BH_SECOND), 0);
    /* Once more, elsewhere: nothing of the first start is in the way, or there twice. */
    EXPECT(mkdtemp(folder) != NULL);
    EXPECT_EQ(bh_observe_start(
                  &(struct bh_observe_options){ .reports = folder, .log = { .fd = 2 } }),
              0);
    EXPECT_EQ(bh_observe_stop(BH_SECOND), 0);
    EXPECT_EQ(rmdir(folder), 0);
}
