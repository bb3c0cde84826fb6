#ifndef BULKHEAD_RUNTIME_NETFD_H
#define BULKHEAD_RUNTIME_NETFD_H

/* netfd.h -- PRIVATE: an open descriptor shared by goroutines.  netfd.c has the design. */

#include <sys/types.h>
#include <sys/uio.h>

#include <bulkhead/go/sync.h>

#include "ctx.h"
#include "netpoll.h"

/* What few descriptors need, made when first asked for: idle connections shall be small. */
struct rt_netfd_more {
    struct rt_netfd *n;
    struct bh_mutex  lock; /* of what is below */
    _Atomic(struct bh_ctx *) ctx; /* NULL: none watched */
    struct rt_ctx_watch watch;
    struct rt_hangup hangup;
    char            *unlink_path; /* socket file of ours, removed at the end */
    char            *local_text;  /* of the owner */
};

struct rt_netfd {
    _Atomic uint32_t state; /* 1: closed; calls in progress count 2 each */
    _Atomic uint32_t refs;  /* on the memory: the owner's, and the open descriptor's */
    int              fd;
    uint8_t          family, type; /* AF_*, SOCK_*; type 0: no socket */
    bool             drained;      /* the last read left nothing behind; under read_lock */
    bool             starts;       /* rt_netfd_go_when_readable was called: an io_waiter */
    _Atomic bool     exposed;      /* its number was given out: others may read too */
    struct rt_poll  *poll;
    struct bh_mutex  read_lock, write_lock; /* one call at a time on each side */
    _Atomic(struct rt_netfd_more *) more;   /* NULL until needed */
    struct rt_poll_start start;             /* of rt_netfd_go_when_readable */
    _Atomic uint32_t write_timeout_ms;      /* 0: none */
    bool             write_timed;           /* it has set a deadline; under write_lock */
    void           (*release)(struct rt_netfd *n); /* frees what n is in */
};

/*
 * rt_netfd_init -- start watching fd.  Returns: 0, or -errno; fd is then still the caller's.
 * n is zeroed but for fd, family, type, release.  The caller holds the owner's reference.
 */
int  rt_netfd_init(struct rt_netfd *n);
/* rt_netfd_close -- waiting calls get BH_ECLOSED; the last to leave closes the descriptor. */
void rt_netfd_close(struct rt_netfd *n);
void rt_netfd_unref(struct rt_netfd *n);

/* rt_netfd_more -- n's, made if need be; NULL: no memory.  It lives as long as n. */
struct rt_netfd_more *rt_netfd_more(struct rt_netfd *n);
/* rt_netfd_has_ctx -- whether a context is watched.  Any state. */
bool rt_netfd_has_ctx(struct rt_netfd *n);

/* rt_netfd_begin -- a call starts.  Returns: 0 or BH_ECLOSED.  rt_netfd_end -- it is over. */
int  rt_netfd_begin(struct rt_netfd *n);
void rt_netfd_end(struct rt_netfd *n);

/* rt_netfd_set_ctx -- fail calls with ctx's error once it ends; NULL for none.  Panics: on no memory. */
void rt_netfd_set_ctx(struct rt_netfd *n, struct bh_ctx *ctx);
/* rt_netfd_set_hangup_ctx -- end ctx once the peer hangs up; NULL to forget.  Panics: on no memory. */
void rt_netfd_set_hangup_ctx(struct rt_netfd *n, struct bh_ctx *ctx, bool half);
void rt_netfd_set_deadline(struct rt_netfd *n, unsigned sides, int64_t at);
/* rt_netfd_set_write_timeout -- the deadline of each write from when it first has to wait. */
void rt_netfd_set_write_timeout(struct rt_netfd *n, int64_t ns);

/*
 * One system call on a descriptor, repeated until it says something else than
 * "interrupted" and "try again".  Returns: its result, or an error.
 * Blocks: until it is possible, the deadline, close, or the context's end.
 */
typedef ssize_t rt_netfd_call(struct rt_netfd *n, void *arg);
ssize_t rt_netfd_do(struct rt_netfd *n, enum rt_poll_side side, rt_netfd_call *call, void *arg);

/* rt_netfd_read, _readv -- one read.  rt_netfd_writev -- all of it; *written counts, also on failure. */
ssize_t rt_netfd_read(struct rt_netfd *n, void *buffer, size_t size);
/* rt_netfd_try_read -- one read that does not wait: -EAGAIN. */
ssize_t rt_netfd_try_read(struct rt_netfd *n, void *buffer, size_t size);
ssize_t rt_netfd_readv(struct rt_netfd *n, const struct iovec *iov, int count);
int     rt_netfd_writev(struct rt_netfd *n, const struct iovec *iov, int count, size_t *written);
int     rt_netfd_write(struct rt_netfd *n, const void *data, size_t size, size_t *written);
/*
 * rt_netfd_sendfile -- all of size bytes of the file fd.  Returns: 0, -EIO if it is shorter, or an error.
 * A write timeout begins anew after 64 KiB.
 */
int     rt_netfd_sendfile(struct rt_netfd *n, int fd, int64_t offset, size_t size, size_t *written);
int     rt_netfd_wait_readable(struct rt_netfd *n);
/*
 * rt_netfd_go_when_readable -- start fn on a new goroutine once n is readable, its deadline passes, or
 * it is closed.  Nobody else may read meanwhile.  Returns: 0 or BH_ECLOSED; then fn will not run.
 */
int rt_netfd_go_when_readable(struct rt_netfd *n, size_t stack_size, bh_fn *fn, void *arg);

#endif
