/*
 * gotrace.c -- the execution trace of Go 1.19, from the events of the flight recorder.
 *
 * Go's reader is strict: each goroutine goes through its states in order, each processor
 * runs one goroutine at a time, and numbers (seq) must say in which order things happened
 * that different processors saw.  A ring that has forgotten its beginning, and events that two
 * processors stamped within nanoseconds of each other, do not give that by themselves.
 *
 * So the events are played, by time, on a model of the scheduler: what each processor runs,
 * in which state each goroutine is.  Whenever an event does not fit the model, what must have
 * happened in between is written first.
 *
 *     processor taken     the goroutine on it entered a system call that blocked
 *     started from afar   that call returned
 *     woken by nobody     it was unblocked
 *     never seen before   it is created now, and has waited
 *
 * Each processor's events are one batch; stacks and strings stand behind them.  A tick
 * is a nanosecond.
 *
 * See: Go 1.19, internal/trace/parser.go.
 */

#include <bulkhead/observe/timeline.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/inspect.h>

#include "names.h"

enum { /* Go's numbers */
       EV_BATCH = 1,
       EV_FREQUENCY = 2,
       EV_STACK = 3,
       EV_GOMAXPROCS = 4,
       EV_PROC_START = 5,
       EV_PROC_STOP = 6,
       EV_GO_CREATE = 13,
       EV_GO_START = 14,
       EV_GO_END = 15,
       EV_GO_SCHED = 17,
       EV_GO_PREEMPT = 18,
       EV_GO_SLEEP = 19,
       EV_GO_BLOCK = 20,
       EV_GO_UNBLOCK = 21,
       EV_GO_BLOCK_SEND = 22,
       EV_GO_BLOCK_RECV = 23,
       EV_GO_BLOCK_SELECT = 24,
       EV_GO_BLOCK_SYNC = 25,
       EV_GO_BLOCK_COND = 26,
       EV_GO_BLOCK_NET = 27,
       EV_GO_SYSCALL = 28,
       EV_GO_SYSEXIT = 29,
       EV_GO_SYSBLOCK = 30,
       EV_GO_WAITING = 31,
       EV_STRING = 37,
       EV_TASK_CREATE = 45,
       EV_TASK_END = 46,
       EV_REGION = 47,
       EV_LOG = 48,
};

enum state { UNSEEN, RUNNABLE, RUNNING, WAITING, SYSCALL, DEAD };

enum { REGIONS = 8 };

struct gor {
    uint64_t   id; /* 0: a free slot */
    uint64_t   seq;
    enum state state;
    int        proc; /* of one that runs */
    int        region_count;
    struct {
        uint64_t task, name;
    } regions[REGIONS]; /* open ones, outermost first */
};

/* A task's number; open: it has begun and not ended. */
struct task {
    uint64_t id;
    bool     open;
};

struct proc {
    FILE    *out;
    char    *data;
    size_t   size;
    uint64_t last;    /* tick of its last event; 0: none yet */
    uint64_t running; /* goroutine, or 0 */
};

struct stack {
    uint64_t         hash;
    const uintptr_t *pcs;
    int              depth;
};

struct writer {
    struct proc    *procs;
    int             proc_count;
    struct gor     *gors;     /* by hash of the id */
    struct task    *tasks;    /* the same */
    size_t          gor_room; /* of both */
    struct stack   *stacks;   /* number i + 1 */
    uint32_t       *stack_slots;
    size_t          stack_count, stack_room; /* slots are twice as many */
    struct ob_names names;
    uint64_t        tick; /* of the event being played */
    int64_t         base; /* ns of tick 1 */
};

/* ---- bytes ----------------------------------------------------------------------- */

static size_t
put_varint(unsigned char *to, uint64_t value)
{
    size_t n = 0;

    for (; value >= 0x80; value >>= 7)
        to[n++] = (unsigned char)(value | 0x80);
    to[n++] = (unsigned char)value;
    return n;
}

static void
write_varint(FILE *out, uint64_t value)
{
    unsigned char bytes[10];

    (void)fwrite(bytes, 1, put_varint(bytes, value), out);
}

/* An event's header and arguments: up to three are told by the header, more by their length. */
static void
write_event(FILE *out, int type, const uint64_t *args, int count)
{
    unsigned char bytes[10 * 8];
    size_t        n = 0;

    for (int i = 0; i < count; i++)
        n += put_varint(bytes + n, args[i]);
    (void)fputc(type | (count <= 3 ? count - 1 : 3) << 6, out);
    if (count > 3)
        write_varint(out, n);
    (void)fwrite(bytes, 1, n, out);
}

/* An event of processor p, now. */
static void
emit(struct writer *w, int p, int type, const uint64_t *args, int count)
{
    struct proc *proc = &w->procs[p];
    uint64_t     all[8];

    if (proc->last == 0) {
        proc->last = w->tick;
        write_event(proc->out, EV_BATCH, (const uint64_t[]){ (uint64_t)p, w->tick }, 2);
        if (type != EV_GOMAXPROCS)
            emit(w, p, EV_PROC_START, (const uint64_t[]){ (uint64_t)p }, 1);
    }
    all[0] = w->tick - proc->last;
    proc->last = w->tick;
    for (int i = 0; i < count; i++)
        all[i + 1] = args[i];
    write_event(proc->out, type, all, count + 1);
}
#define EMIT(w, p, type, ...)                                                                  \
    emit((w), (p), (type), (const uint64_t[]){ __VA_ARGS__ },                                  \
         (int)(sizeof((const uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t)))

/* ---- tables ---------------------------------------------------------------------- */

static uint64_t
mix(uint64_t x)
{
    x *= UINT64_C(0x9e3779b97f4a7c15);
    return x ^ x >> 29;
}

/* There is room: the table was made for every id that occurs. */
static struct gor *
gor_of(struct writer *w, uint64_t id)
{
    size_t i = mix(id) & (w->gor_room - 1);

    while (w->gors[i].id != 0 && w->gors[i].id != id)
        i = (i + 1) & (w->gor_room - 1);
    w->gors[i].id = id;
    return &w->gors[i];
}

static struct task *
task_of(struct writer *w, uint64_t id)
{
    size_t i = mix(id) & (w->gor_room - 1);

    while (w->tasks[i].id != 0 && w->tasks[i].id != id)
        i = (i + 1) & (w->gor_room - 1);
    w->tasks[i].id = id;
    return &w->tasks[i];
}

/* The number of a stack; 0: none. */
static uint64_t
number_of(struct writer *w, const uintptr_t *pcs, int depth)
{
    uint64_t hash = (uint64_t)depth;
    size_t   i;

    if (depth <= 0)
        return 0;
    for (int k = 0; k < depth; k++)
        hash = mix(hash ^ pcs[k]);
    for (i = hash & (2 * w->stack_room - 1); w->stack_slots[i] != 0;
         i = (i + 1) & (2 * w->stack_room - 1)) {
        const struct stack *s = &w->stacks[w->stack_slots[i] - 1];

        if (s->hash == hash && s->depth == depth &&
            memcmp(s->pcs, pcs, (size_t)depth * sizeof *pcs) == 0)
            return w->stack_slots[i];
    }
    w->stacks[w->stack_count] = (struct stack){ hash, pcs, depth };
    w->stack_slots[i] = (uint32_t)++w->stack_count;
    return w->stack_count;
}

static uint64_t
stack_of(struct writer *w, const struct bh_flight_event *e)
{
    return number_of(w, e->pcs, e->depth);
}

/* Of a goroutine whose beginning nobody saw; the reader wants a stack there. */
static uint64_t
stack_unknown(struct writer *w)
{
    static const uintptr_t nowhere[] = { 1 };

    return number_of(w, nowhere, 1);
}

static uint64_t
name_of(struct writer *w, const char *text)
{
    int64_t n = ob_names_add(&w->names, text);

    return n > 0 ? (uint64_t)n : 0; /* without memory: the empty one */
}

/* ---- the model ------------------------------------------------------------------- */

static void
create(struct writer *w, int p, uint64_t id, uint64_t entry, uint64_t stack)
{
    struct gor *g = gor_of(w, id);

    if (g->state != UNSEEN)
        return;
    EMIT(w, p, EV_GO_CREATE, id, entry, stack);
    g->seq = 1;
    g->state = RUNNABLE;
}

/* The processor went on without it. */
static void
lose(struct writer *w, struct gor *g, uint64_t stack)
{
    EMIT(w, g->proc, EV_GO_SYSCALL, stack);
    emit(w, g->proc, EV_GO_SYSBLOCK, NULL, 0);
    w->procs[g->proc].running = 0;
    g->state = SYSCALL;
}

static void
unblock(struct writer *w, int p, struct gor *g, uint64_t stack)
{
    if (g->state == UNSEEN) { /* it has waited since before */
        create(w, p, g->id, stack_unknown(w), 0);
        EMIT(w, p, EV_GO_WAITING, g->id);
        g->seq = 2;
        g->state = WAITING;
    }
    if (g->state != WAITING)
        return;
    EMIT(w, p, EV_GO_UNBLOCK, g->id, g->seq++, stack);
    g->state = RUNNABLE;
}

static void
start(struct writer *w, int p, uint64_t id)
{
    struct proc *proc = &w->procs[p];
    struct gor  *g = gor_of(w, id);

    if (proc->running == id || g->state == DEAD)
        return;
    if (proc->running != 0)
        lose(w, gor_of(w, proc->running), 0);
    if (g->state == RUNNING)
        lose(w, g, 0);
    if (g->state == SYSCALL) {
        EMIT(w, p, EV_GO_SYSEXIT, id, g->seq++, 0);
        g->state = RUNNABLE;
    }
    unblock(w, p, g, 0);
    EMIT(w, p, EV_GO_START, id, g->seq++);
    g->state = RUNNING;
    g->proc = p;
    proc->running = id;
}

static int
block_event(const char *why)
{
    static const struct {
        const char *why;
        int         type;
    } known[] = {
        { "runnable", EV_GO_SCHED },
        { "preempted", EV_GO_PREEMPT },
        { "sleep", EV_GO_SLEEP },
        { "chan receive", EV_GO_BLOCK_RECV },
        { "chan receive (nil chan)", EV_GO_BLOCK_RECV },
        { "chan send", EV_GO_BLOCK_SEND },
        { "chan send (nil chan)", EV_GO_BLOCK_SEND },
        { "select", EV_GO_BLOCK_SELECT },
        { "select (no cases)", EV_GO_BLOCK_SELECT },
        { "IO wait", EV_GO_BLOCK_NET },
        { "semacquire", EV_GO_BLOCK_SYNC },
        { "sync.Mutex.Lock", EV_GO_BLOCK_SYNC },
        { "sync.RWMutex.RLock", EV_GO_BLOCK_SYNC },
        { "sync.RWMutex.Lock", EV_GO_BLOCK_SYNC },
        { "sync.Cond.Wait", EV_GO_BLOCK_COND },
    };

    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(why, known[i].why) == 0)
            return known[i].type;
    return EV_GO_BLOCK;
}

static void
stop(struct writer *w, const struct bh_flight_event *e)
{
    struct gor *g = gor_of(w, e->goroutine);
    int         type = block_event(e->why);

    start(w, e->proc, e->goroutine);
    if (g->state != RUNNING)
        return;
    EMIT(w, e->proc, type, stack_of(w, e));
    g->state = type == EV_GO_SCHED || type == EV_GO_PREEMPT ? RUNNABLE : WAITING;
    w->procs[e->proc].running = 0;
}

static void
end(struct writer *w, const struct bh_flight_event *e)
{
    struct gor *g = gor_of(w, e->goroutine);

    start(w, e->proc, e->goroutine);
    if (g->state != RUNNING)
        return;
    emit(w, e->proc, EV_GO_END, NULL, 0);
    g->state = DEAD;
    w->procs[e->proc].running = 0;
}

/* Once for each number: the reader takes two open tasks of one number for a mistake. */
static void
mark_task(struct writer *w, const struct bh_flight_event *e)
{
    struct task *t = task_of(w, e->other);
    bool         begins = e->kind == BH_FLIGHT_TASK;

    if (t->open == begins)
        return;
    t->open = begins;
    if (begins)
        EMIT(w, e->proc, EV_TASK_CREATE, e->other, 0, name_of(w, e->text), stack_unknown(w));
    else
        EMIT(w, e->proc, EV_TASK_END, e->other, 0);
}

/* They must nest; an end without its beginning is left out. */
static void
mark_region(struct writer *w, const struct bh_flight_event *e)
{
    struct gor *g = gor_of(w, e->goroutine);
    uint64_t    name = name_of(w, e->text);

    if (e->kind == BH_FLIGHT_REGION) {
        if (g->region_count == REGIONS)
            return;
        g->regions[g->region_count].task = e->other;
        g->regions[g->region_count++].name = name;
        EMIT(w, e->proc, EV_REGION, e->other, 0, name, stack_unknown(w));
    } else if (g->region_count > 0 && g->regions[g->region_count - 1].task == e->other &&
               g->regions[g->region_count - 1].name == name) {
        g->region_count--;
        EMIT(w, e->proc, EV_REGION, e->other, 1, name, stack_unknown(w));
    }
}

static void
mark_log(struct writer *w, const struct bh_flight_event *e)
{
    FILE       *out = w->procs[e->proc].out;
    const char *value = strchr(e->text, '=');
    char        key[BH_FLIGHT_TEXT];
    size_t      length;

    if (value == NULL)
        value = e->text + strlen(e->text);
    (void)snprintf(key, sizeof key, "%.*s", (int)(value - e->text), e->text);
    value += *value == '=';
    length = strlen(value);
    EMIT(w, e->proc, EV_LOG, e->other, name_of(w, key), 0);
    write_varint(out, length);
    (void)fwrite(value, 1, length, out);
}

static void
mark(struct writer *w, const struct bh_flight_event *e)
{
    start(w, e->proc, e->goroutine);
    switch (e->kind) {
    case BH_FLIGHT_TASK:
    case BH_FLIGHT_TASK_END:
        mark_task(w, e);
        break;
    case BH_FLIGHT_REGION:
    case BH_FLIGHT_REGION_END:
        mark_region(w, e);
        break;
    default:
        mark_log(w, e);
        break;
    }
}

static void
play(struct writer *w, const struct bh_flight_event *e)
{
    switch (e->kind) {
    case BH_FLIGHT_CREATE:
        if (e->goroutine != 0)
            start(w, e->proc, e->goroutine);
        create(w, e->proc, e->other, number_of(w, e->pcs, 1),
               number_of(w, e->pcs + 1, e->depth - 1));
        break;
    case BH_FLIGHT_START:
        start(w, e->proc, e->goroutine);
        break;
    case BH_FLIGHT_STOP:
        stop(w, e);
        break;
    case BH_FLIGHT_BLOCK:
        start(w, e->proc, e->goroutine);
        if (gor_of(w, e->goroutine)->state == RUNNING)
            lose(w, gor_of(w, e->goroutine), stack_of(w, e));
        break;
    case BH_FLIGHT_UNBLOCK:
        unblock(w, e->proc, gor_of(w, e->other), stack_of(w, e));
        break;
    case BH_FLIGHT_END:
        end(w, e);
        break;
    default:
        mark(w, e);
        break;
    }
}

/* The reader wants an end of everything that runs. */
static void
clear_the_stage(struct writer *w)
{
    for (int p = 0; p < w->proc_count; p++) {
        if (w->procs[p].running != 0)
            EMIT(w, p, EV_GO_SCHED, 0);
        if (w->procs[p].last != 0)
            emit(w, p, EV_PROC_STOP, NULL, 0);
    }
}

/* ---- the file -------------------------------------------------------------------- */

static void
write_stack(struct writer *w, FILE *out, uint32_t number)
{
    enum { MOST = BH_FLIGHT_DEPTH * BH_FRAMES_MAX };
    const struct stack *s = &w->stacks[number - 1];
    unsigned char       bytes[20 + MOST * 40], head[20];
    size_t              n = 0, head_size, frames = 0;

    for (int i = 0; i < s->depth; i++) {
        struct bh_frame f[BH_FRAMES_MAX];
        int             count = bh_symbolize(s->pcs[i], f, BH_FRAMES_MAX);

        for (int k = 0; k < count; k++) {
            if (f[k].runtime && frames == 0 && i + 1 < s->depth)
                continue; /* how the runtime parks is no news */
            n += put_varint(bytes + n, s->pcs[i]);
            n += put_varint(bytes + n, name_of(w, f[k].function));
            n += put_varint(bytes + n, name_of(w, f[k].file));
            n += put_varint(bytes + n, (uint64_t)f[k].line);
            frames++;
        }
    }
    head_size = put_varint(head, number);
    head_size += put_varint(head + head_size, frames);
    (void)fputc(EV_STACK | 3 << 6, out);
    write_varint(out, head_size + n);
    (void)fwrite(head, 1, head_size, out);
    (void)fwrite(bytes, 1, n, out);
}

static void
write_file(struct writer *w, FILE *out)
{
    (void)fwrite("go 1.19 trace\0\0\0", 1, 16, out);
    for (int p = 0; p < w->proc_count; p++)
        if (w->procs[p].data != NULL)
            (void)fwrite(w->procs[p].data, 1, w->procs[p].size, out);
    (void)fputc(EV_FREQUENCY, out);
    write_varint(out, 1000000000);
    for (size_t i = 0; i < w->stack_count; i++)
        bh_symbolize_all(w->stacks[i].pcs, (size_t)w->stacks[i].depth);
    for (uint32_t i = 1; i <= w->stack_count; i++)
        write_stack(w, out, i);
    for (uint32_t i = 1; i < w->names.count; i++) {
        size_t length = strlen(w->names.text[i]);

        (void)fputc(EV_STRING, out);
        write_varint(out, i);
        write_varint(out, length);
        (void)fwrite(w->names.text[i], 1, length, out);
    }
}

static bool
open_writer(struct writer *w, const struct bh_timeline *t)
{
    *w = (struct writer){ .proc_count = 1, .gor_room = 16, .stack_room = 16 };
    if (ob_names_init(&w->names) < 0)
        return false;
    while (w->gor_room < 4 * t->count)
        w->gor_room *= 2;
    while (w->stack_room < 2 * t->count + 1) /* a creation has two */
        w->stack_room *= 2;
    for (size_t i = 0; i < t->count; i++)
        if (t->events[i].proc >= w->proc_count)
            w->proc_count = t->events[i].proc + 1;
    w->procs = calloc((size_t)w->proc_count, sizeof *w->procs);
    w->gors = calloc(w->gor_room, sizeof *w->gors);
    w->tasks = calloc(w->gor_room, sizeof *w->tasks);
    w->stacks = calloc(w->stack_room, sizeof *w->stacks);
    w->stack_slots = calloc(2 * w->stack_room, sizeof *w->stack_slots);
    if (w->procs == NULL || w->gors == NULL || w->tasks == NULL || w->stacks == NULL ||
        w->stack_slots == NULL)
        return false;
    for (int p = 0; p < w->proc_count; p++)
        if ((w->procs[p].out = open_memstream(&w->procs[p].data, &w->procs[p].size)) == NULL)
            return false;
    return true;
}

static void
close_writer(struct writer *w)
{
    for (int p = 0; w->procs != NULL && p < w->proc_count; p++) {
        if (w->procs[p].out != NULL)
            (void)fclose(w->procs[p].out);
        free(w->procs[p].data);
    }
    free(w->procs);
    free(w->gors);
    free(w->tasks);
    free(w->stacks);
    free(w->stack_slots);
    ob_names_fini(&w->names);
}

/* Returns: whether every batch is whole. */
static bool
close_batches(struct writer *w)
{
    bool whole = true;

    for (int p = 0; p < w->proc_count; p++) {
        whole = fclose(w->procs[p].out) == 0 && whole;
        w->procs[p].out = NULL;
    }
    return whole;
}

int
bh_timeline_go(const struct bh_timeline *t, char **data, size_t *size)
{
    struct writer w;
    FILE         *out = NULL;
    int           rc = -ENOMEM;

    *data = NULL;
    if (open_writer(&w, t) && (out = open_memstream(data, size)) != NULL) {
        w.base = t->count > 0 ? t->events[0].ns : 0;
        w.tick = 1;
        EMIT(&w, 0, EV_GOMAXPROCS, (uint64_t)w.proc_count, 0);
        EMIT(&w, 0, EV_PROC_START, 0);
        for (size_t i = 0; i < t->count; i++) {
            w.tick = (uint64_t)(t->events[i].ns - w.base) + 2;
            play(&w, &t->events[i]);
        }
        clear_the_stage(&w);
        if (close_batches(&w)) {
            write_file(&w, out);
            rc = 0;
        }
        if (fclose(out) != 0)
            rc = -ENOMEM;
    }
    if (rc < 0) {
        free(*data);
        *data = NULL;
    }
    close_writer(&w);
    return rc;
}
