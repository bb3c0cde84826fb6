/* metrics_test.c -- the registry: names, series, updates from everywhere, buckets, exemplars. */

#include <bulkhead/observe/metrics.h>

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/tag.h>

#include "series.h"
#include "test.h"

/* ---- finding what was counted ---------------------------------------------------- */

struct wanted {
    const char *name, *value; /* of the only label; NULL: the overflow series, "": none */
    int         seen;
    struct bh_metric_point       p;
    uint64_t                     buckets[BH_METRIC_BUCKETS + 1];
    struct bh_exemplar           examples[OB_EXAMPLES];
    const struct bh_metric_info *info;
};

static bool
look(const struct bh_metric_info *info, const struct bh_metric_point *p, void *arg)
{
    struct wanted *w = arg;

    if (strcmp(info->name, w->name) != 0)
        return true;
    if (w->value == NULL
            ? p->values != NULL
            : *w->value != '\0' && (p->values == NULL || strcmp(p->values[0], w->value) != 0))
        return true;
    w->seen++;
    w->info = info;
    w->p = *p;
    if (p->buckets != NULL)
        memcpy(w->buckets, p->buckets, (size_t)(info->bound_count + 1) * sizeof *p->buckets);
    memcpy(w->examples, p->exemplar, (size_t)p->exemplar_count * sizeof *p->exemplar);
    return true;
}

/* Good until the next call.  (Too large for a goroutine's stack.) */
static const struct wanted *
read_back(const char *name, const char *value)
{
    static struct wanted w;

    w = (struct wanted){ .name = name, .value = value };
    EXPECT_EQ(bh_metric_each(look, &w), 0);
    return &w;
}

static struct bh_metric *
labelled(const char *name, enum bh_metric_kind kind, unsigned max)
{
    static const char *const labels[] = { "which", NULL };
    struct bh_metric        *m = NULL;

    EXPECT_EQ(bh_metric_new(&(struct bh_metric_options){ .name = name,
                                                         .help = "Help.",
                                                         .kind = kind,
                                                         .labels = labels,
                                                         .max_series = max },
                            &m),
              0);
    return m;
}

/* ---- registering ----------------------------------------------------------------- */

TEST(metrics, registering_twice_gives_the_same_series)
{
    struct bh_series *a = NULL, *b = NULL;

    EXPECT_EQ(bh_metric_counter("a.b", "Help.", &a), 0);
    EXPECT_EQ(bh_metric_counter("a.b", "Other help.", &b), 0);
    EXPECT(a != NULL && a == b);
}

TEST(metrics, a_name_taken_by_another_kind_is_an_error_value)
{
    struct bh_series *a = NULL, *b = NULL;

    EXPECT_EQ(bh_metric_counter("a.b", "Help.", &a), 0);
    EXPECT_EQ(bh_metric_gauge("a.b", "Help.", &b), -EEXIST);
    EXPECT_EQ(bh_metric_updown("a.b", "Help.", &b), -EEXIST);
    EXPECT_EQ(bh_metric_histogram("a.b", "Help.", "s", &b),
              0); /* a_b_seconds is another name */
    EXPECT_EQ(bh_metric_histogram("a.b.seconds", "Help.", "s", &a), -EEXIST);
    EXPECT(bh_error_note()[0] != '\0');
}

TEST(metrics, names_that_prometheus_cannot_tell_apart_clash)
{
    struct bh_series *s = NULL;

    EXPECT_EQ(bh_metric_counter("a.b", "Help.", &s), 0);
    EXPECT_EQ(bh_metric_counter("a_b", "Help.", &s), -EEXIST);
    EXPECT_EQ(bh_metric_gauge("a.b.total", "Help.", &s), -EEXIST);
    EXPECT_EQ(bh_metric_gauge("a.b.created", "Help.", &s), -EEXIST);
    EXPECT_EQ(bh_metric_gauge("a.b.sum", "Help.", &s), 0);
    EXPECT_EQ(bh_metric_histogram("a.b", "Help.", "", &s), -EEXIST);
    EXPECT_EQ(bh_metric_histogram("h", "Help.", NULL, &s), 0);
    EXPECT_EQ(bh_metric_gauge("h.count", "Help.", &s), -EEXIST);
    EXPECT_EQ(bh_metric_counter("h_bucket", "Help.", &s), -EEXIST);
}

TEST(metrics, what_differs_in_labels_or_buckets_is_not_the_same)
{
    static const char *const one[] = { "a", NULL }, *const two[] = { "a", "b", NULL };
    static const double      bounds[] = { 1, 2 }, others[] = { 1, 3 };
    struct bh_metric        *m = NULL;
    struct bh_metric_options o = { .name = "h", .help = "Help.", .kind = BH_HISTOGRAM };

    o.labels = one;
    EXPECT_EQ(bh_metric_new(&o, &m), 0);
    o.labels = two;
    EXPECT_EQ(bh_metric_new(&o, &m), -EEXIST);
    o.labels = one;
    o.bounds = bounds;
    o.bound_count = 2;
    EXPECT_EQ(bh_metric_new(&o, &m), -EEXIST);
    o.name = "other";
    EXPECT_EQ(bh_metric_new(&o, &m), 0);
    EXPECT_EQ(bh_metric_new(&o, &m), 0);
    o.bounds = others;
    EXPECT_EQ(bh_metric_new(&o, &m), -EEXIST);
}

TEST(metrics, bad_names_help_units_and_labels_are_refused)
{
    static const char *const bad_names[] = { NULL,  "",   "1a",       "_a",
                                             "a b", "a{", "\xc3\xa4", "a\n" };
    static const char *const bad_labels[] = {
        "", "1", "__a", "le", "quantile", "a b", "otel_metric_overflow"
    };
    struct bh_metric *m = NULL;
    char              name[BH_METRIC_NAME + 2];

    for (size_t i = 0; i < sizeof bad_names / sizeof *bad_names; i++)
        EXPECT_EQ(
            bh_metric_new(&(struct bh_metric_options){ .name = bad_names[i], .help = "H" }, &m),
            -EINVAL);
    for (size_t i = 0; i < sizeof bad_labels / sizeof *bad_labels; i++) {
        const char *const labels[] = { bad_labels[i], NULL };

        EXPECT_EQ(
            bh_metric_new(
                &(struct bh_metric_options){ .name = "a", .help = "H", .labels = labels }, &m),
            -EINVAL);
    }
    memset(name, 'a', sizeof name);
    name[BH_METRIC_NAME + 1] = '\0';
    EXPECT_EQ(bh_metric_new(&(struct bh_metric_options){ .name = name, .help = "H" }, &m),
              -EINVAL);
    name[BH_METRIC_NAME] = '\0';
    EXPECT_EQ(bh_metric_new(&(struct bh_metric_options){ .name = name, .help = "H" }, &m), 0);
    EXPECT_EQ(bh_metric_new(NULL, &m), -EINVAL);
    EXPECT_EQ(bh_metric_new(&(struct bh_metric_options){ .name = "b" }, &m), -EINVAL);
    EXPECT_EQ(bh_metric_new(&(struct bh_metric_options){ .name = "b", .help = "" }, &m),
              -EINVAL);
    EXPECT_EQ(bh_metric_new(
                  &(struct bh_metric_options){ .name = "b", .help = "H", .unit = "\n" }, &m),
              -EINVAL);
    EXPECT_EQ(bh_metric_new(&(struct bh_metric_options){ .name = "b",
                                                         .help = "H",
                                                         .kind = (enum bh_metric_kind)9 },
                            &m),
              -EINVAL);
    EXPECT_EQ(bh_metric_new(
                  &(struct bh_metric_options){
                      .name = "b",
                      .help = "H",
                      .labels = (const char *const[]){ "a.b", "a_b", NULL } },
                  &m),
              -EINVAL);
    EXPECT_EQ(bh_metric_new(
                  &(struct bh_metric_options){
                      .name = "b",
                      .help = "H",
                      .labels = (const char *const[]){ "a", "b", "c", "d", "e", "f", "g", "h",
                                                       "i", "j", "k", "l", "m", NULL } },
                  &m),
              -ENOSPC);
}

TEST(metrics, names_are_translated_for_prometheus)
{
    static const struct {
        const char         *name, *unit;
        enum bh_metric_kind kind;
        const char         *to;
    } table[] = {
        { "http.server.request.duration", "s", BH_HISTOGRAM,
          "http_server_request_duration_seconds" },
        { "jobs", "{job}", BH_COUNTER, "jobs" },
        { "done.total", "1", BH_COUNTER, "done" },
        { "load", "1", BH_GAUGE, "load_ratio" },
        { "room.bytes", "By", BH_UPDOWN, "room_bytes" },
        { "a..b--c", "", BH_GAUGE, "a_b_c" },
        { "speed", "By/s", BH_GAUGE, "speed_By_s" },
        { "cpu", "%", BH_GAUGE, "cpu_percent" },
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct bh_metric *m = NULL;

        EXPECT_EQ(bh_metric_new(&(struct bh_metric_options){ .name = table[i].name,
                                                             .help = "Help.",
                                                             .unit = table[i].unit,
                                                             .kind = table[i].kind },
                                &m),
                  0);
        EXPECT_STR(m->info.prometheus, table[i].to);
    }
}

TEST(metrics, there_is_an_end_to_metrics)
{
    struct bh_metric *m = NULL;
    int               rc = 0;

    for (int i = 0; i < 2001 && rc == 0; i++) {
        char name[16];

        snprintf(name, sizeof name, "m%d.x", i);
        rc = bh_metric_new(&(struct bh_metric_options){ .name = name, .help = "Help." }, &m);
        EXPECT(i < 2000 ? rc == 0 : rc == -ENOSPC);
    }
}

/* ---- updating -------------------------------------------------------------------- */

TEST(metrics, misuse_is_counted_and_does_nothing)
{
    struct bh_series      *counter = NULL, *gauge = NULL, *histogram = NULL;
    struct bh_metric      *m = labelled("l", BH_COUNTER, 0);
    struct bh_metric_stats stats;

    EXPECT_EQ(bh_metric_counter("c", "Help.", &counter), 0);
    EXPECT_EQ(bh_metric_gauge("g", "Help.", &gauge), 0);
    EXPECT_EQ(bh_metric_histogram("h", "Help.", "s", &histogram), 0);
    bh_metric_add(NULL, 1);
    bh_metric_set(NULL, 1);
    bh_metric_record(NULL, 1);
    bh_metric_stats(&stats);
    EXPECT_EQ(stats.misused, 0);
    bh_metric_add(counter, -1);
    bh_metric_set(counter, 1);
    bh_metric_record(counter, 1);
    bh_metric_add(gauge, 1);
    bh_metric_record(histogram, NAN);
    bh_metric_add(histogram, 1);
    EXPECT(bh_metric_with(m, "a", "b") == NULL);
    EXPECT(bh_metric_with(m, NULL) == NULL);
    EXPECT(bh_metric_with(NULL, "a") == NULL);
    bh_metric_stats(&stats);
    EXPECT_EQ(stats.misused, 9);
    EXPECT_EQ(read_back("c", "")->p.integer, 0);
    EXPECT_EQ(read_back("h", "")->p.count, 0);
}

TEST(metrics, gauges_show_what_was_set_last)
{
    struct bh_series *g = NULL;

    EXPECT_EQ(bh_metric_gauge("g", "Help.", &g), 0);
    bh_metric_set(g, 2.5);
    bh_metric_set(g, -1.25);
    EXPECT(read_back("g", "")->p.value == -1.25);
}

TEST(metrics, a_pulled_counter_never_goes_back)
{
    struct bh_metric *m = NULL;
    struct bh_series *s;

    EXPECT_EQ(bh_metric_new(
                  &(struct bh_metric_options){
                      .name = "c", .help = "Help.", .kind = BH_COUNTER, .pulled = true },
                  &m),
              0);
    s = bh_metric_series(m, NULL, 0);
    bh_metric_set(s, 7);
    bh_metric_set(s, 6);
    bh_metric_set(s, NAN);
    EXPECT_EQ(read_back("c", "")->p.integer, 7);
    EXPECT(read_back("c", "")->p.whole);
}

TEST(metrics, series_beyond_the_limit_are_one)
{
    struct bh_metric      *m = labelled("c", BH_COUNTER, 2);
    struct bh_series      *a = bh_metric_with(m, "a"), *b = bh_metric_with(m, "b");
    struct bh_series      *c = bh_metric_with(m, "c"), *d = bh_metric_with(m, "d");
    struct bh_metric_stats stats;

    EXPECT(a != NULL && b != NULL && a != b && c == d && c != a && c != b);
    EXPECT(bh_metric_with(m, "a") == a);
    bh_metric_add(a, 1);
    bh_metric_add(c, 2);
    bh_metric_add(d, 3);
    EXPECT_EQ(read_back("c", "a")->p.integer, 1);
    EXPECT_EQ(read_back("c", NULL)->p.integer, 5);
    EXPECT_EQ(read_back("c", "c")->seen, 0);
    EXPECT_EQ(read_back("c", "")->seen, 3);
    bh_metric_stats(&stats);
    EXPECT_EQ(stats.overflowed, 2);
}

TEST(metrics, values_are_made_utf8_and_cut_at_a_character)
{
    struct bh_metric *m = labelled("c", BH_COUNTER, 0);
    struct bh_series *s = bh_metric_with(m, "a\xff"
                                            "b");
    char              lengthy[BH_METRIC_VALUE + 10];

    EXPECT(s != NULL && bh_metric_with(m, "a\xff"
                                          "b") == s);
    EXPECT_STR(s->values[0], "a\xef\xbf\xbd"
                             "b");
    EXPECT(bh_metric_with(m, "a\xef\xbf\xbd"
                             "b") == s);
    memset(lengthy, 'x', sizeof lengthy);
    memcpy(lengthy + BH_METRIC_VALUE - 2, "\xc3\xa4", 2); /* would end one byte too far */
    lengthy[sizeof lengthy - 1] = '\0';
    s = bh_metric_with(m, lengthy);
    EXPECT_EQ(strlen(s->values[0]), BH_METRIC_VALUE - 2);
    EXPECT(bh_metric_with(m, lengthy) == s);
}

/* A small model of UTF-8, by code points instead of bytes. */
static bool
is_utf8(const unsigned char *t)
{
    while (*t != 0) {
        int      more = *t < 0x80       ? 0
                        : *t >> 5 == 6  ? 1
                        : *t >> 4 == 14 ? 2
                        : *t >> 3 == 30 ? 3
                                        : -1;
        uint32_t point = more <= 0 ? *t : *t & (0x3fU >> more);

        if (more < 0)
            return false;
        for (int i = 1; i <= more; i++) {
            if (t[i] >> 6 != 2)
                return false;
            point = point << 6 | (t[i] & 0x3f);
        }
        if (point > 0x10ffff || (point >= 0xd800 && point < 0xe000) ||
            (more > 0 && point < (uint32_t[]){ 0, 0x80, 0x800, 0x10000 }[more]))
            return false;
        t += more + 1;
    }
    return true;
}

TEST_PLAIN(metrics, any_bytes_become_utf8_that_stays_as_it_is)
{
    uint64_t seed = 1;

    for (int i = 0; i < 100000; i++) {
        unsigned char text[24];
        char          once[64], twice[64];

        for (size_t k = 0; k < sizeof text; k++) {
            seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
            /* Bytes near the borders of UTF-8 are likely. */
            text[k] = (unsigned char)(seed >> 63 ? "\x7f\x80\xbf\xc1\xc2\xdf\xe0\xed\xef\xf0"
                                                   "\xf4\xf5\x9f\xa0\x8f\x90"[seed >> 56 & 15]
                                                 : (int)(seed >> 48 & 0xff));
        }
        text[seed >> 40 & 15] = 0;
        (void)ob_utf8_copy(once, 1 + (seed >> 32 & 31), (const char *)text);
        EXPECT(is_utf8((const unsigned char *)once));
        (void)ob_utf8_copy(twice, sizeof twice, once);
        EXPECT_STR(once, twice);
        (void)ob_utf8_copy(once, sizeof once, (const char *)text);
        EXPECT_EQ(is_utf8(text), strcmp(once, (const char *)text) == 0);
    }
}

/* ---- buckets --------------------------------------------------------------------- */

TEST_PLAIN(metrics, every_value_is_in_the_bucket_whose_bounds_enclose_it)
{
    static double            bounds[2][BH_METRIC_BUCKETS];
    struct bh_metric_info    info[2] = { { .kind = BH_HISTOGRAM }, { .kind = BH_HISTOGRAM } };
    struct bh_metric_options o = { .name = "h", .help = "Help." };
    static const double      own[] = { -1, 0, 0.5, 10, 1e9 };
    uint64_t                 seed = 7;

    info[0].bound_count = ob_buckets(&o, &info[0], bounds[0]);
    o.bounds = own;
    o.bound_count = 5;
    info[1].bound_count = ob_buckets(&o, &info[1], bounds[1]);
    EXPECT_EQ(info[0].bound_count, 26 * 8 + 1);
    for (int i = 0; i < 400000; i++) {
        double v;

        seed = seed * UINT64_C(6364136223846793005) + 1442695040888963407U;
        v = ldexp((double)(seed >> 11), -53) * pow(2, (double)(seed % 60) - 30);
        if (i % 4 == 0) /* on a bound, or as near as possible */
            v = bounds[0][seed % (unsigned)info[0].bound_count];
        if (i % 8 == 0)
            v = nextafter(v, i % 16 == 0 ? INFINITY : 0);
        if (i % 100 == 3)
            v = (const double[]){ 0, -0.0, -1, INFINITY, -INFINITY, 5e-324, 1e300 }[seed % 7];
        for (int k = 0; k < 2; k++) {
            int b;

            info[k].bounds = bounds[k];
            b = ob_bucket_of(&info[k], v);
            EXPECT(b >= 0 && b <= info[k].bound_count);
            EXPECT(b == info[k].bound_count || v <= bounds[k][b]);
            EXPECT(b == 0 || v > bounds[k][b - 1]);
        }
    }
}

TEST_PLAIN(metrics, exponential_bounds_are_the_powers_they_should_be)
{
    static double            bounds[BH_METRIC_BUCKETS];
    struct bh_metric_info    info = { .kind = BH_HISTOGRAM };
    struct bh_metric_options o = { .name = "h", .help = "Help.", .least = 3, .most = 65 };
    int                      n = ob_buckets(&o, &info, bounds);

    EXPECT_EQ(n, 6 * 8 + 1); /* 2 to 128 */
    for (int i = 0; i < n; i++) {
        double power = exp2((info.offset + i) / 8.0);

        EXPECT(fabs(bounds[i] - power) <= power * 1e-15);
    }
}

TEST_PLAIN(metrics, impossible_buckets_are_refused)
{
    static double       bounds[BH_METRIC_BUCKETS];
    static const double falling[] = { 2, 1 }, same[] = { 1, 1 }, endless[] = { 1, INFINITY },
                        nan[] = { NAN };
    static const struct {
        const double *bounds;
        int           count;
        double        least, most;
    } table[] = {
        { falling, 2, 0, 0 }, { same, 2, 0, 0 },        { endless, 2, 0, 0 },
        { nan, 1, 0, 0 },     { same, 0, 0, 0 },        { same, 65, 0, 0 },
        { NULL, 0, 1, 1 },    { NULL, 0, -1, 1 },       { NULL, 0, 1e-15, 1e15 },
        { NULL, 0, NAN, 1 },  { NULL, 0, 1, INFINITY }, { NULL, 0, 1e-300, 1 },
    };

    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct bh_metric_info    info = { .kind = BH_HISTOGRAM };
        struct bh_metric_options o = { .name = "h",
                                       .help = "Help.",
                                       .bounds = table[i].bounds,
                                       .bound_count = table[i].count,
                                       .least = table[i].least,
                                       .most = table[i].most };

        EXPECT_EQ(ob_buckets(&o, &info, bounds), -EINVAL);
    }
}

TEST(metrics, a_histogram_adds_up)
{
    struct bh_series    *h = NULL;
    const struct wanted *w;

    EXPECT_EQ(bh_metric_histogram("h", "Help.", "s", &h), 0);
    for (int i = 1; i <= 1000; i++)
        bh_metric_record(h, i * 0.001);
    w = read_back("h", "");
    EXPECT_EQ(w->p.count, 1000);
    EXPECT(fabs(w->p.sum - 500.5) < 1e-9);
    EXPECT_EQ(w->buckets[ob_bucket_of(w->info, 1.0)], 83); /* 0.917 < v <= 1 */
}

/* ---- threads --------------------------------------------------------------------- */

enum { ROUNDS = 20000 };

struct hammer {
    struct bh_series *counter, *updown, *histogram;
    struct bh_metric *m;
    int               number;
};

static void *
hammer(void *arg)
{
    const struct hammer *h = arg;
    char                 value[16];

    for (int i = 0; i < ROUNDS; i++) {
        bh_metric_add(h->counter, 1);
        bh_metric_add(h->updown, i % 2 == 0 ? 3 : -2);
        bh_metric_record(h->histogram, (double)(i % 100));
        if (i % 100 == 0) {
            snprintf(value, sizeof value, "%d", (i / 100 + h->number) % 20);
            bh_metric_add(bh_metric_with(h->m, value), 1);
        }
    }
    return NULL;
}

static void
expect_hammered(int threads)
{
    const struct wanted *w = read_back("c", "");
    uint64_t             sum = 0;

    EXPECT_EQ(w->p.integer, (int64_t)threads * ROUNDS);
    EXPECT_EQ(read_back("u", "")->p.integer, (int64_t)threads * ROUNDS / 2);
    w = read_back("h", "");
    EXPECT_EQ(w->p.count, (int64_t)threads * ROUNDS);
    EXPECT(w->p.sum == (double)threads * ROUNDS / 100 * 4950);
    for (int i = 0; i < 20; i++) {
        char value[16];

        snprintf(value, sizeof value, "%d", i);
        w = read_back("l", value);
        EXPECT_EQ(w->seen, 1);
        sum += (uint64_t)w->p.integer;
    }
    EXPECT_EQ(sum, (uint64_t)threads * ROUNDS / 100);
}

static void
make_hammer(struct hammer *h)
{
    EXPECT_EQ(bh_metric_counter("c", "Help.", &h->counter), 0);
    EXPECT_EQ(bh_metric_updown("u", "Help.", &h->updown), 0);
    EXPECT_EQ(bh_metric_histogram("h", "Help.", "s", &h->histogram), 0);
    h->m = labelled("l", BH_COUNTER, 0);
}

static bool
ignore(const struct bh_metric_info *info, const struct bh_metric_point *p, void *arg)
{
    (void)arg;
    return info != NULL && p != NULL;
}

TEST_REAL(metrics, no_update_of_any_thread_is_lost)
{
    struct hammer h[8];
    pthread_t     threads[8];

    for (int i = 0; i < 8; i++) {
        make_hammer(&h[i]);
        h[i].number = i;
        EXPECT_EQ(pthread_create(&threads[i], NULL, hammer, &h[i]), 0);
    }
    for (int i = 0; i < 50; i++)
        EXPECT_EQ(bh_metric_each(ignore, NULL), 0);
    for (int i = 0; i < 8; i++)
        EXPECT_EQ(pthread_join(threads[i], NULL), 0);
    expect_hammered(8);
}

TEST_REAL(metrics, what_a_thread_counted_outlives_it_and_its_cells_are_used_again)
{
    struct hammer h = { .number = 0 };

    make_hammer(&h);
    for (int i = 0; i < 30; i++) {
        pthread_t thread;

        EXPECT_EQ(pthread_create(&thread, NULL, hammer, &h), 0);
        EXPECT_EQ(pthread_join(thread, NULL), 0);
        if (i < 29)
            continue;
        expect_hammered(30);
    }
}

struct hammer_go {
    struct hammer       *h;
    struct bh_waitgroup *all;
};

static void
hammer_go(void *args)
{
    struct hammer_go *a = args;

    hammer(a->h);
    bh_waitgroup_done(a->all);
}

TEST_REAL(metrics, no_update_of_any_goroutine_is_lost)
{
    struct hammer       h[16];
    struct bh_waitgroup all = { .q = { 0 } };

    for (int i = 0; i < 16; i++) {
        make_hammer(&h[i]);
        h[i].number = i;
        bh_waitgroup_add(&all, 1);
        bh_go(hammer_go, &(struct hammer_go){ &h[i], &all });
    }
    bh_waitgroup_wait(&all);
    expect_hammered(16);
}

static void *
register_many(void *arg)
{
    struct bh_series **series = arg;

    for (int i = 0; i < 200; i++) {
        char name[16];

        snprintf(name, sizeof name, "m%d.x", i);
        EXPECT_EQ(bh_metric_counter(name, "Help.", &series[i]), 0);
        bh_metric_add(series[i], 1);
    }
    return NULL;
}

TEST_REAL(metrics, threads_that_register_the_same_meet)
{
    static struct bh_series *series[4][200];
    pthread_t                threads[4];

    for (int i = 0; i < 4; i++)
        EXPECT_EQ(pthread_create(&threads[i], NULL, register_many, series[i]), 0);
    for (int i = 0; i < 4; i++)
        EXPECT_EQ(pthread_join(threads[i], NULL), 0);
    for (int i = 0; i < 200; i++) {
        EXPECT(series[0][i] == series[1][i] && series[1][i] == series[2][i] &&
               series[2][i] == series[3][i]);
    }
    EXPECT_EQ(read_back("m7.x", "")->p.integer, 4);
    EXPECT_EQ(read_back("m7.x", "")->seen, 1);
}

/* ---- collectors and exemplars ---------------------------------------------------- */

static void
set_or_panic(void *arg)
{
    if (arg == NULL)
        bh_panic("a collector's bug");
    bh_metric_set(arg, 5);
}

TEST(metrics, a_collector_that_panics_costs_only_its_own_values)
{
    struct bh_series      *g = NULL;
    struct bh_metric_stats stats;

    EXPECT_EQ(bh_metric_gauge("g", "Help.", &g), 0);
    EXPECT_EQ(bh_metric_collect(NULL, NULL), -EINVAL);
    EXPECT_EQ(bh_metric_collect(set_or_panic, NULL), 0);
    EXPECT_EQ(bh_metric_collect(set_or_panic, g), 0);
    EXPECT(read_back("g", "")->p.value == 5);
    bh_metric_stats(&stats);
    EXPECT_EQ(stats.collect_panics, 1);
    for (int i = 2; i < 32; i++)
        EXPECT_EQ(bh_metric_collect(set_or_panic, g), 0);
    EXPECT_EQ(bh_metric_collect(set_or_panic, g), -ENOSPC);
}

static void *
read_on_thread(void *arg)
{
    (void)arg;
    EXPECT_EQ(bh_metric_each(ignore, NULL), 0);
    return NULL;
}

TEST_REAL(metrics, a_collector_may_panic_though_a_plain_thread_reads)
{
    struct bh_series      *g = NULL;
    struct bh_metric_stats stats;
    pthread_t              thread;

    EXPECT_EQ(bh_metric_gauge("g", "Help.", &g), 0);
    EXPECT_EQ(bh_metric_collect(set_or_panic, NULL), 0);
    EXPECT_EQ(bh_metric_collect(set_or_panic, g), 0);
    EXPECT_EQ(pthread_create(&thread, NULL, read_on_thread, NULL), 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    bh_metric_stats(&stats);
    EXPECT_EQ(stats.collect_panics, 1);
    EXPECT(g->set == ob_bits(5));
}

static void
exit_goroutine(void *arg)
{
    (void)arg;
    bh_goexit();
}

TEST_REAL(metrics, a_collector_that_ends_its_goroutine_does_not_hold_up_a_thread)
{
    pthread_t thread;
    int64_t   start = bh_now();

    EXPECT_EQ(bh_metric_collect(exit_goroutine, NULL), 0);
    for (int i = 0; i < 3; i++) {
        EXPECT_EQ(pthread_create(&thread, NULL, read_on_thread, NULL), 0);
        EXPECT_EQ(pthread_join(thread, NULL), 0);
    }
    EXPECT(bh_now() - start < INT64_C(900000000));
}

TEST(metrics, examples_are_those_of_traced_requests)
{
    struct bh_series    *h = NULL;
    struct bh_tag        tag = { .trace_id = { 1, 2, 3 }, .span_id = { 4, 5 }, .sampled = 0 };
    const struct wanted *w;
    int                  kept = 0;

    EXPECT_EQ(bh_metric_histogram("h", "Help.", "s", &h), 0);
    bh_metric_record(h, 0.25);
    bh_tag_set(&tag);
    bh_metric_record(h, 0.25);
    EXPECT_EQ(read_back("h", "")->p.exemplar_count, 0);
    tag.sampled = 1;
    bh_tag_set(&tag);
    bh_metric_record(h, 0.25);
    bh_metric_record(h, 0.24); /* within the second: the first stays */
    bh_metric_record(h, 1000);
    bh_metric_record(h, 0);
    w = read_back("h", "");
    for (int i = 0; i < w->p.exemplar_count; i++) {
        if (w->examples[i].time_ns == 0)
            continue;
        kept++;
        EXPECT(w->examples[i].value == 0.25 || w->examples[i].value == 1000 ||
               w->examples[i].value == 0);
        EXPECT_EQ(memcmp(w->examples[i].trace_id, tag.trace_id, 16), 0);
        EXPECT_EQ(memcmp(w->examples[i].span_id, tag.span_id, 8), 0);
    }
    EXPECT_EQ(kept, 3);
}

static void *
record_many(void *arg)
{
    struct bh_series *s = arg;

    /* As ob_example_keep, but for threads without goroutines: what is torn would show. */
    for (int i = 0; i < 20000; i++)
        bh_metric_record(s, (double)(i % 50));
    return NULL;
}

TEST_REAL(metrics, readers_and_writers_of_one_series_do_not_disturb_each_other)
{
    struct bh_series *h = NULL;
    pthread_t         thread;

    EXPECT_EQ(bh_metric_histogram("h", "Help.", "s", &h), 0);
    bh_tag_set(&(struct bh_tag){ .trace_id = { 9 }, .sampled = 1 });
    EXPECT_EQ(pthread_create(&thread, NULL, record_many, h), 0);
    for (int i = 0; i < 200; i++) {
        const struct wanted *w;

        bh_metric_record(h, 3);
        w = read_back("h", "");
        EXPECT(w->p.count > (uint64_t)i);
    }
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    EXPECT_EQ(read_back("h", "")->p.count, 20200);
}
