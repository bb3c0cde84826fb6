/* fields_test.c -- ranges, tags, dates, codings, addresses, credentials. */
#include "fields.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

/* ---- ranges ---------------------------------------------------------------------- */

/* "0+100 500+20" of a field for size bytes; "ignored" or "none". */
static const char *
ranges(const char *value, int64_t size)
{
    static char     text[512];
    struct ht_range r[HT_MAX_RANGES];
    int             n = ht_ranges_parse(value, size, r), at = 0;

    for (int i = 0; i < n; i++)
        at += snprintf(text + at, sizeof text - (size_t)at, "%s%lld+%lld", i > 0 ? " " : "",
                       (long long)r[i].start, (long long)r[i].size);
    return n > 0 ? text : n == 0 ? "ignored" : "none";
}

TEST_PLAIN(range, names_bytes_from_either_end)
{
    EXPECT_STR(ranges("bytes=0-99", 1000), "0+100");
    EXPECT_STR(ranges("bytes=0-0", 1000), "0+1");
    EXPECT_STR(ranges("bytes=999-", 1000), "999+1");
    EXPECT_STR(ranges("bytes=-1", 1000), "999+1");
    EXPECT_STR(ranges("bytes=-5000", 1000), "0+1000");
    EXPECT_STR(ranges("bytes=900-5000", 1000), "900+100");
    EXPECT_STR(ranges("Bytes = 1-2", 1000), "1+2");
    EXPECT_STR(ranges("bytes=0-0, ,-1,", 1000), "0+1 999+1");
    EXPECT_STR(ranges("bytes=500-600 ,\t0-9", 1000), "500+101 0+10");
}

TEST_PLAIN(range, outside_the_file_is_dropped_or_none)
{
    EXPECT_STR(ranges("bytes=1000-", 1000), "none");
    EXPECT_STR(ranges("bytes=-0", 1000), "none");
    EXPECT_STR(ranges("bytes=1000-2000,5000-", 1000), "none");
    EXPECT_STR(ranges("bytes=1000-2000,5-6", 1000), "5+2");
    EXPECT_STR(ranges("bytes=0-", 0), "none");
    EXPECT_STR(ranges("bytes=-5", 0), "none");
    EXPECT_STR(ranges("bytes=99999999999999999999999-", 1000), "none");
}

TEST_PLAIN(range, malformed_is_ignored)
{
    static const char *const bad[] = {
        "",           "bytes",       "bytes=",     "bytes=,",      "bytes=-",
        "bytes=a-b",  "bytes=1",     "bytes=2-1",  "bytes=1-2x",   "bytes=1--2",
        "bytes=--2",  "bytes=0x1-2", "lines=1-2",  "bytes 1-2",    "bytes=1-2;3-4",
        "bytes=+1-2", "bytesx=1-2",  "bytes=1 -2", "bytes=1-2 3-4"
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        EXPECT_STR(ranges(bad[i], 1000), "ignored");
}

TEST_PLAIN(range, asking_for_more_than_there_is_is_ignored)
{
    char   many[1000] = "bytes=0-0";
    size_t at = strlen(many);

    EXPECT_STR(ranges("bytes=0-,0-", 1000), "ignored");
    EXPECT_STR(ranges("bytes=0-599,400-999", 1000), "ignored");
    EXPECT_STR(ranges("bytes=0-499,400-899", 1000), "0+500 400+500");
    for (int i = 1; i < HT_MAX_RANGES; i++)
        at += (size_t)snprintf(many + at, sizeof many - at, ",%d-%d", i * 2, i * 2);
    EXPECT(strcmp(ranges(many, 1000), "ignored") != 0);
    strcat(many, ",900-900");
    EXPECT_STR(ranges(many, 1000), "ignored");
    EXPECT_STR(ranges("bytes=0-9223372036854775807,0-9223372036854775807", INT64_MAX),
               "ignored");
}

/* ---- tags ------------------------------------------------------------------------ */

TEST_PLAIN(etag, weak_and_strong_comparison_are_those_of_the_rfc)
{
    EXPECT(!ht_etag_in("W/\"1\"", "W/\"1\"", false) && ht_etag_in("W/\"1\"", "W/\"1\"", true));
    EXPECT(!ht_etag_in("W/\"1\"", "W/\"2\"", false) && !ht_etag_in("W/\"1\"", "W/\"2\"", true));
    EXPECT(!ht_etag_in("W/\"1\"", "\"1\"", false) && ht_etag_in("W/\"1\"", "\"1\"", true));
    EXPECT(ht_etag_in("\"1\"", "\"1\"", false) && ht_etag_in("\"1\"", "\"1\"", true));
}

TEST_PLAIN(etag, is_found_in_a_list)
{
    EXPECT(ht_etag_in("\"a\", \"b\",\"c\"", "\"c\"", false));
    EXPECT(ht_etag_in(" ,, \"a\"\t,W/\"b\"", "\"b\"", true));
    EXPECT(ht_etag_in("\"a,b\", \"c\"", "\"c\"", false));
    EXPECT(ht_etag_in(" * ", "\"c\"", false));
    EXPECT(ht_etag_in("\"\"", "\"\"", false));
    EXPECT(!ht_etag_in("\"a\", \"b\"", "\"\"", true));
}

TEST_PLAIN(etag, malformed_list_ends_where_it_is_malformed)
{
    EXPECT(!ht_etag_in("", "\"c\"", true));
    EXPECT(!ht_etag_in("c", "\"c\"", true));
    EXPECT(!ht_etag_in("\"c", "\"c\"", true));
    EXPECT(!ht_etag_in("w/\"c\"", "\"c\"", true));
    EXPECT(!ht_etag_in("*, \"c\"", "\"d\"", true));
    EXPECT(!ht_etag_in("a, \"c\"", "\"c\"", true));
    EXPECT(!ht_etag_in("\"a\" \"c\"", "\"c\"", true));
    EXPECT(ht_etag_in("\"c\", x", "\"c\"", true));
    EXPECT(ht_etag_is_valid("\"x\"") && ht_etag_is_valid("W/\"x\""));
    EXPECT(!ht_etag_is_valid("x") && !ht_etag_is_valid("\"x\" ") &&
           !ht_etag_is_valid("\"x y\""));
}

/* ---- dates ----------------------------------------------------------------------- */

static long long
date(const char *text)
{
    int64_t t;

    return ht_date_parse(text, &t) ? (long long)t : -1;
}

TEST_PLAIN(date, is_read_in_all_three_forms)
{
    EXPECT_EQ(date("Sun, 06 Nov 1994 08:49:37 GMT"), 784111777);
    EXPECT_EQ(date("Sunday, 06-Nov-94 08:49:37 GMT"), 784111777);
    EXPECT_EQ(date("Sun Nov  6 08:49:37 1994"), 784111777);
    EXPECT_EQ(date("Thu, 29 Feb 2024 23:59:60 GMT"), 1709251200);
    EXPECT_EQ(date("Thursday, 01-Jan-70 00:00:00 GMT"), 0);
    EXPECT_EQ(date("Wednesday, 25-Nov-26 10:31:07 GMT"), 1795602667);
}

TEST_PLAIN(date, that_is_none_is_refused)
{
    static const char *const bad[] = { "",
                                       "Sun",
                                       "Sun, ",
                                       "0",
                                       "Sun, 06 Nov 1994 08:49:37",
                                       "Sun, 06 Nov 1994 08:49:37 CET",
                                       "Sun, 06 Nov 1994 08:49:37 GMT ",
                                       "Sun, 6 Nov 1994 08:49:37 GMT",
                                       "Sun, 31 Nov 1994 08:49:37 GMT",
                                       "Sun, 29 Feb 1994 08:49:37 GMT",
                                       "Sun, 00 Nov 1994 08:49:37 GMT",
                                       "Sun, 06 Nov 1994 24:49:37 GMT",
                                       "Sun, 06 Nov 1994 08:60:37 GMT",
                                       "Sun, 06 Nov 1994 08:49:61 GMT",
                                       "Sun, 06 nov 1994 08:49:37 GMT",
                                       "Son, 06 Nov 1994 08:49:37 GMT",
                                       "Sunday, 06 Nov 1994 08:49:37 GMT",
                                       "Sun Nov 6 08:49:37 1994",
                                       "Sun, 06 Nov -994 08:49:37 GMT" };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        EXPECT_EQ(date(bad[i]), -1);
}

TEST_PLAIN(date, written_is_read_back)
{
    char text[HT_DATE_SIZE];

    for (int64_t t = -3000000000; t < 100000000000; t += 1234567891) {
        ht_date_put(text, t);
        EXPECT_EQ(date(text), t);
    }
    ht_date_put(text, INT64_MAX);
    EXPECT_STR(text, "Fri, 31 Dec 9999 23:59:59 GMT");
    ht_date_put(text, INT64_MIN);
    EXPECT_STR(text, "Sat, 01 Jan 0000 00:00:00 GMT");
}

/* ---- codings --------------------------------------------------------------------- */

static const char *
choose(const char *value)
{
    static const enum ht_coding all[] = { HT_ZSTD, HT_BR, HT_GZIP, HT_IDENTITY };

    return ht_coding_name(ht_coding_choose(value, all));
}

TEST_PLAIN(coding, with_most_weight_then_preference_is_chosen)
{
    EXPECT_STR(choose("gzip"), "gzip");
    EXPECT_STR(choose("GZIP"), "gzip");
    EXPECT_STR(choose("x-gzip"), "gzip");
    EXPECT_STR(choose("gzip, deflate, br, zstd"), "zstd");
    EXPECT_STR(choose("gzip, br"), "br");
    EXPECT_STR(choose("gzip;q=0.9, br;q=0.8"), "gzip");
    EXPECT_STR(choose("gzip ; q=0.001"), "gzip");
    EXPECT_STR(choose("*"), "zstd");
    EXPECT_STR(choose("zstd;q=0, *"), "br");
    EXPECT_STR(choose("gzip;q=1, *;q=0.5"), "gzip");
    EXPECT_STR(choose("identity;q=0, gzip;q=0.1"), "gzip");
    EXPECT_STR(choose("identity;q=0.5, gzip;q=0.5"), "gzip");
}

TEST_PLAIN(coding, is_identity_if_that_is_what_is_wanted_or_all_that_is_left)
{
    EXPECT_STR(choose(NULL), "identity");
    EXPECT_STR(choose(""), "identity");
    EXPECT_STR(choose("identity"), "identity");
    EXPECT_STR(choose("deflate, compress"), "identity");
    EXPECT_STR(choose("gzip;q=0"), "identity");
    EXPECT_STR(choose("gzip;q=0.000"), "identity");
    EXPECT_STR(choose("*;q=0"), "identity");
    EXPECT_STR(choose("identity;q=0"), "identity");
    EXPECT_STR(choose("identity, gzip;q=0.5"), "identity");
}

TEST_PLAIN(coding, that_is_malformed_counts_as_absent)
{
    EXPECT_STR(choose("gzip;q=2"), "identity");
    EXPECT_STR(choose("gzip;q=1.5"), "identity");
    EXPECT_STR(choose("gzip;q=0.1234"), "identity");
    EXPECT_STR(choose("gzip;q=-1"), "identity");
    EXPECT_STR(choose("gzip;q="), "identity");
    EXPECT_STR(choose("gzip;level=1"), "identity");
    EXPECT_STR(choose("gzip;"), "identity");
    EXPECT_STR(choose(";q=1, ,,gzip;q=0.5"), "gzip");
    EXPECT_STR(choose("gzi, gzipp, \"gzip\""), "identity");
}

/* ---- addresses ------------------------------------------------------------------- */

static const char *
address(const char *text)
{
    static char       out[HT_ADDRESS_TEXT];
    struct ht_address a;

    if (!ht_address_parse(text, strlen(text), &a))
        return "none";
    ht_address_put(out, &a);
    return out;
}

TEST_PLAIN(address, is_read_with_and_without_a_port)
{
    EXPECT_STR(address("10.1.2.3"), "10.1.2.3");
    EXPECT_STR(address("10.1.2.3:80"), "10.1.2.3");
    EXPECT_STR(address("2001:DB8::1"), "2001:db8::1");
    EXPECT_STR(address("[2001:db8::1]"), "2001:db8::1");
    EXPECT_STR(address("[2001:db8::1]:443"), "2001:db8::1");
    EXPECT_STR(address("::ffff:10.1.2.3"), "10.1.2.3");
    EXPECT_STR(address("[::1]:_port"), "::1");
    EXPECT_STR(address("::"), "::");
}

TEST_PLAIN(address, that_is_none_is_refused)
{
    static const char *const bad[] = { "",
                                       "unknown",
                                       "_hidden",
                                       "10.1.2",
                                       "10.1.2.3.4",
                                       "10.1.2.300",
                                       "10.1.2.03x",
                                       "10.1.2.3:",
                                       "10.1.2.3:x",
                                       "[10.1.2.3]",
                                       "[::1",
                                       "::1]",
                                       "[::1]x",
                                       "[::1]:",
                                       "[]",
                                       "fe80::1%eth0",
                                       "0x7f.1",
                                       "1",
                                       "10.1.2.3 ",
                                       " 10.1.2.3",
                                       "[::1]:80:80",
                                       "1:2:3:4:5:6:7:8:9",
                                       "10.1.2.3:80:80" };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        EXPECT_STR(address(bad[i]), "none");
}

static bool
is_in(const char *block, const char *text)
{
    struct ht_block   b;
    struct ht_address a;

    EXPECT(ht_block_parse(block, strlen(block), &b));
    EXPECT(ht_address_parse(text, strlen(text), &a));
    return ht_block_has(&b, &a);
}

TEST_PLAIN(block, has_what_begins_like_it)
{
    EXPECT(is_in("10.0.0.0/8", "10.255.0.1") && !is_in("10.0.0.0/8", "11.0.0.1"));
    EXPECT(is_in("192.168.1.0/25", "192.168.1.127") &&
           !is_in("192.168.1.0/25", "192.168.1.128"));
    EXPECT(is_in("10.0.0.1", "10.0.0.1") && !is_in("10.0.0.1", "10.0.0.2"));
    EXPECT(is_in("10.0.0.0/8", "::ffff:10.1.1.1"));
    EXPECT(is_in("fd00::/8", "fdab::1") && !is_in("fd00::/8", "fe00::1"));
    EXPECT(is_in("0.0.0.0/0", "1.2.3.4") && !is_in("0.0.0.0/0", "::1"));
    EXPECT(is_in("::/0", "::1") && !is_in("::/0", "1.2.3.4"));
    EXPECT(is_in("::1/128", "::1"));
}

TEST_PLAIN(block, that_is_none_is_refused)
{
    static const char *const bad[] = { "",
                                       "/8",
                                       "10.0.0.0/",
                                       "10.0.0.0/33",
                                       "10.0.0.0/-1",
                                       "::/129",
                                       "10.0.0.0/8/8",
                                       "10.0.0.0/08",
                                       "10.0.0.0/x",
                                       "10.0.0.1/8",
                                       "10.0.0.0/1000",
                                       "[::1]/128",
                                       "10.0.0.0:80/8",
                                       "fd01::/8" };
    struct ht_block          b;

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        EXPECT(!ht_block_parse(bad[i], strlen(bad[i]), &b));
}

/* ---- hops ------------------------------------------------------------------------ */

typedef void walk_fn(const char *value, const struct ht_blocks *trusted, struct ht_origin *o);

/* Who is the client, if 10/8 and ::1 are trusted? */
static const char *
origin(walk_fn *walk, const char *value)
{
    static char      text[HT_ADDRESS_TEXT + 10];
    struct ht_block  trusted[2];
    struct ht_blocks blocks = { trusted, 2 };
    struct ht_origin o;

    EXPECT(ht_block_parse("10.0.0.0/8", 10, &trusted[0]) &&
           ht_block_parse("::1", 3, &trusted[1]));
    walk(value, &blocks, &o);
    if (!o.known)
        return "unknown";
    ht_address_put(text, &o.address);
    if (o.proto[0] != '\0')
        strcat(strcat(text, " "), o.proto);
    return text;
}

TEST_PLAIN(forwarded_for, is_the_first_stranger_from_the_right)
{
    EXPECT_STR(origin(ht_x_forwarded_walk, "1.2.3.4"), "1.2.3.4");
    EXPECT_STR(origin(ht_x_forwarded_walk, "6.6.6.6, 1.2.3.4"), "1.2.3.4");
    EXPECT_STR(origin(ht_x_forwarded_walk, "6.6.6.6,1.2.3.4:999 ,10.0.0.1, ::1"), "1.2.3.4");
    EXPECT_STR(origin(ht_x_forwarded_walk, "10.0.0.1, 10.0.0.2"), "10.0.0.1");
    EXPECT_STR(origin(ht_x_forwarded_walk, "\"6.6.6.6, 1.2.3.4"), "1.2.3.4");
}

TEST_PLAIN(forwarded_for, malformed_entry_ends_the_walk)
{
    EXPECT_STR(origin(ht_x_forwarded_walk, ""), "unknown");
    EXPECT_STR(origin(ht_x_forwarded_walk, "1.2.3.4, "), "unknown");
    EXPECT_STR(origin(ht_x_forwarded_walk, "1.2.3.4, unknown, 10.0.0.1"), "10.0.0.1");
    EXPECT_STR(origin(ht_x_forwarded_walk, "1.2.3.4, 10.0.0.1x"), "unknown");
    EXPECT_STR(origin(ht_x_forwarded_walk, "1.2.3.4,,10.0.0.1"), "10.0.0.1");
}

TEST_PLAIN(forwarded_for, of_any_length_is_read_from_its_end)
{
    static char list[20000];
    size_t      at = 0;

    for (int i = 0; i < 1000; i++)
        at += (size_t)snprintf(list + at, sizeof list - at, "6.6.6.%d, ", i % 256);
    strcpy(list + at, "1.2.3.4, 10.0.0.1");
    EXPECT_STR(origin(ht_x_forwarded_walk, list), "1.2.3.4");
}

TEST_PLAIN(forwarded, is_read_by_its_rfc)
{
    EXPECT_STR(origin(ht_forwarded_walk, "for=1.2.3.4"), "1.2.3.4");
    EXPECT_STR(origin(ht_forwarded_walk, "For=\"[2001:db8::17]:4711\";proto=https;by=10.0.0.9"),
               "2001:db8::17 https");
    EXPECT_STR(
        origin(ht_forwarded_walk,
               "for=6.6.6.6;proto=ftp, for=1.2.3.4;proto=https, for=10.0.0.1;proto=http"),
        "1.2.3.4 https");
    EXPECT_STR(origin(ht_forwarded_walk, "host=\"a,b;for=6.6.6.6\";for=1.2.3.4"), "1.2.3.4");
    EXPECT_STR(origin(ht_forwarded_walk, " ;for=1.2.3.4; "), "1.2.3.4");
}

TEST_PLAIN(forwarded, hostile_list_does_not_get_past_its_writer)
{
    EXPECT_STR(origin(ht_forwarded_walk, ""), "unknown");
    EXPECT_STR(origin(ht_forwarded_walk, "for=unknown, for=10.0.0.1"), "10.0.0.1");
    EXPECT_STR(origin(ht_forwarded_walk, "for=6.6.6.6, for=_hidden"), "unknown");
    EXPECT_STR(origin(ht_forwarded_walk, "for=6.6.6.6;for=1.2.3.4"), "unknown");
    EXPECT_STR(origin(ht_forwarded_walk, "for=6.6.6.6, proto=https"), "unknown");
    EXPECT_STR(origin(ht_forwarded_walk, "for=\"6.6.6.6, for=1.2.3.4"), "unknown");
    EXPECT_STR(origin(ht_forwarded_walk, "for=\"6.6.6.6, for=\"[::1]:1\";proto=\"http\""),
               "unknown");
    EXPECT_STR(origin(ht_forwarded_walk, "for=\"6.6.6.6\\"), "unknown");
    EXPECT_STR(origin(ht_forwarded_walk, "for=\"1.2.3.\\4\""), "unknown");
    EXPECT_STR(origin(ht_forwarded_walk, "=1.2.3.4"), "unknown");
    EXPECT_STR(origin(ht_forwarded_walk, "for"), "unknown");
}

/* ---- credentials ----------------------------------------------------------------- */

static const char *
basic(const char *value)
{
    static char text[256], room[256];
    const char *user, *password;

    if (!ht_basic_parse(value, room, &user, &password))
        return "none";
    snprintf(text, sizeof text, "%s|%s", user, password);
    return text;
}

TEST_PLAIN(basic, is_user_and_password)
{
    EXPECT_STR(basic("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="), "Aladdin|open sesame");
    EXPECT_STR(basic("bASIC  dGVzdDoxMjPCow=="), "test|123\xc2\xa3");
    EXPECT_STR(basic("Basic Og=="), "|");
    EXPECT_STR(basic("Basic YTpiOmM="), "a|b:c");
}

TEST_PLAIN(basic, malformed_is_refused)
{
    static const char *const bad[] = { "",
                                       "Basic",
                                       "Basic ",
                                       "Basic=",
                                       "BasicYTpi",
                                       "Bearer YTpi",
                                       "Basic YTpi=",
                                       "Basic YTp",
                                       "Basic Y",
                                       "Basic YQ==",
                                       "Basic Og",
                                       "Basic Oh==",
                                       "Basic YTpi YTpi",
                                       "Basic YTpi,",
                                       "Basic ====",
                                       "Basic YTp\xff",
                                       "Basic YQA6Yg==",
                                       "Basic YQo6Yg==",
                                       "Basic O===" };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        EXPECT_STR(basic(bad[i]), "none");
}

TEST_PLAIN(bearer, is_one_token)
{
    EXPECT_STR(ht_bearer_parse("Bearer abc.DEF-1_2~3+/=="), "abc.DEF-1_2~3+/==");
    EXPECT_STR(ht_bearer_parse("bearer x"), "x");
    EXPECT(ht_bearer_parse("Bearer") == NULL && ht_bearer_parse("Bearer ") == NULL);
    EXPECT(ht_bearer_parse("Bearer a b") == NULL && ht_bearer_parse("Bearer =") == NULL);
    EXPECT(ht_bearer_parse("Bearer a=b") == NULL && ht_bearer_parse("Basic x") == NULL);
    EXPECT(ht_bearer_parse("Bearer a\"") == NULL && ht_bearer_parse("Bearers a") == NULL);
}
