/*
 * crashstorm.c -- does a storm of crashing requests hurt the healthy ones?
 *
 *     crashstorm SERVER SECONDS [CONNECTIONS [all]]
 *
 * Starts the server, keeps every connection busy with one request after another, and
 * takes turns, up to a second at a time: all requests healthy; then every fifth
 * writes through a null pointer.  With "all" a third of those overflows its stack instead,
 * and a third leaves behind a goroutine that panics.  Each reply is read whole and compared byte for
 * byte with what it must be; a healthy one that is anything else has failed.
 *
 * Compared are medians over the turns of each kind, since a machine has better and
 * worse seconds.  Memory and descriptors of the server are read while no connection
 * is open, after a few short turns to warm up and at the end.
 */

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

extern char **environ;

enum {
    CRASH_EVERY = 5,   /* 20 % */
    BUCKETS = 64 * 16, /* of latencies: 16 for each power of two */
    MAX_TURNS = 64,
    REPLY_SIZE = 1024,
    WARM_UP_TURNS = 10, /* short; until stacks and heap have their size */
};

enum kind { CALM, STORM, KINDS };

/* Counters of one turn, added up by its connections when they end. */
struct turn {
    enum kind        kind;
    double           seconds;
    _Atomic uint64_t healthy, failed, crashes, wrong_crashes;
    _Atomic uint64_t latency[BUCKETS];
};

static struct {
    const char  *server;
    double       seconds;
    int          connections;
    bool         all;
    char         address[64];
    pid_t        pid;
    struct turn  turns[MAX_TURNS];
    int          turn_count;
    _Atomic bool stop;
} storm;

/* ---- the server ---------------------------------------------------------------- */

static void
start_server(void)
{
    char  quiet[] = "-q", listen[] = "-l", any_port[] = "127.0.0.1:0";
    char *argv[] = { (char *)(uintptr_t)storm.server, quiet, listen, any_port, NULL };
    posix_spawn_file_actions_t actions;
    char                       line[256], *address;
    FILE                      *out;
    int                        ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0)
        exit(1);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, "/dev/null", O_WRONLY, 0);
    if (posix_spawn(&storm.pid, storm.server, &actions, NULL, argv, environ) != 0) {
        fprintf(stderr, "crashstorm: cannot start %s\n", storm.server);
        exit(1);
    }
    posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    out = fdopen(ends[0], "r");
    if (out == NULL || fgets(line, sizeof line, out) == NULL ||
        (address = strstr(line, "http://")) == NULL) {
        fprintf(stderr, "crashstorm: the server did not start\n");
        exit(1);
    }
    address += strlen("http://");
    address[strcspn(address, "/")] = '\0';
    (void)snprintf(storm.address, sizeof storm.address, "%s", address);
    fclose(out);
}

/* Resident memory that belongs to the server, in KiB. */
static long
server_memory(void)
{
    char  path[64], line[128];
    long  total = 0, n;
    FILE *f;

    (void)snprintf(path, sizeof path, "/proc/%d/smaps_rollup", (int)storm.pid);
    f = fopen(path, "r");
    while (f != NULL && fgets(line, sizeof line, f) != NULL)
        if (sscanf(line, "Pss: %ld kB", &n) == 1)
            total = n;
    if (f != NULL)
        fclose(f);
    return total;
}

static int
server_descriptors(void)
{
    char path[64];
    int  n = 0;
    DIR *d;

    (void)snprintf(path, sizeof path, "/proc/%d/fd", (int)storm.pid);
    d = opendir(path);
    while (d != NULL && readdir(d) != NULL)
        n++;
    if (d != NULL)
        closedir(d);
    return n;
}

/* ---- latencies ------------------------------------------------------------------- */

static int
bucket_of(uint64_t ns)
{
    int top = 63 - __builtin_clzll(ns | 16);

    return (top - 4) * 16 + (int)(ns >> (top - 4) & 15);
}

/* The middle of a bucket, in microseconds. */
static double
bucket_us(int bucket)
{
    return (double)((16 + (uint64_t)bucket % 16) << bucket / 16) * (1 + 1.0 / 32) / 1000;
}

static double
percentile(const struct turn *t, double part)
{
    uint64_t want = (uint64_t)((double)atomic_load(&t->healthy) * part), seen = 0;

    for (int i = 0; i < BUCKETS; i++)
        if ((seen += atomic_load(&t->latency[i])) > want)
            return bucket_us(i);
    return 0;
}

/* ---- one connection ---------------------------------------------------------------- */

static const char healthy_request[] = "GET /hello/storm HTTP/1.1\r\nHost: bench\r\n\r\n";
static const char healthy_start[] = "HTTP/1.1 200 OK\r\n";
static const char healthy_end[] = "Content-Length: 13\r\n\r\nhello, storm\n";

#define CRASH(name) "GET /lab/" name " HTTP/1.1\r\nHost: bench\r\n\r\n"
#define START_500   "HTTP/1.1 500 Internal Server Error\r\n"
#define END_500     "Content-Length: 26\r\n\r\n500 Internal Server Error\n"

/* Ways to crash, and what the reply must be. */
static const struct crash {
    const char *name, *request, *start, *end;
} crashes[] = {
    { "null_pointers", CRASH("null"), START_500, END_500 },
    { "stack_overflows", CRASH("overflow"), START_500, END_500 },
    { "child_panics", CRASH("background"), "HTTP/1.1 202 Accepted\r\n",
      "\r\n\r\naccepted; a mail goes out in the background\n" },
};
enum { CRASHES = sizeof crashes / sizeof crashes[0] };
static _Atomic uint64_t crashed[CRASHES];

/* Send, read until the reply ends as it must.  Returns: whether it is the right one. */
static bool
exchange(struct bh_conn *c, const char *request, const char *start, const char *end)
{
    size_t size = strlen(request), used = 0, end_size = strlen(end);
    char   reply[REPLY_SIZE];

    if (bh_write(c, request, size) != (ssize_t)size)
        return false;
    while (used < end_size || memcmp(reply + used - end_size, end, end_size) != 0) {
        ssize_t n = used < sizeof reply ? bh_read(c, reply + used, sizeof reply - used) : 0;

        if (n <= 0)
            return false;
        used += (size_t)n;
    }
    return memcmp(reply, start, strlen(start)) == 0;
}

struct client {
    struct turn         *turn;
    struct bh_waitgroup *done;
    unsigned             number; /* so that not all crash at once */
};

static struct bh_conn *
dial(void)
{
    struct bh_conn *c = NULL;
    int             rc = bh_dial(bh_ctx_background(), storm.address, &c);

    if (rc < 0) {
        fprintf(stderr, "crashstorm: dial: %s\n", bh_error_text(rc));
        exit(1);
    }
    return c;
}

static void
client(void *args)
{
    struct client  *a = args;
    struct turn    *t = a->turn;
    struct bh_conn *c = dial();

    BH_DEFER(bh_waitgroup_done, a->done);
    for (unsigned i = a->number; !atomic_load_explicit(&storm.stop, memory_order_relaxed);
         i++) {
        bool    crash = t->kind == STORM && i % CRASH_EVERY == 0;
        int     way = storm.all ? (int)(i / CRASH_EVERY % CRASHES) : 0;
        int64_t before = bh_now();
        bool    right =
            crash ? exchange(c, crashes[way].request, crashes[way].start, crashes[way].end)
                     : exchange(c, healthy_request, healthy_start, healthy_end);

        if (crash) {
            atomic_fetch_add_explicit(&t->crashes, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(&crashed[way], 1, memory_order_relaxed);
            if (!right)
                atomic_fetch_add(&t->wrong_crashes, 1);
        } else {
            int bucket = bucket_of((uint64_t)(bh_now() - before));

            atomic_fetch_add_explicit(&t->healthy, 1, memory_order_relaxed);
            atomic_fetch_add_explicit(&t->latency[bucket], 1, memory_order_relaxed);
            if (!right)
                atomic_fetch_add(&t->failed, 1);
        }
        if (!right) { /* the connection says nothing sensible any more */
            bh_conn_free(c);
            c = dial();
        }
    }
    bh_conn_free(c);
}

static void
run_turn(enum kind kind, double seconds)
{
    struct turn        *t = &storm.turns[storm.turn_count++];
    struct bh_waitgroup done = { 0 };
    int64_t             before = bh_now();

    t->kind = kind;
    atomic_store(&storm.stop, false);
    bh_waitgroup_add(&done, storm.connections);
    for (int i = 0; i < storm.connections; i++)
        bh_go(client, &(struct client){ t, &done, (unsigned)i });
    bh_sleep((int64_t)(seconds * 1e9));
    atomic_store(&storm.stop, true);
    bh_waitgroup_wait(&done);
    t->seconds = (double)(bh_now() - before) / 1e9;
    fprintf(stderr,
            "crashstorm: %s  %8.0f healthy/s  %7.0f crashes/s  p50 %6.0f us  p99 %6.0f us  "
            "failed %llu  server %ld KiB\n",
            kind == CALM ? "calm " : "storm", (double)t->healthy / t->seconds,
            (double)t->crashes / t->seconds, percentile(t, .5), percentile(t, .99),
            (unsigned long long)t->failed, server_memory());
}

/* ---- results ------------------------------------------------------------------------ */

static int
compare(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

/* Over the measured turns of a kind. */
static double
median(enum kind kind, double (*value)(const struct turn *t))
{
    double values[MAX_TURNS];
    int    n = 0;

    for (int i = WARM_UP_TURNS; i < storm.turn_count; i++)
        if (storm.turns[i].kind == kind)
            values[n++] = value(&storm.turns[i]);
    qsort(values, (size_t)n, sizeof values[0], compare);
    return n == 0 ? 0 : n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

static double
p99(const struct turn *t)
{
    return percentile(t, .99);
}
static double
p50(const struct turn *t)
{
    return percentile(t, .5);
}
static double
rate(const struct turn *t)
{
    return (double)(t->healthy + t->crashes) / t->seconds;
}

static void
row(const char *metric, double ours, double peer, const char *name, const char *target, bool ok)
{
    if (name != NULL)
        printf("%s\t%.4g\t%.4g\t%s\t%.2f\t%s\t%s\n", metric, ours, peer, name,
               peer > 0 ? ours / peer : 0, target, ok ? "ok" : "short");
    else
        printf("%s\t%.4g\t-\t-\t-\t%s\t%s\n", metric, ours, target, ok ? "ok" : "short");
}

static bool
print_results(long memory, int descriptors)
{
    uint64_t failed = 0, wrong = 0, broken = 0, healthy = 0;
    long     memory_end = server_memory();
    int      descriptors_end = server_descriptors();
    double   calm = median(CALM, p99), stormy = median(STORM, p99);
    /*
     * Stacks and buffers are kept for the next connection, and which of them have been used
     * to what depth differs from turn to turn; a leak of 16 bytes a crash would exceed this.
     */
    bool flat = memory_end - memory <= storm.connections * 64L, enough = true;
    /* Overflows cost more than what they are among: there the tail is not the question. */
    bool quick = storm.all || stormy <= 1.5 * calm;

    for (int i = 0; i < storm.turn_count; i++) {
        failed += storm.turns[i].failed;
        wrong += storm.turns[i].wrong_crashes;
        broken += storm.turns[i].crashes;
        healthy += storm.turns[i].healthy;
    }
    printf("metric\tours\tpeer\tname\tratio\ttarget\tverdict\n");
    row("healthy_requests", (double)healthy, 0, NULL, "-", true);
    row("crashing_requests", (double)broken, 0, NULL, "-", true);
    for (int i = 0; storm.all && i < CRASHES; i++) {
        row(crashes[i].name, (double)crashed[i], 0, NULL, ">=10000", crashed[i] >= 10000);
        enough = enough && crashed[i] >= 10000;
    }
    row("healthy_failed", (double)failed, 0, NULL, "<=0", failed == 0);
    row("crashes_not_500", (double)wrong, 0, NULL, "<=0", wrong == 0);
    row("healthy_p99_us", stormy, calm, "same server, no crashes", storm.all ? "-" : "1.5x",
        quick);
    row("healthy_p50_us", median(STORM, p50), median(CALM, p50), "same server, no crashes", "-",
        true);
    row("requests_per_s", median(STORM, rate), median(CALM, rate), "same server, no crashes",
        "-", true);
    row("server_memory_kib", (double)memory_end, (double)memory, "at the start",
        "+64 KiB a connection", flat);
    row("server_descriptors", descriptors_end, descriptors, "at the start", "1x",
        descriptors_end <= descriptors);
    return failed == 0 && wrong == 0 && flat && enough && quick &&
           descriptors_end <= descriptors;
}

static void
run(void *args)
{
    double turn_seconds = storm.seconds / 30 < 1 ? storm.seconds / 30 : 1;
    bool  *good = args;
    long   memory;
    int    descriptors;

    for (int i = 0; i < WARM_UP_TURNS; i++)
        run_turn(i % 2 ? STORM : CALM, turn_seconds < 0.3 ? turn_seconds : 0.3);
    bh_sleep(BH_SECOND / 5); /* closed connections are put away */
    memory = server_memory();
    descriptors = server_descriptors();
    for (double left = storm.seconds; left > 0 && storm.turn_count + 2 <= MAX_TURNS;
         left -= 2 * turn_seconds) {
        run_turn(CALM, turn_seconds);
        run_turn(STORM, turn_seconds);
    }
    bh_sleep(BH_SECOND / 5);
    *good = print_results(memory, descriptors);
}

int
main(int argc, char **argv)
{
    bool good = false;
    int  status = 0;

    if (argc < 3) {
        fprintf(stderr, "usage: crashstorm SERVER SECONDS [CONNECTIONS [all]]\n");
        return 2;
    }
    storm.server = argv[1];
    storm.seconds = strtod(argv[2], NULL);
    storm.connections = argc > 3 ? (int)strtol(argv[3], NULL, 10) : 64;
    storm.all = argc > 4 && strcmp(argv[4], "all") == 0;
    start_server();
    bh_main(run, &good);
    (void)kill(storm.pid, SIGTERM);
    if (waitpid(storm.pid, &status, 0) != storm.pid || !WIFEXITED(status) ||
        WEXITSTATUS(status) != 0) {
        fprintf(stderr, "crashstorm: the server ended badly (status %#x)\n", (unsigned)status);
        return 1;
    }
    return !good;
}
