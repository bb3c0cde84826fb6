/*
 * timeline.c -- gathers the events of the flight recorder, and serves them.
 *
 * The rings hold a fraction of a second of a busy server.  So for a longer look a goroutine
 * empties them every few milliseconds; what it comes too late for is counted as lost, and so
 * is what is beyond MOST events.
 */

#include <bulkhead/observe/timeline.h>

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/pprof.h>

enum {
    MOST = 1 << 18, /* events: 64 MiB */
    PIECE = 1024,   /* read at a time */
    SECONDS_MAX = 60,
};
static const int64_t every = 5 * BH_MILLISECOND;

struct gathering {
    struct bh_timeline *t;
    size_t              room;
    uint64_t           *cursors; /* of each processor */
    int                 procs;
};

static int
make_room(struct gathering *g)
{
    size_t                  room = g->room == 0 ? 4 * PIECE : 2 * g->room;
    struct bh_flight_event *more;

    if (g->room - g->t->count >= PIECE)
        return 0;
    if (room > MOST + PIECE)
        room = MOST + PIECE;
    more = realloc(g->t->events, room * sizeof *more);
    if (more == NULL)
        return -ENOMEM;
    g->t->events = more;
    g->room = room;
    return 0;
}

/* What is new.  Returns: 0 or -ENOMEM. */
static int
gather(struct gathering *g)
{
    for (int p = 0; p < g->procs; p++) {
        size_t n;

        do {
            if (make_room(g) < 0)
                return -ENOMEM;
            n = bh_flight_read(p, &g->cursors[p], g->t->events + g->t->count, PIECE,
                               &g->t->lost);
            if (g->t->count + n > MOST)
                g->t->lost += n;
            else
                g->t->count += n;
        } while (n == PIECE);
    }
    return 0;
}

/* Begin with what happens from now on. */
static int
skip(struct gathering *g)
{
    int rc = gather(g);

    g->t->count = 0;
    g->t->lost = 0;
    return rc;
}

static int
by_time(const void *a, const void *b)
{
    const struct bh_flight_event *x = a, *y = b;

    if (x->ns != y->ns)
        return x->ns < y->ns ? -1 : 1;
    return x->proc != y->proc ? x->proc - y->proc : (x > y) - (x < y);
}

static int
gather_all(struct gathering *g, int64_t duration, struct bh_ctx *ctx)
{
    int64_t until = bh_now() + duration;
    int     rc = duration > 0 ? skip(g) : 0;

    while (rc == 0 && bh_now() < until) {
        bh_sleep(every);
        rc = gather(g);
        if (rc == 0 && ctx != NULL)
            rc = bh_ctx_err(ctx);
    }
    return rc == 0 && duration == 0 ? gather(g) : rc;
}

int
bh_timeline_collect(int64_t duration, struct bh_ctx *ctx, struct bh_timeline *t)
{
    struct gathering g = { .t = t, .procs = bh_procs() };
    int              rc;

    *t = (struct bh_timeline){ 0 };
    if (!bh_flight_on())
        return -EAGAIN;
    g.cursors = calloc((size_t)g.procs, sizeof *g.cursors);
    rc = g.cursors != NULL ? gather_all(&g, duration, ctx) : -ENOMEM;
    free(g.cursors);
    if (rc < 0)
        bh_timeline_free(t);
    else if (t->count > 1)
        qsort(t->events, t->count, sizeof *t->events, by_time);
    return rc;
}

void
bh_timeline_free(struct bh_timeline *t)
{
    free(t->events);
    *t = (struct bh_timeline){ 0 };
}

/* ---- the page -------------------------------------------------------------------- */

struct job {
    struct bh_timeline t;
    bool               chrome;
    char              *data;
    size_t             size;
    int                rc;
};

/* Names take milliseconds: not on a processor. */
static void
write_timeline(void *arg)
{
    struct job *j = arg;

    j->rc = j->chrome ? bh_timeline_chrome(&j->t, &j->data, &j->size)
                      : bh_timeline_go(&j->t, &j->data, &j->size);
}

static void
free_job(void *arg)
{
    struct job *j = arg;

    bh_timeline_free(&j->t);
    free(j->data);
    free(j);
}

/* Returns: seconds in ns; -1 for what is no number of them. */
static int64_t
seconds_of(struct bh_http_call *c)
{
    const char *text = bh_http_query(c, "seconds");
    char       *end;
    double      seconds;

    if (text == NULL)
        return BH_SECOND;
    seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds >= 0 && seconds <= SECONDS_MAX))
        return -1;
    return (int64_t)(seconds * (double)BH_SECOND);
}

int
bh_http_timeline(struct bh_http_call *c, void *arg)
{
    const char *format = bh_http_query(c, "format");
    int64_t     duration = seconds_of(c);
    struct job *j;

    (void)arg;
    if (duration < 0)
        return bh_http_reply(c, 400, "seconds: a number from 0 to %d is wanted\n", SECONDS_MAX);
    if (format != NULL && strcmp(format, "chrome") != 0 && strcmp(format, "go") != 0)
        return bh_http_reply(c, 400, "format: \"go\" or \"chrome\" is wanted\n");
    j = calloc(1, sizeof *j);
    if (j == NULL)
        return bh_http_reply(c, 503, "out of memory\n");
    bh_arena_defer(c->arena, free_job, j);
    j->chrome = format != NULL && *format == 'c';
    j->rc = bh_timeline_collect(duration, bh_http_ctx(c), &j->t);
    if (j->rc == -EAGAIN)
        return bh_http_reply(c, 404, "the flight recorder is off: bh_flight_start\n");
    if (j->rc == 0)
        bh_blocking(write_timeline, j);
    if (j->rc < 0)
        return j->rc;
    (void)bh_http_set_header(c, "Content-Disposition",
                             j->chrome ? "attachment; filename=\"trace.json\""
                                       : "attachment; filename=\"trace\"");
    return bh_http_reply_bytes(
        c, 200, j->chrome ? "application/json" : "application/octet-stream", j->data, j->size);
}

int
bh_timeline_register(void)
{
    int rc = bh_pprof_register_handler("trace",
                                       "what goroutines did for ?seconds=1, for go tool trace",
                                       bh_http_timeline, NULL);

    return rc == -EEXIST ? 0 : rc;
}
