/* listen_test.c -- Unix sockets, and sockets that a service manager passes on. */
#include "http_fixture.h"

#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static int
whoami(struct bh_http_call *c, void *arg)
{
    return bh_http_reply(c, 200, "%s %s\n", (const char *)arg, c->peer);
}

static char command[512];

static void
run(void *arg)
{
    int status = system(arg);

    if (status != 0)
        test_failed(__FILE__, __LINE__, "status %d of: %s", status, (char *)arg);
}

TEST_REAL(listen, a_unix_socket_serves_curl_and_names_its_process)
{
    struct fixture f = { .s = bh_http_server_new(
                             &(struct bh_http_options){ .unix_mode = 0600 }) };
    char           directory[] = "/tmp/bulkhead_listen_XXXXXX", address[64];
    struct stat    st;

    EXPECT(mkdtemp(directory) != NULL);
    snprintf(address, sizeof address, "unix:%s/http.sock", directory);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /", whoami, (void *)(uintptr_t) "hello");
    EXPECT_EQ(bh_http_listen(f.s, address), 0);
    EXPECT_EQ(stat(address + 5, &st), 0);
    EXPECT_EQ(st.st_mode & 0777, 0600);
    fixture_start(&f);
    EXPECT_STR(bh_http_address(f.s), address);
    snprintf(command, sizeof command,
             "curl -sS --max-time 5 --unix-socket %s http://host/ http://host/ | "
             "grep -c '^hello unix:pid=[0-9]*,uid=%d$' | grep -qx 2",
             address + 5, (int)getuid());
    bh_blocking(run, command);
    EXPECT_EQ(fixture_stop(&f), 0);
    EXPECT_EQ(access(address + 5, F_OK), -1); /* the file goes with the listener */
    EXPECT_EQ(rmdir(directory), 0);
}

TEST_REAL(listen, what_was_not_passed_cannot_be_had)
{
    struct bh_http_server *s = bh_http_server_new(NULL);
    char                   pid[16];
    int                    ends[2];

    unsetenv("LISTEN_FDS");
    EXPECT_EQ(bh_http_listen(s, "systemd:"), -ENOENT);
    setenv("LISTEN_FDS", "1", 1);
    setenv("LISTEN_PID", "1", 1); /* another's */
    EXPECT_EQ(bh_http_listen(s, "systemd:"), -ENOENT);
    snprintf(pid, sizeof pid, "%d", (int)getpid());
    setenv("LISTEN_PID", pid, 1);
    setenv("LISTEN_FDNAMES", "web", 1);
    EXPECT_EQ(bh_http_listen(s, "systemd:we"), -ENOENT);
    EXPECT_HAS(bh_error_note(), "no socket named we was passed");
    EXPECT(bh_http_listen(s, "systemd:web") < 0); /* descriptor 3 is something else here */

    EXPECT_EQ(pipe(ends), 0);
    snprintf(command, sizeof command, "fd:%d", ends[0]);
    EXPECT(bh_http_listen(s, command) < 0);
    EXPECT_EQ(bh_http_listen(s, "fd:-1"), -EBADF);
    EXPECT_EQ(bh_http_listen(s, "fd:1x"), -EBADF);
    close(ends[0]);
    close(ends[1]);
    bh_http_server_free(s);
}

TEST_REAL(listen, a_descriptor_is_adopted_once)
{
    struct fixture      f = { .s = bh_http_server_new(NULL) };
    struct bh_listener *l = NULL;
    char                text[32], answer[1000];
    int                 fd;

    EXPECT_EQ(bh_listen("127.0.0.1:0", &l), 0);
    fd = dup(bh_listener_fd(l));
    bh_listener_free(l);
    snprintf(text, sizeof text, "fd:%d", fd);
    bh_http_use(f.s, bh_http_recover, NULL);
    bh_http_handle(f.s, "GET /", whoami, (void *)(uintptr_t) "fd");
    EXPECT_EQ(bh_http_listen(f.s, text), 0);
    EXPECT_EQ(bh_http_listen(f.s, text), -EBUSY);
    fixture_start(&f);
    talk(&f, "GET / HTTP/1.1\r\nHost: a\r\n\r\n", answer, sizeof answer);
    EXPECT_HAS(answer, "fd 127.0.0.1:");
    EXPECT_EQ(fixture_stop(&f), 0);
}

/* ---- as a service -------------------------------------------------------------------- */

/* What a service's main does: serve the sockets named "web", until a signal. */
static void
service(void *args)
{
    struct bh_http_server *s = bh_http_server_new(NULL);

    (void)args;
    bh_http_use(s, bh_http_recover, NULL);
    bh_http_handle(s, "GET /", whoami, (void *)(uintptr_t) "service");
    if (bh_http_listen(s, "systemd:web") != 0 || bh_http_serve_until_signal(s) != 0)
        bh_exit(3);
    bh_http_server_free(s);
}

static int
listen_on(struct sockaddr_in *a)
{
    socklen_t size = sizeof *a;
    int       fd = socket(AF_INET, SOCK_STREAM, 0);

    *a = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr = { htonl(INADDR_LOOPBACK) } };
    EXPECT_EQ(bind(fd, (struct sockaddr *)a, sizeof *a), 0);
    EXPECT_EQ(listen(fd, 8), 0);
    EXPECT_EQ(getsockname(fd, (struct sockaddr *)a, &size), 0);
    return fd;
}

/* An activator as small as can be: descriptors 3, 4, 5 are sockets; the service wants the last two. */
static pid_t
activate(const int fds[3])
{
    pid_t pid = fork();
    char  text[16];

    if (pid != 0)
        return pid;
    for (int i = 0; i < 3; i++) /* out of the way first */
        EXPECT_EQ(dup2(fds[i], 100 + i), 100 + i);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(dup2(100 + i, 3 + i), 3 + i);
    snprintf(text, sizeof text, "%d", (int)getpid());
    setenv("LISTEN_PID", text, 1);
    setenv("LISTEN_FDS", "3", 1);
    setenv("LISTEN_FDNAMES", "other:web:web", 1);
    _exit(bh_main(service, NULL));
}

TEST_PLAIN(listen, a_service_answers_who_called_before_it_was_started)
{
    struct sockaddr_in a[3];
    char               answer[1000];
    int                fds[3], status;
    ssize_t            n;
    pid_t              pid;

    for (int i = 0; i < 3; i++)
        fds[i] = listen_on(&a[i]);
    int early = socket(AF_INET, SOCK_STREAM, 0);
    EXPECT_EQ(connect(early, (struct sockaddr *)&a[1], sizeof a[1]), 0);
    EXPECT(write(early, "GET / HTTP/1.0\r\n\r\n", 18) == 18);
    pid = activate(fds);
    n = read(early, answer, sizeof answer - 1);
    EXPECT(n > 0);
    answer[n] = '\0';
    EXPECT_HAS(answer, "service 127.0.0.1:");
    close(early);
    snprintf(command, sizeof command,
             "curl -sS --max-time 5 http://127.0.0.1:%d/ | grep -q '^service ' && "
             "! curl -sS --max-time 0.3 http://127.0.0.1:%d/ 2>/dev/null",
             ntohs(a[2].sin_port), ntohs(a[0].sin_port));
    run(command);
    EXPECT_EQ(kill(pid, SIGTERM), 0);
    EXPECT_EQ(waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
    for (int i = 0; i < 3; i++)
        close(fds[i]);
}
