/* error_test.c -- codes, notes and texts. */

#include "test.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/error.h>

TEST(error, fail_returns_the_code_and_keeps_the_note)
{
    EXPECT_STR(bh_error_note(), "");
    EXPECT_EQ(bh_fail(-EINVAL, "quantity %d", -3), -EINVAL);
    EXPECT_STR(bh_error_note(), "quantity -3");
    EXPECT_EQ(bh_fail(BH_EEOF, "%s", ""), BH_EEOF);
    EXPECT_STR(bh_error_note(), "");
}

TEST(error, a_note_may_wrap_the_one_before)
{
    (void)bh_fail(-EIO, "disk gone");
    (void)bh_fail(-EIO, "save: %s", bh_error_note());
    EXPECT_STR(bh_error_note(), "save: disk gone");
}

TEST(error, a_note_is_cut_to_255_bytes)
{
    (void)bh_fail(-EIO, "%1000d", 1);
    EXPECT_EQ(strlen(bh_error_note()), 255);
}

static void
fail_too(void *args)
{
    EXPECT_STR(bh_error_note(), "");
    (void)bh_fail(-EIO, "child's");
    bh_yield();
    EXPECT_STR(bh_error_note(), "child's");
    bh_close(*(struct bh_chan **)args);
}

TEST(error, notes_belong_to_their_goroutine)
{
    struct bh_chan *done = BH_CHAN(char, 0);

    (void)bh_fail(-EIO, "parent's");
    bh_go(fail_too, &done);
    bh_recv(done, NULL);
    EXPECT_STR(bh_error_note(), "parent's");
    bh_chan_unref(done);
}

static void *
thread_main(void *arg)
{
    EXPECT_STR(bh_error_note(), "");
    (void)bh_fail(-EIO, "thread's %d", 1);
    EXPECT_STR(bh_error_note(), "thread's 1");
    return arg;
}

TEST_REAL(error, a_plain_thread_has_a_note_of_its_own)
{
    pthread_t t;

    (void)bh_fail(-EIO, "mine");
    EXPECT_EQ(pthread_create(&t, NULL, thread_main, NULL), 0);
    pthread_join(t, NULL);
    EXPECT_STR(bh_error_note(), "mine");
}

TEST_PLAIN(error, every_code_has_a_text)
{
    EXPECT_STR(bh_error_text(0), "success");
    EXPECT_STR(bh_error_text(BH_ECANCELED), "context canceled");
    EXPECT_STR(bh_error_text(BH_EDEADLINE), "context deadline exceeded");
    EXPECT_STR(bh_error_text(BH_EEOF), "EOF");
    EXPECT_STR(bh_error_text(-ENOENT), "No such file or directory");
    EXPECT_STR(bh_error_text(-EINVAL), "Invalid argument");
    for (int code = BH_ENOHOST; code <= BH_EPANIC; code++)
        EXPECT(strcmp(bh_error_text(code), "unknown error") != 0);
    EXPECT_STR(bh_error_text(-4000), "unknown error");
    EXPECT_STR(bh_error_text(-123456), "unknown error");
    EXPECT_STR(bh_error_text(EINVAL), "unknown error");
    EXPECT_STR(bh_error_text(INT32_MIN), "unknown error");
}
