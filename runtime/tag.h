#ifndef BULKHEAD_RUNTIME_TAG_H
#define BULKHEAD_RUNTIME_TAG_H

/*
 * tag.h -- PRIVATE: tags of goroutines, for the scheduler and for dumps.
 */

#include <bulkhead/go/tag.h>

#include "runtime.h"

/* rt_tag_inherit -- child, which does not run yet, gets its parent's tag. */
void rt_tag_inherit(struct bh_g *child, struct bh_g *parent);

/* rt_tag_drop -- g, which is the caller and ends, gives its tag back. */
void rt_tag_drop(struct rt_m *m, struct bh_g *g);

/* rt_tag_enter -- m begins, on this thread.  rt_tag_leave -- it ends: others get its cells. */
void rt_tag_enter(struct rt_m *m);
void rt_tag_leave(struct rt_m *m);

/* rt_tag_show_cell -- rt_tag_show of a tag. */
void rt_tag_show_cell(struct rt_m *m, uint32_t number);

/* rt_tag_show -- m runs g from now on; NULL: none.  For readers that have stopped the thread. */
static inline void
rt_tag_show(struct rt_m *m, const struct bh_g *g)
{
    uint32_t number = g != NULL ? atomic_load_explicit(&g->tag, memory_order_relaxed) : 0;

    if (rt_unlikely(number != 0))
        rt_tag_show_cell(m, number);
    else
        atomic_store_explicit(m->shown, NULL, memory_order_relaxed);
}

/*
 * rt_tag_copy -- the tag of any goroutine; zeros if it has none or changes it all the time.
 * Threads: any.  Async-signal-safe.  The descriptor may be another goroutine's by now: compare ids.
 */
void rt_tag_copy(const struct bh_g *g, struct bh_tag *tag);

#endif
