/*
 * buckets.c -- which bucket of a histogram takes a value.
 *
 * Exponential buckets are those of OpenTelemetry and of Prometheus's native histograms at
 * scale 3: bounds are powers of 2^(1/8), and a bucket holds (lower, upper].  The exponent of
 * a double gives the power of two; the top four bits of its fraction a sixteenth of that, in
 * which at most one bound lies; one comparison decides.  The first bucket takes all up to the
 * least bound, zero and negative ones included, the last all above the greatest.
 */

#include "series.h"

#include <errno.h>

#include <bulkhead/go/error.h>

enum { SCALE = 3, STEPS = 1 << SCALE, LEAST_EXPONENT = -64, MOST_EXPONENT = 64 };

/* 2^(i/8).  The last is above every fraction. */
static const double root[STEPS + 1] = {
    1.0,
    1.0905077326652577,
    1.189207115002721,
    1.2968395546510096,
    1.4142135623730951,
    1.5422108254079407,
    1.681792830507429,
    1.8340080864093424,
    2.0,
};

/* Of the bounds in root, how many lie below a sixteenth's lower end, or on it. */
static const unsigned char below[16] = { 0, 1, 2, 2, 3, 4, 4, 5, 5, 6, 6, 7, 7, 7, 8, 8 };

static int
exponent_of(double value)
{
    return (int)(ob_bits(value) >> 52 & 0x7ff) - 1023;
}

/* 2^e, e being in the range of normal numbers. */
static double
power_of_two(int e)
{
    return ob_double((uint64_t)(e + 1023) << 52);
}

static int
explicit_bounds(const struct bh_metric_options *o, double *bounds)
{
    if (o->bound_count < 1 || o->bound_count > BH_METRIC_BOUNDS)
        return bh_fail(-EINVAL, "metric %s: %d bounds", o->name, o->bound_count);
    for (int i = 0; i < o->bound_count; i++) {
        double last = i > 0 ? bounds[i - 1] : -__builtin_inf();

        if (!(o->bounds[i] > last) || __builtin_isinf(o->bounds[i]))
            return bh_fail(-EINVAL, "metric %s: bounds do not ascend", o->name);
        bounds[i] = o->bounds[i];
    }
    return o->bound_count;
}

int
ob_buckets(const struct bh_metric_options *o, struct bh_metric_info *info, double *bounds)
{
    double least = o->least != 0 ? o->least : 1e-6, most = o->most != 0 ? o->most : 64;
    int    low, high, count = 0;

    info->exponential = o->bounds == NULL;
    if (!info->exponential)
        return explicit_bounds(o, bounds);
    if (!(least > 0) || !(most > least) || least < power_of_two(LEAST_EXPONENT) ||
        most > power_of_two(MOST_EXPONENT))
        return bh_fail(-EINVAL, "metric %s: bad range of buckets", o->name);
    low = exponent_of(least);
    high = exponent_of(most);
    if (power_of_two(high) < most)
        high++;
    if ((high - low) * STEPS + 2 > BH_METRIC_BUCKETS)
        return bh_fail(-EINVAL, "metric %s: too wide a range of buckets", o->name);
    for (int e = low; e < high; e++) {
        for (int i = 0; i < STEPS; i++)
            bounds[count++] = power_of_two(e) * root[i];
    }
    bounds[count++] = power_of_two(high);
    info->scale = SCALE;
    info->offset = low * STEPS;
    return count;
}

int
ob_text_step(const struct bh_metric_info *info)
{
    return info->exponential ? STEPS : 1;
}

static int
search(const struct bh_metric_info *info, double value)
{
    int low = 0, high = info->bound_count;

    while (low < high) {
        int middle = (low + high) / 2;

        if (value <= info->bounds[middle])
            high = middle;
        else
            low = middle + 1;
    }
    return low;
}

int
ob_bucket_of(const struct bh_metric_info *info, double value)
{
    uint64_t bits = ob_bits(value), fraction = bits & ((UINT64_C(1) << 52) - 1);
    int      index, n;

    if (!info->exponential)
        return search(info, value);
    if (value <= info->bounds[0])
        return 0;
    if (value > info->bounds[info->bound_count - 1])
        return info->bound_count;
    n = below[fraction >> 48];
    n += ob_double(fraction | UINT64_C(1023) << 52) > root[n];
    index = ((int)(bits >> 52) - 1023) * STEPS + n - info->offset;
    return index;
}
