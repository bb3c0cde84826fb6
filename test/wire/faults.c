/*
 * faults.c -- preloaded into the server: lets its nth call of one function fail.
 *
 *     WIRE_FAULTS=/a/file LD_PRELOAD=faults.so wire-server
 *
 * The file is mapped, and is how the test says which call is to fail, and sees whether it
 * came to that.  A call that fails has done nothing; close has closed.  Error 0 means a
 * short transfer instead: one byte.  Only one call fails until the test arms it again, or,
 * if it asks for that, every one from the nth on.
 *
 * Calls that the C library makes of its own functions do not pass here.
 */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

/* In the order of NAMES in faults.py. */
enum call {
    NONE,
    ACCEPT,
    RECV,
    SEND,
    READ,
    WRITE,
    READV,
    WRITEV,
    SENDMSG,
    SENDFILE,
    EPOLL_CTL,
    EPOLL_WAIT,
    MMAP,
    MPROTECT,
    OPEN,
    SOCKET,
    BIND,
    LISTEN,
    SETSOCKOPT,
    GETSOCKNAME,
    SHUTDOWN,
    FCNTL,
    CLOSE,
    EVENTFD,
    EPOLL_CREATE,
    MALLOC,
    CALLOC,
    REALLOC,
    THREAD,
    CALLS
};

struct order {
    _Atomic uint32_t call;  /* enum call; NONE: nothing fails */
    _Atomic int32_t  nth;   /* from 1; counted down */
    _Atomic int32_t  error; /* 0: a short transfer */
    _Atomic uint32_t all;   /* all later ones too */
    _Atomic uint32_t hits;  /* how many have failed */
    _Atomic uint32_t seen[CALLS];
};

static struct order *order;

__attribute__((constructor)) static void
map_orders(void)
{
    const char *path = getenv("WIRE_FAULTS");
    int         fd = path != NULL ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void       *map;

    if (fd < 0)
        return;
    map = mmap(NULL, sizeof *order, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    if (map != MAP_FAILED)
        order = map;
}

/* Whether this call is to fail: with errno, or if *shorter (where that can be) be short. */
static bool
fails(enum call call, bool *shorter)
{
    int32_t nth, error;

    if (order == NULL)
        return false;
    atomic_fetch_add_explicit(&order->seen[call], 1, memory_order_relaxed);
    if (atomic_load(&order->call) != call)
        return false;
    nth = atomic_fetch_sub(&order->nth, 1);
    if (nth != 1 && !(nth < 1 && atomic_load(&order->all)))
        return false;
    atomic_fetch_add(&order->hits, 1);
    error = atomic_load(&order->error);
    if (error == 0 && shorter != NULL)
        *shorter = true;
    else
        errno = error;
    return error != 0;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* name(parameters), failing with -1. */
#define SIMPLE(call, type, name, parameters, ...)                                              \
    type name parameters                                                                       \
    {                                                                                          \
        static __typeof__(&name) real;                                                         \
                                                                                               \
        if (real == NULL)                                                                      \
            real = REAL(name);                                                                 \
        return fails(call, NULL) ? (type)-1 : real(__VA_ARGS__);                               \
    }

/* The same for a transfer of `size` bytes, which may be short. */
#define TRANSFER(call, name, parameters, size, ...)                                            \
    ssize_t name parameters                                                                    \
    {                                                                                          \
        static __typeof__(&name) real;                                                         \
        bool                     shorter = false;                                              \
                                                                                               \
        if (real == NULL)                                                                      \
            real = REAL(name);                                                                 \
        if (fails(call, &shorter))                                                             \
            return -1;                                                                         \
        if (shorter && size > 1)                                                               \
            size = 1;                                                                          \
        return real(__VA_ARGS__);                                                              \
    }

TRANSFER(READ, read, (int fd, void *data, size_t size), size, fd, data, size)
TRANSFER(WRITE, write, (int fd, const void *data, size_t size), size, fd, data, size)
TRANSFER(RECV, recv, (int fd, void *data, size_t size, int flags), size, fd, data, size, flags)
TRANSFER(SEND, send, (int fd, const void *data, size_t size, int flags), size, fd, data, size,
         flags)
TRANSFER(READV, readv, (int fd, const struct iovec *v, int count), count, fd, v, count)
TRANSFER(WRITEV, writev, (int fd, const struct iovec *v, int count), count, fd, v, count)
TRANSFER(SENDFILE, sendfile, (int to, int from, off_t *at, size_t size), size, to, from, at,
         size)
SIMPLE(SENDMSG, ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), fd, m, flags)
SIMPLE(ACCEPT, int, accept4, (int fd, struct sockaddr *a, socklen_t *n, int flags), fd, a, n,
       flags)
SIMPLE(EPOLL_CTL, int, epoll_ctl, (int fd, int op, int on, struct epoll_event *e), fd, op, on,
       e)
SIMPLE(EPOLL_WAIT, int, epoll_wait, (int fd, struct epoll_event *e, int n, int ms), fd, e, n,
       ms)
SIMPLE(EPOLL_WAIT, int, epoll_pwait2,
       (int fd, struct epoll_event *e, int n, const struct timespec *t, const sigset_t *s), fd,
       e, n, t, s)
SIMPLE(EPOLL_CREATE, int, epoll_create1, (int flags), flags)
SIMPLE(EVENTFD, int, eventfd, (unsigned n, int flags), n, flags)
SIMPLE(MMAP, void *, mmap, (void *a, size_t n, int p, int f, int fd, off_t o), a, n, p, f, fd,
       o)
SIMPLE(MPROTECT, int, mprotect, (void *a, size_t n, int p), a, n, p)
SIMPLE(SOCKET, int, socket, (int family, int type, int protocol), family, type, protocol)
SIMPLE(BIND, int, bind, (int fd, const struct sockaddr *a, socklen_t n), fd, a, n)
SIMPLE(LISTEN, int, listen, (int fd, int n), fd, n)
SIMPLE(SETSOCKOPT, int, setsockopt, (int fd, int level, int name, const void *v, socklen_t n),
       fd, level, name, v, n)
SIMPLE(GETSOCKNAME, int, getsockname, (int fd, struct sockaddr *a, socklen_t *n), fd, a, n)
SIMPLE(GETSOCKNAME, int, getpeername, (int fd, struct sockaddr *a, socklen_t *n), fd, a, n)
SIMPLE(SHUTDOWN, int, shutdown, (int fd, int how), fd, how)

int
close(int fd)
{
    static __typeof__(&close) real;
    int                       error = errno;

    if (real == NULL)
        real = REAL(close);
    if (!fails(CLOSE, NULL))
        return real(fd);
    error = errno;
    (void)real(fd);
    errno = error;
    return -1;
}

int
fcntl(int fd, int command, ...)
{
    static __typeof__(&fcntl) real;
    va_list                   list;
    long                      arg;

    if (real == NULL)
        real = REAL(fcntl);
    va_start(list, command);
    arg = va_arg(list, long);
    va_end(list);
    return fails(FCNTL, NULL) ? -1 : real(fd, command, arg);
}

int
open(const char *path, int flags, ...)
{
    static __typeof__(&open) real;
    va_list                  list;
    unsigned                 mode;

    if (real == NULL)
        real = REAL(open);
    va_start(list, flags);
    mode = va_arg(list, unsigned);
    va_end(list);
    return fails(OPEN, NULL) ? -1 : real(path, flags, mode);
}

int
pthread_create(pthread_t *t, const pthread_attr_t *a, void *(*fn)(void *), void *arg)
{
    static __typeof__(&pthread_create) real;

    if (real == NULL)
        real = REAL(pthread_create);
    return fails(THREAD, NULL) ? errno : real(t, a, fn, arg);
}

/* The runtime receives and sends so. */
long wire_syscall(long number, long a, long b, long c, long d, long e,
                  long f) __asm__("syscall");

long
wire_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    static long (*real)(long, ...);
    bool shorter = false;

    if (real == NULL)
        real = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_recvfrom || number == SYS_sendto) {
        if (fails(number == SYS_recvfrom ? RECV : SEND, &shorter))
            return -1;
        if (shorter && c > 1)
            c = 1;
    }
    return real(number, a, b, c, d, e, f);
}

/* ---- memory: dlsym needs it itself ------------------------------------------------------ */

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *old, size_t size);

void *
malloc(size_t size)
{
    return fails(MALLOC, NULL) ? NULL : __libc_malloc(size);
}

void *
calloc(size_t count, size_t size)
{
    return fails(CALLOC, NULL) ? NULL : __libc_calloc(count, size);
}

void *
realloc(void *old, size_t size)
{
    return fails(REALLOC, NULL) ? NULL : __libc_realloc(old, size);
}
