#ifndef BULKHEAD_HTTP_TLS_PRIVATE_H
#define BULKHEAD_HTTP_TLS_PRIVATE_H

/*
 * tls.h -- PRIVATE: between connections (tls.c) and configurations (tls_config.c).
 */

#include <openssl/ssl.h>

#include <bulkhead/http/tls.h>

/* What a configuration's files held when they were last read; connections keep theirs. */
struct tls_state;

enum tls_role { TLS_SERVER, TLS_CLIENT };

/*
 * tls_config_state -- the state of now.  c NULL: the default one of a client.
 * Returns: 0; -EINVAL for a server without a certificate; what reading files says.
 * Owns:    a reference.
 */
int      tls_config_state(struct bh_tls_config *c, enum tls_role role, struct tls_state **state);
/* tls_config_offer -- protocols for a configuration that names none and was not used yet. */
void     tls_config_offer(struct bh_tls_config *c, const char *list);
void     tls_state_unref(struct tls_state *s);
SSL_CTX *tls_state_context(struct tls_state *s);

#endif
