/*
 * lookup.c -- host names, by the system's resolver.
 *
 * getaddrinfo blocks, for seconds at times, and cannot be interrupted.  So it
 * runs on a goroutine of its own inside bh_blocking, while the caller waits on
 * a channel and on its context.  A caller that gives up leaves; the lookup
 * finishes alone, and whoever of the two is last frees what they share.
 *
 * Each lookup under way holds a thread, so at most MAX_LOOKUPS are; the rest
 * queue.  Literal addresses never come here.
 */

#include <errno.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/sync.h>

#include "netaddr.h"
#include "runtime.h"

enum {
    MAX_LOOKUPS = 32,
    STACK = 256 << 10, /* resolver plug-ins are written for thread stacks */
};

struct lookup {
    _Atomic uint32_t refs;      /* the caller and the worker */
    _Atomic bool     abandoned; /* nobody waits: do not start */
    struct bh_chan  *done;      /* closed when the fields below are final */
    struct rt_want   want;
    int              gai, error; /* getaddrinfo's, errno's */
    int              count;
    struct rt_addr   list[RT_ADDR_MAX];
    char             host[RT_HOST_MAX], service[RT_SERVICE_MAX]; /* "": none */
};

static struct bh_semaphore permits = { .available = MAX_LOOKUPS };

static void
unref(struct lookup *l)
{
    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
        return;
    bh_chan_unref(l->done);
    free(l);
}

/* keep -- the addresses, IPv4 first if they are to listen on: there only one is used. */
static void
keep(struct lookup *l, const struct addrinfo *found)
{
    for (int pass = 0; pass < 2; pass++) {
        for (const struct addrinfo *a = found; a != NULL; a = a->ai_next) {
            bool first = !l->want.passive || a->ai_family == AF_INET;

            if (first != (pass == 0) || l->count == RT_ADDR_MAX ||
                a->ai_addrlen > sizeof l->list[0].u)
                continue;
            l->list[l->count].length = a->ai_addrlen;
            memcpy(&l->list[l->count++].u, a->ai_addr, a->ai_addrlen);
        }
    }
}

static void
ask_system(void *arg)
{
    struct lookup   *l = arg;
    struct addrinfo *found = NULL;
    struct addrinfo  hints = {
         .ai_family = AF_UNSPEC,
         .ai_socktype = l->want.type,
         .ai_flags = l->want.passive ? AI_PASSIVE : 0,
    };

    l->gai = getaddrinfo(l->host[0] != '\0' ? l->host : NULL,
                         l->service[0] != '\0' ? l->service : NULL, &hints, &found);
    l->error = errno;
    if (l->gai == 0) {
        keep(l, found);
        freeaddrinfo(found);
    }
}

static void
worker(void *args)
{
    struct lookup *l = *(struct lookup **)args;

    bh_semaphore_acquire(&permits, 1);
    if (!atomic_load_explicit(&l->abandoned, memory_order_relaxed))
        bh_blocking(ask_system, l);
    bh_semaphore_release(&permits, 1);
    bh_close(l->done);
    unref(l);
}

/* failure -- the note and code for what getaddrinfo said. */
static int
failure(const struct lookup *l)
{
    switch (l->gai) {
    case EAI_NONAME:
#if defined(EAI_NODATA)
    case EAI_NODATA:
#endif
        return bh_fail(BH_ENOHOST, "lookup %s: no such host", l->host);
    case EAI_SERVICE:
        return bh_fail(-EINVAL, "lookup %s/%s: unknown port",
                       rt_addr_network(AF_INET, l->want.type), l->service);
    case EAI_AGAIN:
        return bh_fail(-EAGAIN, "lookup %s: temporary failure in name resolution", l->host);
    case EAI_MEMORY:
        return bh_fail(-ENOMEM, "lookup %s: out of memory", l->host);
    case EAI_SYSTEM:
        return bh_fail(-l->error, "lookup %s: %s", l->host, bh_error_text(-l->error));
    default:
        return bh_fail(BH_ENOHOST, "lookup %s: %s", l->host, gai_strerror(l->gai));
    }
}

static struct lookup *
lookup_new(const char *host, const char *service, struct rt_want want)
{
    struct lookup *l = calloc(1, sizeof *l);

    if (l == NULL)
        rt_panic_runtime("out of memory for a lookup");
    atomic_store_explicit(&l->refs, 2, memory_order_relaxed);
    l->want = want;
    memcpy(l->host, host, strlen(host) + 1);
    if (service != NULL)
        memcpy(l->service, service, strlen(service) + 1);
    l->done = BH_CHAN(char, 0);
    return l;
}

int
rt_lookup(struct bh_ctx *ctx, const char *host, const char *service, struct rt_want want,
          struct rt_addr list[RT_ADDR_MAX])
{
    enum { ENDED, FOUND };
    const struct bh_go_options options = { .name = "lookup", .stack_size = STACK };
    struct lookup *l;
    int            result = ctx != NULL ? bh_ctx_err(ctx) : 0;

    if (result != 0)
        return bh_fail(result, "lookup %s: %s", host, bh_error_text(result));
    l = lookup_new(host, service, want);
    bh_go_with(&options, worker, &l);
    if (bh_select([ENDED] = BH_RECV(ctx != NULL ? bh_ctx_done(ctx) : NULL, NULL),
                  [FOUND] = BH_RECV(l->done, NULL)) == ENDED) {
        atomic_store_explicit(&l->abandoned, true, memory_order_relaxed);
        result = bh_ctx_err(ctx);
        bh_fail(result, "lookup %s: %s", host, bh_error_text(result));
    } else if (l->gai != 0 || l->count == 0) {
        result = failure(l);
    } else {
        result = l->count;
        memcpy(list, l->list, (size_t)l->count * sizeof *list);
    }
    unref(l);
    return result;
}

int
bh_lookup(struct bh_ctx *ctx, const char *host, char addresses[][64], int max)
{
    struct rt_addr list[RT_ADDR_MAX];
    int            n = 1;

    if (host[0] == '\0' || strlen(host) >= RT_HOST_MAX)
        return bh_fail(BH_ENOHOST, "lookup %.64s: no such host", host);
    if (!rt_addr_literal(host, &list[0]))
        n = rt_lookup(ctx, host, NULL, (struct rt_want){ .type = SOCK_STREAM }, list);
    if (n > max)
        n = max;
    for (int i = 0; i < n; i++)
        rt_addr_host(&list[i], addresses[i], 64);
    return n;
}
