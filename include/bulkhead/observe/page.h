#ifndef BULKHEAD_OBSERVE_PAGE_H
#define BULKHEAD_OBSERVE_PAGE_H

/*
 * page.h -- /debug/bulkhead: what the process does, to look at, from the process itself.
 *
 *     static const struct bh_http_debug_options inside = { .reports = "reports" };
 *
 *     bh_set_hooks(&(struct bh_hooks){ .panic = bh_debug_event });    before bh_main
 *     ...
 *     bh_http_observe(s, bh_http_metrics, NULL);          for the table of routes
 *     bh_http_use(s, bh_http_recover, NULL);
 *     bh_http_debug_mount(s, &inside);
 *
 * A page without external assets: panics as they happen, goroutines and their stacks, routes,
 * flame graphs of profiles, what was dropped, files to download.  Each part shows what is
 * switched on; none needs a collector.
 */

#include <bulkhead/http/server.h>

struct bh_panic_event;

/*
 * Who may see "/debug/...": clients on this machine (loopback addresses, Unix sockets) that name it
 * "localhost" or by a loopback address; and whom these let in.  Lives as long as the server.
 */
struct bh_http_debug_options {
    const char *const *peers; /* addresses, "10.0.0.0/8", "2001:db8::7"; NULL at the end */
    const char *const
               *hosts; /* names by which it may be asked for, "ops.example"; NULL at the end */
    const char *token; /* lets in whoever has it, as bearer or as password, from anywhere */
    const char *reports; /* the directory of bh_report_options, to download from; NULL: none */
};

/*
 * bh_http_debug_mount(w, options) -- add "/debug/bulkhead" and "/debug/pprof/" to the server or a
 * group, behind bh_http_debug_guard.  options: NULL for the defaults.  Starts the CPU profile.
 */
#define bh_http_debug_mount(w, options) bh_http_debug_mount_(BH_HTTP_GROUP_(w), (options))

/*
 * bh_http_debug_guard -- middleware: 403 for whom the options do not let in.  arg: struct
 * bh_http_debug_options, or NULL.
 *
 * What a request says of itself proves nothing: it is the connection's peer that counts, and the
 * client that bh_http_real_ip found, if that is in use.  A request that was forwarded while it is
 * not is refused, as who sent it is not known; so is one that a page of another
 * origin makes, or that names a host which is not ours, as after DNS rebinding.  A proxy on this
 * machine that adds no X-Forwarded-For looks like a local client: have it refuse "/debug".
 *
 * With a token, who has none is asked for it: 401.
 */
bh_http_fn bh_http_debug_guard;

/*
 * bh_debug_event -- remember a step of a panic, for the page; for the hook of panics (hooks.h).
 * Does not block, allocate or wait.  Threads: any.
 */
void bh_debug_event(const struct bh_panic_event *e);

/* ---- machinery; nothing below is API --------------------------------------------- */

void bh_http_debug_mount_(struct bh_http_group *g, const struct bh_http_debug_options *options);

#endif
