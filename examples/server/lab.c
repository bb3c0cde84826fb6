/*
 * lab.c -- eight ways to crash a request, and a page to watch the others live.
 *
 * Nothing in here guards itself: no handler recovers, and no check stands where
 * a check would have helped.  What keeps the server up is bh_http_recover alone.
 */

#include "lab.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/http.h>
#include <bulkhead/http/json.h>
#include <bulkhead/http/server.h>

/* The page, page.html byte for byte: one file, no build step, no copy at run time. */
extern const char lab_page[], lab_page_end[] __attribute__((visibility("hidden")));
__asm__(".pushsection .rodata\n"
        ".globl lab_page, lab_page_end\n"
        ".hidden lab_page, lab_page_end\n"
        "lab_page: .incbin \"examples/server/page.html\"\n"
        "lab_page_end: .byte 0\n"
        ".popsection");

static struct {
    int64_t         started;
    struct bh_mutex lock; /* /lab/mutex panics while it holds this */
    int             taken;
} lab;

/* ---- crashes ----------------------------------------------------------------- */

struct order {
    int  portions;
    char dish[32];
};

/* What a lookup returns that finds nothing; volatile, so that the compiler cannot tell. */
static struct order *volatile not_found = NULL;
static volatile int zero = 0;

static int
lab_null(struct bh_http_call *c, void *arg)
{
    struct order *order = not_found;

    (void)arg;
    return bh_http_reply(c, 200, "%d portions\n", order->portions);
}

/* Deeper and deeper, until the stack's guard page. */
__attribute__((noinline)) static int
descend(volatile char *above, int depth)
{
    volatile char here[256];

    here[depth % 256] = *above;
    if (depth >= 0)
        return descend(here, depth + 1) + here[0];
    return 0;
}

static int
lab_overflow(struct bh_http_call *c, void *arg)
{
    volatile char top = 1;

    (void)arg;
    return bh_http_reply(c, 200, "depth %d\n", descend(&top, 0));
}

static int
lab_divide(struct bh_http_call *c, void *arg)
{
    (void)arg;
    return bh_http_reply(c, 200, "%d each\n", 12 / zero);
}

static int
lab_assert(struct bh_http_call *c, void *arg)
{
    int portions = zero;

    (void)arg;
    assert(portions > 0);
    return bh_http_reply(c, 200, "%d portions\n", portions);
}

static int
lab_panic(struct bh_http_call *c, void *arg)
{
    (void)c;
    (void)arg;
    bh_panic("stock: %d left of %d ever made", 7, 5);
}

struct mail {
    char address[64];
};

static void
send_mail(struct bh_http_call *c, void *args)
{
    struct mail *mail = args;

    (void)c;
    bh_sleep(20 * BH_MILLISECOND); /* the reply is out by then */
    bh_panic("mail: no server for %s", mail->address);
}

static int
lab_background(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_go(c, send_mail, &(struct mail){ "ann@example.org" });
    return bh_http_reply(c, 202, "accepted; a mail goes out in the background\n");
}

/* Twenty lines are promised; ten reach the client before the eleventh crashes. */
static int
lab_half(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    for (int line = 1; line <= 20; line++) {
        bh_http_print(c, "line %2d of 20\n", line);
        if (line == 10) {
            bh_http_flush(c);
            bh_http_print(c, "%d portions\n", not_found->portions);
        }
    }
    return 0;
}

static int
lab_mutex(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_mutex_lock(&lab.lock);
    BH_DEFER(bh_mutex_unlock, &lab.lock);
    lab.taken++;
    return bh_http_reply(c, 200, "%d portions\n", not_found->portions);
}

/* The next one gets the lock: it was released on the way out of the panic. */
static int
lab_lock(struct bh_http_call *c, void *arg)
{
    int64_t before = bh_now();

    (void)arg;
    bh_mutex_lock(&lab.lock);
    BH_DEFER(bh_mutex_unlock, &lab.lock);
    return bh_http_reply(c, 200, "got the lock in %lld ns, after %d panics under it\n",
                         (long long)(bh_now() - before), lab.taken);
}

/* ---- what is seen of it -------------------------------------------------------- */

static void
add_report(struct bh_json_out *out, const struct bh_http_panic *r)
{
    char stack[8192];

    bh_http_panic_stack(r, stack, sizeof stack);
    bh_json_print(out,
                  "{\"number\":%llu,\"time_ms\":%lld,\"request\":%llu,\"goroutine\":%llu,"
                  "\"where\":%s,\"outcome\":%s,\"route\":%s,\"path\":%s,\"kind\":%s,"
                  "\"text\":%s,\"signal\":%d,\"stack\":%s}",
                  (unsigned long long)r->number, (long long)r->time_ms,
                  (unsigned long long)r->request, (unsigned long long)r->goroutine, r->where,
                  r->outcome, r->route, r->target, r->kind, r->text, r->signal, stack);
}

/* The report is only sent to who has not seen it: ?seen=NUMBER of the last one. */
static int
lab_state(struct bh_http_call *c, void *arg)
{
    struct bh_http_server *s = bh_http_server_of(c);
    struct bh_http_panic  *latest = bh_arena_alloc(c->arena, sizeof *latest);
    const char            *seen = bh_http_query(c, "seen");
    struct bh_json_out     out = { .arena = c->arena };
    struct bh_http_stats   stats;
    char                   number[24] = "0";
    bool                   any = bh_http_panics(s, latest, 1) == 1;

    (void)arg;
    bh_http_stats(s, &stats);
    if (any)
        (void)snprintf(number, sizeof number, "%llu", (unsigned long long)latest->number);
    bh_json_print(&out,
                  "{\"pid\":%d,\"uptime_ms\":%lld,\"goroutines\":%zu,\"procs\":%d,"
                  "\"requests\":%llu,\"panics\":%llu,\"aborted\":%llu,\"open\":%llu,"
                  "\"latest\":%llu,\"report\":",
                  (int)getpid(), (long long)((bh_now() - lab.started) / BH_MILLISECOND),
                  bh_goroutine_count(), bh_procs(), (unsigned long long)stats.requests,
                  (unsigned long long)stats.panics, (unsigned long long)stats.aborted,
                  (unsigned long long)stats.open,
                  any ? (unsigned long long)latest->number : 0ULL);
    if (any && (seen == NULL || strcmp(seen, number) != 0))
        add_report(&out, latest);
    else
        bh_json_print(&out, "null");
    bh_json_print(&out, "}\n");
    (void)bh_http_set_header(c, "Cache-Control", "no-store");
    return bh_http_reply_bytes(c, 200, "application/json", out.text, out.size);
}

static int
lab_index(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)bh_http_set_header(c, "Content-Security-Policy",
                             "default-src 'none'; style-src 'unsafe-inline'; "
                             "script-src 'unsafe-inline'; connect-src 'self'; img-src data:");
    (void)bh_http_set_header(c, "Cache-Control", "no-store");
    return bh_http_reply_bytes(c, 200, "text/html; charset=utf-8", lab_page,
                               (size_t)(lab_page_end - lab_page));
}

void
lab_routes(struct bh_http_server *s)
{
    lab.started = bh_now();
    bh_http_handle(s, "GET /", lab_index, NULL);
    bh_http_handle(s, "GET /lab/state", lab_state, NULL);
    bh_http_handle(s, "GET /lab/null", lab_null, NULL);
    bh_http_handle(s, "GET /lab/overflow", lab_overflow, NULL);
    bh_http_handle(s, "GET /lab/divide", lab_divide, NULL);
    bh_http_handle(s, "GET /lab/assert", lab_assert, NULL);
    bh_http_handle(s, "GET /lab/panic", lab_panic, NULL);
    bh_http_handle(s, "GET /lab/background", lab_background, NULL);
    bh_http_handle(s, "GET /lab/half", lab_half, NULL);
    bh_http_handle(s, "GET /lab/mutex", lab_mutex, NULL);
    bh_http_handle(s, "GET /lab/lock", lab_lock, NULL);
}
