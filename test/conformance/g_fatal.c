/*
 * g_fatal.c -- G: fatal errors run no deferred call and cannot be recovered;
 * and the faults that are panics after all.
 *
 * Stack overflow (G13), a truncated mapping (G31) and a lack of memory (G29)
 * kill a Go program; here they are panics (docs/adr/0007-what-traps-panics.md).
 */

#include "cases.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/own.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

static void
try_recover(void *unused)
{
    (void)unused;
    show("recovered", bh_recover());
}

TWIN(G01, "deadlock-main-blocked")
{
    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    BH_DEFER(say_text, "deferred must not run");
    bh_recv(BH_CHAN(int, 0), NULL);
}

TWIN(G02, "deadlock-select-no-cases")
{
    bh_select_n(NULL, 0);
}

TWIN(G03, "deadlock-nil-channel")
{
    bh_recv((struct bh_chan *)NULL, NULL);
}

TWIN(G04, "deadlock-nil-channel-send")
{
    bh_send((struct bh_chan *)NULL, &(int){ 1 });
}

TWIN(G05, "deadlock-mutex")
{
    struct bh_mutex mu = { 0 };

    bh_mutex_lock(&mu);
    bh_mutex_lock(&mu);
}

TWIN(G06, "deadlock-waitgroup")
{
    struct bh_waitgroup wg = { 0 };

    bh_waitgroup_add(&wg, 1);
    bh_waitgroup_wait(&wg);
}

struct sender {
    struct bh_chan *chan;
};

static void
send_1_and_2(void *args)
{
    struct sender *s = args;

    bh_send(s->chan, &(int){ 1 });
    bh_send(s->chan, &(int){ 2 });
}

TWIN(G07, "deadlock-all-of-several")
{
    struct sender   s = { BH_CHAN(int, 0) };
    struct bh_mutex mu = { 0 };

    for (int i = 0; i < 2; i++)
        bh_go(send_1_and_2, &s);
    bh_recv(s.chan, NULL);
    bh_recv(s.chan, NULL);
    bh_mutex_lock(&mu);
    bh_mutex_lock(&mu);
}

static void
sleep_100_ms(void *unused)
{
    (void)unused;
    bh_sleep(100 * BH_MILLISECOND);
}

TWIN(G08, "no-deadlock-report-while-a-sleeper-exists")
{
    bh_go(sleep_100_ms, NULL);
    BH_DEFER(say_text, "deferred must not run");
    bh_select_n(NULL, 0);
}

static void
select_nothing(void *unused)
{
    (void)unused;
    bh_select_n(NULL, 0);
}

TWIN(G09, "leaked-goroutine-is-no-deadlock")
{
    bh_go(select_nothing, NULL);
    bh_yield();
    say("main ends");
}

__attribute__((noinline)) static int
overflow(int n)
{
    volatile char pad[1024];

    if (n < 0)
        return 0;
    pad[n % 1024] = (char)n;
    return overflow(n + 1) + pad[(n + 1) % 1024];
}

TWIN(G13, "stack-overflow")
{
    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    overflow(0);
}

TWIN(G14, "unlock-of-unlocked-mutex")
{
    struct bh_mutex mu = { 0 };

    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    BH_DEFER(say_text, "deferred must not run");
    bh_mutex_unlock(&mu);
}

TWIN(G16, "unlock-of-unlocked-rwmutex")
{
    struct bh_rwmutex mu = { 0 };

    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    bh_rwmutex_unlock(&mu);
}

TWIN(G17, "negative-waitgroup-is-a-panic")
{
    struct bh_waitgroup wg = { 0 };

    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    bh_waitgroup_done(&wg);
}

TWIN(G18, "go-of-nil-func")
{
    bh_fn *volatile f = NULL;

    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    bh_go(f, NULL);
    bh_select_n(NULL, 0);
}

static int *
wild(void)
{
    return (int *)((char *)nil() + 0xdead0000);
}

TWIN(G20, "fault-at-wild-address")
{
    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    *wild() = 1;
}

static void
show_address(void *unused)
{
    const struct bh_panic *p = bh_recover();

    (void)unused;
    show("recovered", p);
    say("Addr() = %#lx", (unsigned long)p->fault_addr);
}

TWIN(G21, "fault-at-wild-address-panic-on-fault")
{
    BH_RETURNS_VOID;
    BH_DEFER(show_address, NULL);
    bh_panic_on_fault(true);
    *wild() = 1;
}

struct done {
    struct bh_chan *chan;
};

static void
ask_inherited(void *args)
{
    BH_RETURNS_VOID;
    BH_DEFER(bh_close, ((struct done *)args)->chan);
    BH_DEFER(try_recover, NULL);
    say("child inherits: %s", yes_no(bh_panic_on_fault(false)));
}

TWIN(G22, "panic-on-fault-is-per-goroutine")
{
    struct done done = { BH_CHAN(bool, 0) };

    bh_panic_on_fault(true);
    bh_go(ask_inherited, &done);
    bh_recv(done.chan, NULL);
    say("parent still: %s", yes_no(bh_panic_on_fault(true)));
}

TWIN(G23, "small-nil-offset-is-nil-deref")
{
    long *p = nil();

    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    p[7] = 1;
}

TWIN(G24, "sent-sigsegv-from-outside")
{
    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    kill(getpid(), SIGSEGV);
    bh_sleep(BH_SECOND);
    say("not reached");
}

TWIN(G25, "sigquit-dump")
{
    BH_DEFER(say_text, "deferred must not run");
    kill(getpid(), SIGQUIT);
    bh_sleep(BH_SECOND);
}

TWIN(G26, "sigterm-default")
{
    BH_DEFER(say_text, "deferred must not run");
    kill(getpid(), SIGTERM);
    bh_sleep(BH_SECOND);
}

TWIN(G27, "sigterm-caught-runs-defers")
{
    struct bh_chan *c = BH_CHAN(int, 1);
    int             number;

    bh_signal_notify(c, SIGTERM);
    BH_DEFER(say_text, "deferred runs");
    kill(getpid(), SIGTERM);
    bh_recv(c, &number);
    say("got %s", number == SIGTERM ? "terminated" : "something else");
}

TWIN(G29, "out-of-memory")
{
    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    say("%p", bh_alloc((size_t)1 << 46));
}

TWIN(G31, "bus-error-on-truncated-mmap")
{
    int fd = memfd_create("x", MFD_CLOEXEC);

    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    if (ftruncate(fd, 8192) != 0)
        abort();
    volatile char *b = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (ftruncate(fd, 0) != 0)
        abort();
    b[5000] = 1;
}

TWIN(G32, "waitgroup-reused-early")
{
    struct bh_waitgroup wg = { 0 };

    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    bh_waitgroup_add(&wg, 1);
    bh_waitgroup_done(&wg);
    bh_waitgroup_add(&wg, -1);
}

TWIN(G33, "fatal-error-in-deferred-hides-the-pending-panic")
{
    struct bh_mutex mu = { 0 };

    BH_DEFER(bh_mutex_unlock, &mu); /* never locked: fatal while the panic is in flight */
    bh_panic("the real cause");
}

static void
unlock_unlocked(void *unused)
{
    struct bh_mutex mu = { 0 };

    (void)unused;
    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    bh_mutex_unlock(&mu);
}

TWIN(G34, "recover-does-not-help-after-a-fatal-in-another-goroutine")
{
    BH_RETURNS_VOID;
    BH_DEFER(try_recover, NULL);
    bh_go(unlock_unlocked, NULL);
    bh_sleep(BH_SECOND);
    say("must not print");
}
