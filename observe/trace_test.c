/* trace_test.c -- spans: parents, sampling, panics, records. */

#include "trace.h"

#include "trace_fixture.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/timer.h>

#include "hop.h"

static bool
same_trace(const struct bh_span_record *a, const struct bh_span_record *b)
{
    return memcmp(a->trace_id, b->trace_id, 16) == 0;
}

static bool
is_child(const struct bh_span_record *a, const struct bh_span_record *of)
{
    return same_trace(a, of) && memcmp(a->parent_id, of->span_id, 8) == 0 &&
           memcmp(a->span_id, of->span_id, 8) != 0;
}

/* ---- parents --------------------------------------------------------------------- */

TEST(trace, root_is_recorded_with_ids_times_and_name)
{
    static const unsigned char   zero[16];
    struct bh_span               span;
    struct timespec              now;
    const struct bh_span_record *r = &got[0];

    (void)clock_gettime(CLOCK_REALTIME, &now);
    bh_span_start(&span, "first", NULL);
    bh_span_name(&span, "work");
    bh_sleep(5 * BH_MILLISECOND);
    bh_span_end(&span);
    EXPECT_EQ(exported, 1);
    EXPECT(memcmp(r->trace_id, zero, 16) != 0 && memcmp(r->span_id, zero, 8) != 0);
    EXPECT(memcmp(r->parent_id, zero, 8) == 0);
    EXPECT_EQ(r->flags, BH_TRACE_SAMPLED | BH_TRACE_RANDOM | BH_TRACE_REMOTE_KNOWN);
    EXPECT_EQ(r->kind, BH_SPAN_INTERNAL);
    EXPECT(r->status == BH_SPAN_UNSET && r->urgent == 0);
    EXPECT_STR(text(r, BH_ITEM_NAME, ""), "work");
    EXPECT(r->end_ns - r->start_ns >= 5 * BH_MILLISECOND);
    EXPECT(llabs(r->start_ns / BH_SECOND - now.tv_sec) <= 2);
}

TEST(trace, nested_spans_are_children_and_the_tag_follows)
{
    struct bh_span outer, inner, next;

    EXPECT(bh_tag_peek() == NULL);
    bh_span_start(&outer, "outer", &(struct bh_span_options){ .route = "/a", .method = "GET" });
    bh_span_start(&inner, "inner", NULL);
    EXPECT(memcmp(bh_tag_peek()->span_id, inner.record.span_id, 8) == 0);
    EXPECT_STR(bh_tag_peek()->route, "/a");
    EXPECT_STR(bh_tag_peek()->method, "GET");
    EXPECT_EQ(bh_tag_peek()->sampled, 1);
    bh_span_end(&inner);
    EXPECT(memcmp(bh_tag_peek()->span_id, outer.record.span_id, 8) == 0);
    bh_span_end(&outer);
    EXPECT(bh_tag_peek() == NULL);
    bh_span_start(&next, "next", NULL);
    bh_span_end(&next);
    EXPECT_EQ(exported, 3);
    EXPECT(is_child(&got[0], &got[1]) && !same_trace(&got[2], &got[1]));
    EXPECT((got[0].flags & BH_TRACE_RANDOM) != 0);
}

TEST(trace, root_and_named_parent_win_over_the_tag)
{
    struct bh_span outer, root, child;

    bh_span_start(&outer, "outer", NULL);
    bh_span_start(&root, "root", &(struct bh_span_options){ .root = true });
    bh_span_start(&child, "child", &(struct bh_span_options){ .parent = &outer });
    EXPECT(!same_trace(&root.record, &outer.record));
    EXPECT(is_child(&child.record, &outer.record));
    bh_span_end(&child);
    bh_span_end(&root);
    bh_span_end(&outer);
}

static void
work_elsewhere(void *args)
{
    struct bh_span span;

    bh_span_start(&span, "elsewhere", NULL);
    bh_span_end(&span);
    bh_send(*(struct bh_chan **)args, NULL);
}

TEST(trace, goroutine_started_within_works_for_it)
{
    struct bh_chan *done = bh_chan_new(0, 0);
    struct bh_span  span;

    BH_DEFER(bh_chan_unref, done);
    bh_span_start(&span, "outer", NULL);
    bh_go(work_elsewhere, &done);
    (void)bh_recv(done, NULL);
    bh_span_end(&span);
    EXPECT(exported == 2 && is_child(&got[0], &got[1]));
}

TEST(trace, remote_parent_is_told_from_a_local_one)
{
    struct bh_span          span, child;
    struct bh_trace_context c;

    bh_span_start(
        &span, "served",
        &(struct bh_span_options){
            .remote = &sender, .kind = BH_SPAN_SERVER, .state = "a=1,b=2", .baggage = "k=v" });
    bh_span_start(&child, "child", &(struct bh_span_options){ .parent = &span });
    EXPECT_STR(child.state, "a=1,b=2");
    EXPECT_STR(child.baggage, "k=v");
    EXPECT(bh_trace_current(&c) && memcmp(c.span_id, child.record.span_id, 8) == 0);
    EXPECT_EQ(c.flags, BH_TRACE_SAMPLED);
    bh_span_end(&child);
    bh_span_end(&span);
    EXPECT(memcmp(got[1].trace_id, sender.trace_id, 16) == 0);
    EXPECT(memcmp(got[1].parent_id, sender.span_id, 8) == 0);
    EXPECT_EQ(got[1].flags, BH_TRACE_SAMPLED | BH_TRACE_REMOTE_KNOWN | BH_TRACE_REMOTE);
    EXPECT_EQ(got[0].flags, BH_TRACE_SAMPLED | BH_TRACE_REMOTE_KNOWN);
    EXPECT_EQ(got[1].kind, BH_SPAN_SERVER);
    EXPECT_STR(text(&got[1], BH_ITEM_STATE, ""), "a=1,b=2");
    EXPECT(!bh_trace_current(&c));
}

static void
end_elsewhere(void *args)
{
    struct bh_span *span = *(struct bh_span **)args;

    bh_tag_set(NULL);
    bh_span_end(span);
    EXPECT(bh_tag_peek() == NULL);
}

TEST(trace, detached_span_leaves_tags_alone)
{
    struct bh_span span, *p = &span;

    bh_span_start(&span, "long", &(struct bh_span_options){ .detached = true });
    EXPECT(bh_tag_peek() == NULL);
    bh_go(end_elsewhere, &p);
    while (atomic_load(&exported) == 0)
        bh_yield();
    bh_yield();
}

TEST(trace, ended_out_of_order_does_not_bring_back_the_past)
{
    struct bh_span a, b;

    bh_span_start(&a, "a", NULL);
    bh_span_start(&b, "b", NULL);
    bh_span_end(&a);
    EXPECT(memcmp(bh_tag_peek()->span_id, b.record.span_id, 8) == 0);
    bh_span_end(&b);
    EXPECT(memcmp(bh_tag_peek()->span_id, a.record.span_id, 8) == 0);
    bh_tag_set(NULL);
}

static void *
plain_thread(void *arg)
{
    struct bh_span span;

    (void)arg;
    bh_span_start(&span, "thread", NULL);
    bh_span_int(&span, "n", 1);
    bh_span_end(&span);
    return NULL;
}

TEST_REAL(trace, plain_thread_can_have_spans)
{
    pthread_t thread;

    EXPECT_EQ(pthread_create(&thread, NULL, plain_thread, NULL), 0);
    EXPECT_EQ(pthread_join(thread, NULL), 0);
    EXPECT(exported == 1 && number(&got[0], "n") == 1);
}

/* ---- what they are told ---------------------------------------------------------- */

TEST(trace, attributes_events_and_links)
{
    struct bh_span               span;
    const struct bh_span_record *r = &got[0];
    struct bh_item               item;

    bh_span_start(&span, "n", NULL);
    bh_span_text(&span, "t", "text");
    bh_span_text(&span, "none", NULL);
    bh_span_bytes(&span, "b", "\0\xff", 2);
    bh_span_int(&span, "i", -5);
    bh_span_double(&span, "d", 1.5);
    bh_span_bool(&span, "yes", true);
    bh_span_text(&span, "t", "again");
    bh_span_event(&span, "retry");
    bh_span_detail(&span, "why", "busy");
    bh_span_link(&span, &sender, "x=1");
    bh_span_status(&span, BH_SPAN_ERROR, "it broke");
    bh_span_end(&span);
    bh_span_end(&span);
    bh_span_text(&span, "late", "x");
    bh_span_status(&span, BH_SPAN_OK, NULL);
    bh_span_name(&span, "late");

    EXPECT_EQ(exported, 1);
    EXPECT_STR(attribute(r, "t"), "again");
    EXPECT(attribute(r, "none") == NULL && attribute(r, "late") == NULL);
    EXPECT(find(r, BH_ITEM_ATTRIBUTE, "b", &item) && item.value_size == 2);
    EXPECT_EQ(number(r, "i"), -5);
    EXPECT(find(r, BH_ITEM_ATTRIBUTE, "d", &item) && item.real == 1.5);
    EXPECT(find(r, BH_ITEM_ATTRIBUTE, "yes", &item) && item.type == BH_ITEM_BOOL &&
           item.number == 1);
    EXPECT(find(r, BH_ITEM_EVENT, "retry", &item));
    EXPECT(item.number >= r->start_ns && item.number <= r->end_ns);
    EXPECT_STR(text(r, BH_ITEM_SUB_ATTRIBUTE, "why"), "busy");
    EXPECT(find(r, BH_ITEM_LINK, "", &item) && item.value_size == 27);
    EXPECT(memcmp(item.value, sender.trace_id, 16) == 0 &&
           memcmp(item.value + 24, "x=1", 3) == 0);
    EXPECT_EQ(r->status, BH_SPAN_ERROR);
    EXPECT_STR(text(r, BH_ITEM_STATUS_TEXT, ""), "it broke");
    EXPECT_STR(text(r, BH_ITEM_NAME, ""), "n");
}

TEST(trace, ok_is_final)
{
    struct bh_span span;

    bh_span_start(&span, "n", NULL);
    bh_span_status(&span, BH_SPAN_ERROR, NULL);
    bh_span_status(&span, BH_SPAN_OK, NULL);
    bh_span_status(&span, BH_SPAN_ERROR, "no");
    bh_span_end(&span);
    EXPECT_EQ(got[0].status, BH_SPAN_OK);
}

TEST(trace, too_much_is_counted_and_the_span_still_goes)
{
    struct bh_span        span;
    struct bh_trace_stats stats;
    char                  large[600];

    memset(large, 'x', sizeof large);
    bh_span_start(&span, "n", NULL);
    for (int i = 0; i < 70; i++)
        bh_span_int(&span, "k", i);
    bh_span_event(&span, "e");
    bh_span_link(&span, &sender, NULL);
    bh_span_end(&span);
    EXPECT(exported == 1 && got[0].item_count == BH_ITEMS);
    EXPECT_EQ(got[0].lost_attributes, 70 - BH_ITEMS + 1); /* its name too */
    EXPECT(got[0].lost_events == 1 && got[0].lost_links == 1);

    bh_span_start(&span, "n", NULL);
    for (int i = 0; i < 5; i++)
        bh_span_bytes(&span, "k", large, sizeof large);
    bh_span_end(&span);
    EXPECT(exported == 2 && got[1].used <= BH_SPAN_ITEMS_SIZE && got[1].item_count == 2);
    bh_trace_stats_read(&stats);
    EXPECT_EQ(stats.lost, 70 - BH_ITEMS + 3 + 4);
}

/* ---- sampling -------------------------------------------------------------------- */

TEST(trace, not_sampled_is_not_exported_nor_are_its_children)
{
    struct bh_span          span, child;
    struct bh_trace_context c;

    bh_span_start(&span, "n", &(struct bh_span_options){ .sampler = &never });
    bh_span_start(&child, "child", NULL);
    bh_span_text(&child, "k", "v");
    bh_span_event(&child, "e");
    bh_span_status(&child, BH_SPAN_ERROR, "text");
    EXPECT_EQ(bh_tag_peek()->sampled, 0);
    bh_span_context(&child, &c);
    EXPECT_EQ(c.flags, BH_TRACE_RANDOM);
    EXPECT_EQ(child.record.used, 0);
    bh_span_end(&child);
    bh_span_end(&span);
    EXPECT_EQ(exported, 0);
}

TEST(trace, sampler_asks_the_parent_unless_it_ignores_it)
{
    static const struct bh_sampler ignoring = { .how = BH_SAMPLE_NEVER, .ignore_parent = true };
    static const struct bh_sampler always = { .how = BH_SAMPLE_ALWAYS, .ignore_parent = true };
    struct bh_trace_context        unsampled = sender;
    struct bh_span                 span;
    struct {
        const struct bh_sampler *sampler;
        bool                     parent, want;
    } cases[] = {
        { NULL, true, true },     { NULL, false, false },     { &never, true, true },
        { &never, false, false }, { &ignoring, true, false }, { &always, false, true }
    };

    unsampled.flags = 0;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        bh_span_start(
            &span, "n",
            &(struct bh_span_options){ .sampler = cases[i].sampler,
                                       .remote = cases[i].parent ? &sender : &unsampled });
        EXPECT_EQ(span.sampled, cases[i].want);
        bh_span_end(&span);
    }
}

TEST_PLAIN(trace, ratio_chooses_by_the_trace_alone)
{
    struct bh_sampler some = { .how = BH_SAMPLE_RATIO, .ratio = 0.1 };
    struct bh_sampler more = { .how = BH_SAMPLE_RATIO, .ratio = 0.3 };
    struct bh_span    a, b;
    int               count = 0, rounds = 20000;

    for (int i = 0; i < rounds; i++) {
        struct bh_trace_context c = sender;

        bh_span_start(&a, "n", &(struct bh_span_options){ .sampler = &some });
        count += a.sampled;
        memcpy(c.trace_id, a.record.trace_id, 16);
        more.ignore_parent = true;
        bh_span_start(&b, "n", &(struct bh_span_options){ .sampler = &more, .remote = &c });
        EXPECT(!a.sampled || b.sampled);
        bh_span_end(&b);
        bh_span_end(&a);
    }
    EXPECT(count > rounds / 10 - 300 && count < rounds / 10 + 300);
    for (int i = 0; i < 100; i++) {
        some.ratio = i % 2;
        bh_span_start(&a, "n", &(struct bh_span_options){ .sampler = &some });
        EXPECT_EQ(a.sampled, i % 2 != 0);
        bh_span_end(&a);
    }
}

static const struct {
    const char *name, *arg;
    int         rc;
    bool        root, sampled_parent, unsampled_parent; /* recorded? */
} environments[] = {
    { NULL, NULL, 0, true, true, false },
    { "", NULL, 0, true, true, false },
    { "always_on", NULL, 0, true, true, true },
    { "always_off", NULL, 0, false, false, false },
    { "traceidratio", "0", 0, false, false, false },
    { "traceidratio", NULL, 0, true, true, true },
    { "parentbased_always_on", "x", 0, true, true, false },
    { "parentbased_always_off", NULL, 0, false, true, false },
    { "parentbased_traceidratio", "0.0", 0, false, true, false },
    { "parentbased_traceidratio", "1", 0, true, true, false },
    { "parentbased_traceidratio", "1.5", -EINVAL, true, true, false },
    { "parentbased_traceidratio", "-1", -EINVAL, true, true, false },
    { "parentbased_traceidratio", "nan", -EINVAL, true, true, false },
    { "parentbased_traceidratio", "half", -EINVAL, true, true, false },
    { "sometimes", NULL, -EINVAL, true, true, false },
};

static bool
is_sampled(const struct bh_span_options *o)
{
    struct bh_span span;

    bh_span_start(&span, "n", o);
    bh_span_end(&span);
    return span.sampled;
}

TEST_PLAIN(trace, sampler_of_the_environment)
{
    struct bh_trace_context unsampled = sender;

    unsampled.flags = 0;
    for (size_t i = 0; i < sizeof environments / sizeof environments[0]; i++) {
        (void)unsetenv("OTEL_TRACES_SAMPLER");
        (void)unsetenv("OTEL_TRACES_SAMPLER_ARG");
        if (environments[i].name != NULL)
            (void)setenv("OTEL_TRACES_SAMPLER", environments[i].name, 1);
        if (environments[i].arg != NULL)
            (void)setenv("OTEL_TRACES_SAMPLER_ARG", environments[i].arg, 1);
        if (i % 2 == 0 || environments[i].rc != 0)
            EXPECT_EQ(bh_trace_set_sampler(NULL), environments[i].rc);
        else
            EXPECT_EQ(bh_trace_set_sampler(&(struct bh_sampler){ 0 }), environments[i].rc);
        EXPECT_EQ(is_sampled(NULL), environments[i].root);
        EXPECT_EQ(is_sampled(&(struct bh_span_options){ .remote = &sender }),
                  environments[i].sampled_parent);
        EXPECT_EQ(is_sampled(&(struct bh_span_options){ .remote = &unsampled }),
                  environments[i].unsampled_parent);
    }
    EXPECT_EQ(bh_trace_set_sampler(&(struct bh_sampler){ BH_SAMPLE_RATIO, 2, false }), -EINVAL);
    EXPECT_EQ(bh_trace_set_sampler(&(struct bh_sampler){ (enum bh_sampling)9, 0, false }),
              -EINVAL);
}

/* ---- panics ---------------------------------------------------------------------- */

static void
panic_within(const struct bh_sampler *sampler)
{
    struct bh_span span;

    bh_span_start(&span, "n", &(struct bh_span_options){ .sampler = sampler });
    BH_DEFER(bh_span_end, &span);
    bh_span_text(&span, "before", "x");
    bh_panic("no %s", "way");
}

TEST(trace, panic_that_leaves_a_span_is_its_error)
{
    EXPECT_PANIC("no way", panic_within(NULL));
    EXPECT_EQ(exported, 1);
    EXPECT(got[0].status == BH_SPAN_ERROR && got[0].urgent == 1);
    EXPECT_STR(attribute(&got[0], "error.type"), "string");
    EXPECT_STR(text(&got[0], BH_ITEM_STATUS_TEXT, ""), "no way");
    EXPECT_STR(attribute(&got[0], "before"), "x");
    EXPECT(bh_tag_peek() == NULL);
}

TEST(trace, panic_forces_a_span_that_was_not_sampled)
{
    struct bh_trace_stats stats;

    EXPECT_PANIC("no way", panic_within(&never));
    EXPECT_EQ(exported, 1);
    EXPECT(got[0].status == BH_SPAN_ERROR && got[0].urgent == 1);
    EXPECT((got[0].flags & BH_TRACE_SAMPLED) != 0);
    EXPECT_STR(attribute(&got[0], "error.type"), "string");
    EXPECT(attribute(&got[0], "before") == NULL);
    EXPECT_STR(text(&got[0], BH_ITEM_NAME, ""), "n");
    EXPECT(got[0].end_ns >= got[0].start_ns && got[0].start_ns > INT64_C(1000000000000000000));
    bh_trace_stats_read(&stats);
    EXPECT_EQ(stats.forced, 1);
}

static void
recover_within(void)
{
    BH_RECOVER(p) {
        return;
    }
    bh_panic("inside");
}

/* Runs while a panic passes, but is not left by it. */
static void
deferred_work(void *arg)
{
    struct bh_span span;

    (void)arg;
    bh_span_start(&span, "cleanup", NULL);
    recover_within();
    bh_span_end(&span);
}

static void
panic_past_work(void)
{
    BH_DEFER(deferred_work, NULL);
    bh_panic("outside");
}

TEST(trace, panic_that_stays_inside_or_was_there_before_is_no_error)
{
    struct bh_span span;

    bh_span_start(&span, "n", NULL);
    recover_within();
    EXPECT_PANIC("outside", panic_past_work());
    bh_span_end(&span);
    EXPECT_EQ(exported, 2);
    EXPECT(got[0].status == BH_SPAN_UNSET && got[0].urgent == 0);
    EXPECT(got[1].status == BH_SPAN_UNSET && got[1].urgent == 0);
}

static void
exit_within(void *args)
{
    struct bh_span span;

    (void)args;
    bh_span_start(&span, "n", NULL);
    BH_DEFER(bh_span_end, &span);
    bh_goexit();
}

TEST(trace, goexit_ends_a_span_without_error)
{
    bh_go(exit_within, NULL);
    while (atomic_load(&exported) == 0)
        bh_yield();
    EXPECT(got[0].status == BH_SPAN_UNSET && got[0].urgent == 0);
    bh_yield();
}

TEST(trace, told_of_a_panic_once)
{
    struct bh_span span;

    bh_span_start(&span, "n", &(struct bh_span_options){ .sampler = &never });
    bh_span_panicked(&span, "first", NULL);
    bh_span_panicked(&span, "second", "x");
    bh_span_int(&span, "after", 1);
    bh_span_end(&span);
    bh_span_panicked(&span, "third", NULL);
    EXPECT_EQ(exported, 1);
    EXPECT_STR(attribute(&got[0], "error.type"), "first");
    EXPECT_EQ(number(&got[0], "after"), 1);
}

/* ---- processors ------------------------------------------------------------------ */

static void
note_start(struct bh_span *span, void *arg)
{
    bh_span_text(span, "by", arg);
}

static void
note_end(struct bh_span *span, void *arg)
{
    bh_span_int(span, arg, 1);
}

static void
blow_up(struct bh_span *span, void *arg)
{
    (void)span;
    (void)arg;
    bh_panic("processor");
}

TEST(trace, processors_see_recorded_spans_and_cannot_break_them)
{
    struct bh_span        span;
    struct bh_trace_stats stats;
    char                  by[] = "me", ended[] = "ended";

    EXPECT_EQ(bh_trace_process(&(struct bh_span_processor){ note_start, NULL, by }), 0);
    EXPECT_EQ(bh_trace_process(&(struct bh_span_processor){ blow_up, blow_up, NULL }), 0);
    EXPECT_EQ(bh_trace_process(&(struct bh_span_processor){ NULL, note_end, ended }), 0);
    bh_span_start(&span, "n", NULL);
    bh_span_end(&span);
    bh_span_start(&span, "n", &(struct bh_span_options){ .sampler = &never });
    bh_span_end(&span);
    EXPECT_EQ(exported, 1);
    EXPECT_STR(attribute(&got[0], "by"), "me");
    EXPECT_EQ(number(&got[0], "ended"), 1);
    EXPECT(got[0].status == BH_SPAN_UNSET);
    bh_trace_stats_read(&stats);
    EXPECT_EQ(stats.processor_panics, 2);
    EXPECT_PANIC("no way", panic_within(NULL)); /* while another panic passes */
    EXPECT_EQ(number(&got[1], "ended"), 1);
    for (int i = 3; i < 8; i++)
        EXPECT_EQ(bh_trace_process(&(struct bh_span_processor){ 0 }), 0);
    EXPECT_EQ(bh_trace_process(&(struct bh_span_processor){ 0 }), -ENOSPC);
}

/* ---- colours --------------------------------------------------------------------- */

static const struct bh_span_record *
arrive(const char *state)
{
    struct bh_span span;

    atomic_store(&exported, 0);
    bh_span_start(&span, "n", &(struct bh_span_options){ .remote = &sender, .state = state });
    bh_span_end(&span);
    return &got[0];
}

TEST(trace, hop_between_clouds_is_coloured)
{
    const struct bh_span_record *r;
    char                         value[OB_HOP_SIZE], state[OB_HOP_SIZE + 16], there[9];

    EXPECT(!ob_hop_leave(0, value));
    EXPECT_EQ(bh_trace_color("aws.eu-west-1"), 0);
    EXPECT(ob_hop_leave(2, value) && strncmp(value, "aws.eu-west-1;3;", 16) == 0);
    (void)snprintf(state, sizeof state, "x=1,bh=%s,y=2", value);
    r = arrive(state);
    EXPECT(attribute(r, "bulkhead.hop.color") == NULL); /* the same cloud */

    EXPECT_EQ(bh_trace_color("gcp.europe-west4"), 0);
    r = arrive(state);
    EXPECT_EQ(number(r, "bulkhead.hop.index"), 3);
    EXPECT_STR(attribute(r, "bulkhead.hop.from"), "aws.eu-west-1");
    EXPECT_STR(attribute(r, "bulkhead.hop.to"), "gcp.europe-west4");
    EXPECT(llabs(number(r, "bulkhead.hop.delay_us")) < 3000000);
    EXPECT_EQ(strlen(attribute(r, "bulkhead.hop.color")), 8);
    memcpy(there, attribute(r, "bulkhead.hop.color"), sizeof there);

    EXPECT_EQ(bh_trace_color("aws.eu-west-1"), 0);
    r = arrive("bh=gcp.europe-west4;1"); /* the way back has another colour */
    EXPECT(strcmp(attribute(r, "bulkhead.hop.color"), there) != 0);
    EXPECT_EQ(number(r, "bulkhead.hop.index"), 1);
    EXPECT_EQ(bh_trace_color(""), 0);
    EXPECT(attribute(arrive("bh=gcp.europe-west4;1"), "bulkhead.hop.color") == NULL);
}

TEST(trace, malformed_hop_is_ignored)
{
    static const char *const bad[] = { "bh=;1",
                                       "bh=a",
                                       "bh=a;",
                                       "bh=a;x",
                                       "bh=a;1;",
                                       "bh=a;1;A",
                                       "bh=a;-1",
                                       "bh=a b;1",
                                       "bh=a;1;2;3",
                                       "bh=a/b;1",
                                       "bh=a;1;1234567890123",
                                       "bh=a;9999999999999" };
    struct bh_span           span;

    EXPECT_EQ(bh_trace_color("here"), 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        EXPECT(attribute(arrive(bad[i]), "bulkhead.hop.color") == NULL);
    EXPECT_EQ(number(arrive("bh=a;999999"), "bulkhead.hop.index"), 255);
    bh_span_start(&span, "n",
                  &(struct bh_span_options){ .remote = &sender, .state = "bh=a;7" });
    EXPECT_EQ(bh_tag_peek()->hop, 7); /* from where goroutines and children take it */
    bh_span_end(&span);
}

TEST(trace, cloud_must_have_a_name_that_can_be_sent)
{
    char long_name[80] = { 0 };

    memset(long_name, 'a', 65);
    EXPECT_EQ(bh_trace_color("a b"), -EINVAL);
    EXPECT_EQ(bh_trace_color("a;b"), -EINVAL);
    EXPECT_EQ(bh_trace_color("a,b"), -EINVAL);
    EXPECT_EQ(bh_trace_color(long_name), -EINVAL);
    long_name[64] = '\0';
    EXPECT_EQ(bh_trace_color(long_name), 0);
}

/* ---- ids ------------------------------------------------------------------------- */

enum { THREADS = 4, EACH = 5000 };
static unsigned char ids[THREADS * EACH][16];

static void *
draw(void *arg)
{
    unsigned char(*to)[16] = arg, span_id[8];

    for (int i = 0; i < EACH; i++)
        ob_random_ids(to[i], span_id);
    return NULL;
}

static int
compare(const void *a, const void *b)
{
    return memcmp(a, b, 16);
}

TEST_PLAIN(trace, ids_differ_on_all_threads)
{
    pthread_t thread[THREADS];

    for (int i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_create(&thread[i], NULL, draw, ids[(ptrdiff_t)i * EACH]), 0);
    for (int i = 0; i < THREADS; i++)
        EXPECT_EQ(pthread_join(thread[i], NULL), 0);
    qsort(ids, THREADS * EACH, sizeof ids[0], compare);
    for (int i = 0; i + 1 < THREADS * EACH; i++)
        EXPECT(memcmp(ids[i], ids[i + 1], 16) != 0);
}

TEST_PLAIN(trace, ids_differ_in_the_child_of_a_fork)
{
    unsigned char mine[16], theirs[16], span_id[8];
    int           pipes[2], status;
    pid_t         child;

    ob_random_ids(mine, span_id);
    EXPECT_EQ(pipe(pipes), 0);
    child = fork();
    if (child == 0) {
        ob_random_ids(theirs, span_id);
        _exit(write(pipes[1], theirs, 16) == 16 ? 0 : 1);
    }
    ob_random_ids(mine, span_id);
    EXPECT_EQ(read(pipes[0], theirs, 16), 16);
    EXPECT_EQ(waitpid(child, &status, 0), child);
    EXPECT_EQ(status, 0);
    EXPECT(memcmp(mine, theirs, 16) != 0);
    EXPECT_EQ(close(pipes[0]) + close(pipes[1]), 0);
}
