/*
 * http.c -- the server of bench/http on h2o's library: http PORT [TLSPORT CERTIFICATE KEY]
 *
 * The library rather than the program, whose cheapest handler reads a file.
 */

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define H2O_USE_EPOLL 1
#include <h2o.h>
#include <h2o/http1.h>
#include <h2o/http2.h>

static h2o_globalconf_t config;
static h2o_context_t    context;
static h2o_accept_ctx_t accepting, accepting_tls;

static int
reply(h2o_req_t *req, h2o_iovec_t body, const char *type)
{
    static h2o_generator_t generator;

    req->res.status = 200;
    req->res.reason = "OK";
    req->res.content_length = body.len;
    h2o_add_header(&req->pool, &req->res.headers, H2O_TOKEN_CONTENT_TYPE, NULL, type,
                   strlen(type));
    h2o_start_response(req, &generator);
    h2o_send(req, &body, 1, 1);
    return 0;
}

static int
hello(h2o_handler_t *self, h2o_req_t *req)
{
    (void)self;
    return reply(req, (h2o_iovec_t){ "Hello, World!", 13 }, "text/plain");
}

/* The body as it came: nothing is parsed. */
static int
echo(h2o_handler_t *self, h2o_req_t *req)
{
    (void)self;
    return reply(req, req->entity, "application/json");
}

static void
on_accept(h2o_socket_t *listener, const char *error)
{
    h2o_socket_t *socket;

    if (error == NULL && (socket = h2o_evloop_socket_accept(listener)) != NULL)
        h2o_accept(listener->data, socket);
}

static void
setup_tls(const char *certificate, const char *key)
{
    accepting_tls = accepting;
    accepting_tls.ssl_ctx = SSL_CTX_new(TLS_server_method());
    SSL_CTX_set_min_proto_version(accepting_tls.ssl_ctx, TLS1_2_VERSION);
    if (SSL_CTX_use_certificate_chain_file(accepting_tls.ssl_ctx, certificate) != 1 ||
        SSL_CTX_use_PrivateKey_file(accepting_tls.ssl_ctx, key, SSL_FILETYPE_PEM) != 1)
        exit(1);
    h2o_ssl_register_alpn_protocols(accepting_tls.ssl_ctx, h2o_http2_alpn_protocols);
}

static int
listen_on(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int                fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&a, sizeof a) < 0 || listen(fd, 4096) < 0) {
        perror("h2o");
        exit(1);
    }
    return fd;
}

static void
accept_on(const char *port, h2o_accept_ctx_t *with)
{
    h2o_socket_t *listener = h2o_evloop_socket_create(
        context.loop, listen_on((int)strtol(port, NULL, 10)), H2O_SOCKET_FLAG_DONT_READ);

    listener->data = with;
    h2o_socket_read_start(listener, on_accept);
}

int
main(int argc, char **argv)
{
    h2o_hostconf_t *host;
    h2o_handler_t  *handler;

    signal(SIGPIPE, SIG_IGN);
    h2o_config_init(&config);
    config.http1.req_timeout = 600 * 1000; /* also of idle connections */
    host = h2o_config_register_host(&config, h2o_iovec_init("default", 7), 65535);
    handler = h2o_create_handler(h2o_config_register_path(host, "/hello", 0), sizeof *handler);
    handler->on_req = hello;
    handler = h2o_create_handler(h2o_config_register_path(host, "/echo", 0), sizeof *handler);
    handler->on_req = echo;
    h2o_context_init(&context, h2o_evloop_create(), &config);
    accepting.ctx = &context;
    accepting.hosts = config.hosts;
    accept_on(argc > 1 ? argv[1] : "8080", &accepting);
    if (argc > 4) {
        setup_tls(argv[3], argv[4]);
        accept_on(argv[2], &accepting_tls);
    }
    while (h2o_evloop_run(context.loop, INT32_MAX) == 0)
        continue;
    return 0;
}
