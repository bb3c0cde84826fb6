/*
 * observe_server.c -- a hello that is observed more or less, for observe_request.sh.
 *
 *     observe_server MODE PORT COLLECTOR
 *
 * MODE: plain, nobody looks; never, tenth, always: everything is on, and so much is sampled; logged: as
 * never, with a line in the log for each request; sink: a collector that takes everything.
 */

#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/http.h>
#include <bulkhead/http/server.h>
#include <bulkhead/observe/observe.h>

struct settings {
    const char *mode;
    char        address[64];
    int         status;
};

static int
hello(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply_bytes(c, 200, "text/plain", "Hello, World!", 13);
}

static int
swallow(struct bh_http_call *c, void *arg)
{
    const char *body;
    ssize_t     size = bh_http_body(c, &body);

    (void)arg;
    return size < 0 ? (int)size : bh_http_reply_bytes(c, 200, "application/x-protobuf", "", 0);
}

static void
serve(void *args)
{
    static const struct bh_observe_server_options unlogged = { .no_requests = true };
    struct settings                              *o = args;
    struct bh_http_server                        *s = bh_http_server_new(
                               &(struct bh_http_options){ .max_body = 16 << 20, .max_memory = 32 << 20 });
    int rc;

    if (strcmp(o->mode, "plain") != 0 && strcmp(o->mode, "sink") != 0)
        bh_observe_requests(s, strcmp(o->mode, "logged") == 0 ? NULL : &unlogged);
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /hello", hello, NULL);
    bh_http_handle(s, "POST /v1/{signal}", swallow, NULL);
    rc = bh_http_listen(s, o->address);
    if (rc == 0)
        rc = bh_http_serve_until_signal(s);
    if (rc < 0)
        fprintf(stderr, "observe_server: %s (%s)\n", bh_error_text(rc), bh_error_note());
    o->status = rc < 0;
    bh_http_server_free(s);
}

int
main(int argc, char **argv)
{
    struct settings   o = { .status = 1 };
    struct bh_sampler sampler = { .how = BH_SAMPLE_NEVER };

    if (argc != 4) {
        fprintf(stderr,
                "usage: observe_server plain|never|tenth|always|logged|sink PORT COLLECTOR\n");
        return 2;
    }
    o.mode = argv[1];
    (void)snprintf(o.address, sizeof o.address, "127.0.0.1:%s", argv[2]);
    if (strcmp(o.mode, "tenth") == 0)
        sampler = (struct bh_sampler){ .how = BH_SAMPLE_RATIO, .ratio = 0.1 };
    else if (strcmp(o.mode, "always") == 0)
        sampler.how = BH_SAMPLE_ALWAYS;
    if (strcmp(o.mode, "plain") != 0 && strcmp(o.mode, "sink") != 0 &&
        bh_observe_start(&(struct bh_observe_options){
            .collector = argv[3],
            .sampler = &sampler,
            .log = { .fd = open("/dev/null", O_WRONLY | O_CLOEXEC) } }) < 0)
        fprintf(stderr, "observe_server: %s\n", bh_error_note());
    (void)bh_main(serve, &o);
    (void)bh_observe_stop(BH_SECOND);
    return o.status;
}
