/*
 * 04_observe.c -- a small shop, observed: http://127.0.0.1:8084/debug/bulkhead
 *
 *     curl http://127.0.0.1:8084/buy/tea         one more sold
 *     curl http://127.0.0.1:8084/buy/crash       a panic: see reports/, the page, /metrics
 *     go tool pprof http://127.0.0.1:8084/debug/pprof/heap
 *     OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318 04_observe     tells a collector
 */
#include <stdio.h>
#include <string.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/server.h>
#include <bulkhead/observe/log.h>
#include <bulkhead/observe/metrics.h>
#include <bulkhead/observe/observe.h>

static const struct bh_observe_server_options pages = { .debug = { .reports = "reports" } };

static struct bh_series *sold;

static int
buy(struct bh_http_call *c, void *arg)
{
    const char *what = bh_http_param(c, "what"),
               *shelf = strcmp(what, "crash") != 0 ? what : NULL;
    struct bh_span span;

    (void)arg;
    bh_span_start(&span, "take from the shelf", NULL);
    BH_DEFER(bh_span_end, &span);
    bh_span_text(&span, "shelf", what);
    bh_log(BH_INFO, "taken", BH_STR("what", what), BH_INT("first", shelf[0])); /* or not */
    bh_metric_add(sold, 1);
    return bh_http_reply(c, 200, "one %s\n", what);
}

static void
serve(void *args)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    int                    rc;

    (void)args;
    bh_observe_requests(s, &pages);
    bh_http_use(s, bh_http_recover, NULL);
    bh_observe_pages(s, &pages);
    bh_http_handle(s, "GET /buy/{what}", buy, NULL);
    rc = bh_http_listen(s, "127.0.0.1:8084");
    if (rc == 0)
        rc = bh_http_serve_until_signal(s);
    if (rc < 0)
        bh_log(BH_FATAL, "cannot serve", BH_STR("why", bh_error_note()));
    bh_http_server_free(s);
}

int
main(void)
{
    if (bh_observe_start(&(struct bh_observe_options){
            .service = "shop", .reports = "reports", .monitor = true }) < 0)
        fprintf(stderr, "shop: not all is observed: %s\n", bh_error_note());
    if (bh_metric_counter("shop.sold", "Things sold.", &sold) < 0)
        fprintf(stderr, "shop: sales are not counted: %s\n", bh_error_note());
    bh_main(serve, NULL);
    return bh_observe_stop(5 * BH_SECOND) < 0;
}
