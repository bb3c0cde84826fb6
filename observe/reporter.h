#ifndef BULKHEAD_OBSERVE_REPORTER_H
#define BULKHEAD_OBSERVE_REPORTER_H

/* reporter.h -- the thread that makes reports: between report_settings.c and reporter.c. */

#include <stdbool.h>
#include <stdint.h>

int  ob_reporter_start(void);          /* Returns: 0 or -errno */
void ob_reporter_stop(int64_t within); /* ns for what is under way */
bool ob_reporter_idle(void);           /* nothing raised is unwritten */

struct bh_report_stats;
void ob_reporter_stats(struct bh_report_stats *stats);

#endif
