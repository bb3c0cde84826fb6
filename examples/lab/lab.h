#ifndef BULKHEAD_EXAMPLES_LAB_LAB_H
#define BULKHEAD_EXAMPLES_LAB_LAB_H

/*
 * lab.h -- for ten small programs about one article.
 *
 * "Why recover() in a goroutine can never catch the panic" is much read, and
 * much of it is wrong.  Each program takes one of its claims, prints it, and
 * shows by running it what is true, in Go and here.
 */

#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>

/* article -- print "the article says: ...". */
void article(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* truth -- print "true: ...". */
void truth(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* text_of -- what recover gave, or "nil". */
const char *text_of(const struct bh_panic *p);

/*
 * crash -- run fn as the main goroutine of a child process; print how that ended
 * and what it wrote on descriptor 2 before the first goroutine's frames.
 *
 * Threads: before bh_main only.
 */
void crash(bh_fn *fn);

#endif
