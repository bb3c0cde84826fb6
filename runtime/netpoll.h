#ifndef BULKHEAD_RUNTIME_NETPOLL_H
#define BULKHEAD_RUNTIME_NETPOLL_H

/* netpoll.h -- PRIVATE: waiting for descriptors.  netpoll.c has the design. */

#include "runtime.h"

enum rt_poll_side { RT_POLL_READ, RT_POLL_WRITE, RT_POLL_SIDES };

enum { /* pd->info: what stops a call without asking the kernel; read without the lock */
    RT_POLL_EXPIRED_READ = 1 << RT_POLL_READ,
    RT_POLL_EXPIRED_WRITE = 1 << RT_POLL_WRITE,
    RT_POLL_CLOSING = 4,
    RT_POLL_CANCELED = 8,
    RT_POLL_HUP = 16, /* end, error or urgent data seen: a short read proves nothing any more */
};

/* Who waits for a side: nobody (0), a goroutine, or (lowest bit set) a goroutine yet to be made. */
typedef uintptr_t rt_poll_waiter;

/* A goroutine to be made, in the memory of whoever waits. */
struct rt_poll_start {
    bh_fn   *fn;
    void    *arg;
    uint32_t stack_size; /* what stack_class stands for, if not 0 */
    uint8_t  stack_class;
};

/* A context to end when the peer hangs up. */
struct rt_hangup {
    struct bh_ctx *ctx;  /* a reference */
    bool           half; /* also when it only ends its own sending */
};

/* Many of them are idle connections: two cache lines and a bit each. */
struct rt_poll {
    struct rt_lock   lock;
    int              fd;
    uint32_t         index;   /* in the table; for ever */
    uint32_t         seq;     /* +1 each time it is recycled: events carry it */
    _Atomic uint32_t info;    /* RT_POLL_*; written under the lock */
    _Atomic int      cancel_code;
    bool             ready[RT_POLL_SIDES];    /* an edge nobody has consumed */
    union {
        rt_poll_waiter  waiter[RT_POLL_SIDES];
        struct rt_poll *next_free;
    };
    int64_t          deadline[RT_POLL_SIDES]; /* 0: none */
    int64_t          armed_at; /* what the timer is armed for, 0: not armed; <= both deadlines */
    struct rt_timer  timer;
    struct rt_hangup *hangup;  /* watched for, or NULL; counts as an io_waiter */
};

/* Those that say nothing bracket themselves: call them from application state. */

/* rt_poll_open -- watch fd.  Returns: 0 or -errno (-EPERM: not pollable). */
int  rt_poll_open(int fd, struct rt_poll **pd);
/* rt_poll_close -- stop watching and recycle pd, which nobody uses any more.  fd stays open. */
void rt_poll_close(struct rt_poll *pd);
/* rt_poll_evict -- closing: waiting calls and later ones get BH_ECLOSED. */
void rt_poll_evict(struct rt_poll *pd);
/* rt_poll_cancel -- the same with code, until cancelled with 0.  In the runtime; a ctx lock may be held. */
void rt_poll_cancel(struct rt_poll *pd, int code);
/* rt_poll_deadline -- of both sides or one; absolute, 0 for none.  sides: 1 << side. */
void rt_poll_deadline(struct rt_poll *pd, unsigned sides, int64_t at);
/* rt_poll_wait -- Blocks: until that side is ready.  Returns: 0 (try again) or why not. */
int  rt_poll_wait(struct rt_poll *pd, enum rt_poll_side side);

/*
 * rt_poll_watch_hangup -- end h->ctx once the peer hangs up; an edge that came before does not count.
 * Returns: whether such an edge may have come, and the caller has to look.  In the runtime.
 */
bool rt_poll_watch_hangup(struct rt_poll *pd, struct rt_hangup *h);
/* rt_poll_unwatch_hangup -- Returns: h, whose reference is the caller's again; NULL if it has been used. */
struct rt_hangup *rt_poll_unwatch_hangup(struct rt_poll *pd);

/*
 * rt_poll_start_when -- make and ready a goroutine that runs rt_netfd_started(&s) once that
 * side is ready or stopped; at once if `now`.  In the runtime.
 */
void rt_poll_start_when(struct rt_poll *pd, enum rt_poll_side side, struct rt_poll_start *s,
                        bool now);
void rt_netfd_started(void *start); /* netfd.c */

int rt_poll_status_slow(struct rt_poll *pd, enum rt_poll_side side);

/* rt_poll_status -- 0, or the error that calls on that side get now.  Any state. */
static inline int
rt_poll_status(struct rt_poll *pd, enum rt_poll_side side)
{
    uint32_t stop = (1u << side) | RT_POLL_CLOSING | RT_POLL_CANCELED;

    if (rt_likely((atomic_load_explicit(&pd->info, memory_order_relaxed) & stop) == 0))
        return 0;
    return rt_poll_status_slow(pd, side);
}

static inline bool
rt_poll_hup(struct rt_poll *pd)
{
    return (atomic_load_explicit(&pd->info, memory_order_relaxed) & RT_POLL_HUP) != 0;
}

/* ---- between netpoll.c and netpoll_epoll.c ------------------------------ */

/* rt_poll_event -- an edge.  Readied goroutines are appended to *list. */
struct rt_poll_edges {
    bool readable, writable;
    bool hup;        /* end, error or urgent data */
    bool half, gone; /* the peer sends no more; the connection is over */
};
void rt_poll_event(uint64_t tag, struct rt_poll_edges e, struct rt_glist *list);
uint64_t rt_poll_tag(const struct rt_poll *pd);

int  rt_epoll_add(int fd, uint64_t tag);
void rt_epoll_del(int fd);

/* rt_netpoll_wake_before -- a timer due at `when` was armed: end a wait that would miss it. */
void rt_netpoll_wake_before(int64_t when);

#endif
