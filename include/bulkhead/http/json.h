#ifndef BULKHEAD_HTTP_JSON_H
#define BULKHEAD_HTTP_JSON_H

/*
 * json.h -- JSON in and out.
 *
 *     struct order { const char *customer; int64_t count; };
 *
 *     static const struct bh_json_field order_fields[] = {
 *         BH_JSON_TEXT_FIELD("customer", struct order, customer, .required = true, .max = 80),
 *         BH_JSON_INT_FIELD("count", struct order, count, .min = 1, .max = 1000),
 *         { 0 },
 *     };
 *
 *     struct order o = { .count = 1 };
 *     int err = bh_http_bind(c, order_fields, &o);
 *     if (err < 0)
 *         return err;             400: "count: must be at most 1000"
 *     return bh_http_reply_json(c, 200, "{\"customer\":%s,\"count\":%ld}", o.customer, o.count);
 *
 * Values are read-only trees in an arena, the request's as a rule: nothing to free.
 */

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <bulkhead/http/http.h>

struct bh_arena;

enum __attribute__((packed)) bh_json_type {
    BH_JSON_NULL,
    BH_JSON_BOOL,
    BH_JSON_INT,    /* a whole number that int64_t holds, written without '.' and 'e' */
    BH_JSON_NUMBER, /* any other */
    BH_JSON_TEXT,
    BH_JSON_LIST,
    BH_JSON_OBJECT,
};

struct bh_json {
    enum bh_json_type type;
    bool              parsed;    /* by bh_json_parse: name_size is set, and texts are padded */
    uint16_t          name_size; /* bytes; UINT16_MAX or more: UINT16_MAX */
    uint32_t          size; /* of a text, bytes; of a list or object, members */
    union {
        bool                  boolean;
        int64_t               integer;
        double                number;
        const char           *text;  /* UTF-8, NUL-terminated; may hold NULs of its own */
        const struct bh_json *first; /* member, in the order sent */
    };
    const char           *name; /* in an object; else NULL */
    const struct bh_json *next; /* member of the same list or object */
};

enum { BH_JSON_MAX_DEPTH = 64 };

/*
 * bh_json_parse -- text of RFC 8259, UTF-8, at most BH_JSON_MAX_DEPTH deep.
 *
 * Returns: 0; or -EBADMSG with a note that says what and where; -EMSGSIZE over 4 GiB.
 * Owns:    *value is in the arena.
 */
int bh_json_parse(struct bh_arena *arena, const char *text, size_t size,
                  const struct bh_json **value);

/* bh_json_get -- the member of that name, the first; NULL if there is none, or no object. */
const struct bh_json *bh_json_get(const struct bh_json *object, const char *name);
/* bh_json_at -- member i of a list or object; NULL behind the last. */
const struct bh_json *bh_json_at(const struct bh_json *list, uint32_t i);
/* What a member holds, or `otherwise` if it is absent or of another type.  Ints are numbers too. */
const char *bh_json_text(const struct bh_json *object, const char *name, const char *otherwise);
int64_t     bh_json_int(const struct bh_json *object, const char *name, int64_t otherwise);
double      bh_json_number(const struct bh_json *object, const char *name, double otherwise);
bool        bh_json_bool(const struct bh_json *object, const char *name, bool otherwise);

/* ---- binding: into a struct, checked --------------------------------------------- */

enum bh_json_kind {
    BH_JSON_KIND_INT = 1, /* int8_t to int64_t, by its size */
    BH_JSON_KIND_NUMBER,  /* double */
    BH_JSON_KIND_BOOL,    /* bool */
    BH_JSON_KIND_TEXT,    /* const char *, without NUL bytes */
    BH_JSON_KIND_VALUE,   /* const struct bh_json *, of any type */
    BH_JSON_KIND_OBJECT,  /* a struct inside */
    BH_JSON_KIND_LIST,    /* a pointer to structs, and their number */
};

struct bh_json_field {
    const char       *name;
    enum bh_json_kind kind;
    size_t            offset, size; /* in the struct */
    bool              required;     /* absent or null is an error; else the struct keeps its value */
    double            min, max;     /* of a number; of characters or items; both 0: no limit */
    const struct bh_json_field *fields; /* OBJECT, LIST: ends with a zero one */
    size_t            item_size;    /* LIST */
    size_t            count_offset; /* LIST: of its size_t */
};

#define BH_JSON_FIELD_(kind_, name_, type, member, ...)                                        \
    { .name = (name_), .kind = (kind_), .offset = offsetof(type, member),                      \
      .size = sizeof(((type *)0)->member), __VA_ARGS__ }
/* (name, struct, member, options ...); the latter as .required = true, .min = 1, .max = 9. */
#define BH_JSON_INT_FIELD(name, type, ...)    BH_JSON_FIELD_(BH_JSON_KIND_INT, name, type, __VA_ARGS__, )
#define BH_JSON_NUMBER_FIELD(name, type, ...) BH_JSON_FIELD_(BH_JSON_KIND_NUMBER, name, type, __VA_ARGS__, )
#define BH_JSON_BOOL_FIELD(name, type, ...)   BH_JSON_FIELD_(BH_JSON_KIND_BOOL, name, type, __VA_ARGS__, )
#define BH_JSON_TEXT_FIELD(name, type, ...)   BH_JSON_FIELD_(BH_JSON_KIND_TEXT, name, type, __VA_ARGS__, )
#define BH_JSON_VALUE_FIELD(name, type, ...)  BH_JSON_FIELD_(BH_JSON_KIND_VALUE, name, type, __VA_ARGS__, )
/* (name, struct, member, the member's fields, options ...) */
#define BH_JSON_OBJECT_FIELD(name, type, member, members, ...)                                 \
    BH_JSON_FIELD_(BH_JSON_KIND_OBJECT, name, type, member, .fields = (members), __VA_ARGS__)
/* (name, struct, pointer, number, an item's fields, options ...) */
#define BH_JSON_LIST_FIELD(name, type, member, count, members, ...)                            \
    BH_JSON_FIELD_(BH_JSON_KIND_LIST, name, type, member, .fields = (members),                 \
                   .item_size = sizeof(*((type *)0)->member),                                  \
                   .count_offset = offsetof(type, count), __VA_ARGS__)

/*
 * bh_json_bind -- the members of an object into *out.
 *
 * Members that no field names are ignored; one given twice is an error.
 * Returns: 0; or -EINVAL with a note that names the field: "items[2].count: must be at
 *          most 1000".
 * Owns:    texts and lists are in the arena.
 */
int bh_json_bind(struct bh_arena *arena, const struct bh_json *object,
                 const struct bh_json_field *fields, void *out);

/*
 * bh_http_json -- the body of a request.
 * bh_http_bind -- the same, bound to a struct.
 *
 * Returns: 0; -EBADMSG or -EINVAL with a note, and a handler that returns it without a
 *          reply answers 400 with the note's text; -EPROTOTYPE if the body is of another
 *          type, 415; the errors of bh_http_body.
 */
int bh_http_json(struct bh_http_call *c, const struct bh_json **value);
int bh_http_bind(struct bh_http_call *c, const struct bh_json_field *fields, void *out);

/* ---- building -------------------------------------------------------------------- */

/*
 * A text that grows in an arena.  Commas come by themselves; a name is NULL in a list.
 *
 *     struct bh_json_out out = { .arena = c->arena };
 *     bh_json_open(&out, NULL, '{');
 *     bh_json_add_text(&out, "name", name);
 *     bh_json_open(&out, "tags", '[');
 *     bh_json_add_int(&out, NULL, 1);
 *     bh_json_close(&out, ']');
 *     bh_json_close(&out, '}');
 *     return bh_http_reply_bytes(c, 200, "application/json", out.text, out.size);
 */
struct bh_json_out {
    struct bh_arena *arena;
    char            *text; /* NUL-terminated once there is any */
    size_t           size, room;
};

void bh_json_open(struct bh_json_out *o, const char *name, char bracket);
void bh_json_close(struct bh_json_out *o, char bracket);
/* NULL is null. */
void bh_json_add_text(struct bh_json_out *o, const char *name, const char *text);
void bh_json_add_bytes(struct bh_json_out *o, const char *name, const char *text, size_t size);
void bh_json_add_int(struct bh_json_out *o, const char *name, int64_t number);
/* As short as reads back the same; null for infinities and what is no number. */
void bh_json_add_number(struct bh_json_out *o, const char *name, double number);
void bh_json_add_bool(struct bh_json_out *o, const char *name, bool value);
void bh_json_add_value(struct bh_json_out *o, const char *name, const struct bh_json *value);

/*
 * bh_json_print -- JSON with % where values go, checked by the compiler as printf's.
 *
 *     %s      a text, quoted and escaped; NULL is null.  %.*s: of that many bytes
 *     %d %ld %lld %zd, %u %lu %llu %zu   whole numbers
 *     %g      a double, as bh_json_add_number
 *     %p      a struct bh_json *
 *     %%      a percent sign
 *
 * Panics: on any other.
 */
void bh_json_print(struct bh_json_out *o, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
void bh_json_vprint(struct bh_json_out *o, const char *format, va_list args)
    __attribute__((format(printf, 2, 0)));

/* bh_http_reply_value -- a value, as "application/json".  Returns: 0. */
int bh_http_reply_value(struct bh_http_call *c, int status, const struct bh_json *value);

#endif
