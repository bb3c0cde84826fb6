// The tests of bench/fibers.c that Boost.Fiber can do, with what is fastest for it:
// pooled stacks where fibers are short-lived, work stealing where there are two threads.
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include <boost/fiber/all.hpp>

namespace fibers = boost::fibers;
using channel = fibers::unbuffered_channel<int64_t>;

static const int yields = 2500000, spawns = 1000000, trips = 1000000, cross_trips = 20000,
                 leaves = 1000000, tree_depth = 17, leaf_steps = 500, locks = 50000000,
                 parked = 1000000;

static double
now()
{
    return std::chrono::duration<double, std::nano>(
               std::chrono::steady_clock::now().time_since_epoch()).count();
}

static double
resident()
{
    FILE *f = fopen("/proc/self/statm", "r");
    long  pages = 0;

    if (f == nullptr || fscanf(f, "%*s %ld", &pages) != 1)
        exit(1);
    fclose(f);
    return double(pages) * double(sysconf(_SC_PAGESIZE));
}

static void
print(const char *metric, double value)
{
    printf("%s\t%.4g\n", metric, value);
}

// Use memory and give it back: see bench_warm in bench.h.
static void
warm(size_t size)
{
    void *p = mmap(nullptr, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);

    if (p != MAP_FAILED)
        munmap(p, size);
}

static void
yield()
{
    auto loop = [] {
        for (int i = 0; i < yields; i++)
            boost::this_fiber::yield();
    };
    double        start = now();
    fibers::fiber a(loop), b(loop);

    a.join();
    b.join();
    print("yield_ns", (now() - start) / (2.0 * yields));
}

static void
spawn()
{
    fibers::pooled_fixedsize_stack stacks;
    double                         start = now();

    for (int i = 0; i < spawns / 100; i++) {
        int                        left = 100;
        fibers::mutex              lock;
        fibers::condition_variable done;

        for (int k = 0; k < 100; k++)
            fibers::fiber(std::allocator_arg, stacks, [&] {
                if (--left == 0)
                    done.notify_one();
            }).detach();
        std::unique_lock<fibers::mutex> held(lock);
        done.wait(held, [&] { return left == 0; });
    }
    print("spawn_ns", (now() - start) / spawns);
}

static void
pong(channel &there, channel &back, int n)
{
    for (int i = 0; i < n; i++)
        back.push(there.value_pop());
}

static void
ping(channel &there, channel &back, int n)
{
    for (int i = 0; i < n; i++) {
        there.push(i);
        back.value_pop();
    }
}

static void
pingpong()
{
    channel       there, back;
    fibers::fiber other([&] { pong(there, back, trips); });
    double        start = now();

    ping(there, back, trips);
    print("pingpong_ns", (now() - start) / trips);
    other.join();
}

static void
cross()
{
    channel     there, back;
    std::thread other([&] { pong(there, back, cross_trips); });
    double      start = now();

    ping(there, back, cross_trips);
    print("cross_us", (now() - start) / cross_trips / 1e3);
    other.join();
}

static void
skynet_node(channel &up, int64_t number, int64_t size)
{
    if (size == 1) {
        up.push(number);
        return;
    }
    channel sums;
    int64_t sum = 0;

    for (int i = 0; i < 10; i++)
        fibers::fiber(fibers::launch::post, [&sums, number, size, i] {
            skynet_node(sums, number + i * (size / 10), size / 10);
        }).detach();
    for (int i = 0; i < 10; i++)
        sum += sums.value_pop();
    up.push(sum);
}

// Runs body on the first thread while `threads` threads take fibers from one another.
template <typename Body>
static void
stealing(unsigned threads, Body body)
{
    std::mutex               lock;
    std::atomic<bool>        over{ false };
    fibers::condition_variable_any wake;
    std::vector<std::thread> others;

    for (unsigned i = 1; i < threads; i++)
        others.emplace_back([&, threads] {
            fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(threads);
            std::unique_lock<std::mutex> held(lock);
            wake.wait(held, [&] { return over.load(); });
        });
    if (threads > 1)
        fibers::use_scheduling_algorithm<fibers::algo::work_stealing>(threads);
    body();
    {
        std::lock_guard<std::mutex> held(lock);
        over = true;
    }
    wake.notify_all();
    for (auto &t : others)
        t.join();
}

static void
skynet(unsigned threads)
{
    stealing(threads, [=] {
        channel top;
        double  start = now();

        fibers::fiber(fibers::launch::post, [&top] { skynet_node(top, 0, leaves); }).detach();
        if (top.value_pop() != int64_t(leaves) * (leaves - 1) / 2)
            abort();
        print(threads == 1 ? "skynet_1p_ms" : "skynet_2p_ms", (now() - start) / 1e6);
    });
}

static uint64_t
work(uint64_t x, int steps)
{
    for (int i = 0; i < steps; i++) {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
    }
    return x;
}

static uint64_t
fork(int depth)
{
    if (depth == 0)
        return work(UINT64_C(88172645463325252), leaf_steps);

    uint64_t      left, right;
    fibers::fiber a([&] { left = fork(depth - 1); }), b([&] { right = fork(depth - 1); });

    a.join();
    b.join();
    return left + right;
}

static void
forkjoin(unsigned threads)
{
    stealing(threads, [=] {
        double start = now();

        if (fork(tree_depth) != work(UINT64_C(88172645463325252), leaf_steps) << tree_depth)
            abort();
        print(threads == 1 ? "forkjoin_1p_ms" : "forkjoin_2p_ms", (now() - start) / 1e6);
    });
}

static fibers::mutex lock;
static volatile int  guarded;

static void
mutex()
{
    double start = now();

    for (int i = 0; i < locks; i++) {
        lock.lock();
        guarded = i;
        lock.unlock();
    }
    print("mutex_ns", (now() - start) / locks);
}

static void
park()
{
    fibers::mutex              lock;
    fibers::condition_variable gate;
    bool                       open = false;
    int                        left = parked;
    warm(size_t(12) << 30);

    double before = resident(), start = now();

    for (int i = 0; i < parked; i++) {
        fibers::fiber([&] {
            std::unique_lock<fibers::mutex> held(lock);
            gate.wait(held, [&] { return open; });
            left--;
        }).detach();
        if (i % 100 == 99)
            boost::this_fiber::yield();
    }
    boost::this_fiber::yield();
    print("park_us", (now() - start) / parked / 1e3);
    print("park_bytes", (resident() - before) / parked);
    start = now();
    open = true;
    gate.notify_all();
    while (left > 0)
        boost::this_fiber::yield();
    print("wake_ns", (now() - start) / parked);
}

int
main(int argc, char **argv)
{
    const char *test = argc > 1 ? argv[1] : "";

    if (!strcmp(test, "yield")) yield();
    else if (!strcmp(test, "spawn")) spawn();
    else if (!strcmp(test, "pingpong")) pingpong();
    else if (!strcmp(test, "cross")) cross();
    else if (!strcmp(test, "skynet1")) skynet(1);
    else if (!strcmp(test, "skynet2")) skynet(2);
    else if (!strcmp(test, "forkjoin1")) forkjoin(1);
    else if (!strcmp(test, "forkjoin2")) forkjoin(2);
    else if (!strcmp(test, "mutex")) mutex();
    else if (!strcmp(test, "park")) park();
    else return fputs("usage: fibers TEST\n", stderr), 2;
    return 0;
}
