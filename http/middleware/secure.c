/*
 * secure.c -- fields that tell browsers what not to do.
 *
 * Set on the way in, so that a handler's own value of a field replaces ours, and so that,
 * outside bh_http_recover, the 500 of a panic has them too.
 */

#include <bulkhead/http/security.h>

#include <string.h>

static void
set(struct bh_http_call *c, const char *name, const char *value, const char *usual)
{
    value = value != NULL ? value : usual;
    if (value[0] != '\0')
        (void)bh_http_set_header(c, name, value);
}

int
bh_http_secure(struct bh_http_call *c, void *arg)
{
    static const struct bh_http_secure defaults;
    const struct bh_http_secure       *o = arg != NULL ? arg : &defaults;

    set(c, "X-Content-Type-Options", NULL, "nosniff");
    set(c, "X-Frame-Options", o->frame, "DENY");
    set(c, "Content-Security-Policy", o->csp, "");
    set(c, "Referrer-Policy", o->referrer, "strict-origin-when-cross-origin");
    set(c, "Cross-Origin-Opener-Policy", o->opener, "same-origin");
    set(c, "Cross-Origin-Resource-Policy", o->resource, "same-origin");
    set(c, "Permissions-Policy", o->permissions, "");
    if (strcmp(bh_http_scheme(c), "https") == 0)
        set(c, "Strict-Transport-Security", o->hsts, "max-age=31536000");
    return bh_http_next(c);
}
