/*
 * world.c -- what the rest of the process was doing when something panicked.
 *
 * One pass over the goroutines (bh_goroutines: none is held up) fills a table of fixed
 * size; those with the same stack and state are counted as one group, of which the
 * largest are shown.  From the table come the ancestors of the panicking goroutine,
 * and a few others that may have to do with it:
 *
 *     ancestor      started it, or started who did
 *     child         started by it
 *     same trace    works for the same request
 *     same route    works for a request of the same route
 *     same object   waits for what most others wait for, if many do
 *
 * The table is mapped once, at the start: a report must not need memory when memory
 * is what is missing.
 */

#include "report.h"

#include <dirent.h>
#include <errno.h>
#include <malloc.h>
#include <string.h>
#include <sys/mman.h>

#include <bulkhead/go/go.h>

enum { GOROUTINES = 65536, CROWD = 16 };

int
ob_world_init(struct ob_world *w)
{
    if (w->goroutine != NULL)
        return 0;
    void *p = mmap(NULL, GOROUTINES * sizeof *w->goroutine, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED)
        return -ENOMEM;
    w->goroutine = p;
    return 0;
}

/* ---- the pass -------------------------------------------------------------------- */

struct pass {
    struct ob_world        *w;
    const struct ob_raised *raised;
    bool                    has_trace;
};

static void
count_state(struct ob_world *w, const char *state)
{
    int i = 0;

    while (i < w->states && w->by_state[i].state != state &&
           strcmp(w->by_state[i].state, state) != 0)
        i++;
    if (i == OB_STATES)
        return;
    if (i == w->states) {
        w->by_state[i].state = state;
        w->by_state[i].count = 0;
        w->states++;
    }
    w->by_state[i].count++;
}

static uint64_t
stack_hash(const struct bh_goroutine_info *g)
{
    uint64_t h = 0xcbf29ce484222325U ^ (uintptr_t)g->why ^ g->created_pc;

    for (int i = 0; i < g->depth; i++)
        h = (h ^ g->pcs[i]) * 0x9e3779b97f4a7c15U;
    return h != 0 ? h : 1;
}

static void
add_to_group(struct ob_world *w, const struct bh_goroutine_info *g)
{
    uint64_t hash = stack_hash(g);
    int      i = 0;

    while (i < w->groups && w->group[i].hash != hash)
        i++;
    if (i == OB_GROUPS) {
        w->ungrouped++;
        return;
    }
    struct ob_group *to = &w->group[i];
    if (i == w->groups) {
        *to = (struct ob_group){ .hash = hash, .id = g->id, .state = g->why };
        to->created_pc = g->created_pc;
        to->system = g->system;
        to->depth = g->depth < OB_GROUP_PCS ? g->depth : OB_GROUP_PCS;
        memcpy(to->pcs, g->pcs, (size_t)to->depth * sizeof to->pcs[0]);
        w->groups++;
    }
    to->count++;
}

static void
note_self(struct ob_world *w, const struct bh_goroutine_info *g)
{
    w->self_known = true;
    (void)snprintf(w->labels, sizeof w->labels, "%s", g->labels);
    (void)snprintf(w->state, sizeof w->state, "%s", g->why);
}

static bool
look(const struct bh_goroutine_info *g, void *arg)
{
    struct pass         *p = arg;
    struct ob_world     *w = p->w;
    const struct bh_tag *tag = &p->raised->tag;

    w->count++;
    count_state(w, g->why);
    if (g->id == p->raised->goroutine)
        note_self(w, g);
    add_to_group(w, g);
    if (w->taken == GOROUTINES)
        return true;
    w->goroutine[w->taken++] = (struct ob_goroutine){
        .id = g->id,
        .created_by = g->created_by,
        .created_pc = g->created_pc,
        .state = g->why,
        .waiting_ns = g->waiting_ns,
        .blocked_on = g->blocked_on,
        .system = g->system,
        .same_trace =
            p->has_trace && memcmp(g->tag.trace_id, tag->trace_id, sizeof tag->trace_id) == 0,
        .same_route = tag->route != NULL && g->tag.route == tag->route,
    };
    return true;
}

/* ---- who else ---------------------------------------------------------------------- */

static int
find(const struct ob_world *w, uint64_t id)
{
    for (int64_t i = 0; i < w->taken; i++)
        if (w->goroutine[i].id == id)
            return (int)i;
    return -1;
}

static void
rank(struct ob_world *w, uint64_t id, int at, const char *why)
{
    if (id == 0 || w->ranks == OB_RANKED)
        return;
    for (int i = 0; i < w->ranks; i++)
        if (w->ranked[i].id == id)
            return;
    w->ranked[w->ranks].id = id;
    w->ranked[w->ranks].at = at;
    w->ranked[w->ranks++].why = why;
}

static void
find_ancestors(struct ob_world *w, uint64_t id)
{
    for (int at = find(w, id); at >= 0 && w->ancestors < OB_ANCESTORS; at = find(w, id)) {
        id = w->goroutine[at].created_by;
        if (id == 0)
            return;
        w->ancestor[w->ancestors].id = id;
        w->ancestor[w->ancestors++].pc = w->goroutine[at].created_pc;
        rank(w, id, find(w, id), "ancestor");
    }
}

/* crowd -- what the most goroutines wait for; 0 if that is no crowd.  Majority vote, then a count. */
static uint64_t
crowd(const struct ob_world *w)
{
    uint64_t object = 0;
    int64_t  votes = 0, count = 0;

    for (int64_t i = 0; i < w->taken; i++) {
        uint64_t on = w->goroutine[i].blocked_on;

        if (on == 0)
            continue;
        if (votes == 0)
            object = on;
        votes += on == object ? 1 : -1;
    }
    for (int64_t i = 0; i < w->taken; i++)
        count += object != 0 && w->goroutine[i].blocked_on == object;
    return count >= CROWD ? object : 0;
}

static void
rank_others(struct ob_world *w, uint64_t self)
{
    uint64_t object = crowd(w);

    for (int64_t i = 0; i < w->taken; i++)
        if (w->goroutine[i].id != self && w->goroutine[i].same_trace)
            rank(w, w->goroutine[i].id, (int)i, "same trace");
    for (int64_t i = 0; i < w->taken; i++)
        if (w->goroutine[i].created_by == self)
            rank(w, w->goroutine[i].id, (int)i, "child");
    for (int64_t i = 0; i < w->taken; i++)
        if (w->goroutine[i].id != self && w->goroutine[i].same_route)
            rank(w, w->goroutine[i].id, (int)i, "same route");
    for (int64_t i = 0; i < w->taken; i++)
        if (object != 0 && w->goroutine[i].blocked_on == object) {
            rank(w, w->goroutine[i].id, (int)i, "same object");
            break; /* one speaks for the crowd */
        }
}

/* sort_groups -- the largest first.  Few, and mostly sorted already. */
static void
sort_groups(struct ob_world *w)
{
    for (int i = 1; i < w->groups; i++)
        for (int j = i; j > 0 && w->group[j].count > w->group[j - 1].count; j--) {
            struct ob_group g = w->group[j];

            w->group[j] = w->group[j - 1];
            w->group[j - 1] = g;
        }
}

/* ---- the process ------------------------------------------------------------------- */

static int
count_descriptors(void)
{
    DIR *d = opendir("/proc/self/fd");
    int  n = -3; /* ".", "..", and the one just opened */

    if (d == NULL)
        return -1;
    while (readdir(d) != NULL)
        n++;
    (void)closedir(d);
    return n;
}

static void
read_process(struct ob_world *w)
{
    struct mallinfo2 heap = mallinfo2();

    bh_runtime_stats_read(&w->stats);
    w->queues = bh_procs() < OB_QUEUES ? bh_procs() : OB_QUEUES;
    for (int i = 0; i < w->queues; i++)
        w->queue[i] = bh_run_queue_length(i);
    w->fds = count_descriptors();
    w->heap_in_use = heap.uordblks + heap.hblkhd;
}

void
ob_world_read(struct ob_world *w, const struct ob_raised *raised)
{
    static const struct bh_tag none;
    struct pass p = { w, raised, memcmp(raised->tag.trace_id, none.trace_id, 16) != 0 };
    int64_t     began = ob_now();

    w->count = w->taken = w->ungrouped = 0;
    w->states = w->groups = w->ranks = w->ancestors = 0;
    w->self_known = false;
    w->labels[0] = w->state[0] = '\0';
    (void)bh_goroutines(look, &p, OB_GROUP_PCS);
    find_ancestors(w, raised->goroutine);
    rank_others(w, raised->goroutine);
    sort_groups(w);
    read_process(w);
    w->ns = ob_now() - began;
}
