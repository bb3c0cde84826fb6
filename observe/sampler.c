/*
 * sampler.c -- which traces are recorded.
 *
 * A trace id's last 7 bytes are a number R below 2^56, random by the rules of W3C Trace Context,
 * level 2.  A ratio p becomes a threshold T = (1 - p) * 2^56, and a trace is recorded if
 * R >= T.  So every process with the same ratio decides alike, and a higher ratio records
 * what a lower one does and more.
 *
 * The process's sampler is one word: the threshold, 2^56 for never, and a bit beside it for
 * ignore_parent.  0 means that the environment has not been read yet.
 */

#include "sampler.h"

#include <endian.h>
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/error.h>

static const uint64_t END = UINT64_C(1) << 56, IGNORE_PARENT = UINT64_C(1) << 62,
                      READ = UINT64_C(1) << 63;

static _Atomic uint64_t process;

static bool
is_ratio(double p)
{
    return p >= 0 && p <= 1; /* nor is NaN */
}

static uint64_t
word_of(const struct bh_sampler *s)
{
    uint64_t threshold = 0;

    if (s->how == BH_SAMPLE_NEVER || (s->how == BH_SAMPLE_RATIO && !is_ratio(s->ratio)))
        threshold = END;
    else if (s->how == BH_SAMPLE_RATIO)
        threshold = (uint64_t)((1 - s->ratio) * (double)END);
    return READ | threshold | (s->ignore_parent ? IGNORE_PARENT : 0);
}

/* ---- the environment ------------------------------------------------------------- */

static const struct {
    const char       *name;
    struct bh_sampler sampler;
} named[] = {
    { "always_on", { BH_SAMPLE_ALWAYS, 0, true } },
    { "always_off", { BH_SAMPLE_NEVER, 0, true } },
    { "traceidratio", { BH_SAMPLE_RATIO, 1, true } },
    { "parentbased_always_on", { BH_SAMPLE_ALWAYS, 0, false } },
    { "parentbased_always_off", { BH_SAMPLE_NEVER, 0, false } },
    { "parentbased_traceidratio", { BH_SAMPLE_RATIO, 1, false } },
};

static int
read_ratio(double *ratio)
{
    const char *text = getenv("OTEL_TRACES_SAMPLER_ARG");
    char       *end;
    double      p;

    if (text == NULL || text[0] == '\0')
        return 0;
    p = strtod(text, &end);
    if (end == text || *end != '\0' || !is_ratio(p))
        return bh_fail(-EINVAL, "OTEL_TRACES_SAMPLER_ARG is \"%s\", no ratio", text);
    *ratio = p;
    return 0;
}

/* What the environment says; what makes no sense there counts as unset, and is an error. */
static int
read_environment(struct bh_sampler *s)
{
    const char *name = getenv("OTEL_TRACES_SAMPLER");

    *s = (struct bh_sampler){ .how = BH_SAMPLE_ALWAYS };
    if (name == NULL || name[0] == '\0')
        return 0;
    for (size_t i = 0; i < sizeof named / sizeof named[0]; i++)
        if (strcmp(name, named[i].name) == 0) {
            *s = named[i].sampler;
            return s->how == BH_SAMPLE_RATIO ? read_ratio(&s->ratio) : 0;
        }
    return bh_fail(-EINVAL, "OTEL_TRACES_SAMPLER is \"%s\", which is unknown", name);
}

int
bh_trace_set_sampler(const struct bh_sampler *sampler)
{
    struct bh_sampler s = { .how = BH_SAMPLE_DEFAULT };
    int               rc = 0;

    if (sampler != NULL)
        s = *sampler;
    if (s.how > BH_SAMPLE_RATIO)
        return bh_fail(-EINVAL, "no sampler has number %d", (int)s.how);
    if (s.how == BH_SAMPLE_RATIO && !is_ratio(s.ratio))
        return bh_fail(-EINVAL, "a ratio of %g", s.ratio);
    if (s.how == BH_SAMPLE_DEFAULT) {
        bool ignore_parent = s.ignore_parent;

        rc = read_environment(&s);
        s.ignore_parent |= ignore_parent;
    }
    atomic_store(&process, word_of(&s));
    return rc;
}

static __attribute__((noinline)) uint64_t
first_word(void)
{
    (void)bh_trace_set_sampler(NULL); /* whoever wants to know of mistakes calls it first */
    return atomic_load(&process);
}

/* ---- deciding -------------------------------------------------------------------- */

bool
ob_sample(const struct bh_sampler *sampler, const unsigned char trace_id[16], int parent)
{
    uint64_t word, random;

    if (sampler != NULL && sampler->how != BH_SAMPLE_DEFAULT)
        word = word_of(sampler);
    else if ((word = atomic_load_explicit(&process, memory_order_relaxed)) == 0)
        word = first_word();
    if (parent >= 0 && (word & IGNORE_PARENT) == 0)
        return parent != 0;
    memcpy(&random, trace_id + 8, sizeof random);
    random = be64toh(random) & (END - 1);
    return random >= (word & (END | (END - 1)));
}
