/*
 * cold.c -- the rarely used part of a goroutine: name, labels, locals, what it
 * owns, its arena, its latest error note.  And memory that cannot fail.
 *
 * Most goroutines never touch any of it, so it hangs off the descriptor by one
 * pointer and is made on first use.  Once made it stays with the descriptor and
 * serves the descriptor's later goroutines, emptied: a dump may read another
 * goroutine's name at any moment, so the memory must stay what it is.
 *
 * Everything is written by the goroutine itself, in application state.  Only
 * the labels are read through a pointer that changes, so cold->lock covers that
 * pointer; a set of labels is immutable and counted, and whoever drops the last
 * reference frees it.
 *
 * At a goroutine's end rt_cold_release empties it in this order:
 *
 *     owned things, newest first  >  locals  >  the arena
 *
 * A release function is application code: it may panic, allocate, even own
 * something new.  So each entry leaves the list before it is called, and the
 * walk is its own deferred call: a panic in one entry runs the rest on top of
 * it before it goes on outward, as any panic that nobody recovered.
 *
 * Out of memory: rt_malloc panics in the goroutine that asked.  To report that
 * takes memory too, so a reserve is freed first, and laid in again by the next
 * allocation that succeeds.
 */

#include "cold.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/own.h>
#include <bulkhead/go/sync.h>

/* Enough for a report of a hundred frames with symbols. */
enum { RESERVE_SIZE = 256 * 1024 };
/* Lists up to this length stay with the descriptor between goroutines. */
enum { KEEP_CAP = 16 };

/* ---- memory -------------------------------------------------------------- */

static _Atomic(void *) reserve;
static _Atomic bool    reserve_spent;

static void
refill_reserve(void)
{
    bool spent = true;

    if (!atomic_compare_exchange_strong(&reserve_spent, &spent, false))
        return;
    void *block = malloc(RESERVE_SIZE);
    if (block == NULL)
        atomic_store(&reserve_spent, true);
    else
        free(atomic_exchange(&reserve, block));
}

static void
spend_reserve(void)
{
    free(atomic_exchange(&reserve, NULL));
    atomic_store(&reserve_spent, true);
}

noreturn void
rt_out_of_memory(void)
{
    spend_reserve();
    rt_panic_runtime("out of memory");
}

static void
no_memory(size_t size, int over_budget)
{
    (void)size;
    if (over_budget)
        rt_panic_runtime("memory budget exceeded");
    rt_out_of_memory();
}

void
rt_memory_init(void)
{
    atomic_store(&reserve_spent, true);
    refill_reserve();
    bh_set_no_memory(no_memory);
}

void *
rt_malloc(size_t size)
{
    void *p = malloc(size != 0 ? size : 1);

    if (rt_unlikely(p == NULL))
        rt_out_of_memory();
    if (rt_unlikely(atomic_load_explicit(&reserve_spent, memory_order_relaxed)))
        refill_reserve();
    return p;
}

void *
rt_calloc(size_t count, size_t size)
{
    size_t bytes;

    if (__builtin_mul_overflow(count, size, &bytes))
        rt_out_of_memory();
    return memset(rt_malloc(bytes), 0, bytes);
}

/* grow -- room for one more entry in a list; NULL: no memory, the list is as it was. */
static void *
grow(void *list, uint32_t *cap, size_t size)
{
    uint32_t want = *cap != 0 ? *cap * 2 : 4;
    void    *more = realloc(list, want * size);

    if (more != NULL)
        *cap = want;
    return more;
}

/* ---- the cold part ------------------------------------------------------- */

static struct rt_cold *
cold_of(const struct bh_g *g)
{
    return __atomic_load_n(&g->cold, __ATOMIC_ACQUIRE);
}

struct rt_cold *
rt_cold_try(struct bh_g *g)
{
    struct rt_cold *c = g->cold;

    if (rt_likely(c != NULL))
        return c;
    c = calloc(1, sizeof *c);
    if (c != NULL)
        __atomic_store_n(&g->cold, c, __ATOMIC_RELEASE);
    return c;
}

struct rt_cold *
rt_cold(struct bh_g *g)
{
    struct rt_cold *c = rt_cold_try(g);

    if (rt_unlikely(c == NULL))
        rt_out_of_memory();
    return c;
}

static struct bh_g *
self(const char *what)
{
    struct bh_g *g = rt_g();

    if (rt_unlikely(g == NULL))
        rt_not_a_goroutine(what);
    return g;
}

/* ---- names and labels ---------------------------------------------------- */

static void
labels_unref(struct rt_labels *l)
{
    if (l != NULL && atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) == 1)
        free(l);
}

/* labels_swap -- install l, whose reference we give; drop the old set. */
static void
labels_swap(struct rt_cold *c, struct rt_labels *l)
{
    rt_lock(&c->lock);
    struct rt_labels *old = c->labels;
    c->labels = l;
    rt_unlock(&c->lock);
    labels_unref(old);
}

/*
 * Without memory the child goes without: losing a label must not stop a spawn,
 * and here in the runtime nothing may panic.
 */
void
rt_cold_inherit(struct bh_g *child, struct bh_g *parent)
{
    struct rt_cold *from = parent != NULL ? parent->cold : NULL;

    if (from == NULL || (from->labels == NULL && from->name[0] == 0))
        return;
    struct rt_cold *to = rt_cold_try(child);
    if (to == NULL)
        return;
    memcpy(to->name, from->name, sizeof to->name);
    if (from->labels != NULL)
        atomic_fetch_add_explicit(&from->labels->refs, 1, memory_order_relaxed);
    labels_swap(to, from->labels);
}

const char *
rt_cold_name(struct bh_g *g)
{
    struct rt_cold *c = cold_of(g);

    return c != NULL ? c->name : "";
}

void
rt_cold_set_name(struct bh_g *g, const char *name)
{
    if (name == NULL)
        name = "";
    size_t length = strnlen(name, RT_NAME_SIZE - 1); /* a bad pointer faults here */
    if (length == 0 && g->cold == NULL)
        return;
    struct rt_cold *c = rt_cold_try(g);
    if (c == NULL)
        return; /* called in the runtime too: nameless is better than dead */
    memmove(c->name, name, length);
    memset(c->name + length, 0, RT_NAME_SIZE - length);
}

void
bh_set_name(const char *name)
{
    rt_cold_set_name(self("bh_set_name"), name);
}

const char *
bh_name(void)
{
    return rt_cold_name(self("bh_name"));
}

/* A guide through a set's text: *at steps over one key and its value. */
static bool
next_label(const struct rt_labels *l, size_t *at, const char **key, const char **value)
{
    if (l == NULL || *at >= l->size)
        return false;
    *key = l->text + *at;
    *value = *key + strlen(*key) + 1;
    *at = (size_t)(*value + strlen(*value) + 1 - l->text);
    return true;
}

static void
add_label(struct rt_labels *l, const char *key, const char *value)
{
    size_t key_size = strlen(key) + 1, value_size = strlen(value) + 1;

    memcpy(l->text + l->size, key, key_size);
    memcpy(l->text + l->size + key_size, value, value_size);
    l->size += key_size + value_size;
    l->count++;
}

void
bh_set_label(const char *key, const char *value)
{
    struct rt_cold   *c = rt_cold(self("bh_set_label"));
    struct rt_labels *old = c->labels;
    size_t            key_length = strlen(key);
    size_t            value_length = value != NULL ? strlen(value) : 0;
    const char       *k, *v;

    if (key_length > RT_LABEL_LENGTH || value_length > RT_LABEL_LENGTH)
        rt_panic_string("bh_set_label: key or value longer than 128 bytes");

    struct rt_labels *l =
        rt_malloc(sizeof *l + (old != NULL ? old->size : 0) + key_length + value_length + 2);
    atomic_init(&l->refs, 1);
    l->count = 0;
    l->size = 0;
    for (size_t at = 0; next_label(old, &at, &k, &v);)
        if (strcmp(k, key) != 0)
            add_label(l, k, v);
    if (value != NULL)
        add_label(l, key, value);
    if (l->count > RT_LABEL_MAX) {
        free(l);
        rt_panic_string("bh_set_label: more than 16 labels");
    }
    if (l->count == 0) {
        free(l);
        l = NULL;
    }
    labels_swap(c, l);
}

const char *
bh_label(const char *key)
{
    struct rt_cold *c = self("bh_label")->cold;
    const char     *k, *v;

    for (size_t at = 0; c != NULL && next_label(c->labels, &at, &k, &v);)
        if (strcmp(k, key) == 0)
            return v;
    return NULL;
}

static size_t
append(char *text, size_t size, size_t at, const char *more)
{
    while (*more != 0 && at + 1 < size)
        text[at++] = *more++;
    text[at] = 0;
    return at;
}

static size_t
put_labels(const struct rt_labels *labels, char *text, size_t size)
{
    const char *k, *v;
    size_t      length = 0;

    text[0] = 0;
    for (size_t at = 0; next_label(labels, &at, &k, &v);) {
        if (length != 0)
            length = append(text, size, length, ", ");
        length = append(text, size, length, k);
        length = append(text, size, length, "=");
        length = append(text, size, length, v);
    }
    return length;
}

/* Only the goroutine itself changes them: it needs no lock, which a reader may have. */
size_t
bh_labels(char *text, size_t size)
{
    struct bh_g    *g = rt_g();
    struct rt_cold *c = g != NULL ? cold_of(g) : NULL;

    if (size == 0)
        return 0;
    text[0] = 0;
    return c != NULL && c->labels != NULL ? put_labels(c->labels, text, size) : 0;
}

size_t
rt_cold_labels(struct bh_g *g, char *text, size_t size)
{
    struct rt_cold *c = cold_of(g);
    uint32_t        free_word = 0;
    size_t          length;

    text[0] = 0;
    if (c == NULL || !atomic_compare_exchange_strong(&c->lock.word, &free_word, 1))
        return 0;
    length = put_labels(c->labels, text, size);
    rt_unlock(&c->lock);
    return length;
}

/* ---- goroutine-local storage --------------------------------------------- */

static struct rt_local *
find_local(struct rt_cold *c, const void *key)
{
    for (uint32_t i = 0; c != NULL && i < c->local_count; i++)
        if (c->locals[i].key == key)
            return &c->locals[i];
    return NULL;
}

void
bh_local_set(const void *key, void *value, void (*release)(void *value))
{
    struct rt_cold  *c = rt_cold(self("bh_local_set"));
    struct rt_local *l = find_local(c, key);
    struct rt_local  old = { NULL, NULL, NULL };

    if (l != NULL) {
        old = *l;
    } else if (value == NULL) {
        return;
    } else {
        if (c->local_count == c->local_cap) {
            void *more = grow(c->locals, &c->local_cap, sizeof *c->locals);
            if (more == NULL)
                rt_out_of_memory();
            c->locals = more;
        }
        l = &c->locals[c->local_count++];
    }
    *l = (struct rt_local){ key, value, release };
    if (value == NULL)
        *l = c->locals[--c->local_count];
    if (old.release != NULL && old.value != value)
        old.release(old.value);
}

void *
bh_local_get(const void *key)
{
    struct rt_local *l = find_local(self("bh_local_get")->cold, key);

    return l != NULL ? l->value : NULL;
}

/* ---- owned things, and the arena ----------------------------------------- */

void
bh_own(void (*release)(void *ptr), void *ptr)
{
    struct rt_cold *c = rt_cold_try(self("bh_own"));

    BH_REQUIRE(release != NULL);
    if (c != NULL && c->owned_count == c->owned_cap) {
        void *more = grow(c->owned, &c->owned_cap, sizeof *c->owned);
        if (more == NULL)
            c = NULL;
        else
            c->owned = more;
    }
    if (rt_unlikely(c == NULL)) { /* it would be lost: release it, then say so */
        release(ptr);
        rt_out_of_memory();
    }
    c->owned[c->owned_count++] = (struct rt_owned){ release, ptr };
}

void
bh_disown(void (*release)(void *ptr), void *ptr)
{
    struct rt_cold *c = self("bh_disown")->cold;

    for (uint32_t i = c != NULL ? c->owned_count : 0; i-- > 0;) {
        struct rt_owned *o = &c->owned[i];
        if (o->release == release && o->ptr == ptr) {
            c->owned_count--;
            memmove(o, o + 1, (c->owned_count - i) * sizeof *o);
            return;
        }
    }
}

static void
close_fd(void *fd)
{
    (void)close((int)(intptr_t)fd); /* nobody is left to tell */
}

int
bh_own_fd(int fd)
{
    bh_own(close_fd, (void *)(intptr_t)fd);
    return fd;
}

void
bh_disown_fd(int fd)
{
    bh_disown(close_fd, (void *)(intptr_t)fd);
}

struct bh_arena *
bh_goroutine_arena(void)
{
    struct rt_cold *c = rt_cold(self("bh_goroutine_arena"));

    if (c->arena == NULL)
        c->arena = bh_arena_new(0);
    return c->arena;
}

void *
bh_alloc(size_t size)
{
    return bh_arena_alloc(bh_goroutine_arena(), size);
}

char *
bh_print(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    char *text = bh_arena_vprint(bh_goroutine_arena(), format, args);
    va_end(args);
    return text;
}

/* ---- the end ------------------------------------------------------------- */

static bool
holds_something(const struct rt_cold *c)
{
    return c->owned_count != 0 || c->local_count != 0 || c->arena != NULL;
}

static void
release_one(struct rt_cold *c)
{
    if (c->owned_count != 0) {
        struct rt_owned o = c->owned[--c->owned_count];
        o.release(o.ptr);
    } else if (c->local_count != 0) {
        struct rt_local l = c->locals[--c->local_count];
        if (l.release != NULL)
            l.release(l.value);
    } else {
        /* Its cleanups may panic: then it is still there, and the next call goes on. */
        bh_arena_free(c->arena);
        c->arena = NULL;
    }
}

/* release_all -- deferred by itself: see the top. */
static void
release_all(struct rt_cold *c)
{
    if (!holds_something(c))
        return;
    BH_DEFER(release_all, c);
    while (holds_something(c))
        release_one(c);
}

void
rt_cold_release(struct bh_g *g)
{
    struct rt_cold *c = g->cold;

    if (c == NULL)
        return;
    release_all(c);
    if (c->owned_cap > KEEP_CAP) {
        free(c->owned);
        c->owned = NULL;
        c->owned_cap = 0;
    }
    if (c->local_cap > KEEP_CAP) {
        free(c->locals);
        c->locals = NULL;
        c->local_cap = 0;
    }
    if (c->labels != NULL)
        labels_swap(c, NULL);
    c->name[0] = 0;
    c->note[0] = 0;
}
