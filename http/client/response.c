/*
 * response.c -- the head of a response.
 *
 *     HTTP/1.1 200 OK CR LF  (name: value CR LF)*  CR LF
 *
 * Strict where the end of a message is at stake, since a client that guesses takes the
 * rest of one reply for the next: line ends are CR LF, no field continues on the next line,
 * no space stands before a colon, a length is digits and comes once, never beside a
 * transfer coding, and the only coding is "chunked".  Lenient in one thing: the space behind the
 * status may be missing with the reason, which many servers leave out.
 *
 * See: RFC 9112 sections 4 and 6.3.
 */

#include "response.h"

#include <errno.h>
#include <string.h>
#include <strings.h>

static int
fail(struct hc_head *h, int code, const char *why)
{
    h->fault = why;
    return code;
}

static int
bad(struct hc_head *h, const char *why)
{
    return fail(h, -EBADMSG, why);
}

/* ---- where it ends ----------------------------------------------------------------------- */

long
hc_head_find(struct hc_head *h, const char *data, size_t size, const struct ht_limits *l)
{
    static const char start[] = "HTTP/1.";
    size_t            have = size < sizeof start - 1 ? size : sizeof start - 1;
    const char       *feed;

    if (size == 0)
        return 0;
    if (memcmp(data, start, have) != 0)
        return bad(h, "not a reply of HTTP/1");
    while ((feed = memchr(data + h->seen, '\n', size - h->seen)) != NULL) {
        size_t at = (size_t)(feed - data);

        if (at == h->line || data[at - 1] != '\r')
            return bad(h, "line feed without carriage return");
        h->seen = at + 1;
        if (at == h->line + 1)
            return at + 1 <= l->head ? (long)(at + 1) : fail(h, -EMSGSIZE, "head too large");
        h->line = at + 1;
        h->lines++;
    }
    h->seen = size;
    return size > l->head ? fail(h, -EMSGSIZE, "head too large") : 0;
}

/* ---- lines ------------------------------------------------------------------------------- */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* line ends at end, which is its CR.  "HTTP/1.1 200 OK" */
static int
status_line(struct hc_head *h, const char *line, const char *end)
{
    if (end - line < 12 || line[8] != ' ' || !is_digit(line[9]) || !is_digit(line[10]) ||
        !is_digit(line[11]) || (end - line > 12 && line[12] != ' '))
        return bad(h, "malformed status line");
    if (line[7] != '0' && line[7] != '1')
        return bad(h, "unknown version");
    if (!ht_is_value(line + 12, (size_t)(end - line - 12)))
        return bad(h, "control byte in the status line");
    h->minor = line[7] - '0';
    h->status = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
    return h->status >= 100 && h->status <= 599 ? 0 : bad(h, "unknown status");
}

static int
field_line(struct hc_head *h, struct ht_field *f, char *line, char *end)
{
    char *colon = memchr(line, ':', (size_t)(end - line)), *value;

    if (*line == ' ' || *line == '\t')
        return bad(h, "header field continued on the next line");
    if (colon == NULL || !ht_is_token(line, (size_t)(colon - line)))
        return bad(h, "bad header field name");
    for (value = colon + 1; value < end && (*value == ' ' || *value == '\t'); value++)
        continue;
    while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    if (!ht_is_value(value, (size_t)(end - value)))
        return bad(h, "control byte in a header field");
    *colon = *end = '\0';
    *f = (struct ht_field){ .name = line,
                            .value = value,
                            .name_length = (uint32_t)(colon - line),
                            .value_length = (uint32_t)(end - value) };
    return 0;
}

/* ---- what the fields mean ---------------------------------------------------------------- */

/* Returns: whether value, a list, has the token. */
static bool
lists(const char *value, const char *token)
{
    size_t length = strlen(token);

    for (const char *p = value; *p != '\0';) {
        p += strspn(p, " \t,");
        if (strncasecmp(p, token, length) == 0 && strchr(" \t,", p[length]) != NULL)
            return true;
        p += strcspn(p, ",");
    }
    return false;
}

static int
read_length(struct hc_head *h, const struct ht_field *f)
{
    if (f->value_length == 0 || f->value_length > 18)
        return bad(h, "bad Content-Length");
    h->length = 0;
    for (uint32_t i = 0; i < f->value_length; i++) {
        if (!is_digit(f->value[i]))
            return bad(h, "bad Content-Length");
        h->length = h->length * 10 + (uint64_t)(f->value[i] - '0');
    }
    return 0;
}

/* Which fields speak of framing. */
struct framing {
    const struct ht_field *length, *coding;
    unsigned               lengths, codings;
    bool                   close, alive;
};

static void
note_field(struct framing *g, const struct ht_field *f)
{
    if (ht_name_is(f, "content-length", 14)) {
        g->length = f;
        g->lengths++;
    } else if (ht_name_is(f, "transfer-encoding", 17)) {
        g->coding = f;
        g->codings++;
    } else if (ht_name_is(f, "connection", 10)) {
        g->close = g->close || lists(f->value, "close");
        g->alive = g->alive || lists(f->value, "keep-alive");
    }
}

static int
decide(struct hc_head *h, const struct framing *g, bool head_request)
{
    int rc = 0;

    h->keep = !g->close && (h->minor > 0 || g->alive);
    h->body = HC_BODY_CLOSE;
    if (g->lengths > 1)
        return bad(h, "repeated Content-Length");
    if (g->codings > 0) {
        if (g->lengths > 0)
            return bad(h, "both Content-Length and Transfer-Encoding");
        if (g->codings > 1 || strcasecmp(g->coding->value, "chunked") != 0)
            return bad(h, "unknown transfer coding");
        if (h->minor == 0)
            return bad(h, "Transfer-Encoding in HTTP/1.0");
        h->body = HC_BODY_CHUNKED;
    } else if (g->lengths > 0) {
        rc = read_length(h, g->length);
        h->body = h->length > 0 ? HC_BODY_LENGTH : HC_BODY_NONE;
    }
    if (head_request || h->status == 304) {
        h->body = HC_BODY_NONE;
    } else if (h->status < 200 || h->status == 204) {
        /* It has none, whatever it says; what says otherwise is not to be trusted further. */
        h->keep = h->keep && (h->body == HC_BODY_NONE || h->body == HC_BODY_CLOSE);
        h->body = HC_BODY_NONE;
    }
    h->keep = h->keep && h->body != HC_BODY_CLOSE;
    return rc;
}

/* ---- the whole --------------------------------------------------------------------------- */

int
hc_head_parse(struct hc_head *h, char *data, size_t size, unsigned max, bool head_request)
{
    struct framing g = { 0 };
    char          *end = data + size, *line = data, *stop = memchr(line, '\n', size);
    int            rc = status_line(h, line, stop - 1);

    h->field_count = 0;
    for (line = stop + 1; rc == 0 && *line != '\r'; line = stop + 1) {
        struct ht_field *f = &h->fields[h->field_count];

        if (h->field_count == max)
            return fail(h, -EMSGSIZE, "too many header fields");
        stop = memchr(line, '\n', (size_t)(end - line));
        rc = field_line(h, f, line, stop - 1);
        if (rc == 0) {
            note_field(&g, f);
            h->field_count++;
        }
    }
    if (rc == 0 && line + 2 != end)
        rc = bad(h, "bare carriage return");
    return rc == 0 ? decide(h, &g, head_request) : rc;
}
