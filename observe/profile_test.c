/* profile_test.c -- building profiles, their text, the table of names. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
#include <zlib.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/tag.h>
#include <bulkhead/observe/profile.h>

static const struct bh_profile_type two[] = { { "objects", "count" }, { "space", "bytes" } };

#define ADD(p, stack, a, b, ...)                                                               \
    bh_profile_add((p), (stack), sizeof(stack) / sizeof *(stack), (const int64_t[]){ a, b },   \
                   (const struct bh_profile_label[]){ __VA_ARGS__ },                           \
                   sizeof((const struct bh_profile_label[]){ __VA_ARGS__ }) /                  \
                       sizeof(struct bh_profile_label))

static const uintptr_t one_stack[] = { 0x1010, 0x2020 };
static const uintptr_t other_stack[] = { 0x1010, 0x3030 };

/* ---- the builder ----------------------------------------------------------------- */

TEST_PLAIN(profile, samples_that_agree_in_stack_and_labels_are_added_up)
{
    struct bh_profile *p = bh_profile_new(two, 2);

    EXPECT_EQ(ADD(p, one_stack, 1, 10, { .key = "route", .text = "/a" }), 0);
    EXPECT_EQ(ADD(p, one_stack, 2, 20, { .key = "route", .text = "/a" }), 0);
    EXPECT_EQ(bh_profile_count(p), 1);
    EXPECT_EQ(ADD(p, one_stack, 1, 1, { .key = "route", .text = "/b" }), 0);
    EXPECT_EQ(ADD(p, one_stack, 1, 1, { .key = "path", .text = "/a" }), 0);
    EXPECT_EQ(ADD(p, one_stack, 1, 1, { .key = "route", .number = 7 }), 0);
    EXPECT_EQ(ADD(p, other_stack, 1, 1, { .key = "route", .text = "/a" }), 0);
    EXPECT_EQ(bh_profile_count(p), 5);
    EXPECT_EQ(bh_profile_total(p, 0), 7);
    EXPECT_EQ(bh_profile_total(p, 1), 34);
    EXPECT_EQ(bh_profile_total(p, 2), 0);
    bh_profile_free(p);
}

TEST_PLAIN(profile, the_order_of_labels_does_not_matter)
{
    struct bh_profile *p = bh_profile_new(two, 2);

    ADD(p, one_stack, 1, 1, { .key = "a", .text = "1" }, { .key = "b", .text = "2" });
    ADD(p, one_stack, 1, 1, { .key = "b", .text = "2" }, { .key = "a", .text = "1" });
    EXPECT_EQ(bh_profile_count(p), 1);
    bh_profile_free(p);
}

TEST_PLAIN(profile, many_samples_stay_apart)
{
    struct bh_profile *p = bh_profile_new(two, 1);
    int64_t            value = 3;

    for (int round = 0; round < 2; round++)
        for (uintptr_t i = 1; i <= 5000; i++) {
            char                    text[16];
            struct bh_profile_label l = { .key = "n", .text = text };

            (void)snprintf(text, sizeof text, "%d", (int)i / 10);
            EXPECT_EQ(bh_profile_add(p, &i, 1, &value, &l, 1), 0);
        }
    EXPECT_EQ(bh_profile_count(p), 5000);
    EXPECT_EQ(bh_profile_total(p, 0), 30000);
    bh_profile_free(p);
}

TEST_PLAIN(profile, a_deeper_stack_or_more_labels_are_cut)
{
    static uintptr_t        deep[BH_PROFILE_DEPTH + 1];
    struct bh_profile      *p = bh_profile_new(two, 1);
    struct bh_profile_label l[BH_PROFILE_LABELS + 1];
    int64_t                 value = 1;

    for (int i = 0; i <= BH_PROFILE_DEPTH; i++)
        deep[i] = (uintptr_t)i + 1;
    for (int i = 0; i <= BH_PROFILE_LABELS; i++)
        l[i] = (struct bh_profile_label){ .key = "k", .number = i };
    EXPECT_EQ(bh_profile_add(p, deep, BH_PROFILE_DEPTH + 1, &value, l, BH_PROFILE_LABELS + 1),
              0);
    deep[BH_PROFILE_DEPTH] = 77; /* what was cut does not count */
    EXPECT_EQ(bh_profile_add(p, deep, BH_PROFILE_DEPTH + 1, &value, l, BH_PROFILE_LABELS), 0);
    EXPECT_EQ(bh_profile_count(p), 1);
    EXPECT_EQ(bh_profile_add(p, NULL, -1, &value, NULL, 0), 0);
    EXPECT_EQ(bh_profile_count(p), 2);
    bh_profile_free(p);
}

TEST_PLAIN(profile, a_difference_shows_only_what_changed)
{
    struct bh_profile *before = bh_profile_new(two, 2), *after = bh_profile_new(two, 2);
    struct bh_profile *stranger = bh_profile_new(&two[1], 1);

    ADD(before, one_stack, 1, 10, { .key = "x", .text = "y" }, { .key = "z", .text = "1" });
    ADD(before, other_stack, 5, 50, { .key = "x", .text = "y" });
    ADD(after, other_stack, 8, 80, { .key = "x", .text = "y" });
    ADD(after, one_stack, 1, 10, { .key = "z", .text = "1" }, { .key = "x", .text = "y" });
    EXPECT_EQ(bh_profile_merge(after, before, -1), 0);
    EXPECT_EQ(bh_profile_count(after), 1);
    EXPECT_EQ(bh_profile_total(after, 0), 3);
    EXPECT_EQ(bh_profile_total(after, 1), 30);
    EXPECT_EQ(bh_profile_merge(after, stranger, 1), -EINVAL);
    bh_profile_free(before);
    bh_profile_free(after);
    bh_profile_free(stranger);
}

TEST_PLAIN(profile, types_are_one_to_four)
{
    EXPECT(bh_profile_new(two, 0) == NULL);
    EXPECT(bh_profile_new(two, BH_PROFILE_TYPES + 1) == NULL);
    bh_profile_free(NULL);
}

/* ---- what is written ------------------------------------------------------------- */

/* Whether the decompressed bytes have this text somewhere. */
static bool
has(const struct bh_profile_bytes *b, const char *text)
{
    static unsigned char plain[1 << 20];
    z_stream             z = { .next_in = b->data, .avail_in = (uInt)b->size };

    z.next_out = plain;
    z.avail_out = sizeof plain;
    EXPECT_EQ(inflateInit2(&z, 16 + MAX_WBITS), Z_OK);
    EXPECT_EQ(inflate(&z, Z_FINISH), Z_STREAM_END);
    (void)inflateEnd(&z);
    return memmem(plain, z.total_out, text, strlen(text)) != NULL;
}

TEST_REAL(profile, written_ones_have_names_unless_raw)
{
    struct bh_profile      *p = bh_profile_new(two, 2);
    uintptr_t               here[] = { (uintptr_t)bh_profile_new + 5 };
    struct bh_profile_bytes b;

    bh_profile_period(p, "space", "bytes", 1);
    bh_profile_comment(p, "a remark");
    ADD(p, here, 1, 10, { .key = "route", .text = "/a" });
    EXPECT_EQ(bh_profile_write(p, false, &b), 0);
    EXPECT(has(&b, "bh_profile_new") && has(&b, "route") && has(&b, "a remark"));
    EXPECT(has(&b, "observe/profile.c"));
    free(b.data);
    EXPECT_EQ(bh_profile_write(p, true, &b), 0);
    EXPECT(!has(&b, "bh_profile_new") && has(&b, "route"));
    free(b.data);
    bh_profile_free(p);
}

#define EXPECT_TEXT(b, start)                                                                  \
    (strncmp((const char *)(b).data, (start), strlen(start)) == 0                              \
         ? (void)0                                                                             \
         : test_failed(__FILE__, __LINE__, "not \"%s\" but \"%.300s\"", (start), (b).data))

TEST_REAL(profile, text_has_the_form_of_gos)
{
    static const struct bh_profile_type heap[] = {
        { "alloc_objects", "count" },
        { "alloc_space", "bytes" },
        { "inuse_objects", "count" },
        { "inuse_space", "bytes" },
    };
    static const struct bh_profile_type wait[] = { { "contentions", "count" },
                                                   { "delay", "nanoseconds" } };
    struct bh_profile                  *p = bh_profile_new(heap, 4);
    struct bh_profile_bytes             b;
    int64_t                             v[] = { 4, 400, 1, 100 };

    EXPECT_EQ(bh_profile_add(p, one_stack, 2, v, NULL, 0), 0);
    EXPECT_EQ(bh_profile_text(p, "heap", &b), 0);
    EXPECT_TEXT(b, "heap profile: 1: 100 [4: 400] @ heap/2\n"
                   "1: 100 [4: 400] @ 0x1010 0x2020\n#\t0x1010\t");
    free(b.data);
    bh_profile_free(p);

    p = bh_profile_new(wait, 2);
    ADD(p, one_stack, 3, 300, { .key = "a", .text = "\"\n" }, { .key = "n", .number = -1 });
    EXPECT_EQ(bh_profile_text(p, "block", &b), 0);
    EXPECT_TEXT(b, "--- contention:\ncycles/second=1000000000\n300 3 @ 0x1010 0x2020\n"
                   "# labels: {\"a\":\"\\\"\\x0a\", \"n\":-1}\n");
    free(b.data);
    EXPECT_EQ(bh_profile_text(p, "mutex", &b), 0);
    EXPECT_TEXT(b, "--- mutex:\ncycles/second=1000000000\nsampling period=1\n300 3 @ ");
    free(b.data);
    bh_profile_free(p);
}

/* ---- by name --------------------------------------------------------------------- */

static int64_t growing;

static int
collect(const struct bh_profile_options *o, void *arg, struct bh_profile **p)
{
    (void)o;
    if (arg != NULL)
        return *(int *)arg;
    *p = bh_profile_new(two, 1);
    growing += 10;
    return bh_profile_add(*p, one_stack, 2, &growing, NULL, 0);
}

TEST_REAL(profile, names_are_taken_once_and_the_table_is_finite)
{
    static char              names[64][8];
    struct bh_profile_source s = { .name = "mine", .collect = collect };
    struct bh_profile       *p;
    int                      rc = 0, n = 0;

    EXPECT_EQ(bh_profile_collect("mine", NULL, &p), -ENOENT);
    EXPECT_EQ(bh_profile_register(&s), 0);
    EXPECT_EQ(bh_profile_register(&s), -EEXIST);
    EXPECT_EQ(bh_profile_collect("mine", NULL, &p), 0);
    EXPECT_EQ(bh_profile_total(p, 0), 10);
    bh_profile_free(p);
    EXPECT_EQ(bh_profile_register(&(struct bh_profile_source){ .name = "x" }), -EINVAL);
    EXPECT_EQ(bh_profile_register(&(struct bh_profile_source){ .collect = collect }), -EINVAL);
    for (; rc == 0 && n < 64; n++) {
        (void)snprintf(names[n], sizeof names[n], "n%d", n);
        s.name = names[n];
        rc = bh_profile_register(&s);
    }
    EXPECT_EQ(rc, -ENOSPC);
}

static bool
in_order(const struct bh_profile_source *s, void *arg)
{
    const char **last = arg;

    EXPECT(strcmp(*last, s->name) < 0);
    *last = s->name;
    return true;
}

TEST_REAL(profile, names_are_listed_in_order)
{
    const char *last = "";

    EXPECT_EQ(
        bh_profile_register(&(struct bh_profile_source){ .name = "a", .collect = collect }), 0);
    bh_profile_each(in_order, &last);
    EXPECT_STR(last, "threadcreate");
}

TEST(profile, of_a_duration_it_is_what_changed_meanwhile)
{
    struct bh_profile_options o = { .duration = 1000000 };
    static int                fails = -EIO;
    struct bh_profile        *p;

    EXPECT_EQ(
        bh_profile_register(&(struct bh_profile_source){ .name = "grows", .collect = collect }),
        0);
    EXPECT_EQ(bh_profile_collect("grows", &o, &p), 0);
    EXPECT_EQ(bh_profile_total(p, 0), 10);
    bh_profile_free(p);
    EXPECT_EQ(bh_profile_register(&(struct bh_profile_source){
                  .name = "fails", .collect = collect, .arg = &fails }),
              0);
    EXPECT_EQ(bh_profile_collect("fails", &o, &p), -EIO);
}

/* ---- goroutines ------------------------------------------------------------------ */

struct waiting {
    struct bh_chan *c;
};

__attribute__((noinline)) static void
wait_for_it(void *args)
{
    bh_set_label("tenant", "blue");
    bh_recv(((struct waiting *)args)->c, NULL);
}

static void
start_waiting(struct bh_chan *c, int n)
{
    bh_tag_set(&(struct bh_tag){ .trace_id = { 0xab }, .route = "GET /x" });
    for (int i = 0; i < n; i++)
        bh_go(wait_for_it, &(struct waiting){ c });
    bh_tag_set(NULL);
    for (int i = 0; i < 100; i++)
        bh_yield();
}

TEST(profile, goroutines_are_all_there_and_alike_ones_together)
{
    struct bh_chan           *c = BH_CHAN(int, 0);
    struct bh_profile_options labelled = { .labelled = true };
    struct bh_profile        *p;
    struct bh_profile_bytes   b;

    start_waiting(c, 5);
    EXPECT_EQ(bh_profile_collect("goroutine", NULL, &p), 0);
    EXPECT_EQ(bh_profile_total(p, 0), bh_goroutine_count());
    EXPECT(bh_profile_count(p) <= 3);
    EXPECT_EQ(bh_profile_text(p, "goroutine", &b), 0);
    EXPECT_TEXT(b, "goroutine profile: total 6\n5 @ 0x");
    EXPECT(strstr((char *)b.data, "\"tenant\":\"blue\"") != NULL);
    EXPECT(strstr((char *)b.data, "\"state\":\"chan receive\"") != NULL);
    EXPECT(strstr((char *)b.data, "\"route\":\"GET /x\"") != NULL);
    EXPECT(strstr((char *)b.data, "\twait_for_it+0x") != NULL);
    free(b.data);
    bh_profile_free(p);

    EXPECT_EQ(bh_profile_collect("goroutine", &labelled, &p), 0);
    EXPECT_EQ(bh_profile_count(p), bh_goroutine_count());
    EXPECT_EQ(bh_profile_write(p, false, &b), 0);
    EXPECT(has(&b, "goid") && has(&b, "ab000000000000000000000000000000"));
    free(b.data);
    bh_profile_free(p);
    bh_close(c);
    bh_chan_unref(c);
    for (int i = 0; i < 100 && bh_goroutine_count() > 1; i++)
        bh_yield();
}

TEST(profile, a_dump_names_every_goroutine_and_its_creator)
{
    struct bh_chan           *c = BH_CHAN(int, 0);
    struct bh_profile_options dump = { .debug = 2 };
    struct bh_profile_bytes   b;
    char                     *text;

    start_waiting(c, 1);
    EXPECT_EQ(bh_profile_take("goroutine", &dump, &b), 0);
    text = strstr((char *)b.data, "[chan receive, labels: tenant=blue, route: GET /x]:\n");
    EXPECT(text != NULL && strstr(text, "wait_for_it(...)\n\t") != NULL);
    EXPECT(strstr(text, "created by start_waiting in goroutine 1\n\t") != NULL);
    free(b.data);
    bh_close(c);
    bh_chan_unref(c);
    for (int i = 0; i < 100 && bh_goroutine_count() > 1; i++)
        bh_yield();
}

TEST_REAL(profile, threads_are_counted)
{
    struct bh_profile *p;

    EXPECT_EQ(bh_profile_collect("threadcreate", NULL, &p), 0);
    EXPECT(bh_profile_total(p, 0) >= 1);
    bh_profile_free(p);
}
