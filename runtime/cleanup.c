/*
 * cleanup.c -- BH_UNWIND: on the way from a panic to where it lands, run what the
 * skipped frames would have run at their end.
 *
 * C code compiled with -fexceptions registers its cleanup attributes, and C++ its
 * destructors, in unwind tables; for a frame that itself faults also
 * -fnon-call-exceptions, or the tables have no entry for the instruction.  The
 * forced unwinding of the platform's C++ ABI visits every frame below the landing
 * and runs them; at the landing's frame its stop function takes over and jumps to
 * the checkpoint.  By then the walk (panic.c) has run every BH_DEFER of these
 * frames, so their own cleanups find their records gone and do nothing.
 *
 * The unwinder's state must outlive the frames it unwinds: it is kept in the
 * landing's frame.  Frames without tables end the unwinding early: then we land
 * all the same, as without BH_UNWIND.  Not the default: it costs 13 to 56 times
 * as much as the landing itself.
 *
 * See: Itanium C++ ABI, "Exception Handling", 1.3 (forced unwinding).
 */

#include "runtime.h"

#include <unwind.h>

struct unwinding {
    struct _Unwind_Exception    exception; /* first: the ABI hands this pointer around */
    const struct bh_checkpoint *at;
    rt_land_fn                 *last;
};

_Static_assert(sizeof(struct unwinding) <= sizeof(struct bh_unwind_), "the store is too small");

#if defined(__x86_64__)
enum { SP_REG = 6 };
#else
enum { SP_REG = 20 };
#endif

static noreturn void
arrive(struct unwinding *u)
{
    u->last(bh_self(), u->at);
    __builtin_unreachable();
}

/* Called before each frame: is it the one to land in? */
static _Unwind_Reason_Code
stop(int version, _Unwind_Action actions, _Unwind_Exception_Class class,
     struct _Unwind_Exception *exception, struct _Unwind_Context *context, void *arg)
{
    struct unwinding *u = arg;

    (void)version;
    (void)class;
    (void)exception;
    /* The CFA here is the frame's stack pointer at its call: in the landing's frame, the checkpoint's. */
    if ((actions & _UA_END_OF_STACK) || _Unwind_GetCFA(context) >= u->at->reg[SP_REG])
        arrive(u);
    return _URC_NO_REASON;
}

noreturn void
rt_unwind_to(struct bh_g *g, const struct bh_checkpoint *at, struct bh_unwind_ *store,
             rt_land_fn *last)
{
    struct unwinding *u = (struct unwinding *)(void *)store;

    (void)g;
    *u = (struct unwinding){ .at = at, .last = last };
    _Unwind_ForcedUnwind(&u->exception, stop, u);
    arrive(u); /* no tables here: nothing to run */
}
