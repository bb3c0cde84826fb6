/*
 * export_config.c -- options, environment, defaults, in this order.
 *
 * An empty variable counts as unset.  One that makes no sense is an error, not a default: a
 * service that reports to nobody is noticed too late.
 */

#include "exporter.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/timer.h>

enum { NAME_MAX_ = 64, URL_MAX = 2048, SLOTS_MAX = 1 << 20 };

static const char *const variable[] = { "TRACES", "LOGS", "METRICS" };
static const char *const path[] = { "/v1/traces", "/v1/logs", "/v1/metrics" };

static const char *
get(const char *name)
{
    const char *value = getenv(name);

    return value != NULL && *value != '\0' ? value : NULL;
}

/* OTEL_EXPORTER_OTLP_<SIGNAL>_<what>, else OTEL_EXPORTER_OTLP_<what>.  *own: it was the first. */
static const char *
get_of(int signal, const char *what, bool *own)
{
    char name[NAME_MAX_];

    snprintf(name, sizeof name, "OTEL_EXPORTER_OTLP_%s_%s", variable[signal], what);
    const char *value = get(name);
    *own = value != NULL;
    if (value == NULL) {
        snprintf(name, sizeof name, "OTEL_EXPORTER_OTLP_%s", what);
        value = get(name);
    }
    return value;
}

/* A whole number from least to most. */
static int
number(const char *name, const char *value, int64_t least, int64_t most, int64_t *result)
{
    char *end;

    errno = 0;
    long long n = strtoll(value, &end, 10);
    if (errno != 0 || end == value || *end != '\0' || n < least || n > most)
        return bh_fail(-EINVAL, "%s: \"%.40s\" is no number from %lld to %lld", name, value,
                       (long long)least, (long long)most);
    *result = n;
    return 0;
}

/* *result, unless set by an option: the variable's value times scale, else the default. */
static int
setting(const char *name, int64_t option, int64_t scale, int64_t usual, int64_t *result)
{
    const char *value = get(name);

    *result = option > 0 ? option : usual;
    if (option < 0)
        return bh_fail(-EINVAL, "a negative option of bh_export_start");
    if (option > 0 || value == NULL)
        return 0;
    int rc = number(name, value, 1, INT64_MAX / scale, result);
    if (rc == 0)
        *result *= scale;
    return rc;
}

static int
slots(const char *what, int64_t n, unsigned *result)
{
    if (n > SLOTS_MAX)
        return bh_fail(-EINVAL, "%s: more than %d", what, SLOTS_MAX);
    for (*result = 2; *result < (unsigned)n;)
        *result *= 2;
    return 0;
}

static int
url_of(int s, const struct bh_export_options *o, char *url)
{
    bool        own = false;
    const char *base = o->endpoint, *whole = o->url[s];
    int         n;

    if (whole == NULL && base == NULL) {
        base = get_of(s, "ENDPOINT", &own);
        if (own)
            whole = base;
    }
    if (whole != NULL) {
        n = snprintf(url, URL_MAX, "%s", whole);
    } else {
        if (base == NULL)
            base = "http://localhost:4318";
        size_t length = strlen(base);
        while (length > 0 && base[length - 1] == '/')
            length--;
        n = snprintf(url, URL_MAX, "%.*s%s", (int)(length < URL_MAX ? length : URL_MAX), base,
                     path[s]);
    }
    return n < URL_MAX ? 0 : bh_fail(-EINVAL, "the collector's URL is too long");
}

/* Does OTEL_<SIGNAL>_EXPORTER want this one sent? */
static int
wanted(int s, bool *off)
{
    char        name[NAME_MAX_];
    const char *value;

    snprintf(name, sizeof name, "OTEL_%s_EXPORTER", variable[s]);
    value = get(name);
    *off = value != NULL && strcmp(value, "none") == 0;
    if (value != NULL && !*off && strcmp(value, "otlp") != 0)
        return bh_fail(-EINVAL, "%s: \"%.40s\" is neither otlp nor none", name, value);
    return 0;
}

static int
compression(struct ob_export_signal *g, int s, int option)
{
    bool        own;
    const char *value = get_of(s, "COMPRESSION", &own);

    g->gzip = option > 0 || (option == 0 && !g->target.loopback);
    if (option != 0 || value == NULL)
        return 0;
    g->gzip = strcmp(value, "gzip") == 0;
    if (!g->gzip && strcmp(value, "none") != 0)
        return bh_fail(-EINVAL,
                       "OTEL_EXPORTER_OTLP_COMPRESSION: \"%.40s\" is neither gzip nor none",
                       value);
    return 0;
}

static const char *
either(const char *option, int s, const char *what)
{
    bool own;

    return option != NULL ? option : get_of(s, what, &own);
}

static int
configure_signal(struct ob_export_config *c, int s, const struct bh_export_options *o)
{
    struct ob_export_signal *g = &c->signal[s];
    char                     url[URL_MAX];
    bool                     own;
    const char *protocol = get_of(s, "PROTOCOL", &own), *timeout = get_of(s, "TIMEOUT", &own);

    int rc = wanted(s, &g->off);
    if (rc < 0)
        return rc;
    g->off = g->off || o->off[s];
    if (g->off)
        return 0;
    if (protocol != NULL && strcmp(protocol, "http/protobuf") != 0)
        return bh_fail(-EPROTONOSUPPORT,
                       "OTEL_EXPORTER_OTLP_PROTOCOL: \"%.40s\"; only http/protobuf is spoken",
                       protocol);
    if (o->timeout < 0)
        return bh_fail(-EINVAL, "a negative timeout");
    g->timeout = o->timeout > 0 ? o->timeout : 10 * BH_SECOND;
    if (o->timeout == 0 && timeout != NULL) {
        rc = number("OTEL_EXPORTER_OTLP_TIMEOUT", timeout, 1, INT64_C(86400000), &g->timeout);
        if (rc < 0)
            return rc;
        g->timeout *= BH_MILLISECOND;
    }
    rc = url_of(s, o, url);
    if (rc == 0) {
        rc = ob_post_target_init(
            &g->target,
            &(struct ob_post_options){
                .url = url,
                .headers = either(o->headers, s, "HEADERS"),
                .certificate = either(o->certificate, s, "CERTIFICATE"),
                .client_certificate = either(o->client_certificate, s, "CLIENT_CERTIFICATE"),
                .client_key = either(o->client_key, s, "CLIENT_KEY"),
            });
    }
    return rc == 0 ? compression(g, s, o->gzip) : rc;
}

static int
configure_numbers(struct ob_export_config *c, const struct bh_export_options *o)
{
    int64_t batch, spans;
    int     rc = setting("OTEL_BSP_SCHEDULE_DELAY", o->interval, BH_MILLISECOND, BH_SECOND,
                         &c->interval);

    if (rc == 0)
        rc = setting("OTEL_METRIC_EXPORT_INTERVAL", o->metric_interval, BH_MILLISECOND,
                     60 * BH_SECOND, &c->metric_interval);
    if (rc == 0)
        rc = setting("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", o->batch, 1, 512, &batch);
    if (rc == 0)
        rc = setting("OTEL_BSP_MAX_QUEUE_SIZE", o->span_slots, 1, 4096, &spans);
    if (rc == 0)
        rc = slots("the queue of spans", spans, &c->slots[BH_EXPORT_SPANS]);
    if (rc == 0)
        rc = slots("the queue of logs", o->log_slots > 0 ? o->log_slots : 2048,
                   &c->slots[BH_EXPORT_LOGS]);
    if (rc == 0)
        c->batch = batch < SLOTS_MAX ? (unsigned)batch : SLOTS_MAX;
    return rc;
}

int
ob_export_configure(struct ob_export_config *c, const struct bh_export_options *options)
{
    static const struct bh_export_options none;
    const struct bh_export_options       *o = options != NULL ? options : &none;
    const char                           *disabled = get("OTEL_SDK_DISABLED");
    const char                           *opted = get("OTEL_SEMCONV_EXCEPTION_SIGNAL_OPT_IN");

    *c = (struct ob_export_config){ .quiet = o->quiet };
    c->exception_events =
        o->exception_events || (opted != NULL && strcmp(opted, "logs/dup") == 0);
    int rc = configure_numbers(c, o);
    for (int s = 0; s < BH_EXPORT_SIGNALS && rc == 0; s++) {
        if (disabled != NULL && strcasecmp(disabled, "true") == 0)
            c->signal[s].off = true;
        else
            rc = configure_signal(c, s, o);
    }
    if (rc < 0)
        ob_export_unconfigure(c);
    return rc;
}

void
ob_export_unconfigure(struct ob_export_config *c)
{
    for (int s = 0; s < BH_EXPORT_SIGNALS; s++)
        ob_post_target_fini(&c->signal[s].target);
}
