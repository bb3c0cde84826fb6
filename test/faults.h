#ifndef BULKHEAD_TEST_FAULTS_H
#define BULKHEAD_TEST_FAULTS_H

/*
 * faults.h -- let the nth system call or allocation of one kind fail.
 *
 * Only calls that our own libraries make, and the test: the program is linked with --wrap
 * (http/sweep.mk).  A call that fails has done nothing.
 */

enum fault_call {
    FAULT_NONE,
    FAULT_ALLOCATE, /* malloc, calloc, realloc */
    FAULT_RECEIVE,
    FAULT_SEND, /* send, sendmsg, writev */
    FAULT_SENDFILE,
    FAULT_ACCEPT,
    FAULT_EPOLL_ADD,
    FAULT_EPOLL_WAIT,
    FAULT_OPEN, /* open, openat, openat2 */
    FAULT_STAT,
    FAULT_PREAD,
    FAULT_OPTION, /* setsockopt, getsockname */
    FAULT_SOCKET,
    FAULT_CONNECT,
    FAULT_SHUTDOWN,
    FAULT_MMAP,
    FAULT_MPROTECT,
    FAULT_THREAD,
    FAULT_CALLS,
};

extern const char *const fault_names[FAULT_CALLS];

/* fault_arm -- the nth call from now on fails with this error. */
void fault_arm(enum fault_call call, int nth, int error);
/* fault_disarm -- Returns: how many calls have failed since fault_arm, 0 or 1. */
int fault_disarm(void);

#endif
