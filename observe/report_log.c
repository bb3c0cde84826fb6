/*
 * report_log.c -- a panic as a log record of OpenTelemetry's, for the exporter.
 *
 * One that has a report, or could not have one, goes by the reserved lane with its
 * stack; one that the limiter left out is an ordinary record without. So a storm
 * fills the ordinary queue at most.
 *
 * See: OpenTelemetry semantic conventions, exceptions in logs.
 */

#include <errno.h>
#include <string.h>

#include <bulkhead/observe/export.h>
#include <bulkhead/observe/record.h>
#include <bulkhead/observe/report.h>

static void
put(struct bh_log_record *r, enum bh_item_role role, const char *key, const char *text)
{
    if (text[0] != '\0')
        bh_log_record_text(r, role, key, text, strlen(text));
}

static void
export_panic(const struct bh_report_summary *s, void *arg)
{
    static _Alignas(
        8) char memory[BH_LOG_RECORD_URGENT_MAX]; /* the reporter's, who calls one at a time */
    size_t      size = s->suppressed ? BH_LOG_RECORD_MAX : BH_LOG_RECORD_URGENT_MAX;
    bool        fatal = strcmp(s->outcome, "fatal") == 0;
    struct bh_log_record *r =
        bh_log_record_init(memory, size, fatal ? BH_SEVERITY_FATAL : BH_SEVERITY_ERROR);

    (void)arg;
    r->time_ns = s->time;
    r->urgent = !s->suppressed;
    r->flags = s->sampled ? BH_TRACE_SAMPLED : 0;
    memcpy(r->trace_id, s->trace_id, sizeof r->trace_id);
    memcpy(r->span_id, s->span_id, sizeof r->span_id);
    put(r, BH_ITEM_NAME, "", "exception");
    put(r, BH_ITEM_BODY, "", s->message);
    put(r, BH_ITEM_ATTRIBUTE, "exception.type", s->type);
    put(r, BH_ITEM_ATTRIBUTE, "exception.message", s->message);
    put(r, BH_ITEM_ATTRIBUTE, "bulkhead.panic.report_id", s->id);
    put(r, BH_ITEM_ATTRIBUTE, "bulkhead.panic.fingerprint", s->fingerprint);
    put(r, BH_ITEM_ATTRIBUTE, "bulkhead.panic.outcome", s->outcome);
    put(r, BH_ITEM_ATTRIBUTE, "http.route", s->route);
    bh_log_record_put(r, &(struct bh_item){ .role = BH_ITEM_ATTRIBUTE,
                                            .type = BH_ITEM_INT,
                                            .key = "bulkhead.goroutine.id",
                                            .key_size = 21,
                                            .number = (int64_t)s->goroutine });
    put(r, BH_ITEM_ATTRIBUTE, "exception.stacktrace",
        s->stack); /* last: it is what may be cut */
    bh_export_log(r);
}

int
bh_report_export(void)
{
    int rc = bh_report_listen(export_panic, NULL);

    return rc == -EEXIST ? 0 : rc;
}
