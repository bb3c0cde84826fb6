/*
 * proxy_parse.c -- the header of the PROXY protocol, strictly.
 *
 *     1:  "PROXY TCP4 192.0.2.1 198.51.100.2 50312 443\r\n", at most 107 bytes
 *     2:  a signature of 12 bytes, version and command, family, the length of the rest;
 *         addresses; then extras of type, length and value
 *
 * Nothing of it is guessed at: whoever is to send a header and sends something else is
 * refused.  Extras are not used, but must fill the rest exactly, and a checksum among
 * them must be right.
 */

#include "proxy.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

enum { LINE_MAX_1 = 107, FIXED_2 = 16 };
enum { INET = 1, INET6 = 2, UNIX = 3 };

static const uint8_t signature[12] = "\r\n\r\n\0\r\nQUIT\n";

static long
bad(struct ht_proxy *p, const char *why)
{
    p->known = false;
    p->why = why;
    return -1;
}

static void
put_peer(struct ht_proxy *p, int family, const void *address, unsigned port)
{
    char text[INET6_ADDRSTRLEN];

    (void)inet_ntop(family, address, text, sizeof text);
    (void)snprintf(p->peer, sizeof p->peer, family == AF_INET6 ? "[%s]:%u" : "%s:%u", text,
                   port);
    p->known = true;
}

/* ---- version 1 ------------------------------------------------------------------- */

/* The word at *at, which ends before a single space or the end; *at goes behind that. */
static bool
next_word(const char **at, char *word, size_t size)
{
    size_t n = strcspn(*at, " ");

    if (n == 0 || n >= size)
        return false;
    memcpy(word, *at, n);
    word[n] = '\0';
    *at += n;
    if (**at == ' ')
        (*at)++;
    return true;
}

/* 0 to 65535, without a needless zero.  Returns: -1 if it is none. */
static long
read_port(const char *word)
{
    long   port = 0;
    size_t n = strspn(word, "0123456789");

    if (n == 0 || n > 5 || word[n] != '\0' || (word[0] == '0' && n > 1))
        return -1;
    for (size_t i = 0; i < n; i++)
        port = port * 10 + (word[i] - '0');
    return port <= 65535 ? port : -1;
}

/* Behind "PROXY ", without its end. */
static long
parse_line(struct ht_proxy *p, const char *at)
{
    char    kind[8], source[48], target[48], source_port[8], target_port[8];
    uint8_t address[16], other[16];
    int     family;
    long    port;

    if (!next_word(&at, kind, sizeof kind))
        return bad(p, "PROXY header without a protocol");
    if (strcmp(kind, "UNKNOWN") == 0)
        return 0;
    if (strcmp(kind, "TCP4") != 0 && strcmp(kind, "TCP6") != 0)
        return bad(p, "PROXY header of an unknown protocol");
    family = kind[3] == '4' ? AF_INET : AF_INET6;
    if (!next_word(&at, source, sizeof source) || !next_word(&at, target, sizeof target) ||
        inet_pton(family, source, address) != 1 || inet_pton(family, target, other) != 1)
        return bad(p, "PROXY header with a bad address");
    if (!next_word(&at, source_port, sizeof source_port) ||
        !next_word(&at, target_port, sizeof target_port) || *at != '\0' || at[-1] == ' ' ||
        (port = read_port(source_port)) < 0 || read_port(target_port) < 0)
        return bad(p, "PROXY header with a bad port");
    put_peer(p, family, address, (unsigned)port);
    return 0;
}

static long
parse_1(struct ht_proxy *p, const uint8_t *data, size_t size)
{
    size_t         n = size < LINE_MAX_1 ? size : LINE_MAX_1, length;
    const uint8_t *end = memchr(data, '\n', n);
    char           line[LINE_MAX_1];

    if (end == NULL)
        return n < LINE_MAX_1 ? 0 : bad(p, "PROXY header too long");
    length = (size_t)(end - data);
    if (length < 7 || end[-1] != '\r' || memchr(data, '\0', length) != NULL ||
        memchr(data, '\r', length - 1) != NULL)
        return bad(p, "PROXY header with a bad end");
    memcpy(line, data, length - 1);
    line[length - 1] = '\0';
    return parse_line(p, line + 6) < 0 ? -1 : (long)length + 1;
}

/* ---- version 2 ------------------------------------------------------------------- */

/* CRC-32C of data, where the four bytes at `hole` count as zero. */
static uint32_t
checksum(const uint8_t *data, size_t size, size_t hole)
{
    uint32_t crc = UINT32_MAX;

    for (size_t i = 0; i < size; i++) {
        crc ^= i - hole < 4 ? 0 : data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0x82f63b78 & (0 - (crc & 1)));
    }
    return ~crc;
}

/* Whether the extras from `at` on are whole, and the checksum among them right. */
static bool
check_extras(const uint8_t *data, size_t at, size_t size)
{
    enum { CRC32C = 3 };

    while (at < size) {
        size_t length;

        if (size - at < 3)
            return false;
        length = (size_t)data[at + 1] << 8 | data[at + 2];
        if (length > size - at - 3)
            return false;
        if (data[at] == CRC32C) {
            const uint8_t *c = data + at + 3;

            if (length != 4 || checksum(data, size, at + 3) !=
                                   ((uint32_t)c[0] << 24 | c[1] << 16 | c[2] << 8 | c[3]))
                return false;
        }
        at += 3 + length;
    }
    return true;
}

/* A path from somebody else's machine will stand in logs. */
static void
put_unix_peer(struct ht_proxy *p, const uint8_t path[108])
{
    size_t n = (size_t)snprintf(p->peer, sizeof p->peer, "unix:");

    for (size_t i = 0; i < 108 && (path[i] != '\0' || i == 0); i++)
        p->peer[n++] = path[i] == '\0'                   ? '@'
                       : path[i] > ' ' && path[i] < 0x7f ? (char)path[i]
                                                         : '?';
    if (n == 6 && path[0] == '\0') /* no name at all */
        n--;
    p->peer[n] = '\0';
    p->known = true;
}

static long
parse_2(struct ht_proxy *p, const uint8_t *data, size_t size)
{
    static const size_t sizes[] = { [INET] = 12, [INET6] = 36, [UNIX] = 216 };
    unsigned            command, family, transport;
    size_t              length;
    const uint8_t      *at = data + FIXED_2;

    if (size < FIXED_2)
        return 0;
    command = data[12];
    family = data[13] >> 4;
    transport = data[13] & 15;
    length = FIXED_2 + ((size_t)data[14] << 8 | data[15]);
    if (command != 0x20 && command != 0x21)
        return bad(p, "PROXY header of an unknown version or command");
    if (family > UNIX || transport > 2)
        return bad(p, "PROXY header of an unknown family");
    if (length > HT_PROXY_MAX)
        return bad(p, "PROXY header too long");
    if (size < length)
        return 0;
    if (command == 0x20 || family == 0 || transport != 1) /* its own, or nothing for us */
        return (long)length;
    if (length - FIXED_2 < sizes[family])
        return bad(p, "PROXY header too short for its addresses");
    if (!check_extras(data, FIXED_2 + sizes[family], length))
        return bad(p, "PROXY header with malformed extras");
    if (family == UNIX)
        put_unix_peer(p, at);
    else if (family == INET)
        put_peer(p, AF_INET, at, (unsigned)at[8] << 8 | at[9]);
    else
        put_peer(p, AF_INET6, at, (unsigned)at[32] << 8 | at[33]);
    return (long)length;
}

/* ---- either ------------------------------------------------------------------------ */

static bool
begins_with(const uint8_t *data, size_t size, const void *start, size_t length)
{
    return memcmp(data, start, size < length ? size : length) == 0;
}

long
ht_proxy_parse(struct ht_proxy *p, const uint8_t *data, size_t size)
{
    *p = (struct ht_proxy){ 0 };
    if (begins_with(data, size, signature, sizeof signature))
        return parse_2(p, data, size);
    if (begins_with(data, size, "PROXY ", 6))
        return parse_1(p, data, size);
    return bad(p, "no PROXY header");
}

size_t
ht_proxy_want(const uint8_t *data, size_t size)
{
    if (size < 12)
        return 12 - size; /* neither is shorter */
    if (data[0] != signature[0])
        return 1;
    if (size < FIXED_2)
        return FIXED_2 - size;
    return FIXED_2 + ((size_t)data[14] << 8 | data[15]) - size;
}
