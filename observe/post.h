#ifndef BULKHEAD_OBSERVE_POST_H
#define BULKHEAD_OBSERVE_POST_H

/*
 * post.h -- a small HTTP/1.1 client for plain threads: POST, an answer, keep-alive.
 *
 * The exporter must survive anything, the runtime's scheduler included, so it does not run on
 * goroutines and does not use their client.  Every wait (connect, TLS, write, read) ends at
 * the deadline it is given, or as soon as `cancel` becomes readable; only the resolver of host
 * names cannot be interrupted.
 *
 * An ob_post_target says where to and is shared; an ob_post is one connection, for one thread.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ssl_ctx_st;
struct ssl_st;

struct ob_post_target {
    char *host, *port;
    char *head;             /* request line and fields, without those that depend on the body */
    struct ssl_ctx_st *tls; /* NULL: in the clear */
    char              *trust;    /* which files tls was made of */
    bool               loopback; /* the host's name or address says so */
};

struct ob_post_options {
    const char *url;
    const char *headers;     /* "name=value,..."; values percent-encoded; or NULL */
    const char *certificate; /* PEM files, or NULL */
    const char *client_certificate, *client_key;
};

/* ob_post_target_init -- Returns: 0, or an error with a note. */
int  ob_post_target_init(struct ob_post_target *t, const struct ob_post_options *options);
void ob_post_target_fini(struct ob_post_target *t);

enum { OB_POST_KEPT = 4096 }; /* bytes of an answer's body that are kept */

struct ob_post_answer {
    int     status;
    int64_t retry_after; /* ns; -1: not said */
    size_t  length;      /* of body: what was kept */
    bool    cut;         /* there was more */
    uint8_t body[OB_POST_KEPT];
};

struct ob_post {
    const struct ob_post_target *target; /* of the open connection */
    int                          fd;     /* -1: none */
    struct ssl_st               *ssl;
    int                          cancel;   /* descriptor; readable: give up.  -1: none */
    int64_t                      deadline; /* CLOCK_MONOTONIC; of the current call */
    /* what has been read and not used */
    size_t  at, end;
    uint8_t buffer[8192];
};

void ob_post_init(struct ob_post *p, int cancel);
void ob_post_close(struct ob_post *p);

/*
 * ob_post_send -- send size bytes as a request's body, read the answer.
 *
 * A connection that an earlier answer left open is used again; one that turns out to have been
 * closed meanwhile is replaced, once.
 * Returns: 0, any status; -ETIMEDOUT at the deadline, -ECANCELED, -EBADMSG (no HTTP), -EPROTO (TLS),
 *          -ENODATA (closed without an answer), -EHOSTUNREACH (no such host), -errno of sockets.
 */
int ob_post_send(struct ob_post *p, const struct ob_post_target *target, const char *encoding,
                 const void *body, size_t size, int64_t deadline,
                 struct ob_post_answer *answer);

#endif
