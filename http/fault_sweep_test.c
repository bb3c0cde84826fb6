/*
 * fault_sweep_test.c -- the nth system call or allocation fails, and the client leaves after
 * the nth byte, for every n.
 *
 * Server and client share the process, so the call that fails may be either's.  A client may
 * get an error for it, or a broken connection; but what looks like a whole good reply must be
 * right, and nobody may be left waiting.  Afterwards the server answers the next client, and
 * no connection, goroutine or descriptor is left; nor memory, as AddressSanitizer's builds see.
 *
 * A talk is what a client sends on one connection: HTTP/1, the same through TLS, or HTTP/2.
 */
#include "faults.h"
#include "http_fixture.h"

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/sync.h>
#include <bulkhead/http/files.h>
#include <bulkhead/http/limits.h>
#include <bulkhead/http/tls.h>

enum {
    MANY = 3000,       /* more calls than any talk makes */
    FILE_SIZE = 40000, /* more than what is kept in memory */
    ROOM = 1 << 18,
    REPLIES = 9,       /* of HTTP/1's talk */
    STREAMS = 4,       /* of HTTP/2's */
    ANSWER_TIME_S = 4, /* who waits longer is stuck */
};

enum protocol { PLAIN, SECURE, HTTP2, PROTOCOLS };

static char directory[] = "/tmp/bulkhead_sweep_XXXXXX";
static char file_body[FILE_SIZE + 1], answer[ROOM];

/* ---- the server ------------------------------------------------------------------ */

static struct sweep {
    struct fixture                 plain, secure; /* two servers of the same */
    struct bh_http_files          *files;
    struct bh_tls_config          *server, *client;
    struct bh_http_timeout_options timeout;
    size_t                         goroutines; /* at rest */
    int                            descriptors;
    int                            faults; /* so far */
    const char                    *doing;
    int                            nth, error;
} sw;

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "hello\n");
}

static int
echo(struct bh_http_call *c, void *arg)
{
    const char *data;
    ssize_t     n = bh_http_body(c, &data);

    (void)arg;
    return n < 0 ? (int)n : bh_http_reply_bytes(c, 200, "text/plain", data, (size_t)n);
}

static void
write_file(const char *name, const char *text)
{
    char  path[256];
    FILE *out;

    snprintf(path, sizeof path, "%s/%s", directory, name);
    out = fopen(path, "w");
    EXPECT(out != NULL);
    EXPECT(fputs(text, out) >= 0);
    EXPECT_EQ(fclose(out), 0);
}

static void
make_files(void)
{
    char command[512];

    EXPECT(mkdtemp(directory) != NULL);
    for (int i = 0; i < FILE_SIZE; i++)
        file_body[i] = (char)('a' + i % 26);
    write_file("big.txt", file_body);
    for (char name[] = "a.txt"; name[0] <= 'p'; name[0]++)
        write_file(name, "small");
    snprintf(command, sizeof command,
             "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes "
             "-days 2 -keyout key.pem -out cert.pem -subj /CN=a.test 2>log",
             directory);
    EXPECT_EQ(system(command), 0);
}

static void
remove_files(void)
{
    char command[64];

    snprintf(command, sizeof command, "rm -r %s", directory);
    EXPECT_EQ(system(command), 0);
}

static void
use_tls(void)
{
    char cert[64], key[64];

    snprintf(cert, sizeof cert, "%s/cert.pem", directory);
    snprintf(key, sizeof key, "%s/key.pem", directory);
    sw.server = bh_tls_config_new();
    sw.client = bh_tls_config_new();
    EXPECT_EQ(bh_tls_config_add_certificate(sw.server, cert, key), 0);
    bh_tls_config_set_protocols(sw.client, "http/1.1");
    bh_tls_config_trust_anybody(sw.client);
}

/* timeout_ns: of everything that has one. */
static void
add_routes(struct fixture *f, int64_t timeout_ns)
{
    struct bh_http_options o = { .head_timeout = timeout_ns,
                                 .body_timeout = timeout_ns,
                                 .idle_timeout = timeout_ns,
                                 .write_timeout = timeout_ns };
    struct bh_http_group  *timed;

    f->s = bh_http_server_new(&o);
    bh_http_use(f->s, bh_http_recover, NULL);
    timed = bh_http_group(f->s, "/timed");
    bh_http_use(timed, bh_http_timeout, &sw.timeout);
    bh_http_handle(timed, "GET /hello", hello, NULL);
    bh_http_handle(timed, "POST /echo", echo, NULL);
    bh_http_handle(f->s, "GET /hello", hello, NULL);
    bh_http_handle(f->s, "POST /echo", echo, NULL);
    bh_http_handle(f->s, "GET /file/{path...}", bh_http_files, sw.files);
}

static void
start(int64_t timeout_ns)
{
    make_files();
    use_tls();
    sw.timeout.after = 5 * BH_SECOND;
    EXPECT_EQ(
        bh_http_files_new(
            &(struct bh_http_files_options){ .root = directory, .cached_files = 2 }, &sw.files),
        0);
    add_routes(&sw.plain, timeout_ns);
    add_routes(&sw.secure, timeout_ns);
    fixture_start(&sw.plain);
    EXPECT_EQ(bh_http_listen_tls(sw.secure.s, "127.0.0.1:0", sw.server), 0);
    sw.secure.done = BH_CHAN(int, 1);
    bh_go(fixture_serve, &(struct fixture_serve){ &sw.secure });
}

static void
stop(void)
{
    EXPECT_EQ(fixture_stop(&sw.plain), 0);
    EXPECT_EQ(fixture_stop(&sw.secure), 0);
    bh_http_files_free(sw.files);
    bh_tls_config_unref(sw.server);
    bh_tls_config_unref(sw.client);
    remove_files();
}

/* ---- what a client says ---------------------------------------------------------- */

#define HEAD "Host: a.test\r\n"

/* Nine requests, pipelined; of all replies the sizes are known. */
static char              talk1[] = "GET /hello HTTP/1.1\r\n" HEAD "\r\n"
                                   "POST /echo HTTP/1.1\r\n" HEAD "Content-Length: 4\r\n\r\nping"
                                   "POST /echo HTTP/1.1\r\n" HEAD "Transfer-Encoding: chunked\r\n\r\n"
                                   "2;x=y\r\npo\r\n2\r\nng\r\n0\r\nA: b\r\n\r\n"
                                   "GET /timed/hello HTTP/1.1\r\n" HEAD "\r\n"
                                   "POST /timed/echo HTTP/1.1\r\n" HEAD "Content-Length: 4\r\n\r\nping"
                                   "GET /file/big.txt HTTP/1.1\r\n" HEAD "\r\n"
                                   "GET /file/a.txt HTTP/1.1\r\n" HEAD "\r\n"
                                   "GET /file/none HTTP/1.1\r\n" HEAD "\r\n"
                                   "GET /hello HTTP/1.1\r\n" HEAD "Connection: close\r\n\r\n";
static const char *const bodies1[REPLIES] = {
    "hello\n", "ping",  "pong",           "hello\n", "ping",
    file_body, "small", NULL /* a 404 */, "hello\n",
};

static uint8_t talk2[1024];
static size_t  talk2_size;

static uint8_t *
frame(uint8_t *to, int type, int flags, uint32_t id, const void *payload, size_t size)
{
    to[0] = (uint8_t)(size >> 16);
    to[1] = (uint8_t)(size >> 8);
    to[2] = (uint8_t)size;
    to[3] = (uint8_t)type;
    to[4] = (uint8_t)flags;
    for (int i = 0; i < 4; i++)
        to[5 + i] = (uint8_t)(id >> (24 - 8 * i));
    if (size > 0)
        memcpy(to + 9, payload, size);
    return to + 9 + size;
}

/* A request's head: fields as literals with names and values as they are. */
static uint8_t *
head2(uint8_t *to, int flags, uint32_t id, const char *method, const char *path)
{
    const char *fields[] = { ":method", method, ":scheme",    "http",
                             ":path",   path,   ":authority", "a.test" };
    uint8_t     block[256], *at = block;

    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        size_t size = strlen(fields[i]);

        if (i % 2 == 0)
            *at++ = 0;
        *at++ = (uint8_t)size;
        memcpy(at, fields[i], size);
        at += size;
    }
    return frame(to, 1, flags | 4, id, block, (size_t)(at - block));
}

/* Four requests at once, the third for the file, for which there is room. */
static void
make_talk2(void)
{
    static const char    preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    static const uint8_t window[] = { 0, 4, 0, 15, 0, 0 }, more[] = { 0, 15, 0, 0 };
    uint8_t             *at = talk2;

    memcpy(at, preface, sizeof preface - 1);
    at = frame(at + sizeof preface - 1, 4, 0, 0, window, sizeof window);
    at = frame(at, 8, 0, 0, more, sizeof more);
    at = head2(at, 1, 1, "GET", "/hello");
    at = head2(at, 0, 3, "POST", "/echo");
    at = frame(at, 0, 1, 3, "ping", 4);
    at = head2(at, 1, 5, "GET", "/file/big.txt");
    at = head2(at, 1, 7, "GET", "/timed/hello");
    talk2_size = (size_t)(at - talk2);
}

/* ---- what it gets for it ---------------------------------------------------------- */

/* One line above the test's failure: what was done to it. */
#define SWEPT(cond, ...)                                                                       \
    do {                                                                                       \
        if (!(cond)) {                                                                         \
            fprintf(stderr, __VA_ARGS__);                                                      \
            test_failed(__FILE__, __LINE__, "%s, at %d (error %d): " #cond, sw.doing, sw.nth,  \
                        sw.error);                                                             \
        }                                                                                      \
    } while (0)

/* Returns: how many of the replies are whole and good; those must be right. */
static int
check_replies1(const char *text)
{
    int good = 0;

    for (int i = 0; i < REPLIES && *text != '\0'; i++) {
        const char *end = strstr(text, "\r\n\r\n"), *length = strstr(text, "Content-Length: ");
        size_t      size;

        if (end == NULL)
            break;
        SWEPT(starts_with(text, "HTTP/1.1 "), "%.300s\n", text);
        if (length == NULL || length > end)
            break;
        size = strtoul(length + 16, NULL, 10);
        end += 4;
        if (strlen(end) < size)
            break;
        if (starts_with(text + 9, "200")) {
            SWEPT(bodies1[i] != NULL && size == strlen(bodies1[i]) &&
                      memcmp(end, bodies1[i], size) == 0,
                  "%.300s\n", text);
            good++;
        } else if (bodies1[i] == NULL && starts_with(text + 9, "404")) {
            good++;
        }
        text = end + size;
    }
    return good;
}

/* Returns: how many streams have ended with data, each with as much as it must have. */
static int
check_replies2(const uint8_t *at, size_t size)
{
    static const size_t want[STREAMS] = { 6, 4, FILE_SIZE, 6 };
    size_t              have[STREAMS] = { 0 };
    int                 good = 0;

    while (size >= 9) {
        size_t   length = (size_t)at[0] << 16 | (size_t)at[1] << 8 | at[2];
        unsigned stream = at[8] / 2u;

        if (size < 9 + length)
            break;
        if (at[3] == 0 && stream < STREAMS) {
            have[stream] += length;
            good += (at[4] & 1) != 0 && have[stream] == want[stream];
        }
        at += 9 + length;
        size -= 9 + length;
    }
    return good;
}

struct client {
    enum protocol   protocol;
    const char     *address;
    int             good;
    bool            stuck;
    struct bh_chan *done;
};

static ssize_t
client_read(struct bh_conn *c, struct bh_tls *t, void *to, size_t size)
{
    return t != NULL ? bh_tls_read(t, to, size) : bh_read(c, to, size);
}

/* Everything is sent at once; then read until it is all there, or the server has closed. */
static void
client_talk(struct client *a, struct bh_conn *c, struct bh_tls *t)
{
    const void *text = a->protocol == HTTP2 ? (const void *)talk2 : talk1;
    size_t      size = a->protocol == HTTP2 ? talk2_size : sizeof talk1 - 1, used = 0;
    ssize_t     n = t != NULL ? bh_tls_write(t, text, size) : bh_write(c, text, size);
    int         all = a->protocol == HTTP2 ? STREAMS : REPLIES + 1;

    while (a->good < all && n > 0 && used < sizeof answer - 1) {
        n = client_read(c, t, answer + used, sizeof answer - 1 - used);
        used += n > 0 ? (size_t)n : 0;
        if (a->protocol == HTTP2)
            a->good = check_replies2((const uint8_t *)answer, used);
    }
    answer[used] = '\0';
    if (a->protocol != HTTP2)
        a->good = check_replies1(answer);
    a->stuck = n == BH_EDEADLINE;
}

static void
free_conn(struct bh_conn **c)
{
    bh_conn_free(*c);
}

static void
free_tls(struct bh_tls **t)
{
    bh_tls_free(*t);
}

static void
client_run(struct client *a)
{
    struct bh_conn *c = NULL;
    struct bh_tls  *t = NULL;
    int             rc;

    BH_DEFER(free_conn, &c);
    BH_DEFER(free_tls, &t);
    if (bh_dial(bh_ctx_background(), a->address, &c) < 0)
        return;
    bh_conn_set_deadline(c, bh_now() + ANSWER_TIME_S * BH_SECOND);
    if (a->protocol == SECURE) {
        if (bh_tls_client(sw.client, c, "a.test", &t) < 0)
            return;
        rc = bh_tls_handshake(t);
        a->stuck = rc == BH_EDEADLINE;
        if (rc < 0)
            return;
    }
    client_talk(a, c, t);
}

/* A client that has no memory panics: that is its own affair. */
static void
client_run_safely(struct client *a)
{
    BH_RECOVER(p) {
        (void)p;
        return;
    }
    client_run(a);
}

/* Returns: the number of good replies. */
static int
converse(enum protocol protocol, const char *address)
{
    struct client a = { .protocol = protocol, .address = address };
    char         *name = strstr(talk1, ".txt HTTP/1.1\r\n" HEAD "\r\nGET /file/none") - 1;

    *name = *name == 'p' ? 'a' : (char)(*name + 1); /* not in the cache */
    client_run_safely(&a);
    SWEPT(!a.stuck, "a client waited in vain, with %d good replies\n", a.good);
    return a.good;
}

static const char *
address_of(enum protocol p)
{
    return bh_http_address(p == SECURE ? sw.secure.s : sw.plain.s);
}

static void
expect_healthy(enum protocol p)
{
    int good = converse(p, address_of(p));

    SWEPT(good == (p == HTTP2 ? STREAMS : REPLIES), "only %d good replies: %.600s\n", good,
          answer);
}

/* ---- what is left ----------------------------------------------------------------- */

static int
open_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int  n = 0;

    EXPECT(d != NULL);
    while (readdir(d) != NULL)
        n++;
    closedir(d);
    return n;
}

static uint64_t
open_connections(void)
{
    struct bh_http_stats a, b;

    bh_http_stats(sw.plain.s, &a);
    bh_http_stats(sw.secure.s, &b);
    return a.open + b.open;
}

/* Until nobody is there, which takes no longer than the server's timeouts. */
static void
settle(void)
{
    int64_t end = bh_now() + ANSWER_TIME_S * BH_SECOND;

    for (;;) {
        int connections = (int)open_connections();
        int goroutines = (int)bh_goroutine_count() - (int)sw.goroutines;

        if (connections == 0 && goroutines <= 0)
            return;
        SWEPT(bh_now() < end, "left: %d connections, %d goroutines\n", connections, goroutines);
        bh_sleep(BH_MILLISECOND / 5);
    }
}

/* The next client is served, and all is as it was.  No call may fail any more. */
static void
expect_rest(enum protocol p)
{
    int left = 1;

    expect_healthy(p);
    settle();
    /* A small file that could not be read is kept open, until others take its place. */
    for (int i = 0; i < 50 && (left = open_descriptors() - sw.descriptors) > 0; i++) {
        expect_healthy(PLAIN);
        settle();
    }
    SWEPT(left <= 0, "left: %d descriptors\n", left);
}

/* More threads than will be needed: one that can't be had later is the end, as in Go. */
enum { THREADS = 8, THREAD_TIME_US = 20000 };

static void
block_thread(void *arg)
{
    (void)arg;
    nanosleep(&(struct timespec){ .tv_nsec = 1000L * (THREAD_TIME_US) }, NULL);
}

static void
keep_thread(void *args)
{
    BH_DEFER(bh_waitgroup_done, *(struct bh_waitgroup **)args);
    bh_blocking(block_thread, NULL);
}

static void
start_threads(void)
{
    struct bh_waitgroup done = { 0 }, *at = &done;

    bh_waitgroup_add(&done, THREADS);
    for (int i = 0; i < THREADS; i++)
        bh_go(keep_thread, &at);
    bh_waitgroup_wait(&done);
}

/* With everything in place that stays: files, pools, threads. */
static void
begin(int64_t timeout_ns)
{
    make_talk2();
    start_threads();
    start(timeout_ns);
    sw.doing = "nothing";
    for (int i = 0; i < 3; i++)
        for (int p = 0; p < PROTOCOLS; p++)
            expect_healthy((enum protocol)p);
    for (int64_t end = bh_now() + BH_SECOND; open_connections() > 0 && bh_now() < end;)
        bh_sleep(BH_MILLISECOND);
    sw.goroutines = bh_goroutine_count();
    sw.descriptors = open_descriptors();
}

/* ---- calls that fail --------------------------------------------------------------- */

static void
sweep(enum protocol p, enum fault_call call, int error)
{
    int nth, failed = 1;

    sw.doing = fault_names[call];
    sw.error = error;
    for (nth = 1; failed > 0; nth++) {
        SWEPT(nth < MANY, "it does not end\n");
        sw.nth = nth;
        fault_arm(call, nth, error);
        (void)converse(p, address_of(p));
        settle();
        failed = fault_disarm();
        sw.faults += failed;
        expect_rest(p);
    }
}

struct kind {
    enum fault_call call;
    int             errors[4];
};

static void
sweep_kinds(enum protocol p, const struct kind *kinds, size_t count)
{
    begin(2 * BH_SECOND);
    for (size_t i = 0; i < count; i++)
        for (int e = 0; e < 4 && kinds[i].errors[e] != 0; e++) {
            int before = sw.faults;

            sweep(p, kinds[i].call, kinds[i].errors[e]);
            printf("%s error %d: %d\n", fault_names[kinds[i].call], kinds[i].errors[e],
                   sw.faults - before);
        }
    stop();
}

#define SWEEP(p, ...)                                                                          \
    sweep_kinds((p), (const struct kind[]){ __VA_ARGS__ },                                     \
                sizeof((const struct kind[]){ __VA_ARGS__ }) / sizeof(struct kind))
#define SWEEP_IO(p)                                                                            \
    SWEEP((p), { FAULT_RECEIVE, { ECONNRESET, EIO, EINTR, ENOMEM } },                          \
          { FAULT_SEND, { EPIPE, ECONNRESET, EINTR, EIO } },                                   \
          { FAULT_SENDFILE, { EIO, EPIPE, EINTR } })
#define SWEEP_MEMORY(p)                                                                        \
    SWEEP((p), { FAULT_ALLOCATE, { ENOMEM } }, { FAULT_MMAP, { ENOMEM } },                     \
          { FAULT_MPROTECT, { ENOMEM } }, { FAULT_THREAD, { EAGAIN } })
#define SWEEP_SYSTEM(p)                                                                        \
    SWEEP((p), { FAULT_ACCEPT, { EMFILE, ENFILE, ENOMEM, EINTR } },                            \
          { FAULT_EPOLL_ADD, { ENOMEM, ENOSPC } }, { FAULT_EPOLL_WAIT, { EINTR } },            \
          { FAULT_OPEN, { EMFILE, ENFILE, EIO } }, { FAULT_STAT, { EIO } },                    \
          { FAULT_PREAD, { EIO, EINTR } }, { FAULT_OPTION, { ENOMEM } },                       \
          { FAULT_SOCKET, { EMFILE } }, { FAULT_CONNECT, { ENETUNREACH } },                    \
          { FAULT_SHUTDOWN, { ENOTCONN } })

TEST_REAL(fault_sweep, http1_survives_each_failed_transfer)
{
    SWEEP_IO(PLAIN);
}
TEST_REAL(fault_sweep, http1_survives_each_failed_allocation)
{
    SWEEP_MEMORY(PLAIN);
}
TEST_REAL(fault_sweep, http1_survives_each_failed_system_call)
{
    SWEEP_SYSTEM(PLAIN);
}
TEST_REAL(fault_sweep, tls_survives_each_failed_transfer)
{
    SWEEP_IO(SECURE);
}
TEST_REAL(fault_sweep, tls_survives_each_failed_allocation)
{
    SWEEP_MEMORY(SECURE);
}
TEST_REAL(fault_sweep, tls_survives_each_failed_system_call)
{
    SWEEP_SYSTEM(SECURE);
}
TEST_REAL(fault_sweep, http2_survives_each_failed_transfer)
{
    SWEEP_IO(HTTP2);
}
TEST_REAL(fault_sweep, http2_survives_each_failed_allocation)
{
    SWEEP_MEMORY(HTTP2);
}
TEST_REAL(fault_sweep, http2_survives_each_failed_system_call)
{
    SWEEP_SYSTEM(HTTP2);
}

/* ---- clients that leave ------------------------------------------------------------ */

/*
 * Between client and server stands a relay, which passes so many bytes of one direction on,
 * and then breaks off its connection to the server, or ends its half of it.
 */
enum leave { RESET, HALF };
enum side { UP, DOWN, SIDES }; /* towards the server, towards the client */

struct relay {
    struct bh_listener *l;
    const char         *to;
    enum side           side;
    enum leave          how;
    int                 bytes; /* of that side */
    bool                left;
    struct bh_conn     *ends[SIDES]; /* server, client */
    struct bh_waitgroup done;
};

struct pump {
    struct relay *r;
    enum side     side;
};

static void
leave(struct relay *r)
{
    r->left = true;
    if (r->how == HALF) {
        (void)bh_conn_shutdown_write(r->ends[UP]);
        return;
    }
    bh_conn_abort(r->ends[UP]);
    bh_conn_close(r->ends[DOWN]);
}

static void
pump(void *args)
{
    static char     buffers[SIDES][4096];
    struct pump    *a = args;
    struct relay   *r = a->r;
    struct bh_conn *from = r->ends[a->side == UP ? DOWN : UP], *to = r->ends[a->side];
    char           *buffer = buffers[a->side];
    int             left = a->side == r->side ? r->bytes : 0;
    ssize_t         n;

    BH_DEFER(bh_waitgroup_done, &r->done);
    do {
        n = bh_read(from, buffer, left > 0 && left < 4096 ? (size_t)left : 4096);
        if (n > 0 && bh_write(to, buffer, (size_t)n) < 0)
            return;
        if (n > 0 && left > 0 && (left -= (int)n) == 0)
            leave(r);
    } while (n > 0);
    (void)bh_conn_shutdown_write(to);
}

static void
relay(void *args)
{
    struct relay *r = *(struct relay **)args;

    BH_DEFER(bh_waitgroup_done, &r->done);
    EXPECT_EQ(bh_accept(r->l, &r->ends[DOWN]), 0);
    EXPECT_EQ(bh_dial(bh_ctx_background(), r->to, &r->ends[UP]), 0);
    bh_waitgroup_add(&r->done, SIDES);
    bh_go(pump, &(struct pump){ r, UP });
    bh_go(pump, &(struct pump){ r, DOWN });
}

/* Returns: whether that many bytes came by. */
static bool
leave_after(struct relay *r, enum protocol p, int bytes)
{
    r->bytes = bytes;
    r->left = false;
    bh_waitgroup_add(&r->done, 1);
    bh_go(relay, &r);
    (void)converse(p, bh_listener_address(r->l));
    bh_waitgroup_wait(&r->done);
    bh_conn_free(r->ends[UP]);
    bh_conn_free(r->ends[DOWN]);
    return r->left;
}

static void
leave_everywhere(enum protocol p, enum leave how, const int steps[SIDES])
{
    struct relay r = { .to = NULL, .how = how };

    begin(2 * BH_SECOND);
    r.to = address_of(p);
    EXPECT_EQ(bh_listen("127.0.0.1:0", &r.l), 0);
    sw.descriptors++;
    for (int side = UP; side < SIDES; side++) {
        sw.doing = side == UP ? "leaving in a request" : "leaving in a reply";
        r.side = (enum side)side;
        for (sw.nth = 1; leave_after(&r, p, sw.nth); sw.nth += steps[side]) {
            settle();
            if (sw.faults++ % 16 == 0)
                expect_rest(p);
        }
        settle();
        expect_rest(p);
        printf("%s: %d\n", sw.doing, sw.faults);
    }
    bh_listener_free(r.l);
    stop();
}

#define LEAVE(p, how, up, down) leave_everywhere((p), (how), (const int[SIDES]){ (up), (down) })

TEST_REAL(leave_sweep, http1_client_may_reset_after_any_byte)
{
    LEAVE(PLAIN, RESET, 1, 97);
}
TEST_REAL(leave_sweep, http1_client_may_end_after_any_byte)
{
    LEAVE(PLAIN, HALF, 1, 97);
}
TEST_REAL(leave_sweep, tls_client_may_reset_after_any_byte)
{
    LEAVE(SECURE, RESET, 3, 397);
}
TEST_REAL(leave_sweep, tls_client_may_end_after_any_byte)
{
    LEAVE(SECURE, HALF, 3, 397);
}
TEST_REAL(leave_sweep, http2_client_may_reset_after_any_byte)
{
    LEAVE(HTTP2, RESET, 1, 97);
}
TEST_REAL(leave_sweep, http2_client_may_end_after_any_byte)
{
    LEAVE(HTTP2, HALF, 1, 97);
}
