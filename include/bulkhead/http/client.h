#ifndef BULKHEAD_HTTP_CLIENT_H
#define BULKHEAD_HTTP_CLIENT_H

/*
 * client.h -- requests to HTTP servers.
 *
 *     struct bh_http_client *client = bh_http_client_new(NULL);      one per program
 *     BH_DEFER(bh_http_client_free, client);
 *
 *     struct bh_http_res *res;
 *     int rc = bh_http_client_get(ctx, client, "https://example.com/list?n=3", &res);
 *     if (rc < 0)
 *         return rc;
 *     BH_DEFER(bh_http_res_close, res);
 *     const char *text;
 *     ssize_t size = bh_http_res_body(res, 1 << 20, &text);
 *
 * A client keeps connections for the next request to the same scheme, host and port;
 * while unused they hold no goroutine.  Everything a request does, from the dial to the
 * last byte of the body, fails with ctx's error once ctx ends: inside a handler pass
 * bh_http_ctx(c).  A reply of any status is a success: rc is 0, res->status says.
 *
 * Errors: -EINVAL (url, header), -EPROTONOSUPPORT, -EBADMSG (malformed reply), -EMSGSIZE
 * (over a limit), BH_EEOF (broken off), BH_EDEADLINE, BH_ECANCELED, -ELOOP (redirects),
 * -EPERM (a redirect from https to http), and those of net.h and tls.h; each with a note.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bh_ctx;
struct bh_http_client;
struct bh_tls_config;
struct hc_res;

/* Limits and times; zero means the default beside the field. */
struct bh_http_client_options {
    unsigned max_per_host;      /* connections to one scheme, host and port: 64; then requests wait */
    unsigned max_idle;          /* unused connections in all: 128; the oldest are closed */
    int64_t  idle_timeout;      /* ns, an unused connection is kept: 60 s */
    int64_t  connect_timeout;   /* ns, for name, dial and TLS: 15 s */
    int64_t  write_timeout;     /* ns, each write may wait: 30 s */
    int64_t  head_timeout;      /* ns, from the request to the head of the reply: 60 s */
    int64_t  read_timeout;      /* ns, each read of the body may wait: 60 s */
    int64_t  continue_timeout;  /* ns, to wait for "100 Continue": 1 s; then the body goes */
    int64_t  ping_interval;     /* ns, of silence with HTTP/2 requests open, then a PING; as long again
                                   without its answer breaks the connection: 15 s */
    size_t   max_head;          /* head of a reply, bytes: 64 KiB */
    unsigned max_fields;        /* header fields of a reply: 200 */
    unsigned max_redirects;     /* 10 */
    unsigned max_retries;       /* of a request: 2 */
    unsigned retry_percent;     /* retries per 100 requests, in the long run: 10 */
    int64_t  retry_delay;       /* ns, before the first retry, doubled for each next: 50 ms, less a
                                   random part */
    bool     no_redirects;      /* a redirect is the reply */
    bool     allow_downgrade;   /* follow a redirect from https to http */
    bool     no_retries;        /* not even these: see bh_http_client_do */
    bool     retry_statuses;    /* 502, 503 and 504 are failures worth a retry too */
    bool     no_http2;          /* do not offer HTTP/2 over TLS */
    bool     h2c;               /* speak HTTP/2 in the clear with http: URLs */
    bool     gzip;              /* ask for compressed bodies and unpack them, unless a request has
                                   an Accept-Encoding or a Range of its own */
    const char *user_agent;     /* "bulkhead/VERSION"; "": none */
    const char *connect_to;     /* dial this address (net.h) whatever the URL says: a Unix socket, a test */
    struct bh_tls_config *tls;  /* NULL: the system's authorities.  A reference is taken; whether
                                   HTTP/2 is offered is then its protocols' to say */
};

/* bh_http_client_new -- Owns: the caller; *options (NULL: all defaults) is copied. */
struct bh_http_client *bh_http_client_new(const struct bh_http_client_options *options);
/* bh_http_client_free -- closes what is unused.  NULL is a no-op.  Panics: while replies are open. */
void bh_http_client_free(struct bh_http_client *client);
/* bh_http_client_close_idle -- close the connections that are not in use. */
void bh_http_client_close_idle(struct bh_http_client *client);

/* Names and values in turn: .headers = BH_HTTP_HEADERS("Accept", "text/html", "X-Id", id). */
#define BH_HTTP_HEADERS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/*
 * bh_http_source -- the next bytes of a body to send.
 *
 * Runs on a goroutine of the client's, never after bh_http_res_close, or bh_http_client_do with an
 * error, has returned: these wait for it.  A panic in it is reported and fails the request.
 * Returns: how many were put into buffer; 0 at the end; or an error, which fails the request.
 */
typedef ssize_t bh_http_source(void *arg, void *buffer, size_t size);

struct bh_http_req {
    const char        *method;  /* NULL: "GET" */
    const char        *url;     /* http or https; user:password@ becomes an Authorization */
    const char *const *headers; /* or NULL */
    const void        *body;    /* in memory ... */
    size_t             body_size;
    bh_http_source    *source; /* ... or from a function */
    void              *source_arg;
    int64_t            source_length;      /* if known; -1 or 0: it is sent in chunks */
    int              (*rewind)(void *arg); /* of the source, to send it again; NULL: it can't be */
    const char *const *trailers;           /* at most 16; values are read when the source, of
                                              unknown length, has ended */
    bool               expect_continue;    /* ask before sending the body; not in HTTP/2 */
};

struct bh_http_res {
    int         status;
    int         version; /* 10, 11 or 20 */
    int64_t     length;  /* of the body; -1 unknown */
    const char *url;     /* that answered, after redirects */
    unsigned    redirects, retries;
    bool        reused;  /* the connection had served before */

    struct hc_res *s; /* private */
};

/*
 * bh_http_client_do -- send a request, follow redirects, wait for the reply's head.
 *
 * Redirects: 303 becomes GET, and so does a POST on 301 and 302; else the method stays, and the
 * body is sent again if it can be, or the redirect is the reply.  Authorization, Cookie and
 * user:password go to the URL's own scheme, host and port only, or from http to https there.
 * Retries: when no connection came about; and, for GET, HEAD, OPTIONS, TRACE, PUT and DELETE or
 * with an Idempotency-Key, when it broke before a reply began; with growing delays, if the body can
 * be sent again, within max_retries and the client's budget.  Where an unused connection turns out
 * to have been closed, another is taken at once.
 * Returns: 0; or an error, *res untouched.
 * Owns:    *res is the caller's, until bh_http_res_close; body, source and trailers are borrowed until
 *          then: an early reply may come while they are being sent.
 * Blocks:  until the head is there.
 */
int bh_http_client_do(struct bh_ctx *ctx, struct bh_http_client *client, const struct bh_http_req *request,
               struct bh_http_res **res);

/* bh_http_client_get, bh_http_client_post -- the same, in short. */
int bh_http_client_get(struct bh_ctx *ctx, struct bh_http_client *client, const char *url,
                struct bh_http_res **res);
int bh_http_client_post(struct bh_ctx *ctx, struct bh_http_client *client, const char *url,
                 const char *type, const void *body, size_t size, struct bh_http_res **res);

/* One goroutine at a time may use a reply. */

/* bh_http_res_header -- a field's value, the first of that name; NULL if absent. */
const char *bh_http_res_header(struct bh_http_res *res, const char *name);
/* bh_http_res_header_at -- field i in the order sent.  Returns: false behind the last. */
bool bh_http_res_header_at(struct bh_http_res *res, unsigned i, const char **name,
                           const char **value);
/* bh_http_res_trailer -- a field behind the body; NULL if absent, or the body is not read to its end. */
const char *bh_http_res_trailer(struct bh_http_res *res, const char *name);

/*
 * bh_http_res_read -- the next bytes of the body, as they come.
 * Returns: how many, 0 at its end; or an error: BH_EEOF if it was cut short.
 */
ssize_t bh_http_res_read(struct bh_http_res *res, void *buffer, size_t size);
/*
 * bh_http_res_body -- the rest of the body.
 * Returns: its size, *data being NUL-terminated; -EMSGSIZE over max bytes; errors as above.
 * Owns:    *data is good until bh_http_res_close.
 */
ssize_t bh_http_res_body(struct bh_http_res *res, size_t max, const char **data);

/*
 * bh_http_res_close -- done with it; NULL is a no-op.  To be deferred on the line after bh_http_client_do,
 * so that a panic does not leak it.  The connection serves again if the body was read to its
 * end, or what is left of it has arrived already and is small.
 */
void bh_http_res_close(struct bh_http_res *res);

/* ---- what happened --------------------------------------------------------------- */

struct bh_http_client_stats {
    uint64_t requests;  /* bh_http_client_do's */
    uint64_t sent;      /* requests on the wire, redirects and retries included */
    uint64_t retries;   /* with a delay */
    uint64_t exhausted; /* retries that the budget forbade */
    uint64_t stale;     /* unused connections found closed */
    uint64_t dials;
    uint64_t open;      /* connections now */
    uint64_t idle;      /* of these, unused */
};
void bh_http_client_stats(struct bh_http_client *client, struct bh_http_client_stats *stats);

#endif
