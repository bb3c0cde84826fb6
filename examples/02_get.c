/* 02_get.c -- fetch a URL in ten seconds at most: 02_get https://example.com/ */
#include <stdio.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/client.h>

struct get { const char *url; int *status; };

static int
copy(struct bh_ctx *ctx, struct bh_http_client *client, const char *url)
{
    struct bh_http_res *res;
    char                buffer[16384];
    ssize_t             n;
    int                 rc = bh_http_client_get(ctx, client, url, &res);

    if (rc < 0)
        return rc;
    BH_DEFER(bh_http_res_close, res);
    fprintf(stderr, "%d %s, HTTP/%d.%d\n", res->status, res->url, res->version / 10,
            res->version % 10);
    while ((n = bh_http_res_read(res, buffer, sizeof buffer)) > 0)
        (void)fwrite(buffer, 1, (size_t)n, stdout);
    return (int)n;
}

static void
get(void *args)
{
    struct get            *g = args;
    struct bh_http_client *client = bh_http_client_new(NULL);
    struct bh_ctx         *ctx = bh_ctx_timeout(bh_ctx_background(), 10 * BH_SECOND);

    BH_DEFER(bh_http_client_free, client);
    BH_DEFER(bh_ctx_end, ctx);
    if (copy(ctx, client, g->url) < 0) {
        fprintf(stderr, "%s\n", bh_error_note());
        *g->status = 1;
    }
}

int
main(int count, char **args)
{
    int status = 0;

    if (count != 2) {
        fprintf(stderr, "usage: %s URL\n", args[0]);
        return 2;
    }
    (void)bh_main(get, &(struct get){ args[1], &status });
    return status;
}
