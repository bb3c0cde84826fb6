/*
 * propagate.c -- traceparent, tracestate, baggage: parsed strictly, written canonically.
 *
 * Anybody can send these fields, so nothing of one that breaks a rule is used: a bad
 * traceparent begins a new trace, a bad tracestate or baggage is left out.  The lists are
 * walked in place, member by member; a tracestate has at most 32 of them, which fit an
 * array on the stack.  No memory is taken, so that the fuzzer can link this file alone.
 */

#include <bulkhead/observe/propagate.h>

#include <errno.h>
#include <string.h>

#include <bulkhead/observe/record.h>

enum {
    TRACE_AT = 3,
    SPAN_AT = 36,
    FLAGS_AT = 53,
    LENGTH = 55,
    MAX_KEY = 256,
    MAX_VALUE = 256,
    LARGE = 128, /* members over this length go first */
};

/* ---- traceparent ----------------------------------------------------------------- */

/* A digit's value, lower case only; beyond 15 if it is none. */
static inline unsigned
digit_of(char c)
{
    return c >= '0' && c <= '9'   ? (unsigned)(c - '0')
           : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                  : 16;
}

typedef unsigned char bytes16 __attribute__((vector_size(16)));
typedef unsigned char bytes8 __attribute__((vector_size(8)));
typedef uint16_t      pairs8 __attribute__((vector_size(16)));

/* Sixteen digits at once into eight bytes.  Returns: whether they all are. */
static inline bool
unhex16(unsigned char out[8], const char *text)
{
    bytes16  c, digit, letter, is_digit, is_letter;
    pairs8   pair;
    bytes8   bytes;
    uint64_t all[2];

    memcpy(&c, text, sizeof c);
    digit = c - '0';
    letter = c - 'a';
    is_digit = (bytes16)(digit < 10);
    is_letter = (bytes16)(letter < 6);
    pair = (pairs8)((digit & is_digit) | ((letter + 10) & is_letter));
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
    pair = pair << 4 | pair >> 8; /* the first of two is the high one */
#else
#error "the order of digits is written for little endian"
#endif
    bytes = __builtin_convertvector(pair & 0xff, bytes8);
    memcpy(out, &bytes, sizeof bytes);
    c = is_digit | is_letter;
    memcpy(all, &c, sizeof all);
    return (all[0] & all[1]) == UINT64_MAX;
}

static inline bool
is_zero(const unsigned char *id, size_t size)
{
    uint64_t word, any = 0;

    for (size_t i = 0; i < size; i += sizeof word) {
        memcpy(&word, id + i, sizeof word);
        any |= word;
    }
    return any == 0;
}

/* Two digits; 256 or more if they are none. */
static inline unsigned
unhex2(const char *text)
{
    unsigned high = digit_of(text[0]), low = digit_of(text[1]);

    return (high | low) < 16 ? high << 4 | low : 256;
}

int
bh_traceparent_parse(const char *value, size_t size, struct bh_trace_context *context)
{
    struct bh_trace_context c;
    unsigned                version, flags;

    if (size < LENGTH || (version = unhex2(value)) >= 0xff)
        return -EBADMSG;
    if (size > LENGTH && (version == 0 || value[LENGTH] != '-'))
        return -EBADMSG;
    if (value[TRACE_AT - 1] != '-' || value[SPAN_AT - 1] != '-' || value[FLAGS_AT - 1] != '-')
        return -EBADMSG;
    if (!unhex16(c.trace_id, value + TRACE_AT) ||
        !unhex16(c.trace_id + 8, value + TRACE_AT + 16) ||
        !unhex16(c.span_id, value + SPAN_AT) || (flags = unhex2(value + FLAGS_AT)) > 0xff)
        return -EBADMSG;
    if (is_zero(c.trace_id, sizeof c.trace_id) || is_zero(c.span_id, sizeof c.span_id))
        return -EBADMSG;
    c.flags = flags & (BH_TRACE_SAMPLED | BH_TRACE_RANDOM);
    *context = c;
    return 0;
}

static char *
hex(char *out, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "0123456789abcdef";

    for (size_t i = 0; i < size; i++) {
        *out++ = digits[bytes[i] >> 4];
        *out++ = digits[bytes[i] & 15];
    }
    return out;
}

void
bh_traceparent_format(char out[BH_TRACEPARENT_SIZE], const struct bh_trace_context *context)
{
    const unsigned char flags = context->flags & (BH_TRACE_SAMPLED | BH_TRACE_RANDOM);

    memcpy(out, "00-", 3);
    out = hex(out + 3, context->trace_id, sizeof context->trace_id);
    *out++ = '-';
    out = hex(out, context->span_id, sizeof context->span_id);
    *out++ = '-';
    out = hex(out, &flags, 1);
    *out = '\0';
}

/* ---- lists ----------------------------------------------------------------------- */

struct span_of_text {
    const char *text;
    size_t      size;
};

static struct span_of_text
trim(const char *from, const char *to)
{
    while (from < to && (*from == ' ' || *from == '\t'))
        from++;
    while (from < to && (to[-1] == ' ' || to[-1] == '\t'))
        to--;
    return (struct span_of_text){ from, (size_t)(to - from) };
}

/* The next member of a list, white space around it removed; *at moves behind its comma. */
static bool
next_member(const char **at, struct span_of_text *member)
{
    const char *from = *at, *to;

    if (from == NULL)
        return false;
    to = strchrnul(from, ',');
    *member = trim(from, to);
    *at = *to == ',' ? to + 1 : NULL;
    return true;
}

/* ---- tracestate ------------------------------------------------------------------ */

struct member {
    const char *text;
    size_t      key_size, size;
};

static bool
is_key_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-' ||
           c == '*' || c == '/' || c == '@';
}

static bool
is_key(const char *key, size_t size)
{
    if (size == 0 || size > MAX_KEY || key[0] == '_' || key[0] == '-' || key[0] == '*' ||
        key[0] == '/' || key[0] == '@')
        return false;
    for (size_t i = 0; i < size; i++)
        if (!is_key_char(key[i]))
            return false;
    return true;
}

static bool
is_value(const char *value, size_t size)
{
    if (size == 0 || size > MAX_VALUE || value[size - 1] == ' ')
        return false;
    for (size_t i = 0; i < size; i++)
        if (value[i] < ' ' || value[i] > '~' || value[i] == ',' || value[i] == '=')
            return false;
    return true;
}

static bool
split(struct span_of_text text, struct member *m)
{
    const char *equals = memchr(text.text, '=', text.size);

    if (equals == NULL)
        return false;
    m->text = text.text;
    m->size = text.size;
    m->key_size = (size_t)(equals - text.text);
    return is_key(m->text, m->key_size) && is_value(equals + 1, text.size - m->key_size - 1);
}

static bool
has_key(const struct member *m, const char *key, size_t size)
{
    return m->key_size == size && memcmp(m->text, key, size) == 0;
}

/* Returns: how many members, repeats left out; -EBADMSG. */
static int
parse_state(const char *state, struct member m[BH_TRACESTATE_MEMBERS])
{
    struct span_of_text text;
    int                 count = 0, seen = 0;

    while (next_member(&state, &text)) {
        struct member next;
        bool          repeated = false;

        if (text.size == 0)
            continue; /* empty ones are allowed, and do not count */
        if (++seen > BH_TRACESTATE_MEMBERS || !split(text, &next))
            return -EBADMSG;
        for (int i = 0; i < count; i++)
            repeated |= has_key(&m[i], next.text, next.key_size);
        if (!repeated)
            m[count++] = next;
    }
    return count;
}

/* Drop members until `room` bytes hold the rest, each with a comma: large ones first, from the right. */
static int
fit(struct member *m, int count, size_t room)
{
    size_t total = 0;

    for (int i = 0; i < count; i++)
        total += m[i].size + 1;
    for (int i = count - 1; i >= 0 && total > room; i--) {
        if (m[i].size <= LARGE)
            continue;
        total -= m[i].size + 1;
        memmove(&m[i], &m[i + 1], (size_t)(--count - i) * sizeof *m);
    }
    while (total > room)
        total -= m[--count].size + 1;
    return count;
}

static char *
add(char *out, const char *text, size_t size)
{
    memcpy(out, text, size);
    return out + size;
}

ssize_t
bh_tracestate_update(char out[BH_TRACESTATE_SIZE], const char *state, const char *key,
                     const char *value)
{
    struct member m[BH_TRACESTATE_MEMBERS];
    size_t        key_size = key != NULL ? strlen(key) : 0;
    size_t        value_size = value != NULL ? strlen(value) : 0;
    size_t        own = value != NULL ? key_size + 1 + value_size + 1 : 0;
    char         *at = out;
    int           count, kept = 0;

    *out = '\0';
    if ((key != NULL && !is_key(key, key_size)) ||
        (value != NULL && (key == NULL || !is_value(value, value_size))) ||
        own > BH_TRACESTATE_SIZE)
        return -EINVAL;
    count = parse_state(state, m);
    if (count < 0)
        return count;
    for (int i = 0; i < count; i++)
        if (key == NULL || !has_key(&m[i], key, key_size))
            m[kept++] = m[i];
    if (value != NULL && kept == BH_TRACESTATE_MEMBERS)
        kept--;
    kept = fit(m, kept, BH_TRACESTATE_SIZE - own);
    if (value != NULL) {
        at = add(at, key, key_size);
        *at++ = '=';
        at = add(at, value, value_size);
        *at++ = ',';
    }
    for (int i = 0; i < kept; i++) {
        at = add(at, m[i].text, m[i].size);
        *at++ = ',';
    }
    if (at > out)
        at--;
    *at = '\0';
    return at - out;
}

bool
bh_tracestate_get(const char *state, const char *key, const char **value, size_t *size)
{
    size_t              key_size = strlen(key);
    struct span_of_text text;

    while (next_member(&state, &text)) {
        if (text.size <= key_size || text.text[key_size] != '=' ||
            memcmp(text.text, key, key_size) != 0)
            continue;
        *value = text.text + key_size + 1;
        *size = text.size - key_size - 1;
        return true;
    }
    return false;
}

/* ---- baggage --------------------------------------------------------------------- */

static bool
is_token(struct span_of_text t)
{
    for (size_t i = 0; i < t.size; i++) {
        char c = t.text[i];

        if (c <= ' ' || c > '~' || strchr("\"(),/:;<=>?@[\\]{}", c) != NULL)
            return false;
    }
    return t.size > 0;
}

static bool
is_baggage_value(struct span_of_text t)
{
    for (size_t i = 0; i < t.size; i++) {
        char c = t.text[i];

        if (c <= ' ' || c > '~' || c == '"' || c == ',' || c == ';' || c == '\\')
            return false;
    }
    return true;
}

/* "key = value" into its two halves; the second is false without "=". */
static bool
halves(struct span_of_text t, struct span_of_text *key, struct span_of_text *value)
{
    const char *equals = memchr(t.text, '=', t.size), *end = t.text + t.size;

    *key = trim(t.text, equals != NULL ? equals : end);
    if (equals != NULL)
        *value = trim(equals + 1, end);
    return equals != NULL;
}

static bool
is_baggage_member(struct span_of_text member)
{
    const char         *at = member.text, *end = member.text + member.size;
    struct span_of_text key, value;

    for (bool first = true; at <= end; first = false) {
        const char         *semicolon = memchr(at, ';', (size_t)(end - at));
        const char         *to = semicolon != NULL ? semicolon : end;
        struct span_of_text part = trim(at, to);

        if (halves(part, &key, &value)) {
            if (!is_baggage_value(value))
                return false;
        } else if (first) {
            return false; /* a property needs no value, the member does */
        }
        if (!is_token(key))
            return false;
        at = to + 1;
    }
    return true;
}

bool
bh_baggage_is_valid(const char *baggage)
{
    struct span_of_text member;
    int                 count = 0;

    if (strnlen(baggage, BH_BAGGAGE_MAX + 1) > BH_BAGGAGE_MAX)
        return false;
    while (next_member(&baggage, &member))
        if (++count > BH_BAGGAGE_MEMBERS || !is_baggage_member(member))
            return false;
    return true;
}

static unsigned
any_digit_of(char c)
{
    return digit_of((char)(c >= 'A' && c <= 'F' ? c - 'A' + 'a' : c));
}

static size_t
decode(struct span_of_text t, char *out, size_t size)
{
    size_t length = 0;

    for (size_t i = 0; i < t.size; i++, length++) {
        char     c = t.text[i];
        unsigned high = 16, low = 16;

        if (c == '%' && i + 2 < t.size) {
            high = any_digit_of(t.text[i + 1]);
            low = any_digit_of(t.text[i + 2]);
        }
        if (high < 16 && low < 16) {
            c = (char)(high << 4 | low);
            i += 2;
        }
        if (length + 1 < size)
            out[length] = c;
    }
    if (size > 0)
        out[length < size ? length : size - 1] = '\0';
    return length;
}

ssize_t
bh_baggage_get(const char *baggage, const char *name, char *out, size_t size)
{
    struct span_of_text member, key, value;

    while (next_member(&baggage, &member)) {
        const char *semicolon = memchr(member.text, ';', member.size);

        if (semicolon != NULL)
            member = trim(member.text, semicolon);
        if (halves(member, &key, &value) && key.size == strlen(name) &&
            memcmp(key.text, name, key.size) == 0)
            return (ssize_t)decode(value, out, size);
    }
    return -ENOENT;
}
