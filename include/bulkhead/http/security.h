#ifndef BULKHEAD_HTTP_SECURITY_H
#define BULKHEAD_HTTP_SECURITY_H

/*
 * security.h -- middleware about who asks: the client's address behind proxies, other
 * origins, credentials; and headers that tell browsers what not to do.
 *
 *     bh_http_observe(s, bh_http_real_ip, proxies);      outermost: logs want the address
 *     bh_http_observe(s, bh_http_secure, NULL);          also on the 500 of a panic
 *     bh_http_use(s, bh_http_recover, NULL);
 *     bh_http_use(s, bh_http_cors, cors);                before what demands credentials
 *     bh_http_use(s, bh_http_basic_auth, &admins);
 */

#include <stdbool.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

/* ---- the client behind proxies --------------------------------------------------- */

/* Which field tells; the others are ignored, for a proxy that does not write them passes them on. */
enum bh_http_proxy_field { BH_HTTP_X_FORWARDED_FOR, BH_HTTP_FORWARDED, BH_HTTP_X_REAL_IP };

struct bh_http_proxies_options {
    /* Who may speak for clients: "10.0.0.0/8, fd00::/8, 192.0.2.7, unix".  NULL: nobody. */
    const char              *trusted;
    enum bh_http_proxy_field field;
    bool                     no_proto; /* do not believe X-Forwarded-Proto, or proto= */
};

struct bh_http_proxies;

/* bh_http_proxies_new -- Owns: the caller, until freed.  Panics: on an address it cannot read. */
struct bh_http_proxies *bh_http_proxies_new(const struct bh_http_proxies_options *options);
void                    bh_http_proxies_free(struct bh_http_proxies *p); /* NULL is a no-op */

/*
 * bh_http_real_ip -- observer or middleware: find the client that trusted proxies speak for.
 *
 * arg: struct bh_http_proxies.  Walks the list from the right, past the trusted, to the
 * first stranger; a malformed entry ends the walk.  Only if the peer itself is trusted.
 */
bh_http_fn bh_http_real_ip;

/* bh_http_client_ip -- without a port, "192.0.2.1" or "2001:db8::1"; "unix" of a Unix socket. */
const char *bh_http_client_ip(struct bh_http_call *c);
/* bh_http_scheme -- "https" or "http": the client's, if bh_http_real_ip was told, else the connection's. */
const char *bh_http_scheme(struct bh_http_call *c);

/* ---- other origins --------------------------------------------------------------- */

/* Zero means the default beside the field. */
struct bh_http_cors_options {
    /* A list: "https://a.example"; "*." before a host stands for what is below it; "*": all.  NULL: none. */
    const char *origins;
    bool (*allow)(struct bh_http_call *c, const char *origin,
                  void *arg); /* asked for the rest */
    void       *allow_arg;
    const char *methods;     /* "GET, HEAD, POST, PUT, PATCH, DELETE" */
    const char *headers;     /* a list; NULL: none; "*": whichever are asked for */
    const char *exposed;     /* a list; NULL: none */
    bool        credentials; /* cookies and Authorization may come along */
    int         max_age;     /* seconds a preflight may be remembered; 0: not said, so 5 */
};

struct bh_http_cors;

/*
 * bh_http_cors_new -- Owns: the caller, until freed.
 * Panics: on credentials for "*": any page could then act as its visitor; on a malformed origin.
 */
struct bh_http_cors *bh_http_cors_new(const struct bh_http_cors_options *options);
void                 bh_http_cors_free(struct bh_http_cors *cors); /* NULL is a no-op */

/*
 * bh_http_cors -- middleware: let pages of other origins read replies.  arg: struct bh_http_cors.
 *
 * Answers every preflight itself, for paths without routes too; an origin that is not
 * allowed gets the same reply without permission.
 * See: Fetch, "CORS protocol".
 */
bh_http_fn bh_http_cors;

/* ---- credentials ----------------------------------------------------------------- */

/* bh_http_user -- who the request's credentials say it is; NULL without. */
const char *bh_http_user(struct bh_http_call *c);
/* bh_http_set_user -- for authentication of your own.  Owns: name is copied. */
void bh_http_set_user(struct bh_http_call *c, const char *name);

/* bh_http_same_secret -- compare in a time that tells nothing of `secret`. */
bool bh_http_same_secret(const char *given, const char *secret);

struct bh_http_basic {
    const char *realm; /* NULL: "restricted" */
    /* Whether this is the user's password.  Slow hashes are well placed here: it may block. */
    bool (*verify)(struct bh_http_call *c, const char *user, const char *password, void *arg);
    void *arg;
    /* Or, verify being NULL, a table ended by a NULL user. */
    const struct bh_http_login {
        const char *user, *password;
    } * logins;
};

/* bh_http_basic_auth -- middleware: demand user and password.  arg: struct bh_http_basic.  See: RFC 7617. */
bh_http_fn bh_http_basic_auth;

struct bh_http_bearer {
    const char *realm; /* NULL: none is said */
    /* Whose token it is, a text that lives as long as the request; NULL: nobody's, or expired. */
    const char *(*verify)(struct bh_http_call *c, const char *token, void *arg);
    void *arg;
};

/* bh_http_bearer_auth -- middleware: demand a token.  arg: struct bh_http_bearer.  See: RFC 6750. */
bh_http_fn bh_http_bearer_auth;

/* ---- what browsers shall not do -------------------------------------------------- */

/* Values of fields; NULL means the default beside it, "" that the field is not sent. */
struct bh_http_secure {
    const char *hsts;        /* through TLS only: "max-age=31536000" */
    const char *frame;       /* X-Frame-Options: "DENY" */
    const char *csp;         /* Content-Security-Policy: not sent */
    const char *referrer;    /* Referrer-Policy: "strict-origin-when-cross-origin" */
    const char *opener;      /* Cross-Origin-Opener-Policy: "same-origin" */
    const char *resource;    /* Cross-Origin-Resource-Policy: "same-origin" */
    const char *permissions; /* Permissions-Policy: not sent */
};

/*
 * bh_http_secure -- observer or middleware: set these fields, and X-Content-Type-Options; handlers may
 * replace them.  arg: struct bh_http_secure, or NULL for the defaults.
 */
bh_http_fn bh_http_secure;

#endif
