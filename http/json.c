/*
 * json.c -- JSON: trees from text, structs from trees, text from values.
 *
 * simdjson reads (json_tape.cc); what it leaves is a tape, which becomes a tree in the
 * arena here, so that nothing has to be freed and no pointer goes stale while the request
 * lives.  Writing is ours: escape, and put commas where they belong.
 *
 * A mistake in the input is an error whose note names the field, as the client wrote the
 * path to it; a mistake in a format or a nesting is the programmer's, and panics.
 */

#include <bulkhead/http/json.h>

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <bulkhead/base/arena.h>

#include "ht.h"
#include "json_tape.h"

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* ---- from text to a tree --------------------------------------------------------- */

enum { PADDING = 16 }; /* bytes that can be read at any text of the parser's */

struct building {
    struct bh_arena *arena;
    const uint64_t  *end;     /* of the tape */
    const char      *strings; /* a copy of the parser's, in the arena */
    struct bh_json  *nodes;   /* not used yet */
    size_t           node_count;
};

/* at: where the tape has been read to. */
static inline struct bh_json *
new_node(struct building *b, const uint64_t *at)
{
    if (b->node_count == 0) {
        b->node_count = b->end - at < 64 ? (size_t)(b->end - at) : 64;
        b->nodes = bh_arena_raw(b->arena, b->node_count * sizeof *b->nodes);
    }
    b->node_count--;
    return b->nodes++;
}

static inline const char *
take_text(const struct building *b, uint64_t word, uint32_t *size)
{
    const char *text = b->strings + (word & UINT64_C(0x00ffffffffffffff));

    memcpy(size, text, sizeof *size);
    return text + sizeof *size;
}

static const uint64_t *build_members(struct building *b, const uint64_t *at, struct bh_json *v,
                                     char end);

/* The value at `at`.  Returns: behind it. */
static inline __attribute__((always_inline)) const uint64_t *
build(struct building *b, const uint64_t *at, struct bh_json *v)
{
    uint64_t word = *at++;

    switch ((char)(word >> 56)) {
    case '{':
        v->type = BH_JSON_OBJECT;
        return build_members(b, at, v, '}');
    case '[':
        v->type = BH_JSON_LIST;
        return build_members(b, at, v, ']');
    case '"':
        v->type = BH_JSON_TEXT;
        v->text = take_text(b, word, &v->size);
        return at;
    case 'l':
        v->type = BH_JSON_INT;
        v->integer = (int64_t)*at;
        return at + 1;
    case 'u': /* beyond int64_t */
        v->type = BH_JSON_NUMBER;
        v->number = (double)*at;
        return at + 1;
    case 'd':
        v->type = BH_JSON_NUMBER;
        memcpy(&v->number, at, sizeof v->number);
        return at + 1;
    case 't':
    case 'f':
        v->type = BH_JSON_BOOL;
        v->boolean = (char)(word >> 56) == 't';
        return at;
    default:
        return at;
    }
}

/* As deep as the parser lets documents be. */
static const uint64_t *
build_members(struct building *b, const uint64_t *at, struct bh_json *v, char end)
{
    const struct bh_json **last = &v->first;
    uint32_t               count = 0;

    for (; (char)(*at >> 56) != end; count++) {
        struct bh_json *member = new_node(b, at);
        const char     *name = NULL;
        uint32_t        size = 0;

        if (end == '}')
            name = take_text(b, *at++, &size);
        *member = (struct bh_json){
            .parsed = true,
            .name_size = size < UINT16_MAX ? (uint16_t)size : UINT16_MAX,
            .name = name,
        };
        *last = member;
        last = &member->next;
        at = build(b, at, member);
    }
    v->size = count;
    return at + 1;
}

int
bh_json_parse(struct bh_arena *arena, const char *text, size_t size,
              const struct bh_json **value)
{
    /* "", takes three bytes, and five there; the last has no comma */
    size_t          string_size = size / 3 * 5 + 16 + PADDING;
    struct building b = { .arena = arena };
    struct ht_json_tape tape;
    struct bh_json     *root;
    const char         *wrong;

    if (size > UINT32_MAX)
        return bh_fail(-EMSGSIZE, "json: %zu bytes are too many", size);
    wrong = ht_json_tape(text, size, BH_JSON_MAX_DEPTH, &tape);
    if (wrong != NULL)
        return bh_fail(-EBADMSG, "json: %s", wrong);
    b.strings = bh_arena_copy(arena, tape.strings, string_size);
    b.end = tape.words + (tape.words[0] & UINT64_C(0x00ffffffffffffff));
    root = new_node(&b, tape.words + 1);
    *root = (struct bh_json){ .parsed = true };
    (void)build(&b, tape.words + 1, root);
    *value = root;
    return 0;
}

/* ---- reading a tree -------------------------------------------------------------- */

const struct bh_json *
bh_json_get(const struct bh_json *object, const char *name)
{
    const struct bh_json *m = NULL;

    if (object != NULL && object->type == BH_JSON_OBJECT)
        for (m = object->first; m != NULL && strcmp(m->name, name) != 0;)
            m = m->next;
    return m;
}

const struct bh_json *
bh_json_at(const struct bh_json *list, uint32_t i)
{
    const struct bh_json *m = NULL;

    if (list != NULL && (list->type == BH_JSON_LIST || list->type == BH_JSON_OBJECT))
        for (m = list->first; m != NULL && i > 0; i--)
            m = m->next;
    return m;
}

const char *
bh_json_text(const struct bh_json *object, const char *name, const char *otherwise)
{
    const struct bh_json *m = bh_json_get(object, name);

    return m != NULL && m->type == BH_JSON_TEXT ? m->text : otherwise;
}

int64_t
bh_json_int(const struct bh_json *object, const char *name, int64_t otherwise)
{
    const struct bh_json *m = bh_json_get(object, name);

    return m != NULL && m->type == BH_JSON_INT ? m->integer : otherwise;
}

double
bh_json_number(const struct bh_json *object, const char *name, double otherwise)
{
    const struct bh_json *m = bh_json_get(object, name);

    if (m != NULL && m->type == BH_JSON_INT)
        return (double)m->integer;
    return m != NULL && m->type == BH_JSON_NUMBER ? m->number : otherwise;
}

bool
bh_json_bool(const struct bh_json *object, const char *name, bool otherwise)
{
    const struct bh_json *m = bh_json_get(object, name);

    return m != NULL && m->type == BH_JSON_BOOL ? m->boolean : otherwise;
}

/* ---- binding --------------------------------------------------------------------- */

/* Where in the document, for messages: a chain from the inside out. */
struct place {
    const struct place *outer;
    const char         *name;  /* of a member */
    size_t              index; /* of a list, if name is NULL */
};

static size_t
put_place(char *to, size_t room, const struct place *p)
{
    size_t n = p->outer != NULL ? put_place(to, room, p->outer) : 0;
    int    more;

    if (n >= room)
        return n;
    more = p->name != NULL ? snprintf(to + n, room - n, "%s%s", n > 0 ? "." : "", p->name)
                           : snprintf(to + n, room - n, "[%zu]", p->index);
    return n + (more > 0 ? (size_t)more : 0);
}

static int wrong(const struct place *p, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

static int
wrong(const struct place *p, const char *format, ...)
{
    char    where[128], what[128];
    va_list args;

    where[0] = '\0';
    (void)put_place(where, sizeof where, p);
    va_start(args, format);
    (void)vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return bh_fail(-EINVAL, "%s: %s", where, what);
}

static int
check_range(const struct place *p, const struct bh_json_field *f, double n, const char *of)
{
    if (f->min == 0 && f->max == 0)
        return 0;
    if (n < f->min)
        return of[0] == '\0' ? wrong(p, "must be at least %.15g", f->min)
                             : wrong(p, "must have at least %.15g %s", f->min, of);
    if (n > f->max && f->max != 0)
        return of[0] == '\0' ? wrong(p, "must be at most %.15g", f->max)
                             : wrong(p, "must have at most %.15g %s", f->max, of);
    return 0;
}

static int
bind_int(const struct place *p, const struct bh_json_field *f, const struct bh_json *v,
         void *to)
{
    int64_t n = v->integer;
    int     bits = (int)f->size * 8, rc;

    if (v->type != BH_JSON_INT)
        return wrong(p, "must be a whole number");
    rc = check_range(p, f, (double)n, "");
    if (rc < 0)
        return rc;
    if (bits < 64 && (n < -(INT64_C(1) << (bits - 1)) || n >= INT64_C(1) << (bits - 1)))
        return wrong(p, "is out of range");
    switch (f->size) {
    case 1:
        *(int8_t *)to = (int8_t)n;
        return 0;
    case 2:
        *(int16_t *)to = (int16_t)n;
        return 0;
    case 4:
        *(int32_t *)to = (int32_t)n;
        return 0;
    default:
        BH_REQUIRE(f->size == 8);
        *(int64_t *)to = n;
        return 0;
    }
}

static int
bind_number(const struct place *p, const struct bh_json_field *f, const struct bh_json *v,
            double *to)
{
    double n = v->type == BH_JSON_INT ? (double)v->integer : v->number;

    if (v->type != BH_JSON_INT && v->type != BH_JSON_NUMBER)
        return wrong(p, "must be a number");
    *to = n;
    return check_range(p, f, n, "");
}

static size_t
characters(const struct bh_json *v)
{
    size_t n = 0;

    for (uint32_t i = 0; i < v->size; i++)
        n += (v->text[i] & 0xc0) != 0x80;
    return n;
}

static int
bind_text(const struct place *p, const struct bh_json_field *f, const struct bh_json *v,
          const char **to)
{
    if (v->type != BH_JSON_TEXT)
        return wrong(p, "must be a text");
    if (strlen(v->text) != v->size)
        return wrong(p, "may not contain a NUL");
    *to = v->text;
    return check_range(p, f, (double)characters(v), "characters");
}

static int bind_object(struct bh_arena *arena, const struct place *p,
                       const struct bh_json_field *fields, const struct bh_json *v, char *out);

static int
bind_list(struct bh_arena *arena, const struct place *p, const struct bh_json_field *f,
          const struct bh_json *v, char *out)
{
    struct place at = { .outer = p };
    char        *items;
    int          rc;

    if (v->type != BH_JSON_LIST)
        return wrong(p, "must be a list");
    rc = check_range(p, f, v->size, "items");
    if (rc < 0)
        return rc;
    items = bh_arena_alloc(arena, (v->size + (size_t)1) * f->item_size);
    memset(items, 0, (v->size + (size_t)1) * f->item_size);
    *(void **)(void *)(out + f->offset) = items;
    *(size_t *)(void *)(out + f->count_offset) = v->size;
    for (const struct bh_json *m = v->first; m != NULL && rc == 0; m = m->next) {
        rc = bind_object(arena, &at, f->fields, m, items);
        items += f->item_size;
        at.index++;
    }
    return rc;
}

static int
bind_field(struct bh_arena *arena, const struct place *p, const struct bh_json_field *f,
           const struct bh_json *v, char *out)
{
    void *to = out + f->offset;

    switch (f->kind) {
    case BH_JSON_KIND_INT:
        return bind_int(p, f, v, to);
    case BH_JSON_KIND_NUMBER:
        return bind_number(p, f, v, to);
    case BH_JSON_KIND_BOOL:
        *(bool *)to = v->boolean;
        return v->type == BH_JSON_BOOL ? 0 : wrong(p, "must be true or false");
    case BH_JSON_KIND_TEXT:
        return bind_text(p, f, v, to);
    case BH_JSON_KIND_VALUE:
        *(const struct bh_json **)to = v;
        return 0;
    case BH_JSON_KIND_OBJECT:
        return bind_object(arena, p, f->fields, v, to);
    case BH_JSON_KIND_LIST:
        return bind_list(arena, p, f, v, out);
    default:
        bh_panic("json: field \"%s\" is of no kind", f->name);
    }
}

static int
bind_object(struct bh_arena *arena, const struct place *p, const struct bh_json_field *fields,
            const struct bh_json *v, char *out)
{
    int rc = 0;

    if (v->type != BH_JSON_OBJECT)
        return p != NULL ? wrong(p, "must be an object")
                         : bh_fail(-EINVAL, "json: must be an object");
    for (const struct bh_json_field *f = fields; f->name != NULL && rc == 0; f++) {
        const struct bh_json *m = bh_json_get(v, f->name), *again = m;
        struct place          at = { .outer = p, .name = f->name };

        while (again != NULL && (again = again->next) != NULL)
            if (strcmp(again->name, f->name) == 0)
                return wrong(&at, "is given twice");
        if (m != NULL && (m->type != BH_JSON_NULL || f->kind == BH_JSON_KIND_VALUE))
            rc = bind_field(arena, &at, f, m, out);
        else if (f->required)
            rc = wrong(&at, "is missing");
    }
    return rc;
}

int
bh_json_bind(struct bh_arena *arena, const struct bh_json *object,
             const struct bh_json_field *fields, void *out)
{
    return bind_object(arena, NULL, fields, object, out);
}

/* ---- of a request ---------------------------------------------------------------- */

/* An application/json, or anything/something+json, whatever its parameters. */
static bool
is_json(const char *type)
{
    size_t length = strcspn(type, "; \t");

    return (length == 16 && strncasecmp(type, "application/json", 16) == 0) ||
           (length > 5 && strncasecmp(type + length - 5, "+json", 5) == 0);
}

/* Malformed, and why is in the note. */
static int
refuse_noted(struct bh_http_call *c, int rc)
{
    const char *note = bh_error_note();

    (void)ht_body_refuse(c, -EBADMSG, bh_arena_string(c->arena, note, strlen(note)));
    return rc;
}

int
bh_http_json(struct bh_http_call *c, const struct bh_json **value)
{
    const char *type = bh_http_header(c, "content-type"), *text;
    ssize_t     size;
    int         rc;

    if (type != NULL && !is_json(type))
        return ht_body_refuse(c, -EPROTOTYPE, "application/json is wanted");
    size = bh_http_body(c, &text);
    if (size < 0)
        return (int)size;
    rc = bh_json_parse(c->arena, text, (size_t)size, value);
    return rc < 0 ? refuse_noted(c, rc) : 0;
}

int
bh_http_bind(struct bh_http_call *c, const struct bh_json_field *fields, void *out)
{
    const struct bh_json *value;
    int                   rc = bh_http_json(c, &value);

    if (rc < 0)
        return rc;
    rc = bh_json_bind(c->arena, value, fields, out);
    return rc < 0 ? refuse_noted(c, rc) : 0;
}

/* ---- writing --------------------------------------------------------------------- */

/*
 * What writes takes `at`, where to, and returns where it has come to; o->size is behind
 * until the end of a public call.
 *
 * At `at` there is room for the longest double, a comma, a bracket and a NUL wherever a value is
 * begun: what is short goes in unasked.  Only texts, and what follows them, make room.
 */

enum { SPARE = 64 }; /* bytes that have leaves behind what is asked of it */

static char *__attribute__((noinline)) grow(struct bh_json_out *o, char *at, size_t size)
{
    size_t used = o->room > 0 ? (size_t)(at - o->text) : 0;
    size_t room = (used + size + SPARE) * 2 + 2000;
    char  *bigger = bh_arena_raw(o->arena, room);

    if (used > 0)
        memcpy(bigger, o->text, used);
    o->text = bigger;
    o->room = room;
    return bigger + used;
}

/* Room for size bytes, and SPARE. */
static inline char *
have(struct bh_json_out *o, char *at, size_t size)
{
    return o->room > 0 && (size_t)(o->text + o->room - at) > size + SPARE ? at
                                                                          : grow(o, at, size);
}

static inline char *
begin(struct bh_json_out *o)
{
    return have(o, o->text + o->size, 0);
}

static void
wrote(struct bh_json_out *o, char *end)
{
    o->size = (size_t)(end - o->text);
    *end = '\0';
}

/* put_word -- a literal. */
#define put_word(at, word) ((char *)mempcpy(at, word, sizeof word - 1))

#ifdef __SSE2__
/* The top bit of each byte that does not go out as it is, whatever follows: beyond ASCII too. */
static inline __m128i
special(__m128i x)
{
    __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(x, _mm_set1_epi8(0x1f)), x);
    __m128i quote = _mm_cmpeq_epi8(x, _mm_set1_epi8('"'));
    __m128i slash = _mm_cmpeq_epi8(x, _mm_set1_epi8('\\'));

    return _mm_or_si128(_mm_or_si128(control, x), _mm_or_si128(quote, slash));
}
#endif

/*
 * Copy what all goes out as it is; the last bytes together with some before them.
 * Returns: behind it, or NULL if something does not; then anything may be at `at`.
 */
static inline char *
copy_plain(char *at, const char *text, size_t size)
{
#ifdef __SSE2__
    __m128i x, seen = _mm_setzero_si128();

    if (size >= 16) {
        for (size_t i = 0; i < size; i += 16) {
            size_t from = size - i >= 16 ? i : size - 16;

            x = _mm_loadu_si128((const __m128i *)(const void *)(text + from));
            _mm_storeu_si128((__m128i *)(void *)(at + from), x);
            seen = _mm_or_si128(seen, special(x));
        }
    } else if (size >= 8) {
        uint64_t first, last;

        memcpy(&first, text, 8);
        memcpy(&last, text + size - 8, 8);
        memcpy(at, &first, 8);
        memcpy(at + size - 8, &last, 8);
        seen = special(_mm_set_epi64x((int64_t)last, (int64_t)first));
    } else if (size >= 4) {
        uint32_t first, last;

        memcpy(&first, text, 4);
        memcpy(&last, text + size - 4, 4);
        memcpy(at, &first, 4);
        memcpy(at + size - 4, &last, 4);
        seen = special(_mm_set1_epi64x((int64_t)((uint64_t)last << 32 | first)));
    } else if (size > 0) {
        const unsigned first = (unsigned char)text[0], middle = (unsigned char)text[size / 2],
                       last = (unsigned char)text[size - 1];

        at[0] = (char)first;
        at[size / 2] = (char)middle;
        at[size - 1] = (char)last;
        seen = special(_mm_set1_epi32((int)(first | middle << 8 | last << 16 | last << 24)));
    }
    return _mm_movemask_epi8(seen) == 0 ? at + size : NULL;
#else
    for (size_t i = 0; i < size; i++) {
        unsigned char c = (unsigned char)text[i];

        at[i] = (char)c;
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\')
            return NULL;
    }
    return at + size;
#endif
}

/* copy_padded -- copy_plain of what PADDING bytes can be read at.  Writes as many. */
static inline char *
copy_padded(char *at, const char *text, size_t size)
{
#ifdef __SSE2__
    if (size <= 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)text);

        _mm_storeu_si128((__m128i *)(void *)at, x);
        return (_mm_movemask_epi8(special(x)) & ((1 << size) - 1)) == 0 ? at + size : NULL;
    }
#endif
    return copy_plain(at, text, size);
}

/* How many bytes from p go out as they are, whatever follows. */
static size_t
span_plain(const char *p, const char *end)
{
    const char *start = p;

#ifdef __SSE2__
    for (; end - p >= 16; p += 16) {
        int mask =
            _mm_movemask_epi8(special(_mm_loadu_si128((const __m128i *)(const void *)p)));

        if (mask != 0)
            return (size_t)(p - start) + (size_t)__builtin_ctz((unsigned)mask);
    }
#endif
    while (p < end && (unsigned char)*p >= 0x20 && (unsigned char)*p < 0x80 && *p != '"' &&
           *p != '\\')
        p++;
    return (size_t)(p - start);
}

/* Returns: bytes of the character beyond ASCII at p, 0 if it is not UTF-8 (RFC 3629 section 4). */
static size_t
character(const char *p, const char *end)
{
    unsigned char first = (unsigned char)p[0], second = end - p > 1 ? (unsigned char)p[1] : 0;
    size_t n = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    unsigned char least = first == 0xe0 ? 0xa0 : first == 0xf0 ? 0x90 : 0x80;
    unsigned char most = first == 0xed ? 0x9f : first == 0xf4 ? 0x8f : 0xbf;

    if ((size_t)(end - p) < n || second < least || second > most)
        return 0;
    for (size_t i = 2; i < n; i++)
        if ((p[i] & 0xc0) != 0x80)
            return 0;
    return n;
}

/* At most six bytes. */
static char *
put_escaped(char *at, unsigned char c)
{
    static const char letters[32] = {
        ['\b'] = 'b', ['\t'] = 't', ['\n'] = 'n', ['\f'] = 'f', ['\r'] = 'r'
    };

    *at++ = '\\';
    if (c >= 0x20 || letters[c] != '\0') {
        *at++ = c >= 0x20 ? (char)c : letters[c];
        return at;
    }
    memcpy(at, "u00", 3);
    at[3] = (char)('0' + (c >> 4));
    at[4] = "0123456789abcdef"[c & 15];
    return at + 5;
}

/*
 * What may need escapes.  Whatever is no UTF-8 becomes U+FFFD, byte by byte: no text makes JSON
 * that nobody reads.
 */
static char *__attribute__((noinline))
put_escaping(struct bh_json_out *o, char *at, const char *text, const char *end)
{
    for (;;) {
        size_t n = span_plain(text, end);

        if (text + n < end && (text[n] & 0x80) != 0)
            n += character(text + n, end);
        at = have(o, at, (size_t)(end - text) + 7);
        if (n > 0) {
            at = (char *)mempcpy(at, text, n);
            text += n;
            continue;
        }
        if (text == end)
            return at;
        if ((*text & 0x80) != 0)
            at = (char *)mempcpy(at, "\xef\xbf\xbd", 3);
        else
            at = put_escaped(at, (unsigned char)*text);
        text++;
    }
}

/*
 * Leaves SPARE, even with a comma before it and a colon behind it.
 * padded: PADDING bytes can be read at text, however short it is.
 */
static inline __attribute__((always_inline)) char *
put_text(struct bh_json_out *o, char *at, const char *text, size_t size, bool padded)
{
    char *end;

    at = have(o, at, size + 3);
    *at++ = '"';
    end = padded ? copy_padded(at, text, size) : copy_plain(at, text, size);
    if (__builtin_expect(end == NULL, 0))
        end = have(o, put_escaping(o, at, text, text + size), 2);
    *end++ = '"';
    return end;
}

static char *__attribute__((noinline))
put_any_text(struct bh_json_out *o, char *at, const char *text, size_t size)
{
    return put_text(o, at, text, size, false);
}

static char *
put_any_name(struct bh_json_out *o, char *at, const char *name)
{
    at = put_any_text(o, at, name, strlen(name));
    *at++ = ':';
    return at;
}

static inline char *
put_name(struct bh_json_out *o, char *at, const struct bh_json *v)
{
    if (!v->parsed || v->name_size == UINT16_MAX)
        return put_any_name(o, at, v->name);
    at = put_text(o, at, v->name, v->name_size, true);
    *at++ = ':';
    return at;
}

/* The comma before a value, and its name. */
static inline char *
start(struct bh_json_out *o, const char *name)
{
    char *at = begin(o), last = at > o->text ? at[-1] : '[';

    if (last != '[' && last != '{' && last != ':' && last != ',')
        *at++ = ',';
    return name != NULL ? put_any_name(o, at, name) : at;
}

void
bh_json_open(struct bh_json_out *o, const char *name, char bracket)
{
    char *at = start(o, name);

    BH_REQUIRE(bracket == '[' || bracket == '{');
    *at++ = bracket;
    wrote(o, at);
}

void
bh_json_close(struct bh_json_out *o, char bracket)
{
    char *at = begin(o);

    BH_REQUIRE(bracket == ']' || bracket == '}');
    *at++ = bracket;
    wrote(o, at);
}

void
bh_json_add_bytes(struct bh_json_out *o, const char *name, const char *text, size_t size)
{
    char *at = start(o, name);

    wrote(o, text == NULL ? put_word(at, "null") : put_any_text(o, at, text, size));
}

void
bh_json_add_text(struct bh_json_out *o, const char *name, const char *text)
{
    bh_json_add_bytes(o, name, text, text != NULL ? strlen(text) : 0);
}

static char *
put_int(char *at, int64_t number)
{
    if (number < 0)
        *at++ = '-';
    return ht_put_number(at, number < 0 ? -(uint64_t)number : (uint64_t)number);
}

/* Money and the like: at most three decimals.  Returns: behind it, or NULL if it is not so simple. */
static char *
put_decimal(char *at, double number)
{
    double  thousands = number * 1000;
    int64_t n;

    if (!(fabs(thousands) < 1e15) || number == 0)
        return NULL;
    n = (int64_t)thousands;
    if ((double)n != thousands || thousands / 1000 != number)
        return NULL;
    if (n < 0) {
        *at++ = '-';
        n = -n;
    }
    at = ht_put_number(at, (uint64_t)n / 1000);
    n %= 1000;
    if (n == 0)
        return at;
    *at++ = '.';
    *at++ = (char)('0' + n / 100);
    if (n % 100 != 0)
        *at++ = (char)('0' + n / 10 % 10);
    if (n % 10 != 0)
        *at++ = (char)('0' + n % 10);
    return at;
}

static char *
put_double(char *at, double number)
{
    char *end = put_decimal(at, number);

    if (end != NULL)
        return end;
    if (number == 0 &&
        signbit(number)) /* "-0" would read as an integer, which has no sign then */
        return put_word(at, "-0.0");
    return isfinite(number) ? ht_json_put_number(at, number) : put_word(at, "null");
}

static char *
put_bool(char *at, bool value)
{
    return value ? put_word(at, "true") : put_word(at, "false");
}

void
bh_json_add_int(struct bh_json_out *o, const char *name, int64_t number)
{
    wrote(o, put_int(start(o, name), number));
}

void
bh_json_add_number(struct bh_json_out *o, const char *name, double number)
{
    wrote(o, put_double(start(o, name), number));
}

void
bh_json_add_bool(struct bh_json_out *o, const char *name, bool value)
{
    wrote(o, put_bool(start(o, name), value));
}

static inline char *put_value(struct bh_json_out *o, char *at, const struct bh_json *v);

static char *
put_members(struct bh_json_out *o, char *at, const struct bh_json *v, bool named)
{
    *at++ = named ? '{' : '[';
    for (const struct bh_json *m = v->first; m != NULL; m = m->next) {
        if (m != v->first)
            *at++ = ',';
        at = put_value(o, named ? put_name(o, at, m) : have(o, at, 0), m);
    }
    at = have(o, at, 1);
    *at++ = named ? '}' : ']';
    return at;
}

static inline __attribute__((always_inline)) char *
put_value(struct bh_json_out *o, char *at, const struct bh_json *v)
{
    switch (v->type) {
    case BH_JSON_NULL:
        return put_word(at, "null");
    case BH_JSON_BOOL:
        return put_bool(at, v->boolean);
    case BH_JSON_INT:
        return put_int(at, v->integer);
    case BH_JSON_NUMBER:
        return put_double(at, v->number);
    case BH_JSON_TEXT:
        return v->parsed ? put_text(o, at, v->text, v->size, true)
                         : put_any_text(o, at, v->text, v->size);
    default:
        return put_members(o, at, v, v->type == BH_JSON_OBJECT);
    }
}

void
bh_json_add_value(struct bh_json_out *o, const char *name, const struct bh_json *value)
{
    static const struct bh_json null = { .type = BH_JSON_NULL };

    wrote(o, put_value(o, start(o, name), value != NULL ? value : &null));
}

/* ---- printing -------------------------------------------------------------------- */

/* What stands behind a '%': flags of length, and the letter. */
static int64_t
take_signed(const char *length, va_list *args)
{
    if (strcmp(length, "") == 0)
        return va_arg(*args, int);
    return strcmp(length, "ll") == 0 ? va_arg(*args, long long) : va_arg(*args, long);
}

static uint64_t
take_unsigned(const char *length, va_list *args)
{
    if (strcmp(length, "") == 0)
        return va_arg(*args, unsigned);
    return strcmp(length, "ll") == 0 ? va_arg(*args, unsigned long long)
                                     : va_arg(*args, unsigned long);
}

static char *
print_text(struct bh_json_out *o, char *at, int precision, const char *text)
{
    size_t size = 0;

    if (text == NULL)
        return put_word(at, "null");
    size = precision >= 0 ? strnlen(text, (size_t)precision) : strlen(text);
    return put_any_text(o, at, text, size);
}

/* One conversion, at *p, which moves behind it. */
static char *
print_one(struct bh_json_out *o, char *at, const char **p, va_list *args)
{
    static const struct bh_json null = { .type = BH_JSON_NULL };
    int                         precision = -1;
    char                        length[3] = "";
    size_t                      n = 0;
    const struct bh_json       *v;

    if ((*p)[0] == '.' && (*p)[1] == '*') {
        precision = va_arg(*args, int);
        *p += 2;
    }
    while ((**p == 'l' || **p == 'z') && n < 2)
        length[n++] = *(*p)++;
    switch (*(*p)++) {
    case 's':
        return print_text(o, at, precision, va_arg(*args, const char *));
    case 'd':
    case 'i':
        return put_int(at, take_signed(length, args));
    case 'u':
        return ht_put_number(at, take_unsigned(length, args));
    case 'g':
        return put_double(at, va_arg(*args, double));
    case 'p':
        v = va_arg(*args, const void *);
        return put_value(o, at, v != NULL ? v : &null);
    case '%':
        *at++ = '%';
        return at;
    default:
        bh_panic("json: no conversion %%%s%c", length, (*p)[-1]);
    }
}

void
bh_json_vprint(struct bh_json_out *o, const char *format, va_list args)
{
    char   *at = begin(o);
    va_list copy;

    va_copy(copy, args);
    while (*format != '\0') {
        size_t plain = strcspn(format, "%");

        at = (char *)mempcpy(have(o, at, plain), format, plain);
        format += plain;
        if (*format == '%') {
            format++;
            at = print_one(o, at, &format, &copy);
        }
    }
    va_end(copy);
    wrote(o, at);
}

void
bh_json_print(struct bh_json_out *o, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    bh_json_vprint(o, format, args);
    va_end(args);
}

int
bh_http_reply_json(struct bh_http_call *c, int status, const char *format, ...)
{
    struct bh_json_out o = { .arena = c->arena };
    va_list            args;

    va_start(args, format);
    bh_json_vprint(&o, format, args);
    va_end(args);
    return bh_http_reply_bytes(c, status, "application/json", o.text, o.size);
}

int
bh_http_reply_value(struct bh_http_call *c, int status, const struct bh_json *value)
{
    struct bh_json_out o = { .arena = c->arena };

    bh_json_add_value(&o, NULL, value);
    return bh_http_reply_bytes(c, status, "application/json", o.text, o.size);
}
