/*
 * form.c -- pairs of names and values: of a query, and of a form in a body.
 *
 * Both are "application/x-www-form-urlencoded": pairs between '&', '+' for a space,
 * %XX for anything else.  A query with a malformed pair is used without it; a form
 * with one is refused, since its sender was no browser.
 */

#include <bulkhead/http/form.h>

#include <errno.h>
#include <string.h>
#include <strings.h>

#include "ht.h"

struct pair {
    const char *name, *value;
};

struct form {
    struct pair *pairs;
    unsigned     count;
};

static const char form_key;

/* Decode one pair.  Returns: false if it is malformed. */
static bool
decode(struct bh_arena *arena, const char *text, size_t length, struct pair *p)
{
    const char *equals = memchr(text, '=', length);
    size_t      name_length = equals != NULL ? (size_t)(equals - text) : length;
    const char *value = equals != NULL ? equals + 1 : text + length;
    size_t      value_length = length - (size_t)(value - text);
    char       *name = bh_arena_alloc(arena, name_length + value_length + 2);
    long        n = ht_unescape(name, text, name_length, true);

    p->name = name;
    p->value = name + name_length + 1;
    return n >= 0 && ht_unescape(name + name_length + 1, value, value_length, true) >= 0;
}

bool
bh_http_query_at(struct bh_http_call *c, unsigned i, const char **name, const char **value)
{
    struct pair p;

    for (const char *at = c->query; *at != '\0';) {
        size_t length = strcspn(at, "&");

        if (length > 0 && decode(c->arena, at, length, &p) && i-- == 0) {
            *name = p.name;
            *value = p.value;
            return true;
        }
        at += length + (at[length] == '&');
    }
    return false;
}

/* ---- a form in the body ---------------------------------------------------------- */

static int
parse(struct bh_http_call *c, const char *text, size_t size)
{
    struct form *f = bh_arena_alloc(c->arena, sizeof *f);
    unsigned     room = 1;

    if (memchr(text, '\0', size) != NULL)
        return ht_body_refuse(c, -EBADMSG, "NUL in a form");
    for (size_t i = 0; i < size; i++)
        room += text[i] == '&';
    if (room > BH_HTTP_FORM_MAX)
        return ht_body_refuse(c, -EBADMSG, "too many fields in a form");
    f->pairs = bh_arena_alloc(c->arena, room * sizeof *f->pairs);
    f->count = 0;
    for (const char *at = text; *at != '\0';) {
        size_t length = strcspn(at, "&");

        if (length > 0 && !decode(c->arena, at, length, &f->pairs[f->count++]))
            return ht_body_refuse(c, -EBADMSG, "malformed escape in a form");
        at += length + (at[length] == '&');
    }
    bh_http_set(c, &form_key, f);
    return (int)f->count;
}

int
bh_http_parse_form(struct bh_http_call *c)
{
    static const char  wanted[] = "application/x-www-form-urlencoded";
    const char        *type = bh_http_header(c, "content-type"), *text;
    const struct form *f = bh_http_get(c, &form_key);
    ssize_t            size;

    if (f != NULL)
        return (int)f->count;
    if (type == NULL || strncasecmp(type, wanted, sizeof wanted - 1) != 0 ||
        strchr("; \t", type[sizeof wanted - 1]) == NULL)
        return ht_body_refuse(c, -EPROTOTYPE, "application/x-www-form-urlencoded is wanted");
    size = bh_http_body(c, &text);
    return size < 0 ? (int)size : parse(c, text, (size_t)size);
}

const char *
bh_http_form(struct bh_http_call *c, const char *name)
{
    const struct form *f = bh_http_get(c, &form_key);

    for (unsigned i = 0; f != NULL && i < f->count; i++)
        if (strcmp(f->pairs[i].name, name) == 0)
            return f->pairs[i].value;
    return NULL;
}

bool
bh_http_form_at(struct bh_http_call *c, unsigned i, const char **name, const char **value)
{
    const struct form *f = bh_http_get(c, &form_key);

    if (f == NULL || i >= f->count)
        return false;
    *name = f->pairs[i].name;
    *value = f->pairs[i].value;
    return true;
}
