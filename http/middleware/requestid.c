/*
 * requestid.c -- a name for each request: random for the process, then counted.
 *
 * "k7m2pzq40d-1a2b": fifty random bits, so that no two processes say the same, and the number of
 * the request.  No randomness, lock or clock for each of them.
 */

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/random.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/http/monitor.h>

enum { PREFIX = 10, MAX_ID = 64 };

static const char     key;
static char           prefix[PREFIX];
static pthread_once_t once = PTHREAD_ONCE_INIT;
static int            failure;

static void
make_prefix(void)
{
    static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* no i, l, o, u */
    unsigned char     bytes[PREFIX];

    if (getrandom(bytes, sizeof bytes, 0) != sizeof bytes)
        failure = errno;
    for (int i = 0; i < PREFIX; i++)
        prefix[i] = digits[bytes[i] & 31];
}

static const char *
make_id(struct bh_http_call *c)
{
    char     text[PREFIX + 1 + 16], *at = text + sizeof text;
    uint64_t number = c->id;

    (void)pthread_once(&once, make_prefix);
    if (failure != 0)
        bh_panic("http: no random number: %s", strerror(failure));
    do
        *--at = "0123456789abcdef"[number & 15];
    while ((number >>= 4) > 0);
    *--at = '-';
    at -= PREFIX;
    memcpy(at, prefix, PREFIX);
    return bh_arena_string(c->arena, at, (size_t)(text + sizeof text - at));
}

static bool
is_good(const char *id)
{
    size_t length =
        strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-");

    return length > 0 && length <= MAX_ID && id[length] == '\0';
}

int
bh_http_identify(struct bh_http_call *c, void *arg)
{
    const struct bh_http_identify_options *o = arg;
    const char *header = o != NULL && o->header != NULL ? o->header : "X-Request-Id";
    const char *id = o != NULL && o->trust ? bh_http_header(c, header) : NULL;

    if (id == NULL || !is_good(id))
        id = make_id(c);
    bh_http_set(c, &key, (char *)(uintptr_t)id);
    (void)bh_http_set_header(c, header, id);
    return bh_http_next(c);
}

const char *
bh_http_request_id(struct bh_http_call *c)
{
    const char *id = bh_http_get(c, &key);

    return id != NULL ? id : "";
}
