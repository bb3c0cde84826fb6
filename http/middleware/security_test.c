/* security_test.c -- who asks: addresses behind proxies, origins, credentials; and what browsers are told. */
#include "http_fixture.h"

#include <bulkhead/http/security.h>

static char           answer[1 << 16], test_ending[] = ".test", robot[] = "robot";
static struct fixture f;

static const char *
ask(const char *request, const char *fields)
{
    char text[8192];

    snprintf(text, sizeof text, "%s HTTP/1.1\r\nHost: a\r\nConnection: close\r\n%s\r\n",
             request, fields);
    talk(&f, text, answer, sizeof answer);
    return answer;
}

static int
status(const char *request, const char *fields)
{
    return atoi(ask(request, fields) + strlen("HTTP/1.1 "));
}

#define NOT(part) EXPECT(strstr(answer, (part)) == NULL)

/* Who is it?  ?panic, ?vary, ?frame. */
static int
who(struct bh_http_call *c, void *arg)
{
    const char *user = bh_http_user(c);

    (void)arg;
    if (bh_http_query(c, "panic") != NULL)
        bh_panic("who");
    if (bh_http_query(c, "vary") != NULL)
        bh_http_set_header(c, "Vary", "Accept");
    if (bh_http_query(c, "frame") != NULL)
        bh_http_set_header(c, "X-Frame-Options", "SAMEORIGIN");
    return bh_http_reply(c, 200, "%s %s %s", bh_http_client_ip(c), bh_http_scheme(c),
                         user != NULL ? user : "-");
}

static void
start(bh_http_fn *fn, void *arg)
{
    f.s = bh_http_server_new(NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    if (fn != NULL)
        bh_http_use(f.s, fn, arg);
    bh_http_handle(f.s, "GET /who", who, NULL);
    bh_http_handle(f.s, "POST /only", who, NULL);
    fixture_start(&f);
}

static void
stop(void)
{
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- addresses ------------------------------------------------------------------- */

static struct bh_http_proxies *proxies;

static void
start_behind(struct bh_http_proxies_options o)
{
    proxies = bh_http_proxies_new(&o);
    start(bh_http_real_ip, proxies);
}

static const char *
who_with(const char *fields)
{
    return body_of(ask("GET /who", fields));
}

static void
stop_behind(void)
{
    stop();
    bh_http_proxies_free(proxies);
}

TEST_REAL(real_ip, is_the_peers_if_nobody_is_trusted)
{
    start(NULL, NULL);
    EXPECT_STR(who_with("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"),
               "127.0.0.1 http -");
    stop();
    start_behind((struct bh_http_proxies_options){ 0 });
    EXPECT_STR(who_with("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"),
               "127.0.0.1 http -");
    stop_behind();
    start_behind((struct bh_http_proxies_options){ .trusted = "10.0.0.0/8, unix" });
    EXPECT_STR(
        who_with(
            "X-Forwarded-For: 1.2.3.4\r\nX-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4\r\n"),
        "127.0.0.1 http -");
    stop_behind();
}

TEST_REAL(real_ip, is_what_trusted_proxies_say)
{
    start_behind((struct bh_http_proxies_options){ .trusted = "127.0.0.0/8 , 10.0.0.0/8" });
    EXPECT_STR(who_with("X-Forwarded-For: 1.2.3.4\r\n"), "1.2.3.4 http -");
    EXPECT_STR(who_with("X-Forwarded-For: 6.6.6.6, 1.2.3.4\r\nX-Forwarded-For: 10.0.0.1\r\n"),
               "1.2.3.4 http -");
    EXPECT_STR(who_with("X-Forwarded-For: [2001:db8::1]:99\r\nX-Forwarded-Proto: HTTPS\r\n"),
               "2001:db8::1 https -");
    EXPECT_STR(who_with("X-Forwarded-For: 1.2.3.4\r\nX-Forwarded-Proto: http, https\r\n"),
               "1.2.3.4 https -");
    EXPECT_STR(who_with("X-Forwarded-For: 6.6.6.6, rubbish\r\nX-Forwarded-Proto: gopher\r\n"),
               "127.0.0.1 http -");
    EXPECT_STR(who_with("X-Real-IP: 1.2.3.4\r\nForwarded: for=1.2.3.4;proto=https\r\n"),
               "127.0.0.1 http -");
    EXPECT_STR(who_with(""), "127.0.0.1 http -");
    stop_behind();
}

TEST_REAL(real_ip, comes_from_the_field_that_was_chosen)
{
    start_behind(
        (struct bh_http_proxies_options){ .trusted = "127.0.0.1", .field = BH_HTTP_FORWARDED });
    EXPECT_STR(who_with("Forwarded: for=6.6.6.6, "
                        "for=\"[2001:db8::1]\";proto=https\r\nX-Forwarded-For: 6.6.6.6\r\n"
                        "X-Forwarded-Proto: http\r\n"),
               "2001:db8::1 https -");
    stop_behind();
    start_behind((struct bh_http_proxies_options){
        .trusted = "127.0.0.1", .field = BH_HTTP_X_REAL_IP, .no_proto = true });
    EXPECT_STR(who_with("X-Real-IP: 1.2.3.4\r\nX-Forwarded-Proto: https\r\n"),
               "1.2.3.4 http -");
    EXPECT_STR(who_with("X-Real-IP: 1.2.3.4\r\nX-Real-IP: 6.6.6.6\r\n"), "127.0.0.1 http -");
    EXPECT_STR(who_with("X-Real-IP: 1.2.3.4, 6.6.6.6\r\n"), "127.0.0.1 http -");
    stop_behind();
}

TEST_REAL(real_ip, knows_unix_sockets)
{
    struct bh_conn *c;

    proxies = bh_http_proxies_new(&(struct bh_http_proxies_options){ .trusted = "unix" });
    f.s = bh_http_server_new(NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_use(f.s, bh_http_real_ip, proxies);
    bh_http_handle(f.s, "GET /who", who, NULL);
    EXPECT_EQ(bh_http_listen(f.s, "unix:@bulkhead-security-test"), 0);
    f.done = BH_CHAN(int, 1);
    bh_go(fixture_serve, &(struct fixture_serve){ &f });
    c = fixture_dial(&f);
    send_text(c, "GET /who HTTP/1.1\r\nHost: a\r\n\r\nGET /who HTTP/1.1\r\nHost: "
                 "a\r\nConnection: close\r\n"
                 "X-Forwarded-For: 1.2.3.4\r\n\r\n");
    (void)read_to_end(c, answer, sizeof answer);
    bh_conn_free(c);
    EXPECT_HAS(answer, "unix http -");
    EXPECT_HAS(answer, "1.2.3.4 http -");
    stop_behind();
}

TEST_REAL(real_ip, refuses_blocks_it_cannot_read)
{
    bh_http_proxies_free(NULL);
    EXPECT_PANIC(
        "http: \"10.0.0.1/8\" is no block of addresses",
        bh_http_proxies_new(&(struct bh_http_proxies_options){ .trusted = "::1, 10.0.0.1/8" }));
    EXPECT_PANIC(
        "http: \"localhost\" is no block of addresses",
        bh_http_proxies_new(&(struct bh_http_proxies_options){ .trusted = "localhost" }));
}

/* ---- origins --------------------------------------------------------------------- */

static struct bh_http_cors *cors;

static void
start_cors(struct bh_http_cors_options o)
{
    cors = bh_http_cors_new(&o);
    start(bh_http_cors, cors);
}

static void
stop_cors(void)
{
    stop();
    bh_http_cors_free(cors);
}

#define PREFLIGHT                                                                              \
    "Access-Control-Request-Method: PUT\r\nAccess-Control-Request-Headers: x-a, x-b\r\n"

TEST_REAL(cors, origin_that_is_allowed_may_read)
{
    start_cors(
        (struct bh_http_cors_options){ .origins = "https://a.example, https://b.example:8443",
                                       .exposed = "X-One",
                                       .credentials = true });
    EXPECT_EQ(status("GET /who", "Origin: https://a.example\r\n"), 200);
    EXPECT_HAS(answer, "Access-Control-Allow-Origin: https://a.example\r\n");
    EXPECT_HAS(answer, "Access-Control-Allow-Credentials: true\r\n");
    EXPECT_HAS(answer, "Access-Control-Expose-Headers: X-One\r\n");
    EXPECT_HAS(answer, "Vary: Origin\r\n");
    EXPECT_EQ(status("GET /who", "Origin: https://b.example:8443\r\n"), 200);
    EXPECT_HAS(answer, "Access-Control-Allow-Origin: https://b.example:8443\r\n");
    EXPECT_EQ(status("GET /none", "Origin: https://a.example\r\n"), 404);
    EXPECT_HAS(answer, "Access-Control-Allow-Origin: https://a.example\r\n");
    stop_cors();
}

TEST_REAL(cors, origin_that_is_not_may_not)
{
    static const char *const origins[] = {
        "https://a.example.evil",
        "https://a.exampl",
        "http://a.example",
        "https://a.example:444",
        "https://A.example",
        "https://xa.example",
        "https://a.example/",
        "null",
        "",
        "https://a.example, https://a.example",
    };
    char fields[200];

    start_cors(
        (struct bh_http_cors_options){ .origins = "https://a.example", .credentials = true });
    for (size_t i = 0; i < sizeof origins / sizeof origins[0]; i++) {
        snprintf(fields, sizeof fields, "Origin: %s\r\n", origins[i]);
        EXPECT_EQ(status("GET /who", fields), 200);
        NOT("Access-Control");
        EXPECT_HAS(answer, "Vary: Origin\r\n");
        strcat(fields, PREFLIGHT);
        EXPECT_EQ(status("OPTIONS /who", fields), 204);
        NOT("Access-Control-Allow");
    }
    EXPECT_EQ(status("GET /who", ""), 200);
    NOT("Access-Control");
    EXPECT_HAS(answer, "Vary: Origin\r\n");
    EXPECT_EQ(status("GET /who", "Origin: https://a.example\r\nOrigin: https://a.example\r\n"),
              200);
    NOT("Access-Control");
    stop_cors();
}

TEST_REAL(cors, pattern_stands_for_labels_below)
{
    static const struct {
        const char *origin;
        bool        allowed;
    } cases[] = {
        { "https://x.a.example", true },          { "https://x.y-1.a.example", true },
        { "https://a.example", false },           { "https://.a.example", false },
        { "https://evil.com?.a.example", false }, { "https://evil.com/.a.example", false },
        { "https://evil.com#.a.example", false }, { "https://x.a.example.evil", false },
        { "http://x.a.example", false },          { "https://x..a.example", false },
        { "https://u@x.a.example", false },       { "https://evil.com:1.a.example", false }
    };
    char fields[200];

    start_cors((struct bh_http_cors_options){ .origins = "https://*.a.example" });
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        snprintf(fields, sizeof fields, "Origin: %s\r\n", cases[i].origin);
        ask("GET /who", fields);
        if ((strstr(answer, "Access-Control-Allow-Origin: https://") != NULL) !=
            cases[i].allowed)
            test_failed(__FILE__, __LINE__, "%s", cases[i].origin);
        NOT("Access-Control-Allow-Credentials");
    }
    stop_cors();
}

static bool
ends_in_test(struct bh_http_call *c, const char *origin, void *arg)
{
    (void)c;
    return strstr(origin, arg) != NULL;
}

TEST_REAL(cors, callback_decides_about_the_rest)
{
    start_cors((struct bh_http_cors_options){
        .origins = "null", .allow = ends_in_test, .allow_arg = test_ending });
    EXPECT_EQ(status("GET /who", "Origin: https://a.test\r\n"), 200);
    EXPECT_HAS(answer, "Access-Control-Allow-Origin: https://a.test\r\n");
    EXPECT_EQ(status("GET /who", "Origin: null\r\n"), 200);
    EXPECT_HAS(answer, "Access-Control-Allow-Origin: null\r\n");
    EXPECT_EQ(status("GET /who", "Origin: https://a.example\r\n"), 200);
    NOT("Access-Control");
    stop_cors();
}

TEST_REAL(cors, preflight_is_answered_wherever_it_goes)
{
    static const char *const requests[] = { "OPTIONS /who", "OPTIONS /only", "OPTIONS /none",
                                            "OPTIONS /who/below" };

    start_cors((struct bh_http_cors_options){
        .origins = "https://a.example", .headers = "X-A", .max_age = 600 });
    for (size_t i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        EXPECT_EQ(status(requests[i], "Origin: https://a.example\r\n" PREFLIGHT), 204);
        EXPECT_HAS(answer, "Access-Control-Allow-Origin: https://a.example\r\n");
        EXPECT_HAS(answer,
                   "Access-Control-Allow-Methods: GET, HEAD, POST, PUT, PATCH, DELETE\r\n");
        EXPECT_HAS(answer, "Access-Control-Allow-Headers: X-A\r\n");
        EXPECT_HAS(answer, "Access-Control-Max-Age: 600\r\n");
        EXPECT_HAS(answer, "Vary: Origin\r\n");
        NOT("Allow: GET");
    }
    /* An OPTIONS that is no preflight is the server's. */
    EXPECT_EQ(status("OPTIONS /who", "Origin: https://a.example\r\n"), 204);
    EXPECT_HAS(answer, "\r\nAllow: GET");
    EXPECT_EQ(status("OPTIONS /who", PREFLIGHT), 204);
    EXPECT_HAS(answer, "\r\nAllow: GET");
    stop_cors();
}

TEST_REAL(cors, everybody_is_told_so_without_credentials)
{
    start_cors((struct bh_http_cors_options){ .origins = "*", .headers = "*" });
    EXPECT_EQ(status("GET /who", "Origin: https://a.example\r\n"), 200);
    EXPECT_HAS(answer, "Access-Control-Allow-Origin: *\r\n");
    NOT("Vary");
    NOT("Credentials");
    EXPECT_EQ(status("OPTIONS /who", "Origin: https://a.example\r\n" PREFLIGHT), 204);
    EXPECT_HAS(answer, "Access-Control-Allow-Headers: x-a, x-b\r\n");
    EXPECT_EQ(status("OPTIONS /who",
                     "Origin: https://a.example\r\nAccess-Control-Request-Method: PUT\r\n"
                     "Access-Control-Request-Headers: <script>\r\n"),
              204);
    NOT("script");
    stop_cors();
    EXPECT_PANIC(
        "http: credentials for every origin (\"*\") would let any page act as its visitor",
        bh_http_cors_new(&(struct bh_http_cors_options){ .origins = "https://a.example, *",
                                                         .credentials = true }));
    EXPECT_PANIC("http: \"a.example\" is no origin",
                 bh_http_cors_new(&(struct bh_http_cors_options){ .origins = "a.example" }));
    EXPECT_PANIC(
        "http: \"https://a.*.example\" is no origin",
        bh_http_cors_new(&(struct bh_http_cors_options){ .origins = "https://a.*.example" }));
    EXPECT_PANIC(
        "http: \"https://a.example/\" is no origin",
        bh_http_cors_new(&(struct bh_http_cors_options){ .origins = "https://a.example/" }));
}

TEST_REAL(cors, handler_cannot_unsay_that_it_varies)
{
    start_cors((struct bh_http_cors_options){ .origins = "https://a.example" });
    EXPECT_EQ(status("GET /who?vary", "Origin: https://a.example\r\n"), 200);
    EXPECT_HAS(answer, "Vary: Accept\r\n");
    EXPECT_HAS(answer, "Vary: Origin\r\n");
    stop_cors();
}

/* ---- credentials ----------------------------------------------------------------- */

#define ALADDIN                                                                                \
    "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n" /* Aladdin:open sesame */

static const struct bh_http_login logins[] = { { "root", "x" },
                                               { "Aladdin", "open sesame" },
                                               { NULL, NULL } };

TEST_REAL(basic_auth, lets_in_who_has_the_password)
{
    struct bh_http_basic o = { .realm = "a \"b\" \\c", .logins = logins };

    start(bh_http_basic_auth, &o);
    EXPECT_EQ(status("GET /who", ALADDIN), 200);
    EXPECT_STR(body_of(answer), "127.0.0.1 http Aladdin");
    EXPECT_EQ(status("GET /who", ""), 401);
    EXPECT_HAS(answer,
               "WWW-Authenticate: Basic realm=\"a \\\"b\\\" \\\\c\", charset=\"UTF-8\"\r\n");
    stop();
}

TEST_REAL(basic_auth, lets_in_nobody_else)
{
    static const char *const fields[] = {
        "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZA==\r\n", /* another letter */
        "Authorization: Basic QWxhZGRpbjo=\r\n",                 /* no password */
        "Authorization: Basic Ong=\r\n",                         /* no user */
        "Authorization: Basic cm9vdDpvcGVuIHNlc2FtZQ==\r\n",     /* another's password */
        "Authorization: Basic cm9vdDp4eA==\r\n",                 /* "xx", not "x" */
        "Authorization: Basic\r\n",
        "Authorization: Bearer QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n",
        "Authorization: Basic !!!!\r\n",
        "Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ\r\n",
        (ALADDIN ALADDIN),
        "Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n",
    };
    struct bh_http_basic o = { .logins = logins }, nobody = { 0 };

    start(bh_http_basic_auth, &o);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        EXPECT_EQ(status("GET /who", fields[i]), 401);
        EXPECT_HAS(answer,
                   "WWW-Authenticate: Basic realm=\"restricted\", charset=\"UTF-8\"\r\n");
    }
    stop();
    start(bh_http_basic_auth, &nobody);
    EXPECT_EQ(status("GET /who", ALADDIN), 401);
    stop();
}

static bool
is_open_sesame(struct bh_http_call *c, const char *user, const char *password, void *arg)
{
    EXPECT_STR(c->path, "/who");
    EXPECT_STR(user, "Aladdin");
    if (arg != NULL)
        bh_panic("no database");
    return bh_http_same_secret(password, "open sesame");
}

TEST_REAL(basic_auth, asks_the_callback)
{
    struct bh_http_basic o = { .verify = is_open_sesame },
                         broken = { .verify = is_open_sesame, .arg = &o };

    start(bh_http_basic_auth, &o);
    EXPECT_EQ(status("GET /who", ALADDIN), 200);
    EXPECT_EQ(status("GET /who", "Authorization: Basic QWxhZGRpbjp4\r\n"), 401);
    stop();
    start(bh_http_basic_auth, &broken);
    EXPECT_EQ(status("GET /who", ALADDIN), 500);
    stop();
}

TEST_PLAIN(secret, is_the_same_or_not)
{
    EXPECT(bh_http_same_secret("abc", "abc") && bh_http_same_secret("", ""));
    EXPECT(!bh_http_same_secret("abc", "abd") && !bh_http_same_secret("ab", "abc"));
    EXPECT(!bh_http_same_secret("abcabc", "abc") && !bh_http_same_secret("", "abc"));
    EXPECT(!bh_http_same_secret("abc", ""));
}

static const char *
whose(struct bh_http_call *c, const char *token, void *arg)
{
    (void)c;
    return strcmp(token, "t0ken") == 0 ? arg : NULL;
}

TEST_REAL(bearer_auth, lets_in_whose_token_is_good)
{
    struct bh_http_bearer o = { .realm = "api", .verify = whose, .arg = robot },
                          bare = { .verify = whose };

    start(bh_http_bearer_auth, &o);
    EXPECT_EQ(status("GET /who", "Authorization: bearer t0ken\r\n"), 200);
    EXPECT_STR(body_of(answer), "127.0.0.1 http robot");
    EXPECT_EQ(status("GET /who", ""), 401);
    EXPECT_HAS(answer, "WWW-Authenticate: Bearer realm=\"api\"\r\n");
    EXPECT_EQ(status("GET /who", ALADDIN), 401);
    EXPECT_HAS(answer, "WWW-Authenticate: Bearer realm=\"api\"\r\n");
    EXPECT_EQ(status("GET /who", "Authorization: Bearer t0kem\r\n"), 401);
    EXPECT_HAS(answer, "WWW-Authenticate: Bearer realm=\"api\", error=\"invalid_token\"\r\n");
    EXPECT_EQ(status("GET /who", "Authorization: Bearer t0ken x\r\n"), 400);
    EXPECT_HAS(answer, "error=\"invalid_request\"\r\n");
    EXPECT_EQ(status("GET /who", "Authorization: Bearer t0ken\r\nAuthorization: Bearer x\r\n"),
              400);
    stop();
    start(bh_http_bearer_auth, &bare);
    EXPECT_EQ(status("GET /who", ""), 401);
    EXPECT_HAS(answer, "WWW-Authenticate: Bearer\r\n");
    EXPECT_EQ(status("GET /who", "Authorization: Bearer x\r\n"), 401);
    EXPECT_HAS(answer, "WWW-Authenticate: Bearer error=\"invalid_token\"\r\n");
    stop();
}

/* ---- what browsers are told ------------------------------------------------------ */

TEST_REAL(secure, fields_are_set_unless_the_handler_knows_better)
{
    start(bh_http_secure, NULL);
    EXPECT_EQ(status("GET /who", ""), 200);
    EXPECT_HAS(answer, "X-Content-Type-Options: nosniff\r\n");
    EXPECT_HAS(answer, "X-Frame-Options: DENY\r\n");
    EXPECT_HAS(answer, "Referrer-Policy: strict-origin-when-cross-origin\r\n");
    EXPECT_HAS(answer, "Cross-Origin-Opener-Policy: same-origin\r\n");
    EXPECT_HAS(answer, "Cross-Origin-Resource-Policy: same-origin\r\n");
    NOT("Content-Security-Policy");
    NOT("Permissions-Policy");
    NOT("Strict-Transport-Security");
    EXPECT_EQ(status("GET /who?frame", ""), 200);
    EXPECT_HAS(answer, "X-Frame-Options: SAMEORIGIN\r\n");
    EXPECT_EQ(count_of(answer, "X-Frame-Options"), 1);
    EXPECT_EQ(status("GET /none", ""), 404);
    EXPECT_HAS(answer, "nosniff");
    stop();
}

TEST_REAL(secure, fields_are_as_chosen_and_on_a_panic_too)
{
    struct bh_http_secure o = { .frame = "",
                                .csp = "default-src 'self'",
                                .permissions = "camera=()",
                                .opener = "",
                                .resource = "cross-origin",
                                .hsts = "max-age=1" };

    proxies = bh_http_proxies_new(&(struct bh_http_proxies_options){ .trusted = "127.0.0.1" });
    f.s = bh_http_server_new(NULL);
    bh_http_observe(f.s, bh_http_real_ip, proxies);
    bh_http_observe(f.s, bh_http_secure, &o);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /who", who, NULL);
    fixture_start(&f);
    EXPECT_EQ(status("GET /who?panic", "X-Forwarded-Proto: https\r\n"), 500);
    EXPECT_HAS(answer, "Content-Security-Policy: default-src 'self'\r\n");
    EXPECT_HAS(answer, "Permissions-Policy: camera=()\r\n");
    EXPECT_HAS(answer, "Cross-Origin-Resource-Policy: cross-origin\r\n");
    EXPECT_HAS(answer, "Strict-Transport-Security: max-age=1\r\n");
    NOT("X-Frame-Options");
    NOT("Opener-Policy");
    EXPECT_EQ(status("GET /who", ""), 200);
    NOT("Strict-Transport-Security");
    stop_behind();
}
