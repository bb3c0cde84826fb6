/* runtime_metrics_test.c -- the runtime's own numbers, and panics by kind and outcome. */

#include <bulkhead/observe/metrics.h>

#include <stdio.h>
#include <string.h>

#include <bulkhead/go/hooks.h>

#include "test.h"

struct wanted {
    const char *name, *value;
    int         seen;
    int64_t     integer;
};

static bool
look(const struct bh_metric_info *info, const struct bh_metric_point *p, void *arg)
{
    struct wanted *w = arg;

    if (strcmp(info->name, w->name) != 0 ||
        (*w->value != '\0' && strcmp(p->values[0], w->value) != 0))
        return true;
    w->seen++;
    w->integer = p->integer;
    return true;
}

static struct wanted
read_back(const char *name, const char *value)
{
    struct wanted w = { .name = name, .value = value };

    EXPECT_EQ(bh_metric_each(look, &w), 0);
    return w;
}

TEST(metrics, the_runtime_is_measured)
{
    EXPECT_EQ(bh_runtime_metrics(), 0);
    EXPECT_EQ(bh_runtime_metrics(), 0);
    EXPECT_EQ(read_back("bulkhead.goroutines", "running").integer, 1);
    EXPECT(read_back("bulkhead.processors", "").integer >= 1);
    EXPECT_EQ(read_back("bulkhead.run_queue.length", "global").seen, 1);
    EXPECT_EQ(read_back("bulkhead.run_queue.length", "0").seen, 1);
    EXPECT(read_back("bulkhead.stack.size", "").integer > 0);
}

static void
count_panic(enum bh_panic_step step, const char *by, int signal, const struct bh_kind *kind)
{
    struct bh_panic       p = { .kind = kind, .signal = signal };
    struct bh_panic_event e = { .step = step, .panic = &p, .by = by };

    bh_panic_metrics(&e);
}

static bool
sum_panics(const struct bh_metric_info *info, const struct bh_metric_point *p, void *arg)
{
    if (strcmp(info->name, "bulkhead.panics") == 0 && p->integer != 0)
        snprintf(strchr(arg, '\0'), 64, "%s %s %d;", p->values[0], p->values[1],
                 (int)p->integer);
    return true;
}

TEST(metrics, panics_are_counted_once_by_kind_and_outcome)
{
    char text[512] = "";

    EXPECT_EQ(bh_runtime_metrics(), 0);
    count_panic(BH_PANIC_RAISED, NULL, 0, &bh_kind_string);
    count_panic(BH_PANIC_DEFER, NULL, 0, &bh_kind_string);
    count_panic(BH_PANIC_RECOVERED, NULL, 0, &bh_kind_string);
    count_panic(BH_PANIC_CONTAINED, "its group", 11, &bh_kind_runtime_error);
    count_panic(BH_PANIC_RECOVERED, "its group", 11, &bh_kind_runtime_error);
    count_panic(BH_PANIC_GOEXIT, NULL, 0, &bh_kind_runtime_error);
    EXPECT_EQ(bh_metric_each(sum_panics, text), 0);
    EXPECT_STR(text, "user recovered 1;runtime goexit 1;fault contained 1;");
}
