/*
 * resource.c -- who speaks.
 *
 * Attributes are put in the order of their right to be believed, and the first of a key stays:
 *
 *     by hand > OTEL_SERVICE_NAME > OTEL_RESOURCE_ATTRIBUTES > clouds and containers
 *             (resource_cloud.c) > host, system, process > defaults
 *
 * Texts are copied into the resource, which is static: nothing here needs memory, and
 * nothing is freed.  `once` covers the finding, `lock` what is set by hand before it; afterwards
 * nobody writes.  The command line is left out: people put secrets there.
 */

#include "resource.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <bulkhead/go/error.h>

static struct ob_resource found = { .root = "", .env = getenv };
static pthread_mutex_t    lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t     once = PTHREAD_ONCE_INIT;
static _Atomic bool       asked;

/* ---- putting --------------------------------------------------------------------- */

/* Copy, with a NUL.  NULL: no room. */
static const char *
keep(struct ob_resource *r, const char *text, size_t size)
{
    char *at = r->text + r->used;

    if (size >= sizeof r->text - r->used)
        return NULL;
    memcpy(at, text, size);
    at[size] = '\0';
    r->used += size + 1;
    return at;
}

static struct bh_attribute *
find(struct ob_resource *r, const char *key)
{
    for (size_t i = 0; i < r->count; i++)
        if (strcmp(r->list[i].key, key) == 0)
            return &r->list[i];
    return NULL;
}

int
ob_resource_put(struct ob_resource *r, const char *key, const char *value)
{
    struct bh_attribute a = { .number = false };

    if (find(r, key) != NULL)
        return 0;
    if (r->count == OB_RESOURCE_MAX)
        return -ENOSPC;
    a.key = keep(r, key, strlen(key));
    a.value = value != NULL ? keep(r, value, strlen(value)) : NULL;
    if (a.key == NULL || (value != NULL && a.value == NULL))
        return -ENOSPC;
    r->list[r->count++] = a;
    return 0;
}

void
ob_resource_env(struct ob_resource *r, const char *key, const char *variable)
{
    const char *value = r->env(variable);

    if (value != NULL && value[0] != '\0')
        (void)ob_resource_put(r, key, value);
}

static void
put_number(struct ob_resource *r, const char *key, long value)
{
    char                 text[24];
    struct bh_attribute *a;

    (void)snprintf(text, sizeof text, "%ld", value);
    if (ob_resource_put(r, key, text) == 0 && (a = find(r, key)) != NULL && a->value != NULL &&
        strcmp(a->value, text) == 0)
        a->number = true;
}

size_t
ob_resource_read(const struct ob_resource *r, const char *path, char *out, size_t size)
{
    char    name[512];
    ssize_t n, length = 0;
    int     fd;

    if (snprintf(name, sizeof name, "%s%s", r->root, path) >= (int)sizeof name)
        return 0;
    fd = open(name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0)
        return 0;
    while ((size_t)length < size - 1 &&
           (n = read(fd, out + length, size - 1 - (size_t)length)) > 0)
        length += n;
    (void)close(fd);
    while (length > 0 && strchr(" \t\n", out[length - 1]) != NULL)
        length--;
    out[length] = '\0';
    return (size_t)length;
}

/* ---- OTEL_RESOURCE_ATTRIBUTES ---------------------------------------------------- */

static int
digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The text between two places, white space and percent-encoding undone.  Returns: -1, malformed. */
static int
decode(const char *from, const char *to, char *out, size_t size)
{
    size_t n = 0;

    while (from < to && strchr(" \t", *from) != NULL)
        from++;
    while (from < to && strchr(" \t", to[-1]) != NULL)
        to--;
    while (from < to) {
        char c = *from++;

        if (c == '%') {
            int high = to - from >= 2 ? digit(from[0]) : -1;
            int low = high >= 0 ? digit(from[1]) : -1;

            if (low < 0 || high + low == 0)
                return -1;
            c = (char)(high << 4 | low);
            from += 2;
        }
        if (n + 1 >= size)
            return -1;
        out[n++] = c;
    }
    out[n] = '\0';
    return 0;
}

/* Any mistake, and nothing of it counts, as OpenTelemetry demands. */
static void
put_list(struct ob_resource *r, const char *list)
{
    const size_t count = r->count, used = r->used;

    for (const char *at = list, *end; *at != '\0'; at = *end == ',' ? end + 1 : end) {
        const char *equals;
        char        key[128], value[1024];

        end = strchrnul(at, ',');
        equals = memchr(at, '=', (size_t)(end - at));
        if (equals == NULL || decode(at, equals, key, sizeof key) < 0 ||
            decode(equals + 1, end, value, sizeof value) < 0 || key[0] == '\0' ||
            ob_resource_put(r, key, value) < 0) {
            r->problem = "OTEL_RESOURCE_ATTRIBUTES is malformed or too long, and not used";
            r->count = count;
            r->used = used;
            return;
        }
    }
}

/* ---- host, system, process ------------------------------------------------------- */

/* NAME="value" of os-release. */
static void
put_release(struct ob_resource *r, const char *key, const char *text, const char *name)
{
    size_t      length = strlen(name);
    const char *at = text, *end;
    char        value[128];

    while (at != NULL && !(strncmp(at, name, length) == 0 && at[length] == '=')) {
        at = strchr(at, '\n');
        at = at != NULL ? at + 1 : NULL;
    }
    if (at == NULL)
        return;
    at += length + 1;
    end = strchrnul(at, '\n');
    if (end - at >= 2 && (*at == '"' || *at == '\'') && end[-1] == *at) {
        at++;
        end--;
    }
    if (end == at || (size_t)(end - at) >= sizeof value)
        return;
    memcpy(value, at, (size_t)(end - at));
    value[end - at] = '\0';
    (void)ob_resource_put(r, key, value);
}

static void
find_host(struct ob_resource *r)
{
    struct utsname u;
    char           text[4096];

    if (uname(&u) == 0) {
        bool amd = strcmp(u.machine, "x86_64") == 0, arm = strcmp(u.machine, "aarch64") == 0;

        (void)ob_resource_put(r, "host.name", u.nodename);
        (void)ob_resource_put(r, "host.arch", amd ? "amd64" : arm ? "arm64" : u.machine);
        (void)ob_resource_put(r, "bulkhead.kernel.release", u.release);
    }
    if (ob_resource_read(r, "/etc/machine-id", text, 64) > 0)
        (void)ob_resource_put(r, "host.id", text);
    (void)ob_resource_put(r, "os.type", "linux");
    if (ob_resource_read(r, "/etc/os-release", text, sizeof text) > 0 ||
        ob_resource_read(r, "/usr/lib/os-release", text, sizeof text) > 0) {
        put_release(r, "os.name", text, "NAME");
        put_release(r, "os.version", text, "VERSION_ID");
        put_release(r, "os.description", text, "PRETTY_NAME");
    }
}

static void
find_process(struct ob_resource *r)
{
    char        name[512], path[600];
    const char *base;
    ssize_t     n = -1;

    put_number(r, "process.pid", getpid());
    put_number(r, "process.parent_pid", getppid());
    (void)ob_resource_put(r, "process.runtime.name", "bulkhead");
    (void)ob_resource_put(r, "process.runtime.version", BH_VERSION);
    if (snprintf(path, sizeof path, "%s/proc/self/exe", r->root) < (int)sizeof path)
        n = readlink(path, name, sizeof name - 1);
    if (n <= 0)
        return;
    name[n] = '\0';
    base = strrchr(name, '/');
    (void)ob_resource_put(r, "process.executable.path", name);
    (void)ob_resource_put(r, "process.executable.name", base != NULL ? base + 1 : name);
}

/* Names of the service where nobody gave one. */
static void
find_service(struct ob_resource *r)
{
    struct bh_attribute *exe = find(r, "process.executable.name");
    unsigned char        b[16] = { 0 };
    char                 text[160];

    (void)snprintf(text, sizeof text, "unknown_service%s%.128s",
                   exe != NULL && exe->value != NULL ? ":" : "",
                   exe != NULL && exe->value != NULL ? exe->value : "");
    (void)ob_resource_put(r, "service.name", text);
    if (getrandom(b, sizeof b, GRND_NONBLOCK) == sizeof b) {
        b[6] = (b[6] & 0x0f) | 0x40; /* a random UUID, RFC 9562 */
        b[8] = (b[8] & 0x3f) | 0x80;
        (void)snprintf(text, sizeof text,
                       "%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x",
                       b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11],
                       b[12], b[13], b[14], b[15]);
        (void)ob_resource_put(r, "service.instance.id", text);
    }
    (void)ob_resource_put(r, "telemetry.sdk.name", "bulkhead");
    (void)ob_resource_put(r, "telemetry.sdk.language", "c");
    (void)ob_resource_put(r, "telemetry.sdk.version", BH_VERSION);
}

/* ---- all of it ------------------------------------------------------------------- */

static int
by_key(const void *a, const void *b)
{
    return strcmp(((const struct bh_attribute *)a)->key, ((const struct bh_attribute *)b)->key);
}

void
ob_resource_find(struct ob_resource *r)
{
    const char *list = r->env("OTEL_RESOURCE_ATTRIBUTES");
    size_t      kept = 0;

    ob_resource_env(r, "service.name", "OTEL_SERVICE_NAME");
    if (list != NULL)
        put_list(r, list);
    ob_resource_cloud(r);
    find_host(r);
    find_process(r);
    find_service(r);
    for (size_t i = 0; i < r->count; i++)
        if (r->list[i].value != NULL) /* NULL: left out by hand */
            r->list[kept++] = r->list[i];
    r->count = kept;
    qsort(r->list, r->count, sizeof r->list[0], by_key);
}

static void
find_once(void)
{
    pthread_mutex_lock(&lock);
    atomic_store(&asked, true);
    ob_resource_find(&found);
    pthread_mutex_unlock(&lock);
}

int
bh_resource_set(const char *key, const char *value)
{
    int rc;

    if (key == NULL || key[0] == '\0')
        return bh_fail(-EINVAL, "an attribute without a key");
    (void)strlen(key);
    pthread_mutex_lock(&lock);
    rc = -EBUSY;
    struct bh_attribute *a = find(&found, key);
    if (atomic_load(&asked)) {
        if (a != NULL && value != NULL && strcmp(a->value, value) == 0)
            rc = 0; /* as it is */
    } else {
        if (a != NULL) /* set again: the later counts */
            *a = found.list[--found.count];
        rc = ob_resource_put(&found, key, value);
    }
    pthread_mutex_unlock(&lock);
    return rc < 0 ? bh_fail(rc, "attribute \"%.80s\" comes too late, or is one too many", key)
                  : 0;
}

const struct bh_attribute *
bh_resource(size_t *count)
{
    (void)pthread_once(&once, find_once);
    *count = found.count;
    return found.list;
}

const char *
bh_resource_get(const char *key)
{
    size_t                     count;
    const struct bh_attribute *list = bh_resource(&count);

    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].key, key) == 0)
            return list[i].value;
    return NULL;
}

const char *
bh_resource_problem(void)
{
    size_t count;

    (void)bh_resource(&count);
    return found.problem;
}
