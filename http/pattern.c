/*
 * pattern.c -- what a route matches, as it is written.
 *
 *     [METHOD ][HOST]/segment/{name}/{rest...}
 *
 *     GET /stock/{sku}               any host
 *     /health                        any method, too
 *     GET {tenant}.example.com/      a host of which one label is a parameter
 *
 * A route of a group is written behind the group's prefix, and may then have no path of
 * its own: in a group "/api" "GET" is the route "GET /api".  A prefix is [HOST][/path],
 * without a slash at its end.
 */

#include "ht.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/go/panic.h>

#define CAPITALS "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define SMALL    "abcdefghijklmnopqrstuvwxyz"
#define DIGITS   "0123456789"

static bool
consists_of(const char *text, size_t length, const char *bytes)
{
    return length > 0 && strspn(text, bytes) >= length;
}

/* Another {name}, text[0..length).  Returns: what is wrong with it, or NULL. */
static const char *
add_name(struct ht_pattern *p, const char *text, size_t length)
{
    if (!consists_of(text, length, CAPITALS SMALL DIGITS "_"))
        return "a {name} consists of letters, digits and _";
    if (++p->param_count > HT_MAX_PARAMS)
        return "too many {name}s";
    if (p->sub != NULL && strlen(p->sub) == length && memcmp(p->sub, text, length) == 0)
        return "the same {name} twice";
    for (int i = 0; i < p->segment_count; i++)
        if (p->segments[i].kind != HT_LITERAL && strlen(p->segments[i].text) == length &&
            memcmp(p->segments[i].text, text, length) == 0)
            return "the same {name} twice";
    return NULL;
}

/* HOST or {name}.HOST; lower case from now on. */
static const char *
parse_host(struct ht_pattern *p, char *text)
{
    const char *fault;
    char       *close;

    p->host = text;
    if (text[0] == '{') {
        close = strchr(text, '}');
        if (close == NULL || close[1] != '.')
            return "only the first label of a host may be a {name}";
        fault = add_name(p, text + 1, (size_t)(close - text - 1));
        if (fault != NULL)
            return fault;
        *close = '\0';
        p->sub = text + 1;
        p->host = text = close + 2;
    }
    if (!consists_of(text, strlen(text), CAPITALS SMALL DIGITS "-._"))
        return "a host is a name without a port, or {name}.name";
    for (char *at = text; *at != '\0'; at++)
        *at = (char)(*at >= 'A' && *at <= 'Z' ? *at | 0x20 : *at);
    return NULL;
}

static const char *
parse_segment(struct ht_pattern *p, char *text)
{
    struct ht_segment *s = &p->segments[p->segment_count];
    size_t             length = strlen(text);
    const char        *fault;

    if (p->segment_count == HT_MAX_SEGMENTS)
        return "too many segments";
    if (strcmp(text, ".") == 0 || strcmp(text, "..") == 0)
        return "no request has a segment . or ..";
    *s = (struct ht_segment){ text, HT_LITERAL };
    if (strpbrk(text, "{}") != NULL) {
        if (text[0] != '{' || text[length - 1] != '}' || length < 3)
            return "a {name} must be a whole segment";
        text[--length] = '\0';
        *s = (struct ht_segment){ text + 1, HT_PARAM };
        if (length > 4 && strcmp(text + length - 3, "...") == 0) {
            text[length -= 3] = '\0';
            s->kind = HT_REST;
        }
        fault = add_name(p, text + 1, length - 1);
        if (fault != NULL)
            return fault;
    }
    p->segment_count++;
    return NULL;
}

/* at: behind the first slash. */
static const char *
parse_path(struct ht_pattern *p, char *at)
{
    const char *fault = NULL;

    if (!ht_is_value(at, strlen(at)) || strpbrk(at, " ?#%") != NULL)
        return "a path is written plainly, without spaces, escapes or a query";
    while (fault == NULL && at != NULL) {
        char *segment = at;

        at = strchr(segment, '/');
        if (at != NULL)
            *at++ = '\0';
        fault = parse_segment(p, segment);
        if (fault == NULL && at != NULL && p->segments[p->segment_count - 1].kind == HT_REST)
            fault = "{name...} must come last";
    }
    return fault;
}

/* Cut p->text, "GET HOST/a/{b}", into its parts. */
static const char *
parse(struct ht_pattern *p)
{
    char       *space = strchr(p->text, ' '), *at = p->text, *slash;
    const char *fault = NULL;

    if (space != NULL) {
        *space = '\0';
        p->method = p->text;
        at = space + 1;
        if (!ht_is_token(p->text, strlen(p->text)) || strpbrk(p->text, SMALL) != NULL)
            return "a method is a word in capitals";
        if (strcmp(p->text, "CONNECT") == 0)
            return "CONNECT is not offered";
    }
    slash = strchr(at, '/');
    p->path = slash != NULL ? p->source + (slash - p->text) : p->source + strlen(p->source);
    if (slash != NULL)
        *slash = '\0';
    if (*at != '\0')
        fault = parse_host(p, at);
    return fault != NULL || slash == NULL ? fault : parse_path(p, slash + 1);
}

/* An empty pattern with the texts one after another; `length` bytes of the first. */
static void
init(struct ht_pattern *p, const char *method, size_t length, const char *prefix,
     const char *rest)
{
    size_t size = length + strlen(prefix) + strlen(rest) + 2;

    *p = (struct ht_pattern){ .method = "", .host = "", .path = "" };
    p->source = malloc(size);
    if (p->source != NULL)
        (void)snprintf(p->source, size, "%.*s%s%s%s", (int)length, method,
                       length > 0 ? " " : "", prefix, rest);
    p->text = p->source != NULL ? strdup(p->source) : NULL;
    if (p->text == NULL)
        bh_panic("http: out of memory for routes");
}

void
ht_pattern_route(struct ht_pattern *p, const char *prefix, const char *text)
{
    const char *space = strchr(text, ' '), *rest = space != NULL ? space + 1 : text;

    if (space == NULL && *prefix != '\0' && strchr(text, '/') == NULL)
        space = rest = text + strlen(text);
    init(p, text, space != NULL ? (size_t)(space - text) : 0, prefix, rest);
    if (space == text && rest != text)
        p->fault = "a method is a word in capitals";
    else if (*prefix != '\0' && *rest != '\0' && *rest != '/')
        p->fault = "in a group with a prefix the path must begin with /";
    else
        p->fault = parse(p);
    if (p->fault == NULL && *p->path != '/')
        p->fault = "the path must begin with /";
}

void
ht_pattern_prefix(struct ht_pattern *p, const char *prefix, const char *text)
{
    size_t length = strlen(text);

    init(p, "", 0, prefix, text);
    if (strchr(text, ' ') != NULL)
        p->fault = "a prefix has no method";
    else if (length > 0 && text[length - 1] == '/')
        p->fault = "a prefix does not end with /; that of no path is \"\"";
    else if (*prefix != '\0' && length > 0 && *text != '/')
        p->fault = "in a group with a prefix another one must begin with /";
    else
        p->fault = parse(p);
    if (p->fault == NULL && p->segment_count > 0 &&
        p->segments[p->segment_count - 1].kind == HT_REST)
        p->fault = "a prefix has no {name...}";
}

void
ht_pattern_fini(struct ht_pattern *p)
{
    free(p->source);
    free(p->text);
}
