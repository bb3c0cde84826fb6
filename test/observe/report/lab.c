/*
 * lab.c -- panics of every kind, for test.py to look at the reports.
 *
 *     lab DIRECTORY WHAT [raw | profiles]
 *
 * WHAT: contained, recovered, repanic, nested, fault, request, storm; and ends of the process:
 * fatal (an uncaught panic), suppressed (one after many like it), invariant (bh_fatal),
 * wild (a fault that is no panic), none.
 */

#include <stdio.h>
#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/flight.h>
#include <bulkhead/go/hooks.h>
#include <bulkhead/go/safe.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/client.h>
#include <bulkhead/http/server.h>
#include <bulkhead/observe/report.h>

#define NOT_INLINED __attribute__((noinline))

static volatile int sink;

NOT_INLINED static void
cook(int order)
{
    if (order >= 0)
        bh_panic("no such dish: %d", order);
    sink = order;
}

NOT_INLINED static void
serve(int order)
{
    cook(order);
    sink = order;
}

static int
guarded(void (*fn)(int), int n)
{
    BH_RECOVER(p) {
        (void)p;
        return BH_EPANIC;
    }
    fn(n);
    return 0;
}

static void
tell(struct bh_chan *done)
{
    bh_send(done, &(int){ 1 });
}

struct job {
    struct bh_chan *done;
};

static void
work(struct bh_ctx *ctx, void *args)
{
    static const struct bh_tag tag = { .trace_id = { 1, 2, 3 },
                                       .span_id = { 4 },
                                       .sampled = 1,
                                       .route = "/dish/{n}",
                                       .method = "GET" };

    (void)ctx;
    bh_set_label("table", "7");
    bh_tag_set(&tag);
    BH_DEFER(tell, ((struct job *)args)->done);
    serve(1);
}

static void
contained(void)
{
    struct bh_chan *done = BH_CHAN(int, 1);

    bh_go_safe(bh_ctx_background(), "waiter", work, &(struct job){ done });
    bh_recv(done, NULL);
    bh_chan_unref(done);
    while (bh_goroutine_count() > 1)
        bh_yield();
}

static void
again(int n)
{
    BH_RECOVER(p) {
        bh_repanic(p);
    }
    serve(n);
}

static void
panic_more(int n)
{
    bh_panic("spilt the soup of %d", n);
}

static void
nested(int n)
{
    BH_DEFER(panic_more, n);
    serve(n);
}

NOT_INLINED static void
fault(int n)
{
    sink = *(volatile int *)(uintptr_t)(unsigned)n;
}

static int
order_dish(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    serve(6);
    return 0;
}

struct kitchen {
    struct bh_http_server *server;
    struct bh_chan        *closed;
};

static void
open_kitchen(void *args)
{
    struct kitchen *k = args;

    (void)bh_http_serve(bh_ctx_background(), k->server);
    bh_send(k->closed, &(int){ 1 });
}

/* A request to a server of our own, whose handler panics. */
static void
request(void)
{
    struct kitchen         k = { bh_http_server_new(NULL), BH_CHAN(int, 1) };
    struct bh_http_client *client = bh_http_client_new(NULL);
    struct bh_http_res    *res;
    char                   url[128];

    bh_http_observe(k.server, bh_http_report, NULL);
    bh_http_use(k.server, bh_http_recover, NULL);
    bh_http_handle(k.server, "GET /dish", order_dish, NULL);
    if (bh_http_listen(k.server, "127.0.0.1:0") < 0)
        bh_fatal("no place for the kitchen");
    bh_go(open_kitchen, &k);
    (void)snprintf(url, sizeof url, "http://%s/dish", bh_http_address(k.server));
    if (bh_http_client_get(bh_ctx_background(), client, url, &res) == 0)
        bh_http_res_close(res);
    bh_http_client_free(client);
    bh_http_stop(k.server);
    bh_recv(k.closed, NULL);
    bh_http_server_free(k.server);
    bh_chan_unref(k.closed);
}

static void
storm(void)
{
    for (int i = 0; i < 10000; i++)
        (void)guarded(serve, i);
}

static void
wild(int n)
{
    *(volatile int *)(0x7fff00000000 + n) = 1;
}

static void
run(const char *what)
{
    if (strcmp(what, "contained") == 0)
        contained();
    else if (strcmp(what, "recovered") == 0)
        (void)guarded(serve, 2);
    else if (strcmp(what, "repanic") == 0)
        (void)guarded(again, 3);
    else if (strcmp(what, "nested") == 0)
        (void)guarded(nested, 4);
    else if (strcmp(what, "fault") == 0)
        (void)guarded(fault, 0x20);
    else if (strcmp(what, "request") == 0)
        request();
    else if (strcmp(what, "storm") == 0)
        storm();
    else if (strcmp(what, "fatal") == 0)
        serve(5);
    else if (strcmp(what, "invariant") == 0)
        bh_fatal("the pantry is on fire");
    else if (strcmp(what, "wild") == 0)
        wild(8);
    if (strcmp(what, "suppressed") == 0)
        for (int i = 0; i < 100; i++)
            i < 99 ? (void)guarded(serve, i) : serve(i);
}

static void
lab(void *args)
{
    run(*(const char **)args);
    (void)bh_report_flush(8 * BH_SECOND);
}

int
main(int argc, char **argv)
{
    bool raw = argc == 4 && strcmp(argv[3], "raw") == 0;

    if (argc < 3 || argc > 4) {
        (void)fprintf(stderr, "usage: lab DIRECTORY WHAT [raw | profiles]\n");
        return 1;
    }
    bh_set_hooks(&(struct bh_hooks){ .panic = bh_report_event });
    if (argc == 4 && strcmp(argv[3], "profiles") == 0 &&
        (bh_report_profiles() < 0 || bh_report_timeline() < 0 || bh_flight_start(0) < 0))
        return 1;
    int rc = bh_report_start(&(struct bh_report_options){ .directory = argv[1],
                                                          .service = "kitchen",
                                                          .version = "3",
                                                          .monitor = true,
                                                          .raw = raw,
                                                          .deadline = 5 * BH_SECOND });
    if (rc < 0) {
        (void)fprintf(stderr, "lab: cannot report: %d\n", rc);
        return 1;
    }
    rc = bh_main(lab, &(struct { const char *what; }){ argv[2] });
    bh_report_stop();
    return rc;
}
