/*
 * disconnect.c -- how long after a client has left its request's context ends.
 *
 *     disconnect [TRIES]
 *
 * Four kinds of clients leave: with an empty request, with a body nobody reads, while the
 * handler computes, and the last again with one processor (BH_MAXPROCS=1, as a child).
 * A row for each: median and maximum, microseconds; the target is 5 ms.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/server.h>

static struct bh_chan *entered, *ended;
static int             tries = 1000;
static const char     *only;

static int
wait_for_end(struct bh_http_call *c, void *arg)
{
    struct bh_ctx *ctx = bh_http_ctx(c);
    int64_t        now;

    (void)arg;
    bh_send(entered, &(char){ 0 });
    if (bh_http_query(c, "spin") != NULL)
        while (bh_ctx_err(ctx) == 0)
            continue;
    else
        bh_recv(bh_ctx_done(ctx), NULL);
    now = bh_now();
    bh_send(ended, &now);
    return bh_http_reply(c, 200, "late");
}

static void
serve(void *args)
{
    (void)bh_http_serve(bh_ctx_background(), *(struct bh_http_server **)args);
}

static int
by_size(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return x < y ? -1 : x > y;
}

static void
measure(struct bh_http_server *s, const char *name, const char *request)
{
    int64_t *took = malloc((size_t)tries * sizeof *took);

    for (int i = 0; i < tries; i++) {
        struct bh_conn *c;
        int64_t         left;

        if (bh_dial(NULL, bh_http_address(s), &c) < 0 ||
            bh_write(c, request, strlen(request)) < 0)
            abort();
        bh_recv(entered, NULL);
        left = bh_now();
        bh_conn_free(c);
        bh_recv(ended, &took[i]);
        took[i] -= left;
    }
    qsort(took, (size_t)tries, sizeof *took, by_size);
    printf("%s_us\t%.0f\t-\t-\t-\t<=5000\t%s\n", name, (double)took[tries / 2] / 1e3,
           took[tries / 2] <= 5000000 ? "ok" : "short");
    printf("%s_max_us\t%.0f\t-\t-\t-\t-\tok\n", name, (double)took[tries - 1] / 1e3);
    fflush(stdout);
    free(took);
}

static void
app(void *arg)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    (void)arg;
    entered = BH_CHAN(char, 0);
    ended = BH_CHAN(int64_t, 0);
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "POST /", wait_for_end, NULL);
    if (bh_http_listen(s, "127.0.0.1:0") < 0)
        abort();
    bh_go(serve, &s);
    if (only == NULL) {
        measure(s, "disconnect", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
        measure(s, "disconnect_unread",
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc");
        measure(s, "disconnect_busy",
                "POST /?spin HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    } else {
        measure(s, only, "POST /?spin HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n");
    }
    exit(0); /* what the server holds goes with the process */
}

int
main(int argc, char **argv)
{
    pid_t child;
    int   status;

    if (argc > 1)
        tries = (int)strtol(argv[1], NULL, 10);
    if (argc > 2) {
        only = argv[2];
        return bh_main(app, NULL);
    }
    child = fork();
    if (child == 0)
        return bh_main(app, NULL);
    waitpid(child, &status, 0);
    setenv("BH_MAXPROCS", "1", 1);
    execl(argv[0], argv[0], argc > 1 ? argv[1] : "1000", "disconnect_busy_1p", (char *)NULL);
    return 1;
}
