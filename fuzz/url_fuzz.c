/*
 * url_fuzz.c -- any text at all as a URL, and as a reference in a page.
 *
 * What is accepted must be fit to send as it is, mean the same when written out and read
 * again, and name a host that is exactly what stands between "//" and the path: nobody can
 * be led to check one host and reach another.
 */

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/go/error.h>
#include <bulkhead/http/url.h>

#define MUST(condition)                                                                        \
    do {                                                                                       \
        if (!(condition)) {                                                                    \
            fprintf(stderr, "violated at line %d: %s\n", __LINE__, #condition);                \
            abort();                                                                           \
        }                                                                                      \
    } while (0)

/* The runtime's, without a runtime. */
int
bh_fail(int code, const char *format, ...)
{
    (void)format;
    return code;
}

static int
has_dots(const char *target)
{
    size_t path = strcspn(target, "?");

    for (const char *p = target; p < target + path; p += strcspn(p, "/?") + 1) {
        size_t n = strcspn(p, "/?");

        if ((n == 1 && *p == '.') || (n == 2 && strncmp(p, "..", 2) == 0))
            return 1;
        if (p + n >= target + path)
            break;
    }
    return 0;
}

static void
check(struct bh_arena *arena, const struct bh_url *u)
{
    const char   *text = bh_url_text(arena, u);
    struct bh_url again;

    MUST(*u->target == '/' && u->port != 0 && *u->host != '\0');
    MUST(!has_dots(u->target));
    for (const char *p = text; *p != '\0'; p++)
        MUST(*p > ' ' && *p < 0x7f && strchr("\\\"<>^`{|}#", *p) == NULL);
    MUST(strpbrk(u->authority, "@/?#%") == NULL);
    if (strlen(text) > BH_URL_MAX) /* escaped, it has grown */
        return;
    MUST(bh_url_parse(arena, text, &again) == 0);
    MUST(bh_url_same_origin(u, &again));
    MUST(strcmp(u->target, again.target) == 0);
    MUST(strcmp(u->authority, again.authority) == 0);
    MUST(again.user == NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bh_arena *arena = bh_arena_new(0);
    char            *text = bh_arena_string(arena, (const char *)data, size);
    struct bh_url    base, absolute, resolved;
    int              rc, rc2;

    MUST(bh_url_parse(arena, "http://base:81/a/b?c", &base) == 0);
    rc = bh_url_parse(arena, text, &absolute);
    rc2 = bh_url_resolve(arena, &base, text, &resolved);
    if (rc == 0) {
        check(arena, &absolute);
        MUST(rc2 == 0);
        MUST(bh_url_same_origin(&absolute, &resolved));
        MUST(strcmp(absolute.target, resolved.target) == 0);
    }
    if (rc2 == 0)
        check(arena, &resolved);
    bh_arena_free(arena);
    return 0;
}
