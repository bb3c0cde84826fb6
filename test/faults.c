/*
 * faults.c -- stands between our libraries and the C library.
 *
 * The linker makes every call of f in our objects one of __wrap_f, and __real_f the C
 * library's (ld --wrap).  `armed` says which kind of call is to fail, `left` how many there are
 * until then; the call that takes it from 1 to 0 is the one.
 */

#include "faults.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

const char *const fault_names[FAULT_CALLS] = {
    "nothing",   "allocate",   "receive",  "send",  "sendfile", "accept",
    "epoll_ctl", "epoll_wait", "open",     "fstat", "pread",    "setsockopt",
    "socket",    "connect",    "shutdown", "mmap",  "mprotect", "pthread_create",
};

static _Atomic int armed, left, fault_error, failed;

void
fault_arm(enum fault_call call, int nth, int error)
{
    atomic_store(&failed, 0);
    atomic_store(&fault_error, error);
    atomic_store(&left, nth);
    atomic_store(&armed, (int)call);
}

int
fault_disarm(void)
{
    atomic_store(&armed, FAULT_NONE);
    return atomic_load(&failed);
}

/* Returns: whether this call is the one; errno is set. */
static bool
fails(enum fault_call call)
{
    if (atomic_load_explicit(&armed, memory_order_relaxed) != (int)call ||
        atomic_fetch_sub(&left, 1) != 1)
        return false;
    atomic_fetch_add(&failed, 1);
    errno = atomic_load(&fault_error);
    return true;
}

/* Declared and defined at once: these names are the linker's. */
#define WRAP(type, name, parameters, call, failure, arguments)                                 \
    type __real_##name parameters;                                                             \
    type __wrap_##name parameters;                                                             \
    type __wrap_##name parameters                                                              \
    {                                                                                          \
        return fails(call) ? (failure) : __real_##name arguments;                              \
    }

WRAP(void *, malloc, (size_t size), FAULT_ALLOCATE, NULL, (size))
WRAP(void *, calloc, (size_t count, size_t size), FAULT_ALLOCATE, NULL, (count, size))
WRAP(void *, realloc, (void *old, size_t size), FAULT_ALLOCATE, NULL, (old, size))
WRAP(ssize_t, recv, (int fd, void *to, size_t size, int flags), FAULT_RECEIVE, -1,
     (fd, to, size, flags))
WRAP(ssize_t, send, (int fd, const void *from, size_t size, int flags), FAULT_SEND, -1,
     (fd, from, size, flags))
WRAP(ssize_t, sendmsg, (int fd, const struct msghdr *m, int flags), FAULT_SEND, -1,
     (fd, m, flags))
WRAP(ssize_t, writev, (int fd, const struct iovec *v, int count), FAULT_SEND, -1,
     (fd, v, count))
WRAP(ssize_t, sendfile, (int to, int from, off_t *offset, size_t size), FAULT_SENDFILE, -1,
     (to, from, offset, size))
WRAP(int, accept4, (int fd, struct sockaddr *a, socklen_t *size, int flags), FAULT_ACCEPT, -1,
     (fd, a, size, flags))
WRAP(int, epoll_wait, (int fd, struct epoll_event *e, int max, int ms), FAULT_EPOLL_WAIT, -1,
     (fd, e, max, ms))
WRAP(int, epoll_pwait2,
     (int fd, struct epoll_event *e, int max, const struct timespec *t, const sigset_t *set),
     FAULT_EPOLL_WAIT, -1, (fd, e, max, t, set))
WRAP(int, fstat, (int fd, struct stat *st), FAULT_STAT, -1, (fd, st))
WRAP(ssize_t, pread, (int fd, void *to, size_t size, off_t at), FAULT_PREAD, -1,
     (fd, to, size, at))
WRAP(int, setsockopt, (int fd, int level, int name, const void *value, socklen_t size),
     FAULT_OPTION, -1, (fd, level, name, value, size))
WRAP(int, getsockname, (int fd, struct sockaddr *a, socklen_t *size), FAULT_OPTION, -1,
     (fd, a, size))
WRAP(int, socket, (int family, int type, int protocol), FAULT_SOCKET, -1,
     (family, type, protocol))
WRAP(int, connect, (int fd, const struct sockaddr *a, socklen_t size), FAULT_CONNECT, -1,
     (fd, a, size))
WRAP(int, shutdown, (int fd, int how), FAULT_SHUTDOWN, -1, (fd, how))
WRAP(void *, mmap, (void *at, size_t size, int prot, int flags, int fd, off_t offset),
     FAULT_MMAP, MAP_FAILED, (at, size, prot, flags, fd, offset))
WRAP(int, mprotect, (void *at, size_t size, int prot), FAULT_MPROTECT, -1, (at, size, prot))
WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *a, void *(*fn)(void *), void *arg),
     FAULT_THREAD, errno, (thread, a, fn, arg))

/* Taking a descriptor away must work. */
int __real_epoll_ctl(int fd, int what, int of, struct epoll_event *e);
int __wrap_epoll_ctl(int fd, int what, int of, struct epoll_event *e);
int
__wrap_epoll_ctl(int fd, int what, int of, struct epoll_event *e)
{
    return what == EPOLL_CTL_ADD && fails(FAULT_EPOLL_ADD) ? -1
                                                           : __real_epoll_ctl(fd, what, of, e);
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, unsigned mode);
int
__wrap_open(const char *path, int flags, unsigned mode)
{
    return fails(FAULT_OPEN) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int at, const char *path, int flags, ...);
int __wrap_openat(int at, const char *path, int flags, unsigned mode);
int
__wrap_openat(int at, const char *path, int flags, unsigned mode)
{
    return fails(FAULT_OPEN) ? -1 : __real_openat(at, path, flags, mode);
}

long __real_syscall(long number, ...);
long __wrap_syscall(long number, long a, long b, long c, long d, long e, long f);
long
__wrap_syscall(long number, long a, long b, long c, long d, long e, long f)
{
    if ((number == SYS_recvfrom && fails(FAULT_RECEIVE)) ||
        (number == SYS_sendto && fails(FAULT_SEND)) ||
        (number == SYS_openat2 && fails(FAULT_OPEN)))
        return -1;
    return __real_syscall(number, a, b, c, d, e, f);
}
