/* target.c -- goroutines in several states, for test.sh to look at in gdb. */

#include <bulkhead/go/chan.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>

#include <stdatomic.h>
#include <stdlib.h>

static struct bh_chan *never;
static _Atomic bool    spinning;
static volatile int   *volatile nil;
static bool            die;

__attribute__((noinline)) static void
look_here(int number)
{
    __asm__ volatile("" : : "r"(number) : "memory");
}

__attribute__((noinline)) static int
receive_deep(int depth)
{
    volatile int local = depth * 100;

    if (depth > 0)
        return receive_deep(depth - 1) + local;
    bh_recv(never, NULL);
    return local;
}

static void
receiver(void *args)
{
    (void)args;
    bh_set_name("receiver");
    (void)receive_deep(2);
}

static void
sleeper(void *args)
{
    (void)args;
    bh_sleep(1000 * BH_SECOND);
}

static void
spinner(void *args)
{
    (void)args;
    atomic_store(&spinning, true);
    while (atomic_load(&spinning))
        continue;
}

static int
compare(const void *a, const void *b)
{
    look_here(2);
    return *(const int *)a - *(const int *)b;
}

static void
deferred(void *args)
{
    (void)args;
    look_here(3);
}

static void
fault(void)
{
    BH_RECOVER(p) {
        (void)p;
        return;
    }
    BH_DEFER(deferred, NULL);
    *nil = 1;
}

static void
start(void *args)
{
    int numbers[] = { 2, 1 };

    (void)args;
    never = BH_CHAN(int, 0);
    bh_go(receiver, NULL);
    bh_go(sleeper, NULL);
    bh_go(spinner, NULL);
    while (!atomic_load(&spinning))
        bh_yield();
    for (int i = 0; i < 100; i++)
        bh_yield();
    if (die)
        bh_panic("for a core file");
    look_here(1);
    qsort(numbers, 2, sizeof numbers[0], compare);
    fault();
    atomic_store(&spinning, false);
}

int
main(int argc, char **argv)
{
    (void)argv;
    die = argc > 1;
    return bh_main_with(&(struct bh_options){ .procs = 2 }, start, NULL);
}
