/*
 * auth.c -- demanding credentials: Basic and Bearer.
 *
 * Whoever may have any of them must not learn, by how long a refusal takes, how much of
 * a guess was right: secrets are compared whole, and a table of logins to its end.
 */

#include <bulkhead/http/security.h>

#include <string.h>

#include <bulkhead/base/arena.h>

#include "fields.h"
#include "helpers.h"

static const char user_key;

const char *
bh_http_user(struct bh_http_call *c)
{
    return bh_http_get(c, &user_key);
}

void
bh_http_set_user(struct bh_http_call *c, const char *name)
{
    bh_http_set(c, &user_key, bh_arena_string(c->arena, name, strlen(name)));
}

/* As many steps as `given` has bytes, whatever the secret is. */
bool
bh_http_same_secret(const char *given, const char *secret)
{
    size_t        given_length = strlen(given), length = strlen(secret);
    unsigned char differs = given_length != length;

    for (size_t i = 0; i < given_length; i++)
        differs |= (unsigned char)(given[i] ^ secret[length > 0 ? i % length : 0]);
    return differs == 0;
}

/* ---- refusals -------------------------------------------------------------------- */

/* A quoted string.  What may not be in one is left out. */
static const char *
quote(struct bh_http_call *c, const char *text)
{
    char *out = bh_arena_alloc(c->arena, 2 * strlen(text) + 3), *at = out;

    *at++ = '"';
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            *at++ = '\\';
        if ((unsigned char)*text >= ' ' && *text != 0x7f)
            *at++ = *text;
    }
    *at = '"';
    return out;
}

static int
refuse(struct bh_http_call *c, int status, const char *challenge)
{
    (void)bh_http_set_header(c, "WWW-Authenticate", challenge);
    return bh_http_reply(c, status, "%d %s\n", status, bh_http_status_text(status));
}

/* ---- Basic ----------------------------------------------------------------------- */

static bool
is_login(const struct bh_http_login *logins, const char *user, const char *password)
{
    bool found = false;

    for (; logins != NULL && logins->user != NULL; logins++) {
        bool same = bh_http_same_secret(user, logins->user);

        same &= bh_http_same_secret(password, logins->password);
        found |= same;
    }
    return found;
}

/* Whether the credentials are good; *user then names whose. */
static bool
check_basic(struct bh_http_call *c, const struct bh_http_basic *o, const char *value,
            const char **user)
{
    char       *room = bh_arena_alloc(c->arena, strlen(value) + 1);
    const char *password;

    if (!ht_basic_parse(value, room, user, &password))
        return false;
    return o->verify != NULL ? o->verify(c, *user, password, o->arg)
                             : is_login(o->logins, *user, password);
}

int
bh_http_basic_auth(struct bh_http_call *c, void *arg)
{
    const struct bh_http_basic *o = arg;
    const char                 *value = ht_request_single(c, "Authorization"), *user;

    if (value == NULL || !check_basic(c, o, value, &user))
        return refuse(c, 401,
                      bh_arena_print(c->arena, "Basic realm=%s, charset=\"UTF-8\"",
                                     quote(c, o->realm != NULL ? o->realm : "restricted")));
    bh_http_set_user(c, user);
    return bh_http_next(c);
}

/* ---- Bearer ---------------------------------------------------------------------- */

static const char *
bearer_challenge(struct bh_http_call *c, const struct bh_http_bearer *o, const char *error)
{
    const char *realm =
        o->realm != NULL ? bh_arena_print(c->arena, " realm=%s", quote(c, o->realm)) : "";

    if (error == NULL)
        return bh_arena_print(c->arena, "Bearer%s", realm);
    return bh_arena_print(c->arena, "Bearer%s%s error=\"%s\"", realm,
                          realm[0] != '\0' ? "," : "", error);
}

/* No token gets no reason; see RFC 6750 section 3.1. */
int
bh_http_bearer_auth(struct bh_http_call *c, void *arg)
{
    const struct bh_http_bearer *o = arg;
    const char                  *value = bh_http_header(c, "Authorization"), *token, *user;

    if (value == NULL || !ht_scheme_is(value, "Bearer"))
        return refuse(c, 401, bearer_challenge(c, o, NULL));
    value = ht_request_single(c, "Authorization");
    token = value != NULL ? ht_bearer_parse(value) : NULL;
    if (token == NULL)
        return refuse(c, 400, bearer_challenge(c, o, "invalid_request"));
    user = o->verify(c, token, o->arg);
    if (user == NULL)
        return refuse(c, 401, bearer_challenge(c, o, "invalid_token"));
    bh_http_set_user(c, user);
    return bh_http_next(c);
}
