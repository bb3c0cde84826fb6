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

/* rt_tag_leave -- m ends: others get its cells. */
void rt_tag_leave(struct rt_m *m);

/*
 * rt_tag_copy -- the tag of any goroutine; zeros if it has none or changes it all the time.
 * Threads: any.  Async-signal-safe.  The descriptor may be another goroutine's by now: compare ids.
 */
void rt_tag_copy(const struct bh_g *g, struct bh_tag *tag);

#endif
