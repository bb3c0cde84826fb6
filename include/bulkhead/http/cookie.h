#ifndef BULKHEAD_HTTP_COOKIE_H
#define BULKHEAD_HTTP_COOKIE_H

/*
 * cookie.h -- cookies, safe unless told otherwise.
 *
 *     bh_http_set_cookie(c, &(struct bh_http_cookie){ .name = "theme", .value = "dark" });
 *
 *     static const char *const keys[] = { new_key, old_key, NULL };
 *     bh_http_sign_cookie(c, keys, &(struct bh_http_cookie){ .name = "user", .value = id });
 *     const char *id = bh_http_signed_cookie(c, keys, "user");     NULL if forged or expired
 */

#include <stdbool.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

/*
 * A cookie to set.  Zero means: for the whole host and all its paths, until the browser
 * closes, unreadable for scripts, not sent along by other sites' posts (SameSite=Lax),
 * and over TLS only if it is set over TLS.
 */
struct bh_http_cookie {
    const char *name;
    const char *value;
    const char *path;    /* NULL: "/" */
    const char *domain;  /* NULL: this host, and no other */
    int64_t     max_age; /* seconds; negative: delete it */
    bool        secure;  /* always; also what names in __Secure- and __Host- ask for */
    bool        scripts; /* may read it: without HttpOnly */
    enum { BH_HTTP_LAX, BH_HTTP_STRICT, BH_HTTP_CROSS_SITE } same_site; /* the last is always secure */
};

/*
 * bh_http_cookie -- the value of a cookie that the client sent, the first of that name; NULL
 * if there is none.
 */
const char *bh_http_cookie(struct bh_http_call *c, const char *name);

/*
 * bh_http_set_cookie -- in the reply.
 * Returns: 0; -EINVAL, with a note, if the value, path or domain holds what a cookie can't;
 *          -EALREADY if the head has been sent.
 * Panics:  on a name that is no token, and a __Host- cookie with a domain or a path.
 */
int bh_http_set_cookie(struct bh_http_call *c, const struct bh_http_cookie *cookie);

/*
 * Signed: any value; the client can read it, but not change it, move it to another name,
 * or keep it beyond max_age (without one, 30 days).  HMAC-SHA256.
 *
 * keys: at least 16 bytes each, NULL behind the last; the first signs, all verify, so that
 * keys can be changed.
 * Panics: on no key or a short one.
 */
int         bh_http_sign_cookie(struct bh_http_call *c, const char *const *keys,
                                const struct bh_http_cookie *cookie);
const char *bh_http_signed_cookie(struct bh_http_call *c, const char *const *keys,
                                  const char *name);

#endif
