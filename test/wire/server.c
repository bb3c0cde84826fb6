/*
 * server.c -- a server for clients that no one here wrote: it tells what it has understood.
 *
 *     wire-server [-l address] [-t address certificate key] [-s]
 *
 *     -l           where to listen; default 127.0.0.1:0.  Printed: "wire: 127.0.0.1:50312"
 *     -t           listen there too, with TLS
 *     -s           impatient: limits on time of a second or two, for tests of slow clients
 *
 * Any request outside /wire/ is answered with what it was taken for: method, path, and how
 * many bytes of body came in which framing.  Every request, refused ones too, gets a number,
 * which its reply carries ("X-Wire: 17"), and a line in a log.  A test compares that with
 * what it has sent: a request that it did not send must not be there.
 *
 *     GET /wire/log?from=N     the lines of requests N and up, as far as kept
 *     GET /wire/stats          counters, goroutines, descriptors, memory
 *     GET /wire/body?size=N    that many bytes; with &chunked=1 in pieces, with &trailer=1 a
 *                              field behind them, with &file=1 from a file
 *     /wire/status/{status}    that status, with a text, even where there can be none
 *     /wire/deaf               answered without the body being read
 *     GET /wire/wait           until the client leaves or two seconds have passed
 *     GET /wire/crash/{how}    null, overflow, child or half
 *
 * Requests under /wire/ have neither number nor line.  seen.lock protects the log.  It ends
 * with its parent.
 */

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>
#include <zlib.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/http.h>
#include <bulkhead/http/server.h>
#include <bulkhead/http/tls.h>

enum { LINES = 16384, LINE_SIZE = 192, FILE_SIZE = 100000, PIECE = 1000 };

struct settings {
    const char *address, *secure_address, *certificate, *key;
    bool        impatient;
    int         status;
};

static struct {
    struct bh_mutex lock;
    uint64_t        count; /* of requests; their numbers begin with 0 */
    char            lines[LINES][LINE_SIZE];
} seen;

static int  file = -1;  /* FILE_SIZE bytes of pattern() */
static char key_length; /* its address: key of the length of the body */

static char
pattern(size_t i)
{
    return (char)('a' + i % 26);
}

/* ---- what was seen ------------------------------------------------------------------------ */

static const char *
framing(struct bh_http_call *c)
{
    if (bh_http_header(c, "Transfer-Encoding") != NULL)
        return "chunked";
    return bh_http_header(c, "Content-Length") != NULL ? "length" : "none";
}

static uint64_t
take_number(void)
{
    uint64_t number;

    bh_mutex_lock(&seen.lock);
    number = seen.count++;
    seen.lines[number % LINES][0] = '\0';
    bh_mutex_unlock(&seen.lock);
    return number;
}

/* An observer: number, method, path, bytes of body, framing, status. */
static int
record(struct bh_http_call *c, void *arg)
{
    char     text[24];
    uint64_t number;
    int      rc;

    (void)arg;
    if (strncmp(c->path, "/wire/", 6) == 0)
        return bh_http_next(c);
    number = take_number();
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)number);
    (void)bh_http_set_header(c, "X-Wire", text);
    rc = bh_http_next(c);
    (void)bh_http_set_header(c, "X-Wire", text); /* an error reply has dropped it */
    bh_mutex_lock(&seen.lock);
    (void)snprintf(seen.lines[number % LINES], LINE_SIZE, "%llu %.16s %.100s %ld %s %d\n",
                   (unsigned long long)number, c->method, c->path,
                   (long)(intptr_t)bh_http_get(c, &key_length),
                   c->route[0] != '\0' ? framing(c) : "-", c->status);
    bh_mutex_unlock(&seen.lock);
    return rc;
}

static int
show_log(struct bh_http_call *c, void *arg)
{
    const char *text = bh_http_query(c, "from");
    uint64_t    from = text != NULL ? strtoull(text, NULL, 10) : 0;

    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    bh_mutex_lock(&seen.lock);
    BH_DEFER(bh_mutex_unlock, &seen.lock);
    for (uint64_t i = from; i < seen.count; i++)
        (void)bh_http_write(c, seen.lines[i % LINES], strlen(seen.lines[i % LINES]));
    return 0;
}

static int
count_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int  n = -3; /* ".", ".." and d's own */

    while (d != NULL && readdir(d) != NULL)
        n++;
    if (d != NULL)
        closedir(d);
    return n;
}

static long
resident_kib(void)
{
    char  line[128];
    long  n = 0;
    FILE *f = fopen("/proc/self/smaps_rollup", "r");

    while (f != NULL && fgets(line, sizeof line, f) != NULL &&
           sscanf(line, "Pss: %ld kB", &n) != 1)
        continue;
    if (f != NULL)
        fclose(f);
    return n;
}

static int
show_stats(struct bh_http_call *c, void *arg)
{
    struct bh_http_stats s;

    (void)arg;
    bh_http_stats(bh_http_server_of(c), &s);
    return bh_http_reply_json(
        c, 200,
        "{\"requests\":%llu,\"refused\":%llu,\"panics\":%llu,\"aborted\":%llu,\"connections\":%"
        "llu,"
        "\"open\":%llu,\"active\":%llu,\"goroutines\":%zu,\"descriptors\":%d,\"resident\":%ld,"
        "\"allocated\":%zu}\n",
        (unsigned long long)s.requests, (unsigned long long)s.refused,
        (unsigned long long)s.panics, (unsigned long long)s.aborted,
        (unsigned long long)s.connections, (unsigned long long)s.open,
        (unsigned long long)s.active, bh_goroutine_count(), count_descriptors(), resident_kib(),
        mallinfo2().uordblks);
}

/* ---- what can be asked of it ------------------------------------------------------------ */

static int
echo(struct bh_http_call *c, void *arg)
{
    char          buffer[8192];
    unsigned long crc = 0, length = 0;
    ssize_t       n;

    (void)arg;
    while ((n = bh_http_read(c, buffer, sizeof buffer)) > 0) {
        crc = crc32(crc, (const unsigned char *)buffer, (unsigned)n);
        length += (unsigned long)n;
    }
    bh_http_set(c, &key_length, (void *)(uintptr_t)length);
    if (n < 0)
        return (int)n;
    return bh_http_reply_json(
        c, 200,
        "{\"method\":%s,\"path\":%s,\"query\":%s,\"host\":%s,\"version\":%d,"
        "\"framing\":%s,\"length\":%lu,\"crc\":%lu}\n",
        c->method, c->path, c->query, c->host, c->version, framing(c), length, crc);
}

static int
body(struct bh_http_call *c, void *arg)
{
    const char *text = bh_http_query(c, "size");
    size_t      size = text != NULL ? strtoul(text, NULL, 10) : 0;
    bool        chunked = bh_http_query(c, "chunked") != NULL;
    char        piece[PIECE];
    int         rc = 0;

    (void)arg;
    if (bh_http_query(c, "file") != NULL) {
        bh_http_start(c, 200, "text/plain", FILE_SIZE);
        return bh_http_send_file(c, file, 0, FILE_SIZE);
    }
    bh_http_start(c, 200, "text/plain", chunked ? -1 : (int64_t)size);
    for (size_t at = 0; at < size && rc == 0;) {
        size_t n = size - at < PIECE ? size - at : PIECE;

        for (size_t i = 0; i < n; i++)
            piece[i] = pattern(at + i);
        at += n;
        rc = bh_http_write(c, piece, n);
        if (rc == 0 && chunked && at % (8 * PIECE) == 0)
            rc = bh_http_flush(c);
    }
    if (rc == 0 && bh_http_query(c, "trailer") != NULL)
        rc = bh_http_trailer(c, "X-Trailer", "behind");
    return rc;
}

static int
give_status(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, (int)strtol(bh_http_param(c, "status"), NULL, 10), "a text\n");
}

static int
deaf(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "not read\n");
}

static int
wait_for_client(struct bh_http_call *c, void *arg)
{
    enum { LEFT, LATE };
    struct bh_timer *t = bh_timer_new(2 * BH_SECOND);

    (void)arg;
    BH_DEFER(bh_timer_free, t);
    return bh_select([LEFT] = BH_RECV(bh_ctx_done(bh_http_ctx(c)), NULL), [LATE] = BH_RECV(
                                                                              bh_timer_chan(t),
                                                                              NULL)) == LEFT
               ? bh_http_reply(c, 200, "left\n")
               : bh_http_reply(c, 200, "late\n");
}

/* ---- crashes ------------------------------------------------------------------------------ */

static int *volatile nowhere = NULL;

__attribute__((noinline)) static int
descend(volatile char *above, int depth)
{
    volatile char here[256];

    here[depth % 256] = *above;
    return depth >= 0 ? descend(here, depth + 1) + here[0] : 0;
}

static void
child(struct bh_http_call *c, void *args)
{
    (void)c;
    (void)args;
    bh_panic("wire: a child of the request");
}

static int
crash(struct bh_http_call *c, void *arg)
{
    const char   *how = bh_http_param(c, "how");
    volatile char top = 1;

    (void)arg;
    if (strcmp(how, "overflow") == 0)
        return bh_http_reply(c, 200, "depth %d\n", descend(&top, 0));
    if (strcmp(how, "child") == 0) {
        bh_http_go(c, child, NULL);
        return bh_http_reply(c, 202, "accepted\n");
    }
    if (strcmp(how, "half") == 0) {
        bh_http_start(c, 200, "text/plain", -1);
        (void)bh_http_print(c, "half of it\n");
        (void)bh_http_flush(c);
    }
    *nowhere = 1;
    return 0;
}

/* ---- serving ------------------------------------------------------------------------------- */

static int
make_file(void)
{
    file = memfd_create("wire", MFD_CLOEXEC);
    for (size_t i = 0; file >= 0 && i < FILE_SIZE; i += PIECE) {
        char piece[PIECE];

        for (size_t k = 0; k < PIECE; k++)
            piece[k] = pattern(i + k);
        if (write(file, piece, PIECE) != PIECE)
            return -EIO;
    }
    return file >= 0 ? 0 : -EMFILE;
}

static int
listen_tls(struct bh_http_server *s, const struct settings *o)
{
    struct bh_tls_config *t = bh_tls_config_new();
    int                   rc;

    BH_DEFER(bh_tls_config_unref, t);
    bh_tls_config_set_protocols(t, "h2,http/1.1");
    rc = bh_tls_config_add_certificate(t, o->certificate, o->key);
    return rc < 0 ? rc : bh_http_listen_tls(s, o->secure_address, t);
}

static void
serve(void *args)
{
    static const struct bh_http_options impatient = { .head_timeout = BH_SECOND,
                                                      .body_timeout = BH_SECOND,
                                                      .write_timeout = 2 * BH_SECOND,
                                                      .idle_timeout = 2 * BH_SECOND };
    struct settings                    *o = args;
    struct bh_http_server *s = bh_http_server_new(o->impatient ? &impatient : NULL);
    int                    rc = make_file();

    memset(seen.lines, ' ', sizeof seen.lines); /* so that memory is what it is from the start */
    BH_DEFER(bh_http_server_free, s);
    bh_http_observe(s, record, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /wire/log", show_log, NULL);
    bh_http_handle(s, "GET /wire/stats", show_stats, NULL);
    bh_http_handle(s, "GET /wire/body", body, NULL);
    bh_http_handle(s, "/wire/status/{status}", give_status, NULL);
    bh_http_handle(s, "/wire/deaf", deaf, NULL);
    bh_http_handle(s, "GET /wire/wait", wait_for_client, NULL);
    bh_http_handle(s, "GET /wire/crash/{how}", crash, NULL);
    bh_http_handle(s, "/{path...}", echo, NULL);
    if (rc == 0)
        rc = bh_http_listen(s, o->address);
    if (rc == 0 && o->secure_address != NULL)
        rc = listen_tls(s, o);
    if (rc == 0) {
        printf("wire: %s\n", bh_http_address(s));
        fflush(stdout);
        rc = bh_http_serve_until_signal(s);
    }
    if (rc < 0)
        fprintf(stderr, "wire-server: %s: %s (%s)\n", o->address, bh_error_text(rc),
                bh_error_note());
    o->status = rc < 0;
}

int
main(int argc, char **argv)
{
    struct settings o = { .address = "127.0.0.1:0" };
    int             option;

    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    while ((option = getopt(argc, argv, "l:t:s")) != -1) {
        if (option == 'l') {
            o.address = optarg;
        } else if (option == 's') {
            o.impatient = true;
        } else if (option == 't' && optind + 2 <= argc) {
            o.secure_address = optarg;
            o.certificate = argv[optind++];
            o.key = argv[optind++];
        } else {
            fprintf(stderr,
                    "usage: wire-server [-l address] [-t address certificate key] [-s]\n");
            return 2;
        }
    }
    bh_main(serve, &o);
    return o.status;
}
