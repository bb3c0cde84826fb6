/*
 * http2_fuzz.c -- libFuzzer against the server's HTTP/2: frames behind the preface.
 *
 *     make fuzz-http2 FUZZ_SECONDS=20
 *
 * A whole server runs in the process, and each input is a connection to it.  The input is read as
 * frames: type, flags, stream (a byte each; the upper bits of the type make the stream's number
 * larger), length (a byte, times 64 if the flags have 0x40), payload.  So frames are complete, and what
 * libFuzzer changes is what they say.  A PING behind them tells when the server has seen them all.
 *
 * What is looked for: faults, sanitizers' complaints, a server that does not answer any more.
 */

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <bulkhead/go/chan.h>
#include <bulkhead/go/ctx.h>
#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/timer.h>
#include <bulkhead/http/server.h>

int LLVMFuzzerRunDriver(int *argc, char ***argv, int (*fn)(const uint8_t *data, size_t size));

static struct bh_http_server *server;

static int
echo(struct bh_http_call *c, void *arg)
{
    const char *data, *sum;
    ssize_t     size = bh_http_body(c, &data);

    (void)arg;
    if (size < 0)
        return (int)size;
    sum = bh_http_request_trailer(c, "sum");
    bh_http_start(c, 200, "text/plain", -1);
    (void)bh_http_write(c, data, (size_t)size);
    if (sum != NULL)
        (void)bh_http_trailer(c, "sum", sum);
    return 0;
}

static int
show(struct bh_http_call *c, void *arg)
{
    const char *name, *value;

    (void)arg;
    bh_http_start(c, 200, "text/plain", -1);
    for (unsigned i = 0; bh_http_header_at(c, i, &name, &value); i++)
        (void)bh_http_print(c, "%s: %s\n", name, value);
    return bh_http_flush(c);
}

static int
panics(struct bh_http_call *c, void *arg)
{
    (void)arg;
    (void)c;
    bh_panic("on purpose");
}

/* Returns: the end of the frames in out, or out if it has no room. */
static uint8_t *
make_frames(uint8_t *out, size_t room, const uint8_t *data, size_t size)
{
    uint8_t *at = out;

    while (size >= 4) {
        size_t length = (size_t)data[3] * ((data[1] & 0x40) != 0 ? 64 : 1);
        size_t have = length < size - 4 ? length : size - 4;

        if ((size_t)(at - out) + 9 + length > room)
            break;
        memset(at, 0, 9 + length);
        at[1] = (uint8_t)(length >> 8);
        at[2] = (uint8_t)length;
        at[3] = data[0] & 15;
        at[4] = data[1] & 0x3f;
        at[7] = data[0] >> 6;
        at[8] = data[2];
        memcpy(at + 9, data + 4, have);
        at += 9 + length;
        data += 4 + have;
        size -= 4 + have;
    }
    return at;
}

static bool
is_pong(const uint8_t *head, const uint8_t *payload)
{
    return head[3] == 6 && head[4] == 1 && memcmp(payload, "the end!", 8) == 0;
}

/* Until the answer to the last PING, or the server closes.  Returns: false if neither comes. */
static bool
read_answers(struct bh_conn *c)
{
    static uint8_t payload[1 << 16];
    uint8_t        head[9];

    for (;;) {
        size_t  size;
        ssize_t n = bh_read_full(c, head, sizeof head);

        if (n < 0)
            return n != BH_EDEADLINE;
        size = (size_t)head[0] << 16 | (size_t)head[1] << 8 | head[2];
        if (size > sizeof payload)
            return false;
        n = bh_read_full(c, payload, size);
        if (n < 0)
            return n != BH_EDEADLINE;
        if (size == 8 && is_pong(head, payload))
            return true;
    }
}

static int
run_one(const uint8_t *data, size_t size)
{
    static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0";
    static const char ping[] = "\0\0\x8\6\0\0\0\0\0the end!";
    static uint8_t    out[1 << 17];
    size_t            start = sizeof preface - 1;
    uint8_t          *end;
    struct bh_conn   *c;

    memcpy(out, preface, start);
    end = make_frames(out + start, sizeof out - start - 64, data, size);
    memcpy(end, ping, sizeof ping - 1);
    end += sizeof ping - 1;
    if (bh_dial(bh_ctx_background(), bh_http_address(server), &c) < 0)
        abort();
    bh_conn_set_deadline(c, bh_now() + 10 * BH_SECOND);
    if (bh_write(c, out, (size_t)(end - out)) > 0 && !read_answers(c))
        abort();
    bh_conn_free(c);
    return 0;
}

struct arguments {
    int    argc;
    char **argv;
};

static void
serve(void *args)
{
    (void)args;
    (void)bh_http_serve(bh_ctx_background(), server);
}

static void
drive(void *args)
{
    struct arguments *a = args;
    char              address[64];

    server = bh_http_server_new(
        &(struct bh_http_options){ .head_timeout = BH_SECOND, .body_timeout = BH_SECOND });
    bh_http_use(server, bh_http_recover, NULL);
    bh_http_handle(server, "GET /", show, NULL);
    bh_http_handle(server, "POST /echo", echo, NULL);
    bh_http_handle(server, "GET /panics", panics, NULL);
    snprintf(address, sizeof address, "unix:@bulkhead-fuzz-%d", (int)getpid());
    if (bh_http_listen(server, address) < 0)
        exit(1);
    bh_go(serve, NULL);
    exit(LLVMFuzzerRunDriver(&a->argc, &a->argv, run_one));
}

static void
start(void *args)
{
    struct bh_go_options o = { .stack_size = 4 << 20 };

    bh_go_with(&o, drive, (struct arguments *)args);
    bh_sleep(INT64_MAX);
}

int
main(int argc, char **argv)
{
    return bh_main(start, &(struct arguments){ argc, argv });
}
