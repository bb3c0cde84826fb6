#ifndef BULKHEAD_GO_STACK_H
#define BULKHEAD_GO_STACK_H

/*
 * stack.h -- who called this: addresses now, names when somebody reads them.
 *
 * In a deferred call that a panic runs, the panicking calls are still there.
 */

#include <stddef.h>
#include <stdint.h>

/*
 * bh_stack -- the calls this goroutine is in, innermost first, beginning with the
 * caller of bh_stack.  Cheap: follows frame pointers, allocates nothing.
 * Of a stack deeper than max it keeps both ends, with a 0 between them.
 * Returns: how many were written, at most max; 0 off goroutines, or if max < 4.
 */
int bh_stack(uintptr_t *pcs, int max);

/*
 * bh_stack_text -- name them, two lines each as in a crash report:
 *
 *     lab_null(...)
 *             examples/server/lab.c:41
 *
 * Returns: the length; text is cut to size and NUL-terminated.
 * Blocks:  reads the program's debug information; one caller at a time.
 */
size_t bh_stack_text(const uintptr_t *pcs, int count, char *text, size_t size);

#endif
