/*
 * tls.c -- TLS over a connection: OpenSSL computes, the goroutine does all waiting.
 *
 * OpenSSL talks to a BIO of ours that never waits: reading takes what the socket has,
 * writing appends to t->out.  If it wants more input, the call returns, and the
 * goroutine waits for the connection outside.  So no thread is ever blocked in OpenSSL,
 * and none is changed inside it: its error queue belongs to the thread, and is emptied
 * before and read right after each call.
 *
 *     lock       everything of the SSL object, and t->out
 *     sending    the order of what goes out; held while writing, without the lock, so
 *                that a reader can go on while a writer waits
 *
 * sending comes before lock.  A reader too may have to send: key updates, alerts.
 *
 * An idle connection keeps the SSL object without its buffers, and nothing of ours.
 *
 * See: tls_config.c for certificates and tickets.
 */

#include "tls.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include <bulkhead/go/error.h>
#include <bulkhead/go/net.h>
#include <bulkhead/go/panic.h>
#include <bulkhead/go/sync.h>

struct buffer {
    char  *data;
    size_t size, room;
};

struct bh_tls {
    SSL              *ssl;
    struct bh_conn   *conn;
    struct tls_state *state; /* what the handshake uses; a reference */
    struct bh_mutex   lock, sending;
    struct buffer     out;      /* to be sent */
    struct buffer     spare;    /* being sent, by who holds `sending` */
    int               io_error; /* of the socket: why OpenSSL got no more input */
    bool              ended;    /* the socket is at its end */
    bool              failed;   /* by TLS itself: nothing more can be sent */
    char             *peer;     /* of bh_tls_peer */
    char              alpn[16];
};

/* ---- the BIO --------------------------------------------------------------------- */

static int
bio_read(BIO *bio, char *buffer, int size)
{
    struct bh_tls *t = BIO_get_data(bio);
    ssize_t        n = bh_try_read(t->conn, buffer, (size_t)size);

    BIO_clear_retry_flags(bio);
    if (n > 0)
        return (int)n;
    if (n == 0) {
        t->ended = true;
        return 0;
    }
    if (n != -EAGAIN)
        t->io_error = (int)n;
    if (n == -EAGAIN || n == BH_EDEADLINE) /* which may be moved: the session goes on */
        BIO_set_retry_read(bio);
    return -1;
}

static int
bio_write(BIO *bio, const char *data, int size)
{
    struct bh_tls *t = BIO_get_data(bio);
    struct buffer *b = &t->out;
    size_t         want = b->size + (size_t)size;

    BIO_clear_retry_flags(bio);
    if (want > b->room) {
        size_t room = want > 2 * b->room ? want : 2 * b->room;
        char  *bigger = realloc(b->data, room);

        if (bigger == NULL)
            return -1;
        b->data = bigger;
        b->room = room;
    }
    memcpy(b->data + b->size, data, (size_t)size);
    b->size += (size_t)size;
    return size;
}

static long
bio_control(BIO *bio, int what, long number, void *pointer)
{
    const struct bh_tls *t = BIO_get_data(bio);

    (void)number;
    (void)pointer;
    if (what == BIO_CTRL_EOF)
        return t->ended;
    return what == BIO_CTRL_FLUSH;
}

static BIO_METHOD *
bio_method(void)
{
    static _Atomic(BIO_METHOD *) made;
    BIO_METHOD                  *m = atomic_load(&made), *none = NULL;

    if (m != NULL)
        return m;
    m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "bulkhead");
    if (m == NULL || BIO_meth_set_read(m, bio_read) != 1 ||
        BIO_meth_set_write(m, bio_write) != 1 || BIO_meth_set_ctrl(m, bio_control) != 1)
        bh_panic("tls: out of memory");
    if (atomic_compare_exchange_strong(&made, &none, m))
        return m;
    BIO_meth_free(m);
    return none;
}

/* ---- making one ------------------------------------------------------------------ */

void
bh_tls_free(struct bh_tls *t)
{
    if (t == NULL)
        return;
    SSL_free(t->ssl);
    tls_state_unref(t->state);
    free(t->out.data);
    free(t->spare.data);
    free(t->peer);
    free(t);
}

static struct bh_tls *
new_tls(struct tls_state *state, SSL_CTX *ctx, struct bh_conn *conn)
{
    struct bh_tls *t = calloc(1, sizeof *t);
    BIO           *bio;

    if (t == NULL) {
        tls_state_unref(state);
        bh_panic("tls: out of memory");
    }
    t->conn = conn;
    t->state = state;
    t->ssl = SSL_new(ctx);
    bio = BIO_new(bio_method());
    if (t->ssl == NULL || bio == NULL) {
        BIO_free(bio);
        bh_tls_free(t);
        bh_panic("tls: out of memory");
    }
    BIO_set_data(bio, t);
    BIO_set_init(bio, 1);
    SSL_set_bio(t->ssl, bio, bio);
    SSL_set_app_data(t->ssl, state);
    return t;
}

int
bh_tls_server(struct bh_tls_config *c, struct bh_conn *conn, struct bh_tls **tls)
{
    struct tls_state *state;
    int               rc = tls_config_state(c, TLS_SERVER, &state);

    if (rc < 0)
        return rc;
    *tls = new_tls(state, tls_state_context(state), conn);
    SSL_set_accept_state((*tls)->ssl);
    return 0;
}

int
bh_tls_client(struct bh_tls_config *c, struct bh_conn *conn, const char *server_name,
              struct bh_tls **tls)
{
    struct tls_state *state;
    struct bh_tls    *t;
    int               rc = tls_config_state(c, TLS_CLIENT, &state);

    if (rc < 0)
        return rc;
    t = new_tls(state, tls_state_context(state), conn);
    SSL_set_connect_state(t->ssl);
    /* An address is no name to ask for, and is checked against other fields. */
    if (X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(t->ssl), server_name) != 1 &&
        (SSL_set1_host(t->ssl, server_name) != 1 ||
         SSL_ctrl(t->ssl, SSL_CTRL_SET_TLSEXT_HOSTNAME, TLSEXT_NAMETYPE_host_name,
                  (void *)(uintptr_t)server_name) != 1)) {
        bh_tls_free(t);
        return bh_fail(-EINVAL, "tls: bad server name \"%s\"", server_name);
    }
    ERR_clear_error();
    *tls = t;
    return 0;
}

/* ---- one step -------------------------------------------------------------------- */

enum outcome { DONE, WANTS_INPUT, CLOSED, FAILED };

struct step {
    enum outcome outcome;
    int          result; /* OpenSSL's */
    int          error;  /* if FAILED; or the socket's, if it WANTS_INPUT */
    size_t       output; /* bytes that wait to be sent */
};

static int
fault(struct bh_tls *t)
{
    unsigned long code = ERR_peek_last_error();
    const char   *reason = code != 0 ? ERR_reason_error_string(code) : NULL;
    long          verdict = SSL_get_verify_result(t->ssl);

    if (t->io_error < 0)
        return t->io_error;
    if (t->ended)
        return bh_fail(BH_EEOF, "tls: the peer closed the connection without saying so");
    t->failed = true;
    if (code != 0 && ERR_GET_REASON(code) == SSL_R_HTTP_REQUEST)
        return bh_fail(-EPROTONOSUPPORT, "tls: the peer speaks HTTP in the clear");
    if (verdict != X509_V_OK)
        return bh_fail(-EPROTO, "tls: certificate of the peer: %s",
                       X509_verify_cert_error_string(verdict));
    return bh_fail(-EPROTO, "tls: %s",
                   reason != NULL ? reason : "the connection has failed before");
}

/* What a call that returned result has come to: with the lock, right after it. */
static enum outcome
outcome_of(struct bh_tls *t, int result, int *error)
{
    *error = 0;
    switch (SSL_get_error(t->ssl, result)) {
    case SSL_ERROR_NONE:
        return DONE;
    case SSL_ERROR_WANT_READ:
        *error = t->io_error;
        return WANTS_INPUT;
    case SSL_ERROR_ZERO_RETURN:
        return CLOSED;
    default:
        *error = fault(t);
        return FAILED;
    }
}

/* What a step does, under the lock.  Returns: OpenSSL's result. */
typedef int tls_call(struct bh_tls *t, void *arg);

static struct step
step(struct bh_tls *t, tls_call *call, void *arg)
{
    struct step s;

    bh_mutex_lock(&t->lock);
    BH_DEFER(bh_mutex_unlock, &t->lock);
    ERR_clear_error();
    t->io_error = 0;
    s.result = call(t, arg);
    s.outcome = outcome_of(t, s.result, &s.error);
    s.output = t->out.size;
    ERR_clear_error();
    return s;
}

/* Send what there is, in order: `sending` is held.  Meanwhile others fill the other buffer. */
static int
send_out(struct bh_tls *t)
{
    struct buffer full;
    ssize_t       n;

    bh_mutex_lock(&t->lock);
    full = t->out;
    t->out = t->spare;
    t->spare = full;
    t->out.size = 0;
    bh_mutex_unlock(&t->lock);
    if (full.size == 0)
        return 0;
    n = bh_write(t->conn, full.data, full.size);
    return n < 0 ? (int)n : 0;
}

/* Nothing is kept for a connection that may be idle from now on.  `sending` is held. */
static void
drop_buffers(struct bh_tls *t)
{
    free(t->spare.data);
    t->spare = (struct buffer){ 0 };
    bh_mutex_lock(&t->lock);
    if (t->out.size == 0) {
        free(t->out.data);
        t->out = (struct buffer){ 0 };
    }
    bh_mutex_unlock(&t->lock);
}

/* What a step that was no write has left to send: handshakes, key updates, alerts. */
static int
flush(struct bh_tls *t, const struct step *s)
{
    int rc;

    if (s->output == 0)
        return 0;
    bh_mutex_lock(&t->sending);
    BH_DEFER(bh_mutex_unlock, &t->sending);
    rc = send_out(t);
    drop_buffers(t);
    return rc;
}

/* ---- reading --------------------------------------------------------------------- */

struct span {
    void  *data;
    size_t size;
};

static int
call_read(struct bh_tls *t, void *arg)
{
    const struct span *s = arg;

    return SSL_read(t->ssl, s->data, s->size > INT32_MAX ? INT32_MAX : (int)s->size);
}

static ssize_t
read_some(struct bh_tls *t, void *buffer, size_t size, bool wait)
{
    struct span to = { buffer, size };

    if (size == 0)
        return 0;
    for (;;) {
        struct step s = step(t, call_read, &to);
        int         rc = flush(t, &s);

        switch (s.outcome) {
        case DONE:
            return s.result;
        case CLOSED:
            return 0;
        case FAILED:
            return s.error;
        case WANTS_INPUT:
            if (rc < 0)
                return rc;
            if (!wait)
                return s.error < 0 ? s.error : -EAGAIN;
            rc = bh_conn_wait_readable(t->conn);
            if (rc < 0)
                return rc;
        }
    }
}

ssize_t
bh_tls_read(struct bh_tls *t, void *buffer, size_t size)
{
    return read_some(t, buffer, size, true);
}

ssize_t
bh_tls_try_read(struct bh_tls *t, void *buffer, size_t size)
{
    return read_some(t, buffer, size, false);
}

bool
bh_tls_pending(struct bh_tls *t)
{
    bool pending;

    bh_mutex_lock(&t->lock);
    pending = SSL_has_pending(t->ssl) != 0;
    bh_mutex_unlock(&t->lock);
    return pending;
}

/* ---- the handshake --------------------------------------------------------------- */

static int
call_handshake(struct bh_tls *t, void *arg)
{
    (void)arg;
    return SSL_do_handshake(t->ssl);
}

int
bh_tls_handshake(struct bh_tls *t)
{
    for (;;) {
        struct step s = step(t, call_handshake, NULL);
        int         rc = flush(t, &s); /* also the alert that says what was wrong */

        if (s.outcome == FAILED)
            return s.error;
        if (s.outcome == CLOSED)
            return bh_fail(BH_EEOF, "tls: the peer closed during the handshake");
        if (rc < 0 || s.outcome == DONE)
            return rc;
        rc = bh_conn_wait_readable(t->conn);
        if (rc < 0)
            return rc;
    }
}

/* ---- writing --------------------------------------------------------------------- */

static int
call_write(struct bh_tls *t, void *arg)
{
    const struct span *s = arg;

    return SSL_write(t->ssl, s->data, (int)s->size);
}

/* Records gather until they are worth a system call; what lies encrypted stays bounded. */
static ssize_t
write_all(struct bh_tls *t, const char *data, size_t size)
{
    enum { GATHER = 65536 };
    size_t done = 0;
    int    rc = 0;

    bh_mutex_lock(&t->sending);
    BH_DEFER(bh_mutex_unlock, &t->sending);
    while (done < size && rc == 0) {
        struct span from = { (char *)(uintptr_t)data + done,
                             size - done < GATHER ? size - done : GATHER };
        struct step s = step(t, call_write, &from);

        if (s.outcome == DONE) {
            done += (size_t)s.result;
            if (done == size || s.output >= GATHER)
                rc = send_out(t);
        } else {
            rc = s.outcome == FAILED ? s.error : bh_fail(-EPIPE, "tls: writing is over");
        }
    }
    drop_buffers(t);
    return rc < 0 ? rc : (ssize_t)size;
}

ssize_t
bh_tls_write(struct bh_tls *t, const void *data, size_t size)
{
    if (!SSL_is_init_finished(t->ssl)) {
        int rc = bh_tls_handshake(t);

        if (rc < 0)
            return rc;
    }
    return write_all(t, data, size);
}

static int
call_shutdown(struct bh_tls *t, void *arg)
{
    (void)arg;
    if (t->failed || !SSL_is_init_finished(t->ssl))
        return 1;
    return SSL_shutdown(t->ssl) < 0 ? -1 : 1;
}

int
bh_tls_shutdown(struct bh_tls *t)
{
    struct step s = step(t, call_shutdown, NULL);

    return s.outcome == FAILED ? s.error : flush(t, &s);
}

/* ---- what was agreed ------------------------------------------------------------- */

const char *
bh_tls_alpn(struct bh_tls *t)
{
    const unsigned char *name;
    unsigned             length;

    bh_mutex_lock(&t->lock);
    SSL_get0_alpn_selected(t->ssl, &name, &length);
    if (length >= sizeof t->alpn)
        length = 0;
    if (length > 0)
        memcpy(t->alpn, name, length);
    t->alpn[length] = '\0';
    bh_mutex_unlock(&t->lock);
    return t->alpn;
}

const char *
bh_tls_version(struct bh_tls *t)
{
    return SSL_get_version(t->ssl);
}

bool
bh_tls_resumed(struct bh_tls *t)
{
    return SSL_session_reused(t->ssl) == 1;
}

/* The subject of a certificate, malloc'ed. */
static char *
subject(X509 *certificate)
{
    BIO  *text = BIO_new(BIO_s_mem());
    char *data, *copy = NULL;
    long  size;

    if (text == NULL)
        bh_panic("tls: out of memory");
    if (X509_NAME_print_ex(text, X509_get_subject_name(certificate), 0, XN_FLAG_RFC2253) >= 0) {
        size = BIO_get_mem_data(text, &data);
        copy = strndup(data, size > 0 ? (size_t)size : 0);
    }
    BIO_free(text);
    return copy;
}

const char *
bh_tls_peer(struct bh_tls *t)
{
    X509 *certificate;

    bh_mutex_lock(&t->lock);
    certificate = SSL_get0_peer_certificate(t->ssl);
    if (t->peer == NULL && certificate != NULL && SSL_get_verify_result(t->ssl) == X509_V_OK)
        t->peer = subject(certificate);
    bh_mutex_unlock(&t->lock);
    return t->peer;
}
