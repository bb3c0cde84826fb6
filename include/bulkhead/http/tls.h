#ifndef BULKHEAD_HTTP_TLS_H
#define BULKHEAD_HTTP_TLS_H

/*
 * tls.h -- TLS 1.2 and 1.3 over a connection, for goroutines; see bh_http_listen_tls for a server.
 *
 *     struct bh_tls_config *config = bh_tls_config_new();
 *     BH_DEFER(bh_tls_config_unref, config);
 *     int err = bh_tls_config_add_certificate(config, "server.pem", "server.key");
 *     if (err == 0)
 *         err = bh_http_listen_tls(server, ":8443", config);
 *     ...
 *     bh_tls_config_reload(config);       new files: new connections get them
 *
 * Errors: as those of the connection below; -EPROTO if the peer does not keep to TLS or is
 * not to be trusted; BH_EEOF if it ended the connection without saying so, as somebody on
 * the way could have: what was read before may be cut short.  Each with a note.
 */

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct bh_conn;
struct bh_tls;
struct bh_tls_config;

/* ---- configurations ----------------------------------------------------------------
 *
 * Set one up, then use it for any number of connections, on any goroutine; from its first use
 * on only bh_tls_config_reload changes it.
 */

/*
 * bh_tls_config_new -- Owns: the caller has a reference; bh_tls_config_unref (NULL is a
 * no-op) gives it back.
 */
struct bh_tls_config *bh_tls_config_new(void);
struct bh_tls_config *bh_tls_config_ref(struct bh_tls_config *c);
void                  bh_tls_config_unref(struct bh_tls_config *c);

/*
 * bh_tls_config_add_certificate -- a certificate with its chain, and its key, in PEM files.
 *
 * Of several, a server presents the first that covers the name the client asks for, or
 * the first of all.  A client presents its own if the server asks.
 * Returns: 0; -errno if a file can't be read; -EINVAL if it holds something else, or the key is
 *          another's.
 */
int bh_tls_config_add_certificate(struct bh_tls_config *c, const char *certificate_file,
                                  const char *key_file);

/* bh_tls_config_trust -- trust these authorities (a PEM file) instead of the system's.  Returns: as above. */
int bh_tls_config_trust(struct bh_tls_config *c, const char *ca_file);

/* bh_tls_config_ask_client -- a server asks clients for a certificate that bh_tls_config_trust covers. */
enum bh_tls_ask { BH_TLS_ASK_NOTHING, BH_TLS_ASK_OPTIONAL, BH_TLS_ASK_REQUIRED };
void bh_tls_config_ask_client(struct bh_tls_config *c, enum bh_tls_ask ask);

/*
 * bh_tls_config_set_protocols -- for ALPN, best first: "h2,http/1.1", which is what
 * bh_http_listen_tls offers without.  Panics: on a bad list.
 */
void bh_tls_config_set_protocols(struct bh_tls_config *c, const char *list);
/* bh_tls_config_require_tls13 -- no TLS 1.2. */
void bh_tls_config_require_tls13(struct bh_tls_config *c);
/* bh_tls_config_trust_anybody -- a client checks nothing.  For tests. */
void bh_tls_config_trust_anybody(struct bh_tls_config *c);

/*
 * bh_tls_config_reload -- read all files again, for connections from now on.
 * Returns: 0; as bh_tls_config_add_certificate, everything staying as it was.
 */
int bh_tls_config_reload(struct bh_tls_config *c);

/* ---- connections ----------------------------------------------------------------- */

/*
 * bh_tls_server, bh_tls_client -- TLS over conn, which stays the caller's and must live longer.
 *
 * server_name: what the certificate must be for, and what is asked for: a host name or an
 * address.  config NULL: the system's authorities, no certificate, no ALPN.
 * Returns: 0; -EINVAL if a server's config has no certificate.
 * Owns:    *tls is the caller's, until bh_tls_free.
 */
int bh_tls_server(struct bh_tls_config *c, struct bh_conn *conn, struct bh_tls **tls);
int bh_tls_client(struct bh_tls_config *c, struct bh_conn *conn, const char *server_name,
                  struct bh_tls **tls);
void bh_tls_free(struct bh_tls *t);

/*
 * bh_tls_handshake -- agree; the first read or write does it too.
 * Returns: 0; -EPROTO; BH_EEOF; -EPROTONOSUPPORT if the peer speaks HTTP in the clear.
 * Blocks:  for the peer, until conn's deadlines.
 */
int bh_tls_handshake(struct bh_tls *t);

/*
 * As bh_read, bh_try_read and bh_write, and with conn's deadlines.  One goroutine may read
 * while another writes.
 */
ssize_t bh_tls_read(struct bh_tls *t, void *buffer, size_t size);
ssize_t bh_tls_try_read(struct bh_tls *t, void *buffer, size_t size);
ssize_t bh_tls_write(struct bh_tls *t, const void *data, size_t size);

/* bh_tls_pending -- whether there is input that waiting for conn to be readable would miss. */
bool bh_tls_pending(struct bh_tls *t);
/* bh_tls_shutdown -- tell the peer that this was all; reading goes on.  Returns: 0 or an error. */
int bh_tls_shutdown(struct bh_tls *t);

/* What was agreed; text in t.  "" for no protocol, and NULL for no or no trusted certificate of the peer. */
const char *bh_tls_alpn(struct bh_tls *t);    /* the protocol: "h2" */
const char *bh_tls_version(struct bh_tls *t);  /* "TLSv1.3" */
const char *bh_tls_peer(struct bh_tls *t);     /* its certificate's subject, "CN=client,O=Example" */
bool        bh_tls_resumed(struct bh_tls *t);  /* an earlier session, without certificates */

#endif
