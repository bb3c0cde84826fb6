/*
 * page.c -- /debug/bulkhead: the page, what it asks for, and files of reports.
 *
 * The page is three files, laid into the library byte for byte; nothing is fetched from
 * elsewhere, and the browser is told so (Content-Security-Policy).  A stream of server-sent
 * events moves it: "panics" at each step of one, looked for ten times a second, "state" each second.
 * A client that does not read is cut off by the server's write limit; there are at most STREAMS.
 */

#include <bulkhead/observe/page.h>

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/json.h>
#include <bulkhead/http/sse.h>
#include <bulkhead/observe/pprof.h>

#include "capture.h"
#include "live.h"

enum { STREAMS = 16, TICKS = 10 /* a second */, GROUPS_PAGE = 100, REPORTS = 50 };

/* observe/page/, byte for byte. */
#define EMBED(name, file)                                                                      \
    extern const char name[], name##_end[] __attribute__((visibility("hidden")));              \
    __asm__(".pushsection .rodata\n"                                                           \
            ".globl " #name ", " #name "_end\n"                                                \
            ".hidden " #name ", " #name "_end\n" #name ": .incbin \"observe/page/" file "\"\n" \
            "" #name "_end: .byte 0\n"                                                         \
            ".popsection")
EMBED(ob_page_html, "page.html");
EMBED(ob_page_css, "page.css");
EMBED(ob_page_js, "page.js");

struct asset {
    const char *type, *data, *end;
};

static int
give_asset(struct bh_http_call *c, void *arg)
{
    const struct asset *a = arg;

    (void)bh_http_set_header(c, "Content-Security-Policy",
                             "default-src 'none'; script-src 'self'; style-src 'self'; "
                             "connect-src 'self'; img-src 'self' data:; base-uri 'none'; "
                             "form-action 'none'; frame-ancestors 'none'");
    return bh_http_reply_bytes(c, 200, a->type, a->data, (size_t)(a->end - a->data));
}

/* ---- what moves ------------------------------------------------------------------ */

static _Atomic int streams;

static void
leave_stream(void *arg)
{
    (void)arg;
    atomic_fetch_sub(&streams, 1);
}

struct event {
    bool               panics; /* else the state */
    uint64_t          *told;   /* the version of panics up to which the client knows */
    struct bh_json_out out;
};

static void
put_event(void *arg)
{
    struct event *e = arg;

    if (e->panics)
        *e->told = ob_live_panics(&e->out, *e->told);
    else
        ob_live_state(&e->out);
}

/*
 * The texts of an event are made in an arena of their own, and not by bh_http_sse_send, which
 * formats in the request's: the stream may last for days.
 */
static int
send_event(struct bh_http_call *c, struct event e)
{
    const char *head = e.panics ? "event: panics\ndata: " : "event: state\ndata: ";
    int         rc;

    e.out.arena = bh_arena_new(0);
    BH_DEFER(bh_arena_free, e.out.arena);
    bh_blocking(put_event, &e); /* it may read debug information */
    rc = bh_http_write(c, head, strlen(head));
    if (rc == 0)
        rc = bh_http_write(c, e.out.text, e.out.size);
    if (rc == 0)
        rc = bh_http_write(c, "\n\n", 2);
    return rc == 0 ? bh_http_flush(c) : rc;
}

static int
give_events(struct bh_http_call *c, void *arg)
{
    uint64_t told = 0;
    int      rc;

    (void)arg;
    if (atomic_fetch_add(&streams, 1) >= STREAMS) {
        leave_stream(NULL);
        return bh_http_reply(c, 503, "%d of these are open already\n", STREAMS);
    }
    BH_DEFER(leave_stream, NULL);
    rc = bh_http_sse(c);
    for (int tick = 0; rc == 0 && bh_ctx_err(bh_http_ctx(c)) == 0; tick++) {
        if (bh_http_is_draining(bh_http_server_of(c)))
            break;
        if (ob_live_panics_version() != told || tick == 0)
            rc = send_event(c, (struct event){ .panics = true, .told = &told });
        if (rc == 0 && tick % TICKS == 0)
            rc = send_event(c, (struct event){ .panics = false });
        bh_sleep(BH_SECOND / TICKS);
    }
    return 0;
}

static int
give_state(struct bh_http_call *c, void *arg)
{
    struct bh_json_out out = { .arena = c->arena };

    (void)arg;
    ob_live_state(&out);
    return bh_http_reply_bytes(c, 200, "application/json", out.text, out.size);
}

/* ---- goroutines ------------------------------------------------------------------ */

struct look {
    struct bh_json_out        out;
    struct ob_goroutine_query q;
    int                       rc;
};

static void
look_at_goroutines(void *arg)
{
    struct look *l = arg;

    l->rc = ob_live_goroutines(&l->out, &l->q);
}

static void
free_arena(void *arg)
{
    bh_arena_free(arg);
}

static int
give_goroutines(struct bh_http_call *c, void *arg)
{
    const char *search = bh_http_query(c, "search"), *state = bh_http_query(c, "state"),
               *from = bh_http_query(c, "from");
    struct look *l = bh_arena_alloc(c->arena, sizeof *l);

    (void)arg;
    l->out.arena = bh_arena_new(0); /* the request's own is too small for ten thousand */
    bh_arena_defer(c->arena, free_arena, l->out.arena);
    l->q =
        (struct ob_goroutine_query){ search != NULL ? search : "", state != NULL ? state : "",
                                     from != NULL ? strtoul(from, NULL, 10) : 0, GROUPS_PAGE };
    bh_blocking(look_at_goroutines, l); /* it reads debug information */
    if (l->rc < 0)
        return l->rc;
    return bh_http_reply_bytes(c, 200, "application/json", l->out.text, l->out.size);
}

/* ---- reports --------------------------------------------------------------------- */

/* A name as reports and their files have them: nothing that leads elsewhere. */
static bool
is_plain(const char *name)
{
    return *name != '\0' && *name != '.' &&
           strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") ==
               strlen(name);
}

static int
by_name_backwards(const void *a, const void *b)
{
    return strcmp(*(const char *const *)b, *(const char *const *)a);
}

static const char **
first(const char **names, size_t n)
{
    const char **least = names;

    for (size_t i = 1; i < n; i++)
        if (strcmp(names[i], *least) < 0)
            least = &names[i];
    return least;
}

/*
 * The names in a directory, the last first; ids begin with their time.  Of more than max, those
 * that come first are left out.  Returns: how many.
 */
static size_t
list_names(struct bh_arena *arena, const char *path, const char **names, size_t max)
{
    DIR           *d = opendir(path);
    struct dirent *e;
    size_t         n = 0;
    const char   **least = NULL; /* of max names; NULL: to be looked for */

    while (d != NULL && (e = readdir(d)) != NULL) {
        if (!is_plain(e->d_name))
            continue;
        if (n == max && least == NULL)
            least = first(names, n);
        if (n == max && strcmp(e->d_name, *least) <= 0)
            continue;
        *(n < max ? &names[n++] : least) =
            bh_arena_string(arena, e->d_name, strlen(e->d_name));
        least = NULL;
    }
    if (d != NULL)
        closedir(d);
    qsort(names, n, sizeof *names, by_name_backwards);
    return n;
}

enum { NAMES = 4096 };

struct listing {
    struct bh_arena   *arena;
    const char        *path;
    struct bh_json_out out;
};

static void
put_report(struct listing *l, const char *id)
{
    const char  *path = bh_arena_print(l->arena, "%s/%s", l->path, id);
    const char **files = bh_arena_alloc(l->arena, 64 * sizeof *files);
    size_t       n = list_names(l->arena, path, files, 64);
    struct stat  s;

    bh_json_open(&l->out, NULL, '{');
    bh_json_add_text(&l->out, "id", id);
    bh_json_add_int(&l->out, "serial", (int64_t)ob_report_serial(id));
    bh_json_add_int(&l->out, "time", stat(path, &s) == 0 ? s.st_mtime : 0);
    bh_json_open(&l->out, "files", '[');
    while (n-- > 0) {
        if (stat(bh_arena_print(l->arena, "%s/%s", path, files[n]), &s) < 0 ||
            !S_ISREG(s.st_mode))
            continue;
        bh_json_open(&l->out, NULL, '{');
        bh_json_add_text(&l->out, "name", files[n]);
        bh_json_add_int(&l->out, "size", s.st_size);
        bh_json_close(&l->out, '}');
    }
    bh_json_close(&l->out, ']');
    bh_json_close(&l->out, '}');
}

static void
list_reports(void *arg)
{
    struct listing *l = arg;
    const char    **ids = bh_arena_alloc(l->arena, NAMES * sizeof *ids);
    size_t          n = l->path != NULL ? list_names(l->arena, l->path, ids, NAMES) : 0;

    bh_json_open(&l->out, NULL, '{');
    bh_json_add_bool(&l->out, "kept", l->path != NULL);
    bh_json_add_int(&l->out, "total", (int64_t)n);
    bh_json_open(&l->out, "reports", '[');
    for (size_t i = 0; i < n && i < REPORTS; i++)
        put_report(l, ids[i]);
    bh_json_close(&l->out, ']');
    bh_json_close(&l->out, '}');
}

static int
give_reports(struct bh_http_call *c, void *arg)
{
    const struct bh_http_debug_options *o = arg;
    struct listing                     *l = bh_arena_alloc(c->arena, sizeof *l);

    l->arena = l->out.arena = bh_arena_new(0);
    bh_arena_defer(c->arena, free_arena, l->arena);
    l->path = o->reports;
    bh_blocking(list_reports, l);
    return bh_http_reply_bytes(c, 200, "application/json", l->out.text, l->out.size);
}

static void
close_fd(void *arg)
{
    (void)close((int)(intptr_t)arg);
}

static const char *
type_of(const char *name)
{
    size_t length = strlen(name);

    if (length > 5 && strcmp(name + length - 5, ".json") == 0)
        return "application/json";
    if ((length > 4 && strcmp(name + length - 4, ".txt") == 0) || strcmp(name, "MANIFEST") == 0)
        return "text/plain; charset=utf-8";
    return "application/octet-stream";
}

static int
give_file(struct bh_http_call *c, void *arg)
{
    const struct bh_http_debug_options *o = arg;
    const char *id = bh_http_param(c, "id"), *name = bh_http_param(c, "file");
    struct stat s;
    int         fd = -1;

    if (o->reports != NULL && is_plain(id) && is_plain(name))
        fd = open(bh_arena_print(c->arena, "%s/%s/%s", o->reports, id, name),
                  O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    if (fd < 0)
        return bh_http_reply(c, 404, "404 Not Found\n");
    bh_arena_defer(c->arena, close_fd, (void *)(intptr_t)fd);
    if (fstat(fd, &s) < 0 || !S_ISREG(s.st_mode))
        return bh_http_reply(c, 404, "404 Not Found\n");
    (void)bh_http_set_header(c, "Content-Disposition",
                             bh_arena_print(c->arena, "inline; filename=\"%s-%s\"", id, name));
    bh_http_start(c, 200, type_of(name), s.st_size);
    return bh_http_send_file(c, fd, 0, s.st_size);
}

/* ---- routes ---------------------------------------------------------------------- */

void
bh_http_debug_mount_(struct bh_http_group *w, const struct bh_http_debug_options *options)
{
    static const struct bh_http_debug_options none;
    static struct asset   html = { "text/html; charset=utf-8", ob_page_html, ob_page_html_end };
    static struct asset   css = { "text/css; charset=utf-8", ob_page_css, ob_page_css_end };
    static struct asset   js = { "text/javascript; charset=utf-8", ob_page_js, ob_page_js_end };
    void                 *o = (void *)(uintptr_t)(options != NULL ? options : &none);
    struct bh_http_group *g = bh_http_group(w, "/debug/bulkhead");
    struct bh_http_group *pprof = bh_http_group(w, "");

    bh_http_use(g, bh_http_debug_guard, o);
    bh_http_handle(g, "GET", give_asset, &html);
    bh_http_handle(g, "GET /page.css", give_asset, &css);
    bh_http_handle(g, "GET /page.js", give_asset, &js);
    bh_http_handle(g, "GET /events", give_events, NULL);
    bh_http_handle(g, "GET /state", give_state, NULL);
    bh_http_handle(g, "GET /goroutines", give_goroutines, NULL);
    bh_http_handle(g, "GET /reports", give_reports, o);
    bh_http_handle(g, "GET /reports/{id}/{file}", give_file, o);
    bh_http_use(pprof, bh_http_debug_guard, o);
    bh_http_pprof_mount(pprof);
}
