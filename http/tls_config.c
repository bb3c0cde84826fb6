/*
 * tls_config.c -- what TLS connections are made from: certificates, authorities, tickets.
 *
 * A configuration is what was asked for; a state is what the files held: an SSL_CTX for each
 * certificate.  Reloading makes a new state and swaps it in only when all of it is good.
 * Connections hold a reference to theirs, so they end as they began.
 *
 * Session tickets are sealed with keys of the process, which outlive reloads.  A key seals
 * for twelve hours and opens for twelve more; so a ticket is good for at most a day, and
 * what is recorded today can't be opened by who takes the process tomorrow.
 *
 * config->lock protects its state pointer; tickets.lock the keys.
 */

#include "tls.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/go.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>
#include <bulkhead/go/timer.h>

enum { MAX_CERTIFICATES = 64, MAX_PROTOCOLS = 256 };

struct pair {
    char *certificate_file, *key_file;
};

struct bh_tls_config {
    _Atomic unsigned refs;
    struct pair      pairs[MAX_CERTIFICATES];
    int              pair_count;
    char            *ca_file;
    enum bh_tls_ask  ask;
    bool             tls13, anybody;
    unsigned char    protocols[MAX_PROTOCOLS]; /* each: its length, its bytes */
    unsigned         protocols_size;

    struct bh_mutex   lock;
    struct tls_state *state[2]; /* by role; NULL before the first use */
};

struct tls_state {
    _Atomic unsigned refs;
    SSL_CTX         *contexts[MAX_CERTIFICATES]; /* the first one is a connection's at first */
    int              count;
    unsigned char    protocols[MAX_PROTOCOLS];
    unsigned         protocols_size;
};

/* What OpenSSL says about its last failure, as a note. */
static int
fail(int code, const char *what, const char *file)
{
    unsigned long error = ERR_peek_last_error();
    const char   *reason = error != 0 ? ERR_reason_error_string(error) : NULL;

    ERR_clear_error();
    return bh_fail(code, "tls: %s %s: %s", what, file,
                   reason != NULL ? reason : strerror(-code));
}

static void *
need(void *memory)
{
    if (memory == NULL)
        bh_panic("tls: out of memory");
    return memory;
}

/* ---- tickets --------------------------------------------------------------------- */

enum { KEY_TIME_S = 12 * 3600 };

struct ticket_key {
    unsigned char name[16], cipher[32], mac[32];
    int64_t       made;
};

static struct {
    struct bh_mutex   lock;
    struct ticket_key keys[2]; /* the newer first; made 0: none */
} tickets;

/* Keys that are fresh enough.  Returns: false if there is no randomness. */
static bool
take_keys(struct ticket_key keys[2])
{
    int64_t now = bh_now();
    bool    good = true;

    bh_mutex_lock(&tickets.lock);
    if (tickets.keys[0].made == 0 || now - tickets.keys[0].made > KEY_TIME_S * BH_SECOND) {
        struct ticket_key k = { .made = now };

        good = RAND_bytes(k.name, sizeof k.name) == 1 &&
               RAND_bytes(k.cipher, sizeof k.cipher) == 1 &&
               RAND_bytes(k.mac, sizeof k.mac) == 1;
        tickets.keys[1] = tickets.keys[0];
        tickets.keys[0] = k;
    }
    memcpy(keys, tickets.keys, sizeof tickets.keys);
    bh_mutex_unlock(&tickets.lock);
    if (keys[1].made != 0 && now - keys[1].made > 2 * KEY_TIME_S * BH_SECOND)
        keys[1].made = 0;
    return good;
}

static bool
set_key(const struct ticket_key *k, const unsigned char *iv, EVP_CIPHER_CTX *cipher,
        EVP_MAC_CTX *mac, bool seal)
{
    OSSL_PARAM parameters[] = {
        OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)k->mac,
                                          sizeof k->mac),
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char[]){ "SHA256" }, 0),
        OSSL_PARAM_construct_end(),
    };

    return EVP_CipherInit_ex(cipher, EVP_aes_256_cbc(), NULL, k->cipher, iv, seal) == 1 &&
           EVP_MAC_CTX_set_params(mac, parameters) == 1;
}

/* Returns: 1; 2 to renew; 0 to do without; -1 on failure. */
static int
on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
          EVP_MAC_CTX *mac, int seal)
{
    struct ticket_key keys[2];
    int               at = 0;

    (void)ssl;
    if (!take_keys(keys))
        return -1;
    if (seal) {
        if (RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1)
            return -1;
        memcpy(name, keys[0].name, sizeof keys[0].name);
        return set_key(&keys[0], iv, cipher, mac, true) ? 1 : -1;
    }
    while (at < 2 &&
           (keys[at].made == 0 || memcmp(name, keys[at].name, sizeof keys[at].name) != 0))
        at++;
    if (at == 2)
        return 0;
    return !set_key(&keys[at], iv, cipher, mac, false) ? -1 : at == 0 ? 1 : 2;
}

/* ---- what the handshake asks ----------------------------------------------------- */

/* The certificate for the name that the client asks for, if it is not the first. */
static int
on_name(SSL *ssl, int *alert, void *arg)
{
    const struct tls_state *s = SSL_get_app_data(ssl);
    const char             *name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);

    (void)alert;
    (void)arg;
    for (int i = 0; name != NULL && i < s->count; i++)
        if (X509_check_host(SSL_CTX_get0_certificate(s->contexts[i]), name, 0, 0, NULL) == 1) {
            if (i > 0)
                (void)SSL_set_SSL_CTX(ssl, s->contexts[i]);
            break;
        }
    return SSL_TLSEXT_ERR_OK;
}

static int
on_protocols(SSL *ssl, const unsigned char **out, unsigned char *out_size,
             const unsigned char *offered, unsigned offered_size, void *arg)
{
    const struct tls_state *s = SSL_get_app_data(ssl);
    unsigned char          *chosen;

    (void)arg;
    if (s->protocols_size == 0)
        return SSL_TLSEXT_ERR_NOACK;
    if (SSL_select_next_proto(&chosen, out_size, s->protocols, s->protocols_size, offered,
                              offered_size) != OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_ALERT_FATAL;
    *out = chosen;
    return SSL_TLSEXT_ERR_OK;
}

/* ---- states ---------------------------------------------------------------------- */

void
tls_state_unref(struct tls_state *s)
{
    if (s == NULL || atomic_fetch_sub(&s->refs, 1) > 1)
        return;
    for (int i = 0; i < s->count; i++)
        SSL_CTX_free(s->contexts[i]);
    free(s);
}

SSL_CTX *
tls_state_context(struct tls_state *s)
{
    return s->contexts[0];
}

static int
load_pair(SSL_CTX *ctx, const struct pair *p)
{
    FILE *f = fopen(p->certificate_file, "re");

    if (f == NULL)
        return bh_fail(-errno, "tls: open %s: %s", p->certificate_file, strerror(errno));
    fclose(f);
    f = fopen(p->key_file, "re");
    if (f == NULL)
        return bh_fail(-errno, "tls: open %s: %s", p->key_file, strerror(errno));
    fclose(f);
    if (SSL_CTX_use_certificate_chain_file(ctx, p->certificate_file) != 1)
        return fail(-EINVAL, "certificate", p->certificate_file);
    if (SSL_CTX_use_PrivateKey_file(ctx, p->key_file, SSL_FILETYPE_PEM) != 1 ||
        SSL_CTX_check_private_key(ctx) != 1)
        return fail(-EINVAL, "key", p->key_file);
    return 0;
}

static int
load_authorities(const struct bh_tls_config *c, SSL_CTX *ctx, enum tls_role role)
{
    STACK_OF(X509_NAME) * names;

    if (c->ca_file == NULL) {
        if (role == TLS_CLIENT && SSL_CTX_set_default_verify_paths(ctx) != 1)
            return fail(-EINVAL, "authorities of", "the system");
        return 0;
    }
    if (SSL_CTX_load_verify_locations(ctx, c->ca_file, NULL) != 1)
        return fail(-EINVAL, "authorities", c->ca_file);
    if (role == TLS_SERVER) {
        names = SSL_load_client_CA_file(c->ca_file);
        if (names == NULL)
            return fail(-EINVAL, "authorities", c->ca_file);
        SSL_CTX_set_client_CA_list(ctx, names);
    }
    return 0;
}

static void
set_server(const struct bh_tls_config *c, SSL_CTX *ctx)
{
    static const unsigned char id[] = "bulkhead";
    int                        verify = SSL_VERIFY_NONE;

    if (c->ask != BH_TLS_ASK_NOTHING)
        verify = SSL_VERIFY_PEER |
                 (c->ask == BH_TLS_ASK_REQUIRED ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0);
    SSL_CTX_set_verify(ctx, verify, NULL);
    (void)SSL_CTX_set_session_id_context(ctx, id, sizeof id - 1);
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets instead */
    SSL_CTX_set_num_tickets(ctx, 1);
    (void)SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket);
    (void)SSL_CTX_set_tlsext_servername_callback(ctx, on_name);
    SSL_CTX_set_alpn_select_cb(ctx, on_protocols, NULL);
}

/* What is TLS 1.2 of it has forward secrecy and authenticates what it encrypts; 1.3 always. */
static SSL_CTX *
new_context(const struct bh_tls_config *c, enum tls_role role)
{
    SSL_CTX *ctx =
        need(SSL_CTX_new(role == TLS_SERVER ? TLS_server_method() : TLS_client_method()));

    (void)SSL_CTX_set_min_proto_version(ctx, c->tls13 ? TLS1_3_VERSION : TLS1_2_VERSION);
    (void)SSL_CTX_set_cipher_list(ctx, "ECDHE+AESGCM:ECDHE+CHACHA20");
    (void)SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION |
                                       SSL_OP_CIPHER_SERVER_PREFERENCE |
                                       SSL_OP_PRIORITIZE_CHACHA);
    (void)SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                                    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(ctx, 1);
    if (role == TLS_SERVER) {
        set_server(c, ctx);
    } else {
        SSL_CTX_set_verify(ctx, c->anybody ? SSL_VERIFY_NONE : SSL_VERIFY_PEER, NULL);
        if (c->protocols_size > 0)
            (void)SSL_CTX_set_alpn_protos(ctx, c->protocols, c->protocols_size);
    }
    return ctx;
}

/* All files, read anew.  Returns: 0, *state being the caller's; or an error. */
static int
new_state(const struct bh_tls_config *c, enum tls_role role, struct tls_state **state)
{
    struct tls_state *s = need(calloc(1, sizeof *s));
    int               rc = 0;

    atomic_store(&s->refs, 1);
    memcpy(s->protocols, c->protocols, c->protocols_size);
    s->protocols_size = c->protocols_size;
    do {
        SSL_CTX *ctx = s->contexts[s->count] = new_context(c, role);

        if (s->count < c->pair_count)
            rc = load_pair(ctx, &c->pairs[s->count]);
        s->count++;
        if (rc == 0)
            rc = load_authorities(c, ctx, role);
    } while (rc == 0 && role == TLS_SERVER && s->count < c->pair_count);
    if (rc < 0)
        tls_state_unref(s);
    else
        *state = s;
    return rc;
}

int
tls_config_state(struct bh_tls_config *c, enum tls_role role, struct tls_state **state)
{
    static struct bh_tls_config of_clients = { .refs = 1 };
    int                         rc = 0;

    if (c == NULL)
        c = &of_clients;
    if (role == TLS_SERVER && c->pair_count == 0)
        return bh_fail(-EINVAL, "tls: a server needs a certificate");
    bh_mutex_lock(&c->lock);
    BH_DEFER(bh_mutex_unlock, &c->lock);
    if (c->state[role] == NULL)
        rc = new_state(c, role, &c->state[role]);
    if (rc == 0) {
        *state = c->state[role];
        atomic_fetch_add(&(*state)->refs, 1);
    }
    return rc;
}

/* ---- configurations -------------------------------------------------------------- */

struct bh_tls_config *
bh_tls_config_new(void)
{
    struct bh_tls_config *c = need(calloc(1, sizeof *c));

    atomic_store(&c->refs, 1);
    return c;
}

struct bh_tls_config *
bh_tls_config_ref(struct bh_tls_config *c)
{
    atomic_fetch_add(&c->refs, 1);
    return c;
}

void
bh_tls_config_unref(struct bh_tls_config *c)
{
    if (c == NULL || atomic_fetch_sub(&c->refs, 1) > 1)
        return;
    for (int i = 0; i < c->pair_count; i++) {
        free(c->pairs[i].certificate_file);
        free(c->pairs[i].key_file);
    }
    free(c->ca_file);
    tls_state_unref(c->state[TLS_SERVER]);
    tls_state_unref(c->state[TLS_CLIENT]);
    free(c);
}

int
bh_tls_config_add_certificate(struct bh_tls_config *c, const char *certificate_file,
                              const char *key_file)
{
    struct pair *p = &c->pairs[c->pair_count];
    SSL_CTX     *ctx;
    int          rc;

    BH_REQUIRE(c->pair_count < MAX_CERTIFICATES);
    *p = (struct pair){ need(strdup(certificate_file)), need(strdup(key_file)) };
    ctx = new_context(c, TLS_SERVER);
    rc = load_pair(ctx, p);
    SSL_CTX_free(ctx);
    if (rc == 0) {
        c->pair_count++;
        return 0;
    }
    free(p->certificate_file);
    free(p->key_file);
    return rc;
}

int
bh_tls_config_trust(struct bh_tls_config *c, const char *ca_file)
{
    char    *before = c->ca_file;
    SSL_CTX *ctx = new_context(c, TLS_CLIENT);
    FILE    *f = fopen(ca_file, "re");
    int      rc = f == NULL ? bh_fail(-errno, "tls: open %s: %s", ca_file, strerror(errno)) : 0;

    if (f != NULL)
        fclose(f);
    c->ca_file = need(strdup(ca_file));
    if (rc == 0)
        rc = load_authorities(c, ctx, TLS_CLIENT);
    SSL_CTX_free(ctx);
    if (rc < 0) {
        free(c->ca_file);
        c->ca_file = before;
    } else {
        free(before);
    }
    return rc;
}

void
bh_tls_config_ask_client(struct bh_tls_config *c, enum bh_tls_ask ask)
{
    c->ask = ask;
}

void
bh_tls_config_set_protocols(struct bh_tls_config *c, const char *list)
{
    unsigned at = 0;

    while (list != NULL && *list != '\0') {
        size_t length = strcspn(list, ",");

        if (length == 0 || length > 15 || at + 1 + length > MAX_PROTOCOLS)
            bh_panic("tls: bad list of protocols");
        c->protocols[at] = (unsigned char)length;
        memcpy(c->protocols + at + 1, list, length);
        at += 1 + (unsigned)length;
        list += length + (list[length] == ',');
    }
    c->protocols_size = at;
}

void
tls_config_offer(struct bh_tls_config *c, const char *list)
{
    if (c->protocols_size == 0 && c->state[TLS_SERVER] == NULL)
        bh_tls_config_set_protocols(c, list);
}

void
bh_tls_config_require_tls13(struct bh_tls_config *c)
{
    c->tls13 = true;
}

void
bh_tls_config_trust_anybody(struct bh_tls_config *c)
{
    c->anybody = true;
}

int
bh_tls_config_reload(struct bh_tls_config *c)
{
    struct tls_state *fresh[2] = { NULL, NULL }, *old;
    int               rc = 0;

    bh_mutex_lock(&c->lock);
    BH_DEFER(bh_mutex_unlock, &c->lock);
    for (int role = 0; role < 2 && rc == 0; role++)
        if (c->state[role] != NULL || (role == TLS_SERVER && c->pair_count > 0))
            rc = new_state(c, (enum tls_role)role, &fresh[role]);
    for (int role = 0; role < 2; role++) {
        old = fresh[role];
        if (rc == 0 && fresh[role] != NULL) {
            old = c->state[role];
            c->state[role] = fresh[role];
        }
        tls_state_unref(old);
    }
    return rc;
}
