/*
 * head.c -- the head of an HTTP/1 request: one pass, strict, sixteen bytes at a time.
 *
 * What decides whether two servers agree on where a request ends is the rule set:
 *
 *     line ends      CR LF only; a bare LF or CR anywhere is refused
 *     names          a token, then the colon at once; no line starts with white
 *                    space (obs-fold)
 *     values         no control byte but tab
 *     request line   single spaces; method in capitals; target of printable ASCII without '#'
 *     body length    one Content-Length of digits, or one Transfer-Encoding that
 *                    says exactly "chunked", never both, the latter not in 1.0
 *     Host           exactly one in 1.1, at most one in 1.0
 *
 * No leniency can be asked for.  The fuzzer holds what is accepted here against two
 * other parsers: whoever of them accepts it too must read the same request.
 *
 * A request usually arrives whole, so ht_head_read tries to parse it where it lies.  If it
 * turns out unfinished, or wrong, ht_head_find decides: it looks for the end of a head,
 * remembers what it has seen, and knows which limit was exceeded first.  So a head that
 * comes byte by byte costs no more than its length, and is judged like any other.
 *
 * See: RFC 9112 sections 2 to 6, and 11.2 (request smuggling); docs/adr/0009.
 */

#include "head.h"

#include <string.h>
#include <strings.h>

#ifdef __SSE2__
#include <emmintrin.h>
#endif

/* Kinds of bytes: part of a token; allowed in a value; in a target; in a method. */
enum { TOKEN = 1, VALUE = 2, TARGET = 4, METHOD = 8 };

static const uint8_t kinds[256] = {
    ['\t'] = VALUE,
    [' '] = VALUE,
    ['!'] = TOKEN | VALUE | TARGET,
    ['"'] = VALUE | TARGET,
    ['#'] = TOKEN | VALUE, /* a fragment is never sent */
    ['$' ... '\''] = TOKEN | VALUE | TARGET,
    ['(' ... ')'] = VALUE | TARGET,
    ['*' ... '+'] = TOKEN | VALUE | TARGET,
    [','] = VALUE | TARGET,
    ['-'] = TOKEN | VALUE | TARGET | METHOD,
    ['.'] = TOKEN | VALUE | TARGET,
    ['/'] = VALUE | TARGET,
    ['0' ... '9'] = TOKEN | VALUE | TARGET,
    [':' ... '@'] = VALUE | TARGET,
    ['A' ... 'Z'] = TOKEN | VALUE | TARGET | METHOD,
    ['[' ... ']'] = VALUE | TARGET,
    ['^'] = TOKEN | VALUE | TARGET,
    ['_'] = TOKEN | VALUE | TARGET | METHOD,
    ['`' ... 'z'] = TOKEN | VALUE | TARGET,
    ['{'] = VALUE | TARGET,
    ['|'] = TOKEN | VALUE | TARGET,
    ['}'] = VALUE | TARGET,
    ['~'] = TOKEN | VALUE | TARGET,
    [0x80 ... 0xff] = VALUE, /* obs-text */
};

static size_t
span(const char *p, const char *end, unsigned kind)
{
    const char *start = p;

    while (p < end && (kinds[(unsigned char)*p] & kind) != 0)
        p++;
    return (size_t)(p - start);
}

/* How many bytes from p may be in a value. */
static size_t
span_value(const char *p, const char *end)
{
    const char *start = p;

#ifdef __SSE2__
    const __m128i last_control = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'),
                  del = _mm_set1_epi8(0x7f);

    for (; end - p >= 16; p += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i control = _mm_cmpeq_epi8(_mm_min_epu8(x, last_control), x);
        __m128i wrong = _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(x, tab), control),
                                     _mm_cmpeq_epi8(x, del));
        int     mask = _mm_movemask_epi8(wrong);

        if (mask != 0)
            return (size_t)(p - start) + (size_t)__builtin_ctz((unsigned)mask);
    }
#endif
    return (size_t)(p - start) + span(p, end, VALUE);
}

/*
 * The same for a target; what is rare in one is left to the table.  *plain: none of
 * "%.?" is in it; false also if that was not looked at.
 */
static size_t
span_target(const char *p, const char *end, bool *plain)
{
    const char *start = p;

    *plain = false;
#ifdef __SSE2__
    const __m128i below = _mm_set1_epi8('$' - 1), above = _mm_set1_epi8('z' + 1),
                  slash = _mm_set1_epi8('\\'), dot = _mm_set1_epi8('.'),
                  mark = _mm_set1_epi8('?'), percent = _mm_set1_epi8('%');
    unsigned special = 0;

    for (; end - p >= 16; p += 16) { /* as signed: 0x80 and up are below */
        __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i usual =
            _mm_andnot_si128(_mm_cmpeq_epi8(x, slash),
                             _mm_and_si128(_mm_cmpgt_epi8(x, below), _mm_cmplt_epi8(x, above)));
        unsigned not_usual = (unsigned)_mm_movemask_epi8(usual) ^ 0xffff;
        unsigned found = (unsigned)_mm_movemask_epi8(
            _mm_or_si128(_mm_or_si128(_mm_cmpeq_epi8(x, dot), _mm_cmpeq_epi8(x, mark)),
                         _mm_cmpeq_epi8(x, percent)));

        if (not_usual != 0) {
            int n = __builtin_ctz(not_usual);

            special |= found & ((1U << n) - 1);
            p += n;
            *plain = special == 0 && *p == ' ';
            break;
        }
        special |= found;
    }
#endif
    return (size_t)(p - start) + span(p, end, TARGET);
}

bool
ht_is_token(const char *text, size_t length)
{
    return length > 0 && span(text, text + length, TOKEN) == length;
}

bool
ht_is_method(const char *text, size_t length)
{
    return length > 0 && span(text, text + length, METHOD) == length;
}

bool
ht_is_target(const char *text, size_t length)
{
    bool plain;

    return length > 0 && span_target(text, text + length, &plain) == length;
}

bool
ht_is_value(const char *text, size_t length)
{
    return span_value(text, text + length) == length;
}

bool
ht_name_is(const struct ht_field *f, const char *name, size_t length)
{
    return f->name_length == length && strncasecmp(f->name, name, length) == 0;
}

/*
 * The same for a name in small letters whose length is known to be right.  Setting bit 5
 * makes capitals small, and no other byte of a token a letter or a dash.  By words: the
 * length is a constant, so nothing of the loops is left.
 */
static inline bool
same_letters(const char *a, const char *b, size_t length)
{
    uint64_t differ = 0, x, y;

    for (; length >= 8; a += 8, b += 8, length -= 8) {
        memcpy(&x, a, 8);
        memcpy(&y, b, 8);
        differ |= (x | 0x2020202020202020) ^ y;
    }
    for (uint32_t v, w; length >= 4; a += 4, b += 4, length -= 4) {
        memcpy(&v, a, 4);
        memcpy(&w, b, 4);
        differ |= (v | 0x20202020) ^ w;
    }
    for (; length > 0; a++, b++, length--)
        differ |= (unsigned)((*a | 0x20) ^ *b);
    return differ == 0;
}
#define is_name(f, text) same_letters((f)->name, (text), sizeof(text) - 1)

/* ---- where the head ends --------------------------------------------------------- */

static long
refuse_find(struct ht_finder *f, int status, const char *reason)
{
    f->reason = reason;
    return -status;
}

long
ht_head_find(struct ht_finder *f, const char *data, size_t size, const struct ht_limits *l)
{
    const char *feed;

    while ((feed = memchr(data + f->seen, '\n', size - f->seen)) != NULL) {
        size_t at = (size_t)(feed - data);

        if (at == f->line || data[at - 1] != '\r')
            return refuse_find(f, 400, "line feed without carriage return");
        f->seen = at + 1;
        if (at == f->line + 1) { /* an empty line */
            if (f->lines > 0)
                return at + 1 - f->start <= l->head ? (long)(at + 1)
                                                    : refuse_find(f, 431, "head too large");
            if (f->start > 0)
                return refuse_find(f, 400, "empty lines before the request line");
            f->start = f->line = at + 1;
            continue;
        }
        if (f->lines == 0 && at - 1 - f->line > l->line)
            return refuse_find(f, 414, "request line too long");
        if (f->lines > l->fields)
            return refuse_find(f, 431, "too many header fields");
        f->lines++;
        f->line = at + 1;
    }
    f->seen = size;
    /* A CR may be the first half of the line's end. */
    if (f->lines == 0 && size > f->line && size - f->line > l->line + (data[size - 1] == '\r'))
        return refuse_find(f, 414, "request line too long");
    if (size - f->start > l->head)
        return refuse_find(f, 431, "head too large");
    return 0;
}

/* ---- one pass over a head -------------------------------------------------------- */

static int
refuse(struct ht_head *h, int status, const char *reason)
{
    h->reason = reason;
    return -status;
}

/* What the fields say about framing and the connection, gathered in one walk. */
struct framing {
    const struct ht_field *length, *coding;
    unsigned               lengths, codings, hosts, expects;
    bool                   close, alive, expect_known;
};

/* Connection: a comma-separated list of tokens. */
static void
connection_options(struct framing *g, const struct ht_field *f)
{
    const char *p = f->value, *end = p + f->value_length;

    while (p < end) {
        const char *comma = memchr(p, ',', (size_t)(end - p));
        const char *stop = comma != NULL ? comma : end, *last = stop;

        while (p < last && (*p == ' ' || *p == '\t'))
            p++;
        while (last > p && (last[-1] == ' ' || last[-1] == '\t'))
            last--;
        if (last - p == 5 && strncasecmp(p, "close", 5) == 0)
            g->close = true;
        else if (last - p == 10 && strncasecmp(p, "keep-alive", 10) == 0)
            g->alive = true;
        p = stop + 1;
    }
}

static void
note_field(struct ht_head *h, struct framing *g, const struct ht_field *f)
{
    switch (f->name_length) {
    case 4:
        if (is_name(f, "host")) {
            h->host = f->value;
            g->hosts++;
        }
        break;
    case 6:
        if (is_name(f, "expect")) {
            g->expects++;
            g->expect_known =
                f->value_length == 12 && strncasecmp(f->value, "100-continue", 12) == 0;
        }
        break;
    case 10:
        if (is_name(f, "connection"))
            connection_options(g, f);
        break;
    case 14:
        if (is_name(f, "content-length")) {
            g->length = f;
            g->lengths++;
        }
        break;
    case 17:
        if (is_name(f, "transfer-encoding")) {
            g->coding = f;
            g->codings++;
        }
        break;
    default:
        break;
    }
}

static int
decide_body(struct ht_head *h, const struct framing *g)
{
    if (g->codings > 0) {
        if (g->lengths > 0)
            return refuse(h, 400, "both Content-Length and Transfer-Encoding");
        if (g->codings > 1 || g->coding->value_length != 7 ||
            strncasecmp(g->coding->value, "chunked", 7) != 0)
            return refuse(h, 400, "unknown transfer coding");
        if (h->minor == 0)
            return refuse(h, 400, "Transfer-Encoding in HTTP/1.0");
        h->body = HT_BODY_CHUNKED;
        return 0;
    }
    if (g->lengths > 1)
        return refuse(h, 400, "repeated Content-Length");
    if (g->lengths == 1) {
        if (g->length->value_length == 0 || g->length->value_length > 18)
            return refuse(h, 400, "bad Content-Length");
        for (uint32_t i = 0; i < g->length->value_length; i++) {
            char digit = g->length->value[i];

            if (digit < '0' || digit > '9')
                return refuse(h, 400, "bad Content-Length");
            h->length = h->length * 10 + (uint64_t)(digit - '0');
        }
        h->body = h->length > 0 ? HT_BODY_LENGTH : HT_BODY_NONE;
    }
    return 0;
}

static int
decide(struct ht_head *h, const struct framing *g)
{
    int rc = decide_body(h, g);

    if (rc < 0)
        return rc;
    if (g->hosts > 1)
        return refuse(h, 400, "more than one Host");
    if (g->hosts == 0 && h->minor > 0)
        return refuse(h, 400, "no Host");
    if (g->expects > 0 && h->minor > 0) {
        if (g->expects > 1 || !g->expect_known)
            return refuse(h, 417, "unknown expectation");
        h->expect = h->body != HT_BODY_NONE;
    }
    h->keep = !g->close && (h->minor > 0 || g->alive);
    return 0;
}

/* Where a head is being read.  What lies at end and behind has not arrived. */
struct cursor {
    char *p, *end;
};

/* Returns: 1, p being behind the line's end; 0 if that has not arrived; or a negative status. */
static int
end_of_line(struct ht_head *h, struct cursor *at, const char *reason)
{
    if (at->p == at->end)
        return 0;
    if (*at->p != '\r')
        return refuse(h, 400, *at->p == '\n' ? "line feed without carriage return" : reason);
    if (at->end - at->p < 2)
        return 0;
    if (at->p[1] != '\n')
        return refuse(h, 400, reason);
    at->p += 2;
    return 1;
}

/* METHOD SP target SP HTTP/1.x.  Returns: as end_of_line. */
static int
request_line(struct ht_head *h, struct cursor *at)
{
    char *p = at->p;

    h->method = p;
    h->method_length = span(p, at->end, METHOD);
    p += h->method_length;
    if (p == at->end)
        return 0;
    if (h->method_length == 0 || *p != ' ') {
        size_t token = span(p, at->end, TOKEN);

        return p + token < at->end && p[token] == ' ' && token + h->method_length > 0
                   ? refuse(h, 501, "method not implemented")
                   : refuse(h, 400, "bad method");
    }
    h->target = ++p;
    h->target_length = span_target(p, at->end, &h->target_plain);
    p += h->target_length;
    if (p == at->end)
        return 0;
    if (h->target_length == 0 || *p != ' ')
        return refuse(h, 400,
                      *p == '\r' && h->target_length > 0 ? "no HTTP version"
                                                         : "bad request target");
    if (at->end - ++p < 8)
        return 0;
    if (memcmp(p, "HTTP/", 5) != 0 || p[6] != '.' || p[5] < '0' || p[5] > '9' || p[7] < '0' ||
        p[7] > '9')
        return refuse(h, 400, "bad HTTP version");
    if (p[5] != '1' || p[7] > '1')
        return refuse(h, 505, "HTTP version not supported");
    if (h->method_length == 3 && memcmp(h->method, "PRI", 3) == 0) /* HTTP/2's preface */
        return refuse(h, 501, "method not implemented");
    h->minor = p[7] - '0';
    at->p = p + 8;
    return end_of_line(h, at, "bad HTTP version");
}

/* Returns: as end_of_line. */
static int
field_line(struct ht_head *h, struct ht_field *f, struct cursor *at)
{
    char  *p = at->p, *last;
    size_t name = span(p, at->end, TOKEN);

    f->name = p;
    f->name_length = (uint32_t)name;
    p += name;
    if (p == at->end)
        return 0;
    if (*p != ':' || name == 0)
        return refuse(h, 400,
                      name == 0 && (*p == ' ' || *p == '\t')
                          ? "header field continued on the next line"
                          : "bad header field name");
    p++;
    while (p < at->end && (*p == ' ' || *p == '\t'))
        p++;
    f->value = p;
    at->p = p + span_value(p, at->end);
    for (last = at->p; last > p && (last[-1] == ' ' || last[-1] == '\t');)
        last--;
    f->value_length = (uint32_t)(last - p);
    return end_of_line(h, at, "control byte in a header field");
}

/* Returns: the offset behind the head; 0 if it is unfinished; or a negative status. */
static long
read_head(struct ht_head *h, char *data, size_t size, struct ht_field *fields, unsigned max)
{
    struct cursor  at = { data, data + size };
    struct framing g = { 0 };
    int            rc;

    memset(h, 0, sizeof *h);
    h->fields = fields;
    rc = request_line(h, &at);
    while (rc > 0) {
        if (at.p < at.end && *at.p == '\r') { /* the empty line */
            rc = end_of_line(h, &at, "carriage return without line feed");
            if (rc <= 0)
                return rc;
            rc = decide(h, &g);
            return rc < 0 ? rc : (long)(at.p - data);
        }
        if (h->field_count == max)
            return at.p == at.end ? 0 : refuse(h, 431, "too many header fields");
        rc = field_line(h, &fields[h->field_count], &at);
        if (rc > 0)
            note_field(h, &g, &fields[h->field_count++]);
    }
    return rc;
}

long
ht_head_read(struct ht_finder *f, struct ht_head *h, char *data, size_t size,
             struct ht_field *fields, const struct ht_limits *l)
{
    long end, rc = 0;

    if (f->seen == 0) { /* the first try: is it there, and plain? */
        rc = read_head(h, data, size, fields, l->fields);
        if (rc > 0 && (size_t)rc <= l->head &&
            (size_t)(h->target + h->target_length - data) + 9 <= l->line)
            return rc;
    }
    end = ht_head_find(f, data, size, l);
    if (end < 0)
        h->reason = f->reason;
    if (end <= 0)
        return end;
    rc = read_head(h, data + f->start, (size_t)end - f->start, fields, l->fields);
    return rc > 0 ? end : rc < 0 ? rc : refuse(h, 400, "malformed request");
}

/* ---- strings --------------------------------------------------------------------- */

void
ht_head_move(struct ht_head *h, const char *from, char *to)
{
#define MOVE(pointer) ((pointer) = to + ((pointer)-from))
    MOVE(h->method);
    MOVE(h->target);
    h->method[h->method_length] = '\0';
    h->target[h->target_length] = '\0';
    if (h->host != NULL)
        h->host = to + (h->host - from);
    for (unsigned i = 0; i < h->field_count; i++) {
        struct ht_field *f = &h->fields[i];

        MOVE(f->name);
        MOVE(f->value);
        f->name[f->name_length] = '\0';
        f->value[f->value_length] = '\0';
    }
#undef MOVE
}

int
ht_head_parse(struct ht_head *h, char *data, size_t size, struct ht_field *fields, unsigned max)
{
    long rc = read_head(h, data, size, fields, max);

    if (rc < 0)
        return (int)rc;
    if (rc == 0)
        return refuse(h, 400, "malformed request");
    ht_head_move(h, data, data);
    return 0;
}
