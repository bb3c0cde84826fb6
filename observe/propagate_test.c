/*
 * propagate_test.c -- tables of what must be taken, refused and written.
 *
 * The sections are those of W3C Trace Context, level 2.
 */

#include <bulkhead/observe/propagate.h>
#include <bulkhead/observe/record.h>

#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#define TRACE "0af7651916cd43dd8448eb211c80319c"
#define SPAN  "b7ad6b7169203331"
#define GOOD  "00-" TRACE "-" SPAN "-01"

static const struct {
    const char *value, *again; /* as we would write it; NULL: refused */
} parents[] = {
    { GOOD, GOOD },
    { "00-" TRACE "-" SPAN "-00", "00-" TRACE "-" SPAN "-00" },
    { "00-" TRACE "-" SPAN "-03", "00-" TRACE "-" SPAN "-03" },
    /* 3.2.2.5: bits that we do not know are not sent on */
    { "00-" TRACE "-" SPAN "-ff", "00-" TRACE "-" SPAN "-03" },
    { "00-" TRACE "-" SPAN "-0a", "00-" TRACE "-" SPAN "-02" },
    /* 3.2.4: later versions, with or without something behind */
    { "01-" TRACE "-" SPAN "-01", GOOD },
    { "cc-" TRACE "-" SPAN "-01-", GOOD },
    { "cc-" TRACE "-" SPAN "-01-what-the-future-brings", GOOD },
    { "fe-" TRACE "-" SPAN "-09", GOOD },
    { "cc-" TRACE "-" SPAN "-01.what", NULL },
    { "cc-" TRACE "-" SPAN "-011", NULL },
    { "cc-" TRACE "-" SPAN "-0", NULL },
    /* 3.2.2.1 */
    { "ff-" TRACE "-" SPAN "-01", NULL },
    { "0-" TRACE "-" SPAN "-01", NULL },
    { "000-" TRACE "-" SPAN "-01", NULL },
    { ".0-" TRACE "-" SPAN "-01", NULL },
    { "0x-" TRACE "-" SPAN "-01", NULL },
    { "CC-" TRACE "-" SPAN "-01", NULL },
    { "-" TRACE "-" SPAN "-01", NULL },
    /* version 00 has 55 characters */
    { GOOD "-", NULL },
    { GOOD "-what", NULL },
    { GOOD " ", NULL },
    { " " GOOD, NULL },
    { GOOD "1", NULL },
    { "00-" TRACE "-" SPAN "-1", NULL },
    { "00-" TRACE "-" SPAN "-", NULL },
    { "00-" TRACE "-" SPAN, NULL },
    { "00-" TRACE, NULL },
    { "00", NULL },
    { "", NULL },
    /* 3.2.2.3 */
    { "00-00000000000000000000000000000000-" SPAN "-01", NULL },
    { "00-0AF7651916CD43DD8448EB211C80319C-" SPAN "-01", NULL },
    { "00-0af7651916cd43dd8448eb211c80319-" SPAN "-01", NULL },
    { "00-0af7651916cd43dd8448eb211c80319c1-" SPAN "-01", NULL },
    { "00-.af7651916cd43dd8448eb211c80319c-" SPAN "-01", NULL },
    { "00-0af7651916cd43dd8448eb211c80319g-" SPAN "-01", NULL },
    { "00-00000000000000000000000000000001-" SPAN "-01",
      "00-00000000000000000000000000000001-" SPAN "-01" },
    /* 3.2.2.4 */
    { "00-" TRACE "-0000000000000000-01", NULL },
    { "00-" TRACE "-B7AD6B7169203331-01", NULL },
    { "00-" TRACE "-b7ad6b716920333-01", NULL },
    { "00-" TRACE "-b7ad6b71692033311-01", NULL },
    { "00-" TRACE "-b7ad6b716920333.-01", NULL },
    { "00-" TRACE "-b7ad6b716920333\xff-01", NULL },
    { "00-" TRACE "-0000000000000001-01", "00-" TRACE "-0000000000000001-01" },
    /* flags */
    { "00-" TRACE "-" SPAN "-.0", NULL },
    { "00-" TRACE "-" SPAN "-0.", NULL },
    { "00-" TRACE "-" SPAN "-0A", NULL },
    { "00-" TRACE "-" SPAN "--1", NULL },
    /* separators */
    { "00_" TRACE "-" SPAN "-01", NULL },
    { "00-" TRACE "_" SPAN "-01", NULL },
    { "00-" TRACE "-" SPAN "_01", NULL },
    { "00-" TRACE "-" SPAN " 01", NULL },
};

TEST_PLAIN(propagate, traceparents_taken_and_refused)
{
    for (size_t i = 0; i < sizeof parents / sizeof parents[0]; i++) {
        struct bh_trace_context c, untouched;
        char                    text[BH_TRACEPARENT_SIZE];
        size_t                  size = strlen(parents[i].value);
        char                   *value = malloc(size + 1); /* of its very size, no NUL */

        memset(&c, 0x5a, sizeof c);
        untouched = c;
        memcpy(value, parents[i].value, size);
        int rc = bh_traceparent_parse(value, size, &c);
        free(value);
        if (parents[i].again == NULL) {
            if (rc != -EBADMSG)
                test_failed(__FILE__, __LINE__, "\"%s\" was taken", parents[i].value);
            EXPECT_EQ(memcmp(&c, &untouched, sizeof c), 0);
            continue;
        }
        if (rc != 0)
            test_failed(__FILE__, __LINE__, "\"%s\" was refused", parents[i].value);
        bh_traceparent_format(text, &c);
        EXPECT_STR(text, parents[i].again);
    }
}

/* Any single byte in any place, against the grammar. */
TEST_PLAIN(propagate, traceparent_with_any_byte_in_any_place)
{
    for (int place = 0; place < 55; place++)
        for (int byte = 0; byte < 256; byte++) {
            char                    text[] = GOOD;
            struct bh_trace_context c;
            bool                    dash = place == 2 || place == 35 || place == 52;
            bool hex = (byte >= '0' && byte <= '9') || (byte >= 'a' && byte <= 'f');

            text[place] = (char)byte;
            EXPECT_EQ(bh_traceparent_parse(text, 55, &c) == 0, dash ? byte == '-' : hex);
        }
}

/* ---- tracestate ------------------------------------------------------------------ */

#define X16  "xxxxxxxxxxxxxxxx"
#define X64  X16 X16 X16 X16
#define X128 X64 X64
#define X256 X128 X128
#define N10(p)                                                                                 \
    p "0=1," p "1=1," p "2=1," p "3=1," p "4=1," p "5=1," p "6=1," p "7=1," p "8=1," p "9=1"
#define N30 N10("a") "," N10("b") "," N10("c")

static const struct {
    const char *state, *key, *value, *out; /* out NULL: refused */
} states[] = {
    { NULL, NULL, NULL, "" },
    { "", NULL, NULL, "" },
    { "a=1", NULL, NULL, "a=1" },
    { "a=1,b=2", NULL, NULL, "a=1,b=2" },
    { " a=1 ,\tb=2\t", NULL, NULL, "a=1,b=2" },
    { ",,a=1, ,b=2,", NULL, NULL, "a=1,b=2" },
    { "a=1,b=2,a=3", NULL, NULL, "a=1,b=2" }, /* 3.3.1.3: one a key */
    { "a= 1", NULL, NULL, "a= 1" },           /* white space inside is the value's */
    { "a=1;b:2 c!~", NULL, NULL, "a=1;b:2 c!~" },
    { "0a_-*/@z=1", NULL, NULL, "0a_-*/@z=1" },
    { "fw529a3039@dt=FfAy", NULL, NULL, "fw529a3039@dt=FfAy" },
    { X256 "=1", NULL, NULL, X256 "=1" },
    { "a=" X256, NULL, NULL, "a=" X256 },
    { N30 ",y=1,z=1", NULL, NULL, N30 ",y=1,z=1" }, /* 32 */
    { N30 ",y=1,z=1,,, ,", NULL, NULL, N30 ",y=1,z=1" },
    /* refused */
    { N30 ",y=1,z=1,zz=1", NULL, NULL, NULL }, /* 33 */
    { N30 ",a0=1,a0=1,a0=1", NULL, NULL, NULL },
    { "a", NULL, NULL, NULL },
    { "a=", NULL, NULL, NULL },
    { "=1", NULL, NULL, NULL },
    { "a =1", NULL, NULL, NULL },
    { "A=1", NULL, NULL, NULL },
    { "a.b=1", NULL, NULL, NULL },
    { "_a=1", NULL, NULL, NULL },
    { "@a=1", NULL, NULL, NULL },
    { "*=1", NULL, NULL, NULL },
    { "a=1=2", NULL, NULL, NULL },
    { "a=1;b=2", NULL, NULL, NULL },
    { "a=\x7f", NULL, NULL, NULL },
    { "a=1\t2", NULL, NULL, NULL },
    { "a=caf\xc3\xa9", NULL, NULL, NULL },
    { X256 "x=1", NULL, NULL, NULL },
    { "a=" X256 "x", NULL, NULL, NULL },
    { "a=1,b=2,!", NULL, NULL, NULL },
    /* our own member */
    { NULL, "bh", "aws.eu;1", "bh=aws.eu;1" },
    { "a=1,b=2", "bh", "x", "bh=x,a=1,b=2" },
    { "a=1,bh=old,b=2", "bh", "new", "bh=new,a=1,b=2" },
    { "bh=old", "bh", "new", "bh=new" },
    { "a=1,bh=old,b=2", "bh", NULL, "a=1,b=2" },
    { "a=1,bhx=2,b@bh=3", "bh", "n", "bh=n,a=1,bhx=2,b@bh=3" },
    { "!", "bh", "x", NULL },
    { N30 ",y=1,z=1", "bh", "x", "bh=x," N30 ",y=1" },
    { N30 ",y=1,bh=1", "bh", "x", "bh=x," N30 ",y=1" },
    /* 3.3.1.5: over 512 bytes, those over 128 go first, from the right, then the rightmost */
    { "a=" X128 ","
      "b=" X128 ","
      "c=1,"
      "d=" X256,
      NULL, NULL,
      "a=" X128 ","
      "b=" X128 ","
      "c=1" },
    { "a=" X256 ","
      "b=" X256 ",c=1",
      NULL, NULL, "a=" X256 ",c=1" },
    { "a=" X64 X16 ",b=" X64 X16 ",c=" X64 X16 ",d=" X64 X16 ",e=" X64 X16 ",f=" X64 X16 ",g=1",
      NULL, NULL,
      "a=" X64 X16 ",b=" X64 X16 ",c=" X64 X16 ",d=" X64 X16 ",e=" X64 X16 ",f=" X64 X16
      ",g=1" },
    { "a=" X64 X16 ",b=" X64 X16 ",c=" X64 X16 ",d=" X64 X16 ",e=" X64 X16 ",f=" X64 X16
      ",g=1234567890123",
      NULL, NULL,
      "a=" X64 X16 ",b=" X64 X16 ",c=" X64 X16 ",d=" X64 X16 ",e=" X64 X16 ",f=" X64 X16 },
    { "a=" X256 ",c=" X128 X64 X16 X16 X16 "xxx", "bh", "12345", "bh=12345,a=" X256 },
};

TEST_PLAIN(propagate, tracestates_taken_refused_and_updated)
{
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        char    out[BH_TRACESTATE_SIZE];
        ssize_t rc = bh_tracestate_update(out, states[i].state, states[i].key, states[i].value);

        if (states[i].out == NULL && rc != -EBADMSG)
            test_failed(__FILE__, __LINE__, "\"%s\" was taken", states[i].state);
        EXPECT_STR(out, states[i].out != NULL ? states[i].out : "");
        if (states[i].out != NULL)
            EXPECT_EQ(rc, strlen(out));
    }
}

TEST_PLAIN(propagate, tracestate_at_its_limit_of_512_bytes)
{
    char state[600], out[BH_TRACESTATE_SIZE];

    /* One of 256, the other such that the sum is n: with and without room. */
    for (int n = 500; n < 525; n++) {
        (void)snprintf(state, sizeof state, "a=%.*s,b=%.*s", 254, X256, n - 256 - 3, X256 X256);
        EXPECT_EQ(strlen(state), n);
        ssize_t rc = bh_tracestate_update(out, state, NULL, NULL);
        if (n <= 512)
            EXPECT_EQ(rc, n);
        else if (n - 256 - 3 <= 256)
            EXPECT_EQ(rc, 256);
        else
            EXPECT_EQ(rc, -EBADMSG);
    }
}

TEST_PLAIN(propagate, own_member_must_be_one)
{
    char out[BH_TRACESTATE_SIZE];
    static const struct {
        const char *key, *value;
    } bad[] = { { "", "1" },   { "A", "1" },  { "a", "" },   { "a", "1,b=2" }, { "a", "1=2" },
                { "a", "1 " }, { "a", "\n" }, { NULL, "1" }, { X256, X256 } };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        EXPECT_EQ(bh_tracestate_update(out, "b=2", bad[i].key, bad[i].value), -EINVAL);
}

TEST_PLAIN(propagate, tracestate_member_by_name)
{
    const char *value = NULL;
    size_t      size = 0;

    EXPECT(!bh_tracestate_get(NULL, "bh", &value, &size));
    EXPECT(!bh_tracestate_get("", "bh", &value, &size));
    EXPECT(!bh_tracestate_get("b=1,bhx=2,a@bh=3,bh", "bh", &value, &size));
    EXPECT(bh_tracestate_get("b=1, bh=x;2 ,c=3", "bh", &value, &size));
    EXPECT(size == 3 && memcmp(value, "x;2", 3) == 0);
}

/* ---- baggage --------------------------------------------------------------------- */

static const struct {
    const char *baggage;
    bool        valid;
    const char *a; /* the value of "a"; NULL: none */
} bags[] = {
    { "a=1", true, "1" },
    { " b = 2 ,\ta\t=\t1 ", true, "1" },
    { "a=1;p;q=2 ; r = 3,b=4", true, "1" },
    { "a=", true, "" },
    { "a=%20x%C3%A9%2c%", true, " x\xc3\xa9,%" },
    { "a=%zz%4", true, "%zz%4" },
    { "A=1", true, NULL },
    { "a=b=c", true, "b=c" },
    { "a=1,a=2", true, "1" },
    { "userId=alice", true, NULL },
    { "", false, NULL },
    { "a", false, NULL },
    { "a;p=1", false, NULL },
    { "=1", false, NULL },
    { "a=1,", false, NULL },
    { "a=1;", false, NULL },
    { "a=1 2", false, NULL },
    { "a=\"1\"", false, NULL },
    { "a=\\", false, NULL },
    { "a b=1", false, NULL },
    { "a=caf\xc3\xa9", false, NULL },
    { "a=1;(=2", false, NULL },
};

TEST_PLAIN(propagate, baggage_taken_and_refused)
{
    for (size_t i = 0; i < sizeof bags / sizeof bags[0]; i++) {
        char out[32];

        if (bh_baggage_is_valid(bags[i].baggage) != bags[i].valid)
            test_failed(__FILE__, __LINE__, "\"%s\"", bags[i].baggage);
        if (!bags[i].valid)
            continue;
        ssize_t rc = bh_baggage_get(bags[i].baggage, "a", out, sizeof out);
        EXPECT_EQ(rc, bags[i].a != NULL ? (ssize_t)strlen(bags[i].a) : -ENOENT);
        if (bags[i].a != NULL)
            EXPECT_STR(out, bags[i].a);
    }
}

TEST_PLAIN(propagate, baggage_is_limited_and_cut)
{
    char *text = calloc(1, 10000), out[4];

    for (int i = 0; i < 64; i++)
        (void)snprintf(text + strlen(text), 16, "%sk%d=1", i == 0 ? "" : ",", i);
    EXPECT(bh_baggage_is_valid(text));
    (void)snprintf(text + strlen(text), 16, ",k=1");
    EXPECT(!bh_baggage_is_valid(text));

    memset(text, 'x', 8192);
    text[1] = '=';
    text[8192] = '\0';
    EXPECT(bh_baggage_is_valid(text));
    EXPECT_EQ(bh_baggage_get(text, "x", out, sizeof out), 8190);
    EXPECT_STR(out, "xxx");
    EXPECT_EQ(bh_baggage_get(text, "x", NULL, 0), 8190);
    text[8192] = 'x';
    EXPECT(!bh_baggage_is_valid(text));
    free(text);
}
