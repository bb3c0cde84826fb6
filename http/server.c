/*
 * server.c -- a server's life: options, listening, accepting, draining.
 *
 *     new --listen--> listening --serve--> serving --stop--> draining --> done
 *
 * One goroutine per listener accepts; each connection gets a goroutine of its own,
 * with a large stack because handlers call foreign code.
 *
 * Draining: what the listeners have queued is still accepted, then they close; idle
 * connections have drain_grace for a request that is on its way, then close; busy ones
 * send "Connection: close" with their reply.  So a client loses no request, unless it takes
 * longer than that.  At drain_timeout the requests' contexts are cancelled and the
 * connections closed, which wakes whoever waits in one.  A handler that still runs a second
 * later is left alone, and the server's memory with it.
 *
 * Without descriptors nothing can be accepted, and clients would wait in the queue for ever.
 * So each acceptor keeps one in reserve: giving it up, it accepts one client, and if there is
 * none to take its place, tells that client 503 and takes the descriptor back.
 */

#include "ht.h"
#include "proxy.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <malloc.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    FORCE_TIME_S = 1,
    ACCEPT_PAUSE_MS = 50, /* without descriptors, memory */
    ACCEPT_LAST_MS = 5,   /* for handshakes that are under way, when draining */
    REFUSE_TIME_MS = 20,  /* for a client to take its 503 when descriptors are out */
};

static const char unavailable[] = "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\n"
                                  "Retry-After: 1\r\nContent-Length: 0\r\n\r\n";

/* ---- making one ------------------------------------------------------------------ */

static void
fill_defaults(struct bh_http_options *o)
{
#define DEFAULT(field, value)                                                                  \
    if (o->field == 0)                                                                         \
    o->field = (value)
    DEFAULT(max_line, 8 << 10);
    DEFAULT(max_head, 32 << 10);
    DEFAULT(max_fields, 100);
    DEFAULT(max_body, 1 << 20);
    DEFAULT(max_memory, 16 << 20);
    DEFAULT(max_connections, 10000);
    DEFAULT(head_timeout, 10 * BH_SECOND);
    DEFAULT(body_timeout, 30 * BH_SECOND);
    DEFAULT(body_rate, 4 << 10);
    DEFAULT(write_timeout, 30 * BH_SECOND);
    DEFAULT(idle_timeout, 60 * BH_SECOND);
    DEFAULT(drain_timeout, 10 * BH_SECOND);
    DEFAULT(drain_grace, 50 * BH_MILLISECOND);
    DEFAULT(stack_size, 256 << 10);
#undef DEFAULT
}

struct bh_http_server *
bh_http_server_new(const struct bh_http_options *options)
{
    struct bh_http_server *s;

    if (options != NULL)
        ht_proxy_check(options->proxy_protocol);
    s = calloc(1, sizeof *s);
    if (s == NULL)
        bh_panic("http: out of memory for a server");
    if (options != NULL)
        s->o = *options;
    fill_defaults(&s->o);
    ht_groups_init(s);
    s->limits = (struct ht_limits){ s->o.max_line, s->o.max_head, s->o.max_fields };
    s->ctx = bh_ctx_cancellable(bh_ctx_background());
    s->stop = BH_CHAN(char, 0);
    s->drained = BH_CHAN(char, 0);
    s->gone = BH_CHAN(char, 1);
    return s;
}

static bool in_use(struct bh_http_server *s);

void
bh_http_server_free(struct bh_http_server *s)
{
    if (s == NULL)
        return;
    BH_REQUIRE(!atomic_load(&s->serving));
    if (in_use(s))
        return; /* handlers that would not end still use it */
    for (int i = 0; i < s->listener_count; i++) {
        bh_listener_free(s->listeners[i].l);
        bh_tls_config_unref(s->listeners[i].tls);
    }
    ht_kit_free(s, atomic_load(&s->hot_kit));
    while (s->kits != NULL) {
        struct ht_kit *kit = s->kits;

        s->kits = kit->next;
        ht_kit_free(s, kit);
    }
    while (s->free_calls != NULL) {
        struct ht_call *x = s->free_calls;

        s->free_calls = x->next_free;
        free(x);
    }
    if (atomic_load(&s->hot_sub) != NULL)
        (void)ht_sub_free(atomic_load(&s->hot_sub));
    while (s->free_subs != NULL)
        s->free_subs = ht_sub_free(s->free_subs);
    ht_groups_free(s);
    ht_router_free(&s->router);
    bh_ctx_end(s->ctx);
    bh_chan_unref(s->stop);
    bh_chan_unref(s->drained);
    bh_chan_unref(s->gone);
    free(s->clients);
    free(s);
}

const char *
bh_http_address(struct bh_http_server *s)
{
    BH_REQUIRE(s->listener_count > 0);
    return bh_listener_address(s->listeners[0].l);
}

void
bh_http_stats(struct bh_http_server *s, struct bh_http_stats *stats)
{
    uint64_t ended = atomic_load(&s->ended), requests = atomic_load(&s->requests);

    *stats = (struct bh_http_stats){
        .requests = requests,
        .refused = atomic_load(&s->refused),
        .panics = atomic_load(&s->panics),
        .aborted = atomic_load(&s->aborted),
        .connections = atomic_load(&s->connections),
        .turned_away = atomic_load(&s->turned_away),
        .open = (uint64_t)atomic_load(&s->open),
        .active = requests - ended,
    };
}

/* ---- accepting ------------------------------------------------------------------- */

static void
note_peak(struct bh_http_server *s, int64_t open)
{
    int64_t peak = atomic_load_explicit(&s->peak, memory_order_relaxed);

    while (open > peak && !atomic_compare_exchange_weak(&s->peak, &peak, open))
        continue;
}

/* A crowd has left: its memory lies in malloc's free lists, of no use to anybody. */
static void
give_memory_back(struct bh_http_server *s)
{
    int64_t open = atomic_load(&s->open), peak = atomic_load(&s->peak);

    if (peak >= HT_TRIM_PEAK && open <= peak / 16 &&
        atomic_compare_exchange_strong(&s->peak, &peak, open))
        (void)malloc_trim(0);
}

/* One user of the server less.  It may be freed as soon as the counts say that nobody is left. */
static void
leave(struct bh_http_server *s, _Atomic int64_t *count)
{
    struct bh_chan *gone = bh_chan_ref(s->gone);

    atomic_fetch_sub(count, 1);
    (void)bh_try_send(gone, &(char){ 0 });
    bh_chan_unref(gone);
}

void
ht_server_conn_ended(struct bh_http_server *s)
{
    give_memory_back(s);
    leave(s, &s->open);
}

void
ht_server_background_ended(struct bh_http_server *s)
{
    leave(s, &s->background);
}

static bool
in_use(struct bh_http_server *s)
{
    /* In this order: a connection's request starts background work, not the other way. */
    return atomic_load(&s->open) > 0 || atomic_load(&s->background) > 0;
}

/* Tell a client that there is no room, without letting it hold anything for longer than that. */
static void
say_unavailable(struct bh_conn *io, int64_t timeout_ns)
{
    char sink[512];

    bh_conn_set_deadline(io, bh_now() + timeout_ns);
    if (bh_write(io, unavailable, sizeof unavailable - 1) > 0 &&
        bh_conn_shutdown_write(io) == 0)
        while (bh_read(io, sink, sizeof sink) > 0)
            continue;
}

static void
turn_away(void *args)
{
    struct ht_conn *k = *(struct ht_conn **)args;

    if (k->from->tls == NULL)
        say_unavailable(k->io.conn, BH_SECOND);
    atomic_fetch_sub(&k->s->turning_away, 1);
    ht_conn_end(k);
}

/* Go on with k on a goroutine of its own.  Returns: false if none could be had; k is gone. */
static bool
launch(struct ht_conn *k, bh_fn *fn)
{
    BH_RECOVER(p) {
        (void)p;
        ht_conn_end(k);
        return false;
    }
    bh_go(fn, &k);
    return true;
}

static void
start_conn(struct bh_http_server *s, const struct ht_listener *from, struct bh_conn *io)
{
    struct ht_conn *k = calloc(1, sizeof *k);

    if (k == NULL) {
        bh_conn_free(io);
        return;
    }
    k->s = s;
    k->from = from;
    k->io.conn = io;
    bh_conn_set_write_timeout(io, s->o.write_timeout);
    if (atomic_fetch_add(&s->open, 1) >= (int64_t)s->o.max_connections || !ht_client_enter(k)) {
        atomic_fetch_add(&s->turned_away, 1);
        if (atomic_load(&s->turning_away) >= HT_MAX_TURNING_AWAY) {
            ht_conn_end(k);
            return;
        }
        atomic_fetch_add(&s->turning_away, 1);
        if (!launch(k, turn_away))
            atomic_fetch_sub(&s->turning_away, 1);
        return;
    }
    note_peak(s, atomic_load_explicit(&s->open, memory_order_relaxed));
    atomic_fetch_add(&s->connections, 1);
    bh_mutex_lock(&s->lock);
    k->older = s->conns;
    if (s->conns != NULL)
        s->conns->newer = k;
    s->conns = k;
    bh_mutex_unlock(&s->lock);
    ht_conn_start(k);
}

struct accepting {
    struct bh_http_server *s;
    struct ht_listener    *from;
    struct bh_waitgroup   *done;
    int                    reserve; /* a descriptor, or -1 */
};

static void
end_accepting(struct accepting *a)
{
    bh_listener_close(a->from->l);
    if (a->reserve >= 0)
        close(a->reserve);
    bh_waitgroup_done(a->done);
}

/* Returns: whether there is a descriptor to spare. */
static bool
take_reserve(struct accepting *a)
{
    if (a->reserve < 0)
        a->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    return a->reserve >= 0;
}

static void
accepted(struct accepting *a, struct bh_conn *io)
{
    if (take_reserve(a)) {
        start_conn(a->s, a->from, io);
        return;
    }
    atomic_fetch_add(&a->s->turned_away, 1);
    if (a->from->tls == NULL)
        say_unavailable(io, REFUSE_TIME_MS * BH_MILLISECOND);
    bh_conn_free(io);
    (void)take_reserve(a);
}

/* Returns: whether to go on, after an error of accepting. */
static bool
accept_failed(struct accepting *a, int rc)
{
    if (rc == BH_ECLOSED || rc == BH_EDEADLINE)
        return false;
    if (rc == -ECONNABORTED || rc == -EPROTO)
        return true;
    if ((rc == -EMFILE || rc == -ENFILE) && a->reserve >= 0) {
        close(a->reserve);
        a->reserve = -1;
    } else {
        bh_sleep(ACCEPT_PAUSE_MS * BH_MILLISECOND); /* others must close */
    }
    return true;
}

/*
 * No more handshakes: what begins one is dropped, so that a client without an answer finds the
 * port closed when it asks again, instead of a connection that nobody has accepted.
 */
static void
drop_syns(int fd)
{
    enum { FLAGS = 13 /* byte of a TCP header */, SYN = 2, ACK = 16 };
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_B | BPF_ABS, FLAGS),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, SYN | ACK),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYN, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, 0),
        BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
    };
    struct sock_fprog program = { sizeof code / sizeof code[0], code };
    int               protocol = 0;
    socklen_t         size = sizeof protocol;

    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &size) == 0 &&
        protocol == IPPROTO_TCP)
        (void)setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &program, sizeof program);
}

/* Draining: those that have connected already shall not find it in vain. */
static void
accept_last(struct accepting *a)
{
    struct bh_listener *l = a->from->l;
    int64_t             end = bh_now() + a->s->o.drain_timeout;
    struct bh_conn     *io;

    drop_syns(bh_listener_fd(l));
    for (int64_t now = bh_now(); now < end; now = bh_now()) {
        bh_listener_set_deadline(l, now + ACCEPT_LAST_MS * BH_MILLISECOND);
        if (bh_accept(l, &io) < 0)
            return;
        accepted(a, io);
    }
}

static void
accept_loop(void *args)
{
    struct accepting *a = args;
    struct bh_conn   *io;
    int               rc;

    BH_DEFER(end_accepting, a);
    (void)take_reserve(a);
    do {
        rc = bh_accept(a->from->l, &io);
        if (rc == 0)
            accepted(a, io);
    } while (rc == 0 || accept_failed(a, rc));
    if (rc == BH_EDEADLINE && !a->from->shared)
        accept_last(a);
}

/* ---- draining -------------------------------------------------------------------- */

/* Returns: whether every connection, and all background work, ended in time. */
static bool
wait_gone(struct bh_http_server *s, int64_t timeout_ns)
{
    struct bh_timer *timer = bh_timer_new(timeout_ns);

    BH_DEFER(bh_timer_free, timer);
    while (in_use(s)) {
        enum { GONE, LATE };
        if (bh_select([GONE] = BH_RECV(s->gone, NULL), [LATE] = BH_RECV(bh_timer_chan(timer),
                                                                        NULL)) == LATE)
            return !in_use(s);
    }
    return true;
}

static void
each_conn(struct bh_http_server *s, void (*fn)(struct ht_conn *k))
{
    bh_mutex_lock(&s->lock);
    for (struct ht_conn *k = s->conns; k != NULL; k = k->older)
        fn(k);
    bh_mutex_unlock(&s->lock);
}

static void
close_conn(struct ht_conn *k)
{
    bh_conn_close(k->io.conn);
}

static void
start_drain(struct ht_conn *k)
{
    if (k->drain != NULL)
        k->drain(k->drain_arg);
    else
        ht_conn_wake(k);
}

static int
drain(struct bh_http_server *s)
{
    each_conn(s, start_drain);
    if (wait_gone(s, s->o.drain_timeout))
        return 0;
    bh_ctx_cancel(s->ctx);
    each_conn(s, close_conn);
    if (wait_gone(s, FORCE_TIME_S * BH_SECOND))
        return 0;
    return bh_fail(-ETIMEDOUT,
                   "http: %lld connections and %lld background goroutines still busy",
                   (long long)atomic_load(&s->open), (long long)atomic_load(&s->background));
}

/* ---- serving --------------------------------------------------------------------- */

int
bh_http_serve(struct bh_ctx *ctx, struct bh_http_server *s)
{
    struct bh_waitgroup done = { 0 };
    char                faults[1024];
    int                 rc;

    if (bh_http_check(s, faults, sizeof faults) > 0) {
        faults[strcspn(faults, "\n")] = '\0';
        return bh_fail(-EINVAL, "http: %s", faults);
    }
    if (s->listener_count == 0)
        return bh_fail(-EINVAL, "http: bh_http_serve without bh_http_listen");
    rc = ht_listeners_ready(s);
    if (rc < 0)
        return rc;
    ht_groups_freeze(s);
    ht_router_freeze(&s->router);
    BH_REQUIRE(!atomic_exchange(&s->serving, true));
    bh_waitgroup_add(&done, s->listener_count);
    for (int i = 0; i < s->listener_count; i++)
        bh_go(accept_loop, &(struct accepting){ s, &s->listeners[i], &done, -1 });

    (void)bh_select(BH_RECV(bh_ctx_done(ctx), NULL), BH_RECV(s->stop, NULL));
    atomic_store(&s->draining, true);
    bh_close(s->drained);
    for (int i = 0; i < s->listener_count; i++)
        bh_listener_set_deadline(s->listeners[i].l, bh_now());
    bh_waitgroup_wait(&done);
    rc = drain(s);
    atomic_store(&s->serving, false);
    return rc;
}

bool
bh_http_is_draining(struct bh_http_server *s)
{
    return atomic_load(&s->draining) || atomic_load(&s->stopped);
}

void
bh_http_stop(struct bh_http_server *s)
{
    if (!atomic_exchange(&s->stopped, true))
        bh_close(s->stop);
}

struct bh_chan *
bh_http_draining(struct bh_http_server *s)
{
    return s->drained;
}

/* ---- signals --------------------------------------------------------------------- */

struct watching {
    struct bh_http_server *s;
    struct bh_chan        *signals;
    struct bh_waitgroup   *done;
};

static void
watch_signals(void *args)
{
    struct watching *w = args;
    int              number = 0;

    BH_DEFER(bh_waitgroup_done, w->done);
    if (!bh_recv(w->signals, &number))
        return;
    bh_http_stop(w->s);
    if (bh_recv(w->signals, &number))
        bh_exit(128 + number);
}

int
bh_http_serve_until_signal(struct bh_http_server *s)
{
    struct bh_chan     *signals = BH_CHAN(int, 4);
    struct bh_waitgroup done = { 0 };
    int                 rc;

    BH_DEFER(bh_chan_unref, signals);
    rc = bh_signal_notify(signals, SIGTERM);
    if (rc == 0)
        rc = bh_signal_notify(signals, SIGINT);
    if (rc < 0)
        return rc;
    bh_waitgroup_add(&done, 1);
    bh_go(watch_signals, &(struct watching){ s, signals, &done });
    rc = bh_http_serve(bh_ctx_background(), s);
    bh_signal_stop(signals);
    bh_close(signals);
    bh_waitgroup_wait(&done);
    return rc;
}
