/*
 * 03_api.c -- a small API with what a real one needs: 03_api [ADDRESS [CERTIFICATE KEY]]
 *
 *     curl -d '{"item":"tea","count":2}' -H 'Content-Type: application/json' localhost:8080/api/orders
 *     curl localhost:8080/api/orders/1
 *     curl localhost:8080/api/crash
 */
#include <stdio.h>
#include <stdlib.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/compress.h>
#include <bulkhead/http/json.h>
#include <bulkhead/http/limits.h>
#include <bulkhead/http/monitor.h>
#include <bulkhead/http/security.h>
#include <bulkhead/http/server.h>
#include <bulkhead/http/tls.h>

enum { MAX_ORDERS = 1000 };

static struct {
    struct bh_mutex lock;
    int             count;
    struct { char item[81]; int64_t count; } order[MAX_ORDERS];
} shop;

struct order { const char *item; int64_t count; };

static const struct bh_json_field order_fields[] = {
    BH_JSON_TEXT_FIELD("item", struct order, item, .required = true, .min = 1, .max = 20),
    BH_JSON_INT_FIELD("count", struct order, count, .min = 1, .max = 1000),
    { 0 },
};

static int
create(struct bh_http_call *c, void *arg)
{
    struct order o = { .count = 1 };
    int          rc = bh_http_bind(c, order_fields, &o), id;

    (void)arg;
    if (rc < 0)
        return rc; /* 400, and what is wrong with which field */
    bh_mutex_lock(&shop.lock);
    BH_DEFER(bh_mutex_unlock, &shop.lock);
    if (shop.count == MAX_ORDERS)
        return bh_http_reply(c, 507, "sold out\n");
    id = ++shop.count;
    snprintf(shop.order[id - 1].item, sizeof shop.order[0].item, "%s", o.item);
    shop.order[id - 1].count = o.count;
    return bh_http_reply_json(c, 201, "{\"id\":%d,\"item\":%s,\"count\":%ld}\n", id, o.item, o.count);
}

static int
show(struct bh_http_call *c, void *arg)
{
    long id = strtol(bh_http_param(c, "id"), NULL, 10);

    (void)arg;
    bh_mutex_lock(&shop.lock);
    BH_DEFER(bh_mutex_unlock, &shop.lock);
    if (id < 1 || id > shop.count)
        return bh_http_reply(c, 404, "no such order\n");
    return bh_http_reply_json(c, 200, "{\"id\":%ld,\"item\":%s,\"count\":%ld}\n", id,
                              shop.order[id - 1].item, shop.order[id - 1].count);
}

static int
crash(struct bh_http_call *c, void *arg)
{
    (void)c;
    *(volatile int *)arg = 1; /* NULL: this request's 500, and nobody else's trouble */
    return 0;
}

static void
add_routes(struct bh_http_server *s, struct bh_http_rate *rate, struct bh_http_compress *compress)
{
    static struct bh_http_timeout_options patience = { .after = 5 * BH_SECOND };
    struct bh_http_group                 *api;

    bh_http_observe(s, bh_http_identify, NULL);
    bh_http_observe(s, bh_http_access_log, NULL);
    bh_http_observe(s, bh_http_secure, NULL);
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_use(s, bh_http_compress, compress);
    bh_http_handle(s, "GET /healthz", bh_http_healthz, NULL);
    bh_http_handle(s, "GET /readyz", bh_http_readyz, NULL);

    api = bh_http_group(s, "/api");
    bh_http_use(api, bh_http_rate_limit, rate);
    bh_http_use(api, bh_http_timeout, &patience);
    bh_http_handle(api, "POST /orders", create, NULL);
    bh_http_handle(api, "GET /orders/{id}", show, NULL);
    bh_http_handle(api, "GET /crash", crash, NULL);
}

static int
serve(char **arguments)
{
    struct bh_http_server   *s = bh_http_server_new(NULL);
    struct bh_http_rate     *rate = bh_http_rate_new(&(struct bh_http_rate_options){ .per_second = 100 });
    struct bh_http_compress *compress = bh_http_compress_new(NULL);
    struct bh_tls_config    *tls = NULL;
    const char              *address = arguments[0] != NULL ? arguments[0] : "127.0.0.1:8080";
    int                      rc = 0;

    BH_DEFER(bh_http_compress_free, compress);
    BH_DEFER(bh_http_rate_free, rate);
    BH_DEFER(bh_http_server_free, s);
    add_routes(s, rate, compress);
    if (arguments[0] != NULL && arguments[1] != NULL && arguments[2] != NULL) {
        tls = bh_tls_config_new();
        rc = bh_tls_config_add_certificate(tls, arguments[1], arguments[2]);
    }
    BH_DEFER(bh_tls_config_unref, tls);
    if (rc == 0)
        rc = tls != NULL ? bh_http_listen_tls(s, address, tls) : bh_http_listen(s, address);
    if (rc == 0)
        fprintf(stderr, "http%s://%s/\n", tls != NULL ? "s" : "", bh_http_address(s));
    return rc < 0 ? rc : bh_http_serve_until_signal(s);
}

static void
run(void *arguments)
{
    if (serve(arguments) < 0) {
        fprintf(stderr, "03_api: %s\n", bh_error_note());
        bh_exit(1);
    }
}

int
main(int argc, char **argv)
{
    (void)argc;
    return bh_main(run, argv + 1);
}
