#ifndef BULKHEAD_RUNTIME_PROBE_H
#define BULKHEAD_RUNTIME_PROBE_H

/*
 * probe.h -- PRIVATE: static probes for bpftrace, SystemTap and perf (docs/probes.md).
 *
 * A probe is a nop and a note in the executable that says where it is and where
 * its arguments are.  A tracer counts itself into the probe's semaphore: unless
 * somebody listens, a probe costs one load, and its arguments are not computed.
 * Names and arguments are public: add, do not change.
 *
 *     RT_PROBE(panic__defer, 4, serial, goid, fn, defers);
 *
 * Checklist: adding one?  Also RT_PROBES below, docs/probes.md, its test.
 */

#include <stdint.h>

/* Cross builds may lack the header; then there are no probes. */
#if __has_include(<sys/sdt.h>)
#define _SDT_HAS_SEMAPHORES 1
#include <sys/sdt.h>

#define rt_probed(name) rt_unlikely(bulkhead_##name##_semaphore != 0)
#define RT_PROBE(name, n, ...)                                                                 \
    do {                                                                                       \
        if (rt_probed(name))                                                                   \
            DTRACE_PROBE##n(bulkhead, name, __VA_ARGS__);                                      \
    } while (0)
#else
static inline void
rt_probe_unheard(int n, ...)
{
    (void)n;
}
#define RT_PROBE(name, n, ...)                                                                 \
    do {                                                                                       \
        if (0)                                                                                 \
            rt_probe_unheard(n, __VA_ARGS__);                                                  \
    } while (0)
#endif

#define RT_PROBES(X)                                                                           \
    X(panic__raised)                                                                           \
    X(panic__defer)                                                                            \
    X(panic__defer__done)                                                                      \
    X(panic__recovered)                                                                        \
    X(panic__repanicked)                                                                       \
    X(panic__goexit)                                                                           \
    X(panic__contained)                                                                        \
    X(panic__fatal)                                                                            \
    X(panic__replaced)                                                                         \
    X(goroutine__start)                                                                        \
    X(goroutine__end)

/*
 * Tracers write them; volatile, as nothing here ever does.  They lie side by side in
 * rt_probe_words (lifecycle.c), so that one question can be asked of them all.
 */
enum { RT_PROBE_WORDS = 3 };
extern const volatile uint64_t rt_probe_words[RT_PROBE_WORDS]
    __attribute__((visibility("hidden")));
#define RT_PROBE_DECLARE(name)                                                                 \
    extern const volatile unsigned short bulkhead_##name##_semaphore                           \
        __attribute__((visibility("hidden")));
RT_PROBES(RT_PROBE_DECLARE)

#endif
