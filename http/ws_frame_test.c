/* ws_frame_test.c -- WebSocket frames, compression and its negotiation, from bytes to bytes. */
#include "ws_frame.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test.h"

/* What a stream of frames came to. */
struct heard {
    int    messages, controls, code;
    size_t size; /* of all messages, one behind the other */
    char   data[1 << 17], last_control[128];
    int    kinds[64], opcodes[64];
};

static struct heard heard;

/* Decode, seeing at most `step` more bytes at a time; compressed messages as they are. */
static const struct heard *
hear(struct ht_ws_decoder d, const void *bytes, size_t size, size_t step)
{
    uint8_t *at = memcpy(malloc(size + 1), bytes, size), *copy = at;
    size_t   seen = 0, start = 0, used;

    memset(&heard, 0, sizeof heard);
    for (;;) {
        enum ht_ws_step s = ht_ws_next(&d, at + start, seen - start, &used);
        size_t          n;

        start += used;
        if (s == HT_WS_BAD) {
            heard.code = d.code;
            break;
        } else if (s == HT_WS_END) {
            heard.kinds[heard.messages++ & 63] = d.kind;
        } else if (s == HT_WS_CONTROL) {
            memcpy(heard.last_control, d.control, d.control_size + 1u);
            heard.opcodes[heard.controls++ & 63] = d.opcode;
        } else if (s == HT_WS_DATA && start < seen) {
            n = seen - start < d.left ? seen - start : (size_t)d.left;
            if (!ht_ws_take(&d, heard.data + heard.size, at + start, n)) {
                heard.code = d.code;
                break;
            }
            heard.size += n;
            start += n;
        } else if (seen == size) {
            break;
        } else {
            seen += size - seen < step ? size - seen : step;
        }
    }
    free(copy);
    return &heard;
}

static const struct ht_ws_decoder of_server = { .masked = true }, of_client = { 0 };
#define HEAR(d, bytes) hear((d), (bytes), sizeof(bytes) - 1, 1 << 20)

TEST_PLAIN(ws_frame, reads_the_examples_of_the_rfc)
{
    EXPECT_EQ(HEAR(of_client, "\x81\x05Hello")->messages, 1);
    EXPECT_STR(heard.data, "Hello");
    EXPECT_EQ(heard.kinds[0], HT_WS_TEXT);
    EXPECT_EQ(HEAR(of_server, "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58")->messages, 1);
    EXPECT_STR(heard.data, "Hello");
    EXPECT_EQ(HEAR(of_client, "\x01\x03Hel\x89\x05Hello\x80\x02lo")->messages, 1);
    EXPECT_STR(heard.data, "Hello");
    EXPECT_EQ(heard.controls, 1);
    EXPECT_EQ(heard.opcodes[0], HT_WS_PING);
    EXPECT_STR(heard.last_control, "Hello");
}

TEST_PLAIN(ws_frame, refuses_what_is_not_allowed_with_1002)
{
    static const struct {
        const char *what, *bytes;
        size_t      size;
    } cases[] = {
#define CASE(what, bytes) { what, bytes, sizeof(bytes) - 1 }
        CASE("a mask from a server", "\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58"),
        CASE("RSV1", "\xc1\x00"),
        CASE("RSV2", "\xa1\x00"),
        CASE("RSV3", "\x91\x00"),
        CASE("RSV1 of a ping", "\xc9\x00"),
        CASE("opcode 3", "\x83\x00"),
        CASE("opcode 7", "\x87\x00"),
        CASE("opcode 11", "\x8b\x00"),
        CASE("opcode 15", "\x8f\x00"),
        CASE("a ping in fragments", "\x09\x00"),
        CASE("a long ping", "\x89\x7e\x00\x7e"),
        CASE("a continuation of nothing", "\x80\x01x"),
        CASE("a continuation after the end", "\x81\x01x\x80\x01x"),
        CASE("a message in a message", "\x01\x01x\x81\x01x"),
        CASE("125 in two bytes", "\x82\x7e\x00\x7d"),
        CASE("65535 in eight bytes", "\x82\x7f\0\0\0\0\0\0\xff\xff"),
        CASE("2^63", "\x82\x7f\x80\0\0\0\0\0\0\0"),
        CASE("a close of one byte", "\x88\x01\x03"),
        CASE("close 999", "\x88\x02\x03\xe7"),
        CASE("close 1004", "\x88\x02\x03\xec"),
        CASE("close 1005", "\x88\x02\x03\xed"),
        CASE("close 1006", "\x88\x02\x03\xee"),
        CASE("close 1015", "\x88\x02\x03\xf7"),
        CASE("close 2999", "\x88\x02\x0b\xb7"),
        CASE("close 5000", "\x88\x02\x13\x88"),
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        if (hear(of_client, cases[i].bytes, cases[i].size, 1)->code != 1002)
            test_failed(__FILE__, __LINE__, "%s: %d", cases[i].what, heard.code);
    EXPECT_EQ(HEAR(of_server, "\x81\x05Hello")->code, 1002);
    EXPECT_EQ(HEAR(of_server, "\x81\x05")->code, 1002); /* told before the rest is there */
    EXPECT_EQ(HEAR(of_client, "\x88\x02\x03\xe8")->code, 0);
    EXPECT_EQ(HEAR(of_client, "\x88\x02\x0b\xb8")->code, 0);
    EXPECT_EQ(HEAR(of_client, "\x88\x03\x03\xe8\xff")->code, 1007);
}

TEST_PLAIN(ws_frame, reads_every_length_whatever_the_pieces)
{
    static const size_t  lengths[] = { 0, 1, 7, 8, 9, 125, 126, 127, 128, 65535, 65536, 70000 };
    static uint8_t       stream[80000], payload[70000];
    static const uint8_t mask[4] = { 0xde, 0xad, 0xbe, 0xef };

    for (size_t i = 0; i < sizeof payload; i++)
        payload[i] = (uint8_t)(i * 7 + i / 256);
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++)
        for (size_t step = 1; step <= 100000; step = step * 3 + 1) {
            size_t n = ht_ws_put_head(stream, true, false, HT_WS_BINARY, mask, lengths[i]);

            ht_ws_mask(stream + n, payload, lengths[i], mask, 0);
            (void)hear(of_server, stream, n + lengths[i], step);
            EXPECT_EQ(heard.messages, 1);
            EXPECT_EQ(heard.code, 0);
            EXPECT_EQ(heard.size, lengths[i]);
            EXPECT_EQ(memcmp(heard.data, payload, lengths[i]), 0);
        }
}

/* ---- UTF-8 ----------------------------------------------------------------------- */

/* The definition, slowly: decode, and look at what comes out. */
static bool
is_utf8(const uint8_t *p, size_t size)
{
    for (size_t i = 0; i < size;) {
        unsigned c = p[i++];
        unsigned more = c < 0x80 ? 0 : c < 0xc0 ? 9 : c < 0xe0 ? 1 : c < 0xf0 ? 2 : 3;
        static const unsigned least[] = { 0, 0x80, 0x800, 0x10000 };
        unsigned value = more == 0 ? c : more == 1 ? c & 0x1f : more == 2 ? c & 0xf : c & 7;

        if (more == 9 || c >= 0xf8 || more > size - i)
            return false;
        for (unsigned k = 0; k < more; k++, i++) {
            if ((p[i] & 0xc0) != 0x80)
                return false;
            value = value << 6 | (p[i] & 0x3f);
        }
        if (value < least[more] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
            return false;
    }
    return true;
}

TEST_PLAIN(ws_frame, knows_utf8_from_anything_else_at_every_split)
{
    static const uint8_t interesting[] = { 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0,
                                           0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee, 0xef,
                                           0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xf8, 0xff };
    enum { KINDS = sizeof interesting };
    uint8_t text[40];

    for (unsigned i = 0; i < KINDS * KINDS * KINDS * KINDS; i++) {
        unsigned which = i;
        size_t   at = i % 3 * 16; /* sometimes behind a run of ASCII */
        uint32_t whole = 0, split = 0;
        bool     ok;

        memset(text, 'a', sizeof text);
        for (unsigned k = 0; k < 4; k++, which /= KINDS)
            text[at + k] = interesting[which % KINDS];
        ok = ht_utf8_next(&whole, text, at + 4) && whole == 0;
        EXPECT_EQ(ok, is_utf8(text, at + 4));
        EXPECT_EQ(ht_utf8_next(&split, text, at + 1 + i % 3) &&
                      ht_utf8_next(&split, text + at + 1 + i % 3, 3 - i % 3) && split == 0,
                  ok);
    }
    EXPECT_EQ(HEAR(of_client, "\x81\x03\xe2\x82\xac")->code, 0);
    EXPECT_EQ(HEAR(of_client, "\x01\x01\xe2\x80\x02\x82\xac")->code, 0);
    EXPECT_EQ(HEAR(of_client, "\x81\x02\xe2\x82")->code, 1007);
    EXPECT_EQ(HEAR(of_client, "\x82\x02\xe2\x82")->code, 0);            /* binary */
    EXPECT_EQ(HEAR(of_client, "\x81\x7e\x10\x00\xed\xa0")->code, 1007); /* at once */
}

/* ---- compression ----------------------------------------------------------------- */

static size_t
deflated(struct ht_ws_zip *z, const void *data, size_t size, uint8_t *out, size_t room)
{
    size_t  total = 0;
    ssize_t n;

    ht_ws_deflate_feed(z, data, size);
    while ((n = ht_ws_deflate(z, out + total, room - total)) > 0)
        total += (size_t)n;
    EXPECT_EQ(n, 0);
    ht_ws_deflate_end(z);
    EXPECT_EQ(memcmp(out + total - 4, "\x00\x00\xff\xff", 4), 0);
    return total - 4;
}

/* Returns: bytes, or an error, of this or of the end; with at most `step` of room at a time. */
static ssize_t
inflated(struct ht_ws_zip *z, const void *data, size_t size, char *out, size_t room,
         size_t step)
{
    size_t  total = 0;
    ssize_t n;
    int     rc;

    for (int last = 0; last < 2; last++) {
        if (last)
            ht_ws_inflate_last(z);
        else
            ht_ws_inflate_feed(z, data, size);
        while ((n = ht_ws_inflate(z, out + total, room - total < step ? room - total : step)) >
               0)
            total += (size_t)n;
        if (n < 0)
            return n;
    }
    rc = ht_ws_inflate_end(z);
    return rc < 0 ? rc : (ssize_t)total;
}

TEST_PLAIN(ws_deflate, inflates_the_examples_of_the_rfc)
{
    struct ht_ws_zip z = { .bits = 15 };
    char             out[64] = "";

#define INFLATE(bytes) inflated(&z, bytes, sizeof(bytes) - 1, out, sizeof out, 3)
    EXPECT_EQ(INFLATE("\xf2\x48\xcd\xc9\xc9\x07\x00"), 5);
    EXPECT_STR(out, "Hello");
    memset(out, 0, sizeof out);
    EXPECT_EQ(INFLATE("\xf2\x00\x11\x00\x00"), 5); /* with the window of the first */
    EXPECT_STR(out, "Hello");
    memset(out, 0, sizeof out);
    EXPECT_EQ(INFLATE("\xf3\x48\xcd\xc9\xc9\x07\x00\x00"), 5); /* a block with BFINAL */
    EXPECT_STR(out, "Hello");
    memset(out, 0, sizeof out);
    EXPECT_EQ(INFLATE("\xf2\x00\x11\x00\x00"), 5); /* the window survives that */
    EXPECT_STR(out, "Hello");
    EXPECT_EQ(INFLATE("\x00\x05\x00\xfa\xffHello\x00"), 5); /* not compressed */
    EXPECT_EQ(INFLATE("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00"),
              5); /* two blocks */
    EXPECT_EQ(INFLATE("\x00"), 0);
    EXPECT_EQ(INFLATE("\xf2\x48\xcd"), -EBADMSG); /* breaks off */
    ht_ws_inflate_free(&z);
    EXPECT_EQ(INFLATE("\xff\xff\xff"), -EBADMSG);
    ht_ws_inflate_free(&z);
#undef INFLATE
}

TEST_PLAIN(ws_deflate, what_is_deflated_inflates_with_every_window_and_memory)
{
    static char    data[60000], back[60001];
    static uint8_t small[70000];

    for (size_t i = 0; i < sizeof data; i++)
        data[i] = "the quick brown fox"[(i * i / 7 + i % 5) % 19];
    for (int bits = 9; bits <= 15; bits++)
        for (int forget = 0; forget < 2; forget++) {
            struct ht_ws_zip out = { .bits = bits, .forget = forget };
            struct ht_ws_zip in = { .bits = bits, .forget = forget };

            for (size_t size = 1; size <= sizeof data; size = size * 5 + 3) {
                size_t n = deflated(&out, data, size, small, sizeof small);

                EXPECT_EQ(out.open, !forget);
                EXPECT_EQ(inflated(&in, small, n, back, sizeof back, 1000), size);
                EXPECT_EQ(memcmp(back, data, size), 0);
                EXPECT_EQ(in.open, !forget);
            }
            ht_ws_deflate_free(&out);
            ht_ws_inflate_free(&in);
        }
}

/* ---- negotiation ----------------------------------------------------------------- */

TEST_PLAIN(ws_extension, chooses_the_first_offer_that_it_can_meet)
{
    static const struct ht_ws_terms all = { .bits_in = 15, .bits_out = 15 };
    static const struct ht_ws_terms small = { .bits_in = 10,
                                              .bits_out = 11,
                                              .forget_out = true };
    static const struct {
        const char               *offer, *answer; /* NULL: none */
        const struct ht_ws_terms *want;
    } cases[] = {
        { "permessage-deflate", "permessage-deflate", &all },
        { "x-webkit-deflate-frame, permessage-deflate; client_max_window_bits",
          "permessage-deflate", &all },
        { "permessage-deflate; client_max_window_bits",
          "permessage-deflate; server_no_context_takeover; server_max_window_bits=11; "
          "client_max_window_bits=10",
          &small },
        { "permessage-deflate",
          "permessage-deflate; server_no_context_takeover; "
          "server_max_window_bits=11",
          &small },
        { "permessage-deflate; server_max_window_bits=10; client_no_context_takeover",
          "permessage-deflate; client_no_context_takeover; server_max_window_bits=10", &all },
        { "permessage-deflate; server_max_window_bits=\"12\"",
          "permessage-deflate; server_max_window_bits=12", &all },
        { "permessage-deflate;server_max_window_bits=8, permessage-deflate",
          "permessage-deflate", &all },
        { "permessage-deflate; server_max_window_bits=8", NULL, &all },
        { "permessage-deflate; server_max_window_bits=16", NULL, &all },
        { "permessage-deflate; server_max_window_bits=09", NULL, &all },
        { "permessage-deflate; server_max_window_bits", NULL, &all },
        { "permessage-deflate; client_max_window_bits=7", NULL, &all },
        { "permessage-deflate; client_no_context_takeover=1", NULL, &all },
        { "permessage-deflate; client_no_context_takeover; client_no_context_takeover", NULL,
          &all },
        { "permessage-deflate; unknown", NULL, &all },
        { "permessage-deflate; =", NULL, &all },
        { "permessage-deflate; a=\"b", NULL, &all },
        { "permessage-bzip2", NULL, &all },
        { "", NULL, &all },
        { " , ", NULL, &all },
    };

    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char               text[HT_WS_TERMS_SIZE] = "";
        struct ht_ws_terms terms;
        bool               found = ht_ws_choose(cases[i].offer, cases[i].want, &terms, text);

        EXPECT_STR(found ? text : NULL, cases[i].answer);
    }
}

TEST_PLAIN(ws_extension, a_client_takes_no_answer_that_it_did_not_offer)
{
    static const struct ht_ws_terms all = { .bits_in = 15, .bits_out = 15 };
    static const struct ht_ws_terms small = { .bits_in = 10,
                                              .bits_out = 15,
                                              .forget_in = true };
    struct ht_ws_terms              terms;
    char                            text[HT_WS_TERMS_SIZE];

    ht_ws_offer(&all, text);
    EXPECT_STR(text, "permessage-deflate; client_max_window_bits");
    ht_ws_offer(&small, text);
    EXPECT_STR(text, "permessage-deflate; server_no_context_takeover; client_max_window_bits; "
                     "server_max_window_bits=10");
    EXPECT(ht_ws_agree("permessage-deflate; client_max_window_bits=12", &all, &terms));
    EXPECT_EQ(terms.bits_out, 12);
    EXPECT(
        ht_ws_agree("permessage-deflate; server_no_context_takeover; server_max_window_bits=9",
                    &small, &terms));
    EXPECT(terms.forget_in && terms.bits_in == 9);
    EXPECT(!ht_ws_agree("permessage-deflate", &small, &terms));
    EXPECT(!ht_ws_agree("permessage-deflate; server_no_context_takeover; "
                        "server_max_window_bits=11",
                        &small, &terms));
    EXPECT(!ht_ws_agree("permessage-deflate; client_max_window_bits", &all, &terms));
    EXPECT(!ht_ws_agree("permessage-deflate, permessage-deflate", &all, &terms));
    EXPECT(!ht_ws_agree("x-other", &all, &terms));
    EXPECT(!ht_ws_agree("", &all, &terms));
}
