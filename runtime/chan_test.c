/* chan_test.c -- channels: order, blocking, closing, sizes, life, misuse. */

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/sync.h>

/* Let others go as far as they can; never needed for a test to pass. */
static void
settle(void)
{
    for (int i = 0; i < 50; i++)
        bh_yield();
}

/* ---- goroutines the tests start ------------------------------------------------- */

struct sender {
    struct bh_chan *to;
    int             first, count;
};

static void
send_numbers(void *args)
{
    struct sender *s = args;

    for (int i = 0; i < s->count; i++)
        bh_send(s->to, &(int){ s->first + i });
}

struct receiver {
    struct bh_chan *from, *done;
};

static void
count_until_closed(void *args)
{
    struct receiver *r = args;
    int              value, count = 0;

    while (bh_recv(r->from, &value))
        count++;
    bh_send(r->done, &count);
}

/* ---- order and blocking ---------------------------------------------------------- */

TEST(chan, unbuffered_channel_hands_over_each_value_in_order)
{
    struct bh_chan *c = BH_CHAN(int, 0);
    int             got = -1;

    BH_DEFER(bh_chan_unref, c);
    bh_go(send_numbers, &(struct sender){ c, 10, 100 });
    for (int i = 0; i < 100; i++) {
        EXPECT(bh_recv(c, &got));
        EXPECT_EQ(got, 10 + i);
    }
}

TEST(chan, buffered_channel_keeps_order_across_its_end)
{
    struct bh_chan *c = BH_CHAN(int, 3);
    int             got = -1;

    BH_DEFER(bh_chan_unref, c);
    bh_go(send_numbers, &(struct sender){ c, 0, 100 });
    for (int i = 0; i < 100; i++) {
        if (i % 7 == 0)
            settle();
        EXPECT(bh_recv(c, &got));
        EXPECT_EQ(got, i);
    }
}

TEST(chan, len_and_cap_count_values)
{
    struct bh_chan *c = BH_CHAN(int, 2);

    BH_DEFER(bh_chan_unref, c);
    EXPECT_EQ(bh_chan_len(c), 0);
    EXPECT_EQ(bh_chan_cap(c), 2);
    bh_send(c, &(int){ 1 });
    EXPECT_EQ(bh_chan_len(c), 1);
    bh_recv(c, NULL);
    EXPECT_EQ(bh_chan_len(c), 0);
    EXPECT_EQ(bh_chan_len(NULL), 0);
    EXPECT_EQ(bh_chan_cap(NULL), 0);
}

static void
send_then_note(void *args)
{
    struct { struct bh_chan *c; _Atomic int *sent; } *a = args;

    bh_send(a->c, &(int){ 1 });
    atomic_store(a->sent, 1);
    bh_send(a->c, &(int){ 2 });
    atomic_store(a->sent, 2);
    bh_send(a->c, &(int){ 3 });
    atomic_store(a->sent, 3);
}

TEST(chan, send_waits_while_the_buffer_is_full)
{
    struct { struct bh_chan *c; _Atomic int *sent; } a;
    _Atomic int sent = 0;
    int         got;

    a.c = BH_CHAN(int, 1);
    a.sent = &sent;
    BH_DEFER(bh_chan_unref, a.c);
    bh_go(send_then_note, &a);
    while (bh_chan_len(a.c) == 0)
        bh_yield();
    settle();
    EXPECT(atomic_load(&sent) <= 1);
    for (int i = 1; i <= 3; i++) {
        EXPECT(bh_recv(a.c, &got));
        EXPECT_EQ(got, i);
        EXPECT(atomic_load(&sent) <= i + 1);
    }
    while (atomic_load(&sent) != 3)
        bh_yield();
}

TEST(chan, receivers_are_served_in_the_order_they_came)
{
    enum { N = 5 };
    struct bh_chan *c = BH_CHAN(int, 0), *done = BH_CHAN(int, N);
    int             got;

    BH_DEFER(bh_chan_unref, done);
    BH_DEFER(bh_chan_unref, c);
    for (int i = 0; i < N; i++)
        bh_go(count_until_closed, &(struct receiver){ c, done });
    settle();
    for (int i = 0; i < 4 * N; i++)
        bh_send(c, &i);
    bh_close(c);
    for (int i = 0, sum = 0; i < N; i++) {
        EXPECT(bh_recv(done, &got));
        sum += got;
        EXPECT(i < N - 1 || sum == 4 * N);
    }
}

/* ---- values ------------------------------------------------------------------------ */

struct sized {
    struct bh_chan *c;
    size_t          size;
};

static void
send_pattern(void *args)
{
    struct sized *s = args;
    unsigned char value[1000];

    for (unsigned i = 0; i < 8; i++) {
        memset(value, (int)(i + 1), sizeof value);
        bh_chan_send(s->c, value, s->size);
        if (i % 3 == 0)
            bh_yield();
    }
}

TEST(chan, values_of_every_size_arrive_whole_and_write_nothing_else)
{
    static const size_t sizes[] = { 0, 1, 2, 3, 4, 8, 12, 16, 24, 999 };
    unsigned char       value[1001];

    for (size_t k = 0; k < sizeof sizes / sizeof sizes[0]; k++) {
        for (size_t capacity = 0; capacity < 3; capacity++) {
            struct bh_chan *c = bh_chan_new(sizes[k], capacity);

            BH_DEFER(bh_chan_unref, c);
            bh_go(send_pattern, &(struct sized){ c, sizes[k] });
            for (unsigned i = 0; i < 8; i++) {
                if (i % 2 == 0)
                    settle();
                memset(value, 0xee, sizeof value);
                EXPECT(bh_chan_recv(c, value, sizes[k]));
                EXPECT_EQ(value[sizes[k]], 0xee);
                for (size_t j = 0; j < sizes[k]; j++)
                    EXPECT_EQ(value[j], i + 1);
            }
        }
    }
}

TEST(chan, macros_take_literals_with_commas_arrays_and_signals)
{
    struct pair { int a, b; };
    struct bh_chan *c = BH_CHAN(struct pair, 1);
    struct bh_chan *text = BH_CHAN(char[6], 1);
    struct bh_chan *signal = bh_chan_new(0, 1);
    struct pair     got;
    char            word[6];
    void           *anything = &got;

    BH_DEFER(bh_chan_unref, c);
    BH_DEFER(bh_chan_unref, text);
    BH_DEFER(bh_chan_unref, signal);
    bh_send(c, &(struct pair){ .a = 1, .b = 2 });
    EXPECT(bh_recv(c, &got));
    EXPECT_EQ(got.a * 10 + got.b, 12);
    bh_send(c, &(const struct pair){ .a = 3, .b = 4 });
    EXPECT(bh_recv(c, anything));
    EXPECT_EQ(got.a * 10 + got.b, 34);
    bh_send(text, &"hello");
    EXPECT(bh_recv(text, &word));
    EXPECT_STR(word, "hello");
    bh_send(signal, NULL);
    EXPECT(bh_recv(signal, NULL));
}

TEST(chan, value_of_the_wrong_size_panics_and_sends_nothing)
{
    struct bh_chan *c = BH_CHAN(int, 1);
    char            small = 1;
    long long       large = 1;
    bool            ok;

    BH_DEFER(bh_chan_unref, c);
    EXPECT_PANIC("bh_chan_send: a value of 1 bytes on a channel of 4-byte values", bh_send(c, &small));
    EXPECT_PANIC("bh_chan_recv: a value of 8 bytes on a channel of 4-byte values", bh_recv(c, &large));
    EXPECT_PANIC("bh_chan_try_send: a value of 8 bytes on a channel of 4-byte values",
                 bh_try_send(c, &large));
    EXPECT_PANIC("bh_chan_try_recv: a value of 1 bytes on a channel of 4-byte values",
                 bh_try_recv(c, &small, &ok));
    EXPECT_EQ(bh_chan_len(c), 0);
}

TEST(chan, memory_that_is_no_channel_panics)
{
    static _Alignas(64) char zeroes[256];
    struct bh_chan          *c = (struct bh_chan *)(void *)zeroes;

    EXPECT_PANIC("bh_chan_send: not a channel, or one that has been freed", bh_send(c, &(int){ 1 }));
    EXPECT_PANIC("bh_close: not a channel, or one that has been freed", bh_close(c));
}

TEST_REAL(chan, null_value_is_a_panic_of_the_sender_and_changes_nothing)
{
    struct bh_chan *c = BH_CHAN(int, 1);
    int            *volatile nowhere = NULL;

    BH_DEFER(bh_chan_unref, c);
    EXPECT_PANIC("runtime error: invalid memory address or nil pointer dereference",
                 bh_send(c, nowhere));
    EXPECT_PANIC("runtime error: invalid memory address or nil pointer dereference",
                 (void)bh_try_send(c, nowhere));
    EXPECT_EQ(bh_chan_len(c), 0);
    bh_send(c, &(int){ 3 });
}

/* ---- without waiting ------------------------------------------------------------------ */

TEST(chan, try_send_and_try_recv_do_not_wait)
{
    struct bh_chan *c = BH_CHAN(int, 1);
    int             got = 9;
    bool            ok = true;

    BH_DEFER(bh_chan_unref, c);
    EXPECT(!bh_try_recv(c, &got, &ok));
    EXPECT_EQ(got, 9);
    EXPECT(bh_try_send(c, &(int){ 5 }));
    EXPECT(!bh_try_send(c, &(int){ 6 }));
    EXPECT(bh_try_recv(c, &got, NULL));
    EXPECT_EQ(got, 5);
    bh_close(c);
    EXPECT(bh_try_recv(c, &got, &ok));
    EXPECT(!ok);
    EXPECT_EQ(got, 0);
    EXPECT(!bh_try_send(NULL, &got));
    EXPECT(!bh_try_recv(NULL, &got, &ok));
}

TEST(chan, try_operations_meet_a_waiting_peer)
{
    struct bh_chan *c = BH_CHAN(int, 0), *done = BH_CHAN(int, 1);
    int             got;

    BH_DEFER(bh_chan_unref, done);
    BH_DEFER(bh_chan_unref, c);
    bh_go(send_numbers, &(struct sender){ c, 7, 1 });
    while (!bh_try_recv(c, &got, NULL))
        bh_yield();
    EXPECT_EQ(got, 7);
    bh_go(count_until_closed, &(struct receiver){ c, done });
    while (!bh_try_send(c, &got))
        bh_yield();
    bh_close(c);
    bh_recv(done, &got);
    EXPECT_EQ(got, 1);
}

/* ---- closing ---------------------------------------------------------------------------- */

TEST(chan, closed_channel_still_delivers_what_was_sent)
{
    struct bh_chan *c = BH_CHAN(int, 2);
    int             got = 0;

    BH_DEFER(bh_chan_unref, c);
    bh_send(c, &(int){ 7 });
    bh_send(c, &(int){ 8 });
    bh_close(c);
    EXPECT(bh_recv(c, &got));
    EXPECT_EQ(got, 7);
    EXPECT(bh_recv(c, &got));
    EXPECT_EQ(got, 8);
    EXPECT(!bh_recv(c, &got));
    EXPECT_EQ(got, 0);
    EXPECT(!bh_recv(c, NULL));
}

TEST(chan, close_wakes_every_receiver)
{
    enum { N = 20 };
    struct bh_chan *c = BH_CHAN(int, 0), *done = BH_CHAN(int, 0);
    int             got;

    BH_DEFER(bh_chan_unref, done);
    BH_DEFER(bh_chan_unref, c);
    for (int i = 0; i < N; i++)
        bh_go(count_until_closed, &(struct receiver){ c, done });
    settle();
    bh_close(c);
    for (int i = 0; i < N; i++) {
        bh_recv(done, &got);
        EXPECT_EQ(got, 0);
    }
}

static void
send_and_report_panic(void *args)
{
    struct receiver *r = args;

    BH_RECOVER(p) {
        int equal = strcmp(bh_panic_text(p), "send on closed channel") == 0 &&
                    p->kind->runtime_error;
        bh_send(r->done, &equal);
        return;
    }
    bh_send(r->from, &(int){ 1 });
    bh_send(r->done, &(int){ -1 });
}

TEST(chan, close_makes_every_waiting_sender_panic)
{
    enum { N = 20 };
    struct bh_chan *c = BH_CHAN(int, 0), *done = BH_CHAN(int, 0);
    int             got;

    BH_DEFER(bh_chan_unref, done);
    BH_DEFER(bh_chan_unref, c);
    for (int i = 0; i < N; i++)
        bh_go(send_and_report_panic, &(struct receiver){ c, done });
    settle();
    bh_close(c);
    for (int i = 0; i < N; i++) {
        bh_recv(done, &got);
        EXPECT_EQ(got, 1);
    }
}

TEST(chan, misuse_has_the_texts_of_go)
{
    struct bh_chan *c = BH_CHAN(int, 1);

    BH_DEFER(bh_chan_unref, c);
    bh_close(c);
    EXPECT_PANIC("send on closed channel", bh_send(c, &(int){ 1 }));
    EXPECT_PANIC("send on closed channel", (void)bh_try_send(c, &(int){ 1 }));
    EXPECT_PANIC("close of closed channel", bh_close(c));
    EXPECT_PANIC("close of nil channel", bh_close(NULL));
    EXPECT_PANIC("makechan: size out of range", (void)bh_chan_new(8, SIZE_MAX));
    EXPECT_PANIC("makechan: size out of range", (void)bh_chan_new(SIZE_MAX / 2, 4));
}

/* ---- life --------------------------------------------------------------------------------- */

static void
send_borrowed(void *args)
{
    bh_send(*(struct bh_chan **)args, &(int){ 1 });
}

static void
close_borrowed(void *args)
{
    bh_close(*(struct bh_chan **)args);
}

TEST(chan, whoever_learns_from_a_channel_may_free_it)
{
    for (int i = 0; i < 300; i++) {
        struct bh_chan *c = BH_CHAN(int, (size_t)(i % 3));
        bool            close = i % 2 == 0;

        bh_go(close ? close_borrowed : send_borrowed, &c);
        if (i % 5 == 0)
            bh_yield();
        EXPECT(bh_recv(c, NULL) == !close);
        bh_chan_unref(c);
    }
}

TEST(chan, last_reference_frees_and_earlier_ones_do_not)
{
    struct bh_chan *c = BH_CHAN(int, 1);

    EXPECT(bh_chan_ref(c) == c);
    bh_chan_unref(c);
    bh_send(c, &(int){ 1 });
    bh_chan_unref(c);
    EXPECT(bh_chan_ref(NULL) == NULL);
    bh_chan_unref(NULL);
}

TEST_SIM(chan, freeing_a_channel_someone_waits_on_panics_and_keeps_it)
{
    struct bh_chan *c = BH_CHAN(int, 0);

    bh_go(send_borrowed, &c);
    settle();
    EXPECT_PANIC("bh_chan_unref: the last reference, while a goroutine waits", bh_chan_unref(c));
    EXPECT(bh_recv(c, NULL));
    bh_chan_unref(c);
}

/* ---- threads -------------------------------------------------------------------------------- */

static void *
send_ten(void *arg)
{
    for (int i = 0; i < 10; i++) {
        while (bh_chan_send_from_thread(arg, &i, sizeof i) == -EAGAIN)
            sched_yield();
    }
    return NULL;
}

TEST_REAL(chan, plain_thread_can_send)
{
    struct bh_chan *c = BH_CHAN(int, 2);
    pthread_t       thread;
    int             got;

    BH_DEFER(bh_chan_unref, c);
    EXPECT_EQ(pthread_create(&thread, NULL, send_ten, c), 0);
    while (bh_chan_len(c) == 0)
        bh_yield(); /* before its first call the runtime does not know of the thread */
    for (int i = 0; i < 10; i++) {
        EXPECT(bh_recv(c, &got));
        EXPECT_EQ(got, i);
    }
    pthread_join(thread, NULL);
}

TEST(chan, send_from_thread_says_why_it_did_not)
{
    struct bh_chan *c = BH_CHAN(int, 1);
    int             one = 1;

    BH_DEFER(bh_chan_unref, c);
    EXPECT_EQ(bh_chan_send_from_thread(c, &one, sizeof one), 0);
    EXPECT_EQ(bh_chan_send_from_thread(c, &one, sizeof one), -EAGAIN);
    bh_close(c);
    EXPECT_EQ(bh_chan_send_from_thread(c, &one, sizeof one), BH_ECLOSED);
    EXPECT_EQ(bh_chan_send_from_thread(NULL, &one, sizeof one), -EAGAIN);
}

static void *
recv_in_thread(void *arg)
{
    bh_recv((struct bh_chan *)arg, NULL);
    return NULL;
}

TEST_DIES(chan, receiving_on_a_plain_thread_is_fatal, 2,
          "fatal error: bh_chan_recv: called from a thread that runs no goroutine")
{
    struct bh_chan *c = BH_CHAN(int, 0);
    pthread_t       thread;

    if (pthread_create(&thread, NULL, recv_in_thread, c) == 0)
        pthread_join(thread, NULL);
}

/* ---- deadlock -------------------------------------------------------------------------------- */

TEST_DIES(chan, receive_nobody_answers_is_a_deadlock, 2,
          "fatal error: all goroutines are asleep - deadlock!")
{
    bh_recv(BH_CHAN(int, 0), NULL);
}

TEST_DIES(chan, deadlock_names_a_receive, 2, "goroutine 1 [chan receive]:")
{
    bh_recv(BH_CHAN(int, 0), NULL);
}

TEST_DIES(chan, deadlock_names_a_send, 2, "goroutine 1 [chan send]:")
{
    bh_send(BH_CHAN(int, 0), &(int){ 1 });
}

TEST_DIES(chan, receive_on_null_waits_for_ever, 2, "goroutine 1 [chan receive (nil chan)]:")
{
    bh_recv(NULL, NULL);
}

TEST_DIES(chan, send_on_null_waits_for_ever, 2, "goroutine 1 [chan send (nil chan)]:")
{
    bh_send(NULL, &(int){ 1 });
}

TEST_DIES(chan, uncaught_send_on_closed_channel, 2, "panic: send on closed channel")
{
    struct bh_chan *c = BH_CHAN(int, 0);

    bh_close(c);
    bh_send(c, &(int){ 1 });
}

/* ---- torture ----------------------------------------------------------------------------------- */

enum { SENDERS = 8, RECEIVERS = 5, EACH = 300 };

struct torture {
    struct bh_chan     *c;
    _Atomic long        sum;
    _Atomic int         received;
    struct bh_waitgroup senders, receivers;
};

struct torture_args {
    struct torture *t;
    int             number;
};

struct item {
    int sender, n;
};

static void
torture_send(void *args)
{
    struct torture_args *a = args;
    unsigned             noise = (unsigned)a->number * 7919u + 1;

    for (int i = 0; i < EACH; i++) {
        struct item item = { a->number, i };

        noise = noise * 1103515245u + 12345u;
        if ((noise >> 16) % 4 != 0 || !bh_try_send(a->t->c, &item))
            bh_send(a->t->c, &item);
        if ((noise >> 20) % 8 == 0)
            bh_yield();
    }
    bh_waitgroup_done(&a->t->senders);
}

static void
torture_receive(void *args)
{
    struct torture_args *a = args;
    int                  last[SENDERS];
    struct item          item;

    for (int i = 0; i < SENDERS; i++)
        last[i] = -1;
    while (bh_recv(a->t->c, &item)) {
        EXPECT(item.n > last[item.sender]); /* one sender's values come in order */
        last[item.sender] = item.n;
        atomic_fetch_add(&a->t->sum, item.sender * EACH + item.n);
        atomic_fetch_add(&a->t->received, 1);
    }
    bh_waitgroup_done(&a->t->receivers);
}

static void
torture(size_t capacity)
{
    struct torture t = { .c = BH_CHAN(struct item, capacity) };
    long           expected = 0;

    BH_DEFER(bh_chan_unref, t.c);
    bh_waitgroup_add(&t.senders, SENDERS);
    bh_waitgroup_add(&t.receivers, RECEIVERS);
    for (int i = 0; i < RECEIVERS; i++)
        bh_go(torture_receive, &(struct torture_args){ &t, i });
    for (int i = 0; i < SENDERS; i++)
        bh_go(torture_send, &(struct torture_args){ &t, i });
    bh_waitgroup_wait(&t.senders);
    bh_close(t.c);
    bh_waitgroup_wait(&t.receivers);
    for (long i = 0; i < SENDERS * EACH; i++)
        expected += i;
    EXPECT_EQ(atomic_load(&t.received), SENDERS * EACH);
    EXPECT_EQ(atomic_load(&t.sum), expected);
}

TEST(chan, nothing_is_lost_doubled_or_reordered_unbuffered)
{
    torture(0);
}

TEST(chan, nothing_is_lost_doubled_or_reordered_buffered)
{
    torture(1);
    torture(7);
}
