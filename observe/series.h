#ifndef BULKHEAD_OBSERVE_SERIES_H
#define BULKHEAD_OBSERVE_SERIES_H

/*
 * series.h -- what the parts of the metrics registry share.
 *
 * A series is a run of cells (shard.c): one for a number; for a histogram one for each bucket and
 * one for the sum.  Metrics and series are made once, linked at the end of lists by
 * compare-and-swap, and never change or go away: readers and updaters need no lock, and a
 * goroutine that dies anywhere leaves nothing locked.
 */

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include <bulkhead/observe/metrics.h>

/* Which update a series takes. */
enum ob_takes { OB_ADD, OB_ADD_SIGNED, OB_SET, OB_SET_GREATER, OB_RECORD };

/* An exemplar that is being replaced while it is read: `seq` is odd meanwhile. */
struct ob_example {
    _Atomic uint32_t seq;
    _Atomic uint64_t word[sizeof(struct bh_exemplar) / 8];
};

enum { OB_EXAMPLES = BH_METRIC_BOUNDS + 1 }; /* of a series, at most */

struct ob_examples {
    int               count;
    struct ob_example at[];
};

struct bh_series {
    enum ob_takes                 takes;
    bool                          exemplars;
    uint32_t                      cell; /* the first */
    struct bh_metric             *metric;
    _Atomic uint64_t              set;      /* OB_SET: the value, the bits of a double */
    _Atomic(struct ob_examples *) examples; /* NULL until there is one */
    _Atomic(struct bh_series *)   next;     /* of the metric */
    _Atomic(struct bh_series *)   chain;    /* of the same hash */
    uint64_t                      hash;
    int64_t                       start_ns; /* Unix time */
    const char                   *values[]; /* of the labels, then their bytes */
};

struct bh_metric {
    struct bh_metric_info       info; /* first: a visitor is given its address */
    bool                        exemplars, pulled;
    unsigned                    max_series;
    _Atomic unsigned            series_count;
    _Atomic(struct bh_metric *) next;
    _Atomic(struct bh_series *) first; /* in the order made */
    _Atomic(struct bh_series *) overflow;
    uint64_t                    chain_mask; /* chains less one */
    _Atomic(struct bh_series *) chains[];
};

/* What went wrong; see struct bh_metric_stats. */
struct ob_metric_counts {
    _Atomic uint64_t overflowed, misused, lost, collect_panics;
};
extern struct ob_metric_counts ob_metric_counts;

static inline void
ob_count(_Atomic uint64_t *n)
{
    (void)atomic_fetch_add_explicit(n, 1, memory_order_relaxed);
}

static inline double
ob_double(uint64_t bits)
{
    double d;

    memcpy(&d, &bits, sizeof d);
    return d;
}

static inline uint64_t
ob_bits(double d)
{
    uint64_t bits;

    memcpy(&bits, &d, sizeof bits);
    return bits;
}

/* ---- metrics.c ------------------------------------------------------------------- */

struct bh_metric *ob_metric_first(void);
int64_t           ob_unix_ns(void);

/* ---- metric_name.c --------------------------------------------------------------------- */

enum { OB_NAME_SIZE = 2 * BH_METRIC_NAME }; /* of a name for Prometheus, its unit included */

/* ob_metric_name -- check, and translate.  to, unit: of OB_NAME_SIZE.  Returns: 0 or -EINVAL, noted. */
int ob_metric_name(const struct bh_metric_options *o, char *to, char *unit);
/* ob_label_name -- the same for a label. */
int ob_label_name(const char *name, char *to);
/* ob_metric_names_clash -- would the samples of the two be mixed up in a text? */
bool ob_metric_names_clash(const struct bh_metric_info *a, const struct bh_metric_info *b);
/* ob_utf8_copy -- at most size - 1 bytes of text, with what is not UTF-8 replaced.  Returns: length. */
size_t ob_utf8_copy(char *to, size_t size, const char *text);

/* ---- buckets.c ------------------------------------------------------------------- */

/*
 * ob_buckets -- the bounds of a histogram: into bounds of BH_METRIC_BUCKETS, and info's scale and
 * offset.  Returns: how many, or -EINVAL, noted.
 */
int ob_buckets(const struct bh_metric_options *o, struct bh_metric_info *info, double *bounds);
/* ob_bucket_of -- which one takes value, which is not NaN. */
int ob_bucket_of(const struct bh_metric_info *info, double value);
/* ob_text_step -- every so many bounds are shown in a text. */
int ob_text_step(const struct bh_metric_info *info);

/* ---- shard.c --------------------------------------------------------------------- */

/* ob_cells_new -- the first of `count` new cells.  Returns: false if there are none left. */
bool ob_cells_new(unsigned count, uint32_t *first);
/* ob_cells_sum -- the sum over all threads of whole numbers, or of doubles. */
uint64_t ob_cell_sum(uint32_t cell);
double   ob_cell_sum_double(uint32_t cell);

/* ---- example.c ------------------------------------------------------------------- */

/* ob_example_keep -- if this goroutine's request is traced, remember it for slot. */
void ob_example_keep(struct bh_series *s, int slot, double value);
/* ob_examples_make -- have their memory now.  Returns: NULL without. */
struct ob_examples *ob_examples_make(struct bh_series *s);
/* ob_examples_read -- into to, of OB_EXAMPLES.  Returns: how many. */
int ob_examples_read(struct bh_series *s, struct bh_exemplar *to);

#endif
