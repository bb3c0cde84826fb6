#ifndef BULKHEAD_HTTP_HT_H
#define BULKHEAD_HTTP_HT_H

/*
 * ht.h -- PRIVATE: the server, its connections and calls.
 *
 *     server.c   options, listening, accepting, draining, signals
 *     router.c   patterns, the tree of segments, the checks at start
 *     conn.c     a connection: requests one after another; idle without a goroutine
 *     body.c     reading the body of a request
 *     reply.c    building and sending the reply
 *     call.c     the chain, parameters, query, values, background work
 *     recover.c  the recover middleware and the reports it keeps
 *     log.c      the access log
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

enum {
    HT_IN_SIZE = 4096,         /* input buffer at first; grows to hold a head */
    HT_OUT_SIZE = 16384,       /* replies gathered before a write */
    HT_WRITE_SIZE = 65536,     /* most bytes under one write deadline */
    HT_STREAM_SIZE = 8192,     /* a streamed body's buffer */
    HT_DISCARD_SIZE = 262144,  /* unread body read away to keep a connection */
    HT_LINGER_SIZE = 1048576,  /* input read away before closing */
    HT_MAX_STEPS = 64,         /* middlewares */
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

/* ---- router.c ------------------------------------------------------------- */

struct ht_segment {
    const char *text; /* literal, or the parameter's name */
    enum { HT_LITERAL, HT_PARAM, HT_REST } kind;
};

struct ht_route {
    char             *pattern, *method; /* "GET /a/{b}", "GET" */
    char             *text;             /* what segments point into */
    struct ht_segment segments[HT_MAX_SEGMENTS];
    int               segment_count;
    int               param_count;
    bh_http_fn       *fn;
    void             *arg;
    struct ht_place   place;
    const char       *fault; /* of the pattern: static text; NULL if it is good */
};

struct ht_node;

struct ht_router {
    struct ht_route **routes;
    int               count, cap;
    struct ht_node   *root; /* built by ht_router_freeze, as is the next */
    const struct ht_route **exact; /* routes without parameters, hashed by path */
    uint32_t          exact_mask;
};

struct ht_match {
    const struct ht_route *route;         /* NULL: none for the method */
    const char            *params[HT_MAX_PARAMS]; /* still escaped; not terminated */
    uint32_t               lengths[HT_MAX_PARAMS];
    bool                   path_known;    /* some method has it */
};

void ht_router_add(struct ht_router *r, const char *pattern, bh_http_fn *fn, void *arg,
                   const struct ht_place *place);
void ht_router_freeze(struct ht_router *r);
void ht_router_free(struct ht_router *r);
/* ht_router_match -- find the route; arena for a path that needs unescaping. */
void ht_router_match(const struct ht_router *r, const char *method, const char *path,
                     struct bh_arena *arena, struct ht_match *m);
/* ht_router_allow -- "GET, HEAD, OPTIONS" for a known path, into the arena. */
const char *ht_router_allow(const struct ht_router *r, const char *path, struct bh_arena *arena);

/* ---- server.c --------------------------------------------------------------- */

struct ht_step {
    bh_http_fn     *fn;
    void           *arg;
    struct ht_place place;
    bool            observer;
    int             routes_before; /* routes registered before it */
};

struct ht_reports {
    struct bh_mutex      lock;
    uint64_t             count;
    struct bh_http_panic kept[BH_HTTP_PANICS_KEPT];
};

struct bh_http_server {
    struct bh_http_options o; /* defaults filled in */
    struct ht_limits       limits;
    struct ht_step         steps[HT_MAX_STEPS];
    int                    step_count, observer_count;
    struct ht_router       router;

    struct bh_listener *listeners[HT_MAX_LISTENERS];
    int                 listener_count;
    struct bh_ctx      *ctx; /* of all requests; cancelled at the end of draining */
    struct bh_chan     *stop; /* closed by bh_http_stop */
    _Atomic bool        stopped, serving, draining;
    struct bh_chan     *gone; /* a connection ended while draining */

    struct bh_mutex  lock;
    struct ht_conn  *conns; /* newest first */
    struct ht_kit   *kits;  /* of idle connections, for the next busy one */
    _Atomic(struct ht_kit *) hot_kit; /* one of them, to be had without the lock */
    int              kit_count;
    struct ht_call  *free_calls;
    _Atomic int64_t  open, active, turning_away;
    _Atomic int64_t  background; /* goroutines of bh_http_go: they use the server too */
    _Atomic int64_t  peak; /* of open, since memory was last given back */
    _Atomic uint64_t next_id;
    _Atomic uint64_t requests, refused, panics, aborted, connections, turned_away;
    struct ht_reports reports;
};

/* ht_server_conn_ended -- the connection is gone from the list and freed. */
void ht_server_conn_ended(struct bh_http_server *s);
/* ht_server_background_ended -- a background goroutine is done with the server. */
void ht_server_background_ended(struct bh_http_server *s);

/* ---- conn.c ----------------------------------------------------------------- */

/* What a connection needs only while it is busy; idle ones give theirs to the server. */
struct ht_kit {
    struct ht_kit   *next;  /* in the server's list */
    struct bh_arena *arena; /* for the next call, or NULL */
    struct ht_call  *call;  /* the next call itself, or NULL */
    char            *in;    /* bytes read and not yet used are [k->in_start, k->in_end) */
    char            *out;   /* bytes to write */
    size_t           in_size, out_size;
    int64_t          second;      /* what the texts stand for */
    char             date[40];    /* "Date: Wed, 25 Nov 2026 10:31:07 GMT\r\n" */
    char             stamp[24];   /* "2026-11-25T10:31:07" */
};
/* ht_kit_set_time -- make the texts those of `second`. */
void ht_kit_set_time(struct ht_kit *kit, int64_t second);

struct ht_conn {
    struct bh_http_server *s;
    struct bh_conn        *io;
    struct ht_conn        *older, *newer; /* s->conns, under s->lock */
    _Atomic uint32_t       idle;          /* waits for a request: conn.c */
    uint32_t               requests;
    int64_t                idle_until;    /* the read deadline, if that is the idle one; or 0 */

    struct ht_kit *kit; /* NULL while idle */
    size_t         in_start, in_end;
    size_t         out_length;
    int            error; /* of a write: nothing more goes out */

    struct ht_call *call; /* in progress, or NULL */
};

/* ht_conn_start -- wait for the first request; takes k over. */
void ht_conn_start(struct ht_conn *k);
void ht_kit_free(struct bh_http_server *s, struct ht_kit *kit); /* NULL is a no-op */
void ht_conn_end(struct ht_conn *k); /* close, unlink, free */
/* ht_fill -- read more input.  Returns: bytes, 0 at the end, or an error.  Flushes output first. */
ssize_t ht_fill(struct ht_conn *k, int64_t deadline);
/* ht_conn_wake -- make an idle connection notice that the server drains. */
void ht_conn_wake(struct ht_conn *k);

/* ---- call.c --------------------------------------------------------------------- */

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
    struct ht_conn     *k;
    _Atomic uint64_t    owner; /* goroutine that may reply; 0: nobody */
    _Atomic uint32_t    refs;  /* the handler's, and one for each background goroutine */
    struct bh_arena    *arena;
    struct bh_ctx      *ctx; /* NULL until asked for */

    struct ht_head      head;
    int                 step; /* next step of the chain */
    int                 step_count;
    bh_http_fn         *handler;
    void               *handler_arg;
    struct ht_value    *values;

    /* body.c */
    uint64_t            body_left, body_read;
    int64_t             body_since;
    struct ht_chunked   chunked;
    bool                body_done, continued;
    int                 body_error;
    const char         *body_data; /* of bh_http_body */
    ssize_t             body_size;

    /* reply.c */
    enum ht_reply_state reply;
    bool                keep;     /* the connection goes on after it */
    bool                bodyless; /* HEAD, 204, 304: the head only */
    bool                send_chunked;
    int64_t             length;  /* announced; -1 unknown */
    const char         *type;
    const void         *body;    /* HT_REPLY_GIVEN */
    char               *buffer;  /* HT_REPLY_STARTED and after */
    size_t              buffered; /* bytes of body, or in buffer */
    struct ht_line     *lines, **lines_end;

    /* From here on a new call is not cleared: set by the router, if match.route is. */
    struct ht_match     match;
    const char         *params[HT_MAX_PARAMS]; /* unescaped */
};

struct ht_call *ht_call_new(struct ht_conn *k);
/* ht_call_recycle -- an unused call's memory, for the server's list. */
void            ht_call_recycle(struct bh_http_server *s, struct ht_call *x);
void            ht_call_end(struct ht_call *x);   /* the handler's side is over */
void            ht_call_unref(struct ht_call *x);
/* ht_own -- the private part, having checked that this goroutine may reply. */
struct ht_call *ht_own(struct bh_http_call *c);
/* ht_next -- bh_http_next by the owner. */
int             ht_next(struct ht_call *x);
/* ht_run -- the first `steps` steps of the chain, then handler. */
int             ht_run(struct ht_call *x, int steps, bh_http_fn *handler, void *arg);

/* ---- body.c ----------------------------------------------------------------------- */

void ht_body_init(struct ht_call *x);
/* ht_body_discard -- read away what the handler left.  Returns: whether that was all. */
bool ht_body_discard(struct ht_call *x);
bool ht_body_is_short(const struct ht_call *x); /* worth discarding */

/* ---- reply.c ---------------------------------------------------------------------- */

/* ht_reply_error -- replace whatever is there, if nothing is out yet, by a status and a reason. */
void ht_reply_error(struct ht_call *x, int status, const char *reason);
/* ht_reply_settle -- the handler is done: see that there is a whole reply or a broken one. */
void ht_reply_settle(struct ht_call *x, int rc);
/* ht_reply_finish -- send what there is.  Returns: 0, or an error if the connection must end. */
int  ht_reply_finish(struct ht_call *x);
void ht_break(struct ht_call *x); /* the client must see a broken transfer */
int  ht_out(struct ht_conn *k, const void *data, size_t size);
int  ht_flush(struct ht_conn *k);

/* ht_put, ht_put_number -- append text or digits at `at`.  Returns: behind them. */
char *ht_put(char *at, const char *text);
char *ht_put_number(char *at, uint64_t number);

/* ---- recover.c ---------------------------------------------------------------------- */

/* What a panic leaves behind, noted by a deferred call while its stack is intact. */
struct ht_caught {
    bool      done; /* it did not panic */
    int       frame_count;
    uintptr_t frames[BH_HTTP_PANIC_FRAMES];
};
void ht_note_stack(struct ht_caught *caught); /* to be deferred around what may panic */
/* ht_report -- keep a report.  x: the call it happened in, or NULL. */
void ht_report(struct bh_http_server *s, const struct ht_call *x, const struct bh_panic *p,
               const struct ht_caught *caught, const char *where, const char *outcome);

#endif
