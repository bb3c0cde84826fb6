/*
 * profile.c -- a profile being built: samples by stack and labels.
 *
 * Samples stand in an array in the order of their first appearance, a hash table of
 * their numbers beside it.  Stacks and labels lie in chunks that are freed with the
 * profile; strings are kept once, by number (names.c), so that comparing labels is
 * comparing numbers.
 *
 * Labels are sorted by key before they are compared, so their order does not matter.
 *
 * One user at a time; no lock, no goroutine.
 */

#include "sample.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { CHUNK_SIZE = 64 << 10 };

struct chunk {
    struct chunk *next;
    size_t        used;
    _Alignas(16) unsigned char data[CHUNK_SIZE];
};

/* A piece of memory as long as the profile; size is far below CHUNK_SIZE. */
static void *
take(struct bh_profile *p, size_t size)
{
    struct chunk *c = p->chunks;
    void         *at;

    size = (size + 15) & ~(size_t)15;
    if (c == NULL || CHUNK_SIZE - c->used < size) {
        c = malloc(sizeof *c);
        if (c == NULL)
            return NULL;
        c->next = p->chunks;
        c->used = 0;
        p->chunks = c;
    }
    at = c->data + c->used;
    c->used += size;
    return at;
}

/* The number of a name; 0, the empty one, without memory, which writing will report. */
static uint32_t
name(struct bh_profile *p, const char *text)
{
    int64_t n = ob_names_add(&p->names, text);

    p->incomplete = p->incomplete || n < 0;
    return n > 0 ? (uint32_t)n : 0;
}

struct bh_profile *
bh_profile_new(const struct bh_profile_type *types, int count)
{
    struct bh_profile *p;

    if (count < 1 || count > BH_PROFILE_TYPES)
        return NULL;
    p = calloc(1, sizeof *p);
    if (p == NULL || ob_names_init(&p->names) != 0) {
        free(p);
        return NULL;
    }
    p->type_count = count;
    for (int i = 0; i < count; i++) {
        p->types[i] = name(p, types[i].type);
        p->units[i] = name(p, types[i].unit);
    }
    if (p->incomplete) {
        bh_profile_free(p);
        return NULL;
    }
    return p;
}

void
bh_profile_free(struct bh_profile *p)
{
    if (p == NULL)
        return;
    while (p->chunks != NULL) {
        struct chunk *next = p->chunks->next;

        free(p->chunks);
        p->chunks = next;
    }
    free(p->samples);
    free(p->slots);
    ob_names_fini(&p->names);
    free(p);
}

void
bh_profile_period(struct bh_profile *p, const char *type, const char *unit, int64_t period)
{
    p->period_type = name(p, type);
    p->period_unit = name(p, unit);
    p->period = period;
}

void
bh_profile_time(struct bh_profile *p, int64_t began, int64_t duration)
{
    p->began = began;
    p->duration = duration;
}

void
bh_profile_default(struct bh_profile *p, const char *type)
{
    p->default_type = name(p, type);
}

void
bh_profile_comment(struct bh_profile *p, const char *text)
{
    if (p->comment_count < OB_COMMENTS)
        p->comments[p->comment_count++] = name(p, text);
}

/* ---- samples --------------------------------------------------------------------- */

static uint64_t
mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * UINT64_C(0x9e3779b97f4a7c15);
    return h ^ h >> 29;
}

static uint64_t
hash_sample(const struct ob_sample *s)
{
    uint64_t h = s->depth;

    for (int i = 0; i < s->depth; i++)
        h = mix(h, s->pcs[i]);
    for (int i = 0; i < s->label_count; i++)
        h = mix(mix(h, s->labels[i].key),
                (uint64_t)s->labels[i].text << 32 ^ (uint64_t)s->labels[i].number);
    return h;
}

static bool
same_labels(const struct ob_sample *a, const struct ob_sample *b)
{
    for (int i = 0; i < a->label_count; i++) {
        const struct ob_label *x = &a->labels[i], *y = &b->labels[i];

        if (x->key != y->key || x->text != y->text || x->number != y->number ||
            x->unit != y->unit)
            return false;
    }
    return true;
}

static bool
same_sample(const struct ob_sample *a, const struct ob_sample *b)
{
    return a->hash == b->hash && a->depth == b->depth && a->label_count == b->label_count &&
           (a->depth == 0 || memcmp(a->pcs, b->pcs, a->depth * sizeof *a->pcs) == 0) &&
           same_labels(a, b);
}

/* The slot of an equal sample, or the free one where it belongs. */
static uint32_t *
find(const struct bh_profile *p, const struct ob_sample *s)
{
    uint32_t i = (uint32_t)(s->hash >> 32) & (p->slot_count - 1);

    while (p->slots[i] != 0 && !same_sample(&p->samples[p->slots[i] - 1], s))
        i = (i + 1) & (p->slot_count - 1);
    return &p->slots[i];
}

static int
grow(struct bh_profile *p)
{
    uint32_t          room = p->room == 0 ? 64 : 2 * p->room;
    struct ob_sample *samples;
    uint32_t         *slots;

    if (p->count < p->room)
        return 0;
    slots = calloc(2 * (size_t)room, sizeof *slots);
    if (slots == NULL)
        return -ENOMEM;
    samples = realloc(p->samples, room * sizeof *samples);
    if (samples == NULL) {
        free(slots);
        return -ENOMEM;
    }
    free(p->slots);
    p->samples = samples;
    p->room = room;
    p->slots = slots;
    p->slot_count = 2 * room;
    for (uint32_t i = 0; i < p->count; i++)
        *find(p, &p->samples[i]) = i + 1;
    return 0;
}

/* Add `times` times the values to the sample equal to *s, which is copied if it is new. */
static int
add(struct bh_profile *p, struct ob_sample *s, const int64_t *values, int64_t times)
{
    uint32_t *slot;

    s->hash = hash_sample(s);
    if (grow(p) != 0)
        return -ENOMEM;
    slot = find(p, s);
    if (*slot == 0) {
        size_t stack = s->depth * sizeof *s->pcs, labels = s->label_count * sizeof *s->labels;
        uintptr_t *copy = take(p, stack + labels);

        if (copy == NULL)
            return -ENOMEM;
        if (stack != 0)
            memcpy(copy, s->pcs, stack);
        if (labels != 0)
            memcpy(copy + s->depth, s->labels, labels);
        s->pcs = copy;
        s->labels = (const struct ob_label *)(copy + s->depth);
        memset(s->values, 0, sizeof s->values);
        p->samples[p->count] = *s;
        *slot = ++p->count;
    }
    s = &p->samples[*slot - 1];
    for (int i = 0; i < p->type_count; i++)
        s->values[i] =
            (int64_t)((uint64_t)s->values[i] + (uint64_t)times * (uint64_t)values[i]);
    return 0;
}

static void
sort_labels(struct ob_label *labels, int count)
{
    for (int i = 1; i < count; i++) {
        struct ob_label l = labels[i];
        int             at = i;

        for (; at > 0 && labels[at - 1].key > l.key; at--)
            labels[at] = labels[at - 1];
        labels[at] = l;
    }
}

int
bh_profile_add(struct bh_profile *p, const uintptr_t *pcs, int depth, const int64_t *values,
               const struct bh_profile_label *labels, int label_count)
{
    static const uintptr_t nowhere;
    struct ob_label        own[BH_PROFILE_LABELS];
    struct ob_sample       s = { .pcs = pcs, .labels = own };

    s.depth = (uint16_t)(depth < 0 ? 0 : depth > BH_PROFILE_DEPTH ? BH_PROFILE_DEPTH : depth);
    for (int i = 0; i < label_count && s.label_count < BH_PROFILE_LABELS; i++) {
        int64_t key = ob_names_add(&p->names, labels[i].key);
        int64_t text = ob_names_add(&p->names, labels[i].text);
        int64_t unit = ob_names_add(&p->names, labels[i].unit);

        if (key < 0 || text < 0 || unit < 0)
            return -ENOMEM;
        if (key == 0 || (labels[i].text != NULL && text == 0))
            continue; /* pprof knows no empty label */
        own[s.label_count++] = (struct ob_label){ (uint32_t)key, (uint32_t)text, (uint32_t)unit,
                                                  text == 0 ? labels[i].number : 0 };
    }
    if (s.depth == 0) { /* pprof would leave it out */
        s.pcs = &nowhere;
        s.depth = 1;
    }
    sort_labels(own, s.label_count);
    return add(p, &s, values, 1);
}

/* The label as p numbers its strings.  Returns: false without memory. */
static bool
translate(struct bh_profile *p, const struct bh_profile *q, const struct ob_label *from,
          struct ob_label *to)
{
    int64_t key = ob_names_add(&p->names, ob_name(q, from->key));
    int64_t text = ob_names_add(&p->names, ob_name(q, from->text));
    int64_t unit = ob_names_add(&p->names, ob_name(q, from->unit));

    *to = (struct ob_label){ (uint32_t)key, (uint32_t)text, (uint32_t)unit, from->number };
    return key >= 0 && text >= 0 && unit >= 0;
}

int
bh_profile_merge(struct bh_profile *p, const struct bh_profile *q, int64_t times)
{
    if (p->type_count != q->type_count)
        return -EINVAL;
    for (int i = 0; i < p->type_count; i++)
        if (strcmp(ob_name(p, p->types[i]), ob_name(q, q->types[i])) != 0)
            return -EINVAL;
    for (uint32_t i = 0; i < q->count; i++) {
        struct ob_label  labels[BH_PROFILE_LABELS];
        struct ob_sample s = q->samples[i];

        for (int l = 0; l < s.label_count; l++)
            if (!translate(p, q, &q->samples[i].labels[l], &labels[l]))
                return -ENOMEM;
        sort_labels(labels, s.label_count);
        s.labels = labels;
        if (add(p, &s, q->samples[i].values, times) != 0)
            return -ENOMEM;
    }
    return 0;
}

int64_t
bh_profile_total(const struct bh_profile *p, int type)
{
    int64_t sum = 0;

    for (uint32_t i = 0; type >= 0 && type < p->type_count && i < p->count; i++)
        sum += p->samples[i].values[type];
    return sum;
}

int
bh_profile_count(const struct bh_profile *p)
{
    int n = 0;

    for (uint32_t i = 0; i < p->count; i++)
        n += !ob_is_zero(p, &p->samples[i]);
    return n;
}
