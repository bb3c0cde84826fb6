/* proxy_test.c -- the PROXY protocol: headers from bytes, from raw clients, from HAProxy and curl. */
#include "http_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/http/tls.h>

#include "proxy.h"

enum { SIZE = 1 << 14 };
static char answer[SIZE];

#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"
#define TCP4      "\xc0\x00\x02\x01\xc6\x33\x64\x02\xc4\x88\x01\xbb"

/* ---- from bytes ------------------------------------------------------------------ */

struct header {
    const char *bytes;
    size_t      size;
    const char *peer; /* NULL: nobody is named; "bad": refused; "more": not all is there */
};
#define HEADER(bytes, peer)                                                                    \
    {                                                                                          \
        bytes, sizeof(bytes) - 1, peer                                                         \
    }

static void
check(const struct header *h, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct ht_proxy p;
        long            n = ht_proxy_parse(&p, (const uint8_t *)h[i].bytes, h[i].size);
        const char     *got = n < 0 ? "bad" : n == 0 ? "more" : p.known ? p.peer : NULL;

        if (got != h[i].peer &&
            (got == NULL || h[i].peer == NULL || strcmp(got, h[i].peer) != 0))
            test_failed(__FILE__, __LINE__, "%zu: %.60s: %s (%s)", i, h[i].bytes, got,
                        p.why != NULL ? p.why : "");
        if (n > 0)
            EXPECT_EQ(n, h[i].size);
    }
}

TEST_PLAIN(proxy, reads_lines_of_version_1_and_nothing_that_only_looks_like_them)
{
    static const struct header headers[] = {
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2 50312 443\r\n", "192.0.2.1:50312"),
        HEADER("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
               "255.255.255.255:65535"),
        HEADER("PROXY TCP6 2001:db8::1 ::1 0 1\r\n", "[2001:db8::1]:0"),
        HEADER("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff "
               "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n",
               "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"),
        HEADER("PROXY UNKNOWN\r\n", NULL),
        HEADER("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", NULL),
        HEADER("P", "more"),
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2 5", "more"),
        HEADER("PROXY UNKNOWN\r", "more"),
        HEADER("", "more"),
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2 50312 443\n", "bad"),
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2 50312\r\n", "bad"),
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2 50312 443 \r\n", "bad"),
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2 50312 443 7\r\n", "bad"),
        HEADER("PROXY TCP4  192.0.2.1 198.51.100.2 50312 443\r\n", "bad"),
        HEADER("PROXY TCP4 192.0.2.01 198.51.100.2 50312 443\r\n", "bad"),
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2 050312 443\r\n", "bad"),
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2 65536 443\r\n", "bad"),
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2 -1 443\r\n", "bad"),
        HEADER("PROXY TCP4 ::1 198.51.100.2 50312 443\r\n", "bad"),
        HEADER("PROXY TCP6 192.0.2.1 198.51.100.2 50312 443\r\n", "bad"),
        HEADER("PROXY UDP4 192.0.2.1 198.51.100.2 50312 443\r\n", "bad"),
        HEADER("PROXY tcp4 192.0.2.1 198.51.100.2 50312 443\r\n", "bad"),
        HEADER("PROXY TCP4 192.0.2.1 198.51.100.2\r 50312 443\r\n", "bad"),
        HEADER("PROXY \r\n", "bad"),
        HEADER("PROXY\r\n", "bad"),
        HEADER("GET / HTTP/1.1\r\n", "bad"),
        HEADER(
            "PROXY UNKNOWN ...................................................................."
            "......................................\r\n",
            "bad"),
    };

    check(headers, sizeof headers / sizeof headers[0]);
}

TEST_PLAIN(proxy, reads_headers_of_version_2_with_their_extras)
{
    static const struct header headers[] = {
        HEADER(SIGNATURE "\x21\x11\x00\x0c" TCP4, "192.0.2.1:50312"),
        HEADER(SIGNATURE "\x21\x11\x00\x10" TCP4 "\x04\x00\x01x", "192.0.2.1:50312"),
        /* HAProxy's, with a checksum and a name of the host. */
        HEADER(SIGNATURE "\x21\x11\x00\x1a" TCP4 "\x03\x00\x04\xe5\xcf\x4a\x00\x02\x00\x04host",
               "192.0.2.1:50312"),
        HEADER(SIGNATURE "\x21\x11\x00\x13" TCP4 "\x03\x00\x04\x00\x00\x00\x00", "bad"),
        HEADER(SIGNATURE "\x21\x11\x00\x0f" TCP4 "\x03\x00\x00", "bad"),
        HEADER(SIGNATURE "\x21\x11\x00\x0f" TCP4 "\x04\x00\x01", "bad"),
        HEADER(SIGNATURE "\x21\x11\x00\x0e" TCP4 "\x04\x00", "bad"),
        HEADER(SIGNATURE "\x21\x11\x00\x0b\xc0\x00\x02\x01\xc6\x33\x64\x02\xc4\x88\x01", "bad"),
        HEADER(SIGNATURE "\x20\x00\x00\x00", NULL),             /* LOCAL */
        HEADER(SIGNATURE "\x20\x11\x00\x0c" TCP4, NULL),        /* LOCAL, whatever follows */
        HEADER(SIGNATURE "\x21\x00\x00\x03\x04\x00\x00", NULL), /* of no family */
        HEADER(SIGNATURE "\x21\x12\x00\x0c" TCP4, NULL),        /* UDP is nothing for us */
        HEADER(SIGNATURE "\x22\x11\x00\x0c" TCP4, "bad"),       /* commands, versions, */
        HEADER(SIGNATURE "\x11\x11\x00\x0c" TCP4, "bad"),
        HEADER(SIGNATURE "\x21\x41\x00\x0c" TCP4, "bad"), /* families to come */
        HEADER(SIGNATURE "\x21\x13\x00\x0c" TCP4, "bad"),
        HEADER(SIGNATURE "\x21\x11\x0f\xf1", "bad"), /* over 4,096 in all */
        HEADER(SIGNATURE "\x21\x11\x00\x0c\xc0", "more"),
        HEADER(SIGNATURE, "more"),
        HEADER("\r\n\r\n", "more"),
        HEADER("\r\n\r\nGET / HTTP/1.1\r\n", "bad"),
    };
    static uint8_t  local[16 + 216] = SIGNATURE "\x21\x31\x00\xd8/run/a b";
    struct ht_proxy p;

    check(headers, sizeof headers / sizeof headers[0]);
    EXPECT_EQ(ht_proxy_parse(&p, local, sizeof local), sizeof local);
    EXPECT_STR(p.peer, "unix:/run/a?b");
    memset(local + 16, 0, 10);
    EXPECT_EQ(ht_proxy_parse(&p, local, sizeof local), sizeof local);
    EXPECT_STR(p.peer, "unix:");
}

/* ---- over sockets ------------------------------------------------------------------- */

static int
whoami(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%s %s\n", c->secure ? "https" : "http", c->peer);
}

static void
start(struct fixture *f, const char *const *sources)
{
    f->s = bh_http_server_new(&(struct bh_http_options){
        .proxy_protocol = sources, .head_timeout = 300 * BH_MILLISECOND });
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /", whoami, NULL);
    fixture_start(f);
}

static const char *const loopback[] = { "10.0.0.0/8", "127.0.0.0/8", NULL };
#define GET "GET / HTTP/1.1\r\nHost: a\r\n\r\n"

TEST_REAL(proxy, a_trusted_source_says_whose_request_it_is_in_any_pieces)
{
    static const char bytes[] = "PROXY TCP4 192.0.2.1 198.51.100.2 50312 443\r\n" GET GET;
    struct fixture                                                                    f;

    start(&f, loopback);
    for (size_t cut = 0; cut < 60; cut += 7) {
        struct bh_conn *c = fixture_dial(&f);
        EXPECT_EQ(bh_write(c, bytes, cut), cut);
        bh_sleep(2 * BH_MILLISECOND);
        EXPECT(bh_write(c, bytes + cut, sizeof bytes - 1 - cut) > 0);
        for (int i = 0; i < 2; i++) {
            read_reply(c, answer, SIZE);
            EXPECT_STR(body_of(answer), "http 192.0.2.1:50312\n");
        }
        bh_conn_free(c);
    }
    struct bh_conn *c = fixture_dial(&f);
    EXPECT(bh_write(c, SIGNATURE "\x20\x00\x00\x00" GET, 16 + sizeof GET - 1) > 0);
    read_reply(c, answer, SIZE);
    EXPECT_HAS(answer, bh_conn_local(c)); /* LOCAL: the socket's own */
    bh_conn_free(c);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(proxy, a_trusted_source_must_send_it_whole_and_in_time)
{
    static const char *const cases[] = { GET, "PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "PROXY TCP4 ",
                                         "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "" };
    struct fixture           f;

    start(&f, loopback);
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct bh_conn *c = fixture_dial(&f);
        send_text(c, cases[i]);
        EXPECT(read_to_end(c, answer, SIZE) <= 0);
        EXPECT_STR(answer, "");
        bh_conn_free(c);
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(proxy, others_cannot_lie_about_their_address)
{
    static const char *const elsewhere[] = { "10.0.0.0/8", "unix", NULL };
    struct fixture           f;

    for (int off = 0; off < 2; off++) {
        start(&f, off ? NULL : elsewhere);
        struct bh_conn *c = fixture_dial(&f);
        send_text(c, GET);
        read_reply(c, answer, SIZE);
        EXPECT_HAS(answer, bh_conn_local(c));
        bh_conn_free(c);
        talk(&f, "PROXY TCP4 192.0.2.1 198.51.100.2 50312 443\r\n" GET, answer, SIZE);
        EXPECT_STARTS(answer, "HTTP/1.1 400 ");
        EXPECT_EQ(fixture_stop(&f), 0);
    }
    EXPECT_PANIC("http: \"10.0.0.1/8\" is no source of the PROXY protocol",
                 (void)bh_http_server_new(&(struct bh_http_options){
                     .proxy_protocol = (const char *const[]){ "10.0.0.1/8", NULL } }));
}

/* ---- senders that no one here wrote -------------------------------------------------- */

static char command[1024];

static void
run(void *arg)
{
    int status = system(arg);

    if (status != 0)
        test_failed(__FILE__, __LINE__, "status %d of: %s", status, (char *)arg);
}

static char directory[] = "/tmp/bulkhead_proxy_XXXXXX";

static struct bh_tls_config *
make_certificate(void)
{
    struct bh_tls_config *config = bh_tls_config_new();
    char                  certificate[64], key[64];

    EXPECT(mkdtemp(directory) != NULL);
    snprintf(certificate, sizeof certificate, "%s/a.pem", directory);
    snprintf(key, sizeof key, "%s/a.key", directory);
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
             "-keyout %s -out %s -subj /CN=a -addext subjectAltName=IP:127.0.0.1 2>/dev/null",
             key, certificate);
    bh_blocking(run, command);
    EXPECT_EQ(bh_tls_config_add_certificate(config, certificate, key), 0);
    return config;
}

/* A frontend for each way to send, on a socket that it inherits. */
static pid_t
start_haproxy(const char *plain, const char *tls, struct bh_listener *l[4])
{
    static const char *const ways[] = { "send-proxy", "send-proxy-v2",
                                        "send-proxy-v2 proxy-v2-options unique-id,crc32c",
                                        "send-proxy ssl verify none alpn http/1.1" };
    char                     path[64];
    FILE                    *config;
    int                      fds[4];
    pid_t                    pid;

    snprintf(path, sizeof path, "%s/haproxy.cfg", directory);
    config = fopen(path, "w");
    EXPECT(config != NULL);
    fprintf(config,
            "global\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 5s\n"
            "  timeout client 5s\n  timeout server 5s\n  unique-id-format %%[uuid()]\n");
    for (int i = 0; i < 4; i++) {
        fds[i] = dup(bh_listener_fd(l[i]));
        fprintf(config, "listen way%d\n  bind fd@%d\n  server a %s %s\n", i, fds[i],
                i == 3 ? tls : plain, ways[i]);
    }
    fclose(config);
    pid = fork();
    if (pid == 0) {
        execlp("haproxy", "haproxy", "-q", "-db", "-f", path, (char *)NULL);
        _exit(127);
    }
    for (int i = 0; i < 4; i++)
        close(fds[i]);
    return pid;
}

static void
wait_for(void *arg)
{
    int status;

    EXPECT_EQ(waitpid(*(pid_t *)arg, &status, 0), *(pid_t *)arg);
}

TEST_REAL(proxy, haproxy_names_its_clients_in_both_versions_and_before_tls)
{
    struct bh_tls_config *tls = make_certificate();
    struct bh_listener   *l[4];
    struct fixture        plain, secure = { .s = bh_http_server_new(&(struct bh_http_options){
                                                .proxy_protocol = loopback }) };
    char                  expected[100];
    pid_t                 haproxy;

    start(&plain, loopback);
    bh_http_use(secure.s, bh_http_recover, NULL);
    bh_http_handle(secure.s, "GET /", whoami, NULL);
    EXPECT_EQ(bh_http_listen_tls(secure.s, "127.0.0.1:0", tls), 0);
    fixture_start(&secure);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(bh_listen("127.0.0.1:0", &l[i]), 0);
    haproxy = start_haproxy(bh_http_address(plain.s), bh_http_address(secure.s), l);

    for (int i = 0; i < 4; i++) {
        struct bh_conn *c = NULL;

        EXPECT_EQ(bh_dial(bh_ctx_background(), bh_listener_address(l[i]), &c), 0);
        bh_conn_set_deadline(c, bh_now() + 8 * BH_SECOND);
        send_text(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        (void)read_to_end(c, answer, SIZE);
        snprintf(expected, sizeof expected, "%s %s\n", i == 3 ? "https" : "http",
                 bh_conn_local(c));
        EXPECT_HAS(answer, expected);
        bh_conn_free(c);
    }
    kill(haproxy, SIGKILL);
    bh_blocking(wait_for, &haproxy);
    for (int i = 0; i < 4; i++)
        bh_listener_free(l[i]);
    snprintf(command, sizeof command,
             "curl -sS --haproxy-protocol --max-time 5 http://%s/ | "
             "grep -q '^http 127.0.0.1:'; s=$?; rm -r %s; exit $s",
             bh_http_address(plain.s), directory);
    bh_blocking(run, command);
    EXPECT_EQ(fixture_stop(&plain), 0);
    EXPECT_EQ(fixture_stop(&secure), 0);
    bh_tls_config_unref(tls);
}
