# The linker leads these calls of our libraries' through the test, which lets some of them fail.
sweep.calls := malloc calloc realloc syscall recv send sendmsg writev sendfile accept4 epoll_ctl \
               epoll_wait epoll_pwait2 open openat fstat pread setsockopt getsockname socket \
               connect shutdown mmap mprotect pthread_create
comma := ,
$O/http/fault_sweep_test: LDFLAGS += $(sweep.calls:%=-Wl$(comma)--wrap=%)
$O/http/fault_sweep_test: $O/test/faults.c.o
