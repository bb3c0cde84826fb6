/*
 * idle.c -- memory that a server holds for idle keep-alive connections.
 *
 *     idle PORT COUNT PID ...
 *
 * Opens COUNT connections, one request and its reply on each, and keeps them.  Reads
 * the private memory (RssAnon) of the given processes before, while they are open, and a few
 * seconds after they were closed.  Prints bytes per connection: held, and still
 * held after closing.
 */

#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

static const char request[] = "GET /hello HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

static double
anonymous(char **pids)
{
    double total = 0;

    for (; *pids != NULL; pids++) {
        char  path[64], line[256];
        FILE *f;

        snprintf(path, sizeof path, "/proc/%s/status", *pids);
        f = fopen(path, "r");
        while (f != NULL && fgets(line, sizeof line, f) != NULL)
            if (strncmp(line, "RssAnon:", 8) == 0)
                total += strtod(line + 8, NULL) * 1024;
        if (f != NULL)
            fclose(f);
    }
    return total;
}

static int
connect_to(int port)
{
    struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port) };
    int                fd = socket(AF_INET, SOCK_STREAM, 0);

    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof a) < 0) {
        perror("idle: connect");
        exit(1);
    }
    return fd;
}

/* Servers free lazily. */
static void
settle(int ms)
{
    (void)poll(NULL, 0, ms);
}

static void
ask(int fd)
{
    char buffer[4096];

    if (send(fd, request, sizeof request - 1, 0) < 0 || recv(fd, buffer, sizeof buffer, 0) <= 0) {
        perror("idle: request");
        exit(1);
    }
}

int
main(int argc, char **argv)
{
    struct rlimit files;
    int           port, count, warm;
    int          *fds;
    double        before, open, after;

    if (argc < 4)
        return 2;
    port = (int)strtol(argv[1], NULL, 10);
    count = (int)strtol(argv[2], NULL, 10);
    fds = calloc((size_t)count, sizeof *fds);
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);

    warm = connect_to(port);
    for (int i = 0; i < 100; i++)
        ask(warm);
    before = anonymous(argv + 3);
    for (int i = 0; i < count; i++) {
        fds[i] = connect_to(port);
        ask(fds[i]);
    }
    settle(1000);
    open = anonymous(argv + 3);
    for (int i = 0; i < count; i++)
        close(fds[i]);
    settle(4000);
    ask(warm);
    after = anonymous(argv + 3);
    printf("%.0f\t%.0f\n", (open - before) / count, (after - before) / count);
    return 0;
}
