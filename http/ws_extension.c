/*
 * ws_extension.c -- which extensions a connection uses: permessage-deflate or none.
 *
 *     field     = extension *( "," extension )
 *     extension = token *( ";" parameter )
 *     parameter = token [ "=" ( token | quoted token ) ]
 *
 * Anything malformed, unknown or given twice in an offer makes that offer one we cannot
 * meet, and the next is looked at; in an answer it makes the connection fail.
 *
 * See: RFC 6455, section 9; RFC 7692, sections 5 and 7.1.
 */

#include "ws_frame.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

/* ---- words ----------------------------------------------------------------------- */

static size_t
token_length(const char *at)
{
    size_t n = 0;

    while ((at[n] >= 'a' && at[n] <= 'z') || (at[n] >= 'A' && at[n] <= 'Z') ||
           (at[n] >= '0' && at[n] <= '9') ||
           (at[n] != '\0' && strchr("!#$%&'*+-.^_`|~", at[n])))
        n++;
    return n;
}

static const char *
skip_blanks(const char *at)
{
    return at + strspn(at, " \t");
}

const char *
ht_ws_next_token(const char **at, size_t *length)
{
    const char *start = *at + strspn(*at, " \t,");
    size_t      n = token_length(start);
    const char *end = skip_blanks(start + n);

    if (n == 0 || (*end != '\0' && *end != ','))
        return NULL;
    *at = end;
    *length = n;
    return start;
}

/* ---- one extension --------------------------------------------------------------- */

/* Bits of a window: -1 absent, 0 without a value. */
struct extension {
    bool known, server_forgets, client_forgets;
    int  server_bits, client_bits;
};

static bool
is_word(const char *at, size_t length, const char *word)
{
    return strlen(word) == length && strncasecmp(at, word, length) == 0;
}

/* "8" to "15", perhaps in quotes.  Returns: 0 if it is none of them. */
static int
read_bits(const char *at, size_t length)
{
    int bits = 0;

    if (length == 0 || length > 2 || at[0] == '0')
        return 0;
    for (size_t i = 0; i < length; i++)
        bits = at[i] >= '0' && at[i] <= '9' ? bits * 10 + (at[i] - '0') : 99;
    return bits >= 8 && bits <= 15 ? bits : 0;
}

/* Returns: whether the parameter is one of ours, for the first time, with a value it may have. */
static bool
set_parameter(struct extension *e, const char *name, size_t length, const char *value,
              size_t value_length)
{
    bool *flag = is_word(name, length, "server_no_context_takeover")   ? &e->server_forgets
                 : is_word(name, length, "client_no_context_takeover") ? &e->client_forgets
                                                                       : NULL;
    int  *bits = is_word(name, length, "server_max_window_bits")   ? &e->server_bits
                 : is_word(name, length, "client_max_window_bits") ? &e->client_bits
                                                                   : NULL;

    if (flag != NULL) {
        if (*flag || value != NULL)
            return false;
        *flag = true;
        return true;
    }
    if (bits == NULL || *bits >= 0)
        return false;
    *bits = value != NULL ? read_bits(value, value_length) : 0;
    return *bits > 0 || (value == NULL && bits == &e->client_bits);
}

/*
 * The extension at *at, and the comma behind it.  *e is known if it is permessage-deflate and
 * all of it makes sense.  Returns: false if there is none, or where it stops making sense.
 */
static bool
next_extension(const char **at, struct extension *e)
{
    const char *p = *at + strspn(*at, " \t,");
    size_t      n = token_length(p);

    *e = (struct extension){ .known = is_word(p, n, "permessage-deflate"),
                             .server_bits = -1,
                             .client_bits = -1 };
    if (n == 0)
        return false;
    p = skip_blanks(p + n);
    while (*p == ';') {
        const char *name = skip_blanks(p + 1), *value = NULL;
        size_t      length = token_length(name), value_length = 0;

        p = skip_blanks(name + length);
        if (length == 0)
            return false;
        if (*p == '=') {
            bool quoted = *(value = skip_blanks(p + 1)) == '"';

            value += quoted;
            value_length = token_length(value);
            p = value + value_length;
            if (value_length == 0 || (quoted && *p++ != '"'))
                return false;
            p = skip_blanks(p);
        }
        e->known = e->known && set_parameter(e, name, length, value, value_length);
    }
    *at = p;
    return *p == ',' || *p == '\0';
}

/* ---- server ---------------------------------------------------------------------- */

static int
least(int a, int b)
{
    return a < b ? a : b;
}

bool
ht_ws_choose(const char *field, const struct ht_ws_terms *want, struct ht_ws_terms *terms,
             char text[HT_WS_TERMS_SIZE])
{
    struct extension e;
    size_t           n;

    for (;;) {
        if (!next_extension(&field, &e))
            return false;
        if (e.known && e.server_bits != 8) /* no window so small in zlib */
            break;
    }
    *terms = (struct ht_ws_terms){
        .on = true,
        .forget_in = e.client_forgets || want->forget_in,
        .forget_out = e.server_forgets || want->forget_out,
        .bits_out = e.server_bits > 0 ? least(e.server_bits, want->bits_out) : want->bits_out,
        .bits_in = e.client_bits < 0   ? 15
                   : e.client_bits > 0 ? least(e.client_bits, want->bits_in)
                                       : want->bits_in,
    };
    n = (size_t)snprintf(text, HT_WS_TERMS_SIZE, "permessage-deflate%s%s",
                         terms->forget_out ? "; server_no_context_takeover" : "",
                         terms->forget_in ? "; client_no_context_takeover" : "");
    if (terms->bits_out < 15 || e.server_bits > 0)
        n += (size_t)snprintf(text + n, HT_WS_TERMS_SIZE - n, "; server_max_window_bits=%d",
                              terms->bits_out);
    if (terms->bits_in < 15)
        (void)snprintf(text + n, HT_WS_TERMS_SIZE - n, "; client_max_window_bits=%d",
                       terms->bits_in);
    return true;
}

/* ---- client ---------------------------------------------------------------------- */

void
ht_ws_offer(const struct ht_ws_terms *want, char text[HT_WS_TERMS_SIZE])
{
    char bits[40] = "";

    if (want->bits_in < 15)
        (void)snprintf(bits, sizeof bits, "; server_max_window_bits=%d", want->bits_in);
    (void)snprintf(text, HT_WS_TERMS_SIZE, "permessage-deflate%s%s; client_max_window_bits%s",
                   want->forget_in ? "; server_no_context_takeover" : "",
                   want->forget_out ? "; client_no_context_takeover" : "", bits);
}

bool
ht_ws_agree(const char *field, const struct ht_ws_terms *want, struct ht_ws_terms *terms)
{
    struct extension e;

    if (!next_extension(&field, &e) || !e.known || *field != '\0')
        return false;
    if ((want->forget_in && !e.server_forgets) || e.client_bits == 0)
        return false;
    if (want->bits_in < 15 && (e.server_bits < 0 || e.server_bits > want->bits_in))
        return false;
    *terms = (struct ht_ws_terms){
        .on = true,
        .forget_in = e.server_forgets,
        .forget_out = e.client_forgets || want->forget_out,
        .bits_in = e.server_bits > 0 ? e.server_bits : 15,
        .bits_out = e.client_bits > 0 ? least(e.client_bits, want->bits_out) : want->bits_out,
    };
    return true;
}
