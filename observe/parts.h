#ifndef BULKHEAD_OBSERVE_PARTS_H
#define BULKHEAD_OBSERVE_PARTS_H

/* parts.h -- what others add to reports: files, numbers, and who is told.  See parts.c. */

struct bh_report_summary;
struct ob_report;
struct ob_world;

/* ob_parts_write -- the files.  Returns: how many the deadline left out. */
int  ob_parts_write(struct ob_report *r);
void ob_numbers_read(struct ob_world *w);
void ob_listeners_tell(const struct bh_report_summary *s);

#endif
