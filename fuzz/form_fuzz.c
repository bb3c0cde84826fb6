/*
 * form_fuzz.c -- any bytes at all as what browsers send: multipart bodies, forms, queries, cookies.
 *
 * A call without a server: its wire hands out the input.  The first byte chooses what is
 * parsed, and how many bytes come at a time.
 *
 *     multipart   up to a line feed the Content-Type, then the body: the same parts however
 *                 it is cut
 *     form        the same pairs as the query of that text, or refused; asking by name gives
 *                 the first of the pairs that has it
 *     cookie      what is set cannot add an attribute; what is signed reads back, and nothing else
 */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/http/cookie.h>
#include <bulkhead/http/form.h>

#include "ht.h"

#define MUST(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "violated at line %d: %s\n", __LINE__, #condition);                \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

/* ---- a call whose body is the input ---------------------------------------------- */

struct source {
    const char *data;
    size_t      left, piece;
};

static ssize_t
source_read(struct ht_call *x, void *buffer, size_t size)
{
    struct source *s = x->stream;
    size_t         n = size < s->piece ? size : s->piece;

    n = n < s->left ? n : s->left;
    memcpy(buffer, s->data, n);
    s->data += n;
    s->left -= n;
    x->body_done = n == 0;
    return (ssize_t)n;
}

static const struct ht_wire       wire = { .read = source_read };
static struct bh_http_server      server = { .o = { .max_body = 1 << 20 } };
static struct ht_call             call;
static struct ht_field            field;
static struct bh_http_call *const c = &call.pub;

static void
open_call(struct source *s, const char *name, const char *value)
{
    struct bh_arena *arena = bh_arena_new(0);

    ht_call_reset(&call, &server, arena);
    *c = (struct bh_http_call){ .query = "", .route = "", .arena = arena, .s = &call };
    call.wire = &wire;
    call.stream = s;
    call.head.body = HT_BODY_CHUNKED;
    field.name = bh_arena_string(arena, name, strlen(name));
    field.value = bh_arena_string(arena, value, strlen(value));
    field.name_length = (uint32_t)strlen(name);
    field.value_length = (uint32_t)strlen(value);
    call.head.fields = &field;
    call.head.field_count = 1;
}

static void
close_call(void)
{
    bh_arena_free(c->arena);
}

/* ---- multipart ------------------------------------------------------------------- */

struct heard {
    size_t size;
    char   text[1 << 16];
};

static void
hear(struct heard *h, const void *data, size_t size)
{
    MUST(size <= sizeof h->text - h->size);
    memcpy(h->text + h->size, data, size);
    h->size += size;
}

static void
hear_string(struct heard *h, const char *text)
{
    if (text != NULL)
        hear(h, text, strlen(text));
    hear(h, text != NULL ? "" : "\1", 1);
}

static int
hear_part(struct heard *h, struct bh_multipart *m)
{
    const struct bh_multipart_part *p = bh_multipart_part(m);
    char                            buffer[700];
    ssize_t                         n;

    MUST(p->name != NULL && p->type != NULL);
    MUST(p->filename == NULL || strpbrk(p->filename, "/\\") == NULL);
    hear_string(h, p->name);
    hear_string(h, p->filename);
    hear_string(h, p->type);
    while ((n = bh_multipart_read(m, buffer, sizeof buffer)) > 0)
        hear(h, buffer, (size_t)n);
    MUST(bh_multipart_read(m, buffer, sizeof buffer) <= 0);
    hear_string(h, "");
    return (int)n;
}

static void
read_parts(struct heard *h, const char *type, const char *body, size_t size, size_t piece)
{
    struct source        s = { body, size, piece };
    struct bh_multipart *m;
    int                  rc;

    h->size = 0;
    open_call(&s, "content-type", type);
    rc = bh_http_multipart(c, &(struct bh_multipart_options){ .max_parts = 8 }, &m);
    while (rc == 0 && (rc = bh_multipart_next(m)) > 0)
        rc = hear_part(h, m);
    MUST(rc <= 0);
    hear(h, &rc, sizeof rc);
    close_call();
}

/* preamble: so many bytes come first that the parts lie across the end of the reader's window. */
static void
fuzz_multipart(const char *text, size_t size, size_t piece, size_t preamble)
{
    static struct heard whole, pieces;
    static char         body[1 << 16];
    const char         *feed = memchr(text, '\n', size);
    size_t              length = feed != NULL ? (size_t)(feed - text) : size;
    char                type[256];

    if (feed == NULL || length >= sizeof type || !ht_is_value(text, length))
        return;
    snprintf(type, sizeof type, "%.*s", (int)length, text);
    size -= length + 1;
    if (size > sizeof body - preamble)
        return;
    memset(body, 'x', preamble);
    memcpy(body + preamble, feed + 1, size);
    read_parts(&whole, type, body, preamble + size, sizeof body);
    read_parts(&pieces, type, body, preamble + size, piece);
    MUST(whole.size == pieces.size && memcmp(whole.text, pieces.text, whole.size) == 0);
}

/* ---- forms and queries ----------------------------------------------------------- */

static void
fuzz_form(const char *text, size_t size, size_t piece)
{
    struct source s = { text, size, piece };
    const char   *name, *value, *formed_name, *formed;
    unsigned      count = 0;
    int           rc;

    open_call(&s, "content-type", "application/x-www-form-urlencoded");
    rc = bh_http_parse_form(c);
    if (strlen(text) == size)
        c->query = text;
    for (; bh_http_query_at(c, count, &name, &value); count++) {
        const char *asked = bh_http_query(c, name), *first, *first_value;
        unsigned    i = 0;

        while (bh_http_query_at(c, i, &first, &first_value) && strcmp(first, name) != 0)
            i++;
        MUST(asked != NULL && strcmp(asked, first_value) == 0);
        if (rc >= 0) {
            MUST(bh_http_form_at(c, count, &formed_name, &formed));
            MUST(strcmp(name, formed_name) == 0 && strcmp(value, formed) == 0);
            MUST(strcmp(bh_http_form(c, name), asked) == 0);
        }
    }
    MUST(rc < 0 || (unsigned)rc == count);
    MUST(!bh_http_form_at(c, count, &name, &value) || rc < 0);
    close_call();
}

/* ---- cookies --------------------------------------------------------------------- */

static const char *const keys[] = { "a key of sixteen", "another sixteen.", NULL };

/* What the browser sends back, in the arena; NULL if nothing was set. */
static const char *
sent_back(void)
{
    const char *line = call.lines != NULL ? call.lines->value : NULL;

    return line != NULL ? bh_arena_string(c->arena, line, strcspn(line, ";")) : NULL;
}

static void
fuzz_signed(const char *text)
{
    struct bh_http_cookie k = { .name = "n", .value = text };
    const char           *back;
    char                 *cookie;
    size_t                length;

    open_call(NULL, "cookie", "");
    MUST(bh_http_sign_cookie(c, keys, &k) == 0);
    back = sent_back();
    MUST(back != NULL);
    field.value = cookie = bh_arena_print(c->arena, "a=b; %s", back);
    MUST(strcmp(bh_http_signed_cookie(c, keys + 1, "n") == NULL ? "" : "?", "") == 0);
    MUST(strcmp(bh_http_signed_cookie(c, keys, "n"), text) == 0);
    length = strlen(cookie);
    cookie[length - 5] = cookie[length - 5] == 'A' ? 'B' : 'A';
    MUST(bh_http_signed_cookie(c, keys, "n") == NULL);
    field.value = bh_arena_print(c->arena, "n=%s", text);
    MUST(bh_http_signed_cookie(c, keys, "n") == NULL);
    close_call();
}

static void
fuzz_cookies(const char *text, size_t size)
{
    size_t                half = strcspn(text, "|");
    const char           *back, *value, *domain = text[half] == '|' ? text + half + 1 : NULL;
    struct bh_http_cookie k = { .name = "n", .path = "/p", .domain = domain };

    if (strlen(text) != size)
        return;
    open_call(NULL, "cookie", "");
    k.value = bh_arena_string(c->arena, text, half);
    if (bh_http_set_cookie(c, &k) == 0) {
        const char *line = call.lines->value;
        unsigned    parts = 0;

        MUST(ht_is_value(line, strlen(line)));
        for (const char *p = line; *p != '\0'; p++)
            parts += *p == ';';
        MUST(parts == 3 + (domain != NULL));
        back = sent_back();
        field.value = bh_arena_print(c->arena, " a=1;%s; n=2", back);
        value = bh_http_cookie(c, "n");
        MUST(value != NULL && strcmp(value, k.value) == 0);
    }
    if (ht_is_value(text, size)) {
        field.value = bh_arena_string(c->arena, text, size);
        value = bh_http_cookie(c, "n");
        MUST(value == NULL || strpbrk(value, ";\"\\") == NULL);
    }
    close_call();
    fuzz_signed(text);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char  *text;
    size_t piece = size > 0 ? 1 + (data[0] >> 2) : 0;

    if (size == 0 || (text = malloc(size)) == NULL)
        return 0;
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    switch (data[0] & 3) {
    case 0:
        fuzz_multipart(text, size - 1, piece, 0);
        break;
    case 1:
        fuzz_multipart(text, size - 1, piece * 16, 16384 - size % 256);
        break;
    case 2:
        fuzz_form(text, size - 1, piece);
        break;
    default:
        fuzz_cookies(text, size - 1);
    }
    free(text);
    return 0;
}
