/*
 * main.c -- the crash lab: a server whose requests crash and which goes on, and a page that
 * shows how: /debug/bulkhead.
 *
 *     crashlab [-p port] [-l address] [-r directory] [-q]
 *
 *     -p port       on 127.0.0.1; default 8080
 *     -l address    listen there instead: "unix:/path", "[::1]:80", ...
 *     -r directory  keep reports of panics there, and have a process of its own report crashes
 *     -q            no access log
 */

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/http.h>
#include <bulkhead/http/server.h>
#include <bulkhead/observe/observe.h>

#include "lab.h"

struct settings {
    char        address[64];
    const char *port, *reports;
    bool        quiet;
    int         status;

    struct bh_observe_server_options observed;
};

static int
healthz(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "ok\n");
}

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "hello, %s\n", bh_http_param(c, "name"));
}

static int
echo(struct bh_http_call *c, void *arg)
{
    const char *body;
    ssize_t     size = bh_http_body(c, &body);
    const char *type = bh_http_header(c, "Content-Type");

    (void)arg;
    if (size < 0)
        return (int)size;
    return bh_http_reply_bytes(c, 200, type != NULL ? type : "application/octet-stream", body,
                               (size_t)size);
}

static void
complain(const struct settings *o, int rc)
{
    if (rc == -EADDRINUSE && o->port != NULL)
        fprintf(stderr, "crashlab: port %s is taken; choose another: make run PORT=%d\n",
                o->port, (int)strtol(o->port, NULL, 10) + 1);
    else
        fprintf(stderr, "crashlab: %s: %s (%s)\n", o->address, bh_error_text(rc),
                bh_error_note());
}

static void
serve(void *args)
{
    struct settings       *o = args;
    struct bh_http_server *s = bh_http_server_new(NULL);
    int                    rc;

    BH_DEFER(bh_http_server_free, s);
    bh_observe_requests(s, &o->observed);
    if (!o->quiet)
        bh_http_observe(s, bh_http_access_log, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    bh_observe_pages(s, &o->observed);
    bh_http_handle(s, "GET /healthz", healthz, NULL);
    bh_http_handle(s, "GET /hello/{name}", hello, NULL);
    bh_http_handle(s, "POST /echo", echo, NULL);
    lab_routes(s);

    rc = bh_http_listen(s, o->address);
    if (rc == 0) {
        printf("crash lab: http://%s/   (stop with Ctrl-C)\n", bh_http_address(s));
        fflush(stdout);
        rc = bh_http_serve_until_signal(s);
    }
    if (rc < 0)
        complain(o, rc);
    o->status = rc < 0;
}

int
main(int argc, char **argv)
{
    struct settings o = { .port = "8080", .observed = { .no_requests = true } };
    int             option;

    while ((option = getopt(argc, argv, "p:l:r:q")) != -1) {
        switch (option) {
        case 'p':
            o.port = optarg;
            break;
        case 'l':
            o.port = NULL;
            (void)snprintf(o.address, sizeof o.address, "%s", optarg);
            break;
        case 'r':
            o.reports = o.observed.debug.reports = optarg;
            break;
        case 'q':
            o.quiet = true;
            break;
        default:
            fprintf(stderr, "usage: crashlab [-p port] [-l address] [-r directory] [-q]\n");
            return 2;
        }
    }
    if (o.port != NULL)
        (void)snprintf(o.address, sizeof o.address, "127.0.0.1:%s", o.port);
    if (bh_observe_start(&(struct bh_observe_options){
            .service = "crashlab", .reports = o.reports, .monitor = true, .no_log = true }) < 0)
        fprintf(stderr, "crashlab: not all is observed: %s\n", bh_error_note());
    bh_main(serve, &o);
    (void)bh_observe_stop(2 * BH_SECOND);
    return o.status;
}
