/*
 * secure_test.c -- https: which protocol, which certificates; and servers that no one here wrote:
 * nginx over TLS with both protocols, and Python's in the clear.
 */

#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/go/group.h>
#include <bulkhead/http/client.h>
#include <bulkhead/http/tls.h>

#include "http_fixture.h"

extern char **environ;

static char directory[] = "/tmp/bulkhead_client_XXXXXX";

static void shell(const char *format, ...) __attribute__((format(printf, 1, 2)));

static void
shell(const char *format, ...)
{
    char    command[2048];
    va_list args;
    int     status;

    va_start(args, format);
    vsnprintf(command, sizeof command, format, args);
    va_end(args);
    status = system(command);
    if (status != 0)
        test_failed(__FILE__, __LINE__, "status %d of: %s", status, command);
}

/* A certificate for 127.0.0.1 and localhost, signed by itself. */
static void
make_certificate(void)
{
    EXPECT(mkdtemp(directory) != NULL);
    shell(
        "cd %s && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 "
        "-keyout key.pem -out cert.pem -subj /CN=test "
        "-addext subjectAltName=IP:127.0.0.1,DNS:localhost 2>log || { cat log; exit 1; }",
        directory);
}

static void
remove_directory(void)
{
    shell("rm -r %s", directory);
}

static const char *
file(const char *name)
{
    static char path[2][128];
    static int  i;

    i ^= 1;
    snprintf(path[i], sizeof path[i], "%s/%s", directory, name);
    return path[i];
}

static struct bh_tls_config *
trusting(const char *protocols)
{
    struct bh_tls_config *config = bh_tls_config_new();

    EXPECT_EQ(bh_tls_config_trust(config, file("cert.pem")), 0);
    bh_tls_config_set_protocols(config, protocols);
    return config;
}

/* ---- our own server ----------------------------------------------------------------- */

struct site {
    struct fixture         f;
    struct bh_http_client *c;
    char                   url[100];
};

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%d%s", c->version, c->secure ? " secure" : "");
}

static int
to_plain(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "Location", "http://127.0.0.1:9/");
    return bh_http_reply(c, 302, "x");
}

/* trusts: the server's certificate is one the client knows. */
static void
site_start(struct site *w, const char *theirs, const char *ours, bool trusts)
{
    struct bh_tls_config         *config = bh_tls_config_new();
    struct bh_http_client_options o = { .no_retries = true };

    make_certificate();
    EXPECT_EQ(bh_tls_config_add_certificate(config, file("cert.pem"), file("key.pem")), 0);
    bh_tls_config_set_protocols(config, theirs);
    w->f.s = bh_http_server_new(NULL);
    bh_http_use(w->f.s, bh_http_recover, NULL);
    bh_http_handle(w->f.s, "GET /", hello, NULL);
    bh_http_handle(w->f.s, "GET /plain", to_plain, NULL);
    EXPECT_EQ(bh_http_listen_tls(w->f.s, "127.0.0.1:0", config), 0);
    bh_tls_config_unref(config);
    w->f.done = BH_CHAN(int, 1);
    bh_go(fixture_serve, &(struct fixture_serve){ &w->f });
    snprintf(w->url, sizeof w->url, "https://%s/", bh_http_address(w->f.s));
    o.tls = trusts ? trusting(ours) : NULL;
    w->c = bh_http_client_new(&o);
    bh_tls_config_unref(o.tls);
}

static void
site_stop(struct site *w)
{
    bh_http_client_free(w->c);
    EXPECT_EQ(fixture_stop(&w->f), 0);
    remove_directory();
}

static int
get(struct bh_http_client *c, const char *url, char *body, size_t size)
{
    struct bh_http_res *res;
    const char         *text;
    int                 rc = bh_http_client_get(bh_ctx_background(), c, url, &res);

    if (rc < 0)
        return rc;
    rc = (int)bh_http_res_body(res, 1 << 20, &text);
    if (rc >= 0 && body != NULL)
        snprintf(body, size, "%s", text);
    rc = rc < 0 ? rc : res->status;
    bh_http_res_close(res);
    return rc;
}

static void
expect_protocol(const char *theirs, const char *ours, const char *answer)
{
    struct bh_http_client_stats st;
    struct site                 w;
    char                        body[64];

    site_start(&w, theirs, ours, true);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(get(w.c, w.url, body, sizeof body), 200);
        EXPECT_STR(body, answer);
    }
    bh_http_client_stats(w.c, &st);
    EXPECT_EQ(st.dials, 1);
    site_stop(&w);
}

TEST_REAL(secure, http2_if_both_can)
{
    expect_protocol("h2,http/1.1", "h2,http/1.1", "20 secure");
}

TEST_REAL(secure, else_http1)
{
    expect_protocol("http/1.1", "h2,http/1.1", "11 secure");
}

TEST_REAL(secure, http1_without_any_offer)
{
    expect_protocol("h2,http/1.1", NULL, "11 secure");
}

TEST_REAL(secure, strangers_are_not_trusted)
{
    struct site w;

    site_start(&w, "h2", NULL, false);
    EXPECT_EQ(get(w.c, w.url, NULL, 0), -EPROTO);
    EXPECT_HAS(bh_error_note(), "https://127.0.0.1: tls: certificate of the peer: self");
    site_stop(&w);
}

TEST_REAL(secure, a_certificate_for_somebody_else_is_not_trusted)
{
    struct bh_http_client_options o = { .no_retries = true };
    struct bh_http_client        *c;
    struct site                   w;
    char                          body[64];

    site_start(&w, "h2,http/1.1", NULL, true);
    o.tls = trusting("h2,http/1.1");
    o.connect_to = bh_http_address(w.f.s);
    c = bh_http_client_new(&o);
    EXPECT_EQ(get(c, "https://localhost/", body, sizeof body), 200);
    EXPECT_EQ(get(c, "https://localhost./", body, sizeof body), 200);
    EXPECT_EQ(get(c, "https://example.com/", body, sizeof body), -EPROTO);
    bh_http_client_free(c);
    bh_tls_config_unref(o.tls);
    site_stop(&w);
}

TEST_REAL(secure, no_way_leads_from_https_to_http)
{
    struct site w;
    char        url[120];

    site_start(&w, "h2", "h2", true);
    snprintf(url, sizeof url, "%splain", w.url);
    EXPECT_EQ(get(w.c, url, NULL, 0), -EPERM);
    site_stop(&w);
}

struct many {
    struct site *w;
    int          count;
};

static int
get_many(struct bh_ctx *ctx, void *arg)
{
    struct many *m = arg;
    char         body[64];

    (void)ctx;
    for (int i = 0; i < m->count; i++) {
        EXPECT_EQ(get(m->w->c, m->w->url, body, sizeof body), 200);
        EXPECT_STR(body, "20 secure");
    }
    return 0;
}

TEST_REAL(secure, many_at_once_share_one_connection)
{
    struct bh_http_client_stats st;
    struct bh_group             g;
    struct site                 w;

    site_start(&w, "h2", "h2", true);
    bh_group_init(&g, bh_ctx_background());
    for (int i = 0; i < 300; i++) /* more than the server lets run at a time */
        bh_group_go(&g, get_many, &(struct many){ &w, 5 });
    EXPECT_EQ(bh_group_wait(&g), 0);
    bh_http_client_stats(w.c, &st);
    EXPECT_EQ(st.dials, 1);
    EXPECT_EQ(st.sent, 1500);
    site_stop(&w);
}

/* ---- servers of others ---------------------------------------------------------------- */

static pid_t
start(const char *const *command)
{
    pid_t pid;
    int   rc =
        posix_spawnp(&pid, command[0], NULL, NULL, (char *const *)(uintptr_t)command, environ);

    if (rc != 0)
        test_failed(__FILE__, __LINE__, "cannot start %s: %s", command[0], strerror(rc));
    return pid;
}

static void
stop(pid_t pid)
{
    int status;

    (void)kill(pid, SIGTERM);
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        continue;
}

/* A port that was free a moment ago. */
static int
free_port(void)
{
    struct bh_listener *l;
    int                 port;

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    port = atoi(strrchr(bh_listener_address(l), ':') + 1);
    bh_listener_free(l);
    return port;
}

static void
write_file(const char *name, const char *text, size_t size)
{
    FILE *f = fopen(file(name), "w");

    EXPECT(f != NULL);
    EXPECT_EQ(fwrite(text, 1, size, f), size);
    EXPECT_EQ(fclose(f), 0);
}

static void
write_nginx_conf(int port)
{
    char text[2000];
    int  n =
        snprintf(text, sizeof text,
                 "daemon off; worker_processes 1; pid %s/pid; error_log %s/error.log;\n"
                 "events { worker_connections 100; }\n"
                 "http { access_log off; client_body_temp_path %s/t1; proxy_temp_path %s/t2;\n"
                 "fastcgi_temp_path %s/t3; uwsgi_temp_path %s/t4; scgi_temp_path %s/t5;\n"
                 "gzip on; gzip_min_length 1; client_max_body_size 1k;\n"
                 "server { listen 127.0.0.1:%d ssl http2; root %s;\n"
                 "ssl_certificate %s/cert.pem; ssl_certificate_key %s/key.pem; } }\n",
                 directory, directory, directory, directory, directory, directory, directory,
                 port, directory, directory, directory);

    write_file("nginx.conf", text, (size_t)n);
}

/* Ask until the server is up: it tells nobody when it is. */
static int
get_when_up(struct bh_http_client *c, const char *url, char *body, size_t size)
{
    int rc;

    do
        rc = get(c, url, body, size);
    while (rc == -ECONNREFUSED && (bh_sleep(5 * BH_MILLISECOND), true));
    return rc;
}

static void
expect_nginx(const char *protocols)
{
    static char                   big[300000];
    static char                   text[sizeof big + 1];
    struct bh_http_client_options o = { .no_retries = true };
    struct bh_http_client        *c;
    struct bh_http_res           *res;
    char                          url[100];
    int                           port = free_port();
    pid_t                         pid;

    make_certificate();
    write_nginx_conf(port);
    EXPECT_EQ(chmod(directory, 0755), 0); /* its workers are somebody else */
    memset(big, 'x', sizeof big);
    write_file("hello", "hello", 5);
    write_file("big", big, sizeof big);
    pid = start((const char *[]){ "/usr/sbin/nginx", "-c", file("nginx.conf"), NULL });
    o.tls = trusting(protocols);
    c = bh_http_client_new(&o);
    snprintf(url, sizeof url, "https://127.0.0.1:%d/hello", port);
    EXPECT_EQ(get_when_up(c, url, text, sizeof text), 200);
    EXPECT_STR(text, "hello");
    snprintf(url, sizeof url, "https://127.0.0.1:%d/big", port);
    EXPECT_EQ(get(c, url, text, sizeof text), 200);
    EXPECT_EQ(strspn(text, "x"), sizeof big);
    /* nginx answers before it has read, and breaks the body off */
    EXPECT_EQ(
        bh_http_client_post(bh_ctx_background(), c, url, "text/plain", big, sizeof big, &res),
        0);
    EXPECT_EQ(res->status, 413);
    EXPECT_EQ(res->version, strcmp(protocols, "h2") == 0 ? 20 : 11);
    bh_http_res_close(res);
    snprintf(url, sizeof url, "https://127.0.0.1:%d/none", port);
    EXPECT_EQ(get(c, url, text, sizeof text), 404);
    bh_http_client_free(c);
    bh_tls_config_unref(o.tls);
    stop(pid);
    remove_directory();
}

TEST_REAL(secure, nginx_answers_over_http2)
{
    expect_nginx("h2");
}

TEST_REAL(secure, nginx_answers_over_http1)
{
    expect_nginx("http/1.1");
}

static void
expect_python(const char *protocol)
{
    struct bh_http_client_options o = { .no_retries = true };
    struct bh_http_client        *c = bh_http_client_new(&o);
    char                          url[100], text[100], port[10];
    pid_t                         pid;

    EXPECT(mkdtemp(directory) != NULL);
    write_file("hello", "hello", 5);
    snprintf(port, sizeof port, "%d", free_port());
    pid = start((const char *[]){
        "python3", "-c",
        "import http.server, sys, os\n"
        "os.chdir(sys.argv[3]); sys.stderr = open(os.devnull, 'w')\n"
        "h = http.server.SimpleHTTPRequestHandler\n"
        "h.protocol_version = sys.argv[2]\n"
        "http.server.HTTPServer(('127.0.0.1', int(sys.argv[1])), h).serve_forever()",
        port, protocol, directory, NULL });
    snprintf(url, sizeof url, "http://127.0.0.1:%s/hello", port);
    EXPECT_EQ(get_when_up(c, url, text, sizeof text), 200);
    EXPECT_STR(text, "hello");
    EXPECT_EQ(get(c, url, text, sizeof text), 200);
    snprintf(url, sizeof url, "http://127.0.0.1:%s/none", port);
    EXPECT_EQ(get(c, url, text, sizeof text), 404);
    bh_http_client_free(c);
    stop(pid);
    remove_directory();
}

TEST_REAL(secure, python_answers_in_http_1_0_and_1_1)
{
    expect_python("HTTP/1.0");
    strcpy(directory + strlen(directory) - 6, "XXXXXX");
    expect_python("HTTP/1.1");
}
