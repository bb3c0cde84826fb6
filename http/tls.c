/* tls.c -- TLS over a connection: not there yet, every use says so. */
#include <bulkhead/http/tls.h>

#include <errno.h>

#include <bulkhead/go/error.h>

static int
missing(void)
{
    return bh_fail(-ENOTSUP, "tls: not built in");
}

struct bh_tls_config *
bh_tls_config_ref(struct bh_tls_config *c)
{
    return c;
}

void
bh_tls_config_unref(struct bh_tls_config *c)
{
    (void)c;
}

int
bh_tls_server(struct bh_tls_config *c, struct bh_conn *conn, struct bh_tls **tls)
{
    (void)c;
    (void)conn;
    *tls = NULL;
    return missing();
}

int
bh_tls_handshake(struct bh_tls *t)
{
    (void)t;
    return missing();
}

ssize_t
bh_tls_read(struct bh_tls *t, void *buffer, size_t size)
{
    (void)t;
    (void)buffer;
    (void)size;
    return missing();
}

ssize_t
bh_tls_try_read(struct bh_tls *t, void *buffer, size_t size)
{
    return bh_tls_read(t, buffer, size);
}

ssize_t
bh_tls_write(struct bh_tls *t, const void *data, size_t size)
{
    (void)t;
    (void)data;
    (void)size;
    return missing();
}

size_t
bh_tls_pending(struct bh_tls *t)
{
    (void)t;
    return 0;
}

const char *
bh_tls_alpn(struct bh_tls *t)
{
    (void)t;
    return "";
}

int
bh_tls_shutdown(struct bh_tls *t)
{
    (void)t;
    return missing();
}

void
bh_tls_free(struct bh_tls *t)
{
    (void)t;
}
