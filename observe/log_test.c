/* log_test.c -- lines, levels, and outputs that hang, fail and fill up. */

#include <bulkhead/observe/log.h>

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/metrics.h>

#include "http_fixture.h"
#include "log.h"

/* ---- a log in memory ------------------------------------------------------------- */

static int
start(struct bh_log_options o)
{
    if (o.fd == 0)
        o.fd = memfd_create("log", MFD_CLOEXEC);
    EXPECT(o.fd > 2);
    EXPECT_EQ(bh_log_start(&o), 0);
    return o.fd;
}

/* All that was written; static, good until the next call. */
static char *
stop(int fd)
{
    static char text[16 << 20];
    ssize_t     n;

    EXPECT_EQ(bh_log_stop(5 * BH_SECOND), 0);
    n = pread(fd, text, sizeof text - 1, 0);
    EXPECT(n >= 0);
    text[n] = '\0';
    (void)close(fd);
    return text;
}

static uint64_t
dropped(enum bh_log_drop why)
{
    struct bh_log_stats stats;

    bh_log_stats(&stats);
    return stats.dropped[why];
}

/*
 * Cut the next line off *rest; NULL at the end.  (strstr of a sanitizer looks at all of its text: so
 * large ones are read by lines.)
 */
static char *
next_line(char **rest)
{
    char *line = *rest, *end;

    if (*line == '\0')
        return NULL;
    end = rawmemchr(line, '\n');
    *end = '\0';
    *rest = end + 1;
    return line;
}

/* How many lines have this part; they are cut. */
static int
lines_with(char *text, const char *part)
{
    int count = 0;

    for (char *line; (line = next_line(&text)) != NULL;)
        count += strstr(line, part) != NULL;
    return count;
}

/* Behind the time, which is right enough if it has this form. */
static const char *
after_time(const char *line)
{
    for (const char *form = "{\"time\":\"0000-00-00T00:00:00.000000Z\""; *form != '\0';
         form++, line++)
        EXPECT(*form == '0' ? *line >= '0' && *line <= '9' : *line == *form);
    return line;
}

/* ---- lines ----------------------------------------------------------------------- */

TEST_REAL(log, a_line_has_its_fields_and_who_logged)
{
    int fd = start((struct bh_log_options){ .level = BH_DEBUG });

    bh_log(BH_INFO, "order placed", BH_STR("id", "o-17"), BH_INT("quantity", -3),
           BH_UINT("sum", UINT64_MAX), BH_DOUBLE("price", 1.25), BH_BOOL("paid", true),
           BH_ERR(BH_EDEADLINE), BH_BYTES("part", "abcdef", 3), BH_STR("none", NULL));
    EXPECT_STR(after_time(stop(fd)),
               ",\"level\":\"INFO\",\"event\":\"order placed\",\"id\":\"o-17\",\"quantity\":-3,"
               "\"sum\":\"18446744073709551615\",\"price\":1.25,\"paid\":true,"
               "\"error\":\"context deadline exceeded\",\"part\":\"abc\",\"none\":\"(null)\","
               "\"goroutine\":1}\n");
}

TEST_REAL(log, name_labels_route_and_trace_are_on_every_line)
{
    int fd = start((struct bh_log_options){ .fd = 0 });

    bh_set_name("main one");
    bh_set_label("tenant", "a");
    bh_tag_set(&(struct bh_tag){
        .trace_id = { 0x4b, 0xf9 }, .span_id = { 0xf0 }, .sampled = 1, .route = "GET /x" });
    bh_log(BH_WARN, "slow");
    EXPECT_STR(after_time(stop(fd)),
               ",\"level\":\"WARN\",\"event\":\"slow\",\"goroutine\":1,\"name\":\"main one\","
               "\"labels\":\"tenant=a\",\"route\":\"GET /x\","
               "\"trace_id\":\"4bf90000000000000000000000000000\",\"span_id\":"
               "\"f000000000000000\"}\n");
}

TEST_REAL(log, for_people_it_is_words)
{
    int         fd = start((struct bh_log_options){ .format = BH_LOG_CONSOLE });
    const char *text;

    bh_log(BH_ERROR, "no luck", BH_STR("plain", "word"), BH_STR("two", "a b"),
           BH_STR("empty", ""), BH_STR("esc", "\x1b[31m\n"));
    text = stop(fd);
    EXPECT_STR(text + strlen("00:00:00.000000"),
               " ERROR no luck  plain=word two=\"a b\" empty=\"\" esc=\"\\u001b[31m\\n\"  "
               "goroutine=1\n");
}

TEST_REAL(log, a_field_cannot_stand_for_what_the_log_says)
{
    int fd = start((struct bh_log_options){ .fd = 0 });

    bh_log(BH_INFO, NULL, BH_STR("level", "FATAL"), BH_STR("trace_id", "mine"),
           BH_INT(NULL, 1));
    EXPECT_STR(after_time(stop(fd)),
               ",\"level\":\"INFO\",\"event\":\"(null)\",\"field.level\":\"FATAL\","
               "\"field.trace_id\":\"mine\",\"(null)\":1,\"goroutine\":1}\n");
}

TEST_REAL(log, what_does_not_fit_is_cut)
{
    int                 fd = start((struct bh_log_options){ .fd = 0 });
    char                text[5000];
    struct bh_log_stats stats;
    const char         *line;

    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    bh_log(BH_INFO, "long", BH_STR("a", text), BH_INT("b", 1), BH_INT("c", 2));
    bh_log(BH_INFO, text);
    line = stop(fd);
    EXPECT(strlen(line) < 2 * BH_LOG_RECORD_MAX);
    EXPECT_HAS(line, "xxxx\",\"goroutine\":1,\"cut\":2}\n");
    EXPECT_EQ(count_of(line, "\n"), 2);
    bh_log_stats(&stats);
    EXPECT_EQ(stats.cut, 1);
}

/* Whether text is a line of JSON objects without nesting, in UTF-8 and printable: by another's rules. */
static const char *
json_text(const char *at)
{
    EXPECT(*at++ == '"');
    while (*at != '"') {
        EXPECT((unsigned char)*at >= ' ' && *at != 0x7f);
        if (*at++ != '\\')
            continue;
        if (*at == 'u') {
            for (int i = 1; i <= 4; i++)
                EXPECT(strchr("0123456789abcdef", at[i]) != NULL && at[i] != '\0');
            at += 4;
        } else {
            EXPECT(*at != '\0' && strchr("\"\\bnfrt", *at) != NULL);
        }
        at++;
    }
    return at + 1;
}

static void
expect_json_line(const char *at)
{
    EXPECT(*at++ == '{');
    for (;;) {
        at = json_text(at);
        EXPECT(*at++ == ':');
        if (*at == '"')
            at = json_text(at);
        else
            at += strcspn(at, ",}");
        if (*at == '}')
            break;
        EXPECT(*at++ == ',');
    }
    EXPECT_STR(at, "}\n");
}

TEST_PLAIN(log, whatever_bytes_it_is_given_a_line_is_one_object)
{
    static char text[OB_LOG_TEXT_MAX + 1];
    uint64_t    seed = 3;

    for (int i = 0; i < 20000; i++) {
        _Alignas(8) char      memory[BH_LOG_RECORD_MAX];
        struct bh_log_record *r =
            bh_log_record_init(memory, sizeof memory, (int)(seed >> 60) + 1);
        char   noise[3][700];
        size_t size[3], n;

        for (int k = 0; k < 3; k++) {
            size[k] = (seed >> 20 & 0xffff) % sizeof noise[k];
            for (size_t b = 0; b < size[k]; b++) {
                seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
                noise[k][b] =
                    (char)(seed >> 63
                               ? (seed >> 40) % 256
                               : (unsigned char)"\"\\\x1b\n\xc2\x85\xed\xa0"[seed >> 50 & 7]);
            }
        }
        bh_log_record_text(r, BH_ITEM_BODY, "", noise[0], size[0]);
        bh_log_record_put(r, &(struct bh_item){ .role = BH_ITEM_ATTRIBUTE,
                                                .type = BH_ITEM_TEXT,
                                                .key = noise[1],
                                                .key_size = size[1],
                                                .value = noise[2],
                                                .value_size = size[2] });
        n = ob_log_format(text, r, OB_LOG_JSON);
        text[n] = '\0';
        EXPECT_EQ(strlen(text), n);
        expect_json_line(text);
        n = ob_log_format(text, r, OB_LOG_PLAIN);
        text[n] = '\0';
        EXPECT_EQ(strlen(text), n);
        EXPECT_EQ(strcspn(text, "\n\x1b\r"), n - 1);
    }
}

TEST_PLAIN(log, a_record_full_of_what_must_be_escaped_fits_a_line)
{
    static char           text[OB_LOG_TEXT_MAX];
    _Alignas(8) char      memory[BH_LOG_RECORD_MAX];
    struct bh_log_record *r = bh_log_record_init(memory, sizeof memory, BH_INFO);
    char                  noise[BH_LOG_RECORD_MAX];

    memset(noise, 1, sizeof noise);
    bh_log_record_text(r, BH_ITEM_BODY, "", noise, sizeof noise);
    EXPECT(ob_log_format(text, r, OB_LOG_JSON) < OB_LOG_TEXT_MAX - 1);
}

static const char *
format_double(double d)
{
    static char           text[OB_LOG_TEXT_MAX + 1];
    _Alignas(8) char      memory[512];
    struct bh_log_record *r = bh_log_record_init(memory, sizeof memory, BH_INFO);
    char                 *at;

    bh_log_record_put(r, &(struct bh_item){ .role = BH_ITEM_ATTRIBUTE,
                                            .type = BH_ITEM_DOUBLE,
                                            .key = "d",
                                            .key_size = 1,
                                            .real = d });
    text[ob_log_format(text, r, OB_LOG_JSON)] = '\0';
    at = strstr(text, "\"d\":");
    EXPECT(at != NULL);
    *strchr(at, '}') = '\0';
    return at + 4;
}

TEST_PLAIN(log, numbers_read_back_within_fifteen_digits)
{
    uint64_t seed = 5;

    EXPECT_STR(format_double(0), "0");
    EXPECT_STR(format_double(100), "100");
    EXPECT_STR(format_double(-0.5), "-0.5");
    EXPECT_STR(format_double(0.00012), "0.00012");
    EXPECT_STR(format_double(1e-5), "1e-5");
    EXPECT_STR(format_double(1e22), "1e22");
    EXPECT_STR(format_double(123456789.125), "123456789.125");
    EXPECT_STR(format_double(NAN), "null");
    EXPECT_STR(format_double(-INFINITY), "null");
    EXPECT_STR(format_double(0.1), "0.1");
    EXPECT_STR(format_double(99999999999999.95), "100000000000000");
    for (int i = 0; i < 50000; i++) {
        double d, back;

        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
        memcpy(&d, &seed, sizeof d);
        if (isnan(d) || isinf(d))
            continue;
        back = strtod(format_double(d), NULL);
        EXPECT(fabs(back - d) <= fabs(d) * 1e-14 || fabs(d) < 1e-300);
    }
}

/* ---- levels ---------------------------------------------------------------------- */

static int evaluated;

static int
evaluate(void)
{
    return ++evaluated;
}

TEST_REAL(log, what_is_below_the_level_costs_nothing)
{
    int         fd = start((struct bh_log_options){ .level = BH_WARN });
    const char *text;

    bh_log(BH_INFO, "no", BH_INT("n", evaluate()));
    EXPECT_EQ(evaluated, 0);
    bh_log_set_level(BH_DEBUG);
    bh_log(BH_DEBUG, "yes", BH_INT("n", evaluate()));
    bh_log(BH_TRACE, "no", BH_INT("n", evaluate()));
    bh_log_set_level(99);
    bh_log_set_level(-1);
    EXPECT_EQ(bh_log_level(), BH_DEBUG);
    bh_log_set_level(BH_LOG_OFF);
    bh_log(BH_FATAL, "no");
    text = stop(fd);
    EXPECT_HAS(text, "\"event\":\"yes\",\"n\":1,");
    EXPECT_EQ(count_of(text, "\n"), 1);
    EXPECT_EQ(evaluated, 1);
}

TEST_REAL(log, levels_have_names)
{
    EXPECT_EQ(bh_log_level_of("debug"), BH_DEBUG);
    EXPECT_EQ(bh_log_level_of("WARN"), BH_WARN);
    EXPECT_EQ(bh_log_level_of("off"), BH_LOG_OFF);
    EXPECT_EQ(bh_log_level_of("10"), 10);
    EXPECT_EQ(bh_log_level_of("26"), -EINVAL);
    EXPECT_EQ(bh_log_level_of("-1"), -EINVAL);
    EXPECT_EQ(bh_log_level_of("1x"), -EINVAL);
    EXPECT_EQ(bh_log_level_of(""), -EINVAL);
    EXPECT_EQ(bh_log_level_of(NULL), -EINVAL);
    EXPECT_STR(bh_log_level_name(BH_INFO), "INFO");
    EXPECT_STR(bh_log_level_name(BH_INFO + 1), "INFO");
    EXPECT_STR(bh_log_level_name(-5), "TRACE");
}

TEST_REAL(log, signals_step_the_level)
{
    int fd = start((struct bh_log_options){ .signals = true });

    EXPECT_EQ(raise(SIGUSR1), 0);
    EXPECT_EQ(bh_log_level(), BH_DEBUG);
    EXPECT_EQ(raise(SIGUSR2), 0);
    EXPECT_EQ(raise(SIGUSR2), 0);
    EXPECT_EQ(bh_log_level(), BH_WARN);
    for (int i = 0; i < 9; i++)
        EXPECT_EQ(raise(SIGUSR2), 0);
    EXPECT_EQ(bh_log_level(), BH_FATAL);
    for (int i = 0; i < 9; i++)
        EXPECT_EQ(raise(SIGUSR1), 0);
    EXPECT_EQ(bh_log_level(), BH_TRACE);
    (void)stop(fd);
}

TEST_REAL(log, a_handler_tells_and_sets_the_level)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };
    char           reply[4096];

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "/level", bh_http_log_level, NULL);
    fixture_start(&f);
    (void)talk(&f, "GET /level HTTP/1.1\r\nHost: h\r\n\r\n", reply, sizeof reply);
    EXPECT_HAS(reply, "{\"level\":\"INFO\"}");
    (void)talk(&f, "PUT /level?level=debug HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
               reply, sizeof reply);
    EXPECT_HAS(reply, "{\"level\":\"DEBUG\"}");
    EXPECT_EQ(bh_log_level(), BH_DEBUG);
    (void)talk(&f, "POST /level?level=loud HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n",
               reply, sizeof reply);
    EXPECT_STARTS(reply, "HTTP/1.1 400 ");
    (void)talk(&f, "PUT /level HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", reply,
               sizeof reply);
    EXPECT_STARTS(reply, "HTTP/1.1 400 ");
    (void)talk(&f, "DELETE /level HTTP/1.1\r\nHost: h\r\n\r\n", reply, sizeof reply);
    EXPECT_STARTS(reply, "HTTP/1.1 405 ");
    EXPECT_EQ(bh_log_level(), BH_DEBUG);
    EXPECT_EQ(fixture_stop(&f), 0);
}

static int
fail_or_answer(struct bh_http_call *c, void *arg)
{
    (void)arg;
    if (strstr(c->path, "panic") != NULL)
        bh_panic("a bug");
    return bh_http_reply(c, 200, "ok");
}

TEST_REAL(log, requests_are_lines)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };
    char           reply[4096];
    const char    *text;
    int            fd = start((struct bh_log_options){ .fd = 0 });

    bh_http_observe(f.s, bh_http_log_requests, NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /x/{what}", fail_or_answer, NULL);
    fixture_start(&f);
    (void)talk(&f, "GET /x/fine?secret=1 HTTP/1.1\r\nHost: h\r\n\r\n", reply, sizeof reply);
    (void)talk(&f, "GET /x/panic HTTP/1.1\r\nHost: h\r\n\r\n", reply, sizeof reply);
    EXPECT_EQ(fixture_stop(&f), 0);
    text = stop(fd);
    EXPECT_EQ(count_of(text, "\"event\":\"request\""), 2);
    EXPECT_HAS(text, "\"level\":\"INFO\",\"event\":\"request\",\"method\":\"GET\","
                     "\"path\":\"/x/fine\",\"pattern\":\"GET /x/{what}\",\"status\":200,"
                     "\"sent\":2,\"ms\":");
    EXPECT_HAS(text, "\"level\":\"ERROR\",\"event\":\"request\",\"method\":\"GET\","
                     "\"path\":\"/x/panic\",\"pattern\":\"GET /x/{what}\",\"status\":500,");
    EXPECT_HAS(text, "\"outcome\":\"panicked\"");
    EXPECT_EQ(count_of(text, "secret"), 0);
}

/* ---- life ------------------------------------------------------------------------ */

TEST_REAL(log, before_the_start_and_after_the_end_lines_are_dropped_and_counted)
{
    int fd;

    bh_log(BH_INFO, "early");
    EXPECT_EQ(dropped(BH_LOG_NOT_STARTED), 1);
    EXPECT_EQ(bh_log_flush(BH_SECOND), -ESHUTDOWN);
    EXPECT_EQ(bh_log_stop(BH_SECOND), -ESHUTDOWN);
    fd = start((struct bh_log_options){ .fd = 0 });
    EXPECT_EQ(bh_log_start(NULL), -EALREADY);
    bh_log(BH_INFO, "in time");
    EXPECT_HAS(stop(fd), "in time");
    bh_log(BH_INFO, "late");
    EXPECT_EQ(dropped(BH_LOG_NOT_STARTED), 2);
    fd = start((struct bh_log_options){ .fd = 0 });
    bh_log(BH_INFO, "again");
    EXPECT_HAS(stop(fd), "again");
}

TEST_REAL(log, wrong_options_are_error_values)
{
    EXPECT_EQ(bh_log_start(&(struct bh_log_options){ .fd = 999 }), -EBADF);
    EXPECT_EQ(bh_log_start(&(struct bh_log_options){ .level = -1 }), -EINVAL);
    EXPECT_EQ(bh_log_start(&(struct bh_log_options){ .level = 26 }), -EINVAL);
    EXPECT_EQ(bh_log_start(&(struct bh_log_options){ .ring_size = 1 }), -EINVAL);
    EXPECT_EQ(bh_log_start(&(struct bh_log_options){ .format = (enum bh_log_format)7 }),
              -EINVAL);
    EXPECT(bh_error_note()[0] != '\0');
}

TEST_REAL(log, flush_waits_until_it_is_written)
{
    int                 fd = start((struct bh_log_options){ .fd = 0 });
    struct bh_log_stats stats;

    for (int i = 1; i <= 20; i++) {
        char text[8192];

        bh_log(BH_INFO, "line", BH_INT("i", i));
        EXPECT_EQ(bh_log_flush(5 * BH_SECOND), 0);
        EXPECT(pread(fd, text, sizeof text, 0) > 0);
        bh_log_stats(&stats);
        EXPECT_EQ(stats.written, i);
        EXPECT_EQ(stats.waiting, 0);
    }
    (void)stop(fd);
}

TEST_REAL(log, a_line_is_out_soon_without_a_flush)
{
    int  fds[2];
    char text[512];

    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    (void)start((struct bh_log_options){ .fd = fds[1] });
    for (int i = 0; i < 3; i++) {
        bh_log(BH_INFO, "soon");
        EXPECT(read(fds[0], text, sizeof text) > 0);
    }
    EXPECT_EQ(bh_log_stop(BH_SECOND), 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* ---- many ------------------------------------------------------------------------ */

enum { LINES = 5000 };

struct many {
    int number, count;
};

static void *
log_many(void *arg)
{
    const struct many *m = arg;

    for (int i = 0; i < m->count; i++) {
        bh_log(BH_INFO, "hammer", BH_INT("thread", m->number), BH_INT("line", i),
               BH_STR("text", &"0123456789012345678901234567890123456789"[i % 40]));
        if (i % 256 == 255)
            (void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL); /* others' turn */
    }
    return NULL;
}

/* Each thread's lines are whole and in order.  Returns: how many there are. */
static int
expect_in_order(char *text, int threads)
{
    int next[64] = { 0 }, lines = 0;

    for (char *line; (line = next_line(&text)) != NULL;) {
        const char *event = strstr(line, "\"thread\":");
        int         thread, n;

        EXPECT_EQ(line[strlen(line) - 1], '}');
        if (event == NULL) /* of the log itself, about drops */
            continue;
        EXPECT_EQ(sscanf(event, "\"thread\":%d,\"line\":%d,\"text\":\"", &thread, &n), 2);
        EXPECT(thread >= 0 && thread < threads && n >= next[thread]);
        next[thread] = n + 1;
        lines++;
    }
    return lines;
}

TEST_REAL(log, lines_of_many_threads_are_whole_in_order_and_accounted_for)
{
    int         fd = start((struct bh_log_options){ .fd = 0 });
    pthread_t   threads[8];
    struct many m[8];
    char       *text;

    for (int i = 0; i < 8; i++) {
        m[i] = (struct many){ i, LINES };
        EXPECT_EQ(pthread_create(&threads[i], NULL, log_many, &m[i]), 0);
    }
    for (int i = 0; i < 8; i++)
        EXPECT_EQ(pthread_join(threads[i], NULL), 0);
    text = stop(fd);
    EXPECT_EQ(expect_in_order(text, 8) + (int)dropped(BH_LOG_RING_FULL), 8 * LINES);
    EXPECT_EQ(dropped(BH_LOG_NO_RING), 0);
}

struct log_go {
    struct many         *m;
    struct bh_waitgroup *all;
};

static void
log_go(void *args)
{
    struct log_go *a = args;

    for (int i = 0; i < a->m->count; i++) {
        bh_log(BH_INFO, "hammer", BH_INT("thread", a->m->number), BH_INT("line", i),
               BH_STR("text", "0"));
        if (i % 16 == 0)
            bh_yield();
    }
    bh_waitgroup_done(a->all);
}

TEST_REAL(log, goroutines_that_change_threads_lose_no_line)
{
    int                 fd = start((struct bh_log_options){ .ring_size = 4 << 20 });
    struct many         m[32];
    struct bh_waitgroup all = { .q = { 0 } };
    int                 lines;

    for (int i = 0; i < 32; i++) {
        m[i] = (struct many){ i, 500 };
        bh_waitgroup_add(&all, 1);
        bh_go(log_go, &(struct log_go){ &m[i], &all });
    }
    bh_waitgroup_wait(&all);
    lines = lines_with(stop(fd), "\"event\":\"hammer\"");
    EXPECT_EQ(lines + (int)dropped(BH_LOG_RING_FULL), 32 * 500);
}

TEST_REAL(log, threads_that_ended_leave_their_rings_to_others)
{
    int         fd = start((struct bh_log_options){ .fd = 0 });
    struct many m = { 0, 1 };

    /* More threads than rings; each ends before the next begins. */
    for (int i = 0; i < 400; i++) {
        pthread_t thread;

        EXPECT_EQ(pthread_create(&thread, NULL, log_many, &m), 0);
        EXPECT_EQ(pthread_join(thread, NULL), 0);
        if (i % 50 == 49)
            bh_sleep(30 * BH_MILLISECOND); /* the writer frees them when it has nothing to do */
    }
    EXPECT_EQ(dropped(BH_LOG_NO_RING), 0);
    EXPECT_EQ(lines_with(stop(fd), ""), 400);
}

static _Atomic bool let_go;
static _Atomic int  have_logged;

static void *
log_and_stay(void *arg)
{
    bh_log(BH_INFO, "one");
    (void)atomic_fetch_add(&have_logged, 1);
    while (!atomic_load(&let_go))
        (void)nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
    return arg;
}

TEST_REAL(log, more_threads_than_rings_are_counted)
{
    int       fd = start((struct bh_log_options){ .fd = 0 });
    pthread_t threads[140];

    for (int i = 0; i < 140; i++)
        EXPECT_EQ(pthread_create(&threads[i], NULL, log_and_stay, NULL), 0);
    while (atomic_load(&have_logged) < 140)
        bh_sleep(BH_MILLISECOND);
    atomic_store(&let_go, true);
    for (int i = 0; i < 140; i++)
        EXPECT_EQ(pthread_join(threads[i], NULL), 0);
    EXPECT_EQ(lines_with(stop(fd), "\"one\"") + (int)dropped(BH_LOG_NO_RING), 140);
    EXPECT(dropped(BH_LOG_NO_RING) >= 12);
}

/* ---- outputs that fail ------------------------------------------------------------ */

/* As many lines as overflow rings and the pipe. */
static int64_t
log_too_much(void)
{
    int64_t worst = 0;

    for (int i = 0; i < 20000; i++) {
        int64_t before = bh_now(), took;

        bh_log(BH_INFO, "too much", BH_INT("i", i));
        took = bh_now() - before;
        worst = took > worst ? took : worst;
    }
    return worst;
}

TEST_REAL(log, an_output_that_hangs_hangs_nobody)
{
    int         fds[2];
    static char text[65536];

    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    (void)start((struct bh_log_options){ .fd = fds[1] });
    EXPECT(log_too_much() < BH_SECOND);
    EXPECT(dropped(BH_LOG_RING_FULL) > 0);
    EXPECT_EQ(bh_log_flush(50 * BH_MILLISECOND), -ETIMEDOUT);
    /* Once it takes bytes again, the log goes on where it was, and says what is missing. */
    EXPECT_EQ(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    for (bool told = false; !told;) {
        ssize_t n = read(fds[0], text, sizeof text - 1);

        if (n < 0) {
            bh_sleep(BH_MILLISECOND);
            continue;
        }
        text[n] = '\0';
        told = strstr(text, "log lines dropped") != NULL;
    }
    (void)close(fds[0]);
    (void)bh_log_stop(BH_SECOND);
    (void)close(fds[1]);
}

TEST_REAL(log, it_can_be_stopped_while_the_output_hangs)
{
    int     fds[2];
    int64_t before;

    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    (void)start((struct bh_log_options){ .fd = fds[1] });
    (void)log_too_much();
    before = bh_now();
    EXPECT_EQ(bh_log_stop(100 * BH_MILLISECOND), -ETIMEDOUT);
    EXPECT(bh_now() - before < 2 * BH_SECOND);
    EXPECT(dropped(BH_LOG_OUTPUT_STUCK) > 0);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

TEST_REAL(log, while_the_output_hangs_lines_still_go_to_the_exporter)
{
    int                 fds[2];
    struct bh_log_stats stats;

    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    (void)start((struct bh_log_options){ .fd = fds[1], .exported = true });
    (void)log_too_much();
    while (dropped(BH_LOG_OUTPUT_STUCK) == 0) {
        bh_log(BH_INFO, "more");
        bh_sleep(BH_MILLISECOND);
    }
    bh_log_stats(&stats);
    EXPECT(stats.exported > stats.written);
    EXPECT_EQ(bh_log_stop(10 * BH_MILLISECOND), -ETIMEDOUT);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

TEST_REAL(log, a_reader_that_is_gone_costs_lines_only)
{
    int fds[2];

    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    (void)start((struct bh_log_options){ .fd = fds[1] });
    (void)close(fds[0]);
    bh_log(BH_INFO, "to nobody");
    EXPECT_EQ(bh_log_stop(5 * BH_SECOND), 0);
    EXPECT(dropped(BH_LOG_OUTPUT_FAILED) >= 1);
    (void)close(fds[1]);
}

TEST_REAL(log, a_line_cut_at_one_output_is_nothing_to_the_next)
{
    int                 fds[2], fd;
    struct bh_log_stats before, after;
    char               *text;

    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    (void)start((struct bh_log_options){ .fd = fds[1] });
    (void)log_too_much();
    EXPECT_EQ(bh_log_flush(50 * BH_MILLISECOND), -ETIMEDOUT);
    (void)close(fds[0]); /* in the midst of a line: a pipe is full at the end of a page */
    EXPECT_EQ(bh_log_stop(5 * BH_SECOND), 0);
    bh_log_stats(&before);
    fd = start((struct bh_log_options){ .fd = 0 });
    bh_log(BH_INFO, "fresh");
    EXPECT_EQ(bh_log_flush(5 * BH_SECOND), 0);
    bh_log_stats(&after);
    text = stop(fd);
    (void)close(fds[1]); /* not before: the other one shall have another number */
    EXPECT_STARTS(text, "{\"time\":");
    EXPECT_EQ(after.bytes - before.bytes, strlen(text));
    EXPECT_EQ(after.written - before.written, lines_with(text, "\"event\":"));
}

TEST_REAL(log, a_descriptor_that_was_closed_costs_lines_only)
{
    int fd = start((struct bh_log_options){ .fd = 0 });

    (void)close(fd);
    bh_log(BH_INFO, "to nothing");
    EXPECT_EQ(bh_log_stop(5 * BH_SECOND), 0);
    EXPECT(dropped(BH_LOG_OUTPUT_FAILED) >= 1);
}

TEST_REAL(log, a_full_disk_costs_lines_and_the_next_one_begins_a_line)
{
    char                path[] = "log_test.XXXXXX", text[4096];
    int                 fd = mkostemp(path, O_CLOEXEC);
    struct rlimit       limit = { 300, RLIM_INFINITY };
    struct bh_log_stats stats;
    ssize_t             n;

    EXPECT(fd >= 0);
    (void)unlink(path);
    (void)signal(SIGXFSZ, SIG_IGN);
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0); /* writes beyond 300 bytes fail */
    (void)start((struct bh_log_options){ .fd = fd });
    for (int i = 0; i < 10; i++) {
        bh_log(BH_INFO, "full", BH_INT("i", i));
        EXPECT_EQ(bh_log_flush(5 * BH_SECOND), 0);
    }
    limit.rlim_cur = RLIM_INFINITY;
    EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
    bh_log(BH_INFO, "room again");
    EXPECT_EQ(bh_log_flush(5 * BH_SECOND), 0);
    bh_log_stats(&stats);
    EXPECT_EQ(bh_log_stop(5 * BH_SECOND), 0);
    n = pread(fd, text, sizeof text - 1, 0);
    EXPECT(n > 300);
    text[n] = '\0';
    EXPECT_EQ(text[300], '\n'); /* the line that was cut ends here */
    EXPECT_STARTS(text + 301, "{\"time\":");
    EXPECT_HAS(text + 301, "\"event\":\"room again\"");
    EXPECT(stats.dropped[BH_LOG_OUTPUT_FAILED] >= 7);
    /* The ten, one more, and perhaps what the log itself had to say. */
    EXPECT(stats.written + stats.dropped[BH_LOG_OUTPUT_FAILED] - 11 <= 1);
    (void)close(fd);
}

/* ---- callers that fail ------------------------------------------------------------ */

TEST_REAL(log, a_bad_pointer_is_its_callers_panic_and_the_log_goes_on)
{
    int         fd = start((struct bh_log_options){ .fd = 0 });
    const char *text;

    bh_log(BH_INFO, "before");
    EXPECT_PANIC("runtime error: invalid memory address or nil pointer dereference",
                 bh_log(BH_INFO, "bad", BH_STR("text", (const char *)8)));
    bh_log(BH_INFO, "after");
    text = stop(fd);
    EXPECT_HAS(text, "before");
    EXPECT_HAS(text, "after");
    EXPECT_EQ(count_of(text, "\n"), 2);
}

static void
log_in_handler(int number)
{
    bh_log(BH_INFO, "in a handler", BH_INT("signal", number));
}

TEST_REAL(log, a_signal_handler_that_logs_breaks_no_line)
{
    int              fd = start((struct bh_log_options){ .ring_size = 8 << 20 });
    struct sigaction a = { .sa_handler = log_in_handler, .sa_flags = SA_ONSTACK | SA_RESTART };
    timer_t          timer;
    struct sigevent  e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN };
    char            *text;
    int              outside = 0, inside = 0;

    EXPECT_EQ(sigaction(SIGRTMIN, &a, NULL), 0);
    EXPECT_EQ(timer_create(CLOCK_MONOTONIC, &e, &timer), 0);
    EXPECT_EQ(timer_settime(timer, 0,
                            &(struct itimerspec){ .it_interval.tv_nsec = 50000,
                                                  .it_value.tv_nsec = 50000 },
                            NULL),
              0);
    for (int i = 0; i < 20000; i++)
        bh_log(BH_INFO, "outside", BH_INT("i", i));
    EXPECT_EQ(timer_delete(timer), 0);
    EXPECT(dropped(BH_LOG_RING_FULL) == 0);
    text = stop(fd);
    for (char *line; (line = next_line(&text)) != NULL;) {
        EXPECT(starts_with(line, "{\"time\":\"") && line[strlen(line) - 1] == '}');
        outside += strstr(line, "\"event\":\"outside\"") != NULL;
        inside += strstr(line, "\"event\":\"in a handler\"") != NULL;
    }
    EXPECT_EQ(outside, 20000);
    EXPECT(inside > 0);
}

/* ---- a crash --------------------------------------------------------------------- */

TEST_REAL(log, a_crash_writes_what_waits_and_itself)
{
    int         fd = start((struct bh_log_options){ .fd = 0 });
    static char text[4 << 20];
    ssize_t     n;

    for (int i = 0; i < 1000; i++)
        bh_log(BH_INFO, "waiting", BH_INT("i", i));
    bh_log_crash("panic: the end\n", 15);
    bh_log(BH_INFO, "too late");
    n = pread(fd, text, sizeof text - 1, 0);
    EXPECT(n > 200);
    text[n] = '\0';
    EXPECT_HAS(text + n - 200,
               ",\"level\":\"FATAL\",\"event\":\"crash\",\"text\":\"panic: the end\\n\"}\n");
    EXPECT_EQ(lines_with(text, "\"event\":\"waiting\""), 1000);
    EXPECT_EQ(dropped(BH_LOG_NOT_STARTED), 1);
    EXPECT_EQ(bh_log_stop(0),
              -ETIMEDOUT); /* nothing more can be flushed; but the thread is gone */
    (void)close(fd);
}

TEST_REAL(log, a_crash_does_not_wait_for_an_output_that_hangs)
{
    int     fds[2];
    int64_t before;

    EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
    (void)start((struct bh_log_options){ .fd = fds[1] });
    (void)log_too_much();
    before = bh_now();
    bh_log_crash("panic: the end\n", 15);
    EXPECT(bh_now() - before < 2 * BH_SECOND);
    EXPECT_EQ(bh_log_stop(0), -ETIMEDOUT);
    (void)close(fds[0]);
    (void)close(fds[1]);
}

/* A whole process that dies: by a panic, and by a fatal fault. */
static void
set_crash_hook(void)
{
    bh_set_hooks(&(struct bh_hooks){ .crash = bh_log_crash });
}

static void
die(void *args)
{
    int how = *(int *)args;

    EXPECT_EQ(bh_log_start(&(struct bh_log_options){ .fd = STDOUT_FILENO }), 0);
    bh_log(BH_INFO, "last words");
    if (how == 0)
        bh_panic("the end");
    bh_fatal("broken state");
}

TEST_PLAIN(log, the_last_lines_of_a_dying_process_are_there)
{
    for (int how = 0; how < 2; how++) {
        int     fds[2], status;
        char    text[8192];
        size_t  used = 0;
        ssize_t n;
        pid_t   pid;

        EXPECT_EQ(pipe2(fds, O_CLOEXEC), 0);
        pid = fork();
        if (pid == 0) {
            (void)dup2(fds[1], STDOUT_FILENO);
            (void)close(STDERR_FILENO);
            set_crash_hook();
            (void)bh_main(die, &how);
            _exit(0);
        }
        (void)close(fds[1]);
        while ((n = read(fds[0], text + used, sizeof text - 1 - used)) > 0)
            used += (size_t)n;
        text[used] = '\0';
        (void)close(fds[0]);
        EXPECT_EQ(waitpid(pid, &status, 0), pid);
        EXPECT(WIFEXITED(status) && WEXITSTATUS(status) == 2);
        EXPECT_HAS(text, "last words");
        EXPECT_HAS(text, how == 0 ? "\"text\":\"panic: the end"
                                  : "\"text\":\"fatal error: broken state");
    }
}

/* ---- metrics --------------------------------------------------------------------- */

static bool
find_dropped(const struct bh_metric_info *info, const struct bh_metric_point *p, void *arg)
{
    if (strcmp(info->name, "bulkhead.log.dropped") == 0 &&
        strcmp(p->values[0], "not_started") == 0)
        *(int64_t *)arg = p->integer;
    return true;
}

TEST_REAL(log, drops_are_metrics)
{
    int64_t n = -1;
    int     fd;

    bh_log(BH_INFO, "early");
    fd = start((struct bh_log_options){ .fd = 0 });
    EXPECT_EQ(bh_metric_each(find_dropped, &n), 0);
    EXPECT_EQ(n, 1);
    (void)stop(fd);
}
