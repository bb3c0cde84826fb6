/* files_test.c -- static files: what is served, what must not be, and what changes meanwhile. */
#include "http_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

#include <bulkhead/http/files.h>

static char                  answer[1 << 20];
static char                  top[] = "/tmp/bulkhead_files_XXXXXX";
static char                  root[64];
static struct fixture        f;
static struct bh_http_files *files;

/* ---- a directory of files -------------------------------------------------------- */

static const char *
below(const char *path)
{
    static char full[256];

    snprintf(full, sizeof full, "%s/%s", root, path);
    return full;
}

static void
put(const char *path, const char *text)
{
    int fd = open(below(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    EXPECT(fd >= 0);
    EXPECT_EQ(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void
put_large(const char *path, size_t size)
{
    int   fd = open(below(path), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    char *data = malloc(size);

    EXPECT(fd >= 0);
    for (size_t i = 0; i < size; i++)
        data[i] = "0123456789"[i % 10];
    EXPECT_EQ(write(fd, data, size), size);
    free(data);
    close(fd);
}

static void
make_tree(void)
{
    EXPECT(mkdtemp(top) != NULL);
    snprintf(root, sizeof root, "%s/public", top);
    EXPECT_EQ(mkdir(root, 0755), 0);
    EXPECT_EQ(mkdir(below("dir"), 0755), 0);
    EXPECT_EQ(mkdir(below("bare"), 0755), 0);
    EXPECT_EQ(mkdir(below(".hidden"), 0755), 0);
    put("hello.txt", "hello");
    put("index.html", "<top>");
    put("dir/index.html", "<dir>");
    put("dir/a b.js", "script");
    put("noext", "?");
    put("empty.css", "");
    put(".env", "secret");
    put(".hidden/x.txt", "secret");
    put("../outside.txt", "secret");
    put_large("large.bin", 300000);
    EXPECT_EQ(symlink("../outside.txt", below("escape.txt")), 0);
    EXPECT_EQ(symlink("/etc", below("etc")), 0);
    EXPECT_EQ(symlink("hello.txt", below("link.txt")), 0);
    EXPECT_EQ(symlink("dir", below("linkdir")), 0);
    EXPECT_EQ(symlink("loop", below("loop")), 0);
    EXPECT_EQ(mkfifo(below("fifo"), 0644), 0);
}

static int
remove_one(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)flag;
    (void)ftw;
    return remove(path);
}

/* Serve them at /static/, and, as a middleware, at /pub/. */
static void
start(struct bh_http_files_options o, bh_http_fn *observer)
{
    make_tree();
    o.root = root;
    o.prefix = "/pub/";
    EXPECT_EQ(bh_http_files_new(&o, &files), 0);
    f.s = bh_http_server_new(NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    if (observer != NULL)
        bh_http_use(f.s, observer, NULL);
    bh_http_use(f.s, bh_http_files_or_next, files);
    bh_http_handle(f.s, "GET /static/{path...}", bh_http_files, files);
    fixture_start(&f);
}

static void
stop(void)
{
    EXPECT_EQ(fixture_stop(&f), 0);
    bh_http_files_free(files);
    EXPECT_EQ(nftw(top, remove_one, 16, FTW_DEPTH | FTW_PHYS), 0);
}

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
status(const char *request)
{
    return atoi(ask(request, "") + strlen("HTTP/1.1 "));
}

static const char *
body(const char *request)
{
    EXPECT_EQ(status(request), 200);
    return body_of(answer);
}

/* ---- what is served -------------------------------------------------------------- */

TEST_REAL(files, are_served_with_type_length_and_validators)
{
    start((struct bh_http_files_options){ .cache_control = "max-age=60" }, NULL);
    EXPECT_STR(body("GET /static/hello.txt"), "hello");
    EXPECT_HAS(answer, "Content-Type: text/plain; charset=utf-8\r\n");
    EXPECT_HAS(answer, "Content-Length: 5\r\n");
    EXPECT_HAS(answer, "Cache-Control: max-age=60\r\n");
    EXPECT_HAS(answer, "ETag: \"");
    EXPECT_HAS(answer, "Last-Modified: ");
    EXPECT_HAS(answer, "Accept-Ranges: bytes\r\n");
    EXPECT_STR(body("GET /static/dir/a%20b.js"), "script");
    EXPECT_HAS(answer, "Content-Type: text/javascript; charset=utf-8\r\n");
    EXPECT_STR(body("GET /static/dir%2fa%20b.js"), "script");
    EXPECT_STR(body("GET /static/empty.css"), "");
    EXPECT_STR(body("GET /static/noext?query"), "?");
    EXPECT_HAS(answer, "Content-Type: application/octet-stream\r\n");
    EXPECT_EQ(strlen(body("GET /static/large.bin")), 300000);
    EXPECT_EQ(strlen(body("GET /static/large.bin")), 300000);
    EXPECT_STR(body("HEAD /static/large.bin"), "");
    EXPECT_HAS(answer, "Content-Length: 300000\r\n");
    ask("GET /static/large.bin", "Range: bytes=299995-\r\n");
    EXPECT_STARTS(answer, "HTTP/1.1 206 ");
    EXPECT_STR(body_of(answer), "56789");
    stop();
}

TEST_REAL(files, of_a_directory_are_its_index)
{
    start((struct bh_http_files_options){ 0 }, NULL);
    EXPECT_STR(body("GET /static/"), "<top>");
    EXPECT_HAS(answer, "Content-Type: text/html; charset=utf-8\r\n");
    EXPECT_STR(body("GET /static/dir/"), "<dir>");
    EXPECT_EQ(status("GET /static/dir"), 301);
    EXPECT_HAS(answer, "Location: /static/dir/\r\n");
    EXPECT_EQ(status("GET /static/dir?a=b"), 301);
    EXPECT_HAS(answer, "Location: /static/dir/?a=b\r\n");
    EXPECT_EQ(status("GET /static/bare/"), 404);
    EXPECT_EQ(status("GET /static/hello.txt/"), 404);
    stop();
}

TEST_REAL(files, of_a_directory_are_absent_if_so_wished)
{
    start((struct bh_http_files_options){ .index = "" }, NULL);
    EXPECT_EQ(status("GET /static/"), 404);
    EXPECT_EQ(status("GET /static/dir/"), 404);
    EXPECT_EQ(status("GET /static/dir"), 404);
    EXPECT_STR(body("GET /static/dir/index.html"), "<dir>");
    stop();
}

TEST_REAL(files, that_the_client_has_are_not_sent_again)
{
    char fields[200];

    start((struct bh_http_files_options){ .cache_control = "no-cache" }, NULL);
    ask("GET /static/large.bin", "");
    snprintf(fields, sizeof fields, "If-None-Match: %.60s", strstr(answer, "ETag: ") + 6);
    strcpy(strstr(fields, "\r\n") + 2, "");
    ask("GET /static/large.bin", fields);
    EXPECT_STARTS(answer, "HTTP/1.1 304 ");
    EXPECT_HAS(answer, "Cache-Control: no-cache\r\n");
    EXPECT_HAS(answer, "ETag: ");
    stop();
}

/* ---- what must not be served ----------------------------------------------------- */

TEST_REAL(files, outside_cannot_be_reached)
{
    static const char *const paths[] = {
        "../outside.txt",
        "..%2foutside.txt",
        "%2e%2e/outside.txt",
        "%2e%2e%2foutside.txt",
        "dir/../../outside.txt",
        "dir/..%2f..%2foutside.txt",
        "./hello.txt",
        "dir/../hello.txt",
        "/etc/passwd",
        "//etc/passwd",
        "%2fetc%2fpasswd",
        "etc/passwd",
        "etc/",
        "escape.txt",
        "link.txt",
        "linkdir/index.html",
        "loop",
        "..",
        "../",
        ".",
        "dir//index.html",
        "..\\outside.txt",
        "%252e%252e/outside.txt",
        "hello.txt/.",
    };

    start((struct bh_http_files_options){ .dotfiles = true }, NULL);
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++)
        for (int middleware = 0; middleware < 2; middleware++) {
            char request[200];
            int  got;

            snprintf(request, sizeof request, "GET /%s/%s", middleware ? "pub" : "static",
                     paths[i]);
            got = status(request);
            if (got != 404 && got != 400)
                test_failed(__FILE__, __LINE__, "%s: %d", request, got);
            EXPECT(strstr(answer, "secret") == NULL);
        }
    stop();
}

TEST_REAL(files, that_are_hidden_or_special_are_absent)
{
    start((struct bh_http_files_options){ 0 }, NULL);
    EXPECT_EQ(status("GET /static/.env"), 404);
    EXPECT_EQ(status("GET /static/%2eenv"), 404);
    EXPECT_EQ(status("GET /static/.hidden/x.txt"), 404);
    EXPECT_EQ(status("GET /static/fifo"), 404);
    EXPECT_EQ(status("GET /static/none"), 404);
    EXPECT_EQ(status("GET /static/none/none"), 404);
    EXPECT_EQ(status("GET /static/hello.txt/none"), 404);
    EXPECT_EQ(status("POST /static/hello.txt"), 405);
    stop();
}

TEST_REAL(files, that_are_hidden_are_served_if_so_wished)
{
    start((struct bh_http_files_options){ .dotfiles = true }, NULL);
    EXPECT_STR(body("GET /static/.hidden/x.txt"), "secret");
    stop();
}

TEST_REAL(files, behind_links_are_served_if_so_wished_and_below)
{
    start((struct bh_http_files_options){ .symlinks = true }, NULL);
    EXPECT_STR(body("GET /static/link.txt"), "hello");
    EXPECT_STR(body("GET /static/linkdir/index.html"), "<dir>");
    EXPECT_EQ(status("GET /static/escape.txt"), 404);
    EXPECT_EQ(status("GET /static/etc/passwd"), 404);
    EXPECT_EQ(status("GET /static/loop"), 404);
    stop();
}

TEST_REAL(files, with_hostile_names_are_absent)
{
    char   request[6000] = "GET /static/";
    size_t at = strlen(request);

    start((struct bh_http_files_options){ 0 }, NULL);
    memset(request + at, 'a', 300);
    EXPECT_EQ(status(request), 404);
    for (size_t i = at; i < 5000; i += 2)
        memcpy(request + i, "a/", 3);
    EXPECT_EQ(status(request), 404);
    EXPECT(status("GET /static/hello.txt%00.html") != 200);
    EXPECT(status("GET /static/%zz") != 200);
    EXPECT_EQ(status("GET /static/%ff%fe"), 404);
    EXPECT_EQ(status("GET /static/a%0d%0aX:y"), 404);
    stop();
}

/* From now on this process has no openat2. */
static void
forbid_openat2(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat2, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = { sizeof code / sizeof code[0], code };

    EXPECT_EQ(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    EXPECT_EQ(
        syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program), 0);
    EXPECT_EQ(syscall(SYS_openat2, -1, NULL, NULL, 0), -1);
    EXPECT_EQ(errno, ENOSYS);
}

TEST_REAL(files, of_a_kernel_without_openat2_are_as_safe)
{
    static const char *const absent[] = {
        "escape.txt", "etc/passwd", "link.txt",    "linkdir/index.html", "loop",
        "fifo",       "none/x",     "hello.txt/x", "..%2foutside.txt"
    };
    char request[100];

    forbid_openat2();
    start((struct bh_http_files_options){ 0 }, NULL);
    EXPECT_STR(body("GET /static/hello.txt"), "hello");
    EXPECT_STR(body("GET /static/dir/a%20b.js"), "script");
    EXPECT_EQ(status("GET /static/dir"), 301);
    EXPECT_EQ(strlen(body("GET /static/large.bin")), 300000);
    for (size_t i = 0; i < sizeof absent / sizeof absent[0]; i++) {
        snprintf(request, sizeof request, "GET /static/%s", absent[i]);
        EXPECT_EQ(status(request), 404);
    }
    stop();
}

TEST_REAL(files, of_a_directory_redirect_to_no_other_host)
{
    struct bh_http_files *all;

    make_tree();
    EXPECT_EQ(mkdir(below("\\evil.example"), 0755), 0);
    EXPECT_EQ(bh_http_files_new(&(struct bh_http_files_options){ .root = root }, &all), 0);
    f.s = bh_http_server_new(NULL);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /{path...}", bh_http_files, all);
    fixture_start(&f);
    EXPECT_EQ(status("GET //dir"), 404);
    EXPECT(status("GET /\\evil.example") != 301);
    EXPECT_EQ(status("GET /%5cevil.example"), 301);
    EXPECT_HAS(answer, "Location: /%5cevil.example/\r\n");
    files = all;
    stop();
}

TEST_REAL(files, as_a_middleware_fall_through_to_the_rest)
{
    start((struct bh_http_files_options){ 0 }, NULL);
    EXPECT_STR(body("GET /pub/hello.txt"), "hello");
    EXPECT_STR(body("GET /pub/dir/a%20b.js"), "script");
    EXPECT_STR(body("GET /pub/"), "<top>");
    EXPECT_STR(body("GET /static/hello.txt"), "hello");
    EXPECT_EQ(status("GET /pub/none"), 404);
    EXPECT_EQ(status("GET /pub/.env"), 404);
    EXPECT_EQ(status("POST /pub/hello.txt"), 404);
    EXPECT_EQ(status("GET /hello.txt"), 404);
    EXPECT_EQ(status("GET /pubhello.txt"), 404);
    stop();
}

TEST_PLAIN(files, need_a_directory)
{
    struct bh_http_files *none = NULL;

    EXPECT_EQ(bh_http_files_new(&(struct bh_http_files_options){ .root = "/none" }, &none),
              -ENOENT);
    EXPECT_EQ(
        bh_http_files_new(&(struct bh_http_files_options){ .root = "/etc/passwd" }, &none),
        -ENOTDIR);
    EXPECT(none == NULL);
    bh_http_files_free(NULL);
}

/* ---- siblings -------------------------------------------------------------------- */

TEST_REAL(files, already_compressed_are_sent_to_who_takes_them)
{
    start((struct bh_http_files_options){ .precompressed = true }, NULL);
    put("hello.txt.gz", "(gzip)");
    put("hello.txt.br", "(br)");
    ask("GET /static/hello.txt", "Accept-Encoding: gzip, br;q=0.5\r\n");
    EXPECT_HAS(answer, "Content-Encoding: gzip\r\n");
    EXPECT_HAS(answer, "Vary: Accept-Encoding\r\n");
    EXPECT_HAS(answer, "Content-Type: text/plain");
    EXPECT_STR(body_of(answer), "(gzip)");
    EXPECT_STR(body_of(ask("GET /static/hello.txt", "Accept-Encoding: gzip, br\r\n")), "(br)");
    EXPECT_STR(body_of(ask("GET /static/hello.txt", "Accept-Encoding: zstd\r\n")), "hello");
    EXPECT_HAS(answer, "Vary: Accept-Encoding\r\n");
    EXPECT_STR(body_of(ask("GET /static/hello.txt", "")), "hello");
    EXPECT(strstr(answer, "Content-Encoding") == NULL);
    EXPECT_STR(body_of(ask("GET /static/dir/", "Accept-Encoding: gzip\r\n")), "<dir>");
    EXPECT(strstr(answer, "Vary") == NULL);
    stop();
}

/* ---- changes --------------------------------------------------------------------- */

/* Until `request` has this body: the cache looks again after a second. */
static void
becomes(const char *request, const char *text)
{
    int64_t until = bh_now() + 5 * BH_SECOND;

    while (strcmp(body_of(ask(request, "")), text) != 0) {
        EXPECT(bh_now() < until);
        bh_sleep(50 * BH_MILLISECOND);
    }
}

TEST_REAL(files, that_change_are_seen_to_change)
{
    char renamed[256];

    start((struct bh_http_files_options){ 0 }, NULL);
    EXPECT_STR(body("GET /static/hello.txt"), "hello");
    put("hello.txt", "HELLO"); /* within the same tick of the clock, perhaps */
    becomes("GET /static/hello.txt", "HELLO");
    put("new.txt", "new");
    snprintf(renamed, sizeof renamed, "%s", below("hello.txt"));
    EXPECT_EQ(rename(below("new.txt"), renamed), 0);
    becomes("GET /static/hello.txt", "new");
    unlink(below("hello.txt"));
    becomes("GET /static/hello.txt", "404 Not Found\n");
    put("hello.txt", "again");
    EXPECT_STR(body("GET /static/hello.txt"), "again");
    stop();
}

TEST_REAL(files, that_shrink_or_grow_are_sent_as_they_are)
{
    start((struct bh_http_files_options){ 0 }, NULL);
    EXPECT_EQ(strlen(body("GET /static/large.bin")), 300000);
    put_large("large.bin", 20000);
    EXPECT_EQ(strlen(body("GET /static/large.bin")), 20000);
    put_large("large.bin", 400000);
    EXPECT_EQ(strlen(body("GET /static/large.bin")), 400000);
    stop();
}

/* A filter that is asked before the file goes out, and cuts it off. */
static int64_t
cut_off(struct bh_http_call *c, void *arg, int64_t length)
{
    (void)c;
    (void)arg;
    (void)length;
    EXPECT_EQ(truncate(below("large.bin"), 1000), 0);
    return BH_HTTP_SKIP;
}

static int
add_cut_off(struct bh_http_call *c, void *arg)
{
    static const struct bh_http_filter filter = { .head = cut_off };

    (void)bh_http_filter(c, &filter, arg);
    return bh_http_next(c);
}

TEST_REAL(files, cut_off_while_being_sent_break_the_transfer)
{
    start((struct bh_http_files_options){ 0 }, add_cut_off);
    EXPECT_EQ(status("GET /static/large.bin"), 200);
    EXPECT_HAS(answer, "Content-Length: 300000\r\n");
    EXPECT_EQ(strlen(body_of(answer)), 1000);
    stop();
}

/* ---- at a time ------------------------------------------------------------------- */

struct crowd {
    struct bh_chan *done;
    int             number;
};

/* Over and over, on one connection: either the old file, whole, or the new one. */
static void
ask_often(void *args)
{
    struct crowd   *a = args;
    struct bh_conn *c = fixture_dial(&f);
    char           *reply = malloc(100000);
    int             wrong = 0;

    for (int i = 0; i < 60; i++) {
        send_text(c, a->number % 2 != 0 ? "GET /static/moving.bin HTTP/1.1\r\nHost: a\r\n\r\n"
                                        : "GET /static/hello.txt HTTP/1.1\r\nHost: a\r\n\r\n");
        read_reply(c, reply, 100000);
        wrong += !starts_with(reply, "HTTP/1.1 200 ") ||
                 (a->number % 2 != 0 && strlen(body_of(reply)) != 30000 &&
                  strlen(body_of(reply)) != 50000);
    }
    bh_conn_free(c);
    free(reply);
    bh_send(a->done, &wrong);
}

TEST_REAL(files, asked_for_by_many_while_they_are_replaced_are_whole)
{
    struct bh_chan *done = BH_CHAN(int, 0);
    char            target[256];
    int             wrong;

    start((struct bh_http_files_options){ .cached_files = 8 }, NULL);
    put_large("moving.bin", 30000);
    snprintf(target, sizeof target, "%s", below("moving.bin"));
    for (int i = 0; i < 8; i++)
        bh_go(ask_often, &(struct crowd){ done, i });
    for (int i = 0; i < 8; i++) {
        put_large("next.bin", i % 2 == 0 ? 50000 : 30000);
        EXPECT_EQ(rename(below("next.bin"), target), 0);
        bh_recv(done, &wrong);
        EXPECT_EQ(wrong, 0);
    }
    bh_chan_unref(done);
    stop();
}

TEST_REAL(files, more_than_are_kept_are_served_and_let_go)
{
    start((struct bh_http_files_options){ .cached_files = 8 }, NULL);
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < 40; i++) {
            char name[40], request[80];

            snprintf(name, sizeof name, "file%d.txt", i);
            if (round == 0)
                put_large(name, 20000 + (size_t)i);
            snprintf(request, sizeof request, "GET /static/%s", name);
            EXPECT_EQ(strlen(body(request)), 20000 + (size_t)i);
        }
    stop();
}

TEST_PLAIN(file_type, is_known_by_the_ending)
{
    EXPECT_STR(bh_http_file_type("a/b.HTML"), "text/html; charset=utf-8");
    EXPECT_STR(bh_http_file_type("x.tar.gz"), "application/gzip");
    EXPECT_STR(bh_http_file_type("x.7z"), "application/x-7z-compressed");
    EXPECT_STR(bh_http_file_type("x.zst"), "application/zstd");
    EXPECT_STR(bh_http_file_type("x.webmanifest"), "application/manifest+json");
    EXPECT(bh_http_file_type("") == NULL && bh_http_file_type("html") == NULL);
    EXPECT(bh_http_file_type(".html") == NULL && bh_http_file_type("a.html/b") == NULL);
    EXPECT(bh_http_file_type("a.") == NULL && bh_http_file_type("a.averylongending") == NULL);
}
