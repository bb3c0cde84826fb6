/*
 * example.c -- exemplars: for a bucket, the trace of a request that fell into it.
 *
 * A slot is shared by all threads and replaced once a second at most, so the usual price is
 * reading a coarse clock.  Writers try, and leave it if another writes; readers try, and
 * leave the slot out (series.h, struct ob_example: words are released after `seq` has become
 * odd).  In between there is nothing that could fail.  Slots are made at a series' first
 * traced request.
 */

#include "series.h"

#include <stdlib.h>
#include <time.h>

#include <bulkhead/go/tag.h>

#define KEEP_NS INT64_C(1000000000)
enum { WORDS = sizeof(struct bh_exemplar) / 8, TIME = WORDS - 1 };
_Static_assert(sizeof(struct bh_exemplar) == (TIME + 1) * 8, "the time is the last word");

struct ob_examples *
ob_examples_make(struct bh_series *s)
{
    struct ob_examples *e = atomic_load_explicit(&s->examples, memory_order_acquire), *made;
    const struct bh_metric_info *info = &s->metric->info;
    int                          step = ob_text_step(info), count;

    if (e != NULL)
        return e;
    count = info->kind != BH_HISTOGRAM ? 1 : (info->bound_count + step - 1) / step + 1;
    if (count > OB_EXAMPLES)
        count = OB_EXAMPLES;
    made = calloc(1, sizeof *made + (size_t)count * sizeof made->at[0]);
    if (made == NULL)
        return NULL;
    made->count = count;
    if (atomic_compare_exchange_strong_explicit(&s->examples, &e, made, memory_order_acq_rel,
                                                memory_order_acquire))
        return made;
    free(made);
    return e;
}

static int64_t
now_coarse(void)
{
    struct timespec t;

    (void)clock_gettime(CLOCK_REALTIME_COARSE, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

void
ob_example_keep(struct bh_series *s, int bucket, double value)
{
    const struct bh_tag *tag = bh_tag_peek();
    struct ob_examples  *all = ob_examples_make(s);
    struct bh_exemplar   x = { .value = value };
    struct ob_example   *e;
    uint64_t             word[WORDS];
    uint32_t             seq;
    int                  slot, step = ob_text_step(&s->metric->info);

    if (all == NULL || tag == NULL)
        return;
    slot =
        (bucket + step - 1) / step; /* [0] below the least bound, the last above the greatest */
    e = &all->at[slot < all->count ? slot : all->count - 1];
    x.time_ns = now_coarse();
    if (x.time_ns - (int64_t)atomic_load_explicit(&e->word[TIME], memory_order_relaxed) <
        KEEP_NS)
        return;
    seq = atomic_load_explicit(&e->seq, memory_order_relaxed);
    if (seq % 2 != 0)
        return;
    memcpy(x.trace_id, tag->trace_id, sizeof x.trace_id);
    memcpy(x.span_id, tag->span_id, sizeof x.span_id);
    memcpy(word, &x, sizeof word);
    if (!atomic_compare_exchange_strong_explicit(&e->seq, &seq, seq + 1, memory_order_acquire,
                                                 memory_order_relaxed))
        return;
    for (int i = 0; i < WORDS; i++)
        atomic_store_explicit(&e->word[i], word[i], memory_order_release);
    atomic_store_explicit(&e->seq, seq + 2, memory_order_release);
}

int
ob_examples_read(struct bh_series *s, struct bh_exemplar *to)
{
    struct ob_examples *all = atomic_load_explicit(&s->examples, memory_order_acquire);
    int                 count = all != NULL ? all->count : 0;

    for (int i = 0; i < count; i++) {
        struct ob_example *e = &all->at[i];
        uint32_t           seq = atomic_load_explicit(&e->seq, memory_order_acquire);
        uint64_t           word[WORDS];

        for (int k = 0; k < WORDS; k++)
            word[k] = atomic_load_explicit(&e->word[k], memory_order_acquire);
        if (seq % 2 != 0 || atomic_load_explicit(&e->seq, memory_order_relaxed) != seq)
            memset(word, 0, sizeof word);
        memcpy(&to[i], word, sizeof word);
    }
    return count;
}
