#ifndef BULKHEAD_RUNTIME_SAMPLING_H
#define BULKHEAD_RUNTIME_SAMPLING_H

/* sampling.h -- PRIVATE: what sched.c tells sampling.c about threads. */

#include "runtime.h"

/* rt_sampling_create -- m's thread is about to be started, by whoever calls. */
void rt_sampling_create(const struct rt_m *m);

/* rt_sampling_start, rt_sampling_end -- on the thread: it has begun; it is about to end. */
void rt_sampling_start(void);
void rt_sampling_end(void);

#endif
