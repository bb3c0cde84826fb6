/*
 * target.c -- a server with something in every profile, for test.py.
 *
 * Prints its address.  Ends when its input does.
 */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/contention.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sampling.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/http/server.h>
#include <bulkhead/observe/heap.h>
#include <bulkhead/observe/pprof.h>
#include <bulkhead/observe/profile.h>

enum { HERE = 200, THERE = 50, BLOCKED = 4 };

static struct bh_http_server *server;
static struct bh_chan        *never;

/* ---- goroutines ------------------------------------------------------------------ */

__attribute__((noinline)) static void
wait_here(void *args)
{
    (void)args;
    bh_recv(never, NULL); /* MARK wait_here */
}

__attribute__((noinline)) static void
wait_deeper(int depth)
{
    if (depth > 0)
        wait_deeper(depth - 1);
    else
        bh_recv(never, NULL);
    __asm__ volatile("");
}

static void
wait_there(void *args)
{
    (void)args;
    bh_set_label("tenant", "blue");
    wait_deeper(5);
}

static void
hold_thread(void *arg)
{
    char byte;

    (void)read(*(int *)arg, &byte, 1);
}

static void
block(void *args)
{
    (void)args;
    static int fds[2];

    if (fds[1] == 0 && pipe(fds) != 0)
        return;
    bh_blocking(hold_thread, &fds[0]);
}

static void
start_goroutines(void)
{
    never = BH_CHAN(int, 0);
    bh_tag_set(&(struct bh_tag){ .trace_id = { 0x11 }, .route = "GET /here" });
    for (int i = 0; i < HERE; i++)
        bh_go(wait_here, NULL);
    bh_tag_set(NULL);
    for (int i = 0; i < THERE; i++)
        bh_go(wait_there, NULL);
    for (int i = 0; i < BLOCKED; i++)
        bh_go(block, NULL);
}

/* ---- load ------------------------------------------------------------------------ */

static volatile double sink;

static int64_t
cpu_time(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline __attribute__((always_inline)) void
inner_loop(void)
{
    for (int i = 0; i < 2000; i++)
        sink = sink * 1.01 + i; /* MARK inner_loop */
}

__attribute__((noinline)) static void
burn_much(int64_t ns)
{
    for (int64_t end = cpu_time() + ns; cpu_time() < end;)
        inner_loop();
}

__attribute__((noinline)) static void
burn_little(int64_t ns)
{
    for (int64_t end = cpu_time() + ns; cpu_time() < end; sink = 0) /* not burn_much's twin */
        inner_loop();
}

/* 30 ms in burn_much and 10 in burn_little, each for a request of its own. */
static int
burn(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_tag_set(&(struct bh_tag){ .trace_id = { 0x22 }, .route = "GET /much" });
    burn_much(30000000);
    bh_tag_set(&(struct bh_tag){ .trace_id = { 0x33 }, .route = "GET /little" });
    burn_little(10000000);
    bh_tag_set(NULL);
    return bh_http_reply(c, 200, "burnt\n");
}

static int
spawn(struct bh_http_call *c, void *arg)
{
    (void)arg;
    for (int i = 0; i < 7; i++)
        bh_go(wait_here, NULL);
    return bh_http_reply(c, 200, "spawned\n");
}

/* ---- what the profiles are compared with ----------------------------------------- */

static bool
count_one(const struct bh_thread_info *t, void *arg)
{
    (void)t;
    (*(int *)arg)++;
    return true;
}

static int
counters(struct bh_http_call *c, void *arg)
{
    struct bh_cpu_stats  cpu;
    struct bh_http_stats http;
    int                  threads = 0;

    (void)arg;
    bh_cpu_stats_read(&cpu);
    bh_http_stats(server, &http);
    bh_threads(count_one, &threads);
    return bh_http_reply(
        c, 200,
        "{\"goroutines\": %lld, \"threads\": %d, \"active\": %llu,"
        " \"ticks\": %llu, \"samples\": %llu, \"dropped\": %llu, \"cost\": %llu}\n",
        (long long)bh_goroutine_count(), threads, (unsigned long long)http.active,
        (unsigned long long)cpu.ticks, (unsigned long long)cpu.samples,
        (unsigned long long)cpu.dropped, (unsigned long long)cpu.cost);
}

static char extra_text[] = "extra!";

static int
extra(struct bh_http_call *c, void *arg)
{
    return bh_http_reply(c, 200, "%s\n", (const char *)arg);
}

static int
cpu_switch(struct bh_http_call *c, void *arg)
{
    (void)arg;
    if (bh_http_query(c, "on") == NULL)
        bh_cpu_stop();
    else if (bh_cpu_start() != 0)
        return bh_http_reply(c, 500, "no\n");
    return bh_http_reply(c, 200, "done\n");
}

static void
end_with_input(void *arg)
{
    char byte;

    (void)arg;
    while (read(0, &byte, 1) > 0)
        continue;
}

static void
watch_input(void *args)
{
    (void)args;
    bh_blocking(end_with_input, NULL);
    bh_http_stop(server);
}

static void
run(void *args)
{
    (void)args;
    server = bh_http_server_new(NULL);
    bh_http_use(server, bh_http_recover, NULL);
    bh_http_handle(server, "GET /burn", burn, NULL);
    bh_http_handle(server, "GET /spawn", spawn, NULL);
    bh_http_handle(server, "GET /counters", counters, NULL);
    bh_http_handle(server, "GET /cpu", cpu_switch, NULL);
    bh_http_pprof_mount(server);
    if (bh_pprof_register_handler("extra", "one more", extra, extra_text) != 0 ||
        bh_pprof_register_handler("extra", "again", extra, extra_text) == 0)
        bh_panic("registering");
    if (bh_heap_profile_start(0) != 0 || bh_block_profile_rate(1) != 0 ||
        bh_mutex_profile_fraction(1) != 0)
        bh_panic("profiles");
    start_goroutines();
    bh_go(watch_input, NULL);
    if (bh_http_listen(server, "127.0.0.1:0") != 0)
        bh_panic("listen");
    printf("%s\n", bh_http_address(server));
    fflush(stdout);
    (void)bh_http_serve(bh_ctx_background(), server);
    bh_exit(0);
}

int
main(void)
{
    return bh_main(run, NULL);
}
