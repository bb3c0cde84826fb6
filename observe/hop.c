/*
 * hop.c -- from cloud to cloud: who sent this request, and how long was it on its way?
 *
 * Our member of the tracestate is "bh=aws.eu-west-1;3;1vk2m0x9k3": the sender's cloud, how many
 * processes the trace has passed, and Unix time in microseconds, base 36, when it was sent.
 * A span whose parent was in another cloud than this process gets attributes, among them a
 * colour: a hash of the ordered pair, so that all hops between the same two clouds
 * can be asked for at once.  delay_us is from sending to start by two clocks: the network,
 * the handshake, the queue, and the clocks' difference, which alone can make it negative.
 *
 * Anybody inside can write that member, so it is read as strictly as any input, and ignored if it
 * is malformed.  Nothing here fails, allocates or blocks, but for setting the cloud.
 */

#include "hop.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/observe/resource.h>

#include "trace.h"

enum { MAX_CLOUD = 64, MAX_HOPS = 255, MAX_TIME = 13 };

/* A name that was once ours.  Never freed: a reader may have it still. */
struct cloud {
    struct cloud *older;
    char          name[];
};
static _Atomic(struct cloud *) clouds; /* the newest; each name once */
static _Atomic(const char *)   ours;   /* one of them; NULL: off */

/* ---- which cloud we are in ------------------------------------------------------- */

static bool
is_cloud(const char *text, size_t size)
{
    for (size_t i = 0; i < size; i++) {
        char c = text[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
              c == '.' || c == '-' || c == '_'))
            return false;
    }
    return size > 0 && size <= MAX_CLOUD;
}

static int
cloud_of_resource(char out[2 * MAX_CLOUD])
{
    const char *provider = bh_resource_get("cloud.provider");
    const char *region = bh_resource_get("cloud.region");
    size_t      size;

    if (provider == NULL)
        return bh_fail(-ENOENT, "the resource has no cloud.provider");
    size = strnlen(provider, MAX_CLOUD);
    memcpy(out, provider, size);
    if (region != NULL) {
        size_t more = strnlen(region, MAX_CLOUD - 2);

        out[size++] = '.';
        memcpy(out + size, region, more);
        size += more;
    }
    out[size] = '\0';
    return 0;
}

/* Returns: NULL without memory. */
static const char *
keep_name(const char *name)
{
    struct cloud *newest = atomic_load(&clouds), *c;

    for (c = newest; c != NULL; c = c->older)
        if (strcmp(c->name, name) == 0)
            return c->name;
    c = malloc(sizeof *c + strlen(name) + 1);
    if (c == NULL)
        return NULL;
    memcpy(c->name, name, strlen(name) + 1);
    do
        c->older = newest;
    while (!atomic_compare_exchange_weak(&clouds, &newest, c));
    return c->name;
}

int
bh_trace_color(const char *cloud)
{
    char        of_resource[2 * MAX_CLOUD];
    const char *name;

    if (cloud == NULL) {
        int rc = cloud_of_resource(of_resource);

        if (rc < 0)
            return rc;
        cloud = of_resource;
    }
    if (cloud[0] == '\0') {
        atomic_store(&ours, NULL);
        return 0;
    }
    if (!is_cloud(cloud, strlen(cloud)))
        return bh_fail(-EINVAL, "\"%.80s\" is no name of a cloud", cloud);
    name = keep_name(cloud);
    if (name == NULL)
        return -ENOMEM;
    atomic_store(&ours, name);
    return 0;
}

/* ---- numbers --------------------------------------------------------------------- */

static char *
put_number(char *at, uint64_t n, unsigned base)
{
    char   digits[64], *p = digits + sizeof digits;
    size_t size;

    do
        *--p = "0123456789abcdefghijklmnopqrstuvwxyz"[n % base];
    while ((n /= base) > 0);
    size = (size_t)(digits + sizeof digits - p);
    memcpy(at, p, size);
    return at + size;
}

/* Reads digits of this base up to `end`; false: there is something else, or too much. */
static bool
get_number(const char *at, const char *end, unsigned base, uint64_t *n)
{
    if (at == end || end - at > MAX_TIME - 1)
        return false;
    for (*n = 0; at < end; at++) {
        unsigned digit = 99;

        if (*at >= '0' && *at <= '9')
            digit = (unsigned)(*at - '0');
        else if (*at >= 'a' && *at <= 'z')
            digit = (unsigned)(*at - 'a') + 10;
        if (digit >= base)
            return false;
        *n = *n * base + digit; /* 36^12 fits */
    }
    return true;
}

/* ---- the member ------------------------------------------------------------------ */

struct hop {
    const char *from;
    size_t      from_size;
    uint64_t    hops, sent_us; /* 0: it does not say */
};

static bool
parse(const char *value, size_t size, struct hop *h)
{
    const char *end = value + size, *first = memchr(value, ';', size), *second;

    *h = (struct hop){ .from = value };
    if (first == NULL)
        return false;
    second = memchr(first + 1, ';', (size_t)(end - first - 1));
    h->from_size = (size_t)(first - value);
    return is_cloud(value, h->from_size) &&
           get_number(first + 1, second != NULL ? second : end, 10, &h->hops) &&
           (second == NULL || get_number(second + 1, end, 36, &h->sent_us));
}

static void
color(struct bh_span *span, const struct hop *h, const char *to)
{
    char     text[9];
    uint32_t hash = 2166136261u; /* FNV-1a of "from>to" */

    for (size_t i = 0; i < h->from_size; i++)
        hash = (hash ^ (unsigned char)h->from[i]) * 16777619u;
    hash = (hash ^ '>') * 16777619u;
    for (const char *p = to; *p != '\0'; p++)
        hash = (hash ^ (unsigned char)*p) * 16777619u;
    for (int i = 0; i < 8; i++)
        text[i] = "0123456789abcdef"[hash >> (28 - 4 * i) & 15];
    text[8] = '\0';

    bh_span_text(span, "bulkhead.hop.color", text);
    bh_span_int(span, "bulkhead.hop.index", span->hop);
    bh_span_bytes(span, "bulkhead.hop.from", h->from, h->from_size);
    bh_span_text(span, "bulkhead.hop.to", to);
    span->colored = true;
    span->hop_delay_us = 0;
    if (h->sent_us == 0)
        return;
    span->hop_delay_us = ob_wall(span->started) / BH_MICROSECOND - (int64_t)h->sent_us;
    bh_span_int(span, "bulkhead.hop.delay_us", span->hop_delay_us);
}

void
ob_hop_connection(struct bh_span *span, const struct bh_conn_tcp *tcp)
{
    bh_span_int(span, "bulkhead.hop.rtt_us", tcp->rtt_us);
    bh_span_int(span, "bulkhead.hop.retransmits", tcp->retransmits);
    /* Of the delay the network had half a round trip; the rest is the clocks', or a queue's. */
    if (span->hop_delay_us != 0)
        bh_span_int(span, "bulkhead.hop.skew_us", span->hop_delay_us - tcp->rtt_us / 2);
}

void
ob_hop_arrive(struct bh_span *span)
{
    const char *to = atomic_load_explicit(&ours, memory_order_acquire), *value;
    size_t      size;
    struct hop  h;

    if (!bh_tracestate_get(span->state, "bh", &value, &size) || !parse(value, size, &h))
        return;
    span->hop = (uint8_t)(h.hops < MAX_HOPS ? h.hops : MAX_HOPS);
    if (to == NULL || !span->recording ||
        (strlen(to) == h.from_size && memcmp(to, h.from, h.from_size) == 0))
        return;
    color(span, &h, to);
}

bool
ob_hop_leave(unsigned hop, char value[OB_HOP_SIZE])
{
    const char *from = atomic_load_explicit(&ours, memory_order_acquire);
    char       *at = value;

    if (from == NULL)
        return false;
    at += strlen(from);
    memcpy(value, from, (size_t)(at - value));
    *at++ = ';';
    at = put_number(at, hop < MAX_HOPS ? hop + 1 : MAX_HOPS, 10);
    *at++ = ';';
    at = put_number(at, (uint64_t)(ob_wall(bh_now()) / BH_MICROSECOND), 36);
    *at = '\0';
    return true;
}
