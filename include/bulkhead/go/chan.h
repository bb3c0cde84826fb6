#ifndef BULKHEAD_GO_CHAN_H
#define BULKHEAD_GO_CHAN_H

/*
 * chan.h -- channels and select.
 *
 *     struct bh_chan *jobs = BH_CHAN(int, 16);
 *     BH_DEFER(bh_chan_unref, jobs);
 *     bh_send(jobs, &(int){ 1 });
 *     int job;
 *     bool ok = bh_recv(jobs, &job);
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bh_chan;

/*
 * BH_CHAN -- make a channel of `type` holding up to `capacity` unread values;
 * 0 makes every send meet its receive.
 *
 * Owns:   the caller holds one reference.
 * Panics: "makechan: size out of range", or for lack of memory.
 */
#define BH_CHAN(type, capacity) bh_chan_new(sizeof(type), (capacity))

/* bh_chan_new -- the same by size; 0 for a channel of bare signals, sent as NULL. */
struct bh_chan *bh_chan_new(size_t size, size_t capacity);

/*
 * bh_chan_ref, bh_chan_unref -- hold the channel; let go, and free it with the last.
 *
 * NULL gives NULL, and is a no-op.  Every operation borrows its channel until it
 * returns or the other side learns of it, and a select all of its channels but
 * the one it carries out: some reference must last as long.  Values left in the
 * channel are dropped.
 * Panics: if a goroutine waits on it when the last reference goes; it is kept.
 * Threads: any.
 */
struct bh_chan *bh_chan_ref(struct bh_chan *c);
void            bh_chan_unref(struct bh_chan *c);

/* bh_chan_len, bh_chan_cap -- values waiting to be received; capacity.  0 for NULL. */
size_t bh_chan_len(struct bh_chan *c);
size_t bh_chan_cap(struct bh_chan *c);

/*
 * bh_send(c, value) -- copy *value into the channel.
 *
 * A value of another size than the channel's panics; so do not pass an array
 * but its address.  A `void *` is trusted to point at the right thing.
 * Blocks:  until a receiver or a free slot takes it; for ever on NULL.
 * Panics:  "send on closed channel", now or while waiting; wrong value size.
 */
#define bh_send(c, ...) bh_chan_send((c), (__VA_ARGS__), BH_ELEM_SIZE_((__VA_ARGS__)))

/*
 * bh_recv(c, value) -- copy the next value into *value; NULL discards it.
 *
 * Returns: true; or false, with *value zeroed, once closed and drained.
 * Blocks:  until there is a value or the channel is closed; for ever on NULL.
 */
#define bh_recv(c, value) bh_chan_recv((c), (value), BH_ELEM_SIZE_(value))

void bh_chan_send(struct bh_chan *c, const void *value, size_t size);
bool bh_chan_recv(struct bh_chan *c, void *value, size_t size);

/*
 * bh_try_send, bh_try_recv -- the same if it need not wait.
 * Returns: whether it happened; *ok (may be NULL) as bh_recv's result.
 */
#define bh_try_send(c, ...) bh_chan_try_send((c), (__VA_ARGS__), BH_ELEM_SIZE_((__VA_ARGS__)))
#define bh_try_recv(c, value, ok) bh_chan_try_recv((c), (value), BH_ELEM_SIZE_(value), (ok))
bool bh_chan_try_send(struct bh_chan *c, const void *value, size_t size);
bool bh_chan_try_recv(struct bh_chan *c, void *value, size_t size, bool *ok);

/*
 * bh_chan_send_from_thread -- send from a thread the runtime does not know.
 *
 * From the first call on, the process may wait for threads: a deadlock is no
 * longer reported.
 * Returns: 0; -EAGAIN if it would have to wait; BH_ECLOSED on a closed channel.
 * Threads: any.
 */
int bh_chan_send_from_thread(struct bh_chan *c, const void *value, size_t size);

/* bh_close -- no more sends.  Panics: "close of closed channel", "close of nil channel". */
void bh_close(struct bh_chan *c);

/*
 * bh_select -- carry out exactly one of several channel operations.
 *
 *     enum { QUIT, JOB };
 *     switch (bh_select([QUIT] = BH_RECV(bh_ctx_done(ctx), NULL),
 *                       [JOB]  = BH_RECV(jobs, &job))) {
 *     case QUIT: return bh_ctx_err(ctx);
 *     case JOB:  run(&job);
 *     }
 *
 * Ready cases are chosen between at random.  A case on a NULL channel never
 * becomes ready.  BH_DEFAULT, if present, is taken when nothing else is.
 *
 * Returns: the index of the case that ran.
 * Blocks:  until some case is ready, unless there is a BH_DEFAULT; for ever without cases.
 * Panics:  if the case taken is a send and its channel is closed; on a bad
 *          pointer or wrong value size in any case; two defaults; over 65,536 cases.
 * See:     Go spec, "Select statements".
 */
#define bh_select(...)                                                                         \
    bh_select_n((struct bh_case[]){ __VA_ARGS__ },                                             \
                sizeof((struct bh_case[]){ __VA_ARGS__ }) / sizeof(struct bh_case))

enum bh_case_kind { BH_CASE_NONE, BH_CASE_SEND, BH_CASE_RECV, BH_CASE_DEFAULT };

struct bh_case {
    enum bh_case_kind kind;
    struct bh_chan   *chan;
    void             *value; /* NULL in a receive discards it */
    size_t            size;
    bool             *ok; /* if set: false when closed and drained */
};

#define BH_SEND(c, ...)                                                                        \
    { BH_CASE_SEND, (c), (void *)(uintptr_t)(__VA_ARGS__), BH_ELEM_SIZE_((__VA_ARGS__)), NULL }
#define BH_RECV(c, p)        { BH_CASE_RECV, (c), (p), BH_ELEM_SIZE_(p), NULL }
#define BH_RECV_OK(c, p, ok) { BH_CASE_RECV, (c), (p), BH_ELEM_SIZE_(p), (ok) }
#define BH_DEFAULT           { BH_CASE_DEFAULT, NULL, NULL, 0, NULL }

/* bh_select_n -- bh_select over an array; cases of kind BH_CASE_NONE are skipped. */
int bh_select_n(struct bh_case *cases, size_t count);

/* ---- machinery; nothing below is API --------------------------------------------- */

/* What p points at, in bytes; 0 for `void *`.  The inner choice keeps sizeof off void. */
#define BH_ELEM_SIZE_(p)                                                                       \
    _Generic((p), void *: 0, const void *: 0,                                                  \
             default: sizeof *_Generic((p), void *: (char *)0, const void *: (char *)0, default: (p)))

#endif
