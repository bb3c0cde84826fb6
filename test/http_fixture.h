#ifndef BULKHEAD_TEST_HTTP_FIXTURE_H
#define BULKHEAD_TEST_HTTP_FIXTURE_H

/*
 * http_fixture.h -- for tests of HTTP: a server on a port of its own, and a client that sends
 * bytes as given and looks at the bytes that come back.
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/server.h>

#include "test.h"

/* Not every test uses all of it. */
#define FIXTURE static __attribute__((unused))

struct fixture {
    struct bh_http_server *s;
    struct bh_chan        *done; /* what bh_http_serve returned */
};

struct fixture_serve { struct fixture *f; };

FIXTURE void
fixture_serve(void *args)
{
    struct fixture *f = ((struct fixture_serve *)args)->f;
    int rc = bh_http_serve(bh_ctx_background(), f->s);

    bh_send(f->done, &rc);
}

/* Middleware and routes are in place: listen and serve. */
FIXTURE void
fixture_start(struct fixture *f)
{
    EXPECT_EQ(bh_http_listen(f->s, "127.0.0.1:0"), 0);
    f->done = BH_CHAN(int, 1);
    bh_go(fixture_serve, &(struct fixture_serve){ f });
}

/* Returns: what bh_http_serve did. */
FIXTURE int
fixture_stop(struct fixture *f)
{
    int rc = -1;

    bh_http_stop(f->s);
    bh_recv(f->done, &rc);
    bh_chan_unref(f->done);
    bh_http_server_free(f->s);
    return rc;
}

FIXTURE struct bh_conn *
fixture_dial(struct fixture *f)
{
    struct bh_conn *c = NULL;

    EXPECT_EQ(bh_dial(bh_ctx_background(), bh_http_address(f->s), &c), 0);
    bh_conn_set_deadline(c, bh_now() + 5 * BH_SECOND);
    return c;
}

FIXTURE void
send_text(struct bh_conn *c, const char *text)
{
    size_t size = strlen(text);

    EXPECT_EQ(bh_write(c, text, size), size);
}

/* Everything until the server closes, NUL-terminated.  Returns: the last result of reading. */
FIXTURE ssize_t
read_to_end(struct bh_conn *c, char *text, size_t size)
{
    size_t used = 0;
    ssize_t n;

    do {
        n = bh_read(c, text + used, size - 1 - used);
        used += n > 0 ? (size_t)n : 0;
    } while (n > 0 && used < size - 1);
    text[used] = '\0';
    return n;
}

/* One reply with a Content-Length, and not a byte more. */
FIXTURE void
read_reply(struct bh_conn *c, char *text, size_t size)
{
    size_t used = 0, body = 0;
    const char *length;

    do {
        EXPECT(used < size - 1);
        EXPECT_EQ(bh_read(c, text + used, 1), 1);
        text[++used] = '\0';
    } while (used < 4 || strcmp(text + used - 4, "\r\n\r\n") != 0);
    length = strstr(text, "Content-Length: ");
    if (length != NULL)
        body = (size_t)strtoul(length + 16, NULL, 10);
    EXPECT(used + body < size);
    if (body > 0)
        EXPECT_EQ(bh_read_full(c, text + used, body), body);
    text[used + body] = '\0';
}

/* Send text on a connection of its own; read until it closes.  Returns: the last read's result. */
FIXTURE ssize_t
talk(struct fixture *f, const char *text, char *answer, size_t size)
{
    struct bh_conn *c = fixture_dial(f);
    ssize_t n;

    send_text(c, text);
    (void)bh_conn_shutdown_write(c);
    n = read_to_end(c, answer, size);
    bh_conn_free(c);
    return n;
}

FIXTURE bool
starts_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

FIXTURE const char *
body_of(const char *reply)
{
    const char *end = strstr(reply, "\r\n\r\n");

    return end != NULL ? end + 4 : "";
}

FIXTURE int
count_of(const char *text, const char *part)
{
    int n = 0;

    for (const char *p = strstr(text, part); p != NULL; p = strstr(p + 1, part))
        n++;
    return n;
}

#define EXPECT_STARTS(text, start)                                                             \
    (starts_with((text), (start))                                                              \
         ? (void)0                                                                             \
         : test_failed(__FILE__, __LINE__, "%s starts with \"%.200s\", not \"%s\"", #text,     \
                       (text), (start)))
#define EXPECT_HAS(text, part)                                                                 \
    (strstr((text), (part)) != NULL                                                            \
         ? (void)0                                                                             \
         : test_failed(__FILE__, __LINE__, "%s is \"%.600s\", without \"%s\"", #text, (text),  \
                       (part)))

#endif
