#ifndef BULKHEAD_HTTP_HTTP_H
#define BULKHEAD_HTTP_HTTP_H

/*
 * http.h -- what a handler sees: one request and its reply.  See server.h for
 * routes, middleware and serving.
 *
 *     static int
 *     hello(struct bh_http_call *c, void *arg)
 *     {
 *         return bh_http_reply(c, 200, "hello, %s\n", bh_http_param(c, "name"));
 *     }
 *
 * A handler runs on a goroutine and may block.  If it panics, faults or overflows
 * its stack, bh_http_recover makes that a 500 of this request, or, once
 * part of the reply is on the wire, breaks the transfer visibly.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdnoreturn.h>
#include <sys/types.h>

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>

struct bh_arena;
struct bh_ctx;
struct bh_http_server;
struct ht_call;

/*
 * One request and its reply.  Everything reachable from it lives until the
 * handler has returned and every bh_http_go goroutine of the request has ended.
 */
struct bh_http_call {
    const char *method;  /* "GET" */
    const char *path;    /* as sent, without the query; "-" if the request made no sense */
    const char *query;   /* as sent, "" without one; see bh_http_query */
    const char *host;    /* of the request; "" if it named none */
    const char *route;   /* the pattern that matched, "GET /hello/{name}"; "" if none */
    const char *peer;    /* the client's address, "127.0.0.1:50312" */
    int         version; /* 10, 11 or 20: HTTP/1.0, HTTP/1.1, HTTP/2 */
    bool        secure;  /* it came through TLS */
    uint64_t    id;      /* number of the request in this process, from 1 */
    int64_t     started; /* bh_now() when its head was complete */
    struct bh_arena *arena; /* memory of the request; one goroutine at a time */

    int         status;  /* of the reply; 0 until there is one */
    uint64_t    sent;    /* bytes of body given to the reply so far */
    bool        aborted; /* the transfer was broken off: the client sees no valid reply */
    const struct bh_kind *panicked; /* of the panic that bh_http_recover caught; NULL: none */

    struct ht_call *s; /* private */
};

/*
 * bh_http_fn -- a handler or a middleware: they are the same thing.
 *
 * A handler replies.  A middleware does something before bh_http_next(c), something
 * after, or does not call it at all, which ends the chain there.
 *
 * Returns: 0; or a negative error, which becomes the reply if there is none yet:
 *          413 for -EMSGSIZE, 408 for BH_EDEADLINE of a body, 400 for a malformed
 *          body, else 500.  0 without a reply is a 500 too.
 */
typedef int bh_http_fn(struct bh_http_call *c, void *arg);

/*
 * bh_http_next -- run the rest of the chain.
 * Returns: what the rest returned.  Panics: if called by the last step.
 */
int bh_http_next(struct bh_http_call *c);

/* ---- the request ----------------------------------------------------------------- */

/* bh_http_header -- a field's value, the first of that name; NULL if absent. */
const char *bh_http_header(struct bh_http_call *c, const char *name);

/* bh_http_header_at -- field i in the order sent.  Returns: false behind the last. */
bool bh_http_header_at(struct bh_http_call *c, unsigned i, const char **name, const char **value);

/* bh_http_param -- what matched {name} in the route, unescaped.  Panics: on no such name. */
const char *bh_http_param(struct bh_http_call *c, const char *name);

/* bh_http_query -- the first value of name in the query, unescaped; NULL if absent or malformed. */
const char *bh_http_query(struct bh_http_call *c, const char *name);

/*
 * bh_http_body -- the whole body.
 *
 * Returns: its size, with *data NUL-terminated in the request's memory; or
 *          -EMSGSIZE over the server's limit, BH_EDEADLINE if it came too slowly,
 *          -EBADMSG if malformed, BH_EEOF if the client left.
 * Blocks:  until it is there.
 */
ssize_t bh_http_body(struct bh_http_call *c, const char **data);

/* bh_http_read -- the next bytes of the body.  Returns: how many, 0 at its end, errors as above. */
ssize_t bh_http_read(struct bh_http_call *c, void *buffer, size_t size);

/* bh_http_limit_body -- of this request, instead of the server's max_body; before it is read. */
void bh_http_limit_body(struct bh_http_call *c, size_t size);

/*
 * bh_http_read_through -- let fn deliver the body, which has not been read yet: decompressed, say.
 *
 * It works as bh_http_read; within it, bh_http_read is the body as it came.  The limit counts for
 * what came and for what fn makes of it.  An error of its own becomes -EBADMSG.
 */
typedef ssize_t bh_http_read_fn(struct bh_http_call *c, void *arg, void *buffer, size_t size);
void bh_http_read_through(struct bh_http_call *c, bh_http_read_fn *fn, void *arg);

/* bh_http_request_trailer -- a field behind the body; NULL if absent, or the body is not read to its end. */
const char *bh_http_request_trailer(struct bh_http_call *c, const char *name);

/*
 * bh_http_ctx -- the request's context: ends at its deadline, when the client goes away,
 * when the server gives up draining, and when the request and its background goroutines
 * are over.  That of a background goroutine knows no client and no deadline.
 */
struct bh_ctx *bh_http_ctx(struct bh_http_call *c);

/* bh_http_set, bh_http_get -- values for later steps of the chain; the key is an address of yours. */
void  bh_http_set(struct bh_http_call *c, const void *key, void *value);
void *bh_http_get(struct bh_http_call *c, const void *key);

struct bh_http_server *bh_http_server_of(struct bh_http_call *c);

/*
 * bh_http_chain -- the middleware that this call goes through, by name, the outermost first.
 *
 * *at: which of it has been entered last; the count, if that is the handler; -1 before the first.
 * Returns: how many there are; the first `max` names are written, static text.
 */
int bh_http_chain(struct bh_http_call *c, const char **names, int max, int *at);

/*
 * bh_http_tcp -- what the kernel knows of the connection that carries the request (net.h).
 * Returns: 0; -ENOTCONN, in background work and within a time limit; as bh_conn_tcp.
 */
struct bh_conn_tcp;
int bh_http_tcp(struct bh_http_call *c, struct bh_conn_tcp *tcp);

/* ---- the reply -------------------------------------------------------------
 *
 * Only the handler's goroutine may touch it, and only while the request lives:
 * anything else is a panic that names the request.  A second reply is one too.
 * Nothing goes out before the chain has returned, unless it is flushed or the
 * buffer overflows; so middleware may still add headers after bh_http_next.
 */

/*
 * bh_http_set_header -- replace or add a field.  bh_http_add_header: always add.
 * Returns: 0; -EALREADY, nothing being done, if the head has been sent already.
 * Panics:  on a bad name or value, and on fields that frame the message.
 */
int bh_http_set_header(struct bh_http_call *c, const char *name, const char *value);
int bh_http_add_header(struct bh_http_call *c, const char *name, const char *value);

/* bh_http_reply -- a short text.  Sets "text/plain" unless a type is set.  Returns: 0. */
int bh_http_reply(struct bh_http_call *c, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* bh_http_reply_json -- JSON with % where values go: %s is quoted.  See bh_json_print in json.h. */
int bh_http_reply_json(struct bh_http_call *c, int status, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * bh_http_reply_bytes -- any body of a known size.
 * Owns:    borrows data until the reply is sent: static, or from c->arena.
 * Returns: 0.
 */
int bh_http_reply_bytes(struct bh_http_call *c, int status, const char *type, const void *data,
                        size_t size);

/*
 * bh_http_start -- begin a reply whose body is written piece by piece.
 *
 * length: its size if known, else -1.  Of unknown size it is sent chunked, or
 * ends with the connection in HTTP/1.0; if it all fits the buffer, with its length.
 * A handler that returns short of the length, or panics, breaks the transfer.
 */
void bh_http_start(struct bh_http_call *c, int status, const char *type, int64_t length);

/*
 * bh_http_write, bh_http_print -- add to a started body.
 * Returns: 0; or a negative error once the client is gone.
 * Blocks:  while the client is slow, up to the server's write limit.
 * Panics:  beyond the length.
 */
int bh_http_write(struct bh_http_call *c, const void *data, size_t size);
int bh_http_print(struct bh_http_call *c, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* bh_http_flush -- put what there is on the wire now.  Returns: as bh_http_write. */
int bh_http_flush(struct bh_http_call *c);

/*
 * bh_http_send_file -- add size bytes of a file, from offset, to a started body.
 * Without filters, and in the clear, they go from the file to the socket uncopied.
 * Owns:    borrows fd.
 * Returns: as bh_http_write; -EIO, the transfer being broken, if the file is shorter.
 */
int bh_http_send_file(struct bh_http_call *c, int fd, int64_t offset, int64_t size);

/*
 * bh_http_trailer -- a field behind a body of unknown length.
 * Returns: 0; -ENOTSUP, nothing being done, if the reply has a length or the protocol no trailers.
 * Panics:  as bh_http_set_header; without bh_http_start.
 */
int bh_http_trailer(struct bh_http_call *c, const char *name, const char *value);

/*
 * bh_http_abort -- give up: break the transfer, without a report.
 *
 * A panic of kind bh_kind_http_abort, which bh_http_recover lets through unlogged.
 * See: Go, net/http ErrAbortHandler.
 */
noreturn void bh_http_abort(struct bh_http_call *c);
extern const struct bh_kind bh_kind_http_abort;

/* bh_http_status_text -- "Not Found"; "" for an unknown status.  Static. */
const char *bh_http_status_text(int status);

/* ---- filters -------------------------------------------------------------------
 *
 * A filter changes the body of a reply on its way out: compression, a tag, a count.
 * A middleware adds it before bh_http_next; the innermost sees the bytes first.
 * A reply that is whole in memory when the chain returns is filtered there, so its
 * length is known.  The error reply in place of one that failed meets no filter.
 */

enum bh_http_part { BH_HTTP_MORE, BH_HTTP_FLUSH, BH_HTTP_LAST };
enum { BH_HTTP_SKIP = -2 };

struct bh_http_filter {
    /*
     * The head is about to go, before a body of `length` bytes (-1: not known yet).
     * May set header fields.  Returns: the length from here on (-1 unknown), or BH_HTTP_SKIP
     * to leave this reply alone.
     */
    int64_t (*head)(struct bh_http_call *c, void *arg, int64_t length);
    /*
     * The next bytes; hand on with bh_http_pass.  BH_HTTP_FLUSH: with all that is held back;
     * BH_HTTP_LAST, once: with the end.  Returns: 0 or an error, of bh_http_pass or its own.
     */
    int (*body)(struct bh_http_call *c, void *arg, const void *data, size_t size,
                enum bh_http_part part);
    /* The call is over, however it ended.  May be NULL. */
    void (*free)(void *arg);
};

/* bh_http_filter -- add a filter; *f lives for ever.  Returns: 0; -EALREADY if the head is out. */
int bh_http_filter(struct bh_http_call *c, const struct bh_http_filter *f, void *arg);
/* bh_http_pass -- from a filter's body function: bytes for the next one, at last the wire. */
int bh_http_pass(struct bh_http_call *c, const void *data, size_t size, enum bh_http_part part);

/*
 * bh_http_not_modified -- from a filter's body function: make the reply a 304, which has no body; a
 * conditional request can be answered so once its body, hence its tag, is known.
 * Returns: 0; -EALREADY, nothing being done, if the head is out.
 */
int bh_http_not_modified(struct bh_http_call *c);

/* bh_http_reply_header -- what the reply has of a field so far, the first; NULL if nothing. */
const char *bh_http_reply_header(struct bh_http_call *c, const char *name);

/* ---- background work ---------------------------------------------------------
 *
 * bh_http_go(c, fn, args) -- run fn on a goroutine that belongs to the request.
 *
 * It may outlive the reply.  It gets its own view of the call, with an arena of its
 * own; the request's memory and context stay until it ends.  A panic in it is
 * reported with the request's route and id, and costs nothing else; replying from it is
 * such a panic.  Arguments are copied, as with bh_go.
 */
typedef void bh_http_go_fn(struct bh_http_call *c, void *args);
#define bh_http_go(c, fn, ...)                                                                 \
    bh_http_go_start_((c), #fn, (fn), (__VA_ARGS__), BH_ARGS_SIZE_(__VA_ARGS__))

/* ---- machinery; nothing below is API --------------------------------------------- */

void bh_http_go_start_(struct bh_http_call *c, const char *name, bh_http_go_fn *fn,
                       const void *args, size_t size);

#endif
