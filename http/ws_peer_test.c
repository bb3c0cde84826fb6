/*
 * ws_peer_test.c -- WebSockets with peers that no one here wrote: Node's ws and Python's websockets,
 * each as client of our server and as server of our client.
 */
#include "http_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/http/tls.h>
#include <bulkhead/http/ws.h>

static const struct bh_ws_options options = {
    .deflate = true,
    .protocols = (const char *const[]){ "chat.v2", "chat.v1", NULL },
};

static int
echo(struct bh_http_call *c, void *arg)
{
    struct bh_ws_message m;
    struct bh_ws        *ws;
    int                  rc = bh_ws_accept(c, &options, &ws);

    (void)arg;
    if (rc < 0)
        return rc;
    while (bh_ws_read(ws, &m) == 0)
        (void)bh_ws_write(ws, m.kind, m.data, m.size);
    return 0;
}

static char command[512];

static void
run(void *arg)
{
    int status = system(arg);

    if (status != 0)
        test_failed(__FILE__, __LINE__, "status %d of: %s", status, (char *)arg);
}

static void
serve_to(const char *client)
{
    struct fixture f = { .s = bh_http_server_new(NULL) };

    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /echo", echo, NULL);
    fixture_start(&f);
    snprintf(command, sizeof command, "%s ws://%s/echo", client, bh_http_address(f.s));
    bh_blocking(run, command);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(ws_peer, nodes_client_gets_its_echoes)
{
    serve_to("NODE_PATH=/usr/share/nodejs node test/ws/client.js");
}

TEST_REAL(ws_peer, pythons_client_gets_its_echoes)
{
    serve_to("/usr/bin/python3 test/ws/client.py");
}

TEST_REAL(ws_peer, all_of_it_works_through_tls)
{
    static char           directory[] = "/tmp/bulkhead_ws_XXXXXX";
    char                  certificate[64], key[64], url[64];
    struct bh_tls_config *server = bh_tls_config_new(), *client = bh_tls_config_new();
    struct fixture        f = { .s = bh_http_server_new(NULL) };
    struct bh_ws_message  m;
    struct bh_ws         *ws = NULL;

    EXPECT(mkdtemp(directory) != NULL);
    snprintf(certificate, sizeof certificate, "%s/a.pem", directory);
    snprintf(key, sizeof key, "%s/a.key", directory);
    snprintf(command, sizeof command,
             "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
             "-keyout %s -out %s -subj /CN=a -addext subjectAltName=IP:127.0.0.1 2>/dev/null",
             key, certificate);
    bh_blocking(run, command);
    EXPECT_EQ(bh_tls_config_add_certificate(server, certificate, key), 0);
    EXPECT_EQ(bh_tls_config_trust(client, certificate), 0);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /echo", echo, NULL);
    EXPECT_EQ(bh_http_listen_tls(f.s, "127.0.0.1:0", server), 0);
    fixture_start(&f);

    snprintf(url, sizeof url, "wss://%s/echo", bh_http_address(f.s));
    struct bh_ws_options o = { .tls = client, .deflate = true };
    EXPECT_EQ(bh_ws_dial(bh_ctx_background(), url, &o, &ws), 0);
    for (int i = 0; i < 100; i++) {
        EXPECT_EQ(bh_ws_print(ws, "%*d", i * i * i / 10, i), 0);
        EXPECT_EQ(bh_ws_read(ws, &m), 0);
        EXPECT_EQ(strtol(m.data, NULL, 10), i);
    }
    bh_ws_free(ws);
    EXPECT_EQ(bh_ws_dial(bh_ctx_background(), url, NULL, &ws), -EPROTO); /* not trusted */

    snprintf(command, sizeof command,
             "SSL_CERT_FILE=%s /usr/bin/python3 test/ws/client.py %s && "
             "NODE_EXTRA_CA_CERTS=%s NODE_PATH=/usr/share/nodejs node test/ws/client.js %s; "
             "status=$?; rm -r %s; exit $status",
             certificate, url, certificate, url, directory);
    bh_blocking(run, command);
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_tls_config_unref(server);
    bh_tls_config_unref(client);
}

/* ---- our client ------------------------------------------------------------------ */

struct child {
    pid_t           pid;
    struct bh_conn *in; /* it ends when this does */
    char            port[16];
};

static void
start_server(struct child *c, const char *shell)
{
    int     in[2], out[2];
    size_t  used = 0;
    ssize_t n;

    EXPECT_EQ(pipe2(in, O_CLOEXEC), 0);
    EXPECT_EQ(pipe2(out, O_CLOEXEC), 0);
    c->pid = fork();
    if (c->pid == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execl("/bin/sh", "sh", "-c", shell, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    EXPECT_EQ(bh_conn_new(in[1], &c->in), 0);
    struct bh_conn *says = NULL;
    EXPECT_EQ(bh_conn_new(out[0], &says), 0);
    bh_conn_set_deadline(says, bh_now() + 8 * BH_SECOND);
    do {
        n = bh_read(says, c->port + used, sizeof c->port - 1 - used);
        EXPECT(n > 0);
        used += (size_t)n;
    } while (c->port[used - 1] != '\n');
    c->port[used - 1] = '\0';
    bh_conn_free(says);
}

static void
wait_for(void *arg)
{
    int status;

    EXPECT_EQ(waitpid(*(pid_t *)arg, &status, 0), *(pid_t *)arg);
}

static struct bh_ws *
dial(const struct child *c, const struct bh_ws_options *o)
{
    struct bh_ws *ws = NULL;
    char          url[64];

    snprintf(url, sizeof url, "ws://127.0.0.1:%s/", c->port);
    if (bh_ws_dial(bh_ctx_background(), url, o, &ws) != 0)
        test_failed(__FILE__, __LINE__, "%s", bh_error_note());
    bh_ws_set_read_deadline(ws, bh_now() + 5 * BH_SECOND);
    return ws;
}

static void
talk_with(const struct child *c, const struct bh_ws_options *o)
{
    static char          data[200000];
    struct bh_ws        *ws = dial(c, o);
    struct bh_ws_message m;

    EXPECT_STR(bh_ws_protocol(ws), "echo");
    EXPECT_EQ(bh_ws_compresses(ws), o->deflate);
    for (size_t size = 0; size < sizeof data; size = size * 3 + 1) {
        memset(data, 'a' + (int)(size % 26), size);
        EXPECT_EQ(bh_ws_write(ws, size % 2 ? BH_WS_TEXT : BH_WS_BINARY, data, size), 0);
        EXPECT_EQ(bh_ws_read(ws, &m), 0);
        EXPECT_EQ(m.size, size);
        EXPECT_EQ(m.kind, size % 2 ? BH_WS_TEXT : BH_WS_BINARY);
        EXPECT_EQ(memcmp(m.data, data, size), 0);
    }
    EXPECT_EQ(bh_ws_start(ws, BH_WS_TEXT), 0);
    EXPECT_EQ(bh_ws_add(ws, "in ", 3), 0);
    EXPECT_EQ(bh_ws_add(ws, "two", 3), 0);
    EXPECT_EQ(bh_ws_finish(ws), 0);
    EXPECT_EQ(bh_ws_read(ws, &m), 0);
    EXPECT_STR(m.data, "in two");
    EXPECT_EQ(bh_ws_close(ws, 1000, "done"), 0);
    EXPECT_EQ(bh_ws_close_code(ws), 1000);
    bh_ws_free(ws);
}

static void
dial_to(const char *server)
{
    static const char *const    protocols[] = { "other", "echo", NULL };
    static struct bh_ws_options kinds[] = {
        { .protocols = protocols },
        { .protocols = protocols, .deflate = true },
        { .protocols = protocols, .deflate = true, .no_takeover = true },
        { .protocols = protocols, .deflate = true, .window_bits = 10 },
    };
    struct bh_ws_message m;
    struct child         c;

    start_server(&c, server);
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        talk_with(&c, &kinds[i]);

    struct bh_ws *ws = dial(&c, NULL);
    EXPECT_EQ(bh_ws_print(ws, "close"), 0);
    EXPECT_EQ(bh_ws_read(ws, &m), BH_EEOF);
    EXPECT_EQ(bh_ws_close_code(ws), 4321);
    EXPECT_STR(bh_ws_close_reason(ws), "as you wish");
    bh_ws_free(ws);
    ws = dial(&c, NULL);
    EXPECT_EQ(bh_ws_print(ws, "drop"), 0);
    EXPECT_EQ(bh_ws_read(ws, &m), -ECONNRESET);
    EXPECT_EQ(bh_ws_close_code(ws), 1006);
    bh_ws_free(ws);
    bh_conn_free(c.in);
    bh_blocking(wait_for, &c.pid);
}

TEST_REAL(ws_peer, nodes_server_answers_our_client)
{
    dial_to("NODE_PATH=/usr/share/nodejs exec node test/ws/server.js");
}

TEST_REAL(ws_peer, pythons_server_answers_our_client)
{
    dial_to("exec /usr/bin/python3 test/ws/server.py");
}
