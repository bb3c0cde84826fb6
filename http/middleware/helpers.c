/*
 * helpers.c -- small things that several stock middlewares do to a call.
 */

#include "helpers.h"

#include <string.h>
#include <strings.h>

#include <bulkhead/base/arena.h>

#include "fields.h"

static unsigned
count_fields(struct bh_http_call *c, const char *name)
{
    const char *field, *value;
    unsigned    count = 0;

    for (unsigned i = 0; bh_http_header_at(c, i, &field, &value); i++)
        count += strcasecmp(field, name) == 0;
    return count;
}

const char *
ht_request_list(struct bh_http_call *c, const char *name)
{
    const char *all = bh_http_header(c, name), *field, *value;
    bool        first = true;

    if (all == NULL || count_fields(c, name) == 1)
        return all;
    for (unsigned i = 0; bh_http_header_at(c, i, &field, &value); i++) {
        if (strcasecmp(field, name) != 0)
            continue;
        all = first ? value : bh_arena_print(c->arena, "%s, %s", all, value);
        first = false;
    }
    return all;
}

const char *
ht_request_single(struct bh_http_call *c, const char *name)
{
    const char *value = bh_http_header(c, name);

    return value != NULL && count_fields(c, name) == 1 ? value : NULL;
}

void
ht_reply_varies(struct bh_http_call *c, const char *name)
{
    const char *vary = bh_http_reply_header(c, "Vary");

    if (vary == NULL || (!ht_list_has(vary, name) && !ht_list_has(vary, "*")))
        (void)bh_http_add_header(c, "Vary", name);
}

bool
ht_is_read(const struct bh_http_call *c)
{
    return strcmp(c->method, "GET") == 0 || strcmp(c->method, "HEAD") == 0;
}
