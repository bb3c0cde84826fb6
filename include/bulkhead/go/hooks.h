#ifndef BULKHEAD_GO_HOOKS_H
#define BULKHEAD_GO_HOOKS_H

/*
 * hooks.h -- what higher layers may watch.  Set once, before bh_main.
 *
 * Each is called on the goroutine concerned (or on the thread that raised a
 * fatal error), must not block, and must not panic.  NULL means nobody cares.
 */

#include <stdint.h>

struct bh_panic;

struct bh_hooks {
    void (*goroutine_start)(uint64_t id);
    void (*goroutine_end)(uint64_t id);
    void (*panic_raised)(const struct bh_panic *p);    /* before any deferred call */
    void (*panic_recovered)(const struct bh_panic *p); /* before control lands */
    /*
     * A group or a safe goroutine will recover p; `by` says which.  Called on top of the
     * panicking stack, so that a trace can be taken.  NULL: a report on descriptor 2.
     */
    void (*panic_contained)(const struct bh_panic *p, const char *by);
    void (*crash)(const char *text, int length);       /* the first lines of a crash report */
};

/* bh_set_hooks -- copy *hooks.  Fatal once bh_main runs. */
void bh_set_hooks(const struct bh_hooks *hooks);

#endif
