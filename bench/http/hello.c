/*
 * hello.c -- our server, for bench/http/run.sh.
 *
 *     hello plain|full ADDRESS [DIRECTORY [TLS_ADDRESS CERTIFICATE KEY]]
 *
 * plain: router, parser, recovery.  full: also an access log (to /dev/null), a
 * request id in the reply, counters, and a timeout.  Every reply is
 * "Hello, World!", as in the peers; or, at /static/, a file of the directory.
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/files.h>
#include <bulkhead/http/json.h>
#include <bulkhead/http/limits.h>
#include <bulkhead/http/monitor.h>
#include <bulkhead/http/server.h>
#include <bulkhead/http/tls.h>

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply_bytes(c, 200, "text/plain", "Hello, World!", 13);
}

/* Parsed into a tree, and built anew from it. */
static int
echo(struct bh_http_call *c, void *arg)
{
    const struct bh_json *value;
    int                   rc = bh_http_json(c, &value);

    (void)arg;
    return rc < 0 ? rc : bh_http_reply_value(c, 200, value);
}

struct arguments {
    bool        full;
    const char *address, *directory, *tls_address, *certificate, *key;
    int         status;
};

static int
listen_tls(struct bh_http_server *s, const struct arguments *a)
{
    struct bh_tls_config *config = bh_tls_config_new();
    int                   rc;

    BH_DEFER(bh_tls_config_unref, config);
    bh_tls_config_set_protocols(config, "h2,http/1.1");
    rc = bh_tls_config_add_certificate(config, a->certificate, a->key);
    return rc < 0 ? rc : bh_http_listen_tls(s, a->tls_address, config);
}

static int
add_files(struct bh_http_server *s, const char *directory, struct bh_http_files **files)
{
    int rc = 0;

    if (directory != NULL) {
        rc = bh_http_files_new(&(struct bh_http_files_options){ .root = directory }, files);
        bh_http_handle(s, "GET /static/{path...}", bh_http_files, *files);
    }
    return rc;
}

static int
serve(const struct arguments *a)
{
    static struct bh_http_timeout_options timeout = { .after = 30 * BH_SECOND };
    static struct bh_http_counters        counters;
    static int                            log_fd;
    const struct bh_http_options          o = {
                 .max_connections = 20000,
                 .idle_timeout = 600 * BH_SECOND,
    };
    struct bh_http_server *s = bh_http_server_new(&o);
    struct bh_http_files  *files = NULL;
    int                    rc;

    BH_DEFER(bh_http_server_free, s);
    if (a->full) {
        log_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
        bh_http_observe(s, bh_http_access_log, &log_fd);
        bh_http_observe(s, bh_http_identify, NULL);
        bh_http_observe(s, bh_http_count, &counters);
    }
    bh_http_use(s, bh_http_recover, NULL);
    if (a->full)
        bh_http_use(s, bh_http_timeout, &timeout);
    bh_http_handle(s, "GET /hello", hello, NULL);
    bh_http_handle(s, "POST /echo", echo, NULL);
    bh_http_handle(s, "GET /users/{id}", hello, NULL);
    rc = add_files(s, a->directory, &files);
    if (rc == 0)
        rc = bh_http_listen(s, a->address);
    if (rc == 0 && a->tls_address != NULL)
        rc = listen_tls(s, a);
    if (rc == 0)
        rc = bh_http_serve_until_signal(s);
    if (rc < 0)
        fprintf(stderr, "hello: %s\n", bh_error_note());
    bh_http_files_free(files);
    return rc < 0;
}

static void
app(void *args)
{
    struct arguments *a = args;

    a->status = serve(a);
}

int
main(int argc, char **argv)
{
    struct arguments a = { .status = 1 };

    if (argc != 3 && argc != 4 && argc != 7) {
        fprintf(stderr, "usage: hello plain|full ADDRESS [DIRECTORY "
                        "[TLS_ADDRESS CERTIFICATE KEY]]\n");
        return 2;
    }
    a.full = strcmp(argv[1], "full") == 0;
    a.address = argv[2];
    a.directory = argv[3]; /* or NULL */
    if (argc == 7) {
        a.tls_address = argv[4];
        a.certificate = argv[5];
        a.key = argv[6];
    }
    (void)bh_main(app, &a);
    return a.status;
}
