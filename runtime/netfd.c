/*
 * netfd.c -- an open descriptor that several goroutines use.
 *
 * Closing must not pull the number from under a call in progress: the kernel
 * would give it to the next open, and the call would read somebody else's data.
 * So every call counts itself in n->state; closing sets its lowest bit, after
 * which no call begins, and wakes the waiting ones; the last to leave closes the
 * descriptor.
 *
 *     open --close--> closing (calls leave) --last one--> closed
 *
 * Reading and writing go on at the same time; two reads (or two writes) are
 * serialised in order of arrival, so each gets whole what it asked for.  A
 * deadline counts for the one whose turn it is, then for the next.
 *
 * A call tries before it waits, with one exception: after a TCP read that did
 * not fill its buffer the socket is empty, and the next read waits at once.  That
 * saves a system call per request.  It is sound because the kernel reports what
 * comes later as a new edge; except for what came together with the data:
 * end of stream, an error, urgent data (at which reads stop short).  Those set
 * RT_POLL_HUP, and from then on every read tries first.
 *
 * A write timeout costs nothing while the socket takes what it is given: the
 * deadline is set when a write first has to wait, and removed at its end.
 *
 * errno is read in the line after the system call, before anything can move the
 * goroutine to another thread.
 */

#include "netfd.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>

enum { CLOSED = 1, CALL = 2 };
enum { WRITE_VECTORS = 64 }; /* handed to the kernel at a time: 1 KiB of stack */
enum { FILE_PIECE = 1 << 20, FILE_TIMED = 64 << 10 }; /* of a file: a call, a write timeout */

/*
 * In libc these are cancellation points of POSIX threads, which costs two atomic
 * operations a call; nothing here is ever cancelled.  Sanitizers watch libc's.
 */
#if !defined(RT_ASAN) && !defined(RT_TSAN)
#define recv(fd, data, size, flags) syscall(SYS_recvfrom, (fd), (data), (size), (flags), NULL, NULL)
#define send(fd, data, size, flags) syscall(SYS_sendto, (fd), (data), (size), (flags), NULL, 0)
#endif

/* ---- life --------------------------------------------------------------- */

static void
ctx_ended(struct rt_ctx_watch *w)
{
    struct rt_netfd_more *more = rt_container(w, struct rt_netfd_more, watch);

    rt_poll_cancel(more->n->poll, bh_ctx_err(atomic_load(&more->ctx)));
}

struct rt_netfd_more *
rt_netfd_more(struct rt_netfd *n)
{
    struct rt_netfd_more *more = atomic_load_explicit(&n->more, memory_order_acquire), *old = NULL;

    if (more != NULL || (more = calloc(1, sizeof *more)) == NULL)
        return more;
    more->n = n;
    more->watch.fn = ctx_ended;
    if (atomic_compare_exchange_strong(&n->more, &old, more))
        return more;
    free(more); /* another was faster */
    return old;
}

bool
rt_netfd_has_ctx(struct rt_netfd *n)
{
    struct rt_netfd_more *more = atomic_load_explicit(&n->more, memory_order_acquire);

    return more != NULL && atomic_load_explicit(&more->ctx, memory_order_relaxed) != NULL;
}

int
rt_netfd_init(struct rt_netfd *n)
{
    int error = rt_poll_open(n->fd, &n->poll);

    if (error != 0)
        return error;
    atomic_store_explicit(&n->refs, 2, memory_order_relaxed);
    return 0;
}

void
rt_netfd_unref(struct rt_netfd *n)
{
    struct rt_netfd_more *more;

    if (atomic_fetch_sub_explicit(&n->refs, 1, memory_order_acq_rel) != 1)
        return;
    more = atomic_load_explicit(&n->more, memory_order_acquire);
    if (more != NULL) {
        free(more->unlink_path);
        free(more->local_text);
        free(more);
    }
    n->release(n);
}

static void
unwatch(struct rt_netfd_more *more)
{
    struct bh_ctx *ctx = atomic_load(&more->ctx);

    if (ctx == NULL)
        return;
    rt_enter("forgetting a context");
    rt_ctx_unwatch(ctx, &more->watch);
    rt_poll_cancel(more->n->poll, 0);
    rt_exit();
    atomic_store(&more->ctx, NULL);
    bh_ctx_unref(ctx);
}

/* forget_hangup -- the watched context, if there is one and it has not ended by it. */
static void
forget_hangup(struct rt_netfd *n)
{
    struct rt_hangup *h;

    rt_enter("forgetting a context");
    h = rt_poll_unwatch_hangup(n->poll);
    rt_exit();
    if (h != NULL)
        bh_ctx_unref(h->ctx);
}

/* finish -- the last call has left a closed descriptor. */
static void
finish(struct rt_netfd *n)
{
    struct rt_netfd_more *more = atomic_load_explicit(&n->more, memory_order_acquire);

    if (more != NULL) {
        unwatch(more);
        forget_hangup(n);
    }
    if (n->starts)
        atomic_fetch_sub(&rt_sched.io_waiters, 1);
    rt_poll_close(n->poll);
    (void)close(n->fd);
    if (more != NULL && more->unlink_path != NULL)
        (void)unlink(more->unlink_path);
    rt_netfd_unref(n);
}

int
rt_netfd_begin(struct rt_netfd *n)
{
    uint32_t s = atomic_load_explicit(&n->state, memory_order_relaxed);

    do
        if (s & CLOSED)
            return BH_ECLOSED;
    while (!atomic_compare_exchange_weak_explicit(&n->state, &s, s + CALL, memory_order_acquire,
                                                  memory_order_relaxed));
    return 0;
}

void
rt_netfd_end(struct rt_netfd *n)
{
    if (atomic_fetch_sub_explicit(&n->state, CALL, memory_order_acq_rel) == (CALL | CLOSED))
        finish(n);
}

void
rt_netfd_close(struct rt_netfd *n)
{
    uint32_t s = atomic_load_explicit(&n->state, memory_order_relaxed);

    do
        if (s & CLOSED)
            return;
    while (!atomic_compare_exchange_weak_explicit(&n->state, &s, (s | CLOSED) + CALL,
                                                  memory_order_acquire, memory_order_relaxed));
    rt_poll_evict(n->poll);
    rt_netfd_end(n);
}

/* ---- deadlines and contexts --------------------------------------------- */

void
rt_netfd_set_deadline(struct rt_netfd *n, unsigned sides, int64_t at)
{
    if (rt_netfd_begin(n) != 0)
        return;
    rt_poll_deadline(n->poll, sides, at);
    rt_netfd_end(n);
}

void
rt_netfd_set_ctx(struct rt_netfd *n, struct bh_ctx *ctx)
{
    struct rt_netfd_more *more = rt_netfd_more(n);
    int                   error = 0;

    if (more == NULL)
        rt_panic_runtime("out of memory");
    if (rt_netfd_begin(n) != 0)
        return;
    bh_mutex_lock(&more->lock);
    unwatch(more);
    if (ctx != NULL) {
        atomic_store(&more->ctx, bh_ctx_ref(ctx));
        rt_enter("watching a context");
        error = rt_ctx_watch(ctx, &more->watch);
        if (error != 0)
            rt_poll_cancel(n->poll, error);
        rt_exit();
    }
    bh_mutex_unlock(&more->lock);
    rt_netfd_end(n);
}

/* hung_up -- what the edge would have said that came before anybody watched. */
static bool
hung_up(const struct rt_netfd *n, bool half)
{
    struct pollfd p = { .fd = n->fd, .events = POLLRDHUP };

    return poll(&p, 1, 0) > 0 &&
           ((p.revents & (POLLHUP | POLLERR)) != 0 || (half && (p.revents & POLLRDHUP) != 0));
}

void
rt_netfd_set_hangup_ctx(struct rt_netfd *n, struct bh_ctx *ctx, bool half)
{
    struct rt_netfd_more *more;
    bool                  look;

    if (rt_netfd_begin(n) != 0) {
        if (ctx != NULL)
            bh_ctx_cancel_cause(ctx, 0, "connection closed");
        return;
    }
    if (atomic_load_explicit(&n->more, memory_order_acquire) != NULL)
        forget_hangup(n);
    if (ctx != NULL) {
        more = rt_netfd_more(n);
        if (more == NULL) {
            rt_netfd_end(n);
            rt_panic_runtime("out of memory");
        }
        more->hangup = (struct rt_hangup){ bh_ctx_ref(ctx), half };
        rt_enter("watching for a hang-up");
        look = rt_poll_watch_hangup(n->poll, &more->hangup);
        rt_exit();
        if (look && hung_up(n, half)) {
            forget_hangup(n);
            bh_ctx_cancel_cause(ctx, 0, "peer hung up");
        }
    }
    rt_netfd_end(n);
}

void
rt_netfd_set_write_timeout(struct rt_netfd *n, int64_t ns)
{
    int64_t ms = ns / 1000000;

    if (ms == 0 && ns > 0)
        ms = 1;
    atomic_store_explicit(&n->write_timeout_ms, ms < UINT32_MAX ? (uint32_t)ms : UINT32_MAX,
                          memory_order_relaxed);
}

/* A write has to wait: from now on it has a deadline.  Under write_lock. */
static void
start_write_timeout(struct rt_netfd *n)
{
    uint32_t ms = atomic_load_explicit(&n->write_timeout_ms, memory_order_relaxed);

    if (ms == 0 || n->write_timed || n->type == SOCK_DGRAM)
        return;
    n->write_timed = true;
    rt_poll_deadline(n->poll, 1u << RT_POLL_WRITE, rt_now() + (int64_t)ms * 1000000);
}

static void
end_write_timeout(struct rt_netfd *n)
{
    if (rt_likely(!n->write_timed))
        return;
    n->write_timed = false;
    rt_poll_deadline(n->poll, 1u << RT_POLL_WRITE, 0);
}

/* ---- calls -------------------------------------------------------------- */

ssize_t
rt_netfd_do(struct rt_netfd *n, enum rt_poll_side side, rt_netfd_call *call, void *arg)
{
    for (;;) {
        ssize_t result = rt_poll_status(n->poll, side);

        if (result != 0)
            return result;
        result = call(n, arg);
        if (result == -EINTR)
            continue;
        if (result != -EAGAIN)
            return result;
        if (side == RT_POLL_WRITE)
            start_write_timeout(n);
        result = rt_poll_wait(n->poll, side);
        if (result != 0)
            return result;
    }
}

static size_t
total_size(const struct iovec *iov, int count)
{
    size_t total = 0;

    for (int i = 0; i < count; i++)
        total += iov[i].iov_len;
    return total;
}

/* ---- reading ------------------------------------------------------------ */

/* Buffers of one call: the array is not changed. */
struct vectors {
    const struct iovec *iov;
    int                 count;
};

static ssize_t
call_read(struct rt_netfd *n, void *arg)
{
    struct iovec *v = arg;
    ssize_t       got = n->type != 0 ? recv(n->fd, v->iov_base, v->iov_len, 0)
                                     : read(n->fd, v->iov_base, v->iov_len);

    return got < 0 ? -errno : got;
}

static ssize_t
call_readv(struct rt_netfd *n, void *arg)
{
    struct vectors *v = arg;
    ssize_t         got = readv(n->fd, v->iov, v->count);

    return got < 0 ? -errno : got;
}

static bool
may_skip_try(const struct rt_netfd *n)
{
    return n->type == SOCK_STREAM && (n->family == AF_INET || n->family == AF_INET6) &&
           !atomic_load_explicit(&n->exposed, memory_order_relaxed);
}

/* read_once -- one call that wants `size` bytes.  Under read_lock. */
static ssize_t
read_once(struct rt_netfd *n, rt_netfd_call *call, void *arg, size_t size)
{
    ssize_t result;

    if (n->drained && !rt_poll_hup(n->poll)) {
        result = rt_poll_wait(n->poll, RT_POLL_READ);
        if (result != 0)
            return result;
    }
    n->drained = false;
    result = rt_netfd_do(n, RT_POLL_READ, call, arg);
    n->drained = result > 0 && (size_t)result < size && may_skip_try(n);
    return result;
}

ssize_t
rt_netfd_try_read(struct rt_netfd *n, void *buffer, size_t size)
{
    struct iovec v = { buffer, size };
    ssize_t      result = rt_netfd_begin(n);

    if (result != 0)
        return result;
    bh_mutex_lock(&n->read_lock);
    result = rt_poll_status(n->poll, RT_POLL_READ);
    if (result == 0) {
        do
            result = call_read(n, &v);
        while (result == -EINTR);
        n->drained = result == -EAGAIN ||
                     (result > 0 && (size_t)result < size && may_skip_try(n));
    }
    bh_mutex_unlock(&n->read_lock);
    rt_netfd_end(n);
    return result;
}

static ssize_t
read_whole(struct rt_netfd *n, rt_netfd_call *call, void *arg, size_t size)
{
    ssize_t result = rt_netfd_begin(n);

    if (result != 0)
        return result;
    bh_mutex_lock(&n->read_lock);
    result = read_once(n, call, arg, size);
    bh_mutex_unlock(&n->read_lock);
    rt_netfd_end(n);
    return result;
}

ssize_t
rt_netfd_read(struct rt_netfd *n, void *buffer, size_t size)
{
    struct iovec v = { buffer, size };

    return read_whole(n, call_read, &v, size);
}

ssize_t
rt_netfd_readv(struct rt_netfd *n, const struct iovec *iov, int count)
{
    struct vectors v = { iov, count };

    return read_whole(n, call_readv, &v, total_size(iov, count));
}

int
rt_netfd_wait_readable(struct rt_netfd *n)
{
    struct pollfd p = { .fd = n->fd, .events = POLLIN | POLLRDHUP };
    int           error = rt_netfd_begin(n);

    if (error != 0)
        return error;
    bh_mutex_lock(&n->read_lock);
    for (;;) {
        error = rt_poll_status(n->poll, RT_POLL_READ);
        if (error != 0 || poll(&p, 1, 0) > 0)
            break;
        error = rt_poll_wait(n->poll, RT_POLL_READ);
        if (error != 0)
            break;
        n->drained = false; /* the edge is consumed: the next read must try */
    }
    bh_mutex_unlock(&n->read_lock);
    rt_netfd_end(n);
    return error;
}

void
rt_netfd_started(void *args)
{
    struct rt_poll_start *s = *(struct rt_poll_start **)args;
    struct rt_netfd      *n = rt_container(s, struct rt_netfd, start);
    bh_fn                *fn = s->fn;
    void                 *arg = s->arg;

    n->drained = false; /* the edge is consumed: the next read must try */
    rt_netfd_end(n);
    fn(arg);
}

int
rt_netfd_go_when_readable(struct rt_netfd *n, size_t stack_size, bh_fn *fn, void *arg)
{
    struct pollfd p = { .fd = n->fd, .events = POLLIN | POLLRDHUP };
    int           error = rt_netfd_begin(n);

    if (error != 0)
        return error;
    if (stack_size > UINT32_MAX)
        stack_size = UINT32_MAX;
    if (stack_size == 0)
        n->start.stack_class = rt_sched.stack_class;
    else if (n->start.stack_size != stack_size)
        n->start.stack_class = rt_stack_class(stack_size);
    n->start.stack_size = (uint32_t)stack_size;
    n->start.fn = fn;
    n->start.arg = arg;
    rt_enter("waiting for a descriptor");
    if (!n->starts) { /* counted until it is closed: starting is frequent */
        n->starts = true;
        atomic_fetch_add(&rt_sched.io_waiters, 1);
    }
    /* If there may be something whose edge is gone, data or the end: ask. */
    rt_poll_start_when(n->poll, RT_POLL_READ, &n->start,
                       (!n->drained || rt_poll_hup(n->poll)) && poll(&p, 1, 0) > 0);
    rt_exit();
    return 0;
}

/* ---- writing ------------------------------------------------------------ */

static ssize_t
call_writev(struct rt_netfd *n, void *arg)
{
    struct vectors *v = arg;
    ssize_t         put;

    if (n->type != 0) {
        struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)v->iov,
                            .msg_iovlen = (size_t)v->count };

        put = v->count == 1 ? send(n->fd, v->iov->iov_base, v->iov->iov_len, MSG_NOSIGNAL)
                            : sendmsg(n->fd, &m, MSG_NOSIGNAL);
    } else {
        put = writev(n->fd, v->iov, v->count);
    }
    return put < 0 ? -errno : put;
}

/* Where a long write stands: iov[0] begins `offset` bytes in. */
struct rest {
    const struct iovec *iov;
    int                 count;
    size_t              offset;
};

/* window -- the next buffers, empty ones left out.  Returns: how many. */
static int
window(const struct rest *r, struct iovec out[WRITE_VECTORS])
{
    size_t offset = r->offset;
    int    n = 0;

    for (int i = 0; i < r->count && n < WRITE_VECTORS; i++) {
        if (r->iov[i].iov_len > offset)
            out[n++] = (struct iovec){ (char *)r->iov[i].iov_base + offset,
                                       r->iov[i].iov_len - offset };
        offset = 0;
    }
    return n;
}

static void
advance(struct rest *r, size_t done)
{
    while (r->count > 0 && r->iov->iov_len - r->offset <= done) {
        done -= r->iov->iov_len - r->offset;
        r->iov++;
        r->count--;
        r->offset = 0;
    }
    r->offset += done;
}

/* write_stream -- all of it, in as many calls as it takes.  Under write_lock. */
static int
write_stream(struct rt_netfd *n, struct rest r, size_t *written)
{
    struct iovec   buffers[WRITE_VECTORS];
    struct vectors v = { buffers, 0 };

    while ((v.count = window(&r, buffers)) > 0) {
        ssize_t put = rt_netfd_do(n, RT_POLL_WRITE, call_writev, &v);

        if (put < 0)
            return (int)put;
        *written += (size_t)put;
        advance(&r, (size_t)put);
    }
    return 0;
}

static int
write_message(struct rt_netfd *n, const struct iovec *iov, int count, size_t *written)
{
    struct vectors v = { iov, count };
    ssize_t        put = rt_netfd_do(n, RT_POLL_WRITE, call_writev, &v);

    if (put < 0)
        return (int)put;
    *written = (size_t)put;
    return 0;
}

static ssize_t
call_write(struct rt_netfd *n, void *arg)
{
    struct iovec *v = arg;
    ssize_t       put = n->type != 0 ? send(n->fd, v->iov_base, v->iov_len, MSG_NOSIGNAL)
                                     : write(n->fd, v->iov_base, v->iov_len);

    return put < 0 ? -errno : put;
}

/* The short way for what is usual: one buffer that the socket takes at once. */
int
rt_netfd_write(struct rt_netfd *n, const void *data, size_t size, size_t *written)
{
    struct iovec v = { (void *)(uintptr_t)data, size };
    ssize_t      put;
    int          error;

    if (size == 0 || (n->type != 0 && n->type != SOCK_STREAM))
        return rt_netfd_writev(n, &v, 1, written);
    error = rt_netfd_begin(n);
    if (error != 0)
        return error;
    bh_mutex_lock(&n->write_lock);
    put = rt_netfd_do(n, RT_POLL_WRITE, call_write, &v);
    if (put > 0)
        *written = (size_t)put;
    if (put < 0)
        error = (int)put;
    else if ((size_t)put < size)
        error = write_stream(n, (struct rest){ &v, 1, (size_t)put }, written);
    end_write_timeout(n);
    bh_mutex_unlock(&n->write_lock);
    rt_netfd_end(n);
    return error;
}

int
rt_netfd_writev(struct rt_netfd *n, const struct iovec *iov, int count, size_t *written)
{
    int error;

    (void)total_size(iov, count); /* a bad pointer faults here, not under the lock */
    error = rt_netfd_begin(n);
    if (error != 0)
        return error;
    bh_mutex_lock(&n->write_lock);
    if (n->type == 0 || n->type == SOCK_STREAM)
        error = write_stream(n, (struct rest){ iov, count, 0 }, written);
    else
        error = write_message(n, iov, count, written);
    end_write_timeout(n);
    bh_mutex_unlock(&n->write_lock);
    rt_netfd_end(n);
    return error;
}

/* ---- files ---------------------------------------------------------------- */

struct file_rest {
    int    fd;
    off_t  offset;
    size_t size;
};

static ssize_t
call_sendfile(struct rt_netfd *n, void *arg)
{
    struct file_rest *r = arg;
    ssize_t put = sendfile(n->fd, r->fd, &r->offset, r->size < FILE_PIECE ? r->size : FILE_PIECE);

    return put < 0 ? -errno : put;
}

int
rt_netfd_sendfile(struct rt_netfd *n, int fd, int64_t offset, size_t size, size_t *written)
{
    struct file_rest r = { fd, offset, size };
    size_t           timed = 0;
    ssize_t          put = 1;
    int              error = rt_netfd_begin(n);

    if (error != 0)
        return error;
    bh_mutex_lock(&n->write_lock);
    while (r.size > 0 && (put = rt_netfd_do(n, RT_POLL_WRITE, call_sendfile, &r)) > 0) {
        r.size -= (size_t)put;
        *written += (size_t)put;
        timed += (size_t)put;
        if (timed >= FILE_TIMED) {
            end_write_timeout(n);
            timed = 0;
        }
    }
    end_write_timeout(n);
    bh_mutex_unlock(&n->write_lock);
    rt_netfd_end(n);
    return put > 0 ? 0 : put == 0 ? -EIO : (int)put;
}
