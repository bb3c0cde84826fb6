#ifndef BULKHEAD_OBSERVE_PPROF_H
#define BULKHEAD_OBSERVE_PPROF_H

/*
 * pprof.h -- /debug/pprof/: profiles for `go tool pprof http://...`, as Go's net/http/pprof.
 *
 *     bh_http_use(s, bh_http_recover, NULL);
 *     bh_http_pprof_mount(s);
 *
 *     go tool pprof http://127.0.0.1:8080/debug/pprof/goroutine
 *     go tool pprof http://127.0.0.1:8080/debug/pprof/profile?seconds=10
 *
 * The pages show the program's inside: mount them on a server, or behind a middleware, that
 * strangers cannot reach.
 */

#include <bulkhead/http/server.h>

struct bh_http_group;

/*
 * bh_http_pprof_mount -- add the routes below "/debug/pprof/", to the server or a group.
 *
 * The index; every profile of profile.h's table by its name, whenever it is registered;
 * "profile", "cmdline", "symbol"; and what bh_pprof_register_handler has.  They understand
 * ?debug=1, ?debug=2 (goroutine), ?seconds=N, ?raw=1 and
 * ?labels=1.  It also starts the CPU profile (bh_cpu_start).
 */
#define bh_http_pprof_mount(w) bh_http_pprof_mount_(BH_HTTP_GROUP_(w))

/*
 * bh_pprof_register_handler -- serve "/debug/pprof/<name>" by fn, as "trace" does.
 * Strings are static.
 * Returns: 0; -EEXIST; -ENOSPC if there are too many; -EINVAL.
 */
int bh_pprof_register_handler(const char *name, const char *about, bh_http_fn *fn, void *arg);

/* ---- machinery; nothing below is API --------------------------------------------- */

void bh_http_pprof_mount_(struct bh_http_group *g);

#endif
