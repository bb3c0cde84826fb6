/* tls_test.c -- TLS: both ends in one process, and against programs of OpenSSL's. */
#include "http_fixture.h"

#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/http/tls.h>

static char directory[] = "/tmp/bulkhead_tls_XXXXXX";
static char command[2048], path[2][256];

static const char *
file(int i, const char *name)
{
    snprintf(path[i], sizeof path[i], "%s/%s", directory, name);
    return path[i];
}

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void
shell(const char *format, ...)
{
    va_list args;
    int     status;

    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    status = system(command);
    if (status != 0)
        test_failed(__FILE__, __LINE__, "status %d of: %s", status, command);
}

/* NAME.pem and NAME.key, signed by itself or by ca.pem. */
static void
make_certificate(const char *name, const char *names, bool by_ca)
{
    shell(
        "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-keyout %s.key -out %s.pem -subj '/O=Bulkhead/CN=%s' -addext 'subjectAltName=%s' %s "
        "2>log || { cat log; exit 1; }",
        directory, name, name, name, names,
        by_ca ? "-CA ca.pem -CAkey ca.key -addext basicConstraints=CA:FALSE" : "");
}

static void
make_certificates(void)
{
    EXPECT(mkdtemp(directory) != NULL);
    make_certificate("ca", "DNS:ca", false);
    make_certificate("a", "DNS:a.test,IP:127.0.0.1", true);
    make_certificate("b", "DNS:*.b.test", true);
    make_certificate("client", "DNS:client", true);
}

static void
remove_certificates(void)
{
    shell("rm -r %s", directory);
}

static struct bh_tls_config *
server_config(void)
{
    struct bh_tls_config *c = bh_tls_config_new();

    EXPECT_EQ(bh_tls_config_add_certificate(c, file(0, "a.pem"), file(1, "a.key")), 0);
    EXPECT_EQ(bh_tls_config_add_certificate(c, file(0, "b.pem"), file(1, "b.key")), 0);
    bh_tls_config_set_protocols(c, "h2,http/1.1");
    return c;
}

static struct bh_tls_config *
client_config(void)
{
    struct bh_tls_config *c = bh_tls_config_new();

    EXPECT_EQ(bh_tls_config_trust(c, file(0, "ca.pem")), 0);
    return c;
}

/* ---- two ends -------------------------------------------------------------------- */

/* A server that echoes, on the other end of a pair of sockets. */
struct ends {
    struct bh_tls_config *config;
    struct bh_conn       *client, *server;
    struct bh_waitgroup   done;
    int                   error;    /* of the server's handshake or first failed read */
    bool                  abrupt;   /* closes without saying so */
    char                  peer[64]; /* of the client, as the server sees it */
};

static void
echo(void *arg)
{
    struct ends   *e = *(struct ends **)arg;
    struct bh_tls *t = NULL;
    static char    buffer[1 << 18];
    ssize_t        n;

    BH_DEFER(bh_waitgroup_done, &e->done);
    EXPECT_EQ(bh_tls_server(e->config, e->server, &t), 0);
    BH_DEFER(bh_tls_free, t);
    e->error = bh_tls_handshake(t);
    if (e->error < 0)
        return;
    snprintf(e->peer, sizeof e->peer, "%s", bh_tls_peer(t) != NULL ? bh_tls_peer(t) : "nobody");
    if (e->abrupt) {
        EXPECT_EQ(bh_conn_shutdown_write(e->server), 0);
        return;
    }
    while ((n = bh_tls_read(t, buffer, sizeof buffer)) > 0)
        if (bh_tls_write(t, buffer, (size_t)n) < 0)
            break;
    e->error = (int)n;
    (void)bh_tls_shutdown(t);
    EXPECT_EQ(bh_conn_shutdown_write(e->server), 0);
}

static void
connect_ends(struct ends *e)
{
    struct bh_listener *l;
    struct ends        *self = e;

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    EXPECT_EQ(bh_dial(NULL, bh_listener_address(l), &e->client), 0);
    EXPECT_EQ(bh_accept(l, &e->server), 0);
    bh_listener_free(l);
    bh_conn_set_deadline(e->client, bh_now() + 5 * BH_SECOND);
    bh_conn_set_deadline(e->server, bh_now() + 5 * BH_SECOND);
    bh_waitgroup_add(&e->done, 1);
    bh_go(echo, &self);
}

static void
free_ends(struct ends *e)
{
    bh_waitgroup_wait(&e->done);
    bh_conn_free(e->client);
    bh_conn_free(e->server);
}

TEST_REAL(tls, carries_bytes_both_ways_and_ends_cleanly)
{
    struct ends           e = { 0 };
    struct bh_tls_config *config;
    struct bh_tls        *t;
    static char           out[300000], in[300000];

    make_certificates();
    e.config = server_config();
    config = client_config();
    bh_tls_config_set_protocols(config, "http/1.1,h2");
    connect_ends(&e);
    EXPECT_EQ(bh_tls_client(config, e.client, "a.test", &t), 0);
    for (size_t i = 0; i < sizeof out; i++)
        out[i] = (char)(i * 7 >> 3);
    for (size_t size = 1; size <= sizeof out; size = size * 3 + 1) {
        size_t have = 0;

        EXPECT_EQ(bh_tls_write(t, out, size), size);
        while (have < size) {
            ssize_t n = bh_tls_read(t, in + have, sizeof in - have);

            EXPECT(n > 0);
            have += (size_t)n;
        }
        EXPECT_EQ(have, size);
        EXPECT(memcmp(in, out, size) == 0);
    }
    EXPECT_EQ(bh_tls_try_read(t, in, 1), -EAGAIN);
    EXPECT(!bh_tls_pending(t));
    EXPECT_STR(bh_tls_alpn(t), "h2"); /* the server's preference counts */
    EXPECT_STR(bh_tls_version(t), "TLSv1.3");
    EXPECT_STR(bh_tls_peer(t), "CN=a,O=Bulkhead");
    EXPECT(!bh_tls_resumed(t));
    EXPECT_EQ(bh_tls_shutdown(t), 0);
    EXPECT_EQ(bh_tls_read(t, in, 1), 0);
    EXPECT_EQ(bh_tls_read(t, in, 1), 0);
    EXPECT(bh_tls_write(t, "x", 1) < 0);
    free_ends(&e);
    EXPECT_EQ(e.error, 0);
    EXPECT_STR(e.peer, "nobody");
    bh_tls_free(t);
    bh_tls_config_unref(config);
    bh_tls_config_unref(e.config);
    remove_certificates();
}

/* Shake hands with a server of `config`.  Returns: the client's result. */
static int
meet(struct bh_tls_config *config, struct bh_tls_config *client, const char *name,
     int *server_error, char *peer)
{
    struct ends    e = { .config = config };
    struct bh_tls *t;
    char           one;
    int            rc;

    connect_ends(&e);
    EXPECT_EQ(bh_tls_client(client, e.client, name, &t), 0);
    rc = bh_tls_handshake(t);
    if (rc == 0) { /* TLS 1.3 lets a server refuse after the client is content */
        (void)bh_tls_write(t, "x", 1);
        rc = (int)bh_tls_read(t, &one, 1);
        rc = rc == 1 ? 0 : rc;
    }
    if (peer != NULL)
        snprintf(peer, 64, "%s", bh_tls_peer(t) != NULL ? bh_tls_peer(t) : "nobody");
    (void)bh_tls_shutdown(t);
    bh_conn_shutdown_write(e.client);
    free_ends(&e);
    if (server_error != NULL)
        *server_error = e.error;
    bh_tls_free(t);
    return rc;
}

TEST_REAL(tls, a_client_trusts_only_the_right_name_from_the_right_authority)
{
    struct bh_tls_config *server, *client, *naive = bh_tls_config_new();
    char                  peer[64];

    make_certificates();
    server = server_config();
    client = client_config();
    EXPECT_EQ(meet(server, client, "a.test", NULL, peer), 0);
    EXPECT_STR(peer, "CN=a,O=Bulkhead");
    EXPECT_EQ(meet(server, client, "127.0.0.1", NULL, peer), 0);
    EXPECT_EQ(meet(server, client, "x.b.test", NULL, peer), 0); /* by SNI */
    EXPECT_STR(peer, "CN=b,O=Bulkhead");
    EXPECT_EQ(meet(server, client, "y.x.b.test", NULL, NULL), -EPROTO);
    EXPECT_EQ(meet(server, client, "c.test", NULL, NULL), -EPROTO);
    EXPECT_HAS(bh_error_note(), "certificate of the peer: hostname mismatch");
    EXPECT_EQ(meet(server, client, "127.0.0.2", NULL, NULL), -EPROTO);
    EXPECT_EQ(meet(server, naive, "a.test", NULL, NULL),
              -EPROTO); /* the system's authorities */
    EXPECT_EQ(meet(server, NULL, "a.test", NULL, NULL), -EPROTO);
    bh_tls_config_unref(naive);
    naive = bh_tls_config_new();
    bh_tls_config_trust_anybody(naive);
    EXPECT_EQ(meet(server, naive, "c.test", NULL, NULL), 0);
    bh_tls_config_unref(naive);
    bh_tls_config_unref(client);
    bh_tls_config_unref(server);
    remove_certificates();
}

TEST_REAL(tls, clients_are_asked_for_a_certificate_if_wanted)
{
    struct bh_tls_config *with = NULL, *without, *stranger;
    int                   error;

    make_certificates();
    without = client_config();
    with = client_config();
    EXPECT_EQ(bh_tls_config_add_certificate(with, file(0, "client.pem"), file(1, "client.key")),
              0);
    make_certificate("stranger", "DNS:stranger", false);
    stranger = client_config();
    EXPECT_EQ(bh_tls_config_add_certificate(stranger, file(0, "stranger.pem"),
                                            file(1, "stranger.key")),
              0);
    for (enum bh_tls_ask ask = BH_TLS_ASK_NOTHING; ask <= BH_TLS_ASK_REQUIRED; ask++) {
        struct bh_tls_config *server = server_config();

        EXPECT_EQ(bh_tls_config_trust(server, file(0, "ca.pem")), 0);
        bh_tls_config_ask_client(server, ask);
        EXPECT_EQ(meet(server, with, "a.test", &error, NULL), 0);
        EXPECT_EQ(error, 0);
        EXPECT_EQ(meet(server, without, "a.test", &error, NULL) == 0,
                  ask != BH_TLS_ASK_REQUIRED);
        EXPECT_EQ(error, ask != BH_TLS_ASK_REQUIRED ? 0 : -EPROTO);
        EXPECT_EQ(meet(server, stranger, "a.test", &error, NULL) == 0,
                  ask == BH_TLS_ASK_NOTHING);
        bh_tls_config_unref(server);
    }
    bh_tls_config_unref(with);
    bh_tls_config_unref(without);
    bh_tls_config_unref(stranger);
    remove_certificates();
}

TEST_REAL(tls, a_cut_connection_is_no_clean_end)
{
    struct bh_tls_config *server, *client;
    struct bh_tls        *t;
    char                  one;

    make_certificates();
    server = server_config();
    client = client_config();
    for (int abrupt = 0; abrupt < 2; abrupt++) {
        struct ends e = { .config = server, .abrupt = abrupt };

        connect_ends(&e);
        EXPECT_EQ(bh_tls_client(client, e.client, "a.test", &t), 0);
        EXPECT_EQ(bh_tls_handshake(t), 0);
        if (abrupt) {
            EXPECT_EQ(bh_tls_read(t, &one, 1), BH_EEOF);
            EXPECT(bh_tls_read(t, &one, 1) < 0);
        } else {
            EXPECT_EQ(bh_conn_shutdown_write(e.client), 0); /* without close_notify */
        }
        free_ends(&e);
        EXPECT_EQ(e.error, abrupt ? 0 : BH_EEOF);
        bh_tls_free(t);
    }
    bh_tls_config_unref(client);
    bh_tls_config_unref(server);
    remove_certificates();
}

TEST_REAL(tls, a_deadline_ends_a_wait_and_the_session_goes_on)
{
    struct ends           e = { 0 };
    struct bh_tls_config *client;
    struct bh_tls        *t;
    char                  one;

    make_certificates();
    e.config = server_config();
    client = client_config();
    connect_ends(&e);
    EXPECT_EQ(bh_tls_client(client, e.client, "a.test", &t), 0);
    EXPECT_EQ(bh_tls_handshake(t), 0);
    bh_conn_set_read_deadline(e.client, bh_now() + 5 * BH_MILLISECOND);
    EXPECT_EQ(bh_tls_read(t, &one, 1), BH_EDEADLINE);
    EXPECT_EQ(bh_tls_try_read(t, &one, 1), BH_EDEADLINE);
    bh_conn_set_read_deadline(e.client, bh_now() + 5 * BH_SECOND);
    EXPECT_EQ(bh_tls_write(t, "x", 1), 1);
    EXPECT_EQ(bh_tls_read(t, &one, 1), 1);
    EXPECT_EQ(bh_tls_shutdown(t), 0);
    bh_conn_shutdown_write(e.client);
    free_ends(&e);
    bh_tls_free(t);
    bh_tls_config_unref(client);
    bh_tls_config_unref(e.config);
    remove_certificates();
}

TEST_REAL(tls, garbage_and_plain_http_are_errors_that_say_so)
{
    static const struct {
        const char *bytes;
        int         error;
    } rows[] = {
        { "GET / HTTP/1.1\r\n\r\n", -EPROTONOSUPPORT },
        { "\x16\x03\x01\x00\x05hello", -EPROTO },
        { "xxxxxxxxxxxxxxxx", -EPROTO },
        { "\x16\x03", BH_EEOF },
    };

    make_certificates();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct ends e = { .config = server_config() };

        connect_ends(&e);
        EXPECT(bh_write(e.client, rows[i].bytes, i == 1 ? 10 : strlen(rows[i].bytes)) > 0);
        bh_conn_shutdown_write(e.client);
        free_ends(&e);
        EXPECT_EQ(e.error, rows[i].error);
        bh_tls_config_unref(e.config);
    }
    remove_certificates();
}

/* ---- configurations -------------------------------------------------------------- */

TEST_REAL(tls, bad_files_are_refused_and_reloading_keeps_what_was_good)
{
    struct bh_tls_config *c = bh_tls_config_new(), *client;
    struct bh_conn       *none = NULL;
    struct bh_tls        *t;
    char                  peer[64];

    make_certificates();
    EXPECT_EQ(bh_tls_server(c, none, &t), -EINVAL);
    EXPECT_EQ(bh_tls_config_add_certificate(c, file(0, "absent.pem"), file(1, "a.key")),
              -ENOENT);
    EXPECT_HAS(bh_error_note(), "absent.pem");
    EXPECT_EQ(bh_tls_config_add_certificate(c, file(0, "a.key"), file(1, "a.key")), -EINVAL);
    EXPECT_EQ(bh_tls_config_add_certificate(c, file(0, "a.pem"), file(1, "b.key")), -EINVAL);
    EXPECT_EQ(bh_tls_config_trust(c, file(0, "absent.pem")), -ENOENT);
    EXPECT_EQ(bh_tls_config_trust(c, file(0, "a.key")), -EINVAL);
    EXPECT_PANIC("tls: bad list of protocols", bh_tls_config_set_protocols(c, "h2,,x"));

    EXPECT_EQ(bh_tls_config_add_certificate(c, file(0, "a.pem"), file(1, "a.key")), 0);
    client = client_config();
    EXPECT_EQ(meet(c, client, "a.test", NULL, NULL), 0);
    shell("cp %s/b.key %s/a.key", directory, directory);
    EXPECT_EQ(bh_tls_config_reload(c), -EINVAL);
    EXPECT_EQ(meet(c, client, "a.test", NULL, NULL), 0);
    shell("cp %s/b.pem %s/a.pem", directory, directory);
    EXPECT_EQ(bh_tls_config_reload(c), 0);
    EXPECT_EQ(meet(c, client, "z.b.test", NULL, peer), 0);
    EXPECT_STR(peer, "CN=b,O=Bulkhead");
    bh_tls_config_unref(client);
    bh_tls_config_unref(c);
    remove_certificates();
}

/* ---- programs we did not write --------------------------------------------------- */

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "secure %d\n", c->secure);
}

static int
crash(struct bh_http_call *c, void *arg)
{
    (void)c;
    *(volatile int *)arg = 1;
    return 0;
}

static void
start(struct fixture *f, struct bh_tls_config *config)
{
    f->s =
        bh_http_server_new(&(struct bh_http_options){ .head_timeout = 300 * BH_MILLISECOND });
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /", hello, NULL);
    bh_http_handle(f->s, "GET /crash", crash, NULL);
    EXPECT_EQ(bh_http_listen_tls(f->s, "127.0.0.1:0", config), 0);
    f->done = BH_CHAN(int, 1);
    bh_go(fixture_serve, &(struct fixture_serve){ f });
}

static void
run(void *arg)
{
    int status = system(arg);

    if (status != 0)
        test_failed(__FILE__, __LINE__, "status %d of: %s", status, (char *)arg);
}

/* Run a program while the server serves. */
static void
with_server(struct fixture *f, const char *script)
{
    snprintf(command, sizeof command, "cd %s && P=%s && %s", directory,
             strrchr(bh_http_address(f->s), ':') + 1, script);
    bh_blocking(run, command);
}

TEST_REAL(tls, curl_talks_to_a_server_and_a_crash_is_a_500)
{
    struct bh_tls_config *config;
    struct fixture        f;

    make_certificates();
    config = server_config();
    bh_tls_config_set_protocols(config, "http/1.1");
    start(&f, config);
    with_server(&f, "C='curl -sS --http1.1 --cacert ca.pem --max-time 5' "
                    "&& test \"$($C https://127.0.0.1:$P/ https://127.0.0.1:$P/)\" = \"secure "
                    "1\nsecure 1\" "
                    "&& test \"$($C -o /dev/null -w '%{http_code} %{num_connects}' "
                    "https://127.0.0.1:$P/crash)\" = '500 1' "
                    "&& test \"$($C --tls-max 1.2 https://127.0.0.1:$P/)\" = 'secure 1' "
                    "&& ! $C --tls-max 1.1 https://127.0.0.1:$P/ 2>/dev/null");
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_tls_config_unref(config);
    remove_certificates();
}

TEST_REAL(tls, serving_without_a_certificate_or_its_file_is_refused_at_the_start)
{
    struct bh_tls_config *config = bh_tls_config_new();
    struct fixture        f;

    make_certificates();
    start(&f, config);
    EXPECT_EQ(fixture_stop(&f), -EINVAL);
    EXPECT_EQ(bh_tls_config_add_certificate(config, file(0, "a.pem"), file(1, "a.key")), 0);
    shell("rm %s/a.pem", directory);
    start(&f, config);
    EXPECT_EQ(fixture_stop(&f), -ENOENT);
    bh_tls_config_unref(config);
    remove_certificates();
}

TEST_REAL(tls, sessions_are_resumed_also_after_a_reload)
{
    struct bh_tls_config *config;
    struct fixture        f;

    make_certificates();
    config = server_config();
    start(&f, config);
    with_server(
        &f,
        "S='openssl s_client -connect 127.0.0.1:'$P' -CAfile ca.pem' "
        "&& for v in 2 3; do "
        "printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' | "
        "$S -tls1_$v -sess_out s$v -ign_eof >o$v 2>&1; grep -q '^New,' o$v || exit 1; done");
    EXPECT_EQ(bh_tls_config_reload(config), 0);
    with_server(&f, "S='openssl s_client -connect 127.0.0.1:'$P' -CAfile ca.pem' "
                    "&& for v in 2 3; do "
                    "printf 'GET / HTTP/1.1\\r\\nHost: a\\r\\nConnection: close\\r\\n\\r\\n' | "
                    "$S -tls1_$v -sess_in s$v -ign_eof >o$v 2>&1; grep -q '^Reused,' o$v || { "
                    "cat o$v; exit 1; }; "
                    "grep -q 'secure 1' o$v || exit 1; done");
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_tls_config_unref(config);
    remove_certificates();
}

TEST_REAL(tls, a_handshake_that_does_not_come_is_cut_off)
{
    struct bh_tls_config *config;
    struct fixture        f;
    struct bh_conn       *c, *half;

    make_certificates();
    config = server_config();
    start(&f, config);
    c = fixture_dial(&f);
    half = fixture_dial(&f);
    send_text(half, "\x16\x03\x01");
    EXPECT(read_to_end(c, command, sizeof command) <= 0);
    EXPECT(read_to_end(half, command, sizeof command) <= 0);
    bh_conn_free(c);
    bh_conn_free(half);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_tls_config_unref(config);
    remove_certificates();
}

TEST_REAL(tls, plain_http_is_told_what_is_wrong)
{
    struct bh_tls_config *config;
    struct fixture        f;

    make_certificates();
    config = server_config();
    start(&f, config);
    talk(&f, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", command, sizeof command);
    EXPECT_STARTS(command, "HTTP/1.1 400 Bad Request\r\n");
    EXPECT_HAS(command, "https");
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_tls_config_unref(config);
    remove_certificates();
}
