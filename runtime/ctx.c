/*
 * ctx.c -- contexts: a tree of things that may end.
 *
 * Four kinds of node.  The background never ends.  A value, and a context cut
 * off by bh_ctx_without_cancel, only point at their parent.  A *canceller* can
 * end; a canceller with a deadline of its own has a timer in it:
 *
 *     background <- canceller <- value <- canceller+timer <- value
 *                      ^ up ------------------'      ^--------- up
 *
 * `up` is the nearest canceller, a canceller's own `up` being itself.  A
 * canceller keeps a list of what must hear of its end: child cancellers,
 * after-funcs, watches.
 *
 *     live --first of: cancelled, parent ended, timer--> ended (err set, for ever)
 *
 * Cancelling walks the subtree and holds, at any node, the locks of the path
 * down to it.  So whoever finds a context ended and takes its lock once knows
 * that everything below has ended too; that is why a second bh_ctx_cancel may
 * return without having done anything.  The walk goes by pointers, not by
 * recursion: the runtime has no stack to spare for a deep tree.
 *
 * c->lock protects the list and what is in it, cause, note, and the making of the
 * done channel; err is written under it and read without.  Locks are taken from
 * parent to child.  With it held: channel locks (a done channel is closed under
 * it), the scheduler's.  Not the timers': a timer's own function takes c->lock
 * and rt_timer_del waits for that function.  New goroutines start after unlocking.
 *
 * A child holds a reference on its parent; the parent's list holds none on the
 * child.  A child dies only after it has left that list, under the parent's lock:
 * a walk that meets it there may touch it, and unlinking is the last touch.
 *
 * After Go's context package.  We differ in reference counts instead of a
 * collector: a context dropped without a cancel just goes, and never ends; and a
 * cause is a code with a text.
 */

#include "ctx.h"

#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>

#include "cold.h"

enum kind { BACKGROUND, VALUE, DETACHED, CANCELLER, CANCELLER_TIMED };

enum { MAGIC = 0x63747831 };

struct canceller;

struct bh_ctx {
    uint32_t          magic;
    uint8_t           kind;
    bool              has_deadline;
    _Atomic uint32_t  refs;
    struct bh_ctx    *parent; /* one reference; NULL for the background */
    struct canceller *up;     /* nearest canceller, maybe itself; NULL: never ends */
    int64_t           deadline;
};

struct value {
    struct bh_ctx c;
    const void   *key;
    void         *value;
};

struct canceller {
    struct bh_ctx            c;
    struct rt_ctx_entry      entry; /* in the list of c.parent->up, under its lock */
    struct rt_lock           lock;
    _Atomic int              err;   /* 0: live */
    int                      cause;
    const char              *note;     /* an ancestor's or own_note; NULL: none */
    char                    *own_note;
    struct rt_ctx_entry      list;     /* head of a ring */
    _Atomic(struct bh_chan *) done;    /* made when asked for */
};

struct timed {
    struct canceller c;
    struct rt_timer  timer;
};

enum after_state { AFTER_WAITS, AFTER_STARTED, AFTER_STOPPED };

struct bh_after {
    struct rt_ctx_entry entry;
    struct bh_after    *next; /* to be started */
    struct canceller   *up;   /* one reference; NULL: it will never run */
    void              (*fn)(void *arg);
    void               *arg;
    void               *created_pc;
    enum after_state    state; /* under up->lock */
    _Atomic uint32_t    refs;  /* the handle's and the run's */
};

static struct bh_ctx background = { .magic = MAGIC, .kind = BACKGROUND, .refs = 1 };

/* What is left of a context whose owner is done with it. */
static struct canceller ended = { .c = { .magic = MAGIC, .kind = BACKGROUND, .up = &ended },
                                  .list = { &ended.list, &ended.list, RT_CTX_CHILD },
                                  .err = BH_ECANCELED,
                                  .cause = BH_ECANCELED };

/* ---- small things -------------------------------------------------------- */

/* check -- touch ctx while a bad pointer is still the caller's panic. */
static void
check(const struct bh_ctx *ctx)
{
    if (rt_unlikely(ctx->magic != MAGIC))
        bh_fatal("context: used after its last reference was dropped");
}

static bool
is_canceller(const struct bh_ctx *ctx)
{
    return ctx->kind >= CANCELLER;
}

static struct canceller *
child_of(struct rt_ctx_entry *e)
{
    return rt_container(e, struct canceller, entry);
}

static int
err_of(const struct canceller *c)
{
    return atomic_load_explicit(&c->err, memory_order_acquire);
}

/* set_next -- atomic because is_linked looks without the lock. */
static void
set_next(struct rt_ctx_entry *e, struct rt_ctx_entry *next, int order)
{
    __atomic_store_n(&e->next, next, order);
}

static void
link_entry(struct canceller *c, struct rt_ctx_entry *e)
{
    set_next(e, &c->list, __ATOMIC_RELAXED);
    e->prev = c->list.prev;
    set_next(e->prev, e, __ATOMIC_RELAXED);
    c->list.prev = e;
}

/* unlink_entry -- the store to e->next is the last touch: its owner may free it then. */
static void
unlink_entry(struct rt_ctx_entry *e)
{
    struct rt_ctx_entry *next = e->next;

    next->prev = e->prev;
    set_next(e->prev, next, __ATOMIC_RELAXED);
    set_next(e, NULL, __ATOMIC_RELEASE);
}

static bool
is_linked(const struct rt_ctx_entry *e)
{
    return __atomic_load_n(&e->next, __ATOMIC_ACQUIRE) != NULL;
}

/* leave_list -- out of the list of `up`, if still in it. */
static void
leave_list(struct canceller *up, struct rt_ctx_entry *e)
{
    if (!is_linked(e))
        return; /* and never again */
    rt_lock(&up->lock);
    if (is_linked(e))
        unlink_entry(e);
    rt_unlock(&up->lock);
}

/* ---- ending -------------------------------------------------------------- */

/* Why a subtree ends. */
struct end {
    int         err, cause;
    const char *note; /* lives as long as the subtree's root */
};

/* mark -- c ends.  Under its lock. */
static void
mark(struct canceller *c, const struct end *end)
{
    struct bh_chan *done = atomic_load_explicit(&c->done, memory_order_relaxed);

    c->cause = end->cause;
    c->note = end->note;
    atomic_store_explicit(&c->err, end->err, memory_order_release);
    if (done != NULL)
        (void)rt_chan_close(done);
}

/* tell -- one entry of c's list, off it.  Returns: a live child, locked, still in the list. */
static struct canceller *
tell(struct rt_ctx_entry *e, struct bh_after **afters)
{
    if (e->kind == RT_CTX_CHILD) {
        struct canceller *child = child_of(e);

        rt_lock(&child->lock);
        if (err_of(child) == 0)
            return child;
        rt_unlock(&child->lock);
        unlink_entry(e);
    } else if (e->kind == RT_CTX_AFTER) {
        struct bh_after *a = rt_container(e, struct bh_after, entry);

        a->state = AFTER_STARTED;
        a->next = *afters;
        *afters = a;
        unlink_entry(e);
    } else {
        struct rt_ctx_watch *w = rt_container(e, struct rt_ctx_watch, entry);

        unlink_entry(e);
        w->fn(w);
    }
    return NULL;
}

/* end_subtree -- Returns: false if root had ended.  *afters: to be started by the caller. */
static bool
end_subtree(struct canceller *root, const struct end *end, struct bh_after **afters)
{
    struct canceller *at = root, *child;

    rt_lock(&root->lock);
    if (err_of(root) != 0) {
        rt_unlock(&root->lock);
        return false;
    }
    mark(root, end);
    for (;;) {
        if (at->list.next != &at->list) {
            child = tell(at->list.next, afters);
            if (child != NULL) {
                mark(child, end);
                at = child;
            }
            continue;
        }
        rt_unlock(&at->lock);
        if (at == root)
            return true;
        child = at;
        at = child->c.parent->up;
        unlink_entry(&child->entry);
    }
}

static void after_main(void *args);

static void
start_afters(struct bh_after *a)
{
    for (struct bh_after *next; a != NULL; a = next) {
        next = a->next;
        rt_spawn(after_main, &a, sizeof a, 0, a->created_pc);
    }
}

static void
deadline_passed(struct rt_timer *t, void *arg, uintptr_t seq)
{
    struct bh_after *afters = NULL;

    (void)t;
    (void)seq;
    end_subtree(arg, &(struct end){ BH_EDEADLINE, BH_EDEADLINE, NULL }, &afters);
    start_afters(afters);
}

/* cancel -- in the runtime.  note: malloc'ed, ours from now on.  Returns: what to free. */
static char *
cancel(struct canceller *c, int code, char *note)
{
    struct bh_after *afters = NULL;
    struct end       end = { BH_ECANCELED, code != 0 ? code : BH_ECANCELED, note };

    rt_point();
    if (!end_subtree(c, &end, &afters))
        return note;
    c->own_note = note; /* only for the freeing: nobody else reads it */
    start_afters(afters);
    if (c->c.kind == CANCELLER_TIMED)
        (void)rt_timer_cancel(&((struct timed *)c)->timer);
    if (c->c.parent->up != NULL)
        leave_list(c->c.parent->up, &c->entry);
    return NULL;
}

void
bh_ctx_cancel_cause(struct bh_ctx *ctx, int code, const char *note)
{
    char *copy = NULL;

    check(ctx);
    if (ctx == &ended.c)
        return;
    BH_REQUIRE(is_canceller(ctx));
    BH_REQUIRE(code <= 0);
    if (note != NULL && ctx->up->err == 0)
        copy = strdup(note); /* without memory it ends all the same, silently */
    rt_enter("bh_ctx_cancel");
    copy = cancel(ctx->up, code, copy);
    rt_exit();
    free(copy);
}

void
bh_ctx_cancel(struct bh_ctx *ctx)
{
    bh_ctx_cancel_cause(ctx, 0, NULL);
}

/* ---- making -------------------------------------------------------------- */

struct bh_ctx *
bh_ctx_background(void)
{
    return &background;
}

struct bh_ctx *
rt_ctx_ended(void)
{
    return &ended.c;
}

static void
init(struct bh_ctx *ctx, enum kind kind, struct bh_ctx *parent)
{
    *ctx = (struct bh_ctx){ .magic = MAGIC,
                            .kind = kind,
                            .has_deadline = parent->has_deadline,
                            .refs = 1,
                            .parent = bh_ctx_ref(parent),
                            .up = parent->up,
                            .deadline = parent->deadline };
}

static void
need_parent(const struct bh_ctx *parent)
{
    if (rt_unlikely(parent == NULL))
        rt_panic_string("cannot create context from nil parent");
    check(parent);
}

/* canceller_new -- kind's size of it, not in its parent's list yet. */
static struct canceller *
canceller_new(struct bh_ctx *parent, enum kind kind)
{
    size_t size = kind == CANCELLER ? sizeof(struct canceller) : sizeof(struct timed);
    struct canceller *c = rt_malloc(size);

    memset(c, 0, size);
    init(&c->c, kind, parent);
    c->c.up = c;
    c->list.next = c->list.prev = &c->list;
    c->entry.kind = RT_CTX_CHILD;
    return c;
}

/* join_parent -- hear of the parent's end, which may have been.  In the runtime. */
static void
join_parent(struct canceller *c)
{
    struct canceller *up = c->c.parent->up;
    int               err;

    rt_point();
    if (up == NULL)
        return;
    rt_lock(&up->lock);
    err = err_of(up);
    if (err == 0)
        link_entry(up, &c->entry);
    else
        mark(c, &(struct end){ err, up->cause, up->note });
    rt_unlock(&up->lock);
}

struct bh_ctx *
bh_ctx_cancellable(struct bh_ctx *parent)
{
    need_parent(parent);
    struct canceller *c = canceller_new(parent, CANCELLER);
    rt_enter("bh_ctx_cancellable");
    join_parent(c);
    rt_exit();
    return &c->c;
}

/* with_deadline -- now is passed because the caller has often just asked. */
static struct bh_ctx *
with_deadline(struct bh_ctx *parent, int64_t at_ns, int64_t now)
{
    struct canceller *c = canceller_new(parent, CANCELLER_TIMED);
    struct rt_timer  *t = &((struct timed *)c)->timer;

    c->c.has_deadline = true;
    c->c.deadline = at_ns;
    t->when = at_ns;
    t->fn = deadline_passed;
    t->arg = c;
    rt_enter("bh_ctx_deadline");
    join_parent(c);
    if (at_ns <= now)
        deadline_passed(t, c, 0);
    else if (err_of(c) == 0)
        rt_timer_add(t);
    rt_exit();
    return &c->c;
}

struct bh_ctx *
bh_ctx_deadline(struct bh_ctx *parent, int64_t at_ns)
{
    need_parent(parent);
    if (parent->has_deadline && parent->deadline < at_ns)
        return bh_ctx_cancellable(parent);
    return with_deadline(parent, at_ns, bh_now());
}

struct bh_ctx *
bh_ctx_timeout(struct bh_ctx *parent, int64_t timeout_ns)
{
    int64_t now = bh_now(), at_ns;

    need_parent(parent);
    if (__builtin_add_overflow(now, timeout_ns, &at_ns))
        at_ns = timeout_ns > 0 ? INT64_MAX : 0;
    if (parent->has_deadline && parent->deadline < at_ns)
        return bh_ctx_cancellable(parent);
    return with_deadline(parent, at_ns, now);
}

struct bh_ctx *
bh_ctx_with_value(struct bh_ctx *parent, const void *key, void *value)
{
    need_parent(parent);
    if (key == NULL)
        rt_panic_string("nil key");
    struct value *v = rt_malloc(sizeof *v);
    init(&v->c, VALUE, parent);
    v->key = key;
    v->value = value;
    return &v->c;
}

struct bh_ctx *
bh_ctx_without_cancel(struct bh_ctx *parent)
{
    need_parent(parent);
    struct bh_ctx *ctx = rt_malloc(sizeof *ctx);
    init(ctx, DETACHED, parent);
    ctx->up = NULL;
    ctx->has_deadline = false;
    return ctx;
}

/* ---- references ---------------------------------------------------------- */

struct bh_ctx *
bh_ctx_ref(struct bh_ctx *ctx)
{
    check(ctx);
    if (ctx->kind != BACKGROUND) /* shared by all: not worth a contended counter */
        atomic_fetch_add_explicit(&ctx->refs, 1, memory_order_relaxed);
    return ctx;
}

static void
canceller_fini(struct canceller *c)
{
    rt_enter("bh_ctx_unref");
    if (c->c.kind == CANCELLER_TIMED)
        (void)rt_timer_del(&((struct timed *)c)->timer);
    if (c->c.parent->up != NULL)
        leave_list(c->c.parent->up, &c->entry);
    rt_exit();
    bh_chan_unref(atomic_load_explicit(&c->done, memory_order_relaxed));
    free(c->own_note);
}

/* A loop, not a recursion: the last reference to a long chain may go here. */
void
bh_ctx_unref(struct bh_ctx *ctx)
{
    for (struct bh_ctx *parent; ctx != NULL; ctx = parent) {
        check(ctx);
        if (ctx->kind == BACKGROUND)
            return;
        if (atomic_fetch_sub_explicit(&ctx->refs, 1, memory_order_acq_rel) != 1)
            return;
        if (is_canceller(ctx))
            canceller_fini(ctx->up);
        parent = ctx->parent;
        ctx->magic = 0;
        free(ctx);
    }
}

void
bh_ctx_end(struct bh_ctx *ctx)
{
    if (ctx == NULL)
        return;
    check(ctx);
    if (is_canceller(ctx))
        bh_ctx_cancel(ctx);
    bh_ctx_unref(ctx);
}

/* ---- asking -------------------------------------------------------------- */

struct bh_chan *
bh_ctx_done(struct bh_ctx *ctx)
{
    check(ctx);
    struct canceller *c = ctx->up;
    if (c == NULL)
        return NULL;
    struct bh_chan *done = atomic_load_explicit(&c->done, memory_order_acquire);
    if (rt_likely(done != NULL))
        return done;

    struct bh_chan *fresh = BH_CHAN(char, 0);
    rt_enter("bh_ctx_done");
    rt_lock(&c->lock);
    done = atomic_load_explicit(&c->done, memory_order_relaxed);
    if (done == NULL) {
        done = fresh;
        fresh = NULL;
        if (err_of(c) != 0)
            (void)rt_chan_close(done);
        atomic_store_explicit(&c->done, done, memory_order_release);
    }
    rt_unlock(&c->lock);
    rt_exit();
    bh_chan_unref(fresh);
    return done;
}

int
bh_ctx_err(struct bh_ctx *ctx)
{
    check(ctx);
    return ctx->up != NULL ? err_of(ctx->up) : 0;
}

int
bh_ctx_cause(struct bh_ctx *ctx, const char **note)
{
    int err = bh_ctx_err(ctx); /* written after the two below */

    if (note != NULL)
        *note = err != 0 ? ctx->up->note : NULL;
    return err != 0 ? ctx->up->cause : 0;
}

bool
bh_ctx_deadline_at(struct bh_ctx *ctx, int64_t *at_ns)
{
    check(ctx);
    if (ctx->has_deadline && at_ns != NULL)
        *at_ns = ctx->deadline;
    return ctx->has_deadline;
}

void *
bh_ctx_value(struct bh_ctx *ctx, const void *key)
{
    check(ctx);
    for (; ctx != NULL; ctx = ctx->parent)
        if (ctx->kind == VALUE && ((struct value *)ctx)->key == key)
            return ((struct value *)ctx)->value;
    return NULL;
}

/* ---- watches and sleep --------------------------------------------------- */

int
rt_ctx_watch(struct bh_ctx *ctx, struct rt_ctx_watch *w)
{
    struct canceller *c = ctx->up;
    int               err;

    w->entry = (struct rt_ctx_entry){ .kind = RT_CTX_WATCH };
    if (c == NULL)
        return 0;
    rt_lock(&c->lock);
    err = err_of(c);
    if (err == 0)
        link_entry(c, &w->entry);
    rt_unlock(&c->lock);
    return err;
}

bool
rt_ctx_unwatch(struct bh_ctx *ctx, struct rt_ctx_watch *w)
{
    struct canceller *c = ctx->up;
    bool              linked;

    if (c == NULL)
        return true;
    rt_lock(&c->lock);
    linked = is_linked(&w->entry);
    if (linked)
        unlink_entry(&w->entry);
    rt_unlock(&c->lock);
    return linked;
}

/* A goroutine in bh_ctx_sleep; on its stack.  Under the canceller's lock. */
struct sleeper {
    struct rt_ctx_watch watch;
    struct rt_timer     timer;
    struct canceller   *up;
    struct bh_g        *g;
    bool                parked, woken, ended;
};

static void
sleeper_ctx_ended(struct rt_ctx_watch *w)
{
    struct sleeper *s = rt_container(w, struct sleeper, watch);

    s->woken = s->ended = true;
    rt_ready(s->g);
}

static void
sleeper_time_is_up(struct rt_timer *t, void *arg, uintptr_t seq)
{
    struct sleeper   *s = arg;
    struct canceller *up = s->up;
    bool              ready;

    (void)t;
    (void)seq;
    rt_lock(&up->lock);
    ready = s->parked && !s->woken;
    s->woken = true;
    if (ready)
        unlink_entry(&s->watch.entry);
    rt_unlock(&up->lock);
    /* Its rt_timer_del waits for us: s is still there. */
    if (ready)
        rt_ready_tail(s->g);
}

int
bh_ctx_sleep(struct bh_ctx *ctx, int64_t ns)
{
    check(ctx);
    if (ctx->up == NULL) {
        bh_sleep(ns);
        return 0;
    }
    if (ns <= 0 || bh_ctx_err(ctx) != 0)
        return bh_ctx_err(ctx);

    struct canceller *up = ctx->up;
    struct sleeper    s = { .watch = { .fn = sleeper_ctx_ended }, .up = up };

    rt_enter("bh_ctx_sleep");
    rt_point();
    s.watch.entry.kind = RT_CTX_WATCH;
    s.g = rt_g();
    if (__builtin_add_overflow(rt_now(), ns, &s.timer.when))
        s.timer.when = INT64_MAX;
    s.timer.fn = sleeper_time_is_up;
    s.timer.arg = &s;
    rt_timer_add(&s.timer);
    rt_lock(&up->lock);
    if (s.woken || err_of(up) != 0) {
        s.ended = !s.woken;
        rt_unlock(&up->lock);
    } else {
        link_entry(up, &s.watch.entry);
        s.parked = true;
        rt_park_unlock(&up->lock.word, RT_WHY_SLEEP);
    }
    (void)rt_timer_del(&s.timer); /* its fn is done with s, too */
    rt_exit();
    return s.ended ? err_of(up) : 0;
}

/* ---- after-funcs --------------------------------------------------------- */

static void
after_unref(struct bh_after *a)
{
    if (atomic_fetch_sub_explicit(&a->refs, 1, memory_order_acq_rel) != 1)
        return;
    if (a->up != NULL)
        bh_ctx_unref(&a->up->c);
    free(a);
}

static void
after_main(void *args)
{
    struct bh_after *a = *(struct bh_after **)args;

    BH_DEFER(after_unref, a);
    a->fn(a->arg);
}

struct bh_after *
bh_ctx_after(struct bh_ctx *ctx, void (*fn)(void *arg), void *arg)
{
    check(ctx);
    BH_REQUIRE(fn != NULL);
    struct bh_after *a = rt_calloc(1, sizeof *a);
    *a = (struct bh_after){ .entry.kind = RT_CTX_AFTER,
                            .up = ctx->up,
                            .fn = fn,
                            .arg = arg,
                            .created_pc = __builtin_return_address(0),
                            .refs = 1 };
    if (a->up == NULL)
        return a;
    bh_ctx_ref(&a->up->c);
    atomic_store_explicit(&a->refs, 2, memory_order_relaxed);

    rt_enter("bh_ctx_after");
    rt_point();
    rt_lock(&a->up->lock);
    if (err_of(a->up) == 0)
        link_entry(a->up, &a->entry);
    else
        a->state = AFTER_STARTED;
    bool start = a->state == AFTER_STARTED;
    rt_unlock(&a->up->lock);
    if (start)
        start_afters(a);
    rt_exit();
    return a;
}

bool
bh_after_stop(struct bh_after *a)
{
    bool stopped = false;

    if (a->up == NULL) {
        free(a);
        return true;
    }
    rt_enter("bh_after_stop");
    rt_point();
    rt_lock(&a->up->lock);
    if (a->state == AFTER_WAITS) {
        a->state = AFTER_STOPPED;
        unlink_entry(&a->entry);
        stopped = true;
    }
    rt_unlock(&a->up->lock);
    rt_exit();
    if (stopped)
        after_unref(a); /* the run's */
    after_unref(a);
    return stopped;
}
