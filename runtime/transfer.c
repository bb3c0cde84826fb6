/*
 * transfer.c -- the panic of a goroutine as a value that another one takes over.
 *
 * The object is made with the goroutine, so that a panic for lack of memory can be
 * kept too.  It is written while RUNNING by one goroutine (of a group: by the member that
 * panics first), in a deferred call on top of the panicking stack, published by the store of the
 * state in rt_transfer_end, and never changed afterwards but for the state:
 *
 *     RUNNING --rt_transfer_end--> CLEAN
 *                              --> UNHANDLED --compare and swap--> CLAIMED --> HANDLED
 *
 * I1  of any number of claims one succeeds: the swap
 * I2  the state is published before `done` is closed: who was woken finds it
 * I3  what is not HANDLED when the count of references reaches zero is reported, once,
 *     by the one who took the count there; nobody else can claim it any more
 *
 * test/model/transfer.pml is this file as a model, checked for every interleaving.
 */

#include "transfer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>

#include "cold.h"
#include "contain.h"
#include "lifecycle.h"
#include "report.h"

enum { STACK_DEPTH = 64, WALK_DEPTH = STACK_DEPTH + 16 };

struct bh_panic_ctx {
    _Atomic uint32_t refs;
    _Atomic uint32_t state; /* enum bh_panic_state */
    struct bh_chan  *done;  /* closed at the end */
    _Atomic bool     taken; /* somebody fills in the rest, before the end */
    int              depth;
    int64_t          time_ns;
    struct bh_panic  panic;
    char             text[BH_PANIC_TEXT];
    uintptr_t        pcs[STACK_DEPTH];
};

/* ---- making and filling ---------------------------------------------------- */

struct bh_panic_ctx *
rt_transfer_new(void)
{
    struct bh_chan      *done = bh_chan_new(0, 0);
    struct bh_panic_ctx *x = malloc(sizeof *x);

    if (x == NULL) {
        bh_chan_unref(done);
        rt_panic_string("out of memory");
    }
    x->refs = 1;
    x->state = BH_PANIC_RUNNING;
    x->done = done;
    x->taken = false;
    x->depth = 0;
    return x;
}

static int64_t
wall_ns(void)
{
    struct timespec t;

    clock_gettime(CLOCK_REALTIME, &t);
    return t.tv_sec * INT64_C(1000000000) + t.tv_nsec;
}

static void
keep(struct bh_panic_ctx *x, const struct bh_panic *p)
{
    x->time_ns = wall_ns();
    rt_panic_say(p, x->text, sizeof x->text);
    rt_panic_move(&x->panic, p);
    x->panic.outer = NULL; /* in frames that will be gone */
}

/* The frames from where the panic was raised: what the walk itself needs is left out. */
static int
stack_of(const struct bh_panic *p, uintptr_t *pcs)
{
    enum { ASSEMBLY_SIZE = 64 };
    const struct rt_stack *s = rt_g()->stack;
    uintptr_t              all[WALK_DEPTH];
    bool                   more;
    int                    first = 0,
        count = rt_walk_frames((uintptr_t)__builtin_frame_address(0), (uintptr_t)s->lo,
                               (uintptr_t)s->top, all, WALK_DEPTH, &more);

    for (int i = 0; i < count; i++) {
        if (all[i] - (uintptr_t)rt_sigpanic < ASSEMBLY_SIZE)
            all[i] = p->pc + 1; /* where it faulted: made to look like a return address */
        else if (all[i] != p->pc)
            continue;
        first = i;
        break;
    }
    count = count - first < STACK_DEPTH ? count - first : STACK_DEPTH;
    memcpy(pcs, all + first, (size_t)count * sizeof *pcs);
    return count;
}

bool
rt_transfer_take(struct bh_panic_ctx *x, const struct rt_panic *r)
{
    if (atomic_exchange(&x->taken, true))
        return false;
    x->depth = stack_of(&r->pub, x->pcs);
    keep(x, &r->pub);
    return true;
}

void
rt_transfer_end(struct bh_panic_ctx *x)
{
    atomic_store_explicit(&x->state, x->taken ? BH_PANIC_UNHANDLED : BH_PANIC_CLEAN,
                          memory_order_release);
    bh_close(x->done);
    bh_panic_ctx_unref(x);
}

struct bh_panic_ctx *
bh_panic_ctx_new(const struct bh_panic *p)
{
    struct bh_panic_ctx *x = rt_transfer_new();

    x->taken = true;
    keep(x, p);
    rt_transfer_end(bh_panic_ctx_ref(x));
    return x;
}

/* ---- lost ------------------------------------------------------------------ */

static void
write_lost(const struct bh_panic_ctx *x)
{
    const struct bh_panic *p = &x->panic;

    rt_report_begin(STDERR_FILENO, -1);
    rt_put("panic: ");
    rt_put_indented(x->text);
    rt_put(" [lost: nobody handled it]\n");
    if (p->signal != 0)
        rt_put_signal_line(p->signal, p->code, p->fault_addr, p->pc);
    if (rt_traceback_level() != RT_LEVEL_NONE) {
        rt_put("\ngoroutine ");
        rt_put_number(p->goroutine);
        rt_put(" [gone]:\n");
        rt_trace_pcs(x->pcs, x->depth, rt_traceback_level());
        rt_put("\n");
    }
    rt_report_end();
}

static void
report_lost(const struct bh_panic_ctx *x)
{
    struct bh_panic_event e = {
        .step = BH_PANIC_CONTAINED,
        .panic = &x->panic,
        .by = "lost",
        .pcs = x->pcs,
        .depth = x->depth,
    };

    if (!rt_panic_tell_late(&e))
        write_lost(x);
}

/* ---- references and claims -------------------------------------------------- */

struct bh_panic_ctx *
bh_panic_ctx_ref(struct bh_panic_ctx *x)
{
    atomic_fetch_add_explicit(&x->refs, 1, memory_order_relaxed);
    return x;
}

void
bh_panic_ctx_unref(struct bh_panic_ctx *x)
{
    if (x == NULL || atomic_fetch_sub_explicit(&x->refs, 1, memory_order_acq_rel) != 1)
        return;
    /* A group that nobody waits for goes RUNNING, with a panic or without. */
    if (x->taken && atomic_load_explicit(&x->state, memory_order_relaxed) != BH_PANIC_HANDLED)
        report_lost(x);
    bh_chan_unref(x->done);
    free(x);
}

bool
bh_panic_ctx_poll(struct bh_panic_ctx *x)
{
    uint32_t unhandled = BH_PANIC_UNHANDLED;

    return atomic_compare_exchange_strong_explicit(&x->state, &unhandled, BH_PANIC_CLAIMED,
                                                   memory_order_acq_rel, memory_order_acquire);
}

bool
bh_panic_ctx_join(struct bh_panic_ctx *x)
{
    (void)bh_recv(x->done, NULL);
    return bh_panic_ctx_poll(x);
}

struct bh_chan *
bh_panic_ctx_done(const struct bh_panic_ctx *x)
{
    return x->done;
}

void
bh_panic_ctx_handled(struct bh_panic_ctx *x)
{
    uint32_t claimed = BH_PANIC_CLAIMED;

    if (!atomic_compare_exchange_strong_explicit(&x->state, &claimed, BH_PANIC_HANDLED,
                                                 memory_order_acq_rel, memory_order_relaxed))
        rt_panic_string("bh_panic_ctx_handled: the panic is not claimed");
}

noreturn void
bh_panic_ctx_raise(struct bh_panic_ctx *x)
{
    bh_panic_ctx_handled(x);
    bh_repanic(&x->panic);
}

enum bh_panic_state
bh_panic_ctx_state(const struct bh_panic_ctx *x)
{
    return (enum bh_panic_state)atomic_load_explicit(&x->state, memory_order_acquire);
}

/* ---- reading ---------------------------------------------------------------- */

const struct bh_panic *
bh_panic_ctx_panic(const struct bh_panic_ctx *x)
{
    return bh_panic_ctx_state(x) >= BH_PANIC_UNHANDLED ? &x->panic : NULL;
}

const char *
bh_panic_ctx_text(const struct bh_panic_ctx *x)
{
    return bh_panic_ctx_panic(x) != NULL ? x->text : NULL;
}

int
bh_panic_ctx_stack(const struct bh_panic_ctx *x, const uintptr_t **pcs)
{
    if (bh_panic_ctx_panic(x) == NULL)
        return 0;
    *pcs = x->pcs;
    return x->depth;
}

int64_t
bh_panic_ctx_time(const struct bh_panic_ctx *x)
{
    return bh_panic_ctx_panic(x) != NULL ? x->time_ns : 0;
}
