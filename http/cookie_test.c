/* cookie_test.c -- cookies, plain and signed. */
#include "http_fixture.h"

#include <errno.h>
#include <time.h>

#include <bulkhead/base/arena.h>
#include <bulkhead/http/cookie.h>

static char answer[1 << 16];

/* The clock that cookies expire by: this definition is linked instead of libc's. */
static time_t later_by;

time_t
time(time_t *result)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    now.tv_sec += later_by;
    if (result != NULL)
        *result = now.tv_sec;
    return now.tv_sec;
}

static const char *const keys[] = { "0123456789abcdef", NULL };
static const char *const later[] = { "fedcba9876543210", "0123456789abcdef", NULL };
static const char *const other[] = { "another-key-of-16", NULL };

static int
show(struct bh_http_call *c, void *arg)
{
    const char *value = bh_http_cookie(c, "a");

    (void)arg;
    return bh_http_reply(c, 200, "%s", value != NULL ? value : "none");
}

static int
set(struct bh_http_call *c, void *arg)
{
    int rc = bh_http_set_cookie(c, arg);

    return bh_http_reply(c, 200, "%d", rc);
}

static int
sign(struct bh_http_call *c, void *arg)
{
    struct bh_http_cookie k = { .name = "u", .value = "\303\251; \"x\" \001", .max_age = 60 };

    (void)arg;
    EXPECT_EQ(bh_http_sign_cookie(c, keys, &k), 0);
    k.name = "empty";
    k.value = "";
    EXPECT_EQ(bh_http_sign_cookie(c, keys, &k), 0);
    return bh_http_reply(c, 200, "ok");
}

static int
verify(struct bh_http_call *c, void *arg)
{
    const char *value = bh_http_signed_cookie(c, arg, "u");
    const char *moved = bh_http_signed_cookie(c, arg, "v");

    EXPECT(moved == NULL);
    return bh_http_reply(c, 200, "%s", value != NULL ? value : "none");
}

static void
start(struct fixture *f, bh_http_fn *fn, void *arg)
{
    f->s = bh_http_server_new(NULL);
    bh_http_use(f->s, bh_http_recover, NULL);
    bh_http_handle(f->s, "GET /", fn, arg);
    fixture_start(f);
}

static const char *
get_with(struct fixture *f, const char *cookies)
{
    char request[2048];

    snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: a\r\n%s\r\n", cookies);
    talk(f, request, answer, sizeof answer);
    return body_of(answer);
}

TEST_REAL(cookie, the_first_of_a_name_counts_in_any_field)
{
    static const char *const rows[][2] = {
        { "", "none" },
        { "Cookie: a=1\r\n", "1" },
        { "Cookie: b=2; a=1; a=3\r\n", "1" },
        { "Cookie: b=2\r\nCookie:  a=\"q v\" ;c=1\r\n", "none" },
        { "Cookie: b=2\r\nCookie: a=\"q v\";c=1\r\n", "q v" },
        { "Cookie: xa=1; A=2; a =3\r\n", "none" },
        { "Cookie: a\r\n", "none" },
        { "Cookie: a=\r\n", "" },
        { "Cookie: a=x\"y; a=2\r\n", "2" },
        { "Cookie: ;;; ;a=5;\r\n", "5" },
        { "Cookie: a==b=c\r\n", "=b=c" },
    };
    struct fixture f;

    start(&f, show, NULL);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        EXPECT_STR(get_with(&f, rows[i][0]), rows[i][1]);
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(cookie, is_safe_unless_told_otherwise)
{
    static struct {
        struct bh_http_cookie cookie;
        const char           *field;
    } rows[] = {
        { { .name = "a", .value = "1" }, "a=1; Path=/; HttpOnly; SameSite=Lax" },
        { { .name = "a", .value = "", .max_age = -1 },
          "a=; Path=/; Max-Age=0; HttpOnly; SameSite=Lax" },
        { { .name = "a",
            .value = "x",
            .path = "/p",
            .domain = "ex.org",
            .max_age = 9,
            .scripts = true,
            .same_site = BH_HTTP_STRICT },
          "a=x; Path=/p; Domain=ex.org; Max-Age=9; SameSite=Strict" },
        { { .name = "a", .value = "x", .same_site = BH_HTTP_CROSS_SITE },
          "a=x; Path=/; Secure; HttpOnly; SameSite=None" },
        { { .name = "__Host-a", .value = "x" },
          "__Host-a=x; Path=/; Secure; HttpOnly; SameSite=Lax" },
    };
    char field[256];

    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct fixture f;

        start(&f, set, &rows[i].cookie);
        EXPECT_STR(get_with(&f, ""), "0");
        snprintf(field, sizeof field, "Set-Cookie: %s\r\n", rows[i].field);
        EXPECT_HAS(answer, field);
        EXPECT_EQ(fixture_stop(&f), 0);
    }
}

TEST_REAL(cookie, what_would_split_the_field_is_refused)
{
    static struct bh_http_cookie bad[] = {
        { .name = "a", .value = "x;y" },
        { .name = "a", .value = "x y" },
        { .name = "a", .value = "x\r\n" },
        { .name = "a", .value = "x", .path = "relative" },
        { .name = "a", .value = "x", .path = "/;Secure" },
        { .name = "a", .value = "x", .domain = "a;b" },
    };
    static struct bh_http_cookie panics[] = {
        { .name = "a b", .value = "x" },
        { .name = "", .value = "x" },
        { .name = "__Host-a", .value = "x", .domain = "a" },
        { .name = "__Host-a", .value = "x", .path = "/p" },
    };

    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct fixture f;
        char           code[16];

        start(&f, set, &bad[i]);
        snprintf(code, sizeof code, "%d", -EINVAL);
        EXPECT_STR(get_with(&f, ""), code);
        EXPECT(strstr(answer, "Set-Cookie") == NULL);
        EXPECT_EQ(fixture_stop(&f), 0);
    }
    for (size_t i = 0; i < sizeof panics / sizeof panics[0]; i++) {
        struct fixture f;

        start(&f, set, &panics[i]);
        (void)get_with(&f, "");
        EXPECT_STARTS(answer, "HTTP/1.1 500 ");
        EXPECT_EQ(fixture_stop(&f), 0);
    }
}

/* The value that a signed cookie got. */
static const char *
signed_value(const char *name, char *value, size_t size)
{
    struct fixture f;
    char           start_of[64];
    const char    *at;

    start(&f, sign, NULL);
    (void)get_with(&f, "");
    snprintf(start_of, sizeof start_of, "Set-Cookie: %s=", name);
    at = strstr(answer, start_of);
    EXPECT(at != NULL);
    at += strlen(start_of);
    snprintf(value, size, "%.*s", (int)strcspn(at, ";"), at);
    EXPECT_EQ(fixture_stop(&f), 0);
    return value;
}

static const char *
verify_with(const char *const *with, const char *value)
{
    static char    seen[256];
    char           cookies[600];
    struct fixture f;

    start(&f, verify, (void *)(uintptr_t)with);
    snprintf(cookies, sizeof cookies, "Cookie: u=%s; v=%s\r\n", value, value);
    snprintf(seen, sizeof seen, "%s", get_with(&f, cookies));
    EXPECT_EQ(fixture_stop(&f), 0);
    return seen;
}

TEST_REAL(cookie, signed_comes_back_whole_also_with_an_older_key)
{
    char value[256];

    signed_value("u", value, sizeof value);
    EXPECT_STR(verify_with(keys, value), "\303\251; \"x\" \001");
    EXPECT_STR(verify_with(later, value), "\303\251; \"x\" \001");
    EXPECT_STR(verify_with(other, value), "none");
    signed_value("empty", value, sizeof value);
    EXPECT_STR(verify_with(keys, value), "none"); /* another name's */
}

TEST_REAL(cookie, no_byte_of_a_signed_one_can_be_changed)
{
    char           value[256], changed[256];
    struct fixture f;

    signed_value("u", value, sizeof value);
    start(&f, verify, (void *)(uintptr_t)keys);
    for (size_t i = 0; i <= strlen(value); i++) {
        char cookies[600];

        snprintf(changed, sizeof changed, "%s", value);
        changed[i] = changed[i] == 'A' ? 'B' : 'A';
        if (i == strlen(value))
            changed[i - 1] = '\0'; /* and not be cut either */
        snprintf(cookies, sizeof cookies, "Cookie: u=%s\r\n", changed);
        EXPECT_STR(get_with(&f, cookies), "none");
    }
    EXPECT_EQ(fixture_stop(&f), 0);
}

TEST_REAL(cookie, a_signed_one_expires_whatever_the_browser_does)
{
    char value[256];

    signed_value("u", value, sizeof value);
    later_by = 50;
    EXPECT_STR(verify_with(keys, value), "\303\251; \"x\" \001");
    later_by = 61;
    EXPECT_STR(verify_with(keys, value), "none");
}

static int
bad_keys(struct bh_http_call *c, void *arg)
{
    static const char *const none[] = { NULL };
    static const char *const brief[] = { "short", NULL };

    (void)arg;
    EXPECT_PANIC("http: no key for signed cookies", bh_http_signed_cookie(c, none, "a"));
    EXPECT_PANIC("http: key 0 for signed cookies is shorter than 16 bytes",
                 bh_http_signed_cookie(c, brief, "a"));
    return bh_http_reply(c, 200, "ok");
}

TEST_REAL(cookie, keys_that_protect_nothing_are_a_panic)
{
    struct fixture f;

    start(&f, bad_keys, NULL);
    EXPECT_STR(get_with(&f, ""), "ok");
    EXPECT_EQ(fixture_stop(&f), 0);
}
