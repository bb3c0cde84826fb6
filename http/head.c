/*
 * head.c -- the head of an HTTP/1 request, read twice.
 *
 * llhttp parses it, in strict mode.  Before that our own pass reads the same
 * bytes, because what decides whether two servers agree on where a request ends is
 * the rule set, and some rules are stricter here than in any packaged parser:
 *
 *     line ends      CR LF only; a bare LF or CR anywhere is refused
 *     names          a token, then the colon at once; no line starts with white
 *                    space (obs-fold)
 *     values         no control byte but tab
 *     request line   single spaces; target of printable ASCII without '#'
 *     body length    one Content-Length of digits, or one Transfer-Encoding that
 *                    says exactly "chunked", never both, the latter not in 1.0
 *     Host           exactly one in 1.1, at most one in 1.0
 *
 * Both parsers must then agree on method, number of fields, kind and length of the
 * body: what they read differently is refused too.  No leniency can be asked for.
 *
 * Both passes together cost about half a microsecond for a browser's request.
 * See: RFC 9112 sections 2 to 6, and 11.2 (request smuggling).
 */

#include "head.h"

#include <string.h>
#include <strings.h>

#include <llhttp.h>

#if !LLHTTP_STRICT_MODE
#error "llhttp must be compiled in strict mode"
#endif

/* Kinds of bytes: part of a token; allowed in a value; allowed in a target. */
enum { TOKEN = 1, VALUE = 2, TARGET = 4 };

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
    ['-' ... '.'] = TOKEN | VALUE | TARGET,
    ['/'] = VALUE | TARGET,
    ['0' ... '9'] = TOKEN | VALUE | TARGET,
    [':' ... '@'] = VALUE | TARGET,
    ['A' ... 'Z'] = TOKEN | VALUE | TARGET,
    ['[' ... ']'] = VALUE | TARGET,
    ['^' ... 'z'] = TOKEN | VALUE | TARGET,
    ['{'] = VALUE | TARGET,
    ['|'] = TOKEN | VALUE | TARGET,
    ['}'] = VALUE | TARGET,
    ['~'] = TOKEN | VALUE | TARGET,
    [0x80 ... 0xff] = VALUE, /* obs-text */
};

static bool
all_of(const char *text, size_t length, unsigned kind)
{
    for (size_t i = 0; i < length; i++)
        if ((kinds[(unsigned char)text[i]] & kind) == 0)
            return false;
    return true;
}

/* Eight bytes at a time while they are plain; the table decides about the rest. */
static bool
all_values(const char *text, size_t length)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), tops = UINT64_C(0x8080808080808080);

    for (; length >= 8; text += 8, length -= 8) {
        uint64_t w, low, del;

        memcpy(&w, text, 8);
        low = (w - ones * 0x20) & ~w & tops;
        del = w ^ ones * 0x7f;
        del = (del - ones) & ~del & tops;
        if ((low | del) != 0 && !all_of(text, 8, VALUE))
            return false;
    }
    return all_of(text, length, VALUE);
}

bool
ht_is_token(const char *text, size_t length)
{
    return length > 0 && all_of(text, length, TOKEN);
}

bool
ht_is_value(const char *text, size_t length)
{
    return all_values(text, length);
}

bool
ht_name_is(const struct ht_field *f, const char *name, size_t length)
{
    return f->name_length == length && strncasecmp(f->name, name, length) == 0;
}

/* ---- where the head ends ------------------------------------------------- */

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

/* ---- our own pass -------------------------------------------------------- */

static int
refuse(struct ht_head *h, int status, const char *reason)
{
    h->reason = reason;
    return -status;
}

/* METHOD SP target SP HTTP/1.x, in [p, end).  Strings stay unterminated for now. */
static int
request_line(struct ht_head *h, char *p, char *end)
{
    char *space = memchr(p, ' ', (size_t)(end - p));

    if (space == NULL || !ht_is_token(p, (size_t)(space - p)))
        return refuse(h, 400, "bad method");
    h->method = p;
    h->method_length = (size_t)(space - p);

    h->target = space + 1;
    space = memchr(h->target, ' ', (size_t)(end - h->target));
    if (space == NULL)
        return refuse(h, 400, "no HTTP version");
    h->target_length = (size_t)(space - h->target);
    if (h->target_length == 0 || !all_of(h->target, h->target_length, TARGET))
        return refuse(h, 400, "bad request target");

    p = space + 1;
    if (end - p != 8 || memcmp(p, "HTTP/", 5) != 0 || p[6] != '.' || p[5] < '0' || p[5] > '9' ||
        p[7] < '0' || p[7] > '9')
        return refuse(h, 400, "bad HTTP version");
    if (p[5] != '1' || p[7] > '1')
        return refuse(h, 505, "HTTP version not supported");
    h->minor = p[7] - '0';
    return 0;
}

static int
field_line(struct ht_head *h, struct ht_field *f, char *p, char *end)
{
    char *colon = memchr(p, ':', (size_t)(end - p));
    char *value, *last = end;

    if (*p == ' ' || *p == '\t')
        return refuse(h, 400, "header field continued on the next line");
    if (colon == NULL || !ht_is_token(p, (size_t)(colon - p)))
        return refuse(h, 400, "bad header field name");
    for (value = colon + 1; value < last && (*value == ' ' || *value == '\t');)
        value++;
    while (last > value && (last[-1] == ' ' || last[-1] == '\t'))
        last--;
    if (!all_values(value, (size_t)(last - value)))
        return refuse(h, 400, "control byte in a header field");
    f->name = p;
    f->name_length = (uint32_t)(colon - p);
    f->value = value;
    f->value_length = (uint32_t)(last - value);
    return 0;
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
        if (ht_name_is(f, "host", 4)) {
            h->host = f->value;
            g->hosts++;
        }
        break;
    case 6:
        if (ht_name_is(f, "expect", 6)) {
            g->expects++;
            g->expect_known =
                f->value_length == 12 && strncasecmp(f->value, "100-continue", 12) == 0;
        }
        break;
    case 10:
        if (ht_name_is(f, "connection", 10))
            connection_options(g, f);
        break;
    case 14:
        if (ht_name_is(f, "content-length", 14)) {
            g->length = f;
            g->lengths++;
        }
        break;
    case 17:
        if (ht_name_is(f, "transfer-encoding", 17)) {
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

static int
own_pass(struct ht_head *h, struct framing *g, char *data, size_t size, unsigned max)
{
    char *p = data, *feed = memchr(p, '\n', size);
    int   rc = request_line(h, p, feed - 1);

    while (rc == 0) {
        p = feed + 1;
        if (*p == '\r')
            break; /* the empty line: ht_head_find saw its LF */
        feed = memchr(p, '\n', size - (size_t)(p - data));
        if (h->field_count == max)
            return refuse(h, 431, "too many header fields");
        rc = field_line(h, &h->fields[h->field_count], p, feed - 1);
        if (rc == 0)
            note_field(h, g, &h->fields[h->field_count++]);
    }
    return rc;
}

/* ---- llhttp's, and the comparison ------------------------------------------ */

struct seen {
    unsigned fields;
    bool     complete;
    uint16_t flags;
    uint64_t length;
};

static int
on_value(llhttp_t *p)
{
    ((struct seen *)p->data)->fields++;
    return 0;
}

static int
on_complete(llhttp_t *p)
{
    struct seen *s = p->data;

    s->complete = true;
    s->flags = p->flags;
    s->length = p->content_length;
    return 0;
}

static int
llhttp_agrees(struct ht_head *h, const char *data, size_t size)
{
    static const llhttp_settings_t settings = {
        .on_header_value_complete = on_value,
        .on_headers_complete = on_complete,
    };
    struct seen    seen = { 0 };
    const char    *method;
    llhttp_t       parser;
    llhttp_errno_t err;

    llhttp_init(&parser, HTTP_REQUEST, &settings);
    parser.data = &seen;
    err = llhttp_execute(&parser, data, size);
    if (err == HPE_INVALID_METHOD)
        return refuse(h, 501, "method not implemented");
    if ((err != HPE_OK && err != HPE_PAUSED_UPGRADE) || !seen.complete)
        return refuse(h, 400, parser.reason != NULL ? parser.reason : "malformed request");

    method = llhttp_method_name((llhttp_method_t)parser.method);
    if (strlen(method) != h->method_length ||
        memcmp(method, h->method, h->method_length) != 0 || seen.fields != h->field_count ||
        ((seen.flags & F_CHUNKED) != 0) != (h->body == HT_BODY_CHUNKED) ||
        (h->body == HT_BODY_LENGTH && seen.length != h->length))
        return refuse(h, 400, "ambiguous request");
    return 0;
}

int
ht_head_parse(struct ht_head *h, char *data, size_t size, struct ht_field *fields, unsigned max)
{
    struct framing g = { 0 };
    int            rc;

    memset(h, 0, sizeof *h);
    h->fields = fields;
    rc = own_pass(h, &g, data, size, max);
    if (rc == 0)
        rc = decide(h, &g);
    if (rc == 0)
        rc = llhttp_agrees(h, data, size);
    if (rc < 0)
        return rc;

    h->method[h->method_length] = '\0';
    h->target[h->target_length] = '\0';
    for (unsigned i = 0; i < h->field_count; i++) {
        fields[i].name[fields[i].name_length] = '\0';
        fields[i].value[fields[i].value_length] = '\0';
    }
    return 0;
}
