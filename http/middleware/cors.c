/*
 * cors.c -- which other origins' pages may read replies.
 *
 * A reply that depends on the origin says "Vary: Origin" also where there was none,
 * else a cache would hand it to the wrong page.  That is said when the request comes in, for the
 * error replies of a panic, and again when the head goes out, since a handler may have
 * set Vary meanwhile.
 *
 *     "*"            no Vary, no credentials: the reply is everybody's
 *     list, callback the origin itself, with Vary
 */

#include <bulkhead/http/security.h>

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/base/arena.h>

#include "fields.h"
#include "helpers.h"

struct bh_http_cors {
    struct bh_http_cors_options o;   /* strings are ours */
    bool                        any; /* "*" */
};

/* ---- life ------------------------------------------------------------------------ */

/* "scheme://host" with at most one "*", at the beginning of the host. */
static bool
is_origin_pattern(const char *item, size_t length)
{
    const char *host = memmem(item, length, "://", 3);
    const char *star = memchr(item, '*', length);
    size_t      host_length;

    if (length == 4 && memcmp(item, "null", 4) == 0)
        return true;
    if (host == NULL || host == item)
        return false;
    host += 3;
    host_length = length - (size_t)(host - item);
    if (star != NULL && (star != host || host_length < 3 || host[1] != '.' ||
                         memchr(star + 1, '*', host_length - 1) != NULL))
        return false;
    return host_length > 0 && memchr(host, '/', host_length) == NULL;
}

static char *
copy(const char *text)
{
    char *new = text != NULL ? strdup(text) : NULL;

    if (text != NULL && new == NULL)
        bh_panic("http: out of memory for origins");
    return new;
}

struct bh_http_cors *
bh_http_cors_new(const struct bh_http_cors_options *options)
{
    struct bh_http_cors *cors;
    const char          *list = options->origins != NULL ? options->origins : "", *item;
    size_t               length;
    bool                 any = ht_list_has(list, "*");

    if (any && options->credentials)
        bh_panic(
            "http: credentials for every origin (\"*\") would let any page act as its visitor");
    while ((item = ht_list_next(&list, &length)) != NULL)
        if (!(length == 1 && item[0] == '*') && !is_origin_pattern(item, length))
            bh_panic("http: \"%.*s\" is no origin", (int)length, item);
    cors = calloc(1, sizeof *cors);
    if (cors == NULL)
        bh_panic("http: out of memory for origins");
    cors->o = *options;
    cors->any = any;
    cors->o.origins = copy(options->origins != NULL ? options->origins : "");
    cors->o.methods = copy(options->methods != NULL ? options->methods
                                                    : "GET, HEAD, POST, PUT, PATCH, DELETE");
    cors->o.headers = copy(options->headers);
    cors->o.exposed = copy(options->exposed);
    return cors;
}

void
bh_http_cors_free(struct bh_http_cors *cors)
{
    if (cors == NULL)
        return;
    free((void *)(uintptr_t)cors->o.origins);
    free((void *)(uintptr_t)cors->o.methods);
    free((void *)(uintptr_t)cors->o.headers);
    free((void *)(uintptr_t)cors->o.exposed);
    free(cors);
}

/* ---- origins --------------------------------------------------------------------- */

/* Labels of a host, as the browser writes them: nothing else may stand in for "*". */
static bool
are_labels(const char *text, size_t length)
{
    if (length == 0 || text[0] == '.' || text[length - 1] == '.')
        return false;
    for (size_t i = 0; i < length; i++)
        if (!((text[i] >= 'a' && text[i] <= 'z') || (text[i] >= '0' && text[i] <= '9') ||
              text[i] == '-' || text[i] == '.'))
            return false;
    return true;
}

/* Origins are compared exactly: browsers write them in lower case, without a default port. */
static bool
matches(const char *item, size_t length, const char *origin)
{
    const char *star = memchr(item, '*', length);
    size_t      origin_length = strlen(origin), before, after;

    if (star == NULL)
        return origin_length == length && memcmp(item, origin, length) == 0;
    before = (size_t)(star - item);
    after = length - before - 1;
    return origin_length > before + after && memcmp(item, origin, before) == 0 &&
           memcmp(star + 1, origin + origin_length - after, after) == 0 &&
           are_labels(origin + before, origin_length - before - after);
}

static bool
is_allowed(const struct bh_http_cors *cors, struct bh_http_call *c, const char *origin)
{
    const char *list = cors->o.origins, *item;
    size_t      length;

    while ((item = ht_list_next(&list, &length)) != NULL)
        if (matches(item, length, origin))
            return true;
    return cors->o.allow != NULL && cors->o.allow(c, origin, cors->o.allow_arg);
}

/* ---- replies --------------------------------------------------------------------- */

/* What is said to an origin that is allowed, in a preflight and otherwise. */
static void
permit(const struct bh_http_cors *cors, struct bh_http_call *c, const char *origin)
{
    (void)bh_http_set_header(c, "Access-Control-Allow-Origin", cors->any ? "*" : origin);
    if (cors->o.credentials)
        (void)bh_http_set_header(c, "Access-Control-Allow-Credentials", "true");
}

/* Only names go back: the request's field is a stranger's. */
static bool
are_names(const char *list)
{
    return list[strspn(list, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
                             "!#$%&'*+-.^_`|~, \t")] == '\0';
}

static int
reply_preflight(const struct bh_http_cors *cors, struct bh_http_call *c, bool allowed)
{
    const char *headers = cors->o.headers;

    if (headers != NULL && strcmp(headers, "*") == 0) {
        headers = ht_request_list(c, "Access-Control-Request-Headers");
        ht_reply_varies(c, "Access-Control-Request-Headers");
    }
    if (allowed) {
        (void)bh_http_set_header(c, "Access-Control-Allow-Methods", cors->o.methods);
        if (headers != NULL && are_names(headers))
            (void)bh_http_set_header(c, "Access-Control-Allow-Headers", headers);
        if (cors->o.max_age > 0)
            (void)bh_http_set_header(c, "Access-Control-Max-Age",
                                     bh_arena_print(c->arena, "%d", cors->o.max_age));
    }
    return bh_http_reply_bytes(c, 204, NULL, NULL, 0);
}

static int64_t
vary_head(struct bh_http_call *c, void *arg, int64_t length)
{
    (void)arg;
    (void)length;
    ht_reply_varies(c, "Origin");
    return BH_HTTP_SKIP;
}

int
bh_http_cors(struct bh_http_call *c, void *arg)
{
    static const struct bh_http_filter vary = { .head = vary_head };
    const struct bh_http_cors         *cors = arg;
    const char                        *origin = ht_request_single(c, "Origin");
    bool allowed = origin != NULL && (cors->any || is_allowed(cors, c, origin));

    if (!cors->any) {
        ht_reply_varies(c, "Origin");
        (void)bh_http_filter(c, &vary, NULL);
    }
    if (allowed)
        permit(cors, c, origin);
    if (origin != NULL && strcmp(c->method, "OPTIONS") == 0 &&
        bh_http_header(c, "Access-Control-Request-Method") != NULL)
        return reply_preflight(cors, c, allowed);
    if (allowed && cors->o.exposed != NULL)
        (void)bh_http_set_header(c, "Access-Control-Expose-Headers", cors->o.exposed);
    return bh_http_next(c);
}
