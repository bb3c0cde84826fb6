/*
 * observe_export.c -- what exporting spans costs.
 *
 *     enqueue   ns to hand over a span of six attributes: median and 99 % of batches of 64; and
 *               when the queue is full
 *     encode    ns and bytes of a span, encoded in batches of 512
 *     cpu       ns of the exporter's threads for each span that arrives, sending included, and
 *               how many were lost, at 50,000 spans a second
 *     path      ns, 99 %, of a whole span while the collector is healthy, refuses, answers 503, hangs
 *               or drips, and the worst against the healthy
 *     states    us of whole requests to a traced server in these states; at 99 % a quiet machine says
 *               something about us, another about its scheduler
 *
 * Of several rounds, interleaved, the best counts.
 * The collector is a process of its own, which answers by the port it is called on.
 */

#include <arpa/inet.h>
#include <math.h>
#include <dirent.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <bulkhead/go/timer.h>
#include <bulkhead/observe/export.h>
#include <bulkhead/observe/http_trace.h>
#include <bulkhead/observe/record.h>

#include "otlp.h"
#include "server.h"

enum { HEALTHY, REFUSED, UNAVAILABLE, HANGING, DRIPPING, STATES };
enum { PEERS = 64, PART = 64, SLOTS = 4096, BATCH = 512, ROUNDS = 5, RATE = 4000, SECONDS = 2 };

static const char *const state_name[STATES] = { "healthy", "refused", "503", "hanging",
                                                "dripping" };
static uint16_t          ports[STATES];

/* ---- the collector --------------------------------------------------------------- */

struct peer {
    int    fd, state;
    size_t left; /* of the request's body */
    bool   drips;
};

static void
answer(struct peer *p)
{
    static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    static const char no[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n";

    if (p->state == HEALTHY)
        (void)!send(p->fd, ok, sizeof ok - 1, MSG_NOSIGNAL);
    if (p->state == UNAVAILABLE)
        (void)!send(p->fd, no, sizeof no - 1, MSG_NOSIGNAL);
    p->drips = p->state == DRIPPING;
}

/* A head comes in one piece, as our client sends it; of a body only the length matters. */
static void
receive(struct peer *p)
{
    static char buffer[256 << 10];
    ssize_t     n = recv(p->fd, buffer, sizeof buffer - 1, 0);
    size_t      body;

    if (n <= 0) {
        close(p->fd);
        p->fd = -1;
        return;
    }
    body = (size_t)n;
    buffer[n] = '\0';
    if (p->left == 0) {
        char *length = strstr(buffer, "Content-Length: "), *end = strstr(buffer, "\r\n\r\n");
        if (length == NULL || end == NULL)
            abort();
        p->left = strtoul(length + 16, NULL, 10);
        body -= (size_t)(end + 4 - buffer);
    }
    p->left -= body;
    if (p->left == 0)
        answer(p);
}

static void
collect(const int *listeners)
{
    static struct peer peers[PEERS];
    struct pollfd      fds[PEERS + STATES];

    for (int i = 0; i < PEERS; i++)
        peers[i].fd = -1;
    for (;;) {
        for (int i = 0; i < PEERS; i++)
            fds[i] = (struct pollfd){ .fd = peers[i].fd, .events = POLLIN };
        for (int s = 0; s < STATES; s++)
            fds[PEERS + s] = (struct pollfd){ .fd = listeners[s], .events = POLLIN };
        poll(fds, PEERS + STATES, 50);
        for (int i = 0; i < PEERS; i++) {
            if (fds[i].revents != 0)
                receive(&peers[i]);
            else if (peers[i].fd >= 0 && peers[i].drips)
                (void)!send(peers[i].fd, "H", 1, MSG_NOSIGNAL);
        }
        for (int s = 0; s < STATES; s++) {
            for (int i = 0; i < PEERS && fds[PEERS + s].revents != 0; i++) {
                if (peers[i].fd >= 0)
                    continue;
                peers[i] = (struct peer){ .fd = accept(listeners[s], NULL, NULL), .state = s };
                break;
            }
        }
    }
}

/* Before the runtime, so that the child is a plain process; it dies with us. */
static void
start_collector(void)
{
    int listeners[STATES];

    for (int s = 0; s < STATES; s++) {
        struct sockaddr_in a = { .sin_family = AF_INET,
                                 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
        socklen_t          size = sizeof a;
        listeners[s] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (bind(listeners[s], (struct sockaddr *)&a, sizeof a) < 0 ||
            getsockname(listeners[s], (struct sockaddr *)&a, &size) < 0 ||
            (s != REFUSED && listen(listeners[s], 16) < 0))
            exit(1);
        ports[s] = ntohs(a.sin_port);
    }
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        listeners[REFUSED] = -1;
        collect(listeners);
    }
    for (int s = 0; s < STATES; s++) {
        if (s != REFUSED) /* bound, it refuses */
            close(listeners[s]);
    }
}

static void
start_exporter(int state, int64_t interval)
{
    char url[64];

    snprintf(url, sizeof url, "http://127.0.0.1:%u", ports[state]);
    if (bh_export_start(
            &(struct bh_export_options){ .endpoint = url,
                                         .interval = interval,
                                         .timeout = 2 * BH_SECOND,
                                         .batch = interval > BH_SECOND ? SLOTS : BATCH,
                                         .off = { [BH_EXPORT_METRICS] = true },
                                         .quiet = true }) != 0)
        exit(1);
}

/* ---- spans ----------------------------------------------------------------------- */

static void
put(struct bh_span_record *r, enum bh_item_role role, const char *key, const char *text,
    int64_t number)
{
    (void)bh_item_put(r->items, sizeof r->items, &r->used,
                      &(struct bh_item){ .role = role,
                                         .type = text != NULL ? BH_ITEM_TEXT : BH_ITEM_INT,
                                         .key = key,
                                         .key_size = strlen(key),
                                         .value = text,
                                         .value_size = text != NULL ? strlen(text) : 0,
                                         .number = number });
}

static struct bh_span_record
typical(void)
{
    struct bh_span_record r = {
        .start_ns = 1, .end_ns = 2, .trace_id = { 1 }, .span_id = { 2 }
    };

    r.kind = BH_SPAN_SERVER;
    r.flags = BH_TRACE_SAMPLED;
    put(&r, BH_ITEM_NAME, "", "GET /users/{id}", 0);
    put(&r, BH_ITEM_ATTRIBUTE, "http.request.method", "GET", 0);
    put(&r, BH_ITEM_ATTRIBUTE, "http.route", "/users/{id}", 0);
    put(&r, BH_ITEM_ATTRIBUTE, "url.path", "/users/12345", 0);
    put(&r, BH_ITEM_ATTRIBUTE, "server.address", "127.0.0.1", 0);
    put(&r, BH_ITEM_ATTRIBUTE, "http.response.status_code", NULL, 200);
    put(&r, BH_ITEM_ATTRIBUTE, "server.port", NULL, 8080);
    return r;
}

static int
by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;

    return (x > y) - (x < y);
}

static double
quantile(double *values, int count, double part)
{
    qsort(values, (size_t)count, sizeof *values, by_value);
    return values[(int)(part * (count - 1))];
}

/* ---- handing over ---------------------------------------------------------------- */

static void
enqueue(void *arg)
{
    enum { FILLS = 100, PARTS = SLOTS / PART };
    static double         took[FILLS * PARTS];
    struct bh_span_record r = typical();
    int64_t               start;
    int                   n = 0;

    (void)arg;
    start_exporter(HEALTHY, 3600 * BH_SECOND);
    for (int fill = 0; fill < FILLS; fill++) {
        for (int part = 0; part < PARTS - 1;
             part++) { /* one short of a batch: nobody is woken */
            start = bench_now();
            for (int i = 0; i < PART; i++)
                bh_export_span(&r);
            took[n++] = (double)(bench_now() - start) / PART;
        }
        if (bh_export_flush(10 * BH_SECOND) != 0)
            exit(1);
    }
    bench_print("enqueue_ns", quantile(took, n, 0.5));
    bench_print("enqueue_p99_ns", quantile(took, n, 0.99));
    bh_export_stop(0);

    start_exporter(HANGING, 3600 * BH_SECOND);
    for (int i = 0; i < 4 * SLOTS; i++) /* what two workers hold, and the queue */
        bh_export_span(&r);
    start = bench_now();
    for (int i = 0; i < 1000000; i++)
        bh_export_span(&r);
    bench_print("enqueue_full_ns", (double)(bench_now() - start) / 1000000);
    bh_export_stop(0);
}

/* ---- encoding -------------------------------------------------------------------- */

static void
encode(void *arg)
{
    enum { REQUESTS = 400 };
    static uint8_t        buffer[1 << 20];
    static double         took[REQUESTS];
    struct bh_span_record r = typical();
    struct ob_otlp        o;
    size_t                size = 0;

    (void)arg;
    for (int k = 0; k < REQUESTS; k++) {
        int64_t start = bench_now();
        ob_otlp_begin(&o, buffer, sizeof buffer, "", 0);
        for (int i = 0; i < BATCH; i++)
            (void)ob_otlp_span(&o, &r);
        (void)ob_otlp_end(&o, &size);
        took[k] = (double)(bench_now() - start) / BATCH;
    }
    bench_print("encode_ns", quantile(took, REQUESTS, 0.5));
    bench_print("encode_bytes", (double)size / BATCH);
}

/* ---- the exporter's threads ------------------------------------------------------ */

/* The first word of a file below /proc/self/task; "" if it is gone. */
static void
read_word(const char *thread, const char *name, char word[32])
{
    char  path[128];
    FILE *f;

    word[0] = '\0';
    (void)snprintf(path, sizeof path, "/proc/self/task/%s/%s", thread, name);
    f = fopen(path, "r");
    if (f == NULL)
        return;
    if (fscanf(f, "%31s", word) != 1)
        word[0] = '\0';
    (void)fclose(f);
}

/* ns that threads with names of the exporter's have run, by the kernel. */
static double
exporter_time(void)
{
    DIR           *d = opendir("/proc/self/task");
    struct dirent *e;
    char           word[32];
    double         sum = 0;

    while (d != NULL && (e = readdir(d)) != NULL) {
        read_word(e->d_name, "comm", word);
        if (strncmp(word, "bh-export", 9) != 0)
            continue;
        read_word(e->d_name, "schedstat", word);
        sum += strtod(word, NULL);
    }
    if (d == NULL || closedir(d) != 0 || sum == 0)
        exit(1);
    return sum;
}

static void
cpu(void *arg)
{
    enum { BURST = 100, BURSTS = 2000 }; /* every 2 ms: 50,000 a second, for 4 s */
    struct bh_span_record  r = typical();
    struct bh_export_stats stats;

    (void)arg;
    start_exporter(HEALTHY, BH_SECOND);
    bh_sleep(10 * BH_MILLISECOND);
    for (int k = 0; k < BURSTS; k++) {
        for (int i = 0; i < BURST; i++)
            bh_export_span(&r);
        bh_sleep(2 * BH_MILLISECOND);
    }
    if (bh_export_flush(10 * BH_SECOND) != 0)
        exit(1);
    bh_export_stats_read(&stats);
    bench_print("export_cpu_ns",
                exporter_time() / (double)stats.signal[BH_EXPORT_SPANS].exported);
    bench_print("export_lost",
                (double)(BURST * BURSTS - stats.signal[BH_EXPORT_SPANS].exported));
    bh_export_stop(0);
}

/* ---- a request's part of it ------------------------------------------------------ */

/* p99 of a span with six attributes, from start to end, among 20,000 a second. */
static double
path_p99(void)
{
    enum { SPANS = 20000, EVERY_NS = 50000 };
    static double  took[SPANS];
    struct bh_span span;
    int64_t        due = bench_now();

    for (int i = 0; i < SPANS; i++) {
        while (bench_now() < due)
            ;
        due += EVERY_NS;
        int64_t start = bench_now();
        bh_span_start(&span, "GET /users/{id}",
                      &(struct bh_span_options){ .kind = BH_SPAN_SERVER });
        bh_span_text(&span, "http.request.method", "GET");
        bh_span_text(&span, "http.route", "/users/{id}");
        bh_span_text(&span, "url.path", "/users/12345");
        bh_span_text(&span, "server.address", "127.0.0.1");
        bh_span_int(&span, "http.response.status_code", 200);
        bh_span_int(&span, "server.port", 8080);
        bh_span_end(&span);
        took[i] = (double)(bench_now() - start);
    }
    return quantile(took, SPANS, 0.99);
}

static void
path(void *arg)
{
    static double p99[STATES][ROUNDS];
    double        worst = 0;
    char          metric[64];

    (void)arg;
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < STATES; i++) {
            start_exporter(i, 100 * BH_MILLISECOND);
            p99[i][round] = path_p99();
            bh_export_stop(0);
        }
    }
    for (int i = 0; i < STATES; i++) {
        snprintf(metric, sizeof metric, "span_%s_p99_ns", state_name[i]);
        bench_print(metric, quantile(p99[i], ROUNDS, 0));
        worst = fmax(worst, p99[i][0] / p99[HEALTHY][0]);
    }
    bench_print("span_p99_worst_ratio", worst);
}

/* ---- requests -------------------------------------------------------------------- */

static const char *program;

struct load {
    int    port;
    double p50, p99;
};

/* A client of its own process, at a constant rate. */
static void
load(void *arg)
{
    struct load *l = arg;
    char         path[256], port[16], rate[16], seconds[16];
    char *argv[] = { path, port, (char[]){ "/hello" }, rate, seconds, (char[]){ "16" }, NULL };
    posix_spawn_file_actions_t actions;
    int                        ends[2], status;
    pid_t                      pid;
    FILE                      *f;

    (void)snprintf(path, sizeof path, "%.*s/http/rate", (int)(strrchr(program, '/') - program),
                   program);
    (void)snprintf(port, sizeof port, "%d", l->port);
    (void)snprintf(rate, sizeof rate, "%d", RATE);
    (void)snprintf(seconds, sizeof seconds, "%d", SECONDS);
    if (pipe(ends) != 0 || posix_spawn_file_actions_init(&actions) != 0 ||
        posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO) != 0 ||
        posix_spawn_file_actions_addclose(&actions, ends[0]) != 0 ||
        posix_spawn(&pid, path, &actions, NULL, argv, environ) != 0)
        exit(1);
    (void)posix_spawn_file_actions_destroy(&actions);
    (void)close(ends[1]);
    f = fdopen(ends[0], "r");
    if (f == NULL || fscanf(f, "%lf %lf", &l->p50, &l->p99) != 2)
        exit(1);
    (void)fclose(f);
    if (waitpid(pid, &status, 0) != pid || status != 0)
        exit(1);
}

static void
states(void *arg)
{
    static double          p50[STATES][ROUNDS], p99[STATES][ROUNDS];
    struct bh_http_server *s = bh_http_server_new(NULL);
    double                 worst = 0;
    int                    port;
    char                   metric[64];

    (void)arg;
    bh_http_observe(s, bh_http_trace, NULL);
    port = bench_serve(s);
    for (int round = 0; round < ROUNDS; round++) {
        for (int i = 0; i < STATES; i++) {
            struct load l = { .port = port };
            start_exporter(i, 100 * BH_MILLISECOND);
            bh_blocking(load, &l);
            bh_export_stop(0);
            p50[i][round] = l.p50;
            p99[i][round] = l.p99;
        }
    }
    /* The best of the rounds: what is more is other processes' doing. */
    for (int i = 0; i < STATES; i++) {
        snprintf(metric, sizeof metric, "state_%s_p50_us", state_name[i]);
        bench_print(metric, quantile(p50[i], ROUNDS, 0));
        snprintf(metric, sizeof metric, "state_%s_p99_us", state_name[i]);
        bench_print(metric, quantile(p99[i], ROUNDS, 0));
        worst = fmax(worst, p99[i][0] / p99[HEALTHY][0]);
    }
    bench_print("state_p99_worst_ratio", worst);
}

int
main(int argc, char **argv)
{
    static const struct bench tests[] = {
        { "enqueue", 1, enqueue }, { "encode", 1, encode }, { "cpu", 1, cpu },
        { "path", 1, path },       { "states", 1, states }, { 0 },
    };

    program = argv[0];
    start_collector();
    return bench_main(tests, argc, argv);
}
