#ifndef BULKHEAD_HTTP_SERVER_H
#define BULKHEAD_HTTP_SERVER_H

/*
 * server.h -- routes, middleware, serving.
 *
 *     struct bh_http_server *s = bh_http_server_new(NULL);
 *     BH_DEFER(bh_http_server_free, s);
 *
 *     bh_http_observe(s, bh_http_access_log, NULL);   outermost
 *     bh_http_use(s, bh_http_recover, NULL);
 *     bh_http_use(s, authenticate, &users);
 *     bh_http_handle(s, "GET /hello/{name}", hello, NULL);
 *
 *     int rc = bh_http_listen(s, "127.0.0.1:8080");
 *     if (rc == 0)
 *         rc = bh_http_serve_until_signal(s);
 *
 * The order is checked when serving starts: see bh_http_check.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

struct bh_chan;
struct bh_ctx;
struct bh_http_group;
struct bh_http_server;
struct bh_tls_config;

/*
 * Limits and times; zero means the default beside the field.  What exceeds one
 * gets a clear status and, where the rest of the input can't be trusted, a close.
 */
struct bh_http_options {
    size_t   max_line;        /* request line, bytes: 8 KiB; 414 */
    size_t   max_head;        /* request head, bytes: 32 KiB; 431 */
    unsigned max_fields;      /* header fields: 100; 431 */
    size_t   max_body;        /* request body, bytes: 1 MiB; 413 */
    size_t   max_memory;      /* a request's arena, bytes: 16 MiB; a panic of that request */
    unsigned max_connections; /* open at a time: 10,000; 503 */
    unsigned max_per_client;  /* of these, by one IPv4 address or IPv6 /64: 0, no limit; 503.  Not
                                 behind a proxy: it is the one client there */
    unsigned max_requests;    /* per connection: 0, no limit; then it closes */
    int64_t  head_timeout;    /* ns, first byte to complete head: 10 s; 408 */
    int64_t  body_timeout;    /* ns, for a body: 30 s, plus 1 s per body_rate bytes; 408 */
    size_t   body_rate;       /* bytes a second that earn a slow body more time: 4 KiB */
    int64_t  write_timeout;   /* ns, for each write of up to 64 KiB: 30 s; breaks off */
    int64_t  idle_timeout;    /* ns, between requests: 60 s; closes */
    int64_t  request_timeout; /* ns, deadline of bh_http_ctx: 0, none */
    int64_t  drain_timeout;   /* ns, for requests in flight when stopping: 10 s */
    int64_t  drain_grace;     /* ns, for a request on its way to an idle connection then: 50 ms */
    size_t   stack_size;      /* of handlers, bytes: 256 KiB */
    bool     half_close;      /* a client that ends its sending still waits; else it counts as gone */
    bool     redirect_slash;  /* 308 from "/a/" to "/a" or back, if only that has a route; else 404 */
    const char *const *proxy_protocol; /* whose connections begin with a header of the PROXY protocol,
                                 of either version: "10.0.0.0/8", "::1", "unix", NULL at the end; for
                                 all of theirs it is required, from anybody else a bad request */
    unsigned unix_mode;       /* of "unix:" sockets' files: as the umask says */
    bool     no_h2c;          /* no HTTP/2 in the clear, which clients start by its preface */
};

/* bh_http_server_new -- Owns: the caller; *options (NULL: all defaults) is copied. */
struct bh_http_server *bh_http_server_new(const struct bh_http_options *options);
/* bh_http_server_free -- also closes what listens.  Panics: while it serves. */
void bh_http_server_free(struct bh_http_server *s);

/*
 * bh_http_use(w, fn, arg) -- add a middleware to w, the server or a group; outermost first.
 * bh_http_observe(s, fn, arg) -- add one that only watches (a log, metrics, an id):
 *     these run outside bh_http_recover, so that they see its 500, and also see
 *     requests too malformed to have a route.
 * bh_http_handle(w, "METHOD /path/{name}", fn, arg) -- route to fn.
 *
 * A {name} matches one non-empty segment; a final {name...} the whole rest, slashes and
 * all, which may be empty.  Literal segments win over {name}, which wins over
 * {name...}.  Paths match as they are: "/a" and "/a/" are two, see options.redirect_slash.
 * Without METHOD any method matches.  HEAD goes to the handler of GET; the server answers
 * OPTIONS, and 405 with Allow, for paths that have routes of other methods.
 *
 * "GET example.com/path", "GET {sub}.example.com/path": requests of that host, whatever the
 * port; {sub} is one label, in lower case.  A route with a host wins over one without.
 */
#define bh_http_use(w, fn, arg)                                                                \
    bh_http_use_(BH_HTTP_GROUP_(w), (fn), (arg), #fn, __FILE__, __LINE__)
#define bh_http_observe(s, fn, arg) bh_http_observe_((s), (fn), (arg), #fn, __FILE__, __LINE__)
#define bh_http_handle(w, pattern, fn, arg)                                                    \
    bh_http_handle_(BH_HTTP_GROUP_(w), (pattern), (fn), (arg), #fn, __FILE__, __LINE__)

/*
 * bh_http_group(w, "/prefix") -- routes with a prefix and middleware in common, inside w.
 *
 *     struct bh_http_group *api = bh_http_group(s, "/api");
 *     bh_http_use(api, require_token, &tokens);
 *     bh_http_handle(api, "GET /items/{id}", item, NULL);      GET /api/items/{id}
 *
 * The prefix may have {name}s and begin with a host; "" only shares middleware.  In a group
 * "GET" is the route of the prefix itself.  A request under the prefix that has no
 * route passes the group's middleware before its 404; one for a wrong method, or OPTIONS,
 * what the routes of its path have in common.
 * Owns:    the server.
 */
#define bh_http_group(w, prefix) bh_http_group_(BH_HTTP_GROUP_(w), (prefix), __FILE__, __LINE__)

/*
 * bh_http_check -- what is wrong with the order of middleware and with the routes.
 *
 * Refused: routes without bh_http_recover around them; bh_http_recover twice; a
 * middleware before it that is no observer, or an observer behind it; bh_http_recover in
 * a group; middleware registered after the first route of its server or group; bad
 * patterns; routes that match the same requests with neither more specific.  Each text
 * names both places.
 * Returns: the number of faults; text gets them, a line each, cut to size.
 */
int bh_http_check(struct bh_http_server *s, char *text, size_t size);

/*
 * bh_http_routes -- the table of routes into text, a line each:
 *
 *     GET /api/items/{id}      item  app.c:31  (access_log > bh_http_recover > require_token)
 *
 * Returns: its length, which may be more than size has room for.
 */
size_t bh_http_routes(struct bh_http_server *s, char *text, size_t size);

/* ---- stock middleware ------------------------------------------------------------ */

/* bh_http_recover -- a panic below costs one 500, and is kept as a report.  arg: unused. */
bh_http_fn bh_http_recover;

/*
 * bh_http_access_log -- a line per request, to the descriptor *(int *)arg; standard
 * output if arg is NULL:
 *
 *     2026-11-25T10:31:07.042Z 127.0.0.1:50312 "GET /hello/you HTTP/1.1" 200 11 0.000084 17
 *
 * time, client, request, status, body bytes, seconds, request id.  A transfer broken off
 * shows its status with an "!".
 */
bh_http_fn bh_http_access_log;

/* ---- serving --------------------------------------------------------------------- */

/*
 * bh_http_listen -- listen on address; may be called for several.
 *
 * As net.h has them, or a socket that listens already: "fd:3"; "systemd:", all that the service
 * manager passed; "systemd:name", those of that name (FileDescriptorName=).
 * Returns: 0; -ENOENT if none was passed; or an error of bh_listen.
 * See:     sd_listen_fds(3).
 */
int bh_http_listen(struct bh_http_server *s, const char *address);
/*
 * bh_http_listen_tls -- the same through TLS, with HTTP/2 if the client wants it.  Owns: a
 * reference to config.
 */
int bh_http_listen_tls(struct bh_http_server *s, const char *address, struct bh_tls_config *config);
/* bh_http_address -- where the first one listens, "127.0.0.1:8080". */
const char *bh_http_address(struct bh_http_server *s);

/*
 * bh_http_serve -- serve until ctx ends or bh_http_stop, then drain.
 *
 * Draining: no more connections are accepted, idle ones close after drain_grace, busy ones
 * after their request, whose reply says so ("Connection: close", GOAWAY); background work of
 * requests is waited for too.  What is left at drain_timeout has its context cancelled and
 * its connection closed.
 * Returns: 0; -EINVAL if bh_http_check finds a fault, noted; what reading the files of a TLS
 *          configuration says; -ETIMEDOUT if handlers still ran one second after all that.
 * Blocks:  until drained.
 */
int  bh_http_serve(struct bh_ctx *ctx, struct bh_http_server *s);
void bh_http_stop(struct bh_http_server *s);

/* bh_http_is_draining -- whether it has stopped, or is about to.  Any goroutine. */
bool bh_http_is_draining(struct bh_http_server *s);

/*
 * bh_http_draining -- a channel that is closed when s starts to drain.
 *
 * For a handler without an end of its own, such as a stream of events: it should end then,
 * before its context does.
 *
 *     bh_select(BH_RECV(events, &e), BH_RECV(bh_http_draining(bh_http_server_of(c)), NULL));
 *
 * Owns: the server.
 */
struct bh_chan *bh_http_draining(struct bh_http_server *s);

/* bh_http_serve_until_signal -- the same until SIGTERM or SIGINT; a second one ends the process. */
int bh_http_serve_until_signal(struct bh_http_server *s);

/* ---- what happened --------------------------------------------------------------- */

struct bh_http_stats {
    uint64_t requests;      /* with a complete head, refused ones included */
    uint64_t refused;       /* malformed, too large, too slow */
    uint64_t panics;        /* recovered, in handlers and background work */
    uint64_t aborted;       /* transfers broken off */
    uint64_t connections;   /* accepted */
    uint64_t turned_away;   /* over max_connections */
    uint64_t open;          /* connections now */
    uint64_t active;        /* requests being answered now */
};
void bh_http_stats(struct bh_http_server *s, struct bh_http_stats *stats);

enum { BH_HTTP_PANIC_FRAMES = 48, BH_HTTP_PANICS_KEPT = 32 };

/* A recovered panic. */
struct bh_http_panic {
    uint64_t  number;     /* from 1, in order */
    int64_t   time_ms;    /* Unix time */
    uint64_t  request;    /* the call's id */
    uint64_t  goroutine;
    int       signal;     /* of a fault, or 0 */
    int       line;       /* of bh_panic; 0 for a fault */
    uintptr_t fault_addr;
    char      where[16];  /* "handler", "background", "observer" */
    char      outcome[16];/* "500", "aborted", "contained" */
    char      route[96];
    char      target[128];
    char      kind[32];   /* Go's name of the value's type */
    char      file[96];   /* of bh_panic; "" for a fault */
    char      text[256];
    int       frame_count;
    uintptr_t frames[BH_HTTP_PANIC_FRAMES]; /* innermost first */
};

/* bh_http_panics -- the latest reports, newest first.  Returns: how many, at most max. */
int bh_http_panics(struct bh_http_server *s, struct bh_http_panic *reports, int max);
/* bh_http_panic_stack -- a report's stack, "function(...) file:line" lines.  Returns: length. */
size_t bh_http_panic_stack(const struct bh_http_panic *report, char *text, size_t size);

/* ---- machinery; nothing below is API --------------------------------------------- */

#define BH_HTTP_GROUP_(w)                                                                      \
    _Generic((w),                                                                              \
        struct bh_http_server *: bh_http_root_,                                                \
        struct bh_http_group *: bh_http_itself_)(w)
struct bh_http_group *bh_http_root_(struct bh_http_server *s);
struct bh_http_group *bh_http_itself_(struct bh_http_group *g);
struct bh_http_group *bh_http_group_(struct bh_http_group *parent, const char *prefix,
                                     const char *file, int line);
void bh_http_use_(struct bh_http_group *g, bh_http_fn *fn, void *arg, const char *name,
                  const char *file, int line);
void bh_http_observe_(struct bh_http_server *s, bh_http_fn *fn, void *arg, const char *name,
                      const char *file, int line);
void bh_http_handle_(struct bh_http_group *g, const char *pattern, bh_http_fn *fn, void *arg,
                     const char *name, const char *file, int line);

#endif
