/*
 * chrome.c -- the events of the flight recorder as Chrome's trace events, in JSON.
 *
 * A lane for each processor, with what it ran from when to when; tasks as lanes of their own
 * (asynchronous events), so that a request is seen as a whole; marks as instants. Times are in
 * microseconds, with three decimals.
 *
 * See: "Trace Event Format", Google.
 */

#include <bulkhead/observe/timeline.h>

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/go.h>
#include <bulkhead/http/json.h>

/* What a processor runs. */
struct lane {
    uint64_t goroutine; /* 0: nothing */
    int64_t  since;
    bool     named;
};

struct writer {
    struct bh_json_out out;
    struct lane       *lanes;
    int64_t            base;
};

static void
begin(struct writer *w, const char *phase, const char *name, int proc, int64_t ns)
{
    bh_json_open(&w->out, NULL, '{');
    bh_json_add_text(&w->out, "ph", phase);
    bh_json_add_text(&w->out, "name", name);
    bh_json_add_int(&w->out, "pid", 1);
    bh_json_add_int(&w->out, "tid", proc);
    bh_json_add_number(&w->out, "ts", (double)(ns - w->base) / 1000);
}

static void
end(struct writer *w)
{
    bh_json_close(&w->out, '}');
}

static void
name_lane(struct writer *w, int proc)
{
    char name[32];

    if (w->lanes[proc].named)
        return;
    w->lanes[proc].named = true;
    (void)snprintf(name, sizeof name, "processor %d", proc);
    begin(w, "M", "thread_name", proc, w->base);
    bh_json_open(&w->out, "args", '{');
    bh_json_add_text(&w->out, "name", name);
    bh_json_close(&w->out, '}');
    end(w);
}

/* What the processor ran until now. */
static void
close_slice(struct writer *w, int proc, int64_t ns, const char *why)
{
    struct lane *lane = &w->lanes[proc];
    char         name[32];

    if (lane->goroutine == 0)
        return;
    (void)snprintf(name, sizeof name, "goroutine %" PRIu64, lane->goroutine);
    begin(w, "X", name, proc, lane->since);
    bh_json_add_number(&w->out, "dur", (double)(ns - lane->since) / 1000);
    bh_json_open(&w->out, "args", '{');
    bh_json_add_text(&w->out, "then", why);
    bh_json_close(&w->out, '}');
    end(w);
    lane->goroutine = 0;
}

static void
task(struct writer *w, const struct bh_flight_event *e, const char *phase, const char *name)
{
    char id[24];

    (void)snprintf(id, sizeof id, "0x%" PRIx64, e->other);
    begin(w, phase, name, e->proc, e->ns);
    bh_json_add_text(&w->out, "cat", "task");
    bh_json_add_text(&w->out, "id", id);
    bh_json_add_int(&w->out, "goroutine", (int64_t)e->goroutine);
    end(w);
}

static void
play(struct writer *w, const struct bh_flight_event *e)
{
    struct lane *lane = &w->lanes[e->proc];

    name_lane(w, e->proc);
    switch (e->kind) {
    case BH_FLIGHT_START:
        close_slice(w, e->proc, e->ns, "processor taken");
        *lane = (struct lane){ .goroutine = e->goroutine, .since = e->ns, .named = true };
        break;
    case BH_FLIGHT_STOP:
        close_slice(w, e->proc, e->ns, e->why);
        break;
    case BH_FLIGHT_BLOCK:
        close_slice(w, e->proc, e->ns, "syscall");
        break;
    case BH_FLIGHT_END:
        close_slice(w, e->proc, e->ns, "end");
        break;
    case BH_FLIGHT_TASK:
        task(w, e, "b", e->text);
        break;
    case BH_FLIGHT_TASK_END:
        task(w, e, "e", "");
        break;
    case BH_FLIGHT_REGION:
        task(w, e, "b", e->text);
        break;
    case BH_FLIGHT_REGION_END:
        task(w, e, "e", e->text);
        break;
    case BH_FLIGHT_LOG:
        begin(w, "i", e->text, e->proc, e->ns);
        bh_json_add_text(&w->out, "s", "t");
        end(w);
        break;
    default:
        break;
    }
}

static int
lane_count(const struct bh_timeline *t)
{
    int count = 1;

    for (size_t i = 0; i < t->count; i++)
        if (t->events[i].proc >= count)
            count = t->events[i].proc + 1;
    return count;
}

int
bh_timeline_chrome(const struct bh_timeline *t, char **data, size_t *size)
{
    struct writer w = { .out = { .arena = bh_arena_new(0) } };
    int           count = lane_count(t);

    w.lanes = calloc((size_t)count, sizeof *w.lanes);
    *data = NULL;
    if (w.lanes != NULL) {
        w.base = t->count > 0 ? t->events[0].ns : 0;
        bh_json_open(&w.out, NULL, '{');
        bh_json_add_text(&w.out, "displayTimeUnit", "ns");
        bh_json_open(&w.out, "traceEvents", '[');
        for (size_t i = 0; i < t->count; i++)
            play(&w, &t->events[i]);
        for (int p = 0; p < count && t->count > 0; p++)
            close_slice(&w, p, t->events[t->count - 1].ns, "");
        bh_json_close(&w.out, ']');
        bh_json_close(&w.out, '}');
        *data = malloc(w.out.size + 1);
        if (*data != NULL)
            memcpy(*data, w.out.text, w.out.size + 1);
        *size = w.out.size;
    }
    free(w.lanes);
    bh_arena_free(w.out.arena);
    return *data != NULL ? 0 : -ENOMEM;
}
