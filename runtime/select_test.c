/* select_test.c -- one of several operations: choice, waiting, closing, many cases. */

#include "test.h"

#include <stdlib.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/sync.h>

static void
settle(void)
{
    for (int i = 0; i < 50; i++)
        bh_yield();
}

static void
unref_all(struct bh_chan **channels)
{
    for (; *channels != NULL; channels++)
        bh_chan_unref(*channels);
}

struct send_one {
    struct bh_chan *to;
    int             value;
};

static void
send_one(void *args)
{
    struct send_one *s = args;

    bh_send(s->to, &s->value);
}

struct recv_one {
    struct bh_chan *from, *then;
};

static void
recv_one(void *args)
{
    struct recv_one *r = args;
    int              got = -1;

    bh_recv(r->from, &got);
    bh_send(r->then, &got);
}

static void
close_it(void *args)
{
    bh_close(*(struct bh_chan **)args);
}

/* ---- what runs -------------------------------------------------------------------- */

TEST(select, the_ready_case_runs)
{
    enum { A, B, C };
    struct bh_chan *a = BH_CHAN(int, 1), *b = BH_CHAN(int, 1), *c = BH_CHAN(int, 1);
    int             got = 0, full = 5;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, c, NULL }));
    bh_send(c, &full);
    bh_send(b, &(int){ 4 });
    EXPECT_EQ(bh_select([A] = BH_RECV(a, &got), [B] = BH_RECV(b, &got), [C] = BH_SEND(c, &full)), B);
    EXPECT_EQ(got, 4);
    bh_recv(c, NULL);
    EXPECT_EQ(bh_select([A] = BH_RECV(a, &got), [B] = BH_RECV(b, &got), [C] = BH_SEND(c, &(int){ 8 })),
              C);
    EXPECT_EQ(bh_chan_len(c), 1);
    EXPECT_EQ(bh_chan_len(a) + bh_chan_len(b), 0);
}

TEST(select, default_runs_only_when_nothing_else_can)
{
    struct bh_chan *a = BH_CHAN(int, 1), *b = BH_CHAN(int, 1);
    int             got = 3;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, NULL }));
    EXPECT_EQ(bh_select(BH_RECV(a, &got), BH_RECV(b, &got), BH_DEFAULT), 2);
    EXPECT_EQ(bh_select(BH_DEFAULT, BH_RECV(a, &got)), 0);
    EXPECT_EQ(bh_select(BH_DEFAULT), 0);
    EXPECT_EQ(got, 3);
    bh_send(b, &(int){ 1 });
    EXPECT_EQ(bh_select(BH_RECV(a, &got), BH_DEFAULT, BH_RECV(b, &got)), 2);
    EXPECT_EQ(got, 1);
    EXPECT_EQ(bh_select(BH_DEFAULT, BH_SEND(a, &got)), 1);
    EXPECT_EQ(bh_select(BH_DEFAULT, BH_SEND(a, &got)), 0);
    EXPECT_EQ(bh_select(BH_RECV(a, NULL)), 0);
}

TEST(select, null_channels_and_empty_cases_never_run)
{
    struct bh_chan *a = BH_CHAN(int, 1);
    int             got = 0;

    BH_DEFER(bh_chan_unref, a);
    for (int i = 0; i < 20; i++) {
        bh_send(a, &i);
        EXPECT_EQ(bh_select(BH_RECV(NULL, &got), BH_SEND(NULL, &got), { .kind = BH_CASE_NONE },
                            BH_RECV(a, &got)),
                  3);
        EXPECT_EQ(got, i);
        EXPECT_EQ(bh_select(BH_RECV(NULL, &got), BH_DEFAULT, BH_SEND(NULL, &got)), 1);
    }
    EXPECT_EQ(bh_select(BH_RECV(NULL, &got), BH_DEFAULT), 1);
}

TEST(select, waits_for_the_first_sender)
{
    struct bh_chan *a = BH_CHAN(int, 0), *b = BH_CHAN(int, 0);
    int             from_a = 0, from_b = 0;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, NULL }));
    for (int i = 1; i <= 50; i++) {
        bh_go(send_one, &(struct send_one){ i % 2 ? a : b, i });
        if (i % 3 == 0)
            settle();
        EXPECT_EQ(bh_select(BH_RECV(a, &from_a), BH_RECV(b, &from_b)), i % 2 ? 0 : 1);
        EXPECT_EQ(i % 2 ? from_a : from_b, i);
    }
}

TEST(select, waits_for_the_first_receiver)
{
    struct bh_chan *a = BH_CHAN(int, 0), *b = BH_CHAN(int, 0), *then = BH_CHAN(int, 1);
    int             got;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, then, NULL }));
    for (int i = 1; i <= 50; i++) {
        bh_go(recv_one, &(struct recv_one){ i % 2 ? a : b, then });
        if (i % 3 == 0)
            settle();
        EXPECT_EQ(bh_select(BH_SEND(a, &(int){ i }), BH_SEND(b, &(int){ -i })), i % 2 ? 0 : 1);
        bh_recv(then, &got);
        EXPECT_EQ(got, i % 2 ? i : -i);
    }
}

TEST(select, losing_cases_leave_no_waiter_behind)
{
    struct bh_chan *a = BH_CHAN(int, 0), *b = BH_CHAN(int, 0);
    int             got;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, NULL }));
    bh_go(send_one, &(struct send_one){ b, 1 });
    EXPECT_EQ(bh_select(BH_RECV(a, &got), BH_SEND(a, &got), BH_RECV(b, &got), BH_RECV(a, NULL)), 2);
    EXPECT(!bh_try_send(a, &got));
    EXPECT(!bh_try_recv(a, &got, NULL));
}

TEST(select, same_channel_in_several_cases)
{
    struct bh_chan *a = BH_CHAN(int, 0), *b = BH_CHAN(int, 0);
    int             counts[3] = { 0 }, got;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, NULL }));
    for (int i = 0; i < 300; i++) {
        bh_go(send_one, &(struct send_one){ a, i });
        if (i % 2 == 0)
            settle();
        counts[bh_select(BH_RECV(a, &got), BH_RECV(b, &got), BH_RECV(a, &got))]++;
        EXPECT_EQ(got, i);
    }
    EXPECT_EQ(counts[0] + counts[2], 300);
    EXPECT(counts[0] > 0);
    EXPECT(!bh_try_send(a, &got));
}

TEST(select, does_not_talk_to_itself)
{
    struct bh_chan *a = BH_CHAN(int, 0);
    int             got = 0;

    BH_DEFER(bh_chan_unref, a);
    EXPECT_EQ(bh_select(BH_SEND(a, &(int){ 1 }), BH_RECV(a, &got), BH_DEFAULT), 2);
    bh_go(send_one, &(struct send_one){ a, 2 });
    EXPECT_EQ(bh_select(BH_SEND(a, &(int){ 1 }), BH_RECV(a, &got)), 1);
    EXPECT_EQ(got, 2);
}

struct both_ways {
    struct bh_chan      *c;
    struct bh_waitgroup *done;
    _Atomic int         *sent, *received;
};

static void
send_or_receive(void *args)
{
    struct both_ways *b = args;
    int               got;

    for (int i = 0; i < 200; i++) {
        if (bh_select(BH_SEND(b->c, &i), BH_RECV(b->c, &got)) == 0)
            atomic_fetch_add(b->sent, 1);
        else
            atomic_fetch_add(b->received, 1);
    }
    bh_waitgroup_done(b->done);
}

TEST(select, pairs_of_goroutines_that_would_do_either)
{
    struct bh_waitgroup done = { 0 };
    _Atomic int         sent = 0, received = 0;
    struct both_ways    args = { BH_CHAN(int, 0), &done, &sent, &received };

    BH_DEFER(bh_chan_unref, args.c);
    bh_waitgroup_add(&done, 2);
    bh_go(send_or_receive, &args);
    bh_go(send_or_receive, &args);
    bh_waitgroup_wait(&done);
    EXPECT_EQ(atomic_load(&sent), 200);
    EXPECT_EQ(atomic_load(&received), 200);
}

static void
receive_among_three(void *args)
{
    struct bh_chan **c = args;

    EXPECT_EQ(bh_select(BH_RECV(c[0], NULL), BH_RECV(c[1], NULL), BH_RECV(c[2], NULL)), 0);
}

/* Cases that look ready because of a select that another channel has won already. */
TEST_SIM(select, stale_waiters_do_not_hide_the_ready_case)
{
    struct bh_chan *c[4] = { BH_CHAN(int, 0), BH_CHAN(int, 0), BH_CHAN(int, 0), BH_CHAN(int, 1) };
    int             one = 1;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ c[0], c[1], c[2], c[3], NULL }));
    for (int i = 0; i < 100; i++) {
        bh_go(receive_among_three, &c);
        settle();
        EXPECT(bh_try_send(c[0], &one));
        EXPECT_EQ(bh_select(BH_SEND(c[1], &one), BH_SEND(c[2], &one), BH_SEND(c[3], &one),
                            BH_DEFAULT),
                  2);
        bh_recv(c[3], NULL);
        settle();
    }
}

/* ---- closing ------------------------------------------------------------------------ */

TEST(select, closed_receive_is_ready_and_says_so)
{
    struct bh_chan *a = BH_CHAN(int, 1), *b = BH_CHAN(int, 1);
    int             got = 5;
    bool            ok = true, untouched = true;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, NULL }));
    bh_close(b);
    EXPECT_EQ(bh_select(BH_RECV_OK(a, &got, &untouched), BH_RECV_OK(b, &got, &ok)), 1);
    EXPECT(!ok && untouched);
    EXPECT_EQ(got, 0);
    bh_send(a, &(int){ 6 });
    ok = false;
    EXPECT_EQ(bh_select(BH_RECV_OK(a, &got, &ok)), 0);
    EXPECT(ok);
    EXPECT_EQ(got, 6);
    EXPECT_EQ(bh_select(BH_RECV_OK(b, &got, &ok), BH_DEFAULT), 0);
    EXPECT(!ok);
}

TEST(select, close_wakes_a_waiting_receive)
{
    struct bh_chan *a = BH_CHAN(int, 0), *b = BH_CHAN(int, 0);
    int             got = 5;
    bool            ok = true;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, NULL }));
    bh_go(close_it, &b);
    EXPECT_EQ(bh_select(BH_RECV(a, &got), BH_RECV_OK(b, &got, &ok)), 1);
    EXPECT(!ok);
    EXPECT_EQ(got, 0);
}

TEST(select, send_case_on_a_closed_channel_panics)
{
    struct bh_chan *a = BH_CHAN(int, 0), *b = BH_CHAN(int, 0), *c = BH_CHAN(int, 0);
    int             one = 1;

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, c, NULL }));
    bh_close(b);
    EXPECT_PANIC("send on closed channel", bh_select(BH_RECV(a, &one), BH_SEND(b, &one)));
    EXPECT_PANIC("send on closed channel", bh_select(BH_SEND(b, &one), BH_DEFAULT));
    EXPECT_PANIC("send on closed channel", bh_select(BH_SEND(b, &one)));
    bh_go(close_it, &c);
    EXPECT_PANIC("send on closed channel", bh_select(BH_RECV(a, &one), BH_SEND(c, &one)));
    EXPECT(!bh_try_send(a, &one));
}

static void
send_and_free(void *args)
{
    struct bh_chan *c = *(struct bh_chan **)args;

    bh_send(c, &(int){ 1 });
    bh_chan_unref(c);
}

TEST(select, sender_that_woke_it_may_free_the_channel_at_once)
{
    struct bh_chan *never = BH_CHAN(int, 0);

    BH_DEFER(bh_chan_unref, never);
    for (int i = 0; i < 200; i++) {
        struct bh_chan *once = BH_CHAN(int, 0); /* the sender's; we borrow it */

        bh_go(send_and_free, &once);
        if (i % 3 == 0)
            bh_yield();
        EXPECT_EQ(bh_select(BH_RECV(never, NULL), BH_RECV(once, NULL)), 1);
    }
}

/* ---- misuse --------------------------------------------------------------------------- */

TEST(select, misuse_panics_before_anything_happens)
{
    struct bh_chan *a = BH_CHAN(int, 1), *b = BH_CHAN(int, 1);
    int             one = 1;
    char            small;
    struct bh_case *many = calloc(65537, sizeof *many);

    BH_DEFER(unref_all, ((struct bh_chan *[]){ a, b, NULL }));
    BH_DEFER(free, many);
    bh_send(b, &one);
    EXPECT_PANIC("bh_select: a value of 1 bytes on a channel of 4-byte values",
                 bh_select(BH_SEND(a, &one), BH_RECV(b, &small)));
    EXPECT_PANIC("bh_select: two defaults", bh_select(BH_SEND(a, &one), BH_DEFAULT, BH_DEFAULT));
    EXPECT_PANIC("bh_select: too many cases (at most 65536)", bh_select_n(many, 65537));
    EXPECT_EQ(bh_chan_len(a), 0);
    EXPECT_EQ(bh_chan_len(b), 1);
}

TEST_DIES(select, without_cases_waits_for_ever, 2, "goroutine 1 [select (no cases)]:")
{
    bh_select_n(NULL, 0);
}

TEST_DIES(select, with_null_channels_only_waits_for_ever, 2, "goroutine 1 [select]:")
{
    bh_select(BH_RECV(NULL, NULL), BH_RECV(NULL, NULL));
}

TEST_DIES(select, single_null_case_waits_as_a_receive, 2, "goroutine 1 [chan receive (nil chan)]:")
{
    bh_select(BH_RECV(NULL, NULL));
}

TEST_DIES(select, deadlock_names_a_select, 2, "goroutine 1 [select]:")
{
    bh_select(BH_RECV(BH_CHAN(int, 0), NULL), BH_SEND(BH_CHAN(int, 0), &(int){ 1 }));
}

/* ---- fairness ---------------------------------------------------------------------------- */

/* How often each of `count` cases is chosen in `rounds`, when those of `ready` are. */
static void
count_choices(const bool *ready, int count, int rounds, int *chosen)
{
    struct bh_case *cases = calloc((size_t)count, sizeof *cases);

    BH_DEFER(free, cases);
    for (int i = 0; i < count; i++) {
        cases[i] = (struct bh_case)BH_RECV(bh_chan_new(0, 4), NULL);
        chosen[i] = 0;
    }
    for (int round = 0; round < rounds; round++) {
        for (int i = 0; i < count; i++) {
            if (ready[i] && bh_chan_len(cases[i].chan) == 0)
                bh_send(cases[i].chan, NULL);
        }
        chosen[bh_select_n(cases, (size_t)count)]++;
    }
    for (int i = 0; i < count; i++)
        bh_chan_unref(cases[i].chan);
}

TEST(select, choice_is_uniform_wherever_the_ready_cases_stand)
{
    static const bool ready[][5] = {
        { true, true, false, false, false }, { true, false, false, false, true },
        { true, true, true, true, true },    { false, true, false, true, true },
    };
    enum { ROUNDS = 6000 };
    int chosen[5];

    for (size_t k = 0; k < sizeof ready / sizeof ready[0]; k++) {
        int n = 0;

        for (int i = 0; i < 5; i++)
            n += ready[k][i];
        count_choices(ready[k], 5, ROUNDS, chosen);
        for (int i = 0; i < 5; i++) {
            int expected = ready[k][i] ? ROUNDS / n : 0;

            /* six standard deviations, at most sqrt(6000 / 4) each */
            EXPECT(abs(chosen[i] - expected) < 6 * 39);
            EXPECT(ready[k][i] || chosen[i] == 0);
        }
    }
}

TEST(select, choice_is_uniform_among_hundreds)
{
    enum { COUNT = 300, ROUNDS = 30000 };
    static bool ready[COUNT];
    static int  chosen[COUNT];

    for (int i = 0; i < COUNT; i++)
        ready[i] = i % 3 == 0;
    count_choices(ready, COUNT, ROUNDS, chosen);
    for (int i = 0; i < COUNT; i++) {
        EXPECT(ready[i] || chosen[i] == 0);
        EXPECT(!ready[i] || (chosen[i] > 150 && chosen[i] < 450)); /* 300, +- 9 deviations */
    }
}

/* ---- many cases ------------------------------------------------------------------------------ */

static void
wait_among(int count)
{
    struct bh_case *cases = calloc((size_t)count, sizeof *cases);
    int             got = 0;

    BH_DEFER(free, cases);
    for (int i = 0; i < count; i++)
        cases[(i * 7) % count] = (struct bh_case)BH_RECV(BH_CHAN(int, 0), &got);
    for (int i = 0; i < count; i += 1 + count / 16) {
        bh_go(send_one, &(struct send_one){ cases[i].chan, i });
        if (i % 2 == 0)
            settle();
        EXPECT_EQ(bh_select_n(cases, (size_t)count), i);
        EXPECT_EQ(got, i);
    }
    for (int i = 0; i < count; i++) {
        EXPECT(!bh_try_send(cases[i].chan, &got));
        bh_chan_unref(cases[i].chan);
    }
}

TEST(select, waits_among_few_and_among_hundreds_of_channels)
{
    static const int counts[] = { 2, 3, 8, 9, 13, 64, 65, 500 };

    for (size_t i = 0; i < sizeof counts / sizeof counts[0]; i++)
        wait_among(counts[i]);
}

/* ---- torture ------------------------------------------------------------------------------------ */

enum { CHANNELS = 5, ACTORS = 12, STEPS = 250 };

struct arena_of_chaos {
    struct bh_chan     *c[CHANNELS];
    _Atomic long        sent, received; /* sums */
    _Atomic int         in_flight;      /* sends less receives */
    struct bh_waitgroup done;
};

struct actor {
    struct arena_of_chaos *a;
    unsigned               noise;
};

static unsigned
draw(struct actor *me, unsigned n)
{
    me->noise = me->noise * 1103515245u + 12345u;
    return (me->noise >> 16) % n;
}

/* Selects over random channels in random directions, now and then with a default. */
static void
act(void *args)
{
    struct actor          *me = args;
    struct arena_of_chaos *a = me->a;

    for (int step = 0; step < STEPS; step++) {
        struct bh_case cases[12];
        int            values[12], got[12], n = 2 + (int)draw(me, 10), at;

        for (int i = 0; i < n; i++) {
            struct bh_chan *c = a->c[draw(me, CHANNELS)];

            values[i] = (int)draw(me, 1000);
            cases[i] = draw(me, 2) ? (struct bh_case)BH_SEND(c, &values[i])
                                   : (struct bh_case)BH_RECV(c, &got[i]);
        }
        if (draw(me, 3) == 0)
            cases[n++] = (struct bh_case)BH_DEFAULT;
        at = bh_select_n(cases, (size_t)n);
        if (cases[at].kind == BH_CASE_SEND)
            atomic_fetch_add(&a->sent, values[at]);
        else if (cases[at].kind == BH_CASE_RECV)
            atomic_fetch_add(&a->received, got[at]);
    }
    bh_waitgroup_done(&a->done);
}

/* Keeps everybody going: serves both directions of every channel until told to stop. */
static void
serve(void *args)
{
    struct arena_of_chaos *a = *(struct arena_of_chaos **)args;
    struct bh_case         cases[2 * CHANNELS + 1];
    int                    got = 0, one = 1;

    for (int i = 0; i < CHANNELS; i++) {
        cases[2 * i] = (struct bh_case)BH_RECV(a->c[i], &got);
        cases[2 * i + 1] = (struct bh_case)BH_SEND(a->c[i], &one);
    }
    for (;;) {
        int at = bh_select_n(cases, 2 * CHANNELS);

        if (at % 2 == 1)
            atomic_fetch_add(&a->sent, one);
        else if (got == -1)
            return;
        else
            atomic_fetch_add(&a->received, got);
    }
}

TEST(select, many_selects_conserve_every_value)
{
    struct arena_of_chaos a = { 0 }, *pointer = &a;
    int                   left;

    for (int i = 0; i < CHANNELS; i++)
        a.c[i] = BH_CHAN(int, (size_t)(i / 2));
    bh_waitgroup_add(&a.done, ACTORS);
    bh_go(serve, &pointer);
    for (int i = 0; i < ACTORS; i++)
        bh_go(act, &(struct actor){ &a, (unsigned)i * 31u + 7 });
    bh_waitgroup_wait(&a.done);
    bh_send(a.c[0], &(int){ -1 });
    settle();
    while (bh_goroutine_count() > 1)
        bh_yield();
    for (int i = 0; i < CHANNELS; i++) {
        while (bh_try_recv(a.c[i], &left, NULL))
            atomic_fetch_add(&a.received, left);
        bh_chan_unref(a.c[i]);
    }
    EXPECT_EQ(atomic_load(&a.sent), atomic_load(&a.received));
}

/* Two goroutines select over the same channels in opposite order: no deadlock of the locks. */
static void
select_downwards(void *args)
{
    struct arena_of_chaos *a = *(struct arena_of_chaos **)args;
    int                    got;

    for (int i = 0; i < 500; i++)
        bh_select(BH_SEND(a->c[3], &i), BH_RECV(a->c[2], &got), BH_SEND(a->c[1], &i),
                  BH_RECV(a->c[0], &got));
    bh_waitgroup_done(&a->done);
}

static void
select_upwards(void *args)
{
    struct arena_of_chaos *a = *(struct arena_of_chaos **)args;
    int                    got;

    for (int i = 0; i < 500; i++)
        bh_select(BH_SEND(a->c[0], &i), BH_RECV(a->c[1], &got), BH_SEND(a->c[2], &i),
                  BH_RECV(a->c[3], &got));
    bh_waitgroup_done(&a->done);
}

TEST(select, opposite_orders_do_not_lock_each_other_out)
{
    struct arena_of_chaos a = { 0 }, *pointer = &a;

    for (int i = 0; i < 4; i++)
        a.c[i] = BH_CHAN(int, 0);
    bh_waitgroup_add(&a.done, 2);
    bh_go(select_upwards, &pointer);
    bh_go(select_downwards, &pointer);
    bh_waitgroup_wait(&a.done);
    for (int i = 0; i < 4; i++)
        bh_chan_unref(a.c[i]);
}
