#ifndef BULKHEAD_HTTP_TLS_H
#define BULKHEAD_HTTP_TLS_H

/* tls.h -- TLS over a connection. */

#include <stddef.h>
#include <sys/types.h>

struct bh_conn;
struct bh_tls;
struct bh_tls_config;

struct bh_tls_config *bh_tls_config_ref(struct bh_tls_config *c);
void                  bh_tls_config_unref(struct bh_tls_config *c);

int         bh_tls_server(struct bh_tls_config *c, struct bh_conn *conn, struct bh_tls **tls);
int         bh_tls_handshake(struct bh_tls *t);
ssize_t     bh_tls_read(struct bh_tls *t, void *buffer, size_t size);
ssize_t     bh_tls_try_read(struct bh_tls *t, void *buffer, size_t size);
ssize_t     bh_tls_write(struct bh_tls *t, const void *data, size_t size);
size_t      bh_tls_pending(struct bh_tls *t);
const char *bh_tls_alpn(struct bh_tls *t);
int         bh_tls_shutdown(struct bh_tls *t);
void        bh_tls_free(struct bh_tls *t);

#endif
