#ifndef BULKHEAD_GO_ONCE_H
#define BULKHEAD_GO_ONCE_H

/*
 * once.h -- functions that run once, and whose outcome is the same for every
 * caller: a value, or a panic.
 *
 *     static struct bh_once_value config = { .fn = load_config };
 *     struct config *c = bh_once_value(&config);
 */

#include <bulkhead/go/sync.h>

struct bh_panic;

/* Fill fn (and arg); zero the rest.  Needs no destruction; must not be moved. */
struct bh_once_value {
    void          *(*fn)(void *arg);
    void            *arg;
    struct bh_once   once_;
    void            *value_;
    int              state_;
    struct bh_panic *panic_; /* kept for ever if fn panicked */
};

struct bh_once_func {
    void           (*fn)(void *arg);
    void            *arg;
    struct bh_once   once_;
    int              state_;
    struct bh_panic *panic_;
};

/*
 * bh_once_value, bh_once_func -- run fn(arg) the first time; give its outcome every time.
 *
 * Returns: what fn returned.
 * Blocks:  until the first call is over.
 * Panics:  as fn did, with the same value, in every call.  A value its kind keeps
 *          by pointer must live on.  After a bh_goexit in fn, later calls panic.
 * See:     Go, sync.OnceValue, sync.OnceFunc.
 */
void *bh_once_value(struct bh_once_value *o);
void  bh_once_func(struct bh_once_func *o);

#endif
