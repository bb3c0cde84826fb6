#ifndef BULKHEAD_HTTP_CLIENT_HC_H
#define BULKHEAD_HTTP_CLIENT_HC_H

/*
 * hc.h -- PRIVATE: the HTTP client.
 *
 *     client.c    a request's way: redirects, retries
 *     request.c   what goes on the wire: checks, head, credentials
 *     pool.c      connections by origin: taking, waiting, giving back, dialling
 *     exchange.c  HTTP/1 on a connection: request out, head in
 *     upload.c    bodies that are sent while the reply may already come
 *     download.c  the body of a reply; gunzip.c: a compressed one
 *     response.c  reading a head; knows nothing of the rest, so that a fuzzer links it alone
 *     session.c   an HTTP/2 connection: frames in and out, its life
 *     stream.c    a request on one
 *
 *     bh_http_client_do --> hop (redirects) --> attempt (retries) --> exchange or stream
 *
 * Who touches what: a response and its connection belong to the goroutine that uses
 * them; the upload's goroutine only writes to the connection.  client->lock protects the
 * pool: hosts, their lists, counters.  It is held for list work only, never while something
 * blocks or calls out; and never taken with a session's lock held.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/client.h>
#include <bulkhead/http/url.h>

#include "response.h"
#include "head.h"
#include "io.h"

enum {
    HC_BUFFER = 16384,        /* input of a connection at first; grows to hold a head */
    HC_INLINE_BODY = 65536,   /* a body that is sent before the reply is looked at */
    HC_UPLOAD_BUFFER = 32768, /* of a source */
    HC_MAX_INTERIM = 16,      /* 1xx replies before the real one */
    HC_DRAIN_SIZE = 65536,    /* rest of a body read away to keep the connection */
    HC_MAX_TRAILERS = 16,     /* of a request */
    HC_BUCKETS = 64,          /* of hosts */
};

/* ---- pool.c ----------------------------------------------------------------------- */

/* A connection.  Idle: in two lists, under client->lock.  Else whoever took it owns it. */
struct hc_conn {
    struct hc_host *host;
    struct hc_conn *older, *newer;         /* of this host's idle ones */
    struct hc_conn *all_older, *all_newer; /* of the client's */
    struct ht_io    io;
    struct hc_h2 *h2; /* HTTP/2: shared, in no list, and of the rest only read_until is used */
    char         *in; /* bytes read and not yet used are [in_start, in_end); NULL while idle */
    size_t        in_size, in_start, in_end;
    bool          reused;
    bool          watched;   /* a context is set */
    bool          impatient; /* reads take what is there, else fail with -EAGAIN */
    int64_t       idle_since;
    int64_t       read_until; /* the read deadline; 0 none, -1 some */
};

struct hc_waiter {
    struct hc_waiter *next;
    struct bh_chan   *ready; /* of bare signals, capacity 1 */
    struct hc_conn   *conn;  /* once granted: a connection, or NULL for leave to dial */
    bool              granted;
};

/* All there is of one origin; exists while anything does. */
struct hc_host {
    struct hc_host   *next; /* in its bucket */
    struct hc_conn   *idle; /* newest first */
    struct hc_waiter *waiters, **waiters_end;
    unsigned          open;    /* connections, those being dialled included */
    unsigned          users;   /* requests that look at it */
    struct hc_h2     *h2;      /* takes more requests; a reference.  NULL: none */
    bool              probing; /* the one connection that is being dialled may become h2 */
    bool              http1;   /* the last one was HTTP/1 */
    bool              tls;
    uint16_t          port;
    char              name[]; /* the host */
};

struct bh_http_client {
    struct bh_http_client_options o; /* defaults filled in; its strings are ours */
    struct bh_tls_config         *tls;

    struct bh_mutex  lock;
    struct hc_host  *hosts[HC_BUCKETS];
    struct hc_conn  *newest, *oldest; /* idle ones of all hosts */
    unsigned         idle, open;
    double           budget;           /* retries that may be made now */
    bool             closed, sweeping; /* the sweeper is armed */
    struct bh_timer *sweeper;

    _Atomic uint32_t refs; /* the owner's, and the armed sweeper's */
    _Atomic uint64_t busy; /* open responses and requests under way */
    _Atomic uint64_t requests, sent, retries, exhausted, stale, dials;
};

/*
 * hc_take -- a connection to the origin of url, from the pool or new.
 * Returns: 0; or an error of ctx, the name, the dial or TLS.
 */
int hc_take(struct bh_http_client *c, struct bh_ctx *ctx, const struct bh_url *url,
            struct hc_conn **k);
/* hc_retire -- h2 takes no more requests: forget it, dropping the pool's reference. */
void hc_retire(struct hc_h2 *h2);
/* hc_gone -- the session of k is over: close it. */
void hc_gone(struct bh_http_client *c, struct hc_conn *k);
/* hc_give -- done with k; reusable: between two messages, and both sides allow more. */
void hc_give(struct bh_http_client *c, struct hc_conn *k, bool reusable);
/* hc_sweeping_start -- make the sweeper. */
void hc_sweeping_start(struct bh_http_client *c);
void hc_client_unref(struct bh_http_client *c);

/* ---- a request under way ------------------------------------------------------------ */

struct hc_line { /* a field: of a request, or a trailer */
    struct hc_line *next;
    const char     *name, *value;
};

struct hc_upload;

/* One bh_http_client_do, and then its response: this is what the caller's struct is the start of. */
struct hc_res {
    struct bh_http_res     pub;
    struct bh_http_client *c;
    struct bh_ctx         *ctx; /* a reference */
    struct bh_arena       *arena;

    /* The request; changes with redirects. */
    struct bh_http_req        request; /* a copy: an upload may outlive bh_http_client_do */
    const struct bh_http_req *req;     /* that */
    struct bh_url             url;
    const char               *method;
    bool                      with_body;
    bool                      stripped;   /* what is secret is not sent any more */
    bool                      rewound;    /* the source is at its start */
    bool                      replayable; /* the body can be sent again */
    bool                      idempotent;

    /* An attempt. */
    struct hc_conn   *k;
    struct hc_stream *stream;   /* on k->h2 */
    struct hc_upload *upload;   /* while its goroutine may run */
    bool              began;    /* bytes of the request may have left */
    bool              unsent;   /* not all of the body has left */
    bool              answered; /* bytes of a reply have come */
    bool              refused;  /* not looked at, says the server */
    unsigned          refusals; /* so far, answered by trying at once */

    /* The reply. */
    struct hc_head    head;
    uint64_t          left; /* HC_BODY_LENGTH */
    struct ht_chunked chunked;
    char             *trailer_text;
    uint32_t          trailer_size;
    struct hc_line   *trailers;
    char             *whole;  /* of bh_http_res_body */
    struct hc_gunzip *gunzip; /* of a compressed body; else NULL */
    bool              done;   /* the body has been read to its end */
    int               error;  /* of reading it: stays */
};

/* ---- request.c ------------------------------------------------------------------------ */

/* hc_check -- is the request one that can be sent?  Returns: 0 or a noted error. */
int hc_check(const struct bh_http_req *req);
/* hc_request_header -- a field that the caller gave; NULL if absent. */
const char *hc_request_header(const struct bh_http_req *req, const char *name);
/* hc_request_fields -- what follows the request line, the host first; in the arena. */
struct hc_line *hc_request_fields(struct hc_res *x, bool http1);
/* hc_request_head -- the bytes of HTTP/1's head, in the arena. */
char *hc_request_head(struct hc_res *x, size_t *size);
/* hc_is_idempotent -- by method or Idempotency-Key. */
bool hc_is_idempotent(const struct bh_http_req *req, const char *method);

/* ---- exchange.c ------------------------------------------------------------------------- */

/* hc_no_reply -- the error that n, of a connection that ended before the head, comes to; noted. */
int hc_no_reply(struct hc_res *x, ssize_t n);
/* hc_exchange -- send the request on x->k, wait for the head.  Returns: 0 or an error. */
int hc_exchange(struct hc_res *x);
/* hc_read -- ht_io_read, or of an impatient one ht_io_try_read. */
ssize_t hc_read(struct hc_conn *k, void *buffer, size_t size);
/* hc_fill -- read more input.  Returns: bytes, 0 at the end, or an error. */
ssize_t hc_fill(struct hc_conn *k);
/* hc_read_deadline -- give the next reads `timeout` from now; 0: for ever. */
void hc_read_deadline(struct hc_conn *k, int64_t timeout);

/* ---- upload.c ----------------------------------------------------------------------------- */

/* hc_upload_start -- send the body from a goroutine. */
void hc_upload_start(struct hc_res *x);
/* hc_upload_head_came -- the reply's head is there: the upload's end says no more about deadlines. */
void hc_upload_head_came(struct hc_upload *u);
/* hc_upload_error -- why it failed, 0 if it has not; of the source only. */
int hc_upload_error(struct hc_upload *u, const char **note);
/*
 * hc_upload_end -- wait for it, breaking the connection off unless it is as good as over; free.
 * Returns: whether all of the request's body was sent, with an upload or without.
 */
bool hc_upload_end(struct hc_res *x);

/* ---- session.c, stream.c ------------------------------------------------------------------- */

/* hc_h2_new -- make k's session, and start it.  Returns: 0 or an error. */
int                    hc_h2_new(struct bh_http_client *c, struct hc_conn *k);
void                   hc_h2_ref(struct hc_h2 *h2);
void                   hc_h2_unref(struct hc_h2 *h2);
struct hc_conn        *hc_h2_conn(struct hc_h2 *h2);
struct bh_http_client *hc_h2_client(struct hc_h2 *h2);
/* hc_h2_is_retired -- it takes no more requests. */
bool hc_h2_is_retired(struct hc_h2 *h2);
/* hc_h2_close_if_idle -- say goodbye, unless there are streams. */
void hc_h2_close_if_idle(struct hc_h2 *h2);

/* hc_stream_exchange -- as hc_exchange, on x->k->h2. */
int hc_stream_exchange(struct hc_res *x);
/* hc_stream_read -- bytes of the body; 0 at its end; or an error. */
ssize_t hc_stream_read(struct hc_res *x, void *buffer, size_t size);
/* hc_stream_end -- leave it; reset, unless it is over. */
void hc_stream_end(struct hc_res *x);
/* From the upload's goroutine: bytes, and the end.  hc_stream_fail -- it can't go on. */
int  hc_stream_send(struct hc_stream *st, const void *data, size_t size);
int  hc_stream_send_end(struct hc_stream *st, const char *const *trailers);
void hc_stream_fail(struct hc_stream *st);

/* ---- download.c --------------------------------------------------------------------------- */

/* hc_read_body -- bytes of the body as they were sent; 0 at its end; or an error. */
ssize_t hc_read_body(struct hc_res *x, void *buffer, size_t size);
/* hc_body_start -- the head is read: get ready for the body. */
void hc_body_start(struct hc_res *x);
/* hc_release -- give the connection back, or close it if it can't serve again. */
void hc_release(struct hc_res *x);
/* hc_finish -- the same, having read what is left of a body if that is little. */
void hc_finish(struct hc_res *x);

/* ---- gunzip.c -------------------------------------------------------------------------- */

/* hc_gunzip_asks -- whether the request says, of the client's own accord, that gzip is welcome. */
bool    hc_gunzip_asks(const struct hc_res *x);
void    hc_gunzip_start(struct hc_res *x); /* if the body is compressed */
void    hc_gunzip_free(struct hc_res *x);
ssize_t hc_gunzip_read(struct hc_res *x, void *buffer, size_t size); /* as hc_read_body */

#endif
