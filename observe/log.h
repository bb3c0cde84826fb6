#ifndef BULKHEAD_OBSERVE_PRIVATE_LOG_H
#define BULKHEAD_OBSERVE_PRIVATE_LOG_H

/* log.h -- PRIVATE: what the parts of the logger share. */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/observe/log.h>
#include <bulkhead/observe/record.h>

/* Keys of the items that every line may have before its fields. */
#define OB_LOG_GOROUTINE "bulkhead.goroutine.id"
#define OB_LOG_NAME      "bulkhead.goroutine.name"
#define OB_LOG_LABELS    "bulkhead.goroutine.labels"
#define OB_LOG_ROUTE     "http.route"

enum {
    OB_LOG_TEXT_MAX = 16 << 10, /* a line as text, at most */
};

/* ---- log_format.c ---------------------------------------------------------------- */

enum ob_log_style { OB_LOG_JSON, OB_LOG_PLAIN, OB_LOG_COLOURED };

/*
 * ob_log_format -- a record as a line with its end.  text: of OB_LOG_TEXT_MAX.
 * Async-signal-safe: no stdio, no locale.  Returns: bytes.
 */
size_t ob_log_format(char *text, const struct bh_log_record *r, enum ob_log_style style);

/* ---- log_writer.c ---------------------------------------------------------------- */

/* ob_log_wake -- after a line was put: wake the writer if it sleeps, or if this cannot wait. */
void ob_log_wake(bool urgent);

/* ---- log.c ----------------------------------------------------------------------- */

/* ob_log_open -- lines are put into rings from now on; or no longer. */
void ob_log_open(bool open);

#endif
