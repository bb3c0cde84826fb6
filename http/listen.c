/*
 * listen.c -- where a server listens: addresses, and sockets that listen already, which a
 * service manager has opened and passed on.
 *
 * Those are descriptors 3 and up: LISTEN_FDS says how many, LISTEN_FDNAMES their names,
 * LISTEN_PID whom they are for: the environment is inherited, they may not be meant for us.
 *
 * See: sd_listen_fds(3).
 */

#include "ht.h"
#include "tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bulkhead/http/tls.h>

enum { FIRST_PASSED = 3 };

/* shared: others may go on listening when we have stopped. */
static void
add_listener(struct bh_http_server *s, struct bh_listener *l, struct bh_tls_config *tls,
             bool shared)
{
    if (tls != NULL)
        tls_config_offer(tls, "h2,http/1.1");
    s->listeners[s->listener_count++] = (struct ht_listener){
        .l = l, .tls = tls != NULL ? bh_tls_config_ref(tls) : NULL, .shared = shared
    };
}

int
ht_listeners_ready(struct bh_http_server *s)
{
    struct tls_state *state;
    int               rc = 0;

    for (int i = 0; i < s->listener_count && rc == 0; i++)
        if (s->listeners[i].tls != NULL) {
            rc = tls_config_state(s->listeners[i].tls, TLS_SERVER, &state);
            if (rc == 0)
                tls_state_unref(state);
        }
    return rc;
}

/* A whole number without a sign.  Returns: -1 if it is none. */
static int
read_number(const char *text)
{
    char *end = NULL;
    long  n = text != NULL && *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : -1;

    return n >= 0 && n <= 1 << 20 && *end == '\0' ? (int)n : -1;
}

static int
adopt(struct bh_http_server *s, int fd, struct bh_tls_config *tls)
{
    struct bh_listener *l;
    int                 rc;

    for (int i = 0; i < s->listener_count; i++)
        if (bh_listener_fd(s->listeners[i].l) == fd)
            return bh_fail(-EBUSY, "http: listens on descriptor %d already", fd);
    rc = bh_listen_fd(fd, &l);
    if (rc == 0)
        add_listener(s, l, tls, true);
    return rc;
}

/* The name of the socket at *names, which ends at a colon; *names goes behind it. */
static bool
next_is(const char **names, const char *wanted)
{
    size_t      n = strcspn(*names, ":");
    const char *name = *names;

    *names += n + (name[n] == ':');
    return wanted[0] == '\0' || (strlen(wanted) == n && strncmp(name, wanted, n) == 0);
}

static int
adopt_passed(struct bh_http_server *s, const char *wanted, struct bh_tls_config *tls)
{
    const char *names = getenv("LISTEN_FDNAMES");
    int         count = read_number(getenv("LISTEN_FDS")), before = s->listener_count, rc;

    if (read_number(getenv("LISTEN_PID")) != (int)getpid())
        count = 0;
    if (names == NULL)
        names = "";
    for (int fd = FIRST_PASSED; fd < FIRST_PASSED + count; fd++) {
        if (!next_is(&names, wanted))
            continue;
        BH_REQUIRE(s->listener_count < HT_MAX_LISTENERS);
        rc = adopt(s, fd, tls);
        if (rc < 0)
            return rc;
    }
    return s->listener_count > before
               ? 0
               : bh_fail(-ENOENT, "http: no socket%s%s was passed to this process",
                         wanted[0] != '\0' ? " named " : "", wanted);
}

int
bh_http_listen_tls(struct bh_http_server *s, const char *address, struct bh_tls_config *config)
{
    struct bh_listener *l;
    int                 rc;

    BH_REQUIRE(s->listener_count < HT_MAX_LISTENERS);
    BH_REQUIRE(!atomic_load(&s->serving));
    if (strncmp(address, "systemd:", 8) == 0)
        return adopt_passed(s, address + 8, config);
    if (strncmp(address, "fd:", 3) == 0)
        return adopt(s, read_number(address + 3), config);
    rc = bh_listen(address, &l);
    if (rc < 0)
        return rc;
    add_listener(s, l, config, false);
    if (strncmp(address, "unix:/", 6) == 0 && s->o.unix_mode != 0 &&
        chmod(address + 5, (mode_t)s->o.unix_mode) < 0) {
        rc = -errno;
        return bh_fail(rc, "http: mode %o of %s: %s", s->o.unix_mode, address + 5,
                       bh_error_text(rc));
    }
    return 0;
}

int
bh_http_listen(struct bh_http_server *s, const char *address)
{
    return bh_http_listen_tls(s, address, NULL);
}
