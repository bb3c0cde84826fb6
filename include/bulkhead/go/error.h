#ifndef BULKHEAD_GO_ERROR_H
#define BULKHEAD_GO_ERROR_H

/*
 * error.h -- errors are negative ints: -errno, or one of these.  0 is success.
 * The text that goes with the code is kept per goroutine.
 */

enum {
    BH_EPANIC = -10001,    /* the work panicked; see the note */
    BH_EPOISONED = -10002, /* a holder of the lock panicked */
    BH_EGOEXIT = -10003,   /* the work called bh_goexit */
    BH_EDEADLINE = -10004, /* a context's deadline passed ("context deadline exceeded") */
    BH_ECANCELED = -10005, /* a context was cancelled ("context canceled") */
    BH_EEOF = -10006,      /* the peer closed its end */
    BH_ECLOSED = -10007,   /* used after close, or closed while in use */
    BH_ENOHOST = -10008,   /* no such host */
};

/*
 * bh_fail -- note why on this goroutine, and return code, so that callers can
 * `return bh_fail(-EINVAL, "quantity %d", q)`.  At most 255 bytes are kept.
 */
int bh_fail(int code, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* bh_error_note -- this goroutine's latest note, "" if none.  Good until the next bh_fail. */
const char *bh_error_note(void);

/* bh_error_text -- a code in words, never NULL.  Static text. */
const char *bh_error_text(int code);

#endif
