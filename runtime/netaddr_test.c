/* netaddr_test.c -- addresses from text and back. */

#include "test.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include <bulkhead/go/error.h>

#include "netaddr.h"

static const struct rt_want STREAM = { .type = SOCK_STREAM };
static const struct rt_want LISTEN = { .type = SOCK_STREAM, .passive = true };

/* expect_text -- `address` is one socket address, whose text is `text`. */
static void
expect_text(const char *address, const char *text)
{
    struct rt_addr list[RT_ADDR_MAX];
    char           got[RT_ADDR_TEXT];

    EXPECT_EQ(rt_addr_resolve(NULL, address, STREAM, list), 1);
    rt_addr_text(&list[0], got, sizeof got);
    EXPECT_STR(got, text);
}

static void
expect_refused(const char *address, const char *note)
{
    struct rt_addr list[RT_ADDR_MAX];

    EXPECT_EQ(rt_addr_resolve(NULL, address, STREAM, list), -EINVAL);
    EXPECT_STR(bh_error_note(), note);
}

TEST_PLAIN(netaddr, literals_survive_the_round_trip)
{
    expect_text("127.0.0.1:80", "127.0.0.1:80");
    expect_text("255.255.255.255:65535", "255.255.255.255:65535");
    expect_text("[::1]:8080", "[::1]:8080");
    expect_text("[2001:db8::1]:0", "[2001:db8::1]:0");
    expect_text("[2001:0db8:0:0:0:0:0:1]:1", "[2001:db8::1]:1");
    expect_text("unix:/run/x.sock", "unix:/run/x.sock");
    expect_text("unix:relative", "unix:relative");
    expect_text("unix:@name", "unix:@name");
    expect_text("127.0.0.1:", "127.0.0.1:0");
}

TEST_PLAIN(netaddr, zone_of_an_interface_is_kept)
{
    expect_text("[fe80::1%lo]:80", "[fe80::1%lo]:80");
    expect_text("[fe80::1%1]:80", "[fe80::1%lo]:80");
}

TEST_PLAIN(netaddr, no_host_is_this_machine_to_dial)
{
    expect_text(":80", "127.0.0.1:80");
}

TEST_PLAIN(netaddr, no_host_is_all_interfaces_to_listen_on)
{
    struct rt_addr list[RT_ADDR_MAX];
    char           text[RT_ADDR_TEXT];

    EXPECT_EQ(rt_addr_resolve(NULL, ":80", LISTEN, list), 2);
    rt_addr_text(&list[0], text, sizeof text);
    EXPECT_STR(text, "[::]:80");
    rt_addr_text(&list[1], text, sizeof text);
    EXPECT_STR(text, "0.0.0.0:80");
}

TEST_PLAIN(netaddr, mapped_ipv4_is_written_as_ipv4)
{
    struct rt_addr a = { .length = sizeof a.u.v6 };
    char           text[RT_ADDR_TEXT];

    a.u.v6.sin6_family = AF_INET6;
    a.u.v6.sin6_port = htons(80);
    EXPECT_EQ(inet_pton(AF_INET6, "::ffff:10.1.2.3", &a.u.v6.sin6_addr), 1);
    rt_addr_text(&a, text, sizeof text);
    EXPECT_STR(text, "10.1.2.3:80");
}

TEST_PLAIN(netaddr, malformed_addresses_are_refused_by_name)
{
    expect_refused("", "address : missing port in address");
    expect_refused("localhost", "address localhost: missing port in address");
    expect_refused("::1:80", "address ::1:80: too many colons in address");
    expect_refused("[::1]", "address [::1]: missing port in address");
    expect_refused("[::1]80", "address [::1]80: missing port in address");
    expect_refused("[::1:80", "address [::1:80: missing ']' in address");
    expect_refused("[::1]:80:90", "address [::1]:80:90: too many colons in address");
    expect_refused("1.2.3.4:65536", "address 65536: invalid port");
    expect_refused("1.2.3.4:99999999999999999999", "address 99999999999999999999: invalid port");
    expect_refused("unix:", "address unix: missing path");
}

TEST_PLAIN(netaddr, overlong_parts_are_refused)
{
    struct rt_addr list[RT_ADDR_MAX];
    char           text[1000];

    memset(text, 'a', sizeof text);
    memcpy(text + sizeof text - 4, ":80", 4);
    EXPECT_EQ(rt_addr_resolve(NULL, text, STREAM, list), -EINVAL);
    text[0] = ':';
    memset(text + 1, 'b', sizeof text - 2);
    text[sizeof text - 1] = '\0';
    EXPECT_EQ(rt_addr_resolve(NULL, text, STREAM, list), -EINVAL);
}

TEST_PLAIN(netaddr, longest_unix_path_fits_and_one_more_byte_does_not)
{
    struct rt_addr list[RT_ADDR_MAX];
    char           path[200] = "unix:", text[RT_ADDR_TEXT];

    memset(path + 5, 'x', 107);
    EXPECT_EQ(rt_addr_resolve(NULL, path, STREAM, list), 1);
    rt_addr_text(&list[0], text, sizeof text);
    EXPECT_STR(text, path);
    path[5 + 107] = 'x';
    EXPECT_EQ(rt_addr_resolve(NULL, path, STREAM, list), -ENAMETOOLONG);
}

TEST_PLAIN(netaddr, text_is_cut_to_the_room_there_is)
{
    struct rt_addr list[RT_ADDR_MAX];
    char           text[6];

    EXPECT_EQ(rt_addr_resolve(NULL, "127.0.0.1:80", STREAM, list), 1);
    rt_addr_text(&list[0], text, sizeof text);
    EXPECT_STR(text, "127.0");
}
