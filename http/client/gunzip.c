/*
 * gunzip.c -- bodies that come compressed, if the client asks for that.
 *
 * Only where the client itself has asked (not the caller, by a field of its own), so nobody is
 * surprised by what a body means.  Content-Encoding and Content-Length, which speak of the
 * compressed bytes, are taken from the head.  A body may be several gzip members, one behind
 * another; what is behind them must be nothing.
 *
 * A few bytes may become gigabytes: the limit of bh_http_res_body counts what comes out.
 */

#include "hc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <zlib.h>

#include <bulkhead/go/panic.h>

struct hc_gunzip {
    z_stream      z;
    bool          between; /* members, or before the first */
    bool          over;
    unsigned char in[8192];
};

bool
hc_gunzip_asks(const struct hc_res *x)
{
    return x->c->o.gzip && strcmp(x->method, "HEAD") != 0 &&
           hc_request_header(x->req, "Accept-Encoding") == NULL &&
           hc_request_header(x->req, "Range") == NULL;
}

static void
remove_field(struct hc_head *h, const char *name)
{
    unsigned kept = 0;

    for (unsigned i = 0; i < h->field_count; i++)
        if (!ht_name_is(&h->fields[i], name, strlen(name)))
            h->fields[kept++] = h->fields[i];
    h->field_count = kept;
}

void
hc_gunzip_start(struct hc_res *x)
{
    const char       *coding = bh_http_res_header(&x->pub, "Content-Encoding");
    struct hc_gunzip *g;

    if (x->done || coding == NULL || strcasecmp(coding, "gzip") != 0 || !hc_gunzip_asks(x))
        return;
    g = calloc(1, sizeof *g);
    if (g == NULL || inflateInit2(&g->z, 16 + MAX_WBITS) != Z_OK) {
        free(g);
        bh_panic("http: out of memory for a compressed body");
    }
    g->between = true;
    x->gunzip = g;
    x->pub.length = -1;
    remove_field(&x->head, "Content-Encoding");
    remove_field(&x->head, "Content-Length");
}

void
hc_gunzip_free(struct hc_res *x)
{
    if (x->gunzip == NULL)
        return;
    (void)inflateEnd(&x->gunzip->z);
    free(x->gunzip);
    x->gunzip = NULL;
}

/* Returns: 1; 0 if the body is over, between members; or an error. */
static ssize_t
more_input(struct hc_res *x)
{
    struct hc_gunzip *g = x->gunzip;
    ssize_t           n;

    if (g->z.avail_in > 0)
        return 1;
    n = hc_read_body(x, g->in, sizeof g->in);
    if (n < 0)
        return n;
    if (n == 0 && !g->between)
        return bh_fail(-EBADMSG, "http: compressed body from %s is cut short",
                       x->url.authority);
    g->z.next_in = g->in;
    g->z.avail_in = (uInt)n;
    return n > 0;
}

ssize_t
hc_gunzip_read(struct hc_res *x, void *buffer, size_t size)
{
    struct hc_gunzip *g = x->gunzip;
    size_t            room = size < UINT32_MAX ? size : UINT32_MAX;

    g->z.next_out = buffer;
    g->z.avail_out = (uInt)room;
    while (!g->over && g->z.avail_out == room) {
        ssize_t more = more_input(x);
        int     rc;

        if (more < 0)
            return more;
        if (more == 0) {
            g->over = true;
            break;
        }
        g->between = false;
        rc = inflate(&g->z, Z_NO_FLUSH);
        if (rc == Z_STREAM_END) {
            g->between = true;
            rc = inflateReset(&g->z);
        }
        if (rc != Z_OK && rc != Z_BUF_ERROR)
            return bh_fail(-EBADMSG, "http: compressed body from %s is malformed",
                           x->url.authority);
    }
    return (ssize_t)(room - g->z.avail_out);
}
