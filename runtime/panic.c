/*
 * panic.c -- defer, panic, recover, goexit: Go's rules on C frames.
 *
 *   G.defers -> [DEFER unlock] -> [DEFER close] -> [POINT] -> [DEFER unref] -> NULL
 *               newest, deepest frame                         oldest frame
 *
 * Deferred calls are records in their callers' frames, linked on the goroutine.
 * The cleanup attribute pops the newest and runs it when its block ends.  A
 * panic does not unwind first: it walks the same list on top of the panicking
 * stack, popping each record BEFORE running it, so that a panic inside a
 * deferred call starts a new walk where this one stopped and nothing runs twice.
 *
 * A call deferred for the whole function from an inner block (BH_DEFER_LATE) has
 * its record on the heap; a record in the function's frame (SCOPE) says where
 * they end.
 *
 * Besides deferred calls two kinds of record mark where control can land:
 *
 *   POINT    BH_RECOVER: the walk lands there itself; the block runs in that frame
 *   LANDING  BH_RETURNS: a call deferred by that function may bh_recover(); then
 *            the function's older calls run in normal mode and it returns
 *
 * Each panic and each goexit in flight is a struct rt_panic in the frame of the
 * call that raised it; g->panics links them, newest first.  recover succeeds for
 * the newest only, if it is no goexit, not yet recovered, and the caller of
 * recover is the very function that the walk called: that function's canonical
 * frame address is the stack pointer at the walk's call instruction (cfa).
 *
 * Landing in a frame drops every record raised in the frames below it.  If one of
 * those is a goexit, the exit must go on: a recovered panic cannot cancel it.
 *
 * I1  g->defers is ordered by frame: newer records lie at lower addresses
 * I2  a record is on the list exactly while its block is open and no walk has taken it
 * I3  only the owning goroutine touches its lists
 *
 * A panic raised while in the runtime is promoted to a fatal error: shared state
 * may be half changed.  Nobody recovering ends the process (crash.c).
 *
 * After Go's runtime/panic.go (spec: "Handling panics").  We differ in landing
 * on checkpoints instead of rewriting return addresses.
 */

#include "cold.h"
#include "lifecycle.h"

#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(RT_ASAN)
#include <sanitizer/asan_interface.h>
#endif

/* ---- kinds of values --------------------------------------------------------- */

#define PRINTER(name, type, ...)                                                               \
    static void print_##name(const void *value, char *text, size_t size)                       \
    {                                                                                          \
        type v;                                                                                \
                                                                                               \
        memcpy(&v, value, sizeof v);                                                           \
        snprintf(text, size, __VA_ARGS__);                                                     \
    }

PRINTER(int, int, "%d", v)
PRINTER(int64, int64_t, "%lld", (long long)v)
PRINTER(uint8, uint8_t, "%u", v)
PRINTER(uintptr, uintptr_t, "%llu", (unsigned long long)v)
PRINTER(bool, bool, "%s", v ? "true" : "false")

/* Go's print of a float: sign, seven digits, a three-digit exponent. */
static void
print_float(double v, char *text, size_t size)
{
    char  digits[40];
    char *e;

    if (v != v || v - v != 0) {
        snprintf(text, size, "%s", v != v ? "NaN" : v > 0 ? "+Inf" : "-Inf");
        return;
    }
    snprintf(digits, sizeof digits, "%+.6e", v);
    e = strchr(digits, 'e');
    *e = '\0';
    snprintf(text, size, "%se%c%03d", digits, e[1], (e[2] - '0') * 10 + e[3] - '0');
    if (e[4] != '\0')
        snprintf(text, size, "%se%c%s", digits, e[1], e + 2);
}

static void
print_float64(const void *value, char *text, size_t size)
{
    double v;

    memcpy(&v, value, sizeof v);
    print_float(v, text, size);
}

static void
print_complex128(const void *value, char *text, size_t size)
{
    double v[2];
    char   re[48], im[48];

    memcpy(v, value, sizeof v);
    print_float(v[0], re, sizeof re);
    print_float(v[1], im, sizeof im);
    snprintf(text, size, "(%s%si)", re, im);
}

static const char *
string_itself(const void *value)
{
    return value;
}

static const char *
nil_text(const void *value)
{
    (void)value;
    return "panic called with nil argument";
}

/* A string prints as itself, like a String method would. */
const struct bh_kind bh_kind_string = { .name = "string", .string = string_itself };
const struct bh_kind bh_kind_error = { .name = "*errors.errorString", .error = string_itself };
const struct bh_kind bh_kind_runtime_error = { .name = "runtime.errorString",
                                               .error = string_itself,
                                               .runtime_error = true };
static const struct bh_kind kind_address_error = { .name = "runtime.errorAddressString",
                                                   .error = string_itself,
                                                   .runtime_error = true };
static const struct bh_kind kind_plain_error = { .name = "runtime.plainError",
                                                 .error = string_itself,
                                                 .runtime_error = true };
const struct bh_kind        bh_kind_nil = { .name = "*runtime.PanicNilError",
                                            .error = nil_text,
                                            .runtime_error = true };
const struct bh_kind bh_kind_int = { .name = "int", .size = sizeof(int), .print = print_int };
const struct bh_kind bh_kind_int64 = { .name = "int64", .size = 8, .print = print_int64 };
const struct bh_kind bh_kind_uint8 = { .name = "uint8", .size = 1, .print = print_uint8 };
const struct bh_kind bh_kind_int32 = { .name = "int32", .size = 4, .print = print_int };
const struct bh_kind bh_kind_uintptr = { .name = "uintptr", .size = 8, .print = print_uintptr };
const struct bh_kind bh_kind_bool = { .name = "bool", .size = 1, .print = print_bool };
const struct bh_kind bh_kind_float64 = { .name = "float64", .size = 8, .print = print_float64 };
const struct bh_kind bh_kind_complex128 = { .name = "complex128",
                                            .size = 16,
                                            .print = print_complex128 };

const char *
bh_panic_text(const struct bh_panic *p)
{
    char *buffer = (char *)(uintptr_t)p->buffer_; /* the panic's own scratch */

    if (p->kind->error != NULL)
        return p->kind->error(p->value);
    if (p->kind->string != NULL)
        return p->kind->string(p->value);
    if (p->kind->print != NULL)
        p->kind->print(p->value, buffer, sizeof p->buffer_);
    else
        snprintf(buffer, sizeof p->buffer_, "(%s) %p", p->kind->name, p->value);
    return buffer;
}

/* ---- records -------------------------------------------------------------------- */

static inline struct bh_g *
owner(const char *what)
{
    struct bh_g *g = rt_g();

    if (rt_unlikely(g == NULL))
        rt_not_a_goroutine(what);
    return g;
}

static inline void
push(struct bh_record *r, const char *what)
{
    struct bh_g *g = owner(what);

    r->g = g;
    r->older = g->defers;
    g->defers = r;
}

void
bh_record_push_(struct bh_record *r)
{
    push(r, "BH_DEFER");
}

/* A block ends under calls of a wider scope that were registered inside it: take r out.  False: gone. */
static bool
unlink_record(struct bh_record *r)
{
    struct bh_record **at = &r->g->defers;

    for (; *at != r; at = &(*at)->older) {
        if (*at != NULL && (*at)->kind == BH_RECORD_LATE)
            continue;
        if (rt_sched.unwind)
            return false; /* its frame is being unwound: the walk has run it */
        rt_throw("a block with BH_DEFER was left by a jump");
    }
    *at = r->older;
    return true;
}

void
bh_defer_end_(struct bh_record *r)
{
    if (rt_likely(r->g->defers == r))
        r->g->defers = r->older;
    else if (!unlink_record(r))
        return;
    r->fn(r->arg);
}

void
bh_defer_late_(struct bh_record *scope, void (*fn)(uintptr_t), uintptr_t arg,
               struct bh_landing *landing)
{
    struct bh_record *r = rt_malloc(sizeof *r);

    *r = (struct bh_record){ .fn = fn, .arg = arg, .landing = landing, .kind = BH_RECORD_LATE };
    r->g = scope->g;
    r->older = r->g->defers;
    r->g->defers = r;
}

/* Pop the newest record.  Returns: it, or a copy of it where it was on the heap. */
static struct bh_record *
pop(struct bh_g *g, struct bh_record *copy)
{
    struct bh_record *r = g->defers;

    g->defers = r->older;
    if (rt_likely(r->kind != BH_RECORD_LATE))
        return r;
    *copy = *r;
    free(r);
    return copy;
}

void
bh_defer_scope_push_(struct bh_record *scope)
{
    scope->kind = BH_RECORD_SCOPE;
    push(scope, "BH_DEFER_SCOPE");
}

static bool
on_list(const struct bh_record *r)
{
    const struct bh_record *at = r->g->defers;

    while (at != NULL && at != r)
        at = at->older;
    return at != NULL;
}

void
bh_defer_scope_end_(struct bh_record *scope)
{
    struct bh_g      *g = scope->g;
    struct bh_record *r, late;

    if (rt_unlikely(rt_sched.unwind) && !on_list(scope))
        return;
    while (g->defers != scope) {
        BH_INVARIANT(g->defers != NULL && g->defers->kind == BH_RECORD_LATE);
        r = pop(g, &late);
        r->fn(r->arg);
    }
    g->defers = scope->older;
}

void
bh_point_push_(struct bh_point *p)
{
    p->rec.kind = BH_RECORD_POINT;
    p->resume_goexit = false;
    push(&p->rec, "BH_RECOVER");
}

void
bh_point_end_(struct bh_point *p)
{
    if (rt_likely(p->rec.g->defers == &p->rec)) {
        p->rec.g->defers = p->rec.older;
        return;
    }
    /* Landed: the walk took the record.  An exit that the panic interrupted goes on. */
    if (p->resume_goexit)
        bh_goexit();
}

void
bh_landing_push_(struct bh_landing *l)
{
    l->rec.kind = BH_RECORD_LANDING;
    push(&l->rec, "BH_RETURNS");
}

void
bh_landing_end_(struct bh_landing *l)
{
    if (l->rec.g->defers == &l->rec)
        l->rec.g->defers = l->rec.older;
}

noreturn void
bh_point_fell_through_(void)
{
    rt_throw("the block of a BH_RECOVER must end in return");
}

/* ---- landing ----------------------------------------------------------------------- */

/*
 * Forget the records raised below `frame`; `why` is told of those that nobody
 * recovered.  Returns: whether one was a goexit.
 */
static bool
drop_below(struct bh_g *g, uintptr_t frame, enum bh_panic_step why)
{
    bool             goexit = false;
    struct rt_panic *p;

    while ((p = g->panics) != NULL && p->frame < frame) {
        if (p->goexit)
            goexit = true;
        else if (!p->told)
            rt_panic_over(p, p->recovered ? BH_PANIC_RECOVERED : why);
        g->panics = p->link;
    }
    return goexit;
}

static const struct bh_panic *
newest_panic(const struct rt_panic *p)
{
    while (p != NULL && p->goexit)
        p = p->link;
    return p != NULL ? &p->pub : NULL;
}

#if defined(RT_TSAN)
void __tsan_func_exit(void *unused);

/*
 * ThreadSanitizer keeps a call stack of its own, of 65,536 entries: take off
 * those of the frames that are jumped over, but for one, as the frame that
 * faulted may have none.  Our assembly has none either.
 */
__attribute__((no_sanitize("thread"), noinline)) static void
leave_sanitizer_frames(const struct rt_stack *s, const struct bh_checkpoint *at)
{
    enum { ASSEMBLY_SIZE = 64, CHECKPOINT_FP = sizeof at->reg == 64 ? 1 : 10 };
    const uintptr_t *fp = __builtin_frame_address(0);
    int              count = -1;

    /* The chain is broken where libc has called back: then some stay. */
    while (fp[0] > (uintptr_t)fp && fp[0] < (uintptr_t)s->top && fp[0] % sizeof fp == 0 &&
           fp[0] != at->reg[CHECKPOINT_FP]) {
        uintptr_t pc = fp[1];

        if (pc - (uintptr_t)rt_sigpanic >= ASSEMBLY_SIZE &&
            pc - (uintptr_t)rt_call_deferred >= ASSEMBLY_SIZE)
            count++;
        fp = (const uintptr_t *)fp[0];
    }
    while (count-- > 0)
        __tsan_func_exit(NULL);
}
#endif

/* The last step: leave the frames below and continue at the checkpoint. */
static void
land_now(struct bh_g *g, const struct bh_checkpoint *at)
{
#if defined(RT_ASAN)
    __asan_handle_no_return();
#elif defined(RT_TSAN)
    leave_sanitizer_frames(g->stack, at);
#endif
    /* After a stack overflow: we run in the emergency pages, and leave them with this step. */
    if (rt_unlikely(g->flags & RT_G_IN_EMERGENCY)) {
        g->flags &= (uint8_t)~RT_G_IN_EMERGENCY;
        rt_stack_land(g->stack, at);
        g->flags |= RT_G_IN_EMERGENCY;
    }
    rt_resume(at);
}

static noreturn void
land(struct bh_g *g, const struct bh_checkpoint *at, struct bh_unwind_ *store)
{
    if (rt_unlikely(rt_sched.unwind))
        rt_unwind_to(g, at, store, land_now);
    land_now(g, at);
    __builtin_unreachable();
}

/* Copy a panic to where it outlives its raiser's frame. */
void
rt_panic_move(struct bh_panic *to, const struct bh_panic *from)
{
    memcpy(to, from, offsetof(struct bh_panic, buffer_));
    memcpy(to->buffer_, from->buffer_, strlen(from->buffer_) + 1);
    if (from->value == from->payload_)
        to->value = to->payload_;
    else if (from->value == from->buffer_)
        to->value = to->buffer_;
    if (from->text == from->buffer_)
        to->text = to->buffer_;
}

static noreturn void
land_at_point(struct bh_g *g, struct rt_panic *p, struct bh_point *point)
{
    uintptr_t frame = (uintptr_t)point;

    rt_panic_over(p, BH_PANIC_RECOVERED);
    rt_panic_move(&point->panic, &p->pub);
    point->resume_goexit = drop_below(g, frame, BH_PANIC_REPLACED);
    point->panic.outer = newest_panic(g->panics);
    land(g, &point->at, &point->unwind);
}

/*
 * A deferred call of a function with a landing has recovered p.  Normally does
 * not return: it lands.  If a goexit is dropped with p, p becomes that goexit
 * and the walk goes on.
 */
static void
finish_recovery(struct bh_g *g, struct rt_panic *p, struct bh_landing *landing)
{
    uintptr_t         frame = (uintptr_t)landing;
    struct bh_record *r, late;

    rt_panic_over(p, BH_PANIC_RECOVERED);
    if (drop_below(g, frame, BH_PANIC_REPLACED)) {
        p->goexit = true;
        p->recovered = false;
        p->link = g->panics;
        g->panics = p;
        return;
    }
    while (g->defers != &landing->rec) {
        BH_INVARIANT(g->defers != NULL);
        r = pop(g, &late);
        if (r->kind <= BH_RECORD_LATE)
            r->fn(r->arg);
    }
    g->defers = landing->rec.older;
    land(g, &landing->at, &landing->unwind);
}

const struct bh_panic *
bh_recover_at_(uintptr_t cfa)
{
    struct bh_g     *g = rt_g();
    struct rt_panic *p = g != NULL ? g->panics : NULL;

    if (p == NULL || p->goexit || p->recovered || p->cfa == 0 || p->cfa != cfa)
        return NULL;
    if (p->record->landing == NULL) {
        p->no_landing = true; /* the report says so */
        return NULL;
    }
    p->recovered = true;
    return &p->pub;
}

/* ---- walking ------------------------------------------------------------------------- */

/* Run the deferred calls, outwards, until one recovers or none is left. */
static void
walk(struct bh_g *g, struct rt_panic *p)
{
    struct bh_record *r, late;

    while (g->defers != NULL) {
        r = pop(g, &late);
        if (r->kind == BH_RECORD_POINT && !p->goexit)
            land_at_point(g, p, (struct bh_point *)r);
        if (r->kind > BH_RECORD_LATE)
            continue;
        p->record = r;
        p->defers++;
        rt_panic_tell(p, BH_PANIC_DEFER);
        rt_call_deferred(r->fn, r->arg, &p->cfa);
        p->cfa = 0;
        BH_INVARIANT(g->panics == p);
        rt_panic_tell(p, BH_PANIC_DEFER_DONE);
        if (p->recovered)
            finish_recovery(g, p, r->landing);
    }
}

/* The goroutine ends; what it had in flight is forgotten. */
static noreturn void
end(struct bh_g *g)
{
    drop_below(g, UINTPTR_MAX, BH_PANIC_GOEXIT);
    rt_goroutine_end();
}

/* Where may it panic?  Not on a plain thread, not inside the runtime. */
static struct bh_g *
may_panic(struct rt_panic *p)
{
    struct rt_m *m = rt_m();

    if (m == NULL || m->g == NULL)
        rt_throw("panic on a thread that runs no goroutine: %s", bh_panic_text(&p->pub));
    if (atomic_load_explicit(&m->in_rt, memory_order_relaxed) != 0)
        rt_throw("panic inside the runtime: %s", bh_panic_text(&p->pub));
    return m->g;
}

static noreturn void
raise_panic(struct rt_panic *p)
{
    struct bh_g *g = may_panic(p);

    p->frame = (uintptr_t)p;
    p->pub.goroutine = atomic_load_explicit(&g->id, memory_order_relaxed);
    p->pub.outer = newest_panic(g->panics);
    p->link = g->panics;
    g->panics = p;
    g->flags &= (uint8_t)~RT_G_CAPTURING;
    p->watched = rt_panic_watched();
    if (rt_likely(!p->again)) {
        p->pub.serial = rt_panic_serial(rt_m());
        if (rt_unlikely(atomic_load_explicit(&rt_panic_hook_count, memory_order_relaxed) != 0))
            rt_panic_run_chain(p);
        rt_panic_tell(p, BH_PANIC_RAISED);
    } else {
        rt_panic_tell(p, BH_PANIC_REPANICKED);
    }
    walk(g, p);
    if (p->goexit)
        end(g);
    rt_crash_panic(g);
}

static void
init_panic(struct rt_panic *p, const struct bh_kind *kind, const void *value)
{
    /* Not the text buffer: it is half a kilobyte. */
    memset(p, 0, offsetof(struct rt_panic, pub.buffer_));
    memset(&p->link, 0, sizeof *p - offsetof(struct rt_panic, link));
    p->pub.kind = kind;
    p->pub.value = value;
    p->pub.text = "";
    p->pub.buffer_[0] = '\0';
    if (kind->size > 0 && kind->size <= sizeof p->pub.payload_ && value != NULL) {
        memcpy(p->pub.payload_, value, kind->size);
        p->pub.value = p->pub.payload_;
    }
}

/* A panic whose value is the text in its own buffer. */
static void
init_text(struct rt_panic *p, const struct bh_kind *kind)
{
    init_panic(p, kind, NULL);
    p->pub.value = p->pub.text = p->pub.buffer_;
}

/* A text without directives: no need for the formatter, which costs as much as the panic. */
static void
copy_text(char *buffer, const char *text)
{
    size_t length = strnlen(text, BH_PANIC_TEXT - 1);

    memcpy(buffer, text, length);
    buffer[length] = '\0';
}

noreturn void
bh_panic_at_(const char *file, int line, const char *format, ...)
{
    struct rt_panic p;
    va_list         args;

    init_text(&p, &bh_kind_string);
    p.pub.file = file;
    p.pub.line = line;
    p.pub.pc = (uintptr_t)__builtin_return_address(0);
    if (strchr(format, '%') == NULL) {
        copy_text(p.pub.buffer_, format);
    } else {
        va_start(args, format);
        vsnprintf(p.pub.buffer_, sizeof p.pub.buffer_, format, args);
        va_end(args);
    }
    raise_panic(&p);
}

noreturn void
bh_panic_value_at_(const char *file, int line, const struct bh_kind *kind, const void *value)
{
    struct rt_panic p;

    init_panic(&p, kind != NULL ? kind : &bh_kind_nil, value);
    p.pub.file = file;
    p.pub.line = line;
    p.pub.pc = (uintptr_t)__builtin_return_address(0);
    if (p.pub.kind == &bh_kind_string && value != NULL)
        p.pub.text = value;
    raise_panic(&p);
}

const struct bh_panic *
bh_panicking(void)
{
    struct bh_g     *g = rt_g();
    struct rt_panic *p = g != NULL ? g->panics : NULL;

    return p != NULL && !p->goexit && !p->recovered ? &p->pub : NULL;
}

/* The record of a panic still in flight on this goroutine, or NULL. */
static struct rt_panic *
in_flight(const struct bh_panic *again)
{
    struct rt_panic *p = owner("bh_repanic")->panics;

    while (p != NULL && &p->pub != again)
        p = p->link;
    return p;
}

noreturn void
bh_repanic(const struct bh_panic *again)
{
    struct rt_panic p, *older = in_flight(again);

    init_panic(&p, again->kind, NULL);
    rt_panic_move(&p.pub, again);
    if (older != NULL && !older->told) {
        older->told = true; /* the new record will tell how it ends */
        rt_panic_count(older, BH_PANIC_REPANICKED);
    }
    p.again = true;
    /* Below another in the chain, panicking with it again is nothing that Go marks. */
    p.repanicked = older == NULL || older == rt_g()->panics;
    raise_panic(&p);
}

noreturn void
rt_panic_fault(const struct rt_fault *fault)
{
    struct rt_panic p;

    init_text(&p, fault->wild ? &kind_address_error : &bh_kind_runtime_error);
    snprintf(p.pub.buffer_, sizeof p.pub.buffer_, "runtime error: %s", fault->text);
    p.pub.signal = fault->signal;
    p.pub.code = fault->code;
    p.pub.fault_addr = fault->addr;
    p.registers = fault->has_registers ? fault->registers : NULL;
    p.pub.pc = fault->pc;
    rt_count(rt_m(), RT_COUNT_FAULTS, 1);
    if (strcmp(fault->text, "stack overflow") == 0)
        rt_count(rt_m(), RT_COUNT_OVERFLOWS, 1);
    raise_panic(&p);
}

noreturn void
rt_panic_runtime(const char *text)
{
    struct rt_panic p;

    init_text(&p, &bh_kind_runtime_error);
    snprintf(p.pub.buffer_, sizeof p.pub.buffer_, "runtime error: %s", text);
    p.pub.pc = (uintptr_t)__builtin_return_address(0);
    raise_panic(&p);
}

noreturn void
rt_panic_plain(const char *text)
{
    struct rt_panic p;

    init_panic(&p, &kind_plain_error, text);
    p.pub.text = text;
    p.pub.pc = (uintptr_t)__builtin_return_address(0);
    raise_panic(&p);
}

noreturn void
rt_panic_string(const char *text)
{
    struct rt_panic p;

    init_panic(&p, &bh_kind_string, text);
    p.pub.text = text;
    p.pub.pc = (uintptr_t)__builtin_return_address(0);
    raise_panic(&p);
}

noreturn void
bh_require_failed_(const char *file, int line, const char *func, const char *text)
{
    struct rt_panic p;

    init_text(&p, &bh_kind_string);
    p.pub.file = file;
    p.pub.line = line;
    p.pub.pc = (uintptr_t)__builtin_return_address(0);
    snprintf(p.pub.buffer_, sizeof p.pub.buffer_, "requirement failed: %s (%s, %s:%d)", text,
             func, file, line);
    raise_panic(&p);
}

noreturn void
bh_invariant_failed_(const char *file, int line, const char *func, const char *text)
{
    rt_throw("invariant failed: %s (%s, %s:%d)", text, func, file, line);
}

noreturn void
bh_goexit(void)
{
    struct rt_panic p;
    struct bh_g    *g = owner("bh_goexit");

    if (rt_unlikely(rt_panic_in_hook(g->panics)))
        bh_panic("bh_goexit in a panic hook"); /* it would swallow the panic */
    init_panic(&p, &bh_kind_nil, NULL);
    p.goexit = true;
    p.frame = (uintptr_t)&p;
    p.link = g->panics;
    g->panics = &p;
    walk(g, &p);
    end(g);
}

bool
bh_panic_on_fault(bool enable)
{
    struct bh_g *g = owner("bh_panic_on_fault");
    bool         old = (g->flags & RT_G_PANIC_ON_FAULT) != 0;

    g->flags =
        (uint8_t)(enable ? g->flags | RT_G_PANIC_ON_FAULT : g->flags & ~RT_G_PANIC_ON_FAULT);
    return old;
}
