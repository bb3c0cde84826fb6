/*
 * health.c -- does the process live, and should it get requests?
 *
 * The first is answered by answering.  The second asks every check, one after another, each
 * with its time; a check that panics has failed, and says so, instead of hiding the others.
 */

#include <stdlib.h>
#include <string.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/json.h>
#include <bulkhead/http/monitor.h>
#include <bulkhead/http/server.h>

enum { MAX_CHECKS = 32 };

struct check {
    const char       *name;
    bh_http_check_fn *fn;
    void             *arg;
    int64_t           timeout;
};

struct bh_http_health {
    struct check checks[MAX_CHECKS];
    int          count;
};

int
bh_http_healthz(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)bh_http_set_header(c, "Cache-Control", "no-store");
    return bh_http_reply(c, 200, "ok\n");
}

struct bh_http_health *
bh_http_health_new(void)
{
    struct bh_http_health *h = calloc(1, sizeof *h);

    if (h == NULL)
        bh_panic("http: out of memory for health checks");
    return h;
}

void
bh_http_health_free(struct bh_http_health *h)
{
    free(h);
}

void
bh_http_health_add(struct bh_http_health *h, const char *name, bh_http_check_fn *fn, void *arg,
                   int64_t timeout)
{
    BH_REQUIRE(h->count < MAX_CHECKS);
    h->checks[h->count++] = (struct check){ name, fn, arg, timeout > 0 ? timeout : BH_SECOND };
}

static int
run_check(struct bh_http_call *c, const struct check *k)
{
    struct bh_ctx *ctx = bh_ctx_timeout(bh_http_ctx(c), k->timeout);

    BH_DEFER(bh_ctx_end, ctx);
    return k->fn(ctx, k->arg);
}

static int
run_guarded(struct bh_http_call *c, const struct check *k)
{
    BH_RECOVER(p) {
        return bh_fail(BH_EPANIC, "panic: %s", bh_panic_text(p));
    }
    return run_check(c, k);
}

/* Returns: whether it has passed; its line is added. */
static bool
report(struct bh_http_call *c, struct bh_json_out *out, const struct check *k)
{
    int64_t begun = bh_now();
    int     rc = run_guarded(c, k);

    bh_json_open(out, NULL, '{');
    bh_json_add_text(out, "name", k->name);
    bh_json_add_bool(out, "ok", rc >= 0);
    bh_json_add_int(out, "us", (bh_now() - begun) / 1000);
    if (rc < 0)
        bh_json_add_text(out, "error",
                         *bh_error_note() != '\0' ? bh_error_note() : bh_error_text(rc));
    bh_json_close(out, '}');
    return rc >= 0;
}

int
bh_http_readyz(struct bh_http_call *c, void *arg)
{
    const struct bh_http_health *h = arg;
    bool                         draining = bh_http_is_draining(bh_http_server_of(c));
    bool                         ready = !draining;
    struct bh_json_out           out = { .arena = c->arena };

    bh_json_open(&out, NULL, '{');
    bh_json_open(&out, "checks", '[');
    for (int i = 0; h != NULL && i < h->count; i++)
        ready = report(c, &out, &h->checks[i]) && ready;
    bh_json_close(&out, ']');
    bh_json_add_bool(&out, "draining", draining);
    bh_json_add_bool(&out, "ready", ready);
    bh_json_close(&out, '}');
    (void)bh_http_set_header(c, "Cache-Control", "no-store");
    return bh_http_reply_bytes(c, ready ? 200 : 503, "application/json", out.text, out.size);
}
