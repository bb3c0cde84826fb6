/*
 * pprof.c -- /debug/pprof/: see pprof.h.
 *
 * One route has them all by {name}: first the handlers that other parts registered, then what
 * stands here, then the table of profiles; so one registered later needs no new route.
 *
 * Naming addresses and compressing keep a thread busy for milliseconds, so all of it runs in
 * bh_blocking; but what takes ?seconds= is collected on the request's goroutine, which waits.
 *
 * Headers and error texts are those of Go's net/http/pprof, which its tool shows.
 */

#include <bulkhead/observe/pprof.h>

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/go/ctx.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/inspect.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/observe/profile.h>

enum { HANDLERS_MAX = 16, SECONDS_MAX = 3600, COMMAND_MAX = 64 << 10 };

struct handler {
    const char *name, *about;
    bh_http_fn *fn;
    void       *arg;
};
static struct handler  handlers[HANDLERS_MAX]; /* entries never change or go */
static _Atomic int     handler_count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* held by who adds */

static const struct handler *
find_handler(const char *name)
{
    int n = atomic_load(&handler_count);

    for (int i = 0; i < n; i++)
        if (strcmp(handlers[i].name, name) == 0)
            return &handlers[i];
    return NULL;
}

int
bh_pprof_register_handler(const char *name, const char *about, bh_http_fn *fn, void *arg)
{
    int n, rc = 0;

    if (name == NULL || name[0] == '\0' || fn == NULL)
        return -EINVAL;
    (void)pthread_mutex_lock(&lock);
    n = atomic_load(&handler_count);
    if (find_handler(name) != NULL)
        rc = -EEXIST;
    else if (n == HANDLERS_MAX)
        rc = -ENOSPC;
    else {
        handlers[n] = (struct handler){ name, about, fn, arg };
        atomic_store(&handler_count, n + 1);
    }
    (void)pthread_mutex_unlock(&lock);
    return rc;
}

/* ---- replies --------------------------------------------------------------------- */

static int
refuse(struct bh_http_call *c, int status, const char *text)
{
    bh_http_set_header(c, "X-Go-Pprof", "1");
    return bh_http_reply(c, status, "%s\n", text);
}

/* The whole of bytes; they are freed. */
static int
send_bytes(struct bh_http_call *c, const char *type, struct bh_profile_bytes *bytes)
{
    BH_DEFER(free, bytes->data);
    bh_http_set_header(c, "X-Content-Type-Options", "nosniff");
    bh_http_set_header(c, "Cache-Control", "no-store");
    bh_http_start(c, 200, type, (int64_t)bytes->size);
    return bh_http_write(c, bytes->data, bytes->size);
}

/* ---- a profile ------------------------------------------------------------------- */

/* A number in the query, 0 without it.  Returns: false if it is none, or not in 0..max. */
static bool
query_number(struct bh_http_call *c, const char *name, long max, long *number)
{
    const char *text = bh_http_query(c, name);
    char       *end;

    *number = 0;
    if (text == NULL)
        return true;
    errno = 0;
    *number = strtol(text, &end, 10);
    return errno == 0 && end != text && *end == '\0' && *number >= 0 && *number <= max;
}

/* Returns: NULL, or what is wrong with the query. */
static const char *
read_options(struct bh_http_call *c, struct bh_profile_options *o)
{
    const int64_t second = 1000000000;
    long          debug, seconds, raw, labels;
    int64_t       end;

    if (!query_number(c, "seconds", SECONDS_MAX, &seconds) ||
        (seconds == 0 && bh_http_query(c, "seconds") != NULL))
        return "invalid value for \"seconds\" - must be a positive integer";
    if (!query_number(c, "debug", 9, &debug) || !query_number(c, "raw", 1, &raw) ||
        !query_number(c, "labels", 1, &labels))
        return "invalid value for \"debug\", \"raw\" or \"labels\"";
    *o = (struct bh_profile_options){
        .duration = seconds * second,
        .debug = (int)debug,
        .raw = raw != 0,
        .labelled = labels != 0,
        .ctx = bh_http_ctx(c),
    };
    if (seconds > 0 && bh_ctx_deadline_at(o->ctx, &end) && end < bh_now() + o->duration)
        return "profile duration exceeds server's request timeout";
    return NULL;
}

struct taking {
    const char                      *name;
    const struct bh_profile_options *o;
    struct bh_profile               *p;
    struct bh_profile_bytes          bytes;
    int                              rc;
};

static void
encode(void *arg)
{
    struct taking *t = arg;

    if (t->p == NULL)
        t->rc = bh_profile_take(t->name, t->o, &t->bytes);
    else if (t->o->debug > 0)
        t->rc = bh_profile_text(t->p, t->name, &t->bytes);
    else
        t->rc = bh_profile_write(t->p, t->o->raw, &t->bytes);
}

static void
release(void *arg)
{
    struct taking *t = arg;

    bh_profile_free(t->p);
}

/* Returns: 0 or an error; t->bytes. */
static int
take(struct taking *t)
{
    bool dump = t->o->debug >= 2 && strcmp(t->name, "goroutine") == 0;
    int  rc = 0;

    if (t->o->duration > 0 && !dump)
        rc = bh_profile_collect(t->name, t->o, &t->p);

    BH_DEFER(release, t);
    if (rc != 0)
        return rc;
    bh_blocking(encode, t);
    return t->rc;
}

/* What begins to record it, for who wonders why there is nothing. */
static const char *
starter_of(const char *name)
{
    static const char *const starters[][2] = {
        { "profile", "bh_cpu_start" },
        { "heap", "bh_heap_profile_start" },
        { "allocs", "bh_heap_profile_start" },
        { "block", "bh_block_profile_rate" },
        { "mutex", "bh_mutex_profile_fraction" },
    };

    for (size_t i = 0; i < sizeof starters / sizeof *starters; i++)
        if (strcmp(starters[i][0], name) == 0)
            return starters[i][1];
    return "nobody has started it";
}

static int
reply_profile(struct bh_http_call *c, const char *name)
{
    struct bh_profile_options o;
    struct taking             t = { .name = name, .o = &o };
    const char               *wrong = read_options(c, &o);
    char                      text[96];
    int                       rc;

    if (wrong != NULL)
        return refuse(c, 400, wrong);
    rc = take(&t);
    if (rc == -ENOENT)
        return refuse(c, 404, "Unknown profile");
    if (rc == -EAGAIN) {
        (void)snprintf(text, sizeof text, "this profile is not being recorded: %s",
                       starter_of(name));
        return refuse(c, 503, text);
    }
    if (rc == -ENOMEM)
        return refuse(c, 503, "no memory for the profile");
    if (rc != 0)
        return rc; /* the client has left, or the server is draining */
    if (o.debug > 0)
        return send_bytes(c, "text/plain; charset=utf-8", &t.bytes);
    (void)snprintf(text, sizeof text, "attachment; filename=\"%s\"", name);
    bh_http_set_header(c, "Content-Disposition", text);
    return send_bytes(c, "application/octet-stream", &t.bytes);
}

/* ---- what is no profile ---------------------------------------------------------- */

/* The arguments of the program, as the kernel has them: each ends with a NUL. */
static int
reply_command(struct bh_http_call *c)
{
    static const char       path[] = "/proc/self/cmdline";
    struct bh_profile_bytes bytes = { malloc(COMMAND_MAX), 0 };
    int                     fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 && bytes.data != NULL ? read(fd, bytes.data, COMMAND_MAX) : -1;

    if (fd >= 0)
        (void)close(fd);
    if (n < 0) {
        free(bytes.data);
        return refuse(c, 500, "the command line cannot be read");
    }
    bytes.size = n > 0 ? (size_t)n - 1 : 0; /* the last NUL is not a separator */
    return send_bytes(c, "text/plain; charset=utf-8", &bytes);
}

/* "0x1234+0x5678": a line "0x1234 function" for each that has a name. */
static int
put_symbols(struct bh_http_call *c, const char *at)
{
    struct bh_frame frames[BH_FRAMES_MAX];
    int             rc = 0;

    while (rc == 0 && *at != '\0') {
        char     *end;
        uintptr_t pc = strtoull(at, &end, 0);

        if (end == at)
            break;
        /* They are addresses inside a call already; ours are behind it. */
        if (pc != 0 && bh_symbolize(pc + 1, frames, BH_FRAMES_MAX) > 0 &&
            strcmp(frames[0].function, "??") != 0)
            rc = bh_http_print(c, "%#zx %s\n", (size_t)pc, frames[0].function);
        at = *end == '+' ? end + 1 : end;
    }
    return rc;
}

static int
reply_symbol(struct bh_http_call *c, void *arg)
{
    const char *addresses = c->query;

    (void)arg;
    if (strcmp(c->method, "POST") == 0) {
        ssize_t n = bh_http_body(c, &addresses);

        if (n < 0)
            return (int)n;
    }
    bh_http_set_header(c, "X-Content-Type-Options", "nosniff");
    bh_http_start(c, 200, "text/plain; charset=utf-8", -1);
    /* Any number but 0 says that we have symbols. */
    if (bh_http_print(c, "num_symbols: 1\n") != 0)
        return 0;
    return put_symbols(c, addresses);
}

/* ---- the index ------------------------------------------------------------------- */

static bool
put_row(const struct bh_profile_source *s, void *arg)
{
    struct bh_http_call      *c = arg;
    struct bh_profile        *p;
    struct bh_profile_options o = { 0 };
    int                       rc;

    if (s->waits)
        rc = bh_http_print(c, "<tr><td>");
    else if ((rc = bh_profile_collect(s->name, &o, &p)) != 0)
        rc = bh_http_print(c, "<tr><td>-");
    else {
        int64_t total = bh_profile_total(p, 0);

        bh_profile_free(p);
        rc = bh_http_print(c, "<tr><td>%lld", (long long)total);
    }
    if (rc == 0)
        rc = bh_http_print(c, "<td><a href=\"%s?debug=1\">%s</a><td>%s\n", s->name, s->name,
                           s->about != NULL ? s->about : "");
    return rc == 0;
}

static int
reply_index(struct bh_http_call *c, void *arg)
{
    int n = atomic_load(&handler_count);

    (void)arg;
    bh_http_set_header(c, "X-Content-Type-Options", "nosniff");
    bh_http_set_header(c, "Cache-Control", "no-store");
    bh_http_start(c, 200, "text/html; charset=utf-8", -1);
    bh_http_print(c, "<!DOCTYPE html><html lang=\"en\"><title>/debug/pprof/</title>\n"
                     "<h1>/debug/pprof/</h1>\n<table>\n<tr><th>Count<th>Profile<th>\n");
    bh_profile_each(put_row, c);
    for (int i = 0; i < n; i++)
        bh_http_print(c, "<tr><td><td><a href=\"%s\">%s</a><td>%s\n", handlers[i].name,
                      handlers[i].name, handlers[i].about != NULL ? handlers[i].about : "");
    return bh_http_print(
        c, "<tr><td><td><a href=\"cmdline\">cmdline</a><td>arguments of the program\n"
           "<tr><td><td><a href=\"symbol\">symbol</a><td>names of addresses\n"
           "</table>\n<p><a href=\"goroutine?debug=2\">full goroutine stack dump</a>\n");
}

static int
redirect(struct bh_http_call *c, void *arg)
{
    (void)arg;
    bh_http_set_header(c, "Location", "pprof/"); /* whatever the group's prefix is */
    return bh_http_reply(c, 308, "see pprof/\n");
}

static int
reply_named(struct bh_http_call *c, void *arg)
{
    const char           *name = bh_http_param(c, "name");
    const struct handler *h = find_handler(name);

    (void)arg;
    if (h != NULL)
        return h->fn(c, h->arg);
    if (strcmp(name, "cmdline") == 0)
        return reply_command(c);
    return reply_profile(c, name);
}

void
bh_http_pprof_mount_(struct bh_http_group *w)
{
    struct bh_http_group *g = bh_http_group(w, "/debug/pprof");

    (void)bh_cpu_start(); /* if it cannot be had, "profile" says so */
    bh_http_handle(g, "GET", redirect, NULL);
    bh_http_handle(g, "GET /", reply_index, NULL);
    bh_http_handle(g, "GET /symbol", reply_symbol, NULL);
    bh_http_handle(g, "POST /symbol", reply_symbol, NULL);
    bh_http_handle(g, "GET /{name}", reply_named, NULL);
}
