/*
 * concurrency.c -- so many requests at a time; the others wait, but not for long.
 *
 *     running < limit          go on
 *     a place in the queue     wait: first come, first served
 *     none                     refused at once
 *
 * A queue that only smooths bursts empties again and again.  If for INTERVAL nobody got a place
 * within the target, it is standing: all it adds is waiting.  Then places go to the newest
 * first, whose client is most likely still there, and who has waited longer than the target is
 * refused; so what is served is served quickly, until the queue is empty once.
 * (After CoDel and adaptive LIFO.)
 *
 * Whoever gives a place back hands it to a waiter; the place never is free in between, so
 * nobody can overtake.  Waiters are on their own stacks, and in the list only under the lock:
 * who stops waiting looks whether it was too late for that.
 */

#include <stdlib.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/limits.h>

#define INTERVAL (100 * BH_MILLISECOND)

struct waiter {
    struct waiter  *older, *newer;
    struct bh_chan *told; /* room for one */
    int64_t         since;
    enum { WAITS, HAS_PLACE, REFUSED } state;
};

struct bh_http_concurrency {
    struct bh_http_concurrency_options o;
    struct bh_mutex                    lock;
    unsigned                           running, waiting;
    struct waiter                     *oldest, *newest;
    int64_t                            well; /* when somebody last got a place in time */
};

struct bh_http_concurrency *
bh_http_concurrency_new(const struct bh_http_concurrency_options *options)
{
    struct bh_http_concurrency *l;

    if (options->limit == 0)
        bh_panic("http: a concurrency limit needs a limit");
    l = calloc(1, sizeof *l);
    if (l == NULL)
        bh_panic("http: out of memory for a concurrency limit");
    l->o = *options;
    if (l->o.queue == 0)
        l->o.queue = 4 * l->o.limit;
    if (l->o.max_wait == 0)
        l->o.max_wait = BH_SECOND;
    if (l->o.target == 0)
        l->o.target = 50 * BH_MILLISECOND;
    if (l->o.status == 0)
        l->o.status = 503;
    return l;
}

void
bh_http_concurrency_free(struct bh_http_concurrency *l)
{
    if (l != NULL)
        BH_REQUIRE(l->running == 0 && l->waiting == 0);
    free(l);
}

void
bh_http_concurrency_now(struct bh_http_concurrency *l, unsigned *running, unsigned *waiting)
{
    bh_mutex_lock(&l->lock);
    *running = l->running;
    *waiting = l->waiting;
    bh_mutex_unlock(&l->lock);
}

/* ---- the queue: with the lock ---------------------------------------------------- */

static void
put(struct bh_http_concurrency *l, struct waiter *w)
{
    w->older = l->newest;
    w->newer = NULL;
    *(l->newest != NULL ? &l->newest->newer : &l->oldest) = w;
    l->newest = w;
    l->waiting++;
}

static void
take_out(struct bh_http_concurrency *l, struct waiter *w)
{
    *(w->older != NULL ? &w->older->newer : &l->oldest) = w->newer;
    *(w->newer != NULL ? &w->newer->older : &l->newest) = w->older;
    l->waiting--;
}

static void
tell(struct bh_http_concurrency *l, struct waiter *w, int state)
{
    take_out(l, w);
    w->state = state;
    (void)bh_try_send(w->told, &(char){ 0 });
}

static bool
is_standing(const struct bh_http_concurrency *l, int64_t now)
{
    return l->waiting > 0 && now - l->well > INTERVAL;
}

/* ---- a place --------------------------------------------------------------------- */

static void
give_back(struct bh_http_concurrency *l)
{
    int64_t now = bh_now();

    bh_mutex_lock(&l->lock);
    if (is_standing(l, now)) {
        while (l->oldest != NULL && now - l->oldest->since > l->o.target)
            tell(l, l->oldest, REFUSED);
        if (l->newest != NULL)
            tell(l, l->newest, HAS_PLACE);
        else
            l->running--;
    } else if (l->oldest != NULL) {
        if (now - l->oldest->since <= l->o.target)
            l->well = now;
        tell(l, l->oldest, HAS_PLACE);
    } else {
        l->running--;
    }
    if (l->waiting == 0)
        l->well = now;
    bh_mutex_unlock(&l->lock);
}

/* Until told, too long, or the client is gone.  Returns: whether there is a place. */
static bool
wait_for_place(struct bh_http_call *c, struct bh_http_concurrency *l, struct waiter *w,
               int64_t at_most)
{
    struct bh_timer *timer = bh_timer_new(at_most);
    bool             has;

    BH_DEFER(bh_timer_free, timer);
    (void)bh_select(BH_RECV(w->told, NULL), BH_RECV(bh_timer_chan(timer), NULL),
                    BH_RECV(bh_ctx_done(bh_http_ctx(c)), NULL));
    bh_mutex_lock(&l->lock);
    if (w->state == WAITS)
        take_out(l, w);
    has = w->state == HAS_PLACE;
    bh_mutex_unlock(&l->lock);
    return has;
}

/* Returns: whether there is a place, to be given back. */
static bool
get_place(struct bh_http_call *c, struct bh_http_concurrency *l)
{
    struct waiter w = { .state = WAITS };
    int64_t       now = bh_now(), at_most = l->o.max_wait;
    bool          queued = false, has = false;

    w.since = now;
    w.told = BH_CHAN(char, 1);
    BH_DEFER(bh_chan_unref, w.told);
    bh_mutex_lock(&l->lock);
    if (is_standing(l, now))
        at_most = l->o.target;
    if (l->running < l->o.limit) {
        l->running++;
        l->well = now;
        has = true;
    } else if (l->waiting < l->o.queue) {
        if (l->waiting == 0)
            l->well = now;
        put(l, &w);
        queued = true;
    }
    bh_mutex_unlock(&l->lock);
    return queued ? wait_for_place(c, l, &w, at_most) : has;
}

int
bh_http_concurrency_limit(struct bh_http_call *c, void *arg)
{
    struct bh_http_concurrency *l = arg;

    if (!get_place(c, l)) {
        (void)bh_http_set_header(c, "Retry-After", "1");
        return bh_http_reply(c, l->o.status, "%d %s\n", l->o.status,
                             bh_http_status_text(l->o.status));
    }
    BH_DEFER(give_back, l);
    return bh_http_next(c);
}
