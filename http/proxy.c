/*
 * proxy.c -- who connects, as the PROXY protocol says.
 *
 * Only the sources in options.proxy_protocol send a header, and they must; from all others
 * it would be a way to lie about one's address, and is read as the bad request it is.
 * It comes before TLS, so not a byte behind it may be taken from the socket if TLS is to
 * read on from there.
 */

#include "ht.h"
#include "middleware/fields.h"
#include "proxy.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool
is_source(const char *source, const char *peer)
{
    struct ht_address address;
    struct ht_block   block;

    if (strcmp(source, "unix") == 0)
        return strncmp(peer, "unix:", 5) == 0;
    return ht_block_parse(source, strlen(source), &block) &&
           ht_address_parse(peer, strlen(peer), &address) && ht_block_has(&block, &address);
}

static bool
sends_header(struct ht_conn *k)
{
    const char *const *source = k->s->o.proxy_protocol;

    while (source != NULL && *source != NULL && !is_source(*source, bh_conn_peer(k->io.conn)))
        source++;
    return source != NULL && *source != NULL;
}

void
ht_proxy_check(const char *const *sources)
{
    struct ht_block block;

    for (; sources != NULL && *sources != NULL; sources++)
        if (strcmp(*sources, "unix") != 0 &&
            !ht_block_parse(*sources, strlen(*sources), &block))
            bh_panic("http: \"%s\" is no source of the PROXY protocol", *sources);
}

/* More of the header, or in the clear of anything. */
static ssize_t
read_more(struct ht_conn *k, int64_t deadline)
{
    uint8_t *data = (uint8_t *)k->kit->in + k->in_start;
    size_t   want;
    ssize_t  n;

    if (k->from->tls == NULL)
        return ht_fill(k, deadline);
    want = ht_proxy_want(data, k->in_end - k->in_start);
    if (want > k->kit->in_size - k->in_end) /* then it is too long, as the parser will say */
        want = k->kit->in_size - k->in_end;
    bh_conn_set_read_deadline(k->io.conn, deadline);
    n = bh_read(k->io.conn, k->kit->in + k->in_end, want);
    if (n > 0)
        k->in_end += (uint32_t)n;
    return n;
}

int
ht_proxy_read(struct ht_conn *k)
{
    int64_t         deadline = bh_now() + k->s->o.head_timeout;
    struct ht_proxy p;
    long            length;

    if (!sends_header(k))
        return 0;
    while ((length = ht_proxy_parse(&p, (uint8_t *)k->kit->in + k->in_start,
                                    k->in_end - k->in_start)) == 0) {
        ssize_t n = read_more(k, deadline);

        if (n <= 0)
            return n < 0 ? (int)n : BH_EEOF;
    }
    if (length < 0)
        return bh_fail(-EPROTO, "http: %s", p.why);
    k->in_start += (uint32_t)length;
    k->peer = p.known ? strdup(p.peer) : NULL;
    return p.known && k->peer == NULL ? -ENOMEM : 0;
}
