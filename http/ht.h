#ifndef BULKHEAD_HTTP_HT_H
#define BULKHEAD_HTTP_HT_H

/*
 * ht.h -- PRIVATE: the server, its connections and calls.
 *
 *     server.c    options, listening, accepting, draining, signals
 *     pattern.c   "GET example.com/a/{b}"; router.c: the trees of segments
 *     group.c     groups of routes, their chains; check.c: the checks at start
 *     clients.c   connections of each client
 *     conn.c      a connection's life: idle without a goroutine, turns, kits of buffers
 *     http1.c     HTTP/1 on a connection: heads in, the wire of its calls
 *     http2.c     HTTP/2 on a connection: see h2.h
 *     dispatch.c  what to run for a request whose head is there
 *     call.c      the chain, parameters, query, values
 *     body.c      the body of a request
 *     reply.c     the reply of a request, and the filters its body passes
 *     recover.c   the recover middleware and the reports it keeps
 *     log.c       the access log
 *
 *     server --> conn --> http1, http2 --> dispatch --> chain --> body, reply --> wire
 *
 * Who touches what: a connection and its call belong to the goroutine that serves it.
 * Others reach them only through the server's list (draining) and through a
 * reference to the call (bh_http_go).  server->lock protects the list of
 * connections and the free list of calls; reports->lock the reports.  Neither is held
 * while calling out, and no code holds both.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/http.h>
#include <bulkhead/http/server.h>

#include "head.h"
#include "io.h"

enum {
    HT_IN_SIZE = 4096,         /* input buffer at first; grows to hold a head */
    HT_OUT_SIZE = 16384,       /* replies gathered before a write */
    HT_WRITE_SIZE = 65536,     /* most bytes under one write deadline */
    HT_STREAM_SIZE = 8192,     /* a streamed body's buffer */
    HT_DISCARD_SIZE = 262144,  /* unread body read away to keep a connection */
    HT_LINGER_SIZE = 1048576,  /* input read away before closing */
    HT_MAX_STEPS = 64,         /* middlewares of a group */
    HT_MAX_SEGMENTS = 32,      /* of a path */
    HT_MAX_PARAMS = 8,         /* of a route */
    HT_MAX_LISTENERS = 8,
    HT_MAX_KITS = 128,         /* kept of idle connections: 20 KB each */
    HT_MAX_TURNING_AWAY = 64,  /* goroutines telling clients 503 */
    HT_TRIM_PEAK = 1024,       /* connections from which on memory is given back */
};
#define HT_LINGER_TIME (2 * BH_SECOND)

/* A place in the application's source, for messages. */
struct ht_place {
    const char *name, *file;
    int         line;
};

/* ---- pattern.c ------------------------------------------------------------------- */

struct ht_segment {
    const char *text; /* literal, or the parameter's name */
    enum { HT_LITERAL, HT_PARAM, HT_REST } kind;
};

/* "GET {sub}.example.com/a/{b}", or the prefix of a group. */
struct ht_pattern {
    char             *source; /* as it was written, behind its group's prefix */
    char             *text;   /* what the rest points into */
    const char       *method; /* "": any */
    const char       *host;   /* "": any; lower case; after "{sub}.", if there is that */
    const char       *sub;    /* the name in "{sub}.", or NULL */
    const char       *path;   /* in source */
    struct ht_segment segments[HT_MAX_SEGMENTS];
    int               segment_count;
    int               param_count; /* sub comes first */
    const char       *fault; /* static text; NULL if it is good */
};

/* ht_pattern_route -- parse what is written behind prefix, which may be "".  Panics: without memory. */
void ht_pattern_route(struct ht_pattern *p, const char *prefix, const char *text);
/* ht_pattern_prefix -- the same for the prefix of a group. */
void ht_pattern_prefix(struct ht_pattern *p, const char *prefix, const char *text);
void ht_pattern_fini(struct ht_pattern *p);

struct ht_call;

/* ---- router.c -------------------------------------------------------------------- */

struct ht_route {
    struct ht_pattern     p;
    bh_http_fn           *fn;
    void                 *arg;
    struct bh_http_group *group;
    struct ht_place       place;
};

struct ht_site;

struct ht_router {
    struct ht_route **routes;
    int               count;
    struct ht_site   *sites; /* by host, the first being for any; built by ht_router_freeze */
    int               site_count;
};

struct ht_match {
    const struct ht_route *route;         /* NULL: none for the method */
    const char            *params[HT_MAX_PARAMS]; /* still escaped; not terminated */
    uint32_t               lengths[HT_MAX_PARAMS];
    bool                   path_known;    /* some method has it */
};

/* ht_router_add -- Returns: the route, for the caller to fill in the rest. */
struct ht_route *ht_router_add(struct ht_router *r, const char *prefix, const char *pattern);
void             ht_router_freeze(struct ht_router *r);
void             ht_router_free(struct ht_router *r);
/* ht_router_match -- find the route; arena for a host and a path to be put into plain form. */
void ht_router_match(const struct ht_router *r, const char *method, const char *host,
                     const char *path, struct bh_arena *arena, struct ht_match *m);
/* ht_router_each -- call fn for the routes of every method for host and path. */
void ht_router_each(const struct ht_router *r, const char *host, const char *path,
                    struct bh_arena *arena, void (*fn)(const struct ht_route *route, void *arg),
                    void *arg);
/* ht_router_allow -- "GET, HEAD, OPTIONS" for a known path, into the arena. */
const char *ht_router_allow(const struct ht_router *r, const char *host, const char *path,
                            struct bh_arena *arena);
/* ht_more -- the array with room for one more behind count.  Panics: without memory. */
void *ht_more(void *array, int count, size_t size);

/* ---- group.c --------------------------------------------------------------------- */

struct ht_step {
    bh_http_fn            *fn;
    void                  *arg;
    struct ht_place        place;
    bool                   observer;
    const struct ht_route *after; /* the first route that it comes too late for, or NULL */
};

/* One step of a chain, as it is run. */
struct ht_link {
    bh_http_fn *fn;
    void       *arg;
    const char *name;
};

/* Routes with a prefix and middleware in common.  The server's own is s->root. */
struct bh_http_group {
    struct bh_http_server *s;
    struct bh_http_group  *parent; /* NULL: root */
    struct bh_http_group  *next;   /* in the order made, after root */
    struct ht_pattern      prefix; /* with the parent's */
    struct ht_place        place;
    struct ht_step        *steps; /* its own */
    int                    step_count, depth;
    const struct ht_route *first_route; /* in it or a group below, or NULL */
    struct ht_link        *chain; /* all steps from root to here; by ht_groups_freeze */
    int                    chain_length;
};

void ht_groups_init(struct bh_http_server *s);
void ht_groups_freeze(struct bh_http_server *s);
void ht_groups_free(struct bh_http_server *s);
/* ht_group_of -- whose middleware applies to a request for which no route was found. */
const struct bh_http_group *ht_group_of(struct ht_call *x);

/* ---- server.c -------------------------------------------------------------------- */

struct ht_reports {
    struct bh_mutex      lock;
    uint64_t             count;
    struct bh_http_panic kept[BH_HTTP_PANICS_KEPT];
};

struct ht_listener {
    struct bh_listener   *l;
    struct bh_tls_config *tls; /* a reference; NULL: in the clear */
    bool                  shared; /* the descriptor was given to us: others go on listening */
};

struct bh_http_server {
    struct bh_http_options o; /* defaults filled in */
    struct ht_limits       limits;
    struct bh_http_group   root; /* its steps are those of all requests */
    struct bh_http_group **groups_end;
    int                    observer_count;
    struct ht_router       router;

    struct ht_listener  listeners[HT_MAX_LISTENERS];
    int                 listener_count;
    struct bh_ctx      *ctx; /* of all requests; cancelled at the end of draining */
    struct bh_chan     *stop; /* closed by bh_http_stop */
    _Atomic bool        stopped, serving, draining;
    struct bh_chan     *drained; /* closed when draining starts */
    struct bh_chan     *gone; /* a connection ended while draining */

    struct bh_mutex  lock;
    struct ht_conn  *conns; /* newest first */
    struct ht_client **clients; /* clients.c; NULL without a limit */
    struct ht_kit   *kits;  /* of idle connections, for the next busy one */
    _Atomic(struct ht_kit *) hot_kit; /* one of them, to be had without the lock */
    int              kit_count;
    struct ht_call  *free_calls;
    struct ht_sub   *free_subs;
    _Atomic(struct ht_sub *) hot_sub; /* one of them, to be had without the lock */
    _Atomic int64_t  open, turning_away;
    _Atomic int64_t  background; /* goroutines of bh_http_go: they use the server too */
    _Atomic int64_t  peak; /* of open, since memory was last given back */
    _Atomic uint64_t requests, ended; /* the first is the newest one's id, too */
    _Atomic uint64_t refused, panics, aborted, connections, turned_away;
    struct ht_reports reports;
};

/* ht_server_conn_ended -- the connection is gone from the list and freed. */
void ht_server_conn_ended(struct bh_http_server *s);
/* ht_server_background_ended -- a background goroutine is done with the server. */
void ht_server_background_ended(struct bh_http_server *s);
/* ht_listeners_ready -- (listen.c) read the files of TLS now, not at the first client.
 * Returns: 0 or an error. */
int ht_listeners_ready(struct bh_http_server *s);

/* ---- conn.c ---------------------------------------------------------------------- */

/* What a connection needs only while it is busy; idle ones give theirs to the server. */
struct ht_kit {
    struct ht_kit   *next;  /* in the server's list */
    struct bh_arena *arena; /* for the next call, or NULL */
    struct ht_call  *call;  /* the next call itself, or NULL */
    char            *in;    /* bytes read and not yet used are [k->in_start, k->in_end) */
    char            *out;   /* bytes to write */
    struct ht_field *fields; /* of the head being read */
    size_t           in_size, out_size;
    int64_t          second;      /* what the texts stand for */
    char             date[40];    /* "Date: Wed, 25 Nov 2026 10:31:07 GMT\r\n" */
    char             stamp[24];   /* "2026-11-25T10:31:07" */
    char             host[64];    /* the last one that was found good; "" if none */
};
/* ht_kit_take, ht_kit_give -- one of the server's; a grown one is not kept.  Panics: without memory. */
struct ht_kit *ht_kit_take(struct bh_http_server *s);
void           ht_kit_give(struct bh_http_server *s, struct ht_kit *kit);
/* ht_kit_set_time -- make the texts those of `second`. */
void ht_kit_set_time(struct ht_kit *kit, int64_t second);

struct ht_conn {
    struct bh_http_server *s;
    const struct ht_listener *from;
    struct ht_io           io;
    struct ht_conn        *older, *newer; /* s->conns, under s->lock */
    _Atomic uint32_t       idle;          /* waits for a request: conn.c */
    uint32_t               requests;
    int64_t                idle_until;    /* the read deadline, if that is the idle one; or 0 */

    struct ht_kit *kit; /* NULL while idle */
    uint32_t       in_start, in_end;
    uint32_t       out_length;
    int            error; /* of a write: nothing more goes out */

    struct ht_call *call; /* in progress on HTTP/1, or NULL */
    struct ht_h2   *h2;   /* the session of HTTP/2, or NULL */
    char           *peer; /* as the PROXY protocol says; NULL: the socket's */

    /* What else to do when draining starts, called under s->lock: may not block.  Or NULL. */
    void (*drain)(void *arg);
    void  *drain_arg;
    bool   counted; /* by ht_client_enter */
    bool   greeted; /* its first bytes have been looked at: it is HTTP/1, or has h2 */
};

/* ht_conn_start -- wait for the first request; takes k over. */
void ht_conn_start(struct ht_conn *k);
/* ht_conn_arm -- the next turn is when there is input.  Returns: 0, k being the poller's; or an error. */
int ht_conn_arm(struct ht_conn *k);
void ht_kit_free(struct bh_http_server *s, struct ht_kit *kit); /* NULL is a no-op */
void ht_conn_end(struct ht_conn *k); /* close, unlink, free */
/* ht_conn_wake -- make an idle connection notice that the server drains; under s->lock. */
void ht_conn_wake(struct ht_conn *k);
/* ht_conn_on_drain -- set or, fn NULL, clear k's drain.  If it drains already, fn is called at once. */
void        ht_conn_on_drain(struct ht_conn *k, void (*fn)(void *arg), void *arg);
const char *ht_conn_peer(struct ht_conn *k);

/* ---- clients.c -------------------------------------------------------------- */

/* ht_client_enter -- one more of k's client.  Returns: false if that is too many, or without memory. */
bool ht_client_enter(struct ht_conn *k);
/* ht_client_leave -- before the end of k; under s->lock. */
void ht_client_leave(struct ht_conn *k);

/* What becomes of a connection after a request or a turn. */
enum ht_after {
    HT_NEXT,   /* on to the next request; idle if none is there */
    HT_CLOSE,  /* close */
    HT_LINGER, /* end our side, read on for a while, close */
    HT_RESET,  /* close so that the peer cannot take it for a clean end */
};

/* ---- http1.c --------------------------------------------------------------------- */

extern const struct ht_wire ht_http1_wire;
/* ht_http1_one -- read a request and answer it. */
enum ht_after ht_http1_one(struct ht_conn *k);
/* ht_fill -- read more input.  Returns: bytes, 0 at the end, or an error.  Flushes output first. */
ssize_t ht_fill(struct ht_conn *k, int64_t deadline);
/* ht_make_room -- room for input behind in_end. */
void    ht_make_room(struct ht_conn *k);
void    ht_linger(struct ht_conn *k);
int     ht_out(struct ht_conn *k, const void *data, size_t size);
int     ht_flush(struct ht_conn *k);

/*
 * ht_upgrade -- answer 101 and leave the connection to the handler, for ht_raw_read and
 * ht_raw_write; it is closed when the handler returns.  Header fields of the reply go along.
 * Returns: 0; -ENOTSUP if the request can't be upgraded (HTTP/2, HTTP/1.0, a body); an error of writing.
 */
int     ht_upgrade(struct ht_call *x, const char *protocol);
ssize_t ht_raw_read(struct ht_call *x, void *buffer, size_t size); /* as bh_read */
ssize_t ht_raw_write(struct ht_call *x, const void *data, size_t size);

/* ---- http2.c --------------------------------------------------------------------- */

/* ht_h2_start -- k speaks HTTP/2.  Returns: false without memory. */
bool ht_h2_start(struct ht_conn *k);
/* ht_h2_turn -- a turn of such a connection, which takes k over, ending it if need be. */
void ht_h2_turn(struct ht_conn *k);
void ht_h2_free(struct ht_conn *k); /* the session only; a no-op without one */

/* ---- dispatch.c ------------------------------------------------------------------ */

/* ht_dispatch -- run the chain for x, whose head is complete.  Panics: what escapes the chain. */
void ht_dispatch(struct ht_call *x);
/* ht_refuse -- answer a request that made no sense; observers see it. */
void ht_refuse(struct ht_call *x, int status, const char *reason);
/* ht_set_target -- check x->head's target and host, and fill in x->pub.  Returns: 0 or a negative status. */
int  ht_set_target(struct ht_call *x);
/*
 * ht_guard -- run fn(arg).  A panic that nothing inside recovers is reported, and *call, if
 * there is one then, broken off.  Returns: whether there was none.
 */
bool ht_guard(struct bh_http_server *s, struct ht_call *const *call, void (*fn)(void *), void *arg);

struct ht_caught;

/* ---- wire: how a call's body and reply travel ------------------------------------ */

/*
 * One for each protocol.  What sends returns 0 or the error that says the client is gone.
 * A reply whose call is over with pub.aborted set is the protocol's to break visibly.
 */
struct ht_wire {
    /* The head: pub.status, type, lines.  size: of the body, -1 unknown; see bodyless. */
    int (*head)(struct ht_call *x, int64_t size);
    /* Bytes of the body; may block while the client is slow. */
    int (*send)(struct ht_call *x, const void *data, size_t size);
    /* The same from a file; NULL or -ENOTSUP if the protocol can do no better than reading it. */
    int (*send_file)(struct ht_call *x, int fd, int64_t offset, int64_t size);
    int (*flush)(struct ht_call *x);
    /* The body is complete: its end, and the trailers. */
    int (*end)(struct ht_call *x);
    /* An interim reply: 100. */
    int (*interim)(struct ht_call *x, int status);
    /* Of the request's body: bytes; 0 at its end, body_done being set; or an error of bh_http_read. */
    ssize_t (*read)(struct ht_call *x, void *buffer, size_t size);
    /* x->ctx has just been made: from now on end it (ht_client_left) when the client leaves. */
    void (*watch)(struct ht_call *x);
    /* From another goroutine: who waits in read shall fail soon with BH_EDEADLINE. */
    void (*interrupt)(struct ht_call *x);
};

/* ---- call.c ---------------------------------------------------------------------- */

enum ht_reply_state {
    HT_REPLY_NONE,
    HT_REPLY_GIVEN,     /* whole body known, nothing sent */
    HT_REPLY_STARTED,   /* body comes piece by piece, nothing sent */
    HT_REPLY_COMMITTED, /* the head is out: no other reply is possible */
};

struct ht_line { /* a field of the reply */
    struct ht_line *next;
    const char     *name, *value;
};

struct ht_value {
    struct ht_value *next;
    const void      *key;
    void            *value;
};

/*
 * A call's memory is type-stable: it goes to the server's free list, never to
 * free(), so that a goroutine that kept `c` too long finds an owner that is not
 * itself, and panics by name instead of writing into a stranger's reply.
 */
struct ht_call {
    struct bh_http_call pub;
    struct ht_call     *next_free;
    struct bh_http_server *s;
    const struct ht_wire *wire;
    struct ht_conn     *k;      /* NULL once the handler's side is over */
    struct ht_kit      *kit;    /* the same; of the goroutine that runs it */
    void               *stream; /* the wire's own */
    _Atomic uint64_t    owner; /* goroutine that may reply; 0: nobody */
    _Atomic uint32_t    refs;  /* the handler's, and one for each background goroutine */
    struct bh_arena    *arena;
    struct bh_ctx      *ctx; /* NULL until asked for */
    struct bh_ctx      *work_ctx; /* of background goroutines; NULL before the first */
    struct ht_sub      *sub;      /* it is the inner half of a timed one: timeout.c */
    const struct ht_caught *carried; /* where the panic came from that a timed call passes on */
    struct ht_call     *adopted;  /* whose reply it sends; a reference until that is out */

    struct ht_head      head;
    const struct ht_link *chain;
    int                 step; /* the next one of the chain */
    int                 step_count;
    bh_http_fn         *handler;
    void               *handler_arg;
    struct ht_value    *values;

    /* body.c */
    uint64_t            body_read;
    size_t              max_body;
    bh_http_read_fn    *reader; /* what makes the body of what comes; NULL while it runs */
    void               *reader_arg;
    uint64_t            reader_made; /* bytes */
    int64_t             body_since;
    bool                body_done, continued;
    int                 body_error;
    const char         *body_reason; /* of body_error, if there is more to say */
    const char         *body_data; /* of bh_http_body */
    ssize_t             body_size;
    struct ht_line     *request_trailers;

    /* http1.c */
    uint64_t            body_left;
    struct ht_chunked   chunked;
    char               *trailer_text; /* of the request, so far */
    uint32_t            trailer_size;
    bool                keep;      /* the connection goes on after it */
    bool                send_chunked;
    bool                ends_conn; /* the end of the connection is the end of the body */
    bool                upgraded;
    void              (*at_end)(struct ht_call *x); /* of an upgraded one: by ht_call_end, or NULL */
    void               *at_end_arg;
    bool                watched;

    /* reply.c */
    enum ht_reply_state reply;
    bool                bodyless; /* HEAD, 204, 304: the head only */
    bool                ended;    /* the last of the body has passed the filters */
    int                 error;    /* of a write: nothing more goes out */
    int64_t             length;  /* announced; -1 unknown */
    const char         *type;
    const void         *body;    /* HT_REPLY_GIVEN */
    char               *buffer;  /* HT_REPLY_STARTED and after */
    size_t              buffered; /* bytes of body, or in buffer */
    struct ht_line     *lines, **lines_end;
    struct ht_line     *trailers, **trailers_end;
    struct ht_filter   *filters; /* innermost first */
    struct ht_filter   *passing; /* the one whose function runs */
    struct ht_collected *collected; /* where filtered bytes gather; NULL: they are sent */

    /* From here on a new call is not cleared: set by the router, if match.route is. */
    struct ht_match     match;
    const char         *params[HT_MAX_PARAMS]; /* unescaped */
};

/* ht_call_new -- kit: whose memory to use, or NULL.  peer: must outlive the call. */
/* ht_call_reset -- make x like new, in arena, but for pub, owner and refs. */
void            ht_call_reset(struct ht_call *x, struct bh_http_server *s, struct bh_arena *arena);
struct ht_call *ht_call_new(struct bh_http_server *s, struct ht_kit *kit, const struct ht_wire *wire,
                            const char *peer);
/* ht_call_recycle -- an unused call's memory, for the server's list. */
void            ht_call_recycle(struct bh_http_server *s, struct ht_call *x);
/* ht_call_end -- the handler's side is over; kit (or NULL) may have the memory. */
void            ht_call_end(struct ht_call *x, struct ht_kit *kit);
void            ht_call_unref(struct ht_call *x);
/* ht_own -- the private part, having checked that this goroutine may reply. */
struct ht_call *ht_own(struct bh_http_call *c);
/* ht_next -- bh_http_next by the owner. */
int             ht_next(struct ht_call *x);
/* ht_run -- the first `steps` steps of a group's chain, then handler. */
int             ht_run(struct ht_call *x, const struct bh_http_group *group, int steps,
                       bh_http_fn *handler, void *arg);

/* ---- middleware/timeout.c -------------------------------------------------------- */

void ht_sub_release(struct ht_sub *t); /* its call is over */
struct ht_call *ht_sub_outer(const struct ht_sub *t); /* the call that it is part of */
struct bh_ctx *ht_sub_ctx(struct ht_sub *t); /* a context for its call */
struct ht_sub *ht_sub_free(struct ht_sub *t); /* Returns: the next in the list */

/* ---- body.c ---------------------------------------------------------------------- */

/* ht_body_discard -- read away what the handler left.  Returns: whether that was all. */
bool ht_body_discard(struct ht_call *x);
/* ht_body_deadline -- when a body that is still coming is too slow. */
int64_t ht_body_deadline(const struct ht_call *x);
/* ht_body_fail -- note and return an error of the body; why is static. */
ssize_t ht_body_fail(struct ht_call *x, int code, const char *why);
/*
 * ht_body_refuse -- note what is wrong with a body that was read; why lives as long as the
 * call.  Returns: code.
 */
int ht_body_refuse(struct bh_http_call *c, int code, const char *why);

/* ---- reply.c --------------------------------------------------------------------- */

/* A filter of one reply. */
struct ht_filter {
    struct ht_filter            *next; /* further out */
    const struct bh_http_filter *fn;
    void                        *arg;
    bool                         active; /* its head did not skip */
};

/* ht_reply_error -- replace whatever is there, if nothing is out yet, by a status and a reason. */
void ht_reply_error(struct ht_call *x, int status, const char *reason);
/* ht_reply_begin -- send the head, the filters having their say.  ht_reply_pass -- bytes of the body. */
int  ht_reply_begin(struct ht_call *x, int64_t length);
int  ht_reply_pass(struct ht_call *x, const void *data, size_t size, enum bh_http_part part);
/* ht_reply_settle -- the handler is done: see that there is a whole reply or a broken one. */
void ht_reply_settle(struct ht_call *x, int rc);
/* ht_reply_filter -- let a reply that is whole pass the filters inside `until`, or end a started one. */
void ht_reply_filter(struct ht_call *x, struct ht_filter *until);
/* ht_reply_finish -- send what there is.  Returns: 0, or an error if the connection must end. */
int  ht_reply_finish(struct ht_call *x);
void ht_break(struct ht_call *x); /* the client must see a broken transfer */
/* ht_client_left -- end the context, if there is one: nobody waits for the reply. */
void ht_client_left(struct ht_call *x, int code);

/* ht_put, ht_put_number -- append text or digits at `at`.  Returns: behind them. */
char *ht_put(char *at, const char *text);
char *ht_put_number(char *at, uint64_t number);

/* ---- recover.c ------------------------------------------------------------------- */

/* What a panic leaves behind, noted by a deferred call while its stack is intact. */
struct ht_caught {
    bool      done; /* it did not panic, or another goroutine did, whose stack this is */
    int       frame_count;
    uintptr_t frames[BH_HTTP_PANIC_FRAMES];
};
void ht_note_stack(struct ht_caught *caught); /* to be deferred around what may panic */
/* ht_report -- keep a report.  x: the call it happened in, or NULL. */
void ht_report(struct bh_http_server *s, const struct ht_call *x, const struct bh_panic *p,
               const struct ht_caught *caught, const char *where, const char *outcome);

#endif
